//! Boosting: one tree after another, each grown on the derivatives of those before.
//!
//! A tree's structure is searched on one *fold*, an order of the rows with scores of its own; its
//! leaves are then estimated anew for every fold. Without target statistics of categories there is a
//! single fold in the order of the data. With them there are some random ones, of which each tree
//! takes one, and a last one that no tree is grown on: the model's leaves come from it.
//!
//! Whatever has one entry a row lies in the order of the data; a fold's order says only which rows are
//! earlier than others, and which random numbers they get. The random stream is drawn from in
//! CatBoost's order, so that its trees come out.

mod leafwise;

use std::{collections::HashMap, sync::Arc};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    bootstrap::{self, Bootstrap},
    ctr::{self, Buckets, Classes, CtrColumn, Projection, StatisticKind},
    fast_log::fast_ln,
    leaves::{self, Estimation, Method, Rows},
    loss::Loss,
    monotone,
    params::Growth,
    rng::Rng,
    rules::{Rules, Usage},
    score::{self, Columns, Histogram, Sample, ScoreFunction, Scorer, Shape},
    structure::Structure,
    table::{Bundled, Categorical, Table},
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
    /// The share, times the learning rate, that earlier trees lose before each round.
    pub(super) shrinkage: f64,
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
    /// By fold, output, and row; the averaging fold last.
    scores: Vec<Vec<Vec<f64>>>,
    last_leaves: Option<Vec<f64>>,
    used: Vec<(StatisticKind, Arc<Projection>)>,
    usage: Usage,
}

/// What a split asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Split {
    /// Whether a numeric column's bin exceeds a border.
    Border { column: u32, border: u32 },
    /// Whether a categorical column has this code.
    Level { column: u32, code: u32 },
    /// Whether a statistic's bin exceeds a border.
    Ctr { projection: Arc<Projection>, column: u32, border: u32 },
}

/// The rows in an order, with the scores that the trees gave them.
#[derive(Debug)]
struct Fold {
    /// The row at each place; the data's own order if `None`.
    order: Option<Vec<u32>>,
    /// For each output the rows' scores.
    scores: Vec<Vec<f64>>,
    /// The bins of statistics, of shape (rows, statistics).
    ctrs: HashMap<Arc<Projection>, Arc<Vec<u8>>>,
}

impl Fold {
    fn new(order: Option<Vec<u32>>, scores: &[Vec<f64>]) -> Self {
        Self { order, scores: scores.to_vec(), ctrs: HashMap::new() }
    }
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

/// Statistics of combinations that a fold keeps from tree to tree.
const KEPT: usize = 50;

/// Bytes of bins, and of rows, of which the memory is kept from tree to tree.
const ROOM_BYTES: usize = 32 << 20;

/// Bytes of buckets that are kept from tree to tree.
const KEPT_BYTES: usize = 64 << 20;

/// Memory of statistics that were dropped, for those of the next tree. Given back to the system it
/// would have to be cleared anew for each.
#[derive(Debug, Default)]
struct Room {
    bins: Vec<Vec<u8>>,
    rows: Vec<Vec<u32>>,
}

impl Room {
    /// Keeps no more than the statistics of a tree may come to on not too many rows.
    fn shrink(&mut self) {
        let n = |bytes: usize| ROOM_BYTES / bytes.max(1);
        self.bins.truncate(n(self.bins.first().map_or(0, Vec::capacity)));
        self.rows.truncate(n(self.rows.first().map_or(0, |rows| 4 * rows.capacity())));
    }
}

/// A projection, with the base (by index) and the column that it extends it by, if any.
type Extended = (Arc<Projection>, Option<(usize, u32)>);

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
        settings.l2 *= total / n_rows as f64;
        settings.estimation.l2 = settings.l2;
        let scores: Vec<Vec<f64>> = if settings.loss.keeps_exp() {
            start.iter().map(|scores| scores.iter().map(|a| a.exp()).collect()).collect()
        } else {
            start.to_vec()
        };

        let table = &learning.table;
        let is_ctr = |c: &Categorical| !c.is_ignored && settings.max_one_hot < c.n_values();
        let has_ctrs = table.categorical.iter().any(is_ctr);
        let permutes = has_ctrs && !settings.in_time;
        let mut fold = |is_permuted: bool| {
            let order = is_permuted.then(|| blockwise(n_rows, &mut rng));
            // CatBoost draws the rows that features made of texts and the like are quantized from,
            // though there are none.
            if ESTIMATED_ROWS < n_rows {
                rng.sampled(n_rows, ESTIMATED_ROWS);
            }
            Fold::new(order, &scores)
        };
        let n_folds = if permutes { (settings.orders - 1).max(1) } else { 1 };
        let folds = (0..n_folds).map(|i| fold(0 < i)).collect();
        let averaging = fold(permutes);
        let is_symmetric = settings.growth == Growth::Symmetric;
        let n_columns = table.numeric.len() + table.categorical.len();
        let usage = settings.rules.usage(n_columns, n_rows, is_symmetric);
        Self {
            averaging: permutes.then_some(averaging),
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

    /// The statistics of a projection.
    pub(super) fn statistics(&self, projection: &Projection) -> &[CtrColumn] {
        let is_simple = projection.is_plain() && projection.columns.len() == 1;
        if is_simple { &self.settings.simple } else { &self.settings.combined }
    }

    /// Grows one tree.
    pub(super) fn grow(&mut self) -> Grown {
        let shrinkage = self.shrink();
        let taken = (self.rng.next() % self.folds.len() as u64) as usize;
        self.rng.next(); // Seeds derivatives that are random; ours are not.
        let derivatives = self.derivatives(&self.folds[taken]);
        let drawn = self.draw(&derivatives, taken);
        let noise = self.noise(&derivatives);
        let sample = self.sample(&derivatives, &drawn, taken);
        drop((derivatives, drawn));
        let (structure, leaf_of) = match self.settings.growth {
            Growth::Symmetric => {
                let (splits, leaf_of) = self.search(taken, sample, noise);
                (Structure::Symmetric(splits), leaf_of)
            }
            _ => self.search_leafwise(taken, sample, noise),
        };
        self.rng.next(); // Seeds of the folds' estimates, which are not random either.

        let (estimate, leaf_of) = self.estimate_all(taken, &structure, leaf_of);
        for _ in 0..estimate.draws {
            self.rng.next();
        }
        let rate = self.settings.learning_rate;
        let leaves: Vec<f64> = estimate.values.into_iter().map(|v| v * rate).collect();
        let fold = self.averaging.as_mut().unwrap_or(&mut self.folds[taken]);
        advance(self.settings.loss, &mut fold.scores, &leaves, &leaf_of);

        let weights = match &self.learning.weights {
            None => estimate.counts.iter().map(|&n| n as f64).collect(),
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
            scores: folds.map(|fold| fold.scores.clone()).collect(),
            last_leaves: self.last_leaves.clone(),
            used: self.used.clone(),
            usage: self.usage.clone(),
        }
    }

    /// Goes on from a state after `n_grown` trees; whether it is one of such a fit.
    pub(super) fn resume(&mut self, n_grown: usize, state: State) -> bool {
        let shape = |scores: &[Vec<f64>]| -> Vec<usize> { scores.iter().map(Vec::len).collect() };
        let folds: Vec<&mut Fold> = self.folds.iter_mut().chain(&mut self.averaging).collect();
        let fits = folds.len() == state.scores.len()
            && folds.iter().zip(&state.scores).all(|(f, scores)| shape(&f.scores) == shape(scores))
            && self.usage.has_shape_of(&state.usage);
        if fits {
            folds.into_iter().zip(state.scores).for_each(|(fold, scores)| fold.scores = scores);
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
        let by = 1.0 - self.settings.shrinkage * self.settings.learning_rate;
        let keeps_exp = self.settings.loss.keeps_exp();
        let folds = self.folds.iter_mut().chain(&mut self.averaging);
        for scores in folds.flat_map(|fold| &mut fold.scores) {
            // CatBoost takes the coarse logarithm here, too.
            let shrunk = |score: &mut f64| {
                *score = if keeps_exp {
                    (f64::from(fast_ln(*score as f32)) * by).exp()
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

    fn leaves_of(&self, fold: &Fold, structure: &Structure) -> Vec<u32> {
        match structure {
            Structure::Symmetric(splits) => self.leaves_in(fold, splits),
            Structure::Nodes(nodes) => self.leaves_by_nodes(fold, nodes),
        }
    }

    /// Estimates a tree's leaves in every fold, and moves the scores of the folds that trees are grown on.
    /// Returns the estimate that is for the model, and the leaf of each row in its fold.
    fn estimate_all(
        &mut self,
        taken: usize,
        structure: &Structure,
        leaf_of: Vec<u32>,
    ) -> (leaves::Estimate, Vec<u32>) {
        let n_leaves = structure.n_leaves();
        let chains = self.chains(structure);
        if self.averaging.is_none() {
            let fold = &self.folds[taken];
            return (self.estimate(fold, true, &leaf_of, n_leaves, &chains), leaf_of);
        }
        self.complete(&structure.splits());
        let all: Vec<&Fold> = self.folds.iter().chain(&self.averaging).collect();
        let of_fold = |(i, &fold): (usize, &&Fold)| {
            let leaf_of =
                if i == taken { leaf_of.clone() } else { self.leaves_of(fold, structure) };
            let is_final = i == self.folds.len();
            (self.estimate(fold, is_final, &leaf_of, n_leaves, &chains), leaf_of)
        };
        let mut estimates: Vec<_> = all.par_iter().enumerate().map(of_fold).collect();
        let last = estimates.pop().expect("of the fold that leaves are taken from");
        let (loss, rate) = (self.settings.loss, self.settings.learning_rate);
        // CatBoost goes back to the value by the coarse logarithm, for these folds only.
        let value = |v: f64| if loss.keeps_exp() { f64::from(fast_ln(v.exp() as f32)) } else { v };
        let moves = self.folds.par_iter_mut().zip(estimates);
        moves.for_each(|(fold, (estimate, leaf_of))| {
            let values: Vec<f64> = estimate.values.into_iter().map(|v| value(v) * rate).collect();
            advance(loss, &mut fold.scores, &values, &leaf_of);
        });
        last
    }

    fn estimate(
        &self,
        fold: &Fold,
        is_final: bool,
        leaf_of: &[u32],
        n_leaves: usize,
        chains: &[Vec<u32>],
    ) -> leaves::Estimate {
        // CatBoost's exact leaves heed no weights.
        let is_exact = self.settings.estimation.method == Method::Exact;
        let weights = self.learning.weights.as_deref().filter(|_| !is_exact);
        let rows = Rows {
            target: &self.learning.target,
            weights,
            scores: &fold.scores,
            order: fold.order.as_deref(),
            is_final,
            chains,
        };
        leaves::estimate(self.settings.loss, self.settings.estimation, rows, leaf_of, n_leaves)
    }

    /// First derivatives of the loss by output and row, times the row's weight.
    fn derivatives(&self, fold: &Fold) -> Vec<Vec<f64>> {
        const BLOCK: usize = 4096;
        let (loss, n) = (self.settings.loss, self.learning.table.n_rows);
        let (target, weights) = (&self.learning.target, &self.learning.weights);
        let k = loss.n_outputs();
        let mut all = vec![vec![0.0; n]; k];
        if k == 1 {
            let blocks = all[0].par_chunks_mut(BLOCK).enumerate();
            blocks.for_each_init(
                || vec![0.0; BLOCK],
                |second, (block, g)| {
                    let rows = block * BLOCK..block * BLOCK + g.len();
                    let scores = &fold.scores[0][rows.clone()];
                    let second = &mut second[..rows.len()];
                    loss.derivatives(scores, &target[rows.clone()], g, second);
                    if let Some(w) = weights {
                        g.iter_mut().zip(&w[rows]).for_each(|(g, &w)| *g *= f64::from(w));
                    }
                },
            );
            return all;
        }
        let (mut scores, mut g) = (vec![0.0; k], vec![0.0; k]);
        for row in 0..n {
            scores.iter_mut().zip(&fold.scores).for_each(|(score, all)| *score = all[row]);
            loss.multi(&scores, target[row] as usize, &mut g, None);
            let w = weights.as_ref().map_or(1.0, |w| f64::from(w[row]));
            all.iter_mut().zip(&g).for_each(|(all, g)| all[row] = g * w);
        }
        all
    }

    /// The standard deviation of the noise on scores, which shrinks as the model grows.
    fn noise(&self, derivatives: &[Vec<f64>]) -> f64 {
        let n = self.learning.table.n_rows as f64;
        let squares: f64 = derivatives.iter().flatten().map(|g| g * g).sum();
        let length = self.n_grown as f64 * self.settings.learning_rate;
        let left = (n.ln() - length).exp();
        self.settings.random_strength * (squares / n).sqrt() * left / (1.0 + left)
    }

    /// The factor of each row in the search.
    fn draw(&mut self, derivatives: &[Vec<f64>], taken: usize) -> Vec<f32> {
        let how = self.settings.bootstrap;
        let last = self.last_leaves.as_deref();
        match &self.folds[taken].order {
            None => bootstrap::draw(how, derivatives, last, &mut self.rng),
            Some(order) => {
                let placed: Vec<Vec<f64>> = derivatives
                    .iter()
                    .map(|g| order.iter().map(|&row| g[row as usize]).collect())
                    .collect();
                let drawn = bootstrap::draw(how, &placed, last, &mut self.rng);
                let mut weights = vec![0.0; drawn.len()];
                order.iter().zip(drawn).for_each(|(&row, w)| weights[row as usize] = w);
                weights
            }
        }
    }

    /// The rows drawn for the tree, in the fold's order, with what histograms sum.
    fn sample(&self, derivatives: &[Vec<f64>], drawn: &[f32], taken: usize) -> Sample {
        let n = drawn.iter().filter(|&&factor| 0.0 < factor).count();
        let mut rows = Vec::with_capacity(n);
        let mut stats = Vec::with_capacity(n * (derivatives.len() + 1));
        let own = self.learning.weights.as_ref();
        let order = self.folds[taken].order.as_deref();
        if let ([g], None) = (derivatives, own) {
            for place in 0..drawn.len() {
                let row = order.map_or(place, |order| order[place] as usize);
                let factor = f64::from(drawn[row]);
                if 0.0 < factor {
                    rows.push(row as u32);
                    stats.extend([g[row] * factor, factor]);
                }
            }
            return Sample::new(1, rows, stats);
        }
        for place in 0..drawn.len() {
            let row = order.map_or(place, |order| order[place] as usize);
            let factor = drawn[row];
            if 0.0 < factor {
                rows.push(row as u32);
                // Derivatives hold the row's own weight already.
                stats.extend(derivatives.iter().map(|g| g[row] * f64::from(factor)));
                stats.push(f64::from(own.map_or(factor, |w| factor * w[row])));
            }
        }
        Sample::new(derivatives.len(), rows, stats)
    }

    /// Searches the splits of a tree on a fold; these, and the leaf of each row there.
    fn search(&mut self, taken: usize, sample: Sample, noise: f64) -> (Vec<Split>, Vec<u32>) {
        let mut sample = sample;
        let mut leaf_of = vec![0_u32; self.learning.table.n_rows];
        let mut splits: Vec<Split> = Vec::new();
        let mut before = 0.0;
        let mut histograms: HashMap<Source, Histogram> = HashMap::new();
        while splits.len() < self.settings.depth {
            let mut tasks = self.tasks(taken, &splits, &leaf_of);
            for group in tasks.iter_mut().flat_map(|task| &mut task.groups) {
                group.histogram = histograms.remove(&group.source);
            }
            histograms.clear(); // Of columns that this level leaves out.
            self.update(&sample, &mut tasks, self.settings.depth, |_| true);
            let seed = self.rng.next();
            let signs = self.signs(&splits);
            tasks.par_iter_mut().enumerate().for_each(|(i, task)| {
                self.score(&sample, task, noise, Rng::of_task(seed, i), &signs);
            });

            let best = self.best(&tasks, before, noise, sample.rows());
            let chosen = best.map(|(task, candidate, score)| {
                let (split, column) = tasks[task].split(candidate);
                (split, column, score)
            });
            for group in tasks.into_iter().flat_map(|task| task.groups) {
                if let Some(histogram) = group.histogram {
                    histograms.insert(group.source, histogram);
                }
            }
            let Some((split, column, score)) = chosen else { break };
            before = score;
            self.note(&split, &[]);

            let level = splits.len();
            let goes_right = split.test();
            rayon::join(
                || add_level(&mut leaf_of, level, goes_right, &column),
                || sample.split(|row| goes_right(column.bin(row))),
            );
            splits.push(split);
            // Rows that were drawn are rows, so what parts them parts all.
            if sample.redundant().is_some()
                && let Some(level) = redundant(&leaf_of, splits.len())
            {
                splits.remove(level);
                let low = (1 << level) - 1;
                for leaf in &mut leaf_of {
                    *leaf = *leaf & low | *leaf >> (level + 1) << level;
                }
                break;
            }
        }
        (splits, leaf_of)
    }

    /// Brings the histograms of all groups up to date, but those too large to keep. The tree will have
    /// `depth` levels at most. Those of groups that are not missing are left as they are.
    fn update(
        &self,
        sample: &Sample,
        tasks: &mut [Task],
        depth: usize,
        is_missing: impl Fn(&Source) -> bool,
    ) {
        if self.settings.rules.are_monotone() {
            return; // Which are scored without them.
        }
        let mut slots = Vec::new();
        let groups = tasks.iter_mut().flat_map(|task| &mut task.groups);
        for group in groups.filter(|group| is_missing(&group.source)) {
            let columns = Columns { bins: &group.bins, width: group.width, n_bins: group.n_bins };
            let numbers = columns.size(sample.stride()) * sample.n_leaves();
            if HISTOGRAM_BYTES < numbers * size_of::<f64>() {
                group.histogram = None;
            } else {
                slots.push((columns, &mut group.histogram));
            }
        }
        score::update(sample, depth, slots);
    }

    /// The candidate whose score, with noise and penalties, is highest: its task, its place there,
    /// and that score.
    fn best(
        &mut self,
        tasks: &[Task],
        before: f64,
        noise: f64,
        rows: &[u32],
    ) -> Option<(usize, usize, f64)> {
        let (rules, table) = (&self.settings.rules, &self.learning.table);
        let n_used = |projection| self.buckets.get(projection).map_or(1, |b| b.n_used());
        let most = tasks.iter().filter_map(Task::projection).map(n_used).max().unwrap_or(1).max(1);
        let mut best = None;
        let mut top = f64::NEG_INFINITY;
        for (i, task) in tasks.iter().enumerate() {
            for (j, candidate) in task.candidates.iter().enumerate() {
                let Some((score, ..)) = candidate.best else { continue };
                let split = (!rules.are_plain()).then(|| task.split(j).0);
                let cost = split.as_ref().map(|split| rules.cost(split, table, &self.usage, rows));
                let mut score = score - cost.unwrap_or(0.0) + noise * self.rng.normal();
                if let Some(projection) = task.projection() {
                    let kind = self.statistics(projection)[j].kind;
                    if !self.used.iter().any(|(k, p)| *k == kind && p == projection) {
                        let share = self.buckets.get(projection).map_or(1, |b| b.n_used()) as f64
                            / most as f64;
                        score *= (1.0 + share).powf(-self.settings.model_size);
                    }
                }
                let weight = split.as_ref().map_or(1.0, |split| rules.weight(split, table));
                let gain = (score - before) * weight;
                if top < gain {
                    top = gain;
                    best = Some((i, j, score));
                }
            }
        }
        best
    }

    /// The candidates of a level, in CatBoost's order.
    fn tasks(&mut self, taken: usize, splits: &[Split], leaf_of: &[u32]) -> Vec<Task> {
        let share = self.settings.columns;
        let table = &self.learning.table;
        let rng = &mut self.rng;
        let mut tasks = Vec::new();
        let mut binary = Vec::new();
        let is_bundled = |place| table.bundles.iter().flatten().any(|other| *other == place);
        for (column, numeric) in table.numeric.iter().enumerate() {
            let n_bins = numeric.borders.values.len() + 1;
            if n_bins == 1 || is_bundled(Bundled::Numeric(column)) {
                continue;
            }
            let group = Group::new(Source::Numeric(column as u32), &numeric.bins, 1, n_bins);
            if n_bins == 2 {
                binary.push(group);
            } else if rng.uniform() <= share {
                tasks.push(Task::of_pack(vec![group]));
            }
        }
        for (column, categorical) in table.categorical.iter().enumerate() {
            let n_values = categorical.n_values();
            let Some(bins) = categorical.bins.as_ref().filter(|_| 1 < n_values) else { continue };
            if is_bundled(Bundled::Categorical(column)) {
                continue;
            }
            let group = Group::new(Source::OneHot(column as u32), bins, 1, n_values);
            if n_values == 2 {
                binary.push(group);
            } else if rng.uniform() <= share {
                tasks.push(Task::of_pack(vec![group]));
            }
        }
        for bundle in &table.bundles {
            let group = |place: &Bundled| match *place {
                Bundled::Numeric(column) => {
                    let numeric = &table.numeric[column];
                    let n_bins = numeric.borders.values.len() + 1;
                    Some(Group::new(Source::Numeric(column as u32), &numeric.bins, 1, n_bins))
                }
                Bundled::Categorical(column) => {
                    let categorical = &table.categorical[column];
                    let bins = categorical.bins.as_ref()?;
                    let n_values = categorical.n_values();
                    Some(Group::new(Source::OneHot(column as u32), bins, 1, n_values))
                }
            };
            let groups = bundle.iter().filter_map(group);
            let groups: Vec<Group> = groups.filter(|_| rng.uniform() <= share).collect();
            if !groups.is_empty() {
                tasks.push(Task::of_bundle(groups));
            }
        }
        let mut binary = binary.into_iter().peekable();
        while binary.peek().is_some() {
            let pack: Vec<Group> =
                binary.by_ref().take(PACK).filter(|_| rng.uniform() <= share).collect();
            if !pack.is_empty() {
                tasks.push(Task::of_pack(pack));
            }
        }
        self.add_ctrs(taken, splits, leaf_of, &mut tasks);
        tasks
    }

    /// Adds the statistics of single columns, and of combinations with what the tree has.
    fn add_ctrs(&mut self, taken: usize, splits: &[Split], leaf_of: &[u32], tasks: &mut Vec<Task>) {
        let share = self.settings.columns;
        let max_one_hot = self.settings.max_one_hot;
        let columns: Vec<u32> = (0..)
            .zip(&self.learning.table.categorical)
            .filter(|(_, categorical)| {
                max_one_hot < categorical.n_values() && !categorical.is_ignored
            })
            .map(|(column, _)| column)
            .collect();
        if columns.is_empty() {
            return;
        }
        let mut projections: Vec<Extended> = Vec::new();
        for &column in &columns {
            if self.rng.uniform() <= share {
                let projection = Projection { columns: vec![column], ..Projection::default() };
                projections.push((Arc::new(projection), None));
            }
        }
        let mut bases = Vec::new();
        if !splits.is_empty() {
            let mut asked = Projection::default();
            let mut own = Vec::new();
            for split in splits {
                match split {
                    Split::Border { column, border } => asked.borders.push((*column, *border)),
                    Split::Level { column, code } => asked.levels.push((*column, *code)),
                    Split::Ctr { projection, .. } => own.push((**projection).clone()),
                }
            }
            own.insert(0, asked);
            bases = ctr::in_set_order(own);
            bases.retain(|base| !base.is_empty());
        }
        let mut added: Vec<Projection> = Vec::new();
        for (i, base) in bases.iter().enumerate() {
            for &column in &columns {
                if self.rng.uniform() > share {
                    continue;
                }
                let projection = base.with(column);
                if projection.is_redundant()
                    || projection.len() > self.settings.max_combination
                    || added.contains(&projection)
                {
                    continue;
                }
                added.push(projection.clone());
                projections.push((Arc::new(projection), Some((i, column))));
            }
        }
        self.compute(taken, &bases, splits, leaf_of, &projections);
        for (projection, _) in projections {
            let width = self.statistics(&projection).len();
            let bins = Arc::clone(&self.folds[taken].ctrs[&projection]);
            let n_bins = usize::from(ctr::CTR_BORDERS) + 1;
            let group = Group::new(Source::Ctr(projection), &bins, width, n_bins);
            tasks.push(Task::of_columns(group));
        }
    }

    /// Sees to it that the fold has the statistics of the projections. Each is a single column, or
    /// one of `bases` with one more column.
    fn compute(
        &mut self,
        taken: usize,
        bases: &[Projection],
        splits: &[Split],
        leaf_of: &[u32],
        projections: &[Extended],
    ) {
        let missing =
            |(projection, _): &&Extended| !self.folds[taken].ctrs.contains_key(projection);
        let missing: Vec<_> = projections.iter().filter(missing).collect();
        let room: Vec<(Vec<u8>, Vec<u32>)> = missing
            .iter()
            .map(|_| {
                let (bins, rows) = (self.room.bins.pop(), self.room.rows.pop());
                (bins.unwrap_or_default(), rows.unwrap_or_default())
            })
            .collect();
        let base_buckets: Vec<Option<Arc<Buckets>>> = bases
            .iter()
            .enumerate()
            .map(|(i, base)| {
                let is_needed = missing.iter().any(|(projection, way)| {
                    way.is_some_and(|(at, _)| at == i) && !self.buckets.contains_key(projection)
                });
                if !is_needed {
                    return None;
                }
                if base.columns.is_empty() {
                    return Some(Arc::new(answers(splits, leaf_of)));
                }
                Some(match self.buckets.get(base) {
                    Some(buckets) => Arc::clone(buckets),
                    None => Arc::new(self.learning.table.buckets(base)),
                })
            })
            .collect();
        let order = self.folds[taken].order.as_deref();
        let new: Vec<_> = missing
            .par_iter()
            .zip(room)
            .map(|((projection, way), (room, rows))| {
                let buckets = self.buckets.get(projection).cloned().unwrap_or_else(|| {
                    let base =
                        way.and_then(|(i, column)| Some((base_buckets[i].as_ref()?, column)));
                    Arc::new(match base {
                        None => self.learning.table.buckets(projection),
                        Some((base, column)) => {
                            base.with(&self.learning.table.categorical[column as usize], rows)
                        }
                    })
                });
                let columns = self.statistics(projection);
                let bins = ctr::bins(columns, &buckets, order, &self.learning.classes, room);
                (Arc::clone(projection), buckets, Arc::new(bins))
            })
            .collect();
        for (projection, buckets, bins) in new {
            self.folds[taken].ctrs.insert(Arc::clone(&projection), bins);
            self.buckets.insert(projection, buckets);
        }
    }

    /// Gives every fold the statistics that a tree's splits ask for.
    fn complete(&mut self, splits: &[Split]) {
        let all = self.folds.iter().chain(&self.averaging).enumerate();
        let missing: Vec<(usize, Arc<Projection>)> = all
            .flat_map(|(i, fold)| {
                let mut own: Vec<(usize, Arc<Projection>)> = Vec::new();
                for split in splits {
                    if let Split::Ctr { projection, .. } = split
                        && !fold.ctrs.contains_key(projection)
                        && own.iter().all(|(_, other)| other != projection)
                    {
                        own.push((i, Arc::clone(projection)));
                    }
                }
                own
            })
            .collect();
        let room: Vec<Vec<u8>> =
            missing.iter().map(|_| self.room.bins.pop().unwrap_or_default()).collect();
        let of = |((i, projection), room): (&(usize, Arc<Projection>), Vec<u8>)| {
            let fold = self.folds.get(*i).or(self.averaging.as_ref());
            let order = fold.and_then(|fold| fold.order.as_deref());
            let columns = self.statistics(projection);
            ctr::bins(columns, &self.buckets[projection], order, &self.learning.classes, room)
        };
        let bins: Vec<Vec<u8>> = missing.par_iter().zip(room).map(of).collect();
        for ((i, projection), bins) in missing.into_iter().zip(bins) {
            if let Some(fold) = self.folds.get_mut(i).or(self.averaging.as_mut()) {
                fold.ctrs.insert(projection, Arc::new(bins));
            }
        }
    }

    /// The leaf of each row in a fold, which has the statistics asked for.
    fn leaves_in(&self, fold: &Fold, splits: &[Split]) -> Vec<u32> {
        let mut leaf_of = vec![0; self.learning.table.n_rows];
        for (level, split) in splits.iter().enumerate() {
            add_level(&mut leaf_of, level, split.test(), &self.column_of(fold, split));
        }
        leaf_of
    }

    /// The column that a split asks in a fold.
    fn column_of(&self, fold: &Fold, split: &Split) -> Column {
        match split {
            Split::Border { column, .. } => {
                Column::single(&self.learning.table.numeric[*column as usize].bins)
            }
            Split::Level { column, .. } => {
                let bins = self.learning.table.categorical[*column as usize].bins.as_ref();
                Column::single(bins.expect("one-hot splits are of columns with bins"))
            }
            Split::Ctr { projection, column, .. } => Column {
                bins: Arc::clone(&fold.ctrs[projection]),
                width: self.statistics(projection).len(),
                at: *column as usize,
            },
        }
    }

    /// Drops what only the last tree needed.
    fn trim(&mut self) {
        let mut bins = Vec::new();
        for fold in self.folds.iter_mut().chain(&mut self.averaging) {
            bins.extend(fold.ctrs.extract_if(|projection, _| !projection.is_plain()));
            if KEPT < fold.ctrs.len() {
                fold.ctrs.retain(|projection, _| projection.columns.len() == 1);
            }
        }
        let buckets = self.buckets.extract_if(|projection, _| !projection.is_plain());
        let rows = buckets.filter_map(|(_, buckets)| Arc::into_inner(buckets));
        self.room.rows.extend(rows.map(|buckets| buckets.of_row));
        self.room.bins.extend(bins.into_iter().filter_map(|(_, bins)| Arc::into_inner(bins)));
        self.room.shrink();
        // What has statistics has buckets, too.
        if KEPT_BYTES < self.buckets.values().map(|buckets| buckets.bytes()).sum() {
            self.buckets.retain(|projection, _| projection.columns.len() == 1);
            for fold in self.folds.iter_mut().chain(&mut self.averaging) {
                fold.ctrs.retain(|projection, _| projection.columns.len() == 1);
            }
        }
    }

    /// Finds the best split of each candidate, with noise on every score.
    fn score(&self, sample: &Sample, task: &mut Task, noise: f64, mut rng: Rng, signs: &[i8]) {
        let mut scorer = Scorer::new(self.settings.l2, self.settings.score);
        let of_group = |group: &Group| {
            if !self.settings.rules.are_monotone() {
                return group.scores(sample, &mut scorer);
            }
            let sign = match group.source {
                Source::Numeric(column) => {
                    let split = Split::Border { column, border: 0 };
                    self.settings.rules.sign(&split, &self.learning.table)
                }
                _ => 0,
            };
            let how = (self.settings.l2, self.settings.score);
            monotone::scores(sample, group.columns(), group.shape(), how, signs, sign)
        };
        let scores: Vec<Vec<Vec<f64>>> = task.groups.iter().map(of_group).collect();
        for candidate in &mut task.candidates {
            let mut best = (f64::MIN, None);
            for (i, &(group, column)) in candidate.parts.iter().enumerate() {
                let scores = &scores[group][column];
                let (mut span, mut unknown) = (0..scores.len(), None);
                if let Source::OneHot(column) = task.groups[group].source {
                    let hashes = &self.learning.table.categorical[column as usize].hashes;
                    // The unknown level is no level to ask for.
                    unknown = hashes.iter().position(Option::is_none);
                    if scores.len() == 2 {
                        span = if unknown == Some(1) { 0..1 } else { 1..2 };
                        if task.is_bundle {
                            rng.normal(); // For the other value, which CatBoost leaves at 0.
                        }
                    }
                }
                for at in span.filter(|&at| Some(at) != unknown) {
                    let point = rng.point();
                    if scores[at] + noise * point.bound() <= best.0 {
                        continue; // What it could be at most is not enough.
                    }
                    let noisy = scores[at] + noise * point.normal();
                    if best.0 < noisy {
                        best = (noisy, Some((scores[at], i, at)));
                    }
                }
            }
            candidate.best = best.1;
        }
    }
}

/// An order of `n` rows in which blocks of some rows change places, the longer the more there are.
fn blockwise(n: usize, rng: &mut Rng) -> Vec<u32> {
    let size = (n / 1000 + 1).min(256);
    let blocks = rng.shuffled(n.div_ceil(size));
    let rows = |block: u32| {
        let first = block as usize * size;
        first as u32..(first + size).min(n) as u32
    };
    blocks.into_iter().flat_map(rows).collect()
}

/// The buckets of the answers to the splits that ask columns themselves.
fn answers(splits: &[Split], leaf_of: &[u32]) -> Buckets {
    let levels: Vec<usize> =
        (0..splits.len()).filter(|&level| !matches!(splits[level], Split::Ctr { .. })).collect();
    let bits = |&leaf: &u32| {
        let bit = |(to, &from): (usize, &usize)| (leaf >> from & 1) << to;
        levels.iter().enumerate().map(bit).sum()
    };
    Buckets::by_answers(leaf_of.iter().map(bits).collect(), 1 << levels.len())
}

/// Binary columns that share a candidate.
const PACK: usize = 8;

/// Bytes of a group's histogram above which it is not kept from level to level.
const HISTOGRAM_BYTES: usize = 4 << 20;

impl Split {
    fn goes_right(&self, bin: u8) -> bool {
        self.test()(bin)
    }

    /// What tells whether a bin goes right, for loops over many.
    fn test(&self) -> impl Fn(u8) -> bool + Copy + Send + Sync + use<> {
        let (is_level, at) = match *self {
            Self::Border { border, .. } | Self::Ctr { border, .. } => (false, border),
            Self::Level { code, .. } => (true, code),
        };
        move |bin| if is_level { at == u32::from(bin) } else { at < u32::from(bin) }
    }
}

/// A column of bins, alone or among others.
#[derive(Debug)]
struct Column {
    bins: Arc<Vec<u8>>,
    width: usize,
    at: usize,
}

impl Column {
    fn single(bins: &Arc<Vec<u8>>) -> Self {
        Self { bins: Arc::clone(bins), width: 1, at: 0 }
    }

    fn bin(&self, row: u32) -> u8 {
        self.bins[row as usize * self.width + self.at]
    }
}

/// Candidates that draw their noise from one stream.
#[derive(Debug)]
struct Task {
    groups: Vec<Group>,
    candidates: Vec<Candidate>,
    is_bundle: bool,
}

/// Columns of which the best split comes to the final choice.
#[derive(Debug)]
struct Candidate {
    /// Groups with a column of each.
    parts: Vec<(usize, usize)>,
    /// Score without noise, part, and split.
    best: Option<(f64, usize, usize)>,
}

impl Task {
    /// Of one or more columns, one candidate.
    fn of_pack(groups: Vec<Group>) -> Self {
        let parts = (0..groups.len()).map(|group| (group, 0)).collect();
        Self { groups, candidates: vec![Candidate { parts, best: None }], is_bundle: false }
    }

    /// Of columns that exclude each other, one candidate.
    fn of_bundle(groups: Vec<Group>) -> Self {
        Self { is_bundle: true, ..Self::of_pack(groups) }
    }

    /// Of several columns, a candidate each.
    fn of_columns(group: Group) -> Self {
        let candidate = |column| Candidate { parts: vec![(0, column)], best: None };
        let candidates = (0..group.width).map(candidate).collect();
        Self { candidates, groups: vec![group], is_bundle: false }
    }

    fn projection(&self) -> Option<&Arc<Projection>> {
        match &self.groups[0].source {
            Source::Ctr(projection) => Some(projection),
            _ => None,
        }
    }

    /// The best split of a candidate that has one, and the column that it asks.
    fn split(&self, candidate: usize) -> (Split, Column) {
        let Candidate { parts, best } = &self.candidates[candidate];
        let (_, part, at) = best.expect("it was chosen for its score");
        let (group, column) = parts[part];
        let (group, at) = (&self.groups[group], at as u32);
        let split = match &group.source {
            &Source::Numeric(column) => Split::Border { column, border: at },
            &Source::OneHot(column) => Split::Level { column, code: at },
            Source::Ctr(projection) => {
                Split::Ctr { projection: Arc::clone(projection), column: column as u32, border: at }
            }
        };
        (split, Column { bins: Arc::clone(&group.bins), width: group.width, at: column })
    }
}

/// Where columns come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Source {
    Numeric(u32),
    OneHot(u32),
    Ctr(Arc<Projection>),
}

/// Columns whose histograms are built together.
#[derive(Debug)]
struct Group {
    source: Source,
    bins: Arc<Vec<u8>>,
    width: usize,
    n_bins: usize,
    /// Sums over the leaves of the level before.
    histogram: Option<Histogram>,
}

impl Group {
    fn new(source: Source, bins: &Arc<Vec<u8>>, width: usize, n_bins: usize) -> Self {
        Self { source, bins: Arc::clone(bins), width, n_bins, histogram: None }
    }

    fn columns(&self) -> Columns<'_> {
        Columns { bins: &self.bins, width: self.width, n_bins: self.n_bins }
    }

    fn shape(&self) -> Shape {
        match self.source {
            Source::OneHot(_) => Shape::Levels,
            _ => Shape::Thresholds,
        }
    }

    /// The scores of all splits by column.
    fn scores(&self, sample: &Sample, scorer: &mut Scorer) -> Vec<Vec<f64>> {
        let (columns, shape) = (self.columns(), self.shape());
        match &self.histogram {
            None => scorer.score_rows(sample, columns, shape),
            Some(histogram) => scorer.score(histogram, columns, sample.stride(), shape),
        }
    }
}

/// Adds a level's bit to the rows' leaves.
fn add_level(
    leaf_of: &mut [u32],
    level: usize,
    goes_right: impl Fn(u8) -> bool + Send + Sync,
    column: &Column,
) {
    const BLOCK: usize = 16_384;
    let Column { bins, width, at } = column;
    let blocks = leaf_of.par_chunks_mut(BLOCK).zip(bins.par_chunks(BLOCK * width));
    let set = |leaf: &mut u32, bin: u8| *leaf |= u32::from(goes_right(bin)) << level;
    blocks.for_each(|(leaf_of, bins)| {
        if *width == 1 {
            leaf_of.iter_mut().zip(bins).for_each(|(leaf, &bin)| set(leaf, bin));
        } else {
            let rows = leaf_of.iter_mut().zip(bins.chunks_exact(*width));
            rows.for_each(|(leaf, bins)| set(leaf, bins[*at]));
        }
    });
}

/// The first level whose split parts no two leaves that both have rows.
fn redundant(leaf_of: &[u32], depth: usize) -> Option<usize> {
    let mut has_rows = vec![false; 1 << depth];
    for &leaf in leaf_of {
        has_rows[leaf as usize] = true;
    }
    score::redundant(&has_rows)
}

/// Adds the leaves' values to the scores.
fn advance(loss: Loss, scores: &mut [Vec<f64>], values: &[f64], leaf_of: &[u32]) {
    const BLOCK: usize = 16_384;
    let k = scores.len();
    for (output, scores) in scores.iter_mut().enumerate() {
        let moves: Vec<f64> = values
            .iter()
            .skip(output)
            .step_by(k)
            .map(|v| if loss.keeps_exp() { v.exp() } else { *v })
            .collect();
        scores.par_chunks_mut(BLOCK).zip(leaf_of.par_chunks(BLOCK)).for_each(
            |(scores, leaf_of)| {
                let rows = scores.iter_mut().zip(leaf_of);
                if loss.keeps_exp() {
                    rows.for_each(|(score, &leaf)| *score *= moves[leaf as usize]);
                } else {
                    rows.for_each(|(score, &leaf)| *score += moves[leaf as usize]);
                }
            },
        );
    }
}
