//! Eigenvalues of small symmetric matrices.

/// The eigenvalues of a symmetric matrix (row by row, *n* × *n*) and its eigenvectors, as the columns of
/// a matrix of the same shape.
///
/// Jacobi's method in cycles (Golub, Van Loan 2013, section 8.5): O(n³) a sweep, some 6 to 10 sweeps;
/// accurate and short, and the matrices here have as many rows as a study has parameters.
pub(super) fn eigen(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors: Vec<f64> = (0..n * n).map(|i| f64::from(u8::from(i / n == i % n))).collect();
    for _ in 0..64 {
        let off: f64 = (0..n * n).filter(|i| i / n != i % n).map(|i| a[i] * a[i]).sum();
        let total: f64 = a.iter().map(|x| x * x).sum();
        if off <= 1e-30 * total || off.is_nan() {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p * n + q] == 0.0 {
                    continue;
                }
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * a[p * n + q]);
                let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let cosine = 1.0 / tangent.hypot(1.0);
                let sine = tangent * cosine;
                let rotate = |x: &mut [f64], i: usize, j: usize| {
                    (x[i], x[j]) = (cosine * x[i] - sine * x[j], sine * x[i] + cosine * x[j]);
                };
                (0..n).for_each(|k| rotate(&mut a, k * n + p, k * n + q));
                (0..n).for_each(|k| rotate(&mut a, p * n + k, q * n + k));
                (0..n).for_each(|k| rotate(&mut vectors, k * n + p, k * n + q));
            }
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), vectors)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A = V diag(λ) Vᵀ with orthogonal V.
        #[test]
        fn the_parts_make_up_the_matrix(
            n in 1_usize..9, entries in prop::collection::vec(-3.0_f64..3.0, 64),
        ) {
            let entry = |i: usize, j: usize| entries[i.min(j) * 8 + i.max(j)];
            let a: Vec<f64> = (0..n * n).map(|k| entry(k / n, k % n)).collect();
            let (values, v) = eigen(a.clone(), n);
            for i in 0..n {
                for j in 0..n {
                    let sum: f64 = (0..n).map(|k| v[i * n + k] * values[k] * v[j * n + k]).sum();
                    let dot: f64 = (0..n).map(|k| v[k * n + i] * v[k * n + j]).sum();
                    // 1e-12: rounding of sums of at most 8 products of numbers below 30.
                    prop_assert!((sum - a[i * n + j]).abs() < 1e-12);
                    prop_assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-12);
                }
            }
        }
    }
}
