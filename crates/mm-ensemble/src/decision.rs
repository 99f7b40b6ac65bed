//! From probabilities to a decision: by a threshold tuned for a metric, or at the least cost.
//!
//! # Idea
//!
//! Of two classes the positive one is decided for above a threshold; ½ is the best only for
//! accuracy. [`Decision::tune`] tries every threshold at which the decision of a row changes, O(*n*
//! log *n*), on out-of-fold predictions. With a [`CostMatrix`] and calibrated probabilities the
//! decision of the least expected cost needs no tuning: class *d* with the smallest Σ*ₜ* *pₜ*
//! *c*(*t*, *d*), for any number of classes.
//!
//! # Sources
//!
//! Elkan (2001), "The foundations of cost-sensitive learning". Lipton, Elkan & Naryanaswamy (2014),
//! "Optimal thresholding of classifiers to maximize F1 measure".

use mm_core::{Average, Dataset, Error, Matrix, Metric, Result, Task};
use serde::{Deserialize, Serialize};

/// What it costs to decide for one class where another is true.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Vec<f64>>", into = "Vec<Vec<f64>>")]
pub struct CostMatrix(Vec<Vec<f64>>); // Invariant: square, at least 2 × 2, finite.

impl TryFrom<Vec<Vec<f64>>> for CostMatrix {
    type Error = Error;

    fn try_from(costs: Vec<Vec<f64>>) -> Result<Self> {
        Self::new(costs)
    }
}

impl From<CostMatrix> for Vec<Vec<f64>> {
    fn from(costs: CostMatrix) -> Self {
        costs.0
    }
}

impl CostMatrix {
    /// `costs[t][d]` is the cost of decision `d` where `t` is true; gains are negative costs.
    ///
    /// # Errors
    ///
    /// A table that is not square, has fewer than 2 classes, or holds what is not finite.
    pub fn new(costs: Vec<Vec<f64>>) -> Result<Self> {
        let k = costs.len();
        if k < 2 || costs.iter().any(|row| row.len() != k) {
            let widths: Vec<usize> = costs.iter().map(Vec::len).collect();
            return Err(Error::data("costs", "a row and a column a class", format!("{widths:?}")));
        }
        if let Some(bad) = costs.iter().flatten().find(|cost| !cost.is_finite()) {
            return Err(Error::data("costs", "finite numbers", bad));
        }
        Ok(Self(costs))
    }

    /// Costs of the two errors of a binary task; right decisions cost nothing.
    pub fn binary(false_positive: f64, false_negative: f64) -> Result<Self> {
        Self::new(vec![vec![0.0, false_positive], vec![false_negative, 0.0]])
    }
}

/// How probabilities become a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Decision {
    /// The likeliest class, and of equally likely ones the first.
    Likeliest,
    /// Of two classes the positive one, if its probability is above the threshold.
    Above(f64),
    /// The class of the least expected cost, and of equal ones the first.
    LeastCost(CostMatrix),
}

/// Weights of rows by truth and decision of a binary task.
#[derive(Debug, Clone, Copy)]
struct Counts {
    true_positive: f64,
    false_positive: f64,
    false_negative: f64,
    true_negative: f64,
}

impl Decision {
    /// The threshold with the best `metric` on the predictions of the rows of `data`, which should
    /// be out of fold: accuracy, balanced accuracy, precision, recall, F1, or MCC of a binary task.
    /// Of equally good thresholds it is the one nearest to ½.
    ///
    /// # Errors
    ///
    /// Another task or metric, predictions of another shape, and NaN among them.
    pub fn tune(metric: Metric, data: &Dataset, predicted: &Matrix) -> Result<Self> {
        let score: fn(Counts) -> f64 = match metric {
            Metric::Accuracy => Counts::accuracy,
            Metric::BalancedAccuracy => Counts::balanced_accuracy,
            Metric::Precision { average: Average::Auto } => Counts::precision,
            Metric::Recall { average: Average::Auto } => Counts::recall,
            Metric::F1 { average: Average::Auto } => Counts::f1,
            Metric::Mcc => Counts::mcc,
            other => {
                let expected = "accuracy, balanced_accuracy, precision, recall, f1, or mcc";
                return Err(Error::data("metric of a threshold", expected, other));
            }
        };
        best_threshold(data, predicted, score)
    }

    /// The threshold at which the decisions for the rows of `data` cost least: for probabilities
    /// that are not calibrated. With calibrated ones prefer [`LeastCost`](Self::LeastCost).
    ///
    /// # Errors
    ///
    /// Costs of more than two classes, and as for [`tune`](Self::tune).
    pub fn tune_cost(costs: &CostMatrix, data: &Dataset, predicted: &Matrix) -> Result<Self> {
        let [truth_no, truth_yes] = &costs.0[..] else {
            return Err(Error::data("costs of a threshold", "those of 2 classes", costs.0.len()));
        };
        best_threshold(data, predicted, |counts| {
            -(counts.true_negative * truth_no[0]
                + counts.false_positive * truth_no[1]
                + counts.false_negative * truth_yes[0]
                + counts.true_positive * truth_yes[1])
        })
    }

    /// The class of a row of probabilities, in the shape of [`Task::outputs`].
    pub fn decide(&self, row: &[f64]) -> usize {
        match (self, row) {
            (Self::Above(threshold), [positive]) => usize::from(threshold < positive),
            (Self::Likeliest, [positive]) => usize::from(0.5 < *positive),
            (Self::Likeliest | Self::Above(_), all) => first_least(all.len(), |d| -all[d]),
            (Self::LeastCost(CostMatrix(costs)), [positive]) => first_least(costs.len(), |d| {
                (1.0 - positive) * costs[0][d] + positive * costs[1][d]
            }),
            (Self::LeastCost(CostMatrix(costs)), all) => first_least(costs.len(), |d| {
                all.iter().zip(costs).map(|(p, truth)| p * truth[d]).sum()
            }),
        }
    }

    /// The class of each row.
    pub fn decide_all(&self, predicted: &Matrix) -> Vec<usize> {
        predicted.rows().map(|row| self.decide(row)).collect()
    }
}

/// The first of `0..n` with the least value.
fn first_least(n: usize, value: impl Fn(usize) -> f64) -> usize {
    (1..n).fold(0, |best, d| if value(d) < value(best) { d } else { best })
}

/// The threshold of the highest score, from all at which a decision changes.
fn best_threshold(
    data: &Dataset,
    predicted: &Matrix,
    score: impl Fn(Counts) -> f64,
) -> Result<Decision> {
    if !matches!(data.task(), Task::Binary(_)) {
        return Err(Error::data("task of a threshold", "two classes", data.task()));
    }
    if (predicted.n_rows(), predicted.n_cols()) != (data.n_rows(), 1) || data.n_rows() == 0 {
        let expected = format_args!("{} × 1, at least one row", data.n_rows());
        let got = format_args!("{} × {}", predicted.n_rows(), predicted.n_cols());
        return Err(Error::data("predictions", expected, got));
    }
    let p = predicted.values();
    if let Some(bad) = p.iter().find(|p| !p.is_finite()) {
        return Err(Error::data("predictions", "finite numbers", bad));
    }
    let weight = |i: usize| data.weights().map_or(1.0, |w| w[i]);
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    let all = |class: f64| -> f64 {
        (0..p.len()).filter(|&i| data.target()[i] == class).map(weight).sum()
    };
    let mut counts = Counts {
        true_positive: 0.0,
        false_positive: 0.0,
        false_negative: all(1.0),
        true_negative: all(0.0),
    };
    // Nobody is positive above the highest score.
    let mut best = (score(counts), p[order[0]].max(0.5));
    let mut rest = &order[..];
    while let Some(&first) = rest.first() {
        let n = rest.iter().take_while(|&&i| p[i] == p[first]).count();
        for &i in &rest[..n] {
            if data.target()[i] == 1.0 {
                counts.true_positive += weight(i);
                counts.false_negative -= weight(i);
            } else {
                counts.false_positive += weight(i);
                counts.true_negative -= weight(i);
            }
        }
        rest = &rest[n..];
        let threshold = match rest.first() {
            Some(&next) if p[next] <= 0.5 && 0.5 < p[first] => 0.5,
            Some(&next) => {
                let middle = f64::midpoint(p[next], p[first]);
                if middle < p[first] { middle } else { p[next] }
            }
            None => p[first].min(0.5) - 1.0, // Everybody is positive.
        };
        let now = score(counts);
        let nearer = (threshold - 0.5).abs() < (best.1 - 0.5).abs();
        if best.0 < now || (best.0 == now && nearer) {
            best = (now, threshold);
        }
    }
    Ok(Decision::Above(best.1))
}

impl Counts {
    fn accuracy(self) -> f64 {
        self.true_positive + self.true_negative
    }

    fn balanced_accuracy(self) -> f64 {
        let negatives = self.true_negative + self.false_positive;
        self.recall() + share(self.true_negative, negatives)
    }

    fn precision(self) -> f64 {
        share(self.true_positive, self.true_positive + self.false_positive)
    }

    fn recall(self) -> f64 {
        share(self.true_positive, self.true_positive + self.false_negative)
    }

    fn f1(self) -> f64 {
        let errors = self.false_positive + self.false_negative;
        share(2.0 * self.true_positive, 2.0 * self.true_positive + errors)
    }

    fn mcc(self) -> f64 {
        let Self { true_positive: tp, false_positive: fp, false_negative: fn_, true_negative: tn } =
            self;
        let scale = ((tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_)).sqrt();
        share(tp * tn - fp * fn_, scale)
    }
}

/// A part of a whole; 0 of nothing.
fn share(part: f64, whole: f64) -> f64 {
    if 0.0 < whole { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use mm_core::Frame;
    use proptest::prelude::*;

    use super::*;

    fn data(y: &[bool]) -> Dataset {
        let task = Task::classes(["no", "yes"]).expect("two");
        let frame = Frame::new(vec![0.0; y.len()], 1).expect("valid");
        let target = y.iter().map(|&y| f64::from(u8::from(y))).collect();
        Dataset::new(frame, task, target).expect("valid")
    }

    fn column(p: &[f64]) -> Matrix {
        Matrix::new(p.to_vec(), 1).expect("one column")
    }

    proptest! {
        /// No threshold has a better score than the tuned one.
        #[test]
        fn the_tuned_threshold_is_the_best(
            rows in prop::collection::vec((0_u8..20, any::<bool>()), 2..40),
        ) {
            let (p, y): (Vec<f64>, Vec<bool>) =
                rows.iter().map(|&(p, y)| (f64::from(p) / 19.0, y)).unzip();
            prop_assume!(y.contains(&true) && y.contains(&false));
            let (data, p) = (data(&y), column(&p));
            for metric in ["accuracy", "balanced_accuracy", "f1", "mcc", "precision", "recall"] {
                let metric: Metric = metric.parse().expect("a metric");
                let score = |decision: &Decision| {
                    let decided = decision.decide_all(&p).iter().map(|&d| d as f64).collect();
                    let decided = Matrix::new(decided, 1).expect("one column");
                    metric.score(data.truth(), &decided).expect("defined")
                };
                let tuned = score(&Decision::tune(metric, &data, &p).expect("binary"));
                for i in -1..=20 {
                    let other = score(&Decision::Above(f64::from(i) / 20.0));
                    prop_assert!(other <= tuned + 1e-12, "{metric}: {other} above {tuned}");
                }
            }
        }
    }

    #[test]
    fn costs_move_the_threshold() {
        // A miss costs four times a false alarm: decide for yes above 1 / 5.
        let least = Decision::LeastCost(CostMatrix::binary(1.0, 4.0).expect("finite"));
        assert_eq!(least.decide_all(&column(&[0.19, 0.21, 0.9])), [0, 1, 1]);
        let costs = CostMatrix::binary(1.0, 4.0).expect("finite");
        let (y, p) = ([true, false, true, false], [0.9, 0.6, 0.4, 0.1]);
        let tuned = Decision::tune_cost(&costs, &data(&y), &column(&p)).expect("binary");
        assert_eq!(tuned, Decision::Above(0.25)); // One false alarm is cheaper than a miss.
        let three = CostMatrix::new(vec![vec![0.0, 1.0, 9.0], vec![1.0, 0.0, 9.0], vec![1.0; 3]]);
        let three = Decision::LeastCost(three.expect("square"));
        // The third is likeliest, but dear to take wrongly.
        assert_eq!(three.decide(&[0.3, 0.2, 0.5]), 0);
        assert_eq!(Decision::Likeliest.decide(&[0.3, 0.2, 0.5]), 2);
    }

    #[test]
    fn what_cannot_be_decided_is_refused() {
        for bad in [vec![], vec![vec![0.0]], vec![vec![0.0, 1.0], vec![1.0]]] {
            assert!(CostMatrix::new(bad).is_err());
        }
        assert!(CostMatrix::binary(f64::NAN, 1.0).is_err());
        assert!(serde_json::from_str::<Decision>(r#"{"least_cost": [[0.0]]}"#).is_err());
        let (y, p) = (data(&[true, false]), column(&[0.5, 0.2]));
        assert!(Decision::tune(Metric::LogLoss, &y, &p).is_err());
        assert!(Decision::tune(Metric::Accuracy, &y, &column(&[0.5])).is_err());
        assert!(Decision::tune(Metric::Accuracy, &y, &column(&[0.5, f64::NAN])).is_err());
    }
}
