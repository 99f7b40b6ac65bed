//! The logarithm that CatBoost takes where speed matters more than digits.
//!
//! It decides which Bayesian weights rows get and whether a step of leaf estimation lowers the loss,
//! so that its error, not the exact value, is what must be met.

/// ln *x* of a positive number in `f32`, exact to some 1e-4 (Mineiro 2011, fastapprox).
#[expect(clippy::excessive_precision, reason = "constants as published")]
pub(super) fn fast_ln(x: f32) -> f32 {
    let bits = x.to_bits();
    let mantissa = f32::from_bits(bits & 0x007f_ffff | 0x3f00_0000);
    let log2 = bits as i32 as f32 * 1.192_092_9e-7
        - 124.225_515
        - 1.498_030_3 * mantissa
        - 1.725_88 / (0.352_088_72 + mantissa);
    log2 * std::f32::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_near_the_exact_logarithm() {
        for i in 1..5000 {
            let x = i as f32 / 1000.0;
            assert!((fast_ln(x) - x.ln()).abs() < 2e-4, "at {x}: {}", fast_ln(x)); // Its known error.
        }
    }
}
