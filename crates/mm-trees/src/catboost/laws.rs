//! Laws over random models: writers keep everything, and what predicts answers as defined.

use std::{collections::BTreeMap, sync::Arc};

use mm_core::{Column, Frame, Levels, Schema};
use proptest::prelude::*;

use super::{
    cbm,
    file::{About, ModelFile, NanRule, NanTreatment},
    hash::{self, Chain},
    json,
};
use crate::forest::{
    Child, Counts, Ctr, CtrKind, CtrTable, Ctrs, Feature, Forest, LeafStats, Link, Node, NodeStats,
    Oblivious, Outputs, Projection, Scratch, Split, Sum, Test, Tree, Trunk,
};

const NAMES: [&str; 6] =
    ["red", "green", "", "7", "ümlaut", "a rather long name of a level, for once"];
const BORDERS: [f32; 7] = [-f32::MAX, -1.5, -0.0, 1e-40, 0.25, 3.0, f32::MAX];

/// Choices that depend on a seed alone.
struct Dice(Chain);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.level(n as u32);
        (self.0.value() >> 33) as usize % n
    }

    fn number(&mut self) -> f64 {
        self.below(2000) as f64 / 300.0 - 3.0
    }
}

/// Columns 0 to 2 are numeric, 3 to 5 categorical.
fn is_categorical(j: usize) -> bool {
    2 < j
}

fn question(dice: &mut Dice, nans: &[NanRule]) -> Split {
    if dice.below(3) == 0 {
        let name = NAMES[dice.below(NAMES.len())];
        return Split { feature: 3 + dice.below(3), test: Test::Hash(hash::level(name)) };
    }
    let feature = dice.below(3);
    let threshold = BORDERS[dice.below(BORDERS.len())].into();
    Split { feature, test: Test::AtMost { threshold, missing: nans[feature].missing() } }
}

fn projection(dice: &mut Dice, nans: &[NanRule]) -> Projection {
    let mut levels: Vec<usize> = (3..6).filter(|_| dice.below(2) == 0).collect();
    if levels.is_empty() {
        levels.push(3);
    }
    let mut questions: Vec<Split> = (0..dice.below(3)).map(|_| question(dice, nans)).collect();
    questions.sort_by_key(|split| matches!(split.test, Test::Hash(_)));
    Projection { levels, questions }
}

/// Buckets of rows that occur, and of others.
fn hashes(dice: &mut Dice, projection: &Projection) -> Vec<u64> {
    let bucket = |dice: &mut Dice| {
        let level =
            |chain: Chain, _: &usize| chain.level(hash::level(NAMES[dice.below(NAMES.len())]));
        let chain = projection.levels.iter().fold(Chain::default(), level);
        let answer = |chain: Chain, _: &Split| chain.answer(dice.below(2) == 1);
        projection.questions.iter().fold(chain, answer).value()
    };
    let mut hashes: Vec<u64> = (0..dice.below(12)).map(|_| bucket(dice)).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

fn table(dice: &mut Dice, nans: &[NanRule]) -> CtrTable {
    let projection = projection(dice, nans);
    let hashes = hashes(dice, &projection);
    let kind = CtrKind::ALL[dice.below(6)];
    let mut rows = |n: usize| (0..n).map(|_| dice.below(9) as i32).collect();
    let counts = match kind {
        CtrKind::Borders | CtrKind::Buckets => {
            Counts::Classes { n_classes: 3, rows: rows(3 * hashes.len()) }
        }
        CtrKind::Counter | CtrKind::FeatureFreq => {
            Counts::Totals { rows: rows(hashes.len()), denominator: 11 }
        }
        CtrKind::BinarizedTargetMeanValue | CtrKind::FloatTargetMeanValue => {
            let rows: Vec<i32> = rows(hashes.len());
            Counts::Means(rows.iter().map(|&n| (n as f32 * 0.7, n)).collect())
        }
    };
    CtrTable::new(projection, kind, 0, hashes, counts).expect("sound")
}

fn ctrs(dice: &mut Dice, nans: &[NanRule]) -> Ctrs {
    // In the order in which files have them, without two of one name.
    let named = (0..dice.below(4)).map(|_| table(dice, nans));
    let named = named.map(|table| (format!("{:?} {:?}", table.projection(), table.kind()), table));
    let tables: Vec<_> = named.collect::<BTreeMap<_, _>>().into_values().map(Arc::new).collect();
    let list = (0..if tables.is_empty() { 0 } else { 1 + dice.below(5) }).map(|_| Ctr {
        table: dice.below(tables.len()),
        target_border: dice.below(2),
        prior: dice.number() as f32,
        prior_denominator: 1.0,
        shift: 0.125,
        scale: 15.0,
    });
    Ctrs { list: list.collect(), tables: tables.clone() }
}

fn split(dice: &mut Dice, nans: &[NanRule], ctrs: &Ctrs) -> Split {
    if ctrs.list.is_empty() || dice.below(2) == 0 {
        return question(dice, nans);
    }
    let border = dice.below(15) as f32 + 0.999_999;
    Split { feature: dice.below(ctrs.list.len()), test: Test::Ctr { border } }
}

fn tree(
    dice: &mut Dice,
    is_oblivious: bool,
    width: usize,
    mut split: impl FnMut(&mut Dice) -> Split,
) -> Tree {
    let n_splits = dice.below(5);
    let (trunk, n_leaves) = if is_oblivious {
        let levels = (0..n_splits).map(|_| split(dice)).collect();
        (Trunk::Oblivious(Oblivious { levels }), 1 << n_splits)
    } else {
        // A chain that goes left first, in the order of a walk.
        let node = |i| {
            let last = i + 1 == n_splits;
            let left = if last { Child::Leaf(0) } else { Child::Node(i + 1) };
            let right = Child::Leaf(n_splits - i);
            Node { split: split(dice), left, right, stats: NodeStats::default() }
        };
        (Trunk::Nodes((0..n_splits).map(node).collect()), n_splits + 1)
    };
    let leaves = (0..n_leaves * width).map(|_| dice.number()).collect();
    let stats = |cover| LeafStats { cover, count: 0.0 };
    let leaf_stats = (0..n_leaves).map(|_| stats(dice.below(50) as f64)).collect();
    let outputs = if width == 1 { Outputs::One(0) } else { Outputs::All };
    Tree { trunk, leaves, leaf_stats, linear: Vec::new(), outputs, weight: 1.0 }
}

fn model(seed: u64) -> ModelFile {
    let mut dice = Dice(Chain::default().level(seed as u32).level((seed >> 32) as u32));
    let dice = &mut dice;
    let mut nans = vec![NanRule::default(); 6];
    for nan in &mut nans[..3] {
        let (treatment, _) = NanTreatment::ALL[dice.below(3)];
        *nan = NanRule { has_nans: dice.below(2) == 1, treatment };
    }
    let (width, is_oblivious) = (1 + dice.below(3), dice.below(2) == 0);
    let ctrs = ctrs(dice, &nans);
    let tree = |_| tree(dice, is_oblivious, width, |dice| split(dice, &nans, &ctrs));
    let trees: Vec<Tree> = (0..6).map(tree).collect();
    let name = |j| if j % 2 == 0 { format!("f{j}") } else { format!("a column {j}") };
    let feature = |j| Feature { name: name(j), is_categorical: is_categorical(j) };
    let forest = Forest {
        features: (0..6).map(feature).collect(),
        n_outputs: width,
        trees,
        trees_per_round: 1,
        sum: Sum::Scaled { scale: 0.5, bias: vec![0.1; width] },
        link: Link::Identity,
        ctrs,
    };
    let info = [("params".to_owned(), r#"{"loss_function":{"type":"RMSE"}}"#.to_owned())];
    ModelFile { forest, about: About { nans, info: info.into(), ..About::default() } }
}

/// As files list the tables: sorted by their names there.
fn sorted(file: &ModelFile) -> ModelFile {
    cbm::read(&cbm::write(&file.forest, &file.about).expect("writes")).expect("reads")
}

proptest! {
    #[test]
    fn any_model_reads_as_it_was_written(seed: u64) {
        let file = sorted(&model(seed));
        prop_assert!(sorted(&file) == file);
        let text = json::write(&file.forest, &file.about).expect("writes");
        let mut again = json::read(text.as_bytes()).expect("reads");
        prop_assert!(json::write(&again.forest, &again.about).expect("writes") == text);
        // Sums of the means are singles in both.
        again.about.has_dictionary = false;
        prop_assert!(again == file, "{again:?} {file:?}");
    }

    #[test]
    fn any_model_answers_as_defined_whether_read_or_bound_or_compiled(
        seed: u64,
        cells in prop::collection::vec(0..9_usize, 6),
    ) {
        let original = model(seed);
        let file = sorted(&original);
        let levels = Levels::new(NAMES).expect("distinct");
        let column = |j| {
            let name = format!("c{j}");
            if is_categorical(j) {
                Column::categorical(name, levels.clone())
            } else {
                Column::numeric(name)
            }
        };
        let schema = Schema::new((0..6).map(column)).expect("distinct");
        let cell = |(j, &k): (usize, &usize)| match (is_categorical(j), k) {
            (_, 8) => f32::NAN,
            (true, 6..) => Frame::UNKNOWN,
            (true, k) => k as f32,
            (false, 7) => f32::INFINITY,
            (false, k) => BORDERS[k],
        };
        let row: Vec<f32> = cells.iter().enumerate().map(cell).collect();

        let n = file.forest.n_outputs;
        let (bound, encoder) = file.forest.bind(&schema);
        let (mut expected, mut got) = (vec![0.0; n], vec![0.0; n]);
        original.forest.raw_by_hashes(&row, &encoder.hashes(&row), &mut expected);
        file.forest.raw_by_hashes(&row, &encoder.hashes(&row), &mut got);
        prop_assert_eq!(&got, &expected);
        let mut encoded = vec![0.0; encoder.n_cols()];
        encoder.encode(&row, &mut encoded);
        // Many rows at once are encoded as each by itself.
        let mut several = vec![0.0; 3 * encoded.len()];
        encoder.encode_rows([&row[..]; 3].into_iter(), &mut several, &mut Scratch::default());
        for again in several.chunks_exact(encoded.len()) {
            prop_assert!(again.iter().zip(&encoded).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
        bound.raw_by_definition(&encoded, &mut got);
        prop_assert_eq!(&got, &expected);
        bound.compile().expect("sound").raw_row(&encoded, &mut got);
        prop_assert_eq!(&got, &expected);
    }
}
