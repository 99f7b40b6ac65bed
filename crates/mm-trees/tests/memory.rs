//! Fitting again and again in one process takes no more memory than fitting a few times. In a
//! process of its own, so that nothing else grows meanwhile.

#![cfg(all(target_os = "linux", feature = "lightgbm", feature = "xgboost"))]

use std::{fs, sync::mpsc, thread};

use mm_core::{BoxModel, Dataset, FitContext, Frame, Learner, Model as _, Params as _};
use mm_trees::{LightGbmParams, XgBoostParams};

/// What the process holds in memory, in KiB.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

const N_ROWS: usize = 20_000;

fn data() -> Dataset {
    let values = (0..N_ROWS * 10).map(|i| (i * 7919 % 10_007) as f32).collect();
    let frame = Frame::new(values, 10).expect("valid");
    let target = frame.column(3).zip(frame.column(4)).map(|(a, b)| f64::from(a - b)).collect();
    Dataset::regression(frame, target).expect("valid")
}

/// Fits 50 times. Each model is sent to another thread, as a service swaps models: that thread
/// predicts a batch with it, and the next fit drops it on the first thread.
fn growth<L: Learner>(learner: &L) -> f64 {
    let data = data();
    let held_out = data.take(&(0..2000).collect::<Vec<_>>());
    let ctx = FitContext::seeded(0).with_threads(2).with_validation(&held_out);
    let (to_serve, serve) = mpsc::channel::<BoxModel>();
    let (give_back, returned) = mpsc::channel::<BoxModel>();
    let frame = data.frame().clone();
    let server = thread::spawn(move || {
        for model in serve {
            model.predict(&frame).expect("predicts");
            give_back.send(model).expect("the fits go on");
        }
    });
    let (mut after, mut serving) = (Vec::new(), None);
    for _ in 0..50 {
        let model = learner.fit(&data, &ctx).expect("fits");
        to_serve.send(Box::new(model)).expect("the server lives");
        serving = Some(returned.recv().expect("the server lives")); // The one before is dropped.
        after.push(resident());
    }
    drop((serving, to_serve));
    server.join().expect("nobody panicked");
    after[49] / after[4]
}

#[test]
fn fifty_fits_hold_no_more_memory_than_five() {
    // Both engines hold some 20 MiB here: 45 tables of 200 kB or more that were not freed, or as
    // many models with their buffers, would be far more than a twentieth of it.
    let lightgbm = LightGbmParams::default().with(|p| p.rounds = 20).build().expect("valid");
    let grown = growth(&lightgbm);
    assert!(grown <= 1.05, "LightGBM: {grown}");
    let xgboost = XgBoostParams::default().with(|p| p.rounds = 20).build().expect("valid");
    let grown = growth(&xgboost);
    assert!(grown <= 1.05, "XGBoost: {grown}");
}
