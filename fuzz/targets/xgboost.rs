//! Any bytes as XGBoost's JSON or UBJSON.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mm_trees::XgBoostModel;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = XgBoostModel::read(bytes) else { return };
    for bytes in [model.to_ubjson().expect("writes"), model.to_json().expect("writes").into()] {
        let signature = mm_core::Model::signature(&model).clone();
        let again = XgBoostModel::from_bytes_as(&bytes, signature);
        let again = again.unwrap_or_else(|e| panic!("{}", e.chain()));
        assert_eq!(mm_fuzz::predict(&again), mm_fuzz::predict(&model));
    }
    if model.forest().is_some() && 0 < model.n_rounds() {
        model.slice(0..1).expect("there is a round").to_ubjson().expect("writes");
    }
});
