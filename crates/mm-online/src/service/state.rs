//! Everything that a service knows, as a function of the records of its log and nothing else.

use mm_core::{
    BodyReader, BodyWriter, Catalog, Envelope, Error, Frame, Late, Matrix, Model, OnlineModel,
    ParamError, Persist, Result, Sample, Signature, Tag,
};
use serde::{Deserialize, Serialize};

use super::{
    event::{Outcome, Prediction, Record, RowId, Said, check_finite, check_signature},
    pending::{Known, Pending, Waiting},
};
use crate::{
    bytes::{Decoder, Encoder},
    conformal::{Conformal, ConformalParams},
    drift::{AdwinParams, AnyDetector, Change, Detector as _, DetectorParams, Direction},
    monitor::{Monitor, MonitorParams},
    progress::{Judged, Progress, ProgressParams, decided, log_loss},
    retrain::{
        Replay, ReplayParams, RetrainPolicy,
        duel::Duel,
        policy::{Look, Watch},
    },
};

/// How a service learns, judges, and remembers; fixed when it is created, and kept with its state.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `known_ids` | 131,072 | ≥ 1 | learnt rows whose names are known, so that a repetition counts once |
/// | `pending` | 100,000 | ≥ 1 | rows that may wait for their labels at once; then the oldest is forgotten |
/// | `time_to_live` | none | > 0 | ns for which a row waits for its label, by the stream's own time |
/// | `progress` | | | how progressive validation looks back |
/// | `conformal` | none | | whether predictions have conformal sets |
/// | `replay` | | | rows kept for retraining |
/// | `retrain` | | | when retraining is due |
/// | `trial` | | | what a challenger must show |
/// | `detector` | ADWIN, rising errors only | | what watches the errors (0 and 1, or absolute) for a drift |
/// | `monitor` | none | | whether features and predictions are compared with a reference |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ServiceParams {
    /// Learnt rows whose names are known.
    pub known_ids: usize,
    /// Rows that may wait for their labels at once.
    pub pending: usize,
    /// Nanoseconds for which a row waits for its label.
    pub time_to_live: Option<i64>,
    /// How progressive validation looks back.
    pub progress: ProgressParams,
    /// Whether predictions have conformal sets.
    pub conformal: Option<ConformalParams>,
    /// Rows kept for retraining.
    pub replay: ReplayParams,
    /// When retraining is due.
    pub retrain: RetrainPolicy,
    /// What a challenger must show.
    pub trial: TrialParams,
    /// What watches the errors for a drift.
    pub detector: Option<DetectorParams>,
    /// Whether features and predictions are compared with a reference.
    pub monitor: Option<MonitorParams>,
}

impl Default for ServiceParams {
    fn default() -> Self {
        let rising = AdwinParams { direction: Direction::Up, ..AdwinParams::default() };
        Self {
            detector: Some(DetectorParams::Adwin(rising)),
            known_ids: 1 << 17,
            pending: 100_000,
            time_to_live: None,
            progress: ProgressParams::default(),
            conformal: None,
            replay: ReplayParams::default(),
            retrain: RetrainPolicy::default(),
            trial: TrialParams::default(),
            monitor: None,
        }
    }
}

impl ServiceParams {
    /// Edits in place, for chaining.
    #[must_use]
    pub fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }

    /// Checks every field.
    pub fn check(&self) -> Result<(), ParamError> {
        ParamError::ensure(1 <= self.known_ids, "known_ids", self.known_ids, "≥ 1")?;
        ParamError::ensure(1 <= self.pending, "pending", self.pending, "≥ 1")?;
        if let Some(ttl) = self.time_to_live {
            ParamError::ensure(0 < ttl, "time_to_live", ttl, "> 0")?;
        }
        self.progress.check()?;
        self.conformal.as_ref().map_or(Ok(()), ConformalParams::check)?;
        self.replay.check()?;
        self.retrain.check()?;
        self.trial.check()?;
        self.detector.map_or(Ok(()), |detector| detector.build().map(drop))?;
        self.monitor.as_ref().map_or(Ok(()), MonitorParams::check)
    }
}

/// What a challenger must show to be promoted, and the former champion to come back.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `error` | 0.05 | (0, 1) | the chance, at most, that a model that is no better is preferred |
/// | `max_rows` | 20,000 | ≥ 1 | labelled rows after which an undecided trial ends for the incumbent |
/// | `probation_rows` | 20,000 | ≥ 1 | labelled rows for which a former champion may come back |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TrialParams {
    /// The chance that a model that is no better is preferred.
    pub error: f64,
    /// Labelled rows after which an undecided trial ends.
    pub max_rows: u64,
    /// Labelled rows for which a former champion may come back.
    pub probation_rows: u64,
}

impl Default for TrialParams {
    fn default() -> Self {
        Self { error: 0.05, max_rows: 20_000, probation_rows: 20_000 }
    }
}

impl TrialParams {
    /// Checks every field.
    pub fn check(&self) -> Result<(), ParamError> {
        let ok = 0.0 < self.error && self.error < 1.0;
        ParamError::ensure(ok, "trial.error", self.error, "a number in (0, 1)")?;
        ParamError::ensure(1 <= self.max_rows, "trial.max_rows", self.max_rows, "≥ 1")?;
        let rows = self.probation_rows;
        ParamError::ensure(1 <= rows, "trial.probation_rows", rows, "≥ 1")
    }
}

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ending {
    /// The challenger is better and became the champion.
    Promoted,
    /// The challenger is not better, or nobody could tell in time.
    Rejected,
    /// The former champion is better after all and came back.
    RolledBack,
    /// The promoted model stays.
    Confirmed,
    /// Called off, or replaced by another model on trial.
    Withdrawn,
}

impl Ending {
    const ALL: [Self; 5] =
        [Self::Promoted, Self::Rejected, Self::RolledBack, Self::Confirmed, Self::Withdrawn];
}

/// The end of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Verdict {
    /// Verdicts of a service are numbered from 1.
    pub number: u64,
    /// The record after which it fell.
    pub version: u64,
    /// How the trial ended.
    pub ending: Ending,
    /// Labelled rows of the trial.
    pub rows: u64,
    /// The mean advantage of the model on trial, in [−1, 1].
    pub advantage: f64,
    /// The evidence that the model on trial is better, as its trial weighs it ([`Duel`]).
    pub evidence: f64,
}

/// How many verdicts are kept.
const MAX_VERDICTS: usize = 100;

/// A model with its number within the service.
#[derive(Debug)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    pub(crate) model: Box<dyn OnlineModel>,
}

impl Clone for Numbered {
    fn clone(&self) -> Self {
        Self { number: self.number, model: self.model.fork() }
    }
}

impl Numbered {
    /// What the model says of a row that passed the checks.
    pub(crate) fn ask(&self, x: &[f32], said: &mut Said) -> Result<()> {
        said.model = self.number;
        said.values.clear();
        said.values.resize(self.model.signature().n_outputs(), 0.0);
        said.note.clear();
        self.model.infer_noting(x, &mut said.values, &mut said.note)?;
        check_finite(&said.values)
    }
}

/// A model that runs in the shadow of the champion.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    pub(crate) rival: Numbered,
    pub(crate) is_former: bool, // A former champion, which may come back.
    pub(crate) duel: Duel,
}

impl Trial {
    /// Lets the rival learn a row; `said` is what it had said of it, if it had been asked.
    fn learn(&mut self, sample: &Sample<'_>, said: Option<&Said>, delay: u64) {
        let learnt = match said {
            Some(said) => self.rival.model.learn_late(sample, Late { note: &said.note, delay }),
            None => self.rival.model.learn_one(sample),
        };
        if let Err(e) = learnt {
            tracing::debug!(error = %e.chain(), "a model on trial refused a row");
        }
    }

    /// How the trial ends, if it is decided.
    fn ending(&self, params: &TrialParams) -> Option<Ending> {
        let (bar, evidence, rows) = (1.0 / params.error, self.evidence(), self.duel.rows());
        if self.is_former {
            if bar * params.probation_rows as f64 <= evidence {
                return Some(Ending::RolledBack);
            }
            return (params.probation_rows <= rows).then_some(Ending::Confirmed);
        }
        if bar <= evidence {
            return Some(Ending::Promoted);
        }
        let has_lost = bar <= self.duel.evidence_for_incumbent() || params.max_rows <= rows;
        has_lost.then_some(Ending::Rejected)
    }

    /// That the rival is better: by an e-value, or since some row, if it is a former champion.
    pub(crate) fn evidence(&self) -> f64 {
        if self.is_former {
            self.duel.evidence_since_any_row()
        } else {
            self.duel.evidence_for_rival()
        }
    }
}

/// What the service counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Rows that came, with or without a label.
    pub rows: u64,
    /// Rows that were learnt.
    pub learnt: u64,
    /// Events that repeated an earlier one.
    pub duplicates: u64,
    /// Labels for rows that were not waiting.
    pub not_pending: u64,
    /// Rows that waited for too long, or were too many.
    pub expired: u64,
    /// Rows that the champion would not learn.
    pub refused: u64,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) params: ServiceParams,
    pub(crate) version: u64, // Records taken in.
    pub(crate) champion: Numbered,
    pub(crate) trials: Vec<Trial>, // At most one challenger and one former champion.
    pub(crate) counts: Counts,
    pub(crate) progress: Progress,
    pub(crate) conformal: Option<Conformal>,
    pub(crate) replay: Replay,
    pub(crate) watch: Watch,
    detector: Option<AnyDetector>,
    pub(crate) monitor: Option<Monitor>,
    pub(crate) verdicts: Vec<Verdict>, // The last ones.
    pub(crate) pending: Pending,
    known: Known,
    clock: Option<i64>, // The latest time of the stream; never goes back.
    n_models: u64,
    n_verdicts: u64,
    scratch: Scratch,
}

/// Room that is used again for each row.
#[derive(Debug, Default)]
struct Scratch {
    champion: Said,
    rivals: Vec<Said>,
}

impl State {
    pub(crate) fn new(model: Box<dyn OnlineModel>, params: ServiceParams) -> Result<Self> {
        params.check()?;
        let signature = model.signature();
        check_signature(signature)?;
        let monitor = params.monitor.clone().map(|p| Monitor::new(p, signature)).transpose()?;
        Ok(Self {
            version: 0,
            trials: Vec::new(),
            counts: Counts::default(),
            progress: Progress::new(params.progress.clone(), &signature.task)?,
            conformal: params.conformal.clone().map(Conformal::new).transpose()?,
            replay: Replay::new(params.replay.clone())?,
            watch: Watch::default(),
            detector: params.detector.map(DetectorParams::build).transpose()?,
            monitor,
            verdicts: Vec::new(),
            pending: Pending::default(),
            known: Known::default(),
            clock: None,
            champion: Numbered { number: 1, model },
            n_models: 1,
            n_verdicts: 0,
            scratch: Scratch::default(),
            params,
        })
    }

    /// Takes in one record; `x` are its features.
    ///
    /// # Errors
    ///
    /// Only a challenger that cannot be opened; nothing has changed then.
    pub(crate) fn apply(
        &mut self,
        record: Record<'_>,
        x: &[f32],
        catalog: &Catalog,
    ) -> Result<Outcome> {
        let outcome = match record {
            Record::Learn { id, y, weight, time } => {
                self.expire(time);
                if self.pending.contains(id) {
                    self.label(id, y, weight, time)
                } else if self.known.contains(id) {
                    Outcome::Duplicate
                } else {
                    self.counts.rows += 1;
                    self.learn_at_once(id, &Sample { x, y, weight, time })
                }
            }
            Record::Remember { id, time, prediction } => {
                self.expire(time);
                self.remember(id, x, time, prediction)
            }
            Record::Label { id, y, weight, time } => {
                self.expire(time);
                self.label(id, y, weight, time)
            }
            Record::Challenge(envelope) => {
                let model = open_challenger(envelope, catalog, self.champion.model.signature())?;
                self.challenge(model);
                Outcome::Learnt
            }
            Record::Dismiss => {
                self.end_trial(false, Ending::Withdrawn);
                self.watch.reset(self.clock);
                Outcome::Learnt
            }
            Record::Drift => {
                self.watch.drifted();
                Outcome::Learnt
            }
        };
        self.version += 1;
        match &outcome {
            Outcome::Duplicate => self.counts.duplicates += 1,
            Outcome::NotPending => self.counts.not_pending += 1,
            Outcome::Refused(_) => self.counts.refused += 1,
            Outcome::Learnt | Outcome::Remembered => {}
        }
        Ok(outcome)
    }

    fn expire(&mut self, time: Option<i64>) {
        self.clock = self.clock.max(time);
        let since =
            self.clock.zip(self.params.time_to_live).map(|(now, ttl)| now.saturating_sub(ttl));
        self.counts.expired += self.pending.expire(self.params.pending, since);
    }

    fn remember(
        &mut self,
        id: RowId,
        x: &[f32],
        time: Option<i64>,
        prediction: Prediction,
    ) -> Outcome {
        if self.pending.contains(id) || self.known.contains(id) {
            return Outcome::Duplicate;
        }
        self.counts.rows += 1;
        self.look_at(x, prediction.values());
        let (last_label, usual_label) = self.progress.baselines();
        let row = self.counts.rows;
        self.pending.push(Waiting {
            id,
            row,
            time,
            last_label,
            usual_label,
            x: x.into(),
            prediction,
        });
        self.counts.expired += self.pending.expire(self.params.pending, None);
        Outcome::Remembered
    }

    fn learn_at_once(&mut self, id: RowId, sample: &Sample<'_>) -> Outcome {
        if sample.weight == 0.0 {
            self.known.push(id, self.params.known_ids);
            return Outcome::Learnt;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let outcome = (|| {
            self.champion.ask(sample.x, &mut scratch.champion)?;
            scratch.rivals.resize_with(self.trials.len(), Said::default);
            for (trial, said) in self.trials.iter().zip(&mut scratch.rivals) {
                if trial.rival.ask(sample.x, said).is_err() {
                    said.model = 0; // Nobody's number: it has no say in this row.
                }
            }
            let threshold = self.conformal.as_ref().map(Conformal::threshold);
            let (last_label, usual_label) = self.progress.baselines();
            let late = Late { note: &scratch.champion.note, delay: 0 };
            self.champion.model.learn_late(sample, late)?;
            self.look_at(sample.x, &scratch.champion.values);
            let (y, weight) = (sample.y, sample.weight);
            let values = &scratch.champion.values;
            self.progress.judge(Judged { values, y, weight, last_label, usual_label });
            self.settle(sample, values, threshold);
            let rivals = &scratch.rivals;
            let by = |number| rivals.iter().find(|said| said.model == number);
            self.step_trials(sample, Some(values), by, 0);
            Ok(())
        })();
        self.scratch = scratch;
        self.finish(id, outcome)
    }

    fn label(&mut self, id: RowId, y: f64, weight: f64, time: Option<i64>) -> Outcome {
        let Some(waiting) = self.pending.take(id) else {
            let is_known = self.known.contains(id);
            return if is_known { Outcome::Duplicate } else { Outcome::NotPending };
        };
        if weight == 0.0 {
            self.known.push(id, self.params.known_ids);
            return Outcome::Learnt;
        }
        let delay = self.counts.rows - waiting.row;
        let sample = Sample { x: &waiting.x, y, weight, time: waiting.time.or(time) };
        let said = waiting.prediction.by(self.champion.number);
        let learnt = match said {
            Some(said) => self.champion.model.learn_late(&sample, Late { note: &said.note, delay }),
            // It was promoted in the meantime, and had not been asked.
            None => self.champion.model.learn_one(&sample),
        };
        if learnt.is_ok() {
            let Waiting { last_label, usual_label, prediction, .. } = &waiting;
            let (values, last_label, usual_label) =
                (prediction.values(), *last_label, *usual_label);
            self.progress.judge(Judged { values, y, weight, last_label, usual_label });
            self.settle(&sample, values, prediction.threshold);
            let champion = said.map(|said| &said.values[..]);
            self.step_trials(&sample, champion, |number| prediction.by(number), delay);
        } else {
            self.pending.push(waiting); // A label that can be learnt may yet come.
        }
        self.finish(id, learnt)
    }

    fn finish(&mut self, id: RowId, learnt: Result<()>) -> Outcome {
        if let Err(e) = learnt {
            return Outcome::Refused(e);
        }
        self.counts.learnt += 1;
        self.known.push(id, self.params.known_ids);
        let Self { progress, champion, watch, params, clock, .. } = self;
        let task = &champion.model.signature().task;
        let metric = |metric| progress.rolling_metric(metric, task).ok();
        watch.step(&params.retrain, &Look { now: *clock, metric: &metric });
        Outcome::Learnt
    }

    /// Shows a row and its prediction to the monitor, whose alarm is a drift.
    fn look_at(&mut self, x: &[f32], values: &[f64]) {
        if self.monitor.as_mut().is_some_and(|monitor| monitor.push(x, values)) {
            self.watch.drifted();
        }
    }

    /// Lets what learns from the served prediction learn from it.
    fn settle(&mut self, sample: &Sample<'_>, values: &[f64], threshold: Option<f64>) {
        let is_regression = self.champion.model.signature().task.n_classes() == 0;
        if let (Some(conformal), Some(threshold)) = (&mut self.conformal, threshold) {
            conformal.update(Conformal::score(values, sample.y, is_regression), threshold);
        }
        let loss =
            if is_regression { (sample.y - values[0]).abs() } else { log_loss(values, sample.y) };
        self.replay.push(sample.x, sample.y, sample.weight, sample.time, loss);
        let error =
            if is_regression { loss } else { f64::from(decided(values) as f64 != sample.y) };
        if self.detector.as_mut().is_some_and(|d| d.update(error) == Change::Drift) {
            self.watch.drifted();
        }
    }

    /// Lets the models on trial learn, and ends the trials that are decided. `champion` is what the
    /// champion of now had said, if it had been asked; `by` is what another model had.
    fn step_trials<'a>(
        &mut self,
        sample: &Sample<'_>,
        champion: Option<&[f64]>,
        by: impl Fn(u64) -> Option<&'a Said>,
        delay: u64,
    ) {
        let mut endings = [None; 2];
        for trial in &mut self.trials {
            let rival = by(trial.rival.number);
            trial.learn(sample, rival, delay);
            if let (Some(champion), Some(rival)) = (champion, rival) {
                let is_regression = trial.rival.model.signature().task.n_classes() == 0;
                let advantage = Duel::advantage(champion, &rival.values, sample.y, is_regression);
                trial.duel.record(advantage);
                endings[usize::from(trial.is_former)] = trial.ending(&self.params.trial);
            }
        }
        // The former champion first: if it comes back, the challenger must beat it instead.
        if let Some(ending) = endings[1] {
            self.end_trial(true, ending);
        }
        if let Some(ending) = endings[0]
            && endings[1] != Some(Ending::RolledBack)
        {
            self.end_trial(false, ending);
        }
    }

    fn challenge(&mut self, model: Box<dyn OnlineModel>) {
        self.end_trial(false, Ending::Withdrawn);
        self.n_models += 1;
        let rival = Numbered { number: self.n_models, model };
        self.trials.push(Trial { rival, is_former: false, duel: Duel::default() });
        self.watch.reset(self.clock);
        if let Some(monitor) = &mut self.monitor {
            monitor.rebase();
        }
    }

    /// Ends the trial of the challenger or of the former champion, if there is one.
    fn end_trial(&mut self, is_former: bool, ending: Ending) {
        let at = self.trials.iter().position(|trial| trial.is_former == is_former);
        let Some(mut trial) = at.map(|at| self.trials.remove(at)) else { return };
        if ending == Ending::Promoted {
            self.end_trial(true, Ending::Withdrawn); // There is a nearer way back now.
        }
        self.n_verdicts += 1;
        self.verdicts.push(Verdict {
            number: self.n_verdicts,
            version: self.version + 1, // That of the record being taken in.
            ending,
            rows: trial.duel.rows(),
            advantage: trial.duel.mean_advantage(),
            evidence: trial.evidence(),
        });
        if MAX_VERDICTS < self.verdicts.len() {
            self.verdicts.remove(0);
        }
        if !matches!(ending, Ending::Promoted | Ending::RolledBack) {
            return;
        }
        std::mem::swap(&mut self.champion, &mut trial.rival);
        // Its errors are not those of the model before, and whoever is on trial has a new opponent.
        self.detector.iter_mut().for_each(AnyDetector::reset);
        self.trials.iter_mut().for_each(|trial| trial.duel = Duel::default());
        if ending == Ending::Promoted {
            self.trials.push(Trial { is_former: true, duel: Duel::default(), ..trial });
        }
    }

    pub(crate) fn clock(&self) -> Option<i64> {
        self.clock
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let mut to = Encoder::default();
        to.u64(self.version);
        to.option_i64(self.clock);
        let Counts { rows, learnt, duplicates, not_pending, expired, refused } = self.counts;
        for n in [rows, learnt, duplicates, not_pending, expired, refused] {
            to.u64(n);
        }
        for n in [self.n_models, self.n_verdicts, self.champion.number] {
            to.u64(n);
        }
        to.u32(self.verdicts.len() as u32);
        for verdict in &self.verdicts {
            let place = Ending::ALL.iter().position(|&ending| ending == verdict.ending);
            to.u8(place.unwrap_or_default() as u8);
            to.u64(verdict.number);
            to.u64(verdict.version);
            to.u64(verdict.rows);
            to.f64(verdict.advantage);
            to.f64(verdict.evidence);
        }
        self.progress.encode(&mut to);
        if let Some(conformal) = &self.conformal {
            conformal.encode(&mut to);
        }
        if let Some(monitor) = &self.monitor {
            monitor.encode(&mut to);
        }
        if let Some(detector) = &self.detector {
            let detector = postcard::to_stdvec(detector)
                .map_err(|e| Error::data("state of a detector", "one that can be written", e))?;
            to.block(&detector);
        }
        self.replay.encode(&mut to);
        self.watch.encode(&mut to);
        self.pending.encode(&mut to);
        self.known.encode(&mut to);
        to.u32(self.trials.len() as u32);
        for trial in &self.trials {
            to.u64(trial.rival.number);
            to.flag(trial.is_former);
            trial.duel.encode(&mut to);
        }
        Ok(to.into_bytes())
    }

    /// Reads what `encode` wrote; of each model on trial the number, the role, and the duel.
    fn decode(&mut self, from: &mut Decoder<'_>) -> Result<Vec<(u64, bool, Duel)>> {
        self.version = from.u64()?;
        self.clock = from.option_i64()?;
        let Counts { rows, learnt, duplicates, not_pending, expired, refused } = &mut self.counts;
        for count in [rows, learnt, duplicates, not_pending, expired, refused] {
            *count = from.u64()?;
        }
        for number in [&mut self.n_models, &mut self.n_verdicts, &mut self.champion.number] {
            *number = from.u64()?;
        }
        for _ in 0..from.count(41)? {
            let place = from.u8()?;
            let ending = *Ending::ALL
                .get(usize::from(place))
                .ok_or_else(|| from.damaged("the end of a trial", place))?;
            let (number, version, rows) = (from.u64()?, from.u64()?, from.u64()?);
            let (advantage, evidence) = (from.f64()?, from.f64()?);
            self.verdicts.push(Verdict { number, version, ending, rows, advantage, evidence });
        }
        let params = self.params.clone();
        let signature = self.champion.model.signature();
        self.progress = Progress::decode(from, params.progress, &signature.task)?;
        if let Some(conformal) = &mut self.conformal {
            *conformal = Conformal::decode(from, params.conformal.unwrap_or_default())?;
        }
        if let Some(monitor) = &mut self.monitor {
            *monitor = Monitor::decode(from, params.monitor.unwrap_or_default(), signature)?;
        }
        if let Some(detector) = &mut self.detector {
            let read = postcard::from_bytes(from.block()?);
            *detector = read
                .ok()
                .filter(AnyDetector::is_valid)
                .ok_or_else(|| from.damaged("the state of a detector", "another"))?;
        }
        self.replay = Replay::decode(from, params.replay)?;
        self.watch = Watch::decode(from)?;
        self.pending = Pending::decode(from)?;
        self.known = Known::decode(from)?;
        let n = from.count(9)?;
        let trial = |_| Ok((from.u64()?, from.flag()?, Duel::decode(from)?));
        (0..n).map(trial).collect()
    }
}

/// Opens an envelope as a model that may take the place of one with `signature`.
pub(crate) fn open_challenger(
    envelope: &[u8],
    catalog: &Catalog,
    signature: &Signature,
) -> Result<Box<dyn OnlineModel>> {
    let model = open_online(&*catalog.open(envelope)?)?;
    let ours = model.signature();
    let fits = ours.schema == signature.schema
        && ours.task == signature.task
        && ours.outputs == signature.outputs;
    if fits {
        return Ok(model);
    }
    Err(Error::data("signature of the challenger", "that of the champion", "another"))
}

/// A copy of an opened model that can keep learning.
pub(crate) fn open_online(model: &dyn Model) -> Result<Box<dyn OnlineModel>> {
    let online = model.as_online().ok_or_else(|| {
        let expected = "one that keeps learning; wrap a batch model in `Frozen`";
        Error::data("model", expected, "one that does not")
    })?;
    Ok(online.fork())
}

impl Clone for State {
    fn clone(&self) -> Self {
        Self {
            params: self.params.clone(),
            champion: self.champion.clone(),
            trials: self.trials.clone(),
            progress: self.progress.clone(),
            conformal: self.conformal.clone(),
            replay: self.replay.clone(),
            watch: self.watch.clone(),
            detector: self.detector.clone(),
            monitor: self.monitor.clone(),
            verdicts: self.verdicts.clone(),
            pending: self.pending.clone(),
            known: self.known.clone(),
            scratch: Scratch::default(),
            ..*self
        }
    }
}

/// A snapshot predicts as the champion did.
impl Model for State {
    fn signature(&self) -> &Signature {
        self.champion.model.signature()
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        self.champion.model.infer(x, out)
    }

    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        self.champion.model.infer_row(row, out)
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }

    fn as_online(&self) -> Option<&dyn OnlineModel> {
        Some(&*self.champion.model)
    }
}

impl Persist for State {
    const TAG: Tag = Tag::new("mm.online-service", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.json(&self.params)?;
        body.bytes(&self.encode()?);
        body.model(&*self.champion.model)?;
        self.trials.iter().try_for_each(|trial| body.model(&*trial.rival.model))
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        let params: ServiceParams = body.json()?;
        let bytes = body.bytes()?;
        let champion = open_online(&*body.model()?)?;
        let mut state = Self::new(champion, params)
            .map_err(|e| Error::corrupt("snapshot of a service", "a valid one", e.chain()))?;
        let mut from = Decoder::new(bytes, "snapshot of a service");
        let trials = state.decode(&mut from)?;
        from.finish()?;
        for (number, is_former, duel) in trials {
            let rival = Numbered { number, model: open_online(&*body.model()?)? };
            state.trials.push(Trial { rival, is_former, duel });
        }
        Ok(state)
    }
}
