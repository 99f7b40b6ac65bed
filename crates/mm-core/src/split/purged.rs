//! Cross-validation of labels that span time: purging and embargo.
//!
//! # Idea
//!
//! The label of a row of time *t* may be known only at a later time *l*: the return over the next
//! five days, say. Rows close in time then share part of their labels, and a row trained on tells
//! the label of a row tested, before it as well as after it. Two measures keep training honest for
//! a test fold that is a block of consecutive moments:
//!
//! ```text
//! purging   drops training rows whose [t, l] overlaps [min t, max l] of the test block
//! embargo   drops training rows with max l < t ≤ max l + embargo, against serial correlation
//! ```
//!
//! For a block of consecutive moments this is the same as comparing each training row with each
//! test row, since all rows between the block's first and last moment are tested.
//!
//! # Limits
//!
//! Unlike [`TimeSeriesSplit`](super::TimeSeriesSplit), training rows may lie after the test: the
//! question answered is how well the model does on a stretch of time it has not seen, not how it
//! would have done at that time.
//!
//! # Sources
//!
//! López de Prado (2018), *Advances in Financial Machine Learning*, chapters 7 and 12.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{
    Fold, Splitter, check_folds, ensure_rows,
    k_fold::blocks,
    span::{Extent, Span},
    time::{Timeline, empty_test},
};
use crate::{
    data::Dataset,
    error::{Error, ParamError, Result},
};

/// *k*-fold cross-validation over consecutive blocks of time, purged and with an embargo.
///
/// A training row is dropped if the interval from its timestamp to its label time, both included,
/// meets the one from the test block's first timestamp to its last label time; or if it lies within
/// the embargo after that. The dataset must have label times (where labels are known at once, the
/// timestamps themselves). Test blocks have sizes that differ by at most one, unless rows of one
/// timestamp would be parted: a boundary then moves before all of them. Each row is tested once.
/// Source: López de Prado (2018), *Advances in Financial Machine Learning*, chapter 7.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `folds` | 5 | ≥ 2, at most the number of rows | number of folds, *k* |
/// | `embargo` | 0 | ≥ 0 | a [`Span`] dropped from training after the last label time of the test block |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PurgedKFold {
    /// Number of folds.
    pub folds: usize,
    /// Dropped after the test block.
    pub embargo: Span,
}

impl PurgedKFold {
    /// `folds` folds without an embargo.
    pub fn new(folds: usize) -> Self {
        Self { folds, embargo: Span::ZERO }
    }

    /// The same with an embargo.
    #[must_use]
    pub fn with_embargo(self, embargo: Span) -> Self {
        Self { embargo, ..self }
    }

    /// Checks the fields.
    pub fn check(&self) -> Result<(), ParamError> {
        check_folds(self.folds)?;
        self.embargo.check("embargo")
    }
}

impl Default for PurgedKFold {
    fn default() -> Self {
        Self::new(5)
    }
}

impl Splitter for PurgedKFold {
    fn split(&self, data: &Dataset, _: u64) -> Result<Vec<Fold>> {
        self.check()?;
        let (timeline, blocks) = blocks_of_time(data, self.folds)?;
        (0..self.folds).map(|k| purged_fold(&timeline, &blocks, &[k], self.embargo, k)).collect()
    }
}

/// Combinatorial purged cross-validation: time is parted into *N* blocks as by [`PurgedKFold`], and
/// every choice of *k* of them is the test of one fold, in lexicographic order. Adjacent test
/// blocks count as one; purging and embargo apply to each.
///
/// There are *N*! / (*k*! (*N* − *k*)!) folds, and each row is tested in *k* / *N* of them, from
/// which as many paths through the whole of time can be put together
/// ([`n_paths`](CombinatorialPurged::n_paths)). The folds take memory of O(*n*) each.
/// Source: López de Prado (2018), *Advances in Financial Machine Learning*, chapter 12.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `blocks` | 6 | ≥ 2, at most the number of rows | blocks of time, *N* |
/// | `test_blocks` | 2 | ≥ 1, < `blocks`; at most 1000 folds | blocks tested at a time, *k* |
/// | `embargo` | 0 | ≥ 0 | a [`Span`] dropped from training after each test block |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CombinatorialPurged {
    /// Blocks of time.
    pub blocks: usize,
    /// Blocks tested at a time.
    pub test_blocks: usize,
    /// Dropped after each test block.
    pub embargo: Span,
}

impl CombinatorialPurged {
    /// The largest number of folds.
    pub const MAX_FOLDS: usize = 1000;

    /// Every choice of `test_blocks` of `blocks` blocks, without an embargo.
    pub fn new(blocks: usize, test_blocks: usize) -> Self {
        Self { blocks, test_blocks, embargo: Span::ZERO }
    }

    /// The same with an embargo.
    #[must_use]
    pub fn with_embargo(self, embargo: Span) -> Self {
        Self { embargo, ..self }
    }

    /// Checks the fields.
    pub fn check(&self) -> Result<(), ParamError> {
        let (n, k) = (self.blocks, self.test_blocks);
        ParamError::ensure(2 <= n, "blocks", n, "at least 2")?;
        let expected = format!("at least 1 and less than `blocks`, {n}");
        ParamError::ensure(1 <= k && k < n, "test_blocks", k, expected)?;
        let most = Self::MAX_FOLDS;
        let expected = format!("at most {most} choices of `test_blocks`, {k}, from so many");
        ParamError::ensure(choices(n, k).is_some(), "blocks", n, expected)?;
        self.embargo.check("embargo")
    }

    /// Number of folds; `None` if there are more than [`MAX_FOLDS`](Self::MAX_FOLDS).
    pub fn n_folds(&self) -> Option<usize> {
        choices(self.blocks, self.test_blocks)
    }

    /// How often each row is tested, which is the number of paths through the whole of time that
    /// the folds' tests make up; `None` where [`n_folds`](Self::n_folds) is.
    pub fn n_paths(&self) -> Option<usize> {
        self.n_folds().map(|folds| folds * self.test_blocks / self.blocks.max(1))
    }
}

impl Default for CombinatorialPurged {
    fn default() -> Self {
        Self::new(6, 2)
    }
}

impl Splitter for CombinatorialPurged {
    fn split(&self, data: &Dataset, _: u64) -> Result<Vec<Fold>> {
        self.check()?;
        let (timeline, blocks) = blocks_of_time(data, self.blocks)?;
        let mut choice: Vec<usize> = (0..self.test_blocks).collect();
        let mut folds = Vec::new();
        loop {
            folds.push(purged_fold(&timeline, &blocks, &choice, self.embargo, folds.len())?);
            if !advance(&mut choice, self.blocks) {
                return Ok(folds);
            }
        }
    }
}

/// The number of ways to choose *k* of *n*; `None` above [`CombinatorialPurged::MAX_FOLDS`].
fn choices(n: usize, k: usize) -> Option<usize> {
    // The partial products are themselves binomials, and grow as long as i < n / 2.
    let step = |ways: usize, i: usize| {
        let ways = ways as u128 * (n - i) as u128 / (i as u128 + 1);
        usize::try_from(ways).ok().filter(|&ways| ways <= CombinatorialPurged::MAX_FOLDS)
    };
    if n < k { Some(0) } else { (0..k.min(n - k)).try_fold(1, step) }
}

/// The next choice from 0..n in lexicographic order; false after the last.
fn advance(choice: &mut [usize], n: usize) -> bool {
    let k = choice.len();
    let Some(at) = (0..k).rev().find(|&i| choice[i] < n - k + i) else {
        return false;
    };
    let next = choice[at] + 1;
    (next..).zip(&mut choice[at..]).for_each(|(value, slot)| *slot = value);
    true
}

/// The time order, and its parts as positions; rows of one timestamp are in one part.
fn blocks_of_time(data: &Dataset, count: usize) -> Result<(Timeline, Vec<Range<usize>>)> {
    if data.label_times().is_none() {
        let got = if data.frame().times().is_none() { "no timestamps either" } else { "none" };
        return Err(Error::data("label times", "one a row, to purge by", got));
    }
    ensure_rows(data, count)?;
    let timeline = Timeline::of(data);
    let mut bounds: Vec<usize> =
        blocks(timeline.len(), count).map(|block| timeline.first_of_moment(block.start)).collect();
    bounds.push(timeline.len());
    let blocks: Vec<_> = bounds.windows(2).map(|pair| pair[0]..pair[1]).collect();
    match blocks.iter().position(Range::is_empty) {
        Some(index) => Err(empty_test(index)),
        None => Ok((timeline, blocks)),
    }
}

/// The fold that tests the chosen blocks, which are ascending, and trains on what purging and
/// embargo leave of the others.
fn purged_fold(
    timeline: &Timeline,
    blocks: &[Range<usize>],
    chosen: &[usize],
    embargo: Span,
    index: usize,
) -> Result<Fold> {
    let n = timeline.len();
    let mut keeps = vec![true; n];
    for run in chosen.chunk_by(|a, b| a + 1 == *b) {
        let test = blocks[run[0]].start..blocks[run[run.len() - 1]].end;
        let start = timeline.moments[test.start];
        let until = timeline.known[test.clone()].iter().max().map_or(start, |&last| last);
        let resumes = match embargo.in_rows(n) {
            Extent::Rows(rows) => timeline.first_after(until).saturating_add(rows).min(n),
            Extent::Nanos(time) => timeline.first_after(until.saturating_add(time)),
        };
        keeps[test.start..resumes].fill(false);
        for (keep, &known) in keeps[..test.start].iter_mut().zip(&timeline.known) {
            *keep &= known < start;
        }
    }
    let pick = |at: usize| timeline.rows[at];
    let test = chosen.iter().flat_map(|&block| blocks[block].clone()).map(pick).collect();
    let train: Vec<usize> = (0..n).filter(|&at| keeps[at]).map(pick).collect();
    if train.is_empty() {
        let place = format!("fold {index}, training rows");
        return Err(Error::data(place, "at least 1 left by purging and embargo", "none"));
    }
    Fold::new(train, test)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::laws::{plain, timed},
        *,
    };

    /// Ten rows, 10 ns apart, whose labels take `horizon` ns.
    fn spanning(horizon: i64) -> Dataset {
        let times: Vec<i64> = (0..10).map(|i| 10 * i).collect();
        let known = times.iter().map(|t| t + horizon).collect();
        timed(&times).with_label_times(known).expect("not before the row")
    }

    #[test]
    fn labels_that_reach_into_the_test_and_out_of_it_are_purged() {
        let folds = PurgedKFold::new(5).split(&spanning(15), 0).expect("leaves rows");
        // Fold 2 tests rows 4, 5 of [40, 65]. Row 3 has [30, 45], row 2 [20, 35], row 6 [60, 75].
        assert_eq!(
            (&folds[2].train[..], &folds[2].test[..]),
            (&[0, 1, 2, 7, 8, 9][..], &[4, 5][..])
        );
        // A label known at the very moment of the first test row overlaps it.
        let folds = PurgedKFold::new(5).split(&spanning(10), 0).expect("leaves rows");
        assert_eq!(folds[2].train, [0, 1, 2, 7, 8, 9]);
        let folds = PurgedKFold::new(5).split(&spanning(9), 0).expect("leaves rows");
        assert_eq!(folds[2].train, [0, 1, 2, 3, 6, 7, 8, 9]);
    }

    #[test]
    fn the_embargo_follows_the_last_label() {
        let purged = |embargo| PurgedKFold::new(5).with_embargo(embargo);
        let train = |embargo| {
            purged(embargo).split(&spanning(9), 0).expect("leaves rows").swap_remove(2).train
        };
        assert_eq!(train(Span::Rows(1)), [0, 1, 2, 3, 7, 8, 9]);
        assert_eq!(train(Span::Fraction(0.2)), [0, 1, 2, 3, 8, 9]);
        // Labels of the test end at 59; row 6 is of time 60, row 7 of 70.
        let time = |nanos| Span::Time(Duration::from_nanos(nanos));
        assert_eq!(train(time(10)), [0, 1, 2, 3, 7, 8, 9]);
        assert_eq!(train(time(11)), [0, 1, 2, 3, 8, 9]);
        // After fold 0, whose labels end at 19, rows 2 to 9 are of times up to 90.
        assert!(purged(time(70)).split(&spanning(9), 0).is_ok());
        assert!(purged(Span::Rows(usize::MAX)).split(&spanning(9), 0).is_err());
        let err = purged(time(71)).split(&spanning(9), 0).expect_err("nothing after fold 0");
        let text =
            "fold 0, training rows: expected at least 1 left by purging and embargo, got none";
        assert_eq!(err.to_string(), text);
    }

    #[test]
    fn label_times_are_needed() {
        let err = PurgedKFold::new(2).split(&timed(&[1, 2, 3]), 0).expect_err("no label times");
        assert_eq!(err.to_string(), "label times: expected one a row, to purge by, got none");
        let err = PurgedKFold::new(2).split(&plain(3), 0).expect_err("no timestamps");
        let text = "label times: expected one a row, to purge by, got no timestamps either";
        assert_eq!(err.to_string(), text);
    }

    #[test]
    fn one_moment_cannot_be_parted() {
        let data = timed(&[5; 4]).with_label_times(vec![5; 4]).expect("at once");
        let err = PurgedKFold::new(2).split(&data, 0).expect_err("one moment");
        let text = "fold 0, test rows: expected at least 1 with timestamps of their own, got none";
        assert_eq!(err.to_string(), text);
    }

    #[test]
    fn every_choice_of_blocks_is_tested_once() {
        let folds = CombinatorialPurged::new(5, 2).split(&spanning(9), 0).expect("leaves rows");
        let tests: Vec<_> = folds.iter().map(|fold| fold.test.clone()).collect();
        assert_eq!(tests.len(), 10);
        assert_eq!(tests[0], [0, 1, 2, 3]);
        assert_eq!(tests[1], [0, 1, 4, 5]);
        assert_eq!(tests[9], [6, 7, 8, 9]);
        assert!(tests.is_sorted(), "lexicographic");
        let one = CombinatorialPurged::new(5, 1).split(&spanning(15), 0).expect("leaves rows");
        assert_eq!(one, PurgedKFold::new(5).split(&spanning(15), 0).expect("leaves rows"));
    }

    #[test]
    fn binomials_count_the_folds_and_the_paths() {
        for (n, k, folds, paths) in
            [(6, 2, 15, 5), (10, 5, 252, 126), (1000, 1, 1000, 1), (1000, 999, 1000, 999)]
        {
            let splitter = CombinatorialPurged::new(n, k);
            assert_eq!((splitter.n_folds(), splitter.n_paths()), (Some(folds), Some(paths)));
            assert_eq!(splitter.check(), Ok(()));
        }
        for (n, k) in [(1001, 1), (13, 6), (usize::MAX, usize::MAX / 2)] {
            let err = CombinatorialPurged::new(n, k).check().expect_err("too many");
            let expected = format!("at most 1000 choices of `test_blocks`, {k}, from so many");
            assert_eq!((err.name.as_str(), err.expected), ("blocks", expected));
        }
        for (n, k, name) in [(1, 1, "blocks"), (5, 0, "test_blocks"), (5, 5, "test_blocks")] {
            assert_eq!(CombinatorialPurged::new(n, k).check().expect_err("outside").name, name);
        }
        let err = CombinatorialPurged::default().with_embargo(Span::Fraction(1.0)).check();
        assert_eq!(err.expect_err("all rows").name, "embargo");
    }
}
