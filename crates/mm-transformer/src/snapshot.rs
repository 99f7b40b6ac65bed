//! A fit that survives a kill.
//!
//! After each epoch everything that the rest of a fit depends on is written to one file, aside and
//! then renamed, so that the file is whole whenever the process dies. It names the fit by the hash
//! of params, data, and seed; another fit refuses it. The order of rows and what is dropped are
//! functions of seed and epoch, so nothing random is in it.

use std::{fs, io, path::PathBuf};

use mm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::{optimizer::AdamW, train::FitReport, weights::Weights};

/// The layout of the file.
const VERSION: u32 = 1;

/// Where a fit keeps its state between epochs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) path: PathBuf,
    /// The hash of all that the fit depends on.
    pub(crate) fit: String,
}

/// A fit at the end of an epoch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    pub(crate) weights: Weights,
    pub(crate) adam: AdamW,
    /// The running mean of the weights, if there is one.
    pub(crate) mean: Option<Vec<f32>>,
    pub(crate) best: Option<Weights>,
    pub(crate) report: FitReport,
}

/// The file: floats to the bit.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    fit: String,
    values: Vec<f32>,
    steps: u64,
    adam_mean: Vec<f32>,
    adam_square: Vec<f32>,
    mean: Option<Vec<f32>>,
    best: Option<Vec<f32>>,
    report: FitReport,
}

impl State {
    /// The start of a fit.
    pub(crate) fn new(weights: Weights, averages: bool) -> Self {
        Self {
            adam: AdamW::new(weights.values.len()),
            mean: averages.then(|| weights.values.clone()),
            best: None,
            report: FitReport::default(),
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
}

impl Checkpoint {
    /// The state to begin with: what the file holds, or `start` if there is no file. A file of
    /// another fit is an error, and so is a damaged one.
    pub(crate) fn resume(&self, start: State) -> Result<State> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(start),
            Err(e) => return Err(Error::io("read", &self.path)(e)),
        };
        let what = format!("checkpoint {}", self.path.display());
        let stored: Stored = postcard::from_bytes(&bytes)
            .map_err(|e| Error::corrupt(&what, "the state of a fit", e))?;
        if VERSION < stored.version {
            return Err(Error::TooNew { what, got: stored.version, newest: VERSION });
        }
        if stored.fit != self.fit {
            let expected = format!("that of fit {}", self.fit);
            return Err(Error::Conflict { what, expected, found: format!("fit {}", stored.fit) });
        }
        let len = start.weights.values.len();
        let arrays = [&stored.values, &stored.adam_mean, &stored.adam_square];
        let options = [&stored.mean, &stored.best];
        let sound = arrays.iter().all(|a| a.len() == len)
            && options.iter().all(|a| a.as_ref().is_none_or(|a| a.len() == len))
            && stored.mean.is_some() == start.mean.is_some();
        if !sound {
            return Err(Error::corrupt(what, format_args!("arrays of {len} numbers"), "others"));
        }
        let with = |values: Vec<f32>| {
            let mut weights = start.weights.clone();
            weights.values = values;
            weights
        };
        Ok(State {
            best: stored.best.map(with),
            weights: with(stored.values),
            adam: AdamW { steps: stored.steps, mean: stored.adam_mean, square: stored.adam_square },
            mean: stored.mean,
            report: stored.report,
        })
    }

    /// Writes the state down; what was there before stays until the new one is whole.
    pub(crate) fn save(&self, state: &State) -> Result<()> {
        let stored = Stored {
            version: VERSION,
            fit: self.fit.clone(),
            values: state.weights.values.clone(),
            steps: state.adam.steps,
            adam_mean: state.adam.mean.clone(),
            adam_square: state.adam.square.clone(),
            mean: state.mean.clone(),
            best: state.best.as_ref().map(|best| best.values.clone()),
            report: state.report.clone(),
        };
        let bytes = postcard::to_stdvec(&stored)
            .map_err(|e| Error::data("checkpoint", "a state that can be written", e))?;
        mm_core::replace_file(&self.path, &bytes)
    }
}
