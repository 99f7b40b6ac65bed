//! Means that learn nothing: equal or fixed weights, the median, the trimmed mean. The weighted
//! mean of probabilities is also known as soft voting.
//!
//! # Idea
//!
//! With predictions *Pᵢ* of shape (*n*, *k*) and weights *wᵢ* ≥ 0 that add up to 1:
//!
//! ```text
//! P = Σᵢ wᵢ Pᵢ
//! ```
//!
//! Errors that the members do not share cancel out. Since nothing is learnt from data, the
//! ensemble's out-of-fold score is as honest as its members'. One bad member spoils a mean but not
//! a median; the trimmed mean lies between them. Of class probabilities the median is taken class
//! by class and scaled to add up to 1.
//!
//! Cost: that of the members.
//!
//! # Sources
//!
//! Perrone & Cooper (1993), "When networks disagree: ensemble methods for hybrid neural networks".

use std::collections::BTreeMap;

use mm_core::{
    Combination, Combiner, Dataset, Error, FitContext, Member, Metric, ParamError, Result,
};
use serde::{Deserialize, Serialize};

use crate::{
    learned::{Learned, shape},
    rule::{Middle, Rule, Weights, are_classes},
};

/// How an average weighs its members: the kind `average`.
///
/// | field | default | domain | effect |
/// | --- | --- | --- | --- |
/// | `weights` | `{}` | name → finite number ≥ 0, not all 0 | members' weights, scaled to add up to 1; empty: all equal |
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AverageParams {
    /// Weights by member name; if any is given, each member needs one.
    pub weights: BTreeMap<String, f64>,
}

impl AverageParams {
    /// Fixed weights by name: the classic blend is
    /// `AverageParams::fixed([("batch", 0.8), ("online", 0.2)])`.
    pub fn fixed<S: Into<String>>(weights: impl IntoIterator<Item = (S, f64)>) -> Self {
        Self { weights: weights.into_iter().map(|(name, w)| (name.into(), w)).collect() }
    }

    /// One weight a member, adding up to 1, in their order.
    pub(crate) fn by_place(&self, members: &[Member<'_>]) -> Result<Vec<f64>> {
        let names: Vec<&str> = members.iter().map(|member| member.name).collect();
        Ok(self.resolve(&names)?.by_member())
    }

    fn resolve(&self, names: &[&str]) -> Result<Weights> {
        if self.weights.is_empty() {
            return Ok(Weights::equal(names.len()));
        }
        let missing =
            |name: &str| Error::NotFound { what: "weight of member", name: name.to_owned() };
        let weight = |name: &&str| self.weights.get(*name).copied().ok_or_else(|| missing(name));
        let weights: Vec<f64> = names.iter().map(weight).collect::<Result<_>>()?;
        if names.len() != self.weights.len() {
            let got = self.weights.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(Error::data(
                "weights",
                format_args!("those of {} members", names.len()),
                got,
            ));
        }
        Ok(Weights::scaled(weights))
    }
}

impl Combiner for AverageParams {
    fn check(&self, members: &[&str]) -> Result<()> {
        for (name, weight) in &self.weights {
            let ok = 0.0 <= *weight && weight.is_finite();
            ParamError::ensure(ok, format!("weights.{name}"), weight, "a finite number ≥ 0")?;
        }
        let ok = self.weights.is_empty() || self.weights.values().any(|w| 0.0 < *w);
        ParamError::ensure(ok, "weights", "all 0", "at least one above 0")?;
        self.resolve(members).map(drop)
    }

    fn learns(&self) -> bool {
        false
    }

    fn combine(
        &self,
        members: &[Member<'_>],
        _: &Dataset,
        _: Metric,
        _: &FitContext<'_>,
    ) -> Result<Box<dyn Combination>> {
        shape(members)?;
        let names: Vec<&str> = members.iter().map(|member| member.name).collect();
        Ok(Learned::weighted(members, &self.resolve(&names)?))
    }
}

/// The mean of the middle values: the kind `median`.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `trim` | 0.5 | [0, 0.5] | the part of the members, rounded down, that is left out at each end; 0.5 is the median, 0 the mean |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MedianParams {
    /// The part left out at each end.
    pub trim: f64,
}

impl MedianParams {
    /// The trimmed mean that leaves out the part `trim` at each end.
    pub fn trimmed(trim: f64) -> Self {
        Self { trim }
    }
}

impl Default for MedianParams {
    fn default() -> Self {
        Self { trim: 0.5 }
    }
}

impl Combiner for MedianParams {
    fn check(&self, _: &[&str]) -> Result<()> {
        let ok = 0.0 <= self.trim && self.trim <= 0.5;
        Ok(ParamError::ensure(ok, "trim", self.trim, "a number from 0 to 0.5")?)
    }

    fn learns(&self) -> bool {
        false
    }

    fn combine(
        &self,
        members: &[Member<'_>],
        data: &Dataset,
        _: Metric,
        _: &FitContext<'_>,
    ) -> Result<Box<dyn Combination>> {
        shape(members)?;
        let classes = are_classes(&data.task().outputs());
        Ok(Learned::all(members, Rule::Middle(Middle { trim: self.trim, classes })))
    }
}
