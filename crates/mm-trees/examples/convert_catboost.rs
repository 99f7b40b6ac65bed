//! Converts CatBoost's model files from one format to another, by their extensions:
//!
//! ```text
//! cargo run -p mm-trees --no-default-features --example convert_catboost -- model.cbm model.json
//! ```

use std::{env, error::Error, fs, path::Path};

use mm_trees::catboost::{Format, convert};

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<String> = env::args().skip(1).collect();
    for pair in paths.chunks_exact(2) {
        let is_json = Path::new(&pair[1]).extension().is_some_and(|extension| extension == "json");
        let to = if is_json { Format::Json } else { Format::Cbm };
        fs::write(&pair[1], convert(&fs::read(&pair[0])?, to)?)?;
    }
    Ok(())
}
