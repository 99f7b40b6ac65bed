//! The weighted mean of several models' predictions (soft voting, for classification).
//!
//! # Idea
//!
//! With predictions *Pᵢ* of shape (*n*, *k*) and weights *wᵢ* ≥ 0 that add up to 1:
//!
//! ```text
//! P = Σᵢ wᵢ Pᵢ
//! ```
//!
//! Errors that the members do not share cancel out. Nothing is learnt from data, so the ensemble's
//! out-of-fold score is as honest as its members'. The weights are equal, or fixed by name: the
//! classic blend of a batch model and an online one is `{ batch = 0.8, online = 0.2 }`.
//!
//! Cost: that of the members, one after another.
//!
//! # Example
//!
//! ```
//! use mm_core::{BoxLearner, Error, FitContext, Learner as _};
//! use mm_ensemble::Average;
//!
//! # fn fit(first: BoxLearner, second: BoxLearner, data: &mm_core::Dataset) -> Result<(), Error> {
//! let average = Average::new([("first", first), ("second", second)])?;
//! let model = average.fit(data, &FitContext::seeded(1))?;
//! # Ok(()) }
//! ```
//!
//! # Sources
//!
//! Perrone & Cooper (1993), "When networks disagree: ensemble methods for hybrid neural networks".

use std::{collections::BTreeMap, sync::Arc};

use mm_core::{
    BodyReader, BodyWriter, BoxLearner, BoxModel, Combination, Combiner, Dataset, Envelope, Error,
    FitContext, Frame, Learner, Matrix, Member, Metric, Model, ParamError, Persist, Result,
    Signature, Tag, Truth,
};
use serde::{Deserialize, Serialize};

/// How an average weighs its members.
///
/// | field | default | domain | effect |
/// | --- | --- | --- | --- |
/// | `weights` | `{}` | name → finite number ≥ 0, not all 0 | members' weights, scaled to add up to 1; empty: all equal |
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AverageParams {
    /// Weights by member name; if any is given, each member needs one.
    pub weights: BTreeMap<String, f64>,
}

impl AverageParams {
    /// Checks the weights.
    pub fn check(self) -> Result<Self, ParamError> {
        for (name, weight) in &self.weights {
            let ok = 0.0 <= *weight && weight.is_finite();
            ParamError::ensure(ok, format!("weights.{name}"), weight, "a finite number ≥ 0")?;
        }
        let ok = self.weights.is_empty() || self.weights.values().any(|w| 0.0 < *w);
        ParamError::ensure(ok, "weights", "all 0", "at least one above 0")?;
        Ok(self)
    }

    /// One weight a member, adding up to 1.
    fn resolve<'a>(&self, names: impl ExactSizeIterator<Item = &'a str>) -> Result<Vec<f64>> {
        if self.weights.is_empty() {
            return Ok(vec![1.0 / names.len() as f64; names.len()]);
        }
        let n = names.len();
        let missing =
            |name: &str| Error::NotFound { what: "weight of member", name: name.to_owned() };
        let weights: Vec<f64> = names
            .map(|name| self.weights.get(name).copied().ok_or_else(|| missing(name)))
            .collect::<Result<_>>()?;
        if n != self.weights.len() {
            let got = self.weights.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(Error::data("weights", format_args!("those of {n} members"), got));
        }
        let total: f64 = weights.iter().sum();
        Ok(weights.iter().map(|w| w / total).collect())
    }
}

/// Fits its members side by side and averages what they predict.
#[derive(Debug, Clone)]
pub struct Average {
    members: Arc<[(String, BoxLearner)]>, // Invariant: not empty, names distinct.
    weights: Vec<f64>,                    // Invariant: one a member, adding up to 1.
}

impl Average {
    /// Equal weights.
    pub fn new<S: Into<String>>(
        members: impl IntoIterator<Item = (S, BoxLearner)>,
    ) -> Result<Self> {
        Self::weighted(members, AverageParams::default())
    }

    /// Weights by name.
    pub fn weighted<S: Into<String>>(
        members: impl IntoIterator<Item = (S, BoxLearner)>,
        params: AverageParams,
    ) -> Result<Self> {
        let members: Arc<[_]> = members.into_iter().map(|(name, m)| (name.into(), m)).collect();
        if members.is_empty() {
            return Err(Error::data("members", "at least 1", "none"));
        }
        for (i, (name, _)) in members.iter().enumerate() {
            if members[..i].iter().any(|(other, _)| other == name) {
                return Err(Error::data(
                    "members",
                    "distinct names",
                    format_args!("`{name}` twice"),
                ));
            }
        }
        let weights = params.check()?.resolve(members.iter().map(|(name, _)| name.as_str()))?;
        Ok(Self { members, weights })
    }
}

impl Learner for Average {
    type Model = AverageModel;

    fn name(&self) -> &'static str {
        "average"
    }

    fn admits_infinite(&self) -> bool {
        self.members.iter().all(|(_, member)| Learner::admits_infinite(member))
    }

    /// Member *i* fits with `ctx.fork(i)`, one member after another with all threads.
    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<AverageModel> {
        let fit = |(i, (name, member)): (usize, &(String, BoxLearner))| {
            let model = member.fit(data, &ctx.fork(i as u64));
            let model = model.map_err(|e| e.within(format!("member `{name}`")))?;
            Ok(Arc::from(model))
        };
        let members = self.members.iter().enumerate().map(fit).collect::<Result<Vec<_>>>()?;
        AverageModel::new(members, self.weights.clone())
    }
}

/// The weighted mean of fitted members.
#[derive(Debug, Clone)]
pub struct AverageModel {
    signature: Signature,
    members: Vec<Arc<dyn Model>>, // Invariant: not empty, all of one signature.
    weights: Vec<f64>,            // Invariant: one a member, none negative, adding up to 1.
}

impl AverageModel {
    fn new(members: Vec<Arc<dyn Model>>, weights: Vec<f64>) -> Result<Self> {
        let Some(first) = members.first() else {
            return Err(Error::data("members", "at least 1", "none"));
        };
        let mut signature = first.signature().clone();
        for member in &members {
            let other = member.signature();
            let same = other.schema == signature.schema
                && other.task == signature.task
                && other.outputs == signature.outputs;
            if !same {
                return Err(Error::data("members", "one signature", "models of different ones"));
            }
            signature.admits_infinite &= other.admits_infinite;
        }
        let ok = weights.len() == members.len()
            && weights.iter().all(|w| 0.0 <= *w)
            && (weights.iter().sum::<f64>() - 1.0).abs() < 1e-9;
        if !ok {
            return Err(Error::data(
                "weights",
                "one a member, adding up to 1",
                format!("{weights:?}"),
            ));
        }
        Ok(Self { signature, members, weights })
    }

    /// The members and their weights.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (&dyn Model, f64)> {
        self.members.iter().map(|member| &**member).zip(self.weights.iter().copied())
    }
}

impl Model for AverageModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        let mut part = Matrix::zeros(out.n_rows(), out.n_cols());
        out.values_mut().fill(0.0);
        for (member, weight) in self.members() {
            member.infer(x, &mut part)?;
            add(out.values_mut(), weight, part.values());
        }
        Ok(())
    }

    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        let mut part = vec![0.0; out.len()];
        out.fill(0.0);
        for (member, weight) in self.members() {
            member.infer_row(row, &mut part)?;
            add(out, weight, &part);
        }
        Ok(())
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }
}

impl Persist for AverageModel {
    const TAG: Tag = Tag::new("mm.average", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.numbers(&self.weights);
        self.members.iter().try_for_each(|member| body.model(&**member))
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        let weights = body.numbers()?;
        let members =
            weights.iter().map(|_| Ok(Arc::from(body.model()?))).collect::<Result<_>>()?;
        Self::new(members, weights).map_err(|e| Error::corrupt("average", "a valid one", e))
    }
}

impl Combiner for AverageParams {
    fn check(&self, members: &[&str]) -> Result<()> {
        self.resolve(members.iter().copied()).map(drop)
    }

    fn combine(
        &self,
        members: &[Member<'_>],
        _: Truth<'_>,
        _: Metric,
        _: &FitContext<'_>,
    ) -> Result<Box<dyn Combination>> {
        Ok(Box::new(Weights(self.resolve(members.iter().map(|member| member.name))?)))
    }
}

/// Weights of members, adding up to 1.
#[derive(Debug)]
struct Weights(Vec<f64>);

impl Combination for Weights {
    fn apply(&self, parts: &[&Matrix]) -> Result<Matrix> {
        let (n_rows, n_cols) = parts.first().map_or((0, 1), |part| (part.n_rows(), part.n_cols()));
        let mut out = Matrix::zeros(n_rows, n_cols);
        for (part, weight) in parts.iter().zip(&self.0) {
            if (part.n_rows(), part.n_cols()) != (n_rows, n_cols) {
                let got = format!("{} × {}", part.n_rows(), part.n_cols());
                return Err(Error::data(
                    "members' predictions",
                    format_args!("{n_rows} × {n_cols}"),
                    got,
                ));
            }
            add(out.values_mut(), *weight, part.values());
        }
        Ok(out)
    }

    fn into_model(self: Box<Self>, members: Vec<Arc<dyn Model>>) -> Result<BoxModel> {
        Ok(Box::new(AverageModel::new(members, self.0)?))
    }
}

fn add(out: &mut [f64], weight: f64, part: &[f64]) {
    out.iter_mut().zip(part).for_each(|(sum, y)| *sum += weight * y);
}

#[cfg(test)]
mod tests {
    use mm_core::Task;

    use super::*;

    fn params(weights: &[(&str, f64)]) -> AverageParams {
        let weights = weights.iter().map(|&(name, w)| (name.to_owned(), w)).collect();
        AverageParams { weights }
    }

    #[track_caller]
    fn combine(params: &AverageParams, expected: &[f64]) {
        let parts = [[0.0, 1.0], [1.0, 0.0]].map(|v| Matrix::new(v.to_vec(), 1).expect("valid"));
        let members = [Member::new("a", &parts[0]), Member::new("b", &parts[1])];
        let truth = Truth::new(&Task::Regression, &[0.0, 0.0]);
        let ctx = FitContext::seeded(0);
        let combination = params.combine(&members, truth, Metric::Rmse, &ctx).expect("weights");
        let combined = combination.apply(&[&parts[0], &parts[1]]).expect("one shape");
        assert_eq!(combined.values(), expected);
    }

    #[test]
    fn weights_are_equal_or_given_by_name_and_scaled() {
        combine(&params(&[]), &[0.5, 0.5]);
        combine(&params(&[("a", 3.0), ("b", 1.0)]), &[0.25, 0.75]);
        combine(&params(&[("b", 2.0), ("a", 0.0)]), &[1.0, 0.0]);
    }

    #[test]
    fn weights_that_do_not_fit_the_members_are_refused() {
        let names = || ["a", "b"].into_iter();
        let err = params(&[("a", 1.0)]).resolve(names()).expect_err("b has none");
        assert_eq!(err.to_string(), "no weight of member `b`");
        assert!(Combiner::check(&params(&[("a", 1.0)]), &["a", "b"]).is_err());
        assert!(Combiner::check(&params(&[("a", 1.0)]), &["a"]).is_ok());
        let three = params(&[("a", 1.0), ("b", 1.0), ("z", 1.0)]);
        let err = three.resolve(names()).expect_err("z is no member");
        assert_eq!(err.to_string(), "weights: expected those of 2 members, got a, b, z");
        for bad in [f64::NAN, -1.0, f64::INFINITY] {
            assert_eq!(params(&[("a", bad)]).check().expect_err("domain").name, "weights.a");
        }
        assert_eq!(params(&[("a", 0.0)]).check().expect_err("all 0").name, "weights");
    }

    #[test]
    fn an_average_of_nothing_is_refused() {
        let none: [(&str, BoxLearner); 0] = [];
        assert!(Average::new(none).is_err());
    }

    #[test]
    fn predictions_of_other_shapes_are_refused() {
        let weights = Weights(vec![0.5, 0.5]);
        let err = weights.apply(&[&Matrix::zeros(2, 1), &Matrix::zeros(3, 1)]).expect_err("shapes");
        assert_eq!(err.to_string(), "members' predictions: expected 2 × 1, got 3 × 1");
    }
}
