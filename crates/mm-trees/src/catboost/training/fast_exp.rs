//! The exponentials that CatBoost takes: exact to the last bits, but not the same last bits as others.
//!
//! Two columns often part the rows alike, so that the last bits of derivatives decide between them. Hence
//! exponentials are followed to the bit.

use std::sync::LazyLock;

/// Steps between powers of two, as a power of two.
const STEP_BITS: u32 = 11;
const STEPS: u64 = 1 << STEP_BITS;

/// The mantissas of 2^(*i* / 2048).
static MANTISSAS: LazyLock<Vec<u64>> = LazyLock::new(|| {
    let mantissa = |i: u64| 2.0_f64.powf(i as f64 / STEPS as f64).to_bits() & ((1 << 52) - 1);
    (0..STEPS).map(mantissa).collect()
});

/// e^*x* by a table of powers of two and a cubic polynomial (Mitsunari 2009, fmath, `expd_v`).
pub(super) fn exp(x: f64) -> f64 {
    const ROUNDER: f64 = 6_755_399_441_055_744.0; // 3 · 2⁵¹: whole numbers stand in the lowest bits.
    const SIXTH: f64 = 0.166_666_666_852_278_35;
    const THREE: f64 = 3.000_000_002_795_539_4;
    let scale = STEPS as f64 / std::f64::consts::LN_2;
    let x = x.clamp(-708.396_418_532_264_1, 709.782_712_893_384);
    let shifted = x * scale + ROUNDER;
    let bits = shifted.to_bits();
    let rest = (shifted - ROUNDER) * (1.0 / scale) - x;
    let exponent = (bits.wrapping_add((STEPS << 10) - STEPS) >> STEP_BITS) << 52;
    let power = f64::from_bits(exponent | MANTISSAS[(bits % STEPS) as usize]);
    ((THREE - rest) * (rest * rest) * SIXTH - rest + 1.0) * power
}

/// e^*x* as a product of those of four parts of *x*, each of the 16 highest bits that remain, and of 1 +
/// what is left.
pub(super) fn exp_by_parts(x: f64) -> f64 {
    let (mut rest, mut product) = (x, 1.0);
    for _ in 0..4 {
        let part = f64::from_bits(rest.to_bits() & 0xffff << 48);
        product *= part.exp();
        rest -= part;
    }
    product * (1.0 + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_exact_but_for_rounding() {
        for x in (-7000..7000).map(|i| f64::from(i) * 0.1 + 0.0123) {
            // Some units in the last place of the result, and some of what is exponentiated.
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-15 + 3e-16 * x.abs(), "at {x}");
        }
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn four_parts_leave_the_square_of_what_they_leave() {
        for x in (-1000..1000).map(|i| f64::from(i) * 0.01 + 0.00123) {
            // Each part leaves less than a sixteenth; what is left at last counts as 1 + *x*.
            let left = x / 65_536.0;
            assert!((exp_by_parts(x) / x.exp() - 1.0).abs() < 1e-14 + left * left, "at {x}");
        }
        assert_eq!(exp_by_parts(0.0), 1.0);
    }
}
