//! One evaluation of the objective, as a storage holds it.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use crate::{attrs::Attrs, distribution::Distribution, json::Json};

/// The attribute of a trial that continues from another's models, with the number of that one.
pub(crate) const FROM: &str = "mm:continues";

/// A study's key in its storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StudyId(pub i64);

/// A trial's key in its storage, over all studies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrialId(pub i64);

/// Microseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The present by the system's clock.
    pub fn now() -> Self {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// Where a trial stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrialState {
    /// Being evaluated.
    Running,
    /// Evaluated.
    Complete,
    /// Given up early, as not promising.
    Pruned,
    /// Ended without a value.
    Fail,
    /// Enqueued, and claimed by nobody yet.
    Waiting,
}

impl TrialState {
    /// Whether nothing about the trial will change any more.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Complete | Self::Pruned | Self::Fail)
    }
}

/// A trial at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct FrozenTrial {
    /// Its key.
    pub id: TrialId,
    /// Its place in the study, from 0.
    pub number: u64,
    /// Where it stands.
    pub state: TrialState,
    /// The objective's values: as many as the study has directions once it is complete.
    pub values: Vec<f64>,
    /// What was tried.
    pub params: ParamSet,
    /// What was reported on the way, by step.
    pub intermediate: BTreeMap<u64, f64>,
    /// What the user noted.
    pub user_attrs: Attrs,
    /// What samplers and others noted.
    pub system_attrs: Attrs,
    /// When it was claimed.
    pub started: Option<Timestamp>,
    /// When it was finished.
    pub completed: Option<Timestamp>,
}

impl FrozenTrial {
    /// By how much the trial breaks its constraints: the sum of those above 0, which stand in the
    /// system attributes `constraints:<name>` (Optuna 5.0) or in the list `constraints` (before).
    /// 0 for a trial that keeps them all, or has none.
    pub fn violation(&self) -> f64 {
        let number = |json: &Json| json.as_f64().map_or(0.0, |x| x.max(0.0));
        self.system_attrs
            .starting_with("constraints")
            .map(|(key, value)| match value {
                Json::Array(values) if key == "constraints" => values.iter().map(number).sum(),
                value if key.starts_with("constraints:") => number(value),
                _ => 0.0,
            })
            .sum()
    }

    /// The number of the trial whose models this one continues from, on a higher rung.
    pub(crate) fn continues(&self) -> Option<u64> {
        u64::try_from(self.system_attrs.get(FROM)?.as_i64()?).ok()
    }
}

/// Parameters of a trial: few, so a sorted list.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ParamSet(Vec<Param>);

/// One parameter of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// Its name.
    pub name: Arc<str>,
    /// Its value in internal form.
    pub value: f64,
    /// What it was drawn from; shared by the trials that have the same.
    pub distribution: Arc<Distribution>,
}

impl Param {
    /// Takes over a name and a distribution that are known already, if they are equal.
    pub(crate) fn share(&mut self, name: &Arc<str>, distribution: &Arc<Distribution>) {
        if self.name == *name {
            self.name = name.clone();
        }
        if self.distribution == *distribution {
            self.distribution = distribution.clone();
        }
    }
}

impl ParamSet {
    /// Takes over names and distributions of another trial, so that they are kept once.
    pub(crate) fn share(&mut self, other: &Self) {
        for param in &mut self.0 {
            if let Some(known) = other.get(&param.name) {
                param.share(&known.name, &known.distribution);
            }
        }
        self.fit();
    }

    /// Gives back memory that no parameter needs.
    pub(crate) fn fit(&mut self) {
        self.0.shrink_to_fit();
    }

    /// The parameter of that name.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.position(name).ok().map(|i| &self.0[i])
    }

    /// Adds a parameter, or replaces that of the same name.
    pub fn insert(&mut self, param: Param) {
        match self.position(&param.name) {
            Ok(i) => self.0[i] = param,
            Err(i) => self.0.insert(i, param),
        }
    }

    /// By name, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Param> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|param| (*param.name).cmp(name))
    }
}

impl<'a> IntoIterator for &'a ParamSet {
    type Item = &'a Param;
    type IntoIter = std::slice::Iter<'a, Param>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<Param> for ParamSet {
    fn from_iter<I: IntoIterator<Item = Param>>(params: I) -> Self {
        let mut set = Self::default();
        params.into_iter().for_each(|param| set.insert(param));
        set
    }
}
