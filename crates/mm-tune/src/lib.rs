//! Hyper-parameter search with Optuna's model (study, trial, distribution, sampler, pruner,
//! storage), typed for Rust, on Optuna's own storages.
//!
//! Akiba, Sano, Yanase, Ohta, Koyama: *Optuna: A Next-generation Hyperparameter Optimization
//! Framework*, KDD 2019.

#![forbid(unsafe_code)]

mod distribution;
mod history;
mod json;
mod pareto;
pub mod pruner;
pub mod sampler;
pub mod storage;
mod study;
mod trial;

#[cfg(feature = "sqlite")]
pub use crate::storage::SqliteStorage;
pub use crate::{
    distribution::{Choice, Distribution},
    history::History,
    json::Json,
    pruner::{
        Decision, HalvingPruner, HyperbandPruner, NoPruner, PatientPruner, PercentilePruner,
        Pruner, Report, ThresholdPruner,
    },
    sampler::{
        Ask, AutoSampler, CmaParams, CmaSampler, Crossover, GpParams, GpSampler, GridSampler,
        NsgaParams, NsgaSampler, Proposal, QmcSampler, RandomSampler, Sampler, TpeParams,
        TpeSampler,
    },
    storage::{JournalStorage, MemoryStorage, Storage},
    study::{Outcome, Study, Trial},
    trial::{Attrs, FrozenTrial, Param, ParamSet, StudyId, Timestamp, TrialId, TrialState},
};
