//! CatBoost's two formats.

use mm_core::{Column, ImportanceKind, Levels, Model, Schema};
use mm_trees::{
    CatBoostModel,
    catboost::{Format, convert},
};
use serde_json::Value;

/// Columns and outputs beyond which a run would only measure the machine.
const MAX_CELLS: usize = 1 << 14;

/// Any bytes as a model file: if it reads, it writes, reads again as the same, and predicts.
pub fn check(bytes: &[u8]) {
    let Ok(cbm) = convert(bytes, Format::Cbm) else { return };
    let again = convert(&cbm, Format::Cbm).unwrap_or_else(|e| panic!("{}", e.chain()));
    assert!(again == cbm, "another model after reading again");
    // JSON has no infinities, and no two tables of one name.
    let Ok(json) = convert(bytes, Format::Json) else { return };
    convert(&json, Format::Cbm).unwrap_or_else(|e| panic!("{}", e.chain()));

    let Some(schema) = schema(&json) else { return };
    let Ok(model) = CatBoostModel::read(bytes, Some(schema.clone())) else { return };
    let binary = CatBoostModel::read(&cbm, Some(schema.clone())).expect("the same loss");
    let expected = predict(&model);
    assert_eq!(predict(&binary), expected, "other predictions after writing");
    let importance = model.as_importance().expect("has");
    let _ = importance.importance(ImportanceKind::PredictionChange); // Needs weights.
    model.to_envelope().expect("seals");
}

/// The columns that a model file says it has, with a few levels.
fn schema(json: &[u8]) -> Option<Schema> {
    let json: Value = serde_json::from_slice(json).expect("JSON");
    let levels = Levels::new(["red", "green", "u", "yes", "no", "7", ""]).expect("distinct");
    let mut columns = Vec::new();
    for (list, is_categorical) in [("float_features", false), ("categorical_features", true)] {
        for feature in json["features_info"][list].as_array().into_iter().flatten() {
            let flat = feature["flat_feature_index"].as_u64()?;
            let name = feature["feature_id"].as_str()?;
            let name = if name.is_empty() { format!("f{flat}") } else { name.to_owned() };
            let column = if is_categorical {
                Column::categorical(name, levels.clone())
            } else {
                Column::numeric(name)
            };
            columns.push((flat, column));
        }
    }
    columns.sort_by_key(|(flat, _)| *flat);
    Schema::new(columns.into_iter().map(|(_, column)| column)).ok()
}

/// Predicts rows of odd values; the bits of what comes out.
fn predict(model: &CatBoostModel) -> Vec<u64> {
    let odd = [f32::NAN, 0.0, -1.0, 1.0, f32::INFINITY, f32::NEG_INFINITY, 1e-40, 5.0];
    let (width, n_outputs) = (model.signature().schema.len(), model.signature().n_outputs());
    if MAX_CELLS < width || MAX_CELLS < n_outputs {
        return Vec::new();
    }
    let mut bits = Vec::new();
    for shift in 0..odd.len() {
        let columns = model.signature().schema.columns().iter().enumerate();
        let cell = |(j, column): (usize, &Column)| {
            let x = odd[(j + shift) % odd.len()];
            match column.levels() {
                Some(levels) if 0.0 <= x && x < levels.len() as f32 => x.floor(),
                Some(_) if !x.is_nan() => -1.0,
                _ => x,
            }
        };
        let row: Vec<f32> = columns.map(cell).collect();
        let mut out = vec![0.0; n_outputs];
        model.predict_row(&row, &mut out).expect("a row of the schema");
        // NaN has many forms.
        bits.extend(out.iter().map(|y| if y.is_nan() { 0 } else { y.to_bits() }));
    }
    bits
}
