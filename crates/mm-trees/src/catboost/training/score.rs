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
//! Of the two children of a leaf only the smaller one's histogram is built from its rows; the other
//! is what remains of the parent's.

use serde::{Deserialize, Serialize};

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
}

impl Sample {
    /// All `rows` in one leaf.
    pub(super) fn new(n_outputs: usize, rows: Vec<u32>, stats: Vec<f64>) -> Self {
        let starts = vec![0, rows.len()];
        Self { n_outputs, rows, stats, starts }
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
    pub(super) fn cut(&mut self, goes_right: impl Fn(u32) -> bool) -> Self {
        self.split(goes_right);
        let (at, stride) = (self.starts[1], self.stride());
        let right =
            Self::new(self.n_outputs, self.rows.split_off(at), self.stats.split_off(at * stride));
        self.starts = vec![0, at];
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

    /// Numbers a row or bin has.
    pub(super) fn stride(&self) -> usize {
        self.n_outputs + 1
    }

    fn len(&self, leaf: usize) -> usize {
        self.starts[leaf + 1] - self.starts[leaf]
    }

    /// Splits every leaf ℓ into ℓ and ℓ + *n*, the latter for the rows that go right.
    pub(super) fn split(&mut self, goes_right: impl Fn(u32) -> bool) {
        let (n, stride) = (self.n_leaves(), self.stride());
        let right: Vec<bool> = self.rows.iter().map(|&row| goes_right(row)).collect();
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
        let mut rows = vec![0; self.rows.len()];
        let mut stats = vec![0.0; self.stats.len()];
        for leaf in 0..n {
            let mut next = [starts[leaf], starts[n + leaf]];
            for at in self.starts[leaf]..self.starts[leaf + 1] {
                let to = &mut next[usize::from(right[at])];
                rows[*to] = self.rows[at];
                let stat = &self.stats[at * stride..][..stride];
                stats[*to * stride..][..stride].copy_from_slice(stat);
                *to += 1;
            }
        }
        (self.rows, self.stats, self.starts) = (rows, stats, starts);
    }

    /// Adds the rows of `leaf` to the sums of the columns' bins.
    fn accumulate(&self, leaf: usize, columns: Columns<'_>, sums: &mut [f64]) {
        let span = self.starts[leaf]..self.starts[leaf + 1];
        let stride = self.stride();
        let rows = &self.rows[span.clone()];
        let stats = &self.stats[span.start * stride..span.end * stride];
        let Columns { bins, width, n_bins } = columns;
        if 1 < width {
            for (&row, stat) in rows.iter().zip(stats.chunks_exact(stride)) {
                let row = &bins[row as usize * width..][..width];
                for (sums, &bin) in sums.chunks_exact_mut(n_bins * stride).zip(row) {
                    let sum = &mut sums[usize::from(bin) * stride..][..stride];
                    sum.iter_mut().zip(stat).for_each(|(sum, x)| *sum += x);
                }
            }
        } else if stride == 2 {
            let (sums, _) = sums.as_chunks_mut::<2>();
            let (stats, _) = stats.as_chunks::<2>();
            for (&row, stat) in rows.iter().zip(stats) {
                let sum = &mut sums[usize::from(bins[row as usize])];
                sum[0] += stat[0];
                sum[1] += stat[1];
            }
        } else {
            for (&row, stat) in rows.iter().zip(stats.chunks_exact(stride)) {
                let bin = usize::from(bins[row as usize]);
                let sum = &mut sums[bin * stride..][..stride];
                sum.iter_mut().zip(stat).for_each(|(sum, x)| *sum += x);
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
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    sums: Vec<f64>,
}

impl Histogram {
    /// From all rows.
    pub(super) fn new(sample: &Sample, columns: Columns<'_>) -> Self {
        let size = columns.size(sample.stride());
        let mut sums = vec![0.0; sample.n_leaves() * size];
        for (leaf, sums) in sums.chunks_mut(size).enumerate() {
            sample.accumulate(leaf, columns, sums);
        }
        Self { sums }
    }

    /// Catches up with a sample whose leaves have been split once since.
    pub(super) fn refine(&mut self, sample: &Sample, columns: Columns<'_>) {
        let size = columns.size(sample.stride());
        let n = sample.n_leaves() / 2;
        self.sums.resize(2 * n * size, 0.0);
        let (parents, new) = self.sums.split_at_mut(n * size);
        for leaf in 0..n {
            let (parent, new) =
                (&mut parents[leaf * size..][..size], &mut new[leaf * size..][..size]);
            let left_is_smaller = sample.len(leaf) < sample.len(leaf + n);
            sample.accumulate(if left_is_smaller { leaf } else { leaf + n }, columns, new);
            for (parent, new) in parent.iter_mut().zip(new) {
                let rest = *parent - *new;
                if left_is_smaller {
                    (*parent, *new) = (*new, rest);
                } else {
                    *parent = rest;
                }
            }
        }
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

/// Adds up the scores of a column's splits, leaf by leaf.
#[derive(Debug)]
pub(super) struct Scorer {
    l2: f64,
    function: ScoreFunction,
    above: Vec<f64>,
    below: Vec<f64>,
    left: Vec<f64>,
    left_weight: Vec<f64>,
}

impl Scorer {
    /// With the penalty λ.
    pub(super) fn new(l2: f64, function: ScoreFunction) -> Self {
        let (above, below, left, left_weight) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { l2, function, above, below, left, left_weight }
    }

    /// The scores of all splits of each column, over a histogram that stands at the sample's leaves.
    pub(super) fn score(
        &mut self,
        histogram: &Histogram,
        columns: Columns<'_>,
        stride: usize,
        shape: Shape,
    ) -> Vec<Vec<f64>> {
        let (size, column_size) = (columns.size(stride), columns.n_bins * stride);
        let of_column = |column: usize| {
            self.start(shape.n_splits(columns.n_bins));
            for sums in histogram.sums.chunks_exact(size) {
                self.add(&sums[column * column_size..][..column_size], stride, shape);
            }
            self.finish()
        };
        (0..columns.width).map(of_column).collect()
    }

    /// The same without a histogram of all leaves in memory.
    pub(super) fn score_rows(
        &mut self,
        sample: &Sample,
        columns: Columns<'_>,
        shape: Shape,
    ) -> Vec<Vec<f64>> {
        let stride = sample.stride();
        let mut leaf_sums = Histogram { sums: vec![0.0; columns.size(stride)] };
        let of_column = |column: usize| {
            self.start(shape.n_splits(columns.n_bins));
            for leaf in (0..sample.n_leaves()).filter(|&leaf| 0 < sample.len(leaf)) {
                leaf_sums.sums.fill(0.0);
                sample.accumulate(leaf, columns, &mut leaf_sums.sums);
                let size = columns.n_bins * stride;
                self.add(&leaf_sums.sums[column * size..][..size], stride, shape);
            }
            self.finish()
        };
        (0..columns.width).map(of_column).collect()
    }

    fn start(&mut self, n_splits: usize) {
        for (sums, zero) in [(&mut self.above, 0.0), (&mut self.below, 1e-100)] {
            sums.clear();
            sums.resize(n_splits, zero);
        }
    }

    fn finish(&self) -> Vec<f64> {
        match self.function {
            ScoreFunction::L2 => self.above.clone(),
            ScoreFunction::Cosine => self
                .above
                .iter()
                .zip(&self.below)
                .map(|(above, below)| above / below.sqrt())
                .collect(),
        }
    }

    /// Adds one leaf with `sums` of shape (bins, outputs + 1).
    fn add(&mut self, sums: &[f64], stride: usize, shape: Shape) {
        let n_splits = self.above.len();
        let one_side = |at: usize, out: &mut Vec<f64>| {
            out.clear();
            let mut all = 0.0;
            for bin in sums.chunks_exact(stride) {
                all += bin[at];
                out.push(if shape == Shape::Thresholds { all } else { bin[at] });
            }
            out.truncate(n_splits);
            all
        };
        let weight = one_side(stride - 1, &mut self.left_weight);
        if weight <= NO_WEIGHT {
            return;
        }
        for output in 0..stride - 1 {
            let derivative = one_side(output, &mut self.left);
            let sides = self.left.iter().zip(&self.left_weight);
            let totals = self.above.iter_mut().zip(&mut self.below);
            for ((above, below), (&d, &w)) in totals.zip(sides) {
                let (rest_d, rest_w) = (derivative - d, weight - w);
                let value = if w > NO_WEIGHT { d * (1.0 / (w + self.l2)) } else { 0.0 };
                let rest =
                    if rest_w > NO_WEIGHT { rest_d * (1.0 / (rest_w + self.l2)) } else { 0.0 };
                *above += value * d + rest * rest_d;
                *below += value * value * w + rest * rest * rest_w;
            }
        }
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn scores_are_those_of_the_formula() {
        let (sample, bins) = sample(&[(0, 1.0, 1.0), (1, -2.0, 1.0), (1, -1.0, 2.0)]);
        let columns = columns(&bins, 1, 2);
        let histogram = Histogram::new(&sample, columns);
        let (left, right) = (1.0 / 4.0, -3.0 / 6.0);
        let (above, below): (f64, f64) = (left - 3.0 * right, left * left + 3.0 * right * right);
        let score = |function| {
            Scorer::new(3.0, function).score(&histogram, columns, 2, Shape::Thresholds)[0][0]
        };
        assert!((score(ScoreFunction::L2) - above).abs() < 1e-15);
        assert!((score(ScoreFunction::Cosine) - above / below.sqrt()).abs() < 1e-15);
    }

    proptest! {
        /// Splitting and subtracting gives what building anew gives, for one column and for several
        /// side by side.
        #[test]
        fn refined_histograms_equal_fresh_ones(
            rows in prop::collection::vec((0_u8..7, -8_i8..8, 1_u8..4, any::<[bool; 3]>()), 1..60),
        ) {
            let of = |row: &(u8, i8, u8, [bool; 3])| (row.0, f64::from(row.1), f64::from(row.2));
            let (mut sample, bins) = sample(&rows.iter().map(of).collect::<Vec<_>>());
            let twice: Vec<u8> = bins.iter().flat_map(|&bin| [6 - bin, bin]).collect();
            let (one, two) = (columns(&bins, 1, 7), columns(&twice, 2, 7));
            let mut histogram = Histogram::new(&sample, one);
            let mut both = Histogram::new(&sample, two);
            let scorer = || Scorer::new(3.0, ScoreFunction::Cosine);
            for level in 0..3 {
                sample.split(|row| rows[row as usize].3[level]);
                histogram.refine(&sample, one);
                both.refine(&sample, two);
                let fresh = Histogram::new(&sample, one);
                prop_assert_eq!(&histogram.sums, &fresh.sums); // Whole numbers: exact.
                for shape in [Shape::Thresholds, Shape::Levels] {
                    let cached = scorer().score(&histogram, one, 2, shape);
                    prop_assert_eq!(&cached, &scorer().score_rows(&sample, one, shape));
                    prop_assert_eq!(&cached[0], &scorer().score(&both, two, 2, shape)[1]);
                }
            }
        }
    }
}
