//! Tests across crates: the whole journey on real data, ensembles of real engines, search spaces,
//! tuning, old files.

mod ensemble;
mod golden;
mod journey;
mod spaces;
mod tuning;

use mm::core::{Dataset, Roles, Source};

/// The shipped flights, every `step`-th of them, in time order.
fn flights(step: usize) -> Dataset {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights/flights.csv");
    let roles = Roles::with_target("late15").with(|roles| {
        roles.time = Some("scheduled".to_owned());
        roles.ignore = vec!["arr_delay".to_owned()];
    });
    let (data, _) = Source::csv(file).dataset(&roles).expect("the shipped file is whole");
    let rows: Vec<usize> = (0..data.n_rows()).step_by(step).collect();
    data.take(&rows)
}
