//! The embedded store: a folder that several processes may share.
//!
//! # Layout, format 1
//!
//! | path | holds | written |
//! | --- | --- | --- |
//! | `registry.json` | a record `{}`: the folder is a registry of this format | once, last at creation |
//! | `lock` | nothing; writers lock it, readers do not | never |
//! | `tmp/…` | unfinished files, under any names | and renamed or removed |
//! | `objects/sha256/ab/cdef…` | the bytes whose SHA-256 is `abcdef…`, in 2 and 62 digits | once |
//! | `models/NAME/versions/00000007.json` | a record: the [`Version`] 7 of the model NAME | once |
//! | `models/NAME/retired/00000007.json` | a record: since when it is [`Retired`] | once |
//! | `models/NAME/aliases/ALIAS/00000042.json` | a record: the [`AliasEntry`] 42 of the alias ALIAS | once |
//!
//! Records are JSON with a checksum of their own:
//!
//! | offset | bytes | holds |
//! | ---: | ---: | --- |
//! | 0 | 11 | `{"sha256":"` |
//! | 11 | 64 | SHA-256, in lower-case hexadecimal, of all bytes from offset 77 to the end |
//! | 75 | 2 | `",` |
//! | 77 | … | `"format": 1, "body":` and the record as JSON, `}`, a line feed; space is free |
//!
//! Numbers in names have at least 8 digits, begin at 1, and have no gaps; the highest entry of an
//! alias is the current one. Names of models and aliases are made of lower-case letters, digits,
//! `.`, `_`, `-` (a folder is then the same registry on a file system that ignores case); aliases
//! begin with a letter. What is not named here is ignored.
//!
//! # Writing
//!
//! No file changes once it has its name. A file is written in `tmp`, forced to the disk, and then
//! given its name in one step; then the folder is forced to the disk. Everything that a record
//! refers to is durable before the record has its name, so whatever is seen is complete, and a
//! process that is killed leaves nothing but files that no record refers to.
//!
//! A record gets its name by a hard link, which fails if the name is taken: of several writers that
//! claim version 8 or entry 43, one gets it. That is the compare-and-swap under version numbers and
//! aliases, and it holds even where locks do not bind. An object is renamed over one that is there:
//! both have the same bytes, unless the old one was damaged, in which case it is healed.
//!
//! # Sweeping
//!
//! [`LocalRegistry::gc`] removes objects that no version refers to. Between finding its object in
//! place and naming the record that refers to it, a publisher could lose the object to a sweep.
//! Hence the lock, which writers hold while they name files and sweeps hold throughout:
//!
//! 1. without the lock, a publisher writes the objects that are missing or damaged into `tmp`;
//! 2. with the lock, it renames them into place, looks whether those that it found intact are still
//!    there, writes anew any that a sweep has taken, and names its record.
//!
//! So a sweep is safe beside publishers whatever its grace, which only spares them writing twice.
//! The lock is the system's (`flock` on Linux): it ends with its process, so none is ever stale. It
//! also keeps [`retire`](Registry::retire) apart from aliases that are moved. Readers wait for
//! nobody, and a registry may be read from a folder that cannot be written.
//!
//! # Limits
//!
//! For file systems with hard links and locks. Network file systems have not been tested; where
//! their locks do not bind, do not sweep or retire while others publish. An error that comes after a
//! record got its name (the folder could not be forced to the disk) leaves the record there: look
//! before you try again. Checksums find damage, not malice.

use std::{
    collections::HashSet,
    fmt, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{
    AliasEntry, AliasMove, NewVersion, Registry, Retired, Selector, StoredFile, Version,
    disk::{Disk, Durability, Lock, Temp},
    not_found, record,
    version::{MODEL_FILE, now_ms},
};
use crate::{
    data::{Quoted, hex},
    error::{Error, Result},
};

const MARKER: &str = "registry.json";
const LOCK: &str = "lock";

/// A [`Registry`] in a folder. Cheap to clone; threads and processes may use one folder at once.
///
/// Listing *n* versions reads *n* small files. Asking where an alias points lists its log; asking
/// whether it [has moved](Registry::has_moved) looks for one file.
///
/// ```
/// use mm_core::registry::{LocalRegistry, Registry};
///
/// # let folder = std::env::temp_dir().join(format!("mm-doc-{}", std::process::id()));
/// let registry = LocalRegistry::open(&folder)?;
/// assert!(registry.names()?.is_empty());
/// # std::fs::remove_dir_all(&folder).expect("made above");
/// # Ok::<(), mm_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LocalRegistry {
    root: PathBuf,
    pub(super) disk: Disk,
    is_read_only: bool,
}

#[derive(Serialize, Deserialize)]
struct Marker {}

impl LocalRegistry {
    /// Opens the registry in `folder`; if there is none, makes the folder and a registry in it.
    /// Refused: a folder with other things in it, and a registry of a newer format.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Self::open_on(Disk::default(), folder.as_ref())
    }

    /// Opens the registry in `folder` for reading only. It takes no lock and writes nothing, so
    /// the folder may be one that cannot be written.
    pub fn open_read_only(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let registry = Self { root: absolute(folder)?, disk: Disk::default(), is_read_only: true };
        match registry.record::<Marker>(&registry.root.join(MARKER))? {
            Some(Marker {}) => Ok(registry),
            None => Err(Error::NotFound { what: "registry", name: folder.display().to_string() }),
        }
    }

    pub(super) fn open_on(disk: Disk, folder: &Path) -> Result<Self> {
        let registry = Self { root: absolute(folder)?, disk, is_read_only: false };
        registry.create()?;
        Ok(registry)
    }

    /// Makes what is missing of the folder, the marker last.
    fn create(&self) -> Result<()> {
        let marker = self.root.join(MARKER);
        let exists = self.record::<Marker>(&marker)?.is_some();
        let parts = ["objects", "objects/sha256", "models", "tmp"];
        if !exists {
            let ours = |name: &String| name == LOCK || parts.contains(&name.as_str());
            if let Some(other) = self.disk.list(&self.root)?.iter().find(|name| !ours(name)) {
                let place = format!("folder {}", self.root.display());
                return Err(Error::data(place, "an empty folder or a registry", Quoted(other)));
            }
            self.make_root(&self.root)?;
        }
        for part in parts {
            let part = self.root.join(part);
            if self.disk.stat(&part)?.is_none() {
                self.disk.make_dir(&part)?;
            }
        }
        if !exists {
            // If another process was faster, its marker says the same.
            self.disk.sync_dir(&self.root)?;
            self.disk.claim(&self.temp(&record::seal(&Marker {})?)?, &marker)?;
            self.disk.sync_dir(&self.root)?;
        }
        Ok(())
    }

    fn make_root(&self, folder: &Path) -> Result<()> {
        if self.disk.stat(folder)?.is_some() {
            return Ok(());
        }
        folder.parent().map_or(Ok(()), |parent| self.make_root(parent))?;
        self.disk.make_dir(folder)
    }

    /// The same registry with another durability for what this value writes.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.disk.durability = durability;
        self
    }

    /// The folder, as an absolute path.
    pub fn folder(&self) -> &Path {
        &self.root
    }

    pub(super) fn ensure_writable(&self) -> Result<()> {
        if self.is_read_only {
            let refused = io::ErrorKind::ReadOnlyFilesystem.into();
            return Err(Error::io("write to the read-only registry", &self.root)(refused));
        }
        Ok(())
    }

    /// Makes sure that something can be written, before somebody works for hours on it.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.ensure_writable()?;
        self.temp(b"").map(drop)
    }

    pub(super) fn lock(&self) -> Result<Lock> {
        self.disk.lock(&self.root.join(LOCK))
    }

    pub(super) fn temps(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(super) fn objects(&self) -> PathBuf {
        self.root.join("objects/sha256")
    }

    pub(super) fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// A folder of the model `name`, which is checked.
    fn part(&self, name: &str, part: &str) -> Result<PathBuf> {
        check_model_name(name)?;
        Ok(self.models().join(name).join(part))
    }

    pub(super) fn version_dir(&self, name: &str) -> Result<PathBuf> {
        self.part(name, "versions")
    }

    pub(super) fn retired_dir(&self, name: &str) -> Result<PathBuf> {
        self.part(name, "retired")
    }

    pub(super) fn alias_dir(&self, name: &str, alias: &str) -> Result<PathBuf> {
        check_alias_name(alias)?;
        Ok(self.part(name, "aliases")?.join(alias))
    }

    /// The path of an object; a digest that is none cannot lead out of the folder.
    pub(super) fn object(&self, sha256: &str) -> Result<PathBuf> {
        let is_digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        if sha256.len() != 64 || !sha256.bytes().all(is_digit) {
            let expected = "a SHA-256 of 64 lower-case hexadecimal digits";
            return Err(Error::corrupt("manifest", expected, Quoted(sha256)));
        }
        let (shard, rest) = sha256.split_at(2);
        Ok(self.objects().join(shard).join(rest))
    }

    fn temp(&self, bytes: &[u8]) -> Result<Temp> {
        self.disk.write_temp(&self.temps(), bytes)
    }

    fn record<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        let bytes = self.disk.read(path)?;
        bytes.map(|bytes| record::unseal(path, &bytes)).transpose()
    }

    /// The numbers of the records in a folder, ascending.
    pub(super) fn numbers(&self, dir: &Path) -> Result<Vec<u64>> {
        let mut numbers: Vec<u64> =
            self.disk.list(dir)?.iter().filter_map(|name| record_number(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The highest number of a record in a folder, or 0. A listing may miss what is added while it
    /// is read, hence the second look.
    fn highest(&self, dir: &Path) -> Result<u64> {
        let mut number = self.numbers(dir)?.pop().unwrap_or(0);
        while self.has_record(dir, number + 1)? {
            number += 1;
        }
        Ok(number)
    }

    pub(super) fn has_record(&self, dir: &Path, number: u64) -> Result<bool> {
        Ok(self.disk.stat(&dir.join(record_name(number)))?.is_some())
    }

    fn ensure_model(&self, name: &str) -> Result<()> {
        let versions = self.version_dir(name)?;
        if self.has_record(&versions, 1)? || !self.numbers(&versions)?.is_empty() {
            return Ok(());
        }
        Err(Error::NotFound { what: "model", name: name.to_owned() })
    }

    /// The manifest at a number, without a look at whether it is retired.
    pub(super) fn stored_version(&self, name: &str, number: u64) -> Result<Option<Version>> {
        let path = self.version_dir(name)?.join(record_name(number));
        let version: Option<Version> = self.record(&path)?;
        let Some(version) = version else { return Ok(None) };
        ensure_place(&path, &version, &format_args!("{name}@{number}"))?;
        if version.file(MODEL_FILE).is_none() {
            return Err(Error::corrupt(path.display(), "a file `model.mm`", "none"));
        }
        for file in &version.files {
            self.object(&file.sha256).map_err(|e| e.within(path.display().to_string()))?;
        }
        Ok(Some(version))
    }

    pub(super) fn retirement(&self, name: &str, number: u64) -> Result<Option<Retired>> {
        let path = self.retired_dir(name)?.join(record_name(number));
        let retired: Option<Retired> = self.record(&path)?;
        if let Some(Retired { name: of, number: at, .. }) = &retired {
            ensure_place(&path, &format_args!("{of}@{at}"), &format_args!("{name}@{number}"))?;
        }
        Ok(retired)
    }

    /// An error if a version is retired.
    pub(super) fn ensure_live(&self, name: &str, number: u32) -> Result<()> {
        match self.retirement(name, number.into())? {
            None => Ok(()),
            Some(retired) => {
                let rest = format!("{number} (retired: {})", retired.reason);
                Err(not_found("version", name, rest))
            }
        }
    }

    pub(super) fn entry(&self, name: &str, alias: &str, sequence: u64) -> Result<AliasEntry> {
        let path = self.alias_dir(name, alias)?.join(record_name(sequence));
        let entry: Option<AliasEntry> = self.record(&path)?;
        let entry = entry
            .ok_or_else(|| Error::corrupt(path.display(), "an entry of an alias", "no file"))?;
        let place = format_args!("{}@{}, entry {}", entry.name, entry.alias, entry.sequence);
        ensure_place(&path, &place, &format_args!("{name}@{alias}, entry {sequence}"))?;
        Ok(entry)
    }

    /// An error unless every file of a version is there and has its checksum.
    fn ensure_intact(&self, version: &Version) -> Result<()> {
        version.files.iter().try_for_each(|file| {
            let found = self.disk.digest(&self.object(&file.sha256)?)?;
            self.ensure_same(version, file, found)
        })
    }

    /// An error unless what was `found` at the object of `file` is what was stored.
    pub(super) fn ensure_same(
        &self,
        version: &Version,
        file: &StoredFile,
        found: Option<(String, u64)>,
    ) -> Result<()> {
        let StoredFile { path, sha256, size } = file;
        let damaged = |expected: String, got: String| {
            let object = self.object(sha256)?;
            let what = format!("{} (`{path}` of `{version}`)", object.display());
            Err(Error::corrupt(what, expected, got))
        };
        match found {
            Some((digest, length)) if digest == *sha256 && length == *size => Ok(()),
            Some((_, length)) if length != *size => {
                damaged(format!("{size} bytes"), format!("{length}"))
            }
            Some((digest, _)) => damaged(format!("SHA-256 {sha256}"), digest),
            None => {
                // A version that was retired while it was read may have lost its files.
                self.ensure_live(&version.name, version.number)?;
                damaged(format!("{size} bytes"), "no file".to_owned())
            }
        }
    }

    /// Writes the object of `bytes` aside, unless it is in place and intact.
    fn stage<'a>(&self, bytes: &'a [u8]) -> Result<Staged<'a>> {
        let sha256 = hex(&Sha256::digest(bytes));
        let target = self.object(&sha256)?;
        let is_intact = self.disk.digest(&target)?.is_some_and(|(digest, _)| digest == sha256);
        let temp = if is_intact { None } else { Some(self.temp(bytes)?) };
        Ok(Staged { bytes, sha256, target, temp })
    }

    /// Puts an object in place, durably. To be called with the lock.
    fn place(&self, staged: &Staged<'_>) -> Result<()> {
        let shard = staged.target.parent().unwrap_or(&self.root);
        self.disk.make_dir(shard)?;
        let is_placed = match &staged.temp {
            Some(temp) => self.disk.replace(temp, &staged.target)?,
            None => self.disk.stat(&staged.target)?.is_some(),
        };
        // A sweep has taken it; there is none while we hold the lock.
        if !is_placed && !self.disk.replace(&self.temp(staged.bytes)?, &staged.target)? {
            return Err(Error::io("create", &staged.target)(io::ErrorKind::NotFound.into()));
        }
        self.disk.sync_dir(shard)
    }
}

/// A file of a version on its way into the store.
struct Staged<'a> {
    bytes: &'a [u8],
    sha256: String,
    target: PathBuf,
    temp: Option<Temp>,
}

impl Registry for LocalRegistry {
    /// Two publishers at once wait for each other only while files are named, not while they are
    /// written.
    fn publish(&self, name: &str, new: NewVersion) -> Result<Version> {
        self.ensure_writable()?;
        let versions = self.version_dir(name)?;
        let staged: Vec<_> =
            new.files().values().map(|bytes| self.stage(bytes)).collect::<Result<_>>()?;
        let files = new
            .files()
            .keys()
            .zip(&staged)
            .map(|(path, s)| StoredFile::new(path, &s.sha256, s.bytes.len() as u64))
            .collect();
        let mut version = Version::of(name, &new, files);
        record::seal(&version)?; // What cannot be written is refused before anything is named.

        let _lock = self.lock()?;
        self.disk.make_dir(&self.models().join(name))?;
        self.disk.make_dir(&versions)?;
        staged.iter().try_for_each(|staged| self.place(staged))?;
        loop {
            let number = self.highest(&versions)? + 1;
            version.number = u32::try_from(number)
                .map_err(|_| Error::data("number of versions", "one below 2³²", number))?;
            let temp = self.temp(&record::seal(&version)?)?;
            if self.disk.claim(&temp, &versions.join(record_name(number)))? {
                break;
            }
        }
        self.disk.sync_dir(&versions)?;
        Ok(version)
    }

    fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for name in self.disk.list(&self.models())? {
            // Foreign folders, and models of which no version was ever finished, are none.
            let Ok(versions) = self.version_dir(&name) else { continue };
            if !self.numbers(&versions)?.is_empty() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn versions(&self, name: &str) -> Result<Vec<Version>> {
        self.ensure_model(name)?;
        let retired: HashSet<u64> = self.numbers(&self.retired_dir(name)?)?.into_iter().collect();
        let mut versions = Vec::new();
        for number in self.numbers(&self.version_dir(name)?)? {
            if let Some(mut version) = self.stored_version(name, number)? {
                if retired.contains(&number) {
                    version.retired = self.retirement(name, number)?;
                }
                versions.push(version);
            }
        }
        Ok(versions)
    }

    fn manifest(&self, name: &str, number: u32) -> Result<Version> {
        self.ensure_model(name)?;
        let found = self.stored_version(name, number.into())?;
        let mut version = found.ok_or_else(|| not_found("version", name, number))?;
        version.retired = self.retirement(name, number.into())?;
        Ok(version)
    }

    fn read(&self, version: &Version, path: &str) -> Result<Vec<u8>> {
        let Some(file) = version.file(path) else {
            return Err(not_found(
                "file",
                &version.name,
                format_args!("{}/{path}", version.number),
            ));
        };
        self.ensure_live(&version.name, version.number)?;
        let bytes = self.disk.read(&self.object(&file.sha256)?)?;
        let found = bytes.as_ref().map(|b| (hex(&Sha256::digest(b)), b.len() as u64));
        self.ensure_same(version, file, found)?;
        Ok(bytes.unwrap_or_default())
    }

    fn aliases(&self, name: &str) -> Result<Vec<AliasEntry>> {
        self.ensure_model(name)?;
        let mut entries = Vec::new();
        for alias in self.disk.list(&self.part(name, "aliases")?)? {
            if self.alias_dir(name, &alias).is_ok() {
                entries.extend(self.alias(name, &alias)?.filter(|entry| entry.to.is_some()));
            }
        }
        Ok(entries)
    }

    fn alias(&self, name: &str, alias: &str) -> Result<Option<AliasEntry>> {
        match self.highest(&self.alias_dir(name, alias)?)? {
            0 => Ok(None),
            sequence => self.entry(name, alias, sequence).map(Some),
        }
    }

    fn alias_history(&self, name: &str, alias: &str) -> Result<Vec<AliasEntry>> {
        let last = self.highest(&self.alias_dir(name, alias)?)?;
        (1..=last).map(|sequence| self.entry(name, alias, sequence)).collect()
    }

    fn move_alias(&self, name: &str, alias: &str, to: &AliasMove) -> Result<AliasEntry> {
        self.ensure_writable()?;
        let log = self.alias_dir(name, alias)?;
        self.ensure_model(name)?;
        if let Some(number) = to.to {
            self.ensure_live(name, number)?;
            self.ensure_intact(&self.manifest(name, number)?)?;
        }

        let _lock = self.lock()?;
        loop {
            let last = self.alias(name, alias)?;
            to.expected.check(name, alias, last.as_ref())?;
            match (last.as_ref(), to.to) {
                (None, None) => return Err(not_found("alias", name, alias)),
                (Some(last), to) if last.to == to => return Ok(last.clone()),
                (_, Some(number)) => self.ensure_live(name, number)?,
                (_, None) => {}
            }
            let entry = AliasEntry::next(name, alias, last.as_ref(), to);
            let temp = self.temp(&record::seal(&entry)?)?;
            self.disk.make_dir(&self.part(name, "aliases")?)?;
            self.disk.make_dir(&log)?;
            if self.disk.claim(&temp, &log.join(record_name(entry.sequence)))? {
                self.disk.sync_dir(&log)?;
                return Ok(entry);
            }
        }
    }

    fn retire(&self, name: &str, number: u32, actor: &str, reason: &str) -> Result<Version> {
        self.ensure_writable()?;
        let _lock = self.lock()?;
        let mut version = self.manifest(name, number)?;
        if version.retired.is_some() {
            return Ok(version);
        }
        if let Some(entry) = self.aliases(name)?.iter().find(|entry| entry.to == Some(number)) {
            return Err(Error::Conflict {
                what: format!("version `{version}`"),
                expected: "no alias that points at it".to_owned(),
                found: format!("`{}`", entry.alias),
            });
        }
        let retired = Retired {
            name: name.to_owned(),
            number,
            actor: actor.to_owned(),
            reason: reason.to_owned(),
            time_ms: now_ms(),
        };
        let dir = self.retired_dir(name)?;
        let temp = self.temp(&record::seal(&retired)?)?;
        self.disk.make_dir(&dir)?;
        self.disk.claim(&temp, &dir.join(record_name(number.into())))?;
        self.disk.sync_dir(&dir)?;
        version.retired = self.retirement(name, number.into())?;
        Ok(version)
    }

    /// Looks for the next entry of the log: one call of the system.
    fn has_moved(&self, name: &str, alias: &str, since: u64) -> Result<bool> {
        self.has_record(&self.alias_dir(name, alias)?, since + 1)
    }

    /// The latest version is found from the top, without reading the others.
    fn resolve(&self, name: &str, selector: &Selector) -> Result<Version> {
        match selector {
            Selector::Version(number) => self.manifest(name, *number),
            Selector::Alias(alias) => {
                let Some(to) = self.alias(name, alias)?.and_then(|entry| entry.to) else {
                    self.ensure_model(name)?;
                    return Err(not_found("alias", name, alias));
                };
                self.manifest(name, to)
            }
            Selector::Latest => {
                self.ensure_model(name)?;
                let retired: HashSet<u64> =
                    self.numbers(&self.retired_dir(name)?)?.into_iter().collect();
                let highest = self.highest(&self.version_dir(name)?)?;
                let latest = (1..=highest).rev().find(|number| !retired.contains(number));
                let found = latest.map(|number| self.stored_version(name, number)).transpose()?;
                found.flatten().ok_or_else(|| not_found("version", name, "latest"))
            }
        }
    }
}

fn absolute(folder: &Path) -> Result<PathBuf> {
    std::path::absolute(folder).map_err(Error::io("find", folder))
}

/// Refuses a name that no model can have.
pub(crate) fn check_model_name(name: &str) -> Result<()> {
    check_name("name of a model", name, char::is_alphanumeric)
}

pub(crate) fn check_alias_name(alias: &str) -> Result<()> {
    if alias == "latest" {
        return Err(Error::data("alias", "another name", "`latest`, which is taken"));
    }
    check_name("alias", alias, char::is_alphabetic)
}

fn check_name(what: &'static str, name: &str, first: impl Fn(char) -> bool) -> Result<()> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii() && first(c));
    if begins && name.len() <= 100 && name.chars().all(allowed) {
        return Ok(());
    }
    let letter = if first('0') { "a letter or digit" } else { "a letter" };
    let expected = format!(
        "{letter}, then lower-case letters, digits, `.`, `_`, `-`, in all at most 100 characters"
    );
    Err(Error::data(what, expected, Quoted(name)))
}

/// A record that was moved or copied to another place is damage.
fn ensure_place(path: &Path, says: &dyn fmt::Display, is: &dyn fmt::Display) -> Result<()> {
    let (says, is) = (says.to_string(), is.to_string());
    if says == is { Ok(()) } else { Err(Error::corrupt(path.display(), is, says)) }
}

/// The file name of a record.
pub(super) fn record_name(number: u64) -> String {
    format!("{number:08}.json")
}

fn record_number(file_name: &str) -> Option<u64> {
    let number = file_name.strip_suffix(".json")?.parse().ok()?;
    (0 < number && record_name(number) == file_name).then_some(number)
}
