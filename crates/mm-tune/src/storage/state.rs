//! The state of a storage held in memory, and the changes that it admits: what [`MemoryStorage`]
//! guards with a mutex, and what a journal comes to when it is replayed.
//!
//! [`MemoryStorage`]: super::MemoryStorage

use std::{collections::HashMap, sync::Arc};

use mm_core::{Direction, Result};

use super::{Owner, StudyRecord, Write};
use crate::{
    attrs::Attrs,
    distribution::Distribution,
    json::Json,
    trial::{FrozenTrial, Param, StudyId, Timestamp, TrialId, TrialState},
};

/// Studies and their trials. Ids count from 0 and are never used again.
#[derive(Debug, Default)]
pub(super) struct State {
    studies: Vec<Option<Study>>,
    /// By id: its study, and its place there.
    trials: Vec<(usize, usize)>,
}

#[derive(Debug)]
pub(super) struct Study {
    pub(super) record: StudyRecord,
    pub(super) trials: Vec<Arc<FrozenTrial>>,
    /// A parameter's latest distribution, to which later ones must be alike.
    pub(super) params: HashMap<Arc<str>, Arc<Distribution>>,
}

impl State {
    /// The studies, and the study and place of each trial.
    pub(super) fn parts(&self) -> (&[Option<Study>], &[(usize, usize)]) {
        (&self.studies, &self.trials)
    }

    /// A state of its parts; `None` if a trial is not where it is said to be.
    pub(super) fn of_parts(
        studies: Vec<Option<Study>>,
        trials: Vec<(usize, usize)>,
    ) -> Option<Self> {
        let id_at = |&(study, place): &(usize, usize)| -> Option<Option<TrialId>> {
            let Some(study) = studies.get(study)? else { return Some(None) };
            Some(Some(study.trials.get(place)?.id))
        };
        let mut ids = trials.iter().enumerate();
        let sound = ids.all(|(id, at)| {
            id_at(at).is_some_and(|found| found.is_none_or(|found| found.0 == id as i64))
        });
        let n_there: usize = studies.iter().flatten().map(|study| study.trials.len()).sum();
        (sound && n_there <= trials.len()).then_some(Self { studies, trials })
    }

    pub(super) fn create_study(
        &mut self,
        name: &str,
        directions: &[Direction],
    ) -> Result<StudyRecord> {
        super::check_study(name, directions)?;
        if self.study(name).is_some() {
            return Err(super::taken(name));
        }
        let record = StudyRecord {
            id: StudyId(self.studies.len() as i64),
            name: name.to_owned(),
            directions: directions.to_vec(),
            user_attrs: Attrs::new(),
            system_attrs: Attrs::new(),
        };
        let study = Study { record: record.clone(), trials: Vec::new(), params: HashMap::new() };
        self.studies.push(Some(study));
        Ok(record)
    }

    pub(super) fn study(&self, name: &str) -> Option<&StudyRecord> {
        self.studies().find(|study| study.name == name)
    }

    pub(super) fn studies(&self) -> impl Iterator<Item = &StudyRecord> {
        self.studies.iter().flatten().map(|study| &study.record)
    }

    pub(super) fn delete_study(&mut self, id: StudyId) -> Result<()> {
        self.of_id(id)?;
        self.studies[id.0 as usize] = None;
        Ok(())
    }

    pub(super) fn set_study_attr(&mut self, owner: Owner, key: &str, value: Json) -> Result<()> {
        let attrs = match owner {
            Owner::StudyUser(id) => &mut self.of_id(id)?.record.user_attrs,
            Owner::StudySystem(id) => &mut self.of_id(id)?.record.system_attrs,
        };
        attrs.insert(key.to_owned(), value);
        Ok(())
    }

    /// Adds a trial; its id and number are given here, whatever `template` says.
    pub(super) fn create_trial(
        &mut self,
        study: StudyId,
        template: Option<&FrozenTrial>,
        now: Timestamp,
    ) -> Result<&Arc<FrozenTrial>> {
        let id = TrialId(self.trials.len() as i64);
        let found = self.of_id(study)?;
        let number = found.trials.len();
        let trial = super::new_trial(id, number as u64, template, now);
        found.ensure_alike(trial.params.iter())?;
        found.remember(trial.params.iter());
        found.trials.push(Arc::new(trial));
        self.trials.push((study.0 as usize, number));
        self.trial(id)
    }

    /// Whether the study has fewer than so many trials, copies of dead ones not counted.
    pub(super) fn has_room(&mut self, study: StudyId, below: Option<u64>) -> Result<bool> {
        let trials = &self.of_id(study)?.trials;
        let Some(below) = below else { return Ok(true) };
        let counts = |trial: &&Arc<FrozenTrial>| !trial.system_attrs.contains_key(super::FAILED);
        Ok((trials.len() as u64) < below || (trials.iter().filter(counts).count() as u64) < below)
    }

    /// The study of a running trial; `None` if it is not running.
    pub(super) fn study_of_running(&mut self, id: TrialId) -> Result<Option<StudyId>> {
        let (study, place) = self.place(id)?;
        let runs = study.trials[place].state == TrialState::Running;
        Ok(runs.then_some(study.record.id))
    }

    /// Whether `trial` could be added to `study`.
    pub(super) fn check_new(&mut self, study: StudyId, trial: &FrozenTrial) -> Result<()> {
        self.of_id(study)?.ensure_alike(trial.params.iter())
    }

    /// The id that the next trial will have.
    pub(super) fn next_trial(&self) -> TrialId {
        TrialId(self.trials.len() as i64)
    }

    /// Sets a waiting trial running; `false` if it is not waiting.
    pub(super) fn claim(&mut self, id: TrialId, now: Timestamp) -> Result<bool> {
        let (study, place) = self.place(id)?;
        if study.trials[place].state != TrialState::Waiting {
            return Ok(false);
        }
        let trial = Arc::make_mut(&mut study.trials[place]);
        trial.state = TrialState::Running;
        trial.started = Some(now);
        Ok(true)
    }

    /// Whether `writes` would be admitted.
    pub(super) fn check(&mut self, id: TrialId, writes: &[Write]) -> Result<()> {
        let (study, place) = self.place(id)?;
        super::ensure_unfinished(study.trials[place].state, study.trials[place].number)?;
        let params: Vec<Param> = writes.iter().filter_map(Write::param).collect();
        study.ensure_alike(params.iter())
    }

    pub(super) fn write(&mut self, id: TrialId, writes: &[Write], now: Timestamp) -> Result<()> {
        self.check(id, writes)?;
        let (study, place) = self.place(id)?;
        for write in writes {
            let trial = Arc::make_mut(&mut study.trials[place]);
            match write {
                Write::Param { .. } => {
                    if let Some(mut param) = write.param() {
                        // Thousands of trials share a few names and distributions.
                        if let Some((name, known)) = study.params.get_key_value(&param.name) {
                            param.share(name, known);
                        }
                        trial.params.insert(param.clone());
                        study.remember([&param]);
                    }
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
                    trial.completed = Some(now);
                    trial.params.fit();
                    trial.user_attrs.fit();
                    trial.system_attrs.fit();
                }
            }
        }
        Ok(())
    }

    pub(super) fn trial(&self, id: TrialId) -> Result<&Arc<FrozenTrial>> {
        let found = usize::try_from(id.0).ok().and_then(|i| self.trials.get(i));
        let trial = found.and_then(|&(study, i)| Some(&self.studies[study].as_ref()?.trials[i]));
        trial.ok_or_else(|| super::not_found("trial", id.0))
    }

    pub(super) fn changes(
        &mut self,
        study: StudyId,
        after: Option<TrialId>,
        unfinished: &[TrialId],
    ) -> Result<Vec<Arc<FrozenTrial>>> {
        let trials = &self.of_id(study)?.trials;
        let first = after.map_or(0, |after| trials.partition_point(|trial| trial.id <= after));
        let known = unfinished.iter().filter(|&&id| Some(id) <= after);
        let places = known.filter_map(|id| trials.binary_search_by_key(id, |trial| trial.id).ok());
        let mut changes: Vec<Arc<FrozenTrial>> = places.map(|i| trials[i].clone()).collect();
        changes.extend_from_slice(&trials[first..]);
        Ok(changes)
    }

    /// The running trials of a study.
    pub(super) fn running(
        &mut self,
        study: StudyId,
    ) -> Result<impl Iterator<Item = &Arc<FrozenTrial>>> {
        let trials = self.of_id(study)?.trials.iter();
        Ok(trials.filter(|trial| trial.state == TrialState::Running))
    }

    fn of_id(&mut self, id: StudyId) -> Result<&mut Study> {
        let found = usize::try_from(id.0).ok().and_then(|i| self.studies.get_mut(i)?.as_mut());
        found.ok_or_else(|| super::not_found("study", id.0))
    }

    /// The study of a trial, and the trial's place in it.
    fn place(&mut self, id: TrialId) -> Result<(&mut Study, usize)> {
        let found = usize::try_from(id.0).ok().and_then(|i| self.trials.get(i));
        let &(study, place) = found.ok_or_else(|| super::not_found("trial", id.0))?;
        let study = self.studies[study].as_mut().ok_or_else(|| super::not_found("trial", id.0))?;
        Ok((study, place))
    }
}

impl Study {
    fn ensure_alike<'a>(&self, params: impl IntoIterator<Item = &'a Param>) -> Result<()> {
        for param in params {
            if let Some(earlier) = self.params.get(&param.name) {
                param.distribution.ensure_like(earlier, &param.name)?;
            }
        }
        Ok(())
    }

    fn remember<'a>(&mut self, params: impl IntoIterator<Item = &'a Param>) {
        for param in params {
            match self.params.get_mut(&param.name) {
                Some(known) => *known = param.distribution.clone(),
                None => {
                    self.params.insert(param.name.clone(), param.distribution.clone());
                }
            }
        }
    }
}
