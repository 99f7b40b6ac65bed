//! Running trials: loops, budgets, hearts that beat, and what becomes of trials whose worker died.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use mm_core::{Cancel, Error, Result};

use crate::{
    attrs::Attrs,
    json::Json,
    storage::{FAILED, HISTORY, Write},
    study::{Outcome, Study, Trial},
    trial::{FrozenTrial, Timestamp, TrialId, TrialState},
};

/// When [`Study::optimize_until`] begins no further trial: at the first that comes.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Until<'a> {
    /// The study has so many trials, of all workers and earlier runs together; waiting and failed
    /// ones count, copies of trials that died do not.
    pub trials: Option<u64>,
    /// It is so late.
    pub deadline: Option<Instant>,
    /// Somebody called it off.
    pub cancel: Option<&'a Cancel>,
}

impl<'a> Until<'a> {
    /// Until the study has so many trials.
    pub fn trials(trials: u64) -> Self {
        Self { trials: Some(trials), ..Self::default() }
    }

    /// The same, and not beyond `deadline`.
    #[must_use]
    pub fn or_at(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// The same, unless it is called off before.
    #[must_use]
    pub fn or_cancelled(self, cancel: &'a Cancel) -> Self {
        Self { cancel: Some(cancel), ..self }
    }

    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
            || self.cancel.is_some_and(Cancel::is_cancelled)
    }
}

/// How workers of a study tell each other that they are alive.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `every` | 60 s | ≥ 1 s | time between two beats of a running trial |
/// | `grace` | 120 s | ≥ `every`, in whole seconds | a trial that has been silent longer is taken for dead |
/// | `retries` | 3 | | times that a trial is tried again, under the same parameters |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Heartbeat {
    /// Time between two beats.
    pub every: Duration,
    /// Silence after which a trial is taken for dead.
    pub grace: Duration,
    /// How often a trial is tried again.
    pub retries: usize,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { every: Duration::from_mins(1), grace: Duration::from_mins(2), retries: 3 }
    }
}

impl Heartbeat {
    /// A beat every so often, twice which is the grace.
    pub fn every(every: Duration) -> Self {
        Self { every, grace: 2 * every, ..Self::default() }
    }

    fn grace_seconds(&self) -> u64 {
        self.grace.as_secs()
    }
}

/// What an objective did: what it returned, or why there is nothing.
type Ended = std::result::Result<Outcome, Reason>;

enum Reason {
    Pruned,
    Failed(String),
}

impl Study {
    /// Runs `n_trials` trials of `objective`, several at once if [`with_jobs`](Self::with_jobs)
    /// says so.
    ///
    /// An objective that returns an error or panics makes its trial a failed one, with the reason
    /// in the user attribute `error`, and the study goes on. An error of the storage ends it, and so
    /// does a sampler that has nothing left to propose.
    pub fn optimize<F>(&self, n_trials: usize, objective: F) -> Result<()>
    where
        F: Fn(&mut Trial) -> Result<Outcome> + Sync,
    {
        let begun = AtomicUsize::new(0);
        let next = || {
            let is_more = begun.fetch_add(1, Ordering::Relaxed) < n_trials;
            if !is_more || self.is_exhausted() {
                return Ok(None);
            }
            self.ask_below(None)
        };
        self.work(&next, &objective)
    }

    /// Runs trials of `objective` until the study has as many as `until` says, whoever of its workers
    /// ran them, or time is up: what n processes call that share one study. No trial is begun beyond
    /// the number, however many workers there are.
    ///
    /// With [`with_heartbeat`](Self::with_heartbeat) a worker stays until the trials of the others
    /// have ended, too, and takes over those whose worker died. Errors are dealt with as in
    /// [`optimize`](Self::optimize).
    pub fn optimize_until<F>(&self, until: Until<'_>, objective: F) -> Result<()>
    where
        F: Fn(&mut Trial) -> Result<Outcome> + Sync,
    {
        self.optimize_enqueuing(until, |_| Ok(false), objective)
    }

    /// The same, but `enqueue` is called before each trial, and may add waiting ones; it is told
    /// whether otherwise there is nothing left to do, and says whether it has added any.
    pub(crate) fn optimize_enqueuing<F>(
        &self,
        until: Until<'_>,
        enqueue: impl Fn(bool) -> Result<bool> + Sync,
        objective: F,
    ) -> Result<()>
    where
        F: Fn(&mut Trial) -> Result<Outcome> + Sync,
    {
        let next = || {
            loop {
                if until.is_over() || self.is_exhausted() {
                    return Ok(None);
                }
                enqueue(false)?;
                if let Some(trial) = self.ask_below(until.trials)? {
                    return Ok(Some(trial));
                }
                match self.heartbeat {
                    Some(heartbeat) if self.others_run(&heartbeat)? => {
                        thread::sleep((heartbeat.every / 4).min(Duration::from_secs(1)));
                    }
                    _ if enqueue(true)? => {}
                    _ => return Ok(None),
                }
            }
        };
        self.work(&next, &objective)
    }

    /// Takes trials and evaluates them, on as many threads as there are jobs, until there are none.
    fn work<F>(
        &self,
        next: &(impl Fn() -> Result<Option<Trial>> + Sync),
        objective: &F,
    ) -> Result<()>
    where
        F: Fn(&mut Trial) -> Result<Outcome> + Sync,
    {
        if let Some(batch) = self.batch {
            return self.work_in_batches(batch, next, objective);
        }
        let worker = || {
            while let Some(mut trial) = next()? {
                let ended = self.evaluate(&mut trial, objective);
                self.conclude(&trial, ended)?;
            }
            Ok(())
        };
        if self.jobs == 1 {
            return worker();
        }
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs).map(|_| scope.spawn(worker)).collect();
            let ended = workers.into_iter().map(|worker| {
                worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            ended.collect::<Vec<Result<()>>>().into_iter().collect()
        })
    }

    /// Batch after batch: all its trials are asked for before any of them runs, decide by what was
    /// known then, and are told in the order of their numbers.
    fn work_in_batches<F>(
        &self,
        batch: usize,
        next: &(impl Fn() -> Result<Option<Trial>> + Sync),
        objective: &F,
    ) -> Result<()>
    where
        F: Fn(&mut Trial) -> Result<Outcome> + Sync,
    {
        loop {
            let known = Arc::new(self.synced()?.clone());
            let mut trials = Vec::with_capacity(batch);
            while trials.len() < batch
                && let Some(trial) = next()?
            {
                trials.push(Mutex::new((trial.knowing(known.clone()), None)));
            }
            if trials.is_empty() {
                return Ok(());
            }
            let taken = AtomicUsize::new(0);
            thread::scope(|scope| {
                for _ in 0..self.jobs.min(trials.len()) {
                    scope.spawn(|| {
                        while let Some(place) = trials.get(taken.fetch_add(1, Ordering::Relaxed)) {
                            // Nobody else has this place.
                            let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
                            let (trial, ended) = &mut *place;
                            *ended = Some(self.evaluate(trial, objective));
                        }
                    });
                }
            });
            for place in trials {
                let (trial, ended) = place.into_inner().unwrap_or_else(PoisonError::into_inner);
                if let Some(ended) = ended {
                    self.conclude(&trial, ended)?;
                }
            }
        }
    }

    /// Calls the objective; its heart beats meanwhile.
    fn evaluate<F>(&self, trial: &mut Trial, objective: &F) -> Ended
    where
        F: Fn(&mut Trial) -> Result<Outcome>,
    {
        let id = trial.frozen().id;
        // The trial is only read after a panic.
        let called = self.while_beating(id, || catch_unwind(AssertUnwindSafe(|| objective(trial))));
        match called {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) if trial.is_pruned() => Err(Reason::Pruned),
            Ok(Err(error)) => Err(Reason::Failed(error.chain())),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                Err(Reason::Failed(format!("panicked: {}", text.unwrap_or_default())))
            }
        }
    }

    /// Tells how a trial ended. One that was taken for dead and given to somebody else meanwhile is
    /// theirs.
    fn conclude(&self, trial: &Trial, ended: Ended) -> Result<()> {
        let told = match ended {
            Ok(outcome) => self.tell(trial, outcome).map(drop),
            Err(Reason::Pruned) => self.tell(trial, Outcome::Pruned).map(drop),
            Err(Reason::Failed(reason)) => trial
                .set_user_attr("error", Json::Text(reason))
                .and_then(|()| self.tell_failed(trial).map(drop)),
        };
        match told {
            Err(error @ Error::Conflict { .. }) => {
                let number = trial.number();
                tracing::warn!(number, error = error.chain(), "a trial had been given away");
                Ok(())
            }
            // The wrong number of values is the objective's fault, and not the storage's.
            Err(error @ Error::Data { .. }) => {
                trial.set_user_attr("error", Json::Text(error.chain()))?;
                self.tell_failed(trial).map(drop)
            }
            other => other,
        }
    }

    fn while_beating<T>(&self, trial: TrialId, work: impl FnOnce() -> T) -> T {
        let Some(heartbeat) = self.heartbeat else { return work() };
        let (done, told) = (Mutex::new(false), Condvar::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut is_done = done.lock().unwrap_or_else(PoisonError::into_inner);
                while !*is_done {
                    let waited = told.wait_timeout(is_done, heartbeat.every);
                    is_done = waited.unwrap_or_else(PoisonError::into_inner).0;
                    if !*is_done && let Err(error) = self.storage().beat(trial) {
                        tracing::warn!(error = error.chain(), "a heartbeat was lost");
                    }
                }
            });
            let result = work();
            *done.lock().unwrap_or_else(PoisonError::into_inner) = true;
            told.notify_all();
            result
        })
    }

    /// Ends trials whose worker has been silent for too long as failed, and enqueues each again under
    /// the same parameters, with the numbers of those before it in Optuna's attributes
    /// `failed_trial` and `retry_history`; the ids of the new ones. Every
    /// [`ask`](Self::ask) of a study with a heartbeat begins so.
    ///
    /// Of several workers who find the same trial dead one revives it, in one step, so that none is
    /// lost and none is run by two of them.
    pub fn revive(&self) -> Result<Vec<TrialId>> {
        let Some(heartbeat) = self.heartbeat else { return Ok(Vec::new()) };
        let storage = self.storage();
        let mut revived = Vec::new();
        for id in storage.stale(self.id(), heartbeat.grace_seconds())? {
            let dead = storage.trial(id)?;
            let copy = copy_of(&dead);
            if heartbeat.retries < retries_of(&copy) {
                let failed = Write::Finish { state: TrialState::Fail, values: Vec::new() };
                match storage.write(id, &[failed]) {
                    Ok(()) | Err(Error::Conflict { .. }) => {}
                    Err(other) => return Err(other),
                }
            } else if let Some(copy) = storage.replace(id, &copy)? {
                tracing::info!(dead = dead.number, copy = copy.number, "a trial is tried again");
                revived.push(copy.id);
            }
        }
        Ok(revived)
    }

    /// Ends a running trial as failed and enqueues it again, as if its worker had died: for who must
    /// stop in the middle of one.
    pub fn give_back(&self, trial: &Trial) -> Result<()> {
        let frozen = trial.frozen().clone();
        self.storage().replace(frozen.id, &copy_of(&frozen)).map(drop)
    }

    /// Whether trials run whose workers may yet die: those that have beaten, or have just begun.
    fn others_run(&self, heartbeat: &Heartbeat) -> Result<bool> {
        let beating = self.storage().stale(self.id(), 0)?;
        let grace = i64::try_from(heartbeat.grace.as_micros()).unwrap_or(i64::MAX);
        let lately = Timestamp::now().0.saturating_sub(grace);
        let runs = |trial: &&Arc<FrozenTrial>| {
            trial.state == TrialState::Running
                && (beating.contains(&trial.id) || trial.started.is_some_and(|at| lately < at.0))
        };
        Ok(self.synced()?.open().any(|trial| runs(&trial)))
    }
}

/// Attributes that die with a trial: what it had reached, and its heartbeat.
const LOST: [&str; 4] = ["completed_rung_", "mm:reached:", "mm:rounds", "mm:heartbeat"];

/// A waiting trial with the parameters of one that died.
fn copy_of(dead: &FrozenTrial) -> FrozenTrial {
    let number = Json::Int(dead.number as i64);
    let lasting = |key: &str| !LOST.iter().any(|prefix| key.starts_with(prefix));
    let notes = dead.system_attrs.iter().filter(|(key, _)| lasting(key));
    let mut system_attrs: Attrs = notes.map(|(key, value)| (key.clone(), value.clone())).collect();
    if !system_attrs.contains_key(FAILED) {
        system_attrs.insert(FAILED.to_owned(), number.clone());
    }
    let mut history: Vec<Json> =
        dead.system_attrs.get(HISTORY).and_then(Json::as_array).unwrap_or_default().to_vec();
    history.push(number);
    system_attrs.insert(HISTORY.to_owned(), Json::Array(history));
    FrozenTrial {
        state: TrialState::Waiting,
        values: Vec::new(),
        intermediate: BTreeMap::new(),
        system_attrs,
        started: None,
        completed: None,
        ..dead.clone()
    }
}

impl FrozenTrial {
    /// Whether a copy has taken the trial's place, since its worker died or gave it back.
    pub(crate) fn was_tried_again(&self, trials: &[Arc<Self>]) -> bool {
        let number = Json::Int(self.number as i64);
        let mut histories = trials.iter().filter_map(|trial| trial.system_attrs.get(HISTORY));
        self.state == TrialState::Fail
            && histories.any(|history| history.as_array().is_some_and(|h| h.contains(&number)))
    }
}

fn retries_of(copy: &FrozenTrial) -> usize {
    copy.system_attrs.get(HISTORY).and_then(Json::as_array).map_or(0, <[Json]>::len)
}

#[cfg(test)]
mod tests {
    use mm_core::{Direction, FloatRange, IntRange, Signal, Suggest as _};

    use super::*;
    use crate::{PercentilePruner, RandomSampler, TpeSampler};

    fn sphere(trial: &mut Trial) -> Result<Outcome> {
        let x = trial.float("x", FloatRange::new(-1.0, 1.0))?;
        let n = trial.int("n", IntRange::new(1, 9).step(2))?;
        let kind = trial.choose("kind", &["a", "b"])?;
        Ok((x * x + n as f64 + kind as f64).into())
    }

    #[test]
    fn a_study_draws_the_same_whatever_the_number_of_jobs() {
        let trials = |jobs| {
            let study = Study::in_memory(Direction::Minimize).with_seed(3).with_jobs(jobs);
            let study = study.with_sampler(RandomSampler);
            study.optimize(40, sphere).expect("memory");
            let trials = study.trials().expect("memory");
            trials.iter().map(|t| (t.number, t.values.clone())).collect::<Vec<_>>()
        };
        assert_eq!(trials(1), trials(3));
    }

    /// Here the sampler and the pruner look at what others have come to.
    #[test]
    fn batches_are_the_same_whatever_the_number_of_jobs() {
        let objective = |trial: &mut Trial| {
            let x = trial.float("x", FloatRange::new(-1.0, 1.0))?;
            for step in 0..5 {
                if trial.report(step, x * x + 1.0 / (step + 1) as f64)? != Signal::Continue {
                    return Ok(Outcome::Pruned);
                }
            }
            sphere(trial)
        };
        let trials = |jobs| {
            let study = Study::in_memory(Direction::Minimize).with_seed(3).with_jobs(jobs);
            let study = study.with_sampler(TpeSampler::default()).with_batch(5);
            let study = study.with_pruner(PercentilePruner::default());
            study.optimize(43, objective).expect("memory");
            let trials = study.trials().expect("memory");
            assert_eq!(trials.len(), 43);
            let pruned = trials.iter().filter(|t| t.state == TrialState::Pruned).count();
            assert!(0 < pruned && pruned < 43, "{pruned} are given up");
            trials.iter().map(|t| (t.number, t.state, t.params.clone())).collect::<Vec<_>>()
        };
        let one = trials(1);
        assert_eq!(trials(2), one);
        assert_eq!(trials(7), one);
    }

    #[test]
    fn the_first_trials_try_what_they_are_told() {
        let study = Study::in_memory(Direction::Minimize).with_jobs(3);
        let study = study.with_heartbeat(Heartbeat::default());
        let points = [vec![("n", Json::Int(7)), ("kind", "b".into())], vec![("n", Json::Int(3))]];
        let study = study.with_first(points);
        study.optimize_until(Until::trials(4), sphere).expect("memory");
        // Who comes later, or again, does not begin anew.
        study.optimize_until(Until::trials(6), sphere).expect("memory");
        let trials = study.trials().expect("memory");
        let value = |i: usize, name: &str| trials[i].params.get(name).expect("asked for").value;
        assert_eq!((value(0, "n"), value(0, "kind"), value(1, "n")), (7.0, 1.0, 3.0));
        assert_eq!(
            trials.iter().filter(|t| t.system_attrs.contains_key("fixed_params")).count(),
            2
        );
    }

    #[test]
    fn a_failing_or_panicking_objective_fails_its_trial_only() {
        let study = Study::in_memory(Direction::Minimize);
        let objective = |trial: &mut Trial| match trial.number() {
            0 => Err(Error::data("objective", "sense", "nonsense")),
            1 => panic!("on purpose"),
            2 => Ok(f64::NAN.into()),
            3 => Ok(vec![1.0, 2.0].into()),
            _ => Ok(1.0.into()),
        };
        study.optimize(5, objective).expect("the study goes on");
        let trials = study.trials().expect("memory");
        let states: Vec<TrialState> = trials.iter().map(|t| t.state).collect();
        let fail = TrialState::Fail;
        assert_eq!(states, [fail, fail, fail, fail, TrialState::Complete]);
        let reason = |i: usize| format!("{:?}", trials[i].user_attrs.get("error"));
        assert!(reason(0).contains("nonsense") && reason(1).contains("on purpose"));
        assert!(reason(3).contains("expected 1, got 2"), "{}", reason(3));
    }

    #[test]
    fn a_total_is_kept_over_runs_and_by_an_objective_that_always_fails() {
        let study = Study::in_memory(Direction::Minimize).with_jobs(3);
        study.optimize_until(Until::trials(7), sphere).expect("memory");
        study.optimize_until(Until::trials(7), sphere).expect("memory");
        assert_eq!(study.trials().expect("memory").len(), 7);
        let fails = |_: &mut Trial| Err(Error::Cancelled);
        study.optimize_until(Until::trials(12), fails).expect("memory");
        assert_eq!(study.trials().expect("memory").len(), 12);
        let late = Until::trials(20).or_at(Instant::now());
        study.optimize_until(late, sphere).expect("memory");
        let cancel = Cancel::default();
        cancel.cancel();
        study.optimize_until(Until::trials(20).or_cancelled(&cancel), sphere).expect("memory");
        assert_eq!(study.trials().expect("memory").len(), 12);
    }

    #[test]
    fn a_copy_remembers_all_that_died_before_it() {
        let study = Study::in_memory(Direction::Minimize);
        let mut trial = study.ask().expect("memory");
        trial.float("x", FloatRange::new(0.0, 1.0)).expect("memory");
        trial.report(3, 0.5).expect("memory");
        let once = copy_of(&trial.frozen());
        let twice = copy_of(&FrozenTrial { number: 4, ..once.clone() });
        assert_eq!(
            (once.state, once.params.len(), once.intermediate.len()),
            (TrialState::Waiting, 1, 0)
        );
        assert_eq!(twice.system_attrs[FAILED], Json::Int(0));
        assert_eq!(twice.system_attrs[HISTORY], Json::Array(vec![Json::Int(0), Json::Int(4)]));
        assert_eq!((retries_of(&once), retries_of(&twice)), (1, 2));
    }
}
