//! A model in service: it answers while it learns, and what it acknowledged it never forgets.
//!
//! # How it works
//!
//! ```text
//!  events ──check──▶ group ──append, sync──▶ log ──apply──▶ state ──fork──▶ published ──▶ readers
//!                                                             │
//!                                                    every so often: snapshot ──▶ registry
//! ```
//!
//! - **Readers never wait and never see a half update.** A [`Reader`] takes the published model, an
//!   immutable copy behind an atomic pointer, and every reply names the version of the state that
//!   gave it. Publishing swaps the pointer.
//! - **One writer.** Whoever calls [`Service::submit`] waits for the events' turn. Callers that
//!   come while another is writing are written together with one `fsync`: the more of them, the
//!   larger the groups.
//! - **Write ahead.** Events are durable in the log before they change anything, and changes are
//!   made by decoding the log's own bytes, by the code that replays them. So the state after a kill
//!   at any point is that of a service never killed, each acknowledged event counted once.
//! - **Once by name.** A row has a [`RowId`]. One that is sent again, as after an answer that was
//!   lost, is told apart from a new one ([`Outcome::Duplicate`]) for as long as the last
//!   `known_ids` rows.
//! - **Late labels.** [`Event::Remember`] keeps a row with its prediction until its
//!   [`Event::Label`] comes, or its time to live is over. It is scored by that prediction, mixed by
//!   what each model said then, and learnt with the features of then.
//! - **Bounded.** The log is cut once a snapshot is durable; the state has bounds of its own.
//!
//! # When things go wrong
//!
//! | what | then |
//! | --- | --- |
//! | killed, or the power fails | [`Service::open`] cuts off what was unfinished and replays the rest; [`Recovery`] and the log (`tracing`) tell |
//! | a damaged snapshot | the one before is taken and more of the log replayed, loudly; two are kept |
//! | a damaged log | [`Error::Corrupt`]: opening would lose rows that were acknowledged |
//! | a full disk | `submit` fails with [`Error::Io`] and changes nothing; it works again once there is room |
//! | a sync that fails | no more rows are taken until the service is opened anew; readers go on |
//! | another process has it open | [`Error::Conflict`] |
//!
//! # Example
//!
//! ```
//! use mm_core::{Catalog, Sample};
//! use mm_online::{Event, Options, Outcome, Service, ServiceParams};
//!
//! # fn run(folder: &std::path::Path, model: Box<dyn mm_core::OnlineModel>) -> mm_core::Result<()> {
//! let catalog = mm_online::register(Catalog::default());
//! let params = ServiceParams::default();
//! let service = Service::create(folder, model, params, &catalog, Options::default())?;
//!
//! // On any thread, at any time:
//! let reader = service.reader();
//! let prediction = reader.ask(&[0.5, 1.5])?;
//! println!("{:?} by version {}", prediction.values(), prediction.version());
//!
//! // The row waits for its label, which comes later.
//! let x = &[0.5, 1.5];
//! service.submit(&[Event::Remember { id: 1, x, prediction: &prediction, time: None }])?;
//! let outcomes = service.submit(&[Event::Label { id: 1, y: 1.0, weight: 1.0, time: None }])?;
//! assert!(matches!(outcomes[0], Outcome::Learnt));
//! # Ok(()) }
//! ```

mod event;
mod log;
mod pending;
mod state;
mod store;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use arc_swap::ArcSwap;
use mm_core::{
    Catalog, Dataset, Error, Frame, Matrix, Model, OnlineModel, Result, Signature,
    registry::Durability,
};

pub(crate) use self::state::{State, open_online};
pub use self::{
    event::{Event, Outcome, Prediction, RowId},
    state::{Counts, Ending, ServiceParams, TrialParams, Verdict},
};
use self::{
    event::{Record, Said, check, encode, encode_change},
    log::Log,
    state::{Numbered, Trial, open_challenger},
    store::Store,
};
use crate::{
    bytes::{Decoder, Encoder},
    conformal::Conformal,
    monitor::ColumnDrift,
    progress::Scores,
    retrain::Reason,
};

/// The most bytes of records that one group takes.
const MAX_GROUP: usize = 16 << 20;

/// How a service uses the disk; may differ each time that it is opened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// Whether acknowledged events survive a loss of power ([`Durability::Full`], the default), or
    /// only the end of the process.
    pub durability: Durability,
    /// Bytes of log after which a snapshot is taken; 64 MiB by default.
    pub snapshot_bytes: u64,
    /// Snapshots kept, at least 2, which is the default.
    pub keep: usize,
    /// Bytes of log beyond which events are refused until a snapshot succeeds; 1 GiB by default.
    pub max_log_bytes: u64,
    /// Groups of events between two publications of the model to readers; 1 by default. A large
    /// model costs a copy each time.
    pub publish_every: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Full,
            snapshot_bytes: 64 << 20,
            keep: 2,
            max_log_bytes: 1 << 30,
            publish_every: 1,
        }
    }
}

impl Options {
    /// Edits in place, for chaining.
    #[must_use]
    pub fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }
}

/// What opening a service found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// The last record that the snapshot held.
    pub snapshot: u64,
    /// Records of the log that were replayed after it.
    pub replayed: u64,
    /// Bytes of an unfinished group that were cut off: it was never acknowledged.
    pub torn_bytes: u64,
    /// Damaged snapshots that were passed over, newest first.
    pub refused: Vec<Error>,
}

/// A model in service. Cheap to clone; clones are the same service.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

/// Answers from the published model. Cheap to clone, one a thread or one for all.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

struct Shared {
    published: ArcSwap<Published>,
    queue: Mutex<Vec<Arc<Submission>>>,
    writer: Mutex<Writer>,
    catalog: Catalog,
    signature: Signature,
}

/// What readers see: an immutable copy.
#[derive(Debug)]
struct Published {
    version: u64,
    champion: Numbered,
    rivals: Vec<Numbered>,
    threshold: Option<f64>,
}

impl Published {
    fn of(state: &State) -> Self {
        Self {
            version: state.version,
            champion: state.champion.clone(),
            rivals: state.trials.iter().map(|trial| trial.rival.clone()).collect(),
            threshold: state.conformal.as_ref().map(Conformal::threshold),
        }
    }
}

/// Records of one caller on their way into the log.
#[derive(Debug)]
struct Submission {
    n: u32,
    records: Vec<u8>,
    outcomes: Mutex<Option<Result<Vec<Outcome>>>>,
}

/// Where the state lives; whoever holds the lock on it is the one writer.
#[derive(Debug)]
struct Writer {
    state: State,
    log: Log,
    store: Store,
    options: Options,
    since_publication: u64,
    since_snapshot: u64,           // Bytes of log.
    replaced: Vec<Arc<Published>>, // Freed here, so that no reader spends time on it.
    room: Vec<f32>,
    _lock: File,
}

impl Service {
    /// Puts `model` into service in `folder`, which is made if need be.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the folder has a service already, or another process has it open;
    /// [`Error::Param`] for bad parameters; [`Error::Data`] for a model that is no plain regressor
    /// or classifier, or one that `catalog` does not open again.
    pub fn create(
        folder: impl AsRef<Path>,
        model: Box<dyn OnlineModel>,
        params: ServiceParams,
        catalog: &Catalog,
        options: Options,
    ) -> Result<Self> {
        let folder = folder.as_ref();
        let state = State::new(model, params)?;
        let envelope = state.champion.model.to_envelope()?;
        open_challenger(envelope.as_bytes(), catalog, state.signature())
            .map_err(|e| e.within("the model as its envelope opens"))?;
        let lock = lock(folder)?;
        let mut store = Store::open(&snapshots(folder), options.durability, options.keep.max(2))?;
        if store.load(&with_state(catalog))?.0.is_some() {
            return Err(Error::Conflict {
                what: format!("folder {}", folder.display()),
                expected: "no service".to_owned(),
                found: "one".to_owned(),
            });
        }
        store.save(&state)?;
        let nothing = |_, _, _: &[u8]| Ok(());
        let (log, _) = Log::open(&logs(folder), 1, options.durability, nothing)?;
        Ok(Self::start(state, log, store, options, catalog, lock))
    }

    /// Opens the service in `folder` as it was when its process ended, however that came about.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is none; [`Error::Conflict`] if another process has it open;
    /// [`Error::Corrupt`] if every snapshot, or the log, is damaged.
    pub fn open(
        folder: impl AsRef<Path>,
        catalog: &Catalog,
        options: Options,
    ) -> Result<(Self, Recovery)> {
        let folder = folder.as_ref();
        let none = || Error::NotFound { what: "service", name: folder.display().to_string() };
        if !snapshots(folder).is_dir() {
            return Err(none());
        }
        let lock = lock(folder)?;
        let mut store = Store::open(&snapshots(folder), options.durability, options.keep.max(2))?;
        let (state, refused) = store.load(&with_state(catalog))?;
        let mut state = state.ok_or_else(none)?;
        let snapshot = state.version;
        let mut room = Vec::new();
        let (log, found) =
            Log::open(&logs(folder), snapshot + 1, options.durability, |first, n, records| {
                let place = |e: Error| e.within(format!("the group of record {first}"));
                replay(&mut state, n, records, catalog, &mut room).map_err(place)
            })?;
        if 0 < found.torn {
            tracing::warn!(
                bytes = found.torn,
                folder = %folder.display(),
                "cut off an unfinished group at the end of the log; it was never acknowledged"
            );
        }
        let recovery =
            Recovery { snapshot, replayed: found.replayed, torn_bytes: found.torn, refused };
        Ok((Self::start(state, log, store, options, catalog, lock), recovery))
    }

    fn start(
        state: State,
        log: Log,
        store: Store,
        options: Options,
        catalog: &Catalog,
        lock: File,
    ) -> Self {
        let published = Arc::new(Published::of(&state));
        let signature = state.signature().clone();
        let since_snapshot = log.bytes();
        let writer = Writer {
            state,
            log,
            store,
            options,
            since_publication: 0,
            since_snapshot,
            replaced: Vec::new(),
            room: Vec::new(),
            _lock: lock,
        };
        let shared = Shared {
            published: ArcSwap::new(published),
            queue: Mutex::new(Vec::new()),
            writer: Mutex::new(writer),
            catalog: catalog.clone(),
            signature,
        };
        Self { shared: Arc::new(shared) }
    }

    /// A handle that answers.
    pub fn reader(&self) -> Reader {
        Reader { shared: Arc::clone(&self.shared) }
    }

    /// What the models of the service take and give.
    pub fn signature(&self) -> &Signature {
        &self.shared.signature
    }

    /// Takes in events, in order, and says what became of each. When this returns, they are
    /// durable and learnt, and readers see the model that learnt them (unless
    /// [`publish_every`](Options::publish_every) says otherwise).
    ///
    /// Several events at once cost one `fsync`, as do those of several threads that meet.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the log could not be written: no event was taken in. A single event that
    /// cannot be used is [`Outcome::Refused`], and the others are taken in.
    pub fn submit(&self, events: &[Event<'_>]) -> Result<Vec<Outcome>> {
        let mut records = Encoder::default();
        let mut n = 0;
        let refused: Vec<Option<Error>> = events
            .iter()
            .map(|event| {
                let checked = check(event, &self.shared.signature);
                if checked.is_ok() {
                    encode(event, &mut records);
                    n += 1;
                }
                checked.err()
            })
            .collect();
        let taken = if n == 0 { Vec::new() } else { self.shared.write(n, records)? };
        let mut taken = taken.into_iter();
        let outcome = |refused: Option<Error>| match refused {
            Some(e) => Outcome::Refused(e),
            None => taken.next().unwrap_or(Outcome::NotPending), // One each by construction.
        };
        Ok(refused.into_iter().map(outcome).collect())
    }

    /// Puts `model` on trial: it predicts and learns every row beside the champion, unseen, until
    /// a sequential test decides ([`Duel`](crate::Duel)). Once promoted, the former champion stays
    /// in the shadow for some time and comes back if it turns out to be better. A trial that is under way is withdrawn.
    /// Retraining counts as done.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] for a model of another signature; else those of [`submit`](Self::submit).
    pub fn challenge(&self, model: &dyn OnlineModel) -> Result<()> {
        let envelope = model.to_envelope()?;
        // So that nothing is logged that could not be opened again.
        open_challenger(envelope.as_bytes(), &self.shared.catalog, &self.shared.signature)?;
        self.change(&Record::Challenge(envelope.as_bytes()))
    }

    /// Withdraws the challenger, if there is one, and begins the cooldown of the retrain policy: what to do
    /// when retraining failed.
    pub fn dismiss(&self) -> Result<()> {
        self.change(&Record::Dismiss)
    }

    /// Says that the world has changed, as told by a detector of the caller's: retraining is due if
    /// the policy heeds drifts.
    pub fn signal_drift(&self) -> Result<()> {
        self.change(&Record::Drift)
    }

    fn change(&self, change: &Record<'_>) -> Result<()> {
        let mut records = Encoder::default();
        encode_change(change, &mut records);
        self.shared.write(1, records).map(drop)
    }

    /// Takes a snapshot now and cuts the log. The service does so by itself as the log grows.
    pub fn snapshot(&self) -> Result<()> {
        self.shared.lock()?.snapshot()
    }

    /// How things stand. Waits for a group that is being written, and looks through the rolling
    /// window and the monitor's.
    pub fn report(&self) -> Result<Report> {
        let writer = self.shared.lock()?;
        let State { counts, progress, conformal, watch, monitor, .. } = &writer.state;
        let trial = |is_former| {
            let of = |trial: &&Trial| trial.is_former == is_former;
            writer.state.trials.iter().find(of).map(|trial| TrialReport {
                rows: trial.duel.rows(),
                advantage: trial.duel.mean_advantage(),
                evidence: trial.evidence(),
            })
        };
        Ok(Report {
            version: writer.state.version,
            counts: *counts,
            waiting: writer.state.pending.len(),
            overall: progress.overall(),
            fading: progress.fading(),
            rolling: progress.rolling(),
            coverage: conformal.as_ref().and_then(|conformal| conformal.coverage().1),
            retrain_due: watch.due(),
            challenger: trial(false),
            former: trial(true),
            verdicts: writer.state.verdicts.clone(),
            columns: monitor.as_ref().map(crate::Monitor::look).unwrap_or_default(),
            log_bytes: writer.log.bytes(),
            time: writer.state.clock(),
        })
    }

    /// Why retraining is due, if it is. Stays until [`challenge`](Self::challenge) or
    /// [`dismiss`](Self::dismiss).
    pub fn retrain_due(&self) -> Result<Option<Reason>> {
        Ok(self.shared.lock()?.state.watch.due())
    }

    /// How the last trials ended, oldest first; their numbers tell which are new.
    pub fn verdicts(&self) -> Result<Vec<Verdict>> {
        Ok(self.shared.lock()?.state.verdicts.clone())
    }

    /// A metric over the rolling window, exactly.
    ///
    /// # Errors
    ///
    /// Those of [`Metric::score`](mm_core::Metric::score).
    pub fn rolling_metric(&self, metric: mm_core::Metric) -> Result<f64> {
        let writer = self.shared.lock()?;
        writer.state.progress.rolling_metric(metric, &self.shared.signature.task)
    }

    /// The rows kept for retraining, as a weighted table; see [`Replay`](crate::Replay).
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if there are none.
    pub fn replay(&self) -> Result<Dataset> {
        self.shared.lock()?.state.replay.export(&self.shared.signature)
    }

    /// A copy of the champion as it is now: to publish it elsewhere, or to make a challenger of it.
    pub fn champion(&self) -> Result<Box<dyn OnlineModel>> {
        Ok(self.shared.lock()?.state.champion.model.fork())
    }
}

/// How a service stands.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Records taken in.
    pub version: u64,
    /// What happened so far.
    pub counts: Counts,
    /// Rows that wait for their labels.
    pub waiting: usize,
    /// Progressive validation over all rows.
    pub overall: Scores,
    /// Over all rows, the older the less.
    pub fading: Scores,
    /// Over the last rows, exactly.
    pub rolling: Scores,
    /// The share of rows that their conformal sets covered.
    pub coverage: Option<f64>,
    /// Why retraining is due.
    pub retrain_due: Option<Reason>,
    /// The challenger's trial, if one is under way.
    pub challenger: Option<TrialReport>,
    /// The former champion's, which may come back, for as long as it may.
    pub former: Option<TrialReport>,
    /// How the last trials ended, oldest first.
    pub verdicts: Vec<Verdict>,
    /// Features and predictions against their reference, if there is a monitor.
    pub columns: Vec<ColumnDrift>,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// The latest time of the stream, ns since 1970-01-01 UTC.
    pub time: Option<i64>,
}

/// How a trial stands.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct TrialReport {
    /// Labelled rows so far.
    pub rows: u64,
    /// The mean advantage of the model on trial, in [−1, 1].
    pub advantage: f64,
    /// The evidence that the model on trial is better, as its trial weighs it
    /// ([`Duel`](crate::Duel)).
    pub evidence: f64,
}

impl Reader {
    /// Predicts one row into `out`, one value an output, and returns the version that did. Takes no
    /// lock and allocates nothing of its own.
    ///
    /// # Errors
    ///
    /// Those of [`Model::predict_row`].
    pub fn predict(&self, row: &[f32], out: &mut [f64]) -> Result<u64> {
        let published = self.shared.published.load();
        published.champion.model.predict_row(row, out)?;
        Ok(published.version)
    }

    /// Predicts many rows with one version.
    ///
    /// # Errors
    ///
    /// Those of [`Model::predict`].
    pub fn predict_all(&self, x: &Frame) -> Result<(Matrix, u64)> {
        let published = self.shared.published.load_full();
        Ok((published.champion.model.predict(x)?, published.version))
    }

    /// Predicts one row so that it can be remembered until its label comes: what every model of the
    /// service says, and the conformal set. Takes no lock.
    ///
    /// # Errors
    ///
    /// Those of [`Model::predict_row`].
    pub fn ask(&self, row: &[f32]) -> Result<Prediction> {
        event::check_row(row, &self.shared.signature)?;
        let published = self.shared.published.load();
        let mut champion = Said::default();
        published.champion.ask(row, &mut champion)?;
        let mut shadows = Vec::with_capacity(published.rivals.len());
        for rival in &published.rivals {
            let mut said = Said::default();
            // A model on trial that cannot answer has no say in this row.
            if rival.ask(row, &mut said).is_ok() {
                shadows.push(said);
            }
        }
        let (version, threshold) = (published.version, published.threshold);
        Ok(Prediction { version, champion, shadows, threshold })
    }

    /// The version that answers now.
    pub fn version(&self) -> u64 {
        self.shared.published.load().version
    }
}

impl Shared {
    fn lock(&self) -> Result<MutexGuard<'_, Writer>> {
        let panicked = |_| Error::Panicked("while learning; open the service anew".to_owned());
        self.writer.lock().map_err(panicked)
    }

    /// Writes records of one caller, together with those of others that wait.
    fn write(&self, n: u32, records: Encoder) -> Result<Vec<Outcome>> {
        let records = records.into_bytes();
        let submission = Arc::new(Submission { n, records, outcomes: Mutex::new(None) });
        let take = |submission: &Submission| {
            submission.outcomes.lock().ok().and_then(|mut outcomes| outcomes.take())
        };
        let mut queue = self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        queue.push(Arc::clone(&submission));
        drop(queue);
        let mut writer = self.lock()?;
        loop {
            // Somebody else may have written it while we waited.
            if let Some(outcomes) = take(&submission) {
                return outcomes;
            }
            let group = self.next_group();
            writer.write(&group, self);
        }
    }

    /// The submissions that wait, up to a limit: never none while ours waits.
    fn next_group(&self) -> Vec<Arc<Submission>> {
        let mut queue = self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut bytes = 0;
        let fits = queue.iter().take_while(|submission| {
            bytes += submission.records.len();
            bytes <= MAX_GROUP
        });
        let n = fits.count().max(1).min(queue.len());
        queue.drain(..n).collect()
    }
}

impl Writer {
    /// Writes a group, applies it, and tells each caller.
    fn write(&mut self, group: &[Arc<Submission>], shared: &Shared) {
        let n = group.iter().map(|submission| submission.n).sum();
        let joined: Vec<u8>;
        let records = if let [one] = group {
            &one.records
        } else {
            joined = group.iter().flat_map(|submission| &submission.records).copied().collect();
            &joined
        };
        let tell = |submission: &Submission, outcomes| {
            if let Ok(mut place) = submission.outcomes.lock() {
                *place = Some(outcomes);
            }
        };
        let before = self.log.bytes();
        if let Err(e) = self.make_room(records.len()).and_then(|()| self.log.append(n, records)) {
            for submission in group {
                tell(submission, Err(again(&e)));
            }
            return;
        }
        self.since_snapshot += self.log.bytes().saturating_sub(before);
        let mut from = Decoder::new(records, "group of records");
        for submission in group {
            let outcomes = (0..submission.n)
                .map(|_| step(&mut self.state, &mut from, &shared.catalog, &mut self.room))
                .collect();
            tell(submission, outcomes);
        }
        self.since_publication += 1;
        if self.options.publish_every <= self.since_publication {
            self.publish(shared);
        }
        if self.options.snapshot_bytes <= self.since_snapshot
            && let Err(e) = self.snapshot()
        {
            // Nothing is lost: the log has it all. The next group tries again, from
            // `max_log_bytes` on as a condition.
            tracing::error!(error = %e.chain(), "cannot take a snapshot; the log grows");
            self.since_snapshot = self.options.snapshot_bytes / 2;
        }
    }

    fn make_room(&mut self, bytes: usize) -> Result<()> {
        if self.log.bytes() + bytes as u64 <= self.options.max_log_bytes {
            return Ok(());
        }
        // The log is kept for the snapshot before this one as well, so that it may take another
        // group and another snapshot until it is short.
        self.snapshot()
    }

    fn publish(&mut self, shared: &Shared) {
        self.since_publication = 0;
        let new = Arc::new(Published::of(&self.state));
        self.replaced.push(shared.published.swap(new));
        self.replaced.retain(|old| 1 < Arc::strong_count(old));
    }

    fn snapshot(&mut self) -> Result<()> {
        self.log.rotate()?;
        self.store.save(&self.state)?;
        self.trim()
    }

    /// Lets go of what no snapshot in use needs.
    fn trim(&mut self) -> Result<()> {
        self.since_snapshot = 0;
        self.log.drop_before(self.store.oldest() + 1)?;
        self.store.prune()
    }
}

/// Applies the records of one group.
fn replay(
    state: &mut State,
    n: u32,
    records: &[u8],
    catalog: &Catalog,
    room: &mut Vec<f32>,
) -> Result<()> {
    let mut from = Decoder::new(records, "group of records");
    for _ in 0..n {
        step(state, &mut from, catalog, room)?;
    }
    from.finish()
}

/// Takes in the next record.
fn step(
    state: &mut State,
    from: &mut Decoder<'_>,
    catalog: &Catalog,
    room: &mut Vec<f32>,
) -> Result<Outcome> {
    let record = Record::decode(from, room)?;
    state.apply(record, room, catalog)
}

/// The same failure, for another caller.
fn again(error: &Error) -> Error {
    match error {
        Error::Io { action, path, source } => {
            let source = io::Error::new(source.kind(), source.to_string());
            Error::Io { action, path: path.clone(), source }
        }
        other => Error::data("group of records", "one that can be written", other.chain()),
    }
}

/// The catalog that opens snapshots: the caller's, and the snapshot itself.
fn with_state(catalog: &Catalog) -> Catalog {
    use mm_core::Persist as _;

    if catalog.tags().any(|tag| tag == State::TAG.name) {
        catalog.clone()
    } else {
        catalog.clone().with::<State>()
    }
}

fn snapshots(folder: &Path) -> PathBuf {
    folder.join("snapshots")
}

fn logs(folder: &Path) -> PathBuf {
    folder.join("log")
}

/// Makes the folder and takes it for this process.
fn lock(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
    let path = folder.join("lock");
    let open = File::options().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Conflict {
            what: format!("folder {}", folder.display()),
            expected: "a service that nobody has open".to_owned(),
            found: "one that is open".to_owned(),
        }),
        Err(fs::TryLockError::Error(e)) => Err(Error::io("lock", path)(e)),
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.shared.published.load().version;
        f.debug_struct("Service").field("version", &version).finish_non_exhaustive()
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version();
        f.debug_struct("Reader").field("version", &version).finish_non_exhaustive()
    }
}
