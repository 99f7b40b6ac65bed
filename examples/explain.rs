//! Why did the model say so? What matters to it in all, and what moved single predictions.
//!
//!     cargo run --example explain
//!     cargo run --example explain -- model.txt
//!
//! Flights out of New York in 2013 (`data/flights`), will they arrive at least 15 minutes late?
//! Without an argument LightGBM is trained on the first four fifths of the year; with one, a model of
//! the same columns is opened: LightGBM's text (`.txt`), XGBoost's JSON or UBJSON (`.json`, `.ubj`),
//! CatBoost's `.cbm`, or a model that this library stored.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{env, error::Error, fs};

use mm::{
    core::{
        BoxModel, Column, Dataset, FitContext, ImportanceKind, Learner as _, Model as _,
        Permutation, Roles, Source,
    },
    trees::{CatBoostModel, LightGbmModel, XgBoostModel},
};

fn main() -> Result<(), Box<dyn Error>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights/flights.csv");
    let roles = Roles::with_target("late15").with(|roles| {
        roles.time = Some("scheduled".to_owned());
        roles.ignore = vec!["arr_delay".to_owned()]; // Known too late.
    });
    let (data, _) = Source::open(file)?.dataset(&roles)?;
    let early: Vec<usize> = (0..data.n_rows() * 4 / 5).collect();
    let late: Vec<usize> = (early.len()..data.n_rows()).collect();
    let (past, future) = (data.take(&early), data.take(&late));
    let model = match env::args().nth(1) {
        Some(path) => open(&path, &data)?,
        None => train(&past)?,
    };
    let columns = model.signature().schema.columns();

    // What it learnt from, on the data of the fit: large for columns of many levels.
    if let Some(gains) = model.as_importance().and_then(|i| i.importance(ImportanceKind::Gain).ok())
    {
        println!("gain of the splits, in per cent of all:");
        let total: f64 = gains.iter().sum();
        show(columns, &gains.iter().map(|gain| 100.0 * gain / total).collect::<Vec<_>>());
    }

    // What it owes to each column on rows that it has not seen. The weather comes as a whole.
    let weather = ["temp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure"];
    let permutation = Permutation::default().with_group("weather", weather);
    println!("\n{}", permutation.of(&model, &future)?);

    // What moved single predictions: contributions add up to the score.
    let Some(explains) = model.as_explains() else {
        println!("this model does not explain its predictions");
        return Ok(());
    };
    let parts = explains.contributions(future.frame())?;
    println!("mean of the absolute contributions ({:?}):", explains.scale());
    show(columns, parts.mean_absolute().row(0));

    let predicted = model.predict(future.frame())?;
    let (mut least, mut most) = (0, 0);
    for i in 0..future.n_rows() {
        least = if predicted.row(i)[0] < predicted.row(least)[0] { i } else { least };
        most = if predicted.row(most)[0] < predicted.row(i)[0] { i } else { most };
    }
    let row_as_fitted = model.signature().admit(future.frame())?;
    for i in [least, most] {
        println!(
            "\nflight {i}: predicted {:.3}, target {}",
            predicted.row(i)[0],
            future.target()[i]
        );
        println!("  {:<28} {:+.3}", "base", parts.base(i, 0));
        for (j, share) in parts.largest(i, 0, 6) {
            let cell = cell(&columns[j], row_as_fitted.row(i)[j]);
            println!("  {:<28} {share:+.3}", format!("{} = {cell}", columns[j].name));
        }
        println!("  {:<28} {:+.3}", "all together", parts.scores().row(i)[0]);
    }
    Ok(())
}

fn train(data: &Dataset) -> Result<BoxModel, Box<dyn Error>> {
    let params =
        serde_json::json!({ "rounds": 150, "learning_rate": 0.04, "tree": { "leaves": 15 } });
    let learner = mm::catalog().learner("lightgbm", params)?;
    Ok(learner.fit(data, &FitContext::seeded(42).with_threads(2))?)
}

fn open(path: &str, data: &Dataset) -> Result<BoxModel, Box<dyn Error>> {
    let bytes = fs::read(path)?;
    Ok(match path.rsplit('.').next() {
        Some("txt") => Box::new(LightGbmModel::read(&bytes)?),
        Some("json" | "ubj") => Box::new(XgBoostModel::read(&bytes)?),
        // Its files know levels by hash only; the names are in the data.
        Some("cbm") => Box::new(CatBoostModel::read(&bytes, Some(data.frame().schema().clone()))?),
        _ => mm::catalog().open(&bytes)?,
    })
}

/// The six largest numbers, with their columns.
fn show(columns: &[Column], numbers: &[f64]) {
    let mut ranked: Vec<_> = columns.iter().zip(numbers).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(a.1));
    for (column, number) in ranked.into_iter().take(6) {
        println!("  {:<12} {number:>8.3}", column.name);
    }
}

/// A cell as people read it.
fn cell(column: &Column, x: f32) -> String {
    match column.levels() {
        _ if x.is_nan() => "missing".to_owned(),
        None => x.to_string(),
        Some(levels) if 0.0 <= x => levels.name(x as u32).unwrap_or_default().to_owned(),
        Some(_) => "never seen".to_owned(),
    }
}
