//! How good predictions are: weighted metrics that know which way is better.

use serde::{Deserialize, Serialize};

use crate::{
    data::{Matrix, Task, Truth},
    error::{Error, Result},
};

/// A measure of predictions against the truth. Every one respects row weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Metric {
    /// Mean negative log likelihood of the true class.
    LogLoss,
    /// Root of the mean squared error, in units of the target.
    Rmse,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Smaller is better.
    Minimize,
    /// Larger is better.
    Maximize,
}

impl Direction {
    /// Whether score `a` is strictly better than `b`; a NaN is never better.
    pub fn is_better(self, a: f64, b: f64) -> bool {
        match self {
            Self::Minimize => a < b || (b.is_nan() && !a.is_nan()),
            Self::Maximize => b < a || (b.is_nan() && !a.is_nan()),
        }
    }
}

impl Metric {
    /// The name in plans and reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LogLoss => "log_loss",
            Self::Rmse => "rmse",
        }
    }

    /// Which way is better.
    pub fn direction(&self) -> Direction {
        Direction::Minimize
    }

    /// The metric that judges a task when none was named: log loss, or RMSE for regression.
    pub fn default_for(task: &Task) -> Self {
        if matches!(task, Task::Regression) { Self::Rmse } else { Self::LogLoss }
    }

    /// The score of `predicted`, whose columns are those of [`Task::outputs`].
    pub fn score(&self, truth: Truth<'_>, predicted: &Matrix) -> Result<f64> {
        let _ = (truth, predicted);
        Err(Error::Cancelled)
    }
}
