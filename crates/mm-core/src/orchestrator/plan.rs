//! What is to be trained, as data: read from TOML, or built with the same fields.

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::tuning::TunePlan;
use crate::{
    catalog::Catalog,
    data::{Dataset, Roles, Source},
    error::{Error, ParamError, Result},
    learner::{BoxLearner, Params},
    metric::Metric,
    split::SplitPlan,
};

/// Everything that one run of the [`Orchestrator`](crate::Orchestrator) is told.
///
/// | key | default | meaning |
/// | --- | --- | --- |
/// | `name` | `"plan"` | names the run in reports and, unless told otherwise, in the registry |
/// | `seed` | 0 | all randomness of the run derives from it |
/// | `data` | none | file and roles of its columns; may be left out when the data are in memory |
/// | `split` | [`SplitPlan::default_for`] the data | how rows are parted for cross-fitting |
/// | `metric` | [`Metric::default_for`] the task | what the leaderboard is ranked by |
/// | `also` | `[]` | further metrics on the leaderboard |
/// | `validation` | none | the part, in (0, 1), of each fit's training rows held out for early stopping |
/// | `candidates` | | at least one |
/// | `ensembles` | `[]` | built from the candidates' out-of-fold predictions |
/// | `refit` | `true` | whether what succeeded is fitted to all rows at the end |
/// | `budget` | no limits | threads and times |
/// | `checkpoint` | none | folder in which finished work is kept, and the state of long fits that can go on from it, so that a killed run resumes |
/// | `registry` | none | where the winner is published |
///
/// ```
/// let plan: mm_core::Plan = r#"
///     metric = "roc_auc"
///     split = { kind = "time_series", folds = 4 }
///
///     [[candidates]]
///     kind = "lightgbm"
///     params = { rounds = 200 }
/// "#
/// .parse()?;
/// assert_eq!(plan.candidates[0].name(), "lightgbm");
///
/// let err = "metrik = \"rmse\"".parse::<mm_core::Plan>().expect_err("misspelt");
/// assert!(err.to_string().contains("unknown field `metrik`"));
/// # Ok::<(), mm_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Plan {
    /// The run's name.
    pub name: String,
    /// All randomness of the run derives from it.
    pub seed: u64,
    /// Where the data are, and what their columns are for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<DataPlan>,
    /// How rows are parted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitPlan>,
    /// What the leaderboard is ranked by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
    /// Further metrics on the leaderboard.
    pub also: Vec<Metric>,
    /// The part of each fit's training rows held out for early stopping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<f64>,
    /// What is fitted.
    pub candidates: Vec<Candidate>,
    /// What is built from the candidates.
    pub ensembles: Vec<EnsemblePlan>,
    /// Whether what succeeded is fitted to all rows at the end.
    pub refit: bool,
    /// Threads and times.
    pub budget: Budget,
    /// Where finished work is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<PathBuf>,
    /// Where the winner is published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryPlan>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            name: "plan".to_owned(),
            seed: 0,
            data: None,
            split: None,
            metric: None,
            also: Vec::new(),
            validation: None,
            candidates: Vec::new(),
            ensembles: Vec::new(),
            refit: true,
            budget: Budget::default(),
            checkpoint: None,
            registry: None,
        }
    }
}

/// A data file and the roles of its columns: in TOML, `path` beside the keys of [`Roles`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
#[non_exhaustive]
pub struct DataPlan {
    /// A CSV file, or a Parquet file where the feature is on; relative to the plan's folder.
    pub path: PathBuf,
    /// What the columns are for.
    pub roles: Roles,
}

impl DataPlan {
    /// The file at `path`, its columns in the given roles.
    pub fn new(path: impl Into<PathBuf>, roles: Roles) -> Self {
        Self { path: path.into(), roles }
    }

    /// Reads the file. What was found in it goes to the log, at level `info`.
    pub fn read(&self, threads: NonZeroUsize) -> Result<Dataset> {
        let source = Source::open(&self.path)?.with_threads(threads);
        let (data, report) = source.dataset(&self.roles)?;
        tracing::info!(path = %self.path.display(), "read\n{report}");
        Ok(data)
    }
}

// By hand, since serde's `flatten` would let misspelt keys through.
impl TryFrom<Map<String, Value>> for DataPlan {
    type Error = String;

    fn try_from(mut map: Map<String, Value>) -> Result<Self, String> {
        let path = map.remove("path").ok_or("missing field `path`")?;
        let path = serde_json::from_value(path).map_err(|e| format!("path: {e}"))?;
        let roles = serde_json::from_value(Value::Object(map)).map_err(|e| e.to_string())?;
        Ok(Self { path, roles })
    }
}

impl From<DataPlan> for Map<String, Value> {
    fn from(data: DataPlan) -> Self {
        let mut map = match serde_json::to_value(data.roles) {
            Ok(Value::Object(map)) => map,
            _ => Self::new(),
        };
        map.insert("path".to_owned(), Value::String(data.path.display().to_string()));
        map
    }
}

/// One learner to be fitted: a kind of the catalog with its params.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Candidate {
    /// The name on the leaderboard; the kind, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A kind of the catalog.
    pub kind: String,
    /// Its params; what is left out has its default.
    #[serde(default = "empty")]
    pub params: Value,
    /// How better params are searched for; not at all, if left out. Of a plan's candidates alone: a
    /// member of a composite is searched with the whole, by the `tune` of the composite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tune: Option<TunePlan>,
}

pub(super) fn empty() -> Value {
    Value::Object(Map::new())
}

impl Candidate {
    /// A candidate of `kind` with typed params.
    pub fn new<P: Params>(kind: impl Into<String>, params: &P) -> Self {
        // Params derive `Serialize` with string keys; a failure would be one of theirs.
        let params = serde_json::to_value(params).unwrap_or_else(|_| empty());
        Self { name: None, kind: kind.into(), params, tune: None }
    }

    /// The same with params that are searched for; those that it has are fixed as far as its own
    /// config says: see [`of_kind`](Self::of_kind).
    #[must_use]
    pub fn tuned(self, tune: TunePlan) -> Self {
        Self { tune: Some(tune), ..self }
    }

    /// A candidate of `kind` with nothing said of its params.
    pub fn of_kind(kind: impl Into<String>) -> Self {
        Self { name: None, kind: kind.into(), params: empty(), tune: None }
    }

    /// The same under another name.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// The name on the leaderboard.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.kind)
    }

    /// An error if a part of a composite, which is called `place` there, has a `tune` of its own.
    pub fn ensure_untuned(&self, place: &str) -> Result<()> {
        if self.tune.is_none() {
            return Ok(());
        }
        let problem = "expected no `tune` within a composite, whose own `tune` searches the params \
                       of its members, too";
        Err(Error::config(format!("{place}.tune"), problem))
    }

    /// The learner of a member of a composite, which is called `place` there.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the member has a `tune` of its own; otherwise as [`Catalog::learner`].
    pub fn member(&self, catalog: &Catalog, place: &str) -> Result<BoxLearner> {
        self.ensure_untuned(place)?;
        catalog.learner(&self.kind, self.params.clone()).map_err(|e| e.within(place))
    }
}

/// One ensemble to be built from out-of-fold predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct EnsemblePlan {
    /// The name on the leaderboard; the kind, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A combiner of the catalog, for example `average`.
    pub kind: String,
    /// Names of candidates; all that succeed, if left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// The combiner's params.
    #[serde(default = "empty")]
    pub params: Value,
}

impl EnsemblePlan {
    /// An ensemble of all candidates, with default params.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { name: None, kind: kind.into(), members: Vec::new(), params: empty() }
    }

    /// The same under another name.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// The same with params of the combiner.
    #[must_use]
    pub fn with_params(self, params: Value) -> Self {
        Self { params, ..self }
    }

    /// The name on the leaderboard.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.kind)
    }

    /// Whether the candidate called `name` is to be a member.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.is_empty() || self.members.iter().any(|member| member == name)
    }
}

/// Threads and times.
///
/// | key | default | meaning |
/// | --- | --- | --- |
/// | `threads` | all processors | of the whole run, at most 1024; results do not depend on it |
/// | `seconds` | no limit | for the whole run; when it is up, fits return what they have and the rest is left out |
/// | `fit_seconds` | no limit | for each single fit |
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Budget {
    /// Threads of the whole run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Seconds of the whole run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Seconds of each fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit_seconds: Option<f64>,
}

/// Where the winner is published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RegistryPlan {
    /// The registry's folder; relative to the plan's folder.
    pub path: PathBuf,
    /// The model's name in it; the plan's name, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// An alias that is moved to the new version, for example `champion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
}

impl RegistryPlan {
    /// Publishes into the registry at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), model: None, alias: None }
    }

    /// The same, moving `alias` to the new version.
    #[must_use]
    pub fn with_alias(self, alias: impl Into<String>) -> Self {
        Self { alias: Some(alias.into()), ..self }
    }
}

impl std::str::FromStr for Plan {
    type Err = Error;

    /// Reads TOML. A misspelt key, a wrong type, or a missing key is an error with its place.
    fn from_str(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| Error::Config {
            place: e.span().map_or_else(
                || "plan".to_owned(),
                |span| format!("plan, line {}", 1 + text[..span.start].matches('\n').count()),
            ),
            problem: e.message().to_owned(),
        })
    }
}

impl Plan {
    /// A plan for the given candidates, everything else at its default.
    pub fn new(candidates: impl IntoIterator<Item = Candidate>) -> Self {
        Self { candidates: candidates.into_iter().collect(), ..Self::default() }
    }

    /// Edits in place, for chaining.
    #[must_use]
    pub fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }

    /// Reads a TOML file; relative paths in it are taken from its folder.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        let plan: Self = text.parse().map_err(|e: Error| e.within(path.display().to_string()))?;
        Ok(plan.relative_to(path.parent().unwrap_or(Path::new(""))))
    }

    /// The plan as TOML. TOML has no null, so params that are `None` are left out: they read back
    /// as their default, which for an `Option` is `None`.
    pub fn to_toml(&self) -> Result<String> {
        let config = |problem: String| Error::config("plan", problem);
        let mut plan = serde_json::to_value(self).map_err(|e| config(e.to_string()))?;
        drop_nulls(&mut plan);
        toml::to_string_pretty(&plan).map_err(|e| config(e.to_string()))
    }

    /// The name under which the winner is published.
    pub(crate) fn model_name(&self) -> &str {
        self.registry.as_ref().and_then(|r| r.model.as_deref()).unwrap_or(&self.name)
    }

    /// The same with relative paths taken from `folder`.
    #[must_use]
    pub fn relative_to(mut self, folder: impl AsRef<Path>) -> Self {
        let folder = folder.as_ref();
        let paths = [
            self.data.as_mut().map(|data| &mut data.path),
            self.checkpoint.as_mut(),
            self.registry.as_mut().map(|registry| &mut registry.path),
        ];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&*path); // An absolute path stays as it is.
        }
        self.candidates
            .iter_mut()
            .filter_map(|c| c.tune.as_mut())
            .for_each(|tune| tune.relative_to(folder));
        self
    }

    /// What can be checked without the catalog and the data.
    /// `own` are the names of candidates that the plan does not have.
    pub(crate) fn check(&self, own: &[&str]) -> Result<()> {
        let mut names: Vec<&str> = self.candidates.iter().map(Candidate::name).collect();
        names.extend(own);
        if names.is_empty() {
            return Err(Error::config("candidates", "expected at least 1 candidate, got none"));
        }
        let n_candidates = names.len();
        names.extend(self.ensembles.iter().map(EnsemblePlan::name));
        check_distinct("candidates and ensembles", &names)?;
        for (i, ensemble) in self.ensembles.iter().enumerate() {
            let place = format!("ensembles.{i}.members");
            let members: Vec<&str> = ensemble.members.iter().map(String::as_str).collect();
            if let Some(name) = members.iter().find(|name| !names[..n_candidates].contains(name)) {
                let problem = format!("expected names of candidates, got `{name}`");
                return Err(Error::config(place, problem));
            }
            check_distinct(&place, &members)?;
        }
        if let Some(part) = self.validation {
            let ok = 0.0 < part && part < 1.0;
            ParamError::ensure(ok, "validation", part, "a number in (0, 1)")?;
        }
        self.budget.check()?;
        if let Some(metric) = &self.metric {
            metric.check("metric")?;
        }
        for metric in &self.also {
            metric.check("also")?;
        }
        Ok(())
    }
}

fn check_distinct(place: &str, names: &[&str]) -> Result<()> {
    for (i, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(Error::config(place, "expected a name, got none"));
        }
        if names[..i].contains(name) {
            let problem = format!("expected distinct names, got `{name}` twice");
            return Err(Error::config(place, problem));
        }
    }
    Ok(())
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

impl Budget {
    // More are a slip, and a native engine that cannot start them ends the process.
    const MAX_THREADS: usize = 1024;

    /// The threads of the whole run.
    pub(super) fn threads(&self) -> NonZeroUsize {
        let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.threads.and_then(NonZeroUsize::new).unwrap_or_else(cores)
    }

    fn check(&self) -> Result<(), ParamError> {
        if let Some(threads) = self.threads {
            let ok = 1 <= threads && threads <= Self::MAX_THREADS;
            let expected = format!("a number from 1 to {}", Self::MAX_THREADS);
            ParamError::ensure(ok, "budget.threads", threads, expected)?;
        }
        for (name, seconds) in
            [("budget.seconds", self.seconds), ("budget.fit_seconds", self.fit_seconds)]
        {
            if let Some(seconds) = seconds {
                let ok = Duration::try_from_secs_f64(seconds).is_ok() && 0.0 < seconds;
                ParamError::ensure(ok, name, seconds, "a number of seconds above 0")?;
            }
        }
        Ok(())
    }
}
