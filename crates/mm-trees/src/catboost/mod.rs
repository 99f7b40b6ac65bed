//! CatBoost's models, without CatBoost.

pub(crate) mod hash;
