//! What a fit is given besides data: seed, threads, deadline, validation data, observer.
//!
//! The run is not the algorithm. Seed, threads, deadline, cancellation, validation data, and
//! observer travel together, by reference, and are never hyper-parameters. A composite hands each
//! part a [`fork`](FitContext::fork), so that a part's randomness depends on its place and not on
//! the order in which threads reach it.

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    data::Dataset,
    error::{Error, Result},
    snapshot::Snapshots,
};

/// Seed, threads, deadline, validation data, and observer of one fit.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct FitContext<'a> {
    /// All randomness of the fit derives from this.
    pub seed: u64,
    /// Threads that the fit may use.
    pub threads: NonZeroUsize,
    /// When to stop and return the best model so far.
    pub deadline: Option<Instant>,
    /// Held-out data for early stopping and for the observer's metrics.
    pub validation: Option<&'a Dataset>,
    /// Boosted trees score the validation data after every so many rounds, and after the last. 1 unless
    /// somebody asks for less: between two scores early stopping learns nothing.
    pub score_every: NonZeroUsize,
    /// Calls the fit off from another thread.
    pub cancel: Option<&'a Cancel>,
    /// Where a long fit keeps its state, so that it goes on after a kill.
    pub snapshots: Option<&'a Snapshots>,
    /// Where progress goes.
    pub observer: &'a dyn Observer,
}

impl FitContext<'static> {
    /// One thread, no deadline, nobody watching.
    pub fn seeded(seed: u64) -> Self {
        Self {
            seed,
            threads: NonZeroUsize::MIN,
            deadline: None,
            validation: None,
            score_every: NonZeroUsize::MIN,
            cancel: None,
            snapshots: None,
            observer: &Silent,
        }
    }
}

impl<'a> FitContext<'a> {
    /// The same context with a seed of its own for part `index`.
    #[must_use]
    pub fn fork(&self, index: u64) -> Self {
        Self { seed: split_mix(self.seed ^ split_mix(index)), ..*self }
    }

    /// The same with `threads` threads; 0 is taken as 1.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads: NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN), ..self }
    }

    /// The same with held-out data.
    #[must_use]
    pub fn with_validation<'b>(self, validation: &'b Dataset) -> FitContext<'b>
    where
        'a: 'b,
    {
        FitContext { validation: Some(validation), ..self }
    }

    /// The same with an observer.
    #[must_use]
    pub fn with_observer<'b>(self, observer: &'b dyn Observer) -> FitContext<'b>
    where
        'a: 'b,
    {
        FitContext { observer, ..self }
    }

    /// The same with a switch that calls the fit off.
    #[must_use]
    pub fn with_cancel<'b>(self, cancel: &'b Cancel) -> FitContext<'b>
    where
        'a: 'b,
    {
        FitContext { cancel: Some(cancel), ..self }
    }

    /// The same with a folder for the state of long fits.
    #[must_use]
    pub fn with_snapshots<'b>(self, snapshots: &'b Snapshots) -> FitContext<'b>
    where
        'a: 'b,
    {
        FitContext { snapshots: Some(snapshots), ..self }
    }

    /// The same with a deadline, or with the earlier one if there are two.
    #[must_use]
    pub fn with_deadline(self, deadline: Instant) -> Self {
        let deadline = self.deadline.map_or(deadline, |other| other.min(deadline));
        Self { deadline: Some(deadline), ..self }
    }

    /// The same with at most `time` from now.
    #[must_use]
    pub fn within(self, time: Duration) -> Self {
        Instant::now().checked_add(time).map_or(self, |deadline| self.with_deadline(deadline))
    }

    /// Whether the deadline has passed.
    pub fn is_due(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// An error if the fit was called off.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.cancel.is_some_and(Cancel::is_cancelled) { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Whether the validation data are scored after round `round`, from 1, of `rounds`.
    pub fn is_scored(&self, round: usize, rounds: usize) -> bool {
        round.is_multiple_of(self.score_every.get()) || round == rounds
    }

    /// Reports one finished iteration and asks whether to go on: what every iterative learner
    /// calls once an iteration. `Ok(true)` is go on; `Ok(false)` is stop and return the model so
    /// far (the deadline passed, or the observer has seen enough).
    pub fn step(&self, step: &Step<'_>) -> Result<bool> {
        self.check_cancelled()?;
        match self.observer.on_step(step) {
            Signal::Continue => Ok(!self.is_due()),
            Signal::Stop => Ok(false),
            Signal::Abort => Err(Error::Cancelled),
        }
    }
}

impl fmt::Debug for FitContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FitContext")
            .field("seed", &self.seed)
            .field("threads", &self.threads)
            .field("deadline", &self.deadline)
            .field("validation", &self.validation)
            .finish_non_exhaustive()
    }
}

/// A switch that calls a fit off from another thread; clones are the same switch.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Calls the fit off. It ends with [`Error::Cancelled`] at its next iteration.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the fit was called off.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// One iteration of a fit, as the observer hears it: a boosting round, an epoch, a fold.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Step<'a> {
    /// The iteration just finished, from 1.
    pub iteration: usize,
    /// How many there will be at most.
    pub total: usize,
    /// Metrics on the validation data, by name; empty without validation data.
    pub metrics: &'a [(String, f64)],
}

impl<'a> Step<'a> {
    /// Iteration `iteration` of at most `total`.
    pub fn new(iteration: usize, total: usize, metrics: &'a [(String, f64)]) -> Self {
        Self { iteration, total, metrics }
    }
}

/// An observer's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signal {
    /// Go on.
    #[default]
    Continue,
    /// Stop here and return the model so far.
    Stop,
    /// Give up: the fit ends with [`Error::Cancelled`]. Pruned trials end so.
    Abort,
}

/// Hears each iteration of a fit and may end it.
///
/// One mechanism serves progress bars, pruning of trials, checkpoints, and logs. It is called from
/// the thread that fits; composites call it from several threads at once.
pub trait Observer: Send + Sync {
    /// Called after each iteration.
    fn on_step(&self, step: &Step<'_>) -> Signal;
}

/// An observer that hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn on_step(&self, _: &Step<'_>) -> Signal {
        Signal::Continue
    }
}

/// Any function of a step is an observer.
impl<F: Fn(&Step<'_>) -> Signal + Send + Sync> Observer for F {
    fn on_step(&self, step: &Step<'_>) -> Signal {
        self(step)
    }
}

/// The finaliser of Steele, Lea & Flood (2014), "Fast splittable pseudorandom number generators":
/// a bijection of `u64` that sends neighbours far apart. O(1).
#[inline]
#[must_use]
pub fn split_mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn forks_differ_by_place_and_by_depth() {
        let root = FitContext::seeded(7);
        let mut seeds = HashSet::from([root.seed]);
        for i in 0..100 {
            assert!(seeds.insert(root.fork(i).seed));
            assert!(seeds.insert(root.fork(i).fork(i).seed));
        }
        assert_eq!(root.fork(3).seed, FitContext::seeded(7).fork(3).seed);
    }

    #[test]
    fn the_earlier_deadline_counts() {
        let now = Instant::now();
        let later = now + Duration::from_hours(1);
        let ctx = FitContext::seeded(0).with_deadline(later);
        assert!(!ctx.is_due());
        assert!(ctx.with_deadline(now).is_due());
        assert!(ctx.with_deadline(now).with_deadline(later).is_due());
        assert!(!ctx.within(Duration::MAX).is_due());
    }

    #[test]
    fn a_step_ends_by_cancel_observer_or_deadline() {
        let step = Step::new(1, 10, &[]);
        let ctx = FitContext::seeded(0);
        assert!(ctx.step(&step).expect("nobody minds"));
        assert!(!ctx.with_deadline(Instant::now()).step(&step).expect("a stop is no error"));
        let cancel = Cancel::default();
        assert!(ctx.with_cancel(&cancel).step(&step).expect("not yet"));
        cancel.clone().cancel();
        assert!(matches!(ctx.with_cancel(&cancel).step(&step), Err(Error::Cancelled)));
        let stop = |_: &Step<'_>| Signal::Stop;
        assert!(!ctx.with_observer(&stop).step(&step).expect("a stop is no error"));
        let abort = |_: &Step<'_>| Signal::Abort;
        assert!(matches!(ctx.with_observer(&abort).step(&step), Err(Error::Cancelled)));
    }
}
