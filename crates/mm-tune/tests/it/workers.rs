//! Several processes on one study, killed at any time: nothing is lost, and nothing is run twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::Write as _,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use mm_core::{Direction, FloatRange, Result, Suggest};
use mm_tune::{
    Heartbeat, Json, MemoryStorage, Study, TrialState, Until,
    storage::{self, FAILED, HISTORY},
};

use crate::storages::Folder;

const PLACE: &str = "MM_TUNE_TEST_PLACE";
const LOG: &str = "MM_TUNE_TEST_LOG";
const TRIALS: u64 = 40;

fn study(place: &str) -> Result<Study> {
    let study = Study::open(storage::open(place)?, "workers", &[Direction::Minimize])?;
    Ok(study.with_heartbeat(Heartbeat::every(Duration::from_secs(1))))
}

/// What a worker does, when this test is run as one.
#[test]
fn a_worker() -> Result<()> {
    let (Ok(place), Ok(log)) = (env::var(PLACE), env::var(LOG)) else { return Ok(()) };
    let study = study(&place)?;
    let note = |line: String| {
        let mut log = fs::OpenOptions::new().append(true).open(&log).expect("the log");
        // One write, so that a kill leaves the whole line or nothing.
        log.write_all(line.as_bytes()).expect("the log");
    };
    study.optimize_until(Until::trials(TRIALS), |trial| {
        note(format!("{}\n", trial.number()));
        let x = trial.float("x", FloatRange::new(0.0, 1.0))?;
        thread::sleep(Duration::from_millis(40));
        Ok(x.into())
    })
}

/// Kills worker after worker, and lets others take over.
pub(crate) fn survives_kills(place: &str, folder: &Folder, kills: usize) -> Result<()> {
    let log = folder.path("begun");
    fs::write(&log, "").expect("a temporary file");
    let begun = || fs::read_to_string(&log).expect("the log").lines().count();
    let spawn = || -> Child {
        let worker = Command::new(env::current_exe().expect("this test"))
            .args(["--exact", "workers::a_worker"])
            .env(PLACE, place)
            .env(LOG, &log)
            .stdout(Stdio::null())
            .spawn();
        worker.expect("a process")
    };
    let mut workers: Vec<Child> = (0..3).map(|_| spawn()).collect();
    for kill in 1..=kills {
        while begun() < 6 * kill {
            thread::sleep(Duration::from_millis(5));
        }
        let mut killed = workers.remove(0);
        killed.kill().expect("alive"); // SIGKILL.
        killed.wait().expect("ended");
        workers.push(spawn());
    }
    for mut worker in workers {
        assert!(worker.wait().expect("ends").success());
    }

    let trials = study(place)?.trials()?;
    let state = |state| trials.iter().filter(|trial| trial.state == state).count();
    let copies = trials.iter().filter(|trial| trial.system_attrs.contains_key(FAILED)).count();
    assert_eq!(state(TrialState::Complete) as u64, TRIALS, "nothing is lost");
    assert_eq!(state(TrialState::Fail), copies, "whoever died was tried again");
    assert_eq!(trials.len(), TRIALS as usize + copies);
    let begun = fs::read_to_string(&log).expect("the log");
    let begun: Vec<&str> = begun.lines().collect();
    let distinct: BTreeSet<&str> = begun.iter().copied().collect();
    assert_eq!(begun.len(), distinct.len(), "no trial is begun by two workers");
    // Each trial that was asked for was completed once, by itself or the last of its copies.
    let mut completed = BTreeMap::new();
    for trial in trials.iter().filter(|trial| trial.state == TrialState::Complete) {
        let first = trial.system_attrs.get(FAILED).and_then(Json::as_i64);
        *completed.entry(first.unwrap_or(trial.number as i64)).or_insert(0) += 1;
    }
    assert!(completed.values().all(|&times| times == 1), "{completed:?}");
    Ok(())
}

#[test]
fn a_journal_survives_killed_workers() -> Result<()> {
    let folder = Folder::new("workers-journal");
    survives_kills(&folder.place("study.journal"), &folder, 4)
}

#[cfg(feature = "sqlite")]
#[test]
fn sqlite_survives_killed_workers() -> Result<()> {
    let folder = Folder::new("workers-sqlite");
    survives_kills(&folder.place("study.db"), &folder, 4)
}

#[test]
fn a_trial_given_back_is_run_again_under_the_same_parameters() -> Result<()> {
    let study = Study::open(
        std::sync::Arc::new(MemoryStorage::default()),
        "given back",
        &[Direction::Minimize],
    )?;
    let mut trial = study.ask()?;
    let x = trial.float("x", FloatRange::new(0.0, 1.0))?;
    study.give_back(&trial)?;
    assert!(study.tell(&trial, 1.0.into()).is_err(), "it is somebody else's now");
    let mut again = study.ask()?;
    assert_eq!((again.number(), again.float("x", FloatRange::new(0.0, 1.0))?), (1, x));
    let history = again.frozen().system_attrs[HISTORY].clone();
    assert_eq!(history, Json::Array(vec![Json::Int(0)]));
    study.tell(&again, 1.0.into()).map(drop)
}

#[test]
fn a_place_that_cannot_be_opened_is_named() {
    for (place, what) in [("redis://host/0", "redis"), ("/no/such/folder/study.journal", "no/such")]
    {
        let error = storage::open(place).expect_err(place).chain();
        assert!(error.contains(what), "{error}");
    }
}
