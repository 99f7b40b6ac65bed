//! JSON as Python writes it: with `NaN`, `Infinity` and `-Infinity`, which the standard lacks.

use std::collections::BTreeMap;

/// A JSON value that may hold numbers which are not finite.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without a fraction or exponent that fits.
    Int(i64),
    /// Any other number, `NaN`, `Infinity`, `-Infinity`.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    Array(Vec<Json>),
    /// Values by name.
    Object(BTreeMap<String, Json>),
}
