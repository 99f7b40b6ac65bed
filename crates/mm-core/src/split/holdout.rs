//! One fold: part of the rows is held out.

use serde::{Deserialize, Serialize};

use super::{
    Fold, Splitter, row_order,
    span::Span,
    stratified::strata,
    time::{Timeline, forward_fold},
};
use crate::{
    data::Dataset,
    error::{Error, ParamError, Result},
};

/// One fold, in which part of the rows is tested.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `fraction` | 0.2 | (0, 1) | share of the rows that is tested, to the nearest row, at least 1 on each side |
/// | `rows` | `random` | see [`HeldOut`] | which rows are tested |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Holdout {
    /// Share of the rows that is tested.
    pub fraction: f64,
    /// Which rows are tested.
    pub rows: HeldOut,
}

/// Which rows a [`Holdout`] tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HeldOut {
    /// Any, at random.
    #[default]
    Random,
    /// The fraction of each class, to the nearest row, at random; of each class that occurs at
    /// least 1 on each side.
    Stratified,
    /// The last in time, or the last rows where there are no timestamps. Rows of one timestamp
    /// stay together, on the tested side where they would be parted; rows whose label was not known
    /// before the first tested moment are left out.
    Last,
}

impl Holdout {
    /// Tests `fraction` of the rows, at random.
    pub fn new(fraction: f64) -> Self {
        Self { fraction, rows: HeldOut::Random }
    }

    /// Tests `fraction` of each class, at random.
    pub fn stratified(fraction: f64) -> Self {
        Self { fraction, rows: HeldOut::Stratified }
    }

    /// Tests the last `fraction` of the rows.
    pub fn last(fraction: f64) -> Self {
        Self { fraction, rows: HeldOut::Last }
    }

    /// Checks the fields.
    pub fn check(&self) -> Result<(), ParamError> {
        let ok = 0.0 < self.fraction && self.fraction < 1.0;
        ParamError::ensure(ok, "fraction", self.fraction, "a number > 0 and < 1")
    }

    /// How many of `n` rows are tested; `n` is at least 2.
    fn count(&self, n: usize) -> usize {
        ((self.fraction * n as f64).round() as usize).clamp(1, n - 1)
    }
}

impl Default for Holdout {
    fn default() -> Self {
        Self::new(0.2)
    }
}

impl Splitter for Holdout {
    fn split(&self, data: &Dataset, seed: u64) -> Result<Vec<Fold>> {
        self.check()?;
        let n = data.n_rows();
        if n < 2 {
            return Err(Error::data("rows to split", "at least 2, one a side", n));
        }
        let fold = match self.rows {
            HeldOut::Random => {
                let mut test = row_order(n, true, seed);
                let train = test.split_off(self.count(n));
                Fold::new(train, test)?
            }
            HeldOut::Stratified => {
                let (mut train, mut test) = (Vec::new(), Vec::new());
                for rows in strata(data, row_order(n, true, seed), 2, "one a side")? {
                    if !rows.is_empty() {
                        let (held_out, kept) = rows.split_at(self.count(rows.len()));
                        test.extend(held_out);
                        train.extend(kept);
                    }
                }
                Fold::new(train, test)?
            }
            HeldOut::Last => {
                let timeline = Timeline::of(data);
                let start = timeline.first_of_moment(n - self.count(n));
                forward_fold(&timeline, start..n, 0, Span::ZERO, None)?
            }
        };
        Ok(vec![fold])
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::laws::{classes, plain, timed},
        *,
    };

    fn split(holdout: &Holdout, data: &Dataset) -> Result<Fold> {
        holdout.split(data, 3).map(|mut folds| folds.remove(0))
    }

    #[test]
    fn the_fraction_is_rounded_and_neither_side_is_empty() {
        for (fraction, n, tested) in [(0.2, 10, 2), (0.25, 10, 3), (0.01, 10, 1), (0.99, 3, 2)] {
            let fold = split(&Holdout::new(fraction), &plain(n)).expect("2 rows or more");
            assert_eq!((fold.test.len(), fold.train.len()), (tested, n - tested));
        }
        let err = split(&Holdout::default(), &plain(1)).expect_err("one row");
        assert_eq!(err.to_string(), "rows to split: expected at least 2, one a side, got 1");
    }

    #[test]
    fn fractions_outside_the_open_interval_are_refused() {
        for bad in [0.0, 1.0, f64::NAN, -0.5] {
            let err = split(&Holdout::new(bad), &plain(9)).expect_err("outside");
            let text = format!("parameter `fraction` is {bad}; expected a number > 0 and < 1");
            assert_eq!(err.to_string(), text);
        }
    }

    #[test]
    fn a_stratified_holdout_takes_from_every_class() {
        let data = classes(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        let fold = split(&Holdout::stratified(0.2), &data).expect("2 of each");
        let ones = |rows: &[usize]| rows.iter().filter(|&&row| 10 <= row).count();
        assert_eq!((fold.test.len(), ones(&fold.test)), (3, 1));
        let err = split(&Holdout::stratified(0.2), &classes(&[0, 0, 1])).expect_err("one row");
        let text = "class `c1`: expected at least 2 rows, one a side, got 1";
        assert_eq!(err.to_string(), text);
    }

    #[test]
    fn the_last_rows_are_the_last_in_time() {
        let fold = split(&Holdout::last(0.4), &plain(5)).expect("enough rows");
        assert_eq!((fold.train, fold.test), (vec![0, 1, 2], vec![3, 4]));
        // The two rows of time 30 are parted by the fraction, and so tested together.
        let fold = split(&Holdout::last(0.4), &timed(&[50, 30, 10, 30, 20])).expect("parts");
        assert_eq!((fold.train, fold.test), (vec![2, 4], vec![0, 1, 3]));
        let err = split(&Holdout::last(0.4), &timed(&[7; 5])).expect_err("one moment");
        let text = "fold 0, training rows: expected at least 1 before the test fold, got none";
        assert_eq!(err.to_string(), text);
    }
}
