//! Passive–aggressive learning: no step while the margin is kept, else just the step that keeps it.
//!
//! # Idea
//!
//! With scaled features *z* of length *p*, a row that loses ℓ takes a step of size
//!
//! ```text
//! τ = min(C w, ℓ / ‖z‖²)
//! ```
//!
//! where *w* is the row's weight:
//!
//! | task | loss ℓ | moves |
//! | --- | --- | --- |
//! | two classes | max(0, 1 − s·score), s = ±1 | the score by s |
//! | more classes | max(0, 1 − score of the class + best other score), over 2 ‖z‖² | both, apart |
//! | regression | max(0, \|score − y\| − ε) | the score towards y |
//!
//! Probabilities are the logistic or softmax of the scores, which are not calibrated. There is no
//! learning rate: it follows fast streams that a gradient with a small rate does not. For two
//! classes this is `StandardScaler | PAClassifier` of River 0.26, held to its traces.
//!
//! Source: Crammer, Dekel, Keshet, Shalev-Shwartz & Singer (2006), "Online passive-aggressive
//! algorithms", variant PA-I.

use mm_core::{ParamError, Params, Result, Tag};
use serde::{Deserialize, Serialize};

use crate::{
    half_life::HalfLife,
    inputs::{Coding, InputParams, Row},
    linear::{
        link::{sigmoid, softmax},
        scaler::{Scale, Scaler},
    },
    online::{Example, Incremental, Online, OnlineLearner, Shape, with_buffer},
};

/// Hyper-parameters of passive–aggressive learning.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `scale` | `standard` | | how features are scaled first |
/// | `aggressiveness` | 1 | (0, 1e6] | C, the largest step |
/// | `epsilon` | 0.1 | [0, 1e6] | regression: error that costs nothing, in units of the target |
/// | `intercept` | true | | whether scores have one, moved by the same step |
/// | `half_life` | never | | of the scaler's statistics |
/// | `inputs` | | | cells that are missing or infinite |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the table says it")]
pub struct PassiveAggressiveParams {
    pub scale: Scale,
    pub aggressiveness: f64,
    pub epsilon: f64,
    pub intercept: bool,
    pub half_life: HalfLife,
    pub inputs: InputParams,
}

impl Default for PassiveAggressiveParams {
    fn default() -> Self {
        Self {
            scale: Scale::Standard,
            aggressiveness: 1.0,
            epsilon: 0.1,
            intercept: true,
            half_life: HalfLife::Never,
            inputs: InputParams::default(),
        }
    }
}

impl Params for PassiveAggressiveParams {
    type Learner = OnlineLearner<PassiveAggressive>;

    fn build(self) -> Result<Self::Learner, ParamError> {
        let (c, epsilon) = (self.aggressiveness, self.epsilon);
        ParamError::ensure(0.0 < c && c <= 1e6, "aggressiveness", c, "> 0, at most 1e6")?;
        let ok = 0.0 <= epsilon && epsilon <= 1e6;
        ParamError::ensure(ok, "epsilon", epsilon, "a number from 0 to 1e6")?;
        self.half_life.check("half_life")?;
        self.inputs.check()?;
        Ok(OnlineLearner::from_checked(self))
    }
}

/// A passive–aggressive model that keeps learning.
pub type PassiveAggressiveModel = Online<PassiveAggressive>;

/// The state of passive–aggressive learning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassiveAggressive {
    scaler: Scaler,
    weights: Vec<f64>, // One row a score.
    intercepts: Vec<f64>,
    n_classes: usize,
    #[serde(skip)]
    z: Vec<f64>, // Scratch.
}

impl PassiveAggressive {
    /// Fills `scores`; `z` has no NaN.
    fn score(&self, z: &[f64], scores: &mut [f64]) {
        let n = z.len();
        for (k, (score, intercept)) in scores.iter_mut().zip(&self.intercepts).enumerate() {
            let weights = &self.weights[k * n..(k + 1) * n];
            *score = weights.iter().zip(z).map(|(w, z)| w * z).sum::<f64>() + intercept;
        }
    }
}

/// The step τ; 0 where there are no features to take it on.
pub(crate) fn step_size(loss: f64, norm: f64, most: f64) -> f64 {
    if 0.0 < norm { most.min(loss / norm) } else { 0.0 }
}

/// The class but `class` of the highest score.
pub(crate) fn rival(scores: &[f64], class: usize) -> usize {
    let others = (0..scores.len()).filter(|&k| k != class);
    others.reduce(|a, b| if scores[a] < scores[b] { b } else { a }).unwrap_or(class)
}

impl Incremental for PassiveAggressive {
    type Params = PassiveAggressiveParams;

    const NAME: &'static str = "passive_aggressive";
    const TAG: Tag = Tag::new("mm.passive_aggressive", 1);
    const CODING: Coding = Coding::OneHot;
    const BLOCK: usize = 1024;

    fn inputs(params: &PassiveAggressiveParams) -> &InputParams {
        &params.inputs
    }

    fn half_life(params: &PassiveAggressiveParams) -> HalfLife {
        params.half_life
    }

    fn start(params: &PassiveAggressiveParams, shape: &Shape, _: u64) -> Result<Self> {
        let n = shape.slots.len();
        Ok(Self {
            scaler: Scaler::new(params.scale, n),
            weights: vec![0.0; n * shape.n_outputs],
            intercepts: vec![0.0; shape.n_outputs],
            n_classes: shape.n_classes,
            z: Vec::new(),
        })
    }

    fn learn(&mut self, params: &PassiveAggressiveParams, example: &Example<'_>) {
        let Example { row, y, weight, decay, .. } = *example;
        self.scaler.learn(row, weight, decay);
        let mut z = std::mem::take(&mut self.z);
        z.resize(row.x.len(), 0.0);
        self.scaler.transform_or_zero(row, &mut z);
        let norm: f64 = z.iter().map(|z| z * z).sum();
        let most = params.aggressiveness * weight;
        let (first, second) = if self.n_classes < 3 {
            let mut score = [0.0];
            self.score(&z, &mut score);
            let (sign, loss) = if self.n_classes == 0 {
                ((y - score[0]).signum(), (y - score[0]).abs() - params.epsilon)
            } else {
                let sign = if y == 1.0 { 1.0 } else { -1.0 };
                (sign, 1.0 - sign * score[0])
            };
            ((0, sign * step_size(loss.max(0.0), norm, most)), None)
        } else {
            with_buffer(self.n_classes, |scores| {
                self.score(&z, scores);
                let (class, other) = (y as usize, rival(scores, y as usize));
                let loss = (1.0 - scores[class] + scores[other]).max(0.0);
                let tau = step_size(loss, 2.0 * norm, most);
                ((class, tau), Some((other, -tau)))
            })
        };
        for (k, step) in [Some(first), second].into_iter().flatten() {
            let weights = &mut self.weights[k * z.len()..(k + 1) * z.len()];
            weights.iter_mut().zip(&z).for_each(|(w, z)| *w += step * z);
            if params.intercept {
                self.intercepts[k] += step;
            }
        }
        self.z = z;
    }

    fn predict(&self, _: &PassiveAggressiveParams, row: Row<'_>, out: &mut [f64]) {
        with_buffer(row.x.len(), |z| {
            self.scaler.transform_or_zero(row, z);
            self.score(z, out);
        });
        match (self.n_classes, out) {
            (0, _) => {}
            (_, [one]) => *one = sigmoid(*one),
            (_, many) => softmax(many),
        }
    }

    fn heap_bytes(&self) -> usize {
        let lists = self.weights.len() + self.intercepts.len() + self.z.len();
        self.scaler.heap_bytes() + lists * 8
    }

    fn is_valid(&self, params: &PassiveAggressiveParams, shape: &Shape) -> bool {
        let n = shape.slots.len();
        self.n_classes == shape.n_classes
            && self.scaler.is_valid(params.scale, n)
            && self.weights.len() == n * shape.n_outputs
            && self.intercepts.len() == shape.n_outputs
    }
}

#[cfg(test)]
mod tests {
    use mm_core::{Catalog, conformance};

    use super::*;
    use crate::river::check_trace;

    #[test]
    fn traces_equal_rivers() {
        let learner = PassiveAggressiveParams::default().build().expect("valid");
        check_trace(&learner, "pa", 1e-12);
    }

    #[test]
    fn conforms() {
        let catalog = crate::register(Catalog::default());
        let learner = PassiveAggressiveParams::default().build().expect("valid");
        conformance::check_online(&learner, &catalog, conformance::Checks::default());
    }

    #[test]
    fn every_edge_of_the_domains_is_checked() {
        for bad in [f64::NAN, 0.0, 2e6] {
            let params = PassiveAggressiveParams::default().with(|p| p.aggressiveness = bad);
            assert_eq!(params.build().expect_err("domain").name, "aggressiveness");
        }
        let params = PassiveAggressiveParams::default().with(|p| p.epsilon = -1.0);
        assert_eq!(params.build().expect_err("domain").name, "epsilon");
    }
}
