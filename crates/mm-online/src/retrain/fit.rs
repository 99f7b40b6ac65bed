//! Fits a batch model anew, from where the last one stands if its kind can.

use std::sync::Arc;

use mm_core::{
    BoxLearner, BoxModel, Dataset, Error, FitContext, Learner, Model, Orchestrator, Plan, Result,
};

/// A learner that continues from a fitted model: with
/// [`WarmStart`](mm_core::WarmStart) where the learner has it and the model fits, else afresh.
///
/// Give it to an orchestrator beside the plan's candidates, so that both ways compete:
///
/// ```
/// # use std::sync::Arc;
/// # use mm_core::{BoxLearner, Catalog, Model, Orchestrator};
/// # fn make(catalog: &Catalog, learner: BoxLearner, last: Arc<dyn Model>) {
/// use mm_online::Continued;
///
/// let continued = Continued::new(learner, last);
/// let orchestrator = Orchestrator::new(catalog).with_learner("continued", Box::new(continued));
/// # let _ = orchestrator; }
/// ```
///
/// Its cross-validated score flatters it where the last model has seen rows of a test fold: split
/// by time, and leave the last word to the trial in the shadow.
#[derive(Debug)]
pub struct Continued {
    learner: BoxLearner,
    last: Arc<dyn Model>,
}

impl Continued {
    /// Continues from `last`.
    pub fn new(learner: BoxLearner, last: Arc<dyn Model>) -> Self {
        Self { learner, last }
    }
}

impl Learner for Continued {
    type Model = BoxModel;

    fn name(&self) -> &'static str {
        "continued"
    }

    fn admits_infinite(&self) -> bool {
        Learner::admits_infinite(&self.learner)
    }

    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<BoxModel> {
        let Some(warm) = Learner::as_warm_start(&self.learner) else {
            return self.learner.fit(data, ctx);
        };
        match warm.fit_from(&*self.last, data, ctx) {
            Err(e @ (Error::Cancelled | Error::Deadline)) => Err(e),
            Err(e) => {
                tracing::warn!(error = %e.chain(), "cannot continue from the last model; fitting afresh");
                self.learner.fit(data, ctx)
            }
            fitted => fitted,
        }
    }
}

/// Runs `plan` on `data` and returns the best model with its name.
///
/// # Errors
///
/// Those of [`Orchestrator::run_on`]; [`Error::NotFound`] if every candidate failed or the plan
/// does not refit.
pub fn retrain(
    orchestrator: &Orchestrator<'_>,
    plan: &Plan,
    data: &Dataset,
) -> Result<(String, Arc<dyn Model>)> {
    let outcome = orchestrator.run_on(plan, data)?;
    let best = outcome.best().map(|(name, model)| (name.to_owned(), Arc::clone(model)));
    best.ok_or_else(|| {
        let failed = outcome.leaderboard.entries.iter().map(|entry| entry.name.as_str());
        let name = failed.collect::<Vec<_>>().join(", ");
        Error::NotFound { what: "refitted model among", name }
    })
}
