//! A row as vectors, one a column.

use burn::tensor::Tensor;
use mm_core::Result;

use crate::{
    nn::{
        category::CategoryEmbedding,
        numeric::{Numeric, NumericEmbedding},
    },
    prepare::{Batch, Inputs},
    weights::Scope,
};

/// The vectors of the columns of a row: numeric ones first, then categorical ones.
#[derive(Debug)]
pub struct Tokens {
    numbers: Option<Numeric>,
    levels: Option<CategoryEmbedding>,
}

impl Tokens {
    pub(crate) fn new(
        scope: &Scope<'_>,
        kind: NumericEmbedding,
        inputs: &Inputs,
        width: usize,
    ) -> Result<Self> {
        let numbers = match inputs.numbers {
            0 => None,
            _ => Some(Numeric::new(&scope.part("numeric"), kind, inputs, width)?),
        };
        let levels = match &inputs.slots[..] {
            [] => None,
            slots => Some(CategoryEmbedding::new(&scope.part("category"), slots, width)?),
        };
        Ok(Self { numbers, levels })
    }

    /// (*n* · *t*, columns, *d*).
    pub(crate) fn forward(&self, batch: &Batch) -> Vec<Tensor<3>> {
        if let Some(vectors) = &batch.vectors {
            return vectors.clone();
        }
        let numbers = self.numbers.as_ref();
        let numbers = numbers.map(|n| n.forward(batch.numbers.clone(), batch.missing.clone()));
        let levels = self.levels.as_ref().map(|l| l.forward(batch.slots.clone()));
        numbers.into_iter().chain(levels).collect()
    }
}
