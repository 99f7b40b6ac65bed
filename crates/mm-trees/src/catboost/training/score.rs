//! How good a split is: histograms of a column over the leaves of a tree, and the scores of all
//! splits of that column.
//!
//! Let *D* be the sum of derivatives and *W* the sum of weights on one side of a split in one leaf.
//! The side's value is *a* = *D* / (*W* + λ), and the score over all sides, leaves and outputs is
//!
//! ```text
//! L2:     Σ a D
//! cosine: Σ a D / √(Σ a² W)
//! ```
//!
//! In ordered boosting, *a* is made of some rows and judged by others: *D* and *W* of the former give
//! its value, those of the latter stand in the sums, which run over all prefixes of the order, too.
//!
//! Of the two sides of a split, only that with fewer rows in all leaves together has its histograms built
//! from rows; the others are what remains of the parents'. All sums are in CatBoost's order, since their
//! last bits decide between splits that part the rows alike.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::ctr;
use crate::forest::kernel::widely;

/// What a split is judged by (CatBoost: `score_function`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ScoreFunction {
    /// The cosine of the angle between the derivatives and the leaf values.
    #[default]
    Cosine,
    /// How much a step would lower the squared error of the derivatives.
    L2,
}

/// The rows drawn for a tree, in order of the leaf that they are in.
#[derive(Debug)]
pub(super) struct Sample {
    n_outputs: usize,
    rows: Vec<u32>,
    /// For each row its weighted derivatives, one per output, and its weight.
    stats: Vec<f64>,
    /// Where each leaf starts, and the end.
    starts: Vec<usize>,
    /// Whether the left children of the last split are the smaller ones: all of them, as CatBoost takes
    /// them, so that the sums of the larger ones are its own to the bit.
    left_is_smaller: bool,
    /// Room for the next order of rows and stats, and for the way that each row goes.
    spare: (Vec<u32>, Vec<f64>, Vec<bool>),
}

impl Sample {
    /// All `rows` in one leaf.
    pub(super) fn new(n_outputs: usize, rows: Vec<u32>, stats: Vec<f64>) -> Self {
        let starts = vec![0, rows.len()];
        let spare = (Vec::new(), Vec::new(), Vec::new());
        Self { n_outputs, rows, stats, starts, left_is_smaller: false, spare }
    }

    /// How many leaves there are.
    pub(super) fn n_leaves(&self) -> usize {
        self.starts.len() - 1
    }

    /// The rows, leaf by leaf.
    pub(super) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The rows of a leaf, and for each its weighted derivatives and its weight.
    pub(super) fn leaf(&self, leaf: usize) -> (&[u32], &[f64]) {
        let span = self.starts[leaf]..self.starts[leaf + 1];
        let stride = self.stride();
        (&self.rows[span.clone()], &self.stats[span.start * stride..span.end * stride])
    }

    /// Takes the rows that go right out of the only leaf.
    pub(super) fn cut(&mut self, goes_right: impl Fn(u32) -> bool + Sync) -> Self {
        self.split(goes_right);
        let (at, stride) = (self.starts[1], self.stride());
        let right =
            Self::new(self.n_outputs, self.rows.split_off(at), self.stats.split_off(at * stride));
        self.starts = vec![0, at];
        self.spare = Default::default();
        right
    }

    /// The score of the only leaf unsplit; as in CatBoost, of the sum of all outputs' derivatives.
    pub(super) fn score(&self, l2: f64, function: ScoreFunction) -> f64 {
        let (mut d, mut w) = (0.0, 0.0);
        for stat in self.stats.chunks_exact(self.stride()) {
            d += stat[..self.n_outputs].iter().sum::<f64>();
            w += stat[self.n_outputs];
        }
        let value = if 0.0 < w { d / (w + l2) } else { 0.0 };
        match function {
            ScoreFunction::L2 => value * d,
            ScoreFunction::Cosine => value * d / (1e-100 + value * value * w).sqrt(),
        }
    }

    /// The sums of a leaf, of shape (columns, bins, outputs + 1): those of a histogram if there is
    /// one, else made in `room`.
    fn sums<'a>(
        &self,
        known: Option<&'a Histogram>,
        leaf: usize,
        columns: Columns<'_>,
        room: &'a mut Vec<f64>,
    ) -> &'a [f64] {
        if let Some(Histogram { size, sums }) = known {
            return &sums[leaf * size..][..*size];
        }
        room.clear();
        room.resize(columns.size(self.stride()), 0.0);
        self.accumulate(leaf, [columns], [&mut room[..]]);
        room
    }

    /// Numbers a row or bin has.
    pub(super) fn stride(&self) -> usize {
        self.n_outputs + 1
    }

    fn len(&self, leaf: usize) -> usize {
        self.starts[leaf + 1] - self.starts[leaf]
    }

    /// The first level whose split parts no two leaves that both have rows.
    pub(super) fn redundant(&self) -> Option<usize> {
        redundant(&self.starts.windows(2).map(|pair| pair[0] < pair[1]).collect::<Vec<_>>())
    }

    /// Splits every leaf ℓ into ℓ and ℓ + *n*, the latter for the rows that go right.
    pub(super) fn split(&mut self, goes_right: impl Fn(u32) -> bool + Sync) {
        const BLOCK: usize = 8192;
        let (n, stride) = (self.n_leaves(), self.stride());
        let (rows, stats, right) = &mut self.spare;
        right.resize(self.rows.len(), false);
        right.par_chunks_mut(BLOCK).zip(self.rows.par_chunks(BLOCK)).for_each(|(right, rows)| {
            right.iter_mut().zip(rows).for_each(|(right, &row)| *right = goes_right(row));
        });
        let mut starts = vec![0; 2 * n + 1];
        for leaf in 0..n {
            let span = self.starts[leaf]..self.starts[leaf + 1];
            let n_right = right[span.clone()].iter().filter(|&&right| right).count();
            starts[leaf + 1] = span.len() - n_right;
            starts[n + leaf + 1] = n_right;
        }
        for leaf in 0..2 * n {
            starts[leaf + 1] += starts[leaf];
        }
        self.left_is_smaller = 2 * starts[n] < self.rows.len();
        rows.resize(self.rows.len(), 0);
        stats.resize(self.stats.len(), 0.0);
        let places = Places { before: &self.starts, after: &starts, right };
        rayon::join(
            || places.move_all(&self.rows, rows),
            || match stride {
                2 => {
                    let (from, to) = (self.stats.as_chunks().0, stats.as_chunks_mut().0);
                    places.move_all::<[f64; 2]>(from, to);
                }
                _ => places.move_runs(stride, &self.stats, stats),
            },
        );
        self.starts = starts;
        std::mem::swap(&mut self.rows, rows);
        std::mem::swap(&mut self.stats, stats);
    }

    /// Adds the rows of `leaf` to the sums of the columns' bins.
    ///
    /// All columns are of one width. Several at a time cost less than one after another: a row is read
    /// once, and additions to sums of different columns do not wait for each other.
    fn accumulate<const N: usize>(
        &self,
        leaf: usize,
        columns: [Columns<'_>; N],
        sums: [&mut [f64]; N],
    ) {
        let span = self.starts[leaf]..self.starts[leaf + 1];
        let stride = self.stride();
        let rows = &self.rows[span.clone()];
        let stats = &self.stats[span.start * stride..span.end * stride];
        let Columns { width, n_bins, .. } = columns[0];
        if stride == 2 && width == 1 {
            let mut sums = sums.map(|sums| sums.as_chunks_mut::<2>().0);
            let bins = columns.map(|columns| columns.bins);
            for (&row, &stat) in rows.iter().zip(stats.as_chunks::<2>().0) {
                for (sums, bins) in sums.iter_mut().zip(&bins) {
                    add(&mut sums[usize::from(bins[row as usize])], stat);
                }
            }
        } else if stride == 2 && width == CTRS && n_bins == CTR_BINS {
            let mut sums = sums.map(|sums| {
                let (sums, _) = sums.as_chunks_mut::<2>().0.as_chunks_mut::<CTR_BINS>();
                sums.first_chunk_mut::<CTRS>().expect("a histogram of so many columns")
            });
            let bins = columns.map(|columns| columns.bins.as_chunks::<CTRS>().0);
            for (&row, &stat) in rows.iter().zip(stats.as_chunks::<2>().0) {
                for (sums, bins) in sums.iter_mut().zip(&bins) {
                    for (sums, bin) in sums.iter_mut().zip(bins[row as usize]) {
                        add(&mut sums[usize::from(bin) % CTR_BINS], stat);
                    }
                }
            }
        } else if width == 1 && (4..=MAX_WIDE).contains(&stride) {
            let bins = columns.map(|columns| columns.bins);
            match stride {
                4 => add_all::<4, N>(rows, stats, bins, sums),
                5 => add_all::<5, N>(rows, stats, bins, sums),
                6 => add_all::<6, N>(rows, stats, bins, sums),
                7 => add_all::<7, N>(rows, stats, bins, sums),
                8 => add_all::<8, N>(rows, stats, bins, sums),
                9 => add_all::<9, N>(rows, stats, bins, sums),
                10 => add_all::<10, N>(rows, stats, bins, sums),
                _ => add_all::<MAX_WIDE, N>(rows, stats, bins, sums),
            }
        } else {
            for (Columns { bins, n_bins, .. }, sums) in columns.into_iter().zip(sums) {
                for (&row, stat) in rows.iter().zip(stats.chunks_exact(stride)) {
                    let row = &bins[row as usize * width..][..width];
                    for (sums, &bin) in sums.chunks_exact_mut(n_bins * stride).zip(row) {
                        let sum = &mut sums[usize::from(bin) * stride..][..stride];
                        sum.iter_mut().zip(stat).for_each(|(sum, x)| *sum += x);
                    }
                }
            }
        }
    }
}

/// Rows drawn for a tree, by which its splits are judged.
#[derive(Debug)]
pub(super) struct Part {
    /// The rows that a side's value is made of.
    pub(super) body: Sample,
    /// Those that judge it; the same if `None`.
    pub(super) tail: Option<Sample>,
    /// The penalty λ.
    pub(super) l2: f64,
}

impl Part {
    /// Of rows that do both.
    pub(super) fn whole(body: Sample, l2: f64) -> Self {
        Self { body, tail: None, l2 }
    }

    /// Both samples, the body's first.
    pub(super) fn samples(&self) -> impl Iterator<Item = &Sample> {
        [&self.body].into_iter().chain(&self.tail)
    }

    /// Splits every leaf, as [`Sample::split`] does.
    pub(super) fn split(&mut self, goes_right: impl Fn(u32) -> bool + Sync) {
        self.body.split(&goes_right);
        if let Some(tail) = &mut self.tail {
            tail.split(goes_right);
        }
    }
}

/// The first level whose split parts no two leaves that both have rows.
pub(super) fn redundant(has_rows: &[bool]) -> Option<usize> {
    let n = has_rows.len();
    let parts = |level: usize| {
        (0..n).any(|leaf| leaf >> level & 1 == 0 && has_rows[leaf] && has_rows[leaf | 1 << level])
    };
    (0..n.ilog2() as usize).find(|&level| !parts(level))
}

/// Columns of the statistics of a category at their defaults, and the bins of each: a case with a
/// loop of its own.
const CTRS: usize = 4;
const CTR_BINS: usize = ctr::CTR_BORDERS as usize + 1;

/// Numbers of a row up to which there are loops of their own for several classes.
const MAX_WIDE: usize = 11;

fn add(sum: &mut [f64; 2], stat: [f64; 2]) {
    sum[0] += stat[0];
    sum[1] += stat[1];
}

/// Adds rows of `S` numbers each to the sums of the bins of single columns.
fn add_all<const S: usize, const N: usize>(
    rows: &[u32],
    stats: &[f64],
    bins: [&[u8]; N],
    sums: [&mut [f64]; N],
) {
    let mut sums = sums.map(|sums| sums.as_chunks_mut::<S>().0);
    for (&row, stat) in rows.iter().zip(stats.as_chunks::<S>().0) {
        for (sums, bins) in sums.iter_mut().zip(&bins) {
            let sum = &mut sums[usize::from(bins[row as usize])];
            sum.iter_mut().zip(stat).for_each(|(sum, x)| *sum += x);
        }
    }
}

/// Where the rows of a sample go when its leaves are split.
struct Places<'a> {
    /// Where leaves start, before and after.
    before: &'a [usize],
    after: &'a [usize],
    /// Which rows go right.
    right: &'a [bool],
}

impl Places<'_> {
    fn move_all<T: Copy>(&self, from: &[T], to: &mut [T]) {
        let n = self.before.len() - 1;
        for leaf in 0..n {
            let (mut left, mut right) = (self.after[leaf], self.after[n + leaf]);
            let span = self.before[leaf]..self.before[leaf + 1];
            for (item, &goes_right) in from[span.clone()].iter().zip(&self.right[span]) {
                to[if goes_right { right } else { left }] = *item;
                left += usize::from(!goes_right);
                right += usize::from(goes_right);
            }
        }
    }

    /// The same for runs of `stride` numbers.
    fn move_runs(&self, stride: usize, from: &[f64], to: &mut [f64]) {
        let n = self.before.len() - 1;
        for leaf in 0..n {
            let mut next = [self.after[leaf], self.after[n + leaf]];
            for at in self.before[leaf]..self.before[leaf + 1] {
                let next = &mut next[usize::from(self.right[at])];
                to[*next * stride..][..stride].copy_from_slice(&from[at * stride..][..stride]);
                *next += 1;
            }
        }
    }
}

/// One or more columns of bins, row by row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns<'a> {
    /// Of shape (rows, width).
    pub(super) bins: &'a [u8],
    pub(super) width: usize,
    /// Bins of each column.
    pub(super) n_bins: usize,
}

/// The sums of derivatives and weights by leaf and bin, of shape (leaves, columns, bins, outputs + 1).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Histogram {
    /// Numbers of a leaf.
    size: usize,
    sums: Vec<f64>,
}

impl Histogram {
    /// Of no rows, with room for the leaves of a tree of `depth` levels above the last one.
    fn empty(sample: &Sample, columns: Columns<'_>, depth: usize) -> Self {
        let (n, size) = (sample.n_leaves(), columns.size(sample.stride()));
        let mut sums = Vec::with_capacity(size * n.max(1 << (depth - 1).min(MANY_LEVELS)));
        sums.resize(size * n, 0.0);
        Self { size, sums }
    }

    /// How many numbers it holds.
    pub(super) fn len(&self) -> usize {
        self.sums.len()
    }

    /// What remains without `other`, of the same shape.
    pub(super) fn minus(mut self, other: &Self) -> Self {
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, x)| *sum -= x);
        self
    }

    fn leaf(&mut self, leaf: usize) -> &mut [f64] {
        &mut self.sums[leaf * self.size..][..self.size]
    }

    /// Leaves ℓ and ℓ + `n`, of which the former holds the sums of both and the latter those of the
    /// smaller one, get their own each.
    fn part(&mut self, leaf: usize, n: usize, left_is_smaller: bool) {
        let (parents, new) = self.sums.split_at_mut(n * self.size);
        let both = parents[leaf * self.size..][..self.size].iter_mut();
        let pairs = both.zip(&mut new[leaf * self.size..][..self.size]);
        if left_is_smaller {
            pairs.for_each(|(both, new)| (*both, *new) = (*new, *both - *new));
        } else {
            pairs.for_each(|(both, new)| *both -= *new);
        }
    }
}

/// Columns, and their histogram if there was one at the level before.
pub(super) type Slot<'a> = (Columns<'a>, &'a mut Option<Histogram>);

/// Levels whose leaves a histogram has room for from the start.
const MANY_LEVELS: usize = 6;

/// Histograms that are brought up to date together.
const TOGETHER: usize = 4;

/// Builds the histograms that are missing, and lets the others catch up with a sample whose leaves
/// have been split once since. The tree will have `depth` levels at most.
pub(super) fn update(sample: &Sample, depth: usize, mut slots: Vec<Slot<'_>>) {
    let kind = |(columns, histogram): &Slot<'_>| {
        (histogram.is_some(), columns.width, if columns.width == 1 { 0 } else { columns.n_bins })
    };
    slots.sort_by_key(kind);
    let mut batches = Vec::new();
    for mut alike in slots.chunk_by_mut(|a, b| kind(a) == kind(b)) {
        // As many batches for each thread, where they are not too small for it.
        let fewest = alike.len().div_ceil(TOGETHER);
        let even = fewest.next_multiple_of(rayon::current_num_threads());
        for left in (1..=even.min(alike.len().div_ceil(2)).max(fewest)).rev() {
            let (batch, others) = alike.split_at_mut(alike.len() / left);
            batches.push(batch);
            alike = others;
        }
    }
    batches.into_par_iter().for_each(|batch| match batch {
        [a, b, c, d] => update_batch(sample, depth, [a, b, c, d]),
        [a, b, c] => update_batch(sample, depth, [a, b, c]),
        [a, b] => update_batch(sample, depth, [a, b]),
        others => others.iter_mut().for_each(|slot| update_batch(sample, depth, [slot])),
    });
}

/// Updates histograms of one kind.
fn update_batch<const N: usize>(sample: &Sample, depth: usize, slots: [&mut Slot<'_>; N]) {
    let columns = slots.each_ref().map(|slot| slot.0);
    let are_new = slots.iter().all(|slot| slot.1.is_none());
    let mut histograms = slots.map(|(columns, histogram)| {
        histogram.get_or_insert_with(|| Histogram::empty(sample, *columns, depth))
    });
    if are_new {
        for leaf in 0..sample.n_leaves() {
            let sums = histograms.each_mut().map(|histogram| histogram.leaf(leaf));
            sample.accumulate(leaf, columns, sums);
        }
        return;
    }
    let n = sample.n_leaves() / 2;
    for histogram in &mut histograms {
        histogram.sums.resize(2 * n * histogram.size, 0.0);
    }
    for leaf in 0..n {
        let left_is_smaller = sample.left_is_smaller;
        let smaller = if left_is_smaller { leaf } else { leaf + n };
        let sums = histograms.each_mut().map(|histogram| histogram.leaf(leaf + n));
        sample.accumulate(smaller, columns, sums);
        widely(|| {
            for histogram in &mut histograms {
                histogram.part(leaf, n, left_is_smaller);
            }
        });
    }
}

impl Columns<'_> {
    /// Numbers of a leaf's histogram.
    pub(super) fn size(&self, stride: usize) -> usize {
        self.width * self.n_bins * stride
    }
}

/// Which splits a column has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Split *b* sends the bins above *b* to the right.
    Thresholds,
    /// Split *b* sends bin *b* to the right.
    Levels,
}

impl Shape {
    /// How many splits a column of so many bins has.
    pub(super) fn n_splits(self, n_bins: usize) -> usize {
        match self {
            Self::Thresholds => n_bins - 1,
            Self::Levels => n_bins,
        }
    }
}

/// Weights below this are what rounding leaves of none.
const NO_WEIGHT: f64 = 1e-9;

/// Adds up the scores of the splits of some columns, leaf by leaf.
#[derive(Debug)]
pub(super) struct Scorer {
    function: ScoreFunction,
    shape: Shape,
    /// Splits of each column.
    n_splits: usize,
    /// The sums above and below the fraction line, of shape (columns, splits).
    above: Vec<f64>,
    below: Vec<f64>,
    /// The sums of derivatives and weights of both sides.
    derivatives: Sides,
    weights: Sides,
    /// The same of the rows that judge, where these are others.
    tail_derivatives: Sides,
    tail_weights: Sides,
}

impl Scorer {
    /// For columns of one shape.
    pub(super) fn new(function: ScoreFunction, columns: Columns<'_>, shape: Shape) -> Self {
        let n_splits = shape.n_splits(columns.n_bins);
        let sides = || Sides { left: vec![0.0; n_splits], right: vec![0.0; n_splits] };
        Self {
            function,
            shape,
            n_splits,
            above: vec![0.0; columns.width * n_splits],
            below: vec![1e-100; columns.width * n_splits],
            derivatives: sides(),
            weights: sides(),
            tail_derivatives: sides(),
            tail_weights: sides(),
        }
    }

    /// The scores of all splits of each column. Of the parts' samples in turn there may be histograms
    /// that stand at the samples' leaves; the others' rows are added up here.
    pub(super) fn score(
        mut self,
        parts: &[Part],
        histograms: &[Option<Histogram>],
        columns: Columns<'_>,
    ) -> Vec<Vec<f64>> {
        let mut histograms = histograms.iter();
        let mut next = || histograms.next().and_then(Option::as_ref);
        let (mut room, mut tail_room) = (Vec::new(), Vec::new());
        for Part { body, tail, l2 } in parts {
            let stride = body.stride();
            let size = columns.n_bins * stride;
            let (known, known_tail) = (next(), tail.as_ref().and_then(|_| next()));
            for leaf in 0..body.n_leaves() {
                let Some(tail) = tail else {
                    if known.is_some() || 0 < body.len(leaf) {
                        let sums = body.sums(known, leaf, columns, &mut room);
                        for (column, sums) in sums.chunks_exact(size).enumerate() {
                            self.add(column, sums, *l2, stride);
                        }
                    }
                    continue;
                };
                if 0 < body.len(leaf) && 0 < tail.len(leaf) {
                    let sums = body.sums(known, leaf, columns, &mut room);
                    let judges = tail.sums(known_tail, leaf, columns, &mut tail_room);
                    let both = sums.chunks_exact(size).zip(judges.chunks_exact(size));
                    for (column, (sums, judges)) in both.enumerate() {
                        self.add_judged(column, sums, judges, *l2, stride);
                    }
                }
            }
        }
        self.finish()
    }

    fn finish(self) -> Vec<Vec<f64>> {
        let score = |(above, below): (&f64, &f64)| match self.function {
            ScoreFunction::L2 => *above,
            ScoreFunction::Cosine => above / below.sqrt(),
        };
        let scores: Vec<f64> = self.above.iter().zip(&self.below).map(score).collect();
        scores.chunks(self.n_splits.max(1)).map(<[f64]>::to_vec).collect()
    }

    /// Adds one leaf with `sums` of shape (bins, outputs + 1).
    fn add(&mut self, column: usize, sums: &[f64], l2: f64, stride: usize) {
        let shape = self.shape;
        if let (2, Shape::Thresholds) = (stride, shape) {
            let (bins, _) = sums.as_chunks::<2>();
            let mut all = [0.0; 2];
            for bin in bins {
                add(&mut all, *bin);
            }
            if all[1] <= NO_WEIGHT {
                return;
            }
            let (mut left, mut right) = ([0.0; 2], all);
            let derivatives = self.derivatives.iter_mut().zip(self.weights.iter_mut());
            for (((d, rest_d), (w, rest_w)), bin) in derivatives.zip(bins) {
                add(&mut left, *bin);
                right = [right[0] - bin[0], right[1] - bin[1]];
                ([*d, *w], [*rest_d, *rest_w]) = (left, right);
            }
            self.add_output(column, l2);
            return;
        }
        if self.weights.fill(sums, stride, stride - 1, shape) <= NO_WEIGHT {
            return;
        }
        for output in 0..stride - 1 {
            self.derivatives.fill(sums, stride, output, shape);
            self.add_output(column, l2);
        }
    }

    /// Adds one leaf with the sums of the rows that values are made of, and of those that judge.
    fn add_judged(&mut self, column: usize, body: &[f64], tail: &[f64], l2: f64, stride: usize) {
        let shape = self.shape;
        self.weights.fill(body, stride, stride - 1, shape);
        self.tail_weights.fill(tail, stride, stride - 1, shape);
        let own = column * self.n_splits..(column + 1) * self.n_splits;
        for output in 0..stride - 1 {
            self.derivatives.fill(body, stride, output, shape);
            self.tail_derivatives.fill(tail, stride, output, shape);
            widely(|| {
                let made = self.derivatives.iter().zip(self.weights.iter());
                let judges = self.tail_derivatives.iter().zip(self.tail_weights.iter());
                let totals = self.above[own.clone()].iter_mut().zip(&mut self.below[own.clone()]);
                for ((above, below), (((d, rest_d), (w, rest_w)), ((g, rest_g), (v, rest_v)))) in
                    totals.zip(made.zip(judges))
                {
                    let (value, rest) = (value(d, w, l2), value(rest_d, rest_w, l2));
                    *above += value * g + rest * rest_g;
                    *below += value * value * v + rest * rest * rest_v;
                }
            });
        }
    }

    /// Adds one output of a leaf, both sides of which are set.
    fn add_output(&mut self, column: usize, l2: f64) {
        let own = column * self.n_splits..(column + 1) * self.n_splits;
        widely(|| {
            let sides = self.derivatives.iter().zip(self.weights.iter());
            let totals = self.above[own.clone()].iter_mut().zip(&mut self.below[own.clone()]);
            for ((above, below), ((d, rest_d), (w, rest_w))) in totals.zip(sides) {
                let (value, rest) = (value(d, w, l2), value(rest_d, rest_w, l2));
                *above += value * d + rest * rest_d;
                *below += value * value * w + rest * rest * rest_w;
            }
        });
    }
}

/// A number of both sides of each split of a column.
#[derive(Debug)]
struct Sides {
    left: Vec<f64>,
    right: Vec<f64>,
}

impl Sides {
    fn iter(&self) -> impl Iterator<Item = (f64, f64)> {
        self.left.iter().copied().zip(self.right.iter().copied())
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = (&mut f64, &mut f64)> {
        self.left.iter_mut().zip(&mut self.right)
    }

    /// Sets the sums of column `at` of a histogram; the sum of all bins. What is right is what remains after
    /// taking bin by bin away, as in CatBoost: the last bits differ from those of a difference of sums.
    fn fill(&mut self, sums: &[f64], stride: usize, at: usize, shape: Shape) -> f64 {
        let bins = sums.chunks_exact(stride).map(|bin| bin[at]);
        let all = bins.clone().fold(0.0, |all, bin| all + bin);
        let (mut left, mut right) = (0.0, all);
        for ((l, r), bin) in self.iter_mut().zip(bins) {
            left += bin;
            right -= bin;
            (*l, *r) = (left, right);
            if shape == Shape::Levels {
                (*l, right) = (bin, right + bin);
            }
        }
        all
    }
}

/// The value of a side with these sums.
#[inline]
fn value(d: f64, w: f64, l2: f64) -> f64 {
    let value = d * (1.0 / (w + l2)); // Not in a branch, so that the loop vectorises.
    if w > NO_WEIGHT { value } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use proptest::prelude::*;

    use super::*;

    fn sample(rows: &[(u8, f64, f64)]) -> (Sample, Vec<u8>) {
        let bins = rows.iter().map(|row| row.0).collect();
        let stats = rows.iter().flat_map(|row| [row.1, row.2]).collect();
        (Sample::new(1, (0..rows.len() as u32).collect(), stats), bins)
    }

    fn columns(bins: &[u8], width: usize, n_bins: usize) -> Columns<'_> {
        Columns { bins, width, n_bins }
    }

    fn fresh(sample: &Sample, columns: Columns<'_>) -> Histogram {
        let mut histogram = None;
        update(sample, 1, vec![(columns, &mut histogram)]);
        histogram.expect("it was built")
    }

    #[test]
    fn scores_are_those_of_the_formula() {
        let (sample, bins) = sample(&[(0, 1.0, 1.0), (1, -2.0, 1.0), (1, -1.0, 2.0)]);
        let columns = columns(&bins, 1, 2);
        let histogram = fresh(&sample, columns);
        let part = Part::whole(sample, 3.0);
        let (left, right) = (1.0 / 4.0, -3.0 / 6.0);
        let (above, below): (f64, f64) = (left - 3.0 * right, left * left + 3.0 * right * right);
        let score = |function| {
            let scorer = Scorer::new(function, columns, Shape::Thresholds);
            scorer.score(slice::from_ref(&part), &[Some(histogram.clone())], columns)[0][0]
        };
        assert!((score(ScoreFunction::L2) - above).abs() < 1e-15);
        assert!((score(ScoreFunction::Cosine) - above / below.sqrt()).abs() < 1e-15);
    }

    proptest! {
        /// Splitting and subtracting gives what building anew gives, for one column and for several
        /// side by side, alone and with others.
        #[test]
        fn refined_histograms_equal_fresh_ones(
            rows in prop::collection::vec((0_u8..7, -8_i8..8, 1_u8..4, any::<[bool; 3]>()), 1..60),
            n_outputs in 1_usize..12,
        ) {
            let bins: Vec<u8> = rows.iter().map(|row| row.0).collect();
            let stat = |row: &(u8, i8, u8, [bool; 3])| {
                let g = (0..n_outputs).map(|i| f64::from(row.1) + i as f64);
                g.chain([f64::from(row.2)]).collect::<Vec<_>>()
            };
            let stats: Vec<f64> = rows.iter().flat_map(stat).collect();
            let sample = || Sample::new(n_outputs, (0..rows.len() as u32).collect(), Vec::clone(&stats));
            let mut parts = [
                Part::whole(sample(), 3.0),
                Part { tail: Some(sample()), ..Part::whole(sample(), 3.0) },
            ];
            let twice: Vec<u8> = bins.iter().flat_map(|&bin| [6 - bin, bin]).collect();
            let ctrs: Vec<u8> = bins.iter().flat_map(|&bin| [bin, 2 * bin, 15, 15 - bin]).collect();
            let moved: Vec<u8> = bins.iter().map(|&bin| bin + 2).collect();
            let (one, two) = (columns(&bins, 1, 7), columns(&twice, 2, 7));
            let four = columns(&ctrs, CTRS, CTR_BINS);
            let more = columns(&moved, 1, 9);
            let all = [one, two, four, one, four, more, one, one, one, two, two];
            let mut histograms = vec![None; all.len()];
            for level in 0..4 {
                let [whole, judged] = parts.each_ref().map(slice::from_ref);
                let sample = &whole[0].body;
                update(sample, 4, all.into_iter().zip(&mut histograms).collect());
                for (&columns, histogram) in all.iter().zip(&histograms) {
                    let known = histogram.as_ref().expect("it was built");
                    prop_assert_eq!(known, &fresh(sample, columns)); // Whole numbers: exact.
                    for shape in [Shape::Thresholds, Shape::Levels] {
                        let scores = |parts, histograms: &[Option<Histogram>]| {
                            let scorer = Scorer::new(ScoreFunction::Cosine, columns, shape);
                            scorer.score(parts, histograms, columns)
                        };
                        let known = [histogram.clone(), histogram.clone()];
                        let expected = scores(whole, &known[..1]);
                        prop_assert_eq!(&expected, &scores(whole, &[]));
                        // Rows that judge themselves are no others.
                        for known in [&known[..], &[], &[None, histogram.clone()]] {
                            prop_assert_eq!(&expected, &scores(judged, known));
                        }
                        if columns.width == 2 {
                            let scorer = Scorer::new(ScoreFunction::Cosine, one, shape);
                            prop_assert_eq!(&expected[1], &scorer.score(whole, &[], one)[0]);
                        }
                    }
                }
                for part in parts.iter_mut().filter(|_| level < 3) {
                    part.split(|row| rows[row as usize].3[level]);
                }
            }
        }
    }
}
