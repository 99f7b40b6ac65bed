//! Agreement with scikit-learn on the numbers that `tests/fixtures/metrics.py` stored.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::{ConfusionMatrix, Matrix, Metric, Task, Truth};

#[derive(Deserialize)]
struct Case {
    name: String,
    classes: Option<Vec<String>>,
    target: Vec<f64>,
    predicted: Vec<f64>,
    weights: Vec<f64>,
    unweighted: Expected,
    weighted: Expected,
}

#[derive(Deserialize)]
struct Expected {
    scores: BTreeMap<String, f64>,
    confusion: Option<Vec<Vec<f64>>>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../tests/fixtures/metrics.json")).expect("a fixture")
}

/// Some hundred roundings of 10⁻¹⁶ on their side separate the two: sums of up to 600 terms, and
/// logarithms whose last place is not prescribed. Nothing cancels: the scores are of order 1, and
/// so are the sums they come from, except where the target is near 10⁶; its mean is compensated on
/// our side, and the differences from it are of order 1 again.
const TOLERANCE: f64 = 1e-12;

#[track_caller]
fn close(got: f64, expected: f64, what: &str) {
    let error = (got - expected).abs();
    assert!(error <= TOLERANCE * expected.abs(), "{what}: {got}, scikit-learn {expected}");
}

#[test]
fn scores_and_confusions_are_those_of_scikit_learn() {
    let mut seen = BTreeSet::new();
    for case in cases() {
        let task = match &case.classes {
            None => Task::Regression,
            Some(names) => Task::classes(names.iter().cloned()).expect("two or more"),
        };
        let width = case.predicted.len() / case.target.len();
        let predicted = Matrix::new(case.predicted, width).expect("rectangular");
        let truth = Truth::new(&task, &case.target);
        for (expected, truth, how) in [
            (case.unweighted, truth, "unweighted"),
            (case.weighted, truth.weighted(&case.weights), "weighted"),
        ] {
            for (metric, score) in expected.scores {
                let metric: Metric = metric.parse().expect("a metric");
                let got = metric.score(truth, &predicted).expect("defined");
                close(got, score, &format!("{}, {how}, {metric}", case.name));
                seen.insert(metric.name());
            }
            let Some(confusion) = expected.confusion else { continue };
            let got = ConfusionMatrix::new(truth, &predicted).expect("classes");
            for (got, expected) in got.rows().zip(&confusion) {
                for (got, expected) in got.iter().zip(expected) {
                    close(*got, *expected, &format!("{}, {how}, confusion", case.name));
                }
            }
        }
    }
    let all: BTreeSet<_> = Metric::ALL.iter().map(Metric::name).collect();
    assert_eq!(seen, all, "every metric is compared");
}
