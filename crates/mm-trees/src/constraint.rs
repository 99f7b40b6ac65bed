//! Constraints on columns, which params name and engines number.

use std::collections::BTreeMap;

use mm_core::{Column, Error, Result, Schema};
use serde::{Deserialize, Serialize};

/// Which way the prediction moves as a column grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Monotone {
    /// Never down.
    Increasing,
    /// Never up.
    Decreasing,
}

/// 1, 0, or −1 a column; `None` without a constraint.
pub(crate) fn signs(
    schema: &Schema,
    monotone: &BTreeMap<String, Monotone>,
) -> Result<Option<Vec<i8>>> {
    const PLACE: &str = "constraints.monotone";
    if monotone.is_empty() {
        return Ok(None);
    }
    let mut signs = vec![0; schema.len()];
    for (name, direction) in monotone {
        let j = position(schema, name, PLACE)?;
        let column = &schema.columns()[j];
        if column.levels().is_some() {
            return Err(Error::data(PLACE, "numeric columns", column));
        }
        signs[j] = match direction {
            Monotone::Increasing => 1,
            Monotone::Decreasing => -1,
        };
    }
    Ok(Some(signs))
}

#[cfg(any(feature = "lightgbm", feature = "xgboost"))]
/// The signs as both engines read them.
pub(crate) fn written(signs: &[i8]) -> Vec<String> {
    signs.iter().map(i8::to_string).collect()
}

#[cfg(any(feature = "lightgbm", feature = "xgboost"))]
/// The lists of columns that may interact, as positions; `None` without a constraint.
pub(crate) fn lists(
    schema: &Schema,
    interactions: &[Vec<String>],
) -> Result<Option<Vec<Vec<usize>>>> {
    if interactions.is_empty() {
        return Ok(None);
    }
    let place = "constraints.interactions";
    let list =
        |names: &Vec<String>| names.iter().map(|name| position(schema, name, place)).collect();
    interactions.iter().map(list).collect::<Result<_>>().map(Some)
}

/// The place of a column that params name at `place`.
pub(crate) fn position(schema: &Schema, name: &str, place: &str) -> Result<usize> {
    schema.position(name).ok_or_else(|| {
        let names: Vec<&str> = schema.columns().iter().map(|c: &Column| &*c.name).collect();
        let expected = format!("columns of the data ({})", names.join(", "));
        Error::data(place, expected, format!("`{name}`"))
    })
}
