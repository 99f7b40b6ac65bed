//! What a fit makes small, and how scores become predictions.
//!
//! A net yields *scores*. The loss of a row and its slope in each score are worked out here, in
//! `f64` on the host: the tape of automatic differentiation begins with the scores.
//!
//! | task | loss | prediction |
//! | --- | --- | --- |
//! | regression | squared error of the standardised target | the score, in the target's units |
//! | regression, quantiles | pinball loss, one score a level | the scores, sorted |
//! | two classes | log loss | 1 / (1 + e^−score) |
//! | more classes | cross entropy | softmax of the scores |
//!
//! With label smoothing ε the target of a class is (1 − ε) · [it is the row's] + ε / classes
//! (Szegedy et al. 2016). With focus γ the loss of a row whose class has probability *p* is
//! −(1 − *p*)^γ ln *p* (Lin et al. 2017, "Focal loss for dense object detection").

use mm_core::{ParamError, Result, Task};
use serde::{Deserialize, Serialize};

/// What a regression predicts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Objective {
    /// The mean of the target; squared error.
    #[default]
    Mean,
    /// Quantiles of the target; pinball loss.
    Quantiles {
        /// The levels, rising, each in (0, 1).
        levels: Vec<f64>,
    },
}

impl Objective {
    pub(crate) fn check(&self, name: &str) -> Result<(), ParamError> {
        let Self::Quantiles { levels } = self else { return Ok(()) };
        let inside = levels.iter().all(|&q| 0.0 < q && q < 1.0);
        let rising = levels.windows(2).all(|w| w[0] < w[1]);
        let ok = !levels.is_empty() && inside && rising;
        let expected = "at least one level, rising, each above 0 and below 1";
        ParamError::ensure(ok, format!("{name}.levels"), format!("{levels:?}"), expected)
    }
}

/// The loss of a fit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Loss {
    Squared,
    Pinball { levels: Vec<f64> },
    Classes { classes: usize, smoothing: f64, focus: f64 },
}

impl Loss {
    /// The loss for `task`.
    pub(crate) fn new(task: &Task, objective: &Objective, smoothing: f64, focus: f64) -> Self {
        match (task.n_classes(), objective) {
            (0, Objective::Mean) => Self::Squared,
            (0, Objective::Quantiles { levels }) => Self::Pinball { levels: levels.clone() },
            (classes, _) => Self::Classes { classes, smoothing, focus },
        }
    }

    /// How many scores a row has.
    pub(crate) fn n_scores(&self) -> usize {
        match self {
            Self::Squared | Self::Classes { classes: 2, .. } => 1,
            Self::Pinball { levels } => levels.len(),
            Self::Classes { classes, .. } => *classes,
        }
    }

    /// The loss of one row with target `y`; its slope in each score, times `factor`, goes to
    /// `slopes`.
    pub(crate) fn slope(&self, scores: &[f32], y: f64, factor: f64, slopes: &mut [f32]) -> f64 {
        match self {
            Self::Squared => {
                let error = f64::from(scores[0]) - y;
                slopes[0] = (2.0 * error * factor) as f32;
                error * error
            }
            Self::Pinball { levels } => {
                let each = 1.0 / levels.len() as f64;
                let terms = levels.iter().zip(scores).zip(slopes).map(|((&q, &score), slope)| {
                    let error = y - f64::from(score);
                    let share = if 0.0 < error { q } else { q - 1.0 };
                    *slope = (-share * each * factor) as f32;
                    share * error * each
                });
                terms.sum()
            }
            Self::Classes { classes: 2, smoothing, focus } => {
                let sign = if y == 1.0 { 1.0 } else { -1.0 };
                let score = f64::from(scores[0]);
                if 0.0 < *focus {
                    let log_p = -softplus(-sign * score);
                    let (loss, slope) = focal(log_p, *focus);
                    // The probability p of the row's class moves by p (1 − p) times the sign.
                    slopes[0] = (slope * sign * (1.0 - log_p.exp()) * factor) as f32;
                    return loss;
                }
                let target = y * (1.0 - smoothing) + smoothing / 2.0;
                slopes[0] = ((sigmoid(score) - target) * factor) as f32;
                softplus(score) - target * score
            }
            Self::Classes { classes, smoothing, focus } => {
                let class = y as usize;
                let largest = f64::from(scores.iter().copied().fold(f32::MIN, f32::max));
                let total: f64 = scores.iter().map(|&s| (f64::from(s) - largest).exp()).sum();
                let log_total = largest + total.ln();
                if 0.0 < *focus {
                    let (loss, slope) = focal(f64::from(scores[class]) - log_total, *focus);
                    for (k, (&score, out)) in scores.iter().zip(slopes).enumerate() {
                        let p = (f64::from(score) - log_total).exp();
                        *out = (slope * (f64::from(u8::from(k == class)) - p) * factor) as f32;
                    }
                    return loss;
                }
                let mut loss = 0.0;
                for (k, (&score, out)) in scores.iter().zip(slopes).enumerate() {
                    let log_p = f64::from(score) - log_total;
                    let hit = f64::from(u8::from(k == class));
                    let target = hit * (1.0 - smoothing) + smoothing / *classes as f64;
                    *out = ((log_p.exp() - target) * factor) as f32;
                    loss -= target * log_p;
                }
                loss
            }
        }
    }

    /// The prediction of one row from its scores.
    pub(crate) fn predict(&self, scores: &[f32], scale: TargetScale, out: &mut [f64]) {
        match self {
            Self::Squared => out[0] = scale.back(scores[0]),
            Self::Pinball { .. } => {
                out.iter_mut().zip(scores).for_each(|(out, &score)| *out = scale.back(score));
                out.sort_unstable_by(f64::total_cmp);
            }
            Self::Classes { classes: 2, .. } => out[0] = sigmoid(f64::from(scores[0])),
            Self::Classes { .. } => {
                let largest = f64::from(scores.iter().copied().fold(f32::MIN, f32::max));
                out.iter_mut()
                    .zip(scores)
                    .for_each(|(out, &score)| *out = (f64::from(score) - largest).exp());
                let total: f64 = out.iter().sum();
                for p in out {
                    *p /= total;
                }
            }
        }
    }
}

/// −(1 − p)^γ ln p, and its derivative by ln p, from ln p.
fn focal(log_p: f64, focus: f64) -> (f64, f64) {
    let p = log_p.exp();
    let rest = -log_p.exp_m1();
    let power = rest.powf(focus);
    // Where p is 1, ln p is 0 and so is the product, whatever the power of 0 says.
    let bend = if rest <= 0.0 { 0.0 } else { focus * rest.powf(focus - 1.0) * p * log_p };
    (-power * log_p, bend - power)
}

/// ln(1 + e^x) without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    if 0.0 <= x { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// How the target was standardised: (*y* − mean) / deviation. Of classes, not at all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct TargetScale {
    mean: f64,
    pub(crate) deviation: f64,
}

impl TargetScale {
    pub(crate) const NONE: Self = Self { mean: 0.0, deviation: 1.0 };

    /// From a target and weights that are not all 0.
    pub(crate) fn fit(target: &[f64], weights: &[f64]) -> Self {
        let total: f64 = weights.iter().sum();
        let mean = target.iter().zip(weights).map(|(y, w)| y * w / total).sum::<f64>();
        let squares = target.iter().zip(weights).map(|(y, w)| (y - mean).powi(2) * w / total);
        let deviation = squares.sum::<f64>().sqrt();
        let usable = deviation.is_finite() && 0.0 < deviation;
        Self { mean, deviation: if usable { deviation } else { 1.0 } }
    }

    pub(crate) fn to_score(self, y: f64) -> f64 {
        (y - self.mean) / self.deviation
    }

    pub(crate) fn back(self, score: f32) -> f64 {
        self.mean + self.deviation * f64::from(score)
    }

    /// Whether it can have been fitted; a file may say anything.
    pub(crate) fn is_sound(self) -> bool {
        self.mean.is_finite() && self.deviation.is_finite() && 0.0 < self.deviation
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn losses() -> Vec<Loss> {
        let classes = |classes, smoothing, focus| Loss::Classes { classes, smoothing, focus };
        vec![
            Loss::Squared,
            Loss::Pinball { levels: vec![0.1, 0.5, 0.9] },
            classes(2, 0.0, 0.0),
            classes(2, 0.1, 0.0),
            classes(2, 0.0, 2.0),
            classes(4, 0.0, 0.0),
            classes(4, 0.2, 0.0),
            classes(4, 0.0, 1.5),
        ]
    }

    proptest! {
        /// Slopes are those of the loss, by differences. Scores are f32, so the step is large; the
        /// second derivatives of all losses are below 4, and pinball's kinks are stepped around.
        #[test]
        fn slopes_are_the_derivatives_of_the_loss(
            scores in prop::collection::vec(-4.0_f32..4.0, 4), class in 0_usize..4, y in -4.0_f64..4.0,
        ) {
            for loss in losses() {
                let k = loss.n_scores();
                let y = match &loss {
                    Loss::Classes { classes, .. } => (class % classes) as f64,
                    _ => y,
                };
                let at = |scores: &[f32]| loss.slope(scores, y, 1.0, &mut vec![0.0; k]);
                let mut slopes = vec![0.0; k];
                loss.slope(&scores[..k], y, 3.0, &mut slopes);
                for i in 0..k {
                    let step = 1.0 / 64.0;
                    if matches!(loss, Loss::Pinball { .. }) && (y - f64::from(scores[i])).abs() < 0.05 {
                        continue;
                    }
                    let mut moved = scores[..k].to_vec();
                    moved[i] += step;
                    let above = at(&moved);
                    moved[i] -= 2.0 * step;
                    let below = at(&moved);
                    let expected = 3.0 * (above - below) / (2.0 * f64::from(step));
                    // The third derivative times step² / 6, and roundings of f32.
                    prop_assert!(
                        (f64::from(slopes[i]) - expected).abs() < 2e-3,
                        "{loss:?}, score {i}: {} against {expected}", slopes[i]
                    );
                }
            }
        }
    }

    #[test]
    fn huge_scores_give_finite_losses_slopes_and_predictions() {
        for loss in losses() {
            let k = loss.n_scores();
            for huge in [1e30_f32, -1e30] {
                let mut scores = vec![0.0; k];
                scores[0] = huge;
                let (mut slopes, mut out) = (vec![0.0; k], vec![0.0; k]);
                let value = loss.slope(&scores, 0.0, 1.0, &mut slopes);
                loss.predict(&scores, TargetScale::NONE, &mut out);
                assert!(value.is_finite(), "{loss:?}");
                let finite =
                    slopes.iter().all(|x| x.is_finite()) && out.iter().all(|x| x.is_finite());
                assert!(finite, "{loss:?}: {slopes:?}, {out:?}");
            }
        }
    }

    #[test]
    fn a_sure_and_right_prediction_costs_nothing_under_focus() {
        let loss = Loss::Classes { classes: 2, smoothing: 0.0, focus: 0.5 };
        let mut slope = [1.0];
        assert_eq!(loss.slope(&[1000.0], 1.0, 1.0, &mut slope), 0.0);
        assert_eq!(slope, [0.0]);
    }

    #[test]
    fn a_standardised_target_comes_back() {
        let scale = TargetScale::fit(&[1.0, 3.0, 100.0], &[1.0, 1.0, 0.0]);
        assert_eq!((scale.mean, scale.deviation), (2.0, 1.0));
        assert_eq!(scale.to_score(5.0), 3.0);
        assert_eq!(scale.back(3.0), 5.0);
        assert_eq!(TargetScale::fit(&[7.0, 7.0], &[1.0, 1.0]).deviation, 1.0);
    }

    #[test]
    fn quantiles_are_sorted() {
        let mut out = [0.0; 3];
        let loss = Loss::Pinball { levels: vec![0.1, 0.5, 0.9] };
        loss.predict(&[0.5, -1.0, 0.0], TargetScale { mean: 1.0, deviation: 2.0 }, &mut out);
        assert_eq!(out, [-1.0, 1.0, 2.0]);
    }
}
