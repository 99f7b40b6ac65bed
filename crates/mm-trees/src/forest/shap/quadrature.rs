//! Gauss–Legendre quadrature on [0, 1]: exact integrals of polynomials.

use std::f64::consts::PI;

/// Points and weights that integrate polynomials of degree below 2 · points exactly.
#[derive(Debug, Clone, Default)]
pub(super) struct Rule {
    /// Points in (0, 1), ascending.
    pub(super) points: Vec<f64>,
    /// Their weights, which add up to 1.
    pub(super) weights: Vec<f64>,
    /// Each weight over 1 less its point.
    pub(super) weights_over_rest: Vec<f64>,
}

/// How many points integrate a product of so many factors less one, each linear and from 0 to 1 on
/// [0, 1].
///
/// Half as many as there are factors make it exact. Such a product is a sum of Bernstein polynomials
/// with weights ≥ 0, and those need no more than some 4.5 √*factors* points to be within 10⁻¹² of
/// their integrals, relatively; paths with over 81 different features profit from that.
pub(super) fn n_points(factors: usize) -> usize {
    let enough = (4.5 * (factors as f64).sqrt()).ceil() as usize;
    factors.div_ceil(2).min(enough).max(1)
}

impl Rule {
    /// The rule of `n` points, each found by Newton's method on the Legendre polynomial: O(*n*²).
    pub(super) fn new(n: usize) -> Self {
        let (mut points, mut weights) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for i in 0..n {
            let mut x = (PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
            let mut slope = 1.0;
            for _ in 0..100 {
                let (value, derivative) = legendre(n, x);
                slope = derivative;
                let step = value / derivative;
                x -= step;
                if step.abs() < 1e-15 {
                    break;
                }
            }
            // From [−1, 1] to [0, 1], where the largest root comes first.
            points.push((1.0 - x) / 2.0);
            weights.push(1.0 / ((1.0 - x * x) * slope * slope));
        }
        let pairs = points.iter().zip(&weights);
        let weights_over_rest = pairs.map(|(point, weight)| weight / (1.0 - point)).collect();
        Self { points, weights, weights_over_rest }
    }
}

/// The Legendre polynomial of degree `n` at `x`, inside (−1, 1), and its derivative.
fn legendre(n: usize, x: f64) -> (f64, f64) {
    let (mut before, mut value) = (1.0, x);
    for k in 2..=n {
        let k = k as f64;
        (before, value) = (value, ((2.0 * k - 1.0) * x * value - (k - 1.0) * before) / k);
    }
    (value, n as f64 * (x * value - before) / (x * x - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The integral of the Bernstein polynomial of degree `n`, as the rule gives it: 1 / (n + 1).
    fn bernstein(rule: &Rule, n: usize, i: usize) -> f64 {
        let log_choose: f64 = (1..=i).map(|j| ((n - i + j) as f64 / j as f64).ln()).sum();
        let term = |(&t, w): (&f64, f64)| {
            w * (log_choose + i as f64 * t.ln() + (n - i) as f64 * (-t).ln_1p()).exp()
        };
        rule.points.iter().zip(rule.weights.iter().copied()).map(term).sum()
    }

    #[test]
    fn products_of_any_length_are_integrated() {
        for factors in [1, 2, 3, 4, 7, 8, 15, 40, 81, 82, 128, 300, 1000] {
            let rule = Rule::new(n_points(factors));
            let degree = factors - 1;
            for i in (0..=degree).step_by(1 + degree / 40).chain([degree]) {
                let got = bernstein(&rule, degree, i) * factors as f64;
                // Logarithms and exponentials of up to 700 cost some digits here.
                assert!((got - 1.0).abs() < 2e-12, "{factors} factors, {i}: {got}");
            }
        }
    }

    #[test]
    fn points_ascend_inside_and_weights_add_up_to_1() {
        for n in 1..=64 {
            let rule = Rule::new(n);
            assert!(rule.points.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(rule.points.iter().all(|&t| 0.0 < t && t < 1.0));
            assert!((rule.weights.iter().sum::<f64>() - 1.0).abs() < 1e-14);
        }
    }
}
