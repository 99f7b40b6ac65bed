//! What a parameter may be: Optuna's distributions, as it stores them.

use std::fmt;

use mm_core::{Error, FloatRange, IntRange, ParamError, Result};

/// The admitted values of one parameter.
///
/// A value has two forms. The *external* one is what the user sees; the *internal* one is an `f64`,
/// which storages hold and samplers model: a float as it is, an integer as a float, a category as the
/// index of its choice.
#[derive(Debug, Clone, PartialEq)]
pub enum Distribution {
    /// Floats.
    Float(FloatRange),
    /// Integers.
    Int(IntRange),
    /// One of some choices.
    Categorical(Vec<Choice>),
}

/// One choice of a categorical parameter: what JSON can hold and Python can compare.
#[derive(Debug, Clone)]
pub enum Choice {
    /// Python's `None`.
    Null,
    /// Yes or no.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float; may be NaN or infinite.
    Float(f64),
    /// A text.
    Text(String),
}

/// As Python compares: `1 == 1.0 == True`. NaN equals itself here, as a choice among others.
impl PartialEq for Choice {
    fn eq(&self, other: &Self) -> bool {
        match (self.number(), other.number()) {
            (Some(a), Some(b)) => a == b || a.is_nan() && b.is_nan(),
            (None, None) => match (self, other) {
                (Self::Text(a), Self::Text(b)) => a == b,
                (Self::Null, Self::Null) => true,
                _ => false,
            },
            _ => false,
        }
    }
}

impl Choice {
    fn number(&self) -> Option<f64> {
        match *self {
            Self::Bool(b) => Some(f64::from(u8::from(b))),
            Self::Int(i) => Some(i as f64),
            Self::Float(x) => Some(x),
            Self::Null | Self::Text(_) => None,
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(b) => b.fmt(f),
            Self::Int(i) => i.fmt(f),
            Self::Float(x) => x.fmt(f),
            Self::Text(s) => s.fmt(f),
        }
    }
}

impl From<&str> for Choice {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Distribution {
    /// Checks the range and returns it in the form that is stored: the upper bound lowered to the
    /// last step.
    ///
    /// # Errors
    ///
    /// [`Error::Param`] under the parameter's name.
    pub fn checked(self, name: &str) -> Result<Self> {
        Ok(match self {
            Self::Float(range) => {
                range.check(name)?;
                let high = range.step.map_or(range.high, |step| {
                    let steps = ((range.high - range.low) / step + 1e-8).floor();
                    (range.low + steps * step).min(range.high)
                });
                Self::Float(FloatRange { high, ..range })
            }
            Self::Int(range) => {
                range.check(name)?;
                let width = range.high.abs_diff(range.low);
                let high = range.low.saturating_add_unsigned(width - width % range.step as u64);
                Self::Int(IntRange { high, ..range })
            }
            Self::Categorical(choices) => {
                ParamError::ensure(!choices.is_empty(), name, "no choices", "at least one")?;
                Self::Categorical(choices)
            }
        })
    }

    /// Whether only one value is admitted, which then is not sampled.
    pub fn is_single(&self) -> bool {
        match self {
            Self::Float(range) => range.low == range.high,
            Self::Int(range) => range.low == range.high,
            Self::Categorical(choices) => choices.len() == 1,
        }
    }

    /// Whether the internal value `x` is admitted. Steps are not looked at, as in Optuna.
    pub fn contains(&self, x: f64) -> bool {
        match self {
            Self::Float(range) => range.low <= x && x <= range.high,
            Self::Int(range) => range.low as f64 <= x && x <= range.high as f64,
            Self::Categorical(choices) => 0.0 <= x && x < choices.len() as f64 && x.fract() == 0.0,
        }
    }

    /// Refuses a distribution that a study cannot take for a parameter which had `earlier` before:
    /// another kind, a log scale or not, other choices. Numeric ranges may change.
    pub fn ensure_like(&self, earlier: &Self, name: &str) -> Result<()> {
        let alike = match (self, earlier) {
            (Self::Float(a), Self::Float(b)) => a.log == b.log,
            (Self::Int(a), Self::Int(b)) => a.log == b.log,
            (Self::Categorical(a), Self::Categorical(b)) => a == b,
            _ => false,
        };
        if alike {
            return Ok(());
        }
        let place = format!("parameter `{name}` of the study");
        Err(Error::data(place, format!("a distribution like {earlier}"), self))
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(FloatRange { low, high, step, log }) => {
                write!(f, "floats from {low} to {high}")?;
                match step {
                    Some(step) => write!(f, " by {step}"),
                    None if *log => f.write_str(" on a log scale"),
                    None => Ok(()),
                }
            }
            Self::Int(IntRange { low, high, step, log }) => {
                write!(f, "integers from {low} to {high}")?;
                match step {
                    1 if *log => f.write_str(" on a log scale"),
                    1 => Ok(()),
                    step => write!(f, " by {step}"),
                }
            }
            Self::Categorical(choices) => {
                let choices: Vec<String> = choices.iter().map(ToString::to_string).collect();
                write!(f, "one of [{}]", choices.join(", "))
            }
        }
    }
}
