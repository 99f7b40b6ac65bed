//! How good class probabilities are, and the decisions that follow from them.

use crate::metric::{
    Average,
    confusion::{ClassWeights, balanced_accuracy, matthews, tally},
    sample::Sample,
    sum::{self, Sum},
};

/// Probabilities are kept this far from 0 and 1, so that one row that was thought impossible
/// costs 36 and not infinity: scikit-learn's rule for `f64`.
const CLIP: f64 = f64::EPSILON;

pub(super) fn log_loss(sample: &Sample<'_>) -> f64 {
    sample.mean(|row| match *row.predicted {
        // Of 1 − p no digit is lost this way.
        [positive] if row.class() == 0 => -(-positive.clamp(CLIP, 1.0 - CLIP)).ln_1p(),
        _ => -row.probability(row.class()).clamp(CLIP, 1.0 - CLIP).ln(),
    })
}

/// The squared distance from the predicted to the true distribution; half of it for two classes,
/// where both columns of the distribution err alike.
pub(super) fn brier(sample: &Sample<'_>) -> f64 {
    sample.mean(|row| {
        let is = |c: usize| f64::from(u8::from(row.class() == c));
        match *row.predicted {
            [positive] => (positive - is(1)).powi(2),
            ref all => all.iter().enumerate().map(|(c, p)| (p - is(c)).powi(2)).sum(),
        }
    })
}

/// The weighted mean over the bins of |frequency − mean probability|.
pub(super) fn calibration_error(sample: &Sample<'_>, bins: usize) -> f64 {
    let mut gaps = vec![Sum::default(); bins];
    for row in sample.rows() {
        let (probability, came_true) = match *row.predicted {
            [positive] => (positive, row.class() == 1),
            _ => (row.probability(row.decision()), row.class() == row.decision()),
        };
        let gap = f64::from(u8::from(came_true)) - probability;
        gaps[bin(probability, bins)].add(row.weight * gap);
    }
    sum::total(gaps.into_iter().map(|gap| gap.value().abs())) / sample.total()
}

/// The bin of `p` among `bins` of equal width: the first whose upper edge is not below `p`.
fn bin(p: f64, bins: usize) -> usize {
    let edge = |i: usize| i as f64 / bins as f64;
    let i = ((p * bins as f64) as usize).min(bins - 1); // Off by at most one.
    if 0 < i && p <= edge(i) {
        i - 1
    } else if i + 1 < bins && edge(i + 1) < p {
        i + 1
    } else {
        i
    }
}

pub(super) fn top_k_accuracy(sample: &Sample<'_>, k: usize) -> f64 {
    sample.mean(|row| {
        let (truth, p) = (row.class(), |c| row.probability(c));
        let beats = |&c: &usize| p(truth) < p(c) || (p(truth) == p(c) && c < truth);
        let n_classes = row.predicted.len().max(2);
        f64::from(u8::from((0..n_classes).filter(beats).count() < k))
    })
}

pub(super) fn accuracy(sample: &Sample<'_>) -> f64 {
    sample.mean(|row| f64::from(u8::from(row.decision() == row.class())))
}

pub(super) fn balanced(sample: &Sample<'_>) -> f64 {
    balanced_accuracy(&tally(sample))
}

pub(super) fn mcc(sample: &Sample<'_>) -> f64 {
    matthews(&tally(sample))
}

/// Precision, recall, or F1: `score` of the positive class, or averaged over the classes that
/// occur among truths or decisions.
pub(super) fn averaged(
    sample: &Sample<'_>,
    average: Average,
    score: fn(&ClassWeights) -> f64,
) -> f64 {
    let classes = tally(sample);
    match average {
        Average::Auto if sample.is_binary() => score(&classes[1]),
        Average::Auto | Average::Macro => {
            let occur = classes.iter().filter(|class| 0.0 < class.truth + class.decided);
            let n = occur.clone().count() as f64;
            sum::total(occur.map(score)) / n
        }
        Average::Micro => score(&classes.iter().copied().sum()),
        Average::Weighted => {
            sum::total(classes.iter().map(|class| class.truth * score(class)))
                / sum::total(classes.iter().map(|class| class.truth))
        }
    }
}
