//! A batch model, an online model, and their blends on a stream: how good, row by row.
//!
//! ```text
//! blend DATA.csv TARGET FIRST DELAY
//! ```
//!
//! LightGBM is fitted to the first `FIRST` rows and frozen; the online model learns from the first
//! row on. The rows after `FIRST` are predicted in order, each label coming after `DELAY` further
//! predictions. One line a model: accuracy, area under the ROC curve, log loss, and the weights at
//! the end.

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::{collections::VecDeque, env, error::Error};

use mm::{
    core::{
        Dataset, FitContext, Late, Learner as _, Matrix, Metric, OnlineModel, Params as _, Roles,
        Sample, Source, TaskKind,
    },
    online::{
        BankParams, Blend, BlendParams, Calibrated, CalibrationParams, Frozen, LinearParams,
        Optimizer,
    },
    trees::LightGbmParams,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [csv, target, first, delay] = &arguments[..] else {
        return Err("expected DATA.csv TARGET FIRST DELAY".into());
    };
    let (first, delay) = (first.parse()?, delay.parse()?);
    let roles = Roles::with_target(target).with(|r| r.task = TaskKind::Classification);
    let (data, _) = Source::open(csv)?.dataset(&roles)?;
    let seen: Vec<usize> = (0..first).collect();

    let lightgbm = LightGbmParams::default().with(|p| p.rounds = 100).build()?;
    let batch = lightgbm.fit(&data.take(&seen), &FitContext::seeded(0))?;
    let batch: Box<dyn OnlineModel> = Box::new(Frozen::new(Box::new(batch) as mm::core::BoxModel));
    let sgd =
        LinearParams::default().with(|p| p.optimizer = Optimizer::Sgd { rate: 0.1 }).build()?;
    let (schema, task) = (data.frame().schema(), data.task());
    let linear = sgd.start(schema.clone(), task.clone(), 0)?;
    let bank = BankParams::default().build()?.start(schema.clone(), task.clone(), 0)?;
    let linear: Box<dyn OnlineModel> = Box::new(linear);
    let bank: Box<dyn OnlineModel> = Box::new(bank);

    let pair = |online: &dyn OnlineModel, params| {
        Blend::new([("batch", batch.fork()), ("online", online.fork())], params)
    };
    let fixed = || BlendParams::fixed([("batch", 0.8), ("online", 0.2)]);
    let learnt = BlendParams::default;
    // Members that learn do so from the first row; a blend's weights only from `first` on.
    let warm = |model: &dyn OnlineModel| -> Result<Box<dyn OnlineModel>> {
        let mut model = model.fork();
        stream(&mut *model, &data, 0..first, delay)?;
        Ok(model)
    };
    let (linear, bank) = (warm(&*linear)?, warm(&*bank)?);
    let models: [(&str, Box<dyn OnlineModel>); 8] = [
        ("batch only", batch.fork()),
        ("online linear only", linear.fork()),
        ("bank only", bank.fork()),
        ("fixed 0.8 batch + 0.2 linear", Box::new(pair(&*linear, fixed())?)),
        ("learned {batch, linear}", Box::new(pair(&*linear, learnt())?)),
        ("learned {batch, bank}", Box::new(pair(&*bank, learnt())?)),
        (
            "learned {batch, linear}, calibrated",
            Box::new(Calibrated::new(
                Box::new(pair(&*linear, learnt())?),
                CalibrationParams::default(),
            )?),
        ),
        (
            "batch, calibrated",
            Box::new(Calibrated::new(batch.fork(), CalibrationParams::default())?),
        ),
    ];
    println!("{csv}, rows {first} to {}, labels {delay} rows late", data.n_rows());
    for (name, mut model) in models {
        let said = stream(&mut *model, &data, first..data.n_rows(), delay)?;
        let rows: Vec<usize> = (first..data.n_rows()).collect();
        let held_out = data.take(&rows);
        let said = Matrix::new(said, 1)?;
        let score = |metric: Metric| metric.score(held_out.truth(), &said);
        let model: &dyn mm::core::Model = &*model;
        let weights = model.downcast_ref::<Blend>().map(|blend| {
            let of = |(name, weight): (&str, f64)| format!("{name} {weight:.2}");
            blend.weights().map(of).collect::<Vec<_>>().join(", ")
        });
        println!(
            "  {name:38} accuracy {:.4}  AUC {:.4}  log loss {:.4}  {}",
            score(Metric::Accuracy)?,
            score(Metric::ROC_AUC)?,
            score(Metric::LogLoss)?,
            weights.unwrap_or_default(),
        );
    }
    Ok(())
}

/// Predicts rows in order and learns each once `delay` more were predicted; what was said.
fn stream(
    model: &mut dyn OnlineModel,
    data: &Dataset,
    rows: std::ops::Range<usize>,
    delay: usize,
) -> Result<Vec<f64>> {
    let mut said = Vec::with_capacity(rows.len());
    let mut waiting: VecDeque<(usize, Vec<f64>)> = VecDeque::new();
    for i in rows {
        let (mut out, mut note) = ([0.0], Vec::new());
        model.infer_noting(data.frame().row(i), &mut out, &mut note)?;
        said.push(out[0]);
        waiting.push_back((i, note));
        if waiting.len() > delay
            && let Some((then, note)) = waiting.pop_front()
        {
            let sample = Sample::new(data.frame().row(then), data.target()[then]);
            model.learn_late(&sample, Late { note: &note, delay: delay as u64 })?;
        }
    }
    Ok(said)
}
