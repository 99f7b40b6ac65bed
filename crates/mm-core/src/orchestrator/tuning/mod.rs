//! The seam between a run and whoever searches for better params.
//!
//! The orchestrator knows how to score a configuration: by the plan's folds and its metric. A
//! [`Tuner`] knows which to try next, which to give up, and where what was tried is kept. Neither
//! knows the other: a [`TuneTask`] is all that passes between them.

mod cost;
mod plan;
mod score;
mod space;

use std::{
    fmt,
    num::NonZeroUsize,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::{
    cost::short,
    score::Rules,
    space::{Centre, Prefixed},
};
pub use self::{
    cost::{Cost, CostKind, Thrift, Trade},
    plan::{Rungs, Steps, TunePlan},
    space::Family,
};
use super::{
    Event, Plan,
    checkpoint::key,
    run::{Checked, Run},
};
use crate::{
    catalog::Catalog,
    context::{Cancel, Signal},
    error::{Error, Result},
    metric::Direction,
    schedule,
    search::Suggest,
    snapshot::Snapshots,
};

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

impl Config {
    fn with_rounds(&self, catalog: &Catalog, rounds: usize) -> Self {
        let Self { kind, params } = self;
        let found = Family::new(&**kind, params.clone()).with_rounds(catalog, rounds);
        found.map_or_else(|| self.clone(), |Family { kind, params }| Self { kind, params })
    }
}

/// What a search came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tuned {
    /// The configuration that was chosen: the best, unless the plan has [`Thrift`].
    pub best: Config,
    /// The number of its trial.
    #[serde(default)]
    pub trial: u64,
    /// Its score: the mean over the folds.
    pub score: f64,
    /// What it costs, as far as that is known.
    #[serde(default)]
    pub cost: Cost,
    /// What thrift chose from, and why this; none without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trade: Option<Trade>,
    /// Trials so far, over all processes and earlier runs.
    pub trials: u64,
    /// Of these, given up early.
    pub pruned: u64,
    /// Of these, failed.
    pub failed: u64,
    /// Of those that were scored, beyond the plan's limits.
    #[serde(default)]
    pub beyond: u64,
    /// Whether time ended the search, and not the number of trials.
    pub cut_short: bool,
}

impl Tuned {
    /// What was chosen of so many trials of which none was given up.
    pub fn new(chosen: Tried, trials: u64) -> Self {
        let Tried { config: best, trial, scored: Scored { score, cost, .. } } = chosen;
        let (trade, pruned, failed, beyond, cut_short) = (None, 0, 0, 0, false);
        Self { best, trial, score, cost, trade, trials, pruned, failed, beyond, cut_short }
    }

    /// Edits in place, for chaining.
    #[must_use]
    pub fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }
}

/// Which trial was chosen, and why: for example `trial 7 of 12, 0.905, the best; 2 were beyond the limits`.
impl fmt::Display for Tuned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trial {} of {}, ", self.trial, self.trials)?;
        match &self.trade {
            Some(trade) => write!(f, "{trade}")?,
            None => write!(f, "{}, the best", short(self.score))?,
        }
        if 0 < self.beyond {
            write!(f, "; {} were beyond the limits", self.beyond)?;
        }
        Ok(())
    }
}

/// A configuration that was tried, and what it came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tried {
    /// The number of the trial.
    pub trial: u64,
    /// What was tried.
    pub config: Config,
    /// What it came to.
    pub scored: Scored,
}

impl Tried {
    /// What trial number `trial` was, and came to.
    pub fn new(trial: u64, config: Config, scored: Scored) -> Self {
        Self { trial, config, scored }
    }

    /// The score so that less is better.
    fn loss(&self, direction: Direction) -> f64 {
        match direction {
            Direction::Minimize => self.scored.score,
            Direction::Maximize => -self.scored.score,
        }
    }
}

/// What a configuration came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Scored {
    /// The mean score over the folds; no NaN.
    pub score: f64,
    /// The standard error of that mean, taking the folds as independent.
    #[serde(default)]
    pub error: f64,
    /// What it cost.
    #[serde(default)]
    pub cost: Cost,
}

impl Scored {
    /// A score of which nothing else is known.
    pub fn new(score: f64) -> Self {
        Self { score, error: 0.0, cost: Cost::default() }
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
    started: Instant,
    /// Whether there is something to come home with when time is up.
    has_score: AtomicBool,
    /// What fits on rungs have left.
    kept: Snapshots,
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

    /// When no further trial may begin: by the search's `seconds`, or by the run's own deadline.
    pub fn deadline(&self) -> Option<Instant> {
        self.own_deadline().into_iter().chain(self.run.deadline).min()
    }

    fn own_deadline(&self) -> Option<Instant> {
        self.started.checked_add(Duration::from_secs_f64(self.plan.seconds?))
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

    /// What a search begins with: the kinds' own defaults, a point of the space each, as the answers to
    /// what [`draw`](Self::draw) asks, and then their [portfolios](crate::Search::portfolio), of which the
    /// kinds take turns.
    pub fn first(&self) -> Result<Vec<Vec<(String, Value)>>> {
        let (catalog, space) = (self.run.outer.catalog, self.plan.space);
        let is_alone = self.families.len() == 1;
        let mut all = Vec::new();
        for (i, family) in self.families.iter().enumerate() {
            let name = format!("{i}.{}", family.kind);
            for (turn, mut point) in family.points(catalog, space)?.into_iter().enumerate() {
                if !is_alone {
                    for (key, _) in &mut point {
                        *key = format!("{name}.{key}");
                    }
                    point.insert(0, ("kind".to_owned(), Value::String(name.clone())));
                }
                all.push((turn, i, point));
            }
        }
        all.sort_by_key(|&(turn, i, _)| (turn, i));
        Ok(all.into_iter().map(|(_, _, point)| point).collect())
    }

    /// Cross-validates a configuration. Without `watch` folds are fitted side by side; with it, so
    /// that `watch` hears of steps in order. Once one has been scored, others are given up when the
    /// search's `seconds` are up.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`] when `watch` answers otherwise than with [`Signal::Continue`], or the
    /// run is called off; [`Error::Deadline`] if time ran out meanwhile; else what the
    /// fit or its scores failed of.
    pub fn score(
        &self,
        config: &Config,
        watch: Option<&(dyn Fn(Progress) -> Signal + Sync)>,
    ) -> Result<Scored> {
        let started = Instant::now();
        let scored = self.run.score(self.candidate, config, self.rules(), watch);
        self.report(config, started, scored.as_ref().ok());
        scored
    }

    /// A configuration with so many rounds of boosting, its own or those of the one member that has any.
    pub fn with_rounds(&self, config: &Config, rounds: usize) -> Config {
        config.with_rounds(self.run.outer.catalog, rounds)
    }

    /// Cross-validates a configuration with `rounds` rounds in all, of which `models` have so many
    /// already; from nothing where there are none. A kind that [resumes](crate::Learner::resumes)
    /// needs no models, and one that cannot continue from them has no use for any.
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
        let (started, rules) = (Instant::now(), self.rules());
        let climbed = self.run.climb(self.candidate, config, rounds, models, &self.kept, rules);
        self.report(config, started, climbed.as_ref().ok().map(|climbed| &climbed.scored));
        climbed
    }

    fn rules(&self) -> Rules {
        let has_score = self.has_score.load(Ordering::Relaxed);
        Rules {
            steps: self.plan.steps,
            deadline: self.own_deadline().filter(|_| has_score),
            fit_seconds: self.plan.limits.fit_seconds,
            weighs_models: self.plan.weighs_models(),
            score_every: self.plan.rungs.map_or(NonZeroUsize::MIN, Rungs::score_every),
        }
    }

    fn report(&self, config: &Config, started: Instant, scored: Option<&Scored>) {
        self.has_score.fetch_or(scored.is_some(), Ordering::Relaxed);
        let (candidate, kind) = (self.candidate, &*config.kind);
        let (score, seconds) = (scored.map(|scored| scored.score), started.elapsed().as_secs_f64());
        self.run.say(&Event::Trial { candidate, kind, score, seconds });
    }
}

/// How a configuration did on a rung.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Climbed {
    /// What it came to with `rounds`.
    pub scored: Scored,
    /// Of the rounds up to the rung, so many were best: fewer than the rung has where rounds could be
    /// scored (every twentieth part of the lowest rung), which is so for kinds that continue from a
    /// model, if the plan's metric is the task's default one, has no `validation`, and nothing stops
    /// early. Costs but the fit's are then in proportion. The fit of a fold ends when the last third of
    /// its rounds was of no use.
    pub rounds: usize,
    /// What it can be expected to come to with many more rounds: as far as rounds could be scored, where
    /// the curve of their scores is heading.
    pub expected: f64,
    /// The folds' models, as they are stored: what the next rung begins with. None of a kind that
    /// [resumes](crate::Learner::resumes) or cannot continue, nor if a fold has ended before the rung.
    pub models: Vec<Vec<u8>>,
}

impl Run<'_> {
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
        let families = std::iter::once(own).chain(tune.also.clone());
        let families: Vec<Family> =
            families.map(|it| it.on(self.outer.catalog, tune.rungs)).collect();
        let Some(tuner) = self.outer.tuner else { return Err(no_tuner()) };
        let name = &self.candidates[c].name;
        let key = &self.search_key(tune, &families)[..16];
        let kept = match &self.plan.checkpoint {
            Some(folder) if tune.rungs.is_some() => {
                Snapshots::new(folder.join(format!("rungs-{key}")))?
            }
            _ => Snapshots::in_memory(),
        };
        tuner.tune(&TuneTask {
            run: self,
            plan: tune,
            candidate: name,
            families,
            study: format!("{}/{name} {key}", self.plan.name),
            started: Instant::now(),
            has_score: AtomicBool::new(false),
            kept: kept.lasting(),
        })
    }

    /// Everything that determines what a configuration scores, and which there are.
    fn search_key(&self, tune: &TunePlan, families: &[Family]) -> String {
        let families = serde_json::to_string(families).unwrap_or_default();
        let limits = serde_json::to_string(&tune.limits).unwrap_or_default();
        let second = tune.second_objective();
        let parts = [
            env!("CARGO_PKG_VERSION"),
            &self.fingerprint,
            &self.fold_keys.concat(),
            &self.metric.to_string(),
            &format!(
                "{:?} {:?} {:?} {limits} {second:?} {}",
                self.plan.validation, tune.space, tune.rungs, self.plan.seed
            ),
            &families,
        ];
        key(&parts)
    }
}

fn no_tuner() -> Error {
    Error::config("tune", "expected an orchestrator with a tuner, got one without")
}

fn no_rungs(kind: &str) -> Error {
    let expected = "a kind that has `rounds`, or a composite of which one member has";
    Error::config("rungs", format!("expected {expected}, got `{kind}`"))
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
            let beside_rungs = [
                ("pruner", !tune.pruner.is_null()),
                ("thrift.objective", tune.second_objective().is_some()),
            ];
            for (key, is_there) in beside_rungs {
                if tune.rungs.is_some() && is_there {
                    return Err(Error::config(key, "expected none beside `rungs`"));
                }
            }
            for family in std::iter::once(&own).chain(&tune.also) {
                let family = match tune.rungs {
                    Some(rungs) => &family
                        .with_rounds(outer.catalog, rungs.last)
                        .ok_or_else(|| no_rungs(&family.kind))?,
                    None => family,
                };
                // The space's centre shows whether what is fixed goes with it.
                let params = family.draw(outer.catalog, tune.space, &mut Centre)?;
                let learner = outer.catalog.learner(&family.kind, params);
                learner.map_err(|e| e.within(&*family.kind))?;
            }
            Ok(())
        };
        check().map_err(|e| e.within(place))?;
    }
    Ok(())
}
