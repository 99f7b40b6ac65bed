//! Predictions: an (*n*, *k*) table of `f64`.

use crate::error::{Error, Result};

/// Predictions of shape (*n*, *k*): `f64`, row-major. What a column means stands in the
/// [`Signature`](crate::Signature) of the model that made it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matrix {
    values: Vec<f64>,
    n_cols: usize,
    n_rows: usize, // Invariant: `values.len() == n_rows * n_cols`.
}

impl Matrix {
    /// A matrix of zeros.
    pub fn zeros(n_rows: usize, n_cols: usize) -> Self {
        Self { values: vec![0.0; n_rows * n_cols], n_cols, n_rows }
    }

    /// A matrix of row-major values; their number must be a multiple of `n_cols`, which must not
    /// be 0.
    pub fn new(values: Vec<f64>, n_cols: usize) -> Result<Self> {
        if n_cols == 0 || !values.len().is_multiple_of(n_cols) {
            let expected = format!("a multiple of the width {n_cols}, itself at least 1");
            return Err(Error::data("length of the values", expected, values.len()));
        }
        let n_rows = values.len() / n_cols;
        Ok(Self { values, n_cols, n_rows })
    }

    /// Number of rows, *n*.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Number of columns, *k*.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// All values, row-major.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// All values, row-major, to be written.
    pub fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// The values, row-major.
    pub fn into_values(self) -> Vec<f64> {
        self.values
    }

    /// Row `i`, of length *k*.
    ///
    /// # Panics
    ///
    /// If `i` is not below *n*.
    pub fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.n_cols..(i + 1) * self.n_cols]
    }

    /// Row `i`, of length *k*, to be written.
    ///
    /// # Panics
    ///
    /// If `i` is not below *n*.
    pub fn row_mut(&mut self, i: usize) -> &mut [f64] {
        &mut self.values[i * self.n_cols..(i + 1) * self.n_cols]
    }

    /// The rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        (0..self.n_rows).map(|i| self.row(i))
    }

    /// Column `j` from top to bottom.
    ///
    /// # Panics
    ///
    /// If `j` is not below *k*.
    pub fn column(&self, j: usize) -> impl ExactSizeIterator<Item = f64> {
        assert!(j < self.n_cols, "column {j} of a matrix of {} columns", self.n_cols);
        self.rows().map(move |row| row[j])
    }

    /// The given rows, copied in the given order.
    ///
    /// # Panics
    ///
    /// If a row is not below *n*.
    #[must_use]
    pub fn take(&self, rows: &[usize]) -> Self {
        let values = rows.iter().flat_map(|&i| self.row(i).iter().copied()).collect();
        Self { values, n_cols: self.n_cols, n_rows: rows.len() }
    }
}
