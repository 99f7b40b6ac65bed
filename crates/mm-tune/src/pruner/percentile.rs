//! Against the percentile of what others had reported by then.

use mm_core::{Direction, ParamError, Result};
use serde::{Deserialize, Serialize};

use super::{Decision, Pruner, Report};
use crate::trial::TrialState;

/// Gives up a trial whose best report so far is worse than a percentile of what complete trials
/// reported at the same step; the median by default (the median stopping rule of Golovin et al.,
/// *Google Vizier*, KDD 2017, in Optuna's form). O(trials) a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PercentilePruner {
    /// The share of trials, in percent, that is kept: 0 to 100, 50 by default.
    pub percentile: f64,
    /// So many trials must be complete before any is given up; 5 by default.
    pub startup_trials: usize,
    /// No trial is given up before it reports this step; 0 by default.
    pub warmup_steps: u64,
    /// Looks once in so many steps after the warm-up; ≥ 1, 1 by default.
    pub interval_steps: u64,
    /// So many trials must have reported at the step; ≥ 1, 1 by default.
    pub min_trials: usize,
}

impl Default for PercentilePruner {
    fn default() -> Self {
        Self {
            percentile: 50.0,
            startup_trials: 5,
            warmup_steps: 0,
            interval_steps: 1,
            min_trials: 1,
        }
    }
}

impl PercentilePruner {
    /// Checks the fields.
    pub fn check(&self) -> Result<(), ParamError> {
        let Self { percentile, interval_steps, min_trials, .. } = *self;
        let share = 0.0 <= percentile && percentile <= 100.0;
        ParamError::ensure(share, "percentile", percentile, "0 to 100")?;
        ParamError::ensure(1 <= interval_steps, "interval_steps", interval_steps, "at least 1")?;
        ParamError::ensure(1 <= min_trials, "min_trials", min_trials, "at least 1")
    }
}

impl Pruner for PercentilePruner {
    fn decide(&self, report: &Report<'_>) -> Result<Decision> {
        self.check()?;
        let complete = report.history.finished().iter();
        let complete = complete.filter(|trial| trial.state == TrialState::Complete);
        let n_complete = complete.clone().count();
        let Some((&step, _)) = report.trial.intermediate.last_key_value() else {
            return Ok(Decision::KEEP);
        };
        if n_complete < self.startup_trials.max(1) || step < self.warmup_steps {
            return Ok(Decision::KEEP);
        }
        // The first report of an interval is looked at, the others of it are not.
        let intervals = (step - self.warmup_steps) / self.interval_steps;
        let begin = self.warmup_steps + intervals * self.interval_steps;
        if report.trial.intermediate.range(begin..step).next().is_some() {
            return Ok(Decision::KEEP);
        }
        let direction = report.direction();
        let reports = report.trial.intermediate.values().copied().filter(|x| !x.is_nan());
        let best = match direction {
            Direction::Minimize => reports.reduce(f64::min),
            Direction::Maximize => reports.reduce(f64::max),
        };
        let Some(best) = best else { return Ok(Decision::PRUNE) };
        let mut others: Vec<f64> =
            complete.filter_map(|trial| trial.intermediate.get(&step).copied()).collect();
        if others.len() < self.min_trials {
            return Ok(Decision::KEEP);
        }
        others.retain(|x| !x.is_nan());
        others.sort_unstable_by(f64::total_cmp);
        let bar = match direction {
            Direction::Minimize => percentile(&others, self.percentile),
            Direction::Maximize => percentile(&others, 100.0 - self.percentile),
        };
        Ok(match bar {
            Some(bar) if direction.is_better(bar, best) => Decision::PRUNE,
            _ => Decision::KEEP,
        })
    }
}

/// The percentile of sorted values, linear between two of them (Hyndman & Fan's type 7).
fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = percent / 100.0 * last as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(if low == high { low } else { low + (high - low) * place.fract() })
}
