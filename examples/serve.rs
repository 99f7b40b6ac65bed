//! How does a service predict, and follow the champion when it changes?
//!
//!     cargo run --example serve
//!
//! A thread answers requests with the champion while another publishes a better model and moves the
//! alias; the server swaps without missing a request. Rows come as text, as in a request.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{
    env,
    error::Error,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use mm::{
    core::{
        BoxModel, Dataset, FitContext, Learner as _, Model, Params as _, Roles, Source,
        registry::{CHAMPION, LocalRegistry, NewVersion, Registry as _},
    },
    trees::LightGbmParams,
};

const MODEL: &str = "late-flights";

/// The model that answers, and its version: swapped as one.
struct Served {
    model: BoxModel,
    version: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights/flights.csv");
    let roles = Roles::with_target("late15").with(|roles| {
        roles.time = Some("scheduled".to_owned());
        roles.ignore = vec!["arr_delay".to_owned()];
    });
    let (data, _) = Source::open(file)?.dataset(&roles)?;
    let folder = env::temp_dir().join(format!("mm-serve-{}", std::process::id()));
    let registry = LocalRegistry::open(&folder)?;
    let catalog = mm::catalog();

    let first = promote(&registry, &train(&data, 20)?)?;
    let open = || -> mm::core::Result<Arc<Served>> {
        let (model, version) = registry.open(MODEL, &CHAMPION.into(), &catalog)?;
        Ok(Arc::new(Served { model, version: version.number }))
    };
    let served = RwLock::new(open()?);
    let done = AtomicBool::new(false);

    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let server = scope.spawn(|| answer(&served, &data, &done));
        promote(&registry, &train(&data, 100)?)?;
        // A service polls this every few seconds: it looks for one file, and opens no model.
        let moved = registry.has_moved(MODEL, CHAMPION, first)?;
        if moved {
            let next = open()?; // Opened aside; requests go on with the old one.
            *served.write().map_err(|_| "a request panicked")? = next;
        }
        thread::sleep(Duration::from_millis(100));
        done.store(true, Ordering::Relaxed);
        let (counts, micros) = server.join().map_err(|_| "the server panicked")??;
        for (version, count) in counts.iter().enumerate().skip(1) {
            println!("version {version} answered {count} requests");
        }
        println!("{micros:.1} µs a request, parsing included");
        Ok(())
    })?;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// Answers requests until it is told to stop: how many by each version, and the mean time.
fn answer(
    served: &RwLock<Arc<Served>>,
    data: &Dataset,
    done: &AtomicBool,
) -> mm::core::Result<([u64; 3], f64)> {
    let schema = data.frame().schema();
    let name = |column: &str| schema.position(column);
    let mut request = vec![String::new(); schema.len()]; // Empty is missing.
    for (column, text) in
        [("carrier", "UA"), ("origin", "EWR"), ("dest", "XYZ"), ("departs", "1050")]
    {
        if let Some(j) = name(column) {
            request[j] = text.to_owned(); // `XYZ` was never seen: unknown, not missing.
        }
    }
    let (mut counts, mut row, mut out) = ([0; 3], Vec::new(), [0.0]);
    let started = Instant::now();
    while !done.load(Ordering::Relaxed) {
        let Ok(current) = served.read().map(|served| Arc::clone(&served)) else { break };
        schema.parse_row(&request, &mut row)?;
        current.model.predict_row(&row, &mut out)?;
        counts[current.version as usize] += 1;
    }
    Ok((counts, started.elapsed().as_secs_f64() * 1e6 / counts.iter().sum::<u64>() as f64))
}

fn train(data: &Dataset, rounds: usize) -> mm::core::Result<impl Model> {
    let learner = LightGbmParams::default().with(|p| p.rounds = rounds).build()?;
    learner.fit(data, &FitContext::seeded(1).with_threads(2))
}

/// Publishes a model as the champion; the number of the alias's move.
fn promote(registry: &LocalRegistry, model: &dyn Model) -> mm::core::Result<u64> {
    let version = registry.publish(MODEL, NewVersion::of(model)?)?;
    let entry = registry.promote(MODEL, version.number, "serve example", "trained on more")?;
    Ok(entry.sequence)
}
