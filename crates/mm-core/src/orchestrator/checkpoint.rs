//! Finished work on disk, so that a killed run resumes without repeating it.
//!
//! A checkpoint is a folder of files named by what they hold: the key of a piece of work is the
//! SHA-256 of everything that determines its result (data, learner, params, seed, fold, release).
//! So a resumed run finds exactly the pieces that are still valid; a changed plan repeats only what
//! the change touches; and several runs may share a folder. Files are put in place whole
//! ([`durable::replace`]); one that is damaged all the same is ignored, with a warning, and made
//! again.
//!
//! | file | holds |
//! | --- | --- |
//! | `<key>.fold` | 32 bytes SHA-256 of the rest; u64 length and JSON of times and outputs; u64 rows, u64 columns; predictions as f64; all little-endian |
//! | `<key>.model` | the same with JSON of nothing; then the bytes of the model's envelope |

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{
    data::{Dataset, Matrix, Output},
    durable,
    error::{Error, Result},
    metric::Metric,
};

/// The key of a piece of work, by everything that determines its result.
pub(super) use crate::durable::key;

/// A folder of finished work; nothing at all, if the plan names none.
#[derive(Debug)]
pub(super) struct Checkpoint {
    folder: Option<PathBuf>,
}

/// How long one fit took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Timing {
    pub(super) fit_seconds: f64,
    pub(super) predict_seconds: f64,
    /// The deadline ended the fit early.
    pub(super) cut_short: bool,
}

/// One fold of one candidate: what the model that was fitted predicts of the test rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Predicted {
    pub(super) timing: Timing,
    /// What the columns mean.
    pub(super) outputs: Vec<Output>,
    pub(super) values: Matrix,
}

impl Predicted {
    /// Microseconds that a row took to predict.
    pub(super) fn micros_a_row(&self) -> f64 {
        self.timing.predict_seconds * 1e6 / self.values.n_rows().max(1) as f64
    }

    /// The score by `metric`; `test` has the rows that were predicted.
    pub(super) fn score(&self, metric: &Metric, test: &Dataset) -> Result<f64> {
        metric.score_outputs(test.truth(), &self.values, &self.outputs)
    }
}

impl Checkpoint {
    /// Makes the folder, and makes sure that it can be written. What killed runs left half written goes
    /// when the folder is opened for snapshots.
    pub(super) fn open(folder: Option<&Path>) -> Result<Self> {
        if let Some(folder) = folder {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
            let trial = folder.join(format!("{}.trial", std::process::id()));
            durable::replace(&trial, b"")?;
            let _ = fs::remove_file(trial); // Another run may have done it.
        }
        Ok(Self { folder: folder.map(Path::to_path_buf) })
    }

    pub(super) fn fold(&self, key: &str) -> Option<Predicted> {
        let ((timing, outputs), rest) = self.load(key, "fold")?;
        let (head, values) = rest.split_first_chunk::<16>()?;
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        let (n_rows, n_cols) = (long(0), long(8));
        let (values, left) = values.as_chunks::<8>();
        let fits = n_rows.checked_mul(n_cols) == Some(values.len() as u64) && left.is_empty();
        let values = values.iter().map(|&eight| f64::from_le_bytes(eight)).collect();
        let values = fits.then(|| Matrix::new(values, n_cols as usize).ok())??;
        Some(Predicted { timing, outputs, values })
    }

    pub(super) fn keep_fold(&self, key: &str, fold: &Predicted) {
        let shape = [fold.values.n_rows() as u64, fold.values.n_cols() as u64];
        let mut rest: Vec<u8> = shape.iter().flat_map(|x| x.to_le_bytes()).collect();
        rest.extend(fold.values.values().iter().flat_map(|x| x.to_le_bytes()));
        self.keep(key, "fold", &(fold.timing, &fold.outputs), &rest);
    }

    /// The envelope of a model.
    pub(super) fn model(&self, key: &str) -> Option<Vec<u8>> {
        self.load(key, "model").map(|((), bytes)| bytes)
    }

    pub(super) fn keep_model(&self, key: &str, envelope: &[u8]) {
        self.keep(key, "model", &(), envelope);
    }

    fn load<T: DeserializeOwned>(&self, key: &str, extension: &str) -> Option<(T, Vec<u8>)> {
        let path = self.folder.as_ref()?.join(format!("{key}.{extension}"));
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => {
                tracing::warn!(path = %path.display(), error = %e, "checkpoint cannot be read");
                return None;
            }
        };
        let parts = || {
            let (checksum, content) = bytes.split_first_chunk::<32>()?;
            if Sha256::digest(content)[..] != *checksum {
                return None;
            }
            let (len, rest) = content.split_first_chunk::<8>()?;
            let (json, rest) = rest.split_at_checked(u64::from_le_bytes(*len) as usize)?;
            Some((serde_json::from_slice(json).ok()?, rest.to_vec()))
        };
        let parts = parts();
        if parts.is_none() {
            tracing::warn!(path = %path.display(), "checkpoint is damaged and will be made again");
        }
        parts
    }

    /// What cannot be kept will be made again, which is no reason to give up what was made.
    fn keep<T: Serialize>(&self, key: &str, extension: &str, head: &T, rest: &[u8]) {
        let Some(folder) = &self.folder else { return };
        let path = folder.join(format!("{key}.{extension}"));
        let kept = serde_json::to_vec(head)
            .map_err(|e| Error::data("checkpoint", "JSON", e))
            .and_then(|json| {
                let mut content = (json.len() as u64).to_le_bytes().to_vec();
                content.extend(json);
                content.extend(rest);
                let mut bytes = Sha256::digest(&content).to_vec();
                bytes.append(&mut content);
                durable::replace(&path, &bytes)
            });
        if let Err(e) = kept {
            tracing::warn!(error = %e.chain(), "checkpoint cannot be written; the run goes on");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing { fit_seconds: 0.5, predict_seconds: 0.25, cut_short: false };

    fn fold(values: Vec<f64>) -> Predicted {
        let outputs = vec![Output::Quantile(0.1), Output::Value];
        Predicted { timing: TIMING, outputs, values: Matrix::new(values, 2).expect("valid") }
    }

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("mm-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn what_is_kept_comes_back_bit_for_bit() {
        let folder = scratch("checkpoint-round-trip");
        let checkpoint = Checkpoint::open(Some(&folder)).expect("opens");
        let predicted = fold(vec![0.1, f64::MIN_POSITIVE, -0.0, 1e300]);
        assert!(checkpoint.fold("a").is_none());
        checkpoint.keep_fold("a", &predicted);
        assert_eq!(checkpoint.fold("a"), Some(predicted));
        checkpoint.keep_model("a", b"bytes");
        assert_eq!(checkpoint.model("a"), Some(b"bytes".to_vec()));
        assert_eq!(fs::read_dir(&folder).expect("lists").count(), 2, "nothing is left aside");
        fs::remove_dir_all(folder).expect("removes");
    }

    #[test]
    fn a_damaged_or_truncated_file_counts_as_absent() {
        let folder = scratch("checkpoint-damage");
        let checkpoint = Checkpoint::open(Some(&folder)).expect("opens");
        checkpoint.keep_fold("a", &fold(vec![0.0; 2]));
        let path = folder.join("a.fold");
        let bytes = fs::read(&path).expect("reads");
        for at in 0..bytes.len() {
            fs::write(&path, &bytes[..at]).expect("writes");
            assert!(checkpoint.fold("a").is_none(), "cut to {at} bytes");
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).expect("writes");
            assert!(checkpoint.fold("a").is_none(), "bit flipped in byte {at}");
        }
        fs::write(&path, &bytes).expect("writes");
        assert!(checkpoint.fold("a").is_some());
        fs::remove_dir_all(folder).expect("removes");
    }

    #[test]
    fn keys_tell_apart_what_concatenation_would_not() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_eq!(key(&["ab", "c"]), key(&["ab", "c"]));
    }
}
