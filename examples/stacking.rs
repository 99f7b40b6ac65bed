//! What does stacking buy, and is it honest? LightGBM, XGBoost, and a linear model under a
//! meta-learner, with a guard against over-fitting; then two layers, from a plan.
//!
//!     cargo run --example stacking

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;

use mm::{
    core::{BoxLearner, Holdout, Metric, Roles, Source, Splitter as _},
    ensemble::{Ensemble, EnsembleParams, Guard, LinearParams, Stack},
    prelude::*,
    trees::{LightGbmParams, XgBoostParams},
};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights/flights.csv");
    let roles = Roles::with_target("late15")
        .with(|roles| roles.ignore = vec!["arr_delay".to_owned(), "scheduled".to_owned()]);
    let (data, _) = Source::open(file)?.dataset(&roles)?;
    let split = Holdout::stratified(0.25).split(&data, 1)?.remove(0);
    let (train, test) = (data.take(&split.train), data.take(&split.test));

    let lightgbm = LightGbmParams::default().with(|p| (p.rounds, p.learning_rate) = (80, 0.05));
    let xgboost = XgBoostParams::default().with(|p| (p.rounds, p.learning_rate) = (80, 0.05));
    let members: [(&str, BoxLearner); 3] = [
        ("lightgbm", Box::new(lightgbm.clone().build()?)),
        ("xgboost", Box::new(xgboost.clone().build()?)),
        ("linear", Box::new(LinearParams::default().with(|p| p.penalty = 100.0).build()?)),
    ];
    // No member may count against what it says.
    let meta = Stack::linear(LinearParams::default().with(|p| p.non_negative = true))?;
    let guarded = EnsembleParams::default().with(|p| p.guard = Some(Guard::default()));
    let stack = Ensemble::new(members, meta)?.with_params(guarded)?;

    let ctx = FitContext::seeded(42).with_threads(2);
    let model = stack.fit(&train, &ctx)?;
    if let Some(report) = model.report() {
        println!("{report}");
    }
    let loss = |p: &mm::core::Matrix| Metric::LogLoss.score(test.truth(), p);
    println!("on rows that nobody saw, log loss:");
    for (name, member) in model.members() {
        println!("{name:>12} {:.5}", loss(&member.predict(test.frame())?)?);
    }
    println!("{:>12} {:.5}", "stacked", loss(&model.predict(test.frame())?)?);

    // The same kinds by name, in two layers: the upper one sees the lower one's predictions.
    let layer = json!([
        { "kind": "lightgbm", "params": serde_json::to_value(&lightgbm)? },
        { "kind": "xgboost", "params": serde_json::to_value(&xgboost)? },
    ]);
    let plan = json!({ "members": layer, "layers": [layer], "combine": { "kind": "greedy" } });
    let layered = mm::catalog().learner("ensemble", plan)?;
    let model = layered.fit(&train, &ctx)?;
    println!("{:>12} {:.5}", "two layers", loss(&model.predict(test.frame())?)?);
    Ok(())
}
