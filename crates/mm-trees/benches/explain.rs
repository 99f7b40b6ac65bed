//! Contributions of a stored model's features, in CPU time a row: `explain.py` runs it in turn with
//! the engines' own.
//!
//!     explain MODEL ROWS.f32 N_ROWS contributions|single|interactions|background THREADS
//!
//! `MODEL` ends with `.txt` (LightGBM), `.json` (XGBoost), or `.cbm` (CatBoost).

#![expect(clippy::print_stdout, reason = "a bench talks to whoever runs it")]

use std::{env, error::Error, fs, time::Instant};

use mm_core::{Frame, Model as _};
use mm_trees::{CatBoostModel, LightGbmModel, XgBoostModel, forest::Explainer};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).filter(|text| text != "--bench").collect();
    let [model, rows, n_rows, what, threads] = &arguments[..] else {
        return Ok(()); // `cargo bench` and `cargo test` give none.
    };
    let cells: Vec<f32> =
        fs::read(rows)?.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)).collect();
    let (started, clock) = (cpu()?, Instant::now());
    let against = what == "background";
    let (x, explainer) = prepare(model, cells, n_rows.parse()?, against)?;
    let (prepared, _) = (cpu()? - started, clock.elapsed());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build()?;
    let (started, clock) = (cpu()?, Instant::now());
    let check: mm_core::Result<f64> = pool.install(|| match &**what {
        "single" => {
            let row = |i| explainer.contributions(&x.slice(i, 1)).map(|row| row.values()[0]);
            (0..x.n_rows()).map(row).sum()
        }
        "interactions" => explainer.interactions(&x).map(|all| all.values()[0]),
        _ => explainer.contributions(&x).map(|all| all.values()[0]),
    });
    let a_row = |seconds: f64| seconds * 1e6 / x.n_rows() as f64;
    let (used, wall) = (a_row(cpu()? - started), a_row(clock.elapsed().as_secs_f64()));
    let check = check?;
    println!(
        "{{\"cpu\": {used:.3}, \"wall\": {wall:.3}, \"prepare\": {prepared:.4}, \"check\": {check}}}"
    );
    Ok(())
}

/// The first rows of the frame, and the explainer, made against the first hundred if asked.
fn prepare(
    path: &str,
    cells: Vec<f32>,
    n_rows: usize,
    against: bool,
) -> Result<(Frame, Explainer), Box<dyn Error>> {
    let bytes = fs::read(path)?;
    macro_rules! explainer {
        ($model:expr) => {{
            let model = $model?;
            let x = Frame::with_schema(cells, model.signature().schema.clone())?;
            let explainer = if against {
                model.explainer_against(&x.slice(0, 100))?
            } else {
                model.explainer()?.clone()
            };
            (x.slice(0, n_rows), explainer)
        }};
    }
    Ok(match path.rsplit('.').next() {
        Some("txt") => explainer!(LightGbmModel::read(&bytes)),
        Some("cbm") => explainer!(CatBoostModel::read(&bytes, None)),
        _ => explainer!(XgBoostModel::read(&bytes)),
    })
}

/// Seconds that all threads of this process have computed.
fn cpu() -> Result<f64, Box<dyn Error>> {
    let mut nanoseconds = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}
