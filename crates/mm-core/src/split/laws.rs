//! What splitters owe, held against random data and against scikit-learn.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use proptest::prelude::*;
use serde::Deserialize;

use super::{
    CombinatorialPurged, Fold, GroupKFold, Holdout, KFold, PurgedKFold, Repeated, Span, SplitPlan,
    Splitter, StratifiedGroupKFold, StratifiedKFold, TimeSeriesSplit,
};
use crate::data::{Dataset, Frame, Task};

/// Regression of `n` rows.
pub(super) fn plain(n: usize) -> Dataset {
    let frame = Frame::new((0..n).map(|i| i as f32).collect(), 1).expect("one column");
    Dataset::regression(frame, vec![0.0; n]).expect("finite")
}

/// Classification into `c0`, `c1`, … with the given codes.
pub(super) fn classes(codes: &[usize]) -> Dataset {
    let n_classes = codes.iter().max().map_or(2, |&most| most + 1).max(2);
    let task = Task::classes((0..n_classes).map(|k| format!("c{k}"))).expect("2 or more");
    let frame = plain(codes.len()).frame().clone();
    Dataset::new(frame, task, codes.iter().map(|&code| code as f64).collect()).expect("codes")
}

/// Regression with timestamps.
pub(super) fn timed(times: &[i64]) -> Dataset {
    let data = plain(times.len());
    let frame = data.frame().clone().with_times(times.to_vec()).expect("length");
    data.with_frame(frame).expect("length")
}

/// Timestamp, time until the label is known, group, and class of a row.
type Row = (i64, i64, i64, usize);

fn rows(len: Range<usize>) -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec((0..80_i64, 0..6_i64, 0..7_i64, 0..3_usize), len)
}

fn dataset(rows: &[Row]) -> Dataset {
    let column = |pick: fn(&Row) -> i64| rows.iter().map(pick).collect::<Vec<_>>();
    let data = classes(&rows.iter().map(|row| row.3).collect::<Vec<_>>());
    let frame = data.frame().clone().with_times(column(|row| row.0)).expect("length");
    let data = data.with_frame(frame).expect("length").with_groups(column(|row| row.2));
    data.expect("length").with_label_times(column(|row| row.0 + row.1)).expect("not before the row")
}

/// Timestamps and label times.
fn intervals(data: &Dataset) -> (&[i64], &[i64]) {
    (data.frame().times().expect("has times"), data.label_times().expect("has label times"))
}

fn span() -> impl Strategy<Value = Span> {
    prop_oneof![
        (0..12_usize).prop_map(Span::Rows),
        (0.0..0.3_f64).prop_map(Span::Fraction),
        (0..20_u64).prop_map(|nanos| Span::Time(Duration::from_nanos(nanos))),
    ]
}

fn plan() -> impl Strategy<Value = SplitPlan> {
    let folds = 2..7_usize;
    let flag = any::<bool>();
    prop_oneof![
        (0.01..0.99_f64).prop_map(|f| SplitPlan::Holdout(Holdout::new(f))),
        (0.01..0.99_f64).prop_map(|f| SplitPlan::Holdout(Holdout::stratified(f))),
        (0.01..0.99_f64).prop_map(|f| SplitPlan::Holdout(Holdout::last(f))),
        (folds.clone(), flag)
            .prop_map(|(folds, shuffle)| SplitPlan::KFold(KFold { folds, shuffle })),
        (folds.clone(), flag).prop_map(|(folds, shuffle)| {
            SplitPlan::StratifiedKFold(StratifiedKFold { folds, shuffle })
        }),
        (folds.clone(), flag)
            .prop_map(|(folds, shuffle)| SplitPlan::GroupKFold(GroupKFold { folds, shuffle })),
        (folds.clone(), flag).prop_map(|(folds, shuffle)| {
            SplitPlan::StratifiedGroupKFold(StratifiedGroupKFold { folds, shuffle })
        }),
        (folds.clone(), prop::option::of(span()), prop::option::of(span()), span()).prop_map(
            |(folds, test, window, gap)| {
                SplitPlan::TimeSeries(TimeSeriesSplit { folds, test, window, gap })
            }
        ),
        (folds.clone(), span())
            .prop_map(|(folds, embargo)| SplitPlan::PurgedKFold(PurgedKFold { folds, embargo })),
        (folds.clone(), 1..4_usize, span()).prop_map(|(blocks, test_blocks, embargo)| {
            SplitPlan::CombinatorialPurged(CombinatorialPurged { blocks, test_blocks, embargo })
        }),
        (folds, 1..4_usize).prop_map(|(folds, times)| {
            let of = Box::new(SplitPlan::StratifiedKFold(StratifiedKFold::new(folds)));
            SplitPlan::Repeated(Repeated { of, times })
        }),
    ]
}

/// How many rows each key has.
fn counts<K: Ord>(keys: impl IntoIterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    keys.into_iter().for_each(|key| *counts.entry(key).or_default() += 1);
    counts
}

/// Largest less smallest.
fn spread(sizes: impl Iterator<Item = usize> + Clone) -> usize {
    sizes.clone().max().unwrap_or(0) - sizes.min().unwrap_or(0)
}

/// Holds that each row is tested once and trained on in all other folds.
fn check_partition(folds: &[Fold], n_rows: usize) -> Result<(), TestCaseError> {
    let mut tested: Vec<usize> = folds.iter().flat_map(|fold| fold.test.clone()).collect();
    tested.sort_unstable();
    prop_assert_eq!(tested, (0..n_rows).collect::<Vec<_>>());
    for fold in folds {
        prop_assert_eq!(fold.train.len() + fold.test.len(), n_rows);
    }
    Ok(())
}

proptest! {
    /// Sides are ascending, disjoint, and not empty; the plan knows the number of folds.
    #[test]
    fn any_plan_on_any_data_gives_sound_folds_or_an_error(
        plan in plan(), rows in rows(0..60), seed: u64,
    ) {
        let data = dataset(&rows);
        let Ok(folds) = plan.split(&data, seed) else {
            return Ok(());
        };
        prop_assert_eq!(folds.len(), plan.n_folds());
        for Fold { train, test } in folds {
            prop_assert!(!train.is_empty() && !test.is_empty());
            prop_assert!(train.is_sorted_by(|a, b| a < b) && test.is_sorted_by(|a, b| a < b));
            let test: BTreeSet<usize> = test.into_iter().collect();
            prop_assert!(train.iter().all(|row| !test.contains(row)));
            prop_assert!(train.iter().chain(&test).all(|&row| row < data.n_rows()));
        }
    }

    #[test]
    fn folds_depend_on_the_seed_and_not_on_features_or_weights(
        plan in plan(), rows in rows(20..60), seed: u64,
    ) {
        let data = dataset(&rows);
        let n = data.n_rows();
        let times = data.frame().times().expect("has times").to_vec();
        let other = Frame::new(vec![f32::NAN; 2 * n], 2).expect("2 columns");
        let other = data.with_frame(other.with_times(times).expect("length")).expect("length");
        let other = other.with_weights((1..=n).map(|w| w as f64).collect()).expect("positive");
        match (plan.split(&data, seed), plan.split(&other, seed)) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
            (Err(ours), Err(theirs)) => prop_assert_eq!(ours.to_string(), theirs.to_string()),
            (ours, theirs) => prop_assert!(false, "{:?} against {:?}", ours, theirs),
        }
    }

    #[test]
    fn k_fold_tests_each_row_once_in_folds_of_equal_size(
        n in 0..60_usize, folds in 2..9_usize, shuffle: bool, seed: u64,
    ) {
        match (KFold { folds, shuffle }).split(&plain(n), seed) {
            Err(_) => prop_assert!(n < folds),
            Ok(got) => {
                prop_assert_eq!(got.len(), folds);
                check_partition(&got, n)?;
                prop_assert!(spread(got.iter().map(|fold| fold.test.len())) <= 1);
            }
        }
    }

    #[test]
    fn stratified_folds_keep_the_shares_of_classes_within_one_row(
        codes in prop::collection::vec(0..3_usize, 1..60), folds in 2..5_usize, shuffle: bool,
        seed: u64,
    ) {
        let rarest = counts(&codes).into_values().min().expect("a class");
        match (StratifiedKFold { folds, shuffle }).split(&classes(&codes), seed) {
            Err(_) => prop_assert!(rarest < folds),
            Ok(got) => {
                prop_assert!(folds <= rarest);
                check_partition(&got, codes.len())?;
                prop_assert!(spread(got.iter().map(|fold| fold.test.len())) <= 1);
                for class in 0..3 {
                    let of_class = |fold: &Fold| {
                        fold.test.iter().filter(|&&row| codes[row] == class).count()
                    };
                    prop_assert!(spread(got.iter().map(of_class)) <= 1);
                }
            }
        }
    }

    #[test]
    fn a_stratified_holdout_keeps_the_shares_of_classes_within_one_row(
        codes in prop::collection::vec(0..3_usize, 1..60), fraction in 0.01..0.99_f64, seed: u64,
    ) {
        let of_all = counts(&codes);
        match Holdout::stratified(fraction).split(&classes(&codes), seed) {
            Err(_) => prop_assert!(of_all.values().any(|&count| count < 2)),
            Ok(got) => {
                let tested = counts(got[0].test.iter().map(|&row| codes[row]));
                prop_assert_eq!(got[0].train.len() + got[0].test.len(), codes.len());
                for (class, all) in of_all {
                    let tested = tested.get(class).copied().unwrap_or(0);
                    prop_assert!(1 <= tested && tested < all);
                    prop_assert!((tested as f64 - fraction * all as f64).abs() <= 1.0);
                }
            }
        }
    }

    #[test]
    fn no_group_is_on_both_sides_and_folds_differ_by_one_group_at_most(
        rows in rows(1..60), folds in 2..6_usize, shuffle: bool, seed: u64,
    ) {
        let data = dataset(&rows);
        let sizes = counts(rows.iter().map(|row| row.2));
        let plain = GroupKFold { folds, shuffle }.split(&data, seed);
        let stratified = StratifiedGroupKFold { folds, shuffle }.split(&data, seed);
        prop_assert_eq!(plain.is_ok(), folds <= sizes.len());
        prop_assert_eq!(stratified.is_ok(), folds <= sizes.len());
        if let (Ok(plain), Ok(stratified)) = (plain, stratified) {
            for folds in [&plain, &stratified] {
                check_partition(folds, rows.len())?;
                for fold in folds {
                    let trained: BTreeSet<i64> = fold.train.iter().map(|&row| rows[row].2).collect();
                    prop_assert!(fold.test.iter().all(|&row| !trained.contains(&rows[row].2)));
                }
            }
            let largest = sizes.into_values().max().expect("a group");
            prop_assert!(spread(plain.iter().map(|fold| fold.test.len())) <= largest);
        }
    }

    /// Every training label is known before the first tested moment, and no tested moment is in two
    /// test folds.
    #[test]
    fn forward_folds_know_nothing_of_the_future(
        rows in rows(2..60), folds in 1..6_usize, test in prop::option::of(span()),
        window in prop::option::of(span()), gap in span(),
    ) {
        let data = dataset(&rows);
        let (times, known) = intervals(&data);
        let Ok(folds) = (TimeSeriesSplit { folds, test, window, gap }).split(&data, 0) else {
            return Ok(());
        };
        let (n, mut previous) = (rows.len() as f64, i64::MIN);
        for Fold { train, test } in folds {
            let first = test.iter().map(|&row| times[row]).min().expect("not empty");
            let last = test.iter().map(|&row| times[row]).max().expect("not empty");
            prop_assert!(previous < first);
            prop_assert!(train.iter().all(|&row| known[row] < first));
            previous = last;
            let latest = train.iter().map(|&row| times[row]).max().expect("not empty");
            let between = times.iter().filter(|&&time| latest <= time && time < first).count();
            match gap {
                Span::Time(gap) => prop_assert!(latest + (gap.as_nanos() as i64) < first),
                // The latest training row is itself one of those between.
                Span::Rows(gap) => prop_assert!(gap < between),
                Span::Fraction(f) => prop_assert!(f * n < between as f64 + 0.5),
            }
            if let Some(Span::Rows(window)) = window {
                prop_assert!(train.len() <= window);
            }
        }
        prop_assert_eq!(Some(&previous), times.iter().max());
    }

    /// By lengths of time, both sides are exactly the rows that the definition names.
    #[test]
    fn forward_folds_in_time_are_those_of_the_definition(
        rows in rows(2..60), k in 1..5_i64, test in 1..20_i64, window in prop::option::of(1..50_i64),
        gap in 0..10_i64,
    ) {
        let data = dataset(&rows);
        let (times, known) = intervals(&data);
        let time = |nanos: i64| Span::Time(Duration::from_nanos(nanos as u64));
        let splitter = TimeSeriesSplit {
            folds: k as usize,
            test: Some(time(test)),
            window: window.map(time),
            gap: time(gap),
        };
        let last = *times.iter().max().expect("not empty");
        let where_ = |holds: &dyn Fn(usize) -> bool| -> Vec<usize> {
            (0..times.len()).filter(|&row| holds(row)).collect()
        };
        let mut expected = Some(Vec::new());
        for fold in 0..k {
            let (from, to) = (last - (k - fold) * test, last - (k - fold - 1) * test);
            let test = where_(&|row| from < times[row] && times[row] <= to);
            let start = test.iter().map(|&row| times[row]).min().unwrap_or(i64::MIN / 2);
            let train = where_(&|row| {
                let age = start - times[row];
                gap < age && window.is_none_or(|w| age <= gap + w) && known[row] < start
            });
            expected = expected.filter(|_| !test.is_empty() && !train.is_empty()).map(|mut all| {
                all.push(Fold { train, test });
                all
            });
        }
        prop_assert_eq!(splitter.split(&data, 0).ok(), expected);
    }

    /// Training rows are exactly those whose interval meets that of no tested row and that do not
    /// follow one within the embargo.
    #[test]
    fn purged_folds_are_those_of_the_definition(
        rows in rows(2..60), blocks in 2..7_usize, test_blocks in 1..4_usize, embargo in 0..10_i64,
    ) {
        let data = dataset(&rows);
        let (times, known) = intervals(&data);
        let span = Span::Time(Duration::from_nanos(embargo as u64));
        let splitters: [Box<dyn Splitter>; 2] = [
            Box::new(PurgedKFold::new(blocks).with_embargo(span)),
            Box::new(CombinatorialPurged::new(blocks, test_blocks).with_embargo(span)),
        ];
        let paths = CombinatorialPurged::new(blocks, test_blocks).n_paths();
        for (splitter, tested) in splitters.into_iter().zip([Some(1), paths]) {
            let Ok(folds) = splitter.split(&data, 0) else {
                continue;
            };
            for fold in &folds {
                let is_clear = |row: &usize| {
                    !fold.test.iter().any(|&other| {
                        let meets = times[*row] <= known[other] && times[other] <= known[*row];
                        meets || (known[other] < times[*row] && times[*row] <= known[other] + embargo)
                    })
                };
                let expected: Vec<usize> = (0..times.len()).filter(is_clear).collect();
                prop_assert_eq!(&fold.train, &expected);
            }
            let times_tested = counts(folds.iter().flat_map(|fold| &fold.test));
            prop_assert_eq!(times_tested.len(), rows.len());
            prop_assert!(times_tested.into_values().all(|count| Some(count) == tested));
        }
    }

    /// Where the rows of a moment stay together, the order of rows in the frame does not matter.
    #[test]
    fn folds_in_time_follow_the_rows_when_they_are_reordered(
        (rows, order) in rows(8..60).prop_flat_map(|rows| {
            let order = Just((0..rows.len()).collect::<Vec<_>>()).prop_shuffle();
            (Just(rows), order)
        }),
        folds in 2..4_usize,
    ) {
        let data = dataset(&rows);
        let moved = data.take(&order);
        let splitters: [Box<dyn Splitter>; 3] = [
            Box::new(TimeSeriesSplit::new(folds)),
            Box::new(PurgedKFold::new(folds)),
            Box::new(Holdout::last(0.3)),
        ];
        for splitter in splitters {
            let back = |rows: Vec<usize>| rows.into_iter().map(|row| order[row]).collect();
            let theirs = splitter.split(&moved, 0).ok().map(|folds| {
                let sides = folds.into_iter().map(|fold| (back(fold.train), back(fold.test)));
                sides.map(|(train, test)| Fold::new(train, test).expect("sound")).collect()
            });
            prop_assert_eq!(splitter.split(&data, 0).ok(), theirs);
        }
    }
}

/// The laws above pass over data that cannot be parted; these can, by every kind.
#[test]
fn spread_out_data_are_parted_by_every_kind() {
    let rows: Vec<Row> = (0..40).map(|i| (2 * i, i % 3, i % 7, (i % 3) as usize)).collect();
    let data = dataset(&rows);
    for plan in [
        SplitPlan::Holdout(Holdout::stratified(0.3)),
        SplitPlan::Holdout(Holdout::last(0.3)),
        SplitPlan::TimeSeries(TimeSeriesSplit::new(5).with_gap(Span::Rows(2))),
        SplitPlan::PurgedKFold(PurgedKFold::new(5).with_embargo(Span::Fraction(0.05))),
        SplitPlan::CombinatorialPurged(CombinatorialPurged::new(6, 2)),
        SplitPlan::StratifiedGroupKFold(StratifiedGroupKFold::new(5)),
    ] {
        assert_eq!(plan.split(&data, 0).expect("can be parted").len(), plan.n_folds(), "{plan:?}");
    }
}

/// One splitter on one dataset, as `tests/oracle/split.py` wrote it down.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    plan: SplitPlan,
    n_rows: usize,
    classes: Option<Vec<usize>>,
    groups: Option<Vec<i64>>,
    /// Training and test rows of each fold.
    folds: Option<Vec<(Vec<usize>, Vec<usize>)>>,
    /// Sizes of the test folds, sorted, where scikit-learn breaks ties in another way.
    sizes: Option<Vec<usize>>,
}

#[test]
fn folds_agree_with_those_of_scikit_learn() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../tests/oracle/split.json")).expect("the fixture");
    assert!(20 <= cases.len());
    for case in cases {
        let data = case.classes.as_ref().map_or_else(|| plain(case.n_rows), |c| classes(c));
        let data = match &case.groups {
            Some(groups) => data.with_groups(groups.clone()).expect("length"),
            None => data,
        };
        let got = case.plan.split(&data, 0).expect("scikit-learn parts it");
        assert!(case.folds.is_some() || case.sizes.is_some(), "{case:?}");
        if let Some(expected) = &case.folds {
            let got: Vec<_> = got.iter().map(|f| (f.train.clone(), f.test.clone())).collect();
            assert_eq!(&got, expected, "{:?}", case.plan);
        }
        if let Some(expected) = &case.sizes {
            let mut got: Vec<usize> = got.iter().map(|fold| fold.test.len()).collect();
            got.sort_unstable();
            assert_eq!(&got, expected, "{:?}", case.plan);
        }
    }
}
