//! The state of unfinished fits on disk, so that a killed one goes on where it was; and, where it is
//! to last, of fits that are done, so that one of more rounds goes on from there.
//!
//! A learner that takes long and can go on from its state asks [`FitContext::snapshots`] for a
//! [`Slot`] under the key of everything that determines its result, loads what is there, keeps its
//! state whenever that is due, and clears the slot once it is done. So several fits share a folder,
//! and what was kept by another fit is never taken for its own. Learners that do not look at it are
//! fitted from the start.
//!
//! | file | holds |
//! | --- | --- |
//! | `<key>.snapshot` | 32 bytes SHA-256 of the rest; the learner's bytes |
//!
//! Files are put in place whole. One that is damaged all the same is ignored, with a warning.
//!
//! [`FitContext::snapshots`]: crate::FitContext::snapshots

use std::{
    collections::HashMap,
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use crate::{
    durable,
    error::{Error, Result},
};

/// Where the state of fits is kept: in a folder, or in memory. Clones are the same place.
#[derive(Debug, Clone)]
pub struct Snapshots {
    place: Place<PathBuf>,
    interval: Duration,
    lasting: bool,
}

/// A folder or a file, or states by key.
#[derive(Debug, Clone)]
enum Place<T> {
    Disk(T),
    Memory(Arc<Mutex<HashMap<String, Vec<u8>>>>),
}

impl Snapshots {
    /// In `folder`, which is made if it is not there; every 10 minutes. What a kill in the middle of
    /// writing has left there is removed.
    pub fn new(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        durable::sweep(&folder, |_| true);
        Ok(Self { place: Place::Disk(folder), ..Self::in_memory() })
    }

    /// In memory, until the last clone is dropped; every 10 minutes.
    pub fn in_memory() -> Self {
        let place = Place::Memory(Arc::default());
        Self { place, interval: Duration::from_mins(10), lasting: false }
    }

    /// The same with another time between two snapshots of a fit; with none, each iteration keeps one.
    #[must_use]
    pub fn every(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// The same, but the state of a fit stays when it is done, so that a fit of more rounds can go on
    /// from it: see [`Learner::resumes`](crate::Learner::resumes).
    #[must_use]
    pub fn lasting(self) -> Self {
        Self { lasting: true, ..self }
    }

    /// Whether the state of a fit stays when it is done.
    pub fn is_lasting(&self) -> bool {
        self.lasting
    }

    /// The place of the fit that `parts` determine: name and release of the learner, params, seed,
    /// fingerprints of the data.
    pub fn slot<T: AsRef<[u8]>>(&self, parts: &[T]) -> Slot {
        let key = durable::key(parts);
        let place = match &self.place {
            Place::Disk(folder) => Place::Disk(folder.join(format!("{key}.snapshot"))),
            Place::Memory(all) => Place::Memory(Arc::clone(all)),
        };
        Slot { key, place, interval: self.interval, last: Instant::now() }
    }
}

/// The place of one fit's state.
#[derive(Debug)]
pub struct Slot {
    key: String,
    place: Place<PathBuf>,
    interval: Duration,
    last: Instant,
}

impl Slot {
    /// What was kept last; `None` if there is nothing, or nothing that is whole.
    pub fn load(&self) -> Option<Vec<u8>> {
        let path = match &self.place {
            Place::Disk(path) => path,
            Place::Memory(all) => {
                return all.lock().unwrap_or_else(PoisonError::into_inner).get(&self.key).cloned();
            }
        };
        let mut bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => {
                tracing::warn!(path = %path.display(), error = %e, "snapshot cannot be read");
                return None;
            }
        };
        let is_whole = bytes
            .split_first_chunk::<32>()
            .is_some_and(|(checksum, content)| Sha256::digest(content)[..] == *checksum);
        if !is_whole {
            tracing::warn!(path = %path.display(), "snapshot is damaged; the fit starts anew");
            return None;
        }
        Some(bytes.split_off(32))
    }

    /// Whether the time between two snapshots has passed.
    pub fn is_due(&self) -> bool {
        self.interval <= self.last.elapsed()
    }

    /// Replaces what was kept.
    ///
    /// An error if it cannot be written, for example since the disk is full; what was kept before is
    /// still there then. Whether that ends the fit is for the learner to say.
    pub fn keep(&mut self, state: &[u8]) -> Result<()> {
        self.last = Instant::now();
        match &self.place {
            Place::Disk(path) => {
                let mut bytes = Sha256::digest(state).to_vec();
                bytes.extend_from_slice(state);
                durable::replace(path, &bytes)
            }
            Place::Memory(all) => {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.insert(self.key.clone(), state.to_vec());
                Ok(())
            }
        }
    }

    /// Removes what was kept, since the fit is done.
    pub fn clear(self) {
        match self.place {
            Place::Disk(path) => match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), error = %e, "snapshot stays behind");
                }
                _ => {}
            },
            Place::Memory(all) => {
                all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("mm-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn a_slot_gives_back_what_it_kept_last_until_it_is_cleared() {
        let folder = scratch("snapshot");
        let snapshots = Snapshots::new(&folder).expect("makes the folder");
        let mut slot = snapshots.slot(&["learner", "seed 1"]);
        assert_eq!(slot.load(), None);
        slot.keep(b"one").expect("writes");
        slot.keep(b"two").expect("writes");
        assert_eq!(slot.load(), Some(b"two".to_vec()));
        assert_eq!(snapshots.slot(&["learner", "seed 2"]).load(), None, "another fit's");
        assert_eq!(fs::read_dir(&folder).expect("lists").count(), 1, "nothing is left aside");
        slot.clear();
        assert_eq!(snapshots.slot(&["learner", "seed 1"]).load(), None);
        fs::remove_dir_all(folder).expect("removes");
    }

    #[test]
    fn what_a_kill_in_the_middle_of_writing_left_is_removed_when_the_folder_is_opened_again() {
        let folder = scratch("snapshot-killed");
        let mut slot = Snapshots::new(&folder).expect("makes the folder").slot(&["a"]);
        slot.keep(b"state").expect("writes");
        let left = folder.join(format!("{}.snapshot.4711-0.tmp", slot.key));
        fs::write(&left, b"sta").expect("writes");
        let slot = Snapshots::new(&folder).expect("opens").slot(&["a"]);
        assert!(!left.exists());
        assert_eq!(slot.load(), Some(b"state".to_vec()));
        fs::remove_dir_all(folder).expect("removes");
    }

    #[test]
    fn memory_keeps_what_a_folder_keeps() {
        let snapshots = Snapshots::in_memory();
        let mut slot = snapshots.clone().slot(&["a"]);
        slot.keep(b"state").expect("writes");
        assert_eq!(snapshots.slot(&["a"]).load(), Some(b"state".to_vec()));
        assert_eq!(snapshots.slot(&["b"]).load(), None);
        slot.clear();
        assert_eq!(snapshots.slot(&["a"]).load(), None);
        assert!(!snapshots.is_lasting() && snapshots.lasting().is_lasting());
    }

    #[test]
    fn a_damaged_snapshot_counts_as_absent() {
        let folder = scratch("snapshot-damage");
        let snapshots = Snapshots::new(&folder).expect("makes the folder");
        let mut slot = snapshots.slot(&["a"]);
        slot.keep(b"state").expect("writes");
        let Place::Disk(path) = slot.place.clone() else { panic!("a folder's") };
        let bytes = fs::read(&path).expect("reads");
        for at in 0..bytes.len() {
            fs::write(&path, &bytes[..at]).expect("writes");
            assert_eq!(slot.load(), None, "cut to {at} bytes");
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).expect("writes");
            assert_eq!(slot.load(), None, "bit flipped in byte {at}");
        }
        fs::remove_dir_all(folder).expect("removes");
    }

    #[test]
    fn what_cannot_be_written_is_an_error_that_names_the_file() {
        let folder = scratch("snapshot-nowhere");
        let mut slot = Snapshots::new(&folder).expect("makes the folder").slot(&["a"]);
        fs::remove_dir_all(&folder).expect("removes");
        let error = slot.keep(b"state").expect_err("there is no folder");
        assert!(error.to_string().contains(".snapshot"), "{error}");
    }

    #[test]
    fn without_an_interval_a_snapshot_is_always_due() {
        let folder = scratch("snapshot-due");
        let snapshots = Snapshots::new(&folder).expect("makes the folder");
        assert!(!snapshots.slot(&["a"]).is_due());
        assert!(snapshots.every(Duration::ZERO).slot(&["a"]).is_due());
        fs::remove_dir_all(folder).expect("removes");
    }
}
