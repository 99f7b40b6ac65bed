//! What becomes of the store when any one call of the system fails, is the last before the process
//! or the machine dies, or has another process act just before it. Every call of every operation
//! is tried.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{
    AliasMove, CHAMPION, Durability, LocalRegistry, MODEL_FILE, NewVersion, Registry as _,
    disk::{Disk, Hook, Step},
    record,
};
use crate::error::{Error, Result};

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mm-registry-faults-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the temporary folder can be written");
        Self(path)
    }

    /// Not there at first: making it is part of making a registry.
    fn root(&self) -> PathBuf {
        self.0.join("parent/registry")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A registry that forces nothing to the disk.
fn scratch(folder: &Folder) -> LocalRegistry {
    let disk = Disk { durability: Durability::Fast, ..Disk::default() };
    LocalRegistry::open_on(disk, &folder.root()).expect("creates")
}

/// A version whose model file is an envelope around `body`.
fn version(body: &str) -> NewVersion {
    let mut bytes = b"mm-model\x01\0\x01\0\x04\0".to_vec();
    bytes.extend((body.len() as u64).to_le_bytes());
    bytes.extend(b"test");
    bytes.extend(body.as_bytes());
    let checksum = Sha256::digest(&bytes);
    bytes.extend(checksum);
    NewVersion::from_bytes(bytes)
        .expect("an envelope")
        .with_file("report.txt", format!("report of {body}").into_bytes())
        .expect("a free path")
}

/// Everything that a reader can see, except times.
fn state(root: &Path) -> String {
    let registry = match LocalRegistry::open_read_only(root) {
        Err(Error::NotFound { .. }) => return "no registry".to_owned(),
        opened => opened.expect("a registry"),
    };
    let mut text = String::new();
    for name in registry.names().expect("names") {
        for version in registry.versions(&name).expect("versions") {
            write!(text, "{version} {:?}", version.retired.is_some()).expect("text");
            for file in &version.files {
                if version.retired.is_none() {
                    registry.read(&version, &file.path).expect("intact");
                }
                let _ = write!(text, " {} {}", file.path, file.sha256);
            }
            text.push('\n');
        }
        for alias in [CHAMPION, "challenger"] {
            for entry in registry.alias_history(&name, alias).expect("history") {
                let _ = writeln!(text, "{alias} {:?} → {:?}", entry.from, entry.to);
            }
        }
    }
    let report = registry.verify().expect("verifies");
    assert!(report.is_clean(), "{report}");
    text
}

type Act = fn(&LocalRegistry) -> Result<()>;

/// An operation, after `prepare`.
struct Scene {
    what: &'static str,
    prepare: Act,
    act: Act,
}

/// Three versions, of which the first two share their files; `champion` went from 1 to 2.
fn some_history(registry: &LocalRegistry) -> Result<()> {
    registry.publish("iris", version("a"))?;
    registry.publish("iris", version("a"))?;
    registry.publish("iris", version("b"))?;
    registry.promote("iris", 1, "test", "first")?;
    registry.promote("iris", 2, "test", "second")?;
    Ok(())
}

const SCENES: &[Scene] = &[
    Scene { what: "create", prepare: |_| Ok(()), act: |_| Ok(()) },
    Scene {
        what: "publish the first version",
        prepare: |_| Ok(()),
        act: |registry| registry.publish("iris", version("a")).map(drop),
    },
    Scene {
        what: "publish a version that shares a file",
        prepare: some_history,
        act: |registry| {
            let shared = version("c").with_file("shared.txt", b"report of b".to_vec())?;
            registry.publish("iris", shared).map(drop)
        },
    },
    Scene {
        what: "set a new alias",
        prepare: some_history,
        act: |registry| {
            let to = AliasMove::to(3).expecting_nothing();
            registry.move_alias("iris", "challenger", &to).map(drop)
        },
    },
    Scene {
        what: "promote",
        prepare: some_history,
        act: |registry| registry.promote("iris", 3, "test", "third").map(drop),
    },
    Scene {
        what: "roll back",
        prepare: some_history,
        act: |registry| registry.rollback("iris", CHAMPION, "test", "worse").map(drop),
    },
    Scene {
        what: "retire",
        prepare: some_history,
        act: |registry| registry.retire("iris", 3, "test", "bad data").map(drop),
    },
    Scene {
        what: "sweep",
        prepare: |registry| {
            some_history(registry)?;
            fs::write(registry.folder().join("tmp/left"), "over").expect("writes");
            registry.retire("iris", 3, "test", "bad data").map(drop)
        },
        act: |registry| registry.gc(Duration::ZERO).map(drop),
    },
    Scene {
        what: "read",
        prepare: some_history,
        act: |registry| {
            registry.bytes("iris", &"latest".into())?;
            registry.bytes("iris", &CHAMPION.into())?;
            registry.versions("iris")?;
            registry.aliases("iris").map(drop)
        },
    },
];

impl Scene {
    /// Makes the folder ready: for the creation of a registry there is nothing to make.
    fn prepared(&self) -> Folder {
        let folder = Folder::new();
        if self.what != "create" {
            (self.prepare)(&scratch(&folder))
                .unwrap_or_else(|e| panic!("{}: {}", self.what, e.chain()));
        }
        folder
    }

    fn run(&self, root: &Path, hook: Option<Hook>) -> Result<()> {
        (self.act)(&LocalRegistry::open_on(Disk { hook, ..Disk::default() }, root)?)
    }
}

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// One call, as on a full disk.
    Refusal,
    /// One call and all after it: the process is dead.
    Kill,
    /// As before, and names that were not forced to the disk are gone.
    NamesLost,
    /// As before, and bytes that were not forced to the disk are gone, while the names are there.
    BytesLost,
}

/// What a loss of power would take.
#[derive(Default)]
struct Volatile {
    names: BTreeSet<PathBuf>,
    bytes: BTreeSet<PathBuf>,
}

impl Volatile {
    /// Notes a call that is about to succeed.
    fn note(&mut self, step: Step<'_>) {
        let mut name = |path: &Path| {
            if !path.exists() {
                self.names.insert(path.to_path_buf());
            }
        };
        match step {
            Step::MakeDir(path) => name(path),
            Step::Create(path) => {
                name(path);
                self.bytes.insert(path.to_path_buf());
            }
            Step::Link { from, to } | Step::Rename { from, to } => {
                name(to);
                if self.bytes.contains(from) {
                    self.bytes.insert(to.to_path_buf());
                }
            }
            Step::Sync(path) => drop(self.bytes.remove(path)),
            Step::SyncDir(dir) => self.names.retain(|path| path.parent() != Some(dir)),
            Step::Write | Step::Remove | Step::Read | Step::List | Step::Lock => {}
        }
    }

    fn lose(&self, fault: Fault) {
        if fault == Fault::NamesLost {
            for path in &self.names {
                let _ =
                    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            }
        }
        if fault == Fault::BytesLost {
            for path in self.bytes.iter().filter(|path| path.exists()) {
                fs::write(path, "").expect("empties");
            }
        }
    }
}

/// Runs `scene` with a fault at call `at`; whether there was such a call, and how it ended.
fn run_with(scene: &Scene, root: &Path, fault: Fault, at: usize) -> (bool, Result<()>) {
    let (calls, volatile) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::default()));
    let (count, lost): (_, Arc<Mutex<Volatile>>) = (Arc::clone(&calls), Arc::clone(&volatile));
    let hook: Hook = Arc::new(move |step| {
        let call = count.fetch_add(1, Ordering::Relaxed);
        if call == at || (at < call && fault != Fault::Refusal) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        lost.lock().expect("one thread").note(step);
        Ok(())
    });
    let result = scene.run(root, Some(hook));
    volatile.lock().expect("one thread").lose(fault);
    (at < calls.load(Ordering::Relaxed), result)
}

/// Every fault at every call of every scene leaves the old or the new state, the new one for good
/// if success was reported; what is left over harms nobody and can be swept.
fn check_all(fault: Fault) {
    for scene in SCENES {
        let reference = scene.prepared();
        let old = state(&reference.root());
        scene.run(&reference.root(), None).unwrap_or_else(|e| panic!("{}: {e}", scene.what));
        let new = state(&reference.root());
        for at in 0.. {
            let place = format!("{}, {fault:?} at call {at}", scene.what);
            let folder = scene.prepared();
            let root = folder.root();
            let (hit, result) = run_with(scene, &root, fault, at);
            let after = state(&root);
            match &result {
                Ok(()) => assert_eq!(after, new, "{place}: success was reported"),
                Err(e) => {
                    assert!(
                        matches!(e.root(), Error::Io { path, .. } if path.starts_with(&folder.0)),
                        "{place}: {e}"
                    );
                    assert!(after == old || after == new, "{place}: a mixture:\n{after}");
                }
            }
            if fault == Fault::Refusal && scene.what != "sweep" && result.is_err() {
                let left = fs::read_dir(root.join("tmp")).map_or(0, Iterator::count);
                assert_eq!(left, 0, "{place}: an error cleans up");
            }
            if after != new {
                scene.run(&root, None).unwrap_or_else(|e| panic!("{place}, again: {}", e.chain()));
                assert_eq!(state(&root), new, "{place}: the second attempt succeeds");
            }
            let registry = scratch(&folder);
            registry.gc(Duration::ZERO).expect("sweeps");
            assert_eq!(registry.gc(Duration::ZERO).expect("sweeps").bytes, 0, "{place}");
            assert_eq!(state(&root), new, "{place}: a sweep takes nothing that is in use");
            if !hit {
                assert!(result.is_ok(), "{place}: nothing failed");
                break;
            }
        }
    }
}

#[test]
fn a_refusal_of_any_call_leaves_the_old_or_the_new_state_and_no_litter() {
    check_all(Fault::Refusal);
}

#[test]
fn a_kill_at_any_call_leaves_the_old_or_the_new_state() {
    check_all(Fault::Kill);
}

#[test]
fn a_loss_of_power_at_any_call_leaves_the_old_or_the_new_state_if_names_are_lost() {
    check_all(Fault::NamesLost);
}

#[test]
fn a_loss_of_power_at_any_call_leaves_the_old_or_the_new_state_if_bytes_are_lost() {
    check_all(Fault::BytesLost);
}

/// Runs `act` once for each of its calls, with `rival` acting just before that call, through a
/// registry on which locks do not bind. With `before_lock`, only before the calls up to the lock.
/// Then `check` hears the outcome, and whether the rival has acted; at last it has not.
fn interleave<T>(
    prepare: Act,
    before_lock: bool,
    rival: impl Fn(&LocalRegistry) + Clone + Send + Sync + 'static,
    act: impl Fn(&LocalRegistry) -> T,
    check: impl Fn(&LocalRegistry, T, bool),
) {
    for at in 0.. {
        let folder = Folder::new();
        let (mut hooked, mut other) = (scratch(&folder), scratch(&folder));
        other.disk.ignore_locks = true;
        prepare(&other).expect("prepares");
        let (calls, acted) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
        let (rival, has_acted) = (rival.clone(), Arc::clone(&acted));
        hooked.disk.hook = Some(Arc::new(move |step| {
            if calls.fetch_add(1, Ordering::Relaxed) == at {
                rival(&other);
                has_acted.store(true, Ordering::Relaxed);
            }
            if before_lock && matches!(step, Step::Lock) {
                calls.store(usize::MAX / 2, Ordering::Relaxed); // Beyond every `at`.
            }
            Ok(())
        }));
        let outcome = act(&hooked);
        let (registry, acted) = (scratch(&folder), acted.load(Ordering::Relaxed));
        check(&registry, outcome, acted);
        let report = registry.verify().expect("verifies");
        assert!(report.is_clean(), "call {at}: {report}");
        if !acted {
            assert!(5 < at, "the rival acted before every call");
            break;
        }
    }
}

#[test]
fn of_two_publishers_without_locks_each_gets_a_number_of_its_own() {
    let rival = |other: &LocalRegistry| {
        other.publish("iris", version("rival")).expect("publishes");
    };
    let act = |registry: &LocalRegistry| {
        registry.publish("iris", version("mine")).expect("publishes").number
    };
    interleave(some_history, false, rival, act, |registry, number, acted| {
        let bytes = |number: u32| registry.bytes("iris", &number.into()).expect("opens").0;
        let model = |body| version(body).files()[MODEL_FILE].clone();
        assert_eq!(bytes(number), model("mine"));
        assert_eq!(registry.versions("iris").expect("lists").len(), 4 + usize::from(acted));
        if acted {
            assert_eq!(bytes(4 + 5 - number), model("rival"));
        }
    });
}

#[test]
fn of_two_that_move_an_alias_without_locks_the_second_gets_a_conflict() {
    let rival = |other: &LocalRegistry| {
        other.move_alias("iris", CHAMPION, &AliasMove::to(3).by("rival")).expect("moves");
    };
    let act = |registry: &LocalRegistry| {
        registry.move_alias("iris", CHAMPION, &AliasMove::to(1).expecting(2).by("mine"))
    };
    let outcomes = Mutex::new(BTreeSet::new());
    interleave(some_history, false, rival, act, |registry, result, acted| {
        let history = registry.alias_history("iris", CHAMPION).expect("reads");
        let by: Vec<&str> = history[2..].iter().map(|entry| entry.actor.as_str()).collect();
        match &result {
            Ok(_) if acted => assert_eq!(by, ["mine", "rival"]),
            Ok(_) => assert_eq!(by, ["mine"]),
            Err(Error::Conflict { .. }) => assert_eq!(by, ["rival"]),
            Err(e) => panic!("{}", e.chain()),
        }
        outcomes.lock().expect("one thread").insert((result.is_ok(), acted));
    });
    let both = BTreeSet::from([(false, true), (true, false), (true, true)]);
    assert_eq!(*outcomes.lock().expect("one thread"), both, "every order occurs");
}

#[test]
fn an_alias_moved_unconditionally_without_locks_keeps_the_move_of_the_rival() {
    let rival = |other: &LocalRegistry| {
        other.promote("iris", 3, "rival", "").expect("moves");
    };
    let act = |registry: &LocalRegistry| registry.promote("iris", 1, "mine", "").expect("moves");
    interleave(some_history, false, rival, act, |registry, mine, acted| {
        let history = registry.alias_history("iris", CHAMPION).expect("reads");
        assert_eq!(history.len(), 3 + usize::from(acted));
        assert!(history.contains(&mine));
    });
}

#[test]
fn a_sweep_at_any_moment_takes_nothing_from_a_publisher() {
    // The object of version 3 is free to be swept, and about to be used again.
    let prepare = |registry: &LocalRegistry| {
        some_history(registry)?;
        registry.retire("iris", 3, "test", "").map(drop)
    };
    let (objects, temps) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (some_objects, some_temps) = (Arc::clone(&objects), Arc::clone(&temps));
    let rival = move |other: &LocalRegistry| {
        let swept = other.gc(Duration::ZERO).expect("sweeps");
        some_objects.fetch_add(swept.objects, Ordering::Relaxed);
        some_temps.fetch_add(swept.temps, Ordering::Relaxed);
    };
    let act = |registry: &LocalRegistry| {
        let new = version("b").with_file("new.txt", b"new".to_vec()).expect("a free path");
        registry.publish("iris", new).expect("publishes")
    };
    interleave(prepare, true, rival, act, |registry, mine, _| {
        for file in &mine.files {
            registry.read(&mine, &file.path).expect("intact");
        }
    });
    for swept in [objects, temps] {
        assert!(0 < swept.load(Ordering::Relaxed), "objects and unfinished files were swept");
    }
}

#[test]
fn an_alias_never_comes_to_point_at_a_version_that_was_retired_meanwhile() {
    let rival = |other: &LocalRegistry| {
        other.retire("iris", 3, "rival", "").expect("retires");
    };
    let act = |registry: &LocalRegistry| registry.promote("iris", 3, "mine", "");
    interleave(some_history, true, rival, act, |_, result, acted| match result {
        Ok(_) => assert!(!acted),
        Err(e) => assert!(acted && matches!(e, Error::NotFound { what: "version", .. }), "{e}"),
    });
}

#[test]
fn a_damaged_object_is_healed_by_publishing_it_again() {
    let folder = Folder::new();
    let registry = scratch(&folder);
    let first = registry.publish("iris", version("a")).expect("publishes");
    let object = registry.object(&first.files[0].sha256).expect("a digest");
    fs::write(&object, "damage").expect("writes");
    assert!(!registry.verify().expect("verifies").is_clean());
    registry.publish("iris", version("a")).expect("publishes");
    let report = registry.verify().expect("verifies");
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.versions, report.objects), (2, 2));
}

#[test]
fn a_record_of_a_newer_format_is_refused_by_name() {
    let folder = Folder::new();
    let registry = scratch(&folder);
    registry.publish("iris", version("a")).expect("publishes");
    for path in ["registry.json", "models/iris/versions/00000001.json"] {
        let path = registry.folder().join(path);
        let (before, text) = (fs::read(&path).expect("there"), fs::read_to_string(&path));
        let text = text.expect("UTF-8").replace("\"format\": 1", "\"format\": 2");
        let digest = crate::data::hex(&Sha256::digest(&text[77..]));
        fs::write(&path, format!("{{\"sha256\":\"{digest}\",{}", &text[77..])).expect("writes");
        let result = LocalRegistry::open(folder.root()).and_then(|r| r.versions("iris"));
        let Err(Error::TooNew { what, got: 2, newest: record::FORMAT }) = result else {
            panic!("{result:?}");
        };
        assert_eq!(what, path.display().to_string());
        fs::write(&path, before).expect("writes");
    }
}
