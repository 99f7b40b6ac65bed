//! Columns being read, one type a role: features, target, weights, moments, ids.
//!
//! Each takes one cell at a time, may take in what another of its kind read further on, and is
//! settled at the end, when dictionaries are sorted and what was inferred is certain.

use std::collections::HashMap;

use crate::{
    data::{
        cell::{Bad, Cell, Field, Given, Named, Origin, Rules, number_of, parse, shown, text_of},
        dataset::Task,
        frame::Frame,
        intake::{Aim, Goal},
        interner::Interner,
        number::{self, Parsed},
        roles::{ColumnReport, Role, TaskKind},
        schema::{Column, Levels, Quoted},
        time,
    },
    error::{Error, Result},
};

/// A feature being read.
#[derive(Debug, Clone)]
pub(super) struct Feature {
    pub(super) named: Named,
    pub(super) mode: Mode,
    why: String,
    odd: Odd,
    inferred: bool,
    missing: usize,
    unknown: usize,
    inexact: usize,
}

/// The first cell that is no number, for a message, and its place.
type Odd = Option<(u64, String)>;

#[derive(Debug, Clone)]
pub(super) enum Mode {
    Number,
    Infer(Inferred),
    Levels(Interner),
    Fitted(Levels, Interner),
}

/// A column of text that has held numbers only, so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Inferred {
    numbers: usize,
    infinite: Option<(u64, Bad)>, // The first number beyond the range.
    is_late: bool,                // Text has come after numbers.
}

impl Feature {
    pub(super) fn new(named: Named, mode: Mode, why: String, inferred: bool) -> Self {
        Self { named, mode, why, odd: None, inferred, missing: 0, unknown: 0, inexact: 0 }
    }

    /// What [`read`](Self::read) says of a plain number in a column of numbers: most cells of
    /// most tables, hence a way of their own.
    #[inline]
    pub(super) fn read_plain(&mut self, cell: Cell<'_>) -> Option<f32> {
        let (Mode::Number | Mode::Infer(_), Cell::Text(text)) = (&self.mode, cell) else {
            return None;
        };
        let x = number::plain(text)?;
        if let Mode::Infer(seen) = &mut self.mode {
            seen.numbers += 1;
        }
        // Plain numbers are far within the range of `f32`.
        self.inexact += usize::from(is_lost(x));
        Some(x as f32)
    }

    pub(super) fn read(&mut self, cell: Cell<'_>, at: u64) -> Result<f32, Bad> {
        if let Cell::Missing = cell {
            self.missing += 1;
            return Ok(f32::NAN);
        }
        match &mut self.mode {
            Mode::Number => narrow(number_of(cell)?, &mut self.inexact),
            Mode::Infer(seen) => {
                let bad = match parse(cell) {
                    Parsed::Finite(x) => {
                        seen.numbers += 1;
                        match narrow(x, &mut self.inexact) {
                            Ok(x) => return Ok(x),
                            Err(bad) => bad,
                        }
                    }
                    Parsed::Infinite => Bad::new("a finite number", shown(cell)),
                    Parsed::NotANumber => {
                        self.odd.get_or_insert_with(|| (at, shown(cell)));
                        if 0 < seen.numbers || seen.infinite.is_some() {
                            seen.is_late = true;
                            return Ok(f32::NAN);
                        }
                        let mut levels = Interner::default();
                        let code = levels.intern(&text_of(cell))?;
                        self.mode = Mode::Levels(levels);
                        return Ok(code as f32);
                    }
                };
                seen.infinite.get_or_insert((at, bad)); // An error, unless text comes.
                Ok(f32::NAN)
            }
            Mode::Levels(levels) => levels.intern(&text_of(cell)).map(|code| code as f32),
            Mode::Fitted(_, levels) => {
                let code = levels.get(&text_of(cell));
                self.unknown += usize::from(code.is_none());
                Ok(code.map_or(Frame::UNKNOWN, |code| code as f32))
            }
        }
    }

    /// Whether text has come after numbers, so that the column must be read again; and why.
    pub(super) fn late(&self) -> Option<(usize, &Odd)> {
        let is_late = matches!(&self.mode, Mode::Infer(seen) if seen.is_late);
        is_late.then_some((self.named.from, &self.odd))
    }

    /// Takes in what `next` saw; gives the meaning of its codes where they are others here.
    pub(super) fn append(&mut self, next: Self) -> Result<Option<Vec<f32>>, Bad> {
        self.missing += next.missing;
        self.unknown += next.unknown;
        self.inexact += next.inexact;
        self.odd = self.odd.take().or(next.odd);
        match (&mut self.mode, next.mode) {
            (Mode::Infer(seen), Mode::Infer(next)) => {
                seen.numbers += next.numbers;
                seen.infinite = seen.infinite.take().or(next.infinite);
                seen.is_late |= next.is_late;
            }
            (Mode::Levels(levels), Mode::Levels(next)) => {
                return levels.append(&next).map(|codes| Some(as_f32(&codes)));
            }
            // One part began with text, the other with numbers, or had nothing but missing cells.
            (Mode::Infer(seen), Mode::Levels(levels)) => {
                if seen.numbers == 0 && seen.infinite.is_none() {
                    self.mode = Mode::Levels(levels);
                } else {
                    seen.is_late = true;
                }
            }
            (Mode::Levels(_), Mode::Infer(seen)) if 0 < seen.numbers || seen.infinite.is_some() => {
                self.mode = Mode::Infer(Inferred { is_late: true, ..seen });
            }
            _ => {} // Numbers, and fitted levels, mean the same everywhere.
        }
        Ok(None)
    }

    /// The column, the final meaning of its provisional codes, and what to report.
    pub(super) fn settle(
        self,
        origin: &Origin,
        n_rows: usize,
    ) -> Result<(Column, Option<Vec<f32>>, ColumnReport)> {
        let Self { named, mode, why, odd, inferred, missing, unknown, inexact } = self;
        let (name, mut why) = (named.name, origin.reason(odd).unwrap_or(why));
        let mut warnings = Vec::new();
        if name.is_empty() {
            warnings.push("has no name; is it an index?".to_owned());
        }
        if 0 < inexact {
            let more = "integers are not exact in `f32`; if they are names, list the column in `categorical`";
            warnings.push(format!("{inexact} {more}"));
        }
        if 0 < n_rows && missing == n_rows {
            warnings.push("every cell is missing".to_owned());
        }
        let (column, codes) = match mode {
            Mode::Number => (Column::numeric(&name), None),
            Mode::Infer(seen) => {
                if let Some((at, bad)) = seen.infinite {
                    return Err(origin.error(at, &name, bad));
                }
                let all = "every cell that is not missing is a number";
                let text = if seen.numbers == 0 { "no cell says otherwise" } else { all };
                text.clone_into(&mut why);
                (Column::numeric(&name), None)
            }
            Mode::Fitted(levels, _) => (Column::categorical(&name, levels), None),
            Mode::Levels(interner) => {
                let (names, places) = interner.sorted();
                let is_number = |text: &&str| number::parse(text) != Parsed::NotANumber;
                let numbers = names.iter().filter(|text| is_number(text)).count();
                if inferred && names.len() < 2 * numbers {
                    let odd = names.iter().find(|text| !is_number(text));
                    warnings.push(format!(
                        "{numbers} of {} levels are numbers; if {} means missing, list it in `missing`",
                        names.len(),
                        Quoted(odd.copied().unwrap_or_default()),
                    ));
                }
                let present = n_rows - missing;
                if 20 <= present && present < 2 * names.len() {
                    let count = names.len();
                    warnings.push(format!("{count} levels in {present} cells; is it an id?"));
                }
                let levels = Levels::new(names)?;
                (Column::categorical(&name, levels), Some(as_f32(&places)))
            }
        };
        let kind = match column.levels() {
            None => "numeric".to_owned(),
            Some(levels) => format!("categorical, {} levels", levels.len()),
        };
        let role = Role::Feature;
        let report = ColumnReport { name, role, kind, why, missing, unknown, warnings };
        Ok((column, codes, report))
    }
}

/// To `f32`, counting the integers that this changes.
fn narrow(x: f64, inexact: &mut usize) -> Result<f32, Bad> {
    let y = x as f32;
    if y.is_infinite() {
        return Err(Bad::new("a number within the range of `f32`", format_args!("{x:?}")));
    }
    *inexact += usize::from(is_lost(x));
    Ok(y)
}

/// Whether `x` is an integer that `f32` does not hold.
#[inline]
fn is_lost(x: f64) -> bool {
    // Those up to 2²⁴ are exact, so that most numbers need no look at their decimals.
    16_777_216.0 < x.abs() && x.fract() == 0.0 && f64::from(x as f32) != x
}

fn as_f32(codes: &[u32]) -> Vec<f32> {
    codes.iter().map(|&code| code as f32).collect()
}

/// A target being read.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) named: Named,
    mode: Answer,
    why: String,
    odd: Odd,
}

#[derive(Debug, Clone)]
enum Answer {
    Values(Vec<f64>),
    Classes(Interner, Vec<u32>),
    Fitted(Task, Interner, Vec<f64>),
    /// Numbers so far. While there are no more than two texts, which may yet be classes, their
    /// codes are kept beside the values.
    Auto {
        values: Vec<f64>,
        texts: Option<(Interner, Vec<u32>)>,
        infinite: Option<(u64, Bad)>, // The first number beyond the range.
        is_late: bool,                // Text has come after numbers.
    },
}

impl Answer {
    fn auto(texts: Option<(Interner, Vec<u32>)>, is_late: bool) -> Self {
        Self::Auto { values: Vec::new(), texts, infinite: None, is_late }
    }
}

impl Target {
    pub(super) fn new(
        fields: &[Field],
        from: usize,
        goal: Goal<'_>,
        late: &HashMap<usize, String>,
    ) -> Self {
        let classes = || Answer::Classes(Interner::default(), Vec::new());
        let (mode, why) = match (goal.target, goal.roles.task) {
            (Aim::Like(task), _) => {
                let mode = match task.class_names() {
                    None => Answer::Values(Vec::new()),
                    Some(names) => Answer::Fitted(task.clone(), Interner::of(names), Vec::new()),
                };
                (mode, "as fitted".to_owned())
            }
            (_, TaskKind::Regression) => (Answer::Values(Vec::new()), "by `task`".to_owned()),
            (_, TaskKind::Classification) => (classes(), "by `task`".to_owned()),
            (_, TaskKind::Auto) => match (&fields[from].given, late.get(&from)) {
                (_, Some(why)) => (classes(), why.clone()),
                (Given::Levels(kind), None) => (classes(), format!("{kind} in the source")),
                _ => {
                    let texts = Some(<(Interner, Vec<u32>)>::default());
                    (Answer::auto(texts, false), String::new())
                }
            },
        };
        Self { named: Named::new(fields, from), mode, why, odd: None }
    }

    pub(super) fn push(&mut self, cell: Cell<'_>, at: u64) -> Result<(), Bad> {
        if let Cell::Missing = cell {
            return Err(Bad::new("a target", "a missing cell"));
        }
        match &mut self.mode {
            Answer::Values(values) => values.push(number_of(cell)?),
            Answer::Classes(names, codes) => codes.push(names.intern(&text_of(cell))?),
            Answer::Fitted(task, names, codes) => {
                let text = text_of(cell);
                let Some(code) = names.get(&text) else {
                    let known = task.class_names().unwrap_or_default().join(", ");
                    return Err(Bad::new(format!("one of the classes {known}"), Quoted(&text)));
                };
                codes.push(f64::from(code));
            }
            Answer::Auto { values, texts, infinite, is_late } => {
                let number = match parse(cell) {
                    Parsed::Finite(x) => x,
                    Parsed::Infinite => {
                        let bad = || (at, Bad::new("a finite number", shown(cell)));
                        infinite.get_or_insert_with(bad); // An error, unless text comes.
                        f64::NAN
                    }
                    Parsed::NotANumber => {
                        self.odd.get_or_insert_with(|| (at, shown(cell)));
                        if let Some((mut names, mut codes)) = texts.take() {
                            codes.push(names.intern(&text_of(cell))?);
                            self.mode = Answer::Classes(names, codes);
                            return Ok(());
                        }
                        *is_late = true;
                        f64::NAN
                    }
                };
                values.push(number);
                if let Some((names, codes)) = texts {
                    codes.push(names.intern(&text_of(cell))?);
                    if 2 < names.len() {
                        *texts = None;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether text has come after numbers, so that the column must be read again; and why.
    pub(super) fn late(&self) -> Option<(usize, &Odd)> {
        let is_late = matches!(&self.mode, Answer::Auto { is_late: true, .. });
        is_late.then_some((self.named.from, &self.odd))
    }

    pub(super) fn append(&mut self, next: Self) -> Result<(), Bad> {
        fn join(
            names: &mut Interner,
            codes: &mut Vec<u32>,
            next: &(Interner, Vec<u32>),
        ) -> Result<(), Bad> {
            let here = names.append(&next.0)?;
            codes.extend(next.1.iter().map(|&code| here[code as usize]));
            Ok(())
        }
        self.odd = self.odd.take().or(next.odd);
        match (&mut self.mode, next.mode) {
            (Answer::Values(values), Answer::Values(next))
            | (Answer::Fitted(_, _, values), Answer::Fitted(_, _, next)) => values.extend(next),
            (Answer::Classes(names, codes), Answer::Classes(next, more)) => {
                join(names, codes, &(next, more))?;
            }
            (
                Answer::Auto { values, texts, infinite, is_late },
                Answer::Auto {
                    values: more_values,
                    texts: more_texts,
                    infinite: more_infinite,
                    is_late: more_late,
                },
            ) => {
                values.extend(more_values);
                *infinite = infinite.take().or(more_infinite);
                *is_late |= more_late;
                *texts = match (texts.take(), more_texts) {
                    (Some((mut names, mut codes)), Some(next)) => {
                        join(&mut names, &mut codes, &next)?;
                        (names.len() <= 2).then_some((names, codes))
                    }
                    _ => None,
                };
            }
            // One part has text, the other numbers: the source is read again as text.
            (mode @ Answer::Auto { .. }, Answer::Classes(..))
            | (mode @ Answer::Classes(..), Answer::Auto { .. }) => *mode = Answer::auto(None, true),
            _ => unreachable!("both were begun alike"),
        }
        Ok(())
    }

    /// The task, the target, and the reason.
    pub(super) fn settle(
        self,
        origin: &Origin,
        positive: Option<&str>,
    ) -> Result<(Task, Vec<f64>, String)> {
        let Self { named: Named { name, .. }, mode, why, odd } = self;
        let mut why = origin.reason(odd).unwrap_or(why);
        let place = || origin.column(&name);
        let (names, codes) = match mode {
            Answer::Auto { infinite: Some((at, bad)), .. } => {
                return Err(origin.error(at, &name, bad));
            }
            Answer::Fitted(task, _, codes) => return Ok((task, codes, why)),
            Answer::Classes(names, codes) => (names, codes),
            Answer::Auto { values, texts: Some((names, codes)), .. }
                if is_zero_one(&values, &names) =>
            {
                "it holds 0 and 1 only".clone_into(&mut why);
                (names, codes)
            }
            Answer::Values(values) | Answer::Auto { values, .. } => {
                if let Some(positive) = positive {
                    let got = format!("positive class {} for regression", Quoted(positive));
                    return Err(Error::data(place(), "classes", got));
                }
                let why = if why.is_empty() { "every cell is a number".to_owned() } else { why };
                return Ok((Task::Regression, values, why));
            }
        };
        let (mut classes, mut places) = names.sorted();
        if let [class] = classes[..] {
            return Err(Error::OneClass { class: class.to_owned() }.within(place()));
        }
        if let Some(positive) = positive {
            let known = classes.join(", ");
            if classes.len() != 2 || !classes.contains(&positive) {
                let expected = format!("two classes, {} one of them", Quoted(positive));
                return Err(Error::data(place(), expected, known));
            }
            if classes[0] == positive {
                classes.reverse();
                places.reverse(); // [0, 1] to [1, 0], or back.
            }
        }
        let target = codes.iter().map(|&code| f64::from(places[code as usize])).collect();
        Ok((Task::classes(classes)?, target, why))
    }
}

fn is_zero_one(values: &[f64], names: &Interner) -> bool {
    names.len() == 2
        && values.iter().all(|&y| y == 0.0 || y == 1.0)
        && values.contains(&0.0)
        && values.contains(&1.0)
}

/// Row weights being read.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    pub(super) named: Named,
    pub(super) values: Vec<f64>,
}

impl Weights {
    pub(super) fn push(&mut self, cell: Cell<'_>) -> Result<(), Bad> {
        let weight = number_of(cell)?;
        if weight < 0.0 {
            return Err(Bad::new("a finite number ≥ 0", weight));
        }
        self.values.push(weight);
        Ok(())
    }
}

/// Moments being read.
#[derive(Debug, Clone)]
pub(super) struct Times {
    pub(super) named: Named,
    pub(super) values: Vec<i64>,
}

impl Times {
    pub(super) fn push(&mut self, cell: Cell<'_>, rules: &Rules) -> Result<(), Bad> {
        const EXPECTED: &str = "a moment as RFC 3339 between the years 1678 and 2262";
        let integer = |count: i64| match rules.time_unit {
            Some(unit) => unit
                .nanos(count)
                .ok_or_else(|| Bad::new("a moment between the years 1678 and 2262", count)),
            None => Err(Bad::new("a `time_unit` for integer moments", count)),
        };
        let moment = match cell {
            Cell::Moment(nanos) => Ok(nanos),
            Cell::Integer(count) => integer(count),
            Cell::Text(text) => match (time::parse(text), text.trim_ascii().parse()) {
                (Some(nanos), _) => Ok(nanos),
                (None, Ok(count)) => integer(count),
                (None, Err(_)) => Err(Bad::new(EXPECTED, Quoted(text))),
            },
            Cell::Missing => Err(Bad::new("a moment", "a missing cell")),
            other => Err(Bad::new(EXPECTED, text_of(other))),
        };
        self.values.push(moment?);
        Ok(())
    }
}

/// Ids being read.
#[derive(Debug, Clone)]
pub(super) struct Ids {
    pub(super) named: Named,
    pub(super) kind: IdKind,
}

#[derive(Debug, Clone)]
pub(super) enum IdKind {
    Integers(Vec<i64>),
    Texts(Interner, Vec<u32>),
}

impl Ids {
    pub(super) fn new(fields: &[Field], from: usize, texts: bool) -> Self {
        let kind = if texts {
            IdKind::Texts(Interner::default(), Vec::new())
        } else {
            IdKind::Integers(Vec::new())
        };
        Self { named: Named::new(fields, from), kind }
    }

    pub(super) fn push(&mut self, cell: Cell<'_>) -> Result<(), Bad> {
        if let Cell::Missing = cell {
            return Err(Bad::new("an id", "a missing cell"));
        }
        match &mut self.kind {
            IdKind::Texts(names, codes) => codes.push(names.intern(&text_of(cell))?),
            IdKind::Integers(ids) => ids.push(match cell {
                Cell::Integer(id) => id,
                other => {
                    let text = text_of(other);
                    text.parse().map_err(|_| Bad::new("an integer or text id", &text))?
                }
            }),
        }
        Ok(())
    }

    pub(super) fn append(&mut self, next: Self) -> Result<(), Bad> {
        match (&mut self.kind, next.kind) {
            (IdKind::Integers(ids), IdKind::Integers(next)) => ids.extend(next),
            (IdKind::Texts(names, codes), IdKind::Texts(next, more)) => {
                let here = names.append(&next)?;
                codes.extend(more.iter().map(|&code| here[code as usize]));
            }
            _ => unreachable!("both were begun alike"),
        }
        Ok(())
    }

    /// Integers as they are; texts by their place in sorted order, unless all are integers.
    pub(super) fn settle(self) -> (Vec<i64>, &'static str) {
        let (names, codes) = match self.kind {
            IdKind::Integers(ids) => return (ids, "integers"),
            IdKind::Texts(names, codes) => (names, codes),
        };
        let canonical = |name: &str| name.parse().ok().filter(|id: &i64| id.to_string() == name);
        let integers: Option<Vec<i64>> = names.names().iter().map(|name| canonical(name)).collect();
        let (ids, why) = if let Some(ids) = integers {
            (ids, "integers")
        } else {
            let places = names.sorted().1.into_iter().map(i64::from);
            (places.collect(), "texts, numbered in sorted order")
        };
        (codes.iter().map(|&code| ids[code as usize]).collect(), why)
    }
}
