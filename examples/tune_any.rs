//! How do I tune whatever does best, boosters or something simpler, in one search with one budget?
//!
//!     cargo run --example tune_any -- [trials]
//!
//! One candidate of the plan is searched for among three kinds, another is one of them as it comes.
//! Folds whose scores are worse than the best trial's, by a signed-rank test, end a trial early.
//! With a checkpoint, a killed run goes on where it was.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{env, error::Error};

use mm::core::{Event, Plan, Signal};

const PLAN: &str = r#"
    name = "flights"
    seed = 42
    metric = "roc_auc"
    split = { kind = "time_series", folds = 4 }

    [data]
    path = "data/flights/flights.csv"
    target = "late15"
    time = "scheduled"
    ignore = ["arr_delay"]

    [[candidates]]
    kind = "lightgbm"

    [[candidates]]
    name = "tuned"
    kind = "lightgbm"
    params = { rounds = 60 } # Fixed; the rest of the space is searched.

    [candidates.tune]
    space = "small"
    pruner = "wilcoxon"
    also = [{ kind = "xgboost", params = { rounds = 60 } }, { kind = "naive_bayes" }]
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let mut plan: Plan = PLAN.parse()?;
    plan = plan.relative_to(env!("CARGO_MANIFEST_DIR"));
    for tune in plan.candidates.iter_mut().filter_map(|candidate| candidate.tune.as_mut()) {
        tune.trials = env::args().nth(1).map_or(Ok(40), |n| n.parse())?;
    }
    let catalog = mm::catalog();
    let progress = |event: &Event<'_>| {
        if let Event::Trial { kind, score, seconds, .. } = event {
            let score = score.map_or("given up".to_owned(), |score| format!("{score:.4}"));
            println!("{kind:>10}: {score} after {seconds:.2} s");
        }
        Signal::Continue
    };
    let outcome = mm::orchestrator(&catalog).with_watcher(&progress).run(&plan);
    let outcome = outcome.map_err(|e| e.chain())?;
    println!("\n{}", outcome.leaderboard);
    for (name, tuned) in &outcome.tuned {
        println!("{name}: {tuned} ({} were given up)", tuned.pruned);
        println!("{} {:#}", tuned.best.kind, tuned.best.params);
    }
    Ok(())
}
