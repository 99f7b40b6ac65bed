//! A budget for the members of an ensemble: how many, how alike, how slow, how large.
//!
//! # Method
//!
//! Members whose predictions are not finite are set aside first. Of two members whose errors
//! correlate above `max_correlation` the one with the worse score goes. Members that exceed a limit
//! alone go. Then the combiner learns; while those that it uses exceed a limit together, the one
//! without which the error is lowest goes, and the combiner learns anew. The members' costs add up.
//! O(*m*²) combinations at worst.
//!
//! # Limits
//!
//! A limit on time or size needs members whose time or size is known. Times are measured, so a
//! limit on time makes the outcome depend on the machine and its load.

use std::sync::Arc;

use mm_core::{
    Combination, Combiner, Dataset, Error, FitContext, Frame, Matrix, Member, Metric, Model,
    ParamError, Result,
};
use serde::{Deserialize, Serialize};

use crate::{
    objective::error,
    report::{LeftOut, correlations},
};

/// What the members of an ensemble may cost together. In a plan: the key `limits` beside the params
/// of any combiner of this crate.
///
/// | field | default | domain | effect |
/// | --- | --- | --- | --- |
/// | `max_members` | none | ≥ 1 | members that are used at most |
/// | `max_correlation` | none | (−1, 1) | correlation of errors above which one of two members goes |
/// | `max_predict_us` | none | > 0 | µs a row, all members together |
/// | `max_bytes` | none | ≥ 1 | stored size, all members together |
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// Members that are used at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_members: Option<usize>,
    /// Correlation of errors above which one of two members goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_correlation: Option<f64>,
    /// Microseconds a row, all members together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_predict_us: Option<f64>,
    /// Stored size, all members together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
}

impl Limits {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn check(&self) -> Result<(), ParamError> {
        let name = |field: &str| format!("limits.{field}");
        if let Some(n) = self.max_members {
            ParamError::ensure(1 <= n, name("max_members"), n, "at least 1")?;
        }
        if let Some(r) = self.max_correlation {
            let ok = -1.0 < r && r < 1.0;
            ParamError::ensure(ok, name("max_correlation"), r, "a number between -1 and 1")?;
        }
        if let Some(us) = self.max_predict_us {
            ParamError::ensure(0.0 < us, name("max_predict_us"), us, "a number above 0")?;
        }
        if let Some(n) = self.max_bytes {
            ParamError::ensure(1 <= n, name("max_bytes"), n, "at least 1")?;
        }
        Ok(())
    }

    /// How many times over the limits the members are together: above 1 is too much.
    fn excess(&self, members: &[&Member<'_>]) -> Result<f64> {
        let mut excess = 0.0_f64;
        if let Some(most) = self.max_members {
            excess = excess.max(members.len() as f64 / most as f64);
        }
        let unknown = |member: &Member<'_>, what: &str| {
            Error::data(
                format_args!("{what} of member `{}`", member.name),
                "a measured one",
                "none",
            )
        };
        if let Some(most) = self.max_predict_us {
            let of = |m: &&Member<'_>| m.predict_micros.ok_or_else(|| unknown(m, "time"));
            let sum: f64 = members.iter().map(of).sum::<Result<f64>>()?;
            excess = excess.max(sum / most);
        }
        if let Some(most) = self.max_bytes {
            let of = |m: &&Member<'_>| m.bytes.ok_or_else(|| unknown(m, "size"));
            let sum: usize = members.iter().map(of).sum::<Result<usize>>()?;
            excess = excess.max(sum as f64 / most as f64);
        }
        Ok(excess)
    }
}

/// A combiner that keeps to limits, and sets aside members whose predictions are not finite.
#[derive(Debug)]
pub(crate) struct Limited {
    pub(crate) inner: Arc<dyn Combiner>,
    pub(crate) limits: Limits,
}

/// A combination of some of the members.
#[derive(Debug)]
struct Part {
    places: Vec<usize>, // Ascending.
    inner: Box<dyn Combination>,
}

/// The places of the members that keep to the limits, what was learnt from them, and the others.
type Choice = (Vec<usize>, Box<dyn Combination>, Vec<LeftOut>);

impl Limited {
    /// Chooses members and learns from them.
    pub(crate) fn choose(
        &self,
        members: &[Member<'_>],
        data: &Dataset,
        metric: Metric,
        ctx: &FitContext<'_>,
    ) -> Result<Choice> {
        let mut left_out = Vec::new();
        let mut places = Vec::new();
        let mut last = None;
        for (place, member) in members.iter().enumerate() {
            let bad = member.predictions.values().iter().find(|y| !y.is_finite());
            let over = self.limits.excess(&[member])?;
            if let Some(y) = bad {
                let e = Error::data("predictions", "finite numbers", y);
                left_out.push(LeftOut::new(member.name, &e));
                last = Some(e.within(format!("member `{}`", member.name)));
            } else if 1.0 < over {
                left_out.push(LeftOut::new(member.name, "exceeds a limit alone"));
                last = Some(Error::data("members", "at least 1 within the limits", "none"));
            } else {
                places.push(place);
            }
        }
        if let (true, Some(e)) = (places.is_empty(), last) {
            return Err(e);
        }
        let take = |places: &[usize]| -> Vec<Member<'_>> {
            places.iter().map(|&place| members[place]).collect()
        };
        if let Some(most) = self.limits.max_correlation {
            thin_out(most, members, &mut places, data, metric, &mut left_out);
        }
        let learn = |places: &[usize]| self.inner.combine(&take(places), data, metric, ctx);
        let mut combination = learn(&places)?;
        loop {
            let used: Vec<usize> = (0..places.len()).filter(|&i| combination.uses(i)).collect();
            let using: Vec<&Member<'_>> = used.iter().map(|&i| &members[places[i]]).collect();
            if self.limits.excess(&using)? <= 1.0 || used.len() == 1 {
                return Ok((places, combination, left_out));
            }
            // The one without which the error is lowest.
            let mut best: Option<(f64, usize, Box<dyn Combination>)> = None;
            for &i in &used {
                let mut without = places.clone();
                without.remove(i);
                let learnt = learn(&without)?;
                let parts: Vec<&Matrix> =
                    without.iter().map(|&place| members[place].predictions).collect();
                let predicted = learnt.apply(&parts, data.frame())?;
                let score = metric.score(data.truth(), &predicted);
                let error = score.map_or(f64::INFINITY, |score| error(metric, score));
                if best.as_ref().is_none_or(|(lowest, ..)| error < *lowest) {
                    best = Some((error, i, learnt));
                }
            }
            let Some((_, i, learnt)) = best else { return Ok((places, combination, left_out)) };
            left_out.push(LeftOut::new(members[places[i]].name, "dropped to keep to the limits"));
            places.remove(i);
            combination = learnt;
        }
    }
}

impl Combiner for Limited {
    fn check(&self, members: &[&str]) -> Result<()> {
        self.limits.check()?;
        self.inner.check(members)
    }

    fn learns(&self) -> bool {
        self.inner.learns() || !self.limits.is_none()
    }

    fn combine(
        &self,
        members: &[Member<'_>],
        data: &Dataset,
        metric: Metric,
        ctx: &FitContext<'_>,
    ) -> Result<Box<dyn Combination>> {
        if data.n_rows() == 0 {
            return self.inner.combine(members, data, metric, ctx);
        }
        let (places, inner, _) = self.choose(members, data, metric, ctx)?;
        Ok(Box::new(Part { places, inner }))
    }
}

impl Combination for Part {
    fn apply(&self, parts: &[&Matrix], x: &Frame) -> Result<Matrix> {
        let chosen: Vec<&Matrix> = self.places.iter().map(|&place| parts[place]).collect();
        self.inner.apply(&chosen, x)
    }

    fn uses(&self, place: usize) -> bool {
        self.places.binary_search(&place).is_ok_and(|i| self.inner.uses(i))
    }

    fn into_model(self: Box<Self>, members: Vec<Arc<dyn Model>>) -> Result<mm_core::BoxModel> {
        self.inner.into_model(members)
    }
}

/// Drops the worse of any two members whose errors correlate above `most`.
fn thin_out(
    most: f64,
    members: &[Member<'_>],
    places: &mut Vec<usize>,
    data: &Dataset,
    metric: Metric,
    left_out: &mut Vec<LeftOut>,
) {
    let alone = |place: usize| {
        let score = metric.score(data.truth(), members[place].predictions);
        score.map_or(f64::INFINITY, |score| error(metric, score))
    };
    let correlation = correlations(data, members);
    let mut order: Vec<(f64, usize)> = places.iter().map(|&p| (alone(p), p)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut kept: Vec<usize> = Vec::new();
    for (_, place) in order {
        let alike = |&&other: &&usize| correlation[place][other].is_some_and(|r| most < r);
        if let Some(&other) = kept.iter().find(alike) {
            let reason = format!("errs as `{}` does, which is better", members[other].name);
            left_out.push(LeftOut::new(members[place].name, reason));
        } else {
            kept.push(place);
        }
    }
    kept.sort_unstable();
    *places = kept;
}
