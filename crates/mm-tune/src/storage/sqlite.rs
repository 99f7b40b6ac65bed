//! Studies in a SQLite file that Optuna can use at the same time.
//!
//! The tables are those of Optuna's schema 12 (revision `v3.2.0.a`, unchanged from 3.2 to 5.0), so
//! Optuna's workers and optuna-dashboard open the file as one of theirs, and theirs are opened here.
//! Three things are better kept than there:
//!
//! - The file is in WAL mode, in which readers and a writer do not wait for each other.
//! - A waiting trial is claimed by exactly one worker. Optuna reads and then writes the state, and
//!   on SQLite two workers can do so at once; a trigger in the file refuses the second, which an
//!   unmodified Optuna takes for "somebody was faster".
//! - A call is one transaction, where Optuna makes several.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use mm_core::{Direction, Error, Result};
use rusqlite::{
    Connection, ErrorCode, OptionalExtension as _, Params, Row, Transaction, TransactionBehavior,
    params,
};

use super::{
    Owner, Storage, StudyRecord, Write,
    sql::{
        Known, OF_STUDIES, OF_TRIALS, REVISION, SCHEMA, attrs_of, direction_name, direction_of,
        restored, state_name, state_of, stored, time_of, time_text,
    },
};
use crate::{
    attrs::Attrs,
    json::Json,
    trial::{FrozenTrial, Param, ParamSet, StudyId, Timestamp, TrialId},
};

/// A storage in a SQLite file, for any number of threads and processes of one machine.
///
/// A write is durable against the end of the process; against the end of the machine, all but the
/// last moments are (`synchronous = NORMAL`). A call that finds the file locked waits a minute.
#[derive(Debug)]
pub struct SqliteStorage {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    db: Connection,
    known: Known,
}

/// How long a call waits for a locked file.
const PATIENCE: Duration = Duration::from_mins(1);

/// The tables, as SQLAlchemy derives them from Optuna's models.
const TABLES: &str = r#"
CREATE TABLE IF NOT EXISTS studies (
  study_id INTEGER NOT NULL PRIMARY KEY, study_name VARCHAR(512) NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS ix_studies_study_name ON studies (study_name);
CREATE TABLE IF NOT EXISTS study_directions (
  study_direction_id INTEGER NOT NULL PRIMARY KEY, direction VARCHAR(8) NOT NULL,
  study_id INTEGER NOT NULL REFERENCES studies (study_id), objective INTEGER NOT NULL,
  UNIQUE (study_id, objective));
CREATE TABLE IF NOT EXISTS study_user_attributes (
  study_user_attribute_id INTEGER NOT NULL PRIMARY KEY,
  study_id INTEGER REFERENCES studies (study_id), "key" VARCHAR(512), value_json TEXT,
  UNIQUE (study_id, "key"));
CREATE TABLE IF NOT EXISTS study_system_attributes (
  study_system_attribute_id INTEGER NOT NULL PRIMARY KEY,
  study_id INTEGER REFERENCES studies (study_id), "key" VARCHAR(512), value_json TEXT,
  UNIQUE (study_id, "key"));
CREATE TABLE IF NOT EXISTS trials (
  trial_id INTEGER NOT NULL PRIMARY KEY, number INTEGER,
  study_id INTEGER REFERENCES studies (study_id), state VARCHAR(8) NOT NULL,
  datetime_start DATETIME, datetime_complete DATETIME);
CREATE INDEX IF NOT EXISTS ix_trials_study_id ON trials (study_id);
CREATE TABLE IF NOT EXISTS trial_user_attributes (
  trial_user_attribute_id INTEGER NOT NULL PRIMARY KEY,
  trial_id INTEGER REFERENCES trials (trial_id), "key" VARCHAR(512), value_json TEXT,
  UNIQUE (trial_id, "key"));
CREATE TABLE IF NOT EXISTS trial_system_attributes (
  trial_system_attribute_id INTEGER NOT NULL PRIMARY KEY,
  trial_id INTEGER REFERENCES trials (trial_id), "key" VARCHAR(512), value_json TEXT,
  UNIQUE (trial_id, "key"));
CREATE TABLE IF NOT EXISTS trial_params (
  param_id INTEGER NOT NULL PRIMARY KEY, trial_id INTEGER REFERENCES trials (trial_id),
  param_name VARCHAR(512), param_value FLOAT, distribution_json TEXT,
  UNIQUE (trial_id, param_name));
CREATE TABLE IF NOT EXISTS trial_values (
  trial_value_id INTEGER NOT NULL PRIMARY KEY,
  trial_id INTEGER NOT NULL REFERENCES trials (trial_id), objective INTEGER NOT NULL, value FLOAT,
  value_type VARCHAR(7) NOT NULL, UNIQUE (trial_id, objective));
CREATE TABLE IF NOT EXISTS trial_intermediate_values (
  trial_intermediate_value_id INTEGER NOT NULL PRIMARY KEY,
  trial_id INTEGER NOT NULL REFERENCES trials (trial_id), step INTEGER NOT NULL,
  intermediate_value FLOAT, intermediate_value_type VARCHAR(7) NOT NULL, UNIQUE (trial_id, step));
CREATE TABLE IF NOT EXISTS trial_heartbeats (
  trial_heartbeat_id INTEGER NOT NULL PRIMARY KEY,
  trial_id INTEGER NOT NULL REFERENCES trials (trial_id), heartbeat DATETIME NOT NULL,
  UNIQUE (trial_id));
CREATE TABLE IF NOT EXISTS version_info (
  version_info_id INTEGER NOT NULL PRIMARY KEY, schema_version INTEGER,
  library_version VARCHAR(256), CHECK (version_info_id = 1));
CREATE TABLE IF NOT EXISTS alembic_version (
  version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
"#;

const GUARD: &str = "
CREATE TRIGGER IF NOT EXISTS mm_claim_guard BEFORE UPDATE OF state ON trials
WHEN NEW.state = 'RUNNING' AND OLD.state <> 'WAITING'
BEGIN SELECT RAISE(ABORT, 'already claimed'); END";

impl SqliteStorage {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] within the path for a file that is no database, is damaged, locked for a
    /// minute, or may not be written; [`Error::Data`] for a schema of another version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let open = || -> Result<Connection> {
            let mut db = Connection::open(&path).map_err(failed)?;
            db.busy_timeout(PATIENCE).map_err(failed)?;
            db.set_prepared_statement_cache_capacity(64);
            enter_wal(&db).map_err(failed)?;
            db.pragma_update(None, "synchronous", "normal").map_err(failed)?;
            let change = begin(&mut db)?;
            change.execute_batch(TABLES).map_err(failed)?;
            check_version(&change)?;
            change.execute_batch(GUARD).map_err(failed)?;
            change.commit().map_err(failed)?;
            Ok(db)
        };
        let db = open().map_err(|e| e.within(path.display().to_string()))?;
        Ok(Self { path, state: Mutex::new(State { db, known: Known::default() }) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panic leaves is caches, and a transaction that is rolled back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the file in what goes wrong with it.
    fn named<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| match error {
            Error::Engine { .. } | Error::Corrupt { .. } => {
                error.within(self.path.display().to_string())
            }
            other => other,
        })
    }

    fn run<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        self.named(work(&mut self.lock()))
    }
}

/// Turns WAL on. SQLite does not wait where two connections do so to a new file at once, since each
/// has read what the other is about to change; one of them has to try again.
fn enter_wal(db: &Connection) -> rusqlite::Result<()> {
    let started = Instant::now();
    loop {
        match db.pragma_update(None, "journal_mode", "wal") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && started.elapsed() < PATIENCE =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}

fn failed(error: rusqlite::Error) -> Error {
    Error::Engine { engine: "SQLite", source: Box::new(error) }
}

/// A transaction that locks at once, so that what it reads cannot change before it writes.
fn begin(db: &mut Connection) -> Result<Transaction<'_>> {
    db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)
}

fn execute(db: &Connection, sql: &str, params: impl Params) -> Result<usize> {
    db.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).map_err(failed)
}

fn query<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let mut statement = db.prepare_cached(sql).map_err(failed)?;
    let rows = statement.query_map(params, read).map_err(failed)?;
    rows.collect::<rusqlite::Result<_>>().map_err(failed)
}

fn check_version(db: &Connection) -> Result<()> {
    let schema = "SELECT schema_version FROM version_info WHERE version_info_id = 1";
    let found: Option<i64> =
        db.query_row(schema, [], |row| row.get(0)).optional().map_err(failed)?;
    if found.is_none() {
        let version = concat!("mm-tune ", env!("CARGO_PKG_VERSION"));
        execute(db, "INSERT INTO version_info VALUES (1, ?1, ?2)", params![SCHEMA, version])?;
    } else if found != Some(SCHEMA.into()) {
        let found = found.map_or_else(String::new, |schema| schema.to_string());
        return Err(Error::data("schema version of the study's file", SCHEMA, found));
    }
    let revision = "SELECT version_num FROM alembic_version";
    let found: Option<String> =
        db.query_row(revision, [], |row| row.get(0)).optional().map_err(failed)?;
    match found {
        None => {
            execute(db, "INSERT INTO alembic_version VALUES (?1)", [REVISION])?;
            Ok(())
        }
        Some(found) if found == REVISION => Ok(()),
        Some(found) => Err(Error::data("revision of the study's file", REVISION, found)),
    }
}

impl State {
    /// Refuses parameters unlike the study's others of their names.
    fn ensure_like<'a>(
        &mut self,
        study: StudyId,
        params: impl IntoIterator<Item = &'a Param>,
    ) -> Result<()> {
        let sql = "SELECT distribution_json FROM trial_params JOIN trials USING (trial_id) \
                   WHERE study_id = ?1 AND param_name = ?2 LIMIT 1";
        let Self { db, known } = self;
        params.into_iter().try_for_each(|param| {
            known.ensure_like(study, param, || {
                let found = query(db, sql, params![study.0, &*param.name], |row| row.get(0))?;
                Ok(found.into_iter().next())
            })
        })
    }

    fn study_of(&self, trial: TrialId) -> Result<StudyId> {
        let sql = "SELECT study_id FROM trials WHERE trial_id = ?1";
        let found: Vec<i64> = query(&self.db, sql, [trial.0], |row| row.get(0))?;
        found.first().map(|&id| StudyId(id)).ok_or_else(|| super::not_found("trial", trial.0))
    }

    fn study(&self, row: (i64, String)) -> Result<StudyRecord> {
        let (id, name) = row;
        let sql = "SELECT direction FROM study_directions WHERE study_id = ?1 ORDER BY objective";
        let names: Vec<String> = query(&self.db, sql, [id], |row| row.get(0))?;
        Ok(StudyRecord {
            id: StudyId(id),
            name,
            directions: names.iter().map(|name| direction_of(name)).collect(),
            user_attrs: self.attrs("study_user_attributes", "study_id", id)?,
            system_attrs: self.attrs("study_system_attributes", "study_id", id)?,
        })
    }

    fn attrs(&self, table: &str, owner: &str, id: i64) -> Result<Attrs> {
        let sql = format!("SELECT \"key\", value_json FROM {table} WHERE {owner} = ?1");
        let pairs: Vec<(String, String)> =
            query(&self.db, &sql, [id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        pairs.into_iter().map(|(key, text)| Ok((key, Json::parse(&text)?))).collect()
    }

    /// The trials of a query on `trials`, each with all that belongs to it.
    fn trials(&mut self, which: &str, params: impl Params) -> Result<Vec<FrozenTrial>> {
        type Found = (i64, i64, String, Option<String>, Option<String>);
        let sql = format!(
            "SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials \
             WHERE {which} ORDER BY trial_id"
        );
        let found: Vec<Found> = query(&self.db, &sql, params, |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?;
        found
            .into_iter()
            .map(|(id, number, state, started, completed)| {
                let sql = "SELECT param_name, param_value, distribution_json FROM trial_params \
                           WHERE trial_id = ?1";
                let params: Vec<(String, f64, String)> =
                    query(&self.db, sql, [id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
                let param = |(name, value, text): (String, f64, String)| {
                    let distribution = self.known.distribution(&text)?;
                    Ok(Param { name: name.into(), value, distribution })
                };
                let params: ParamSet = params.into_iter().map(param).collect::<Result<_>>()?;
                let sql = "SELECT value, value_type FROM trial_values WHERE trial_id = ?1 \
                           ORDER BY objective";
                let values = query(&self.db, sql, [id], |row| {
                    Ok(restored(row.get(0)?, row.get_ref(1)?.as_str()?))
                })?;
                let sql = "SELECT step, intermediate_value, intermediate_value_type \
                           FROM trial_intermediate_values WHERE trial_id = ?1";
                let reports = query(&self.db, sql, [id], |row| {
                    let step: i64 = row.get(0)?;
                    Ok((step.unsigned_abs(), restored(row.get(1)?, row.get_ref(2)?.as_str()?)))
                })?;
                Ok(FrozenTrial {
                    id: TrialId(id),
                    number: number.unsigned_abs(),
                    state: state_of(&state)?,
                    values,
                    params,
                    intermediate: reports.into_iter().collect(),
                    user_attrs: self.attrs("trial_user_attributes", "trial_id", id)?,
                    system_attrs: self.attrs("trial_system_attributes", "trial_id", id)?,
                    started: time_of(started.as_deref())?,
                    completed: time_of(completed.as_deref())?,
                })
            })
            .collect()
    }
}

/// The number of the study's next trial. Numbers are dense, so it is one more than that of the last.
fn next_number(db: &Connection, study: StudyId) -> Result<u64> {
    let sql = "SELECT number FROM trials WHERE study_id = ?1 ORDER BY trial_id DESC LIMIT 1";
    let last: Vec<i64> = query(db, sql, [study.0], |row| row.get(0))?;
    if last.is_empty() {
        let sql = "SELECT 1 FROM studies WHERE study_id = ?1";
        if query(db, sql, [study.0], |_| Ok(()))?.is_empty() {
            return Err(super::not_found("study", study.0));
        }
    }
    Ok(last.first().map_or(0, |last| last.unsigned_abs() + 1))
}

/// How many trials of the study are copies of others.
fn count_copies(db: &Connection, study: StudyId) -> Result<u64> {
    let sql = "SELECT COUNT(*) FROM trials JOIN trial_system_attributes USING (trial_id) \
               WHERE study_id = ?1 AND \"key\" = ?2";
    let count: Vec<i64> = query(db, sql, params![study.0, super::FAILED], |row| row.get(0))?;
    Ok(count.first().map_or(0, |count| count.unsigned_abs()))
}

/// Writes a new trial down, and gives it its id.
fn insert(db: &Connection, study: StudyId, mut trial: FrozenTrial) -> Result<FrozenTrial> {
    let sql = "INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete) \
               VALUES (?1, ?2, ?3, ?4, ?5)";
    let (started, completed) = (trial.started.map(time_text), trial.completed.map(time_text));
    let row = params![trial.number as i64, study.0, state_name(trial.state), started, completed];
    execute(db, sql, row)?;
    trial.id = TrialId(db.last_insert_rowid());
    for write in super::writes_of(&trial) {
        apply(db, trial.id, &write)?;
    }
    set_values(db, trial.id, &trial.values)?;
    Ok(trial)
}

fn beat(db: &Connection, trial: TrialId) -> Result<()> {
    let sql = "INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES (?1, CURRENT_TIMESTAMP) \
               ON CONFLICT (trial_id) DO UPDATE SET heartbeat = CURRENT_TIMESTAMP";
    execute(db, sql, [trial.0]).map(drop)
}

/// Writes to a trial within a transaction.
fn apply(db: &Connection, id: TrialId, write: &Write) -> Result<()> {
    match write {
        Write::Param { name, value, distribution } => {
            let text = Json::from(&**distribution).to_string();
            let sql = "INSERT INTO trial_params \
                       (trial_id, param_name, param_value, distribution_json) \
                       VALUES (?1, ?2, ?3, ?4) ON CONFLICT (trial_id, param_name) DO UPDATE \
                       SET param_value = ?3, distribution_json = ?4";
            execute(db, sql, params![id.0, &**name, value, text])?;
        }
        Write::Intermediate { step, value } => {
            let (value, kind) = stored(*value);
            let sql = "INSERT INTO trial_intermediate_values \
                       (trial_id, step, intermediate_value, intermediate_value_type) \
                       VALUES (?1, ?2, ?3, ?4) ON CONFLICT (trial_id, step) DO UPDATE \
                       SET intermediate_value = ?3, intermediate_value_type = ?4";
            execute(db, sql, params![id.0, *step as i64, value, kind])?;
        }
        Write::UserAttr(key, value) => {
            set_attr(db, "trial_user_attributes", "trial_id", id.0, key, value)?;
        }
        Write::SystemAttr(key, value) => {
            set_attr(db, "trial_system_attributes", "trial_id", id.0, key, value)?;
        }
        Write::Finish { state, values } => {
            set_values(db, id, values)?;
            let sql = "UPDATE trials SET state = ?2, datetime_complete = ?3 WHERE trial_id = ?1";
            execute(db, sql, params![id.0, state_name(*state), time_text(Timestamp::now())])?;
        }
    }
    Ok(())
}

fn set_values(db: &Connection, id: TrialId, values: &[f64]) -> Result<()> {
    for (objective, &value) in values.iter().enumerate() {
        let (value, kind) = stored(value);
        let sql = "INSERT INTO trial_values (trial_id, objective, value, value_type) \
                   VALUES (?1, ?2, ?3, ?4) ON CONFLICT (trial_id, objective) DO UPDATE \
                   SET value = ?3, value_type = ?4";
        execute(db, sql, params![id.0, objective as i64, value, kind])?;
    }
    Ok(())
}

fn set_attr(
    db: &Connection,
    table: &str,
    owner: &str,
    id: i64,
    key: &str,
    value: &Json,
) -> Result<()> {
    let sql = format!(
        "INSERT INTO {table} ({owner}, \"key\", value_json) VALUES (?1, ?2, ?3) \
         ON CONFLICT ({owner}, \"key\") DO UPDATE SET value_json = ?3"
    );
    execute(db, &sql, params![id, key, value.to_string()]).map(drop)
}

impl Storage for SqliteStorage {
    fn create_study(&self, name: &str, directions: &[Direction]) -> Result<StudyRecord> {
        super::check_study(name, directions)?;
        self.run(|state| {
            let change = begin(&mut state.db)?;
            let sql = "INSERT INTO studies (study_name) VALUES (?1) ON CONFLICT DO NOTHING";
            if execute(&change, sql, [name])? == 0 {
                return Err(super::taken(name));
            }
            let id = change.last_insert_rowid();
            for (objective, &direction) in directions.iter().enumerate() {
                let sql = "INSERT INTO study_directions (direction, study_id, objective) \
                           VALUES (?1, ?2, ?3)";
                let direction = direction_name(direction);
                execute(&change, sql, params![direction, id, objective as i64])?;
            }
            change.commit().map_err(failed)?;
            state.study((id, name.to_owned()))
        })
    }

    fn study(&self, name: &str) -> Result<Option<StudyRecord>> {
        self.run(|state| {
            let sql = "SELECT study_id FROM studies WHERE study_name = ?1";
            let found: Vec<i64> = query(&state.db, sql, [name], |row| row.get(0))?;
            found.first().map(|&id| state.study((id, name.to_owned()))).transpose()
        })
    }

    fn studies(&self) -> Result<Vec<StudyRecord>> {
        self.run(|state| {
            let sql = "SELECT study_id, study_name FROM studies ORDER BY study_id";
            let found = query(&state.db, sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            found.into_iter().map(|row| state.study(row)).collect()
        })
    }

    fn delete_study(&self, study: StudyId) -> Result<()> {
        self.run(|state| {
            let change = begin(&mut state.db)?;
            for table in OF_TRIALS {
                let sql = format!(
                    "DELETE FROM {table} WHERE trial_id IN \
                     (SELECT trial_id FROM trials WHERE study_id = ?1)"
                );
                execute(&change, &sql, [study.0])?;
            }
            for table in OF_STUDIES {
                execute(&change, &format!("DELETE FROM {table} WHERE study_id = ?1"), [study.0])?;
            }
            change.commit().map_err(failed)?;
            state.known.forget(study);
            Ok(())
        })
    }

    fn start_trial(
        &self,
        study: StudyId,
        below: Option<u64>,
        beats: bool,
    ) -> Result<Option<FrozenTrial>> {
        self.run(|state| {
            let change = begin(&mut state.db)?;
            let number = next_number(&change, study)?;
            if below.is_some_and(|below| below <= number)
                && below <= Some(number - count_copies(&change, study)?)
            {
                return Ok(None);
            }
            let blank = super::new_trial(TrialId(0), number, None, Timestamp::now());
            let trial = insert(&change, study, blank)?;
            if beats {
                beat(&change, trial.id)?;
            }
            change.commit().map_err(failed)?;
            Ok(Some(trial))
        })
    }

    fn create_trial(&self, study: StudyId, template: Option<&FrozenTrial>) -> Result<FrozenTrial> {
        self.run(|state| {
            state.ensure_like(study, template.into_iter().flat_map(|trial| &trial.params))?;
            let change = begin(&mut state.db)?;
            let number = next_number(&change, study)?;
            let trial = super::new_trial(TrialId(0), number, template, Timestamp::now());
            let trial = insert(&change, study, trial)?;
            change.commit().map_err(failed)?;
            Ok(trial)
        })
    }

    fn claim(&self, trial: TrialId, beats: bool) -> Result<bool> {
        self.run(|state| {
            let change = begin(&mut state.db)?;
            let sql = "UPDATE trials SET state = 'RUNNING', datetime_start = ?2 \
                       WHERE trial_id = ?1 AND state = 'WAITING'";
            let won = execute(&change, sql, params![trial.0, time_text(Timestamp::now())])? == 1;
            if won && beats {
                beat(&change, trial)?;
            }
            change.commit().map_err(failed)?;
            Ok(won)
        })
    }

    fn replace(&self, trial: TrialId, copy: &FrozenTrial) -> Result<Option<FrozenTrial>> {
        self.run(|state| {
            let study = state.study_of(trial)?;
            state.ensure_like(study, &copy.params)?;
            let change = begin(&mut state.db)?;
            let sql = "UPDATE trials SET state = 'FAIL', datetime_complete = ?2 \
                       WHERE trial_id = ?1 AND state = 'RUNNING'";
            if execute(&change, sql, params![trial.0, time_text(Timestamp::now())])? == 0 {
                return Ok(None);
            }
            let number = next_number(&change, study)?;
            let copy = super::new_trial(TrialId(0), number, Some(copy), Timestamp::now());
            let copy = insert(&change, study, copy)?;
            change.commit().map_err(failed)?;
            Ok(Some(copy))
        })
    }

    fn write(&self, trial: TrialId, writes: &[Write]) -> Result<()> {
        self.run(|state| {
            let study = state.study_of(trial)?;
            let params: Vec<Param> = writes.iter().filter_map(Write::param).collect();
            state.ensure_like(study, &params)?;
            let change = begin(&mut state.db)?;
            let sql = "SELECT state, number FROM trials WHERE trial_id = ?1";
            let found: Vec<(String, i64)> =
                query(&change, sql, [trial.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let (now, number) = found.first().ok_or_else(|| super::not_found("trial", trial.0))?;
            super::ensure_unfinished(state_of(now)?, number.unsigned_abs())?;
            for write in writes {
                apply(&change, trial, write)?;
            }
            change.commit().map_err(failed)?;
            state.known.remember(study, params);
            Ok(())
        })
    }

    fn set_study_attr(&self, owner: Owner, key: &str, value: &Json) -> Result<()> {
        let (table, id) = attrs_of(owner);
        self.run(|state| set_attr(&state.db, table, "study_id", id.0, key, value))
    }

    fn trial(&self, trial: TrialId) -> Result<Arc<FrozenTrial>> {
        let found = self.run(|state| state.trials("trial_id = ?1", [trial.0]))?;
        found.into_iter().next().map(Arc::new).ok_or_else(|| super::not_found("trial", trial.0))
    }

    fn changes(
        &self,
        study: StudyId,
        after: Option<TrialId>,
        unfinished: &[TrialId],
    ) -> Result<Vec<Arc<FrozenTrial>>> {
        self.run(|state| {
            let after = after.map_or(-1, |after| after.0);
            let mut changes = Vec::new();
            for id in unfinished.iter().filter(|id| id.0 <= after) {
                changes.extend(state.trials("trial_id = ?1", [id.0])?);
            }
            let newer = "study_id = ?1 AND trial_id > ?2";
            changes.extend(state.trials(newer, [study.0, after])?);
            Ok(changes.into_iter().map(Arc::new).collect())
        })
    }

    fn beat(&self, trial: TrialId) -> Result<()> {
        self.run(|state| beat(&state.db, trial))
    }

    fn stale(&self, study: StudyId, grace: u64) -> Result<Vec<TrialId>> {
        self.run(|state| {
            let sql = "SELECT trial_id FROM trials JOIN trial_heartbeats USING (trial_id) \
                       WHERE study_id = ?1 AND state = 'RUNNING' \
                       AND heartbeat < datetime('now', ?2) ORDER BY trial_id";
            let grace = format!("-{grace} seconds");
            query(&state.db, sql, params![study.0, grace], |row| row.get(0).map(TrialId))
        })
    }
}
