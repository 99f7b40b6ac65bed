//! Ways to part a dataset into training and test rows.

use std::fmt;

use crate::{data::Dataset, error::Result};

/// One way to part the rows: fit on `train`, predict `test`. The two share no row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fold {
    /// Rows to fit on, ascending.
    pub train: Vec<usize>,
    /// Rows to predict, ascending.
    pub test: Vec<usize>,
}

/// Parts a dataset into folds. The same data and seed give the same folds.
pub trait Splitter: fmt::Debug + Send + Sync {
    /// The folds, at least one, none with an empty side. A dataset that cannot be parted so is an
    /// error that says why.
    fn split(&self, data: &Dataset, seed: u64) -> Result<Vec<Fold>>;
}
