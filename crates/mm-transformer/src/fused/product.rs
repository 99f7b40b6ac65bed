//! Matrix products, *C* = *AB* (+ *b*) or *C* += *AB*.
//!
//! The right factor is laid out in [`Panels`] of 32 columns: row after row of a panel, so that the
//! inner loop reads it in one run from the nearest cache. The left factor is read where it is, by rows
//! or by columns. A tile of up to 12 rows and 32 columns of *C* is held in registers while the
//! inner index runs; each of its numbers is one sum in the order of that index, so it does not
//! depend on the tile or on how many rows there are.
//!
//! With AVX-512 the tile is 12 × 2 vectors, so that each of the two units that multiply and add has
//! work in every cycle. (Goto and van de Geijn 2008, "Anatomy of high-performance matrix
//! multiplication", for tables too large to need their outer levels of blocking.)

#![expect(
    clippy::manual_memcpy,
    clippy::needless_range_loop,
    reason = "plain loops of constant length are unrolled, and their arrays held in registers"
)]

use pulp::{Simd, WithSimd};

use crate::fused::simd::vectorized;

/// Columns of a panel.
const PANEL: usize = 32;

/// The right factor of a product: *k* rows, *n* columns.
#[derive(Debug, Default)]
pub(crate) struct Panels {
    k: usize,
    n: usize,
    /// Panel after panel; columns beyond *n* are 0.
    rows: Vec<[f32; PANEL]>,
}

impl Panels {
    /// The matrix whose element (*p*, *j*) is `b[p * stride + j]`.
    pub(crate) fn new(b: &[f32], stride: usize, k: usize, n: usize) -> Self {
        let mut panels = Self::default();
        panels.set(b, stride, k, n);
        panels
    }

    /// The matrix whose element (*p*, *j*) is `b[j * stride + p]`.
    pub(crate) fn transposed(b: &[f32], stride: usize, k: usize, n: usize) -> Self {
        let mut panels = Self::default();
        panels.set_transposed(b, stride, k, n);
        panels
    }

    /// Becomes what [`new`](Self::new) makes, in the memory that is there.
    pub(crate) fn set(&mut self, b: &[f32], stride: usize, k: usize, n: usize) {
        self.reshape(k, n);
        for (panel, first) in self.rows.chunks_exact_mut(k.max(1)).zip((0..n).step_by(PANEL)) {
            let columns = (n - first).min(PANEL);
            for (p, row) in panel.iter_mut().enumerate() {
                let values = &b[p * stride + first..][..columns];
                if let Ok(values) = <&[f32; PANEL]>::try_from(values) {
                    *row = *values;
                } else {
                    row[..columns].copy_from_slice(values);
                    row[columns..].fill(0.0);
                }
            }
        }
    }

    /// Becomes what [`transposed`](Self::transposed) makes, in the memory that is there.
    pub(crate) fn set_transposed(&mut self, b: &[f32], stride: usize, k: usize, n: usize) {
        self.reshape(k, n);
        for (panel, first) in self.rows.chunks_exact_mut(k.max(1)).zip((0..n).step_by(PANEL)) {
            let columns = (n - first).min(PANEL);
            for j in 0..columns {
                let values = &b[(first + j) * stride..][..k];
                for (row, &x) in panel.iter_mut().zip(values) {
                    row[j] = x;
                }
            }
            if columns < PANEL {
                for row in panel {
                    row[columns..].fill(0.0);
                }
            }
        }
    }

    fn reshape(&mut self, k: usize, n: usize) {
        (self.k, self.n) = (k, n);
        self.rows.resize(k * n.div_ceil(PANEL), [0.0; PANEL]);
    }
}

/// The left factor of a product: *m* rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left<'a> {
    values: &'a [f32],
    stride: usize,
    m: usize,
    by_columns: bool,
}

impl<'a> Left<'a> {
    /// The matrix whose element (*i*, *p*) is `values[i * stride + p]`.
    pub(crate) fn rows(values: &'a [f32], stride: usize, m: usize) -> Self {
        Self { values, stride, m, by_columns: false }
    }

    /// The matrix whose element (*i*, *p*) is `values[p * stride + i]`.
    pub(crate) fn columns(values: &'a [f32], stride: usize, m: usize) -> Self {
        Self { values, stride, m, by_columns: true }
    }
}

/// What a product starts from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    /// 0.
    Nothing,
    /// A row, the same for all.
    Bias(&'a [f32]),
    /// What is in *C*.
    Sum,
}

/// Writes *start* + *AB* into `c`, whose element (*i*, *j*) is `c[i * stride + j]`.
pub(crate) fn product(a: Left<'_>, b: &Panels, start: Start<'_>, c: &mut [f32], stride: usize) {
    vectorized(Product { a, b, start, c, stride });
}

struct Product<'a> {
    a: Left<'a>,
    b: &'a Panels,
    start: Start<'a>,
    c: &'a mut [f32],
    stride: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    /// The tile by how many numbers a vector holds, such that sums, a row of the panel, and one
    /// number of *A* fit into the registers.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.tiles::<S, 12, 2>(simd),
            8 => self.tiles::<S, 6, 2>(simd),
            4 => self.tiles::<S, 6, 4>(simd),
            _ => self.tiles::<S, 2, 4>(simd),
        }
    }
}

impl Product<'_> {
    /// Tiles of `R` rows and `V` vectors.
    #[inline(always)]
    fn tiles<S: Simd, const R: usize, const V: usize>(mut self, simd: S) {
        if self.b.k == 0 {
            return;
        }
        let width = V * S::F32_LANES;
        for (panel, from) in self.b.rows.chunks_exact(self.b.k).zip((0..self.b.n).step_by(PANEL)) {
            let mut first = 0;
            while first < PANEL && from + first < self.b.n {
                let columns = (self.b.n - from - first).min(width);
                let at = Place { panel, first, column: from + first, columns };
                let mut i = 0;
                while i < self.a.m {
                    let rows = (self.a.m - i).min(R);
                    if self.a.by_columns {
                        self.tile_of::<S, V, true>(simd, rows, i, at);
                    } else {
                        self.tile_of::<S, V, false>(simd, rows, i, at);
                    }
                    i += rows;
                }
                first += width;
            }
        }
    }

    /// The number of rows as a constant of the code.
    #[inline(always)]
    fn tile_of<S: Simd, const V: usize, const C: bool>(
        &mut self,
        simd: S,
        rows: usize,
        i: usize,
        at: Place<'_>,
    ) {
        match rows {
            12 => self.tile::<S, 12, V, C>(simd, i, at),
            11 => self.tile::<S, 11, V, C>(simd, i, at),
            10 => self.tile::<S, 10, V, C>(simd, i, at),
            9 => self.tile::<S, 9, V, C>(simd, i, at),
            8 => self.tile::<S, 8, V, C>(simd, i, at),
            7 => self.tile::<S, 7, V, C>(simd, i, at),
            6 => self.tile::<S, 6, V, C>(simd, i, at),
            5 => self.tile::<S, 5, V, C>(simd, i, at),
            4 => self.tile::<S, 4, V, C>(simd, i, at),
            3 => self.tile::<S, 3, V, C>(simd, i, at),
            2 => self.tile::<S, 2, V, C>(simd, i, at),
            _ => self.tile::<S, 1, V, C>(simd, i, at),
        }
    }

    /// Rows `i` to `i + R` of the columns at `at`.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize, const C: bool>(
        &mut self,
        simd: S,
        i: usize,
        at: Place<'_>,
    ) {
        let Place { panel, first, column, columns } = at;
        let width = V * S::F32_LANES;
        let mut ends = [0.0; PANEL];
        if let Start::Bias(bias) = self.start {
            ends[..columns].copy_from_slice(&bias[column..][..columns]);
        }
        let mut sums = [vectors::<S, V>(simd, &ends, 0); R];
        let Left { values, stride, .. } = self.a;
        if C {
            for (b, a) in panel.iter().zip(values[i..].chunks(stride)) {
                let b = vectors::<S, V>(simd, b, first);
                // Always there; a `break` lets the sums stay in registers, as a panic would not.
                let Some(a) = a.first_chunk::<R>() else { break };
                for r in 0..R {
                    let a = simd.splat_f32s(a[r]);
                    for j in 0..V {
                        sums[r][j] = simd.mul_add_e_f32s(a, b[j], sums[r][j]);
                    }
                }
            }
        } else {
            let k = panel.len();
            let rows: [&[f32]; R] = std::array::from_fn(|r| &values[(i + r) * stride..][..k]);
            for (p, b) in panel.iter().enumerate() {
                let b = vectors::<S, V>(simd, b, first);
                for r in 0..R {
                    let a = simd.splat_f32s(rows[r][p]);
                    for j in 0..V {
                        sums[r][j] = simd.mul_add_e_f32s(a, b[j], sums[r][j]);
                    }
                }
            }
        }
        let adds = matches!(self.start, Start::Sum);
        for r in 0..R {
            let c = &mut self.c[(i + r) * self.stride + column..][..columns];
            if columns == width {
                let (c, _) = S::as_mut_simd_f32s(c);
                for j in 0..V {
                    c[j] = if adds { simd.add_f32s(c[j], sums[r][j]) } else { sums[r][j] };
                }
            } else {
                let (out, _) = S::as_mut_simd_f32s(&mut ends);
                for j in 0..V {
                    out[j] = sums[r][j];
                }
                for (c, sum) in c.iter_mut().zip(ends) {
                    *c = if adds { *c + sum } else { sum };
                }
            }
        }
    }
}

/// `V` vectors of a panel's row, from column `first` on.
#[inline(always)]
fn vectors<S: Simd, const V: usize>(simd: S, row: &[f32; PANEL], first: usize) -> [S::f32s; V] {
    let (row, _) = S::as_simd_f32s(&row[first..first + V * S::F32_LANES]);
    let mut out = [simd.splat_f32s(0.0); V];
    for j in 0..V {
        out[j] = row[j];
    }
    out
}

/// Columns of *C* that one tile fills.
#[derive(Clone, Copy)]
struct Place<'a> {
    panel: &'a [[f32; PANEL]],
    /// The first of them within the panel, and within *C*.
    first: usize,
    column: usize,
    columns: usize,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::Key;

    fn numbers(key: u64, len: usize) -> Vec<f32> {
        let key = Key::new(key);
        (0..len as u64).map(|i| key.normal(i) as f32).collect()
    }

    /// The product by its definition, and what its terms add up to without their signs.
    fn defined(a: &[f32], b: &[f32], k: usize, (i, j): (usize, usize), n: usize) -> (f64, f64) {
        let term = |p: usize| f64::from(a[i * k + p]) * f64::from(b[p * n + j]);
        ((0..k).map(term).sum(), (0..k).map(|p| term(p).abs()).sum())
    }

    fn turned(a: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        (0..columns).flat_map(|j| (0..rows).map(move |i| a[i * columns + j])).collect()
    }

    /// Each level of instructions that the processor has.
    fn levels() -> Vec<fn(Product<'_>)> {
        let mut levels: Vec<fn(Product<'_>)> =
            vec![|op| Simd::vectorize(pulp::Scalar, op), |op| vectorized(op)];
        #[cfg(target_arch = "x86_64")]
        if pulp::x86::V3::try_new().is_some() {
            levels.push(|op| Simd::vectorize(pulp::x86::V3::try_new().expect("seen"), op));
        }
        levels
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// For every level of instructions, layout, and start.
        #[test]
        fn products_are_those_of_the_definition(
            m in 1_usize..40, k in 1_usize..50, n in 1_usize..80,
        ) {
            let (a, b, bias) = (numbers(1, m * k), numbers(2, k * n), numbers(3, n));
            let (a_turned, b_turned) = (turned(&a, m, k), turned(&b, k, n));
            let lefts = [Left::rows(&a, k, m), Left::columns(&a_turned, m, m)];
            let rights = [Panels::new(&b, n, k, n), Panels::transposed(&b_turned, k, k, n)];
            for (a_, b_) in lefts.iter().flat_map(|a| rights.iter().map(move |b| (a, b))) {
                for start in [Start::Nothing, Start::Bias(&bias), Start::Sum] {
                    for level in levels() {
                        let mut c = vec![1.0; m * n];
                        level(Product { a: *a_, b: b_, start, c: &mut c, stride: n });
                        for (at, &c) in c.iter().enumerate() {
                            let (i, j) = (at / n, at % n);
                            let (sum, size) = defined(&a, &b, k, (i, j), n);
                            let first = match start {
                                Start::Nothing => 0.0,
                                Start::Bias(bias) => f64::from(bias[j]),
                                Start::Sum => 1.0,
                            };
                            // Each of k + 1 additions rounds by 2⁻²⁴ of what is there at most.
                            let bound = (k + 1) as f64 * 6e-8 * (size + first.abs());
                            prop_assert!((f64::from(c) - first - sum).abs() <= bound);
                        }
                    }
                }
            }
        }

        /// To the bit, on which predictions row by row and in batches rely.
        #[test]
        fn a_row_does_not_depend_on_how_many_others_there_are(m in 2_usize..40, n in 1_usize..80) {
            let k = 37;
            let (a, b) = (numbers(1, m * k), Panels::new(&numbers(2, k * n), n, k, n));
            let mut all = vec![0.0; m * n];
            product(Left::rows(&a, k, m), &b, Start::Nothing, &mut all, n);
            for i in 0..m {
                let mut one = vec![0.0; n];
                product(Left::rows(&a[i * k..], k, 1), &b, Start::Nothing, &mut one, n);
                prop_assert_eq!(&all[i * n..][..n], &one[..]);
            }
        }
    }
}
