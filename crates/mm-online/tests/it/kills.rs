//! Five hundred kills: a child process feeds a service until it is killed, and whoever opens the
//! service next finds every row that was acknowledged, each once, in the state of a service that
//! was never killed.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use mm_core::{Catalog, Params as _, Sample, Schema, Task, registry::Durability};
use mm_online::{ConformalParams, Event, LinearParams, Options, Outcome, Service, ServiceParams};

const TASK: &str = "MM_ONLINE_TEST_TASK";

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mm-kills-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the temporary folder can be written");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn catalog() -> Catalog {
    mm_online::register(Catalog::default())
}

/// Snapshots often, so that kills fall into them too.
fn options(durability: Durability) -> Options {
    Options::default().with(|o| {
        o.durability = durability;
        o.snapshot_bytes = 6000;
    })
}

fn create(folder: &Path, durability: Durability) -> Service {
    let schema = Schema::numeric(2);
    let task = Task::classes(["no", "yes"]).expect("two");
    let learner = LinearParams::default().build().expect("valid");
    let model = Box::new(learner.start(schema, task, 0).expect("starts"));
    let params = ServiceParams::default().with(|p| {
        p.known_ids = 200;
        p.conformal = Some(ConformalParams::default());
        p.replay.recent = 20;
        p.replay.reservoir = 20;
        p.replay.hard = 5;
    });
    Service::create(folder, model, params, &catalog(), options(durability)).expect("creates")
}

fn number(i: u64) -> u64 {
    let mut z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn row(i: u64) -> [f32; 2] {
    [0, 32].map(|shift| (number(i) >> shift & 0xffff) as f32 / 32_768.0 - 1.0)
}

fn label(i: u64) -> f64 {
    f64::from(row(i)[0] > row(i)[1])
}

/// Rows `first..first + n`, each remembered, or learnt at once, or the label of an earlier one.
///
/// What happens depends on `first` alone, so that groups can be lived again.
fn group(service: &Service, first: u64, n: u64) {
    let rows: Vec<[f32; 2]> = (first..first + n).map(row).collect();
    // Asked of the state after the group before: the same whenever it is lived.
    let said: Vec<_> = rows.iter().map(|row| service.reader().ask(row).expect("a row")).collect();
    let events: Vec<Event<'_>> = (first..first + n)
        .zip(rows.iter().zip(&said))
        .map(|(i, (x, prediction))| match i % 3 {
            0 => Event::Remember { id: i.into(), x, prediction, time: Some(i as i64) },
            1 if 30 < i => {
                let then = i - 1 - 3 * (number(i) % 8); // Some come twice, some never.
                Event::Label { id: then.into(), y: label(then), weight: 1.0, time: Some(i as i64) }
            }
            _ => {
                let sample = Sample { time: Some(i as i64), ..Sample::new(x, label(i)) };
                Event::Learn { id: i.into(), sample }
            }
        })
        .collect();
    let outcomes = service.submit(&events).expect("written");
    assert!(!outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(_))));
}

/// The sizes of groups: the `g`-th has so many rows.
fn size(g: u64) -> u64 {
    1 + number(g ^ 0xabc) % 12
}

/// The group that comes after `version` records, and its first row.
fn next_group(version: u64) -> (u64, u64) {
    let (mut g, mut first) = (0, 0);
    while first < version {
        first += size(g);
        g += 1;
    }
    assert_eq!(first, version, "a whole number of groups");
    (g, first)
}

/// Does what the parent asked for; nothing when it was not started by one.
#[test]
fn a_child_process_does_its_task() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (task, folder) = task.split_once('\n').expect("two lines");
    let folder = Path::new(folder);
    let durability = if task == "full" { Durability::Full } else { Durability::Fast };
    let (service, _) = Service::open(folder.join("service"), &catalog(), options(durability))
        .expect("opens after any kill");
    let (mut g, mut first) = next_group(service.reader().version());
    let mut acknowledged =
        File::options().append(true).create(true).open(folder.join("acknowledged")).expect("opens");
    loop {
        group(&service, first, size(g));
        first += size(g);
        g += 1;
        acknowledged.write_all(format!("{first}\n").as_bytes()).expect("writes");
    }
}

/// What was acknowledged last.
fn acknowledged(folder: &Path) -> u64 {
    let text = fs::read_to_string(folder.join("acknowledged")).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().next_back().map_or(0, |line| line.parse().expect("a number"))
}

fn kill_and_check(folder: &Path, durability: &str, pause: Duration, unbroken: &Service) {
    let path = folder.join("acknowledged");
    let length = || fs::metadata(&path).map_or(0, |meta| meta.len());
    let before = length();
    let program = std::env::current_exe().expect("this test");
    let mut child = Command::new(program)
        .args(["kills::a_child_process_does_its_task", "--exact", "--test-threads=1"])
        .env(TASK, format!("{durability}\n{}", folder.display()))
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    while length() == before {
        assert!(child.try_wait().expect("runs").is_none(), "the child failed by itself");
        thread::sleep(Duration::from_micros(100));
    }
    thread::sleep(pause);
    child.kill().expect("kills");
    child.wait().expect("ends");

    let (service, recovery) =
        Service::open(folder.join("service"), &catalog(), options(Durability::Fast))
            .expect("opens");
    assert!(recovery.refused.is_empty(), "a kill damages nothing");
    let version = service.reader().version();
    assert!(acknowledged(folder) <= version, "nothing that was acknowledged is lost");
    let (mut g, mut first) = next_group(unbroken.reader().version());
    while first < version {
        group(unbroken, first, size(g));
        first += size(g);
        g += 1;
    }
    assert_eq!(first, version, "no group by halves");
    let report = |service: &Service| {
        let mut report = service.report().expect("lives");
        report.log_bytes = 0; // Snapshots were taken elsewhere.
        report
    };
    assert_eq!(report(&service), report(unbroken));
    let model = |service: &Service| {
        let model = service.champion().expect("lives");
        model.to_envelope().expect("seals").into_bytes()
    };
    assert!(model(&service) == model(unbroken), "the model is the same to the bit");
    let kept = |service: &Service| service.replay().expect("rows");
    assert!(kept(&service) == kept(unbroken), "so are the rows kept for retraining");
}

fn kill(name: &str, durability: &str, services: u64, kills: u64) {
    for round in 0..services {
        let folder = Folder::new(&format!("{name}-{round}"));
        let other = Folder::new(&format!("{name}-{round}-unbroken"));
        drop(create(&folder.0.join("service"), Durability::Fast));
        let unbroken = create(&other.0.join("service"), Durability::Fast);
        for i in 0..kills {
            let pause = Duration::from_micros(number(round * 1000 + i) % 4000);
            kill_and_check(&folder.0, durability, pause, &unbroken);
        }
    }
}

#[test]
fn four_hundred_and_fifty_kills_lose_no_row_and_count_none_twice() {
    kill("fast", "fast", 45, 10);
}

#[test]
fn fifty_kills_with_the_disk_forced_lose_no_row_and_count_none_twice() {
    kill("full", "full", 5, 10);
}
