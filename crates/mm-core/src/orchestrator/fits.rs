//! The stages that fit: each candidate to each fold, then what succeeded to all rows.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Entry, Event, Status,
    checkpoint::{Predicted, Timing},
    run::{Checked, Fitted, Models, Run},
};
use crate::{
    context::{Signal, Step},
    data::Dataset,
    error::{Error, Result},
    model::{BoxModel, Model},
    parallel,
    schedule::{self, Demand},
    snapshot::Snapshots,
};

/// A model of a fold that is continued from, and its rounds.
pub(super) struct Rung {
    pub(super) model: BoxModel,
    pub(super) rounds: usize,
}

/// How one fit is run, beyond what the plan says of all.
#[derive(Clone, Copy)]
pub(super) struct Manner<'a> {
    pub(super) threads: NonZeroUsize,
    /// Hears each step, and may end the fit.
    pub(super) hear: &'a (dyn Fn(&Step<'_>) -> Signal + Sync),
    /// What is continued from.
    pub(super) after: Option<&'a Rung>,
    pub(super) deadline: Option<Instant>,
    /// Seconds after which the fit ends.
    pub(super) seconds: Option<f64>,
    /// What the fit is scored on after every so many rounds, where the plan has no `validation`.
    pub(super) watched: Option<(&'a Dataset, NonZeroUsize)>,
    /// In place of the run's.
    pub(super) snapshots: Option<&'a Snapshots>,
}

impl Manner<'_> {
    /// With so many threads, and nothing else.
    pub(super) fn with(threads: NonZeroUsize) -> Self {
        let hear = &|_: &Step<'_>| Signal::Continue;
        Self {
            threads,
            hear,
            after: None,
            deadline: None,
            seconds: None,
            watched: None,
            snapshots: None,
        }
    }
}

/// A candidate fitted to all rows.
struct Refitted {
    model: Arc<dyn Model>,
    bytes: usize,
    cut_short: bool,
}

impl Run<'_> {
    /// Fits one candidate to a fold's training rows, or to all.
    fn fit(
        &self,
        candidate: &Checked,
        fold: Option<usize>,
        manner: Manner<'_>,
    ) -> Result<(BoxModel, Timing)> {
        let stopped = AtomicBool::new(false);
        let observer = |step: &Step<'_>| {
            let answer = match self.say(&Event::Step { candidate: &candidate.name, fold, step }) {
                Signal::Continue => (manner.hear)(step),
                other => other,
            };
            if answer != Signal::Continue {
                stopped.store(true, Ordering::Relaxed);
            }
            answer
        };
        let mut ctx = self.context(self.seed(fold), manner.threads).with_observer(&observer);
        if let Some(rung) = manner.after {
            ctx = ctx.fork(rung.rounds as u64); // Or the same random numbers would come again.
        }
        for seconds in [self.plan.budget.fit_seconds, manner.seconds].into_iter().flatten() {
            ctx = ctx.within(Duration::from_secs_f64(seconds));
        }
        if let Some(deadline) = manner.deadline {
            ctx = ctx.with_deadline(deadline);
        }
        ctx.snapshots = manner.snapshots.or(ctx.snapshots);
        ctx.check_cancelled()?;
        if ctx.is_due() {
            return Err(Error::Deadline);
        }
        let (train, held_out) = self.training(fold)?;
        if let Some(held_out) = &held_out {
            ctx = ctx.with_validation(held_out);
        } else if let Some((watched, every)) = manner.watched {
            ctx = ctx.with_validation(watched);
            ctx.score_every = every;
        }
        let started = Instant::now();
        let model = match (manner.after, candidate.learner.as_warm_start()) {
            (Some(rung), Some(warm)) => warm.fit_from(&*rung.model, &train, &ctx)?,
            _ => candidate.learner.fit_boxed(&train, &ctx)?,
        };
        let fit_seconds = started.elapsed().as_secs_f64();
        let cut_short = ctx.is_due() || stopped.load(Ordering::Relaxed);
        Ok((model, Timing { fit_seconds, predict_seconds: 0.0, cut_short }))
    }

    pub(super) fn cross_fit(&self) -> Result<Vec<Fitted>> {
        let n_folds = self.folds.len();
        let place = |job: usize| (job / n_folds, job % n_folds);
        let kept = |job: usize| {
            let (c, f) = place(job);
            let kept = self.checkpoint.fold(&self.key(&self.candidates[c], Some(f)));
            kept.filter(|fold| fold.values.n_rows() == self.folds[f].test.len()).map(Ok)
        };
        let mut results: Vec<Option<Result<Predicted>>> =
            (0..self.candidates.len() * n_folds).map(kept).collect();
        let jobs: Vec<usize> = (0..results.len()).filter(|&job| results[job].is_none()).collect();
        self.say(&Event::Planned { fits: results.len(), resumed: results.len() - jobs.len() });

        // The first fold that failed, by candidate: those after it are skipped, so that the fold
        // that is reported does not depend on threads.
        let first_failed = |candidate: &Checked| {
            AtomicUsize::new(if candidate.failure.is_some() { 0 } else { n_folds })
        };
        let failed: Vec<AtomicUsize> = self.candidates.iter().map(first_failed).collect();
        let demands = vec![Demand::of(self.data); jobs.len()];
        let done = schedule::run(self.threads, &demands, |job, threads| {
            let (c, f) = place(jobs[job]);
            if failed[c].load(Ordering::Relaxed) < f || self.candidates[c].failure.is_some() {
                return None;
            }
            let result = schedule::contain(|| self.fold(c, f, threads));
            if result.is_err() {
                failed[c].fetch_min(f, Ordering::Relaxed);
            }
            Some(result)
        });
        self.check_cancelled()?;
        for (job, result) in jobs.into_iter().zip(done) {
            results[job] = result;
        }
        let fitted = self.candidates.iter().map(|candidate| match &candidate.failure {
            None => Ok(Vec::new()),
            Some(reason) => Err(Error::config("tune", reason)),
        });
        let mut fitted: Vec<Fitted> = fitted.collect();
        for (job, result) in results.into_iter().enumerate() {
            let (c, f) = place(job);
            if let (Ok(folds), Some(result)) = (&mut fitted[c], result) {
                match result {
                    Ok(fold) => folds.push(fold),
                    Err(e) => fitted[c] = Err(e.within(format!("fold {f}"))),
                }
            }
        }
        Ok(fitted)
    }

    /// Fits, predicts, and keeps one fold of one candidate.
    fn fold(&self, c: usize, f: usize, threads: NonZeroUsize) -> Result<Predicted> {
        let candidate = &self.candidates[c];
        let (_, predicted) = self.fit_fold(candidate, f, Manner::with(threads))?;
        let score = predicted.score(&self.metric, &self.data.take(&self.folds[f].test))?;
        let timing = predicted.timing;
        if !timing.cut_short {
            self.checkpoint.keep_fold(&self.key(candidate, Some(f)), &predicted);
        }
        let (candidate, fit_seconds) = (&candidate.name, timing.fit_seconds);
        self.say(&Event::Fold { candidate, fold: f, score, fit_seconds });
        Ok(predicted)
    }

    /// Fits one fold of a learner and predicts its test rows.
    pub(super) fn fit_fold(
        &self,
        candidate: &Checked,
        f: usize,
        manner: Manner<'_>,
    ) -> Result<(BoxModel, Predicted)> {
        let fold = &self.folds[f];
        let (model, mut timing) = self.fit(candidate, Some(f), manner)?;
        let test = self.data.take(&fold.test);
        let started = Instant::now();
        // Within this job's share of the budget, as the fit.
        let values = parallel::with_threads(manner.threads, || model.predict(test.frame()))??;
        timing.predict_seconds = started.elapsed().as_secs_f64();
        if let Some(i) = values.values().iter().position(|y| !y.is_finite()) {
            let place = format!("prediction of row {}", fold.test[i / values.n_cols()]);
            return Err(Error::data(place, "a finite number", values.values()[i]));
        }
        let outputs = model.signature().outputs.clone();
        Ok((model, Predicted { timing, outputs, values }))
    }

    /// Fits what succeeded to all rows. A failure here costs the candidate its place.
    pub(super) fn refit(&self, entries: &mut [Entry]) -> Result<Models> {
        let jobs: Vec<usize> = (0..entries.len()).filter(|&c| !entries[c].has_failed()).collect();
        let demands = vec![Demand::of(self.data); jobs.len()];
        let done = schedule::run(self.threads, &demands, |job, threads| {
            schedule::contain(|| self.refit_one(&self.candidates[jobs[job]], threads))
        });
        self.check_cancelled()?;
        let mut models = Models::new();
        for (c, result) in jobs.into_iter().zip(done) {
            match result {
                Ok(Refitted { model, bytes, cut_short }) => {
                    entries[c].bytes = Some(bytes);
                    if cut_short {
                        entries[c].status = Status::CutShort;
                    }
                    models.push((entries[c].name.clone(), model));
                }
                Err(e) => self.fail(&mut entries[c], &e.within("the fit to all rows")),
            }
        }
        Ok(models)
    }

    fn refit_one(&self, candidate: &Checked, threads: NonZeroUsize) -> Result<Refitted> {
        let key = self.key(candidate, None);
        if let Some(bytes) = self.checkpoint.model(&key)
            && let Ok(model) = self.outer.catalog.open(&bytes)
        {
            return Ok(Refitted { model: Arc::from(model), bytes: bytes.len(), cut_short: false });
        }
        let (model, Timing { fit_seconds, cut_short, .. }) =
            self.fit(candidate, None, Manner::with(threads))?;
        let envelope = model.to_envelope()?;
        if !cut_short {
            self.checkpoint.keep_model(&key, envelope.as_bytes());
        }
        self.say(&Event::Refitted { candidate: &candidate.name, fit_seconds });
        Ok(Refitted { model: Arc::from(model), bytes: envelope.as_bytes().len(), cut_short })
    }
}
