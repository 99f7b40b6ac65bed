//! Continual learning: what is kept for retraining, when it is due, and how a new model must prove
//! itself.

pub(crate) mod duel;
mod fit;
pub(crate) mod policy;
mod replay;
mod schedule;

pub use self::{
    duel::Duel,
    fit::{Continued, retrain},
    policy::{Floor, Reason, RetrainPolicy},
    replay::{Replay, ReplayParams},
    schedule::Schedule,
};
