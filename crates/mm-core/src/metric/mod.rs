//! How good predictions are: weighted metrics that know which way is better.
//!
//! | file | holds |
//! | --- | --- |
//! | `sample.rs` | truth and predictions, checked against one another |
//! | `ranking.rs` | areas under the ROC and the precision-recall curve |
//! | `classification.rs` | losses of probabilities, scores of decisions |
//! | `confusion.rs` | which class was taken for which |
//! | `regression.rs` | losses of one number a row |
//! | `form.rs` | metrics as text |
//! | `sum.rs` | sums that do not lose digits |
//!
//! The numbers agree with scikit-learn 1.9; where it answers with a warning and an arbitrary
//! number (one class for an AUC, a constant target for R², a target of 0 for MAPE), there is an
//! error here. Of equally likely classes the first is decided for, in the top-k accuracy too, where
//! scikit-learn takes the last. `oracle.rs` holds the comparison.

mod classification;
mod confusion;
mod form;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod oracle;
mod ranking;
mod regression;
mod sample;
mod sum;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use confusion::{ClassScores, ConfusionMatrix};

use crate::{
    data::{Matrix, Output, Task, Truth},
    error::{Error, ParamError, Result},
    metric::{confusion::ClassWeights, sample::Sample},
};

/// A measure of predictions against the truth. Every one respects row weights: a row of weight *w*
/// counts as *w* rows.
///
/// | name | task | better | what it is |
/// | --- | --- | :---: | --- |
/// | `log_loss` | classes | ↓ | −ln of the true class's probability, clipped to [2⁻⁵², 1 − 2⁻⁵²] |
/// | `brier` | classes | ↓ | squared error of the probability; summed over the classes for multiclass |
/// | `calibration_error` | classes | ↓ | expected calibration error in `bins` bins |
/// | `roc_auc` | classes | ↑ | area under the ROC curve; multiclass: each class against the rest |
/// | `pr_auc` | classes | ↑ | average precision; multiclass: each class against the rest |
/// | `accuracy` | classes | ↑ | share of right decisions |
/// | `balanced_accuracy` | classes | ↑ | mean over the classes of the share of right decisions |
/// | `top_k_accuracy` | more than `k` classes | ↑ | share of rows whose class is among the `k` likeliest |
/// | `precision`, `recall`, `f1` | classes | ↑ | of the positive class, or averaged over the classes |
/// | `mcc` | classes | ↑ | Matthews's correlation of decisions and truth |
/// | `rmse` | regression | ↓ | root of the mean squared error |
/// | `mae` | regression | ↓ | mean absolute error |
/// | `median_absolute_error` | regression | ↓ | weighted median of the absolute errors |
/// | `mape` | regression | ↓ | mean of \|error / target\|: 0.1 is ten per cent |
/// | `rmsle` | regression | ↓ | RMSE of ln(1 + value) |
/// | `r2` | regression | ↑ | 1 − squared error / variance of the target |
/// | `pinball` | regression | ↓ | loss of a quantile of the given `level` |
///
/// In files a metric is its name, or its name with the parameter that differs from the default;
/// as text it is `name` or `name(parameter=value)`:
///
/// ```
/// use mm_core::{Average, Metric};
/// # #[derive(serde::Deserialize)]
/// # struct Plan { metrics: Vec<Metric> }
///
/// let plan: Plan = toml::from_str(
///     r#"metrics = ["f1", { f1 = { average = "macro" } }, { pinball = { level = 0.9 } }]"#,
/// )?;
/// assert_eq!(plan.metrics[0], Metric::F1 { average: Average::Auto });
/// assert_eq!(plan.metrics[1].to_string(), "f1(average=macro)");
/// assert_eq!(plan.metrics[2], "pinball(level=0.9)".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// | parameter | default | domain |
/// | --- | ---: | --- |
/// | `average` | `auto` | any [`Average`] |
/// | `bins` | 15 | 1 to 65 536 |
/// | `k` | 2 | ≥ 1 |
/// | `level` | 0.5 | (0, 1) |
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Metric {
    /// Mean negative log likelihood of the true class, in nats.
    LogLoss,
    /// Brier score: the mean squared error of the positive class's probability; for multiclass
    /// the mean of its sum over the classes, in [0, 2] (Brier 1950).
    Brier,
    /// Expected calibration error: rows fall into bins of equal width by their probability, and
    /// the distances between mean probability and frequency are averaged by the bins' weights. For
    /// binary tasks that of the positive class (Naeini, Cooper & Hauskrecht 2015), for multiclass
    /// that of the decision (Guo et al. 2017). A bin does not contain its lower edge, except 0.
    CalibrationError {
        /// Number of bins.
        bins: usize,
    },
    /// The chance that a row of the class scores above a row of another, ties counting half
    /// (Bamber 1975). Binary tasks have one curve and ask for no average.
    RocAuc {
        /// How the classes' areas become one number; for multiclass only.
        average: Average,
    },
    /// Average precision: the precision at each distinct score, weighted by the recall gained
    /// there, without interpolation. Binary tasks have one curve and ask for no average.
    PrAuc {
        /// How the classes' areas become one number; for multiclass only.
        average: Average,
    },
    /// Share of the rows whose class is the likeliest.
    Accuracy,
    /// Mean recall of the classes that occur.
    BalancedAccuracy,
    /// Share of the rows whose class is among the `k` likeliest; of equally likely ones the first
    /// count as likelier, so that `k = 1` is the accuracy.
    TopKAccuracy {
        /// Number of classes that may contain the true one.
        k: usize,
    },
    /// Of the rows decided to be of the class, the share that is; 0 if there are none.
    Precision {
        /// Which classes count, and how.
        average: Average,
    },
    /// Of the rows of the class, the share decided to be; 0 if there are none.
    Recall {
        /// Which classes count, and how.
        average: Average,
    },
    /// The harmonic mean of precision and recall; 0 if both are.
    F1 {
        /// Which classes count, and how.
        average: Average,
    },
    /// Matthews's correlation coefficient, for *k* classes that of Gorodkin (2004); 0 where the
    /// truth or the decisions have a single class.
    Mcc,
    /// Root of the mean squared error, in units of the target.
    Rmse,
    /// Mean absolute error, in units of the target.
    Mae,
    /// Weighted median of the absolute errors, in units of the target; the mean of two values
    /// where the weight below and above is the same.
    MedianAbsoluteError,
    /// Mean absolute error relative to the target; a target of 0 is an error.
    Mape,
    /// Root of the mean squared difference of ln(1 + value); values ≤ −1 are an error.
    Rmsle,
    /// Share of the target's variance that is explained; negative for predictions worse than the
    /// mean. A constant target is an error.
    R2,
    /// Pinball loss (Koenker & Bassett 1978), in units of the target: `level` times what the
    /// prediction is too low, or 1 − `level` times what it is too high. At ½ half the MAE.
    Pinball {
        /// Level of the quantile that is judged.
        level: f64,
    },
}

/// How scores of single classes become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Average {
    /// The positive class alone for binary tasks, [`Macro`](Self::Macro) for multiclass.
    #[default]
    Auto,
    /// The plain mean over the classes. For an area every class must occur in the truth; for
    /// precision, recall, and F1 only the classes count that occur among truths or decisions.
    Macro,
    /// One score of all pairs of row and class, pooled.
    Micro,
    /// The mean over the classes, each with its weight in the truth.
    Weighted,
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

impl Average {
    /// Every average.
    pub const ALL: &[Self] = &[Self::Auto, Self::Macro, Self::Micro, Self::Weighted];

    /// The name in plans and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Macro => "macro",
            Self::Micro => "micro",
            Self::Weighted => "weighted",
        }
    }
}

impl fmt::Display for Average {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Metric {
    /// [`Metric::RocAuc`] with the automatic average.
    pub const ROC_AUC: Self = Self::RocAuc { average: Average::Auto };
    /// [`Metric::PrAuc`] with the automatic average.
    pub const PR_AUC: Self = Self::PrAuc { average: Average::Auto };

    /// Every metric, with the default of its parameter.
    pub const ALL: &[Self] = &[
        Self::LogLoss,
        Self::Brier,
        Self::CalibrationError { bins: default::bins() },
        Self::RocAuc { average: Average::Auto },
        Self::PrAuc { average: Average::Auto },
        Self::Accuracy,
        Self::BalancedAccuracy,
        Self::TopKAccuracy { k: default::k() },
        Self::Precision { average: Average::Auto },
        Self::Recall { average: Average::Auto },
        Self::F1 { average: Average::Auto },
        Self::Mcc,
        Self::Rmse,
        Self::Mae,
        Self::MedianAbsoluteError,
        Self::Mape,
        Self::Rmsle,
        Self::R2,
        Self::Pinball { level: default::level() },
    ];

    /// The name in plans and reports, without the parameter; `Display` adds that where it is not
    /// the default.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LogLoss => "log_loss",
            Self::Brier => "brier",
            Self::CalibrationError { .. } => "calibration_error",
            Self::RocAuc { .. } => "roc_auc",
            Self::PrAuc { .. } => "pr_auc",
            Self::Accuracy => "accuracy",
            Self::BalancedAccuracy => "balanced_accuracy",
            Self::TopKAccuracy { .. } => "top_k_accuracy",
            Self::Precision { .. } => "precision",
            Self::Recall { .. } => "recall",
            Self::F1 { .. } => "f1",
            Self::Mcc => "mcc",
            Self::Rmse => "rmse",
            Self::Mae => "mae",
            Self::MedianAbsoluteError => "median_absolute_error",
            Self::Mape => "mape",
            Self::Rmsle => "rmsle",
            Self::R2 => "r2",
            Self::Pinball { .. } => "pinball",
        }
    }

    /// Which way is better.
    pub fn direction(&self) -> Direction {
        match self {
            Self::LogLoss
            | Self::Brier
            | Self::CalibrationError { .. }
            | Self::Rmse
            | Self::Mae
            | Self::MedianAbsoluteError
            | Self::Mape
            | Self::Rmsle
            | Self::Pinball { .. } => Direction::Minimize,
            Self::RocAuc { .. }
            | Self::PrAuc { .. }
            | Self::Accuracy
            | Self::BalancedAccuracy
            | Self::TopKAccuracy { .. }
            | Self::Precision { .. }
            | Self::Recall { .. }
            | Self::F1 { .. }
            | Self::Mcc
            | Self::R2 => Direction::Maximize,
        }
    }

    /// The metric that judges a task when none was named: log loss, or RMSE for regression.
    pub fn default_for(task: &Task) -> Self {
        if matches!(task, Task::Regression) { Self::Rmse } else { Self::LogLoss }
    }

    /// Whether the metric can judge predictions for `task`.
    pub fn supports(&self, task: &Task) -> bool {
        match (self, task) {
            (Self::TopKAccuracy { k }, _) => *k < task.n_classes(),
            (_, Task::Regression) => self.is_of_regression(),
            (_, Task::Binary(_) | Task::Multiclass(_)) => !self.is_of_regression(),
        }
    }

    /// Checks the parameter, if the metric has one; `name` is that of the field that holds the
    /// metric.
    pub fn check(&self, name: &str) -> Result<(), ParamError> {
        match self {
            Self::CalibrationError { bins } => {
                let ok = (1..=1 << 16).contains(bins);
                ParamError::ensure(ok, format!("{name}.bins"), bins, "a number from 1 to 65536")
            }
            Self::TopKAccuracy { k } => {
                ParamError::ensure(1 <= *k, format!("{name}.k"), k, "at least 1")
            }
            Self::Pinball { level } => {
                let ok = 0.0 < *level && *level < 1.0;
                ParamError::ensure(ok, format!("{name}.level"), level, "a number between 0 and 1")
            }
            _ => Ok(()),
        }
    }

    /// The score of `predicted`, whose columns are those of [`Task::outputs`]; for
    /// [`Pinball`](Self::Pinball) the one column is the quantile. Always finite.
    ///
    /// The areas take O(*nk* log *n*) time, the median O(*n* log *n*), all others O(*nk*). Rows of
    /// weight 0 do not count, but are checked. Probabilities of a multiclass row need not sum to 1.
    ///
    /// Refused, each with an error that says what was expected and what came, and in which row: a
    /// parameter outside its domain; a task that the metric does not
    /// [support](Metric::supports); other numbers of rows or columns than the truth and the task
    /// have; no rows; predictions that are NaN or infinite, or no probabilities where the metric
    /// takes them as such (the areas rank scores of any range); targets that are no codes of
    /// classes; negative, infinite, or all-zero weights; and a truth on which the metric is
    /// undefined, such as one class for an area.
    ///
    /// ```
    /// use mm_core::{Average, Matrix, Metric, Task, Truth};
    ///
    /// let task = Task::classes(["no", "yes"])?;
    /// let truth = Truth::new(&task, &[0.0, 0.0, 1.0, 1.0]);
    /// let predicted = Matrix::new(vec![0.1, 0.4, 0.35, 0.8], 1)?;
    /// let auc = Metric::RocAuc { average: Average::Auto };
    /// assert_eq!(auc.score(truth, &predicted)?, 0.75); // 3 of 4 pairs in order
    /// assert_eq!(auc.score(truth.weighted(&[1.0, 3.0, 1.0, 1.0]), &predicted)?, 0.625); // 5 of 8
    /// # Ok::<(), mm_core::Error>(())
    /// ```
    pub fn score(&self, truth: Truth<'_>, predicted: &Matrix) -> Result<f64> {
        self.check("metric")?;
        if !self.supports(truth.task) {
            let place = format_args!("metric `{self}`");
            return Err(Error::data(place, self.supported(), truth.task));
        }
        let sample = &Sample::new(truth, predicted)?;
        if !self.is_of_regression() && !self.is_area() {
            sample.ensure_probabilities()?;
        }
        let score = match *self {
            Self::LogLoss => classification::log_loss(sample),
            Self::Brier => classification::brier(sample),
            Self::CalibrationError { bins } => classification::calibration_error(sample, bins),
            Self::RocAuc { average } => ranking::averaged(sample, average, ranking::roc, true)?,
            Self::PrAuc { average } => {
                ranking::averaged(sample, average, ranking::precision_recall, false)?
            }
            Self::Accuracy => classification::accuracy(sample),
            Self::BalancedAccuracy => classification::balanced(sample),
            Self::TopKAccuracy { k } => classification::top_k_accuracy(sample, k),
            Self::Precision { average } => {
                classification::averaged(sample, average, ClassWeights::precision)
            }
            Self::Recall { average } => {
                classification::averaged(sample, average, ClassWeights::recall)
            }
            Self::F1 { average } => classification::averaged(sample, average, ClassWeights::f1),
            Self::Mcc => classification::mcc(sample),
            Self::Rmse => regression::rmse(sample),
            Self::Mae => regression::mae(sample),
            Self::MedianAbsoluteError => regression::median_absolute_error(sample),
            Self::Mape => regression::mape(sample)?,
            Self::Rmsle => regression::rmsle(sample)?,
            Self::R2 => regression::r2(sample)?,
            Self::Pinball { level } => regression::pinball(sample, level),
        };
        if score.is_finite() {
            return Ok(score);
        }
        let place = format_args!("metric `{self}`");
        Err(Error::data(place, "values and weights whose sums are finite", score))
    }

    /// The score of predictions whose columns mean `outputs`, as a
    /// [`Signature`](crate::Signature) says.
    ///
    /// For classification the columns must be those of the task. For regression the metric picks
    /// its column: [`Pinball`](Self::Pinball) the quantile of its level, the mean and the median
    /// absolute error the median, and if there is none, as for all other metrics, the value.
    pub fn score_outputs(
        &self,
        truth: Truth<'_>,
        predicted: &Matrix,
        outputs: &[Output],
    ) -> Result<f64> {
        if predicted.n_cols() != outputs.len() {
            let expected = format!("{} columns, one an output", outputs.len());
            return Err(Error::data("predictions", expected, predicted.n_cols()));
        }
        if !matches!(truth.task, Task::Regression) {
            if outputs != truth.task.outputs() {
                let expected = format!("those of the task, {}", truth.task);
                return Err(Error::data("outputs", expected, format_args!("{outputs:?}")));
            }
            return self.score(truth, predicted);
        }
        let quantile = match *self {
            Self::Pinball { level } => Some(Output::Quantile(level)),
            Self::Mae | Self::MedianAbsoluteError => Some(Output::Quantile(0.5)),
            _ => None,
        };
        let position = |wanted: &Output| outputs.iter().position(|output| output == wanted);
        let found = quantile.as_ref().and_then(position).or_else(|| position(&Output::Value));
        let Some(column) = found else {
            let expected = match quantile {
                Some(quantile) => format!("{quantile:?} or Value for `{self}`"),
                None => format!("Value for `{self}`"),
            };
            return Err(Error::data("outputs", expected, format_args!("{outputs:?}")));
        };
        self.score(truth, &Matrix::new(predicted.column(column).collect(), 1)?)
    }

    fn is_of_regression(&self) -> bool {
        matches!(
            self,
            Self::Rmse
                | Self::Mae
                | Self::MedianAbsoluteError
                | Self::Mape
                | Self::Rmsle
                | Self::R2
                | Self::Pinball { .. }
        )
    }

    fn is_area(&self) -> bool {
        matches!(self, Self::RocAuc { .. } | Self::PrAuc { .. })
    }

    fn supported(&self) -> String {
        match self {
            Self::TopKAccuracy { k } => format!("classification into more than {k} classes"),
            _ if self.is_of_regression() => "regression".to_owned(),
            _ => "classification".to_owned(),
        }
    }
}

/// The defaults of the parameters; what they mean stands at [`Metric`].
mod default {
    /// Fifteen, as in Guo et al. (2017).
    pub(super) const fn bins() -> usize {
        15
    }

    pub(super) const fn k() -> usize {
        2
    }

    pub(super) const fn level() -> f64 {
        0.5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(values: &[f64], n_cols: usize) -> Matrix {
        Matrix::new(values.to_vec(), n_cols).expect("rectangular")
    }

    fn binary() -> Task {
        Task::classes(["no", "yes"]).expect("two")
    }

    fn metric(text: &str) -> Metric {
        text.parse().expect("a metric")
    }

    #[track_caller]
    fn refused(metric_text: &str, truth: Truth<'_>, predicted: &Matrix, message: &str) {
        let error = metric(metric_text).score(truth, predicted).expect_err("refused");
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn hand_computed_scores() {
        let y = [1.0, 2.0, 4.0];
        let truth = Truth::new(&Task::Regression, &y);
        let p = matrix(&[2.0, 2.0, 2.0], 1);
        let check = |text, truth, expected| {
            let got = metric(text).score(truth, &p).expect("defined");
            assert_eq!(got, expected, "{text}");
        };
        let weighted = truth.weighted(&[1.0, 1.0, 2.0]);
        check("mae", truth, 1.0); // (1 + 0 + 2) / 3
        check("mae", weighted, 1.25); // (1 + 0 + 4) / 4
        check("rmse", weighted, 1.5); // √(9 / 4)
        check("mape", truth, 0.5); // (1 + 0 + 1/2) / 3
        check("median_absolute_error", truth, 1.0);
        check("median_absolute_error", weighted, 1.5); // 0, 1 | 2, 2
        check("pinball(level=0.75)", weighted, 0.8125); // (1/4 + 0 + 2 · 3/2) / 4
    }

    #[test]
    fn ties_of_probability_go_to_the_first_class() {
        let task = Task::classes(["a", "b", "c"]).expect("three");
        let p = matrix(&[0.4, 0.4, 0.2, 0.2, 0.4, 0.4], 3);
        for (y, accuracy) in [([0.0, 1.0], 1.0), ([1.0, 2.0], 0.0)] {
            assert_eq!(Metric::Accuracy.score(Truth::new(&task, &y), &p).expect("right"), accuracy);
        }
        let p = matrix(&[0.5], 1);
        let score = Metric::Accuracy.score(Truth::new(&binary(), &[0.0]), &p).expect("right");
        assert_eq!(score, 1.0, "one half is not above one half");
    }

    #[test]
    fn zeros_of_either_sign_are_one_score() {
        let task = binary();
        let truth = Truth::new(&task, &[0.0, 1.0]);
        for zeros in [[0.0, -0.0], [-0.0, 0.0]] {
            let auc = metric("roc_auc").score(truth, &matrix(&zeros, 1)).expect("two classes");
            assert_eq!(auc, 0.5, "a tie");
        }
    }

    #[test]
    fn calibration_bins_contain_their_upper_edges() {
        let task = binary();
        let truth = Truth::new(&task, &[1.0, 0.0]);
        // In (0, ½]: |1 − ½|, and in (½, 1]: |0 − ¾|; together in one bin |½ − 5/8|.
        let p = matrix(&[0.5, 0.75], 1);
        let score = |bins| Metric::CalibrationError { bins }.score(truth, &p).expect("defined");
        assert_eq!((score(2), score(1)), (0.625, 0.125));
        // Every edge i/49 lies in the bin below it, however the division rounds.
        for i in 1..=49 {
            let edge = f64::from(i) / 49.0;
            let next = edge.next_up().min(1.0);
            let p = matrix(&[edge, next], 1);
            let got = Metric::CalibrationError { bins: 49 }.score(truth, &p).expect("defined");
            let apart = if i == 49 { (1.0 - 2.0 * edge).abs() } else { 1.0 - edge + next };
            assert!((got - apart / 2.0).abs() < 1e-15, "edge {i}: {got}"); // A few roundings.
        }
    }

    #[test]
    fn a_perfect_decision_scores_one_without_rounding() {
        let task = Task::classes(["a", "b", "c"]).expect("three");
        let (y, w) = ([0.0, 1.0, 2.0, 1.0], [0.1, 0.7, 0.3, 0.9]);
        let p = matrix(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0], 3);
        for text in ["accuracy", "balanced_accuracy", "f1", "top_k_accuracy(k=1)"] {
            let got = metric(text).score(Truth::new(&task, &y).weighted(&w), &p).expect("right");
            assert_eq!(got, 1.0, "{text}");
        }
        assert_eq!(Metric::Mcc.score(Truth::new(&task, &y), &p).expect("right"), 1.0);
    }

    #[test]
    fn a_class_never_decided_for_has_precision_0() {
        let task = binary();
        let truth = Truth::new(&task, &[0.0, 1.0]);
        let p = matrix(&[0.1, 0.2], 1);
        for text in ["precision", "recall", "f1", "mcc"] {
            assert_eq!(metric(text).score(truth, &p).expect("defined"), 0.0, "{text}");
        }
    }

    #[test]
    fn shapes_and_values_that_do_not_fit_are_refused_by_place() {
        let (task, y) = (binary(), [0.0, 1.0, 1.0]);
        let truth = Truth::new(&task, &y);
        let good = matrix(&[0.1, 0.2, 0.3], 1);
        for (p, message) in [
            (
                matrix(&[0.1, 0.2], 1),
                "predictions: expected 3 rows × 1 column, got 2 rows × 1 column",
            ),
            (
                matrix(&[0.0; 6], 2),
                "predictions: expected 3 rows × 1 column, got 3 rows × 2 columns",
            ),
            (
                matrix(&[0.1, 0.2, f64::NAN], 1),
                "prediction, row 2: expected a finite number, got NaN",
            ),
            (
                matrix(&[0.1, 1.2, 0.3], 1),
                "prediction, row 1: expected a probability in [0, 1], got 1.2",
            ),
        ] {
            refused("log_loss", truth, &p, message);
        }
        let two = Truth::new(&task, &[0.0, 2.0, 1.0]);
        refused("f1", two, &good, "target, row 1: expected a class code from 0 to 1, got 2");
        refused("brier", truth.weighted(&[1.0]), &good, "length of the weights: expected 3, got 1");
        refused(
            "brier",
            truth.weighted(&[1.0, -1.0, 1.0]),
            &good,
            "weight, row 1: expected a finite number ≥ 0, got -1",
        );
        refused(
            "brier",
            truth.weighted(&[0.0; 3]),
            &good,
            "weights: expected at least one above 0, and a finite sum, got all 0",
        );
        let none = Truth::new(&task, &[]);
        refused(
            "brier",
            none,
            &Matrix::zeros(0, 1),
            "predictions: expected at least 1 row, got no rows",
        );
        let three = Task::classes(["a", "b", "c"]).expect("three");
        refused(
            "roc_auc",
            Truth::new(&three, &[0.0, 1.0]),
            &matrix(&[0.1, 0.2, 0.7, 0.1, f64::INFINITY, 0.2], 3),
            "prediction of `b`, row 1: expected a finite number, got inf",
        );
    }

    #[test]
    fn probabilities_may_overshoot_by_the_rounding_of_f32() {
        let task = binary();
        let truth = Truth::new(&task, &[0.0, 1.0]);
        let p = matrix(&[-1e-7, 1.0 + 1e-7], 1);
        for metric in Metric::ALL.iter().filter(|metric| metric.supports(&task)) {
            assert!(metric.score(truth, &p).is_ok(), "{metric}");
        }
    }

    #[test]
    fn a_task_that_the_metric_cannot_judge_is_refused() {
        let (task, y) = (binary(), [0.0, 1.0]);
        let p = matrix(&[0.1, 0.2], 1);
        for (text, truth, message) in [
            (
                "rmse",
                Truth::new(&task, &y),
                "metric `rmse`: expected regression, got binary (positive class `yes`)",
            ),
            (
                "roc_auc(average=micro)",
                Truth::new(&Task::Regression, &y),
                "metric `roc_auc(average=micro)`: expected classification, got regression",
            ),
            (
                "top_k_accuracy",
                Truth::new(&task, &y),
                "metric `top_k_accuracy`: expected classification into more than 2 classes, \
                 got binary (positive class `yes`)",
            ),
        ] {
            assert!(!metric(text).supports(truth.task));
            refused(text, truth, &p, message);
        }
        let short = Task::Binary(crate::Levels::new(["only"]).expect("one"));
        let truth = Truth::new(&short, &[0.0, 0.0]);
        refused("accuracy", truth, &p, "classes of a binary task: expected 2, got 1");
    }

    #[test]
    fn a_truth_on_which_the_metric_is_undefined_is_an_error_that_says_why() {
        let task = binary();
        let p = matrix(&[0.1, 0.2], 1);
        let (ones, zeros) = ([1.0; 2], [0.0; 2]);
        let yes = Truth::new(&task, &ones);
        let alone = "expected at least 2 classes with rows of positive weight, got only `yes`";
        refused("roc_auc", yes, &p, alone);
        refused("roc_auc", Truth::new(&task, &[0.0, 1.0]).weighted(&[0.0, 1.0]), &p, alone);
        assert_eq!(metric("pr_auc").score(yes, &p).expect("defined"), 1.0);
        let missing = "class `yes`: expected at least 1 row of positive weight to rank, got none";
        refused("pr_auc", Truth::new(&task, &zeros), &p, missing);

        let three = Task::classes(["a", "b", "c"]).expect("three");
        let truth = Truth::new(&three, &[0.0, 1.0]);
        let p3 = matrix(&[0.5, 0.3, 0.2, 0.1, 0.6, 0.3], 3);
        let missing = "class `c`: expected at least 1 row of positive weight to rank, got none";
        refused("roc_auc", truth, &p3, missing);
        assert_eq!(metric("roc_auc(average=weighted)").score(truth, &p3).expect("defined"), 1.0);

        let truth = Truth::new(&Task::Regression, &zeros);
        refused(
            "mape",
            truth,
            &p,
            "target, row 0: expected a number other than 0, since the error is divided by it, got 0",
        );
        refused(
            "r2",
            Truth::new(&Task::Regression, &[0.1, 0.1]),
            &p,
            "target: expected values that differ, since R² divides by their spread, \
             got 0.1 in every row of positive weight",
        );
        refused(
            "rmsle",
            truth,
            &matrix(&[0.0, -1.0], 1),
            "prediction, row 1: expected a number above -1, \
             since the logarithm of 1 + it is taken, got -1",
        );
        refused(
            "rmse",
            truth,
            &matrix(&[0.0, 1e200], 1),
            "metric `rmse`: expected values and weights whose sums are finite, got NaN",
        );
    }

    #[test]
    fn parameters_outside_their_domain_are_refused() {
        let truth = Truth::new(&Task::Regression, &[0.0]);
        for level in [0.0, 1.0, f64::NAN] {
            let metric = Metric::Pinball { level };
            let message =
                format!("parameter `metric.level` is {level}; expected a number between 0 and 1");
            let error = metric.score(truth, &matrix(&[0.0], 1)).expect_err("outside");
            assert_eq!(error.to_string(), message);
        }
        for metric in [
            Metric::TopKAccuracy { k: 0 },
            Metric::CalibrationError { bins: 0 },
            Metric::CalibrationError { bins: (1 << 16) + 1 },
        ] {
            let error = metric.check("stop.metric").expect_err("outside");
            assert!(error.name.starts_with("stop.metric."), "{error}");
        }
        assert!(Metric::CalibrationError { bins: 1 << 16 }.check("metric").is_ok());
    }

    #[test]
    fn the_column_is_chosen_by_what_it_means() {
        let y = [1.0, 2.0];
        let truth = Truth::new(&Task::Regression, &y);
        let p = matrix(&[0.0, 1.5, 1.0, 9.0, 0.0, 2.5, 2.0, 9.0], 4);
        let [low, mid, high] = [0.1, 0.5, 0.9].map(Output::Quantile);
        let outputs = [low.clone(), mid, Output::Value, high.clone()];
        let score = |text: &str| metric(text).score_outputs(truth, &p, &outputs);
        assert_eq!(score("rmse").expect("the value"), 0.0);
        assert_eq!(score("mae").expect("the median"), 0.5);
        assert_eq!(score("pinball(level=0.7)").expect("the value"), 0.0);
        let got = score("pinball(level=0.1)").expect("the quantile");
        assert_eq!(got, 0.1_f64.midpoint(0.2));

        let p = matrix(&[0.0, 9.0, 0.0, 9.0], 2);
        let error = Metric::Rmse.score_outputs(truth, &p, &[low.clone(), high]).expect_err("none");
        assert_eq!(
            error.to_string(),
            "outputs: expected Value for `rmse`, got [Quantile(0.1), Quantile(0.9)]"
        );
        let error = Metric::Rmse.score_outputs(truth, &p, &[low]).expect_err("too few");
        assert_eq!(error.to_string(), "predictions: expected 1 columns, one an output, got 2");

        let task = binary();
        let (truth, p) = (Truth::new(&task, &[0.0, 1.0]), matrix(&[0.0, 1.0], 1));
        let accuracy = |outputs: &[Output]| Metric::Accuracy.score_outputs(truth, &p, outputs);
        assert_eq!(accuracy(&task.outputs()).expect("the task's"), 1.0);
        assert!(accuracy(&[Output::Value]).is_err());
    }

    #[test]
    fn defaults_support_their_task_and_all_names_are_distinct() {
        let three = Task::classes(["a", "b", "c"]).expect("three");
        for task in [Task::Regression, binary(), three] {
            assert!(Metric::default_for(&task).supports(&task));
        }
        let names: std::collections::BTreeSet<_> = Metric::ALL.iter().map(Metric::name).collect();
        assert_eq!(names.len(), Metric::ALL.len());
    }

    #[test]
    fn a_nan_is_worse_than_any_score() {
        for direction in [Direction::Minimize, Direction::Maximize] {
            assert!(direction.is_better(0.0, f64::NAN));
            assert!(!direction.is_better(f64::NAN, 0.0));
            assert!(!direction.is_better(f64::NAN, f64::NAN));
            assert!(!direction.is_better(1.0, 1.0));
        }
        assert!(Direction::Minimize.is_better(1.0, 2.0));
        assert!(Direction::Maximize.is_better(2.0, 1.0));
    }
}
