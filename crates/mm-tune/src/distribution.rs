//! What a parameter may be: Optuna's distributions, as it stores them.

use std::fmt;

use mm_core::{Error, FloatRange, IntRange, ParamError, Result};

use crate::json::Json;

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

impl TryFrom<&Json> for Choice {
    type Error = Error;

    fn try_from(json: &Json) -> Result<Self> {
        Ok(match json {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::Bool(*b),
            Json::Int(i) => Self::Int(*i),
            Json::Float(x) => Self::Float(*x),
            Json::Text(text) => Self::Text(text.clone()),
            Json::Array(_) | Json::Object(_) => {
                return Err(Error::data("a choice", "null, a flag, a number, or a text", json));
            }
        })
    }
}

impl From<&str> for Choice {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<f64> for Choice {
    fn from(x: f64) -> Self {
        Self::Float(x)
    }
}

impl From<i64> for Choice {
    fn from(i: i64) -> Self {
        Self::Int(i)
    }
}

impl From<bool> for Choice {
    fn from(b: bool) -> Self {
        Self::Bool(b)
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

/// Optuna's form.
impl From<&Distribution> for Json {
    fn from(distribution: &Distribution) -> Self {
        let object = |fields: Vec<(&str, Self)>| {
            Self::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
        };
        let (name, attributes) = match distribution {
            Distribution::Float(FloatRange { low, high, step, log }) => (
                "FloatDistribution",
                object(vec![
                    ("low", Self::Float(*low)),
                    ("high", Self::Float(*high)),
                    ("step", step.map_or(Self::Null, Self::Float)),
                    ("log", Self::Bool(*log)),
                ]),
            ),
            Distribution::Int(IntRange { low, high, step, log }) => (
                "IntDistribution",
                object(vec![
                    ("low", Self::Int(*low)),
                    ("high", Self::Int(*high)),
                    ("step", Self::Int(*step)),
                    ("log", Self::Bool(*log)),
                ]),
            ),
            Distribution::Categorical(choices) => (
                "CategoricalDistribution",
                object(vec![("choices", Self::Array(choices.iter().map(Self::from).collect()))]),
            ),
        };
        object(vec![("name", name.into()), ("attributes", attributes)])
    }
}

/// From Optuna's form: that of 3.0 and later, the names before (`UniformDistribution`, …), and the
/// abbreviated one (`{"type": "float", …}`).
impl TryFrom<&Json> for Distribution {
    type Error = Error;

    fn try_from(json: &Json) -> Result<Self> {
        let bad = |expected: &str| Error::corrupt("a distribution", expected, json);
        let name = json.get("name").or_else(|| json.get("type")).and_then(Json::as_str);
        let fields = json.get("attributes").unwrap_or(json);
        let float = |key| fields.get(key).and_then(Json::as_f64);
        let int = |key| {
            let number = fields.get(key)?;
            number.as_i64().or_else(|| number.as_f64().map(|x| x as i64))
        };
        let flag = matches!(fields.get("log"), Some(Json::Bool(true)));
        let floats = |step: Option<f64>, log| {
            let (low, high) = (float("low")?, float("high")?);
            Some(Self::Float(FloatRange { low, high, step, log }))
        };
        let ints = |log| {
            let (low, high) = (int("low")?, int("high")?);
            Some(Self::Int(IntRange { low, high, step: int("step").unwrap_or(1), log }))
        };
        let found = match name.ok_or_else(|| bad("a name"))? {
            "FloatDistribution" | "float" => floats(float("step"), flag),
            "UniformDistribution" => floats(None, false),
            "LogUniformDistribution" => floats(None, true),
            "DiscreteUniformDistribution" => floats(float("q"), false),
            "IntDistribution" | "int" => ints(flag),
            "IntUniformDistribution" => ints(false),
            "IntLogUniformDistribution" => ints(true),
            "CategoricalDistribution" | "categorical" => {
                let choices = fields.get("choices").and_then(Json::as_array);
                let choices = choices.map(|c| c.iter().map(Choice::try_from).collect());
                choices.transpose()?.map(Self::Categorical)
            }
            _ => return Err(bad("a name that Optuna has")),
        };
        found.ok_or_else(|| bad("its bounds or choices"))?.checked("a stored parameter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Distribution> {
        Distribution::try_from(&Json::parse(text)?)
    }

    #[test]
    fn every_form_that_optuna_wrote_is_read() {
        let float = |step, log| Distribution::Float(FloatRange { low: 1.0, high: 3.0, step, log });
        let int = |step, log| Distribution::Int(IntRange { low: 1, high: 9, step, log });
        for (text, expected) in [
            (
                r#"{"name":"FloatDistribution","attributes":{"step":null,"low":1.0,"high":3.0,"log":false}}"#,
                float(None, false),
            ),
            (
                r#"{"name":"UniformDistribution","attributes":{"low":1,"high":3}}"#,
                float(None, false),
            ),
            (
                r#"{"name":"LogUniformDistribution","attributes":{"low":1.0,"high":3.0}}"#,
                float(None, true),
            ),
            (
                r#"{"name":"DiscreteUniformDistribution","attributes":{"low":1.0,"high":3.4,"q":0.5}}"#,
                float(Some(0.5), false),
            ),
            (
                r#"{"name":"IntDistribution","attributes":{"log":false,"step":2,"low":1,"high":10}}"#,
                int(2, false),
            ),
            (
                r#"{"name":"IntUniformDistribution","attributes":{"low":1,"high":9,"step":1}}"#,
                int(1, false),
            ),
            (
                r#"{"name":"IntLogUniformDistribution","attributes":{"low":1,"high":9}}"#,
                int(1, true),
            ),
            (r#"{"type":"float","low":1.0,"high":3.0}"#, float(None, false)),
        ] {
            assert_eq!(read(text).expect(text), expected, "{text}");
        }
    }

    #[test]
    fn stored_distributions_read_back() {
        let choices = vec![Choice::Null, Choice::Bool(true), Choice::Float(f64::NAN), "é".into()];
        for distribution in [
            Distribution::Float(FloatRange::log(1e-8, 10.0)),
            Distribution::Float(FloatRange::new(0.3, 1.0).step(0.05)),
            Distribution::Int(IntRange::new(-5, 5)),
            Distribution::Categorical(choices),
        ] {
            let stored = distribution.checked("x").expect("sound");
            let text = Json::from(&stored).to_string();
            assert_eq!(read(&text).expect("own form"), stored, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for text in [
            "{}",
            r#"{"name":"Other","attributes":{}}"#,
            r#"{"name":"IntDistribution","attributes":{"low":1}}"#,
            r#"{"name":"CategoricalDistribution","attributes":{"choices":[]}}"#,
            r#"{"name":"FloatDistribution","attributes":{"low":2.0,"high":1.0,"log":false}}"#,
            r#"{"name":"FloatDistribution","attributes":{"low":0.0,"high":1.0,"log":true}}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn choices_compare_as_in_python() {
        assert_eq!(Choice::Int(1), Choice::Bool(true));
        assert_eq!(Choice::Float(1.0), Choice::Int(1));
        assert_eq!(Choice::Float(f64::NAN), Choice::Float(f64::NAN));
        assert_ne!(Choice::Null, Choice::Bool(false));
        assert_ne!(Choice::from("1"), Choice::Int(1));
    }
}
