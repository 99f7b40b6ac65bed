//! How do many processes share one search?
//!
//!     cargo run --example tune_worker -- target/study.journal 60 &
//!     cargo run --example tune_worker -- target/study.journal 60
//!
//! Start it as often as you like, on one host or on several that see the same storage: a journal
//! file, a SQLite file (`.db`), or a PostgreSQL address (`postgresql://user@host/database`, with
//! `--features postgres`). Together the workers run 60 trials. Kill any of them at any time: its trial
//! is run again by another one, and none is run twice.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{env, error::Error, process, time::Duration};

use mm::{
    core::{Holdout, Metric, Roles, Search as _, Source, SpaceSize, Splitter as _},
    prelude::*,
    trees::CatBoostParams,
    tune::{Heartbeat, Study, TpeSampler, Until, storage},
};

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "expected a storage and a number of trials";
    let place = env::args().nth(1).ok_or(usage)?;
    let n_trials: u64 = env::args().nth(2).ok_or(usage)?.parse()?;

    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights/flights.csv");
    let roles = Roles::with_target("late15").with(|roles| {
        roles.time = Some("scheduled".to_owned());
        roles.ignore = vec!["arr_delay".to_owned()]; // Known too late.
    });
    let (data, _) = Source::csv(file).dataset(&roles)?;
    let fold = Holdout::last(0.25).split(&data, 0)?.swap_remove(0);
    let (train, test) = (data.take(&fold.train), data.take(&fold.test));

    let metric = Metric::ROC_AUC;
    let study = Study::open(storage::open(&place)?, "flights", &[metric.direction()])?
        .with_seed(42)
        .with_sampler(TpeSampler::default())
        .with_heartbeat(Heartbeat::every(Duration::from_secs(2)));
    study.optimize_until(Until::trials(n_trials), |trial| {
        let params = trial.draw(|space| CatBoostParams::search(SpaceSize::Small, space))?;
        let learner = params.with(|p| p.rounds = p.rounds.min(100)).build()?;
        let model = learner.fit(&train, &FitContext::seeded(1))?;
        let score = metric.score(test.truth(), &model.predict(test.frame())?)?;
        println!("worker {}: trial {} has {score:.4}", process::id(), trial.number());
        Ok(score.into())
    })?;

    let best = study.best()?.ok_or("no trial succeeded")?;
    println!("best of {}: {:.4}, trial {}", study.trials()?.len(), best.values[0], best.number);
    Ok(())
}
