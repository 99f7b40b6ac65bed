//! Does the past of a series tell its next day? A sequence Transformer on hourly data, 24 steps ahead,
//! beside the forecast that nothing changes and TabM on the present row alone.
//!
//!     cargo run -p mm-transformer --example sequence_transformer -- ETTh1.csv OT date
//!     cargo run -p mm-transformer --example sequence_transformer -- my.csv sales hour '{"window":48}'
//!
//! Without arguments: the temperature at New York's airports in 2013, from `data/flights`, whose flights
//! are some minutes apart: what is 24 steps ahead there is the next hours. Of rows of one moment the
//! first is taken. Everything is fitted on the first 64 % in time, stopped by the next 16 %, and scored
//! on the last 20 %.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{env, error::Error, time::Instant};

use mm_core::{
    Column, Dataset, FitContext, Frame, Holdout, Learner, Matrix, Metric, Model as _, Params as _,
    Roles, Schema, Signal, Source, Splitter as _, Step,
};
use mm_transformer::{SequenceTransformerParams, TabmParams};

/// Steps ahead.
const HORIZON: usize = 24;
const HOUR: i64 = 3_600_000_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let flights = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/flights/flights.csv");
    let file = arguments.next().unwrap_or_else(|| flights.to_owned());
    let value = arguments.next().unwrap_or_else(|| "temp".to_owned());
    let time = arguments.next().unwrap_or_else(|| "scheduled".to_owned());
    let roles = Roles::with_target(&value).with(|roles| {
        roles.time = Some(time);
        if file == flights {
            let weather = ["humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"];
            roles.features = Some(weather.map(str::to_owned).to_vec());
        }
    });
    let (rows, _) = Source::open(&file)?.dataset(&roles)?;
    let data = ahead(&rows, &value)?;
    println!("{data:?}");

    let last = |data: &Dataset| -> mm_core::Result<(Dataset, Dataset)> {
        let fold = Holdout::last(0.2).split(data, 0)?.remove(0);
        Ok((data.take(&fold.train), data.take(&fold.test)))
    };
    let (rest, test) = last(&data)?;
    let (train, stop) = last(&rest)?;
    let rmse = Metric::Rmse.score(test.truth(), &Matrix::zeros(test.n_rows(), 1))?;
    println!("nothing changes: rmse {rmse:.4}");

    let tabm = TabmParams::default().with(|p| (p.width, p.training.epochs) = (128, 10));
    try_out(&tabm.build()?, &train, &stop, &test)?;
    let params: SequenceTransformerParams = match arguments.next() {
        Some(json) => serde_json::from_str(&json)?,
        None => SequenceTransformerParams::default().with(|p| {
            (p.window, p.patch, p.width, p.residual_dropout) = (96, 8, 32, 0.2);
            (p.attention_dropout, p.hidden_dropout) = (0.3, 0.3);
            (p.training.epochs, p.training.batch_size, p.training.average) = (8, 128, 0.99);
            (p.training.learning_rate, p.training.weight_decay) = (3e-4, 0.01);
        }),
    };
    try_out(&params.build()?, &train, &stop, &test)
}

/// The rows with their value, hour, and weekday as features; the target is by how much the value will
/// have changed in [`HORIZON`] steps, which is known that much later. An error in the change is an
/// error in the value.
fn ahead(rows: &Dataset, value: &str) -> mm_core::Result<Dataset> {
    let times = rows.frame().times().unwrap_or_default();
    let mut order: Vec<usize> = (0..rows.n_rows()).collect();
    order.sort_by_key(|&i| times[i]);
    order.dedup_by_key(|i| times[*i]);
    let n = order.len().saturating_sub(HORIZON);
    let mut columns = rows.frame().schema().columns().to_vec();
    columns.extend([value, "hour", "weekday"].map(Column::numeric));
    let (mut values, mut target) = (Vec::new(), Vec::new());
    for (i, &row) in order[..n].iter().enumerate() {
        values.extend(rows.frame().row(row));
        let hours = times[row].div_euclid(HOUR);
        let clock = [hours.rem_euclid(24), hours.div_euclid(24).rem_euclid(7)];
        values.push(rows.target()[row] as f32);
        values.extend(clock.map(|x| x as f32));
        target.push(rows.target()[order[i + HORIZON]] - rows.target()[row]);
    }
    let frame = Frame::with_schema(values, Schema::new(columns)?)?;
    let frame = frame.with_times(order[..n].iter().map(|&row| times[row]).collect())?;
    let known = (0..n).map(|i| times[order[i + HORIZON]]).collect();
    Dataset::regression(frame, target)?.with_label_times(known)
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
    let model = learner.fit(train, &ctx.with_validation(stop).with_observer(&progress))?;
    let predicted = model.predict(test.frame())?;
    println!("  rmse {:.4}", Metric::Rmse.score(test.truth(), &predicted)?);
    Ok(())
}
