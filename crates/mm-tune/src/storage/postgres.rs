//! Studies in a PostgreSQL database that Optuna can use at the same time.
//!
//! The tables and types are those of Optuna's schema 12 (revision `v3.2.0.a`, unchanged from 3.2 to
//! 5.0). A trial gets its number, and the place that a limit leaves, under a lock of the study's row,
//! which Optuna takes, too; a waiting trial is claimed by one guarded update. A call is one
//! transaction, and what it read of several trials it read at once.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mm_core::{Direction, Error, Result};
use postgres::{Client, Config, NoTls, Row, Statement, Transaction, types::ToSql};

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

/// A storage in a PostgreSQL database, for any number of threads, processes, and hosts.
///
/// A write is as durable as the server's settings make it. One connection serves all threads of a
/// storage; a call that fails since it was lost is followed by one that opens it anew. Connections are not
/// encrypted: an address that asks for it (`sslmode=require`) is refused.
pub struct PostgresStorage {
    config: Config,
    state: Mutex<State>,
}

struct State {
    connection: Connection,
    /// The last call failed, perhaps since the connection was lost.
    is_suspect: bool,
    known: Known,
}

/// A client with its prepared statements by their text.
struct Connection {
    client: Client,
    prepared: HashMap<String, Statement>,
}

/// The tables, as SQLAlchemy derives them from Optuna's models.
const TABLES: &str = r"
CREATE TABLE IF NOT EXISTS studies (
  study_id SERIAL PRIMARY KEY, study_name VARCHAR(512) NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS ix_studies_study_name ON studies (study_name);
CREATE TABLE IF NOT EXISTS study_directions (
  study_direction_id SERIAL PRIMARY KEY, direction studydirection NOT NULL,
  study_id INTEGER NOT NULL REFERENCES studies (study_id), objective INTEGER NOT NULL,
  UNIQUE (study_id, objective));
CREATE TABLE IF NOT EXISTS study_user_attributes (
  study_user_attribute_id SERIAL PRIMARY KEY, study_id INTEGER REFERENCES studies (study_id),
  key VARCHAR(512), value_json TEXT, UNIQUE (study_id, key));
CREATE TABLE IF NOT EXISTS study_system_attributes (
  study_system_attribute_id SERIAL PRIMARY KEY, study_id INTEGER REFERENCES studies (study_id),
  key VARCHAR(512), value_json TEXT, UNIQUE (study_id, key));
CREATE TABLE IF NOT EXISTS trials (
  trial_id SERIAL PRIMARY KEY, number INTEGER, study_id INTEGER REFERENCES studies (study_id),
  state trialstate NOT NULL, datetime_start TIMESTAMP WITHOUT TIME ZONE,
  datetime_complete TIMESTAMP WITHOUT TIME ZONE);
CREATE INDEX IF NOT EXISTS ix_trials_study_id ON trials (study_id);
CREATE TABLE IF NOT EXISTS trial_user_attributes (
  trial_user_attribute_id SERIAL PRIMARY KEY, trial_id INTEGER REFERENCES trials (trial_id),
  key VARCHAR(512), value_json TEXT, UNIQUE (trial_id, key));
CREATE TABLE IF NOT EXISTS trial_system_attributes (
  trial_system_attribute_id SERIAL PRIMARY KEY, trial_id INTEGER REFERENCES trials (trial_id),
  key VARCHAR(512), value_json TEXT, UNIQUE (trial_id, key));
CREATE TABLE IF NOT EXISTS trial_params (
  param_id SERIAL PRIMARY KEY, trial_id INTEGER REFERENCES trials (trial_id),
  param_name VARCHAR(512), param_value FLOAT(53), distribution_json TEXT,
  UNIQUE (trial_id, param_name));
CREATE TABLE IF NOT EXISTS trial_values (
  trial_value_id SERIAL PRIMARY KEY, trial_id INTEGER NOT NULL REFERENCES trials (trial_id),
  objective INTEGER NOT NULL, value FLOAT(53), value_type trialvaluetype NOT NULL,
  UNIQUE (trial_id, objective));
CREATE TABLE IF NOT EXISTS trial_intermediate_values (
  trial_intermediate_value_id SERIAL PRIMARY KEY,
  trial_id INTEGER NOT NULL REFERENCES trials (trial_id), step INTEGER NOT NULL,
  intermediate_value FLOAT(53), intermediate_value_type trialintermediatevaluetype NOT NULL,
  UNIQUE (trial_id, step));
CREATE TABLE IF NOT EXISTS trial_heartbeats (
  trial_heartbeat_id SERIAL PRIMARY KEY,
  trial_id INTEGER NOT NULL REFERENCES trials (trial_id),
  heartbeat TIMESTAMP WITHOUT TIME ZONE NOT NULL, UNIQUE (trial_id));
CREATE TABLE IF NOT EXISTS version_info (
  version_info_id INTEGER PRIMARY KEY, schema_version INTEGER, library_version VARCHAR(256),
  CHECK (version_info_id = 1));
CREATE TABLE IF NOT EXISTS alembic_version (
  version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
";

/// The types, of which PostgreSQL has no `IF NOT EXISTS`.
const TYPES: [(&str, &str); 4] = [
    ("studydirection", "'NOT_SET', 'MINIMIZE', 'MAXIMIZE'"),
    ("trialstate", "'RUNNING', 'COMPLETE', 'PRUNED', 'FAIL', 'WAITING'"),
    ("trialintermediatevaluetype", "'FINITE', 'INF_POS', 'INF_NEG', 'NAN'"),
    ("trialvaluetype", "'FINITE', 'INF_POS', 'INF_NEG'"),
];

/// So long a connection that may be lost has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Under which lock workers make the tables, one after another.
const MAKING: i64 = 0x6d6d_5f74_756e_6500;

impl PostgresStorage {
    /// Connects to the database at an address such as `postgresql://user:password@host/database`, and
    /// makes the tables if they are not there.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] within the address, without its password, for one that is malformed or not
    /// answered; [`Error::Data`] for a schema of another version.
    pub fn open(address: &str) -> Result<Self> {
        let config: Config = address.parse().map_err(failed)?;
        let connection = || -> Result<Connection> {
            let mut connection = Connection::open(&config)?;
            let mut change = connection.client.transaction().map_err(failed)?;
            change.execute("SELECT pg_advisory_xact_lock($1)", &[&MAKING]).map_err(failed)?;
            for (name, values) in TYPES {
                let sql = "SELECT 1 FROM pg_type WHERE typname = $1 AND pg_type_is_visible(oid)";
                if change.query(sql, &[&name]).map_err(failed)?.is_empty() {
                    let sql = format!("CREATE TYPE {name} AS ENUM ({values})");
                    change.batch_execute(&sql).map_err(failed)?;
                }
            }
            change.batch_execute(TABLES).map_err(failed)?;
            check_version(&mut change)?;
            change.commit().map_err(failed)?;
            Ok(connection)
        };
        let connection = connection().map_err(|e| e.within(place(&config)))?;
        let state = State { connection, is_suspect: false, known: Known::default() };
        Ok(Self { config, state: Mutex::new(state) })
    }

    fn run<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.lock();
        let run = |state: &mut State| {
            if state.is_suspect && state.connection.client.is_valid(PATIENCE).is_err() {
                tracing::warn!(place = place(&self.config), "the connection was lost");
                state.connection = Connection::open(&self.config)?;
            }
            state.is_suspect = false;
            work(state)
        };
        let result = run(&mut state);
        if let Err(Error::Engine { .. }) = result {
            state.is_suspect = true;
        }
        result.map_err(|error| match error {
            Error::Engine { .. } | Error::Corrupt { .. } => error.within(place(&self.config)),
            other => other,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panic leaves is caches, and a transaction that is rolled back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for PostgresStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresStorage").field(&place(&self.config)).finish()
    }
}

/// The address without its password.
fn place(config: &Config) -> String {
    let host = config.get_hosts().first().map(|host| format!("{host:?}"));
    let (user, name) = (config.get_user().unwrap_or_default(), config.get_dbname());
    format!(
        "PostgreSQL database `{}` of `{user}` at {}",
        name.unwrap_or(user),
        host.unwrap_or_default()
    )
}

fn failed(error: postgres::Error) -> Error {
    Error::Engine { engine: "PostgreSQL", source: Box::new(error) }
}

fn check_version(change: &mut Transaction<'_>) -> Result<()> {
    let sql = "SELECT schema_version FROM version_info WHERE version_info_id = 1";
    let found: Option<i32> = change.query_opt(sql, &[]).map_err(failed)?.map(|row| row.get(0));
    match found {
        None => {
            let version = concat!("mm-tune ", env!("CARGO_PKG_VERSION"));
            let sql = "INSERT INTO version_info VALUES (1, $1, $2)";
            change.execute(sql, &[&SCHEMA, &version]).map_err(failed)?;
        }
        Some(SCHEMA) => {}
        Some(found) => return Err(Error::data("schema version of the database", SCHEMA, found)),
    }
    let sql = "SELECT version_num FROM alembic_version";
    let found: Option<String> = change.query_opt(sql, &[]).map_err(failed)?.map(|row| row.get(0));
    match found {
        None => {
            let sql = "INSERT INTO alembic_version VALUES ($1)";
            change.execute(sql, &[&REVISION]).map_err(failed).map(drop)
        }
        Some(found) if found == REVISION => Ok(()),
        Some(found) => Err(Error::data("revision of the database", REVISION, found)),
    }
}

impl Connection {
    fn open(config: &Config) -> Result<Self> {
        let client = config.connect(NoTls).map_err(failed)?;
        Ok(Self { client, prepared: HashMap::new() })
    }

    fn prepare(&mut self, sql: &str) -> Result<Statement> {
        if let Some(known) = self.prepared.get(sql) {
            return Ok(known.clone());
        }
        let statement = self.client.prepare(sql).map_err(failed)?;
        self.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn query(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let statement = self.prepare(sql)?;
        self.client.query(&statement, params).map_err(failed)
    }

    fn execute(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        let statement = self.prepare(sql)?;
        self.client.execute(&statement, params).map_err(failed)
    }

    /// Does all of `work` or nothing.
    fn change<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.client.batch_execute("BEGIN").map_err(failed)?;
        match work(self) {
            Ok(done) => self.client.batch_execute("COMMIT").map(|()| done).map_err(failed),
            Err(error) => {
                // On a lost connection the server rolls back by itself.
                drop(self.client.batch_execute("ROLLBACK"));
                Err(error)
            }
        }
    }

    fn attrs(&mut self, table: &str, owner: &str, id: i32) -> Result<Attrs> {
        let sql = format!("SELECT key, value_json FROM {table} WHERE {owner} = $1");
        let rows = self.query(&sql, &[&id])?;
        rows.iter().map(|row| Ok((row.get(0), Json::parse(row.get(1))?))).collect()
    }

    fn study(&mut self, id: i32, name: String) -> Result<StudyRecord> {
        let sql = "SELECT direction::text FROM study_directions WHERE study_id = $1 \
                   ORDER BY objective";
        let directions = self.query(sql, &[&id])?;
        Ok(StudyRecord {
            id: StudyId(id.into()),
            name,
            directions: directions.iter().map(|row| direction_of(row.get(0))).collect(),
            user_attrs: self.attrs("study_user_attributes", "study_id", id)?,
            system_attrs: self.attrs("study_system_attributes", "study_id", id)?,
        })
    }

    /// The number of the study's next trial, under a lock of the study until the change ends. Numbers
    /// are dense.
    fn next_number(&mut self, study: i32) -> Result<u64> {
        let sql = "SELECT study_id FROM studies WHERE study_id = $1 FOR UPDATE";
        if self.query(sql, &[&study])?.is_empty() {
            return Err(super::not_found("study", study.into()));
        }
        let sql = "SELECT number FROM trials WHERE study_id = $1 ORDER BY trial_id DESC LIMIT 1";
        let last = self.query(sql, &[&study])?;
        Ok(last.first().map_or(0, |row| u64::from(row.get::<_, i32>(0).unsigned_abs()) + 1))
    }

    fn study_of(&mut self, trial: i32) -> Result<i32> {
        let sql = "SELECT study_id FROM trials WHERE trial_id = $1";
        let found = self.query(sql, &[&trial])?;
        found.first().map(|row| row.get(0)).ok_or_else(|| super::not_found("trial", trial.into()))
    }

    /// Writes a new trial down, and gives it its id.
    fn insert(&mut self, study: i32, mut trial: FrozenTrial) -> Result<FrozenTrial> {
        let sql = "INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete) \
                   VALUES ($1, $2, $3::text::trialstate, $4::text::timestamp, \
                   $5::text::timestamp) RETURNING trial_id";
        let (started, completed) = (trial.started.map(time_text), trial.completed.map(time_text));
        let (number, state) = (small(trial.number as i64)?, state_name(trial.state));
        let rows = self.query(sql, &[&number, &study, &state, &started, &completed])?;
        let id: i32 = rows.first().map_or(0, |row| row.get(0));
        trial.id = TrialId(id.into());
        for write in super::writes_of(&trial) {
            self.apply(id, &write)?;
        }
        self.set_values(id, &trial.values)?;
        Ok(trial)
    }

    fn set_values(&mut self, id: i32, values: &[f64]) -> Result<()> {
        for (objective, &value) in (0_i32..).zip(values) {
            let (value, kind) = stored(value);
            let sql = "INSERT INTO trial_values (trial_id, objective, value, value_type) \
                       VALUES ($1, $2, $3, $4::text::trialvaluetype) \
                       ON CONFLICT (trial_id, objective) DO UPDATE \
                       SET value = EXCLUDED.value, value_type = EXCLUDED.value_type";
            self.execute(sql, &[&id, &objective, &value, &kind])?;
        }
        Ok(())
    }

    fn set_attr(
        &mut self,
        table: &str,
        owner: &str,
        id: i32,
        key: &str,
        value: &Json,
    ) -> Result<()> {
        let sql = format!(
            "INSERT INTO {table} ({owner}, key, value_json) VALUES ($1, $2, $3) \
             ON CONFLICT ({owner}, key) DO UPDATE SET value_json = EXCLUDED.value_json"
        );
        self.execute(&sql, &[&id, &key, &value.to_string()]).map(drop)
    }

    /// Writes to a trial.
    fn apply(&mut self, id: i32, write: &Write) -> Result<()> {
        match write {
            Write::Param { name, value, distribution } => {
                let text = Json::from(&**distribution).to_string();
                let sql = "INSERT INTO trial_params \
                           (trial_id, param_name, param_value, distribution_json) \
                           VALUES ($1, $2, $3, $4) ON CONFLICT (trial_id, param_name) DO UPDATE \
                           SET param_value = EXCLUDED.param_value, \
                           distribution_json = EXCLUDED.distribution_json";
                self.execute(sql, &[&id, &&**name, value, &text]).map(drop)
            }
            Write::Intermediate { step, value } => {
                let ((value, kind), step) = (stored(*value), small(*step as i64)?);
                let sql = "INSERT INTO trial_intermediate_values \
                           (trial_id, step, intermediate_value, intermediate_value_type) \
                           VALUES ($1, $2, $3, $4::text::trialintermediatevaluetype) \
                           ON CONFLICT (trial_id, step) DO UPDATE \
                           SET intermediate_value = EXCLUDED.intermediate_value, \
                           intermediate_value_type = EXCLUDED.intermediate_value_type";
                self.execute(sql, &[&id, &step, &value, &kind]).map(drop)
            }
            Write::UserAttr(key, value) => {
                self.set_attr("trial_user_attributes", "trial_id", id, key, value)
            }
            Write::SystemAttr(key, value) => {
                self.set_attr("trial_system_attributes", "trial_id", id, key, value)
            }
            Write::Finish { state, values } => {
                self.set_values(id, values)?;
                let sql = "UPDATE trials SET state = $2::text::trialstate, \
                           datetime_complete = $3::text::timestamp WHERE trial_id = $1";
                let now = time_text(Timestamp::now());
                self.execute(sql, &[&id, &state_name(*state), &now]).map(drop)
            }
        }
    }

    fn beat(&mut self, id: i32) -> Result<()> {
        let sql = "INSERT INTO trial_heartbeats (trial_id, heartbeat) \
                   VALUES ($1, LOCALTIMESTAMP) ON CONFLICT (trial_id) DO UPDATE \
                   SET heartbeat = EXCLUDED.heartbeat";
        self.execute(sql, &[&id]).map(drop)
    }
}

/// A key or a number as the tables hold it.
fn small(number: i64) -> Result<i32> {
    let fits = i32::try_from(number);
    fits.map_err(|_| Error::data("a number in PostgreSQL", "less than 2³¹", number))
}

impl State {
    /// Refuses parameters unlike the study's others of their names.
    fn ensure_like<'a>(
        &mut self,
        study: StudyId,
        params: impl IntoIterator<Item = &'a Param>,
    ) -> Result<()> {
        let sql = "SELECT distribution_json FROM trial_params JOIN trials USING (trial_id) \
                   WHERE study_id = $1 AND param_name = $2 LIMIT 1";
        let (id, Self { connection, known, .. }) = (small(study.0)?, self);
        params.into_iter().try_for_each(|param| {
            known.ensure_like(study, param, || {
                let found = connection.query(sql, &[&id, &&*param.name])?;
                Ok(found.first().map(|row| row.get(0)))
            })
        })
    }

    /// The trials of a query on `trials`, each with all that belongs to it: six queries, however many
    /// there are.
    fn trials(&mut self, which: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<FrozenTrial>> {
        let sql = format!(
            "SELECT trial_id, number, state::text, \
             to_char(datetime_start, 'YYYY-MM-DD HH24:MI:SS.US'), \
             to_char(datetime_complete, 'YYYY-MM-DD HH24:MI:SS.US') FROM trials \
             WHERE {which} ORDER BY trial_id"
        );
        // What belongs to a trial is written before its state changes, so it is read after.
        let rows = self.connection.query(&sql, params)?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        let mut trials = BTreeMap::new();
        for row in rows {
            let id: i32 = row.get(0);
            let trial = FrozenTrial {
                id: TrialId(id.into()),
                number: row.get::<_, i32>(1).unsigned_abs().into(),
                state: state_of(row.get(2))?,
                values: Vec::new(),
                params: ParamSet::default(),
                intermediate: BTreeMap::new(),
                user_attrs: Attrs::new(),
                system_attrs: Attrs::new(),
                started: time_of(row.get(3))?,
                completed: time_of(row.get(4))?,
            };
            trials.insert(id, trial);
        }
        let mut all = |sql: &str| self.connection.query(sql, &[&ids]);
        let of_params = all("SELECT trial_id, param_name, param_value, distribution_json \
                             FROM trial_params WHERE trial_id = ANY($1)")?;
        let of_values = all("SELECT trial_id, value, value_type::text FROM trial_values \
                             WHERE trial_id = ANY($1) ORDER BY objective")?;
        let of_steps = all("SELECT trial_id, step, intermediate_value, \
                            intermediate_value_type::text FROM trial_intermediate_values \
                            WHERE trial_id = ANY($1)")?;
        let of_user = all("SELECT trial_id, key, value_json FROM trial_user_attributes \
                           WHERE trial_id = ANY($1)")?;
        let of_system = all("SELECT trial_id, key, value_json FROM trial_system_attributes \
                             WHERE trial_id = ANY($1)")?;
        for row in of_params {
            let distribution = self.known.distribution(row.get(3))?;
            if let Some(trial) = trials.get_mut(&row.get(0)) {
                let name = row.get::<_, &str>(1).into();
                trial.params.insert(Param { name, value: row.get(2), distribution });
            }
        }
        for row in of_values {
            if let Some(trial) = trials.get_mut(&row.get(0)) {
                trial.values.push(restored(row.get(1), row.get(2)));
            }
        }
        for row in of_steps {
            if let Some(trial) = trials.get_mut(&row.get(0)) {
                let step = row.get::<_, i32>(1).unsigned_abs();
                trial.intermediate.insert(step.into(), restored(row.get(2), row.get(3)));
            }
        }
        for row in of_user {
            if let Some(trial) = trials.get_mut(&row.get(0)) {
                trial.user_attrs.insert(row.get(1), Json::parse(row.get(2))?);
            }
        }
        for row in of_system {
            if let Some(trial) = trials.get_mut(&row.get(0)) {
                trial.system_attrs.insert(row.get(1), Json::parse(row.get(2))?);
            }
        }
        Ok(trials.into_values().collect())
    }
}

impl Storage for PostgresStorage {
    fn create_study(&self, name: &str, directions: &[Direction]) -> Result<StudyRecord> {
        super::check_study(name, directions)?;
        self.run(|state| {
            state.connection.change(|db| {
                let sql = "INSERT INTO studies (study_name) VALUES ($1) ON CONFLICT DO NOTHING \
                           RETURNING study_id";
                let made = db.query(sql, &[&name])?;
                let Some(row) = made.first() else { return Err(super::taken(name)) };
                let id: i32 = row.get(0);
                for (objective, &direction) in (0_i32..).zip(directions) {
                    let sql = "INSERT INTO study_directions (direction, study_id, objective) \
                               VALUES ($1::text::studydirection, $2, $3)";
                    db.execute(sql, &[&direction_name(direction), &id, &objective])?;
                }
                db.study(id, name.to_owned())
            })
        })
    }

    fn study(&self, name: &str) -> Result<Option<StudyRecord>> {
        self.run(|state| {
            let sql = "SELECT study_id FROM studies WHERE study_name = $1";
            let found = state.connection.query(sql, &[&name])?;
            let study = |row: &Row| state.connection.study(row.get(0), name.to_owned());
            found.first().map(study).transpose()
        })
    }

    fn studies(&self) -> Result<Vec<StudyRecord>> {
        self.run(|state| {
            let sql = "SELECT study_id, study_name FROM studies ORDER BY study_id";
            let found = state.connection.query(sql, &[])?;
            found.iter().map(|row| state.connection.study(row.get(0), row.get(1))).collect()
        })
    }

    fn delete_study(&self, study: StudyId) -> Result<()> {
        self.run(|state| {
            let id = small(study.0)?;
            state.connection.change(|db| {
                for table in OF_TRIALS {
                    let sql = format!(
                        "DELETE FROM {table} WHERE trial_id IN \
                         (SELECT trial_id FROM trials WHERE study_id = $1)"
                    );
                    db.execute(&sql, &[&id])?;
                }
                for table in OF_STUDIES {
                    db.execute(&format!("DELETE FROM {table} WHERE study_id = $1"), &[&id])?;
                }
                Ok(())
            })?;
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
            let id = small(study.0)?;
            state.connection.change(|db| {
                let number = db.next_number(id)?;
                if let Some(below) = below.filter(|&below| below <= number) {
                    let sql = "SELECT COUNT(*) FROM trials \
                               JOIN trial_system_attributes USING (trial_id) \
                               WHERE study_id = $1 AND key = $2";
                    let copies = db.query(sql, &[&id, &super::FAILED])?;
                    let copies: i64 = copies.first().map_or(0, |row| row.get(0));
                    if below <= number - copies.unsigned_abs() {
                        return Ok(None);
                    }
                }
                let trial = super::new_trial(TrialId(0), number, None, Timestamp::now());
                let trial = db.insert(id, trial)?;
                if beats {
                    db.beat(small(trial.id.0)?)?;
                }
                Ok(Some(trial))
            })
        })
    }

    fn create_trial(&self, study: StudyId, template: Option<&FrozenTrial>) -> Result<FrozenTrial> {
        self.run(|state| {
            state.ensure_like(study, template.into_iter().flat_map(|trial| &trial.params))?;
            let id = small(study.0)?;
            state.connection.change(|db| {
                let number = db.next_number(id)?;
                db.insert(id, super::new_trial(TrialId(0), number, template, Timestamp::now()))
            })
        })
    }

    fn claim(&self, trial: TrialId, beats: bool) -> Result<bool> {
        self.run(|state| {
            let id = small(trial.0)?;
            state.connection.change(|db| {
                let sql = "UPDATE trials SET state = 'RUNNING', \
                           datetime_start = $2::text::timestamp \
                           WHERE trial_id = $1 AND state = 'WAITING'";
                let won = db.execute(sql, &[&id, &time_text(Timestamp::now())])? == 1;
                if won && beats {
                    db.beat(id)?;
                }
                Ok(won)
            })
        })
    }

    fn replace(&self, trial: TrialId, copy: &FrozenTrial) -> Result<Option<FrozenTrial>> {
        self.run(|state| {
            let id = small(trial.0)?;
            let study = state.connection.study_of(id)?;
            state.ensure_like(StudyId(study.into()), &copy.params)?;
            state.connection.change(|db| {
                // The study's lock first, as everywhere, so that no two wait for each other.
                let number = db.next_number(study)?;
                let sql = "UPDATE trials SET state = 'FAIL', \
                           datetime_complete = $2::text::timestamp \
                           WHERE trial_id = $1 AND state = 'RUNNING'";
                if db.execute(sql, &[&id, &time_text(Timestamp::now())])? == 0 {
                    return Ok(None);
                }
                let copy = super::new_trial(TrialId(0), number, Some(copy), Timestamp::now());
                db.insert(study, copy).map(Some)
            })
        })
    }

    fn write(&self, trial: TrialId, writes: &[Write]) -> Result<()> {
        self.run(|state| {
            let id = small(trial.0)?;
            let study = StudyId(state.connection.study_of(id)?.into());
            let params: Vec<Param> = writes.iter().filter_map(Write::param).collect();
            state.ensure_like(study, &params)?;
            state.connection.change(|db| {
                let sql = "SELECT state::text, number FROM trials WHERE trial_id = $1 FOR UPDATE";
                let found = db.query(sql, &[&id])?;
                let row = found.first().ok_or_else(|| super::not_found("trial", trial.0))?;
                let number = row.get::<_, i32>(1).unsigned_abs();
                super::ensure_unfinished(state_of(row.get(0))?, number.into())?;
                writes.iter().try_for_each(|write| db.apply(id, write))
            })?;
            state.known.remember(study, params);
            Ok(())
        })
    }

    fn set_study_attr(&self, owner: Owner, key: &str, value: &Json) -> Result<()> {
        let (table, study) = attrs_of(owner);
        self.run(|state| state.connection.set_attr(table, "study_id", small(study.0)?, key, value))
    }

    fn trial(&self, trial: TrialId) -> Result<Arc<FrozenTrial>> {
        let found = self.run(|state| state.trials("trial_id = $1", &[&small(trial.0)?]))?;
        found.into_iter().next().map(Arc::new).ok_or_else(|| super::not_found("trial", trial.0))
    }

    fn changes(
        &self,
        study: StudyId,
        after: Option<TrialId>,
        unfinished: &[TrialId],
    ) -> Result<Vec<Arc<FrozenTrial>>> {
        self.run(|state| {
            let after = small(after.map_or(-1, |after| after.0))?;
            let open = unfinished.iter().map(|id| small(id.0)).collect::<Result<Vec<i32>>>()?;
            let which = "study_id = $1 AND (trial_id > $2 OR trial_id = ANY($3))";
            let changes = state.trials(which, &[&small(study.0)?, &after, &open])?;
            Ok(changes.into_iter().map(Arc::new).collect())
        })
    }

    fn beat(&self, trial: TrialId) -> Result<()> {
        self.run(|state| state.connection.beat(small(trial.0)?))
    }

    fn stale(&self, study: StudyId, grace: u64) -> Result<Vec<TrialId>> {
        self.run(|state| {
            let sql = "SELECT trial_id FROM trials JOIN trial_heartbeats USING (trial_id) \
                       WHERE study_id = $1 AND state = 'RUNNING' \
                       AND heartbeat < LOCALTIMESTAMP - $2 * INTERVAL '1 second' \
                       ORDER BY trial_id";
            let grace = grace as f64;
            let found = state.connection.query(sql, &[&small(study.0)?, &grace])?;
            Ok(found.iter().map(|row| TrialId(row.get::<_, i32>(0).into())).collect())
        })
    }
}
