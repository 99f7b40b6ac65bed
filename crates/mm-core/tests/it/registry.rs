//! The embedded registry, from outside: what it keeps, what it refuses, and what several processes
//! and kills do to it. Faults at single calls of the system are tried in the crate itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use mm_core::{
    BodyReader, BodyWriter, BoxModel, Catalog, Envelope, Error, Frame, Matrix, Model, Persist,
    Result, Schema, Signature, Tag, Task,
    registry::{
        AliasAction, AliasEntry, AliasMove, CHALLENGER, CHAMPION, Durability, Expected, Lineage,
        LocalRegistry, MODEL_FILE, NewVersion, Parent, Registry, Selector,
    },
};
use proptest::prelude::*;

/// A model that always says the same.
#[derive(Debug)]
struct Constant {
    signature: Signature,
    value: f64,
    ballast: Vec<u8>,
}

impl Constant {
    fn new(value: f64) -> Self {
        let signature = Signature::new(Schema::numeric(1), Task::Regression);
        Self { signature, value, ballast: Vec::new() }
    }
}

impl Model for Constant {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, _: &Frame, out: &mut Matrix) -> Result<()> {
        out.values_mut().fill(self.value);
        Ok(())
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }
}

impl Persist for Constant {
    const TAG: Tag = Tag::new("test.constant", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.numbers(&[self.value]);
        body.bytes(&self.ballast);
        Ok(())
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        let value = body.numbers()?[0];
        Ok(Self { ballast: body.bytes()?.to_vec(), ..Self::new(value) })
    }
}

fn catalog() -> Catalog {
    Catalog::default().with::<Constant>()
}

fn constant(value: f64) -> NewVersion {
    NewVersion::of(&Constant::new(value)).expect("seals")
}

fn value(model: &BoxModel) -> f64 {
    model.downcast_ref::<Constant>().expect("a constant").value
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mm-registry-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the temporary folder can be written");
        Self(path)
    }

    fn root(&self) -> PathBuf {
        self.0.join("registry")
    }

    /// A registry that does not wait for the disk.
    fn registry(&self) -> LocalRegistry {
        let registry = LocalRegistry::open(self.root()).expect("creates");
        registry.with_durability(Durability::Fast)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Every file below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("readable").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[track_caller]
fn assert_clean(registry: &LocalRegistry) {
    let report = registry.verify().expect("verifies");
    assert!(report.is_clean(), "{report}");
}

fn targets(history: &[AliasEntry]) -> Vec<Option<u32>> {
    history.iter().map(|entry| entry.to).collect()
}

#[test]
fn what_was_published_comes_back() {
    let folder = Folder::new();
    let registry: Box<dyn Registry> = Box::new(folder.registry());
    let lineage = Lineage::default().with(|l| {
        l.data = Some("f00d".repeat(16));
        l.plan = Some("[task]\nkind = \"regression\"\n".to_owned());
        l.params = serde_json::json!({"trees": 500, "rate": 0.1});
        l.seed = Some(u64::MAX);
        l.parents = vec![Parent { name: "base".to_owned(), number: 4 }];
    });
    let mut new = constant(0.1)
        .with_file("native/model.txt", b"tree".to_vec())
        .expect("a free path")
        .with_metric("rmse", 0.1 + 0.2)
        .with_metric("r2", f64::NEG_INFINITY)
        .with_metric("auc", f64::NAN)
        .with_metric("count", 3.0)
        .with_tag("branch", "main")
        .with_notes("ψ — first")
        .with_lineage(lineage.clone());
    new.created_ms = Some(-5);
    let version = registry.publish("iris", new).expect("publishes");
    assert_eq!(version.to_string(), "iris@1");

    let read = registry.manifest("iris", 1).expect("reads");
    assert!(read.metrics["auc"].is_nan());
    assert_eq!(read.metrics["rmse"], 0.1 + 0.2);
    assert_eq!(read.metrics["r2"], f64::NEG_INFINITY);
    assert_eq!(read.metrics["count"], 3.0);
    assert_eq!(read.lineage, lineage);
    assert_eq!(read.lineage.crate_version, env!("CARGO_PKG_VERSION"));
    assert_eq!((read.created_ms, read.notes.as_str()), (-5, "ψ — first"));
    assert_eq!(read.tags, BTreeMap::from([("branch".to_owned(), "main".to_owned())]));
    assert_eq!(registry.read(&read, "native/model.txt").expect("reads"), b"tree");
    let paths: Vec<&str> = read.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, [MODEL_FILE, "native/model.txt"]);
    let (model, opened) = registry.open("iris", &Selector::Latest, &catalog()).expect("opens");
    assert_eq!((value(&model), opened.number), (0.1, 1));
}

#[test]
fn a_selector_is_a_number_an_alias_or_the_latest() {
    let folder = Folder::new();
    let registry = folder.registry();
    for i in 1..=3 {
        registry.publish("iris", constant(f64::from(i))).expect("publishes");
    }
    registry.publish("wine", constant(9.0)).expect("publishes");
    registry.promote("iris", 2, "test", "").expect("promotes");
    for (text, expected) in [("1", 1.0), (CHAMPION, 2.0), ("latest", 3.0)] {
        let selector = Selector::from(text);
        assert_eq!(selector.to_string(), text);
        let (model, _) = registry.open("iris", &selector, &catalog()).expect("opens");
        assert_eq!(value(&model), expected);
    }
    assert_eq!(registry.names().expect("lists"), ["iris", "wine"]);
    let numbers: Vec<u32> =
        registry.versions("iris").expect("lists").iter().map(|version| version.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    for (name, selector, message) in [
        ("iris", "4", "no version `iris@4`"),
        ("iris", "0", "no version `iris@0`"),
        ("iris", "none", "no alias `iris@none`"),
        ("oak", "latest", "no model `oak`"),
        ("oak", "1", "no model `oak`"),
        ("oak", "none", "no model `oak`"),
    ] {
        let err = registry.resolve(name, &selector.into()).expect_err("is not there");
        assert_eq!(err.to_string(), message);
    }
    let version = registry.manifest("iris", 1).expect("there");
    let err = registry.read(&version, "report.txt").expect_err("is not there");
    assert_eq!(err.to_string(), "no file `iris@1/report.txt`");
    let err = registry.open("iris", &1.into(), &Catalog::default()).expect_err("no loader");
    assert!(err.chain().starts_with("in iris@1: no loader for model tag `test.constant`"), "{err}");
}

#[test]
fn names_that_could_lead_elsewhere_are_refused() {
    let folder = Folder::new();
    let registry = folder.registry();
    registry.publish("iris", constant(1.0)).expect("publishes");
    let long = "a".repeat(101);
    for bad in ["", ".", "..", "../x", "a/b", "a\\b", "/a", "A", "é", "-a", ".a", "a b", &long] {
        assert!(matches!(registry.publish(bad, constant(1.0)), Err(Error::Data { .. })), "{bad}");
        assert!(matches!(registry.versions(bad), Err(Error::Data { .. })), "{bad}");
        let moved = registry.move_alias("iris", bad, &AliasMove::to(1));
        assert!(matches!(moved, Err(Error::Data { .. })), "{bad}");
        assert!(matches!(registry.alias(bad, "x"), Err(Error::Data { .. })), "{bad}");
    }
    for bad in ["latest", "7", "7x"] {
        let moved = registry.move_alias("iris", bad, &AliasMove::to(1));
        assert!(matches!(moved, Err(Error::Data { .. })), "{bad}: a selector would not find it");
    }
    let err = registry.publish("Iris", constant(1.0)).expect_err("upper case");
    assert_eq!(
        err.to_string(),
        "name of a model: expected a letter or digit, then lower-case letters, digits, `.`, `_`, \
         `-`, in all at most 100 characters, got \"Iris\""
    );
    for bad in ["", "..", "a/../b", "/a", "a//b", "a/", "a\\b", "é", MODEL_FILE] {
        let result = constant(1.0).with_file(bad, Vec::new());
        assert!(matches!(result, Err(Error::Data { .. })), "{bad}");
    }
    assert!(NewVersion::from_bytes(b"no envelope".to_vec()).is_err());
    assert_eq!(registry.names().expect("lists"), ["iris"]);
}

#[test]
fn an_alias_moves_only_from_where_it_is_expected() {
    let folder = Folder::new();
    let registry = folder.registry();
    for i in 1..=3 {
        registry.publish("iris", constant(f64::from(i))).expect("publishes");
    }
    let shift = |to: AliasMove| registry.move_alias("iris", CHALLENGER, &to);
    let conflict = |to: AliasMove, message: &str| match shift(to).expect_err("a conflict") {
        e @ Error::Conflict { .. } => assert_eq!(e.to_string(), message),
        e => panic!("{e}"),
    };
    conflict(
        AliasMove::to(1).expecting(2),
        "alias `iris@challenger` changed meanwhile: expected version 2, found nothing (entry 0)",
    );
    let first = shift(AliasMove::to(1).expecting_nothing().by("ann").because("new")).expect("free");
    assert_eq!((first.sequence, first.from, first.to), (1, None, Some(1)));
    assert_eq!((first.actor.as_str(), first.reason.as_str()), ("ann", "new"));
    conflict(
        AliasMove::to(2).expecting_nothing(),
        "alias `iris@challenger` changed meanwhile: expected nothing, found version 1 (entry 1)",
    );
    assert_eq!(shift(AliasMove::to(1)).expect("there already"), first, "nothing is written");
    let second = shift(AliasMove::to(2).expecting(1)).expect("as expected");
    assert_eq!((second.sequence, second.from, second.to), (2, Some(1), Some(2)));
    let mut stale = AliasMove::to(3);
    stale.expected = Expected::Sequence(1);
    conflict(
        stale,
        "alias `iris@challenger` changed meanwhile: expected entry 1, found version 2 (entry 2)",
    );
    let err = shift(AliasMove::to(4)).expect_err("no such version");
    assert_eq!(err.to_string(), "no version `iris@4`");
    shift(AliasMove::nowhere().expecting(2)).expect("as expected");
    assert!(registry.aliases("iris").expect("lists").is_empty());
    let history = registry.alias_history("iris", CHALLENGER).expect("reads");
    assert_eq!(targets(&history), [Some(1), Some(2), None]);
    assert_eq!(registry.alias("iris", "other").expect("reads"), None);
    let err = registry.move_alias("iris", "other", &AliasMove::nowhere()).expect_err("never was");
    assert_eq!(err.to_string(), "no alias `iris@other`");
}

#[test]
fn a_service_sees_that_an_alias_moved() {
    let folder = Folder::new();
    let registry = folder.registry();
    let moved = |since| registry.has_moved("iris", CHAMPION, since).expect("reads");
    assert!(!moved(0));
    for i in 1..=2 {
        registry.publish("iris", constant(f64::from(i))).expect("publishes");
    }
    assert!(!moved(0));
    let first = registry.promote("iris", 1, "test", "").expect("promotes");
    assert!(moved(0) && !moved(first.sequence));
    registry.promote("iris", 2, "test", "").expect("promotes");
    assert!(moved(first.sequence) && !moved(2));
}

#[test]
fn rolling_back_is_an_undo_that_is_recorded() {
    let folder = Folder::new();
    let registry = folder.registry();
    for i in 1..=3 {
        registry.publish("iris", constant(f64::from(i))).expect("publishes");
        registry.promote("iris", i, "ci", "newer").expect("promotes");
    }
    let back = || registry.rollback("iris", CHAMPION, "ann", "worse");
    let entry = back().expect("2 came before");
    assert_eq!((entry.from, entry.to, entry.action), (Some(3), Some(2), AliasAction::Rollback));
    assert_eq!(back().expect("1 came before that").to, Some(1));
    let err = back().expect_err("nothing came before");
    assert_eq!(err.to_string(), "no earlier target of alias `iris@champion`");
    registry.promote("iris", 3, "ci", "better after all").expect("promotes");
    assert_eq!(back().expect("1 came before").to, Some(1));
    registry.move_alias("iris", CHAMPION, &AliasMove::nowhere()).expect("moves");
    assert_eq!(back().expect("returns from nowhere").to, Some(1));
    let history = registry.alias_history("iris", CHAMPION).expect("reads");
    let expected = [1, 2, 3, 2, 1, 3, 1, 0, 1].map(|to| (to != 0).then_some(to));
    assert_eq!(targets(&history), expected);
    assert_clean(&registry);
    assert!(registry.rollback("iris", "other", "ann", "").is_err());
}

#[test]
fn an_alias_never_moves_to_a_damaged_version() {
    let folder = Folder::new();
    let registry = folder.registry();
    for i in 1..=2 {
        registry.publish("iris", constant(f64::from(i))).expect("publishes");
        registry.promote("iris", i, "ci", "").expect("promotes");
    }
    let digest = registry.manifest("iris", 1).expect("there").files[0].sha256.clone();
    let object = registry.folder().join("objects/sha256").join(&digest[..2]).join(&digest[2..]);
    flip(&object, 30);
    for result in
        [registry.rollback("iris", CHAMPION, "ann", ""), registry.promote("iris", 1, "ann", "")]
    {
        let Err(Error::Corrupt { what, .. }) = result else { panic!("{result:?}") };
        assert_eq!(what, format!("{} (`model.mm` of `iris@1`)", object.display()));
    }
    assert_eq!(registry.alias("iris", CHAMPION).expect("reads").expect("set").to, Some(2));
    fs::remove_file(&object).expect("there");
    let result = registry.rollback("iris", CHAMPION, "ann", "");
    assert!(matches!(&result, Err(Error::Corrupt { got, .. }) if got == "no file"), "{result:?}");
}

#[test]
fn a_retired_version_is_out_of_use_but_not_forgotten() {
    let folder = Folder::new();
    let registry = folder.registry();
    for i in 1..=3 {
        registry.publish("iris", constant(f64::from(i))).expect("publishes");
        registry.promote("iris", i, "ci", "").expect("promotes");
    }
    let err = registry.retire("iris", 3, "ann", "").expect_err("in use");
    assert_eq!(
        err.to_string(),
        "version `iris@3` changed meanwhile: expected no alias that points at it, found `champion`"
    );
    let version = registry.retire("iris", 2, "ann", "wrong labels").expect("free");
    let retired = version.retired.expect("retired");
    assert_eq!((retired.actor.as_str(), retired.reason.as_str()), ("ann", "wrong labels"));
    let again = registry.retire("iris", 2, "bob", "again").expect("is already");
    assert_eq!(again.retired.expect("retired").actor, "ann");

    let gone = "no version `iris@2 (retired: wrong labels)`";
    assert_eq!(registry.bytes("iris", &2.into()).expect_err("retired").to_string(), gone);
    assert_eq!(registry.promote("iris", 2, "ci", "").expect_err("retired").to_string(), gone);
    let err = registry.rollback("iris", CHAMPION, "ann", "").expect_err("retired");
    assert_eq!(err.to_string(), gone);
    let marks: Vec<bool> = registry
        .versions("iris")
        .expect("lists")
        .iter()
        .map(|version| version.retired.is_some())
        .collect();
    assert_eq!(marks, [false, true, false]);
    let swept = registry.gc(Duration::ZERO).expect("sweeps");
    assert_eq!((swept.objects, swept.temps), (1, 0));
    assert_clean(&registry);

    registry.move_alias("iris", CHAMPION, &AliasMove::nowhere()).expect("moves");
    registry.retire("iris", 3, "ann", "").expect("free");
    assert_eq!(registry.resolve("iris", &Selector::Latest).expect("one is left").number, 1);
    assert_eq!(registry.publish("iris", constant(4.0)).expect("publishes").number, 4);
}

#[test]
fn a_sweep_spares_what_is_young_and_stops_at_damage() {
    let folder = Folder::new();
    let registry = folder.registry();
    for i in 1..=2 {
        registry.publish("iris", constant(f64::from(i))).expect("publishes");
    }
    registry.retire("iris", 1, "ann", "").expect("free");
    fs::write(registry.folder().join("tmp/unfinished"), "half").expect("writes");
    assert_eq!(registry.gc(Duration::from_hours(1)).expect("sweeps").bytes, 0);
    let manifest = registry.folder().join("models/iris/versions/00000002.json");
    let intact = fs::read(&manifest).expect("there");
    flip(&manifest, 100);
    assert!(matches!(registry.gc(Duration::ZERO), Err(Error::Corrupt { .. })));
    fs::write(&manifest, &intact).expect("writes");
    let first = registry.folder().join("models/iris/versions/00000001.json");
    let moved = registry.folder().join("elsewhere");
    fs::rename(&first, &moved).expect("moves");
    let Err(Error::Corrupt { what, .. }) = registry.gc(Duration::ZERO) else { panic!("missing") };
    assert_eq!(what, first.display().to_string());
    fs::rename(&moved, &first).expect("moves");
    let swept = registry.gc(Duration::ZERO).expect("sweeps");
    assert_eq!((swept.objects, swept.temps), (1, 1));
    assert_clean(&registry);
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("there");
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("writes");
}

#[test]
fn one_flipped_byte_in_any_file_is_found_and_the_file_is_named() {
    let folder = Folder::new();
    let registry = folder.registry();
    for i in 1..=3 {
        let new = constant(f64::from(i)).with_file("a.txt", vec![7; 20]).expect("a free path");
        registry.publish("iris", new).expect("publishes");
        registry.promote("iris", i, "ci", "").expect("promotes");
    }
    registry.retire("iris", 1, "ann", "").expect("free");
    registry.gc(Duration::ZERO).expect("sweeps");
    let all = files(registry.folder());
    let count = |part: &str| all.iter().filter(|p| p.to_string_lossy().contains(part)).count();
    assert_eq!([count("/objects/"), count("/versions/"), count("/retired/")], [3, 3, 1]);
    assert_eq!([count("/aliases/"), count("registry.json")], [3, 1]);
    for path in all.iter().filter(|path| !path.ends_with("lock")) {
        let intact = fs::read(path).expect("there");
        for at in 0..intact.len() {
            flip(path, at);
            let damage = match LocalRegistry::open(registry.folder()) {
                Ok(registry) => registry.verify().expect("verifies").damage,
                Err(e) => vec![e],
            };
            let name = path.to_str().expect("UTF-8");
            assert!(!damage.is_empty(), "byte {at} of {name}");
            for error in damage {
                let named =
                    matches!(error.root(), Error::Corrupt { what, .. } if what.starts_with(name));
                assert!(named, "byte {at} of {name}: {}", error.chain());
            }
            fs::write(path, &intact).expect("writes");
        }
    }
    assert_clean(&registry);
}

#[test]
fn loading_a_damaged_version_fails_by_name_and_others_still_open() {
    let folder = Folder::new();
    let registry = folder.registry();
    for i in 1..=2 {
        registry.publish("iris", constant(f64::from(i))).expect("publishes");
    }
    let paths = files(&registry.folder().join("objects"));
    let manifest = registry.folder().join("models/iris/versions/00000001.json");
    let first = registry.manifest("iris", 1).expect("there").files[0].sha256.clone();
    let object = paths
        .iter()
        .find(|path| first.ends_with(path.file_name().and_then(|n| n.to_str()).expect("UTF-8")));
    for path in [object.expect("stored"), &manifest] {
        let intact = fs::read(path).expect("there");
        for damage in [&intact[..intact.len() - 1], b""] {
            fs::write(path, damage).expect("writes");
            let result = registry.open("iris", &1.into(), &catalog());
            let Err(Error::Corrupt { what, .. }) = result else { panic!("{result:?}") };
            assert!(what.starts_with(path.to_str().expect("UTF-8")), "{what}");
            registry.open("iris", &2.into(), &catalog()).expect("intact");
            registry.open("iris", &Selector::Latest, &catalog()).expect("intact");
        }
        fs::write(path, &intact).expect("writes");
    }
    fs::copy(&manifest, manifest.with_file_name("00000003.json")).expect("copies");
    let err = registry.manifest("iris", 3).expect_err("a copy of another version");
    assert!(err.to_string().ends_with("is damaged: expected iris@3, got iris@1"), "{err}");
}

#[test]
fn verify_finds_gaps_broken_chains_and_aliases_of_nothing() {
    let folder = Folder::new();
    let registry = folder.registry();
    for i in 1..=3 {
        registry.publish("iris", constant(f64::from(i))).expect("publishes");
        registry.promote("iris", i, "ci", "").expect("promotes");
    }
    let model = registry.folder().join("models/iris");
    for (path, complaints) in [("versions/00000002.json", 1), ("aliases/champion/00000001.json", 1)]
    {
        let intact = fs::read(model.join(path)).expect("there");
        fs::remove_file(model.join(path)).expect("there");
        let report = registry.verify().expect("verifies");
        assert_eq!(report.damage.len(), complaints, "{report}");
        assert!(report.to_string().contains(path), "{report}");
        fs::write(model.join(path), intact).expect("writes");
    }
    fs::remove_file(model.join("versions/00000003.json")).expect("there");
    let report = registry.verify().expect("verifies").to_string();
    assert!(report.contains("no version `iris@3`"), "{report}");
}

#[test]
fn a_folder_with_other_things_in_it_is_not_made_a_registry() {
    let folder = Folder::new();
    fs::write(folder.0.join("thesis.tex"), "").expect("writes");
    let err = LocalRegistry::open(&folder.0).expect_err("foreign");
    let place = folder.0.display();
    let expected =
        format!("folder {place}: expected an empty folder or a registry, got \"thesis.tex\"");
    assert_eq!(err.to_string(), expected);
    assert_eq!(files(&folder.0).len(), 1, "nothing was written");
    let err = LocalRegistry::open_read_only(&folder.0).expect_err("no registry");
    assert_eq!(err.to_string(), format!("no registry `{place}`"));
}

#[test]
fn a_file_where_a_folder_should_be_is_an_error_with_its_path() {
    let folder = Folder::new();
    let registry = folder.registry();
    registry.publish("iris", constant(1.0)).expect("publishes");
    for part in ["tmp", "models/iris/versions", "models/iris/aliases", "lock"] {
        let (path, aside) = (registry.folder().join(part), registry.folder().join("aside"));
        let existed = path.exists();
        if existed {
            fs::rename(&path, &aside).expect("moves");
        }
        if part == "lock" { fs::create_dir(&path) } else { fs::write(&path, "") }.expect("writes");
        let result = if part.ends_with("aliases") {
            registry.promote("iris", 1, "ci", "").map(drop)
        } else {
            registry.publish("iris", constant(2.0)).map(drop)
        };
        let Err(Error::Io { path: named, .. }) = result else { panic!("{part}: {result:?}") };
        assert!(named.starts_with(&path), "{part}: {}", named.display());
        if part == "lock" { fs::remove_dir(&path) } else { fs::remove_file(&path) }.expect("there");
        if existed {
            fs::rename(&aside, &path).expect("moves");
        }
        assert_eq!(registry.versions("iris").expect("lists").len(), 1, "{part}");
        assert!(registry.aliases("iris").expect("lists").is_empty(), "{part}");
        assert_clean(&registry);
    }
}

#[test]
fn a_read_only_registry_reads_everything_and_writes_nothing() {
    let folder = Folder::new();
    let registry = folder.registry();
    for i in 1..=2 {
        registry.publish("iris", constant(f64::from(i))).expect("publishes");
    }
    registry.promote("iris", 1, "ci", "").expect("promotes");
    let _ = fs::remove_file(registry.folder().join("lock"));
    let before = files(registry.folder());

    let reader = LocalRegistry::open_read_only(registry.folder()).expect("opens");
    let (model, _) = reader.open("iris", &CHAMPION.into(), &catalog()).expect("opens");
    assert_eq!(value(&model), 1.0);
    assert_eq!(reader.versions("iris").expect("lists").len(), 2);
    assert_clean(&reader);
    for refused in [
        reader.publish("iris", constant(3.0)).map(drop),
        reader.promote("iris", 2, "ci", "").map(drop),
        reader.rollback("iris", CHAMPION, "ci", "").map(drop),
        reader.retire("iris", 2, "ci", "").map(drop),
        reader.gc(Duration::ZERO).map(drop),
    ] {
        match refused {
            Err(Error::Io { path, source, .. }) => {
                assert_eq!(path, reader.folder());
                assert_eq!(source.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
            }
            // A rollback finds first that there is nothing to go back to.
            Err(Error::NotFound { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(files(registry.folder()), before);
}

#[test]
fn params_that_could_not_be_read_back_are_refused() {
    let folder = Folder::new();
    let registry = folder.registry();
    let deep = (0..200).fold(serde_json::Value::Null, |inner, _| serde_json::json!([inner]));
    let new = constant(1.0).with_lineage(Lineage::default().with(|l| l.params = deep));
    assert!(matches!(registry.publish("iris", new), Err(Error::Data { .. })));
    assert!(registry.names().expect("lists").is_empty());
    assert!(files(&registry.folder().join("tmp")).is_empty());
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Op {
    Publish(u8),
    Move { to: Option<u32>, expected: Option<u32> },
    Rollback,
    Retire(u32),
    Sweep,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..4_u8).prop_map(Op::Publish),
        4 => (prop::option::weighted(0.9, 1..6_u32), prop::option::of(1..6_u32))
            .prop_map(|(to, expected)| Op::Move { to, expected }),
        2 => Just(Op::Rollback),
        1 => (1..6_u32).prop_map(Op::Retire),
        1 => Just(Op::Sweep),
    ]
}

/// What the registry should say, in a few plain values.
#[derive(Debug, Default)]
struct Oracle {
    values: Vec<u8>,
    retired: BTreeSet<u32>,
    log: Vec<Option<u32>>,
    undo: Vec<u32>,
}

impl Oracle {
    fn now(&self) -> Option<u32> {
        self.log.last().copied().flatten()
    }

    fn is_usable(&self, number: u32) -> bool {
        number as usize <= self.values.len() && !self.retired.contains(&number)
    }

    /// Whether the step succeeds.
    fn apply(&mut self, op: &Op) -> bool {
        match *op {
            Op::Publish(value) => self.values.push(value),
            Op::Move { to, expected } => {
                let admitted = to.is_none_or(|to| self.is_usable(to))
                    && expected.is_none_or(|expected| self.now() == Some(expected))
                    && !self.values.is_empty()
                    && !(to.is_none() && self.log.is_empty());
                if !admitted {
                    return false;
                }
                if self.now() != to {
                    self.log.push(to);
                    if let Some(to) = to
                        && self.undo.last() != Some(&to)
                    {
                        self.undo.push(to);
                    }
                }
            }
            Op::Rollback => {
                let mut undo = self.undo.clone();
                if self.now().is_some() {
                    undo.pop();
                }
                let Some(&to) = undo.last() else { return false };
                if !self.is_usable(to) {
                    return false;
                }
                self.log.push(Some(to));
                self.undo = undo;
            }
            Op::Retire(number) => {
                let exists = number as usize <= self.values.len();
                if !exists || (self.now() == Some(number)) {
                    return false;
                }
                self.retired.insert(number);
            }
            Op::Sweep => {}
        }
        true
    }
}

fn apply(registry: &LocalRegistry, op: &Op) -> Result<()> {
    match *op {
        Op::Publish(value) => registry.publish("m", constant(f64::from(value))).map(drop),
        Op::Move { to, expected } => {
            let mut shift = AliasMove::nowhere();
            shift.to = to;
            shift.expected = expected.map_or(Expected::Anything, Expected::Version);
            registry.move_alias("m", CHAMPION, &shift).map(drop)
        }
        Op::Rollback => registry.rollback("m", CHAMPION, "", "").map(drop),
        Op::Retire(number) => registry.retire("m", number, "", "").map(drop),
        Op::Sweep => registry.gc(Duration::ZERO).map(drop),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Any history gives what a model of a few lines gives, and nothing is damaged.
    #[test]
    fn a_history_is_what_a_simple_model_says(ops in prop::collection::vec(op(), 1..25)) {
        let folder = Folder::new();
        let registry = folder.registry();
        let mut oracle = Oracle::default();
        for op in &ops {
            let result = apply(&registry, op);
            prop_assert_eq!(result.is_ok(), oracle.apply(op), "{:?}: {:?}", op, result);
        }
        let history = registry.alias_history("m", CHAMPION).expect("reads");
        prop_assert_eq!(targets(&history), oracle.log);
        for (number, &expected) in (1..).zip(&oracle.values) {
            let opened = registry.open("m", &number.into(), &catalog());
            prop_assert_eq!(opened.is_err(), oracle.retired.contains(&number));
            if let Ok((model, _)) = opened {
                prop_assert_eq!(value(&model), f64::from(expected));
            }
        }
        let report = registry.verify().expect("verifies");
        prop_assert!(report.is_clean(), "{}", report);
    }
}

// Several processes: this program runs itself, with the name of one test and a task for it.

const TASK: &str = "MM_REGISTRY_TEST_TASK";

/// Starts a process that does `task` and then ends.
fn start(task: &str, root: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "registry::a_child_process_does_its_task",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(TASK, format!("{task}\n{}", root.display()))
        .stdout(Stdio::null())
        .spawn()
        .expect("starts")
}

/// Does what the parent asked for; nothing when it was not started by one.
#[test]
fn a_child_process_does_its_task() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (task, root) = task.split_once('\n').expect("two lines");
    let registry = LocalRegistry::open(root).expect("opens");
    let fast = registry.clone().with_durability(Durability::Fast);
    match task.split_once(' ').expect("a word and a number") {
        ("publish", seed) => {
            let seed: f64 = seed.parse().expect("a number");
            for i in 0..500 {
                fast.publish("iris", constant(seed + f64::from(i))).expect("publishes");
            }
        }
        ("move", seed) => {
            let seed: u32 = seed.parse().expect("a number");
            for i in 0..100 {
                loop {
                    let last = fast.alias("iris", CHAMPION).expect("reads");
                    let from = last.and_then(|entry| entry.to).unwrap_or(1);
                    let to =
                        AliasMove::to(from % 5 + 1).by(format!("{seed}")).because(i.to_string());
                    let to = if from == 1 { to } else { to.expecting(from) };
                    match fast.move_alias("iris", CHAMPION, &to) {
                        Ok(entry)
                            if entry.actor == seed.to_string() && entry.reason == i.to_string() =>
                        {
                            break;
                        }
                        Ok(_) | Err(Error::Conflict { .. }) => {} // Somebody else was faster.
                        Err(e) => panic!("{}", e.chain()),
                    }
                }
            }
        }
        ("toil", "0") => toil(&registry),
        ("toil", _) => toil(&fast),
        (other, _) => panic!("no task {other}"),
    }
}

fn succeed(children: Vec<Child>) {
    for mut child in children {
        assert!(child.wait().expect("ends").success());
    }
}

#[test]
fn two_processes_publish_a_thousand_versions_and_none_is_lost() {
    let folder = Folder::new();
    let registry = folder.registry();
    succeed([0, 1000].map(|seed| start(&format!("publish {seed}"), &folder.root())).into());
    let versions = registry.versions("iris").expect("lists");
    let numbers: Vec<u32> = versions.iter().map(|version| version.number).collect();
    assert_eq!(numbers, (1..=1000).collect::<Vec<_>>());
    let open = |number: u32| registry.open("iris", &number.into(), &catalog()).expect("opens").0;
    let values: BTreeSet<u64> = (1..=1000).map(|number| value(&open(number)) as u64).collect();
    assert_eq!(values, (0..500).chain(1000..1500).collect());
    assert_clean(&registry);
    assert_eq!(registry.gc(Duration::ZERO).expect("sweeps").bytes, 0, "nothing is left over");
}

#[test]
fn two_processes_move_an_alias_two_hundred_times_and_every_move_is_recorded_once() {
    let folder = Folder::new();
    let registry = folder.registry();
    for i in 0..5 {
        registry.publish("iris", constant(f64::from(i))).expect("publishes");
    }
    succeed([0, 1].map(|seed| start(&format!("move {seed}"), &folder.root())).into());
    let history = registry.alias_history("iris", CHAMPION).expect("reads");
    let moves: BTreeSet<(&str, &str)> =
        history.iter().map(|entry| (entry.actor.as_str(), entry.reason.as_str())).collect();
    assert_eq!((history.len(), moves.len()), (200, 200));
    assert_clean(&registry);
}

/// Publishes, promotes, rolls back, retires, and sweeps until it is killed, and says after each
/// step what was done.
fn toil(registry: &LocalRegistry) {
    let path = registry.folder().join("../acknowledged");
    let mut log = fs::File::options().append(true).create(true).open(path).expect("opens");
    let mut acknowledge = |line: String| log.write_all(line.as_bytes()).expect("writes");
    for step in 0_u32.. {
        let mut model = Constant::new(f64::from(step));
        model.ballast = vec![step as u8; 20_000];
        let version =
            registry.publish("iris", NewVersion::of(&model).expect("seals")).expect("publishes");
        acknowledge(format!("version {} {step}\n", version.number));
        let entry = registry.promote("iris", version.number, "child", "newer").expect("promotes");
        acknowledge(format!("entry {} {}\n", entry.sequence, version.number));
        if step % 3 == 1 {
            let entry = registry.rollback("iris", CHAMPION, "child", "worse").expect("rolls back");
            let to = entry.to.expect("a version");
            acknowledge(format!("entry {} {to}\n", entry.sequence));
            registry.retire("iris", version.number, "child", "worse").expect("retires");
            acknowledge(format!("retired {} 0\n", version.number));
            registry.gc(Duration::ZERO).expect("sweeps");
        }
    }
}

/// Kills a toiling process, then checks that all it said it did was done, and nothing by halves.
fn kill_and_check(folder: &Folder, durability: usize, pause: Duration) {
    let acknowledged = folder.0.join("acknowledged");
    let length = || fs::metadata(&acknowledged).map_or(0, |meta| meta.len());
    let before = length();
    let mut child = start(&format!("toil {durability}"), &folder.root());
    while length() == before {
        assert!(child.try_wait().expect("runs").is_none(), "the child failed by itself");
        thread::sleep(Duration::from_micros(200));
    }
    thread::sleep(pause);
    child.kill().expect("kills");
    child.wait().expect("ends");

    let registry = folder.registry();
    assert_clean(&registry);
    let history = registry.alias_history("iris", CHAMPION).expect("reads");
    let versions = registry.versions("iris").expect("lists");
    let text = fs::read_to_string(&acknowledged).expect("there");
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number: usize = words[1].parse().expect("a number");
        match words[0] {
            "version" => assert_eq!(versions[number - 1].number as usize, number),
            "entry" => assert_eq!(history[number - 1].to, words[2].parse().ok(), "{line}"),
            "retired" => assert!(versions[number - 1].retired.is_some(), "{line}"),
            other => panic!("{other}"),
        }
        if words[0] == "version" && versions[number - 1].retired.is_none() {
            let selector = Selector::Version(number as u32);
            let (model, _) = registry.open("iris", &selector, &catalog()).expect("opens");
            assert_eq!(value(&model), words[2].parse::<f64>().expect("a number"));
        }
    }
    if !history.is_empty() {
        registry.open("iris", &CHAMPION.into(), &catalog()).expect("the champion opens");
    }
    registry.gc(Duration::ZERO).expect("sweeps");
    assert!(files(&registry.folder().join("tmp")).is_empty(), "a sweep takes what was left over");
    assert_clean(&registry);
}

#[test]
fn two_hundred_kills_lose_nothing_that_was_acknowledged() {
    let mut random = 1_u64;
    for round in 0..200 {
        let folder = Folder::new();
        // Two kills of one registry, so that the second finds what the first left.
        for _ in 0..2 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pause = Duration::from_micros((random >> 33) % 6000);
            kill_and_check(&folder, round % 2, pause);
        }
    }
}
