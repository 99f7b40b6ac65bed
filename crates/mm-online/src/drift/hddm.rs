//! HDDM: means compared by Hoeffding's bound (A) or by McDiarmid's on weighted means (W).
//!
//! Source: Frías-Blanco, del Campo-Ávila, Ramos-Jiménez, Morales-Bueno, Ortiz-Díaz &
//! Caballero-Mota (2015), "Online and non-parametric drift detection methods based on Hoeffding's
//! bounds"; defaults as in River 0.26.

use mm_core::ParamError;
use serde::{Deserialize, Serialize};

use crate::drift::{Change, Detector, Mean, check_confidence, is_usable};

/// Parameters of [`HddmA`].
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `drift` | 0.001 | (0, 1) | chance of a false drift at one cut |
/// | `warning` | 0.005 | (0, 1) | chance of a false warning at one cut |
/// | `two_sided` | false | | falling means count as well |
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the table says it")]
pub struct HddmAParams {
    pub drift: f64,
    pub warning: f64,
    pub two_sided: bool,
}

impl Default for HddmAParams {
    fn default() -> Self {
        Self { drift: 0.001, warning: 0.005, two_sided: false }
    }
}

impl HddmAParams {
    /// Checks the fields and makes the detector.
    pub fn build(self) -> Result<HddmA, ParamError> {
        check_confidence("drift", self.drift)?;
        check_confidence("warning", self.warning)?;
        Ok(HddmA::new(self))
    }
}

/// Compares the mean of all with the mean up to the cut at which it was lowest, or highest: numbers
/// in [0, 1], others are clamped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HddmA {
    params: HddmAParams,
    all: Mean,
    least: Mean,
    most: Mean,
    has_drifted: bool,
}

impl Default for HddmA {
    fn default() -> Self {
        Self::new(HddmAParams::default())
    }
}

impl HddmA {
    fn new(params: HddmAParams) -> Self {
        let none = Mean::default();
        Self { params, all: none, least: none, most: none, has_drifted: false }
    }

    /// Hoeffding's bound on the difference between a part and the whole.
    fn differs(&self, part: Mean, gap: f64, confidence: f64) -> bool {
        if part.n == self.all.n {
            return false;
        }
        let m = (self.all.n - part.n) / part.n * (1.0 / self.all.n);
        (m / 2.0 * (2.0 / confidence).ln()).sqrt() <= gap
    }
}

impl Detector for HddmA {
    fn update(&mut self, x: f64) -> Change {
        if !is_usable(x) {
            return Change::None;
        }
        if self.has_drifted {
            self.reset();
        }
        self.all.update(x.clamp(0.0, 1.0));
        if self.least.n == 0.0 {
            (self.least, self.most) = (self.all, self.all);
        }
        let log = (1.0 / self.params.drift).ln();
        let bound = |n: f64| (1.0 / (2.0 * n) * log).sqrt();
        let all = self.all;
        if all.mean + bound(all.n) <= self.least.mean + bound(self.least.n) {
            self.least = all;
        }
        if self.most.mean - bound(self.most.n) <= all.mean - bound(all.n) {
            self.most = all;
        }
        let rise = all.mean - self.least.mean;
        let fall = self.most.mean - all.mean;
        let found = |confidence: f64| {
            self.differs(self.least, rise, confidence)
                || self.params.two_sided && self.differs(self.most, fall, confidence)
        };
        let change = if found(self.params.drift) {
            Change::Drift
        } else if found(self.params.warning) {
            Change::Warning
        } else {
            Change::None
        };
        self.has_drifted = change == Change::Drift;
        change
    }

    fn reset(&mut self) {
        *self = Self::new(self.params);
    }
}

/// Parameters of [`HddmW`].
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `drift` | 0.001 | (0, 1) | chance of a false drift at one cut |
/// | `warning` | 0.005 | (0, 1) | chance of a false warning at one cut |
/// | `recent` | 0.05 | (0, 1) | weight of the latest number in the means |
/// | `two_sided` | false | | falling means count as well |
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the table says it")]
pub struct HddmWParams {
    pub drift: f64,
    pub warning: f64,
    pub recent: f64,
    pub two_sided: bool,
}

impl Default for HddmWParams {
    fn default() -> Self {
        Self { drift: 0.001, warning: 0.005, recent: 0.05, two_sided: false }
    }
}

impl HddmWParams {
    /// Checks the fields and makes the detector.
    pub fn build(self) -> Result<HddmW, ParamError> {
        check_confidence("drift", self.drift)?;
        check_confidence("warning", self.warning)?;
        check_confidence("recent", self.recent)?;
        Ok(HddmW::new(self))
    }
}

/// Compares exponentially weighted means before and after the cut at which the bound was lowest, or
/// highest: numbers in [0, 1], others are clamped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HddmW {
    params: HddmWParams,
    all: Recent,
    rise: Cut,
    fall: Cut,
    has_drifted: bool,
}

/// An exponentially weighted mean with the sum of its squared weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Recent {
    mean: Option<f64>,
    squares: f64,
}

impl Recent {
    const EMPTY: Self = Self { mean: None, squares: 1.0 };

    fn update(&mut self, x: f64, recent: f64) {
        self.mean = Some(self.mean.map_or(x, |mean| recent * x + (1.0 - recent) * mean));
        self.squares = recent * recent + (1.0 - recent).powi(2) * self.squares;
    }
}

/// The numbers before the best cut and those after it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Cut {
    bound: f64, // Of the mean before, up or down.
    before: Recent,
    after: Recent,
}

impl Cut {
    fn new(bound: f64) -> Self {
        Self { bound, before: Recent::EMPTY, after: Recent::EMPTY }
    }

    /// McDiarmid's bound on the difference of the means; `sign` is 1 for a rise, −1 for a fall.
    fn differs(&self, sign: f64, confidence: f64) -> bool {
        let (Some(before), Some(after)) = (self.before.mean, self.after.mean) else {
            return false;
        };
        let squares = self.before.squares + self.after.squares;
        (squares * (1.0 / confidence).ln() / 2.0).sqrt() < sign * (after - before)
    }
}

impl Default for HddmW {
    fn default() -> Self {
        Self::new(HddmWParams::default())
    }
}

impl HddmW {
    fn new(params: HddmWParams) -> Self {
        let (rise, fall) = (Cut::new(f64::INFINITY), Cut::new(f64::NEG_INFINITY));
        Self { params, all: Recent::EMPTY, rise, fall, has_drifted: false }
    }
}

impl Detector for HddmW {
    fn update(&mut self, x: f64) -> Change {
        if !is_usable(x) {
            return Change::None;
        }
        if self.has_drifted {
            self.reset();
        }
        let x = x.clamp(0.0, 1.0);
        let HddmWParams { drift, warning, recent, two_sided } = self.params;
        self.all.update(x, recent);
        let mean = self.all.mean.unwrap_or(x);
        let width = (self.all.squares * (1.0 / drift).ln() / 2.0).sqrt();
        let move_cut = |cut: &mut Cut, bound: f64, is_better: bool| {
            if is_better {
                *cut = Cut { bound, before: self.all, after: Recent::EMPTY };
            } else {
                cut.after.update(x, recent);
            }
        };
        let (low, high) = (mean + width, mean - width);
        let (lower, higher) = (low < self.rise.bound, self.fall.bound < high);
        move_cut(&mut self.rise, low, lower);
        move_cut(&mut self.fall, high, higher);
        let found = |confidence: f64| {
            self.rise.differs(1.0, confidence) || two_sided && self.fall.differs(-1.0, confidence)
        };
        let change = if found(drift) {
            Change::Drift
        } else if found(warning) {
            Change::Warning
        } else {
            Change::None
        };
        self.has_drifted = change == Change::Drift;
        change
    }

    fn reset(&mut self) {
        *self = Self::new(self.params);
    }
}
