//! How does a service blend a model of the month with one of the day? Members have names; one is
//! replaced while the others stay, the weights follow recent rows, and the blend is one file.
//!
//!     cargo run --example named_members

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{error::Error, sync::Arc};

use mm::{
    core::{Dataset, Metric, Model, Roles, Source},
    ensemble::{EnsembleModel, LinearParams, WeightsParams},
    prelude::*,
    trees::LightGbmParams,
};

fn main() -> Result<(), Box<dyn Error>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights/flights.csv");
    let roles = Roles::with_target("late15").with(|roles| {
        roles.time = Some("scheduled".to_owned());
        roles.ignore = vec!["arr_delay".to_owned()];
    });
    let (data, _) = Source::open(file)?.dataset(&roles)?;
    let n = data.n_rows();
    let rows =
        |from: usize, to: usize| data.take(&(n * from / 20..n * to / 20).collect::<Vec<_>>());
    let ctx = FitContext::seeded(42).with_threads(2);

    // A thorough model of all that is long past, and a quick one of what is recent. The quick one
    // could be any model that keeps learning.
    let lightgbm = LightGbmParams::default().with(|p| (p.rounds, p.learning_rate) = (80, 0.05));
    let monthly: Arc<dyn Model> = Arc::new(lightgbm.build()?.fit(&rows(0, 12), &ctx)?);
    let quick = LinearParams::default().with(|p| p.penalty = 100.0).build()?;
    let recent =
        |to: usize| -> Result<Arc<dyn Model>> { Ok(Arc::new(quick.fit(&rows(to - 4, to), &ctx)?)) };

    let mut blend =
        EnsembleModel::blend([("monthly", monthly, 0.8), ("online", recent(12)?, 0.2)])?;
    for step in 13..20 {
        let now = rows(step, step + 1);
        print!(
            "slice {step}: weights {:.2?}, log loss {:.4}",
            blend.weights(),
            loss(&blend, &now)?
        );
        // The labels of the slice are in: fit the weights to them, then let the quick model learn.
        blend.reweigh(&now, &WeightsParams::default(), Metric::LogLoss, &ctx)?;
        blend.replace("online", recent(step + 1)?)?;
        println!();
    }

    let bytes = blend.to_envelope()?.into_bytes();
    let opened = mm::catalog().open(&bytes)?;
    let opened = opened.downcast_ref::<EnsembleModel>().ok_or("the file holds a blend")?;
    let names: Vec<&str> = opened.members().map(|(name, _)| name).collect();
    println!("{} bytes hold {names:?} under {:.2?}", bytes.len(), opened.weights());
    Ok(())
}

fn loss(model: &EnsembleModel, data: &Dataset) -> Result<f64> {
    Metric::LogLoss.score(data.truth(), &model.predict(data.frame())?)
}
