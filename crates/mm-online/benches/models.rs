//! Speed and quality of the online models and detectors on rows from files.
//!
//! ```text
//! cargo bench -p mm-online --bench models -- speed FOLDER     one line of JSON: µs of CPU a row
//! cargo bench -p mm-online --bench models -- quality FOLDER   a table: accuracy, log loss
//! ```
//!
//! FOLDER holds what `benches/python/peer.py export` wrote: CSV files of numbers whose last column is
//! the class. The peer prints the same line for River and Vowpal Wabbit, and
//! `crates/bench-compare/python/compare.py` runs both in turn.

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::{collections::BTreeMap, env, error::Error, fs, hint::black_box, path::Path};

use mm_core::{Frame, Late, Model as _, OnlineModel, Params as _, Sample, Schema, Task};
use mm_online::{
    AdaptiveForestParams, AdaptiveTreeParams, AdwinParams, BankParams, Detector as _,
    DetectorParams, HashedParams, HoeffdingTreeParams, LinearParams, MondrianForestParams,
    NaiveBayesParams, NeighborsParams, Online, OnlineLearner, Optimizer, PassiveAggressiveParams,
    RandomPatchesParams,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["speed", folder] => speed(Path::new(folder)),
        ["quality", folder] => quality(Path::new(folder)),
        ["late", folder, delay] => late(Path::new(folder), delay.parse()?),
        ["alarms"] => {
            alarms();
            Ok(())
        }
        _ => {
            println!("nothing measured: see the header of this bench for its arguments");
            Ok(())
        }
    }
}

/// Rows of a file: features, classes, and the task.
struct Rows {
    x: Vec<Vec<f32>>,
    y: Vec<f64>,
    task: Task,
}

fn read(folder: &Path, name: &str) -> Result<Rows> {
    let text = fs::read_to_string(folder.join(format!("{name}.csv")))?;
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for line in text.lines().skip(1) {
        let mut cells =
            line.split(',').map(str::parse).collect::<std::result::Result<Vec<f32>, _>>()?;
        y.push(f64::from(cells.pop().ok_or("an empty line")?));
        x.push(cells);
    }
    let n_classes = y.iter().fold(1.0_f64, |a, &b| a.max(b)) as usize + 1;
    let task = Task::classes((0..n_classes).map(|k| format!("{k:02}")))?;
    Ok(Rows { x, y, task })
}

/// Seconds of CPU that this thread has had.
fn cpu() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    nanoseconds * 1e-9
}

/// The best of five repeats, in µs a row. The clock ticks every few ms, so short work is done as often
/// as fills some 50 ms.
fn best(n: usize, mut work: impl FnMut()) -> f64 {
    let mut times = 1;
    loop {
        let start = cpu();
        (0..times).for_each(|_| work());
        if 0.05 < cpu() - start {
            break;
        }
        times *= 2;
    }
    let repeats = (0..5).map(|_| {
        let start = cpu();
        (0..times).for_each(|_| work());
        cpu() - start
    });
    repeats.fold(f64::INFINITY, f64::min) * 1e6 / (n * times) as f64
}

fn start<A: mm_online::Incremental>(learner: &OnlineLearner<A>, rows: &Rows) -> Online<A> {
    learner.start(Schema::numeric(rows.x[0].len()), rows.task.clone(), 42).expect("starts")
}

/// Predicts each row, then learns it.
fn stream(model: &mut dyn OnlineModel, rows: &Rows, mut seen: impl FnMut(&[f64], f64)) {
    let mut out = vec![0.0; model.signature().n_outputs()];
    for (x, &y) in rows.x.iter().zip(&rows.y) {
        model.predict_row(x, &mut out).expect("predicts");
        seen(&out, y);
        model.learn_one(&Sample::new(x, y)).expect("learns");
    }
}

fn speed(folder: &Path) -> Result<()> {
    let (dense, elec, segments) =
        (read(folder, "dense20")?, read(folder, "elec2")?, read(folder, "segments")?);
    let mut line: BTreeMap<String, f64> = BTreeMap::new();
    let mut add =
        |name: &str, rows: &Rows, n: usize, make: &dyn Fn(&Rows) -> Box<dyn OnlineModel>| {
            let n = n.min(rows.x.len());
            let rows =
                Rows { x: rows.x[..n].to_vec(), y: rows.y[..n].to_vec(), task: rows.task.clone() };
            let time = best(n, || stream(&mut *make(&rows), &rows, |p, _| _ = black_box(p[0])));
            line.insert(name.to_owned(), time);
        };
    macro_rules! model {
        ($params:expr) => {
            &|rows: &Rows| Box::new(start(&$params.build().expect("valid"), rows))
        };
    }
    let all = usize::MAX;
    add("linear, 20 features", &dense, all, model!(LinearParams::default()));
    add("linear, 6 features", &elec, all, model!(LinearParams::default()));
    let ftrl = || LinearParams::default().with(|p| p.optimizer = Optimizer::ftrl());
    add("linear by FTRL, 20 features", &dense, all, model!(ftrl()));
    add("bank, 6 features", &elec, all, model!(BankParams::default()));
    add("bank, 20 features", &dense, all, model!(BankParams::default()));
    add("hashed, 20 features", &dense, all, model!(HashedParams::default()));
    add("naive Bayes, 20 features", &dense, 20_000, model!(NaiveBayesParams::default()));
    add("Hoeffding tree, 6 features", &elec, all, model!(HoeffdingTreeParams::default()));
    add("Hoeffding tree, 20 features", &dense, 20_000, model!(HoeffdingTreeParams::default()));
    add("adaptive tree, 6 features", &elec, all, model!(AdaptiveTreeParams::default()));
    add("forest of 10, 6 features", &elec, 10_000, model!(AdaptiveForestParams::default()));
    add("forest of 10, 20 features", &dense, 5_000, model!(AdaptiveForestParams::default()));
    add("patches of 10, 6 features", &elec, 2_000, model!(RandomPatchesParams::default()));
    add("Mondrian of 10, 20 features", &dense, 5_000, model!(MondrianForestParams::default()));
    add(
        "Mondrian of 10, 18 features, 7 classes",
        &segments,
        all,
        model!(MondrianForestParams::default()),
    );
    add("neighbours, 18 features", &segments, all, model!(NeighborsParams::default()));

    let model = {
        let mut model = start(&LinearParams::default().build()?, &dense);
        stream(&mut model, &dense, |_, _| {});
        model
    };
    let mut out = [0.0];
    let n = dense.x.len();
    let time = best(n, || {
        for x in &dense.x {
            model.predict_row(black_box(x), &mut out).expect("predicts");
            black_box(out[0]);
        }
    });
    line.insert("linear, 20 features, predict alone".to_owned(), time);
    let frame = Frame::new(dense.x.concat(), 20)?;
    let one = std::num::NonZeroUsize::MIN;
    let time = mm_core::parallel::with_threads(one, || {
        best(n, || drop(black_box(model.predict(&frame).expect("predicts"))))
    })?;
    line.insert("linear, 20 features, predict a batch".to_owned(), time);

    let mut state = 1_u64;
    let mut uniform = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let bits: Vec<f64> = (0..500_000).map(|_| f64::from(uniform() < 0.2)).collect();
    for (name, kind) in [
        ("ADWIN", "adwin"),
        ("Page-Hinkley", "page_hinkley"),
        ("DDM", "ddm"),
        ("EDDM", "eddm"),
        ("HDDM-A", "hddm_a"),
        ("HDDM-W", "hddm_w"),
        ("KSWIN", "kswin"),
    ] {
        let params: DetectorParams = serde_json::from_value(serde_json::json!({ "kind": kind }))?;
        let time = best(bits.len(), || {
            let mut detector = params.build().expect("valid");
            for &bit in &bits {
                black_box(detector.update(bit));
            }
        });
        line.insert(name.to_owned(), time);
    }
    println!("{}", serde_json::to_string(&line)?);
    Ok(())
}

/// Accuracy and log loss of a stream of predictions.
#[derive(Default)]
struct Score {
    n: f64,
    hits: f64,
    loss: f64,
}

impl Score {
    fn add(&mut self, out: &[f64], y: f64) {
        let p = |k: usize| match out {
            [one] if k == 1 => *one,
            [one] => 1.0 - *one,
            many => many[k],
        };
        let n_classes = out.len().max(2);
        let best = (0..n_classes).fold(0, |a, b| if p(a) < p(b) { b } else { a });
        self.n += 1.0;
        self.hits += f64::from(best == y as usize);
        self.loss -= p(y as usize).max(1e-15).ln();
    }
}

fn quality(folder: &Path) -> Result<()> {
    println!("| model | data | accuracy | log loss |\n| --- | --- | ---: | ---: |");
    let run = |name: &str, data: &str, model: &mut dyn OnlineModel, rows: &Rows| {
        let mut score = Score::default();
        stream(model, rows, |out, y| score.add(out, y));
        let (accuracy, loss) = (score.hits / score.n, score.loss / score.n);
        println!("| {name} | {data} | {accuracy:.4} | {loss:.4} |");
    };
    for data in ["phishing", "bananas", "elec2", "sea", "dense20", "segments"] {
        let rows = read(folder, data)?;
        macro_rules! run {
            ($name:expr, $params:expr) => {
                run($name, data, &mut start(&$params.build()?, &rows), &rows)
            };
        }
        run!("linear", LinearParams::default());
        run!("passive-aggressive", PassiveAggressiveParams::default());
        run!("bank", BankParams::default());
        for rate in BankParams::default().rates {
            run!(
                &format!("linear, rate {rate}"),
                LinearParams::default().with(|p| {
                    (p.optimizer, p.intercept_rate) = (Optimizer::Sgd { rate }, rate);
                })
            );
        }
        run!("hashed", HashedParams::default());
        run!("naive Bayes", NaiveBayesParams::default());
        run!("Hoeffding tree", HoeffdingTreeParams::default());
        run!("adaptive tree", AdaptiveTreeParams::default());
        run!("forest", AdaptiveForestParams::default());
        run!("patches", RandomPatchesParams::default());
        run!("Mondrian", MondrianForestParams::default());
        if rows.x.len() < 10_000 {
            run!("neighbours", NeighborsParams::default());
        }
    }
    Ok(())
}

/// The bank where labels come so many rows late.
fn late(folder: &Path, delay: usize) -> Result<()> {
    for data in ["phishing", "bananas", "elec2", "sea", "dense20"] {
        let rows = read(folder, data)?;
        for (name, tells_delay) in [("told of the delay", true), ("not told", false)] {
            let mut model = start(&BankParams::default().build()?, &rows);
            let mut score = Score::default();
            let mut notes: Vec<Vec<f64>> = Vec::new();
            for i in 0..rows.x.len() {
                let (mut out, mut note) = ([0.0], Vec::new());
                model.infer_noting(&rows.x[i], &mut out, &mut note)?;
                score.add(&out, rows.y[i]);
                notes.push(note);
                if let Some(known) = i.checked_sub(delay) {
                    let sample = Sample::new(&rows.x[known], rows.y[known]);
                    let delay = if tells_delay { delay as u64 } else { 0 };
                    model.learn_late(&sample, Late { note: &notes[known], delay })?;
                }
            }
            println!("{data}, {delay} rows late, {name}: log loss {:.4}", score.loss / score.n);
        }
        let mut learner = LinearParams::default();
        let mut best = f64::INFINITY;
        for rate in BankParams::default().rates {
            learner = learner.with(|p| {
                (p.optimizer, p.intercept_rate) = (Optimizer::Sgd { rate }, rate);
            });
            let mut model = start(&learner.clone().build()?, &rows);
            let mut score = Score::default();
            let mut out = [0.0];
            for i in 0..rows.x.len() {
                model.predict_row(&rows.x[i], &mut out)?;
                score.add(&out, rows.y[i]);
                if let Some(known) = i.checked_sub(delay) {
                    model.learn_one(&Sample::new(&rows.x[known], rows.y[known]))?;
                }
            }
            best = best.min(score.loss / score.n);
        }
        println!("{data}, {delay} rows late, best single rate: log loss {best:.4}");
    }
    Ok(())
}

/// False alarms of the detectors on streams that never change.
fn alarms() {
    use rand::{RngExt as _, SeedableRng as _};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let n = 500_000;
    let bits: Vec<f64> = (0..n).map(|_| f64::from(rng.random::<f64>() < 0.2)).collect();
    let normals: Vec<f64> = (0..n)
        .map(|_| {
            let (u, v): (f64, f64) = (rng.random(), rng.random());
            (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        })
        .collect();
    let params = |kind: &str| {
        serde_json::from_value(serde_json::json!({ "kind": kind })).unwrap_or_default()
    };
    let restart = DetectorParams::Adwin(AdwinParams { restart: true, ..AdwinParams::default() });
    let mut all = vec![("adwin, as River".to_owned(), restart)];
    for kind in ["adwin", "page_hinkley", "ddm", "eddm", "hddm_a", "hddm_w", "kswin"] {
        all.push((kind.to_owned(), params(kind)));
    }
    println!("| detector | stream | drifts | warnings |\n| --- | --- | ---: | ---: |");
    for (name, params) in all {
        for (stream, values) in [("Bernoulli(0.2)", &bits), ("N(0, 1)", &normals)] {
            let (mut drifts, mut warnings) = (0, 0);
            let Ok(mut detector) = params.build() else { continue };
            for &x in values {
                match detector.update(x) {
                    mm_online::Change::Drift => drifts += 1,
                    mm_online::Change::Warning => warnings += 1,
                    mm_online::Change::None => {}
                }
            }
            println!("| {name} | {stream} | {drifts} | {warnings} |");
        }
    }
}
