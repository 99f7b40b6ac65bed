//! Linear models under one loss a task: logistic, softmax, and linear regression.
//!
//! # Idea
//!
//! Features are scaled by running statistics, which see each row before the weights do. With
//! scaled features *z* of length *p* and one row of weights *w* and an intercept *b* a score:
//!
//! | task | prediction | loss |
//! | --- | --- | --- |
//! | two classes | 1 / (1 + e^−(w·z + b)) | log loss |
//! | more classes | softmax of one score a class | cross entropy |
//! | regression | w·z + b | [`RegressionLoss`] |
//!
//! Each row takes one step of the [`Optimizer`] along the slope of the loss times the row's weight,
//! clipped at 10¹². The intercept steps first, with a constant rate of its own. O(*p*) time and
//! memory, times the number of classes beyond two.
//!
//! With `scale = standard` and the defaults this is `StandardScaler | LogisticRegression` of River
//! 0.26, held to its traces within 10⁻¹².
//!
//! # Limits
//!
//! No single learning rate suits all streams; [`BankParams`](crate::BankParams) needs none. A
//! categorical column takes one slot a level; for many levels see
//! [`HashedParams`](crate::HashedParams).
//!
//! # Example
//!
//! ```
//! use mm_core::{Learner as _, Model as _, OnlineModel as _, Params as _, Sample, Schema, Task};
//! use mm_online::LinearParams;
//!
//! let learner = LinearParams::default().build()?;
//! let mut model = learner.start(Schema::numeric(1), Task::classes(["no", "yes"])?, 0)?;
//! for i in 0..200 {
//!     let x = (i * 37 % 100) as f32;
//!     model.learn_one(&Sample::new(&[x], f64::from(50.0 < x)))?;
//! }
//! let mut p = [0.0];
//! model.predict_row(&[90.0], &mut p)?;
//! assert!(0.7 < p[0]);
//! # Ok::<(), mm_core::Error>(())
//! ```

use mm_core::{ParamError, Params, Result, Tag};
use serde::{Deserialize, Serialize};

use crate::{
    half_life::HalfLife,
    inputs::{Coding, InputParams, Row},
    linear::{
        link::{CLIP, RegressionLoss, log_slope, sigmoid, softmax},
        optimizer::{Optimizer, Weights},
        scaler::{Scale, Scaler},
    },
    online::{Example, Incremental, Online, OnlineLearner, Shape, with_buffer},
};

/// Hyper-parameters of a linear model; plain data, checked by [`build`](Params::build).
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `scale` | `standard` | | how features are scaled first |
/// | `optimizer` | SGD, rate 0.01 | | how slopes move weights |
/// | `intercept_rate` | 0.01 | [0, 1e6] | constant learning rate of the intercept; 0: no intercept |
/// | `l2` | 0 | [0, 1e6] | penalty on the weights, not on the intercept |
/// | `loss` | squared | | regression only |
/// | `half_life` | never | | of the scaler's statistics and of summed squared slopes |
/// | `inputs` | | | cells that are missing or infinite |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LinearParams {
    /// How features are scaled first.
    pub scale: Scale,
    /// How slopes move weights.
    pub optimizer: Optimizer,
    /// Constant learning rate of the intercept.
    pub intercept_rate: f64,
    /// Penalty on the weights.
    pub l2: f64,
    /// Loss of regression.
    pub loss: RegressionLoss,
    /// How fast statistics are forgotten.
    pub half_life: HalfLife,
    /// Cells that are missing or infinite.
    pub inputs: InputParams,
}

impl Default for LinearParams {
    fn default() -> Self {
        Self {
            scale: Scale::Standard,
            optimizer: Optimizer::default(),
            intercept_rate: 0.01,
            l2: 0.0,
            loss: RegressionLoss::default(),
            half_life: HalfLife::Never,
            inputs: InputParams::default(),
        }
    }
}

impl Params for LinearParams {
    type Learner = OnlineLearner<Linear>;

    fn build(self) -> Result<Self::Learner, ParamError> {
        self.optimizer.check()?;
        for (name, x) in [("intercept_rate", self.intercept_rate), ("l2", self.l2)] {
            ParamError::ensure(0.0 <= x && x <= 1e6, name, x, "a number from 0 to 1e6")?;
        }
        match self.loss {
            RegressionLoss::Huber(x) => {
                ParamError::ensure(0.0 < x && x <= CLIP, "loss.huber", x, "> 0, at most 1e12")?;
            }
            RegressionLoss::Quantile(x) => {
                ParamError::ensure(0.0 < x && x < 1.0, "loss.quantile", x, "between 0 and 1")?;
            }
            RegressionLoss::Squared | RegressionLoss::Absolute => {}
        }
        self.half_life.check("half_life")?;
        self.inputs.check()?;
        Ok(OnlineLearner::from_checked(self))
    }
}

/// A linear model that keeps learning.
pub type LinearModel = Online<Linear>;

/// The state of a linear model: a scaler and one row of weights a score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    scaler: Scaler,
    scores: Vec<Score>,
    n_classes: usize,
    #[serde(skip)]
    z: Vec<f64>, // Scratch.
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Score {
    weights: Weights,
    intercept: f64,
}

impl Linear {
    /// The scaler.
    pub fn scaler(&self) -> &Scaler {
        &self.scaler
    }

    /// Weights of the scaled slots, and the intercept, of each score: one, or one a class beyond
    /// two classes.
    pub fn scores(&self) -> impl ExactSizeIterator<Item = (&[f64], f64)> {
        self.scores.iter().map(|score| (&score.weights.w[..], score.intercept))
    }
}

impl Incremental for Linear {
    type Params = LinearParams;

    const NAME: &'static str = "online_linear";
    const TAG: Tag = Tag::new("mm.online_linear", 1);
    const CODING: Coding = Coding::OneHot;
    const BLOCK: usize = 1024;

    fn inputs(params: &LinearParams) -> &InputParams {
        &params.inputs
    }

    fn half_life(params: &LinearParams) -> HalfLife {
        params.half_life
    }

    fn start(params: &LinearParams, shape: &Shape, _: u64) -> Result<Self> {
        let n = shape.slots.len();
        let score = Score { weights: Weights::new(params.optimizer, n), intercept: 0.0 };
        Ok(Self {
            scaler: Scaler::new(params.scale, n),
            scores: vec![score; shape.n_outputs],
            n_classes: shape.n_classes,
            z: Vec::new(),
        })
    }

    fn learn(&mut self, params: &LinearParams, example: &Example<'_>) {
        let Example { row, y, weight, decay, .. } = *example;
        self.scaler.learn(row, weight, decay);
        self.z.resize(row.x.len(), 0.0);
        self.scaler.transform(row, &mut self.z);
        let features = (&self.z[..], row.complete);
        let raw = |score: &Score| score.weights.dot(features.0, features.1) + score.intercept;
        if let [score] = &mut self.scores[..] {
            let slope = match self.n_classes {
                0 => params.loss.slope(raw(score), y),
                _ => log_slope(raw(score), y == 1.0),
            };
            score.step(params, features, slope * weight, decay);
            return;
        }
        with_buffer(self.scores.len(), |p| {
            p.iter_mut().zip(&self.scores).for_each(|(p, score)| *p = raw(score));
            softmax(p);
            p[y as usize] -= 1.0;
            for (score, slope) in self.scores.iter_mut().zip(p) {
                score.step(params, features, *slope * weight, decay);
            }
        });
    }

    fn predict(&self, _: &LinearParams, row: Row<'_>, out: &mut [f64]) {
        with_buffer(row.x.len(), |z| {
            self.scaler.transform(row, z);
            for (out, score) in out.iter_mut().zip(&self.scores) {
                *out = score.weights.dot(z, row.complete) + score.intercept;
            }
        });
        match (self.n_classes, out) {
            (0, _) => {}
            (_, [one]) => *one = sigmoid(*one),
            (_, many) => softmax(many),
        }
    }

    fn heap_bytes(&self) -> usize {
        let scores = self.scores.iter().map(|s| size_of::<Score>() + s.weights.heap_bytes());
        self.scaler.heap_bytes() + size_of_val(&self.z[..]) + scores.sum::<usize>()
    }

    fn is_valid(&self, params: &LinearParams, shape: &Shape) -> bool {
        let n = shape.slots.len();
        self.n_classes == shape.n_classes
            && self.scores.len() == shape.n_outputs
            && self.scaler.is_valid(params.scale, n)
            && self.scores.iter().all(|score| score.weights.is_valid(params.optimizer, n))
    }
}

impl Score {
    fn step(&mut self, params: &LinearParams, z: (&[f64], bool), slope: f64, decay: f64) {
        let slope = slope.clamp(-CLIP, CLIP);
        self.intercept -= params.intercept_rate * slope;
        self.weights.step(params.optimizer, z, slope, params.l2, decay);
    }
}

#[cfg(test)]
mod tests {
    use mm_core::{Catalog, conformance};

    use super::*;
    use crate::river::check_trace;

    fn learner(edit: impl FnOnce(&mut LinearParams)) -> OnlineLearner<Linear> {
        LinearParams::default().with(edit).build().expect("valid")
    }

    #[test]
    fn traces_equal_rivers() {
        // Reciprocal deviations round once more than River; the largest gap seen is 1e-13.
        let check = |name, optimizer, l2| {
            let learner = learner(|p| (p.optimizer, p.l2) = (optimizer, l2));
            check_trace(&learner, name, 1e-12);
        };
        check("sgd", Optimizer::Sgd { rate: 0.01 }, 0.0);
        check("sgd_fast", Optimizer::Sgd { rate: 0.1 }, 0.0);
        check("sgd_l2", Optimizer::Sgd { rate: 0.01 }, 1e-3);
        check("adagrad", Optimizer::AdaGrad { rate: 0.1 }, 0.0);
        check("adam", Optimizer::Adam { rate: 0.01 }, 0.0);
        let stale = Optimizer::Ftrl { alpha: 0.05, beta: 1.0, l1: 0.0, l2: 1.0, stale: true };
        check("ftrl", stale, 0.0);
    }

    #[test]
    fn conforms() {
        let catalog = crate::register(Catalog::default());
        for optimizer in [
            Optimizer::default(),
            Optimizer::AdaGrad { rate: 0.1 },
            Optimizer::Adam { rate: 0.05 },
            Optimizer::ftrl(),
        ] {
            let learner = learner(|p| p.optimizer = optimizer);
            conformance::check_online(&learner, &catalog, conformance::Checks::default());
        }
        let unscaled = learner(|p| (p.scale, p.half_life) = (Scale::None, HalfLife::Rows(10.0)));
        conformance::check_online(&unscaled, &catalog, conformance::Checks::default());
    }

    #[test]
    fn every_edge_of_the_domains_is_checked() {
        let check = |edit: &dyn Fn(&mut LinearParams), name: &str| {
            let err = LinearParams::default().with(|p| edit(p)).build().expect_err(name);
            assert_eq!(err.name, name);
        };
        for bad in [f64::NAN, -1.0, 1e7] {
            check(&|p| p.intercept_rate = bad, "intercept_rate");
            check(&|p| p.l2 = bad, "l2");
            check(&|p| p.optimizer = Optimizer::Sgd { rate: bad }, "optimizer.rate");
        }
        check(&|p| p.optimizer = Optimizer::Adam { rate: 0.0 }, "optimizer.rate");
        check(&|p| p.loss = RegressionLoss::Quantile(1.0), "loss.quantile");
        check(&|p| p.loss = RegressionLoss::Huber(0.0), "loss.huber");
        check(&|p| p.half_life = HalfLife::Rows(0.0), "half_life");
        check(&|p| p.inputs.missing = crate::Missing::Value(f64::NAN), "inputs.missing");
        assert!(LinearParams::default().with(|p| p.intercept_rate = 0.0).build().is_ok());
    }

    #[test]
    fn l1_makes_weights_of_noise_exactly_zero() {
        let strong = Optimizer::Ftrl { alpha: 0.1, beta: 1.0, l1: 20.0, l2: 0.0, stale: false };
        let learner = learner(|p| p.optimizer = strong);
        let mut state = Linear::start(learner.params(), &Shape::numeric(2, 2), 0).expect("starts");
        for i in 0..500_i32 {
            let (signal, noise) = (f64::from(i * 37 % 101), f64::from(i * i * 53 % 97));
            let x = [signal, noise];
            state.learn(learner.params(), &Example::new(&x, f64::from(50.0 < signal)));
        }
        let (weights, _) = state.scores().next().expect("one");
        assert!(0.0 < weights[0] && weights[1] == 0.0, "{weights:?}");
    }
}
