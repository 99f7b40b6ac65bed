//! Parameters that a running trial has asked for one by one, on their way into a journal.
//!
//! An append costs a turn at the lock, so a trial's single parameters wait for its next write, whatever
//! that is, and a few milliseconds at most: then a thread writes them. Nothing else ever waits.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::Write;
use crate::trial::TrialId;

/// The thread looks so often, and writes what has waited as long.
const TICK: Duration = Duration::from_millis(2);

/// After so many looks that found nothing it sleeps until something comes.
const IDLE: u32 = 50;

/// What waits, by trial.
#[derive(Debug, Default)]
pub(super) struct Behind {
    held: Mutex<Held>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Held {
    trials: BTreeMap<TrialId, Waiting>,
    is_asleep: bool,
    is_over: bool,
}

#[derive(Debug)]
struct Waiting {
    writes: Vec<Write>,
    since: Instant,
    /// In vain: whoever writes to the trial next will hear why.
    was_tried: bool,
}

impl Behind {
    fn held(&self) -> MutexGuard<'_, Held> {
        // Every change is whole before anything can panic.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, trial: TrialId, write: Write) {
        let mut held = self.held();
        let new = || Waiting { writes: Vec::new(), since: Instant::now(), was_tried: false };
        held.trials.entry(trial).or_insert_with(new).writes.push(write);
        if held.is_asleep {
            held.is_asleep = false;
            self.bell.notify_one();
        }
    }

    /// What waits of a trial, in order.
    pub(super) fn of(&self, trial: TrialId) -> Vec<Write> {
        self.held().trials.get(&trial).map(|waiting| waiting.writes.clone()).unwrap_or_default()
    }

    /// Those of a trial are written, or never will be.
    pub(super) fn forget(&self, trial: TrialId) {
        self.held().trials.remove(&trial);
    }

    /// Trials of which something has waited for so long and has not been tried; from now on it has.
    pub(super) fn due(&self, age: Duration) -> Vec<TrialId> {
        let mut held = self.held();
        let due = |(_, waiting): &(&TrialId, &mut Waiting)| {
            !waiting.was_tried && age <= waiting.since.elapsed()
        };
        let due = held.trials.iter_mut().filter(due);
        due.map(|(trial, waiting)| {
            waiting.was_tried = true;
            *trial
        })
        .collect()
    }

    /// What the thread does until the [end](Self::end): has `write` write what waits.
    pub(super) fn keep_writing(&self, write: impl Fn(TrialId)) {
        let mut idle = 0;
        loop {
            let mut held = self.held();
            if idle < IDLE {
                let waited = self.bell.wait_timeout(held, TICK);
                held = waited.unwrap_or_else(PoisonError::into_inner).0;
            } else {
                held.is_asleep = true;
                let waited = self.bell.wait_while(held, |held| held.is_asleep && !held.is_over);
                held = waited.unwrap_or_else(PoisonError::into_inner);
            }
            let is_idle = held.trials.values().all(|waiting| waiting.was_tried);
            if held.is_over {
                return;
            }
            drop(held);
            idle = if is_idle { idle.saturating_add(1) } else { 0 };
            self.due(TICK).into_iter().for_each(&write);
        }
    }

    pub(super) fn end(&self) {
        self.held().is_over = true;
        self.bell.notify_all();
    }
}
