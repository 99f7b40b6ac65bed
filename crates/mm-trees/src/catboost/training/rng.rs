//! The random stream of CatBoost 1.2.10, draw for draw.
//!
//! The 64-bit generator joins two 32-bit ones of the PCG family (O'Neill 2014, "PCG: a family of
//! simple fast space-efficient statistically good algorithms for random number generation"); a third
//! one, whose increment is 1, seeds both. A task that runs beside others draws from a stream of its
//! own, seeded by its number, so that what comes out does not depend on threads.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

/// CatBoost's 64-bit generator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rng {
    high: Half,
    low: Half,
}

impl Rng {
    /// The generator that `seed` starts.
    pub(super) fn new(seed: u64) -> Self {
        let mut seeds = Half { state: seed, increment: 1 };
        let state = |seeds: &mut Half| {
            let low = u64::from(seeds.next());
            low | u64::from(seeds.next()) << 32
        };
        let first = state(&mut seeds);
        let first_stream = seeds.next();
        let second = state(&mut seeds);
        let mut second_stream = seeds.next();
        if (first_stream ^ second_stream) << 1 == 0 {
            second_stream = !second_stream;
        }
        let half = |state, stream| Half { state, increment: u64::from(stream) << 1 | 1 };
        Self { high: half(first, first_stream), low: half(second, second_stream) }
    }

    /// The stream of task `task` under `seed`.
    pub(super) fn of_task(seed: u64, task: usize) -> Self {
        let mut rng = Self::new(seed.wrapping_add(task as u64));
        rng.skip(10); // Neighbouring seeds start alike.
        rng
    }

    /// Leaves out `n` draws.
    pub(super) fn skip(&mut self, n: usize) {
        for _ in 0..n {
            self.next();
        }
    }

    /// 64 random bits.
    pub(super) fn next(&mut self) -> u64 {
        u64::from(self.high.next()) << 32 | u64::from(self.low.next())
    }

    /// A number in [0, 1].
    pub(super) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as i64 as f64 * (1.0 / 9_007_199_254_740_991.0)
    }

    /// A standard normal number.
    pub(super) fn normal(&mut self) -> f64 {
        self.point().normal()
    }

    /// A point of the unit disc, which a standard normal number is made of.
    pub(super) fn point(&mut self) -> Point {
        loop {
            let x = self.uniform() * 2.0 - 1.0;
            let y = self.uniform() * 2.0 - 1.0;
            let square = x * x + y * y;
            if 0.0 < square && square <= 1.0 {
                return Point { x, square };
            }
        }
    }

    /// A number below `n`, which is at least 1.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        let end = u64::MAX - u64::MAX % n; // A multiple of `n`.
        loop {
            let x = self.next();
            if x < end {
                return x % n;
            }
        }
    }

    /// A random order of the numbers below `n`.
    pub(super) fn shuffled(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in 1..n {
            order.swap(i, self.below(i as u64 + 1) as usize);
        }
        order
    }

    /// `k` different numbers below `n`, in no particular order.
    pub(super) fn sampled(&mut self, n: usize, k: usize) -> Vec<u32> {
        if (k as f64) <= n as f64 / (k as f64).log2() {
            let mut sample = HashSet::with_capacity(k);
            while sample.len() < k {
                sample.insert(self.below(n as u64) as u32);
            }
            return sample.into_iter().collect();
        }
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in 0..k {
            let at = i + self.below((n - i) as u64) as usize;
            order.swap(i, at);
        }
        order.truncate(k);
        order
    }
}

/// A point of the unit disc, but for its centre: one coordinate, and the squared distance *s* from
/// the centre.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    x: f64,
    square: f64,
}

impl Point {
    /// The standard normal number by Marsaglia's polar method, *x* √(−2 ln *s* / *s*).
    pub(super) fn normal(self) -> f64 {
        self.x * (-2.0 * self.square.ln() / self.square).sqrt()
    }

    /// What [`normal`](Self::normal) does not exceed; costs no logarithm.
    ///
    /// The number is at most √(−2 ln *s*), and −ln *s* at most *k* ln 2 where *s* ≥ 2^−*k*.
    pub(super) fn bound(self) -> f64 {
        // √(2 k ln 2), rounded up.
        const BOUNDS: [f64; 5] = [1.177_411, 1.665_110, 2.039_335, 2.354_821, 2.632_770];
        if self.x <= 0.0 {
            return 0.0;
        }
        let k = (1022 - (self.square.to_bits() >> 52) as i64).max(0) as usize; // One less.
        BOUNDS.get(k).copied().unwrap_or(f64::INFINITY)
    }
}

/// One 32-bit generator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Half {
    state: u64,
    increment: u64,
}

impl Half {
    fn next(&mut self) -> u32 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(self.increment);
        let x = self.state;
        ((((x >> 18) ^ x) >> 27) as u32).rotate_right((x >> 59) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffles_are_permutations() {
        let mut order = Rng::new(3).shuffled(1000);
        assert_ne!(order, (0..1000).collect::<Vec<u32>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<u32>>());
    }

    #[test]
    fn bounds_of_normals_hold_and_are_near() {
        let mut rng = Rng::new(7);
        let points: Vec<Point> = (0..100_000).map(|_| rng.point()).collect();
        assert!(points.iter().all(|point| point.normal() <= point.bound()));
        let corner = |square: f64| Point { x: square.sqrt(), square };
        for point in [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125].map(corner) {
            assert!(point.normal() <= point.bound());
            // At the lower end of its octave the number comes within the constants' last digit.
            assert!(point.square == 1.0 || point.bound() - point.normal() < 1e-5);
        }
    }

    #[test]
    fn normals_have_mean_0_and_variance_1() {
        let mut rng = Rng::new(0);
        let draws: Vec<f64> = (0..100_000).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / 1e5;
        // Five standard errors: 1/√n and √(2/n).
        assert!(mean.abs() < 0.016 && (variance - 1.0).abs() < 0.023, "{mean}, {variance}");
    }
}
