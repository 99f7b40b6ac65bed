//! What a plan says of a search.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Cost, CostKind, Family, Thrift, Trade, Tried};
use crate::{error::ParamError, metric::Direction, search::SpaceSize};

/// How a candidate's params are searched for: the `tune` of a [`Candidate`](crate::Candidate).
///
/// | key | default | meaning |
/// | --- | --- | --- |
/// | `trials` | 50 | configurations that are tried, over all processes that share the storage |
/// | `seconds` | no limit | when it is up, none is begun, and what runs is given up; only the first is let end |
/// | `space` | `medium` | how much of the params is searched |
/// | `also` | `[]` | further kinds, with params of their own, in the same search and under the same budget |
/// | `sampler` | the tuner's | who proposes: a name, or a table of `kind` and its params |
/// | `pruner` | none | who gives up early: the same |
/// | `steps` | `folds` | what a pruner sees: see [`Steps`] |
/// | `rungs` | none | boosters pause at rungs of rounds, and the best of each go on: see [`Rungs`] |
/// | `limits` | none | what a configuration may cost: see [`Cost`] |
/// | `thrift` | none | whether a cheaper one is chosen that is nearly as good: see [`Thrift`] |
/// | `storage` | the checkpoint | where trials are kept: a file or an address that the tuner knows |
///
/// What a candidate's `params` say is fixed; the search fills in the rest of its space. The first
/// trial of each kind has the kind's defaults, so the search finds nothing worse than these; the kind's
/// [portfolio](crate::Search::portfolio) comes next. The best configuration then takes the candidate's
/// place.
///
/// The search and the leaderboard use the same folds, so the winner's score is that of the best of
/// many draws and a little too good; compare it with candidates that were tuned as long, or hold a
/// test set back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TunePlan {
    /// Configurations that are tried.
    pub trials: u64,
    /// Seconds after which none is begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// How much of the params is searched.
    pub space: SpaceSize,
    /// Further kinds in the same search.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Family>,
    /// Who proposes.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub sampler: Value,
    /// Who gives up early.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub pruner: Value,
    /// What a pruner sees.
    pub steps: Steps,
    /// Where boosters pause, and how many go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rungs: Option<Rungs>,
    /// What a configuration may cost.
    #[serde(skip_serializing_if = "Cost::is_unknown")]
    pub limits: Cost,
    /// Whether a cheaper one is chosen that is nearly as good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thrift: Option<Thrift>,
    /// Where trials are kept; a relative path is taken from the plan's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
}

impl Default for TunePlan {
    fn default() -> Self {
        Self {
            trials: 50,
            seconds: None,
            space: SpaceSize::Medium,
            also: Vec::new(),
            sampler: Value::Null,
            pruner: Value::Null,
            steps: Steps::Folds,
            rungs: None,
            limits: Cost::default(),
            thrift: None,
            storage: None,
        }
    }
}

impl TunePlan {
    /// So many trials, everything else at its default.
    pub fn trials(trials: u64) -> Self {
        Self { trials, ..Self::default() }
    }

    /// Edits in place, for chaining.
    #[must_use]
    pub fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }

    /// What the search comes to of all that was `tried`: the best, the earliest of equals, or what the
    /// thrift chooses, and from what. None if nothing was tried.
    pub fn choose(&self, direction: Direction, tried: &[Tried]) -> Option<(Tried, Option<Trade>)> {
        if let Some(thrift) = self.thrift {
            let trade = thrift.trade(direction, tried)?;
            return Some((trade.chosen().clone(), Some(trade)));
        }
        let is_better = |a: &Tried, b: &Tried| direction.is_better(a.scored.score, b.scored.score);
        let best = tried.iter().reduce(|a, b| if is_better(b, a) { b } else { a })?;
        Some((best.clone(), None))
    }

    /// What the search is to lower beside the loss, if anything.
    pub fn second_objective(&self) -> Option<CostKind> {
        self.thrift.filter(|thrift| thrift.objective).map(|thrift| thrift.cost)
    }

    pub(super) fn check(&self) -> Result<(), ParamError> {
        self.limits.check_limits()?;
        self.thrift.map_or(Ok(()), Thrift::check)?;
        ParamError::ensure(1 <= self.trials, "trials", self.trials, "at least 1")?;
        self.rungs.map_or(Ok(()), Rungs::check)?;
        let seconds = self.seconds.unwrap_or(1.0);
        let ok = 0.0 < seconds && Duration::try_from_secs_f64(seconds).is_ok();
        ParamError::ensure(ok, "seconds", seconds, "a number of seconds above 0")
    }

    /// Whether what is stored must be weighed, which takes time.
    pub(super) fn weighs_models(&self) -> bool {
        let thrift = self.thrift.map(|thrift| thrift.cost);
        self.limits.model_bytes.is_some() || thrift == Some(CostKind::ModelBytes)
    }

    pub(in crate::orchestrator) fn relative_to(&mut self, folder: &Path) {
        if let Some(storage) = &mut self.storage
            && !storage.contains("://")
        {
            *storage = folder.join(PathBuf::from(&*storage)).to_string_lossy().into_owned();
        }
    }
}

/// What a pruner sees of a configuration that is being scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Steps {
    /// The score of each fold, once it is done.
    #[default]
    Folds,
    /// The mean over the folds, after each round, of the plan's metric on the validation data. It
    /// needs the plan's `validation`, and learners that report the plan's metric. The folds take
    /// turns, a round each.
    Rounds,
}

/// Rungs of boosting rounds: a trial ends when it has reached one, and its models are kept. Of the
/// trials on a rung the best 1/`eta` go on to the next, which has `eta` times as many rounds, from
/// the models that they have: no round is trained twice (asynchronous successive halving, Li et al.
/// 2020, with promotions instead of stops).
///
/// Each rung of a configuration is a trial of its own, and its score counts: the winner may be one
/// that was best with the rounds of a lower rung. The kinds must have `rounds`, which is not searched, or
/// be composites of which one member has, whose rounds are then those of the rung. A kind goes on in
/// either of two ways. One that [resumes](crate::Learner::resumes) comes to what a fit of so many rounds
/// at once comes to. One that continues from a model ([`WarmStart`](crate::WarmStart)) differs from that
/// by rounding, and by what is drawn at random; the winner is then fitted at once. A `bag`, `calibrated`,
/// or `conformal` resumes if what it wraps does. What can do neither, such as a `bag` of a kind that
/// continues, or whose settings depend on the number of rounds, is fitted from the start on each rung,
/// which costs a factor of at most `eta` / (`eta` − 1).
///
/// The best are those that can be [expected](crate::Climbed::expected) to come to most, so that those which
/// learn slowly are not paused for that alone. Where rounds can be scored (see [`Climbed::rounds`](crate::Climbed::rounds)), a trial counts with the
/// best of them, stops when the last third has been of no use, and does not go on if it was best well
/// before its rung.
///
/// A low first rung tries more configurations, but knows less of those that learn slowly.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `first` | 100 | ≥ 1 | rounds of the lowest rung |
/// | `last` | 900 | ≥ `first` | rounds of the highest |
/// | `eta` | 3 | ≥ 2 | one in so many goes on |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rungs {
    /// Rounds of the lowest rung.
    pub first: usize,
    /// Rounds of the highest.
    pub last: usize,
    /// One in so many goes on.
    pub eta: usize,
}

impl Default for Rungs {
    fn default() -> Self {
        Self { first: 100, last: 900, eta: 3 }
    }
}

impl Rungs {
    /// The rounds at which trials pause, lowest first. The highest rung may be a little nearer to the
    /// one below than `eta`, or farther from it: within √`eta` it has none.
    pub fn rounds(&self) -> Vec<usize> {
        let below = std::iter::successors(Some(self.first), |n| n.checked_mul(self.eta));
        let is_far = |n: &usize| (*n as f64) * (self.eta as f64).sqrt() <= self.last as f64;
        below.take_while(is_far).chain([self.last]).collect()
    }

    /// Rounds between two scores of a fit.
    pub(super) fn score_every(self) -> NonZeroUsize {
        NonZeroUsize::new(self.first / 20).unwrap_or(NonZeroUsize::MIN)
    }

    fn check(self) -> Result<(), ParamError> {
        let Self { first, last, eta } = self;
        ParamError::ensure(1 <= first, "rungs.first", first, "at least 1")?;
        ParamError::ensure(first <= last, "rungs.last", last, format!("at least {first}"))?;
        ParamError::ensure(2 <= eta, "rungs.eta", eta, "at least 2")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_lie_apart() {
        let rounds = |first, last, eta| Rungs { first, last, eta }.rounds();
        assert_eq!(rounds(100, 900, 3), [100, 300, 900]);
        assert_eq!(rounds(100, 1000, 3), [100, 300, 1000]);
        assert_eq!(rounds(50, 1000, 3), [50, 150, 450, 1000]);
        assert_eq!(rounds(7, 7, 2), [7]);
        assert_eq!(rounds(7, 8, 2), [8]);
    }
}
