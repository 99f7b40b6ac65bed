//! The right to append to a journal, which one worker has at a time.
//!
//! Among all workers it is Optuna's: who makes a symbolic link that nobody else has made has it, and one
//! whose holder has been silent for 30 s is broken. What is Optuna's cannot be broken sooner: it does not
//! say who holds it.
//!
//! Of ours it can. They take turns by a lock of the operating system on a file beside (`<lock>.mm`), which
//! ends with its holder, and their link is a hard link to one that all workers of a machine share
//! (`<lock>.mm-<boot>`, by the machine's boot). So whoever's turn it is knows that a link of that inode was
//! left by a dead one. Where any of this is not to be had (another system than Linux, a file system without
//! such locks, files of another user), Optuna's way alone remains.
//!
//! A turn is a lock, two links' worth of work, and an unlock: the file beside stays open, and the shared link
//! stands.

use std::{
    cell::OnceCell,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use mm_core::{Error, Result};

/// Who takes turns at a journal.
#[derive(Debug)]
pub(super) struct Lock {
    journal: PathBuf,
    path: PathBuf,
    /// Made at the first turn: who only reads leaves nothing beside a journal.
    own: OnceCell<Option<Own>>,
}

/// The right to append; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    path: &'a Path,
    /// Given back after the lock itself: only then it is the turn of another of ours.
    _among_own: Option<AmongOwn<'a>>,
}

/// So long may a holder be silent before its lock is broken.
const GRACE: Duration = Duration::from_secs(30);

impl Lock {
    /// The lock of the journal at an absolute path.
    pub(super) fn of(journal: &Path) -> Self {
        let path = beside(journal, ".lock");
        Self { journal: journal.to_owned(), path, own: OnceCell::new() }
    }

    /// Waits for the turn.
    pub(super) fn take(&self) -> Result<Turn<'_>> {
        let missing = |error: &io::Error| {
            let lock = self.path.display();
            tracing::debug!(%error, %lock, "only Optuna's lock is to be had");
        };
        let own = self.own.get_or_init(|| Own::of(self).inspect_err(missing).ok()).as_ref();
        // A fork shares its parent's locks, so they would not keep the two apart.
        let own = own.filter(|own| own.process == process::id());
        let mut among = own.and_then(|own| own.wait().inspect_err(missing).ok().flatten());
        let (mut pause, mut since, mut seen) = (Pause::default(), Instant::now(), None);
        loop {
            let linked = among.as_ref().map_or_else(
                || symlink(&self.journal, &self.path),
                |among| among.own.link(&self.journal, &self.path),
            );
            match linked {
                Ok(()) => return Ok(Turn { path: &self.path, _among_own: among }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    if among.as_ref().is_some_and(|among| among.own.has_left(&self.path)) {
                        let lock = self.path.display();
                        tracing::warn!(%lock, "broke the lock of a worker that died");
                        remove(&self.path);
                        continue;
                    }
                }
                // A file system in which a file has one name.
                Err(_) if among.is_some() => among = None,
                Err(e) => return Err(Error::io("lock the journal by", &self.path)(e)),
            }
            pause.sleep();
            // The holder's latest sign of life; a lock that is just gone has none.
            let now = fs::metadata(&self.path).or_else(|_| fs::symlink_metadata(&self.path));
            let now = now.and_then(|now| now.modified()).ok();
            if now != seen {
                (since, seen) = (Instant::now(), now);
            } else if now.is_some() && GRACE < since.elapsed() {
                tracing::warn!(lock = %self.path.display(), "broke a lock that its holder left");
                remove(&self.path);
                since = Instant::now();
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        drop(fs::remove_file(self.path));
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
fn symlink(journal: &Path, lock: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(journal, lock)
}

/// Optuna's other lock, which excludes the first: a file that nobody else has made.
#[cfg(not(unix))]
fn symlink(_: &Path, lock: &Path) -> io::Result<()> {
    File::options().write(true).create_new(true).open(lock).map(drop)
}

/// How our own workers on one machine take turns, and by what link they know each other.
#[derive(Debug)]
struct Own {
    /// Locked by whose turn it is; holds the boot whose link there is.
    file: File,
    link: PathBuf,
    process: u32,
}

/// The turn among our own workers.
#[derive(Debug)]
struct AmongOwn<'a> {
    own: &'a Own,
}

impl Drop for AmongOwn<'_> {
    fn drop(&mut self) {
        // Who cannot unlock gives it back with the file.
        drop(self.own.file.unlock());
    }
}

impl Own {
    #[cfg(target_os = "linux")]
    fn of(lock: &Lock) -> io::Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let boot = boot.trim();
        let path = beside(&lock.path, ".mm");
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let own =
            Self { file, link: beside(&lock.path, &format!(".mm-{boot}")), process: process::id() };
        if let Some(_turn) = own.wait()? {
            own.settle(lock, boot)?;
        }
        Ok(own)
    }

    #[cfg(not(target_os = "linux"))]
    fn of(_: &Lock) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes the link of an earlier boot, or one to where the journal was before. Where workers of several
    /// machines do so to each other, it is made again.
    #[cfg(target_os = "linux")]
    fn settle(&self, lock: &Lock, boot: &str) -> io::Result<()> {
        use std::io::{Read as _, Seek as _, Write as _};

        let (mut file, mut before) = (&self.file, String::new());
        file.read_to_string(&mut before)?;
        if before != boot {
            if before.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
                drop(fs::remove_file(beside(&lock.path, &format!(".mm-{before}"))));
            }
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(boot.as_bytes())?;
        }
        if fs::read_link(&self.link).is_ok_and(|target| target != lock.journal) {
            fs::remove_file(&self.link)?;
        }
        Ok(())
    }

    /// Waits for the turn; `None` if the one whose turn it is has been silent for too long.
    fn wait(&self) -> io::Result<Option<AmongOwn<'_>>> {
        let (mut pause, since) = (Pause::default(), Instant::now());
        loop {
            match self.file.try_lock() {
                Ok(()) => return Ok(Some(AmongOwn { own: self })),
                Err(TryLockError::WouldBlock) if since.elapsed() <= GRACE => pause.sleep(),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    fn link(&self, journal: &Path, lock: &Path) -> io::Result<()> {
        match fs::hard_link(&self.link, lock) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                symlink(journal, &self.link)?;
                fs::hard_link(&self.link, lock)
            }
            linked => linked,
        }
    }

    /// Whether the lock is of ours, and so, now that it is our turn, of a dead one.
    #[cfg(unix)]
    fn has_left(&self, lock: &Path) -> bool {
        use std::os::unix::fs::MetadataExt as _;

        let inode = |path: &Path| fs::symlink_metadata(path).map(|it| (it.dev(), it.ino())).ok();
        inode(lock).is_some_and(|lock| Some(lock) == inode(&self.link))
    }

    #[cfg(not(unix))]
    fn has_left(&self, _: &Path) -> bool {
        false
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
    format!("mm-{:x}-{nanos:x}-{count:x}", process::id())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn scratch(name: &str) -> (PathBuf, Lock) {
        let folder = std::env::temp_dir().join(format!("mm-lock-{name}-{}", process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).expect("a folder");
        let journal = folder.join("study.log");
        fs::write(&journal, "").expect("a journal");
        (folder, Lock::of(&journal))
    }

    /// What a worker leaves that is killed while it holds the lock: all but the system's lock.
    fn die_holding(journal: &Path) {
        let worker = Lock::of(journal);
        let held = worker.take().expect("nobody holds it");
        let own = worker.own.get().and_then(Option::as_ref).expect("Linux has it");
        own.file.unlock().expect("as the system does for a dead process");
        std::mem::forget(held);
    }

    #[test]
    fn the_lock_of_a_worker_that_died_does_not_hold_up_the_next() {
        let (folder, lock) = scratch("died");
        for _ in 0..2 {
            die_holding(&lock.journal);
            assert!(lock.path.symlink_metadata().is_ok(), "it stands");
            let asked = Instant::now();
            drop(lock.take().expect("a lock"));
            assert!(asked.elapsed() < GRACE, "long before a silent holder is given up");
        }
        let left = fs::read_dir(&folder).expect("lists").count();
        assert_eq!(left, 3, "the journal, the file beside the lock, and the link");
        fs::remove_dir_all(folder).expect("removes");
    }

    #[test]
    fn the_lock_of_another_make_is_waited_for_whoever_has_died() {
        let (folder, lock) = scratch("other");
        die_holding(&lock.journal);
        // Somebody has broken the lock since, as Optuna does, and taken it.
        fs::remove_file(&lock.path).expect("there");
        symlink(&lock.journal, &lock.path).expect("taken");
        let is_free = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(300));
                is_free.store(true, Ordering::SeqCst);
                fs::remove_file(folder.join("study.log.lock")).expect("given back");
            });
            let held = lock.take().expect("a lock");
            assert!(is_free.load(Ordering::SeqCst), "not before it was given back");
            drop(held);
        });
        fs::remove_dir_all(folder).expect("removes");
    }

    #[test]
    fn the_link_of_an_earlier_boot_is_removed_and_a_lost_one_is_made_again() {
        let (folder, lock) = scratch("boot");
        let earlier = "0123-abc";
        fs::write(beside(&lock.path, ".mm"), earlier).expect("writes");
        let stale = beside(&lock.path, &format!(".mm-{earlier}"));
        symlink(&lock.journal, &stale).expect("links");
        drop(lock.take().expect("a lock"));
        assert!(stale.symlink_metadata().is_err(), "swept");
        let own = lock.own.get().and_then(Option::as_ref).expect("Linux has it");
        assert_eq!(fs::read_link(&own.link).expect("a link"), lock.journal);
        fs::remove_file(&own.link).expect("there");
        drop(lock.take().expect("a lock"));
        assert_eq!(fs::read_link(&own.link).expect("a link"), lock.journal);
        fs::remove_dir_all(folder).expect("removes");
    }

    #[test]
    fn one_worker_holds_the_lock_at_a_time() {
        let (folder, lock) = scratch("turns");
        let (inside, turns) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let lock = Lock::of(&folder.join("study.log"));
                    for _ in 0..25 {
                        let held = lock.take().expect("a lock");
                        assert!(!inside.swap(true, Ordering::SeqCst), "alone");
                        turns.fetch_add(1, Ordering::SeqCst);
                        inside.store(false, Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(turns.into_inner(), 100);
        assert!(lock.path.symlink_metadata().is_err(), "given back");
        fs::remove_dir_all(folder).expect("removes");
    }
}
