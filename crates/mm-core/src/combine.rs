//! How fitted members become one model: the seam between the orchestrator and ensembles.
//!
//! The orchestrator has out-of-fold predictions of every candidate and, later, the candidates
//! refitted. A [`Combiner`] learns from the former (weights, a meta-model, or nothing) and makes a
//! [`Combination`], which is applied to predictions and becomes a [`Model`] that
//! holds the latter. So no member is fitted twice, and the orchestrator knows no ensemble.

use std::{fmt, sync::Arc};

use crate::{
    context::FitContext,
    data::{Matrix, Truth},
    error::Result,
    metric::Metric,
    model::{BoxModel, Model},
};

/// A member's name and its out-of-fold predictions, of the same rows for all members.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Member<'a> {
    /// The candidate's name.
    pub name: &'a str,
    /// Its predictions, of shape (*n*, *k*).
    pub predictions: &'a Matrix,
}

impl<'a> Member<'a> {
    /// A member.
    pub fn new(name: &'a str, predictions: &'a Matrix) -> Self {
        Self { name, predictions }
    }
}

/// A way to make one model of several.
pub trait Combiner: fmt::Debug + Send + Sync {
    /// Refuses params that do not suit members of the given names. Called before any work; by
    /// default everything suits.
    fn check(&self, members: &[&str]) -> Result<()> {
        let _ = members;
        Ok(())
    }

    /// Learns from the members' out-of-fold predictions; `truth` has their rows, and `metric` is
    /// what the plan judges by.
    fn combine(
        &self,
        members: &[Member<'_>],
        truth: Truth<'_>,
        metric: Metric,
        ctx: &FitContext<'_>,
    ) -> Result<Box<dyn Combination>>;
}

/// What a [`Combiner`] has learnt.
pub trait Combination: fmt::Debug + Send + Sync {
    /// The combined predictions of rows that the members predicted as `parts`, one matrix a
    /// member, in the members' order.
    fn apply(&self, parts: &[&Matrix]) -> Result<Matrix>;

    /// The model that predicts with `members`, fitted and in the members' order.
    fn into_model(self: Box<Self>, members: Vec<Arc<dyn Model>>) -> Result<BoxModel>;
}
