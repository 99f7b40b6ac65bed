//! *k*-fold cross-validation that keeps the classes' shares.

use serde::{Deserialize, Serialize};

use super::{Fold, Splitter, check_folds, partition, row_order};
use crate::{
    data::Dataset,
    error::{Error, ParamError, Result},
};

/// As [`KFold`](super::KFold), for classification: the test folds' counts of each class, and their
/// sizes, differ by at most one.
///
/// A class that occurs in fewer rows than there are folds is an error that names it, since some
/// fold could not test it: merge rare classes, take fewer folds, or do not stratify. Classes that
/// the task names but no row has are no matter.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `folds` | 5 | ≥ 2, at most the rows of the rarest class | number of folds, *k* |
/// | `shuffle` | true | | false: of each class the first rows are tested in fold 0, and so on |
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StratifiedKFold {
    /// Number of folds.
    pub folds: usize,
    /// Whether the rows of a class are dealt at random.
    pub shuffle: bool,
}

impl StratifiedKFold {
    /// `folds` shuffled folds.
    pub fn new(folds: usize) -> Self {
        Self { folds, shuffle: true }
    }

    /// Consecutive rows of each class instead.
    #[must_use]
    pub fn unshuffled(self) -> Self {
        Self { shuffle: false, ..self }
    }

    /// Checks the fields.
    pub fn check(&self) -> Result<(), ParamError> {
        check_folds(self.folds)
    }
}

impl Default for StratifiedKFold {
    fn default() -> Self {
        Self::new(5)
    }
}

impl Splitter for StratifiedKFold {
    fn split(&self, data: &Dataset, seed: u64) -> Result<Vec<Fold>> {
        self.check()?;
        let order = row_order(data.n_rows(), self.shuffle, seed);
        let strata = strata(data, order, self.folds, "one a fold")?;
        let mut fold_of = vec![0; data.n_rows()];
        // Dealt like cards, class after class: position p goes to fold p mod k, which keeps the
        // counts of a class and those of all rows within one. Within a class the rows of a fold
        // are consecutive.
        let mut dealt = 0;
        for rows in strata {
            let mut rest = &rows[..];
            for (fold, count) in deal(dealt, rows.len(), self.folds).into_iter().enumerate() {
                let (mine, others) = rest.split_at(count);
                for &row in mine {
                    fold_of[row] = fold;
                }
                rest = others;
            }
            dealt += rows.len();
        }
        partition(&fold_of, self.folds)
    }
}

/// How many of the positions `first..first + len` are congruent to each of 0..k modulo *k*.
fn deal(first: usize, len: usize, k: usize) -> Vec<usize> {
    let below = |end: usize, fold: usize| end / k + usize::from(fold < end % k);
    (0..k).map(|fold| below(first + len, fold) - below(first, fold)).collect()
}

/// The rows of each class in the order given, classes in code order. A class that occurs in fewer
/// than `at_least` rows is an error, whose message gives the reason `why`.
pub(super) fn strata(
    data: &Dataset,
    order: Vec<usize>,
    at_least: usize,
    why: &str,
) -> Result<Vec<Vec<usize>>> {
    let Some(names) = data.task().class_names() else {
        return Err(Error::data("a stratified split", "classification", data.task()));
    };
    if data.n_rows() == 0 {
        return Err(Error::data("rows to split", format_args!("at least {at_least}, {why}"), 0));
    }
    let mut strata = vec![Vec::new(); names.len()];
    for row in order {
        strata[data.target()[row] as usize].push(row);
    }
    for (name, rows) in names.iter().zip(&strata) {
        if !rows.is_empty() && rows.len() < at_least {
            let expected = format!("at least {at_least} rows, {why}");
            return Err(Error::data(format_args!("class `{name}`"), expected, rows.len()));
        }
    }
    Ok(strata)
}

#[cfg(test)]
mod tests {
    use super::{
        super::laws::{classes, plain},
        *,
    };

    #[test]
    fn unshuffled_folds_take_the_rows_of_each_class_in_turn() {
        let data = classes(&[0, 1, 0, 0, 1, 1, 0, 1, 0]);
        let folds = StratifiedKFold::new(2).unshuffled().split(&data, 0).expect("enough of each");
        // Class 0 (rows 0 2 3 6 8) goes 3 : 2, class 1 (rows 1 4 5 7) then starts at fold 1: 2 : 2.
        assert_eq!(folds[0].test, [0, 1, 2, 3, 4]);
        assert_eq!(folds[1].test, [5, 6, 7, 8]);
        assert_eq!(folds[0].train, folds[1].test);
    }

    #[test]
    fn a_rare_class_is_named() {
        let err = StratifiedKFold::new(3).split(&classes(&[0, 0, 0, 1, 1]), 0).expect_err("2 < 3");
        let text = "class `c1`: expected at least 3 rows, one a fold, got 2";
        assert_eq!(err.to_string(), text);
        // Class 1 of three is named by the task but has no row.
        let data = classes(&[0, 0, 0, 2, 2, 2]);
        assert_eq!(StratifiedKFold::new(3).split(&data, 0).expect("3 of each").len(), 3);
    }

    #[test]
    fn values_have_no_strata() {
        let err = StratifiedKFold::default().split(&plain(9), 0).expect_err("regression");
        let text = "a stratified split: expected classification, got regression";
        assert_eq!(err.to_string(), text);
        let none = classes(&[0, 1]).take(&[]);
        assert!(StratifiedKFold::default().split(&none, 0).is_err());
    }
}
