//! LightGBM through its C API.
//!
//! # Idea
//!
//! Gradient boosting on histograms: values are put into bins once, and a tree grows leaf by leaf,
//! always where a split gains most. After *m* rounds the raw score of a row is
//!
//! ```text
//! F_m(x) = F_0 + η Σ_{t ≤ m} f_t(x)
//! ```
//!
//! with learning rate η and trees `f_t` fitted to the gradients of the objective; the link turns it
//! into a probability or a mean. Training costs O(*np*) a level of the tree; the binned table takes
//! one byte a cell for up to 256 bins.
//!
//! | file | holds |
//! | --- | --- |
//! | `model.rs` | the fitted model, its files, importances |
//! | `read.rs` | LightGBM's model text, checked and read into a forest |
//! | `write.rs` | the way back |
//! | `learner.rs` | how a fit runs |
//! | `params.rs` | hyper-parameters and their domains |
//! | `config.rs` | their translation into the engine's own |
//! | `ffi.rs` | owned handles: the only `unsafe` |
//!
//! The first three are pure Rust and always there: a model is opened, predicts, and is written
//! without LightGBM. The others come with the feature `lightgbm`; the C declarations are those of
//! `lightgbm3-sys` 1.0.11, which bundles LightGBM 4.7.0.
//!
//! # Data
//!
//! Frames are handed over as they are, `f32` and row-major, and never copied as doubles. A view of
//! scattered rows is handed over run by run where its runs are long, and copied where they are short.
//! NaN is missing. Categorical columns are split natively, by sets of levels. An unknown level
//! ([`Frame::UNKNOWN`](mm_core::Frame::UNKNOWN), −1) is what LightGBM makes of any negative code: missing. For
//! a categorical column that is exact as well, since LightGBM sends missing cells and levels that a
//! split does not list the same way.
//!
//! Weights of 0 take part in binning and count as rows for `min_data_in_leaf`, as in LightGBM.
//!
//! # Determinism
//!
//! With `deterministic` (the default) a model depends on data, params, and seed alone: histograms
//! are built by column, and the few algorithms of LightGBM whose result depends on the number of
//! threads (linear trees, one-side sampling, histograms by row, quantised gradients) get one thread.
//! Predictions equal LightGBM's own to the bit. Rows of a batch are predicted side by side on the
//! rayon pool in which they are predicted; what comes out does not depend on it.
//!
//! # Limits
//!
//! Features and targets are `f32` to the engine. DART keeps no earlier round, so that it cannot stop
//! early; a forest cannot be continued from. Whoever fits side by side pays for the binned table of
//! each fit.
//!
//! # Messages
//!
//! LightGBM's messages become `tracing` events of target `mm_trees::lightgbm`: warnings as warnings, notes at
//! debug level. When LightGBM itself finds an error, it also writes one line to standard error, which
//! cannot be switched off; everything that params and data can get wrong is checked before.
//!
//! # Example
//!
//! ```
//! # #[cfg(feature = "lightgbm")]
//! # {
//! use mm_core::{Dataset, FitContext, Frame, Learner as _, Model as _, Params as _};
//! use mm_trees::LightGbmParams;
//!
//! let x: Vec<f32> = (0..200).map(|i| i as f32).collect();
//! let y = x.iter().map(|&x| if x < 100.0 { 1.0 } else { 5.0 }).collect();
//! let data = Dataset::regression(Frame::new(x, 1)?, y)?;
//!
//! let lightgbm = LightGbmParams::default().with(|p| p.rounds = 200).build()?;
//! let model = lightgbm.fit(&data, &FitContext::seeded(0))?;
//!
//! let predicted = model.predict(&Frame::new(vec![10.0, 190.0], 1)?)?;
//! assert!((predicted.values()[0] - 1.0).abs() < 1e-3);
//! assert!((predicted.values()[1] - 5.0).abs() < 1e-3);
//! # }
//! # Ok::<(), mm_core::Error>(())
//! ```
//!
//! # Sources
//!
//! Friedman (2001), "Greedy function approximation: a gradient boosting machine", *Annals of
//! Statistics* 29(5). Ke et al. (2017), "LightGBM: a highly efficient gradient boosting decision
//! tree", NeurIPS.

#[cfg(feature = "lightgbm")]
mod config;
#[cfg(feature = "lightgbm")]
mod ffi;
#[cfg(feature = "lightgbm")]
mod learner;
mod model;
#[cfg(feature = "lightgbm")]
mod params;
mod read;
#[cfg(all(test, feature = "lightgbm"))]
mod tests;
mod write;

pub use self::model::LightGbmModel;
#[cfg(feature = "lightgbm")]
pub use self::{
    learner::{LightGbm, LightGbmError},
    params::{
        Bagging, Bins, Boosting, Categorical, Constraints, Dart, Device, EngineMetric, Goss,
        Histogram, LightGbmParams, MonotoneMethod, Objective, Penalty, RowSampling, Sampling,
        TreeParams,
    },
};
#[cfg(feature = "lightgbm")]
pub use crate::constraint::Monotone;
