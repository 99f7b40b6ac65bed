//! Any splitter as a value that a file can hold.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    CombinatorialPurged, Fold, GroupKFold, HeldOut, Holdout, KFold, PurgedKFold, Repeated,
    Splitter, StratifiedGroupKFold, StratifiedKFold, TimeSeriesSplit,
};
use crate::{
    data::Dataset,
    error::{ParamError, Result},
};

/// Any splitter as plain data. In a file it is a table whose `kind` names the splitter and whose
/// other keys are that splitter's fields; those left out have their defaults, and those that the
/// splitter does not have are an error.
///
/// ```
/// use mm_core::{KFold, SplitPlan};
///
/// let plan: SplitPlan = toml::from_str("kind = 'k_fold'\nfolds = 10")?;
/// assert_eq!(plan, SplitPlan::KFold(KFold::new(10)));
///
/// let plan: SplitPlan = toml::from_str("kind = 'time_series'\ntest = '30d'\ngap = '12h'")?;
/// assert_eq!((plan.check(), plan.n_folds()), (Ok(()), 5));
///
/// let text = "kind = 'repeated'\ntimes = 3\nof = { kind = 'stratified_k_fold', folds = 5 }";
/// assert_eq!(toml::from_str::<SplitPlan>(text)?.n_folds(), 15);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum SplitPlan {
    /// One fold.
    Holdout(Holdout),
    /// Every row is tested once.
    KFold(KFold),
    /// The same with the classes' shares in every fold.
    StratifiedKFold(StratifiedKFold),
    /// Groups stay together.
    GroupKFold(GroupKFold),
    /// Groups stay together and classes are spread.
    StratifiedGroupKFold(StratifiedGroupKFold),
    /// Forward in time.
    TimeSeries(TimeSeriesSplit),
    /// Blocks of time, purged.
    PurgedKFold(PurgedKFold),
    /// Every choice of blocks of time, purged.
    CombinatorialPurged(CombinatorialPurged),
    /// Another plan that shuffles, several times over.
    Repeated(Repeated<Box<SplitPlan>>),
}

impl SplitPlan {
    /// The splitter that suits the data, when none was named:
    ///
    /// | the data have | splitter |
    /// | --- | --- |
    /// | timestamps | [`TimeSeriesSplit`]: five folds, expanding window |
    /// | else groups | [`StratifiedGroupKFold`] for classification, [`GroupKFold`] for regression |
    /// | else classes, each that occurs in two rows or more | [`StratifiedKFold`] |
    /// | nothing of these | [`KFold`] |
    ///
    /// There are five folds; fewer, but at least two, where there are fewer groups, fewer rows of
    /// the rarest class, or fewer rows.
    pub fn default_for(data: &Dataset) -> Self {
        let folds = |at_most: usize| at_most.clamp(2, 5);
        let rarest = data.task().class_names().map(|names| {
            let mut counts = vec![0; names.len()];
            data.target().iter().for_each(|&class| counts[class as usize] += 1);
            counts.into_iter().filter(|&count| 0 < count).min().unwrap_or(0)
        });
        if data.frame().times().is_some() {
            return Self::TimeSeries(TimeSeriesSplit::new(5));
        }
        if let Some(groups) = data.groups() {
            let n_groups = groups.iter().collect::<BTreeSet<_>>().len();
            return match rarest {
                Some(_) => Self::StratifiedGroupKFold(StratifiedGroupKFold::new(folds(n_groups))),
                None => Self::GroupKFold(GroupKFold::new(folds(n_groups))),
            };
        }
        match rarest {
            Some(rows) if 2 <= rows => Self::StratifiedKFold(StratifiedKFold::new(folds(rows))),
            _ => Self::KFold(KFold::new(folds(data.n_rows()))),
        }
    }

    /// The name of the splitter in a file, for example `"k_fold"`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Holdout(_) => "holdout",
            Self::KFold(_) => "k_fold",
            Self::StratifiedKFold(_) => "stratified_k_fold",
            Self::GroupKFold(_) => "group_k_fold",
            Self::StratifiedGroupKFold(_) => "stratified_group_k_fold",
            Self::TimeSeries(_) => "time_series",
            Self::PurgedKFold(_) => "purged_k_fold",
            Self::CombinatorialPurged(_) => "combinatorial_purged",
            Self::Repeated(_) => "repeated",
        }
    }

    /// Number of folds that [`split`](Splitter::split) gives if it succeeds.
    pub fn n_folds(&self) -> usize {
        match self {
            Self::Holdout(_) => 1,
            Self::KFold(s) => s.folds,
            Self::StratifiedKFold(s) => s.folds,
            Self::GroupKFold(s) => s.folds,
            Self::StratifiedGroupKFold(s) => s.folds,
            Self::TimeSeries(s) => s.folds,
            Self::PurgedKFold(s) => s.folds,
            Self::CombinatorialPurged(s) => s.n_folds().unwrap_or(usize::MAX),
            Self::Repeated(s) => s.of.n_folds().saturating_mul(s.times),
        }
    }

    /// Checks the fields, as far as they can be without data.
    pub fn check(&self) -> Result<(), ParamError> {
        match self {
            Self::Holdout(s) => s.check(),
            Self::KFold(s) => s.check(),
            Self::StratifiedKFold(s) => s.check(),
            Self::GroupKFold(s) => s.check(),
            Self::StratifiedGroupKFold(s) => s.check(),
            Self::TimeSeries(s) => s.check(),
            Self::PurgedKFold(s) => s.check(),
            Self::CombinatorialPurged(s) => s.check(),
            Self::Repeated(s) => {
                let of = &s.of;
                let expected = "a splitter that shuffles, not itself repeated";
                ParamError::ensure(
                    of.is_shuffled(),
                    "of",
                    format_args!("`{}`", of.kind()),
                    expected,
                )?;
                of.check().map_err(|e| ParamError { name: format!("of.{}", e.name), ..e })?;
                s.check()
            }
        }
    }

    fn splitter(&self) -> &dyn Splitter {
        match self {
            Self::Holdout(s) => s,
            Self::KFold(s) => s,
            Self::StratifiedKFold(s) => s,
            Self::GroupKFold(s) => s,
            Self::StratifiedGroupKFold(s) => s,
            Self::TimeSeries(s) => s,
            Self::PurgedKFold(s) => s,
            Self::CombinatorialPurged(s) => s,
            Self::Repeated(s) => s,
        }
    }

    /// Whether another seed gives other folds.
    fn is_shuffled(&self) -> bool {
        match self {
            Self::Holdout(s) => s.rows != HeldOut::Last,
            Self::KFold(s) => s.shuffle,
            Self::StratifiedKFold(s) => s.shuffle,
            Self::GroupKFold(s) => s.shuffle,
            Self::StratifiedGroupKFold(s) => s.shuffle,
            Self::TimeSeries(_)
            | Self::PurgedKFold(_)
            | Self::CombinatorialPurged(_)
            | Self::Repeated(_) => false,
        }
    }
}

/// Five shuffled folds.
impl Default for SplitPlan {
    fn default() -> Self {
        Self::KFold(KFold::default())
    }
}

impl Splitter for SplitPlan {
    fn split(&self, data: &Dataset, seed: u64) -> Result<Vec<Fold>> {
        self.check()?;
        self.splitter().split(data, seed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::{
            Span,
            laws::{classes, plain, timed},
        },
        *,
    };

    fn read(text: &str) -> Result<SplitPlan, String> {
        toml::from_str(text).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn every_kind_is_read_from_its_name_and_written_back() {
        let hours = |n| Span::Time(Duration::from_hours(n));
        let purged = PurgedKFold::new(4).with_embargo(Span::Fraction(0.01));
        let series = TimeSeriesSplit::new(5)
            .with_test(hours(30 * 24))
            .with_window(Span::Rows(500))
            .with_gap(hours(1));
        let repeated = Repeated::new(Box::new(SplitPlan::KFold(KFold::new(5))), 3);
        for (text, plan) in [
            ("kind = 'holdout'", SplitPlan::Holdout(Holdout::default())),
            (
                "kind = 'holdout'\nrows = 'last'\nfraction = 0.1",
                SplitPlan::Holdout(Holdout::last(0.1)),
            ),
            ("kind = 'k_fold'\nshuffle = false", SplitPlan::KFold(KFold::new(5).unshuffled())),
            (
                "kind = 'stratified_k_fold'\nfolds = 3",
                SplitPlan::StratifiedKFold(StratifiedKFold::new(3)),
            ),
            ("kind = 'group_k_fold'", SplitPlan::GroupKFold(GroupKFold::new(5))),
            (
                "kind = 'stratified_group_k_fold'",
                SplitPlan::StratifiedGroupKFold(StratifiedGroupKFold::new(5)),
            ),
            (
                "kind = 'time_series'\ntest = '30d'\nwindow = 500\ngap = '1h'",
                SplitPlan::TimeSeries(series),
            ),
            ("kind = 'purged_k_fold'\nfolds = 4\nembargo = 0.01", SplitPlan::PurgedKFold(purged)),
            (
                "kind = 'combinatorial_purged'\nblocks = 8",
                SplitPlan::CombinatorialPurged(CombinatorialPurged::new(8, 2)),
            ),
            (
                "kind = 'repeated'\ntimes = 3\nof = { kind = 'k_fold' }",
                SplitPlan::Repeated(repeated),
            ),
        ] {
            assert_eq!(read(text).as_ref(), Ok(&plan), "{text}");
            assert!(text.starts_with(&format!("kind = '{}'", plan.kind())), "{text}");
            assert_eq!(plan.check(), Ok(()));
            let written = toml::to_string(&plan).expect("tables and scalars");
            assert_eq!(read(&written).as_ref(), Ok(&plan), "{written}");
            let json = serde_json::to_string(&plan).expect("string keys");
            assert_eq!(serde_json::from_str::<SplitPlan>(&json).expect("reads back"), plan);
        }
    }

    #[test]
    fn misspelt_keys_kinds_and_values_are_errors() {
        for (text, message) in [
            ("kind = 'k_fold'\nfold = 5", "unknown field `fold`, expected `folds` or `shuffle`"),
            ("kind = 'kfold'", "unknown variant `kfold`, expected one of `holdout`"),
            ("folds = 5", "missing field `kind`"),
            (
                "kind = 'purged_k_fold'\nembargo = '5 days'",
                "parameter `span` is `5 days`; expected",
            ),
            ("kind = 'repeated'\ntimes = 2", "missing field `of`"),
        ] {
            let got = read(text).expect_err(text);
            assert!(got.starts_with(message), "{got}");
        }
    }

    #[test]
    fn checks_reach_the_fields_of_every_kind() {
        for (text, name) in [
            ("kind = 'holdout'\nfraction = 1.0", "fraction"),
            ("kind = 'k_fold'\nfolds = 1", "folds"),
            ("kind = 'stratified_k_fold'\nfolds = 0", "folds"),
            ("kind = 'group_k_fold'\nfolds = 1", "folds"),
            ("kind = 'stratified_group_k_fold'\nfolds = 1", "folds"),
            ("kind = 'time_series'\ngap = 1.0", "gap"),
            ("kind = 'purged_k_fold'\nembargo = 2.0", "embargo"),
            ("kind = 'combinatorial_purged'\nblocks = 50\ntest_blocks = 25", "blocks"),
            ("kind = 'repeated'\ntimes = 0\nof = { kind = 'k_fold' }", "times"),
            ("kind = 'repeated'\ntimes = 2\nof = { kind = 'k_fold', folds = 1 }", "of.folds"),
            ("kind = 'repeated'\ntimes = 2\nof = { kind = 'time_series' }", "of"),
            ("kind = 'repeated'\ntimes = 2\nof = { kind = 'k_fold', shuffle = false }", "of"),
        ] {
            let plan = read(text).expect(text);
            assert_eq!(plan.check().expect_err(text).name, name);
            assert!(plan.split(&plain(100), 0).is_err(), "{text}");
        }
        let twice = SplitPlan::Repeated(Repeated::new(Box::new(SplitPlan::default()), 2));
        let err = SplitPlan::Repeated(Repeated::new(Box::new(twice), 2)).check();
        let text =
            "parameter `of` is `repeated`; expected a splitter that shuffles, not itself repeated";
        assert_eq!(err.expect_err("nested").to_string(), text);
    }

    #[test]
    fn the_default_follows_the_data() {
        let grouped = |data: Dataset, n: i64| {
            let groups = (0..n).cycle().take(data.n_rows()).collect();
            data.with_groups(groups).expect("length")
        };
        let labels = |n: usize| classes(&(0..n).map(|row| row % 2).collect::<Vec<_>>());
        for (data, kind, folds) in [
            (plain(20), "k_fold", 5),
            (plain(3), "k_fold", 3),
            (labels(20), "stratified_k_fold", 5),
            (labels(6), "stratified_k_fold", 3),
            (classes(&[0, 0, 0, 0, 0, 0, 1]), "k_fold", 5),
            (grouped(plain(20), 9), "group_k_fold", 5),
            (grouped(plain(20), 3), "group_k_fold", 3),
            (grouped(labels(20), 3), "stratified_group_k_fold", 3),
            (timed(&[3, 1, 2, 5, 4, 6, 8]), "time_series", 5),
            (grouped(timed(&[3, 1, 2, 5, 4, 6, 8]), 3), "time_series", 5),
        ] {
            let plan = SplitPlan::default_for(&data);
            assert_eq!((plan.kind(), plan.n_folds()), (kind, folds), "{data:?}");
            assert_eq!(plan.split(&data, 1).expect("suits the data").len(), folds);
        }
    }
}
