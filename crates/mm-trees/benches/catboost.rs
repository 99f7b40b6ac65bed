//! Prediction of CatBoost models on one thread; `catboost.py` beside this file measures the package on
//! the same models and rows, in turn, and prints the ratios.
//!
//! `catboost FOLDER BATCH`: predicts the rows of `FOLDER` (a model and its data, as `catboost.py` writes
//! them) BATCH at a time, for about a second, and writes to `FOLDER/result` the least nanoseconds of
//! processor time that a pass over all rows took, by row, and the sum of the scores.

use std::{env, error::Error, fs, num::NonZeroUsize};

use mm_core::{Column, Frame, Levels, Matrix, Model, Schema, parallel};
use mm_trees::CatBoostModel;

/// The system counts processor time in steps of milliseconds; so passes are timed by the window.
const WINDOW: u64 = 200_000_000;
const WINDOWS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    let [folder, batch] = &arguments[..] else { return Ok(()) }; // As `cargo test --benches` calls it.
    let batch: usize = batch.parse()?;
    let columns = fs::read(format!("{folder}/columns.json"))?;
    let columns: Vec<(String, Option<Vec<String>>)> = serde_json::from_slice(&columns)?;
    let column = |(name, levels)| match levels {
        None => Ok(Column::numeric(name)),
        Some(levels) => {
            Levels::new::<String>(levels).map(|levels| Column::categorical(name, levels))
        }
    };
    let schema = Schema::new(columns.into_iter().map(column).collect::<Result<Vec<_>, _>>()?)?;
    let bytes = fs::read(format!("{folder}/rows.f32"))?;
    let values = bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect();
    let x = Frame::with_schema(values, schema.clone())?;
    let model = CatBoostModel::read(&fs::read(format!("{folder}/model.cbm"))?, Some(schema))?;

    let measured = parallel::with_threads(NonZeroUsize::MIN, || {
        let (mut least, mut sum) = (f64::INFINITY, 0.0);
        for _ in 0..WINDOWS {
            let start = on_processor()?;
            let mut passes = 0;
            while on_processor()? - start < WINDOW {
                sum = pass(&model, &x, batch)?;
                passes += 1;
            }
            least = least.min((on_processor()? - start) as f64 / f64::from(passes));
        }
        Ok::<_, mm_core::Error>((least / x.n_rows() as f64, sum))
    });
    let (least, sum) = measured??;
    fs::write(format!("{folder}/result"), format!("{least} {sum:?}"))?;
    Ok(())
}

/// Predicts all rows; the sum of the scores.
fn pass(model: &CatBoostModel, x: &Frame, batch: usize) -> mm_core::Result<f64> {
    let n_outputs = model.signature().n_outputs();
    if batch == 1 {
        let (mut out, mut sum) = (vec![0.0; n_outputs], 0.0);
        for row in x.rows() {
            model.predict_row(row, &mut out)?;
            sum += out.iter().sum::<f64>();
        }
        return Ok(sum);
    }
    let (mut sum, mut first) = (0.0, 0);
    while first < x.n_rows() {
        let n = batch.min(x.n_rows() - first);
        let out: Matrix = model.predict_raw(&x.slice(first, n))?;
        sum += out.values().iter().sum::<f64>();
        first += n;
    }
    Ok(sum)
}

/// Nanoseconds that this thread has run, as Linux counts them.
fn on_processor() -> mm_core::Result<u64> {
    let path = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(path).map_err(mm_core::Error::io("read", path))?;
    let first = text.split(' ').next().and_then(|number| number.parse().ok());
    first.ok_or_else(|| mm_core::Error::data(path, "a number", text))
}
