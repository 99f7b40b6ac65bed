//! What happens when the world changes? A model in service sees that it has become worse, is fitted
//! anew from the rows that the service kept, proves itself in the shadow, and takes over; when the
//! world turns back, the former champion comes back too.
//!
//!     cargo run --example drift_and_retrain
//!
//! The stream is made here, after the likeness of an electricity market: a row each half-hour, will
//! the price rise? What moves the price changes after 6,000 rows and changes back after 12,000. Labels
//! come a day late.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{collections::VecDeque, env, error::Error, fs, sync::Arc};

use mm::{
    core::{
        Candidate, Column, Dataset, FitContext, Frame, Learner as _, Metric, Model, Orchestrator,
        Params as _, Plan, Schema,
        registry::{CHAMPION, Durability, LocalRegistry, NewVersion, Registry},
    },
    online::{Continued, Ending, Event, Floor, Frozen, Options, Service, ServiceParams, retrain},
    trees::LightGbmParams,
};

const NAME: &str = "price";
const HALF_HOUR: i64 = 1_800_000_000_000; // ns
const DELAY: usize = 48; // Rows: a day.
const FITTED: u64 = 4000;
const ROWS: u64 = 16_000;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::temp_dir().join(format!("mm-drift-{}", std::process::id()));
    let catalog = mm::catalog();
    let registry = LocalRegistry::open(folder.join("registry"))?;

    let lightgbm = LightGbmParams::default().with(|p| (p.rounds, p.learning_rate) = (60, 0.1));
    let first = lightgbm.clone().build()?.fit(&past(FITTED)?, &FitContext::seeded(1))?;
    let first: Arc<dyn Model> = Arc::new(first);
    let version = registry.publish(NAME, NewVersion::of(&*first)?)?;
    registry.promote(NAME, version.number, "example", "the first")?;

    let params = ServiceParams::default().with(|p| {
        p.progress.window = 500;
        (p.replay.recent, p.replay.reservoir, p.replay.hard) = (1500, 0, 200);
        p.retrain.floor = Some(Floor { metric: Metric::Accuracy, worst: 0.75, every: 100 });
        p.retrain.cooldown_rows = 1000;
    });
    // So that the example does not wait for the disk; a service should.
    let options = Options::default().with(|o| o.durability = Durability::Fast);
    let model = Box::new(Frozen::new(Arc::clone(&first)));
    let service = Service::create(folder.join("service"), model, params, &catalog, options)?;

    // Rows have times, so candidates are compared forward in time.
    let plan = Plan::new([Candidate::new("lightgbm", &lightgbm)])
        .with(|plan| plan.metric = Some(Metric::LogLoss));
    let (mut challenger, mut champion) = (version.number, first);
    let (mut former, mut n_verdicts) = (Arc::clone(&champion), 0);
    let mut on_trial = Arc::clone(&champion);

    let reader = service.reader();
    let mut waiting = VecDeque::new();
    for i in FITTED..FITTED + ROWS {
        let (x, y) = row(i);
        let time = Some(i as i64 * HALF_HOUR);
        let prediction = reader.ask(&x)?;
        service.submit(&[Event::Remember {
            id: i.into(),
            x: &x,
            prediction: &prediction,
            time,
        }])?;
        waiting.push_back((i, y));
        if waiting.len() > DELAY
            && let Some((id, y)) = waiting.pop_front()
        {
            service.submit(&[Event::Label { id: id.into(), y, weight: 1.0, time }])?;
        }

        if let Some(reason) = service.retrain_due()? {
            let data = service.replay()?;
            println!("row {i}: {reason:?}; fitting to {} rows that were kept", data.n_rows());
            let again = Continued::new(Box::new(lightgbm.clone().build()?), Arc::clone(&champion));
            let orchestrator =
                Orchestrator::new(&catalog).with_learner("continued", Box::new(again));
            match retrain(&orchestrator, &plan, &data) {
                Ok((name, model)) => {
                    let new = NewVersion::of(&*model)?.with_tag("reason", format!("{reason:?}"));
                    challenger = registry.publish(NAME, new)?.number;
                    println!("    `{name}` is version {challenger}, now on trial in the shadow");
                    service.challenge(&Frozen::new(Arc::clone(&model)))?;
                    on_trial = model;
                }
                Err(e) => {
                    println!("    could not be fitted: {}", e.chain());
                    service.dismiss()?; // And try again after the cooldown.
                }
            }
        }

        let mut new = service.verdicts()?;
        new.retain(|verdict| n_verdicts < verdict.number);
        for verdict in new {
            let (rows, evidence) = (verdict.rows, verdict.evidence);
            println!("row {i}: {:?} after {rows} labels (evidence {evidence:.0})", verdict.ending);
            match verdict.ending {
                Ending::Promoted => {
                    registry.promote(NAME, challenger, "trial", "better in the shadow")?;
                    former = std::mem::replace(&mut champion, Arc::clone(&on_trial));
                }
                Ending::RolledBack => {
                    registry.rollback(NAME, CHAMPION, "trial", "worse than the one before")?;
                    champion = Arc::clone(&former);
                }
                _ => {}
            }
            n_verdicts = verdict.number;
        }
        if (i + 1) % 1000 == 0 {
            let scores = service.report()?.rolling;
            let of = |score: Option<f64>| score.unwrap_or(f64::NAN);
            println!(
                "row {}: accuracy {:.3} (last known label {:.3}, kappa temporal {:.2})",
                i + 1,
                of(scores.accuracy),
                of(scores.no_change),
                of(scores.kappa_temporal),
            );
        }
    }

    println!("\nthe champion's history:");
    for entry in registry.alias_history(NAME, CHAMPION)? {
        println!("  version {:?}: {:?}, {}", entry.to, entry.action, entry.reason);
    }
    let endings: Vec<Ending> = service.verdicts()?.iter().map(|v| v.ending).collect();
    assert!(endings.contains(&Ending::Promoted) && endings.contains(&Ending::RolledBack));
    drop(service);
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// The first `n` rows as a table.
fn past(n: u64) -> mm::core::Result<Dataset> {
    let names = ["period", "demand", "price_elsewhere", "demand_elsewhere", "transfer"];
    let schema = Schema::new(names.map(Column::numeric))?;
    let (rows, labels): (Vec<_>, Vec<_>) = (0..n).map(row).unzip();
    let frame = Frame::with_schema(rows.concat(), schema)?
        .with_times((0..n as i64).map(|i| i * HALF_HOUR).collect())?;
    Dataset::new(frame, mm::core::Task::classes(["down", "up"])?, labels)
}

/// Row `i` of the market and whether the price rises.
fn row(i: u64) -> (Vec<f32>, f64) {
    let noise = |k: u64| {
        // A number in [−1, 1) for each `i` and `k` (Steele, Lea & Flood 2014).
        let mut z = (8 * i + k + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    let period = (i % 48) as f64 / 48.0;
    let of_day = (std::f64::consts::TAU * period).sin();
    let demand = 0.5 * of_day + 0.6 * noise(0);
    let elsewhere = 0.3 * of_day + 0.6 * noise(1);
    let (price_elsewhere, transfer) = (0.5 * demand + 0.6 * noise(2), 0.7 * noise(3));
    let is_other_world = (FITTED + 6000..FITTED + 12_000).contains(&i);
    let pressure = if is_other_world {
        1.5 * transfer - demand + 0.5 * price_elsewhere
    } else {
        demand - transfer + 0.5 * price_elsewhere
    };
    let row = [period, demand, price_elsewhere, elsewhere, transfer].map(|x| x as f32);
    (row.to_vec(), f64::from(pressure + 0.3 * noise(4) > 0.0))
}
