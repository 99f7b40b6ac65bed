//! What does a random split hide? The same model, judged by folds that ignore time and by folds that
//! respect it.
//!
//!     cargo run --example time_series_cv

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;

use mm::{
    core::{
        FitContext, KFold, Metric, Params as _, PurgedKFold, Roles, Score, Source, Splitter,
        TimeSeriesSplit, cross_fit,
    },
    trees::LightGbmParams,
};

fn main() -> Result<(), Box<dyn Error>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights/flights.csv");
    let roles = Roles::with_target("late15").with(|roles| {
        roles.time = Some("scheduled".to_owned());
        roles.ignore = vec!["arr_delay".to_owned()];
    });
    let (data, _) = Source::open(file)?.dataset(&roles)?;
    // Whether a flight was late is known a day after it was due: what overlaps a test is purged.
    let day = 24 * 3600 * 1_000_000_000;
    let known = data.frame().times().unwrap_or_default().iter().map(|time| time + day).collect();
    let data = data.with_label_times(known)?;
    let learner = LightGbmParams::default().with(|p| p.rounds = 100).build()?;
    let ctx = FitContext::seeded(1).with_threads(2);

    let splitters: [(&str, Box<dyn Splitter>); 3] = [
        ("k-fold, shuffled: sees the future", Box::new(KFold::new(5))),
        ("purged k-fold, 1 day embargo", Box::new(PurgedKFold::new(5).with_embargo("1d".parse()?))),
        ("walk forward: as in service", Box::new(TimeSeriesSplit::new(5))),
    ];
    for (name, splitter) in splitters {
        let folds = splitter.split(&data, ctx.seed)?;
        let (rows, predicted) = cross_fit(&learner, &data, &folds, &ctx)?.out_of_fold.into_parts();
        let all = Metric::ROC_AUC.score(data.take(&rows).truth(), &predicted)?;
        let score = |fold: &mm::core::Fold| {
            let seen: Vec<usize> =
                fold.test.iter().filter_map(|r| rows.binary_search(r).ok()).collect();
            Metric::ROC_AUC.score(data.take(&fold.test).truth(), &predicted.take(&seen))
        };
        let score = Score::of(folds.iter().map(score).collect::<Result<_, _>>()?);
        println!(
            "{name:<36} ROC-AUC {score} over {} folds; {all:.4} over {} rows",
            folds.len(),
            rows.len()
        );
    }
    Ok(())
}
