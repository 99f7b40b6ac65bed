//! Intervals and sets that hold the truth in a promised share of cases.
//!
//! # Idea
//!
//! On *n* rows that a model did not see, score how strange the truth is given the prediction:
//! |*y* − *ŷ*| for values, 1 − *p* of the true class for classes. Let *q* be the score of rank
//! ⌈(*n* + 1) · coverage⌉. A new row's interval is *ŷ* ± *q*, its set the classes with 1 − *p* ≤
//! *q*. If the new row and the *n* rows are exchangeable, it holds the truth with at least the
//! probability `coverage`, whatever the model and the distribution.
//!
//! Over one fold ([`Holdout`](mm_core::Holdout)) that is the split-conformal method and its
//! guarantee: the model is fitted to one part, the scores are of the other. Over several folds the
//! scores are out of fold and the model is fitted to all rows: no row is lost for
//! fitting, and the coverage is near what is promised but no longer guaranteed.
//!
//! For regression the outputs are the value and the two ends, as quantiles; for classification they
//! are those of the learner, and [`ConformalModel::sets`] gives the sets.
//!
//! # Limits
//!
//! The promise is for rows on average, not for each kind of row, and not where the world changes.
//! Fewer than coverage / (1 − coverage) scores promise nothing and are refused.
//!
//! # Sources
//!
//! Vovk, Gammerman & Shafer (2005), "Algorithmic learning in a random world". Lei et al. (2018),
//! "Distribution-free predictive inference for regression". Sadinle, Lei & Wasserman (2019), "Least
//! ambiguous set-valued classifiers". Vovk (2015), "Cross-conformal predictors".

use std::sync::Arc;

use mm_core::{
    BodyReader, BodyWriter, BoxLearner, BoxModel, Candidate, Catalog, Dataset, Envelope, Error,
    FitContext, Frame, Learner, Matrix, Model, Output, ParamError, Persist, Result, Signature,
    SplitPlan, Splitter as _, Tag, Task, cross_fit,
};
use serde::{Deserialize, Serialize};

use crate::objective::true_class;

/// What a conformal learner is told in a plan: the kind `conformal`.
///
/// | field | default | domain | effect |
/// | --- | --- | --- | --- |
/// | `of` | | a kind of the catalog with its params | the learner |
/// | `coverage` | 0.9 | (0, 1) | the share of cases that shall hold the truth |
/// | `split` | [`SplitPlan::default_for`] the data | | where scores come from; `holdout` for the guarantee |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ConformalParams {
    /// The learner.
    pub of: Candidate,
    /// The share of cases that shall hold the truth.
    #[serde(default = "nine_tenths")]
    pub coverage: f64,
    /// Where scores come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitPlan>,
}

fn nine_tenths() -> f64 {
    0.9
}

impl ConformalParams {
    /// The conformal learner, with a learner of the catalog.
    pub fn build(self, catalog: &Catalog) -> Result<Conformal> {
        let of = self.of.member(catalog, "of")?;
        let conformal = Conformal::new(of, self.coverage)?;
        match self.split {
            Some(split) => conformal.with_split(split),
            None => Ok(conformal),
        }
    }
}

/// A learner whose predictions come with intervals or sets.
#[derive(Debug, Clone)]
pub struct Conformal {
    of: Arc<BoxLearner>,
    coverage: f64, // Invariant: in (0, 1).
    split: Option<SplitPlan>,
}

/// The seed of the fit to all rows.
const REFIT: u64 = u64::MAX;

impl Conformal {
    /// Intervals or sets that hold the truth in the share `coverage` of cases.
    pub fn new(of: BoxLearner, coverage: f64) -> Result<Self> {
        let ok = 0.0 < coverage && coverage < 1.0;
        ParamError::ensure(ok, "coverage", coverage, "a number between 0 and 1")?;
        Ok(Self { of: Arc::new(of), coverage, split: None })
    }

    /// The same over another splitter.
    pub fn with_split(self, split: SplitPlan) -> Result<Self> {
        split.check().map_err(|e| Error::from(e).within("split"))?;
        Ok(Self { split: Some(split), ..self })
    }
}

impl Learner for Conformal {
    type Model = ConformalModel;

    fn name(&self) -> &'static str {
        "conformal"
    }

    fn admits_infinite(&self) -> bool {
        Learner::admits_infinite(&*self.of)
    }

    fn resumes(&self) -> bool {
        Learner::resumes(&*self.of)
    }

    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<ConformalModel> {
        let split = self.split.clone().unwrap_or_else(|| SplitPlan::default_for(data));
        let folds = split.split(data, ctx.seed).map_err(|e| e.within("split"))?;
        let fitted = cross_fit(&*self.of, data, &folds, ctx)?;
        let Some(first) = fitted.models.first() else {
            return Err(Error::data("folds", "at least 1", "none"));
        };
        let column = value_column(first.signature())?;
        let (rows, predicted) = fitted.out_of_fold.into_parts();
        let seen = data.take(&rows);
        let scores = predicted.rows().zip(seen.target()).map(|(row, &y)| match seen.task() {
            Task::Regression => (y - row[column]).abs(),
            _ => 1.0 - true_class(row, y),
        });
        let scores: Vec<f64> = scores.collect();
        let radius = quantile(&scores, seen.weights(), self.coverage)?;
        let mut models = fitted.models;
        let inner = match models.pop() {
            Some(only) if models.is_empty() => only,
            _ => self.of.fit(data, &ctx.fork(REFIT))?,
        };
        ConformalModel::new(inner, self.coverage, radius)
    }
}

/// The column with the value; 0 for classes.
fn value_column(signature: &Signature) -> Result<usize> {
    if !matches!(signature.task, Task::Regression) {
        return Ok(0);
    }
    let found = signature.outputs.iter().position(|output| *output == Output::Value);
    let got = || format!("{:?}", signature.outputs);
    found.ok_or_else(|| Error::data("outputs of the conformal model", "a value", got()))
}

/// The score of rank ⌈(n + 1) · coverage⌉, rows counting by weight; a new row weighs as the mean.
fn quantile(scores: &[f64], weights: Option<&[f64]>, coverage: f64) -> Result<f64> {
    let n = scores.len();
    let weight = |i: usize| weights.map_or(1.0, |w| w[i]);
    let total: f64 = (0..n).map(weight).sum();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    // Less a hint, since 0.9 · 10 is to be rank 9 however it rounds.
    let wanted = coverage * (total + total / n.max(1) as f64) * (1.0 - 1e-12);
    let mut sum = 0.0;
    for i in order {
        sum += weight(i);
        if wanted <= sum {
            return Ok(scores[i]);
        }
    }
    let least = (coverage / (1.0 - coverage)).ceil();
    Err(Error::data("scores", format_args!("at least {least} for a coverage of {coverage}"), n))
}

/// A model with an interval or a set around each prediction.
#[derive(Debug)]
pub struct ConformalModel {
    signature: Signature,
    inner: BoxModel,
    column: usize, // Of the value, among the inner model's outputs.
    coverage: f64,
    radius: f64, // Invariant: finite.
}

impl ConformalModel {
    fn new(inner: BoxModel, coverage: f64, radius: f64) -> Result<Self> {
        let mut signature = inner.signature().clone();
        let column = value_column(&signature)?;
        if matches!(signature.task, Task::Regression) {
            let tail = (1.0 - coverage) / 2.0;
            let ends = [tail, 1.0 - tail].map(Output::Quantile);
            signature.outputs = [Output::Value].into_iter().chain(ends).collect();
        }
        if !(radius.is_finite() && 0.0 < coverage && coverage < 1.0) {
            let got = format_args!("{radius} for {coverage}");
            return Err(Error::corrupt("conformal model", "a finite radius for a coverage", got));
        }
        Ok(Self { signature, inner, column, coverage, radius })
    }

    /// The share of cases that shall hold the truth.
    pub fn coverage(&self) -> f64 {
        self.coverage
    }

    /// Half the width of every interval, or 1 less the least probability of a class in a set.
    pub fn radius(&self) -> f64 {
        self.radius
    }

    /// The model inside.
    pub fn inner(&self) -> &dyn Model {
        &*self.inner
    }

    /// The classes, as codes, that may be true of each row; for classification. A set may be empty,
    /// where no class is as likely as the truth mostly is.
    pub fn sets(&self, x: &Frame) -> Result<Vec<Vec<usize>>> {
        if matches!(self.signature.task, Task::Regression) {
            return Err(Error::data(
                "task of prediction sets",
                "classification",
                &self.signature.task,
            ));
        }
        let predicted = self.predict(x)?;
        let n_classes = self.signature.task.n_classes();
        let holds = |row: &[f64], class: usize| 1.0 - true_class(row, class as f64) <= self.radius;
        let set = |row: &[f64]| (0..n_classes).filter(|&class| holds(row, class)).collect();
        Ok(predicted.rows().map(set).collect())
    }

    fn widen(&self, value: f64, out: &mut [f64]) {
        if let [y, low, high] = out {
            (*y, *low, *high) = (value, value - self.radius, value + self.radius);
        }
    }
}

impl Model for ConformalModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        if !matches!(self.signature.task, Task::Regression) {
            return self.inner.infer(x, out);
        }
        let mut values = Matrix::zeros(x.n_rows(), self.inner.signature().n_outputs());
        self.inner.infer(x, &mut values)?;
        for (i, y) in values.column(self.column).enumerate() {
            self.widen(y, out.row_mut(i));
        }
        Ok(())
    }

    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        if !matches!(self.signature.task, Task::Regression) {
            return self.inner.infer_row(row, out);
        }
        let mut values = vec![0.0; self.inner.signature().n_outputs()];
        self.inner.infer_row(row, &mut values)?;
        self.widen(values[self.column], out);
        Ok(())
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }
}

impl Persist for ConformalModel {
    const TAG: Tag = Tag::new("mm.conformal", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.numbers(&[self.coverage, self.radius]);
        body.model(&*self.inner)
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        let [coverage, radius] = body.numbers()?[..] else {
            return Err(Error::corrupt("conformal model", "2 numbers", "another count"));
        };
        Self::new(body.model()?, coverage, radius)
    }
}
