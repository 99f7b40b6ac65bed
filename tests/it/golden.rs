//! Files of every released version open for ever, and predict bit for bit.
//!
//! `golden/<name>.mm` is a stored model and `golden/<name>.json` what it predicted, as the bits of
//! the `f64`s, of the rows that `rows` makes. Files are added, never changed: to add those of a new
//! version of a body, run with `MM_WRITE_GOLDEN=1`, which writes only what is not there yet.

use std::{fs, path::PathBuf};

use mm::{
    core::{
        BoxLearner, Dataset, FitContext, Learner as _, Model as _, Params as _,
        conformance::{Checks, sample},
    },
    ensemble::Ensemble,
    trees::{LightGbmParams, XgBoostParams},
};

/// Name, with the version of the body, and number of classes.
const FILES: [(&str, usize); 5] = [
    ("lightgbm-1-binary", 2),
    ("lightgbm-1-regression", 0),
    ("xgboost-1-multiclass", 3),
    ("xgboost-1-regression", 0),
    ("average-1-binary", 2),
];

fn rows(n_classes: usize) -> Dataset {
    sample(40, n_classes, Checks::default())
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden"))
}

fn learner(name: &str) -> BoxLearner {
    let lightgbm = || {
        let params = LightGbmParams::default().with(|p| {
            p.rounds = 4;
            p.tree.min_data_in_leaf = 2;
            p.bins.min_data = 1;
        });
        Box::new(params.build().expect("valid"))
    };
    let xgboost =
        || Box::new(XgBoostParams::default().with(|p| p.rounds = 4).build().expect("valid"));
    match name.split('-').next() {
        Some("lightgbm") => lightgbm(),
        Some("xgboost") => xgboost(),
        _ => {
            let members: [(&str, BoxLearner); 2] = [("a", lightgbm()), ("b", xgboost())];
            Box::new(Ensemble::mean(members).expect("two members"))
        }
    }
}

#[test]
fn old_files_open_and_predict_bit_for_bit() {
    for (name, n_classes) in FILES {
        let (model, bits) =
            (folder().join(format!("{name}.mm")), folder().join(format!("{name}.json")));
        let data = rows(n_classes);
        let predict = |bytes: &[u8]| -> Vec<u64> {
            let opened =
                mm::catalog().open(bytes).unwrap_or_else(|e| panic!("{name}: {}", e.chain()));
            let y = opened.predict(data.frame()).expect("predicts");
            y.values().iter().map(|y| y.to_bits()).collect()
        };
        if std::env::var_os("MM_WRITE_GOLDEN").is_some() && !model.exists() {
            let fitted = learner(name).fit(&data, &FitContext::seeded(1)).expect("fits");
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
