//! Naive Bayes: classes by their shares, features as independent within each class.
//!
//! # Idea
//!
//! ```text
//! P(class | x) ∝ share of the class · Π (10⁻⁹ + density of xⱼ in the class)
//! ```
//!
//! with a normal density of each number (population variance) and smoothed shares of each level,
//! (weight + 1) / (total + levels). The constant keeps one odd feature from deciding alone. On numbers
//! this is `GaussianNB` of River 0.26, held to its traces. A missing feature and an unknown level say
//! nothing; a class that has not come yet has probability 0 once another has.
//!
//! A row of *p* features takes O(*p* · classes), and so does memory, with the levels.

use mm_core::{ParamError, Params, Result, Tag, Task};
use serde::{Deserialize, Serialize};

use crate::{
    half_life::HalfLife,
    inputs::{Coding, InputParams, Row, Slot},
    online::{Example, Incremental, Online, OnlineLearner, Shape, with_buffer, write_shares},
};

/// Hyper-parameters of naive Bayes.
///
/// | field | default | effect |
/// | --- | --- | --- |
/// | `half_life` | never | of all counts and moments |
/// | `inputs` | | cells that are missing or infinite |
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the table says it")]
pub struct NaiveBayesParams {
    pub half_life: HalfLife,
    pub inputs: InputParams,
}

impl Params for NaiveBayesParams {
    type Learner = OnlineLearner<NaiveBayes>;

    fn build(self) -> Result<Self::Learner, ParamError> {
        self.half_life.check("half_life")?;
        self.inputs.check()?;
        Ok(OnlineLearner::from_checked(self))
    }
}

/// Naive Bayes that keeps learning.
pub type NaiveBayesModel = Online<NaiveBayes>;

/// The state of naive Bayes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NaiveBayes {
    slots: Vec<Slot>,
    n_levels: usize,
    classes: Vec<Class>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Class {
    weight: f64,
    normals: Vec<Normal>, // One a slot.
    levels: Vec<f64>,     // Weights of the levels of all slots, one slot after another.
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Normal {
    n: f64,
    mean: f64,
    squares: f64,
}

/// Least density of a feature.
const FLOOR: f64 = 1e-9;

impl Normal {
    fn learn(&mut self, x: f64, weight: f64) {
        let old = self.mean;
        self.n += weight;
        self.mean += weight / self.n * (x - old);
        self.squares += weight * (x - old) * (x - self.mean);
    }

    fn density(&self, x: f64) -> f64 {
        let variance = if 0.0 < self.n { self.squares / self.n } else { 0.0 };
        if variance <= 0.0 {
            return 0.0;
        }
        let gap = x - self.mean;
        (gap * gap / (-2.0 * variance)).exp() / (std::f64::consts::TAU * variance).sqrt()
    }
}

impl NaiveBayes {
    /// Weight of each class.
    pub fn class_weights(&self) -> impl ExactSizeIterator<Item = f64> {
        self.classes.iter().map(|class| class.weight)
    }
}

impl Incremental for NaiveBayes {
    type Params = NaiveBayesParams;

    const NAME: &'static str = "naive_bayes";
    const TAG: Tag = Tag::new("mm.naive_bayes", 1);
    const CODING: Coding = Coding::Codes;

    fn inputs(params: &NaiveBayesParams) -> &InputParams {
        &params.inputs
    }

    fn half_life(params: &NaiveBayesParams) -> HalfLife {
        params.half_life
    }

    fn supports(task: &Task) -> bool {
        !matches!(task, Task::Regression)
    }

    fn start(_: &NaiveBayesParams, shape: &Shape, _: u64) -> Result<Self> {
        let levels = |slot: &Slot| if let Slot::Level(k) = slot { *k as usize } else { 0 };
        let n_levels = shape.slots.iter().map(levels).sum();
        let class = Class {
            weight: 0.0,
            normals: vec![Normal::default(); shape.slots.len()],
            levels: vec![0.0; n_levels],
        };
        Ok(Self { slots: shape.slots.clone(), n_levels, classes: vec![class; shape.n_classes] })
    }

    fn learn(&mut self, _: &NaiveBayesParams, example: &Example<'_>) {
        let Example { row, weight, decay, .. } = *example;
        if decay != 1.0 {
            for class in &mut self.classes {
                class.weight *= decay;
                class.levels.iter_mut().for_each(|weight| *weight *= decay);
                for normal in &mut class.normals {
                    normal.n *= decay;
                    normal.squares *= decay;
                }
            }
        }
        let class = &mut self.classes[example.class()];
        class.weight += weight;
        let mut levels = &mut class.levels[..];
        for ((normal, slot), &x) in class.normals.iter_mut().zip(&self.slots).zip(row.x) {
            match *slot {
                Slot::Number if x.is_nan() => {}
                Slot::Number => normal.learn(x, weight),
                Slot::Level(k) => {
                    let (own, rest) = levels.split_at_mut(k as usize);
                    levels = rest;
                    if 0.0 <= x {
                        own[x as usize] += weight;
                    }
                }
            }
        }
    }

    fn predict(&self, _: &NaiveBayesParams, row: Row<'_>, out: &mut [f64]) {
        let total: f64 = self.classes.iter().map(|class| class.weight).sum();
        with_buffer(self.classes.len(), |votes| {
            for (vote, class) in votes.iter_mut().zip(&self.classes) {
                *vote = f64::NEG_INFINITY;
                if class.weight <= 0.0 {
                    continue;
                }
                *vote = (class.weight / total).ln();
                let mut levels = &class.levels[..];
                for ((normal, slot), &x) in class.normals.iter().zip(&self.slots).zip(row.x) {
                    match *slot {
                        Slot::Number if x.is_nan() => {}
                        Slot::Number => *vote += (FLOOR + normal.density(x)).ln(),
                        Slot::Level(k) => {
                            let (own, rest) = levels.split_at(k as usize);
                            levels = rest;
                            if 0.0 <= x {
                                let total = own.iter().sum::<f64>() + own.len() as f64;
                                *vote += ((own[x as usize] + 1.0) / total).ln();
                            }
                        }
                    }
                }
            }
            let most = votes.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for vote in &mut *votes {
                *vote = if most.is_finite() { (*vote - most).exp() } else { 0.0 };
            }
            write_shares(votes, out);
        });
    }

    fn heap_bytes(&self) -> usize {
        let a_class =
            size_of::<Class>() + self.slots.len() * size_of::<Normal>() + self.n_levels * 8;
        size_of_val(&self.slots[..]) + self.classes.len() * a_class
    }

    fn is_valid(&self, params: &NaiveBayesParams, shape: &Shape) -> bool {
        let Ok(fresh) = Self::start(params, shape, 0) else {
            return false;
        };
        let lens = |class: &Class| (class.normals.len(), class.levels.len());
        self.slots == shape.slots
            && self.n_levels == fresh.n_levels
            && self.classes.len() == fresh.classes.len()
            && self.classes.iter().zip(&fresh.classes).all(|(a, b)| lens(a) == lens(b))
    }
}

#[cfg(test)]
mod tests {
    use mm_core::{Catalog, conformance};

    use super::*;
    use crate::river::{check_trace, classifiers};

    #[test]
    fn traces_equal_rivers() {
        let learner = NaiveBayesParams::default().build().expect("valid");
        check_trace(&learner, "naive_bayes", 1e-12);
    }

    #[test]
    fn conforms() {
        let catalog = crate::register(Catalog::default());
        let learner = NaiveBayesParams::default().build().expect("valid");
        conformance::check_online(&learner, &catalog, classifiers());
        let fading = NaiveBayesParams::default().with(|p| p.half_life = HalfLife::Rows(5.0));
        let learner = fading.build().expect("valid");
        conformance::check_online(&learner, &catalog, classifiers());
    }
}
