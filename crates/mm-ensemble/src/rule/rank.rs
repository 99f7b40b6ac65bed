//! The mean of ranks.

use mm_core::{Error, Matrix, Output, Result};
use serde::{Deserialize, Serialize};

/// Where values lie in the members' distributions, averaged, and put back on the scale of their
/// mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ranks {
    weights: Vec<f64>,
    members: Vec<Vec<Quantiles>>, // One a member and output.
    mean: Vec<Quantiles>,         // One an output.
}

/// Values at equally spaced levels from 0 to 1, not decreasing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Quantiles(Vec<f64>);

/// Levels that are kept of each distribution.
const KNOTS: usize = 257;

impl Ranks {
    /// Learns the distributions of `parts`, which have at least one row.
    pub(crate) fn learn(weights: Vec<f64>, parts: &[&Matrix]) -> Self {
        let k = parts[0].n_cols();
        let members = parts
            .iter()
            .map(|part| (0..k).map(|j| Quantiles::of(part.column(j).collect())).collect())
            .collect();
        let mean = |j: usize| {
            let mut sums = vec![0.0; parts[0].n_rows()];
            for (part, weight) in parts.iter().zip(&weights) {
                sums.iter_mut().zip(part.column(j)).for_each(|(sum, y)| *sum += weight * y);
            }
            Quantiles::of(sums)
        };
        let mean = (0..k).map(mean).collect();
        Self { weights, members, mean }
    }

    pub(crate) fn weights(&self) -> &[f64] {
        &self.weights
    }

    pub(super) fn check(&self, n: usize, outputs: &[Output]) -> Result<()> {
        let k = outputs.len();
        let sound = |all: &[Quantiles]| all.len() == k && all.iter().all(Quantiles::is_sound);
        let ok = self.weights.len() == n
            && self.weights.iter().all(|w| 0.0 <= *w)
            && (self.weights.iter().sum::<f64>() - 1.0).abs() < 1e-9
            && self.members.len() == n
            && self.members.iter().all(|member| sound(member))
            && sound(&self.mean);
        if ok {
            return Ok(());
        }
        let expected = format_args!("weights and distributions of {n} members, {k} outputs");
        Err(Error::data("ranks", expected, "others"))
    }

    pub(super) fn combine(&self, parts: &[f64], out: &mut [f64]) {
        let k = out.len();
        for (j, y) in out.iter_mut().enumerate() {
            let members = parts.chunks_exact(k).zip(&self.members).zip(&self.weights);
            let level: f64 =
                members.map(|((part, of), weight)| weight * of[j].level(part[j])).sum();
            *y = self.mean[j].value(level);
        }
        if 1 < k {
            super::normalize(out);
        }
    }
}

impl Quantiles {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len() - 1;
        let knots = KNOTS.min(values.len()).max(2);
        let at = |i: usize| {
            let place = i as f64 * last as f64 / (knots - 1) as f64;
            let (low, part) = (place.floor() as usize, place.fract());
            values[low] + part * (values[(low + 1).min(last)] - values[low])
        };
        Self((0..knots).map(at).collect())
    }

    fn is_sound(&self) -> bool {
        2 <= self.0.len() && self.0.windows(2).all(|pair| pair[0] <= pair[1])
    }

    /// The middle of the levels at which the distribution has the value.
    fn level(&self, value: f64) -> f64 {
        let knots = &self.0;
        let last = (knots.len() - 1) as f64;
        let below = knots.partition_point(|&knot| knot < value);
        let through = knots.partition_point(|&knot| knot <= value);
        if below < through {
            return (below + through - 1) as f64 / 2.0 / last;
        }
        if below == 0 || below == knots.len() {
            return if below == 0 { 0.0 } else { 1.0 };
        }
        let (low, high) = (knots[below - 1], knots[below]);
        ((below - 1) as f64 + (value - low) / (high - low)) / last
    }

    fn value(&self, level: f64) -> f64 {
        let knots = &self.0;
        let place = level.clamp(0.0, 1.0) * (knots.len() - 1) as f64;
        let low = (place.floor() as usize).min(knots.len() - 2);
        knots[low] + (place - low as f64) * (knots[low + 1] - knots[low])
    }
}
