//! Laws of the combiners that learn, and the numbers of reference implementations.
//!
//! The stored numbers are made by `tests/fixtures/make.py`.

use mm_core::{
    BoxLearner, Combiner, Dataset, FitContext, Fold, Frame, Learner as _, Matrix, Member, Metric,
    Params as _, Task, cross_fit,
};
use proptest::prelude::*;
use serde::Deserialize;

use super::probe::{binary, noise};
use crate::{
    EnsembleModel, GreedyParams, LinearModel, LinearParams, NnlsParams, WeightsParams,
    calibration::Map,
};

fn ctx() -> FitContext<'static> {
    FitContext::seeded(3)
}

/// Data whose features do not matter.
fn targets(classes: usize, y: &[f64]) -> Dataset {
    let task = match classes {
        0 => Task::Regression,
        k => Task::classes((0..k).map(|c| c.to_string())).expect("two or more"),
    };
    Dataset::new(Frame::new(vec![0.0; y.len()], 1).expect("valid"), task, y.to_vec())
        .expect("valid")
}

/// The weights that a combiner learns, with 0 for members it does not use.
fn weights(combiner: &dyn Combiner, parts: &[Matrix], data: &Dataset, metric: Metric) -> Vec<f64> {
    let names: Vec<String> = (0..parts.len()).map(|i| i.to_string()).collect();
    let members: Vec<Member<'_>> =
        names.iter().zip(parts).map(|(name, part)| Member::new(name, part)).collect();
    let combination = combiner.combine(&members, data, metric, &ctx()).expect("combines");
    let used: Vec<usize> = (0..parts.len()).filter(|&i| combination.uses(i)).collect();
    // Any model of the task will do to look at the weights.
    let any = LinearParams::default().with(|p| p.iterations = 1).build().expect("valid");
    let any: std::sync::Arc<dyn mm_core::Model> =
        std::sync::Arc::new(any.train(data, &ctx()).expect("fits"));
    let model = combination.into_model(vec![any; used.len()]).expect("fits");
    let own = model.downcast_ref::<EnsembleModel>().expect("an ensemble").weights();
    let mut all = vec![0.0; parts.len()];
    used.iter().zip(own.expect("a mean")).for_each(|(&i, weight)| all[i] = weight);
    all
}

fn mean(parts: &[Matrix], weights: &[f64]) -> Matrix {
    let mut mean = Matrix::zeros(parts[0].n_rows(), parts[0].n_cols());
    for (part, weight) in parts.iter().zip(weights) {
        let pairs = mean.values_mut().iter_mut().zip(part.values());
        pairs.for_each(|(sum, y)| *sum += weight * y);
    }
    mean
}

#[derive(Deserialize)]
struct Greedy {
    metric: Metric,
    classes: usize,
    y: Vec<f64>,
    parts: Vec<Vec<f64>>,
    weights: Vec<f64>,
}

#[test]
fn greedy_weights_are_those_of_autogluon() {
    let text = include_str!("../../tests/fixtures/greedy.json");
    let cases: Vec<Greedy> = serde_json::from_str(text).expect("valid");
    assert_eq!(cases.len(), 5);
    for case in cases {
        let data = targets(case.classes, &case.y);
        let k = data.task().outputs().len();
        let parts: Vec<Matrix> =
            case.parts.into_iter().map(|part| Matrix::new(part, k).expect("whole rows")).collect();
        for threads in [1, 2] {
            let names = ["a", "b", "c", "d", "e"];
            let members: Vec<Member<'_>> =
                names.iter().zip(&parts).map(|(name, part)| Member::new(name, part)).collect();
            let ctx = ctx().with_threads(threads);
            let got = GreedyParams::default().weights(&members, &data, case.metric, &ctx);
            // Counts over rounds on both sides: a few roundings apart.
            for (got, expected) in got.expect("suits").iter().zip(&case.weights) {
                assert!((got - expected).abs() < 1e-12, "{}: {:?}", case.metric, case.weights);
            }
        }
    }
}

#[derive(Deserialize)]
struct Models {
    x: Vec<f32>,
    value: Vec<f64>,
    weight: Vec<f64>,
    two: Vec<f64>,
    three: Vec<f64>,
    ridge: Vec<f64>,
    logistic: Vec<f64>,
    softmax: Vec<Vec<f64>>,
    folds: Vec<Vec<usize>>,
    stack_two: Vec<f64>,
    stack_three: Vec<f64>,
    stack_value: Vec<f64>,
    p: Vec<f64>,
    grid: Vec<f64>,
    isotonic: Vec<f64>,
    nnls_parts: Vec<Vec<f64>>,
    nnls: Vec<f64>,
}

impl Models {
    fn read() -> Self {
        serde_json::from_str(include_str!("../../tests/fixtures/models.json")).expect("valid")
    }

    fn data(&self, classes: usize) -> Dataset {
        let y = [&self.value, &self.value, &self.two, &self.three][classes];
        let x = Frame::new(self.x.clone(), 3).expect("valid");
        targets(classes, y).with_frame(x).expect("length")
    }
}

fn plain(penalty: f64) -> LinearParams {
    LinearParams::default().with(|p| {
        (p.penalty, p.standardize, p.iterations) = (penalty, false, 100_000);
    })
}

#[track_caller]
fn near(got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    for (a, b) in got.iter().zip(expected) {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{got:?}, expected {expected:?}");
    }
}

#[test]
fn linear_models_are_those_of_scikit_learn() {
    let models = Models::read();
    let fit = |params: LinearParams, data: &Dataset| -> LinearModel {
        params.build().expect("valid").fit(data, &ctx()).expect("fits")
    };
    let coefficients = |model: &LinearModel, j: usize| {
        let mut all = model.slopes(j);
        all.push(model.intercept(j));
        all
    };
    let weigh = |data: Dataset| data.with_weights(models.weight.clone()).expect("valid");
    let ridge = fit(plain(2.0), &weigh(models.data(0)));
    near(&coefficients(&ridge, 0), &models.ridge, 1e-9);
    // Both sides stop where the slope of the loss is about 1e-9.
    let logistic = fit(plain(2.0), &weigh(models.data(2)));
    near(&coefficients(&logistic, 0), &models.logistic, 1e-6);
    let softmax = fit(plain(2.0), &models.data(3));
    let rows: Vec<Vec<f64>> = (0..3).map(|j| coefficients(&softmax, j)).collect();
    // Intercepts are determined up to a constant.
    let centre = rows.iter().map(|row| row[3]).sum::<f64>() / 3.0;
    for (row, expected) in rows.iter().zip(&models.softmax) {
        near(&[row[0], row[1], row[2], row[3] - centre], expected, 1e-5);
    }
}

/// The features that a meta-learner sees are those of scikit-learn's stacks with the same folds and
/// bases.
#[test]
fn out_of_fold_matrices_are_those_of_scikit_learn() {
    let models = Models::read();
    let folds: Vec<Fold> = models
        .folds
        .iter()
        .map(|test| {
            let train = (0..60).filter(|row| !test.contains(row)).collect();
            Fold::new(train, test.clone()).expect("disjoint")
        })
        .collect();
    for (classes, penalties, expected) in [
        (0, [2.0, 100.0], &models.stack_value),
        (2, [2.0, 100.0], &models.stack_two),
        (3, [2.0, 100.0], &models.stack_three),
    ] {
        let data = models.data(classes);
        let parts: Vec<Matrix> = penalties
            .iter()
            .map(|&penalty| {
                let base: BoxLearner = Box::new(plain(penalty).build().expect("valid"));
                cross_fit(&base, &data, &folds, &ctx()).expect("fits").out_of_fold.into_parts().1
            })
            .collect();
        let parts: Vec<&Matrix> = parts.iter().collect();
        let stacked =
            crate::stack::lifted(&data, &["a", "b"], &parts, false, crate::MetaInputs::Raw)
                .expect("shapes");
        let got: Vec<f64> = stacked.frame().values().iter().map(|&z| f64::from(z)).collect();
        // Features are `f32`, and the second base of scikit-learn stops at 1e-12 of its slope.
        near(&got, expected, 2e-6);
    }
}

#[test]
fn isotonic_regression_and_nnls_are_those_of_python() {
    let models = Models::read();
    let p = Matrix::new(models.p.clone(), 1).expect("one column");
    let data = models.data(2).with_weights(models.weight.clone()).expect("valid");
    let map = Map::isotonic(&p, &data);
    for (&at, &expected) in models.grid.iter().zip(&models.isotonic) {
        let mut row = [at];
        map.apply(&mut row);
        // Ours stays half a row of all away from 0 and 1.
        let edge = 0.5 / (models.weight.iter().sum::<f64>() + 1.0);
        let expected = expected.clamp(edge, 1.0 - edge);
        let near_an_end = expected < 0.2 || 0.8 < expected;
        let tolerance = if near_an_end { edge } else { 1e-12 };
        assert!((row[0] - expected).abs() <= tolerance, "{at}: {} {expected}", row[0]);
    }
    let parts: Vec<Matrix> =
        models.nnls_parts.iter().map(|p| Matrix::new(p.clone(), 1).expect("one")).collect();
    let params = NnlsParams::default().with(|p| p.prune = 0.0);
    near(&weights(&params, &parts, &models.data(0), Metric::Rmse), &models.nnls, 1e-9);
}

/// Members of different skill: a signal with noise of growing size.
fn skilled(n: usize, m: usize, stream: usize) -> (Dataset, Vec<Matrix>) {
    let y: Vec<f64> = (0..n).map(|i| f64::from(u8::from(0.5 < noise(i, stream)))).collect();
    let parts = (0..m).map(|j| {
        binary(n, |i| {
            let error = noise(i, stream + 10 * (j + 1)) * (1.0 + j as f64 / 2.0);
            (0.25 + 0.5 * y[i] + 0.6 * (error - 0.5 - j as f64 / 4.0)).clamp(0.02, 0.98)
        })
    });
    let parts = parts.collect();
    (targets(2, &y), parts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Weights are not negative, add up to 1, and do at least as well as the best member on the
    /// rows that they were learnt from.
    #[test]
    fn learnt_weights_are_a_mean_and_not_worse_than_the_best(
        n in 20_usize..80, m in 1_usize..6, stream in 0_usize..1000,
    ) {
        let (data, parts) = skilled(n, m, stream);
        prop_assume!(data.target().contains(&1.0) && data.target().contains(&0.0));
        let optimal = WeightsParams::default().with(|p| p.prune = 0.0);
        let warm = GreedyParams::default()
            .with(|p| (p.bags, p.bag_fraction, p.warm_start) = (3, 0.7, 1));
        for metric in [Metric::LogLoss, Metric::Brier, Metric::ROC_AUC] {
            let error = |weights: &[f64]| {
                let score = metric.score(data.truth(), &mean(&parts, weights)).expect("defined");
                if metric == Metric::ROC_AUC { 1.0 - score } else { score }
            };
            let single = |j: usize| (0..m).map(|i| f64::from(u8::from(i == j))).collect::<Vec<_>>();
            let best = (0..m).map(|j| error(&single(j))).fold(f64::INFINITY, f64::min);
            for (is_bound, combiner) in [
                (true, &GreedyParams::default() as &dyn Combiner),
                (true, &optimal),
                (false, &warm), // A bag may lack the best.
            ] {
                let weights = weights(combiner, &parts, &data, metric);
                prop_assert!(weights.iter().all(|w| 0.0 <= *w), "{weights:?}");
                prop_assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                let own = error(&weights);
                // Errors are rounded to 6 decimals while members are selected.
                prop_assert!(!is_bound || own <= best + 1e-6, "{metric}: {own}, best {best}");
            }
        }
    }

    /// The order of the members does not matter, but where they tie.
    #[test]
    fn greedy_selection_does_not_depend_on_the_order(stream in 0_usize..1000) {
        let (data, mut parts) = skilled(60, 4, stream);
        prop_assume!(data.target().contains(&1.0) && data.target().contains(&0.0));
        let of = |parts: &[Matrix]| weights(&GreedyParams::default(), parts, &data, Metric::Brier);
        let forward = of(&parts);
        parts.reverse();
        let mut backward = of(&parts);
        backward.reverse();
        near(&forward, &backward, 1e-12);
    }

    /// No other weights nearby have a lower log loss than the optimal ones.
    #[test]
    fn optimal_weights_are_optimal(stream in 0_usize..1000) {
        let (data, parts) = skilled(60, 3, stream);
        prop_assume!(data.target().contains(&1.0) && data.target().contains(&0.0));
        let params = WeightsParams::default().with(|p| p.prune = 0.0);
        for metric in [Metric::LogLoss, Metric::Brier] {
            let best = weights(&params, &parts, &data, metric);
            let error = |w: &[f64]| metric.score(data.truth(), &mean(&parts, w)).expect("defined");
            for j in 0..3 {
                let moved: Vec<f64> = (0..3)
                    .map(|i| 0.99 * best[i] + if i == j { 0.01 } else { 0.0 })
                    .collect();
                // The loss is within 1e-9 of its minimum.
                prop_assert!(error(&best) <= error(&moved) + 1e-9, "{metric} {best:?}");
            }
        }
    }
}

#[test]
fn a_diverged_member_and_a_twin_get_nothing() {
    let (data, mut parts) = skilled(200, 2, 5);
    let twin = parts[0].clone();
    parts.push(twin);
    // As wrong as can be, with conviction.
    parts.push(binary(200, |i| if data.target()[i] == 1.0 { 0.001 } else { 0.999 }));
    for combiner in [&GreedyParams::default() as &dyn Combiner, &WeightsParams::default()] {
        let got = weights(combiner, &parts, &data, Metric::LogLoss);
        assert!(got[3] <= 0.05, "{got:?}");
    }
    let got = weights(&GreedyParams::default(), &parts, &data, Metric::LogLoss);
    assert_eq!(got[2], 0.0, "of twins, the first is taken again and again");
}

#[test]
fn without_rows_or_choice_there_is_nothing_to_learn() {
    let (data, parts) = skilled(30, 3, 1);
    let stack = crate::Stack::linear(LinearParams::default()).expect("valid");
    let none: Vec<Matrix> = parts.iter().map(|part| part.take(&[])).collect();
    let members: Vec<Member<'_>> = none.iter().map(|part| Member::new("m", part)).collect();
    for combiner in [
        &GreedyParams::default() as &dyn Combiner,
        &WeightsParams::default(),
        &NnlsParams::default(),
        &crate::RankParams::default(),
        &stack,
    ] {
        let empty = data.take(&[]);
        let learnt = combiner.combine(&members, &empty, Metric::LogLoss, &ctx()).expect("a mean");
        let out = learnt.apply(&parts.iter().collect::<Vec<_>>(), data.frame()).expect("shape");
        near(out.values(), mean(&parts, &[1.0 / 3.0; 3]).values(), 1e-12);
    }
    assert_eq!(weights(&GreedyParams::default(), &parts[..1], &data, Metric::LogLoss), [1.0]);
}

#[test]
fn rows_of_one_class_do_not_stop_a_combiner() {
    let (data, parts) = skilled(60, 3, 1);
    let ones: Vec<usize> = (0..60).filter(|&i| data.target()[i] == 1.0).collect();
    let parts: Vec<Matrix> = parts.iter().map(|part| part.take(&ones)).collect();
    let members: Vec<Member<'_>> =
        ["a", "b", "c"].iter().zip(&parts).map(|(name, part)| Member::new(name, part)).collect();
    let stack = crate::Stack::linear(LinearParams::default()).expect("valid");
    for combiner in [&GreedyParams::default() as &dyn Combiner, &WeightsParams::default(), &stack] {
        combiner.combine(&members, &data.take(&ones), Metric::ROC_AUC, &ctx()).expect("learns");
    }
}

#[test]
fn params_outside_their_domain_are_refused() {
    let greedy = |edit: fn(&mut GreedyParams)| {
        GreedyParams::default().with(edit).check(&["a"]).expect_err("outside").to_string()
    };
    assert!(greedy(|p| p.rounds = 0).starts_with("parameter `rounds` is 0"));
    assert!(greedy(|p| p.bags = 0).starts_with("parameter `bags` is 0"));
    assert!(greedy(|p| p.bag_fraction = 0.0).starts_with("parameter `bag_fraction` is 0"));
    assert!(greedy(|p| p.bag_fraction = f64::NAN).starts_with("parameter `bag_fraction` is NaN"));
    assert!(greedy(|p| p.prune = 1.0).starts_with("parameter `prune` is 1"));
    assert!(greedy(|p| p.max_rows = 0).starts_with("parameter `max_rows` is 0"));
    assert!(crate::MedianParams::trimmed(0.6).check(&["a"]).is_err());
    assert!(LinearParams::default().with(|p| p.penalty = -1.0).build().is_err());
    assert!(LinearParams::default().with(|p| p.iterations = 0).build().is_err());
}

#[test]
fn rows_beyond_the_most_are_drawn() {
    let (data, parts) = skilled(400, 3, 2);
    let params = GreedyParams::default().with(|p| p.max_rows = 100);
    let got = weights(&params, &parts, &data, Metric::Brier);
    assert_eq!(got, weights(&params, &parts, &data, Metric::Brier), "the same rows each time");
    assert!((got.iter().sum::<f64>() - 1.0).abs() < 1e-12);
}

#[test]
fn each_class_may_have_weights_of_its_own() {
    // Member 0 knows class 0 from the rest, member 1 knows class 1 from class 2.
    let y: Vec<f64> = (0..90).map(|i| f64::from(i % 3)).collect();
    let data = targets(3, &y);
    let rows = |of: fn(usize) -> [f64; 3]| {
        Matrix::new((0..90).flat_map(|i| of(i % 3)).collect(), 3).expect("valid")
    };
    let parts = [
        rows(|c| if c == 0 { [0.98, 0.01, 0.01] } else { [0.02, 0.49, 0.49] }),
        rows(|c| match c {
            0 => [0.34, 0.33, 0.33],
            1 => [0.33, 0.65, 0.02],
            _ => [0.33, 0.02, 0.65],
        }),
    ];
    let members = [Member::new("a", &parts[0]), Member::new("b", &parts[1])];
    let score = |per_class: bool| {
        let params = WeightsParams::default().with(|p| p.per_class = per_class);
        let learnt = params.combine(&members, &data, Metric::LogLoss, &ctx()).expect("learns");
        let out = learnt.apply(&[&parts[0], &parts[1]], data.frame()).expect("shapes");
        Metric::LogLoss.score(data.truth(), &out).expect("probabilities")
    };
    assert!(score(true) < score(false));
}
