//! The right to append to a journal, which one worker has at a time.
//!
//! Among all workers it is Optuna's: who makes a symbolic link that nobody else has made has it, and one
//! whose holder has been silent for 30 s is broken. What is Optuna's cannot be broken sooner: it does not
//! say who holds it.
//!
//! Of ours it can. They take turns by a lock of the operating system on a file beside (`<lock>.mm`), which
//! ends with its holder; so whoever has it knows that a link made by the holder before was left by a
//! dead one. That link is known by its inode: it is made under a name of its own, which the file beside
//! holds, and is then linked to the lock's name. Where any of this is not to be had (another system than
//! Linux, a file system without such locks), Optuna's way alone remains.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use mm_core::{Error, Result};

/// The right to append; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Lock<'a> {
    path: &'a Path,
    own: Option<Own>,
}

/// So long may a holder be silent before its lock is broken.
const GRACE: Duration = Duration::from_secs(30);

impl<'a> Lock<'a> {
    /// Waits for the lock at `path` of a journal.
    pub(super) fn take(path: &'a Path, journal: &Path) -> Result<Self> {
        let failed = || Error::io("lock the journal by", path);
        let mut own = Own::take(path, journal).unwrap_or_else(|error| {
            tracing::debug!(%error, lock = %path.display(), "only Optuna's lock is to be had");
            None
        });
        let (mut pause, mut since, mut seen) = (Pause::default(), Instant::now(), None);
        loop {
            let linked = own.as_ref().map_or_else(|| link(journal, path), |own| own.link(path));
            match linked {
                Ok(()) => return Ok(Self { path, own }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                // A file system in which a file has one name.
                Err(_) if own.is_some() => own = None,
                Err(e) => return Err(failed()(e)),
            }
            pause.sleep();
            // The holder's latest sign of life; a lock that is just gone has none.
            let now = fs::metadata(path).or_else(|_| fs::symlink_metadata(path));
            let now = now.and_then(|now| now.modified()).ok();
            if now != seen {
                (since, seen) = (Instant::now(), now);
            } else if now.is_some() && GRACE < since.elapsed() {
                tracing::warn!(lock = %path.display(), "broke a lock that its holder left");
                remove(path);
                since = Instant::now();
            }
        }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        remove(self.path);
        // Only now is it the turn of another of ours.
        drop(self.own.take());
    }
}

/// Renames before it removes: of several who break a lock, one finds it.
fn remove(path: &Path) {
    let aside = beside(path, &format!("{}.rename", unique()));
    if fs::rename(path, &aside).is_ok() {
        drop(fs::remove_file(&aside));
    }
}

/// The longer one has waited, the longer one waits.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(1))
    }
}

impl Pause {
    fn sleep(&mut self) {
        thread::sleep(self.0);
        self.0 = (self.0 * 2).min(Duration::from_secs(1));
    }
}

#[cfg(unix)]
fn link(journal: &Path, lock: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(journal, lock)
}

/// Optuna's other lock, which excludes the first: a file that nobody else has made.
#[cfg(not(unix))]
fn link(_: &Path, lock: &Path) -> io::Result<()> {
    File::options().write(true).create_new(true).open(lock).map(drop)
}

/// The turn among our own workers, and a link to show.
#[derive(Debug)]
struct Own {
    /// Locked; holds the path of the link.
    file: File,
    link: PathBuf,
}

impl Own {
    /// Waits for the turn, and clears away what a holder has left who died; `None` where there is no
    /// such thing, or the one whose turn it is has been silent for too long.
    #[cfg(target_os = "linux")]
    fn take(lock: &Path, journal: &Path) -> io::Result<Option<Self>> {
        use std::{
            ffi::OsStr,
            fs::TryLockError,
            io::{Read as _, Write as _},
            os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
        };

        let path = beside(lock, ".mm");
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let (mut pause, since) = (Pause::default(), Instant::now());
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if since.elapsed() <= GRACE => pause.sleep(),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        let mut left = Vec::new();
        file.read_to_end(&mut left)?;
        if !left.is_empty() {
            let left = Path::new(OsStr::from_bytes(&left));
            let inode = |path: &Path| fs::symlink_metadata(path).map(|it| (it.dev(), it.ino()));
            if let (Ok(left), Ok(held)) = (inode(left), inode(lock))
                && left == held
            {
                tracing::warn!(lock = %lock.display(), "broke the lock of a worker that died");
                remove(lock);
            }
            // Only now, or another link might have been given the inode.
            drop(fs::remove_file(left));
            file.set_len(0)?;
        }
        let link = beside(lock, &unique());
        io::Seek::rewind(&mut file)?;
        file.write_all(link.as_os_str().as_bytes())?;
        let own = Self { file, link };
        std::os::unix::fs::symlink(journal, &own.link)?;
        Ok(Some(own))
    }

    #[cfg(not(target_os = "linux"))]
    fn take(_: &Path, _: &Path) -> io::Result<Option<Self>> {
        Ok(None)
    }

    fn link(&self, lock: &Path) -> io::Result<()> {
        fs::hard_link(&self.link, lock)
    }
}

/// After the lock itself is gone.
impl Drop for Own {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.link));
        drop(self.file.set_len(0));
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(end);
    beside.into()
}

/// What two workers never have in common.
pub(super) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let nanos = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    format!("mm-{:x}-{nanos:x}-{count:x}", std::process::id())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn scratch(name: &str) -> (PathBuf, PathBuf, PathBuf) {
        let folder = std::env::temp_dir().join(format!("mm-lock-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).expect("a folder");
        let (journal, lock) = (folder.join("study.log"), folder.join("study.log.lock"));
        fs::write(&journal, "").expect("a journal");
        (folder, journal, lock)
    }

    /// What a worker leaves that is killed while it holds the lock: all but the system's lock.
    fn die_holding(lock: &Path, journal: &Path) {
        let held = Lock::take(lock, journal).expect("nobody holds it");
        let own = held.own.as_ref().expect("Linux has it");
        own.file.unlock().expect("as the system does for a dead process");
        std::mem::forget(held);
    }

    #[test]
    fn the_lock_of_a_worker_that_died_does_not_hold_up_the_next() {
        let (folder, journal, lock) = scratch("died");
        die_holding(&lock, &journal);
        assert!(lock.symlink_metadata().is_ok(), "it stands");
        let asked = Instant::now();
        drop(Lock::take(&lock, &journal).expect("a lock"));
        assert!(asked.elapsed() < GRACE, "long before a silent holder is given up");
        let left = fs::read_dir(&folder).expect("lists").count();
        assert_eq!(left, 2, "the journal and the file beside the lock");
        fs::remove_dir_all(folder).expect("removes");
    }

    #[test]
    fn the_lock_of_another_make_is_waited_for_whoever_has_died() {
        let (folder, journal, lock) = scratch("other");
        die_holding(&lock, &journal);
        // Somebody has broken the lock since, as Optuna does, and taken it.
        fs::remove_file(&lock).expect("there");
        std::os::unix::fs::symlink(&journal, &lock).expect("taken");
        let is_free = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(300));
                is_free.store(true, Ordering::SeqCst);
                fs::remove_file(&lock).expect("given back");
            });
            let held = Lock::take(&lock, &journal).expect("a lock");
            assert!(is_free.load(Ordering::SeqCst), "not before it was given back");
            drop(held);
        });
        fs::remove_dir_all(folder).expect("removes");
    }

    #[test]
    fn one_worker_holds_the_lock_at_a_time() {
        let (folder, journal, lock) = scratch("turns");
        let (inside, turns) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let held = Lock::take(&lock, &journal).expect("a lock");
                        assert!(!inside.swap(true, Ordering::SeqCst), "alone");
                        turns.fetch_add(1, Ordering::SeqCst);
                        inside.store(false, Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(turns.into_inner(), 100);
        fs::remove_dir_all(folder).expect("removes");
    }
}
