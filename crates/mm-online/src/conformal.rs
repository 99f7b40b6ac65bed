//! Adaptive conformal inference: intervals and sets that cover the truth as often as they promise,
//! whatever the stream does.
//!
//! # Idea
//!
//! The score of a row says how wrong its prediction was: |*y* − *ŷ*| for regression, one minus the
//! probability of the true class for classification. A set holds every label whose score is at
//! most the threshold *q*, a quantile of the last scores. Where the stream drifts, that quantile
//! covers too little or too much, so its level is steered by what happened: with *α* the promised
//! rate of misses and *err* = 1 for a row that its set missed,
//!
//! ```text
//! αₜ₊₁ = αₜ + γ (α − errₜ)        q = the ⌈(m + 1)(1 − αₜ)⌉-th smallest of m scores
//! ```
//!
//! Over *T* rows the rate of misses differs from *α* by at most (max(*α*, 1 − *α*) + *γ*) / (*γT*),
//! for any stream at all: with the defaults 0.0091 over 10,000 rows. A level at or below 0 asks for
//! a set of everything, one at or above 1 for the empty set.
//!
//! A label that comes late is judged by the threshold under which its row was predicted.
//!
//! Cost: O(log *m*) comparisons and O(*m*) moves of 8 bytes a row.
//!
//! # Sources
//!
//! Gibbs & Candès (2021), "Adaptive conformal inference under distribution shift"; the score of
//! classes is that of Sadinle, Lei & Wasserman (2019), "Least ambiguous set-valued classifiers with
//! bounded error levels".

use std::collections::VecDeque;

use mm_core::{ParamError, Result};
use serde::{Deserialize, Serialize};

use crate::{
    bytes::{Decoder, Encoder},
    progress::probability,
};

/// How often sets are to cover the truth, and how fast they adapt.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `coverage` | 0.9 | (0, 1) | the promised share of rows whose set holds the truth, 1 − *α* |
/// | `rate` | 0.01 | (0, 1] | *γ*: larger follows a drift faster, and varies more |
/// | `window` | 1000 | ≥ 1 | scores from which the threshold is taken |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConformalParams {
    /// The promised share of covered rows.
    pub coverage: f64,
    /// The step of the level.
    pub rate: f64,
    /// Number of scores kept.
    pub window: usize,
}

impl Default for ConformalParams {
    fn default() -> Self {
        Self { coverage: 0.9, rate: 0.01, window: 1000 }
    }
}

impl ConformalParams {
    /// Checks every field.
    pub fn check(&self) -> Result<(), ParamError> {
        let ok = 0.0 < self.coverage && self.coverage < 1.0;
        ParamError::ensure(ok, "conformal.coverage", self.coverage, "a number in (0, 1)")?;
        let ok = 0.0 < self.rate && self.rate <= 1.0;
        ParamError::ensure(ok, "conformal.rate", self.rate, "a number in (0, 1]")?;
        ParamError::ensure(1 <= self.window, "conformal.window", self.window, "≥ 1")
    }
}

/// The state of adaptive conformal inference over one stream.
#[derive(Debug, Clone)]
pub struct Conformal {
    params: ConformalParams,
    level: f64, // αₜ, which may leave [0, 1].
    order: VecDeque<f64>,
    sorted: Vec<f64>, // Invariant: the scores of `order`, ascending.
    rows: u64,
    covered: u64,
}

impl Conformal {
    /// No scores yet, so that sets hold everything.
    pub fn new(params: ConformalParams) -> Result<Self> {
        params.check()?;
        let level = 1.0 - params.coverage;
        let (order, sorted) = (VecDeque::new(), Vec::new());
        Ok(Self { params, level, order, sorted, rows: 0, covered: 0 })
    }

    /// The threshold for the next prediction: the set holds every label whose score is at most
    /// this. Infinite for a set of everything, −1 for the empty set.
    pub fn threshold(&self) -> f64 {
        let n = self.sorted.len();
        if 1.0 <= self.level {
            return -1.0;
        }
        let rank = ((n + 1) as f64 * (1.0 - self.level)).ceil(); // ≥ 1, since the level is below 1.
        if rank <= n as f64 { self.sorted[rank as usize - 1] } else { f64::INFINITY }
    }

    /// Takes in the score of a row that was predicted under `threshold`.
    pub fn update(&mut self, score: f64, threshold: f64) {
        let is_covered = score <= threshold;
        self.rows += 1;
        self.covered += u64::from(is_covered);
        let alpha = 1.0 - self.params.coverage;
        self.level += self.params.rate * (alpha - f64::from(!is_covered));
        if self.order.len() == self.params.window
            && let Some(oldest) = self.order.pop_front()
        {
            let at = self.sorted.partition_point(|s| s.total_cmp(&oldest).is_lt());
            self.sorted.remove(at);
        }
        self.order.push_back(score);
        let at = self.sorted.partition_point(|s| s.total_cmp(&score).is_lt());
        self.sorted.insert(at, score);
    }

    /// How many rows were judged, and the share of them that their sets covered.
    pub fn coverage(&self) -> (u64, Option<f64>) {
        (self.rows, (0 < self.rows).then(|| self.covered as f64 / self.rows as f64))
    }

    /// The score of a row: |*y* − *ŷ*|, or one minus the probability of class `y`.
    pub fn score(values: &[f64], y: f64, is_regression: bool) -> f64 {
        if is_regression { (y - values[0]).abs() } else { 1.0 - probability(values, y) }
    }

    pub(crate) fn encode(&self, to: &mut Encoder) {
        to.f64(self.level);
        to.u64(self.rows);
        to.u64(self.covered);
        let order: Vec<f64> = self.order.iter().copied().collect();
        to.f64s(&order);
    }

    pub(crate) fn decode(from: &mut Decoder<'_>, params: ConformalParams) -> Result<Self> {
        let mut new = Self::new(params)?;
        (new.level, new.rows, new.covered) = (from.f64()?, from.u64()?, from.u64()?);
        new.sorted = from.f64s()?;
        new.order = new.sorted.iter().copied().collect();
        new.sorted.sort_unstable_by(f64::total_cmp);
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Uniform in [0, 1), from a counter.
    fn uniform(i: u64) -> f64 {
        let mut z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    #[test]
    fn the_threshold_is_the_quantile_of_the_paper() {
        let params = ConformalParams { coverage: 0.8, rate: 1e-9, window: 9 };
        let mut state = Conformal::new(params).expect("valid");
        assert_eq!(state.threshold(), f64::INFINITY);
        for score in [9.0, 3.0, 5.0, 1.0, 2.0, 8.0, 4.0, 7.0, 6.0] {
            state.update(score, 10.0);
        }
        // ⌈10 · 0.8⌉ = 8, up to nine steps of 1e-9 · 0.2 that raised the level.
        assert_eq!(state.threshold(), 8.0);
        state.update(0.0, 10.0); // The oldest, 9, leaves.
        assert_eq!(state.threshold(), 7.0);
    }

    #[test]
    fn coverage_holds_within_one_per_cent_through_an_abrupt_drift() {
        let mut state = Conformal::new(ConformalParams::default()).expect("valid");
        for i in 0..10_000_u64 {
            let scale = if (4000..7000).contains(&i) { 20.0 } else { 1.0 };
            let threshold = state.threshold();
            state.update(scale * uniform(i), threshold);
        }
        let (rows, coverage) = state.coverage();
        assert_eq!(rows, 10_000);
        // The bound of the paper: (0.9 + 0.01) / (0.01 · 10,000).
        assert!((coverage.expect("rows") - 0.9).abs() <= 0.0091, "{coverage:?}");
    }

    #[test]
    fn bad_parameters_are_refused() {
        let edit = |edit: fn(&mut ConformalParams)| {
            let mut params = ConformalParams::default();
            edit(&mut params);
            params.check().is_err()
        };
        assert!(edit(|p| p.coverage = 1.0) && edit(|p| p.coverage = f64::NAN));
        assert!(edit(|p| p.rate = 0.0) && edit(|p| p.window = 0));
    }

    proptest! {
        /// The bound holds whatever the scores, even those that an adversary picks.
        #[test]
        fn the_bound_on_misses_holds_for_any_scores(
            scores in prop::collection::vec(0.0_f64..1.0, 200..400),
            rate in 0.05_f64..0.5,
        ) {
            let params = ConformalParams { coverage: 0.7, rate, window: 50 };
            let mut state = Conformal::new(params).expect("valid");
            for (i, &score) in scores.iter().enumerate() {
                let threshold = state.threshold();
                // Every third row misses if it can.
                let score = if i % 3 == 0 { threshold.min(1e9) + 1.0 } else { score };
                state.update(score, threshold);
            }
            let misses = 1.0 - state.coverage().1.expect("rows");
            let bound = (0.7 + rate) / (rate * scores.len() as f64);
            prop_assert!((misses - 0.3).abs() <= bound + 1e-9);
        }
    }
}
