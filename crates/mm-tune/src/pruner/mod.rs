//! Who gives trials up early.

use std::fmt;

use mm_core::{Direction, Result};

use crate::{history::History, trial::FrozenTrial};

/// Decides from what trials have reported whether one is worth going on with.
pub trait Pruner: fmt::Debug + Send + Sync {
    /// Whether `trial`, which has just reported, should be given up.
    fn should_prune(
        &self,
        directions: &[Direction],
        history: &History,
        trial: &FrozenTrial,
    ) -> Result<bool>;
}
