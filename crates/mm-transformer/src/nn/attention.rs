//! Multi-head attention (Vaswani et al. 2017, "Attention is all you need").
//!
//! With queries *Q*, keys *K*, values *V* of width *h* a head:
//!
//! ```text
//! softmax(Q Kᵀ / √h + mask + bias) V
//! ```
//!
//! A masked pair gets −10³⁰, whose share after the softmax is exactly 0, so what stands at a masked
//! place cannot change an output in any bit. O(*t*²*d* + *td*²) time a row.

use std::{ops::Range, sync::Arc};

use burn::tensor::{Device, Int, Tensor, TensorData, activation::softmax};
use mm_core::Result;

use crate::{
    nn::{
        linear::Linear,
        pass::Pass,
        position::{Position, Rotary},
    },
    weights::{Init, Role, Scope},
};

/// What a masked score is lowered by.
const MASKED: f32 = -1e30;

/// Which steps of a row see which.
#[derive(Debug, Clone)]
pub(crate) struct Mask {
    lengths: Arc<[usize]>,
    steps: usize,
    causal: bool,
}

impl Mask {
    /// Row *i* sees its last `lengths[i]` steps, which come last; with `causal`, a step sees itself
    /// and earlier ones.
    pub(crate) fn new(lengths: &[usize], steps: usize, causal: bool) -> Self {
        Self { lengths: lengths.into(), steps, causal }
    }

    /// The steps that step `query` of row `row` sees.
    pub(crate) fn visible(&self, row: usize, query: usize) -> Range<usize> {
        let end = if self.causal { query + 1 } else { self.steps };
        self.steps.saturating_sub(self.lengths[row]).min(end)..end
    }

    /// Scores to be added before the softmax, (*n*, 1, *t*, *t*): 0, or [`MASKED`].
    fn scores(&self, device: &Device) -> Tensor<4> {
        let (n, t) = (self.lengths.len(), self.steps);
        let mut values = vec![MASKED; n * t * t];
        for (at, scores) in values.chunks_exact_mut(t).enumerate() {
            scores[self.visible(at / t, at % t)].fill(0.0);
        }
        Tensor::from_data(TensorData::new(values, [n, 1, t, t]), device)
    }
}

/// What an [`Attention`] is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionConfig {
    /// Width of the vectors, *d*: a multiple of `heads`, and of 2 · `heads` if rotary.
    pub(crate) width: usize,
    pub(crate) heads: usize,
    /// Dropout of the shares after the softmax.
    pub(crate) dropout: f64,
    /// How heads see distances; what is added to the vectors is not attention's business.
    pub(crate) position: Position,
    /// Number of steps, where `position` needs it.
    pub(crate) steps: usize,
}

/// Multi-head attention of a row's vectors to one another.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) out: Linear,
    pub(crate) rotary: Option<Rotary>,
    pub(crate) relative: Option<RelativeBias>,
    pub(crate) heads: usize,
    pub(crate) dropout: f64,
}

impl Attention {
    pub(crate) fn new(scope: &Scope<'_>, config: AttentionConfig) -> Result<Self> {
        let AttentionConfig { width, heads, dropout, position, steps } = config;
        let linear = |name: &str| Linear::new(&scope.part(name), width, width);
        let rotary = position == Position::Rotary;
        let relative = position == Position::Relative;
        Ok(Self {
            query: linear("query")?,
            key: linear("key")?,
            value: linear("value")?,
            out: linear("out")?,
            rotary: rotary.then(|| Rotary::new(steps, width / heads, &scope.device())),
            relative: if relative { Some(RelativeBias::new(scope, heads, steps)?) } else { None },
            heads,
            dropout,
        })
    }

    /// (*n*, *t*, *d*) → (*n*, *t*, *d*): every vector asks all that the mask admits.
    #[cfg(test)]
    pub(crate) fn forward(&self, x: Tensor<3>, mask: Option<&Mask>, pass: &Pass) -> Tensor<3> {
        self.ask(x.clone(), x, mask, pass)
    }

    /// (*n*, *q*, *d*), (*n*, *t*, *d*) → (*n*, *q*, *d*): the vectors of `asking` ask all vectors
    /// of `x`. Where only some outputs are needed, the others are not computed.
    pub(crate) fn ask(
        &self,
        asking: Tensor<3>,
        x: Tensor<3>,
        mask: Option<&Mask>,
        pass: &Pass,
    ) -> Tensor<3> {
        let [n, q, d] = asking.dims();
        let shares = pass.dropout(self.shares(asking, x.clone(), mask, pass), self.dropout);
        let values = self.split(self.value.composed(x, pass));
        let mixed = pass.product(shares, values).swap_dims(1, 2).reshape([n, q, d]);
        self.out.composed(mixed, pass)
    }

    /// How much each asking vector takes of each vector of `x`, by head: (*n*, heads, *q*, *t*),
    /// each row adding up to 1.
    pub(crate) fn shares(
        &self,
        asking: Tensor<3>,
        x: Tensor<3>,
        mask: Option<&Mask>,
        pass: &Pass,
    ) -> Tensor<4> {
        let mut queries = self.split(self.query.composed(asking, pass));
        let mut keys = self.split(self.key.composed(x, pass));
        if let Some(rotary) = &self.rotary {
            queries = rotary.forward(queries);
            keys = rotary.forward(keys);
        }
        let scale = 1.0 / (queries.dims()[3] as f64).sqrt();
        let mut scores = pass.product(queries * scale, keys.swap_dims(2, 3));
        if let Some(relative) = &self.relative {
            scores = scores + relative.forward();
        }
        if let Some(mask) = mask {
            let device = scores.device();
            scores = scores + mask.scores(&device);
        }
        softmax(scores, 3)
    }

    /// (*n*, *t*, *d*) → (*n*, heads, *t*, width of a head).
    fn split(&self, x: Tensor<3>) -> Tensor<4> {
        let [n, t, d] = x.dims();
        x.reshape([n, t, self.heads, d / self.heads]).swap_dims(1, 2)
    }
}

/// A learnt number for each head and distance.
#[derive(Debug)]
pub(crate) struct RelativeBias {
    /// (heads, 2*t* − 1): distances −(*t* − 1) to *t* − 1.
    pub(crate) table: Tensor<2>,
    steps: usize,
}

impl RelativeBias {
    fn new(scope: &Scope<'_>, heads: usize, steps: usize) -> Result<Self> {
        let table =
            scope.param("relative", [heads, 2 * steps - 1], Role::Free, Init::Normal(0.02))?;
        Ok(Self { table, steps })
    }

    /// (1, heads, *t*, *t*).
    fn forward(&self) -> Tensor<4> {
        let t = self.steps;
        let distances: Vec<i64> =
            (0..t).flat_map(|query| (0..t).map(move |key| (query + t - 1 - key) as i64)).collect();
        let device = self.table.device();
        let distances = Tensor::<1, Int>::from_data(TensorData::new(distances, [t * t]), &device);
        let heads = self.table.dims()[0];
        self.table.clone().select(1, distances).reshape([1, heads, t, t])
    }
}
