//! One side of the comparison in `docs/benchmarks.md`; the other is `bench_catboost.py` beside it.
//!
//! ```text
//! bench_catboost FILE THREADS PARAMS
//! ```
//!
//! `FILE` is a CSV with a column `y`, 0 or 1; categorical columns are those whose names start with `c_`.
//! `PARAMS` is JSON, such as `{"rounds": 500}`. Prints the seconds of the fit (wall and process CPU) and the peak of memory in MiB.

#![expect(clippy::print_stdout, reason = "a benchmark reports")]

use std::{env, error::Error, fs, time::Instant};

use mm_core::{FitContext, Learner as _, Params as _, Roles, Source};
use mm_trees::CatBoostParams;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [file, threads, params] = &arguments[..] else {
        return Err("expected FILE THREADS PARAMS".into());
    };
    let roles = Roles::with_target("y").with(|roles| {
        let header = fs::read_to_string(file).unwrap_or_default();
        let names = header.lines().next().unwrap_or_default().split(',').map(str::to_owned);
        roles.categorical = names.filter(|name| name.starts_with("c_")).collect();
    });
    let (data, _) = Source::open(file)?.dataset(&roles)?;
    let catboost = serde_json::from_str::<CatBoostParams>(params)?.build()?;
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let ctx = FitContext::seeded(0).with_threads(threads.parse()?);
    let model = catboost.fit(&data, &ctx)?;
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let raw = model.predict_raw(&data.frame().slice(0, 4))?;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|kib| kib.split_whitespace().next()?.parse::<f64>().ok());
    println!(
        "wall {wall:.2} cpu {cpu:.2} peak {:.0} trees {} raw {:?}",
        peak.unwrap_or(0.0) / 1024.0,
        model.n_trees(),
        raw.values()
    );
    Ok(())
}

/// Seconds of processor time of this process, all threads together.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // User and system time, in hundredths of a second.
    fields.get(10..12).map_or(0.0, |times| (times[0] + times[1]) / 100.0)
}
