//! What is published and what it becomes: [`NewVersion`] → [`Version`].

use std::{collections::BTreeMap, fmt, time::SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    data::Quoted,
    envelope::{Envelope, Opened},
    error::{Error, Result},
    model::Model,
};

/// The path of the model's envelope among the files of a version.
pub const MODEL_FILE: &str = "model.mm";

/// A version to be: the model, what goes with it, and where it comes from.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct NewVersion {
    files: BTreeMap<String, Vec<u8>>, // Invariant: `MODEL_FILE` is there and an envelope.
    /// Scores, by the metric's name; any number, NaN and infinities included.
    pub metrics: BTreeMap<String, f64>,
    /// Where the model comes from.
    pub lineage: Lineage,
    /// Short facts to search by.
    pub tags: BTreeMap<String, String>,
    /// Free text for people.
    pub notes: String,
    /// When the model was made, in milliseconds since 1970-01-01 UTC; by default the moment of
    /// publishing.
    pub created_ms: Option<i64>,
}

impl NewVersion {
    /// A version with the model in `envelope`.
    pub fn new(envelope: Envelope) -> Self {
        Self::unchecked(envelope.into_bytes())
    }

    /// A version with `model`.
    pub fn of(model: &dyn Model) -> Result<Self> {
        Ok(Self::new(model.to_envelope()?))
    }

    /// A version with the model in the bytes of an envelope, which are checked.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        Opened::read(&bytes)?;
        Ok(Self::unchecked(bytes))
    }

    fn unchecked(model: Vec<u8>) -> Self {
        Self {
            files: [(MODEL_FILE.to_owned(), model)].into(),
            metrics: BTreeMap::new(),
            lineage: Lineage::default(),
            tags: BTreeMap::new(),
            notes: String::new(),
            created_ms: None,
        }
    }

    /// Adds a file, for example the engine's own format or a report. `path` is made of letters,
    /// digits, `.`, `_`, `-`, with `/` between its parts. Refused: other paths, and one that is
    /// taken.
    pub fn with_file(mut self, path: impl Into<String>, bytes: Vec<u8>) -> Result<Self> {
        let path = path.into();
        let expected = "parts of letters, digits, `.`, `_`, `-`, with `/` between them";
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(plain);
        if 200 < path.len() || !path.split('/').all(part) {
            return Err(Error::data("path of a file", expected, Quoted(&path)));
        }
        if self.files.contains_key(&path) {
            return Err(Error::data("path of a file", "one that is free", Quoted(&path)));
        }
        self.files.insert(path, bytes);
        Ok(self)
    }

    /// Adds a metric, or replaces it.
    #[must_use]
    pub fn with_metric(mut self, name: impl Into<String>, value: f64) -> Self {
        self.metrics.insert(name.into(), value);
        self
    }

    /// Adds a tag, or replaces it.
    #[must_use]
    pub fn with_tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(name.into(), value.into());
        self
    }

    /// Says where the model comes from.
    #[must_use]
    pub fn with_lineage(self, lineage: Lineage) -> Self {
        Self { lineage, ..self }
    }

    /// Adds text for people.
    #[must_use]
    pub fn with_notes(self, notes: impl Into<String>) -> Self {
        Self { notes: notes.into(), ..self }
    }

    /// The files by path, [`MODEL_FILE`] among them: for authors of stores.
    pub fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.files
    }
}

impl fmt::Debug for NewVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: BTreeMap<_, _> = self.files.iter().map(|(path, b)| (path, b.len())).collect();
        f.debug_struct("NewVersion")
            .field("file_sizes", &sizes)
            .field("metrics", &self.metrics)
            .field("lineage", &self.lineage)
            .field("tags", &self.tags)
            .finish_non_exhaustive()
    }
}

/// Where a model comes from: enough to make it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Lineage {
    /// [`Dataset::fingerprint`](crate::Dataset::fingerprint) of the data it was fitted to.
    pub data: Option<String>,
    /// The text of the plan.
    pub plan: Option<String>,
    /// The params of the learner, as JSON.
    pub params: Value,
    /// The seed of the fit.
    pub seed: Option<u64>,
    /// The versions that went into it: members of an ensemble, the start of a warm start.
    pub parents: Vec<Parent>,
    /// The release that made it; by default that of this crate.
    pub crate_version: String,
}

impl Default for Lineage {
    fn default() -> Self {
        Self {
            data: None,
            plan: None,
            params: Value::Null,
            seed: None,
            parents: Vec::new(),
            crate_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl Lineage {
    /// Edits in place, for chaining: `Lineage::default().with(|l| l.seed = Some(7))`.
    #[must_use]
    pub fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }
}

/// A version that another one was made from. It may live in another store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its model.
    pub name: String,
    /// Its number.
    pub number: u32,
}

/// A published version: everything about it except the bytes of its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Version {
    /// The model.
    pub name: String,
    /// The number, from 1.
    pub number: u32,
    /// When it was made, in milliseconds since 1970-01-01 UTC.
    pub created_ms: i64,
    /// Its files, sorted by path, [`MODEL_FILE`] among them.
    pub files: Vec<StoredFile>,
    /// Scores, by the metric's name.
    #[serde(with = "any_numbers")]
    pub metrics: BTreeMap<String, f64>,
    /// Where it comes from.
    pub lineage: Lineage,
    /// Short facts to search by.
    pub tags: BTreeMap<String, String>,
    /// Free text for people.
    pub notes: String,
    /// Since when it is out of use, if it is; a record of its own in the store.
    #[serde(skip)]
    pub retired: Option<Retired>,
}

impl Version {
    /// The manifest of `new`; its number is still to be claimed.
    pub(super) fn of(name: &str, new: &NewVersion, files: Vec<StoredFile>) -> Self {
        Self {
            name: name.to_owned(),
            number: 0,
            created_ms: new.created_ms.unwrap_or_else(now_ms),
            files,
            metrics: new.metrics.clone(),
            lineage: new.lineage.clone(),
            tags: new.tags.clone(),
            notes: new.notes.clone(),
            retired: None,
        }
    }

    /// The file at `path`, if the version has it.
    pub fn file(&self, path: &str) -> Option<&StoredFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

/// `name@number`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.number)
    }
}

/// One file of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoredFile {
    /// Its path within the version.
    pub path: String,
    /// SHA-256 of its bytes, in lower-case hexadecimal.
    pub sha256: String,
    /// Its length in bytes.
    pub size: u64,
}

impl StoredFile {
    /// A file of a version, for authors of stores.
    pub fn new(path: impl Into<String>, sha256: impl Into<String>, size: u64) -> Self {
        Self { path: path.into(), sha256: sha256.into(), size }
    }
}

/// Who took a version out of use, why, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Retired {
    /// The version's model.
    pub name: String,
    /// The version's number.
    pub number: u32,
    /// Who, as given by the caller.
    pub actor: String,
    /// Why, as given by the caller.
    pub reason: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time_ms: i64,
}

/// Milliseconds since 1970-01-01 UTC. A record of when is the one use that the store makes of it.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Numbers of which some are not finite: JSON has no form for those, so they are text.
mod any_numbers {
    use std::{collections::BTreeMap, fmt};

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        numbers: &BTreeMap<String, f64>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_map(numbers.iter().map(|(name, &number)| (name, Number(number))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<String, f64>, D::Error> {
        let numbers = BTreeMap::<String, Number>::deserialize(from)?;
        Ok(numbers.into_iter().map(|(name, Number(number))| (name, number)).collect())
    }

    struct Number(f64);

    impl serde::Serialize for Number {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            if self.0.is_finite() { to.serialize_f64(self.0) } else { to.collect_str(&self.0) }
        }
    }

    impl<'de> Deserialize<'de> for Number {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            from.deserialize_any(AnyNumber)
        }
    }

    struct AnyNumber;

    impl de::Visitor<'_> for AnyNumber {
        type Value = Number;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number, or one of the texts `NaN`, `inf`, `-inf`")
        }

        fn visit_f64<E: de::Error>(self, number: f64) -> Result<Number, E> {
            Ok(Number(number))
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Number, E> {
            Ok(Number(number as f64))
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Number, E> {
            Ok(Number(number as f64))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
            match text {
                "NaN" | "inf" | "-inf" => Ok(Number(text.parse().map_err(E::custom)?)),
                _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
            }
        }
    }
}
