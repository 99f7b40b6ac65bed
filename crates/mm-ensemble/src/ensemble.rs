//! An ensemble as a learner: it fits its members itself and combines them.
//!
//! # Idea
//!
//! Each member is cross-fitted over the same folds. A [`Combiner`] learns from the predictions of
//! rows that the members did not see, and what it has no use for is dropped. The others are fitted
//! once more to all rows, or go on as the bag of their folds' models. So the same combiners serve
//! here and in an orchestrator, and what comes out is the same model.
//!
//! ```text
//! members ──cross-fit──▶ out-of-fold predictions ──combiner──▶ weights or a meta-model ─┐
//!    └───────────────── refit, or keep the bag ───────────────────────────────────────▶ EnsembleModel
//! ```
//!
//! With layers, the members of a layer see the raw features and the out-of-fold predictions of the
//! layer below, over the same folds less the rows that the layer below never predicted. Over folds
//! that go forward in time each layer therefore loses one fold, and learns from later rows than the
//! one below.
//!
//! Blending on a held-out part is the split [`Holdout`](mm_core::Holdout): members are
//! fitted to one part, the combiner learns from the other.
//!
//! A combiner that learns nothing needs no cross-fitting: the members are fitted to all rows at
//! once.
//!
//! # Members that fail
//!
//! A member that fails, panics, predicts NaN, or passes its time is left out, and the model's
//! [`Report`] says why. Only if none is left, the ensemble fails, with the first member's error.
//!
//! # Cost
//!
//! With *k* folds each member is fitted *k* + 1 times, members one after another, folds side by
//! side; with a [`Guard`] twice as often.
//!
//! # Example
//!
//! ```
//! use mm_core::{Dataset, FitContext, Frame, Learner as _, Model as _, Params as _};
//! use mm_ensemble::{Ensemble, GreedyParams, LinearParams};
//!
//! let x = Frame::new((0..40_u8).map(f32::from).collect(), 1)?;
//! let y = (0..40).map(|i| f64::from(i) + f64::from(i % 3)).collect();
//! let data = Dataset::regression(x, y)?;
//!
//! let strong = LinearParams::default().build()?;
//! let weak = LinearParams::default().with(|p| p.penalty = 1e6).build()?;
//! let ensemble = Ensemble::new(
//!     [("strong", Box::new(strong) as _), ("weak", Box::new(weak) as _)],
//!     GreedyParams::default(),
//! )?;
//! let model = ensemble.fit(&data, &FitContext::seeded(1))?;
//! assert_eq!(model.weights(), Some(vec![1.0])); // The weak one is dropped.
//! println!("{}", model.report().expect("cross-fitted"));
//! # Ok::<(), mm_core::Error>(())
//! ```
//!
//! # Sources
//!
//! Erickson et al. (2020), "AutoGluon-Tabular", for bags of folds in layers.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use mm_core::{
    BoxLearner, Candidate, Catalog, Combiner, CrossFit, Dataset, Error, FitContext, Fold, Learner,
    Matrix, Member, Metric, Model, OutOfFold, ParamError, Result, SplitPlan, Splitter as _,
    contain, cross_fit,
};
use serde::{Deserialize, Serialize};

use crate::{
    average::AverageParams,
    guard::{Guard, Inside, Verdict},
    limits::{Limited, Limits},
    model::EnsembleModel,
    report::{LeftOut, Report},
    rule::{Meta, MetaInputs, Rule},
    stack::lifted,
};

/// How an [`Ensemble`] is fitted.
///
/// | field | default | domain | effect |
/// | --- | --- | --- | --- |
/// | `split` | [`SplitPlan::default_for`] the data | | the folds of all layers |
/// | `metric` | [`Metric::default_for`] the task | one for the task | what combiners optimise and the report scores |
/// | `finish` | `refit` | `refit`, `keep_bag` | what becomes of the members at the end |
/// | `passthrough` | `true` | | members of upper layers see the raw features, too |
/// | `fit_seconds` | none | > 0 | time of one fit of a member; what hits it is left out, unless it gives what it has |
/// | `limits` | none | [`Limits`] | what the members may cost |
/// | `guard` | none | [`Guard`] | the check for over-fitting and leaks |
/// | `leave_one_out` | `true` | | the report says what each member adds: combines once more a member and fold |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EnsembleParams {
    /// The folds of all layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitPlan>,
    /// What combiners optimise and the report scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
    /// What becomes of the members at the end.
    pub finish: Finish,
    /// Whether members of upper layers see the raw features.
    pub passthrough: bool,
    /// Time of one fit of a member, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit_seconds: Option<f64>,
    /// What the members may cost.
    #[serde(skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// The check for over-fitting and leaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// Whether the report says what each member adds.
    pub leave_one_out: bool,
}

impl Default for EnsembleParams {
    fn default() -> Self {
        Self {
            split: None,
            metric: None,
            finish: Finish::default(),
            passthrough: true,
            fit_seconds: None,
            limits: Limits::default(),
            guard: None,
            leave_one_out: true,
        }
    }
}

impl EnsembleParams {
    fn check(&self) -> Result<(), ParamError> {
        if let Some(split) = &self.split {
            let nested =
                |e: ParamError| ParamError::new(format!("split.{}", e.name), e.got, e.expected);
            split.check().map_err(nested)?;
        }
        if let Some(metric) = &self.metric {
            metric.check("metric")?;
        }
        if let Some(seconds) = self.fit_seconds {
            let ok = 0.0 < seconds && seconds.is_finite();
            ParamError::ensure(ok, "fit_seconds", seconds, "a finite number above 0")?;
        }
        self.limits.check()?;
        self.guard.as_ref().map_or(Ok(()), Guard::check)
    }
}

/// What becomes of cross-fitted members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finish {
    /// Each is fitted to all rows. One for which that fails goes on as its bag.
    #[default]
    Refit,
    /// Each goes on as the mean of its folds' models: *k* times the cost of a prediction, and no
    /// further fit.
    KeepBag,
}

/// What an ensemble is told in a plan: the kind `ensemble`.
///
/// ```toml
/// [[candidates]]
/// kind = "ensemble"
/// params.members = [{ kind = "lightgbm" }, { kind = "xgboost", params = { rounds = 200 } }]
/// params.combine = { kind = "greedy" }
/// params.fit = { finish = "keep_bag" }
/// ```
///
/// | field | default | domain | effect |
/// | --- | --- | --- | --- |
/// | `members` | | kinds of the catalog with names and params | the first layer |
/// | `layers` | `[]` | lists of the same | further layers, from below |
/// | `combine` | `{ kind = "greedy" }` | a combiner of the catalog with its params | what joins the last layer |
/// | `fit` | | [`EnsembleParams`] | how all that is fitted |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct EnsembleConfig {
    /// The first layer.
    pub members: Vec<Candidate>,
    /// Further layers.
    #[serde(default)]
    pub layers: Vec<Vec<Candidate>>,
    /// What joins the last layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub combine: Option<Candidate>,
    /// How all that is fitted.
    #[serde(default)]
    pub fit: EnsembleParams,
}

impl EnsembleConfig {
    /// The ensemble, with learners and a combiner of the catalog.
    pub fn build(self, catalog: &Catalog) -> Result<Ensemble> {
        let layer = |place: &str, members: Vec<Candidate>| -> Result<Layer> {
            let member = |(i, member): (usize, Candidate)| {
                let learner = member.member(catalog, &format!("{place}.{i}"))?;
                Ok((member.name().to_owned(), Arc::new(learner)))
            };
            members.into_iter().enumerate().map(member).collect()
        };
        let combiner: Box<dyn Combiner> = match self.combine {
            None => Box::new(crate::GreedyParams::default()),
            Some(combine) => {
                combine.ensure_untuned("combine")?;
                let Candidate { kind, params, .. } = combine;
                catalog.combiner(&kind, params).map_err(|e| e.within("combine"))?
            }
        };
        let mut layers = vec![layer("members", self.members)?];
        for (i, members) in self.layers.into_iter().enumerate() {
            layers.push(layer(&format!("layers.{i}"), members)?);
        }
        Ensemble::build(layers, combiner.into(), self.fit)
    }
}

/// Named members, shared by clones.
type Layer = Vec<(String, Arc<BoxLearner>)>;

/// Fits members, combines them, and is a learner as they are.
#[derive(Debug, Clone)]
pub struct Ensemble {
    layers: Arc<[Layer]>, // Invariant: none empty, names distinct in each.
    combiner: Arc<dyn Combiner>,
    params: EnsembleParams,
}

/// The seed of a member's fit to all rows, among those of its folds.
const REFIT: u64 = u64::MAX;
/// Seeds of what is no member.
const COMBINE: u64 = u64::MAX - 1;
const GUARD: u64 = u64::MAX - 2;

/// Rows by which a member's speed is measured.
const TIMED_ROWS: usize = 2048;

impl Ensemble {
    /// Members under a combiner, fitted as [`EnsembleParams`] does by default.
    ///
    /// # Errors
    ///
    /// No members, a name given twice, and params that the combiner refuses.
    pub fn new<S: Into<String>>(
        members: impl IntoIterator<Item = (S, BoxLearner)>,
        combiner: impl Combiner + 'static,
    ) -> Result<Self> {
        let members = members.into_iter().map(|(name, m)| (name.into(), Arc::new(m))).collect();
        Self::build(vec![members], Arc::new(combiner), EnsembleParams::default())
    }

    /// The plain mean: soft voting, for classification.
    pub fn mean<S: Into<String>>(
        members: impl IntoIterator<Item = (S, BoxLearner)>,
    ) -> Result<Self> {
        Self::new(members, AverageParams::default())
    }

    /// The same with another layer of members between the last one and the combiner.
    pub fn with_layer<S: Into<String>>(
        self,
        members: impl IntoIterator<Item = (S, BoxLearner)>,
    ) -> Result<Self> {
        let mut layers = self.layers.to_vec();
        layers.push(members.into_iter().map(|(name, m)| (name.into(), Arc::new(m))).collect());
        Self::build(layers, self.combiner, self.params)
    }

    /// The same, fitted otherwise.
    pub fn with_params(self, params: EnsembleParams) -> Result<Self> {
        params.check()?;
        Ok(Self { params, ..self })
    }

    fn build(
        layers: Vec<Layer>,
        combiner: Arc<dyn Combiner>,
        params: EnsembleParams,
    ) -> Result<Self> {
        for layer in &layers {
            if layer.is_empty() {
                return Err(Error::data("members", "at least 1", "none"));
            }
            let mut names = BTreeSet::new();
            if let Some((twice, _)) = layer.iter().find(|(name, _)| !names.insert(name.as_str())) {
                let got = format_args!("`{twice}` twice");
                return Err(Error::data("members", "distinct names", got));
            }
        }
        params.check()?;
        let names: Vec<&str> =
            layers.last().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        combiner.check(&names)?;
        Ok(Self { layers: layers.into(), combiner, params })
    }
}

impl Learner for Ensemble {
    type Model = EnsembleModel;

    fn name(&self) -> &'static str {
        "ensemble"
    }

    fn admits_infinite(&self) -> bool {
        self.layers.iter().flatten().all(|(_, member)| Learner::admits_infinite(&**member))
    }

    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<EnsembleModel> {
        let metric = self.params.metric.unwrap_or_else(|| Metric::default_for(data.task()));
        if !metric.supports(data.task()) {
            let expected = format!("one for {}", data.task());
            return Err(Error::data("metric of the ensemble", expected, metric));
        }
        let fit = Fit { ensemble: self, metric };
        if self.layers.len() == 1 && !fit.must_cross_fit() {
            return fit.at_once(data, ctx);
        }
        let verdict = match &self.params.guard {
            Some(guard) => fit.examine(guard, data, &ctx.fork(GUARD))?,
            None => None,
        };
        let fallback = verdict.as_ref().and_then(|verdict| verdict.fallback);
        let combiner = fallback.map(|fallback| Arc::from(fallback.combiner()));
        let combiner = combiner.unwrap_or_else(|| Arc::clone(&self.combiner));
        let folds = fit.folds(data, ctx)?;
        let mut model = fit.layer(0, data, &folds, &combiner, ctx)?;
        if let Some(report) = model.report() {
            let report = Report { guard: verdict, ..report.clone() };
            model = model.with_report(report);
        }
        Ok(model)
    }
}

/// One fit of an ensemble.
struct Fit<'a> {
    ensemble: &'a Ensemble,
    metric: Metric,
}

/// A member that was cross-fitted.
struct CrossFitted<'a> {
    place: usize,
    name: &'a str,
    learner: &'a BoxLearner,
    models: Vec<Arc<dyn Model>>,
    out_of_fold: OutOfFold,
    predict_micros: Option<f64>,
    bytes: Option<usize>,
}

impl<'a> Fit<'a> {
    fn params(&self) -> &'a EnsembleParams {
        &self.ensemble.params
    }

    fn must_cross_fit(&self) -> bool {
        let params = self.params();
        self.ensemble.combiner.learns()
            || params.finish == Finish::KeepBag
            || params.guard.is_some()
            || !params.limits.is_none()
    }

    fn folds(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<Vec<Fold>> {
        let split = self.params().split.clone();
        let split = split.unwrap_or_else(|| SplitPlan::default_for(data));
        split.split(data, ctx.seed).map_err(|e| e.within("split"))
    }

    /// The time that one fit of a member may take.
    fn member_context<'c>(&self, place: usize, ctx: &FitContext<'c>) -> FitContext<'c> {
        let ctx = ctx.fork(place as u64);
        match self.params().fit_seconds {
            Some(seconds) => ctx.within(Duration::from_secs_f64(seconds)),
            None => ctx,
        }
    }

    /// Members fitted to all rows and combined by a combiner that learns nothing.
    fn at_once(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<EnsembleModel> {
        let (mut names, mut models, mut failed) = (Vec::new(), Vec::new(), Failed::default());
        for (place, (name, member)) in self.ensemble.layers[0].iter().enumerate() {
            let ctx = self.member_context(place, ctx);
            match contain(|| member.fit(data, &ctx)).and_then(|model| is_of(model, data)) {
                Ok(model) => {
                    names.push(name.as_str());
                    models.push(Arc::from(model));
                }
                Err(e) => failed.push(name, e)?,
            }
        }
        failed.unless(!models.is_empty())?;
        let none = data.take(&[]);
        let nothing = Matrix::zeros(0, data.task().outputs().len().max(models_outputs(&models)));
        let members: Vec<Member<'_>> =
            names.iter().map(|name| Member::new(name, &nothing)).collect();
        let combiner = &self.ensemble.combiner;
        let combination = combiner.combine(&members, &none, self.metric, &ctx.fork(COMBINE))?;
        let mut place = 0..;
        models.retain(|_| place.next().is_some_and(|place| combination.uses(place)));
        let model = EnsembleModel::from_model(combination.into_model(models)?)?;
        if failed.left_out.is_empty() {
            return Ok(model);
        }
        Ok(model.with_report(Report {
            metric: self.metric,
            score: None,
            members: Vec::new(),
            correlation: Vec::new(),
            left_out: failed.left_out,
            guard: None,
        }))
    }

    /// Members of one layer, cross-fitted: those that succeeded, and those that did not.
    fn cross_fit(
        &self,
        level: usize,
        data: &Dataset,
        folds: &[Fold],
        ctx: &FitContext<'_>,
    ) -> Result<(Vec<CrossFitted<'a>>, Failed)> {
        let (mut fitted, mut failed) = (Vec::new(), Failed::default());
        for (place, (name, learner)) in self.ensemble.layers[level].iter().enumerate() {
            if ctx.is_due() && !fitted.is_empty() {
                failed.push(name, Error::Deadline)?;
                continue;
            }
            let ctx = self.member_context(place, ctx);
            match self.cross_fit_one(place, name, learner, data, folds, &ctx) {
                Ok(member) => fitted.push(member),
                Err(e) => failed.push(name, e)?,
            }
        }
        failed.unless(!fitted.is_empty())?;
        Ok((fitted, failed))
    }

    fn cross_fit_one(
        &self,
        place: usize,
        name: &'a str,
        learner: &'a BoxLearner,
        data: &Dataset,
        folds: &[Fold],
        ctx: &FitContext<'_>,
    ) -> Result<CrossFitted<'a>> {
        let CrossFit { models, out_of_fold, .. } = cross_fit(learner, data, folds, ctx)?;
        let models =
            models.into_iter().map(|model| is_of(model, data)).collect::<Result<Vec<_>>>()?;
        let models: Vec<Arc<dyn Model>> = models.into_iter().map(Arc::from).collect();
        let predictions = out_of_fold.predictions();
        if let Some(i) = predictions.values().iter().position(|y| !y.is_finite()) {
            let row = out_of_fold.rows()[i / predictions.n_cols()];
            let place = format_args!("prediction of row {row}");
            return Err(Error::data(place, "a finite number", predictions.values()[i]));
        }
        let limits = &self.params().limits;
        let n = if self.params().finish == Finish::KeepBag { models.len() } else { 1 };
        let predict_micros = match (limits.max_predict_us, models.first()) {
            (Some(_), Some(model)) => {
                let x = data.frame().slice(0, data.n_rows().min(TIMED_ROWS));
                let started = Instant::now();
                model.predict(&x)?;
                Some(started.elapsed().as_secs_f64() * 1e6 * n as f64 / x.n_rows() as f64)
            }
            _ => None,
        };
        let bytes = match limits.max_bytes {
            Some(_) => {
                let size = |model: &Arc<dyn Model>| Ok(model.to_envelope()?.as_bytes().len());
                Some(models.iter().take(n).map(size).sum::<Result<usize>>()?)
            }
            None => None,
        };
        Ok(CrossFitted { place, name, learner, models, out_of_fold, predict_micros, bytes })
    }

    /// This layer and those above it.
    fn layer(
        &self,
        level: usize,
        data: &Dataset,
        folds: &[Fold],
        combiner: &Arc<dyn Combiner>,
        ctx: &FitContext<'_>,
    ) -> Result<EnsembleModel> {
        let (fitted, failed) = self.cross_fit(level, data, folds, ctx)?;
        if level + 1 < self.ensemble.layers.len() {
            let (upper, upper_folds) = self.lift(level, &fitted, data, folds)?;
            let meta = self.layer(level + 1, &upper, &upper_folds, combiner, &above(ctx))?;
            let mut report = meta.report().cloned();
            if let Some(report) = &mut report {
                report.left_out.splice(0..0, failed.left_out);
            }
            let rule = Rule::Meta(Meta {
                model: Arc::new(meta),
                passthrough: self.params().passthrough,
                inputs: MetaInputs::Raw,
            });
            let members = fitted
                .iter()
                .map(|member| Ok((member.name.to_owned(), self.finish(member, data, ctx)?)));
            let model = EnsembleModel::new(members.collect::<Result<Vec<_>>>()?, rule)?;
            return Ok(match report {
                Some(report) => model.with_report(report),
                None => model,
            });
        }
        self.top(&fitted, failed, data, folds, combiner, ctx)
    }

    /// The last layer: combined, finished, and reported.
    fn top(
        &self,
        fitted: &[CrossFitted<'a>],
        failed: Failed,
        data: &Dataset,
        folds: &[Fold],
        combiner: &Arc<dyn Combiner>,
        ctx: &FitContext<'_>,
    ) -> Result<EnsembleModel> {
        let rows = fitted[0].out_of_fold.rows();
        let seen = data.take(rows);
        let members: Vec<Member<'_>> = fitted.iter().map(CrossFitted::as_member).collect();
        let ctx_combine = without_validation(&ctx.fork(COMBINE));
        let limited = Limited { inner: Arc::clone(combiner), limits: self.params().limits };
        let (places, combination, dropped) =
            limited.choose(&members, &seen, self.metric, &ctx_combine)?;

        let used: Vec<usize> = (0..places.len()).filter(|&i| combination.uses(i)).collect();
        let models = used.iter().map(|&i| self.finish(&fitted[places[i]], data, ctx));
        let models = models.collect::<Result<Vec<_>>>()?;
        let model = EnsembleModel::from_model(combination.into_model(models)?)?;

        let named: Vec<(&str, &OutOfFold)> =
            fitted.iter().map(|member| (member.name, &member.out_of_fold)).collect();
        // The limits' choice is part of what was learnt, but choosing once more a fold and member
        // would cost too much: the report scores the combiner on the members that were chosen.
        let chosen: Vec<(&str, &OutOfFold)> = places.iter().map(|&place| named[place]).collect();
        let leave_one_out = self.params().leave_one_out;
        let mut report = Report::of(
            &**combiner,
            &chosen,
            data,
            folds,
            self.metric,
            leave_one_out,
            &ctx_combine,
        )?;
        let weights = model.weights();
        for member in &mut report.members {
            let at = model.members().position(|(name, _)| name == member.name);
            member.weight = weights.as_ref().map(|weights| at.map_or(0.0, |at| weights[at]));
        }
        report.left_out = failed.left_out;
        report.left_out.extend(dropped);
        Ok(model.with_report(report))
    }

    /// A member as it goes into the model.
    fn finish(
        &self,
        member: &CrossFitted<'_>,
        data: &Dataset,
        ctx: &FitContext<'_>,
    ) -> Result<Arc<dyn Model>> {
        let bag = || -> Result<Arc<dyn Model>> {
            match &member.models[..] {
                [only] => Ok(Arc::clone(only)),
                models => Ok(Arc::new(EnsembleModel::bag(models.iter().cloned())?)),
            }
        };
        if self.params().finish == Finish::KeepBag {
            return bag();
        }
        let ctx = self.member_context(member.place, ctx).fork(REFIT);
        match contain(|| member.learner.fit(data, &ctx)).and_then(|model| is_of(model, data)) {
            Ok(model) => Ok(Arc::from(model)),
            Err(e) if matches!(e.root(), Error::Cancelled) => Err(e),
            Err(_) => bag(),
        }
    }

    /// The data and the folds of the layer above: rows that this layer predicted out of fold.
    fn lift(
        &self,
        level: usize,
        fitted: &[CrossFitted<'_>],
        data: &Dataset,
        folds: &[Fold],
    ) -> Result<(Dataset, Vec<Fold>)> {
        let rows = fitted[0].out_of_fold.rows();
        let names: Vec<&str> = fitted.iter().map(|member| member.name).collect();
        let parts: Vec<&Matrix> =
            fitted.iter().map(|member| member.out_of_fold.predictions()).collect();
        let passthrough = self.params().passthrough;
        let upper = lifted(&data.take(rows), &names, &parts, passthrough, MetaInputs::Raw)?;
        let places = |side: &[usize]| -> Vec<usize> {
            side.iter().filter_map(|row| rows.binary_search(row).ok()).collect()
        };
        let folds: Vec<Fold> = folds
            .iter()
            .filter_map(|fold| Fold::new(places(&fold.train), places(&fold.test)).ok())
            .collect();
        if folds.is_empty() {
            let place = format_args!("folds of layer {}", level + 2);
            let expected = "at least 1 that trains on rows predicted by the layer below";
            return Err(Error::data(place, expected, "none"));
        }
        Ok((upper, folds))
    }

    /// Asks the guard, with the last layer's members over the layers below.
    fn examine(
        &self,
        guard: &Guard,
        data: &Dataset,
        ctx: &FitContext<'_>,
    ) -> Result<Option<Verdict>> {
        let Fold { train, test, .. } = guard.split(data, ctx.seed)?;
        let (mut inside, mut outside) = (data.take(&train), data.take(&test));
        let mut folds = self.folds(&inside, ctx)?;
        let mut ctx = *ctx;
        for level in 0.. {
            let (fitted, _) = self.cross_fit(level, &inside, &folds, &ctx)?;
            let predict = |member: &CrossFitted<'_>| {
                self.finish(member, &inside, &ctx)?.predict(outside.frame())
            };
            let predicted = fitted.iter().map(predict).collect::<Result<Vec<_>>>()?;
            let parts: Vec<&Matrix> = predicted.iter().collect();
            if level + 1 == self.ensemble.layers.len() {
                let named: Vec<(&str, &OutOfFold)> =
                    fitted.iter().map(|m| (m.name, &m.out_of_fold)).collect();
                let inside = Inside::new(&named, &inside, &folds);
                let ctx = without_validation(&ctx.fork(COMBINE));
                let combiner = &*self.ensemble.combiner;
                let verdict = guard.examine(combiner, inside, &parts, &outside, self.metric, &ctx);
                return match verdict {
                    Ok(verdict) => Ok(Some(verdict)),
                    // The metric is undefined on the part, which then says nothing.
                    Err(Error::OneClass { .. } | Error::Data { .. }) => Ok(None),
                    Err(e) => Err(e.within("the guard")),
                };
            }
            let (upper, upper_folds) = self.lift(level, &fitted, &inside, &folds)?;
            let names: Vec<&str> = fitted.iter().map(|member| member.name).collect();
            let passthrough = self.params().passthrough;
            outside = lifted(&outside, &names, &parts, passthrough, MetaInputs::Raw)?;
            (inside, folds, ctx) = (upper, upper_folds, above(&ctx));
        }
        Ok(None)
    }
}

impl CrossFitted<'_> {
    fn as_member(&self) -> Member<'_> {
        let mut member = Member::new(self.name, self.out_of_fold.predictions());
        (member.predict_micros, member.bytes) = (self.predict_micros, self.bytes);
        member
    }
}

/// Members that failed.
#[derive(Default)]
struct Failed {
    left_out: Vec<LeftOut>,
    first: Option<Error>,
}

impl Failed {
    /// Notes a failure; a fit that was called off is no failure of the member.
    fn push(&mut self, name: &str, e: Error) -> Result<()> {
        let e = e.within(format!("member `{name}`"));
        if matches!(e.root(), Error::Cancelled) {
            return Err(e);
        }
        if let Error::Within { source, .. } = &e {
            self.left_out.push(LeftOut::new(name, source.chain()));
        }
        self.first.get_or_insert(e);
        Ok(())
    }

    /// The first failure, if nothing succeeded.
    fn unless(&mut self, any: bool) -> Result<()> {
        match self.first.take() {
            Some(e) if !any => Err(e),
            _ => Ok(()),
        }
    }
}

/// Refuses a model that does not predict the task of the data from their features.
fn is_of(model: mm_core::BoxModel, data: &Dataset) -> Result<mm_core::BoxModel> {
    let signature = model.signature();
    if signature.task != *data.task() {
        return Err(Error::data("task of the model", data.task(), &signature.task));
    }
    if signature.schema != *data.frame().schema() {
        return Err(Error::data("features of the model", "those of the data", "others"));
    }
    Ok(model)
}

fn models_outputs(models: &[Arc<dyn Model>]) -> usize {
    models.first().map_or(1, |model| model.signature().n_outputs())
}

/// The context of the layer above, whose features the validation data lack.
fn above<'c>(ctx: &FitContext<'c>) -> FitContext<'c> {
    without_validation(&ctx.fork(COMBINE))
}

fn without_validation<'c>(ctx: &FitContext<'c>) -> FitContext<'c> {
    let mut ctx = *ctx;
    ctx.validation = None;
    ctx
}
