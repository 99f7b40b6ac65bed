//! A tree of Hoeffding leaves in two arenas, and how it grows: what single trees and forests share.

use serde::{Deserialize, Serialize};

use crate::{
    inputs::{Row, Slot},
    random::Draws,
    tree::leaf::{Attempt, Leaf, LeafPrediction, Proposal, Rule},
};

/// How a tree grows; checked by the params that hold it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Growth {
    pub(crate) grace: f64,
    pub(crate) rule: Rule,
    pub(crate) leaf: LeafPrediction,
    pub(crate) max_depth: u32,
    pub(crate) max_bytes: usize,
    /// Features that a leaf may split on, drawn anew for each leaf.
    pub(crate) features_a_leaf: usize,
}

/// A place in the arena of nodes.
pub(crate) type NodeId = u32;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    leaves: Vec<Leaf>,
    free_nodes: Vec<NodeId>,
    free_leaves: Vec<u32>,
    n_classes: u32,
    slots: Vec<Slot>,
    age: f64,          // Sum of the logarithms of all decays.
    allowed: Vec<u32>, // Features that the tree may split on; all if empty.
}

/// A branch, or a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Node {
    feature: u32,
    is_level: bool,
    at: f64,
    children: [NodeId; 2], // Of a leaf: its place in the arena of leaves, twice.
    weights: [f64; 2],     // That went either way: where a row goes whose feature is missing.
}

const LEAF: u32 = u32::MAX;

impl Node {
    fn leaf(place: u32) -> Self {
        Self { feature: LEAF, is_level: false, at: 0.0, children: [place; 2], weights: [0.0; 2] }
    }

    fn is_leaf(self) -> bool {
        self.feature == LEAF
    }

    /// 0 for left: at most the threshold, or the level.
    fn side(self, row: Row<'_>) -> usize {
        let x = row.x[self.feature as usize];
        if x.is_nan() {
            return usize::from(self.weights[0] < self.weights[1]);
        }
        usize::from(if self.is_level { x != self.at } else { self.at < x })
    }
}

/// What became of a leaf that learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grown {
    /// It is still a leaf.
    No,
    /// It is, and takes more memory.
    Memory,
    /// It is a branch now.
    Split,
}

impl Tree {
    /// The place of the root.
    pub(crate) const ROOT: NodeId = 0;

    /// A tree of one leaf that may split on `allowed` features, all if there are none.
    pub(crate) fn new(
        n_classes: usize,
        slots: &[Slot],
        allowed: Vec<u32>,
        growth: &Growth,
        draws: &mut Draws,
    ) -> Self {
        let mut tree = Self {
            nodes: Vec::new(),
            leaves: Vec::new(),
            free_nodes: Vec::new(),
            free_leaves: Vec::new(),
            n_classes: n_classes as u32,
            slots: slots.to_vec(),
            age: 0.0,
            allowed,
        };
        tree.add_leaf(growth, draws, &[], 0);
        tree
    }

    /// A new leaf and its node.
    pub(crate) fn add_leaf(
        &mut self,
        growth: &Growth,
        draws: &mut Draws,
        start: &[(u32, f64)],
        depth: u32,
    ) -> NodeId {
        let leaf = self.make_leaf(growth, draws, start, depth);
        let place = put(&mut self.leaves, &mut self.free_leaves, leaf);
        put(&mut self.nodes, &mut self.free_nodes, Node::leaf(place))
    }

    fn make_leaf(
        &self,
        growth: &Growth,
        draws: &mut Draws,
        start: &[(u32, f64)],
        depth: u32,
    ) -> Leaf {
        let k = growth.features_a_leaf;
        let features = if self.allowed.is_empty() {
            draws.subset(self.slots.len(), k)
        } else {
            let picks = draws.subset(self.allowed.len(), k);
            picks.into_iter().map(|i| self.allowed[i as usize]).collect()
        };
        Leaf::new(self.n_classes as usize, &self.slots, features, start, (depth, self.age))
    }

    /// The place of the leaf under `from` to which the row belongs.
    pub(crate) fn find(&self, from: NodeId, row: Row<'_>) -> NodeId {
        let mut at = from;
        loop {
            let node = self.nodes[at as usize];
            if node.is_leaf() {
                return at;
            }
            at = node.children[node.side(row)];
        }
    }

    /// The child of a branch to which the row belongs, noting the weight that goes there; `None` at
    /// a leaf.
    pub(crate) fn step(&mut self, at: NodeId, row: Row<'_>, weight: f64) -> Option<NodeId> {
        let node = &mut self.nodes[at as usize];
        if node.is_leaf() {
            return None;
        }
        let side = node.side(row);
        node.weights[side] += weight;
        Some(node.children[side])
    }

    pub(crate) fn leaf(&self, at: NodeId) -> &Leaf {
        &self.leaves[self.nodes[at as usize].children[0] as usize]
    }

    /// Fills `votes`, one a class, with what the leaf under `from` says.
    pub(crate) fn predict(
        &self,
        from: NodeId,
        how: LeafPrediction,
        row: Row<'_>,
        votes: &mut [f64],
    ) {
        self.leaf(self.find(from, row)).predict(how, &self.slots, row, votes);
    }

    /// Learns one row under the root.
    pub(crate) fn learn(
        &mut self,
        growth: &Growth,
        draws: &mut Draws,
        row: Row<'_>,
        class: usize,
        weight: f64,
    ) -> Grown {
        let mut at = Self::ROOT;
        while let Some(child) = self.step(at, row, weight) {
            at = child;
        }
        self.learn_at(at, growth, draws, row, class, weight)
    }

    /// Learns one row at a leaf, and splits it if it is time.
    pub(crate) fn learn_at(
        &mut self,
        at: NodeId,
        growth: &Growth,
        draws: &mut Draws,
        row: Row<'_>,
        class: usize,
        weight: f64,
    ) -> Grown {
        let leaf = &mut self.leaves[self.nodes[at as usize].children[0] as usize];
        leaf.catch_up(self.age);
        let takes_more = leaf.learn(growth.leaf, &self.slots, row, class, weight);
        let grown = if takes_more { Grown::Memory } else { Grown::No };
        if growth.max_depth <= leaf.depth || !leaf.is_due(growth.grace) {
            return grown;
        }
        match leaf.attempt(&self.slots, growth.rule) {
            Attempt::Wait => grown,
            Attempt::Forget => {
                leaf.forget();
                grown
            }
            Attempt::Split(proposal) => {
                self.split(at, growth, draws, &proposal);
                Grown::Split
            }
        }
    }

    /// Ages what all leaves hold by the factor `decay`.
    pub(crate) fn decay(&mut self, decay: f64) {
        if decay != 1.0 {
            self.age += decay.max(f64::MIN_POSITIVE).ln();
        }
    }

    fn split(&mut self, at: NodeId, growth: &Growth, draws: &mut Draws, proposal: &Proposal) {
        let depth = self.leaf(at).depth + 1;
        let left = self.make_leaf(growth, draws, proposal.side(0), depth);
        let right = self.make_leaf(growth, draws, proposal.side(1), depth);
        let weights = [left.weight(), right.weight()];
        let place = self.nodes[at as usize].children[0];
        self.leaves[place as usize] = left;
        let left = put(&mut self.nodes, &mut self.free_nodes, Node::leaf(place));
        let place = put(&mut self.leaves, &mut self.free_leaves, right);
        let right = put(&mut self.nodes, &mut self.free_nodes, Node::leaf(place));
        let Proposal { feature, is_level, at: threshold, .. } = *proposal;
        let children = [left, right];
        self.nodes[at as usize] = Node { feature, is_level, at: threshold, children, weights };
    }

    /// Frees the branches and leaves under `at`, and `at` itself.
    pub(crate) fn remove(&mut self, at: NodeId) {
        let mut rest = vec![at];
        while let Some(at) = rest.pop() {
            let node = self.nodes[at as usize];
            if node.is_leaf() {
                let place = node.children[0];
                self.leaves[place as usize].deactivate();
                self.free_leaves.push(place);
            } else {
                rest.extend(node.children);
            }
            self.free_nodes.push(at);
        }
    }

    /// Puts the subtree under `new` in the place of that under `old`, which is freed.
    pub(crate) fn replace(&mut self, old: NodeId, new: NodeId) {
        let moved = self.nodes[new as usize];
        self.remove(old);
        // `old` itself stays in use, `new` is free instead.
        let freed = self.free_nodes.iter().position(|&at| at == old);
        if let Some(i) = freed {
            self.free_nodes[i] = new;
        }
        self.nodes[old as usize] = moved;
    }

    /// Stops observing in the least promising leaves until the tree takes at most `max_bytes`. A
    /// leaf that does not observe is never split, so a tree without others takes no more.
    pub(crate) fn shrink(&mut self, max_bytes: usize) {
        let mut bytes = self.heap_bytes();
        if bytes <= max_bytes {
            return;
        }
        let mut active: Vec<_> =
            (0..self.leaves.len()).filter(|&i| self.leaves[i].is_active()).collect();
        active.sort_by(|&a, &b| self.leaves[a].promise().total_cmp(&self.leaves[b].promise()));
        // A little further than needed, so that the next row does not come here again.
        let goal = max_bytes - max_bytes / 16;
        for i in active {
            if bytes <= goal {
                break;
            }
            let before = self.leaves[i].heap_bytes();
            self.leaves[i].deactivate();
            bytes -= before - self.leaves[i].heap_bytes();
        }
    }

    /// The children of a branch; `None` of a leaf.
    pub(crate) fn children(&self, at: NodeId) -> Option<[NodeId; 2]> {
        let node = self.nodes[at as usize];
        (!node.is_leaf()).then_some(node.children)
    }

    /// How many places for nodes there are.
    pub(crate) fn n_places(&self) -> usize {
        self.nodes.len()
    }

    /// Leaves in use.
    pub(crate) fn n_leaves(&self) -> usize {
        self.leaves.len() - self.free_leaves.len()
    }

    /// All places under `from`, and itself.
    pub(crate) fn places(&self, from: NodeId) -> Vec<NodeId> {
        let mut found = vec![from];
        let mut next = 0;
        while let Some(&at) = found.get(next) {
            found.extend(self.children(at).into_iter().flatten());
            next += 1;
        }
        found
    }

    /// Edges from the root to the deepest leaf under `from`.
    pub(crate) fn depth(&self, from: NodeId) -> u32 {
        match self.children(from) {
            None => self.leaf(from).depth,
            Some([left, right]) => self.depth(left).max(self.depth(right)),
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
            + self.leaves.capacity() * size_of::<Leaf>()
            + self.leaves.iter().map(Leaf::heap_bytes).sum::<usize>()
            + (self.free_nodes.capacity() + self.free_leaves.capacity() + self.allowed.capacity())
                * 4
            + self.slots.capacity() * size_of::<Slot>()
    }

    /// Whether the arenas are whole: every place below `roots` is in one tree only, children stand
    /// where nodes are, and leaves fit the shape.
    pub(crate) fn is_valid(&self, n_classes: usize, slots: &[Slot], roots: &[NodeId]) -> bool {
        if self.n_classes as usize != n_classes || self.slots != slots {
            return false;
        }
        let mut node_seen = vec![false; self.nodes.len()];
        let mut leaf_seen = vec![false; self.leaves.len()];
        let take = |seen: &mut Vec<bool>, at: u32| {
            seen.get_mut(at as usize).is_some_and(|seen| !std::mem::replace(seen, true))
        };
        let mut rest = roots.to_vec();
        while let Some(at) = rest.pop() {
            if !take(&mut node_seen, at) {
                return false;
            }
            let node = self.nodes[at as usize];
            if node.is_leaf() {
                if !take(&mut leaf_seen, node.children[0]) {
                    return false;
                }
            } else {
                if slots.len() <= node.feature as usize {
                    return false;
                }
                rest.extend(node.children);
            }
        }
        let free = self.free_nodes.iter().all(|&at| take(&mut node_seen, at))
            && self.free_leaves.iter().all(|&at| take(&mut leaf_seen, at));
        free && node_seen.into_iter().all(|seen| seen)
            && leaf_seen.into_iter().all(|seen| seen)
            && self.allowed.iter().all(|&j| (j as usize) < slots.len())
            && self.leaves.iter().all(|leaf| leaf.is_valid(n_classes, slots))
    }
}

/// Puts `item` into a free place, or a new one.
fn put<T>(arena: &mut Vec<T>, free: &mut Vec<u32>, item: T) -> u32 {
    match free.pop() {
        Some(place) => {
            arena[place as usize] = item;
            place
        }
        None => {
            if arena.len() == arena.capacity() {
                arena.reserve_exact(4 + arena.len() / 8); // Bytes are counted: no doubling.
            }
            arena.push(item);
            arena.len() as u32 - 1
        }
    }
}
