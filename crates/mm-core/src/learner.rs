//! Hyper-parameters and what they configure: [`Params`] → [`Learner`] → [`Model`].

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    context::FitContext,
    data::{Dataset, Task},
    error::{Error, ParamError, Result},
    model::{BoxModel, Model},
};

/// Hyper-parameters as plain data: public fields, a default, no invariants until [`build`].
///
/// Derive `Serialize` and `Deserialize` with `#[serde(default, deny_unknown_fields)]`, so that a
/// misspelt key in a file is an error and not a default.
///
/// [`build`]: Params::build
pub trait Params: Clone + Default + fmt::Debug + Serialize + DeserializeOwned {
    /// What the parameters configure.
    type Learner: Learner;

    /// Checks every field and the relations between them; the only way to a learner.
    fn build(self) -> Result<Self::Learner, ParamError>;

    /// Edits in place, for chaining: `P::default().with(|p| p.trees = 500)`.
    #[must_use]
    fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }
}

/// A checked set of hyper-parameters that can be fitted.
///
/// Implement [`train`](Learner::train); call [`fit`](Learner::fit). A learner holds no data and is
/// not changed by fitting: the same learner, data, and seed give the same model.
pub trait Learner: fmt::Debug + Send + Sync {
    /// What fitting yields.
    type Model: Model;

    /// A short, stable name for logs and reports, for example `"gbdt"`.
    fn name(&self) -> &'static str;

    /// Fits to data that [`fit`](Learner::fit) has already checked; the validation data of `ctx`
    /// have the schema and the task of `data`.
    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<Self::Model>;

    /// Whether infinite feature values are admitted. By default they are refused by name.
    fn admits_infinite(&self) -> bool {
        false
    }

    /// The learner's ability to continue from a fitted model, if it has one.
    fn as_warm_start(&self) -> Option<&dyn WarmStart> {
        None
    }

    /// Whether a fit goes on from the state that one of the same params, but of fewer `rounds`, has
    /// left in [lasting snapshots](crate::Snapshots::lasting), to the model that it comes to without.
    fn resumes(&self) -> bool {
        false
    }

    /// Checks `data` and fits to it.
    ///
    /// Refused: no rows, or none of positive weight; classification in which fewer than two classes have weight; infinite
    /// features, unless [`admits_infinite`](Learner::admits_infinite); validation data of another
    /// task or schema (levels that `data` lacks become unknown).
    fn fit(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<Self::Model> {
        check_data(data, self.admits_infinite())?;
        ctx.check_cancelled()?;
        let Some(validation) = ctx.validation else {
            return self.train(data, ctx);
        };
        let validation = check_validation(data, validation, self.admits_infinite())
            .map_err(|e| e.within("the validation data"))?;
        self.train(data, &ctx.with_validation(&validation))
    }
}

/// The capability to continue from a fitted model with further data.
pub trait WarmStart: fmt::Debug + Send + Sync {
    /// Continues from `previous`, which must be a model of the same kind with the same signature,
    /// and yields a new model; `previous` is unchanged.
    fn fit_from(
        &self,
        previous: &dyn Model,
        data: &Dataset,
        ctx: &FitContext<'_>,
    ) -> Result<BoxModel>;
}

/// What [`Learner::fit`] checks; capability implementations that take data call it too.
pub fn check_data(data: &Dataset, admits_infinite: bool) -> Result<()> {
    if data.n_rows() == 0 {
        return Err(Error::data("data", "at least 1 row", "no rows"));
    }
    if data.total_weight() <= 0.0 {
        return Err(Error::data("weights", "at least one above 0", "all 0"));
    }
    if !matches!(data.task(), Task::Regression) {
        let weighs = |i: usize| data.weights().is_none_or(|w| 0.0 < w[i]);
        let mut classes = (0..data.n_rows()).filter(|&i| weighs(i)).map(|i| data.target()[i]);
        if let Some(first) = classes.next()
            && classes.all(|class| class == first)
        {
            let names = data.task().class_names().unwrap_or_default();
            return Err(Error::OneClass { class: names[first as usize].clone() });
        }
    }
    if admits_infinite { Ok(()) } else { data.frame().ensure_finite() }
}

fn check_validation(data: &Dataset, held_out: &Dataset, admits_infinite: bool) -> Result<Dataset> {
    held_out.ensure_task(data.task())?;
    if held_out.n_rows() == 0 {
        return Err(Error::data("data", "at least 1 row", "no rows"));
    }
    if !admits_infinite {
        held_out.frame().ensure_finite()?;
    }
    let frame = held_out.frame().conform(data.frame().schema())?.into_owned();
    held_out.with_frame(frame)
}

mod sealed {
    pub trait Sealed {}
    impl<L: super::Learner> Sealed for L {}
}

/// A [`Learner`] with its model type erased, for collections of unlike learners.
///
/// Every learner is one; there is nothing to implement.
pub trait DynLearner: fmt::Debug + Send + Sync + sealed::Sealed {
    /// See [`Learner::name`].
    fn name(&self) -> &'static str;

    /// See [`Learner::admits_infinite`].
    fn admits_infinite(&self) -> bool;

    /// See [`Learner::as_warm_start`].
    fn as_warm_start(&self) -> Option<&dyn WarmStart>;

    /// See [`Learner::resumes`].
    fn resumes(&self) -> bool;

    /// See [`Learner::fit`].
    fn fit_boxed(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<BoxModel>;
}

/// An owned [`DynLearner`]; itself a [`Learner`], so that generic code takes it unchanged.
pub type BoxLearner = Box<dyn DynLearner>;

impl<L: Learner> DynLearner for L {
    fn name(&self) -> &'static str {
        Learner::name(self)
    }

    fn admits_infinite(&self) -> bool {
        Learner::admits_infinite(self)
    }

    fn as_warm_start(&self) -> Option<&dyn WarmStart> {
        Learner::as_warm_start(self)
    }

    fn resumes(&self) -> bool {
        Learner::resumes(self)
    }

    fn fit_boxed(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<BoxModel> {
        Ok(Box::new(self.fit(data, ctx)?))
    }
}

// `**self` throughout: a plain `self` would call this very implementation.
impl Learner for BoxLearner {
    type Model = BoxModel;

    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn admits_infinite(&self) -> bool {
        (**self).admits_infinite()
    }

    fn as_warm_start(&self) -> Option<&dyn WarmStart> {
        (**self).as_warm_start()
    }

    fn resumes(&self) -> bool {
        (**self).resumes()
    }

    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<BoxModel> {
        (**self).fit_boxed(data, ctx)
    }

    /// The inner learner checks; checking twice would only cost time.
    fn fit(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<BoxModel> {
        (**self).fit_boxed(data, ctx)
    }
}
