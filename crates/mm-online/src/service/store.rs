//! Where a service keeps its snapshots: versions of one model in a registry of its own.
//!
//! The newest intact version is opened; one that is damaged is skipped, said loudly, and retired,
//! so that it does not stand in for a good one. All but the newest `keep` are retired and swept, so
//! that the folder does not grow beyond them and a record of some 500 bytes a snapshot.

use std::{path::Path, time::Duration};

use mm_core::{
    Catalog, Error, Result,
    registry::{Durability, LocalRegistry, NewVersion, Registry as _, Selector, Version},
};

use super::state::State;

const NAME: &str = "service";
const RECORD: &str = "record"; // Tag: the last record that a snapshot holds.
const SWEEP_EVERY: u32 = 8;

#[derive(Debug)]
pub(crate) struct Store {
    registry: LocalRegistry,
    keep: usize,
    kept: Vec<(u32, u64)>, // Numbers of the versions in use and their last records, ascending.
}

impl Store {
    /// Opens the store in `folder`, or makes an empty one.
    pub(crate) fn open(folder: &Path, durability: Durability, keep: usize) -> Result<Self> {
        let registry = LocalRegistry::open(folder)?.with_durability(durability);
        Ok(Self { registry, keep, kept: Vec::new() })
    }

    /// The newest state that is intact, and the reports of those that are not.
    pub(crate) fn load(&mut self, catalog: &Catalog) -> Result<(Option<State>, Vec<Error>)> {
        let (mut newest, mut refused) = (None, Vec::new());
        self.kept.clear();
        for number in (1..=self.last()?).rev() {
            let loaded = match self.registry.manifest(NAME, number) {
                Ok(version) if version.retired.is_some() => {
                    if newest.is_some() {
                        break; // Older ones are retired too.
                    }
                    continue;
                }
                Ok(version) if newest.is_some() => {
                    // Only its place in the log matters; it is read if it is needed.
                    record_of(&version).map(|record| (record, None))
                }
                Ok(_) => self.read(number, catalog).map(|state| (state.version, Some(state))),
                Err(e) => Err(e),
            };
            match loaded {
                Ok((record, state)) => {
                    self.kept.insert(0, (number, record));
                    newest = newest.or(state);
                }
                Err(e) if matches!(e.root(), Error::Corrupt { .. }) => {
                    tracing::error!(
                        snapshot = number,
                        error = %e.chain(),
                        "a snapshot is damaged; taking the one before"
                    );
                    refused.push(e);
                    let retired = self.registry.retire(NAME, number, "service", "damaged");
                    if let Err(e) = retired {
                        tracing::warn!(snapshot = number, error = %e.chain(), "cannot retire it");
                    }
                }
                Err(e) => return Err(e),
            }
            if self.keep <= self.kept.len() {
                break;
            }
        }
        match (newest, refused.pop()) {
            (None, Some(e)) => Err(e.within("the only snapshot left")),
            (newest, last) => {
                refused.extend(last);
                Ok((newest, refused))
            }
        }
    }

    fn read(&self, number: u32, catalog: &Catalog) -> Result<State> {
        let (model, version) = self.registry.open(NAME, &Selector::Version(number), catalog)?;
        let state = model
            .downcast_ref::<State>()
            .cloned()
            .ok_or_else(|| Error::corrupt(&version, "a snapshot of a service", "another model"))?;
        let record = record_of(&version)?;
        if record != state.version {
            let expected = format!("the state after record {record}");
            return Err(Error::corrupt(version, expected, state.version));
        }
        Ok(state)
    }

    /// Writes a snapshot, durable when this returns.
    pub(crate) fn save(&mut self, state: &State) -> Result<()> {
        let new = NewVersion::of(state)?.with_tag(RECORD, state.version.to_string());
        let version = self.registry.publish(NAME, new)?;
        self.kept.push((version.number, state.version));
        Ok(())
    }

    /// The last record that every snapshot in use holds: the log is needed from the next one on.
    pub(crate) fn oldest(&self) -> u64 {
        let n = self.kept.len().saturating_sub(self.keep);
        self.kept.get(n).map_or(0, |kept| kept.1)
    }

    /// Retires what is not to be kept.
    pub(crate) fn prune(&mut self) -> Result<()> {
        while self.keep < self.kept.len() {
            let (number, _) = self.kept[0];
            self.registry.retire(NAME, number, "service", "a newer snapshot")?;
            self.kept.remove(0);
            if number % SWEEP_EVERY == 0 {
                self.registry.gc(Duration::ZERO)?; // Nobody else writes here.
            }
        }
        Ok(())
    }

    /// The number of the newest version, by a search among numbers that have no gap; 0 if there is
    /// none. A damaged one counts.
    fn last(&self) -> Result<u32> {
        let exists = |number: u32| match self.registry.manifest(NAME, number) {
            Err(Error::NotFound { .. }) => Ok(false),
            Err(e) if !matches!(e.root(), Error::Corrupt { .. }) => Err(e),
            _ => Ok(true),
        };
        let (mut below, mut above) = (0, 1);
        while exists(above)? {
            (below, above) = (above, above * 2);
        }
        while below + 1 < above {
            let middle = below + (above - below) / 2;
            if exists(middle)? { below = middle } else { above = middle }
        }
        Ok(below)
    }
}

fn record_of(version: &Version) -> Result<u64> {
    let record = version.tags.get(RECORD).and_then(|record| record.parse().ok());
    record.ok_or_else(|| Error::corrupt(version, "a snapshot of a service", "another model"))
}
