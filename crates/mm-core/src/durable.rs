//! Files that are whole or not there, whatever is killed when, and names for what they hold.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
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
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}-{}.tmp", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    let aside = folder.join(name);
    let written = (|| {
        let mut file = File::create(&aside).map_err(Error::io("create", &aside))?;
        file.write_all(bytes).map_err(Error::io("write", &aside))?;
        file.sync_all().map_err(Error::io("sync", &aside))?;
        fs::rename(&aside, path).map_err(Error::io("rename to", path))
    })();
    if written.is_err() {
        let _ = fs::remove_file(&aside); // What is left aside is never read.
    }
    written?;
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("sync", folder))
}
