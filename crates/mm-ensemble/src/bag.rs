//! The mean of models that one learner fits to each fold's training rows.
//!
//! # Idea
//!
//! The models that cross-fitting makes are not thrown away but averaged: *k* models, each fitted to
//! (*k* − 1) / *k* of the rows, predict as one. What varies from fit to fit cancels out. With a
//! repeated splitter there are more of them.
//!
//! Fitting and predicting cost *k* times the learner's.
//!
//! # Limits
//!
//! Over folds that go forward in time the early models know little; refit there instead.
//!
//! # Sources
//!
//! Breiman (1996), "Bagging predictors"; of folds instead of samples: Parmanto, Munro & Doyle
//! (1996).

use std::sync::Arc;

use mm_core::{
    BoxLearner, Candidate, Catalog, Dataset, Error, FitContext, Learner, Result, SplitPlan,
    Splitter as _, cross_fit,
};
use serde::{Deserialize, Serialize};

use crate::model::EnsembleModel;

/// What a bag is told in a plan: the kind `bag`.
///
/// | field | default | domain | effect |
/// | --- | --- | --- | --- |
/// | `of` | | a kind of the catalog with its params | the learner |
/// | `split` | [`SplitPlan::default_for`] the data | | how rows are parted |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct BagParams {
    /// The learner.
    pub of: Candidate,
    /// How rows are parted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitPlan>,
}

impl BagParams {
    /// The bag, with a learner of the catalog.
    pub fn build(self, catalog: &Catalog) -> Result<Bag> {
        let of = self.of.member(catalog, "of")?;
        let bag = Bag::new(of);
        match self.split {
            Some(split) => bag.with_split(split),
            None => Ok(bag),
        }
    }
}

/// Fits a learner to each fold and averages the models.
#[derive(Debug, Clone)]
pub struct Bag {
    of: Arc<BoxLearner>,
    split: Option<SplitPlan>,
}

impl Bag {
    /// A bag over the splitter that suits the data.
    pub fn new(of: BoxLearner) -> Self {
        Self { of: Arc::new(of), split: None }
    }

    /// The same over another splitter.
    pub fn with_split(self, split: SplitPlan) -> Result<Self> {
        split.check().map_err(|e| Error::from(e).within("split"))?;
        Ok(Self { split: Some(split), ..self })
    }
}

impl Learner for Bag {
    type Model = EnsembleModel;

    fn name(&self) -> &'static str {
        "bag"
    }

    fn admits_infinite(&self) -> bool {
        Learner::admits_infinite(&*self.of)
    }

    fn resumes(&self) -> bool {
        Learner::resumes(&*self.of)
    }

    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<EnsembleModel> {
        let split = self.split.clone().unwrap_or_else(|| SplitPlan::default_for(data));
        let folds = split.split(data, ctx.seed)?;
        let models = cross_fit(&*self.of, data, &folds, ctx)?.models;
        EnsembleModel::bag(models.into_iter().map(Arc::from))
    }
}
