//! From a row of a frame to the numbers that an algorithm learns from, and what becomes of cells
//! that are missing, infinite, or of an unknown level.
//!
//! A frame's row is `f32` with categories as codes. Algorithms see a row of `f64` of fixed width,
//! in one of two [`Coding`]s, in which NaN means *takes no part*: no statistic sees the cell, and it
//! contributes nothing to a prediction. So no cell, whatever it holds, can poison a state.

use std::collections::BTreeMap;

use mm_core::{Column, Error, Frame, ParamError, Result, Schema};
use serde::{Deserialize, Serialize};

/// What to do with cells that are missing or infinite; plain data, a part of the params of every
/// online model.
///
/// | field | default | effect |
/// | --- | --- | --- |
/// | `missing` | [`Missing::Skip`] | for features that `per_feature` does not name |
/// | `infinite` | [`Infinite::Reject`] | for features that `per_feature` does not name |
/// | `per_feature` | none | by column name |
///
/// Whatever the policy, each such cell that is learnt from is counted: see [`CellCounts`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct InputParams {
    /// Missing cells of numeric columns. A missing category always takes no part.
    pub missing: Missing,
    /// Infinite cells.
    pub infinite: Infinite,
    /// Policies of single features, by column name.
    pub per_feature: BTreeMap<String, CellPolicy>,
}

/// The policy of one feature.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CellPolicy {
    /// Missing cells.
    pub missing: Missing,
    /// Infinite cells.
    pub infinite: Infinite,
}

/// What becomes of a missing number.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Missing {
    /// The feature takes no part in the row.
    #[default]
    Skip,
    /// The mean of the values learnt so far; skipped before the first.
    Mean,
    /// The value learnt last; skipped before the first.
    Last,
    /// A fixed value, finite.
    Value(f64),
    /// The row is refused, to learn and to predict.
    Reject,
}

/// What becomes of an infinite number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Infinite {
    /// The row is refused, to learn and to predict.
    #[default]
    Reject,
    /// The cell counts as missing.
    Missing,
}

impl InputParams {
    /// Checks the fields; called by the `build` of each model's params.
    pub fn check(&self) -> Result<(), ParamError> {
        let check = |name: String, missing: Missing| match missing {
            Missing::Value(x) => ParamError::ensure(
                f64::from(f32::MIN) <= x && x <= f64::from(f32::MAX),
                name,
                x,
                "a finite number in the range of `f32`",
            ),
            _ => Ok(()),
        };
        check("inputs.missing".to_owned(), self.missing)?;
        self.per_feature.iter().try_for_each(|(feature, policy)| {
            check(format!("inputs.per_feature.{feature}.missing"), policy.missing)
        })
    }

    /// Whether some feature takes infinite values.
    pub fn admits_infinite(&self) -> bool {
        let mut all = self.per_feature.values().map(|policy| policy.infinite);
        self.infinite == Infinite::Missing || all.any(|policy| policy == Infinite::Missing)
    }

    fn policy(&self, column: &Column) -> CellPolicy {
        let general = CellPolicy { missing: self.missing, infinite: self.infinite };
        self.per_feature.get(&column.name).copied().unwrap_or(general)
    }
}

/// How categorical columns reach an algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// One 0/1 slot a level: an unknown level is 0 in all of them. For algorithms of numbers.
    OneHot,
    /// One slot that holds the code: −1 is an unknown level. For algorithms that know categories.
    Codes,
}

/// What one slot of a coded row holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Slot {
    /// A number.
    Number,
    /// The code of one of so many levels, or −1.
    Level(u32),
}

/// Cells met while learning that were not ordinary, of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CellCounts {
    /// Missing cells.
    pub missing: u64,
    /// Infinite cells.
    pub infinite: u64,
    /// Levels that the dictionary does not have.
    pub unknown: u64,
}

/// A coded row: `x` of the width of the coding, NaN where a cell takes no part.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The slots; finite or NaN, of magnitude at most `f32::MAX`.
    pub x: &'a [f64],
    /// Whether no slot is NaN, which lets algorithms take their fast path.
    pub complete: bool,
}

impl<'a> Row<'a> {
    /// A row, looked through for NaN.
    pub fn new(x: &'a [f64]) -> Self {
        Self { x, complete: !x.iter().any(|x| x.is_nan()) }
    }

    /// The slots that take part, with their places.
    pub fn present(self) -> impl Iterator<Item = (usize, f64)> {
        self.x.iter().copied().enumerate().filter(|(_, x)| !x.is_nan())
    }
}

/// The coding of one schema's rows, and what its imputation has learnt.
#[derive(Debug, Clone)]
pub(crate) struct Inputs {
    schema: Schema,
    policies: Vec<CellPolicy>, // One a column.
    slots: Vec<Slot>,
    coding: Coding,
    is_plain: bool, // All columns numeric: a coded row is the row, but for its odd cells.
    state: InputState,
}

/// The part of [`Inputs`] that learning changes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct InputState {
    counts: Vec<CellCounts>, // One a column.
    seen: Vec<Seen>,         // One a column, or none if no policy needs them.
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Seen {
    n: f64,
    mean: f64,
    last: f64,
}

impl Inputs {
    pub(crate) fn new(params: &InputParams, schema: &Schema, coding: Coding) -> Result<Self> {
        if let Some(name) = params.per_feature.keys().find(|name| schema.position(name).is_none()) {
            let got = format!("`{name}`");
            return Err(Error::data("inputs.per_feature", "names of columns of the data", got));
        }
        let columns = schema.columns();
        let policies: Vec<_> = columns.iter().map(|column| params.policy(column)).collect();
        let mut slots = Vec::new();
        for column in columns {
            match (column.levels(), coding) {
                (None, _) => slots.push(Slot::Number),
                (Some(levels), Coding::Codes) => slots.push(Slot::Level(levels.len() as u32)),
                (Some(levels), Coding::OneHot) => {
                    slots.extend(std::iter::repeat_n(Slot::Number, levels.len()));
                }
            }
        }
        let imputes = |policy: &CellPolicy| matches!(policy.missing, Missing::Mean | Missing::Last);
        let seen = if policies.iter().any(imputes) {
            vec![Seen::default(); columns.len()]
        } else {
            vec![]
        };
        let state = InputState { counts: vec![CellCounts::default(); columns.len()], seen };
        let is_plain = columns.iter().all(|column| column.levels().is_none());
        Ok(Self { schema: schema.clone(), policies, slots, coding, is_plain, state })
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(crate) fn state(&self) -> &InputState {
        &self.state
    }

    pub(crate) fn counts(&self) -> &[CellCounts] {
        &self.state.counts
    }

    /// Takes over what was learnt before; an error if it is of another shape.
    pub(crate) fn restore(&mut self, state: InputState) -> Result<()> {
        let lens = |state: &InputState| (state.counts.len(), state.seen.len());
        if lens(&state) != lens(&self.state) {
            return Err(Error::corrupt("inputs", "counts of each column", "others"));
        }
        self.state = state;
        Ok(())
    }

    pub(crate) fn size_bytes(&self) -> usize {
        size_of_val(&self.policies[..])
            + size_of_val(&self.slots[..])
            + size_of_val(&self.state.counts[..])
            + size_of_val(&self.state.seen[..])
    }

    /// Fills `out`, of one number a slot, and says whether the row is complete.
    ///
    /// An error for another width, a cell that its policy refuses, or a code that is none.
    pub(crate) fn code(&self, row: &[f32], out: &mut [f64]) -> Result<bool> {
        if row.len() != self.policies.len() {
            return Err(Error::Columns { expected: self.policies.len(), got: row.len() });
        }
        if self.is_plain {
            let mut is_finite = true;
            for (slot, &x) in out.iter_mut().zip(row) {
                is_finite &= x.is_finite();
                *slot = f64::from(x);
            }
            if is_finite {
                return Ok(true);
            }
        }
        self.code_odd(row, out)
    }

    #[cold]
    #[inline(never)]
    fn code_odd(&self, row: &[f32], out: &mut [f64]) -> Result<bool> {
        let mut rest = out;
        let mut complete = true;
        for (j, (&x, column)) in row.iter().zip(self.schema.columns()).enumerate() {
            let width = match (column.levels(), self.coding) {
                (Some(levels), Coding::OneHot) => levels.len(),
                _ => 1,
            };
            let (cell, after) = rest.split_at_mut(width);
            rest = after;
            match column.levels() {
                None => cell[0] = self.number(j, x)?,
                Some(levels) => {
                    let is_code = 0.0 <= x && x < levels.len() as f32 && x.fract() == 0.0;
                    if !(is_code || x.is_nan() || x == Frame::UNKNOWN) {
                        let expected =
                            format!("a code below {}, NaN (missing) or -1 (unknown)", levels.len());
                        return Err(Error::data(column, expected, x));
                    }
                    match self.coding {
                        Coding::Codes => cell[0] = f64::from(x),
                        Coding::OneHot => {
                            cell.fill(if x.is_nan() { f64::NAN } else { 0.0 });
                            if is_code {
                                cell[x as usize] = 1.0;
                            }
                        }
                    }
                }
            }
            complete &= !cell.iter().any(|x| x.is_nan());
        }
        Ok(complete)
    }

    fn number(&self, j: usize, x: f32) -> Result<f64> {
        let policy = self.policies[j];
        if x.is_finite() {
            return Ok(f64::from(x));
        }
        let column = &self.schema.columns()[j];
        if x.is_infinite() && policy.infinite == Infinite::Reject {
            return Err(Error::data(column, "a finite number or NaN (missing)", x));
        }
        let seen = self.state.seen.get(j).filter(|seen| 0.0 < seen.n);
        match policy.missing {
            Missing::Skip => Ok(f64::NAN),
            Missing::Mean => Ok(seen.map_or(f64::NAN, |seen| seen.mean)),
            Missing::Last => Ok(seen.map_or(f64::NAN, |seen| seen.last)),
            Missing::Value(value) => Ok(value),
            Missing::Reject => Err(Error::data(column, "a value, by its policy", "a missing cell")),
        }
    }

    /// Counts odd cells and learns what imputation needs, of a row that [`code`](Self::code)
    /// admitted; `decay` ages what was learnt before.
    pub(crate) fn learn(&mut self, row: &[f32], weight: f64, decay: f64) {
        if !self.is_plain || row.iter().any(|x| !x.is_finite()) {
            for ((counts, column), &x) in
                self.state.counts.iter_mut().zip(self.schema.columns()).zip(row)
            {
                counts.missing += u64::from(x.is_nan());
                counts.infinite += u64::from(x.is_infinite());
                counts.unknown += u64::from(column.levels().is_some() && x == Frame::UNKNOWN);
            }
        }
        for (seen, &x) in self.state.seen.iter_mut().zip(row) {
            seen.n *= decay;
            if x.is_finite() {
                let x = f64::from(x);
                seen.n += weight;
                seen.mean += weight * (x - seen.mean) / seen.n;
                seen.last = x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mm_core::Levels;

    use super::*;

    fn schema() -> Schema {
        let levels = Levels::new(["red", "blue"]).expect("distinct");
        Schema::new([Column::numeric("a"), Column::categorical("c", levels)]).expect("distinct")
    }

    fn coded(inputs: &Inputs, row: &[f32]) -> Vec<f64> {
        let mut out = vec![7.0; inputs.slots().len()];
        let complete = inputs.code(row, &mut out).expect("admitted");
        assert_eq!(complete, !out.iter().any(|x| x.is_nan()));
        out.into_iter().map(|x| if x.is_nan() { -99.0 } else { x }).collect()
    }

    #[test]
    fn categories_become_slots_or_codes() {
        let inputs = Inputs::new(&InputParams::default(), &schema(), Coding::OneHot).expect("ok");
        assert_eq!(coded(&inputs, &[2.5, 1.0]), [2.5, 0.0, 1.0]);
        assert_eq!(coded(&inputs, &[2.5, -1.0]), [2.5, 0.0, 0.0]);
        assert_eq!(coded(&inputs, &[f32::NAN, f32::NAN]), [-99.0; 3]);
        let inputs = Inputs::new(&InputParams::default(), &schema(), Coding::Codes).expect("ok");
        assert_eq!(coded(&inputs, &[2.5, -1.0]), [2.5, -1.0]);
        let err = inputs.code(&[0.0, 2.0], &mut [0.0; 2]).expect_err("no such code");
        assert!(err.to_string().contains("a code below 2"), "{err}");
        assert!(inputs.code(&[f32::INFINITY, 0.0], &mut [0.0; 2]).is_err());
    }

    #[test]
    fn policies_impute_refuse_and_count() {
        let params = |text: &str| serde_json::from_str::<InputParams>(text).expect("valid");
        let columns = Schema::numeric(2);
        let check = |text: &str, expected: f64| {
            let mut inputs = Inputs::new(&params(text), &columns, Coding::Codes).expect("named");
            inputs.learn(&[1.0, 0.0], 1.0, 1.0);
            inputs.learn(&[4.0, 0.0], 1.0, 1.0);
            inputs.learn(&[f32::NAN, f32::NAN], 1.0, 1.0);
            assert_eq!(coded(&inputs, &[f32::NAN, 0.0])[0], expected);
            assert_eq!(inputs.counts()[0].missing, 1);
        };
        check(r#"{"missing": "mean"}"#, 2.5);
        check(r#"{"missing": "last"}"#, 4.0);
        check(r#"{"missing": {"value": -3.0}}"#, -3.0);
        check(r#"{"per_feature": {"f0": {"missing": "last"}}}"#, 4.0);
        check("{}", -99.0);
        let text = r#"{"missing": "reject", "infinite": "missing"}"#;
        let inputs = Inputs::new(&params(text), &columns, Coding::Codes).expect("named");
        assert!(inputs.code(&[f32::INFINITY, 0.0], &mut [0.0; 2]).is_err());
        assert!(params(text).admits_infinite());
        assert!(params(r#"{"missing": {"value": 1e300}}"#).check().is_err());
        let other = params(r#"{"per_feature": {"z": {}}}"#);
        assert!(Inputs::new(&other, &columns, Coding::Codes).is_err(), "no such column");
    }
}
