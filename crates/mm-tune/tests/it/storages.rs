//! What every storage owes, asked of each.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use mm_core::{Direction, Error, FloatRange, IntRange, Result, Suggest};
use mm_tune::{
    Distribution, FrozenTrial, JournalStorage, Json, MemoryStorage, Outcome, Param, Storage, Study,
    TpeSampler, TrialState, Until,
    storage::{FAILED, Owner, Write},
};

/// A folder that is removed with its owner.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mm-tune-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The same as text.
    pub(crate) fn place(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn param(name: &str, value: f64, distribution: Distribution) -> Param {
    Param { name: name.into(), value, distribution: Arc::new(distribution) }
}

fn write(param: &Param) -> Write {
    let Param { name, value, distribution } = param.clone();
    Write::Param { name, value, distribution }
}

/// The contract of [`Storage`], line by line.
pub(crate) fn contract(storage: &dyn Storage) -> Result<()> {
    // Studies.
    let study = storage.create_study("one", &[Direction::Maximize])?;
    let pareto = storage.create_study("two", &[Direction::Minimize, Direction::Maximize])?;
    let again = storage.create_study("one", &[Direction::Maximize]);
    assert!(matches!(again, Err(Error::Conflict { .. })), "{again:?}");
    storage.set_study_attr(Owner::StudyUser(study.id), "note", &Json::from("é\n"))?;
    storage.set_study_attr(Owner::StudySystem(study.id), "limit", &Json::from(f64::INFINITY))?;
    let read = storage.study("one")?.expect("it was made");
    assert_eq!((read.id, &read.directions), (study.id, &study.directions));
    assert_eq!(read.user_attrs.get("note"), Some(&Json::from("é\n")));
    assert_eq!(read.system_attrs.get("limit"), Some(&Json::from(f64::INFINITY)));
    assert_eq!(storage.study("three")?, None);
    assert_eq!(storage.studies()?.len(), 2);

    // A trial from beginning to end.
    let trial = storage.create_trial(study.id, None)?;
    assert_eq!((trial.number, trial.state), (0, TrialState::Running));
    let x = param("x", 0.1 + 0.2, Distribution::Float(FloatRange::new(0.0, 1.0)));
    let n = param("n", 3.0, Distribution::Int(IntRange::log(1, 8)));
    let kind = param("kind", 1.0, Distribution::Categorical(vec!["a".into(), "b".into()]));
    storage.write(trial.id, &[write(&x), write(&n), write(&kind)])?;
    storage.write(trial.id, &[Write::UserAttr("seconds".to_owned(), Json::Float(1.5))])?;
    for (step, value) in [(1, 0.5), (2, f64::NAN), (3, f64::NEG_INFINITY), (1, 0.25)] {
        storage.write(trial.id, &[Write::Intermediate { step, value }])?;
    }
    let finish = Write::Finish { state: TrialState::Complete, values: vec![f64::INFINITY] };
    storage.write(trial.id, std::slice::from_ref(&finish))?;
    let read = storage.trial(trial.id)?;
    assert_eq!(read.params, [kind, n, x.clone()].into_iter().collect());
    assert_eq!((read.state, &*read.values), (TrialState::Complete, &[f64::INFINITY][..]));
    assert_eq!((read.intermediate[&1], read.intermediate[&3]), (0.25, f64::NEG_INFINITY));
    assert!(read.intermediate[&2].is_nan());
    assert_eq!(read.user_attrs.get("seconds"), Some(&Json::Float(1.5)));
    let started = read.started.expect("a running trial has started");
    assert!(started <= read.completed.expect("a complete trial has an end"));

    // What is finished does not change; what is unlike the study's is refused, whole.
    let late = storage.write(trial.id, &[finish]);
    assert!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
    let other = storage.create_trial(study.id, None)?;
    let unlike = param("x", 1.0, Distribution::Int(IntRange::new(0, 3)));
    let fresh = param("fresh", 1.0, Distribution::Int(IntRange::new(0, 3)));
    assert!(storage.write(other.id, &[write(&fresh), write(&unlike)]).is_err());
    assert!(storage.trial(other.id)?.params.is_empty(), "all or nothing");
    let wider = param("x", 5.0, Distribution::Float(FloatRange::new(0.0, 9.0)));
    storage.write(other.id, &[write(&wider)])?;

    // Waiting trials, with all that a template can have.
    let template = FrozenTrial {
        state: TrialState::Waiting,
        started: None,
        params: [x].into_iter().collect(),
        system_attrs: [("fixed_params".to_owned(), Json::Object([].into()))].into(),
        ..other.clone()
    };
    let waiting = storage.create_trial(study.id, Some(&template))?;
    assert_eq!((waiting.number, waiting.state), (2, TrialState::Waiting));
    assert_eq!(*storage.trial(waiting.id)?, waiting);
    assert!(storage.claim(waiting.id, false)? && !storage.claim(waiting.id, false)?);
    assert!(storage.trial(waiting.id)?.started.is_some());

    // Limits, and who takes the place of the dead. Three trials are there.
    assert_eq!(storage.start_trial(study.id, Some(3), true)?, None);
    let last = storage.start_trial(study.id, Some(4), true)?.expect("room for one");
    assert_eq!((last.number, last.state), (3, TrialState::Running));
    let notes = [(FAILED.to_owned(), Json::Int(3))].into();
    let copy = FrozenTrial { state: TrialState::Waiting, system_attrs: notes, ..last.clone() };
    let copied = storage.replace(last.id, &copy)?.expect("it was running");
    assert_eq!((copied.number, copied.state), (4, TrialState::Waiting));
    assert_eq!(storage.trial(last.id)?.state, TrialState::Fail);
    assert_eq!(storage.replace(last.id, &copy)?, None, "one copy is enough");
    assert_eq!(storage.start_trial(study.id, Some(4), true)?, None, "copies do not count");
    let fifth = storage.start_trial(study.id, Some(5), false)?.expect("room for one more");
    assert_eq!(fifth.number, 5);
    let changes = storage.changes(study.id, Some(waiting.id), &[])?;
    assert_eq!(changes.iter().map(|t| t.number).collect::<Vec<_>>(), [3, 4, 5]);
    for trial in [copied, fifth] {
        storage.claim(trial.id, false)?;
        let finish = Write::Finish { state: TrialState::Fail, values: vec![] };
        storage.write(trial.id, &[finish])?;
    }

    // Changes: what is new, and what was not finished before.
    let ids = |changes: Vec<Arc<FrozenTrial>>| changes.iter().map(|t| t.id).collect::<Vec<_>>();
    let all = ids(storage.changes(study.id, None, &[])?);
    assert_eq!(all[..3], [trial.id, other.id, waiting.id]);
    let some = storage.changes(study.id, Some(other.id), &[other.id])?;
    assert_eq!(ids(some), all[1..]);
    assert_eq!(storage.changes(pareto.id, None, &[])?, []);

    // Numbers are each study's own; a deleted study is gone.
    assert_eq!(storage.create_trial(pareto.id, None)?.number, 0);
    storage.delete_study(study.id)?;
    assert!(storage.trial(trial.id).is_err() && storage.study("one")?.is_none());
    assert!(storage.create_trial(study.id, None).is_err());

    // Hearts.
    let alive = storage.create_trial(pareto.id, None)?;
    storage.beat(alive.id)?;
    assert_eq!(storage.stale(pareto.id, 60)?, []);
    Ok(())
}

/// Of several workers who take from one queue, each trial is taken by one.
pub(crate) fn claims_are_exclusive(open: impl Fn() -> Arc<dyn Storage> + Sync) -> Result<()> {
    let storage = open();
    let study = storage.create_study("queue", &[Direction::Minimize])?;
    let waiting =
        FrozenTrial { state: TrialState::Waiting, ..storage.create_trial(study.id, None)? };
    let queue: Vec<_> = (0..100)
        .map(|_| storage.create_trial(study.id, Some(&waiting)).map(|trial| trial.id))
        .collect::<Result<_>>()?;
    let work = || {
        let storage = open();
        let won = queue.iter().filter(|&&id| storage.claim(id, true).expect("a claim is answered"));
        won.count()
    };
    let won: usize = thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
    });
    assert_eq!(won, queue.len());
    Ok(())
}

/// Several workers together begin as many trials as they are told, and no more.
pub(crate) fn totals_are_exact(open: impl Fn() -> Arc<dyn Storage> + Sync) -> Result<()> {
    let direction = [Direction::Minimize];
    let work = || {
        let study = Study::open(open(), "total", &direction)?;
        study.optimize_until(Until::trials(30), objective)
    };
    let ended: Vec<Result<()>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
    });
    ended.into_iter().collect::<Result<()>>()?;
    let trials = Study::open(open(), "total", &direction)?.trials()?;
    let numbers: Vec<u64> = trials.iter().map(|trial| trial.number).collect();
    assert_eq!(numbers, (0..30).collect::<Vec<_>>());
    assert!(trials.iter().all(|trial| trial.state == TrialState::Complete));
    Ok(())
}

fn objective(trial: &mut mm_tune::Trial) -> Result<Outcome> {
    let x = trial.float("x", FloatRange::new(-1.0, 1.0))?;
    let n = trial.int("n", IntRange::new(0, 5))?;
    Ok((x * x + n as f64).into())
}

/// A study gives the same trials wherever it lives, and goes on where it was left.
pub(crate) fn studies_go_on(open: impl Fn() -> Arc<dyn Storage>) -> Result<()> {
    let run = |storage: Arc<dyn Storage>, n| {
        let study = Study::open(storage, "study", &[Direction::Minimize])?;
        let study = study.with_sampler(TpeSampler::default()).with_seed(5);
        study.optimize(n, objective)?;
        study.trials()
    };
    run(open(), 15)?;
    let resumed = run(open(), 15)?;
    let whole = run(Arc::new(MemoryStorage::default()), 30)?;
    let values = |trials: &[Arc<FrozenTrial>]| -> Vec<_> {
        trials.iter().map(|t| (t.number, t.values.clone(), t.params.clone())).collect()
    };
    assert_eq!(values(&resumed), values(&whole));
    let other = Study::open(open(), "study", &[Direction::Maximize]);
    assert!(other.expect_err("other direction").to_string().contains("directions"));
    Ok(())
}

#[test]
fn memory_keeps_the_contract() -> Result<()> {
    contract(&MemoryStorage::default())?;
    let shared: Arc<dyn Storage> = Arc::new(MemoryStorage::default());
    claims_are_exclusive(|| shared.clone())?;
    totals_are_exact(|| shared.clone())?;
    let shared: Arc<dyn Storage> = Arc::new(MemoryStorage::default());
    studies_go_on(|| shared.clone())
}

fn journal(path: &Path) -> Arc<dyn Storage> {
    Arc::new(JournalStorage::open(path).expect("a journal"))
}

#[test]
fn a_journal_keeps_the_contract() -> Result<()> {
    let folder = Folder::new("journal-contract");
    contract(&JournalStorage::open(folder.path("a.log"))?)?;
    claims_are_exclusive(|| journal(&folder.path("b.log")))?;
    totals_are_exact(|| journal(&folder.path("d.log")))?;
    studies_go_on(|| journal(&folder.path("c.log")))
}

#[test]
fn a_single_parameter_reaches_others_though_its_trial_writes_nothing_more() -> Result<()> {
    let folder = Folder::new("journal-behind");
    let path = folder.path("study.log");
    let (here, there) = (JournalStorage::open(&path)?, JournalStorage::open(&path)?);
    let study = here.create_study("study", &[Direction::Minimize])?.id;
    let range = || Distribution::Float(FloatRange::new(0.0, 1.0));
    let trial = here.create_trial(study, None)?.id;
    for (i, name) in ["x", "y", "z"].into_iter().enumerate() {
        here.write(trial, &[write(&param(name, 0.5, range()))])?;
        // Milliseconds, but on a busy machine nobody can say how many.
        while there.trial(trial)?.params.len() <= i {
            thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    // A storage that ends leaves nothing behind.
    here.write(trial, &[write(&param("last", 0.5, range()))])?;
    drop(here);
    assert_eq!(there.trial(trial)?.params.len(), 4);
    Ok(())
}

#[test]
fn a_note_that_nobody_could_read_again_is_refused() -> Result<()> {
    let folder = Folder::new("journal-deep");
    let path = folder.path("study.log");
    let study = Study::open(journal(&path), "study", &[Direction::Minimize])?;
    let trial = study.ask()?;
    let nested = |levels| (0..levels).fold(Json::Null, |json, _| Json::Array(vec![json]));
    // The line is an object, and the note within it another.
    for levels in [63, 64, 65, 1000] {
        let noted = trial.set_user_attr("deep", nested(levels));
        assert!(matches!(noted, Err(Error::Data { .. })), "{levels}: {noted:?}");
    }
    trial.set_user_attr("deep", nested(62))?;
    let again = journal(&path).trial(trial.frozen().id)?;
    assert_eq!(again.user_attrs["deep"], nested(62));
    Ok(())
}

#[test]
fn a_torn_last_line_is_cut_off_and_nothing_else_is_lost() -> Result<()> {
    let folder = Folder::new("journal-torn");
    let path = folder.path("study.log");
    let study = Study::open(journal(&path), "study", &[Direction::Minimize])?;
    study.optimize(5, objective)?;
    let whole = std::fs::read(&path).expect("the journal");
    // A writer that was killed in the middle of a line.
    std::fs::write(&path, [&whole[..], br#"{"op_code":4,"worker_id":"x","stu"#].concat())
        .expect("a temporary file");
    let resumed = Study::open(journal(&path), "study", &[Direction::Minimize])?;
    assert_eq!(resumed.trials()?.len(), 5);
    resumed.optimize(1, objective)?;
    let text = std::fs::read_to_string(&path).expect("text");
    assert!(text.lines().all(|line| Json::parse(line).is_ok()), "{text}");
    assert_eq!(Study::open(journal(&path), "study", &[Direction::Minimize])?.trials()?.len(), 6);
    Ok(())
}

#[test]
fn a_long_journal_is_opened_by_its_index() -> Result<()> {
    let folder = Folder::new("journal-index");
    let (path, index) = (folder.path("study.log"), folder.path("study.log.mmidx"));
    let all = |path: &Path| -> Result<Vec<FrozenTrial>> {
        let study = Study::open(journal(path), "study", &[Direction::Minimize])?;
        Ok(study.trials()?.iter().map(|trial| (**trial).clone()).collect())
    };
    let storage = journal(&path);
    storage.create_study("gone", &[Direction::Maximize])?;
    let gone = storage.study("gone")?.expect("made").id;
    storage.create_trial(gone, None)?;
    let study = Study::open(storage.clone(), "study", &[Direction::Minimize])?;
    let text = "é".repeat(2000);
    let big = |trial: &mut mm_tune::Trial| {
        trial.set_user_attr("text", Json::Text(text.clone()))?;
        trial.set_user_attr("odd", Json::Array(vec![Json::Float(f64::INFINITY), Json::Null]))?;
        trial.report(3, f64::NEG_INFINITY)?;
        objective(trial)
    };
    study.optimize(300, big)?;
    storage.delete_study(gone)?;
    storage.create_trial(study.storage().study("study")?.expect("made").id, None)?;
    assert!(index.exists(), "more than a megabyte has an index");
    // With the index it is what it is without, and what comes after is read, too.
    let with = all(&path)?;
    let bytes = std::fs::read(&index).expect("the index");
    std::fs::remove_file(&index).expect("there");
    let without = all(&path)?;
    assert_eq!(with.len(), 301);
    // What a worker knows of what it wrote is what others read.
    for trial in &with {
        assert_eq!(*storage.trial(trial.id)?, *trial);
    }
    assert_eq!(with, without);
    assert!(index.exists(), "a replay leaves one");
    // A torn or stale index, or one of another journal, is not believed.
    for at in [0, 7, 39, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&index, &bytes[..at]).expect("writes");
        assert_eq!(all(&path)?, with, "cut to {at} bytes");
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        std::fs::write(&index, &flipped).expect("writes");
        assert_eq!(all(&path)?, with, "a bit flipped in byte {at}");
    }
    std::fs::write(&index, &bytes).expect("writes");
    let whole = std::fs::read_to_string(&path).expect("the journal");
    let shorter: String = whole.split_inclusive('\n').take(40).collect();
    std::fs::write(&path, shorter).expect("writes");
    assert!(all(&path)?.len() < 10, "the journal is the truth");
    Ok(())
}

#[test]
fn a_line_that_is_no_operation_is_named() {
    let folder = Folder::new("journal-bad");
    let path = folder.path("study.log");
    let good = r#"{"op_code":0,"worker_id":"w","study_name":"s","directions":[1]}"#;
    for (bad, why) in [
        ("nonsense", "JSON"),
        (r#"{"op_code":99}"#, "a code from 0 to 10"),
        (r#"{"op_code":4,"worker_id":"w"}"#, "study_id"),
        (r#"{"op_code":6,"trial_id":0,"state":77}"#, "a state from 0 to 4"),
        ("\u{fffd}\u{0}", "JSON"),
    ] {
        std::fs::write(&path, format!("{good}\n{bad}\n")).expect("a temporary file");
        let error = JournalStorage::open(&path).expect_err(bad).chain();
        assert!(error.contains("line 2") && error.contains(why), "{bad}: {error}");
    }
}

#[test]
fn what_optuna_wrote_is_read() -> Result<()> {
    let folder = Folder::new("journal-optuna");
    let path = folder.path("optuna.log");
    // By the notes on Optuna 5.0's format: NaN, infinities, local times, a void claim.
    let lines = [
        r#"{"op_code": 0, "worker_id": "a-1", "study_name": "s", "directions": [2]}"#,
        r#"{"op_code": 4, "worker_id": "a-1", "study_id": 0, "datetime_start": null, "datetime_complete": null, "state": 4, "value": null, "values": null, "distributions": {}, "params": {}, "user_attrs": {}, "system_attrs": {"fixed_params": {"x": 0.5}}, "intermediate_values": {}}"#,
        r#"{"op_code": 6, "worker_id": "a-1", "trial_id": 0, "state": 0, "values": null, "datetime_start": "2026-11-21T23:35:40.499011+00:00"}"#,
        r#"{"op_code": 6, "worker_id": "b-1", "trial_id": 0, "state": 0, "values": null, "datetime_start": "2026-11-21T23:35:41.499011"}"#,
        r#"{"op_code": 5, "worker_id": "a-1", "trial_id": 0, "param_name": "x", "param_value_internal": 0.5, "distribution": "{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": 0.0, \"high\": 1.0, \"log\": false}}"}"#,
        r#"{"op_code": 7, "worker_id": "a-1", "trial_id": 0, "step": 1, "intermediate_value": NaN}"#,
        r#"{"op_code": 10, "worker_id": "r-1", "trial_ids": [0]}"#,
        r#"{"op_code": 6, "worker_id": "a-1", "trial_id": 0, "state": 1, "values": [-Infinity], "datetime_complete": "2026-11-21T23:36:00+00:00"}"#,
    ];
    std::fs::write(&path, lines.join("\n") + "\n").expect("a temporary file");
    let study = Study::open(journal(&path), "s", &[Direction::Maximize])?;
    let trials = study.trials()?;
    let [trial] = &trials[..] else { panic!("{trials:?}") };
    assert_eq!((trial.state, &*trial.values), (TrialState::Complete, &[f64::NEG_INFINITY][..]));
    assert!(trial.intermediate[&1].is_nan());
    assert_eq!(trial.params.get("x").map(|param| param.value), Some(0.5));
    let took = trial.completed.expect("done").0 - trial.started.expect("begun").0;
    assert_eq!(took, 19_500_989, "microseconds from the first claim, which counted");
    Ok(())
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use mm_tune::SqliteStorage;

    use super::*;

    fn open(path: &Path) -> Arc<dyn Storage> {
        Arc::new(SqliteStorage::open(path).expect("a database"))
    }

    #[test]
    fn many_may_open_a_new_file_at_once() {
        let folder = Folder::new("sqlite-openers");
        for file in 0..25 {
            let path = folder.path(&format!("{file}.db"));
            thread::scope(|scope| {
                let openers: Vec<_> = (0..4).map(|_| scope.spawn(|| open(&path))).collect();
                for opener in openers {
                    drop(opener.join().expect("opens"));
                }
            });
        }
    }

    #[test]
    fn sqlite_keeps_the_contract() -> Result<()> {
        let folder = Folder::new("sqlite-contract");
        contract(&SqliteStorage::open(folder.path("a.db"))?)?;
        claims_are_exclusive(|| open(&folder.path("b.db")))?;
        totals_are_exact(|| open(&folder.path("d.db")))?;
        studies_go_on(|| open(&folder.path("c.db")))
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_refused_by_name() {
        let folder = Folder::new("sqlite-refused");
        let path = folder.path("text.db");
        std::fs::write(&path, "not a database, but long enough to be taken for one".repeat(40))
            .expect("a temporary file");
        let error = SqliteStorage::open(&path).expect_err("text");
        assert!(error.chain().contains("text.db") && error.chain().contains("not a database"));

        let path = folder.path("newer.db");
        drop(SqliteStorage::open(&path).expect("made"));
        let db = rusqlite::Connection::open(&path).expect("opens");
        db.execute("UPDATE alembic_version SET version_num = 'v9.0.0.a'", []).expect("writes");
        let error = SqliteStorage::open(&path).expect_err("a newer schema").chain();
        assert!(error.contains("v9.0.0.a") && error.contains("v3.2.0.a"), "{error}");
        assert!(SqliteStorage::open(folder.path("no/such/folder.db")).is_err());
    }

    #[test]
    fn a_truncated_file_is_an_error_and_not_a_panic() -> Result<()> {
        let folder = Folder::new("sqlite-truncated");
        let path = folder.path("whole.db");
        let study = Study::open(open(&path), "study", &[Direction::Minimize])?;
        study.optimize(50, objective)?;
        drop(study);
        let whole = std::fs::read(&path).expect("the file");
        for part in 1..8 {
            let path = folder.path(&format!("part-{part}.db"));
            std::fs::write(&path, &whole[..whole.len() * part / 8]).expect("a temporary file");
            let read = || -> Result<usize> {
                let storage: Arc<dyn Storage> = Arc::new(SqliteStorage::open(&path)?);
                Ok(Study::open(storage, "study", &[Direction::Minimize])?.trials()?.len())
            };
            assert!(read().is_err(), "{part} eighths of the file");
        }
        Ok(())
    }
}
