//! What the registry costs beside the disk's own time.
//!
//! `cargo bench -p mm-core --bench registry [FOLDER]` publishes and opens a model of 10 MB, beside
//! a plain write with `fsync` and a plain read of the same bytes in the same folder (by default the
//! system's for temporary files), lists 1,000 versions, and moves and polls an alias. Best and
//! median of the repetitions, in milliseconds; reads come from the system's cache.

#![expect(clippy::print_stdout, reason = "the result is for people")]

use std::{
    fs::{self, File},
    hint::black_box,
    io::Write as _,
    path::{Path, PathBuf},
    time::Instant,
};

use mm_core::{
    BodyReader, BodyWriter, Catalog, Envelope, Error, Frame, Matrix, Model, Persist, Result,
    Schema, Signature, Tag, Task,
    registry::{CHAMPION, Durability, LocalRegistry, NewVersion, Registry, Selector},
};

const SIZE: usize = 10_000_000;
const VERSIONS: u32 = 1000;

/// A model of so many bytes.
#[derive(Debug)]
struct Ballast {
    signature: Signature,
    bytes: Vec<u8>,
}

impl Ballast {
    fn new(bytes: Vec<u8>) -> Self {
        Self { signature: Signature::new(Schema::numeric(1), Task::Regression), bytes }
    }
}

impl Model for Ballast {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, _: &Frame, _: &mut Matrix) -> Result<()> {
        Ok(())
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }
}

impl Persist for Ballast {
    const TAG: Tag = Tag::new("bench.ballast", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.bytes(&self.bytes);
        Ok(())
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        Ok(Self::new(body.bytes()?.to_vec()))
    }
}

/// Bytes that no file system can compress or share, another block for each `seed`.
fn noise(seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..SIZE / 8).flat_map(|_| next()).collect()
}

/// Best and median of the times of `act`, in milliseconds; `prepare` is not timed.
fn time<T>(
    repetitions: u32,
    mut prepare: impl FnMut(u32) -> T,
    mut act: impl FnMut(T),
) -> [f64; 2] {
    let mut times: Vec<f64> = (0..repetitions)
        .map(|i| {
            let input = prepare(i);
            let start = Instant::now();
            act(input);
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    [times[0], times[times.len() / 2]]
}

fn report(what: &str, [best, median]: [f64; 2]) {
    println!("{what:<44} best {best:8.3} ms   median {median:8.3} ms");
}

fn write_and_sync(path: &Path, bytes: &[u8]) {
    let mut file = File::create_new(path).expect("creates");
    file.write_all(bytes).expect("writes");
    file.sync_all().expect("syncs");
}

fn main() -> Result<(), Error> {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let parent = given.map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = parent.join(format!("mm-registry-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("creates");
    let registry = LocalRegistry::open(folder.join("registry"))?;
    let catalog = Catalog::default().with::<Ballast>();
    let envelope = |seed| Ballast::new(noise(seed)).to_envelope().expect("seals");
    println!("{SIZE} bytes in {}", folder.display());

    // Turn by turn, so that a busy disk is busy for both.
    let mut turn = 0;
    for round in ["first", "second"] {
        let raw = time(
            15,
            |i| (folder.join(format!("raw-{round}-{i}")), envelope(100 + i).into_bytes()),
            |(path, bytes)| write_and_sync(&path, &bytes),
        );
        report("plain write and fsync", raw);
        let publish = time(
            15,
            |_| {
                turn += 1;
                NewVersion::new(envelope(200 + turn))
            },
            |new| drop(registry.publish("big", new).expect("publishes")),
        );
        report("publish", publish);
    }
    let path = folder.join("raw-first-0");
    let read = |()| assert!(SIZE < black_box(fs::read(&path)).expect("there").len());
    report("plain read", time(30, |_| (), read));
    let bytes = |()| drop(black_box(registry.bytes("big", &Selector::Latest).expect("reads")));
    report("read and check (bytes)", time(30, |_| (), bytes));
    let open =
        |()| drop(black_box(registry.open("big", &Selector::Latest, &catalog)).expect("opens"));
    report("open", time(30, |_| (), open));

    let fast = registry.clone().with_durability(Durability::Fast);
    for i in 0..VERSIONS {
        let model = Ballast::new(i.to_le_bytes().to_vec());
        let new = NewVersion::of(&model)?.with_metric("auc", f64::from(i) / 7.0);
        fast.publish("small", new.with_metric("brier", 0.1).with_tag("branch", "main"))?;
    }
    let list = |()| assert_eq!(registry.versions("small").map(|all| all.len()).ok(), Some(1000));
    report("list 1,000 versions", time(30, |_| (), list));
    let latest = |()| drop(registry.resolve("small", &Selector::Latest).expect("there"));
    report("resolve `latest` among 1,000", time(30, |_| (), latest));
    let promote = |i| drop(registry.promote("small", i + 1, "bench", "").expect("promotes"));
    report("move an alias, durably", time(30, |i| i, promote));
    let last = registry.alias("small", CHAMPION)?.map_or(0, |entry| entry.sequence);
    let poll = |()| assert!(!registry.has_moved("small", CHAMPION, last).expect("reads"));
    report("ask whether an alias moved", time(1000, |_| (), poll));
    report(
        "verify all",
        time(5, |_| (), |()| assert!(registry.verify().expect("runs").is_clean())),
    );
    fs::remove_dir_all(&folder).expect("removes");
    Ok(())
}
