//! The values of a tree's leaves: some Newton or gradient steps in each, or its quantile.
//!
//! Sums are taken over blocks of rows, of fixed size and in a fixed order, whatever the number of
//! threads; for leaves of one output as CatBoost takes them, so that the values are its own to the bit.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    fast_exp::exp,
    loss::{Along, CrossEntropySum, Loss, QUANTILE_DELTA},
    monotone,
};

/// How leaves are estimated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Estimation {
    pub(super) method: Method,
    /// Steps at most.
    pub(super) steps: usize,
    /// Whether a step that does not lower the loss is halved.
    pub(super) backtracks: bool,
    /// The penalty on squared leaf values, times the mean weight of a row.
    pub(super) l2: f64,
}

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// Sum of first derivatives over sum of second ones.
    Newton,
    /// Sum of first derivatives over sum of weights.
    Gradient,
    /// The weighted quantile of the residuals.
    Exact,
}

/// The rows that leaves are estimated from: as many as have a leaf, and there may be more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) target: &'a [f32],
    pub(super) weights: Option<&'a [f32]>,
    /// For each output the scores of all rows, as [`Loss::keeps_exp`] says.
    pub(super) scores: &'a [Vec<f64>],
    /// The order of the fold; that of the data if `None`.
    pub(super) order: Option<&'a [u32]>,
    /// Whether the loss of a step is compared on the way, as CatBoost does for the leaves of the
    /// model, or from the start, as it does for the folds that trees are grown on.
    pub(super) is_final: bool,
    /// Chains of leaves along which values may not fall, if any.
    pub(super) chains: &'a [Vec<u32>],
}

/// What a leaf has become.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Estimate {
    /// The values, of shape (leaves, outputs), before the learning rate.
    pub(super) values: Vec<f64>,
    /// Where scores are kept as exponentials, the product of those of the steps, which differs from the
    /// exponential of the values in the last bits; empty for the leaves of the model.
    pub(super) factors: Vec<f64>,
    /// How often derivatives were asked for; each costs a draw of the random stream.
    pub(super) draws: usize,
    /// The weight of the rows in each leaf, as the estimate heeds it.
    pub(super) weights: Vec<f64>,
}

/// Which rows lie in which leaf: the rows in order of their leaves, and where each leaf starts.
#[derive(Debug)]
struct ByLeaf {
    order: Vec<u32>,
    starts: Vec<usize>,
}

impl ByLeaf {
    /// Within a leaf, rows are in the order given.
    fn new(leaf_of: &[u32], n_leaves: usize, rows: Option<&[u32]>) -> Self {
        let mut starts = vec![0; n_leaves + 1];
        // In two tables, since neighbours are often in one leaf and additions to it wait for each other.
        let mut others = starts.clone();
        let (pairs, rest) = leaf_of.as_chunks::<2>();
        for &[one, other] in pairs {
            starts[one as usize + 1] += 1;
            others[other as usize + 1] += 1;
        }
        for &leaf in rest {
            starts[leaf as usize + 1] += 1;
        }
        for leaf in 0..n_leaves {
            starts[leaf + 1] += starts[leaf] + others[leaf + 1];
        }
        let mut next = starts.clone();
        let mut order = vec![0; leaf_of.len()];
        for place in 0..leaf_of.len() {
            let row = rows.map_or(place, |rows| rows[place] as usize);
            let at = &mut next[leaf_of[row] as usize];
            order[*at] = row as u32;
            *at += 1;
        }
        Self { order, starts }
    }

    /// How many rows each leaf has.
    fn counts(&self) -> Vec<f64> {
        self.starts.windows(2).map(|bounds| (bounds[1] - bounds[0]) as f64).collect()
    }

    /// Runs of rows of one leaf, of bounded length.
    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (leaf, bounds) in self.starts.windows(2).enumerate() {
            for start in (bounds[0]..bounds[1]).step_by(PIECE) {
                pieces.push(Piece { leaf, start, end: bounds[1].min(start + PIECE) });
            }
        }
        pieces
    }
}

/// Rows of a piece at most.
const PIECE: usize = 1024;

/// Rows that are worked on together, whose buffers stay in the first-level cache.
const STRIP: usize = 256;

#[derive(Debug, Clone, Copy)]
struct Piece {
    leaf: usize,
    start: usize,
    end: usize,
}

/// Estimates the leaves into which `leaf_of` parts the rows.
pub(super) fn estimate(
    loss: Loss,
    how: Estimation,
    rows: Rows<'_>,
    leaf_of: &[u32],
    n_leaves: usize,
) -> Estimate {
    if how.method != Method::Exact && loss.n_outputs() == 1 {
        return single(loss, how, rows, leaf_of, n_leaves);
    }
    let by_leaf = ByLeaf::new(leaf_of, n_leaves, rows.order);
    let values = match how.method {
        Method::Exact => exact(loss, rows, &by_leaf),
        _ => multiple(loss, how, rows, &by_leaf, |_, _| ()),
    };
    Estimate { values, factors: Vec::new(), draws: 0, weights: by_leaf.counts() }
}

/// The same from the first `body` of some rows in order, for a loss of several outputs; and what each
/// later row moves by, of shape (outputs, rows): its leaf's value with all rows up to itself, as in
/// CatBoost 1.2.10.
pub(super) fn estimate_along(
    loss: Loss,
    how: Estimation,
    rows: Rows<'_>,
    leaf_of: &[u32],
    body: usize,
    n_leaves: usize,
) -> (Estimate, Vec<Vec<f64>>) {
    let k = loss.n_outputs();
    let equation = Equation::new(loss, how);
    let stride = equation.stride();
    let by_leaf = ByLeaf::new(&leaf_of[..body], n_leaves, rows.order);
    let mut moves = vec![vec![0.0; leaf_of.len() - body]; k];
    let (mut scores, mut g, mut by) = (vec![0.0; k], vec![0.0; k], vec![0.0; k]);
    let mut h = vec![0.0; equation.n_hessian];
    let follow = |sums: &[f64], leaf_weights: &mut [f64]| {
        let mut sums = sums.to_vec();
        for (i, &leaf) in leaf_of[body..].iter().enumerate() {
            let (row, leaf) = (body + i, leaf as usize);
            for (score, (all, moves)) in scores.iter_mut().zip(rows.scores.iter().zip(&moves)) {
                *score = all[row] + moves[i];
            }
            let w = rows.weights.map_or(1.0, |w| f64::from(w[row]));
            let wanted = (!h.is_empty()).then_some(&mut h[..]);
            loss.multi(&scores, rows.target[row] as usize, &mut g, wanted);
            let own = &mut sums[leaf * stride..][..stride];
            own.iter_mut().zip(g.iter().chain(&h)).for_each(|(sum, x)| *sum += w * x);
            if how.method == Method::Gradient {
                leaf_weights[leaf] += w; // For good: further steps of the body have it, too.
            }
            equation.solve(own, leaf_weights[leaf], &mut by);
            moves.iter_mut().zip(&by).for_each(|(moves, by)| moves[i] += by);
        }
    };
    let values = multiple(loss, how, rows, &by_leaf, follow);
    let weights = by_leaf.counts();
    (Estimate { values, factors: Vec::new(), draws: 0, weights }, moves)
}

/// Numbers of the blocks' sums that are held at a time.
const BLOCK_SUMS: usize = 1 << 19;

/// How many rows of `n` are summed up at a stretch: CatBoost parts the rows into blocks, adds up each block's
/// rows by leaf, and then the blocks in order, so that its sums come out only so.
fn block_len(n: usize) -> usize {
    const FEW_ROWS: usize = 10_000;
    const BLOCKS: usize = 128;
    if n < FEW_ROWS { n.max(1) } else { n.div_ceil(BLOCKS) }
}

/// Adds up pairs of numbers of `n` rows by leaf, and a number of all: `of_block` tells those of a block.
fn by_block(
    n: usize,
    n_leaves: usize,
    of_block: impl Fn(Range<usize>) -> (Vec<[f64; 2]>, f64) + Sync,
) -> (Vec<[f64; 2]>, f64) {
    let (mut sums, mut total) = (vec![[0.0; 2]; n_leaves], 0.0);
    let len = block_len(n);
    let n_blocks = n.div_ceil(len);
    let together = (BLOCK_SUMS / n_leaves).max(2);
    for first in (0..n_blocks).step_by(together) {
        let blocks = (first..n_blocks.min(first + together)).into_par_iter().with_min_len(4);
        let parts = blocks.map(|block| of_block(block * len..n.min((block + 1) * len)));
        for (part, of_all) in parts.collect::<Vec<_>>() {
            sums.iter_mut().zip(part).for_each(|(sum, part)| add(sum, part));
            total += of_all;
        }
    }
    (sums, total)
}

/// The sums of first and second derivatives by leaf, and the loss, of rows whose scores are moved by
/// `moves`, exponentials where the loss keeps these, or stay.
fn sums(
    loss: Loss,
    rows: &Along<'_>,
    n_leaves: usize,
    moves: Option<&[f64]>,
    sums_loss: bool,
) -> (Vec<[f64; 2]>, f64) {
    by_block(rows.scores.len(), n_leaves, |block| {
        sums_of_block(loss, rows, block, n_leaves, moves, sums_loss)
    })
}

fn sums_of_block(
    loss: Loss,
    rows: &Along<'_>,
    block: Range<usize>,
    n_leaves: usize,
    moves: Option<&[f64]>,
    sums_loss: bool,
) -> (Vec<[f64; 2]>, f64) {
    let (mut sums, mut total) = (vec![[0.0; 2]; n_leaves], 0.0);
    let (mut moved, mut g, mut h) = ([0.0; STRIP], [0.0; STRIP], [0.0; STRIP]);
    for start in block.clone().step_by(STRIP) {
        let at = start..block.end.min(start + STRIP);
        let (g, h) = (&mut g[..at.len()], &mut h[..at.len()]);
        let (leaf_of, target) = (&rows.leaf_of[at.clone()], &rows.target[at.clone()]);
        let mut scores = &rows.scores[at.clone()];
        if let Some(moves) = moves {
            let moved = &mut moved[..at.len()];
            let pairs =
                scores.iter().zip(leaf_of).map(|(score, &leaf)| (score, moves[leaf as usize]));
            if loss.keeps_exp() {
                moved.iter_mut().zip(pairs).for_each(|(moved, (score, by))| *moved = score * by);
            } else {
                moved.iter_mut().zip(pairs).for_each(|(moved, (score, by))| *moved = score + by);
            }
            scores = moved;
        }
        loss.derivatives(scores, target, g, h);
        let weights = rows.weights.as_ref().map(|w| &w[at]);
        if let Some(w) = weights {
            for ((g, h), &w) in g.iter_mut().zip(h.iter_mut()).zip(w) {
                *g *= f64::from(w);
                *h *= f64::from(w);
            }
        }
        for ((&leaf, &g), &h) in leaf_of.iter().zip(&*g).zip(&*h) {
            add(&mut sums[leaf as usize], [g, h]);
        }
        if sums_loss {
            total = loss.sum(total, scores, target, weights);
        }
    }
    (sums, total)
}

fn add(sum: &mut [f64; 2], other: [f64; 2]) {
    sum[0] += other[0];
    sum[1] += other[1];
}

/// The weight of each leaf, and Σ *w y* of its rows, which the loss of exponentials leaves out.
fn weights_of(rows: &Along<'_>, n_leaves: usize) -> Vec<[f64; 2]> {
    let of_block = |block: Range<usize>| {
        let mut sums = vec![[0.0; 2]; n_leaves];
        let weights = rows.weights.as_ref().map(|w| &w[block.clone()]);
        let pairs = rows.leaf_of[block.clone()].iter().zip(&rows.target[block]);
        for (i, (&leaf, &y)) in pairs.enumerate() {
            let w = weights.map_or(1.0, |w| f64::from(w[i]));
            add(&mut sums[leaf as usize], [w, w * f64::from(y)]);
        }
        (sums, 0.0)
    };
    by_block(rows.leaf_of.len(), n_leaves, of_block).0
}

/// The rows of leaves of one output each as they move step by step.
struct Walk<'a> {
    loss: Loss,
    rows: Along<'a>,
    /// See [`Rows::is_final`]. The scores themselves are moved if so.
    is_final: bool,
    /// What steps have come to by leaf if the scores stay; an exponential where the loss keeps these.
    moves: Vec<f64>,
}

impl Walk<'_> {
    fn sums(&self) -> Vec<[f64; 2]> {
        let moves = (!self.is_final).then_some(&self.moves[..]);
        sums(self.loss, &self.rows, self.moves.len(), moves, false).0
    }

    /// The sums of derivatives and the loss after a step to `values`.
    fn sums_after(&self, step: &[f64], values: &[f64]) -> (Vec<[f64; 2]>, f64) {
        let moves = self.exp(if self.is_final { step } else { values });
        sums(self.loss, &self.rows, self.moves.len(), Some(&moves), true)
    }

    fn take(&mut self, step: &[f64]) {
        let step = self.exp(step);
        if self.is_final {
            self.rows.advance(&step, self.loss.keeps_exp());
        } else if self.loss.keeps_exp() {
            self.moves.iter_mut().zip(step).for_each(|(all, by)| *all *= by);
        } else {
            self.moves.iter_mut().zip(step).for_each(|(all, by)| *all += by);
        }
    }

    /// Values as the loss keeps them.
    fn exp(&self, values: &[f64]) -> Vec<f64> {
        if self.loss.keeps_exp() {
            values.iter().map(|&v| exp(v)).collect()
        } else {
            values.to_vec()
        }
    }
}

/// Estimates leaves of one output each.
fn single(
    loss: Loss,
    how: Estimation,
    rows: Rows<'_>,
    leaf_of: &[u32],
    n_leaves: usize,
) -> Estimate {
    let scores = &rows.scores[0][..leaf_of.len()];
    let along = Along::new(scores, rows.target, rows.weights, leaf_of, rows.order);
    let weights = weights_of(&along, n_leaves);
    // Poisson's loss is given up to this.
    let linear = |values: &[f64]| match loss {
        Loss::Poisson => values.iter().zip(&weights).map(|(v, [_, wy])| v * wy).sum(),
        _ => 0.0,
    };
    let still = f64::from(u8::from(loss.keeps_exp()));
    let mut walk =
        Walk { loss, rows: along, is_final: rows.is_final, moves: vec![still; n_leaves] };
    let wants_loss = how.backtracks && 1 < how.steps;
    let mut cross_entropy =
        (wants_loss && loss == Loss::CrossEntropy).then(|| CrossEntropySum::new(&walk.rows));

    let mut values = vec![0.0; n_leaves];
    let (mut sums, mut best) = match &cross_entropy {
        Some(cross_entropy) => (walk.sums(), cross_entropy.after(&walk.rows, &vec![1.0; n_leaves])),
        None if wants_loss => walk.sums_after(&values, &values),
        None => (walk.sums(), 0.0),
    };
    let (mut step, mut draws) = (0, 0);
    while step < how.steps {
        draws += 1;
        let delta: Vec<f64> = if rows.chains.is_empty() {
            let leaves = sums.iter().zip(&weights);
            leaves.map(|(&[g, h], &[w, _])| delta(how, g, h, w)).collect()
        } else {
            monotone_delta(how, rows, &sums, &weights, &values)
        };
        let mut scale = 1.0;
        while step < how.steps {
            let by: Vec<f64> = delta.iter().map(|d| scale * d).collect();
            let trial: Vec<f64> = values.iter().zip(&by).map(|(v, d)| v + d).collect();
            let is_last = step + 1 == how.steps;
            let mut at_trial = None;
            if wants_loss {
                let loss = if let Some(cross_entropy) = &cross_entropy {
                    let moves = if rows.is_final { &by } else { &trial };
                    cross_entropy.after(&walk.rows, &walk.exp(moves))
                } else {
                    let (sums, loss) = walk.sums_after(&by, &trial);
                    at_trial = Some(sums);
                    loss - linear(&trial)
                };
                if best <= loss || loss.is_nan() {
                    scale /= 2.0;
                    step += 1;
                    continue;
                }
                best = loss;
            }
            values = trial;
            if !is_last || !rows.is_final {
                walk.take(&by);
            }
            if !is_last {
                if let (Some(cross_entropy), true) = (&mut cross_entropy, rows.is_final) {
                    cross_entropy.follow(&walk.rows);
                }
                sums = at_trial.unwrap_or_else(|| walk.sums());
            }
            break;
        }
        step += 1;
    }
    let is_factor = loss.keeps_exp() && !rows.is_final;
    let factors = if is_factor { walk.moves } else { Vec::new() };
    Estimate { values, factors, draws, weights: weights.into_iter().map(|[w, _]| w).collect() }
}

/// One step of a leaf with sums `g` and `h` of derivatives and `weight`.
fn delta(how: Estimation, g: f64, h: f64, weight: f64) -> f64 {
    let below = match how.method {
        Method::Gradient => weight,
        _ => -h,
    } + how.l2;
    if weight <= f64::from(f32::EPSILON) || below <= 0.0 {
        return 0.0;
    }
    if how.method == Method::Gradient { g * (1.0 / below) } else { g / below }
}

/// One step of all leaves after which `values` rise along the chains.
fn monotone_delta(
    how: Estimation,
    rows: Rows<'_>,
    sums: &[[f64; 2]],
    weights: &[[f64; 2]],
    values: &[f64],
) -> Vec<f64> {
    let below = |(&[_, h], &[weight, _]): (&[f64; 2], &[f64; 2])| match how.method {
        Method::Gradient => weight + how.l2,
        _ => how.l2 - h,
    };
    let below: Vec<f64> = sums.iter().zip(weights).map(below).collect();
    let step = |(&[g, _], &below): (&[f64; 2], &f64)| if 0.0 < below { g / below } else { 0.0 };
    // For the folds that trees are grown on, CatBoost looks at the step alone.
    let start: Vec<f64> = values.iter().map(|&v| if rows.is_final { v } else { 0.0 }).collect();
    let steps = sums.iter().zip(&below).map(step);
    let mut moved: Vec<f64> = start.iter().zip(steps).map(|(v, step)| v + step).collect();
    for chain in rows.chains {
        monotone::straighten(&mut moved, &below, chain);
    }
    moved.iter().zip(start).map(|(moved, start)| moved - start).collect()
}

/// What the sums of a leaf of several outputs come to.
#[derive(Debug, Clone, Copy)]
struct Equation {
    loss: Loss,
    how: Estimation,
    /// Numbers of the Hessian.
    n_hessian: usize,
}

impl Equation {
    fn new(loss: Loss, how: Estimation) -> Self {
        let n_hessian = if how.method == Method::Newton { loss.hessian_len() } else { 0 };
        Self { loss, how, n_hessian }
    }

    /// A leaf's sums: first derivatives, the Hessian, the weight.
    fn stride(self) -> usize {
        self.loss.n_outputs() + self.n_hessian + 1
    }

    /// One step of a leaf of some weight, which counts in gradient steps alone.
    fn solve(self, sums: &[f64], weight: f64, out: &mut [f64]) {
        let (g, h) = sums[..sums.len() - 1].split_at(self.loss.n_outputs());
        let l2 = f64::from(self.how.l2 as f32); // As in CatBoost.
        match (self.how.method, self.loss) {
            (Method::Newton, Loss::MultiClass(_)) => solve(g, h, l2, out),
            (Method::Newton, _) => {
                let how = Estimation { l2, ..self.how };
                for ((out, &g), &h) in out.iter_mut().zip(g).zip(h) {
                    *out = delta(how, g, h, 1.0);
                }
            }
            _ => {
                for (out, &g) in out.iter_mut().zip(g) {
                    *out = delta(self.how, g, 0.0, weight);
                }
            }
        }
    }
}

/// The values of leaves of several outputs. `on_step` hears of each step that is taken, with the
/// leaves' sums before it and their weights.
fn multiple(
    loss: Loss,
    how: Estimation,
    rows: Rows<'_>,
    by_leaf: &ByLeaf,
    mut on_step: impl FnMut(&[f64], &mut [f64]),
) -> Vec<f64> {
    let (k, n_leaves) = (loss.n_outputs(), by_leaf.starts.len() - 1);
    let equation = Equation::new(loss, how);
    let (n_hessian, stride) = (equation.n_hessian, equation.stride());
    let wants_loss = how.backtracks && 1 < how.steps;
    let pieces = by_leaf.pieces();

    let evaluate = |values: &[f64]| {
        let of_piece = |piece: &Piece| {
            let mut sums = vec![0.0; stride];
            let mut total = 0.0;
            let (mut scores, mut g) = (vec![0.0; k], vec![0.0; k]);
            let mut h = vec![0.0; n_hessian];
            for &row in &by_leaf.order[piece.start..piece.end] {
                let row = row as usize;
                let value = &values[piece.leaf * k..][..k];
                for (score, (scores, value)) in scores.iter_mut().zip(rows.scores.iter().zip(value))
                {
                    *score = scores[row] + value;
                }
                let class = rows.target[row] as usize;
                let w = rows.weights.map_or(1.0, |w| f64::from(w[row]));
                loss.multi(&scores, class, &mut g, (0 < n_hessian).then_some(&mut h));
                for (sum, x) in sums.iter_mut().zip(g.iter().chain(&h)) {
                    *sum += w * x;
                }
                sums[stride - 1] += w;
                if wants_loss {
                    total += w * loss.multi_value(&scores, class);
                }
            }
            (sums, total)
        };
        let parts: Vec<(Vec<f64>, f64)> = pieces.par_iter().map(of_piece).collect();
        let (mut sums, mut total) = (vec![0.0; n_leaves * stride], 0.0);
        for (piece, (part, loss)) in pieces.iter().zip(parts) {
            let leaf = &mut sums[piece.leaf * stride..][..stride];
            leaf.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
            total += loss;
        }
        (sums, total)
    };

    let mut values = vec![0.0; n_leaves * k];
    let (mut sums, mut best) = evaluate(&values);
    let mut weights: Vec<f64> = sums.chunks(stride).map(|leaf| leaf[stride - 1]).collect();
    let mut step = 0;
    while step < how.steps {
        let mut delta = vec![0.0; n_leaves * k];
        for ((sums, &weight), delta) in sums.chunks(stride).zip(&weights).zip(delta.chunks_mut(k)) {
            if f64::from(f32::EPSILON) < weight {
                equation.solve(sums, weight, delta);
            }
        }
        let mut scale = 1.0;
        while step < how.steps {
            let trial: Vec<f64> = values.iter().zip(&delta).map(|(v, d)| v + scale * d).collect();
            if step + 1 == how.steps && !wants_loss {
                on_step(&sums, &mut weights);
                values = trial;
                break;
            }
            let (at_trial, loss) = evaluate(&trial);
            if !wants_loss || loss < best {
                on_step(&sums, &mut weights);
                (values, sums, best) = (trial, at_trial, loss);
                break;
            }
            scale /= 2.0;
            step += 1;
        }
        step += 1;
    }
    values
}

/// Solves (−H + λI) x = g by Cholesky's factorisation; `h` is the upper triangle of H by rows.
fn solve(g: &[f64], h: &[f64], l2: f64, x: &mut [f64]) {
    let k = g.len();
    let mut a = vec![0.0; k * k]; // The lower triangle counts.
    let mut at = 0;
    for i in 0..k {
        for j in i..k {
            a[j * k + i] = -h[at];
            at += 1;
        }
    }
    let top = (0..k).map(|i| a[i * k + i]).fold(l2, f64::max);
    let l2 = l2.max(top * f64::from(f32::EPSILON));
    for i in 0..k {
        a[i * k + i] += l2;
    }
    for j in 0..k {
        let below: f64 = (0..j).map(|m| a[j * k + m] * a[j * k + m]).sum();
        let root = (a[j * k + j] - below).max(f64::MIN_POSITIVE).sqrt();
        a[j * k + j] = root;
        for i in j + 1..k {
            let dot: f64 = (0..j).map(|m| a[i * k + m] * a[j * k + m]).sum();
            a[i * k + j] = (a[i * k + j] - dot) / root;
        }
    }
    for i in 0..k {
        let dot: f64 = (0..i).map(|m| a[i * k + m] * x[m]).sum();
        x[i] = (g[i] - dot) / a[i * k + i];
    }
    for i in (0..k).rev() {
        let dot: f64 = (i + 1..k).map(|m| a[m * k + i] * x[m]).sum();
        x[i] = (x[i] - dot) / a[i * k + i];
    }
}

fn exact(loss: Loss, rows: Rows<'_>, by_leaf: &ByLeaf) -> Vec<f64> {
    let Loss::Quantile { level } = loss else { unreachable!("`build` allows it for quantiles") };
    let spans: Vec<&[u32]> =
        by_leaf.starts.windows(2).map(|pair| &by_leaf.order[pair[0]..pair[1]]).collect();
    let of_leaf = |span: &&[u32]| {
        let residual = |row: usize| {
            // In CatBoost one out of range is infinite, and so are then all predictions.
            let residual = (f64::from(rows.target[row]) - rows.scores[0][row]) as f32;
            residual.clamp(f32::MIN, f32::MAX)
        };
        let mut leaf: Vec<(f32, f32)> = span
            .iter()
            .map(|&row| row as usize)
            .map(|row| (residual(row), rows.weights.map_or(1.0, |w| w[row])))
            .collect();
        f64::from(quantile(&mut leaf, level))
    };
    spans.par_iter().map(of_leaf).collect()
}

/// The quantile of level `level` of weighted values, a little moved to the side on which the pinball
/// loss is flat; 0 of none.
pub(super) fn quantile(values: &mut [(f32, f32)], level: f64) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = values.iter().map(|&(_, w)| f64::from(w)).sum();
    let needed = total * level;
    let mut seen = 0.0;
    let at = values.iter().position(|&(_, w)| {
        seen += f64::from(w);
        seen >= needed - f64::EPSILON
    });
    let q = values[at.unwrap_or(values.len() - 1)].0;
    let (mut less, mut equal) = (0.0, 0.0);
    for &(x, w) in values.iter() {
        if x < q {
            less += f64::from(w);
        } else if x == q {
            equal += f64::from(w);
        }
    }
    let q = f64::from(q);
    let is_past = less + equal * level >= needed - f64::EPSILON;
    (if is_past { q - QUANTILE_DELTA } else { q + QUANTILE_DELTA }) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newton(steps: usize) -> Estimation {
        Estimation { method: Method::Newton, steps, backtracks: true, l2: 1e-9 }
    }

    #[test]
    fn a_newton_step_of_squared_error_is_the_mean_residual() {
        let scores = vec![vec![0.5; 4]];
        let rows = Rows {
            target: &[1.0, 3.0, 5.0, 9.0],
            weights: None,
            scores: &scores,
            order: None,
            is_final: true,
            chains: &[],
        };
        let estimate = estimate(Loss::Rmse, newton(1), rows, &[0, 0, 1, 1], 2);
        let expected = [1.5, 6.5]; // Less a part in 1e9 for the penalty.
        assert!(estimate.values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7));
    }

    #[test]
    fn many_newton_steps_reach_the_log_odds() {
        let scores = vec![vec![1.0; 40]];
        let target: Vec<f32> = (0..40).map(|i| f32::from(u8::from(i % 4 == 0))).collect();
        let rows = Rows {
            target: &target,
            weights: None,
            scores: &scores,
            order: None,
            is_final: true,
            chains: &[],
        };
        let estimate = estimate(Loss::CrossEntropy, newton(20), rows, &[0; 40], 1);
        assert!((estimate.values[0] - (0.25_f64 / 0.75).ln()).abs() < 1e-6);
    }

    #[test]
    fn one_step_of_softmax_solves_the_newton_equation() {
        let scores = vec![vec![0.0; 3]; 3];
        let rows = Rows {
            target: &[0.0, 1.0, 1.0],
            weights: None,
            scores: &scores,
            order: None,
            is_final: true,
            chains: &[],
        };
        let how = Estimation { l2: 3.0, ..newton(1) };
        let estimate = estimate(Loss::MultiClass(3), how, rows, &[0; 3], 1);
        let x = &estimate.values;
        // −H of three even rows: 3 (diag(1/3) − 1/9), plus 3 I; g = (0, 1, −1).
        let row = |i: usize| 4.0 * x[i] - (x[0] + x[1] + x[2]) / 3.0;
        let g = [0.0, 1.0, -1.0];
        assert!((0..3).all(|i| (row(i) - g[i]).abs() < 1e-12), "{x:?}");
    }

    #[test]
    fn the_exact_leaf_is_a_quantile() {
        let scores = vec![vec![0.0; 5]];
        let rows = Rows {
            target: &[1.0, 2.0, 3.0, 4.0, 100.0],
            weights: None,
            scores: &scores,
            order: None,
            is_final: true,
            chains: &[],
        };
        let how = Estimation { method: Method::Exact, ..newton(1) };
        let loss = Loss::Quantile { level: 0.5 };
        let value = estimate(loss, how, rows, &[0; 5], 1).values[0];
        assert!((value - 3.0).abs() < 2e-6);
    }
}
