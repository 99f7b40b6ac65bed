//! Linear algebra with positive definite matrices, row by row in one slice.
//!
//! Inner loops add a multiple of one row to another: the compiler makes vectors of that, as it may not
//! of sums.

/// The factor of A = Uᵀ U, of which only what is on and above the diagonal is meant; `a` needs no more,
/// either. `None` if A is not positive definite. O(n³ / 3).
pub(super) fn cholesky(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    for k in 0..n {
        let pivot = a[k * n + k];
        // Refuses NaN, too.
        if !(0.0 < pivot && pivot.is_finite()) {
            return None;
        }
        let (above, below) = a.split_at_mut((k + 1) * n);
        let row = &mut above[k * n + k..];
        let root = pivot.sqrt();
        for x in row.iter_mut() {
            *x /= root;
        }
        for (i, rest) in (1..).zip(below.chunks_exact_mut(n)) {
            add(&mut rest[k + i..], -row[i], &row[i..]);
        }
    }
    Some(a)
}

/// A⁻¹, whole, from the factor U. O(2 n³ / 3).
pub(super) fn inverse(u: &[f64], n: usize) -> Vec<f64> {
    // The rows of (Uᵀ)⁻¹, which is lower triangular, by substitution.
    let mut lower = vec![0.0; n * n];
    for k in 0..n {
        let (above, below) = lower.split_at_mut(k * n);
        let row = &mut below[..=k];
        row[k] = 1.0;
        for i in 0..k {
            add(&mut row[..=i], -u[i * n + k], &above[i * n..=i * n + i]);
        }
        for x in row.iter_mut() {
            *x /= u[k * n + k];
        }
    }
    let mut inverse = vec![0.0; n * n];
    for row in lower.chunks_exact(n).zip(1..).map(|(row, n)| &row[..n]) {
        for (a, &x) in row.iter().enumerate() {
            add(&mut inverse[a * n + a..a * n + row.len()], x, &row[a..]);
        }
    }
    for a in 0..n {
        for b in 0..a {
            inverse[a * n + b] = inverse[b * n + a];
        }
    }
    inverse
}

/// A x, for a symmetric A.
pub(super) fn times(a: &[f64], x: &[f64]) -> Vec<f64> {
    let mut product = vec![0.0; x.len()];
    for (row, &x) in a.chunks_exact(x.len().max(1)).zip(x) {
        add(&mut product, x, row);
    }
    product
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_inverse_undoes_the_matrix(
            n in 1_usize..9, entries in prop::collection::vec(-2.0_f64..2.0, 64),
        ) {
            // B Bᵀ + I is positive definite.
            let b = |i: usize, j: usize| entries[i * 8 + j];
            let entry = |i: usize, j: usize| {
                (0..n).map(|k| b(i, k) * b(j, k)).sum::<f64>() + f64::from(u8::from(i == j))
            };
            let a: Vec<f64> = (0..n * n).map(|k| entry(k / n, k % n)).collect();
            let u = cholesky(a.clone(), n).expect("positive definite");
            let inverse = inverse(&u, n);
            for i in 0..n {
                let column: Vec<f64> = (0..n).map(|k| inverse[k * n + i]).collect();
                for (j, x) in times(&a, &column).into_iter().enumerate() {
                    // 1e-10: the condition is at most about 300.
                    prop_assert!((x - f64::from(u8::from(i == j))).abs() < 1e-10);
                }
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_has_no_factor() {
        assert!(cholesky(vec![1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(cholesky(vec![f64::NAN], 1).is_none());
    }
}
