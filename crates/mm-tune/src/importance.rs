//! Which parameters mattered.

use std::sync::Arc;

use mm_core::{FloatRange, IntRange, ParamError, Result};

use crate::{
    distribution::Distribution,
    pareto::{fronts, losses, spread_subset},
    sampler::normal,
    study::Study,
    trial::{FrozenTrial, TrialState},
};

/// How much each parameter told good trials from the rest, by PED-ANOVA.
///
/// # Idea
///
/// Let *p*ᵣ be the density of a parameter's values among all complete trials, and *p*ₜ that among the
/// best of them. A parameter matters as far as the two differ, by Pearson's divergence on a grid of
/// at most `steps` cells:
///
/// ```text
/// D = Σ_g pᵣ(g) (pₜ(g) / pᵣ(g) − 1)²
/// ```
///
/// Densities are mixtures of normals on the grid with Scott's bandwidth, of categories with weights,
/// each with a uniform prior as one more trial. Where a parameter is conditional, or its range
/// changed, each kind of trials is taken by itself and weighed by α²/β, its shares among the best and
/// among all. O(*n* · steps) a parameter. The importances sum to 1, or are all equal where nothing
/// differs.
///
/// Watanabe, Bansal & Hutter (2023), "PED-ANOVA: efficiently quantifying hyperparameter importance in
/// arbitrary subspaces"; of conditional parameters: Conditional PED-ANOVA (2026), both in the form of
/// Optuna 5.0, with whose numbers tests agree.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `best` | 0.1 | (0, 1) | the share of trials that count as the best |
/// | `steps` | 50 | ≥ 2 | cells of the grid at most |
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PedAnova {
    /// The share of trials that count as the best.
    pub best: f64,
    /// Cells of the grid at most.
    pub steps: usize,
}

impl Default for PedAnova {
    fn default() -> Self {
        Self { best: 0.1, steps: 50 }
    }
}

impl PedAnova {
    /// Each parameter with its importance, the largest first. With several objectives the best trials
    /// are those of the first fronts. None of fewer than 2 complete trials.
    pub fn of(&self, study: &Study) -> Result<Vec<(String, f64)>> {
        let ok = 0.0 < self.best && self.best < 1.0;
        ParamError::ensure(ok, "best", self.best, "a number in (0, 1)")?;
        ParamError::ensure(2 <= self.steps, "steps", self.steps, "at least 2")?;
        let mut trials = study.trials()?;
        trials.retain(|trial| {
            trial.state == TrialState::Complete
                && trial.values.len() == study.directions().len()
                && trial.values.iter().all(|value| value.is_finite())
        });
        if trials.len() < 2 {
            return Ok(Vec::new());
        }
        let is_best = self.is_best(study, &trials);
        let (n, n_best) = (trials.len() as f64, is_best.iter().filter(|&&b| b).count() as f64);
        let mut names: Vec<&Arc<str>> =
            trials.iter().flat_map(|trial| &trial.params).map(|param| &param.name).collect();
        names.sort_unstable();
        names.dedup();
        let importance = |name: &Arc<str>| {
            let mut sum = 0.0;
            for (distribution, rows) in regimes(name, &trials) {
                let best: Vec<usize> = rows.iter().copied().filter(|&i| is_best[i]).collect();
                if rows.len() < 2 || best.is_empty() || distribution.is_single() {
                    continue;
                }
                let (alpha, beta) = (best.len() as f64 / n_best, rows.len() as f64 / n);
                let cells = Cells::of(distribution, self.steps);
                let density = |rows: &[usize]| {
                    let values = rows.iter().filter_map(|&i| trials[i].params.get(name));
                    cells.density(values.map(|param| param.value))
                };
                let (top, all) = (density(&best), density(&rows));
                let terms = top.iter().zip(&all).map(|(t, a)| a * (t / a - 1.0).powi(2));
                sum += alpha * alpha / beta * terms.sum::<f64>();
            }
            sum
        };
        let raw = names.into_iter().map(|name| (name.to_string(), importance(name))).collect();
        Ok(normalized(raw))
    }

    /// Of several objectives the fronts, and of the last front the most spread out; of one, all that
    /// are no worse than the quantile.
    fn is_best(&self, study: &Study, trials: &[Arc<FrozenTrial>]) -> Vec<bool> {
        let n_best = (self.best * trials.len() as f64).ceil() as usize;
        let points: Vec<Vec<f64>> =
            trials.iter().map(|trial| losses(trial, study.directions())).collect();
        let mut is_best = vec![false; trials.len()];
        if study.directions().len() == 1 {
            let mut sorted: Vec<f64> = points.iter().map(|point| point[0]).collect();
            sorted.sort_unstable_by(f64::total_cmp);
            let bar = sorted[n_best.clamp(1, sorted.len()) - 1];
            points.iter().zip(&mut is_best).for_each(|(point, is)| *is = point[0] <= bar);
            return is_best;
        }
        let mut left = n_best;
        for front in fronts(&points, n_best) {
            let chosen = if front.len() <= left {
                front
            } else {
                let own: Vec<Vec<f64>> = front.iter().map(|&i| points[i].clone()).collect();
                spread_subset(&own, left).into_iter().map(|k| front[k]).collect()
            };
            left -= chosen.len();
            for i in chosen {
                is_best[i] = true;
            }
        }
        is_best
    }
}

/// The trials that have the parameter, by what it was drawn from.
fn regimes<'a>(name: &str, trials: &'a [Arc<FrozenTrial>]) -> Vec<(&'a Distribution, Vec<usize>)> {
    let mut regimes: Vec<(&Distribution, Vec<usize>)> = Vec::new();
    for (i, trial) in trials.iter().enumerate() {
        let Some(param) = trial.params.get(name) else { continue };
        match regimes.iter_mut().find(|(known, _)| **known == *param.distribution) {
            Some((_, rows)) => rows.push(i),
            None => regimes.push((&param.distribution, vec![i])),
        }
    }
    regimes
}

/// Largest first, sum 1.
pub(crate) fn normalized(mut all: Vec<(String, f64)>) -> Vec<(String, f64)> {
    let (sum, n) = (all.iter().map(|(_, x)| x).sum::<f64>(), all.len() as f64);
    for (_, x) in &mut all {
        *x = if 0.0 < sum { *x / sum } else { 1.0 / n };
    }
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all
}

/// The cells into which a parameter's values fall.
enum Cells {
    /// So many, evenly over the range from `low`, `width` apart, perhaps of logarithms.
    Even { n: usize, low: f64, width: f64, log: bool },
    /// One a category.
    Categories(usize),
}

impl Cells {
    fn of(distribution: &Distribution, most: usize) -> Self {
        let even = |n: usize, low: f64, high: f64, log: bool| {
            let (low, high) = if log { (low.ln(), high.ln()) } else { (low, high) };
            Self::Even { n, low, width: (high - low) / (n as f64 - 1.0), log }
        };
        match *distribution {
            Distribution::Float(FloatRange { low, high, step, log }) => {
                let n = step.map_or(most, |step| ((high - low) / step).round() as usize + 1);
                even(n.min(most), low, high, log)
            }
            Distribution::Int(IntRange { low, high, step, log }) => {
                let n = if log {
                    ((high - low + 1) as f64).log2().ceil() as usize + 1
                } else {
                    ((high - low) / step) as usize + 1
                };
                even(n.min(most), low as f64, high as f64, log)
            }
            Distribution::Categorical(ref choices) => Self::Categories(choices.len()),
        }
    }

    /// The probability of each cell.
    fn density(&self, values: impl Iterator<Item = f64>) -> Vec<f64> {
        match *self {
            Self::Even { n, low, width, log } => {
                let mut counts = vec![0.0; n];
                for value in values {
                    let place = ((if log { value.ln() } else { value }) - low) / width;
                    // In the middle between two cells it is the lower one's.
                    counts[((place - 0.5).ceil().max(0.0) as usize).min(n - 1)] += 1.0;
                }
                normals(&counts)
            }
            Self::Categories(n) => {
                let mut counts = vec![0.0; n];
                values.for_each(|value| counts[(value as usize).min(n - 1)] += 1.0);
                categories(&counts)
            }
        }
    }
}

/// So that no cell is empty, as Optuna has it.
const LEAST: f64 = 1e-12;

/// A normal at each cell, as heavy as its count and cut off at the ends, and a wide one.
fn normals(counts: &[f64]) -> Vec<f64> {
    let seen: Vec<(f64, f64)> =
        counts.iter().enumerate().filter(|(_, c)| 0.0 < **c).map(|(i, &c)| (i as f64, c)).collect();
    let n: f64 = seen.iter().map(|(_, count)| count).sum();
    let mean = seen.iter().map(|(at, count)| at * count).sum::<f64>() / n;
    let squares: f64 = seen.iter().map(|(at, count)| (at - mean).powi(2) * count).sum();
    let deviation = (squares / (n - 1.0).max(1.0)).sqrt();
    let cumulated: Vec<f64> = seen
        .iter()
        .scan(0.0, |sum, (_, count)| {
            *sum += count;
            Some(*sum)
        })
        .collect();
    let quarter = cumulated.partition_point(|&sum| sum < (n / 4.0).floor());
    let three = cumulated.partition_point(|&sum| sum <= (n * 3.0 / 4.0).floor());
    let spread = seen[three.min(seen.len() - 1)].0 - seen[quarter].0;
    let sigma = 1.059 * (spread / 1.34).min(deviation) * n.powf(-0.2);
    let sigma = sigma.max(0.5 / 1.64); // 90 % of a narrow one lie in its own cell.
    let last = counts.len() as f64 - 1.0;
    let prior = (last / 2.0, 1.0, last + 1.0);
    let kernels = seen.iter().map(|&(at, count)| (at, count, sigma)).chain([prior]);
    let mut density = vec![LEAST; counts.len()];
    for (mean, weight, sigma) in kernels {
        let below = |x: f64| normal::cdf((x - mean) / sigma);
        let all = below(last + 0.5) - below(-0.5);
        for (cell, density) in density.iter_mut().enumerate() {
            let here = below(cell as f64 + 0.5) - below(cell as f64 - 0.5);
            *density += weight / (n + 1.0) * here / all;
        }
    }
    density
}

/// A kernel at each category that was seen, as heavy as its count, and a uniform one.
fn categories(counts: &[f64]) -> Vec<f64> {
    let n: f64 = counts.iter().sum();
    let n_kernels = 1.0 + counts.iter().filter(|&&count| 0.0 < count).count() as f64;
    let elsewhere = 1.0 / n_kernels;
    let total = 1.0 + counts.len() as f64 * elsewhere;
    let uniform = 1.0 / counts.len() as f64;
    let cell = |&count: &f64| {
        (count * (1.0 + elsewhere) + (n - count) * elsewhere) / total / (n + 1.0)
            + uniform / (n + 1.0)
            + LEAST
    };
    counts.iter().map(cell).collect()
}
