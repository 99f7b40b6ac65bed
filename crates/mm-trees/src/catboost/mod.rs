//! CatBoost without CatBoost: its two file formats, prediction as its own, and training tree by tree
//! as it trains.
//!
//! | file | holds |
//! | --- | --- |
//! | `model.rs` | [`CatBoostModel`]: what predicts |
//! | `file.rs` | what the formats have in common: a model file as a forest, and back |
//! | `cbm.rs`, `flat.rs` | the binary format, and the FlatBuffers that it is made of |
//! | `json.rs` | the JSON format |
//! | `loss.rs` | what the scores of a model mean |
//! | `hash.rs` | the hashes of levels and of their combinations |
//! | `importance.rs` | how far predictions change with a feature |
//! | `training/` | the trainer: [`CatBoostParams`] → [`CatBoost`] |

mod cbm;
mod file;
mod flat;
pub(crate) mod hash;
mod importance;
mod json;
#[cfg(test)]
mod laws;
mod loss;
mod model;
#[cfg(test)]
mod tests;
mod training;

use mm_core::Result;

use self::file::ModelFile;
pub use self::{
    model::CatBoostModel,
    training::{
        Bins, Boosting, BorderRule, CatBoost, CatBoostParams, Categorical, Constraints, Growth,
        LeafMethod, Leaves, MissingRule, Objective, Penalty, RowSampling, Sampling, ScoreFunction,
        ShrinkageMode, Statistic, StatisticKind, TreeParams,
    },
};
pub use crate::constraint::Monotone;

/// A format of CatBoost's model files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The binary one, `.cbm`.
    Cbm,
    /// JSON.
    Json,
}

/// Writes a model file of either format in the given one.
///
/// Names of levels are not needed, as they are for a [`CatBoostModel`]; those that the file has are
/// kept as far as the format has room for them.
pub fn convert(bytes: &[u8], to: Format) -> Result<Vec<u8>> {
    let ModelFile { forest, about } = file::read(bytes)?;
    match to {
        Format::Cbm => cbm::write(&forest, &about),
        Format::Json => Ok(json::write(&forest, &about)?.into_bytes()),
    }
}
