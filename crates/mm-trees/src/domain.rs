//! The domains of hyper-parameters that the engines' params have in common. Each check is phrased
//! positively, so that a NaN fails.

use std::fmt::Display;

use mm_core::ParamError;

type Checked = Result<(), ParamError>;

/// A whole number in [`low`, `high`].
pub(crate) fn whole<T: Copy + PartialOrd + Display>(name: &str, x: T, low: T, high: T) -> Checked {
    ParamError::ensure(low <= x && x <= high, name, x, format!("{low} to {high}"))
}

/// (0, ∞).
pub(crate) fn positive(name: &str, x: f64) -> Checked {
    ParamError::ensure(0.0 < x && x.is_finite(), name, x, "a finite number > 0")
}

/// [0, ∞).
pub(crate) fn not_negative(name: &str, x: f64) -> Checked {
    ParamError::ensure(0.0 <= x && x.is_finite(), name, x, "a finite number ≥ 0")
}

/// [0, 1].
pub(crate) fn unit(name: &str, x: f64) -> Checked {
    ParamError::ensure((0.0..=1.0).contains(&x), name, x, "a number in [0, 1]")
}

/// (0, 1).
pub(crate) fn open_unit(name: &str, x: f64) -> Checked {
    ParamError::ensure(0.0 < x && x < 1.0, name, x, "a number in (0, 1)")
}

/// (0, 1].
pub(crate) fn share(name: &str, x: f64) -> Checked {
    ParamError::ensure(0.0 < x && x <= 1.0, name, x, "a number in (0, 1]")
}

#[cfg(any(feature = "lightgbm", feature = "xgboost"))]
/// [1, 2): powers of the mean to which a Tweedie variance may be proportional.
pub(crate) fn tweedie_power(name: &str, x: f64) -> Checked {
    ParamError::ensure((1.0..2.0).contains(&x), name, x, "a number in [1, 2)")
}

#[cfg(any(feature = "lightgbm", feature = "xgboost"))]
/// An extra parameter, whose own name in the engine is `known`, that nothing else says: `covered`
/// holds the names of those that something does, each with what that is.
pub(crate) fn not_covered(
    key: &str,
    value: &str,
    known: &str,
    covered: &[(&str, &str)],
) -> Checked {
    match covered.iter().find(|(name, _)| *name == known) {
        None => Ok(()),
        Some((_, field)) => {
            Err(ParamError::new(format!("extra.{key}"), value, format!("{field} in its place")))
        }
    }
}
