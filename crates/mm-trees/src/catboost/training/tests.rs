//! Trees equal to the official ones, split by split and leaf by leaf.
//!
//! `tests/fixtures/trained_catboost.py` trained CatBoost 1.2.10 on data that a formula makes; the
//! same formula, here, makes the same data.

use std::{fs, time::Duration};

use mm_core::{
    Catalog, Column, Dataset, EarlyStopping, Error, FitContext, Frame, Learner as _, Levels,
    Model as _, Params as _, Schema, Signal, Snapshots, Step, Task,
};
use serde::Deserialize;

use super::{
    Boosting, BorderRule, CatBoost, CatBoostParams, Growth, LeafMethod, Objective, RowSampling,
};
use crate::{
    constraint::Monotone,
    forest::{Child, Ctrs, Split, Test, Tree, Trunk},
};

/// A file of `tests/fixtures/catboost/training`.
#[derive(Debug, Deserialize)]
struct Fixture {
    spec: Spec,
    params: serde_json::Value,
    seed: u64,
    n_trees: usize,
    trees: std::collections::BTreeMap<usize, OfficialTree>,
    raw: Vec<f64>,
}

/// A tree of the official model.
#[derive(Debug, Deserialize)]
struct OfficialTree {
    splits: Vec<OfficialSplit>,
    leaves: Vec<f64>,
    /// Left out where rows have weights and an order: CatBoost adds up the weights of other rows.
    weights: Option<Vec<f64>>,
    /// Of a tree that is not symmetric, all three in the order of a walk that goes left first: `(`
    /// for a split, `.` for a leaf.
    shape: Option<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum OfficialSplit {
    Plain(String, usize, f64),
    Ctr(String, String, Vec<(String, usize, f64)>, usize, f64, f64),
}

/// The formula of the data.
#[derive(Debug, Clone, Deserialize)]
struct Spec {
    rows: usize,
    seed: u64,
    columns: Vec<ColumnSpec>,
    task: String,
    thresholds: Vec<f64>,
    noise: f64,
    #[serde(default)]
    products: Vec<(usize, usize, f64)>,
    #[serde(default)]
    scale: f64,
    weights: Option<f64>,
    #[serde(default)]
    held_out: usize,
}

#[derive(Debug, Clone, Deserialize)]
struct ColumnSpec {
    kind: String,
    #[serde(default)]
    n: f64,
    #[serde(default)]
    share: f64,
    /// Of a dummy: the column, and its value.
    #[serde(default)]
    of: usize,
    #[serde(default)]
    is: f32,
    effect: f64,
}

fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Spec {
    fn uniform(&self, row: u64, stream: usize) -> f64 {
        let key = self.seed << 48 | (stream as u64) << 32;
        (mix(row.wrapping_add(key)) >> 40) as f64 / f64::from(1 << 24)
    }

    fn bell(&self, row: u64, stream: usize) -> f64 {
        let u = |s| self.uniform(row, stream + s);
        ((u(0) + u(1)) + u(2)) + u(3) - 2.0
    }

    #[expect(clippy::match_same_arms, reason = "a kind a line")]
    fn cell(&self, row: u64, j: usize) -> f32 {
        let (column, s) = (&self.columns[j], 16 * j);
        let x = match &*column.kind {
            "uniform" => self.uniform(row, s),
            "bell" => self.bell(row, s),
            "steps" => (self.uniform(row, s) * column.n).floor(),
            "binary" => f64::from(u8::from(self.uniform(row, s) < column.share)),
            "missing" if self.uniform(row, s + 4) < column.share => f64::NAN,
            "missing" => self.bell(row, s),
            "category" => {
                let u = self.uniform(row, s);
                (u * u * column.n).floor()
            }
            "dummy" => f64::from(u8::from(self.cell(row, column.of) == column.is)),
            "hurdle" if self.cell(row, column.of) != column.is => 0.0,
            "hurdle" => (self.uniform(row, s) * column.n).floor(),
            other => panic!("no column kind `{other}`"),
        };
        x as f32
    }

    fn target(&self, row: u64, cells: &[f32]) -> f64 {
        let mut f = 0.0;
        for (j, (column, &x)) in self.columns.iter().zip(cells).enumerate() {
            let effect = match &*column.kind {
                "category" => self.uniform(x as u64, 1000 + j) - 0.5,
                _ if x.is_nan() => 0.0,
                _ => f64::from(x),
            };
            f += column.effect * effect;
        }
        for &(a, b, effect) in &self.products {
            let (x, y) = (f64::from(cells[a]), f64::from(cells[b]));
            f += if self.columns[a].kind == "category" {
                effect * (self.uniform((x * 1000.0 + y) as u64, 2000) - 0.5)
            } else {
                effect * (x * y)
            };
        }
        f += self.noise * self.bell(row, 3000);
        match &*self.task {
            "classes" => self.thresholds.iter().filter(|&&t| f > t).count() as f64,
            "count" => (f * self.scale).max(0.0).floor(),
            "share" => (f + 0.5).clamp(0.0, 1.0),
            _ => f,
        }
    }

    /// The rows of the fit, or those held out.
    fn data(&self, held_out: bool) -> Dataset {
        let columns = self.columns.iter().enumerate().map(|(j, column)| {
            let name = format!("c{j}");
            if column.kind == "category" {
                let names = (0..column.n as usize).map(|code| format!("k{code}"));
                Column::categorical(name, Levels::new(names).expect("distinct"))
            } else {
                Column::numeric(name)
            }
        });
        let schema = Schema::new(columns).expect("distinct");
        let rows = if held_out { self.rows..self.rows + self.held_out } else { 0..self.rows };
        let (mut values, mut target) = (Vec::new(), Vec::new());
        for row in rows.clone() {
            let row = row as u64;
            let cells: Vec<f32> = (0..self.columns.len()).map(|j| self.cell(row, j)).collect();
            target.push(f64::from(self.target(row, &cells) as f32));
            values.extend(cells);
        }
        let task = match &*self.task {
            "classes" => {
                Task::classes((0..=self.thresholds.len()).map(|k| k.to_string())).expect("≥ 2")
            }
            _ => Task::Regression,
        };
        let frame = Frame::with_schema(values, schema).expect("valid");
        let data = Dataset::new(frame, task, target).expect("valid");
        match self.weights {
            Some(least) if !held_out => {
                let weight = |row| (self.uniform(row as u64, 4000) * 4.0).floor() / 2.0 + least;
                data.with_weights(rows.map(weight).collect()).expect("valid")
            }
            _ => data,
        }
    }
}

fn plain(split: &Split, ctrs: &Ctrs) -> OfficialSplit {
    let part = |split: &Split| match split.test {
        Test::AtMost { threshold, .. } => ("f".to_owned(), split.feature, threshold),
        Test::Hash(hash) => ("o".to_owned(), split.feature, f64::from(hash)),
        _ => panic!("{split:?}"),
    };
    let Test::Ctr { border } = split.test else {
        let (kind, column, value) = part(split);
        return OfficialSplit::Plain(kind, column, value);
    };
    let ctr = &ctrs.list[split.feature];
    let table = &ctrs.tables[ctr.table];
    let projection = table.projection();
    let levels = projection.levels.iter().map(|&column| ("level".to_owned(), column, 0.0));
    OfficialSplit::Ctr(
        "c".to_owned(),
        table.kind().name().to_owned(),
        levels.chain(projection.questions.iter().map(part)).collect(),
        ctr.target_border,
        f64::from(ctr.prior),
        f64::from(border),
    )
}

/// A tree as the fixtures tell it.
#[derive(Default)]
struct Walk<'a> {
    shape: Option<String>,
    splits: Vec<&'a Split>,
    leaves: Vec<f64>,
    weights: Vec<f64>,
}

impl<'a> Walk<'a> {
    fn of(tree: &'a Tree, n_outputs: usize) -> Self {
        let mut walk = Self::default();
        match &tree.trunk {
            Trunk::Oblivious(trunk) => {
                walk.splits = trunk.levels.iter().collect();
                (0..1 << trunk.levels.len()).for_each(|leaf| walk.end(tree, leaf, n_outputs));
            }
            Trunk::Nodes(nodes) => {
                let mut shape = String::new();
                let mut open = vec![if nodes.is_empty() { Child::Leaf(0) } else { Child::Node(0) }];
                while let Some(child) = open.pop() {
                    match child {
                        Child::Node(i) => {
                            shape.push('(');
                            walk.splits.push(&nodes[i].split);
                            open.extend([nodes[i].right, nodes[i].left]);
                        }
                        Child::Leaf(leaf) => {
                            shape.push('.');
                            walk.end(tree, leaf, n_outputs);
                        }
                    }
                }
                walk.shape = Some(shape);
            }
        }
        walk
    }

    fn end(&mut self, tree: &Tree, leaf: usize, n_outputs: usize) {
        self.leaves.extend(&tree.leaves[leaf * n_outputs..][..n_outputs]);
        self.weights.push(tree.leaf_stats[leaf].cover);
    }
}

/// How far leaves of several outputs, and predictions, may be apart: their sums are not taken in the same
/// order. Leaves of one output are equal to the bit, where `exp` and `ln` are those of the official package.
const ROUNDING: f64 = 1e-9;
const SAME_FUNCTIONS: bool =
    cfg!(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"));

/// Trains on the fixture's data and compares tree by tree.
#[track_caller]
fn check(name: &str) {
    let fixture = fixture(name);
    let learner = params(&fixture).build().expect("valid");
    let data = fixture.spec.data(false);
    let held_out = (0 < fixture.spec.held_out).then(|| fixture.spec.data(true));
    for threads in [1, 3] {
        let mut ctx = FitContext::seeded(fixture.seed).with_threads(threads);
        if let Some(held_out) = &held_out {
            ctx = ctx.with_validation(held_out);
        }
        let model = learner.fit(&data, &ctx).expect("fits");
        let forest = model.forest();
        let is_exact = SAME_FUNCTIONS && forest.n_outputs() == 1;
        let leaves_near = if is_exact { 0.0 } else { ROUNDING };
        assert_eq!(forest.n_trees(), fixture.n_trees, "{name}: as many trees");
        for (&i, official) in &fixture.trees {
            let tree = &forest.trees()[i];
            let walk = Walk::of(tree, forest.n_outputs());
            let splits: Vec<OfficialSplit> =
                walk.splits.iter().map(|split| plain(split, forest.ctrs())).collect();
            assert_eq!(walk.shape, official.shape, "{name}: shape of tree {i}");
            assert_eq!(splits, official.splits, "{name}: splits of tree {i}");
            assert_eq!(walk.leaves.len(), official.leaves.len(), "{name}: leaves of tree {i}");
            for (leaf, (&got, &expected)) in walk.leaves.iter().zip(&official.leaves).enumerate() {
                let near = (got - expected).abs() <= leaves_near;
                assert!(near, "{name}: tree {i}, leaf {leaf}: {got}, official {expected}");
            }
            if let Some(official) = &official.weights {
                assert_eq!(&walk.weights, official, "{name}: weights of tree {i}");
            }
        }
        let raw = model.predict_raw(&data.frame().slice(0, fixture.raw.len() / forest.n_outputs()));
        for (got, expected) in raw.expect("predicts").values().iter().zip(&fixture.raw) {
            let near = (got - expected).abs() <= ROUNDING;
            assert!(near, "{name}: raw {got}, official {expected}");
        }
    }
}

macro_rules! fixtures {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*
    };
}

mod trees_equal_the_official_ones {
    use super::check;

    fixtures! {
        balanced, bundles, bundles_levels, levels, levels_regression, levels_multiclass, levels_newton, default_binary, combinations, combinations_regression, combinations_multiclass, combinations_deep, combinations_weights, levels_blocks, levels_blocks_long, one_hot, one_hot_and_combinations, in_time, in_time_combinations, statistics, orders, model_size, levels_column_share, levels_mae, held_out, held_out_levels, held_out_rate, borders_max_log_sum, borders_min_entropy, expectile, mae_weights, many_rows, many_rows_levels, rows_levels, quantile, weights_multiclass, mae, bayesian, bernoulli, binary, binary_columns, binary_newton, blocks,
        borders_greedy_min_entropy, borders_median,
        borders_uniform, borders_uniform_and_quantiles, column_share, cross_entropy, deep,
        few_rows, from_mean, gradient, huber, l2_score, missing,
        missing_max, multiclass, no_backtracking, no_sampling, one_vs_all, poisson, poisson_newton,
        regression, seeded, sparse_columns, ties, tweedie, weights,
        weights_zero,
        column_weights, first_use, per_row, per_row_depthwise, ignored, ignored_levels, monotone, monotone_regression, monotone_newton, monotone_gradient, monotone_mae, monotone_levels, shrinkage, shrinkage_held_out, depthwise, depthwise_regression, depthwise_multiclass, depthwise_levels, depthwise_one_hot, depthwise_column_share, depthwise_bayesian, depthwise_held_out, leafwise, leafwise_few, leafwise_multiclass, leafwise_levels, leafwise_mae, leafwise_newton, default_levels, late_levels, late_levels_numbers,
        levels_mae_long, levels_quantile, shrinkage_decreasing, shrinkage_decreasing_levels, shrinkage_decreasing_held_out, monotone_decreasing, ordered, ordered_default, ordered_regression, ordered_multiclass, ordered_one_vs_all, ordered_multiclass_gradient, ordered_levels, ordered_combinations, ordered_levels_multiclass, ordered_levels_regression, ordered_weights, ordered_weights_levels, ordered_few_rows, ordered_blocks, ordered_in_time, ordered_in_time_numbers, ordered_seeded, ordered_mae, ordered_newton, ordered_bernoulli, ordered_bayesian, ordered_growth, ordered_orders, ordered_monotone, ordered_shrinkage, ordered_per_row, ordered_held_out,
    }
}

fn edit(edit: impl FnOnce(&mut CatBoostParams)) -> CatBoostParams {
    CatBoostParams::default().with(|p| {
        p.rounds = 12;
        edit(p);
    })
}

fn build(params: CatBoostParams) -> CatBoost {
    params.build().expect("valid")
}

#[test]
fn conforms() {
    let catalog = crate::register(Catalog::default());
    mm_core::conformance::check(&build(edit(|_| {})), &catalog);
    let rich = edit(|p| {
        p.tree.depth = 3;
        p.leaves.steps = Some(4);
        p.categorical.max_one_hot = 0;
        p.categorical.max_combination = Some(3);
        p.early_stopping = Some(EarlyStopping::after(3));
    });
    mm_core::conformance::check(&build(rich), &catalog);
    mm_core::conformance::check(&build(edit(|p| p.boosting = Boosting::ordered())), &catalog);
    let leafwise = Growth::Leafwise { leaves: 8, min_rows: 2 };
    for growth in [Growth::Depthwise { min_rows: 1 }, leafwise] {
        mm_core::conformance::check(&build(edit(|p| p.tree.growth = growth)), &catalog);
    }
}

#[test]
fn every_edge_of_the_tables_holds() {
    type Edit = fn(&mut CatBoostParams);
    let valid: [Edit; 14] = [
        |p| p.rounds = 1,
        |p| p.tree.depth = 16,
        |p| p.tree.depth = 1,
        |p| p.penalty.l2 = Some(0.0),
        |p| p.bins.max_borders = 255,
        |p| p.sampling.rows = RowSampling::Mvs { fraction: 1.0 },
        |p| p.categorical.max_one_hot = 255,
        |p| p.objective = Objective::Tweedie { power: 1.01 },
        |p| p.leaves.method = LeafMethod::Gradient,
        |p| p.tree.growth = Growth::Leafwise { leaves: 2, min_rows: 1 },
        |p| p.tree.growth = Growth::Leafwise { leaves: 1 << 16, min_rows: 1 },
        |p| (p.penalty.shrinkage, p.penalty.scale) = (Some(0.0), 0.0),
        |p| p.boosting = Boosting::Ordered { growth: 1.1 },
        |p| p.boosting = Boosting::Ordered { growth: 1000.0 },
    ];
    for (i, edit) in valid.into_iter().enumerate() {
        let built = CatBoostParams::default().with(edit).build();
        assert!(built.is_ok(), "valid {i}: {}", built.expect_err("an error"));
    }
    let monotone = |p: &mut CatBoostParams| {
        p.constraints.monotone.insert("x".to_owned(), Monotone::Increasing);
    };
    assert!(CatBoostParams::default().with(monotone).build().is_ok());
    let refused: [(Edit, &str); 33] = [
        (|p| p.rounds = 0, "rounds"),
        (|p| p.learning_rate = Some(0.0), "learning_rate"),
        (|p| p.learning_rate = Some(f64::NAN), "learning_rate"),
        (|p| p.tree.depth = 0, "tree.depth"),
        (|p| p.tree.depth = 17, "tree.depth"),
        (|p| p.leaves.steps = Some(0), "leaves.steps"),
        (|p| p.boosting = Boosting::Ordered { growth: 1.0 }, "boosting.ordered.growth"),
        (|p| p.boosting = Boosting::Ordered { growth: f64::NAN }, "boosting.ordered.growth"),
        (
            |p| {
                p.boosting = Boosting::ordered();
                p.tree.growth = Growth::Depthwise { min_rows: 1 };
            },
            "boosting",
        ),
        (|p| p.leaves.method = LeafMethod::Exact, "leaves.method"),
        (
            |p| {
                p.objective = Objective::Mae;
                p.leaves.method = LeafMethod::Newton;
            },
            "leaves.method",
        ),
        (|p| p.sampling.rows = RowSampling::Mvs { fraction: 0.0 }, "sampling.rows.mvs.fraction"),
        (
            |p| p.sampling.rows = RowSampling::Bayesian { temperature: -1.0 },
            "sampling.rows.bayesian.temperature",
        ),
        (|p| p.sampling.columns = 0.0, "sampling.columns"),
        (|p| p.sampling.noise = -1.0, "sampling.noise"),
        (|p| p.penalty.l2 = Some(-1.0), "penalty.l2"),
        (|p| p.penalty.model_size = f64::INFINITY, "penalty.model_size"),
        (|p| p.bins.max_borders = 0, "bins.max_borders"),
        (|p| p.bins.max_borders = 256, "bins.max_borders"),
        (|p| p.categorical.max_combination = Some(0), "categorical.max_combination"),
        (|p| p.categorical.orders = 0, "categorical.orders"),
        (|p| p.categorical.simple.clear(), "categorical.simple"),
        (|p| p.objective = Objective::Tweedie { power: 2.0 }, "objective.tweedie.power"),
        (|p| p.tree.growth = Growth::Depthwise { min_rows: 0 }, "tree.growth.depthwise.min_rows"),
        (
            |p| p.tree.growth = Growth::Leafwise { leaves: 1, min_rows: 1 },
            "tree.growth.leafwise.leaves",
        ),
        (
            |p| p.tree.growth = Growth::Leafwise { leaves: 2, min_rows: 0 },
            "tree.growth.leafwise.min_rows",
        ),
        (|p| p.penalty.shrinkage = Some(1.0), "penalty.shrinkage"),
        (|p| p.penalty.scale = f64::NAN, "penalty.scale"),
        (|p| p.penalty.weights.extend([("x".to_owned(), -1.0)]), "penalty.weights.x"),
        (|p| p.penalty.first_use.extend([("x".to_owned(), -1.0)]), "penalty.first_use.x"),
        (|p| p.penalty.per_row.extend([("x".to_owned(), f64::NAN)]), "penalty.per_row.x"),
        (
            |p| {
                p.tree.growth = Growth::Depthwise { min_rows: 1 };
                p.constraints.monotone.insert("x".to_owned(), Monotone::Increasing);
            },
            "constraints.monotone",
        ),
        (
            |p| {
                (p.objective, p.leaves.method) = (Objective::Mae, LeafMethod::Exact);
                p.constraints.monotone.insert("x".to_owned(), Monotone::Increasing);
            },
            "constraints.monotone",
        ),
    ];
    for (edit, name) in refused {
        let error = CatBoostParams::default().with(edit).build().expect_err(name);
        assert_eq!(error.name, name);
    }
}

#[test]
fn params_come_back_from_json() {
    let params = edit(|p| {
        p.objective = Objective::Quantile { level: 0.9 };
        p.sampling.rows = RowSampling::Bernoulli { fraction: 0.5 };
    });
    let text = serde_json::to_string(&params).expect("JSON");
    assert_eq!(serde_json::from_str::<CatBoostParams>(&text).expect("params"), params);
    assert!(serde_json::from_str::<CatBoostParams>(r#"{"iterations": 3}"#).is_err());
}

#[test]
fn models_do_not_depend_on_the_number_of_threads() {
    let rows = [
        RowSampling::All,
        RowSampling::Mvs { fraction: 0.7 },
        RowSampling::Bayesian { temperature: 1.0 },
        RowSampling::Bernoulli { fraction: 0.6 },
    ];
    // Several blocks of rows each, numbers alone, categories with combinations, and several outputs.
    for (name, rounds) in [("blocks", 3), ("levels_blocks_long", 3), ("combinations_multiclass", 4)]
    {
        let data = spec_of(name).data(false);
        for rows in rows {
            let learner = build(edit(|p| {
                (p.rounds, p.sampling.rows, p.leaves.steps) = (rounds, rows, Some(3));
                p.categorical.max_combination = Some(3);
            }));
            let file = |threads| {
                let ctx = FitContext::seeded(5).with_threads(threads);
                learner.fit(&data, &ctx).expect("fits").to_cbm().expect("writes")
            };
            let alone = file(1);
            for threads in [2, 4] {
                assert!(file(threads) == alone, "{name}, {rows:?}: {threads} threads");
            }
        }
    }
}

#[test]
fn a_continued_model_starts_from_the_predictions_of_the_one_before() {
    let spec = spec_of("regression");
    let data = spec.data(false);
    let ctx = FitContext::seeded(0);
    let learner = build(edit(|p| p.sampling.noise = 0.0));
    let first = learner.fit(&data, &ctx).expect("fits");
    let more = learner.fit_after(&first, &data, &ctx).expect("continues");
    assert_eq!(more.n_trees(), 24);
    assert_eq!(more.forest().trees()[..12], *first.forest().trees());
    let error = |model: &crate::CatBoostModel| {
        let raw = model.predict_raw(data.frame()).expect("predicts");
        let pairs = raw.values().iter().zip(data.target());
        pairs.map(|(a, y)| (a - y).powi(2)).sum::<f64>()
    };
    assert!(error(&more) < 0.9 * error(&first), "further trees lower the error");
}

#[test]
fn a_model_with_statistics_is_not_continued_from() {
    let data = spec_of("levels").data(false);
    let learner = build(edit(|_| {}));
    let first = learner.fit(&data, &FitContext::seeded(0)).expect("fits");
    let error = learner.fit_after(&first, &data, &FitContext::seeded(0)).expect_err("refused");
    assert!(error.to_string().contains("target statistics"), "{error}");
}

#[test]
fn objectives_of_other_tasks_and_targets_out_of_their_domain_are_refused() {
    let data = spec_of("regression").data(false);
    for objective in [Objective::Logloss, Objective::MultiClass, Objective::Poisson] {
        let learner = build(edit(|p| p.objective = objective));
        let error = learner.fit(&data, &FitContext::seeded(0)).expect_err("refused");
        assert!(matches!(error, Error::Data { .. }), "{error}");
    }
}

/// All kinds of boosting and growth.
fn kinds() -> [(Boosting, Growth); 4] {
    let leafwise = Growth::Leafwise { leaves: 31, min_rows: 1 };
    [
        (Boosting::Plain, Growth::Symmetric),
        (Boosting::Plain, Growth::Depthwise { min_rows: 1 }),
        (Boosting::Plain, leafwise),
        (Boosting::ordered(), Growth::Symmetric),
    ]
}

/// Fits, and checks that the model predicts numbers, and the same ones from its file.
#[track_caller]
fn check_fit(learner: &CatBoost, data: &Dataset) -> crate::CatBoostModel {
    let model = learner.fit(data, &FitContext::seeded(0)).expect("fits");
    let y = model.predict(data.frame()).expect("predicts");
    assert!(y.values().iter().all(|y| y.is_finite()));
    let reopened = crate::CatBoostModel::read(
        &model.to_cbm().expect("writes"),
        Some(data.frame().schema().clone()),
    );
    let again = reopened.expect("opens").predict(data.frame()).expect("predicts");
    assert_eq!(again.values(), y.values(), "the file predicts the same");
    model
}

/// A number and a category, of which every sixth cell is missing, unknown, and the empty name.
fn awkward() -> Frame {
    let levels = Levels::new(["", "a", "b", "c"]).expect("distinct");
    let schema = Schema::new([Column::numeric("x"), Column::categorical("c", levels)]);
    let cells = [f32::NAN, Frame::UNKNOWN, 0.0, 1.0, 2.0, 3.0];
    let values = (0..120).flat_map(|i| [(i % 7) as f32, cells[i % 6]]).collect();
    Frame::with_schema(values, schema.expect("distinct")).expect("valid")
}

fn yes_and_no(frame: Frame, is_yes: impl Fn(usize) -> bool) -> Dataset {
    let target = (0..frame.n_rows()).map(|i| f64::from(u8::from(is_yes(i)))).collect();
    Dataset::new(frame, Task::classes(["no", "yes"]).expect("two"), target).expect("valid")
}

#[test]
fn missing_unknown_and_empty_levels_and_one_in_one_class_only_are_fitted() {
    let data = yes_and_no(awkward(), |i| i % 6 == 4);
    for kind in kinds() {
        for (depth, max_one_hot) in [(1, 0), (16, 2), (3, 10)] {
            let learner = build(edit(|p| {
                (p.boosting, p.tree.growth) = kind;
                p.tree.depth = depth;
                (p.categorical.max_one_hot, p.categorical.max_combination) = (max_one_hot, Some(2));
            }));
            let model = check_fit(&learner, &data);
            let y = model.predict(data.frame()).expect("predicts");
            let (yes, no) = (y.values()[4], y.values()[5]);
            assert!(no < yes, "the level of one class: {yes}, another: {no}");
        }
    }
}

#[test]
fn a_constant_target_is_predicted() {
    let data = Dataset::regression(awkward(), vec![2.5; 120]).expect("valid");
    for kind in kinds() {
        let model = check_fit(&build(edit(|p| (p.boosting, p.tree.growth) = kind)), &data);
        let y = model.predict(data.frame()).expect("predicts");
        assert!(y.values().iter().all(|y| (y - 2.5).abs() < 1e-12));
    }
    let data = yes_and_no(awkward(), |_| false);
    let error = build(edit(|_| {})).fit(&data, &FitContext::seeded(0)).expect_err("refused");
    assert!(matches!(error, Error::OneClass { .. }), "{error}");
}

#[test]
fn targets_at_the_ends_of_their_range_are_predicted() {
    let frame = Frame::new((0..200_u8).map(f32::from).collect(), 1).expect("valid");
    let target = (0..200).map(|i| if i % 3 == 0 { 3e38 } else { -3e38 }).collect();
    let data = Dataset::new(frame, Task::Regression, target).expect("valid");
    for objective in [Objective::Rmse, Objective::Mae, Objective::Huber { delta: 1.0 }] {
        let learner = build(edit(|p| (p.rounds, p.objective) = (20, objective)));
        check_fit(&learner, &data);
    }
}

#[test]
fn one_round_and_depths_from_1_to_16_are_fitted() {
    let data = spec_of("levels").data(false);
    for kind in kinds() {
        for depth in [1, 16] {
            let learner = build(edit(|p| {
                (p.boosting, p.tree.growth) = kind;
                (p.rounds, p.tree.depth) = (1, depth);
            }));
            let model = check_fit(&learner, &data);
            assert_eq!(model.n_trees(), 1);
            let leaves = model.forest().trees()[0].leaves.len();
            let most = if matches!(kind.1, Growth::Leafwise { .. }) { 31 } else { 1 << depth };
            assert!((2..=most).contains(&leaves), "{leaves} leaves at depth {depth}");
        }
    }
}

#[test]
fn more_borders_than_values_are_as_many_as_part_them() {
    let frame = Frame::new((0..90).map(|i| (i % 3) as f32).collect(), 1).expect("valid");
    let target = (0..90).map(|i| f64::from(i % 3)).collect();
    let data = Dataset::regression(frame, target).expect("valid");
    for rule in [BorderRule::GreedyLogSum, BorderRule::Median, BorderRule::MinEntropy] {
        let learner = build(edit(|p| (p.bins.max_borders, p.bins.rule) = (255, rule)));
        let model = check_fit(&learner, &data);
        let splits = model.forest().splits();
        let mut thresholds: Vec<u64> = splits
            .map(|split| match split.test {
                Test::AtMost { threshold, .. } => threshold.to_bits(),
                _ => panic!("{split:?}"),
            })
            .collect();
        thresholds.sort_unstable();
        thresholds.dedup();
        assert_eq!(thresholds.len(), 2, "three values have two borders");
    }
}

#[test]
fn levels_that_the_fit_never_saw_are_predicted_alike() {
    let data = spec_of("levels").data(false);
    for kind in kinds() {
        let model = check_fit(&build(edit(|p| (p.boosting, p.tree.growth) = kind)), &data);
        let columns = data.frame().schema().columns().iter().map(|column| match column.levels() {
            Some(levels) => {
                let names = levels.names().iter().map(String::as_str).chain(["new", "newer"]);
                Column::categorical(&column.name, Levels::new(names).expect("distinct"))
            }
            None => column.clone(),
        });
        let schema = Schema::new(columns).expect("distinct");
        let n_cols = schema.len();
        let mut values = data.frame().values()[..3 * n_cols].to_vec();
        for (i, row) in values.chunks_mut(n_cols).enumerate() {
            row.copy_from_slice(data.frame().row(0));
            let levels = schema.columns()[1].levels().expect("categorical").len();
            row[1] = [Frame::UNKNOWN, (levels - 2) as f32, (levels - 1) as f32][i];
        }
        let frame = Frame::with_schema(values, schema).expect("valid");
        let y = model.predict(&frame).expect("predicts");
        assert!(y.values().iter().all(|&other| other == y.values()[0] && other.is_finite()));
    }
}

#[test]
fn a_million_levels_are_fitted_and_a_level_never_seen_is_predicted() {
    let n = 1_000_000_usize;
    let names = (0..=n).map(|code| format!("level {code}"));
    let schema = Schema::new([
        Column::categorical("id", Levels::new(names).expect("distinct")),
        Column::numeric("x"),
    ]);
    let schema = schema.expect("distinct");
    let values = (0..n).flat_map(|i| [i as f32, (i % 3) as f32]).collect();
    let frame = Frame::with_schema(values, schema.clone()).expect("valid");
    let task = Task::classes(["no", "yes"]).expect("two");
    let target = (0..n).map(|i| f64::from(u8::from(i % 3 == 1))).collect();
    let data = Dataset::new(frame, task, target).expect("valid");
    let learner = build(edit(|p| (p.rounds, p.tree.depth) = (1, 2)));
    let model = learner.fit(&data, &FitContext::seeded(0).with_threads(2)).expect("fits");
    // The last level has no row in training, and the second row has a level that no one has.
    let new = Frame::with_schema(vec![n as f32, 1.0, Frame::UNKNOWN, 1.0], schema).expect("valid");
    let y = model.predict(&new).expect("predicts");
    assert_eq!(y.row(0), y.row(1), "both are levels without rows");
    assert!(0.5 < y.row(0)[0], "by the other column: {:?}", y.row(0));
}

#[test]
fn a_fit_called_off_goes_on_to_the_same_model() {
    let folder = std::env::temp_dir().join(format!("mm-catboost-snapshot-{}", std::process::id()));
    let snapshots = Snapshots::new(&folder).expect("a folder").every(Duration::ZERO);
    let n_kept = || fs::read_dir(&folder).expect("lists").count();
    for name in [
        "regression",
        "multiclass",
        "combinations",
        "levels_multiclass",
        "monotone",
        "shrinkage",
        "per_row_depthwise",
        "leafwise_levels",
        "held_out_levels",
        "levels_mae_long",
        "shrinkage_decreasing_levels",
        "ordered_combinations",
        "ordered_multiclass",
        "ordered_mae",
    ] {
        let fixture = fixture(name);
        let learner = params(&fixture).build().expect("valid");
        let (data, held_out) = (fixture.spec.data(false), fixture.spec.data(true));
        let mut plain = FitContext::seeded(fixture.seed).with_threads(2);
        if 0 < fixture.spec.held_out {
            plain = plain.with_validation(&held_out);
        }
        let whole = learner.fit(&data, &plain).expect("fits").to_cbm().expect("writes");
        let ctx = plain.with_snapshots(&snapshots);
        for stop in [1, 3, 4] {
            let abort = |step: &Step<'_>| {
                if step.iteration == stop { Signal::Abort } else { Signal::Continue }
            };
            let error = learner.fit(&data, &ctx.with_observer(&abort)).expect_err("called off");
            assert!(matches!(error, Error::Cancelled), "{name}: {error}");
            assert_eq!(n_kept(), 1, "{name}: the state stays");
            // One of another seed does not take it for its own.
            learner.fit(&data, &ctx.fork(1)).expect("fits");
            assert_eq!(n_kept(), 1, "{name}: what is done is cleared");
        }
        let resumed = learner.fit(&data, &ctx).expect("goes on").to_cbm().expect("writes");
        assert_eq!(resumed, whole, "{name}");
        assert_eq!(n_kept(), 0, "{name}: what is done is cleared");
    }
    fs::remove_dir_all(folder).expect("removes");
}

#[test]
fn a_fit_that_goes_on_grows_only_what_is_left() {
    let folder = std::env::temp_dir().join(format!("mm-catboost-resumed-{}", std::process::id()));
    let snapshots = Snapshots::new(&folder).expect("a folder").every(Duration::ZERO);
    let fixture = fixture("levels");
    let learner = params(&fixture).build().expect("valid");
    let data = fixture.spec.data(false);
    let ctx = FitContext::seeded(fixture.seed).with_snapshots(&snapshots);
    let stop = |step: &Step<'_>| {
        if step.iteration == 5 { Signal::Stop } else { Signal::Continue }
    };
    let part = learner.fit(&data, &ctx.with_observer(&stop)).expect("stops");
    assert_eq!(part.n_trees(), 5);
    let path = fs::read_dir(&folder).expect("lists").next().expect("kept").expect("a file").path();
    let kept = fs::read(&path).expect("reads");
    // To stop a resumed fit before its state leaves the state as it is.
    let early = |step: &Step<'_>| {
        if step.iteration == 2 { Signal::Stop } else { Signal::Continue }
    };
    assert_eq!(learner.fit(&data, &ctx.with_observer(&early)).expect("stops").n_trees(), 2);
    assert_eq!(fs::read(&path).expect("reads"), kept);
    let whole = learner.fit(&data, &ctx).expect("goes on");
    assert_eq!(whole.forest().trees()[..5], *part.forest().trees());
    fs::remove_dir_all(folder).expect("removes");
}

#[test]
fn a_fit_of_more_rounds_goes_on_from_one_of_fewer() {
    // The first rounds of both are the same where what depends on their number is given.
    let learner = |name: &str, rounds: usize, rate: Option<f64>| {
        let mut params = params(&fixture(name));
        (params.rounds, params.learning_rate, params.leaves.steps) = (rounds, rate, Some(1));
        (params.categorical.max_combination, params.early_stopping) = (Some(2), None);
        params.build().expect("valid")
    };
    for name in ["regression", "multiclass", "combinations", "levels_multiclass"] {
        let data = fixture(name).spec.data(false);
        let kept = Snapshots::in_memory().lasting();
        let plain = FitContext::seeded(4);
        let ctx = plain.with_snapshots(&kept);
        let cbm = |rounds, rate, ctx: &FitContext<'_>| {
            let model = learner(name, rounds, rate).fit(&data, ctx).expect("fits");
            model.to_cbm().expect("writes")
        };
        for rounds in [3, 7, 5, 12] {
            let rate = Some(0.1);
            assert_eq!(cbm(rounds, rate, &ctx), cbm(rounds, rate, &plain), "{name}, {rounds}");
        }
        // With another rate for each number of rounds there is nothing to go on from.
        for rounds in [3, 7] {
            assert_eq!(cbm(rounds, None, &ctx), cbm(rounds, None, &plain), "{name}, {rounds}");
        }
    }
}

#[test]
fn a_lasting_state_is_not_grown_again() {
    let data = fixture("combinations").spec.data(false);
    let learner = |rounds: usize| {
        let mut params = params(&fixture("combinations"));
        (params.rounds, params.learning_rate, params.leaves.steps) = (rounds, Some(0.1), Some(1));
        params.categorical.max_combination = Some(1);
        params.build().expect("valid")
    };
    let root = std::env::temp_dir().join(format!("mm-catboost-lasting-{}", std::process::id()));
    // The state of one fit in the place of another's: who goes on has the trees that it finds.
    let fit = |seed: u64, rounds: usize| {
        let folder = root.join(seed.to_string());
        let kept = Snapshots::new(&folder).expect("a folder").lasting();
        let ctx = FitContext::seeded(seed).with_snapshots(&kept);
        let model = learner(rounds).fit(&data, &ctx).expect("fits");
        let file = fs::read_dir(folder).expect("lists").next().expect("kept").expect("a file");
        (model, file.path())
    };
    let ((one, path), (other, others)) = (fit(1, 3), fit(2, 3));
    assert_ne!(one.forest().trees(), other.forest().trees());
    fs::copy(others, path).expect("copies");
    assert_eq!(fit(1, 9).0.forest().trees()[..3], *other.forest().trees());
    assert_eq!(fit(1, 4).0.n_trees(), 4, "of more rounds, no more than are asked for");
    fs::remove_dir_all(root).expect("removes");
}

#[test]
fn params_of_columns_name_columns_that_the_data_have() {
    type Edit = fn(&mut CatBoostParams, String);
    let data = spec_of("levels").data(false);
    let edits: [(Edit, &str); 5] = [
        (|p, name| p.penalty.weights.extend([(name, 0.5)]), "penalty.weights"),
        (|p, name| p.penalty.first_use.extend([(name, 0.5)]), "penalty.first_use"),
        (|p, name| p.penalty.per_row.extend([(name, 0.5)]), "penalty.per_row"),
        (|p, name| p.constraints.ignored.push(name), "constraints.ignored"),
        (
            |p, name| p.constraints.monotone.extend([(name, Monotone::Increasing)]),
            "constraints.monotone",
        ),
    ];
    for (edit_with, place) in edits {
        let learner = build(edit(|p| edit_with(p, "other".to_owned())));
        let error = learner.fit(&data, &FitContext::seeded(0)).expect_err("no such column");
        assert!(error.to_string().starts_with(place), "{error}");
        assert!(error.to_string().ends_with("`other`"), "{error}");
    }
    let monotone = |column: &str| {
        build(edit(|p| p.constraints.monotone.extend([(column.to_owned(), Monotone::Decreasing)])))
    };
    let error = monotone("c1").fit(&data, &FitContext::seeded(0)).expect_err("categorical");
    assert!(error.to_string().contains("numeric columns"), "{error}");
    let data = spec_of("multiclass").data(false);
    let error = monotone("c0").fit(&data, &FitContext::seeded(0)).expect_err("three classes");
    assert!(error.to_string().contains("none for three or more classes"), "{error}");
}

#[test]
fn predictions_move_one_way_along_monotone_columns() {
    let fixture = fixture("monotone_regression");
    let data = fixture.spec.data(false);
    let learner = params(&fixture).with(|p| p.rounds = 40).build().expect("valid");
    let model = learner.fit(&data, &FitContext::seeded(0)).expect("fits");
    for (column, sign) in [(0, 1.0), (1, -1.0), (2, 1.0)] {
        let mut sweeps = Vec::new();
        for row in data.frame().rows().take(40) {
            for step in -30..=30_i8 {
                let mut row = row.to_vec();
                row[column] = f32::from(step) / 10.0;
                sweeps.extend(row);
            }
        }
        let frame = Frame::with_schema(sweeps, data.frame().schema().clone()).expect("valid");
        let raw = model.predict_raw(&frame).expect("predicts");
        for sweep in raw.values().chunks(61) {
            // Sums of 40 values in their own rounding.
            assert!(sweep.windows(2).all(|pair| sign * (pair[1] - pair[0]) >= -1e-12));
        }
    }
}

#[test]
fn ignored_columns_may_hold_anything() {
    let fixture = fixture("ignored");
    let data = fixture.spec.data(false);
    let learner = params(&fixture).build().expect("valid");
    let fit = |data: &Dataset| learner.fit(data, &FitContext::seeded(0)).expect("fits");
    let mut values = data.frame().values().to_vec();
    for row in values.chunks_mut(data.frame().n_cols()) {
        (row[0], row[1], row[4]) = (f32::NAN, 0.0, 7.0);
    }
    let frame = Frame::with_schema(values, data.frame().schema().clone()).expect("valid");
    let other = data.with_frame(frame).expect("as many rows");
    assert_eq!(fit(&data).forest().trees(), fit(&other).forest().trees());
}

fn fixture(name: &str) -> Fixture {
    let path =
        format!("{}/tests/fixtures/catboost/training/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).expect("a fixture");
    serde_json::from_str(&text).expect("JSON")
}

fn params(fixture: &Fixture) -> CatBoostParams {
    serde_json::from_value(fixture.params.clone()).expect("params")
}

fn spec_of(name: &str) -> Spec {
    fixture(name).spec
}
