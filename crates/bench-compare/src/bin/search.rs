//! What a search of LightGBM's parameters finds in a given time, on rows that it has not seen.
//!
//! ```text
//! search DATA.csv TARGET SECONDS SEED [plain|folds|rungs]
//! ```
//!
//! Every fourth row is held back. The others are searched by five folds in so many seconds, wall
//! clock, with two threads: without pruning, with Wilcoxon's over the folds, or on rungs. The best
//! parameters are then fitted to them all. One line of JSON: the score of the search, that on the rows
//! held back, and the number of trials; `python/search.py` prints the same of Optuna and LightGBM's
//! own package.

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::{env, error::Error};

use mm::core::{Candidate, Metric, Plan, Roles, Rungs, Source, SplitPlan, Task, TunePlan};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [csv, target, seconds, seed, mode] = &arguments[..] else {
        return Err("expected DATA.csv TARGET SECONDS SEED plain|folds|rungs".into());
    };
    let (data, _) = Source::open(csv)?.dataset(&Roles::with_target(target))?;
    let rows = |held: bool| -> Vec<usize> {
        (0..data.n_rows()).filter(|row| (row % 4 == 3) == held).collect()
    };
    let (train, test) = (data.take(&rows(false)), data.take(&rows(true)));
    let metric = match data.task() {
        Task::Regression => Metric::Rmse,
        _ => Metric::LogLoss,
    };
    let tune = TunePlan::trials(1_000_000).with(|tune| match mode.as_str() {
        "folds" => tune.pruner = json!("wilcoxon"),
        "rungs" => tune.rungs = Some(Rungs { first: 100, last: 900, eta: 3 }),
        _ => {}
    });
    let split: SplitPlan = serde_json::from_value(json!({"kind": "k_fold", "folds": 5}))?;
    let plan = Plan::new([Candidate::of_kind("lightgbm").tuned(tune)]).with(|plan| {
        (plan.seed, plan.metric, plan.split) =
            (seed.parse().unwrap_or(0), Some(metric), Some(split));
        plan.budget.threads = Some(2);
        plan.candidates[0].tune.iter_mut().for_each(|tune| tune.seconds = seconds.parse().ok());
    });
    let catalog = mm::catalog();
    let outcome = mm::orchestrator(&catalog).run_on(&plan, &train).map_err(|e| e.chain())?;
    let (_, tuned) = outcome.tuned.first().ok_or("nothing was tuned")?;
    let (_, best) = outcome.best().ok_or("nothing was fitted")?;
    let held_out = metric.score(test.truth(), &best.predict(test.frame())?)?;
    let line = json!({
        "validation": tuned.score, "held_out": held_out, "trials": tuned.trials,
        "pruned": tuned.pruned, "best": tuned.best.params,
    });
    println!("{line}");
    Ok(())
}
