//! The official CatBoost package opens what the trainer here has written, and predicts the same.
//!
//! `MM_CATBOOST_PYTHON` names an interpreter that has catboost 1.2.10 (`scripts/test` makes one);
//! without it the test says that it was skipped.

use std::{fs, path::Path, process::Command};

use mm_core::{
    Column, Dataset, FitContext, Frame, Learner as _, Levels, Params as _, Schema, Task,
};
use mm_trees::{CatBoostModel, CatBoostParams};
use serde_json::{Value, json};

/// Loads `model.cbm` and `model.json`, and prints the raw scores of the rows of `rows.json`.
const SCRIPT: &str = r#"
import json, sys
from catboost import CatBoost, Pool
folder = sys.argv[1]
table = json.load(open(folder + "/rows.json", encoding="utf-8"))
names, rows = table["names"], table["rows"]
cats = [j for j, is_categorical in enumerate(table["categorical"]) if is_categorical]
for file in ["cbm", "json"]:
    model = CatBoost().load_model(f"{folder}/model.{file}", format=file)
    pool = Pool(rows, cat_features=cats, feature_names=names)
    for row in model.predict(pool, prediction_type="RawFormulaVal").reshape(len(rows), -1):
        print(*(repr(float(x)) for x in row))
"#;

/// Numbers, missing ones among them, and two categorical columns whose pairs decide.
fn frame(n: usize) -> Frame {
    let levels = |prefix: &str, n: usize| {
        Levels::new((0..n).map(|code| format!("{prefix}, {code}"))).expect("distinct")
    };
    let schema = Schema::new([
        Column::numeric("x"),
        Column::categorical("town", levels("town", 12)),
        Column::numeric("gaps"),
        Column::categorical("Straße", levels("Straße", 40)),
        Column::categorical("side", levels("side", 2)),
    ]);
    let cells = (0..n).flat_map(|i| {
        let code = |by: usize, n: usize| (i * by / 7 % n) as f32;
        let gap = if i % 5 == 0 { f32::NAN } else { code(29, 50) };
        [code(31, 997) / 9.0, code(13, 12), gap, code(17, 40), code(5, 2)]
    });
    Frame::with_schema(cells.collect(), schema.expect("distinct")).expect("valid")
}

/// The class of each row, of `k`.
fn classes(frame: &Frame, k: usize) -> Vec<f64> {
    let class = |row: &[f32]| (row[1] as usize * 7 + row[3] as usize + row[0] as usize / 30) % k;
    frame.rows().map(|row| class(row) as f64).collect()
}

fn write(folder: &Path, model: &CatBoostModel, frame: &Frame) {
    let columns = frame.schema().columns();
    let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
    let categorical: Vec<bool> = columns.iter().map(|column| column.levels().is_some()).collect();
    let cell = |(column, &x): (&Column, &f32)| match column.levels() {
        Some(levels) => json!(levels.names()[x as usize]),
        None => json!(x), // `null` for NaN.
    };
    let rows: Vec<Vec<Value>> =
        frame.rows().map(|row| columns.iter().zip(row).map(cell).collect()).collect();
    let table = json!({ "names": names, "categorical": categorical, "rows": rows });
    fs::write(folder.join("rows.json"), table.to_string()).expect("a file");
    fs::write(folder.join("model.cbm"), model.to_cbm().expect("writes")).expect("a file");
    fs::write(folder.join("model.json"), model.to_json().expect("writes")).expect("a file");
}

#[test]
fn official_catboost_opens_our_files_and_predicts_the_same() {
    let Some(python) = std::env::var_os("MM_CATBOOST_PYTHON") else {
        eprintln!("skipped: MM_CATBOOST_PYTHON names no Python that has catboost");
        return;
    };
    let folder = std::env::temp_dir().join(format!("mm-official-catboost-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let frame = frame(900);
    let task = |k: usize| Task::classes((0..k).map(|k| format!("class {k}"))).expect("two or more");
    let amounts = frame.rows().map(|row| f64::from(row[0] + 3.0 * row[1] * row[4])).collect();
    let sets = [
        Dataset::regression(frame.clone(), amounts).expect("valid"),
        Dataset::new(frame.clone(), task(2), classes(&frame, 2)).expect("valid"),
        Dataset::new(frame.clone(), task(3), classes(&frame, 3)).expect("valid"),
    ];
    for data in &sets {
        let catboost = CatBoostParams::default().with(|p| {
            p.rounds = 20;
            p.categorical.max_combination = Some(3);
        });
        let learner = catboost.build().expect("valid");
        let model = learner.fit(data, &FitContext::seeded(0)).expect("fits");
        write(&folder, &model, &frame);
        let output = Command::new(&python)
            .args(["-c", SCRIPT])
            .arg(&folder)
            .output()
            .expect("MM_CATBOOST_PYTHON starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let text = String::from_utf8(output.stdout).expect("numbers");
        let official: Vec<f64> =
            text.split_whitespace().map(|x| x.parse().expect("a number")).collect();
        let own = model.predict_raw(&frame).expect("predicts");
        assert_eq!(official.len(), 2 * own.values().len(), "both files, all rows");
        for official in official.chunks(own.values().len()) {
            for (own, official) in own.values().iter().zip(official) {
                // The official sums of some rows at once are in another order.
                let near = (own - official).abs() <= 1e-14 * own.abs().max(1.0);
                assert!(near, "{}: {own}, official {official}", data.task());
            }
        }
    }
    fs::remove_dir_all(&folder).expect("a folder");
}
