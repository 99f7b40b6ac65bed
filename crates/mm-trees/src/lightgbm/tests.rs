use std::{
    num::NonZeroUsize,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use mm_core::{
    BoxLearner, BoxModel, Cancel, Catalog, ClassWeight, Column, ColumnKind, Dataset, Direction,
    EarlyStopping, Error, FitContext, Frame, ImportanceKind, Learner as _, Levels, Matrix, Metric,
    Model as _, Output, Params as _, Schema, Signal, Signature, Step, Task,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ffi::Threads, read::Text, *};

/// Params for tables of a few dozen rows, on which LightGBM's defaults hardly split.
fn small() -> LightGbmParams {
    LightGbmParams::default().with(|p| {
        p.rounds = 10;
        p.tree.leaves = 8;
        p.tree.min_data_in_leaf = 3;
        p.bins.min_data = 1;
        p.categorical.min_data_per_group = 3;
        p.categorical.smooth = 1.0;
        p.categorical.l2 = 1.0;
    })
}

type Edit = fn(&mut LightGbmParams);

fn seeded() -> FitContext<'static> {
    FitContext::seeded(7)
}

/// The same numbers on every machine, in [0, 1).
fn noise(i: usize) -> f64 {
    let x = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11) as f64 / (1_u64 << 53) as f64
}

/// `n` rows of two numeric columns with missing cells and a categorical one; the target follows all.
fn table(n: usize, n_classes: usize) -> Dataset {
    let levels = Levels::new(["north", "south", "west", "east", "up"]).expect("distinct");
    let columns = [Column::numeric("a"), Column::numeric("b"), Column::categorical("c", levels)];
    let (mut values, mut target) = (Vec::new(), Vec::new());
    for i in 0..n {
        let (a, b, c) = (noise(3 * i), noise(3 * i + 1), (noise(3 * i + 2) * 5.0).floor());
        let signal = a + (6.0 * b).sin() / 2.0 + [0.0, 1.0, 0.3, 0.8, 0.5][c as usize];
        target.push(match n_classes {
            0 => signal + 1.0,
            k => ((signal + 0.5) / 3.0 * k as f64).floor().min((k - 1) as f64),
        });
        values.extend([a as f32, if i % 9 == 4 { f32::NAN } else { b as f32 }, c as f32]);
    }
    let frame = Frame::with_schema(values, Schema::new(columns).expect("distinct"));
    let names = (0..n_classes).map(|k| format!("class {k}"));
    let task = if n_classes == 0 { Task::Regression } else { Task::classes(names).expect("2+") };
    Dataset::new(frame.expect("valid"), task, target).expect("valid")
}

#[track_caller]
fn fit(params: LightGbmParams, data: &Dataset) -> LightGbmModel {
    let fitted = params.build().expect("valid").fit(data, &seeded());
    fitted.unwrap_or_else(|e| panic!("must fit: {}", e.chain()))
}

fn bits(matrix: &Matrix) -> Vec<u64> {
    matrix.values().iter().map(|x| x.to_bits()).collect()
}

#[track_caller]
fn predict(model: &LightGbmModel, data: &Dataset) -> Vec<u64> {
    bits(&model.predict(data.frame()).expect("predicts"))
}

fn square_error(model: &LightGbmModel, data: &Dataset) -> f64 {
    let y = model.predict(data.frame()).expect("predicts");
    let pairs = y.values().iter().zip(data.target());
    pairs.map(|(y, t)| (y - t).powi(2)).sum::<f64>() / data.n_rows() as f64
}

mod promises {
    use super::*;

    #[test]
    fn conforms() {
        let catalog = crate::register(Catalog::default());
        mm_core::conformance::check(&small().build().expect("valid"), &catalog);
    }

    #[test]
    fn every_way_of_boosting_conforms() {
        let catalog = crate::register(Catalog::default());
        let check = |edit: &dyn Fn(&mut LightGbmParams)| {
            let params = small().with(edit);
            mm_core::conformance::check(&params.build().expect("valid"), &catalog);
        };
        check(&|p| p.boosting = Boosting::Dart(Dart { skip_drop: 0.0, ..Dart::default() }));
        check(&|p| {
            p.boosting = Boosting::RandomForest;
            p.sampling.rows = RowSampling::Bagging(Bagging::of(0.7));
        });
        check(&|p| p.sampling.rows = RowSampling::Goss(Goss::default()));
        check(&|p| p.tree.linear = true);
        let ova = small().with(|p| p.objective = Objective::MulticlassOva).build().expect("valid");
        let mut can = mm_core::conformance::Checks::default();
        (can.regression, can.binary) = (false, false);
        mm_core::conformance::check_only(&ova, &catalog, can);
    }

    #[test]
    fn the_catalog_makes_it_by_name_and_refuses_misspelt_fields() {
        let catalog = crate::register(Catalog::default());
        let params = json!({"rounds": 3, "boosting": {"dart": {}}, "objective": {"quantile": {"level": 0.3}}});
        let learner: BoxLearner = catalog.learner("lightgbm", params).expect("valid");
        let model: BoxModel = learner.fit(&table(80, 0), &seeded()).expect("fits");
        assert_eq!(model.signature().outputs, [Output::Quantile(0.3)]);
        assert_eq!(model.downcast_ref::<LightGbmModel>().expect("the kind").n_trees(), 3);
        let misspelt = catalog.learner("lightgbm", json!({"tree": {"leafs": 3}}));
        assert!(misspelt.expect_err("misspelt").to_string().contains("leafs"));
        let params = LightGbmParams::default();
        let written = serde_json::to_value(&params).expect("writes");
        assert_eq!(serde_json::from_value::<LightGbmParams>(written).expect("reads"), params);
    }

    #[test]
    fn a_thread_may_share_a_model_with_others() {
        let data = table(200, 3);
        let model = fit(small(), &data);
        let expected = predict(&model, &data);
        thread::scope(|scope| {
            let run = || {
                let mut out = [0.0; 3];
                for _ in 0..20 {
                    assert_eq!(predict(&model, &data), expected);
                    model.predict_row(data.frame().row(5), &mut out).expect("predicts");
                    assert_eq!(out.map(f64::to_bits)[..], expected[15..18]);
                    assert!(model.to_text().expect("writes").starts_with("tree"));
                }
            };
            for _ in 0..4 {
                scope.spawn(run);
            }
        });
    }
}

mod domains {
    use super::*;

    #[track_caller]
    fn refused(edit: impl FnOnce(&mut LightGbmParams), expected: &str) {
        let err = LightGbmParams::default().with(edit).build().expect_err("out of its domain");
        assert_eq!(err.to_string(), expected);
    }

    #[track_caller]
    fn accepted(edit: impl FnOnce(&mut LightGbmParams)) {
        LightGbmParams::default().with(edit).build().expect("on the edge of its domain");
    }

    #[test]
    fn every_edge_of_a_count() {
        refused(|p| p.rounds = 0, "parameter `rounds` is 0; expected 1 to 2147483647");
        accepted(|p| p.rounds = 1);
        refused(|p| p.tree.leaves = 1, "parameter `tree.leaves` is 1; expected 2 to 131072");
        accepted(|p| p.tree.leaves = 2);
        accepted(|p| p.tree.leaves = 131_072);
        refused(
            |p| p.tree.leaves = 131_073,
            "parameter `tree.leaves` is 131073; expected 2 to 131072",
        );
        refused(
            |p| p.tree.max_depth = Some(0),
            "parameter `tree.max_depth` is 0; expected 1 to 2147483647",
        );
        accepted(|p| p.tree.max_depth = Some(1));
        accepted(|p| p.tree.min_data_in_leaf = 0);
        refused(
            |p| p.tree.min_data_in_leaf = usize::MAX,
            "parameter `tree.min_data_in_leaf` is 18446744073709551615; expected 0 to 2147483647",
        );
        refused(|p| p.bins.max = 1, "parameter `bins.max` is 1; expected 2 to 2147483647");
        accepted(|p| p.bins.max = 2);
        refused(
            |p| p.bins.min_data = 0,
            "parameter `bins.min_data` is 0; expected 1 to 2147483647",
        );
        refused(
            |p| p.categorical.max_threshold = 0,
            "parameter `categorical.max_threshold` is 0; expected 1 to 2147483647",
        );
        refused(
            |p| p.categorical.max_onehot = 0,
            "parameter `categorical.max_onehot` is 0; expected 1 to 2147483647",
        );
        refused(
            |p| p.categorical.min_data_per_group = 0,
            "parameter `categorical.min_data_per_group` is 0; expected 1 to 2147483647",
        );
        refused(
            |p| p.boosting = Boosting::Dart(Dart { max_drop: Some(0), ..Dart::default() }),
            "parameter `boosting.dart.max_drop` is 0; expected 1 to 2147483647",
        );
    }

    #[test]
    fn every_edge_of_a_number() {
        type Field = fn(&mut LightGbmParams) -> &mut f64;
        let edges: [(Field, &str, &[f64], &[f64]); 11] = [
            (|p| &mut p.learning_rate, "learning_rate", &[0.0, -1.0], &[1e-9, 2.0]),
            (|p| &mut p.scale_pos_weight, "scale_pos_weight", &[0.0], &[1e-9, 5.0]),
            (|p| &mut p.tree.min_hessian_in_leaf, "tree.min_hessian_in_leaf", &[-1e-9], &[0.0]),
            (|p| &mut p.sampling.columns, "sampling.columns", &[0.0, 1.1], &[1e-9, 1.0]),
            (
                |p| &mut p.sampling.columns_per_node,
                "sampling.columns_per_node",
                &[0.0, 1.1],
                &[1e-9, 1.0],
            ),
            (|p| &mut p.penalty.l1, "penalty.l1", &[-1e-9], &[0.0]),
            (|p| &mut p.penalty.l2, "penalty.l2", &[-1e-9], &[0.0]),
            (|p| &mut p.penalty.min_gain, "penalty.min_gain", &[-1e-9], &[0.0]),
            (|p| &mut p.penalty.path_smooth, "penalty.path_smooth", &[-1e-9], &[0.0, 1.0]),
            (|p| &mut p.categorical.smooth, "categorical.smooth", &[-1e-9], &[0.0]),
            (|p| &mut p.categorical.l2, "categorical.l2", &[-1e-9], &[0.0]),
        ];
        for (field, name, outside, inside) in edges {
            for &bad in outside.iter().chain(&[f64::NAN, f64::INFINITY]) {
                let err = LightGbmParams::default().with(|p| *field(p) = bad).build();
                assert_eq!(err.expect_err("outside").name, name, "{bad}");
            }
            for &good in inside {
                accepted(|p| *field(p) = good);
            }
        }
    }

    #[test]
    fn every_edge_of_an_alternative() {
        for level in [0.0, 1.0, f64::NAN] {
            let name = format!(
                "parameter `objective.quantile.level` is {level}; expected a number in (0, 1)"
            );
            refused(|p| p.objective = Objective::Quantile { level }, &name);
        }
        for (power, ok) in [(0.9, false), (1.0, true), (1.9, true), (2.0, false)] {
            let objective = Objective::Tweedie { power };
            let built = LightGbmParams::default().with(|p| p.objective = objective).build();
            assert_eq!(built.is_ok(), ok, "{power}");
        }
        for (size, ok) in [(0.0, false), (1e-9, true), (f64::NAN, false)] {
            for objective in [Objective::Huber { alpha: size }, Objective::Fair { c: size }] {
                let built = LightGbmParams::default().with(|p| p.objective = objective).build();
                assert_eq!(built.is_ok(), ok, "{objective:?}");
            }
            let built =
                LightGbmParams::default().with(|p| p.penalty.max_delta_step = Some(size)).build();
            assert_eq!(built.is_ok(), ok, "{size}");
            let rows = RowSampling::Bagging(Bagging { positive: size, ..Bagging::default() });
            let built = LightGbmParams::default().with(|p| p.sampling.rows = rows).build();
            assert_eq!(built.is_ok(), ok, "{size}");
        }
        for (top_rate, other_rate, ok) in [(0.5, 0.5, true), (0.6, 0.5, false), (0.0, 0.5, false)] {
            let rows = RowSampling::Goss(Goss { top_rate, other_rate });
            let built = LightGbmParams::default().with(|p| p.sampling.rows = rows).build();
            assert_eq!(built.is_ok(), ok, "{top_rate} {other_rate}");
        }
        for (rate, ok) in [(-0.1, false), (0.0, true), (1.0, true), (1.1, false)] {
            let dart = Dart { drop_rate: rate, skip_drop: rate, ..Dart::default() };
            let built =
                LightGbmParams::default().with(|p| p.boosting = Boosting::Dart(dart)).build();
            assert_eq!(built.is_ok(), ok, "{rate}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        refused(
            |p| p.histogram = Histogram::Auto,
            "parameter `histogram` is auto; expected columns or rows with `deterministic`",
        );
        accepted(|p| (p.histogram, p.deterministic) = (Histogram::Auto, false));
        refused(
            |p| p.boosting = Boosting::RandomForest,
            "parameter `sampling` is everything; expected a fraction below 1 of rows or columns \
             with a random forest",
        );
        refused(
            |p| (p.tree.linear, p.objective) = (true, Objective::L1),
            "parameter `tree.linear` is true; expected false with the objective `l1`",
        );
        refused(
            |p| (p.penalty.path_smooth, p.tree.min_data_in_leaf) = (1.0, 1),
            "parameter `tree.min_data_in_leaf` is 1; expected at least 2 with `path_smooth`",
        );
        refused(
            |p| {
                p.objective = Objective::L1;
                p.constraints.monotone.insert("a".to_owned(), Monotone::Increasing);
            },
            "parameter `constraints.monotone` is 1; expected none with an objective that is a \
             median or a quantile",
        );
        refused(
            |p| {
                p.boosting = Boosting::Dart(Dart::default());
                p.early_stopping = Some(EarlyStopping::after(3));
            },
            "parameter `early_stopping` is some; expected none with DART",
        );
        refused(
            |p| {
                p.engine_metric = Some(EngineMetric::Auc);
                p.early_stopping = Some(EarlyStopping::after(3));
                p.early_stopping.as_mut().expect("just set").metric = Some(Metric::LogLoss);
            },
            "parameter `early_stopping.metric` is some; expected none beside `engine_metric`",
        );
        refused(
            |p| p.early_stopping = Some(EarlyStopping::after(0)),
            "parameter `early_stopping.rounds` is 0; expected at least 1",
        );
        refused(
            |p| p.class_weight = ClassWeight::Explicit([("x".to_owned(), -1.0)].into()),
            "parameter `class_weight.x` is -1; expected a finite number ≥ 0",
        );
    }

    #[test]
    fn extra_parameters_are_known_to_the_engine_and_to_no_field() {
        let extra = |key: &str, value: &str| {
            let extra = [(key.to_owned(), value.to_owned())].into();
            LightGbmParams::default().with(|p| p.extra = extra).build()
        };
        extra("boost_from_average", "false").expect("a parameter of LightGBM");
        extra("unbalance", "true").expect("an alias of a parameter of LightGBM");
        let shown = |key, value| extra(key, value).expect_err("refused").to_string();
        assert_eq!(
            shown("num_leafs", "7"),
            "parameter `extra.num_leafs` is 7; expected a parameter of LightGBM 4.7"
        );
        assert_eq!(
            shown("max_leaves", "7"),
            "parameter `extra.max_leaves` is 7; expected `tree.leaves` in its place"
        );
        assert_eq!(
            shown("n_jobs", "7"),
            "parameter `extra.n_jobs` is 7; expected the thread budget of the context in its place"
        );
        assert_eq!(
            shown("sigmoid", "1 num_leaves=2"),
            "parameter `extra.sigmoid` is \"1 num_leaves=2\"; expected a value without blanks, \
             quotes, and equals signs"
        );
    }

    #[test]
    fn a_value_that_the_engine_cannot_read_is_refused_by_build() {
        let extra = [("sigmoid".to_owned(), "many".to_owned())].into();
        let err =
            LightGbmParams::default().with(|p| p.extra = extra).build().expect_err("no number");
        assert_eq!(
            err.to_string(),
            "parameter `extra.sigmoid` is many; expected what LightGBM accepts: Unknown \
             token many in data file"
        );
    }

    #[test]
    fn every_parameter_that_a_field_writes_is_closed_to_extra() {
        let mut all = LightGbmParams::default().with(|p| {
            p.boosting = Boosting::Dart(Dart::default());
            p.constraints.monotone.insert("a".to_owned(), Monotone::Increasing);
            p.constraints.interactions = vec![vec!["a".to_owned(), "b".to_owned()]];
        });
        let rows = [RowSampling::Bagging(Bagging::default()), RowSampling::Goss(Goss::default())];
        let objectives = [
            Objective::Huber { alpha: 1.0 },
            Objective::Fair { c: 1.0 },
            Objective::Tweedie { power: 1.5 },
        ];
        for (i, objective) in objectives.into_iter().enumerate() {
            all.objective = objective;
            all.sampling.rows = rows[i % 2].clone();
            let data = table(5, 0);
            let config = all.to_config(data.frame().schema(), data.task(), 7).expect("fits");
            for pair in config.split(' ') {
                let (key, value) = pair.split_once('=').expect("a pair");
                let extra = [(key.to_owned(), value.to_owned())].into();
                let err = LightGbmParams::default().with(|p| p.extra = extra).build();
                assert!(err.expect_err(key).expected.ends_with("in its place"), "{key}");
            }
        }
    }

    #[test]
    fn an_extra_parameter_reaches_the_engine() {
        let data = table(200, 0);
        let plain = fit(small(), &data);
        let shifted = fit(
            small().with(|p| {
                p.extra.insert("boost_from_average".to_owned(), "false".to_owned());
            }),
            &data,
        );
        assert_ne!(predict(&plain, &data), predict(&shifted, &data));
        assert!(shifted.to_text().expect("writes").contains("[boost_from_average: 0]"));
    }

    #[test]
    fn the_defaults_are_the_engines_own() {
        let data = table(300, 0);
        let ours = fit(LightGbmParams::default(), &data).to_text().expect("writes");
        let ours: Vec<&str> = ours.lines().filter(|line| line.starts_with('[')).collect();
        // What LightGBM's documentation gives as the default, where a field of ours writes it.
        for line in [
            "[boosting: gbdt]",
            "[objective: regression]",
            "[data_sample_strategy: bagging]",
            "[num_iterations: 100]",
            "[learning_rate: 0.1]",
            "[num_leaves: 31]",
            "[max_depth: -1]",
            "[min_data_in_leaf: 20]",
            "[min_sum_hessian_in_leaf: 0.001]",
            "[bagging_fraction: 1]",
            "[bagging_freq: 0]",
            "[feature_fraction: 1]",
            "[feature_fraction_bynode: 1]",
            "[extra_trees: 0]",
            "[max_delta_step: 0]",
            "[lambda_l1: 0]",
            "[lambda_l2: 0]",
            "[min_gain_to_split: 0]",
            "[min_data_per_group: 100]",
            "[max_cat_threshold: 32]",
            "[cat_l2: 10]",
            "[cat_smooth: 10]",
            "[max_cat_to_onehot: 4]",
            "[path_smooth: 0]",
            "[linear_tree: 0]",
            "[max_bin: 255]",
            "[min_data_in_bin: 3]",
            "[scale_pos_weight: 1]",
            "[deterministic: 1]",  // Not LightGBM's.
            "[force_col_wise: 1]", // Not LightGBM's.
        ] {
            assert!(ours.contains(&line), "{line} in {ours:#?}");
        }
    }
}

mod fitting {
    use super::*;

    #[test]
    fn each_objective_trains_and_beats_a_constant() {
        let data = table(300, 0);
        let constant = {
            let mean = data.target().iter().sum::<f64>() / 300.0;
            data.target().iter().map(|y| (y - mean).powi(2)).sum::<f64>() / 300.0
        };
        for objective in [
            Objective::Auto,
            Objective::L2,
            Objective::L1,
            Objective::Huber { alpha: 0.9 },
            Objective::Fair { c: 1.0 },
            Objective::Poisson,
            Objective::Mape,
            Objective::Gamma,
            Objective::Tweedie { power: 1.5 },
        ] {
            let model = fit(small().with(|p| (p.objective, p.rounds) = (objective, 60)), &data);
            let error = square_error(&model, &data);
            assert!(error < constant / 2.0, "{objective:?}: {error}, a constant has {constant}");
            let task = table(80, 2);
            let refused = small().with(|p| p.objective = objective).build().expect("valid");
            let refused = refused.fit(&task, &seeded());
            assert_eq!(refused.is_ok(), objective == Objective::Auto, "{objective:?}");
        }
        for (objective, n_classes) in [
            (Objective::Binary, 2),
            (Objective::CrossEntropy, 2),
            (Objective::Multiclass, 3),
            (Objective::MulticlassOva, 3),
        ] {
            let data = table(300, n_classes);
            let model = fit(small().with(|p| (p.objective, p.rounds) = (objective, 60)), &data);
            let y = model.predict(data.frame()).expect("predicts");
            let hit = |(i, &class): (usize, &f64)| match y.row(i) {
                [p] => (0.5 < *p) == (class == 1.0),
                row => row.iter().all(|p| *p <= row[class as usize]),
            };
            let hits = data.target().iter().enumerate().filter(|&pair| hit(pair)).count();
            assert!(270 < hits, "{objective:?}: {hits} of 300 right");
        }
    }

    #[test]
    fn quantiles_part_the_training_rows_at_their_level() {
        let data = table(400, 0);
        for level in [0.1, 0.5, 0.9] {
            let params = small().with(|p| {
                p.objective = Objective::Quantile { level };
                (p.rounds, p.tree.leaves) = (100, 4);
            });
            let model = fit(params, &data);
            assert_eq!(model.signature().outputs, [Output::Quantile(level)]);
            let y = model.predict(data.frame()).expect("predicts");
            let below = y.values().iter().zip(data.target()).filter(|(q, t)| t <= q).count();
            // Leaves hold the level's quantile of at least 3 rows: off by less than a row in each.
            let share = below as f64 / 400.0;
            assert!((share - level).abs() < 0.1, "{share} of the rows lie below, level {level}");
        }
    }

    #[test]
    fn targets_outside_an_objectives_domain_are_refused() {
        let frame = Frame::new(vec![1.0, 2.0, 3.0], 1).expect("valid");
        let negative = Dataset::regression(frame.clone(), vec![1.0, -1.0, 2.0]).expect("valid");
        let zeros = Dataset::regression(frame.clone(), vec![0.0; 3]).expect("valid");
        let poisson = small().with(|p| p.objective = Objective::Poisson).build().expect("valid");
        let err = poisson.fit(&negative, &seeded()).expect_err("negative");
        assert_eq!(
            err.to_string(),
            "target, row 1: expected a number ≥ 0 for this objective, got -1"
        );
        let err = poisson.fit(&zeros, &seeded()).expect_err("all 0");
        assert_eq!(
            err.to_string(),
            "target: expected a number above 0 for this objective, got all 0"
        );
        let huge = Dataset::regression(frame, vec![0.0, 0.0, 1e39]).expect("valid");
        let err = small().build().expect("valid").fit(&huge, &seeded()).expect_err("too large");
        assert!(err.to_string().starts_with("target, row 2: expected a number within the range"));
    }

    #[test]
    fn settings_that_the_objective_would_ignore_are_refused() {
        let refused = |edit: &dyn Fn(&mut LightGbmParams), n_classes| {
            let learner = small().with(edit).build().expect("valid");
            learner.fit(&table(60, n_classes), &seeded()).expect_err("ignored").to_string()
        };
        assert_eq!(
            refused(&|p| p.scale_pos_weight = 2.0, 0),
            "`scale_pos_weight`: expected a binary or one-against-all objective, got regression"
        );
        let by_class = Bagging { positive: 0.5, ..Bagging::default() };
        assert_eq!(
            refused(&|p| p.sampling.rows = RowSampling::Bagging(by_class.clone()), 3),
            "bagging by class: expected the objective `binary`, got multiclass"
        );
        assert_eq!(
            refused(&|p| p.engine_metric = Some(EngineMetric::MultiError), 2),
            "task of the data: expected one for the metric `multi_error`, got binary (positive \
             class `class 1`)"
        );
        assert_eq!(
            refused(&|p| p.class_weight = ClassWeight::Balanced, 0),
            "class weights: expected classification, got regression"
        );
    }

    #[test]
    fn each_group_of_params_changes_the_model() {
        let data = table(400, 2);
        let plain = predict(&fit(small(), &data), &data);
        let edits: [(&str, Edit); 27] = [
            ("rounds", |p| p.rounds = 11),
            ("learning_rate", |p| p.learning_rate = 0.2),
            ("dart", |p| p.boosting = Boosting::Dart(Dart { skip_drop: 0.0, ..Dart::default() })),
            ("forest", |p| {
                p.boosting = Boosting::RandomForest;
                p.sampling.columns = 0.7;
            }),
            ("leaves", |p| p.tree.leaves = 4),
            ("max_depth", |p| p.tree.max_depth = Some(2)),
            ("min_data_in_leaf", |p| p.tree.min_data_in_leaf = 40),
            ("min_hessian_in_leaf", |p| p.tree.min_hessian_in_leaf = 12.0),
            ("extra_trees", |p| p.tree.extra_trees = true),
            ("linear", |p| p.tree.linear = true),
            ("bagging", |p| p.sampling.rows = RowSampling::Bagging(Bagging::of(0.5))),
            ("bagging by class", |p| {
                p.sampling.rows =
                    RowSampling::Bagging(Bagging { negative: 0.5, ..Bagging::default() });
            }),
            ("goss", |p| {
                p.sampling.rows = RowSampling::Goss(Goss::default());
                p.learning_rate = 0.5; // It starts after 1 / rate rounds.
            }),
            ("columns", |p| p.sampling.columns = 0.5),
            ("columns_per_node", |p| p.sampling.columns_per_node = 0.5),
            ("l1", |p| p.penalty.l1 = 1.0),
            ("l2", |p| p.penalty.l2 = 1.0),
            ("min_gain", |p| p.penalty.min_gain = 5.0),
            ("max_delta_step", |p| p.penalty.max_delta_step = Some(0.1)),
            ("path_smooth", |p| p.penalty.path_smooth = 5.0),
            ("bins", |p| p.bins.max = 8),
            ("max_onehot", |p| p.categorical.max_onehot = 10),
            ("smooth", |p| p.categorical.smooth = 50.0),
            ("categorical.l2", |p| p.categorical.l2 = 50.0),
            ("class_weight", |p| p.class_weight = ClassWeight::Balanced),
            ("scale_pos_weight", |p| p.scale_pos_weight = 3.0),
            ("interactions", |p| {
                p.constraints.interactions = vec![vec!["a".to_owned()], vec!["b".to_owned()]];
            }),
        ];
        for (name, edit) in edits {
            let model = fit(small().with(edit), &data);
            assert!(predict(&model, &data) != plain, "`{name}` is not ignored");
        }
    }

    #[test]
    fn class_weights_count_like_row_weights() {
        let data = table(200, 2);
        let factor = |class: f64| if class == 1.0 { 3.0 } else { 1.0 };
        let weights = data.target().iter().map(|&class| factor(class)).collect();
        let by_row = fit(small(), &data.clone().with_weights(weights).expect("valid"));
        let explicit = ClassWeight::Explicit([("class 1".to_owned(), 3.0)].into());
        let by_class = fit(small().with(|p| p.class_weight = explicit), &data);
        assert_eq!(predict(&by_row, &data), predict(&by_class, &data));
    }

    #[test]
    fn levels_matter_as_sets_and_not_as_numbers() {
        // Odd codes are high: one split on a set of levels, many on a number.
        let names = (0..12).map(|code| format!("level {code}"));
        let levels = Levels::new(names).expect("distinct");
        let values: Vec<f32> = (0..240).map(|i| (i % 12) as f32).collect();
        let target: Vec<f64> = (0..240).map(|i| f64::from(i % 2)).collect();
        let params = || {
            small().with(|p| {
                (p.rounds, p.tree.leaves, p.learning_rate) = (1, 2, 1.0);
                (p.categorical.l2, p.categorical.smooth) = (0.0, 0.0);
            })
        };
        let error = |column: Column| {
            let schema = Schema::new([column]).expect("one column");
            let frame = Frame::with_schema(values.clone(), schema).expect("valid");
            let data = Dataset::regression(frame, target.clone()).expect("valid");
            square_error(&fit(params(), &data), &data)
        };
        assert!(error(Column::categorical("c", levels)) < 1e-12, "a set of levels parts them");
        assert!(0.2 < error(Column::numeric("c")), "one threshold cannot");
    }

    #[test]
    fn an_unknown_level_is_missing_and_no_level() {
        let levels = Levels::new(["a", "b", "c"]).expect("distinct");
        let schema = Schema::new([Column::categorical("c", levels)]).expect("one column");
        let codes = |unknown: f32| {
            let cell = |i: i32| if i % 4 == 3 { unknown } else { (i % 4) as f32 };
            let values = (0..200).map(cell).collect();
            let target = (0..200).map(|i| f64::from(i % 4)).collect();
            let frame = Frame::with_schema(values, schema.clone()).expect("valid");
            Dataset::regression(frame, target).expect("valid")
        };
        let (unknown, missing) = (codes(Frame::UNKNOWN), codes(f32::NAN));
        let (a, b) = (fit(small(), &unknown), fit(small(), &missing));
        assert_eq!(predict(&a, &unknown), predict(&b, &missing));
        assert_eq!(predict(&a, &missing), predict(&a, &unknown));
    }

    #[test]
    fn weights_of_a_view_and_its_rows_belong_together() {
        let data = table(500, 0);
        let data = data.with_weights((0..500).map(|i| 1.0 + f64::from(i % 3)).collect());
        let data = data.expect("valid");
        // Long runs, which are handed over as they lie, and scattered rows, which are copied.
        let runs: Vec<usize> = (300..500).chain(0..200).collect();
        let scattered: Vec<usize> = (0..500).filter(|i| i % 3 != 1).rev().collect();
        for rows in [runs, scattered] {
            let view = data.take(&rows);
            assert!(view.frame().as_slice().is_none());
            let values = view.frame().values().into_owned();
            let frame = Frame::with_schema(values, view.frame().schema().clone()).expect("valid");
            let copy = view.with_frame(frame).expect("length");
            assert_eq!(predict(&fit(small(), &view), &data), predict(&fit(small(), &copy), &data));
        }
    }

    #[test]
    fn rows_that_cannot_be_split_end_the_fit_without_error() {
        let frame = Frame::new(vec![1.0; 30], 1).expect("valid");
        let data = Dataset::regression(frame, (0..30).map(f64::from).collect()).expect("valid");
        let model = fit(small(), &data);
        assert_eq!(model.n_trees(), 1);
        let y = model.predict(data.frame()).expect("predicts");
        assert!(y.values().iter().all(|y| (y - 14.5).abs() < 1e-6), "the mean, in `f32`");
    }

    #[test]
    fn column_names_that_the_engine_refuses_stay_ours() {
        let names = ["a b", "a_b", "x[1]", "", "größe", "k=v", "a\tb"];
        let schema = Schema::new(names.map(Column::numeric)).expect("distinct");
        let values = (0..70 * 7).map(|i| noise(i) as f32).collect();
        let frame = Frame::with_schema(values, schema.clone()).expect("valid");
        let target = frame.column(4).map(f64::from).collect();
        let data = Dataset::regression(frame, target).expect("valid");
        let model = fit(small(), &data);
        assert_eq!(model.signature().schema, schema);
        let text = model.to_text().expect("writes");
        let line = "feature_names=a_b a_b_2 x_1_ Column_3 größe k=v a_b_3";
        assert!(text.lines().any(|l| l == line), "{text}");
        let imported = LightGbmModel::from_text_as(&text, Signature::new(schema, Task::Regression))
            .expect("reads");
        assert_eq!(predict(&imported, &data), predict(&model, &data));
    }

    #[test]
    fn an_engine_error_is_a_source() {
        let learner = small().with(|p| p.device = Device::Gpu).build().expect("valid");
        let err = learner.fit(&table(60, 0), &seeded()).expect_err("no such device in this build");
        let Error::Engine { engine: "lightgbm", source } = &err else { panic!("{err:?}") };
        let source = source.downcast_ref::<LightGbmError>().expect("the engine's own error");
        assert!(matches!(source, LightGbmError::Native(_)));
        assert!(err.chain().starts_with("lightgbm failed: GPU Tree Learner was not enabled"));
    }

    #[test]
    fn importances_count_gain_splits_and_rows() {
        let data = table(300, 0);
        let params = small().with(|p| (p.rounds, p.tree.leaves) = (1, 2));
        let model = fit(params, &data);
        let of = |model: &LightGbmModel, kind| {
            model.as_importance().expect("has them").importance(kind).expect("known")
        };
        let count = of(&model, ImportanceKind::Count);
        assert_eq!(count.iter().sum::<f64>(), 1.0, "one split");
        let used = count.iter().position(|&n| n == 1.0).expect("one split");
        let cover = of(&model, ImportanceKind::Cover);
        assert_eq!((cover[used], cover.iter().sum()), (300.0, 300.0), "all rows came through it");
        assert!(0.0 < of(&model, ImportanceKind::Gain)[used]);
        assert_eq!(of(&fit(small(), &data), ImportanceKind::Gain).len(), 3);
    }
}

mod running {
    use super::*;

    #[test]
    fn threads_change_no_bit() {
        let edits: [(&str, usize, Edit); 14] = [
            ("l2", 0, |_| {}),
            ("binary", 2, |_| {}),
            ("multiclass", 3, |_| {}),
            ("l1", 0, |p| p.objective = Objective::L1),
            ("quantile", 0, |p| p.objective = Objective::Quantile { level: 0.3 }),
            ("poisson", 0, |p| p.objective = Objective::Poisson),
            ("cross-entropy", 2, |p| p.objective = Objective::CrossEntropy),
            ("one against all", 3, |p| p.objective = Objective::MulticlassOva),
            ("dart", 0, |p| p.boosting = Boosting::Dart(Dart::default())),
            ("bagging", 0, |p| p.sampling.rows = RowSampling::Bagging(Bagging::of(0.6))),
            ("goss", 0, |p| {
                p.learning_rate = 0.5;
                p.sampling.rows = RowSampling::Goss(Goss::default());
            }),
            ("linear", 0, |p| p.tree.linear = true),
            ("rows", 0, |p| p.histogram = Histogram::Rows),
            ("quantised", 0, |p| {
                p.extra.insert("use_quantized_grad".to_owned(), "true".to_owned());
            }),
        ];
        for (name, n_classes, edit) in edits {
            // More rows than the 1024 below which LightGBM stays on one thread.
            let data = table(5000, n_classes);
            let learner = small().with(edit).with(|p| p.tree.leaves = 31).build().expect("valid");
            let [one, two, four] = [1, 2, 4].map(|threads| {
                let model = learner.fit(&data, &seeded().with_threads(threads)).expect("fits");
                model.to_envelope().expect("seals").into_bytes()
            });
            assert!(one == two && one == four, "{name}: 1, 2 and 4 threads give the same bytes");
        }
    }

    #[test]
    fn fits_side_by_side_with_unlike_budgets_do_not_meet() {
        let data = table(3000, 0);
        let learner = small().with(|p| p.rounds = 20).build().expect("valid");
        let fit = |threads: usize| {
            let model = learner.fit(&data, &seeded().with_threads(threads)).expect("fits");
            model.to_envelope().expect("seals").into_bytes()
        };
        let expected = fit(1);
        thread::scope(|scope| {
            for threads in [1, 2, 3, 4, 2, 1] {
                let (fit, expected) = (&fit, &expected);
                scope.spawn(move || {
                    for _ in 0..3 {
                        assert!(fit(threads) == *expected, "{threads} threads beside others");
                    }
                });
            }
        });
    }

    #[test]
    fn the_seed_decides_what_is_drawn() {
        let data = table(300, 0);
        let rows = RowSampling::Bagging(Bagging::of(0.5));
        let learner = small().with(|p| p.sampling.rows = rows).build().expect("valid");
        let fit = |seed| learner.fit(&data, &FitContext::seeded(seed)).expect("fits");
        assert_eq!(predict(&fit(3), &data), predict(&fit(3), &data));
        assert_ne!(predict(&fit(3), &data), predict(&fit(4), &data));
        assert_ne!(predict(&fit(3), &data), predict(&fit(3 + (1 << 40)), &data));
    }

    #[test]
    fn the_observer_hears_every_round_with_the_engines_metric() {
        let (data, held_out) = (table(200, 2), table(260, 2).take(&(200..260).collect::<Vec<_>>()));
        let heard = Mutex::new(Vec::new());
        let observer = |step: &Step<'_>| {
            let mut heard = heard.lock().expect("nobody panicked");
            heard.push((step.iteration, step.total, step.metrics.to_vec()));
            Signal::Continue
        };
        let learner = small()
            .with(|p| p.engine_metric = Some(EngineMetric::BinaryLogloss))
            .build()
            .expect("valid");
        let ctx = seeded().with_validation(&held_out).with_observer(&observer);
        let model = learner.fit(&data, &ctx).expect("fits");
        assert_eq!((model.n_rounds(), model.best_iteration()), (10, None));
        let heard = heard.into_inner().expect("nobody panicked");
        assert_eq!(heard.len(), 10);
        for (i, (iteration, total, metrics)) in heard.iter().enumerate() {
            assert_eq!((*iteration, *total), (i + 1, 10));
            assert_eq!(metrics.len(), 1);
            assert_eq!(metrics[0].0, "binary_logloss");
        }
        let y = model.predict(held_out.frame()).expect("predicts");
        let loss = |(p, t): (&f64, &f64)| -if *t == 1.0 { p.ln() } else { (1.0 - p).ln() };
        let loss = y.values().iter().zip(held_out.target()).map(loss).sum::<f64>() / 60.0;
        // LightGBM sums raw scores in another order.
        assert!((heard[9].2[0].1 - loss).abs() < 1e-9, "the metric is that of the model so far");
    }

    #[test]
    fn a_fit_can_be_ended_at_any_round() {
        let data = table(200, 0);
        let learner = small().build().expect("valid");
        for at in [1, 4] {
            let end = |signal| {
                move |step: &Step<'_>| {
                    if step.iteration == at { signal } else { Signal::Continue }
                }
            };
            let stop = end(Signal::Stop);
            let stopped = learner.fit(&data, &seeded().with_observer(&stop)).expect("a model");
            assert_eq!(stopped.n_rounds(), at);
            let short = fit(small().with(|p| p.rounds = at), &data);
            assert_eq!(predict(&stopped, &data), predict(&short, &data));
            let abort = end(Signal::Abort);
            let aborted = learner.fit(&data, &seeded().with_observer(&abort));
            assert!(matches!(aborted, Err(Error::Cancelled)));
            let (cancel, rounds) = (Cancel::default(), AtomicUsize::new(0));
            let observer = |step: &Step<'_>| {
                rounds.store(step.iteration, Ordering::Relaxed);
                if step.iteration == at {
                    cancel.cancel();
                }
                Signal::Continue
            };
            let ctx = seeded().with_observer(&observer).with_cancel(&cancel);
            assert!(matches!(learner.fit(&data, &ctx), Err(Error::Cancelled)));
            assert_eq!(rounds.into_inner(), at, "the next round ends the fit unheard");
        }
    }

    #[test]
    fn a_deadline_returns_the_model_so_far_or_says_that_there_is_none() {
        let data = table(200, 0);
        let learner = small().build().expect("valid");
        let deadline = Instant::now() + Duration::from_secs(1);
        let observer = |step: &Step<'_>| {
            if step.iteration == 2 {
                thread::sleep(deadline.saturating_duration_since(Instant::now()));
            }
            Signal::Continue
        };
        let ctx = seeded().with_deadline(deadline).with_observer(&observer);
        assert_eq!(learner.fit(&data, &ctx).expect("a model").n_rounds(), 2);
        let late = learner.fit(&data, &seeded().with_deadline(Instant::now()));
        assert!(matches!(late, Err(Error::Deadline)));
    }

    #[test]
    fn early_stopping_keeps_the_best_round() {
        let data = table(300, 2);
        let (train, test): (Vec<usize>, Vec<usize>) = (0..300).partition(|i| i % 3 != 0);
        // Labels turned over in part: past some round the trees learn the noise.
        let turned = |data: Dataset| {
            let flip = |(i, &y): (usize, &f64)| if noise(i + 7) < 0.25 { 1.0 - y } else { y };
            let target = data.target().iter().enumerate().map(flip).collect();
            Dataset::new(data.frame().clone(), data.task().clone(), target).expect("valid")
        };
        let (train, test) = (turned(data.take(&train)), data.take(&test));
        for metric in [EngineMetric::BinaryLogloss, EngineMetric::Auc] {
            let params = small().with(|p| {
                (p.rounds, p.engine_metric) = (500, Some(metric));
                p.early_stopping = Some(EarlyStopping::after(5));
            });
            let scores = Mutex::new(Vec::new());
            let observer = |step: &Step<'_>| {
                scores.lock().expect("nobody panicked").push(step.metrics[0].1);
                Signal::Continue
            };
            let ctx = seeded().with_validation(&test).with_observer(&observer);
            let model = params.clone().build().expect("valid").fit(&train, &ctx).expect("fits");
            let scores = scores.into_inner().expect("nobody panicked");
            let best = match metric.direction() {
                Direction::Minimize => scores.iter().copied().fold(f64::INFINITY, f64::min),
                Direction::Maximize => scores.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            };
            let best = 1 + scores.iter().position(|&s| s == best).expect("one of them");
            assert_eq!(model.best_iteration(), Some(best));
            assert_eq!((model.n_rounds(), scores.len()), (best, best + 5));
            let plain = params.with(|p| (p.rounds, p.early_stopping) = (best, None));
            assert_eq!(predict(&model, &data), predict(&fit(plain, &train), &data));
            let bytes = model.to_envelope().expect("seals").into_bytes();
            let opened = crate::register(Catalog::default()).open(&bytes).expect("opens");
            let opened = opened.downcast_ref::<LightGbmModel>().expect("the kind");
            assert_eq!(opened.best_iteration(), Some(best));
        }
    }

    #[test]
    fn without_validation_data_early_stopping_does_nothing() {
        let stopping = small().with(|p| p.early_stopping = Some(EarlyStopping::after(1)));
        let model = fit(stopping, &table(200, 0));
        assert_eq!((model.n_rounds(), model.best_iteration()), (10, None));
    }

    #[test]
    fn lengths_beyond_an_int_are_refused() {
        let threads = Threads::new(NonZeroUsize::MAX);
        assert!(matches!(
            ffi::Table::new(&[&[]], 1 << 40, "", None, threads),
            Err(LightGbmError::TooLarge { what: "columns", got }) if got == 1 << 40
        ));
    }
}

mod constraints {
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whatever the data and the method, a prediction never moves against its constraint.
        #[test]
        fn monotone_constraints_hold(
            seed in 0_usize..10_000, falling in any::<bool>(), method in 0..3,
        ) {
            let n = 120;
            let values: Vec<f32> = (0..2 * n).map(|i| noise(i + seed) as f32).collect();
            let frame = Frame::new(values, 2).expect("valid");
            let target = (0..n).map(|i| noise(i * 7 + seed) + f64::from(frame.row(i)[0])).collect();
            let data = Dataset::regression(frame, target).expect("valid");
            let direction = if falling { Monotone::Decreasing } else { Monotone::Increasing };
            let model = fit(small().with(|p| {
                p.constraints.monotone.insert("f0".to_owned(), direction);
                p.constraints.method = match method {
                    0 => MonotoneMethod::Basic,
                    1 => MonotoneMethod::Intermediate,
                    _ => MonotoneMethod::Advanced,
                };
            }), &data);
            for other in [0.1, 0.5, 0.9] {
                let line = (0..=50).flat_map(|i| [i as f32 / 50.0, other]).collect();
                let y = model.predict(&Frame::new(line, 2).expect("valid")).expect("predicts");
                for pair in y.values().windows(2) {
                    let ok = if falling { pair[1] <= pair[0] } else { pair[0] <= pair[1] };
                    prop_assert!(ok, "{} then {} on a {:?} column", pair[0], pair[1], direction);
                }
            }
        }
    }

    #[test]
    fn columns_that_may_not_interact_share_no_tree() {
        let data = table(300, 0);
        let params = small().with(|p| {
            let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
            p.constraints.interactions = vec![list(&["a"]), list(&["b", "c"])];
        });
        let text = fit(params, &data).to_text().expect("writes");
        let trees: Vec<Vec<&str>> = text
            .lines()
            .filter_map(|line| line.strip_prefix("split_feature="))
            .map(|line| line.split(' ').collect())
            .collect();
        assert_eq!(trees.len(), 10);
        // Every path starts at the root, so a root on `a` allows `a` alone, one on `b` or `c` both.
        for tree in trees {
            let mixed = tree.contains(&"0") && (tree.contains(&"1") || tree.contains(&"2"));
            assert!(!mixed, "{tree:?}");
        }
    }

    #[test]
    fn constraints_on_columns_that_are_not_there_are_refused_by_name() {
        let refused = |edit: &dyn Fn(&mut LightGbmParams)| {
            let learner = small().with(edit).build().expect("valid");
            learner.fit(&table(60, 0), &seeded()).expect_err("refused").to_string()
        };
        let monotone = |name: &'static str| {
            move |p: &mut LightGbmParams| {
                p.constraints.monotone.insert(name.to_owned(), Monotone::Increasing);
            }
        };
        assert_eq!(
            refused(&monotone("z")),
            "constraints.monotone: expected columns of the data (a, b, c), got `z`"
        );
        assert_eq!(
            refused(&monotone("c")),
            "constraints.monotone: expected numeric columns, got categorical `c`"
        );
        assert_eq!(
            refused(&|p| p.constraints.interactions = vec![vec!["y".to_owned()]]),
            "constraints.interactions: expected columns of the data (a, b, c), got `y`"
        );
    }
}

mod warm_start {
    use super::*;

    #[test]
    fn continuing_on_the_same_data_nearly_is_one_fit() {
        for n_classes in [0, 2, 3] {
            let data = table(300, n_classes);
            let rounds = |n| small().with(|p| p.rounds = n).build().expect("valid");
            let whole = rounds(15).fit(&data, &seeded()).expect("fits");
            let first = rounds(10).fit(&data, &seeded()).expect("fits");
            let before = predict(&first, &data);
            let both = rounds(5).fit_after(&first, &data, &seeded()).expect("continues");
            assert_eq!((both.n_rounds(), first.n_rounds()), (15, 10));
            assert_eq!(predict(&first, &data), before, "the previous model is unchanged");
            let (a, b) = (whole.predict(data.frame()), both.predict(data.frame()));
            let (a, b) = (a.expect("predicts"), b.expect("predicts"));
            for (a, b) in a.values().iter().zip(b.values()) {
                // Gradients are rounded to `f32`, whose unit is 6e-8, in 5 rounds.
                assert!((a - b).abs() < 1e-5, "{a} and {b}");
            }
        }
    }

    #[test]
    fn the_capability_continues_from_an_erased_model() {
        let data = table(200, 0);
        let learner: BoxLearner = Box::new(small().build().expect("valid"));
        let first: BoxModel = learner.fit(&data, &seeded()).expect("fits");
        let warm = learner.as_warm_start().expect("has it");
        let both = warm.fit_from(&first, &data, &seeded()).expect("continues");
        assert_eq!(both.downcast_ref::<LightGbmModel>().expect("the kind").n_rounds(), 20);
        let bytes = both.to_envelope().expect("seals").into_bytes();
        let opened = crate::register(Catalog::default()).open(&bytes).expect("opens");
        let (a, b) = (both.predict(data.frame()), opened.predict(data.frame()));
        assert_eq!(bits(&a.expect("predicts")), bits(&b.expect("predicts")));
    }

    #[test]
    fn new_data_are_read_with_the_first_fits_dictionary() {
        let data = table(200, 0);
        let first = fit(small(), &data);
        let turned = Levels::new(["up", "east", "west", "south", "north"]).expect("distinct");
        let mut columns = data.frame().schema().columns().to_vec();
        columns[2].kind = ColumnKind::Categorical(turned);
        let mut values = data.frame().values().into_owned();
        values.chunks_exact_mut(3).for_each(|row| row[2] = 4.0 - row[2]);
        let frame = Frame::with_schema(values, Schema::new(columns).expect("distinct"));
        let turned = data.with_frame(frame.expect("valid")).expect("length");
        let learner = small().build().expect("valid");
        let a = learner.fit_after(&first, &data, &seeded()).expect("continues");
        let b = learner.fit_after(&first, &turned, &seeded()).expect("continues");
        assert_eq!(predict(&a, &data), predict(&b, &data));
        assert_eq!(b.signature(), first.signature());
    }

    #[test]
    fn early_stopping_counts_the_rounds_of_both_fits() {
        let (data, held_out) = (table(200, 2), table(260, 2).take(&(200..260).collect::<Vec<_>>()));
        let params = small().with(|p| {
            (p.engine_metric, p.rounds) = (Some(EngineMetric::BinaryLogloss), 3);
            p.early_stopping = Some(EarlyStopping::after(3));
        });
        let learner = params.build().expect("valid");
        let first = learner.fit(&data, &seeded()).expect("fits");
        let scores = Mutex::new(Vec::new());
        let observer = |step: &Step<'_>| {
            scores.lock().expect("nobody panicked").push(step.metrics[0].1);
            Signal::Continue
        };
        let ctx = seeded().with_validation(&held_out).with_observer(&observer);
        let both = learner.fit_after(&first, &data, &ctx).expect("continues");
        let best = both.best_iteration().expect("watched");
        assert_eq!(both.n_rounds(), best);
        assert!((4..=6).contains(&best));
        let y = both.predict(held_out.frame()).expect("predicts");
        let loss = |(p, t): (&f64, &f64)| -if *t == 1.0 { p.ln() } else { (1.0 - p).ln() };
        let loss = y.values().iter().zip(held_out.target()).map(loss).sum::<f64>() / 60.0;
        let scores = scores.into_inner().expect("nobody panicked");
        assert!((scores[best - 4] - loss).abs() < 1e-9, "the score is that of the whole model");
    }

    #[test]
    fn what_cannot_be_continued_is_refused() {
        let data = table(120, 0);
        let first = fit(small(), &data);
        let learner = small().build().expect("valid");
        let refused = |model: &LightGbmModel, data: &Dataset, learner: &LightGbm| {
            learner.fit_after(model, data, &seeded()).expect_err("refused").to_string()
        };
        assert_eq!(
            refused(&first, &table(120, 2), &learner),
            "objective of the model to continue from: expected binary, got regression"
        );
        let classes = fit(small(), &table(120, 3));
        assert_eq!(
            refused(&classes, &table(120, 4), &learner),
            "task of the data: expected multiclass (3 classes), got multiclass (4 classes)"
        );
        let narrow = Frame::new(vec![0.0; 120], 1).expect("valid");
        let narrow = data.with_frame(narrow).expect("length");
        assert_eq!(refused(&first, &narrow, &learner), "expected 3 feature columns, got 1");
        let forest = small().with(|p| {
            p.boosting = Boosting::RandomForest;
            p.sampling.columns = 0.5;
        });
        let forest = forest.build().expect("valid");
        let shown = "model to continue from: expected boosted trees, got a random forest";
        assert_eq!(refused(&first, &data, &forest), shown);
        let trees = forest.fit(&data, &seeded()).expect("fits");
        assert_eq!(refused(&trees, &data, &learner), shown);
        let poisson = small().with(|p| p.objective = Objective::Poisson).build().expect("valid");
        assert_eq!(
            refused(&first, &data, &poisson),
            "objective of the model to continue from: expected poisson, got regression"
        );
    }
}

mod files {
    use super::*;

    #[test]
    fn text_out_and_in_changes_no_bit() {
        for n_classes in [0, 2, 3] {
            let data = table(200, n_classes);
            let model = fit(small(), &data);
            let text = model.to_text().expect("writes");
            let (schema, task) = (data.frame().schema().clone(), data.task().clone());
            let given =
                LightGbmModel::from_text_as(&text, Signature::new(schema, task)).expect("reads");
            assert_eq!(given.signature(), model.signature());
            assert_eq!(predict(&given, &data), predict(&model, &data));
            assert_eq!(given.to_text().expect("writes"), text);
            // Names and levels stand in the text; only the classes' names do not.
            let derived = LightGbmModel::from_text(&text).expect("reads");
            assert_eq!(derived.signature().schema, model.signature().schema);
            assert_eq!(predict(&derived, &data), predict(&model, &data));
            let names: Vec<String> = (0..n_classes).map(|k| k.to_string()).collect();
            let class_names = derived.signature().task.class_names().unwrap_or_default();
            assert_eq!(class_names, names);
        }
    }

    #[test]
    fn a_quantile_says_its_level_in_the_text() {
        let params = small().with(|p| p.objective = Objective::Quantile { level: 0.25 });
        let text = fit(params, &table(100, 0)).to_text().expect("writes");
        let model = LightGbmModel::from_text(&text).expect("reads");
        assert_eq!(model.signature().outputs, [Output::Quantile(0.25)]);
    }

    #[test]
    fn a_text_that_does_not_fit_the_signature_is_refused() {
        let text = fit(small(), &table(100, 2)).to_text().expect("writes");
        let schema = table(100, 2).frame().schema().clone();
        let read = |schema: &Schema, task| {
            LightGbmModel::from_text_as(&text, Signature::new(schema.clone(), task))
        };
        assert!(matches!(
            read(&Schema::numeric(2), Task::Regression),
            Err(Error::Columns { expected: 3, got: 2 })
        ));
        let three = Task::classes(["a", "b", "c"]).expect("distinct");
        let err = read(&schema, three).expect_err("two classes");
        assert_eq!(
            err.to_string(),
            "model text: expected a model of multiclass (3 classes), got `binary` with 1 outputs"
        );
        assert!(read(&schema, Task::Regression).is_err(), "a probability is no value");
    }

    /// The text with the first line that starts with `key=` holding `value`; sizes are kept right.
    fn edited(text: &str, key: &str, value: &str) -> String {
        let old = text.lines().find(|line| line.starts_with(&format!("{key}="))).expect("there");
        let new = format!("{key}={value}");
        let text = text.replacen(old, &new, 1);
        if !["split_feature", "left_child", "threshold", "leaf_value", "cat_threshold"]
            .contains(&key)
        {
            return text;
        }
        let sizes = text.lines().find(|line| line.starts_with("tree_sizes=")).expect("there");
        let (first, rest) = sizes["tree_sizes=".len()..].split_once(' ').expect("several trees");
        let first: usize = first.parse().expect("a number");
        let first = first + new.len() - old.len();
        text.replacen(sizes, &format!("tree_sizes={first} {rest}"), 1)
    }

    #[test]
    fn a_text_that_would_mislead_the_engine_is_refused() {
        let data = table(200, 0);
        let text = fit(small().with(|p| p.tree.leaves = 3), &data).to_text().expect("writes");
        assert!(LightGbmModel::from_text(&text).is_ok());
        for (key, value, says) in [
            ("split_feature", "0 9", "expected a feature below 3, got 9"),
            ("split_feature", "0 -1", "expected numbers in `split_feature`, got \"-1\""),
            ("split_feature", "0", "expected 2 values in `split_feature`, got 1"),
            ("left_child", "1 0", "expected a child of node 1, got 0"),
            ("left_child", "7 -1", "expected a child of node 0, got 7"),
            ("left_child", "-9 -1", "expected a child of node 0, got -9"),
            ("leaf_value", "1 2", "expected 3 values in `leaf_value`, got 2"),
            ("num_class", "2", "expected an objective of 2 outputs, got regression"),
            ("num_class", "0", "expected an objective of 0 outputs, got regression"),
            ("num_tree_per_iteration", "0", "expected as many trees a round as outputs"),
            ("max_feature_idx", "7", "expected 8 values in `feature_names`, got 3"),
            ("objective", "mystery", "expected an objective of LightGBM 4.7, got \"mystery\""),
            ("objective", "multiclass num_class:9", "expected an objective of 1 outputs"),
            ("objective", "multiclass num_class:1 num_class:9", "an objective of 1 outputs"),
            ("leaf_value", "1 2 \"", "expected numbers in `leaf_value`"),
            ("leaf_value", "1 2 .5", "expected numbers in `leaf_value`"),
            ("shrinkage", "x", "expected numbers in `shrinkage`"),
            ("tree_sizes", "99999999", "bytes of tree 0"),
            ("tree_sizes", "3", "`end of trees` after the last tree"),
            ("tree_sizes", "", "positive multiple of 1 trees, got 0"),
        ] {
            let bad = edited(&text, key, value);
            let err = LightGbmModel::from_text(&bad).expect_err(value).chain();
            assert!(err.contains(says), "{key}={value}: {err}");
            let body = bad.replace("pandas_categorical", "");
            assert!(LightGbmModel::from_text(&body).is_err());
        }
        let crlf = text.replace('\n', "\r\n");
        assert!(LightGbmModel::from_text(&crlf).is_err());
        assert!(LightGbmModel::from_text("").is_err());
        assert!(LightGbmModel::from_text("tree\nTree=").is_err());
    }

    #[test]
    fn category_sets_that_reach_too_far_are_refused() {
        let data = table(200, 0);
        let text = fit(small(), &data).to_text().expect("writes");
        let line = text.lines().find(|line| line.starts_with("cat_threshold=")).expect("has sets");
        let bounds = text.lines().find(|line| line.starts_with("cat_boundaries=")).expect("too");
        let bad = text.replacen(bounds, &bounds.replace('1', "9"), 1);
        let err = LightGbmModel::from_text(&bad).expect_err("too far").chain();
        assert!(err.contains("category sets one after another"), "{err}");
        let cut = text.replacen(line, &format!("cat_threshold={}", "1".repeat(line.len() - 14)), 1);
        assert!(LightGbmModel::from_text(&cut).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// A damaged text is an error or another model, and never more than that.
        #[test]
        fn a_damaged_text_does_no_harm(at in 0.0..1.0, to in "[ -~\n]", cut in any::<bool>()) {
            static TEXT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
            let data = table(100, 0);
            let text = TEXT.get_or_init(|| {
                let params = small().with(|p| (p.rounds, p.tree.leaves) = (2, 4));
                fit(params, &data).to_text().expect("writes")
            });
            // Nearly all of the text are parameters, which no prediction reads.
            let end = text.find("end of trees").expect("there") + 20;
            let at = (at * end as f64) as usize;
            let bad = if cut { text[..at].to_owned() } else {
                format!("{}{to}{}", &text[..at], &text[at + 1..])
            };
            if let Ok(model) = LightGbmModel::from_text(&bad) {
                let y = model.predict(data.frame());
                prop_assert!(y.is_err() || y.is_ok_and(|y| y.n_rows() == 100));
            }
        }
    }
}

/// Predictions without LightGBM are those of LightGBM.
mod without_the_engine {
    use super::*;

    /// Rows that hold, column by column, every odd value: missing, infinite, zeros of both signs,
    /// what is next to nothing, thresholds of `model`, and their neighbours; as codes, those of
    /// each split's set, others, and unknown ones.
    fn odd_rows(model: &LightGbmModel) -> Frame {
        let schema = model.signature().schema.clone();
        let zero = f32::from_bits(1e-35_f32.to_bits());
        let mut pools: Vec<Vec<f32>> = schema
            .columns()
            .iter()
            .map(|column| match column.levels() {
                Some(levels) => (0..levels.len()).map(|code| code as f32).collect(),
                None => vec![
                    f32::INFINITY,
                    f32::NEG_INFINITY,
                    f32::MAX,
                    f32::MIN,
                    0.0,
                    -0.0,
                    1e-40,
                    -1e-40,
                    zero,
                    -zero,
                    zero.next_up(),
                    -zero.next_up(),
                    zero.next_down(),
                    1.0,
                    -1.0,
                ],
            })
            .collect();
        for (pool, column) in pools.iter_mut().zip(schema.columns()) {
            pool.push(f32::NAN);
            if column.levels().is_some() {
                pool.push(Frame::UNKNOWN);
            }
        }
        for split in model.forest().trees().iter().flat_map(crate::forest::Tree::splits) {
            if let crate::forest::Test::AtMost { threshold, .. } = split.test {
                let near = threshold as f32;
                pools[split.feature].extend([near, near.next_up(), near.next_down()]);
            }
        }
        let mut state = 1_u64;
        let mut draw = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % n
        };
        let rows = (0..700)
            .flat_map(|_| pools.iter().map(|pool| pool[draw(pool.len())]).collect::<Vec<f32>>());
        Frame::with_schema(rows.collect(), schema).expect("codes of the schema")
    }

    /// The bits, but for NaN, which has many.
    fn plain(values: &[f64]) -> Vec<u64> {
        values.iter().map(|y| if y.is_nan() { f64::NAN.to_bits() } else { y.to_bits() }).collect()
    }

    #[track_caller]
    fn agrees(what: &str, edit: impl FnOnce(&mut LightGbmParams), n_classes: usize) {
        check(what, &fit(small().with(edit), &table(400, n_classes)));
    }

    #[track_caller]
    fn check(what: &str, model: &LightGbmModel) {
        let x = odd_rows(model);
        let booster = model.to_booster().expect("LightGBM opens what is written");
        let width = model.signature().n_outputs();
        let is_ova = model.objective() == Some("multiclassova");
        let engine = |is_raw, rounds: (i32, i32)| {
            let mut out = Matrix::zeros(x.n_rows(), width);
            booster.predict(&x, is_raw, rounds, &mut out).expect("predicts");
            if is_ova && !is_raw {
                (0..out.n_rows()).for_each(|i| crate::forest::normalize(out.row_mut(i)));
            }
            plain(out.values())
        };
        let raw = model.raw_columns(&x).expect("predicts");
        if !model.is_average() {
            let rows = (0..x.n_rows()).flat_map(|i| (0..width).map(move |k| (i, k)));
            let raw: Vec<f64> = rows.map(|(i, k)| raw[k * x.n_rows() + i]).collect();
            assert_eq!(plain(&raw), engine(true, (0, -1)), "{what}, raw");
        }
        let mut out = Matrix::zeros(x.n_rows(), width);
        model.infer(&x, &mut out).expect("predicts");
        assert_eq!(plain(out.values()), engine(false, (0, -1)), "{what}");
        let mut row = vec![0.0; width];
        for i in 0..x.n_rows() {
            model.infer_row(x.row(i), &mut row).expect("predicts");
            assert_eq!(plain(&row), plain(out.row(i)), "{what}, row {i} by itself");
        }
        let n = model.n_rounds();
        for rounds in [0..1, 0..n, n / 2..n, n - 1..n] {
            let slice = model.slice(rounds.clone()).expect("rounds that are there");
            let mut out = Matrix::zeros(x.n_rows(), width);
            slice.infer(&x, &mut out).expect("predicts");
            let (from, len) = (rounds.start as i32, rounds.len() as i32);
            assert_eq!(plain(out.values()), engine(false, (from, len)), "{what}, {rounds:?}");
            slice.to_booster().expect("LightGBM opens a slice");
        }
        let text = model.to_text().expect("writes");
        let text = text.split("\npandas_categorical").next().expect("a text");
        assert_eq!(booster.to_text().expect("writes"), text, "{what}: as LightGBM writes it");
        let again = Text::read(text).expect("reads what it wrote");
        assert_eq!(again.forest, *model.forest(), "{what}, read again");
    }

    #[test]
    fn every_objective_agrees() {
        for objective in [
            Objective::L2,
            Objective::L1,
            Objective::Huber { alpha: 0.9 },
            Objective::Fair { c: 1.0 },
            Objective::Quantile { level: 0.3 },
            Objective::Mape,
        ] {
            agrees(&format!("{objective:?}"), |p| p.objective = objective, 0);
        }
        for objective in [Objective::Poisson, Objective::Gamma, Objective::Tweedie { power: 1.3 }] {
            let data = table(400, 0);
            let target = data.target().iter().map(|y| y.abs() + 0.1).collect();
            let data = Dataset::regression(data.frame().clone(), target).expect("valid");
            let model = fit(small().with(|p| p.objective = objective), &data);
            check(&format!("{objective:?}"), &model);
        }
        for objective in [Objective::Binary, Objective::CrossEntropy] {
            agrees(&format!("{objective:?}"), |p| p.objective = objective, 2);
        }
        for objective in [Objective::Multiclass, Objective::MulticlassOva] {
            agrees(&format!("{objective:?}"), |p| p.objective = objective, 3);
        }
        let extra = |p: &mut LightGbmParams, key: &str, value: &str| {
            p.extra.insert(key.to_owned(), value.to_owned());
        };
        agrees("sigmoid of 2.5", |p| extra(p, "sigmoid", "2.5"), 2);
        agrees("the root of the target", |p| extra(p, "reg_sqrt", "true"), 0);
    }

    #[test]
    fn every_way_of_missing_agrees() {
        for (key, value) in [("zero_as_missing", "true"), ("use_missing", "false")] {
            for n_classes in [0, 2, 3] {
                let edit = |p: &mut LightGbmParams| {
                    p.extra.insert(key.to_owned(), value.to_owned());
                };
                agrees(key, edit, n_classes);
            }
        }
    }

    #[test]
    fn every_way_of_boosting_agrees() {
        for n_classes in [0, 2, 3] {
            agrees("dart", |p| p.boosting = Boosting::Dart(Dart::default()), n_classes);
            let forest = |p: &mut LightGbmParams| {
                p.boosting = Boosting::RandomForest;
                p.sampling.rows = RowSampling::Bagging(Bagging::of(0.6));
            };
            agrees("a random forest", forest, n_classes);
            agrees("linear leaves", |p| p.tree.linear = true, n_classes);
            agrees("large trees", |p| (p.tree.leaves, p.rounds) = (60, 30), n_classes);
        }
        let one_hot = |p: &mut LightGbmParams| p.categorical.max_onehot = 100;
        agrees("one level against the others", one_hot, 0);
        let frame = Frame::new(vec![1.0; 30], 1).expect("valid");
        let data = Dataset::regression(frame, (0..30).map(f64::from).collect()).expect("valid");
        check("a constant", &fit(small(), &data));
    }

    #[test]
    fn a_continued_model_agrees() {
        let data = table(300, 2);
        let learner = small().build().expect("valid");
        let first = learner.fit(&data, &seeded()).expect("fits");
        check("continued", &learner.fit_after(&first, &data, &seeded()).expect("fits"));
    }

    #[test]
    fn a_slice_without_rounds_is_refused() {
        let model = fit(small(), &table(100, 0));
        for rounds in [0..0, 3..3, 0..11, 10..11] {
            assert!(model.slice(rounds).is_err());
        }
    }
}

/// Agreement with LightGBM's Python package, bit for bit, on `tests/fixtures/lightgbm.json`.
mod oracle {
    use super::*;

    fn fixture() -> Value {
        let text = include_str!("../../tests/fixtures/lightgbm.json");
        serde_json::from_str(text).expect("valid JSON")
    }

    fn numbers(value: &Value) -> Vec<f64> {
        let list = value.as_array().expect("a list");
        list.iter().map(|x| x.as_f64().unwrap_or(f64::NAN)).collect()
    }

    fn bits_of(value: &Value) -> Vec<u64> {
        let list = value.as_array().expect("a list").iter();
        list.map(|x| u64::from_str_radix(x.as_str().expect("hex"), 16).expect("hex")).collect()
    }

    fn count(value: &Value) -> usize {
        value.as_u64().expect("a count") as usize
    }

    fn data(fixture: &Value, case: &Value) -> Dataset {
        let names = (0..count(&fixture["levels"])).map(|code| code.to_string());
        let columns = [
            Column::numeric("a"),
            Column::numeric("b"),
            Column::categorical("c", Levels::new(names).expect("distinct")),
            Column::numeric("d"),
        ];
        let values = numbers(&fixture["x"]).into_iter().map(|x| x as f32).collect();
        let frame = Frame::with_schema(values, Schema::new(columns).expect("distinct"));
        let target = numbers(&case["target"]);
        let task = match count(&case["n_classes"]) {
            0 => Task::Regression,
            n => Task::classes((0..n).map(|k| k.to_string())).expect("2 or more"),
        };
        let data = Dataset::new(frame.expect("valid"), task, target).expect("valid");
        if case["weights"].is_null() {
            data
        } else {
            data.with_weights(numbers(&case["weights"])).expect("valid")
        }
    }

    /// `COMMON` of the script.
    fn common() -> LightGbmParams {
        LightGbmParams::default().with(|p| {
            p.rounds = 30;
            p.tree.leaves = 8;
            p.tree.min_data_in_leaf = 5;
            p.categorical.min_data_per_group = 10;
            p.categorical.smooth = 2.0;
        })
    }

    #[track_caller]
    fn agrees(name: &str, edit: impl FnOnce(&mut LightGbmParams)) {
        let fixture = fixture();
        let case = &fixture["cases"][name];
        let data = data(&fixture, case);
        let learner = common().with(edit).build().expect("valid");
        let ctx = FitContext::seeded(11).with_threads(2);
        let model = learner.fit(&data, &ctx).expect("fits");
        assert_eq!(model.n_rounds(), count(&fixture["rounds"]));
        assert_eq!(predict(&model, &data), bits_of(&case["predictions"]), "{name}");
    }

    #[test]
    fn binary_with_levels_missing_cells_and_weights_agrees() {
        agrees("binary", |p| p.categorical.max_onehot = 2);
    }

    #[test]
    fn multiclass_agrees() {
        agrees("multiclass", |_| {});
    }

    #[test]
    fn regression_with_sampling_and_penalties_agrees() {
        agrees("regression", |p| {
            let bagging = Bagging { fraction: 0.7, every: 2, ..Bagging::default() };
            p.sampling.rows = RowSampling::Bagging(bagging);
            p.sampling.columns = 0.75;
            (p.penalty.l1, p.penalty.l2) = (0.1, 0.5);
        });
    }

    #[test]
    fn dart_agrees() {
        agrees("dart", |p| p.boosting = Boosting::Dart(Dart { drop_rate: 0.3, ..Dart::default() }));
    }

    #[test]
    fn quantile_agrees() {
        agrees("quantile", |p| p.objective = Objective::Quantile { level: 0.8 });
    }

    #[test]
    fn one_side_sampling_agrees() {
        agrees("goss", |p| {
            p.sampling.rows = RowSampling::Goss(Goss { top_rate: 0.3, other_rate: 0.2 });
            p.learning_rate = 0.3;
        });
    }

    #[test]
    fn monotone_extra_trees_agree() {
        agrees("monotone", |p| {
            p.constraints.monotone.insert("a".to_owned(), Monotone::Increasing);
            p.constraints.monotone.insert("d".to_owned(), Monotone::Decreasing);
            p.constraints.method = MonotoneMethod::Intermediate;
            p.tree.extra_trees = true;
        });
    }

    #[test]
    fn a_random_forest_agrees() {
        agrees("random_forest", |p| {
            p.boosting = Boosting::RandomForest;
            p.sampling.rows = RowSampling::Bagging(Bagging::of(0.6));
        });
    }

    #[test]
    fn linear_trees_agree() {
        agrees("linear", |p| p.tree.linear = true);
    }

    #[test]
    fn a_warm_start_agrees() {
        let fixture = fixture();
        let case = &fixture["cases"]["warm_start"];
        let data = data(&fixture, case);
        let ctx = FitContext::seeded(11).with_threads(2);
        let rounds = |n| common().with(|p| p.rounds = n).build().expect("valid");
        let first = rounds(count(&fixture["rounds"])).fit(&data, &ctx).expect("fits");
        let more = rounds(count(&fixture["more_rounds"]));
        let both = more.fit_after(&first, &data, &ctx).expect("continues");
        assert_eq!(predict(&both, &data), bits_of(&case["predictions"]));
    }

    #[test]
    fn early_stopping_on_the_engines_metric_agrees() {
        let fixture = fixture();
        let case = &fixture["cases"]["early_stopping"];
        let data = data(&fixture, case);
        let cut = data.n_rows() - count(&fixture["held_out"]);
        let part = |rows: std::ops::Range<usize>| data.take(&rows.collect::<Vec<_>>());
        let (shown, held_out) = (part(0..cut), part(cut..data.n_rows()));
        let params = common().with(|p| {
            (p.rounds, p.learning_rate, p.engine_metric) = (200, 0.2, Some(EngineMetric::Auc));
            p.early_stopping = Some(EarlyStopping::after(5));
        });
        let scores = Mutex::new(Vec::new());
        let observer = |step: &Step<'_>| {
            scores.lock().expect("nobody panicked").push(step.metrics[0].1.to_bits());
            Signal::Continue
        };
        let ctx = FitContext::seeded(11).with_observer(&observer).with_validation(&held_out);
        let model = params.build().expect("valid").fit(&shown, &ctx).expect("fits");
        assert_eq!(scores.into_inner().expect("nobody panicked"), bits_of(&case["scores"]));
        assert_eq!(model.best_iteration(), Some(count(&case["best_iteration"])));
        assert_eq!(predict(&model, &data), bits_of(&case["predictions"]));
    }

    #[test]
    fn a_model_of_a_data_frame_is_read_with_its_levels() {
        let fixture = fixture();
        let made = &fixture["imported"];
        let text = made["text"].as_str().expect("text");
        let model = LightGbmModel::from_text(text).expect("reads");
        let colours = Levels::new(["blue", "green", "red"]).expect("distinct");
        let expected = [Column::numeric("size"), Column::categorical("colour", colours)];
        let schema = Schema::new(expected).expect("distinct");
        assert_eq!(model.signature().schema, schema);
        let (mut values, mut row) = (Vec::new(), Vec::new());
        for (size, colour) in
            numbers(&made["size"]).iter().zip(made["colour"].as_array().expect("list"))
        {
            let cells = [size.to_string(), colour.as_str().expect("a name").to_owned()];
            schema.parse_row(&cells, &mut row).expect("valid");
            values.extend(&row);
        }
        let y = model.predict(&Frame::with_schema(values, schema).expect("valid"));
        assert_eq!(bits(&y.expect("predicts")), bits_of(&made["predictions"]));
        let importance = model.as_importance().expect("has them");
        let count = importance.importance(ImportanceKind::Count).expect("known");
        assert_eq!(count, numbers(&made["count"]));
        let gain = importance.importance(ImportanceKind::Gain).expect("known");
        for (ours, theirs) in gain.iter().zip(numbers(&made["gain"])) {
            // The text holds gains to 6 digits, the Python model in full.
            assert!((ours - theirs).abs() <= 1e-5 * theirs.abs(), "{ours} and {theirs}");
        }
    }
}
