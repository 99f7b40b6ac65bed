//! KSWIN: the distribution of the latest numbers against that of those before them.
//!
//! # Idea
//!
//! Of a window of the last `window` numbers the latest `recent` are held against *all* the others by
//! the statistic of Kolmogorov and Smirnov, D. River and the paper draw a random sample of the others
//! instead; without it the test is deterministic and stronger. The window is kept sorted, so a
//! number costs one pass over it and no sort.
//!
//! With *n* and *m* numbers a drift is D > √(−ln(α/2) / 2) · √((n + m) / (n m)), the asymptotic bound
//! of Smirnov (1948). The test is repeated at every number, so that there are more false alarms
//! than α suggests: some 2 in 1,000 numbers at the default.
//!
//! Source: Raab, Heusinger & Schleif (2020), "Reactive soft prototype computing for concept drift
//! streams".

use std::collections::VecDeque;

use mm_core::ParamError;
use serde::{Deserialize, Serialize};

use crate::drift::{Change, Detector, check_confidence, is_usable};

/// Parameters of [`Kswin`].
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `alpha` | 0.005 | (0, 1) | chance of a false drift of one test |
/// | `window` | 100 | 2–100,000 | numbers that are kept |
/// | `recent` | 30 | 1 to `window` − 1 | how many of them are the latest |
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the table says it")]
pub struct KswinParams {
    pub alpha: f64,
    pub window: u32,
    pub recent: u32,
}

impl Default for KswinParams {
    fn default() -> Self {
        Self { alpha: 0.005, window: 100, recent: 30 }
    }
}

impl KswinParams {
    /// Checks the fields and makes the detector.
    pub fn build(self) -> Result<Kswin, ParamError> {
        check_confidence("alpha", self.alpha)?;
        let ok = 2 <= self.window && self.window <= 100_000;
        ParamError::ensure(ok, "window", self.window, "from 2 to 100000")?;
        let ok = 1 <= self.recent && self.recent < self.window;
        ParamError::ensure(ok, "recent", self.recent, "at least 1, below `window`")?;
        Ok(Kswin::new(self))
    }
}

/// The windowed test of Kolmogorov and Smirnov. O(window) time a number, a pass over a few cache
/// lines at the default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kswin {
    params: KswinParams,
    order: VecDeque<f64>,     // The window, oldest first.
    sorted: Vec<(f64, bool)>, // The same by value, and whether it is one of the latest.
    has_drifted: bool,
}

impl Default for Kswin {
    fn default() -> Self {
        Self::new(KswinParams::default())
    }
}

impl Kswin {
    fn new(params: KswinParams) -> Self {
        Self { params, order: VecDeque::new(), sorted: Vec::new(), has_drifted: false }
    }

    /// Whether a state read from outside is one that [`update`](Detector::update) can go on from.
    pub(crate) fn is_valid(&self) -> bool {
        let first_recent = self.order.len().saturating_sub(self.params.recent as usize);
        let entries = self.order.iter().enumerate().map(|(i, &x)| (x, first_recent <= i));
        let mut sorted: Vec<_> = entries.collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        self.params.build().is_ok()
            && self.order.len() <= self.params.window as usize
            && self.order.iter().all(|&x| is_usable(x))
            && (!self.has_drifted || self.order.len() == self.params.window as usize)
            && sorted == self.sorted
    }

    fn place(&self, entry: (f64, bool)) -> usize {
        self.sorted.partition_point(|e| (e.0, e.1) < entry)
    }

    /// The largest gap between the two distributions.
    fn statistic(&self) -> f64 {
        let recent = f64::from(self.params.recent);
        let older = f64::from(self.params.window) - recent;
        let (mut gap, mut largest) = (0.0_f64, 0.0_f64);
        for (i, &(x, is_recent)) in self.sorted.iter().enumerate() {
            gap += if is_recent { 1.0 / recent } else { -1.0 / older };
            // Equal numbers are passed together.
            if self.sorted.get(i + 1).is_none_or(|next| next.0 != x) {
                largest = largest.max(gap.abs());
            }
        }
        largest
    }
}

impl Detector for Kswin {
    fn update(&mut self, x: f64) -> Change {
        if !is_usable(x) {
            return Change::None;
        }
        let x = x + 0.0; // −0 becomes 0, so that equal numbers are one number.
        let KswinParams { alpha, window, recent } = self.params;
        let (window, recent) = (window as usize, recent as usize);
        if self.has_drifted {
            // What was recent is all there is now, and none of it is compared yet.
            self.order.drain(..window - recent);
            self.sorted.retain(|entry| entry.1);
            self.has_drifted = false;
        }
        if self.order.len() == window
            && let Some(oldest) = self.order.pop_front()
        {
            self.sorted.remove(self.place((oldest, false)));
        }
        if recent <= self.order.len() {
            let aged = self.order[self.order.len() - recent];
            let at = self.place((aged, true));
            // Among equal numbers the older stand first, so the place stays.
            self.sorted[at].1 = false;
        }
        self.order.push_back(x);
        self.sorted.insert(self.place((x, true)), (x, true));
        if self.order.len() < window {
            return Change::None;
        }
        let (n, m) = ((window - recent) as f64, recent as f64);
        let bound = (-(alpha / 2.0).ln() / 2.0).sqrt() * ((n + m) / (n * m)).sqrt();
        self.has_drifted = bound < self.statistic();
        if self.has_drifted { Change::Drift } else { Change::None }
    }

    fn reset(&mut self) {
        *self = Self::new(self.params);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The statistic kept step by step is that of the definition.
        #[test]
        fn the_statistic_is_the_largest_gap(stream in prop::collection::vec(0_i32..12, 20..90)) {
            let params = KswinParams { window: 20, recent: 6, alpha: 1e-9 };
            let mut kswin = params.build().expect("valid");
            for x in &stream {
                kswin.update(f64::from(*x));
            }
            let (older, recent) = stream[stream.len() - 20..].split_at(14);
            let below = |part: &[i32], x: i32| {
                part.iter().filter(|y| **y <= x).count() as f64 / part.len() as f64
            };
            let gaps = (0..12).map(|x| (below(older, x) - below(recent, x)).abs());
            let expected = gaps.fold(0.0, f64::max);
            prop_assert!((kswin.statistic() - expected).abs() < 1e-12);
        }
    }
}
