//! How well scores rank the rows of a class above the rest.
//!
//! Both areas come from one walk down the distinct scores: O(*n* log *n*) for the sort, once a
//! class. Rows with equal scores form one step, so ties need no rule of their own.

use crate::{
    error::{Error, Result},
    metric::{
        Average,
        sample::Sample,
        sum::{self, Sum},
    },
};

/// An area under a curve: of one class against the rest, as its steps down the scores.
pub(super) type Area = fn(&[Step]) -> f64;

/// The rows that share one score.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Weight of the rows of the class.
    positive: f64,
    /// Weight of all others.
    negative: f64,
}

/// The area under the ROC curve: the weighted share of pairs of a positive and a negative row in
/// which the positive one scores higher, ties counting half (Bamber 1975).
pub(super) fn roc(steps: &[Step]) -> f64 {
    let (mut above, mut area, mut negative) = (Sum::default(), Sum::default(), Sum::default());
    for step in steps {
        area.add(step.negative * (above.value() + step.positive / 2.0));
        above.add(step.positive);
        negative.add(step.negative);
    }
    area.value() / above.value() / negative.value()
}

/// Average precision: the precision at each distinct score, weighted by the recall gained there.
pub(super) fn precision_recall(steps: &[Step]) -> f64 {
    let (mut hits, mut all, mut area) = (Sum::default(), Sum::default(), Sum::default());
    for step in steps {
        hits.add(step.positive);
        all.add(step.positive);
        all.add(step.negative);
        area.add(step.positive * (hits.value() / all.value()));
    }
    area.value() / hits.value()
}

/// The area of the positive class for binary tasks, and else the average over the classes.
///
/// `needs_rest` is whether the area is undefined without rows of other classes; it is always
/// undefined without rows of the class itself.
pub(super) fn averaged(
    sample: &Sample<'_>,
    average: Average,
    area: Area,
    needs_rest: bool,
) -> Result<f64> {
    let names = sample.class_names();
    let mut weights = vec![Sum::default(); names.len()];
    sample.rows().for_each(|row| weights[row.class()].add(row.weight));
    let weights: Vec<f64> = weights.into_iter().map(Sum::value).collect();

    let present = |c: &usize| 0.0 < weights[*c];
    let mut classes = (0..names.len()).filter(present);
    if let (true, Some(only), None) = (needs_rest, classes.next(), classes.next()) {
        return Err(Error::OneClass { class: names[only].clone() });
    }
    let ensure_present = |c: usize| {
        if present(&c) {
            return Ok(c);
        }
        let place = format_args!("class `{}`", names[c]);
        Err(Error::data(place, "at least 1 row of positive weight to rank", "none"))
    };
    let one = |c: usize| {
        area(&steps(sample.rows().map(|row| {
            (row.predicted[c.min(row.predicted.len() - 1)], row.class() == c, row.weight)
        })))
    };
    if sample.is_binary() {
        return Ok(one(ensure_present(1)?));
    }
    match average {
        Average::Auto | Average::Macro => {
            let areas = (0..names.len()).map(|c| ensure_present(c).map(one));
            let areas = areas.collect::<Result<Vec<_>>>()?;
            Ok(sum::total(areas) / names.len() as f64)
        }
        Average::Weighted => {
            let areas = (0..names.len()).filter(present).map(|c| weights[c] * one(c));
            Ok(sum::total(areas) / sample.total())
        }
        Average::Micro => Ok(area(&steps(sample.rows().flat_map(|row| {
            let scores = row.predicted.iter().enumerate();
            scores.map(move |(c, &score)| (score, row.class() == c, row.weight))
        })))),
    }
}

/// The distinct scores from the highest down, from triples of score, whether positive, and weight.
fn steps(scored: impl Iterator<Item = (f64, bool, f64)>) -> Vec<Step> {
    let mut scored: Vec<_> = scored.collect();
    // `total_cmp` tells the zeros apart, but puts nothing between them: `==` ties them again.
    scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let step = |tied: &[(f64, bool, f64)]| {
        let weight = |class| {
            let members = tied.iter().filter(move |(_, is, _)| *is == class);
            sum::total(members.map(|&(_, _, weight)| weight))
        };
        Step { positive: weight(true), negative: weight(false) }
    };
    scored.chunk_by(|a, b| a.0 == b.0).map(step).collect()
}
