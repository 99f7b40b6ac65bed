//! Against the definition of the Shapley value, on forests small enough for it.

use proptest::prelude::*;

use super::super::{
    CategorySet, Child, Ctrs, Feature, Forest, LeafStats, LinearLeaf, Link, Missing, Node,
    NodeStats, Oblivious, Outputs, Split, Sum, Test, Tree, Trunk,
};
use super::*;

/// How many features the forests of these tests have.
const P: usize = 5;

/// The mean of two branches; where no training row came, either counts half.
fn blend([a, b]: [f64; 2], [left, right]: [f64; 2]) -> f64 {
    if a + b == 0.0 { f64::midpoint(left, right) } else { (a * left + b * right) / (a + b) }
}

fn weight(nodes: &[Node], child: Child, of: &dyn Fn(usize) -> f64) -> f64 {
    match child {
        Child::Leaf(leaf) => of(leaf),
        Child::Node(i) => weight(nodes, nodes[i].left, of) + weight(nodes, nodes[i].right, of),
    }
}
fn mean_by_node(
    nodes: &[Node],
    at: Child,
    value: &dyn Fn(usize) -> f64,
    of: &dyn Fn(usize) -> f64,
    step: &dyn Fn(&Split) -> Option<bool>,
) -> f64 {
    let i = match at {
        Child::Leaf(leaf) => return value(leaf),
        Child::Node(i) => i,
    };
    let go = |child| mean_by_node(nodes, child, value, of, step);
    match step(&nodes[i].split) {
        Some(true) => go(nodes[i].left),
        Some(false) => go(nodes[i].right),
        None => {
            let [a, b] = [nodes[i].left, nodes[i].right].map(|c| weight(nodes, c, of));
            blend([a, b], [go(nodes[i].left), go(nodes[i].right)])
        }
    }
}

/// The last level is asked first, as in CatBoost: `path` is the answers so far, `asked` their number.
fn mean_by_level(
    levels: &[Split],
    asked: usize,
    path: usize,
    of: &dyn Fn(usize, usize) -> f64,
    step: &dyn Fn(&Split) -> Option<bool>,
    value: &dyn Fn(usize) -> f64,
) -> f64 {
    if asked == levels.len() {
        return value(path);
    }
    let (left, right) = (2 * path, 2 * path + 1);
    let go = |path| mean_by_level(levels, asked + 1, path, of, step, value);
    match step(&levels[levels.len() - 1 - asked]) {
        Some(true) => go(left),
        Some(false) => go(right),
        None => blend([of(asked + 1, left), of(asked + 1, right)], [go(left), go(right)]),
    }
}

/// The game of one tree: the mean of output `k` if the features in `known` are known, in `f64`, by
/// the training rows that took each branch.
fn game(forest: &Forest, tree: &Tree, row: &[f32], known: u32, k: usize) -> f64 {
    let value = |leaf: usize| {
        let value = match tree.outputs {
            Outputs::One(own) if own == k => tree.leaves[leaf],
            Outputs::One(_) => 0.0,
            Outputs::All => tree.leaves[leaf * forest.n_outputs + k],
        };
        value * tree.weight
    };
    let stat = |count: f64, cover: f64| match forest.sum {
        Sum::Double { .. } => count,
        _ => cover,
    };
    let leaf_weight = |leaf: usize| {
        let stats = tree.leaf_stats[leaf];
        stat(stats.count, stats.cover)
    };
    let goes_left =
        |split: &Split| split.test.goes_left(row[split.feature]).expect("a value's test");
    let is_known = |split: &Split| known >> split.feature & 1 == 1;
    match &tree.trunk {
        Trunk::Nodes(nodes) => {
            let root = if nodes.is_empty() { Child::Leaf(0) } else { Child::Node(0) };
            let step = |split: &Split| is_known(split).then(|| goes_left(split));
            mean_by_node(nodes, root, &value, &leaf_weight, &step)
        }
        Trunk::Oblivious(oblivious) => {
            let levels = &oblivious.levels;
            let below = |asked: usize, path: usize| -> f64 {
                let leaves = 0..1 << levels.len();
                leaves.filter(|leaf| leaf >> (levels.len() - asked) == path).map(leaf_weight).sum()
            };
            let step = |split: &Split| is_known(split).then(|| goes_left(split));
            mean_by_level(levels, 0, 0, &below, &step, &value)
        }
    }
}

/// The game of the whole forest.
fn value_of(forest: &Forest, row: &[f32], known: u32, k: usize) -> f64 {
    let sum: f64 = forest.trees.iter().map(|tree| game(forest, tree, row, known, k)).sum();
    forest.start()[k] + forest.factor() * sum
}

/// Shapley values by definition, over all sets of features: (features, base).
fn shapley(value: impl Fn(u32) -> f64) -> Vec<f64> {
    let values: Vec<f64> = (0..1 << P).map(value).collect();
    let factorial = |n: u32| f64::from((1..=n).product::<u32>());
    let n = P as u32;
    let mut out: Vec<f64> = (0..P)
        .map(|j| {
            let without = (0..1_u32 << P).filter(|set| set >> j & 1 == 0);
            let gain = |set: u32| {
                let size = set.count_ones();
                let weight = factorial(size) * factorial(n - size - 1) / factorial(n);
                weight * (values[(set | 1 << j) as usize] - values[set as usize])
            };
            without.map(gain).sum()
        })
        .collect();
    out.push(values[0]);
    out
}

/// A random tree over `P` features, the last of which holds codes.
pub(super) fn tree(width: usize, outputs: Outputs) -> impl Strategy<Value = Tree> {
    let nodes = prop::collection::vec((any::<u32>(), split(), 0_u32..4, any::<bool>()), 0..12);
    (nodes, prop::collection::vec((-9.0_f64..9.0, 0_u32..6), 13 * width), 0.5_f64..2.0).prop_map(
        move |(drawn, leaves, weight)| {
            // Node i takes the place of a leaf drawn among those there are.
            let mut nodes: Vec<Node> = Vec::new();
            let mut places: Vec<Option<(usize, bool)>> = vec![None];
            for (i, (place, split, ..)) in drawn.into_iter().enumerate() {
                let at = place as usize % places.len();
                if let Some((parent, is_left)) = places.swap_remove(at) {
                    let side =
                        if is_left { &mut nodes[parent].left } else { &mut nodes[parent].right };
                    *side = Child::Node(i);
                }
                let stats = NodeStats::default();
                nodes.push(Node { split, left: Child::Leaf(0), right: Child::Leaf(0), stats });
                places.extend([Some((i, true)), Some((i, false))]);
            }
            for (leaf, place) in places.iter().enumerate() {
                if let Some((parent, is_left)) = *place {
                    let side =
                        if is_left { &mut nodes[parent].left } else { &mut nodes[parent].right };
                    *side = Child::Leaf(leaf);
                }
            }
            let n_leaves = places.len();
            let mut leaf_stats: Vec<LeafStats> = (leaves.iter().take(n_leaves))
                .map(|&(_, n)| LeafStats { cover: f64::from(n) / 2.0, count: f64::from(n) })
                .collect();
            leaf_stats[0] = LeafStats { cover: 1.5, count: 2.0 }; // Some training row there was.
            for i in (0..nodes.len()).rev() {
                let of = |child| match child {
                    Child::Leaf(leaf) => (leaf_stats[leaf].count, leaf_stats[leaf].cover),
                    Child::Node(node) => (nodes[node].stats.count, nodes[node].stats.cover),
                };
                let (a, b) = (of(nodes[i].left), of(nodes[i].right));
                nodes[i].stats =
                    NodeStats { count: a.0 + b.0, cover: a.1 + b.1, ..NodeStats::default() };
            }
            let leaves = leaves.iter().take(n_leaves * width).map(|&(value, _)| value).collect();
            Tree {
                trunk: Trunk::Nodes(nodes),
                leaves,
                leaf_stats,
                linear: Vec::new(),
                outputs,
                weight,
            }
        },
    )
}

/// A random symmetric tree.
fn symmetric(width: usize, outputs: Outputs) -> impl Strategy<Value = Tree> {
    let n = 1 << 4;
    (
        prop::collection::vec(numeric(), 0..=4),
        prop::collection::vec(-9.0_f64..9.0, n * width),
        prop::collection::vec(0_u32..4, n),
    )
        .prop_map(move |(levels, mut leaves, weights)| {
            let n_leaves = 1 << levels.len();
            leaves.truncate(n_leaves * width);
            let mut leaf_stats: Vec<LeafStats> = (weights.iter().take(n_leaves))
                .map(|&n| LeafStats { cover: f64::from(n), count: 0.0 })
                .collect();
            leaf_stats[0].cover = 2.0;
            let trunk = Trunk::Oblivious(Oblivious { levels });
            Tree { trunk, leaves, leaf_stats, linear: Vec::new(), outputs, weight: 1.0 }
        })
}

fn numeric() -> impl Strategy<Value = Split> {
    (0..P - 1, -3_i32..3, any::<bool>(), 0..4).prop_map(|(feature, threshold, left, kind)| {
        let threshold = f64::from(threshold) + 0.25;
        let test = match kind {
            0 => Test::Below { threshold: threshold as f32, missing_left: left },
            1 => Test::AtMost { threshold, missing: Missing::AsZero },
            2 => Test::AtMost { threshold, missing: Missing::Zero { left } },
            _ => Test::AtMost { threshold, missing: Missing::Nan { left } },
        };
        Split { feature, test }
    })
}

fn split() -> impl Strategy<Value = Split> {
    let among = (prop::collection::vec(0_u32..6, 0..4), any::<bool>(), any::<bool>()).prop_map(
        |(codes, members_left, missing_left)| {
            let set: CategorySet = codes.into_iter().collect();
            Split { feature: P - 1, test: Test::Among { set, members_left, missing_left } }
        },
    );
    prop_oneof![4 => numeric(), 1 => among]
}

/// A cell of a row: a number near the thresholds, or missing.
fn cell() -> impl Strategy<Value = f32> {
    prop_oneof![8 => (-4_i32..4).prop_map(|x| x as f32), 1 => Just(f32::NAN), 1 => Just(0.0)]
}

pub(super) fn row() -> impl Strategy<Value = Vec<f32>> {
    let code =
        prop_oneof![4 => (0_i32..6).prop_map(|c| c as f32), 1 => Just(-1.0), 1 => Just(f32::NAN)];
    (prop::collection::vec(cell(), P - 1), code).prop_map(|(mut row, code)| {
        row.push(code);
        row
    })
}

pub(super) fn of(trees: Vec<Tree>, n_outputs: usize, sum: Sum) -> Forest {
    let feature = |j| Feature { name: format!("f{j}"), is_categorical: j == P - 1 };
    let features = (0..P).map(feature).collect();
    let (link, ctrs) = (Link::Identity, Ctrs::default());
    Forest { features, n_outputs, trees, trees_per_round: 1, sum, link, ctrs }
}

/// Random forests of every kind of sum and of leaf.
pub(super) fn forest() -> impl Strategy<Value = Forest> {
    let trees = |outputs, width| prop::collection::vec(tree(width, outputs), 1..4);
    let one = prop::collection::vec(tree(1, Outputs::One(0)), 1..4);
    let plain = (one, any::<bool>())
        .prop_map(|(trees, is_average)| of(trees, 1, Sum::Double { is_average }));
    let classes = (trees(Outputs::One(0), 1), trees(Outputs::One(1), 1)).prop_map(|(mut a, b)| {
        a.extend(b);
        of(a, 2, Sum::Single { base: vec![0.5, -1.0] })
    });
    let vectors =
        trees(Outputs::All, 3).prop_map(|trees| of(trees, 3, Sum::Single { base: vec![0.0; 3] }));
    let scaled = |n| Sum::Scaled { scale: 0.75, bias: vec![-2.0; n] };
    let both = (prop::collection::vec(symmetric(2, Outputs::All), 1..4), trees(Outputs::All, 2))
        .prop_map(move |(mut a, b)| {
            a.extend(b);
            of(a, 2, scaled(2))
        });
    prop_oneof![plain, classes, vectors, both]
}

/// The raw score, added up in `f64`.
pub(super) fn raw(forest: &Forest, row: &[f32], k: usize) -> f64 {
    value_of(forest, row, u32::MAX, k)
}

fn frame(rows: &[Vec<f32>]) -> Frame {
    Frame::new(rows.concat(), P).expect("a multiple of the width")
}

proptest! {
    /// Contributions are the Shapley values of the game, by definition, and add up to the score.
    #[test]
    fn contributions_are_shapley_values(forest in forest(), rows in prop::collection::vec(row(), 1..12)) {
        let parts = forest.explainer().expect("explainable").contributions(&frame(&rows)).expect("width");
        for (i, row) in rows.iter().enumerate() {
            for k in 0..forest.n_outputs {
                let expected = shapley(|known| value_of(&forest, row, known, k));
                for (got, expected) in parts.of(i, k).iter().zip(&expected) {
                    // Both round some thousand terms below 100.
                    prop_assert!((got - expected).abs() < 1e-11, "{got}, expected {expected}");
                }
                let sum: f64 = parts.of(i, k).iter().sum();
                prop_assert!((sum - raw(&forest, row, k)).abs() < 1e-11);
            }
        }
    }

    /// Against a background, too, and the base is its mean score.
    #[test]
    fn contributions_against_a_background_are_shapley_values(
        forest in forest(),
        rows in prop::collection::vec(row(), 1..10),
        background in prop::collection::vec(row(), 1..12),
    ) {
        let explainer = forest.explainer_against(&frame(&background)).expect("explainable");
        let parts = explainer.contributions(&frame(&rows)).expect("width");
        for (i, row) in rows.iter().enumerate() {
            for k in 0..forest.n_outputs {
                let value = |known: u32| {
                    let mixed = |other: &Vec<f32>| -> Vec<f32> {
                        (0..P).map(|j| if known >> j & 1 == 1 { row[j] } else { other[j] }).collect()
                    };
                    let scores = background.iter().map(|other| raw(&forest, &mixed(other), k));
                    scores.sum::<f64>() / background.len() as f64
                };
                for (got, expected) in parts.of(i, k).iter().zip(shapley(value)) {
                    prop_assert!((got - expected).abs() < 1e-11, "{got}, expected {expected}");
                }
            }
        }
        prop_assert!(explainer.interactions(&frame(&rows)).is_err());
    }

    /// Interactions are the Shapley interaction index, by definition, and add up to contributions.
    #[test]
    fn interactions_are_their_index(forest in forest(), rows in prop::collection::vec(row(), 1..10)) {
        let explainer = forest.explainer().expect("explainable");
        let found = explainer.interactions(&frame(&rows)).expect("width");
        let parts = explainer.contributions(&frame(&rows)).expect("width");
        for (i, row) in rows.iter().enumerate() {
            for k in 0..forest.n_outputs {
                let values: Vec<f64> =
                    (0..1 << P).map(|known| value_of(&forest, row, known, k)).collect();
                for a in 0..=P {
                    let sum: f64 = (0..=P).map(|b| found.between(i, k, a, b)).sum();
                    prop_assert!((sum - parts.of(i, k)[a]).abs() < 1e-11);
                    for b in (0..P).filter(|&b| a < P && b != a) {
                        let got = found.between(i, k, a, b);
                        let expected = index(&values, a, b) / 2.0;
                        prop_assert!((got - expected).abs() < 1e-11, "{got}, expected {expected}");
                    }
                }
                prop_assert_eq!(found.between(i, k, P, P), explainer.base()[k]);
            }
        }
    }

    /// Neither the pool nor the company of other rows changes a bit.
    #[test]
    fn a_row_is_explained_alike_in_any_company(
        forest in forest(), rows in prop::collection::vec(row(), 2..40),
    ) {
        let explainer = forest.explainer().expect("explainable");
        let together = explainer.contributions(&frame(&rows)).expect("width");
        let apart = parallel::with_threads(std::num::NonZeroUsize::MIN, || {
            rows.iter().flat_map(|row| {
                let alone = explainer.contributions(&frame(std::slice::from_ref(row)));
                alone.expect("width").values().to_vec()
            }).collect::<Vec<f64>>()
        });
        prop_assert_eq!(together.values(), apart.expect("threads"));
    }
}

/// The Shapley interaction index of two features (Grabisch & Roubens 1999).
fn index(values: &[f64], a: usize, b: usize) -> f64 {
    let factorial = |n: u32| f64::from((1..=n).product::<u32>());
    let n = P as u32;
    let without = (0..1_usize << P).filter(|set| set >> a & 1 == 0 && set >> b & 1 == 0);
    let term = |set: usize| {
        let size = set.count_ones();
        let weight = factorial(size) * factorial(n - size - 2) / factorial(n - 1);
        let (a, b) = (1 << a, 1 << b);
        weight * (values[set | a | b] - values[set | a] - values[set | b] + values[set])
    };
    without.map(term).sum()
}

/// A chain in which node *i* asks feature *i*, with two rows for each leaf.
fn chain(n_nodes: usize) -> Forest {
    let node = |i: usize| Node {
        split: Split {
            feature: i,
            test: Test::AtMost { threshold: 0.5, missing: Missing::AsZero },
        },
        left: Child::Leaf(i),
        right: if i + 1 == n_nodes { Child::Leaf(i + 1) } else { Child::Node(i + 1) },
        stats: NodeStats { count: 2.0 * (n_nodes - i + 1) as f64, ..NodeStats::default() },
    };
    let tree = Tree {
        trunk: Trunk::Nodes((0..n_nodes).map(node).collect()),
        leaves: (0..=n_nodes).map(|leaf| (leaf as f64).sin()).collect(),
        leaf_stats: vec![LeafStats { cover: 0.0, count: 2.0 }; n_nodes + 1],
        linear: Vec::new(),
        outputs: Outputs::One(0),
        weight: 1.0,
    };
    let mut forest = of(vec![tree], 1, Sum::Double { is_average: false });
    let feature = |j| Feature { name: format!("f{j}"), is_categorical: false };
    forest.features = (0..n_nodes).map(feature).collect();
    forest
}

#[test]
fn a_path_of_hundreds_of_features_still_adds_up() {
    // Beyond 81 features the quadrature is no longer exact, but as good.
    for n in [3, 81, 82, 300] {
        let forest = chain(n);
        let cells: Vec<f32> =
            (0..3 * n).map(|i| if i % n < i / n * 40 { 1.0 } else { 0.0 }).collect();
        let x = Frame::new(cells, n).expect("rows");
        let parts = forest.explainer().expect("explainable").contributions(&x).expect("width");
        for (i, row) in x.rows().enumerate() {
            let mut score = [0.0];
            forest.raw_by_definition(row, &mut score);
            let sum: f64 = parts.of(i, 0).iter().sum();
            assert!((sum - score[0]).abs() < 1e-11, "{n} features: {sum}, not {}", score[0]);
        }
    }
}

#[test]
fn what_cannot_be_explained_is_refused_with_the_tree() {
    #[track_caller]
    fn check(forest: &Forest, words: &[&str]) {
        let text = forest.explainer().expect_err("refused").chain();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
    let mut forest = chain(3);
    forest.trees[0].linear = vec![LinearLeaf { constant: 1.0, terms: vec![(0, 2.0)] }; 4];
    check(&forest, &["tree 0", "linear model"]);
    assert!(!forest.is_constant_in_leaves());

    let mut forest = chain(3);
    forest.trees[0].leaf_stats[1].count = f64::NAN;
    check(&forest, &["tree 0", "finite"]);

    let mut forest = chain(3);
    let Trunk::Nodes(nodes) = &mut forest.trees[0].trunk else { panic!("nodes") };
    for node in nodes {
        node.stats = NodeStats::default();
    }
    forest.trees[0].leaf_stats.clear();
    check(&forest, &["tree 0", "number of training rows", "background"]);
    let x = Frame::new(vec![0.0, 1.0, 0.0], 3).expect("a row");
    assert!(forest.explainer_against(&x).is_ok(), "a background needs no statistics");

    let mut forest = chain(1);
    let Trunk::Nodes(nodes) = &mut forest.trees[0].trunk else { panic!("nodes") };
    nodes[0].split.test = Test::Ctr { border: 0.5 };
    check(&forest, &["tree 0", "Ctr"]);

    // Of 30,000 levels and as many features: what a walk would keep is too much.
    check(&chain(30_000), &["tree 0", "256 MiB", "30000"]);
}

#[test]
fn against_a_background_frames_and_paths_are_checked() {
    let forest = chain(70);
    let x = Frame::new(vec![0.0; 140], 70).expect("rows");
    let text = forest.explainer_against(&x).expect_err("64 at most").chain();
    assert!(text.contains("at most 64 features on a path"), "{text}");
    let forest = chain(3);
    let wide = forest.explainer_against(&x);
    assert!(matches!(wide, Err(Error::Columns { expected: 3, got: 70 })));
    let none = forest.explainer_against(&Frame::new(vec![], 3).expect("no rows"));
    assert!(none.expect_err("no rows").to_string().contains("background"));
    assert!(forest.explainer().expect("fine").contributions(&x).is_err(), "another width");
}

#[test]
fn a_tree_without_splits_is_all_base() {
    let mut forest = chain(1);
    forest.trees[0].trunk = Trunk::Nodes(Vec::new());
    forest.trees[0].leaves = vec![0.25];
    forest.trees[0].leaf_stats.clear();
    let x = Frame::new(vec![0.0, 1.0], 1).expect("rows");
    for explainer in [forest.explainer(), forest.explainer_against(&x)] {
        let explainer = explainer.expect("explainable");
        let parts = explainer.contributions(&x).expect("width");
        assert_eq!(parts.values(), [0.0, 0.25, 0.0, 0.25]);
        assert_eq!(explainer.base(), [0.25]);
    }
}
