//! How do I train from a file that says what to train?
//!
//!     cargo run --example train_from_plan -- examples/flights.toml
//!
//! Kill it and start it again: finished fits are in the checkpoint and are not repeated.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{env, error::Error};

use mm::core::{Event, Plan, Signal};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("expected the path of a plan, got none")?;
    let plan = Plan::read(&path)?;
    let catalog = mm::catalog();
    let progress = |event: &Event<'_>| {
        match event {
            Event::Trial { candidate, kind, score: Some(score), seconds } => {
                println!("{candidate:>16}, trial of {kind}: {score:.4} after {seconds:.2} s");
            }
            Event::Planned { fits, resumed } => {
                println!("{fits} fits, {resumed} of them done before");
            }
            Event::Fold { candidate, fold, score, fit_seconds } => {
                println!("{candidate:>16}, fold {fold}: {score:.4} after {fit_seconds:.2} s");
            }
            Event::Failed { candidate, reason } => println!("{candidate:>16} failed: {reason}"),
            _ => {}
        }
        Signal::Continue
    };
    let run = mm::orchestrator(&catalog).with_watcher(&progress).run(&plan);
    let outcome = run.map_err(|e| e.chain())?; // Each link of the chain of causes, once.
    for (candidate, tuned) in &outcome.tuned {
        println!("{candidate:>16}: {tuned}");
    }
    println!("\n{}", outcome.leaderboard);
    if let Some(version) = outcome.published {
        println!("published as {} version {}", version.name, version.number);
    }
    outcome.publish_error.map_or(Ok(()), |e| Err(e.chain().into()))
}
