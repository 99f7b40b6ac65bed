//! What Optuna's tables hold, in whichever database they are.

use std::{collections::HashMap, sync::Arc};

use mm_core::{Direction, Error, Result};

use super::{Distributions, Owner};
use crate::{
    distribution::Distribution,
    trial::{Param, StudyId, Timestamp, TrialState},
};

/// The schema, unchanged from Optuna 3.2 to 5.0.
pub(super) const SCHEMA: i32 = 12;
/// Its revision, by the name that Alembic knows.
pub(super) const REVISION: &str = "v3.2.0.a";

/// The tables of what belongs to a trial.
pub(super) const OF_TRIALS: [&str; 6] = [
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_heartbeats",
];
/// The tables of what belongs to a study, and the studies themselves, in the order of removal.
pub(super) const OF_STUDIES: [&str; 5] =
    ["trials", "study_directions", "study_user_attributes", "study_system_attributes", "studies"];

/// Where an attribute of a study stands.
pub(super) fn attrs_of(owner: Owner) -> (&'static str, StudyId) {
    match owner {
        Owner::StudyUser(study) => ("study_user_attributes", study),
        Owner::StudySystem(study) => ("study_system_attributes", study),
    }
}

/// Distributions that were read or written before.
#[derive(Debug, Default)]
pub(super) struct Known {
    texts: Distributions,
    /// What each parameter of a study was last seen to be.
    params: HashMap<(StudyId, Arc<str>), Arc<Distribution>>,
}

impl Known {
    pub(super) fn distribution(&mut self, text: &str) -> Result<Arc<Distribution>> {
        self.texts.of(text)
    }

    /// Refuses a parameter unlike the study's others of that name; `earlier` looks up the distribution
    /// of one of them.
    pub(super) fn ensure_like(
        &mut self,
        study: StudyId,
        param: &Param,
        earlier: impl FnOnce() -> Result<Option<String>>,
    ) -> Result<()> {
        let key = (study, param.name.clone());
        if !self.params.contains_key(&key) {
            let Some(text) = earlier()? else { return Ok(()) };
            let earlier = self.distribution(&text)?;
            self.params.insert(key.clone(), earlier);
        }
        param.distribution.ensure_like(&self.params[&key], &param.name)
    }

    /// Remembers parameters that were written.
    pub(super) fn remember(&mut self, study: StudyId, params: Vec<Param>) {
        let seen = params.into_iter().map(|param| ((study, param.name), param.distribution));
        self.params.extend(seen);
    }

    /// Forgets a study that was removed.
    pub(super) fn forget(&mut self, study: StudyId) {
        self.params.retain(|(owner, _), _| *owner != study);
    }
}

pub(super) fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Minimize => "MINIMIZE",
        Direction::Maximize => "MAXIMIZE",
    }
}

pub(super) fn direction_of(name: &str) -> Direction {
    match name {
        "MAXIMIZE" => Direction::Maximize,
        _ => Direction::Minimize, // Optuna takes NOT_SET for it, too.
    }
}

pub(super) fn state_name(state: TrialState) -> &'static str {
    match state {
        TrialState::Running => "RUNNING",
        TrialState::Complete => "COMPLETE",
        TrialState::Pruned => "PRUNED",
        TrialState::Fail => "FAIL",
        TrialState::Waiting => "WAITING",
    }
}

pub(super) fn state_of(name: &str) -> Result<TrialState> {
    use TrialState::{Complete, Fail, Pruned, Running, Waiting};
    let states = [Running, Complete, Pruned, Fail, Waiting];
    let found = states.into_iter().find(|&state| state_name(state) == name);
    found.ok_or_else(|| Error::corrupt("a trial's state", "one of Optuna's five", name))
}

/// A number, or the name of what is none.
pub(super) fn stored(value: f64) -> (Option<f64>, &'static str) {
    match value {
        x if x.is_nan() => (None, "NAN"),
        f64::INFINITY => (None, "INF_POS"),
        f64::NEG_INFINITY => (None, "INF_NEG"),
        x => (Some(x), "FINITE"),
    }
}

pub(super) fn restored(value: Option<f64>, kind: &str) -> f64 {
    match kind {
        "INF_POS" => f64::INFINITY,
        "INF_NEG" => f64::NEG_INFINITY,
        _ => value.unwrap_or(f64::NAN),
    }
}

/// `YYYY-MM-DD HH:MM:SS.ffffff`, UTC, as Optuna 5.0 writes it.
pub(super) fn time_text(time: Timestamp) -> String {
    let text = mm_core::rfc3339::format(time.0.div_euclid(1_000_000) * 1_000_000_000);
    let seconds = text.get(..19).unwrap_or(&text).replace('T', " ");
    format!("{seconds}.{:06}", time.0.rem_euclid(1_000_000))
}

pub(super) fn time_of(text: Option<&str>) -> Result<Option<Timestamp>> {
    let Some(text) = text else { return Ok(None) };
    let nanos = mm_core::rfc3339::parse(text);
    let nanos = nanos.ok_or_else(|| Error::corrupt("a trial's time", "a date and time", text))?;
    Ok(Some(Timestamp(nanos.div_euclid(1000))))
}
