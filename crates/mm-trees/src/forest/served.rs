//! A forest that predicts under a signature: what the model types of all engines stand on.

use mm_core::{Error, Frame, Matrix, Result, Signature, parallel};

use super::{Feature, Forest};

/// Rows that one thread predicts at a time.
const BLOCK: usize = 256;

/// A forest, prepared once for predicting, with the meaning of its inputs and outputs.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    signature: Signature,
    forest: Forest,
}

impl Served {
    /// `forest` under `signature`, which must have its width, its categorical columns, and its
    /// number of outputs.
    pub(crate) fn new(signature: Signature, forest: Forest) -> Result<Self> {
        let (columns, features) = (signature.schema.columns(), forest.features());
        if columns.len() != features.len() {
            return Err(Error::Columns { expected: features.len(), got: columns.len() });
        }
        for (index, (column, feature)) in columns.iter().zip(features).enumerate() {
            if column.levels().is_some() != feature.is_categorical {
                let (expected, got) = (kind_of(feature), column.to_string());
                return Err(Error::Column { index, expected, got });
            }
        }
        if signature.n_outputs() != forest.n_outputs() {
            let (expected, got) = (signature.n_outputs(), forest.n_outputs());
            return Err(Error::data("outputs of the model", expected, got));
        }
        Ok(Self { signature, forest })
    }

    pub(crate) fn signature(&self) -> &Signature {
        &self.signature
    }

    pub(crate) fn forest(&self) -> &Forest {
        &self.forest
    }

    /// What [`Model::infer`](mm_core::Model::infer) owes: rows in parallel on the ambient pool.
    pub(crate) fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        let width = out.n_cols();
        parallel::fill_rows(out, BLOCK, |rows, out| {
            rows.zip(out.chunks_exact_mut(width))
                .try_for_each(|(i, out)| self.infer_row(x.row(i), out))
        })
    }

    /// What [`Model::infer_row`](mm_core::Model::infer_row) owes.
    pub(crate) fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        self.forest.raw_by_definition(row, out);
        self.forest.link_row(out);
        Ok(())
    }
}

fn kind_of(feature: &Feature) -> String {
    let kind = if feature.is_categorical { "categorical" } else { "numeric" };
    format!("{kind}, as `{}` in the model file", feature.name)
}
