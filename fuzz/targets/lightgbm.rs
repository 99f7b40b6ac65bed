//! Any bytes as LightGBM's text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mm_trees::LightGbmModel;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = LightGbmModel::read(bytes) else { return };
    let text = model.to_text().expect("writes");
    let again = LightGbmModel::from_text_as(&text, mm_core::Model::signature(&model).clone());
    let again = again.unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!(mm_fuzz::predict(&again), mm_fuzz::predict(&model));
    model.slice(0..1).expect("there is a round").to_text().expect("writes");
});
