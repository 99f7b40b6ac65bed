//! How gradients move weights: AdamW with parameter groups, clipping by the global norm, a learning
//! rate that rises and falls, and a running mean of the weights. All are loops over flat arrays.

use std::f64::consts::PI;

use crate::weights::{Role, Weights};

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// AdamW (Loshchilov and Hutter 2019, "Decoupled weight decay regularization"), with β₁ = 0.9,
/// β₂ = 0.999, ε = 10⁻⁸. Decay falls on [`Role::Decayed`] alone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AdamW {
    pub(crate) steps: u64,
    pub(crate) mean: Vec<f32>,
    pub(crate) square: Vec<f32>,
}

impl AdamW {
    /// For `len` numbers.
    pub(crate) fn new(len: usize) -> Self {
        Self { steps: 0, mean: vec![0.0; len], square: vec![0.0; len] }
    }

    /// One step along `gradient`.
    pub(crate) fn step(&mut self, weights: &mut Weights, gradient: &[f32], rate: f64, decay: f64) {
        self.steps += 1;
        let power = self.steps.min(i32::MAX as u64) as i32;
        let mean_scale = rate / (1.0 - BETA_1.powi(power));
        let square_scale = 1.0 / (1.0 - BETA_2.powi(power));
        let specs = weights.specs().to_vec();
        for spec in specs {
            let kept = match spec.role {
                Role::Decayed => 1.0 - rate * decay,
                Role::Free => 1.0,
                Role::Fixed => continue,
            };
            let range = spec.range;
            let moments = self.mean[range.clone()].iter_mut().zip(&mut self.square[range.clone()]);
            let moved = weights.values[range.clone()].iter_mut().zip(&gradient[range]);
            for ((w, &g), (m, v)) in moved.zip(moments) {
                let g = f64::from(g);
                let mean = BETA_1 * f64::from(*m) + (1.0 - BETA_1) * g;
                let square = BETA_2 * f64::from(*v) + (1.0 - BETA_2) * g * g;
                let step = mean_scale * mean / ((square * square_scale).sqrt() + EPSILON);
                *w = (f64::from(*w) * kept - step) as f32;
                *m = mean as f32;
                *v = square as f32;
            }
        }
    }
}

/// Shortens `gradient` to the length `limit` if it is longer (Pascanu, Mikolov and Bengio 2013), and
/// returns its length before.
pub(crate) fn clip(gradient: &mut [f32], limit: f64) -> f64 {
    let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    if limit < norm {
        let factor = (limit / norm) as f32;
        for g in gradient {
            *g *= factor;
        }
    }
    norm
}

/// The learning rate over a fit: a straight rise, then half a wave of the cosine down to 0
/// (Loshchilov and Hutter 2017, "SGDR").
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) peak: f64,
    pub(crate) rising: u64,
    pub(crate) total: u64,
    /// Whether the rate falls after the rise; else it stays.
    pub(crate) falls: bool,
}

impl Schedule {
    /// The rate of step `step`, from 0.
    pub(crate) fn rate(&self, step: u64) -> f64 {
        if step < self.rising {
            return self.peak * (step + 1) as f64 / self.rising as f64;
        }
        if !self.falls {
            return self.peak;
        }
        let falling = self.total.saturating_sub(self.rising).max(1);
        let done = (step - self.rising).min(falling) as f64 / falling as f64;
        self.peak * 0.5 * (1.0 + (PI * done).cos())
    }
}

/// Moves a running mean of the weights towards them (Polyak and Juditsky 1992): `decay` of it stays.
/// In the first steps less stays, so that the start is forgotten: (1 + *t*) / (10 + *t*) at most.
pub(crate) fn average(mean: &mut [f32], weights: &[f32], decay: f64, steps: u64) {
    let stays = decay.min((1.0 + steps as f64) / (10.0 + steps as f64));
    for (mean, &w) in mean.iter_mut().zip(weights) {
        *mean = (stays * f64::from(*mean) + (1.0 - stays) * f64::from(w)) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        device::cpu,
        random::Key,
        weights::{Init, initialise},
    };

    fn three_roles() -> Weights {
        initialise(Key::new(0), &cpu(), |scope| {
            scope.param("decayed", [1], Role::Decayed, Init::Values(vec![1.0]))?;
            scope.param("free", [1], Role::Free, Init::Values(vec![1.0]))?;
            scope.param("fixed", [1], Role::Fixed, Init::Values(vec![1.0]))
        })
        .expect("makes")
    }

    #[test]
    fn the_first_step_has_the_length_of_the_rate_and_decay_falls_on_matrices_alone() {
        let mut weights = three_roles();
        let mut adam = AdamW::new(3);
        adam.step(&mut weights, &[0.5, -2.0, 1.0], 0.1, 0.5);
        // By hand: g / |g| is ±1 up to ε, and decay takes 0.1 · 0.5 of the weight.
        let expected = [1.0 - 0.05 - 0.1, 1.0 + 0.1, 1.0];
        for (w, e) in weights.values.iter().zip(expected) {
            assert!((w - e).abs() < 1e-6, "{w} against {e}");
        }
    }

    #[test]
    fn two_steps_are_those_worked_out_by_hand() {
        let mut weights = three_roles();
        let mut adam = AdamW::new(3);
        adam.step(&mut weights, &[0.0, 1.0, 0.0], 0.1, 0.0);
        adam.step(&mut weights, &[0.0, 3.0, 0.0], 0.1, 0.0);
        let mean = (0.9 * 0.1 + 0.1 * 3.0) / (1.0 - 0.81);
        let square = (0.999 * 0.001 + 0.001 * 9.0) / (1.0 - 0.998_001);
        let expected = 1.0 - 0.1 - 0.1 * mean / f64::sqrt(square);
        assert!((f64::from(weights.values[1]) - expected).abs() < 1e-6);
        assert_eq!(weights.values[0], 1.0, "no gradient, no decay, no step");
    }

    #[test]
    fn a_long_gradient_keeps_its_direction_and_a_short_one_is_left() {
        let mut long = [3.0, 4.0];
        assert_eq!(clip(&mut long, 1.0), 5.0);
        assert_eq!(long, [0.6, 0.8]);
        let mut short = [0.3, 0.4];
        clip(&mut short, 1.0);
        assert_eq!(short, [0.3, 0.4]);
        assert!(clip(&mut [f32::NAN], 1.0).is_nan());
    }

    #[test]
    fn the_rate_rises_to_its_peak_and_falls_to_nothing() {
        let schedule = Schedule { peak: 2.0, rising: 4, total: 12, falls: true };
        let rates: Vec<f64> = (0..4).map(|step| schedule.rate(step)).collect();
        assert_eq!(rates, [0.5, 1.0, 1.5, 2.0]);
        assert!((schedule.rate(8) - 1.0).abs() < 1e-12, "half way down");
        assert!(schedule.rate(12).abs() < 1e-12);
        assert_eq!(Schedule { falls: false, ..schedule }.rate(11), 2.0);
        assert_eq!(Schedule { rising: 0, ..schedule }.rate(0), 2.0);
    }

    #[test]
    fn a_mean_of_constant_weights_reaches_them() {
        let mut mean = [0.0];
        for step in 0..50 {
            average(&mut mean, &[1.0], 0.5, step);
        }
        assert!((mean[0] - 1.0).abs() < 1e-6);
    }
}
