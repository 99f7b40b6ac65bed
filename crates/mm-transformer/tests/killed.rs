//! A fit whose process is killed, with the signal that cannot be caught, goes on to the same model;
//! so does one whose snapshots did not find room.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use mm_core::{
    Dataset, Error, FitContext, Frame, Learner as _, Model as _, Params as _, Result, Snapshots,
};
use mm_transformer::{TabmModel, TabmParams, TrainingParams};

/// Names the folder to the process that is to be killed, or to find no room.
const FOLDER: &str = "MM_TEST_SNAPSHOTS";

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

/// With a snapshot after each batch, if there is a folder for them.
fn fit(folder: Option<&Path>) -> Result<Vec<u8>> {
    let snapshots = folder.map(Snapshots::new).transpose()?;
    let snapshots = snapshots.map(|snapshots| snapshots.every(Duration::ZERO));
    let mut ctx = FitContext::seeded(1);
    ctx.snapshots = snapshots.as_ref();
    let model: TabmModel = params().build()?.fit(&data(), &ctx)?;
    Ok(model.to_envelope()?.into_bytes())
}

/// A folder of the test's own, and what it holds.
fn folder(name: &str) -> PathBuf {
    env::temp_dir().join(format!("mm-{name}-{}", process::id()))
}

fn snapshots(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|e| e == "snapshot")).collect()
}

/// Runs one of the tests below in a process of its own and kills it as soon as there is something
/// to resume; nothing is decided by how long that takes.
fn start_and_kill(folder: &Path) {
    let mut child = Command::new(env::current_exe().expect("this test"))
        .args(["fits_where_it_is_told_to", "--exact"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let start = Instant::now();
    while snapshots(folder).is_empty() && start.elapsed() < Duration::from_mins(5) {
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("is killed");
    child.wait().expect("is gone");
    assert_eq!(snapshots(folder).len(), 1, "a batch was done, and not all of them");
}

/// Idle but in the process that is killed.
#[test]
fn fits_where_it_is_told_to() {
    if let Some(folder) = env::var_os(FOLDER) {
        fit(Some(Path::new(&folder))).expect("fits");
    }
}

#[test]
fn a_killed_process_loses_nothing_but_time() {
    let folder = folder("killed");
    start_and_kill(&folder);
    let resumed = fit(Some(&folder)).expect("goes on");
    assert_eq!(resumed, fit(None).expect("fits"), "the model of a fit that was never killed");
    assert!(snapshots(&folder).is_empty(), "what is done is cleared");
    fs::remove_dir_all(&folder).expect("removes");
}

/// Idle but in the process that may write small files only.
#[test]
fn finds_no_room_where_it_is_told_to() {
    if let Some(folder) = env::var_os(FOLDER) {
        let error = fit(Some(Path::new(&folder))).expect_err("no room");
        assert!(matches!(error.root(), Error::Io { action: "write", .. }), "{}", error.chain());
    }
}

/// A limit on the size of files, which ends a write half-way as a full disk does.
#[cfg(unix)]
#[test]
fn without_room_for_a_snapshot_a_fit_ends_with_an_error_and_the_last_one_stays() {
    let folder = folder("no-room");
    start_and_kill(&folder);
    let kept = snapshots(&folder);
    let before = fs::read(&kept[0]).expect("reads");
    assert!(16_384 < before.len(), "larger than the limit");
    let status = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; ulimit -f 8; exec "$0" "$@""#])
        .arg(env::current_exe().expect("this test"))
        .args(["finds_no_room_where_it_is_told_to", "--exact"])
        .env(FOLDER, &folder)
        .stdout(Stdio::null())
        .status()
        .expect("runs");
    assert!(status.success(), "an error that names the write");
    assert_eq!(fs::read(&kept[0]).expect("reads"), before, "what was kept before");
    // Nor what the kill may have left aside in the midst of a write.
    assert_eq!(fs::read_dir(&folder).expect("lists").count(), 1, "and nothing beside it");
    assert_eq!(fit(Some(&folder)).expect("goes on"), fit(None).expect("fits"));
    fs::remove_dir_all(&folder).expect("removes");
}
