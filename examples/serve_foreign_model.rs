//! How do I serve a model that Python has trained, without Python and without C++?
//!
//!     cargo run --no-default-features --example serve_foreign_model
//!     cargo run --no-default-features --example serve_foreign_model -- model.txt rows.csv
//!
//! `model.txt` is what LightGBM's `save_model` wrote, or XGBoost's in JSON or UBJSON; which of them, its
//! bytes say. Without arguments a small model that the LightGBM package has trained is served to three
//! rows.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{env, error::Error, fs};

use mm::{
    core::{Roles, Source},
    prelude::*,
};

/// A model of LightGBM 4.7.0: `train({"objective": "binary"}, …)`, saved by `save_model`.
const MODEL: &str = include_str!("foreign_model.txt");
const ROWS: &str = "size,colour\n0.3,red\n-1.5,blue\n,green\n";

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (model, rows) = match &arguments[..] {
        [] => (MODEL.as_bytes().to_vec(), Source::csv_bytes("rows", ROWS)),
        [model, rows] => (fs::read(model)?, Source::open(rows)?),
        _ => return Err("two files: a model and rows, or none".into()),
    };
    let model = mm::trees::open(&model)?;
    println!("{}", model.signature().schema);

    // The file's columns are read as the model knows them: by name, with its levels.
    let (frame, _report) = rows.frame_like(&model.signature().schema, &Roles::default())?;
    let predicted = model.predict(&frame)?;
    for row in predicted.rows() {
        println!("{row:?}"); // Of the model above: 0.619…, 0.351…, 0.351…, as in Python.
    }

    // From now on it is a model like any other: it can be stored, registered, averaged.
    let bytes = model.to_envelope()?.into_bytes();
    assert_eq!(mm::catalog().open(&bytes)?.predict(&frame)?, predicted);
    Ok(())
}
