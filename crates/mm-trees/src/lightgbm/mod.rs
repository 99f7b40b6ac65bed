//! LightGBM through its C API.
//!
//! # Idea
//!
//! Gradient boosting on histograms: values are put into bins once, and a tree grows leaf by leaf,
//! always where a split gains most. After *m* rounds the raw score of a row is
//!
//! ```text
//! F_m(x) = F_0 + η Σ_{t ≤ m} f_t(x)
//! ```
//!
//! with learning rate η and trees `f_t` fitted to the gradients of the objective; the link turns it
//! into a probability or a mean. Training costs O(*np*) a level of the tree; the binned table takes
//! one byte a cell for up to 256 bins.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the learner |
//! | `params.rs` | hyper-parameters and their domains |
//! | `config.rs` | their translation into the engine's own |
//! | `model.rs` | the fitted model, its files, importances |
//! | `text.rs` | LightGBM's model format, checked before LightGBM trusts it |
//! | `ffi.rs` | owned handles: the only `unsafe` |
//!
//! The C declarations are those of `lightgbm3-sys` 1.0.11, which bundles LightGBM 4.7.0.
//!
//! # Data
//!
//! Frames are handed over as they are, `f32` and row-major, and never copied as doubles. A view of
//! scattered rows is handed over run by run where its runs are long, and copied where they are short.
//! NaN is missing. Categorical columns are split natively, by sets of levels. An unknown level
//! ([`Frame::UNKNOWN`](mm_core::Frame::UNKNOWN), −1) is what LightGBM makes of any negative code: missing. For
//! a categorical column that is exact as well, since LightGBM sends missing cells and levels that a
//! split does not list the same way.
//!
//! Weights of 0 take part in binning and count as rows for `min_data_in_leaf`, as in LightGBM.
//!
//! # Determinism
//!
//! With `deterministic` (the default) a model depends on data, params, and seed alone: histograms
//! are built by column, and the few algorithms of LightGBM whose result depends on the number of
//! threads (linear trees, one-side sampling, histograms by row, quantised gradients) get one thread.
//! Predictions are made on the calling thread, row by row: a model may be used from any number of
//! threads at once, and whoever wants a large batch done by several splits it.
//!
//! # Limits
//!
//! Features and targets are `f32` to the engine. DART keeps no earlier round, so that it cannot stop
//! early; a forest cannot be continued from. Whoever fits side by side pays for the binned table of
//! each fit.
//!
//! # Messages
//!
//! LightGBM's messages become `tracing` events of target `mm_trees::lightgbm`: warnings as warnings, notes at
//! debug level. When LightGBM itself finds an error, it also writes one line to standard error, which
//! cannot be switched off; everything that params and data can get wrong is checked before.
//!
//! # Example
//!
//! ```
//! use mm_core::{Dataset, FitContext, Frame, Learner as _, Model as _, Params as _};
//! use mm_trees::LightGbmParams;
//!
//! let x: Vec<f32> = (0..200).map(|i| i as f32).collect();
//! let y = x.iter().map(|&x| if x < 100.0 { 1.0 } else { 5.0 }).collect();
//! let data = Dataset::regression(Frame::new(x, 1)?, y)?;
//!
//! let lightgbm = LightGbmParams::default().with(|p| p.rounds = 200).build()?;
//! let model = lightgbm.fit(&data, &FitContext::seeded(0))?;
//!
//! let predicted = model.predict(&Frame::new(vec![10.0, 190.0], 1)?)?;
//! assert!((predicted.values()[0] - 1.0).abs() < 1e-3);
//! assert!((predicted.values()[1] - 5.0).abs() < 1e-3);
//! # Ok::<(), mm_core::Error>(())
//! ```
//!
//! # Sources
//!
//! Friedman (2001), "Greedy function approximation: a gradient boosting machine", *Annals of
//! Statistics* 29(5). Ke et al. (2017), "LightGBM: a highly efficient gradient boosting decision
//! tree", NeurIPS.

mod config;
mod ffi;
mod model;
mod params;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;

use mm_core::{
    BoxModel, Dataset, Error, FitContext, Frame, Learner, Matrix, Model, Result, Schema, Signature,
    WarmStart,
};

use self::{ffi::Threads, text::ModelText};
pub use self::{
    model::LightGbmModel,
    params::{
        Bagging, Bins, Boosting, Categorical, Constraints, Dart, Device, EngineMetric, Goss,
        Histogram, LightGbmParams, MonotoneMethod, Objective, Penalty, RowSampling, Sampling,
        TreeParams,
    },
};
pub use crate::constraint::Monotone;
use crate::run::{self, Watch};

/// Why LightGBM failed; the source of [`Error::Engine`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LightGbmError {
    /// The engine's own message.
    #[error("{0}")]
    Native(String),
    /// More than C's `int` counts.
    #[error("expected at most {} {what}, got {got}", i32::MAX)]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        got: usize,
    },
    /// A string that C cannot hold.
    #[error("expected no NUL byte in {0}")]
    Nul(&'static str),
}

fn engine(source: LightGbmError) -> Error {
    Error::Engine { engine: "lightgbm", source: Box::new(source) }
}

/// LightGBM, ready to fit.
#[derive(Debug, Clone)]
pub struct LightGbm {
    params: LightGbmParams, // Invariant: passed `Params::build`.
}

impl Learner for LightGbm {
    type Model = LightGbmModel;

    fn name(&self) -> &'static str {
        "lightgbm"
    }

    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<LightGbmModel> {
        self.boost(data, ctx, None)
    }

    fn as_warm_start(&self) -> Option<&dyn WarmStart> {
        Some(self)
    }
}

impl WarmStart for LightGbm {
    fn fit_from(
        &self,
        previous: &dyn Model,
        data: &Dataset,
        ctx: &FitContext<'_>,
    ) -> Result<BoxModel> {
        let Some(previous) = previous.downcast_ref::<LightGbmModel>() else {
            return Err(Error::data("model to continue from", "one of LightGBM", "another kind"));
        };
        Ok(Box::new(self.fit_after(previous, data, ctx)?))
    }
}

impl LightGbm {
    /// The params.
    pub fn params(&self) -> &LightGbmParams {
        &self.params
    }

    /// Continues from `previous` with `data`: `rounds` further rounds, which start from its
    /// predictions, after its own trees in one model. `previous` is unchanged.
    ///
    /// The data must have `previous`'s columns and task; categorical codes are translated to its
    /// dictionaries, and levels that it lacks become unknown. This is what the Python package does
    /// with `init_model`. On the data of the first fit, *k* rounds and then *m* nearly are *k* + *m*
    /// rounds at once: the sums of the scores are rounded differently, and whatever is drawn at
    /// random is drawn anew. A forest cannot be continued from.
    pub fn fit_after(
        &self,
        previous: &LightGbmModel,
        data: &Dataset,
        ctx: &FitContext<'_>,
    ) -> Result<LightGbmModel> {
        if self.params.boosting == Boosting::RandomForest || previous.is_average() {
            return Err(Error::data("model to continue from", "boosted trees", "a random forest"));
        }
        let (new, old) = (self.params.objective_for(data.task())?, previous.objective());
        if old != Some(new) {
            let old = old.unwrap_or("a function of the caller's");
            return Err(Error::data("objective of the model to continue from", new, old));
        }
        run::continued(previous.signature(), data, ctx, |data, ctx| {
            self.boost(data, ctx, Some(previous))
        })
    }

    fn boost(
        &self,
        data: &Dataset,
        ctx: &FitContext<'_>,
        previous: Option<&LightGbmModel>,
    ) -> Result<LightGbmModel> {
        if ctx.is_due() {
            return Err(Error::Deadline);
        }
        let (p, schema) = (&self.params, data.frame().schema());
        let config = p.to_config(schema, data.task(), run::seed(ctx))?;
        let alone = p.deterministic && p.depends_on_threads();
        let threads = if alone { Threads::ONE } else { Threads::new(ctx.threads) };

        let mut signature = Signature::new(schema.clone(), data.task().clone());
        signature.outputs = p.outputs(data.task());
        let mut watch = match ctx.validation {
            None => None,
            Some(held_out) => {
                let engines = p.engine_metric.map(EngineMetric::direction);
                let stopping = p.early_stopping.as_ref();
                Some(Watch::new(held_out, signature.outputs.clone(), engines, stopping)?)
            }
        };
        let weights = p.class_weight.apply(data)?;
        let mut table = self.table(data, weights.as_deref(), &config, None, threads, previous)?;
        drop(weights);
        table.set_names(&engine_names(schema)).map_err(engine)?;
        let held_out = ctx.validation.map(|held_out| {
            self.table(held_out, held_out.weights(), &config, Some(&table), threads, previous)
                .map_err(|e| e.within("the validation data"))
        });
        let mut trainer =
            ffi::Trainer::new(table, held_out.transpose()?, &config).map_err(engine)?;
        if let Some(previous) = previous {
            trainer.continue_from(previous.booster()).map_err(engine)?;
        }

        run::boost(p.rounds, ctx, &mut watch, |round, watch| {
            let has_grown = trainer.grow().map_err(engine)?;
            if let Some(watch) = watch.filter(|_| has_grown) {
                if let Some(metric) = p.engine_metric {
                    let score = trainer.evaluate(p.deterministic).map_err(engine)?;
                    watch.hear(round, metric.name().to_owned(), score);
                } else {
                    let mut predicted = watch.blank();
                    trainer.predict_validation(&mut predicted).map_err(engine)?;
                    if p.objective == Objective::MulticlassOva {
                        normalize(&mut predicted);
                    }
                    watch.score(round, &predicted)?;
                }
            }
            Ok(has_grown)
        })?;

        let before = previous.map_or(0, LightGbmModel::n_rounds);
        let best = watch.and_then(|watch| watch.best()).map(|(round, _)| before + round);
        let text = trainer.finish(best).map_err(engine)?;
        LightGbmModel::new(signature, best, &ModelText::parse(&text)?)
    }

    /// The engine's form of `data`.
    fn table(
        &self,
        data: &Dataset,
        weights: Option<&[f64]>,
        config: &str,
        reference: Option<&ffi::Table>,
        threads: Threads,
        previous: Option<&LightGbmModel>,
    ) -> Result<ffi::Table> {
        let labels = self.labels(data)?;
        let blocks = blocks(data.frame());
        let copy;
        let blocks = if let Some(blocks) = &blocks {
            &blocks[..]
        } else {
            copy = data.frame().values();
            &[&copy[..]]
        };
        let n_cols = data.frame().n_cols();
        let table = ffi::Table::new(blocks, n_cols, config, reference, threads);
        let mut table = table.map_err(engine)?;
        table.set_labels(&labels).map_err(engine)?;
        // Equal weights of 1 are no weights: LightGBM would take another path and round otherwise.
        if let Some(weights) = weights.filter(|weights| weights.iter().any(|&w| w != 1.0)) {
            table.set_weights(&narrowed("weight", weights)?).map_err(engine)?;
        }
        if let Some(previous) = previous {
            let scores = previous.booster().raw_scores(data.frame().rows()).map_err(engine)?;
            table.set_initial_scores(&scores).map_err(engine)?;
        }
        Ok(table)
    }

    /// The target as LightGBM takes it, checked against the objective's domain.
    fn labels(&self, data: &Dataset) -> Result<Vec<f32>> {
        let labels = narrowed("target", data.target())?;
        if matches!(
            self.params.objective,
            Objective::Poisson | Objective::Gamma | Objective::Tweedie { .. }
        ) {
            if let Some(i) = labels.iter().position(|&y| y < 0.0) {
                let place = format!("target, row {i}");
                return Err(Error::data(place, "a number ≥ 0 for this objective", labels[i]));
            }
            if labels.iter().all(|&y| y == 0.0) {
                return Err(Error::data("target", "a number above 0 for this objective", "all 0"));
            }
        }
        Ok(labels)
    }
}

/// Divides each row by its sum: one-against-all probabilities do not add up to 1 by themselves.
fn normalize(probabilities: &mut Matrix) {
    for i in 0..probabilities.n_rows() {
        normalize_row(probabilities.row_mut(i));
    }
}

fn normalize_row(row: &mut [f64]) {
    let (sum, even) = (row.iter().sum::<f64>(), 1.0 / row.len() as f64);
    for p in row {
        *p = if 0.0 < sum { *p / sum } else { even };
    }
}

/// The rows in pieces that lie in memory as they are, if these are long enough to be worth more
/// than a copy: LightGBM opens a parallel region for each.
fn blocks(frame: &Frame) -> Option<Vec<&[f32]>> {
    const MIN_ROWS: usize = 64; // On average.
    if let Some(all) = frame.as_slice() {
        return Some(vec![all]);
    }
    let most = frame.n_rows() / MIN_ROWS;
    let mut blocks: Vec<&[f32]> = Vec::new();
    for run in frame.runs() {
        if blocks.len() == most {
            return None;
        }
        blocks.push(run);
    }
    Some(blocks)
}

/// Numbers as `f32`, none of which may become infinite by that.
fn narrowed(what: &str, values: &[f64]) -> Result<Vec<f32>> {
    let narrow: Vec<f32> = values.iter().map(|&x| x as f32).collect();
    match narrow.iter().position(|x| !x.is_finite()) {
        None => Ok(narrow),
        Some(i) => {
            let place = format!("{what}, row {i}");
            Err(Error::data(place, "a number within the range of `f32`", values[i]))
        }
    }
}

/// Names that LightGBM takes: it refuses the punctuation of JSON, and blanks separate its lists.
/// Ours stay in the signature; a name that must be changed is changed recognisably.
fn engine_names(schema: &Schema) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut names = Vec::with_capacity(schema.len());
    for (j, column) in schema.columns().iter().enumerate() {
        let bad = |c: char| c.is_whitespace() || c.is_control() || "\",:[]{}".contains(c);
        let clean = column.name.replace(bad, "_");
        let clean = if clean.is_empty() { format!("Column_{j}") } else { clean };
        let mut name = clean.clone();
        let mut suffix = 2;
        while !taken.insert(name.clone()) {
            name = format!("{clean}_{suffix}");
            suffix += 1;
        }
        names.push(name);
    }
    names
}
