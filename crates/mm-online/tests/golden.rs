//! Stored models of every released version of a body open for ever, and predict bit for bit.
//!
//! `golden/<kind>-<version>.mm` is a stored model and `golden/<kind>-<version>.json` what it predicted,
//! as the bits of the `f64`s. Files are added, never changed: with `MM_WRITE_GOLDEN=1` those that are
//! not there yet are written.

use std::{fs, path::PathBuf};

use mm_core::{
    Catalog, FitContext, Learner as _, Model as _,
    conformance::{Checks, sample},
};
use serde_json::{Value, json};

/// Kind with the version of the body, params, and number of classes.
fn files() -> Vec<(&'static str, Value, usize)> {
    let forest = json!({ "n_trees": 2, "growth": { "grace": 8.0, "tau": 1.0 } });
    vec![
        ("online_linear-1", json!({}), 3),
        ("online_bank-1", json!({}), 0),
        ("passive_aggressive-1", json!({}), 2),
        ("hashed_linear-1", json!({ "bits": 5 }), 2),
        ("hoeffding_tree-1", json!({ "growth": { "grace": 8.0, "tau": 1.0 } }), 3),
        ("hoeffding_adaptive_tree-1", json!({ "growth": { "grace": 8.0, "tau": 1.0 } }), 2),
        ("adaptive_random_forest-1", forest.clone(), 2),
        ("streaming_random_patches-1", forest, 2),
        ("mondrian_forest-1", json!({ "n_trees": 2 }), 2),
        ("naive_bayes-1", json!({}), 3),
        ("nearest_neighbors-1", json!({ "window": 20 }), 0),
    ]
}

#[test]
fn old_files_open_and_predict_bit_for_bit() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
    let catalog = mm_online::register(Catalog::default());
    for (name, params, n_classes) in files() {
        let (model, bits) =
            (folder.join(format!("{name}.mm")), folder.join(format!("{name}.json")));
        let data = sample(40, n_classes, Checks::default());
        let predict = |bytes: &[u8]| -> Vec<u64> {
            let opened = catalog.open(bytes).unwrap_or_else(|e| panic!("{name}: {}", e.chain()));
            assert!(opened.as_online().is_some(), "{name} keeps learning");
            let y = opened.predict(data.frame()).expect("predicts");
            y.values().iter().map(|y| y.to_bits()).collect()
        };
        if std::env::var_os("MM_WRITE_GOLDEN").is_some() && !model.exists() {
            let kind = name.split('-').next().expect("a kind");
            let learner = catalog.learner(kind, params).expect("valid");
            let fitted = learner.fit(&data, &FitContext::seeded(1)).expect("fits");
            let bytes = fitted.to_envelope().expect("seals").into_bytes();
            let text = serde_json::to_string(&predict(&bytes)).expect("writes");
            fs::write(&model, bytes).and_then(|()| fs::write(&bits, text)).expect("writes");
        }
        let text = fs::read_to_string(bits).expect("the file is in the repository");
        let expected: Vec<u64> = serde_json::from_str(&text).expect("a list of bits");
        let bytes = fs::read(model).expect("the file is in the repository");
        assert!(predict(&bytes) == expected, "{name} predicts what it did when it was written");
    }
}
