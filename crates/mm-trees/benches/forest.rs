//! How long a model that any engine trained takes to predict.
//!
//! ```text
//! cargo bench -p mm-trees --no-default-features --bench forest -- MODEL ROWS.f32 [OUT.f64]
//! ```
//!
//! `MODEL` is a file of LightGBM (`.txt`), XGBoost (`.json`, `.ubj`), or CatBoost (`.cbm`), over
//! numeric features alone; `ROWS.f32` holds rows of little-endian `f32`. Prints one line of JSON:
//! microseconds of processor time a row, in a batch, in batches of 64, and one by one; of wall time
//! with two threads; and the bytes of the file and of what predicts. Predictions go to `OUT.f64`.
//! `crates/bench-compare/python/forest.py` makes the models, measures their own engines and others,
//! and sets both side by side.

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::{env, error::Error, fs, num::NonZeroUsize, path::Path, time::Instant};

use mm_core::{Frame, Model, parallel};
use mm_trees::{CatBoostModel, Forest, LightGbmModel, XgBoostModel};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    // Cargo adds arguments of its own.
    let arguments: Vec<String> = env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let (path, rows, out) = match arguments.as_slice() {
        [path, rows] => (path, rows, None),
        [path, rows, out] => (path, rows, Some(out)),
        _ => {
            println!("nothing measured: give MODEL ROWS.f32 [OUT.f64]");
            return Ok(());
        }
    };
    let bytes = fs::read(path)?;
    let started = Instant::now();
    let (model, forest): (Box<dyn Model>, Forest) = match Path::new(path).extension() {
        Some(kind) if kind == "txt" => {
            let model = LightGbmModel::read(&bytes)?;
            let forest = model.forest().clone();
            (Box::new(model), forest)
        }
        Some(kind) if kind == "cbm" => {
            let model = CatBoostModel::read(&bytes, None)?;
            let forest = model.forest().clone();
            (Box::new(model), forest)
        }
        _ => {
            let model = XgBoostModel::read(&bytes)?;
            let forest = model.forest().ok_or("a booster of trees")?.clone();
            (Box::new(model), forest)
        }
    };
    let open_ms = started.elapsed().as_secs_f64() * 1e3;
    let width = model.signature().schema.len();
    let values: Vec<f32> =
        (fs::read(rows)?.as_chunks().0.iter()).map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let frame = Frame::with_schema(values, model.signature().schema.clone())?;
    let (n, one) = (frame.n_rows(), NonZeroUsize::MIN);
    if let Some(out) = out {
        let predictions = model.predict(&frame)?;
        let bytes: Vec<u8> = predictions.values().iter().flat_map(|y| y.to_le_bytes()).collect();
        fs::write(out, bytes)?;
    }

    let small: Vec<Frame> = (0..n / 64).map(|i| frame.slice(64 * i, 64)).collect();
    let mut out = vec![0.0; model.signature().n_outputs()];
    let batch = parallel::with_threads(one, || {
        processor_time(|| model.predict(&frame).map(drop).expect("predicts")) / n as f64
    })?;
    let by_64 = processor_time(|| {
        for x in &small {
            model.predict(x).map(drop).expect("predicts");
        }
    });
    let single = processor_time(|| {
        for row in frame.rows() {
            model.predict_row(row, &mut out).expect("predicts");
        }
    });
    let two_threads = parallel::with_threads(NonZeroUsize::new(2).unwrap_or(one), || {
        wall_time(|| model.predict(&frame).map(drop).expect("predicts"))
    })?;
    println!(
        "{{\"trees\": {}, \"leaves\": {}, \"features\": {width}, \"open_ms\": {open_ms:.1}, \
         \"file_bytes\": {}, \"kernel_bytes\": {}, \"batch_us\": {batch:.4}, \
         \"by_64_us\": {:.4}, \"single_us\": {:.4}, \"two_threads_wall_us\": {:.4}}}",
        forest.n_trees(),
        forest.n_leaves(),
        bytes.len(),
        forest.compile().map_or(0, |kernel| kernel.memory()),
        by_64 / (64 * small.len()).max(1) as f64,
        single / n as f64,
        two_threads / n as f64,
    );
    Ok(())
}

/// The least of several repeats, in microseconds of this thread's processor time. Each repeat takes
/// half a second, since the system counts in steps of some milliseconds.
fn processor_time(mut work: impl FnMut()) -> f64 {
    work();
    let repeat = |_| {
        let (before, started, mut runs) = (processor(), Instant::now(), 0);
        while started.elapsed().as_secs_f64() < 0.5 {
            work();
            runs += 1;
        }
        (processor() - before) / f64::from(runs)
    };
    (0..5).map(repeat).fold(f64::INFINITY, f64::min)
}

/// This thread's processor time so far in microseconds; the wall's where there is no such file.
fn processor() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    nanoseconds.map_or_else(
        || std::time::UNIX_EPOCH.elapsed().map_or(0.0, |t| t.as_secs_f64() * 1e6),
        |t| t / 1e3,
    )
}

/// The least of many repeats, in microseconds of wall time.
fn wall_time(mut work: impl FnMut()) -> f64 {
    let repeat = |_| {
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64() * 1e6
    };
    (0..200).map(repeat).fold(f64::INFINITY, f64::min)
}
