//! Boosting: one tree after another, each grown on the derivatives of those before.
//!
//! A tree's structure is searched on one *fold*, an order of the rows with scores of its own; its
//! leaves are then estimated anew for every fold. Without target statistics of categories there is a
//! single fold in the order of the data. With them there are some random ones, of which each tree
//! takes one, and a last one that no tree is grown on: the model's leaves come from it.
//!
//! The random stream is drawn from in CatBoost's order, so that its trees come out.

use std::{collections::HashMap, sync::Arc};

use rayon::prelude::*;

use super::{
    bootstrap::{self, Bootstrap},
    leaves::{self, Estimation, Method, Rows},
    loss::Loss,
    rng::Rng,
    score::{Histogram, Sample, ScoreFunction, Scorer, Shape},
    table::Table,
};

/// Everything that the params and the data settle before the first tree.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) loss: Loss,
    pub(super) learning_rate: f64,
    pub(super) depth: usize,
    pub(super) l2: f64,
    pub(super) random_strength: f64,
    pub(super) score: ScoreFunction,
    pub(super) bootstrap: Bootstrap,
    pub(super) estimation: Estimation,
    /// Share of the columns that a level sees.
    pub(super) columns: f64,
}

/// One grown tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grown {
    /// One split for each level, the lowest bit of the leaf's index first.
    pub(super) splits: Vec<Split>,
    /// Values of shape (leaves, outputs), after the learning rate.
    pub(super) leaves: Vec<f64>,
    /// The weight of the training rows in each leaf.
    pub(super) weights: Vec<f64>,
}

/// What a split asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Split {
    /// Whether a numeric column's bin exceeds a border.
    Border { column: u32, border: u32 },
    /// Whether a categorical column has this code.
    Level { column: u32, code: u32 },
}

/// The rows in an order, with the scores that the trees gave them.
#[derive(Debug)]
struct Fold {
    /// The row at each place; the data's own order if `None`.
    order: Option<Vec<u32>>,
    /// For each output the rows' scores, in the order of the data.
    scores: Vec<Vec<f64>>,
}

/// The state of a fit between two trees.
#[derive(Debug)]
pub(super) struct Booster {
    settings: Settings,
    table: Table,
    target: Vec<f32>,
    weights: Option<Vec<f32>>,
    /// The folds that trees are grown on.
    folds: Vec<Fold>,
    /// The fold that leaves are taken from; the only one of `folds` if `None`.
    averaging: Option<Fold>,
    rng: Rng,
    n_grown: usize,
    last_leaves: Option<Vec<f64>>,
}

impl Booster {
    /// Before the first tree: every row's scores are `start`, of shape (outputs, rows).
    pub(super) fn new(
        settings: Settings,
        table: Table,
        target: Vec<f32>,
        weights: Option<Vec<f32>>,
        start: &[Vec<f64>],
        rng: Rng,
    ) -> Self {
        let (mut settings, mut rng) = (settings, rng);
        let n = table.n_rows as f64;
        let total = weights.as_ref().map_or(n, |w| w.iter().map(|&w| f64::from(w)).sum());
        settings.l2 *= total / n;
        settings.estimation.l2 = settings.l2;
        let scores: Vec<Vec<f64>> = if settings.loss.keeps_exp() {
            start.iter().map(|scores| scores.iter().map(|a| a.exp()).collect()).collect()
        } else {
            start.to_vec()
        };
        let averaging = None;
        let folds = vec![Fold { order: None, scores }];
        // For each fold CatBoost draws the rows that features of texts and the like are quantized
        // from, though there are none.
        for _ in 0..=folds.len() {
            if ESTIMATED_ROWS < table.n_rows {
                rng.sampled(table.n_rows, ESTIMATED_ROWS);
            }
        }
        Self {
            settings,
            table,
            target,
            weights,
            folds,
            averaging,
            rng,
            n_grown: 0,
            last_leaves: None,
        }
    }

    /// The columns.
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// Grows one tree.
    pub(super) fn grow(&mut self) -> Grown {
        let taken = (self.rng.next() % self.folds.len() as u64) as usize;
        self.rng.next(); // Seeds derivatives that are random; ours are not.
        let derivatives = self.derivatives(&self.folds[taken]);
        let drawn = self.draw(&derivatives, taken);
        let noise = self.noise(&derivatives);
        let (splits, leaf_of) = self.search(taken, &derivatives, &drawn, noise);
        let n_leaves = 1 << splits.len();
        self.rng.next(); // Seeds of the folds' estimates, which are not random either.

        let rate = self.settings.learning_rate;
        if self.averaging.is_some() {
            for fold in 0..self.folds.len() {
                let values = self.estimate(&self.folds[fold], &leaf_of, n_leaves).values;
                let values: Vec<f64> = values.into_iter().map(|v| v * rate).collect();
                advance(self.settings.loss, &mut self.folds[fold].scores, &values, &leaf_of);
            }
        }
        let fold = self.averaging.as_ref().unwrap_or(&self.folds[taken]);
        let estimate = self.estimate(fold, &leaf_of, n_leaves);
        for _ in 0..estimate.draws {
            self.rng.next();
        }
        let leaves: Vec<f64> = estimate.values.into_iter().map(|v| v * rate).collect();
        let fold = self.averaging.as_mut().unwrap_or(&mut self.folds[taken]);
        advance(self.settings.loss, &mut fold.scores, &leaves, &leaf_of);

        let mut weights = vec![0.0; n_leaves];
        for (row, &leaf) in leaf_of.iter().enumerate() {
            weights[leaf as usize] += self.weights.as_ref().map_or(1.0, |w| f64::from(w[row]));
        }
        self.n_grown += 1;
        self.last_leaves = Some(leaves.clone());
        Grown { splits, leaves, weights }
    }

    fn estimate(&self, fold: &Fold, leaf_of: &[u32], n_leaves: usize) -> leaves::Estimate {
        // CatBoost's exact leaves heed no weights.
        let is_exact = self.settings.estimation.method == Method::Exact;
        let weights = self.weights.as_deref().filter(|_| !is_exact);
        let rows = Rows { target: &self.target, weights, scores: &fold.scores };
        leaves::estimate(self.settings.loss, self.settings.estimation, rows, leaf_of, n_leaves)
    }

    /// First derivatives of the loss by output and row, times the row's weight.
    fn derivatives(&self, fold: &Fold) -> Vec<Vec<f64>> {
        const BLOCK: usize = 4096;
        let (loss, n) = (self.settings.loss, self.table.n_rows);
        let k = loss.n_outputs();
        let mut all = vec![vec![0.0; n]; k];
        if k == 1 {
            let blocks = all[0].par_chunks_mut(BLOCK).enumerate();
            blocks.for_each_init(
                || vec![0.0; BLOCK],
                |second, (block, g)| {
                    let rows = block * BLOCK..block * BLOCK + g.len();
                    let scores = &fold.scores[0][rows.clone()];
                    let target = &self.target[rows.clone()];
                    loss.derivatives(scores, target, g, &mut second[..rows.len()]);
                    if let Some(w) = &self.weights {
                        g.iter_mut().zip(&w[rows]).for_each(|(g, &w)| *g *= f64::from(w));
                    }
                },
            );
            return all;
        }
        let (mut scores, mut g) = (vec![0.0; k], vec![0.0; k]);
        for row in 0..n {
            scores.iter_mut().zip(&fold.scores).for_each(|(score, all)| *score = all[row]);
            loss.multi(&scores, self.target[row] as usize, &mut g, None);
            let w = self.weights.as_ref().map_or(1.0, |w| f64::from(w[row]));
            all.iter_mut().zip(&g).for_each(|(all, g)| all[row] = g * w);
        }
        all
    }

    /// The standard deviation of the noise on scores, which shrinks as the model grows.
    fn noise(&self, derivatives: &[Vec<f64>]) -> f64 {
        let n = self.table.n_rows as f64;
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

    /// Searches the splits of a tree; these, and the leaf of each row.
    fn search(
        &mut self,
        taken: usize,
        derivatives: &[Vec<f64>],
        drawn: &[f32],
        noise: f64,
    ) -> (Vec<Split>, Vec<u32>) {
        let n = self.table.n_rows;
        let mut sample = self.sample(derivatives, drawn);
        let mut leaf_of = vec![0_u32; n];
        let mut splits: Vec<Split> = Vec::new();
        let mut before = 0.0;
        let mut histograms: HashMap<Split, Histogram> = HashMap::new();
        let _ = taken;
        while splits.len() < self.settings.depth {
            let mut tasks = self.tasks();
            let seed = self.rng.next();
            let scores_of = |(task, subs): (usize, &mut Task)| {
                self.score(&sample, &mut subs.0, noise, Rng::of_task(seed, task));
            };
            let stands = histograms.drain().collect::<Vec<_>>();
            lend(&mut tasks, stands);
            tasks.par_iter_mut().enumerate().for_each(scores_of);

            let mut best: Option<(f64, f64, Split, Arc<Vec<u8>>)> = None;
            for candidate in tasks.iter().flat_map(|task| &task.0) {
                let Some((score, part, at)) = candidate.best else { continue };
                let score = score + noise * self.rng.normal();
                let gain = score - before;
                if best.as_ref().is_none_or(|(top, ..)| *top < gain) {
                    let part = &candidate.parts[part];
                    best = Some((gain, score, part.split(at), Arc::clone(&part.bins)));
                }
            }
            for part in tasks.into_iter().flat_map(|task| task.0).flat_map(|sub| sub.parts) {
                if let Some(histogram) = part.histogram {
                    histograms.insert(part.first, histogram);
                }
            }
            let Some((_, score, split, bins)) = best else { break };
            before = score;

            let level = splits.len();
            let goes_right = |row: u32| match split {
                Split::Border { border, .. } => border < u32::from(bins[row as usize]),
                Split::Level { code, .. } => code == u32::from(bins[row as usize]),
            };
            leaf_of.par_iter_mut().with_min_len(16_384).enumerate().for_each(|(row, leaf)| {
                *leaf |= u32::from(goes_right(row as u32)) << level;
            });
            sample.split(goes_right);
            splits.push(split);
            if let Some(level) = redundant(&leaf_of, splits.len()) {
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

    /// The rows drawn for the tree, with what histograms sum.
    fn sample(&self, derivatives: &[Vec<f64>], drawn: &[f32]) -> Sample {
        let (mut rows, mut stats) = (Vec::new(), Vec::new());
        for (row, &factor) in drawn.iter().enumerate() {
            if 0.0 < factor {
                rows.push(row as u32);
                // Derivatives hold the row's own weight already.
                stats.extend(derivatives.iter().map(|g| g[row] * f64::from(factor)));
                stats.push(f64::from(self.weights.as_ref().map_or(factor, |w| factor * w[row])));
            }
        }
        Sample::new(derivatives.len(), rows, stats)
    }

    /// The candidates of a level, in CatBoost's order.
    fn tasks(&mut self) -> Vec<Task> {
        let share = self.settings.columns;
        let rng = &mut self.rng;
        let mut tasks = Vec::new();
        let (mut binary, mut pack) = (Vec::new(), Vec::new());
        for (column, numeric) in self.table.numeric.iter().enumerate() {
            let n_bins = numeric.borders.values.len() + 1;
            if n_bins == 1 {
                continue;
            }
            let first = Split::Border { column: column as u32, border: 0 };
            let part = Part::new(first, &numeric.bins, n_bins);
            if n_bins == 2 {
                binary.push(part);
            } else if rng.uniform() <= share {
                tasks.push(Task(vec![Candidate::new(vec![part])]));
            }
        }
        for (column, categorical) in self.table.categorical.iter().enumerate() {
            let Some(bins) = categorical.bins.as_ref().filter(|_| 1 < categorical.n_values())
            else {
                continue;
            };
            let first = Split::Level { column: column as u32, code: 0 };
            let mut part = Part::new(first, bins, categorical.n_values());
            if categorical.n_values() == 2 {
                part.only = Some(1);
                binary.push(part);
            } else if rng.uniform() <= share {
                tasks.push(Task(vec![Candidate::new(vec![part])]));
            }
        }
        let n_binary = binary.len();
        for (i, part) in binary.into_iter().enumerate() {
            if rng.uniform() <= share {
                pack.push(part);
            }
            if (i % PACK == PACK - 1 || i == n_binary - 1) && !pack.is_empty() {
                tasks.push(Task(vec![Candidate::new(std::mem::take(&mut pack))]));
            }
        }
        tasks
    }

    /// Finds the best split of each candidate, with noise on every score.
    fn score(&self, sample: &Sample, candidates: &mut [Candidate], noise: f64, mut rng: Rng) {
        let mut scorer = Scorer::new(self.settings.l2, self.settings.score);
        for candidate in candidates {
            let mut best = (f64::MIN, None);
            for (i, part) in candidate.parts.iter_mut().enumerate() {
                let scores = part.scores(sample, &mut scorer);
                let span = part.only.map_or(0..scores.len(), |only| only..only + 1);
                for at in span {
                    let noisy = scores[at] + noise * rng.normal();
                    if best.0 < noisy {
                        best = (noisy, Some((scores[at], i, at)));
                    }
                }
            }
            candidate.best = best.1;
        }
    }
}

/// Rows of which CatBoost draws no part for features made of others.
const ESTIMATED_ROWS: usize = 100_000;

/// Binary columns that share a candidate.
const PACK: usize = 8;

/// Bytes of a column's histogram above which it is not kept from level to level.
const HISTOGRAM_BYTES: usize = 4 << 20;

/// Candidates that draw their noise from one stream.
#[derive(Debug)]
struct Task(Vec<Candidate>);

/// Columns of which the best split comes to the final choice.
#[derive(Debug)]
struct Candidate {
    parts: Vec<Part>,
    /// Score without noise, part, and split.
    best: Option<(f64, usize, usize)>,
}

impl Candidate {
    fn new(parts: Vec<Part>) -> Self {
        Self { parts, best: None }
    }
}

/// One column.
#[derive(Debug)]
struct Part {
    /// Its first split, which stands for the column.
    first: Split,
    bins: Arc<Vec<u8>>,
    n_bins: usize,
    /// The only split to be considered.
    only: Option<usize>,
    /// Sums over the leaves of the level before.
    histogram: Option<Histogram>,
}

impl Part {
    fn new(first: Split, bins: &Arc<Vec<u8>>, n_bins: usize) -> Self {
        Self { first, bins: Arc::clone(bins), n_bins, only: None, histogram: None }
    }

    fn split(&self, at: usize) -> Split {
        match self.first {
            Split::Border { column, .. } => Split::Border { column, border: at as u32 },
            Split::Level { column, .. } => Split::Level { column, code: at as u32 },
        }
    }

    fn shape(&self) -> Shape {
        match self.first {
            Split::Border { .. } => Shape::Thresholds,
            Split::Level { .. } => Shape::Levels,
        }
    }

    /// The scores of all splits; brings the histogram up to date.
    fn scores(&mut self, sample: &Sample, scorer: &mut Scorer) -> Vec<f64> {
        let (stride, shape) = (sample.stride(), self.shape());
        if HISTOGRAM_BYTES < Histogram::bytes(self.n_bins, stride, sample.n_leaves()) {
            self.histogram = None;
            return scorer.score_rows(sample, &self.bins, self.n_bins, shape);
        }
        let histogram = match self.histogram.take() {
            None => Histogram::new(sample, &self.bins, self.n_bins),
            Some(mut histogram) => {
                histogram.refine(sample, &self.bins);
                histogram
            }
        };
        let scores = scorer.score(&histogram, stride, shape);
        self.histogram = Some(histogram);
        scores
    }
}

/// Gives the parts the histograms of the level before; those of columns that this level leaves out
/// are dropped.
fn lend(tasks: &mut [Task], histograms: Vec<(Split, Histogram)>) {
    let mut histograms: HashMap<Split, Histogram> = histograms.into_iter().collect();
    for part in tasks.iter_mut().flat_map(|task| &mut task.0).flat_map(|sub| &mut sub.parts) {
        part.histogram = histograms.remove(&part.first);
    }
}

/// The first level whose split parts no two leaves that both have rows.
fn redundant(leaf_of: &[u32], depth: usize) -> Option<usize> {
    let mut has_rows = vec![false; 1 << depth];
    for &leaf in leaf_of {
        has_rows[leaf as usize] = true;
    }
    let parts = |level: usize| {
        (0..1 << depth).any(|leaf: usize| {
            leaf >> level & 1 == 0 && has_rows[leaf] && has_rows[leaf | 1 << level]
        })
    };
    (0..depth).find(|&level| !parts(level))
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
