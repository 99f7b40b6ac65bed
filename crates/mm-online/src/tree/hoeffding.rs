//! The Hoeffding tree: a decision tree that splits a leaf once the rows tell which split is best.
//!
//! # Idea
//!
//! Each leaf keeps, per class and numeric feature, a normal distribution, and per class and
//! categorical feature the weights of its levels. After every `grace` weight of rows it compares the
//! information gained by its best two features, of which numeric ones are tried at `points`
//! thresholds between their extremes and categorical ones at each level against the rest. It splits
//! if the best leads by more than
//!
//! ```text
//! ε = √(R² ln(1/δ) / 2n),    R = log₂(number of classes)
//! ```
//!
//! or if ε < `tau`, so that a tie does not last for ever. Children start with the class weights that
//! the split projects. A leaf predicts by the shares of its classes or by naive Bayes, whichever has
//! been right more often there.
//!
//! On numeric features this is `HoeffdingTreeClassifier` of River 0.26 with its defaults, held to
//! its traces within 10⁻¹². Unlike there, categorical features are split in two.
//!
//! A row of *p* features takes O(depth + *p* · classes); memory is O(*p* · classes) a leaf.
//!
//! # What is missing, unknown, or new
//!
//! A missing feature goes down the side of more weight and says nothing in a leaf; a level that the
//! fit did not know goes with the rest. A class that has not come yet has probability 0 once another
//! has; before the first row all are equal.
//!
//! # Memory
//!
//! Beyond `max_bytes` the leaves in which the fewest rows are wrong stop observing features: they go
//! on counting classes and are never split. If that is not enough the tree stops growing.
//!
//! Sources: Domingos & Hulten (2000), "Mining high-speed data streams"; Gama, Rocha & Medas (2003)
//! for the leaves; Pfahringer, Holmes & Kirkby (2008) for normals in leaves.

use mm_core::{ParamError, Params, Result, Tag, Task};
use serde::{Deserialize, Serialize};

use crate::{
    half_life::HalfLife,
    inputs::{Coding, InputParams, Row},
    online::{Example, Incremental, Online, OnlineLearner, Shape, with_buffer, write_shares},
    random::Draws,
    tree::{
        grow::{Grown, Growth, Tree},
        leaf::{LeafPrediction, Rule},
    },
};

/// How Hoeffding trees grow; plain data, a part of the params of each of them.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `grace` | 200 | (0, 1e9] | weight of rows between attempts to split a leaf |
/// | `delta` | 1e-7 | (0, 1) | chance that a split is not the best |
/// | `tau` | 0.05 | [0, 1] | bound below which a tie is broken |
/// | `points` | 10 | 1–1000 | thresholds tried a numeric feature |
/// | `leaf` | adaptive | | how leaves predict |
/// | `max_depth` | 60 | 1–200 | no split beyond |
/// | `max_bytes` | 100 MiB | ≥ 16 KiB | budget, a tree |
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the table says it")]
pub struct GrowthParams {
    pub grace: f64,
    pub delta: f64,
    pub tau: f64,
    pub points: u32,
    pub leaf: LeafPrediction,
    pub max_depth: u32,
    pub max_bytes: usize,
}

impl Default for GrowthParams {
    fn default() -> Self {
        Self {
            grace: 200.0,
            delta: 1e-7,
            tau: 0.05,
            points: 10,
            leaf: LeafPrediction::default(),
            max_depth: 60,
            max_bytes: 100 << 20,
        }
    }
}

impl GrowthParams {
    /// Checks the fields.
    pub fn check(&self) -> Result<(), ParamError> {
        let Self { grace, delta, tau, points, max_depth, max_bytes, .. } = *self;
        let ok = 0.0 < grace && grace <= 1e9;
        ParamError::ensure(ok, "growth.grace", grace, "a number > 0, at most 1e9")?;
        let ok = 0.0 < delta && delta < 1.0;
        ParamError::ensure(ok, "growth.delta", delta, "a number between 0 and 1, exclusive")?;
        ParamError::ensure(0.0 <= tau && tau <= 1.0, "growth.tau", tau, "from 0 to 1")?;
        let ok = 1 <= points && points <= 1000;
        ParamError::ensure(ok, "growth.points", points, "from 1 to 1000")?;
        let ok = 1 <= max_depth && max_depth <= 200;
        ParamError::ensure(ok, "growth.max_depth", max_depth, "from 1 to 200")?;
        let ok = 16 << 10 <= max_bytes;
        ParamError::ensure(ok, "growth.max_bytes", max_bytes, "at least 16384")
    }

    pub(crate) fn growth(&self, features_a_leaf: usize) -> Growth {
        let Self { grace, delta, tau, points, leaf, max_depth, max_bytes } = *self;
        let rule = Rule { delta, tau, points };
        Growth { grace, rule, leaf, max_depth, max_bytes, features_a_leaf }
    }
}

/// Hyper-parameters of a Hoeffding tree.
///
/// | field | effect |
/// | --- | --- |
/// | `growth` | when leaves are split, and the byte budget |
/// | `half_life` | of what leaves hold; splits stay. Never by default |
/// | `inputs` | cells that are missing or infinite |
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the table says it")]
pub struct HoeffdingTreeParams {
    pub growth: GrowthParams,
    pub half_life: HalfLife,
    pub inputs: InputParams,
}

impl Params for HoeffdingTreeParams {
    type Learner = OnlineLearner<HoeffdingTree>;

    fn build(self) -> Result<Self::Learner, ParamError> {
        self.growth.check()?;
        self.half_life.check("half_life")?;
        self.inputs.check()?;
        Ok(OnlineLearner::from_checked(self))
    }
}

/// A Hoeffding tree that keeps learning.
pub type HoeffdingTreeModel = Online<HoeffdingTree>;

/// The state of a Hoeffding tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HoeffdingTree {
    tree: Tree,
    draws: Draws, // Never drawn from: every leaf has all features.
    n_classes: usize,
}

impl HoeffdingTree {
    /// Number of leaves.
    pub fn n_leaves(&self) -> usize {
        self.tree.n_leaves()
    }

    /// Edges from the root to the deepest leaf.
    pub fn depth(&self) -> u32 {
        self.tree.depth(Tree::ROOT)
    }
}

impl Incremental for HoeffdingTree {
    type Params = HoeffdingTreeParams;

    const NAME: &'static str = "hoeffding_tree";
    const TAG: Tag = Tag::new("mm.hoeffding_tree", 1);
    const CODING: Coding = Coding::Codes;

    fn inputs(params: &HoeffdingTreeParams) -> &InputParams {
        &params.inputs
    }

    fn half_life(params: &HoeffdingTreeParams) -> HalfLife {
        params.half_life
    }

    fn supports(task: &Task) -> bool {
        !matches!(task, Task::Regression)
    }

    fn start(params: &HoeffdingTreeParams, shape: &Shape, seed: u64) -> Result<Self> {
        let mut draws = Draws::new(seed, 0);
        let growth = params.growth.growth(shape.slots.len());
        let n_classes = shape.n_classes;
        let tree = Tree::new(n_classes, &shape.slots, Vec::new(), &growth, &mut draws);
        Ok(Self { tree, draws, n_classes })
    }

    fn learn(&mut self, params: &HoeffdingTreeParams, example: &Example<'_>) {
        let Example { row, weight, .. } = *example;
        let growth = params.growth.growth(row.x.len());
        self.tree.decay(example.decay);
        let grown = self.tree.learn(&growth, &mut self.draws, row, example.class(), weight);
        if grown != Grown::No {
            self.tree.shrink(growth.max_bytes);
        }
    }

    fn predict(&self, params: &HoeffdingTreeParams, row: Row<'_>, out: &mut [f64]) {
        with_buffer(self.n_classes, |votes| {
            self.tree.predict(Tree::ROOT, params.growth.leaf, row, votes);
            write_shares(votes, out);
        });
    }

    fn heap_bytes(&self) -> usize {
        self.tree.heap_bytes()
    }

    fn is_valid(&self, _: &HoeffdingTreeParams, shape: &Shape) -> bool {
        self.n_classes == shape.n_classes
            && self.tree.is_valid(shape.n_classes, &shape.slots, &[Tree::ROOT])
    }
}

#[cfg(test)]
mod tests {
    use mm_core::{Catalog, conformance};

    use super::*;
    use crate::river::check_trace;

    fn learner(edit: impl FnOnce(&mut HoeffdingTreeParams)) -> OnlineLearner<HoeffdingTree> {
        HoeffdingTreeParams::default().with(edit).build().expect("valid")
    }

    #[test]
    fn traces_equal_rivers() {
        check_trace(&learner(|_| {}), "hoeffding_tree", 1e-12);
    }

    #[test]
    fn conforms() {
        let catalog = crate::register(Catalog::default());
        let checks = crate::river::classifiers();
        conformance::check_online(&learner(|p| p.growth.grace = 5.0), &catalog, checks);
        let eager = learner(|p| (p.growth.grace, p.growth.tau) = (4.0, 1.0));
        conformance::check_online(&eager, &catalog, checks);
        let forgetful = learner(|p| (p.growth.grace, p.half_life) = (5.0, HalfLife::Rows(20.0)));
        conformance::check_online(&forgetful, &catalog, checks);
    }

    #[test]
    fn the_budget_holds_and_the_tree_goes_on() {
        let learner = learner(|p| {
            (p.growth.grace, p.growth.tau, p.growth.max_bytes) = (10.0, 1.0, 16 << 10);
        });
        let mut state =
            HoeffdingTree::start(learner.params(), &Shape::numeric(8, 4), 0).expect("starts");
        let mut draws = Draws::new(3, 0);
        for _ in 0..20_000 {
            let x: [f64; 8] = std::array::from_fn(|_| draws.uniform());
            let class = (x[0] * 2.0).floor() * 2.0 + (x[1] * 2.0).floor();
            state.learn(learner.params(), &Example::new(&x, class));
            assert!(state.heap_bytes() <= 16 << 10, "{} bytes", state.heap_bytes());
        }
        assert!(4 <= state.n_leaves());
    }

    #[test]
    fn a_categorical_feature_is_split_by_its_levels() {
        let learner = learner(|_| {});
        let shape = Shape { slots: vec![crate::Slot::Level(4)], n_classes: 2, n_outputs: 1 };
        let mut state = HoeffdingTree::start(learner.params(), &shape, 0).expect("starts");
        for i in 0..2000 {
            let code = f64::from(i * 7 % 4);
            state.learn(learner.params(), &Example::new(&[code], f64::from(code == 2.0)));
        }
        assert_eq!(state.n_leaves(), 2);
        let p = |code: f64| {
            let mut out = [0.0];
            state.predict(learner.params(), Row::new(&[code]), &mut out);
            out[0]
        };
        assert!(0.99 < p(2.0) && p(1.0) < 0.01);
        assert_eq!(p(-1.0), p(1.0), "an unknown level goes with the rest");
        assert_eq!(p(f64::NAN), p(1.0), "a missing one goes where most went");
    }
}
