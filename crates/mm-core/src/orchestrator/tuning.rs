//! The seam between a run and whoever searches for better params.
//!
//! The orchestrator knows how to score a configuration: by the plan's folds and its metric. A
//! [`Tuner`] knows which to try next, which to give up, and where what was tried is kept. Neither
//! knows the other: a [`TuneTask`] is all that passes between them.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Event, Plan,
    checkpoint::{Predicted, key},
    fits::Rung,
    run::{Checked, Run},
};
use crate::{
    catalog::Catalog,
    context::{Cancel, Signal, Step},
    error::{Error, ParamError, Result},
    metric::Direction,
    schedule::{self, Demand},
    search::{FloatRange, IntRange, SpaceSize, Suggest},
};

/// How a candidate's params are searched for: the `tune` of a [`Candidate`](super::Candidate).
///
/// | key | default | meaning |
/// | --- | --- | --- |
/// | `trials` | 50 | configurations that are tried, over all processes that share the storage |
/// | `seconds` | no limit | when it is up, no further one is begun |
/// | `space` | `medium` | how much of the params is searched |
/// | `also` | `[]` | further kinds, with params of their own, in the same search and under the same budget |
/// | `sampler` | the tuner's | who proposes: a name, or a table of `kind` and its params |
/// | `pruner` | none | who gives up early: the same |
/// | `steps` | `folds` | what a pruner sees: see [`Steps`] |
/// | `rungs` | none | boosters pause at rungs of rounds, and the best of each go on: see [`Rungs`] |
/// | `storage` | the checkpoint | where trials are kept: a file or an address that the tuner knows |
///
/// What a candidate's `params` say is fixed; the search fills in the rest of its space. The best
/// configuration then takes the candidate's place.
///
/// The search and the leaderboard use the same folds, so the winner's score is that of the best of
/// many draws and a little too good; compare it with candidates that were tuned as long, or hold a
/// test set back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TunePlan {
    /// Configurations that are tried.
    pub trials: u64,
    /// Seconds after which none is begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// How much of the params is searched.
    pub space: SpaceSize,
    /// Further kinds in the same search.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Family>,
    /// Who proposes.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub sampler: Value,
    /// Who gives up early.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub pruner: Value,
    /// What a pruner sees.
    pub steps: Steps,
    /// Where boosters pause, and how many go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rungs: Option<Rungs>,
    /// Where trials are kept; a relative path is taken from the plan's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
}

impl Default for TunePlan {
    fn default() -> Self {
        Self {
            trials: 50,
            seconds: None,
            space: SpaceSize::Medium,
            also: Vec::new(),
            sampler: Value::Null,
            pruner: Value::Null,
            steps: Steps::Folds,
            rungs: None,
            storage: None,
        }
    }
}

impl TunePlan {
    /// So many trials, everything else at its default.
    pub fn trials(trials: u64) -> Self {
        Self { trials, ..Self::default() }
    }

    /// Edits in place, for chaining.
    #[must_use]
    pub fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }

    pub(super) fn check(&self) -> Result<(), ParamError> {
        ParamError::ensure(1 <= self.trials, "trials", self.trials, "at least 1")?;
        self.rungs.map_or(Ok(()), Rungs::check)?;
        let seconds = self.seconds.unwrap_or(1.0);
        let ok = 0.0 < seconds && Duration::try_from_secs_f64(seconds).is_ok();
        ParamError::ensure(ok, "seconds", seconds, "a number of seconds above 0")
    }

    pub(super) fn relative_to(&mut self, folder: &Path) {
        if let Some(storage) = &mut self.storage
            && !storage.contains("://")
        {
            *storage = folder.join(PathBuf::from(&*storage)).to_string_lossy().into_owned();
        }
    }
}

/// What a pruner sees of a configuration that is being scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Steps {
    /// The score of each fold, once it is done.
    #[default]
    Folds,
    /// The mean over the folds, after each round, of the plan's metric on the validation data. It
    /// needs the plan's `validation`, and learners that report the plan's metric. The folds take
    /// turns, a round each.
    Rounds,
}

/// Rungs of boosting rounds: a trial ends when it has reached one, and its models are kept. Of the
/// trials on a rung the best 1/`eta` go on to the next, which has `eta` times as many rounds, from
/// the models that they have: no round is trained twice (asynchronous successive halving, Li et al.
/// 2020, with promotions instead of stops).
///
/// Each rung of a configuration is a trial of its own. The kinds must have `rounds` and be able to
/// continue from a model ([`WarmStart`](crate::WarmStart)); `rounds` is not searched. The winner is
/// then fitted at once with `last` rounds, which differs from what climbed by rounding, and by what
/// is drawn at random.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `first` | 50 | ≥ 1 | rounds of the lowest rung |
/// | `last` | 450 | ≥ `first` | rounds of the highest |
/// | `eta` | 3 | ≥ 2 | one in so many goes on |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rungs {
    /// Rounds of the lowest rung.
    pub first: usize,
    /// Rounds of the highest.
    pub last: usize,
    /// One in so many goes on.
    pub eta: usize,
}

impl Default for Rungs {
    fn default() -> Self {
        Self { first: 50, last: 450, eta: 3 }
    }
}

impl Rungs {
    /// The rounds at which trials pause, lowest first.
    pub fn rounds(&self) -> Vec<usize> {
        let below = std::iter::successors(Some(self.first), |n| n.checked_mul(self.eta));
        below.take_while(|&n| n < self.last).chain([self.last]).collect()
    }

    fn check(self) -> Result<(), ParamError> {
        let Self { first, last, eta } = self;
        ParamError::ensure(1 <= first, "rungs.first", first, "at least 1")?;
        ParamError::ensure(first <= last, "rungs.last", last, format!("at least {first}"))?;
        ParamError::ensure(2 <= eta, "rungs.eta", eta, "at least 2")
    }
}

/// A kind of model with the params that are fixed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Family {
    /// A kind of the catalog that has a search space.
    pub kind: String,
    /// What is fixed.
    #[serde(default = "super::plan::empty")]
    pub params: Value,
}

impl Family {
    /// A kind, with params that are fixed: an object.
    pub fn new(kind: impl Into<String>, params: Value) -> Self {
        Self { kind: kind.into(), params }
    }

    /// The same with as many rounds as the highest rung.
    fn on(mut self, rungs: Option<Rungs>) -> Self {
        if let (Some(rungs), Value::Object(params)) = (rungs, &mut self.params) {
            params.insert("rounds".to_owned(), rungs.last.into());
        }
        self
    }

    /// Draws a configuration from the kind's space. What is fixed is not asked for.
    pub fn draw(
        &self,
        catalog: &Catalog,
        space: SpaceSize,
        draw: &mut dyn Suggest,
    ) -> Result<Value> {
        let empty = Value::Null;
        let defaults = catalog.defaults(&self.kind).unwrap_or(&empty);
        let mut pinned = Pinned { fixed: &self.params, defaults, draw };
        let mut params = catalog.search(&self.kind, space, &mut pinned)?;
        overlay(&mut params, &self.params, defaults);
        Ok(params)
    }
}

/// Whether `fixed` takes the place of a value whose default is `default`, instead of being merged
/// into it: all but tables of fields that the default has, too. Alternatives with data are tables
/// as well, but of one key that the default may lack.
fn replaces(fixed: &Value, default: &Value) -> bool {
    match (fixed, default) {
        (Value::Object(fixed), Value::Object(default)) => {
            fixed.keys().any(|key| !default.contains_key(key))
        }
        _ => true,
    }
}

fn overlay(params: &mut Value, fixed: &Value, default: &Value) {
    match (&mut *params, fixed) {
        (Value::Object(params), Value::Object(fields)) if !replaces(fixed, default) => {
            for (key, field) in fields {
                let place = params.entry(key.clone()).or_insert(Value::Null);
                overlay(place, field, &default[key]);
            }
        }
        _ => *params = fixed.clone(),
    }
}

/// Asks only for what is not fixed; to the rest it answers with the least value, which
/// [`overlay`] replaces.
struct Pinned<'a> {
    fixed: &'a Value,
    defaults: &'a Value,
    draw: &'a mut dyn Suggest,
}

impl Pinned<'_> {
    fn is_fixed(&self, path: &str) -> bool {
        let (mut fixed, mut default) = (self.fixed, self.defaults);
        for key in path.split('.') {
            if replaces(fixed, default) {
                return true;
            }
            match fixed.get(key) {
                Some(field) => (fixed, default) = (field, &default[key]),
                None => return false,
            }
        }
        true
    }
}

impl Suggest for Pinned<'_> {
    fn float(&mut self, name: &str, range: FloatRange) -> Result<f64> {
        if self.is_fixed(name) { Ok(range.low) } else { self.draw.float(name, range) }
    }

    fn int(&mut self, name: &str, range: IntRange) -> Result<i64> {
        if self.is_fixed(name) { Ok(range.low) } else { self.draw.int(name, range) }
    }

    fn choose(&mut self, name: &str, choices: &[&str]) -> Result<usize> {
        if self.is_fixed(name) { Ok(0) } else { self.draw.choose(name, choices) }
    }
}

/// Asks under the names of one family of several.
struct Prefixed<'a> {
    prefix: &'a str,
    draw: &'a mut dyn Suggest,
}

impl Suggest for Prefixed<'_> {
    fn float(&mut self, name: &str, range: FloatRange) -> Result<f64> {
        self.draw.float(&format!("{}.{name}", self.prefix), range)
    }

    fn int(&mut self, name: &str, range: IntRange) -> Result<i64> {
        self.draw.int(&format!("{}.{name}", self.prefix), range)
    }

    fn choose(&mut self, name: &str, choices: &[&str]) -> Result<usize> {
        self.draw.choose(&format!("{}.{name}", self.prefix), choices)
    }
}

/// Finds good params by trying some: see [`Orchestrator::with_tuner`](super::Orchestrator::with_tuner).
pub trait Tuner: fmt::Debug + Send + Sync {
    /// Refuses what of a plan it does not understand, before any work.
    fn check(&self, plan: &TunePlan) -> Result<()>;

    /// Tries configurations until the task's budget is spent, and returns the best.
    ///
    /// # Errors
    ///
    /// If none could be scored; [`Error::Cancelled`] when the run is called off.
    fn tune(&self, task: &TuneTask<'_>) -> Result<Tuned>;
}

/// What is tried: a kind with its params.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Config {
    /// A kind of the catalog.
    pub kind: String,
    /// All that was drawn and fixed; the rest is default.
    pub params: Value,
}

/// What a search came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tuned {
    /// The best configuration.
    pub best: Config,
    /// Its score: the mean over the folds.
    pub score: f64,
    /// Trials so far, over all processes and earlier runs.
    pub trials: u64,
    /// Of these, given up early.
    pub pruned: u64,
    /// Of these, failed.
    pub failed: u64,
    /// Whether time ended the search, and not the number of trials.
    pub cut_short: bool,
}

impl Tuned {
    /// The best configuration and its score, of so many trials of which none was given up.
    pub fn new(best: Config, score: f64, trials: u64) -> Self {
        Self { best, score, trials, pruned: 0, failed: 0, cut_short: false }
    }

    /// Edits in place, for chaining.
    #[must_use]
    pub fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }
}

/// How the scoring of a configuration is getting on.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Progress {
    /// So many folds are done, and the last of them scored so much.
    Fold {
        /// Folds done, from 1.
        done: usize,
        /// The last one's score.
        score: f64,
    },
    /// A round is done in every fold that is still being fitted.
    Round {
        /// The round, from 1.
        round: usize,
        /// The mean score over the folds on the validation data.
        score: f64,
    },
}

/// One candidate's params to be searched for.
pub struct TuneTask<'a> {
    run: &'a Run<'a>,
    plan: &'a TunePlan,
    candidate: &'a str,
    families: Vec<Family>,
    study: String,
}

impl fmt::Debug for TuneTask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TuneTask")
            .field("study", &self.study)
            .field("plan", self.plan)
            .field("families", &self.families)
            .finish_non_exhaustive()
    }
}

impl<'a> TuneTask<'a> {
    /// What the plan says of the search.
    pub fn plan(&self) -> &'a TunePlan {
        self.plan
    }

    /// A name for the search that no other has whose scores could differ: of the plan, the
    /// candidate, and a hash of the data, the folds, the metric, the seed, and the spaces.
    pub fn study(&self) -> &str {
        &self.study
    }

    /// The folder for what must survive a kill, if the plan has one.
    pub fn checkpoint(&self) -> Option<&'a Path> {
        self.run.plan.checkpoint.as_deref()
    }

    /// Which scores are better.
    pub fn direction(&self) -> Direction {
        self.run.metric.direction()
    }

    /// All randomness of the search derives from this.
    pub fn seed(&self) -> u64 {
        self.run.seed(None)
    }

    /// When no further trial may begin: by the search's `seconds`, counted from `started`, or by
    /// the run's own deadline.
    pub fn deadline(&self, started: Instant) -> Option<Instant> {
        let own = self.plan.seconds.and_then(|s| started.checked_add(Duration::from_secs_f64(s)));
        own.into_iter().chain(self.run.deadline).min()
    }

    /// What calls the run off from another thread.
    pub fn cancel(&self) -> Option<&'a Cancel> {
        self.run.outer.cancel
    }

    /// An error if the run was called off.
    pub fn check_cancelled(&self) -> Result<()> {
        self.run.check_cancelled()
    }

    /// The candidate's kinds, its own first.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// Draws a configuration. With several families the first question is `kind`, and those of a
    /// family have its place and kind before their names (`1.xgboost.rounds`).
    pub fn draw(&self, draw: &mut dyn Suggest) -> Result<Config> {
        let (catalog, space) = (self.run.outer.catalog, self.plan.space);
        let config = |family: &Family, draw: &mut dyn Suggest| {
            let params = family.draw(catalog, space, draw)?;
            Ok(Config { kind: family.kind.clone(), params })
        };
        if let [family] = &self.families[..] {
            return config(family, draw);
        }
        let names: Vec<String> =
            self.families.iter().enumerate().map(|(i, f)| format!("{i}.{}", f.kind)).collect();
        let choices: Vec<&str> = names.iter().map(String::as_str).collect();
        let chosen = draw.choose("kind", &choices)?;
        config(&self.families[chosen], &mut Prefixed { prefix: choices[chosen], draw })
    }

    /// Cross-validates a configuration: the mean score over the plan's folds. Without `watch` folds
    /// are fitted side by side; with it, so that `watch` hears of steps in order.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`] when `watch` answers otherwise than with [`Signal::Continue`], or the
    /// run is called off; [`Error::Deadline`] if the run's time ran out meanwhile; else what the
    /// fit or its scores failed of.
    pub fn score(
        &self,
        config: &Config,
        watch: Option<&(dyn Fn(Progress) -> Signal + Sync)>,
    ) -> Result<f64> {
        let started = Instant::now();
        let scored = self.run.score(self.candidate, config, self.plan.steps, watch);
        let candidate = self.candidate;
        let score = scored.as_ref().ok().copied();
        let seconds = started.elapsed().as_secs_f64();
        self.run.say(&Event::Trial { candidate, kind: &config.kind, score, seconds });
        scored
    }
}

/// How a configuration did on a rung.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Climbed {
    /// The mean score over the folds.
    pub score: f64,
    /// The folds' models, as they are stored: what the next rung begins with.
    pub models: Vec<Vec<u8>>,
}

impl TuneTask<'_> {
    /// Cross-validates a configuration with `rounds` rounds in all, of which `models` have so many
    /// already; from nothing where there are none.
    ///
    /// # Errors
    ///
    /// As [`score`](Self::score); also for models that cannot be opened, or are not of these folds.
    pub fn climb(
        &self,
        config: &Config,
        rounds: usize,
        models: Option<(usize, &[Vec<u8>])>,
    ) -> Result<Climbed> {
        let started = Instant::now();
        let climbed = self.run.climb(self.candidate, config, rounds, models);
        let (candidate, kind) = (self.candidate, &*config.kind);
        let score = climbed.as_ref().ok().map(|climbed| climbed.score);
        let seconds = started.elapsed().as_secs_f64();
        self.run.say(&Event::Trial { candidate, kind, score, seconds });
        climbed
    }
}

impl Run<'_> {
    fn climb(
        &self,
        name: &str,
        config: &Config,
        rounds: usize,
        models: Option<(usize, &[Vec<u8>])>,
    ) -> Result<Climbed> {
        let catalog = self.outer.catalog;
        let (done, models) = models.unwrap_or((0, &[]));
        if 0 < done && models.len() != self.folds.len() {
            return Err(Error::data("models to continue from", self.folds.len(), models.len()));
        }
        let mut params = config.params.clone();
        params["rounds"] = rounds.saturating_sub(done).max(1).into();
        let learner = catalog.learner(&config.kind, params.clone())?;
        let candidate = Checked::of(name.to_owned(), &config.kind, &params, learner);
        let demands = vec![Demand::of(self.data); self.folds.len()];
        let climbed = schedule::run(self.threads, &demands, |f, threads| {
            let climb = || {
                let model = models.get(f).map(|bytes| catalog.open(bytes)).transpose()?;
                let after = model.map(|model| Rung { model, rounds: done });
                let after = after.as_ref();
                let (model, fold) = self.climb_fold(&candidate, f, threads, &|_| GO, after)?;
                let score = self.score_fold(f, &fold)?;
                Ok((score, model.to_envelope()?.into_bytes()))
            };
            schedule::contain(climb).map_err(|e| e.within(format!("fold {f}")))
        });
        self.check_cancelled()?;
        let climbed: Vec<(f64, Vec<u8>)> = climbed.into_iter().collect::<Result<_>>()?;
        let score = climbed.iter().map(|(score, _)| score).sum::<f64>() / climbed.len() as f64;
        Ok(Climbed { score, models: climbed.into_iter().map(|(_, model)| model).collect() })
    }

    fn score_fold(&self, f: usize, fold: &Predicted) -> Result<f64> {
        if fold.timing.cut_short && self.context(0, self.threads).is_due() {
            return Err(Error::Deadline);
        }
        fold.score(&self.metric, &self.data.take(&self.folds[f].test))
    }

    /// Replaces each candidate that is to be tuned by the best that its search finds. A search that
    /// fails costs that candidate only.
    pub(super) fn tune(&mut self) -> Result<Vec<(String, Tuned)>> {
        let mut all = Vec::new();
        for c in 0..self.candidates.len() {
            let Some(tune) = self.plan.candidates.get(c).and_then(|it| it.tune.as_ref()) else {
                continue;
            };
            let searched = schedule::contain(|| self.search(c, tune));
            self.check_cancelled()?;
            let found = searched.and_then(|tuned| {
                let Config { kind, params } = &tuned.best;
                let learner = self.outer.catalog.learner(kind, params.clone())?;
                Ok((Checked::of(self.candidates[c].name.clone(), kind, params, learner), tuned))
            });
            match found {
                Ok((mut checked, tuned)) => {
                    checked.search_cut_short = tuned.cut_short;
                    self.candidates[c] = checked;
                    all.push((self.candidates[c].name.clone(), tuned));
                }
                Err(e) => self.candidates[c].failure = Some(e.chain()),
            }
        }
        Ok(all)
    }

    fn search(&self, c: usize, tune: &TunePlan) -> Result<Tuned> {
        let candidate = &self.plan.candidates[c];
        let own = Family::new(&*candidate.kind, candidate.params.clone());
        let families: Vec<Family> =
            std::iter::once(own).chain(tune.also.clone()).map(|it| it.on(tune.rungs)).collect();
        let Some(tuner) = self.outer.tuner else { return Err(no_tuner()) };
        let name = &self.candidates[c].name;
        let study =
            format!("{}/{name} {}", self.plan.name, &self.search_key(tune, &families)[..16]);
        tuner.tune(&TuneTask { run: self, plan: tune, candidate: name, families, study })
    }

    /// Everything that determines what a configuration scores, and which there are.
    fn search_key(&self, tune: &TunePlan, families: &[Family]) -> String {
        let families = serde_json::to_string(families).unwrap_or_default();
        let parts = [
            env!("CARGO_PKG_VERSION"),
            &self.fingerprint,
            &self.fold_keys.concat(),
            &self.metric.to_string(),
            &format!(
                "{:?} {:?} {:?} {}",
                self.plan.validation, tune.space, tune.rungs, self.plan.seed
            ),
            &families,
        ];
        key(&parts)
    }

    fn score(
        &self,
        name: &str,
        config: &Config,
        steps: Steps,
        watch: Option<&(dyn Fn(Progress) -> Signal + Sync)>,
    ) -> Result<f64> {
        let learner = self.outer.catalog.learner(&config.kind, config.params.clone())?;
        let candidate = Checked::of(name.to_owned(), &config.kind, &config.params, learner);
        let score = |f: usize, fold: Predicted| self.score_fold(f, &fold);
        let within = |f: usize| move |e: Error| e.within(format!("fold {f}"));
        let n = self.folds.len();
        let scores: Vec<f64> = match watch {
            None => {
                let demands = vec![Demand::of(self.data); n];
                let done = schedule::run(self.threads, &demands, |f, threads| {
                    schedule::contain(|| self.predict_fold(&candidate, f, threads, &|_| GO))
                        .and_then(|fold| score(f, fold))
                        .map_err(within(f))
                });
                done.into_iter().collect::<Result<_>>()?
            }
            Some(watch) if steps == Steps::Folds => {
                let mut scores = Vec::with_capacity(n);
                for f in 0..n {
                    let fold = self.predict_fold(&candidate, f, self.threads, &|_| GO);
                    let score = fold.and_then(|fold| score(f, fold)).map_err(within(f))?;
                    scores.push(score);
                    if watch(Progress::Fold { done: f + 1, score }) != GO {
                        return Err(Error::Cancelled);
                    }
                }
                scores
            }
            Some(watch) => {
                let metric = self.metric.to_string();
                let turns = Turns::new(n, watch);
                let fit = |f: usize| {
                    let _seat = turns.sit(f);
                    schedule::contain(|| {
                        let heard = |step: &Step<'_>| {
                            let found = step.metrics.iter().find(|(name, _)| *name == metric);
                            turns.pass(f, step.iteration, found.map(|&(_, score)| score))
                        };
                        self.predict_fold(&candidate, f, self.threads, &heard)
                    })
                    .and_then(|fold| score(f, fold))
                    .map_err(within(f))
                };
                let done: Vec<Result<f64>> = thread::scope(|scope| {
                    let fit = &fit;
                    let folds: Vec<_> = (0..n).map(|f| scope.spawn(move || fit(f))).collect();
                    let joined = folds.into_iter().map(|fold| {
                        fold.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                    });
                    joined.collect()
                });
                if turns.is_over() {
                    return Err(Error::Cancelled);
                }
                done.into_iter().collect::<Result<_>>()?
            }
        };
        self.check_cancelled()?;
        Ok(scores.iter().sum::<f64>() / n as f64)
    }
}

const GO: Signal = Signal::Continue;

/// Lets the folds of one configuration take turns, a round each, so that the mean over them is
/// known after each round and only one of them uses the threads.
struct Turns<'a> {
    table: Mutex<Table>,
    moved: Condvar,
    watch: &'a (dyn Fn(Progress) -> Signal + Sync),
}

struct Table {
    turn: usize,
    seated: Vec<bool>,
    scores: Vec<Option<f64>>,
    round: usize,
    answer: Signal,
}

impl<'a> Turns<'a> {
    fn new(n: usize, watch: &'a (dyn Fn(Progress) -> Signal + Sync)) -> Self {
        let table =
            Table { turn: 0, seated: vec![true; n], scores: vec![None; n], round: 0, answer: GO };
        Self { table: Mutex::new(table), moved: Condvar::new(), watch }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the fold's first turn; who drops the seat leaves the table.
    fn sit(&self, fold: usize) -> Seat<'_, 'a> {
        let table = self.lock();
        drop(self.moved.wait_while(table, |table| table.turn != fold && table.answer == GO));
        Seat { turns: self, fold }
    }

    /// Ends the fold's round, lets the others have theirs, and returns what the watch says.
    fn pass(&self, fold: usize, round: usize, score: Option<f64>) -> Signal {
        let mut table = self.lock();
        table.round = table.round.max(round);
        table.scores[fold] = score.or(table.scores[fold]);
        self.advance(&mut table, fold);
        let waited = |table: &mut Table| table.turn != fold && table.answer == GO;
        let table = self.moved.wait_while(table, waited);
        table.unwrap_or_else(PoisonError::into_inner).answer
    }

    /// Gives the turn to the next fold; after the last one the mean is told.
    fn advance(&self, table: &mut Table, from: usize) {
        let next = (from + 1..table.seated.len()).find(|&f| table.seated[f]);
        if next.is_none() && table.answer == GO {
            let scores: Option<Vec<f64>> = table.scores.iter().copied().collect();
            if let Some(scores) = scores {
                let score = scores.iter().sum::<f64>() / scores.len() as f64;
                table.answer = (self.watch)(Progress::Round { round: table.round, score });
            }
        }
        table.turn = next
            .or_else(|| table.seated.iter().position(|&seated| seated))
            .unwrap_or(table.seated.len());
        self.moved.notify_all();
    }

    fn is_over(&self) -> bool {
        self.lock().answer != GO
    }
}

/// A fold's place among those that take turns; given up also when the fit panics.
struct Seat<'t, 'a> {
    turns: &'t Turns<'a>,
    fold: usize,
}

impl Drop for Seat<'_, '_> {
    fn drop(&mut self) {
        let mut table = self.turns.lock();
        table.seated[self.fold] = false;
        // Whoever leaves out of turn, because the watch ended it all, has nothing to pass on.
        if table.turn == self.fold {
            self.turns.advance(&mut table, self.fold);
        }
    }
}

fn no_tuner() -> Error {
    Error::config("tune", "expected an orchestrator with a tuner, got one without")
}

/// What of a plan's searches can be checked before any work.
pub(super) fn check(outer: &super::Orchestrator<'_>, plan: &Plan) -> Result<()> {
    for (i, candidate) in plan.candidates.iter().enumerate() {
        let Some(tune) = &candidate.tune else { continue };
        let place = format!("candidates.{i}.tune");
        let own = Family::new(&*candidate.kind, candidate.params.clone());
        let check = || -> Result<()> {
            tune.check()?;
            outer.tuner.ok_or_else(no_tuner)?.check(tune)?;
            if tune.steps == Steps::Rounds && plan.validation.is_none() {
                let problem = "expected a plan with `validation`, whose score rounds report";
                return Err(Error::config("steps", problem));
            }
            if tune.rungs.is_some() && !tune.pruner.is_null() {
                return Err(Error::config("pruner", "expected none beside `rungs`"));
            }
            for family in std::iter::once(&own).chain(&tune.also) {
                let family = &family.clone().on(tune.rungs);
                // The space's centre shows whether what is fixed goes with it.
                let params = family.draw(outer.catalog, tune.space, &mut Centre)?;
                let learner = outer.catalog.learner(&family.kind, params);
                let learner = learner.map_err(|e| e.within(&*family.kind))?;
                if tune.rungs.is_some() && learner.as_warm_start().is_none() {
                    let problem =
                        format!("expected kinds that can continue, got `{}`", family.kind);
                    return Err(Error::config("rungs", problem));
                }
            }
            Ok(())
        };
        check().map_err(|e| e.within(place))?;
    }
    Ok(())
}

/// Answers with the middle of every range.
struct Centre;

impl Suggest for Centre {
    fn float(&mut self, name: &str, range: FloatRange) -> Result<f64> {
        range.check(name)?;
        let FloatRange { low, high, step, log } = range;
        let middle = if log { (low * high).sqrt() } else { low + (high - low) / 2.0 };
        Ok(step.map_or(middle, |step| low + ((middle - low) / step).floor() * step))
    }

    fn int(&mut self, name: &str, range: IntRange) -> Result<i64> {
        range.check(name)?;
        Ok(range.low + (range.high - range.low) / 2 / range.step * range.step)
    }

    fn choose(&mut self, _: &str, _: &[&str]) -> Result<usize> {
        Ok(0)
    }
}
