//! Models that keep learning from a stream, and what keeps them honest and alive.
//!
//! A model of this crate is a [`Model`](mm_core::Model) like any other and an
//! [`OnlineModel`](mm_core::OnlineModel) besides: it learns a row at a time.
//!
//! | kind | params → model | learns |
//! | --- | --- | --- |
//! | `online_linear` | [`LinearParams`] → [`LinearModel`] | logistic, softmax, and linear regression |
//! | `online_bank` | [`BankParams`] → [`BankModel`] | linear models of many learning rates, mixed: the default |
//! | `passive_aggressive` | [`PassiveAggressiveParams`] → [`PassiveAggressiveModel`] | linear models by margin |
//! | `hashed_linear` | [`HashedParams`] → [`HashedModel`] | linear models over hashed features, of any number |
//! | `hoeffding_tree` | [`HoeffdingTreeParams`] → [`HoeffdingTreeModel`] | a tree that splits once the rows tell |
//! | `hoeffding_adaptive_tree` | [`AdaptiveTreeParams`] → [`AdaptiveTreeModel`] | one that replaces branches that get worse |
//! | `adaptive_random_forest` | [`AdaptiveForestParams`] → [`AdaptiveForestModel`] | trees that are replaced when they go wrong |
//! | `streaming_random_patches` | [`RandomPatchesParams`] → [`RandomPatchesModel`] | the same, each tree on features of its own |
//! | `mondrian_forest` | [`MondrianForestParams`] → [`MondrianForestModel`] | random trees, all prunings averaged |
//! | `naive_bayes` | [`NaiveBayesParams`] → [`NaiveBayesModel`] | features as independent within each class |
//! | `nearest_neighbors` | [`NeighborsParams`] → [`NeighborsModel`] | the nearest of the last rows |
//!
//! Each is one implementation of [`Incremental`] under the shell [`Online`], which checks and codes
//! rows, stores the state to the bit, and learns a dataset in the order of its timestamps.
//!
//! Around the models:
//!
//! ```text
//!            ┌ Blend, Calibrated, Frozen: one model of several, also with batch models
//!  Service ──┤ Progress, Conformal, Monitor: how good, how sure, how changed
//!            └ Replay, RetrainPolicy, Duel: when and with what to retrain, and whether it helped
//! ```
//!
//! A [`Service`] answers while it learns, from a log that survives a kill at any point.
//!
//! # What is deliberately absent
//!
//! No thread of its own, no clock, no network: the caller brings the threads, the stream brings the
//! time.

#![forbid(unsafe_code)]

// Models and drift detectors.
mod drift;
mod half_life;
mod inputs;
mod linear;
mod naive_bayes;
mod neighbors;
mod online;
mod random;
#[cfg(test)]
mod river;
mod tree;

// The service and what surrounds the models.
mod blend;
mod bytes;
mod conformal;
mod frozen;
mod monitor;
#[cfg(test)]
mod probe;
mod progress;
mod retrain;
mod service;
mod space;

use mm_core::Catalog;

pub use crate::{
    drift::{
        Adwin, AdwinParams, AnyDetector, Change, Ddm, DdmParams, Detector, DetectorParams,
        Direction, Eddm, EddmParams, HddmA, HddmAParams, HddmW, HddmWParams, Kswin, KswinParams,
        PageHinkley, PageHinkleyParams,
    },
    half_life::HalfLife,
    inputs::{CellCounts, CellPolicy, Coding, Infinite, InputParams, Missing, Row, Slot},
    linear::{
        bank::{Bank, BankModel, BankParams},
        hashed::{Hashed, HashedModel, HashedParams, feature_key},
        link::RegressionLoss,
        model::{Linear, LinearModel, LinearParams},
        optimizer::Optimizer,
        passive::{PassiveAggressive, PassiveAggressiveModel, PassiveAggressiveParams},
        scaler::{Scale, Scaler},
    },
    naive_bayes::{NaiveBayes, NaiveBayesModel, NaiveBayesParams},
    neighbors::{Neighbors, NeighborsModel, NeighborsParams},
    online::{Example, Incremental, Online, OnlineLearner, Shape},
    tree::{
        adaptive::{AdaptiveTree, AdaptiveTreeModel, AdaptiveTreeParams},
        forest::{
            AdaptiveForest, AdaptiveForestModel, AdaptiveForestParams, FeatureCount, Forest,
            RandomPatches, RandomPatchesModel, RandomPatchesParams,
        },
        hoeffding::{GrowthParams, HoeffdingTree, HoeffdingTreeModel, HoeffdingTreeParams},
        leaf::LeafPrediction,
        mondrian::{MondrianForest, MondrianForestModel, MondrianForestParams},
    },
};

pub use crate::{
    blend::{Blend, BlendParams, BlendRule, Calibrated, CalibrationParams},
    conformal::{Conformal, ConformalParams},
    frozen::Frozen,
    monitor::{ColumnDrift, Monitor, MonitorParams},
    progress::{Progress, ProgressParams, Scores},
    retrain::{
        Continued, Duel, Floor, Reason, Replay, ReplayParams, RetrainPolicy, Schedule, retrain,
    },
    service::{
        Counts, Ending, Event, Options, Outcome, Prediction, Reader, Recovery, Report, RowId,
        Service, ServiceParams, TrialParams, TrialReport, Verdict,
    },
};

/// Adds what this crate can fit and open to `catalog`.
#[must_use]
pub fn register(catalog: Catalog) -> Catalog {
    let catalog = register_models(catalog);
    catalog.with::<Blend>().with::<Calibrated>().with::<Frozen>().with::<service::State>()
}

/// The models.
fn register_models(catalog: Catalog) -> Catalog {
    catalog
        .with::<LinearModel>()
        .with_kind::<LinearParams>(Linear::NAME)
        .with_space::<LinearParams>(Linear::NAME)
        .with::<BankModel>()
        .with_kind::<BankParams>(Bank::NAME)
        .with_space::<BankParams>(Bank::NAME)
        .with::<PassiveAggressiveModel>()
        .with_kind::<PassiveAggressiveParams>(PassiveAggressive::NAME)
        .with_space::<PassiveAggressiveParams>(PassiveAggressive::NAME)
        .with::<HashedModel>()
        .with_kind::<HashedParams>(Hashed::NAME)
        .with_space::<HashedParams>(Hashed::NAME)
        .with::<HoeffdingTreeModel>()
        .with_kind::<HoeffdingTreeParams>(HoeffdingTree::NAME)
        .with_space::<HoeffdingTreeParams>(HoeffdingTree::NAME)
        .with::<AdaptiveTreeModel>()
        .with_kind::<AdaptiveTreeParams>(AdaptiveTree::NAME)
        .with_space::<AdaptiveTreeParams>(AdaptiveTree::NAME)
        .with::<AdaptiveForestModel>()
        .with_kind::<AdaptiveForestParams>(AdaptiveForest::NAME)
        .with_space::<AdaptiveForestParams>(AdaptiveForest::NAME)
        .with::<RandomPatchesModel>()
        .with_kind::<RandomPatchesParams>(RandomPatches::NAME)
        .with_space::<RandomPatchesParams>(RandomPatches::NAME)
        .with::<MondrianForestModel>()
        .with_kind::<MondrianForestParams>(MondrianForest::NAME)
        .with_space::<MondrianForestParams>(MondrianForest::NAME)
        .with::<NaiveBayesModel>()
        .with_kind::<NaiveBayesParams>(NaiveBayes::NAME)
        .with_space::<NaiveBayesParams>(NaiveBayes::NAME)
        .with::<NeighborsModel>()
        .with_kind::<NeighborsParams>(Neighbors::NAME)
        .with_space::<NeighborsParams>(Neighbors::NAME)
}
