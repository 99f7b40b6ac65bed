//! Train, compose, register and serve models of many kinds through one pair of traits.
//!
//! Parameters are built into a learner, a learner is fitted to data, and what comes out is a model
//! that predicts and can be stored. Everything else (cross-fitting, plans, leaderboards, ensembles,
//! the registry) composes over that pair and knows no model.
//!
//! ```
//! use mm::{core::{Roles, Source}, prelude::*};
//!
//! let csv = "size,city,price\n70,Rome,350\n55,Oslo,410\n90,Rome,420\n40,Oslo,330\n";
//! let (data, report) = Source::csv_bytes("homes.csv", csv).dataset(&Roles::with_target("price"))?;
//! assert_eq!(report.columns.len(), 3); // Printed, it says what each column was taken for, and why.
//!
//! # #[cfg(feature = "lightgbm")]
//! # {
//! let learner = mm::trees::LightGbmParams::default()
//!     .with(|p| {
//!         p.rounds = 20;
//!         p.tree.min_data_in_leaf = 1;
//!         p.bins.min_data = 1;
//!     })
//!     .build()?;
//! let model = learner.fit(&data, &FitContext::seeded(42).with_threads(2))?;
//! let prices = model.predict(data.frame())?;
//! assert_eq!((prices.n_rows(), prices.n_cols()), (4, 1));
//!
//! let bytes = model.to_envelope()?.into_bytes(); // To a file, or into a registry.
//! let opened = mm::catalog().open(&bytes)?;
//! assert_eq!(opened.predict(data.frame())?, prices);
//! # }
//! # Ok::<(), mm::prelude::Error>(())
//! ```
//!
//! # Where to look
//!
//! | for | see |
//! | --- | --- |
//! | data, metrics, splitters | [`core::Source`], [`core::Metric`], [`core::SplitPlan`] |
//! | many models from one plan | [`core::Plan`], [`core::Orchestrator`] |
//! | better parameters | [`tune`], [`core::TunePlan`], [`core::Search`] |
//! | versions, aliases, roll back | [`core::registry`] |
//! | LightGBM, XGBoost, CatBoost | [`trees`] |
//! | why a model said so | [`core::Explains`], [`core::Permutation`], [`trees::forest::Explainer`] |
//! | one model of several | [`ensemble`] |
//! | models that learn from a stream | [`online`] |
//! | nets for tables and for time | `transformer`, with the feature of that name |
//! | a model of one's own | [`core::Learner`], [`core::Model`], `core::conformance` |
//!
//! # Features
//!
//! | feature | default | adds |
//! | --- | --- | --- |
//! | `lightgbm`, `xgboost` | on | training with that engine, compiled from C++ source |
//! | `sqlite` | on | studies in SQLite files, which Optuna can share |
//! | `postgres` | off | studies in a PostgreSQL database, which Optuna can share |
//! | `transformer` | off | FT-Transformer, TabM, and a sequence Transformer, on Burn; takes long to compile |
//! | `arrow` | off | frames from Arrow record batches and C streams |
//! | `parquet` | off | frames from Parquet files; turns `arrow` on |

#![forbid(unsafe_code)]

pub use mm_core as core;
pub use mm_ensemble as ensemble;
pub use mm_online as online;
#[cfg(feature = "transformer")]
pub use mm_transformer as transformer;
pub use mm_trees as trees;
pub use mm_tune as tune;

/// The traits and types that nearly every program needs.
pub mod prelude {
    pub use mm_core::{
        Dataset, Error, FitContext, Frame, Learner as _, Model as _, Params as _, Result,
    };
}

/// Everything that this build can make and open.
pub fn catalog() -> mm_core::Catalog {
    let catalog = mm_trees::register(mm_core::Catalog::default());
    #[cfg(feature = "transformer")]
    let catalog = mm_transformer::register(catalog);
    mm_online::register(mm_ensemble::register(catalog))
}

/// An orchestrator over `catalog` that tunes the candidates which a plan wants tuned.
pub fn orchestrator(catalog: &mm_core::Catalog) -> mm_core::Orchestrator<'_> {
    mm_core::Orchestrator::new(catalog).with_tuner(&mm_tune::PlanTuner)
}

/// Compiles the README's program.
#[cfg(all(doctest, feature = "lightgbm"))]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
