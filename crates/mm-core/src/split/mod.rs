//! Ways to part a dataset into training and test rows, one splitter a file.
//!
//! | splitter | what it promises |
//! | --- | --- |
//! | [`Holdout`] | one fold: random, stratified, or the last rows in time order |
//! | [`KFold`] | every row is tested once |
//! | [`StratifiedKFold`] | the same, and every fold has the classes' shares |
//! | [`GroupKFold`] | the same as k-fold, and no group is on both sides |
//! | [`StratifiedGroupKFold`] | no group on both sides, class shares as near as groups allow |
//! | [`TimeSeriesSplit`] | training lies wholly before its test, labels included |
//! | [`PurgedKFold`] | no training label overlaps the test in time; an embargo after it |
//! | [`CombinatorialPurged`] | the same, for every choice of *k* of *N* blocks of time |
//! | [`Repeated`] | any of them several times, each time with a seed of its own |
//!
//! A splitter is plain data with public fields; [`Splitter::split`] checks them first. A
//! [`SplitPlan`] is any of them as a value that a file can hold.
//!
//! # What every splitter owes
//!
//! The folds depend on the number of rows, on the seed, and on those of target classes, groups and
//! times that the splitter names; never on feature values, and not on weights: a row counts as one
//! row whatever its weight. Shuffling is by `ChaCha8` seeded with the seed, so that the same seed
//! gives the same folds on every machine. Rows of both sides are ascending and share no row, and
//! neither side is empty. Time is O(*n* log *n*) and memory O(*n*), each a fold, unless said
//! otherwise.

mod grouped;
mod holdout;
mod k_fold;
#[cfg(test)]
mod laws;
mod plan;
mod purged;
mod repeated;
mod span;
mod stratified;
mod time;

use std::{cmp::Ordering, fmt};

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    data::Dataset,
    error::{Error, ParamError, Result},
};

pub use {
    grouped::{GroupKFold, StratifiedGroupKFold},
    holdout::{HeldOut, Holdout},
    k_fold::KFold,
    plan::SplitPlan,
    purged::{CombinatorialPurged, PurgedKFold},
    repeated::Repeated,
    span::Span,
    stratified::StratifiedKFold,
    time::TimeSeriesSplit,
};

/// One way to part the rows: fit on `train`, predict `test`. The two share no row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fold {
    /// Rows to fit on, ascending.
    pub train: Vec<usize>,
    /// Rows to predict, ascending.
    pub test: Vec<usize>,
}

impl Fold {
    /// A fold of the given rows, in any order. An empty side, a row that occurs twice, and a row on
    /// both sides are errors.
    pub fn new(mut train: Vec<usize>, mut test: Vec<usize>) -> Result<Self> {
        for (place, rows) in [("training rows", &mut train), ("test rows", &mut test)] {
            if rows.is_empty() {
                return Err(Error::data(place, "at least 1", "none"));
            }
            rows.sort_unstable();
            if let Some(i) = (1..rows.len()).find(|&i| rows[i] == rows[i - 1]) {
                let got = format_args!("row {} twice", rows[i]);
                return Err(Error::data(place, "each row once", got));
            }
        }
        if let Some(row) = first_shared(&train, &test) {
            return Err(Error::data("a fold", "no row on both sides", format_args!("row {row}")));
        }
        Ok(Self { train, test })
    }
}

/// Parts a dataset into folds. The same data and seed give the same folds.
pub trait Splitter: fmt::Debug + Send + Sync {
    /// The folds, at least one, none with an empty side. A dataset that cannot be parted so is an
    /// error that says why.
    fn split(&self, data: &Dataset, seed: u64) -> Result<Vec<Fold>>;
}

impl<S: Splitter + ?Sized> Splitter for Box<S> {
    fn split(&self, data: &Dataset, seed: u64) -> Result<Vec<Fold>> {
        (**self).split(data, seed)
    }
}

/// The first element that two ascending lists have in common.
fn first_shared(a: &[usize], b: &[usize]) -> Option<usize> {
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            Ordering::Less => i += 1,
            Ordering::Greater => j += 1,
            Ordering::Equal => return Some(a[i]),
        }
    }
    None
}

/// Shuffles in place, the same way on every machine.
fn shuffle<T>(items: &mut [T], seed: u64) {
    items.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
}

/// The rows 0..n, shuffled if asked.
fn row_order(n_rows: usize, shuffled: bool, seed: u64) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..n_rows).collect();
    if shuffled {
        shuffle(&mut rows, seed);
    }
    rows
}

/// The folds in which row `i` is tested in fold `fold_of[i]` and trained on in all others.
fn partition(fold_of: &[usize], n_folds: usize) -> Result<Vec<Fold>> {
    let fold = |k| {
        let (test, train) = (0..fold_of.len()).partition(|&row| fold_of[row] == k);
        Fold::new(train, test)
    };
    (0..n_folds).map(fold).collect()
}

/// Checks a number of folds that partition the rows.
fn check_folds(folds: usize) -> Result<(), ParamError> {
    ParamError::ensure(2 <= folds, "folds", folds, "at least 2")
}

/// Refuses data of fewer rows than folds.
fn ensure_rows(data: &Dataset, folds: usize) -> Result<()> {
    if folds <= data.n_rows() {
        return Ok(());
    }
    Err(Error::data("rows to split", format_args!("at least {folds}, one a fold"), data.n_rows()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fold_is_sorted_and_checked() {
        let fold = Fold::new(vec![4, 0, 2], vec![3, 1]).expect("disjoint");
        assert_eq!((fold.train, fold.test), (vec![0, 2, 4], vec![1, 3]));
        for (train, test, message) in [
            (vec![], vec![0], "training rows: expected at least 1, got none"),
            (vec![0], vec![], "test rows: expected at least 1, got none"),
            (vec![0, 1, 0], vec![2], "training rows: expected each row once, got row 0 twice"),
            (vec![0, 5, 7], vec![6, 5], "a fold: expected no row on both sides, got row 5"),
        ] {
            assert_eq!(Fold::new(train, test).expect_err("unusable").to_string(), message);
        }
    }

    /// Written down so that a change of the generator or of the shuffle is noticed: the folds of
    /// stored runs must stay what they were.
    #[test]
    fn shuffled_folds_are_those_of_earlier_releases() {
        assert_eq!(row_order(10, true, 42), [7, 1, 5, 4, 6, 9, 3, 8, 2, 0]);
        assert_eq!(row_order(4, false, 42), [0, 1, 2, 3]);
        let data = laws::plain(10);
        let tests = |seed| -> Vec<Vec<usize>> {
            let folds = KFold::new(3).split(&data, seed).expect("enough rows");
            folds.into_iter().map(|fold| fold.test).collect()
        };
        assert_eq!(tests(42), [vec![1, 4, 5, 7], vec![3, 6, 9], vec![0, 2, 8]]);
        assert_eq!(tests(u64::MAX), [vec![1, 3, 6, 9], vec![0, 5, 7], vec![2, 4, 8]]);
    }
}
