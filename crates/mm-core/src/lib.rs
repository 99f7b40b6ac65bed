//! The vocabulary of the workspace: data, learners, models, and their durable form.
//!
//! Every other crate speaks in these terms and none of them is needed to read this one. A
//! [`Learner`] is a checked set of hyper-parameters; fitting it to a [`Dataset`] yields a
//! [`Model`], which predicts and can be sealed into an [`Envelope`]:
//!
//! ```text
//! params --build()--> Learner --fit(data, ctx)--> Model --to_envelope()--> bytes
//!        (validated)           (deterministic)          (tagged, versioned)
//! ```
//!
//! # What is deliberately absent
//!
//! No algorithm, no native library, no async, no global state, and no thread pool of its
//! own: see [`parallel`]. This crate is
//! generic over nothing: features are `f32`, targets and predictions `f64`, everywhere.

#![forbid(unsafe_code)]

mod catalog;
mod combine;
#[cfg(feature = "conformance")]
pub mod conformance;
mod context;
mod cross_fit;
mod data;
mod durable;
mod early_stopping;
mod envelope;
mod error;
mod explain;
mod learner;
mod metric;
mod model;
mod online;
mod orchestrator;
pub mod parallel;
mod permutation;
pub mod registry;
mod schedule;
mod search;
mod snapshot;
mod split;

#[cfg(feature = "arrow")]
pub use crate::data::arrow;
pub use ndarray;

/// Moments as text: nanoseconds since 1970-01-01 UTC, read from and written as RFC 3339.
pub mod rfc3339 {
    pub use crate::data::time::{format, parse};
}

pub use crate::{
    catalog::{Catalog, from_config},
    combine::{Combination, Combiner, Evidence, Member, cross_combine},
    context::{Cancel, FitContext, Observer, Signal, Silent, Step, split_mix},
    cross_fit::{CrossFit, OutOfFold, cross_fit},
    data::{
        ClassWeight, Column, ColumnKind, ColumnReport, Dataset, Frame, Levels, Matrix, Output,
        ReadReport, Role, Roles, Schema, Source, Task, TaskKind, TimeUnit, Truth,
    },
    durable::{replace as replace_file, sweep_beside},
    early_stopping::{EarlyStopping, Patience},
    envelope::{BodyReader, BodyWriter, Envelope, Persist, Tag},
    error::{Error, ParamError, Result},
    explain::{Contributions, Explains, Scale},
    learner::{BoxLearner, DynLearner, Learner, Params, WarmStart, check_data},
    metric::{Average, ClassScores, ConfusionMatrix, Direction, Metric},
    model::{BoxModel, Importance, ImportanceKind, Model, Signature},
    online::{Late, OnlineModel, Sample},
    orchestrator::{
        Budget, Candidate, Climbed, Config, Cost, CostKind, DataPlan, EnsemblePlan, Entry, Event,
        Family, Leaderboard, Orchestrator, Outcome, Plan, Progress, RegistryPlan, Rungs, Score,
        Scored, Status, Steps, Thrift, Trade, Tried, TunePlan, TuneTask, Tuned, Tuner, Watcher,
    },
    permutation::{Permutation, PermutationReport, PermutedFeature},
    schedule::contain,
    search::{FloatRange, IntRange, Search, SpaceSize, Suggest},
    snapshot::{Slot, Snapshots},
    split::{
        CombinatorialPurged, Fold, GroupKFold, HeldOut, Holdout, KFold, PurgedKFold, Repeated,
        Span, SplitPlan, Splitter, StratifiedGroupKFold, StratifiedKFold, TimeSeriesSplit,
    },
};
