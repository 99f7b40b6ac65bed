//! The pre-norm block: attention, then a feed-forward layer, each beside a shortcut.

use burn::tensor::Tensor;
use mm_core::Result;

use crate::{
    nn::{
        attention::{Attention, AttentionConfig},
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
        })
    }

    /// (*n*, *t*, *d*) → the same.
    pub(crate) fn forward(&self, x: Tensor<3>, mask: Option<&Tensor<4>>, pass: &Pass) -> Tensor<3> {
        let y = self.attention.forward(self.normed(x.clone()), mask, pass);
        self.finish(x, y, pass)
    }

    /// (*n*, *t*, *d*) → (*n*, 1, *d*): the block's output for the first vector alone, which is all
    /// that is read of the last block.
    pub(crate) fn forward_first(&self, x: Tensor<3>, pass: &Pass) -> Tensor<3> {
        let first = x.clone().narrow(1, 0, 1);
        let normed = self.normed(x);
        let y = self.attention.ask(normed.clone().narrow(1, 0, 1), normed, None, pass);
        self.finish(first, y, pass)
    }

    /// How much each vector takes of each other: (*n*, heads, *t*, *t*).
    pub(crate) fn shares(&self, x: Tensor<3>, mask: Option<&Tensor<4>>) -> Tensor<4> {
        let x = self.normed(x);
        self.attention.shares(x.clone(), x, mask)
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
