//! EDDM: distances between errors that become shorter than they have been.
//!
//! Source: Baena-García, del Campo-Ávila, Fidalgo, Bifet, Gavaldà & Morales-Bueno (2006), "Early
//! drift detection method"; defaults as in River 0.26.

use mm_core::ParamError;
use serde::{Deserialize, Serialize};

use crate::drift::{Change, Detector, is_usable};

/// Parameters of [`Eddm`].
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `min_rows` | 30 | any | rows, and errors, before the first test |
/// | `warning` | 0.95 | (0, 1] | share of the longest distance below which it warns |
/// | `drift` | 0.9 | (0, `warning`] | share below which it is a drift |
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the table says it")]
pub struct EddmParams {
    pub min_rows: u32,
    pub warning: f64,
    pub drift: f64,
}

impl Default for EddmParams {
    fn default() -> Self {
        Self { min_rows: 30, warning: 0.95, drift: 0.9 }
    }
}

impl EddmParams {
    /// Checks the fields and makes the detector.
    pub fn build(self) -> Result<Eddm, ParamError> {
        let Self { warning, drift, .. } = self;
        ParamError::ensure(0.0 < warning && warning <= 1.0, "warning", warning, "> 0, at most 1")?;
        let ok = 0.0 < drift && drift <= warning;
        ParamError::ensure(ok, "drift", drift, "> 0, at most `warning`")?;
        Ok(Eddm::new(self))
    }
}

/// The early drift detection method: takes 1 for an error and anything else for a hit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Eddm {
    params: EddmParams,
    rows: f64,
    last_error: f64,
    errors: f64,
    mean: f64,    // Of the distances between errors.
    squares: f64, // Sum of their squared deviations.
    longest: f64,
    last: Change,
}

impl Default for Eddm {
    fn default() -> Self {
        Self::new(EddmParams::default())
    }
}

impl Eddm {
    fn new(params: EddmParams) -> Self {
        let (rows, last_error, errors, mean, squares) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let (longest, last) = (-1.0, Change::None);
        Self { params, rows, last_error, errors, mean, squares, longest, last }
    }
}

impl Detector for Eddm {
    fn update(&mut self, x: f64) -> Change {
        if !is_usable(x) {
            return Change::None;
        }
        if self.last == Change::Drift {
            self.reset();
        }
        self.rows += 1.0;
        if x != 1.0 {
            return self.last; // A warning lasts until the next error, as in River.
        }
        self.errors += 1.0;
        let distance = self.rows - self.last_error;
        self.last_error = self.rows;
        let gap = distance - self.mean;
        self.mean += gap / self.errors;
        self.squares += gap * (distance - self.mean);
        let min_rows = f64::from(self.params.min_rows);
        if self.rows <= min_rows {
            return self.last;
        }
        let variance = if 1.0 < self.errors { self.squares / (self.errors - 1.0) } else { 0.0 };
        let level = self.mean + 2.0 * variance.max(0.0).sqrt();
        if self.longest < level {
            self.longest = level;
        } else if min_rows < self.errors {
            let share = level / self.longest;
            self.last = if share < self.params.drift {
                Change::Drift
            } else if share < self.params.warning {
                Change::Warning
            } else {
                Change::None
            };
        }
        self.last
    }

    fn reset(&mut self) {
        *self = Self::new(self.params);
    }
}
