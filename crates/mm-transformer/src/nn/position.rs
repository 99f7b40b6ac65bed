//! Where in a sequence a vector stands.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// How a sequence model knows the order of its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Position {
    /// Not at all.
    None,
    /// Sines and cosines of falling frequency are added (Vaswani et al. 2017).
    Sinusoidal,
    /// A vector a step is learnt and added.
    #[default]
    Learned,
    /// Queries and keys are turned by angles that grow with the step (Su et al. 2021, "RoFormer"),
    /// so that attention sees distances.
    Rotary,
    /// A number for each head and distance is learnt and added to the scores of attention (after
    /// Shaw et al. 2018, in the form of T5, Raffel et al. 2020).
    Relative,
}

/// Wavelength of the slowest component, in steps over τ.
const BASE: f64 = 10_000.0;

/// The angle of `step` in component pair `pair` of a vector of length `width`.
fn angle(step: usize, pair: usize, width: usize) -> f64 {
    step as f64 / BASE.powf(2.0 * pair as f64 / width as f64)
}

/// The sinusoidal encoding of `steps` steps, of shape (*t*, *d*): sines in even components, cosines
/// in odd ones.
pub(crate) fn sinusoidal(steps: usize, width: usize) -> Vec<f32> {
    let at = |step: usize, i: usize| {
        let angle = angle(step, i / 2, width);
        (if i.is_multiple_of(2) { angle.sin() } else { angle.cos() }) as f32
    };
    (0..steps).flat_map(|step| (0..width).map(move |i| at(step, i))).collect()
}

/// Turns each pair of neighbouring components of a head by an angle that grows with the step.
#[derive(Debug)]
pub(crate) struct Rotary {
    /// (steps, half a head's width): cosine and sine of a pair's angle.
    pub(crate) turns: Arc<[[f32; 2]]>,
    cosines: Tensor<4>,
    sines: Tensor<4>,
    /// Sends (*a*, *b*) of each pair to (−*b*, *a*): a product with a constant matrix, whose
    /// gradient needs no code of its own.
    quarter_turn: Tensor<4>,
}

impl Rotary {
    /// For `steps` steps of heads of even width.
    pub(crate) fn new(steps: usize, width: usize, device: &Device) -> Self {
        let table = |f: fn(f64) -> f64| {
            let at = |step, i: usize| f(angle(step, i / 2, width)) as f32;
            let values: Vec<f32> =
                (0..steps).flat_map(|step| (0..width).map(move |i| at(step, i))).collect();
            Tensor::from_data(TensorData::new(values, [1, 1, steps, width]), device)
        };
        let turns = (0..steps).flat_map(|step| (0..width / 2).map(move |pair| (step, pair)));
        let turns = turns.map(|(step, pair)| {
            let angle = angle(step, pair, width);
            [angle.cos() as f32, angle.sin() as f32]
        });
        let mut turn = vec![0.0_f32; width * width];
        for pair in 0..width / 2 {
            let (a, b) = (2 * pair, 2 * pair + 1);
            turn[b * width + a] = -1.0;
            turn[a * width + b] = 1.0;
        }
        Self {
            turns: turns.collect(),
            cosines: table(f64::cos),
            sines: table(f64::sin),
            quarter_turn: Tensor::from_data(TensorData::new(turn, [1, 1, width, width]), device),
        }
    }

    /// (*n*, heads, *t*, width of a head) → the same.
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let turned = x.clone().matmul(self.quarter_turn.clone());
        x * self.cosines.clone() + turned * self.sines.clone()
    }
}
