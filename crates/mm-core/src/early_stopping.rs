//! When a score on validation data has stopped getting better.

use serde::{Deserialize, Serialize};

use crate::{
    error::ParamError,
    metric::{Direction, Metric},
};

/// Stop an iterative fit once its score on the validation data has not improved for a while, and
/// keep the best iteration. Without validation data in the context it does nothing.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `rounds` | 50 | ≥ 1 | iterations without improvement before the fit stops |
/// | `min_delta` | 0.0 | ≥ 0 | an improvement must exceed this, in units of the metric |
/// | `metric` | none | any [`Metric`] for the task | none: [`Metric::default_for`] the task |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EarlyStopping {
    /// Iterations without improvement before the fit stops.
    pub rounds: usize,
    /// An improvement must exceed this.
    pub min_delta: f64,
    /// What is watched; the task's default metric if `None`.
    pub metric: Option<Metric>,
}

impl Default for EarlyStopping {
    fn default() -> Self {
        Self { rounds: 50, min_delta: 0.0, metric: None }
    }
}

impl EarlyStopping {
    /// Stops after `rounds` iterations without improvement of the task's default metric.
    pub fn after(rounds: usize) -> Self {
        Self { rounds, ..Self::default() }
    }

    /// Checks the fields; `name` is that of the parameter that holds them.
    pub fn check(&self, name: &str) -> Result<(), ParamError> {
        ParamError::ensure(1 <= self.rounds, format!("{name}.rounds"), self.rounds, "at least 1")?;
        let ok = 0.0 <= self.min_delta && self.min_delta.is_finite();
        let min_delta = format!("{name}.min_delta");
        ParamError::ensure(ok, min_delta, self.min_delta, "a finite number ≥ 0")?;
        self.metric.map_or(Ok(()), |metric| metric.check(&format!("{name}.metric")))
    }

    /// A fresh count for one fit whose scores get better in the given direction.
    pub fn patience(&self, direction: Direction) -> Patience {
        Patience { rounds: self.rounds, min_delta: self.min_delta, direction, best: None }
    }
}

/// Counts the iterations since the best score.
#[derive(Debug, Clone)]
pub struct Patience {
    rounds: usize,
    min_delta: f64,
    direction: Direction,
    best: Option<(usize, f64)>,
}

impl Patience {
    /// Takes the score of an iteration, counted from 1, and says whether patience is at an end. A
    /// NaN is no improvement.
    pub fn is_exhausted_by(&mut self, iteration: usize, score: f64) -> bool {
        let improves = match (self.best, self.direction) {
            _ if score.is_nan() => false,
            (None, _) => true,
            (Some((_, best)), Direction::Minimize) => score < best - self.min_delta,
            (Some((_, best)), Direction::Maximize) => best + self.min_delta < score,
        };
        if improves {
            self.best = Some((iteration, score));
        }
        iteration - self.best.map_or(0, |(at, _)| at) >= self.rounds
    }

    /// The best iteration, from 1, and its score.
    pub fn best(&self) -> Option<(usize, f64)> {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        direction: Direction,
        min_delta: f64,
        scores: &[f64],
        stops_at: Option<usize>,
        best: usize,
    ) {
        let stopping = EarlyStopping { min_delta, ..EarlyStopping::after(2) };
        let mut patience = stopping.patience(direction);
        let stopped = (1..).zip(scores).find(|&(i, &s)| patience.is_exhausted_by(i, s));
        assert_eq!(stopped.map(|(i, _)| i), stops_at);
        assert_eq!(patience.best().map(|(i, _)| i), (0 < best).then_some(best));
    }

    #[test]
    fn two_rounds_without_improvement_end_it() {
        check(Direction::Minimize, 0.0, &[3.0, 2.0, 2.0, 2.5, 1.0], Some(4), 2);
        check(Direction::Maximize, 0.0, &[3.0, 2.0, 4.0, 4.0, 5.0], None, 5);
        check(Direction::Minimize, 0.5, &[3.0, 2.8, 2.6, 1.0], Some(3), 1);
        check(Direction::Minimize, 0.0, &[f64::NAN, f64::NAN, 1.0], Some(2), 0);
    }

    #[test]
    fn a_metric_outside_its_domain_is_refused() {
        let metric = Some(Metric::Pinball { level: 2.0 });
        let error = EarlyStopping { metric, ..EarlyStopping::default() }.check("stop");
        assert_eq!(error.expect_err("level 2").name, "stop.metric.level");
    }
}
