//! Frames and matrices from `ndarray` arrays, and back; without a copy where the layout allows.

use std::sync::Arc;

use ndarray::{ArcArray2, Array2, ArrayView2};

use crate::{
    data::{frame::Frame, matrix::Matrix, schema::Schema},
    error::{Error, Result},
};

/// Shared storage in standard layout.
struct Shared(ArcArray2<f32>);

impl AsRef<[f32]> for Shared {
    fn as_ref(&self) -> &[f32] {
        self.0.as_slice().expect("`from_shared_array` checked the layout")
    }
}

impl Frame {
    /// A frame over an array of shape (*n*, *p*). Nothing is copied if the array is in standard
    /// (row-major) layout; else once, O(*np*).
    ///
    /// ```
    /// use mm_core::{Frame, Schema, ndarray::array};
    ///
    /// let x = Frame::from_array(array![[1.0, 2.0], [3.0, 4.0]], Schema::numeric(2))?;
    /// assert_eq!(x.row(1), [3.0, 4.0]);
    /// # Ok::<(), mm_core::Error>(())
    /// ```
    pub fn from_array(array: Array2<f32>, schema: Schema) -> Result<Self> {
        Self::from_shared_array(array.into_shared(), schema)
    }

    /// A frame over an array of shape (*n*, *p*) that is shared with the caller. Nothing is copied
    /// if the array is in standard (row-major) layout; else once, O(*np*).
    pub fn from_shared_array(array: ArcArray2<f32>, schema: Schema) -> Result<Self> {
        check_width(array.ncols(), &schema)?;
        if array.as_slice().is_none() {
            return Self::from_view(&array.view(), schema);
        }
        Self::from_shared(Arc::new(Shared(array)), schema)
    }

    /// A frame with a copy of a view of shape (*n*, *p*), whatever its strides. O(*np*).
    pub fn from_view(view: &ArrayView2<'_, f32>, schema: Schema) -> Result<Self> {
        check_width(view.ncols(), &schema)?;
        Self::with_schema(view.iter().copied().collect(), schema)
    }

    /// A frame with the values of a view of shape (*n*, *p*), whatever its strides, rounded to
    /// `f32`. A finite value beyond the range of `f32` is an error that names its place. O(*np*).
    pub fn from_view_f64(view: &ArrayView2<'_, f64>, schema: Schema) -> Result<Self> {
        check_width(view.ncols(), &schema)?;
        let values: Vec<f32> = view.iter().map(|&x| x as f32).collect();
        let lost = view.iter().zip(&values).position(|(x, y)| x.is_finite() && y.is_infinite());
        if let Some(at) = lost {
            let (i, j) = (at / view.ncols(), at % view.ncols());
            let place = format!("row {i}, {}", schema.columns()[j]);
            return Err(Error::data(place, "a number within the range of `f32`", view[[i, j]]));
        }
        Self::with_schema(values, schema)
    }

    /// The values as an array of shape (*n*, *p*), borrowed; `None` if they do not lie in one
    /// piece, as in a view made by [`take`](Frame::take).
    pub fn view(&self) -> Option<ArrayView2<'_, f32>> {
        let shape = (self.n_rows(), self.n_cols());
        ArrayView2::from_shape(shape, self.as_slice()?).ok()
    }
}

impl Matrix {
    /// A matrix of the values of an array of shape (*n*, *k*), *k* at least 1. Nothing is copied
    /// if the array is in standard (row-major) layout.
    pub fn from_array(array: Array2<f64>) -> Result<Self> {
        let (n_cols, len) = (array.ncols(), array.len());
        let values = if array.is_standard_layout() {
            // The array may be a part of a longer vector.
            let (mut values, first) = array.into_raw_vec_and_offset();
            let first = first.unwrap_or(0);
            values.truncate(first + len);
            values.drain(..first);
            values
        } else {
            array.iter().copied().collect()
        };
        Self::new(values, n_cols)
    }

    /// The values as an array of shape (*n*, *k*), borrowed.
    #[expect(clippy::missing_panics_doc, reason = "a matrix holds n × k values")]
    pub fn view(&self) -> ArrayView2<'_, f64> {
        let shape = (self.n_rows(), self.n_cols());
        ArrayView2::from_shape(shape, self.values()).expect("a matrix holds n × k values")
    }
}

/// Nothing is copied.
impl From<Matrix> for Array2<f64> {
    fn from(matrix: Matrix) -> Self {
        let shape = (matrix.n_rows(), matrix.n_cols());
        Self::from_shape_vec(shape, matrix.into_values()).expect("a matrix holds n × k values")
    }
}

fn check_width(got: usize, schema: &Schema) -> Result<()> {
    if got == schema.len() {
        return Ok(());
    }
    Err(Error::Columns { expected: schema.len(), got })
}

#[cfg(test)]
mod tests {
    use ndarray::{Axis, Slice, array};

    use super::*;

    #[test]
    fn arrays_in_standard_layout_are_not_copied() {
        let array = array![[1.0, 2.0], [3.0, 4.0]];
        let at = array.as_ptr();
        let frame = Frame::from_array(array, Schema::numeric(2)).expect("width 2");
        assert_eq!(frame.row(0).as_ptr(), at);
        assert_eq!(frame.view().expect("one piece").as_ptr(), at);

        let shared = array![[1.0, 2.0], [3.0, 4.0]].into_shared();
        let frame = Frame::from_shared_array(shared.clone(), Schema::numeric(2)).expect("width 2");
        assert_eq!(frame.row(0).as_ptr(), shared.as_ptr());

        let matrix = Matrix::new(vec![1.0, 2.0], 2).expect("valid");
        let at = matrix.values().as_ptr();
        let array: Array2<f64> = matrix.into();
        assert_eq!(array.as_ptr(), at);
        assert_eq!(Matrix::from_array(array).expect("valid").values().as_ptr(), at);
    }

    #[test]
    fn every_layout_shows_the_same_rows() {
        let array = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]];
        let expected = Frame::new(vec![9.0, 7.0, 6.0, 4.0], 2).expect("valid");
        // The last two rows from below, and the outer columns from the right: the macro `s!` would
        // hold `unsafe`.
        let rows = array.slice_axis(Axis(0), Slice::new(1, None, -1));
        let view = rows.slice_axis(Axis(1), Slice::new(0, None, -2));
        let schema = || Schema::numeric(2);
        assert_eq!(Frame::from_view(&view, schema()).expect("width 2"), expected);
        assert_eq!(Frame::from_array(view.to_owned(), schema()).expect("width 2"), expected);
        let transposed = view.t().to_owned().reversed_axes();
        assert!(!transposed.is_standard_layout());
        assert_eq!(Frame::from_array(transposed, schema()).expect("width 2"), expected);
        let doubles = view.mapv(f64::from);
        assert_eq!(Frame::from_view_f64(&doubles.view(), schema()).expect("width 2"), expected);
        assert!(Frame::from_view(&view, Schema::numeric(3)).is_err());

        let mut inner = array.mapv(f64::from);
        inner.slice_axis_inplace(Axis(0), Slice::from(1..2));
        assert_eq!(Matrix::from_array(inner).expect("valid").values(), [4.0, 5.0, 6.0]);
        let mut tall = array.mapv(f64::from).reversed_axes();
        tall.slice_axis_inplace(Axis(0), Slice::from(..1));
        assert_eq!(Matrix::from_array(tall).expect("valid").values(), [1.0, 4.0, 7.0]);
    }

    #[test]
    fn a_double_beyond_the_range_is_named() {
        let wide = array![[1.0, 2.0], [3.0, -1e300]];
        let error = Frame::from_view_f64(&wide.view(), Schema::numeric(2)).expect_err("too large");
        assert!(error.to_string().starts_with("row 1, numeric `f1`: expected a number within"));
        let infinite = array![[f64::NAN, f64::INFINITY]];
        assert!(Frame::from_view_f64(&infinite.view(), Schema::numeric(2)).is_ok());
    }

    #[test]
    fn a_picked_view_is_not_one_piece() {
        let frame = Frame::new(vec![1.0, 2.0, 3.0], 1).expect("valid").take(&[2, 0]);
        assert!(frame.view().is_none());
    }
}
