//! How fitted members become one model: the seam between whoever fits members and ensembles.
//!
//! The orchestrator has out-of-fold predictions of every candidate and, later, the candidates
//! refitted. A [`Combiner`] learns from the former (weights, a meta-model, or nothing) and makes a
//! [`Combination`], which is applied to predictions and becomes a [`Model`] that
//! holds the latter. So no member is fitted twice, and the orchestrator knows no ensemble.
//!
//! What was learnt from out-of-fold predictions looks too good on the same predictions.
//! [`cross_combine`] therefore learns each fold's combination without the fold, and its scores can
//! stand beside those of the members.

use std::{borrow::Cow, fmt, sync::Arc};

use crate::{
    context::FitContext,
    data::{Dataset, Frame, Matrix},
    error::{Error, Result},
    metric::Metric,
    model::{BoxModel, Model},
    split::{Fold, SplitPlan, Splitter as _},
};

/// A member's name and its out-of-fold predictions, of the same rows for all members.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Member<'a> {
    /// The candidate's name.
    pub name: &'a str,
    /// Its predictions, of shape (*n*, *k*).
    pub predictions: &'a Matrix,
    /// How long it takes to predict a row, µs, if that was measured.
    pub predict_micros: Option<f64>,
    /// How many bytes it takes when stored, if that is known.
    pub bytes: Option<usize>,
}

impl<'a> Member<'a> {
    /// A member of unknown speed and size.
    pub fn new(name: &'a str, predictions: &'a Matrix) -> Self {
        Self { name, predictions, predict_micros: None, bytes: None }
    }
}

/// A way to make one model of several.
pub trait Combiner: fmt::Debug + Send + Sync {
    /// Refuses params that do not suit members of the given names. Called before any work; by
    /// default everything suits.
    fn check(&self, members: &[&str]) -> Result<()> {
        let _ = members;
        Ok(())
    }

    /// Whether anything is learnt from the rows. If not, the combination is the same whatever the
    /// rows, and needs no cross-fitting to be scored. By default it is taken to learn.
    fn learns(&self) -> bool {
        true
    }

    /// Learns from the members' out-of-fold predictions. `data` has their rows: features, truth,
    /// times; `metric` is what the plan judges by.
    ///
    /// There may be no rows at all, as before the first fold of a time-ordered split: then the
    /// combination is what one would use without evidence, as a rule the plain mean.
    fn combine(
        &self,
        members: &[Member<'_>],
        data: &Dataset,
        metric: Metric,
        ctx: &FitContext<'_>,
    ) -> Result<Box<dyn Combination>>;
}

/// What a [`Combiner`] has learnt.
pub trait Combination: fmt::Debug + Send + Sync {
    /// The combined predictions of the rows of `x`, which the members predicted as `parts`, one
    /// matrix a member, in the members' order.
    fn apply(&self, parts: &[&Matrix], x: &Frame) -> Result<Matrix>;

    /// Whether the member at `place` has any say. Those that have none need not be fitted to all
    /// rows. By default every member has.
    fn uses(&self, place: usize) -> bool {
        let _ = place;
        true
    }

    /// The model that predicts with `members`, fitted: those that [`uses`](Self::uses) names, in
    /// the members' order.
    fn into_model(self: Box<Self>, members: Vec<Arc<dyn Model>>) -> Result<BoxModel>;
}

/// Members' out-of-fold predictions, and where they come from.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Evidence<'a> {
    /// The members, all predicted on `rows`.
    pub members: &'a [Member<'a>],
    /// The rows of `data` that were predicted, ascending.
    pub rows: &'a [usize],
    /// The data that the members were cross-fitted on.
    pub data: &'a Dataset,
    /// The folds, of rows of `data`.
    pub folds: &'a [Fold],
}

impl<'a> Evidence<'a> {
    /// Members that were predicted on `rows` of `data` over `folds`.
    pub fn new(
        members: &'a [Member<'a>],
        rows: &'a [usize],
        data: &'a Dataset,
        folds: &'a [Fold],
    ) -> Self {
        Self { members, rows, data, folds }
    }
}

/// Combined predictions of each fold's test rows by combinations that did not learn from them: as
/// honest as the members' own.
///
/// `part(m, f)` is what member *m* predicts of the test rows of fold *f*. The combination of a fold is
/// learnt from those predicted rows that the fold trains on. So a splitter's promise holds for the
/// combination, too: forward in time, purged, or by group. Where a fold trains on none of `rows`,
/// as the first in time does, its combination has learnt nothing. A single fold is parted once more
/// by [`SplitPlan::default_for`] its test rows. A combiner that does not [learn](Combiner::learns)
/// is combined once.
pub fn cross_combine<'a>(
    combiner: &dyn Combiner,
    evidence: Evidence<'_>,
    part: impl Fn(usize, usize) -> Cow<'a, Matrix>,
    metric: Metric,
    ctx: &FitContext<'_>,
) -> Result<Vec<Matrix>> {
    let Evidence { members, rows, data, folds } = evidence;
    let learn = |from: &[usize], ctx: &FitContext<'_>| {
        let places: Vec<usize> =
            from.iter().filter_map(|row| rows.binary_search(row).ok()).collect();
        let taken: Vec<Matrix> = members.iter().map(|m| m.predictions.take(&places)).collect();
        let taken: Vec<Member<'_>> = members
            .iter()
            .zip(&taken)
            .map(|(m, predictions)| Member { predictions, ..*m })
            .collect();
        let seen: Vec<usize> = places.iter().map(|&place| rows[place]).collect();
        combiner.combine(&taken, &data.take(&seen), metric, ctx)
    };
    let parts =
        |f: usize| -> Vec<Cow<'a, Matrix>> { (0..members.len()).map(|m| part(m, f)).collect() };
    let apply = |combination: &dyn Combination, parts: &[Cow<'_, Matrix>], test: &[usize]| {
        let parts: Vec<&Matrix> = parts.iter().map(AsRef::as_ref).collect();
        combination.apply(&parts, &data.frame().take(test))
    };
    if !combiner.learns() {
        let combination = learn(&[], ctx)?;
        let folds = folds.iter().enumerate();
        return folds.map(|(f, fold)| apply(&*combination, &parts(f), &fold.test)).collect();
    }
    if let [fold] = folds {
        let test = data.take(&fold.test);
        let inner = SplitPlan::default_for(&test).split(&test, ctx.seed)?;
        let whole = parts(0);
        let mut out = apply(&*learn(&[], ctx)?, &whole, &fold.test)?;
        for (i, part) in inner.iter().enumerate() {
            let row = |&place: &usize| fold.test[place];
            let from: Vec<usize> = part.train.iter().map(row).collect();
            let to: Vec<usize> = part.test.iter().map(row).collect();
            let taken: Vec<Cow<'_, Matrix>> =
                whole.iter().map(|all| Cow::Owned(all.take(&part.test))).collect();
            let combined = apply(&*learn(&from, &ctx.fork(i as u64))?, &taken, &to)?;
            for (&place, values) in part.test.iter().zip(combined.rows()) {
                out.row_mut(place).copy_from_slice(values);
            }
        }
        return Ok(vec![out]);
    }
    let fold = |(f, fold): (usize, &Fold)| {
        ctx.check_cancelled()?;
        let combined = learn(&fold.train, &ctx.fork(f as u64))
            .and_then(|combination| apply(&*combination, &parts(f), &fold.test));
        combined.map_err(|e: Error| e.within(format!("fold {f}")))
    };
    folds.iter().enumerate().map(fold).collect()
}
