//! The questions of a grown tree.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ctr::Projection;
use crate::forest::Child;

/// What a split asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Split {
    /// Whether a numeric column's bin exceeds a border.
    Border { column: u32, border: u32 },
    /// Whether a categorical column has this code.
    Level { column: u32, code: u32 },
    /// Whether a statistic's bin exceeds a border.
    Ctr { projection: Arc<Projection>, column: u32, border: u32 },
}

impl Split {
    pub(super) fn goes_right(&self, bin: u8) -> bool {
        self.test()(bin)
    }

    /// What tells whether a bin goes right, for loops over many.
    pub(super) fn test(&self) -> impl Fn(u8) -> bool + Copy + Send + Sync + use<> {
        let (is_level, at) = match *self {
            Self::Border { border, .. } | Self::Ctr { border, .. } => (false, border),
            Self::Level { code, .. } => (true, code),
        };
        move |bin| if is_level { at == u32::from(bin) } else { at < u32::from(bin) }
    }
}

/// How a tree's splits hang together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Structure {
    /// One split for each level, the lowest bit of the leaf's index first.
    Symmetric(Vec<Split>),
    /// A split for each inner node, of which the first is the root and children come after their
    /// parents; a tree without any is its only leaf.
    Nodes(Vec<Node>),
}

/// An inner node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Node {
    pub(super) split: Split,
    pub(super) left: Child,
    pub(super) right: Child,
}

/// The nodes in the order of a walk that goes left first, as files have them, and the leaves, by
/// their old numbers, in that order.
pub(super) fn in_walk_order(nodes: &[Node]) -> (Vec<Node>, Vec<usize>) {
    let (mut inner, mut leaves) = (Vec::new(), Vec::new());
    let mut open = vec![if nodes.is_empty() { Child::Leaf(0) } else { Child::Node(0) }];
    while let Some(child) = open.pop() {
        match child {
            Child::Leaf(leaf) => leaves.push(leaf),
            Child::Node(at) => {
                inner.push(at);
                open.extend([nodes[at].right, nodes[at].left]);
            }
        }
    }
    let places = |order: &[usize]| {
        let mut places = vec![0; order.len()];
        order.iter().enumerate().for_each(|(place, &old)| places[old] = place);
        places
    };
    let (node_at, leaf_at) = (places(&inner), places(&leaves));
    let child = |child| match child {
        Child::Leaf(leaf) => Child::Leaf(leaf_at[leaf]),
        Child::Node(at) => Child::Node(node_at[at]),
    };
    let node = |&at: &usize| {
        let Node { split, left, right } = &nodes[at];
        Node { split: split.clone(), left: child(*left), right: child(*right) }
    };
    (inner.iter().map(node).collect(), leaves)
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
