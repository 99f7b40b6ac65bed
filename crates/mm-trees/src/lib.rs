//! Gradient-boosted trees behind the traits of `mm-core`, one module an engine.
//!
//! | feature | kind | engine |
//! | --- | --- | --- |
//! | `lightgbm` | `lightgbm` | LightGBM 4.7.0: [`LightGbmParams`] → [`LightGbm`] → [`LightGbmModel`] |
//! | `xgboost` | `xgboost` | XGBoost 3.4.0: [`XgBoostParams`] → [`XgBoost`] → [`XgBoostModel`] |
//!
//! CatBoost's models, in its own two formats, are opened, served, and written without it: [`catboost`].
//!
//! Both engines are compiled from C++ source when their feature is on. Each keeps its own file
//! format as the body of the stored model, so that a model can be taken out and opened by the
//! engine itself.

pub mod catboost;
#[cfg(any(feature = "lightgbm", feature = "xgboost"))]
mod constraint;
#[cfg(any(feature = "lightgbm", feature = "xgboost"))]
mod domain;
pub mod forest;
#[cfg(any(feature = "lightgbm", feature = "xgboost"))]
mod run;

pub mod lightgbm;
pub mod xgboost;

use mm_core::Catalog;

pub use crate::catboost::CatBoostModel;
pub use crate::forest::Forest;
pub use crate::lightgbm::LightGbmModel;
#[cfg(feature = "lightgbm")]
pub use crate::lightgbm::{LightGbm, LightGbmParams};
pub use crate::xgboost::XgBoostModel;
#[cfg(feature = "xgboost")]
pub use crate::xgboost::{XgBoost, XgBoostParams};

/// Adds what this crate can make and open to `catalog`.
#[must_use]
pub fn register(catalog: Catalog) -> Catalog {
    let catalog = catalog.with::<CatBoostModel>();
    let catalog = catalog.with::<LightGbmModel>().with::<XgBoostModel>();
    #[cfg(feature = "lightgbm")]
    let catalog = catalog.with_kind::<LightGbmParams>("lightgbm");
    #[cfg(feature = "xgboost")]
    let catalog = catalog.with_kind::<XgBoostParams>("xgboost");
    catalog
}
