//! The pre-norm block: attention, then a feed-forward layer, each beside a shortcut.

use std::sync::{Arc, OnceLock};

use burn::tensor::Tensor;
use mm_core::Result;

use crate::{
    fused::{
        attention::Heads,
        block::{BlockOperation, Drops, Maps, input as at},
        tape::{apply, input},
    },
    nn::{
        attention::{Attention, AttentionConfig, Mask},
        feed_forward::{FeedForward, Gate},
        norm::LayerNorm,
        pass::Pass,
    },
    weights::Scope,
};

/// What a [`Block`] is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockConfig {
    pub(crate) attention: AttentionConfig,
    /// Width between the maps of the feed-forward layer.
    pub(crate) hidden: usize,
    pub(crate) gate: Gate,
    /// Dropout within the feed-forward layer.
    pub(crate) hidden_dropout: f64,
    /// Dropout of what is added to the shortcut.
    pub(crate) residual_dropout: f64,
}

impl BlockConfig {
    /// With a feed-forward layer `hidden` times as wide as the vectors, and dropout within it and of
    /// what is added to the shortcut.
    pub(crate) fn new(
        attention: AttentionConfig,
        hidden: f64,
        gate: Gate,
        [hidden_dropout, residual_dropout]: [f64; 2],
    ) -> Self {
        let hidden = ((attention.width as f64 * hidden) as usize).max(1);
        Self { attention, hidden, gate, hidden_dropout, residual_dropout }
    }

    /// Roughly how many numbers a row of `attention.steps` vectors leaves on the tape.
    pub(crate) fn numbers_a_row(&self) -> usize {
        let AttentionConfig { width, heads, steps, .. } = self.attention;
        steps * (16 * width + 6 * self.hidden + 6 * heads * steps)
    }
}

/// *x* + attention(norm(*x*)), then *x* + feed-forward(norm(*x*)).
///
/// In the first block of an FT-Transformer attention has no norm before it (Gorishniy et al. 2021).
#[derive(Debug)]
pub(crate) struct Block {
    attention_norm: Option<LayerNorm>,
    attention: Attention,
    hidden_norm: LayerNorm,
    hidden: FeedForward,
    residual_dropout: f64,
    maps: Arc<OnceLock<Maps>>,
}

impl Block {
    pub(crate) fn new(scope: &Scope<'_>, config: BlockConfig, normed: bool) -> Result<Self> {
        let BlockConfig { attention, hidden, gate, hidden_dropout, residual_dropout } = config;
        let norm = |name: &str| LayerNorm::new(&scope.part(name), attention.width);
        let part = scope.part("feed_forward");
        Ok(Self {
            attention_norm: if normed { Some(norm("attention_norm")?) } else { None },
            attention: Attention::new(&scope.part("attention"), attention)?,
            hidden_norm: norm("feed_forward_norm")?,
            hidden: FeedForward::new(&part, attention.width, hidden, gate, hidden_dropout)?,
            residual_dropout,
            maps: Arc::default(),
        })
    }

    /// (*n*, *t*, *d*) → the same.
    pub(crate) fn forward(&self, x: Tensor<3>, mask: Option<&Mask>, pass: &Pass) -> Tensor<3> {
        let asking = x.dims()[1];
        if pass.is_fused(&x)
            && let Some(y) = self.fused(&x, asking, mask, pass)
        {
            return y;
        }
        self.composed(x, asking, mask, pass)
    }

    /// (*n*, *t*, *d*) → (*n*, 1, *d*): the block's output for the first vector alone, which is all
    /// that is read of the last block.
    pub(crate) fn forward_first(&self, x: Tensor<3>, pass: &Pass) -> Tensor<3> {
        if pass.is_fused(&x)
            && let Some(y) = self.fused(&x, 1, None, pass)
        {
            return y;
        }
        self.composed(x, 1, None, pass)
    }

    /// The outputs of the first `asking` vectors of each row, which are all or one, as one operation on
    /// the processor.
    pub(crate) fn fused(
        &self,
        x: &Tensor<3>,
        asking: usize,
        mask: Option<&Mask>,
        pass: &Pass,
    ) -> Option<Tensor<3>> {
        let [rows, tokens, width] = x.dims();
        let Self { attention, hidden, hidden_norm, residual_dropout, .. } = self;
        let drop = |rate| pass.drops(rate);
        let operation = BlockOperation {
            rows,
            heads: Heads { width, count: attention.heads, asking, tokens },
            hidden: hidden.value.bias.dims()[0],
            gate: hidden.kind,
            normed: self.attention_norm.is_some(),
            relative: attention.relative.is_some(),
            mask: mask.cloned(),
            turns: attention.rotary.as_ref().map(|rotary| Arc::clone(&rotary.turns)),
            // In the order in which layers ask.
            dropout: Drops {
                shares: drop(attention.dropout),
                attended: drop(*residual_dropout),
                hidden: drop(hidden.dropout),
                out: drop(*residual_dropout),
            },
            maps: Arc::clone(&self.maps),
        };
        let mut inputs = [const { None }; at::COUNT];
        inputs[at::X] = Some(input(x));
        let norms =
            [(at::NORM, self.attention_norm.as_ref()), (at::HIDDEN_NORM, Some(hidden_norm))];
        for (place, norm) in norms {
            inputs[place] = norm.map(|norm| input(&norm.scale));
            inputs[place + 1] = norm.map(|norm| input(&norm.shift));
        }
        for (place, map) in [
            (at::QUERY, &attention.query),
            (at::KEY, &attention.key),
            (at::VALUE, &attention.value),
            (at::OUT, &attention.out),
            (at::UP, &hidden.value),
            (at::GATE, &hidden.gate),
            (at::DOWN, &hidden.out),
        ] {
            inputs[place] = Some(input(&map.weight));
            inputs[place + 1] = Some(input(&map.bias));
        }
        inputs[at::RELATIVE] = attention.relative.as_ref().map(|bias| input(&bias.table));
        apply(operation, &inputs, [rows, asking, width])
    }

    /// The same as operations of Burn, on any device.
    pub(crate) fn composed(
        &self,
        x: Tensor<3>,
        asking: usize,
        mask: Option<&Mask>,
        pass: &Pass,
    ) -> Tensor<3> {
        let first = x.clone().narrow(1, 0, asking);
        let normed = self.normed(x);
        let y = self.attention.ask(normed.clone().narrow(1, 0, asking), normed, mask, pass);
        self.finish(first, y, pass)
    }

    /// How much each vector takes of each other: (*n*, heads, *t*, *t*).
    pub(crate) fn shares(&self, x: Tensor<3>, mask: Option<&Mask>) -> Tensor<4> {
        let x = self.normed(x);
        self.attention.shares(x.clone(), x, mask, &Pass::plain())
    }

    fn normed(&self, x: Tensor<3>) -> Tensor<3> {
        match &self.attention_norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    fn finish(&self, x: Tensor<3>, attended: Tensor<3>, pass: &Pass) -> Tensor<3> {
        let x = x + pass.dropout(attended, self.residual_dropout);
        let y = self.hidden.forward(self.hidden_norm.forward(x.clone()), pass);
        x + pass.dropout(y, self.residual_dropout)
    }
}
