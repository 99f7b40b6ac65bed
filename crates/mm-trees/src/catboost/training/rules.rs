//! What the params say of single columns: factors, penalties, and directions.
//!
//! Let *s* be the score of a split and *b* that of the tree without it. With the factors *w*, the
//! penalties *u* of first use and *r* of a row, and the scale *c*, all of them of the columns that the
//! split asks, the splits compete by
//!
//! ```text
//! (s − c Σ u − c Σ r · rows − b) · Π w
//! ```
//!
//! where *u* counts for columns that no split of the model has asked, and *rows* are those that no
//! split by the column has seen. In symmetric trees these are all rows drawn or none. Numbers are
//! `f32`, as in CatBoost 1.2.10.

use std::collections::BTreeMap;

use mm_core::{Result, Schema};
use serde::{Deserialize, Serialize};

use super::{
    params::{Constraints, Penalty},
    structure::Split,
    table::Table,
};
use crate::constraint;

/// The rules, by column of the frame.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    weights: Option<Vec<f32>>,
    first_use: Option<Vec<f32>>,
    per_row: Option<Vec<f32>>,
    scale: f32,
    /// 1, 0, or −1.
    monotone: Option<Vec<i8>>,
}

impl Rules {
    /// The rules for columns of `schema`.
    pub(super) fn new(
        penalty: &Penalty,
        constraints: &Constraints,
        schema: &Schema,
    ) -> Result<Self> {
        let list = |place: &str, values: &BTreeMap<String, f64>, neutral: f32| -> Result<_> {
            if values.is_empty() {
                return Ok(None);
            }
            let mut list = vec![neutral; schema.len()];
            for (name, &value) in values {
                list[constraint::position(schema, name, place)?] = value as f32;
            }
            Ok(Some(list))
        };
        Ok(Self {
            weights: list("penalty.weights", &penalty.weights, 1.0)?,
            first_use: list("penalty.first_use", &penalty.first_use, 0.0)?,
            per_row: list("penalty.per_row", &penalty.per_row, 0.0)?,
            scale: penalty.scale as f32,
            monotone: constraint::signs(schema, &constraints.monotone)?,
        })
    }

    /// Whether some column is monotone.
    pub(super) fn are_monotone(&self) -> bool {
        self.monotone.is_some()
    }

    /// Whether splits compete by their scores alone.
    pub(super) fn are_plain(&self) -> bool {
        self.weights.is_none() && self.first_use.is_none() && self.per_row.is_none()
    }

    /// Which way a split may move the prediction: 1, 0, or −1.
    pub(super) fn sign(&self, split: &Split, table: &Table) -> i8 {
        match (&self.monotone, split) {
            (Some(signs), Split::Border { column, .. }) => {
                signs[table.numeric[*column as usize].column]
            }
            _ => 0,
        }
    }

    /// The factor on a split's gain.
    pub(super) fn weight(&self, split: &Split, table: &Table) -> f64 {
        let Some(weights) = &self.weights else { return 1.0 };
        f64::from(asked(split, table).map(|column| weights[column]).product::<f32>())
    }

    /// The penalty on a split of the drawn rows `rows`.
    pub(super) fn cost(&self, split: &Split, table: &Table, usage: &Usage, rows: &[u32]) -> f64 {
        let mut cost = 0.0;
        if let Some(penalties) = &self.first_use {
            let new = asked(split, table).filter(|&column| !usage.columns[column]);
            cost += f64::from(new.map(|column| penalties[column]).sum::<f32>() * self.scale);
        }
        if let Some(penalties) = &self.per_row {
            let of_column = |column: usize| {
                let penalty = penalties[column];
                if penalty == 0.0 { 0.0 } else { penalty * usage.new_rows(column, rows) as f32 }
            };
            let sum: f32 = asked(split, table).map(of_column).sum();
            cost += f64::from(sum * self.scale);
        }
        cost
    }

    /// What is to be remembered of the splits of a model on `n_rows` rows.
    pub(super) fn usage(&self, n_columns: usize, n_rows: usize, is_symmetric: bool) -> Usage {
        let penalized = |column: usize| {
            !is_symmetric && self.per_row.as_ref().is_some_and(|list| list[column] != 0.0)
        };
        let rows = |column| vec![false; if penalized(column) { n_rows } else { 0 }];
        Usage { columns: vec![false; n_columns], rows: (0..n_columns).map(rows).collect() }
    }
}

/// The columns of the frame that a split asks.
fn asked<'a>(split: &'a Split, table: &'a Table) -> impl Iterator<Item = usize> + 'a {
    let numeric = |column: u32| table.numeric[column as usize].column;
    let categorical = |column: u32| table.categorical[column as usize].column;
    let (own, projection) = match split {
        Split::Border { column, .. } => (Some(numeric(*column)), None),
        Split::Level { column, .. } => (Some(categorical(*column)), None),
        Split::Ctr { projection, .. } => (None, Some(projection)),
    };
    let parts = projection.into_iter().flat_map(move |projection| {
        let columns = projection.columns.iter().map(move |&column| categorical(column));
        let borders = projection.borders.iter().map(move |&(column, _)| numeric(column));
        let levels = projection.levels.iter().map(move |&(column, _)| categorical(column));
        columns.chain(borders).chain(levels)
    });
    own.into_iter().chain(parts)
}

/// What the splits so far have asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Usage {
    /// Whether some split has asked each column of the frame.
    pub(super) columns: Vec<bool>,
    /// Which rows such a split has seen; empty for columns where this does not matter.
    pub(super) rows: Vec<Vec<bool>>,
}

impl Usage {
    /// Takes note of a split that has seen `rows`.
    pub(super) fn note(&mut self, split: &Split, table: &Table, rows: &[u32]) {
        for column in asked(split, table) {
            self.columns[column] = true;
            if !self.rows[column].is_empty() {
                for &row in rows {
                    self.rows[column][row as usize] = true;
                }
            }
        }
    }

    /// Whether `other` is about as many columns and rows.
    pub(super) fn has_shape_of(&self, other: &Self) -> bool {
        let lens = |usage: &Self| -> Vec<usize> { usage.rows.iter().map(Vec::len).collect() };
        self.columns.len() == other.columns.len() && lens(self) == lens(other)
    }

    fn new_rows(&self, column: usize, rows: &[u32]) -> usize {
        match &*self.rows[column] {
            [] if self.columns[column] => 0,
            [] => rows.len(),
            seen => rows.iter().filter(|&&row| !seen[row as usize]).count(),
        }
    }
}
