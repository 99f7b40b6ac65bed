//! Gradient-boosted trees behind the traits of `mm-core`.

#[cfg(feature = "xgboost")]
pub mod xgboost;

use mm_core::Catalog;

/// Adds what this crate can make and open to `catalog`.
#[must_use]
pub fn register(catalog: Catalog) -> Catalog {
    #[cfg(feature = "xgboost")]
    let catalog =
        catalog.with_kind::<xgboost::XgBoostParams>("xgboost").with::<xgboost::XgBoostModel>();
    catalog
}
