//! The evolution strategy itself: what it knows, and how it learns from a generation.

use super::eigen::eigen;
use crate::sampler::normal::{cdf, quantile};

/// The distribution N(m, σ² C) from which a generation is drawn, and what its next form needs.
///
/// The equations are those of Hansen (2016), *The CMA Evolution Strategy: A Tutorial*, arXiv:1604.00772,
/// with its default constants, negative weights included; discrete coordinates have the margin of
/// Hamano, Saito, Nomura, Shirakawa (2022), *CMA-ES with Margin*, GECCO.
#[derive(Debug, Clone)]
pub(super) struct Strategy {
    pub(super) mean: Vec<f64>,
    pub(super) sigma: f64,
    /// C, row by row.
    pub(super) cov: Vec<f64>,
    /// Paths of evolution: of the step size, and of C.
    path_sigma: Vec<f64>,
    path_cov: Vec<f64>,
    generation: u32,
    /// By how much discrete coordinates are widened around the mean before they are rounded.
    widen: Vec<f64>,
    /// C = B D² Bᵀ: B row by row, and D.
    basis: Vec<f64>,
    scales: Vec<f64>,
    constants: Constants,
}

/// What depends on the dimension and the population alone.
#[derive(Debug, Clone)]
struct Constants {
    /// Weights by rank; negative for the worse half.
    weights: Vec<f64>,
    n_parents: usize,
    mu_eff: f64,
    c_sigma: f64,
    d_sigma: f64,
    c_c: f64,
    c_1: f64,
    c_mu: f64,
    /// The expected length of a standard normal vector.
    chi: f64,
    /// The least probability that a discrete coordinate leaves its cell.
    margin: f64,
}

impl Constants {
    fn of(n: usize, population: usize) -> Self {
        let (d, lambda) = (n as f64, population as f64);
        let n_parents = population / 2;
        let raw: Vec<f64> =
            (1..=population).map(|i| (f64::midpoint(lambda, 1.0) / i as f64).ln()).collect();
        let effective =
            |w: &[f64]| w.iter().sum::<f64>().powi(2) / w.iter().map(|w| w * w).sum::<f64>();
        let (mu_eff, mu_eff_minus) = (effective(&raw[..n_parents]), effective(&raw[n_parents..]));
        let c_1 = 2.0 / ((d + 1.3).powi(2) + mu_eff);
        let c_mu = (2.0 * (mu_eff - 2.0 + 1.0 / mu_eff) / ((d + 2.0).powi(2) + mu_eff))
            .min(1.0 - c_1 - 1e-8);
        let bounds = [
            1.0 + c_1 / c_mu,
            1.0 + 2.0 * mu_eff_minus / (mu_eff + 2.0),
            (1.0 - c_1 - c_mu) / (d * c_mu),
        ];
        let negative = bounds.into_iter().fold(f64::INFINITY, f64::min);
        let sum = |positive: bool| -> f64 {
            raw.iter().filter(|&&w| (0.0 < w) == positive).map(|w| w.abs()).sum()
        };
        let (plus, minus) = (sum(true), sum(false));
        let weigh = |&w: &f64| if 0.0 <= w { w / plus } else { negative * w / minus };
        let c_sigma = (mu_eff + 2.0) / (d + mu_eff + 5.0);
        Self {
            weights: raw.iter().map(weigh).collect(),
            n_parents,
            mu_eff,
            c_sigma,
            d_sigma: 1.0 + 2.0 * (((mu_eff - 1.0) / (d + 1.0)).sqrt() - 1.0).max(0.0) + c_sigma,
            c_c: (4.0 + mu_eff / d) / (d + 4.0 + 2.0 * mu_eff / d),
            c_1,
            c_mu,
            chi: d.sqrt() * (1.0 - 1.0 / (4.0 * d) + 1.0 / (21.0 * d * d)),
            margin: 1.0 / (d * lambda),
        }
    }
}

impl Strategy {
    /// Begins with N(mean, σ² C).
    pub(super) fn new(mean: Vec<f64>, sigma: f64, cov: Vec<f64>, population: usize) -> Self {
        let n = mean.len();
        let mut strategy = Self {
            path_sigma: vec![0.0; n],
            path_cov: vec![0.0; n],
            generation: 0,
            widen: vec![1.0; n],
            basis: Vec::new(),
            scales: Vec::new(),
            constants: Constants::of(n, population),
            mean,
            sigma,
            cov,
        };
        strategy.decompose();
        strategy
    }

    /// How many solutions a generation has.
    pub(super) fn population(&self) -> usize {
        self.constants.weights.len()
    }

    /// m + σ B D z.
    pub(super) fn draw(&self, z: &[f64]) -> Vec<f64> {
        let n = self.mean.len();
        let coordinate = |i: usize| {
            let row = &self.basis[i * n..(i + 1) * n];
            let y: f64 = row.iter().zip(&self.scales).zip(z).map(|((b, d), z)| b * d * z).sum();
            self.mean[i] + self.sigma * y
        };
        (0..n).map(coordinate).collect()
    }

    /// What a discrete coordinate of a draw stands for: its distance to the mean, widened.
    pub(super) fn widened(&self, i: usize, x: f64) -> f64 {
        self.mean[i] + (x - self.mean[i]) * self.widen[i]
    }

    /// Learns from a generation: its draws, best first, as many as the population has. `cell` gives the
    /// inner borders of the cell around a place of a discrete coordinate.
    pub(super) fn tell(
        &mut self,
        ranked: &[Vec<f64>],
        cell: impl Fn(usize, f64) -> Option<[Option<f64>; 2]>,
    ) {
        let n = self.mean.len();
        let Constants {
            ref weights,
            n_parents,
            mu_eff,
            c_sigma,
            d_sigma,
            c_c,
            c_1,
            c_mu,
            chi,
            margin,
        } = self.constants;
        self.generation += 1;
        let steps: Vec<Vec<f64>> = ranked
            .iter()
            .map(|x| x.iter().zip(&self.mean).map(|(x, m)| (x - m) / self.sigma).collect())
            .collect();
        let mut step = vec![0.0; n];
        for (y, w) in steps[..n_parents].iter().zip(weights) {
            step.iter_mut().zip(y).for_each(|(step, y)| *step += w * y);
        }
        for (m, y) in self.mean.iter_mut().zip(&step) {
            *m += self.sigma * y;
        }

        let whitened = self.whiten(&step);
        let gain = (c_sigma * (2.0 - c_sigma) * mu_eff).sqrt();
        for (p, w) in self.path_sigma.iter_mut().zip(&whitened) {
            *p = (1.0 - c_sigma) * *p + gain * w;
        }
        let length = norm(&self.path_sigma);
        // Where a draw's step was computed, before it changes.
        let sigma = self.sigma * ((c_sigma / d_sigma) * (length / chi - 1.0)).exp();
        self.sigma = sigma.min(1e32);

        let fade = 1.0 - (1.0 - c_sigma).powi(2 * (self.generation as i32 + 1));
        let is_steady = length / fade.sqrt() < (1.4 + 2.0 / (n as f64 + 1.0)) * chi;
        let h = f64::from(u8::from(is_steady));
        let gain = h * (c_c * (2.0 - c_c) * mu_eff).sqrt();
        for (p, y) in self.path_cov.iter_mut().zip(&step) {
            *p = (1.0 - c_c) * *p + gain * y;
        }

        let total: f64 = weights.iter().sum();
        let keep = 1.0 + c_1 * (1.0 - h) * c_c * (2.0 - c_c) - c_1 - c_mu * total;
        // A negative weight takes a step of the expected length, however long it was.
        let weigh = |(y, &w): (&Vec<f64>, &f64)| {
            let shrink = || n as f64 / (norm(&self.whiten(y)).powi(2) + 1e-8);
            if 0.0 <= w { w } else { w * shrink() }
        };
        let shares: Vec<f64> = steps.iter().zip(weights).map(weigh).collect();
        for i in 0..n {
            for j in 0..n {
                let outer: f64 = steps.iter().zip(&shares).map(|(y, w)| w * y[i] * y[j]).sum();
                let c = &mut self.cov[i * n + j];
                *c = keep * *c + c_1 * self.path_cov[i] * self.path_cov[j] + c_mu * outer;
            }
        }
        self.decompose();
        for i in 0..n {
            if let Some(borders) = cell(i, self.mean[i]) {
                self.keep_margin(i, borders, margin);
            }
        }
    }

    /// Sees to it that a discrete coordinate leaves the cell of its mean with a probability of at least
    /// α on a side where there is another cell, by moving the mean and by widening draws.
    fn keep_margin(&mut self, i: usize, borders: [Option<f64>; 2], alpha: f64) {
        let n = self.mean.len();
        let spread = self.sigma * self.cov[i * n + i].max(0.0).sqrt();
        let (low, high) = match borders {
            [Some(low), Some(high)] => (low, high),
            [Some(only), None] | [None, Some(only)] => (only, only),
            [None, None] => return,
        };
        let deviation = spread * self.widen[i];
        // Φ⁻¹(1 − p), for p up to a half.
        let above = |p: f64| -quantile(p.clamp(1e-10, 0.5 - 1e-10));
        let left = cdf((low - self.mean[i]) / deviation);
        let right = cdf((self.mean[i] - high) / deviation);
        if 0.5 < left.max(right) {
            if left.min(right) < alpha {
                let side = if self.mean[i] < high { -1.0 } else { 1.0 };
                self.mean[i] = high + side * deviation * above(alpha);
            }
            return;
        }
        let middle = 1.0 - left - right;
        let (left, right) = (left.max(alpha / 2.0), right.max(alpha / 2.0));
        let total = left + middle + right;
        // What was added on the sides is taken from all three in proportion to what they can give.
        let give = |p: f64| p + (1.0 - total) * (p - alpha / 2.0) / (total - 1.5 * alpha);
        let (left, right) = (above(give(left)), above(give(right)));
        self.widen[i] = (high - low) / ((left + right) * spread);
        self.mean[i] = (low * right + high * left) / (left + right);
    }

    /// C^(−1/2) y.
    fn whiten(&self, y: &[f64]) -> Vec<f64> {
        let n = y.len();
        let column = |k: usize| (0..n).map(move |i| self.basis[i * n + k]);
        let along: Vec<f64> = (0..n)
            .map(|k| column(k).zip(y).map(|(b, y)| b * y).sum::<f64>() / self.scales[k])
            .collect();
        let back = |i: usize| {
            self.basis[i * n..(i + 1) * n].iter().zip(&along).map(|(b, x)| b * x).sum::<f64>()
        };
        (0..n).map(back).collect()
    }

    fn decompose(&mut self) {
        let n = self.mean.len();
        let (values, basis) = eigen(self.cov.clone(), n);
        // Rounding may leave a little below 0.
        self.scales = values.into_iter().map(|v| if v <= 0.0 { 1e-8 } else { v }.sqrt()).collect();
        self.basis = basis;
    }
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Json;

    /// `tests/fixtures/cma.py`: what the Python package `cmaes` makes of the same generations.
    #[test]
    fn generations_lead_where_cmaes_is_led() {
        let fixture = Json::parse(include_str!("../../../tests/fixtures/cma.json")).expect("JSON");
        let cases = fixture.as_array().expect("cases");
        assert_eq!(cases.len(), 3);
        for case in cases {
            let field =
                |json: &Json, key: &str| json.get(key).cloned().expect("the fixture is whole");
            let numbers = |json: &Json| -> Vec<f64> {
                json.as_array().expect("a list").iter().filter_map(Json::as_f64).collect()
            };
            let mean = numbers(&field(case, "mean"));
            // Cells of a coordinate: 0 for a continuous one.
            let cells = numbers(&field(case, "cells"));
            let n = mean.len();
            let identity = (0..n * n).map(|i| f64::from(u8::from(i / n == i % n))).collect();
            let generations = field(case, "generations");
            let generations = generations.as_array().expect("a list");
            let rows = |json: &Json| -> Vec<Vec<f64>> {
                json.as_array().expect("rows").iter().map(numbers).collect()
            };
            let population = rows(&field(&generations[0], "ranked")).len();
            let mut strategy = Strategy::new(mean, 0.3, identity, population);
            let cell = |i: usize, u: f64| {
                let k = cells[i];
                let at = (u * k).floor().clamp(0.0, (k - 1.0).max(0.0));
                let inner =
                    |border: f64| Some(border / k).filter(|_| 0.5 < border && border < k - 0.5);
                (0.0 < k).then(|| [inner(at), inner(at + 1.0)])
            };
            for (g, generation) in generations.iter().enumerate() {
                strategy.tell(&rows(&field(generation, "ranked")), cell);
                let near = |got: &[f64], key: &str| {
                    let expected = numbers(&field(generation, key));
                    assert_eq!(got.len(), expected.len());
                    for (got, expected) in got.iter().zip(expected) {
                        // Rounding grows from generation to generation; there are twelve.
                        let error = (got - expected).abs() / (1e-3 + expected.abs());
                        assert!(error < 1e-7, "{key} of generation {g}: {got}, {expected}");
                    }
                };
                near(&strategy.mean, "mean");
                near(&[strategy.sigma], "sigma");
                near(&strategy.cov, "cov");
                near(&strategy.widen, "widen");
            }
        }
    }
}
