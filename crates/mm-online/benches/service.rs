//! What it costs to serve and to remember: learning through the log, and predictions while a
//! writer learns.
//!
//! `cargo bench -p mm-online --bench service [FOLDER]` runs a logistic regression on 20 dense features
//! in a service in `FOLDER` (by default the system's for temporary files), and prints
//!
//! - rows a second learnt by the model alone, and through the service with every group forced to the
//!   disk, for several sizes of group: by the clock, and by the CPU time of the writing thread;
//! - how long `predict` takes in 8 threads while a writer learns at full speed: the 50th, 99th, and
//!   99.9th percentile, of the reader and of the same model without a service, measured in turn;
//! - the coverage of conformal sets over 10,000 rows with an abrupt drift.

#![expect(clippy::print_stdout, reason = "the result is for people")]

use std::{
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use mm_core::{Catalog, OnlineModel, Params as _, Sample, Schema, Task};
use mm_online::{ConformalParams, Event, LinearParams, Options, Service, ServiceParams};

const WIDTH: usize = 20;
const ROWS: usize = 200_000;
const REPEATS: usize = 5;

fn number(i: u64) -> u64 {
    let mut z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `ROWS` rows, and their labels: a noisy linear rule that turns round after two fifths.
fn data() -> (Vec<f32>, Vec<f64>) {
    let uniform = |i: u64| (number(i) >> 40) as f32 / (1_u64 << 24) as f32 - 0.5;
    let x: Vec<f32> = (0..(ROWS * WIDTH) as u64).map(uniform).collect();
    let label = |(i, row): (usize, &[f32])| {
        let sign = if (4000..7000).contains(&i) { -1.0 } else { 1.0 };
        let noise = uniform((ROWS * WIDTH + i) as u64);
        f64::from(sign * (row[0] + row[1] - row[2]) + 0.5 * noise > 0.0)
    };
    let y = x.chunks_exact(WIDTH).enumerate().map(label).collect();
    (x, y)
}

fn model() -> Box<dyn OnlineModel> {
    let task = Task::classes(["no", "yes"]).expect("two classes");
    let learner = LinearParams::default().build().expect("the defaults are valid");
    Box::new(learner.start(Schema::numeric(WIDTH), task, 0).expect("starts"))
}

fn service(folder: &Path, params: ServiceParams) -> Service {
    let _ = fs::remove_dir_all(folder);
    let catalog = mm_online::register(Catalog::default());
    Service::create(folder, model(), params, &catalog, Options::default()).expect("creates")
}

/// Seconds of CPU that this thread has used, where the system tells.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos: Option<f64> = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos.unwrap_or(f64::NAN) * 1e-9
}

/// The best rates of several runs, by the clock and by CPU time, in thousands of rows a second.
fn best(mut run: impl FnMut()) -> (f64, f64) {
    let mut best = (0.0_f64, 0.0_f64);
    for _ in 0..REPEATS {
        let (clock, busy) = (Instant::now(), cpu());
        run();
        let (clock, busy) = (clock.elapsed().as_secs_f64(), cpu() - busy);
        best = (best.0.max(ROWS as f64 / clock), best.1.max(ROWS as f64 / busy));
    }
    (best.0 / 1000.0, best.1 / 1000.0)
}

fn learning(folder: &Path, x: &[f32], y: &[f64]) {
    let alone = best(|| {
        let (mut model, mut out) = (model(), [0.0]);
        for (row, &y) in x.chunks_exact(WIDTH).zip(y) {
            model.predict_row(row, &mut out).expect("a row");
            black_box(out);
            model.learn_one(&Sample::new(row, y)).expect("a row");
        }
    });
    println!("learning, thousands of rows a second   by the clock   by CPU time");
    println!("  the model alone, predict and learn    {:12.0}  {:12.0}", alone.0, alone.1);
    let lean = ServiceParams::default().with(|p| {
        (p.replay.recent, p.replay.reservoir, p.replay.hard) = (0, 0, 0);
        p.detector = None;
    });
    for (name, params) in [("defaults", ServiceParams::default()), ("no replay", lean)] {
        for group in [256, 1024, 4096] {
            let rates = best(|| {
                let service = service(folder, params.clone());
                let samples = x.chunks_exact(WIDTH).zip(y).map(|(x, &y)| Sample::new(x, y));
                let samples: Vec<_> = samples.collect();
                for (g, rows) in samples.chunks(group).enumerate() {
                    let id = |i: usize| (g * group + i) as u128;
                    let event = |(i, &sample)| Event::Learn { id: id(i), sample };
                    let events: Vec<_> = rows.iter().enumerate().map(event).collect();
                    black_box(service.submit(&events).expect("written"));
                }
            });
            println!(
                "  service, {name:9}, groups of {group:5}     {:12.0}  {:12.0}",
                rates.0, rates.1
            );
        }
    }
}

/// The 50th, 99th, and 99.9th percentile, in ns.
fn percentiles(mut nanos: Vec<u64>) -> [u64; 3] {
    nanos.sort_unstable();
    [0.5, 0.99, 0.999].map(|q| nanos[((nanos.len() - 1) as f64 * q) as usize])
}

/// How long `predict` takes in 8 threads, through a reader and without a service, a call of each
/// in turn, while another thread learns in groups of 512 rows, each forced to the disk.
fn predicting(folder: &Path, x: &[f32], y: &[f64]) {
    const READERS: usize = 8;
    const CALLS: usize = 100_000;
    const GROUP: usize = 512;
    let service = service(folder, ServiceParams::default());
    let (is_done, n_learnt) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
    let started = Instant::now();
    let times: Vec<_> = thread::scope(|scope| {
        let (service, is_done, n_learnt) = (&service, &is_done, &n_learnt);
        scope.spawn(move || {
            let mut id = 0;
            'learning: loop {
                for (rows, y) in x.chunks_exact(GROUP * WIDTH).zip(y.chunks_exact(GROUP)) {
                    let mut events = Vec::with_capacity(GROUP);
                    for (x, &y) in rows.chunks_exact(WIDTH).zip(y) {
                        events.push(Event::Learn { id, sample: Sample::new(x, y) });
                        id += 1;
                    }
                    service.submit(&events).expect("written");
                    n_learnt.store(id as u64, Ordering::Relaxed);
                    if is_done.load(Ordering::Relaxed) {
                        break 'learning;
                    }
                }
            }
        });
        let read = move |thread: usize| {
            let (reader, own) = (service.reader(), service.champion().expect("lives"));
            let (mut ours, mut theirs) = (Vec::with_capacity(CALLS), Vec::with_capacity(CALLS));
            let mut out = [0.0];
            for i in 0..CALLS {
                let at = (i * READERS + thread) % ROWS * WIDTH;
                let row = &x[at..at + WIDTH];
                // In turn, and in turn first, since the second finds the row in the cache.
                for is_ours in [i % 2 == 0, i % 2 == 1] {
                    let start = Instant::now();
                    if is_ours {
                        black_box(reader.predict(row, &mut out).expect("a row"));
                    } else {
                        own.predict_row(row, &mut out).expect("a row");
                    }
                    black_box(out);
                    let nanos = start.elapsed().as_nanos() as u64;
                    if is_ours { ours.push(nanos) } else { theirs.push(nanos) }
                }
            }
            (ours, theirs)
        };
        let readers: Vec<_> =
            (0..READERS).map(|thread| scope.spawn(move || read(thread))).collect();
        let times: Vec<_> =
            readers.into_iter().map(|reader| reader.join().expect("reads")).collect();
        is_done.store(true, Ordering::Relaxed);
        times
    });
    let rate = n_learnt.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64() / 1000.0;
    let (ours, theirs): (Vec<_>, Vec<_>) = times.into_iter().unzip();
    let (ours, theirs) = (percentiles(ours.concat()), percentiles(theirs.concat()));
    println!("\npredicting in {READERS} threads while {rate:.0} k rows a second are learnt, ns");
    println!("                       50 %      99 %    99.9 %");
    println!("  the model alone  {:8}  {:8}  {:8}", theirs[0], theirs[1], theirs[2]);
    println!("  a reader         {:8}  {:8}  {:8}", ours[0], ours[1], ours[2]);
}

fn covering(folder: &Path, x: &[f32], y: &[f64]) {
    let params = ServiceParams::default().with(|p| p.conformal = Some(ConformalParams::default()));
    let service = service(folder, params);
    let rows = x.chunks_exact(WIDTH).zip(y).take(10_000).enumerate();
    let events: Vec<_> = rows
        .map(|(i, (x, &y))| Event::Learn { id: i as u128, sample: Sample::new(x, y) })
        .collect();
    service.submit(&events).expect("written");
    let report = service.report().expect("lives");
    println!("\nconformal sets promised to cover 0.9 of 10,000 rows cover {:?}", report.coverage);
}

fn main() {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from).join("mm-bench-service");
    let (x, y) = data();
    learning(&folder, &x, &y);
    predicting(&folder, &x, &y);
    covering(&folder, &x, &y);
    let _ = fs::remove_dir_all(folder);
}
