//! The durable, versioned store of fitted models.
//!
//! A *model* is a name; publishing under it yields *versions*, numbered 1, 2, 3, … and never
//! changed afterwards. An *alias* such as `champion` points at one version and is moved, under an
//! audit log, from one to another; a service opens `champion` and learns cheaply when it moved.
//!
//! ```text
//! NewVersion ──publish──▶ Version 7 ◀──AliasEntry 42── alias `champion`
//!  envelope, files,        immutable,      from 6 to 7, by whom, why, when
//!  metrics, lineage        hashed
//! ```
//!
//! [`Registry`] says what a store owes its callers, in terms that a remote store can honour too;
//! [`LocalRegistry`] is the embedded one: a folder, described byte by byte in its own header.
//!
//! # Example
//!
//! ```
//! use mm_core::{
//!     Catalog, Result,
//!     registry::{AliasMove, CHAMPION, LocalRegistry, NewVersion, Registry},
//! };
//!
//! fn release(registry: &dyn Registry, model: &dyn mm_core::Model, auc: f64) -> Result<()> {
//!     let new = NewVersion::of(model)?.with_metric("auc", auc).with_tag("stage", "trial");
//!     let version = registry.publish("iris", new)?;
//!     registry.promote("iris", version.number, "ci", "better on the last month")?;
//!     Ok(())
//! }
//!
//! fn serve(registry: &dyn Registry, catalog: &Catalog) -> Result<()> {
//!     let (mut model, mut version) = registry.open("iris", &CHAMPION.into(), catalog)?;
//!     let mut seen = registry.alias("iris", CHAMPION)?.map_or(0, |entry| entry.sequence);
//!     // From time to time:
//!     if registry.has_moved("iris", CHAMPION, seen)? {
//!         seen = registry.alias("iris", CHAMPION)?.map_or(0, |entry| entry.sequence);
//!         (model, version) = registry.open("iris", &CHAMPION.into(), catalog)?;
//!     }
//!     # let _ = (model, version, seen);
//!     Ok(())
//! }
//! ```
//!
//! # What is deliberately absent
//!
//! Stages that a version passes through: an alias says the same and can be rolled back. Deleting a
//! version without a trace: it is [retired](Registry::retire), and its manifest stays.

mod disk;
mod local;
mod record;
mod upkeep;
mod version;

#[cfg(test)]
mod faults;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub(crate) use self::local::{check_alias_name, check_model_name};
pub use self::{
    disk::Durability,
    local::LocalRegistry,
    upkeep::{Swept, Verification},
    version::{Lineage, MODEL_FILE, NewVersion, Parent, Retired, StoredFile, Version},
};
use crate::{
    catalog::Catalog,
    error::{Error, Result},
    model::BoxModel,
};

/// The alias of the version that is in use; [`Registry::promote`] moves it.
pub const CHAMPION: &str = "champion";

/// The customary alias of the version that is on trial beside the champion.
pub const CHALLENGER: &str = "challenger";

/// A durable, versioned store of models.
///
/// What every store promises:
///
/// - a version is seen either complete or not at all, and never changes afterwards;
/// - version numbers of a model are 1, 2, 3, … without a gap, whoever publishes;
/// - what is read is compared with its checksum: damage is [`Error::Corrupt`], never a wrong model;
/// - an alias moves in one step, and of several that move it at once from the same state one wins
///   and the others get [`Error::Conflict`];
/// - nothing that was published, and no move of an alias, loses its record.
///
/// Object-safe: pass `&dyn Registry`, keep `Box<dyn Registry>`.
pub trait Registry: fmt::Debug + Send + Sync {
    /// Stores a new version of the model `name`, which need not exist before. When this returns,
    /// the version is durable.
    fn publish(&self, name: &str, new: NewVersion) -> Result<Version>;

    /// The names of all models with at least one version, sorted.
    fn names(&self) -> Result<Vec<String>>;

    /// Every version of a model, retired ones included, oldest first.
    fn versions(&self, name: &str) -> Result<Vec<Version>>;

    /// One version, be it retired or not.
    fn manifest(&self, name: &str, number: u32) -> Result<Version>;

    /// The bytes of one file of a version, checked against its checksum. A retired version is
    /// [`Error::NotFound`].
    fn read(&self, version: &Version, path: &str) -> Result<Vec<u8>>;

    /// Where each alias of a model points now, sorted by alias; an alias that points nowhere is
    /// left out.
    fn aliases(&self, name: &str) -> Result<Vec<AliasEntry>>;

    /// The last move of an alias, or `None` if there never was one.
    fn alias(&self, name: &str, alias: &str) -> Result<Option<AliasEntry>>;

    /// Every move of an alias, oldest first.
    fn alias_history(&self, name: &str, alias: &str) -> Result<Vec<AliasEntry>>;

    /// Moves an alias, after checking that every file of the version it is to point at is there
    /// and intact. If the alias already points there, nothing is written and its last entry comes
    /// back, so that a repeated call does no harm.
    ///
    /// [`Error::Conflict`] if the alias is not where `to.expected` says, or somebody else moved it
    /// meanwhile; [`Error::NotFound`] if the version does not exist or is retired.
    fn move_alias(&self, name: &str, alias: &str, to: &AliasMove) -> Result<AliasEntry>;

    /// Takes a version out of use for good. Its number and its manifest stay, its files may be
    /// removed. Retiring twice changes nothing. [`Error::Conflict`] while an alias points at it.
    fn retire(&self, name: &str, number: u32, actor: &str, reason: &str) -> Result<Version>;

    /// Whether an alias moved after the entry with number `since` (0: whether it exists). Meant
    /// for services that ask often.
    fn has_moved(&self, name: &str, alias: &str, since: u64) -> Result<bool> {
        Ok(self.alias(name, alias)?.is_some_and(|entry| since < entry.sequence))
    }

    /// The version that a selector means now. A retired version is found by its number only.
    fn resolve(&self, name: &str, selector: &Selector) -> Result<Version> {
        match selector {
            Selector::Version(number) => self.manifest(name, *number),
            Selector::Latest => {
                let mut versions = self.versions(name)?;
                versions.retain(|version| version.retired.is_none());
                versions.pop().ok_or_else(|| not_found("version", name, "latest"))
            }
            Selector::Alias(alias) => {
                let to = self.alias(name, alias)?.and_then(|entry| entry.to);
                self.manifest(name, to.ok_or_else(|| not_found("alias", name, alias))?)
            }
        }
    }

    /// The envelope of the version that a selector means now, checked.
    fn bytes(&self, name: &str, selector: &Selector) -> Result<(Vec<u8>, Version)> {
        let version = self.resolve(name, selector)?;
        Ok((self.read(&version, MODEL_FILE)?, version))
    }

    /// Opens the version that a selector means now.
    fn open(
        &self,
        name: &str,
        selector: &Selector,
        catalog: &Catalog,
    ) -> Result<(BoxModel, Version)> {
        let (bytes, version) = self.bytes(name, selector)?;
        let model = catalog.open(&bytes).map_err(|e| e.within(version.to_string()))?;
        Ok((model, version))
    }

    /// Makes a version the [`CHAMPION`], wherever that alias points now. The former champion is
    /// the `from` of the entry, and [`rollback`](Registry::rollback) returns to it.
    fn promote(&self, name: &str, number: u32, actor: &str, reason: &str) -> Result<AliasEntry> {
        self.move_alias(name, CHAMPION, &AliasMove::to(number).by(actor).because(reason))
    }

    /// Moves an alias back to the version it pointed at before: an undo, as a new entry of the log.
    /// Rolling back again goes one further back, not forth. From nowhere it returns to the version
    /// it pointed at last.
    ///
    /// [`Error::NotFound`] if there is none before, or it is retired; [`Error::Corrupt`] if its
    /// files are damaged; [`Error::Conflict`] if somebody else moved the alias meanwhile. In all
    /// three cases the alias stays where it is.
    fn rollback(&self, name: &str, alias: &str, actor: &str, reason: &str) -> Result<AliasEntry> {
        let history = self.alias_history(name, alias)?;
        let (Some(last), Some(target)) = (history.last(), rollback_target(&history)) else {
            return Err(not_found("earlier target of alias", name, alias));
        };
        let back = AliasMove {
            expected: Expected::Sequence(last.sequence),
            action: AliasAction::Rollback,
            ..AliasMove::to(target).by(actor).because(reason)
        };
        self.move_alias(name, alias, &back)
    }
}

/// Replays the log as an undo stack: a set pushes, a rollback pops down to its target.
fn rollback_target(history: &[AliasEntry]) -> Option<u32> {
    let mut stack: Vec<u32> = Vec::new();
    for entry in history {
        let Some(to) = entry.to else { continue };
        if entry.action == AliasAction::Rollback {
            let at = stack.iter().rposition(|&version| version == to);
            stack.truncate(at.map_or(0, |at| at + 1));
        }
        if stack.last() != Some(&to) {
            stack.push(to);
        }
    }
    let is_set = history.last()?.to.is_some();
    stack.len().checked_sub(1 + usize::from(is_set)).map(|at| stack[at])
}

fn not_found(what: &'static str, name: &str, rest: impl fmt::Display) -> Error {
    Error::NotFound { what, name: format!("{name}@{rest}") }
}

/// Which version of a model is meant.
///
/// From text: `latest`, digits for a version, anything else for an alias.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum Selector {
    /// The one with the highest number that is not retired.
    Latest,
    /// The one with this number.
    Version(u32),
    /// The one that this alias points at.
    Alias(String),
}

impl From<u32> for Selector {
    fn from(number: u32) -> Self {
        Self::Version(number)
    }
}

impl From<&str> for Selector {
    fn from(text: &str) -> Self {
        match (text, u32::from_str(text)) {
            ("latest", _) => Self::Latest,
            (_, Ok(number)) => Self::Version(number),
            _ => Self::Alias(text.to_owned()),
        }
    }
}

impl From<String> for Selector {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.to_string()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Version(number) => write!(f, "{number}"),
            Self::Alias(alias) => f.write_str(alias),
        }
    }
}

/// One move of an alias, as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AliasEntry {
    /// The model.
    pub name: String,
    /// The alias.
    pub alias: String,
    /// The place in the log, from 1, without a gap; the highest is the current one.
    pub sequence: u64,
    /// Where the alias pointed before.
    pub from: Option<u32>,
    /// Where it points since; `None` is nowhere.
    pub to: Option<u32>,
    /// Whether it was set or rolled back.
    pub action: AliasAction,
    /// Who moved it, as given by the caller.
    pub actor: String,
    /// Why, as given by the caller.
    pub reason: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time_ms: i64,
}

impl AliasEntry {
    /// The entry that `to` makes after `last`, now.
    fn next(name: &str, alias: &str, last: Option<&Self>, to: &AliasMove) -> Self {
        Self {
            name: name.to_owned(),
            alias: alias.to_owned(),
            sequence: last.map_or(0, |entry| entry.sequence) + 1,
            from: last.and_then(|entry| entry.to),
            to: to.to,
            action: to.action,
            actor: to.actor.clone(),
            reason: to.reason.clone(),
            time_ms: version::now_ms(),
        }
    }
}

/// How an alias came to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AliasAction {
    /// By a decision for the new version.
    #[default]
    Set,
    /// By a decision against the old one.
    Rollback,
}

/// A wanted move of an alias: where to, from where, by whom, and why.
///
/// ```
/// # use mm_core::registry::AliasMove;
/// let to = AliasMove::to(8).expecting(7).by("nightly retraining").because("drift of `volume`");
/// # assert_eq!(to.to, Some(8));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AliasMove {
    /// The version to point at, or `None` for nowhere.
    pub to: Option<u32>,
    /// What the alias must be like for the move to take place.
    pub expected: Expected,
    /// Recorded in the log.
    pub action: AliasAction,
    /// Recorded in the log.
    pub actor: String,
    /// Recorded in the log.
    pub reason: String,
}

impl AliasMove {
    /// To a version, from wherever the alias points.
    pub fn to(number: u32) -> Self {
        Self { to: Some(number), ..Self::default() }
    }

    /// To nowhere, from wherever the alias points.
    pub fn nowhere() -> Self {
        Self::default()
    }

    /// Only if the alias points at version `number` now.
    #[must_use]
    pub fn expecting(self, number: u32) -> Self {
        Self { expected: Expected::Version(number), ..self }
    }

    /// Only if the alias points nowhere now.
    #[must_use]
    pub fn expecting_nothing(self) -> Self {
        Self { expected: Expected::Nothing, ..self }
    }

    /// Names who moves it.
    #[must_use]
    pub fn by(self, actor: impl Into<String>) -> Self {
        Self { actor: actor.into(), ..self }
    }

    /// Says why.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..self }
    }
}

/// What a caller assumes about an alias: the comparison of a compare-and-swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Expected {
    /// Nothing: the last one to move it wins.
    #[default]
    Anything,
    /// It points nowhere, or never existed.
    Nothing,
    /// It points at this version.
    Version(u32),
    /// Its last entry is this one: nobody moved it since, not even forth and back.
    Sequence(u64),
}

impl Expected {
    /// An error unless `last` is as expected.
    fn check(self, name: &str, alias: &str, last: Option<&AliasEntry>) -> Result<()> {
        let to = last.and_then(|entry| entry.to);
        let sequence = last.map_or(0, |entry| entry.sequence);
        let holds = match self {
            Self::Anything => true,
            Self::Nothing => to.is_none(),
            Self::Version(number) => to == Some(number),
            Self::Sequence(expected) => expected == sequence,
        };
        if holds {
            return Ok(());
        }
        let found = to.map_or("nothing".to_owned(), |number| format!("version {number}"));
        let found = format!("{found} (entry {sequence})");
        Err(Error::Conflict {
            what: format!("alias `{name}@{alias}`"),
            expected: self.to_string(),
            found,
        })
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anything => f.write_str("anything"),
            Self::Nothing => f.write_str("nothing"),
            Self::Version(number) => write!(f, "version {number}"),
            Self::Sequence(sequence) => write!(f, "entry {sequence}"),
        }
    }
}
