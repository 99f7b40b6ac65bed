//! Trees equal to the official ones, split by split and leaf by leaf.
//!
//! `tests/fixtures/catboost_training.py` trained CatBoost 1.2.10 on data that a formula makes; the
//! same formula, here, makes the same data.

use mm_core::{Column, Dataset, FitContext, Frame, Levels, Schema, Task};
use serde::Deserialize;

use super::params::CatBoostParams;
use crate::forest::{Split, Test, Trunk};

/// A file of `tests/fixtures/catboost/training`.
#[derive(Debug, Deserialize)]
struct Fixture {
    spec: Spec,
    params: serde_json::Value,
    seed: u64,
    learning_rate: f64,
    bias: serde_json::Value,
    n_trees: usize,
    trees: std::collections::BTreeMap<usize, OfficialTree>,
    raw: Vec<f64>,
}

/// A tree of the official model.
#[derive(Debug, Deserialize)]
struct OfficialTree {
    splits: Vec<OfficialSplit>,
    leaves: Vec<f64>,
    weights: Vec<f64>,
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

fn plain(split: &Split) -> OfficialSplit {
    match split.test {
        Test::AtMost { threshold, .. } => {
            OfficialSplit::Plain("f".to_owned(), split.feature, threshold)
        }
        Test::Hash(hash) => OfficialSplit::Plain("o".to_owned(), split.feature, f64::from(hash)),
        _ => panic!("{split:?}"),
    }
}

/// Trains on the fixture's data and compares tree by tree.
#[track_caller]
fn check(name: &str) {
    let path =
        format!("{}/tests/fixtures/catboost/training/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("a fixture");
    let fixture: Fixture = serde_json::from_str(&text).expect("JSON");
    let params: CatBoostParams = serde_json::from_value(fixture.params).expect("params");
    let learner = params.build().expect("valid");
    let data = fixture.spec.data(false);
    let held_out = (0 < fixture.spec.held_out).then(|| fixture.spec.data(true));
    for threads in [1, 3] {
        let mut ctx = FitContext::seeded(fixture.seed).with_threads(threads);
        if let Some(held_out) = &held_out {
            ctx = ctx.with_validation(held_out);
        }
        let (_, forest, _) = learner.boost(&data, &ctx).expect("fits");
        assert_eq!(forest.n_trees(), fixture.n_trees, "{name}: as many trees");
        for (&i, official) in &fixture.trees {
            let tree = &forest.trees()[i];
            let Trunk::Oblivious(trunk) = &tree.trunk else { panic!("{name}: symmetric") };
            let splits: Vec<OfficialSplit> = trunk.levels.iter().map(plain).collect();
            assert_eq!(splits, official.splits, "{name}: splits of tree {i}");
            assert_eq!(tree.leaves.len(), official.leaves.len(), "{name}: leaves of tree {i}");
            for (leaf, (&got, &expected)) in tree.leaves.iter().zip(&official.leaves).enumerate() {
                let near = (got - expected).abs() <= 1e-9; // Sums of rows in another order.
                assert!(near, "{name}: tree {i}, leaf {leaf}: {got}, official {expected}");
            }
            for (stats, &expected) in tree.leaf_stats.iter().zip(&official.weights) {
                assert!((stats.cover - expected).abs() <= 1e-9 * expected.max(1.0), "{name}");
            }
        }
        let _ = (&fixture.bias, fixture.learning_rate);
        let k = forest.n_outputs();
        let mut out = vec![0.0; k];
        for (row, expected) in data.frame().rows().zip(fixture.raw.chunks(k)) {
            forest.raw_by_definition(row, &mut out);
            for (got, expected) in out.iter().zip(expected) {
                assert!((got - expected).abs() <= 1e-9, "{name}: raw {got}, official {expected}");
            }
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
        balanced, borders_max_log_sum, borders_min_entropy, expectile, mae_weights, many_rows, quantile, weights_multiclass, mae, bayesian, bernoulli, binary, binary_columns, binary_newton, blocks,
        borders_greedy_min_entropy, borders_median,
        borders_uniform, borders_uniform_and_quantiles, column_share, cross_entropy, deep,
        few_rows, from_mean, gradient, huber, l2_score, missing,
        missing_max, multiclass, no_backtracking, no_sampling, one_vs_all, poisson, poisson_newton,
        regression, seeded, sparse_columns, ties, tweedie, weights,
        weights_zero,
    }
}
