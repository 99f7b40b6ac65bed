//! Which rows a tree sees, and with what weight.
//!
//! The weights drawn here count in the search for splits alone; the values of the leaves are
//! estimated from all rows.

use rayon::prelude::*;

use super::{fast_log::fast_ln, rng::Rng};
use crate::forest::kernel::widely;

/// How rows are drawn, with CatBoost's `f32` parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bootstrap {
    /// All rows count 1.
    No,
    /// Each row counts 1 with a probability.
    Bernoulli { fraction: f32 },
    /// Each row counts (−ln u)^t for a uniform u (Rubin 1981, "The Bayesian bootstrap").
    Bayesian { temperature: f32 },
    /// Minimal variance sampling (Ibragimov & Gusev 2019, "Minimal variance sampling in stochastic
    /// gradient boosting"): rows of large derivatives are kept, the others drawn and weighted up.
    Mvs { fraction: f32, lambda: Option<f32> },
}

/// Rows of a block that draws from a stream of its own.
const MVS_BLOCK: usize = 8192;
const BAYESIAN_BLOCK: usize = 1000;

/// The weight of each row at its place in the fold.
///
/// `derivatives` are the weighted ones of each output, at the same places; `last_leaves` are the
/// leaves of the tree before, of shape (leaves, outputs).
pub(super) fn draw(
    how: Bootstrap,
    derivatives: &[Vec<f64>],
    last_leaves: Option<&[f64]>,
    rng: &mut Rng,
) -> Vec<f32> {
    let n = derivatives[0].len();
    let mut weights = vec![1.0_f32; n];
    match how {
        Bootstrap::No => {}
        Bootstrap::Bernoulli { fraction } => {
            if fraction < 1.0 {
                for weight in &mut weights {
                    *weight = f32::from(u8::from(rng.uniform() < f64::from(fraction)));
                }
            }
        }
        Bootstrap::Bayesian { temperature } => {
            if temperature != 0.0 {
                let seed = rng.next();
                weights.par_chunks_mut(BAYESIAN_BLOCK).enumerate().for_each(|(block, weights)| {
                    let mut rng = Rng::of_task(seed, block);
                    for weight in weights {
                        *weight = (-fast_ln((rng.uniform() + 1e-100) as f32)).powf(temperature);
                    }
                });
            }
        }
        Bootstrap::Mvs { fraction, lambda } => {
            if fraction < 1.0 {
                let lambda = lambda.map_or_else(
                    || {
                        let mean = match last_leaves {
                            Some(leaves) => mean_norm(leaves.chunks(derivatives.len())),
                            None => mean_gradient(derivatives),
                        };
                        mean * mean
                    },
                    f64::from,
                );
                let seed = rng.next();
                weights.par_chunks_mut(MVS_BLOCK).enumerate().for_each(|(block, weights)| {
                    let mut rng = Rng::of_task(seed, block);
                    let rows = block * MVS_BLOCK..block * MVS_BLOCK + weights.len();
                    mvs(derivatives, rows, fraction, lambda, &mut rng, weights);
                });
            }
        }
    }
    weights
}

fn mean_norm<'a>(rows: impl ExactSizeIterator<Item = &'a [f64]>) -> f64 {
    let n = rows.len() as f64;
    rows.map(|row| row.iter().map(|x| x * x).sum::<f64>().sqrt()).sum::<f64>() / n
}

fn mean_gradient(derivatives: &[Vec<f64>]) -> f64 {
    let n = derivatives[0].len();
    let norm = |i: usize| derivatives.iter().map(|g| g[i] * g[i]).sum::<f64>().sqrt();
    (0..n).map(norm).sum::<f64>() / n as f64
}

fn mvs(
    derivatives: &[Vec<f64>],
    rows: std::ops::Range<usize>,
    fraction: f32,
    lambda: f64,
    rng: &mut Rng,
    weights: &mut [f32],
) {
    let mut norms = vec![lambda; weights.len()];
    widely(|| {
        for g in derivatives {
            for (norm, g) in norms.iter_mut().zip(&g[rows.clone()]) {
                *norm += g * g;
            }
        }
        for norm in &mut norms {
            *norm = norm.sqrt();
        }
    });
    let expected = f64::from(fraction * weights.len() as f32); // As in CatBoost.
    let threshold = threshold(&mut norms.clone(), expected);
    let probabilities = &mut norms;
    widely(|| {
        for (p, weight) in probabilities.iter_mut().zip(&mut *weights) {
            *p = if *p > threshold { 1.0 } else { *p / threshold };
            *weight = (1.0 / *p) as f32;
        }
    });
    for (weight, &mut p) in weights.iter_mut().zip(probabilities) {
        *weight = if p > f64::EPSILON && rng.uniform() < p { *weight } else { 0.0 };
    }
}

/// The *t* for which Σ min(1, *c* / *t*) is `expected`, by a search that drops half of the candidates
/// or so in each round: O(*n*) on average. The order of all sums is CatBoost's.
fn threshold(candidates: &mut [f64], expected: f64) -> f64 {
    let mut places = vec![0; candidates.len()];
    let mut open = candidates;
    let (mut small, mut n_large) = (0.0, 0.0);
    loop {
        let pivot = open[0];
        let below = partition(open, &mut places, |x| x < pivot);
        let equal_end = below + partition(&mut open[below..], &mut places, |x| x <= pivot);
        let below_sum: f64 = open[..below].iter().sum();
        let n_equal = (equal_end - below) as f64;
        let above = (open.len() - equal_end) as f64;
        let got = (small + below_sum) / pivot + n_large + above + n_equal;
        if got > expected {
            if equal_end == open.len() {
                return (small + below_sum + n_equal * pivot) / (expected - n_large);
            }
            small += n_equal * pivot + below_sum;
            open = &mut open[equal_end..];
        } else {
            if below == 0 {
                return small / (expected - n_large - n_equal - above);
            }
            n_large += above + n_equal;
            open = &mut open[..below];
        }
    }
}

/// Moves what fulfils `test` to the front; how many do. What is out of place in front changes places with
/// what is out of place behind, the first with the last and so on. There is room in `places`.
fn partition(values: &mut [f64], places: &mut [u32], test: impl Fn(f64) -> bool) -> usize {
    let n = values.iter().map(|&x| usize::from(test(x))).sum();
    let mut n_front = 0;
    for (i, &x) in values[..n].iter().enumerate() {
        places[n_front] = i as u32;
        n_front += usize::from(!test(x));
    }
    let places = &places[..n_front];
    let mut behind = values.len();
    for &place in places {
        loop {
            behind -= 1;
            if test(values[behind]) {
                break;
            }
        }
        values.swap(place as usize, behind);
    }
    n
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::rng::Rng, *};

    proptest! {
        #[test]
        fn the_threshold_yields_the_expected_number_of_rows(
            norms in prop::collection::vec(1e-3_f64..10.0, 2..300),
            fraction in 0.05_f64..0.95,
        ) {
            let expected = fraction * norms.len() as f64;
            let t = threshold(&mut norms.clone(), expected);
            let got: f64 = norms.iter().map(|c| (c / t).min(1.0)).sum();
            prop_assert!((got / expected - 1.0).abs() < 1e-9, "{got} of {expected}"); // Rounding.
        }
    }

    #[test]
    fn sampled_weights_are_unbiased() {
        let g: Vec<f64> = (0..20_000).map(|i| f64::from(i % 100) / 100.0).collect();
        let sum: f64 = g.iter().sum();
        let how = Bootstrap::Mvs { fraction: 0.5, lambda: None };
        let weights = draw(how, std::slice::from_ref(&g), None, &mut Rng::new(1));
        let drawn: f64 = g.iter().zip(&weights).map(|(g, &w)| g * f64::from(w)).sum();
        assert!((drawn / sum - 1.0).abs() < 0.02); // Five standard errors are 0.01.
        let n = weights.iter().filter(|&&w| 0.0 < w).count();
        assert!((9_500..10_500).contains(&n), "{n} rows");
    }
}
