//! The learner: from params and data to settings, and the run of a fit.

use mm_core::{
    Dataset, Error, FitContext, Frame, Matrix, Output, Result, Signature, Task, parallel,
};

use super::{
    boost::{Booster, Grown, Settings, Split},
    bootstrap::Bootstrap,
    leaves::{Estimation, Method, quantile},
    loss::Loss,
    params::{CatBoostParams, LeafMethod, Objective, RowSampling},
    quantize::NanSide,
    rng::Rng,
    table::{self, Binning, Table},
};
use crate::{
    forest::{
        Ctrs, Feature, Forest, LeafStats, Link, Missing, Oblivious, Outputs, Sum, Test, Tree, Trunk,
    },
    run::{self, Watch},
};

/// CatBoost's algorithm, ready to fit.
#[derive(Debug, Clone)]
pub struct CatBoost {
    params: CatBoostParams, // Invariant: passed `build`.
}

impl CatBoost {
    pub(super) fn new(params: CatBoostParams) -> Self {
        Self { params }
    }

    /// The params.
    pub fn params(&self) -> &CatBoostParams {
        &self.params
    }

    /// Trains; the forest, what it takes and gives, and the best round, if the fit watched for it.
    pub(super) fn boost(
        &self,
        data: &Dataset,
        ctx: &FitContext<'_>,
    ) -> Result<(Signature, Forest, Option<usize>)> {
        parallel::with_threads(ctx.threads, || self.boost_here(data, ctx))?
    }

    fn boost_here(
        &self,
        data: &Dataset,
        ctx: &FitContext<'_>,
    ) -> Result<(Signature, Forest, Option<usize>)> {
        if ctx.is_due() {
            return Err(Error::Deadline);
        }
        let p = &self.params;
        let loss = p.loss(data.task())?;
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
        let order = (has_categories && !p.categorical.in_time).then(|| rng.shuffled(data.n_rows()));
        let order = order.as_deref();
        let target = table::in_order(&self.targets(data, loss)?, order);
        let weights = self.weights(data)?.map(|weights| table::in_order(&weights, order));
        let binning = Binning {
            max: p.bins.max_borders,
            rule: p.bins.rule,
            missing: p.bins.missing,
            one_hot_max: p.categorical.max_one_hot,
        };
        let ignored = vec![false; data.frame().n_cols()];
        let table = Table::new(data.frame(), order, binning, &ignored, &mut rng)?;

        let watches_best = watch.is_some() && stopping.is_some();
        let start = p.start(loss, &target, weights.as_deref());
        let settings = p.settings(loss, data, watches_best);
        let scores = vec![vec![start; table.n_rows]; loss.n_outputs()];
        let mut booster = Booster::new(settings, table, target, weights, &scores, rng);

        let mut held_out = ctx.validation.map(|held_out| {
            let scores = vec![start; held_out.n_rows() * loss.n_outputs()];
            (held_out.frame(), Matrix::new(scores, loss.n_outputs()))
        });
        let link = p.link(loss);
        let mut trees = Vec::new();
        let rounds = run::boost(p.rounds, ctx, &mut watch, |round, watch| {
            let grown = booster.grow();
            let tree = tree(booster.table(), grown);
            if let (Some(watch), Some((frame, Ok(scores)))) = (watch, &mut held_out) {
                advance(&tree, frame, scores);
                let mut predicted = watch.blank();
                predicted.values_mut().copy_from_slice(scores.values());
                for row in 0..predicted.n_rows() {
                    link.apply(false, predicted.row_mut(row));
                }
                watch.score(round, &predicted)?;
            }
            trees.push(tree);
            Ok(true)
        })?;
        let best = watch.and_then(|watch| watch.best()).map(|(round, _)| round);
        trees.truncate(best.unwrap_or(rounds));

        let columns = data.frame().schema().columns().iter();
        let forest = Forest {
            features: columns
                .map(|column| Feature {
                    name: column.name.clone(),
                    is_categorical: column.levels().is_some(),
                })
                .collect(),
            n_outputs: loss.n_outputs(),
            trees,
            trees_per_round: 1,
            sum: Sum::Scaled { scale: 1.0, bias: vec![start; loss.n_outputs()] },
            link,
            ctrs: Ctrs::default(),
        };
        Ok((signature, forest, best))
    }

    /// The target as CatBoost takes it, checked against the objective's domain.
    fn targets(&self, data: &Dataset, loss: Loss) -> Result<Vec<f32>> {
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

    fn link(&self, loss: Loss) -> Link {
        match loss {
            Loss::CrossEntropy => Link::Sigmoid { scale: 1.0 },
            Loss::MultiClass(_) => Link::Softmax,
            Loss::OneVsAll(_) => Link::OneVsAll { scale: 1.0 },
            Loss::Poisson | Loss::Tweedie { .. } => Link::Exp,
            _ => Link::Identity,
        }
    }

    /// The score that all rows start from.
    fn start(&self, loss: Loss, target: &[f32], weights: Option<&[f32]>) -> f64 {
        let default = matches!(loss, Loss::Rmse | Loss::Quantile { .. });
        if !self.start_from_mean.unwrap_or(default) {
            return 0.0;
        }
        let weighted = target.iter().enumerate().map(|(i, &y)| (y, weights.map_or(1.0, |w| w[i])));
        let mean = || {
            // Products in `f32`, as in CatBoost.
            let (sum, total) = weighted.clone().fold((0.0, 0.0), |(sum, total), (y, w)| {
                (sum + f64::from(y * w), total + f64::from(w))
            });
            (sum / total) as f32
        };
        match loss {
            Loss::Rmse => f64::from(mean()),
            Loss::Quantile { level } => {
                f64::from(quantile(&mut weighted.collect::<Vec<_>>(), level))
            }
            Loss::CrossEntropy => {
                let p = f64::from(mean());
                (p / (1.0 - p)).ln()
            }
            _ => 0.0,
        }
    }

    fn settings(&self, loss: Loss, data: &Dataset, watches_best: bool) -> Settings {
        let single = |x: f64| f64::from(x as f32);
        let n = data.n_rows();
        let method = match (self.leaves.method, loss) {
            (LeafMethod::Auto | LeafMethod::Exact, Loss::Quantile { .. }) => Method::Exact,
            (LeafMethod::Gradient, _) => Method::Gradient,
            _ => Method::Newton,
        };
        let is_small = self.rounds < 200 && data.frame().n_cols() < 20;
        let steps = self.leaves.steps.unwrap_or(match loss {
            _ if is_small || method == Method::Exact => 1,
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
        Settings {
            loss,
            learning_rate: single(self.rate(loss, n, watches_best)),
            depth: self.tree.depth,
            l2,
            random_strength: single(self.sampling.noise),
            score: self.tree.score,
            bootstrap,
            estimation: Estimation { method, steps, backtracks: self.leaves.backtracking, l2 },
            columns: single(self.sampling.columns),
        }
    }

    /// The learning rate, as given or by the rule for data of so many rows.
    fn rate(&self, loss: Loss, n_rows: usize, watches_best: bool) -> f64 {
        const DEFAULT: f64 = 0.03;
        if let Some(rate) = self.learning_rate {
            return rate;
        }
        let is_auto = self.penalty.l2.is_none()
            && self.leaves.method == LeafMethod::Auto
            && self.leaves.steps.is_none()
            && self.objective != Objective::CrossEntropy;
        let from_mean = self.start_from_mean.unwrap_or(loss == Loss::Rmse);
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

/// A grown tree in the form of a forest.
fn tree(table: &Table, grown: Grown) -> Tree {
    let level = |split: &Split| match *split {
        Split::Border { column, border } => {
            let numeric = &table.numeric[column as usize];
            let threshold = f64::from(numeric.borders.values[border as usize]);
            let missing = Missing::Nan { left: numeric.borders.nan != NanSide::Above };
            crate::forest::Split {
                feature: numeric.column,
                test: Test::AtMost { threshold, missing },
            }
        }
        Split::Level { column, code } => {
            let categorical = &table.categorical[column as usize];
            let hash = categorical.hashes[code as usize].unwrap_or_default();
            crate::forest::Split { feature: categorical.column, test: Test::Hash(hash) }
        }
    };
    let stats = |&cover: &f64| LeafStats { cover, count: 0.0 };
    Tree {
        trunk: Trunk::Oblivious(Oblivious { levels: grown.splits.iter().map(level).collect() }),
        leaf_stats: grown.weights.iter().map(stats).collect(),
        leaves: grown.leaves,
        linear: Vec::new(),
        outputs: Outputs::All,
        weight: 1.0,
    }
}

/// Adds a tree's leaves to the scores of a frame's rows.
fn advance(tree: &Tree, frame: &Frame, scores: &mut Matrix) {
    let hashes: Vec<Vec<u32>> = frame.schema().columns().iter().map(table::level_hashes).collect();
    let Trunk::Oblivious(trunk) = &tree.trunk else { return };
    let k = scores.n_cols();
    for (i, row) in frame.rows().enumerate() {
        let bit = |(k, split): (usize, &crate::forest::Split)| {
            let cell = row[split.feature];
            let right = match split.test {
                Test::Hash(hash) => table::hash_of(&hashes[split.feature], cell) == Some(hash),
                _ => split.test.goes_left(cell) == Some(false),
            };
            usize::from(right) << k
        };
        let leaf: usize = trunk.levels.iter().enumerate().map(bit).sum();
        let values = &tree.leaves[leaf * k..][..k];
        scores.row_mut(i).iter_mut().zip(values).for_each(|(score, value)| *score += value);
    }
}
