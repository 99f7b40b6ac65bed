//! What users, clocks, disks, and other programs do wrong: errors that say what, and nothing is lost.

use std::{sync::Arc, time::Duration};

use mm_core::{Direction, Error, FloatRange, IntRange, Result, Suggest};
use mm_tune::{
    Heartbeat, JournalStorage, Json, Outcome, RandomSampler, Study, Trial, TrialState,
    storage::{self, Owner, Write},
};

use crate::storages::Folder;

/// A study in a file of each kind.
const FILES: &[&str] = &[
    "study.journal",
    #[cfg(feature = "sqlite")]
    "study.db",
];

fn sphere(trial: &mut Trial) -> Result<Outcome> {
    let x = trial.float("x", FloatRange::new(-1.0, 1.0))?;
    Ok((x * x).into())
}

fn open(place: &str) -> Result<Study> {
    Study::open(storage::open(place)?, "study", &[Direction::Minimize])
}

#[test]
fn a_range_that_holds_nothing_is_refused_by_its_parameters_name() -> Result<()> {
    let study = Study::in_memory(Direction::Minimize);
    let mut trial = study.ask()?;
    let mut floats = |range| trial.float("rate", range).map_err(|e| e.chain());
    let nan = f64::NAN;
    for (range, what) in [
        (FloatRange::new(2.0, 1.0), "low ≤ high"),
        (FloatRange::new(nan, 1.0), "finite"),
        (FloatRange::new(0.0, f64::INFINITY), "finite"),
        (FloatRange::log(0.0, 1.0), "above 0"),
        (FloatRange::log(-1.0, 1.0), "above 0"),
        (FloatRange::log(0.1, 1.0).step(0.1), "one of them"),
        (FloatRange::new(0.0, 1.0).step(0.0), "step above 0"),
        (FloatRange::new(0.0, 1.0).step(nan), "step above 0"),
    ] {
        let error = floats(range).expect_err(what);
        assert!(error.contains("rate") && error.contains(what), "{range:?}: {error}");
    }
    let mut ints = |range| trial.int("n", range).map_err(|e| e.chain());
    for (range, what) in [
        (IntRange::new(2, 1), "low ≤ high"),
        (IntRange::log(0, 8), "at least 1"),
        (IntRange::new(0, 8).step(0), "at least 1"),
        (IntRange::log(1, 8).step(2), "step of 1"),
    ] {
        let error = ints(range).expect_err(what);
        assert!(error.contains('n') && error.contains(what), "{range:?}: {error}");
    }
    assert!(trial.choose("kind", &[]).expect_err("none").chain().contains("kind"));
    // A step that is larger than the range leaves the lower bound, as it does with Optuna.
    assert_eq!(trial.float("share", FloatRange::new(0.5, 1.0).step(2.0))?, 0.5);
    assert_eq!(trial.int("leaves", IntRange::new(3, 7).step(9))?, 3);
    Ok(())
}

#[test]
fn a_parameter_does_not_change_its_kind_or_choices_within_a_study() -> Result<()> {
    let folder = Folder::new("bad-choices");
    for place in FILES {
        let study = open(&folder.place(place))?;
        study.optimize(1, |trial| Ok((trial.choose("kind", &["a", "b"])? as f64).into()))?;
        study.optimize(1, |trial| Ok((trial.choose("kind", &["a", "c"])? as f64).into()))?;
        study.optimize(1, |trial| Ok((trial.int("kind", IntRange::new(0, 1))? as f64).into()))?;
        let trials = study.trials()?;
        let states: Vec<TrialState> = trials.iter().map(|trial| trial.state).collect();
        assert_eq!(states, [TrialState::Complete, TrialState::Fail, TrialState::Fail], "{place}");
        let why = trials[1].user_attrs.get("error").and_then(Json::as_str).expect("a reason");
        assert!(why.contains("kind"), "{place}: {why}");
        // Ranges may change.
        for high in [1.0, 5.0] {
            study.optimize(1, |t| Ok(t.float("x", FloatRange::new(0.0, high))?.into()))?;
        }
        assert_eq!(study.trials()?[4].state, TrialState::Complete, "{place}");
    }
    Ok(())
}

#[test]
fn a_study_of_another_direction_is_refused() -> Result<()> {
    let folder = Folder::new("bad-direction");
    let place = folder.place("study.journal");
    open(&place)?;
    let ways = [Direction::Maximize, Direction::Minimize];
    let error = Study::open(storage::open(&place)?, "study", &ways).expect_err("other").chain();
    assert!(error.contains("study") && error.contains("Maximize"), "{error}");
    Ok(())
}

/// A clock that leaps ahead makes a living worker look dead; one that leaps back, a dead one alive until it
/// has caught up. Neither panics, and no trial has two ends.
#[test]
fn a_clock_that_jumps_costs_a_trial_at_most() -> Result<()> {
    let folder = Folder::new("bad-clock");
    let storage = Arc::new(JournalStorage::open(folder.path("study.journal"))?);
    let study = Study::open(storage, "study", &[Direction::Minimize])?;
    let study = study.with_heartbeat(Heartbeat::every(Duration::from_secs(30)));
    let beat = |trial: &Trial, seconds: i64| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs() as i64;
        let write = Write::SystemAttr("mm:heartbeat".to_owned(), Json::Int(now + seconds));
        let id = study.trials()?[trial.number() as usize].id;
        study.storage().write(id, &[write])
    };
    // A day ahead: the worker's beat seems a day old, and the trial is given to somebody else.
    let mut slow = study.ask()?;
    beat(&slow, -86_400)?;
    let mut copy = study.ask()?;
    assert_eq!(copy.number(), 1, "a copy of the first");
    let late = sphere(&mut slow).and_then(|outcome| study.tell(&slow, outcome).map(drop));
    assert!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
    let outcome = sphere(&mut copy)?;
    study.tell(&copy, outcome)?;
    // A day back: it seems to beat in the future, and is left alone.
    let ahead = study.ask()?;
    beat(&ahead, 86_400)?;
    assert_eq!(study.revive()?, []);
    study.optimize(3, sphere)?;
    let states: Vec<TrialState> = study.trials()?.iter().map(|trial| trial.state).collect();
    let complete = TrialState::Complete;
    let running = TrialState::Running;
    assert_eq!(states, [TrialState::Fail, complete, running, complete, complete, complete]);
    Ok(())
}

#[test]
fn a_file_that_may_not_be_written_is_named() -> Result<()> {
    let folder = Folder::new("bad-read-only");
    for name in FILES {
        let path = folder.path(name);
        open(&folder.place(name))?;
        let mut permissions = std::fs::metadata(&path).expect("there").permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(&path, permissions).expect("its owner may");
        if std::fs::OpenOptions::new().append(true).open(&path).is_ok() {
            println!("not tested: this user may write what is read-only");
            return Ok(());
        }
        let written = open(&folder.place(name)).and_then(|study| study.optimize(1, sphere));
        let error = written.expect_err("read-only").chain();
        assert!(error.contains(name), "{error}");
    }
    Ok(())
}

/// What a worker does whose files may not grow beyond a few blocks.
#[cfg(unix)]
#[test]
fn a_worker_on_a_full_disk() -> Result<()> {
    let Ok(place) = std::env::var("MM_TUNE_TEST_FULL") else { return Ok(()) };
    let study = open(&place)?.with_sampler(RandomSampler);
    let error = study.optimize(100_000, sphere).expect_err("the disk is full").chain();
    assert!(error.contains("study."), "the file is named: {error}");
    // Nor does asking again help, or hang, or panic.
    assert!(study.optimize(1, sphere).is_err());
    Ok(())
}

/// The limit on the size of files stands for a disk that is full: writes come short or fail.
#[cfg(unix)]
#[test]
fn a_full_disk_ends_the_run_and_loses_nothing_that_was_told() -> Result<()> {
    let folder = Folder::new("bad-full");
    for name in FILES {
        let place = folder.place(name);
        open(&place)?.optimize(5, sphere)?;
        let limited =
            "trap '' XFSZ; ulimit -f 1000; exec \"$0\" --exact bad_input::a_worker_on_a_full_disk";
        let worker = std::process::Command::new("sh")
            .args(["-c", limited])
            .arg(std::env::current_exe().expect("this test"))
            .env("MM_TUNE_TEST_FULL", &place)
            .output()
            .expect("a process");
        assert!(worker.status.success(), "{name}: {}", String::from_utf8_lossy(&worker.stdout));
        let study = open(&place)?;
        let before = study.trials()?;
        assert!(20 < before.len(), "{name}: {} trials fitted on the disk", before.len());
        let complete = |trial: &&Arc<mm_tune::FrozenTrial>| trial.state == TrialState::Complete;
        assert!(before.len() <= before.iter().filter(complete).count() + 2, "{name}");
        // There is room again.
        study.optimize(3, sphere)?;
        assert_eq!(study.trials()?.len(), before.len() + 3, "{name}");
    }
    Ok(())
}

#[cfg(feature = "sqlite")]
#[test]
fn a_locked_database_is_waited_for() -> Result<()> {
    use std::{path::Path, thread, time::Instant};

    let folder = Folder::new("bad-locked");
    let place = folder.place("study.db");
    let study = open(&place)?;
    let other = rusqlite::Connection::open(Path::new(&place)).expect("opens");
    other.execute_batch("BEGIN EXCLUSIVE").expect("locks");
    let started = Instant::now();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| study.optimize(1, sphere));
        thread::sleep(Duration::from_millis(300));
        other.execute_batch("COMMIT").expect("unlocks");
        waiting.join().expect("no panic")
    })?;
    assert!(Duration::from_millis(300) <= started.elapsed());
    assert_eq!(study.trials()?.len(), 1);
    Ok(())
}

#[test]
fn attributes_of_a_study_that_is_gone_are_an_error() -> Result<()> {
    let folder = Folder::new("bad-gone");
    let storage = storage::open(&folder.place("study.journal"))?;
    let record = storage.create_study("study", &[Direction::Minimize])?;
    storage.delete_study(record.id)?;
    let noted = storage.set_study_attr(Owner::StudyUser(record.id), "note", &Json::Null);
    assert!(noted.is_err(), "{noted:?}");
    Ok(())
}
