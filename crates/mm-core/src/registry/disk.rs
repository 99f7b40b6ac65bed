//! The few things that the store asks of a file system, each an error with its path.
//!
//! Every call of the system passes [`Disk::step`], where the fault tests count, refuse, and kill.

#[cfg(test)]
use std::sync::Arc;
use std::{
    fmt,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use sha2::{Digest, Sha256};

use crate::{
    data::hex,
    error::{Error, Result},
};

/// What a publication survives once it has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// A loss of power: files and folders are forced to the disk (`fsync`).
    #[default]
    Full,
    /// The end of the process, by whatever signal, but not a loss of power: nothing is forced to
    /// the disk. For tests and scratch registries.
    Fast,
}

/// One call of the system, about to be made.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(test), expect(dead_code, reason = "the fault tests read the paths"))]
pub(super) enum Step<'a> {
    Read,
    List,
    MakeDir(&'a Path),
    Create(&'a Path),
    Write,
    Sync(&'a Path),
    SyncDir(&'a Path),
    Link { from: &'a Path, to: &'a Path },
    Rename { from: &'a Path, to: &'a Path },
    Remove,
    Lock,
}

#[cfg(test)]
pub(super) type Hook = Arc<dyn Fn(Step<'_>) -> io::Result<()> + Send + Sync>;

#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) durability: Durability,
    #[cfg(test)]
    pub(super) hook: Option<Hook>,
    /// Stands for a file system on which locks do not bind.
    #[cfg(test)]
    pub(super) ignore_locks: bool,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disk({:?})", self.durability)
    }
}

/// A finished file under a name that nobody looks for; removed when dropped.
#[derive(Debug)]
pub(super) struct Temp {
    path: PathBuf,
    disk: Disk,
}

impl Drop for Temp {
    fn drop(&mut self) {
        // A failure leaves a file that the next sweep takes.
        let _ = self.disk.remove(&self.path);
    }
}

/// A lock that ends when it is dropped, or with the process.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held for its lock")] Option<File>);

impl Disk {
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "the fault tests hook in here"))]
    #[cfg_attr(not(test), expect(clippy::unnecessary_wraps, reason = "as above"))]
    fn step(&self, step: Step<'_>) -> io::Result<()> {
        #[cfg(test)]
        if let Some(hook) = &self.hook {
            return hook(step);
        }
        let _ = step;
        Ok(())
    }

    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "the fault tests do not wait"))]
    fn force(&self, file: &File) -> io::Result<()> {
        #[cfg(test)]
        if self.hook.is_some() {
            return Ok(());
        }
        file.sync_all()
    }

    /// The bytes of a file, or `None` if there is no such file.
    pub(super) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let read = self.step(Step::Read).and_then(|()| fs::read(path));
        present(read).map_err(Error::io("read", path))
    }

    /// SHA-256, in hexadecimal, and length of a file, or `None` if there is no such file. Reads it
    /// in pieces.
    pub(super) fn digest(&self, path: &Path) -> Result<Option<(String, u64)>> {
        let digest = || {
            self.step(Step::Read)?;
            let (mut file, mut hash) = (File::open(path)?, Sha256::new());
            let (mut piece, mut size) = (vec![0; 1 << 18], 0);
            loop {
                match file.read(&mut piece) {
                    Ok(0) => break Ok((hex(&hash.finalize()), size)),
                    Ok(n) => {
                        hash.update(&piece[..n]);
                        size += n as u64;
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => break Err(e),
                }
            }
        };
        present(digest()).map_err(Error::io("read", path))
    }

    /// Length and time of the last change, or `None` if there is no such file.
    pub(super) fn stat(&self, path: &Path) -> Result<Option<(u64, SystemTime)>> {
        let stat = || {
            self.step(Step::Read)?;
            let meta = fs::metadata(path)?;
            Ok((meta.len(), meta.modified()?))
        };
        present(stat()).map_err(Error::io("look at", path))
    }

    /// The names in a folder, sorted; none if there is no such folder.
    pub(super) fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let list = || {
            self.step(Step::List)?;
            let names = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
            names.filter_map(Result::transpose).collect::<io::Result<Vec<_>>>()
        };
        let mut names = present(list()).map_err(Error::io("list", dir))?.unwrap_or_default();
        names.sort_unstable();
        Ok(names)
    }

    /// Makes a folder, unless it is there, in a folder that is. Its name is durable then, whoever
    /// made it.
    pub(super) fn make_dir(&self, dir: &Path) -> Result<()> {
        let made = self.step(Step::MakeDir(dir)).and_then(|()| fs::create_dir(dir));
        match made {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            made => made.map_err(Error::io("create the folder", dir))?,
        }
        dir.parent().map_or(Ok(()), |parent| self.sync_dir(parent))
    }

    /// Writes a file under a name of its own in `dir`, durable except for that name.
    pub(super) fn write_temp(&self, dir: &Path, bytes: &[u8]) -> Result<Temp> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (mut file, temp) = loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = dir.join(format!("{}-{}-{count}", process::id(), now.as_nanos()));
            let file = self.step(Step::Create(&path)).and_then(|()| File::create_new(&path));
            match file {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io("create", path)(e)),
                Ok(file) => break (file, Temp { path, disk: self.clone() }),
            }
        };
        let mut write = || {
            // A write that fails has written a part, as on a full disk: hence two halves.
            let (head, tail) = bytes.split_at(bytes.len() / 2);
            file.write_all(head)?;
            self.step(Step::Write)?;
            file.write_all(tail)
        };
        write().map_err(Error::io("write", &temp.path))?;
        if self.durability == Durability::Full {
            let sync = self.step(Step::Sync(&temp.path)).and_then(|()| self.force(&file));
            sync.map_err(Error::io("sync", &temp.path))?;
        }
        Ok(temp)
    }

    /// Gives a finished file the name `to`: `false` if the name is taken.
    pub(super) fn claim(&self, temp: &Temp, to: &Path) -> Result<bool> {
        let step = self.step(Step::Link { from: &temp.path, to });
        match step.and_then(|()| fs::hard_link(&temp.path, to)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            linked => linked.map(|()| true).map_err(Error::io("create", to)),
        }
    }

    /// Gives a finished file the name `to`, whoever has it: `false` if the file was swept away.
    pub(super) fn replace(&self, temp: &Temp, to: &Path) -> Result<bool> {
        let step = self.step(Step::Rename { from: &temp.path, to });
        let renamed = step.and_then(|()| fs::rename(&temp.path, to));
        Ok(present(renamed).map_err(Error::io("create", to))?.is_some())
    }

    /// Removes a file, unless it is gone.
    pub(super) fn remove(&self, path: &Path) -> Result<()> {
        let removed = self.step(Step::Remove).and_then(|()| fs::remove_file(path));
        present(removed).map(drop).map_err(Error::io("remove", path))
    }

    /// Makes the names in a folder durable.
    pub(super) fn sync_dir(&self, dir: &Path) -> Result<()> {
        if self.durability == Durability::Fast || cfg!(not(unix)) {
            return Ok(()); // Elsewhere a folder cannot be opened, nor need be.
        }
        let sync = self.step(Step::SyncDir(dir)).and_then(|()| self.force(&File::open(dir)?));
        sync.map_err(Error::io("sync", dir))
    }

    /// Waits for the lock that `path` stands for.
    pub(super) fn lock(&self, path: &Path) -> Result<Lock> {
        #[cfg(test)]
        if self.ignore_locks {
            return Ok(Lock(None));
        }
        let lock = || {
            self.step(Step::Lock)?;
            let file = File::options().create(true).truncate(false).write(true).open(path)?;
            loop {
                match file.lock() {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    locked => break locked.map(|()| Lock(Some(file))),
                }
            }
        };
        lock().map_err(Error::io("lock", path))
    }
}

/// `None` where nothing was found.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}
