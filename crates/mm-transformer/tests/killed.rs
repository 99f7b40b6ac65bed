//! A fit whose process is killed, with the signal that cannot be caught, goes on to the same model.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use mm_core::{Dataset, FitContext, Frame, Learner as _, Model as _, Params as _};
use mm_transformer::{TabmParams, TrainingParams};

const FILE: &str = "MM_TEST_CHECKPOINT";

fn params() -> TabmParams {
    let mut training = TrainingParams::default();
    (training.epochs, training.batch_size) = (80, 32);
    let mut params = TabmParams::default();
    (params.members, params.width, params.training) = (4, 32, training);
    params
}

fn data() -> Dataset {
    let x: Vec<f32> = (0..400).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let y = x.chunks(2).map(|x| f64::from(x[0] * x[1])).collect();
    Dataset::regression(Frame::new(x, 2).expect("valid"), y).expect("valid")
}

fn fit(checkpoint: Option<PathBuf>) -> Vec<u8> {
    let mut learner = params().build().expect("valid");
    if let Some(file) = checkpoint {
        learner = learner.with_checkpoint(file);
    }
    let model = learner.fit(&data(), &FitContext::seeded(1)).expect("fits");
    model.to_envelope().expect("seals").into_bytes()
}

/// Run by the other test in a process of its own, and idle otherwise.
#[test]
fn fits_where_it_is_told_to() {
    if let Some(file) = env::var_os(FILE) {
        fit(Some(file.into()));
    }
}

#[test]
fn a_killed_process_loses_nothing_but_time() {
    if env::var_os(FILE).is_some() {
        return; // In the process that is killed.
    }
    let folder = env::temp_dir().join(format!("mm-killed-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("fit.checkpoint");
    let mut child = Command::new(env::current_exe().expect("this test"))
        .args(["fits_where_it_is_told_to", "--exact"])
        .env(FILE, &file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    // As soon as there is something to resume; nothing is decided by how long that takes.
    let start = Instant::now();
    while !file.exists() && start.elapsed() < Duration::from_mins(5) {
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("is killed");
    child.wait().expect("is gone");
    assert!(file.exists(), "an epoch was finished");
    let resumed = fit(Some(file));
    assert_eq!(resumed, fit(None), "the model of a fit that was never killed");
    std::fs::remove_dir_all(&folder).expect("removes");
}
