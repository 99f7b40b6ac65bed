//! How do a batch model and an online model work together? LightGBM is fitted once, a bank of linear
//! models keeps learning, and a blend learns row by row whom to believe.
//!
//!     cargo run --example blend_batch_and_online
//!     cargo run --example blend_batch_and_online -- my.csv label 10000 50
//!
//! Without arguments: flights out of New York in 2013, in order of schedule. The first third is what
//! LightGBM is fitted to; then each flight is predicted, and its label comes 50 flights later. Other data
//! are named with their target, the number of first rows, and how many rows labels are late.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{collections::VecDeque, env, error::Error};

use mm::{
    core::{
        BoxModel, Dataset, FitContext, Late, Learner as _, OnlineModel, Params as _, Roles, Sample,
        Source, TaskKind,
    },
    online::{BankParams, Blend, BlendParams, Frozen, Progress, ProgressParams},
    trees::LightGbmParams,
};

fn main() -> Result<(), Box<dyn Error>> {
    let (data, first, delay) = data()?;
    let (schema, task) = (data.frame().schema(), data.task());

    let past: Vec<usize> = (0..first).collect();
    let lightgbm = LightGbmParams::default().with(|p| p.rounds = 100).build()?;
    let batch: BoxModel = Box::new(lightgbm.fit(&data.take(&past), &FitContext::seeded(1))?);
    let batch: Box<dyn OnlineModel> = Box::new(Frozen::new(batch));
    let bank = BankParams::default().build()?;
    let online: Box<dyn OnlineModel> =
        Box::new(bank.fit(&data.take(&past), &FitContext::seeded(1))?);

    let blend = |params| Blend::new([("batch", batch.fork()), ("online", online.fork())], params);
    let fixed = BlendParams::fixed([("batch", 0.8), ("online", 0.2)]);
    let models: [(&str, Box<dyn OnlineModel>); 4] = [
        ("batch alone", batch.fork()),
        ("online alone", online.fork()),
        ("0.8 batch + 0.2 online", Box::new(blend(fixed)?)),
        ("learnt weights", Box::new(blend(BlendParams::default())?)),
    ];
    for (name, mut model) in models {
        let mut progress = Progress::new(ProgressParams::default(), task)?;
        let mut waiting = VecDeque::new();
        for i in first..data.n_rows() {
            // What the members say now is what they are judged by when the label comes.
            let (mut said, mut note) = (vec![0.0; task.outputs().len()], Vec::new());
            model.infer_noting(data.frame().row(i), &mut said, &mut note)?;
            waiting.push_back((i, said, note));
            if waiting.len() > delay
                && let Some((then, said, note)) = waiting.pop_front()
            {
                let sample = Sample::new(data.frame().row(then), data.target()[then]);
                progress.record(&said, sample.y, sample.weight)?;
                model.learn_late(&sample, Late { note: &note, delay: delay as u64 })?;
            }
        }
        let scores = progress.overall();
        print!("{name:24} log loss {:.4}", scores.log_loss.unwrap_or(f64::NAN));
        print!("  accuracy {:.4}", scores.accuracy.unwrap_or(f64::NAN));
        let model: &dyn mm::core::Model = &*model;
        if let Some(blend) = model.downcast_ref::<Blend>() {
            for (member, weight) in blend.weights() {
                print!("  {member} {weight:.2}");
            }
        }
        println!();
        if name == "learnt weights" {
            println!(
                "\nthe commonest class known would have been right {:.4} of the time, the last label {:.4}",
                scores.majority.unwrap_or(f64::NAN),
                scores.no_change.unwrap_or(f64::NAN),
            );
        }
    }
    println!("{} features, {} rows", schema.len(), data.n_rows());
    Ok(())
}

/// The stream, how many of its first rows are known from the start, and how late labels are.
fn data() -> Result<(Dataset, usize, usize), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [csv, target, first, delay] = &arguments[..] {
        let roles = Roles::with_target(target).with(|r| r.task = TaskKind::Classification);
        return Ok((Source::open(csv)?.dataset(&roles)?.0, first.parse()?, delay.parse()?));
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights/flights.csv");
    let roles = Roles::with_target("late15").with(|roles| {
        roles.time = Some("scheduled".to_owned());
        roles.ignore = ["arr_delay", "tailnum", "dest"].map(str::to_owned).to_vec();
    });
    let (data, _) = Source::open(file)?.dataset(&roles)?;
    let first = data.n_rows() / 3;
    Ok((data, first, 50))
}
