//! The questions of a grown tree.

use super::boost::Split;
use crate::forest::Child;

/// How a tree's splits hang together.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Structure {
    /// One split for each level, the lowest bit of the leaf's index first.
    Symmetric(Vec<Split>),
    /// A split for each inner node, of which the first is the root and children come after their
    /// parents; a tree without any is its only leaf.
    Nodes(Vec<Node>),
}

/// An inner node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) split: Split,
    pub(super) left: Child,
    pub(super) right: Child,
}

impl Structure {
    /// How many leaves there are.
    pub(super) fn n_leaves(&self) -> usize {
        match self {
            Self::Symmetric(splits) => 1 << splits.len(),
            Self::Nodes(nodes) => nodes.len() + 1,
        }
    }

    /// The splits, in order.
    pub(super) fn splits(&self) -> Vec<Split> {
        match self {
            Self::Symmetric(splits) => splits.clone(),
            Self::Nodes(nodes) => nodes.iter().map(|node| node.split.clone()).collect(),
        }
    }
}
