//! Greedy selection: members are added one at a time, each the one that helps most, with
//! replacement; how often a member was added is its weight.
//!
//! # Idea
//!
//! Start from nothing. In each of `rounds` rounds take the member whose addition gives the mean of
//! all taken so far the lowest error, be it new or taken before. Keep the rounds up to the first at
//! which the error was lowest over all rounds. A member taken *c* times in *r* rounds has the
//! weight *c* / *r*. So weights are not negative and add up to 1, the error on the rows that are
//! learnt from is at most that of the best member, which the first round takes, and a member that
//! is far worse than the others gets nothing.
//!
//! # Rules that make it reproducible
//!
//! - The error is the loss, or 1 − score where larger is better.
//! - If the first round's error is above 10⁻⁴, all errors after it are rounded to 6 decimals, half
//!   to even: two equal members are not both taken for the noise of floating point.
//! - Members whose errors agree to a part in 10¹² are tied. Those already taken go before others;
//!   among these, the first in the members' order.
//! - One member needs no rounds.
//! - Above `max_rows` rows, so many are drawn without replacement.
//!
//! These are the rules of `EnsembleSelection` in AutoGluon 1.6, but for the last tie-break, which
//! is random there.
//!
//! # Variants
//!
//! With `bags` above 1 the selection runs once a bag on a random part of the members, and the
//! weights are averaged: less is fitted to chance where there are many members. `warm_start` takes
//! the best members singly before the first round, one each, which keeps a single member that is
//! lucky from setting the course.
//!
//! # Cost
//!
//! O(*rounds* · *m* · *n*) for *m* members and *n* rows, on as many threads as the context allows.
//!
//! # Limits
//!
//! The error that was optimised looks better than it is, the more so the more members there are
//! and the fewer rows. Scores from [`cross_combine`](mm_core::cross_combine) do not.
//!
//! # Sources
//!
//! Caruana, Niculescu-Mizil, Crew & Ksikes (2004), "Ensemble selection from libraries of models".
//! Caruana, Munson & Niculescu-Mizil (2006), "Getting the most out of ensemble selection", for bags
//! and for the start with the best. AutoGluon 1.6.2 for rounding and ties.

use std::collections::BTreeSet;

use mm_core::{
    Combination, Combiner, Dataset, FitContext, Member, Metric, ParamError, Result,
    parallel::with_threads,
};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    learned::{Learned, shape},
    objective::Objective,
    rule::{Rule, Weights},
};

/// How members are selected: the kind `greedy`.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `rounds` | 25 | ≥ 1 | members that are taken at most; more rarely helps |
/// | `bags` | 1 | ≥ 1 | selections that are averaged |
/// | `bag_fraction` | 0.5 | (0, 1] | the part of the members, rounded up, in each of several bags |
/// | `warm_start` | 0 | | the best members that are taken before the first round |
/// | `prune` | 0 | [0, 1) | weights below it become 0, the others are scaled up |
/// | `max_rows` | 1,000,000 | ≥ 1 | rows that are learnt from at most |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GreedyParams {
    /// Members that are taken at most.
    pub rounds: usize,
    /// Selections that are averaged.
    pub bags: usize,
    /// The part of the members in each of several bags.
    pub bag_fraction: f64,
    /// The best members that are taken before the first round.
    pub warm_start: usize,
    /// Weights below it become 0.
    pub prune: f64,
    /// Rows that are learnt from at most.
    pub max_rows: usize,
}

impl Default for GreedyParams {
    fn default() -> Self {
        Self {
            rounds: 25,
            bags: 1,
            bag_fraction: 0.5,
            warm_start: 0,
            prune: 0.0,
            max_rows: 1_000_000,
        }
    }
}

/// Above this error of the first round, later errors are rounded.
const ROUNDED_ABOVE: f64 = 1e-4;

/// Errors that agree to this part are tied.
const TIED: f64 = 1e-12;

impl Combiner for GreedyParams {
    fn check(&self, _: &[&str]) -> Result<()> {
        ParamError::ensure(1 <= self.rounds, "rounds", self.rounds, "at least 1")?;
        ParamError::ensure(1 <= self.bags, "bags", self.bags, "at least 1")?;
        let ok = 0.0 < self.bag_fraction && self.bag_fraction <= 1.0;
        ParamError::ensure(ok, "bag_fraction", self.bag_fraction, "a number above 0, at most 1")?;
        let ok = 0.0 <= self.prune && self.prune < 1.0;
        ParamError::ensure(ok, "prune", self.prune, "a number from 0 to below 1")?;
        Ok(ParamError::ensure(1 <= self.max_rows, "max_rows", self.max_rows, "at least 1")?)
    }

    fn combine(
        &self,
        members: &[Member<'_>],
        data: &Dataset,
        metric: Metric,
        ctx: &FitContext<'_>,
    ) -> Result<Box<dyn Combination>> {
        let (n_rows, _) = shape(members)?;
        if n_rows == 0 || members.len() == 1 {
            return Ok(Learned::all(members, Rule::mean(members.len())));
        }
        let weights = if n_rows <= self.max_rows {
            self.weights(members, data, metric, ctx)?
        } else {
            let mut rows: Vec<usize> = (0..n_rows).collect();
            rows.shuffle(&mut ChaCha8Rng::seed_from_u64(ctx.seed));
            rows.truncate(self.max_rows);
            rows.sort_unstable();
            let parts: Vec<_> = members.iter().map(|m| m.predictions.take(&rows)).collect();
            let some = members.iter().zip(&parts).map(|(m, part)| Member::new(m.name, part));
            self.weights(&some.collect::<Vec<_>>(), &data.take(&rows), metric, ctx)?
        };
        Ok(Learned::weighted(members, &Weights::scaled(weights).pruned(self.prune)))
    }
}

impl GreedyParams {
    /// One weight a member, adding up to 1: the selection itself, on the members' predictions of
    /// the rows of `data`, of which there is at least one.
    ///
    /// # Errors
    ///
    /// Params outside their domain, members of different shapes or with NaN among their
    /// predictions, and what `metric` refuses of the data.
    pub fn weights(
        &self,
        members: &[Member<'_>],
        data: &Dataset,
        metric: Metric,
        ctx: &FitContext<'_>,
    ) -> Result<Vec<f64>> {
        Combiner::check(self, &[])?;
        shape(members)?;
        let objective = Objective::new(members, data, metric)?;
        let m = members.len();
        let bags: Vec<Vec<usize>> = if self.bags == 1 {
            vec![(0..m).collect()]
        } else {
            let size = (self.bag_fraction * m as f64).ceil() as usize;
            let bag = |b: usize| {
                let mut bag: Vec<usize> = (0..m).collect();
                bag.shuffle(&mut ChaCha8Rng::seed_from_u64(ctx.fork(b as u64).seed));
                bag.truncate(size.max(1));
                bag.sort_unstable();
                bag
            };
            (0..self.bags).map(bag).collect()
        };
        let select = || -> Result<Vec<f64>> {
            let mut weights = vec![0.0; m];
            for bag in &bags {
                let order = self.select(&objective, bag, ctx)?;
                for member in &order {
                    weights[*member] += 1.0 / order.len() as f64 / bags.len() as f64;
                }
            }
            Ok(weights)
        };
        if ctx.threads.get() == 1 { select() } else { with_threads(ctx.threads, select)? }
    }

    /// The members of a bag in the order in which they are taken, up to the first lowest error.
    fn select(
        &self,
        objective: &Objective<'_>,
        bag: &[usize],
        ctx: &FitContext<'_>,
    ) -> Result<Vec<usize>> {
        let mut sum = vec![0.0; objective.column(bag[0]).len()];
        let (mut order, mut path) = (Vec::new(), Vec::new());
        let mut taken = BTreeSet::new();
        let mut rounded = false;
        let add = |member: usize, sum: &mut [f64]| {
            sum.iter_mut().zip(objective.column(member)).for_each(|(sum, y)| *sum += y);
        };
        if 0 < self.warm_start {
            let zero = sum.clone();
            let alone = errors(objective, &zero, bag, 1.0, ctx)?;
            let mut best: Vec<usize> = (0..bag.len()).collect();
            best.sort_by(|&a, &b| alone[a].total_cmp(&alone[b]));
            for &place in best.iter().take(self.warm_start) {
                order.push(bag[place]);
                taken.insert(bag[place]);
                add(bag[place], &mut sum);
            }
        }
        let started_with = order.len();
        for round in 0..self.rounds {
            ctx.check_cancelled()?;
            if 0 < round && ctx.is_due() {
                break;
            }
            let mut errors = errors(objective, &sum, bag, (order.len() + 1) as f64, ctx)?;
            if rounded {
                for e in &mut errors {
                    *e = round_to_six(*e);
                }
            }
            let lowest = errors.iter().copied().fold(f64::INFINITY, f64::min);
            let is_tied = |place: &usize| (errors[*place] - lowest).abs() <= TIED * lowest.abs();
            let tied: Vec<usize> = (0..bag.len()).filter(is_tied).collect();
            let old = tied.iter().find(|&&place| taken.contains(&bag[place]));
            let Some(&place) = old.or(tied.first()) else { break };
            let mut error = errors[place];
            if round == 0 && ROUNDED_ABOVE < error.abs() {
                rounded = true;
                error = round_to_six(error);
            }
            order.push(bag[place]);
            taken.insert(bag[place]);
            path.push(error);
            add(bag[place], &mut sum);
        }
        let lowest = path.iter().copied().fold(f64::INFINITY, f64::min);
        let first = path.iter().position(|&error| error == lowest).unwrap_or(0);
        order.truncate(started_with + first + 1);
        Ok(order)
    }
}

/// The error with each member of the bag added to `sum`.
fn errors(
    objective: &Objective<'_>,
    sum: &[f64],
    bag: &[usize],
    count: f64,
    ctx: &FitContext<'_>,
) -> Result<Vec<f64>> {
    let error = |&member: &usize| objective.with(sum, member, count);
    if ctx.threads.get() == 1 {
        return bag.iter().map(error).collect();
    }
    let errors: Vec<Result<f64>> = bag.par_iter().map(error).collect();
    errors.into_iter().collect()
}

fn round_to_six(error: f64) -> f64 {
    (error * 1e6).round_ties_even() / 1e6
}
