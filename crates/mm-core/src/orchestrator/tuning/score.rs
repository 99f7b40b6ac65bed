//! What a configuration is worth, and what it costs.

use std::{
    num::NonZeroUsize,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
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
            let mut params = config.params.clone();
            params["rounds"] = rounds.into();
            catalog.learner(&config.kind, params.clone()).map(|learner| (params, learner))
        };
        let (mut params, mut learner) = with_rounds(rounds)?;
        let resumes = learner.resumes();
        let (done, models) = models.filter(|_| !resumes).unwrap_or((0, &[]));
        if 0 < done {
            if models.len() != self.folds.len() {
                return Err(Error::data("models to continue from", self.folds.len(), models.len()));
            }
            (params, learner) = with_rounds(rounds.saturating_sub(done).max(1))?;
        }
        let candidate = Checked::of(name.to_owned(), &config.kind, &params, learner);
        let keeps_models = !resumes;
        // What depends on the number of rounds must not be told from fits of more; and who stops early
        // must not see the rows that are scored.
        let stops = params.get("early_stopping").is_some_and(|it| !it.is_null());
        let watches = !resumes
            && !stops
            && self.plan.validation.is_none()
            && self.metric == Metric::default_for(self.data.task());
        let (curves, metric) = (Curves::new(self.folds.len()), self.metric.to_string());
        let tried = self.side_by_side(|f, threads| {
            let model = models.get(f).map(|bytes| catalog.open(bytes)).transpose()?;
            let after = model.map(|model| Rung { model, rounds: done });
            let test = watches.then(|| self.data.take(&self.folds[f].test));
            let hear = |step: &Step<'_>| {
                if let Some((_, score)) = step.metrics.iter().find(|(name, _)| *name == metric) {
                    curves.note(f, step.iteration, *score);
                }
                GO
            };
            let mut manner = Manner { hear: &hear, ..rules.manner(threads) };
            (manner.after, manner.snapshots) = (after.as_ref(), resumes.then_some(kept));
            manner.watched = test.as_ref();
            self.try_fold(&candidate, f, manner, rules.weighs_models || keeps_models)
        })?;
        let mut scored = Scored::of(&tried);
        let mut best = rounds;
        if let Some((round, folds)) = curves.best(self.metric.direction())
            && done + round < rounds
        {
            let (score, error) = mean_and_error(&folds);
            if self.metric.direction().is_better(score, scored.score) {
                best = done + round;
                let cost = scored.cost.in_proportion(best as f64 / rounds as f64);
                scored = Scored { score, error, cost };
            }
        }
        let models = tried.into_iter().filter_map(|tried| tried.bytes.filter(|_| keeps_models));
        Ok(Climbed { scored, rounds: best, models: models.collect() })
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

/// The scores of the folds after each round, from the first.
struct Curves(Vec<Mutex<Vec<f64>>>);

impl Curves {
    fn new(n_folds: usize) -> Self {
        Self((0..n_folds).map(|_| Mutex::default()).collect())
    }

    /// Rounds come in order; one whose score is not told ends the curve.
    fn note(&self, fold: usize, round: usize, score: f64) {
        let mut curve = self.0[fold].lock().unwrap_or_else(PoisonError::into_inner);
        if curve.len() + 1 == round {
            curve.push(score);
        }
    }

    /// The round with the best mean, the first of equals, and the folds' scores then; of the rounds
    /// that all folds have.
    fn best(self, direction: Direction) -> Option<(usize, Vec<f64>)> {
        let curves = self.0.into_iter();
        let curves: Vec<Vec<f64>> = curves
            .map(|curve| curve.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect();
        let n_rounds = curves.iter().map(Vec::len).min()?;
        let at = |round: usize| -> Vec<f64> { curves.iter().map(|curve| curve[round]).collect() };
        let mean = |round: usize| mean_and_error(&at(round)).0;
        let best = (0..n_rounds)
            .reduce(|a, b| if direction.is_better(mean(b), mean(a)) { b } else { a })?;
        Some((best + 1, at(best)))
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
        let mut cost = Cost::default();
        for kind in CostKind::ALL {
            *cost.get_mut(kind) = over_folds(kind);
        }
        Self { score, error, cost }
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
