//! A booster written as XGBoost 3.4 writes it, in JSON or UBJSON.
//!
//! A booster that was read is written as it was read, in UBJSON byte for byte, where XGBoost ≥ 3.1
//! wrote it and pruned nothing. Nodes are numbered in the order in which they were split; those that
//! no path leads to are gone.

use std::ops::Range;

use mm_core::Result;

use super::{
    read::{Rest, TreeRest},
    value::{Numbers, Object, Value},
};
use crate::forest::{Child, Forest, Node, Outputs, Test, Tree, Trunk};

/// The parent of a root: in a tree of numbers, and in one of vectors.
const NO_PARENT: [i32; 2] = [i32::MAX, -1];
/// The threshold of a node that has none, in a tree of vectors (`DftBadValue`).
const NO_THRESHOLD: f32 = f32::from_bits(1);

/// The booster with the trees of `forest`.
pub(super) fn write(forest: &Forest, rest: &Rest) -> Result<Value> {
    let mut rest = rest.clone();
    let is_late = !rest.booster_mut()?.contains_key("weight_drop");
    let weights: Vec<f32> = forest.trees.iter().map(|tree| tree.weight as f32).collect();
    let list = |values: &[f32]| Value::Array(values.iter().copied().map(Value::Number).collect());

    let (trees_rest, rounds) = (std::mem::take(&mut rest.trees), std::mem::take(&mut rest.rounds));
    let n_features = forest.features.len();
    let pairs = forest.trees.iter().zip(&trees_rest).enumerate();
    let trees =
        pairs.map(|(i, (tree, rest))| write_tree(i, tree, rest, forest.n_outputs, n_features));
    let groups = forest.trees.iter().map(|tree| match tree.outputs {
        Outputs::One(group) => group,
        Outputs::All => 0,
    });
    let model = rest.model_mut()?;
    model.insert("trees".to_owned(), Value::Array(trees.collect()));
    model.insert("tree_info".to_owned(), Value::integers(groups));
    if let Some(Value::Object(params)) = model.get_mut("gbtree_model_param") {
        params.insert("num_trees".to_owned(), Value::text(forest.trees.len().to_string()));
    }
    model.insert("iteration_indptr".to_owned(), Value::integers(rounds));
    if is_late && model.contains_key("weight_drop") {
        model.insert("weight_drop".to_owned(), list(&weights));
    }
    if !is_late {
        rest.booster_mut()?.insert("weight_drop".to_owned(), list(&weights));
    }
    Ok(rest.shell)
}

/// The rounds of `rounds` alone.
pub(super) fn slice(forest: &Forest, rest: &Rest, rounds: Range<usize>) -> (Forest, Rest) {
    let starts = &rest.rounds[rounds.start..=rounds.end];
    let trees = starts[0]..starts[starts.len() - 1];
    let forest = Forest { trees: forest.trees[trees.clone()].to_vec(), ..forest.clone() };
    let rest = Rest {
        trees: rest.trees[trees.clone()].to_vec(),
        rounds: starts.iter().map(|start| start - trees.start).collect(),
        shell: rest.shell.clone(),
    };
    (forest, rest)
}

/// The lists of a tree, in the order of its nodes' numbers.
struct Lists {
    parents: Vec<i32>,
    left: Vec<i32>,
    right: Vec<i32>,
    features: Vec<i32>,
    conditions: Vec<f32>,
    default_left: Vec<u8>,
    gains: Vec<f32>,
    covers: Vec<f32>,
    kinds: Vec<u8>,
}

impl Lists {
    /// All nodes as leaves.
    fn new(n: usize, is_shared: bool) -> Self {
        Self {
            parents: vec![NO_PARENT[usize::from(is_shared)]; n],
            left: vec![-1; n],
            right: vec![-1; n],
            features: vec![0; n],
            conditions: vec![NO_THRESHOLD; n],
            default_left: vec![0; n],
            gains: vec![0.0; n],
            covers: vec![0.0; n],
            kinds: vec![0; n],
        }
    }
}

/// Sets of categories, one after another.
#[derive(Default)]
struct Sets {
    codes: Vec<i32>,
    nodes: Vec<i32>,
    starts: Vec<i64>,
    sizes: Vec<i64>,
}

fn write_tree(
    id: usize,
    tree: &Tree,
    rest: &TreeRest,
    n_outputs: usize,
    n_features: usize,
) -> Value {
    let nodes: &[Node] = match &tree.trunk {
        Trunk::Nodes(nodes) => nodes,
        Trunk::Oblivious(_) => &[], // XGBoost has none.
    };
    let is_shared = tree.outputs == Outputs::All;
    let width = if is_shared { n_outputs } else { 1 };
    let n = 2 * nodes.len() + 1;
    let mut lists = Lists::new(n, is_shared);
    let mut sets = Sets::default();
    // The children of the node that was split as the i-th are numbered 2i + 1 and 2i + 2.
    let (mut inner, mut leaves) = (vec![0; nodes.len()], vec![0; nodes.len() + 1]);
    for (i, node) in nodes.iter().enumerate() {
        for (child, number) in [(node.left, 2 * i + 1), (node.right, 2 * i + 2)] {
            match child {
                Child::Node(at) => inner[at] = number,
                Child::Leaf(leaf) => leaves[leaf] = number,
            }
        }
    }
    let mut by_number: Vec<(usize, usize)> =
        inner.iter().enumerate().map(|(i, &number)| (number, i)).collect();
    by_number.sort_unstable();
    let ranks = nodes.iter().scan(0, |rank, node| {
        let by_category = matches!(node.split.test, Test::Among { .. });
        *rank += usize::from(by_category);
        Some(rank.wrapping_sub(1))
    });
    let ranks: Vec<usize> = ranks.collect();
    for (number, i) in by_number {
        let node = &nodes[i];
        let children = [2 * i + 1, 2 * i + 2];
        (lists.left[number], lists.right[number]) = (children[0] as i32, children[1] as i32);
        children.iter().for_each(|&child| lists.parents[child] = number as i32);
        lists.features[number] = node.split.feature as i32;
        lists.gains[number] = node.stats.gain as f32;
        lists.covers[number] = node.stats.cover as f32;
        match &node.split.test {
            Test::Below { threshold, missing_left } => {
                lists.conditions[number] = *threshold;
                lists.default_left[number] = u8::from(*missing_left);
            }
            Test::Among { set, missing_left, .. } => {
                lists.conditions[number] =
                    rest.conditions.get(ranks[i]).copied().unwrap_or(f32::NAN);
                lists.default_left[number] = u8::from(*missing_left);
                lists.kinds[number] = 1;
                let start = sets.codes.len();
                let n_codes = set.words().len() as u32 * 32;
                let members = (0..n_codes).filter(|&code| set.contains(code));
                sets.codes.extend(members.map(|code| code as i32));
                sets.nodes.push(number as i32);
                sets.starts.push(start as i64);
                sets.sizes.push((sets.codes.len() - start) as i64);
            }
            _ => {} // XGBoost has no others.
        }
    }
    for (leaf, &number) in leaves.iter().enumerate() {
        lists.covers[number] = tree.leaf_stats.get(leaf).map_or(0.0, |stats| stats.cover as f32);
        if !is_shared {
            lists.conditions[number] = tree.leaves[leaf] as f32;
        }
    }

    let mut object = Object::new();
    let mut put = |key: &str, value| object.insert(key.to_owned(), value);
    if is_shared {
        // The leaves by their numbers.
        let mut order: Vec<usize> = (0..leaves.len()).collect();
        order.sort_unstable_by_key(|&leaf| leaves[leaf]);
        let mut values = Vec::with_capacity(tree.leaves.len());
        for (place, &leaf) in order.iter().enumerate() {
            lists.right[leaves[leaf]] = place as i32;
            values.extend(tree.leaves[leaf * width..][..width].iter().map(|&x| x as f32));
        }
        put("leaf_weights", f32s(values));
        let mut weights = vec![0.0; n * width];
        let rows = rest.node_weights.chunks_exact(width);
        for (&number, row) in inner.iter().chain(&leaves).zip(rows) {
            weights[number * width..][..width].copy_from_slice(row);
        }
        put("base_weights", f32s(weights));
    } else {
        let mut weights = vec![0.0; n];
        for (i, node) in nodes.iter().enumerate() {
            weights[inner[i]] = node.stats.value as f32;
        }
        for (&number, &weight) in leaves.iter().zip(&rest.leaf_weights) {
            weights[number] = weight;
        }
        put("base_weights", f32s(weights));
    }
    put("categories", i32s(sets.codes));
    put("categories_nodes", i32s(sets.nodes));
    put("categories_segments", Value::Numbers(Numbers::I64(sets.starts)));
    put("categories_sizes", Value::Numbers(Numbers::I64(sets.sizes)));
    put("default_left", Value::Numbers(Numbers::U8(lists.default_left)));
    put("id", Value::Integer(id as i64));
    put("left_children", i32s(lists.left));
    put("loss_changes", f32s(lists.gains));
    put("parents", i32s(lists.parents));
    put("right_children", i32s(lists.right));
    put("split_conditions", f32s(lists.conditions));
    put("split_indices", i32s(lists.features));
    put("split_type", Value::Numbers(Numbers::U8(lists.kinds)));
    put("sum_hessian", f32s(lists.covers));
    let params = [
        ("num_deleted", 0),
        ("num_feature", n_features),
        ("num_nodes", n),
        ("size_leaf_vector", width),
    ];
    let params = params.map(|(key, value)| (key.to_owned(), Value::text(value.to_string())));
    put("tree_param", Value::Object(params.into()));
    Value::Object(object)
}

fn f32s(values: Vec<f32>) -> Value {
    Value::Numbers(Numbers::F32(values))
}

fn i32s(values: Vec<i32>) -> Value {
    Value::Numbers(Numbers::I32(values))
}
