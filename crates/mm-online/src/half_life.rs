//! How fast the past is forgotten.

use mm_core::{Error, ParamError, Result};
use serde::{Deserialize, Serialize};

/// The age at which what was learnt counts half.
///
/// | variant | unit |
/// | --- | --- |
/// | `Never` (default) | everything counts for ever |
/// | `Rows` | rows learnt, > 0 |
/// | `Seconds` | by the rows' timestamps, > 0; a row without one is refused, and time that goes backwards forgets nothing |
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HalfLife {
    /// Nothing is forgotten.
    #[default]
    Never,
    /// By count.
    Rows(f64),
    /// By time.
    Seconds(f64),
}

impl HalfLife {
    /// Checks the domain; called by the `build` of params that have a half-life.
    pub fn check(self, name: &str) -> Result<(), ParamError> {
        match self {
            Self::Never => Ok(()),
            Self::Rows(x) | Self::Seconds(x) => {
                ParamError::ensure(0.0 < x && x.is_finite(), name, x, "a finite number > 0")
            }
        }
    }
}

/// Turns rows into the factor by which the past ages before each of them.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Clock {
    last: Option<i64>, // ns since 1970-01-01 UTC of the latest row.
    per_row: f64,      // 0 until the first row asks.
}

impl Clock {
    /// The factor before a row of this time, in [0, 1]: an error where it needs a time and has none.
    pub(crate) fn decay(self, half_life: HalfLife, time: Option<i64>) -> Result<f64> {
        match half_life {
            HalfLife::Never => Ok(1.0),
            HalfLife::Rows(rows) => {
                let known = 0.0 < self.per_row;
                Ok(if known { self.per_row } else { (-1.0 / rows).exp2() })
            }
            HalfLife::Seconds(seconds) => {
                let Some(now) = time else {
                    return Err(Error::data("time", "one, for a half-life in seconds", "none"));
                };
                let passed = self.last.map_or(0, |last| now.saturating_sub(last).max(0));
                Ok((-(passed as f64) * 1e-9 / seconds).exp2())
            }
        }
    }

    /// Notes that a row was learnt.
    pub(crate) fn advance(&mut self, half_life: HalfLife, time: Option<i64>, decay: f64) {
        match half_life {
            HalfLife::Never => {}
            HalfLife::Rows(_) => self.per_row = decay,
            HalfLife::Seconds(_) => self.last = self.last.max(time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_life_by_time_halves_and_never_runs_backwards() {
        let (mut clock, half_life) = (Clock::default(), HalfLife::Seconds(10.0));
        let mut at = |seconds: i64| {
            let time = Some(seconds * 1_000_000_000);
            let decay = clock.decay(half_life, time).expect("has a time");
            clock.advance(half_life, time, decay);
            decay
        };
        assert_eq!(at(100), 1.0);
        assert_eq!(at(110), 0.5);
        assert_eq!(at(90), 1.0);
        assert_eq!(at(130), 0.25);
        assert!(Clock::default().decay(half_life, None).is_err());
        assert_eq!(Clock::default().decay(HalfLife::Rows(1.0), None).expect("by count"), 0.5);
        assert!(HalfLife::Rows(f64::NAN).check("half_life").is_err());
    }
}
