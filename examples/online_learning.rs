//! Learn from a stream, a row at a time: which model suits it, is it changing, and can it be stopped
//! and taken up again?
//!
//!     cargo run --example online_learning
//!
//! The stream is 1,250 web sites, some of them built for phishing (UCI 379, Abdelhamid et al. 2014,
//! CC BY 4.0, as shipped by the River package). Each is predicted before it is learnt, so that every
//! row serves as a test: progressive validation.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use mm::{
    core::{Model, OnlineModel, Roles, Sample, Source},
    online::{Adwin, BankModel, BankParams, Change, Detector as _},
    prelude::*,
};

fn main() -> Result<()> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/mm-online/tests/fixtures/phishing.csv");
    let (data, _) = Source::open(file)?.dataset(&Roles::with_target("y"))?;
    let catalog = mm::catalog();

    println!("{:<26} {:>9} {:>9} {:>12}", "kind", "accuracy", "log loss", "memory, KiB");
    for kind in ["online_linear", "online_bank", "naive_bayes", "hoeffding_tree"]
        .into_iter()
        .chain(["adaptive_random_forest", "streaming_random_patches", "mondrian_forest"])
    {
        // A fit learns the rows that are there; the stream goes on from it.
        let learner = catalog.learner(kind, serde_json::json!({}))?;
        let first = learner.fit(&data.take(&[0, 1, 2, 3, 4, 5, 6, 7]), &FitContext::seeded(1))?;
        let mut model = first.as_online().expect("every kind of this list learns").fork();
        let (accuracy, loss) = stream(&mut *model, &data, 8..data.n_rows())?;
        println!("{kind:<26} {accuracy:>9.4} {loss:>9.4} {:>12}", model.size_bytes() / 1024);
    }

    // Stop in the middle, store the model, open it: it goes on as if nothing had happened.
    let bank = BankParams::default().build()?;
    let (schema, task) = (data.frame().schema().clone(), data.task().clone());
    let mut straight = bank.start(schema, task, 0)?;
    stream(&mut straight, &data, 0..600)?;
    let opened = catalog.open(&straight.to_envelope()?.into_bytes())?;
    let mut reopened = opened.as_online().expect("it was one").fork();
    let through = stream(&mut straight, &data, 600..data.n_rows())?;
    assert_eq!(stream(&mut *reopened, &data, 600..data.n_rows())?, through);

    let weights = straight.state().mixture();
    let names = straight.params().rates.iter().map(f64::to_string);
    println!("\nwhat the bank trusts in the end:");
    for (name, weight) in names.chain(["passive-aggressive".to_owned()]).zip(weights) {
        println!("  rate {name:<20} {weight:.3}");
    }
    let again: &dyn Model = &*reopened;
    let bank: &BankModel = again.downcast_ref().expect("it is a bank");
    assert_eq!(bank.state().mixture(), weights, "to the bit");
    Ok(())
}

/// Predicts each row, then learns it; accuracy and log loss. Says where the errors changed.
fn stream(
    model: &mut dyn OnlineModel,
    data: &Dataset,
    rows: std::ops::Range<usize>,
) -> Result<(f64, f64)> {
    let (mut hits, mut loss, n) = (0.0, 0.0, rows.len() as f64);
    let mut errors = Adwin::default();
    let mut p = [0.0];
    for i in rows {
        let (x, y) = (data.frame().row(i), data.target()[i]);
        model.predict_row(x, &mut p)?;
        let is_right = (0.5 < p[0]) == (y == 1.0);
        hits += f64::from(is_right);
        loss -= (if y == 1.0 { p[0] } else { 1.0 - p[0] }).max(1e-15).ln();
        if errors.update(f64::from(!is_right)) == Change::Drift {
            println!("  row {i}: the error rate changed; of late it is {:.3}", errors.mean());
        }
        model.learn_one(&Sample::new(x, y))?;
    }
    Ok((hits / n, loss / n))
}
