//! Linear models over hashed features: columns of many levels, and features that come and go.
//!
//! # Idea
//!
//! Every feature has a 64-bit key, and its weight stands in the bucket that the key's low bits name,
//! one of 2^`bits`. A feature that was never seen before needs no room, and one that vanishes leaves
//! none behind; two that meet in a bucket share a weight, which costs little while buckets are many
//! times the features that matter.
//!
//! Rows of a frame take a key a column, and for a category one a column and level. Programs whose
//! features have names of their own learn and predict through [`Hashed::learn_keys`] and
//! [`Hashed::predict_keys`], with keys of [`feature_key`].
//!
//! Numbers are divided by the largest magnitude that their column has had, so that no scale is
//! needed; losses, tasks, and optimizers are those of [`LinearParams`](crate::LinearParams), by
//! default FTRL, whose rates adapt to each weight. O(features present) a row, whatever `bits`.
//!
//! Sources: Weinberger et al. (2009), "Feature hashing for large scale multitask learning"; Ross,
//! Mineiro & Langford (2013), "Normalized online learning".

use mm_core::{ParamError, Params, Result, Tag};
use serde::{Deserialize, Serialize};

use crate::{
    half_life::HalfLife,
    inputs::{Coding, InputParams, Row, Slot},
    linear::{
        link::{CLIP, RegressionLoss, log_slope, sigmoid, softmax},
        optimizer::{Optimizer, Weights},
    },
    online::{Example, Incremental, Online, OnlineLearner, Shape, with_buffer},
};

/// Hyper-parameters of a hashed linear model.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `bits` | 18 | 1–28 | 2^bits buckets; a model takes 8 to 24 bytes a bucket and score |
/// | `optimizer` | FTRL, α 1, L2 0 | | how slopes move weights; its weights are always fresh |
/// | `intercept_rate` | 0.1 | [0, 1e6] | constant learning rate of the intercept |
/// | `loss` | squared | | regression only |
/// | `inputs` | | | cells that are missing or infinite |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the table says it")]
pub struct HashedParams {
    pub bits: u32,
    pub optimizer: Optimizer,
    pub intercept_rate: f64,
    pub loss: RegressionLoss,
    pub inputs: InputParams,
}

impl Default for HashedParams {
    fn default() -> Self {
        let optimizer = Optimizer::Ftrl { alpha: 1.0, beta: 1.0, l1: 0.0, l2: 0.0, stale: false };
        Self {
            bits: 18,
            optimizer,
            intercept_rate: 0.1,
            loss: RegressionLoss::default(),
            inputs: InputParams::default(),
        }
    }
}

impl Params for HashedParams {
    type Learner = OnlineLearner<Hashed>;

    fn build(self) -> Result<Self::Learner, ParamError> {
        let ok = 1 <= self.bits && self.bits <= 28;
        ParamError::ensure(ok, "bits", self.bits, "from 1 to 28")?;
        self.optimizer.check()?;
        self.loss.check()?;
        let rate = self.intercept_rate;
        let ok = 0.0 <= rate && rate <= 1e6;
        ParamError::ensure(ok, "intercept_rate", rate, "a number from 0 to 1e6")?;
        self.inputs.check()?;
        Ok(OnlineLearner::from_checked(self))
    }
}

/// A hashed linear model that keeps learning.
pub type HashedModel = Online<Hashed>;

/// The state of a hashed linear model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hashed {
    scores: Vec<Score>,
    largest: Vec<f64>, // Magnitude of each slot so far.
    slots: Vec<Slot>,
    n_classes: usize,
    #[serde(skip)]
    features: Vec<(u64, f64)>, // Scratch.
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Score {
    weights: Weights,
    intercept: f64,
}

/// The key of a feature by its name: FNV-1a of the bytes, finished by a mixing step, so that the low
/// bits depend on all of them. The same on every machine, for ever.
#[must_use]
pub fn feature_key(name: &str) -> u64 {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    mix(name.bytes().fold(0xcbf2_9ce4_8422_2325, hash))
}

/// The finaliser of Steele, Lea & Flood (2014).
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The key of a slot, or of a level of a slot.
fn slot_key(slot: usize, level: u64) -> u64 {
    mix(mix(slot as u64 + 1).wrapping_add(level))
}

impl Hashed {
    /// Learns one row given as keys and finite values of magnitude at most `f32::MAX`; others are
    /// passed over. `y` is a value or the index of a class; a `weight` of 0 changes nothing.
    pub fn learn_keys(&mut self, params: &HashedParams, row: &[(u64, f64)], y: f64, weight: f64) {
        let raw = |score: &Score| score.raw(row);
        if let [score] = &mut self.scores[..] {
            let slope = match self.n_classes {
                0 => params.loss.slope(raw(score), y),
                _ => log_slope(raw(score), y == 1.0),
            };
            score.step(params, row, slope * weight);
            return;
        }
        with_buffer(self.scores.len(), |p| {
            p.iter_mut().zip(&self.scores).for_each(|(p, score)| *p = raw(score));
            softmax(p);
            if let Some(p) = p.get_mut(y as usize) {
                *p -= 1.0;
            }
            for (score, slope) in self.scores.iter_mut().zip(p) {
                score.step(params, row, *slope * weight);
            }
        });
    }

    /// Predicts one row given as keys and values into `out`, of one number a score.
    pub fn predict_keys(&self, row: &[(u64, f64)], out: &mut [f64]) {
        for (out, score) in out.iter_mut().zip(&self.scores) {
            *out = score.raw(row);
        }
        match (self.n_classes, out) {
            (0, _) => {}
            (_, [one]) => *one = sigmoid(*one),
            (_, many) => softmax(many),
        }
    }

    /// Fills `features` with the keys and scaled values of a row.
    fn keys(&self, row: Row<'_>, features: &mut Vec<(u64, f64)>) {
        features.clear();
        for (j, x) in row.present() {
            match self.slots[j] {
                Slot::Number if self.largest[j] == 0.0 => {}
                Slot::Number => features.push((slot_key(j, 0), x / self.largest[j])),
                Slot::Level(_) if x < 0.0 => {}
                Slot::Level(_) => features.push((slot_key(j, x as u64), 1.0)),
            }
        }
    }
}

impl Score {
    fn raw(&self, row: &[(u64, f64)]) -> f64 {
        let mask = self.weights.w.len() - 1;
        let usable = row.iter().filter(|(_, x)| x.abs() <= f64::from(f32::MAX));
        let products = usable.map(|&(key, x)| self.weights.w[key as usize & mask] * x);
        products.sum::<f64>() + self.intercept
    }

    fn step(&mut self, params: &HashedParams, row: &[(u64, f64)], slope: f64) {
        let slope = slope.clamp(-CLIP, CLIP);
        self.intercept -= params.intercept_rate * slope;
        let mask = self.weights.w.len() - 1;
        let usable = row.iter().filter(|(_, x)| x.abs() <= f64::from(f32::MAX));
        let features = usable.map(|&(key, x)| (key as usize & mask, x));
        self.weights.step_at(params.optimizer, features, slope, 0.0);
    }
}

impl Incremental for Hashed {
    type Params = HashedParams;

    const NAME: &'static str = "hashed_linear";
    const TAG: Tag = Tag::new("mm.hashed_linear", 1);
    const CODING: Coding = Coding::Codes;

    fn inputs(params: &HashedParams) -> &InputParams {
        &params.inputs
    }

    fn half_life(_: &HashedParams) -> HalfLife {
        HalfLife::Never
    }

    fn start(params: &HashedParams, shape: &Shape, _: u64) -> Result<Self> {
        let score =
            Score { weights: Weights::new(params.optimizer, 1 << params.bits), intercept: 0.0 };
        Ok(Self {
            scores: vec![score; shape.n_outputs],
            largest: vec![0.0; shape.slots.len()],
            slots: shape.slots.clone(),
            n_classes: shape.n_classes,
            features: Vec::new(),
        })
    }

    fn learn(&mut self, params: &HashedParams, example: &Example<'_>) {
        for (j, x) in example.row.present() {
            self.largest[j] = self.largest[j].max(x.abs());
        }
        let mut features = std::mem::take(&mut self.features);
        self.keys(example.row, &mut features);
        self.learn_keys(params, &features, example.y, example.weight);
        self.features = features;
    }

    fn predict(&self, _: &HashedParams, row: Row<'_>, out: &mut [f64]) {
        let mut features = Vec::with_capacity(row.x.len());
        self.keys(row, &mut features);
        self.predict_keys(&features, out);
    }

    fn heap_bytes(&self) -> usize {
        let scores = self.scores.iter().map(|s| size_of::<Score>() + s.weights.heap_bytes());
        let slots = self.slots.len() * (size_of::<Slot>() + 8);
        scores.sum::<usize>() + slots + self.features.capacity() * size_of::<(u64, f64)>()
    }

    fn is_valid(&self, params: &HashedParams, shape: &Shape) -> bool {
        let n = 1 << params.bits;
        self.n_classes == shape.n_classes
            && self.slots == shape.slots
            && self.largest.len() == shape.slots.len()
            && self.scores.len() == shape.n_outputs
            && self.scores.iter().all(|score| score.weights.is_valid(params.optimizer, n))
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
        let params = HashedParams::default().with(|p| p.bits = 7);
        let learner = params.clone().build().expect("valid");
        conformance::check_online(&learner, &catalog, conformance::Checks::default());
        let plain = params.with(|p| p.optimizer = Optimizer::Sgd { rate: 0.05 });
        let learner = plain.build().expect("valid");
        conformance::check_online(&learner, &catalog, conformance::Checks::default());
    }

    #[test]
    fn it_learns_as_the_dense_path_does_without_a_scaler() {
        // Features made 0 or 1, so that both paths see the same numbers; nine keys do not meet
        // among 2¹⁸ buckets.
        let optimizer = Optimizer::AdaGrad { rate: 0.1 };
        let hashed = HashedParams::default().with(|p| {
            (p.optimizer, p.intercept_rate) = (optimizer, 0.01);
        });
        let dense = crate::LinearParams::default().with(|p| {
            (p.optimizer, p.scale) = (optimizer, crate::Scale::None);
        });
        let mut rows = rows("phishing");
        for (x, _) in &mut rows {
            for x in x {
                *x = x.ceil();
            }
        }
        let (_, hashed) = progressive(&hashed.build().expect("valid"), &rows, 2, 0);
        let (_, dense) = progressive(&dense.build().expect("valid"), &rows, 2, 0);
        assert_eq!(hashed, dense);
    }

    #[test]
    fn features_by_name_come_and_go() {
        let learner = HashedParams::default().build().expect("valid");
        let shape = Shape::numeric(0, 2);
        let mut state = Hashed::start(learner.params(), &shape, 0).expect("starts");
        let word = |word: &str| vec![(feature_key(word), 1.0)];
        for _ in 0..2000 {
            state.learn_keys(learner.params(), &word("good"), 1.0, 1.0);
            state.learn_keys(learner.params(), &word("bad"), 0.0, 1.0);
            state.learn_keys(learner.params(), &[(1, f64::NAN), (2, f64::INFINITY)], 0.0, 0.0);
        }
        let p = |row: &[(u64, f64)]| {
            let mut out = [0.0];
            state.predict_keys(row, &mut out);
            out[0]
        };
        assert!(0.9 < p(&word("good")) && p(&word("bad")) < 0.1);
        assert!((p(&word("never seen")) - 0.5).abs() < 0.1);
        assert_eq!(p(&word("new")), p(&[]), "a new feature says nothing yet");
    }

    #[test]
    fn keys_of_names_are_fixed_for_ever() {
        // Stored models rely on it.
        assert_eq!(feature_key(""), 0xf52a_15e9_a9b5_e89b);
        assert_ne!(feature_key("a") & 0xff, feature_key("b") & 0xff);
    }
}
