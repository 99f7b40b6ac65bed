//! Random draws whose state is stored with the model, so that a reopened model draws the same.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// A stream of random draws.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    /// The stream of part `part` of a model made with `seed`.
    pub(crate) fn new(seed: u64, part: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(part);
        Self(rng)
    }

    /// Uniform in [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0.random()
    }

    /// Uniform in 0..n, for n > 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    /// Exponential with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }

    /// Poisson with a mean of at most some tens, by inversion.
    pub(crate) fn poisson(&mut self, mean: f64) -> u32 {
        let u = self.uniform();
        let mut p = (-mean).exp();
        let (mut k, mut below) = (0, p);
        while below <= u && k < 1000 {
            k += 1;
            p *= mean / f64::from(k);
            below += p;
        }
        k
    }

    /// `k` distinct numbers of 0..n in ascending order; all of them if `k` is not below `n`.
    pub(crate) fn subset(&mut self, n: usize, k: usize) -> Vec<u32> {
        if n <= k {
            return (0..n as u32).collect();
        }
        // Floyd's algorithm: O(k) draws.
        let mut chosen: Vec<u32> = Vec::with_capacity(k);
        for last in n - k..n {
            let pick = self.below(last + 1) as u32;
            chosen.push(if chosen.contains(&pick) { last as u32 } else { pick });
        }
        chosen.sort_unstable();
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_their_means_and_streams_differ() {
        let mut draws = Draws::new(1, 0);
        let n = 20_000;
        let mean = |f: &mut dyn FnMut() -> f64| (0..n).map(|_| f()).sum::<f64>() / f64::from(n);
        // Five standard errors: √6 / √20000 = 0.017, 1 / √20000 = 0.007.
        assert!((mean(&mut || f64::from(draws.poisson(6.0))) - 6.0).abs() < 0.09);
        assert!((mean(&mut || draws.exponential()) - 1.0).abs() < 0.036);
        assert_ne!(Draws::new(1, 1).uniform(), Draws::new(1, 2).uniform());
    }

    #[test]
    fn a_subset_is_distinct_sorted_and_uniform() {
        let mut draws = Draws::new(2, 0);
        let mut counts = [0; 5];
        for _ in 0..3000 {
            let subset = draws.subset(5, 2);
            assert!(subset.len() == 2 && subset[0] < subset[1]);
            subset.iter().for_each(|&j| counts[j as usize] += 1);
        }
        // 1200 expected of each, with a deviation of √(3000 · 0.4 · 0.6) = 27.
        assert!(counts.iter().all(|&n| 1065 < n && n < 1335), "{counts:?}");
        assert_eq!(draws.subset(3, 9), [0, 1, 2]);
    }
}
