//! Averages of real engines keep the promises of every model, and nest.

use mm::{
    core::{BoxLearner, FitContext, Learner as _, Model as _, Params as _, conformance},
    ensemble::Ensemble,
    trees::{LightGbmParams, XgBoostParams},
};

fn lightgbm() -> BoxLearner {
    let params = LightGbmParams::default().with(|p| {
        p.rounds = 8;
        p.tree.min_data_in_leaf = 2;
        p.bins.min_data = 1;
    });
    Box::new(params.build().expect("valid"))
}

fn xgboost() -> BoxLearner {
    Box::new(XgBoostParams::default().with(|p| p.rounds = 8).build().expect("valid"))
}

#[test]
fn an_average_of_both_engines_conforms() {
    let average = Ensemble::mean([("a", lightgbm()), ("b", xgboost())]).expect("two members");
    conformance::check(&average, &mm::catalog());
}

#[test]
fn an_average_fills_what_it_is_given_and_does_not_add_to_it() {
    let average = Ensemble::mean([("a", lightgbm()), ("b", xgboost())]).expect("two members");
    let data = conformance::sample(60, 2, conformance::Checks::default());
    let model = average.fit(&data, &FitContext::seeded(1)).expect("fits");
    let x = data.frame();
    let mut out = mm::core::Matrix::new(vec![9.0; x.n_rows()], 1).expect("valid");
    model.infer(x, &mut out).expect("predicts");
    assert_eq!(out, model.predict(x).expect("predicts"));
}

#[test]
fn averages_nest_and_say_which_part_failed() {
    let inner = Ensemble::mean([("a", lightgbm())]).expect("one member");
    let outer = Ensemble::mean([("inner", Box::new(inner) as BoxLearner), ("b", xgboost())]);
    let outer = outer.expect("two members");
    let data = conformance::sample(60, 2, conformance::Checks::default());
    let model = outer.fit(&data, &FitContext::seeded(1)).expect("fits");
    let bytes = model.to_envelope().expect("seals").into_bytes();
    let opened = mm::catalog().open(&bytes).expect("opens");
    let x = data.frame();
    assert_eq!(opened.predict(x).expect("predicts"), model.predict(x).expect("predicts"));

    let cancel = mm::core::Cancel::default();
    let watch = |_: &mm::core::Step<'_>| mm::core::Signal::Abort;
    let ctx = FitContext::seeded(1).with_cancel(&cancel).with_observer(&watch);
    let err = outer.fit(&data, &ctx).expect_err("given up");
    assert_eq!(err.chain(), "in member `inner`: in member `a`: cancelled");
}
