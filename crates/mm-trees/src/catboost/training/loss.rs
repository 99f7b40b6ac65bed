//! What is minimised: derivatives by row, and the sum of the loss.
//!
//! All derivatives are those of the *negative* loss, as CatBoost has them: the first points downhill,
//! the second is negative. Scores of [`Loss::CrossEntropy`] and [`Loss::Poisson`] are kept as their
//! exponentials, so that a step multiplies them and no row needs an exponential of its own.

use std::{borrow::Cow, ops::Range};

use rayon::prelude::*;

use super::{fast_exp::exp, fast_log::fast_ln, table};
use crate::forest::kernel::widely;

/// A loss with its constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Loss {
    /// Logistic loss of a class or a probability; the score is the log odds.
    CrossEntropy,
    /// Squared error.
    Rmse,
    /// Pinball loss of a level; absolute error at one half.
    Quantile { level: f64 },
    /// Huber's loss: quadratic up to `delta`, linear beyond.
    Huber { delta: f64 },
    /// Asymmetric squared error.
    Expectile { level: f64 },
    /// Poisson likelihood, log link.
    Poisson,
    /// Tweedie likelihood, log link.
    Tweedie { power: f64 },
    /// Softmax over so many classes.
    MultiClass(usize),
    /// One logistic loss for each of so many classes.
    OneVsAll(usize),
}

/// Residuals nearer to 0 than this count as none in the pinball loss.
pub(super) const QUANTILE_DELTA: f64 = 1e-6;

impl Loss {
    /// How many scores a row has.
    pub(super) fn n_outputs(self) -> usize {
        match self {
            Self::MultiClass(k) | Self::OneVsAll(k) => k,
            _ => 1,
        }
    }

    /// Whether scores are kept as their exponentials.
    pub(super) fn keeps_exp(self) -> bool {
        matches!(self, Self::CrossEntropy | Self::Poisson)
    }

    /// First and second derivatives of rows of one score each.
    pub(super) fn derivatives(self, scores: &[f64], target: &[f32], g: &mut [f64], h: &mut [f64]) {
        let rows = scores.iter().zip(target).zip(g.iter_mut().zip(h));
        match self {
            Self::CrossEntropy => widely(|| {
                for ((&e, &y), (g, h)) in rows {
                    let p = 1.0 - 1.0 / (1.0 + e);
                    *g = f64::from(y) - p;
                    *h = -p * (1.0 - p);
                }
            }),
            Self::Rmse => {
                for ((&a, &y), (g, h)) in rows {
                    *g = f64::from(y) - a;
                    *h = -1.0;
                }
            }
            Self::Quantile { level } => {
                for ((&a, &y), (g, h)) in rows {
                    let r = f64::from(y) - a;
                    *g = if r.abs() < QUANTILE_DELTA {
                        0.0
                    } else if 0.0 < r {
                        level
                    } else {
                        -(1.0 - level)
                    };
                    *h = 0.0;
                }
            }
            Self::Huber { delta } => {
                for ((&a, &y), (g, h)) in rows {
                    let r = f64::from(y) - a;
                    (*g, *h) = if r.abs() < delta { (r, -1.0) } else { (delta.copysign(r), 0.0) };
                }
            }
            Self::Expectile { level } => {
                for ((&a, &y), (g, h)) in rows {
                    let r = f64::from(y) - a;
                    let slope = 2.0 * if 0.0 < r { level } else { 1.0 - level };
                    (*g, *h) = (slope * r, -slope);
                }
            }
            Self::Poisson => {
                for ((&e, &y), (g, h)) in rows {
                    (*g, *h) = (f64::from(y) - e, -e);
                }
            }
            Self::Tweedie { power } => {
                for ((&a, &y), (g, h)) in rows {
                    let y = f64::from(y) * ((1.0 - power) * a).exp();
                    let mean = ((2.0 - power) * a).exp();
                    *g = y - mean;
                    *h = y * (1.0 - power) - mean * (2.0 - power);
                }
            }
            Self::MultiClass(_) | Self::OneVsAll(_) => unreachable!("rows have several scores"),
        }
    }

    /// `before` and the loss of rows of one score each, up to a constant of the data.
    pub(super) fn sum(
        self,
        before: f64,
        scores: &[f64],
        target: &[f32],
        weights: Option<&[f32]>,
    ) -> f64 {
        let rows = scores.iter().zip(target).map(|(&a, &y)| (a, f64::from(y)));
        match self {
            Self::Rmse => weighted(before, rows, weights, |a, y| (y - a) * (y - a)),
            Self::Quantile { level } => weighted(before, rows, weights, |a, y| {
                let r = y - a;
                if 0.0 < r { level * r } else { (level - 1.0) * r }
            }),
            Self::Huber { delta } => weighted(before, rows, weights, |a, y| {
                let r = (y - a).abs();
                if r < delta { 0.5 * r * r } else { delta * (r - 0.5 * delta) }
            }),
            Self::Expectile { level } => weighted(before, rows, weights, |a, y| {
                let r = y - a;
                (if 0.0 < r { level } else { 1.0 - level }) * r * r
            }),
            Self::Poisson => weighted(before, rows, weights, |e, _| e), // −y ln e: see `linear`.
            Self::Tweedie { power } => weighted(before, rows, weights, |a, y| {
                -y * (a * (1.0 - power)).exp() / (1.0 - power)
                    + (a * (2.0 - power)).exp() / (2.0 - power)
            }),
            // Of cross-entropy, CatBoost takes a value of its own: see `CrossEntropySum`.
            Self::CrossEntropy | Self::MultiClass(_) | Self::OneVsAll(_) => {
                unreachable!("it is summed otherwise")
            }
        }
    }

    /// Derivatives of one row with several scores: the first into `g`; into `h` the upper triangle
    /// of the Hessian by rows ([`Loss::MultiClass`]) or its diagonal ([`Loss::OneVsAll`]).
    pub(super) fn multi(self, scores: &[f64], class: usize, g: &mut [f64], h: Option<&mut [f64]>) {
        if let Self::OneVsAll(_) = self {
            for (g, &a) in g.iter_mut().zip(scores) {
                let e = exp(a);
                *g = if e.is_finite() { e / (1.0 + e) } else { 1.0 };
            }
            if let Some(h) = h {
                for (h, &p) in h.iter_mut().zip(&*g) {
                    *h = -p * (1.0 - p);
                }
            }
        } else {
            softmax(scores, g);
            if let Some(h) = h {
                let mut at = 0;
                for (i, &p) in g.iter().enumerate() {
                    h[at] = p * (p - 1.0);
                    at += 1;
                    for &q in &g[i + 1..] {
                        h[at] = p * q;
                        at += 1;
                    }
                }
            }
        }
        for g in g.iter_mut() {
            *g = -*g;
        }
        g[class] += 1.0;
    }

    /// The loss of one row with several scores.
    pub(super) fn multi_value(self, scores: &[f64], class: usize) -> f64 {
        if let Self::OneVsAll(k) = self {
            let one = |(i, &a): (usize, &f64)| {
                let a = if i == class { a } else { -a };
                if 0.0 < a { (-a).exp().ln_1p() } else { a.exp().ln_1p() - a }
            };
            return scores.iter().enumerate().map(one).sum::<f64>() / k as f64;
        }
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        scores.iter().map(|a| (a - top).exp()).sum::<f64>().ln() + top - scores[class]
    }

    /// Numbers in the Hessian of a row, as [`multi`](Self::multi) writes it.
    pub(super) fn hessian_len(self) -> usize {
        match self {
            Self::MultiClass(k) => k * (k + 1) / 2,
            other => other.n_outputs(),
        }
    }
}

fn weighted(
    before: f64,
    rows: impl Iterator<Item = (f64, f64)>,
    weights: Option<&[f32]>,
    loss: impl Fn(f64, f64) -> f64,
) -> f64 {
    match weights {
        None => rows.fold(before, |sum, (a, y)| sum + loss(a, y)),
        Some(w) => rows.zip(w).fold(before, |sum, ((a, y), &w)| sum + f64::from(w) * loss(a, y)),
    }
}

/// exp(a) / Σ exp(a).
fn softmax(scores: &[f64], out: &mut [f64]) {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for (p, a) in out.iter_mut().zip(scores) {
        *p = exp(a - top);
        sum += *p;
    }
    for p in out {
        *p /= sum;
    }
}

/// Rows of one score each, in the order of their fold.
#[derive(Debug)]
pub(super) struct Along<'a> {
    /// As [`Loss::keeps_exp`] says.
    pub(super) scores: Cow<'a, [f64]>,
    pub(super) target: Cow<'a, [f32]>,
    pub(super) weights: Option<Cow<'a, [f32]>>,
    pub(super) leaf_of: Cow<'a, [u32]>,
}

impl<'a> Along<'a> {
    /// Rows that are given in the order of the data.
    pub(super) fn new(
        scores: &'a [f64],
        target: &'a [f32],
        weights: Option<&'a [f32]>,
        leaf_of: &'a [u32],
        order: Option<&[u32]>,
    ) -> Self {
        Self {
            scores: in_order(scores, order),
            target: in_order(target, order),
            weights: weights.map(|w| in_order(w, order)),
            leaf_of: in_order(leaf_of, order),
        }
    }

    /// Moves the scores of each leaf, by a factor or by a summand.
    pub(super) fn advance(&mut self, by: &[f64], are_factors: bool) {
        advance(self.scores.to_mut(), &self.leaf_of, by, are_factors);
    }
}

/// Moves the score of each row by what its leaf has in `by`: a factor or a summand.
pub(super) fn advance(scores: &mut [f64], leaf_of: &[u32], by: &[f64], are_factors: bool) {
    let blocks = scores.par_chunks_mut(BLOCK).zip(leaf_of.par_chunks(BLOCK));
    blocks.for_each(|(scores, leaf_of)| {
        let rows = scores.iter_mut().zip(leaf_of);
        if are_factors {
            rows.for_each(|(score, &leaf)| *score *= by[leaf as usize]);
        } else {
            rows.for_each(|(score, &leaf)| *score += by[leaf as usize]);
        }
    });
}

/// The sum of cross-entropy over rows as CatBoost's backtracking sees it: in `f32`, by a fast
/// logarithm whose error exceeds what the last steps gain. Whether a step is taken is thus a matter of
/// rounding, which is why it is followed to the bit: rows in the order of the fold, in blocks of 4096,
/// in four lanes.
#[derive(Debug)]
pub(super) struct CrossEntropySum {
    /// The fast logarithms of the rows' scores.
    logs: Vec<f32>,
}

const BLOCK: usize = 4096;
const LANES: usize = 4;

/// Rows of which each stage is done before the next, so that loops are short and vectorise.
const STRIP: usize = 256;

impl CrossEntropySum {
    pub(super) fn new(rows: &Along<'_>) -> Self {
        let mut sum = Self { logs: vec![0.0; rows.scores.len()] };
        sum.follow(rows);
        sum
    }

    /// Takes note that the scores have moved.
    pub(super) fn follow(&mut self, rows: &Along<'_>) {
        let blocks = self.logs.par_chunks_mut(BLOCK).zip(rows.scores.par_chunks(BLOCK));
        blocks.for_each(|(logs, scores)| {
            widely(|| logs.iter_mut().zip(scores).for_each(|(log, &e)| *log = fast_ln(e as f32)));
        });
    }

    /// The mean loss after a step whose exponential is `factors`, by leaf.
    pub(super) fn after(&self, rows: &Along<'_>, factors: &[f64]) -> f64 {
        let n = self.logs.len();
        let steps: Vec<(f64, f32)> = factors.iter().map(|&f| (f, fast_ln(f as f32))).collect();
        let blocks: Vec<(f64, f64)> = (0..n.div_ceil(BLOCK))
            .into_par_iter()
            .map(|block| self.block(rows, block * BLOCK..n.min((block + 1) * BLOCK), &steps))
            .collect();
        let (loss, weight) = blocks.iter().fold((0.0, 0.0), |sum, b| (sum.0 + b.0, sum.1 + b.1));
        loss / weight
    }

    /// The loss and the weight of a block after steps given as factors with their logarithms.
    fn block(&self, all: &Along<'_>, rows: Range<usize>, steps: &[(f64, f32)]) -> (f64, f64) {
        let (scores, logs) = (&all.scores[rows.clone()], &self.logs[rows.clone()]);
        let (target, leaf_of) = (&all.target[rows.clone()], &all.leaf_of[rows.clone()]);
        let weights = all.weights.as_ref().map(|w| &w[rows]);
        let (mut loss, mut weight) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        let (mut moved, mut log, mut terms) = ([0.0; STRIP], [0.0; STRIP], [0.0; STRIP]);
        let n_whole = scores.len() / LANES * LANES;
        for start in (0..n_whole).step_by(STRIP) {
            let rows = start..n_whole.min(start + STRIP);
            let n = rows.len();
            let own = scores[rows.clone()].iter().zip(&logs[rows.clone()]);
            let out = moved.iter_mut().zip(&mut log);
            for ((out, own), &leaf) in out.zip(own).zip(&leaf_of[rows.clone()]) {
                let (factor, by) = steps[leaf as usize];
                (*out.0, *out.1) = (own.0 * factor, own.1 + by);
            }
            let of_row = moved[..n].iter().zip(&log[..n]).zip(&target[rows.clone()]);
            let terms = &mut terms[..n];
            widely(|| {
                for (term, ((&e, &log), &y)) in terms.iter_mut().zip(of_row) {
                    let (whole, limit) = (fast_ln((e + 1.0) as f32) - y * log, (1.0 - y) * log);
                    *term = if e <= f64::MAX { whole } else { limit };
                }
            });
            if let Some(weights) = weights {
                for (term, &w) in terms.iter_mut().zip(&weights[rows.clone()]) {
                    *term *= w;
                }
                for weights in weights[rows].as_chunks::<LANES>().0 {
                    weight.iter_mut().zip(weights).for_each(|(sum, w)| *sum += w);
                }
            } else {
                weight = weight.map(|sum| sum + (n / LANES) as f32);
            }
            for terms in terms.as_chunks::<LANES>().0 {
                loss.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
            }
        }
        let sum = |lanes: [f32; LANES]| f64::from((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]));
        let (mut loss, mut weight) = (sum(loss), sum(weight));
        for i in n_whole..scores.len() {
            let (factor, by) = steps[leaf_of[i] as usize];
            let e = scores[i] * factor;
            let log = f64::from(logs[i]) + f64::from(by);
            let y = f64::from(target[i]);
            let term = if e <= f64::MAX {
                f64::from(fast_ln((e + 1.0) as f32)) - y * log
            } else {
                (1.0 - y) * log
            };
            let w = weights.map_or(1.0, |w| w[i]);
            loss += f64::from(w) * term;
            weight += f64::from(w);
        }
        (loss, weight)
    }
}

/// `values` in the given order.
fn in_order<'a, T: Copy>(values: &'a [T], order: Option<&[u32]>) -> Cow<'a, [T]> {
    match order {
        None => Cow::Borrowed(values),
        Some(_) => Cow::Owned(table::in_order(values, order)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Central differences of the loss against its derivatives.
    #[test]
    fn derivatives_are_those_of_the_loss() {
        let losses = [
            Loss::Rmse,
            Loss::Huber { delta: 1.2 },
            Loss::Expectile { level: 0.3 },
            Loss::Poisson,
            Loss::Tweedie { power: 1.4 },
        ];
        for loss in losses {
            for (a, y) in [(0.3, 1.0_f32), (-1.1, 0.0), (0.7, 0.25), (2.0, 1.0)] {
                let value = |a: f64| {
                    let score = if loss.keeps_exp() { a.exp() } else { a };
                    let linear = if loss.keeps_exp() { -f64::from(y) * a } else { 0.0 };
                    loss.sum(0.0, &[score], &[y], None) + linear
                };
                let step = 1e-4;
                let (low, mid, high) = (value(a - step), value(a), value(a + step));
                let score = if loss.keeps_exp() { a.exp() } else { a };
                let (mut g, mut h) = ([0.0], [0.0]);
                loss.derivatives(&[score], &[y], &mut g, &mut h);
                // RMSE and expectile are used without their halves.
                let scale = if loss == Loss::Rmse { 0.5 } else { 1.0 };
                let slope = -scale * (high - low) / (2.0 * step);
                let bend = -scale * (high - 2.0 * mid + low) / (step * step);
                assert!((g[0] - slope).abs() < 1e-6, "{loss:?} at {a}: {} {slope}", g[0]);
                assert!((h[0] - bend).abs() < 1e-5, "{loss:?} at {a}: {} {bend}", h[0]);
            }
        }
    }

    #[test]
    fn derivatives_of_classes_are_those_of_the_loss() {
        let step = 1e-4;
        for (loss, scale) in [(Loss::MultiClass(3), 1.0), (Loss::OneVsAll(3), 3.0)] {
            let scores = [0.3, -0.4, 1.0];
            let mut g = [0.0; 3];
            let mut h = vec![0.0; loss.hessian_len()];
            loss.multi(&scores, 1, &mut g, Some(&mut h));
            let moved = |i: usize, by: f64| {
                let mut scores = scores;
                scores[i] += by;
                loss.multi_value(&scores, 1)
            };
            for i in 0..3 {
                let slope = -scale * (moved(i, step) - moved(i, -step)) / (2.0 * step);
                assert!((g[i] - slope).abs() < 1e-6);
                let bend = moved(i, step) - 2.0 * moved(i, 0.0) + moved(i, -step);
                let at = if loss == Loss::OneVsAll(3) { i } else { [0, 3, 5][i] };
                assert!((h[at] + scale * bend / (step * step)).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn the_fast_sum_is_near_the_exact_one() {
        let n = 10_001;
        let a = |i: usize| (i % 97) as f64 / 20.0 - 2.5;
        let scores: Vec<f64> = (0..n).map(|i| a(i).exp()).collect();
        let target: Vec<f32> = (0..n).map(|i| f32::from(u8::from(i % 3 == 0))).collect();
        let weights: Vec<f32> = (0..n).map(|i| (i % 5) as f32).collect();
        let leaf_of: Vec<u32> = (0..n).map(|i| (i % 2) as u32).collect();
        let rows = Along::new(&scores, &target, Some(&weights), &leaf_of, None);
        let sum = CrossEntropySum::new(&rows);
        let step = [0.3_f64, -0.2];
        let (mut exact, mut total) = (0.0, 0.0);
        for i in 0..n {
            let (a, w) = (a(i) + step[i % 2], (i % 5) as f64);
            exact += w * (a.exp().ln_1p() - f64::from(target[i]) * a);
            total += w;
        }
        let fast = sum.after(&rows, &step.map(f64::exp));
        assert!((fast - exact / total).abs() < 2e-4, "{fast}, exactly {}", exact / total);
    }
}
