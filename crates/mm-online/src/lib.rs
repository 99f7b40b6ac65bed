//! Models that keep learning from a stream, and what keeps them honest and alive.
//!
//! A model of this crate is a [`Model`](mm_core::Model) like any other and an
//! [`OnlineModel`](mm_core::OnlineModel) besides: it learns a row at a time. Around it:
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

use mm_core::Catalog;

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
    catalog.with::<Blend>().with::<Calibrated>().with::<Frozen>().with::<service::State>()
}
