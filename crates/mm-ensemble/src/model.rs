//! Fitted members and the rule that makes their predictions one: the model of every ensemble.
//!
//! # Prediction
//!
//! A batch is predicted by all members at once on the ambient thread pool
//! ([`mm_core::parallel`]), in blocks of 65 536 rows, then combined row by row; small batches stay
//! on the caller's thread. The cost is that of the members plus one pass over their predictions.
//! Members of weight 0 are not part of the model. A vote for the winner alone asks members in the
//! order of their weights, and only for rows that are still open.
//!
//! # Members that change
//!
//! A blend of models that are fitted at different times is changed in place: members are added,
//! replaced, and removed by name, and their weights fitted anew to recent rows. The fixed blend of
//! a batch model and an online one is a line:
//!
//! ```
//! # use std::sync::Arc;
//! # use mm_core::{Model, Result};
//! # use mm_ensemble::EnsembleModel;
//! # fn blend(batch: Arc<dyn Model>, online: Arc<dyn Model>, newer: Arc<dyn Model>) -> Result<()> {
//! let mut blend = EnsembleModel::blend([("batch", batch, 0.8), ("online", online, 0.2)])?;
//! blend.replace("online", newer)?;
//! # Ok(()) }
//! ```

use std::{any::Any, sync::Arc};

use mm_core::{
    BodyReader, BodyWriter, BoxModel, Combiner, Dataset, Envelope, Error, FitContext, Frame,
    Matrix, Member, Metric, Model, Persist, Result, Signature, Tag,
};
use rayon::prelude::*;

use crate::{
    report::Report,
    rule::{Rule, Vote, Weights},
};

/// Several fitted models that predict as one.
#[derive(Debug, Clone)]
pub struct EnsembleModel {
    signature: Signature,
    members: Vec<NamedModel>, // Invariant: not empty, names distinct, what they predict the same.
    rule: Rule,               // Invariant: fits the members.
    report: Option<Report>,
}

/// A member and the name by which it is replaced.
#[derive(Debug, Clone)]
struct NamedModel {
    name: String,
    model: Arc<dyn Model>,
}

/// Rows that are predicted at once: enough to keep threads busy, few enough to bound the memory.
const BLOCK: usize = 1 << 16;

/// Below this many rows a batch is not worth another thread.
const SMALL: usize = 256;

impl EnsembleModel {
    pub(crate) fn new(
        members: impl IntoIterator<Item = (String, Arc<dyn Model>)>,
        rule: Rule,
    ) -> Result<Self> {
        let members: Vec<NamedModel> =
            members.into_iter().map(|(name, model)| NamedModel { name, model }).collect();
        let Some(first) = members.first() else {
            return Err(Error::data("members", "at least 1", "none"));
        };
        let mut signature = first.model.signature().clone();
        for (i, member) in members.iter().enumerate() {
            if members[..i].iter().any(|other| other.name == member.name) {
                let got = format_args!("`{}` twice", member.name);
                return Err(Error::data("members", "distinct names", got));
            }
            check_same(&signature, member.model.signature())
                .map_err(|e| e.within(format!("member `{}`", member.name)))?;
            signature.admits_infinite &= member.model.signature().admits_infinite;
        }
        rule.check(members.len(), &signature.outputs)?;
        Ok(Self { signature, members, rule, report: None })
    }

    /// Fitted models under fixed weights, scaled to add up to 1.
    ///
    /// # Errors
    ///
    /// No members, a name given twice, models that do not predict the same things from the same
    /// features, and weights that are negative, not finite, or all 0.
    pub fn blend<S: Into<String>>(
        members: impl IntoIterator<Item = (S, Arc<dyn Model>, f64)>,
    ) -> Result<Self> {
        let (members, weights): (Vec<_>, Vec<f64>) =
            members.into_iter().map(|(name, model, w)| ((name.into(), model), w)).unzip();
        check_weights(&weights)?;
        Self::new(members, Rule::Mean(Weights::scaled(weights)))
    }

    /// The plain mean of models of one learner, named by their place.
    pub(crate) fn bag(models: impl IntoIterator<Item = Arc<dyn Model>>) -> Result<Self> {
        let members: Vec<_> =
            models.into_iter().enumerate().map(|(i, model)| (i.to_string(), model)).collect();
        let rule = Rule::mean(members.len());
        Self::new(members, rule)
    }

    /// `model` itself if it is an ensemble, else an ensemble of it alone.
    pub(crate) fn from_model(model: BoxModel) -> Result<Self> {
        if model.downcast_ref::<Self>().is_none() {
            return Self::new([("model".to_owned(), Arc::from(model))], Rule::mean(1));
        }
        let any: Box<dyn Any> = model;
        match any.downcast::<Self>() {
            Ok(ensemble) => Ok(*ensemble),
            // Boxed twice: `downcast_ref` looks through one box.
            Err(any) => match any.downcast::<BoxModel>() {
                Ok(inner) => Self::from_model(*inner),
                Err(_) => Err(Error::data("model", "an ensemble", "another")),
            },
        }
    }

    pub(crate) fn with_report(self, report: Report) -> Self {
        Self { report: Some(report), ..self }
    }

    /// What was found out when the ensemble was fitted, unless it was put together by hand.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// The members and their names, in order.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (&str, &dyn Model)> {
        self.members.iter().map(|member| (member.name.as_str(), &*member.model))
    }

    /// The member called `name`.
    pub fn member(&self, name: &str) -> Option<&dyn Model> {
        self.position(name).ok().map(|at| &*self.members[at].model)
    }

    /// One weight a member, adding up to 1, if the members are weighed: not for medians and
    /// stacks. Where each output has its own weights, a member's is the mean of these.
    pub fn weights(&self) -> Option<Vec<f64>> {
        self.rule.weights()
    }

    /// Adds a member whose weight is `weight`, in [0, 1]; those of the others shrink to make room.
    /// For weighted means only. After an error the ensemble is as it was.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        model: Arc<dyn Model>,
        weight: f64,
    ) -> Result<()> {
        if !(0.0 <= weight && weight <= 1.0) {
            return Err(Error::data("weight", "a number from 0 to 1", weight));
        }
        let mut weights = self.mean_weights()?;
        for w in &mut weights {
            *w *= 1.0 - weight;
        }
        weights.push(weight);
        let mut members = self.named();
        members.push((name.into(), model));
        self.reweighed(members, weights)
    }

    /// Puts another model in the place of the member called `name`, under its weight.
    /// After an error the ensemble is as it was.
    pub fn replace(&mut self, name: &str, model: Arc<dyn Model>) -> Result<()> {
        let at = self.position(name)?;
        let mut members = self.named();
        members[at].1 = model;
        *self = Self::new(members, self.rule.clone())?;
        Ok(())
    }

    /// Takes the member called `name` out; its weight goes to the others in proportion to theirs.
    /// For weighted means only. The last member stays. After an error the ensemble is as it was.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        let at = self.position(name)?;
        let (mut members, mut weights) = (self.named(), self.mean_weights()?);
        if members.len() == 1 {
            return Err(Error::data("members after a removal", "at least 1", "none"));
        }
        members.remove(at);
        weights.remove(at);
        self.reweighed(members, weights)
    }

    /// Gives the members the weights that `combiner` learns from `recent` rows, which no member
    /// should have been fitted to. Members are not refitted. Those that `combiner` has no use for
    /// stay, with weight 0, so that a later call can bring them back.
    ///
    /// One prediction of `recent` a member, then what the combiner takes. For weighted means only.
    /// After an error the ensemble is as it was.
    pub fn reweigh(
        &mut self,
        recent: &Dataset,
        combiner: &dyn Combiner,
        metric: Metric,
        ctx: &FitContext<'_>,
    ) -> Result<()> {
        self.mean_weights()?;
        if *recent.task() != self.signature.task {
            return Err(Error::data("task of the data", &self.signature.task, recent.task()));
        }
        let x = self.signature.admit(recent.frame())?;
        let parts = self.parts(&x)?;
        let members: Vec<Member<'_>> = self
            .members
            .iter()
            .zip(&parts)
            .map(|(member, part)| Member::new(&member.name, part))
            .collect();
        combiner.check(&members.iter().map(|member| member.name).collect::<Vec<_>>())?;
        let combination = combiner.combine(&members, recent, metric, ctx)?;
        let used: Vec<usize> = (0..members.len()).filter(|&i| combination.uses(i)).collect();
        let models = used.iter().map(|&i| Arc::clone(&self.members[i].model)).collect();
        let learnt = Self::from_model(combination.into_model(models)?)?;
        let learnt = learnt.mean_weights()?;
        if learnt.len() != used.len() {
            return Err(Error::data("weights", used.len(), learnt.len()));
        }
        let mut weights = vec![0.0; self.members.len()];
        used.iter().zip(learnt).for_each(|(&i, weight)| weights[i] = weight);
        self.reweighed(self.named(), weights)
    }

    fn reweighed(
        &mut self,
        members: Vec<(String, Arc<dyn Model>)>,
        weights: Vec<f64>,
    ) -> Result<()> {
        *self = Self::new(members, Rule::Mean(Weights::scaled(weights)))?;
        Ok(())
    }

    fn named(&self) -> Vec<(String, Arc<dyn Model>)> {
        self.members.iter().map(|m| (m.name.clone(), Arc::clone(&m.model))).collect()
    }

    fn position(&self, name: &str) -> Result<usize> {
        let missing = || Error::NotFound { what: "member", name: name.to_owned() };
        self.members.iter().position(|member| member.name == name).ok_or_else(missing)
    }

    fn mean_weights(&self) -> Result<Vec<f64>> {
        match &self.rule {
            Rule::Mean(weights) => Ok(weights.by_member()),
            _ => Err(Error::data("rule of the ensemble", "a weighted mean", "another")),
        }
    }

    /// What each member predicts.
    fn parts(&self, x: &Frame) -> Result<Vec<Matrix>> {
        let k = self.signature.n_outputs();
        let part = |member: &NamedModel| {
            let mut part = Matrix::zeros(x.n_rows(), k);
            let done = member.model.infer(x, &mut part);
            done.map_err(|e| e.within(format!("member `{}`", member.name)))?;
            Ok(part)
        };
        if x.n_rows() < SMALL || self.members.len() == 1 {
            return self.members.iter().map(part).collect();
        }
        // Collected in order, so that the first member's error is the one reported.
        let parts: Vec<Result<Matrix>> = self.members.par_iter().map(part).collect();
        parts.into_iter().collect()
    }

    fn infer_block(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        match &self.rule {
            Rule::Vote(vote) if vote.stops_early() => self.infer_winners(vote, x, out),
            rule => {
                let parts = self.parts(x)?;
                rule.apply(&parts.iter().collect::<Vec<_>>(), x, out)
            }
        }
    }

    /// Asks one member after another for the rows that are still open.
    fn infer_winners(&self, vote: &Vote, x: &Frame, out: &mut Matrix) -> Result<()> {
        let (n, k) = (x.n_rows(), out.n_cols());
        let mut open: Vec<usize> = (0..n).collect();
        let mut seen: Vec<Vec<f64>> = vec![Vec::new(); n];
        for member in &self.members {
            if open.is_empty() {
                return Ok(());
            }
            let mut part = Matrix::zeros(open.len(), k);
            let done = member.model.infer(&x.take(&open), &mut part);
            done.map_err(|e| e.within(format!("member `{}`", member.name)))?;
            for (&i, row) in open.iter().zip(part.rows()) {
                seen[i].extend(row);
                if let Some(winner) = vote.decided(&seen[i], k) {
                    Vote::crown(winner, out.row_mut(i));
                    seen[i].clear();
                }
            }
            open.retain(|&i| !seen[i].is_empty());
        }
        for i in open {
            self.rule.apply_row(&seen[i], x.row(i), out.row_mut(i))?;
        }
        Ok(())
    }
}

impl Model for EnsembleModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        let (n, k) = (x.n_rows(), out.n_cols());
        // A member that reads timestamps and entities must see all rows.
        let whole = x.times().is_some() || x.entities().is_some();
        if whole || n <= BLOCK {
            return self.infer_block(x, out);
        }
        for first in (0..n).step_by(BLOCK) {
            let len = BLOCK.min(n - first);
            let mut block = Matrix::zeros(len, k);
            self.infer_block(&x.slice(first, len), &mut block)?;
            out.values_mut()[first * k..(first + len) * k].copy_from_slice(block.values());
        }
        Ok(())
    }

    /// Without allocating, for up to 64 outputs of all members together; but for stacks.
    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        let k = out.len();
        let len = self.members.len() * k;
        let (mut small, mut large) = ([0.0; 64], Vec::new());
        let parts = if len <= small.len() {
            &mut small[..len]
        } else {
            large.resize(len, 0.0);
            &mut large[..]
        };
        for (i, member) in self.members.iter().enumerate() {
            member.model.infer_row(row, &mut parts[i * k..(i + 1) * k])?;
            if let Rule::Vote(vote) = &self.rule
                && vote.stops_early()
                && let Some(winner) = vote.decided(&parts[..(i + 1) * k], k)
            {
                Vote::crown(winner, out);
                return Ok(());
            }
        }
        self.rule.apply_row(parts, row, out)
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }
}

impl Persist for EnsembleModel {
    // Named for the first of the ensembles. Version 1 held the members and weights of a mean.
    const TAG: Tag = Tag::new("mm.average", 2);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        let names: Vec<&str> = self.members().map(|(name, _)| name).collect();
        body.json(&names)?;
        body.json(&self.report)?;
        self.rule.write(body)?;
        self.members.iter().try_for_each(|member| body.model(&*member.model))
    }

    fn read_body(body: &mut BodyReader<'_>, version: u16) -> Result<Self> {
        let (names, report, rule): (Vec<String>, _, _) = if version == 1 {
            let weights = body.numbers()?;
            let names = (0..weights.len()).map(|i| i.to_string()).collect();
            (names, None, Rule::Mean(Weights::unscaled(weights)))
        } else {
            (body.json()?, body.json()?, Rule::read(body)?)
        };
        let member = |name: String| {
            let model = body.model().map_err(|e| e.within(format!("member `{name}`")))?;
            Ok((name, Arc::from(model)))
        };
        let members: Vec<_> = names.into_iter().map(member).collect::<Result<_>>()?;
        let model = Self::new(members, rule);
        let model = model.map_err(|e| Error::corrupt("ensemble", "a valid one", e.chain()))?;
        Ok(Self { report, ..model })
    }
}

/// Refuses weights that no mean can have.
pub(crate) fn check_weights(weights: &[f64]) -> Result<()> {
    if let Some(bad) = weights.iter().find(|w| !(0.0 <= **w && w.is_finite())) {
        return Err(Error::data("weights", "finite numbers ≥ 0", bad));
    }
    let total: f64 = weights.iter().sum();
    if 0.0 < total && total.is_finite() {
        return Ok(());
    }
    Err(Error::data("weights", "at least one above 0, and a finite sum", total))
}

/// Refuses a member that does not predict what the first does from what the first sees.
fn check_same(first: &Signature, other: &Signature) -> Result<()> {
    if other.task != first.task {
        let classes = |s: &Signature| match s.task.class_names() {
            Some(names) => format!("{}: {}", s.task, names.join(", ")),
            None => s.task.to_string(),
        };
        return Err(Error::data("task", classes(first), classes(other)));
    }
    if other.outputs != first.outputs {
        let (expected, got) = (format!("{:?}", first.outputs), format!("{:?}", other.outputs));
        return Err(Error::data("outputs", expected, got));
    }
    if other.schema != first.schema {
        let names = |s: &Signature| {
            let names: Vec<String> = s.schema.columns().iter().map(ToString::to_string).collect();
            names.join(", ")
        };
        return Err(Error::data("features", names(first), names(other)));
    }
    Ok(())
}
