//! Any bytes as CatBoost's binary format.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mm_fuzz::catboost::check(bytes));
