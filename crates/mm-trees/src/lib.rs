//! Gradient-boosted trees behind the traits of `mm-core`, one module an engine.
//!
//! | engine | model | trained with the feature |
//! | --- | --- | --- |
//! | LightGBM | [`LightGbmModel`]: opens and writes the text of 3.x and 4.x | `lightgbm`: `LightGbmParams` → `LightGbm` (4.7.0) |
//! | XGBoost | [`XgBoostModel`]: opens and writes JSON and UBJSON of 1.x to 3.x | `xgboost`: `XgBoostParams` → `XgBoost` (3.4.0) |
//! | CatBoost | [`CatBoostModel`]: opens and writes `.cbm` and JSON of 1.x | always, in Rust: [`CatBoostParams`] → [`CatBoost`] |
//!
//! Models are pure Rust: whoever trained them, they are opened, predict, and are written without their
//! engine, and predict to the bit what it predicts. They stand on a [`Forest`], the engine-neutral
//! form of what trained trees are. [`open`](fn@open) takes a file of any of them.
//!
//! Training compiles the engine from C++ source, when its feature is on. The engine's own file format
//! is the body of the stored model, so that a model can be taken out and opened by the engine itself.
//!
//! ```no_run
//! use mm_core::Model as _;
//!
//! let bytes = std::fs::read("model.txt").expect("a file that Python has written");
//! let model = mm_trees::open(&bytes)?;
//! let mut probability = [0.0];
//! model.predict_row(&[0.3, 2.0], &mut probability)?;
//! # Ok::<(), mm_core::Error>(())
//! ```

pub mod catboost;
mod constraint;
mod domain;
#[cfg(test)]
mod foreign;
pub mod forest;
mod open;
mod run;
mod space;

pub mod lightgbm;
pub mod xgboost;

use mm_core::Catalog;

#[cfg(feature = "lightgbm")]
pub use crate::lightgbm::{LightGbm, LightGbmParams};
#[cfg(feature = "xgboost")]
pub use crate::xgboost::{XgBoost, XgBoostParams};
pub use crate::{
    catboost::{CatBoost, CatBoostModel, CatBoostParams},
    forest::Forest,
    lightgbm::LightGbmModel,
    open::open,
    xgboost::XgBoostModel,
};

/// Adds what this crate can make and open to `catalog`.
#[must_use]
pub fn register(catalog: Catalog) -> Catalog {
    let catalog = catalog.with::<LightGbmModel>().with::<XgBoostModel>().with::<CatBoostModel>();
    let catalog =
        catalog.with_kind::<CatBoostParams>("catboost").with_space::<CatBoostParams>("catboost");
    #[cfg(feature = "lightgbm")]
    let catalog =
        catalog.with_kind::<LightGbmParams>("lightgbm").with_space::<LightGbmParams>("lightgbm");
    #[cfg(feature = "xgboost")]
    let catalog =
        catalog.with_kind::<XgBoostParams>("xgboost").with_space::<XgBoostParams>("xgboost");
    catalog
}
