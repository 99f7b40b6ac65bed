//! Against the official package's models and predictions (`tests/fixtures/catboost.py`).

use std::{collections::BTreeMap, fs, sync::Arc};

use mm_core::{
    Catalog, Column, Dataset, Frame, ImportanceKind, Levels, Metric, Model as _, Output, Schema,
};
use serde::Deserialize;
use serde_json::Value;

use super::{CatBoostModel, Format, cbm, convert, file::ModelFile, json};
use crate::forest::{CtrTable, Test};

/// What the package says of a model.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    has_json: bool,
    columns: Vec<String>,
    categorical: Vec<bool>,
    rows: Vec<Vec<Value>>,
    raw: Vec<Vec<f64>>,
    predictions: Vec<Vec<f64>>,
    importance: Vec<f64>,
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/catboost");
    fs::read(format!("{folder}/{name}")).expect("a committed file")
}

fn cases() -> Vec<Case> {
    serde_json::from_slice(&fixture("cases.json")).expect("JSON")
}

impl Case {
    /// The rows as a frame whose dictionaries have every level that occurs.
    fn frame(&self) -> Frame {
        let column = |(j, name): (usize, &String)| {
            if !self.categorical[j] {
                return Column::numeric(name);
            }
            let mut names: Vec<&str> =
                self.rows.iter().map(|row| row[j].as_str().expect("a level")).collect();
            names.sort_unstable();
            names.dedup();
            Column::categorical(name, Levels::new(names).expect("distinct"))
        };
        let schema = Schema::new(self.columns.iter().enumerate().map(column)).expect("distinct");
        let cell = |(column, cell): (&Column, &Value)| match (column.levels(), cell) {
            (Some(levels), Value::String(name)) => levels.code(name).expect("listed") as f32,
            (None, Value::Number(x)) => x.as_f64().expect("a number") as f32,
            (None, Value::String(text)) => text.parse().expect("an infinity"),
            _ => f32::NAN,
        };
        let cells = self.rows.iter().flat_map(|row| schema.columns().iter().zip(row));
        let values = cells.map(cell).collect();
        Frame::with_schema(values, schema).expect("rows")
    }

    /// The formats that the model is there in.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let names = [format!("{}.cbm", self.name), format!("{}.json", self.name)];
        let names = names.into_iter().take(if self.has_json { 2 } else { 1 });
        names.map(|name| (name.clone(), fixture(&name))).collect()
    }
}

/// The sum of a few numbers in another order differs by some roundings of the largest.
#[track_caller]
fn near(what: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (got, expected) in got.iter().zip(expected) {
        let ok = (got - expected).abs() <= 1e-12 * expected.abs().max(1.0);
        assert!(ok, "{what}: {got} is not {expected}");
    }
}

#[test]
fn scores_and_predictions_are_those_of_the_official_package() {
    for case in cases() {
        let x = case.frame();
        for (name, bytes) in case.files() {
            let model = CatBoostModel::read(&bytes, Some(x.schema().clone())).expect(&name);
            let raw = model.predict_raw(&x).expect("predicts");
            let out = model.predict(&x).expect("predicts");
            for i in 0..x.n_rows() {
                let place = format!("{name}, row {i}: {:?}", case.rows[i]);
                near(&place, raw.row(i), &case.raw[i]);
                near(&place, out.row(i), &case.predictions[i]);
                let mut single = vec![0.0; out.n_cols()];
                model.predict_row(x.row(i), &mut single).expect("predicts");
                assert_eq!(single, out.row(i), "{place}");
            }
        }
    }
}

#[test]
fn rows_of_a_large_frame_are_predicted_as_single_ones() {
    for case in cases() {
        let few = case.frame();
        let rows: Vec<usize> = (0..5000).map(|i| i * 7 % few.n_rows()).collect();
        let x = few.take(&rows);
        let bytes = fixture(&format!("{}.cbm", case.name));
        let model = CatBoostModel::read(&bytes, Some(x.schema().clone())).expect("reads");
        let (out, alone) = (model.predict(&x), model.predict(&few));
        let (out, alone) = (out.expect("predicts"), alone.expect("predicts"));
        for (i, &row) in rows.iter().enumerate() {
            assert_eq!(out.row(i), alone.row(row), "{}, row {i}", case.name);
        }
    }
}

#[test]
fn codes_and_columns_answer_as_hashes_and_ctrs_by_definition_do() {
    for case in cases() {
        let x = case.frame();
        let model =
            CatBoostModel::read(&fixture(&format!("{}.cbm", case.name)), Some(x.schema().clone()));
        let model = model.expect("reads");
        let (forest, n_outputs) = (model.forest(), model.signature().n_outputs());
        let (bound, encoder) = forest.bind(x.schema());
        for row in x.rows() {
            // Each level in turn missing and unknown, too.
            let categorical = (0..row.len()).filter(|&j| case.categorical[j]);
            let odd = categorical.flat_map(|j| [(j, f32::NAN), (j, Frame::UNKNOWN)]);
            for (j, cell) in odd.chain([(0, row[0])]) {
                let mut row = row.to_vec();
                row[j] = cell;
                let (mut expected, mut got) = (vec![0.0; n_outputs], vec![0.0; n_outputs]);
                forest.raw_by_hashes(&row, &encoder.hashes(&row), &mut expected);
                let mut encoded = vec![0.0; encoder.n_cols()];
                encoder.encode(&row, &mut encoded);
                bound.raw_by_definition(&encoded, &mut got);
                assert_eq!(got, expected, "{}: {row:?}", case.name);
                // … and so does the kernel.
                forest.link_row(&mut expected);
                model.predict_row(&row, &mut got).expect("predicts");
                assert_eq!(got, expected, "{}: {row:?}", case.name);
            }
        }
    }
}

#[test]
fn what_is_written_reads_as_the_same_model_in_both_formats() {
    for case in cases() {
        let read = cbm::read(&fixture(&format!("{}.cbm", case.name))).expect("reads");
        let again = cbm::read(&binary(&read)).expect("reads");
        assert!(again == read, "{}: .cbm", case.name);

        let json = text(&read);
        let again = json::read(json.as_bytes()).expect("reads");
        assert!(text(&again) == json, "{}: JSON to JSON", case.name);
        let through_binary = cbm::read(&binary(&again)).expect("reads");
        assert!(through_binary == again, "{}: JSON to .cbm", case.name);

        let (again, read) = (without_losses(again), without_losses(read));
        assert!(again.forest == read.forest, "{}: JSON", case.name);
        assert_eq!(normal(again.about.info), normal(read.about.info), "{}", case.name);
    }
}

fn binary(file: &ModelFile) -> Vec<u8> {
    cbm::write(&file.forest, &file.about).expect("writes")
}

fn text(file: &ModelFile) -> String {
    json::write(&file.forest, &file.about).expect("writes")
}

/// Without what JSON has no place for: the number of the target's binarisation.
fn without_losses(mut file: ModelFile) -> ModelFile {
    for table in &mut file.forest.ctrs.tables {
        let (projection, kind) = (table.projection().clone(), table.kind());
        let (hashes, counts) = (table.hashes().to_vec(), table.counts().clone());
        let same = CtrTable::new(projection, kind, 0, hashes, counts);
        *table = Arc::new(same.expect("sound"));
    }
    file
}

/// Parameters as values, since JSON in JSON loses its spaces.
fn normal(info: BTreeMap<String, String>) -> Vec<(String, Value)> {
    let value = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
    info.into_iter().map(|(key, text)| (key, value(text))).collect()
}

#[test]
fn both_formats_of_a_model_hold_the_same_trees() {
    for case in cases().iter().filter(|case| case.has_json) {
        let of = |suffix| fixture(&format!("{}.{suffix}", case.name));
        let (binary, text) = (cbm::read(&of("cbm")), json::read(&of("json")));
        let (binary, text) = (binary.expect("reads"), text.expect("reads"));
        assert!(binary.forest.trees == text.forest.trees, "{}", case.name);
        assert_eq!(binary.forest.ctrs.list.len(), text.forest.ctrs.list.len(), "{}", case.name);
        assert_eq!(binary.about.nans, text.about.nans, "{}", case.name);
    }
}

#[test]
fn the_change_of_predictions_is_the_official_one() {
    for case in cases() {
        for (name, bytes) in case.files() {
            let schema = case.frame().schema().clone();
            let model = CatBoostModel::read(&bytes, Some(schema)).expect("reads");
            let importance = model.as_importance().expect("has");
            let change = importance.importance(ImportanceKind::PredictionChange).expect("weights");
            for (got, expected) in change.iter().zip(&case.importance) {
                // In percent; sums of squares in another order.
                assert!((got - expected).abs() <= 1e-9, "{name}: {change:?} {:?}", case.importance);
            }
            let error = importance.importance(ImportanceKind::Gain).expect_err("not in the file");
            assert!(error.to_string().contains("Gain"), "{error}");
            let count = importance.importance(ImportanceKind::Count).expect("counts");
            for (change, count) in change.iter().zip(count) {
                assert!(*change == 0.0 || 0.0 < count, "{name}");
            }
        }
    }
}

#[test]
fn a_signature_is_made_from_the_file_alone_where_it_has_the_names() {
    let read = |name: &str| CatBoostModel::read(&fixture(name), None);
    let model = read("combinations.json").expect("has a dictionary");
    let columns = model.signature().schema.columns();
    assert_eq!(columns[0], Column::numeric("x"));
    let colours = columns[1].levels().expect("categorical");
    assert!(colours.code("ümlaut").is_some() && colours.code("mauve").is_none());
    assert_eq!(model.signature().outputs, [Output::Probability("1".to_owned())]);

    let error = read("combinations.cbm").expect_err("hashes alone");
    let expected = "levels of the categorical column `colour`: \
                    expected stored names, or a schema that has them, got hashes";
    assert_eq!(error.to_string(), expected);

    let model = read("multi_quantile.cbm").expect("numeric");
    assert_eq!(model.signature().outputs, [0.1, 0.5, 0.9].map(Output::Quantile));
    let model = read("one_vs_all.cbm").expect("numeric");
    let names = model.signature().task.class_names().expect("classes");
    assert_eq!(names, ["0.5", "1.0", "2.0"]);
}

#[test]
fn a_file_s_own_dictionary_predicts_as_a_larger_schema_does() {
    for case in cases().iter().filter(|case| case.has_json && case.categorical.contains(&true)) {
        let (x, bytes) = (case.frame(), fixture(&format!("{}.json", case.name)));
        let alone = CatBoostModel::read(&bytes, None).expect("has a dictionary");
        let out = alone.predict(&x).expect("translates levels by name");
        let wide = alone.with_schema(x.schema().clone()).expect("the same columns");
        assert_eq!(out, wide.predict(&x).expect("predicts"), "{}", case.name);
        // … and what it writes has the dictionary.
        let again = alone.to_json().expect("writes");
        let again = CatBoostModel::read(again.as_bytes(), None).expect("has a dictionary");
        assert_eq!(again.predict(&x).expect("predicts"), out, "{}", case.name);
    }
}

#[test]
fn a_schema_of_other_columns_is_refused() {
    let bytes = fixture("combinations.cbm");
    let error = CatBoostModel::read(&bytes, Some(Schema::numeric(5))).expect_err("kinds");
    assert_eq!(error.to_string(), "column 0 must be numeric `x`, got numeric `f0`");
    let error = CatBoostModel::read(&bytes, Some(Schema::numeric(4))).expect_err("width");
    assert_eq!(error.to_string(), "expected 5 feature columns, got 4");
}

#[test]
fn an_envelope_opens_as_the_same_model() {
    let catalog = crate::register(Catalog::default());
    for case in cases() {
        let x = case.frame();
        let bytes = fixture(&format!("{}.cbm", case.name));
        let model = CatBoostModel::read(&bytes, Some(x.schema().clone())).expect("reads");
        let envelope = model.to_envelope().expect("seals").into_bytes();
        let opened = catalog.open(&envelope).expect("opens");
        assert_eq!(opened.signature(), model.signature());
        assert_eq!(opened.predict(&x).expect("predicts"), model.predict(&x).expect("predicts"));
    }
}

#[test]
fn the_kinds_of_questions_all_occur_in_the_fixtures() {
    let (mut hashes, mut combined, mut mixed) = (0, 0, 0);
    for case in cases() {
        let file = cbm::read(&fixture(&format!("{}.cbm", case.name))).expect("reads");
        let splits = file.forest.splits();
        hashes += splits.filter(|split| matches!(split.test, Test::Hash(_))).count();
        for table in &file.forest.ctrs().tables {
            combined += usize::from(1 < table.projection().levels.len());
            mixed += usize::from(!table.projection().questions.is_empty());
        }
    }
    assert!(0 < hashes && 0 < combined && 0 < mixed, "{hashes} {combined} {mixed}");
}

#[test]
fn truncated_and_altered_files_are_errors_or_other_models_and_never_panic() {
    for name in ["combinations.cbm", "lossguide.cbm", "multiclass_levels.cbm"] {
        let bytes = fixture(name);
        for cut in (0..bytes.len()).step_by(7) {
            assert!(cbm::read(&bytes[..cut]).is_err(), "{name} cut at {cut}");
        }
        for i in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[i] ^= change;
                let _ = cbm::read(&bytes);
            }
        }
    }
    let bytes = fixture("lossguide_multiclass.json");
    for cut in (0..bytes.trim_ascii_end().len()).step_by(97) {
        assert!(json::read(&bytes[..cut]).is_err(), "JSON cut at {cut}");
    }
}

/// `tests/fixtures/catboost_check.py` has the official package open and predict them.
#[test]
fn what_is_written_is_what_the_official_package_was_seen_to_open() {
    let written: BTreeMap<String, u64> =
        serde_json::from_slice(&fixture("written.json")).expect("JSON");
    for (name, hash) in written {
        let (source, to) = name.rsplit_once('.').expect("two extensions");
        let to = if to == "json" { Format::Json } else { Format::Cbm };
        let bytes = convert(&fixture(source), to).expect("converts");
        assert_eq!(ch_cityhash102::cityhash64(&bytes), hash, "{name}: run catboost_check.py");
    }
}

#[test]
fn numbers_that_json_does_not_have_are_refused_when_it_is_written() {
    for bad in [f64::NAN, f64::INFINITY] {
        let read = || cbm::read(&fixture("ctr_types.cbm")).expect("reads");
        let (mut leaf, mut weight, mut prior) = (read(), read(), read());
        leaf.forest.trees[0].leaves[1] = bad;
        weight.forest.trees[0].leaf_stats[1].cover = bad;
        prior.forest.ctrs.list[0].prior = bad as f32;
        for file in [leaf, weight, prior] {
            assert!(json::write(&file.forest, &file.about).is_err(), "{bad}");
            cbm::write(&file.forest, &file.about).expect("has them all");
        }
    }
}

#[test]
fn parameters_nested_too_deep_stay_a_text() {
    let mut file = cbm::read(&fixture("quantile.cbm")).expect("reads");
    for deep in [10, 100, 1000] {
        let text = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
        file.about.info.insert("deep_params".to_owned(), text.clone());
        let written = json::write(&file.forest, &file.about).expect("writes");
        let again = json::read(written.as_bytes()).expect("reads");
        assert_eq!(again.about.info["deep_params"], text);
    }
}

#[test]
fn borders_out_of_order_are_refused() {
    let json = convert(&fixture("nan_max.cbm"), Format::Json).expect("converts");
    let mut model: Value = serde_json::from_slice(&json).expect("JSON");
    let borders = model["features_info"]["float_features"][0]["borders"].as_array_mut();
    borders.expect("a list").reverse();
    let error = json::read(model.to_string().as_bytes()).expect_err("descending");
    assert!(error.to_string().contains("ascending order"), "{error}");
}

/// What the package says of a model's loss without each feature (`loss_change_catboost.py`).
#[derive(Debug, Deserialize)]
struct LossChange {
    loss: String,
    rows: Vec<usize>,
    target: Vec<f64>,
    weights: Vec<f64>,
    change: Vec<f64>,
}

#[test]
fn the_loss_changes_as_in_the_official_package() {
    let changes: BTreeMap<String, LossChange> =
        serde_json::from_slice(&fixture("loss_change.json")).expect("JSON");
    for case in cases() {
        let Some(official) = changes.get(&case.name) else { continue };
        let frame = case.frame();
        let bytes = fixture(&format!("{}.cbm", case.name));
        let model =
            CatBoostModel::read(&bytes, Some(frame.schema().clone())).expect("a committed file");
        let frame = frame.take(&official.rows);
        let data = Dataset::new(frame, model.signature().task.clone(), official.target.clone())
            .and_then(|data| data.with_weights(official.weights.clone()))
            .expect("valid");
        let metric = match &*official.loss {
            "RMSE" => Metric::Rmse,
            "Quantile" => match model.signature().outputs[0] {
                Output::Quantile(level) => Metric::Pinball { level },
                ref other => panic!("{other:?}"),
            },
            _ => Metric::LogLoss,
        };
        let change = model.loss_change(&data, metric).expect("explains");
        // The package moves the corner of the pinball loss by 1e-6.
        let near = if official.loss == "Quantile" { 1e-6 } else { 1e-9 };
        for (got, expected) in change.iter().zip(&official.change) {
            assert!((got - expected).abs() < near, "{}: {got}, official {expected}", case.name);
        }
    }
}
