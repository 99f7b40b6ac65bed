//! Gradient-boosted trees behind the traits of `mm-core`.

use mm_core::Catalog;

/// Adds what this crate can make and open to `catalog`.
#[must_use]
pub fn register(catalog: Catalog) -> Catalog {
    catalog
}
