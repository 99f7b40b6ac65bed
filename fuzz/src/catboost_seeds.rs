//! Writes the models `*.cbm` of one folder into another, without what is said of their training, so
//! that what is altered matters: `catboost_seeds <fixtures> <cbm | json> <corpus>`.

use std::{env, fs, path::Path};

use mm_trees::catboost::{Format, convert};
use serde_json::{Value, json};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [fixtures, format, corpus] = &arguments[..] else { panic!("three arguments") };
    for entry in fs::read_dir(fixtures).expect("a folder") {
        let path = entry.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "cbm") {
            continue;
        }
        let text = convert(&fs::read(&path).expect("reads"), Format::Json).expect("a model");
        let mut model: Value = serde_json::from_slice(&text).expect("JSON");
        let info = &model["model_info"];
        let loss = &info["params"]["loss_function"];
        model["model_info"] =
            json!({"params": {"loss_function": loss}, "class_params": info["class_params"]});
        let mut bytes = model.to_string().into_bytes();
        if format == "cbm" {
            bytes = convert(&bytes, Format::Cbm).expect("a model");
        }
        let name = path.file_stem().expect("a name");
        fs::write(Path::new(corpus).join(name), bytes).expect("writes");
    }
}
