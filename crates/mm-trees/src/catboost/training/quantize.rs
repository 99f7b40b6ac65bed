//! Numeric columns as bins: where the borders lie, and in which bin a value falls.
//!
//! The bin of a value is the number of borders below it, so that "bin > *b*" asks whether the value
//! exceeds border *b*. The rules are those of CatBoost 1.2.10, in its precision and with its way
//! through ties: the greedy rules split the bin of highest gain again and again, and which of two
//! bins of equal gain comes first is a matter of the binary heap that holds them.

use serde::{Deserialize, Serialize};

/// How borders are chosen from a column's values (CatBoost: `feature_border_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BorderRule {
    /// Greedily, so that the sum of the logarithms of the bins' sizes grows most.
    #[default]
    GreedyLogSum,
    /// Greedily, so that the entropy of the bins' sizes grows most.
    GreedyMinEntropy,
    /// The best sum of logarithms; O(*u* ln *u*) a border for *u* distinct values.
    MaxLogSum,
    /// The best entropy; O(*u* ln *u*) a border for *u* distinct values.
    MinEntropy,
    /// Quantiles.
    Median,
    /// Equal distances.
    Uniform,
    /// Half of them quantiles, half at equal distances.
    UniformAndQuantiles,
}

/// Where missing values of a numeric column go (CatBoost: `nan_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MissingRule {
    /// Below every value.
    #[default]
    Min,
    /// Above every value.
    Max,
    /// They are an error of the fit.
    Forbidden,
}

/// What a split does with a missing value of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NanSide {
    /// There was none in training: it is compared as it is, and exceeds no border.
    AsIs,
    /// It exceeds no border.
    Below,
    /// It exceeds every border.
    Above,
}

/// The borders of a numeric column, rising.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Borders {
    pub(super) values: Vec<f32>,
    pub(super) nan: NanSide,
}

impl Borders {
    /// At most `max` borders between `values`, which may hold NaN and are left in another order.
    pub(super) fn of(
        mut values: Vec<f32>,
        max: usize,
        rule: BorderRule,
        missing: MissingRule,
    ) -> Self {
        let all = values.len();
        values.retain(|x| !x.is_nan());
        let has_nan = values.len() < all;
        for x in &mut values {
            *x += 0.0; // −0 and 0 are one value.
        }
        values.sort_unstable_by(f32::total_cmp);
        let max = max - usize::from(has_nan);
        let mut borders = if values.is_empty() { Vec::new() } else { place(&values, max, rule) };
        let nan = match (has_nan, missing) {
            (false, _) => NanSide::AsIs,
            (true, MissingRule::Max) => {
                borders.push(f32::MAX);
                NanSide::Above
            }
            (true, _) => {
                borders.insert(0, f32::MIN);
                NanSide::Below
            }
        };
        Self { values: borders, nan }
    }

    /// The bin of `x`.
    pub(super) fn bin(&self, x: f32) -> u8 {
        if x.is_nan() {
            return if self.nan == NanSide::Above { self.values.len() as u8 } else { 0 };
        }
        self.values.partition_point(|&border| border < x) as u8
    }
}

/// The border that parts `values` most evenly, if two of them differ.
pub(super) fn halving(values: &[f32]) -> Option<f32> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    if sorted.is_empty() {
        None
    } else {
        place(&sorted, 1, BorderRule::MinEntropy).first().copied()
    }
}

/// The borders by `rule`, rising and distinct, between sorted values, of which there is at least
/// one.
fn place(sorted: &[f32], max: usize, rule: BorderRule) -> Vec<f32> {
    let mut borders = match rule {
        BorderRule::GreedyLogSum => greedy(sorted, max, log_sum),
        BorderRule::GreedyMinEntropy => greedy(sorted, max, entropy),
        BorderRule::MaxLogSum => best(sorted, max, log_sum),
        BorderRule::MinEntropy => best(sorted, max, entropy),
        BorderRule::Median => median(sorted, max),
        BorderRule::Uniform => uniform(sorted, max).collect(),
        BorderRule::UniformAndQuantiles => {
            let half = max / 2;
            let mut borders = median(sorted, max - half);
            borders.extend(uniform(sorted, half).map(|x| before(x, sorted)));
            borders
        }
    };
    for x in &mut borders {
        *x += 0.0;
    }
    borders.sort_unstable_by(f32::total_cmp);
    borders.dedup();
    borders
}

/// Minus the penalty of a bin of `n` rows: the logarithm.
fn log_sum(n: f64) -> f64 {
    (n + 1e-8).ln()
}

/// Minus the penalty of a bin of `n` rows: −n ln n.
fn entropy(n: f64) -> f64 {
    -(n * (n + 1e-8).ln())
}

fn quantile(sorted: &[f32], i: usize, parts: usize) -> f32 {
    sorted[((i + 1) * sorted.len() / parts).min(sorted.len() - 1)]
}

fn median(sorted: &[f32], max: usize) -> Vec<f32> {
    let values = (0..max).map(|i| quantile(sorted, i, max + 1));
    values.filter(|&x| x != sorted[0]).map(|x| before(x, sorted)).collect()
}

fn uniform(sorted: &[f32], max: usize) -> impl Iterator<Item = f32> {
    let (low, high) = (sorted[0], sorted[sorted.len() - 1]);
    let max = if low == high { 0 } else { max };
    (0..max).map(move |i| low + (i + 1) as f32 * (high - low) / (max + 1) as f32)
}

/// A border between `x` and the next value below it.
fn before(x: f32, sorted: &[f32]) -> f32 {
    match sorted.partition_point(|&value| value < x) {
        0 => (0.5 * sorted[0]).min(2.0 * sorted[0]),
        at if at == sorted.len() => (2.0 * sorted[at - 1]).max(sorted[at - 1] + 1.0),
        at => {
            let middle = (sorted[at] + sorted[at - 1]) * 0.5;
            if middle == sorted[at] { sorted[at - 1] } else { middle }
        }
    }
}

/// Splits the bin that gains most, at the edge of the run of values in its middle, until there are
/// `max` borders or the best bin is one value.
fn greedy(sorted: &[f32], max: usize, worth: fn(f64) -> f64) -> Vec<f32> {
    let bin = |start: usize, end: usize| {
        let middle = start + (end - start) / 2;
        let x = sorted[middle];
        let left = start + sorted[start..middle].partition_point(|&value| value < x);
        let right = middle + sorted[middle..end].partition_point(|&value| value <= x);
        let gain = |at: usize| {
            if at == start || at == end {
                return f64::NEG_INFINITY;
            }
            worth((at - start) as f64) + worth((end - at) as f64) - worth((end - start) as f64)
        };
        let (gain_left, gain_right) = (gain(left), gain(right));
        let cut = if gain_left >= gain_right { left } else { right };
        Bin { start, end, cut, gain: gain_left.max(gain_right) }
    };
    let mut heap = Heap(vec![bin(0, sorted.len())]);
    while heap.0.len() <= max && heap.0[0].is_divisible() {
        let top = heap.pop();
        heap.push(bin(top.start, top.cut));
        heap.push(bin(top.cut, top.end));
    }
    let starts = heap.0.iter().map(|bin| bin.start).filter(|&start| 0 < start);
    starts.map(|start| 0.5 * sorted[start - 1] + 0.5 * sorted[start]).collect()
}

/// Rows `start..end` of the sorted values, and where best to cut them.
#[derive(Debug, Clone, Copy)]
struct Bin {
    start: usize,
    end: usize,
    cut: usize,
    gain: f64,
}

impl Bin {
    fn is_divisible(&self) -> bool {
        self.cut != self.start && self.cut != self.end
    }
}

/// A binary heap with the highest gain on top. Equal gains come out in the order that CatBoost's
/// standard library gives them: the hole that a removal leaves sinks to the bottom along the larger
/// children before the last element fills it and rises (Floyd).
struct Heap(Vec<Bin>);

impl Heap {
    fn push(&mut self, bin: Bin) {
        self.0.push(bin);
        self.rise(self.0.len() - 1);
    }

    fn rise(&mut self, mut at: usize) {
        while 0 < at {
            let parent = (at - 1) / 2;
            if self.0[parent].gain >= self.0[at].gain {
                break;
            }
            self.0.swap(parent, at);
            at = parent;
        }
    }

    /// The top of a heap that has one.
    fn pop(&mut self) -> Bin {
        let heap = &mut self.0;
        let (top, len) = (heap[0], heap.len());
        let mut hole = 0;
        while 2 * hole + 1 < len {
            let mut child = 2 * hole + 1;
            if child + 1 < len && heap[child].gain < heap[child + 1].gain {
                child += 1;
            }
            heap[hole] = heap[child];
            hole = child;
        }
        let last = heap[len - 1];
        heap.truncate(len - 1);
        if hole != len - 1 {
            heap[hole] = last;
            self.rise(hole);
        }
        top
    }
}

/// The partition of the distinct values into `max + 1` bins of highest worth, by dynamic
/// programming: the best cut never moves left as the values go on, so each bin halves its way
/// through them.
fn best(sorted: &[f32], max: usize, worth: fn(f64) -> f64) -> Vec<f32> {
    const TIE: f64 = 1e-12;
    let mut values: Vec<f32> = Vec::new();
    let mut ends: Vec<f64> = Vec::new(); // Rows up to and with each value.
    for (i, &x) in sorted.iter().enumerate() {
        if values.last() != Some(&x) {
            values.push(x);
            ends.push(0.0);
        }
        ends[values.len() - 1] = (i + 1) as f64;
    }
    let n = values.len();
    #[expect(clippy::manual_midpoint, reason = "in CatBoost's arithmetic")]
    let border = |at: usize| (values[at] + values[at + 1]) / 2.0;
    if n <= max + 1 {
        return (0..n - 1).map(border).collect();
    }
    // `total[j]`: worth of the best partition of values 0..=j + layer into `layer + 1` bins.
    let mut total: Vec<f64> = (0..n - max).map(|j| worth(ends[j])).collect();
    let mut cuts: Vec<Vec<u32>> = Vec::with_capacity(max);
    for layer in 0..max {
        let with = |i: usize, j: usize, total: &[f64]| {
            total[i] + worth(ends[layer + j + 1] - ends[layer + i])
        };
        let (mut cut, mut next) = (vec![0; n - max], vec![f64::NEG_INFINITY; n - max]);
        let mut open = vec![(0, n - max, 0, n - max)];
        while let Some((first, last, low, high)) = open.pop() {
            if first >= last {
                continue;
            }
            let j = usize::midpoint(first, last);
            let mut at = low;
            for i in low..high.min(j + 1) {
                let sum = with(i, j, &total);
                // Of equal cuts the last one, but in the last layer the first, as in CatBoost.
                let is_better = if layer + 1 == max { next[j] < sum } else { next[j] <= sum + TIE };
                if is_better {
                    (next[j], at) = (sum, i);
                }
            }
            cut[j] = at as u32;
            open.push((first, j, low, at + 1));
            open.push((j + 1, last, at, high));
        }
        total = next;
        cuts.push(cut);
    }
    let mut at = n - max - 1;
    let mut borders = Vec::with_capacity(max);
    for (layer, cut) in cuts.iter().enumerate().rev() {
        at = cut[at] as usize;
        borders.push(border(at + layer));
    }
    borders
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: [BorderRule; 7] = [
        BorderRule::GreedyLogSum,
        BorderRule::GreedyMinEntropy,
        BorderRule::MaxLogSum,
        BorderRule::MinEntropy,
        BorderRule::Median,
        BorderRule::Uniform,
        BorderRule::UniformAndQuantiles,
    ];

    fn borders(values: &[f32], max: usize, rule: BorderRule) -> Vec<f32> {
        Borders::of(values.to_vec(), max, rule, MissingRule::Min).values
    }

    #[test]
    fn few_values_are_all_kept_apart() {
        for rule in [BorderRule::GreedyLogSum, BorderRule::MaxLogSum, BorderRule::MinEntropy] {
            assert_eq!(borders(&[3.0, 1.0, 2.0, 1.0], 254, rule), [1.5, 2.5], "{rule:?}");
        }
    }

    #[test]
    fn one_border_halves_the_rows() {
        let values: Vec<f32> = (0..100).map(|i| i as f32).collect();
        for rule in RULES {
            assert_eq!(borders(&values, 1, rule), [49.5], "{rule:?}");
        }
    }

    #[test]
    fn a_constant_or_empty_column_has_no_borders() {
        for rule in RULES {
            assert!(borders(&[2.0; 9], 254, rule).is_empty(), "{rule:?}");
            assert!(borders(&[], 254, rule).is_empty(), "{rule:?}");
        }
    }

    #[test]
    fn missing_values_take_a_border_of_their_own() {
        let values = vec![1.0, f32::NAN, 2.0];
        let low = Borders::of(values.clone(), 2, BorderRule::GreedyLogSum, MissingRule::Min);
        assert_eq!(low.values, [f32::MIN, 1.5]);
        assert_eq!([low.bin(f32::NAN), low.bin(1.0), low.bin(2.0)], [0, 1, 2]);
        let high = Borders::of(values, 2, BorderRule::GreedyLogSum, MissingRule::Max);
        assert_eq!(high.values, [1.5, f32::MAX]);
        assert_eq!([high.bin(1.0), high.bin(2.0), high.bin(f32::NAN)], [0, 1, 2]);
    }

    proptest! {
        /// Borders rise, lie within the budget, and the exact rules are never worse than the greedy.
        #[test]
        fn borders_are_well_formed(
            values in prop::collection::vec(-20_i16..20, 1..200),
            max in 1_usize..20,
        ) {
            let values: Vec<f32> = values.into_iter().map(f32::from).collect();
            for rule in RULES {
                let borders = borders(&values, max, rule);
                prop_assert!(borders.len() <= max);
                prop_assert!(borders.windows(2).all(|pair| pair[0] < pair[1]));
            }
            let sum = |rule, worth: fn(f64) -> f64| {
                let borders = borders(&values, max, rule);
                let mut sizes = vec![0.0; borders.len() + 1];
                for x in &values {
                    sizes[borders.partition_point(|border| border < x)] += 1.0;
                }
                sizes.into_iter().map(worth).sum::<f64>()
            };
            let pairs = [
                (BorderRule::GreedyLogSum, BorderRule::MaxLogSum, log_sum as fn(f64) -> f64),
                (BorderRule::GreedyMinEntropy, BorderRule::MinEntropy, entropy),
            ];
            for (greedy, exact, worth) in pairs {
                prop_assert!(sum(greedy, worth) <= sum(exact, worth) + 1e-9); // Rounding of sums.
            }
        }
    }
}
