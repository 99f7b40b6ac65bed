//! What is minimised: derivatives by row, and the sum of the loss.
//!
//! All derivatives are those of the *negative* loss, as CatBoost has them: the first points downhill,
//! the second is negative. Scores of [`Loss::CrossEntropy`] and [`Loss::Poisson`] are kept as their
//! exponentials, so that a step multiplies them and no row needs an exponential of its own.

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
            Self::CrossEntropy => {
                for ((&e, &y), (g, h)) in rows {
                    let p = 1.0 - 1.0 / (1.0 + e);
                    *g = f64::from(y) - p;
                    *h = -p * (1.0 - p);
                }
            }
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

    /// The loss of rows of one score each, up to a constant of the data.
    pub(super) fn sum(self, scores: &[f64], target: &[f32], weights: Option<&[f32]>) -> f64 {
        let rows = scores.iter().zip(target).map(|(&a, &y)| (a, f64::from(y)));
        match self {
            Self::CrossEntropy => {
                // −y ln e is left to `linear`, which needs no logarithm.
                match weights {
                    None => sum_ln_1p(scores),
                    Some(w) => {
                        let terms = scores.iter().zip(w).map(|(&e, &w)| f64::from(w) * e.ln_1p());
                        terms.sum()
                    }
                }
            }
            Self::Rmse => weighted(rows, weights, |a, y| (y - a) * (y - a)),
            Self::Quantile { level } => weighted(rows, weights, |a, y| {
                let r = y - a;
                if 0.0 < r { level * r } else { (level - 1.0) * r }
            }),
            Self::Huber { delta } => weighted(rows, weights, |a, y| {
                let r = (y - a).abs();
                if r < delta { 0.5 * r * r } else { delta * (r - 0.5 * delta) }
            }),
            Self::Expectile { level } => weighted(rows, weights, |a, y| {
                let r = y - a;
                (if 0.0 < r { level } else { 1.0 - level }) * r * r
            }),
            Self::Poisson => weighted(rows, weights, |e, _| e), // −y ln e: see `linear`.
            Self::Tweedie { power } => weighted(rows, weights, |a, y| {
                -y * (a * (1.0 - power)).exp() / (1.0 - power)
                    + (a * (2.0 - power)).exp() / (2.0 - power)
            }),
            Self::MultiClass(_) | Self::OneVsAll(_) => unreachable!("rows have several scores"),
        }
    }

    /// Derivatives of one row with several scores: the first into `g`; into `h` the upper triangle
    /// of the Hessian by rows ([`Loss::MultiClass`]) or its diagonal ([`Loss::OneVsAll`]).
    pub(super) fn multi(self, scores: &[f64], class: usize, g: &mut [f64], h: Option<&mut [f64]>) {
        if let Self::OneVsAll(_) = self {
            for (g, &a) in g.iter_mut().zip(scores) {
                let e = a.exp();
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
    rows: impl Iterator<Item = (f64, f64)>,
    weights: Option<&[f32]>,
    loss: impl Fn(f64, f64) -> f64,
) -> f64 {
    match weights {
        None => rows.map(|(a, y)| loss(a, y)).sum(),
        Some(w) => rows.zip(w).map(|((a, y), &w)| f64::from(w) * loss(a, y)).sum(),
    }
}

/// exp(a) / Σ exp(a).
fn softmax(scores: &[f64], out: &mut [f64]) {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for (p, a) in out.iter_mut().zip(scores) {
        *p = (a - top).exp();
        sum += *p;
    }
    for p in out {
        *p /= sum;
    }
}

/// Σ ln(1 + e): the logarithm of products of some terms, one for many; of large terms one by one.
fn sum_ln_1p(terms: &[f64]) -> f64 {
    const LANES: usize = 4;
    let mut sum = 0.0;
    for block in terms.chunks(8 * LANES) {
        let mut products = [1.0; LANES];
        for lane in block.chunks(LANES) {
            for (product, e) in products.iter_mut().zip(lane) {
                *product *= 1.0 + e;
            }
        }
        let product: f64 = products.iter().product();
        sum += if product < 1e300 {
            product.ln()
        } else {
            block.iter().map(|e| e.ln_1p()).sum::<f64>()
        };
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Central differences of the loss against its derivatives.
    #[test]
    fn derivatives_are_those_of_the_loss() {
        let losses = [
            Loss::CrossEntropy,
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
                    loss.sum(&[score], &[y], None) + linear
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
    fn the_product_of_many_terms_does_not_overflow() {
        let terms: Vec<f64> = (0..1000).map(|i| f64::from(i).exp()).collect();
        let finite = &terms[..700];
        let expected: f64 = finite.iter().map(|e| e.ln_1p()).sum();
        assert!((sum_ln_1p(finite) / expected - 1.0).abs() < 1e-12);
        assert_eq!(sum_ln_1p(&terms), f64::INFINITY);
    }
}
