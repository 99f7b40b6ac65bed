//! Stacking: a meta-learner is fitted to the members' out-of-fold predictions.
//!
//! # Idea
//!
//! The members' predictions of rows that they did not see are features; a second model learns from
//! them what the members leave unexplained and whom to trust where. With `passthrough` it sees the
//! raw features, too. Over time-ordered, purged, and grouped splits the rows that were never
//! predicted out of fold are left out of its fit, not filled in.
//!
//! The default meta-learner is [`Linear`](crate::Linear) on log-odds: logistic regression for
//! classes, ridge for values. Any learner serves.
//!
//! # Limits
//!
//! A free learner of few columns over-fits where a weighted mean cannot; ask for `non_negative`
//! slopes, or for the [guard](crate::Guard) of an [`Ensemble`](crate::Ensemble). With no rows, or
//! rows of one class alone, there is nothing to fit and the stack is the plain mean.
//!
//! # Sources
//!
//! Wolpert (1992), "Stacked generalization". Ting & Witten (1999), "Issues in stacked
//! generalization", for probabilities as features.

use std::sync::Arc;

use mm_core::{
    BoxLearner, Candidate, Catalog, Combination, Combiner, Dataset, DynLearner, Error, FitContext,
    Matrix, Member, Metric, Model, Params as _, Result,
};
use serde::{Deserialize, Serialize};

use crate::{
    learned::{Learned, shape},
    linear::LinearParams,
    rule::{Meta, MetaInputs, Rule, lift, lifted_schema},
};

/// What a stack is told in a plan: the kind `stack`.
///
/// | field | default | domain | effect |
/// | --- | --- | --- | --- |
/// | `meta` | `{ kind = "linear" }` | a kind of the catalog with its params | the meta-learner |
/// | `passthrough` | `false` | | the meta-learner sees the raw features, too |
/// | `inputs` | `logits` | `logits`, `raw` | the form in which probabilities reach it |
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StackParams {
    /// The meta-learner; [`Linear`](crate::Linear) where none is named.
    pub meta: Option<Candidate>,
    /// Whether the meta-learner sees the raw features.
    pub passthrough: bool,
    /// The form in which probabilities reach the meta-learner.
    pub inputs: MetaInputs,
}

impl StackParams {
    /// The stack, with a meta-learner of the catalog.
    pub fn build(self, catalog: &Catalog) -> Result<Stack> {
        let meta = match self.meta {
            None => Stack::linear(LinearParams::default())?.meta,
            Some(meta) => Arc::from(meta.member(catalog, "meta")?),
        };
        Ok(Stack { meta, passthrough: self.passthrough, inputs: self.inputs })
    }
}

/// A combiner that fits a meta-learner to the members' predictions.
#[derive(Debug, Clone)]
pub struct Stack {
    meta: Arc<dyn DynLearner>,
    passthrough: bool,
    inputs: MetaInputs,
}

impl Stack {
    /// A stack under `meta`, which sees log-odds and no raw features.
    pub fn new(meta: BoxLearner) -> Self {
        Self { meta: Arc::from(meta), passthrough: false, inputs: MetaInputs::default() }
    }

    /// A stack under a linear model.
    pub fn linear(params: LinearParams) -> Result<Self> {
        Ok(Self::new(Box::new(params.build()?)))
    }

    /// The same, whose meta-learner sees the raw features, too.
    #[must_use]
    pub fn with_passthrough(self) -> Self {
        Self { passthrough: true, ..self }
    }

    /// The same with probabilities in another form.
    #[must_use]
    pub fn with_inputs(self, inputs: MetaInputs) -> Self {
        Self { inputs, ..self }
    }
}

/// The data of a meta-learner: the rows of `data` with the members' predictions as features.
pub(crate) fn lifted(
    data: &Dataset,
    names: &[&str],
    parts: &[&Matrix],
    passthrough: bool,
    inputs: MetaInputs,
) -> Result<Dataset> {
    let outputs = data.task().outputs();
    let schema = lifted_schema(names, &outputs, data.frame().schema(), passthrough)?;
    data.with_frame(lift(parts, data.frame(), passthrough, inputs, schema)?)
}

impl Combiner for Stack {
    fn combine(
        &self,
        members: &[Member<'_>],
        data: &Dataset,
        _: Metric,
        ctx: &FitContext<'_>,
    ) -> Result<Box<dyn Combination>> {
        let (n_rows, _) = shape(members)?;
        let mean = || Ok(Learned::all(members, Rule::mean(members.len())));
        if n_rows == 0 {
            return mean();
        }
        let inputs = self.inputs.suited_to(&data.task().outputs());
        let names: Vec<&str> = members.iter().map(|member| member.name).collect();
        let parts: Vec<&Matrix> = members.iter().map(|member| member.predictions).collect();
        let lifted = lifted(data, &names, &parts, self.passthrough, inputs)?;
        let mut ctx = *ctx;
        ctx.validation = None; // Has no predictions of the members.
        let model: Arc<dyn Model> = match self.meta.fit_boxed(&lifted, &ctx) {
            Ok(model) => Arc::from(model),
            Err(Error::OneClass { .. }) => return mean(),
            Err(e) => return Err(e.within("the meta-learner")),
        };
        let rule = Rule::Meta(Meta { model, passthrough: self.passthrough, inputs });
        Ok(Learned::all(members, rule))
    }
}
