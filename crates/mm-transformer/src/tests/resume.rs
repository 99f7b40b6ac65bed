//! A fit that was interrupted and goes on.

use std::{env, fs, path::PathBuf, process, time::Duration};

use mm_core::{
    Dataset, EarlyStopping, Error, FitContext, Learner as _, Model as _, Signal, Snapshots, Step,
};

use super::{same_sign, small_ft};
use crate::{FtTransformer, FtTransformerModel};

/// A folder of the test's own, which ends with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(env::temp_dir().join(format!("mm-nets-{name}-{}", process::id())))
    }

    /// A place for a snapshot after each batch.
    fn snapshots(&self) -> Snapshots {
        Snapshots::new(&self.0).expect("a folder").every(Duration::ZERO)
    }

    fn n_kept(&self) -> usize {
        fs::read_dir(&self.0).expect("lists").count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn learner() -> FtTransformer {
    small_ft(|p| (p.training.epochs, p.training.average) = (6, 0.9))
}

fn parts() -> (Dataset, Dataset) {
    let data = same_sign(90);
    (data.take(&(0..60).collect::<Vec<_>>()), data.take(&[60, 70, 80]))
}

fn bytes(model: &FtTransformerModel) -> Vec<u8> {
    model.to_envelope().expect("seals").into_bytes()
}

#[test]
fn a_fit_that_was_called_off_goes_on_to_the_same_model() {
    let folder = Folder::new("resume");
    let snapshots = folder.snapshots();
    let (train, test) = parts();
    let plain = FitContext::seeded(4);
    let plain = plain.with_validation(&test);
    let ctx = plain.with_snapshots(&snapshots);
    let whole = learner().fit(&train, &plain).expect("fits");
    for epoch in 1..=6 {
        let kill = |step: &Step<'_>| {
            if step.iteration == epoch { Signal::Abort } else { Signal::Continue }
        };
        let killed = learner().fit(&train, &ctx.with_observer(&kill)).expect_err("is called off");
        assert!(matches!(killed.root(), Error::Cancelled), "{}", killed.chain());
        assert_eq!(folder.n_kept(), 1, "the state stays");
        // Others do not take it for their own: another seed, other data, other params.
        learner().fit(&train, &ctx.fork(1)).expect("fits");
        learner().fit(&train.take(&[0, 1, 2, 3, 4, 5, 6, 7]), &ctx).expect("fits");
        small_ft(|_| {}).fit(&train, &ctx).expect("fits");
        assert_eq!(folder.n_kept(), 1, "what is done is cleared");
        let mut heard = Vec::new();
        let listen = std::sync::Mutex::new(&mut heard);
        let observer = |step: &Step<'_>| {
            listen.lock().expect("not poisoned").push((step.iteration, step.metrics[0].1));
            Signal::Continue
        };
        let resumed = learner().fit(&train, &ctx.with_observer(&observer)).expect("goes on");
        assert_eq!(bytes(&resumed), bytes(&whole), "called off in epoch {epoch}");
        assert_eq!(resumed.report(), whole.report());
        let all: Vec<_> = (1..).zip(whole.report().scores.iter().copied()).collect();
        assert_eq!(heard, all, "the observer hears of epochs that were found");
        assert_eq!(folder.n_kept(), 0, "what is done is cleared");
    }
}

/// The state is one of the middle of an epoch, wherever the deadline fell.
#[test]
fn a_fit_whose_deadline_passed_goes_on_to_the_same_model() {
    let folder = Folder::new("deadline");
    let snapshots = folder.snapshots();
    let (train, test) = parts();
    let learner = small_ft(|p| (p.training.epochs, p.training.batch_size) = (3, 1));
    let plain = FitContext::seeded(4);
    let plain = plain.with_validation(&test);
    let ctx = plain.with_snapshots(&snapshots);
    let whole = learner.fit(&train, &plain).expect("fits");
    let mut n_parts = 0;
    let resumed = loop {
        let part = learner.fit(&train, &ctx.within(Duration::from_millis(15)));
        n_parts += 1;
        if folder.n_kept() == 0 {
            break part.expect("is done");
        }
        assert!(n_parts < 10_000, "each part does a batch at least, or none");
        if n_parts == 200 {
            break learner.fit(&train, &ctx).expect("goes on"); // A slow machine gets nowhere.
        }
    };
    assert_eq!(bytes(&resumed), bytes(&whole), "in {n_parts} parts");
}

#[test]
fn a_fit_that_an_observer_stopped_can_go_on() {
    let folder = Folder::new("stopped");
    let snapshots = folder.snapshots();
    let (train, test) = parts();
    let plain = FitContext::seeded(4);
    let plain = plain.with_validation(&test);
    let ctx = plain.with_snapshots(&snapshots);
    let stop = |step: &Step<'_>| if step.iteration == 2 { Signal::Stop } else { Signal::Continue };
    let part = learner().fit(&train, &ctx.with_observer(&stop)).expect("stops");
    assert_eq!((part.report().epochs, folder.n_kept()), (2, 1));
    let whole = learner().fit(&train, &plain).expect("fits");
    let resumed = learner().fit(&train, &ctx).expect("goes on");
    assert_eq!(bytes(&resumed), bytes(&whole));
}

#[test]
fn patience_that_ended_ends_again() {
    let folder = Folder::new("patience");
    let snapshots = folder.snapshots();
    let (train, test) = parts();
    let learner = small_ft(|p| {
        (p.training.epochs, p.training.learning_rate) = (200, 0.05);
        p.training.early_stopping = Some(EarlyStopping::after(2));
    });
    let plain = FitContext::seeded(4);
    let plain = plain.with_validation(&test);
    let whole = learner.fit(&train, &plain).expect("fits");
    let last = whole.report().epochs;
    assert!(last < 200, "{:?}", whole.report());
    let ctx = plain.with_snapshots(&snapshots);
    let kill =
        |step: &Step<'_>| if step.iteration == last { Signal::Abort } else { Signal::Continue };
    learner.fit(&train, &ctx.with_observer(&kill)).expect_err("is called off");
    let resumed = learner.fit(&train, &ctx).expect("is at its end");
    assert_eq!(bytes(&resumed), bytes(&whole));
}

#[test]
fn a_damaged_snapshot_counts_as_none() {
    let folder = Folder::new("damaged");
    let snapshots = folder.snapshots();
    let (train, _) = parts();
    let ctx = FitContext::seeded(4);
    let whole = learner().fit(&train, &ctx).expect("fits");
    let ctx = ctx.with_snapshots(&snapshots);
    let kill = |step: &Step<'_>| if step.iteration == 3 { Signal::Abort } else { Signal::Continue };
    learner().fit(&train, &ctx.with_observer(&kill)).expect_err("is called off");
    let path =
        fs::read_dir(&folder.0).expect("lists").next().expect("kept").expect("a file").path();
    let kept = fs::read(&path).expect("reads");
    fs::write(&path, &kept[..kept.len() / 2]).expect("writes");
    assert_eq!(bytes(&learner().fit(&train, &ctx).expect("starts anew")), bytes(&whole));
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_that_names_it() {
    let folder = Folder::new("nowhere");
    let snapshots = folder.snapshots();
    fs::remove_dir_all(&folder.0).expect("removes");
    let ctx = FitContext::seeded(0);
    let error = learner().fit(&same_sign(40), &ctx.with_snapshots(&snapshots));
    let error = error.expect_err("no folder");
    assert!(matches!(error.root(), Error::Io { .. }), "{}", error.chain());
    assert!(error.chain().contains("mm-nets-nowhere"), "{}", error.chain());
}
