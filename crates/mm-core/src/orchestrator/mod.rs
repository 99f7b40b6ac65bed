//! Trains many candidates from one plan, compares them honestly, and keeps going.
//!
//! # What a run does
//!
//! 1. **Checks everything before any work**: names, kinds, params, metric against task, splitter
//!    against data, that each fold can be fitted to and scored on, the registry.
//! 2. **Tunes** the candidates that are to be tuned, by the same folds and metric, through a
//!    [`Tuner`]; the best params found take the candidate's place.
//! 3. **Cross-fits** each candidate: every fold's model predicts rows that it did not see. Fits run
//!    side by side under one budget of threads; a large one gets all of them. Each fold has a seed
//!    of its own that depends on its place, so results do not depend on threads or order.
//! 4. **Isolates failures**: an error, a panic, or a deadline costs that candidate only and stands
//!    on the leaderboard with its reason.
//! 5. **Builds ensembles** from out-of-fold predictions only ([`Combiner`](crate::Combiner)).
//! 6. **Refits** what succeeded to all rows.
//! 7. **Publishes** the best into the registry, with its lineage.
//!
//! With a checkpoint folder, finished fits are kept as they finish: a run killed at any point and
//! started again repeats none of them and ends with the same result. A folder that cannot be written
//! is an error at the start; should it fill up later, the log says so and the run goes on.
//!
//! # Limits
//!
//! A deadline reaches a fit through its [`FitContext`]; a learner that does not look at it cannot
//! be stopped. A fit that the deadline or the watcher cut short is not reproducible: the leaderboard
//! says so, and the checkpoint does not keep it.

mod checkpoint;
mod ensembles;
mod fits;
mod leaderboard;
mod plan;
mod run;
mod tuning;

use std::{fmt, sync::Arc, time::Instant};

use self::run::Run;
pub use self::{
    leaderboard::{Entry, Leaderboard, Score, Status},
    plan::{Budget, Candidate, DataPlan, EnsemblePlan, Plan, RegistryPlan},
    tuning::{
        Climbed, Config, Cost, CostKind, Family, Progress, Rungs, Scored, Steps, Thrift, Trade,
        Tried, TunePlan, TuneTask, Tuned, Tuner,
    },
};
use crate::{
    catalog::Catalog,
    context::{Cancel, Signal, Silent, Step},
    cross_fit::OutOfFold,
    data::Dataset,
    error::{Error, Result},
    learner::{BoxLearner, DynLearner},
    model::Model,
    registry::Version,
    split::Fold,
};

/// Trains what a [`Plan`] names, with the kinds of a [`Catalog`].
pub struct Orchestrator<'a> {
    catalog: &'a Catalog,
    watcher: &'a dyn Watcher,
    cancel: Option<&'a Cancel>,
    tuner: Option<&'a dyn Tuner>,
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
    /// What the searches found, by candidate, in plan order.
    pub tuned: Vec<(String, Tuned)>,
    /// The version under which the best was published, if the plan has a registry.
    pub published: Option<Version>,
    /// Why the best could not be published, or its alias not moved: what was fitted is not lost
    /// for it. Always `None` where the plan has no registry.
    pub publish_error: Option<Error>,
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
    /// A configuration was tried in the search for a candidate's params.
    Trial {
        /// The candidate's name.
        candidate: &'a str,
        /// The kind that was tried.
        kind: &'a str,
        /// Its mean score over the folds; `None` if it was given up or failed.
        score: Option<f64>,
        /// Seconds that it took.
        seconds: f64,
    },
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
    /// A candidate or an ensemble failed and is left out from here on.
    Failed {
        /// Its name.
        candidate: &'a str,
        /// Why.
        reason: &'a str,
    },
}

/// Hears what happens in a run. Called from several threads at once.
///
/// A panic in a watcher goes to the log, and the run goes on.
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

impl Watcher for Silent {
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
        Self { catalog, watcher: &Silent, cancel: None, tuner: None, own: Vec::new() }
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

    /// The same with somebody who searches for the params of candidates that are to be tuned.
    #[must_use]
    pub fn with_tuner(self, tuner: &'a dyn Tuner) -> Self {
        Self { tuner: Some(tuner), ..self }
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
        let started = Instant::now();
        let Some(data) = &plan.data else {
            return Err(Error::config("data", "expected a path, got no data"));
        };
        plan.check(&self.own_names())?; // Before the data are read, which may take long.
        let data = data.read(plan.budget.threads())?;
        Run::check(self, plan, &data, started)?.run()
    }

    /// Runs the plan on data in memory; what the plan says of data is ignored.
    pub fn run_on(&self, plan: &Plan, data: &Dataset) -> Result<Outcome> {
        Run::check(self, plan, data, Instant::now())?.run()
    }

    fn own_names(&self) -> Vec<&str> {
        self.own.iter().map(|(name, _)| name.as_str()).collect()
    }
}
