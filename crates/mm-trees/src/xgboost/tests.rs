use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use mm_core::{
    BoxModel, Cancel, Catalog, ClassWeight, Column, Dataset, EarlyStopping, Error, FitContext,
    Frame, ImportanceKind, Learner as _, Levels, Metric, Model as _, Observer, Output, ParamError,
    Params as _, Schema, Signal, Signature, Step, Task, WarmStart,
    conformance::{self, Checks, sample},
};
use proptest::prelude::*;

use super::{ffi, learner::Codes, value, *};
use crate::forest::{Test, Tree};

fn params(edit: impl FnOnce(&mut XgBoostParams)) -> XgBoostParams {
    XgBoostParams::default().with(|p| p.rounds = 10).with(edit)
}

fn learner(edit: impl FnOnce(&mut XgBoostParams)) -> XgBoost {
    params(edit).build().unwrap_or_else(|e| panic!("{e}"))
}

fn fit(learner: &XgBoost, data: &Dataset) -> XgBoostModel {
    fit_in(learner, data, &FitContext::seeded(7))
}

fn fit_in(learner: &XgBoost, data: &Dataset, ctx: &FitContext<'_>) -> XgBoostModel {
    learner.fit(data, ctx).unwrap_or_else(|e| panic!("{}", e.chain()))
}

fn predict(model: &XgBoostModel, x: &Frame) -> Vec<f64> {
    model.predict(x).unwrap_or_else(|e| panic!("{}", e.chain())).into_values()
}

/// A larger table than the conformance sample: 3 numeric columns with missing cells, 1 categorical,
/// a target with noise; `n_classes` is 0 for regression.
fn table(n_rows: usize, n_classes: usize) -> Dataset {
    let levels = Levels::new(["a", "b", "c", "d", "e", "f"]).expect("distinct");
    let mut columns: Vec<Column> = ["x", "y", "z"].map(Column::numeric).into();
    columns.push(Column::categorical("level", levels));
    let mut state = 1_u64;
    let mut uniform = || {
        // Knuth's MMIX generator.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let (mut values, mut target) = (Vec::new(), Vec::new());
    for _ in 0..n_rows {
        let [x, y, z, noise] = [uniform(), uniform(), uniform(), uniform()];
        let level = (uniform() * 6.0).floor();
        let z = if uniform() < 0.1 { f32::NAN } else { z };
        values.extend([x, y, z, level]);
        let gain = [0.3, -0.2, 0.1, -0.4, 0.5, 0.0][level as usize];
        let signal = f64::from(x + (6.0 * y).sin() * 0.5 + gain + noise * 0.3);
        target.push(match n_classes {
            0 => signal,
            k => ((signal + 0.5) / 2.5 * k as f64).floor().clamp(0.0, (k - 1) as f64),
        });
    }
    let frame = Frame::with_schema(values, Schema::new(columns).expect("distinct")).expect("valid");
    let names = (0..n_classes).map(|k| format!("class {k}"));
    let task = if n_classes == 0 { Task::Regression } else { Task::classes(names).expect("≥ 2") };
    Dataset::new(frame, task, target).expect("valid")
}

fn numeric(data: &Dataset) -> Dataset {
    let frame = data.frame();
    let values = frame.rows().flat_map(|row| row[..3].iter().copied()).collect();
    let schema = Schema::new(frame.schema().columns()[..3].to_vec()).expect("distinct");
    data.with_frame(Frame::with_schema(values, schema).expect("valid")).expect("length")
}

fn rmse(y: &[f64], data: &Dataset) -> f64 {
    let sum: f64 = y.iter().zip(data.target()).map(|(a, b)| (a - b).powi(2)).sum();
    (sum / y.len() as f64).sqrt()
}

fn catalog() -> Catalog {
    crate::register(Catalog::default())
}

#[test]
fn conforms() {
    conformance::check(&learner(|_| {}), &catalog());
}

#[test]
fn a_linear_model_conforms_on_numeric_columns() {
    let linear = learner(|p| p.boosting = Boosting::GbLinear(Linear::default()));
    let mut can = Checks::default();
    can.categorical = false;
    conformance::check_only(&linear, &catalog(), can);
}

#[test]
fn dropout_and_sampling_conform() {
    let learner = learner(|p| {
        let dart = Dart { drop_rate: 0.3, ..Dart::default() };
        p.boosting = Boosting::Dart(dart);
        p.sampling.rows = 0.7;
        p.sampling.columns_per_node = 0.7;
    });
    conformance::check(&learner, &catalog());
}

#[test]
fn the_catalog_makes_it_by_kind() {
    let value = serde_json::json!({ "rounds": 3, "tree": { "growth": { "depthwise": { "max_depth": 2 } } } });
    let learner = catalog().learner("xgboost", value).expect("registered");
    assert_eq!(learner.name(), "xgboost");
    let err =
        catalog().learner("xgboost", serde_json::json!({ "round": 3 })).expect_err("misspelt");
    assert!(err.to_string().contains("unknown field `round`"), "{err}");
}

#[track_caller]
fn refused(edit: impl FnOnce(&mut XgBoostParams), name: &str) -> ParamError {
    let err = params(edit).build().expect_err(name);
    assert_eq!(err.name, name, "{err}");
    err
}

#[track_caller]
fn accepted(edit: impl FnOnce(&mut XgBoostParams)) {
    if let Err(err) = params(edit).build() {
        panic!("{err}");
    }
}

/// The field takes `inside`, and refuses `outside`, by name.
#[track_caller]
fn edges(name: &str, set: impl Fn(&mut XgBoostParams, f64), inside: &[f64], outside: &[f64]) {
    for &value in inside {
        accepted(|p| set(p, value));
    }
    for &value in outside {
        refused(|p| set(p, value), name);
    }
}

#[test]
fn every_edge_of_the_tables_holds() {
    let nan = f64::NAN;
    let up = f64::INFINITY;
    edges("learning_rate", |p, x| p.learning_rate = x, &[0.0, 5.0], &[-0.1, nan, up]);
    edges("scale_pos_weight", |p, x| p.scale_pos_weight = x, &[0.0, 9.0], &[-1.0, nan, up]);
    edges("base_score", |p, x| p.base_score = Some(x), &[0.5], &[nan, up]);
    edges("penalty.l2", |p, x| p.penalty.l2 = x, &[0.0], &[-1.0, nan]);
    edges("penalty.l1", |p, x| p.penalty.l1 = x, &[0.0], &[-1.0, nan]);
    edges("penalty.min_gain", |p, x| p.penalty.min_gain = x, &[0.0], &[-1.0, nan]);
    let name = "tree.min_hessian_in_leaf";
    edges(name, |p, x| p.tree.min_hessian_in_leaf = x, &[0.0], &[-1.0, nan]);
    let name = "penalty.max_delta_step";
    edges(name, |p, x| p.penalty.max_delta_step = Some(x), &[0.0], &[-1.0, nan]);
    let shares = (&[0.01, 1.0], &[0.0, 1.1, nan]);
    edges("sampling.rows", |p, x| p.sampling.rows = x, shares.0, shares.1);
    let name = "sampling.columns";
    edges(name, |p, x| p.sampling.columns = x, shares.0, shares.1);
    let name = "sampling.columns_per_level";
    edges(name, |p, x| p.sampling.columns_per_level = x, shares.0, shares.1);
    let name = "sampling.columns_per_node";
    edges(name, |p, x| p.sampling.columns_per_node = x, shares.0, shares.1);

    let slope = |p: &mut XgBoostParams, slope| p.objective = Objective::PseudoHuberError { slope };
    edges("objective.pseudohubererror.slope", slope, &[0.1], &[0.0, nan, up]);
    let power = |p: &mut XgBoostParams, power| p.objective = Objective::Tweedie { power };
    edges("objective.tweedie.power", power, &[1.0, 1.9], &[0.9, 2.0, nan]);
    let level = |p: &mut XgBoostParams, level| p.objective = Objective::Quantile { level };
    edges("objective.quantile.level", level, &[0.01, 0.99], &[0.0, 1.0, nan]);
    let dart = |p: &mut XgBoostParams, x| {
        p.boosting = Boosting::Dart(Dart { drop_rate: x, ..Dart::default() });
    };
    edges("boosting.dart.drop_rate", dart, &[0.0, 1.0], &[-0.1, 1.1, nan]);
    let dart = |p: &mut XgBoostParams, x| {
        p.boosting = Boosting::Dart(Dart { skip_drop: x, ..Dart::default() });
    };
    edges("boosting.dart.skip_drop", dart, &[0.0, 1.0], &[-0.1, 1.1, nan]);
    let linear = |p: &mut XgBoostParams, x| {
        p.boosting = Boosting::GbLinear(Linear { learning_rate: x, ..Linear::default() });
    };
    edges("boosting.gblinear.learning_rate", linear, &[0.0, 1.0], &[-0.1, nan]);
    let linear = |p: &mut XgBoostParams, x| {
        p.boosting = Boosting::GbLinear(Linear { l2: x, ..Linear::default() });
    };
    edges("boosting.gblinear.l2", linear, &[0.0, 1.0], &[-0.1, nan]);
    let linear = |p: &mut XgBoostParams, x| {
        p.boosting = Boosting::GbLinear(Linear { l1: x, ..Linear::default() });
    };
    edges("boosting.gblinear.l1", linear, &[0.0, 1.0], &[-0.1, nan]);

    accepted(|p| p.rounds = 1);
    refused(|p| p.rounds = 0, "rounds");
    refused(|p| p.rounds = 1 << 31, "rounds");
    let depth =
        |max_depth| move |p: &mut XgBoostParams| p.tree.growth = Growth::Depthwise { max_depth };
    accepted(depth(1));
    accepted(depth(30));
    refused(depth(0), "tree.growth.max_depth");
    refused(depth(31), "tree.growth.max_depth");
    let guide = |max_leaves, max_depth| {
        move |p: &mut XgBoostParams| p.tree.growth = Growth::Lossguide { max_leaves, max_depth }
    };
    accepted(guide(2, 0));
    accepted(guide(0, 30));
    accepted(guide(1 << 30, 0));
    refused(guide(0, 0), "tree.growth.max_depth");
    refused(guide(0, 31), "tree.growth.max_depth");
    refused(guide(1, 0), "tree.growth.max_leaves");
    refused(guide((1 << 30) + 1, 0), "tree.growth.max_leaves");
    refused(guide(2, 1 << 31), "tree.growth.max_depth");
    accepted(|p| p.bins.max = 2);
    refused(|p| p.bins.max = 1, "bins.max");
    refused(|p| p.bins.max = 1 << 31, "bins.max");
    refused(|p| p.tree.parallel_trees = 0, "tree.parallel_trees");
    refused(|p| p.categorical.max_onehot = 0, "categorical.max_onehot");
    refused(|p| p.categorical.max_threshold = 0, "categorical.max_threshold");
    refused(|p| p.early_stopping = Some(EarlyStopping::after(0)), "early_stopping.rounds");
    refused(
        |p| p.class_weight = ClassWeight::Explicit([("a".to_owned(), -1.0)].into()),
        "class_weight.a",
    );
    refused(|p| p.device = "toaster".into(), "extra");
    refused(|p| p.engine_metric = Some("charm".into()), "extra");
}

#[test]
fn settings_that_would_be_ignored_are_refused() {
    refused(
        |p| {
            p.tree.method = TreeMethod::Exact;
            p.tree.growth = Growth::Lossguide { max_leaves: 8, max_depth: 0 };
        },
        "tree.growth",
    );
    refused(
        |p| {
            p.tree.method = TreeMethod::Approx;
            p.sampling.method = SamplingMethod::GradientBased;
        },
        "sampling.method",
    );
    let linear = |p: &mut XgBoostParams| p.boosting = Boosting::GbLinear(Linear::default());
    for (name, edit) in [
        ("learning_rate", (|p| p.learning_rate = 0.1) as fn(&mut XgBoostParams)),
        ("tree", |p| p.tree.parallel_trees = 9),
        ("bins", |p| p.bins.max = 9),
        ("penalty", |p| p.penalty.l2 = 9.0),
        ("sampling", |p| p.sampling.rows = 0.5),
        ("categorical", |p| p.categorical.max_onehot = 9),
        ("constraints", |p| p.constraints.interactions.push(vec![])),
        ("early_stopping", |p| p.early_stopping = Some(EarlyStopping::after(3))),
        ("device", |p| p.device = "cuda".into()),
    ] {
        refused(
            |p| {
                linear(p);
                edit(p);
            },
            name,
        );
    }
    refused(
        |p| {
            let metric = Some(Metric::Rmse);
            p.early_stopping = Some(EarlyStopping::default());
            p.early_stopping.as_mut().expect("just set").metric = metric;
            p.engine_metric = Some("mae".into());
        },
        "early_stopping.metric",
    );
}

#[test]
fn params_survive_serde() {
    let full = params(|p| {
        p.objective = Objective::Tweedie { power: 1.2 };
        p.boosting = Boosting::Dart(Dart { drop_rate: 0.1, ..Dart::default() });
        p.tree.growth = Growth::Lossguide { max_leaves: 9, max_depth: 0 };
        p.constraints.monotone.insert("x".into(), Monotone::Decreasing);
        p.extra.insert("refresh_leaf".into(), "1".into());
    });
    let text = serde_json::to_string(&full).expect("writes");
    assert_eq!(serde_json::from_str::<XgBoostParams>(&text).expect("reads"), full);
    let by_hand = r#"{"objective": {"quantile": {"level": 0.9}}, "boosting": "gbtree"}"#;
    let read: XgBoostParams = serde_json::from_str(by_hand).expect("reads");
    assert_eq!(read.objective, Objective::Quantile { level: 0.9 });
}

#[test]
fn an_extra_name_that_the_engine_does_not_know_is_refused() {
    let err = refused(|p| drop(p.extra.insert("max_dept".into(), "3".into())), "extra.max_dept");
    let expected = "parameter `extra.max_dept` is `3`; expected the name of a parameter that \
                    XGBoost 3.4 has a use for";
    assert_eq!(err.to_string(), expected);
    let err = refused(|p| drop(p.extra.insert("refresh_leaf".into(), "maybe".into())), "extra");
    assert!(err.got.contains("refresh_leaf"), "{err}");
    accepted(|p| drop(p.extra.insert("refresh_leaf".into(), "1".into())));
    for name in ["objective", "seed", "random_state", "n_jobs", "num_class", "eval_metric"] {
        refused(|p| drop(p.extra.insert(name.into(), "1".into())), &format!("extra.{name}"));
    }
}

#[test]
fn every_parameter_that_a_field_writes_is_closed_to_extra_by_all_its_names() {
    let mut closed: Vec<String> =
        ["eta", "alpha", "lambda", "gamma", "seed", "nthread"].map(str::to_owned).into();
    for objective in [
        Objective::PseudoHuberError { slope: 1.0 },
        Objective::Tweedie { power: 1.5 },
        Objective::Quantile { level: 0.5 },
        Objective::Logistic,
        Objective::Softprob,
    ] {
        for boosting in [Boosting::Dart(Dart::default()), Boosting::GbLinear(Linear::default())] {
            let params = params(|p| {
                (p.base_score, p.penalty.max_delta_step) = (Some(0.5), Some(1.0));
                p.boosting = boosting;
            });
            closed.extend(params.settings(objective, 3).into_keys());
        }
    }
    for name in closed {
        let err =
            refused(|p| drop(p.extra.insert(name.clone(), "1".into())), &format!("extra.{name}"));
        assert!(err.expected.ends_with("in its place"), "{err}");
    }
}

#[test]
fn each_objective_predicts_better_than_a_constant() {
    let data = table(400, 0);
    let positive: Vec<f64> = data.target().iter().map(|y| (y + 2.0).round()).collect();
    let data = Dataset::regression(data.frame().clone(), positive).expect("valid");
    let mean = data.target().iter().sum::<f64>() / 400.0;
    let trivial = rmse(&[mean; 400], &data);
    for objective in [
        Objective::Auto,
        Objective::SquaredError,
        Objective::AbsoluteError,
        Objective::PseudoHuberError { slope: 5.0 }, // Newton's step overshoots residuals beyond the slope.
        Objective::SquaredLogError,
        Objective::Poisson,
        Objective::Gamma,
        Objective::Tweedie { power: 1.5 },
        Objective::Quantile { level: 0.5 },
    ] {
        let learner = learner(|p| {
            p.objective = objective;
            p.rounds = 40;
        });
        let got = rmse(&predict(&fit(&learner, &data), data.frame()), &data);
        assert!(got < 0.9 * trivial, "{objective:?}: {got}, of a constant {trivial}");
    }
    for (objective, n_classes) in [(Objective::Logistic, 2), (Objective::Softprob, 3)] {
        let data = table(400, n_classes);
        let model = fit(&learner(|p| p.objective = objective), &data);
        let y = model.predict(data.frame()).expect("predicts");
        let right = y.rows().zip(data.target()).filter(|(row, truth)| match n_classes {
            2 => (0.5 < row[0]) == (**truth == 1.0),
            _ => row.iter().all(|p| *p <= row[**truth as usize]),
        });
        assert!(320 < right.count(), "{objective:?} is right on most rows");
    }
}

#[test]
fn an_objective_for_another_task_is_refused() {
    for (objective, n_classes) in
        [(Objective::Logistic, 0), (Objective::Softprob, 2), (Objective::Gamma, 3)]
    {
        let learner = learner(|p| p.objective = objective);
        let err = learner.fit(&table(50, n_classes), &FitContext::seeded(0)).expect_err("task");
        assert!(matches!(err, Error::Data { .. }), "{}", err.chain());
    }
    let weighted = learner(|p| p.scale_pos_weight = 2.0);
    let err = weighted.fit(&table(50, 0), &FitContext::seeded(0)).expect_err("regression");
    assert_eq!(err.to_string(), "scale_pos_weight: expected binary classification, got regression");
}

#[test]
fn a_target_outside_the_objectives_domain_is_the_engines_error() {
    let data = Dataset::regression(table(4, 0).frame().clone(), vec![-5.0, 1.0, 2.0, 3.0]);
    let learner = learner(|p| p.objective = Objective::Poisson);
    let err = learner.fit(&data.expect("valid"), &FitContext::seeded(0)).expect_err("negative");
    let Error::Engine { engine: "xgboost", source } = &err else {
        panic!("{}", err.chain());
    };
    assert!(source.downcast_ref::<XgBoostError>().is_some(), "the source is typed");
    assert!(!source.to_string().contains("Stack trace"), "{source}");
}

#[test]
fn a_quantile_lies_above_its_share_of_the_targets() {
    let data = table(2000, 0);
    for level in [0.1, 0.9] {
        let learner = learner(|p| {
            p.objective = Objective::Quantile { level };
            p.rounds = 60;
        });
        let model = fit(&learner, &data);
        assert_eq!(model.signature().outputs, [Output::Quantile(level)]);
        let y = predict(&model, data.frame());
        let below = y.iter().zip(data.target()).filter(|(y, t)| *t <= *y).count() as f64 / 2000.0;
        assert!(
            (below - level).abs() < 0.05,
            "{below} of the targets lie below the {level} quantile"
        );
    }
}

#[test]
fn categorical_columns_are_split_as_sets() {
    // The even levels are high: as numbers, one split cannot tell them from the odd ones.
    let levels = Levels::new((0..8).map(|k| k.to_string())).expect("distinct");
    let schema = Schema::new([Column::categorical("c", levels)]).expect("distinct");
    let codes: Vec<f32> = (0..80).map(|i| (i % 8) as f32).collect();
    let target: Vec<f64> = codes.iter().map(|c| f64::from(1.0 - c % 2.0)).collect();
    let stump = learner(|p| {
        p.rounds = 1;
        p.learning_rate = 1.0;
        p.penalty.l2 = 0.0;
        p.tree.growth = Growth::Depthwise { max_depth: 1 };
    });
    let native = Frame::with_schema(codes.clone(), schema).expect("valid");
    let native = Dataset::regression(native, target.clone()).expect("valid");
    assert!(rmse(&predict(&fit(&stump, &native), native.frame()), &native) < 1e-6);
    let number = Dataset::regression(Frame::new(codes, 1).expect("valid"), target).expect("valid");
    assert!(0.4 < rmse(&predict(&fit(&stump, &number), number.frame()), &number));
}

#[test]
fn an_unknown_level_is_a_level_of_its_own_where_training_has_it() {
    let schema = |names: &[&str]| {
        let levels = Levels::new(names.iter().copied()).expect("distinct");
        Schema::new([Column::categorical("c", levels)]).expect("distinct")
    };
    let unknown = Frame::UNKNOWN;
    let codes: Vec<f32> = (0..90).map(|i| [0.0, 1.0, unknown][i % 3]).collect();
    let target: Vec<f64> = (0..90).map(|i| [0.0, 1.0, 5.0][i % 3]).collect();
    let data = Frame::with_schema(codes, schema(&["a", "b"])).expect("valid");
    let data = Dataset::regression(data, target).expect("valid");
    let model = fit(&learner(|p| p.rounds = 40), &data);
    let y = predict(&model, data.frame());
    assert!((y[2] - 5.0).abs() < 0.1, "learned from the rows that have it: {}", y[2]);
    let unseen = Frame::with_schema(vec![0.0], schema(&["z"])).expect("valid");
    assert_eq!(predict(&model, &unseen)[0], y[2], "a level that the fit did not see is unknown");
    let mut out = [0.0];
    model.predict_row(&[unknown], &mut out).expect("predicts");
    assert_eq!(out[0], y[2], "and so is one in a single row");
}

#[test]
fn rows_of_a_view_give_the_model_of_their_copy() {
    let data = table(300, 0);
    let rows: Vec<usize> = (0..300).filter(|i| i % 3 != 1).rev().collect();
    let view = data.take(&rows);
    let values = view.frame().values().into_owned();
    let copy = Frame::with_schema(values, view.frame().schema().clone()).expect("valid");
    let copy = view.with_frame(copy).expect("length");
    let (a, b) = (fit(&learner(|_| {}), &view), fit(&learner(|_| {}), &copy));
    assert_eq!(a.to_ubjson().expect("writes"), b.to_ubjson().expect("writes"));
}

#[test]
fn threads_change_no_bit_of_the_model() {
    for n_classes in [0, 2, 3] {
        let data = table(6000, n_classes);
        let weights = (0..6000).map(|i| 0.1 + f64::from(i % 7)).collect();
        let data = data.with_weights(weights).expect("valid");
        for method in [TreeMethod::Hist, TreeMethod::Approx] {
            let learner = learner(|p| {
                p.tree.method = method;
                p.sampling.rows = 0.8;
                p.sampling.columns_per_node = 0.7;
            });
            let model = |threads| {
                let ctx = FitContext::seeded(3).with_threads(threads);
                fit_in(&learner, &data, &ctx).to_ubjson().expect("writes")
            };
            let one = model(1);
            for threads in [2, 3, 4] {
                assert!(
                    model(threads) == one,
                    "{threads} threads, {n_classes} classes, {method:?}"
                );
            }
        }
    }
}

#[test]
fn threads_change_no_bit_of_a_prediction() {
    let data = table(5000, 3);
    let model = fit(&learner(|_| {}), &data);
    let one = predict(&model, data.frame());
    let threads = NonZeroUsize::new(4).expect("not 0");
    let four = mm_core::parallel::with_threads(threads, || predict(&model, data.frame()));
    assert_eq!(four.expect("threads"), one);
}

#[test]
fn many_threads_predict_with_one_model_at_once() {
    let data = table(500, 2);
    for booster in [Boosting::GbTree, Boosting::GbLinear(Linear::default())] {
        let data = if booster == Boosting::GbTree { data.clone() } else { numeric(&data) };
        let model = fit(&learner(|p| p.boosting = booster), &data);
        let expected = predict(&model, data.frame());
        std::thread::scope(|scope| {
            for part in 0..4_usize {
                let (model, data, expected) = (&model, &data, &expected);
                scope.spawn(move || {
                    for i in 0..100 {
                        let row = (part * 120 + i) % 500;
                        let one = predict(model, &data.frame().slice(row, 1));
                        assert_eq!(one[0], expected[row]);
                    }
                });
            }
        });
    }
}

/// A column that the target follows with `slope`, under noise that would bend the fit.
fn bent(slope: f64, noise: &[f64]) -> Dataset {
    let n = noise.len();
    let x = (0..n).map(|i| i as f32 / n as f32).collect();
    let y = noise.iter().enumerate().map(|(i, e)| slope * i as f64 / n as f64 + e).collect();
    Dataset::regression(Frame::new(x, 1).expect("valid"), y).expect("valid")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A monotone constraint holds between any two rows, whatever the noise says.
    #[test]
    fn monotone_constraints_hold(
        noise in prop::collection::vec(-2.0_f64..2.0, 20..120),
        slope in -2.0_f64..2.0,
        rising in any::<bool>(),
    ) {
        let direction = if rising { Monotone::Increasing } else { Monotone::Decreasing };
        let data = bent(slope, &noise);
        let learner = learner(|p| p.constraints.monotone.extend([("f0".into(), direction)]));
        let y = predict(&fit(&learner, &data), data.frame());
        let holds = |w: &[f64]| if rising { w[0] <= w[1] } else { w[1] <= w[0] };
        prop_assert!(y.windows(2).all(holds));
    }
}

#[test]
fn without_the_constraint_the_fit_bends() {
    let noise: Vec<f64> = (0..60).map(|i| if i % 20 < 10 { 1.0 } else { -1.0 }).collect();
    let data = bent(0.5, &noise);
    let y = predict(&fit(&learner(|_| {}), &data), data.frame());
    assert!(y.windows(2).any(|w| w[1] < w[0]), "else the property above holds for nothing");
}

#[test]
fn columns_of_different_groups_do_not_interact() {
    // y = x·z: without interaction, the effect of x does not depend on z.
    let x: Vec<f32> = (0..400).flat_map(|i| [(i % 20) as f32, (i / 20) as f32]).collect();
    let y = (0..400).map(|i| f64::from(i % 20) * f64::from(i / 20)).collect();
    let schema = Schema::new(["x", "z"].map(Column::numeric)).expect("distinct");
    let data = Frame::with_schema(x, schema).expect("valid");
    let data = Dataset::regression(data, y).expect("valid");
    let effect = |edit: fn(&mut XgBoostParams)| {
        let y = predict(&fit(&learner(edit), &data), data.frame());
        let at = |x: usize, z: usize| y[z * 20 + x];
        (at(19, 0) - at(0, 0), at(19, 19) - at(0, 19))
    };
    let (low, high) = effect(|p| {
        p.constraints.interactions = vec![vec!["x".into()], vec!["z".into()]];
    });
    // Sums of ten f32 leaves of a hundred or so: rounding of some 1e-5.
    assert!((low - high).abs() < 1e-3, "{low} and {high}");
    let (low, high) = effect(|_| {});
    assert!(100.0 < high - low, "{low} and {high}");
}

#[test]
fn a_constraint_on_no_numeric_column_is_refused_by_name() {
    let ctx = FitContext::seeded(0);
    let bad = learner(|p| p.constraints.monotone.extend([("w".into(), Monotone::Increasing)]));
    let err = bad.fit(&table(50, 0), &ctx).expect_err("no such column");
    let expected = "constraints.monotone: expected columns of the data (x, y, z, level), got `w`";
    assert_eq!(err.to_string(), expected);
    let bad = learner(|p| p.constraints.monotone.extend([("level".into(), Monotone::Increasing)]));
    let err = bad.fit(&table(50, 0), &ctx).expect_err("categorical");
    let expected = "constraints.monotone: expected numeric columns, got categorical `level`";
    assert_eq!(err.to_string(), expected);
    let bad = learner(|p| p.constraints.interactions = vec![vec!["x".into(), "w".into()]]);
    assert!(bad.fit(&table(50, 0), &ctx).is_err());
}

/// Remembers the metrics of every step.
#[derive(Debug, Default)]
struct Listener(std::sync::Mutex<Vec<(String, f64)>>);

impl Observer for Listener {
    fn on_step(&self, step: &Step<'_>) -> Signal {
        self.0.lock().expect("one thread").extend(step.metrics.iter().cloned());
        Signal::Continue
    }
}

#[test]
fn early_stopping_keeps_the_best_round() {
    let data = table(600, 0);
    let (train, held_out) =
        (data.take(&(0..300).collect::<Vec<_>>()), data.take(&(300..600).collect::<Vec<_>>()));
    for numeric_only in [true, false] {
        let (train, held_out) = if numeric_only {
            (numeric(&train), numeric(&held_out))
        } else {
            (train.clone(), held_out.clone())
        };
        let stopping = learner(|p| {
            p.rounds = 300;
            p.engine_metric = Some("rmse".into());
            p.early_stopping = Some(EarlyStopping::after(5));
        });
        let listener = Listener::default();
        let ctx = FitContext::seeded(7).with_observer(&listener).with_validation(&held_out);
        let model = fit_in(&stopping, &train, &ctx);
        let heard = listener.0.into_inner().expect("one thread");
        let best = model.best_iteration().expect("watched");
        assert_eq!(heard.len(), best + 5, "five rounds without improvement end it");
        assert!(heard.iter().all(|(name, score)| name == "rmse" && heard[best - 1].1 <= *score));
        assert_eq!((model.n_rounds(), model.n_trees()), (best, best));
        let got = rmse(&predict(&model, held_out.frame()), &held_out);
        // The engine sums in f64 over f32 predictions, as `rmse` does, in another order.
        assert!((got - heard[best - 1].1).abs() < 1e-6, "{got} and {}", heard[best - 1].1);

        let plain = fit(&learner(|p| p.rounds = best), &train);
        assert_eq!(predict(&model, held_out.frame()), predict(&plain, held_out.frame()));
        let opened = catalog().open(model.to_envelope().expect("seals").as_bytes()).expect("opens");
        let opened = opened.downcast_ref::<XgBoostModel>().expect("same kind");
        assert_eq!(opened.best_iteration(), Some(best), "it is stored");
    }
}

#[test]
fn a_metric_of_which_more_is_better_is_maximised() {
    let data = table(400, 2);
    let held_out = data.take(&(200..400).collect::<Vec<_>>());
    let listener = Listener::default();
    let ctx = FitContext::seeded(7).with_observer(&listener).with_validation(&held_out);
    let stopping = learner(|p| {
        p.rounds = 100;
        p.engine_metric = Some("auc".into());
        p.early_stopping = Some(EarlyStopping::after(4));
    });
    let model = fit_in(&stopping, &data.take(&(0..200).collect::<Vec<_>>()), &ctx);
    let heard = listener.0.into_inner().expect("one thread");
    let best = model.best_iteration().expect("watched");
    assert!(heard.iter().all(|(_, score)| *score <= heard[best - 1].1), "{best} of {heard:?}");
}

#[test]
fn k_rounds_and_m_more_are_k_plus_m() {
    for n_classes in [0, 2, 3] {
        let data = table(400, n_classes);
        let ctx = FitContext::seeded(7);
        let first = fit(&learner(|p| p.rounds = 6), &data);
        let more = learner(|p| p.rounds = 4);
        let continued = more.fit_after(&first, &data, &ctx).expect("same signature");
        let once = fit(&learner(|p| p.rounds = 10), &data);
        assert_eq!(predict(&continued, data.frame()), predict(&once, data.frame()));
        assert_eq!((continued.n_rounds(), first.n_rounds()), (10, 6));

        let erased: &dyn WarmStart = more.as_warm_start().expect("it is one");
        let boxed: BoxModel = Box::new(first);
        let erased = erased.fit_from(&boxed, &data, &ctx).expect("same signature");
        let erased = erased.predict(data.frame()).expect("predicts");
        assert_eq!(erased.values(), predict(&once, data.frame()));
    }
}

#[test]
fn a_warm_start_keeps_the_best_of_its_own_rounds() {
    let data = table(600, 0);
    let first = fit(&learner(|p| p.rounds = 5), &data.take(&(0..300).collect::<Vec<_>>()));
    let held_out = data.take(&(300..600).collect::<Vec<_>>());
    let ctx = FitContext::seeded(7).with_validation(&held_out);
    let more = learner(|p| {
        p.rounds = 200;
        p.engine_metric = Some("rmse".into());
        p.early_stopping = Some(EarlyStopping::after(5));
    });
    let train = data.take(&(0..300).collect::<Vec<_>>());
    let model = more.fit_after(&first, &train, &ctx).expect("same signature");
    assert_eq!(model.best_iteration(), Some(model.n_rounds()));
    assert!(5 < model.n_rounds() && model.n_rounds() < 205);
}

#[test]
fn a_warm_start_from_another_kind_of_model_is_refused() {
    let ctx = FitContext::seeded(0);
    let data = table(60, 0);
    let model = fit(&learner(|_| {}), &data);
    let err = learner(|_| {}).fit_after(&model, &table(60, 2), &ctx).expect_err("task");
    assert!(matches!(err, Error::Data { .. }), "{}", err.chain());
    let err = learner(|_| {}).fit_after(&model, &numeric(&data), &ctx).expect_err("columns");
    assert!(matches!(err, Error::Columns { expected: 4, got: 3 }), "{}", err.chain());
    let quantile = learner(|p| p.objective = Objective::Quantile { level: 0.5 });
    let err = quantile.fit_after(&model, &data, &ctx).expect_err("outputs");
    assert!(err.to_string().starts_with("model to continue from"), "{err}");
}

#[test]
fn the_observer_may_stop_or_abort_at_an_iteration() {
    let data = table(200, 0);
    let stop = |step: &Step<'_>| if step.iteration == 4 { Signal::Stop } else { Signal::Continue };
    let model = fit_in(&learner(|_| {}), &data, &FitContext::seeded(7).with_observer(&stop));
    assert_eq!(model.n_rounds(), 4, "the model so far");
    let heard = AtomicUsize::new(0);
    let cancel = Cancel::default();
    let call_off = |step: &Step<'_>| {
        heard.fetch_add(1, Ordering::Relaxed);
        if step.iteration == 3 {
            cancel.cancel();
        }
        Signal::Continue
    };
    let ctx = FitContext::seeded(7).with_observer(&call_off).with_cancel(&cancel);
    assert!(matches!(learner(|_| {}).fit(&data, &ctx), Err(Error::Cancelled)));
    assert_eq!(heard.into_inner(), 3, "at the iteration after the call");
    let abort = |_: &Step<'_>| Signal::Abort;
    let ctx = FitContext::seeded(7).with_observer(&abort);
    assert!(matches!(learner(|_| {}).fit(&data, &ctx), Err(Error::Cancelled)));
    let late = FitContext::seeded(7).with_deadline(Instant::now());
    assert!(matches!(learner(|_| {}).fit(&data, &late), Err(Error::Deadline)));
}

#[test]
fn class_weights_act_as_row_weights() {
    let data = table(300, 2);
    let factors = [("class 1".to_owned(), 3.0)].into();
    let by_class = learner(|p| p.class_weight = ClassWeight::Explicit(factors));
    let weights = data.target().iter().map(|y| 1.0 + 2.0 * y).collect();
    let by_row = data.clone().with_weights(weights).expect("valid");
    let expected = predict(&fit(&learner(|_| {}), &by_row), data.frame());
    assert_eq!(predict(&fit(&by_class, &data), data.frame()), expected);
    let scaled = learner(|p| p.scale_pos_weight = 3.0);
    let scaled = predict(&fit(&scaled, &data), data.frame());
    assert_ne!(scaled, predict(&fit(&learner(|_| {}), &data), data.frame()));
}

#[test]
fn a_feature_without_a_split_has_importance_0() {
    let x = (0..200).flat_map(|i| [(i % 7) as f32, 1.0]).collect();
    let y = (0..200).map(|i| f64::from(i % 7)).collect();
    let data = Dataset::regression(Frame::new(x, 2).expect("valid"), y).expect("valid");
    let model = fit(&learner(|_| {}), &data);
    let importance = model.as_importance().expect("trees have it");
    for kind in [ImportanceKind::Gain, ImportanceKind::Count, ImportanceKind::Cover] {
        let scores = importance.importance(kind).expect("known");
        assert!(0.0 < scores[0] && scores[1] == 0.0, "{kind:?}: {scores:?}");
    }
    let linear = learner(|p| p.boosting = Boosting::GbLinear(Linear::default()));
    assert!(fit(&linear, &data).as_importance().is_none());
}

#[test]
fn trees_are_counted_by_class_and_parallel_tree() {
    let model = fit(&learner(|p| p.tree.parallel_trees = 2), &table(200, 3));
    assert_eq!((model.n_trees(), model.n_rounds()), (60, 10));
    let shared = learner(|p| p.tree.multi_strategy = MultiStrategy::MultiOutputTree);
    assert_eq!(fit(&shared, &table(200, 3)).n_trees(), 10);
    assert_eq!(model.best_iteration(), None);
}

#[test]
fn boosters_go_out_and_come_back() {
    let data = table(300, 2);
    let model = fit(&learner(|_| {}), &data);
    let expected = predict(&model, data.frame());
    let json = model.to_json().expect("writes").into_bytes();
    for bytes in [json, model.to_ubjson().expect("writes")] {
        let signature = model.signature().clone();
        let back = XgBoostModel::from_bytes_as(&bytes, signature).expect("same width");
        assert_eq!(predict(&back, data.frame()), expected);
        let err = XgBoostModel::from_bytes(&bytes).expect_err("no stored levels");
        assert!(err.to_string().contains("`level`"), "{err}");

        let narrow = Signature::new(Schema::numeric(2), data.task().clone());
        let err = XgBoostModel::from_bytes_as(&bytes, narrow).expect_err("width");
        assert!(matches!(err, Error::Columns { expected: 4, got: 2 }), "{err}");
        let untyped = Signature::new(Schema::numeric(4), data.task().clone());
        let err = XgBoostModel::from_bytes_as(&bytes, untyped).expect_err("type");
        assert!(matches!(err, Error::Column { index: 3, .. }), "{err}");
        let task = Task::classes(["a", "b", "c"]).expect("3");
        let other = Signature::new(data.frame().schema().clone(), task);
        let err = XgBoostModel::from_bytes_as(&bytes, other).expect_err("outputs");
        assert!(matches!(err, Error::Data { .. }), "{err}");
    }
    let data = numeric(&data);
    let model = fit(&learner(|_| {}), &data);
    let derived = XgBoostModel::from_bytes(&model.to_ubjson().expect("writes")).expect("derives");
    assert_eq!(derived.signature().schema, *data.frame().schema());
    assert_eq!(derived.signature().task, Task::classes(["0", "1"]).expect("2"));
    let quantile = learner(|p| p.objective = Objective::Quantile { level: 0.25 });
    let model = fit(&quantile, &numeric(&table(100, 0)));
    let derived = XgBoostModel::from_bytes(&model.to_ubjson().expect("writes")).expect("derives");
    assert_eq!(derived.signature(), model.signature());
}

/// Predictions without XGBoost are those of XGBoost.
mod without_the_engine {
    use super::*;

    /// Rows that hold, column by column, every odd value: missing, infinite, zeros of both signs,
    /// what is next to nothing, thresholds of `model`, and their neighbours; as codes, all levels
    /// and unknown ones.
    fn odd_rows(model: &XgBoostModel) -> Frame {
        let schema = model.signature().schema.clone();
        let odd = [
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
            0.0,
            -0.0,
            1e-40,
            -1e-40,
            0.5,
            -1.0,
        ];
        let pool = |column: &Column| -> Vec<f32> {
            let plain = column.levels().map_or(odd.to_vec(), |levels| {
                (0..levels.len()).map(|code| code as f32).chain([Frame::UNKNOWN]).collect()
            });
            [plain, vec![f32::NAN]].concat()
        };
        let mut pools: Vec<Vec<f32>> = schema.columns().iter().map(pool).collect();
        let trees = model.forest().map_or(&[][..], |forest| forest.trees());
        for split in trees.iter().flat_map(Tree::splits) {
            if let Test::Below { threshold, .. } = split.test {
                pools[split.feature].extend([
                    threshold,
                    threshold.next_up(),
                    threshold.next_down(),
                ]);
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

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|y| if y.is_nan() { f64::NAN.to_bits() } else { y.to_bits() }).collect()
    }

    fn infer(model: &XgBoostModel, x: &Frame) -> Vec<u64> {
        let mut out = mm_core::Matrix::zeros(x.n_rows(), model.signature().n_outputs());
        model.infer(x, &mut out).expect("predicts");
        bits(out.values())
    }

    #[track_caller]
    fn check(what: &str, model: &XgBoostModel) {
        let x = odd_rows(model);
        let width = model.signature().n_outputs();
        let mut booster = ffi::Booster::new(&[]).expect("makes one");
        booster.set("nthread", "1").expect("a number");
        let bytes = model.to_ubjson().expect("writes");
        booster.load(&bytes).expect("XGBoost opens what is written");
        let values = Codes::of(&model.signature().schema).values(&x, 0, x.n_rows()).into_owned();
        let engine = |is_raw, rounds: (usize, usize)| {
            let mut out = vec![0.0; x.n_rows() * width];
            let predicted = booster.predict_values(&values, x.n_cols(), is_raw, rounds, &mut out);
            predicted.expect("predicts");
            bits(&out)
        };
        let forest = model.forest().expect("trees");
        let mut raw = vec![0.0; x.n_rows() * width];
        for (row, out) in values.chunks_exact(x.n_cols()).zip(raw.chunks_exact_mut(width)) {
            forest.raw_by_definition(row, out);
        }
        assert_eq!(bits(&raw), engine(true, (0, 0)), "{what}, raw");
        let all = infer(model, &x);
        assert_eq!(all, engine(false, (0, 0)), "{what}");
        let mut row = vec![0.0; width];
        for (i, all) in all.chunks_exact(width).enumerate() {
            model.infer_row(x.row(i), &mut row).expect("predicts");
            assert_eq!(bits(&row), all, "{what}, row {i} by itself");
        }
        let n = model.n_rounds();
        for rounds in [0..1, 0..n, n / 2..n, n - 1..n] {
            let slice = model.slice(rounds.clone()).expect("rounds that are there");
            let got = infer(&slice, &x);
            assert_eq!(got, engine(false, (rounds.start, rounds.end)), "{what}, {rounds:?}");
            let bytes = slice.to_ubjson().expect("writes");
            ffi::Booster::new(&[]).and_then(|mut new| new.load(&bytes)).expect("opens a slice");
        }
        assert!(booster.save(ffi::Format::Ubjson).expect("writes") == bytes, "{what}: UBJSON");
        let json = booster.save(ffi::Format::Json).expect("writes");
        let ours = model.to_json().expect("writes");
        // Of two shortest decimals as near as each other, either may be written.
        let read = |json: &[u8]| value::Value::read(json).expect("JSON");
        assert_eq!(read(&json), read(ours.as_bytes()), "{what}: JSON");
        let signature = model.signature().clone();
        let again = XgBoostModel::from_bytes_as(ours.as_bytes(), signature).expect("reads");
        assert_eq!(again.forest(), model.forest(), "{what}, read again");
        assert!(again.to_ubjson().expect("writes") == bytes, "{what}, by way of JSON");
    }

    #[track_caller]
    fn agrees(what: &str, edit: impl FnOnce(&mut XgBoostParams), n_classes: usize) {
        check(what, &fit(&learner(edit), &table(400, n_classes)));
    }

    #[test]
    fn every_objective_agrees() {
        let data = table(400, 0);
        let positive = data.target().iter().map(|y| (y + 2.0).round()).collect();
        let data = Dataset::regression(data.frame().clone(), positive).expect("valid");
        for objective in [
            Objective::SquaredError,
            Objective::AbsoluteError,
            Objective::PseudoHuberError { slope: 1.0 },
            Objective::SquaredLogError,
            Objective::Poisson,
            Objective::Gamma,
            Objective::Tweedie { power: 1.5 },
            Objective::Quantile { level: 0.3 },
        ] {
            check(&format!("{objective:?}"), &fit(&learner(|p| p.objective = objective), &data));
        }
        agrees("binary", |_| {}, 2);
        agrees("multiclass", |_| {}, 3);
    }

    #[test]
    fn every_way_of_boosting_agrees() {
        for n_classes in [0, 2, 3] {
            let dart = |p: &mut XgBoostParams| {
                p.boosting = Boosting::Dart(Dart { drop_rate: 0.3, ..Dart::default() });
            };
            agrees("dart", dart, n_classes);
            agrees("large trees", |p| p.rounds = 60, n_classes);
            let lossguide = |p: &mut XgBoostParams| {
                p.tree.growth = Growth::Lossguide { max_leaves: 20, max_depth: 0 };
            };
            agrees("by loss", lossguide, n_classes);
            agrees("approximate", |p| p.tree.method = TreeMethod::Approx, n_classes);
            let forest = |p: &mut XgBoostParams| {
                p.sampling.rows = 0.6;
                p.tree.parallel_trees = 3;
            };
            agrees("several trees a round", forest, n_classes);
            agrees("one level a split", |p| p.categorical.max_onehot = 100, n_classes);
        }
        let shared = |p: &mut XgBoostParams| p.tree.multi_strategy = MultiStrategy::MultiOutputTree;
        agrees("leaves of vectors", shared, 3);
    }

    #[test]
    fn an_unknown_level_that_training_has_agrees() {
        let data = table(300, 0);
        let mut values = data.frame().values().into_owned();
        values.chunks_exact_mut(4).step_by(3).for_each(|row| row[3] = Frame::UNKNOWN);
        let frame = Frame::with_schema(values, data.frame().schema().clone()).expect("valid");
        let target = frame.column(3).zip(data.target()).map(|(x, y)| f64::from(x) + y).collect();
        let data = Dataset::regression(frame, target).expect("valid");
        check("unknown", &fit(&learner(|p| p.categorical.max_onehot = 100), &data));
    }

    #[test]
    fn a_pruned_model_predicts_the_same_and_is_written_without_its_holes() {
        let exact = learner(|p| {
            p.tree.method = TreeMethod::Exact;
            p.penalty.min_gain = 0.3;
        });
        let data = numeric(&table(400, 0));
        let model = fit(&exact, &data);
        let x = odd_rows(&model);
        let bytes = model.to_ubjson().expect("writes");
        let mut booster = ffi::Booster::new(&[]).expect("makes one");
        booster.load(&bytes).expect("XGBoost opens what is written");
        let mut out = vec![0.0; x.n_rows()];
        booster.predict_values(&x.values(), 3, false, (0, 0), &mut out).expect("predicts");
        assert_eq!(infer(&model, &x), bits(&out));
    }

    #[test]
    fn a_linear_model_agrees() {
        for n_classes in [0, 2, 3] {
            let data = numeric(&table(200, n_classes));
            let model =
                fit(&learner(|p| p.boosting = Boosting::GbLinear(Linear::default())), &data);
            let bytes = model.to_ubjson().expect("writes");
            let mut booster = ffi::Booster::new(&[]).expect("makes one");
            booster.load(&bytes).expect("XGBoost opens what is written");
            let table = ffi::Table::of_values(&data.frame().values(), 3, 1).expect("values");
            let mut out = vec![0.0; 200 * model.signature().n_outputs()];
            booster.predict_table(&table, &mut out).expect("predicts");
            assert_eq!(infer(&model, data.frame()), bits(&out), "{n_classes} classes");
            assert!(booster.save(ffi::Format::Ubjson).expect("writes") == bytes);
        }
    }

    #[test]
    fn a_continued_model_agrees() {
        let data = table(300, 2);
        let first = fit(&learner(|_| {}), &data);
        let ctx = FitContext::seeded(8);
        check("continued", &learner(|_| {}).fit_after(&first, &data, &ctx).expect("fits"));
    }
}

#[test]
fn a_damaged_booster_is_an_error() {
    let model = fit(&learner(|p| p.rounds = 2), &numeric(&table(60, 0)));
    let bytes = model.to_ubjson().expect("writes");
    for cut in (0..bytes.len()).step_by(7) {
        assert!(XgBoostModel::from_bytes(&bytes[..cut]).is_err(), "cut to {cut} bytes");
    }
}

#[test]
fn validation_levels_that_training_lacks_do_no_harm() {
    let data = table(200, 0);
    let without: Vec<usize> = (0..200).filter(|&i| data.frame().row(i)[3] != 2.0).collect();
    let with: Vec<usize> = (0..200).filter(|&i| data.frame().row(i)[3] == 2.0).collect();
    let held_out = data.take(&with);
    let listener = Listener::default();
    let ctx = FitContext::seeded(7).with_observer(&listener).with_validation(&held_out);
    let learner = learner(|p| p.engine_metric = Some("rmse".into()));
    let model = fit_in(&learner, &data.take(&without), &ctx);
    let last = listener.0.into_inner().expect("one thread").pop().expect("heard").1;
    let got = rmse(&predict(&model, held_out.frame()), &held_out);
    assert!((got - last).abs() < 1e-6, "scored {last} while training, {got} after");
}

#[test]
fn the_sample_of_the_conformance_suite_is_learnt() {
    let data = sample(80, 0, Checks::default());
    let y = predict(&fit(&learner(|p| p.rounds = 100), &data), data.frame());
    assert!(rmse(&y, &data) < 0.5);
}

/// Agreement with the Python package; see `tests/fixtures/xgboost.py`.
mod oracle {
    use serde_json::Value;

    use super::*;

    fn fixture() -> Value {
        let text = include_str!("../../tests/fixtures/xgboost.json");
        serde_json::from_str(text).expect("committed as JSON")
    }

    fn numbers(value: &Value) -> Vec<f64> {
        let number = |x: &Value| x.as_f64().expect("a number");
        value.as_array().expect("a list").iter().map(number).collect()
    }

    fn check(case: &str, edit: impl FnOnce(&mut XgBoostParams)) {
        let fixture = fixture();
        let case = &fixture["cases"][case];
        let rows = fixture["x"].as_array().expect("a list");
        let cells = rows.iter().flat_map(|row| row.as_array().expect("a list"));
        let x = cells.map(|x| x.as_f64().map_or(f32::NAN, |x| x as f32)).collect();
        let levels = Levels::new((0..9).map(|k| k.to_string())).expect("distinct");
        let mut columns: Vec<Column> = ["a", "b", "c"].map(Column::numeric).into();
        columns.push(Column::categorical("d", levels));
        let frame = Frame::with_schema(x, Schema::new(columns).expect("distinct")).expect("valid");
        let target = case["target"].as_str().expect("a name");
        let task = match target {
            "regression" => Task::Regression,
            "binary" => Task::classes(["no", "yes"]).expect("2"),
            _ => Task::classes(["a", "b", "c", "d"]).expect("4"),
        };
        let mut data =
            Dataset::new(frame, task, numbers(&fixture["targets"][target])).expect("valid");
        if case["weighted"] == true {
            data = data.with_weights(numbers(&fixture["weights"])).expect("valid");
        }
        let learner = learner(|p| {
            p.rounds = 25;
            edit(p);
        });
        let model = fit_in(&learner, &data, &FitContext::seeded(42));
        // The same version of the engine: the same bits.
        assert_eq!(predict(&model, data.frame()), numbers(&case["predictions"]));
    }

    #[test]
    fn binary_with_weights() {
        check("binary_weighted", |_| {});
    }

    #[test]
    fn multiclass() {
        check("multiclass", |p| p.learning_rate = 0.1);
    }

    #[test]
    fn regression_with_sampling() {
        check("regression_sampled", |p| {
            p.sampling.rows = 0.7;
            p.sampling.columns = 0.8;
            p.sampling.columns_per_node = 0.6;
            p.penalty.l2 = 2.5;
            p.penalty.l1 = 0.3;
            p.penalty.min_gain = 0.05;
            p.tree.min_hessian_in_leaf = 3.0;
            p.categorical.max_onehot = 20;
        });
    }

    #[test]
    fn dart() {
        check("dart", |p| {
            p.boosting = Boosting::Dart(Dart {
                drop_rate: 0.3,
                skip_drop: 0.2,
                normalize: DartNormalize::Forest,
                ..Dart::default()
            });
        });
    }

    #[test]
    fn quantile() {
        check("quantile", |p| p.objective = Objective::Quantile { level: 0.8 });
    }

    #[test]
    fn lossguide() {
        check("lossguide", |p| {
            p.tree.growth = Growth::Lossguide { max_leaves: 9, max_depth: 0 };
            p.bins.max = 16;
            p.scale_pos_weight = 2.0;
        });
    }

    #[test]
    fn monotone() {
        check("monotone", |p| {
            let directions = [("a", Monotone::Increasing), ("b", Monotone::Decreasing)];
            p.constraints.monotone = directions.map(|(name, way)| (name.to_owned(), way)).into();
        });
    }

    #[test]
    fn approximate_search() {
        check("approx", |p| {
            p.tree.method = TreeMethod::Approx;
            p.objective = Objective::AbsoluteError;
        });
    }

    #[test]
    fn a_model_fitted_to_a_data_frame_opens_with_its_levels() {
        let fixture = fixture();
        let stored = &fixture["stored"];
        let text = stored["model"].as_str().expect("text");
        let model = XgBoostModel::from_bytes(text.as_bytes()).expect("a booster");
        let schema = &model.signature().schema;
        let levels = |j: usize| schema.columns()[j].levels().expect("categorical").names();
        assert_eq!(levels(1), ["blüe", "green", "red"]);
        assert_eq!(levels(2), ["20", "30", "40", "50"]);
        let (mut row, mut out) = (Vec::new(), [0.0]);
        let rows = stored["cells"].as_array().expect("a list");
        for (cells, expected) in rows.iter().zip(numbers(&stored["predictions"])) {
            let cells = cells.as_array().expect("a list");
            let cells: Vec<&str> = cells.iter().map(|x| x.as_str().expect("text")).collect();
            schema.parse_row(&cells, &mut row).expect("as in the signature");
            model.predict_row(&row, &mut out).expect("predicts");
            assert_eq!(out[0], expected);
        }
    }
}
