//! What a build can make and open: kind → learner, tag → loader. There is no global one.
//!
//! Registration is explicit: an embedder may be a static library or a plugin, its author must be
//! able to see which formats the program opens, and third-party crates add theirs the same way.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    combine::Combiner,
    envelope::{BodyReader, Opened, Persist},
    error::{Error, Result},
    learner::{BoxLearner, Params},
    model::BoxModel,
    search::{Search, SpaceSize, Suggest},
};

type Build = dyn Fn(&Catalog, Value) -> Result<BoxLearner> + Send + Sync;
type Draw = fn(SpaceSize, &mut dyn Suggest) -> Result<Value>;
type Combine = dyn Fn(&Catalog, Value) -> Result<Box<dyn Combiner>> + Send + Sync;
type Load = fn(&mut BodyReader<'_>, u16) -> Result<BoxModel>;

/// The model kinds that a program can make by name, and the model files that it can open.
///
/// ```
/// # use mm_core::Catalog;
/// let catalog = Catalog::default(); // `mm::catalog()` has everything that `mm` was built with.
/// let err = catalog.learner("gbdt", serde_json::json!({})).expect_err("nothing is registered");
/// assert_eq!(err.to_string(), "no model kind `gbdt` in this build; it has: (none)");
/// ```
#[derive(Clone, Default)]
pub struct Catalog {
    kinds: BTreeMap<&'static str, Kind>,
    combiners: BTreeMap<&'static str, Arc<Combine>>,
    loaders: BTreeMap<&'static str, Loader>,
    spaces: BTreeMap<&'static str, Space>,
    members: BTreeMap<&'static str, &'static [&'static str]>,
}

#[derive(Clone)]
struct Kind {
    build: Arc<Build>,
    defaults: Value,
}

#[derive(Clone)]
struct Space {
    defaults: Value,
    draw: Draw,
    portfolio: fn(SpaceSize) -> Vec<Value>,
}

#[derive(Clone, Copy)]
struct Loader {
    load: Load,
    version: u16,
}

impl Catalog {
    /// Adds the loader of `M`.
    ///
    /// # Panics
    ///
    /// If another model has the same tag.
    #[must_use]
    pub fn with<M: Persist>(mut self) -> Self {
        let load: Load = |body, version| Ok(Box::new(M::read_body(body, version)?));
        let loader = Loader { load, version: M::TAG.version };
        let before = self.loaders.insert(M::TAG.name, loader);
        assert!(before.is_none(), "two models have the tag `{}`", M::TAG.name);
        self
    }

    /// Adds a kind of learner that is configured by `P`.
    ///
    /// # Panics
    ///
    /// If another learner has the same kind.
    #[must_use]
    pub fn with_kind<P: Params>(self, kind: &'static str) -> Self
    where
        P::Learner: 'static,
    {
        let defaults = serde_json::to_value(P::default()).unwrap_or_default();
        self.with_builder(kind, defaults, |_, value| {
            Ok(Box::new(from_config::<P>(value)?.build()?))
        })
    }

    /// Adds a kind of learner that is built by a function of this catalog and a config value:
    /// composites build their members so. `defaults` is what a reader of a plan may leave out.
    ///
    /// # Panics
    ///
    /// If another learner has the same kind.
    #[must_use]
    pub fn with_builder(
        mut self,
        kind: &'static str,
        defaults: Value,
        build: impl Fn(&Self, Value) -> Result<BoxLearner> + Send + Sync + 'static,
    ) -> Self {
        let before = self.kinds.insert(kind, Kind { build: Arc::new(build), defaults });
        assert!(before.is_none(), "two learners have the kind `{kind}`");
        self
    }

    /// Adds a kind of combiner, which makes one model of several. `build` reads its params and is
    /// given this catalog, since a combiner may have learners of its own.
    ///
    /// # Panics
    ///
    /// If another combiner has the same kind.
    #[must_use]
    pub fn with_combiner(
        mut self,
        kind: &'static str,
        build: impl Fn(&Self, Value) -> Result<Box<dyn Combiner>> + Send + Sync + 'static,
    ) -> Self {
        let before = self.combiners.insert(kind, Arc::new(build));
        assert!(before.is_none(), "two combiners have the kind `{kind}`");
        self
    }

    /// Makes a combiner of `kind` from a config value.
    pub fn combiner(&self, kind: &str, params: Value) -> Result<Box<dyn Combiner>> {
        let Some(build) = self.combiners.get(kind) else {
            return Err(unknown(kind, self.combiners.keys()));
        };
        build(self, params)
    }

    /// Adds the search space of a kind of learner or combiner.
    ///
    /// # Panics
    ///
    /// If the kind has one already.
    #[must_use]
    pub fn with_space<P: Search>(mut self, kind: &'static str) -> Self {
        let draw: Draw = |size, draw| {
            let params = P::search(size, draw)?;
            serde_json::to_value(params).map_err(|e| Error::config("params", e.to_string()))
        };
        let portfolio = |size| {
            P::portfolio(size).into_iter().filter_map(|p| serde_json::to_value(p).ok()).collect()
        };
        let defaults = serde_json::to_value(P::default()).unwrap_or_default();
        let before = self.spaces.insert(kind, Space { defaults, draw, portfolio });
        assert!(before.is_none(), "two search spaces have the kind `{kind}`");
        self
    }

    /// Says where the config of a composite kind has its members: fields, by the dotted paths to them,
    /// that hold a [`Candidate`](crate::Candidate), or a combiner in the same form, a list of them, or
    /// lists of lists. The search space of the composite is then its own, if it has any, and those of its
    /// members together.
    #[must_use]
    pub fn with_members(mut self, kind: &'static str, fields: &'static [&'static str]) -> Self {
        self.members.insert(kind, fields);
        self
    }

    /// Where the config of a kind has its members; nowhere, unless it is a composite.
    pub fn members(&self, kind: &str) -> &'static [&'static str] {
        self.members.get(kind).copied().unwrap_or_default()
    }

    /// Draws a config value for `kind` from its search space, which [`learner`](Self::learner) or
    /// [`combiner`](Self::combiner) takes.
    pub fn search(&self, kind: &str, size: SpaceSize, draw: &mut dyn Suggest) -> Result<Value> {
        let Some(space) = self.spaces.get(kind) else {
            return Err(unknown(kind, self.spaces.keys()));
        };
        (space.draw)(size, draw)
    }

    /// Points of a kind's search space that a search tries after the defaults: see
    /// [`Search::portfolio`].
    pub fn portfolio(&self, kind: &str, size: SpaceSize) -> Vec<Value> {
        self.spaces.get(kind).map(|space| (space.portfolio)(size)).unwrap_or_default()
    }

    /// The kinds of learners and combiners that have a search space, sorted.
    pub fn searchable(&self) -> impl Iterator<Item = &'static str> {
        self.spaces.keys().copied()
    }

    /// The kinds that can be made, sorted.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.kinds.keys().copied()
    }

    /// The kinds of combiners that can be made, sorted.
    pub fn combiners(&self) -> impl Iterator<Item = &'static str> {
        self.combiners.keys().copied()
    }

    /// The tags that can be opened, sorted.
    pub fn tags(&self) -> impl Iterator<Item = &'static str> {
        self.loaders.keys().copied()
    }

    /// The default params of a kind of learner, or of a combiner that has a search space.
    pub fn defaults(&self, kind: &str) -> Option<&Value> {
        let of_learner = self.kinds.get(kind).map(|kind| &kind.defaults);
        of_learner.or_else(|| self.spaces.get(kind).map(|space| &space.defaults))
    }

    /// Makes a learner of `kind` from a config value; what the value leaves out has its default,
    /// and a key that the kind does not have is an error.
    pub fn learner(&self, kind: &str, params: Value) -> Result<BoxLearner> {
        let Some(found) = self.kinds.get(kind) else {
            return Err(unknown(kind, self.kinds.keys()));
        };
        (found.build)(self, params)
    }

    /// Opens a model from the bytes of its [`Envelope`](crate::Envelope).
    pub fn open(&self, bytes: &[u8]) -> Result<BoxModel> {
        self.open_nested(bytes, 0)
    }

    pub(crate) fn open_nested(&self, bytes: &[u8], depth: usize) -> Result<BoxModel> {
        let Opened { tag, version, body } = Opened::read(bytes)?;
        let Some(loader) = self.loaders.get(tag) else {
            return Err(Error::UnknownTag(tag.to_owned()));
        };
        if loader.version < version {
            let (what, newest) = (tag.to_owned(), loader.version.into());
            return Err(Error::TooNew { what, got: version.into(), newest });
        }
        let mut reader = BodyReader::new(body, self, depth)?;
        let model = (loader.load)(&mut reader, version)?;
        reader.finish()?;
        Ok(model)
    }
}

/// Reads the params of a kind from a config value; a misspelt key is an error.
pub fn from_config<P: DeserializeOwned>(params: Value) -> Result<P> {
    let config =
        |e: serde_json::Error| Error::Config { place: "params".to_owned(), problem: e.to_string() };
    serde_json::from_value(params).map_err(config)
}

fn unknown<'a>(kind: &str, known: impl Iterator<Item = &'a &'static str>) -> Error {
    let known: Vec<&str> = known.copied().collect();
    let known = if known.is_empty() { "(none)".to_owned() } else { known.join(", ") };
    Error::UnknownKind { kind: kind.to_owned(), known }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.kinds().collect();
        let tags: Vec<_> = self.tags().collect();
        f.debug_struct("Catalog").field("kinds", &kinds).field("tags", &tags).finish()
    }
}
