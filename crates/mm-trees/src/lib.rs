//! Gradient-boosted trees behind the traits of `mm-core`.

#[cfg(feature = "lightgbm")]
pub mod lightgbm;

use mm_core::Catalog;

#[cfg(feature = "lightgbm")]
pub use crate::lightgbm::{LightGbm, LightGbmModel, LightGbmParams};

/// Adds what this crate can make and open to `catalog`.
#[must_use]
pub fn register(catalog: Catalog) -> Catalog {
    #[cfg(feature = "lightgbm")]
    let catalog = catalog.with::<LightGbmModel>().with_kind::<LightGbmParams>("lightgbm");
    catalog
}
