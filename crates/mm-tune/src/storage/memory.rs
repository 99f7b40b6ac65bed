//! Studies in the memory of one process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use mm_core::{Direction, Error, Result};

use super::{Owner, Storage, StudyRecord, Write};
use crate::{
    distribution::Distribution,
    json::Json,
    trial::{Attrs, FrozenTrial, Param, StudyId, Timestamp, TrialId, TrialState},
};

/// A storage that ends with the process. Cheap: O(log n) a write, O(changes) a read.
#[derive(Debug, Default)]
pub struct MemoryStorage(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    studies: Vec<Option<Study>>,
    /// By id: its study, and its place there.
    trials: Vec<(usize, usize)>,
    beats: HashMap<TrialId, Instant>,
}

#[derive(Debug)]
struct Study {
    record: StudyRecord,
    trials: Vec<FrozenTrial>,
    /// A parameter's latest distribution, to which later ones must be alike.
    params: HashMap<Arc<str>, Arc<Distribution>>,
}

impl State {
    fn study(&mut self, id: StudyId) -> Result<&mut Study> {
        let found = usize::try_from(id.0).ok().and_then(|i| self.studies.get_mut(i)?.as_mut());
        found.ok_or_else(|| Error::NotFound { what: "study", name: id.0.to_string() })
    }

    /// The study of a trial, and the trial's place in it.
    fn place(&mut self, id: TrialId) -> Result<(&mut Study, usize)> {
        let not_found = || Error::NotFound { what: "trial", name: id.0.to_string() };
        let found = usize::try_from(id.0).ok().and_then(|i| self.trials.get(i));
        let &(study, place) = found.ok_or_else(not_found)?;
        let study = self.studies[study].as_mut().ok_or_else(not_found)?;
        Ok((study, place))
    }
}

impl MemoryStorage {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every write is whole before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryStorage {
    fn create_study(&self, name: &str, directions: &[Direction]) -> Result<StudyRecord> {
        super::check_study(name, directions)?;
        let mut state = self.lock();
        if state.studies.iter().flatten().any(|study| study.record.name == name) {
            return Err(super::taken(name));
        }
        let record = StudyRecord {
            id: StudyId(state.studies.len() as i64),
            name: name.to_owned(),
            directions: directions.to_vec(),
            user_attrs: Attrs::new(),
            system_attrs: Attrs::new(),
        };
        let study = Study { record: record.clone(), trials: Vec::new(), params: HashMap::new() };
        state.studies.push(Some(study));
        Ok(record)
    }

    fn study(&self, name: &str) -> Result<Option<StudyRecord>> {
        let state = self.lock();
        let found = state.studies.iter().flatten().find(|study| study.record.name == name);
        Ok(found.map(|study| study.record.clone()))
    }

    fn studies(&self) -> Result<Vec<StudyRecord>> {
        let state = self.lock();
        Ok(state.studies.iter().flatten().map(|study| study.record.clone()).collect())
    }

    fn delete_study(&self, study: StudyId) -> Result<()> {
        let mut state = self.lock();
        state.study(study)?;
        state.studies[study.0 as usize] = None;
        Ok(())
    }

    fn create_trial(&self, study: StudyId, template: Option<&FrozenTrial>) -> Result<FrozenTrial> {
        let mut state = self.lock();
        let id = TrialId(state.trials.len() as i64);
        let found = state.study(study)?;
        let number = found.trials.len() as u64;
        let trial = super::new_trial(id, number, template, Timestamp::now());
        for param in &trial.params {
            if let Some(earlier) = found.params.get(&param.name) {
                param.distribution.ensure_like(earlier, &param.name)?;
            }
        }
        for param in &trial.params {
            found.params.insert(param.name.clone(), param.distribution.clone());
        }
        found.trials.push(trial.clone());
        state.trials.push((study.0 as usize, number as usize));
        Ok(trial)
    }

    fn claim(&self, trial: TrialId) -> Result<bool> {
        let mut state = self.lock();
        let (study, place) = state.place(trial)?;
        let trial = &mut study.trials[place];
        if trial.state != TrialState::Waiting {
            return Ok(false);
        }
        trial.state = TrialState::Running;
        trial.started = Some(Timestamp::now());
        Ok(true)
    }

    fn write(&self, id: TrialId, writes: &[Write]) -> Result<()> {
        let mut state = self.lock();
        let (study, place) = state.place(id)?;
        let (trial, params) = (&mut study.trials[place], &mut study.params);
        super::ensure_unfinished(trial)?;
        for write in writes {
            if let Write::Param { name, distribution, .. } = write
                && let Some(earlier) = params.get(name)
            {
                distribution.ensure_like(earlier, name)?;
            }
        }
        for write in writes {
            match write {
                Write::Param { name, value, distribution } => {
                    params.insert(name.clone(), distribution.clone());
                    let (name, distribution) = (name.clone(), distribution.clone());
                    trial.params.insert(Param { name, value: *value, distribution });
                }
                Write::Intermediate { step, value } => {
                    trial.intermediate.insert(*step, *value);
                }
                Write::UserAttr(key, value) => {
                    trial.user_attrs.insert(key.clone(), value.clone());
                }
                Write::SystemAttr(key, value) => {
                    trial.system_attrs.insert(key.clone(), value.clone());
                }
                Write::Finish { state, values } => {
                    trial.values.clone_from(values);
                    trial.state = *state;
                    trial.completed = Some(Timestamp::now());
                }
            }
        }
        Ok(())
    }

    fn set_study_attr(&self, owner: Owner, key: &str, value: &Json) -> Result<()> {
        let mut state = self.lock();
        let attrs = match owner {
            Owner::StudyUser(id) => &mut state.study(id)?.record.user_attrs,
            Owner::StudySystem(id) => &mut state.study(id)?.record.system_attrs,
        };
        attrs.insert(key.to_owned(), value.clone());
        Ok(())
    }

    fn trial(&self, trial: TrialId) -> Result<FrozenTrial> {
        let mut state = self.lock();
        let (study, place) = state.place(trial)?;
        Ok(study.trials[place].clone())
    }

    fn changes(
        &self,
        study: StudyId,
        after: Option<TrialId>,
        unfinished: &[TrialId],
    ) -> Result<Vec<FrozenTrial>> {
        let mut state = self.lock();
        let trials = &state.study(study)?.trials;
        let first = after.map_or(0, |after| trials.partition_point(|trial| trial.id <= after));
        let known = unfinished.iter().filter(|&&id| Some(id) <= after);
        let mut changes: Vec<FrozenTrial> = known
            .filter_map(|&id| trials.binary_search_by_key(&id, |trial| trial.id).ok())
            .map(|i| trials[i].clone())
            .collect();
        changes.extend_from_slice(&trials[first..]);
        Ok(changes)
    }

    fn beat(&self, trial: TrialId) -> Result<()> {
        let mut state = self.lock();
        state.place(trial)?;
        state.beats.insert(trial, Instant::now());
        Ok(())
    }

    fn stale(&self, study: StudyId, grace: u64) -> Result<Vec<TrialId>> {
        let mut state = self.lock();
        let is_late = |beats: &HashMap<_, Instant>, id| {
            beats.get(&id).is_some_and(|beat| grace < beat.elapsed().as_secs())
        };
        let running = |trial: &&FrozenTrial| trial.state == TrialState::Running;
        let ids: Vec<TrialId> =
            state.study(study)?.trials.iter().filter(running).map(|trial| trial.id).collect();
        Ok(ids.into_iter().filter(|&id| is_late(&state.beats, id)).collect())
    }
}
