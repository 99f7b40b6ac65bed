//! What both engines owe whoever watches a fit: scores that are those of the model so far, a stop
//! where patience ends, and a model that ends with its best round.

#![cfg(all(feature = "lightgbm", feature = "xgboost"))]

use std::sync::Mutex;

use mm_core::{
    Column, Dataset, EarlyStopping, Error, FitContext, Frame, Learner, Levels, Metric, Model as _,
    Params as _, Schema, Signal, Step, Task,
};
use mm_trees::{
    LightGbm, LightGbmParams, XgBoost, XgBoostParams, catboost::CatBoostParams, lightgbm, xgboost,
};
use proptest::prelude::*;

/// The same numbers on every machine, in [0, 1).
fn noise(i: usize) -> f64 {
    let x = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Rows `first..last` of an endless table: two numeric columns with missing cells, a categorical
/// one, weights, and a target of much noise, so that trees soon learn what is not there.
fn table(first: usize, last: usize, n_classes: usize) -> Dataset {
    let levels = Levels::new(["north", "south", "west", "east", "up"]).expect("distinct");
    let columns = [Column::numeric("a"), Column::numeric("b"), Column::categorical("c", levels)];
    let (mut values, mut target) = (Vec::new(), Vec::new());
    for i in first..last {
        let (a, b, c) = (noise(5 * i), noise(5 * i + 1), (noise(5 * i + 2) * 5.0).floor());
        let signal = a + (6.0 * b).sin() / 2.0 + 1.5 * noise(5 * i + 3) + 0.1 * c;
        target.push(match n_classes {
            0 => signal,
            k => (signal / 3.0 * k as f64).floor().clamp(0.0, (k - 1) as f64),
        });
        values.extend([a as f32, if i % 9 == 4 { f32::NAN } else { b as f32 }, c as f32]);
    }
    let frame = Frame::with_schema(values, Schema::new(columns).expect("distinct"));
    let names = (0..n_classes).map(|k| format!("class {k}"));
    let task = if n_classes == 0 { Task::Regression } else { Task::classes(names).expect("2+") };
    let data = Dataset::new(frame.expect("valid"), task, target).expect("valid");
    data.with_weights((first..last).map(|i| 0.5 + noise(5 * i + 4)).collect()).expect("valid")
}

/// A learner of so many rounds; of a quantile, if a level is given.
type Make<L> = fn(usize, Option<EarlyStopping>, Option<f64>) -> L;

fn light(rounds: usize, stopping: Option<EarlyStopping>, level: Option<f64>) -> LightGbm {
    let params = LightGbmParams::default().with(|p| {
        (p.rounds, p.learning_rate, p.early_stopping) = (rounds, 0.3, stopping);
        (p.tree.leaves, p.tree.min_data_in_leaf, p.categorical.min_data_per_group) = (8, 3, 3);
        if let Some(level) = level {
            p.objective = lightgbm::Objective::Quantile { level };
        }
    });
    params.build().expect("valid")
}

fn xg(rounds: usize, stopping: Option<EarlyStopping>, level: Option<f64>) -> XgBoost {
    let params = XgBoostParams::default().with(|p| {
        (p.rounds, p.early_stopping) = (rounds, stopping);
        if let Some(level) = level {
            p.objective = xgboost::Objective::Quantile { level };
        }
    });
    params.build().expect("valid")
}

fn stopping(after: usize, metric: Option<Metric>, min_delta: f64) -> EarlyStopping {
    let mut stopping = EarlyStopping::after(after);
    (stopping.metric, stopping.min_delta) = (metric, min_delta);
    stopping
}

/// Fits and returns the model with what the observer heard.
fn heard<L: Learner>(
    learner: &L,
    train: &Dataset,
    held_out: &Dataset,
) -> (L::Model, Vec<(String, f64)>) {
    let heard = Mutex::new(Vec::new());
    let observer = |step: &Step<'_>| {
        let mut heard = heard.lock().expect("one thread");
        assert_eq!(step.iteration, heard.len() + 1);
        assert_eq!(step.metrics.len(), 1);
        heard.push(step.metrics[0].clone());
        Signal::Continue
    };
    let ctx = FitContext::seeded(7).with_observer(&observer).with_validation(held_out);
    let model = learner.fit(train, &ctx).unwrap_or_else(|e| panic!("must fit: {}", e.chain()));
    (model, heard.into_inner().expect("one thread"))
}

/// Scored after every fifth round and the last, a fit hears what it hears when each is scored, and gives the
/// same model.
fn rounds_between_two_scores_change_nothing<L: Learner>(learner: &L) {
    let (train, held_out) = (table(0, 200, 2), table(200, 320, 2));
    let (model, all) = heard(learner, &train, &held_out);
    let some = Mutex::new(Vec::new());
    let observer = |step: &Step<'_>| {
        let heard = step.metrics.iter().map(|metric| (step.iteration, metric.clone()));
        some.lock().expect("one thread").extend(heard);
        Signal::Continue
    };
    let mut ctx = FitContext::seeded(7).with_observer(&observer).with_validation(&held_out);
    ctx.score_every = 5.try_into().expect("not 0");
    let again = learner.fit(&train, &ctx).expect("fits");
    let expected: Vec<_> = [5, 10, 12].map(|round| (round, all[round - 1].clone())).into();
    assert_eq!(some.into_inner().expect("one thread"), expected);
    let predict = |model: &L::Model| model.predict(held_out.frame()).expect("predicts");
    assert_eq!(predict(&again), predict(&model));
}

#[test]
fn rounds_between_two_scores_change_nothing_for_any_engine() {
    rounds_between_two_scores_change_nothing(&light(12, None, None));
    rounds_between_two_scores_change_nothing(&xg(12, None, None));
    let catboost = CatBoostParams::default().with(|p| p.rounds = 12).build().expect("valid");
    rounds_between_two_scores_change_nothing(&catboost);
}

/// The cases: classes, level of a quantile, metric to watch (the default if none), its name.
fn cases() -> Vec<(usize, Option<f64>, Option<Metric>, Metric)> {
    let pinball = Metric::Pinball { level: 0.8 };
    vec![
        (0, None, None, Metric::Rmse),
        (0, None, Some(Metric::R2), Metric::R2),
        (0, Some(0.8), None, pinball),
        (0, Some(0.8), Some(pinball), pinball),
        (2, None, None, Metric::LogLoss),
        (2, None, Some(Metric::ROC_AUC), Metric::ROC_AUC),
        (3, None, None, Metric::LogLoss),
        (3, None, Some(Metric::ROC_AUC), Metric::ROC_AUC),
    ]
}

/// Both engines predict the validation data from binned cells and add up tree by tree in the order
/// in which the finished model does, so that nothing is rounded otherwise: the scores are equal bit
/// for bit. XGBoost's sums are `f32`, which the metric widens, as `predict` does.
fn scores_are_those_of_the_model_so_far<L: Learner>(make: Make<L>) {
    for (n_classes, level, metric, watched) in cases() {
        let (train, held_out) = (table(0, 200, n_classes), table(200, 320, n_classes));
        let watch = stopping(1000, metric, 0.0);
        let (_, scores) = heard(&make(12, Some(watch), level), &train, &held_out);
        assert_eq!(scores.len(), 12);
        for (i, (name, score)) in scores.iter().enumerate() {
            let model = make(i + 1, None, level).fit(&train, &FitContext::seeded(7)).expect("fits");
            let predicted = model.predict(held_out.frame()).expect("predicts");
            let outputs = &model.signature().outputs;
            let expected = watched.score_outputs(held_out.truth(), &predicted, outputs);
            assert_eq!(name, watched.name());
            assert_eq!(*score, expected.expect("defined"), "round {} of {watched}", i + 1);
        }
    }
}

#[test]
fn scores_of_lightgbm_are_those_of_the_model_so_far() {
    scores_are_those_of_the_model_so_far(light);
}

#[test]
fn scores_of_xgboost_are_those_of_the_model_so_far() {
    scores_are_those_of_the_model_so_far(xg);
}

/// The fit ends where `Patience` says, and its model is that of a fit of the best round's length.
fn a_fit_ends_as_patience_says<L: Learner>(make: Make<L>, best_of: fn(&L::Model) -> Option<usize>) {
    for (n_classes, level, metric, watched) in cases() {
        for min_delta in [0.0, 0.01] {
            let (train, held_out) = (table(0, 200, n_classes), table(200, 320, n_classes));
            let rule = stopping(4, metric, min_delta);
            let learner = make(300, Some(rule.clone()), level);
            let (model, scores) = heard(&learner, &train, &held_out);
            let mut patience = rule.patience(watched.direction());
            let stops = (1..).zip(&scores).find(|&(i, (_, s))| patience.is_exhausted_by(i, *s));
            assert_eq!(stops.map(|(i, _)| i), Some(scores.len()), "{watched} {min_delta}");
            let (best, score) = patience.best().expect("some round is best");
            assert_eq!(best_of(&model), Some(best), "{watched} {min_delta}");
            let cut = make(best, None, level).fit(&train, &FitContext::seeded(7)).expect("fits");
            let predicted = model.predict(held_out.frame()).expect("predicts");
            assert_eq!(predicted, cut.predict(held_out.frame()).expect("predicts"));
            let outputs = &model.signature().outputs;
            let again = watched.score_outputs(held_out.truth(), &predicted, outputs);
            assert_eq!(again.expect("defined"), score);
        }
    }
}

#[test]
fn a_fit_of_lightgbm_ends_as_patience_says() {
    a_fit_ends_as_patience_says(light, |model| {
        assert_eq!(model.best_iteration(), Some(model.n_rounds()));
        model.best_iteration()
    });
}

#[test]
fn a_fit_of_xgboost_ends_as_patience_says() {
    a_fit_ends_as_patience_says(xg, |model| {
        assert_eq!(model.best_iteration(), Some(model.n_rounds()));
        model.best_iteration()
    });
}

/// What cannot be scored is an error before the first round.
fn what_cannot_be_scored_is_refused_before_training<L: Learner>(make: Make<L>) {
    let one_class = {
        let data = table(200, 320, 2);
        let rows: Vec<usize> = (0..120).filter(|&i| data.target()[i] == 0.0).collect();
        data.take(&rows)
    };
    for (n_classes, level, metric, held_out, says) in [
        (2, None, Metric::Rmse, table(200, 260, 2), "metric `rmse`"),
        (0, None, Metric::LogLoss, table(200, 260, 0), "metric `log_loss`"),
        (0, Some(0.8), Metric::Rmse, table(200, 260, 0), "outputs: expected Value"),
        (0, Some(0.8), Metric::Pinball { level: 0.5 }, table(200, 260, 0), "outputs: expected"),
        (2, None, Metric::ROC_AUC, one_class, "expected at least 2 classes"),
    ] {
        let unheard = |_: &Step<'_>| -> Signal { panic!("no round is trained") };
        let ctx = FitContext::seeded(7).with_observer(&unheard).with_validation(&held_out);
        let learner = make(10, Some(stopping(3, Some(metric), 0.0)), level);
        let err = learner.fit(&table(0, 200, n_classes), &ctx).map(drop).expect_err("refused");
        let is_of_data = matches!(err.root(), Error::Data { .. } | Error::OneClass { .. });
        assert!(is_of_data, "{}", err.chain());
        let place = format!("in the validation data: {says}");
        assert!(err.chain().starts_with(&place), "{}", err.chain());
    }
}

#[test]
fn what_cannot_be_scored_is_refused_before_training_by_both() {
    what_cannot_be_scored_is_refused_before_training(light);
    what_cannot_be_scored_is_refused_before_training(xg);
}

/// Levels that no training row has, and ones that the training dictionary lacks, in the validation
/// data: both are scored as the model predicts them.
fn levels_unseen_in_training_are_scored_as_predicted<L: Learner>(make: Make<L>) {
    for n_classes in [0, 2, 3] {
        let all = table(0, 200, n_classes);
        let seen: Vec<usize> = (0..200).filter(|&i| all.frame().row(i)[2] != 1.0).collect();
        let train = all.take(&seen);
        let held_out = table(200, 320, n_classes);
        let mut columns = held_out.frame().schema().columns().to_vec();
        let names = ["down", "south", "west", "east", "up"]; // No `north`.
        columns[2] = Column::categorical("c", Levels::new(names).expect("distinct"));
        let values = held_out.frame().values().into_owned();
        let frame = Frame::with_schema(values, Schema::new(columns).expect("distinct"));
        let held_out = held_out.with_frame(frame.expect("valid")).expect("length");
        let (model, scores) = heard(&make(10, None, None), &train, &held_out);
        let predicted = model.predict(held_out.frame()).expect("predicts");
        let metric = Metric::default_for(train.task());
        let expected = metric.score(held_out.truth(), &predicted).expect("defined");
        assert_eq!(scores.last().expect("heard").1, expected, "{n_classes} classes");
    }
}

#[test]
fn levels_unseen_in_training_are_scored_as_predicted_by_both() {
    levels_unseen_in_training_are_scored_as_predicted(light);
    levels_unseen_in_training_are_scored_as_predicted(xg);
}

proptest! {
    /// Whatever stands in a row, a model answers with a number: what is no code and no number is
    /// the business of `predict_row`, but no cell leads the engine astray.
    #[test]
    fn no_cell_leads_an_engine_astray(bits in prop::array::uniform3(any::<u32>()), near in -3.0_f32..9.0) {
        static MODELS: std::sync::OnceLock<Vec<mm_core::BoxModel>> = std::sync::OnceLock::new();
        let models = MODELS.get_or_init(|| {
            let (data, ctx) = (table(0, 200, 0), FitContext::seeded(7));
            vec![
                Box::new(light(10, None, None).fit(&data, &ctx).expect("fits")),
                Box::new(xg(10, None, None).fit(&data, &ctx).expect("fits")),
            ]
        });
        let [a, b, c] = bits.map(f32::from_bits);
        for model in models {
            for row in [[a, b, c], [a, b, near], [a, b, near.floor()]] {
                let mut out = [f64::NAN];
                model.infer_row(&row, &mut out).expect("answers");
                prop_assert!(out[0].is_finite(), "{row:?} gives {}", out[0]);
            }
        }
    }
}
