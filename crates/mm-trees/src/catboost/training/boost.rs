//! Boosting: one tree after another, each grown on the derivatives of those before.
//!
//! A tree's structure is searched on one *fold*, an order of the rows with scores of its own; its
//! leaves are then estimated anew for every fold. Without target statistics of categories there is a
//! single fold in the order of the data. With them, and in ordered boosting, there are some random
//! ones, of which each tree takes one, and a last one that no tree is grown on: the model's leaves come
//! from it.
//!
//! Whatever has one entry a row lies in the order of the data; a fold's order says only which rows are
//! earlier than others, and which random numbers they get. The random stream is drawn from in
//! CatBoost's order, so that its trees come out.
//!
//! | file | tells |
//! | --- | --- |
//! | `fold.rs` | what a fold knows of the rows; the prefixes of ordered boosting |
//! | `draw.rs` | which rows a tree sees, and with what derivatives |
//! | `candidates.rs` | what a level may ask |
//! | `statistics.rs` | statistics of categories, made and kept |
//! | `search.rs` | which split is taken |
//! | `leafwise.rs` | the same for trees that are not symmetric |
//! | `estimate.rs` | the values of the leaves |

mod candidates;
mod draw;
mod estimate;
mod fold;
mod leafwise;
mod search;
mod statistics;

use std::{collections::HashMap, sync::Arc};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::{
    estimate::{Moves, advance},
    fold::{Fold, blockwise},
    statistics::Room,
};
use super::{
    bootstrap::Bootstrap,
    ctr::{Buckets, Classes, CtrColumn, Projection, StatisticKind},
    fast_exp::exp_by_parts,
    fast_log::fast_ln,
    leaves::Estimation,
    loss::Loss,
    monotone,
    params::{Boosting, Growth, ShrinkageMode},
    rng::Rng,
    rules::{Rules, Usage},
    score::ScoreFunction,
    structure::{Split, Structure},
    table::{Categorical, Table},
};

/// Everything that the params and the data settle before the first tree.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) loss: Loss,
    pub(super) learning_rate: f64,
    pub(super) growth: Growth,
    pub(super) depth: usize,
    pub(super) l2: f64,
    pub(super) random_strength: f64,
    pub(super) score: ScoreFunction,
    pub(super) bootstrap: Bootstrap,
    pub(super) estimation: Estimation,
    /// Share of the columns that a level sees.
    pub(super) columns: f64,
    /// Values of a column that is split one value from the others.
    pub(super) max_one_hot: usize,
    /// Columns of a projection at most.
    pub(super) max_combination: usize,
    /// Statistics of single columns, and of combinations.
    pub(super) simple: Vec<CtrColumn>,
    pub(super) combined: Vec<CtrColumn>,
    /// The exponent of the penalty on statistics of many values.
    pub(super) model_size: f64,
    /// What earlier trees lose before each round, and what of it.
    pub(super) shrinkage: f64,
    pub(super) shrinkage_mode: ShrinkageMode,
    pub(super) boosting: Boosting,
    /// What is said of single columns.
    pub(super) rules: Rules,
    /// Random orders of the rows, one of which is for the leaves.
    pub(super) orders: usize,
    /// Whether rows keep their order.
    pub(super) in_time: bool,
}

/// What is fitted.
#[derive(Debug)]
pub(super) struct Learning {
    pub(super) table: Table,
    pub(super) target: Vec<f32>,
    pub(super) weights: Option<Vec<f32>>,
    pub(super) classes: Classes,
}

/// One grown tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Grown {
    /// The factor on all scores and trees before this one.
    pub(super) shrinkage: f64,
    pub(super) structure: Structure,
    /// Values of shape (leaves, outputs), after the learning rate.
    pub(super) leaves: Vec<f64>,
    /// The weight of the training rows in each leaf.
    pub(super) weights: Vec<f64>,
}

/// What a booster cannot make again from its settings and data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    rng: Rng,
    /// Of each fold, the averaging one last: see [`Fold::all_scores`] and [`Fold::drawn`].
    scores: Vec<Vec<Vec<f64>>>,
    drawn: Vec<Option<Vec<f32>>>,
    last_leaves: Option<Vec<f64>>,
    used: Vec<(StatisticKind, Arc<Projection>)>,
    usage: Usage,
}

/// The state of a fit between two trees.
#[derive(Debug)]
pub(super) struct Booster {
    settings: Settings,
    learning: Learning,
    /// The folds that trees are grown on.
    folds: Vec<Fold>,
    /// The fold that leaves are taken from; the only one of `folds` if `None`.
    averaging: Option<Fold>,
    rng: Rng,
    n_grown: usize,
    last_leaves: Option<Vec<f64>>,
    buckets: HashMap<Arc<Projection>, Arc<Buckets>>,
    /// Statistics that some tree uses.
    used: Vec<(StatisticKind, Arc<Projection>)>,
    room: Room,
    usage: Usage,
}

/// Rows of which CatBoost draws no part for features made of others.
const ESTIMATED_ROWS: usize = 100_000;

impl Booster {
    /// Before the first tree: the rows' scores are `start`, of shape (outputs, rows).
    pub(super) fn new(
        settings: Settings,
        learning: Learning,
        start: &[Vec<f64>],
        rng: Rng,
    ) -> Self {
        let (mut settings, mut rng) = (settings, rng);
        let n_rows = learning.table.n_rows;
        let weights = learning.weights.as_ref();
        let total = weights.map_or(n_rows as f64, |w| w.iter().map(|&w| f64::from(w)).sum());
        let l2 = settings.l2;
        settings.l2 *= total / n_rows as f64;
        settings.estimation.l2 = settings.l2;
        let scores: Vec<Vec<f64>> = if settings.loss.keeps_exp() {
            start.iter().map(|scores| scores.iter().map(|&a| exp_by_parts(a)).collect()).collect()
        } else {
            start.to_vec()
        };

        let table = &learning.table;
        let is_ctr = |c: &Categorical| !c.is_ignored && settings.max_one_hot < c.n_values();
        let has_ctrs = table.categorical.iter().any(is_ctr);
        let is_ordered = settings.boosting != Boosting::Plain;
        let permutes = (has_ctrs || is_ordered) && !settings.in_time;
        let mut order = |is_permuted: bool| {
            let order = is_permuted.then(|| blockwise(n_rows, &mut rng));
            // CatBoost draws the rows that features made of texts and the like are quantized from,
            // though there are none.
            if ESTIMATED_ROWS < n_rows {
                rng.sampled(n_rows, ESTIMATED_ROWS);
            }
            order
        };
        let n_folds = if permutes { (settings.orders - 1).max(1) } else { 1 };
        let fold = |order| match settings.boosting {
            Boosting::Plain => Fold::plain(order, &scores),
            Boosting::Ordered { growth } => {
                Fold::ordered(order, &scores, &learning, f64::from(growth as f32), l2)
            }
        };
        let folds = (0..n_folds).map(|i| order(0 < i)).map(fold).collect();
        let last = order(has_ctrs && !settings.in_time);
        let averaging = (permutes || is_ordered).then(|| Fold::plain(last, &scores));
        let is_symmetric = settings.growth == Growth::Symmetric;
        let n_columns = table.numeric.len() + table.categorical.len();
        let usage = settings.rules.usage(n_columns, n_rows, is_symmetric);
        Self {
            averaging,
            folds,
            settings,
            learning,
            rng,
            n_grown: 0,
            last_leaves: None,
            buckets: HashMap::new(),
            used: Vec::new(),
            room: Room::default(),
            usage,
        }
    }

    /// The columns.
    pub(super) fn table(&self) -> &Table {
        &self.learning.table
    }

    /// The classes that statistics count.
    pub(super) fn classes(&self) -> &Classes {
        &self.learning.classes
    }

    /// Grows one tree.
    pub(super) fn grow(&mut self) -> Grown {
        let shrinkage = self.shrink();
        let taken = (self.rng.next() % self.folds.len() as u64) as usize;
        self.rng.next(); // Seeds derivatives that are random; ours are not.
        let (mut parts, noise) = self.draw(taken);
        let (structure, leaf_of) = match (self.settings.growth, parts.pop()) {
            (Growth::Depthwise { .. } | Growth::Leafwise { .. }, Some(all)) => {
                self.search_leafwise(taken, all, noise)
            }
            (_, last) => {
                parts.extend(last);
                let (splits, leaf_of) = self.search(taken, parts, noise);
                (Structure::Symmetric(splits), leaf_of)
            }
        };
        self.rng.next(); // Seeds of the folds' estimates, which are not random either.

        let (estimate, leaf_of) = self.estimate_all(taken, &structure, leaf_of);
        for _ in 0..estimate.draws {
            self.rng.next();
        }
        let rate = self.settings.learning_rate;
        let leaves: Vec<f64> = estimate.values.into_iter().map(|v| v * rate).collect();
        let fold = self.averaging.as_mut().unwrap_or(&mut self.folds[taken]);
        advance(&mut fold.scores, &Moves::of_model(self.settings.loss, &leaves), &leaf_of);

        let weights = match &self.learning.weights {
            None => estimate.weights,
            Some(own) => {
                let mut weights = vec![0.0; structure.n_leaves()];
                for (&leaf, &weight) in leaf_of.iter().zip(own) {
                    weights[leaf as usize] += f64::from(weight);
                }
                weights
            }
        };
        self.n_grown += 1;
        self.last_leaves = Some(leaves.clone());
        self.trim();
        Grown { shrinkage, structure, leaves, weights }
    }

    /// What the params come to on the data.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The state between two trees.
    pub(super) fn state(&self) -> State {
        let folds = self.folds.iter().chain(&self.averaging);
        State {
            rng: self.rng.clone(),
            scores: folds.clone().map(|fold| fold.all_scores().cloned().collect()).collect(),
            drawn: folds.map(|fold| fold.drawn.clone()).collect(),
            last_leaves: self.last_leaves.clone(),
            used: self.used.clone(),
            usage: self.usage.clone(),
        }
    }

    /// Goes on from a state after `n_grown` trees; whether it is one of such a fit.
    pub(super) fn resume(&mut self, n_grown: usize, state: State) -> bool {
        let folds: Vec<&mut Fold> = self.folds.iter_mut().chain(&mut self.averaging).collect();
        let n_rows = self.learning.table.n_rows;
        let has_all = |drawn: &Option<Vec<f32>>| drawn.as_ref().is_none_or(|d| d.len() == n_rows);
        let has_shape = |(fold, scores): (&&mut Fold, &Vec<Vec<f64>>)| {
            fold.all_scores().map(Vec::len).eq(scores.iter().map(Vec::len))
        };
        let fits = folds.len() == state.scores.len()
            && folds.len() == state.drawn.len()
            && folds.iter().zip(&state.scores).all(has_shape)
            && state.drawn.iter().all(has_all)
            && self.usage.has_shape_of(&state.usage);
        if fits {
            for ((fold, scores), drawn) in folds.into_iter().zip(state.scores).zip(state.drawn) {
                fold.all_scores_mut().zip(scores).for_each(|(own, scores)| *own = scores);
                fold.drawn = drawn;
            }
            (self.rng, self.n_grown, self.last_leaves) = (state.rng, n_grown, state.last_leaves);
            (self.used, self.usage) = (state.used, state.usage);
        }
        fits
    }

    /// Scales all scores before a round, as the earlier trees will be; by what.
    fn shrink(&mut self) -> f64 {
        if self.settings.shrinkage == 0.0 || self.n_grown == 0 {
            return 1.0;
        }
        let by = match self.settings.shrinkage_mode {
            ShrinkageMode::Constant => 1.0 - self.settings.shrinkage * self.settings.learning_rate,
            ShrinkageMode::Decreasing => 1.0 - self.settings.shrinkage / self.n_grown as f64,
        };
        let keeps_exp = self.settings.loss.keeps_exp();
        let folds = self.folds.iter_mut().chain(&mut self.averaging);
        for scores in folds.flat_map(Fold::all_scores_mut) {
            // CatBoost takes the coarse logarithm here, too.
            let shrunk = |score: &mut f64| {
                *score = if keeps_exp {
                    exp_by_parts(f64::from(fast_ln(*score as f32)) * by)
                } else {
                    *score * by
                };
            };
            scores.par_iter_mut().with_min_len(4096).for_each(shrunk);
        }
        by
    }

    /// Remembers a split that has seen `rows`.
    fn note(&mut self, split: &Split, rows: &[u32]) {
        self.usage.note(split, &self.learning.table, rows);
        if let Split::Ctr { projection, column, .. } = split {
            let kind = self.statistics(projection)[*column as usize].kind;
            let used = (kind, Arc::clone(projection));
            if !self.used.contains(&used) {
                self.used.push(used);
            }
        }
    }

    /// The chains of leaves along which values may not fall; none if no split is monotone.
    fn chains(&self, structure: &Structure) -> Vec<Vec<u32>> {
        match structure {
            Structure::Symmetric(splits) if self.settings.rules.are_monotone() => {
                let signs = self.signs(splits);
                if signs.iter().all(|&sign| sign == 0) {
                    Vec::new()
                } else {
                    monotone::chains(&signs)
                }
            }
            _ => Vec::new(),
        }
    }

    fn signs(&self, splits: &[Split]) -> Vec<i8> {
        let table = &self.learning.table;
        splits.iter().map(|split| self.settings.rules.sign(split, table)).collect()
    }
}
