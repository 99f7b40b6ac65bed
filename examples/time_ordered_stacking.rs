//! How does one stack on data in time? Folds go forward, labels that come late are purged, and rows
//! that were never predicted are left out of the meta-learner's fit.
//!
//!     cargo run --example time_ordered_stacking

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;

use mm::{
    core::{
        BoxLearner, Holdout, Metric, PurgedKFold, Roles, Source, SplitPlan, Splitter as _,
        TimeSeriesSplit,
    },
    ensemble::{Ensemble, EnsembleParams, LinearParams, Stack},
    prelude::*,
    trees::{LightGbmParams, XgBoostParams},
};

fn main() -> Result<(), Box<dyn Error>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights/flights.csv");
    let roles = Roles::with_target("late15").with(|roles| {
        roles.time = Some("scheduled".to_owned());
        roles.ignore = vec!["arr_delay".to_owned()];
    });
    let (data, _) = Source::open(file)?.dataset(&roles)?;
    // Whether a flight was late is known a day after it was due.
    let day = 24 * 3600 * 1_000_000_000;
    let known = data.frame().times().unwrap_or_default().iter().map(|time| time + day).collect();
    let data = data.with_label_times(known)?;
    let future = Holdout::last(0.2).split(&data, 0)?.remove(0);
    let (train, test) = (data.take(&future.train), data.take(&future.test));

    for (name, split) in [
        ("walk forward", SplitPlan::TimeSeries(TimeSeriesSplit::new(5))),
        ("purged", SplitPlan::PurgedKFold(PurgedKFold::new(5).with_embargo("1d".parse()?))),
    ] {
        let lightgbm = LightGbmParams::default().with(|p| (p.rounds, p.learning_rate) = (80, 0.05));
        let xgboost = XgBoostParams::default().with(|p| (p.rounds, p.learning_rate) = (80, 0.05));
        let members: [(&str, BoxLearner); 2] =
            [("lightgbm", Box::new(lightgbm.build()?)), ("xgboost", Box::new(xgboost.build()?))];
        let meta = Stack::linear(LinearParams::default().with(|p| p.non_negative = true))?;
        let params = EnsembleParams::default().with(|p| p.split = Some(split));
        let stack = Ensemble::new(members, meta)?.with_params(params)?;

        let model = stack.fit(&train, &FitContext::seeded(42).with_threads(2))?;
        if let Some(report) = model.report() {
            println!("{name}\n{report}");
        }
        let predicted = model.predict(test.frame())?;
        let loss = Metric::LogLoss.score(test.truth(), &predicted)?;
        println!("log loss of the future: {loss:.5}\n");
    }
    Ok(())
}
