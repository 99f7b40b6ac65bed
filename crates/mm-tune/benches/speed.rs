//! CPU time and quality of the samplers, beside Optuna's: `cargo bench -p mm-tune --bench speed`.
//!
//! Arguments choose a part: `cost`, `storage`, `memory`, or `quality`, and names of samplers (`tpe`, `cma`, `gp`, …).
//! `--seeds n` sets the number of studies behind a median. If `MM_TUNE_PYTHON` names a Python that has
//! Optuna, the same is done there (`crates/bench-compare/python/tune.py`) and printed beside.

#![expect(clippy::print_stdout, reason = "a benchmark reports")]

use std::{f64::consts::PI, path::Path, process::Command, sync::Arc, time::Instant};

use mm_core::{Direction, Error, FloatRange, IntRange, Result, Suggest};
use mm_tune::{
    AutoSampler, CmaSampler, GpSampler, JournalStorage, NsgaSampler, Outcome, QmcSampler,
    RandomSampler, Storage, Study, TpeParams, TpeSampler, Trial,
};

fn branin(t: &mut Trial) -> Result<f64> {
    let x = t.float("x", FloatRange::new(-5.0, 10.0))?;
    let y = t.float("y", FloatRange::new(0.0, 15.0))?;
    let (b, c, r, s, u) = (5.1 / (4.0 * PI * PI), 5.0 / PI, 6.0, 10.0, 1.0 / (8.0 * PI));
    Ok((y - b * x * x + c * x - r).powi(2) + s * (1.0 - u) * x.cos() + s)
}

fn hartmann6(t: &mut Trial) -> Result<f64> {
    const A: [[f64; 6]; 4] = [
        [10.0, 3.0, 17.0, 3.5, 1.7, 8.0],
        [0.05, 10.0, 17.0, 0.1, 8.0, 14.0],
        [3.0, 3.5, 1.7, 10.0, 17.0, 8.0],
        [17.0, 8.0, 0.05, 10.0, 0.1, 14.0],
    ];
    const P: [[f64; 6]; 4] = [
        [0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886],
        [0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991],
        [0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650],
        [0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381],
    ];
    let mut x = [0.0; 6];
    for (i, x) in x.iter_mut().enumerate() {
        *x = t.float(&format!("x{i}"), FloatRange::new(0.0, 1.0))?;
    }
    let hill = |k: usize| -> f64 {
        let distance: f64 = (0..6).map(|j| A[k][j] * (x[j] - P[k][j]).powi(2)).sum();
        [1.0, 1.2, 3.0, 3.2][k] * (-distance).exp()
    };
    Ok(-(0..4).map(hill).sum::<f64>())
}

/// Shaped like the tuning of a booster: ten parameters of all kinds; its minimum is 0.
fn mixed10(t: &mut Trial) -> Result<f64> {
    let rate = t.float("lr", FloatRange::log(1e-4, 1.0))?;
    let l2 = t.float("l2", FloatRange::log(1e-8, 10.0))?;
    let rows = t.float("subsample", FloatRange::new(0.3, 1.0))?;
    let columns = t.float("colsample", FloatRange::new(0.3, 1.0).step(0.05))?;
    let leaves = t.int("leaves", IntRange::log(2, 1024))? as f64;
    let depth = t.int("depth", IntRange::new(2, 16))? as f64;
    let min_child = t.int("min_child", IntRange::new(5, 200).step(5))? as f64;
    let booster = t.choose("booster", &["gbdt", "dart", "goss"])?;
    let growth = t.choose("growth", &["depthwise", "lossguide"])?;
    let bins = t.choose("max_bin", &["63", "127", "255", "511"])?;
    Ok((rate.log10() + if booster == 1 { 0.7 } else { 1.3 }).powi(2)
        + 0.1 * (l2.log10() + 2.0).powi(2)
        + 4.0 * (rows - 0.8).powi(2)
        + 3.0 * (columns - 0.65).powi(2)
        + 0.3 * (leaves.log2() - 5.0 - 0.2 * (depth - 7.0)).powi(2)
        + 0.02 * (depth - 7.0).powi(2)
        + 1e-4 * (min_child - 40.0).powi(2)
        + [0.0, 0.3, 0.15][booster]
        + [0.2, 0.0][growth]
        + [0.2, 0.05, 0.0, 0.08][bins])
}

type Objective = fn(&mut Trial) -> Result<f64>;

const OBJECTIVES: [(&str, Objective); 3] =
    [("branin", branin), ("hartmann6", hartmann6), ("mixed10", mixed10)];

/// Ours by name, and what Optuna has under it.
const SAMPLERS: [&str; 8] = ["random", "qmc", "tpe", "tpe_alone", "cma", "gp", "auto", "nsga2"];

/// Whether a proposal takes milliseconds.
fn is_slow(sampler: &str) -> bool {
    ["gp", "auto"].contains(&sampler)
}

fn study(sampler: &str, seed: u64) -> Result<Study> {
    sampled(sampler, Study::in_memory(Direction::Minimize).with_seed(seed))
}

fn sampled(sampler: &str, study: Study) -> Result<Study> {
    Ok(match sampler {
        "cma" => study.with_sampler(CmaSampler::default()),
        "gp" => study.with_sampler(GpSampler::default()),
        "auto" => study.with_sampler(AutoSampler::default()),
        "nsga2" => study.with_sampler(NsgaSampler::default()),
        "qmc" => study.with_sampler(QmcSampler::default()),
        "tpe" => study.with_sampler(TpeSampler::default()),
        "tpe_alone" => {
            let params = TpeParams { multivariate: Some(false), ..TpeParams::default() };
            study.with_sampler(params.build()?)
        }
        _ => study.with_sampler(RandomSampler),
    })
}

/// CPU ms a trial over the last tenth of `n` trials of `mixed10`, over some studies, since the clock of
/// threads is coarse.
fn cost(sampler: &str, n: usize) -> Result<f64> {
    let wrap = |t: &mut Trial| mixed10(t).map(Outcome::from);
    let begin = |seed| {
        let study = study(sampler, seed)?;
        study.optimize(n - n / 10, wrap)?;
        Ok(study)
    };
    let n_studies = if is_slow(sampler) { 1 } else { 10_000_u64.div_ceil(n as u64) };
    let studies = (0..n_studies).map(begin).collect::<Result<Vec<Study>>>()?;
    let start = cpu_ms();
    for study in &studies {
        study.optimize(n / 10, wrap)?;
    }
    Ok((cpu_ms() - start) / (studies.len() * (n / 10)) as f64)
}

/// CPU ms a trial over the second half of `n` trials of `mixed10` in a file, and the wall clock's.
fn storage_cost(kind: &str, sampler: &str, n: usize) -> Result<[f64; 2]> {
    let folder = std::env::temp_dir().join(format!("mm-tune-speed-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let storage: Arc<dyn Storage> = match kind {
        #[cfg(feature = "sqlite")]
        "sqlite" => Arc::new(mm_tune::SqliteStorage::open(folder.join("study.db"))?),
        _ => Arc::new(JournalStorage::open(folder.join("study.journal"))?),
    };
    let study = sampled(sampler, Study::open(storage, "speed", &[Direction::Minimize])?)?;
    let wrap = |t: &mut Trial| mixed10(t).map(Outcome::from);
    study.optimize(n - n / 2, wrap)?;
    let (cpu, wall) = (all_cpu_ms(), Instant::now());
    study.optimize(n / 2, wrap)?;
    let took = [all_cpu_ms() - cpu, wall.elapsed().as_secs_f64() * 1e3];
    drop(study);
    std::fs::remove_dir_all(&folder).map_err(Error::io("remove", &folder))?;
    Ok(took.map(|ms| ms / (n / 2) as f64))
}

/// Bytes a trial that the process grows by over the last four fifths of `n` trials of `mixed10`.
fn memory(sampler: &str, n: usize) -> Result<f64> {
    let study = study(sampler, 0)?;
    let wrap = |t: &mut Trial| mixed10(t).map(Outcome::from);
    study.optimize(n / 5, wrap)?;
    let before = resident();
    study.optimize(n - n / 5, wrap)?;
    Ok((resident() - before) / (n - n / 5) as f64)
}

/// The best value of each study of 200 trials, in order.
fn quality(sampler: &str, objective: Objective, seeds: u64) -> Result<Vec<f64>> {
    let best = |seed| {
        let study = study(sampler, seed)?;
        study.optimize(200, |t| objective(t).map(Outcome::from))?;
        Ok(study.best()?.map_or(f64::NAN, |best| best.values[0]))
    };
    let mut bests = (0..seeds).map(best).collect::<Result<Vec<f64>>>()?;
    bests.sort_by(f64::total_cmp);
    Ok(bests)
}

/// The numbers that Optuna's side prints for these arguments, if there is one.
fn optuna(args: &[&str]) -> Option<Vec<f64>> {
    let python = std::env::var_os("MM_TUNE_PYTHON")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench-compare/python/tune.py");
    let output = Command::new(python).arg(script).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|x| x.parse().ok()).collect();
    (!numbers.is_empty()).then_some(numbers)
}

fn summary(bests: &[f64]) -> String {
    let at = |quarter: usize| {
        let place = (bests.len() - 1) as f64 * quarter as f64 / 4.0;
        let (below, above) = (bests[place.floor() as usize], bests[place.ceil() as usize]);
        below + (above - below) * place.fract()
    };
    format!("{:.5} [{:.5}, {:.5}]", at(2), at(1), at(3))
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let flag = args.iter().position(|arg| arg == "--seeds");
    let seeds = flag.and_then(|at| args.get(at + 1)?.parse().ok()).unwrap_or(20);
    let asked = |name: &str| args.iter().any(|arg| arg == name);
    let any_part = !["cost", "storage", "memory", "quality"].into_iter().any(asked);
    let samplers: Vec<&str> = SAMPLERS.into_iter().filter(|name| asked(name)).collect();
    let samplers = if samplers.is_empty() { SAMPLERS.to_vec() } else { samplers };

    if any_part || asked("cost") {
        for &sampler in &samplers {
            let slow = is_slow(sampler);
            for n in if slow { [100, 200, 500] } else { [100, 1000, 10_000] } {
                // The best of three, turn by turn: other work on the machine only adds.
                let (mut ours, mut theirs) = (f64::INFINITY, f64::INFINITY);
                for _ in 0..if slow || n == 10_000 { 1 } else { 3 } {
                    ours = ours.min(cost(sampler, n)?);
                    if n <= 1000 {
                        let n = n.to_string();
                        let told = optuna(&["cost", sampler, &n]);
                        theirs = theirs.min(told.map_or(f64::INFINITY, |told| told[0]));
                    }
                }
                print!("cost {sampler} n={n}: {ours:.3} CPU ms a trial");
                if theirs.is_finite() {
                    print!("; Optuna {theirs:.3}, {:.1} times that", theirs / ours);
                }
                println!();
            }
        }
    }
    if any_part || asked("storage") {
        let kinds =
            if cfg!(feature = "sqlite") { &["sqlite", "journal"][..] } else { &["journal"] };
        for kind in kinds {
            for sampler in ["random", "tpe"] {
                let least = |a: [f64; 2], b: &[f64]| [a[0].min(b[0]), a[1].min(b[1])];
                let (mut ours, mut theirs) = ([f64::INFINITY; 2], [f64::INFINITY; 2]);
                for _ in 0..2 {
                    ours = least(ours, &storage_cost(kind, sampler, 80)?);
                    if let Some(told) = optuna(&["storage", sampler, kind, "80"]) {
                        theirs = least(theirs, &told);
                    }
                }
                print!("storage {kind} {sampler} n=80: {:.3} CPU ms, {:.3} ms", ours[0], ours[1]);
                if theirs[0].is_finite() {
                    let [cpu, wall] = [0, 1].map(|i| theirs[i] / ours[i]);
                    print!(
                        "; Optuna {:.3}, {:.3}: {cpu:.0}, {wall:.0} times",
                        theirs[0], theirs[1]
                    );
                }
                println!();
            }
        }
    }
    if any_part || asked("memory") {
        // Beyond some thousand trials the processes would take minutes.
        let light = samplers.iter().filter(|name| !is_slow(name));
        for &sampler in light {
            println!("memory {sampler} n=10000: {:.0} bytes a trial", memory(sampler, 10_000)?);
        }
    }
    if any_part || asked("quality") {
        for (name, objective) in OBJECTIVES {
            for &sampler in &samplers {
                let ours = summary(&quality(sampler, objective, seeds)?);
                print!("quality {name} {sampler}: {ours} of {seeds} seeds");
                if let Some(theirs) = optuna(&["quality", sampler, name, &seeds.to_string()]) {
                    print!("; Optuna {}", summary(&theirs));
                }
                println!();
            }
        }
    }
    Ok(())
}

/// Bytes of memory that the process holds; Linux only.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib * 1024.0)
}

/// CPU time of this thread so far, in ms; from `/proc`, so Linux only.
fn cpu_ms() -> f64 {
    cpu_ms_of(Path::new("/proc/thread-self"))
}

/// CPU time of all threads so far, in ms.
fn all_cpu_ms() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.map(|task| cpu_ms_of(&task.path())).sum()
}

fn cpu_ms_of(task: &Path) -> f64 {
    let stat = std::fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).map_or(f64::NAN, |ns| ns / 1e6)
}
