//! Members that fail, members that are the same, members that change, and files of ensembles.

use std::sync::Arc;

use mm_core::{
    BoxLearner, Catalog, Combiner, Dataset, Error, FitContext, Frame, Learner as _, Matrix, Member,
    Metric, Model, SplitPlan, Task,
    conformance::{Checks, sample},
};

use super::probe::{Fault, Faulty, binary, is_probability, linear};
use crate::{
    AverageParams, Ensemble, EnsembleModel, EnsembleParams, Finish, GreedyParams, Limits,
    LinearModel, MedianParams, Stack, VoteOutput, VoteParams, register,
};

type Make = Box<dyn Fn(&[&str]) -> mm_core::Result<Ensemble>>;

fn ctx() -> FitContext<'static> {
    FitContext::seeded(3)
}

fn fitted(penalty: f64, data: &Dataset) -> Arc<dyn Model> {
    Arc::from(linear(penalty).fit(data, &ctx()).expect("fits"))
}

fn faulty(fault: Fault) -> BoxLearner {
    Box::new(Faulty(fault, 0))
}

#[test]
fn a_member_that_fails_is_left_out_and_named() {
    let data = sample(60, 2, Checks::default());
    for (fault, reason) in [
        (Fault::FitPanics, "in fold 0: panicked: no luck"),
        (Fault::FitFails, "in fold 0: luck: expected some, got none"),
        (Fault::PredictPanics, "in fold 0: panicked"),
        (Fault::PredictsNan, "prediction of row 0: expected a finite number, got NaN"),
        (Fault::TurnsClasses, "task of the model: expected binary"),
        (Fault::Late, "in fold 0: the deadline passed before the first result"),
    ] {
        let members = [("good", linear(1.0)), ("bad", faulty(fault))];
        let ensemble = Ensemble::new(members, GreedyParams::default()).expect("members");
        let model = ensemble.fit(&data, &ctx()).expect("one member is left");
        let report = model.report().expect("cross-fitted");
        assert_eq!(report.left_out.len(), 1, "{fault:?}");
        assert_eq!(report.left_out[0].name, "bad");
        assert!(report.left_out[0].reason.starts_with(reason), "{}", report.left_out[0].reason);
        assert_eq!(model.members().map(|(name, _)| name).collect::<Vec<_>>(), ["good"]);

        let alone = Ensemble::new([("bad", faulty(fault))], GreedyParams::default());
        let err = alone.expect("members").fit(&data, &ctx()).expect_err("nobody is left");
        assert!(err.chain().starts_with(&format!("in member `bad`: {reason}")), "{}", err.chain());
    }
}

#[test]
fn a_mean_leaves_out_what_fails_but_fixed_weights_need_every_member() {
    let data = sample(60, 2, Checks::default());
    let members = || [("good", linear(1.0)), ("bad", faulty(Fault::FitFails))];
    let mean = Ensemble::mean(members()).expect("members").fit(&data, &ctx()).expect("one is left");
    assert_eq!(mean.report().expect("named").left_out[0].name, "bad");
    let fixed = AverageParams::fixed([("good", 0.8), ("bad", 0.2)]);
    let fixed = Ensemble::new(members(), fixed).expect("members");
    let err = fixed.fit(&data, &ctx()).expect_err("no blend without it");
    assert_eq!(err.to_string(), "weights: expected those of 1 members, got bad, good");
}

#[test]
fn a_member_whose_refit_fails_goes_on_as_its_bag() {
    let data = sample(60, 0, Checks::default());
    let members: [(&str, BoxLearner); 1] = [("odd", Box::new(Faulty(Fault::RefitFails, 60)))];
    let ensemble = Ensemble::new(members, GreedyParams::default()).expect("members");
    let model = ensemble.fit(&data, &ctx()).expect("the bag serves");
    let (_, odd) = model.members().next().expect("one");
    assert_eq!(odd.downcast_ref::<EnsembleModel>().expect("a bag").members().len(), 5);
}

#[test]
fn a_constant_member_is_told_and_gets_no_weight() {
    let data = sample(80, 3, Checks::default());
    let members = [("good", linear(1.0)), ("constant", faulty(Fault::PredictsConstant))];
    let ensemble = Ensemble::new(members, GreedyParams::default()).expect("members");
    let report = ensemble.fit(&data, &ctx()).expect("fits").report().expect("one").clone();
    assert_eq!(report.members.iter().map(|m| m.constant).collect::<Vec<_>>(), [false, true]);
    assert_eq!(report.members[1].weight, Some(0.0));
    assert!(report.members[1].gain.is_some_and(|gain| gain <= 0.0));
    let text = report.to_string();
    assert!(text.contains("constant") && text.contains("log_loss"), "{text}");
}

#[test]
fn one_member_and_equal_members_are_no_trouble() {
    let data = sample(60, 2, Checks::default());
    let alone = linear(1.0).fit(&data, &ctx()).expect("fits").predict(data.frame()).expect("ok");
    let stack = Stack::linear(crate::LinearParams::default()).expect("valid");
    let combiners: [Make; 3] = [
        Box::new(|names| {
            Ensemble::new(names.iter().map(|&n| (n, linear(1.0))), GreedyParams::default())
        }),
        Box::new(|names| {
            Ensemble::new(names.iter().map(|&n| (n, linear(1.0))), MedianParams::default())
        }),
        Box::new(move |names| {
            Ensemble::new(names.iter().map(|&n| (n, linear(1.0))), stack.clone())
        }),
    ];
    for (i, ensemble) in combiners.iter().enumerate() {
        for names in [&["a"][..], &["a", "b", "c"]] {
            let model = ensemble(names).expect("members").fit(&data, &ctx()).expect("fits");
            let predicted = model.predict(data.frame()).expect("predicts");
            if i < 2 {
                let pairs = predicted.values().iter().zip(alone.values());
                // A median of equal values is one of them; a mean rounds.
                pairs.for_each(|(a, b)| assert!((a - b).abs() < 1e-15));
            }
        }
    }
    // Of equal members the first is taken, again and again.
    let model = combiners[0](&["a", "b", "c"]).expect("members").fit(&data, &ctx()).expect("fits");
    assert_eq!(model.members().map(|(name, _)| name).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn members_without_names_of_their_own_are_refused() {
    let err = Ensemble::mean([("a", linear(1.0)), ("a", linear(2.0))]).map(drop);
    assert_eq!(
        err.expect_err("twice").to_string(),
        "members: expected distinct names, got `a` twice"
    );
    let none: [(&str, BoxLearner); 0] = [];
    assert!(Ensemble::mean(none).is_err());
}

#[test]
fn models_that_predict_other_things_make_no_blend() {
    let binary = sample(60, 2, Checks::default());
    let multi = sample(60, 3, Checks::default());
    let value = sample(60, 0, Checks::default());
    let mut turned = binary.task().class_names().expect("two").to_vec();
    turned.reverse();
    let turned = Task::classes(turned).expect("two");
    let turned = Dataset::new(binary.frame().clone(), turned, binary.target().to_vec());
    let narrow = Frame::new(vec![0.5; 60], 1).expect("valid");
    let narrow = binary.with_frame(narrow).expect("length");
    let blend = |other: &Dataset| {
        let models = [("a", fitted(1.0, &binary), 0.5), ("b", fitted(1.0, other), 0.5)];
        EnsembleModel::blend(models).map(drop).expect_err("unlike").chain()
    };
    for (other, text) in [
        (&multi, "in member `b`: task: expected binary"),
        (&value, "in member `b`: task: expected binary"),
        (
            &turned.expect("valid"),
            "positive class `class 1`): class 0, class 1, got binary (positive class `class 0`): class 1, class 0",
        ),
        (&narrow, "in member `b`: features: expected numeric `a`"),
    ] {
        let got = blend(other);
        assert!(got.contains(text), "{got}");
    }
    for (bad, text) in [
        ([0.0, 0.0], "weights: expected at least one above 0, and a finite sum, got 0"),
        ([f64::NAN, 1.0], "weights: expected finite numbers ≥ 0, got NaN"),
        ([-1.0, 2.0], "weights: expected finite numbers ≥ 0, got -1"),
    ] {
        let model = fitted(1.0, &binary);
        let models = [("a", Arc::clone(&model), bad[0]), ("b", model, bad[1])];
        assert_eq!(EnsembleModel::blend(models).expect_err("no mean").to_string(), text);
    }
}

#[test]
fn fixed_weights_that_do_not_fit_the_members_are_refused() {
    let refuse = |params: &AverageParams, names: &[&str]| {
        params.check(names).expect_err("unfit").to_string()
    };
    let one = AverageParams::fixed([("a", 1.0)]);
    assert_eq!(refuse(&one, &["a", "b"]), "no weight of member `b`");
    let three = AverageParams::fixed([("a", 1.0), ("b", 1.0), ("z", 1.0)]);
    assert_eq!(refuse(&three, &["a", "b"]), "weights: expected those of 2 members, got a, b, z");
    for bad in [f64::NAN, -1.0, f64::INFINITY] {
        let text = refuse(&AverageParams::fixed([("a", bad)]), &["a"]);
        assert_eq!(text, format!("parameter `weights.a` is {bad}; expected a finite number ≥ 0"));
    }
    let zero = AverageParams::fixed([("a", 0.0)]);
    assert_eq!(
        refuse(&zero, &["a"]),
        "parameter `weights` is all 0; expected at least one above 0"
    );
}

#[track_caller]
fn combine(combiner: &dyn Combiner, task: &Task, parts: &[Matrix], expected: &[f64]) {
    let names = ["a", "b", "c", "d"];
    let members: Vec<Member<'_>> =
        names.iter().zip(parts).map(|(name, part)| Member::new(name, part)).collect();
    let frame = Frame::new(vec![0.0; parts[0].n_rows()], 1).expect("valid");
    let data = Dataset::new(frame, task.clone(), vec![0.0; parts[0].n_rows()]).expect("valid");
    let metric = Metric::default_for(task);
    let combination = combiner.combine(&members, &data, metric, &ctx()).expect("combines");
    let parts: Vec<&Matrix> = parts.iter().collect();
    let out = combination.apply(&parts, data.frame()).expect("one shape");
    let near = out.values().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15);
    assert!(
        near && out.values().len() == expected.len(),
        "{:?}, expected {expected:?}",
        out.values()
    );
}

#[test]
fn means_medians_and_votes_known_by_hand() {
    let value = Task::Regression;
    let of = |rows: [f64; 4]| rows.map(|y| binary(1, |_| y)).to_vec();
    combine(&AverageParams::default(), &value, &of([1.0, 2.0, 3.0, 10.0]), &[4.0]);
    let fixed = AverageParams::fixed([("a", 1.0), ("b", 0.0), ("c", 3.0), ("d", 0.0)]);
    combine(&fixed, &value, &of([1.0, 2.0, 3.0, 10.0]), &[2.5]);
    combine(&MedianParams::default(), &value, &of([1.0, 2.0, 3.0, 10.0]), &[2.5]);
    combine(&MedianParams::default(), &value, &of([1.0, 2.0, 3.0, 10.0])[1..], &[3.0]);
    combine(&MedianParams::trimmed(0.25), &value, &of([1.0, 2.0, 4.0, 10.0]), &[3.0]);
    combine(&MedianParams::trimmed(0.0), &value, &of([1.0, 2.0, 3.0, 10.0]), &[4.0]);

    let two = Task::classes(["no", "yes"]).expect("two");
    let mut winner = VoteParams::default().with(|p| p.output = VoteOutput::Winner);
    combine(&VoteParams::default(), &two, &of([0.9, 0.6, 0.5, 0.2]), &[0.5]);
    // Two votes each; the mean probability is 0.55.
    combine(&winner, &two, &of([0.9, 0.6, 0.5, 0.2]), &[1.0]);
    combine(&winner, &two, &of([0.6, 0.6, 0.1, 0.2]), &[0.0]);
    // All the same: the first class.
    combine(&winner, &two, &of([0.75, 0.75, 0.25, 0.25]), &[0.0]);
    winner.weights = [("a", 3.0), ("b", 1.0), ("c", 1.0), ("d", 0.5)]
        .map(|(name, weight)| (name.to_owned(), weight))
        .into();
    combine(&winner, &two, &of([0.9, 0.1, 0.1, 0.1]), &[1.0]);
    let three = Task::classes(["x", "y", "z"]).expect("three");
    let rows = [[0.5, 0.3, 0.2], [0.2, 0.4, 0.4], [0.1, 0.2, 0.7], [0.3, 0.6, 0.1]];
    let rows = rows.map(|row| Matrix::new(row.to_vec(), 3).expect("valid"));
    combine(&VoteParams::default(), &three, &rows, &[0.25, 0.5, 0.25]);
}

#[test]
fn a_vote_for_the_winner_asks_no_more_members_than_it_must() {
    let data = sample(300, 2, Checks::default());
    let good = fitted(1.0, &data);
    let mut winner = VoteParams::default().with(|p| p.output = VoteOutput::Winner);
    winner.weights =
        [("a", 2.0), ("b", 2.0), ("c", 1.0)].map(|(name, weight)| (name.to_owned(), weight)).into();
    let parts = [binary(0, |_| 0.0), binary(0, |_| 0.0), binary(0, |_| 0.0)];
    let members: Vec<Member<'_>> =
        ["a", "b", "c"].iter().zip(&parts).map(|(name, part)| Member::new(name, part)).collect();
    let none = data.take(&[]);
    let combination = winner.combine(&members, &none, Metric::Accuracy, &ctx()).expect("votes");
    // The third would panic, but two that agree have won.
    let panics = Faulty(Fault::PredictPanics, 0).fit(&data, &ctx()).expect("fits");
    let model = combination
        .into_model(vec![Arc::clone(&good), Arc::clone(&good), Arc::new(panics)])
        .expect("three");
    let won = model.predict(data.frame()).expect("without the third");
    let p = good.predict(data.frame()).expect("predicts");
    for (won, p) in won.values().iter().zip(p.values()) {
        assert_eq!(*won, f64::from(u8::from(0.5 < *p)));
    }
    let mut out = [9.0];
    model.predict_row(data.frame().row(0), &mut out).expect("without the third");
    assert_eq!(out[0], won.values()[0]);
}

#[test]
fn limits_are_kept_and_what_they_cost_is_named() {
    let data = sample(80, 2, Checks::default());
    let members = || [("a", linear(0.1)), ("b", linear(40.0)), ("c", linear(400.0))];
    let fit = |limits: Limits| {
        let params = EnsembleParams::default().with(|p| p.limits = limits);
        let ensemble = Ensemble::mean(members()).and_then(|e| e.with_params(params));
        ensemble.expect("valid").fit(&data, &ctx())
    };
    let two = fit(Limits { max_members: Some(2), ..Limits::default() }).expect("fits");
    let left = &two.report().expect("one").left_out;
    assert_eq!((two.members().len(), left.len()), (2, 1));
    assert_eq!(
        (left[0].name.as_str(), left[0].reason.as_str()),
        ("c", "dropped to keep to the limits")
    );

    let alike = fit(Limits { max_correlation: Some(0.5), ..Limits::default() }).expect("fits");
    assert_eq!(alike.members().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "c"]);
    let reason = &alike.report().expect("one").left_out[0].reason;
    assert_eq!(reason, "errs as `a` does, which is better");

    let size = linear(0.1).fit(&data, &ctx()).expect("fits").to_envelope().expect("seals");
    let size = size.as_bytes().len();
    let small = fit(Limits { max_bytes: Some(size * 3 / 2), ..Limits::default() }).expect("fits");
    assert_eq!(small.members().len(), 1);
    let err = fit(Limits { max_bytes: Some(10), ..Limits::default() }).expect_err("none fits");
    assert_eq!(err.to_string(), "members: expected at least 1 within the limits, got none");
    let slow = fit(Limits { max_predict_us: Some(1e-9), ..Limits::default() });
    assert!(slow.is_err(), "no model is that fast");
    assert_eq!(
        fit(Limits { max_predict_us: Some(1e9), ..Limits::default() })
            .expect("fits")
            .members()
            .len(),
        3
    );

    let unknown = Limits { max_members: Some(0), ..Limits::default() };
    assert!(
        Ensemble::mean(members())
            .expect("ok")
            .with_params(EnsembleParams::default().with(|p| p.limits = unknown))
            .is_err()
    );
    let combiner = register(Catalog::default())
        .combiner("average", serde_json::json!({ "limits": { "max_bytes": 100 } }))
        .expect("valid");
    let part = binary(80, |_| 0.5);
    let err = combiner.combine(&[Member::new("m", &part)], &data, Metric::LogLoss, &ctx());
    assert_eq!(
        err.map(drop).expect_err("unknown").to_string(),
        "size of member `m`: expected a measured one, got none"
    );
}

#[test]
fn members_come_and_go_at_run_time() {
    let data = sample(300, 2, Checks::default());
    let (early, late) =
        (data.take(&(0..150).collect::<Vec<_>>()), data.take(&(150..300).collect::<Vec<_>>()));
    let (good, bad) = (fitted(0.1, &early), fitted(1e5, &early));
    let mut blend =
        EnsembleModel::blend([("monthly", Arc::clone(&bad), 4.0), ("weekly", bad, 1.0)])
            .expect("two");
    assert_eq!(blend.weights(), Some(vec![0.8, 0.2]));
    blend.add("online", good, 0.5).expect("new");
    assert_eq!(blend.weights(), Some(vec![0.4, 0.1, 0.5]));
    let before = blend.clone();
    assert!(blend.add("online", fitted(1.0, &early), 0.5).is_err(), "the name is taken");
    assert!(blend.add("other", fitted(1.0, &early), 1.5).is_err());
    assert!(blend.replace("nobody", fitted(1.0, &early)).is_err());
    assert!(blend.replace("online", fitted(1.0, &sample(60, 3, Checks::default()))).is_err());
    assert!(
        blend
            .reweigh(
                &sample(60, 3, Checks::default()),
                &GreedyParams::default(),
                Metric::LogLoss,
                &ctx()
            )
            .is_err()
    );
    let [a, b] = [&before, &blend].map(|m| m.predict(data.frame()).expect("predicts"));
    assert_eq!(a, b, "after an error all is as it was");

    blend.reweigh(&late, &GreedyParams::default(), Metric::LogLoss, &ctx()).expect("learns");
    assert_eq!(blend.weights(), Some(vec![0.0, 0.0, 1.0]), "only one is any good");
    let bytes = blend.to_envelope().expect("seals").into_bytes();
    let opened = register(Catalog::default()).open(&bytes).expect("opens");
    let mut opened = opened.downcast_ref::<EnsembleModel>().expect("an ensemble").clone();
    opened.replace("monthly", fitted(0.01, &early)).expect("there");
    opened.remove("weekly").expect("there");
    assert_eq!(opened.members().map(|(name, _)| name).collect::<Vec<_>>(), ["monthly", "online"]);
    assert!(opened.member("weekly").is_none() && opened.member("online").is_some());
    opened.remove("monthly").expect("there");
    assert_eq!(
        opened.remove("online").expect_err("the last").to_string(),
        "members after a removal: expected at least 1, got none"
    );

    let median = Ensemble::new([("a", linear(1.0))], MedianParams::default()).expect("one");
    let mut median = median.fit(&data, &ctx()).expect("fits");
    assert!(median.remove("a").is_err() && median.add("b", fitted(1.0, &data), 0.5).is_err());
}

#[test]
fn a_file_with_a_member_missing_or_too_new_says_which() {
    let data = sample(60, 2, Checks::default());
    let blend = EnsembleModel::blend([
        ("batch", fitted(1.0, &data), 0.8),
        ("online", fitted(9.0, &data), 0.2),
    ]);
    let bytes = blend.expect("two").to_envelope().expect("seals").into_bytes();
    let without = Catalog::default().with::<EnsembleModel>();
    let err = without.open(&bytes).expect_err("no linear models here");
    assert_eq!(
        err.chain(),
        "in member `batch`: no loader for model tag `mm.linear`; register the crate that defines it"
    );
    assert!(matches!(err.root(), Error::UnknownTag(_)));
    assert!(without.with::<LinearModel>().open(&bytes).is_ok(), "no more is needed");
}

#[test]
fn bags_hold_a_model_a_fold_and_repeat() {
    let data = sample(60, 2, Checks::default());
    let split = "kind = 'repeated'\ntimes = 2\nof = { kind = 'stratified_k_fold', folds = 3 }";
    let split: SplitPlan = serde_json::from_value(serde_json::json!({
        "kind": "repeated", "times": 2, "of": { "kind": "stratified_k_fold", "folds": 3 },
    }))
    .expect(split);
    let params =
        EnsembleParams::default().with(|p| (p.split, p.finish) = (Some(split), Finish::KeepBag));
    let ensemble = Ensemble::mean([("a", linear(1.0)), ("b", linear(9.0))])
        .and_then(|e| e.with_params(params));
    let model = ensemble.expect("valid").fit(&data, &ctx()).expect("fits");
    for (_, member) in model.members() {
        assert_eq!(member.downcast_ref::<EnsembleModel>().expect("a bag").members().len(), 6);
    }
    assert!(model.signature().outputs.iter().all(is_probability));
}
