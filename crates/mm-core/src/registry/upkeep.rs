//! The care of a folder: finding every damage, and removing what nobody needs.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    path::Path,
    time::{Duration, SystemTime},
};

use super::{
    Registry as _, StoredFile, Version,
    local::{LocalRegistry, record_name},
};
use crate::error::{Error, Result};

/// What [`LocalRegistry::verify`] has looked at and found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Verification {
    /// Versions that were read, retired ones included.
    pub versions: usize,
    /// Entries of aliases that were read.
    pub entries: usize,
    /// Objects that were read and hashed.
    pub objects: usize,
    /// Their length in bytes.
    pub bytes: u64,
    /// One error for each file that is damaged, missing, or cannot be read; it names the file.
    pub damage: Vec<Error>,
}

impl Verification {
    /// Whether there is no damage.
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty()
    }

    /// The value, or `None` and a note of the damage.
    fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|e| self.damage.push(e)).ok()
    }
}

/// A line of totals, then a line for each damage.
impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { versions, entries, objects, bytes, damage } = self;
        write!(
            f,
            "{versions} versions, {entries} alias entries, {objects} objects, {bytes} bytes"
        )?;
        write!(f, ": {} damaged", damage.len())?;
        damage.iter().try_for_each(|error| write!(f, "\n{}", error.chain()))
    }
}

/// What [`LocalRegistry::gc`] has removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Swept {
    /// Objects that no version refers to.
    pub objects: usize,
    /// Unfinished files.
    pub temps: usize,
    /// The length of all of them in bytes.
    pub bytes: u64,
}

impl LocalRegistry {
    /// Reads everything and compares it with its checksums. Every record and every object of a
    /// version in use must be there and intact, numbers must have no gaps, each entry of an alias
    /// must go on where the one before ended, and none may point at a version that is missing or
    /// retired. Runs beside writers; O(bytes stored).
    ///
    /// Fails only if the list of models cannot be read; all else is in the report.
    pub fn verify(&self) -> Result<Verification> {
        let mut report = Verification::default();
        let mut hashed: HashMap<String, Option<(String, u64)>> = HashMap::new();
        for name in self.disk.list(&self.models())? {
            if self.version_dir(&name).is_err() {
                continue; // Not ours: no model can have this name.
            }
            let versions = self.verify_versions(&name, &mut report);
            for version in versions.iter().filter(|version| version.retired.is_none()) {
                for file in &version.files {
                    let checked = self.verify_object(version, file, &mut hashed, &mut report);
                    report.note(checked);
                }
            }
            let aliases = self.models().join(&name).join("aliases");
            for alias in report.note(self.disk.list(&aliases)).unwrap_or_default() {
                self.verify_alias(&name, &alias, &versions, &mut report);
            }
        }
        Ok(report)
    }

    fn verify_versions(&self, name: &str, report: &mut Verification) -> Vec<Version> {
        let mut versions = Vec::new();
        let Some(dir) = report.note(self.version_dir(name)) else { return versions };
        for number in self.verify_numbers(&dir, report) {
            let Some(Some(mut version)) = report.note(self.stored_version(name, number)) else {
                continue;
            };
            report.versions += 1;
            version.retired = report.note(self.retirement(name, number)).flatten();
            versions.push(version);
        }
        versions
    }

    /// The numbers in a folder, after noting those that should be there.
    fn verify_numbers(&self, dir: &Path, report: &mut Verification) -> Vec<u64> {
        let numbers = report.note(self.numbers(dir)).unwrap_or_default();
        let there: BTreeSet<u64> = numbers.iter().copied().collect();
        // Those that came while the folder was read are none of our business.
        for missing in (1..numbers.last().copied().unwrap_or(0)).filter(|n| !there.contains(n)) {
            if matches!(self.has_record(dir, missing), Ok(false)) {
                let path = dir.join(record_name(missing));
                report.damage.push(Error::corrupt(path.display(), "a record", "no file"));
            }
        }
        numbers
    }

    fn verify_object(
        &self,
        version: &Version,
        file: &StoredFile,
        hashed: &mut HashMap<String, Option<(String, u64)>>,
        report: &mut Verification,
    ) -> Result<()> {
        if let Some(found) = hashed.get(&file.sha256) {
            return self.ensure_same(version, file, found.clone());
        }
        let found = self.disk.digest(&self.object(&file.sha256)?)?;
        if let Some((_, size)) = found {
            report.objects += 1;
            report.bytes += size;
        }
        hashed.insert(file.sha256.clone(), found.clone());
        self.ensure_same(version, file, found)
    }

    fn verify_alias(
        &self,
        name: &str,
        alias: &str,
        versions: &[Version],
        report: &mut Verification,
    ) {
        let Ok(dir) = self.alias_dir(name, alias) else { return };
        let mut before = None;
        for sequence in self.verify_numbers(&dir, report) {
            let Some(entry) = report.note(self.entry(name, alias, sequence)) else {
                before = None;
                continue;
            };
            report.entries += 1;
            let path = dir.join(record_name(sequence));
            if let Some(before) = before.or((sequence == 1).then_some(None))
                && before != entry.from
            {
                let expected = format!("a move from {before:?}");
                let got = format!("one from {:?}", entry.from);
                report.damage.push(Error::corrupt(path.display(), expected, got));
            }
            before = Some(entry.to);
        }
        if let Some(Some(number)) = before {
            let known = versions.iter().any(|version| version.number == number);
            // It may have been published since the versions were listed.
            let exists = if known { Ok(()) } else { self.manifest(name, number).map(drop) };
            report.note(exists.and_then(|()| self.ensure_still_live(name, alias, number)));
        }
    }

    /// An error if the alias points at a retired version: it may have moved since we looked.
    fn ensure_still_live(&self, name: &str, alias: &str, number: u32) -> Result<()> {
        let live = self.ensure_live(name, number);
        match (&live, self.alias(name, alias)?) {
            (Err(_), Some(entry)) if entry.to != Some(number) => Ok(()),
            _ => live.map_err(|e| e.within(format!("alias `{name}@{alias}`"))),
        }
    }

    /// Removes unfinished files, and objects that no version in use refers to, that have not
    /// changed for `grace`. Safe beside publishers whatever the grace (the header of this module's
    /// source says why); an hour spares a slow one from writing twice.
    ///
    /// Writers wait meanwhile. A manifest that is damaged or missing ends the sweep before anything
    /// is removed, since nobody knows what it refers to.
    pub fn gc(&self, grace: Duration) -> Result<Swept> {
        self.ensure_writable()?;
        let _lock = self.lock()?;
        let needed = self.needed_objects()?;
        let mut swept = Swept::default();
        for shard in self.disk.list(&self.objects())? {
            for rest in self.disk.list(&self.objects().join(&shard))? {
                let sha256 = format!("{shard}{rest}");
                if let Ok(path) = self.object(&sha256)
                    && !needed.contains(&sha256)
                    && self.sweep(&path, grace, &mut swept)?
                {
                    swept.objects += 1;
                }
            }
        }
        for temp in self.disk.list(&self.temps())? {
            if self.sweep(&self.temps().join(temp), grace, &mut swept)? {
                swept.temps += 1;
            }
        }
        Ok(swept)
    }

    /// The digests of all objects that a version in use refers to.
    fn needed_objects(&self) -> Result<HashSet<String>> {
        let mut needed = HashSet::new();
        for name in self.names()? {
            let last = self.numbers(&self.version_dir(&name)?)?.pop().unwrap_or(0);
            for number in 1..=last {
                let Some(version) = self.stored_version(&name, number)? else {
                    let path = self.version_dir(&name)?.join(record_name(number));
                    return Err(Error::corrupt(path.display(), "a record", "no file"));
                };
                if self.retirement(&name, number)?.is_none() {
                    needed.extend(version.files.into_iter().map(|file| file.sha256));
                }
            }
        }
        Ok(needed)
    }

    /// Removes a file that has not changed for `grace`; one from the future is new.
    fn sweep(&self, path: &Path, grace: Duration, swept: &mut Swept) -> Result<bool> {
        let Some((size, changed)) = self.disk.stat(path)? else { return Ok(false) };
        let age = SystemTime::now().duration_since(changed).unwrap_or_default();
        if age < grace {
            return Ok(false);
        }
        self.disk.remove(path)?;
        swept.bytes += size;
        Ok(true)
    }
}
