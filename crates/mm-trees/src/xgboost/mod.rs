//! XGBoost 3.4 through its C API.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the learner: how a fit runs |
//! | `params.rs` | hyper-parameters, and how they become the engine's settings |
//! | `model.rs` | the fitted model: prediction, importance, the engine's own formats |
//! | `ffi.rs` | owned handles: the only `unsafe` |
//! | `format.rs` | a look at a stored booster before the engine sees it |
//!
//! The C declarations come from the crate `xgboost_lib-sys`, which compiles the engine.
//!
//! # Idea
//!
//! Each round adds trees that lower a second-order expansion of the regularised loss: with
//! gradient *g* and Hessian *h* of each row, a leaf with rows *I* gets the value
//! −η ∑*g* / (∑*h* + λ), and a split is worth what it saves.
//!
//! # Data
//!
//! With `hist`, the default, the engine reads a frame where it lies and keeps one or two bytes a
//! cell: O(*np*) time and memory. A view of scattered rows, and a frame with unknown levels, is
//! copied once for the time of the reading. Categorical columns are split natively. NaN is missing.
//! [`Frame::UNKNOWN`], which the engine would refuse as a negative category, is given to it as the
//! code after the last level: a level of its own where training rows have it, and else one that no
//! split has chosen, which goes where the levels go that are not in a split's set.
//!
//! # What is the same, and when
//!
//! A fit gives the same model bit for bit whatever the number of threads, and the same as
//! XGBoost's Python package gives for the same settings, seed, and order of rows. Predictions are
//! the engine's `f32`, widened. They use one thread, whatever the fit used, so that a program that
//! serves many requests decides about its threads; see [`XgBoostModel::with_threads`].
//!
//! # Example
//!
//! ```
//! use mm_core::{Dataset, FitContext, Frame, Learner as _, Model as _, Params as _};
//! use mm_trees::xgboost::XgBoostParams;
//!
//! // A step at 2.
//! let x = Frame::new(vec![0.0, 1.0, 3.0, 4.0], 1)?;
//! let data = Dataset::regression(x.clone(), vec![1.0, 1.0, 5.0, 5.0])?;
//!
//! let params = XgBoostParams::default().with(|p| p.regularization.lambda = 0.0);
//! let model = params.build()?.fit(&data, &FitContext::seeded(0))?;
//!
//! // A split must gain 1e-6, which the last 5e-4 of four targets do not.
//! assert!((model.predict(&x)?.values()[3] - 5.0).abs() < 1e-3);
//! assert_eq!(model.n_trees(), 100);
//! # Ok::<(), mm_core::Error>(())
//! ```
//!
//! # Sources
//!
//! Chen & Guestrin (2016), "XGBoost: a scalable tree boosting system", *KDD*.

mod ffi;
mod format;
mod model;
mod params;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use mm_core::{
    BoxModel, Dataset, Direction, Error, FitContext, Frame, Learner, Matrix, Metric, Model,
    Patience, Result, Schema, Signature, Step, WarmStart,
};

pub use self::{
    ffi::XgBoostError,
    model::XgBoostModel,
    params::{
        Booster, Categorical, Constraints, DartNormalize, DartParams, DartSample, FeatureSelector,
        Growth, LinearParams, LinearUpdater, Monotone, MultiStrategy, Objective, Regularization,
        Sampling, SamplingMethod, TreeMethod, TreeParams, XgBoostParams,
    },
};

/// XGBoost, ready to fit.
#[derive(Debug, Clone)]
pub struct XgBoost {
    params: XgBoostParams, // Invariant: passed `Params::build`.
}

impl XgBoost {
    /// The parameters it was built from.
    pub fn params(&self) -> &XgBoostParams {
        &self.params
    }

    /// Continues from `previous` with `rounds` further rounds on `data`, and yields a model of all
    /// rounds; `previous` is unchanged. What the engine calls training from an `xgb_model`.
    ///
    /// The data must have the columns and the task of `previous`, and the objective must predict
    /// the same. Levels that `previous` has not seen become unknown. On the same data and without
    /// sampling, *k* rounds and then *m* are the same as *k* + *m* at once, bit for bit.
    pub fn fit_from(
        &self,
        previous: &XgBoostModel,
        data: &Dataset,
        ctx: &FitContext<'_>,
    ) -> Result<XgBoostModel> {
        let signature = previous.signature();
        if data.task() != &signature.task {
            return Err(Error::data("task of the data", &signature.task, data.task()));
        }
        let frame = data.frame().conform(&signature.schema)?.into_owned();
        Continued { learner: self, previous }.fit(&data.with_frame(frame)?, ctx)
    }

    fn run(
        &self,
        data: &Dataset,
        ctx: &FitContext<'_>,
        previous: Option<&XgBoostModel>,
    ) -> Result<XgBoostModel> {
        if ctx.is_due() {
            return Err(Error::Deadline);
        }
        let objective = self.params.objective.resolve(data.task())?;
        let mut signature = Signature::new(data.frame().schema().clone(), data.task().clone());
        signature.outputs = objective.outputs(data.task());
        if let Some(previous) = previous
            && previous.signature() != &signature
        {
            let expected = format!("a model that predicts {:?}", signature.outputs);
            let got = format!("{:?}", previous.signature().outputs);
            return Err(Error::data("model to continue from", expected, got));
        }
        let mut run = Run::start(&self.params, objective, data, ctx, previous)?;
        let kept = run.boost(ctx)?;
        run.finish(signature, kept)
    }
}

impl Learner for XgBoost {
    type Model = XgBoostModel;

    fn name(&self) -> &'static str {
        "xgboost"
    }

    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<XgBoostModel> {
        self.run(data, ctx, None)
    }

    fn as_warm_start(&self) -> Option<&dyn WarmStart> {
        Some(self)
    }
}

impl WarmStart for XgBoost {
    fn fit_from(
        &self,
        previous: &dyn Model,
        data: &Dataset,
        ctx: &FitContext<'_>,
    ) -> Result<BoxModel> {
        let Some(previous) = previous.downcast_ref::<XgBoostModel>() else {
            return Err(Error::data("model to continue from", "one of XGBoost", "another kind"));
        };
        Ok(Box::new(XgBoost::fit_from(self, previous, data, ctx)?))
    }
}

/// A fit that continues: a learner, so that its data are checked as any learner's.
#[derive(Debug)]
struct Continued<'a> {
    learner: &'a XgBoost,
    previous: &'a XgBoostModel,
}

impl Learner for Continued<'_> {
    type Model = XgBoostModel;

    fn name(&self) -> &'static str {
        self.learner.name()
    }

    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<XgBoostModel> {
        self.learner.run(data, ctx, Some(self.previous))
    }
}

/// One fit.
struct Run<'a> {
    params: &'a XgBoostParams,
    trainer: ffi::Trainer,
    held_out: Option<HeldOut<'a>>,
    rounds_before: usize,
}

/// How the validation data are scored.
struct HeldOut<'a> {
    data: &'a Dataset,
    predicted: Matrix,
    metric: Watched,
    patience: Option<Patience>,
}

enum Watched {
    Ours(Metric),
    /// One of the engine, of which less is better or more.
    Engine(Direction),
}

impl<'a> Run<'a> {
    fn start(
        params: &'a XgBoostParams,
        objective: Objective,
        data: &Dataset,
        ctx: &FitContext<'a>,
        previous: Option<&XgBoostModel>,
    ) -> Result<Self> {
        let settings = params.to_settings(objective, data.task(), data.frame().schema(), ctx)?;
        let is_linear = matches!(params.booster, Booster::GbLinear(_));
        let codes = Codes::of(data.frame().schema());
        if is_linear && let Some(&(at, _)) = codes.unknown.first() {
            let column = &data.frame().schema().columns()[at];
            return Err(Error::data("columns of `gblinear`", "numeric ones", column));
        }
        let bins = match settings.get("tree_method").map(String::as_str) {
            Some("hist" | "auto") if !is_linear => {
                let max_bin = settings.get("max_bin").and_then(|text| text.parse().ok());
                Some(max_bin.unwrap_or(params.tree.max_bin))
            }
            _ => None,
        };
        let threads = params.threads(ctx);

        let weights = params.class_weight.apply(data)?;
        let train = codes.lend(data, weights.as_deref(), |lent| match bins {
            Some(max_bin) => ffi::Table::binned(lent, None, max_bin, threads),
            None => ffi::Table::plain(lent, threads),
        })?;
        // Binning moves a level that the training rows lack to the next one that they have, so
        // that only numeric columns are binned.
        let held_out_bins = bins.filter(|_| codes.unknown.is_empty());
        let held_out = ctx.validation.map(|held_out| {
            codes.lend(held_out, held_out.weights(), |lent| match held_out_bins {
                Some(max_bin) => ffi::Table::binned(lent, Some(&train), max_bin, threads),
                None => ffi::Table::plain(lent, threads),
            })
        });

        let mut trainer = ffi::Trainer::new(train, held_out.transpose()?).map_err(engine)?;
        let mut rounds_before = 0;
        if let Some(previous) = previous {
            trainer.booster.load(&previous.to_ubjson()?).map_err(engine)?;
            rounds_before = previous.rounds();
        }
        for (name, value) in &settings {
            trainer.booster.set(name, value).map_err(engine)?;
        }
        let names: Vec<&str> =
            data.frame().schema().columns().iter().map(|column| &*column.name).collect();
        trainer.booster.set_features(&names, &codes.categorical).map_err(engine)?;
        let held_out = match ctx.validation {
            None => None,
            Some(data) => Some(HeldOut::new(params, objective, data, &mut trainer)?),
        };
        Ok(Self { params, trainer, held_out, rounds_before })
    }

    /// Boosts until the rounds, the patience, the time, or the observer is at an end; the number
    /// of rounds to keep.
    fn boost(&mut self, ctx: &FitContext<'_>) -> Result<usize> {
        let total = self.params.rounds;
        let mut done = 0;
        while done < total {
            self.trainer.grow(done).map_err(engine)?;
            done += 1;
            let mut is_exhausted = false;
            let mut metrics = Vec::new();
            if let Some(held_out) = &mut self.held_out {
                let (name, score) = held_out.score(&mut self.trainer, done)?;
                let patience = held_out.patience.as_mut();
                is_exhausted = patience.is_some_and(|p| p.is_exhausted_by(done, score));
                metrics.push((name, score));
            }
            if !ctx.step(&Step::new(done, total, &metrics))? || is_exhausted {
                break;
            }
        }
        let best =
            self.held_out.as_ref().and_then(|h| h.patience.as_ref()).and_then(Patience::best);
        let Some((best, score)) = best else {
            return Ok(done);
        };
        // The names and numbers that the Python package stores: rounds count from 0.
        let iteration = self.rounds_before + best - 1;
        if best < done {
            let kept = self.trainer.booster.first(iteration + 1).map_err(engine)?;
            self.trainer.booster = kept;
        }
        let booster = &mut self.trainer.booster;
        booster.set_attribute(c"best_iteration", &iteration.to_string()).map_err(engine)?;
        booster.set_attribute(c"best_score", &score.to_string()).map_err(engine)?;
        Ok(best)
    }

    fn finish(self, signature: Signature, kept: usize) -> Result<XgBoostModel> {
        // Through bytes, so that a fitted model and a stored one are the same thing, and the
        // caches of the training go with it.
        let bytes = self.trainer.booster.save(ffi::Format::Ubjson).map_err(engine)?;
        drop(self.trainer);
        let model = XgBoostModel::assemble(signature, &bytes)?;
        debug_assert_eq!(model.rounds(), self.rounds_before + kept, "every kept round is there");
        Ok(model)
    }
}

impl<'a> HeldOut<'a> {
    fn new(
        params: &XgBoostParams,
        objective: Objective,
        data: &'a Dataset,
        trainer: &mut ffi::Trainer,
    ) -> Result<Self> {
        let named = params.early_stopping.as_ref().and_then(|stopping| stopping.metric);
        let metric = match (&params.engine_metric, named, objective) {
            (Some(name), _, _) => {
                trainer.booster.set("eval_metric", name).map_err(engine)?;
                Watched::Engine(direction(name))
            }
            (None, Some(metric), _) => Watched::Ours(metric),
            // Metrics of the mean do not judge a quantile; the engine's default is the pinball loss.
            (None, None, Objective::Quantile { .. }) => Watched::Engine(Direction::Minimize),
            (None, None, _) => Watched::Ours(Metric::default_for(data.task())),
        };
        let direction = match &metric {
            Watched::Ours(metric) => metric.direction(),
            Watched::Engine(direction) => *direction,
        };
        let patience = params.early_stopping.as_ref().map(|stopping| stopping.patience(direction));
        let predicted = match metric {
            Watched::Ours(_) => Matrix::zeros(data.n_rows(), data.task().outputs().len()),
            Watched::Engine(_) => Matrix::default(),
        };
        Ok(Self { data, predicted, metric, patience })
    }

    fn score(&mut self, trainer: &mut ffi::Trainer, round: usize) -> Result<(String, f64)> {
        match &self.metric {
            Watched::Ours(metric) => {
                trainer.predict_held_out(self.predicted.values_mut()).map_err(engine)?;
                let score = metric.score(self.data.truth(), &self.predicted)?;
                Ok((metric.name().to_owned(), score))
            }
            Watched::Engine(_) => trainer.evaluate(round).map_err(engine),
        }
    }
}

/// Which way a metric of the engine gets better, as the Python package has it.
fn direction(metric: &str) -> Direction {
    let plain = metric.split('@').next().unwrap_or_default();
    match plain {
        "auc" | "aucpr" | "map" | "ndcg" | "pre" => Direction::Maximize,
        _ => Direction::Minimize,
    }
}

/// What a schema's categorical columns are for the engine.
#[derive(Debug)]
struct Codes {
    /// One flag a column.
    categorical: Vec<bool>,
    /// The categorical columns, and the code that an unknown level of each has for the engine.
    unknown: Vec<(usize, f32)>,
}

impl Codes {
    fn of(schema: &Schema) -> Self {
        let columns = schema.columns();
        let categorical = columns.iter().map(|column| column.levels().is_some()).collect();
        let code = |(at, column): (usize, &mm_core::Column)| {
            column.levels().map(|levels| (at, levels.len() as f32))
        };
        Self { categorical, unknown: columns.iter().enumerate().filter_map(code).collect() }
    }

    fn has_unknown(&self, row: &[f32]) -> bool {
        self.unknown.iter().any(|&(at, _)| row[at] == Frame::UNKNOWN)
    }

    fn translate(&self, row: &mut [f32]) {
        for &(at, code) in &self.unknown {
            if row[at] == Frame::UNKNOWN {
                row[at] = code;
            }
        }
    }

    /// The rows `from..to` as the engine takes them; copied only where they lie apart or hold an
    /// unknown level.
    fn values<'a>(&self, frame: &'a Frame, from: usize, to: usize) -> Cow<'a, [f32]> {
        let has_unknown = || (from..to).any(|i| self.has_unknown(frame.row(i)));
        let width = frame.n_cols();
        match frame.as_slice() {
            Some(values) if self.unknown.is_empty() || !has_unknown() => {
                Cow::Borrowed(&values[from * width..to * width])
            }
            _ => {
                let mut values = Vec::with_capacity((to - from) * width);
                (from..to).for_each(|i| values.extend_from_slice(frame.row(i)));
                values.chunks_exact_mut(width).for_each(|row| self.translate(row));
                Cow::Owned(values)
            }
        }
    }

    fn lend<T>(
        &self,
        data: &Dataset,
        weights: Option<&[f64]>,
        read: impl FnOnce(ffi::Lent<'_>) -> Result<T, XgBoostError>,
    ) -> Result<T> {
        let values = self.values(data.frame(), 0, data.n_rows());
        let (values, categorical) = (&values, &self.categorical);
        read(ffi::Lent { values, categorical, labels: data.target(), weights }).map_err(engine)
    }
}

fn engine(error: XgBoostError) -> Error {
    Error::Engine { engine: "xgboost", source: Box::new(error) }
}
