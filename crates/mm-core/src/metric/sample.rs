//! Truth and predictions that were checked against one another.

use crate::{
    data::{Matrix, Task, Truth},
    error::{Error, Result},
    metric::sum,
};

/// How far outside [0, 1] a probability may lie: `f32` models and weighted means of probabilities
/// overshoot by some units in the last place of an `f32`, 6·10⁻⁸.
const PROBABILITY_SLACK: f64 = 1e-6;

/// A truth with predictions that fit it.
///
/// Invariants: as many rows as targets and weights, at least one; the columns of the task; finite
/// predictions; targets in the task's domain; weights finite, not negative, and not all 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample<'a> {
    truth: Truth<'a>,
    predicted: &'a Matrix,
    total: f64,
}

/// A row of positive weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) index: usize,
    pub(super) truth: f64,
    pub(super) predicted: &'a [f64],
    pub(super) weight: f64,
}

impl<'a> Sample<'a> {
    pub(super) fn new(truth: Truth<'a>, predicted: &'a Matrix) -> Result<Self> {
        let (n_rows, n_cols) = (truth.target.len(), n_outputs(truth.task)?);
        if (predicted.n_rows(), predicted.n_cols()) != (n_rows, n_cols) {
            let got = shape(predicted.n_rows(), predicted.n_cols());
            return Err(Error::data("predictions", shape(n_rows, n_cols), got));
        }
        if n_rows == 0 {
            return Err(Error::data("predictions", "at least 1 row", "no rows"));
        }
        check_target(truth)?;
        let total = check_weights(truth)?;
        let sample = Self { truth, predicted, total };
        sample.ensure(f64::is_finite, "a finite number")?;
        Ok(sample)
    }

    /// Refuses predictions that cannot be probabilities.
    pub(super) fn ensure_probabilities(&self) -> Result<()> {
        let range = -PROBABILITY_SLACK..=1.0 + PROBABILITY_SLACK;
        self.ensure(|p| range.contains(&p), "a probability in [0, 1]")
    }

    /// Whether the one column is the probability of class 1 of two.
    pub(super) fn is_binary(&self) -> bool {
        matches!(self.truth.task, Task::Binary(_))
    }

    /// The classes' names in code order; empty for regression.
    pub(super) fn class_names(&self) -> &'a [String] {
        self.truth.task.class_names().unwrap_or_default()
    }

    /// The sum of the weights, above 0.
    pub(super) fn total(&self) -> f64 {
        self.total
    }

    /// The rows that count, in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'a>> + use<'a> {
        let Self { truth, predicted, .. } = *self;
        let weight = move |i: usize| truth.weights.map_or(1.0, |w| w[i]);
        let row = move |index: usize| Row {
            index,
            truth: truth.target[index],
            predicted: predicted.row(index),
            weight: weight(index),
        };
        (0..truth.target.len()).map(row).filter(|row| 0.0 < row.weight)
    }

    /// The weighted mean of `loss` over the rows.
    pub(super) fn mean(&self, loss: impl Fn(Row<'a>) -> f64) -> f64 {
        sum::total(self.rows().map(|row| row.weight * loss(row))) / self.total
    }

    fn ensure(&self, ok: impl Fn(f64) -> bool, expected: &str) -> Result<()> {
        let Some(at) = self.predicted.values().iter().position(|&p| !ok(p)) else {
            return Ok(());
        };
        let (row, column) = (at / self.predicted.n_cols(), at % self.predicted.n_cols());
        let got = self.predicted.values()[at];
        match self.class_names().get(column) {
            Some(class) if !self.is_binary() => {
                Err(Error::data(format_args!("prediction of `{class}`, row {row}"), expected, got))
            }
            _ => Err(Error::data(format_args!("prediction, row {row}"), expected, got)),
        }
    }
}

impl Row<'_> {
    /// The true class's code.
    pub(super) fn class(&self) -> usize {
        self.truth as usize
    }

    /// The class that the probabilities decide for: the likeliest, and of equally likely ones the
    /// first.
    pub(super) fn decision(&self) -> usize {
        match *self.predicted {
            [positive] => usize::from(0.5 < positive),
            ref all => (1..all.len()).fold(0, |best, c| if all[best] < all[c] { c } else { best }),
        }
    }

    /// The predicted probability of class `c`.
    pub(super) fn probability(&self, c: usize) -> f64 {
        match *self.predicted {
            [positive] if c == 0 => 1.0 - positive,
            [positive] => positive,
            ref all => all[c],
        }
    }
}

/// Number of columns of a prediction for `task`; a list of classes that is too short is refused.
fn n_outputs(task: &Task) -> Result<usize> {
    match (task, task.n_classes()) {
        (Task::Regression, _) | (Task::Binary(_), 2) => Ok(1),
        (Task::Binary(_), k) => Err(Error::data("classes of a binary task", 2, k)),
        (Task::Multiclass(_), k) if k < 2 => {
            Err(Error::data("classes of a multiclass task", "at least 2", k))
        }
        (Task::Multiclass(_), k) => Ok(k),
    }
}

fn check_target(truth: Truth<'_>) -> Result<()> {
    let n_classes = truth.task.n_classes();
    let is_code = |y: f64| 0.0 <= y && y < n_classes as f64 && y.fract() == 0.0;
    let (ok, expected): (&dyn Fn(f64) -> bool, _) = match truth.task {
        Task::Regression => (&f64::is_finite, "a finite number".to_owned()),
        _ => (&is_code, format!("a class code from 0 to {}", n_classes - 1)),
    };
    match truth.target.iter().position(|&y| !ok(y)) {
        None => Ok(()),
        Some(i) => Err(Error::data(format_args!("target, row {i}"), expected, truth.target[i])),
    }
}

/// The total of the weights, which are finite, not negative, and not all 0.
fn check_weights(truth: Truth<'_>) -> Result<f64> {
    let Some(weights) = truth.weights else {
        return Ok(truth.target.len() as f64);
    };
    if weights.len() != truth.target.len() {
        return Err(Error::data("length of the weights", truth.target.len(), weights.len()));
    }
    if let Some(i) = weights.iter().position(|w| !(0.0 <= *w && w.is_finite())) {
        let place = format_args!("weight, row {i}");
        return Err(Error::data(place, "a finite number ≥ 0", weights[i]));
    }
    let total = sum::total(weights.iter().copied());
    if 0.0 < total && total.is_finite() {
        Ok(total)
    } else {
        let got = if total == 0.0 { "all 0" } else { "an infinite sum" };
        Err(Error::data("weights", "at least one above 0, and a finite sum", got))
    }
}

fn shape(n_rows: usize, n_cols: usize) -> String {
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    format!("{n_rows} row{} × {n_cols} column{}", plural(n_rows), plural(n_cols))
}
