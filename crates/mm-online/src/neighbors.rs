//! The nearest neighbours of a row among the last rows learnt.
//!
//! # Idea
//!
//! The window keeps the last rows. A row is compared with each of them by the Euclidean distance of
//! features scaled by their running deviations; the *k* nearest vote, or give the mean of their
//! targets, each with its own weight, over its distance if asked. A missing feature of either row is
//! left out of the distance, which is then scaled up to all features; of several equally near rows
//! the older counts.
//!
//! A prediction takes O(window · *p*), learning O(*p*). Memory is the window's, at most `max_bytes`:
//! the window is shortened to fit, and the oldest row makes room for the newest.

use mm_core::{ParamError, Params, Result, Tag};
use serde::{Deserialize, Serialize};

use crate::{
    half_life::HalfLife,
    inputs::{Coding, InputParams, Row},
    linear::scaler::{Scale, Scaler},
    online::{Example, Incremental, Online, OnlineLearner, Shape, with_buffer, write_shares},
};

/// Hyper-parameters of nearest neighbours in a window.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `neighbors` | 5 | 1–1000 | how many vote |
/// | `window` | 1000 | 1–10⁹ | rows that are kept |
/// | `by_distance` | true | | whether votes are divided by the distance |
/// | `scale` | `standard` | | how features are scaled |
/// | `half_life` | never | | of the weights of the rows, and of the scaler's statistics |
/// | `max_bytes` | 64 MiB | ≥ 64 KiB | budget |
/// | `inputs` | | | cells that are missing or infinite |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the table says it")]
pub struct NeighborsParams {
    pub neighbors: u32,
    pub window: u32,
    pub by_distance: bool,
    pub scale: Scale,
    pub half_life: HalfLife,
    pub max_bytes: usize,
    pub inputs: InputParams,
}

impl Default for NeighborsParams {
    fn default() -> Self {
        Self {
            neighbors: 5,
            window: 1000,
            by_distance: true,
            scale: Scale::Standard,
            half_life: HalfLife::Never,
            max_bytes: 64 << 20,
            inputs: InputParams::default(),
        }
    }
}

impl Params for NeighborsParams {
    type Learner = OnlineLearner<Neighbors>;

    fn build(self) -> Result<Self::Learner, ParamError> {
        let k = self.neighbors;
        ParamError::ensure(1 <= k && k <= 1000, "neighbors", k, "from 1 to 1000")?;
        let ok = 1 <= self.window && self.window <= 1_000_000_000;
        ParamError::ensure(ok, "window", self.window, "from 1 to 10⁹")?;
        let ok = 64 << 10 <= self.max_bytes;
        ParamError::ensure(ok, "max_bytes", self.max_bytes, "at least 65536")?;
        self.half_life.check("half_life")?;
        self.inputs.check()?;
        Ok(OnlineLearner::from_checked(self))
    }
}

/// Nearest neighbours in a window that keeps moving.
pub type NeighborsModel = Online<Neighbors>;

/// The state of nearest neighbours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neighbors {
    scaler: Scaler,
    rows: Vec<f64>, // A block a row; NaN where it has none.
    kept: Vec<Kept>,
    oldest: usize, // Place of the oldest row once the window is full.
    most: usize,   // Rows that fit.
    age: f64,      // Sum of the logarithms of all decays.
    n_classes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Kept {
    y: f64,
    weight: f64,
    age: f64, // The window's age when the row came.
}

impl Neighbors {
    /// Rows in the window.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether no row has been learnt.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The squared distance of two scaled rows, over the features that both have.
    fn distance(a: &[f64], b: &[f64], factors: &[f64]) -> f64 {
        let mut sum = 0.0;
        let mut present = 0;
        for ((a, b), factor) in a.iter().zip(b).zip(factors) {
            let gap = (a - b) * factor;
            if !gap.is_nan() {
                sum += gap * gap;
                present += 1;
            }
        }
        // Rows that share no feature are as far apart as can be.
        if present == 0 { f64::MAX } else { sum * a.len() as f64 / f64::from(present) }
    }

    /// The nearest rows as (squared distance, place), nearest first.
    fn nearest(&self, k: usize, row: Row<'_>) -> Vec<(f64, usize)> {
        let factors = self.scaler.factors();
        let mut best: Vec<(f64, usize)> = Vec::with_capacity(k + 1);
        let n = self.kept.len();
        for i in 0..n {
            let place = (self.oldest + i) % n; // Oldest first, so that they win ties.
            let other = &self.rows[place * row.x.len()..(place + 1) * row.x.len()];
            let distance = Self::distance(row.x, other, factors);
            if best.len() < k || best.last().is_some_and(|last| distance < last.0) {
                let at = best.partition_point(|entry| entry.0 <= distance);
                best.insert(at, (distance, place));
                best.truncate(k);
            }
        }
        best
    }
}

impl Incremental for Neighbors {
    type Params = NeighborsParams;

    const NAME: &'static str = "nearest_neighbors";
    const TAG: Tag = Tag::new("mm.nearest_neighbors", 1);
    const CODING: Coding = Coding::OneHot;
    const BLOCK: usize = 8;

    fn inputs(params: &NeighborsParams) -> &InputParams {
        &params.inputs
    }

    fn half_life(params: &NeighborsParams) -> HalfLife {
        params.half_life
    }

    fn start(params: &NeighborsParams, shape: &Shape, _: u64) -> Result<Self> {
        let width = shape.slots.len();
        let a_row = size_of::<Kept>() + width * 8;
        let scaler = Scaler::new(params.scale, width);
        let room = params.max_bytes.saturating_sub(scaler.heap_bytes());
        let most = (params.window as usize).min(room / a_row).max(1);
        let n_classes = shape.n_classes;
        let (rows, kept) = (Vec::new(), Vec::new());
        Ok(Self { scaler, rows, kept, oldest: 0, most, age: 0.0, n_classes })
    }

    fn learn(&mut self, _: &NeighborsParams, example: &Example<'_>) {
        let Example { row, y, weight, decay, .. } = *example;
        self.scaler.learn(row, weight, decay);
        if decay != 1.0 {
            self.age += decay.max(f64::MIN_POSITIVE).ln();
        }
        let kept = Kept { y, weight, age: self.age };
        if self.kept.len() < self.most {
            if self.kept.len() == self.kept.capacity() {
                let more = (self.kept.len() / 2 + 16).min(self.most - self.kept.len());
                self.kept.reserve_exact(more);
                self.rows.reserve_exact(more * row.x.len());
            }
            self.kept.push(kept);
            self.rows.extend(row.x);
            return;
        }
        let place = self.oldest;
        self.kept[place] = kept;
        self.rows[place * row.x.len()..(place + 1) * row.x.len()].copy_from_slice(row.x);
        self.oldest = (place + 1) % self.most;
    }

    fn predict(&self, params: &NeighborsParams, row: Row<'_>, out: &mut [f64]) {
        let nearest = self.nearest(params.neighbors as usize, row);
        let weight = |&(distance, place): &(f64, usize)| {
            let kept = self.kept[place];
            let weight = kept.weight * (self.age - kept.age).exp();
            // A row at no distance outweighs every other.
            if params.by_distance { weight / distance.sqrt().max(1e-12) } else { weight }
        };
        if self.n_classes == 0 {
            let total: f64 = nearest.iter().map(weight).sum();
            let sum: f64 =
                nearest.iter().map(|near| weight(near) / total * self.kept[near.1].y).sum();
            out[0] =
                if 0.0 < total { sum } else { nearest.first().map_or(0.0, |n| self.kept[n.1].y) };
            return;
        }
        with_buffer(self.n_classes, |votes| {
            for near in &nearest {
                votes[self.kept[near.1].y as usize] += weight(near);
            }
            write_shares(votes, out);
        });
    }

    fn heap_bytes(&self) -> usize {
        self.scaler.heap_bytes()
            + self.rows.capacity() * 8
            + self.kept.capacity() * size_of::<Kept>()
    }

    fn is_valid(&self, params: &NeighborsParams, shape: &Shape) -> bool {
        let Ok(fresh) = Self::start(params, shape, 0) else {
            return false;
        };
        let is_class = |y: f64| self.n_classes == 0 || (0.0 <= y && y < self.n_classes as f64);
        self.n_classes == shape.n_classes
            && self.most == fresh.most
            && self.kept.len() <= self.most
            && self.rows.len() == self.kept.len() * shape.slots.len()
            && (self.oldest == 0 || self.oldest < self.kept.len())
            && self.scaler.is_valid(params.scale, shape.slots.len())
            && self.kept.iter().all(|kept| is_class(kept.y))
    }
}

#[cfg(test)]
mod tests {
    use mm_core::{Catalog, conformance};

    use super::*;
    use crate::river::{progressive, rows};

    #[test]
    fn conforms() {
        let catalog = crate::register(Catalog::default());
        let params = NeighborsParams::default().with(|p| p.window = 50);
        let learner = params.clone().build().expect("valid");
        conformance::check_online(&learner, &catalog, conformance::Checks::default());
        let fading = params.with(|p| (p.half_life, p.by_distance) = (HalfLife::Rows(3.0), false));
        let learner = fading.build().expect("valid");
        conformance::check_online(&learner, &catalog, conformance::Checks::default());
    }

    #[test]
    fn quality_lies_in_rivers_band() {
        // River 0.26.1: 0.879. Many rows are equal, and ties are broken otherwise there.
        let learner = NeighborsParams::default().build().expect("valid");
        let (accuracy, _) = progressive(&learner, &rows("phishing"), 2, 0);
        assert!(0.87 < accuracy, "{accuracy}");
    }

    #[test]
    fn the_window_is_the_last_rows_and_the_budget_holds() {
        let params = NeighborsParams::default().with(|p| {
            (p.neighbors, p.max_bytes, p.scale) = (1, 64 << 10, Scale::None);
        });
        let learner = params.build().expect("valid");
        let shape = Shape::numeric(20, 0);
        let mut state = Neighbors::start(learner.params(), &shape, 0).expect("starts");
        for i in 0..2000 {
            state.learn(learner.params(), &Example::new(&[f64::from(i); 20], f64::from(i)));
            assert!(state.heap_bytes() <= 64 << 10);
        }
        let n = state.len();
        assert!(300 < n && n < 1000);
        let mut out = [0.0];
        state.predict(learner.params(), Row::new(&[0.0; 20]), &mut out);
        assert_eq!(out[0], (2000 - n) as f64, "the oldest row that is kept");
    }
}
