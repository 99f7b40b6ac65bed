//! Search spaces: which values of a model's hyper-parameters are worth trying.
//!
//! A space is not a table but a function that draws: it asks a [`Suggest`] for one value after
//! another and fills the params. What it asks may depend on what it was given, so a space can be
//! conditional, and it yields typed params and not a map of strings (*define by run*, Akiba et al.
//! 2019). Who answers (a tuner, a random draw, a test) is none of its business.

use serde::Serialize;

use crate::error::{ParamError, Result};

/// Params, of a learner or of a combiner, that know where to look for better ones.
///
/// The space must contain [`Default::default`], for every size; whatever is drawn must
/// [`build`](crate::Params::build), or pass [`Combiner::check`](crate::Combiner::check); and a value is asked for under the dotted path of the field that it
/// decides (`tree.leaves`), so that who fixes a field can answer for it. All three are checked by
/// tests for the kinds of this workspace.
pub trait Search: Default + Serialize {
    /// Draws params from the space of that size.
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self>;

    /// Points of the space of that size that have done well together on many data sets, the most useful
    /// first: a search tries them after the defaults, which are not among them. None unless a kind has
    /// some; rounds among them are those of no particular data set.
    ///
    /// Such portfolios are those of Feurer et al., *Auto-Sklearn 2.0* (JMLR 2022).
    fn portfolio(size: SpaceSize) -> Vec<Self> {
        let _ = size;
        Vec::new()
    }
}

/// How much of a kind's parameters a search covers.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum SpaceSize {
    /// The two to four that matter most: for some 20 trials.
    Small,
    /// What experts tune: for some 50 to 200 trials.
    #[default]
    Medium,
    /// All that can help: for several hundred trials.
    Large,
}

/// Who answers the questions of a search space.
///
/// A name is asked once in a draw and always with the same kind of range; ranges may depend on
/// earlier answers.
pub trait Suggest {
    /// A float within `range`.
    fn float(&mut self, name: &str, range: FloatRange) -> Result<f64>;

    /// An integer within `range`.
    fn int(&mut self, name: &str, range: IntRange) -> Result<i64>;

    /// The index of one of `choices`.
    fn choose(&mut self, name: &str, choices: &[&str]) -> Result<usize>;

    /// A penalty or another float that may be off: from the scale of logarithms between `low` and
    /// `high`, of which the lowest decade counts as 0.
    fn float_or_zero(&mut self, name: &str, low: f64, high: f64) -> Result<f64> {
        let x = self.float(name, FloatRange::log(low, high))?;
        Ok(if x < 10.0 * low { 0.0 } else { x })
    }

    /// Yes or no.
    fn flag(&mut self, name: &str) -> Result<bool> {
        Ok(self.choose(name, &["false", "true"])? == 1)
    }
}

/// A closed range of floats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FloatRange {
    /// The least value.
    pub low: f64,
    /// The greatest value; within a step of it if there are steps.
    pub high: f64,
    /// The distance of admitted values from `low`, if only some are admitted.
    pub step: Option<f64>,
    /// Whether values are as likely per factor as they otherwise are per difference.
    pub log: bool,
}

impl FloatRange {
    /// All values from `low` to `high`.
    pub fn new(low: f64, high: f64) -> Self {
        Self { low, high, step: None, log: false }
    }

    /// All values from `low` to `high`, on the scale of logarithms.
    pub fn log(low: f64, high: f64) -> Self {
        Self { log: true, ..Self::new(low, high) }
    }

    /// Only `low`, `low + step`, … up to `high`.
    #[must_use]
    pub fn step(self, step: f64) -> Self {
        Self { step: Some(step), ..self }
    }

    /// Finite bounds in order, steps above 0 and not on a scale of logarithms, which need a bound
    /// above 0.
    pub fn check(&self, name: &str) -> Result<(), ParamError> {
        let Self { low, high, step, log } = *self;
        let ordered = low.is_finite() && high.is_finite() && low <= high;
        ParamError::ensure(ordered, name, format!("{low} to {high}"), "finite bounds, low ≤ high")?;
        ParamError::ensure(!log || 0.0 < low, name, low, "a low above 0 on a log scale")?;
        ParamError::ensure(!log || step.is_none(), name, "log with a step", "one of them")?;
        let step = step.unwrap_or(1.0);
        ParamError::ensure(step.is_finite() && 0.0 < step, name, step, "a step above 0")
    }
}

/// A closed range of integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntRange {
    /// The least value.
    pub low: i64,
    /// The greatest value; within a step of it.
    pub high: i64,
    /// The distance of admitted values from `low`, ≥ 1.
    pub step: i64,
    /// Whether values are as likely per factor as they otherwise are per difference.
    pub log: bool,
}

impl IntRange {
    /// All integers from `low` to `high`.
    pub fn new(low: i64, high: i64) -> Self {
        Self { low, high, step: 1, log: false }
    }

    /// All integers from `low` to `high`, on the scale of logarithms.
    pub fn log(low: i64, high: i64) -> Self {
        Self { log: true, ..Self::new(low, high) }
    }

    /// Only `low`, `low + step`, … up to `high`.
    #[must_use]
    pub fn step(self, step: i64) -> Self {
        Self { step, ..self }
    }

    /// Bounds in order, a step of at least 1, which is 1 on a scale of logarithms, which needs a
    /// bound of at least 1.
    pub fn check(&self, name: &str) -> Result<(), ParamError> {
        let Self { low, high, step, log } = *self;
        ParamError::ensure(low <= high, name, format!("{low} to {high}"), "low ≤ high")?;
        ParamError::ensure(1 <= step, name, step, "a step of at least 1")?;
        ParamError::ensure(!log || 1 <= low, name, low, "a low of at least 1 on a log scale")?;
        ParamError::ensure(!log || step == 1, name, step, "a step of 1 on a log scale")
    }
}
