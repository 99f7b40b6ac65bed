//! How much predictions change with a feature: CatBoost's `PredictionValuesChange`.
//!
//! A split parts rows into two sides with mean values *a* and *b* and weights *v* and *w*. With
//! their common mean *m*, it moves predictions by `v (a − m)² + w (b − m)²`. For a symmetric tree
//! the two sides are each pair of leaves that differ in one answer; for other trees, the two subtrees
//! of each node. Over all splits and outputs, scaled to add up to 100. A CTR's share is divided
//! equally among the features that it is made of. Source: `calc_fstr.cpp` and `feature_str.cpp` of
//! CatBoost 1.2.10.

use mm_core::{Error, Result};

use crate::forest::{Child, Forest, Node, Split, Test, Tree, Trunk};

/// One number a feature, in percent of all change; zeros if nothing changes.
pub(super) fn prediction_change(forest: &Forest) -> Result<Vec<f64>> {
    let mut change = vec![0.0; forest.features.len()];
    for tree in &forest.trees {
        let n_leaves = tree.leaves.len() / forest.n_outputs.max(1);
        if tree.leaf_stats.len() != n_leaves {
            let expected = "leaf weights in the model file";
            return Err(Error::data("change of predictions", expected, "none"));
        }
        let add = |split: &Split, by: f64| share(forest, split, by, &mut change);
        match &tree.trunk {
            Trunk::Oblivious(own) => oblivious(forest, tree, &own.levels, add),
            Trunk::Nodes(nodes) => subtrees(forest, tree, nodes, add),
        }
    }
    let total: f64 = change.iter().sum();
    if 0.0 < total {
        for change in &mut change {
            *change *= 100.0 / total;
        }
    }
    Ok(change)
}

/// Adds what a split changes to the features that it asks.
fn share(forest: &Forest, split: &Split, by: f64, change: &mut [f64]) {
    let features = asked(forest, split);
    for &feature in &features {
        change[feature] += by / features.len() as f64;
    }
}

/// The features that a split asks: several, if it asks a CTR of several.
fn asked(forest: &Forest, split: &Split) -> Vec<usize> {
    let Test::Ctr { .. } = split.test else { return vec![split.feature] };
    let table = forest.ctrs.list[split.feature].table;
    let projection = forest.ctrs.tables[table].projection();
    let questions = projection.questions.iter().map(|question| question.feature);
    projection.levels.iter().copied().chain(questions).collect()
}

/// How far the values of two sides, with their weights, lie from their common mean.
fn moved(a: f64, v: f64, b: f64, w: f64) -> f64 {
    let mean = (a * v + b * w) / (v + w);
    (a - mean).powi(2) * v + (b - mean).powi(2) * w
}

fn oblivious(forest: &Forest, tree: &Tree, levels: &[Split], mut add: impl FnMut(&Split, f64)) {
    let width = forest.n_outputs;
    for (k, split) in levels.iter().enumerate() {
        let mut change = 0.0;
        for left in (0..tree.leaf_stats.len()).filter(|leaf| leaf >> k & 1 == 0) {
            let right = left | 1 << k;
            let [v, w] = [left, right].map(|leaf| tree.leaf_stats[leaf].cover);
            if v + w == 0.0 {
                continue;
            }
            let values = |leaf: usize| &tree.leaves[leaf * width..][..width];
            let pairs = values(left).iter().zip(values(right));
            change += pairs.map(|(&a, &b)| moved(a, v, b, w)).sum::<f64>();
        }
        add(split, change);
    }
}

fn subtrees(forest: &Forest, tree: &Tree, nodes: &[Node], mut add: impl FnMut(&Split, f64)) {
    let width = forest.n_outputs;
    // Mean values and weight of each subtree; children come after their parents.
    let mut means = vec![0.0; nodes.len() * width];
    let mut covers = vec![0.0; nodes.len()];
    for (i, node) in nodes.iter().enumerate().rev() {
        let side = |child| match child {
            Child::Leaf(leaf) => {
                (&tree.leaves[leaf * width..][..width], tree.leaf_stats[leaf].cover)
            }
            Child::Node(at) => (&means[at * width..][..width], covers[at]),
        };
        let ((left, v), (right, w)) = (side(node.left), side(node.right));
        if v + w == 0.0 {
            continue;
        }
        let pairs = || left.iter().zip(right);
        add(&node.split, pairs().map(|(&a, &b)| moved(a, v, b, w)).sum());
        let own: Vec<f64> = pairs().map(|(&a, &b)| (a * v + b * w) / (v + w)).collect();
        means[i * width..][..width].copy_from_slice(&own);
        covers[i] = v + w;
    }
}

/// How many splits ask each feature, a CTR's for all that it is made of.
pub(super) fn count(forest: &Forest) -> Vec<f64> {
    let mut counts = vec![0.0; forest.features.len()];
    for split in forest.trees.iter().flat_map(Tree::splits) {
        for feature in asked(forest, split) {
            counts[feature] += 1.0;
        }
    }
    counts
}
