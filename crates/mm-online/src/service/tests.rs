//! The service from inside: what it counts, what faults do to it, and every cut of its log.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use mm_core::{Metric, Sample};
use proptest::prelude::*;

use super::{log::Step, *};
use crate::{ConformalParams, MonitorParams, probe::Probe};

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mm-service-{}-{count}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn catalog() -> Catalog {
    crate::register(Catalog::default()).with::<Probe>()
}

fn fast() -> Options {
    Options::default().with(|o| o.durability = Durability::Fast)
}

/// Every part of the state switched on, with small bounds so that they are reached.
fn params() -> ServiceParams {
    ServiceParams::default().with(|p| {
        p.known_ids = 50;
        p.pending = 20;
        p.time_to_live = Some(40);
        p.progress.window = 30;
        p.conformal = Some(ConformalParams { window: 40, ..ConformalParams::default() });
        p.replay.recent = 10;
        p.replay.reservoir = 10;
        p.replay.hard = 5;
        p.monitor = Some(MonitorParams {
            reference: 20,
            window: 20,
            every: 10,
            ..MonitorParams::default()
        });
    })
}

fn create(folder: &Folder) -> Service {
    let model = Probe::binary(2).boxed();
    Service::create(&folder.0, model, params(), &catalog(), fast()).expect("creates")
}

fn open(folder: &Folder) -> (Service, Recovery) {
    Service::open(&folder.0, &catalog(), fast()).expect("opens")
}

/// The state as bytes: equal states have equal bytes.
fn bytes(service: &Service) -> Vec<u8> {
    service.shared.lock().expect("lives").state.to_envelope().expect("seals").into_bytes()
}

fn number(i: u64) -> u64 {
    let mut z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn row(i: u64) -> [f32; 2] {
    let z = number(i);
    [(z % 1000) as f32 / 500.0 - 1.0, (z / 1000 % 1000) as f32 / 500.0 - 1.0]
}

fn label(i: u64) -> f64 {
    f64::from(row(i)[0] + 0.3 * row(i)[1] > 0.1)
}

/// Does the `i`-th thing of a scripted life: rows with labels at once, rows whose labels come
/// later, never, or twice, labels for nothing, weights of 0, a refused row, trials.
fn live(service: &Service, i: u64) {
    let (x, y, time) = (row(i), label(i), Some(i as i64));
    let learn = |x: &[f32], weight| {
        let sample = Sample { x, y, weight, time };
        service.submit(&[Event::Learn { id: i.into(), sample }]).expect("written")
    };
    match i % 10 {
        0..=2 => drop(learn(&x, 1.0)),
        3 => drop(learn(&x, 0.0)),
        4 => drop(learn(&[f32::NAN, 1.0], 1.0)),
        5 | 6 => {
            let prediction = service.reader().ask(&x).expect("a row");
            let event = Event::Remember { id: i.into(), x: &x, prediction: &prediction, time };
            drop(service.submit(&[event, event]).expect("written"));
        }
        7 => {
            let then = i - 12 - number(i) % 3 * 10; // A row of 5; some have expired.
            let label = Event::Label { id: then.into(), y: label(then), weight: 2.0, time };
            drop(service.submit(&[label]).expect("written"));
        }
        8 if i % 100 == 38 => {
            let rival = Probe { rate: 0.5, ..Probe::binary(2) };
            service.challenge(&rival).expect("same signature");
        }
        8 if i % 100 == 88 => service.dismiss().expect("written"),
        8 => drop(
            service.submit(&[Event::Label { id: 7, y: 1.0, weight: 1.0, time }]).expect("written"),
        ),
        _ => drop(learn(&x, 1.5)),
    }
}

#[test]
fn each_event_is_told_what_became_of_it() {
    let folder = Folder::new();
    let service = create(&folder);
    let x = [0.5, -0.5];
    let learn = |id, y, x| Event::Learn { id, sample: Sample::new(x, y) };
    let label = |id, y| Event::Label { id, y, weight: 1.0, time: None };
    let prediction = service.reader().ask(&x).expect("a row");
    assert_eq!((prediction.values(), prediction.version()), (&[0.5][..], 0));
    assert_eq!(prediction.classes(), Some(vec![0, 1]), "nothing is known yet");
    let remember = Event::Remember { id: 2, x: &x, prediction: &prediction, time: None };
    let short = [1.0];
    let missing = [f32::NAN, 0.0];
    let events = [
        learn(1, 1.0, &x),
        learn(1, 1.0, &x),
        remember,
        remember,
        label(2, 7.0),
        label(2, 1.0),
        label(2, 1.0),
        remember,
        label(3, 1.0),
        learn(4, 0.5, &x),
        learn(5, 1.0, &short),
        learn(6, 1.0, &missing),
        Event::Learn { id: 7, sample: Sample { weight: f64::NAN, ..Sample::new(&x, 1.0) } },
        Event::Learn { id: 8, sample: Sample::new(&[f32::INFINITY, 0.0], 1.0) },
    ];
    let outcomes = service.submit(&events).expect("written");
    let told: Vec<String> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Refused(e) => e.chain(),
            other => format!("{other:?}"),
        })
        .collect();
    let expected = [
        "Learnt",
        "Duplicate",
        "Remembered",
        "Duplicate",
        "label: expected a class code from 0 to 1, got 7",
        "Learnt",
        "Duplicate",
        "Duplicate",
        "NotPending",
        "label: expected a class code from 0 to 1, got 0.5",
        "expected 2 feature columns, got 1",
        "prediction of the model: expected finite numbers, got NaN",
        "weight: expected a finite number ≥ 0, got NaN",
        "numeric `f0`: expected a finite number or NaN (missing), got inf",
    ];
    assert_eq!(told, expected);
    let report = service.report().expect("lives");
    let Counts { rows, learnt, duplicates, not_pending, refused, .. } = report.counts;
    assert_eq!((rows, learnt, duplicates, not_pending, refused), (3, 2, 4, 1, 1));
    assert_eq!(service.reader().version(), report.version);
    assert_eq!(service.champion().expect("lives").n_learnt(), 2);
}

#[test]
fn a_late_label_is_judged_by_what_was_said_then() {
    let folder = Folder::new();
    let service = create(&folder);
    let x = [1.0, 0.0];
    let then = service.reader().ask(&x).expect("a row");
    service
        .submit(&[Event::Remember { id: 0, x: &x, prediction: &then, time: None }])
        .expect("written");
    // Meanwhile the model learns that such rows are positive.
    for id in 1..15 {
        service.submit(&[Event::Learn { id, sample: Sample::new(&x, 1.0) }]).expect("written");
    }
    let before = service.report().expect("lives").overall;
    assert!(service.reader().ask(&x).expect("a row").values()[0] > 0.7);
    service.submit(&[Event::Label { id: 0, y: 1.0, weight: 1.0, time: None }]).expect("written");
    let after = service.report().expect("lives").overall;
    let added = after.log_loss.expect("rows") * 15.0 - before.log_loss.expect("rows") * 14.0;
    assert!((added - 2.0_f64.ln()).abs() < 1e-12, "it had said ½: {added}");
    assert_eq!(after.no_change, Some(13.0 / 15.0), "no label had come for rows 0 and 1");
}

#[test]
fn a_row_waits_no_longer_than_its_time_to_live_and_time_never_goes_back() {
    let folder = Folder::new();
    let service = create(&folder);
    let x = [0.1, 0.2];
    let prediction = service.reader().ask(&x).expect("a row");
    let at = |id, time| Event::Remember { id, x: &x, prediction: &prediction, time: Some(time) };
    let label = |id, time| Event::Label { id, y: 1.0, weight: 1.0, time: Some(time) };
    let outcomes = service
        .submit(&[
            at(1, 0),
            at(2, 30),
            label(9, 41),
            label(1, 5),
            at(3, -100),
            label(2, 42),
            label(3, 42),
        ])
        .expect("written");
    assert!(matches!(
        outcomes[..],
        [
            Outcome::Remembered,
            Outcome::Remembered,
            Outcome::NotPending,
            Outcome::NotPending, // Its time was over at 41, whatever the label says.
            Outcome::Remembered,
            Outcome::Learnt,
            Outcome::NotPending,
        ]
    ));
    assert_eq!(service.report().expect("lives").counts.expired, 2);
}

#[test]
fn a_service_is_not_made_twice_nor_opened_twice() {
    let folder = Folder::new();
    let none = Service::open(&folder.0, &catalog(), fast()).expect_err("no folder");
    assert!(matches!(none, Error::NotFound { .. }), "{none}");
    let service = create(&folder);
    let model = Probe::binary(2).boxed();
    let again = || Service::create(&folder.0, model.fork(), params(), &catalog(), fast());
    assert!(matches!(again().expect_err("open"), Error::Conflict { .. }));
    assert!(matches!(
        Service::open(&folder.0, &catalog(), fast()).expect_err("open"),
        Error::Conflict { .. }
    ));
    drop(service);
    assert!(matches!(again().expect_err("there is one"), Error::Conflict { .. }));
    let err = Service::open(&folder.0, &Catalog::default(), fast()).expect_err("no loader");
    assert!(matches!(err.root(), Error::UnknownTag(_)), "{}", err.chain());
    assert_eq!(open(&folder).1.replayed, 0);
    let bad = params().with(|p| p.known_ids = 0);
    let other = Folder::new();
    let err = Service::create(&other.0, model.fork(), bad, &catalog(), fast()).expect_err("0");
    assert!(matches!(err, Error::Param(_)));
}

#[test]
fn a_service_that_was_closed_goes_on_as_if_it_had_not_been() {
    let (ours, theirs) = (Folder::new(), Folder::new());
    let unbroken = create(&ours);
    let mut service = create(&theirs);
    for i in 30..700 {
        live(&unbroken, i);
        live(&service, i);
        if i % 7 == 0 {
            drop(service);
            service = open(&theirs).0;
        }
        if i % 90 == 0 {
            service.snapshot().expect("writes");
        }
    }
    assert!(bytes(&unbroken) == bytes(&service));
    let report = service.report().expect("lives");
    assert!(report.counts.expired > 0 && report.counts.refused > 0 && report.verdicts.len() > 5);
    assert!(report.coverage.is_some() && report.rolling.accuracy > Some(0.7), "{report:?}");
    assert_eq!(
        report,
        unbroken.report().map(|r| Report { log_bytes: report.log_bytes, ..r }).expect("lives")
    );
}

#[test]
fn every_cut_of_the_log_leaves_a_whole_number_of_groups() {
    let folder = Folder::new();
    let service = create(&folder);
    let mut states = vec![(0, bytes(&service))]; // By length of the log.
    let path = folder.0.join("log/00000000000000000001.log");
    let length = || fs::metadata(&path).expect("there").len() as usize;
    states[0].0 = length();
    for i in 30..50 {
        live(&service, i);
        states.push((length(), bytes(&service)));
    }
    states.dedup_by_key(|state| state.0); // A refused row writes nothing.
    drop(service);
    let whole = fs::read(&path).expect("there");
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).expect("writes");
        let (service, recovery) = open(&folder);
        let expected = states.iter().rev().find(|state| state.0 <= cut).unwrap_or(&states[0]);
        assert!(bytes(&service) == expected.1, "cut at {cut}");
        let torn = if cut < states[0].0 { cut } else { cut - expected.0 };
        assert_eq!(recovery.torn_bytes, torn as u64, "cut at {cut}");
        // It goes on, and is whole again when it is opened once more.
        live(&service, 60);
        let now = bytes(&service);
        drop(service);
        let (service, recovery) = open(&folder);
        assert!(bytes(&service) == now && recovery.torn_bytes == 0, "cut at {cut}");
    }
}

#[test]
fn a_flipped_byte_before_the_end_of_the_log_is_refused_and_one_in_the_last_group_cuts_it() {
    let folder = Folder::new();
    let service = create(&folder);
    (30..40).for_each(|i| live(&service, i));
    let path = folder.0.join("log/00000000000000000001.log");
    let last = fs::metadata(&path).expect("there").len() as usize;
    let before = bytes(&service);
    live(&service, 40);
    drop(service);
    let whole = fs::read(&path).expect("there");
    for at in 0..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, &bad).expect("writes");
        match Service::open(&folder.0, &catalog(), fast()) {
            Err(e) => {
                assert!(at < last, "byte {at}: {}", e.chain());
                assert!(matches!(e.root(), Error::Corrupt { .. } | Error::TooNew { .. }));
            }
            Ok((service, recovery)) => {
                assert!(last <= at, "byte {at}");
                assert_eq!(recovery.torn_bytes as usize, whole.len() - last);
                assert!(bytes(&service) == before);
            }
        }
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

#[test]
fn a_damaged_snapshot_is_refused_and_the_one_before_is_used() {
    let folder = Folder::new();
    let service = create(&folder);
    (30..60).for_each(|i| live(&service, i));
    service.snapshot().expect("writes");
    let old = files(&folder.0.join("snapshots/objects"));
    (60..80).for_each(|i| live(&service, i));
    service.snapshot().expect("writes");
    (80..90).for_each(|i| live(&service, i));
    let expected = bytes(&service);
    drop(service);
    let new: Vec<PathBuf> = files(&folder.0.join("snapshots/objects"))
        .into_iter()
        .filter(|path| !old.contains(path))
        .collect();
    let [newest] = &new[..] else { panic!("{new:?}") };
    let whole = fs::read(newest).expect("there");
    let mut bad = whole.clone();
    bad[whole.len() / 2] ^= 1;
    fs::write(newest, &bad).expect("writes");
    let (service, recovery) = open(&folder);
    assert!(bytes(&service) == expected);
    assert_eq!(recovery.refused.len(), 1);
    assert!(matches!(recovery.refused[0].root(), Error::Corrupt { .. }));
    // The damaged one is out of use, so that two more snapshots make the service whole again.
    service.snapshot().expect("writes");
    drop(service);
    let (service, recovery) = open(&folder);
    assert!(bytes(&service) == expected && recovery.refused.is_empty());
    assert_eq!(recovery.replayed, 0);
    drop(service);
    for path in files(&folder.0.join("snapshots/objects")) {
        fs::write(path, b"").expect("writes");
    }
    let err = Service::open(&folder.0, &catalog(), fast()).expect_err("all are damaged");
    assert!(matches!(err.root(), Error::Corrupt { .. }), "{}", err.chain());
}

#[test]
fn the_disk_that_a_service_uses_stays_bounded() {
    let folder = Folder::new();
    let model = Probe::binary(2).boxed();
    let options = fast().with(|o| o.snapshot_bytes = 2000);
    let service =
        Service::create(&folder.0, model, params(), &catalog(), options.clone()).expect("creates");
    let mut largest = 0;
    for i in 30..1500 {
        live(&service, i);
        largest = largest.max(service.report().expect("lives").log_bytes);
    }
    // Two snapshots' worth, and the groups that went over.
    assert!(largest < 2 * 2000 + 2 * 500, "{largest}");
    let objects = files(&folder.0.join("snapshots/objects"));
    assert!(objects.len() <= 2 + 8, "swept every eighth time: {}", objects.len());
    assert!(files(&folder.0.join("log")).len() <= 3);
}

/// Lets calls of the system fail from the `n`-th on, until told otherwise.
fn fail(service: &Service, kinds: &'static [Step], kind: io::ErrorKind) {
    let hook = Box::new(
        move |step| {
            if kinds.contains(&step) { Err(io::Error::from(kind)) } else { Ok(()) }
        },
    );
    service.shared.lock().expect("lives").log.set_hook(Some(hook));
}

#[test]
fn a_full_disk_refuses_rows_loses_none_and_heals() {
    let folder = Folder::new();
    let service = create(&folder);
    (30..50).for_each(|i| live(&service, i));
    let before = bytes(&service);
    let version = service.reader().version();
    fail(&service, &[Step::Write], io::ErrorKind::StorageFull);
    let learn = |id, service: &Service| {
        let x = row(50);
        service.submit(&[Event::Learn { id, sample: Sample::new(&x, 1.0) }])
    };
    for _ in 0..3 {
        match learn(1000, &service).expect_err("no room") {
            Error::Io { source, .. } => assert_eq!(source.kind(), io::ErrorKind::StorageFull),
            other => panic!("{other}"),
        }
    }
    assert!(bytes(&service) == before && service.reader().version() == version);
    service.reader().ask(&row(1)).expect("readers go on");
    service.shared.lock().expect("lives").log.set_hook(None);
    assert!(matches!(learn(1000, &service).expect("room again")[..], [Outcome::Learnt]));
    let after = bytes(&service);
    drop(service);
    let (service, recovery) = open(&folder);
    assert!(bytes(&service) == after && recovery.torn_bytes == 0);
}

#[test]
fn a_disk_that_cannot_be_trusted_takes_no_more_until_it_is_opened_anew() {
    for kinds in [&[Step::Sync][..], &[Step::Write, Step::Cut][..]] {
        let folder = Folder::new();
        let durable = Options::default();
        let model = Probe::binary(2).boxed();
        let service =
            Service::create(&folder.0, model, params(), &catalog(), durable).expect("creates");
        (30..35).for_each(|i| live(&service, i));
        let before = bytes(&service);
        fail(&service, kinds, io::ErrorKind::Other);
        let x = row(50);
        let event = Event::Learn { id: 1000, sample: Sample::new(&x, 1.0) };
        assert!(matches!(service.submit(&[event]), Err(Error::Io { .. })));
        service.shared.lock().expect("lives").log.set_hook(None);
        assert!(matches!(service.submit(&[event]), Err(Error::Io { .. })), "still");
        assert!(bytes(&service) == before);
        service.reader().ask(&x).expect("readers go on");
        drop(service);
        // Whether the row made it to the disk or not, sending it again counts it once.
        let (service, _) = open(&folder);
        let outcomes = service.submit(&[event]).expect("written");
        assert!(outcomes[0].is_done());
        let learnt = service.report().expect("lives").counts.learnt;
        let reference = Folder::new();
        let other = create(&reference);
        (30..35).for_each(|i| live(&other, i));
        drop(other.submit(&[event]).expect("written"));
        assert_eq!(learnt, other.report().expect("lives").counts.learnt);
    }
}

#[test]
fn a_snapshot_that_fails_loses_nothing_and_the_log_has_a_limit() {
    let folder = Folder::new();
    let model = Probe::binary(2).boxed();
    let options = fast().with(|o| {
        o.snapshot_bytes = 1000;
        o.max_log_bytes = 5000;
    });
    let service =
        Service::create(&folder.0, model, params(), &catalog(), options).expect("creates");
    // A new segment cannot be made, so no snapshot can be taken.
    fail(&service, &[Step::Create], io::ErrorKind::StorageFull);
    let learn = |i: u64| {
        let x = row(i);
        let sample = Sample::new(&x, label(i));
        service.submit(&[Event::Learn { id: i.into(), sample }])
    };
    let first_refused = (0..1000).find(|&i| learn(i).is_err()).expect("a limit");
    assert!(first_refused > 30);
    assert_eq!(service.report().expect("lives").counts.learnt, first_refused);
    service.shared.lock().expect("lives").log.set_hook(None);
    for i in first_refused..first_refused + 100 {
        assert!(matches!(learn(i).expect("room again")[..], [Outcome::Learnt]));
    }
    assert!(service.report().expect("lives").log_bytes < 3000);
}

#[test]
fn threads_that_meet_are_written_together_and_each_row_counts_once() {
    let folder = Folder::new();
    let service = create(&folder);
    let n_threads = 8;
    std::thread::scope(|scope| {
        for thread in 0..n_threads {
            let service = &service;
            scope.spawn(move || {
                for i in 0..100_u64 {
                    let x = row(i);
                    let id = u128::from(i * n_threads + thread);
                    let event = Event::Learn { id, sample: Sample::new(&x, label(i)) };
                    assert!(matches!(
                        service.submit(&[event]).expect("written")[..],
                        [Outcome::Learnt]
                    ));
                }
            });
        }
    });
    assert_eq!(service.champion().expect("lives").n_learnt(), 800);
    let live = bytes(&service);
    drop(service);
    let (service, recovery) = open(&folder);
    assert!(bytes(&service) == live, "the log has the order in which rows were learnt");
    assert_eq!(recovery.replayed, 800);
}

#[test]
fn every_reply_is_that_of_the_version_it_names() {
    let folder = Folder::new();
    let service = create(&folder);
    let (n, x) = (3000, [0.7, -0.2]);
    let learn = |service: &Service, i: u64| {
        let row = row(i);
        let event = Event::Learn { id: i.into(), sample: Sample::new(&row, label(i)) };
        service.submit(&[event]).expect("written");
    };
    let is_done = std::sync::atomic::AtomicBool::new(false);
    let replies = std::thread::scope(|scope| {
        let (x, is_done) = (&x, &is_done);
        let read = move |reader: Reader| {
            let mut replies: Vec<(u64, f64)> = Vec::new();
            while !is_done.load(Ordering::Relaxed) || replies.is_empty() {
                let mut out = [0.0];
                let version = reader.predict(x, &mut out).expect("a row");
                if replies.last() != Some(&(version, out[0])) {
                    replies.push((version, out[0]));
                }
            }
            replies
        };
        let readers: Vec<_> = (0..3)
            .map(|_| service.reader())
            .map(|reader| scope.spawn(move || read(reader)))
            .collect();
        (0..n).for_each(|i| learn(&service, i));
        is_done.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().expect("reads")).collect::<Vec<_>>()
    });
    let reference = Folder::new();
    let slow = create(&reference);
    let mut expected = vec![slow.reader().ask(&x).expect("a row").values()[0]];
    for i in 0..n {
        learn(&slow, i);
        expected.push(slow.reader().ask(&x).expect("a row").values()[0]);
    }
    for replies in replies {
        assert!(replies.is_sorted_by_key(|reply| reply.0), "versions only grow");
        for (version, value) in replies {
            assert_eq!(value, expected[version as usize], "version {version}");
        }
    }
}

#[test]
fn a_challenger_is_promoted_when_it_is_better_and_rolled_back_when_it_is_worse() {
    let folder = Folder::new();
    let model = Probe { rate: 0.0, ..Probe::binary(2) }.boxed(); // Says ½ for ever.
    let params = ServiceParams::default().with(|p| p.trial.probation_rows = 2000);
    let service = Service::create(&folder.0, model, params, &catalog(), fast()).expect("creates");
    // Good where x₀ decides, and as sure of itself where it does not.
    let mut rival = Probe { rate: 0.0, ..Probe::binary(2) };
    rival.weights = vec![8.0, 0.0, 0.0];
    service.challenge(&rival).expect("same signature");
    let feed = |from: u64, sign: f32| {
        let mut endings = service.report().expect("lives").verdicts.len();
        for i in from..from + 3000 {
            let x = row(i);
            let y = f64::from(sign * x[0] > 0.0);
            let event = Event::Learn { id: i.into(), sample: Sample::new(&x, y) };
            service.submit(&[event]).expect("written");
            let verdicts = service.report().expect("lives").verdicts;
            if endings < verdicts.len() {
                endings = verdicts.len();
                return (verdicts[endings - 1], i - from);
            }
        }
        panic!("undecided");
    };
    let (verdict, rows) = feed(0, 1.0);
    assert_eq!((verdict.ending, verdict.rows), (Ending::Promoted, rows + 1));
    assert!(verdict.evidence >= 20.0 && verdict.advantage > 0.1);
    let report = service.report().expect("lives");
    assert!(report.challenger.is_none() && report.former.is_some_and(|former| former.rows == 0));
    let (verdict, _) = feed(5000, -1.0); // The world turns round.
    assert_eq!((verdict.number, verdict.ending), (2, Ending::RolledBack));
    assert_eq!(service.reader().ask(&[1.0, 1.0]).expect("a row").values(), [0.5]);
    assert!(service.report().expect("lives").former.is_none());
    service.challenge(&rival).expect("same signature");
    let (verdict, _) = feed(10_000, -1.0);
    assert_eq!(verdict.ending, Ending::Rejected);
    service.challenge(&rival).expect("same signature");
    assert_eq!(feed(15_000, 1.0).0.ending, Ending::Promoted);
    let (verdict, rows) = feed(20_000, 1.0); // The world stays as it is.
    assert_eq!((verdict.ending, verdict.rows), (Ending::Confirmed, 2000));
    assert_eq!(rows, 1999);
    let other = Probe::binary(3);
    assert!(service.challenge(&other).is_err(), "another signature");
}

#[test]
fn a_challenger_and_a_former_champion_are_on_trial_side_by_side() {
    let folder = Folder::new();
    let of = |slope: f64| Probe { rate: 0.0, weights: vec![slope, 0.0, 0.0], ..Probe::binary(2) };
    let params = ServiceParams::default();
    let service =
        Service::create(&folder.0, of(0.0).boxed(), params, &catalog(), fast()).expect("creates");
    let feed = |from: u64, n: u64, sign: f32| {
        for i in from..from + n {
            let x = row(i);
            let event = Event::Learn {
                id: i.into(),
                sample: Sample::new(&x, f64::from(sign * x[0] > 0.0)),
            };
            service.submit(&[event]).expect("written");
        }
        let verdicts = service.report().expect("lives").verdicts;
        verdicts.iter().map(|verdict| verdict.ending).collect::<Vec<_>>()
    };
    service.challenge(&of(8.0)).expect("same signature");
    assert_eq!(feed(0, 500, 1.0), [Ending::Promoted]);
    // The model for the other world stands by while the former champion waits.
    service.challenge(&of(-8.0)).expect("same signature");
    feed(500, 5, 1.0);
    let report = service.report().expect("lives");
    assert!(report.challenger.is_some() && report.former.is_some());
    assert_eq!(
        feed(505, 3000, -1.0),
        [Ending::Promoted, Ending::Withdrawn, Ending::Promoted],
        "the former champion's way back leads to the one in between now"
    );
    drop(service);
    let service = open(&folder).0;
    let now = service.reader().ask(&[1.0, 0.0]).expect("a row").values()[0];
    assert!(now < 0.01, "{now}: the model for this world");
    assert!(service.report().expect("lives").former.is_some());
}

#[test]
fn retraining_is_due_by_the_policy_until_it_is_done() {
    let folder = Folder::new();
    let model = Probe::binary(2).boxed();
    let params = ServiceParams::default().with(|p| {
        p.retrain.min_rows = 10;
        p.retrain.cooldown_rows = 10;
        let (metric, worst, every) = (Metric::Accuracy, 0.99, 50);
        p.retrain.floor = Some(crate::Floor { metric, worst, every });
    });
    let service = Service::create(&folder.0, model, params, &catalog(), fast()).expect("creates");
    let feed = |from: u64, n: u64| {
        for i in from..from + n {
            let x = row(i);
            let event = Event::Learn { id: i.into(), sample: Sample::new(&x, label(i)) };
            service.submit(&[event]).expect("written");
        }
        service.retrain_due().expect("lives")
    };
    assert_eq!(feed(0, 49), None);
    assert_eq!(feed(49, 1), Some(Reason::Floor));
    assert_eq!(feed(50, 5), Some(Reason::Floor));
    let data = service.replay().expect("rows");
    assert_eq!(data.n_rows(), 55);
    service.dismiss().expect("written");
    assert_eq!(service.retrain_due().expect("lives"), None);
    service.signal_drift().expect("written");
    assert_eq!(feed(55, 9), None, "the cooldown");
    assert_eq!(feed(64, 1), Some(Reason::Drift));
    service.challenge(&Probe::binary(2)).expect("same signature");
    assert_eq!(service.retrain_due().expect("lives"), None);
}

#[test]
fn the_monitor_of_a_service_signals_a_drift_of_its_features() {
    let folder = Folder::new();
    let params = params().with(|p| {
        p.retrain.min_rows = 1;
        let every = 100;
        p.monitor =
            Some(MonitorParams { reference: 200, window: 200, every, ..MonitorParams::default() });
    });
    let model = Probe { rate: 0.0, ..Probe::binary(2) }.boxed();
    let service = Service::create(&folder.0, model, params, &catalog(), fast()).expect("creates");
    let feed = |from: u64, shift: f32| {
        for i in from..from + 600 {
            let x = row(i).map(|x| x + shift);
            let event = Event::Learn { id: i.into(), sample: Sample::new(&x, 1.0) };
            service.submit(&[event]).expect("written");
        }
        service.retrain_due().expect("lives")
    };
    assert_eq!(feed(0, 0.0), None);
    assert_eq!(feed(600, 0.7), Some(Reason::Drift));
    let drifted: Vec<bool> =
        service.report().expect("lives").columns.iter().map(|c| c.has_drifted).collect();
    assert_eq!(drifted, [true, true, false], "the prediction is ½ for ever");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whenever it is closed or snapshotted, the state is that of one that never was.
    #[test]
    fn any_life_with_any_interruptions_ends_in_the_same_state(
        steps in prop::collection::vec((30_u64..400, 0_u8..12), 1..80),
    ) {
        let (ours, theirs) = (Folder::new(), Folder::new());
        let unbroken = create(&ours);
        let mut service = create(&theirs);
        for &(i, then) in &steps {
            live(&unbroken, i);
            live(&service, i);
            match then {
                0 => service.snapshot().expect("writes"),
                1 | 2 => {
                    drop(service);
                    service = open(&theirs).0;
                }
                _ => {}
            }
        }
        prop_assert!(bytes(&unbroken) == bytes(&service));
    }
}
