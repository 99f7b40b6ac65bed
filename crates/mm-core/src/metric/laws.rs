//! What every metric owes its definition, on random samples.

use proptest::prelude::*;

use crate::{Average, ConfusionMatrix, Direction, Error, Matrix, Metric, Task, Truth};

/// Scores of at most 2 (areas, losses of probabilities in eighths) or of order 10 (regression)
/// from sums of fewer than 200 terms: a different order of the terms moves them by some 10⁻¹⁵.
const TOLERANCE: f64 = 1e-12;

const AUC: Metric = Metric::RocAuc { average: Average::Auto };

/// A task with a truth, predictions in eighths, so that many are equal, and whole weights.
#[derive(Debug, Clone)]
struct Problem {
    task: Task,
    rows: Vec<(f64, Vec<f64>, u8)>,
}

impl Problem {
    fn score(&self, metric: Metric) -> Result<f64, Error> {
        self.with(|truth, predicted| metric.score(truth, predicted))
    }

    fn with<T>(&self, judge: impl FnOnce(Truth<'_>, &Matrix) -> T) -> T {
        let target: Vec<f64> = self.rows.iter().map(|row| row.0).collect();
        let weights: Vec<f64> = self.rows.iter().map(|row| f64::from(row.2)).collect();
        let flat = self.rows.iter().flat_map(|row| row.1.clone()).collect();
        let predicted = Matrix::new(flat, self.task.outputs().len()).expect("rectangular");
        judge(Truth::new(&self.task, &target).weighted(&weights), &predicted)
    }

    fn map(&self, edit: impl Fn(f64, &[f64]) -> (f64, Vec<f64>)) -> Self {
        let rows = self.rows.iter().map(|(y, p, w)| {
            let (y, p) = edit(*y, p);
            (y, p, *w)
        });
        Self { task: self.task.clone(), rows: rows.collect() }
    }
}

fn problem(task: Task) -> impl Strategy<Value = Problem> {
    let n_classes = task.n_classes();
    let target = match n_classes {
        0 => (1_u8..80).prop_map(|y| f64::from(y) / 8.0).boxed(),
        k => (0..k).prop_map(|y| y as f64).boxed(),
    };
    let scale = if n_classes == 0 { 80_u8 } else { 9 };
    let value = (0..scale).prop_map(|p| f64::from(p) / 8.0);
    let row = (target, prop::collection::vec(value, task.outputs().len()), 0_u8..4);
    prop::collection::vec(row, 1..40).prop_map(move |rows| Problem { task: task.clone(), rows })
}

fn binary() -> Task {
    Task::classes(["no", "yes"]).expect("two")
}

fn any_problem() -> impl Strategy<Value = Problem> {
    prop_oneof![
        problem(Task::Regression),
        problem(binary()),
        problem(Task::classes(["a", "b", "c"]).expect("three")),
    ]
}

/// Every metric with its default and with other parameters.
fn any_metric() -> impl Strategy<Value = Metric> {
    let average = prop::sample::select(Average::ALL);
    prop_oneof![
        prop::sample::select(Metric::ALL),
        average.clone().prop_map(|average| Metric::RocAuc { average }),
        average.clone().prop_map(|average| Metric::PrAuc { average }),
        average.clone().prop_map(|average| Metric::Precision { average }),
        average.clone().prop_map(|average| Metric::Recall { average }),
        average.prop_map(|average| Metric::F1 { average }),
        (1_usize..40).prop_map(|bins| Metric::CalibrationError { bins }),
        (0.01..0.99).prop_map(|level| Metric::Pinball { level }),
    ]
}

/// A problem and a metric that supports its task.
fn judged() -> impl Strategy<Value = (Problem, Metric)> {
    any_problem().prop_flat_map(|problem| {
        let task = problem.task.clone();
        let supported = move |metric: &Metric| metric.supports(&task);
        (Just(problem), any_metric().prop_filter("of the task", supported))
    })
}

/// Both scores are close, or both are refused.
fn agree(a: Result<f64, Error>, b: Result<f64, Error>) -> Result<(), TestCaseError> {
    match (a, b) {
        (Ok(a), Ok(b)) => {
            // An R² of a nearly constant target may be large.
            prop_assert!((a - b).abs() <= TOLERANCE * a.abs().max(1.0), "{a} and {b}");
        }
        (Err(_), Err(_)) => {}
        (a, b) => prop_assert!(false, "{a:?} and {b:?}"),
    }
    Ok(())
}

proptest! {
    /// The order of the rows does not matter.
    #[test]
    fn order_does_not_matter(
        ((problem, metric), rows) in judged().prop_flat_map(|(problem, metric)| {
            let rows = Just(problem.rows.clone()).prop_shuffle();
            (Just((problem, metric)), rows)
        }),
    ) {
        let shuffled = Problem { task: problem.task.clone(), rows };
        agree(problem.score(metric), shuffled.score(metric))?;
    }

    /// A row of weight w is w rows, and of weight 0 no row.
    #[test]
    fn a_weight_is_a_count((problem, metric) in judged()) {
        let rows = problem.rows.iter().flat_map(|(y, p, w)| {
            vec![(*y, p.clone(), 1); usize::from(*w)]
        });
        let repeated = Problem { task: problem.task.clone(), rows: rows.collect() };
        if repeated.rows.is_empty() {
            prop_assert!(problem.score(metric).is_err());
        } else {
            agree(problem.score(metric), repeated.score(metric))?;
        }
    }

    /// Scores lie within the bounds of their metric.
    #[test]
    fn scores_are_bounded((problem, metric) in judged()) {
        let Ok(score) = problem.score(metric) else { return Ok(()) };
        let bounds = match metric {
            Metric::Mcc => -1.0..=1.0,
            Metric::Brier if problem.task.n_classes() == 3 => 0.0..=3.0, // Rows need not sum to 1.
            Metric::R2 => f64::NEG_INFINITY..=1.0,
            _ if metric.direction() == Direction::Maximize => 0.0..=1.0,
            Metric::Brier | Metric::CalibrationError { .. } => 0.0..=1.0,
            _ => 0.0..=f64::INFINITY,
        };
        // Means of ones may exceed 1 by rounding.
        let (low, high) = (bounds.start() - TOLERANCE, bounds.end() + TOLERANCE);
        prop_assert!(low <= score && score <= high, "{metric} is {score}");
    }

    /// Predictions that equal the truth are the best that there are.
    #[test]
    fn the_truth_is_best((problem, metric) in judged()) {
        let n_classes = problem.task.n_classes();
        let perfect = problem.map(|y, _| match n_classes {
            0 | 2 => (y, vec![y]),
            k => (y, (0..k).map(|c| f64::from(u8::from(y == c as f64))).collect()),
        });
        let (Ok(best), Ok(score)) = (perfect.score(metric), problem.score(metric)) else {
            return Ok(());
        };
        // Log loss clips, and so never reaches 0.
        let distance = match metric.direction() {
            Direction::Minimize => best - score,
            Direction::Maximize => score - best,
        };
        prop_assert!(distance <= TOLERANCE, "{metric}: {score} beats {best}");
    }

    /// An area depends on the order of the scores alone.
    #[test]
    fn areas_are_invariant_under_monotone_maps(problem in problem(binary())) {
        let bent = problem.map(|y, p| (y, vec![p[0].powi(3) * 40.0 - 7.0]));
        for metric in [AUC, Metric::PrAuc { average: Average::Auto }] {
            match (problem.score(metric), bent.score(metric)) {
                (Ok(a), Ok(b)) => prop_assert_eq!(a, b),
                (a, b) => prop_assert!(a.is_err() && b.is_err()),
            }
        }
    }

    /// Exchanging the classes, or reversing the scores, turns an AUC into its complement.
    #[test]
    fn an_auc_is_antisymmetric(problem in problem(binary())) {
        let complement = || problem.score(AUC).map(|auc| 1.0 - auc);
        agree(complement(), problem.map(|y, p| (1.0 - y, p.to_vec())).score(AUC))?;
        agree(complement(), problem.map(|y, p| (y, vec![-p[0]])).score(AUC))?;
    }

    /// The AUC is the share of ordered pairs, counted one by one.
    #[test]
    fn an_auc_counts_pairs(problem in problem(binary())) {
        let pairs = problem.rows.iter().flat_map(|a| problem.rows.iter().map(move |b| (a, b)));
        let (mut right, mut all) = (0.0, 0.0);
        for ((_, p, w), (_, q, v)) in pairs.filter(|(a, b)| a.0 == 1.0 && b.0 == 0.0) {
            let weight = f64::from(*w) * f64::from(*v);
            all += weight;
            right += weight * if p[0] > q[0] { 1.0 } else if p[0] == q[0] { 0.5 } else { 0.0 };
        }
        if all == 0.0 {
            prop_assert!(problem.score(AUC).is_err());
        } else {
            let auc = problem.score(AUC).expect("both classes have weight");
            prop_assert!((auc - right / all).abs() <= TOLERANCE);
        }
    }

    /// Two ways to the same number.
    #[test]
    fn related_metrics_agree(problem in any_problem()) {
        let [accuracy, top, micro] = [
            Metric::Accuracy,
            Metric::TopKAccuracy { k: 1 },
            Metric::F1 { average: Average::Micro },
        ].map(|metric| problem.score(metric));
        if let (Ok(accuracy), Ok(top), Ok(micro)) = (accuracy, top, micro) {
            prop_assert_eq!(accuracy, top);
            prop_assert!((accuracy - micro).abs() <= TOLERANCE);
            let confusion = problem.with(ConfusionMatrix::new).expect("classes");
            let diagonal: f64 = confusion.rows().enumerate().map(|(c, row)| row[c]).sum();
            let all: f64 = confusion.rows().flatten().sum();
            prop_assert!((accuracy - diagonal / all).abs() <= TOLERANCE);
        }
        let half = problem.score(Metric::Pinball { level: 0.5 }).map(|loss| 2.0 * loss);
        agree(half, problem.score(Metric::Mae))?;
    }

    /// Text and files give back the metric that was written.
    #[test]
    fn metrics_survive_text_and_files(metric in any_metric()) {
        prop_assert_eq!(metric.to_string().parse(), Ok(metric));
        let json = serde_json::to_string(&metric).expect("writes");
        prop_assert_eq!(serde_json::from_str::<Metric>(&json).expect("reads"), metric);
        let toml = toml::Value::try_from(metric).expect("writes");
        prop_assert_eq!(toml.try_into::<Metric>().expect("reads"), metric);
    }
}
