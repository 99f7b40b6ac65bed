//! The learner: how a fit runs.

use std::collections::BTreeSet;

use mm_core::{
    BoxModel, Dataset, Error, FitContext, Frame, Learner, Model, Result, Schema, Signature,
    WarmStart,
};

use super::{
    Boosting, EngineMetric, LightGbmModel, LightGbmParams, Objective,
    ffi::{self, Threads},
    read::Text,
};
use crate::{
    forest::normalize,
    run::{self, Watch},
};

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

pub(super) fn engine(source: LightGbmError) -> Error {
    Error::Engine { engine: "lightgbm", source: Box::new(source) }
}

/// LightGBM, ready to fit.
#[derive(Debug, Clone)]
pub struct LightGbm {
    pub(super) params: LightGbmParams, // Invariant: passed `Params::build`.
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
            trainer.continue_from(&previous.to_booster()?).map_err(engine)?;
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
                        for i in 0..predicted.n_rows() {
                            normalize(predicted.row_mut(i));
                        }
                    }
                    watch.score(round, &predicted)?;
                }
            }
            Ok(has_grown)
        })?;

        let before = previous.map_or(0, LightGbmModel::n_rounds);
        let best = watch.and_then(|watch| watch.best()).map(|(round, _)| before + round);
        let text = trainer.finish(best).map_err(engine)?;
        LightGbmModel::new(signature, best, Text::read(&text)?)
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
            table.set_initial_scores(&previous.raw_columns(data.frame())?).map_err(engine)?;
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
