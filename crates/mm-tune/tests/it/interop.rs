//! Studies shared with Optuna 5.0 and optuna-dashboard, run by Python.
//!
//! `MM_TUNE_PYTHON` names an interpreter that has both (`scripts/test` makes one); without it these
//! tests say that they were skipped.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    thread,
};

use mm_core::{Direction, FloatRange, IntRange, Result, Suggest};
use mm_tune::{
    Choice, Distribution, FrozenTrial, Json, Outcome, Study, TpeSampler, Trial, TrialState, storage,
};

use crate::storages::Folder;

#[expect(clippy::print_stderr, reason = "who runs the tests should know")]
fn python(args: &[&str]) -> Option<Command> {
    let Some(python) = std::env::var_os("MM_TUNE_PYTHON") else {
        eprintln!("skipped: MM_TUNE_PYTHON names no Python that has optuna and optuna-dashboard");
        return None;
    };
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peer.py")).args(args);
    Some(command)
}

/// The lines that Python printed; `None` where there is no Python.
fn said(args: &[&str]) -> Option<Vec<String>> {
    let output = python(args)?.output().expect("MM_TUNE_PYTHON starts");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    Some(out.lines().map(str::to_owned).collect())
}

/// A trial as the Python side prints it.
fn shown(trial: &FrozenTrial) -> Json {
    let external = |distribution: &Distribution, value: f64| match distribution {
        Distribution::Float(_) => Json::Float(value),
        Distribution::Int(_) => Json::Int(value as i64),
        Distribution::Categorical(choices) => Json::from(&choices[value as usize]),
    };
    let params = trial.params.iter();
    let params = params.map(|p| (p.name.to_string(), external(&p.distribution, p.value)));
    let reports = trial.intermediate.iter();
    let reports = reports.map(|(step, value)| (step.to_string(), Json::Float(*value)));
    let values = trial.values.iter().map(|&value| Json::Float(value));
    let values = if trial.values.is_empty() { Json::Null } else { Json::Array(values.collect()) };
    let state = format!("{:?}", trial.state).to_uppercase();
    let fields = [
        ("number", Json::Int(trial.number as i64)),
        ("state", Json::Text(state)),
        ("values", values),
        ("params", Json::Object(params.collect())),
        ("intermediate", Json::Object(reports.collect())),
        ("user", trial.user_attrs.clone().into()),
    ];
    Json::Object(fields.map(|(key, value)| (key.to_owned(), value)).into())
}

/// Equal as texts: NaN then equals NaN.
fn assert_same(study: &Study, lines: &[String]) {
    let trials = study.trials().expect("the storage");
    assert_eq!(trials.len(), lines.len());
    for (trial, line) in trials.iter().zip(lines) {
        let theirs = Json::parse(line).expect("JSON");
        assert_eq!(shown(trial).to_string(), theirs.to_string());
    }
}

fn objective(trial: &mut Trial) -> Result<Outcome> {
    let x = trial.float("x", FloatRange::new(-1.0, 1.0))?;
    let rate = trial.float("rate", FloatRange::log(1e-5, 1.0))?;
    let n = trial.int("n", IntRange::new(1, 9).step(2))?;
    let kind = trial.choose_among("kind", vec![Choice::from("a"), Choice::from("b")])?;
    let list = Json::Array(vec![Json::Null, Json::Float(f64::INFINITY), "é\u{1F600}".into()]);
    trial.set_user_attr("note", list)?;
    for (step, value) in [(1, x), (2, f64::NAN), (3, f64::NEG_INFINITY)] {
        trial.report(step, value)?;
    }
    Ok(match trial.number() % 5 {
        4 => Outcome::Pruned,
        3 => f64::NAN.into(),
        2 => f64::INFINITY.into(),
        _ => (x * x + rate + n as f64 + kind as f64).into(),
    })
}

/// `place` makes a new place for studies of a name.
pub(crate) fn round_trips(place: impl Fn(&str) -> String) -> Result<()> {
    let study = |path: &str| -> Result<Study> {
        let study = Study::open(storage::open(path)?, "study", &[Direction::Minimize])?;
        Ok(study.with_sampler(TpeSampler::default()))
    };
    // From here to there, on by Optuna's own TPE, and back.
    let path = place("ours");
    study(&path)?.optimize(15, objective)?;
    let Some(lines) = said(&["go-on", &path, "6"]) else { return Ok(()) };
    assert_eq!(lines.len(), 21);
    assert_same(&study(&path)?, &lines);
    // From there to here, on by our TPE, and back.
    let path = place("theirs");
    let lines = said(&["write", &path, "15"]).expect("Python was there");
    let theirs = study(&path)?;
    assert_same(&theirs, &lines);
    theirs.optimize(6, objective)?;
    let lines = said(&["go-on", &path, "0"]).expect("Python was there");
    assert_same(&study(&path)?, &lines);
    // The dashboard's API.
    let ids = storage::open(&path)?.studies()?;
    let id = ids[0].id.0.to_string();
    let said = said(&["dashboard", &path, &id]).expect("Python was there");
    assert_eq!(said, ["/api/studies 200 OK".to_owned(), format!("/api/studies/{id} 200 OK")]);
    Ok(())
}

/// Two of our workers and two of Optuna's empty one queue of 500: each trial is run once.
pub(crate) fn race(path: &str) -> Result<()> {
    const QUEUED: usize = 500;
    let study = || Study::open(storage::open(path)?, "study", &[Direction::Minimize]);
    let queue = study()?;
    for x in 0..QUEUED {
        queue.enqueue([("x", Json::Float(x as f64))])?;
    }
    let mut others = Vec::new();
    for _ in 0..2 {
        let Some(mut command) = python(&["work", path]) else { return Ok(()) };
        others.push(command.stdout(Stdio::piped()).spawn().expect("MM_TUNE_PYTHON starts"));
    }
    let work = || -> Result<Vec<u64>> {
        let (study, mut ran) = (study()?, Vec::new());
        while study.trials()?.iter().any(|trial| trial.state == TrialState::Waiting) {
            let mut trial = study.ask()?;
            if !trial.frozen().system_attrs.contains_key("fixed_params") {
                study.tell_failed(&trial)?; // The queue was emptied meanwhile.
                continue;
            }
            let x = trial.float("x", FloatRange::new(0.0, 1000.0))?;
            study.tell(&trial, x.into())?;
            ran.push(trial.number());
        }
        Ok(ran)
    };
    let mut ran: Vec<u64> = thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|w| w.join().expect("no panic").expect("storage")).collect()
    });
    let ours = ran.len();
    for other in others {
        let output = other.wait_with_output().expect("it ends");
        assert!(output.status.success());
        let said = String::from_utf8_lossy(&output.stdout);
        ran.extend(said.lines().map(|line| line.parse::<u64>().expect("a number")));
    }
    let distinct: BTreeSet<u64> = ran.iter().copied().collect();
    assert_eq!((ran.len(), distinct.len()), (QUEUED, QUEUED), "{ours} of them ours");
    Ok(())
}

#[test]
fn a_journal_is_shared_with_optuna() -> Result<()> {
    let folder = Folder::new("interop-journal");
    round_trips(|name| folder.place(&format!("{name}.log")))?;
    race(&folder.place("queue.log"))
}

#[cfg(feature = "sqlite")]
#[test]
fn a_sqlite_file_is_shared_with_optuna() -> Result<()> {
    let folder = Folder::new("interop-sqlite");
    round_trips(|name| folder.place(&format!("{name}.db")))?;
    race(&folder.place("queue.db"))
}
