//! How does one train a CatBoost model on a table with categories, without CatBoost, and hand it to
//! those who have it?
//!
//! ```text
//! cargo run --no-default-features --example train_catboost -- late.cbm
//! ```
//!
//! Flights out of New York in 2013 (`data/flights`): will they arrive at least 15 minutes late? The
//! last fifth, in time, is held out. The file opens in Python:
//!
//! ```text
//! CatBoostClassifier().load_model("late.cbm").predict_proba(frame)
//! ```

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{env, error::Error, fs};

use mm::{
    core::{EarlyStopping, Importance as _, ImportanceKind, Metric, Roles, Source},
    prelude::*,
    trees::CatBoostParams,
};

fn main() -> Result<(), Box<dyn Error>> {
    let flights = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights/flights.csv");
    let roles = Roles::with_target("late15").with(|roles| {
        roles.time = Some("scheduled".to_owned());
        roles.ignore = vec!["arr_delay".to_owned()]; // Known too late.
    });
    let (data, report) = Source::open(flights)?.dataset(&roles)?;
    println!("{report}");

    let n = data.n_rows();
    let rows: Vec<usize> = (0..n).collect();
    let (train, held_out) = (data.take(&rows[..n * 4 / 5]), data.take(&rows[n * 4 / 5..]));
    let catboost = CatBoostParams::default()
        .with(|p| {
            p.rounds = 300;
            p.categorical.in_time = true; // A flight knows those before it.
            p.early_stopping = Some(EarlyStopping::after(30));
        })
        .build()?;
    let ctx = FitContext::seeded(0).with_threads(2).with_validation(&held_out);
    let model = catboost.fit(&train, &ctx)?;

    let predicted = model.predict(held_out.frame())?;
    let auc = Metric::ROC_AUC.score(held_out.truth(), &predicted)?;
    println!("{} trees, ROC AUC {auc:.4} on the held-out flights", model.n_trees());
    let importance = model.importance(ImportanceKind::PredictionChange)?;
    let names = data.frame().schema().columns().iter().map(|column| &column.name);
    let mut importance: Vec<_> = importance.into_iter().zip(names).collect();
    importance.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (share, name) in importance.iter().take(5) {
        println!("{share:6.1} % {name}");
    }
    if let Some(path) = env::args().nth(1) {
        fs::write(&path, model.to_cbm()?)?;
        println!("written to {path}");
    }
    Ok(())
}
