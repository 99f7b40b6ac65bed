//! Gated feed-forward layers (Shazeer 2020, "GLU variants improve Transformer").

use burn::tensor::{
    Tensor,
    activation::{gelu, relu},
};
use mm_core::Result;
use serde::{Deserialize, Serialize};

use crate::{
    nn::{linear::Linear, pass::Pass},
    weights::Scope,
};

/// What opens the gate of a feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Gate {
    /// max(0, *x*).
    #[default]
    Reglu,
    /// *x* Φ(*x*), with the distribution function of the standard normal.
    Geglu,
}

/// *x* ↦ (*xA* ⊙ gate(*xB*)) *C*, each map with a bias.
#[derive(Debug)]
pub(crate) struct FeedForward {
    pub(crate) value: Linear,
    pub(crate) gate: Linear,
    pub(crate) out: Linear,
    pub(crate) kind: Gate,
    pub(crate) dropout: f64,
}

impl FeedForward {
    pub(crate) fn new(
        scope: &Scope<'_>,
        width: usize,
        hidden: usize,
        kind: Gate,
        dropout: f64,
    ) -> Result<Self> {
        Ok(Self {
            value: Linear::new(&scope.part("value"), width, hidden)?,
            gate: Linear::new(&scope.part("gate"), width, hidden)?,
            out: Linear::new(&scope.part("out"), hidden, width)?,
            kind,
            dropout,
        })
    }

    /// (*n*, *t*, *d*) → the same. Dropout falls on what is between the maps.
    pub(crate) fn forward(&self, x: Tensor<3>, pass: &Pass) -> Tensor<3> {
        let gate = self.gate.composed(x.clone(), pass);
        let open = match self.kind {
            Gate::Reglu => relu(gate),
            Gate::Geglu => gelu(gate),
        };
        let hidden = pass.dropout(self.value.composed(x, pass) * open, self.dropout);
        self.out.composed(hidden, pass)
    }
}
