//! Random forests of every kind, on every set of instructions, against the definition.

use std::num::NonZeroUsize;

use mm_core::parallel;
use proptest::prelude::*;

use super::*;
use crate::forest::{
    CategorySet, Child, Ctrs, Feature, LinearLeaf, Link, Missing, Node, NodeStats, Oblivious,
    Outputs, Split, Test, Tree, Trunk,
};

/// A code so high that a few sets of it are looked up by themselves.
const HIGH: u32 = 100_000;

/// What a random forest is like.
#[derive(Debug, Clone)]
struct Kind {
    n_features: usize,
    n_outputs: usize,
    n_trees: usize,
    /// The most leaves of a tree; half of the trees are smaller.
    n_leaves: usize,
    /// Levels of symmetric trees; none if the trees are not.
    levels: Option<usize>,
    /// Thresholds are among so many: few recur, many force further columns.
    n_thresholds: u64,
    vector_leaves: bool,
    linear_leaves: bool,
    sum: u8,
    seed: u64,
}

fn kinds() -> impl Strategy<Value = Kind> {
    let n_leaves = prop_oneof![1_usize..34, Just(255), Just(256), 257_usize..700];
    let levels =
        prop_oneof![6 => Just(None), 2 => (0_usize..9).prop_map(Some), 1 => Just(Some(10))];
    let shape = (1_usize..40, 1_usize..4, 0_usize..90, n_leaves, levels);
    let rest = (
        prop_oneof![Just(1), Just(9), Just(200), Just(u64::MAX)],
        any::<bool>(),
        any::<bool>(),
        0_u8..4,
        any::<u64>(),
    );
    (shape, rest).prop_map(|(shape, rest)| {
        let (n_features, n_outputs, n_trees, n_leaves, levels) = shape;
        let (n_thresholds, vector_leaves, linear_leaves, sum, seed) = rest;
        Kind {
            n_features,
            n_outputs,
            n_trees: if n_leaves > 100 { n_trees / 8 } else { n_trees },
            n_leaves,
            levels,
            n_thresholds,
            vector_leaves,
            linear_leaves,
            sum,
            seed,
        }
    })
}

/// `SplitMix64` (Steele, Lea & Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// One of `n` values, among them odd ones.
    fn number(&mut self, n: u64) -> f32 {
        const ODD: [f32; 12] = [
            0.0,
            -0.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            f32::MAX,
            f32::MIN,
            1e-45,
            -1e-45,
            1e-35,
            -1e-35,
            f32::MIN_POSITIVE,
        ];
        match self.below(12) {
            0 => ODD[self.below(ODD.len())],
            1 => f32::from_bits(Random(self.next() % n).next() as u32),
            _ => (Random(self.next() % n).next() as i32) as f32 / 2e9,
        }
    }

    /// A category's code, or something that is none.
    fn code(&mut self) -> f32 {
        const ODD: [f32; 8] =
            [f32::NAN, -1.0, -0.5, 2.5, f32::INFINITY, 3e9, HIGH as f32, HIGH as f32 + 1.0];
        if self.below(8) == 0 { ODD[self.below(ODD.len())] } else { self.below(70) as f32 }
    }
}

impl Kind {
    fn forest(&self) -> Forest {
        let random = &mut Random(self.seed);
        let features = (0..self.n_features)
            .map(|j| Feature { name: format!("x{j}"), is_categorical: j % 4 == 3 })
            .collect();
        let trees = (0..self.n_trees).map(|t| self.tree(t, random)).collect();
        let sum = match self.sum {
            0 => Sum::Double { is_average: false },
            1 => Sum::Double { is_average: true },
            2 => Sum::Single { base: (0..self.n_outputs).map(|k| 0.1 + k as f32).collect() },
            _ => Sum::Scaled { scale: 0.7, bias: vec![0.3; self.n_outputs] },
        };
        let n_outputs = self.n_outputs;
        Forest {
            features,
            n_outputs,
            trees,
            trees_per_round: 1,
            sum,
            link: Link::Identity,
            ctrs: Ctrs::default(),
        }
    }

    fn tree(&self, t: usize, random: &mut Random) -> Tree {
        let is_small = random.coin();
        let trunk = if let Some(levels) = self.levels {
            let levels = if is_small { levels / 2 } else { levels };
            let levels = (0..levels).map(|_| self.split(random)).collect();
            Trunk::Oblivious(Oblivious { levels })
        } else {
            let most = if is_small { self.n_leaves / 2 + 1 } else { self.n_leaves };
            Trunk::Nodes(self.nodes(1 + random.below(most), random))
        };
        let n_leaves = match &trunk {
            Trunk::Oblivious(symmetric) => 1 << symmetric.levels.len(),
            Trunk::Nodes(nodes) => nodes.len() + 1,
        };
        let outputs = if self.vector_leaves && random.coin() {
            Outputs::All
        } else {
            Outputs::One(t % self.n_outputs)
        };
        let width = if outputs == Outputs::All { self.n_outputs } else { 1 };
        let value = |random: &mut Random| (random.next() as i64) as f64 / 9e18;
        let linear = if self.linear_leaves && random.coin() {
            let leaf = |random: &mut Random| LinearLeaf {
                constant: value(random),
                terms: (0..random.below(3))
                    .map(|_| (random.below(self.n_features), value(random)))
                    .collect(),
            };
            (0..n_leaves).map(|_| leaf(random)).collect()
        } else {
            vec![]
        };
        Tree {
            trunk,
            leaves: (0..n_leaves * width).map(|_| value(random)).collect(),
            leaf_stats: vec![],
            linear,
            outputs,
            weight: if random.coin() { 1.0 } else { 0.37 },
        }
    }

    /// Grows by splitting a random leaf until there are enough. Which number a leaf has is left to
    /// chance too.
    fn nodes(&self, n_leaves: usize, random: &mut Random) -> Vec<Node> {
        let mut nodes: Vec<Node> = Vec::new();
        let mut tips: Vec<Option<(usize, bool)>> = vec![None];
        // Half of the trees are grown into depth.
        let deep = random.coin();
        while tips.len() < n_leaves {
            let i = if deep { tips.len() - 1 } else { random.below(tips.len()) };
            let node = nodes.len();
            if let Some((parent, is_right)) = tips.swap_remove(i) {
                let parent: &mut Node = &mut nodes[parent];
                *(if is_right { &mut parent.right } else { &mut parent.left }) = Child::Node(node);
            }
            let split = self.split(random);
            let (left, right) = (Child::Leaf(0), Child::Leaf(0));
            nodes.push(Node { split, left, right, stats: NodeStats::default() });
            let flip = random.coin();
            tips.extend([Some((node, flip)), Some((node, !flip))]);
        }
        for (leaf, tip) in tips.into_iter().enumerate() {
            if let Some((parent, is_right)) = tip {
                let parent = &mut nodes[parent];
                *(if is_right { &mut parent.right } else { &mut parent.left }) = Child::Leaf(leaf);
            }
        }
        nodes
    }

    fn split(&self, random: &mut Random) -> Split {
        let feature = random.below(self.n_features);
        if feature % 4 == 3 {
            // Few distinct sets, as few distinct thresholds.
            let codes = &mut Random(random.next() % self.n_thresholds.min(99));
            let mut code = || if codes.below(30) == 0 { HIGH } else { codes.below(64) as u32 };
            let n_codes = code() as usize % 9;
            let set: CategorySet = (0..n_codes).map(|_| code()).collect();
            let (members_left, missing_left) = (random.coin(), random.coin());
            return Split { feature, test: Test::Among { set, members_left, missing_left } };
        }
        let threshold = random.number(self.n_thresholds);
        let left = random.coin();
        let exact = f64::from(threshold);
        let threshold_f64 = match random.below(4) {
            0 => exact.next_up(),
            1 => exact.next_down(),
            _ => exact,
        };
        let test = match random.below(4) {
            0 => Test::Below { threshold, missing_left: left },
            1 => Test::AtMost { threshold: threshold_f64, missing: Missing::AsZero },
            2 => Test::AtMost { threshold: threshold_f64, missing: Missing::Zero { left } },
            _ => Test::AtMost { threshold: threshold_f64, missing: Missing::Nan { left } },
        };
        Split { feature, test }
    }

    /// Rows of values that lie near and on thresholds.
    fn rows(&self, n_rows: usize) -> Vec<f32> {
        let random = &mut Random(self.seed ^ 1);
        let cell = |j: usize, random: &mut Random| {
            if j % 4 == 3 {
                return random.code();
            }
            let x = random.number(self.n_thresholds);
            match random.below(4) {
                0 => x.next_up(),
                1 => x.next_down(),
                _ => x,
            }
        };
        (0..n_rows * self.n_features).map(|i| cell(i % self.n_features, random)).collect()
    }
}

/// The bits of scores; all NaN are one.
fn bits(scores: &[f64]) -> Vec<u64> {
    scores.iter().map(|x| if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() }).collect()
}

fn by_definition(forest: &Forest, rows: &[f32]) -> Vec<u64> {
    let mut out = vec![0.0; rows.len() / forest.features.len() * forest.n_outputs];
    let rows = rows.chunks_exact(forest.features.len());
    for (row, out) in rows.zip(out.chunks_exact_mut(forest.n_outputs)) {
        forest.raw_by_definition(row, out);
    }
    bits(&out)
}

/// Every way to predict gives what the definition says, to the bit.
#[track_caller]
fn check(kind: &Kind, n_rows: usize) {
    let forest = kind.forest();
    let rows = kind.rows(n_rows);
    let expected = by_definition(&forest, &rows);
    let mut kernel = forest.compile().expect("a forest");
    for level in Level::all() {
        kernel.level = level;
        let mut out = vec![f64::NAN; n_rows * kind.n_outputs];
        kernel.raw_rows(&rows, &mut out);
        assert_eq!(bits(&out), expected, "{n_rows} rows, {level:?}");
        for (i, row) in rows.chunks_exact(kind.n_features).enumerate() {
            let mut out = vec![f64::NAN; kind.n_outputs];
            kernel.raw_row(row, &mut out);
            let expected = &expected[i * kind.n_outputs..][..kind.n_outputs];
            assert_eq!(bits(&out), expected, "row {i} by itself, {level:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 3 } else { 192 }))]

    #[test]
    fn any_forest_predicts_as_defined(
        kind in kinds(),
        n_rows in prop_oneof![0_usize..80, 250_usize..260, 300_usize..600],
    ) {
        check(&kind, n_rows);
    }
}

#[test]
fn values_of_ctrs_follow_those_of_the_features() {
    let kind = Kind { levels: Some(4), ..large() };
    let mut forest = kind.forest();
    let mut as_ctrs = forest.clone();
    for tree in &mut as_ctrs.trees {
        let Trunk::Oblivious(symmetric) = &mut tree.trunk else { panic!("symmetric") };
        for split in &mut symmetric.levels {
            split.test = Test::Ctr { border: 0.25 };
        }
    }
    for tree in &mut forest.trees {
        let Trunk::Oblivious(symmetric) = &mut tree.trunk else { panic!("symmetric") };
        for split in &mut symmetric.levels {
            let missing = Missing::Nan { left: true };
            split.test = Test::AtMost { threshold: 0.25, missing };
        }
    }
    let kernel = as_ctrs.compile().expect("a forest");
    assert_eq!(kernel.n_inputs(), 16);
    let rows = kind.rows(100);
    let expected = by_definition(&forest, &rows);
    for (row, expected) in rows.chunks(8).zip(expected) {
        let mut out = [0.0];
        kernel.raw_row(&[&[f32::NAN; 8], row].concat(), &mut out);
        assert_eq!(bits(&out), [expected]);
    }
}

/// A forest for which the limits of one segment do not suffice.
fn large() -> Kind {
    Kind {
        n_features: 8,
        n_outputs: 1,
        n_trees: 40,
        n_leaves: 31,
        levels: None,
        n_thresholds: u64::MAX,
        vector_leaves: false,
        linear_leaves: false,
        sum: 0,
        seed: 7,
    }
}

#[test]
fn more_trees_columns_and_thresholds_than_one_segment_has_are_parted() {
    let many_trees = Kind { n_trees: 2500, n_leaves: 4, n_thresholds: 50, ..large() };
    let many_borders = Kind { n_trees: 300, n_features: 2, n_leaves: 64, ..large() };
    let many_features = Kind { n_trees: 200, n_features: 900, n_leaves: 40, ..large() };
    let many_levels = Kind { n_trees: 1200, n_features: 300, levels: Some(3), ..large() };
    for kind in [many_trees, many_borders, many_features, many_levels] {
        let kernel = kind.forest().compile().expect("a forest");
        assert!(1 < kernel.plan.segments.len() || kind.n_features == 2, "{kind:?}");
        check(&kind, 70);
    }
}

#[test]
fn sets_are_answered_together_unless_that_takes_too_much_memory() {
    let columns = |codes: &[u32], n_sets: u32| {
        let tree = |i: u32| {
            let set = codes.iter().map(|code| code + i).collect();
            let test = Test::Among { set, members_left: true, missing_left: false };
            let trunk = Trunk::Oblivious(Oblivious { levels: vec![Split { feature: 3, test }] });
            let (leaves, leaf_stats, linear) = (vec![0.0, 1.0], vec![], vec![]);
            Tree { trunk, leaves, leaf_stats, linear, outputs: Outputs::One(0), weight: 1.0 }
        };
        let forest = Kind { n_trees: 0, ..large() }.forest();
        let kernel = Forest { trees: (0..n_sets).map(tree).collect(), ..forest }.compile();
        let plan = kernel.expect("a forest").plan;
        let [segment] = plan.segments.as_slice() else { panic!("one segment") };
        (segment.answers.len(), segment.members.len())
    };
    assert_eq!(columns(&[3, 7, 4_000], 100), (1, 0));
    assert_eq!(columns(&[3, 7, HIGH], 100), (1, 0));
    assert_eq!(columns(&[3, 7, HIGH], 1), (0, 1));
}

#[test]
fn a_value_is_ranked_among_any_number_of_thresholds() {
    for n in (1..=255).chain([256, 510, 600]) {
        // Two features, so that what lies behind the first one's borders is another's.
        let tree = |i: usize| {
            let test = Test::Below { threshold: (i / 2) as f32, missing_left: true };
            let split = Split { feature: i % 2, test };
            let trunk = Trunk::Oblivious(Oblivious { levels: vec![split] });
            let leaves = vec![0.0, 1.0];
            let (leaf_stats, linear, outputs) = (vec![], vec![], Outputs::One(0));
            Tree { trunk, leaves, leaf_stats, linear, outputs, weight: 1.0 }
        };
        let kind = Kind { n_features: 2, n_trees: 0, ..large() };
        let forest = Forest { trees: (0..2 * n).map(tree).collect(), ..kind.forest() };
        let rows: Vec<f32> =
            (0..n + 2).flat_map(|x| [x as f32 - 0.5, (n - x.min(n)) as f32]).collect();
        let expected = by_definition(&forest, &rows);
        let mut kernel = forest.compile().expect("a forest");
        for level in Level::all() {
            kernel.level = level;
            let mut out = vec![0.0; n + 2];
            kernel.raw_rows(&rows, &mut out);
            assert_eq!(bits(&out), expected, "{n} thresholds, {level:?}");
            rows.chunks(2)
                .zip(&mut out)
                .for_each(|(row, out)| kernel.raw_row(row, std::slice::from_mut(out)));
            assert_eq!(bits(&out), expected, "{n} thresholds, rows by themselves, {level:?}");
        }
    }
}

#[test]
fn the_thread_count_changes_nothing() {
    let kind = Kind { n_outputs: 2, n_trees: 50, linear_leaves: true, ..large() };
    let (forest, rows) = (kind.forest(), kind.rows(5000));
    let kernel = forest.compile().expect("a forest");
    let x = Frame::new(rows.clone(), kind.n_features).expect("whole rows");
    let expected = by_definition(&forest, &rows);
    let picked: Vec<usize> = (0..5000).rev().step_by(3).collect();
    for threads in 1..4 {
        let threads = NonZeroUsize::new(threads).expect("≥ 1");
        let (mut all, mut some) = (Matrix::zeros(5000, 2), Matrix::zeros(picked.len(), 2));
        parallel::with_threads(threads, || {
            kernel.raw_frame(&x, &mut all).expect("predicts");
            kernel.raw_frame(&x.take(&picked), &mut some).expect("predicts");
        })
        .expect("threads");
        assert_eq!(bits(all.values()), expected);
        assert_eq!(bits(some.values()), bits(all.take(&picked).values()));
    }
}

#[test]
fn a_tree_of_any_depth_is_no_matter() {
    let kind = Kind { n_trees: 2, n_leaves: if cfg!(miri) { 400 } else { 40_000 }, ..large() };
    check(&kind, 20);
}

/// Compiling a spoilt tree of two leaves fails with a message that contains `expected`.
#[track_caller]
fn refused(spoil: impl FnOnce(&mut Forest), expected: &str) {
    let split = Split { feature: 0, test: Test::Below { threshold: 0.0, missing_left: true } };
    let node =
        Node { split, left: Child::Leaf(0), right: Child::Leaf(1), stats: NodeStats::default() };
    let tree = Tree {
        trunk: Trunk::Nodes(vec![node]),
        leaves: vec![0.5, 1.5],
        leaf_stats: vec![],
        linear: vec![],
        outputs: Outputs::One(0),
        weight: 1.0,
    };
    let mut forest = Forest { trees: vec![tree], ..Kind { n_trees: 0, ..large() }.forest() };
    assert!(forest.compile().is_ok());
    spoil(&mut forest);
    let error = forest.compile().expect_err("not a forest").chain();
    assert!(error.contains(expected), "{error}");
}

fn first_node(forest: &mut Forest) -> &mut Node {
    match &mut forest.trees[0].trunk {
        Trunk::Nodes(nodes) => &mut nodes[0],
        Trunk::Oblivious(_) => panic!("nodes"),
    }
}

#[test]
fn what_is_not_a_forest_is_refused() {
    refused(|f| first_node(f).right = Child::Node(0), "node 0: expected one parent, got another");
    refused(|f| first_node(f).right = Child::Leaf(0), "leaf 0: expected one parent, got another");
    refused(|f| first_node(f).right = Child::Node(1), "node: expected an index below 1, got 1");
    refused(|f| first_node(f).right = Child::Leaf(2), "leaf: expected an index below 2, got 2");
    refused(|f| first_node(f).split.feature = 8, "feature of a split: expected an index below 8");
    refused(|f| first_node(f).split.test = Test::Hash(1), "a question to one value");
    refused(|f| f.trees[0].outputs = Outputs::One(1), "output: expected an index below 1, got 1");
    refused(|f| f.sum = Sum::Single { base: vec![] }, "base margins: expected 1, got 0");
    refused(|f| f.trees[0].leaves.truncate(1), "leaf: expected an index below 1, got 1");
    refused(|f| f.n_outputs = 0, "outputs: expected at least 1, got 0");
    refused(|f| f.features.clear(), "features: expected at least 1, got 0");
    let linear = LinearLeaf { constant: 0.0, terms: vec![(8, 1.0)] };
    refused(|f| f.trees[0].linear = vec![linear], "feature of a split: expected an index below 8");
    let levels = vec![Split { feature: 0, test: Test::Hash(0) }; 70];
    refused(|f| f.trees[0].trunk = Trunk::Oblivious(Oblivious { levels }), "70 levels, got 2");
}
