//! A fit of CatBoost that is killed goes on where it was, to the model that it would have become.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use mm_core::{
    Column, Dataset, FitContext, Frame, Learner as _, Levels, Params as _, Schema, Snapshots, Task,
};
use mm_trees::{CatBoostModel, CatBoostParams};

fn data() -> Dataset {
    let levels = Levels::new((0..30).map(|code| format!("town {code}"))).expect("distinct");
    let schema = Schema::new([Column::numeric("x"), Column::categorical("town", levels)]);
    let cells: Vec<f32> =
        (0..4000_u32).flat_map(|i| [(i * 7919 % 997) as f32, (i * 31 / 7 % 30) as f32]).collect();
    let frame = Frame::with_schema(cells, schema.expect("distinct")).expect("valid");
    let class = |row: &[f32]| f64::from((row[0] as u32 / 100 + row[1] as u32) % 2);
    let target = frame.rows().map(class).collect();
    Dataset::new(frame, Task::classes(["no", "yes"]).expect("two"), target).expect("valid")
}

fn fit(ctx: &FitContext<'_>) -> CatBoostModel {
    let params = CatBoostParams::default().with(|p| {
        (p.rounds, p.tree.depth) = (150, 4);
        p.categorical.max_combination = Some(2);
    });
    params.build().expect("valid").fit(&data(), ctx).expect("fits")
}

fn snapshots(folder: &Path) -> Snapshots {
    Snapshots::new(folder).expect("a folder").every(Duration::ZERO)
}

fn kept(folder: &Path) -> usize {
    let is_kept = |name: &std::ffi::OsStr| name.to_string_lossy().ends_with(".snapshot");
    fs::read_dir(folder).map_or(0, |files| {
        files.filter(|file| file.as_ref().is_ok_and(|file| is_kept(&file.file_name()))).count()
    })
}

/// The child of the next test: fits in the folder that it is told.
#[test]
fn child_fits() {
    let Some(folder) = env::var_os("MM_TEST_FIT").map(PathBuf::from) else { return };
    fit(&FitContext::seeded(3).with_snapshots(&snapshots(&folder)));
    fs::write(folder.join("done"), "").expect("writes");
}

#[test]
fn a_killed_fit_goes_on_to_the_same_model() {
    let whole = fit(&FitContext::seeded(3)).to_cbm().expect("writes");
    let mut n_killed = 0;
    for round in 0..6_u32 {
        let name = format!("mm-catboost-kill-{round}-{}", std::process::id());
        let folder = env::temp_dir().join(name);
        // Killed twice, some moments after the first state is kept.
        for kill in 0..2 {
            let mut child = Command::new(env::current_exe().expect("this binary"))
                .args(["--exact", "child_fits", "--nocapture"])
                .env("MM_TEST_FIT", &folder)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("starts");
            while kept(&folder) == 0 && child.try_wait().expect("waits").is_none() {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(u64::from(round * 7 + kill * 11)));
            let _ = child.kill(); // SIGKILL; the child may have ended by itself.
            child.wait().expect("ends");
        }
        n_killed += usize::from(kept(&folder) == 1);
        let snapshots = snapshots(&folder);
        let ctx = FitContext::seeded(3).with_snapshots(&snapshots);
        assert_eq!(fit(&ctx).to_cbm().expect("writes"), whole, "round {round}");
        assert_eq!(kept(&folder), 0, "round {round}: nothing stays");
        fs::remove_dir_all(folder).expect("removes");
    }
    println!("{n_killed} of 6 fits were killed on their way");
}
