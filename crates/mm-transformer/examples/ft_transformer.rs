//! Do nets earn their keep on my table? FT-Transformer and TabM on a CSV file, each scored on a
//! fifth of the rows that it did not see.
//!
//!     cargo run -p mm-transformer --example ft_transformer
//!     cargo run -p mm-transformer --example ft_transformer -- my.csv churned
//!     cargo run -p mm-transformer --example ft_transformer -- my.csv churned '{"width":64}'
//!
//! Without arguments: flights out of New York in 2013 (`data/flights`), will they arrive at least 15
//! minutes late? The third argument is the FT-Transformer's params, in JSON; the fourth TabM's.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{env, error::Error, time::Instant};

use mm_core::{
    Dataset, FitContext, Holdout, Learner, Metric, Model as _, Params as _, Roles, Signal, Source,
    Splitter as _, Step,
};
use mm_transformer::{FtTransformerParams, TabmParams};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let flights = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/flights/flights.csv");
    let file = arguments.next().unwrap_or_else(|| flights.to_owned());
    let target = arguments.next().unwrap_or_else(|| "late15".to_owned());
    let roles = Roles::with_target(target).with(|roles| {
        if file == flights {
            // The delay is the answer in other words, and the moment would be learnt by heart.
            roles.ignore = vec!["arr_delay".to_owned(), "scheduled".to_owned()];
        }
    });
    let (data, report) = Source::open(&file)?.dataset(&roles)?;
    println!("{report}\n{data:?}\n");

    // A fifth is tested; of the rest, a fifth says when to stop.
    let rows = |data: &Dataset, seed| -> mm_core::Result<(Dataset, Dataset)> {
        let fold = Holdout::new(0.2).split(data, seed)?.remove(0);
        Ok((data.take(&fold.train), data.take(&fold.test)))
    };
    let (rest, test) = rows(&data, 1)?;
    let (train, stop) = rows(&rest, 2)?;

    let small = FtTransformerParams::default().with(|p| {
        (p.width, p.blocks) = (64, 2);
        (p.training.epochs, p.training.learning_rate) = (12, 1e-3);
    });
    let ft = match arguments.next() {
        Some(json) => serde_json::from_str(&json)?,
        None => small,
    };
    try_out(&ft.build()?, &train, &stop, &test)?;
    let small = TabmParams::default().with(|p| (p.width, p.training.epochs) = (128, 12));
    let tabm = match arguments.next() {
        Some(json) => serde_json::from_str(&json)?,
        None => small,
    };
    try_out(&tabm.build()?, &train, &stop, &test)
}

fn try_out(
    learner: &impl Learner,
    train: &Dataset,
    stop: &Dataset,
    test: &Dataset,
) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let progress = |step: &Step<'_>| {
        let seconds = start.elapsed().as_secs();
        println!("  epoch {:>3}  {:?}  {seconds} s", step.iteration, step.metrics);
        Signal::Continue
    };
    println!("{}", learner.name());
    let threads = std::thread::available_parallelism()?.get();
    let ctx = FitContext::seeded(42).with_threads(threads);
    let ctx = ctx.with_validation(stop).with_observer(&progress);
    let model = learner.fit(train, &ctx)?;
    println!("  {model:?}");
    let start = Instant::now();
    let predicted = model.predict(test.frame())?;
    let each = start.elapsed().as_secs_f64() * 1e6 / test.n_rows() as f64;
    println!("  {each:.0} µs a row to predict");
    for metric in metrics(test) {
        println!("  {metric} {:.4}", metric.score(test.truth(), &predicted)?);
    }
    println!();
    Ok(())
}

fn metrics(data: &Dataset) -> Vec<Metric> {
    match data.task().n_classes() {
        0 => vec![Metric::Rmse, Metric::R2],
        2 => vec![Metric::LogLoss, Metric::ROC_AUC, Metric::Accuracy],
        _ => vec![Metric::LogLoss, Metric::Accuracy],
    }
}
