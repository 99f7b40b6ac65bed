//! Where studies live. All that several workers share, they share through a [`Storage`].
//!
//! The semantics are Optuna's, so that its workers and its dashboard can use the same storage at
//! the same time: a trial is numbered by its place in the study, a waiting trial is claimed by
//! exactly one worker, a finished trial never changes.

mod behind;
mod index;
mod journal;
mod lock;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
mod state;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use mm_core::{Direction, Error, ParamError, Result};

#[cfg(feature = "postgres")]
pub use self::postgres::PostgresStorage;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStorage;
pub use self::{journal::JournalStorage, memory::MemoryStorage};

use crate::{
    attrs::Attrs,
    distribution::Distribution,
    json::Json,
    trial::{FrozenTrial, Param, ParamSet, StudyId, Timestamp, TrialId, TrialState},
};

/// What a storage knows of a study, besides its trials.
#[derive(Debug, Clone, PartialEq)]
pub struct StudyRecord {
    /// Its key.
    pub id: StudyId,
    /// Its name, unique in the storage.
    pub name: String,
    /// Which way each objective is better; at least one.
    pub directions: Vec<Direction>,
    /// What users noted.
    pub user_attrs: Attrs,
    /// What samplers and others noted.
    pub system_attrs: Attrs,
}

/// The study whose attribute is set, and whether it is the user's or the system's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A note of the user.
    StudyUser(StudyId),
    /// A note of a sampler or another part of the system.
    StudySystem(StudyId),
}

/// One write to a trial; several are written together with [`Storage::write`].
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Sets a parameter, in internal form.
    Param {
        /// Its name.
        name: Arc<str>,
        /// Its value.
        value: f64,
        /// What it was drawn from.
        distribution: Arc<Distribution>,
    },
    /// Sets the value reported at a step.
    Intermediate {
        /// The step.
        step: u64,
        /// The value; may be NaN or infinite.
        value: f64,
    },
    /// Notes for the user.
    UserAttr(String, Json),
    /// Notes for samplers and others.
    SystemAttr(String, Json),
    /// Ends the trial: the values first, then the state, in one step.
    Finish {
        /// `Complete`, `Pruned`, or `Fail`.
        state: TrialState,
        /// The objective's values; never NaN.
        values: Vec<f64>,
    },
}

impl Write {
    /// The parameter that it sets, if it sets one.
    fn param(&self) -> Option<Param> {
        match self {
            Self::Param { name, value, distribution } => {
                let (name, distribution) = (name.clone(), distribution.clone());
                Some(Param { name, value: *value, distribution })
            }
            _ => None,
        }
    }
}

impl From<Param> for Write {
    fn from(Param { name, value, distribution }: Param) -> Self {
        Self::Param { name, value, distribution }
    }
}

/// A place for studies, shared by threads, processes, or hosts.
///
/// Every method either does all of what it says or returns an error and does nothing.
pub trait Storage: fmt::Debug + Send + Sync {
    /// Whether workers of other processes may have a part in the studies, so that what concerns them has
    /// to be written down.
    fn is_shared(&self) -> bool {
        true
    }

    /// Makes a study. [`Error::Conflict`] if the name is taken.
    fn create_study(&self, name: &str, directions: &[Direction]) -> Result<StudyRecord>;

    /// The study of that name, if there is one.
    fn study(&self, name: &str) -> Result<Option<StudyRecord>>;

    /// All studies, by key.
    fn studies(&self) -> Result<Vec<StudyRecord>>;

    /// Removes a study with its trials.
    fn delete_study(&self, study: StudyId) -> Result<()>;

    /// Makes a running trial with nothing in it, whose heart has beaten once if `beats` says so; or
    /// none, if the study has `below` trials already. Copies of trials that died do not count:
    /// they have the attribute [`FAILED`].
    fn start_trial(
        &self,
        study: StudyId,
        below: Option<u64>,
        beats: bool,
    ) -> Result<Option<FrozenTrial>>;

    /// Makes a trial: of state `Running` with nothing in it, or as `template` says (an enqueued one
    /// is `Waiting`). Its id and number are given by the storage.
    fn create_trial(&self, study: StudyId, template: Option<&FrozenTrial>) -> Result<FrozenTrial>;

    /// Claims a waiting trial: of several who try, one gets `true`. Its heart has then beaten once,
    /// if `beats` says so.
    fn claim(&self, trial: TrialId, beats: bool) -> Result<bool>;

    /// Ends a running trial as failed and makes `copy` in its study, in one step: what takes the
    /// place of a trial whose worker died. Of several who try, one gets the copy; the others get
    /// `None`, as they do for a trial that is no longer running.
    fn replace(&self, trial: TrialId, copy: &FrozenTrial) -> Result<Option<FrozenTrial>>;

    /// Writes to an unfinished trial, all or nothing. [`Error::Conflict`] if it is
    /// finished; an error if a parameter's distribution is unlike the study's earlier ones.
    fn write(&self, trial: TrialId, writes: &[Write]) -> Result<()>;

    /// Sets an attribute of a study; those of trials go by [`write`](Self::write).
    fn set_study_attr(&self, owner: Owner, key: &str, value: &Json) -> Result<()>;

    /// One trial as it is now.
    fn trial(&self, trial: TrialId) -> Result<Arc<FrozenTrial>>;

    /// The trials whose id is above `after` or among `unfinished`, by id: what a reader who knew
    /// all up to `after`, and of those `unfinished` as not finished, has to learn.
    fn changes(
        &self,
        study: StudyId,
        after: Option<TrialId>,
        unfinished: &[TrialId],
    ) -> Result<Vec<Arc<FrozenTrial>>>;

    /// Notes that the worker of `trial` is alive, by the storage's clock.
    fn beat(&self, trial: TrialId) -> Result<()>;

    /// Running trials of `study` that have beaten once and not for `grace` seconds.
    fn stale(&self, study: StudyId, grace: u64) -> Result<Vec<TrialId>>;
}

/// The attribute in which the copy of a trial that died says which trial it was at first.
pub const FAILED: &str = "failed_trial";

/// Optuna's attribute with the numbers of all trials that a copy takes the place of, in order.
pub const HISTORY: &str = "retry_history";

/// Opens the storage that `place` names: a SQLite file (`.db`, `.sqlite`, `.sqlite3`), a PostgreSQL
/// address (`postgresql://…`), or else a journal file. What is not there is made.
///
/// # Errors
///
/// [`Error::Config`] for another kind of address, or one that this build lacks the feature for;
/// otherwise as the storage's own `open`.
pub fn open(place: &str) -> Result<Arc<dyn Storage>> {
    match Place::of(place) {
        Place::Journal => Ok(Arc::new(JournalStorage::open(place)?)),
        #[cfg(feature = "sqlite")]
        Place::Sqlite => Ok(Arc::new(SqliteStorage::open(place)?)),
        #[cfg(feature = "postgres")]
        Place::Postgres => Ok(Arc::new(PostgresStorage::open(place)?)),
        Place::Unknown(problem) => Err(Error::config("storage", problem)),
    }
}

/// Whether [`open`] would know what to open.
pub(crate) fn check_place(place: &str) -> Result<()> {
    if let Place::Unknown(problem) = Place::of(place) {
        return Err(Error::config("storage", problem));
    }
    Ok(())
}

/// A storage by its address.
enum Place {
    Journal,
    #[cfg(feature = "sqlite")]
    Sqlite,
    #[cfg(feature = "postgres")]
    Postgres,
    Unknown(String),
}

impl Place {
    fn of(place: &str) -> Self {
        let is_postgres = ["postgresql://", "postgres://"].iter().any(|s| place.starts_with(s));
        let is_sqlite = [".db", ".sqlite", ".sqlite3"].iter().any(|end| place.ends_with(end));
        #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
        let lacks = |feature: &str| {
            Self::Unknown(format!("expected a build with the feature `{feature}` for `{place}`"))
        };
        if is_postgres {
            #[cfg(feature = "postgres")]
            return Self::Postgres;
            #[cfg(not(feature = "postgres"))]
            return lacks("postgres");
        }
        if place.contains("://") {
            return Self::Unknown(format!("expected a file or `postgresql://…`, got `{place}`"));
        }
        if is_sqlite {
            #[cfg(feature = "sqlite")]
            return Self::Sqlite;
            #[cfg(not(feature = "sqlite"))]
            return lacks("sqlite");
        }
        Self::Journal
    }
}

// What all storages do alike.

/// Distributions by their text: a storage holds the same ones again and again.
#[derive(Debug, Default)]
struct Distributions(HashMap<String, Arc<Distribution>>);

impl Distributions {
    fn of(&mut self, text: &str) -> Result<Arc<Distribution>> {
        // Ranges may change from trial to trial.
        const MANY: usize = 1000;
        if let Some(known) = self.0.get(text) {
            return Ok(known.clone());
        }
        let distribution = Arc::new(Distribution::try_from(&Json::parse(text)?)?);
        if self.0.len() == MANY {
            self.0.clear();
        }
        self.0.insert(text.to_owned(), distribution.clone());
        Ok(distribution)
    }
}

fn check_study(name: &str, directions: &[Direction]) -> Result<()> {
    ParamError::ensure(!name.is_empty(), "study_name", "empty", "a name")?;
    ParamError::ensure(!directions.is_empty(), "directions", "none", "at least one")?;
    Ok(())
}

fn not_found(what: &'static str, id: i64) -> Error {
    Error::NotFound { what, name: id.to_string() }
}

fn taken(name: &str) -> Error {
    Error::Conflict {
        what: format!("the studies of the storage, in which `{name}` is to be made,"),
        expected: "none of that name".to_owned(),
        found: "one".to_owned(),
    }
}

fn ensure_unfinished(state: TrialState, number: u64) -> Result<()> {
    if !state.is_finished() {
        return Ok(());
    }
    Err(Error::Conflict {
        what: format!("trial {number}"),
        expected: "running or waiting".to_owned(),
        found: format!("{state:?}").to_lowercase(),
    })
}

/// All that a trial has, as writes to it.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn writes_of(trial: &FrozenTrial) -> Vec<Write> {
    let params = trial.params.iter().cloned().map(Write::from);
    let reports = trial.intermediate.iter();
    let reports = reports.map(|(&step, &value)| Write::Intermediate { step, value });
    let user = trial.user_attrs.iter().map(|(k, v)| Write::UserAttr(k.clone(), v.clone()));
    let system = trial.system_attrs.iter().map(|(k, v)| Write::SystemAttr(k.clone(), v.clone()));
    params.chain(reports).chain(user).chain(system).collect()
}

/// A trial as `create_trial` makes it.
fn new_trial(
    id: TrialId,
    number: u64,
    template: Option<&FrozenTrial>,
    now: Timestamp,
) -> FrozenTrial {
    let blank = || FrozenTrial {
        id,
        number,
        state: TrialState::Running,
        values: Vec::new(),
        params: ParamSet::default(),
        intermediate: BTreeMap::new(),
        user_attrs: Attrs::new(),
        system_attrs: Attrs::new(),
        started: Some(now),
        completed: None,
    };
    template.map_or_else(blank, |template| FrozenTrial { id, number, ..template.clone() })
}
