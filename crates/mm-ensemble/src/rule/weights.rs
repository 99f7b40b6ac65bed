//! The weighted mean.

use mm_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Weights of *m* members: one each, or one a member and output, whose rows are then scaled to add
/// up to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Weights {
    values: Vec<f64>, // Row-major, a row a member. None negative.
    n_outputs: usize, // 1 where the outputs share the weights.
}

impl Weights {
    pub(crate) fn equal(n: usize) -> Self {
        Self { values: vec![1.0 / n as f64; n], n_outputs: 1 }
    }

    /// One weight a member, as they are.
    pub(crate) fn unscaled(values: Vec<f64>) -> Self {
        Self { values, n_outputs: 1 }
    }

    /// One weight a member, scaled to add up to 1; equal ones if that cannot be.
    pub(crate) fn scaled(weights: Vec<f64>) -> Self {
        Self::scaled_by_output(weights, 1)
    }

    /// `n_outputs` weights a member, those of each output scaled to add up to 1.
    pub(crate) fn scaled_by_output(mut values: Vec<f64>, n_outputs: usize) -> Self {
        let n = values.len() / n_outputs;
        for output in 0..n_outputs {
            let total: f64 = values.iter().skip(output).step_by(n_outputs).sum();
            for weight in values.iter_mut().skip(output).step_by(n_outputs) {
                let ok = 0.0 < total && total.is_finite();
                *weight = if ok { *weight / total } else { 1.0 / n as f64 };
            }
        }
        Self { values, n_outputs }
    }

    /// Weights below `least` become 0, the others are scaled up; the largest always stays.
    pub(crate) fn pruned(self, least: f64) -> Self {
        let by_member = self.by_member();
        let largest = by_member.iter().copied().fold(0.0, f64::max);
        let stays = |member: usize| least <= by_member[member] || by_member[member] == largest;
        let width = self.n_outputs;
        let kept = self.values.iter().enumerate();
        let values = kept.map(|(i, &w)| if stays(i / width) { w } else { 0.0 }).collect();
        Self::scaled_by_output(values, width)
    }

    /// The rows of the given members.
    pub(crate) fn take(&self, members: &[usize]) -> Self {
        let row = |&member: &usize| &self.values[member * self.n_outputs..][..self.n_outputs];
        let values = members.iter().flat_map(row).copied().collect();
        Self { values, n_outputs: self.n_outputs }
    }

    pub(crate) fn by_member(&self) -> Vec<f64> {
        let rows = self.values.chunks_exact(self.n_outputs);
        rows.map(|row| row.iter().sum::<f64>() / self.n_outputs as f64).collect()
    }

    pub(super) fn check(&self, n: usize, n_outputs: usize) -> Result<()> {
        let width = self.n_outputs;
        let near_one = |output: usize| {
            (self.values.iter().skip(output).step_by(width).sum::<f64>() - 1.0).abs() < 1e-9
        };
        let ok = (width == 1 || width == n_outputs)
            && self.values.len() == n * width
            && self.values.iter().all(|w| 0.0 <= *w)
            && (0..width).all(near_one);
        if ok {
            return Ok(());
        }
        let expected = format_args!("{n}, or {n} × {n_outputs}, adding up to 1");
        Err(Error::data("weights", expected, format_args!("{:?}", self.values)))
    }

    pub(super) fn combine(&self, parts: &[f64], out: &mut [f64]) {
        out.fill(0.0);
        let members = parts.chunks_exact(out.len()).zip(self.values.chunks_exact(self.n_outputs));
        if self.n_outputs == 1 {
            for (part, weight) in members {
                out.iter_mut().zip(part).for_each(|(sum, y)| *sum += weight[0] * y);
            }
            return;
        }
        for (part, weights) in members {
            for ((sum, y), weight) in out.iter_mut().zip(part).zip(weights) {
                *sum += weight * y;
            }
        }
        super::normalize(out);
    }
}
