//! Pruners that look at one trial alone, or wrap another.

use mm_core::{Direction, ParamError, Result};
use serde::{Deserialize, Serialize};

use super::{Decision, Pruner, Report};

/// Gives up a trial that reports NaN or a value beyond a bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThresholdPruner {
    /// Reports below are given up; −∞ by default.
    pub lower: f64,
    /// Reports above are given up; ∞ by default.
    pub upper: f64,
    /// No trial is given up before it reports this step; 0 by default.
    pub warmup_steps: u64,
}

impl Default for ThresholdPruner {
    fn default() -> Self {
        Self { lower: f64::NEG_INFINITY, upper: f64::INFINITY, warmup_steps: 0 }
    }
}

impl Pruner for ThresholdPruner {
    fn decide(&self, report: &Report<'_>) -> Result<Decision> {
        let Self { lower, upper, warmup_steps } = *self;
        let bounds = format!("{lower} and {upper}");
        ParamError::ensure(lower <= upper, "lower and upper", bounds, "lower ≤ upper")?;
        Ok(match report.trial.intermediate.last_key_value() {
            Some((&step, &value)) if warmup_steps <= step => {
                Decision::of(!(lower <= value && value <= upper))
            }
            _ => Decision::KEEP,
        })
    }
}

/// Lets a trial go on as long as it improves: asks `inner` only when the best of the last
/// `patience + 1` reports is worse than the best before them by more than `min_delta`.
#[derive(Debug)]
pub struct PatientPruner<P> {
    /// Who decides then; `None` gives up.
    pub inner: Option<P>,
    /// For how many reports a trial need not improve.
    pub patience: usize,
    /// What does not count as worse; ≥ 0.
    pub min_delta: f64,
}

impl<P: Pruner> Pruner for PatientPruner<P> {
    fn decide(&self, report: &Report<'_>) -> Result<Decision> {
        let delta = self.min_delta;
        ParamError::ensure(0.0 <= delta, "min_delta", delta, "at least 0")?;
        let reports: Vec<f64> = report.trial.intermediate.values().copied().collect();
        let Some(n_before) = reports.len().checked_sub(self.patience + 1).filter(|&n| 0 < n) else {
            return Ok(Decision::KEEP);
        };
        let (before, after) = reports.split_at(n_before);
        let better = match report.direction() {
            Direction::Minimize => f64::min,
            Direction::Maximize => f64::max,
        };
        // `min` and `max` pass over NaN.
        let best = |values: &[f64]| values.iter().copied().fold(f64::NAN, better);
        let worse = match report.direction() {
            Direction::Minimize => best(before) + delta < best(after),
            Direction::Maximize => best(after) < best(before) - delta,
        };
        match &self.inner {
            _ if !worse => Ok(Decision::KEEP),
            None => Ok(Decision::PRUNE),
            Some(inner) => inner.decide(report),
        }
    }
}
