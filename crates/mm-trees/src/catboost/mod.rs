//! CatBoost's models, without CatBoost.

mod cbm;
mod file;
mod flat;
pub(crate) mod hash;
mod importance;
mod json;
mod loss;
mod model;
#[cfg(test)]
mod tests;

pub use self::model::CatBoostModel;
