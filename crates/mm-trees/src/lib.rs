//! Gradient-boosted trees behind the traits of `mm-core`, one module an engine.
//!
//! | feature | kind | engine |
//! | --- | --- | --- |
//! | `lightgbm` | `lightgbm` | LightGBM 4.7.0: [`LightGbmParams`] → [`LightGbm`] → [`LightGbmModel`] |
//! | `xgboost` | `xgboost` | XGBoost 3.4.0: [`XgBoostParams`] → [`XgBoost`] → [`XgBoostModel`] |
//!
//! Both engines are compiled from C++ source when their feature is on. Each keeps its own file
//! format as the body of the stored model, so that a model can be taken out and opened by the
//! engine itself.

pub mod catboost;
#[cfg(any(feature = "lightgbm", feature = "xgboost"))]
mod constraint;
mod domain;
#[expect(dead_code, reason = "the model types come to stand on it")]
pub mod forest;
mod run;

#[cfg(feature = "lightgbm")]
pub mod lightgbm;
#[cfg(feature = "xgboost")]
pub mod xgboost;

use mm_core::Catalog;

#[cfg(feature = "lightgbm")]
pub use crate::lightgbm::{LightGbm, LightGbmModel, LightGbmParams};
#[cfg(feature = "xgboost")]
pub use crate::xgboost::{XgBoost, XgBoostModel, XgBoostParams};
pub use crate::{
    catboost::{CatBoost, CatBoostModel, CatBoostParams},
    forest::Forest,
};

/// Adds what this crate can make and open to `catalog`.
#[must_use]
pub fn register(catalog: Catalog) -> Catalog {
    let catalog = catalog.with::<CatBoostModel>().with_kind::<CatBoostParams>("catboost");
    #[cfg(feature = "lightgbm")]
    let catalog = catalog.with::<LightGbmModel>().with_kind::<LightGbmParams>("lightgbm");
    #[cfg(feature = "xgboost")]
    let catalog = catalog.with::<XgBoostModel>().with_kind::<XgBoostParams>("xgboost");
    catalog
}
