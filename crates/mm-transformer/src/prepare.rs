//! From frames to what nets read: fitted on the rows of the fit alone, and stored in the model.
//!
//! Numeric columns are scaled, either to mean 0 and deviation 1 or through their quantiles to a
//! normal distribution; categorical ones become slots, of which the first two are *missing* and
//! *unknown*. Levels that the rows of the fit do not have are unknown: their vectors would never be
//! trained.

use burn::tensor::{Device, Int, Tensor, TensorData};
use mm_core::{Frame, Schema};
use serde::{Deserialize, Serialize};

use crate::{nn::numeric::Edges, random::Key};

/// How numeric columns are scaled before a net sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scaling {
    /// Through the quantiles of the fit to a standard normal distribution; robust to outliers and
    /// skew. Beyond the fit's range a number counts as its end.
    #[default]
    Quantile,
    /// To mean 0 and standard deviation 1.
    Standard,
}

/// Most quantiles that a column keeps, and rows for each.
const MOST_KNOTS: usize = 1000;
const ROWS_A_KNOT: usize = 30;
/// The fewest quantiles where there are few rows.
const FEWEST_KNOTS: usize = 10;
/// A quantile-scaled number lies within ± this: the normal quantile of 10⁻⁷.
const WIDEST: f64 = 5.199_337_582_192_818;
/// A standard-scaled number lies within ± this, so that one wild cell does not drown a net.
const FARTHEST: f64 = 1e4;

/// Slots that every categorical column has.
const MISSING_SLOT: u32 = 0;
const UNKNOWN_SLOT: u32 = 1;
const RESERVED: u32 = 2;

/// One column's way into a net.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Plan {
    /// (*x* − mean) · factor.
    Standard { mean: f64, factor: f64 },
    /// Rising distinct values, and the part of the fit's rows that lies below each.
    Quantile { knots: Vec<f32>, levels: Vec<f64> },
    /// The slot of each level.
    Levels { slots: Vec<u32> },
}

/// The fitted way of all columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Preparation {
    plans: Vec<Plan>,
}

/// What a net needs to know of its inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// Numeric columns.
    pub(crate) numbers: usize,
    /// Slots of each categorical column.
    pub(crate) slots: Vec<usize>,
    /// Scores of a row.
    pub(crate) scores: usize,
    /// Most bins of a numeric column, where asked for; else 0.
    pub(crate) bins: usize,
    /// The bins of each numeric column when a net is first made; later they are among its weights.
    #[serde(skip)]
    pub(crate) edges: Vec<Edges>,
}

impl Inputs {
    /// Columns.
    pub(crate) fn columns(&self) -> usize {
        self.numbers + self.slots.len()
    }

    /// A row that says nothing: its numbers lie in the middle of the fit, its levels are unknown.
    pub(crate) fn silent(&self) -> Prepared {
        let unknown = |first: i64| first as u32 + UNKNOWN_SLOT;
        Prepared {
            numbers: vec![0.0; self.numbers],
            slots: firsts(&self.slots).into_iter().map(unknown).collect(),
        }
    }
}

impl Preparation {
    /// Learns from all rows of `frame`.
    pub(crate) fn fit(frame: &Frame, scaling: Scaling) -> Self {
        let plan = |(j, levels): (usize, Option<usize>)| match levels {
            Some(n) => Plan::of_levels(frame, j, n),
            None => Plan::of_numbers(frame, j, scaling),
        };
        let columns = frame.schema().columns().iter();
        let levels = columns.map(|c| c.levels().map(mm_core::Levels::len)).enumerate();
        Self { plans: levels.map(plan).collect() }
    }

    /// Whether it can have been fitted to `schema`; a file may say anything.
    pub(crate) fn is_sound(&self, schema: &Schema) -> bool {
        let sound = |(plan, column): (&Plan, &mm_core::Column)| match (plan, column.levels()) {
            (Plan::Standard { mean, factor }, None) => mean.is_finite() && factor.is_finite(),
            (Plan::Quantile { knots, levels }, None) => {
                let inside = levels.iter().all(|&level| 0.0 <= level && level <= 1.0);
                let finite = inside && knots.iter().all(|x| x.is_finite());
                finite && knots.len() == levels.len() && knots.windows(2).all(|w| w[0] < w[1])
            }
            (Plan::Levels { slots }, Some(levels)) => {
                slots.len() == levels.len() && slots.iter().all(|&s| (s as usize) < slots.len() + 2)
            }
            _ => false,
        };
        self.plans.len() == schema.len() && self.plans.iter().zip(schema.columns()).all(sound)
    }

    /// What a net with so many scores a row reads; `bins` asks for the bins of numeric columns,
    /// taken from `data`.
    pub(crate) fn inputs(&self, scores: usize, bins: Option<(usize, &Prepared)>) -> Inputs {
        let slots = self.plans.iter().filter_map(Plan::slots).collect();
        let numbers = self.plans.iter().filter(|plan| plan.slots().is_none()).count();
        let edges = bins.map_or_else(Vec::new, |(bins, data)| {
            (0..numbers).map(|j| edges(data, numbers, j, bins)).collect()
        });
        let bins = edges.iter().map(|edges: &Edges| edges.len() - 1).max().unwrap_or(0);
        Inputs { numbers, slots, scores, bins, edges }
    }

    /// The rows of `frame` as numbers and slots.
    pub(crate) fn apply(&self, frame: &Frame) -> Prepared {
        let mut out = Prepared::default();
        for row in frame.rows() {
            self.apply_row(row, &mut out);
        }
        out
    }

    /// Adds one row.
    pub(crate) fn apply_row(&self, row: &[f32], out: &mut Prepared) {
        let mut first = 0;
        for (plan, &x) in self.plans.iter().zip(row) {
            match plan {
                Plan::Standard { mean, factor } => {
                    let z = (f64::from(x) - mean) * factor;
                    out.numbers.push(z.clamp(-FARTHEST, FARTHEST) as f32);
                }
                Plan::Quantile { knots, levels } => {
                    out.numbers.push(normal_score(knots, levels, x));
                }
                Plan::Levels { slots } => {
                    let slot = match x {
                        x if x.is_nan() => MISSING_SLOT,
                        x if x == Frame::UNKNOWN => UNKNOWN_SLOT,
                        x => slots.get(x as usize).copied().unwrap_or(UNKNOWN_SLOT),
                    };
                    out.slots.push(first + slot);
                    first += plan.slots().unwrap_or(0) as u32;
                }
            }
        }
    }
}

impl Plan {
    /// How many slots, if the column is categorical.
    fn slots(&self) -> Option<usize> {
        match self {
            Self::Levels { slots } => {
                let most = slots.iter().copied().max().unwrap_or(UNKNOWN_SLOT).max(UNKNOWN_SLOT);
                Some(most as usize + 1)
            }
            _ => None,
        }
    }

    fn of_levels(frame: &Frame, j: usize, n_levels: usize) -> Self {
        let mut seen = vec![false; n_levels];
        frame.column(j).filter(|&x| 0.0 <= x).for_each(|x| seen[x as usize] = true);
        let mut next = RESERVED;
        let slots = seen.iter().map(|&seen| {
            if !seen {
                return UNKNOWN_SLOT;
            }
            next += 1;
            next - 1
        });
        Self::Levels { slots: slots.collect() }
    }

    fn of_numbers(frame: &Frame, j: usize, scaling: Scaling) -> Self {
        let mut values: Vec<f32> = frame.column(j).filter(|x| !x.is_nan()).collect();
        match scaling {
            Scaling::Standard => {
                let n = values.len().max(1) as f64;
                let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
                let square = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
                let deviation = square.sqrt();
                let usable = deviation.is_finite() && 0.0 < deviation;
                Self::Standard { mean, factor: if usable { 1.0 / deviation } else { 0.0 } }
            }
            Scaling::Quantile => {
                values.sort_unstable_by(f32::total_cmp);
                let n_knots = (values.len() / ROWS_A_KNOT).clamp(FEWEST_KNOTS, MOST_KNOTS);
                let (knots, levels) = knots(&values, n_knots);
                Self::Quantile { knots, levels }
            }
        }
    }
}

/// Distinct quantiles of sorted `values` at `n` even levels, and each one's level; of levels that
/// share a value, the middle one, so that ties go to their mean rank.
fn knots(values: &[f32], n: usize) -> (Vec<f32>, Vec<f64>) {
    let (mut knots, mut levels) = (Vec::new(), Vec::new());
    if values.is_empty() {
        return (knots, levels);
    }
    let level = |i: usize| i as f64 / (n - 1) as f64;
    let mut i = 0;
    while i < n {
        let value = quantile(values, level(i));
        let mut last = i;
        while last + 1 < n && quantile(values, level(last + 1)) == value {
            last += 1;
        }
        knots.push(value);
        levels.push(f64::midpoint(level(i), level(last)));
        i = last + 1;
    }
    (knots, levels)
}

/// The quantile of sorted `values` by linear interpolation.
fn quantile(values: &[f32], level: f64) -> f32 {
    let at = level * (values.len() - 1) as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(values.len() - 1);
    let (low, high) = (f64::from(values[below]), f64::from(values[above]));
    (low + (high - low) * (at - below as f64)) as f32
}

/// The normal quantile of the level of `x`, which is interpolated between the knots; beyond them the
/// end's. NaN stays NaN; with no or one knot all is 0.
fn normal_score(knots: &[f32], levels: &[f64], x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let above = knots.partition_point(|&knot| knot <= x);
    let level = match above {
        _ if knots.len() < 2 => 0.5,
        0 => levels[0],
        n if n == knots.len() => levels[n - 1],
        n => {
            let (left, right) = (f64::from(knots[n - 1]), f64::from(knots[n]));
            let part = (f64::from(x) - left) / (right - left);
            levels[n - 1] + (levels[n] - levels[n - 1]) * part
        }
    };
    normal_quantile(level) as f32
}

/// The number below which a standard normal one lies with probability `p`, within ±[`WIDEST`].
///
/// Rational approximations of the middle and the tails by P. J. Acklam (2003, "An algorithm for
/// computing the inverse normal cumulative distribution function"); relative error below 1.2 · 10⁻⁹.
fn normal_quantile(p: f64) -> f64 {
    const MIDDLE: ([f64; 6], [f64; 5]) = (
        [
            -3.969_683_028_665_376e1,
            2.209_460_984_245_205e2,
            -2.759_285_104_469_687e2,
            1.383_577_518_672_69e2,
            -3.066_479_806_614_716e1,
            2.506_628_277_459_239,
        ],
        [
            -5.447_609_879_822_406e1,
            1.615_858_368_580_409e2,
            -1.556_989_798_598_866e2,
            6.680_131_188_771_972e1,
            -1.328_068_155_288_572e1,
        ],
    );
    const TAIL: ([f64; 6], [f64; 4]) = (
        [
            -7.784_894_002_430_293e-3,
            -3.223_964_580_411_365e-1,
            -2.400_758_277_161_838,
            -2.549_732_539_343_734,
            4.374_664_141_464_968,
            2.938_163_982_698_783,
        ],
        [
            7.784_695_709_041_462e-3,
            3.224_671_290_700_398e-1,
            2.445_134_137_142_996,
            3.754_408_661_907_416,
        ],
    );
    const TAIL_BELOW: f64 = 0.024_25;
    let polynomial = |terms: &[f64], x: f64| terms.iter().fold(0.0, |sum, term| sum * x + term);
    let tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        polynomial(&TAIL.0, q) / (polynomial(&TAIL.1, q) * q + 1.0)
    };
    let z = if p < TAIL_BELOW {
        tail(p)
    } else if 1.0 - TAIL_BELOW < p {
        -tail(1.0 - p)
    } else {
        let (q, r) = (p - 0.5, (p - 0.5).powi(2));
        q * polynomial(&MIDDLE.0, r) / (polynomial(&MIDDLE.1, r) * r + 1.0)
    };
    // The ends have an infinite quantile, or none.
    if z.is_finite() { z.clamp(-WIDEST, WIDEST) } else { WIDEST.copysign(p - 0.5) }
}

/// The distinct quantiles of a prepared column at `bins` + 1 even levels; two ends at least, so that
/// a constant column has one bin.
fn edges(data: &Prepared, columns: usize, j: usize, bins: usize) -> Edges {
    let column = data.numbers.iter().skip(j).step_by(columns);
    let mut values: Vec<f32> = column.copied().filter(|x| !x.is_nan()).collect();
    values.sort_unstable_by(f32::total_cmp);
    if values.is_empty() {
        return vec![-1.0, 1.0];
    }
    let mut edges: Edges = (0..=bins).map(|i| quantile(&values, i as f64 / bins as f64)).collect();
    // Bins narrower than this would have slopes that drown the rest.
    edges.dedup_by(|right, left| *right - *left < 1e-4);
    if edges.len() < 2 {
        edges = vec![edges[0] - 1.0, edges[0] + 1.0];
    }
    edges
}

/// Rows as numbers (NaN where missing) and slots, row by row.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Prepared {
    numbers: Vec<f32>,
    /// Counted from the first slot of the first categorical column.
    slots: Vec<u32>,
}

/// No row: a place before the start of a sequence.
pub(crate) const NO_ROW: u32 = u32::MAX;

/// Some rows, each with its window of steps, on a device.
#[derive(Debug)]
pub struct Batch {
    /// *n*.
    pub(crate) rows: usize,
    /// *t*: 1 for models of single rows.
    pub(crate) steps: usize,
    /// (*n* · *t*, numeric columns): 0 where missing.
    pub(crate) numbers: Tensor<2>,
    /// (*n* · *t*, numeric columns): 1 where missing, else 0.
    pub(crate) missing: Tensor<2>,
    /// (*n* · *t* · categorical columns).
    pub(crate) slots: Tensor<1, Int>,
    /// How many of each row's steps there are; they come last.
    pub(crate) lengths: Vec<usize>,
    /// The vectors of the columns, where they are not to be made of the cells: see
    /// [`Tokens::forward`](crate::tokens::Tokens::forward).
    pub(crate) vectors: Option<Vec<Tensor<3>>>,
    /// Where the tensors are.
    pub(crate) device: Device,
}

/// Cells that are hidden while a net is trained: numbers become missing, levels unknown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hide {
    pub(crate) key: Key,
    pub(crate) rate: f64,
    /// Place in the batch of the first row.
    pub(crate) first_row: usize,
}

impl Prepared {
    /// The rows `places`, `steps` a row of the batch, as tensors.
    pub(crate) fn batch(
        &self,
        inputs: &Inputs,
        places: &[u32],
        steps: usize,
        hide: Option<Hide>,
        device: &Device,
    ) -> Batch {
        let (p, c) = (inputs.numbers, inputs.slots.len());
        let hidden = |place: usize, column: usize| {
            hide.filter(|hide| 0.0 < hide.rate).is_some_and(|hide| {
                let cell = (hide.first_row * steps + place) * (p + c) + column;
                hide.key.uniform(cell as u64) < hide.rate
            })
        };
        let mut numbers = Vec::with_capacity(places.len() * p);
        let mut missing = Vec::with_capacity(places.len() * p);
        let mut slots = Vec::with_capacity(places.len() * c);
        let firsts = firsts(&inputs.slots);
        for (place, &row) in places.iter().enumerate() {
            if row == NO_ROW {
                numbers.extend(std::iter::repeat_n(0.0, p));
                missing.extend(std::iter::repeat_n(1.0, p));
                slots.extend(firsts.iter().map(|&first| first + i64::from(MISSING_SLOT)));
                continue;
            }
            let row = row as usize;
            for (j, &x) in self.numbers[row * p..(row + 1) * p].iter().enumerate() {
                let gone = x.is_nan() || hidden(place, j);
                numbers.push(if gone { 0.0 } else { x });
                missing.push(f32::from(u8::from(gone)));
            }
            let cells = self.slots[row * c..(row + 1) * c].iter().zip(&firsts).enumerate();
            slots.extend(cells.map(|(j, (&slot, &first))| {
                if hidden(place, p + j) { first + i64::from(UNKNOWN_SLOT) } else { slot.into() }
            }));
        }
        let table = |values| Tensor::from_data(TensorData::new(values, [places.len(), p]), device);
        let count = |places: &[u32]| places.iter().filter(|&&row| row != NO_ROW).count();
        Batch {
            rows: places.len() / steps,
            steps,
            numbers: table(numbers),
            missing: table(missing),
            slots: Tensor::from_data(TensorData::new(slots, [places.len() * c]), device),
            lengths: places.chunks(steps).map(count).collect(),
            vectors: None,
            device: device.clone(),
        }
    }
}

/// The first slot of each column.
fn firsts(slots: &[usize]) -> Vec<i64> {
    let mut first = 0;
    let place = |&slots: &usize| {
        first += slots as i64;
        first - slots as i64
    };
    slots.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use mm_core::{Column, Levels};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn normal_quantiles_are_the_known_ones() {
        // From tables of the normal distribution.
        for (p, z) in [(0.5, 0.0), (0.975, 1.959_963_984_540_054), (0.01, -2.326_347_874_040_841)] {
            assert!((normal_quantile(p) - z).abs() < 1e-8, "{p}");
        }
        assert!((normal_quantile(0.0) + WIDEST).abs() < 1e-9);
        assert!((normal_quantile(1.0) - WIDEST).abs() < 1e-9);
    }

    #[test]
    fn quantile_scaling_makes_a_skewed_column_normal() {
        let values: Vec<f32> = (0..3000).map(|i| (i as f32 / 300.0).exp()).collect();
        let prepared = {
            let frame = Frame::new(values, 1).expect("valid");
            Preparation::fit(&frame, Scaling::Quantile).apply(&frame)
        };
        let n = prepared.numbers.len() as f64;
        let mean = prepared.numbers.iter().map(|&z| f64::from(z)).sum::<f64>() / n;
        let square = prepared.numbers.iter().map(|&z| f64::from(z).powi(2)).sum::<f64>() / n;
        // The ends are at ±5.2, which adds 2 · 27 / 3000 to the variance, and knots are straight between.
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((square - 1.0).abs() < 0.03, "{square}");
    }

    #[test]
    fn missing_constant_and_empty_columns_do_no_harm() {
        let rows = [1.0, f32::NAN, 5.0, 1.0, f32::NAN, f32::NAN];
        let frame = Frame::new(rows.to_vec(), 3).expect("valid");
        for scaling in [Scaling::Quantile, Scaling::Standard] {
            let preparation = Preparation::fit(&frame, scaling);
            let prepared = preparation.apply(&frame);
            for row in prepared.numbers.chunks(3) {
                assert_eq!(row[0], 0.0, "{scaling:?}: a constant says nothing");
                assert!(row[1].is_nan(), "{scaling:?}");
                assert!(row[2].is_nan() || row[2] == 0.0, "{scaling:?}: one value says nothing");
            }
            let inputs = preparation.inputs(1, Some((4, &prepared)));
            assert!(inputs.edges.iter().all(|e| e.len() == 2 && e[0] < e[1]), "{inputs:?}");
        }
    }

    #[test]
    fn levels_without_rows_are_unknown_and_missing_is_apart() {
        let levels = Levels::new(["a", "b", "c"]).expect("distinct");
        let schema = Schema::new([Column::categorical("k", levels)]).expect("distinct");
        let frame = |codes: Vec<f32>| Frame::with_schema(codes, schema.clone()).expect("valid");
        let preparation = Preparation::fit(&frame(vec![2.0, 0.0, f32::NAN]), Scaling::Standard);
        let prepared = preparation.apply(&frame(vec![0.0, 1.0, 2.0, f32::NAN, Frame::UNKNOWN]));
        assert_eq!(prepared.slots, [2, 1, 3, 0, 1]);
        assert_eq!(preparation.inputs(1, None).slots, [4]);
        assert!(preparation.is_sound(&schema));
        assert!(!preparation.is_sound(&Schema::numeric(1)));
    }

    proptest! {
        /// A larger number never comes out smaller, and all come out within the limits.
        #[test]
        fn scaling_keeps_the_order(mut values in prop::collection::vec(-1e30_f32..1e30, 1..200)) {
            let frame = Frame::new(values.clone(), 1).expect("valid");
            for scaling in [Scaling::Quantile, Scaling::Standard] {
                let preparation = Preparation::fit(&frame, scaling);
                prop_assert!(preparation.is_sound(frame.schema()));
                values.sort_unstable_by(f32::total_cmp);
                let sorted = Frame::new(values.clone(), 1).expect("valid");
                let prepared = preparation.apply(&sorted);
                prop_assert!(prepared.numbers.windows(2).all(|w| w[0] <= w[1]));
                prop_assert!(prepared.numbers.iter().all(|z| z.abs() <= FARTHEST as f32));
            }
        }
    }
}
