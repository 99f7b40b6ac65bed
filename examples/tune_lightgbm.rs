//! How do I find good parameters for one model, and give bad ones up early?
//!
//!     cargo run --example tune_lightgbm -- [trials]
//!
//! The shipped flights: fitted to the earlier ones, judged on later ones while trees are added. A fit
//! whose score lags behind the median of the others at the same round ends there.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{env, error::Error};

use mm::{
    core::{EarlyStopping, Holdout, Metric, Roles, Search as _, Source, SpaceSize, Splitter as _},
    prelude::*,
    trees::LightGbmParams,
    tune::{PercentilePruner, Study, TpeSampler, TrialState},
};

fn main() -> Result<(), Box<dyn Error>> {
    let n_trials = env::args().nth(1).map_or(Ok(30), |n| n.parse())?;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights/flights.csv");
    let roles = Roles::with_target("late15").with(|roles| {
        roles.time = Some("scheduled".to_owned());
        roles.ignore = vec!["arr_delay".to_owned()]; // Known too late.
    });
    let (data, _) = Source::csv(file).dataset(&roles)?;
    let fold = Holdout::last(0.25).split(&data, 0)?.swap_remove(0);
    let (train, test) = (data.take(&fold.train), data.take(&fold.test));

    let metric = Metric::ROC_AUC;
    let study = Study::in_memory(metric.direction())
        .with_seed(42)
        .with_sampler(TpeSampler::default())
        .with_pruner(PercentilePruner { warmup_steps: 20, ..PercentilePruner::default() })
        .without_duplicates();
    let name = metric.to_string();
    study.optimize(n_trials, |trial| {
        let params = trial.draw(|space| LightGbmParams::search(SpaceSize::Medium, space))?;
        let stopping = EarlyStopping { metric: Some(metric), ..EarlyStopping::after(30) };
        let learner = params.with(|p| p.early_stopping = Some(stopping)).build()?;
        let watch = trial.watch(&name);
        let ctx = FitContext::seeded(1).with_threads(2).with_validation(&test);
        let model = learner.fit(&train, &ctx.with_observer(&watch))?;
        Ok(metric.score(test.truth(), &model.predict(test.frame())?)?.into())
    })?;

    let trials = study.trials()?;
    let pruned = trials.iter().filter(|trial| trial.state == TrialState::Pruned).count();
    println!("{} trials, {pruned} of them given up early", trials.len());
    let best = study.best()?.ok_or("no trial succeeded")?;
    println!("trial {} has {metric} {:.4} with", best.number, best.values[0]);
    for param in &best.params {
        println!("{:>24} {}", param.name, param.value);
    }
    Ok(())
}
