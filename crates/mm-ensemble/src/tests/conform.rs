//! Each ensemble keeps the promises of every model.

use mm_core::{
    BoxLearner, Catalog, Combiner, FitContext, Learner as _, Model as _, Params as _,
    conformance::{Checks, check, check_only, sample},
};
use serde_json::json;

use super::probe::linear;
use crate::{
    AverageParams, Bag, Calibrated, Calibration, Conformal, Ensemble, EnsembleParams, Finish,
    GreedyParams, Guard, LinearParams, MedianParams, MetaInputs, NnlsParams, RankParams, Stack,
    VoteOutput, VoteParams, WeightsParams, register,
};

fn catalog() -> Catalog {
    register(Catalog::default())
}

fn members() -> [(&'static str, BoxLearner); 3] {
    [("weak", linear(300.0)), ("strong", linear(0.1)), ("between", linear(30.0))]
}

fn classes() -> Checks {
    let mut checks = Checks::default();
    checks.regression = false;
    checks
}

fn conforms(combiner: impl Combiner + 'static) {
    check(&Ensemble::new(members(), combiner).expect("members"), &catalog());
}

#[test]
fn linear_models() {
    check(&LinearParams::default().build().expect("valid"), &catalog());
    let params = LinearParams::default().with(|p| (p.non_negative, p.standardize) = (true, false));
    check(&params.build().expect("valid"), &catalog());
}

#[test]
fn means() {
    conforms(AverageParams::default());
    conforms(AverageParams::fixed([("weak", 0.0), ("strong", 3.0), ("between", 1.0)]));
    conforms(MedianParams::default());
    conforms(MedianParams::trimmed(0.34));
}

#[test]
fn votes_and_ranks() {
    let winner = VoteParams::default().with(|p| p.output = VoteOutput::Winner);
    let shares = Ensemble::new(members(), VoteParams::default()).expect("members");
    check_only(&shares, &catalog(), classes());
    check_only(&Ensemble::new(members(), winner).expect("members"), &catalog(), classes());
    let ranks = Ensemble::new(members(), RankParams::default()).expect("members");
    check_only(&ranks, &catalog(), classes());
}

#[test]
fn learnt_weights() {
    conforms(GreedyParams::default());
    conforms(NnlsParams::default());
    conforms(WeightsParams::default());
    conforms(WeightsParams::default().with(|p| p.per_class = true));
}

#[test]
fn stacks() {
    conforms(Stack::linear(LinearParams::default()).expect("valid"));
    let params = LinearParams::default().with(|p| p.non_negative = true);
    let stack = Stack::linear(params).expect("valid").with_passthrough();
    conforms(stack.with_inputs(MetaInputs::Raw));
}

#[test]
fn layers_bags_and_guards() {
    let layered = Ensemble::new([("a", linear(1.0)), ("b", linear(50.0))], GreedyParams::default())
        .and_then(|e| e.with_layer([("a", linear(1.0)), ("c", linear(9.0))]))
        .expect("members");
    check(&layered, &catalog());
    let kept = EnsembleParams::default().with(|p| p.finish = Finish::KeepBag);
    let bags = Ensemble::new(members(), GreedyParams::default()).expect("members");
    check(&bags.with_params(kept).expect("valid"), &catalog());
    let guarded = EnsembleParams::default().with(|p| p.guard = Some(Guard::default()));
    let stack = Stack::linear(LinearParams::default()).expect("valid");
    let stack = Ensemble::new(members(), stack).expect("members");
    check(&stack.with_params(guarded).expect("valid"), &catalog());
    check(&Bag::new(linear(1.0)), &catalog());
}

#[test]
fn calibrated_learners() {
    for method in [
        Calibration::Auto,
        Calibration::Temperature,
        Calibration::Platt,
        Calibration::Beta,
        Calibration::Isotonic,
    ] {
        check_only(&Calibrated::new(linear(100.0), method), &catalog(), classes());
    }
}

#[test]
fn conformal_learners() {
    // Twenty rows, as the suite has at least, must do.
    check(&Conformal::new(linear(1.0), 0.8).expect("valid"), &catalog());
}

/// Ensembles nest, and come from plans under the kinds' names.
#[test]
fn learners_of_plans() {
    let build = |kind: &str, params| {
        let built = catalog().learner(kind, params);
        built.unwrap_or_else(|e| panic!("{}", e.chain()))
    };
    let of = json!({ "kind": "linear", "params": { "penalty": 2.0 } });
    build("bag", json!({ "of": of, "split": { "kind": "k_fold", "folds": 3 } }));
    build("calibrated", json!({ "of": of, "method": "beta", "recent": 0.5 }));
    build("conformal", json!({ "of": of, "coverage": 0.95, "split": { "kind": "holdout" } }));
    let data = sample(60, 2, Checks::default());
    let members = json!([
        { "name": "one", "kind": "linear" },
        { "name": "bagged", "kind": "bag", "params": { "of": of } },
    ]);
    for (kind, params) in [
        ("average", json!({ "weights": { "one": 0.8, "bagged": 0.2 } })),
        ("median", json!({ "trim": 0.2 })),
        ("vote", json!({ "output": "winner" })),
        ("rank", json!({})),
        ("greedy", json!({ "rounds": 10, "limits": { "max_members": 1 } })),
        ("weights", json!({ "per_class": true })),
        ("nnls", json!({})),
        (
            "stack",
            json!({ "meta": { "kind": "linear", "params": { "non_negative": true } }, "passthrough": true }),
        ),
    ] {
        let config = json!({
            "members": members,
            "layers": [[{ "name": "one", "kind": "linear" }, { "name": "bagged", "kind": "linear" }]],
            "combine": { "kind": kind, "params": params },
            "fit": { "finish": "keep_bag", "split": { "kind": "k_fold", "folds": 3 }, "guard": {} },
        });
        let learner = build("ensemble", config);
        let model = learner.fit(&data, &FitContext::seeded(1));
        let model = model.unwrap_or_else(|e| panic!("{kind}: {}", e.chain()));
        let bytes = model.to_envelope().expect("seals").into_bytes();
        let opened = catalog().open(&bytes).expect("opens");
        let [a, b] = [&model, &opened].map(|m| m.predict(data.frame()).expect("predicts"));
        assert_eq!(a, b, "{kind}");
        assert_eq!(learner.name(), "ensemble");
    }
}

#[test]
fn misspelt_plans_say_where() {
    let refuse = |kind: &str, params| {
        catalog().learner(kind, params).map(drop).expect_err("misspelt").chain()
    };
    let text = refuse("ensemble", json!({ "members": [{ "kind": "linnear" }] }));
    assert!(text.starts_with("in members.0: no model kind `linnear`"), "{text}");
    let text = refuse("ensemble", json!({ "members": [{ "kind": "linear" }], "combin": {} }));
    assert!(text.contains("unknown field `combin`"), "{text}");
    let text = refuse(
        "ensemble",
        json!({ "members": [{ "kind": "linear" }], "combine": { "kind": "greedy", "params": { "rounds": 0 } } }),
    );
    assert_eq!(text, "parameter `rounds` is 0; expected at least 1");
    let text = refuse("ensemble", json!({ "members": [] }));
    assert_eq!(text, "members: expected at least 1, got none");
    let text = refuse(
        "bag",
        json!({ "of": { "kind": "linear" }, "split": { "kind": "k_fold", "folds": 1 } }),
    );
    assert_eq!(text, "in split: parameter `folds` is 1; expected at least 2");
    let combiner = catalog().combiner("greedy", json!({ "limits": { "max": 1 } }));
    let text = combiner.map(drop).expect_err("misspelt").chain();
    assert!(text.starts_with("params.limits: unknown field `max`"), "{text}");
}
