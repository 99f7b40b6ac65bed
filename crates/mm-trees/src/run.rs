//! The run of a fit, which is the same for every engine: its seed, its rounds, what it watches on
//! the validation data, and how it continues from a fitted model.

use mm_core::{
    Dataset, Direction, EarlyStopping, Error, FitContext, Matrix, Metric, Output, Patience, Result,
    Signature, Step, Task, check_data,
};

#[cfg(any(feature = "lightgbm", feature = "xgboost"))]
/// The seed of an engine, whose generators take 31 bits. Small seeds stay as they are, so that a
/// model can be compared with another binding's.
pub(crate) fn seed(ctx: &FitContext<'_>) -> u32 {
    ((ctx.seed ^ (ctx.seed >> 32)) & 0x7fff_ffff) as u32
}

/// Calls `fit` with the data and the validation data of `ctx` as a model of `signature` reads
/// them, all of them checked.
pub(crate) fn continued<M>(
    signature: &Signature,
    data: &Dataset,
    ctx: &FitContext<'_>,
    fit: impl FnOnce(&Dataset, &FitContext<'_>) -> Result<M>,
) -> Result<M> {
    let conform = |data: &Dataset| {
        if data.n_rows() == 0 {
            return Err(Error::data("data", "at least 1 row", "no rows"));
        }
        if *data.task() != signature.task {
            return Err(Error::data("task of the data", &signature.task, data.task()));
        }
        data.with_frame(signature.admit(data.frame())?.into_owned())
    };
    let data = conform(data)?;
    check_data(&data, signature.admits_infinite)?;
    ctx.check_cancelled()?;
    let Some(held_out) = ctx.validation else { return fit(&data, ctx) };
    let held_out = conform(held_out).map_err(|e| e.within("the validation data"))?;
    fit(&data, &ctx.with_validation(&held_out))
}

/// Boosts round after round until `rounds` are done, or `grow` says that nothing is left to grow,
/// or the watch, the observer, or the deadline ends it; the number of rounds done.
///
/// `grow` adds a round and shows the watch, if there is one and the round is scored, what it came to.
pub(crate) fn boost(
    rounds: usize,
    ctx: &FitContext<'_>,
    watch: &mut Option<Watch<'_>>,
    mut grow: impl FnMut(usize, Option<&mut Watch<'_>>) -> Result<bool>,
) -> Result<usize> {
    for round in 1..=rounds {
        let is_scored = ctx.is_scored(round, rounds);
        if !grow(round, watch.as_mut().filter(|_| is_scored))? {
            return Ok(round - 1);
        }
        let metrics = watch.as_ref().filter(|_| is_scored).map_or(&[][..], |watch| &watch.metrics);
        let goes_on = ctx.step(&Step::new(round, rounds, metrics))?;
        if !goes_on || watch.as_ref().is_some_and(|watch| watch.is_over) {
            return Ok(round);
        }
    }
    Ok(rounds)
}

/// What a fit measures on its validation data after each round, and when it has seen enough.
///
/// Rows count by the weights of the validation data; class weights are a matter of training.
pub(crate) struct Watch<'a> {
    held_out: &'a Dataset,
    outputs: Vec<Output>,
    metric: Option<Metric>, // The engine's own if `None`.
    patience: Option<Patience>,
    metrics: Vec<(String, f64)>,
    is_over: bool,
}

impl<'a> Watch<'a> {
    /// Watches a metric of the engine, which gets better in the direction `engines`, or else the
    /// metric of `stopping`, or else the default one of the outputs.
    ///
    /// One of ours must be defined on the validation data: that it is shows before any training,
    /// on a model that has learnt nothing.
    pub(crate) fn new(
        held_out: &'a Dataset,
        outputs: Vec<Output>,
        engines: Option<Direction>,
        stopping: Option<&EarlyStopping>,
    ) -> Result<Self> {
        let chosen = stopping.and_then(|stopping| stopping.metric);
        let metric = match engines {
            Some(_) => None,
            None => Some(chosen.unwrap_or_else(|| default_metric(held_out.task(), &outputs))),
        };
        if let Some(metric) = &metric {
            let blank = match held_out.task() {
                Task::Regression => 0.0,
                task => 1.0 / task.n_classes() as f64,
            };
            let mut blanks = Matrix::zeros(held_out.n_rows(), outputs.len());
            blanks.values_mut().fill(blank);
            metric
                .score_outputs(held_out.truth(), &blanks, &outputs)
                .map_err(|e| e.within("the validation data"))?;
        }
        let direction = metric.as_ref().map(Metric::direction).or(engines);
        let patience = stopping.zip(direction).map(|(stopping, way)| stopping.patience(way));
        Ok(Self { held_out, outputs, metric, patience, metrics: Vec::new(), is_over: false })
    }

    /// Scores what the model predicts for the validation data after round `round`, from 1.
    pub(crate) fn score(&mut self, round: usize, predicted: &Matrix) -> Result<()> {
        if let Some(metric) = self.metric {
            let score = metric.score_outputs(self.held_out.truth(), predicted, &self.outputs)?;
            self.hear(round, metric.name().to_owned(), score);
        }
        Ok(())
    }

    /// Takes a score of round `round`, from 1.
    pub(crate) fn hear(&mut self, round: usize, name: String, score: f64) {
        self.metrics.clear();
        self.metrics.push((name, score));
        self.is_over = self.patience.as_mut().is_some_and(|p| p.is_exhausted_by(round, score));
    }

    /// Whether early stopping has seen enough.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The round to end the model with, from 1, and its score; `None` without early stopping.
    pub(crate) fn best(&self) -> Option<(usize, f64)> {
        self.patience.as_ref()?.best()
    }

    /// Zeros in the shape of the predictions for the validation data.
    pub(crate) fn blank(&self) -> Matrix {
        Matrix::zeros(self.held_out.n_rows(), self.outputs.len())
    }
}

/// The task's default metric; of a quantile, its pinball loss, since the others judge a mean.
fn default_metric(task: &Task, outputs: &[Output]) -> Metric {
    match outputs {
        [Output::Quantile(level)] => Metric::Pinball { level: *level },
        _ => Metric::default_for(task),
    }
}
