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
//! | `<key>.fold` | 32 bytes SHA-256 of the rest; u64 length and JSON of times; u64 rows, u64 columns; predictions as f64; all little-endian |
//! | `<key>.model` | the same up to the times; then the bytes of the model's envelope |

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{
    data::{Matrix, hex},
    durable,
    error::{Error, Result},
};

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

/// The key of a piece of work: everything that determines its result.
pub(super) fn key(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

impl Checkpoint {
    pub(super) fn open(folder: Option<&Path>) -> Result<Self> {
        if let Some(folder) = folder {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        Ok(Self { folder: folder.map(Path::to_path_buf) })
    }

    pub(super) fn fold(&self, key: &str) -> Option<(Timing, Matrix)> {
        let (timing, rest) = self.load(key, "fold")?;
        let (head, values) = rest.split_first_chunk::<16>()?;
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        let (n_rows, n_cols) = (long(0), long(8));
        let (values, left) = values.as_chunks::<8>();
        let fits = n_rows.checked_mul(n_cols) == Some(values.len() as u64) && left.is_empty();
        let values = values.iter().map(|&eight| f64::from_le_bytes(eight)).collect();
        if fits { Some((timing, Matrix::new(values, n_cols as usize).ok()?)) } else { None }
    }

    pub(super) fn keep_fold(&self, key: &str, timing: Timing, predicted: &Matrix) -> Result<()> {
        let shape = [predicted.n_rows() as u64, predicted.n_cols() as u64];
        let mut rest: Vec<u8> = shape.iter().flat_map(|x| x.to_le_bytes()).collect();
        rest.extend(predicted.values().iter().flat_map(|x| x.to_le_bytes()));
        self.keep(key, "fold", &timing, &rest)
    }

    pub(super) fn model(&self, key: &str) -> Option<(Timing, Vec<u8>)> {
        self.load(key, "model")
    }

    pub(super) fn keep_model(&self, key: &str, timing: Timing, envelope: &[u8]) -> Result<()> {
        self.keep(key, "model", &timing, envelope)
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

    fn keep<T: Serialize>(&self, key: &str, extension: &str, head: &T, rest: &[u8]) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let json = serde_json::to_vec(head).map_err(|e| Error::data("checkpoint", "JSON", e))?;
        let mut content = (json.len() as u64).to_le_bytes().to_vec();
        content.extend(json);
        content.extend(rest);
        let mut bytes = Sha256::digest(&content).to_vec();
        bytes.append(&mut content);
        durable::replace(&folder.join(format!("{key}.{extension}")), &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing { fit_seconds: 0.5, predict_seconds: 0.25, cut_short: false };

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("mm-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn what_is_kept_comes_back_bit_for_bit() {
        let folder = scratch("checkpoint-round-trip");
        let checkpoint = Checkpoint::open(Some(&folder)).expect("opens");
        let predicted = Matrix::new(vec![0.1, f64::MIN_POSITIVE, -0.0, 1e300], 2).expect("valid");
        assert!(checkpoint.fold("a").is_none());
        checkpoint.keep_fold("a", TIMING, &predicted).expect("keeps");
        assert_eq!(checkpoint.fold("a"), Some((TIMING, predicted)));
        checkpoint.keep_model("a", TIMING, b"bytes").expect("keeps");
        assert_eq!(checkpoint.model("a"), Some((TIMING, b"bytes".to_vec())));
        assert_eq!(fs::read_dir(&folder).expect("lists").count(), 2, "nothing is left aside");
        fs::remove_dir_all(folder).expect("removes");
    }

    #[test]
    fn a_damaged_or_truncated_file_counts_as_absent() {
        let folder = scratch("checkpoint-damage");
        let checkpoint = Checkpoint::open(Some(&folder)).expect("opens");
        checkpoint.keep_fold("a", TIMING, &Matrix::zeros(2, 1)).expect("keeps");
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
