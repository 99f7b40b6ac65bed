//! What a trial at a point is expected to gain, and where that is most.

use std::f64::consts::PI;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{
    minimize::{Limits, minimize},
    model::{Posterior, Process},
};
use crate::sampler::{
    normal::{cdf, quantile},
    qmc::scrambled,
    space::Axis,
};

/// The logarithm of the expected improvement on the least value so far, and of the probability that
/// constraints are kept.
///
/// In logarithms slopes do not vanish where little is expected (Ament, Daulton, Eriksson, Balandat, Bakshy
/// 2023, *Unexpected Improvements to Expected Improvement for Bayesian Optimization*, NeurIPS).
#[derive(Debug)]
pub(super) struct Acquisition {
    /// The loss, and the least one so far; `None` as long as no trial keeps its constraints.
    pub(super) loss: Option<(Process, f64)>,
    /// A process and the greatest value that is allowed, for each constraint.
    pub(super) constraints: Vec<(Process, f64)>,
}

/// ln(φ(z) + z Φ(z)), and its slope Φ(z) / (φ(z) + z Φ(z)).
fn log_improvement(z: f64) -> (f64, f64) {
    if -2.0 < z {
        let (density, below) = (density(z), cdf(z));
        let gain = density + z * below;
        (gain.ln(), below / gain)
    } else {
        let rest = mills_rest(-z);
        (log_density(z) + (rest / (rest - z)).ln(), 1.0 / rest)
    }
}

/// ln Φ(z), and its slope φ(z) / Φ(z).
fn log_cdf(z: f64) -> (f64, f64) {
    if -2.0 < z {
        let below = cdf(z);
        (below.ln(), density(z) / below)
    } else {
        let inverse = mills_rest(-z) - z;
        (log_density(z) - inverse.ln(), inverse)
    }
}

/// κ(a) in Φ(−a) = φ(a) / (a + κ(a)), for a ≥ 2: Laplace's continued fraction, 1/(a + 2/(a + 3/(a + …))).
fn mills_rest(a: f64) -> f64 {
    (1..=60).rev().fold(0.0, |rest, k| f64::from(k) / (a + rest))
}

fn log_density(z: f64) -> f64 {
    -0.5 * (z * z + (2.0 * PI).ln())
}

fn density(z: f64) -> f64 {
    log_density(z).exp()
}

impl Acquisition {
    /// The value at a point, and its slopes along the coordinates that are not categories if `slope` has
    /// room for them.
    fn value(&self, x: &[f64], slope: &mut [f64]) -> f64 {
        slope.fill(0.0);
        let with_slopes = !slope.is_empty();
        let mut value = 0.0;
        let mut add = |posterior: &Posterior, by_mean: f64, by_deviation: f64| {
            let deviation = posterior.variance.sqrt();
            let slopes = posterior.mean_slope.iter().zip(&posterior.variance_slope);
            for (slope, (mean, variance)) in slope.iter_mut().zip(slopes) {
                *slope += by_mean * mean + by_deviation * variance / (2.0 * deviation);
            }
        };
        if let Some((process, least)) = &self.loss {
            let posterior = process.posterior(x, with_slopes);
            let deviation = posterior.variance.sqrt();
            let z = (least - posterior.mean) / deviation;
            let (log, steep) = log_improvement(z);
            value += log + deviation.ln();
            add(&posterior, -steep / deviation, (1.0 - z * steep) / deviation);
        }
        for (process, allowed) in &self.constraints {
            let posterior = process.posterior(x, with_slopes);
            let deviation = posterior.variance.sqrt();
            let z = (allowed - posterior.mean) / deviation;
            let (log, steep) = log_cdf(z);
            value += log;
            add(&posterior, -steep / deviation, -steep * z / deviation);
        }
        value
    }

    /// A point of the space where the value is large: the best of a scrambled Sobol sequence and of
    /// neighbours of `known` points, the best first, is improved locally, along continuous coordinates
    /// by slopes and along others one at a time.
    pub(super) fn maximize(
        &self,
        axes: &[Axis],
        known: &[Vec<f64>],
        rng: &mut ChaCha8Rng,
        effort: Effort,
    ) -> Vec<f64> {
        let n = axes.len();
        let to_place = |u: &[f64]| -> Vec<f64> {
            axes.iter().zip(u).map(|(axis, &u)| place_of(axis, axis.value(u))).collect()
        };
        let sequence = scrambled(effort.samples, n, rng.random());
        let mut points: Vec<Vec<f64>> = sequence.chunks_exact(n).map(to_place).collect();
        for (i, near) in known.iter().enumerate() {
            for _ in 0..effort.neighbors >> i {
                points.push(neighbor(axes, near, rng));
            }
        }
        points.extend(known.iter().cloned());
        let mut scored: Vec<(f64, Vec<f64>)> =
            points.into_iter().map(|x| (self.value(&x, &mut []), x)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        // The best, then others as their value says: exp is the expectation itself.
        let top = scored[0].0;
        let mut starts = vec![scored.swap_remove(0)];
        let mut shares: Vec<f64> = scored.iter().map(|(value, _)| (value - top).exp()).collect();
        for _ in 1..effort.starts {
            let total: f64 = shares.iter().sum();
            if total <= 0.0 || total.is_nan() {
                break;
            }
            let mut left = rng.random::<f64>() * total;
            let chosen = shares.iter().position(|share| {
                left -= share;
                left < 0.0
            });
            let Some(chosen) = chosen else { break };
            shares[chosen] = 0.0;
            starts.push(scored[chosen].clone());
        }
        let climbed = starts.into_iter().map(|(value, x)| self.climb(axes, value, x));
        let best = climbed.reduce(|best, next| if best.0 < next.0 { next } else { best });
        best.map(|(_, x)| x).unwrap_or_default()
    }

    fn climb(&self, axes: &[Axis], mut value: f64, mut x: Vec<f64>) -> (f64, Vec<f64>) {
        let continuous: Vec<usize> =
            (0..axes.len()).filter(|&j| axes[j].n_values().is_none()).collect();
        for _ in 0..8 {
            let before = value;
            if !continuous.is_empty() {
                value = self.climb_slopes(&continuous, &mut x);
            }
            let mut moved = false;
            for (j, axis) in axes.iter().enumerate() {
                let Some(n_values) = axis.n_values() else { continue };
                for place in others(axis, n_values, x[j]) {
                    let mut next = x.clone();
                    next[j] = place;
                    let there = self.value(&next, &mut []);
                    if value < there {
                        (value, x, moved) = (there, next, true);
                    }
                }
            }
            if !moved || value - before < 1e-4 {
                break;
            }
        }
        (value, x)
    }

    /// Along the continuous coordinates, in units of their length scales.
    fn climb_slopes(&self, continuous: &[usize], x: &mut [f64]) -> f64 {
        let process = self.loss.as_ref().or(self.constraints.first()).map(|(process, _)| process);
        let size = |&j: &usize| process.map_or(1.0, |p| p.hyper.weights[j].sqrt().max(1e-3));
        let sizes: Vec<f64> = continuous.iter().map(size).collect();
        let mut scaled: Vec<f64> = continuous.iter().zip(&sizes).map(|(&j, s)| x[j] * s).collect();
        let mut whole = x.to_vec();
        let mut slopes = vec![0.0; x.len()];
        let mut loss = |scaled: &[f64], slope: &mut [f64]| {
            for ((&j, s), z) in continuous.iter().zip(&sizes).zip(scaled) {
                whole[j] = (z / s).min(1.0);
            }
            let value = self.value(&whole, &mut slopes);
            for ((&j, s), slope) in continuous.iter().zip(&sizes).zip(slope) {
                *slope = -slopes[j] / s;
            }
            -value
        };
        let low = vec![0.0; sizes.len()];
        let limits = Limits { steps: 60, slope: 1e-3 };
        let value = -minimize(&mut loss, &mut scaled, (&low, &sizes), limits);
        for ((&j, s), z) in continuous.iter().zip(&sizes).zip(&scaled) {
            x[j] = (z / s).min(1.0);
        }
        value
    }
}

/// How hard [`Acquisition::maximize`] tries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// Points of the sequence.
    pub(super) samples: u32,
    /// Neighbours of the first known point; half as many of the next, and so on.
    pub(super) neighbors: u32,
    /// How many points are improved.
    pub(super) starts: usize,
}

/// Where a value stands for the process: a category at its index.
pub(super) fn place_of(axis: &Axis, value: f64) -> f64 {
    if axis.is_categorical() { value } else { axis.unit(value) }
}

/// The internal value of a place.
pub(super) fn value_of(axis: &Axis, place: f64) -> f64 {
    if axis.is_categorical() { place } else { axis.value(place) }
}

/// A point beside another: a step of some hundredths to a tenth of the range along about half of the
/// numeric coordinates, another category now and then.
fn neighbor(axes: &[Axis], x: &[f64], rng: &mut ChaCha8Rng) -> Vec<f64> {
    let size = 10_f64.powf(rng.random_range(-3.0..-0.7));
    let step = |(axis, &x): (&Axis, &f64)| {
        if axis.is_categorical() {
            let n = axis.n_values().unwrap_or(1);
            return if rng.random_bool(0.2) { rng.random_range(0..n) as f64 } else { x };
        }
        if rng.random_bool(0.5) {
            return x;
        }
        let u = x + size * quantile(rng.random_range(1e-12..1.0));
        axis.unit(axis.value(u))
    };
    axes.iter().zip(x).map(step).collect()
}

/// Other places of a discrete coordinate to look at: all, if they are few; else those 1, 2, 4, … values
/// away.
fn others(axis: &Axis, n_values: u64, place: f64) -> Vec<f64> {
    const FEW: u64 = 16;
    if axis.is_categorical() || n_values <= FEW {
        let all = (0..n_values).map(|i| place_of(axis, axis.nth(i)));
        return all.filter(|&other| other != place).collect();
    }
    let value = value_of(axis, place);
    // The index of the value: values ascend.
    let (mut low, mut high) = (0, n_values - 1);
    while low < high {
        let middle = low + (high - low) / 2;
        if axis.nth(middle) < value { low = middle + 1 } else { high = middle }
    }
    let steps = (0..64).map(|k| 1_u64 << k).take_while(|step| *step < n_values);
    let both = steps.flat_map(|step| [low.checked_sub(step), low.checked_add(step)]);
    both.flatten().filter(|&i| i < n_values).map(|i| place_of(axis, axis.nth(i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By mpmath 1.3 with 50 digits.
    #[test]
    fn logarithms_are_right_in_the_tails() {
        for (z, improvement, below) in [
            (3.0, 1.098_739_665_327_707, -0.001_350_809_964_748),
            (0.0, -0.918_938_533_204_672, -std::f64::consts::LN_2),
            (-1.9, -4.504_931_161_621_666, -3.550_281_325_542_134),
            (-2.1, -5.040_839_977_503_971, -4.024_944_222_243_984),
            (-8.0, -37.122_364_261_692_63, -35.013_437_159_914_54),
            (-40.0, -808.298_568_356_619_9, -804.608_442_013_753_7),
        ] {
            let (got, slope) = log_improvement(z);
            assert!((got - improvement).abs() < 1e-12 * got.abs().max(1.0), "{z}: {got}");
            let (got_below, slope_below) = log_cdf(z);
            assert!(
                (got_below - below).abs() < 1e-12 * got_below.abs().max(1.0),
                "{z}: {got_below}"
            );
            for (f, slope) in [
                (log_improvement as fn(f64) -> (f64, f64), slope),
                (log_cdf as fn(f64) -> (f64, f64), slope_below),
            ] {
                let difference = (f(z + 1e-5).0 - f(z - 1e-5).0) / 2e-5;
                assert!((slope - difference).abs() < 1e-7 * (1.0 + slope.abs()), "{z}");
            }
        }
    }
}
