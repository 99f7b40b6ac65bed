//! Importances equal Optuna's of the same trials (`tests/fixtures/importance.py`).

use std::{collections::BTreeMap, sync::Arc};

use mm_core::{Direction, FloatRange, Result, Suggest};
use mm_tune::{
    Distribution, Fanova, FrozenTrial, Json, MemoryStorage, Param, PedAnova, RandomSampler,
    Storage, Study, TrialState,
};

/// A study of the fixture, and what Optuna says of it.
fn studies() -> Result<Vec<(Study, BTreeMap<String, f64>)>> {
    let fixture = Json::parse(include_str!("../fixtures/importance.json"))?;
    let field = |json: &Json, key| json.get(key).cloned().expect("the fixture is whole");
    let numbers = |json: &Json| -> Vec<Option<f64>> {
        json.as_array().expect("a list").iter().map(Json::as_f64).collect()
    };
    let study = |json: &Json| {
        let directions = field(json, "directions");
        let direction = |text: &Json| match text.as_str() {
            Some("maximize") => Direction::Maximize,
            _ => Direction::Minimize,
        };
        let directions: Vec<Direction> =
            directions.as_array().expect("a list").iter().map(direction).collect();
        // A JSON object is sorted by name, and so are the values of a row in the script's order.
        let mut distributions = Vec::new();
        for pair in field(json, "distributions").as_array().expect("a list") {
            let [name, distribution] = pair.as_array().expect("a pair") else { panic!("a pair") };
            let name = name.as_str().expect("a name").to_owned();
            distributions.push((name, Arc::new(Distribution::try_from(distribution)?)));
        }
        let storage = Arc::new(MemoryStorage::default());
        let study = Study::open(storage.clone(), "fixture", &directions)?;
        let record = storage.study("fixture")?.expect("it was made");
        let blank = storage.create_trial(record.id, None)?;
        storage.delete_study(record.id)?;
        let study = Study::open(storage.clone(), study.name(), &directions)?;
        let record = storage.study("fixture")?.expect("it was made");
        for row in field(json, "trials").as_array().expect("a list") {
            let [values, internal] = row.as_array().expect("a pair") else { panic!("a pair") };
            let params = distributions.iter().zip(numbers(internal));
            let params = params.filter_map(|((name, distribution), value)| {
                let (name, distribution) = (name.as_str().into(), distribution.clone());
                Some(Param { name, value: value?, distribution })
            });
            let trial = FrozenTrial {
                state: TrialState::Complete,
                values: numbers(values).into_iter().flatten().collect(),
                params: params.collect(),
                completed: blank.started,
                ..blank.clone()
            };
            storage.create_trial(record.id, Some(&trial))?;
        }
        let importance = field(json, "importance");
        let importance = importance.as_object().expect("an object").iter();
        let importance = importance.map(|(k, v)| (k.clone(), v.as_f64().expect("a number")));
        Ok((study, importance.collect()))
    };
    fixture.as_array().expect("a list").iter().map(study).collect()
}

#[test]
fn ped_anova_equals_optunas() -> Result<()> {
    for (study, expected) in studies()? {
        let got = PedAnova::default().of(&study)?;
        assert_eq!(got.len(), expected.len());
        assert!(got.is_sorted_by(|a, b| b.1 <= a.1));
        for (name, importance) in got {
            // Both sum differences of the error function, whose last digits are not the same.
            let off = (importance - expected[&name]).abs();
            assert!(off < 1e-9, "{name}: {importance}, Optuna says {}", expected[&name]);
        }
    }
    Ok(())
}

#[test]
fn fanova_parts_the_variance_of_a_known_function() -> Result<()> {
    let study = Study::in_memory(Direction::Minimize).with_sampler(RandomSampler).with_seed(2);
    study.optimize(400, |trial| {
        let x = trial.float("x", FloatRange::new(0.0, 1.0))?;
        let y = trial.float("y", FloatRange::new(0.0, 1.0))?;
        let kind = trial.choose("kind", &["a", "b", "c"])?;
        trial.float("nothing", FloatRange::new(0.0, 1.0))?;
        Ok((3.0 * x + y + f64::from(u8::from(kind == 1))).into())
    })?;
    // Variances 9/12, 1/12, and 2/9, together 1.0556.
    let got: BTreeMap<String, f64> = Fanova::default().of(&study)?.into_iter().collect();
    for (name, expected) in [("x", 0.7105), ("y", 0.0789), ("kind", 0.2105), ("nothing", 0.0)] {
        // Trees of 400 trials see the function as steps.
        assert!((got[name] - expected).abs() < 0.03, "{name}: {got:?}");
    }
    assert_eq!(Fanova::default().of(&study)?.into_iter().collect::<BTreeMap<_, _>>(), got);
    Ok(())
}

#[test]
fn little_to_go_by_is_no_error() -> Result<()> {
    let study = Study::in_memory(Direction::Minimize);
    assert_eq!(PedAnova::default().of(&study)?, []);
    assert_eq!(Fanova::default().of(&study)?, []);
    study.optimize(3, |trial| Ok(trial.float("x", FloatRange::new(0.0, 1.0))?.into()))?;
    assert_eq!(PedAnova::default().of(&study)?, [("x".to_owned(), 1.0)]);
    assert!(PedAnova { best: 0.0, ..PedAnova::default() }.of(&study).is_err());
    Ok(())
}
