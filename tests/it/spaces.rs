//! Search spaces of every model kind: what they draw builds, and the defaults lie inside.

use std::collections::BTreeSet;

use mm::core::{Catalog, Family, FloatRange, IntRange, Result, SpaceSize, Suggest};
use serde_json::{Value, json};

const SIZES: [SpaceSize; 3] = [SpaceSize::Small, SpaceSize::Medium, SpaceSize::Large];

/// Answers by a sequence that covers the unit interval evenly (the additive recurrence of the golden
/// ratio), ends included.
struct Spread {
    at: f64,
    asked: BTreeSet<String>,
}

impl Spread {
    fn next(&mut self, name: &str) -> f64 {
        assert!(self.asked.insert(name.to_owned()), "`{name}` is asked twice");
        self.at = (self.at + 0.618_033_988_749_894_9).fract();
        // An answer in ten lies on an end.
        ((self.at - 0.05) / 0.9).clamp(0.0, 1.0)
    }
}

impl Suggest for Spread {
    fn float(&mut self, name: &str, range: FloatRange) -> Result<f64> {
        range.check(name)?;
        let u = self.next(name);
        let FloatRange { low, high, step, log } = range;
        let x = match step {
            Some(step) => low + (u * (high - low) / step).round() * step,
            None if log => (low.ln() + u * (high.ln() - low.ln())).exp(),
            None => low + u * (high - low),
        };
        Ok(x.clamp(low, high))
    }

    fn int(&mut self, name: &str, range: IntRange) -> Result<i64> {
        range.check(name)?;
        let u = self.next(name);
        Ok(range.low
            + (u * (range.high - range.low) as f64).round() as i64 / range.step * range.step)
    }

    fn choose(&mut self, name: &str, choices: &[&str]) -> Result<usize> {
        let last = choices.len() - 1;
        Ok(((self.next(name) * choices.len() as f64) as usize).min(last))
    }
}

/// Answers what it was told by name.
struct Told(Vec<(String, Value)>);

impl Told {
    fn value(&self, name: &str) -> &Value {
        let found = self.0.iter().find(|(key, _)| key == name);
        &found.unwrap_or_else(|| panic!("`{name}` was told")).1
    }
}

impl Suggest for Told {
    fn float(&mut self, name: &str, range: FloatRange) -> Result<f64> {
        let x = self.value(name).as_f64().expect("a number");
        assert!(range.low <= x && x <= range.high, "`{name}`: {x} of {range:?}");
        Ok(x)
    }

    fn int(&mut self, name: &str, range: IntRange) -> Result<i64> {
        let i = self.value(name).as_i64().expect("an integer");
        assert!((range.low..=range.high).contains(&i), "`{name}`: {i} of {range:?}");
        Ok(i)
    }

    fn choose(&mut self, name: &str, choices: &[&str]) -> Result<usize> {
        let text = self.value(name).as_str().expect("a text");
        Ok(choices.iter().position(|choice| *choice == text).expect("one of them"))
    }
}

#[test]
fn every_kind_that_has_defaults_has_a_space() {
    let catalog = mm::catalog();
    let plain = |kind: &&str| catalog.learner(kind, Value::Object(serde_json::Map::new())).is_ok();
    let kinds: Vec<&str> = catalog.kinds().filter(plain).collect();
    let is_combiner = |kind: &&str| catalog.combiners().any(|other| other == *kind);
    let (combiners, spaces): (Vec<&str>, Vec<&str>) = catalog.searchable().partition(is_combiner);
    assert_eq!(kinds, spaces);
    assert!(12 < kinds.len(), "{kinds:?}");
    // Of combiners those that have something to choose.
    assert_eq!(combiners, ["greedy", "median", "nnls", "stack", "weights"]);
}

/// Builds a learner or a combiner.
fn build(catalog: &Catalog, kind: &str, params: Value) -> Result<()> {
    if catalog.kinds().any(|other| other == kind) {
        return catalog.learner(kind, params).map(drop);
    }
    catalog.combiner(kind, params)?.check(&["a", "b"])
}

#[test]
fn every_point_of_every_space_builds() {
    let catalog = mm::catalog();
    for kind in catalog.searchable() {
        for size in SIZES {
            for i in 0..40 {
                let mut draw = Spread { at: f64::from(i) / 40.0, asked: BTreeSet::new() };
                let params = catalog.search(kind, size, &mut draw).expect("draws");
                let built = build(&catalog, kind, params.clone());
                built.unwrap_or_else(|e| panic!("{kind}, {size:?}, {params}: {}", e.chain()));
            }
        }
    }
}

#[test]
fn every_space_contains_the_defaults() {
    let catalog = mm::catalog();
    for kind in catalog.searchable() {
        for size in SIZES {
            let family = Family::new(kind, json!({}));
            let told = family.points(&catalog, size).expect("draws").swap_remove(0);
            let drawn = family.draw(&catalog, size, &mut Told(told)).expect("draws");
            assert_eq!(Some(&drawn), catalog.defaults(kind), "{kind}, {size:?}");
        }
    }
}

fn after_the_defaults(
    family: &Family,
    catalog: &Catalog,
    size: SpaceSize,
) -> Vec<Vec<(String, Value)>> {
    family.points(catalog, size).expect("draws").split_off(1)
}

#[test]
fn every_portfolio_lies_inside() {
    let catalog = mm::catalog();
    let mut kinds = Vec::new();
    for kind in catalog.searchable() {
        for size in SIZES {
            let family = Family::new(kind, json!({}));
            let points = after_the_defaults(&family, &catalog, size);
            let wanted = catalog.portfolio(kind, size);
            assert_eq!(points.len(), wanted.len());
            for (told, wanted) in points.into_iter().zip(&wanted) {
                let drawn = family.draw(&catalog, size, &mut Told(told)).expect("draws");
                assert_eq!(&drawn, wanted, "{kind}, {size:?}");
            }
            if !wanted.is_empty() && size == SpaceSize::Medium {
                kinds.push(kind);
            }
        }
    }
    assert_eq!(kinds, ["lightgbm", "xgboost"]);
    // What is fixed stays so.
    let family = Family::new("xgboost", json!({"learning_rate": 0.5}));
    let points = after_the_defaults(&family, &catalog, SpaceSize::Medium);
    let asks = |name: &str| points.iter().flatten().any(|(asked, _)| asked == name);
    assert!(!asks("learning_rate") && asks("sampling.rows"));
    // That of a composite has its members' points together.
    let members = json!([{"kind": "xgboost"}, {"kind": "linear"}]);
    let family = Family::new("ensemble", json!({"members": members}));
    let points = after_the_defaults(&family, &catalog, SpaceSize::Medium);
    let first = |name: &str| points[0].iter().find(|(asked, _)| asked == name).map(|(_, x)| x);
    let wanted = catalog.portfolio("xgboost", SpaceSize::Medium);
    assert_eq!(points.len(), wanted.len());
    assert_eq!(first("members.0.learning_rate"), Some(&wanted[0]["learning_rate"]));
    assert_eq!(first("members.1.penalty"), Some(&json!(1.0)), "the default");
}

#[test]
fn larger_spaces_ask_for_more() {
    let catalog = mm::catalog();
    for kind in catalog.searchable() {
        let asked = SIZES.map(|size| {
            // Every path's questions together.
            let mut all = BTreeSet::new();
            for i in 0..40 {
                let mut draw = Spread { at: f64::from(i) / 40.0, asked: BTreeSet::new() };
                catalog.search(kind, size, &mut draw).expect("draws");
                all.append(&mut draw.asked);
            }
            all
        });
        assert!(asked[0].is_subset(&asked[1]), "{kind}: {asked:?}");
        assert!(asked[1].is_subset(&asked[2]), "{kind}: {asked:?}");
        assert!(asked[0].len() < 12, "a small space has few parameters: {kind}");
    }
}
