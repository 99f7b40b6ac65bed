//! The learner: how a fit runs.

use std::borrow::Cow;

use mm_core::{
    BoxModel, Dataset, Direction, Error, FitContext, Frame, Learner, Model, Result, Schema,
    Signature, WarmStart,
};

use super::{
    Boosting, TreeMethod, XgBoostModel, XgBoostParams,
    ffi::{self, XgBoostError},
};
use crate::run::{self, Watch};

/// XGBoost, ready to fit.
#[derive(Debug, Clone)]
pub struct XgBoost {
    pub(super) params: XgBoostParams, // Invariant: passed `Params::build`.
}

impl XgBoost {
    /// The parameters it was built from.
    pub fn params(&self) -> &XgBoostParams {
        &self.params
    }

    /// Continues from `previous` with `data`: `rounds` further rounds after its own trees in one
    /// model. `previous` is unchanged. What the Python package does with `xgb_model`.
    ///
    /// The data must have `previous`'s columns and task, and the objective must predict the same;
    /// levels that it lacks become unknown. On the data of the first fit and without sampling, *k*
    /// rounds and then *m* are *k* + *m* rounds at once, bit for bit.
    pub fn fit_after(
        &self,
        previous: &XgBoostModel,
        data: &Dataset,
        ctx: &FitContext<'_>,
    ) -> Result<XgBoostModel> {
        run::continued(previous.signature(), data, ctx, |data, ctx| {
            self.boost(data, ctx, Some(previous))
        })
    }

    fn boost(
        &self,
        data: &Dataset,
        ctx: &FitContext<'_>,
        previous: Option<&XgBoostModel>,
    ) -> Result<XgBoostModel> {
        if ctx.is_due() {
            return Err(Error::Deadline);
        }
        let (p, schema) = (&self.params, data.frame().schema());
        let objective = p.objective.resolve(data.task())?;
        let mut signature = Signature::new(schema.clone(), data.task().clone());
        signature.outputs = objective.outputs(data.task());
        if let Some(previous) = previous
            && previous.signature() != &signature
        {
            let expected = format!("a model that predicts {:?}", signature.outputs);
            let got = format!("{:?}", previous.signature().outputs);
            return Err(Error::data("model to continue from", expected, got));
        }
        let settings = p.to_settings(objective, data.task(), schema, ctx)?;
        let mut watch = match ctx.validation {
            None => None,
            Some(held_out) => {
                let engines = p.engine_metric.as_deref().map(direction);
                let stopping = p.early_stopping.as_ref();
                Some(Watch::new(held_out, signature.outputs.clone(), engines, stopping)?)
            }
        };

        let (train, held_out) = self.tables(data, ctx)?;
        let mut trainer = ffi::Trainer::new(train, held_out).map_err(engine)?;
        let mut before = 0;
        if let Some(previous) = previous {
            trainer.booster.load(&previous.to_ubjson()?).map_err(engine)?;
            before = previous.n_rounds();
        }
        for (name, value) in &settings {
            trainer.booster.set(name, value).map_err(engine)?;
        }
        if let (Some(metric), Some(_)) = (&p.engine_metric, &watch) {
            trainer.booster.set("eval_metric", metric).map_err(engine)?;
        }
        let names: Vec<&str> = schema.columns().iter().map(|column| &*column.name).collect();
        trainer.booster.set_features(&names, &Codes::of(schema).categorical).map_err(engine)?;

        let done = run::boost(p.rounds, ctx, &mut watch, |round, watch| {
            trainer.grow(round - 1).map_err(engine)?;
            if let Some(watch) = watch {
                if p.engine_metric.is_some() {
                    let (name, score) = trainer.evaluate(round).map_err(engine)?;
                    watch.hear(round, name, score);
                } else {
                    let mut predicted = watch.blank();
                    trainer.predict_held_out(predicted.values_mut()).map_err(engine)?;
                    watch.score(round, &predicted)?;
                }
            }
            Ok(true)
        })?;

        if let Some((best, score)) = watch.and_then(|watch| watch.best()) {
            // The names and numbers that the Python package stores: rounds count from 0.
            let iteration = before + best - 1;
            if best < done {
                trainer.booster = trainer.booster.first(iteration + 1).map_err(engine)?;
            }
            let booster = &mut trainer.booster;
            booster.set_attribute(c"best_iteration", &iteration.to_string()).map_err(engine)?;
            booster.set_attribute(c"best_score", &score.to_string()).map_err(engine)?;
        }
        // Through bytes, so that a fitted model and a stored one are the same thing, and the
        // caches of the training go with it.
        let bytes = trainer.booster.save(ffi::Format::Ubjson).map_err(engine)?;
        drop(trainer);
        XgBoostModel::from_bytes_as(&bytes, signature)
    }

    /// The engine's form of the data and of the validation data.
    fn tables(
        &self,
        data: &Dataset,
        ctx: &FitContext<'_>,
    ) -> Result<(ffi::Table, Option<ffi::Table>)> {
        let p = &self.params;
        let codes = Codes::of(data.frame().schema());
        let is_linear = matches!(p.boosting, Boosting::GbLinear(_));
        if is_linear && let Some(&(at, _)) = codes.unknown.first() {
            let column = &data.frame().schema().columns()[at];
            return Err(Error::data("columns of `gblinear`", "numeric ones", column));
        }
        let is_binned = p.tree.method == TreeMethod::Hist && !is_linear;
        let threads = p.threads(ctx);
        let weights = p.class_weight.apply(data)?;
        let train = codes.lend(data, weights.as_deref(), |lent| {
            if is_binned {
                ffi::Table::binned(lent, None, p.bins.max, threads)
            } else {
                ffi::Table::plain(lent, threads)
            }
        })?;
        // Binning moves a level that the training rows lack to the next one that they have, so
        // that only numeric columns are binned.
        let is_binned = is_binned && codes.unknown.is_empty();
        let held_out = ctx.validation.map(|held_out| {
            codes.lend(held_out, held_out.weights(), |lent| {
                if is_binned {
                    ffi::Table::binned(lent, Some(&train), p.bins.max, threads)
                } else {
                    ffi::Table::plain(lent, threads)
                }
            })
        });
        let held_out = held_out.transpose().map_err(|e| e.within("the validation data"))?;
        Ok((train, held_out))
    }
}

impl Learner for XgBoost {
    type Model = XgBoostModel;

    fn name(&self) -> &'static str {
        "xgboost"
    }

    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<XgBoostModel> {
        self.boost(data, ctx, None)
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
        Ok(Box::new(self.fit_after(previous, data, ctx)?))
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
pub(super) struct Codes {
    /// One flag a column.
    categorical: Vec<bool>,
    /// The categorical columns, and the code that an unknown level of each has for the engine.
    unknown: Vec<(usize, f32)>,
}

impl Codes {
    pub(super) fn of(schema: &Schema) -> Self {
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
    pub(super) fn values<'a>(&self, frame: &'a Frame, from: usize, to: usize) -> Cow<'a, [f32]> {
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

pub(super) fn engine(error: XgBoostError) -> Error {
    Error::Engine { engine: "xgboost", source: Box::new(error) }
}
