//! From raw scores to predictions.

/// What turns the raw scores of a row into its predictions.
///
/// Computed in the precision of the engine that trained the forest, and in its order of operations,
/// so that predictions equal its own.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Link {
    /// The raw score.
    Identity,
    /// `1 / (1 + exp(-scale * raw))`: the probability of the positive class.
    Sigmoid {
        /// LightGBM's parameter `sigmoid`; 1 elsewhere.
        scale: f64,
    },
    /// `exp(raw) / Σ exp(raw)` over the classes.
    Softmax,
    /// A sigmoid for each class, then divided by their sum.
    OneVsAll {
        /// As in [`Link::Sigmoid`].
        scale: f64,
    },
    /// `exp(raw)`: Poisson, gamma, Tweedie, Cox.
    Exp,
    /// `log(1 + exp(raw))` (LightGBM's `cross_entropy_lambda`).
    LogOnePlusExp,
    /// `sign(raw) * raw²` (LightGBM's `reg_sqrt`, which fits the root of the target).
    SignedSquare,
    /// 1 above 0, else 0 (XGBoost's `binary:hinge`).
    Step,
    /// The raw scores in ascending order: quantiles that do not cross (XGBoost ≥ 3.4).
    Ascending,
    /// The first raw score, and then always more by `log(1 + exp(raw))`: expectiles that do not
    /// cross (XGBoost's `reg:expectileerror`).
    Rising,
}

/// The least step between two expectiles (XGBoost's `kRtEps`).
const STEP: f32 = 1e-6;

impl Link {
    /// Replaces the raw scores of a row by its predictions; `is_single` says whether the engine
    /// computes in `f32`, as XGBoost does.
    pub(crate) fn apply(self, is_single: bool, row: &mut [f64]) {
        match self {
            Self::Identity => {}
            Self::Sigmoid { scale } if is_single => {
                each(row, |x| f64::from(sigmoid_single(x as f32 * scale as f32)));
            }
            Self::Sigmoid { scale } => each(row, |x| sigmoid(scale, x)),
            Self::Softmax if is_single => softmax_single(row),
            Self::Softmax => softmax(row),
            Self::OneVsAll { scale } => {
                each(row, |x| sigmoid(scale, x));
                normalize(row);
            }
            Self::Exp if is_single => each(row, |x| f64::from((x as f32).exp())),
            Self::Exp => each(row, f64::exp),
            Self::LogOnePlusExp => each(row, |x| x.exp().ln_1p()),
            Self::SignedSquare => each(row, |x| sign(x) * x * x),
            Self::Step => each(row, |x| f64::from(u8::from(0.0 < x))),
            Self::Ascending => ascend(row),
            Self::Rising => rise(row),
        }
    }
}

fn each(row: &mut [f64], link: impl Fn(f64) -> f64) {
    for x in row {
        *x = link(*x);
    }
}

fn sigmoid(scale: f64, x: f64) -> f64 {
    1.0 / (1.0 + (-scale * x).exp())
}

/// XGBoost's: bounded, so that the exponential stays finite.
fn sigmoid_single(x: f32) -> f32 {
    // As C++'s `std::min(-x, 88.7f)`, which keeps NaN.
    let negative = if 88.7 < -x { 88.7 } else { -x };
    1.0 / (negative.exp() + 1.0 + 1e-16)
}

fn softmax(row: &mut [f64]) {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, |a, b| if a < b { b } else { a });
    let mut sum = 0.0;
    for x in &mut *row {
        *x = (*x - largest).exp();
        sum += *x;
    }
    each(row, |x| x / sum);
}

/// XGBoost's: in `f32`, but for the sum.
fn softmax_single(row: &mut [f64]) {
    let largest = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b as f32));
    let mut sum = 0.0;
    for x in &mut *row {
        *x = f64::from((*x as f32 - largest).exp());
        sum += *x;
    }
    let sum = sum as f32;
    each(row, |x| f64::from(x as f32 / sum));
}

/// Divides a row by its sum: one-against-all probabilities do not add up to 1 by themselves.
pub(crate) fn normalize(row: &mut [f64]) {
    let (sum, even) = (row.iter().sum::<f64>(), 1.0 / row.len() as f64);
    for p in row {
        *p = if 0.0 < sum { *p / sum } else { even };
    }
}

/// 1, −1, or 0; NaN has the sign 0.
fn sign(x: f64) -> f64 {
    f64::from(i8::from(0.0 < x) - i8::from(x < 0.0))
}

/// Sorts by insertion, as XGBoost does, which leaves NaN where it lies.
fn ascend(row: &mut [f64]) {
    for i in 1..row.len() {
        let (value, mut at) = (row[i], i);
        while 0 < at && value < row[at - 1] {
            row[at] = row[at - 1];
            at -= 1;
        }
        row[at] = value;
    }
}

fn rise(row: &mut [f64]) {
    let mut last = row.first().map_or(0.0, |&x| x as f32);
    for x in row.iter_mut().skip(1) {
        let gap = *x as f32;
        let gap = if 0.0 < gap { gap + (-gap).exp().ln_1p() } else { gap.exp().ln_1p() };
        last += STEP + gap;
        *x = f64::from(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(link: Link, is_single: bool, raw: &[f64], expected: &[f64]) {
        let mut row = raw.to_vec();
        link.apply(is_single, &mut row);
        for (got, expected) in row.iter().zip(expected) {
            // Within rounding of the precision that computed it.
            let near = if is_single { 1e-6 } else { 1e-15 };
            assert!((got - expected).abs() <= near, "{link:?} of {raw:?}: {row:?}");
        }
    }

    #[test]
    fn each_link_has_its_value_by_hand() {
        let half = 0.5_f64;
        for is_single in [false, true] {
            check(Link::Identity, is_single, &[3.0], &[3.0]);
            check(Link::Sigmoid { scale: 1.0 }, is_single, &[0.0], &[half]);
            check(Link::Softmax, is_single, &[1.0, 1.0], &[half, half]);
            check(Link::Exp, is_single, &[0.0, 1.0], &[1.0, std::f64::consts::E]);
        }
        check(Link::Sigmoid { scale: 2.0 }, false, &[3.0_f64.ln() / 2.0], &[0.75]);
        check(Link::OneVsAll { scale: 1.0 }, false, &[0.0, 0.0], &[half, half]);
        check(Link::LogOnePlusExp, false, &[0.0], &[std::f64::consts::LN_2]);
        check(Link::SignedSquare, false, &[-3.0, 2.0, 0.0], &[-9.0, 4.0, 0.0]);
        check(Link::Step, true, &[0.0, 1e-9, -1.0], &[0.0, 1.0, 0.0]);
        check(Link::Ascending, true, &[3.0, 1.0, 2.0], &[1.0, 2.0, 3.0]);
        let gap = std::f64::consts::LN_2 + f64::from(STEP);
        check(Link::Rising, true, &[1.0, 0.0, 0.0], &[1.0, 1.0 + gap, 1.0 + 2.0 * gap]);
    }

    #[test]
    fn large_scores_saturate_and_do_not_overflow() {
        check(Link::Sigmoid { scale: 1.0 }, true, &[1e30, -1e30], &[1.0, 0.0]);
        check(Link::Sigmoid { scale: 1.0 }, false, &[1e300, -1e300], &[1.0, 0.0]);
        for is_single in [false, true] {
            check(Link::Softmax, is_single, &[1e30, 0.0], &[1.0, 0.0]);
        }
    }
}
