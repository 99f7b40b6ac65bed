//! What must hold of a forest that came from a file.
//!
//! Whatever follows the trees later (kernels, explanations, writers) relies on it: that every index
//! lies within its list, that paths end, and that a tree is a tree, in which one path leads to each
//! leaf. A graph in which paths meet again would predict as well, but has exponentially many paths.

use std::fmt::Display;

use super::{
    Forest,
    tree::{Child, Outputs, Split, Test, Tree, Trunk},
};

/// What was expected of a forest and what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) expected: String,
    pub(crate) got: String,
}

impl Flaw {
    fn new(expected: impl Into<String>, got: impl Display) -> Self {
        Self { expected: expected.into(), got: got.to_string() }
    }
}

/// Levels that a symmetric tree may have: 2²⁴ leaves.
const MAX_LEVELS: usize = 24;

impl Forest {
    /// Checks every tree; an error names the first flaw, and the tree that has it.
    pub(crate) fn check(&self) -> Result<(), (usize, Flaw)> {
        let check = |tree: &Tree| tree.check(self.features.len(), self.n_outputs);
        self.trees.iter().enumerate().try_for_each(|(i, tree)| check(tree).map_err(|e| (i, e)))
    }
}

impl Tree {
    /// Checks a tree over `n_features` features for `n_outputs` outputs: O(nodes).
    pub(crate) fn check(&self, n_features: usize, n_outputs: usize) -> Result<(), Flaw> {
        let n_leaves = match &self.trunk {
            Trunk::Nodes(nodes) => nodes.len() + 1,
            Trunk::Oblivious(tree) if MAX_LEVELS < tree.levels.len() => {
                let expected = format!("at most {MAX_LEVELS} levels");
                return Err(Flaw::new(expected, tree.levels.len()));
            }
            Trunk::Oblivious(tree) => 1 << tree.levels.len(),
        };
        let width = match self.outputs {
            Outputs::One(k) if k < n_outputs => 1,
            Outputs::One(k) => return Err(Flaw::new(format!("an output below {n_outputs}"), k)),
            Outputs::All => n_outputs,
        };
        if Some(self.leaves.len()) != n_leaves.checked_mul(width) {
            let expected = format!("{n_leaves} leaves of {width} values");
            return Err(Flaw::new(expected, format!("{} values", self.leaves.len())));
        }
        for (what, len) in [("statistics", self.leaf_stats.len()), ("models", self.linear.len())] {
            if len != 0 && len != n_leaves {
                return Err(Flaw::new(format!("{n_leaves} {what} of leaves, or none"), len));
            }
        }
        let mut linear = self.linear.iter().flat_map(|leaf| &leaf.terms);
        if let Some((bad, _)) = linear.find(|&&(feature, _)| n_features <= feature) {
            return Err(Flaw::new(format!("a feature below {n_features}"), bad));
        }
        let bad = |s: &&Split| n_features <= s.feature && !matches!(s.test, Test::Ctr { .. });
        if let Some(bad) = self.splits().find(bad) {
            return Err(Flaw::new(format!("a feature below {n_features}"), bad.feature));
        }
        self.check_paths(n_leaves)
    }

    /// Each node but the root, and each leaf, is the child of one node, which comes before it.
    fn check_paths(&self, n_leaves: usize) -> Result<(), Flaw> {
        let Trunk::Nodes(nodes) = &self.trunk else { return Ok(()) };
        let (mut seen_nodes, mut seen_leaves) = (vec![false; nodes.len()], vec![false; n_leaves]);
        for (i, node) in nodes.iter().enumerate() {
            for child in [node.left, node.right] {
                let seen = match child {
                    Child::Node(child) if i < child => seen_nodes.get_mut(child),
                    Child::Node(_) => None,
                    Child::Leaf(leaf) => seen_leaves.get_mut(leaf),
                };
                match seen {
                    Some(seen) if !*seen => *seen = true,
                    _ => return Err(Flaw::new(format!("a child of node {i}"), show(child))),
                }
            }
        }
        Ok(()) // n nodes have 2n children: n − 1 nodes and n + 1 leaves, each of them once.
    }
}

fn show(child: Child) -> String {
    match child {
        Child::Node(node) => format!("node {node}"),
        Child::Leaf(leaf) => format!("leaf {leaf}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::{Missing, Node, NodeStats};
    use super::*;

    fn tree(children: &[(Child, Child)]) -> Tree {
        let split = || Split {
            feature: 0,
            test: Test::AtMost { threshold: 0.0, missing: Missing::AsZero },
        };
        let node = |&(left, right): &(Child, Child)| Node {
            split: split(),
            left,
            right,
            stats: NodeStats::default(),
        };
        Tree {
            trunk: Trunk::Nodes(children.iter().map(node).collect()),
            leaves: vec![0.0; children.len() + 1],
            leaf_stats: Vec::new(),
            linear: Vec::new(),
            outputs: Outputs::One(0),
            weight: 1.0,
        }
    }

    #[test]
    fn a_tree_is_a_tree() {
        use Child::{Leaf, Node};
        assert_eq!(tree(&[]).check(1, 1), Ok(()));
        assert_eq!(tree(&[(Leaf(0), Node(1)), (Leaf(2), Leaf(1))]).check(1, 1), Ok(()));
        for bad in [
            [(Node(0), Leaf(0)), (Leaf(1), Leaf(2))],
            [(Node(1), Node(1)), (Leaf(1), Leaf(2))],
            [(Node(1), Leaf(1)), (Leaf(1), Leaf(2))],
            [(Node(1), Leaf(3)), (Leaf(1), Leaf(2))],
            [(Node(2), Leaf(0)), (Leaf(1), Leaf(2))],
            [(Leaf(0), Leaf(1)), (Leaf(1), Leaf(2))],
        ] {
            assert!(tree(&bad).check(1, 1).is_err(), "{bad:?}");
        }
        assert!(tree(&[(Leaf(0), Leaf(1))]).check(0, 1).is_err(), "no such feature");
        assert!(tree(&[(Leaf(0), Leaf(1))]).check(1, 0).is_err(), "no such output");
    }
}
