//! A run from its check to its outcome; the stages in between are in `fits` and `ensembles`.

use std::{
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    Entry, Event, Leaderboard, Orchestrator, Outcome, Plan, Score, Status,
    checkpoint::{Checkpoint, Predicted, key},
    plan::RegistryPlan,
};
use crate::{
    combine::Combiner,
    context::{FitContext, Signal},
    cross_fit::OutOfFold,
    data::{Dataset, Matrix, Task},
    error::{Error, Result},
    learner::{DynLearner, check_data},
    metric::Metric,
    model::Model,
    registry::{self, AliasMove, Lineage, LocalRegistry, NewVersion, Registry as _, Version},
    snapshot::Snapshots,
    split::{Fold, GroupKFold, Holdout, SplitPlan, Splitter},
};

/// A checked run.
pub(super) struct Run<'a> {
    pub(super) outer: &'a Orchestrator<'a>,
    pub(super) plan: &'a Plan,
    pub(super) data: &'a Dataset,
    pub(super) metric: Metric,
    pub(super) folds: Vec<Fold>,
    pub(super) candidates: Vec<Checked>,
    pub(super) combiners: Vec<Box<dyn Combiner>>, // One an ensemble of the plan.
    pub(super) checkpoint: Checkpoint,
    /// In the folder of the checkpoint, too.
    snapshots: Option<Snapshots>,
    pub(super) threads: NonZeroUsize,
    target: Option<Target<'a>>,
    fingerprint: String,
    fold_keys: Vec<String>, // Determine the rows of each fold.
    deadline: Option<Instant>,
}

/// A candidate whose params passed.
pub(super) struct Checked {
    pub(super) name: String,
    pub(super) learner: Arc<dyn DynLearner>,
    recipe: Value,    // For the lineage.
    identity: String, // Determines the learner's fits, for checkpoints.
}

/// Where the winner goes.
struct Target<'a> {
    plan: &'a RegistryPlan,
    registry: LocalRegistry,
    toml: String, // The plan, for the lineage.
}

/// The folds of one candidate, or why there are none.
pub(super) type Fitted = Result<Vec<Predicted>>;

/// Models by name, fitted to all rows.
pub(super) type Models = Vec<(String, Arc<dyn Model>)>;

/// Seeds of parts that are no fold.
pub(super) const SPLIT: u64 = u64::MAX;
pub(super) const REFIT: u64 = u64::MAX - 1;
pub(super) const COMBINE: u64 = u64::MAX - 2;

impl<'a> Run<'a> {
    pub(super) fn check(
        outer: &'a Orchestrator<'a>,
        plan: &'a Plan,
        data: &'a Dataset,
        started: Instant,
    ) -> Result<Self> {
        plan.check(&outer.own_names())?;
        let candidates = check_candidates(outer, plan)?;
        let names: Vec<&str> = candidates.iter().map(|c| c.name.as_str()).collect();
        let combiners = plan.ensembles.iter().enumerate().map(|(i, ensemble)| {
            let members: Vec<&str> = names.iter().copied().filter(|n| ensemble.has(n)).collect();
            let combiner = outer.catalog.combiner(&ensemble.kind, ensemble.params.clone());
            combiner
                .and_then(|combiner| combiner.check(&members).map(|()| combiner))
                .map_err(|e| e.within(format!("ensembles.{i}")))
        });
        let combiners = combiners.collect::<Result<_>>()?;
        let metric = plan.metric.unwrap_or_else(|| Metric::default_for(data.task()));
        let also = plan.also.iter().map(|metric| ("also", metric));
        for (place, metric) in [("metric", &metric)].into_iter().chain(also) {
            if !metric.supports(data.task()) {
                let problem = format!("expected a metric for {}, got {metric}", data.task());
                return Err(Error::config(place, problem));
            }
        }
        let ctx = FitContext::seeded(plan.seed);
        let split = plan.split.clone().unwrap_or_else(|| SplitPlan::default_for(data));
        let folds = split.split(data, ctx.fork(SPLIT).seed).map_err(|e| e.within("split"))?;
        let fold_key = |fold: &Fold| {
            let bytes = |rows: &[usize]| -> Vec<u8> {
                rows.iter().flat_map(|&row| (row as u64).to_le_bytes()).collect()
            };
            key(&[&bytes(&fold.train), &bytes(&fold.test)])
        };
        let seconds = |s: f64| started.checked_add(Duration::from_secs_f64(s));
        let run = Self {
            outer,
            plan,
            data,
            metric,
            fold_keys: folds.iter().map(fold_key).collect(),
            folds,
            candidates,
            combiners,
            checkpoint: Checkpoint::open(plan.checkpoint.as_deref())?,
            snapshots: plan.checkpoint.as_ref().map(Snapshots::new).transpose()?,
            threads: plan.budget.threads(),
            target: plan.registry.as_ref().map(|target| Target::open(plan, target)).transpose()?,
            fingerprint: data.fingerprint(),
            deadline: plan.budget.seconds.and_then(seconds),
        };
        run.check_folds()?;
        Ok(run)
    }

    /// Refuses folds that no learner can be fitted to, or on which not even the truth itself can
    /// be scored: every candidate would fail there, perhaps after hours.
    fn check_folds(&self) -> Result<()> {
        let truth: Vec<Matrix> = self
            .folds
            .iter()
            .map(|fold| truth_as_prediction(&self.data.take(&fold.test)))
            .collect::<Result<_>>()?;
        self.scores(|metric, f, data| metric.score(data.truth(), &truth[f]))?;
        let refit = self.plan.refit.then_some(None);
        for fold in (0..self.folds.len()).map(Some).chain(refit) {
            let place = fold.map_or_else(|| "all rows".to_owned(), |f| format!("fold {f}"));
            let (train, _) = self.training(fold).map_err(|e| e.within(&place))?;
            // Infinite features are each learner's own affair.
            check_data(&train, true).map_err(|e| e.within(place))?;
        }
        Ok(())
    }

    /// The stages, one after another.
    pub(super) fn run(self) -> Result<Outcome> {
        let fitted = self.cross_fit()?;
        let mut entries = self.entries(&fitted);
        let ensembles = self.build_ensembles(&entries, &fitted);
        let mut models = if self.plan.refit { self.refit(&mut entries)? } else { Vec::new() };
        for ensemble in ensembles {
            let entry = self.finish_ensemble(ensemble, &entries, &mut models);
            entries.push(entry);
        }
        self.check_cancelled()?;
        let mut leaderboard = Leaderboard {
            metric: self.metric,
            also: self.plan.also.clone(),
            n_folds: self.folds.len(),
            entries,
            prior: self.prior(),
        };
        leaderboard.rank();
        let place = |name: &str| leaderboard.entries.iter().position(|entry| entry.name == name);
        models.sort_by_key(|(name, _)| place(name));
        let (published, publish_error) = self.publish(&leaderboard, &models);
        let good = self.candidates.iter().zip(&fitted);
        let out_of_fold = good
            .filter_map(|(candidate, fitted)| Some((candidate, fitted.as_ref().ok()?)))
            .map(|(candidate, folds)| Ok((candidate.name.clone(), self.gather(folds)?)))
            .collect::<Result<_>>()?;
        let folds = self.folds;
        Ok(Outcome { leaderboard, models, folds, out_of_fold, published, publish_error })
    }

    /// The checkpoint key of a candidate's fit. `None` as fold means all rows.
    pub(super) fn key(&self, candidate: &Checked, fold: Option<usize>) -> String {
        let rows = fold.map_or("all", |f| &self.fold_keys[f]);
        let validation = format!("{:?}", self.plan.validation);
        let seed = self.seed(fold).to_string();
        let version = env!("CARGO_PKG_VERSION");
        key(&[version, &self.fingerprint, &candidate.identity, &seed, rows, &validation])
    }

    pub(super) fn seed(&self, fold: Option<usize>) -> u64 {
        FitContext::seeded(self.plan.seed).fork(fold.map_or(REFIT, |f| f as u64)).seed
    }

    /// The run's threads, deadline, and cancellation, with a seed.
    pub(super) fn context(&self, seed: u64, threads: NonZeroUsize) -> FitContext<'_> {
        let mut ctx = FitContext::seeded(seed);
        (ctx.threads, ctx.deadline, ctx.cancel) = (threads, self.deadline, self.outer.cancel);
        ctx.snapshots = self.snapshots.as_ref();
        ctx
    }

    /// Tells the watcher, whose panics are not the run's.
    pub(super) fn say(&self, event: &Event<'_>) -> Signal {
        let heard = catch_unwind(AssertUnwindSafe(|| self.outer.watcher.on_event(event)));
        heard.unwrap_or_else(|_| {
            tracing::warn!(?event, "the watcher panicked");
            Signal::Continue
        })
    }

    pub(super) fn fail(&self, entry: &mut Entry, error: &Error) {
        let reason = error.chain();
        self.say(&Event::Failed { candidate: &entry.name, reason: &reason });
        entry.status = Status::Failed(reason);
    }

    pub(super) fn check_cancelled(&self) -> Result<()> {
        self.context(0, self.threads).check_cancelled()
    }

    /// The training rows of a fold, or all, and of these the part held out for early stopping.
    pub(super) fn training(&self, fold: Option<usize>) -> Result<(Dataset, Option<Dataset>)> {
        let rows = fold.map_or_else(|| self.data.clone(), |f| self.data.take(&self.folds[f].train));
        let Some(part) = self.plan.validation else { return Ok((rows, None)) };
        let seed = FitContext::seeded(self.seed(fold)).fork(SPLIT).seed;
        let inner = inner_split(&rows, part, seed).map_err(|e| e.within("validation"))?;
        Ok((rows.take(&inner.train), Some(rows.take(&inner.test))))
    }

    /// Scores by the plan's metric and by the further ones; `score` is given a metric, a fold, and
    /// the fold's test rows.
    pub(super) fn scores(
        &self,
        score: impl Fn(&Metric, usize, &Dataset) -> Result<f64>,
    ) -> Result<(Score, Vec<Score>)> {
        let over_folds = |metric: &Metric| {
            let folds = self.folds.iter().enumerate().map(|(f, fold)| {
                let score = score(metric, f, &self.data.take(&fold.test));
                score.map_err(|e| e.within(format!("{metric}, fold {f}")))
            });
            folds.collect::<Result<_>>().map(Score::of)
        };
        let also = self.plan.also.iter().map(over_folds).collect::<Result<_>>();
        Ok((over_folds(&self.metric)?, also?))
    }

    fn entries(&self, fitted: &[Fitted]) -> Vec<Entry> {
        let rows: usize = self.folds.iter().map(|fold| fold.test.len()).sum();
        let entry = |(candidate, fitted): (&Checked, &Fitted)| {
            let mut entry = Entry::new(&candidate.name);
            let folds = match fitted {
                Ok(folds) => folds,
                Err(e) => {
                    self.fail(&mut entry, e);
                    return entry;
                }
            };
            if folds.iter().any(|fold| fold.timing.cut_short) {
                entry.status = Status::CutShort;
            }
            entry.fit_seconds = folds.iter().map(|fold| fold.timing.fit_seconds).sum();
            let predict: f64 = folds.iter().map(|fold| fold.timing.predict_seconds).sum();
            entry.predict_micros = predict * 1e6 / rows as f64;
            match self.scores(|metric, f, data| folds[f].score(metric, data)) {
                Ok((score, also)) => (entry.score, entry.also) = (Some(score), also),
                Err(e) => self.fail(&mut entry, &e),
            }
            entry
        };
        self.candidates.iter().zip(fitted).map(entry).collect()
    }

    pub(super) fn gather(&self, folds: &[Predicted]) -> Result<OutOfFold> {
        let parts: Vec<Matrix> = folds.iter().map(|fold| fold.values.clone()).collect();
        OutOfFold::gather(self.data.n_rows(), &self.folds, &parts)
    }

    /// The score of the training rows' class frequencies or mean.
    fn prior(&self) -> Option<Score> {
        let prior = |fold: &Fold| {
            let prior = prior(&self.data.take(&fold.train));
            let values = fold.test.iter().flat_map(|_| prior.iter().copied()).collect();
            Matrix::new(values, prior.len())
        };
        let parts: Vec<Matrix> = self.folds.iter().map(prior).collect::<Result<_>>().ok()?;
        let scores = self.scores(|metric, f, data| metric.score(data.truth(), &parts[f]));
        scores.ok().map(|(score, _)| score)
    }

    /// The version that was published, and what went wrong.
    fn publish(
        &self,
        leaderboard: &Leaderboard,
        models: &Models,
    ) -> (Option<Version>, Option<Error>) {
        let (Some(target), Some(best), Some((_, model))) =
            (&self.target, leaderboard.best(), models.first())
        else {
            return (None, None); // If nothing succeeded, the leaderboard says why.
        };
        let name = self.plan.model_name();
        let published = self
            .new_version(target, leaderboard, best, &**model)
            .and_then(|new| target.registry.publish(name, new));
        let version = match published {
            Ok(version) => version,
            Err(e) => {
                tracing::warn!(error = %e.chain(), "the best model was not published");
                return (None, Some(e));
            }
        };
        let Some(alias) = &target.plan.alias else { return (Some(version), None) };
        let to = AliasMove::to(version.number)
            .by("orchestrator")
            .because(format!("best of plan `{}` by {}", self.plan.name, leaderboard.metric));
        let moved = target.registry.move_alias(name, alias, &to);
        let error = moved.err().map(|e| e.within(format!("alias `{alias}`")));
        if let Some(e) = &error {
            tracing::warn!(error = %e.chain(), version = version.number, "published without alias");
        }
        (Some(version), error)
    }

    fn new_version(
        &self,
        target: &Target<'_>,
        leaderboard: &Leaderboard,
        best: &Entry,
        model: &dyn Model,
    ) -> Result<NewVersion> {
        let mut new = NewVersion::of(model)?.with_tag("candidate", &best.name);
        let scores = best.score.iter().chain(&best.also);
        for (metric, score) in [leaderboard.metric].iter().chain(&leaderboard.also).zip(scores) {
            new = new
                .with_metric(metric.to_string(), score.mean)
                .with_metric(format!("{metric} spread"), score.spread);
        }
        let recipe = |name: &str| {
            let candidate = self.candidates.iter().find(|candidate| candidate.name == name);
            candidate.map(|candidate| candidate.recipe.clone())
        };
        let ensemble = || {
            let plan = self.plan.ensembles.iter().find(|ensemble| ensemble.name() == best.name)?;
            let members: serde_json::Map<String, Value> =
                best.members.iter().map(|m| (m.clone(), recipe(m).into())).collect();
            Some(json!({ "kind": plan.kind, "params": plan.params, "members": members }))
        };
        Ok(new.with_lineage(Lineage::default().with(|lineage| {
            lineage.data = Some(self.fingerprint.clone());
            lineage.plan = Some(target.toml.clone());
            lineage.params = recipe(&best.name).or_else(ensemble).into();
            lineage.seed = Some(self.plan.seed);
        })))
    }
}

impl<'a> Target<'a> {
    fn open(plan: &Plan, target: &'a RegistryPlan) -> Result<Self> {
        if !plan.refit {
            let problem = "expected `refit`, which makes what is published, got none";
            return Err(Error::config("registry", problem));
        }
        let toml = plan.to_toml()?;
        registry::check_model_name(plan.model_name())?;
        target.alias.as_deref().map_or(Ok(()), registry::check_alias_name)?;
        let registry = LocalRegistry::open(&target.path)?;
        registry.check_writable()?;
        Ok(Self { plan: target, registry, toml })
    }
}

/// The plan's candidates, then the caller's own; [`Plan::check`] saw to the names.
fn check_candidates(outer: &Orchestrator<'_>, plan: &Plan) -> Result<Vec<Checked>> {
    let named = plan.candidates.iter().enumerate().map(|(i, candidate)| {
        let (kind, params) = (&candidate.kind, &candidate.params);
        let learner = outer.catalog.learner(kind, params.clone());
        let learner = learner.map_err(|e| e.within(format!("candidates.{i}")))?;
        Ok(Checked {
            name: candidate.name().to_owned(),
            recipe: json!({ "kind": kind, "params": params }),
            // The learner shows the defaults of this build, too.
            identity: format!("kind {kind} {params} {learner:?}"),
            learner: Arc::from(learner),
        })
    });
    let own = outer.own.iter().map(|(name, learner)| {
        Ok(Checked {
            name: name.clone(),
            recipe: Value::String(format!("{learner:?}")),
            identity: format!("own {name} {learner:?}"),
            learner: Arc::clone(learner),
        })
    });
    named.chain(own).collect()
}

/// Parts training rows for early stopping: the latest rows where there are timestamps, whole groups
/// where there are groups, else at random, with the classes' shares.
fn inner_split(train: &Dataset, part: f64, seed: u64) -> Result<Fold> {
    let mut folds = if train.frame().times().is_some() {
        Holdout::last(part).split(train, seed)
    } else if train.groups().is_some() {
        GroupKFold::new((1.0 / part).round().max(2.0) as usize).split(train, seed)
    } else if matches!(train.task(), Task::Regression) {
        Holdout::new(part).split(train, seed)
    } else {
        Holdout::stratified(part).split(train, seed)
    }?;
    Ok(folds.swap_remove(0)) // `Splitter` guarantees at least one.
}

/// What a model that knows the target would predict.
fn truth_as_prediction(data: &Dataset) -> Result<Matrix> {
    let Task::Multiclass(names) = data.task() else {
        return Matrix::new(data.target().to_vec(), 1);
    };
    let mut truth = Matrix::zeros(data.n_rows(), names.len());
    for (i, &y) in data.target().iter().enumerate() {
        truth.row_mut(i)[y as usize] = 1.0;
    }
    Ok(truth)
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
