//! Studies in a journal: a file to which every change is appended, and which every reader replays.
//!
//! The format is that of Optuna's `JournalStorage` on a file: one JSON object a line, ids by the
//! order of the lines. Optuna's workers and these share a journal, on one machine or on a file system
//! that several mount, and take turns by Optuna's own lock. Where Optuna is at fault, this is not:
//! the lock points at an absolute path (Optuna's, made from a relative one, is never given up when
//! its holder dies), a torn last line is cut off before the next is written, and writes that belong
//! together are one append. A side index (`<file>.mmidx`, see `index.rs`) saves most of the replay when
//! a long journal is opened.
//!
//! The file is opened for each append and closed before the lock is given back: that is when a file system
//! that hosts share shows to others what was written.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use mm_core::{Direction, Error, Result};

use super::{
    Distributions, Owner, Storage, StudyRecord, Write,
    behind::Behind,
    index::{self, Indexed},
    lock::{Lock, unique},
    state::State,
};
use crate::{
    attrs::Attrs,
    json::Json,
    trial::{FrozenTrial, Param, StudyId, Timestamp, TrialId, TrialState},
};

/// A storage in a journal file, for any number of threads, processes, and hosts that can append to
/// it.
///
/// A write is in the journal when the call returns, where other workers find it, and a worker that is
/// killed then loses none of it; but a single parameter of a running trial is there with the trial's next
/// write, or a few milliseconds later. [`Trial::draw`](crate::Trial::draw) writes several at once.
///
/// What ends a trial, enqueues one, or is of the study is also synced to the disk, and with it all that was
/// written before, so that it outlives the machine. What else is written of a running trial (that it runs,
/// parameters, reports, notes, beats) is not by itself: a machine that loses power loses the trial's worker,
/// too, and the trial is then at most what the last sync left, waiting again or not begun.
#[derive(Debug)]
pub struct JournalStorage(Arc<Journal>);

#[derive(Debug)]
struct Journal {
    path: PathBuf,
    worker: String,
    state: Mutex<(Replay, Lock)>,
    behind: Behind,
    /// Whether there is a thread that writes what is behind.
    is_writing: OnceLock<bool>,
}

/// What the journal came to, up to `offset`.
#[derive(Debug, Default)]
struct Replay {
    state: State,
    offset: u64,
    line: u64,
    /// Of these bytes there is an index.
    indexed: u64,
    distributions: Distributions,
}

/// Where an append is when the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// With the operating system.
    Written,
    /// On the disk.
    Synced,
}

/// The attribute in which hearts beat: Optuna's journals have no place for them.
const BEAT: &str = "mm:heartbeat";

impl JournalStorage {
    /// Opens the journal, or makes it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] for a path that cannot be read or appended to; [`Error::Corrupt`] within the
    /// path and line for a line that is no operation. O(file) in time; what the side index has
    /// is not parsed again.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let opened = OpenOptions::new().append(true).create(true).open(path);
        opened.map_err(Error::io("open the journal", path))?;
        let path = fs::canonicalize(path).map_err(Error::io("find the journal", path))?;
        let replay = match index::load(&path) {
            Some(Indexed { state, offset, line }) => {
                Replay { state, offset, line, indexed: offset, ..Replay::default() }
            }
            None => Replay::default(),
        };
        let state = Mutex::new((replay, Lock::of(&path)));
        let (behind, is_writing) = (Behind::default(), OnceLock::new());
        let journal = Journal { worker: unique(), state, path, behind, is_writing };
        journal.read(|_| ())?;
        Ok(Self(Arc::new(journal)))
    }

    /// Leaves a parameter to be written within milliseconds, if the trial is known to run; whether it
    /// has done so.
    fn leaves_behind(&self, trial: TrialId, param: &Write) -> Result<bool> {
        let Self(journal) = self;
        let writing = || {
            let journal = journal.clone();
            let write = move || journal.behind.keep_writing(|trial| journal.write_late(trial));
            thread::Builder::new().name("mm-journal".to_owned()).spawn(write).is_ok()
        };
        // To what is behind is only added, and from it only taken, by who has this.
        let (replay, _) = &mut *journal.replayed();
        let found = replay.state.trial(trial);
        let runs = found.is_ok_and(|trial| trial.state == TrialState::Running);
        if !runs || !*journal.is_writing.get_or_init(writing) {
            return Ok(false);
        }
        replay.state.check(trial, std::slice::from_ref(param))?;
        journal.behind.add(trial, param.clone());
        Ok(true)
    }

    /// Writes what is behind, reads what is new, and looks.
    fn read<T>(&self, look: impl FnOnce(&mut State) -> T) -> Result<T> {
        self.0.write_behind();
        self.0.read(look)
    }
}

impl Drop for JournalStorage {
    fn drop(&mut self) {
        self.0.write_behind();
        self.0.behind.end();
    }
}

impl Journal {
    fn replayed(&self) -> MutexGuard<'_, (Replay, Lock)> {
        // A panic within a replay leaves what the lines before it came to.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is behind.
    fn write_behind(&self) {
        self.behind.due(Duration::ZERO).into_iter().for_each(|trial| self.write_late(trial));
    }

    /// Writes what is behind of a trial. If it cannot be, whoever writes to the trial next will hear why.
    fn write_late(&self, trial: TrialId) {
        if let Err(error) = self.write(trial, &[]) {
            let error = error.chain();
            tracing::debug!(trial = trial.0, error, "parameters are not written yet");
        }
    }

    /// Writes what is behind of a trial, and more.
    fn write(&self, trial: TrialId, writes: &[Write]) -> Result<()> {
        let ends = writes.iter().any(|write| matches!(write, Write::Finish { .. }));
        let plan = |state: &mut State| {
            let mut all = self.behind.of(trial);
            all.extend_from_slice(writes);
            if !all.is_empty() {
                state.check(trial, &all)?;
            }
            Ok(((), all.iter().map(|write| self.operation_of(trial, write)).collect()))
        };
        let kept = if ends { Kept::Synced } else { Kept::Written };
        self.append(kept, plan, |_, ()| {
            self.behind.forget(trial);
            Ok(())
        })
    }

    /// Reads what is new and looks.
    fn read<T>(&self, look: impl FnOnce(&mut State) -> T) -> Result<T> {
        let (replay, _) = &mut *self.replayed();
        let file = File::open(&self.path).map_err(Error::io("read the journal", &self.path))?;
        replay.catch_up(&file, &self.path)?;
        Ok(look(&mut replay.state))
    }

    /// Reads what is new, and appends the operations that `plan` makes of it, all or none; `look` sees
    /// what they come to.
    fn append<T, U>(
        &self,
        kept: Kept,
        plan: impl FnOnce(&mut State) -> Result<(T, Vec<Json>)>,
        look: impl FnOnce(&State, T) -> Result<U>,
    ) -> Result<U> {
        let (replay, lock) = &mut *self.replayed();
        let failed = || Error::io("append to the journal", &self.path);
        let _turn = lock.take()?;
        // Closed before the turn is over.
        let file = OpenOptions::new().read(true).append(true).open(&self.path);
        let file = file.map_err(failed())?;
        let len = replay.catch_up(&file, &self.path)?;
        let (planned, operations) = plan(&mut replay.state)?;
        // What nobody could read again.
        operations.iter().try_for_each(Json::ensure_shallow)?;
        if !operations.is_empty() {
            let torn = len - replay.offset;
            if 0 < torn {
                let path = self.path.display();
                tracing::warn!(%path, bytes = torn, "cut off a torn last line");
                file.set_len(replay.offset).map_err(failed())?;
            }
            let mut lines = String::new();
            for operation in &operations {
                lines.push_str(&operation.to_string());
                lines.push('\n');
            }
            write_lines(&file, replay.offset, &lines, kept).map_err(failed())?;
            for operation in &operations {
                replay.apply(operation)?;
            }
            replay.offset += lines.len() as u64;
            replay.line += operations.len() as u64;
            replay.keep_index(&self.path);
        }
        look(&replay.state, planned)
    }

    fn operation<const N: usize>(&self, code: i64, fields: [(&str, Json); N]) -> Json {
        let head = [("op_code", Json::Int(code)), ("worker_id", Json::from(&*self.worker))];
        let fields = head.into_iter().chain(fields);
        Json::Object(fields.map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// Makes a trial with all that it has.
    fn operation_new(&self, study: StudyId, trial: &FrozenTrial) -> Json {
        let object = |pairs: Vec<(String, Json)>| Json::Object(pairs.into_iter().collect());
        let texts = trial.params.iter().map(|param| {
            let text = Json::from(&*param.distribution).to_string();
            (param.name.to_string(), Json::Text(text))
        });
        let values = trial.params.iter().map(|param| (param.name.to_string(), param.value.into()));
        let reports = trial.intermediate.iter();
        let reports = reports.map(|(step, value)| (step.to_string(), (*value).into()));
        let fields = [
            ("study_id", Json::Int(study.0)),
            ("datetime_start", time_json(trial.started)),
            ("state", Json::Int(code_of(trial.state))),
            ("value", Json::Null),
            ("values", floats(&trial.values)),
            ("distributions", object(texts.collect())),
            ("params", object(values.collect())),
            ("intermediate_values", object(reports.collect())),
            ("user_attrs", trial.user_attrs.clone().into()),
            ("system_attrs", trial.system_attrs.clone().into()),
        ];
        let mut operation = self.operation(4, fields);
        // Optuna wants a time or no field.
        if let (Json::Object(fields), Some(_)) = (&mut operation, trial.completed) {
            fields.insert("datetime_complete".to_owned(), time_json(trial.completed));
        }
        operation
    }

    fn operation_of(&self, trial: TrialId, write: &Write) -> Json {
        let id = ("trial_id", Json::Int(trial.0));
        let one = |key: &str, value: &Json| Json::Object([(key.to_owned(), value.clone())].into());
        match write {
            Write::Param { name, value, distribution } => self.operation(
                5,
                [
                    id,
                    ("param_name", Json::from(&**name)),
                    ("param_value_internal", Json::Float(*value)),
                    ("distribution", Json::Text(Json::from(&**distribution).to_string())),
                ],
            ),
            Write::Intermediate { step, value } => self.operation(
                7,
                [
                    id,
                    ("step", Json::Int(*step as i64)),
                    ("intermediate_value", Json::Float(*value)),
                ],
            ),
            Write::UserAttr(key, value) => self.operation(8, [id, ("user_attr", one(key, value))]),
            Write::SystemAttr(key, value) => {
                self.operation(9, [id, ("system_attr", one(key, value))])
            }
            Write::Finish { state, values } => self.operation(
                6,
                [
                    id,
                    ("state", Json::Int(code_of(*state))),
                    ("values", floats(values)),
                    ("datetime_complete", time_json(Some(Timestamp::now()))),
                ],
            ),
        }
    }
}

/// The trial that an append has made, if it has.
fn made(state: &State, id: Option<TrialId>) -> Result<Option<FrozenTrial>> {
    id.map(|id| state.trial(id).map(|trial| (**trial).clone())).transpose()
}

/// Appends after `end`, all or nothing.
fn write_lines(mut file: &File, end: u64, lines: &str, kept: Kept) -> io::Result<()> {
    let written = file.write_all(lines.as_bytes()).and_then(|()| match kept {
        Kept::Written => Ok(()),
        Kept::Synced => file.sync_data(),
    });
    if written.is_err() {
        // A full disk may have taken a part.
        file.set_len(end)?;
    }
    written
}

/// A sign of life.
fn beat() -> Write {
    Write::SystemAttr(BEAT.to_owned(), Json::Int(Timestamp::now().0 / 1_000_000))
}

// The replay.

impl Replay {
    /// Reads the whole lines that are new; the length of the file, which may end in a torn one.
    fn catch_up(&mut self, mut file: &File, path: &Path) -> Result<u64> {
        let failed = || Error::io("read the journal", path);
        let len = file.metadata().map_err(failed())?.len();
        if len < self.offset {
            let got = format!("{len} bytes");
            let expected = format!("at least the {} bytes read before", self.offset);
            return Err(
                Error::corrupt("the journal", expected, got).within(path.display().to_string())
            );
        }
        if len == self.offset {
            return Ok(len);
        }
        file.seek(SeekFrom::Start(self.offset)).map_err(failed())?;
        let mut new = Vec::new();
        file.take(len - self.offset).read_to_end(&mut new).map_err(failed())?;
        let whole = new.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        for line in new[..whole].split_inclusive(|&byte| byte == b'\n') {
            let text = std::str::from_utf8(line).map_err(|e| Error::corrupt("text", "UTF-8", e));
            let operation = text.and_then(Json::parse);
            let applied = operation.and_then(|operation| self.apply(&operation));
            applied
                .map_err(|e| e.within(format!("line {} of {}", self.line + 1, path.display())))?;
            self.offset += line.len() as u64;
            self.line += 1;
        }
        self.keep_index(path);
        Ok(len)
    }

    /// Keeps an index if one is due.
    fn keep_index(&mut self, path: &Path) {
        if index::is_due(self.indexed, self.offset) {
            index::keep(path, &self.state, self.offset, self.line);
            self.indexed = self.offset;
        }
    }

    /// Does what a line says. What the state does not admit (another worker was faster) changes
    /// nothing, for every reader alike; what is no operation at all is an error.
    fn apply(&mut self, json: &Json) -> Result<()> {
        let operation = Operation(json);
        let Self { state, distributions, .. } = self;
        let study = || operation.int("study_id").map(StudyId);
        let trial = || operation.int("trial_id").map(TrialId);
        let admitted = match operation.int("op_code")? {
            0 => {
                let name = operation.text("study_name")?;
                let directions = operation.directions()?;
                state.create_study(name, &directions).map(drop)
            }
            1 => state.delete_study(study()?),
            2 | 3 => {
                let id = study()?;
                let (key, owner) = match operation.int("op_code")? {
                    2 => ("user_attr", Owner::StudyUser(id)),
                    _ => ("system_attr", Owner::StudySystem(id)),
                };
                let attrs = operation.attrs(key)?;
                attrs
                    .into_iter()
                    .try_for_each(|(key, value)| state.set_study_attr(owner, &key, value))
            }
            4 => {
                let template = operation.template(distributions)?;
                let started = template.started.unwrap_or(Timestamp(0));
                state.create_trial(study()?, Some(&template), started).map(drop)
            }
            5 => {
                let param = Write::Param {
                    name: operation.text("param_name")?.into(),
                    value: operation.float("param_value_internal")?,
                    distribution: distributions.of(operation.text("distribution")?)?,
                };
                state.write(trial()?, &[param], Timestamp(0))
            }
            6 => {
                let now = state_of(operation.int("state")?)?;
                match now {
                    TrialState::Running => {
                        let started = operation.time("datetime_start")?.unwrap_or(Timestamp(0));
                        state.claim(trial()?, started).map(drop)
                    }
                    TrialState::Waiting => Ok(()),
                    finished => {
                        let completed = operation.time("datetime_complete")?;
                        let values = operation.values()?;
                        let finish = Write::Finish { state: finished, values };
                        state.write(trial()?, &[finish], completed.unwrap_or(Timestamp(0)))
                    }
                }
            }
            7 => {
                let step = operation.int("step")?.unsigned_abs();
                let value = operation.float("intermediate_value")?;
                state.write(trial()?, &[Write::Intermediate { step, value }], Timestamp(0))
            }
            code @ (8 | 9) => {
                let key = if code == 8 { "user_attr" } else { "system_attr" };
                let wrap = if code == 8 { Write::UserAttr } else { Write::SystemAttr };
                let attrs = operation.attrs(key)?.into_iter();
                let writes: Vec<Write> = attrs.map(|(key, value)| wrap(key, value)).collect();
                state.write(trial()?, &writes, Timestamp(0))
            }
            10 => Ok(()), // Rustuna's, which Optuna 5.0 ignores, too.
            other => return Err(Error::corrupt("an operation", "a code from 0 to 10", other)),
        };
        if let Err(reason) = admitted {
            tracing::debug!(line = self.line + 1, reason = reason.chain(), "an operation was void");
        }
        Ok(())
    }
}

/// The fields of a line.
#[derive(Clone, Copy)]
struct Operation<'a>(&'a Json);

impl<'a> Operation<'a> {
    fn field<T>(self, key: &str, read: impl FnOnce(&'a Json) -> Option<T>) -> Result<T> {
        let field = self.0.get(key).and_then(read);
        field.ok_or_else(|| Error::corrupt("an operation", format!("a sound `{key}`"), self.0))
    }

    fn int(self, key: &str) -> Result<i64> {
        self.field(key, Json::as_i64)
    }

    fn float(self, key: &str) -> Result<f64> {
        self.field(key, Json::as_f64)
    }

    fn text(self, key: &str) -> Result<&'a str> {
        self.field(key, Json::as_str)
    }

    fn directions(self) -> Result<Vec<Direction>> {
        let direction = |json: &Json| match json.as_i64()? {
            0 | 1 => Some(Direction::Minimize),
            2 => Some(Direction::Maximize),
            _ => None,
        };
        self.field("directions", |json| json.as_array()?.iter().map(direction).collect())
    }

    fn attrs(self, key: &str) -> Result<Attrs> {
        self.field(key, |json| json.as_object().cloned().map(Attrs::from))
    }

    fn time(self, key: &str) -> Result<Option<Timestamp>> {
        match self.0.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(_) => self.field(key, |json| {
                let nanos = mm_core::rfc3339::parse(json.as_str()?)?;
                Some(Some(Timestamp(nanos.div_euclid(1000))))
            }),
        }
    }

    fn values(self) -> Result<Vec<f64>> {
        match (self.0.get("values"), self.0.get("value")) {
            (Some(Json::Array(values)), _) => {
                let all: Option<Vec<f64>> = values.iter().map(Json::as_f64).collect();
                self.field("values", |_| all)
            }
            (_, Some(value)) => Ok(value.as_f64().into_iter().collect()),
            _ => Ok(Vec::new()),
        }
    }

    /// The trial that a line of code 4 makes: a running one without more, or a whole one.
    fn template(self, known: &mut Distributions) -> Result<FrozenTrial> {
        let distributions = self.0.get("distributions").and_then(Json::as_object);
        let distributions = distributions.into_iter().flatten();
        let param = |(name, text): (&String, &Json)| {
            let text = text
                .as_str()
                .ok_or_else(|| Error::corrupt("a distribution", "JSON in a text", text))?;
            let value = self.field("params", |json| json.get(name)?.as_f64())?;
            Ok(Param { name: name.as_str().into(), value, distribution: known.of(text)? })
        };
        let report = |(step, value): (&String, &Json)| Some((step.parse().ok()?, value.as_f64()?));
        let reports = self.0.get("intermediate_values").and_then(Json::as_object);
        let object = |key| self.0.get(key).and_then(Json::as_object).cloned();
        let attrs = |key| object(key).map_or_else(Attrs::new, Attrs::from);
        Ok(FrozenTrial {
            id: TrialId(0),
            number: 0,
            state: match self.0.get("state") {
                None => TrialState::Running,
                Some(_) => state_of(self.int("state")?)?,
            },
            values: self.values()?,
            params: distributions.map(param).collect::<Result<_>>()?,
            intermediate: reports.into_iter().flatten().filter_map(report).collect(),
            user_attrs: attrs("user_attrs"),
            system_attrs: attrs("system_attrs"),
            started: self.time("datetime_start")?,
            completed: self.time("datetime_complete")?,
        })
    }
}

/// By the code that stands in a journal.
const STATES: [TrialState; 5] = [
    TrialState::Running,
    TrialState::Complete,
    TrialState::Pruned,
    TrialState::Fail,
    TrialState::Waiting,
];

pub(super) fn code_of(state: TrialState) -> i64 {
    STATES.iter().position(|&known| known == state).map_or(0, |code| code as i64)
}

pub(super) fn state_of(code: i64) -> Result<TrialState> {
    let state = usize::try_from(code).ok().and_then(|code| STATES.get(code).copied());
    state.ok_or_else(|| Error::corrupt("an operation", "a state from 0 to 4", code))
}

fn floats(values: &[f64]) -> Json {
    if values.is_empty() {
        return Json::Null;
    }
    Json::Array(values.iter().copied().map(Json::Float).collect())
}

/// As Optuna 5.0 writes it: `2026-11-21T23:35:40.499011+00:00`.
fn time_json(time: Option<Timestamp>) -> Json {
    let text = |time: Timestamp| {
        let text = mm_core::rfc3339::format(time.0.saturating_mul(1000));
        Json::Text(text.replace('Z', "+00:00"))
    };
    time.map_or(Json::Null, text)
}

impl Storage for JournalStorage {
    fn create_study(&self, name: &str, directions: &[Direction]) -> Result<StudyRecord> {
        super::check_study(name, directions)?;
        let codes = directions.iter().map(|direction| match direction {
            Direction::Minimize => Json::Int(1),
            Direction::Maximize => Json::Int(2),
        });
        let codes = Json::Array(codes.collect());
        let plan = |state: &mut State| {
            if state.study(name).is_some() {
                return Err(super::taken(name));
            }
            let fields = [("study_name", Json::from(name)), ("directions", codes)];
            Ok(((), vec![self.0.operation(0, fields)]))
        };
        self.0.append(Kept::Synced, plan, |state, ()| {
            let made = state.study(name).cloned();
            made.ok_or_else(|| Error::NotFound { what: "study", name: name.to_owned() })
        })
    }

    fn study(&self, name: &str) -> Result<Option<StudyRecord>> {
        self.read(|state| state.study(name).cloned())
    }

    fn studies(&self) -> Result<Vec<StudyRecord>> {
        self.read(|state| state.studies().cloned().collect())
    }

    fn delete_study(&self, study: StudyId) -> Result<()> {
        let plan = |state: &mut State| {
            drop(state.running(study)?);
            Ok(((), vec![self.0.operation(1, [("study_id", Json::Int(study.0))])]))
        };
        self.0.append(Kept::Synced, plan, |_, ()| Ok(()))
    }

    fn start_trial(
        &self,
        study: StudyId,
        below: Option<u64>,
        beats: bool,
    ) -> Result<Option<FrozenTrial>> {
        let plan = |state: &mut State| {
            if !state.has_room(study, below)? {
                return Ok((None, Vec::new()));
            }
            let id = state.next_trial();
            let started = time_json(Some(Timestamp::now()));
            let fields = [("study_id", Json::Int(study.0)), ("datetime_start", started)];
            let mut operations = vec![self.0.operation(4, fields)];
            operations.extend(beats.then(|| self.0.operation_of(id, &beat())));
            Ok((Some(id), operations))
        };
        self.0.append(Kept::Written, plan, made)
    }

    fn create_trial(&self, study: StudyId, template: Option<&FrozenTrial>) -> Result<FrozenTrial> {
        let Some(template) = template else {
            let made = self.start_trial(study, None, false)?;
            return made.ok_or_else(|| super::not_found("study", study.0));
        };
        let plan = |state: &mut State| {
            state.check_new(study, template)?;
            Ok((state.next_trial(), vec![self.0.operation_new(study, template)]))
        };
        self.0.append(Kept::Synced, plan, |state, id| Ok((**state.trial(id)?).clone()))
    }

    fn claim(&self, trial: TrialId, beats: bool) -> Result<bool> {
        let plan = |state: &mut State| {
            if state.trial(trial)?.state != TrialState::Waiting {
                return Ok((false, Vec::new()));
            }
            let fields = [
                ("trial_id", Json::Int(trial.0)),
                ("state", Json::Int(code_of(TrialState::Running))),
                ("values", Json::Null),
                ("datetime_start", time_json(Some(Timestamp::now()))),
            ];
            let mut operations = vec![self.0.operation(6, fields)];
            operations.extend(beats.then(|| self.0.operation_of(trial, &beat())));
            Ok((true, operations))
        };
        self.0.append(Kept::Written, plan, |_, won| Ok(won))
    }

    fn replace(&self, trial: TrialId, copy: &FrozenTrial) -> Result<Option<FrozenTrial>> {
        self.0.write_behind();
        let plan = |state: &mut State| {
            let Some(study) = state.study_of_running(trial)? else {
                return Ok((None, Vec::new()));
            };
            state.check_new(study, copy)?;
            let failed = Write::Finish { state: TrialState::Fail, values: Vec::new() };
            let operations =
                vec![self.0.operation_of(trial, &failed), self.0.operation_new(study, copy)];
            Ok((Some(state.next_trial()), operations))
        };
        self.0.append(Kept::Synced, plan, made)
    }

    fn write(&self, trial: TrialId, writes: &[Write]) -> Result<()> {
        if let [param @ Write::Param { .. }] = writes
            && self.leaves_behind(trial, param)?
        {
            return Ok(());
        }
        let written = self.0.write(trial, writes);
        if !matches!(written, Ok(()) | Err(Error::Io { .. })) {
            // What was refused is not tried again.
            self.0.behind.forget(trial);
        }
        written
    }

    fn set_study_attr(&self, owner: Owner, key: &str, value: &Json) -> Result<()> {
        let (code, field, study) = match owner {
            Owner::StudyUser(study) => (2, "user_attr", study),
            Owner::StudySystem(study) => (3, "system_attr", study),
        };
        let attr = Json::Object([(key.to_owned(), value.clone())].into());
        let plan = |state: &mut State| {
            drop(state.running(study)?);
            let fields = [("study_id", Json::Int(study.0)), (field, attr)];
            Ok(((), vec![self.0.operation(code, fields)]))
        };
        self.0.append(Kept::Synced, plan, |_, ()| Ok(()))
    }

    fn trial(&self, trial: TrialId) -> Result<Arc<FrozenTrial>> {
        self.read(|state| state.trial(trial).cloned())?
    }

    fn changes(
        &self,
        study: StudyId,
        after: Option<TrialId>,
        unfinished: &[TrialId],
    ) -> Result<Vec<Arc<FrozenTrial>>> {
        self.read(|state| state.changes(study, after, unfinished))?
    }

    fn beat(&self, trial: TrialId) -> Result<()> {
        self.write(trial, &[beat()])
    }

    fn stale(&self, study: StudyId, grace: u64) -> Result<Vec<TrialId>> {
        let latest = Timestamp::now().0 / 1_000_000 - grace as i64;
        self.read(|state| {
            let is_late = |trial: &&Arc<FrozenTrial>| {
                let beat = trial.system_attrs.get(BEAT).and_then(Json::as_i64);
                beat.is_some_and(|beat| beat < latest)
            };
            Ok(state.running(study)?.filter(is_late).map(|trial| trial.id).collect())
        })?
    }
}

#[cfg(test)]
mod tests {
    use mm_core::{FloatRange, IntRange};

    use super::*;
    use crate::distribution::Distribution;

    fn param(name: &str, distribution: Distribution) -> Write {
        Write::Param { name: name.into(), value: 1.0, distribution: Arc::new(distribution) }
    }

    /// Two workers at one journal, the first without its thread, and a running trial of each.
    fn two(
        name: &str,
        test: impl FnOnce([&JournalStorage; 2], [TrialId; 2]) -> Result<()>,
    ) -> Result<()> {
        let folder = std::env::temp_dir().join(format!("mm-behind-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("study.log");
        let workers = [JournalStorage::open(&path)?, JournalStorage::open(&path)?];
        workers[0].0.is_writing.set(true).expect("not yet");
        let study = workers[0].create_study("study", &[Direction::Minimize])?.id;
        let begin = || workers[0].create_trial(study, None).map(|trial| trial.id);
        let trials = [begin()?, begin()?];
        workers[1].trial(trials[1])?;
        test([&workers[0], &workers[1]], trials)?;
        drop(workers);
        fs::remove_dir_all(folder).map_err(Error::io("remove", "the folder"))
    }

    const FAILED: Write = Write::Finish { state: TrialState::Fail, values: Vec::new() };

    #[test]
    fn what_is_behind_is_written_before_what_follows_it() -> Result<()> {
        two("order", |[here, there], [trial, _]| {
            let x = param("x", Distribution::Float(FloatRange::new(0.0, 1.0)));
            here.write(trial, &[x])?;
            assert!(there.trial(trial)?.params.is_empty(), "not yet");
            here.write(trial, &[Write::Intermediate { step: 1, value: 0.5 }])?;
            let seen = there.trial(trial)?;
            assert!(seen.params.get("x").is_some() && seen.intermediate.len() == 1);
            // Its own worker sees it at once.
            let y = param("y", Distribution::Float(FloatRange::new(0.0, 1.0)));
            here.write(trial, &[y])?;
            assert!(here.trial(trial)?.params.get("y").is_some());
            Ok(())
        })
    }

    #[test]
    fn a_parameter_that_others_have_made_impossible_meanwhile_is_an_error_once() -> Result<()> {
        two("refused", |[here, there], [own, other]| {
            here.write(own, &[param("x", Distribution::Float(FloatRange::new(0.0, 1.0)))])?;
            let ints = param("x", Distribution::Int(IntRange::new(0, 9)));
            there.0.write(other, &[ints])?;
            let complete = Write::Finish { state: TrialState::Complete, values: vec![1.0] };
            let told = here.write(own, &[complete]);
            assert!(matches!(told, Err(Error::Data { .. })), "{told:?}");
            here.write(own, &[FAILED])?;
            assert_eq!(there.trial(own)?.state, TrialState::Fail);
            Ok(())
        })
    }

    #[test]
    fn what_is_behind_of_a_trial_that_others_have_ended_is_forgotten() -> Result<()> {
        two("ended", |[here, there], [trial, _]| {
            here.write(trial, &[param("x", Distribution::Float(FloatRange::new(0.0, 1.0)))])?;
            there.write(trial, &[FAILED])?;
            let late = here.write(trial, &[Write::Intermediate { step: 1, value: 0.5 }]);
            assert!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
            assert!(here.0.behind.of(trial).is_empty());
            assert!(here.trial(trial)?.params.is_empty());
            Ok(())
        })
    }
}
