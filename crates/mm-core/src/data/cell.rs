//! Cells as readers give them, and what columns of any role do with them.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
};

use crate::{
    data::{
        number::{self, Parsed},
        schema::{Levels, Quoted},
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

/// Distinct texts, numbered as they come.
#[derive(Debug, Clone, Default)]
pub(super) struct Interner {
    pub(super) codes: HashMap<Box<str>, u32, Seeded>,
}

/// Makes hashers with a random seed, so that no file can be written to collide. Nothing that is
/// returned depends on it.
#[derive(Debug, Clone)]
pub(super) struct Seeded(u64);

impl Default for Seeded {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Seeded {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

/// Hashes short texts, eight bytes at a time, by multiplying and folding the two halves of the
/// product (Wang 2019, "wyhash"). The standard hasher took a third of the time of reading a file.
#[derive(Debug)]
pub(super) struct Folded(u64);

impl Folded {
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9E37_79B9_7F4A_7C15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.fold(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    fn write_u8(&mut self, _end: u8) {} // The length, above, is the end of a text.

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Interner {
    pub(super) fn of(names: &[String]) -> Self {
        Self { codes: names.iter().map(|name| name.as_str().into()).zip(0..).collect() }
    }

    pub(super) fn intern(&mut self, text: &str) -> Result<u32, Bad> {
        if let Some(&code) = self.codes.get(text) {
            return Ok(code);
        }
        let code = self.codes.len();
        if code == Levels::MAX {
            return Err(Bad::new(format!("at most {code} levels"), "more"));
        }
        self.codes.insert(text.into(), code as u32);
        Ok(code as u32)
    }

    /// The names in the order of their codes.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names = vec![""; self.codes.len()];
        for (name, &code) in &self.codes {
            names[code as usize] = name;
        }
        names
    }

    /// The names in sorted order, and the place there of each code.
    pub(super) fn sorted(&self) -> (Vec<&str>, Vec<u32>) {
        let mut pairs: Vec<(&str, u32)> = self.codes.iter().map(|(n, &c)| (&**n, c)).collect();
        pairs.sort_unstable();
        let mut places = vec![0; pairs.len()];
        for (place, &(_, code)) in pairs.iter().enumerate() {
            places[code as usize] = place as u32;
        }
        (pairs.into_iter().map(|(name, _)| name).collect(), places)
    }

    /// Takes in the names of `next`, and says what its codes are here.
    pub(super) fn append(&mut self, next: &Self) -> Result<Vec<u32>, Bad> {
        next.names().into_iter().map(|name| self.intern(name)).collect()
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
