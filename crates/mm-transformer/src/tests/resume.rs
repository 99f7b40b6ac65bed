//! A fit that was killed and goes on.

use std::{fs, path::PathBuf};

use mm_core::{Error, FitContext, Learner as _, Model as _, Signal, Step};

use super::{same_sign, small_ft};
use crate::FtTransformer;

/// A folder of the test's own, which ends with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("mm-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("fit.checkpoint")
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

#[test]
fn a_fit_that_was_killed_goes_on_to_the_same_model() {
    let folder = Folder::new("resume");
    let data = same_sign(90);
    let (train, test) = (data.take(&(0..60).collect::<Vec<_>>()), data.take(&[60, 70, 80]));
    let ctx = FitContext::seeded(4);
    let ctx = ctx.with_validation(&test);
    let whole = learner().fit(&train, &ctx).expect("fits");
    for epoch in 1..=6 {
        let learner = learner().with_checkpoint(folder.file());
        let kill = |step: &Step<'_>| {
            if step.iteration == epoch { Signal::Abort } else { Signal::Continue }
        };
        let killed = learner.fit(&train, &ctx.with_observer(&kill));
        assert!(
            matches!(killed.map_err(|e| e.root().to_string()), Err(text) if text == "cancelled")
        );
        let resumed = learner.fit(&train, &ctx).expect("goes on");
        let bytes = |model: &crate::FtTransformerModel| model.to_envelope().expect("seals");
        assert_eq!(bytes(&resumed), bytes(&whole), "killed in epoch {epoch}");
        assert_eq!(resumed.report(), whole.report());
        let again = learner.fit(&train, &ctx).expect("is at its end");
        assert_eq!(bytes(&again), bytes(&whole));
        fs::remove_file(folder.file()).expect("was written");
    }
}

#[test]
fn the_state_of_another_fit_and_a_damaged_one_are_refused() {
    let folder = Folder::new("refuse");
    let data = same_sign(40);
    let ctx = FitContext::seeded(0);
    let learner = learner().with_checkpoint(folder.file());
    learner.fit(&data, &ctx).expect("fits");
    let other_seed = learner.fit(&data, &FitContext::seeded(1));
    assert!(matches!(other_seed, Err(Error::Conflict { .. })), "{other_seed:?}");
    let other_data = learner.fit(&data.take(&[0, 1, 2, 3, 4, 5, 6, 7]), &ctx);
    assert!(matches!(other_data, Err(Error::Conflict { .. })), "{other_data:?}");
    let other_params = small_ft(|_| {}).with_checkpoint(folder.file()).fit(&data, &ctx);
    assert!(matches!(other_params, Err(Error::Conflict { .. })), "{other_params:?}");
    let bytes = fs::read(folder.file()).expect("was written");
    fs::write(folder.file(), &bytes[..bytes.len() / 2]).expect("writes");
    let damaged = learner.fit(&data, &ctx);
    assert!(matches!(damaged, Err(Error::Corrupt { .. })), "{damaged:?}");
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_that_names_it() {
    let learner = learner().with_checkpoint("/nonexistent/folder/fit.checkpoint");
    let error = learner.fit(&same_sign(40), &FitContext::seeded(0)).expect_err("no folder");
    assert!(error.chain().contains("/nonexistent/folder"), "{}", error.chain());
}
