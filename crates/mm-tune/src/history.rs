//! What a study has learnt so far: the sampler's and the pruner's view.

use std::{collections::BTreeMap, sync::Arc};

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
    last: Option<TrialId>,
    is_shared: bool,
}

impl History {
    /// Reads what has changed: O(changes).
    pub fn sync(&mut self, storage: &dyn Storage, study: StudyId) -> Result<()> {
        self.is_shared = storage.is_shared();
        let unfinished: Vec<TrialId> = self.open.keys().copied().collect();
        for trial in storage.changes(study, self.last, &unfinished)? {
            self.note(trial);
        }
        Ok(())
    }

    /// Takes note of a trial as it is now.
    pub fn note(&mut self, mut trial: FrozenTrial) {
        let is_new = self.last < Some(trial.id);
        self.last = self.last.max(Some(trial.id));
        let was_open = self.open.remove(&trial.id).is_some();
        if !trial.state.is_finished() {
            self.open.insert(trial.id, Arc::new(trial));
        } else if is_new || was_open {
            if let Some(other) = self.finished.last() {
                trial.params.share(&other.params);
            }
            self.finished.push(Arc::new(trial));
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
