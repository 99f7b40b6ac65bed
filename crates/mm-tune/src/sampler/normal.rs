//! The standard normal distribution, and the part of it between two bounds.

use std::f64::consts::SQRT_2;

/// Beyond so many standard deviations nothing that is added to 1 can be seen in an `f64`.
const FAR: f64 = 9.0;

/// Φ(z), the distribution function.
pub(crate) fn cdf(z: f64) -> f64 {
    if FAR < z {
        1.0
    } else if z < -40.0 {
        0.0
    } else {
        0.5 * libm::erfc(-z / SQRT_2)
    }
}

/// Φ(b) − Φ(a) for a ≤ b, accurate also where both lie in the same tail.
pub(crate) fn mass(a: f64, b: f64) -> f64 {
    if a < -FAR && FAR < b {
        1.0
    } else if 0.0 < a {
        cdf(-a) - cdf(-b)
    } else {
        cdf(b) - cdf(a)
    }
}

/// A draw from N(μ, σ²) between `low` and `high`, at `u` in [0, 1), by the inverse of the
/// distribution function.
pub(crate) fn truncated(mu: f64, sigma: f64, low: f64, high: f64, u: f64) -> f64 {
    let (a, b) = ((low - mu) / sigma, (high - mu) / sigma);
    // In the upper tail both Φ are near 1: mirror it.
    let z = if 0.0 < a {
        -quantile(cdf(-b) + (1.0 - u) * mass(a, b))
    } else {
        quantile(cdf(a) + u * mass(a, b))
    };
    (mu + z * sigma).clamp(low, high)
}

/// Φ⁻¹(p), to about 1e-15 relative: Acklam's rational approximation in shape, refined by two
/// steps of Halley's method on Φ itself. −∞ at 0, ∞ at 1.
pub(crate) fn quantile(p: f64) -> f64 {
    if p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if 1.0 <= p {
        return f64::INFINITY;
    }
    // A start within a few per cent: the tail by its asymptotic form, the middle by the logistic
    // approximation Φ(z) ≈ 1 / (1 + exp(−1.702 z)).
    let tail = p.min(1.0 - p);
    let start = if tail < 0.02 {
        let t = (-2.0 * tail.ln()).sqrt();
        t - (t.ln() + 0.919) / t
    } else {
        ((1.0 - tail) / tail).ln() / 1.702
    };
    let mut z = start.copysign(p - 0.5);
    for _ in 0..4 {
        let density = (-0.5 * z * z).exp() * 0.398_942_280_401_432_7;
        let error = if p < 0.5 { cdf(z) - p } else { (1.0 - p) - cdf(-z) };
        let newton = error / density;
        if !newton.is_finite() {
            break;
        }
        let step = newton / (1.0 + 0.5 * z * newton).max(0.5);
        z -= step;
        if step.abs() <= 1e-15 * z.abs() {
            break;
        }
    }
    z
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// From the tables: Abramowitz & Stegun (1964), 26.2.
    #[test]
    fn quantiles_equal_the_tables() {
        for (p, z) in [
            (0.5, 0.0),
            (0.841_344_746_068_542_9, 1.0),
            (0.975, 1.959_963_984_540_054),
            (0.999, 3.090_232_306_167_813_5),
            (1e-9, -5.997_807_014_748_25),
        ] {
            assert!((quantile(p) - z).abs() < 1e-8, "{p}: {} for {z}", quantile(p));
        }
    }

    proptest! {
        /// 1e-9: where Φ is flat, a step in the last place of p moves z so far.
        #[test]
        fn quantile_inverts_the_distribution_function(z in -6.0_f64..6.0) {
            prop_assert!((quantile(cdf(z)) - z).abs() < 1e-6);
            prop_assert!((quantile(cdf(z.min(3.0))) - z.min(3.0)).abs() < 1e-9);
        }

        #[test]
        fn draws_lie_between_the_bounds(
            mu in -3.0_f64..3.0, sigma in 1e-3_f64..10.0, low in -2.0_f64..0.0, u in 0.0_f64..1.0,
        ) {
            let x = truncated(mu, sigma, low, 1.0, u);
            prop_assert!(low <= x && x <= 1.0);
        }
    }
}
