//! Column names, types, and categorical dictionaries.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    data::number::{self, Parsed},
    error::{Error, Result},
};

/// The levels of a categorical column: a code is a position in this list.
///
/// Immutable and cheap to clone. [`code`](Levels::code) is a binary search: O(log *k*) string
/// comparisons for *k* levels.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Levels {
    names: Arc<[String]>,
    by_name: Arc<[u32]>, // Invariant: a permutation of 0..names.len() that sorts `names`.
}

impl Levels {
    /// The most levels that one column may have: codes are stored in `f32`, exact up to 2²⁴.
    pub const MAX: usize = 1 << 24;

    /// A dictionary in the given order. Repeated names and more than [`Levels::MAX`] are refused.
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Result<Self> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        if names.len() > Self::MAX {
            return Err(Error::data("levels", format!("at most {}", Self::MAX), names.len()));
        }
        let mut by_name: Vec<u32> = (0..names.len() as u32).collect();
        by_name.sort_by(|&a, &b| names[a as usize].cmp(&names[b as usize]));
        let repeated = by_name.windows(2).find(|w| names[w[0] as usize] == names[w[1] as usize]);
        if let Some(pair) = repeated {
            let name = &names[pair[0] as usize];
            return Err(Error::data("levels", "distinct names", format!("`{name}` twice")));
        }
        Ok(Self { names: names.into(), by_name: by_name.into() })
    }

    /// Number of levels.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no level at all, as in a column with only missing cells.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The code of `name`, or `None` if it is not in the dictionary.
    pub fn code(&self, name: &str) -> Option<u32> {
        let found = self.by_name.binary_search_by(|&c| self.names[c as usize].as_str().cmp(name));
        found.ok().map(|i| self.by_name[i])
    }

    /// The name of `code`.
    pub fn name(&self, code: u32) -> Option<&str> {
        self.names.get(code as usize).map(String::as_str)
    }

    /// Whether a cell may hold `x`: a code, NaN, or [`Frame::UNKNOWN`](crate::Frame::UNKNOWN).
    pub(crate) fn admits(&self, x: f32) -> bool {
        let is_code = 0.0 <= x && x < self.len() as f32 && x.fract() == 0.0;
        is_code || x.is_nan() || x == crate::Frame::UNKNOWN
    }

    /// An error that says what [`admits`](Levels::admits) would have.
    pub(crate) fn refuse(&self, place: impl fmt::Display, x: f32) -> Error {
        let expected = format!("a code below {}, NaN (missing) or -1 (unknown)", self.len());
        Error::data(place, expected, x)
    }

    /// All names, in code order.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

impl TryFrom<Vec<String>> for Levels {
    type Error = Error;

    fn try_from(names: Vec<String>) -> Result<Self> {
        Self::new(names)
    }
}

impl From<Levels> for Vec<String> {
    fn from(levels: Levels) -> Self {
        levels.names.to_vec()
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Levels({} of ", self.names.len())?;
        f.debug_list().entries(self.names.iter().take(8)).finish()?;
        f.write_str(")")
    }
}

/// What the cells of a column mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ColumnKind {
    /// A number; NaN is missing.
    Numeric,
    /// A code into the dictionary; NaN is missing and [`Frame::UNKNOWN`](crate::Frame::UNKNOWN)
    /// is a level that the dictionary does not have.
    Categorical(Levels),
}

/// Name and type of one column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Column {
    /// The name, unique in its schema.
    pub name: String,
    /// Numeric, or categorical with its dictionary.
    pub kind: ColumnKind,
}

impl Column {
    /// A numeric column.
    pub fn numeric(name: impl Into<String>) -> Self {
        Self { name: name.into(), kind: ColumnKind::Numeric }
    }

    /// A categorical column.
    pub fn categorical(name: impl Into<String>, levels: Levels) -> Self {
        Self { name: name.into(), kind: ColumnKind::Categorical(levels) }
    }

    /// The dictionary, if the column is categorical.
    pub fn levels(&self) -> Option<&Levels> {
        match &self.kind {
            ColumnKind::Numeric => None,
            ColumnKind::Categorical(levels) => Some(levels),
        }
    }

    /// Reads one cell of text as [`Frame`](crate::Frame) stores it: the empty string is missing
    /// (NaN), and a level outside the dictionary is [`Frame::UNKNOWN`](crate::Frame::UNKNOWN).
    pub fn parse(&self, text: &str) -> Result<f32> {
        match &self.kind {
            _ if text.is_empty() => Ok(f32::NAN),
            // By way of `f64`, as every reader does, so that a row and a file agree to the bit.
            ColumnKind::Numeric => match number::parse(text) {
                Parsed::Finite(x) if (x as f32).is_finite() => Ok(x as f32),
                _ => {
                    let place = format_args!("column `{}`", self.name);
                    Err(Error::data(place, "a finite number", Quoted(text)))
                }
            },
            ColumnKind::Categorical(levels) => {
                Ok(levels.code(text).map_or(crate::Frame::UNKNOWN, |code| code as f32))
            }
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.levels().is_some() { "categorical" } else { "numeric" };
        write!(f, "{kind} `{}`", self.name)
    }
}

/// The columns of a frame, in order.
///
/// Immutable and cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Column>", into = "Vec<Column>")]
pub struct Schema {
    columns: Arc<[Column]>,
}

impl Schema {
    /// A schema of the given columns. Repeated names are refused.
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Result<Self> {
        let columns: Arc<[Column]> = columns.into_iter().collect();
        let mut order: Vec<usize> = (0..columns.len()).collect();
        order.sort_by(|&a, &b| columns[a].name.cmp(&columns[b].name));
        if let Some(pair) = order.windows(2).find(|w| columns[w[0]].name == columns[w[1]].name) {
            let name = &columns[pair[0]].name;
            let got = format!("`{name}` at {} and {}", pair[0], pair[1]);
            return Err(Error::data("column names", "distinct names", got));
        }
        Ok(Self { columns })
    }

    /// `n_cols` numeric columns named `f0`, `f1`, …
    pub fn numeric(n_cols: usize) -> Self {
        Self { columns: (0..n_cols).map(|j| Column::numeric(format!("f{j}"))).collect() }
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there is no column.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// The columns, in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The position of the column called `name`.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// Whether both are one schema or say the same; O(1) for clones of one another.
    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.columns, &other.columns) || self == other
    }

    /// Reads one row of text cells, in column order, into `row`; see [`Column::parse`].
    pub fn parse_row<S: AsRef<str>>(&self, cells: &[S], row: &mut Vec<f32>) -> Result<()> {
        if cells.len() != self.len() {
            return Err(Error::Columns { expected: self.len(), got: cells.len() });
        }
        row.clear();
        for (column, cell) in self.columns.iter().zip(cells) {
            row.push(column.parse(cell.as_ref())?);
        }
        Ok(())
    }
}

impl TryFrom<Vec<Column>> for Schema {
    type Error = Error;

    fn try_from(columns: Vec<Column>) -> Result<Self> {
        Self::new(columns)
    }
}

impl From<Schema> for Vec<Column> {
    fn from(schema: Schema) -> Self {
        schema.columns.to_vec()
    }
}

impl fmt::Display for Schema {
    /// One line a column: position, name, type, number of levels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, column) in self.columns.iter().enumerate() {
            write!(f, "{index:>4}  {:<24} ", column.name)?;
            match column.levels() {
                None => writeln!(f, "numeric")?,
                Some(levels) => writeln!(f, "categorical, {} levels", levels.len())?,
            }
        }
        Ok(())
    }
}

/// Text from outside, shortened and escaped for a message.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut head: String = self.0.chars().take(40).collect();
        if head.len() < self.0.len() {
            head.push('…');
        }
        write!(f, "{head:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_a_position_and_names_find_it() {
        let levels = Levels::new(["red", "green", "blue"]).expect("distinct");
        for (code, name) in ["red", "green", "blue"].into_iter().enumerate() {
            assert_eq!(levels.code(name), Some(code as u32));
            assert_eq!(levels.name(code as u32), Some(name));
        }
        assert_eq!(levels.code("mauve"), None);
        assert_eq!(levels.name(3), None);
    }

    #[test]
    fn repeated_names_are_refused() {
        let err = Levels::new(["a", "b", "a"]).expect_err("twice");
        assert_eq!(err.to_string(), "levels: expected distinct names, got `a` twice");
        let err = Schema::new([Column::numeric("x"), Column::numeric("x")]).expect_err("twice");
        assert_eq!(err.to_string(), "column names: expected distinct names, got `x` at 0 and 1");
    }

    #[test]
    fn missing_and_unknown_are_kept_apart() {
        let levels = Levels::new(["JFK", "LGA"]).expect("distinct");
        let origin = Column::categorical("origin", levels);
        assert!(origin.parse("").expect("missing").is_nan());
        assert_eq!(origin.parse("EWR").expect("unknown"), crate::Frame::UNKNOWN);
        assert_eq!(origin.parse("LGA").expect("known"), 1.0);
    }

    #[test]
    fn numbers_are_rounded_by_way_of_doubles() {
        // Just above the middle of 1 and the next `f32`: nearest to the upper one, but the nearest
        // `f64` is the middle itself, which rounds to even.
        let text = "1.00000005960464477539062500000001";
        assert_eq!(Column::numeric("x").parse(text).expect("a number"), 1.0);
    }

    #[test]
    fn a_bad_number_is_quoted_and_shortened() {
        let err = Column::numeric("age").parse(&"x".repeat(50)).expect_err("text");
        let shown = format!("column `age`: expected a finite number, got \"{}…\"", "x".repeat(40));
        assert_eq!(err.to_string(), shown);
        for text in ["NaN", "inf", "1e39", "1e999", "0x10", "1 2"] {
            assert!(Column::numeric("age").parse(text).is_err(), "{text}");
        }
        assert_eq!(Column::numeric("age").parse(" 1e-3 ").expect("a number"), 0.001);
    }

    #[test]
    fn a_schema_survives_serde_and_refuses_a_bad_one() {
        let levels = Levels::new(["b", "a"]).expect("distinct");
        let columns = [Column::numeric("x"), Column::categorical("c", levels)];
        let schema = Schema::new(columns).expect("distinct");
        let text = serde_json::to_string(&schema).expect("writes");
        assert_eq!(serde_json::from_str::<Schema>(&text).expect("reads"), schema);
        let twice = text.replace("\"c\"", "\"x\"");
        assert!(serde_json::from_str::<Schema>(&twice).is_err());
    }
}
