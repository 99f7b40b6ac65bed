//! Drift without labels: features and predictions of the last rows against those of a reference.
//!
//! Labels come late or never; that the inputs have changed can be seen at once. Column by column,
//! the predictions among them:
//!
//! | figure | of | is |
//! | --- | --- | --- |
//! | `psi` | every column | population stability index Σ (*aᵢ* − *eᵢ*) ln(*aᵢ* / *eᵢ*) of the shares of bins (deciles of the reference, or levels; missing cells are a bin), each at least 10⁻⁴ |
//! | `ks`, `ks_p` | numeric columns | the largest distance *D* of the two empirical distributions, and its chance without a drift (Kolmogorov's limit with Stephens's correction) |
//! | `missing` | every column | shares of missing cells, then and now |
//! | `unknown` | categorical columns | shares of levels that the schema lacks, then and now |
//!
//! A column has drifted if its PSI reaches `psi`, or its KS distance reaches `distance` and is
//! significant at level `significance` divided by the number of columns, or the share of missing or
//! of unknown cells moved by more than `share`.
//!
//! The reference is what the model was fitted to, or else the first rows of the stream.
//!
//! Cost: O(*p*) a row, and O(*pw* log *w*) every `every` rows for *p* columns and *w* rows.
//!
//! # Sources
//!
//! Siddiqi (2006), *Credit Risk Scorecards* (PSI and its customary bound of 0.25); Stephens (1970),
//! "Use of the Kolmogorov–Smirnov, Cramér–von Mises and related statistics without extensive
//! tables".

use mm_core::{Error, Frame, Matrix, ParamError, Result, Signature};
use serde::{Deserialize, Serialize};

use crate::bytes::{Decoder, Encoder};

/// What counts as a drift of a column.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `reference` | 1000 | ≥ 10 | first rows of the stream that make the reference, if none is given |
/// | `window` | 1000 | ≥ 10 | last rows that are compared with it |
/// | `every` | 1000 | ≥ 1 | rows between two looks |
/// | `bins` | 10 | 2 to 100 | bins of a numeric column |
/// | `psi` | 0.25 | > 0 | population stability index from which a column has drifted |
/// | `distance` | 0.1 | [0, 1] | KS distance below which no drift matters |
/// | `significance` | 0.001 | (0, 1) | chance of a false alarm of the KS test, over all columns of a look |
/// | `share` | 0.05 | (0, 1] | change of the share of missing or unknown cells |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MonitorParams {
    /// First rows of the stream that make the reference.
    pub reference: usize,
    /// Last rows that are compared with it.
    pub window: usize,
    /// Rows between two looks.
    pub every: u64,
    /// Bins of a numeric column.
    pub bins: usize,
    /// Population stability index from which a column has drifted.
    pub psi: f64,
    /// KS distance below which no drift matters.
    pub distance: f64,
    /// Chance of a false alarm of the KS test.
    pub significance: f64,
    /// Change of the share of missing or unknown cells.
    pub share: f64,
}

impl Default for MonitorParams {
    fn default() -> Self {
        Self {
            reference: 1000,
            window: 1000,
            every: 1000,
            bins: 10,
            psi: 0.25,
            distance: 0.1,
            significance: 0.001,
            share: 0.05,
        }
    }
}

impl MonitorParams {
    /// Checks every field.
    pub fn check(&self) -> Result<(), ParamError> {
        ParamError::ensure(10 <= self.reference, "monitor.reference", self.reference, "≥ 10")?;
        ParamError::ensure(10 <= self.window, "monitor.window", self.window, "≥ 10")?;
        ParamError::ensure(1 <= self.every, "monitor.every", self.every, "≥ 1")?;
        let ok = 2 <= self.bins && self.bins <= 100;
        ParamError::ensure(ok, "monitor.bins", self.bins, "2 to 100")?;
        ParamError::ensure(0.0 < self.psi, "monitor.psi", self.psi, "a number > 0")?;
        let ok = 0.0 <= self.distance && self.distance <= 1.0;
        ParamError::ensure(ok, "monitor.distance", self.distance, "a number in [0, 1]")?;
        let ok = 0.0 < self.significance && self.significance < 1.0;
        ParamError::ensure(ok, "monitor.significance", self.significance, "a number in (0, 1)")?;
        let ok = 0.0 < self.share && self.share <= 1.0;
        ParamError::ensure(ok, "monitor.share", self.share, "a number in (0, 1]")
    }
}

/// How far one column is from its reference.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ColumnDrift {
    /// The feature's name, or `prediction 0`, `prediction 1`, …
    pub name: String,
    /// Population stability index, ≥ 0.
    pub psi: f64,
    /// KS distance in [0, 1]; `None` for categorical columns and where a side has no values.
    pub ks: Option<f64>,
    /// Chance of such a distance without a drift.
    pub ks_p: Option<f64>,
    /// Share of missing cells, then and now.
    pub missing: (f64, f64),
    /// Share of unknown levels, then and now; 0 for numeric columns.
    pub unknown: (f64, f64),
    /// Whether this counts as a drift.
    pub has_drifted: bool,
}

/// Compares the last rows of a stream with a reference.
#[derive(Debug, Clone)]
pub struct Monitor {
    params: MonitorParams,
    columns: Vec<(String, Option<usize>)>, // Name, and number of levels if categorical.
    reference: Option<Vec<Distribution>>,  // One a column.
    rows: Vec<f32>, // Row-major: those that will be the reference, or a ring of the last ones.
    oldest: usize,  // Row of the ring that is replaced next.
    seen: u64,
    alarms: u64,
}

/// One column of some rows.
#[derive(Debug, Clone, PartialEq)]
struct Distribution {
    sorted: Vec<f32>, // Known and present values; codes, if categorical.
    missing: usize,
    unknown: usize,
}

impl Distribution {
    fn of(column: impl Iterator<Item = f32>, is_categorical: bool) -> Self {
        let (mut missing, mut unknown) = (0, 0);
        let mut sorted: Vec<f32> = column
            .filter(|&x| {
                let is_missing = x.is_nan();
                let is_unknown = is_categorical && x == Frame::UNKNOWN;
                missing += usize::from(is_missing);
                unknown += usize::from(is_unknown);
                !is_missing && !is_unknown
            })
            .collect();
        sorted.sort_unstable_by(f32::total_cmp);
        Self { sorted, missing, unknown }
    }

    fn n(&self) -> usize {
        self.sorted.len() + self.missing + self.unknown
    }

    /// Cells at or below each of ascending `edges`, differenced: one count a bin.
    fn counts(&self, edges: &[f32]) -> Vec<usize> {
        let below: Vec<usize> =
            edges.iter().map(|edge| self.sorted.partition_point(|x| x <= edge)).collect();
        let starts = [0].into_iter().chain(below.iter().copied());
        let ends = below.iter().copied().chain([self.sorted.len()]);
        let mut counts: Vec<usize> = starts.zip(ends).map(|(start, end)| end - start).collect();
        counts.extend([self.missing, self.unknown]);
        counts
    }

    /// Upper edges of bins: quantiles, or every level but the last.
    fn edges(&self, bins: usize, n_levels: Option<usize>) -> Vec<f32> {
        if let Some(n) = n_levels {
            return (0..n.saturating_sub(1)).map(|code| code as f32).collect();
        }
        let n = self.sorted.len();
        let mut edges: Vec<f32> =
            (1..bins).filter_map(|i| self.sorted.get(i * n / bins).copied()).collect();
        edges.dedup();
        edges
    }
}

impl Monitor {
    /// A monitor that takes the first rows of the stream for its reference.
    pub fn new(params: MonitorParams, signature: &Signature) -> Result<Self> {
        params.check()?;
        let features = signature.schema.columns().iter();
        let features = features.map(|c| (c.name.clone(), c.levels().map(mm_core::Levels::len)));
        let outputs = (0..signature.n_outputs()).map(|k| (format!("prediction {k}"), None));
        let columns = features.chain(outputs).collect();
        let (reference, rows) = (None, Vec::new());
        Ok(Self { params, columns, reference, rows, oldest: 0, seen: 0, alarms: 0 })
    }

    /// A monitor with a reference: rows that the model was fitted to, and what it predicts there.
    pub fn with_reference(
        params: MonitorParams,
        signature: &Signature,
        x: &Frame,
        predicted: &Matrix,
    ) -> Result<Self> {
        let mut new = Self::new(params, signature)?;
        let x = signature.admit(x)?;
        if x.n_rows() == 0 {
            return Err(Error::data("rows of the reference", "at least 1", "none"));
        }
        let (n, k) = (predicted.n_rows(), predicted.n_cols());
        if (n, k) != (x.n_rows(), signature.n_outputs()) {
            let expected = format!("{} × {}", x.n_rows(), signature.n_outputs());
            return Err(Error::data(
                "predictions of the reference",
                expected,
                format!("{n} × {k}"),
            ));
        }
        for (row, predicted) in x.rows().zip(predicted.rows()) {
            new.rows.extend_from_slice(row);
            new.rows.extend(predicted.iter().map(|&p| p as f32));
        }
        new.rebase();
        Ok(new)
    }

    /// Takes in a row and its prediction. Whether it was time for a look, and a column has drifted.
    ///
    /// Rows of another width are left out.
    pub fn push(&mut self, x: &[f32], predicted: &[f64]) -> bool {
        let width = self.columns.len();
        if x.len() + predicted.len() != width {
            return false;
        }
        self.seen += 1;
        let room =
            if self.reference.is_some() { self.params.window } else { self.params.reference };
        let cells = x.iter().copied().chain(predicted.iter().map(|&p| p as f32));
        if self.rows.len() < room * width {
            self.rows.extend(cells);
        } else {
            let first = self.oldest * width;
            self.rows[first..first + width].iter_mut().zip(cells).for_each(|(to, x)| *to = x);
            self.oldest = (self.oldest + 1) % room;
        }
        if self.reference.is_none() {
            if self.rows.len() == room * width {
                self.rebase();
            }
            return false;
        }
        let is_time = self.seen.is_multiple_of(self.params.every);
        let is_full = self.rows.len() == room * width;
        let alarm = is_time && is_full && self.look().iter().any(|column| column.has_drifted);
        self.alarms += u64::from(alarm);
        alarm
    }

    /// Takes the last rows for the reference from now on, as after a retraining.
    pub fn rebase(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        self.reference = Some(self.distributions());
        self.rows.clear();
        self.oldest = 0;
    }

    /// Looks that found a drift.
    pub fn alarms(&self) -> u64 {
        self.alarms
    }

    /// Every column against its reference; nothing before there is one and rows to compare.
    pub fn look(&self) -> Vec<ColumnDrift> {
        let Some(reference) = &self.reference else { return Vec::new() };
        if self.rows.is_empty() {
            return Vec::new();
        }
        let now = self.distributions();
        let columns = self.columns.iter().zip(reference.iter().zip(&now));
        columns
            .map(|((name, levels), (then, now))| self.compare(name, *levels, then, now))
            .collect()
    }

    fn distributions(&self) -> Vec<Distribution> {
        let width = self.columns.len();
        let of = |(j, (_, levels)): (usize, &(String, Option<usize>))| {
            let column = self.rows.iter().skip(j).step_by(width).copied();
            Distribution::of(column, levels.is_some())
        };
        self.columns.iter().enumerate().map(of).collect()
    }

    fn compare(
        &self,
        name: &str,
        levels: Option<usize>,
        then: &Distribution,
        now: &Distribution,
    ) -> ColumnDrift {
        let edges = then.edges(self.params.bins, levels);
        let share = |count: usize, all: &Distribution| count as f64 / all.n() as f64;
        let psi = (then.counts(&edges).into_iter().zip(now.counts(&edges)))
            .map(|(e, a)| (share(e, then).max(1e-4), share(a, now).max(1e-4)))
            .map(|(e, a)| (a - e) * (a / e).ln())
            .sum();
        let has_values = !then.sorted.is_empty() && !now.sorted.is_empty();
        let ks = (levels.is_none() && has_values).then(|| distance(&then.sorted, &now.sorted));
        let ks_p = ks.map(|d| chance(d, then.sorted.len(), now.sorted.len()));
        let missing = (share(then.missing, then), share(now.missing, now));
        let unknown = (share(then.unknown, then), share(now.unknown, now));
        let moved = |(then, now): (f64, f64)| self.params.share < (now - then).abs();
        let significance = self.params.significance / self.columns.len() as f64;
        let is_far = ks.is_some_and(|d| self.params.distance <= d)
            && ks_p.is_some_and(|p| p <= significance);
        let has_drifted = self.params.psi <= psi || is_far || moved(missing) || moved(unknown);
        ColumnDrift { name: name.to_owned(), psi, ks, ks_p, missing, unknown, has_drifted }
    }

    pub(crate) fn encode(&self, to: &mut Encoder) {
        to.u64(self.seen);
        to.u64(self.alarms);
        to.u64(self.oldest as u64);
        to.f32s(&self.rows);
        to.flag(self.reference.is_some());
        for column in self.reference.iter().flatten() {
            to.f32s(&column.sorted);
            to.u64(column.missing as u64);
            to.u64(column.unknown as u64);
        }
    }

    pub(crate) fn decode(
        from: &mut Decoder<'_>,
        params: MonitorParams,
        signature: &Signature,
    ) -> Result<Self> {
        let mut new = Self::new(params, signature)?;
        (new.seen, new.alarms, new.oldest) = (from.u64()?, from.u64()?, from.u64()? as usize);
        new.rows = from.f32s()?;
        if from.flag()? {
            let column = |_: &(String, Option<usize>)| {
                let sorted = from.f32s()?;
                let (missing, unknown) = (from.u64()? as usize, from.u64()? as usize);
                Ok(Distribution { sorted, missing, unknown })
            };
            new.reference = Some(new.columns.iter().map(column).collect::<Result<_>>()?);
        }
        let (width, n) = (new.columns.len(), new.rows.len());
        if n.is_multiple_of(width) && (new.oldest == 0 || new.oldest * width < n) {
            return Ok(new);
        }
        Err(from.damaged("whole rows", n))
    }
}

/// The largest distance of two empirical distributions, given in ascending order.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let (mut i, mut j, mut largest) = (0, 0, 0.0_f64);
    while i < a.len() && j < b.len() {
        let x = a[i].min(b[j]);
        while a.get(i).is_some_and(|y| *y <= x) {
            i += 1;
        }
        while b.get(j).is_some_and(|y| *y <= x) {
            j += 1;
        }
        largest = largest.max((i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
    }
    largest
}

/// The chance of a distance of at least `d` between samples of one distribution.
fn chance(d: f64, n: usize, m: usize) -> f64 {
    let n = (n as f64 * m as f64 / (n as f64 + m as f64)).sqrt();
    let x = (n + 0.12 + 0.11 / n) * d;
    if x < 0.2 {
        return 1.0; // The sum below needs many terms there, and differs from 1 by 1e-12.
    }
    let term = |k: i32| {
        let sign = if k % 2 == 1 { 2.0 } else { -2.0 };
        sign * (-2.0 * f64::from(k * k) * x * x).exp()
    };
    (1..=100).map(term).sum::<f64>().clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use mm_core::{Column, Levels, Schema, Task};
    use proptest::prelude::*;

    use super::*;

    fn signature() -> Signature {
        let levels = Levels::new(["a", "b", "c"]).expect("distinct");
        let columns = [Column::numeric("x"), Column::categorical("c", levels)];
        let task = Task::classes(["no", "yes"]).expect("two");
        Signature::new(Schema::new(columns).expect("distinct"), task)
    }

    fn uniform(i: u64) -> f32 {
        let mut z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1_u64 << 24) as f32
    }

    /// The columns that drifted in the first look after `change` rows.
    fn drifted(change: impl Fn(u64, &mut [f32; 2], &mut f64)) -> Vec<String> {
        let mut monitor = Monitor::new(MonitorParams::default(), &signature()).expect("valid");
        for i in 0..4000 {
            let mut row = [uniform(i), (uniform(i + 10_000) * 3.0).floor()];
            let mut p = f64::from(uniform(i + 20_000));
            if 2000 <= i {
                change(i, &mut row, &mut p);
            }
            let alarm = monitor.push(&row, &[p]);
            assert!(!alarm || 2000 < i, "an alarm without a drift, at row {i}");
        }
        let drifted = monitor.look().into_iter().filter(|column| column.has_drifted);
        drifted.map(|column| column.name).collect()
    }

    #[test]
    fn each_kind_of_drift_is_seen_in_its_column() {
        assert_eq!(drifted(|_, _, _| {}), [""; 0]);
        assert_eq!(drifted(|_, row, _| row[0] += 0.3), ["x"]);
        assert_eq!(
            drifted(|i, row, _| if i % 4 == 0 {
                row[0] = f32::NAN;
            }),
            ["x"]
        );
        assert_eq!(
            drifted(|i, row, _| if i % 9 == 0 {
                row[1] = Frame::UNKNOWN;
            }),
            ["c"]
        );
        assert_eq!(drifted(|_, row, _| row[1] = 2.0), ["c"]);
        assert_eq!(drifted(|_, _, p| *p = p.sqrt()), ["prediction 0"]);
    }

    #[test]
    fn a_reference_can_be_given_and_replaced() {
        let signature = signature();
        let n = 500;
        let cells = (0..n).flat_map(|i| [uniform(i), 0.0]).collect();
        let x = Frame::with_schema(cells, signature.schema.clone()).expect("valid");
        let p = Matrix::new(vec![0.5; n as usize], 1).expect("column");
        let params = MonitorParams { window: 100, every: 100, ..MonitorParams::default() };
        let mut monitor =
            Monitor::with_reference(params.clone(), &signature, &x, &p).expect("fits");
        let alarms: Vec<bool> =
            (0..200).map(|i| monitor.push(&[uniform(i) + 5.0, 0.0], &[0.5])).collect();
        assert_eq!(alarms.iter().filter(|&&alarm| alarm).count(), 2);
        monitor.rebase();
        assert!((0..200).all(|i| !monitor.push(&[uniform(i + 7) + 5.0, 0.0], &[0.5])));
        assert!(Monitor::with_reference(params, &signature, &x.slice(0, 9), &p).is_err());
    }

    #[test]
    fn distances_and_chances_are_those_of_the_textbook() {
        assert_eq!(distance(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), 0.0);
        assert_eq!(distance(&[1.0, 2.0], &[3.0, 4.0]), 1.0);
        assert_eq!(distance(&[1.0, 1.0, 2.0, 2.0], &[1.0, 2.0, 2.0, 2.0]), 0.25);
        // Critical value of the limit at 5 %: 1.3581.
        let large = 1_000_000;
        let d = 1.3581 / (large as f64 / 2.0).sqrt();
        assert!((chance(d, large, large) - 0.05).abs() < 1e-4);
        assert_eq!(chance(0.0, 10, 10), 1.0);
    }

    proptest! {
        /// The distance is the largest one over all thresholds.
        #[test]
        fn the_distance_is_that_of_the_definition(
            mut a in prop::collection::vec(-3_i8..3, 1..20),
            mut b in prop::collection::vec(-3_i8..3, 1..20),
        ) {
            a.sort_unstable();
            b.sort_unstable();
            let share = |all: &[i8], x: i8| all.iter().filter(|&&y| y <= x).count() as f64 / all.len() as f64;
            let expected = (-3..3).map(|x| (share(&a, x) - share(&b, x)).abs()).fold(0.0, f64::max);
            let f = |all: &[i8]| all.iter().map(|&x| f32::from(x)).collect::<Vec<_>>();
            prop_assert!((distance(&f(&a), &f(&b)) - expected).abs() < 1e-12);
        }
    }
}
