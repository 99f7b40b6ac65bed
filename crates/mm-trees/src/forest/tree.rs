//! One tree, in the meaning and precision of the engine that grew it.

use serde::{Deserialize, Serialize};

/// One tree of a forest.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// Its splits.
    pub trunk: Trunk,
    /// The leaves' values, of shape (leaves, width), leaf by leaf; the width is 1 for
    /// [`Outputs::One`] and that of the forest for [`Outputs::All`].
    pub leaves: Vec<f64>,
    /// What is known of each leaf, in the same order; empty if the file does not say.
    pub leaf_stats: Vec<LeafStats>,
    /// Linear models in the leaves, in the same order; empty if the leaves are constants.
    pub linear: Vec<LinearLeaf>,
    /// Where the values go.
    pub outputs: Outputs,
    /// What the leaf is multiplied by as it is added: 1, but for XGBoost's DART.
    pub weight: f64,
}

/// Which outputs a tree adds to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outputs {
    /// One output, by index.
    One(usize),
    /// All of them: a leaf is a vector.
    All,
}

/// The splits of a tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Trunk {
    /// Nodes that name their children; node 0 is the root, and a child comes after its parent. A
    /// tree without nodes is its only leaf.
    Nodes(Vec<Node>),
    /// One split for each level (CatBoost's symmetric trees): bit *k* of the leaf's index is the
    /// answer at level *k*, where *right* is 1. There are 2^levels leaves.
    Oblivious(Oblivious),
}

/// The levels of a symmetric tree.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Oblivious {
    /// One split for each level, the lowest bit first.
    pub levels: Vec<Split>,
}

/// An inner node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The question.
    pub split: Split,
    /// Where *left* leads.
    pub left: Child,
    /// Where *right* leads.
    pub right: Child,
    /// What the file says of it.
    pub stats: NodeStats,
}

/// What a branch leads to, by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Child {
    /// An inner node of the same tree.
    Node(usize),
    /// A leaf of the same tree.
    Leaf(usize),
}

/// What training left at an inner node. Fields that a format lacks are 0.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct NodeStats {
    /// What the split gained, in units of the objective.
    pub gain: f64,
    /// The weight of the rows that came through: sum of hessians (LightGBM, XGBoost) or of weights.
    pub cover: f64,
    /// How many rows came through.
    pub count: f64,
    /// The value the node would have as a leaf.
    pub value: f64,
}

/// What training left at a leaf. Fields that a format lacks are 0.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LeafStats {
    /// As [`NodeStats::cover`].
    pub cover: f64,
    /// As [`NodeStats::count`].
    pub count: f64,
}

/// The linear model of one leaf (LightGBM): `constant + Σ coefficient * x`, all in `f64`. If one of
/// its features is NaN, the leaf's plain value is used in its place.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LinearLeaf {
    /// The intercept.
    pub constant: f64,
    /// Features by index, with their coefficients.
    pub terms: Vec<(usize, f64)>,
}

impl LinearLeaf {
    /// What it gives for a row; none if one of its features is NaN.
    pub(crate) fn value(&self, row: &[f32]) -> Option<f64> {
        self.terms.iter().try_fold(self.constant, |sum, &(j, coefficient)| {
            let x = f64::from(row[j]);
            // What lies within `ZERO` of 0 is 0 to LightGBM.
            let x = if x.abs() <= ZERO { 0.0 } else { x };
            (!x.is_nan()).then_some(sum + coefficient * x)
        })
    }
}

/// A question to one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// The feature asked, by index; for [`Test::Ctr`] the index of the CTR.
    pub feature: usize,
    /// What is asked.
    pub test: Test,
}

/// What a split asks of a feature's value *x*.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Left if `x <= threshold`, compared in `f64` (LightGBM; CatBoost's `x > border` is *right*).
    AtMost {
        /// The threshold.
        threshold: f64,
        /// Where missing values go.
        missing: Missing,
    },
    /// Left if `x < threshold`, compared in `f32` (XGBoost).
    Below {
        /// The threshold.
        threshold: f32,
        /// Whether a missing value goes left.
        missing_left: bool,
    },
    /// By membership of the level's code in a set. A code that is not in the set, an unknown level
    /// included, takes the other side.
    Among {
        /// The set of codes.
        set: CategorySet,
        /// Whether members go left (LightGBM) or right (XGBoost).
        members_left: bool,
        /// Whether a missing value goes left.
        missing_left: bool,
    },
    /// Right if the hash of the level's name equals this one (CatBoost's one-hot split). An unknown
    /// level goes left; a missing one is the level with the empty name.
    Hash(u32),
    /// Right if the value of the CTR (a target statistic of levels, CatBoost) exceeds the border.
    Ctr {
        /// The border.
        border: f32,
    },
}

/// Where a numeric split sends missing values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// NaN goes left, or right.
    Nan {
        /// Whether it goes left.
        left: bool,
    },
    /// NaN is taken for 0 (LightGBM, missing type *none*).
    AsZero,
    /// NaN and all of |x| ≤ 1e-35 go left, or right (LightGBM, `zero_as_missing`).
    Zero {
        /// Whether they go left.
        left: bool,
    },
}

/// A set of level codes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CategorySet {
    /// Bit `code % 32` of word `code / 32`; as LightGBM and XGBoost store it.
    words: Vec<u32>,
}

impl CategorySet {
    /// From a bit set in words of 32, lowest code first.
    pub fn from_words(words: Vec<u32>) -> Self {
        Self { words }
    }

    /// The bit set in words of 32, lowest code first.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Whether `code` is a member.
    pub fn contains(&self, code: u32) -> bool {
        let word = self.words.get((code / 32) as usize).copied().unwrap_or(0);
        word >> (code % 32) & 1 == 1
    }
}

impl FromIterator<u32> for CategorySet {
    fn from_iter<I: IntoIterator<Item = u32>>(codes: I) -> Self {
        let mut words = Vec::new();
        for code in codes {
            let word = (code / 32) as usize;
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            words[word] |= 1 << (code % 32);
        }
        Self { words }
    }
}

/// |x| up to this is zero to LightGBM's `zero_as_missing` (`kZeroThreshold`, an `f32` constant).
pub(crate) const ZERO: f64 = 1e-35_f32 as f64;

impl Test {
    /// Whether value `x` (NaN = missing; a level's code, −1 if unknown) goes left, for the tests
    /// that look at a single feature's value.
    pub(crate) fn goes_left(&self, x: f32) -> Option<bool> {
        Some(match self {
            Self::AtMost { threshold, missing } => {
                let value = f64::from(x);
                match missing {
                    Missing::Nan { left } if x.is_nan() => *left,
                    Missing::Zero { left } if x.is_nan() || value.abs() <= ZERO => *left,
                    Missing::AsZero if x.is_nan() => 0.0 <= *threshold,
                    _ => value <= *threshold,
                }
            }
            Self::Below { missing_left, .. } if x.is_nan() => *missing_left,
            Self::Below { threshold, .. } => x < *threshold,
            Self::Among { missing_left, .. } if x.is_nan() => *missing_left,
            Self::Among { set, members_left, .. } => {
                (0.0 <= x && set.contains(x as u32)) == *members_left
            }
            Self::Hash(_) | Self::Ctr { .. } => return None,
        })
    }
}

impl Tree {
    /// Its splits, in the order of its nodes or levels.
    pub(crate) fn splits(&self) -> impl Iterator<Item = &Split> {
        let (nodes, levels): (&[Node], &[Split]) = match &self.trunk {
            Trunk::Nodes(nodes) => (nodes, &[]),
            Trunk::Oblivious(tree) => (&[], &tree.levels),
        };
        nodes.iter().map(|node| &node.split).chain(levels)
    }
}
