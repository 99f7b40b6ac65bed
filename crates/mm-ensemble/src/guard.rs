//! The leak guard: does what was learnt on top of the members hold on rows that nobody saw?
//!
//! # Idea
//!
//! A part of the rows is held out before anything is fitted: the latest rows where there are
//! timestamps, whole groups where there are groups, else rows at random. Members are cross-fitted
//! and combined on the rest, then fitted to the rest and asked about the part. Two things are wrong
//! with a combination:
//!
//! - It **over-fits** if it beats the weighted average in validation and loses to it outside (the
//!   rule of AutoGluon's dynamic stacking).
//! - It **leaks** if its validation score is better than its score outside by more than `sigmas`
//!   standard errors of the two, by bootstrap: so it looks when members predicted rows that they
//!   were fitted to, when rows of a group are on both sides of a fold, or when the world changed after
//!   the validation. The scores cannot tell these apart.
//!
//! In both cases the ensemble falls back to the weighted average: that of
//! [greedy selection](crate::GreedyParams) or the plain one, whichever is better outside.
//!
//! Cost: one more fit of each member to each fold of the rest and to the rest.
//!
//! # Limits
//!
//! A check on few rows misses what is small: with 500 rows outside, the standard error of an area
//! under the curve is about 0.02.
//!
//! # Sources
//!
//! AutoGluon 1.6.2, dynamic stacking (pull request 3616). Efron (1979), "Bootstrap methods".

use std::{collections::BTreeMap, fmt};

use mm_core::{
    Combiner, Dataset, Direction, Error, Evidence, FitContext, Fold, GroupKFold, Holdout, Matrix,
    Member, Metric, OutOfFold, ParamError, Result, Splitter as _, Task,
};
use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{average::AverageParams, greedy::GreedyParams, report::honest_predictions};

/// How an [`Ensemble`](crate::Ensemble) checks itself.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `fraction` | 1/9 | (0, 1) | the part of the rows held out for the check |
/// | `sigmas` | 3 | (0, ∞) | standard errors by which validation may flatter |
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Guard {
    /// The part of the rows held out.
    pub fraction: f64,
    /// Standard errors by which validation may flatter.
    pub sigmas: f64,
}

impl Default for Guard {
    fn default() -> Self {
        Self { fraction: 1.0 / 9.0, sigmas: 3.0 }
    }
}

/// What a [`Guard`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Verdict {
    /// What is wrong, if anything.
    pub finding: Finding,
    /// The combination's scores.
    pub combined: Pair,
    /// The scores of the weighted average that it was compared with.
    pub average: Pair,
    /// The standard error of the difference between validation and outside.
    pub standard_error: f64,
    /// What takes the combination's place, unless it is sound.
    pub fallback: Option<Fallback>,
}

/// A score in validation and one outside.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pair {
    /// On out-of-fold predictions.
    pub validation: f64,
    /// On rows that nobody saw.
    pub outside: f64,
}

/// What is wrong with a combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finding {
    /// Nothing.
    Sound,
    /// Better than the weighted average in validation, worse outside.
    Overfitted,
    /// Far better in validation than outside.
    Leaking,
}

/// What takes the place of a combination that is not sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fallback {
    /// Weights by [greedy selection](crate::GreedyParams).
    Greedy,
    /// Equal weights.
    Mean,
}

impl Fallback {
    pub(crate) fn combiner(self) -> Box<dyn Combiner> {
        match self {
            Self::Greedy => Box::new(GreedyParams::default()),
            Self::Mean => Box::new(AverageParams::default()),
        }
    }
}

/// Out-of-fold predictions that are to be examined, and where they come from.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Inside<'a> {
    /// The members' names and predictions, all of the same rows of `data`.
    pub members: &'a [(&'a str, &'a OutOfFold)],
    /// The data that they were cross-fitted on.
    pub data: &'a Dataset,
    /// The folds.
    pub folds: &'a [Fold],
}

impl<'a> Inside<'a> {
    /// Members cross-fitted on `data` over `folds`.
    pub fn new(
        members: &'a [(&'a str, &'a OutOfFold)],
        data: &'a Dataset,
        folds: &'a [Fold],
    ) -> Self {
        Self { members, data, folds }
    }
}

/// Samples of a bootstrap.
const SAMPLES: u64 = 60;

impl Guard {
    pub(crate) fn check(&self) -> Result<(), ParamError> {
        let ok = 0.0 < self.fraction && self.fraction < 1.0;
        ParamError::ensure(ok, "guard.fraction", self.fraction, "a number between 0 and 1")?;
        let ok = 0.0 < self.sigmas && self.sigmas.is_finite();
        ParamError::ensure(ok, "guard.sigmas", self.sigmas, "a finite number above 0")
    }

    /// The rows to fit on, and those held out.
    pub(crate) fn split(&self, data: &Dataset, seed: u64) -> Result<Fold> {
        let part = self.fraction;
        let folds = if data.frame().times().is_some() {
            Holdout::last(part).split(data, seed)
        } else if data.groups().is_some() {
            GroupKFold::new((1.0 / part).round().max(2.0) as usize).split(data, seed)
        } else if matches!(data.task(), Task::Regression) {
            Holdout::new(part).split(data, seed)
        } else {
            Holdout::stratified(part)
                .split(data, seed)
                .or_else(|_| Holdout::new(part).split(data, seed))
        };
        let folds = folds.map_err(|e| e.within("the guard's split"))?;
        folds.into_iter().next().ok_or_else(|| Error::data("the guard's split", "1 fold", "none"))
    }

    /// Examines `combiner`: `inside` are the members' out-of-fold predictions, `outside` what the
    /// members, fitted to all of the inside data, predict of the rows of `held_out`, which nobody
    /// saw.
    ///
    /// # Errors
    ///
    /// What the combiners and the metric refuse, such as held-out rows of one class for an area.
    pub fn examine(
        &self,
        combiner: &dyn Combiner,
        inside: Inside<'_>,
        outside: &[&Matrix],
        held_out: &Dataset,
        metric: Metric,
        ctx: &FitContext<'_>,
    ) -> Result<Verdict> {
        let Inside { members, data, folds } = inside;
        let Some((_, first)) = members.first() else {
            return Err(Error::data("members", "at least 1", "none"));
        };
        let rows = first.rows();
        let named: Vec<Member<'_>> =
            members.iter().map(|(name, all)| Member::new(name, all.predictions())).collect();
        let seen = data.take(rows);
        let judge = |combiner: &dyn Combiner| -> Result<Judged> {
            let evidence = Evidence::new(&named, rows, data, folds);
            let validated = honest_predictions(combiner, evidence, metric, ctx)?;
            let combination = combiner.combine(&named, &seen, metric, ctx)?;
            let predicted = combination.apply(outside, held_out.frame())?;
            let truth = data.take(validated.rows());
            let validation = metric.score(truth.truth(), validated.predictions())?;
            let outside = metric.score(held_out.truth(), &predicted)?;
            let scores = Pair { validation, outside };
            Ok(Judged { scores, truth, validated: validated.into_parts().1, predicted })
        };
        let own = judge(combiner)?;
        let greedy = judge(&GreedyParams::default())?;
        let plain = judge(&AverageParams::default())?;
        let better = |a: f64, b: f64| metric.direction().is_better(a, b);
        let (fallback, average) = if better(plain.scores.outside, greedy.scores.outside) {
            (Fallback::Mean, plain.scores)
        } else {
            (Fallback::Greedy, greedy.scores)
        };
        let errors = [
            bootstrap(metric, &own.truth, &own.validated, ctx.fork(0).seed),
            bootstrap(metric, held_out, &own.predicted, ctx.fork(1).seed),
        ];
        let standard_error = errors[0].hypot(errors[1]);
        let scores = own.scores;
        let flattery = match metric.direction() {
            Direction::Minimize => scores.outside - scores.validation,
            Direction::Maximize => scores.validation - scores.outside,
        };
        let finding = if self.sigmas * standard_error < flattery {
            Finding::Leaking
        } else if better(scores.validation, average.validation)
            && better(average.outside, scores.outside)
        {
            Finding::Overfitted
        } else {
            Finding::Sound
        };
        let fallback = (finding != Finding::Sound).then_some(fallback);
        Ok(Verdict { finding, combined: scores, average, standard_error, fallback })
    }
}

/// A combination's scores, and what they are of.
struct Judged {
    scores: Pair,
    truth: Dataset,
    validated: Matrix,
    predicted: Matrix,
}

/// The standard deviation of a score over samples with replacement, drawn as row weights: of whole
/// groups where there are groups, whose rows do not tell apart by themselves.
fn bootstrap(metric: Metric, data: &Dataset, predicted: &Matrix, seed: u64) -> f64 {
    let truth = data.truth();
    let mut parts: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for row in 0..data.n_rows() {
        let part = data.groups().map_or(row as i64, |groups| groups[row]);
        parts.entry(part).or_default().push(row);
    }
    let parts: Vec<Vec<usize>> = parts.into_values().collect();
    let sample = |i: u64| {
        let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_add(i));
        let mut weights = vec![0.0; data.n_rows()];
        for _ in 0..parts.len() {
            for &row in &parts[random.random_range(0..parts.len())] {
                weights[row] += truth.weights.map_or(1.0, |w| w[row]);
            }
        }
        metric.score(truth.weighted(&weights), predicted).ok() // One class only, now and then.
    };
    let scores: Vec<f64> = (0..SAMPLES).filter_map(sample).collect();
    let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    let squares: f64 = scores.iter().map(|s| (s - mean).powi(2)).sum();
    (squares / scores.len().saturating_sub(1).max(1) as f64).sqrt()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { combined, average, standard_error, .. } = self;
        f.write_str(match self.finding {
            Finding::Sound => "sound",
            Finding::Overfitted => {
                "over-fitted: better than the weighted average in validation, worse outside"
            }
            Finding::Leaking => {
                "leaking, or the data changed: far better in validation than outside"
            }
        })?;
        write!(
            f,
            " (combined {:.5} in validation, {:.5} outside; average {:.5}, {:.5}; standard error {standard_error:.5})",
            combined.validation, combined.outside, average.validation, average.outside,
        )?;
        match self.fallback {
            Some(Fallback::Greedy) => f.write_str("; weights by greedy selection instead"),
            Some(Fallback::Mean) => f.write_str("; equal weights instead"),
            None => Ok(()),
        }
    }
}
