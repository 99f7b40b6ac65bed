//! Weights that minimise the error of the weighted mean over all weights that are not negative and
//! add up to 1, and non-negative least squares.
//!
//! # Idea
//!
//! | metric | by |
//! | --- | --- |
//! | RMSE, R², Brier | accelerated projected gradient on the *m* × *m* products of residuals: exact |
//! | log loss | Newton steps, each a quadratic solved by projected gradient, until the loss is within 10⁻¹⁰ of its minimum by the bound max*ⱼ* mean(*pᵢⱼ* / Σ *w p*) − 1 |
//! | any other | a search without derivatives, from the best of the equal weights and the single members: move a share δ of all weight to or from one member, halve δ when nothing helps, from ¼ to below 10⁻³ |
//!
//! With `per_class` each class of a multiclass task has its own weights, found for this class
//! against the rest: by log loss if that is the metric, else by the Brier score. The classes' sums
//! are then scaled to add up to 1.
//!
//! **Non-negative least squares** drops the condition that weights add up to 1, minimises the
//! squared error, and scales the weights at the end; of classes the error is that of all
//! probabilities.
//!
//! # Limits
//!
//! A finer fit to the rows than [greedy selection](crate::GreedyParams), and so more of their
//! noise: with many members and few rows prefer the latter.
//!
//! # Sources
//!
//! O'Donoghue & Candès (2015), "Adaptive restart for accelerated gradient schemes". Cover (1984),
//! "An algorithm for maximizing expected log investment return", for the bound. Breiman (1996),
//! "Stacked regressions", for non-negative least squares.

use mm_core::{
    Combination, Combiner, Dataset, FitContext, Matrix, Member, Metric, ParamError, Result,
};
use serde::{Deserialize, Serialize};

use crate::{
    learned::{Learned, shape},
    objective::{Objective, residuals},
    quadratic::{non_negative, on_simplex},
    rule::{Rule, Weights, are_classes},
};

/// How weights are optimised: the kind `weights`.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `per_class` | `false` | | each class of a multiclass task has weights of its own |
/// | `prune` | 0.01 | [0, 1) | weights below it become 0, the others are scaled up |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WeightsParams {
    /// Whether each class has weights of its own.
    pub per_class: bool,
    /// Weights below it become 0.
    pub prune: f64,
}

impl Default for WeightsParams {
    fn default() -> Self {
        Self { per_class: false, prune: 0.01 }
    }
}

impl Combiner for WeightsParams {
    fn check(&self, _: &[&str]) -> Result<()> {
        check_prune(self.prune)
    }

    fn combine(
        &self,
        members: &[Member<'_>],
        data: &Dataset,
        metric: Metric,
        ctx: &FitContext<'_>,
    ) -> Result<Box<dyn Combination>> {
        let (n_rows, k) = shape(members)?;
        if n_rows == 0 || members.len() == 1 {
            return Ok(Learned::all(members, Rule::mean(members.len())));
        }
        let weights = if self.per_class && are_classes(&data.task().outputs()) {
            let by_class: Vec<Vec<f64>> =
                (0..k).map(|class| of_class(members, data, metric, class)).collect();
            let values = (0..members.len()).flat_map(|m| by_class.iter().map(move |w| w[m]));
            Weights::scaled_by_output(values.collect(), k)
        } else {
            Weights::scaled(optimal(&Objective::new(members, data, metric)?, ctx)?)
        };
        Ok(Learned::weighted(members, &weights.pruned(self.prune)))
    }
}

/// How weights are fitted by non-negative least squares: the kind `nnls`.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `prune` | 0.01 | [0, 1) | weights below it become 0, the others are scaled up |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct NnlsParams {
    /// Weights below it become 0.
    pub prune: f64,
}

impl Default for NnlsParams {
    fn default() -> Self {
        Self { prune: 0.01 }
    }
}

impl Combiner for NnlsParams {
    fn check(&self, _: &[&str]) -> Result<()> {
        check_prune(self.prune)
    }

    fn combine(
        &self,
        members: &[Member<'_>],
        data: &Dataset,
        _: Metric,
        _: &FitContext<'_>,
    ) -> Result<Box<dyn Combination>> {
        let (n_rows, k) = shape(members)?;
        if n_rows == 0 || members.len() == 1 {
            return Ok(Learned::all(members, Rule::mean(members.len())));
        }
        let columns: Vec<&[f64]> = members.iter().map(|m| m.predictions.values()).collect();
        let truth: Vec<f64> =
            residuals(data, &Matrix::zeros(n_rows, k)).into_iter().map(|r| -r).collect();
        let product = |a: &[f64], b: &[f64]| -> f64 {
            let rows = a.chunks_exact(k).zip(b.chunks_exact(k)).enumerate();
            let weight = |i: usize| data.weights().map_or(1.0, |w| w[i]);
            rows.map(|(i, (a, b))| weight(i) * a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>())
                .sum()
        };
        let m = members.len();
        let mut gram = Matrix::zeros(m, m);
        for i in 0..m {
            for j in 0..m {
                gram.row_mut(i)[j] = product(columns[i], columns[j]);
            }
        }
        let b: Vec<f64> = columns.iter().map(|column| product(column, &truth)).collect();
        let weights = Weights::scaled(non_negative(&gram, &b));
        Ok(Learned::weighted(members, &weights.pruned(self.prune)))
    }
}

fn check_prune(prune: f64) -> Result<()> {
    let ok = 0.0 <= prune && prune < 1.0;
    Ok(ParamError::ensure(ok, "prune", prune, "a number from 0 to below 1")?)
}

/// The weights of the lowest error.
fn optimal(objective: &Objective<'_>, ctx: &FitContext<'_>) -> Result<Vec<f64>> {
    if objective.is_quadratic()
        && let Some(gram) = objective.gram()
    {
        return Ok(on_simplex(&gram, &vec![0.0; gram.n_rows()]));
    }
    if let Some((weights, total)) = objective.as_log_loss() {
        let columns: Vec<&[f64]> =
            (0..objective.n_members()).map(|m| objective.column(m)).collect();
        return Ok(likeliest(&columns, |i| weights.map_or(1.0, |w| w[i]) / total));
    }
    search(objective, ctx)
}

/// The weights of one class against the rest.
fn of_class(members: &[Member<'_>], data: &Dataset, metric: Metric, class: usize) -> Vec<f64> {
    let y = data.target();
    let total = data.total_weight();
    let weight = |i: usize| data.weights().map_or(1.0, |w| w[i]) / total;
    let is = |i: usize| y[i] == class as f64;
    let columns: Vec<Vec<f64>> = members
        .iter()
        .map(|member| {
            let p = member.predictions.column(class).enumerate();
            match metric {
                Metric::LogLoss => p.map(|(i, p)| if is(i) { p } else { 1.0 - p }).collect(),
                _ => p.map(|(i, p)| p - f64::from(u8::from(is(i)))).collect(),
            }
        })
        .collect();
    if metric == Metric::LogLoss {
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        return likeliest(&columns, weight);
    }
    let m = members.len();
    let mut gram = Matrix::zeros(m, m);
    for i in 0..m {
        for j in 0..m {
            let products = columns[i].iter().zip(&columns[j]).enumerate();
            gram.row_mut(i)[j] = products.map(|(i, (a, b))| weight(i) * a * b).sum();
        }
    }
    on_simplex(&gram, &vec![0.0; gram.n_rows()])
}

/// The weights of the greatest likelihood, for columns of likelihoods and row weights that add up
/// to 1.
fn likeliest(columns: &[&[f64]], weight: impl Fn(usize) -> f64) -> Vec<f64> {
    let (m, n) = (columns.len(), columns[0].len());
    let mixed = |w: &[f64]| -> Vec<f64> {
        let mut mixed = vec![0.0; n];
        for (column, w) in columns.iter().zip(w) {
            mixed.iter_mut().zip(*column).for_each(|(sum, p)| *sum += w * p);
        }
        for p in &mut mixed {
            *p = p.max(f64::EPSILON);
        }
        mixed
    };
    let loss =
        |mixed: &[f64]| -> f64 { mixed.iter().enumerate().map(|(i, p)| -weight(i) * p.ln()).sum() };
    let mut w = vec![1.0 / m as f64; m];
    let mut mix = mixed(&w);
    let mut lowest = loss(&mix);
    for _ in 0..100 {
        // How much each member is likelier than the mean, and the curvature.
        let share: Vec<f64> = mix.iter().enumerate().map(|(i, p)| weight(i) / p).collect();
        let gain = |column: &[f64]| column.iter().zip(&share).map(|(p, s)| p * s).sum::<f64>();
        let gains: Vec<f64> = columns.iter().map(|column| gain(column)).collect();
        if gains.iter().copied().fold(0.0, f64::max) - 1.0 <= CLOSE {
            break;
        }
        let bend: Vec<f64> = share.iter().zip(&mix).map(|(s, p)| s / p).collect();
        let mut curvature = Matrix::zeros(m, m);
        for i in 0..m {
            for j in 0..=i {
                let products = columns[i].iter().zip(columns[j]).zip(&bend);
                let sum = products.map(|((a, b), bend)| a * b * bend).sum();
                curvature.row_mut(i)[j] = sum;
                curvature.row_mut(j)[i] = sum;
            }
        }
        let pull = |row: &[f64]| row.iter().zip(&w).map(|(c, w)| c * w).sum::<f64>();
        let b: Vec<f64> =
            curvature.rows().zip(&gains).map(|(row, gain)| pull(row) + gain).collect();
        let target = on_simplex(&curvature, &b);
        // The whole step, or as much of it as helps.
        let mut part = 1.0;
        let found = loop {
            let next: Vec<f64> = w.iter().zip(&target).map(|(w, t)| w + part * (t - w)).collect();
            let next_mix = mixed(&next);
            let now = loss(&next_mix);
            if now < lowest {
                break Some((next, next_mix, now));
            }
            part /= 2.0;
            if part < 1e-6 {
                break None;
            }
        };
        let Some(found) = found else { break };
        (w, mix, lowest) = found;
    }
    w
}

/// How near the log loss comes to its minimum, at most this far above it.
const CLOSE: f64 = 1e-10;

/// A search without derivatives.
fn search(objective: &Objective<'_>, ctx: &FitContext<'_>) -> Result<Vec<f64>> {
    let m = objective.n_members();
    let mut best = vec![1.0 / m as f64; m];
    let mut lowest = objective.of_weights(&best)?;
    for member in 0..m {
        let mut alone = vec![0.0; m];
        alone[member] = 1.0;
        let error = objective.of_weights(&alone)?;
        if error < lowest {
            (best, lowest) = (alone, error);
        }
    }
    let mut share = 0.25;
    while 1e-3 < share {
        ctx.check_cancelled()?;
        if ctx.is_due() {
            break;
        }
        let mut found = None;
        for member in 0..m {
            for sign in [1.0, -1.0] {
                let Some(moved) = shift(&best, member, sign * share) else { continue };
                let error = objective.of_weights(&moved)?;
                // What is gained must be more than rounding, or the search would not end.
                if error < lowest - 1e-12 * lowest.abs() {
                    lowest = error;
                    found = Some(moved);
                }
            }
        }
        match found {
            Some(moved) => best = moved,
            None => share /= 2.0,
        }
    }
    Ok(best)
}

/// Moves the share `by` of all weight to one member, or away from it where negative.
fn shift(weights: &[f64], member: usize, by: f64) -> Option<Vec<f64>> {
    let own = weights[member];
    let next = (own + by).clamp(0.0, 1.0);
    if next == own || own == 1.0 {
        return None; // Nothing to move, or nobody to give it to in proportion.
    }
    let scale = (1.0 - next) / (1.0 - own);
    let mut moved: Vec<f64> = weights.iter().map(|w| w * scale).collect();
    moved[member] = next;
    Some(moved)
}
