//! One model of several, over any learner of the workspace.
//!
//! An ensemble is a [`Learner`](mm_core::Learner) like its members, so ensembles nest and are
//! cross-fitted, stored, and served by code that has never heard of them. The orchestrator, which
//! already has its candidates fitted, builds the same models through a
//! [`Combiner`](mm_core::Combiner).
//!
//! # What is deliberately absent
//!
//! Any particular model: this crate depends on `mm-core` alone.

#![forbid(unsafe_code)]

mod average;

use mm_core::Catalog;

pub use crate::average::{Average, AverageModel, AverageParams};

/// Adds what this crate can combine and open to `catalog`: the combiner `average`.
#[must_use]
pub fn register(catalog: Catalog) -> Catalog {
    catalog.with::<AverageModel>().with_combiner("average", |params| {
        let params: AverageParams = mm_core::from_config(params)?;
        Ok(Box::new(params.check()?))
    })
}
