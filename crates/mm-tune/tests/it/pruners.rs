//! The pruners decide as Optuna's do on the same history (`tests/fixtures/pruners.py`).

use mm_core::{Direction, Result, Signal};
use mm_tune::{
    HalvingPruner, HyperbandPruner, Json, MemoryStorage, Outcome, PatientPruner, PercentilePruner,
    Pruner, Study, ThresholdPruner, WilcoxonPruner,
};

fn with_pruner(study: Study, name: &str) -> Study {
    let median = PercentilePruner::default();
    match name {
        "median" => study.with_pruner(median),
        "percentile" => study.with_pruner(PercentilePruner {
            percentile: 25.0,
            startup_trials: 2,
            warmup_steps: 3,
            interval_steps: 2,
            min_trials: 3,
        }),
        "halving" => study.with_pruner(HalvingPruner::default()),
        "halving_bootstrap" => study.with_pruner(HalvingPruner {
            min_resource: Some(2),
            eta: 2,
            skip_rungs: 1,
            bootstrap: 2,
        }),
        "hyperband" => study
            .with_pruner(HyperbandPruner { max_resource: Some(12), ..HyperbandPruner::default() }),
        "hyperband_auto" => study.with_pruner(HyperbandPruner::default()),
        "patient" => study.with_pruner(PatientPruner {
            inner: None::<PercentilePruner>,
            patience: 1,
            min_delta: 0.05,
        }),
        "patient_median" => study.with_pruner(PatientPruner {
            inner: Some(PercentilePruner { startup_trials: 1, ..median }),
            patience: 2,
            min_delta: 0.0,
        }),
        "wilcoxon" => study.with_pruner(WilcoxonPruner::default()),
        "wilcoxon_strict" => {
            study.with_pruner(WilcoxonPruner { p_threshold: 0.02, startup_steps: 5 })
        }
        "threshold" => {
            study.with_pruner(ThresholdPruner { lower: -0.2, upper: 1.2, warmup_steps: 2 })
        }
        other => panic!("no pruner `{other}`"),
    }
}

#[test]
fn decisions_equal_those_of_optuna() -> Result<()> {
    let fixture = Json::parse(include_str!("../fixtures/pruners.json"))?;
    let field = |json: &Json, key| json.get(key).cloned().expect("the fixture is whole");
    let mut n_pruned = 0;
    for case in fixture.as_array().expect("a list of studies") {
        let name = field(case, "pruner");
        let direction = match field(case, "direction").as_str() {
            Some("maximize") => Direction::Maximize,
            _ => Direction::Minimize,
        };
        let storage = std::sync::Arc::new(MemoryStorage::default());
        let study = Study::open(storage, "curves", &[direction])?;
        let study = with_pruner(study, name.as_str().expect("a name"));
        for (number, expected) in field(case, "trials").as_array().into_iter().flatten().enumerate()
        {
            let trial = study.ask()?;
            let reports = field(expected, "reports");
            let reports = reports.as_array().expect("a list");
            let pruned = field(expected, "pruned") == Json::Bool(true);
            for (i, value) in reports.iter().enumerate() {
                let signal = trial.report(i as u64 + 1, value.as_f64().unwrap_or(f64::NAN))?;
                let is_last = i + 1 == reports.len();
                let ends = if pruned && is_last { Signal::Abort } else { Signal::Continue };
                assert_eq!(signal, ends, "{name}, {direction:?}, trial {number}, report {i}");
            }
            let last = reports.last().and_then(Json::as_f64).unwrap_or(0.0);
            n_pruned += usize::from(pruned);
            study.tell(&trial, if pruned { Outcome::Pruned } else { last.into() })?;
        }
    }
    assert!(100 < n_pruned, "the fixture has pruned trials");
    Ok(())
}

#[test]
fn settings_out_of_range_are_named() {
    let fails = |pruner: &dyn Pruner, name: &str| {
        let study = Study::in_memory(Direction::Minimize);
        let trial = study.ask().expect("memory");
        trial.report(1, 0.5).expect("no pruner");
        let frozen = trial.frozen().clone();
        let report = mm_tune::Report {
            study: "s",
            directions: &[Direction::Minimize],
            history: &mm_tune::History::default(),
            trial: &frozen,
        };
        let error = pruner.decide(&report).expect_err(name).to_string();
        assert!(error.contains(name), "{error}");
    };
    fails(&PercentilePruner { percentile: 101.0, ..PercentilePruner::default() }, "percentile");
    fails(&PercentilePruner { interval_steps: 0, ..PercentilePruner::default() }, "interval_steps");
    fails(&HalvingPruner { eta: 1, ..HalvingPruner::default() }, "eta");
    fails(&HalvingPruner { min_resource: Some(0), ..HalvingPruner::default() }, "min_resource");
    let none = HyperbandPruner { max_resource: Some(0), ..HyperbandPruner::default() };
    fails(&none, "max_resource");
    fails(&ThresholdPruner { lower: 1.0, upper: 0.0, warmup_steps: 0 }, "lower");
    fails(&WilcoxonPruner { p_threshold: -0.1, startup_steps: 2 }, "p_threshold");
    let negative = PatientPruner { inner: None::<HalvingPruner>, patience: 1, min_delta: -1.0 };
    fails(&negative, "min_delta");
}
