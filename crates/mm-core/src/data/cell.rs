//! Cells as readers give them, and what columns of any role do with them.

use std::{borrow::Cow, fmt};

use crate::{
    data::{
        number::{self, Parsed},
        schema::Quoted,
        time,
    },
    error::Error,
};

/// One cell as a source gives it. Empty text and NaN are missing, too.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "arrow"), expect(dead_code, reason = "text sources give text only"))]
pub(super) enum Cell<'a> {
    Missing,
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(&'a str),
    /// Nanoseconds since the Unix epoch.
    Moment(i64),
}

/// A column of a source.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) given: Given,
}

/// What a source says of a column's type; the text is its own name for it.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "arrow"), expect(dead_code, reason = "text sources have no types"))]
pub(super) enum Given {
    /// Nothing: the cells are text.
    Untyped,
    Numeric(String),
    Levels(String),
    Moment(String),
    /// No cell of this type can be read.
    Unreadable(String),
}

/// Why a cell cannot be used.
#[derive(Debug, Clone)]
pub(super) struct Bad {
    pub(super) expected: Cow<'static, str>,
    pub(super) got: String,
}

impl Bad {
    pub(super) fn new(expected: impl Into<Cow<'static, str>>, got: impl fmt::Display) -> Self {
        Self { expected: expected.into(), got: got.to_string() }
    }
}

/// Names places: "flights.csv, line 17, column `distance`".
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) source: String,
    pub(super) unit: &'static str,
}

impl Origin {
    pub(super) fn error(&self, at: u64, column: &str, bad: Bad) -> Error {
        let place = format!("{}, {} {at}, column `{column}`", self.source, self.unit);
        Error::data(place, bad.expected, bad.got)
    }

    /// Why a column is text, from the first cell that is no number.
    pub(super) fn reason(&self, odd: Option<(u64, String)>) -> Option<String> {
        odd.map(|(at, cell)| format!("{cell} on {} {at} is no number", self.unit))
    }

    pub(super) fn column(&self, column: &str) -> String {
        format!("{}, column `{column}`", self.source)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) missing: Vec<String>,
    pub(super) time_unit: Option<time::TimeUnit>,
}

impl Rules {
    pub(super) fn clean<'a>(&self, cell: Cell<'a>) -> Cell<'a> {
        match cell {
            Cell::Text(text) if text.is_empty() || self.missing.iter().any(|m| m == text) => {
                Cell::Missing
            }
            Cell::Number(x) if x.is_nan() => Cell::Missing,
            other => other,
        }
    }
}

/// A column's name and its position in the source.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) from: usize,
}

impl Named {
    pub(super) fn new(fields: &[Field], from: usize) -> Self {
        Self { name: fields[from].name.clone(), from }
    }
}

pub(super) fn parse(cell: Cell<'_>) -> Parsed {
    match cell {
        Cell::Missing | Cell::Moment(_) => Parsed::NotANumber,
        Cell::Bool(b) => Parsed::Finite(f64::from(b)),
        Cell::Integer(i) => Parsed::Finite(i as f64),
        Cell::Number(x) if x.is_finite() => Parsed::Finite(x),
        Cell::Number(_) => Parsed::Infinite,
        Cell::Text(text) => number::parse(text),
    }
}

pub(super) fn number_of(cell: Cell<'_>) -> Result<f64, Bad> {
    match parse(cell) {
        Parsed::Finite(x) => Ok(x),
        Parsed::Infinite => Err(Bad::new("a finite number", shown(cell))),
        Parsed::NotANumber => Err(Bad::new("a number", shown(cell))),
    }
}

/// A cell for a message.
pub(super) fn shown(cell: Cell<'_>) -> String {
    match cell {
        Cell::Missing => "a missing cell".to_owned(),
        Cell::Text(text) => Quoted(text).to_string(),
        other => text_of(other).into_owned(),
    }
}

pub(super) fn text_of(cell: Cell<'_>) -> Cow<'_, str> {
    match cell {
        Cell::Missing => "".into(),
        Cell::Bool(b) => if b { "true" } else { "false" }.into(),
        Cell::Integer(i) => i.to_string().into(),
        Cell::Number(x) => format!("{x:?}").into(),
        Cell::Text(text) => text.into(),
        Cell::Moment(nanos) => time::format(nanos).into(),
    }
}
