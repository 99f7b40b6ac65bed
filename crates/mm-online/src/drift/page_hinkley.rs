//! Page–Hinkley: cumulative sums of what exceeds the running mean.
//!
//! Source: Page (1954), "Continuous inspection schemes"; defaults and fading sums as in River 0.26.

use mm_core::ParamError;
use serde::{Deserialize, Serialize};

use crate::drift::{Change, Detector, Direction, Mean, is_usable};

/// Parameters of [`PageHinkley`].
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `min_rows` | 30 | any | no drift among the first numbers |
/// | `delta` | 0.005 | ≥ 0 | change of the mean that is tolerated |
/// | `threshold` | 50 | > 0 | excess of the sum that is a drift |
/// | `fade` | 0.9999 | (0, 1] | factor on the sums before each number |
/// | `direction` | both | | which changes are reported |
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the table says it")]
pub struct PageHinkleyParams {
    pub min_rows: u32,
    pub delta: f64,
    pub threshold: f64,
    pub fade: f64,
    pub direction: Direction,
}

impl Default for PageHinkleyParams {
    fn default() -> Self {
        let direction = Direction::Both;
        Self { min_rows: 30, delta: 0.005, threshold: 50.0, fade: 1.0 - 0.0001, direction }
    }
}

impl PageHinkleyParams {
    /// Checks the fields and makes the detector.
    pub fn build(self) -> Result<PageHinkley, ParamError> {
        let Self { delta, threshold, fade, .. } = self;
        let finite = |ok: bool, x: f64| ok && x.is_finite();
        ParamError::ensure(finite(0.0 <= delta, delta), "delta", delta, "a finite number ≥ 0")?;
        let ok = finite(0.0 < threshold, threshold);
        ParamError::ensure(ok, "threshold", threshold, "a finite number > 0")?;
        ParamError::ensure(0.0 < fade && fade <= 1.0, "fade", fade, "> 0, at most 1")?;
        Ok(PageHinkley::new(self))
    }
}

/// The test of Page and Hinkley.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PageHinkley {
    params: PageHinkleyParams,
    mean: Mean,
    rise: f64,
    fall: f64,
    least_rise: f64,
    most_fall: f64,
    has_drifted: bool,
}

impl Default for PageHinkley {
    fn default() -> Self {
        Self::new(PageHinkleyParams::default())
    }
}

impl PageHinkley {
    fn new(params: PageHinkleyParams) -> Self {
        let (least_rise, most_fall) = (f64::INFINITY, -1.0);
        let mean = Mean::default();
        Self { params, mean, rise: 0.0, fall: 0.0, least_rise, most_fall, has_drifted: false }
    }
}

impl Detector for PageHinkley {
    fn update(&mut self, x: f64) -> Change {
        if !is_usable(x) {
            return Change::None;
        }
        if self.has_drifted {
            self.reset();
        }
        let PageHinkleyParams { min_rows, delta, threshold, fade, direction } = self.params;
        self.mean.update(x);
        let gap = x - self.mean.mean;
        self.rise = fade * self.rise + gap - delta;
        self.fall = fade * self.fall + gap + delta;
        self.least_rise = self.least_rise.min(self.rise);
        self.most_fall = self.most_fall.max(self.fall);
        if f64::from(min_rows) <= self.mean.n {
            let up = threshold < self.rise - self.least_rise;
            let down = threshold < self.most_fall - self.fall;
            self.has_drifted = match direction {
                Direction::Both => up || down,
                Direction::Up => up,
                Direction::Down => down,
            };
        }
        if self.has_drifted { Change::Drift } else { Change::None }
    }

    fn reset(&mut self) {
        *self = Self::new(self.params);
    }
}
