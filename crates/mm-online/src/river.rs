//! Traces of River 0.26.1, made by `tests/fixtures/river_traces.py`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Example, Incremental, OnlineLearner, Row, Shape};

/// Rows of features and classes of a data set that the River package ships.
pub(crate) fn rows(name: &str) -> Vec<(Vec<f64>, f64)> {
    let text = match name {
        "phishing" => include_str!("../tests/fixtures/phishing.csv"),
        _ => include_str!("../tests/fixtures/bananas.csv"),
    };
    let row = |line: &str| {
        let mut cells: Vec<f64> = line.split(',').map(|x| x.parse().expect("a number")).collect();
        let y = cells.pop().expect("a class");
        (cells, y)
    };
    text.lines().skip(1).map(row).collect()
}

/// Row number and P(true), where River gave one.
type Trace = Vec<(usize, Option<f64>)>;

/// Holds an algorithm to its trace on both data sets.
#[track_caller]
pub(crate) fn check_trace<A: Incremental>(learner: &OnlineLearner<A>, name: &str, tolerance: f64) {
    let text = include_str!("../tests/fixtures/river_models.json");
    let traces: BTreeMap<String, BTreeMap<String, Trace>> =
        serde_json::from_str(text).expect("valid");
    for (data, trace) in &traces[name] {
        let rows = rows(data);
        let shape = Shape::numeric(rows[0].0.len(), 2);
        let mut state = A::start(learner.params(), &shape, 0).expect("starts");
        let mut expected = trace.iter().peekable();
        for (i, (x, y)) in rows.iter().enumerate() {
            let mut p = [0.0];
            state.predict(learner.params(), Row::new(x), &mut p);
            if let Some((_, river)) = expected.next_if(|entry| entry.0 == i)
                && let Some(river) = *river
            {
                let gap = (p[0] - river).abs();
                assert!(gap <= tolerance, "{name}, {data}, row {i}: {}, River {river}", p[0]);
            }
            state.learn(learner.params(), &Example::new(x, *y));
        }
        assert!(expected.next().is_none(), "every row of the trace was met");
    }
}

/// What learners of classes only are held to.
pub(crate) fn classifiers() -> mm_core::conformance::Checks {
    let mut checks = mm_core::conformance::Checks::default();
    checks.regression = false;
    checks
}

/// The inputs and what a detector of River found on them.
#[derive(Debug, Deserialize)]
pub(crate) struct Detected {
    pub(crate) drifts: Vec<usize>,
    pub(crate) warnings: usize,
    pub(crate) states: Vec<(usize, f64, f64, f64)>,
}

/// What River's detector `name` found, and the stream that it saw.
pub(crate) fn detected(name: &str) -> (Vec<f64>, Detected) {
    #[derive(Deserialize)]
    struct Inputs {
        levels: Vec<f64>,
        bits: String,
    }
    #[derive(Deserialize)]
    struct File {
        inputs: Inputs,
        detectors: BTreeMap<String, Detected>,
    }
    let text = include_str!("../tests/fixtures/river_detectors.json");
    let mut file: File = serde_json::from_str(text).expect("valid");
    let bits = || file.inputs.bits.bytes().map(|bit| f64::from(bit - b'0')).collect();
    let stream = if name.contains("bits") { bits() } else { file.inputs.levels };
    (stream, file.detectors.remove(name).expect("in the file"))
}

/// Progressive validation of a model on rows of `f64`: accuracy and log loss.
pub(crate) fn progressive<A: Incremental>(
    learner: &OnlineLearner<A>,
    rows: &[(Vec<f64>, f64)],
    n_classes: usize,
    seed: u64,
) -> (f64, f64) {
    let shape = Shape::numeric(rows[0].0.len(), n_classes);
    let mut state = A::start(learner.params(), &shape, seed).expect("starts");
    let (mut hits, mut loss) = (0.0, 0.0);
    let mut out = vec![0.0; shape.n_outputs];
    for (x, y) in rows {
        state.predict(learner.params(), Row::new(x), &mut out);
        let p = |class: usize| match &out[..] {
            [one] if class == 1 => *one,
            [one] => 1.0 - *one,
            many => many[class],
        };
        let best = (0..n_classes).reduce(|a, b| if p(a) < p(b) { b } else { a });
        hits += f64::from(best == Some(*y as usize));
        loss -= p(*y as usize).max(1e-15).ln();
        state.learn(learner.params(), &Example::new(x, *y));
    }
    (hits / rows.len() as f64, loss / rows.len() as f64)
}
