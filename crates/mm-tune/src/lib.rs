//! Hyper-parameter search with Optuna's model (study, trial, distribution, sampler, pruner,
//! storage), typed for Rust, on Optuna's own storages.
//!
//! Akiba, Sano, Yanase, Ohta, Koyama: *Optuna: A Next-generation Hyperparameter Optimization
//! Framework*, KDD 2019.

#![forbid(unsafe_code)]

mod attrs;
mod distribution;
mod draft;
mod fanova;
mod front;
mod history;
mod importance;
mod json;
mod optimize;
mod pareto;
mod plan;
pub mod pruner;
mod report;
mod rungs;
pub mod sampler;
pub mod storage;
mod study;
mod trial;

#[cfg(feature = "postgres")]
pub use crate::storage::PostgresStorage;
#[cfg(feature = "sqlite")]
pub use crate::storage::SqliteStorage;
pub use crate::{
    attrs::Attrs,
    distribution::{Choice, Distribution},
    fanova::Fanova,
    history::History,
    importance::PedAnova,
    json::Json,
    optimize::{Heartbeat, Until},
    plan::PlanTuner,
    pruner::{
        Decision, HalvingPruner, HyperbandPruner, NoPruner, PatientPruner, PercentilePruner,
        Pruner, Report, ThresholdPruner, WilcoxonPruner,
    },
    sampler::{
        Ask, AutoSampler, CmaParams, CmaSampler, Crossover, GpParams, GpSampler, GridSampler,
        NsgaParams, NsgaSampler, Proposal, QmcSampler, RandomSampler, Sampler, TpeParams,
        TpeSampler,
    },
    storage::{JournalStorage, MemoryStorage, Storage},
    study::{Outcome, Study, Trial},
    trial::{FrozenTrial, Param, ParamSet, StudyId, Timestamp, TrialId, TrialState},
};
