//! ADWIN: a window that is as long as the mean has been the same.
//!
//! # Idea
//!
//! The window's numbers are kept as buckets of 1, 2, 4, … of them, at most `max_buckets` of each
//! size, as sums with variances. Every `clock` numbers each border between buckets cuts the window
//! in two parts of *n*₀ and *n*₁; with variance σ² of the whole window of *W* numbers the means
//! differ if
//!
//! ```text
//! |μ₀ − μ₁| > √(2 m σ² δ') + ⅔ m δ',    m = 1/(n₀ − s + 1) + 1/(n₁ − s + 1),    δ' = ln(2 ln W / δ)
//! ```
//!
//! where *s* is `min_part`. While some border tells, the oldest bucket is dropped. O(log *W*) memory;
//! O(1) amortised time a number between checks, O(log *W*) a check.
//!
//! # Sources
//!
//! Bifet & Gavaldà (2007), "Learning from time-changing data with adaptive windowing"; the bound
//! with the minimal part is that of River 0.26. With `restart` the detector throws the whole window
//! away after a drift, as River's wrapper does, and is equal to it to the last bit of its state.

use mm_core::ParamError;
use serde::{Deserialize, Serialize};

use crate::drift::{Change, Detector, Direction, check_confidence, is_usable};

/// Parameters of [`Adwin`]; plain data, checked by [`build`](AdwinParams::build).
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `delta` | 0.002 | (0, 1) | bound on false alarms: smaller is slower and surer |
/// | `clock` | 32 | ≥ 1 | numbers between checks |
/// | `max_buckets` | 5 | 1–64 | buckets of one size: more is finer and dearer |
/// | `min_part` | 5 | ≥ 1 | smallest part that is compared |
/// | `grace` | 10 | any | no check in a window not longer than this |
/// | `direction` | both | | which changes are reported; the window shrinks for both |
/// | `restart` | false | | after a drift forget everything, as River does |
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the table says it")]
pub struct AdwinParams {
    pub delta: f64,
    pub clock: u32,
    pub max_buckets: u32,
    pub min_part: u32,
    pub grace: u32,
    pub direction: Direction,
    pub restart: bool,
}

impl Default for AdwinParams {
    fn default() -> Self {
        Self {
            delta: 0.002,
            clock: 32,
            max_buckets: 5,
            min_part: 5,
            grace: 10,
            direction: Direction::Both,
            restart: false,
        }
    }
}

impl AdwinParams {
    /// Checks the fields and makes the detector.
    pub fn build(self) -> Result<Adwin, ParamError> {
        check_confidence("delta", self.delta)?;
        ParamError::ensure(1 <= self.clock, "clock", self.clock, "at least 1")?;
        ParamError::ensure(1 <= self.min_part, "min_part", self.min_part, "at least 1")?;
        let ok = 1 <= self.max_buckets && self.max_buckets <= 64;
        ParamError::ensure(ok, "max_buckets", self.max_buckets, "from 1 to 64")?;
        Ok(Adwin::new(self))
    }
}

/// The adaptive window. See the module's text for the idea; O(log *W*) memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adwin {
    params: AdwinParams,
    levels: Vec<Vec<Bucket>>, // Level i: buckets of 2^i numbers, oldest first.
    width: f64,
    total: f64,
    variance: f64, // Sum of squared deviations from the mean.
    ticks: u32,    // Since the last check.
    has_drifted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Bucket {
    total: f64,
    variance: f64,
}

impl Default for Adwin {
    fn default() -> Self {
        Self::new(AdwinParams::default())
    }
}

impl Adwin {
    fn new(params: AdwinParams) -> Self {
        let levels = vec![Vec::new()];
        let (width, total, variance) = (0.0, 0.0, 0.0);
        Self { params, levels, width, total, variance, ticks: 0, has_drifted: false }
    }

    /// How many numbers the window holds.
    pub fn width(&self) -> f64 {
        self.width
    }

    /// The mean of the window; 0 if it is empty.
    pub fn mean(&self) -> f64 {
        if self.width == 0.0 { 0.0 } else { self.total / self.width }
    }

    /// The population variance of the window; 0 if it is empty.
    pub fn variance(&self) -> f64 {
        if self.width == 0.0 { 0.0 } else { self.variance / self.width }
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        let buckets = self.levels.iter().map(|level| level.capacity() * size_of::<Bucket>());
        self.levels.capacity() * size_of::<Vec<Bucket>>() + buckets.sum::<usize>()
    }

    /// Whether a state read from outside is one that [`update`](Detector::update) can go on from.
    pub(crate) fn is_valid(&self) -> bool {
        let most = self.params.max_buckets as usize;
        let sizes = self.levels.iter().enumerate().map(|(i, level)| level.len() as f64 * pow2(i));
        self.params.build().is_ok()
            && !self.levels.is_empty()
            && self.levels.len() <= 64
            && self.levels.iter().all(|level| level.len() <= most)
            && sizes.sum::<f64>() == self.width
    }

    fn insert(&mut self, x: f64) {
        self.width += 1.0;
        if 1.0 < self.width {
            let before = self.width - 1.0;
            let gap = x - self.total / before;
            self.variance += before * gap * gap / self.width;
        }
        self.total += x;
        self.levels[0].push(Bucket { total: x, variance: 0.0 });
        let most = self.params.max_buckets as usize;
        let (mut i, mut size) = (0, 1.0);
        while most < self.levels[i].len() {
            let [old, new] = [self.levels[i][0], self.levels[i][1]];
            self.levels[i].drain(..2);
            let gap = old.total / size - new.total / size;
            let merged = Bucket {
                total: old.total + new.total,
                variance: old.variance + new.variance + size * 0.5 * gap * gap,
            };
            if i + 1 == self.levels.len() {
                self.levels.push(Vec::with_capacity(most + 1));
            }
            self.levels[i + 1].push(merged);
            (i, size) = (i + 1, size * 2.0);
        }
    }

    /// How the mean after some border differs from that before, if one tells.
    fn difference(&self) -> Option<f64> {
        let least = f64::from(self.params.min_part);
        let confidence = (2.0 * self.width.ln() / self.params.delta).ln();
        let spread = 2.0 * (self.variance / self.width).max(0.0) * confidence;
        let (mut n0, mut total0) = (0.0, 0.0);
        for (i, level) in self.levels.iter().enumerate().rev() {
            let size = pow2(i);
            let borders = if i == 0 { level.len().saturating_sub(1) } else { level.len() };
            for bucket in &level[..borders] {
                n0 += size;
                total0 += bucket.total;
                let n1 = self.width - n0;
                if n0 < least || n1 < least {
                    continue;
                }
                let m = 1.0 / (n0 - least + 1.0) + 1.0 / (n1 - least + 1.0);
                let gap = (self.total - total0) / n1 - total0 / n0;
                let beyond = gap.abs() - 2.0 / 3.0 * confidence * m;
                if 0.0 < beyond && spread * m < beyond * beyond {
                    return Some(gap);
                }
            }
        }
        None
    }

    fn drop_oldest(&mut self) {
        let last = self.levels.len() - 1;
        let size = pow2(last);
        let bucket = self.levels[last].remove(0);
        self.width -= size;
        self.total -= bucket.total;
        let gap = bucket.total / size - self.total / self.width;
        let between = size * self.width * gap * gap / (size + self.width);
        self.variance -= bucket.variance + between;
        while 1 < self.levels.len() && self.levels.last().is_some_and(Vec::is_empty) {
            self.levels.pop();
        }
    }
}

/// The numbers in a bucket of level `i`.
fn pow2(i: usize) -> f64 {
    (i as f64).exp2()
}

impl Detector for Adwin {
    fn update(&mut self, x: f64) -> Change {
        if !is_usable(x) {
            return Change::None;
        }
        if self.has_drifted && self.params.restart {
            self.reset();
        }
        self.insert(x);
        self.ticks += 1;
        self.has_drifted = false;
        if self.ticks < self.params.clock {
            return Change::None;
        }
        self.ticks = 0;
        if self.width <= f64::from(self.params.grace) {
            return Change::None;
        }
        while let Some(gap) = self.difference() {
            self.drop_oldest();
            self.has_drifted |= match self.params.direction {
                Direction::Both => true,
                Direction::Up => 0.0 < gap,
                Direction::Down => gap < 0.0,
            };
        }
        if self.has_drifted { Change::Drift } else { Change::None }
    }

    fn reset(&mut self) {
        *self = Self::new(self.params);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::river::detected;

    #[test]
    fn with_restart_drifts_and_states_are_those_of_river() {
        for (name, clock) in [("adwin_levels", 32), ("adwin_bits", 32), ("adwin_bits_every_row", 1)]
        {
            let params = AdwinParams { clock, restart: true, ..Default::default() };
            let mut adwin = params.build().expect("valid");
            let (stream, river) = detected(name);
            let mut drifts = Vec::new();
            let mut states = river.states.iter().peekable();
            for (i, &x) in stream.iter().enumerate() {
                if adwin.update(x) == Change::Drift {
                    drifts.push(i);
                }
                if let Some(state) = states.next_if(|state| state.0 == i) {
                    assert_eq!((adwin.width, adwin.total), (state.1, state.2), "{name}, {i}");
                    // The sum of squares, which both keep, is divided by the width here.
                    let gap = (adwin.variance - state.3).abs();
                    assert!(gap < 1e-12 * state.3.max(1.0), "{name}, {i}: {}", adwin.variance);
                }
            }
            assert_eq!(drifts, river.drifts, "{name}");
        }
    }

    #[test]
    fn the_window_of_the_new_regime_is_kept() {
        let mut adwin = Adwin::default();
        let mut drifts = 0;
        for i in 0..4000 {
            let x = if i < 2000 { 0.0 } else { 1.0 };
            drifts += usize::from(adwin.update(x) == Change::Drift);
        }
        assert!(0 < drifts);
        assert!(1900.0 < adwin.width() && adwin.width() < 2100.0, "{}", adwin.width());
        assert!(0.98 < adwin.mean());
    }

    #[test]
    fn a_one_sided_window_reports_its_side() {
        for (direction, expected) in
            [(Direction::Both, true), (Direction::Up, false), (Direction::Down, true)]
        {
            let params = AdwinParams { direction, ..Default::default() };
            let mut adwin = params.build().expect("valid");
            let mut any = false;
            for i in 0..4000 {
                any |= adwin.update(if i < 2000 { 1.0 } else { 0.0 }) == Change::Drift;
            }
            assert_eq!(any, expected, "{direction:?}");
            assert!(adwin.mean() < 0.05, "the window follows whatever is reported");
        }
    }

    #[test]
    fn every_edge_of_the_domains_is_checked() {
        let check = |edit: &dyn Fn(&mut AdwinParams), name: &str| {
            let mut params = AdwinParams::default();
            edit(&mut params);
            assert_eq!(params.build().expect_err(name).name, name);
        };
        for bad in [f64::NAN, 0.0, 1.0] {
            check(&|p| p.delta = bad, "delta");
        }
        check(&|p| p.clock = 0, "clock");
        check(&|p| p.max_buckets = 65, "max_buckets");
        check(&|p| p.min_part = 0, "min_part");
    }

    proptest! {
        /// The buckets hold the window: their sums are its sum, their sizes its width, and the
        /// variance is that of its last numbers.
        #[test]
        fn the_window_is_the_last_numbers(
            stream in prop::collection::vec(-5.0_f64..5.0, 1..600),
        ) {
            let mut adwin = Adwin::default();
            for &x in &stream {
                adwin.update(x);
            }
            let window = &stream[stream.len() - adwin.width() as usize..];
            let n = window.len() as f64;
            let mean = window.iter().sum::<f64>() / n;
            let variance = window.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            // Some hundred roundings of sums below 3000.
            prop_assert!((adwin.mean() - mean).abs() < 1e-9);
            prop_assert!((adwin.variance() - variance).abs() < 1e-8);
            let sizes = adwin.levels.iter().enumerate().map(|(i, l)| l.len() << i);
            prop_assert_eq!(sizes.sum::<usize>(), window.len());
        }
    }
}
