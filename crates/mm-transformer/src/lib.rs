//! Nets for tables and for time: FT-Transformer, TabM-mini, and a causal Transformer over windows.
//!
//! | kind | params → model | reads |
//! | --- | --- | --- |
//! | `ft_transformer` | [`FtTransformerParams`] → [`FtTransformerModel`] | a row: attention among its columns |
//! | `tabm` | [`TabmParams`] → [`TabmModel`] | a row: many small nets in one |
//! | `sequence_transformer` | [`SequenceTransformerParams`] → [`SequenceTransformerModel`] | a row and what came before it |
//!
//! Each is an ordinary [`Learner`](mm_core::Learner), and all share one shell and one training loop:
//!
//! ```text
//!  params ──▶ NetLearner ──fit──▶ NetModel ──▶ envelope: params, scaling, weights as safetensors
//!                 │                  │
//!                 │  preparation: columns → numbers and slots, fitted on the fit's rows
//!                 └─ training loop: pieces of a batch side by side, AdamW on flat arrays
//! ```
//!
//! Tensors and their gradients are [Burn](https://docs.rs/burn)'s; on the processor its tape takes each
//! block as one operation of our own, with the widest vectors that the processor has. What decides a
//! fit is not Burn's: initial weights, order, dropout, losses, and steps are worked out here, as
//! functions of seed and place, so that a fit gives the same model whatever the number of threads
//! and whatever else runs.
//!
//! # What is deliberately absent
//!
//! No pretrained weights; no batches prepared ahead by a thread of their own; no thread that outlives a
//! call; no kernels of our own for other devices than the processor. There (features `cuda`, `wgpu`)
//! training is Burn's single operations: the same fits but for roundings, run on an H100 through CUDA and
//! through Vulkan, and several times as slow as PyTorch's (`docs/benchmarks.md`).

#![forbid(unsafe_code)]

// Tensors, and what layers are made of.
mod device;
mod fused;
mod nn;
mod random;
mod tokens;
mod weights;

// From frames to batches.
mod prepare;
mod window;

// The fit.
mod loss;
mod memory;
mod optimizer;
mod snapshot;
mod team;
mod train;
mod training;

// Learners and models.
mod ft_transformer;
mod model;
mod net;
mod sequence;
mod tabm;

#[cfg(test)]
mod tests;

use mm_core::Catalog;

pub use crate::{
    device::Device,
    ft_transformer::{FtTransformer, FtTransformerModel, FtTransformerParams, Pooling},
    loss::Objective,
    model::{NetLearner, NetModel},
    nn::{feed_forward::Gate, numeric::NumericEmbedding, position::Position},
    prepare::Scaling,
    sequence::{SequenceTransformer, SequenceTransformerModel, SequenceTransformerParams},
    tabm::{Tabm, TabmModel, TabmParams},
    train::FitReport,
    training::{Precision, TrainingParams},
    weights::Storage,
};

/// Adds what this crate can fit and open to `catalog`.
#[must_use]
pub fn register(catalog: Catalog) -> Catalog {
    catalog
        .with::<FtTransformerModel>()
        .with_kind::<FtTransformerParams>("ft_transformer")
        .with_space::<FtTransformerParams>("ft_transformer")
        .with::<TabmModel>()
        .with_kind::<TabmParams>("tabm")
        .with_space::<TabmParams>("tabm")
        .with::<SequenceTransformerModel>()
        .with_kind::<SequenceTransformerParams>("sequence_transformer")
        .with_space::<SequenceTransformerParams>("sequence_transformer")
}
