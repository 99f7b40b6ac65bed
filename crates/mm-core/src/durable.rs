//! Files that are whole or not there, whatever is killed when, and names for what they hold.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use sha2::{Digest, Sha256};

use crate::{
    data::hex,
    error::{Error, Result},
};

/// A name for what `parts` determine together.
pub(crate) fn key<T: AsRef<[u8]>>(parts: &[T]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// Puts `bytes` at `path` so that a reader, and the disk after a kill or a power cut, has the old
/// content or the new one: written aside in the same folder, synced, renamed, the folder synced.
///
/// What lies aside, `<file>.<process>-<count>.tmp`, is locked for as long as its writer lives: see
/// [`sweep_beside`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let (mut file, aside) = create_aside(path)?;
    let written = (|| {
        file.write_all(bytes).map_err(Error::io("write", &aside))?;
        file.sync_all().map_err(Error::io("sync", &aside))?;
        fs::rename(&aside, path).map_err(Error::io("rename to", path))
    })();
    if written.is_err() {
        let _ = fs::remove_file(&aside); // What is left aside is never read.
    }
    written?;
    let folder = folder_of(path);
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("sync", folder))
}

/// A new file beside `path` that nobody else writes or sweeps away.
fn create_aside(path: &Path) -> Result<(File, PathBuf)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}-{}.tmp", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let aside = path.with_file_name(name);
        let file = File::create(&aside).map_err(Error::io("create", &aside))?;
        // Where files cannot be locked, none is swept away either.
        let _ = file.lock();
        // Somebody may have swept it away between the two.
        if aside.exists() {
            return Ok((file, aside));
        }
    }
}

/// Removes what writers of files in `folder` that were killed have left aside; of the files for which
/// `belongs` is true of their names.
///
/// Whose lock is free has no living writer, whatever host or process it was. What cannot be read or
/// removed stays.
pub(crate) fn sweep(folder: &Path, belongs: impl Fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.filter_map(std::result::Result::ok) {
        let name = entry.file_name();
        let Some(target) = name.to_str().and_then(target_of) else { continue };
        if !belongs(target) {
            continue;
        }
        let path = entry.path();
        // Not created: it may be put in place just now.
        let Ok(file) = File::options().write(true).open(&path) else { continue };
        if file.try_lock().is_ok() {
            let _ = fs::remove_file(&path); // While locked: a writer that waits for it sees that it is gone.
        }
    }
}

/// Removes what writers of the file `path` that were killed have left beside it: see [`replace`].
pub fn sweep_beside(path: &Path) {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    sweep(folder_of(path), |target| target == name);
}

/// The file that a name of something left aside is for.
fn target_of(name: &str) -> Option<&str> {
    let (target, writer) = name.strip_suffix(".tmp")?.rsplit_once('.')?;
    let (process, count) = writer.split_once('-')?;
    let is_number = |text: &str| text.parse::<u64>().is_ok();
    (is_number(process) && is_number(count)).then_some(target)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_killed_left_aside_is_swept_away_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("mm-durable-{}", process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        let file = |name: &str| folder.join(name);
        replace(&file("a"), b"whole").expect("writes");
        for left in ["a.4711-3.tmp", "b.4711-3.tmp", "a.tmp", "a.4711-x.tmp", "a.4711-3.tmp.bak"] {
            fs::write(file(left), b"half").expect("writes");
        }
        let (living, aside) = create_aside(&file("a")).expect("creates");
        sweep_beside(&file("a"));
        let has = |name: &str| file(name).exists();
        assert!(!has("a.4711-3.tmp"), "of a writer that is gone");
        assert!(has("b.4711-3.tmp"), "of another file");
        assert!(aside.exists(), "of a writer that lives");
        assert!(has("a") && has("a.tmp") && has("a.4711-x.tmp") && has("a.4711-3.tmp.bak"));
        drop(living);
        sweep(&folder, |_| true);
        assert!(!has("b.4711-3.tmp") && !aside.exists());
        assert_eq!(fs::read(file("a")).expect("there"), b"whole");
        fs::remove_dir_all(folder).expect("removes");
    }
}
