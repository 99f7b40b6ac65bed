//! *k*-fold cross-validation that keeps groups together.

use std::{cmp::Reverse, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::{Fold, Splitter, check_folds, partition, shuffle, stratified::strata};
use crate::{
    data::Dataset,
    error::{Error, ParamError, Result},
};

/// As [`KFold`](super::KFold), for rows that come in groups (of one patient, one customer): no
/// group is on both sides of a fold.
///
/// Test folds are balanced greedily: the groups, largest first, each go to the fold that is
/// smallest so far (Graham 1969, "Bounds on multiprocessing timing anomalies": the largest fold is
/// at most 4/3 of the best possible).
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `folds` | 5 | ≥ 2, at most the number of groups | number of folds, *k* |
/// | `shuffle` | true | | groups of equal size are dealt in random order; false: by group id |
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GroupKFold {
    /// Number of folds.
    pub folds: usize,
    /// Whether groups of equal size are dealt at random.
    pub shuffle: bool,
}

/// As [`GroupKFold`], for classification: no group is on both sides of a fold, and the test folds
/// get of each class as equal a number as whole groups allow.
///
/// A greedy heuristic: the groups, largest first, each go to the fold where they least increase the
/// sum, over folds and classes, of the squared shares of the class that the fold holds; among equal
/// folds to the smallest. Nothing is promised of the shares. O(*n* + *G k C*) for *G* groups and
/// *C* classes, after sorting.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `folds` | 5 | ≥ 2, at most the number of groups | number of folds, *k* |
/// | `shuffle` | true | | groups of equal size are dealt in random order; false: by group id |
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StratifiedGroupKFold {
    /// Number of folds.
    pub folds: usize,
    /// Whether groups of equal size are dealt at random.
    pub shuffle: bool,
}

macro_rules! basics {
    ($splitter:ident) => {
        impl $splitter {
            /// `folds` folds, groups of equal size dealt at random.
            pub fn new(folds: usize) -> Self {
                Self { folds, shuffle: true }
            }

            /// Groups of equal size by their id instead.
            #[must_use]
            pub fn unshuffled(self) -> Self {
                Self { shuffle: false, ..self }
            }

            /// Checks the fields.
            pub fn check(&self) -> Result<(), ParamError> {
                check_folds(self.folds)
            }
        }

        impl Default for $splitter {
            fn default() -> Self {
                Self::new(5)
            }
        }
    };
}

basics!(GroupKFold);
basics!(StratifiedGroupKFold);

impl Splitter for GroupKFold {
    fn split(&self, data: &Dataset, seed: u64) -> Result<Vec<Fold>> {
        self.check()?;
        let groups = groups(data, self.folds, self.shuffle, seed)?;
        let mut sizes = vec![0; self.folds];
        deal(data.n_rows(), &groups, self.folds, |rows| {
            let (fold, size) = (sizes.iter_mut().enumerate().min_by_key(|(_, size)| **size))
                .expect("`check` guarantees a fold");
            *size += rows.len();
            fold
        })
    }
}

impl Splitter for StratifiedGroupKFold {
    fn split(&self, data: &Dataset, seed: u64) -> Result<Vec<Fold>> {
        self.check()?;
        let groups = groups(data, self.folds, self.shuffle, seed)?;
        let strata = strata(data, (0..data.n_rows()).collect(), 0, "")?;
        let totals: Vec<f64> = strata.iter().map(|rows| (rows.len() as f64).max(1.0)).collect();
        // The shares of each class that each fold holds, and the folds' sizes.
        let mut shares = vec![vec![0.0; totals.len()]; self.folds];
        let mut sizes = vec![0; self.folds];
        deal(data.n_rows(), &groups, self.folds, |rows| {
            let mut brings = vec![0.0; totals.len()];
            for &row in rows {
                brings[data.target()[row] as usize] += 1.0;
            }
            brings.iter_mut().zip(&totals).for_each(|(share, total)| *share /= total);
            // (s + b)² − s² = 2sb + b², in which b² is the same for all folds.
            let cost =
                |fold: usize| -> f64 { shares[fold].iter().zip(&brings).map(|(s, b)| s * b).sum() };
            let fold = (0..self.folds)
                .min_by(|&a, &b| cost(a).total_cmp(&cost(b)).then(sizes[a].cmp(&sizes[b])))
                .expect("`check` guarantees a fold");
            shares[fold].iter_mut().zip(&brings).for_each(|(share, b)| *share += b);
            sizes[fold] += rows.len();
            fold
        })
    }
}

/// The rows of each group, largest group first; groups of equal size in random order or by id.
fn groups(data: &Dataset, folds: usize, shuffled: bool, seed: u64) -> Result<Vec<Vec<usize>>> {
    let Some(ids) = data.groups() else {
        return Err(Error::data("groups", "a group id a row", "none"));
    };
    let mut by_id: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (row, &id) in ids.iter().enumerate() {
        by_id.entry(id).or_default().push(row);
    }
    let mut groups: Vec<Vec<usize>> = by_id.into_values().collect();
    if groups.len() < folds {
        let expected = format!("at least {folds} distinct ones, one a fold");
        return Err(Error::data("groups", expected, groups.len()));
    }
    if shuffled {
        shuffle(&mut groups, seed);
    }
    groups.sort_by_key(|rows| Reverse(rows.len()));
    Ok(groups)
}

/// The folds in which each group is tested where `choose` says.
fn deal(
    n_rows: usize,
    groups: &[Vec<usize>],
    n_folds: usize,
    mut choose: impl FnMut(&[usize]) -> usize,
) -> Result<Vec<Fold>> {
    let mut fold_of = vec![0; n_rows];
    for rows in groups {
        let fold = choose(rows);
        for &row in rows {
            fold_of[row] = fold;
        }
    }
    partition(&fold_of, n_folds)
}

#[cfg(test)]
mod tests {
    use super::{
        super::laws::{classes, plain},
        *,
    };

    #[test]
    fn large_groups_are_dealt_first() {
        let data = plain(9).with_groups(vec![7, 7, 7, 7, 5, 5, 9, 3, 3]).expect("length");
        let folds = GroupKFold::new(2).unshuffled().split(&data, 0).expect("4 groups");
        // Sizes 4 (7), 2 (3), 2 (5), 1 (9): 7 | 3 5, then 9 to the first of two equal folds.
        assert_eq!(folds[0].test, [0, 1, 2, 3, 6]);
        assert_eq!(folds[1].test, [4, 5, 7, 8]);
    }

    #[test]
    fn classes_are_spread_over_the_folds() {
        // Six groups of two rows, pure in class: four of class 0 and two of class 1. By size alone
        // both groups of class 1 could come to one fold.
        let data = classes(&[0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0]);
        let data = data.with_groups(vec![0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]).expect("length");
        for seed in 0..20 {
            for fold in StratifiedGroupKFold::new(2).split(&data, seed).expect("6 groups") {
                let ones: f64 = fold.test.iter().map(|&row| data.target()[row]).sum();
                assert_eq!((fold.test.len(), ones), (6, 2.0));
            }
        }
    }

    #[test]
    fn missing_and_too_few_groups_are_errors() {
        let err = GroupKFold::new(3).split(&plain(9), 0).expect_err("no groups");
        assert_eq!(err.to_string(), "groups: expected a group id a row, got none");
        let data = plain(4).with_groups(vec![1, 1, 2, 2]).expect("length");
        let err = GroupKFold::new(3).split(&data, 0).expect_err("2 < 3");
        let text = "groups: expected at least 3 distinct ones, one a fold, got 2";
        assert_eq!(err.to_string(), text);
        assert!(StratifiedGroupKFold::new(2).split(&data, 0).is_err(), "regression");
    }
}
