//! Features: an (*n*, *p*) table of `f32`, row-major, with a schema.

use std::{borrow::Cow, fmt, sync::Arc};

use crate::{
    data::schema::{Column, ColumnKind, Levels, Schema},
    error::{Error, Result},
};

/// Features of shape (*n*, *p*): `f32`, row-major, NaN = missing.
///
/// A categorical cell holds a code into its column's dictionary, NaN if missing, or
/// [`Frame::UNKNOWN`] if its level is not in the dictionary.
///
/// Immutable; clones and views by row ([`take`](Frame::take), [`slice`](Frame::slice)) share the
/// values. Rows may carry timestamps (nanoseconds since the Unix epoch, UTC) and entity ids, which
/// time-ordered splitters and sequence models read and other models ignore.
#[derive(Clone)]
pub struct Frame {
    values: Values,
    rows: Rows,
    schema: Schema,
    times: Option<Arc<[i64]>>,    // Of length `n_rows`.
    entities: Option<Arc<[i64]>>, // Of length `n_rows`.
}

/// Row-major storage that somebody else may own.
type Values = Arc<dyn AsRef<[f32]> + Send + Sync>;

/// Which rows of the storage the frame shows.
#[derive(Clone)]
enum Rows {
    Span { first: usize, len: usize },
    Picked(Arc<[usize]>),
}

impl Frame {
    /// The code of a level that the dictionary does not have.
    pub const UNKNOWN: f32 = -1.0;

    /// A frame of `n_cols` numeric columns named `f0`, `f1`, …, without copying.
    pub fn new(values: Vec<f32>, n_cols: usize) -> Result<Self> {
        Self::with_schema(values, Schema::numeric(n_cols))
    }

    /// A frame with named and typed columns, without copying.
    ///
    /// The length must be a multiple of the width, and each categorical cell a code of its
    /// dictionary, NaN, or [`Frame::UNKNOWN`].
    pub fn with_schema(values: Vec<f32>, schema: Schema) -> Result<Self> {
        Self::from_shared(Arc::new(values), schema)
    }

    /// A frame over storage that is shared with the caller: a memory map, a buffer of another
    /// library, an `Arc` of anything that lends a slice. Nothing is copied.
    ///
    /// The owner must lend the same slice each time.
    pub fn from_shared(
        values: Arc<dyn AsRef<[f32]> + Send + Sync>,
        schema: Schema,
    ) -> Result<Self> {
        let (len, width) = ((*values).as_ref().len(), schema.len());
        if width == 0 {
            return Err(Error::data("frame", "at least 1 column", "0 columns"));
        }
        if !len.is_multiple_of(width) {
            let expected = format!("a multiple of its width, {width}");
            return Err(Error::data("length of the values", expected, len));
        }
        let rows = Rows::Span { first: 0, len: len / width };
        let frame = Self { values, rows, schema, times: None, entities: None };
        frame.check_codes()?;
        Ok(frame)
    }

    /// Attaches a timestamp to each row: nanoseconds since the Unix epoch, UTC.
    pub fn with_times(mut self, times: Vec<i64>) -> Result<Self> {
        self.check_length("timestamps", times.len())?;
        self.times = Some(times.into());
        Ok(self)
    }

    /// Attaches an entity id to each row: rows of one entity form one series.
    pub fn with_entities(mut self, entities: Vec<i64>) -> Result<Self> {
        self.check_length("entity ids", entities.len())?;
        self.entities = Some(entities.into());
        Ok(self)
    }

    /// The same with the timestamps and entities of `other`, of as many rows, where it has none.
    pub(crate) fn or_stamps_of(self, other: &Self) -> Self {
        let times = self.times.or_else(|| other.times.clone());
        let entities = self.entities.or_else(|| other.entities.clone());
        Self { times, entities, ..self }
    }

    /// Number of rows, *n*.
    pub fn n_rows(&self) -> usize {
        match &self.rows {
            Rows::Span { len, .. } => *len,
            Rows::Picked(rows) => rows.len(),
        }
    }

    /// Number of columns, *p*.
    pub fn n_cols(&self) -> usize {
        self.schema.len()
    }

    /// The columns' names and types.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The timestamps, if there are any: nanoseconds since the Unix epoch, UTC.
    pub fn times(&self) -> Option<&[i64]> {
        self.times.as_deref()
    }

    /// The entity ids, if there are any.
    pub fn entities(&self) -> Option<&[i64]> {
        self.entities.as_deref()
    }

    /// Row `i`, of length *p*.
    ///
    /// # Panics
    ///
    /// If `i` is not below *n*.
    pub fn row(&self, i: usize) -> &[f32] {
        let at = match &self.rows {
            Rows::Span { first, len } => {
                assert!(i < *len, "row {i} of a frame of {len} rows");
                first + i
            }
            Rows::Picked(rows) => rows[i],
        };
        let width = self.n_cols();
        &(*self.values).as_ref()[at * width..(at + 1) * width]
    }

    /// The rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        (0..self.n_rows()).map(|i| self.row(i))
    }

    /// Column `j` from top to bottom.
    ///
    /// # Panics
    ///
    /// If `j` is not below *p*.
    pub fn column(&self, j: usize) -> impl ExactSizeIterator<Item = f32> {
        assert!(j < self.n_cols(), "column {j} of a frame of {} columns", self.n_cols());
        self.rows().map(move |row| row[j])
    }

    /// All values, row-major, if they lie in one piece: always, unless the frame is a view made
    /// by [`take`](Frame::take).
    pub fn as_slice(&self) -> Option<&[f32]> {
        let width = self.n_cols();
        match &self.rows {
            Rows::Span { first, len } => {
                Some(&(*self.values).as_ref()[first * width..(first + len) * width])
            }
            Rows::Picked(_) => None,
        }
    }

    /// The rows in order, in pieces that lie in memory one row after another: each a row-major
    /// slice of one or more whole rows, as long as can be. One piece where
    /// [`as_slice`](Frame::as_slice) has one; none of a frame without rows.
    pub fn runs(&self) -> impl Iterator<Item = &[f32]> {
        let (values, width) = ((*self.values).as_ref(), self.n_cols());
        let mut next = 0;
        std::iter::from_fn(move || {
            let start = next;
            let first = match &self.rows {
                Rows::Span { first, len } => {
                    next = *len;
                    first + start
                }
                Rows::Picked(rows) => {
                    let first = *rows.get(start)?;
                    let follows = |&(i, &row): &(usize, &usize)| row == first + i;
                    next += rows[start..].iter().enumerate().take_while(follows).count();
                    first
                }
            };
            (start < next).then(|| &values[first * width..(first + next - start) * width])
        })
    }

    /// All values, row-major: borrowed where they lie in one piece, else copied.
    pub fn values(&self) -> Cow<'_, [f32]> {
        self.as_slice().map_or_else(
            || Cow::Owned(self.rows().flat_map(|row| row.iter().copied()).collect()),
            Cow::Borrowed,
        )
    }

    /// A view of the rows `first..first + len`. Shares the values.
    ///
    /// # Panics
    ///
    /// If the span reaches beyond the frame.
    #[must_use]
    pub fn slice(&self, first: usize, len: usize) -> Self {
        let n = self.n_rows();
        assert!(first <= n && len <= n - first, "{len} rows from {first} of a frame of {n} rows");
        let rows = match &self.rows {
            Rows::Span { first: start, .. } => Rows::Span { first: start + first, len },
            Rows::Picked(rows) => Rows::Picked(rows[first..first + len].into()),
        };
        let cut =
            |column: &Option<Arc<[i64]>>| column.as_ref().map(|all| all[first..first + len].into());
        let (times, entities) = (cut(&self.times), cut(&self.entities));
        Self { rows, times, entities, ..self.clone() }
    }

    /// A view of the given rows, in the given order; a row may occur more than once. Shares the
    /// values: O(rows) memory whatever the width.
    ///
    /// # Panics
    ///
    /// If a row is not below *n*.
    #[must_use]
    pub fn take(&self, rows: &[usize]) -> Self {
        let n = self.n_rows();
        if let Some(bad) = rows.iter().find(|&&row| n <= row) {
            panic!("row {bad} of a frame of {n} rows");
        }
        let consecutive = rows.windows(2).all(|pair| pair[1] == pair[0] + 1);
        if let (true, Some(&first)) = (consecutive, rows.first()) {
            return self.slice(first, rows.len());
        }
        let picked = match &self.rows {
            Rows::Span { first, .. } => rows.iter().map(|&row| first + row).collect(),
            Rows::Picked(all) => rows.iter().map(|&row| all[row]).collect(),
        };
        let pick =
            |column: Option<&[i64]>| column.map(|all| rows.iter().map(|&row| all[row]).collect());
        let (times, entities) = (pick(self.times()), pick(self.entities()));
        Self { rows: Rows::Picked(picked), times, entities, ..self.clone() }
    }

    /// The same rows under `schema`: names and kinds must agree column by column, and categorical
    /// codes are translated by level name, levels that `schema` lacks becoming
    /// [`Frame::UNKNOWN`]. Borrows where nothing changes.
    pub fn conform(&self, schema: &Schema) -> Result<Cow<'_, Self>> {
        if self.schema.same(schema) {
            return Ok(Cow::Borrowed(self));
        }
        if self.n_cols() != schema.len() {
            return Err(Error::Columns { expected: schema.len(), got: self.n_cols() });
        }
        let mut tables = Vec::with_capacity(schema.len());
        let pairs = schema.columns().iter().zip(self.schema.columns());
        for (index, (expected, got)) in pairs.enumerate() {
            let table = match (&expected.kind, &got.kind) {
                _ if expected.name != got.name => None,
                (ColumnKind::Numeric, ColumnKind::Numeric) => Some(None),
                (ColumnKind::Categorical(to), ColumnKind::Categorical(from)) if to == from => {
                    Some(None)
                }
                (ColumnKind::Categorical(to), ColumnKind::Categorical(from)) => {
                    let code = |name: &String| to.code(name).map_or(Self::UNKNOWN, |c| c as f32);
                    Some(Some(from.names().iter().map(code).collect::<Vec<f32>>()))
                }
                _ => None,
            };
            let Some(table) = table else {
                let (expected, got) = (expected.to_string(), got.to_string());
                return Err(Error::Column { index, expected, got });
            };
            tables.push(table);
        }
        if tables.iter().all(Option::is_none) {
            return Ok(Cow::Owned(Self { schema: schema.clone(), ..self.clone() }));
        }
        let mut values = self.values().into_owned();
        for row in values.chunks_exact_mut(schema.len()) {
            for (cell, table) in row.iter_mut().zip(&tables) {
                if let Some(table) = table
                    && 0.0 <= *cell
                {
                    *cell = table[*cell as usize]; // `check_codes` guarantees the range.
                }
            }
        }
        Ok(Cow::Owned(Self {
            values: Arc::new(values),
            rows: Rows::Span { first: 0, len: self.n_rows() },
            schema: schema.clone(),
            ..self.clone()
        }))
    }

    /// Refuses infinite cells, naming the first.
    pub fn ensure_finite(&self) -> Result<()> {
        for (i, row) in self.rows().enumerate() {
            if let Some(j) = row.iter().position(|x| x.is_infinite()) {
                let place = format!("row {i}, {}", self.schema.columns()[j]);
                return Err(Error::data(place, "a finite number or NaN (missing)", row[j]));
            }
        }
        Ok(())
    }

    fn check_length(&self, what: &str, got: usize) -> Result<()> {
        if got == self.n_rows() {
            return Ok(());
        }
        Err(Error::data(format_args!("length of the {what}"), self.n_rows(), got))
    }

    fn check_codes(&self) -> Result<()> {
        let coded: Vec<(usize, &Column, &Levels)> = (self.schema.columns().iter().enumerate())
            .filter_map(|(j, column)| Some((j, column, column.levels()?)))
            .collect();
        if coded.is_empty() {
            return Ok(());
        }
        for (i, row) in self.rows().enumerate() {
            for &(j, column, levels) in &coded {
                if !levels.admits(row[j]) {
                    return Err(levels.refuse(format_args!("row {i}, {column}"), row[j]));
                }
            }
        }
        Ok(())
    }
}

/// Equality by schema, order, and bits of the values, so that NaN equals NaN.
impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.schema.same(&other.schema)
            && self.n_rows() == other.n_rows()
            && self.times == other.times
            && self.entities == other.entities
            && self
                .rows()
                .zip(other.rows())
                .all(|(a, b)| a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits()))
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} rows × {} columns)", self.n_rows(), self.n_cols())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn city(levels: &[&str]) -> Schema {
        let levels = Levels::new(levels.iter().copied()).expect("distinct");
        Schema::new([Column::numeric("x"), Column::categorical("city", levels)]).expect("distinct")
    }

    #[test]
    fn a_ragged_length_is_refused() {
        let err = Frame::new(vec![0.0; 7], 3).expect_err("7 is no multiple of 3");
        let text = "length of the values: expected a multiple of its width, 3, got 7";
        assert_eq!(err.to_string(), text);
        assert!(Frame::new(vec![], 0).is_err());
        assert_eq!(Frame::new(vec![], 3).expect("no rows").n_rows(), 0);
    }

    #[test]
    fn codes_outside_the_dictionary_are_refused() {
        for bad in [2.0, 0.5, -2.0, f32::INFINITY] {
            let err = Frame::with_schema(vec![0.0, bad], city(&["a", "b"])).expect_err("no code");
            assert!(err.to_string().starts_with("row 0, categorical `city`"), "{err}");
        }
        let kept = vec![0.0, f32::NAN, 1.0, Frame::UNKNOWN];
        assert!(Frame::with_schema(kept, city(&["a", "b"])).is_ok());
    }

    #[test]
    fn conforming_translates_levels_by_name() {
        let cells = vec![0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, f32::NAN, 4.0, -1.0];
        let ours = Frame::with_schema(cells, city(&["a", "b", "c"])).expect("valid");
        let theirs = ours.conform(&city(&["c", "a"])).expect("same names");
        let codes: Vec<f32> = theirs.column(1).collect();
        assert_eq!(codes[..3], [1.0, Frame::UNKNOWN, 0.0]);
        assert!(codes[3].is_nan());
        assert_eq!(codes[4], Frame::UNKNOWN);
        assert_eq!(theirs.column(0).collect::<Vec<_>>(), [0.0, 1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn conforming_refuses_another_width_name_order_or_type() {
        let frame = Frame::new(vec![0.0, 1.0], 2).expect("valid");
        let other = |names: [&str; 2]| Schema::new(names.map(Column::numeric)).expect("distinct");
        let err = frame.conform(&Schema::numeric(3)).expect_err("width");
        assert_eq!(err.to_string(), "expected 3 feature columns, got 2");
        let err = frame.conform(&other(["f1", "f0"])).expect_err("order");
        assert_eq!(err.to_string(), "column 0 must be numeric `f1`, got numeric `f0`");
        let typed = Schema::new([
            Column::numeric("f0"),
            Column::categorical("f1", Levels::new(["a"]).expect("distinct")),
        ]);
        let err = frame.conform(&typed.expect("distinct")).expect_err("type");
        assert_eq!(err.to_string(), "column 1 must be categorical `f1`, got numeric `f1`");
    }

    #[test]
    fn infinities_are_named() {
        let frame = Frame::new(vec![0.0, 1.0, 2.0, f32::NEG_INFINITY], 2).expect("valid");
        let text = "row 1, numeric `f1`: expected a finite number or NaN (missing), got -inf";
        assert_eq!(frame.ensure_finite().expect_err("infinite").to_string(), text);
    }

    proptest! {
        /// A view of a view shows the rows that indexing twice would show.
        #[test]
        fn views_compose(
            n in 1_usize..30,
            first in prop::collection::vec(0_usize..1000, 1..40),
            second in prop::collection::vec(0_usize..1000, 0..40),
        ) {
            let values: Vec<f32> = (0..2 * n).map(|i| i as f32).collect();
            let times: Vec<i64> = (0..n as i64).collect();
            let frame = Frame::new(values, 2).expect("valid").with_times(times).expect("length");
            let first: Vec<usize> = first.iter().map(|r| r % n).collect();
            let second: Vec<usize> = second.iter().map(|r| r % first.len()).collect();
            let both: Vec<usize> = second.iter().map(|&r| first[r]).collect();
            let (twice, once) = (frame.take(&first).take(&second), frame.take(&both));
            prop_assert_eq!(twice.values(), once.values());
            prop_assert_eq!(twice.times(), once.times());
            let expected: Vec<i64> = both.iter().map(|&r| r as i64).collect();
            prop_assert_eq!(once.times(), Some(&expected[..]));
        }

        /// Runs are the rows, cut only where a row does not follow the one before.
        #[test]
        fn runs_are_the_rows_in_the_fewest_pieces(
            n in 1_usize..9, picks in prop::collection::vec(0_usize..99, 0..20),
        ) {
            let frame = Frame::new((0..2 * n).map(|i| i as f32).collect(), 2).expect("valid");
            let rows: Vec<usize> = picks.iter().map(|p| p % n).collect();
            let view = frame.take(&rows);
            let together: Vec<f32> = view.runs().flatten().copied().collect();
            prop_assert_eq!(&together[..], &view.values()[..]);
            let cuts = rows.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
            prop_assert_eq!(view.runs().count(), cuts + usize::from(!rows.is_empty()));
        }

        /// A slice is the take of its rows.
        #[test]
        fn slices_are_takes(n in 1_usize..20, a in 0_usize..20, b in 0_usize..20) {
            let frame = Frame::new((0..3 * n).map(|i| i as f32).collect(), 3).expect("valid");
            let (a, b) = (a.min(n), b.min(n));
            let (low, high) = (a.min(b), a.max(b));
            let rows: Vec<usize> = (low..high).collect();
            prop_assert_eq!(frame.slice(low, high - low), frame.take(&rows));
        }
    }
}
