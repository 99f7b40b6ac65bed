//! XGBoost: its models in Rust, and its training through its C API.
//!
//! | file | holds |
//! | --- | --- |
//! | `model.rs` | the fitted model: prediction, importance, the engine's own formats |
//! | `value.rs` | JSON and UBJSON |
//! | `read.rs` | a stored booster, checked and read into a forest |
//! | `write.rs` | the way back |
//! | `learner.rs` | how a fit runs |
//! | `params.rs` | hyper-parameters and their domains |
//! | `config.rs` | their translation into the engine's own |
//! | `ffi.rs` | owned handles: the only `unsafe` |
//!
//! The first four are pure Rust and always there: a model is opened, predicts, and is written
//! without XGBoost. The others come with the feature `xgboost`; the C declarations are those of the
//! crate `xgboost_lib-sys`, which compiles the engine.
//!
//! # Idea
//!
//! Each round adds trees that lower a second-order expansion of the regularised loss: with
//! gradient *g* and Hessian *h* of each row, a leaf with rows *I* gets the value
//! −η ∑*g* / (∑*h* + λ), and a split is worth what it saves. Minimised is
//!
//! ```text
//! Σ_i loss(y_i, F(x_i)) + Σ_trees (γ leaves + ½ λ Σ value² + α Σ |value|)
//! ```
//!
//! with γ, λ, and α called `min_gain`, `l2`, and `l1` in the params' `penalty`. A level of a tree costs O(*np*).
//!
//! # Data
//!
//! With `hist`, the default, the engine reads a frame where it lies and keeps one or two bytes a
//! cell: O(*np*) time and memory. A view of scattered rows, and a frame with unknown levels, is
//! copied once for the time of the reading. Categorical columns are split natively. NaN is missing.
//! [`Frame::UNKNOWN`](mm_core::Frame::UNKNOWN), which the engine would refuse as a negative category, is given to it as the
//! code after the last level: a level of its own where training rows have it, and else one that no
//! split has chosen, which goes where the levels go that are not in a split's set.
//!
//! # Limits
//!
//! Predictions are `f32` to the engine. DART keeps no earlier round, so that it cannot stop early;
//! nor can `gblinear`, which reads no categorical columns either.
//!
//! # Determinism
//!
//! A fit gives the same model bit for bit whatever the number of threads, and the same as
//! XGBoost's Python package gives for the same settings, seed, and order of rows. Predictions are
//! the engine's `f32` to the bit, widened. Rows of a batch are predicted side by side on the rayon
//! pool in which they are predicted; what comes out does not depend on it.
//!
//! # Example
//!
//! ```
//! # #[cfg(feature = "xgboost")]
//! # {
//! use mm_core::{Dataset, FitContext, Frame, Learner as _, Model as _, Params as _};
//! use mm_trees::xgboost::XgBoostParams;
//!
//! // A step at 2.
//! let x = Frame::new(vec![0.0, 1.0, 3.0, 4.0], 1)?;
//! let data = Dataset::regression(x.clone(), vec![1.0, 1.0, 5.0, 5.0])?;
//!
//! let params = XgBoostParams::default().with(|p| p.penalty.l2 = 0.0);
//! let model = params.build()?.fit(&data, &FitContext::seeded(0))?;
//!
//! // A split must gain 1e-6, which the last 5e-4 of four targets do not.
//! assert!((model.predict(&x)?.values()[3] - 5.0).abs() < 1e-3);
//! assert_eq!(model.n_trees(), 100);
//! # }
//! # Ok::<(), mm_core::Error>(())
//! ```
//!
//! # Sources
//!
//! Chen & Guestrin (2016), "XGBoost: a scalable tree boosting system", *KDD*.

#[cfg(feature = "xgboost")]
mod config;
#[cfg(feature = "xgboost")]
mod ffi;
#[cfg(feature = "xgboost")]
mod learner;
mod model;
#[cfg(feature = "xgboost")]
mod params;
mod read;
#[cfg(all(test, feature = "xgboost"))]
mod tests;
mod value;
mod write;

pub use self::model::XgBoostModel;
#[cfg(feature = "xgboost")]
pub use self::{
    ffi::XgBoostError,
    learner::XgBoost,
    params::{
        Bins, Boosting, Categorical, Constraints, Dart, DartNormalize, DartSample, FeatureSelector,
        Growth, Linear, LinearUpdater, MultiStrategy, Objective, Penalty, Sampling, SamplingMethod,
        TreeMethod, TreeParams, XgBoostParams,
    },
};
#[cfg(feature = "xgboost")]
pub use crate::constraint::Monotone;
