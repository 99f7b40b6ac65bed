//! The error type of the workspace.
//!
//! One enum, small and non-exhaustive, with data that a caller can act on. A wrapped engine keeps
//! its own typed error as the *source*; composites say where, by [`Error::within`]. A message
//! states what was expected and what came, and never repeats the text of its source: whoever
//! prints a chain prints each link once ([`Error::chain`] does).

use std::{error::Error as StdError, fmt, io, path::Path, path::PathBuf};

/// What fallible functions of the workspace return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why reading, fitting, predicting, storing, or loading failed.
///
/// Messages are lower-case fragments without a full stop, so that they read well after a colon.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A hyper-parameter lies outside its domain; raised by `build`, never by `fit`.
    #[error(transparent)]
    Param(#[from] ParamError),

    /// A table's width differs from the one that was expected.
    #[error("expected {expected} feature columns, got {got}")]
    Columns {
        /// Width seen at fit time, or promised by a schema.
        expected: usize,
        /// Width of the offending table.
        got: usize,
    },

    /// One column's name, type, or place differs from the fitted signature.
    #[error("column {index} must be {expected}, got {got}")]
    Column {
        /// Position, from 0.
        index: usize,
        /// What the signature says, for example ``numeric `age` ``.
        expected: String,
        /// What the table has.
        got: String,
    },

    /// A value, or a whole table, cannot be used; `place` says which.
    #[error("{place}: expected {expected}, got {got}")]
    Data {
        /// Where: a file with line and column, a row and a column name, a target row.
        place: String,
        /// What would have been accepted.
        expected: String,
        /// What was found.
        got: String,
    },

    /// Classification data in which only one class carries weight.
    #[error("expected at least 2 classes with rows of positive weight, got only `{class}`")]
    OneClass {
        /// The class that is present.
        class: String,
    },

    /// A plan or another configuration text is wrong; `place` is the dotted path of the key.
    #[error("{place}: {problem}")]
    Config {
        /// Dotted path, for example `candidates.0.params`.
        place: String,
        /// What was expected and what came.
        problem: String,
    },

    /// A wrapped engine refused; its own typed error is the source.
    #[error("{engine} failed")]
    Engine {
        /// The engine's name, for example `"lightgbm"`.
        engine: &'static str,
        /// The engine crate's own error.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// No learner is registered under the kind.
    #[error("no model kind `{kind}` in this build; it has: {known}")]
    UnknownKind {
        /// The kind asked for.
        kind: String,
        /// The kinds that the catalog holds, separated by commas.
        known: String,
    },

    /// No loader is registered under the tag.
    #[error("no loader for model tag `{0}`; register the crate that defines it")]
    UnknownTag(String),

    /// A stored model, version, alias, or object does not exist.
    #[error("no {what} `{name}`")]
    NotFound {
        /// The kind of thing, for example `"alias"`.
        what: &'static str,
        /// Its name.
        name: String,
    },

    /// Somebody else changed what was to be changed; look again and decide anew.
    #[error("{what} changed meanwhile: expected {expected}, found {found}")]
    Conflict {
        /// What was to be changed.
        what: String,
        /// The state that the caller assumed.
        expected: String,
        /// The state that was found.
        found: String,
    },

    /// Stored bytes are damaged, truncated, or not what they claim to be.
    #[error("{what} is damaged: expected {expected}, got {got}")]
    Corrupt {
        /// The file, object, or part.
        what: String,
        /// What an intact one has.
        expected: String,
        /// What this one has.
        got: String,
    },

    /// Stored by a newer release than this one.
    #[error("`{what}` has version {got}; this build reads up to {newest}")]
    TooNew {
        /// Tag or file.
        what: String,
        /// The version found.
        got: u32,
        /// The newest version that this build reads.
        newest: u32,
    },

    /// The operating system refused; `path` is what it was asked for.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The verb, for example `"read"`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },

    /// The fit was called off, by its [`Cancel`](crate::Cancel) or its observer.
    #[error("cancelled")]
    Cancelled,

    /// The deadline passed before there was anything to return.
    #[error("the deadline passed before the first result")]
    Deadline,

    /// A part of a composite panicked; the text is its message.
    #[error("panicked: {0}")]
    Panicked(String),

    /// A part of a composite failed.
    #[error("in {part}")]
    Within {
        /// The part, for example ``candidate `gbdt`, fold 3``.
        part: String,
        /// What went wrong inside it.
        source: Box<Error>,
    },
}

impl Error {
    /// Says in which part of a composite the error arose.
    #[must_use]
    pub fn within(self, part: impl Into<String>) -> Self {
        Self::Within { part: part.into(), source: Box::new(self) }
    }

    /// An unusable value or table: see [`Error::Data`].
    #[must_use]
    pub fn data(
        place: impl fmt::Display,
        expected: impl fmt::Display,
        got: impl fmt::Display,
    ) -> Self {
        let (place, expected, got) = (place.to_string(), expected.to_string(), got.to_string());
        Self::Data { place, expected, got }
    }

    /// Damaged bytes: see [`Error::Corrupt`].
    #[must_use]
    pub fn corrupt(
        what: impl fmt::Display,
        expected: impl fmt::Display,
        got: impl fmt::Display,
    ) -> Self {
        let (what, expected, got) = (what.to_string(), expected.to_string(), got.to_string());
        Self::Corrupt { what, expected, got }
    }

    /// A wrong configuration: see [`Error::Config`].
    #[must_use]
    pub fn config(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Config { place: place.into(), problem: problem.into() }
    }

    /// A failure of the operating system: see [`Error::Io`].
    ///
    /// Made to be used in `map_err`: `fs::read(path).map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// The message followed by those of its sources, separated by colons.
    ///
    /// ```
    /// let error = mm_core::Error::Cancelled.within("fold 3").within("candidate `gbdt`");
    /// assert_eq!(error.chain(), "in candidate `gbdt`: in fold 3: cancelled");
    /// ```
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(link) = source {
            text.push_str(": ");
            text.push_str(&link.to_string());
            source = link.source();
        }
        text
    }

    /// The innermost error, below every [`Error::Within`].
    #[must_use]
    pub fn root(&self) -> &Self {
        match self {
            Self::Within { source, .. } => source.root(),
            other => other,
        }
    }
}

/// A hyper-parameter outside its domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parameter `{name}` is {got}; expected {expected}")]
#[non_exhaustive]
pub struct ParamError {
    /// The field, dotted where nested.
    pub name: String,
    /// The offending value.
    pub got: String,
    /// The domain.
    pub expected: String,
}

impl ParamError {
    /// An error for field `name` with value `got`.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        got: impl fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        Self { name: name.into(), got: got.to_string(), expected: expected.into() }
    }

    /// Succeeds if `ok`. Phrase `ok` positively (`0.0 <= x && x <= 1.0`), so that NaN fails.
    pub fn ensure(
        ok: bool,
        name: impl Into<String>,
        got: impl fmt::Display,
        expected: impl Into<String>,
    ) -> Result<(), Self> {
        if ok { Ok(()) } else { Err(Self::new(name, got, expected)) }
    }
}
