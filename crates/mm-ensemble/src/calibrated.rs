//! A learner whose probabilities are made true: a class predicted with 70 % occurs in 70 % of the
//! rows.
//!
//! # Idea
//!
//! The learner is cross-fitted, a [map](Calibration) is fitted to the probabilities of rows that it
//! did not see, and the learner is fitted to all rows. With `auto` each map is itself cross-fitted
//! over these rows, and the one of the lowest log loss is taken; if none beats the probabilities as
//! they are, these stay.
//!
//! # Limits
//!
//! What was true of the past may not be of what comes: where the world changes, calibrate on the
//! latest rows (`recent`) or not at all. Isotonic regression wants about a thousand rows.
//!
//! # Sources
//!
//! Niculescu-Mizil & Caruana (2005), "Predicting good probabilities with supervised learning"; for
//! the maps see `calibration.rs`.

use std::sync::Arc;

use mm_core::{
    BodyReader, BodyWriter, BoxLearner, BoxModel, Candidate, Catalog, Dataset, Envelope, Error,
    FitContext, Frame, Learner, Matrix, Metric, Model, Output, ParamError, Persist, Result,
    Signature, SplitPlan, Splitter as _, Tag, Task, cross_fit, parallel::fill_rows,
};
use serde::{Deserialize, Serialize};

use crate::calibration::Map;

/// How probabilities are calibrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Calibration {
    /// Whichever helps most on rows that it was not fitted to; none, if none helps.
    #[default]
    Auto,
    /// One factor for all log-odds.
    Temperature,
    /// A line through log-odds.
    Platt,
    /// A curve with two slopes.
    Beta,
    /// Any non-decreasing function.
    Isotonic,
}

/// What calibration is told in a plan: the kind `calibrated`.
///
/// | field | default | domain | effect |
/// | --- | --- | --- | --- |
/// | `of` | | a kind of the catalog with its params | the learner; for classification |
/// | `method` | `auto` | any [`Calibration`] | the map |
/// | `split` | [`SplitPlan::default_for`] the data | | the folds that make out-of-fold predictions |
/// | `recent` | 1 | (0, 1] | the latest part of the out-of-fold rows that the map is fitted to |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CalibratedParams {
    /// The learner.
    pub of: Candidate,
    /// The map.
    #[serde(default)]
    pub method: Calibration,
    /// The folds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitPlan>,
    /// The latest part of the out-of-fold rows.
    #[serde(default = "all")]
    pub recent: f64,
}

fn all() -> f64 {
    1.0
}

impl CalibratedParams {
    /// The calibrated learner, with a learner of the catalog.
    pub fn build(self, catalog: &Catalog) -> Result<Calibrated> {
        let of = self.of.member(catalog, "of")?;
        let mut calibrated = Calibrated::new(of, self.method).with_recent(self.recent)?;
        if let Some(split) = self.split {
            calibrated = calibrated.with_split(split)?;
        }
        Ok(calibrated)
    }
}

/// A learner with calibrated probabilities.
#[derive(Debug, Clone)]
pub struct Calibrated {
    of: Arc<BoxLearner>,
    method: Calibration,
    split: Option<SplitPlan>,
    recent: f64,
}

/// The seed of the fit to all rows.
const REFIT: u64 = u64::MAX;

impl Calibrated {
    /// `of`, calibrated over the splitter that suits the data.
    pub fn new(of: BoxLearner, method: Calibration) -> Self {
        Self { of: Arc::new(of), method, split: None, recent: 1.0 }
    }

    /// The same over another splitter.
    pub fn with_split(self, split: SplitPlan) -> Result<Self> {
        split.check().map_err(|e| Error::from(e).within("split"))?;
        Ok(Self { split: Some(split), ..self })
    }

    /// The same with the map fitted to the latest part of the out-of-fold rows, by time where there
    /// are timestamps, else by place.
    pub fn with_recent(self, recent: f64) -> Result<Self> {
        let ok = 0.0 < recent && recent <= 1.0;
        ParamError::ensure(ok, "recent", recent, "a number above 0, at most 1")?;
        Ok(Self { recent, ..self })
    }

    /// The places of the latest rows.
    fn latest(&self, data: &Dataset) -> Vec<usize> {
        let n = data.n_rows();
        let mut order: Vec<usize> = (0..n).collect();
        if let Some(times) = data.frame().times() {
            order.sort_by_key(|&i| times[i]);
        }
        let kept = ((self.recent * n as f64).ceil() as usize).clamp(1, n);
        let mut latest = order.split_off(n - kept);
        latest.sort_unstable();
        latest
    }
}

impl Calibration {
    const MAPS: [Self; 4] = [Self::Temperature, Self::Platt, Self::Beta, Self::Isotonic];

    fn fit(self, p: &Matrix, data: &Dataset, ctx: &FitContext<'_>) -> Result<Map> {
        Ok(match self {
            Self::Temperature => Map::temperature(p, data),
            Self::Platt => Map::platt(p, data),
            Self::Beta => Map::beta(p, data),
            Self::Isotonic => Map::isotonic(p, data),
            Self::Auto => return choose(p, data, ctx),
        })
    }
}

/// The map of the lowest cross-fitted log loss, fitted to all rows.
fn choose(p: &Matrix, data: &Dataset, ctx: &FitContext<'_>) -> Result<Map> {
    let split = SplitPlan::default_for(data);
    // Too few rows to tell: the probabilities stay as they are.
    let Ok(folds) = split.split(data, ctx.seed) else { return Ok(Map::Identity) };
    let loss = |method: Option<Calibration>| -> Result<f64> {
        let mut total = 0.0;
        for fold in &folds {
            let (train, test) = (data.take(&fold.train), data.take(&fold.test));
            let map = match method {
                Some(method) => method.fit(&p.take(&fold.train), &train, ctx)?,
                None => Map::Identity,
            };
            let mut mapped = p.take(&fold.test);
            (0..mapped.n_rows()).for_each(|i| map.apply(mapped.row_mut(i)));
            let weight = test.total_weight();
            if 0.0 < weight {
                total += weight * Metric::LogLoss.score(test.truth(), &mapped)?;
            }
        }
        Ok(total)
    };
    let mut best = (loss(None)?, None);
    for method in Calibration::MAPS {
        let loss = loss(Some(method))?;
        if loss < best.0 {
            best = (loss, Some(method));
        }
    }
    best.1.map_or(Ok(Map::Identity), |method| method.fit(p, data, ctx))
}

impl Learner for Calibrated {
    type Model = CalibratedModel;

    fn name(&self) -> &'static str {
        "calibrated"
    }

    fn admits_infinite(&self) -> bool {
        Learner::admits_infinite(&*self.of)
    }

    fn resumes(&self) -> bool {
        Learner::resumes(&*self.of)
    }

    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<CalibratedModel> {
        if matches!(data.task(), Task::Regression) {
            return Err(Error::data("task of a calibration", "classification", data.task()));
        }
        let split = self.split.clone().unwrap_or_else(|| SplitPlan::default_for(data));
        let folds = split.split(data, ctx.seed).map_err(|e| e.within("split"))?;
        let (rows, p) = cross_fit(&*self.of, data, &folds, ctx)?.out_of_fold.into_parts();
        let seen = data.take(&rows);
        let latest = self.latest(&seen);
        let map = self.method.fit(&p.take(&latest), &seen.take(&latest), ctx)?;
        let inner = self.of.fit(data, &ctx.fork(REFIT))?;
        CalibratedModel::new(inner, map)
    }
}

/// A model whose probabilities pass through a map.
#[derive(Debug)]
pub struct CalibratedModel {
    inner: BoxModel, // Invariant: predicts probabilities.
    map: Map,
}

impl CalibratedModel {
    fn new(inner: BoxModel, map: Map) -> Result<Self> {
        let outputs = &inner.signature().outputs;
        if !outputs.iter().all(|output| matches!(output, Output::Probability(_))) {
            let got = format!("{outputs:?}");
            return Err(Error::data("outputs of the calibrated model", "probabilities", got));
        }
        map.check(outputs.len())?;
        Ok(Self { inner, map })
    }

    /// The model before calibration.
    pub fn inner(&self) -> &dyn Model {
        &*self.inner
    }

    /// The method that was used; none where the probabilities stayed as they were.
    pub fn method(&self) -> Option<Calibration> {
        match &self.map {
            Map::Identity => None,
            Map::Temperature(_) => Some(Calibration::Temperature),
            Map::Curve(rows) if rows.iter().all(|[a, b, _]| a == b) => Some(Calibration::Platt),
            Map::Curve(_) => Some(Calibration::Beta),
            Map::Steps(_) => Some(Calibration::Isotonic),
        }
    }
}

impl Model for CalibratedModel {
    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        self.inner.infer(x, out)?;
        let k = out.n_cols();
        fill_rows(out, 4096, |_, values| {
            values.chunks_exact_mut(k).for_each(|row| self.map.apply(row));
            Ok(())
        })
    }

    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        self.inner.infer_row(row, out)?;
        self.map.apply(out);
        Ok(())
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }
}

impl Persist for CalibratedModel {
    const TAG: Tag = Tag::new("mm.calibrated", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.json(&self.map)?;
        body.model(&*self.inner)
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        let map = body.json()?;
        Self::new(body.model()?, map)
    }
}
