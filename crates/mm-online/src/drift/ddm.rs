//! DDM: an error rate that leaves its lowest level by several deviations.
//!
//! Source: Gama, Medas, Castillo & Rodrigues (2004), "Learning with drift detection"; defaults as in
//! River 0.26.

use mm_core::ParamError;
use serde::{Deserialize, Serialize};

use crate::drift::{Change, Detector, Mean, is_usable};

/// Parameters of [`Ddm`].
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `min_rows` | 30 | any | rows before the first test |
/// | `warning` | 2 | > 0 | deviations above the lowest rate that warn |
/// | `drift` | 3 | ≥ `warning` | deviations above the lowest rate that are a drift |
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the table says it")]
pub struct DdmParams {
    pub min_rows: u32,
    pub warning: f64,
    pub drift: f64,
}

impl Default for DdmParams {
    fn default() -> Self {
        Self { min_rows: 30, warning: 2.0, drift: 3.0 }
    }
}

impl DdmParams {
    /// Checks the fields and makes the detector.
    pub fn build(self) -> Result<Ddm, ParamError> {
        let Self { warning, drift, .. } = self;
        let ok = 0.0 < warning && warning.is_finite();
        ParamError::ensure(ok, "warning", warning, "a finite number > 0")?;
        let ok = warning <= drift && drift.is_finite();
        ParamError::ensure(ok, "drift", drift, "a finite number, at least `warning`")?;
        Ok(Ddm::new(self))
    }
}

/// The drift detection method: takes 1 for an error and 0 for a hit; others are clamped to [0, 1].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ddm {
    params: DdmParams,
    rate: Mean,
    least: Option<(f64, f64)>, // The lowest rate with its deviation.
    has_drifted: bool,
}

impl Default for Ddm {
    fn default() -> Self {
        Self::new(DdmParams::default())
    }
}

impl Ddm {
    fn new(params: DdmParams) -> Self {
        Self { params, rate: Mean::default(), least: None, has_drifted: false }
    }
}

impl Detector for Ddm {
    fn update(&mut self, x: f64) -> Change {
        if !is_usable(x) {
            return Change::None;
        }
        if self.has_drifted {
            self.reset();
        }
        self.rate.update(x.clamp(0.0, 1.0));
        let Mean { n, mean: rate } = self.rate;
        if n <= f64::from(self.params.min_rows) {
            return Change::None;
        }
        let deviation = (rate * (1.0 - rate)).max(0.0).sqrt() / n.sqrt();
        let level = rate + deviation;
        let (least_rate, least_deviation) = match self.least {
            Some((rate, deviation)) if rate + deviation < level => (rate, deviation),
            _ => (rate, deviation),
        };
        self.least = Some((least_rate, least_deviation));
        self.has_drifted = least_rate + self.params.drift * least_deviation < level;
        if self.has_drifted {
            Change::Drift
        } else if least_rate + self.params.warning * least_deviation < level {
            Change::Warning
        } else {
            Change::None
        }
    }

    fn reset(&mut self) {
        *self = Self::new(self.params);
    }
}
