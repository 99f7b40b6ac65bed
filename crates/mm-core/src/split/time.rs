//! Cross-validation forward in time.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{
    Fold, Splitter,
    span::{Extent, Span},
};
use crate::{
    data::Dataset,
    error::{Error, ParamError, Result},
};

/// Folds that train on the past and test on what follows, the last test fold ending with the last
/// row:
///
/// ```text
/// time    ────────────────────────────▶
/// fold 0  train train │ gap │ test
/// fold 1  train train  train │ gap │ test
/// fold 2  train train  train  train │ gap │ test
/// ```
///
/// Time is the frame's timestamps; rows need not be sorted by them. Without timestamps it is the
/// order of rows. Rows of one timestamp are never on both sides, nor in two test folds: a boundary
/// that would part them moves before all of them. A row is trained on only if its label was known
/// strictly before the first tested moment (its label time; its own timestamp where the dataset has
/// no label times), so every training label precedes every tested row.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `folds` | 5 | ≥ 1 | number of folds, *k* |
/// | `test` | none | > 0 | length of each test fold; none: *n* / (*k* + 1) rows, rounded down |
/// | `window` | none | > 0 | rolling window: at most so much, just before the gap, is trained on; none: all the past |
/// | `gap` | 0 | ≥ 0 | left out between training and test |
///
/// Lengths are [`Span`]s. In time, with a test fold whose first moment is *s*: test folds are the
/// stretches of length `test` that end with the last timestamp, each closed at its end and open at
/// its start; a row is trained on if its timestamp is less than *s* − `gap`, and with a window at
/// least *s* − `gap` − `window`. In rows: the `gap` rows before the test fold are left out, and of
/// those before them the last `window` kept, before rows whose label was not yet known are dropped.
///
/// By rows and without ties the folds are those of scikit-learn's class of this name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TimeSeriesSplit {
    /// Number of folds.
    pub folds: usize,
    /// Length of each test fold.
    pub test: Option<Span>,
    /// At most so much is trained on.
    pub window: Option<Span>,
    /// Left out between training and test.
    pub gap: Span,
}

impl TimeSeriesSplit {
    /// `folds` folds of equal test size, an expanding window, no gap.
    pub fn new(folds: usize) -> Self {
        Self { folds, test: None, window: None, gap: Span::ZERO }
    }

    /// The same with test folds of the given length.
    #[must_use]
    pub fn with_test(self, test: Span) -> Self {
        Self { test: Some(test), ..self }
    }

    /// The same with a rolling window.
    #[must_use]
    pub fn with_window(self, window: Span) -> Self {
        Self { window: Some(window), ..self }
    }

    /// The same with a gap.
    #[must_use]
    pub fn with_gap(self, gap: Span) -> Self {
        Self { gap, ..self }
    }

    /// Checks the fields.
    pub fn check(&self) -> Result<(), ParamError> {
        ParamError::ensure(1 <= self.folds, "folds", self.folds, "at least 1")?;
        self.test.map_or(Ok(()), |test| test.check_positive("test"))?;
        self.window.map_or(Ok(()), |window| window.check_positive("window"))?;
        self.gap.check("gap")
    }

    /// The test folds, as positions in time.
    fn tests(&self, timeline: &Timeline) -> Result<Vec<Range<usize>>> {
        let (n, k) = (timeline.len(), self.folds);
        let extent =
            self.test.map_or(Extent::Rows(n / k.saturating_add(1)), |test| test.in_rows(n));
        let needed = match extent {
            Extent::Rows(size) => size.max(1).saturating_mul(k).saturating_add(1),
            Extent::Nanos(_) => k.saturating_add(1),
        };
        if n < needed {
            let expected = format!("at least {needed} for {k} test folds");
            return Err(Error::data("rows to split", expected, n));
        }
        let start = |fold: usize| match extent {
            Extent::Rows(size) => timeline.first_of_moment(n - (k - fold) * size.max(1)),
            Extent::Nanos(length) => {
                let back = length.saturating_mul(i64::try_from(k - fold).unwrap_or(i64::MAX));
                timeline.first_after(timeline.moments[n - 1].saturating_sub(back))
            }
        };
        let mut bounds: Vec<usize> = (0..k).map(start).collect();
        bounds.push(n);
        Ok(bounds.windows(2).map(|pair| pair[0]..pair[1]).collect())
    }
}

impl Default for TimeSeriesSplit {
    fn default() -> Self {
        Self::new(5)
    }
}

impl Splitter for TimeSeriesSplit {
    fn split(&self, data: &Dataset, _: u64) -> Result<Vec<Fold>> {
        self.check()?;
        let timeline = Timeline::of(data);
        for span in [self.test, self.window, Some(self.gap)].into_iter().flatten() {
            timeline.ensure_measures(span)?;
        }
        let tests = self.tests(&timeline)?.into_iter().enumerate();
        tests.map(|(k, test)| forward_fold(&timeline, test, k, self.gap, self.window)).collect()
    }
}

/// The fold that tests the given positions and trains on what precedes them.
pub(super) fn forward_fold(
    timeline: &Timeline,
    test: Range<usize>,
    index: usize,
    gap: Span,
    window: Option<Span>,
) -> Result<Fold> {
    if test.is_empty() {
        return Err(empty_test(index));
    }
    let n = timeline.len();
    let start = timeline.moments[test.start];
    let (end, edge) = match gap.in_rows(n) {
        Extent::Rows(rows) => {
            let end = test.start.saturating_sub(rows);
            (end, timeline.moments[end])
        }
        Extent::Nanos(gap) => {
            let edge = start.saturating_sub(gap);
            (timeline.first_from(edge), edge)
        }
    };
    let first = match window.map(|window| window.in_rows(n)) {
        None => 0,
        Some(Extent::Rows(rows)) => end.saturating_sub(rows),
        Some(Extent::Nanos(window)) => timeline.first_from(edge.saturating_sub(window)),
    };
    let known = |&at: &usize| timeline.known[at] < start;
    let train: Vec<usize> = (first..end).filter(known).map(|at| timeline.rows[at]).collect();
    if train.is_empty() {
        let place = format!("fold {index}, training rows");
        return Err(Error::data(place, "at least 1 before the test fold", "none"));
    }
    Fold::new(train, timeline.rows[test].to_vec())
}

/// The error of a test fold that no row falls into.
pub(super) fn empty_test(index: usize) -> Error {
    let expected = "at least 1 with timestamps of their own";
    Error::data(format_args!("fold {index}, test rows"), expected, "none")
}

/// The rows in time order: by timestamp, rows of one timestamp in row order; or in row order, the
/// row number being the time.
#[derive(Debug)]
pub(super) struct Timeline {
    /// Row numbers in time order.
    pub(super) rows: Vec<usize>,
    /// When each of `rows` was; ascending.
    pub(super) moments: Vec<i64>,
    /// When the label of each of `rows` was known; never before its moment.
    pub(super) known: Vec<i64>,
    /// Whether moments are timestamps.
    is_stamped: bool,
}

impl Timeline {
    pub(super) fn of(data: &Dataset) -> Self {
        let mut rows: Vec<usize> = (0..data.n_rows()).collect();
        let Some(times) = data.frame().times() else {
            let moments: Vec<i64> = (0..).take(rows.len()).collect();
            return Self { rows, known: moments.clone(), moments, is_stamped: false };
        };
        rows.sort_by_key(|&row| times[row]);
        let labels = data.label_times().unwrap_or(times);
        let pick = |column: &[i64]| rows.iter().map(|&row| column[row]).collect();
        Self { moments: pick(times), known: pick(labels), rows, is_stamped: true }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The first position of the moment of position `at`, which must be less than the length.
    pub(super) fn first_of_moment(&self, at: usize) -> usize {
        self.first_from(self.moments[at])
    }

    /// The first position whose moment is not before `time`.
    pub(super) fn first_from(&self, time: i64) -> usize {
        self.moments.partition_point(|&moment| moment < time)
    }

    /// The first position whose moment is after `time`.
    pub(super) fn first_after(&self, time: i64) -> usize {
        self.moments.partition_point(|&moment| moment <= time)
    }

    /// Refuses a length of time where there are no timestamps.
    pub(super) fn ensure_measures(&self, span: Span) -> Result<()> {
        if self.is_stamped || !matches!(span, Span::Time(_)) {
            return Ok(());
        }
        let expected = format!("a frame with timestamps, to measure `{span}`");
        Err(Error::data("timestamps", expected, "none"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::laws::{plain, timed},
        *,
    };

    const fn time(nanos: u64) -> Span {
        Span::Time(Duration::from_nanos(nanos))
    }

    #[track_caller]
    fn check(splitter: &TimeSeriesSplit, data: &Dataset, expected: &[(&[usize], &[usize])]) {
        let folds = splitter.split(data, 0).expect("can be parted");
        let got: Vec<_> = folds.iter().map(|fold| (&fold.train[..], &fold.test[..])).collect();
        assert_eq!(got, expected);
    }

    #[track_caller]
    fn check_error(splitter: &TimeSeriesSplit, data: &Dataset, message: &str) {
        assert_eq!(splitter.split(data, 0).expect_err("cannot be parted").to_string(), message);
    }

    #[test]
    fn windows_and_gaps_count_rows() {
        let split = TimeSeriesSplit::new(2);
        check(&split, &plain(7), &[(&[0, 1, 2], &[3, 4]), (&[0, 1, 2, 3, 4], &[5, 6])]);
        let split = split.with_gap(Span::Rows(1)).with_window(Span::Rows(2));
        check(&split, &plain(7), &[(&[0, 1], &[3, 4]), (&[2, 3], &[5, 6])]);
        let split = split.with_test(Span::Fraction(0.15));
        check(&split, &plain(7), &[(&[2, 3], &[5]), (&[3, 4], &[6])]);
    }

    #[test]
    fn windows_and_gaps_measure_time() {
        let data = timed(&[0, 10, 20, 30, 40, 50]);
        let split = TimeSeriesSplit::new(2).with_test(time(20));
        // Test folds (10, 30] and (30, 50].
        check(&split, &data, &[(&[0, 1], &[2, 3]), (&[0, 1, 2, 3], &[4, 5])]);
        // Trained on if before 20 − 10 and 40 − 10: a row exactly a gap away is left out.
        let split = split.with_gap(time(10));
        check(&split, &data, &[(&[0], &[2, 3]), (&[0, 1, 2], &[4, 5])]);
        let split = split.with_window(time(20));
        check(&split, &data, &[(&[0], &[2, 3]), (&[1, 2], &[4, 5])]);
    }

    #[test]
    fn rows_of_one_timestamp_stay_together() {
        // In time order: 5 | 6 6 6 | 7 | 8 8; three rows a fold would part the sixes.
        let data = timed(&[6, 8, 6, 5, 6, 8, 7]);
        let split = TimeSeriesSplit::new(1).with_test(Span::Rows(4));
        check(&split, &data, &[(&[3], &[0, 1, 2, 4, 5, 6])]);
        let one = TimeSeriesSplit::new(2).with_test(Span::Rows(1));
        let text = "fold 0, test rows: expected at least 1 with timestamps of their own, got none";
        check_error(&one, &data, text);
    }

    #[test]
    fn labels_not_yet_known_are_not_trained_on() {
        let data = timed(&[0, 10, 20, 30]).with_label_times(vec![25, 19, 20, 30]).expect("later");
        let split = TimeSeriesSplit::new(1).with_test(Span::Rows(2));
        check(&split, &data, &[(&[1], &[2, 3])]);
        let data = data.with_label_times(vec![20, 20, 20, 30]).expect("later");
        let text = "fold 0, training rows: expected at least 1 before the test fold, got none";
        check_error(&split, &data, text);
    }

    #[test]
    fn what_cannot_be_parted_is_an_error_with_both_numbers() {
        let text = "rows to split: expected at least 6 for 5 test folds, got 5";
        check_error(&TimeSeriesSplit::new(5), &plain(5), text);
        let text = "rows to split: expected at least 10 for 3 test folds, got 9";
        check_error(&TimeSeriesSplit::new(3).with_test(Span::Rows(3)), &plain(9), text);
        let text = "timestamps: expected a frame with timestamps, to measure `10ns`, got none";
        check_error(&TimeSeriesSplit::new(3).with_gap(time(10)), &plain(9), text);
        let text = "fold 0, training rows: expected at least 1 before the test fold, got none";
        check_error(&TimeSeriesSplit::new(2).with_gap(Span::Rows(3)), &plain(9), text);
        // Nothing happened between 10 and 90.
        let text = "rows to split: expected at least 4 for 3 test folds, got 3";
        check_error(&TimeSeriesSplit::new(3).with_test(time(1)), &timed(&[1, 2, 3]), text);
        let sparse = TimeSeriesSplit::new(3).with_test(time(10));
        let text = "fold 0, test rows: expected at least 1 with timestamps of their own, got none";
        check_error(&sparse, &timed(&[0, 10, 90, 100]), text);
        for test in [None, Some(Span::Rows(usize::MAX)), Some(time(1))] {
            let huge = TimeSeriesSplit { test, ..TimeSeriesSplit::new(usize::MAX) };
            assert!(huge.split(&timed(&[1, 2, 3]), 0).is_err());
        }
        assert!(TimeSeriesSplit::new(1).with_test(time(1)).split(&timed(&[]), 0).is_err());
    }

    #[test]
    fn fields_outside_their_domain_are_named() {
        let base = TimeSeriesSplit::default;
        for (bad, name) in [
            (TimeSeriesSplit::new(0), "folds"),
            (base().with_test(Span::ZERO), "test"),
            (base().with_window(time(0)), "window"),
            (base().with_gap(Span::Fraction(1.5)), "gap"),
        ] {
            assert_eq!(bad.check().expect_err("outside").name, name);
        }
        assert_eq!(base().check(), Ok(()));
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        let data = timed(&[i64::MIN, i64::MIN + 1, 0, i64::MAX - 1, i64::MAX]);
        let most = time(i64::MAX as u64);
        let split = TimeSeriesSplit::new(1).with_test(most).with_window(most).with_gap(time(1));
        // The test fold is (0, MAX]; the edge MAX − 2 less the window is −1.
        check(&split, &data, &[(&[2], &[3, 4])]);
    }
}
