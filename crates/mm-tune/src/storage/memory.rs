//! Studies in the memory of one process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use mm_core::{Direction, Result};

use super::{Owner, Storage, StudyRecord, Write, state::State};
use crate::{
    json::Json,
    trial::{FrozenTrial, StudyId, Timestamp, TrialId, TrialState},
};

/// A storage that ends with the process. Cheap: O(log n) a write, O(changes) a read.
#[derive(Debug, Default)]
pub struct MemoryStorage(Mutex<(State, HashMap<TrialId, Instant>)>);

impl MemoryStorage {
    fn lock(&self) -> MutexGuard<'_, (State, HashMap<TrialId, Instant>)> {
        // Every change is whole before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryStorage {
    fn is_shared(&self) -> bool {
        false
    }

    fn create_study(&self, name: &str, directions: &[Direction]) -> Result<StudyRecord> {
        self.lock().0.create_study(name, directions)
    }

    fn study(&self, name: &str) -> Result<Option<StudyRecord>> {
        Ok(self.lock().0.study(name).cloned())
    }

    fn studies(&self) -> Result<Vec<StudyRecord>> {
        Ok(self.lock().0.studies().cloned().collect())
    }

    fn delete_study(&self, study: StudyId) -> Result<()> {
        self.lock().0.delete_study(study)
    }

    fn create_trial(&self, study: StudyId, template: Option<&FrozenTrial>) -> Result<FrozenTrial> {
        let mut guard = self.lock();
        guard.0.create_trial(study, template, Timestamp::now()).map(|trial| (**trial).clone())
    }

    fn start_trial(
        &self,
        study: StudyId,
        below: Option<u64>,
        beats: bool,
    ) -> Result<Option<FrozenTrial>> {
        let (state, hearts) = &mut *self.lock();
        if !state.has_room(study, below)? {
            return Ok(None);
        }
        let trial = (**state.create_trial(study, None, Timestamp::now())?).clone();
        if beats {
            hearts.insert(trial.id, Instant::now());
        }
        Ok(Some(trial))
    }

    fn claim(&self, trial: TrialId, beats: bool) -> Result<bool> {
        let (state, hearts) = &mut *self.lock();
        let won = state.claim(trial, Timestamp::now())?;
        if won && beats {
            hearts.insert(trial, Instant::now());
        }
        Ok(won)
    }

    fn replace(&self, trial: TrialId, copy: &FrozenTrial) -> Result<Option<FrozenTrial>> {
        let (state, _) = &mut *self.lock();
        let Some(study) = state.study_of_running(trial)? else { return Ok(None) };
        state.check_new(study, copy)?;
        let now = Timestamp::now();
        let failed = Write::Finish { state: TrialState::Fail, values: Vec::new() };
        state.write(trial, &[failed], now)?;
        state.create_trial(study, Some(copy), now).map(|trial| Some((**trial).clone()))
    }

    fn write(&self, trial: TrialId, writes: &[Write]) -> Result<()> {
        self.lock().0.write(trial, writes, Timestamp::now())
    }

    fn set_study_attr(&self, owner: Owner, key: &str, value: &Json) -> Result<()> {
        self.lock().0.set_study_attr(owner, key, value.clone())
    }

    fn trial(&self, trial: TrialId) -> Result<Arc<FrozenTrial>> {
        self.lock().0.trial(trial).cloned()
    }

    fn changes(
        &self,
        study: StudyId,
        after: Option<TrialId>,
        unfinished: &[TrialId],
    ) -> Result<Vec<Arc<FrozenTrial>>> {
        self.lock().0.changes(study, after, unfinished)
    }

    fn beat(&self, trial: TrialId) -> Result<()> {
        let mut state = self.lock();
        state.0.trial(trial)?;
        state.1.insert(trial, Instant::now());
        Ok(())
    }

    fn stale(&self, study: StudyId, grace: u64) -> Result<Vec<TrialId>> {
        let (state, beats) = &mut *self.lock();
        let is_late =
            |id: &TrialId| beats.get(id).is_some_and(|beat| grace < beat.elapsed().as_secs());
        Ok(state.running(study)?.map(|trial| trial.id).filter(is_late).collect())
    }
}
