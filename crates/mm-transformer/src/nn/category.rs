//! Vectors of levels.

use burn::tensor::{Int, Tensor};
use mm_core::Result;

use crate::weights::{Init, Role, Scope};

/// A learnt vector a level, and one a column that is added to it.
///
/// A column of *k* levels that were seen in the fit has *k* + 2 slots: slot 0 is a missing cell,
/// slot 1 an unknown level. Both start at 0: where the fit had none, a column that says nothing adds
/// nothing.
#[derive(Debug)]
pub(crate) struct CategoryEmbedding {
    /// (slots of all columns, *d*).
    table: Tensor<2>,
    /// (columns, *d*).
    bias: Tensor<2>,
}

impl CategoryEmbedding {
    /// `slots` has one number of slots a column.
    pub(crate) fn new(scope: &Scope<'_>, slots: &[usize], width: usize) -> Result<Self> {
        let bound = 1.0 / (width as f64).sqrt();
        let total: usize = slots.iter().sum();
        let mut first = 0;
        let silent = slots.iter().map(|slots| {
            let range = first * width..(first + 2) * width;
            first += slots;
            range
        });
        let init = Init::UniformBut(bound, silent.collect());
        Ok(Self {
            table: scope.param("table", [total, width], Role::Free, init)?,
            bias: scope.param("bias", [slots.len(), width], Role::Free, Init::Uniform(bound))?,
        })
    }

    /// Slots of *n* rows, row by row, each counted from the first slot of the first column →
    /// (*n*, columns, *d*).
    pub(crate) fn forward(&self, slots: Tensor<1, Int>) -> Tensor<3> {
        let [columns, width] = self.bias.dims();
        let rows = slots.dims()[0] / columns;
        let vectors = self.table.clone().select(0, slots).reshape([rows, columns, width]);
        vectors + self.bias.clone().unsqueeze()
    }
}
