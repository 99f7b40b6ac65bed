//! A forest that predicts under a signature: what the model types of all engines stand on.

use std::sync::Arc;

use mm_core::{Error, Frame, Matrix, Result, Signature, parallel};

use super::{Encoder, Explainer, Forest, Inputs, Kernel, Lazy, Scratch, Test};

/// Rows whose scores are linked at a time.
const BLOCK: usize = 4096;

/// Rows whose CTRs are computed at a time: what the kernel then takes at once.
const ENCODED: usize = 256;

/// Single rows of up to so many values are encoded without allocating.
const STACK: usize = 512;

/// A forest, prepared once for predicting, with the meaning of its inputs and outputs.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    signature: Signature,
    forest: Forest,
    /// What appends the values of CTRs to a row, if the forest asks for any.
    encoder: Option<Encoder>,
    kernel: Kernel,
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
        for split in forest.splits() {
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
        let (encoder, kernel) = if forest.asks_levels() {
            let (bound, encoder) = forest.bind(&signature.schema);
            (Some(encoder).filter(|encoder| !encoder.is_identity()), bound.compile()?)
        } else {
            (None, forest.compile()?)
        };
        Ok(Self { signature, forest, encoder, kernel, explainer: Lazy::default() })
    }

    pub(crate) fn signature(&self) -> &Signature {
        &self.signature
    }

    pub(crate) fn forest(&self) -> &Forest {
        &self.forest
    }

    /// The raw scores of the rows of `x`, in parallel on the ambient pool.
    pub(crate) fn raw(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        let Some(encoder) = &self.encoder else { return self.kernel.raw_frame(x, out) };
        let (block, width) = (self.kernel.rows_at_once(), encoder.n_cols());
        parallel::fill_rows(out, block, |rows, out| {
            let mut encoded = vec![0.0; ENCODED.min(rows.len()) * width];
            let mut scratch = Scratch::default();
            let mut rows = rows.map(|i| x.row(i));
            for out in out.chunks_mut(ENCODED * self.forest.n_outputs) {
                let encoded = &mut encoded[..out.len() / self.forest.n_outputs * width];
                encoder.encode_rows(&mut rows, encoded, &mut scratch);
                self.kernel.raw_rows(encoded, out);
            }
            Ok(())
        })
    }

    /// What [`Model::infer`](mm_core::Model::infer) owes: rows in parallel on the ambient pool.
    pub(crate) fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        self.raw(x, out)?;
        let width = out.n_cols();
        parallel::fill_rows(out, BLOCK, |_, out| {
            out.chunks_exact_mut(width).for_each(|row| self.forest.link_row(row));
            Ok(())
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
        self.explainer.get(|| self.explain_by(None, unknown))
    }

    /// The forest, ready to explain against a background.
    pub(crate) fn explainer_against(
        &self,
        background: &Frame,
        unknown: &[(usize, f32)],
    ) -> Result<Explainer> {
        self.explain_by(Some(background), unknown)
    }

    fn explain_by(
        &self,
        background: Option<&Frame>,
        unknown: &[(usize, f32)],
    ) -> Result<Explainer> {
        let inputs = Inputs::of(&self.signature.schema).with_unknown(unknown);
        if !self.forest.asks_levels() {
            return Explainer::new(&self.forest, inputs, background);
        }
        let (bound, encoder) = self.forest.bind(&self.signature.schema);
        let inputs = inputs.encoded(&Arc::new(encoder), &self.forest.ctrs);
        Explainer::new(&bound, inputs, background)
    }

    /// The raw scores of one row, before the link.
    pub(crate) fn raw_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        let width = self.forest.features().len();
        if row.len() != width {
            return Err(Error::Columns { expected: width, got: row.len() });
        }
        match &self.encoder {
            None => self.kernel.raw_row(row, out),
            Some(encoder) if encoder.n_cols() <= STACK => {
                let mut encoded = [0.0; STACK];
                let encoded = &mut encoded[..encoder.n_cols()];
                encoder.encode(row, encoded);
                self.kernel.raw_row(encoded, out);
            }
            Some(encoder) => {
                let mut encoded = vec![0.0; encoder.n_cols()];
                encoder.encode(row, &mut encoded);
                self.kernel.raw_row(&encoded, out);
            }
        }
        Ok(())
    }
}
