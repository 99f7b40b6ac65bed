//! Trains many candidates from one plan, compares them honestly, and keeps going.
//!
//! # What a run does
//!
//! 1. **Checks everything before any work**: names, kinds, params, metric against task, splitter
//!    against data, the registry.
//! 2. **Cross-fits** each candidate: every fold's model predicts rows that it did not see. Fits run
//!    side by side under one budget of threads; a large one gets all of them. Each fold has a seed
//!    of its own that depends on its place, so results do not depend on threads or order.
//! 3. **Isolates failures**: an error, a panic, or a deadline costs that candidate only and stands
//!    on the leaderboard with its reason.
//! 4. **Builds ensembles** from out-of-fold predictions only ([`Combiner`](crate::Combiner)).
//! 5. **Refits** what succeeded to all rows.
//! 6. **Publishes** the best into the registry, with its lineage.
//!
//! With a checkpoint folder, finished fits are kept as they finish: a run killed at any point and
//! started again repeats none of them and ends with the same result.
//!
//! # Limits
//!
//! A deadline reaches a fit through its [`FitContext`]; a learner that does not look at it cannot
//! be stopped. A run whose deadline cut a fit short is not reproducible, and says so.

mod checkpoint;
mod leaderboard;
mod plan;

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use self::checkpoint::{Checkpoint, Timing, key};
pub use self::{
    leaderboard::{Entry, Leaderboard, Score, Status},
    plan::{Budget, Candidate, DataPlan, EnsemblePlan, Plan, RegistryPlan},
};
use crate::{
    catalog::Catalog,
    combine::{Combination, Combiner, Member},
    context::{Cancel, FitContext, Signal, Step},
    cross_fit::OutOfFold,
    data::{Dataset, Matrix, Task},
    error::{Error, Result},
    learner::{BoxLearner, DynLearner},
    metric::Metric,
    model::{BoxModel, Model},
    registry::{self, AliasMove, Lineage, LocalRegistry, NewVersion, Registry as _, Version},
    schedule::{self, Demand},
    split::{Fold, GroupKFold, Holdout, SplitPlan, Splitter},
};

/// Trains what a [`Plan`] names, with the kinds of a [`Catalog`].
pub struct Orchestrator<'a> {
    catalog: &'a Catalog,
    watcher: &'a dyn Watcher,
    cancel: Option<&'a Cancel>,
    own: Vec<(String, Arc<dyn DynLearner>)>,
}

/// What a run yields.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// How everything compares, best first.
    pub leaderboard: Leaderboard,
    /// The models fitted to all rows, by name, best first.
    pub models: Vec<(String, Arc<dyn Model>)>,
    /// The folds that scores come from.
    pub folds: Vec<Fold>,
    /// The candidates' out-of-fold predictions by name, in plan order.
    pub out_of_fold: Vec<(String, OutOfFold)>,
    /// The version under which the best was published, if the plan has a registry.
    pub published: Option<Version>,
}

impl Outcome {
    /// The model called `name`, fitted to all rows.
    pub fn model(&self, name: &str) -> Option<&Arc<dyn Model>> {
        self.models.iter().find_map(|(n, model)| (n == name).then_some(model))
    }

    /// The best model and its name.
    pub fn best(&self) -> Option<(&str, &Arc<dyn Model>)> {
        self.models.first().map(|(name, model)| (name.as_str(), model))
    }
}

/// Something that happened in a run.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The plan was checked; this many fits lie ahead, of which some are in the checkpoint.
    Planned {
        /// Fits that cross-fitting needs.
        fits: usize,
        /// Of these, found in the checkpoint.
        resumed: usize,
    },
    /// One iteration of a fit.
    Step {
        /// The candidate's name.
        candidate: &'a str,
        /// The fold from 0, or `None` for the fit to all rows.
        fold: Option<usize>,
        /// The iteration.
        step: &'a Step<'a>,
    },
    /// A fold was fitted and scored.
    Fold {
        /// The candidate's name.
        candidate: &'a str,
        /// The fold, from 0.
        fold: usize,
        /// Its score by the plan's metric.
        score: f64,
        /// Seconds that the fit took.
        fit_seconds: f64,
    },
    /// A candidate was fitted to all rows.
    Refitted {
        /// The candidate's name.
        candidate: &'a str,
        /// Seconds that the fit took.
        fit_seconds: f64,
    },
    /// A candidate failed and is left out from here on.
    Failed {
        /// The candidate's name.
        candidate: &'a str,
        /// Why.
        reason: &'a str,
    },
}

/// Hears what happens in a run. Called from several threads at once.
pub trait Watcher: Send + Sync {
    /// Called for each event. The answer to [`Event::Step`] reaches that fit; to other events it
    /// is ignored.
    fn on_event(&self, event: &Event<'_>) -> Signal;
}

/// Any function of an event is a watcher.
impl<F: Fn(&Event<'_>) -> Signal + Send + Sync> Watcher for F {
    fn on_event(&self, event: &Event<'_>) -> Signal {
        self(event)
    }
}

impl Watcher for crate::context::Silent {
    fn on_event(&self, _: &Event<'_>) -> Signal {
        Signal::Continue
    }
}

impl fmt::Debug for Orchestrator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orchestrator")
            .field("catalog", self.catalog)
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

impl<'a> Orchestrator<'a> {
    /// An orchestrator over the kinds of `catalog`, with nobody watching.
    pub fn new(catalog: &'a Catalog) -> Self {
        Self { catalog, watcher: &crate::context::Silent, cancel: None, own: Vec::new() }
    }

    /// The same with somebody watching.
    #[must_use]
    pub fn with_watcher(self, watcher: &'a dyn Watcher) -> Self {
        Self { watcher, ..self }
    }

    /// The same with a switch that calls the whole run off: it ends with [`Error::Cancelled`].
    #[must_use]
    pub fn with_cancel(self, cancel: &'a Cancel) -> Self {
        Self { cancel: Some(cancel), ..self }
    }

    /// Adds a candidate that is no kind of the catalog, after those of the plan.
    ///
    /// Its `Debug` text is taken to determine its fits when a checkpoint is looked up, so it must
    /// show the hyper-parameters, as a derived one does.
    #[must_use]
    pub fn with_learner(mut self, name: impl Into<String>, learner: BoxLearner) -> Self {
        self.own.push((name.into(), Arc::from(learner)));
        self
    }

    /// Reads the plan's data and runs the plan.
    pub fn run(&self, plan: &Plan) -> Result<Outcome> {
        let Some(data) = &plan.data else {
            let (place, problem) = ("data".to_owned(), "expected a path, got no data".to_owned());
            return Err(Error::Config { place, problem });
        };
        plan.check()?;
        let threads = plan.budget.threads.and_then(NonZeroUsize::new).unwrap_or_else(cores);
        let data = data.read(threads)?;
        self.run_on(plan, &data)
    }

    /// Runs the plan on data in memory; what the plan says of data is ignored.
    pub fn run_on(&self, plan: &Plan, data: &Dataset) -> Result<Outcome> {
        let started = Instant::now();
        let run = Run::check(self, plan, data, started)?;
        let fitted = run.cross_fit()?;
        let mut ensembles = run.build_ensembles(&fitted);
        let mut entries = run.candidate_entries(&fitted);
        let models = if plan.refit { run.refit(&mut entries, &fitted)? } else { Vec::new() };
        let mut named: Vec<(String, Arc<dyn Model>)> = run
            .candidates
            .iter()
            .zip(models)
            .filter_map(|(candidate, model)| Some((candidate.name.clone(), model?)))
            .collect();
        for ensemble in &mut ensembles {
            if let Some(combination) = ensemble.combination.take()
                && plan.refit
            {
                let members = |name: &String| {
                    let found = named.iter().find(|(n, _)| n == name);
                    let missing = || Error::NotFound { what: "member", name: name.clone() };
                    found.map(|(_, model)| Arc::clone(model)).ok_or_else(missing)
                };
                let members: Result<Vec<_>> = ensemble.entry.members.iter().map(members).collect();
                match members.and_then(|m| schedule::contain(|| combination.into_model(m))) {
                    Ok(model) => {
                        let model: Arc<dyn Model> = Arc::from(model);
                        ensemble.entry.bytes = Some(model.to_envelope()?.as_bytes().len());
                        named.push((ensemble.entry.name.clone(), model));
                    }
                    Err(e) => fail(&mut ensemble.entry, &e),
                }
            }
        }
        entries.extend(ensembles.into_iter().map(|ensemble| ensemble.entry));
        let mut leaderboard = Leaderboard {
            metric: run.metric,
            also: plan.also.clone(),
            n_folds: run.folds.len(),
            entries,
            prior: run.prior(),
        };
        leaderboard.rank();
        let place = |name: &str| leaderboard.entries.iter().position(|entry| entry.name == name);
        named.sort_by_key(|(name, _)| place(name));
        let published = run.publish(&leaderboard, &named)?;
        let out_of_fold = run.out_of_fold(&fitted)?;
        Ok(Outcome { leaderboard, models: named, folds: run.folds, out_of_fold, published })
    }
}

/// A checked run.
struct Run<'a> {
    outer: &'a Orchestrator<'a>,
    plan: &'a Plan,
    data: &'a Dataset,
    metric: Metric,
    folds: Vec<Fold>,
    candidates: Vec<Checked>,
    combiners: Vec<Box<dyn Combiner>>, // One an ensemble of the plan.
    registry: Option<LocalRegistry>,
    checkpoint: Checkpoint,
    fingerprint: String,
    threads: NonZeroUsize,
    deadline: Option<Instant>,
}

struct Checked {
    name: String,
    learner: Arc<dyn DynLearner>,
    identity: String, // Determines the learner's fits, for checkpoints.
}

/// The folds of one candidate, or why there are none.
type Fitted = Result<Vec<(Timing, Matrix)>, String>;

struct Built {
    entry: Entry,
    combination: Option<Box<dyn Combination>>,
}

impl<'a> Run<'a> {
    fn check(
        outer: &'a Orchestrator<'a>,
        plan: &'a Plan,
        data: &'a Dataset,
        started: Instant,
    ) -> Result<Self> {
        plan.check()?;
        let mut candidates = Vec::new();
        for (i, candidate) in plan.candidates.iter().enumerate() {
            let learner = outer.catalog.learner(&candidate.kind, candidate.params.clone());
            let learner = learner.map_err(|e| e.within(format!("candidates.{i}")))?;
            let identity = format!("{} {}", candidate.kind, candidate.params);
            let (name, learner) = (candidate.name().to_owned(), Arc::from(learner));
            candidates.push(Checked { name, learner, identity });
        }
        for (name, learner) in &outer.own {
            if candidates.iter().any(|other| other.name == *name) {
                let problem = format!("expected distinct names, got `{name}` twice");
                return Err(Error::Config { place: "candidates".to_owned(), problem });
            }
            candidates.push(Checked {
                name: name.clone(),
                identity: format!("{name} {learner:?}"),
                learner: Arc::clone(learner),
            });
        }
        if candidates.is_empty() {
            let problem = "expected at least 1 candidate, got none".to_owned();
            return Err(Error::Config { place: "candidates".to_owned(), problem });
        }
        let combiners = plan.ensembles.iter().enumerate().map(|(i, ensemble)| {
            let combiner = outer.catalog.combiner(&ensemble.kind, ensemble.params.clone());
            combiner.map_err(|e| e.within(format!("ensembles.{i}")))
        });
        let combiners = combiners.collect::<Result<_>>()?;
        let metric = plan.metric.unwrap_or_else(|| Metric::default_for(data.task()));
        for metric in plan.also.iter().chain([&metric]) {
            if !metric.supports(data.task()) {
                let problem = format!("expected a metric for {}, got {metric}", data.task());
                return Err(Error::Config { place: "metric".to_owned(), problem });
            }
        }
        let ctx = FitContext::seeded(plan.seed);
        let split = plan.split.clone().unwrap_or_else(|| SplitPlan::default_for(data));
        let folds = split.split(data, ctx.fork(SPLIT).seed).map_err(|e| e.within("split"))?;
        let registry = match &plan.registry {
            None => None,
            Some(target) => {
                registry::check_model_name(plan.model_name())?;
                Some(LocalRegistry::open(&target.path)?)
            }
        };
        let threads = plan.budget.threads.and_then(NonZeroUsize::new).unwrap_or_else(cores);
        let seconds = |s: f64| started.checked_add(Duration::from_secs_f64(s));
        Ok(Self {
            outer,
            plan,
            data,
            metric,
            folds,
            candidates,
            combiners,
            registry,
            checkpoint: Checkpoint::open(plan.checkpoint.as_deref())?,
            fingerprint: data.fingerprint(),
            threads,
            deadline: plan.budget.seconds.and_then(seconds),
        })
    }

    /// The checkpoint key of a candidate's fit to the given rows.
    fn key(&self, candidate: &Checked, fold: Option<usize>) -> String {
        let rows = fold.map_or_else(
            || "all".to_owned(),
            |i| {
                serde_json::to_string(&(&self.folds[i].train, &self.folds[i].test))
                    .unwrap_or_default()
            },
        );
        let validation = format!("{:?}", self.plan.validation);
        let seed = self.seed(fold).to_string();
        let version = env!("CARGO_PKG_VERSION");
        key(&[version, &self.fingerprint, &candidate.identity, &seed, &rows, &validation])
    }

    fn seed(&self, fold: Option<usize>) -> u64 {
        FitContext::seeded(self.plan.seed).fork(fold.map_or(REFIT, |i| i as u64)).seed
    }

    fn say(&self, event: &Event<'_>) {
        self.outer.watcher.on_event(event);
    }

    /// Fits one candidate to some rows. `None` as fold means all.
    fn fit(
        &self,
        candidate: &Checked,
        fold: Option<usize>,
        threads: NonZeroUsize,
    ) -> Result<(BoxModel, Timing)> {
        let observer = |step: &Step<'_>| {
            self.outer.watcher.on_event(&Event::Step { candidate: &candidate.name, fold, step })
        };
        let mut ctx = FitContext::seeded(self.seed(fold)).with_observer(&observer);
        ctx.threads = threads;
        ctx.cancel = self.outer.cancel;
        if let Some(deadline) = self.deadline {
            ctx = ctx.with_deadline(deadline);
        }
        if let Some(seconds) = self.plan.budget.fit_seconds {
            ctx = ctx.within(Duration::from_secs_f64(seconds));
        }
        if ctx.is_due() {
            return Err(Error::Deadline);
        }
        let train =
            fold.map_or_else(|| self.data.clone(), |i| self.data.take(&self.folds[i].train));
        let started = Instant::now();
        let model = match self.plan.validation {
            None => candidate.learner.fit_boxed(&train, &ctx)?,
            Some(part) => {
                let inner = inner_split(&train, part, ctx.fork(SPLIT).seed)?;
                let held_out = train.take(&inner.test);
                let ctx = ctx.with_validation(&held_out);
                candidate.learner.fit_boxed(&train.take(&inner.train), &ctx)?
            }
        };
        let fit_seconds = started.elapsed().as_secs_f64();
        let cut_short = ctx.is_due();
        Ok((model, Timing { fit_seconds, predict_seconds: 0.0, cut_short }))
    }

    fn cross_fit(&self) -> Result<Vec<Fitted>> {
        let n_folds = self.folds.len();
        let all = (0..self.candidates.len()).flat_map(|c| (0..n_folds).map(move |f| (c, f)));
        let mut results: Vec<((usize, usize), Option<Result<(Timing, Matrix)>>)> = all
            .map(|(c, f)| {
                let kept = self.checkpoint.fold(&self.key(&self.candidates[c], Some(f)));
                ((c, f), kept.filter(|(_, y)| y.n_rows() == self.folds[f].test.len()).map(Ok))
            })
            .collect();
        let jobs: Vec<(usize, usize)> =
            results.iter().filter(|(_, kept)| kept.is_none()).map(|&(job, _)| job).collect();
        let fits = results.len();
        self.say(&Event::Planned { fits, resumed: fits - jobs.len() });

        let failed: Vec<AtomicBool> =
            self.candidates.iter().map(|_| AtomicBool::new(false)).collect();
        let demands = vec![Demand::of(self.data); jobs.len()];
        let done = schedule::run(self.threads, &demands, |job, threads| {
            let (c, f) = jobs[job];
            if failed[c].load(Ordering::Relaxed) {
                return None; // An earlier fold failed, and with it the candidate.
            }
            let result = schedule::contain(|| self.fold(c, f, threads));
            if result.is_err() {
                failed[c].store(true, Ordering::Relaxed);
            }
            Some(result)
        });
        self.check_cancelled()?;
        for (&job, result) in jobs.iter().zip(done) {
            if let Some(slot) = results.iter_mut().find(|(j, _)| *j == job) {
                slot.1 = result;
            }
        }
        let mut fitted: Vec<Fitted> = Vec::new();
        for ((c, f), result) in results {
            if f == 0 {
                fitted.push(Ok(Vec::new()));
            }
            let Some(candidate) = fitted.last_mut() else { continue };
            match (result, &mut *candidate) {
                (Some(Ok(fold)), Ok(folds)) => folds.push(fold),
                (Some(Err(e)), Ok(_)) => {
                    let reason = e.within(format!("fold {f}")).chain();
                    self.say(&Event::Failed {
                        candidate: &self.candidates[c].name,
                        reason: &reason,
                    });
                    *candidate = Err(reason);
                }
                // A fold that was skipped for another's failure says nothing itself.
                _ => {}
            }
        }
        Ok(fitted)
    }

    /// Fits, predicts, and keeps one fold of one candidate.
    fn fold(&self, c: usize, f: usize, threads: NonZeroUsize) -> Result<(Timing, Matrix)> {
        let (candidate, fold) = (&self.candidates[c], &self.folds[f]);
        let (model, mut timing) = self.fit(candidate, Some(f), threads)?;
        let started = Instant::now();
        let predicted = model.predict(&self.data.frame().take(&fold.test))?;
        timing.predict_seconds = started.elapsed().as_secs_f64();
        if let Some(i) = predicted.values().iter().position(|y| !y.is_finite()) {
            let row = fold.test[i / predicted.n_cols()];
            let got = predicted.values()[i];
            return Err(Error::data(
                format_args!("prediction of row {row}"),
                "a finite number",
                got,
            ));
        }
        let score = self.metric.score(self.data.take(&fold.test).truth(), &predicted)?;
        if !timing.cut_short {
            self.checkpoint.keep_fold(&self.key(candidate, Some(f)), timing, &predicted)?;
        }
        let (candidate, fit_seconds) = (&candidate.name, timing.fit_seconds);
        self.say(&Event::Fold { candidate, fold: f, score, fit_seconds });
        Ok((timing, predicted))
    }

    fn check_cancelled(&self) -> Result<()> {
        if self.outer.cancel.is_some_and(Cancel::is_cancelled) {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    /// The scores of one prediction a fold, by the plan's metric and by the further ones.
    fn scores(&self, parts: &[&Matrix]) -> Result<(Score, Vec<Score>)> {
        let score = |metric: &Metric| {
            let folds = self.folds.iter().zip(parts).enumerate().map(|(f, (fold, part))| {
                let score = metric.score(self.data.take(&fold.test).truth(), part);
                score.map_err(|e| e.within(format!("{metric}, fold {f}")))
            });
            folds.collect::<Result<_>>().map(Score::of)
        };
        Ok((score(&self.metric)?, self.plan.also.iter().map(score).collect::<Result<_>>()?))
    }

    fn candidate_entries(&self, fitted: &[Fitted]) -> Vec<Entry> {
        let rows: usize = self.folds.iter().map(|fold| fold.test.len()).sum();
        self.candidates
            .iter()
            .zip(fitted)
            .map(|(candidate, fitted)| {
                let mut entry = Entry {
                    name: candidate.name.clone(),
                    status: Status::Done,
                    score: None,
                    also: Vec::new(),
                    fit_seconds: 0.0,
                    predict_micros: 0.0,
                    bytes: None,
                    members: Vec::new(),
                };
                match fitted {
                    Err(reason) => entry.status = Status::Failed(reason.clone()),
                    Ok(folds) => {
                        let parts: Vec<&Matrix> = folds.iter().map(|(_, y)| y).collect();
                        if folds.iter().any(|(timing, _)| timing.cut_short) {
                            entry.status = Status::CutShort;
                        }
                        entry.fit_seconds = folds.iter().map(|(t, _)| t.fit_seconds).sum();
                        let predict: f64 = folds.iter().map(|(t, _)| t.predict_seconds).sum();
                        entry.predict_micros = predict * 1e6 / rows as f64;
                        match self.scores(&parts) {
                            Ok((score, also)) => (entry.score, entry.also) = (Some(score), also),
                            Err(e) => fail(&mut entry, &e),
                        }
                    }
                }
                entry
            })
            .collect()
    }

    fn build_ensembles(&self, fitted: &[Fitted]) -> Vec<Built> {
        let candidates = self.candidate_entries(fitted);
        let ensembles = self.plan.ensembles.iter().zip(&self.combiners);
        ensembles
            .map(|(plan, combiner)| {
                let wanted = |name: &String| plan.members.is_empty() || plan.members.contains(name);
                let members: Vec<usize> = (0..candidates.len())
                    .filter(|&c| candidates[c].score.is_some() && wanted(&candidates[c].name))
                    .collect();
                let sum = |of: fn(&Entry) -> f64| members.iter().map(|&c| of(&candidates[c])).sum();
                let mut entry = Entry {
                    name: plan.name().to_owned(),
                    status: Status::Done,
                    score: None,
                    also: Vec::new(),
                    fit_seconds: sum(|entry| entry.fit_seconds),
                    predict_micros: sum(|entry| entry.predict_micros),
                    bytes: None,
                    members: members.iter().map(|&c| candidates[c].name.clone()).collect(),
                };
                let left_out = (plan.members.iter())
                    .find(|&name| !entry.members.contains(name))
                    .map(|name| format!("member `{name}` failed"));
                let nobody = members.is_empty().then(|| "no member succeeded".to_owned());
                if let Some(reason) = left_out.or(nobody) {
                    entry.status = Status::Failed(reason);
                    return Built { entry, combination: None };
                }
                let parts: Vec<(usize, &Vec<(Timing, Matrix)>)> =
                    members.iter().filter_map(|&c| Some((c, fitted[c].as_ref().ok()?))).collect();
                match schedule::contain(|| self.combine(&**combiner, &parts)) {
                    Ok((combination, score, also)) => {
                        (entry.score, entry.also) = (Some(score), also);
                        Built { entry, combination: Some(combination) }
                    }
                    Err(e) => {
                        fail(&mut entry, &e);
                        Built { entry, combination: None }
                    }
                }
            })
            .collect()
    }

    #[expect(clippy::type_complexity, reason = "used once, just above")]
    fn combine(
        &self,
        combiner: &dyn Combiner,
        members: &[(usize, &Vec<(Timing, Matrix)>)],
    ) -> Result<(Box<dyn Combination>, Score, Vec<Score>)> {
        let gathered: Vec<OutOfFold> =
            members.iter().map(|(_, folds)| self.gather(folds)).collect::<Result<_>>()?;
        let named: Vec<Member<'_>> = members
            .iter()
            .zip(&gathered)
            .map(|((c, _), all)| Member::new(&self.candidates[*c].name, all.predictions()))
            .collect();
        let Some(first) = gathered.first() else { return Err(Error::Cancelled) };
        let seen = self.data.take(first.rows());
        let ctx = FitContext::seeded(self.seed(None)).with_threads(self.threads.get());
        let combination = combiner.combine(&named, seen.truth(), self.metric, &ctx)?;
        let combined: Vec<Matrix> = (0..self.folds.len())
            .map(|f| {
                let parts: Vec<&Matrix> = members.iter().map(|(_, folds)| &folds[f].1).collect();
                combination.apply(&parts)
            })
            .collect::<Result<_>>()?;
        let (score, also) = self.scores(&combined.iter().collect::<Vec<_>>())?;
        Ok((combination, score, also))
    }

    fn gather(&self, folds: &[(Timing, Matrix)]) -> Result<OutOfFold> {
        let parts: Vec<Matrix> = folds.iter().map(|(_, y)| y.clone()).collect();
        OutOfFold::gather(self.data.n_rows(), &self.folds, &parts)
    }

    fn out_of_fold(&self, fitted: &[Fitted]) -> Result<Vec<(String, OutOfFold)>> {
        let good = self.candidates.iter().zip(fitted);
        good.filter_map(|(candidate, fitted)| Some((candidate, fitted.as_ref().ok()?)))
            .map(|(candidate, folds)| Ok((candidate.name.clone(), self.gather(folds)?)))
            .collect()
    }

    /// Fits what succeeded to all rows. A failure here costs the candidate its place.
    fn refit(
        &self,
        entries: &mut [Entry],
        fitted: &[Fitted],
    ) -> Result<Vec<Option<Arc<dyn Model>>>> {
        debug_assert_eq!(entries.len(), fitted.len());
        let jobs: Vec<usize> = (0..entries.len()).filter(|&c| entries[c].score.is_some()).collect();
        let demands = vec![Demand::of(self.data); jobs.len()];
        let notes = Mutex::new(Vec::new());
        let done = schedule::run(self.threads, &demands, |job, threads| {
            let candidate = &self.candidates[jobs[job]];
            let key = self.key(candidate, None);
            if let Some((_, bytes)) = self.checkpoint.model(&key)
                && let Ok(model) = self.outer.catalog.open(&bytes)
            {
                return Ok((Arc::from(model), bytes.len()));
            }
            schedule::contain(|| {
                let (model, timing) = self.fit(candidate, None, threads)?;
                let envelope = model.to_envelope()?;
                if timing.cut_short {
                    let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
                    notes.push(jobs[job]);
                } else {
                    self.checkpoint.keep_model(&key, timing, envelope.as_bytes())?;
                }
                let (candidate, fit_seconds) = (&candidate.name, timing.fit_seconds);
                self.say(&Event::Refitted { candidate, fit_seconds });
                Ok((Arc::from(model), envelope.as_bytes().len()))
            })
        });
        self.check_cancelled()?;
        let mut models: Vec<Option<Arc<dyn Model>>> = entries.iter().map(|_| None).collect();
        for (c, result) in jobs.into_iter().zip(done) {
            match result {
                Ok((model, bytes)) => {
                    models[c] = Some(model);
                    entries[c].bytes = Some(bytes);
                }
                Err(e) => {
                    let e = e.within("the fit to all rows");
                    let reason = e.chain();
                    self.say(&Event::Failed { candidate: &entries[c].name, reason: &reason });
                    fail(&mut entries[c], &e);
                }
            }
        }
        for c in notes.into_inner().unwrap_or_else(PoisonError::into_inner) {
            entries[c].status = Status::CutShort;
        }
        Ok(models)
    }

    /// The score of the training rows' class frequencies or mean.
    fn prior(&self) -> Option<Score> {
        let parts: Vec<Matrix> = self
            .folds
            .iter()
            .map(|fold| {
                let prior = prior(&self.data.take(&fold.train));
                let values = fold.test.iter().flat_map(|_| prior.iter().copied()).collect();
                Matrix::new(values, prior.len())
            })
            .collect::<Result<_>>()
            .ok()?;
        self.scores(&parts.iter().collect::<Vec<_>>()).ok().map(|(score, _)| score)
    }

    fn publish(
        &self,
        leaderboard: &Leaderboard,
        models: &[(String, Arc<dyn Model>)],
    ) -> Result<Option<Version>> {
        let (Some(registry), Some(target)) = (&self.registry, &self.plan.registry) else {
            return Ok(None);
        };
        let (Some(best), Some((name, model))) = (leaderboard.best(), models.first()) else {
            return Ok(None); // Nothing succeeded, and the leaderboard says why.
        };
        let identity = self.candidates.iter().find(|candidate| candidate.name == *name);
        let mut new = NewVersion::of(&**model)?.with_tag("candidate", name);
        let scores = best.score.iter().chain(&best.also);
        for (metric, score) in [leaderboard.metric].iter().chain(&leaderboard.also).zip(scores) {
            new = new
                .with_metric(metric.to_string(), score.mean)
                .with_metric(format!("{metric} spread"), score.spread);
        }
        let plan = self.plan.to_toml()?;
        let new = new.with_lineage(Lineage::default().with(|lineage| {
            lineage.data = Some(self.fingerprint.clone());
            lineage.plan = Some(plan);
            lineage.params =
                identity.map_or(serde_json::Value::Null, |c| c.identity.clone().into());
            lineage.seed = Some(self.plan.seed);
        }));
        let version = registry.publish(self.plan.model_name(), new)?;
        if let Some(alias) = &target.alias {
            let to = AliasMove::to(version.number)
                .by("orchestrator")
                .because(format!("best of plan `{}` by {}", self.plan.name, leaderboard.metric));
            registry.move_alias(self.plan.model_name(), alias, &to)?;
        }
        Ok(Some(version))
    }
}

/// Seeds of parts that are no fold.
const SPLIT: u64 = u64::MAX;
const REFIT: u64 = u64::MAX - 1;

fn fail(entry: &mut Entry, error: &Error) {
    entry.status = Status::Failed(error.chain());
    entry.score = None;
    entry.also.clear();
}

fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Parts training rows for early stopping: the latest rows where there are timestamps, whole groups
/// where there are groups, else at random, with the classes' shares.
fn inner_split(train: &Dataset, part: f64, seed: u64) -> Result<Fold> {
    let folds = if train.frame().times().is_some() {
        Holdout::last(part).split(train, seed)
    } else if train.groups().is_some() {
        GroupKFold::new((1.0 / part).round().max(2.0) as usize).split(train, seed)
    } else if matches!(train.task(), Task::Regression) {
        Holdout::new(part).split(train, seed)
    } else {
        Holdout::stratified(part).split(train, seed)
    };
    let mut folds = folds.map_err(|e| e.within("validation"))?;
    Ok(folds.swap_remove(0)) // `Splitter` guarantees at least one.
}

/// Weighted class frequencies, or the weighted mean, in the shape of [`Task::outputs`].
fn prior(data: &Dataset) -> Vec<f64> {
    let weight = |i: usize| data.weights().map_or(1.0, |w| w[i]);
    let total = data.total_weight();
    let target = data.target().iter().enumerate();
    match data.task() {
        // The mean of 0 and 1 is the frequency of class 1.
        Task::Regression | Task::Binary(_) => {
            vec![target.map(|(i, y)| weight(i) * y).sum::<f64>() / total]
        }
        Task::Multiclass(names) => {
            let mut shares = vec![0.0; names.len()];
            for (i, &y) in target {
                shares[y as usize] += weight(i) / total;
            }
            shares
        }
    }
}
