//! The state of an unfinished fit, kept and resumed.
//!
//! Kept is everything that the rest of a fit depends on, after any batch: the weights and their
//! moments, the best weights, the report, and how far the epoch is. The order of rows and what is
//! dropped are functions of seed and place, so nothing random is in it. A resumed fit tells
//! observer and early stopping of the epochs that it finds, as if it had just run them.

use std::borrow::Cow;

use mm_core::{Error, Result, Slot};
use serde::{Deserialize, Serialize};

use crate::{optimizer::AdamW, train::FitReport, weights::Weights};

/// Raised whenever the layout of a snapshot, or what a fit comes to, changes.
pub(crate) const VERSION: &str = "1";

/// A fit between two batches.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    pub(crate) weights: Weights,
    pub(crate) adam: AdamW,
    /// The running mean of the weights, if there is one.
    pub(crate) mean: Option<Vec<f32>>,
    pub(crate) best: Option<Weights>,
    /// Of the epochs that were run to their end.
    pub(crate) report: FitReport,
    pub(crate) epoch: Epoch,
}

/// An epoch that is not yet at its end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Epoch {
    /// Batches done.
    pub(crate) batches: usize,
    /// The sum of their mean losses.
    pub(crate) loss: f64,
    /// Rows that are on a device at once; fewer than asked for where its memory did not do.
    pub(crate) rows_at_once: usize,
}

/// What is written: floats to the bit.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    values: Cow<'a, [f32]>,
    steps: u64,
    adam_mean: Cow<'a, [f32]>,
    adam_square: Cow<'a, [f32]>,
    mean: Option<Cow<'a, [f32]>>,
    best: Option<Cow<'a, [f32]>>,
    report: Cow<'a, FitReport>,
    epoch: Epoch,
}

impl State {
    /// The start of a fit.
    pub(crate) fn new(weights: Weights, averages: bool, rows_at_once: usize) -> Self {
        Self {
            adam: AdamW::new(weights.values.len()),
            mean: averages.then(|| weights.values.clone()),
            best: None,
            report: FitReport::default(),
            epoch: Epoch { batches: 0, loss: 0.0, rows_at_once },
            weights,
        }
    }

    /// The weights to be used if the fit ended here.
    pub(crate) fn current(&self) -> Weights {
        let mut weights = self.weights.clone();
        if let Some(mean) = &self.mean {
            weights.values.clone_from(mean);
        }
        weights
    }

    /// The state that `bytes` hold, if they are of a fit that began as this one.
    fn read(&self, bytes: &[u8]) -> Option<Self> {
        let stored: Stored<'_> = postcard::from_bytes(bytes).ok()?;
        let len = self.weights.values.len();
        let arrays = [&stored.values, &stored.adam_mean, &stored.adam_square];
        let options = [&stored.mean, &stored.best];
        let sound = arrays.iter().all(|a| a.len() == len)
            && options.iter().all(|a| a.as_ref().is_none_or(|a| a.len() == len))
            && stored.mean.is_some() == self.mean.is_some()
            && 1 <= stored.epoch.rows_at_once;
        let with = |values: Cow<'_, [f32]>| {
            let mut weights = self.weights.clone();
            weights.values = values.into_owned();
            weights
        };
        sound.then(|| Self {
            best: stored.best.map(with),
            weights: with(stored.values),
            adam: AdamW {
                steps: stored.steps,
                mean: stored.adam_mean.into_owned(),
                square: stored.adam_square.into_owned(),
            },
            mean: stored.mean.map(Cow::into_owned),
            report: stored.report.into_owned(),
            epoch: stored.epoch,
        })
    }

    fn write(&self) -> Result<Vec<u8>> {
        let stored = Stored {
            values: Cow::Borrowed(&self.weights.values),
            steps: self.adam.steps,
            adam_mean: Cow::Borrowed(&self.adam.mean),
            adam_square: Cow::Borrowed(&self.adam.square),
            mean: self.mean.as_deref().map(Cow::Borrowed),
            best: self.best.as_ref().map(|best| Cow::Borrowed(&best.values[..])),
            report: Cow::Borrowed(&self.report),
            epoch: self.epoch,
        };
        let failed = |e| Error::data("snapshot", "a state that can be written", e);
        postcard::to_stdvec(&stored).map_err(failed)
    }
}

/// Keeps the state of a fit where the context has a place for it.
///
/// What cannot be written ends the fit with an error: whoever asked for snapshots learns of the full
/// disk at the first one, and what was kept before is still there to go on from.
#[derive(Debug)]
pub(crate) struct Keeper {
    slot: Option<Slot>,
}

impl Keeper {
    pub(crate) fn new(slot: Option<Slot>) -> Self {
        Self { slot }
    }

    /// What an earlier fit of the same outcome left, or `start`.
    pub(crate) fn resume(&self, start: State) -> State {
        let kept = self.slot.as_ref().and_then(Slot::load);
        kept.and_then(|bytes| start.read(&bytes)).unwrap_or(start)
    }

    /// Keeps the state if that is due.
    pub(crate) fn look(&mut self, state: &State) -> Result<()> {
        match &mut self.slot {
            Some(slot) if slot.is_due() => slot.keep(&state.write()?),
            _ => Ok(()),
        }
    }

    /// Ends a fit: nothing stays of one that is done, and the state of one that could go on.
    pub(crate) fn finish(self, is_done: bool, state: &State) -> Result<()> {
        match self.slot {
            Some(slot) if is_done => {
                slot.clear();
                Ok(())
            }
            Some(mut slot) => slot.keep(&state.write()?),
            None => Ok(()),
        }
    }
}
