//! The error of a weighted mean of members, made to be asked many times.
//!
//! Each member is turned once into a column that the metric sees, such as the probability of the
//! true class; the mean of members is the mean of their columns. Then one error costs one pass over
//! *n* numbers for most metrics, and O(*n*) on average for the area under the ROC curve. Metrics
//! without a path of their own are asked for as usual.

use std::cell::{Cell, RefCell};

use mm_core::{Dataset, Matrix, Member, Metric, Result, Task, Truth};

use crate::auc;

/// The error of weighted means of given members. Smaller is better: the loss, or 1 − score where
/// larger is better.
#[derive(Debug)]
pub(crate) struct Objective<'a> {
    columns: Vec<Vec<f64>>, // One a member.
    form: Form<'a>,
}

#[derive(Debug)]
enum Form<'a> {
    /// Columns: probabilities, negative rows first.
    Auc { n_negative: usize },
    /// Columns: the true class's probability.
    LogLoss(Mean<'a>),
    /// Columns: residuals, *k* a row.
    Squared { mean: Mean<'a>, k: usize, scale: Squared },
    /// Columns: residuals.
    Absolute(Mean<'a>),
    /// Columns: predictions, *k* a row.
    Other { truth: Truth<'a>, metric: Metric, k: usize },
}

#[derive(Debug)]
enum Squared {
    Root,
    Mean,
    /// Divided by the target's variance.
    Share(f64),
}

/// A weighted mean over rows.
#[derive(Debug)]
struct Mean<'a> {
    weights: Option<&'a [f64]>,
    total: f64,
}

thread_local! {
    /// Room for the sum of a candidate with an ensemble.
    static SUM: Cell<Vec<f64>> = Cell::default();
    /// Room for an area.
    static AREA: RefCell<auc::Room> = RefCell::default();
}

impl<'a> Objective<'a> {
    /// The error by `metric` on `data`, which have the members' rows, at least one. Where the
    /// metric is undefined on them (one class for an area), the task's default takes its place.
    pub(crate) fn new(members: &[Member<'_>], data: &'a Dataset, metric: Metric) -> Result<Self> {
        let truth = data.truth();
        let first = members.first().map(|member| member.predictions);
        let metric = match first.map(|predictions| metric.score(truth, predictions)) {
            Some(Err(_)) => Metric::default_for(data.task()),
            _ => metric,
        };
        let k = first.map_or(1, Matrix::n_cols);
        let form = Form::of(truth, metric, k);
        let columns: Vec<Vec<f64>> =
            members.iter().map(|member| form.column(data, member.predictions)).collect();
        let objective = Self { columns, form };
        if let Form::Other { .. } = objective.form
            && let Some(column) = objective.columns.first()
        {
            objective.error(column, 1.0)?; // Says at once if the metric suits nothing.
        }
        Ok(objective)
    }

    pub(crate) fn n_members(&self) -> usize {
        self.columns.len()
    }

    /// What the metric sees of a member.
    pub(crate) fn column(&self, member: usize) -> &[f64] {
        &self.columns[member]
    }

    /// Whether the error is a root, mean, or share of squared residuals: convex and quadratic.
    pub(crate) fn is_quadratic(&self) -> bool {
        matches!(self.form, Form::Squared { .. })
    }

    /// Whether the error is −ln of the columns, averaged by the returned weights and their total.
    pub(crate) fn as_log_loss(&self) -> Option<(Option<&'a [f64]>, f64)> {
        match &self.form {
            Form::LogLoss(mean) => Some((mean.weights, mean.total)),
            _ => None,
        }
    }

    /// The weighted inner products of the members' residuals, where the error is quadratic.
    pub(crate) fn gram(&self) -> Option<Matrix> {
        let Form::Squared { mean, k, .. } = &self.form else { return None };
        let m = self.columns.len();
        let mut gram = Matrix::zeros(m, m);
        for i in 0..m {
            for j in 0..=i {
                let product = mean.of_products(&self.columns[i], &self.columns[j], *k);
                gram.row_mut(i)[j] = product;
                gram.row_mut(j)[i] = product;
            }
        }
        Some(gram)
    }

    /// The error of the mean under `weights`, which add up to 1.
    pub(crate) fn of_weights(&self, weights: &[f64]) -> Result<f64> {
        let n = self.columns.first().map_or(0, Vec::len);
        let mut sum = vec![0.0; n];
        for (column, &weight) in self.columns.iter().zip(weights).filter(|(_, w)| **w != 0.0) {
            sum.iter_mut().zip(column).for_each(|(sum, y)| *sum += weight * y);
        }
        self.error(&sum, 1.0)
    }

    /// The error of the mean of what `sum` is the sum of, and of member `candidate`; `count` is how
    /// many that is.
    pub(crate) fn with(&self, sum: &[f64], candidate: usize, count: f64) -> Result<f64> {
        let mut column = SUM.take();
        column.clear();
        column.extend(sum.iter().zip(&self.columns[candidate]).map(|(sum, y)| sum + y));
        let error = self.error(&column, count);
        SUM.set(column);
        error
    }

    /// The error of `sum` / `count`.
    fn error(&self, sum: &[f64], count: f64) -> Result<f64> {
        Ok(match &self.form {
            // The scale does not change the order.
            Form::Auc { n_negative } => {
                let (negative, positive) = sum.split_at(*n_negative);
                AREA.with_borrow_mut(|room| 1.0 - auc::area(negative, positive, room))
            }
            Form::LogLoss(mean) => {
                let loss = |sum: f64| -(sum / count).clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln();
                mean.of(sum, loss)
            }
            Form::Absolute(mean) => mean.of(sum, f64::abs) / count,
            Form::Squared { mean, k, scale } => {
                let squared = mean.of_products(sum, sum, *k) / (count * count);
                match scale {
                    Squared::Root => squared.sqrt(),
                    Squared::Mean => squared,
                    Squared::Share(variance) => squared / variance,
                }
            }
            Form::Other { truth, metric, k } => {
                let values = sum.iter().map(|sum| sum / count).collect();
                error(*metric, metric.score(*truth, &Matrix::new(values, *k)?)?)
            }
        })
    }
}

/// A score turned so that smaller is better.
pub(crate) fn error(metric: Metric, score: f64) -> f64 {
    match metric.direction() {
        mm_core::Direction::Minimize => score,
        mm_core::Direction::Maximize => 1.0 - score,
    }
}

impl<'a> Form<'a> {
    fn of(truth: Truth<'a>, metric: Metric, k: usize) -> Self {
        let mean = || {
            let total = truth.weights.map_or(truth.target.len() as f64, |w| w.iter().sum());
            Mean { weights: truth.weights, total }
        };
        let squared = |scale| Self::Squared { mean: mean(), k, scale };
        match (metric, truth.task) {
            (Metric::RocAuc { .. }, Task::Binary(_)) if truth.weights.is_none() => {
                Self::Auc { n_negative: truth.target.iter().filter(|y| **y == 0.0).count() }
            }
            (Metric::LogLoss, _) => Self::LogLoss(mean()),
            (Metric::Brier, _) => squared(Squared::Mean),
            (Metric::Rmse, _) if k == 1 => squared(Squared::Root),
            (Metric::R2, _) if k == 1 => {
                let mean = mean();
                let centre = mean.of(truth.target, |y| y);
                squared(Squared::Share(mean.of(truth.target, |y| (y - centre).powi(2))))
            }
            (Metric::Mae, _) if k == 1 => Self::Absolute(mean()),
            _ => Self::Other { truth, metric, k },
        }
    }

    /// What the metric sees of a member's predictions.
    fn column(&self, data: &Dataset, predictions: &Matrix) -> Vec<f64> {
        let y = data.target();
        match self {
            Self::Auc { .. } => {
                let of = |class: f64| {
                    let rows = y.iter().zip(predictions.values());
                    rows.filter(move |(y, _)| **y == class).map(|(_, p)| *p)
                };
                of(0.0).chain(of(1.0)).collect()
            }
            Self::LogLoss(_) => {
                y.iter().zip(predictions.rows()).map(|(&y, row)| true_class(row, y)).collect()
            }
            Self::Squared { .. } | Self::Absolute(_) => residuals(data, predictions),
            Self::Other { .. } => predictions.values().to_vec(),
        }
    }
}

/// What is predicted less what is true: of the value, of the positive class's probability, or of
/// each class's.
pub(crate) fn residuals(data: &Dataset, predictions: &Matrix) -> Vec<f64> {
    let k = predictions.n_cols();
    let truth = |y: f64, j: usize| if k == 1 { y } else { f64::from(u8::from(y == j as f64)) };
    let rows = data.target().iter().zip(predictions.rows());
    rows.flat_map(|(&y, row)| row.iter().enumerate().map(move |(j, p)| p - truth(y, j))).collect()
}

/// The probability that a row of predictions gives the class `y`.
pub(crate) fn true_class(row: &[f64], y: f64) -> f64 {
    match *row {
        [positive] if y == 0.0 => 1.0 - positive,
        [positive] => positive,
        _ => row[y as usize],
    }
}

impl Mean<'_> {
    fn of(&self, column: &[f64], value: impl Fn(f64) -> f64) -> f64 {
        let sum: f64 = match self.weights {
            None => column.iter().map(|&y| value(y)).sum(),
            Some(weights) => column.iter().zip(weights).map(|(&y, w)| w * value(y)).sum(),
        };
        sum / self.total
    }

    fn of_products(&self, a: &[f64], b: &[f64], k: usize) -> f64 {
        let sum: f64 = match self.weights {
            None => a.iter().zip(b).map(|(a, b)| a * b).sum(),
            Some(weights) => {
                let rows = a.chunks_exact(k).zip(b.chunks_exact(k)).zip(weights);
                rows.map(|((a, b), w)| w * a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>()).sum()
            }
        };
        sum / self.total
    }
}

#[cfg(test)]
mod tests {
    use mm_core::{
        Average,
        conformance::{Checks, sample},
    };

    use super::*;

    /// Predictions that differ by `shift`, within [0, 1] and adding up to 1 for classes.
    fn predictions(data: &Dataset, shift: usize) -> Matrix {
        let k = data.task().outputs().len();
        let mut out = Matrix::zeros(data.n_rows(), k);
        for i in 0..data.n_rows() {
            let noise = |j: usize| ((i * 31 + j * 17 + shift * 7) % 23) as f64 + 1.0;
            let total: f64 = (0..k).map(noise).sum();
            for (j, y) in out.row_mut(i).iter_mut().enumerate() {
                *y = if k == 1 { noise(j) / 25.0 } else { noise(j) / total };
            }
        }
        out
    }

    /// Every metric, by its own path or not, gives what `Metric::score` gives.
    #[test]
    fn errors_are_those_of_the_metric() {
        for n_classes in [0, 2, 3] {
            for weighted in [false, true] {
                let mut data = sample(80, n_classes, Checks::default());
                if weighted {
                    let weights = (0..80).map(|i| f64::from(i % 4)).collect();
                    data = data.with_weights(weights).expect("valid");
                }
                let parts = [1, 2, 3].map(|shift| predictions(&data, shift));
                let members = parts.each_ref().map(|part| Member::new("m", part));
                for &metric in Metric::ALL.iter().filter(|m| m.supports(data.task())) {
                    if metric.score(data.truth(), &parts[0]).is_err() {
                        continue; // MAPE with a target of 0.
                    }
                    let objective = Objective::new(&members, &data, metric).expect("suits");
                    let weights = [0.5, 0.2, 0.3];
                    let mut mean = Matrix::zeros(80, parts[0].n_cols());
                    for (part, weight) in parts.iter().zip(weights) {
                        let pairs = mean.values_mut().iter_mut().zip(part.values());
                        pairs.for_each(|(sum, y)| *sum += weight * y);
                    }
                    let expected = error(metric, metric.score(data.truth(), &mean).expect("ok"));
                    let got = objective.of_weights(&weights).expect("ok");
                    // Sums of 80 terms in another order: some ulps.
                    assert!((got - expected).abs() <= 1e-13 * expected.abs().max(1.0), "{metric}");
                    let sum: Vec<f64> = objective.column(0).to_vec();
                    let two = objective.with(&sum, 1, 2.0).expect("ok");
                    let half = objective.of_weights(&[0.5, 0.5, 0.0]).expect("ok");
                    assert!((two - half).abs() <= 1e-13 * half.abs().max(1.0), "{metric}");
                }
            }
        }
    }

    #[test]
    fn an_area_of_one_class_gives_way_to_the_default_metric() {
        let data = sample(80, 2, Checks::default());
        let ones: Vec<usize> = (0..80).filter(|&i| data.target()[i] == 1.0).collect();
        let data = data.take(&ones);
        let part = predictions(&data, 1);
        let metric = Metric::RocAuc { average: Average::Auto };
        let objective = Objective::new(&[Member::new("m", &part)], &data, metric).expect("suits");
        let expected = Metric::LogLoss.score(data.truth(), &part).expect("defined");
        assert!((objective.of_weights(&[1.0]).expect("ok") - expected).abs() < 1e-13);
    }
}
