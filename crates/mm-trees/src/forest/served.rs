//! A forest that predicts under a signature: what the model types of all engines stand on.

use mm_core::{Error, Frame, Matrix, Result, Signature, parallel};

use super::{Explainer, Forest, Inputs, Lazy, Test, Tree};

/// Rows that one thread predicts at a time.
const BLOCK: usize = 256;

/// A forest, prepared once for predicting, with the meaning of its inputs and outputs.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    signature: Signature,
    forest: Forest,
    explainer: Lazy,
}

impl Served {
    /// `forest` under `signature`, which must have its width and its number of outputs, and
    /// categorical columns where splits ask for levels, and nowhere that they ask for numbers.
    pub(crate) fn new(signature: Signature, forest: Forest) -> Result<Self> {
        let columns = signature.schema.columns();
        if columns.len() != forest.features().len() {
            return Err(Error::Columns { expected: forest.features().len(), got: columns.len() });
        }
        if signature.n_outputs() != forest.n_outputs() {
            let (expected, got) = (signature.n_outputs(), forest.n_outputs());
            return Err(Error::data("outputs of the model", expected, got));
        }
        for split in forest.trees().iter().flat_map(Tree::splits) {
            let asks_levels = match split.test {
                Test::AtMost { .. } | Test::Below { .. } => false,
                Test::Among { .. } | Test::Hash(_) => true,
                Test::Ctr { .. } => continue,
            };
            let (index, column) = (split.feature, &columns[split.feature]);
            if column.levels().is_some() != asks_levels {
                let expected = if asks_levels { "categorical" } else { "numeric" };
                let expected = format!("{expected}, as its splits are");
                return Err(Error::Column { index, expected, got: column.to_string() });
            }
        }
        Ok(Self { signature, forest, explainer: Lazy::default() })
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
            let mut pairs = rows.zip(out.chunks_exact_mut(width));
            pairs.try_for_each(|(i, out)| self.infer_row(x.row(i), out))
        })
    }

    /// What [`Model::infer_row`](mm_core::Model::infer_row) owes.
    pub(crate) fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        self.raw_row(row, out)?;
        self.forest.link_row(out);
        Ok(())
    }

    /// The forest, ready to explain by its training rows; made once. `unknown` are the codes of
    /// unknown levels, where the forest knows them.
    pub(crate) fn explainer(&self, unknown: &[(usize, f32)]) -> Result<&Explainer> {
        self.explainer.get(|| Explainer::new(&self.forest, self.inputs(unknown), None))
    }

    /// The forest, ready to explain against a background.
    pub(crate) fn explainer_against(
        &self,
        background: &Frame,
        unknown: &[(usize, f32)],
    ) -> Result<Explainer> {
        Explainer::new(&self.forest, self.inputs(unknown), Some(background))
    }

    fn inputs(&self, unknown: &[(usize, f32)]) -> Inputs {
        Inputs::of(&self.signature.schema).with_unknown(unknown)
    }

    /// The raw scores of one row, before the link.
    pub(crate) fn raw_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        let width = self.forest.features().len();
        if row.len() != width {
            return Err(Error::Columns { expected: width, got: row.len() });
        }
        self.forest.raw_by_definition(row, out);
        Ok(())
    }
}
