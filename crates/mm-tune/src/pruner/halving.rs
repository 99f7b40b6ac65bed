//! Rungs: trials go on only if they are among the best at each.

use mm_core::{Direction, ParamError, Result};
use serde::{Deserialize, Serialize};

use super::{Decision, Pruner, Report};
use crate::{
    history::History,
    json::Json,
    trial::{FrozenTrial, TrialState},
};

/// Asynchronous successive halving (Li et al., *A System for Massively Parallel Hyperparameter
/// Tuning*, MLSys 2020), in Optuna's form: rung *r* ends at step `min_resource * eta^(skip + r)`;
/// a trial passes it if its report there is among the best 1/`eta` of all that ended it so far, of
/// which one always is. O(trials) a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HalvingPruner {
    /// The step at which the first rung ends, ≥ 1; by default a hundredth of the steps of the
    /// longest complete trial, and none is given up before there is one.
    pub min_resource: Option<u64>,
    /// One in so many passes a rung; ≥ 2, 4 by default.
    pub eta: u64,
    /// So many rungs are left out at the bottom; 0 by default.
    pub skip_rungs: u32,
    /// The first so many trials of a rung do not pass it; 0 by default.
    pub bootstrap: usize,
}

impl Default for HalvingPruner {
    fn default() -> Self {
        Self { min_resource: None, eta: 4, skip_rungs: 0, bootstrap: 0 }
    }
}

impl HalvingPruner {
    /// Checks the fields.
    pub fn check(&self) -> Result<(), ParamError> {
        let least = self.min_resource.unwrap_or(1);
        ParamError::ensure(1 <= least, "min_resource", least, "at least 1")?;
        ParamError::ensure(2 <= self.eta, "eta", self.eta, "at least 2")
    }

    fn among<'a>(
        &self,
        report: &Report<'_>,
        others: &(impl Iterator<Item = &'a FrozenTrial> + Clone),
    ) -> Decision {
        let trial = report.trial;
        let Some((&step, &value)) = trial.intermediate.last_key_value() else {
            return Decision::KEEP;
        };
        let least = match self.min_resource {
            Some(least) => least,
            None => match longest(report.history) {
                Some(longest) => (longest / 100).max(1),
                None => return Decision::KEEP,
            },
        };
        let mut decision = Decision::KEEP;
        let mut rung = trial.system_attrs.keys().filter(|key| key.starts_with(RUNG)).count();
        loop {
            let power = self.eta.checked_pow(self.skip_rungs + rung as u32);
            let end = power.and_then(|power| least.checked_mul(power));
            if end.is_none_or(|end| step < end) {
                return decision;
            }
            if value.is_nan() {
                return Decision { prune: true, ..decision };
            }
            let key = format!("{RUNG}{rung}");
            let there = others.clone().filter_map(|other| other.system_attrs.get(&key)?.as_f64());
            let mut values: Vec<f64> = there.chain([value]).collect();
            decision.notes.push((key, Json::Float(value)));
            if values.len() <= self.bootstrap || !self.passes(&mut values, value, report) {
                return Decision { prune: true, ..decision };
            }
            rung += 1;
        }
    }

    fn passes(&self, values: &mut [f64], value: f64, report: &Report<'_>) -> bool {
        let last = (values.len() as u64 / self.eta).saturating_sub(1) as usize;
        match report.direction() {
            Direction::Minimize => value <= *values.select_nth_unstable_by(last, f64::total_cmp).1,
            Direction::Maximize => {
                *values.select_nth_unstable_by(last, |a, b| b.total_cmp(a)).1 <= value
            }
        }
    }
}

/// The attribute that tells with what a trial ended a rung.
const RUNG: &str = "completed_rung_";

/// The last step of the longest complete trial.
fn longest(history: &History) -> Option<u64> {
    let complete = history.finished().iter().filter(|trial| trial.state == TrialState::Complete);
    complete.filter_map(|trial| trial.intermediate.keys().next_back().copied()).max()
}

impl Pruner for HalvingPruner {
    fn decide(&self, report: &Report<'_>) -> Result<Decision> {
        self.check()?;
        Ok(self.among(report, &report.others()))
    }
}

/// Hyperband (Li et al., JMLR 2018) over [`HalvingPruner`]s, in Optuna's form: trials are dealt to
/// brackets that begin to halve at different rungs, by the hash of the study's name and the
/// trial's number, so that every worker deals alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HyperbandPruner {
    /// The step at which the first rung of the first bracket ends; ≥ 1, 1 by default.
    pub min_resource: u64,
    /// How many steps a trial has at most; by default one more than the longest complete trial,
    /// and none is given up before there is one.
    pub max_resource: Option<u64>,
    /// One in so many passes a rung; ≥ 2, 3 by default.
    pub eta: u64,
}

impl Default for HyperbandPruner {
    fn default() -> Self {
        Self { min_resource: 1, max_resource: None, eta: 3 }
    }
}

impl HyperbandPruner {
    /// Checks the fields.
    pub fn check(&self) -> Result<(), ParamError> {
        let Self { min_resource, eta, .. } = *self;
        ParamError::ensure(1 <= min_resource, "min_resource", min_resource, "at least 1")?;
        let most = self.max_resource.unwrap_or(min_resource);
        let expected = format!("at least {min_resource}, the min_resource");
        ParamError::ensure(min_resource <= most, "max_resource", most, expected)?;
        ParamError::ensure(2 <= eta, "eta", eta, "at least 2")
    }

    /// How many trials of each round every bracket gets.
    fn budgets(&self, max_resource: u64) -> Vec<u64> {
        let mut brackets = 1_u32;
        while self
            .eta
            .checked_pow(brackets)
            .and_then(|power| power.checked_mul(self.min_resource))
            .is_some_and(|steps| steps <= max_resource)
        {
            brackets += 1;
        }
        let n = u64::from(brackets);
        (0..brackets)
            .map(|bracket| {
                let s = brackets - 1 - bracket;
                (n * self.eta.pow(s)).div_ceil(u64::from(s) + 1)
            })
            .collect()
    }

    fn bracket(budgets: &[u64], study: &str, number: u64) -> usize {
        let hash = crc32(format!("{study}_{number}").as_bytes());
        let mut left = u64::from(hash) % budgets.iter().sum::<u64>();
        let place = budgets.iter().position(|&budget| {
            let here = left < budget;
            left = left.saturating_sub(budget);
            here
        });
        place.unwrap_or(0)
    }
}

impl Pruner for HyperbandPruner {
    fn decide(&self, report: &Report<'_>) -> Result<Decision> {
        self.check()?;
        let most = self.max_resource.or_else(|| longest(report.history).map(|last| last + 1));
        let Some(most) = most else { return Ok(Decision::KEEP) };
        let budgets = self.budgets(most);
        let bracket = |trial: &FrozenTrial| Self::bracket(&budgets, report.study, trial.number);
        let mine = bracket(report.trial);
        let halving = HalvingPruner {
            min_resource: Some(self.min_resource),
            eta: self.eta,
            skip_rungs: mine as u32,
            bootstrap: 0,
        };
        let others = report.others().filter(|trial| bracket(trial) == mine);
        Ok(halving.among(report, &others))
    }
}

/// CRC-32 (ISO-HDLC, as zlib and Python compute it).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_that_python_has() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926); // The check value of its definition.
    }

    #[test]
    fn hyperband_has_the_brackets_of_its_paper() {
        // Table 1 of Li et al. (2018) has R = 81, η = 3: five brackets; Optuna deals these numbers.
        let pruner = HyperbandPruner { max_resource: Some(81), ..HyperbandPruner::default() };
        assert_eq!(pruner.budgets(81), [81, 34, 15, 8, 5]);
        assert_eq!(pruner.budgets(1), [1]);
    }
}
