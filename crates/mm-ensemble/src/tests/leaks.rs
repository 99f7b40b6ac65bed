//! Nothing is learnt from noise, from the future, or from rows that were seen.

use mm_core::{
    BoxLearner, Catalog, CombinatorialPurged, Dataset, Evidence, FitContext, Fold, Frame,
    GroupKFold, KFold, Learner as _, Metric, Model as _, OutOfFold, PurgedKFold, SplitPlan,
    Splitter as _, TimeSeriesSplit, cross_combine, cross_fit,
};
use std::borrow::Cow;

use super::probe::{ByHeart, linear, noise};
use crate::{
    Calibrated, Calibration, Conformal, Decision, Ensemble, EnsembleParams, Finding, GreedyParams,
    Guard, Inside, LinearParams, Report, Stack, register,
};

fn ctx() -> FitContext<'static> {
    FitContext::seeded(11)
}

fn stack() -> Stack {
    Stack::linear(LinearParams::default()).expect("valid")
}

/// Labels without any relation to the features.
fn pure_noise(n: usize) -> Dataset {
    let x = (0..3 * n).map(|i| noise(i, 1) as f32).collect();
    let labels: Vec<&str> = (0..n).map(|i| if noise(i, 2) < 0.5 { "no" } else { "yes" }).collect();
    Dataset::classification(Frame::new(x, 3).expect("valid"), &labels).expect("two classes")
}

fn members() -> [(&'static str, BoxLearner); 2] {
    [("by heart", Box::new(ByHeart)), ("linear", linear(1.0))]
}

/// The guard on a stack whose members' predictions are out of fold, or in-sample as a bug would
/// have it.
fn examine(in_sample: bool) -> crate::Verdict {
    let data = pure_noise(2400);
    let fold = Guard::default().split(&data, 3).expect("rows");
    let (inside, outside) = (data.take(&fold.train), data.take(&fold.test));
    let folds = KFold::new(5).split(&inside, 1).expect("rows");
    let mut out_of_fold = Vec::new();
    let mut predicted = Vec::new();
    for (name, member) in members() {
        let whole = member.fit(&inside, &ctx()).expect("fits");
        predicted.push(whole.predict(outside.frame()).expect("predicts"));
        let own = if in_sample {
            let all = whole.predict(inside.frame()).expect("predicts");
            let parts: Vec<_> = folds.iter().map(|fold| all.take(&fold.test)).collect();
            OutOfFold::gather(inside.n_rows(), &folds, &parts).expect("a partition")
        } else {
            cross_fit(&member, &inside, &folds, &ctx()).expect("fits").out_of_fold
        };
        out_of_fold.push((name, own));
    }
    let named: Vec<(&str, &OutOfFold)> =
        out_of_fold.iter().map(|(name, own)| (*name, own)).collect();
    let inside = Inside::new(&named, &inside, &folds);
    let predicted: Vec<_> = predicted.iter().collect();
    Guard::default()
        .examine(&stack(), inside, &predicted, &outside, Metric::ROC_AUC, &ctx())
        .expect("two classes outside")
}

/// The red test: level-one predictions of rows that the members were fitted to.
#[test]
fn in_sample_predictions_on_noise_turn_the_guard_red() {
    let red = examine(true);
    assert_eq!(red.finding, Finding::Leaking, "{red}");
    assert!(red.fallback.is_some());
    assert!(0.6 < red.combined.validation, "{red}");
    // 266 rows outside: the standard error of an area is about 0.035.
    assert!((red.combined.outside - 0.5).abs() < 0.12, "{red}");

    let green = examine(false);
    assert_ne!(green.finding, Finding::Leaking, "{green}");
    // 2,133 rows: the standard error is 0.0125.
    assert!((green.combined.validation - 0.5).abs() < 0.03, "{green}");
}

#[test]
fn a_guarded_stack_falls_back_and_says_so() {
    // Groups of equal rows: whoever parts them sees the answers.
    let data = pure_noise(400);
    let rows: Vec<usize> = (0..400).flat_map(|i| [i, i, i]).collect();
    let groups = (0..400).flat_map(|i| [i, i, i]).collect();
    let data = data.take(&rows).with_groups(groups).expect("length");
    let fit = |split: SplitPlan| {
        let params = EnsembleParams::default().with(|p| {
            (p.guard, p.split, p.metric) =
                (Some(Guard::default()), Some(split), Some(Metric::ROC_AUC));
        });
        let ensemble = Ensemble::new(members(), stack()).and_then(|e| e.with_params(params));
        ensemble.expect("valid").fit(&data, &ctx()).expect("fits")
    };
    let blind = fit(SplitPlan::KFold(KFold::new(5)));
    let verdict = blind.report().and_then(|report| report.guard.clone()).expect("examined");
    assert_eq!(verdict.finding, Finding::Leaking, "{verdict}");
    assert!(blind.weights().is_some(), "a weighted average, not a stack");
    assert!(blind.report().expect("one").to_string().contains("leaking"));

    let grouped = fit(SplitPlan::GroupKFold(GroupKFold::new(5)));
    let verdict = grouped.report().and_then(|report| report.guard.clone()).expect("examined");
    assert_ne!(verdict.finding, Finding::Leaking, "{verdict}");
}

/// Rows in time, each label known a step later.
fn timed(n: usize) -> Dataset {
    let x: Vec<f32> = (0..2 * n).map(|i| noise(i, 5) as f32).collect();
    let labels: Vec<&str> = (0..n)
        .map(|i| if f64::from(x[2 * i]) + 0.4 * noise(i, 6) < 0.7 { "down" } else { "up" })
        .collect();
    let times: Vec<i64> = (0..n as i64).collect();
    let frame = Frame::new(x, 2).and_then(|frame| frame.with_times(times.clone())).expect("length");
    let data = Dataset::classification(frame, &labels).expect("two classes");
    data.with_label_times(times.iter().map(|t| t + 3).collect()).expect("later")
}

#[test]
fn ensembles_work_over_splits_that_leave_rows_out() {
    let data = timed(300);
    for split in [
        SplitPlan::TimeSeries(TimeSeriesSplit::new(5)),
        SplitPlan::PurgedKFold(PurgedKFold::new(4)),
        SplitPlan::CombinatorialPurged(CombinatorialPurged::new(5, 2)),
    ] {
        for combiner in [0, 1] {
            let members = || [("a", linear(1.0)), ("b", linear(100.0))];
            let ensemble = match combiner {
                0 => Ensemble::new(members(), GreedyParams::default()),
                _ => Ensemble::new(members(), stack()),
            };
            let params = EnsembleParams::default().with(|p| p.split = Some(split.clone()));
            let ensemble = ensemble.and_then(|e| e.with_params(params.clone())).expect("valid");
            let model = ensemble.fit(&data, &ctx()).expect("fits");
            let report = model.report().expect("cross-fitted");
            assert!(report.score.is_some_and(|score| score < 0.6), "{report}");
            let layered = Ensemble::new(members(), stack())
                .and_then(|e| e.with_layer([("c", linear(1.0)), ("d", linear(10.0))]))
                .and_then(|e| e.with_params(params));
            layered.expect("valid").fit(&data, &ctx()).expect("fits");
        }
        let params = |of| Calibrated::new(of, Calibration::Platt).with_split(split.clone());
        params(linear(1.0)).expect("valid").fit(&data, &ctx()).expect("fits");
        let conformal = Conformal::new(linear(1.0), 0.9).and_then(|c| c.with_split(split.clone()));
        conformal.expect("valid").fit(&data, &ctx()).expect("fits");
    }
}

/// A combiner that notes which rows it learns from.
#[derive(Debug, Default)]
struct Spy(std::sync::Mutex<Vec<Vec<i64>>>);

impl mm_core::Combiner for Spy {
    fn combine(
        &self,
        members: &[mm_core::Member<'_>],
        data: &Dataset,
        metric: Metric,
        ctx: &FitContext<'_>,
    ) -> mm_core::Result<Box<dyn mm_core::Combination>> {
        let times = data.frame().times().unwrap_or_default().to_vec();
        self.0.lock().expect("one thread").push(times);
        crate::AverageParams::default().combine(members, data, metric, ctx)
    }
}

#[test]
fn a_combination_in_time_learns_from_the_past_alone() {
    let data = timed(120);
    let folds = TimeSeriesSplit::new(4).split(&data, 0).expect("enough rows");
    let fitted = cross_fit(&linear(1.0), &data, &folds, &ctx()).expect("fits").out_of_fold;
    let spy = Spy::default();
    let member = mm_core::Member::new("m", fitted.predictions());
    let rows = fitted.rows();
    let part = |_, f: usize| {
        let at = folds[f].test.iter().filter_map(|row| rows.binary_search(row).ok());
        Cow::Owned(fitted.predictions().take(&at.collect::<Vec<_>>()))
    };
    let members = [member];
    let evidence = Evidence::new(&members, rows, &data, &folds);
    cross_combine(&spy, evidence, part, Metric::LogLoss, &ctx()).expect("combines");
    let learnt = spy.0.into_inner().expect("one thread");
    assert_eq!(learnt.len(), 4);
    assert!(learnt[0].is_empty(), "before the first fold nothing was predicted");
    for (fold, times) in folds.iter().zip(&learnt).skip(1) {
        // The label of a row is known three steps later.
        let last = times.iter().max().expect("some rows") + 3;
        let first = fold.test[0] as i64;
        assert!(last <= first, "{last} {first}");
    }
}

/// What was optimised on noise does not score better than chance on the leaderboard.
#[test]
fn scores_of_combinations_are_cross_fitted() {
    let data = pure_noise(300);
    let folds = KFold::new(5).split(&data, 1).expect("rows");
    // Many members without any skill: the best weights in hindsight look good.
    let guesses: Vec<_> = (0..20)
        .map(|m| {
            let all = super::probe::binary(300, |i| noise(i, 50 + m));
            let parts: Vec<_> = folds.iter().map(|fold| all.take(&fold.test)).collect();
            OutOfFold::gather(300, &folds, &parts).expect("a partition")
        })
        .collect();
    let names: Vec<String> = (0..20).map(|i| i.to_string()).collect();
    let members: Vec<(&str, &OutOfFold)> = names.iter().map(String::as_str).zip(&guesses).collect();
    let metric = Metric::ROC_AUC;
    let honest =
        Report::of(&GreedyParams::default(), &members, &data, &folds, metric, false, &ctx())
            .expect("combines")
            .score
            .expect("two classes");
    let named: Vec<_> =
        members.iter().map(|(name, all)| mm_core::Member::new(name, all.predictions())).collect();
    let greedy = GreedyParams::default();
    let weights = greedy.weights(&named, &data, metric, &ctx()).expect("suits");
    let mut mean = vec![0.0; 300];
    for (weight, all) in weights.iter().zip(&guesses) {
        mean.iter_mut().zip(all.predictions().values()).for_each(|(sum, p)| *sum += weight * p);
    }
    let mean = mm_core::Matrix::new(mean, 1).expect("one column");
    let flattering = metric.score(data.truth(), &mean).expect("two classes");
    assert!(0.58 < flattering, "{flattering}");
    // The standard error of an area on 300 rows is 0.033.
    assert!((honest - 0.5).abs() < 0.1, "{honest}");
}

#[test]
fn fewer_rows_than_folds_and_classes_absent_from_folds_are_no_panic() {
    let data = pure_noise(40);
    let few = data.take(&[0, 1, 2, 3]);
    let split = |folds| {
        EnsembleParams::default().with(|p| p.split = Some(SplitPlan::KFold(KFold::new(folds))))
    };
    let ensemble = Ensemble::new([("a", linear(1.0)), ("b", linear(9.0))], GreedyParams::default())
        .and_then(|e| e.with_params(split(5)))
        .expect("valid");
    let err = ensemble.fit(&few, &ctx()).expect_err("five folds of four rows");
    assert_eq!(err.chain(), "in split: rows to split: expected at least 5, one a fold, got 4");

    // One row of the third class: absent from all folds' training rows but one.
    let task = mm_core::Task::classes(["x", "y", "z"]).expect("three");
    let target = (0..40).map(|i| if i == 7 { 2.0 } else { f64::from(i % 2) }).collect();
    let rare = Dataset::new(data.frame().clone(), task, target).expect("valid");
    let layers = Ensemble::new([("a", linear(1.0)), ("b", linear(9.0))], stack())
        .and_then(|e| e.with_params(split(5)))
        .expect("valid");
    for ensemble in [&ensemble, &layers] {
        let model = ensemble.fit(&rare, &ctx()).expect("fits");
        let y = model.predict(rare.frame()).expect("predicts");
        assert!(y.values().iter().all(|p| p.is_finite()));
    }
}

#[test]
fn a_layer_that_time_leaves_no_rows_for_is_refused() {
    let data = timed(60);
    let split = SplitPlan::TimeSeries(TimeSeriesSplit::new(1));
    let params = EnsembleParams::default().with(|p| p.split = Some(split));
    let layered = Ensemble::new([("a", linear(1.0))], GreedyParams::default())
        .and_then(|e| e.with_layer([("b", linear(1.0))]))
        .and_then(|e| e.with_params(params));
    match layered {
        Err(e) => assert!(e.to_string().contains("folds"), "{e}"),
        Ok(layered) => {
            let err = layered.fit(&data, &ctx()).expect_err("one fold").to_string();
            assert!(err.starts_with("folds of layer 2: expected at least 1"), "{err}");
        }
    }
}

#[test]
fn intervals_and_sets_cover_what_they_promise() {
    let n = 1200;
    let x: Vec<f32> = (0..n).map(|i| noise(i, 7) as f32).collect();
    let y = (0..n).map(|i| 3.0 * f64::from(x[i]) + noise(i, 8) + noise(i, 9)).collect();
    let data = Dataset::regression(Frame::new(x.clone(), 1).expect("valid"), y).expect("valid");
    let (known, new): (Vec<usize>, Vec<usize>) = ((0..600).collect(), (600..n).collect());
    let labels: Vec<&str> = (0..n)
        .map(|i| match 3.0 * f64::from(x[i]) + noise(i, 8) {
            s if s < 1.2 => "low",
            s if s < 2.4 => "mid",
            _ => "high",
        })
        .collect();
    let classes =
        Dataset::classification(Frame::new(x, 1).expect("valid"), &labels).expect("three");
    for split in [None, Some(SplitPlan::Holdout(mm_core::Holdout::new(0.4)))] {
        let learner = || {
            let conformal = Conformal::new(linear(1.0), 0.8).expect("valid");
            match &split {
                Some(split) => conformal.with_split(split.clone()).expect("valid"),
                None => conformal,
            }
        };
        let model = learner().fit(&data.take(&known), &ctx()).expect("fits");
        let test = data.take(&new);
        let ends = model.predict(test.frame()).expect("predicts");
        let hits = ends.rows().zip(test.target()).filter(|(row, y)| row[1] <= **y && **y <= row[2]);
        let share = hits.count() as f64 / 600.0;
        // Standard errors: 0.016 of the share, and as much or 0.026 of the quantile.
        assert!((share - 0.8).abs() < 0.08, "{share}");
        assert_eq!(model.signature().outputs.len(), 3);

        let model = learner().fit(&classes.take(&known), &ctx()).expect("fits");
        let test = classes.take(&new);
        let sets = model.sets(test.frame()).expect("classes");
        let hits = sets.iter().zip(test.target()).filter(|(set, y)| set.contains(&(**y as usize)));
        let share = hits.count() as f64 / 600.0;
        assert!((share - 0.8).abs() < 0.08, "{share}");
    }
    let few =
        Conformal::new(linear(1.0), 0.99).expect("valid").fit(&data.take(&known[..20]), &ctx());
    assert!(few.expect_err("too few").to_string().starts_with("scores: expected at least 99"));
    assert!(Conformal::new(linear(1.0), 1.0).is_err());
}

#[test]
fn calibration_mends_what_is_bent_and_leaves_what_is_straight() {
    let data = timed(1500);
    let (known, new): (Vec<usize>, Vec<usize>) = ((0..1000).collect(), (1000..1500).collect());
    let test = data.take(&new);
    let loss = |learner: &dyn Fn() -> BoxLearner| {
        let model = learner().fit(&data.take(&known), &ctx()).expect("fits");
        let p = model.predict(test.frame()).expect("predicts");
        Metric::LogLoss.score(test.truth(), &p).expect("probabilities")
    };
    // A heavy penalty keeps probabilities near one half.
    let bent = loss(&|| linear(3000.0));
    let mended =
        loss(&|| Box::new(Calibrated::new(linear(3000.0), Calibration::Auto)) as BoxLearner);
    assert!(mended < 0.9 * bent, "{mended}, before {bent}");
    let (straight, same) = (
        loss(&|| linear(0.1)),
        loss(&|| Box::new(Calibrated::new(linear(0.1), Calibration::Auto)) as BoxLearner),
    );
    assert!(same < 1.03 * straight, "{same}, before {straight}");
    let text = Calibrated::new(linear(1.0), Calibration::Auto)
        .fit(&Dataset::regression(test.frame().clone(), vec![0.5; 500]).expect("valid"), &ctx());
    assert!(text.expect_err("values").to_string().starts_with("task of a calibration"));
}

#[test]
fn a_tuned_threshold_serves_out_of_fold() {
    let data = timed(400);
    let folds = SplitPlan::default_for(&data).split(&data, 0).expect("rows");
    let all = cross_fit(&linear(3000.0), &data, &folds, &ctx()).expect("fits").out_of_fold;
    let seen = data.take(all.rows());
    let decision = Decision::tune(Metric::BalancedAccuracy, &seen, all.predictions()).expect("ok");
    let share = |decision: &Decision| {
        let decided = decision.decide_all(all.predictions());
        decided.iter().zip(seen.target()).filter(|(d, y)| **d as f64 == **y).count()
    };
    assert!(share(&Decision::Likeliest) <= share(&decision));
}

/// The same seed gives the same ensemble, whatever the threads, through a file.
#[test]
fn a_stack_is_the_same_on_any_number_of_threads() {
    let data = timed(200);
    let fit = |threads| {
        let ensemble =
            Ensemble::new([("a", linear(1.0)), ("b", linear(50.0))], GreedyParams::default());
        let model =
            ensemble.expect("valid").fit(&data, &ctx().with_threads(threads)).expect("fits");
        model.to_envelope().expect("seals").into_bytes()
    };
    let bytes = fit(1);
    assert_eq!(bytes, fit(3));
    assert!(register(Catalog::default()).open(&bytes).is_ok());
    let _: Fold = Guard::default().split(&data, 1).expect("rows");
}
