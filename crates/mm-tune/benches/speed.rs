//! CPU time and quality of the samplers: `cargo bench -p mm-tune`. The peer's side stands in
//! `crates/bench-compare/python/tune.py`.

#![expect(clippy::print_stdout, reason = "a benchmark reports")]

use std::f64::consts::PI;

use mm_core::{Direction, FloatRange, IntRange, Result, Suggest};
use mm_tune::{Outcome, Study, TpeSampler, Trial};

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

fn main() -> Result<()> {
    let study = |seed| {
        Study::in_memory(Direction::Minimize).with_sampler(TpeSampler::default()).with_seed(seed)
    };
    for n in [100, 1000, 10_000] {
        let study = study(0);
        let wrap = |t: &mut Trial| mixed10(t).map(Outcome::from);
        study.optimize(n - n / 10, wrap)?;
        let start = cpu_ms();
        study.optimize(n / 10, wrap)?;
        println!("tpe memory n={n}: {:.3} CPU ms a trial", (cpu_ms() - start) / (n / 10) as f64);
    }
    let objectives: [(&str, Objective); 3] =
        [("branin", branin), ("hartmann6", hartmann6), ("mixed10", mixed10)];
    for (name, objective) in objectives {
        let mut bests = Vec::new();
        for seed in 0..20 {
            let study = study(seed);
            study.optimize(200, |t| objective(t).map(Outcome::from))?;
            bests.push(study.best()?.map_or(f64::NAN, |best| best.values[0]));
        }
        bests.sort_by(f64::total_cmp);
        let (low, mid, high) = (bests[5], bests[10], bests[15]);
        println!("tpe {name}: median {mid:.4} [{low:.4}, {high:.4}] of 20 seeds");
    }
    Ok(())
}

/// CPU time of this thread so far, in ms; from `/proc`, so Linux only.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).map_or(f64::NAN, |ns| ns / 1e6)
}
