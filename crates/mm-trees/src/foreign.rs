//! Models of the official Python packages predict here what they predict there
//! (`tests/foreign/*.json`, with the scripts that made them).

use mm_core::{BoxModel, Column, Levels, Model, Schema, Signature};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{Forest, LightGbmModel, XgBoostModel};

/// What one version of a package has made.
#[derive(Debug, Deserialize)]
struct Fixture {
    version: String,
    rows: Vec<u32>,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    form: Option<String>,
    model: String,
    cells: Option<Vec<Vec<Option<String>>>>,
    #[serde(deserialize_with = "numbers")]
    predicted: Vec<f64>,
    #[serde(deserialize_with = "numbers")]
    raw: Vec<f64>,
    last: Option<Vec<f64>>,
    best: Option<usize>,
}

/// Numbers, as texts where JSON has none for them.
fn numbers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    let parse = |value: Value| match value {
        Value::String(text) => text.parse().expect("a number"),
        other => other.as_f64().expect("a number"),
    };
    Ok(Vec::<Value>::deserialize(from)?.into_iter().map(parse).collect())
}

fn read(json: &str) -> Fixture {
    serde_json::from_str(json).expect("as the script writes it")
}

/// The schema of the scripts: three numbers, and codes below 43.
fn schema(is_categorical: bool) -> Schema {
    let codes = Levels::new((0..43).map(|code| code.to_string())).expect("distinct");
    let last =
        if is_categorical { Column::categorical("f3", codes) } else { Column::numeric("f3") };
    let numbers = ["f0", "f1", "f2"].map(Column::numeric);
    Schema::new(numbers.into_iter().chain([last])).expect("distinct")
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        if self.form.as_deref() != Some("ubj") {
            return self.model.clone().into_bytes();
        }
        let digits = self.model.as_bytes().chunks_exact(2);
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16);
        digits.map(|pair| byte(pair).expect("hexadecimal digits")).collect()
    }

    /// The rows as `model` takes them.
    fn rows(&self, fixture: &Fixture, model: &dyn Model) -> Vec<Vec<f32>> {
        let Some(cells) = &self.cells else {
            let values: Vec<f32> = fixture.rows.iter().map(|&bits| f32::from_bits(bits)).collect();
            return values.chunks_exact(4).map(<[f32]>::to_vec).collect();
        };
        let parse = |cells: &Vec<Option<String>>| {
            let cells: Vec<&str> = cells.iter().map(|x| x.as_deref().unwrap_or("")).collect();
            let mut row = Vec::new();
            model.signature().schema.parse_row(&cells, &mut row).expect("cells of the schema");
            row
        };
        cells.iter().map(parse).collect()
    }
}

fn infer(model: &dyn Model, rows: &[Vec<f32>]) -> Vec<f64> {
    let mut out = vec![0.0; rows.len() * model.signature().n_outputs()];
    for (row, out) in rows.iter().zip(out.chunks_exact_mut(model.signature().n_outputs())) {
        model.infer_row(row, out).expect("predicts");
    }
    out
}

fn raw(forest: &Forest, rows: &[Vec<f32>]) -> Vec<f64> {
    let mut out = vec![0.0; rows.len() * forest.n_outputs()];
    for (row, out) in rows.iter().zip(out.chunks_exact_mut(forest.n_outputs())) {
        forest.raw_by_definition(row, out);
    }
    out
}

/// The same but for the last digits: exponentials are those of the system's mathematics, which need
/// not be those of the system that made the fixture.
#[track_caller]
fn near(got: &[f64], expected: &[f64], within: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (got, expected) in got.iter().zip(expected) {
        let same = got == expected
            || got.is_nan() && expected.is_nan()
            || (got - expected).abs() <= within * expected.abs();
        assert!(same, "{what}: {got}, not {expected}");
    }
}

#[test]
fn models_of_lightgbms_package_predict_the_same() {
    for json in [
        include_str!("../tests/foreign/lightgbm-4.7.0.json"),
        include_str!("../tests/foreign/lightgbm-3.3.5.json"),
    ] {
        let fixture = read(json);
        for case in &fixture.cases {
            let what = format!("LightGBM {}, {}", fixture.version, case.name);
            let model =
                LightGbmModel::read(&case.bytes()).unwrap_or_else(|e| panic!("{what}: {e}"));
            let opened: BoxModel = crate::open(&case.bytes()).expect("is told by its bytes");
            let rows = case.rows(&fixture, &model);
            let is_average = case.name == "random forest"; // Whose raw scores are not divided there.
            let divisor = if is_average { model.n_rounds() as f64 } else { 1.0 };
            let expected: Vec<f64> = case.raw.iter().map(|raw| raw / divisor).collect();
            near(&raw(model.forest(), &rows), &expected, 0.0, &format!("{what}, raw"));
            let mut expected = case.predicted.clone();
            if case.name == "multiclassova" {
                expected.chunks_exact_mut(3).for_each(crate::forest::normalize);
            }
            near(&infer(&model, &rows), &expected, 1e-15, &what);
            assert_eq!(infer(&opened, &rows), infer(&model, &rows), "{what}");
            if let Some(last) = &case.last {
                let slice = model.slice(1..model.n_rounds()).expect("several rounds");
                near(&infer(&slice, &rows), last, 1e-15, &format!("{what}, but the first round"));
            }
            assert_eq!(model.to_text().expect("writes"), with_levels(case, &model), "{what}");
        }
    }
}

/// The text of `case` with the levels of `model` where it has none, as [`LightGbmModel::to_text`]
/// adds them.
fn with_levels(case: &Case, model: &LightGbmModel) -> String {
    let columns = model.signature().schema.columns().iter();
    let levels: Vec<&[String]> = columns.filter_map(|c| Some(c.levels()?.names())).collect();
    if levels.is_empty() || case.model.contains("\npandas_categorical:") {
        return case.model.clone();
    }
    let levels = serde_json::to_string(&levels).expect("texts");
    format!("{}\npandas_categorical:{levels}\n", case.model)
}

#[test]
fn models_of_xgboosts_package_predict_the_same() {
    for json in [
        include_str!("../tests/foreign/xgboost-3.4.0.json"),
        include_str!("../tests/foreign/xgboost-3.2.0.json"),
        include_str!("../tests/foreign/xgboost-2.1.4.json"),
        include_str!("../tests/foreign/xgboost-1.7.6.json"),
    ] {
        let fixture = read(json);
        for case in &fixture.cases {
            let what = format!("XGBoost {}, {}", fixture.version, case.name);
            let bytes = case.bytes();
            let model = if case.name.contains("categor") {
                let err = XgBoostModel::read(&bytes).expect_err("no levels are stored");
                assert!(err.to_string().contains("stored levels"), "{what}: {err}");
                let task = mm_core::Task::Regression;
                XgBoostModel::from_bytes_as(&bytes, Signature::new(schema(true), task))
            } else {
                XgBoostModel::read(&bytes)
            };
            let model = model.unwrap_or_else(|e| panic!("{what}: {}", e.chain()));
            let rows = case.rows(&fixture, &model);
            if let Some(forest) = model.forest() {
                let expected: Vec<f64> = case.raw.iter().map(|&y| f64::from(y as f32)).collect();
                assert_eq!(raw(forest, &rows), expected, "{what}, raw");
            }
            // A few last digits of `f32`.
            near(&infer(&model, &rows), &case.predicted, 3e-7, &what);
            if let Some(last) = &case.last {
                let slice = model.slice(1..model.n_rounds()).expect("several rounds");
                near(&infer(&slice, &rows), last, 3e-7, &format!("{what}, but the first round"));
            }
            assert_eq!(model.best_iteration(), case.best, "{what}");
            for bytes in
                [model.to_ubjson().expect("writes"), model.to_json().expect("writes").into()]
            {
                let signature = model.signature().clone();
                let again = XgBoostModel::from_bytes_as(&bytes, signature).expect("reads");
                assert_eq!(infer(&again, &rows), infer(&model, &rows), "{what}, written and read");
            }
        }
    }
}

/// What fuzzing has found.
#[test]
fn a_text_without_statistics_is_written_and_read() {
    let fixture = read(include_str!("../tests/foreign/lightgbm-4.7.0.json"));
    let text = &fixture.cases[0].model;
    let is_statistic = |line: &&str| {
        ["leaf_weight", "leaf_count", "internal", "split_gain", "tree_sizes"]
            .iter()
            .any(|key| line.starts_with(key))
    };
    let bare: String = text.split_inclusive('\n').filter(|line| !is_statistic(line)).collect();
    let odd = text.replacen("leaf_count=", "leaf_count=nan ", 1).replacen("tree_sizes", "x", 1);
    let odd = {
        let line = odd.lines().find(|line| line.starts_with("leaf_count=nan")).expect("there");
        let words: Vec<&str> = line.split(' ').collect();
        odd.replacen(line, &words[..words.len() - 1].join(" "), 1)
    };
    for text in [bare, odd] {
        let model = LightGbmModel::from_text(&text).expect("reads");
        let again = LightGbmModel::from_text(&model.to_text().expect("writes")).expect("reads");
        let rows = fixture.cases[0].rows(&fixture, &model);
        assert_eq!(infer(&again, &rows), infer(&model, &rows));
    }
}

#[test]
fn files_of_other_kinds_are_refused_by_what_they_are() {
    for bytes in [&b""[..], b"CBM1", b"binf", b"\x80\x04pickle", b"{\"a\":1}", b"tree\nno"] {
        assert!(crate::open(bytes).is_err(), "{}", bytes.escape_ascii());
    }
}
