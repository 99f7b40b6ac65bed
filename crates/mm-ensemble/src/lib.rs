//! One model of several, over any learner of the workspace.
//!
//! An ensemble is two things that share one model. As a [`Combiner`] it learns
//! from out-of-fold predictions that somebody already has, such as the orchestrator, and no member
//! is fitted twice. As a [`Learner`](mm_core::Learner) ([`Ensemble`]) it cross-fits the members
//! itself, so that ensembles nest and are tuned, stored, and served by code that has never heard of
//! them. Either way an [`EnsembleModel`] comes out:
//!
//! ```text
//! out-of-fold predictions ──Combiner──▶ rule ─┐
//! fitted members ─────────────────────────────┴─▶ EnsembleModel
//! ```
//!
//! | combiner | kind | learns |
//! | --- | --- | --- |
//! | [`AverageParams`] | `average` | nothing: equal or fixed weights |
//! | [`MedianParams`] | `median` | nothing: median or trimmed mean |
//! | [`VoteParams`] | `vote` | nothing: hard voting |
//! | [`RankParams`] | `rank` | the members' distributions |
//! | [`GreedyParams`] | `greedy` | weights by greedy selection |
//! | [`WeightsParams`] | `weights` | the best weights that add up to 1 |
//! | [`NnlsParams`] | `nnls` | weights by non-negative least squares |
//! | [`Stack`] | `stack` | a meta-model |
//!
//! | learner | kind | what it does |
//! | --- | --- | --- |
//! | [`Ensemble`] | `ensemble` | cross-fits members in layers and combines them |
//! | [`Bag`] | `bag` | averages one learner's models of all folds |
//! | [`Calibrated`] | `calibrated` | makes another learner's probabilities true |
//! | [`Conformal`] | `conformal` | gives another learner's predictions intervals and sets that cover |
//! | [`Linear`] | `linear` | ridge and logistic regression, the default meta-learner |
//!
//! [`Decision`] turns probabilities into classes at a tuned threshold or least cost; [`Guard`]
//! tells when what was learnt on top does not hold outside; [`Limits`] keeps members to a budget;
//! [`Report`] says what each member brings.
//!
//! # What is deliberately absent
//!
//! Base models: this crate depends on `mm-core` alone. The linear model is here because a stack
//! needs one that knows row weights and non-negative slopes.

#![forbid(unsafe_code)]

mod auc;
mod average;
mod bag;
mod calibrated;
mod calibration;
mod conformal;
mod decision;
mod ensemble;
mod greedy;
mod guard;
mod learned;
mod limits;
mod linear;
mod model;
mod objective;
mod optimal;
mod quadratic;
mod report;
mod rule;
mod space;
mod stack;
#[cfg(test)]
mod tests;
mod vote;

use std::sync::Arc;

use mm_core::{Catalog, Combiner, Error, Result, from_config};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use crate::{
    average::{AverageParams, MedianParams},
    bag::{Bag, BagParams},
    calibrated::{Calibrated, CalibratedModel, CalibratedParams, Calibration},
    conformal::{Conformal, ConformalModel, ConformalParams},
    decision::{CostMatrix, Decision},
    ensemble::{Ensemble, EnsembleConfig, EnsembleParams, Finish},
    greedy::GreedyParams,
    guard::{Fallback, Finding, Guard, Inside, Pair, Verdict},
    limits::Limits,
    linear::{Linear, LinearModel, LinearParams},
    model::EnsembleModel,
    optimal::{NnlsParams, WeightsParams},
    report::{LeftOut, MemberReport, Report},
    rule::{MetaInputs, VoteOutput},
    stack::{Stack, StackParams},
    vote::{RankParams, VoteParams},
};
use crate::{limits::Limited, space::Searched};

/// Adds what this crate can make, combine, and open to `catalog`.
///
/// Every combiner takes the key `limits` beside its own params: [`Limits`].
#[must_use]
pub fn register(catalog: Catalog) -> Catalog {
    let catalog = catalog
        .with::<EnsembleModel>()
        .with::<LinearModel>()
        .with::<CalibratedModel>()
        .with::<ConformalModel>()
        .with_kind::<LinearParams>("linear")
        .with_space::<LinearParams>("linear");
    let catalog = with_combiner::<AverageParams>(catalog, "average");
    let catalog = with_combiner::<MedianParams>(catalog, "median");
    let catalog = with_combiner::<VoteParams>(catalog, "vote");
    let catalog = with_combiner::<RankParams>(catalog, "rank");
    let catalog = with_combiner::<GreedyParams>(catalog, "greedy");
    let catalog = with_combiner::<WeightsParams>(catalog, "weights");
    let catalog = with_combiner::<NnlsParams>(catalog, "nnls");
    let catalog = catalog.with_combiner("stack", |catalog, params| {
        let (limits, params) = split_limits(params)?;
        let stack: StackParams = from_config(params)?;
        Ok(limited(stack.build(catalog)?, limits))
    });
    catalog
        .with_space::<Searched<MedianParams>>("median")
        .with_space::<Searched<GreedyParams>>("greedy")
        .with_space::<Searched<WeightsParams>>("weights")
        .with_space::<Searched<NnlsParams>>("nnls")
        .with_space::<Searched<StackParams>>("stack")
        .with_members("stack", &["meta"]) // If it is named.
        .with_members("ensemble", &["members", "layers", "combine"])
        .with_members("bag", &["of"])
        .with_members("calibrated", &["of"])
        .with_members("conformal", &["of"])
        .with_builder("ensemble", Value::default(), |catalog, params| {
            Ok(Box::new(from_config::<EnsembleConfig>(params)?.build(catalog)?))
        })
        .with_builder("bag", Value::default(), |catalog, params| {
            Ok(Box::new(from_config::<BagParams>(params)?.build(catalog)?))
        })
        .with_builder("calibrated", Value::default(), |catalog, params| {
            Ok(Box::new(from_config::<CalibratedParams>(params)?.build(catalog)?))
        })
        .with_builder("conformal", Value::default(), |catalog, params| {
            Ok(Box::new(from_config::<ConformalParams>(params)?.build(catalog)?))
        })
}

/// Params of combiners are edited in place as those of learners are.
macro_rules! edited_in_place {
    ($($params:ty),*) => {$(
        impl $params {
            /// Edits in place, for chaining.
            #[must_use]
            pub fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
                edit(&mut self);
                self
            }
        }
    )*};
}

edited_in_place!(
    AverageParams,
    MedianParams,
    VoteParams,
    RankParams,
    GreedyParams,
    WeightsParams,
    NnlsParams,
    StackParams,
    EnsembleParams,
    Limits,
    Guard
);

fn with_combiner<C>(catalog: Catalog, kind: &'static str) -> Catalog
where
    C: Combiner + DeserializeOwned + 'static,
{
    catalog.with_combiner(kind, |_, params| {
        let (limits, params) = split_limits(params)?;
        Ok(limited(from_config::<C>(params)?, limits))
    })
}

fn limited<C: Combiner + 'static>(combiner: C, limits: Limits) -> Box<dyn Combiner> {
    if limits.is_none() {
        return Box::new(combiner);
    }
    Box::new(Limited { inner: Arc::new(combiner), limits })
}

fn split_limits(mut params: Value) -> Result<(Limits, Value)> {
    let limits = params.as_object_mut().and_then(|map| map.remove("limits"));
    let Some(limits) = limits.filter(|it| !it.is_null()) else {
        return Ok((Limits::default(), params));
    };
    let read = serde_json::from_value(limits);
    let limits = read.map_err(|e| Error::config("params.limits", e.to_string()))?;
    Ok((limits, params))
}
