//! Why a model predicted what it did: one share a feature, which add up to the score.

use serde::{Deserialize, Serialize};

use crate::{
    data::{Frame, Matrix},
    error::Result,
    model::Model,
};

/// The capability to part each row's score among the features.
///
/// Found through [`Model::as_explains`]. Implement [`explain`](Explains::explain); call
/// [`contributions`](Explains::contributions).
///
/// For each row and output there is a *base*, which is the same for all rows unless the model says
/// otherwise, and one contribution a feature. They add up to a *score*, which is the prediction
/// itself or what a fixed function turns into it, as [`scale`](Explains::scale) says. How the score
/// is parted is the model's business and stands in its documentation; tree models give Shapley
/// values (Lundberg et al. 2020, "From local explanations to global understanding with explainable
/// AI for trees").
///
/// ```
/// # use mm_core::{BoxModel, Frame, Result};
/// fn show(model: &BoxModel, x: &Frame) -> Result<()> {
///     let Some(explains) = model.as_explains() else { return Ok(()) };
///     let parts = explains.contributions(x)?;
///     for (feature, share) in parts.largest(0, 0, 5) {
///         println!("{:<20} {share:+.4}", model.signature().schema.columns()[feature].name);
///     }
///     println!("{:<20} {:+.4}", "base", parts.base(0, 0));
///     Ok(())
/// }
/// ```
pub trait Explains: Model {
    /// What the contributions of a row add up to, and how that becomes the prediction.
    fn scale(&self) -> Scale;

    /// How many scores a row has; by default as many as predictions.
    fn n_scores(&self) -> usize {
        self.signature().n_outputs()
    }

    /// Fills `out`, whose shape is that of [`contributions`](Explains::contributions) for `x`. `x`
    /// already matches the signature. What stands in row *i* of `out` depends on row *i* of `x`
    /// alone.
    fn explain(&self, x: &Frame, out: &mut Contributions) -> Result<()>;

    /// Checks `x` against the signature and parts each row's scores.
    ///
    /// Needs 8 bytes for each row, score, and feature: explain a large frame in
    /// [slices](Frame::slice).
    fn contributions(&self, x: &Frame) -> Result<Contributions> {
        let x = self.signature().admit(x)?;
        let mut out = Contributions::zeros(x.n_rows(), self.n_scores(), x.n_cols());
        self.explain(&x, &mut out)?;
        Ok(out)
    }
}

/// What contributions add up to.
///
/// | scale | the prediction is |
/// | --- | --- |
/// | `Prediction` | the score |
/// | `LogOdds` | 1 / (1 + exp(−slope · score)) |
/// | `Logits` | exp(score) / Σ exp(score), over the classes |
/// | `ClassLogOdds` | 1 / (1 + exp(−slope · score)) for each class, divided by their sum |
/// | `Log` | exp(score) |
/// | `Other` | another function of the score, which stands in the model's documentation |
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scale {
    /// Units of the prediction.
    Prediction,
    /// Log-odds of the positive class, in nats if the slope is 1.
    LogOdds {
        /// What the score is multiplied by to give nats.
        slope: f64,
    },
    /// Logarithms of the classes' probabilities, up to a number that all classes share.
    Logits,
    /// Log-odds of each class against all others.
    ClassLogOdds {
        /// What the scores are multiplied by to give nats.
        slope: f64,
    },
    /// Natural logarithm of the prediction.
    Log,
    /// Anything else.
    Other,
}

impl Scale {
    /// Turns the scores of one row into its predictions, in `f64`; `None` for [`Scale::Other`].
    pub fn to_predictions(self, scores: &[f64]) -> Option<Vec<f64>> {
        let sigmoid = |slope: f64| scores.iter().map(move |s| 1.0 / (1.0 + (-slope * s).exp()));
        let divided = |parts: Vec<f64>| {
            let total: f64 = parts.iter().sum();
            parts.into_iter().map(|part| part / total).collect()
        };
        Some(match self {
            Self::Prediction => scores.to_vec(),
            Self::LogOdds { slope } => sigmoid(slope).collect(),
            Self::Logits => {
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                divided(scores.iter().map(|s| (s - top).exp()).collect())
            }
            Self::ClassLogOdds { slope } => divided(sigmoid(slope).collect()),
            Self::Log => scores.iter().map(|s| s.exp()).collect(),
            Self::Other => return None,
        })
    }
}

/// Contributions of shape (*n*, *k*, *p* + 1): for each of *n* rows and *k* scores, one number for
/// each of *p* features and then the base. The *p* + 1 numbers add up to the score.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Contributions {
    matrix: Matrix, // Of shape (n, k (p + 1)).
    n_scores: usize,
    n_features: usize,
}

impl Contributions {
    /// Contributions that are all 0.
    pub fn zeros(n_rows: usize, n_scores: usize, n_features: usize) -> Self {
        let matrix = Matrix::zeros(n_rows, n_scores * (n_features + 1));
        Self { matrix, n_scores, n_features }
    }

    /// Number of rows, *n*.
    pub fn n_rows(&self) -> usize {
        self.matrix.n_rows()
    }

    /// Number of scores a row, *k*.
    pub fn n_scores(&self) -> usize {
        self.n_scores
    }

    /// Number of features, *p*.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// The features' contributions to score `k` of row `i`, of length *p*.
    ///
    /// # Panics
    ///
    /// If `i` is not below *n*, or `k` not below the number of scores.
    pub fn features(&self, i: usize, k: usize) -> &[f64] {
        &self.of(i, k)[..self.n_features]
    }

    /// What score `k` of row `i` is before any feature is known.
    ///
    /// # Panics
    ///
    /// As [`features`](Contributions::features).
    pub fn base(&self, i: usize, k: usize) -> f64 {
        self.of(i, k)[self.n_features]
    }

    /// Features and base together, of length *p* + 1.
    ///
    /// # Panics
    ///
    /// As [`features`](Contributions::features).
    pub fn of(&self, i: usize, k: usize) -> &[f64] {
        assert!(k < self.n_scores, "score {k} of {}", self.n_scores);
        &self.matrix.row(i)[k * (self.n_features + 1)..][..=self.n_features]
    }

    /// All numbers, row by row, score by score.
    pub fn values(&self) -> &[f64] {
        self.matrix.values()
    }

    /// The numbers as a matrix of shape (*n*, *k* (*p* + 1)), to be written.
    pub fn matrix_mut(&mut self) -> &mut Matrix {
        &mut self.matrix
    }

    /// The scores, of shape (*n*, *k*): each row's contributions added up.
    pub fn scores(&self) -> Matrix {
        let mut out = Matrix::zeros(self.n_rows(), self.n_scores);
        for i in 0..self.n_rows() {
            for (k, score) in out.row_mut(i).iter_mut().enumerate() {
                *score = self.of(i, k).iter().sum();
            }
        }
        out
    }

    /// The mean over the rows of each feature's absolute contribution, of shape (*k*, *p*): a
    /// global importance in units of the score. 0 if there are no rows.
    pub fn mean_absolute(&self) -> Matrix {
        let mut out = Matrix::zeros(self.n_scores, self.n_features);
        for i in 0..self.n_rows() {
            for k in 0..self.n_scores {
                let means = out.row_mut(k).iter_mut().zip(self.features(i, k));
                means.for_each(|(mean, share)| *mean += share.abs());
            }
        }
        let n = self.n_rows().max(1) as f64;
        out.values_mut().iter_mut().for_each(|sum| *sum /= n);
        out
    }

    /// The at most `n` features that moved score `k` of row `i` most, either way, with their
    /// contributions; the largest first, of equal ones the first feature.
    ///
    /// # Panics
    ///
    /// As [`features`](Contributions::features).
    pub fn largest(&self, i: usize, k: usize, n: usize) -> Vec<(usize, f64)> {
        let mut all: Vec<_> = self.features(i, k).iter().copied().enumerate().collect();
        all.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        all.truncate(n);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows, two scores, two features.
    fn sample() -> Contributions {
        let mut parts = Contributions::zeros(2, 2, 2);
        let values = [1.0, -3.0, 0.5, 0.0, 2.0, 1.0, -2.0, 1.0, 0.5, 4.0, 4.0, 1.0];
        parts.matrix_mut().values_mut().copy_from_slice(&values);
        parts
    }

    #[test]
    fn features_come_first_and_the_base_last() {
        let parts = sample();
        assert_eq!(parts.features(1, 0), [-2.0, 1.0]);
        assert_eq!(parts.base(1, 0), 0.5);
        assert_eq!(parts.of(0, 1), [0.0, 2.0, 1.0]);
        assert_eq!((parts.n_rows(), parts.n_scores(), parts.n_features()), (2, 2, 2));
    }

    #[test]
    fn scores_are_sums_and_importances_means_of_absolute_values() {
        let parts = sample();
        assert_eq!(parts.scores().values(), [-1.5, 3.0, -0.5, 9.0]);
        assert_eq!(parts.mean_absolute().values(), [1.5, 2.0, 2.0, 3.0]);
        let none = Contributions::zeros(0, 1, 3);
        assert_eq!(none.mean_absolute().values(), [0.0; 3]);
    }

    #[test]
    fn the_largest_come_first_whatever_their_sign() {
        assert_eq!(sample().largest(0, 0, 1), [(1, -3.0)]);
        assert_eq!(sample().largest(1, 1, 9), [(0, 4.0), (1, 4.0)]);
    }

    #[test]
    fn a_scale_leads_from_scores_to_predictions() {
        let third = Scale::Logits.to_predictions(&[1000.0; 3]).expect("known");
        assert_eq!(third, [1.0 / 3.0; 3]);
        let half = Scale::ClassLogOdds { slope: 2.0 }.to_predictions(&[1.0; 2]).expect("known");
        assert_eq!(half, [0.5; 2]);
        let odds = Scale::LogOdds { slope: 0.5 }.to_predictions(&[2.0 * 3.0_f64.ln()]);
        assert!((odds.expect("known")[0] - 0.75).abs() < 1e-15, "three to one");
        assert_eq!(Scale::Log.to_predictions(&[0.0]), Some(vec![1.0]));
        assert_eq!(Scale::Prediction.to_predictions(&[-2.0]), Some(vec![-2.0]));
        assert_eq!(Scale::Other.to_predictions(&[0.0]), None);
    }
}
