//! Models that keep learning from a stream, and what keeps them honest and alive.
//!
//! A model of this crate is a [`Model`](mm_core::Model) like any other and an
//! [`OnlineModel`](mm_core::OnlineModel) besides: it learns a row at a time.

#![forbid(unsafe_code)]

use mm_core::Catalog;

/// Adds what this crate can fit and open to `catalog`.
#[must_use]
pub fn register(catalog: Catalog) -> Catalog {
    catalog
}
