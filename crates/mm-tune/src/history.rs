//! What a study has learnt so far: the sampler's and the pruner's view.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mm_core::Result;

use crate::{
    storage::Storage,
    trial::{FrozenTrial, StudyId, TrialId},
};

/// The trials of a study, kept in step with a storage without reading finished ones twice.
#[derive(Debug, Clone, Default)]
pub struct History {
    finished: Vec<Arc<FrozenTrial>>,
    open: BTreeMap<TrialId, Arc<FrozenTrial>>,
    /// All trials of the study up to this one are known.
    last: Option<TrialId>,
    /// Finished trials beyond, of which this process knows since they are its own: others between
    /// may not be known yet.
    ahead: BTreeSet<TrialId>,
    is_shared: bool,
}

impl History {
    /// Reads what has changed: O(changes).
    pub fn sync(&mut self, storage: &dyn Storage, study: StudyId) -> Result<()> {
        self.is_shared = storage.is_shared();
        let unfinished: Vec<TrialId> = self.open.keys().copied().collect();
        for trial in storage.changes(study, self.last, &unfinished)? {
            let id = trial.id;
            self.note(trial);
            self.last = self.last.max(Some(id));
        }
        let last = self.last;
        self.ahead.retain(|&id| last < Some(id));
        Ok(())
    }

    /// Takes note of a trial as it is now.
    pub fn note(&mut self, trial: impl Into<Arc<FrozenTrial>>) {
        let mut trial = trial.into();
        let is_new = self.last < Some(trial.id) && !self.ahead.contains(&trial.id);
        if self.last.is_some_and(|last| last.0 + 1 == trial.id.0) {
            self.last = Some(trial.id); // Ids rise, so nothing lies between.
        }
        let was_open = self.open.remove(&trial.id).is_some();
        if !trial.state.is_finished() {
            self.open.insert(trial.id, trial);
        } else if is_new || was_open {
            if self.last < Some(trial.id) {
                self.ahead.insert(trial.id);
            }
            // One that the storage holds, too, is lean already.
            if let (Some(other), Some(own)) = (self.finished.last(), Arc::get_mut(&mut trial)) {
                own.params.share(&other.params);
            }
            self.finished.push(trial);
        }
    }

    /// Whether workers of other processes may take part: see [`Storage::is_shared`].
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The finished trials, in the order in which they became known; only ever appended to, so
    /// that a sampler can keep what it has computed of the first *n*.
    pub fn finished(&self) -> &[Arc<FrozenTrial>] {
        &self.finished
    }

    /// The finished trials after the first `n_read`; none if so many are not known here.
    pub(crate) fn finished_since(&self, n_read: usize) -> &[Arc<FrozenTrial>] {
        self.finished.get(n_read..).unwrap_or_default()
    }

    /// The trials that are running or waiting, by id.
    pub fn open(&self) -> impl Iterator<Item = &Arc<FrozenTrial>> + Clone {
        self.open.values()
    }
}

#[cfg(test)]
mod tests {
    use mm_core::Direction;

    use super::*;
    use crate::{MemoryStorage, storage::Write, trial::TrialState};

    /// Another worker begins trials between the moment at which this one looks and the moment at which
    /// it begins its own.
    #[test]
    fn trials_of_others_are_not_passed_over() -> Result<()> {
        let storage = MemoryStorage::default();
        let study = storage.create_study("study", &[Direction::Minimize])?.id;
        let begin = || storage.create_trial(study, None);
        let end = |id| {
            let finish = Write::Finish { state: TrialState::Complete, values: vec![1.0] };
            storage.write(id, &[finish])?;
            storage.trial(id)
        };
        let mut history = History::default();
        let numbers = |history: &History| {
            let mut all: Vec<u64> =
                history.finished().iter().chain(history.open()).map(|t| t.number).collect();
            all.sort_unstable();
            all
        };
        for round in 0..4 {
            history.sync(&storage, study)?;
            let others = [begin()?, begin()?];
            let own = begin()?;
            history.note(own.clone());
            // Sooner or later than it looks again.
            if round % 2 == 0 {
                history.note(end(own.id)?);
                end(others[1].id)?;
            }
            history.sync(&storage, study)?;
            assert_eq!(numbers(&history), (0..3 * (round + 1)).collect::<Vec<_>>());
            history.note(end(others[0].id)?);
            if round % 2 == 1 {
                history.note(end(own.id)?);
            }
            history.sync(&storage, study)?;
            assert_eq!(numbers(&history), (0..3 * (round + 1)).collect::<Vec<_>>());
        }
        assert_eq!(history.finished().len(), 4 * 3 - 2, "one of each odd round is running");
        Ok(())
    }
}
