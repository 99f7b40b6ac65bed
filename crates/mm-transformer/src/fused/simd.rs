//! The choice of vector instructions, and what loops over slices are made of.
//!
//! Loops are written plainly; [`vectorized`] compiles them for each level of instructions and takes
//! the best one that the processor has. A sum has 32 running parts, which vectors can hold.

use pulp::{Scalar, Simd, WithSimd};

/// Runs `op` with the widest vectors that the processor has. What it calls profits if it is
/// `#[inline(always)]`.
#[inline]
pub(crate) fn vectorized<O: WithSimd>(op: O) -> O::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = pulp::x86::V4::try_new() {
            return Simd::vectorize(simd, op);
        }
        if let Some(simd) = pulp::x86::V3::try_new() {
            return Simd::vectorize(simd, op);
        }
        Simd::vectorize(Scalar, op)
    }
    #[cfg(not(target_arch = "x86_64"))]
    pulp::Arch::new().dispatch(op)
}

/// Runs the loops of `body`, a closure that is `#[inline(always)]`, with the widest vectors that the
/// processor has.
#[inline]
pub(crate) fn looped(body: impl FnMut()) {
    vectorized(Loops(body));
}

/// As [`FnMut`]: the shim by which such a closure becomes a [`FnOnce`] would not be inlined.
struct Loops<F>(F);

impl<F: FnMut()> WithSimd for Loops<F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        (self.0)();
    }
}

/// Multiplies `y` by the factors `f`.
pub(crate) fn multiply(y: &mut [f32], f: &[f32]) {
    looped(
        #[inline(always)]
        || y.iter_mut().zip(f).for_each(|(y, f)| *y *= f),
    );
}

/// Adds `x` to `y`.
pub(crate) fn add(y: &mut [f32], x: &[f32]) {
    looped(
        #[inline(always)]
        || y.iter_mut().zip(x).for_each(|(y, x)| *y += x),
    );
}

/// Adds the rows of `x` to `sum`.
pub(crate) fn add_rows(sum: &mut [f32], x: &[f32]) {
    looped(
        #[inline(always)]
        || {
            for row in x.chunks_exact(sum.len()) {
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
        },
    );
}

/// Running parts of a sum.
const PARTS: usize = 32;

/// The parts of a fold, halved until one is left.
#[inline(always)]
fn halve(mut parts: [f32; PARTS], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = PARTS / 2;
    while 0 < half {
        for i in 0..half {
            parts[i] = join(parts[i], parts[i + half]);
        }
        half /= 2;
    }
    parts[0]
}

/// Σ f(xᵢ).
#[inline(always)]
pub(crate) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<PARTS>();
    let mut parts = [0.0; PARTS];
    for chunk in chunks {
        for (part, &x) in parts.iter_mut().zip(chunk) {
            *part += f(x);
        }
    }
    for (part, &x) in parts.iter_mut().zip(rest) {
        *part += f(x);
    }
    halve(parts, |a, b| a + b)
}

/// Σ f(xᵢ, yᵢ) of slices of one length.
#[inline(always)]
pub(crate) fn sum_pairs(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<PARTS>(), y.as_chunks::<PARTS>());
    let mut parts = [0.0; PARTS];
    for (x, y) in x.iter().zip(y) {
        for ((part, &x), &y) in parts.iter_mut().zip(x).zip(y) {
            *part += f(x, y);
        }
    }
    for ((part, &x), &y) in parts.iter_mut().zip(x_rest).zip(y_rest) {
        *part += f(x, y);
    }
    halve(parts, |a, b| a + b)
}

/// The largest number, or −∞ of none.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a < b { b } else { a };
    let (chunks, rest) = x.as_chunks::<PARTS>();
    let mut parts = [f32::NEG_INFINITY; PARTS];
    for chunk in chunks {
        for (part, &x) in parts.iter_mut().zip(chunk) {
            *part = larger(*part, x);
        }
    }
    for (part, &x) in parts.iter_mut().zip(rest) {
        *part = larger(*part, x);
    }
    halve(parts, larger)
}

/// eˣ for *x* ≤ 0, to some units in the last place; at least 10⁻³⁸. NaN stays NaN.
///
/// With *n* the integer nearest to *x* / ln 2: 2ⁿ times a polynomial of the rest, whose coefficients are
/// those of `expf` in the Cephes library (Moshier 1992).
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "ln 2 in two parts, as published")]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding it rounds to an integer, which then stands in the last bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.3 { -87.3 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_375 + n * 2.121_944_4e-4;
    let mut y = 1.987_569_15e-4;
    for c in [1.398_199_95e-3, 8.333_451_9e-3, 4.166_579_59e-2, 1.666_666_55e-1, 5.000_000_12e-1] {
        y = y * r + c;
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    (y * r * r + r + 1.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_agrees_with_the_one_of_the_library() {
        for i in 0..8700 {
            let x = -(i as f32) / 100.0;
            let (got, expected) = (f64::from(exp(x)), f64::from(x).exp());
            // Four units of 2⁻²⁴.
            assert!((got - expected).abs() <= 2.4e-7 * expected, "e^{x} is {expected}, not {got}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e30) < 2e-38);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sums_and_maxima_do_not_miss_an_end() {
        for n in 0..100 {
            let x: Vec<f32> = (0..n).map(|i| i as f32 - 3.0).collect();
            assert_eq!(sum(&x, |x| x), x.iter().sum::<f32>(), "of {n} whole numbers, exactly");
            assert_eq!(sum_pairs(&x, &x, |a, b| a * b), x.iter().map(|x| x * x).sum::<f32>());
            assert_eq!(max(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
