//! A minimum of a smooth function in a box.

use std::collections::VecDeque;

use super::linear::dot;

/// When [`minimize`] ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// After so many steps.
    pub(super) steps: usize,
    /// Once no coordinate's slope is larger than this.
    pub(super) slope: f64,
}

/// Moves `x` to a local minimum of `f` between `low` and `high` and returns the value there.
///
/// L-BFGS (Nocedal 1980) on the coordinates that are not held by a bound, projected onto the box, with
/// steps halved until they descend enough (Bertsekas 1982). `f` fills in its gradient; where it is
/// infinite or NaN a step is too long. The point at the start must be within the box.
pub(super) fn minimize(
    mut f: impl FnMut(&[f64], &mut [f64]) -> f64,
    x: &mut Vec<f64>,
    (low, high): (&[f64], &[f64]),
    limits: Limits,
) -> f64 {
    const MEMORY: usize = 8;
    let n = x.len();
    let mut gradient = vec![0.0; n];
    let mut value = f(x, &mut gradient);
    let mut pairs: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::with_capacity(MEMORY);
    for _ in 0..limits.steps {
        let held: Vec<bool> = (0..n)
            .map(|i| x[i] <= low[i] && 0.0 < gradient[i] || high[i] <= x[i] && gradient[i] < 0.0)
            .collect();
        let free = |v: &mut [f64]| {
            v.iter_mut().zip(&held).filter(|(_, held)| **held).for_each(|(v, _)| *v = 0.0);
        };
        let mut direction = gradient.clone();
        free(&mut direction);
        let steepest = direction.iter().fold(0.0_f64, |most, g| most.max(g.abs()));
        if steepest <= limits.slope || steepest.is_nan() {
            break;
        }
        // The two loops of L-BFGS.
        let mut shares = Vec::with_capacity(pairs.len());
        for (s, y) in pairs.iter().rev() {
            let share = dot(s, &direction) / dot(s, y);
            direction.iter_mut().zip(y).for_each(|(d, y)| *d -= share * y);
            shares.push(share);
        }
        let size = pairs.back().map_or(1.0 / steepest.max(1.0), |(s, y)| dot(s, y) / dot(y, y));
        for d in &mut direction {
            *d *= size;
        }
        for ((s, y), share) in pairs.iter().zip(shares.into_iter().rev()) {
            let back = dot(y, &direction) / dot(s, y);
            direction.iter_mut().zip(s).for_each(|(d, s)| *d += (share - back) * s);
        }
        free(&mut direction);
        if dot(&direction, &gradient) <= 0.0 {
            // The memory misleads: begin again with the slope.
            pairs.clear();
            direction.clone_from(&gradient);
            free(&mut direction);
            for d in &mut direction {
                *d /= steepest.max(1.0);
            }
        }

        let mut length = 1.0;
        let mut next = None;
        for _ in 0..20 {
            let to: Vec<f64> =
                (0..n).map(|i| (x[i] - length * direction[i]).clamp(low[i], high[i])).collect();
            let mut slope = vec![0.0; n];
            let there = f(&to, &mut slope);
            let moved: Vec<f64> = to.iter().zip(&*x).map(|(to, x)| to - x).collect();
            if there <= value + 1e-4 * dot(&gradient, &moved) {
                next = Some((to, slope, there, moved));
                break;
            }
            length *= 0.5;
        }
        let Some((to, slope, there, moved)) = next else { break };
        let bent: Vec<f64> = slope.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        if 1e-10 * dot(&bent, &bent) < dot(&moved, &bent) {
            if pairs.len() == MEMORY {
                pairs.pop_front();
            }
            pairs.push_back((moved, bent));
        }
        let gain = value - there;
        (*x, gradient, value) = (to, slope, there);
        if gain <= 1e-12 * value.abs() {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valley(x: &[f64], g: &mut [f64]) -> f64 {
        let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
        g[0] = -2.0 * a - 400.0 * x[0] * b;
        g[1] = 200.0 * b;
        a * a + 100.0 * b * b
    }

    const LIMITS: Limits = Limits { steps: 200, slope: 1e-8 };

    #[test]
    fn a_valley_is_followed_to_its_end() {
        let mut x = vec![-1.2, 1.0];
        let value = minimize(valley, &mut x, (&[-2.0; 2], &[2.0; 2]), LIMITS);
        // The slope is below 1e-8 and the curvature at least 0.4.
        assert!(value < 1e-12 && (x[0] - 1.0).abs() < 1e-6 && (x[1] - 1.0).abs() < 1e-6, "{x:?}");
    }

    #[test]
    fn bounds_hold_what_pushes_against_them() {
        let mut x = vec![-1.2, 1.0];
        minimize(valley, &mut x, (&[-2.0; 2], &[0.5, 2.0]), LIMITS);
        // Along x₀ = 0.5 the minimum is at x₁ = 0.25.
        assert!(x[0] == 0.5 && (x[1] - 0.25).abs() < 1e-6, "{x:?}");
    }

    #[test]
    fn where_there_is_no_value_no_step_ends() {
        let root = |x: &[f64], g: &mut [f64]| {
            g[0] = 1.0 - 1.0 / x[0];
            x[0] - x[0].ln()
        };
        let mut x = vec![5.0];
        minimize(root, &mut x, (&[-10.0], &[10.0]), LIMITS);
        assert!((x[0] - 1.0).abs() < 1e-6, "{x:?}");
    }
}
