//! Plain *k*-fold cross-validation.

use serde::{Deserialize, Serialize};

use super::{Fold, Splitter, check_folds, ensure_rows, partition, row_order};
use crate::{
    data::Dataset,
    error::{ParamError, Result},
};

/// Parts the rows into `folds` test folds whose sizes differ by at most one; each row is tested
/// once and trained on in all other folds. For rows that are independent of each other.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `folds` | 5 | ≥ 2, at most the number of rows | number of folds, *k* |
/// | `shuffle` | true | | false: the test folds are consecutive blocks of rows, larger ones first |
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct KFold {
    /// Number of folds.
    pub folds: usize,
    /// Whether rows are dealt at random.
    pub shuffle: bool,
}

impl KFold {
    /// `folds` shuffled folds.
    pub fn new(folds: usize) -> Self {
        Self { folds, shuffle: true }
    }

    /// Consecutive blocks of rows instead.
    #[must_use]
    pub fn unshuffled(self) -> Self {
        Self { shuffle: false, ..self }
    }

    /// Checks the fields.
    pub fn check(&self) -> Result<(), ParamError> {
        check_folds(self.folds)
    }
}

impl Default for KFold {
    fn default() -> Self {
        Self::new(5)
    }
}

impl Splitter for KFold {
    fn split(&self, data: &Dataset, seed: u64) -> Result<Vec<Fold>> {
        self.check()?;
        ensure_rows(data, self.folds)?;
        let mut fold_of = vec![0; data.n_rows()];
        let rows = row_order(data.n_rows(), self.shuffle, seed);
        for (fold, block) in blocks(rows.len(), self.folds).enumerate() {
            for &row in &rows[block] {
                fold_of[row] = fold;
            }
        }
        partition(&fold_of, self.folds)
    }
}

/// Parts 0..n into `count` consecutive blocks whose lengths differ by at most one, longer first.
pub(super) fn blocks(n: usize, count: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let start = move |k: usize| k * (n / count) + k.min(n % count);
    (0..count).map(move |k| start(k)..start(k + 1))
}

#[cfg(test)]
mod tests {
    use super::{super::laws::plain, *};

    #[test]
    fn unshuffled_folds_are_blocks() {
        let folds = KFold::new(3).unshuffled().split(&plain(7), 0).expect("enough rows");
        let test: Vec<_> = folds.iter().map(|fold| fold.test.clone()).collect();
        assert_eq!(test, [vec![0, 1, 2], vec![3, 4], vec![5, 6]]);
        assert_eq!(folds[1].train, [0, 1, 2, 5, 6]);
    }

    #[test]
    fn too_few_rows_are_an_error_with_both_numbers() {
        let err = KFold::new(5).split(&plain(4), 0).expect_err("4 < 5");
        assert_eq!(err.to_string(), "rows to split: expected at least 5, one a fold, got 4");
        let err = KFold::new(1).split(&plain(4), 0).expect_err("1 < 2");
        assert_eq!(err.to_string(), "parameter `folds` is 1; expected at least 2");
    }
}
