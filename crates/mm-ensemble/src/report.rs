//! What an ensemble is made of, and what each member brings.

use std::{borrow::Cow, fmt};

use mm_core::{
    Combiner, Dataset, Direction, Evidence, FitContext, Fold, Matrix, Member, Metric, OutOfFold,
    Result, cross_combine,
};
use serde::{Deserialize, Serialize};

use crate::{
    guard::Verdict,
    objective::{residuals, true_class},
};

/// Members, weights, scores, and what each member adds. Printed, it is a table.
///
/// All scores are of out-of-fold predictions, those of the ensemble by combinations that did not
/// learn from the rows they are scored on ([`cross_combine`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// What is scored by.
    pub metric: Metric,
    /// The ensemble's score; none where nothing was cross-fitted, or the metric is undefined.
    pub score: Option<f64>,
    /// The members that succeeded, in order.
    pub members: Vec<MemberReport>,
    /// Correlation of the errors of each pair of members, weighted by row: of residuals, or of the
    /// probability that the true class lacks. None where a member's errors do not vary.
    pub correlation: Vec<Vec<Option<f64>>>,
    /// Members that are no part of the ensemble, each with the reason.
    pub left_out: Vec<LeftOut>,
    /// What the leak guard found, if it was asked.
    pub guard: Option<Verdict>,
}

/// One member of a [`Report`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemberReport {
    /// Its name.
    pub name: String,
    /// Its weight in the ensemble, 0 where it is not used; none where members are not weighed.
    pub weight: Option<f64>,
    /// Its score alone.
    pub score: Option<f64>,
    /// How much worse the ensemble's score is without it (negative: better); none where that was
    /// not asked, or it is the only one.
    pub gain: Option<f64>,
    /// Whether it predicts the same of every row.
    pub constant: bool,
}

/// A member that is no part of an ensemble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl LeftOut {
    pub(crate) fn new(name: &str, reason: impl fmt::Display) -> Self {
        Self { name: name.to_owned(), reason: reason.to_string() }
    }
}

impl Report {
    /// The report on what `combiner` makes of members whose out-of-fold predictions are at hand, as
    /// in an orchestrator's outcome: all of the same rows of `data`, predicted over `folds`.
    ///
    /// Combines once a fold, and with `leave_one_out` once more a fold and member. Weights are left
    /// out: they stand in the model.
    pub fn of(
        combiner: &dyn Combiner,
        members: &[(&str, &OutOfFold)],
        data: &Dataset,
        folds: &[Fold],
        metric: Metric,
        leave_one_out: bool,
        ctx: &FitContext<'_>,
    ) -> Result<Self> {
        let Some((_, first)) = members.first() else {
            return Err(mm_core::Error::data("members", "at least 1", "none"));
        };
        if let Some((name, _)) = members.iter().find(|(_, other)| other.rows() != first.rows()) {
            let place = format_args!("rows of member `{name}`");
            return Err(mm_core::Error::data(place, "those of the first member", "others"));
        }
        let rows = first.rows();
        let named: Vec<Member<'_>> =
            members.iter().map(|(name, all)| Member::new(name, all.predictions())).collect();
        let seen = data.take(rows);
        let combined = |members: &[Member<'_>]| {
            honest(combiner, Evidence::new(members, rows, data, folds), metric, ctx)
        };
        let score = combined(&named)?;
        let reports = named.iter().enumerate().map(|(m, member)| {
            let without = if leave_one_out && 1 < named.len() {
                let mut others = named.clone();
                others.remove(m);
                // Weights fixed for all members cannot do without one.
                combined(&others).or_else(|e| match e.root() {
                    mm_core::Error::Cancelled => Err(e),
                    _ => Ok(None),
                })?
            } else {
                None
            };
            let gain = score.zip(without).map(|(all, without)| match metric.direction() {
                Direction::Minimize => without - all,
                Direction::Maximize => all - without,
            });
            let values = member.predictions;
            let constant = values.rows().all(|row| row == values.row(0));
            Ok(MemberReport {
                name: member.name.to_owned(),
                weight: None,
                score: metric.score(seen.truth(), values).ok(),
                gain,
                constant,
            })
        });
        let members = reports.collect::<Result<_>>()?;
        let correlation = correlations(&seen, &named);
        Ok(Self { metric, score, members, correlation, left_out: Vec::new(), guard: None })
    }
}

/// The score of combinations on rows that they did not learn from; none where it is undefined.
fn honest(
    combiner: &dyn Combiner,
    evidence: Evidence<'_>,
    metric: Metric,
    ctx: &FitContext<'_>,
) -> Result<Option<f64>> {
    let all = honest_predictions(combiner, evidence, metric, ctx)?;
    Ok(metric.score(evidence.data.take(all.rows()).truth(), all.predictions()).ok())
}

/// Combined predictions of rows that the combination did not learn from.
pub(crate) fn honest_predictions(
    combiner: &dyn Combiner,
    evidence: Evidence<'_>,
    metric: Metric,
    ctx: &FitContext<'_>,
) -> Result<OutOfFold> {
    let Evidence { members, rows, data, folds, .. } = evidence;
    let part = |m: usize, f: usize| -> Cow<'_, Matrix> {
        let place = |row: &usize| rows.binary_search(row).ok();
        let places: Vec<usize> = folds[f].test.iter().filter_map(place).collect();
        Cow::Owned(members[m].predictions.take(&places))
    };
    let combined = cross_combine(combiner, evidence, part, metric, ctx)?;
    OutOfFold::gather(data.n_rows(), folds, &combined)
}

/// The correlation of each pair of members' errors.
pub(crate) fn correlations(data: &Dataset, members: &[Member<'_>]) -> Vec<Vec<Option<f64>>> {
    let weight = |i: usize| data.weights().map_or(1.0, |w| w[i]);
    let total = data.total_weight();
    let centred = |member: &Member<'_>| -> Vec<f64> {
        let mut errors = if data.task().n_classes() == 0 {
            let k = member.predictions.n_cols();
            residuals(data, member.predictions).into_iter().step_by(k).collect()
        } else {
            let rows = data.target().iter().zip(member.predictions.rows());
            rows.map(|(&y, row)| 1.0 - true_class(row, y)).collect::<Vec<f64>>()
        };
        let mean = errors.iter().enumerate().map(|(i, e)| weight(i) * e).sum::<f64>() / total;
        for e in &mut errors {
            *e -= mean;
        }
        errors
    };
    let errors: Vec<Vec<f64>> = members.iter().map(centred).collect();
    let product = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).enumerate().map(|(i, (a, b))| weight(i) * a * b).sum()
    };
    let pair = |a: &[f64], b: &[f64]| {
        let r = product(a, b) / (product(a, a) * product(b, b)).sqrt();
        r.is_finite().then(|| r.clamp(-1.0, 1.0))
    };
    errors.iter().map(|a| errors.iter().map(|b| pair(a, b)).collect()).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.5}"));
        writeln!(f, "{:<24} {:>8} {:>12} {:>12}", "member", "weight", self.metric, "gain")?;
        for member in &self.members {
            let weight = member.weight.map_or("-".to_owned(), |w| format!("{w:.3}"));
            let (score, gain) = (number(member.score), number(member.gain));
            let note = if member.constant { "  constant" } else { "" };
            writeln!(f, "{:<24} {weight:>8} {score:>12} {gain:>12}{note}", member.name)?;
        }
        writeln!(f, "{:<24} {:>8} {:>12}", "ensemble", "", number(self.score))?;
        for (i, row) in self.correlation.iter().enumerate().skip(1) {
            let errors: Vec<String> =
                row[..i].iter().map(|r| r.map_or("-".to_owned(), |r| format!("{r:.3}"))).collect();
            let name = self.members.get(i).map_or("", |member| member.name.as_str());
            writeln!(f, "errors of {name} with those before: {}", errors.join(" "))?;
        }
        for LeftOut { name, reason } in &self.left_out {
            writeln!(f, "left out: {name}: {reason}")?;
        }
        if let Some(verdict) = &self.guard {
            writeln!(f, "guard: {verdict}")?;
        }
        Ok(())
    }
}
