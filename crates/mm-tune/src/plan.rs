//! Searching for the params of a plan's candidates.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mm_core::{
    Config, Direction, Error, FloatRange, IntRange, ParamError, Progress, Result, Scored, Signal,
    Steps, Suggest, Tried, TunePlan, TuneTask, Tuned, Tuner,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    json::Json,
    optimize::{Heartbeat, Until},
    pruner::{
        Decision, HalvingPruner, HyperbandPruner, NoPruner, PatientPruner, PercentilePruner,
        Pruner, Report, ThresholdPruner, WilcoxonPruner,
    },
    rungs::Climb,
    sampler::{
        Ask, AutoSampler, CmaParams, GpParams, Proposal, QmcSampler, RandomSampler, Sampler,
        TpeParams,
    },
    storage::{self, JournalStorage, MemoryStorage, Storage},
    study::{Outcome, Study, Trial},
    trial::{FrozenTrial, TrialState},
};

/// Tunes the candidates of a plan: what an
/// [`Orchestrator`](mm_core::Orchestrator::with_tuner) is given.
///
/// ```toml
/// [[candidates]]
/// kind = "lightgbm"
/// params = { rounds = 300 }                 # fixed
/// tune = { trials = 50, space = "medium", sampler = "tpe", pruner = "wilcoxon" }
/// ```
///
/// | `sampler` | params |
/// | --- | --- |
/// | `auto` (default without a pruner, rungs, or further families) | none |
/// | `tpe` (default otherwise; by groups where there are several families) | [`TpeParams`] |
/// | `gp` | [`GpParams`] |
/// | `cma` | [`CmaParams`] |
/// | `random` | none |
/// | `qmc` | none |
///
/// | `pruner` | params |
/// | --- | --- |
/// | none (default) | |
/// | `median`, `percentile` | [`PercentilePruner`] |
/// | `halving` | [`HalvingPruner`] |
/// | `hyperband` | [`HyperbandPruner`] |
/// | `wilcoxon` | [`WilcoxonPruner`]; for `steps = "folds"` |
/// | `threshold` | [`ThresholdPruner`] |
/// | `patient` | `patience`, `min_delta`, and the pruner that it wraps, `inner` |
///
/// With params either is a table: `pruner = { kind = "hyperband", eta = 4 }`.
///
/// Of folds, a pruner sees the mean of the scores so far; `wilcoxon`, which pairs them with those of
/// the best trial, each by itself. Trials live in `storage`: a SQLite file (`.db`, `.sqlite`,
/// `.sqlite3`), a PostgreSQL address (`postgresql://…`), or else a journal file; without one in the
/// journal `tuning.journal` in the plan's checkpoint folder, or in memory. What a trial was and came to
/// stands in its user attributes `config` and `came_to` (score, standard error, and costs), and how far it
/// is beyond the plan's limits, as a part of each, in its constraints. A run that is killed and
/// started again goes on with the trials it had; several processes that run the same plan on one
/// storage share the search. A point that another trial has already is drawn anew, and where that is
/// of no use, its score is taken.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlanTuner;

/// So often trials of a plan show that they live, where others can see it.
const BEAT: Duration = Duration::from_secs(10);
/// After so long they are taken for dead: longer than the lock of a journal outlives its holder.
const GRACE: Duration = Duration::from_secs(45);
/// The attribute that holds what a trial is, for whoever looks at the study.
const CONFIG: &str = "config";
/// The attribute that holds what a trial came to.
const CAME_TO: &str = "came_to";

impl Tuner for PlanTuner {
    fn check(&self, plan: &TunePlan) -> Result<()> {
        sampler(plan).map_err(|e| e.within("sampler"))?;
        let (name, _) = pruner(&plan.pruner).map_err(|e| e.within("pruner"))?;
        if plan.second_objective().is_some() && named(&plan.sampler)?.0 == "cma" {
            let problem = "expected one for two objectives, which the thrift makes, got `cma`";
            return Err(Error::config("sampler", problem));
        }
        if name == "wilcoxon" && plan.steps != Steps::Folds {
            let problem = "expected `folds` for the pruner `wilcoxon`, got `rounds`";
            return Err(Error::config("steps", problem));
        }
        plan.storage.as_deref().map_or(Ok(()), storage::check_place)
    }

    fn tune(&self, task: &TuneTask<'_>) -> Result<Tuned> {
        let plan = task.plan();
        let storage = open(plan.storage.as_deref(), task.checkpoint())?;
        let (name, pruner) = pruner(&plan.pruner)?;
        let mut directions = vec![task.direction()];
        directions.extend(plan.second_objective().map(|_| Direction::Minimize));
        let mut study = Study::open(storage.clone(), task.study(), &directions)?
            .with_seed(task.seed())
            .with_sampler(Any(sampler(plan)?))
            .with_pruner(Any(pruner))
            .with_first(first(task)?)
            .without_duplicates();
        if plan.storage.is_some() || task.checkpoint().is_some() {
            let mut heartbeat = Heartbeat::every(BEAT);
            heartbeat.grace = GRACE;
            study = study.with_heartbeat(heartbeat);
        }
        let mut until = Until::trials(plan.trials);
        until.deadline = task.deadline();
        until.cancel = task.cancel();
        if let Some(rungs) = plan.rungs {
            let climb = Climb::new(task, rungs);
            let promote = |at_least_one| climb.promote(&study, at_least_one);
            let done = study
                .optimize_enqueuing(until, promote, |trial| climb.score(&study, trial))
                .and_then(|()| study.trials());
            task.check_cancelled()?;
            return summary(&done?, task, &|trial| climb.reached(trial));
        }
        let scorer = Scorer { task, name: &name };
        study.optimize_until(until, |trial| scorer.score(&study, trial))?;
        task.check_cancelled()?;
        summary(&study.trials()?, task, &|trial| {
            if trial.state != TrialState::Complete {
                return Ok(Vec::new());
            }
            let scored = scored(trial, trial.values[0]);
            Ok(vec![Tried::new(trial.number, config(trial, task)?, scored)])
        })
    }
}

/// The kinds' defaults and portfolios, for the first trials.
fn first(task: &TuneTask<'_>) -> Result<Vec<Vec<(String, Json)>>> {
    let json = |(name, x): (String, Value)| Ok((name, Json::parse(&x.to_string())?));
    let point = |point: Vec<(String, Value)>| point.into_iter().map(json).collect();
    task.first()?.into_iter().map(point).collect()
}

/// Scores trials.
struct Scorer<'a> {
    task: &'a TuneTask<'a>,
    name: &'a str, // The pruner's.
}

impl Scorer<'_> {
    fn score(&self, study: &Study, trial: &mut Trial) -> Result<Outcome> {
        let config = trial.draw(|space| self.task.draw(space))?;
        note_config(trial, &config)?;
        if let Some(twin) = trial.twin()
            && twin.state == TrialState::Complete
        {
            return self.ended(trial, &scored(&twin, twin.values[0]));
        }
        let sum = Mutex::new(0.0);
        let paired = self.name == "wilcoxon";
        let watch = |progress: Progress| {
            let (step, value) = match progress {
                Progress::Fold { done, score } if paired => (done, score),
                Progress::Fold { done, score } => {
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    *sum += score;
                    (done, *sum / done as f64)
                }
                Progress::Round { round, score } => (round, score),
                _ => return Signal::Continue,
            };
            trial.report(step as u64, value).unwrap_or_else(|error| {
                tracing::warn!(error = error.chain(), "a report was lost");
                Signal::Continue
            })
        };
        let watch: Option<&(dyn Fn(Progress) -> Signal + Sync)> =
            if self.name.is_empty() { None } else { Some(&watch) };
        match self.task.score(&config, watch) {
            Ok(scored) => self.ended(trial, &scored),
            Err(error) if ends_the_run(&error) && !trial.is_pruned() => {
                // Whoever goes on begins the trial anew.
                study.give_back(trial)?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Notes what a trial came to, and says it to the study.
    fn ended(&self, trial: &Trial, scored: &Scored) -> Result<Outcome> {
        note_scored(trial, self.task, scored)?;
        let thrift = self.task.plan().thrift.filter(|thrift| thrift.objective);
        let cost = thrift.map(|thrift| thrift.of_scored(scored));
        Ok(std::iter::once(scored.score).chain(cost).collect::<Vec<f64>>().into())
    }
}

/// Whether it is the run that ends, and not the trial.
pub(crate) fn ends_the_run(error: &Error) -> bool {
    matches!(error.root(), Error::Cancelled | Error::Deadline)
}

/// Notes what a trial is, for whoever looks at the study.
pub(crate) fn note_config(trial: &Trial, config: &Config) -> Result<()> {
    let text = serde_json::to_string(config).map_err(|e| Error::config(CONFIG, e.to_string()))?;
    trial.set_user_attr(CONFIG, Json::parse(&text)?)
}

/// Notes what a trial came to besides its value, and how far it is beyond the plan's limits: a part
/// of each.
pub(crate) fn note_scored(trial: &Trial, task: &TuneTask<'_>, scored: &Scored) -> Result<()> {
    let text = serde_json::to_string(scored).map_err(|e| Error::config(CAME_TO, e.to_string()))?;
    trial.set_user_attr(CAME_TO, Json::parse(&text)?)?;
    for (kind, limit) in task.plan().limits.iter() {
        if let Some(cost) = scored.cost.get(kind) {
            trial.set_constraint(kind.name(), cost / limit - 1.0)?;
        }
    }
    Ok(())
}

/// A trial's `score`, and what else it came to, as far as that was noted.
pub(crate) fn scored(trial: &FrozenTrial, score: f64) -> Scored {
    let text = trial.user_attrs.get(CAME_TO).map(ToString::to_string);
    let noted: Option<Scored> = text.and_then(|text| serde_json::from_str(&text).ok());
    noted.unwrap_or_else(|| Scored::new(score)).with(|scored| scored.score = score)
}

/// What a trial was.
pub(crate) fn config(trial: &FrozenTrial, task: &TuneTask<'_>) -> Result<Config> {
    let text = trial.user_attrs.get(CONFIG).map(ToString::to_string);
    match text.and_then(|text| serde_json::from_str(&text).ok()) {
        Some(config) => Ok(config),
        // A worker of another make has written the trial.
        None => task.draw(&mut Again(trial)),
    }
}

/// The best of what was tried, or what the plan's thrift chooses. `endings` are those of a finished
/// trial that keeps the limits.
fn summary(
    trials: &[Arc<FrozenTrial>],
    task: &TuneTask<'_>,
    endings: &dyn Fn(&FrozenTrial) -> Result<Vec<Tried>>,
) -> Result<Tuned> {
    let count = |state| {
        let here = |t: &&Arc<FrozenTrial>| t.state == state && !t.was_tried_again(trials);
        trials.iter().filter(here).count() as u64
    };
    let (complete, pruned) = (count(TrialState::Complete), count(TrialState::Pruned));
    let failed = count(TrialState::Fail);
    let n_ended = complete + pruned + failed;
    let scored = |trial: &&Arc<FrozenTrial>| {
        matches!(trial.state, TrialState::Complete | TrialState::Pruned)
    };
    let (able, beyond): (Vec<_>, Vec<_>) =
        trials.iter().filter(scored).partition(|trial| trial.violation() <= 0.0);
    let mut all: Vec<Tried> = Vec::new();
    for trial in able {
        all.extend(endings(trial)?);
    }
    let Some((chosen, trade)) = task.plan().choose(task.direction(), &all) else {
        let mut reasons = trials.iter().rev().filter_map(|trial| trial.user_attrs.get("error"));
        let last = match &beyond[..] {
            [] => reasons.find_map(Json::as_str).unwrap_or("time was up").to_owned(),
            beyond => format!("{} were beyond the limits", beyond.len()),
        };
        let got = format!("none of {n_ended}, the last for this reason: {last}");
        return Err(Error::data("trials of the search", "at least 1 with a score", got));
    };
    Ok(Tuned::new(chosen, n_ended).with(|tuned| {
        (tuned.pruned, tuned.failed, tuned.trade) = (pruned, failed, trade);
        tuned.beyond = beyond.len() as u64;
        tuned.cut_short = n_ended < task.plan().trials;
    }))
}

/// Answers what a trial was told.
struct Again<'a>(&'a FrozenTrial);

impl Again<'_> {
    fn value(&self, name: &str) -> Result<f64> {
        let found = self.0.params.get(name).map(|param| param.value);
        found.ok_or_else(|| Error::NotFound { what: "parameter of the trial", name: name.into() })
    }
}

impl Suggest for Again<'_> {
    fn float(&mut self, name: &str, _: FloatRange) -> Result<f64> {
        self.value(name)
    }

    fn int(&mut self, name: &str, _: IntRange) -> Result<i64> {
        Ok(self.value(name)? as i64)
    }

    fn choose(&mut self, name: &str, _: &[&str]) -> Result<usize> {
        Ok(self.value(name)? as usize)
    }
}

// What a plan's words mean.

fn open(place: Option<&str>, checkpoint: Option<&Path>) -> Result<Arc<dyn Storage>> {
    match (place, checkpoint) {
        (Some(place), _) => storage::open(place),
        (None, Some(folder)) => Ok(Arc::new(JournalStorage::open(folder.join("tuning.journal"))?)),
        (None, None) => Ok(Arc::new(MemoryStorage::default())),
    }
}

/// A name and the params beside it; an empty name if there is nothing.
fn named(value: &Value) -> Result<(String, Map<String, Value>)> {
    match value {
        Value::Null => Ok((String::new(), Map::new())),
        Value::String(name) => Ok((name.clone(), Map::new())),
        Value::Object(table) => {
            let mut table = table.clone();
            match table.remove("kind") {
                Some(Value::String(name)) => Ok((name, table)),
                other => {
                    let got = other.map_or_else(|| "none".to_owned(), |other| other.to_string());
                    Err(Error::config("kind", format!("expected a name, got {got}")))
                }
            }
        }
        other => Err(Error::config("kind", format!("expected a name or a table, got {other}"))),
    }
}

fn params<T: DeserializeOwned>(table: Map<String, Value>) -> Result<T> {
    mm_core::from_config(Value::Object(table))
}

fn nothing(table: &Map<String, Value>) -> Result<()> {
    match table.keys().next() {
        Some(key) => Err(Error::config(key, "expected no params")),
        None => Ok(()),
    }
}

fn sampler(plan: &TunePlan) -> Result<Box<dyn Sampler>> {
    let (name, mut table) = named(&plan.sampler)?;
    let several = !plan.also.is_empty();
    // What was given up early, or paused, tells nothing to a Gaussian process.
    let is_plain = !several && plan.pruner.is_null() && plan.rungs.is_none();
    Ok(match &*name {
        "" if is_plain => Box::new(AutoSampler::default()),
        "auto" => nothing(&table).map(|()| Box::new(AutoSampler::default()))?,
        "gp" => Box::new(params::<GpParams>(table)?.build()?),
        "cma" => Box::new(params::<CmaParams>(table)?.build()?),
        "" | "tpe" => {
            if several {
                table.entry("group").or_insert(Value::Bool(true));
            }
            Box::new(params::<TpeParams>(table)?.build()?)
        }
        "random" => nothing(&table).map(|()| Box::new(RandomSampler))?,
        "qmc" => nothing(&table).map(|()| Box::new(QmcSampler::default()))?,
        other => {
            let known = "`auto`, `tpe`, `gp`, `cma`, `random`, or `qmc`";
            return Err(Error::config("kind", format!("expected {known}, got `{other}`")));
        }
    })
}

/// What wraps another pruner.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Patient {
    patience: usize,
    #[serde(default)]
    min_delta: f64,
    #[serde(default)]
    inner: Value,
}

fn pruner(value: &Value) -> Result<(String, Box<dyn Pruner>)> {
    let (name, table) = named(value)?;
    let pruner: Box<dyn Pruner> = match &*name {
        "" => Box::new(NoPruner),
        "median" | "percentile" => Box::new(params::<PercentilePruner>(table)?),
        "halving" => Box::new(params::<HalvingPruner>(table)?),
        "hyperband" => Box::new(params::<HyperbandPruner>(table)?),
        "wilcoxon" => Box::new(params::<WilcoxonPruner>(table)?),
        "threshold" => Box::new(params::<ThresholdPruner>(table)?),
        "patient" => {
            let Patient { patience, min_delta, inner } = params(table)?;
            ParamError::ensure(0.0 <= min_delta, "min_delta", min_delta, "at least 0")?;
            let (name, inner) = pruner(&inner)?;
            let inner = (!name.is_empty()).then_some(Any(inner));
            Box::new(PatientPruner { inner, patience, min_delta })
        }
        other => {
            let known = "`median`, `percentile`, `halving`, `hyperband`, `wilcoxon`, `threshold`, \
                         or `patient`";
            return Err(Error::config("kind", format!("expected {known}, got `{other}`")));
        }
    };
    Ok((name, pruner))
}

/// What a plan names is known when it runs.
#[derive(Debug)]
struct Any<T: ?Sized>(Box<T>);

impl Sampler for Any<dyn Sampler> {
    fn joint(&self, ask: &Ask<'_>) -> Result<Proposal> {
        self.0.joint(ask)
    }

    fn single(&self, ask: &Ask<'_>, name: &str, distribution: &crate::Distribution) -> Result<f64> {
        self.0.single(ask, name, distribution)
    }

    fn is_exhausted(&self, history: &crate::History) -> bool {
        self.0.is_exhausted(history)
    }
}

impl Pruner for Any<dyn Pruner> {
    fn decide(&self, report: &Report<'_>) -> Result<Decision> {
        self.0.decide(report)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(edit: impl FnOnce(&mut TunePlan)) -> Result<()> {
        PlanTuner.check(&TunePlan::trials(5).with(edit))
    }

    #[test]
    fn what_a_plan_may_say_is_understood() {
        check(|_| {}).expect("defaults");
        for value in ["auto", "tpe", "gp", "cma", "random", "qmc"] {
            check(|p| p.sampler = json!(value)).expect(value);
        }
        for value in ["median", "halving", "hyperband", "wilcoxon", "threshold"] {
            check(|p| p.pruner = json!(value)).expect(value);
        }
        check(|p| p.sampler = json!({"kind": "tpe", "startup_trials": 3})).expect("a table");
        let nested = json!({"kind": "patient", "patience": 2, "inner": {"kind": "median"}});
        check(|p| p.pruner = nested).expect("a nested table");
        check(|p| p.storage = Some("a/b.log".to_owned())).expect("a journal");
    }

    #[test]
    fn what_it_may_not_say_is_refused_by_name() {
        let fails = |edit: &dyn Fn(&mut TunePlan), what: &str| {
            let error = check(|p| edit(p)).expect_err(what).chain();
            assert!(error.contains(what), "{error}");
        };
        fails(&|p| p.sampler = json!("magic"), "`magic`");
        fails(&|p| p.sampler = json!({"kind": "tpe", "startup": 3}), "`startup`");
        fails(&|p| p.sampler = json!({"kind": "random", "seed": 3}), "seed");
        fails(&|p| p.sampler = json!({"startup_trials": 3}), "expected a name, got none");
        fails(&|p| p.sampler = json!({"kind": "tpe", "candidates": 0}), "candidates");
        fails(&|p| p.pruner = json!("meridian"), "`meridian`");
        fails(&|p| p.pruner = json!(3), "got 3");
        fails(&|p| p.storage = Some("redis://host".to_owned()), "redis://host");
        let rounds = |p: &mut TunePlan| (p.pruner, p.steps) = (json!("wilcoxon"), Steps::Rounds);
        fails(&rounds, "steps");
    }
}
