//! One fit of a CatBoost model; the official package's side is `train_catboost.py` in
//! `crates/bench-compare/python`, which also makes the data.
//!
//! ```text
//! catboost_training FOLDER DATA THREADS PARAMS
//! ```
//!
//! Fits to `FOLDER/DATA.csv` and predicts `FOLDER/DATA-test.csv`. The target is the column `y`, of classes;
//! categorical are the columns whose names start with `c_`. `PARAMS` is JSON, such as
//! `{"rounds": 500}`. Prints a line of JSON: seconds of the fit by the clock and of the processor,
//! memory before and at its peak in KiB, and on the test rows the area under the curve of two classes
//! or the accuracy of more.

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::{env, error::Error, fs, time::Instant};

use mm_core::{Dataset, FitContext, Learner as _, Metric, Model as _, Params as _, Roles, Source};
use mm_trees::CatBoostParams;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    let [folder, data, threads, params] = &arguments[..] else {
        return Ok(()); // As `cargo test --benches` calls it.
    };
    let (train, test) = (read(folder, data)?, read(folder, &format!("{data}-test"))?);
    let catboost = serde_json::from_str::<CatBoostParams>(params)?.build()?;
    let ctx = FitContext::seeded(0).with_threads(threads.parse()?);

    fs::write("/proc/self/clear_refs", "5")?; // The peak so far is forgotten.
    let (before, cpu, start) = (memory("VmRSS:")?, cpu_seconds()?, Instant::now());
    let model = catboost.fit(&train, &ctx)?;
    let (fit, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    let peak = memory("VmHWM:")?;

    let predicted = model.predict(test.frame())?;
    let (name, metric) = match test.task().n_classes() {
        2 => ("auc", Metric::ROC_AUC),
        _ => ("accuracy", Metric::Accuracy),
    };
    let line = serde_json::json!({
        "fit": fit, "cpu": cpu, "before_kib": before, "peak_kib": peak,
        name: metric.score(test.truth(), &predicted)?,
        "trees": model.n_trees(),
    });
    println!("{line}");
    Ok(())
}

fn read(folder: &str, name: &str) -> Result<Dataset> {
    let path = format!("{folder}/{name}.csv");
    let header = fs::read_to_string(&path)?;
    let names = header.lines().next().unwrap_or_default().split(',').map(str::to_owned);
    let mut roles = Roles::with_target("y");
    roles.categorical = names.filter(|name| name.starts_with("c_")).collect();
    Ok(Source::open(&path)?.dataset(&roles)?.0)
}

/// A line of the process's status, in KiB.
fn memory(key: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.ok_or("no such line in the status")?.parse()?)
}

/// Seconds of processor time of this process, all threads together.
fn cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // User and system time, in hundredths of a second.
    let times = fields.skip(11).take(2).map(str::parse::<f64>);
    Ok(times.sum::<std::result::Result<f64, _>>()? / 100.0)
}
