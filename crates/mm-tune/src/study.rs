//! A study: trials of one objective, in one storage, proposed by one sampler.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use mm_core::{
    Direction, Error, FloatRange, IntRange, Observer, ParamError, Result, Signal, Step, Suggest,
};

use crate::{
    attrs::Attrs,
    distribution::{Choice, Distribution},
    history::History,
    json::Json,
    optimize::Heartbeat,
    pruner::{Decision, NoPruner, Pruner, Report},
    sampler::{Ask, Proposal, Sampler, TpeSampler},
    storage::{MemoryStorage, Storage, StudyRecord, Write},
    trial::{FrozenTrial, Param, ParamSet, StudyId, Timestamp, TrialId, TrialState},
};

/// Trials of one objective. Clones are the same study, and several processes may have it open.
///
/// ```
/// use mm_core::{Direction, FloatRange, Suggest};
/// use mm_tune::Study;
///
/// let study = Study::in_memory(Direction::Minimize).with_seed(7);
/// study.optimize(50, |trial| {
///     let x = trial.float("x", FloatRange::new(-10.0, 10.0))?;
///     Ok((x - 2.0).powi(2).into())
/// })?;
/// let best = study.best()?.expect("a complete trial");
/// assert!(best.values[0] < 1.0);
/// # Ok::<(), mm_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Study {
    storage: Arc<dyn Storage>,
    record: Arc<StudyRecord>,
    sampler: Arc<dyn Sampler>,
    pruner: Arc<dyn Pruner>,
    history: Arc<Mutex<History>>,
    seed: u64,
    pub(crate) jobs: usize,
    pub(crate) batch: Option<usize>,
    pub(crate) heartbeat: Option<Heartbeat>,
    without_duplicates: bool,
    first: Arc<[BTreeMap<String, Json>]>,
}

/// The attribute in which an enqueued trial says what it is to try.
const FIXED: &str = "fixed_params";

/// What an evaluation came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The objective's values, one for each direction. A NaN makes the trial a failed one.
    Values(Vec<f64>),
    /// Given up early.
    Pruned,
}

impl From<f64> for Outcome {
    fn from(value: f64) -> Self {
        Self::Values(vec![value])
    }
}

impl From<Vec<f64>> for Outcome {
    fn from(values: Vec<f64>) -> Self {
        Self::Values(values)
    }
}

impl Study {
    /// A study that ends with the process, of one objective.
    pub fn in_memory(direction: Direction) -> Self {
        let storage = MemoryStorage::default();
        let record = storage.create_study("study", &[direction]);
        // A new storage has no study of that name.
        Self::of(Arc::new(storage), record.unwrap_or_else(|_| unreachable!("an empty storage")))
    }

    /// The study of that name; made if the storage has none.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if the storage has one with other directions.
    pub fn open(storage: Arc<dyn Storage>, name: &str, directions: &[Direction]) -> Result<Self> {
        let record = match storage.study(name)? {
            Some(record) => record,
            None => match storage.create_study(name, directions) {
                Ok(record) => record,
                // Another process was faster.
                Err(Error::Conflict { .. }) => storage
                    .study(name)?
                    .ok_or_else(|| Error::NotFound { what: "study", name: name.to_owned() })?,
                Err(other) => return Err(other),
            },
        };
        if record.directions != directions {
            let place = format!("directions of study `{name}`");
            let (expected, got) = (format!("{:?}", record.directions), format!("{directions:?}"));
            return Err(Error::data(place, expected, got));
        }
        Ok(Self::of(storage, record))
    }

    fn of(storage: Arc<dyn Storage>, record: StudyRecord) -> Self {
        Self {
            storage,
            record: Arc::new(record),
            sampler: Arc::new(TpeSampler::default()),
            pruner: Arc::new(NoPruner),
            history: Arc::default(),
            seed: 0,
            jobs: 1,
            batch: None,
            heartbeat: None,
            without_duplicates: false,
            first: Arc::default(),
        }
    }

    /// Proposes with `sampler`; with [`TpeSampler`] by default, as Optuna does. Where a trial takes
    /// seconds or more, [`AutoSampler`](crate::AutoSampler) finds more in the same number of trials.
    #[must_use]
    pub fn with_sampler(self, sampler: impl Sampler + 'static) -> Self {
        Self { sampler: Arc::new(sampler), ..self }
    }

    /// Gives up early by `pruner`; never by default.
    #[must_use]
    pub fn with_pruner(self, pruner: impl Pruner + 'static) -> Self {
        Self { pruner: Arc::new(pruner), ..self }
    }

    /// Draws from `seed`; 0 by default.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Runs so many trials at once in [`optimize`](Self::optimize); 1 by default.
    #[must_use]
    pub fn with_jobs(self, jobs: usize) -> Self {
        Self { jobs: jobs.max(1), ..self }
    }

    /// Runs trials batch after batch in [`optimize`](Self::optimize): those of one batch are asked
    /// for together, decide by what was known before it, and are told in order. What comes out is
    /// then the same however many [jobs](Self::with_jobs) there are and however long each takes, as
    /// long as one process works on the study. None by default; 0 is taken as 1.
    #[must_use]
    pub fn with_batch(self, trials: usize) -> Self {
        Self { batch: Some(trials.max(1)), ..self }
    }

    /// Lets the hearts of running trials beat, and tries those again whose worker has died: see
    /// [`revive`](Self::revive). Not by default. Who asks and tells calls [`Trial::beat`].
    #[must_use]
    pub fn with_heartbeat(self, heartbeat: Heartbeat) -> Self {
        Self { heartbeat: Some(heartbeat), ..self }
    }

    /// Draws points that other trials have already anew: see [`Trial::draw`].
    #[must_use]
    pub fn without_duplicates(self) -> Self {
        Self { without_duplicates: true, ..self }
    }

    /// Lets the study's first trials, by number, try these parameters (external values); what is not
    /// among them is sampled. As if they had been [enqueued](Self::enqueue) first, but of several
    /// workers, and of one that starts again, none does so twice. Trials that only go on with another's
    /// models do not count. Nothing by default.
    #[must_use]
    pub fn with_first<K: Into<String>>(
        self,
        points: impl IntoIterator<Item = impl IntoIterator<Item = (K, Json)>>,
    ) -> Self {
        let named = points
            .into_iter()
            .map(|point| point.into_iter().map(|(name, value)| (name.into(), value)).collect());
        Self { first: named.collect(), ..self }
    }

    /// The study's name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Which way each objective is better.
    pub fn directions(&self) -> &[Direction] {
        &self.record.directions
    }

    /// Where the study lives.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Begins a trial: a waiting one if there is one, else a new one.
    pub fn ask(&self) -> Result<Trial> {
        let trial = self.ask_below(None)?;
        trial.ok_or_else(|| unreachable!("there is no limit"))
    }

    /// Begins a trial: a waiting one if there is one, else a new one, unless the study has so many.
    pub(crate) fn ask_below(&self, trials: Option<u64>) -> Result<Option<Trial>> {
        self.revive()?;
        let beats = self.heartbeat.is_some();
        let mut history = self.synced()?;
        let waiting: Vec<TrialId> = history
            .open()
            .filter(|trial| trial.state == TrialState::Waiting)
            .map(|trial| trial.id)
            .collect();
        for id in waiting {
            if self.storage.claim(id, beats)? {
                let trial = Arc::unwrap_or_clone(self.storage.trial(id)?);
                return self.begin(&mut history, trial).map(Some);
            }
        }
        let trial = self.storage.start_trial(self.record.id, trials, beats)?;
        trial.map(|trial| self.begin(&mut history, trial)).transpose()
    }

    fn begin(&self, history: &mut History, mut frozen: FrozenTrial) -> Result<Trial> {
        let is_new = frozen.params.is_empty() && !frozen.system_attrs.contains_key(FIXED);
        if is_new && let Some(first) = self.first_of(history, frozen.number) {
            let fixed = (FIXED.to_owned(), Json::Object(first.clone()));
            self.storage
                .write(frozen.id, &[Write::SystemAttr(fixed.0.clone(), fixed.1.clone())])?;
            frozen.system_attrs.extend([fixed]);
        }
        history.note(frozen.clone());
        let fixed = match frozen.system_attrs.get(FIXED) {
            Some(Json::Object(fixed)) => fixed.clone(),
            _ => BTreeMap::new(),
        };
        let Proposal { params: joint, notes } =
            self.sampler.joint(&self.ask_for(history, &frozen))?;
        if !notes.is_empty() {
            let writes =
                notes.iter().map(|(key, value)| Write::SystemAttr(key.clone(), value.clone()));
            self.storage.write(frozen.id, &writes.collect::<Vec<_>>())?;
            frozen.system_attrs.extend(notes);
            history.note(frozen.clone());
        }
        Ok(Trial {
            study: self.clone(),
            joint,
            fixed,
            frozen: Mutex::new(frozen),
            is_pruned: AtomicBool::new(false),
            known: None,
        })
    }

    /// What trial `number` is to try of the first.
    fn first_of(&self, history: &History, number: u64) -> Option<&BTreeMap<String, Json>> {
        if self.first.is_empty() {
            return None;
        }
        let before = history.finished().iter().chain(history.open());
        let goes_on =
            |trial: &&Arc<FrozenTrial>| trial.number < number && trial.continues().is_some();
        self.first.get((number as usize).saturating_sub(before.filter(goes_on).count()))
    }

    /// Adds a trial with these parameters (external values) to the queue; parameters that are not
    /// among them will be sampled. Whoever asks next gets it.
    pub fn enqueue<K: Into<String>>(
        &self,
        params: impl IntoIterator<Item = (K, Json)>,
    ) -> Result<TrialId> {
        let params = params.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let template = FrozenTrial {
            id: TrialId(0),
            number: 0,
            state: TrialState::Waiting,
            values: Vec::new(),
            params: ParamSet::default(),
            intermediate: BTreeMap::new(),
            user_attrs: Attrs::new(),
            system_attrs: [(FIXED.to_owned(), Json::Object(params))].into(),
            started: None,
            completed: None,
        };
        self.add(&template)
    }

    /// Adds a trial as it is.
    pub(crate) fn add(&self, trial: &FrozenTrial) -> Result<TrialId> {
        Ok(self.storage.create_trial(self.record.id, Some(trial))?.id)
    }

    /// Ends a trial.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] for another number of values than the study has directions: the trial is
    /// then still running.
    pub fn tell(&self, trial: &Trial, outcome: Outcome) -> Result<FrozenTrial> {
        let n = self.record.directions.len();
        let (state, values) = match outcome {
            Outcome::Values(values) if values.len() != n => {
                return Err(Error::data("values of the objective", n, values.len()));
            }
            Outcome::Values(values) if values.iter().any(|value| value.is_nan()) => {
                (TrialState::Fail, Vec::new())
            }
            Outcome::Values(values) => (TrialState::Complete, values),
            Outcome::Pruned => {
                let last = trial.frozen().intermediate.values().next_back().copied();
                (TrialState::Pruned, last.filter(|x| !x.is_nan() && n == 1).into_iter().collect())
            }
        };
        self.finish(trial, state, values)
    }

    /// Ends a trial as failed.
    pub fn tell_failed(&self, trial: &Trial) -> Result<FrozenTrial> {
        self.finish(trial, TrialState::Fail, Vec::new())
    }

    fn finish(&self, trial: &Trial, state: TrialState, values: Vec<f64>) -> Result<FrozenTrial> {
        let mut frozen = trial.frozen();
        self.storage.write(frozen.id, &[Write::Finish { state, values: values.clone() }])?;
        frozen.state = state;
        frozen.values = values;
        frozen.completed = Some(Timestamp::now());
        if self.storage.is_shared() {
            self.history().note(frozen.clone());
        } else {
            // Held once, by the storage and by what is known of it.
            self.history().note(self.storage.trial(frozen.id)?);
        }
        Ok(frozen.clone())
    }

    /// The best complete trial of a study of one objective that breaks no
    /// [constraint](Trial::set_constraint); the earliest of equals.
    pub fn best(&self) -> Result<Option<Arc<FrozenTrial>>> {
        let &[direction] = self.directions() else {
            return Err(Error::data(
                "directions",
                "one, for a single best",
                self.directions().len(),
            ));
        };
        let mut best: Option<Arc<FrozenTrial>> = None;
        for trial in self.trials()? {
            if trial.state == TrialState::Complete
                && trial.violation() <= 0.0
                && best.as_ref().is_none_or(|b| direction.is_better(trial.values[0], b.values[0]))
            {
                best = Some(trial);
            }
        }
        Ok(best)
    }

    /// All trials as the storage has them now, by number.
    pub fn trials(&self) -> Result<Vec<Arc<FrozenTrial>>> {
        let history = self.synced()?;
        let mut trials: Vec<_> = history.finished().iter().chain(history.open()).cloned().collect();
        trials.sort_unstable_by_key(|trial| trial.number);
        Ok(trials)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known, brought up to date.
    pub(crate) fn synced(&self) -> Result<MutexGuard<'_, History>> {
        let mut history = self.history();
        history.sync(&*self.storage, self.record.id)?;
        Ok(history)
    }

    pub(crate) fn with_history<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.history())
    }

    pub(crate) fn note(&self, trial: FrozenTrial) {
        self.history().note(trial);
    }

    pub(crate) fn id(&self) -> StudyId {
        self.record.id
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.sampler.is_exhausted(&self.history())
    }

    pub(crate) fn is_without_duplicates(&self) -> bool {
        self.without_duplicates
    }

    /// A seed of its own for each attempt at a trial; the first has the study's.
    pub(crate) fn seed_of(&self, attempt: u64) -> u64 {
        self.seed ^ attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn ask_for<'a>(&'a self, history: &'a History, trial: &'a FrozenTrial) -> Ask<'a> {
        Ask {
            study: &self.record.name,
            directions: &self.record.directions,
            history,
            trial,
            seed: self.seed,
        }
    }
}

/// A trial that is being evaluated: gives parameters, takes reports.
#[derive(Debug)]
pub struct Trial {
    study: Study,
    frozen: Mutex<FrozenTrial>,
    joint: Vec<(Arc<str>, f64)>,
    fixed: BTreeMap<String, Json>,
    is_pruned: AtomicBool,
    /// What it decides by, if not by the present.
    known: Option<Arc<History>>,
}

impl Trial {
    /// Its place in the study, from 0.
    pub fn number(&self) -> u64 {
        self.frozen().number
    }

    /// One of `choices`, by index: as [`Suggest::choose`], for choices that are not all texts.
    pub fn choose_among(&mut self, name: &str, choices: Vec<Choice>) -> Result<usize> {
        Ok(self.suggest(name, Distribution::Categorical(choices))? as usize)
    }

    /// Reports `value` at `step` and says whether to go on. The first report of a step counts.
    pub fn report(&self, step: u64, value: f64) -> Result<Signal> {
        let mut frozen = self.frozen();
        if frozen.intermediate.contains_key(&step) {
            return Ok(Signal::Continue);
        }
        self.study.storage.write(frozen.id, &[Write::Intermediate { step, value }])?;
        frozen.intermediate.insert(step, value);
        let decide = |history: &History| {
            let (study, directions) = (self.study.name(), self.study.directions());
            self.study.pruner.decide(&Report { study, directions, history, trial: &frozen })
        };
        let Decision { prune, notes } = match &self.known {
            Some(known) => decide(known)?,
            None => decide(&*self.study.synced()?)?,
        };
        if !notes.is_empty() {
            let writes =
                notes.iter().map(|(key, value)| Write::SystemAttr(key.clone(), value.clone()));
            self.study.storage.write(frozen.id, &writes.collect::<Vec<_>>())?;
            frozen.system_attrs.extend(notes);
        }
        if !prune {
            return Ok(Signal::Continue);
        }
        self.is_pruned.store(true, Ordering::Relaxed);
        Ok(Signal::Abort)
    }

    /// Whether a report was answered by giving up.
    pub fn is_pruned(&self) -> bool {
        self.is_pruned.load(Ordering::Relaxed)
    }

    /// An observer for [`FitContext::with_observer`](mm_core::FitContext::with_observer), which
    /// reports `metric` of each iteration and ends the fit when the trial is given up. The
    /// objective then returns the fit's error as it is, and the trial is a pruned one.
    pub fn watch<'a>(&'a self, metric: &'a str) -> impl Observer + 'a {
        move |step: &Step<'_>| {
            let value = step.metrics.iter().find(|(name, _)| name == metric);
            let Some(&(_, value)) = value else { return Signal::Continue };
            let signal = self.report(step.iteration as u64, value);
            signal.unwrap_or_else(|error| {
                tracing::warn!(error = error.chain(), "a report was lost");
                Signal::Continue
            })
        }
    }

    /// Notes a constraint, which the trial keeps if `value` is at most 0. Samplers prefer trials that
    /// keep all of theirs.
    ///
    /// # Errors
    ///
    /// [`Error::Param`] if `value` is NaN.
    pub fn set_constraint(&self, name: &str, value: f64) -> Result<()> {
        ParamError::ensure(!value.is_nan(), name, value, "a number, at most 0 if it is kept")?;
        let (key, value) = (format!("constraints:{name}"), Json::Float(value));
        let mut frozen = self.frozen();
        self.study.storage.write(frozen.id, &[Write::SystemAttr(key.clone(), value.clone())])?;
        frozen.system_attrs.insert(key, value);
        Ok(())
    }

    /// Notes something of the user's.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if `value` nests deeper than [`Json::parse`] reads.
    pub fn set_user_attr(&self, key: &str, value: Json) -> Result<()> {
        value.ensure_shallow()?;
        let mut frozen = self.frozen();
        let write = Write::UserAttr(key.to_owned(), value.clone());
        self.study.storage.write(frozen.id, &[write])?;
        frozen.user_attrs.insert(key.to_owned(), value);
        Ok(())
    }

    /// The trial as it stands.
    pub fn frozen(&self) -> MutexGuard<'_, FrozenTrial> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that its worker is alive: for those who ask and tell, and say so more often than the
    /// [`Heartbeat`]'s grace.
    pub fn beat(&self) -> Result<()> {
        let id = self.frozen().id;
        self.study.storage.beat(id)
    }

    pub(crate) fn study(&self) -> &Study {
        &self.study
    }

    pub(crate) fn joint(&self) -> &[(Arc<str>, f64)] {
        &self.joint
    }

    pub(crate) fn has_fixed(&self) -> bool {
        !self.fixed.is_empty()
    }

    /// The same, deciding by `known` and not by the present.
    pub(crate) fn knowing(self, known: Arc<History>) -> Self {
        Self { known: Some(known), ..self }
    }

    /// Asks the sampler about `frozen` under a seed.
    fn asked<T>(
        &self,
        frozen: &FrozenTrial,
        seed: u64,
        ask: impl FnOnce(&dyn Sampler, &Ask<'_>) -> Result<T>,
    ) -> Result<T> {
        let sampler = &*self.study.sampler;
        if let Some(known) = &self.known {
            return ask(sampler, &Ask { seed, ..self.study.ask_for(known, frozen) });
        }
        let history = self.study.history();
        ask(sampler, &Ask { seed, ..self.study.ask_for(&history, frozen) })
    }

    pub(crate) fn propose_joint(&self, frozen: &FrozenTrial, seed: u64) -> Result<Proposal> {
        self.asked(frozen, seed, |sampler, ask| sampler.joint(ask))
    }

    /// A parameter of `frozen`, and whether it is new: what it was before, what is fixed, what was
    /// proposed jointly, the only value there is, or one of its own.
    pub(crate) fn propose(
        &self,
        frozen: &FrozenTrial,
        joint: &[(Arc<str>, f64)],
        seed: u64,
        name: &str,
        distribution: Distribution,
    ) -> Result<(Param, bool)> {
        let distribution = distribution.checked(name)?;
        if let Some(param) = frozen.params.get(name) {
            distribution.ensure_like(&param.distribution, name)?;
            return Ok((param.clone(), false));
        }
        let joint = joint.iter().find(|(known, _)| **known == *name).map(|&(_, x)| x);
        let value = if let Some(fixed) = self.fixed.get(name) {
            distribution.internal(name, fixed)?
        } else if distribution.is_single() {
            distribution.only()
        } else if let Some(value) = joint.filter(|&value| distribution.contains(value)) {
            value
        } else {
            self.asked(frozen, seed, |sampler, ask| sampler.single(ask, name, &distribution))?
        };
        Ok((Param { name: name.into(), value, distribution: Arc::new(distribution) }, true))
    }

    fn suggest(&mut self, name: &str, distribution: Distribution) -> Result<f64> {
        let frozen = self.frozen();
        let (param, is_new) =
            self.propose(&frozen, &self.joint, self.study.seed, name, distribution)?;
        drop(frozen);
        let value = param.value;
        if is_new {
            let mut frozen = self.frozen();
            self.study.storage.write(frozen.id, &[param.clone().into()])?;
            frozen.params.insert(param);
        }
        Ok(value)
    }
}

impl Suggest for Trial {
    fn float(&mut self, name: &str, range: FloatRange) -> Result<f64> {
        self.suggest(name, Distribution::Float(range))
    }

    fn int(&mut self, name: &str, range: IntRange) -> Result<i64> {
        Ok(self.suggest(name, Distribution::Int(range))? as i64)
    }

    fn choose(&mut self, name: &str, choices: &[&str]) -> Result<usize> {
        let choices = choices.iter().map(|&text| Choice::from(text)).collect();
        self.choose_among(name, choices)
    }
}

impl Distribution {
    /// The only admitted value in internal form, if [`is_single`](Self::is_single).
    fn only(&self) -> f64 {
        match self {
            Self::Float(range) => range.low,
            Self::Int(range) => range.low as f64,
            Self::Categorical(_) => 0.0,
        }
    }

    /// The internal form of an external value.
    pub(crate) fn internal(&self, name: &str, external: &Json) -> Result<f64, ParamError> {
        let internal = match (self, external) {
            (Self::Float(_), Json::Float(x)) => Some(*x),
            (Self::Float(_) | Self::Int(_), Json::Int(i)) => Some(*i as f64),
            (Self::Categorical(choices), _) => {
                let choice = Choice::try_from(external).ok();
                choice.and_then(|c| choices.iter().position(|known| *known == c)).map(|i| i as f64)
            }
            _ => None,
        };
        let internal = internal.filter(|&value| self.contains(value));
        internal.ok_or_else(|| ParamError::new(name, format!("{external:?}"), self.to_string()))
    }
}
