//! Hard voting and the mean of ranks.
//!
//! # Idea
//!
//! In a **vote** each member is for the class that it holds likeliest (of equally likely ones the
//! first), and the class with the greatest weight of votes wins. A tie goes to the class with the
//! higher weighted mean of the members' probabilities, and if that is the same, too, to the first.
//! The ensemble yields each class's share of the votes, or 1 for the winner alone: then
//! prediction asks the weightiest members first and stops once the rest cannot change the winner.
//!
//! The **mean of ranks** replaces each member's output by where it lies in the distribution of the
//! member's out-of-fold predictions, averages that, and puts the average back on the scale of the
//! members' mean. It suits metrics of order, such as areas under curves, and members whose
//! probabilities are of different scales. The distributions are kept at 257 levels.
//!
//! # Sources
//!
//! Lam & Suen (1997), "Application of majority voting to pattern recognition". Borda (1781) for
//! ranks.

use std::collections::BTreeMap;

use mm_core::{Combination, Combiner, Dataset, Error, FitContext, Member, Metric, Result, Task};
use serde::{Deserialize, Serialize};

use crate::{
    average::AverageParams,
    learned::{Learned, shape},
    rule::{Ranks, Rule, Vote, VoteOutput},
};

/// How members vote: the kind `vote`. Classification only.
///
/// | field | default | domain | effect |
/// | --- | --- | --- | --- |
/// | `weights` | `{}` | name → finite number ≥ 0, not all 0 | how much each member's vote counts; empty: all equal |
/// | `output` | `shares` | `shares`, `winner` | shares of the votes, or 1 for the winner |
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct VoteParams {
    /// Weights by member name; if any is given, each member needs one.
    pub weights: BTreeMap<String, f64>,
    /// What the vote yields.
    pub output: VoteOutput,
}

impl VoteParams {
    fn average(&self) -> AverageParams {
        AverageParams::fixed(self.weights.clone())
    }
}

impl Combiner for VoteParams {
    fn check(&self, members: &[&str]) -> Result<()> {
        self.average().check(members)
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
        ensure_classes("vote", data.task())?;
        let weights = self.average().by_place(members)?;
        let mut order: Vec<usize> = (0..members.len()).collect();
        if self.output == VoteOutput::Winner {
            order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
        }
        let weights = order.iter().map(|&i| weights[i]).collect();
        Ok(Learned::some(members, order, Rule::Vote(Vote::new(weights, self.output))))
    }
}

/// How ranks are averaged: the kind `rank`. Classification only.
///
/// | field | default | domain | effect |
/// | --- | --- | --- | --- |
/// | `weights` | `{}` | name → finite number ≥ 0, not all 0 | how much each member's rank counts; empty: all equal |
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RankParams {
    /// Weights by member name; if any is given, each member needs one.
    pub weights: BTreeMap<String, f64>,
}

impl Combiner for RankParams {
    fn check(&self, members: &[&str]) -> Result<()> {
        AverageParams::fixed(self.weights.clone()).check(members)
    }

    fn combine(
        &self,
        members: &[Member<'_>],
        data: &Dataset,
        _: Metric,
        _: &FitContext<'_>,
    ) -> Result<Box<dyn Combination>> {
        let (n_rows, _) = shape(members)?;
        ensure_classes("mean of ranks", data.task())?;
        let weights = AverageParams::fixed(self.weights.clone()).by_place(members)?;
        if n_rows == 0 {
            return Ok(Learned::all(members, Rule::mean(members.len())));
        }
        let parts: Vec<_> = members.iter().map(|member| member.predictions).collect();
        Ok(Learned::all(members, Rule::Rank(Ranks::learn(weights, &parts))))
    }
}

fn ensure_classes(what: &str, task: &Task) -> Result<()> {
    if matches!(task, Task::Regression) {
        return Err(Error::data(format_args!("task of a {what}"), "classification", task));
    }
    Ok(())
}
