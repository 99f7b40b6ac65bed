//! Who gives trials up early.

use std::fmt;

use mm_core::{Direction, Result};

use crate::{history::History, trial::FrozenTrial};

/// Decides from what trials have reported whether one is worth going on with.
pub trait Pruner: fmt::Debug + Send + Sync {
    /// Whether `trial`, which has just reported, should be given up.
    fn should_prune(&self, report: &Report<'_>) -> Result<bool>;
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

/// Never gives up.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPruner;

impl Pruner for NoPruner {
    fn should_prune(&self, _: &Report<'_>) -> Result<bool> {
        Ok(false)
    }
}
