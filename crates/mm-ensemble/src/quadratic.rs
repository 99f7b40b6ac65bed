//! Minima of convex quadratics under constraints, for a few dozen variables.

use mm_core::Matrix;

/// The most that a variable may still change, relative to the largest, at the end.
const PRECISE: f64 = 1e-12;

/// Minimises ½ *w*ᵀ*Gw* − *b*ᵀ*w* over *w* ≥ 0 by coordinate descent: exact in each variable in
/// turn, until none changes. *G* must be positive semi-definite; a variable whose diagonal is 0
/// stays 0.
///
/// O(*m*²) a sweep. With `b` the products of columns and target this is non-negative least squares
/// (Lawson & Hanson 1974).
pub(crate) fn non_negative(gram: &Matrix, b: &[f64]) -> Vec<f64> {
    let m = b.len();
    let mut w = vec![0.0; m];
    for _ in 0..100_000 {
        let (mut change, mut largest) = (0.0_f64, 0.0_f64);
        for j in 0..m {
            let row = gram.row(j);
            if row[j] <= 0.0 {
                continue;
            }
            let slope: f64 = row.iter().zip(&w).map(|(g, w)| g * w).sum::<f64>() - b[j];
            let next = (w[j] - slope / row[j]).max(0.0);
            change = change.max((next - w[j]).abs());
            w[j] = next;
            largest = largest.max(next);
        }
        if change <= PRECISE * largest {
            break;
        }
    }
    w
}

/// Minimises ½ *w*ᵀ*Gw* − *b*ᵀ*w* over weights that are not negative and add up to 1, by projected
/// gradient with momentum that restarts when it does not help (O'Donoghue & Candès 2015).
pub(crate) fn on_simplex(gram: &Matrix, b: &[f64]) -> Vec<f64> {
    let m = gram.n_rows();
    // The largest row sum bounds the largest eigenvalue.
    let bound = gram.rows().map(|row| row.iter().map(|g| g.abs()).sum()).fold(0.0, f64::max);
    let mut w = vec![1.0 / m as f64; m];
    if bound <= 0.0 {
        return w;
    }
    let (mut look, mut momentum) = (w.clone(), 1.0_f64);
    for _ in 0..100_000 {
        let pull = |row: &[f64]| row.iter().zip(&look).map(|(g, w)| g * w).sum::<f64>();
        let slope = gram.rows().zip(b).map(|(row, b)| pull(row) - b);
        let slope: Vec<f64> = slope.collect();
        let step: Vec<f64> = look.iter().zip(&slope).map(|(w, s)| w - s / bound).collect();
        let next = to_simplex(&step);
        let change = next.iter().zip(&w).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let against: f64 = look
            .iter()
            .zip(&next)
            .zip(&w)
            .map(|((look, next), w)| (look - next) * (next - w))
            .sum();
        let faster = f64::midpoint(1.0, (1.0 + 4.0 * momentum * momentum).sqrt());
        let push = if 0.0 < against { 0.0 } else { (momentum - 1.0) / faster };
        momentum = if 0.0 < against { 1.0 } else { faster };
        look = next.iter().zip(&w).map(|(next, w)| next + push * (next - w)).collect();
        w = next;
        if change <= PRECISE {
            break;
        }
    }
    w
}

/// The nearest point whose entries are not negative and add up to 1 (Held, Wolfe & Crowder 1974).
fn to_simplex(point: &[f64]) -> Vec<f64> {
    let mut sorted = point.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let (mut sum, mut shift) = (0.0, 0.0);
    for (i, x) in sorted.iter().enumerate() {
        sum += x;
        let candidate = (sum - 1.0) / (i + 1) as f64;
        if candidate < *x {
            shift = candidate;
        }
    }
    point.iter().map(|x| (x - shift).max(0.0)).collect()
}

/// The Cholesky factor of a symmetric positive definite matrix.
#[derive(Debug)]
pub(crate) struct Factor(Matrix);

impl Factor {
    /// `None` if the matrix is not positive definite.
    pub(crate) fn of(a: &Matrix) -> Option<Self> {
        let mut a = a.clone();
        for j in 0..a.n_cols() {
            let left: Vec<f64> = a.row(j)[..j].to_vec();
            let pivot = a.row(j)[j] - left.iter().map(|l| l * l).sum::<f64>();
            if !(0.0 < pivot && pivot.is_finite()) {
                return None;
            }
            let pivot = pivot.sqrt();
            a.row_mut(j)[j] = pivot;
            for i in j + 1..a.n_cols() {
                let row = a.row_mut(i);
                let dot: f64 = row[..j].iter().zip(&left).map(|(a, b)| a * b).sum();
                row[j] = (row[j] - dot) / pivot;
            }
        }
        Some(Self(a))
    }

    /// Solves *Ax* = *b*.
    pub(crate) fn solve(&self, mut b: Vec<f64>) -> Vec<f64> {
        let (a, d) = (&self.0, b.len());
        for i in 0..d {
            let dot: f64 = a.row(i)[..i].iter().zip(&b).map(|(l, b)| l * b).sum();
            b[i] = (b[i] - dot) / a.row(i)[i];
        }
        for i in (0..d).rev() {
            let dot: f64 = (i + 1..d).map(|j| a.row(j)[i] * b[j]).sum();
            b[i] = (b[i] - dot) / a.row(i)[i];
        }
        b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(values: &[f64], k: usize) -> Matrix {
        Matrix::new(values.to_vec(), k).expect("rectangular")
    }

    #[track_caller]
    fn near(got: &[f64], expected: &[f64]) {
        let ok = got.len() == expected.len()
            && got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(ok, "{got:?}, expected {expected:?}");
    }

    #[test]
    fn minima_known_by_hand() {
        // Independent variances 1 and 3: weights as their inverses.
        near(&on_simplex(&matrix(&[1.0, 0.0, 0.0, 3.0], 2), &[0.0; 2]), &[0.75, 0.25]);
        // The second is the first with something added: it gets nothing.
        near(&on_simplex(&matrix(&[1.0, 1.0, 1.0, 2.0], 2), &[0.0; 2]), &[1.0, 0.0]);
        near(&on_simplex(&matrix(&[0.0], 1), &[0.0]), &[1.0]);
        near(&on_simplex(&matrix(&[1.0, 0.0, 0.0, 1.0], 2), &[0.5, 0.0]), &[0.75, 0.25]);
        near(&non_negative(&matrix(&[2.0, 0.0, 0.0, 1.0], 2), &[4.0, -1.0]), &[2.0, 0.0]);
        // Unconstrained (1.5, -0.5).
        near(&non_negative(&matrix(&[2.0, 1.0, 1.0, 1.0], 2), &[2.5, 1.0]), &[1.25, 0.0]);
        let factor = Factor::of(&matrix(&[4.0, 2.0, 2.0, 3.0], 2)).expect("definite");
        near(&factor.solve(vec![8.0, 7.0]), &[1.25, 1.5]);
        assert!(Factor::of(&matrix(&[1.0, 1.0, 1.0, 1.0], 2)).is_none());
        near(&to_simplex(&[0.5, 2.0, -1.0]), &[0.0, 1.0, 0.0]);
    }
}
