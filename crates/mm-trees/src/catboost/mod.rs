//! CatBoost's models, without CatBoost.

mod boost;
mod bootstrap;
pub(crate) mod hash;
mod learner;
mod leaves;
mod loss;
mod params;
mod quantize;
mod rng;
mod score;
mod table;
#[cfg(test)]
mod tests;
