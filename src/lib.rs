//! Train, compose, register and serve models of many kinds through one pair of traits.

#![forbid(unsafe_code)]

pub use mm_core as core;
pub use mm_ensemble as ensemble;
pub use mm_trees as trees;

/// The traits and types that nearly every program needs.
pub mod prelude {
    pub use mm_core::{
        Dataset, Error, FitContext, Frame, Learner as _, Model as _, Params as _, Result,
    };
}

/// Everything that this build can make and open.
pub fn catalog() -> mm_core::Catalog {
    mm_ensemble::register(mm_trees::register(mm_core::Catalog::default()))
}
