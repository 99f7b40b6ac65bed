//! Who gives trials up early.

mod halving;
mod percentile;
mod simple;
mod wilcoxon;

use std::fmt;

use mm_core::{Direction, Result};

pub use self::{
    halving::{HalvingPruner, HyperbandPruner},
    percentile::PercentilePruner,
    simple::{PatientPruner, ThresholdPruner},
    wilcoxon::WilcoxonPruner,
};
use crate::{history::History, json::Json, trial::FrozenTrial};

/// Decides from what trials have reported whether one is worth going on with.
pub trait Pruner: fmt::Debug + Send + Sync {
    /// What to do with the trial that has just reported.
    fn decide(&self, report: &Report<'_>) -> Result<Decision>;
}

/// What a pruner decides from.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// The study's name.
    pub study: &'a str,
    /// Which way each objective is better.
    pub directions: &'a [Direction],
    /// What is known of other trials.
    pub history: &'a History,
    /// The trial that has just reported, with all that it has reported.
    pub trial: &'a FrozenTrial,
}

impl<'a> Report<'a> {
    /// Which way reports are better: with several objectives, trials report the first one.
    pub fn direction(&self) -> Direction {
        self.directions.first().copied().unwrap_or(Direction::Minimize)
    }

    /// All other trials that have begun.
    pub fn others(&self) -> impl Iterator<Item = &'a FrozenTrial> + Clone {
        let Self { history, trial, .. } = *self;
        let all = history.finished().iter().chain(history.open()).map(|other| &**other);
        all.filter(move |other| other.id != trial.id)
    }
}

/// What a pruner decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Whether the trial is given up.
    pub prune: bool,
    /// System attributes of the trial that later decisions need.
    pub notes: Vec<(String, Json)>,
}

impl Decision {
    /// The trial goes on.
    pub const KEEP: Self = Self { prune: false, notes: Vec::new() };
    /// The trial is given up.
    pub const PRUNE: Self = Self { prune: true, notes: Vec::new() };

    fn of(prune: bool) -> Self {
        Self { prune, notes: Vec::new() }
    }
}

/// Never gives up.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPruner;

impl Pruner for NoPruner {
    fn decide(&self, _: &Report<'_>) -> Result<Decision> {
        Ok(Decision::KEEP)
    }
}
