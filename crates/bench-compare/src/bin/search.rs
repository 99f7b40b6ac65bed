//! What a search of a booster's parameters finds in a given time, on rows that it has not seen.
//!
//! ```text
//! search folds DATA.csv TARGET SEED
//! search KIND DATA.csv TARGET SEED SECONDS [plain|folds|rungs]
//! ```
//!
//! Every fourth row is held back. The others are searched by five folds in so many seconds, wall
//! clock, with two threads: without pruning, with Wilcoxon's over the folds, or on rungs. The best
//! parameters are then fitted to them all. One line of JSON: the score of the search, that on the rows
//! held back, and the number of trials. `folds` prints the fold of each row that is searched with, from
//! 0. `python/search.py` gives both to Optuna with the engines' own packages, and compares.

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::{env, error::Error, time::Instant};

use mm::core::{
    Candidate, Dataset, FitContext, Metric, Plan, Roles, Rungs, Source, SplitPlan, Splitter as _,
    Task, TunePlan,
};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["folds", csv, target, seed] => folds(&read(csv, target, false)?, seed.parse()?),
        [kind, csv, target, seed, seconds, mode] => {
            let (train, test) = (read(csv, target, false)?, read(csv, target, true)?);
            search(kind, &train, &test, seed.parse()?, seconds.parse()?, mode)
        }
        _ => Err("expected folds DATA.csv TARGET SEED, or \
                  KIND DATA.csv TARGET SEED SECONDS plain|folds|rungs"
            .into()),
    }
}

/// The rows that are searched with, or those that are held back.
fn read(csv: &str, target: &str, held_back: bool) -> Result<Dataset, Box<dyn Error>> {
    let (data, _) = Source::open(csv)?.dataset(&Roles::with_target(target))?;
    let rows: Vec<usize> = (0..data.n_rows()).filter(|row| (row % 4 == 3) == held_back).collect();
    Ok(data.take(&rows))
}

fn split(data: &Dataset) -> Result<SplitPlan, Box<dyn Error>> {
    let kind = if matches!(data.task(), Task::Regression) { "k_fold" } else { "stratified_k_fold" };
    Ok(serde_json::from_value(json!({"kind": kind, "folds": 5}))?)
}

fn folds(data: &Dataset, seed: u64) -> Result<(), Box<dyn Error>> {
    // As a run of the orchestrator forks it.
    let seed = FitContext::seeded(seed).fork(u64::MAX).seed;
    let mut fold_of = vec![0; data.n_rows()];
    for (f, fold) in split(data)?.split(data, seed)?.iter().enumerate() {
        fold.test.iter().for_each(|&row| fold_of[row] = f);
    }
    println!("{}", json!(fold_of));
    Ok(())
}

fn search(
    kind: &str,
    train: &Dataset,
    test: &Dataset,
    seed: u64,
    seconds: f64,
    mode: &str,
) -> Result<(), Box<dyn Error>> {
    let metric = match train.task() {
        Task::Regression => Metric::Rmse,
        _ => Metric::LogLoss,
    };
    let tune = TunePlan::trials(1_000_000).with(|tune| {
        tune.seconds = Some(seconds);
        match mode {
            "folds" => tune.pruner = json!("wilcoxon"),
            // As far as the space goes.
            "rungs" => {
                let last = if kind == "catboost" { 2000 } else { 1000 };
                tune.rungs = Some(Rungs { last, ..Rungs::default() });
            }
            _ => {}
        }
    });
    let mut plan = Plan::new([Candidate::of_kind(kind).tuned(tune)]);
    (plan.seed, plan.metric, plan.split) = (seed, Some(metric), Some(split(train)?));
    plan.budget.threads = Some(2);
    let catalog = mm::catalog();
    let started = Instant::now();
    let outcome = mm::orchestrator(&catalog).run_on(&plan, train).map_err(|e| e.chain())?;
    let (_, tuned) = outcome.tuned.first().ok_or("nothing was tuned")?;
    let (_, best) = outcome.best().ok_or("nothing was fitted")?;
    let held_out = metric.score(test.truth(), &best.predict(test.frame())?)?;
    let line = json!({
        "validation": tuned.score, "held_out": held_out, "trials": tuned.trials,
        "pruned": tuned.pruned, "params": tuned.best.params,
        "seconds_with_fits": started.elapsed().as_secs_f64(),
    });
    println!("{line}");
    Ok(())
}
