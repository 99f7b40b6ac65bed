//! Contributions of a stored model's features, in CPU time a row: `explain.py` runs it in turn with
//! the engines' own.
//!
//!     explain MODEL ROWS.f32 N_ROWS contributions|single|interactions|background THREADS

#![expect(clippy::print_stdout, reason = "a bench talks to whoever runs it")]

use std::{env, error::Error, fs, num::NonZeroUsize, time::Instant};

use mm_core::{Frame, parallel};
use mm_trees::LightGbmModel;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).filter(|text| text != "--bench").collect();
    let [model, rows, n_rows, what, threads] = &arguments[..] else {
        return Ok(()); // `cargo bench` and `cargo test` give none.
    };
    let model = LightGbmModel::read(&fs::read(model)?)?;
    let bytes = fs::read(rows)?;
    let cells: Vec<f32> =
        bytes.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)).collect();
    let x = Frame::new(cells, model.forest().features().len())?;
    let x = x.slice(0, n_rows.parse()?);
    let started = cpu()?;
    let explainer = match &**what {
        "background" => model.forest().explainer_against(&x.slice(0, 100))?,
        _ => model.forest().explainer()?,
    };
    let prepared = cpu()? - started;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.parse::<NonZeroUsize>()?.get())
        .build()?;
    let (started, clock) = (cpu()?, Instant::now());
    let check = pool.install(|| -> mm_core::Result<f64> {
        Ok(match &**what {
            "single" => {
                let row = |i| explainer.contributions(&x.slice(i, 1)).map(|row| row.values()[0]);
                (0..x.n_rows()).map(row).sum::<mm_core::Result<f64>>()?
            }
            "interactions" => explainer.interactions(&x)?.values().iter().sum(),
            _ => explainer.contributions(&x)?.values().iter().sum(),
        })
    })?;
    let (used, wall) = (cpu()? - started, clock.elapsed());
    let a_row = |seconds: f64| seconds * 1e6 / x.n_rows() as f64;
    let (used, wall) = (a_row(used), a_row(wall.as_secs_f64()));
    println!(
        "{{\"cpu_us_a_row\": {used:.3}, \"wall_us_a_row\": {wall:.3}, \"prepare_s\": {prepared:.4}, \"sum\": {check}}}"
    );
    let _ = parallel::with_threads(NonZeroUsize::MIN, || ());
    Ok(())
}

/// Seconds that all threads of this process have computed.
fn cpu() -> Result<f64, Box<dyn Error>> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(sum as f64 / 1e9)
}
