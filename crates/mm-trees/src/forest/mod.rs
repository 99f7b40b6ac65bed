//! The engine-neutral form of every tree model: what trained trees *are*, once no engine is needed.
//!
//! ```text
//! LightGBM text ─┐                         ┌─▶ predictions (`kernel`)
//! XGBoost JSON,  ├─ readers ─▶ Forest ─────┼─▶ contributions (`shap`), importances
//!   UBJSON       │            (this file)  ├─▶ slices, concatenations
//! CatBoost JSON, │                         └─▶ writers ─▶ the engine's own format
//!   .cbm ────────┘
//! ```
//!
//! A [`Forest`] keeps what its engine stored, in the engine's own meaning and precision: thresholds as
//! the file had them, leaves before any rounding, the order of the trees. So a writer gives back
//! what a reader took, and a prediction can equal the engine's to the bit. Making it fast is the
//! business of the kernel, into which a forest is compiled once; saying what is right is that of
//! `reference.rs`, the slow evaluator that every other one is tested against.
//!
//! # How a raw score comes about
//!
//! For each output: a start, plus the leaf of each tree in order, in the precision that
//! [`Sum`] names; then the [`Link`] turns raw scores into what the model's signature promises.

mod check;
mod ctr;
mod encode;
mod importance;
pub(crate) mod kernel;
mod link;
#[cfg_attr(not(test), expect(dead_code, reason = "for the oracle of the tests"))]
mod reference;
pub(crate) mod served;
mod shap;
mod slice;
mod tree;

#[cfg(any(test, feature = "lightgbm"))]
pub(crate) use self::link::normalize;
pub use self::{
    ctr::{Counts, Ctr, CtrKind, CtrTable, Ctrs, Projection},
    kernel::Kernel,
    link::Link,
    shap::{Explainer, Interactions},
    tree::{
        CategorySet, Child, LeafStats, LinearLeaf, Missing, Node, NodeStats, Oblivious, Outputs,
        Split, Test, Tree, Trunk,
    },
};
pub(crate) use self::{
    encode::{Encoder, Scratch},
    shap::{Inputs, Lazy},
};
pub(crate) use self::{served::Served, tree::ZERO};

/// A fitted tree model of any engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    /// The features that the splits name by index.
    pub(crate) features: Vec<Feature>,
    /// How many raw scores a row has: 1, or as many as classes or targets.
    pub(crate) n_outputs: usize,
    /// The trees, in the order in which they are added up.
    pub(crate) trees: Vec<Tree>,
    /// How many consecutive trees one boosting round has.
    pub(crate) trees_per_round: usize,
    /// How leaves add up.
    pub(crate) sum: Sum,
    /// From raw scores to predictions.
    pub(crate) link: Link,
    /// Target statistics that splits ask for (CatBoost); empty elsewhere.
    pub(crate) ctrs: Ctrs,
}

/// One input of a forest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Its name in the model file.
    pub name: String,
    /// Whether values are codes of levels.
    pub is_categorical: bool,
}

/// How the leaves of the trees add up to a raw score: the order is that of the trees, the rest is
/// the engine's.
#[derive(Debug, Clone, PartialEq)]
pub enum Sum {
    /// LightGBM: in `f64` from 0; divided by the number of rounds in a random forest.
    Double {
        /// Whether the sum is divided by the number of rounds.
        is_average: bool,
    },
    /// XGBoost: in `f32`, from the base margin of each output.
    Single {
        /// The base margin of each output (the base score, through the inverse link).
        base: Vec<f32>,
    },
    /// CatBoost: in `f64` from 0; then `scale * sum + bias`.
    Scaled {
        /// What the sum is multiplied by.
        scale: f64,
        /// What is added afterwards, one per output.
        bias: Vec<f64>,
    },
}

impl Forest {
    /// How many trees there are.
    pub fn n_trees(&self) -> usize {
        self.trees.len()
    }

    /// How many boosting rounds there are.
    pub fn n_rounds(&self) -> usize {
        self.trees.len() / self.trees_per_round.max(1)
    }

    /// How many raw scores a row has.
    pub fn n_outputs(&self) -> usize {
        self.n_outputs
    }

    /// The features that the splits name by index.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The trees, in the order in which they are added up.
    pub fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// The target statistics that splits ask for; none but in CatBoost's forests.
    pub fn ctrs(&self) -> &Ctrs {
        &self.ctrs
    }

    /// The splits of all trees.
    pub(crate) fn splits(&self) -> impl Iterator<Item = &Split> {
        self.trees.iter().flat_map(Tree::splits)
    }

    /// From raw scores to predictions.
    pub fn link(&self) -> &Link {
        &self.link
    }
}
