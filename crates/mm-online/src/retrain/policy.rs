//! When to retrain.

use mm_core::{Metric, ParamError, Result};
use serde::{Deserialize, Serialize};

use super::schedule::Schedule;
use crate::bytes::{Decoder, Encoder};

/// When a batch model is to be fitted anew. Any of the triggers suffices; none holds within the
/// cooldown after the last retraining, or before there are `min_rows`.
///
/// | field | default | domain | triggers |
/// | --- | ---: | --- | --- |
/// | `drift` | `true` | | when the service's detector or monitor, or [`Service::signal_drift`](crate::Service::signal_drift), says so |
/// | `floor` | none | | when a rolling metric is worse than a bound |
/// | `every_rows` | none | ≥ 1 | after so many labelled rows |
/// | `max_age` | none | > 0 | when the model is so many ns old |
/// | `schedule` | none | | at a time of the day, week, or month |
/// | `min_rows` | 1000 | | labelled rows before the first retraining |
/// | `cooldown_rows` | 1000 | | labelled rows between retrainings |
/// | `cooldown` | 0 | ≥ 0 | ns between retrainings |
///
/// Time is that of the stream: a row's time, never the clock of the machine, so that a stream
/// that is replayed retrains at the same rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RetrainPolicy {
    /// Retrain when a drift is seen.
    pub drift: bool,
    /// Retrain when a rolling metric is worse than a bound.
    pub floor: Option<Floor>,
    /// Retrain after so many labelled rows.
    pub every_rows: Option<u64>,
    /// Retrain when the model is so many ns old.
    pub max_age: Option<i64>,
    /// Retrain at set times.
    pub schedule: Option<Schedule>,
    /// Labelled rows before the first retraining.
    pub min_rows: u64,
    /// Labelled rows between retrainings.
    pub cooldown_rows: u64,
    /// Nanoseconds between retrainings.
    pub cooldown: i64,
}

/// A bound that a rolling metric must keep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// What is measured, over the rolling window.
    pub metric: Metric,
    /// The worst value that is tolerated.
    pub worst: f64,
    /// Labelled rows between two looks, since a look costs a pass over the window.
    #[serde(default = "hundred")]
    pub every: u64,
}

fn hundred() -> u64 {
    100
}

impl Default for RetrainPolicy {
    fn default() -> Self {
        Self {
            drift: true,
            floor: None,
            every_rows: None,
            max_age: None,
            schedule: None,
            min_rows: 1000,
            cooldown_rows: 1000,
            cooldown: 0,
        }
    }
}

impl RetrainPolicy {
    /// Checks every field.
    pub fn check(&self) -> Result<(), ParamError> {
        if let Some(floor) = &self.floor {
            let ok = floor.worst.is_finite();
            ParamError::ensure(ok, "retrain.floor.worst", floor.worst, "a finite number")?;
            ParamError::ensure(1 <= floor.every, "retrain.floor.every", floor.every, "≥ 1")?;
        }
        if let Some(rows) = self.every_rows {
            ParamError::ensure(1 <= rows, "retrain.every_rows", rows, "≥ 1")?;
        }
        if let Some(age) = self.max_age {
            ParamError::ensure(0 < age, "retrain.max_age", age, "> 0")?;
        }
        if let Some(schedule) = &self.schedule {
            schedule.check()?;
        }
        ParamError::ensure(0 <= self.cooldown, "retrain.cooldown", self.cooldown, "≥ 0")
    }
}

/// Why a model is to be fitted anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// A drift was seen.
    Drift,
    /// A rolling metric is worse than its bound.
    Floor,
    /// Enough rows came.
    Rows,
    /// The model is old.
    Age,
    /// A set time has come.
    Schedule,
}

impl Reason {
    const ALL: [Self; 5] = [Self::Drift, Self::Floor, Self::Rows, Self::Age, Self::Schedule];
}

/// What a policy looks at after a labelled row.
pub(crate) struct Look<'a> {
    /// The latest time of the stream.
    pub(crate) now: Option<i64>,
    /// The value of the floor's metric; asked for only when it is time for a look.
    pub(crate) metric: &'a dyn Fn(Metric) -> Option<f64>,
}

/// Where a policy stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Watch {
    rows: u64,
    rows_at_last: u64,
    last: Option<i64>, // When the model was last fitted; the first time of the stream before.
    has_drifted: bool, // Since the last retraining.
    has_retrained: bool,
    due: Option<Reason>,
}

impl Watch {
    /// Whether the model is to be fitted anew, and why. Stays until [`reset`](Self::reset).
    pub(crate) fn due(&self) -> Option<Reason> {
        self.due
    }

    /// A drift was seen.
    pub(crate) fn drifted(&mut self) {
        self.has_drifted = true;
    }

    /// A model was fitted anew, or could not be: the cooldown begins.
    pub(crate) fn reset(&mut self, now: Option<i64>) {
        self.rows_at_last = self.rows;
        self.last = now.or(self.last);
        self.has_retrained = true;
        self.has_drifted = false;
        self.due = None;
    }

    /// Looks once more after a labelled row.
    pub(crate) fn step(&mut self, policy: &RetrainPolicy, look: &Look<'_>) {
        self.rows += 1;
        let last = *self.last.get_or_insert(look.now.unwrap_or(i64::MIN));
        if last == i64::MIN {
            self.last = None; // No row had a time so far.
        }
        if self.due.is_some() {
            return;
        }
        let since = self.rows - self.rows_at_last;
        let age = self.last.zip(look.now).map(|(last, now)| now.saturating_sub(last));
        let is_cool = !self.has_retrained
            || (policy.cooldown_rows <= since && age.is_none_or(|age| policy.cooldown <= age));
        if !is_cool || self.rows < policy.min_rows {
            return;
        }
        let is_below = || {
            policy.floor.as_ref().is_some_and(|floor| {
                let value = || (look.metric)(floor.metric);
                self.rows.is_multiple_of(floor.every)
                    && value().is_some_and(|v| floor.metric.direction().is_better(floor.worst, v))
            })
        };
        let has_struck = || {
            let schedule = policy.schedule.as_ref()?;
            let (last, now) = self.last.zip(look.now)?;
            Some(schedule.next_after(last)? <= now)
        };
        self.due = if policy.drift && self.has_drifted {
            Some(Reason::Drift)
        } else if is_below() {
            Some(Reason::Floor)
        } else if policy.every_rows.is_some_and(|rows| rows <= since) {
            Some(Reason::Rows)
        } else if policy.max_age.zip(age).is_some_and(|(max, age)| max <= age) {
            Some(Reason::Age)
        } else if has_struck() == Some(true) {
            Some(Reason::Schedule)
        } else {
            None
        };
    }

    pub(crate) fn encode(&self, to: &mut Encoder) {
        to.u64(self.rows);
        to.u64(self.rows_at_last);
        to.option_i64(self.last);
        to.flag(self.has_drifted);
        to.flag(self.has_retrained);
        let due = self.due.and_then(|due| Reason::ALL.iter().position(|&reason| reason == due));
        to.u8(due.map_or(0, |due| due as u8 + 1));
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        let (rows, rows_at_last, last) = (from.u64()?, from.u64()?, from.option_i64()?);
        let (has_drifted, has_retrained) = (from.flag()?, from.flag()?);
        let due = match usize::from(from.u8()?) {
            0 => None,
            n => Some(*Reason::ALL.get(n - 1).ok_or_else(|| from.damaged("a reason", n))?),
        };
        Ok(Self { rows, rows_at_last, last, has_drifted, has_retrained, due })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000_000;

    /// Rows after which each retraining was due, of `n` rows a day apart.
    fn run(
        policy: &RetrainPolicy,
        n: u64,
        drift_at: u64,
        metric: fn(u64) -> f64,
    ) -> Vec<(u64, Reason)> {
        policy.check().expect("valid");
        let mut watch = Watch::default();
        let mut due = Vec::new();
        for i in 1..=n {
            if i == drift_at {
                watch.drifted();
            }
            let now = Some(i as i64 * DAY);
            watch.step(policy, &Look { now, metric: &|_| Some(metric(i)) });
            if let Some(reason) = watch.due() {
                due.push((i, reason));
                watch.reset(now);
            }
        }
        due
    }

    fn quiet() -> RetrainPolicy {
        RetrainPolicy { min_rows: 10, cooldown_rows: 20, ..RetrainPolicy::default() }
    }

    #[test]
    fn every_trigger_fires_by_its_own_rule() {
        let never = |_| 0.0;
        assert_eq!(run(&quiet(), 100, 0, never), []);
        assert_eq!(run(&quiet(), 100, 50, never), [(50, Reason::Drift)]);
        let policy = RetrainPolicy { every_rows: Some(40), ..quiet() };
        assert_eq!(run(&policy, 100, 0, never), [(40, Reason::Rows), (80, Reason::Rows)]);
        let policy = RetrainPolicy { max_age: Some(30 * DAY), ..quiet() };
        assert_eq!(run(&policy, 70, 0, never), [(31, Reason::Age), (61, Reason::Age)]);
        let floor = Some(Floor { metric: Metric::LogLoss, worst: 0.5, every: 10 });
        let policy = RetrainPolicy { floor, ..quiet() };
        let bad_from_35 = |i| if i < 35 { 0.4 } else { 0.6 };
        assert_eq!(run(&policy, 70, 0, bad_from_35), [(40, Reason::Floor), (60, Reason::Floor)]);
        // Rows come at midnight, from 2 January 1970 on; the first of February is row 31.
        let schedule = Some(Schedule::Monthly { day: 1, hour: 0 });
        let policy = RetrainPolicy { schedule, ..quiet() };
        let months = [(31, Reason::Schedule), (59, Reason::Schedule), (90, Reason::Schedule)];
        assert_eq!(run(&policy, 100, 0, never), months);
    }

    #[test]
    fn nothing_is_due_too_early_or_within_the_cooldown() {
        let policy = RetrainPolicy { every_rows: Some(1), ..quiet() };
        let due: Vec<u64> = run(&policy, 60, 0, |_| 0.0).iter().map(|d| d.0).collect();
        assert_eq!(due, [10, 30, 50]);
        let policy = RetrainPolicy { every_rows: Some(1), cooldown: 25 * DAY, ..quiet() };
        let due: Vec<u64> = run(&policy, 60, 0, |_| 0.0).iter().map(|d| d.0).collect();
        assert_eq!(due, [10, 35, 60]);
    }

    #[test]
    fn a_drift_in_the_cooldown_is_not_forgotten() {
        let policy = RetrainPolicy { every_rows: None, ..quiet() };
        assert_eq!(run(&policy, 60, 3, |_| 0.0), [(10, Reason::Drift)]);
    }

    #[test]
    fn bad_parameters_are_refused() {
        assert!(RetrainPolicy { every_rows: Some(0), ..quiet() }.check().is_err());
        assert!(RetrainPolicy { max_age: Some(0), ..quiet() }.check().is_err());
        assert!(RetrainPolicy { cooldown: -1, ..quiet() }.check().is_err());
        let schedule = Some(Schedule::Daily { hour: 24 });
        assert!(RetrainPolicy { schedule, ..quiet() }.check().is_err());
    }
}
