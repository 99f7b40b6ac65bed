//! From a score to a probability, and the slope of the loss at a score.

use serde::{Deserialize, Serialize};

/// Largest magnitude of a slope: keeps every state finite, whatever the scale of features and
/// target (River 0.26 clips there as well).
pub(crate) const CLIP: f64 = 1e12;

/// The logistic function; exactly 0 and 1 beyond ∓30, as in River 0.26.
pub(crate) fn sigmoid(score: f64) -> f64 {
    match score {
        _ if score < -30.0 => 0.0,
        _ if 30.0 < score => 1.0,
        _ => 1.0 / (1.0 + (-score).exp()),
    }
}

/// The slope of the log loss in the score, with the shortcuts of River 0.26 beyond ∓18.
pub(crate) fn log_slope(score: f64, positive: bool) -> f64 {
    let sign = if positive { 1.0 } else { -1.0 };
    let margin = score * sign;
    if 18.0 < margin {
        (-margin).exp() * -sign
    } else if margin < -18.0 {
        -sign
    } else {
        -sign / (margin.exp() + 1.0)
    }
}

/// Turns scores into probabilities in place.
pub(crate) fn softmax(scores: &mut [f64]) {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut total = 0.0;
    for score in &mut *scores {
        *score = (*score - max).exp();
        total += *score;
    }
    for score in scores {
        *score /= total;
    }
}

/// What a linear model of numbers minimises.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RegressionLoss {
    /// (p − y)²: the mean.
    #[default]
    Squared,
    /// |p − y|: the median.
    Absolute,
    /// Squared up to the given error > 0, absolute beyond.
    Huber(f64),
    /// The pinball loss of the given level in (0, 1).
    Quantile(f64),
}

impl RegressionLoss {
    /// The slope of the loss in the prediction.
    pub(crate) fn slope(self, predicted: f64, y: f64) -> f64 {
        let error = predicted - y;
        match self {
            Self::Squared => 2.0 * error,
            Self::Absolute => sign(error),
            Self::Huber(width) => error.clamp(-width, width),
            Self::Quantile(level) if error < 0.0 => -level,
            Self::Quantile(level) => (1.0 - level) * sign(error),
        }
    }
}

fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_the_losses_differences() {
        // Central differences of width 2e-6: their error is some 1e-10.
        let log_loss = |score: f64| -(sigmoid(score).ln());
        for score in [-5.0, -0.3, 0.0, 2.0, 9.0] {
            let difference = (log_loss(score + 1e-6) - log_loss(score - 1e-6)) / 2e-6;
            assert!((log_slope(score, true) - difference).abs() < 1e-9);
            assert_eq!(log_slope(score, true), -log_slope(-score, false));
        }
        assert!((log_slope(18.1, true) - log_slope(17.9, true)).abs() < 1e-8);
        let quantile = RegressionLoss::Quantile(0.9);
        assert_eq!((quantile.slope(0.0, 1.0), quantile.slope(1.0, 1.0)), (-0.9, 0.0));
        assert_eq!(RegressionLoss::Huber(1.0).slope(5.0, 0.0), 1.0);
        assert_eq!(RegressionLoss::Squared.slope(5.0, 0.0), 10.0);
    }

    #[test]
    fn softmax_survives_large_scores() {
        let mut scores = [1e6, 1e6, -1e6];
        softmax(&mut scores);
        assert_eq!(scores, [0.5, 0.5, 0.0]);
    }
}
