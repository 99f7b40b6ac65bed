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

/// The numbers of a tree's nodes: the children of the node that was split as the *i*-th are numbered
/// 2*i* + 1 and 2*i* + 2.
struct Numbering {
    inner: Vec<usize>,
    leaves: Vec<usize>,
}

impl Numbering {
    fn of(nodes: &[Node]) -> Self {
        let (mut inner, mut leaves) = (vec![0; nodes.len()], vec![0; nodes.len() + 1]);
        for (i, node) in nodes.iter().enumerate() {
            for (child, number) in [(node.left, 2 * i + 1), (node.right, 2 * i + 2)] {
                match child {
                    Child::Node(at) => inner[at] = number,
                    Child::Leaf(leaf) => leaves[leaf] = number,
                }
            }
        }
        Self { inner, leaves }
    }

    /// Places in the forest in the order of the numbers.
    fn order(numbers: &[usize]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..numbers.len()).collect();
        order.sort_unstable_by_key(|&place| numbers[place]);
        order
    }
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
    /// Sets of categories, one after another.
    codes: Vec<i32>,
    set_nodes: Vec<i32>,
    set_starts: Vec<i64>,
    set_sizes: Vec<i64>,
}

impl Lists {
    /// `n` leaves.
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
            codes: Vec::new(),
            set_nodes: Vec::new(),
            set_starts: Vec::new(),
            set_sizes: Vec::new(),
        }
    }

    /// The node `number`, whose children are `left` and the one after; `condition` is its threshold
    /// if it splits by category.
    fn put(&mut self, number: usize, node: &Node, left: usize, condition: f32) {
        (self.left[number], self.right[number]) = (left as i32, left as i32 + 1);
        self.parents[left..left + 2].fill(number as i32);
        self.features[number] = node.split.feature as i32;
        self.gains[number] = node.stats.gain as f32;
        self.covers[number] = node.stats.cover as f32;
        match &node.split.test {
            Test::Below { threshold, missing_left } => {
                self.conditions[number] = *threshold;
                self.default_left[number] = u8::from(*missing_left);
            }
            Test::Among { set, missing_left, .. } => {
                self.conditions[number] = condition;
                self.default_left[number] = u8::from(*missing_left);
                self.kinds[number] = 1;
                let start = self.codes.len();
                let codes = 0..set.words().len() as u32 * 32;
                self.codes.extend(codes.filter(|&code| set.contains(code)).map(|code| code as i32));
                self.set_nodes.push(number as i32);
                self.set_starts.push(start as i64);
                self.set_sizes.push((self.codes.len() - start) as i64);
            }
            _ => {} // XGBoost has no others.
        }
    }

    fn into_object(self) -> Object {
        let bytes = |values| Value::Numbers(Numbers::U8(values));
        let i64s = |values| Value::Numbers(Numbers::I64(values));
        let lists = [
            ("categories", i32s(self.codes)),
            ("categories_nodes", i32s(self.set_nodes)),
            ("categories_segments", i64s(self.set_starts)),
            ("categories_sizes", i64s(self.set_sizes)),
            ("default_left", bytes(self.default_left)),
            ("left_children", i32s(self.left)),
            ("loss_changes", f32s(self.gains)),
            ("parents", i32s(self.parents)),
            ("right_children", i32s(self.right)),
            ("split_conditions", f32s(self.conditions)),
            ("split_indices", i32s(self.features)),
            ("split_type", bytes(self.kinds)),
            ("sum_hessian", f32s(self.covers)),
        ];
        lists.map(|(key, list)| (key.to_owned(), list)).into()
    }
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
    let numbering = Numbering::of(nodes);
    let n = 2 * nodes.len() + 1;
    let mut lists = Lists::new(n, is_shared);

    let mut conditions = vec![f32::NAN; nodes.len()];
    let by_category = |i: &usize| matches!(nodes[*i].split.test, Test::Among { .. });
    for (i, &condition) in (0..nodes.len()).filter(by_category).zip(&rest.conditions) {
        conditions[i] = condition;
    }
    for i in Numbering::order(&numbering.inner) {
        lists.put(numbering.inner[i], &nodes[i], 2 * i + 1, conditions[i]);
    }
    for (stats, &number) in tree.leaf_stats.iter().zip(&numbering.leaves) {
        lists.covers[number] = stats.cover as f32;
    }
    let mut leaf_weights = None;
    if is_shared {
        let mut values = Vec::with_capacity(tree.leaves.len());
        for (place, leaf) in Numbering::order(&numbering.leaves).into_iter().enumerate() {
            lists.right[numbering.leaves[leaf]] = place as i32;
            values.extend(tree.leaves[leaf * width..][..width].iter().map(|&x| x as f32));
        }
        leaf_weights = Some(values);
    } else {
        for (&number, &value) in numbering.leaves.iter().zip(&tree.leaves) {
            lists.conditions[number] = value as f32;
        }
    }

    let mut object = lists.into_object();
    let mut put = |key: &str, value| object.insert(key.to_owned(), value);
    put("base_weights", f32s(base_weights(nodes, rest, &numbering, width)));
    put("id", Value::Integer(id as i64));
    if let Some(leaf_weights) = leaf_weights {
        put("leaf_weights", f32s(leaf_weights));
    }
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

/// What each node would be as a leaf, `width` values a node.
fn base_weights(nodes: &[Node], rest: &TreeRest, numbering: &Numbering, width: usize) -> Vec<f32> {
    let numbers = || numbering.inner.iter().chain(&numbering.leaves);
    let mut weights = vec![0.0; (2 * nodes.len() + 1) * width];
    if rest.node_weights.is_empty() {
        let inner = nodes.iter().map(|node| node.stats.value as f32);
        for (&number, weight) in numbers().zip(inner.chain(rest.leaf_weights.iter().copied())) {
            weights[number] = weight;
        }
    } else {
        for (&number, row) in numbers().zip(rest.node_weights.chunks_exact(width)) {
            weights[number * width..][..width].copy_from_slice(row);
        }
    }
    weights
}

fn f32s(values: Vec<f32>) -> Value {
    Value::Numbers(Numbers::F32(values))
}

fn i32s(values: Vec<i32>) -> Value {
    Value::Numbers(Numbers::I32(values))
}
