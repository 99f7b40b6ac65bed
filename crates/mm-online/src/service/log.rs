//! The write-ahead log: what was acknowledged, in order, until a snapshot holds it.
//!
//! # Layout
//!
//! A log is a folder of segments, each a file named by the number of its first record,
//! `00000000000000000001.log`. All numbers are little-endian. A segment is a head and frames; a
//! frame is a group of records that were made durable together:
//!
//! | segment head | bytes | | frame | bytes |
//! | --- | ---: | --- | --- | ---: |
//! | the magic `mm-onlog` | 8 | | the magic `mmfr` | 4 |
//! | version of this layout, 1 | 4 | | *b*, the length of the records | 4 |
//! | number of the first record | 8 | | number of records, ≥ 1 | 4 |
//! | first 8 bytes of SHA-256 of the above | 8 | | number of the first record | 8 |
//! | | | | first 8 bytes of SHA-256 of the above and the records | 8 |
//! | | | | the records | *b* |
//!
//! # Torn or damaged
//!
//! A kill or a power cut leaves at most the last frame of the last segment incomplete, and it was
//! not acknowledged: it is cut off, and the caller is told. A frame that does not have its checksum
//! while an intact frame follows it is something else: rows that were acknowledged would be lost,
//! so the log refuses to open. (A last frame that was whole once and decayed cannot be told from a
//! torn one.)
//!
//! # Faults while appending
//!
//! A write that fails, as on a full disk, is cut off again and the log stays as it was: the same
//! rows may be offered later. Where even that fails, or the disk does not confirm a write (`fsync`),
//! nobody knows what it holds; the log then takes no more until it is opened anew.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use mm_core::{Error, Result, registry::Durability};
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"mm-onlog";
const LAYOUT: u32 = 1;
const HEAD: usize = 28;
const FRAME_MAGIC: &[u8; 4] = b"mmfr";
const FRAME_HEAD: usize = 28;

/// The most bytes of records in one frame.
pub(crate) const MAX_FRAME: usize = 1 << 30;

/// A call of the system that changes the log, about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Create,
    Write,
    Sync,
    Cut,
    Remove,
}

/// Decides in tests whether a call of the system succeeds.
#[cfg(test)]
pub(crate) type Hook = Box<dyn FnMut(Step) -> io::Result<()> + Send>;

/// Stands between the log and the system, and does nothing outside tests.
#[derive(Default)]
struct Faults {
    #[cfg(test)]
    hook: Option<Hook>,
}

impl Faults {
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "the fault tests hook in here"))]
    #[cfg_attr(not(test), expect(clippy::unnecessary_wraps, reason = "as above"))]
    fn step(&mut self, step: Step) -> io::Result<()> {
        #[cfg(test)]
        if let Some(hook) = &mut self.hook {
            return hook(step);
        }
        let _ = step;
        Ok(())
    }

    fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        if let Err(e) = self.step(Step::Write) {
            file.write_all(&bytes[..bytes.len() / 2])?; // As a full disk would.
            return Err(e);
        }
        file.write_all(bytes)
    }
}

/// What [`Log::open`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Found {
    /// Bytes of an unfinished frame that were cut off.
    pub(crate) torn: u64,
    /// Records that were handed out.
    pub(crate) replayed: u64,
}

/// A log open for appending.
pub(crate) struct Log {
    folder: PathBuf,
    durability: Durability,
    segments: Vec<Segment>, // Invariant: ascending; the last is the one that `file` writes.
    file: File,
    next: u64, // Number of the next record.
    is_lost: bool,
    faults: Faults,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    first: u64,
    bytes: u64,
}

impl Log {
    /// Opens the log in `folder`, making it if there is none, and hands the records from number
    /// `from` on to `replay`, a frame at a time: the number of its first record, how many there
    /// are, and their bytes.
    pub(crate) fn open(
        folder: &Path,
        from: u64,
        durability: Durability,
        mut replay: impl FnMut(u64, u32, &[u8]) -> Result<()>,
    ) -> Result<(Self, Found)> {
        fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
        let mut firsts = list(folder)?;
        let mut found = Found::default();
        // A segment whose head was never finished holds nothing.
        if let Some(&last) = firsts.last() {
            let path = path_of(folder, last);
            let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
            if !has_head(&bytes) && !holds_frame(&bytes, 0) {
                found.torn += bytes.len() as u64;
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                firsts.pop();
            }
        }
        let mut expected = firsts.first().copied().unwrap_or(from).min(from);
        if firsts.first().is_some_and(|&first| from < first) {
            let expected = format!("records from number {from}");
            let got = format!("from number {}", firsts[0]);
            return Err(Error::corrupt(folder.display(), expected, got));
        }
        let mut segments = Vec::with_capacity(firsts.len() + 1);
        for (i, &first) in firsts.iter().enumerate() {
            if i > 0 && first != expected {
                let got = format!("one that starts at {first}");
                let expected = format!("a segment that starts at record {expected}");
                return Err(Error::corrupt(folder.display(), expected, got));
            }
            // Segments that a snapshot covers are only there until they are removed.
            if firsts.get(i + 1).is_some_and(|&next| next <= from) {
                expected = firsts[i + 1];
                let path = path_of(folder, first);
                let bytes = fs::metadata(&path).map_err(Error::io("look at", &path))?.len();
                segments.push(Segment { first, bytes });
                continue;
            }
            let is_last = i + 1 == firsts.len();
            let segment = Reader { folder, first, is_last };
            let bytes = segment.read(&mut expected, from, &mut found, &mut replay)?;
            segments.push(Segment { first, bytes });
        }
        let next = expected.max(from);
        let file = if let (Some(last), true) = (segments.last(), expected == next) {
            let path = path_of(folder, last.first);
            let mut file =
                File::options().write(true).open(&path).map_err(Error::io("open", &path))?;
            // Cuts off what is torn, or does nothing.
            file.set_len(last.bytes).map_err(Error::io("cut", &path))?;
            file.seek(SeekFrom::End(0)).map_err(Error::io("open", &path))?;
            if 0 < found.torn && durability == Durability::Full {
                file.sync_all().map_err(Error::io("sync", &path))?;
            }
            file
        } else {
            // What the log has is older than the snapshot: a power cut took the rest.
            for old in segments.drain(..) {
                let path = path_of(folder, old.first);
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
            let (file, bytes) = create(folder, next, durability, &mut Faults::default())?;
            segments.push(Segment { first: next, bytes });
            file
        };
        let folder = folder.to_path_buf();
        let log = Self {
            folder,
            durability,
            segments,
            file,
            next,
            is_lost: false,
            faults: Faults::default(),
        };
        Ok((log, found))
    }

    /// Lets `hook` decide whether each call of the system succeeds.
    #[cfg(test)]
    pub(crate) fn set_hook(&mut self, hook: Option<Hook>) {
        self.faults.hook = hook;
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Appends `n` records in one frame, durable when this returns.
    pub(crate) fn append(&mut self, n: u32, records: &[u8]) -> Result<()> {
        if self.is_lost {
            let unknown = io::Error::other("an earlier failure left its state unknown; open anew");
            return Err(Error::io("append to the log", &self.folder)(unknown));
        }
        if MAX_FRAME < records.len() {
            let expected = format!("at most {MAX_FRAME} bytes");
            return Err(Error::data("records of one frame", expected, records.len()));
        }
        let frame = frame(self.next, n, records);
        let last = self.segments.len() - 1;
        let path = path_of(&self.folder, self.segments[last].first);
        if let Err(e) = self.faults.write(&mut self.file, &frame) {
            let len = self.segments[last].bytes;
            let cut = self
                .faults
                .step(Step::Cut)
                .and_then(|()| self.file.set_len(len))
                .and_then(|()| self.file.seek(SeekFrom::Start(len)));
            self.is_lost = cut.is_err();
            return Err(Error::io("append to", path)(e));
        }
        if self.durability == Durability::Full {
            let synced = self.faults.step(Step::Sync).and_then(|()| self.file.sync_data());
            if let Err(e) = synced {
                self.is_lost = true;
                return Err(Error::io("sync", path)(e));
            }
        }
        self.segments[last].bytes += frame.len() as u64;
        self.next += u64::from(n);
        Ok(())
    }

    /// Starts a new segment, unless the last one is empty still.
    pub(crate) fn rotate(&mut self) -> Result<()> {
        if self.segments.last().is_some_and(|last| last.first == self.next) {
            return Ok(());
        }
        let (file, bytes) = create(&self.folder, self.next, self.durability, &mut self.faults)?;
        self.segments.push(Segment { first: self.next, bytes });
        self.file = file;
        Ok(())
    }

    /// Removes the segments that hold only records before number `first`.
    pub(crate) fn drop_before(&mut self, first: u64) -> Result<()> {
        while self.segments.get(1).is_some_and(|second| second.first <= first) {
            let path = path_of(&self.folder, self.segments[0].first);
            self.faults
                .step(Step::Remove)
                .and_then(|()| fs::remove_file(&path))
                .map_err(Error::io("remove", &path))?;
            self.segments.remove(0);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Log({}, next {}, {} bytes)", self.folder.display(), self.next, self.bytes())
    }
}

fn path_of(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.log"))
}

/// The numbers of the segments, ascending.
fn list(folder: &Path) -> Result<Vec<u64>> {
    let read = || {
        let mut firsts = Vec::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            let number: Option<u64> =
                name.to_str().and_then(|name| name.strip_suffix(".log")?.parse().ok());
            firsts.extend(number);
        }
        firsts.sort_unstable();
        Ok(firsts)
    };
    read().map_err(Error::io("list", folder))
}

fn create(
    folder: &Path,
    first: u64,
    durability: Durability,
    faults: &mut Faults,
) -> Result<(File, u64)> {
    let path = path_of(folder, first);
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&LAYOUT.to_le_bytes());
    head[12..20].copy_from_slice(&first.to_le_bytes());
    let checksum = checksum(&[&head[..20]]);
    head[20..].copy_from_slice(&checksum);
    let mut create = || {
        faults.step(Step::Create)?;
        let mut file = File::create(&path)?;
        file.write_all(&head)?;
        if durability == Durability::Full {
            file.sync_all()?;
            #[cfg(unix)]
            File::open(folder)?.sync_all()?;
        }
        Ok(file)
    };
    let made: io::Result<File> = create();
    if made.is_err() {
        let _ = fs::remove_file(&path); // One that stays is shorter than a head, or empty.
    }
    Ok((made.map_err(Error::io("create", &path))?, HEAD as u64))
}

fn checksum(parts: &[&[u8]]) -> [u8; 8] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    first
}

/// Whether `bytes` start with the head of a segment.
fn has_head(bytes: &[u8]) -> bool {
    HEAD <= bytes.len() && bytes[..8] == *MAGIC && checksum(&[&bytes[..20]]) == bytes[20..HEAD]
}

/// Whether an intact frame of records from number `from` on starts anywhere in `bytes`.
fn holds_frame(bytes: &[u8], from: u64) -> bool {
    (0..bytes.len().saturating_sub(FRAME_HEAD))
        .filter(|&at| bytes[at..].starts_with(FRAME_MAGIC))
        .any(|at| Frame::read(&bytes[at..]).is_some_and(|frame| from <= frame.first))
}

fn frame(first: u64, n: u32, records: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_HEAD + records.len());
    frame.extend(FRAME_MAGIC);
    frame.extend((records.len() as u32).to_le_bytes());
    frame.extend(n.to_le_bytes());
    frame.extend(first.to_le_bytes());
    let checksum = checksum(&[&frame, records]);
    frame.extend(checksum);
    frame.extend(records);
    frame
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

/// A frame at the start of `bytes`, if there is an intact one.
struct Frame<'a> {
    first: u64,
    n: u32,
    records: &'a [u8],
}

impl<'a> Frame<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(FRAME_HEAD)?;
        if &head[..4] != FRAME_MAGIC {
            return None;
        }
        let (len, n, first) = (u32_at(head, 4) as usize, u32_at(head, 8), u64_at(head, 12));
        let records = rest.get(..len)?;
        let intact = checksum(&[&head[..20], records]) == head[20..] && n > 0;
        intact.then_some(Self { first, n, records })
    }

    fn len(&self) -> usize {
        FRAME_HEAD + self.records.len()
    }
}

/// One segment being read.
struct Reader<'a> {
    folder: &'a Path,
    first: u64,
    is_last: bool,
}

impl Reader<'_> {
    /// Reads the segment; how many of its bytes are intact. `expected` is the number of the next
    /// record.
    fn read(
        &self,
        expected: &mut u64,
        from: u64,
        found: &mut Found,
        replay: &mut impl FnMut(u64, u32, &[u8]) -> Result<()>,
    ) -> Result<u64> {
        let path = path_of(self.folder, self.first);
        let damaged = |at: usize, expected: &str, got: String| {
            Err(Error::corrupt(format_args!("{}, byte {at}", path.display()), expected, got))
        };
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(Error::io("read", &path))?;
        if !has_head(&bytes) {
            return damaged(0, "the head of a log", "other bytes".to_owned());
        }
        let layout = u32_at(&bytes, 8);
        if layout != LAYOUT {
            let what = path.display().to_string();
            return Err(Error::TooNew { what, got: layout, newest: LAYOUT });
        }
        if u64_at(&bytes, 12) != self.first {
            let got = format!("record {}", u64_at(&bytes, 12));
            return damaged(12, "the record that its name says", got);
        }
        let mut at = HEAD;
        while at < bytes.len() {
            let Some(frame) = Frame::read(&bytes[at..]) else {
                if !self.is_last || holds_frame(&bytes[at + 1..], *expected) {
                    return damaged(at, "a frame with its checksum", "other bytes".to_owned());
                }
                found.torn += (bytes.len() - at) as u64;
                break;
            };
            if frame.first != *expected {
                let got = format!("record {}", frame.first);
                return damaged(at, &format!("record {expected}"), got);
            }
            *expected += u64::from(frame.n);
            if from <= frame.first {
                replay(frame.first, frame.n, frame.records)?;
                found.replayed += u64::from(frame.n);
            } else if from < *expected {
                let got = format!("records {} to {}", frame.first, *expected - 1);
                return damaged(at, &format!("a frame that starts at record {from}"), got);
            }
            at += frame.len();
        }
        Ok(at as u64)
    }
}
