//! Training as CatBoost trains.
//!
//! # Idea
//!
//! Gradient boosting with *symmetric* trees: all nodes of a level ask the same question, so that a tree
//! of *d* levels is a table of 2^*d* leaves. A split is chosen for how well the leaves' mean
//! derivatives point along the rows' derivatives; the leaves are then estimated by Newton steps.
//! Categorical columns become numbers by the targets of earlier rows in random orders.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the learner |
//! | `params.rs` | hyper-parameters and their domains |
//! | `table.rs`, `quantize.rs`, `bundle.rs` | columns of bins, where the borders between bins lie, which columns share a candidate |
//! | `boost.rs`, `boost/…` | one tree after another: folds, search of splits, leaves |
//! | `structure.rs` | how a tree's splits hang together |
//! | `rules.rs`, `monotone.rs` | what the params say of single columns |
//! | `score.rs` | histograms, and scores of splits |
//! | `ctr.rs` | statistics of categories |
//! | `bootstrap.rs` | which rows a tree sees |
//! | `leaves.rs`, `loss.rs` | values of leaves; derivatives of losses |
//! | `snapshot.rs` | going on after a kill |
//! | `rng.rs`, `fast_log.rs`, `fast_exp.rs` | CatBoost's random stream, its fast logarithm, and its exponentials |
//! | `assemble.rs` | from grown trees to a model |
//!
//! # What is equal
//!
//! With the same data, parameters, and seed, the trees are those of CatBoost 1.2.10 on a CPU, split by
//! split, and leaves of one output are equal to the bit. `docs/catboost.md` says what is compared, what
//! differs, and what is absent.
//!
//! # Going on after a kill
//!
//! With [`snapshots`](FitContext::snapshots) in the context, a fit keeps its state from time to time,
//! and a later one of the same params, seed, and data goes on from there, to the same model to the bit.
//! Where they [last](mm_core::Snapshots::lasting), so does one of more rounds, statistics of categories
//! included, as long as the params are such that the first rounds of both are the same: a given learning
//! rate, and 200 rounds or more; else it starts anew.
//!
//! # Determinism
//!
//! A model depends on data, params, and seed alone. The seed is that of the context, all 64 bits;
//! CatBoost's `random_seed`.
//!
//! # Cost
//!
//! O(*npd*) a tree for *n* rows, *p* columns and *d* levels, of which the histograms of every second
//! leaf alone are built from rows; a byte a cell, and 8 bytes a row and output for each of some
//! buffers. Combinations of categorical columns cost a pass over the rows each.
//!
//! # Sources
//!
//! Prokhorenkova, Gusev, Vorobev, Dorogush & Gulin (2018), "CatBoost: unbiased boosting with
//! categorical features", NeurIPS. Constants, defaults, and the order of random draws: CatBoost
//! 1.2.10.

mod assemble;
mod boost;
mod bootstrap;
mod bundle;
mod ctr;
mod fast_exp;
mod fast_log;
mod leaves;
mod loss;
mod monotone;
mod params;
mod quantize;
mod rng;
mod rules;
mod score;
mod snapshot;
mod structure;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use mm_core::{
    BoxModel, Dataset, Error, FitContext, Frame, Learner, Matrix, Model, Output, Result, Signature,
    Task, WarmStart, parallel,
};

use self::{
    assemble::Assembly,
    boost::{Booster, Learning, Settings},
    bootstrap::Bootstrap,
    ctr::Classes,
    leaves::{Estimation, Method, quantile},
    loss::Loss,
    rng::Rng,
    rules::Rules,
    snapshot::Keeper,
    table::{Binning, Table},
};
pub use self::{
    ctr::{Statistic, StatisticKind},
    params::{
        Bins, Boosting, CatBoostParams, Categorical, Constraints, Growth, LeafMethod, Leaves,
        Objective, Penalty, RowSampling, Sampling, ShrinkageMode, TreeParams,
    },
    quantize::{BorderRule, MissingRule},
    score::ScoreFunction,
};
use super::{CatBoostModel, loss::meaning};
use crate::{
    constraint,
    forest::{Ctrs, Sum, Tree},
    run::{self, Watch},
};

/// CatBoost's algorithm, ready to fit.
#[derive(Debug, Clone)]
pub struct CatBoost {
    params: CatBoostParams, // Invariant: passed `Params::build`.
}

impl Learner for CatBoost {
    type Model = CatBoostModel;

    fn name(&self) -> &'static str {
        "catboost"
    }

    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<CatBoostModel> {
        parallel::with_threads(ctx.threads, || self.boost(data, ctx, None))?
    }

    fn as_warm_start(&self) -> Option<&dyn WarmStart> {
        Some(self)
    }

    fn resumes(&self) -> bool {
        true
    }
}

impl WarmStart for CatBoost {
    fn fit_from(
        &self,
        previous: &dyn Model,
        data: &Dataset,
        ctx: &FitContext<'_>,
    ) -> Result<BoxModel> {
        let Some(previous) = previous.downcast_ref::<CatBoostModel>() else {
            return Err(Error::data("model to continue from", "one of CatBoost", "another kind"));
        };
        Ok(Box::new(self.fit_after(previous, data, ctx)?))
    }
}

impl CatBoost {
    /// The params.
    pub fn params(&self) -> &CatBoostParams {
        &self.params
    }

    /// Continues from `previous` with `data`: further rounds, which start from its predictions, after
    /// its own trees in one model. `previous` is unchanged.
    ///
    /// The data must have `previous`'s columns and task. This is what the Python package does with
    /// `init_model`. A model with target statistics cannot be continued from: two tables of the same
    /// statistic, counted on different data, have no place in one file.
    pub fn fit_after(
        &self,
        previous: &CatBoostModel,
        data: &Dataset,
        ctx: &FitContext<'_>,
    ) -> Result<CatBoostModel> {
        if !previous.forest().ctrs().list.is_empty() {
            let expected = "one without target statistics";
            return Err(Error::data("model to continue from", expected, "one with some"));
        }
        let new = self.params.info(data.task())?;
        let (new, old) = (meaning(&new, 0)?, meaning(previous.info(), 0)?);
        if new.link != old.link {
            let (expected, got) = (format!("{:?}", old.link), format!("{:?}", new.link));
            return Err(Error::data("link of the model to continue from", expected, got));
        }
        run::continued(previous.signature(), data, ctx, |data, ctx| {
            parallel::with_threads(ctx.threads, || self.boost(data, ctx, Some(previous)))?
        })
    }

    fn boost(
        &self,
        data: &Dataset,
        ctx: &FitContext<'_>,
        previous: Option<&CatBoostModel>,
    ) -> Result<CatBoostModel> {
        if ctx.is_due() {
            return Err(Error::Deadline);
        }
        let p = &self.params;
        let loss = p.loss(data.task())?;
        let k = loss.n_outputs();
        let info = p.info(data.task())?;
        let link = meaning(&info, k)?.link;
        let mut signature = Signature::new(data.frame().schema().clone(), data.task().clone());
        if let Objective::Quantile { level } = p.objective {
            signature.outputs = vec![Output::Quantile(level)];
        }
        let stopping = p.early_stopping.as_ref();
        let mut watch = match ctx.validation {
            None => None,
            Some(held_out) => {
                Some(Watch::new(held_out, signature.outputs.clone(), None, stopping)?)
            }
        };

        let mut rng = Rng::new(ctx.seed);
        let has_categories = data.frame().schema().columns().iter().any(|c| c.levels().is_some());
        let is_shuffled = has_categories || p.boosting != Boosting::Plain;
        let order = (is_shuffled && !p.categorical.in_time).then(|| rng.shuffled(data.n_rows()));
        let order = order.as_deref();
        let learning = self.learning(data, loss, order, &mut rng)?;

        let bias = match previous {
            Some(_) => 0.0,
            None => p.start(loss, &learning.target, learning.weights.as_deref()),
        };
        let mut start = vec![vec![bias; data.n_rows()]; k];
        if let Some(previous) = previous {
            let raw = previous.predict_raw(data.frame())?;
            for (output, start) in start.iter_mut().enumerate() {
                let column: Vec<f64> = raw.column(output).collect();
                *start = table::in_order(&column, order);
            }
        }
        let watches_best = watch.is_some() && stopping.is_some();
        let settings =
            p.settings(loss, data, learning.classes.n, watches_best, previous.is_some())?;
        let mut booster = Booster::new(settings, learning, &start, rng);
        drop(start);

        let mut held_out = match ctx.validation {
            None => None,
            Some(held_out) => Some(HeldOut::new(held_out.frame(), bias, k, previous)?),
        };
        let mut assembly = Assembly::default();
        let mut keeper = Keeper::new(p, data, previous, ctx, &mut booster)?;
        let rounds = run::boost(p.rounds, ctx, &mut watch, |round, watch| {
            let grown = keeper.grow(round, &mut booster);
            assembly.add(&booster, &grown)?;
            let (Some(held_out), Some(tree)) = (&mut held_out, assembly.trees.last()) else {
                return Ok(true);
            };
            held_out.advance(tree, assembly.last_shrinkage(), &assembly.ctrs);
            if let Some(watch) = watch {
                let mut predicted = watch.blank();
                predicted.values_mut().copy_from_slice(held_out.scores.values());
                for row in 0..predicted.n_rows() {
                    link.apply(false, predicted.row_mut(row));
                }
                watch.score(round, &predicted)?;
            }
            Ok(true)
        })?;
        let is_over = watch.as_ref().is_some_and(Watch::is_over);
        keeper.finish(rounds, rounds == p.rounds || is_over, &booster);
        let best = watch.and_then(|watch| watch.best()).map(|(round, _)| round);
        let mut bias = bias;
        assembly.truncate(best.unwrap_or(rounds), &mut bias);

        let schema = data.frame().schema();
        let mut file = assemble::file(assembly, &booster, schema, vec![bias; k], info);
        if let Some(previous) = previous {
            let (old, nans) = (previous.forest(), &previous.about().nans);
            for (new, old) in file.about.nans.iter_mut().zip(nans) {
                *new = if old.has_nans { *old } else { *new };
            }
            let trees = std::mem::take(&mut file.forest.trees);
            file.forest.trees = old.trees.iter().cloned().chain(trees).collect();
            file.forest.sum = match &old.sum {
                // The new trees must count as they are.
                Sum::Scaled { scale: 1.0, bias } => Sum::Scaled { scale: 1.0, bias: bias.clone() },
                other => {
                    let expected = "one whose trees are added up as they are";
                    let got = format!("{other:?}");
                    return Err(Error::data("model to continue from", expected, got));
                }
            };
        }
        CatBoostModel::new(signature, file)
    }

    /// The data as the booster takes them.
    fn learning(
        &self,
        data: &Dataset,
        loss: Loss,
        order: Option<&[u32]>,
        rng: &mut Rng,
    ) -> Result<Learning> {
        let p = &self.params;
        let target = table::in_order(&Self::targets(data, loss)?, order);
        let weights = self.weights(data)?.map(|weights| table::in_order(&weights, order));
        let binning = Binning {
            max: p.bins.max_borders,
            rule: p.bins.rule,
            missing: p.bins.missing,
            one_hot_max: p.categorical.max_one_hot,
        };
        let schema = data.frame().schema();
        let mut ignored = vec![false; schema.len()];
        for name in &p.constraints.ignored {
            ignored[constraint::position(schema, name, "constraints.ignored")?] = true;
        }
        let table = Table::new(data.frame(), order, binning, &ignored, rng)?;
        let classes = match data.task() {
            Task::Regression => {
                let border = quantize::halving(&target);
                let above = |&y: &f32| u8::from(border.is_some_and(|border| border < y));
                Classes { of_row: target.iter().map(above).collect(), n: 2 }
            }
            task if 256 < task.n_classes() && !table.categorical.is_empty() => {
                let expected = "at most 256 beside categorical columns";
                return Err(Error::data("classes", expected, task.n_classes()));
            }
            task => {
                Classes { of_row: target.iter().map(|&y| y as u8).collect(), n: task.n_classes() }
            }
        };
        Ok(Learning { table, target, weights, classes })
    }

    /// The target as CatBoost takes it, checked against the objective's domain.
    fn targets(data: &Dataset, loss: Loss) -> Result<Vec<f32>> {
        let target = table::narrowed("target", data.target())?;
        let (ok, expected): (fn(f32) -> bool, _) = match loss {
            Loss::CrossEntropy => (|y| (0.0..=1.0).contains(&y), "a number in [0, 1]"),
            Loss::Poisson | Loss::Tweedie { .. } => (|y| 0.0 <= y, "a number ≥ 0"),
            _ => return Ok(target),
        };
        match target.iter().position(|&y| !ok(y)) {
            None => Ok(target),
            Some(row) => {
                let place = format!("target, row {row}");
                let expected = format!("{expected} for this objective");
                Err(Error::data(place, expected, target[row]))
            }
        }
    }

    /// The rows' weights with the classes' factors; `None` if all are 1.
    fn weights(&self, data: &Dataset) -> Result<Option<Vec<f32>>> {
        let Some(weights) = self.params.class_weight.apply(data)? else { return Ok(None) };
        if weights.iter().all(|&w| w == 1.0) {
            return Ok(None);
        }
        table::narrowed("weight", &weights).map(Some)
    }
}

impl CatBoostParams {
    /// The loss for a task.
    fn loss(&self, task: &Task) -> Result<Loss> {
        let k = task.n_classes();
        let loss = match (self.objective, task) {
            (Objective::Auto | Objective::Logloss | Objective::CrossEntropy, Task::Binary(_))
            | (Objective::CrossEntropy, Task::Regression) => Loss::CrossEntropy,
            (Objective::Auto | Objective::MultiClass, Task::Multiclass(_)) => Loss::MultiClass(k),
            (Objective::OneVsAll, Task::Multiclass(_)) => Loss::OneVsAll(k),
            (Objective::Auto | Objective::Rmse, Task::Regression) => Loss::Rmse,
            (Objective::Mae, Task::Regression) => Loss::Quantile { level: 0.5 },
            (Objective::Quantile { level }, Task::Regression) => Loss::Quantile { level },
            (Objective::Huber { delta }, Task::Regression) => Loss::Huber { delta },
            (Objective::Expectile { level }, Task::Regression) => {
                Loss::Expectile { level: f64::from(level as f32) } // As in CatBoost.
            }
            (Objective::Poisson, Task::Regression) => Loss::Poisson,
            (Objective::Tweedie { power }, Task::Regression) => Loss::Tweedie { power },
            (objective, task) => {
                let expected = format!("one for {task}");
                return Err(Error::data("objective", expected, format!("{objective:?}")));
            }
        };
        Ok(loss)
    }

    /// What files say about a model for a task.
    fn info(&self, task: &Task) -> Result<BTreeMap<String, String>> {
        let is_logloss = self.objective != Objective::CrossEntropy;
        Ok(assemble::info(self.loss(task)?, is_logloss, task))
    }

    /// The score that all rows start from.
    fn start(&self, loss: Loss, target: &[f32], weights: Option<&[f32]>) -> f64 {
        if !self.starts_from_mean(loss) {
            return 0.0;
        }
        let weighted = target.iter().enumerate().map(|(i, &y)| (y, weights.map_or(1.0, |w| w[i])));
        let mean = || {
            // Products in `f32`, as in CatBoost.
            let (sum, total) = weighted.clone().fold((0.0, 0.0), |(sum, total), (y, w)| {
                (sum + f64::from(y * w), total + f64::from(w))
            });
            f64::from((sum / total) as f32)
        };
        match loss {
            Loss::Rmse => mean(),
            Loss::Quantile { level } => {
                f64::from(quantile(&mut weighted.collect::<Vec<_>>(), level))
            }
            Loss::CrossEntropy => {
                let p = mean();
                let odds = -(1.0 / p - 1.0).ln();
                if odds.is_finite() { odds } else { 0.0 }
            }
            _ => 0.0,
        }
    }

    fn starts_from_mean(&self, loss: Loss) -> bool {
        self.start_from_mean.unwrap_or(matches!(loss, Loss::Rmse | Loss::Quantile { .. }))
    }

    fn settings(
        &self,
        loss: Loss,
        data: &Dataset,
        n_classes: usize,
        watches_best: bool,
        continues: bool,
    ) -> Result<Settings> {
        let single = |x: f64| f64::from(x as f32);
        let n = data.n_rows();
        let is_monotone = !self.constraints.monotone.is_empty();
        if is_monotone && 1 < loss.n_outputs() {
            let expected = "none for three or more classes";
            return Err(Error::data("constraints.monotone", expected, "some"));
        }
        let shrinkage = match self.penalty.shrinkage {
            _ if continues => 0.0, // As in CatBoost.
            None if is_monotone => match self.penalty.shrinkage_mode {
                ShrinkageMode::Constant => 0.01,
                ShrinkageMode::Decreasing => 0.2,
            },
            given => given.unwrap_or(0.0),
        };
        let method = match (self.leaves.method, loss) {
            (LeafMethod::Auto, Loss::Quantile { .. }) if is_monotone => Method::Gradient,
            (LeafMethod::Auto | LeafMethod::Exact, Loss::Quantile { .. }) => Method::Exact,
            (LeafMethod::Gradient, _) => Method::Gradient,
            _ => Method::Newton,
        };
        let is_short = self.rounds < 200;
        let steps = self.leaves.steps.unwrap_or(match loss {
            _ if method == Method::Exact || (is_short && data.frame().n_cols() < 20) => 1,
            Loss::CrossEntropy | Loss::Poisson => 10,
            Loss::Expectile { .. } => 5,
            _ => 1,
        });
        let bootstrap = match self.sampling.rows {
            RowSampling::Auto if 1 < loss.n_outputs() => Bootstrap::Bayesian { temperature: 1.0 },
            RowSampling::Auto if n < 100 => Bootstrap::Mvs { fraction: 1.0, lambda: None },
            RowSampling::Auto => Bootstrap::Mvs { fraction: 0.8, lambda: None },
            RowSampling::All => Bootstrap::No,
            RowSampling::Mvs { fraction } => {
                Bootstrap::Mvs { fraction: fraction as f32, lambda: None }
            }
            RowSampling::Bayesian { temperature } => {
                Bootstrap::Bayesian { temperature: temperature as f32 }
            }
            RowSampling::Bernoulli { fraction } => {
                Bootstrap::Bernoulli { fraction: fraction as f32 }
            }
        };
        let l2 = single(self.penalty.l2.unwrap_or(3.0));
        let categorical = &self.categorical;
        let schema = data.frame().schema();
        Ok(Settings {
            loss,
            learning_rate: single(self.rate(loss, n, watches_best, continues)),
            growth: self.tree.growth,
            depth: self.tree.depth,
            l2,
            random_strength: single(self.sampling.noise),
            score: self.tree.score,
            bootstrap,
            estimation: Estimation { method, steps, backtracks: self.leaves.backtracking, l2 },
            columns: single(self.sampling.columns),
            max_one_hot: categorical.max_one_hot,
            max_combination: categorical.max_combination.unwrap_or(if is_short { 1 } else { 4 }),
            simple: ctr::columns_of(&categorical.simple, n_classes),
            combined: ctr::columns_of(&categorical.combined, n_classes),
            model_size: single(self.penalty.model_size),
            shrinkage: single(shrinkage),
            shrinkage_mode: self.penalty.shrinkage_mode,
            boosting: self.boosting,
            rules: Rules::new(&self.penalty, &self.constraints, schema)?,
            orders: categorical.orders,
            in_time: categorical.in_time,
        })
    }

    /// The learning rate, as given or by the rule for data of so many rows.
    fn rate(&self, loss: Loss, n_rows: usize, watches_best: bool, continues: bool) -> f64 {
        const DEFAULT: f64 = 0.03;
        if let Some(rate) = self.learning_rate {
            return rate;
        }
        let is_auto = self.penalty.l2.is_none()
            && self.leaves.method == LeafMethod::Auto
            && self.leaves.steps.is_none()
            && self.objective != Objective::CrossEntropy;
        let from_mean = self.starts_from_mean(loss) && !continues;
        let (rows, offset, rounds) = match (loss, watches_best, from_mean) {
            _ if !is_auto => return DEFAULT,
            (Loss::CrossEntropy, true, false) => (0.247, -5.158, -0.435),
            (Loss::CrossEntropy, false, false) => (0.427, -7.525, -0.917),
            (Loss::CrossEntropy, true, true) => (0.246, -5.127, -0.451),
            (Loss::CrossEntropy, false, true) => (0.408, -7.299, -0.928),
            (Loss::MultiClass(_), true, _) => (0.02, -2.364, -0.382),
            (Loss::MultiClass(_), false, _) => (0.051, -2.889, -0.845),
            (Loss::Rmse, true, true) => (0.157, -4.062, -0.61),
            (Loss::Rmse, false, true) => (0.158, -4.287, -0.813),
            (Loss::Rmse, true, false) => (0.189, -4.383, -0.623),
            (Loss::Rmse, false, false) => (0.178, -4.473, -0.76),
            _ => return DEFAULT,
        };
        let rate = (rows * (n_rows as f64).ln() + offset).exp()
            * (self.rounds as f64 / 1000.0_f64).powf(rounds);
        (rate.min(0.5) * 1e6).round() / 1e6
    }
}

/// The validation data and their raw scores so far.
struct HeldOut<'a> {
    frame: &'a Frame,
    /// The hashes of each column's levels.
    levels: Vec<Vec<u32>>,
    scores: Matrix,
}

impl<'a> HeldOut<'a> {
    fn new(
        frame: &'a Frame,
        bias: f64,
        n_outputs: usize,
        previous: Option<&CatBoostModel>,
    ) -> Result<Self> {
        let scores = match previous {
            Some(previous) => previous.predict_raw(frame)?,
            None => Matrix::new(vec![bias; frame.n_rows() * n_outputs], n_outputs)?,
        };
        let levels = frame.schema().columns().iter().map(table::level_hashes).collect();
        Ok(Self { frame, levels, scores })
    }

    /// Adds a tree's leaves, after scaling what there is by `shrinkage`.
    fn advance(&mut self, tree: &Tree, shrinkage: f64, ctrs: &Ctrs) {
        self.scores.values_mut().iter_mut().for_each(|score| *score *= shrinkage);
        let k = self.scores.n_cols();
        let mut hashes = vec![None; self.levels.len()];
        for (i, row) in self.frame.rows().enumerate() {
            for ((hash, levels), &cell) in hashes.iter_mut().zip(&self.levels).zip(row) {
                *hash = table::hash_of(levels, cell);
            }
            let leaf = tree.leaf_where(|split| split.goes_left(row, &hashes, ctrs));
            let values = &tree.leaves[leaf * k..][..k];
            self.scores
                .row_mut(i)
                .iter_mut()
                .zip(values)
                .for_each(|(score, value)| *score += value);
        }
    }
}
