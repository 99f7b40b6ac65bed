//! What a configuration is worth, and what it costs.

use std::{
    num::NonZeroUsize,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use super::{Climbed, Config, Cost, CostKind, Progress, Scored, Steps};
use crate::{
    context::{Signal, Step},
    envelope::Envelope,
    error::{Error, Result},
    metric::{Direction, Metric},
    model::Model,
    orchestrator::{
        fits::{Manner, Rung},
        run::{Checked, Run},
    },
    schedule::{self, Demand},
    snapshot::Snapshots,
};

/// How the trials of a search are scored.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) steps: Steps,
    /// When what runs is given up.
    pub(super) deadline: Option<Instant>,
    /// Seconds after which a fit ends.
    pub(super) fit_seconds: Option<f64>,
    /// Whether models are stored to see how large they are.
    pub(super) weighs_models: bool,
    /// Fits on rungs are scored after so many rounds each.
    pub(super) score_every: NonZeroUsize,
}

/// A fold of a configuration.
struct Tried {
    score: f64,
    cost: Cost,
    /// The stored model, if it was asked for.
    bytes: Option<Vec<u8>>,
}

impl Run<'_> {
    pub(super) fn climb(
        &self,
        name: &str,
        config: &Config,
        rounds: usize,
        models: Option<(usize, &[Vec<u8>])>,
        kept: &Snapshots,
        rules: Rules,
    ) -> Result<Climbed> {
        let catalog = self.outer.catalog;
        let with_rounds = |rounds: usize| {
            let Config { kind, params } = config.with_rounds(catalog, rounds);
            catalog.learner(&kind, params.clone()).map(|learner| (params, learner))
        };
        let (mut params, mut learner) = with_rounds(rounds)?;
        let resumes = learner.resumes();
        // What can do neither is fitted from the start on each rung.
        let continues = !resumes && learner.as_warm_start().is_some();
        let (done, models) = models.filter(|_| continues).unwrap_or((0, &[]));
        if 0 < done {
            if models.len() != self.folds.len() {
                return Err(Error::data("models to continue from", self.folds.len(), models.len()));
            }
            (params, learner) = with_rounds(rounds.saturating_sub(done).max(1))?;
        }
        let candidate = Checked::of(name.to_owned(), &config.kind, &params, learner);
        // What depends on the number of rounds must not be told from fits of more; and who stops early
        // must not see the rows that are scored.
        let stops = params.get("early_stopping").is_some_and(|it| !it.is_null());
        let watches = continues
            && !stops
            && self.plan.validation.is_none()
            && self.metric == Metric::default_for(self.data.task());
        let direction = self.metric.direction();
        let curves = Curves::new(self.folds.len(), direction, done);
        let metric = self.metric.to_string();
        let tried = self.side_by_side(|f, threads| {
            let model = models.get(f).map(|bytes| catalog.open(bytes)).transpose()?;
            let after = model.map(|model| Rung { model, rounds: done });
            let test = watches.then(|| self.data.take(&self.folds[f].test));
            let hear = |step: &Step<'_>| match step
                .metrics
                .iter()
                .find(|(name, _)| watches && *name == metric)
            {
                Some((_, score)) => curves.note(f, step.iteration, *score),
                None => GO,
            };
            let mut manner = Manner { hear: &hear, ..rules.manner(threads) };
            (manner.after, manner.snapshots) = (after.as_ref(), resumes.then_some(kept));
            manner.watched = test.as_ref().map(|test| (test, rules.score_every));
            self.try_fold(&candidate, f, manner, rules.weighs_models || continues)
        })?;
        let mut scored = Scored::of(&tried);
        let (mut best, reached, gain) = (rounds, curves.reached(), curves.gain());
        // Of folds that have not all come to the rung only the rounds that they share can be compared.
        let stopped = curves.has_stopped();
        if let Some((round, folds)) = curves.best()
            && round < rounds
        {
            let (score, error) = mean_and_error(&folds);
            if stopped || direction.is_better(score, scored.score) {
                best = round;
                let cost = scored.cost.in_proportion(best as f64 / reached.unwrap_or(1.0));
                scored = Scored { score, error, cost };
            }
        }
        let keeps_models = continues && !stopped;
        let models = tried.into_iter().filter_map(|tried| tried.bytes.filter(|_| keeps_models));
        let models = models.collect();
        Ok(Climbed { scored, rounds: best, expected: scored.score - gain, models })
    }

    pub(super) fn score(
        &self,
        name: &str,
        config: &Config,
        rules: Rules,
        watch: Option<&(dyn Fn(Progress) -> Signal + Sync)>,
    ) -> Result<Scored> {
        let learner = self.outer.catalog.learner(&config.kind, config.params.clone())?;
        let candidate = Checked::of(name.to_owned(), &config.kind, &config.params, learner);
        let try_fold = |f: usize, manner: Manner<'_>| {
            self.try_fold(&candidate, f, manner, rules.weighs_models)
        };
        let tried = match watch {
            None => self.side_by_side(|f, threads| try_fold(f, rules.manner(threads)))?,
            Some(watch) if rules.steps == Steps::Folds => {
                let mut all = Vec::with_capacity(self.folds.len());
                for f in 0..self.folds.len() {
                    let tried = try_fold(f, rules.manner(self.threads));
                    let tried = tried.map_err(|e| e.within(format!("fold {f}")))?;
                    let score = tried.score;
                    all.push(tried);
                    if watch(Progress::Fold { done: f + 1, score }) != GO {
                        return Err(Error::Cancelled);
                    }
                }
                all
            }
            Some(watch) => self.in_turns(watch, |f, hear| {
                let manner = Manner { hear, ..rules.manner(self.threads) };
                try_fold(f, manner)
            })?,
        };
        self.check_cancelled()?;
        Ok(Scored::of(&tried))
    }

    /// Tries all folds, as many at once as there are threads.
    fn side_by_side(
        &self,
        try_fold: impl Fn(usize, NonZeroUsize) -> Result<Tried> + Sync,
    ) -> Result<Vec<Tried>> {
        let demands = vec![Demand::of(self.data); self.folds.len()];
        let done = schedule::run(self.threads, &demands, |f, threads| {
            let tried = schedule::contain(|| try_fold(f, threads));
            tried.map_err(|e| e.within(format!("fold {f}")))
        });
        self.check_cancelled()?;
        done.into_iter().collect()
    }

    /// Tries all folds, which take turns, a round each.
    fn in_turns(
        &self,
        watch: &(dyn Fn(Progress) -> Signal + Sync),
        try_fold: impl Fn(usize, &(dyn Fn(&Step<'_>) -> Signal + Sync)) -> Result<Tried> + Sync,
    ) -> Result<Vec<Tried>> {
        let (n, metric) = (self.folds.len(), self.metric.to_string());
        let turns = Turns::new(n, watch);
        let fit = |f: usize| {
            let _seat = turns.sit(f);
            let hear = |step: &Step<'_>| {
                let found = step.metrics.iter().find(|(name, _)| *name == metric);
                turns.pass(f, step.iteration, found.map(|&(_, score)| score))
            };
            let tried = schedule::contain(|| try_fold(f, &hear));
            tried.map_err(|e| e.within(format!("fold {f}")))
        };
        let done: Vec<Result<Tried>> = thread::scope(|scope| {
            let fit = &fit;
            let folds: Vec<_> = (0..n).map(|f| scope.spawn(move || fit(f))).collect();
            let joined = folds
                .into_iter()
                .map(|fold| fold.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            joined.collect()
        });
        if turns.is_over() {
            return Err(Error::Cancelled);
        }
        done.into_iter().collect()
    }

    fn try_fold(
        &self,
        candidate: &Checked,
        f: usize,
        manner: Manner<'_>,
        stores: bool,
    ) -> Result<Tried> {
        let (model, fold) = self.fit_fold(candidate, f, manner)?;
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        if fold.timing.cut_short && (is_due(manner.deadline) || is_due(self.deadline)) {
            return Err(Error::Deadline);
        }
        let score = fold.score(&self.metric, &self.data.take(&self.folds[f].test))?;
        let bytes = stores.then(|| model.to_envelope().map(Envelope::into_bytes)).transpose()?;
        let cost = Cost {
            fit_seconds: Some(fold.timing.fit_seconds),
            predict_micros: Some(fold.micros_a_row()),
            trees: model.n_trees().map(|n| n as f64),
            model_bytes: bytes.as_ref().map(|bytes| bytes.len() as f64),
        };
        Ok(Tried { score, cost, bytes })
    }
}

impl Rules {
    fn manner(&self, threads: NonZeroUsize) -> Manner<'static> {
        let (deadline, seconds) = (self.deadline, self.fit_seconds);
        Manner { deadline, seconds, ..Manner::with(threads) }
    }
}

/// Rounds, and the score after each.
type Curve = Vec<(usize, f64)>;

/// The scores of the folds after rounds that are the same for all, in order.
struct Curves {
    folds: Vec<Mutex<Curve>>,
    direction: Direction,
    /// Rounds that the folds begin with.
    done: usize,
    /// Whether the fit of a fold was ended.
    stopped: AtomicBool,
}

/// A fold is not ended for having been better fewer rounds ago than this.
const PATIENCE: usize = 10;

impl Curves {
    fn new(n_folds: usize, direction: Direction, done: usize) -> Self {
        let folds = (0..n_folds).map(|_| Mutex::default()).collect();
        Self { folds, direction, done, stopped: AtomicBool::new(false) }
    }

    /// Takes the score of a fold after so many rounds from where it began, and ends its fit when a third
    /// of all rounds have been of no use.
    fn note(&self, fold: usize, iteration: usize, score: f64) -> Signal {
        let round = self.done + iteration;
        let mut curve = self.folds[fold].lock().unwrap_or_else(PoisonError::into_inner);
        curve.push((round, score));
        let best = curve.iter().copied().reduce(|a, b| self.better(a, b)).map_or(0, |best| best.0);
        if round - best < PATIENCE.max(round / 3) {
            return GO;
        }
        self.stopped.store(true, Ordering::Relaxed);
        Signal::Stop
    }

    fn better(&self, a: (usize, f64), b: (usize, f64)) -> (usize, f64) {
        if self.direction.is_better(b.1, a.1) { b } else { a }
    }

    fn has_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// By how much further rounds can be expected to lower the mean score: by what a geometric series has
    /// yet to come to after its last two terms, which are the changes of the last two thirds (Aitken
    /// 1926). Curves of boosting end more slowly than that, so a term counts as at most 2/3 of the one
    /// before. 0 for what has no curve, or one that does not go the better way.
    fn gain(&self) -> f64 {
        let Some(mean) = self.mean().filter(|mean| 6 <= mean.len() && !self.has_stopped()) else {
            return 0.0;
        };
        let (n, third) = (mean.len() - 1, mean.len() / 3);
        let [early, late] = [n - third, n].map(|i| mean[i - third] - mean[i]);
        let sign = if self.direction.is_better(0.0, 1.0) { 1.0 } else { -1.0 };
        if early * sign <= 0.0 || late * sign <= 0.0 {
            return 0.0;
        }
        let ratio = (late / early).min(2.0 / 3.0);
        late * ratio / (1.0 - ratio)
    }

    /// The mean over the folds after each round that was scored in all.
    fn mean(&self) -> Option<Vec<f64>> {
        let curves = self.curves();
        let n = curves.iter().map(|curve| curve.len()).min()?;
        let at = |i: usize| curves.iter().map(|curve| curve[i].1).sum::<f64>();
        Some((0..n).map(|i| at(i) / curves.len() as f64).collect())
    }

    /// The rounds that the folds have come to, in the mean; none if they were not heard of.
    fn reached(&self) -> Option<f64> {
        let last = |curve: &MutexGuard<'_, Curve>| curve.last().map(|&(round, _)| round as f64);
        let all: Option<Vec<f64>> = self.curves().iter().map(last).collect();
        all.map(|all| all.iter().sum::<f64>() / all.len() as f64)
    }

    /// The number of rounds with the best mean, the first of equals, and the folds' scores then; of those
    /// that all folds have.
    fn best(&self) -> Option<(usize, Vec<f64>)> {
        let means = self.mean()?.into_iter().enumerate();
        let (best, _) = means.reduce(|a, b| self.better(a, b))?;
        let curves = self.curves();
        Some((curves[0][best].0, curves.iter().map(|curve| curve[best].1).collect()))
    }

    fn curves(&self) -> Vec<MutexGuard<'_, Curve>> {
        self.folds.iter().map(|c| c.lock().unwrap_or_else(PoisonError::into_inner)).collect()
    }
}

/// The mean, and its standard error.
fn mean_and_error(scores: &[f64]) -> (f64, f64) {
    let n = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / n;
    let squares = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>();
    (mean, (squares / (n - 1.0).max(1.0) / n).sqrt())
}

impl Scored {
    fn of(folds: &[Tried]) -> Self {
        let n = folds.len() as f64;
        let scores: Vec<f64> = folds.iter().map(|fold| fold.score).collect();
        let (score, error) = mean_and_error(&scores);
        let over_folds = |kind| {
            let costs: Option<Vec<f64>> = folds.iter().map(|fold| fold.cost.get(kind)).collect();
            costs.map(|costs| match kind {
                // A limit is for each fit.
                CostKind::FitSeconds => costs.iter().copied().fold(0.0, f64::max),
                _ => costs.iter().sum::<f64>() / n,
            })
        };
        Self { score, error, cost: Cost::of_each(over_folds) }
    }
}

const GO: Signal = Signal::Continue;

/// Lets the folds of one configuration take turns, a round each, so that the mean over them is
/// known after each round and only one of them uses the threads.
struct Turns<'a> {
    table: Mutex<Table>,
    moved: Condvar,
    watch: &'a (dyn Fn(Progress) -> Signal + Sync),
}

struct Table {
    turn: usize,
    seated: Vec<bool>,
    scores: Vec<Option<f64>>,
    round: usize,
    answer: Signal,
}

impl<'a> Turns<'a> {
    fn new(n: usize, watch: &'a (dyn Fn(Progress) -> Signal + Sync)) -> Self {
        let table =
            Table { turn: 0, seated: vec![true; n], scores: vec![None; n], round: 0, answer: GO };
        Self { table: Mutex::new(table), moved: Condvar::new(), watch }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the fold's first turn; who drops the seat leaves the table.
    fn sit(&self, fold: usize) -> Seat<'_, 'a> {
        let table = self.lock();
        drop(self.moved.wait_while(table, |table| table.turn != fold && table.answer == GO));
        Seat { turns: self, fold }
    }

    /// Ends the fold's round, lets the others have theirs, and returns what the watch says.
    fn pass(&self, fold: usize, round: usize, score: Option<f64>) -> Signal {
        let mut table = self.lock();
        table.round = table.round.max(round);
        table.scores[fold] = score.or(table.scores[fold]);
        self.advance(&mut table, fold);
        let waited = |table: &mut Table| table.turn != fold && table.answer == GO;
        let table = self.moved.wait_while(table, waited);
        table.unwrap_or_else(PoisonError::into_inner).answer
    }

    /// Gives the turn to the next fold; after the last one the mean is told.
    fn advance(&self, table: &mut Table, from: usize) {
        let next = (from + 1..table.seated.len()).find(|&f| table.seated[f]);
        if next.is_none() && table.answer == GO {
            let scores: Option<Vec<f64>> = table.scores.iter().copied().collect();
            if let Some(scores) = scores {
                let score = scores.iter().sum::<f64>() / scores.len() as f64;
                table.answer = (self.watch)(Progress::Round { round: table.round, score });
            }
        }
        table.turn = next
            .or_else(|| table.seated.iter().position(|&seated| seated))
            .unwrap_or(table.seated.len());
        self.moved.notify_all();
    }

    fn is_over(&self) -> bool {
        self.lock().answer != GO
    }
}

/// A fold's place among those that take turns; given up also when the fit panics.
struct Seat<'t, 'a> {
    turns: &'t Turns<'a>,
    fold: usize,
}

impl Drop for Seat<'_, '_> {
    fn drop(&mut self) {
        let mut table = self.turns.lock();
        table.seated[self.fold] = false;
        // Whoever leaves out of turn, because the watch ended it all, has nothing to pass on.
        if table.turn == self.fold {
            self.turns.advance(&mut table, self.fold);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A curve of one fold after every fifth of 100 rounds.
    fn curve(score: impl Fn(f64) -> f64, direction: Direction) -> (Curves, Vec<Signal>) {
        let curves = Curves::new(1, direction, 0);
        let rounds = (1..=20).map(|i| 5 * i);
        let told = rounds.map(|round| curves.note(0, round, score(round as f64))).collect();
        (curves, told)
    }

    #[test]
    fn a_geometric_curve_is_known_to_its_end() {
        let (down, _) = curve(|t| 0.25 + 0.5 * (-t / 30.0).exp(), Direction::Minimize);
        let end = down.mean().expect("scored")[19];
        assert!((end - down.gain() - 0.25).abs() < 1e-12, "{}", down.gain());
        let (up, _) = curve(|t| 0.75 - 0.5 * (-t / 30.0).exp(), Direction::Maximize);
        let end = up.mean().expect("scored")[19];
        assert!((end - up.gain() - 0.75).abs() < 1e-12, "{}", up.gain());
    }

    #[test]
    fn nothing_is_expected_of_a_curve_that_has_turned_and_little_of_a_straight_one() {
        let (turned, told) = curve(|t| (t - 80.0).powi(2), Direction::Minimize);
        assert_eq!(turned.gain(), 0.0);
        assert!(told.iter().all(|answer| *answer == GO), "it turned a moment ago");
        let (straight, _) = curve(|t| 1.0 - t / 200.0, Direction::Minimize);
        // Twice what the last third, six scores, came to.
        assert!((straight.gain() - 2.0 * 30.0 / 200.0).abs() < 1e-12, "{}", straight.gain());
    }

    #[test]
    fn a_fold_ends_when_a_third_of_its_rounds_was_of_no_use() {
        let (curves, told) = curve(|t| (t - 40.0).powi(2), Direction::Minimize);
        let goes_on = told.iter().take_while(|answer| **answer == GO).count();
        assert_eq!(5 * (goes_on + 1), 60, "20 of 60 rounds");
        assert!(curves.has_stopped());
        assert_eq!(curves.best().map(|(round, _)| round), Some(40));
    }

    #[test]
    fn folds_are_compared_after_rounds_that_all_have() {
        let curves = Curves::new(2, Direction::Minimize, 100);
        for (fold, scores) in [[3.0, 2.0, 1.0], [3.0, 1.0, 2.0]].into_iter().enumerate() {
            for (i, score) in scores.into_iter().enumerate().take(3 - fold) {
                curves.note(fold, 5 * (i + 1), score);
            }
        }
        assert_eq!(curves.reached(), Some(112.5));
        assert_eq!(curves.best(), Some((110, vec![2.0, 1.0])));
    }
}
