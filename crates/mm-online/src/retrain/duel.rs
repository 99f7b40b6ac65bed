//! Which of two models predicts a stream better, with a false answer at most so often, whenever
//! one looks.
//!
//! # Idea
//!
//! Both models predict every row before its label is known. With *a* and *b* the losses of the
//! incumbent and of the rival, scaled into [0, 1], a gambler who bets the share *λ* of his capital
//! on the rival has, after each row,
//!
//! ```text
//! capital ← capital · (1 + λ (a − b))
//! ```
//!
//! If the rival is not better, whatever bets are made, capital is a supermartingale that starts at
//! 1, so that it reaches 1/*δ* with probability at most *δ* **at any time ever** (Ville's
//! inequality): one may look after each row, and stop when it suits. The gambler splits his capital
//! evenly over bets of 2⁻¹ to 2⁻⁷, so that no bet need be tuned; their mean is again such a capital,
//! an *e-value*. A second gambler bets on the incumbent, so that a hopeless rival is seen early.
//!
//! A former champion waits longer, and for something else: that the world turns back. While it is
//! worse its gambler loses everything, so a new one starts with a capital of 1 at every row, and
//! what counts is the sum of all their capitals, which grows by no more than 1 a row on average
//! while the former model is not better. So that within *n* rows the sum reaches *n*/*δ* with
//! probability at most *δ* (Doob's inequality).
//!
//! The loss is the Brier score of a classification (halved, for more than two classes); for
//! regression *a* − *b* is (|*e*| − |*f*|) / (|*e*| + |*f*|) with the errors *e* and *f*, which needs
//! no scale.
//!
//! # Limits
//!
//! What is refuted is that the rival is at no time better given the labels that came before. A rival
//! that is better for a while, and worse later, may win the duel; that is why a promoted model is
//! itself put on trial against the one that it replaced. With labels that come late the same holds
//! in the order in which labels come.
//!
//! # Sources
//!
//! Shafer (2021), "Testing by betting"; Waudby-Smith & Ramdas (2024), "Estimating means of bounded
//! random variables by betting"; Choe & Ramdas (2024), "Comparing sequential forecasters"; Shin,
//! Ramdas & Rinaldo (2024), "E-detectors", for the sum over starts (Shiryaev and Roberts's).

use mm_core::Result;

use crate::{
    bytes::{Decoder, Encoder},
    progress::probability,
};

const BETS: usize = 7;

/// Two gamblers, one for each model.
#[derive(Debug, Clone, PartialEq)]
pub struct Duel {
    rows: u64,
    for_rival: [f64; BETS], // Logarithms of capitals.
    for_incumbent: [f64; BETS],
    since_any: [f64; BETS], // Sums, over all starts, of capitals bet on the rival.
    gain: f64,
}

impl Default for Duel {
    fn default() -> Self {
        let none = [0.0; BETS];
        Self { rows: 0, for_rival: none, for_incumbent: none, since_any: none, gain: 0.0 }
    }
}

impl Duel {
    /// Takes in one row: how much less the rival lost, in [−1, 1]. A row of weight 0 is none; any
    /// other weight counts as 1, since a heavier bet would be a bolder one.
    pub fn record(&mut self, advantage: f64) {
        let advantage = advantage.clamp(-1.0, 1.0);
        self.rows += 1;
        self.gain += advantage;
        let mut bet = 0.5;
        for i in 0..BETS {
            self.for_rival[i] += (bet * advantage).ln_1p();
            self.for_incumbent[i] += (-bet * advantage).ln_1p();
            let sum = (1.0 + self.since_any[i]) * (1.0 + bet * advantage);
            self.since_any[i] = sum.min(1e300); // Beyond any bar, and no infinity.
            bet *= 0.5;
        }
    }

    /// How much less the rival lost than the incumbent on one row, in [−1, 1].
    pub fn advantage(incumbent: &[f64], rival: &[f64], y: f64, is_regression: bool) -> f64 {
        if is_regression {
            let (a, b) = ((y - incumbent[0]).abs(), (y - rival[0]).abs());
            return if a == b { 0.0 } else { (a - b) / (a + b) };
        }
        let brier = |values: &[f64]| match *values {
            [_] => (1.0 - probability(values, y)).powi(2),
            ref all => {
                let of = |(k, p): (usize, &f64)| (p - f64::from(k as f64 == y)).powi(2);
                all.iter().enumerate().map(of).sum::<f64>() / 2.0
            }
        };
        brier(incumbent) - brier(rival)
    }

    /// Rows taken in.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The mean advantage of the rival, in [−1, 1]; 0 before the first row.
    pub fn mean_advantage(&self) -> f64 {
        if self.rows == 0 { 0.0 } else { self.gain / self.rows as f64 }
    }

    /// The e-value of "the rival is better": the capital of the gambler who bets on it.
    pub fn evidence_for_rival(&self) -> f64 {
        capital(&self.for_rival)
    }

    /// The e-value of "the incumbent is better".
    pub fn evidence_for_incumbent(&self) -> f64 {
        capital(&self.for_incumbent)
    }

    /// The evidence that the rival has been better since some row: at least *n*/*δ* within *n* rows
    /// with probability at most *δ*, if it never was.
    pub fn evidence_since_any_row(&self) -> f64 {
        self.since_any.iter().sum::<f64>() / BETS as f64
    }

    pub(crate) fn encode(&self, to: &mut Encoder) {
        to.u64(self.rows);
        to.f64(self.gain);
        to.f64s(&self.since_any);
        to.f64s(&self.for_rival);
        to.f64s(&self.for_incumbent);
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        let (rows, gain) = (from.u64()?, from.f64()?);
        let mut capitals = || -> Result<[f64; BETS]> {
            let capitals = from.f64s()?;
            capitals.try_into().map_err(|_| from.damaged("the capitals of seven bets", "others"))
        };
        let (since_any, for_rival, for_incumbent) = (capitals()?, capitals()?, capitals()?);
        Ok(Self { rows, for_rival, for_incumbent, since_any, gain })
    }
}

/// The mean of capitals given by their logarithms.
fn capital(logs: &[f64; BETS]) -> f64 {
    logs.iter().map(|log| log.exp()).sum::<f64>() / BETS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uniform(i: u64) -> f64 {
        let mut z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    #[test]
    fn equals_are_told_apart_no_more_often_than_promised() {
        // 2000 duels of models that differ by a fair coin, looked at after each of 500 rows.
        let wins = (0..2000_u64)
            .filter(|duel| {
                let mut state = Duel::default();
                (0..500_u64).any(|i| {
                    let advantage = if uniform(duel * 500 + i) < 0.5 { 0.4 } else { -0.4 };
                    state.record(advantage);
                    20.0 <= state.evidence_for_rival()
                })
            })
            .count();
        // At most 5 %, by Ville's inequality: 100, and 30 more for three standard deviations.
        assert!(wins <= 130, "{wins}");
    }

    #[test]
    fn a_world_that_turns_back_is_seen_soon_and_one_that_does_not_is_rarely_thought_to() {
        let mut state = Duel::default();
        let bar = 2000.0 / 0.05;
        (0..1000).for_each(|_| state.record(-0.3));
        // The sum of the most cautious bet settles where it loses 1 a row: at 1 / (0.3 / 128).
        assert!(state.evidence_since_any_row() < 427.0);
        let rows = (0..1000).find(|_| {
            state.record(0.3);
            bar <= state.evidence_since_any_row()
        });
        // ln(40,000 · 7) / ln(1.15) = 90 rows for the boldest bet alone.
        assert!(rows.expect("seen") <= 90, "{rows:?}");
        assert!(state.evidence_for_rival() < 1.0, "the first gambler has lost everything");
        let false_alarms = (0..300_u64)
            .filter(|duel| {
                let mut state = Duel::default();
                (0..2000_u64).any(|i| {
                    let is_heads = uniform(duel * 2000 + i) < 0.5;
                    state.record(if is_heads { 0.4 } else { -0.4 });
                    bar <= state.evidence_since_any_row()
                })
            })
            .count();
        // At most 5 % of 300: 15, and 11 more for three standard deviations.
        assert!(false_alarms <= 26, "{false_alarms}");
    }

    #[test]
    fn a_better_rival_wins_and_a_worse_one_loses() {
        let (mut better, mut worse) = (Duel::default(), Duel::default());
        for i in 0..2000 {
            let advantage = uniform(i) - 0.45; // 0.05 on average.
            better.record(advantage);
            worse.record(-advantage);
        }
        assert!(better.evidence_for_rival() > 20.0 && better.evidence_for_incumbent() < 1.0);
        assert_eq!(better.evidence_for_rival(), worse.evidence_for_incumbent());
        assert!((better.mean_advantage() - 0.05).abs() < 0.02);
    }

    #[test]
    fn advantages_lie_between_minus_one_and_one() {
        assert_eq!(Duel::advantage(&[1.0], &[0.0], 0.0, false), 1.0);
        assert_eq!(Duel::advantage(&[0.0, 0.0, 1.0], &[1.0, 0.0, 0.0], 0.0, false), 1.0);
        assert_eq!(Duel::advantage(&[5.0], &[2.0], 2.0, true), 1.0);
        assert_eq!(Duel::advantage(&[2.0], &[2.0], 2.0, true), 0.0);
        assert_eq!(Duel::advantage(&[1.0], &[4.0], 2.0, true), -1.0 / 3.0);
    }
}
