//! One measured run of `mm`, to be set beside the same run of a Python peer.
//!
//! ```text
//! bench-compare export DATA.csv TARGET FOLDER [IGNORED …]     the table as raw numbers, for both sides
//! bench-compare fit ENGINE FOLDER ROUNDS THREADS              train on them
//! bench-compare csv ENGINE DATA.csv TARGET ROUNDS THREADS [IGNORED …]   from CSV on disk to fitted model
//! bench-compare plan FOLDER ROUNDS THREADS                    2 engines × 5 folds
//! bench-compare gains DATA.csv TARGET TEST [IGNORED …]        test losses of ensembles beside their members'
//! ```
//!
//! Each prints one line of JSON: seconds of the phases, memory before and at the peak in KiB, and
//! where predictions were written as f64. `python/peer.py` prints the same for the peers, and
//! `python/compare.py` runs both in turn and prints the table of `docs/benchmarks.md`.

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

mod gains;

use std::{env, error::Error, fs, num::NonZeroUsize, path::Path, time::Instant};

use mm::{
    core::{
        BoxLearner, Candidate, Column, Dataset, FitContext, Frame, Levels, Metric, Model as _,
        Orchestrator, Params as _, Plan, Roles, Schema, Source, SplitPlan, Task,
    },
    trees::{LightGbmParams, XgBoostParams},
};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let line = match words[..] {
        ["export", csv, target, folder, ref ignored @ ..] => export(csv, target, folder, ignored)?,
        ["fit", engine, folder, rounds, threads] => {
            fit(engine, folder, rounds.parse()?, threads.parse()?)?
        }
        ["csv", engine, csv, target, rounds, threads, ref ignored @ ..] => {
            from_csv(engine, csv, target, rounds.parse()?, threads.parse()?, ignored)?
        }
        ["plan", folder, rounds, threads] => plan(folder, rounds.parse()?, threads.parse()?)?,
        ["gains", csv, target, test, ref ignored @ ..] => gains::gains(csv, target, test, ignored)?,
        _ => return Err("see the header of this program for its arguments".into()),
    };
    println!("{line}");
    Ok(())
}

/// Writes `x.f32` (row-major), `y.f32`, and `meta.json`.
fn export(csv: &str, target: &str, folder: &str, ignored: &[&str]) -> Result<Value> {
    let (data, _) = Source::open(csv)?.dataset(&roles(target, ignored))?;
    let folder = Path::new(folder);
    fs::create_dir_all(folder)?;
    let bytes: Vec<u8> = data.frame().values().iter().flat_map(|x| x.to_le_bytes()).collect();
    fs::write(folder.join("x.f32"), bytes)?;
    let bytes: Vec<u8> = data.target().iter().flat_map(|&y| (y as f32).to_le_bytes()).collect();
    fs::write(folder.join("y.f32"), bytes)?;
    let levels: Vec<usize> = (data.frame().schema().columns().iter())
        .map(|column| column.levels().map_or(0, Levels::len))
        .collect();
    let meta = json!({
        "rows": data.n_rows(), "columns": data.frame().n_cols(),
        "levels": levels, "classes": data.task().n_classes(),
    });
    fs::write(folder.join("meta.json"), meta.to_string())?;
    Ok(meta)
}

fn roles(target: &str, ignored: &[&str]) -> Roles {
    Roles::with_target(target)
        .with(|r| r.ignore = ignored.iter().map(ToString::to_string).collect())
}

fn load(folder: &str) -> Result<Dataset> {
    let folder = Path::new(folder);
    let meta: Value = serde_json::from_slice(&fs::read(folder.join("meta.json"))?)?;
    let floats = |name: &str| -> Result<Vec<f32>> {
        let bytes = fs::read(folder.join(name))?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)).collect())
    };
    let levels = meta["levels"].as_array().ok_or("meta.json has no levels")?;
    let columns = levels.iter().enumerate().map(|(j, n)| {
        let name = format!("f{j}");
        match n.as_u64() {
            None | Some(0) => Ok(Column::numeric(name)),
            Some(n) => {
                Levels::new((0..n).map(|k| format!("{k:08}"))).map(|l| Column::categorical(name, l))
            }
        }
    });
    let schema = Schema::new(columns.collect::<std::result::Result<Vec<_>, _>>()?)?;
    let task = match meta["classes"].as_u64() {
        None | Some(0) => Task::Regression,
        Some(n) => Task::classes((0..n).map(|k| format!("{k:08}")))?,
    };
    let frame = Frame::with_schema(floats("x.f32")?, schema)?;
    Ok(Dataset::new(frame, task, floats("y.f32")?.into_iter().map(f64::from).collect())?)
}

/// The engine at its defaults but for rounds, with LightGBM's column-wise histograms on both sides.
fn learner(engine: &str, rounds: usize) -> Result<BoxLearner> {
    Ok(match engine {
        "lightgbm" => Box::new(LightGbmParams::default().with(|p| p.rounds = rounds).build()?),
        "xgboost" => Box::new(XgBoostParams::default().with(|p| p.rounds = rounds).build()?),
        _ => return Err("engines are lightgbm and xgboost".into()),
    })
}

fn fit(engine: &str, folder: &str, rounds: usize, threads: usize) -> Result<Value> {
    let data = load(folder)?;
    let learner = learner(engine, rounds)?;
    let before = memory("VmRSS:")?;
    let started = Instant::now();
    let model = learner.fit_boxed(&data, &FitContext::seeded(0).with_threads(threads))?;
    let fit_seconds = started.elapsed().as_secs_f64();
    let peak = memory("VmHWM:")?;
    let started = Instant::now();
    let predicted = model.predict(data.frame())?;
    let predict_seconds = started.elapsed().as_secs_f64();
    let path = Path::new(folder).join(format!("mm-{engine}.f64"));
    let bytes: Vec<u8> = predicted.values().iter().flat_map(|y| y.to_le_bytes()).collect();
    fs::write(&path, bytes)?;
    Ok(json!({
        "fit": fit_seconds, "predict": predict_seconds, "before_kib": before, "peak_kib": peak,
        "predictions": path,
    }))
}

fn from_csv(
    engine: &str,
    csv: &str,
    target: &str,
    rounds: usize,
    threads: usize,
    ignored: &[&str],
) -> Result<Value> {
    let learner = learner(engine, rounds)?;
    let started = Instant::now();
    let source = Source::open(csv)?.with_threads(NonZeroUsize::new(threads).ok_or("0 threads")?);
    let (data, _) = source.dataset(&roles(target, ignored))?;
    let read = started.elapsed().as_secs_f64();
    let model = learner.fit_boxed(&data, &FitContext::seeded(0).with_threads(threads))?;
    let total = started.elapsed().as_secs_f64();
    let bytes = model.to_envelope()?.as_bytes().len();
    Ok(json!({ "read": read, "total": total, "peak_kib": memory("VmHWM:")?, "bytes": bytes }))
}

/// The work of scikit-learn's `cross_val_predict` for each of two engines, and the scores.
fn plan(folder: &str, rounds: usize, threads: usize) -> Result<Value> {
    let data = load(folder)?;
    let split: SplitPlan =
        serde_json::from_value(json!({ "kind": "k_fold", "folds": 5, "shuffle": false }))?;
    let lightgbm = LightGbmParams::default().with(|p| p.rounds = rounds);
    let xgboost = XgBoostParams::default().with(|p| p.rounds = rounds);
    let plan =
        Plan::new([Candidate::new("lightgbm", &lightgbm), Candidate::new("xgboost", &xgboost)])
            .with(|plan| {
                plan.split = Some(split);
                plan.metric = Some(Metric::default_for(data.task()));
                plan.budget.threads = Some(threads);
                plan.refit = false;
            });
    let catalog = mm::catalog();
    let started = Instant::now();
    let outcome = Orchestrator::new(&catalog).run_on(&plan, &data)?;
    let total = started.elapsed().as_secs_f64();
    let scores: Vec<_> = (outcome.leaderboard.entries.iter())
        .map(|entry| json!({ "name": entry.name, "score": entry.score.as_ref().map(|s| s.mean) }))
        .collect();
    Ok(json!({ "total": total, "peak_kib": memory("VmHWM:")?, "scores": scores }))
}

/// A line of `/proc/self/status`, in KiB.
fn memory(key: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)).ok_or("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
