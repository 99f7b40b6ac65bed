//! What a plan says of a search.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Family, Scored};
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
/// | `limits` | none | what a configuration may cost: see [`Limits`] |
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
    #[serde(skip_serializing_if = "Limits::are_none")]
    pub limits: Limits,
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
            limits: Limits::default(),
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

    /// Which of `all` the search comes to, by index: the best, or what the thrift chooses; the earliest
    /// of equals.
    pub fn choose(&self, direction: Direction, all: &[Scored]) -> Option<usize> {
        let best = || {
            (0..all.len())
                .reduce(|a, b| if direction.is_better(all[b].score, all[a].score) { b } else { a })
        };
        self.thrift.map_or_else(best, |thrift| thrift.choose(direction, all))
    }

    pub(super) fn check(&self) -> Result<(), ParamError> {
        self.limits.check()?;
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
/// that was best with the rounds of a lower rung. The kinds must have `rounds`, which is not searched,
/// and be able to go on, in either of two ways. One that
/// [resumes](crate::Learner::resumes) comes to what a fit of so many rounds at once comes to; where
/// its settings depend on the number of rounds it is fitted from the start on each rung, which costs
/// a factor of at most `eta` / (`eta` − 1). One that continues from a model
/// ([`WarmStart`](crate::WarmStart)) differs from that by rounding, and by what is drawn at random;
/// the winner is then fitted at once.
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

/// What a configuration may cost: a fit of any fold, or the mean over the folds of what else there is.
/// One that costs more is not chosen, and the sampler learns that it was no good.
///
/// | field | default | domain | limits |
/// | --- | ---: | --- | --- |
/// | `fit_seconds` | none | > 0 | seconds of a fit, which is ended when they are up |
/// | `predict_micros` | none | > 0 | microseconds that a row takes to predict, among all those of a fold |
/// | `trees` | none | > 0 | trees of a model, where it has any |
/// | `model_bytes` | none | > 0 | bytes of a stored model |
///
/// Times depend on the machine and on what else it does, so a search with limits on them does not
/// repeat another exactly.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// Seconds of a fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit_seconds: Option<f64>,
    /// Microseconds that a row takes to predict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predict_micros: Option<f64>,
    /// Trees of a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trees: Option<f64>,
    /// Bytes of a stored model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_bytes: Option<f64>,
}

impl Limits {
    /// Those that are set.
    pub fn iter(&self) -> impl Iterator<Item = (CostKind, f64)> {
        let all = CostKind::ALL.into_iter().zip([
            self.fit_seconds,
            self.predict_micros,
            self.trees,
            self.model_bytes,
        ]);
        all.filter_map(|(kind, limit)| Some((kind, limit?)))
    }

    fn are_none(&self) -> bool {
        *self == Self::default()
    }

    fn check(&self) -> Result<(), ParamError> {
        for (kind, limit) in self.iter() {
            let ok = 0.0 < limit && limit.is_finite();
            ParamError::ensure(ok, format!("limits.{}", kind.name()), limit, "a number above 0")?;
        }
        let seconds = self.fit_seconds.unwrap_or(1.0);
        let ok = Duration::try_from_secs_f64(seconds).is_ok();
        ParamError::ensure(ok, "limits.fit_seconds", seconds, "seconds that can be counted")
    }
}

/// Something that a configuration costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostKind {
    /// Seconds of a fit.
    FitSeconds,
    /// Microseconds that a row takes to predict.
    PredictMicros,
    /// Trees of a model.
    Trees,
    /// Bytes of a stored model.
    ModelBytes,
}

impl CostKind {
    /// All there are.
    pub const ALL: [Self; 4] =
        [Self::FitSeconds, Self::PredictMicros, Self::Trees, Self::ModelBytes];

    /// As plans and trials spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FitSeconds => "fit_seconds",
            Self::PredictMicros => "predict_micros",
            Self::Trees => "trees",
            Self::ModelBytes => "model_bytes",
        }
    }
}

/// Trades a little of the score for less cost: of the configurations that are nearly as good as the
/// best, the cheapest is chosen.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `cost` | | see [`CostKind`] | what is to be low |
/// | `tolerance` | one standard error | ≥ 0 | how much worse than the best is nearly as good: this share of the best's score |
///
/// The standard error is that of the best's mean over the folds (Breiman, Friedman, Olshen & Stone
/// 1984, "Classification and regression trees", chapter 3). Folds share most of their training rows, so
/// it is a rule of thumb and no test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Thrift {
    /// What is to be low.
    pub cost: CostKind,
    /// How much worse than the best is nearly as good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
}

impl Thrift {
    /// The cheapest within one standard error of the best.
    pub fn of(cost: CostKind) -> Self {
        Self { cost, tolerance: None }
    }

    /// The cheapest within this share of the best's score.
    #[must_use]
    pub fn within(self, tolerance: f64) -> Self {
        Self { tolerance: Some(tolerance), ..self }
    }

    /// The cheapest of `all` that is nearly as good as the best of them, by index; the better of
    /// equals. What it costs must be known, unless nothing is known of any.
    fn choose(self, direction: Direction, all: &[Scored]) -> Option<usize> {
        let is_better = |a: usize, b: usize| direction.is_better(all[a].score, all[b].score);
        let better = |a, b| if is_better(b, a) { b } else { a };
        let best = (0..all.len()).reduce(better)?;
        let Scored { score, error, .. } = all[best];
        let slack = self.tolerance.map_or(error, |share| share * score.abs());
        let is_near = |i: &usize| (all[*i].score - score).abs() <= slack;
        let cost = |i: usize| all[i].cost.get(self.cost).unwrap_or(f64::INFINITY);
        (0..all.len()).filter(is_near).reduce(|a, b| match cost(a).total_cmp(&cost(b)) {
            std::cmp::Ordering::Less => a,
            std::cmp::Ordering::Greater => b,
            std::cmp::Ordering::Equal => better(a, b),
        })
    }

    fn check(self) -> Result<(), ParamError> {
        let share = self.tolerance.unwrap_or(0.0);
        let ok = 0.0 <= share && share.is_finite();
        ParamError::ensure(ok, "thrift.tolerance", share, "a finite number ≥ 0")
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Cost, *};

    fn scored(score: f64, error: f64, trees: f64) -> Scored {
        let cost = Cost { trees: Some(trees), ..Cost::default() };
        Scored { score, error, cost }
    }

    #[test]
    fn the_cheapest_that_is_nearly_as_good_is_chosen() {
        let all = [scored(0.30, 0.01, 900.0), scored(0.305, 0.02, 300.0), scored(0.32, 0.0, 10.0)];
        let choose = |thrift: Thrift| thrift.choose(Direction::Minimize, &all);
        let thrift = Thrift::of(CostKind::Trees);
        assert_eq!(choose(thrift), Some(1), "within one standard error of the best");
        assert_eq!(choose(thrift.within(0.0)), Some(0));
        assert_eq!(choose(thrift.within(0.1)), Some(2));
        assert_eq!(choose(Thrift::of(CostKind::ModelBytes)), Some(0), "unknown costs do not win");
        assert_eq!(thrift.choose(Direction::Maximize, &all), Some(2), "where more is better");
        assert_eq!(thrift.choose(Direction::Minimize, &[]), None);
    }

    #[test]
    fn rungs_lie_apart() {
        let rounds = |first, last, eta| Rungs { first, last, eta }.rounds();
        assert_eq!(rounds(100, 900, 3), [100, 300, 900]);
        assert_eq!(rounds(100, 1000, 3), [100, 300, 1000]);
        assert_eq!(rounds(50, 1000, 3), [50, 150, 450, 1000]);
        assert_eq!(rounds(7, 7, 2), [7]);
        assert_eq!(rounds(7, 8, 2), [8]);
    }

    #[test]
    fn limits_and_tolerances_are_numbers_above_0() {
        let limited = |edit: fn(&mut Limits)| {
            let mut plan = TunePlan::trials(1);
            edit(&mut plan.limits);
            plan.check().map_err(|e| e.name)
        };
        assert_eq!(limited(|it| it.trees = Some(1.0)), Ok(()));
        assert_eq!(limited(|it| it.trees = Some(0.0)), Err("limits.trees".to_owned()));
        assert_eq!(
            limited(|it| it.fit_seconds = Some(f64::NAN)),
            Err("limits.fit_seconds".to_owned())
        );
        assert_eq!(
            limited(|it| it.fit_seconds = Some(1e300)),
            Err("limits.fit_seconds".to_owned())
        );
        let thrift = Some(Thrift::of(CostKind::Trees).within(-0.1));
        let plan = TunePlan::trials(1).with(|plan| plan.thrift = thrift);
        assert_eq!(plan.check().map_err(|e| e.name), Err("thrift.tolerance".to_owned()));
    }
}
