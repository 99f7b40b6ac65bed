//! What each column of a file is for, and what reading it found.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    data::{schema::Quoted, time::TimeUnit},
    error::{Error, Result},
};

/// Which column is what; plain data, checked against the file when it is read.
///
/// A column without a role is a feature. A role that names no column is an error that lists near
/// names. One column may have several roles (entity and group, say), and one with a role is a
/// feature only where `features` lists it; `target` and `label_time` never are, since they are
/// known too late.
///
/// | field | default | effect |
/// | --- | --- | --- |
/// | `target` | none | what is to be predicted; needed to read a [`Dataset`](crate::Dataset) |
/// | `task` | `auto` | whether the target is a number or a class: see [`TaskKind`] |
/// | `positive` | none | of two classes, the one whose probability is predicted; else the later in sorted order |
/// | `drop_missing_target` | false | leaves out rows without a target, which are an error else |
/// | `weight` | none | row weights: finite, none negative |
/// | `group` | none | ids of rows that a grouped splitter keeps together |
/// | `time` | none | each row's moment |
/// | `label_time` | none | when each row's target became known; needs `time` |
/// | `entity` | none | ids of the series that rows belong to |
/// | `time_unit` | none | what integer moments count; without it they are an error |
/// | `features` | none | exactly these columns, in this order, instead of all without a role |
/// | `ignore` | empty | columns that are not to be features |
/// | `categorical` | empty | features whose cells are levels, though they look like numbers |
/// | `numeric` | empty | features whose cells must be numbers |
/// | `missing` | empty | texts read as missing, besides the empty cell: `["NA"]`, for example |
///
/// # Kinds
///
/// Where the source has types (Arrow, Parquet), they decide: numbers and decimals are numeric;
/// text, dictionaries, and booleans (`false`, `true`) are categorical. Text sources (CSV) are
/// inferred: a column is numeric if each cell that is not missing is a number in decimal or
/// scientific notation, else categorical. An infinity among numbers is refused, not inferred from.
/// `categorical` and `numeric` override either. Levels are sorted bytewise, so that codes do not
/// depend on the order of rows. A number is read to the nearest `f64`, and a feature then rounded
/// to `f32`; integers that this changes are counted in the [`ReadReport`].
///
/// Moments are text as RFC 3339 (`2013-01-31`, `2013-01-31 05:15`, `2013-01-31T05:15:00.25+01:00`;
/// UTC where no offset is given), integers with a `time_unit`, or Arrow's own types. Ids are
/// integers as they are, or texts, numbered in sorted order within the source.
///
/// # Example
///
/// ```
/// use mm_core::{Roles, Source};
///
/// let csv = "id,age,city,spam\n1,31,Rome,no\n2,,Oslo,yes\n3,44,Rome,no\n";
/// let roles = Roles::with_target("spam").with(|r| r.ignore = vec!["id".into()]);
/// let (data, report) = Source::csv_bytes("mail.csv", csv).dataset(&roles)?;
/// assert_eq!(data.task().to_string(), "binary (positive class `yes`)");
/// assert_eq!(data.frame().schema().columns()[1].to_string(), "categorical `city`");
/// assert_eq!((&*report.columns[0].name, report.columns[0].missing), ("age", 1));
/// # Ok::<(), mm_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Roles {
    /// What is to be predicted.
    pub target: Option<String>,
    /// Whether the target is a number or a class.
    pub task: TaskKind,
    /// The positive one of two classes.
    pub positive: Option<String>,
    /// Whether rows without a target are left out.
    pub drop_missing_target: bool,
    /// Row weights.
    pub weight: Option<String>,
    /// Ids of rows that belong together.
    pub group: Option<String>,
    /// Each row's moment.
    pub time: Option<String>,
    /// When each row's target became known.
    pub label_time: Option<String>,
    /// Ids of series.
    pub entity: Option<String>,
    /// What integer moments count.
    pub time_unit: Option<TimeUnit>,
    /// The features, in order; none for every column without a role.
    pub features: Option<Vec<String>>,
    /// Columns that are no features.
    pub ignore: Vec<String>,
    /// Features that are levels.
    pub categorical: Vec<String>,
    /// Features that are numbers.
    pub numeric: Vec<String>,
    /// Texts that are read as missing.
    pub missing: Vec<String>,
}

/// Whether a target is a number or a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskKind {
    /// Classes if the target is text, boolean, or only the numbers 0 and 1, both of them; values
    /// else.
    #[default]
    Auto,
    /// Values.
    Regression,
    /// Classes, by the text of the cell, in sorted order; a float's text is the shortest, with a
    /// point (`1.0`).
    Classification,
}

impl Roles {
    /// Predict `target` from every other column.
    pub fn with_target(target: impl Into<String>) -> Self {
        Self { target: Some(target.into()), ..Self::default() }
    }

    /// Edits in place, for chaining.
    #[must_use]
    pub fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }
}

/// What a column was read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// A feature.
    Feature,
    /// What is to be predicted.
    Target,
    /// Row weights.
    Weight,
    /// Ids of rows that belong together.
    Group,
    /// Each row's moment.
    Time,
    /// When each row's target became known.
    LabelTime,
    /// Ids of series.
    Entity,
    /// Not read.
    Ignored,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Feature => "feature",
            Self::Target => "target",
            Self::Weight => "weight",
            Self::Group => "group",
            Self::Time => "time",
            Self::LabelTime => "label_time",
            Self::Entity => "entity",
            Self::Ignored => "ignored",
        }
    }
}

/// What reading a table found: printed, a line a column with its role, kind, missing cells, and
/// the reason for the kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReadReport {
    /// The file, or the name that the caller gave.
    pub source: String,
    /// Rows that were kept.
    pub n_rows: usize,
    /// Rows left out since their target is missing.
    pub dropped: usize,
    /// One entry for each role of each column: features in order, the other roles, then what was
    /// ignored.
    pub columns: Vec<ColumnReport>,
}

/// What reading one column found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ColumnReport {
    /// The column's name.
    pub name: String,
    /// What it was read as.
    pub role: Role,
    /// Its kind in words: `numeric`, `categorical, 15 levels`.
    pub kind: String,
    /// Why it is of this kind.
    pub why: String,
    /// Number of missing cells in the rows that were kept.
    pub missing: usize,
    /// Number of cells whose level the fitted dictionary does not have.
    pub unknown: usize,
    /// What should be looked at, if anything.
    pub warnings: Vec<String>,
}

impl ReadReport {
    /// The warnings of all columns, each with the column's name.
    pub fn warnings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.columns.iter().flat_map(|c| c.warnings.iter().map(|w| (c.name.as_str(), w.as_str())))
    }
}

impl fmt::Display for ReadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} rows", self.source, self.n_rows)?;
        if 0 < self.dropped {
            write!(f, ", {} left out without a target", self.dropped)?;
        }
        writeln!(f)?;
        let width = |text: fn(&ColumnReport) -> &str, least: usize| {
            self.columns.iter().map(|c| text(c).chars().count()).fold(least, usize::max)
        };
        let (names, kinds) = (width(|c| &c.name, 6).min(32), width(|c| &c.kind, 4));
        writeln!(
            f,
            "  {:names$}  {:10}  {:kinds$}  {:>8}  reason",
            "column", "role", "kind", "missing"
        )?;
        for c in &self.columns {
            let (name, role, kind) = (&c.name, c.role.name(), &c.kind);
            write!(f, "  {name:names$}  {role:10}  {kind:kinds$}  {:>8}  {}", c.missing, c.why)?;
            if 0 < c.unknown {
                write!(f, "; {} cells of unknown level", c.unknown)?;
            }
            writeln!(f)?;
        }
        for (name, warning) in self.warnings() {
            writeln!(f, "  warning: `{name}`: {warning}")?;
        }
        Ok(())
    }
}

/// The position of `name`, which the user gave, among `names`; an error lists near names.
pub(super) fn find<'a>(
    source: &str,
    name: &str,
    mut names: impl Iterator<Item = &'a str> + Clone,
) -> Result<usize> {
    if let Some(i) = names.clone().position(|other| other == name) {
        return Ok(i);
    }
    let reach = 1 + name.chars().count() / 3;
    let mut near: Vec<(usize, &str)> = names
        .by_ref()
        .map(|other| (distance(name, other), other))
        .filter(|n| n.0 <= reach)
        .collect();
    near.sort_unstable();
    let near: Vec<String> = near.iter().take(3).map(|n| format!("`{}`", n.1)).collect();
    let got = if near.is_empty() {
        "none".into()
    } else {
        format!("none; near it are {}", near.join(", "))
    };
    Err(Error::data(source, format_args!("a column {}", Quoted(name)), got))
}

/// Edits of one character, case aside, that turn `a` into `b` (Levenshtein 1966).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_from_toml_and_misspellings_are_errors() {
        let text = "target = 'late'\ntask = 'classification'\ntime_unit = 'ms'\nmissing = ['NA']";
        let roles: Roles = toml::from_str(text).expect("reads");
        let expected = Roles::with_target("late").with(|r| {
            r.task = TaskKind::Classification;
            r.time_unit = Some(TimeUnit::Milliseconds);
            r.missing = vec!["NA".into()];
        });
        assert_eq!(roles, expected);
        assert!(toml::from_str::<Roles>("traget = 'late'").is_err());
    }

    #[test]
    fn a_misspelt_column_is_answered_with_near_names() {
        let names = ["distance", "arr_delay", "dep_delay", "origin"];
        let err = find("f.csv", "Distanse", names.into_iter()).expect_err("misspelt");
        let text = "f.csv: expected a column \"Distanse\", got none; near it are `distance`";
        assert_eq!(err.to_string(), text);
        let err = find("f.csv", "zzz", names.into_iter()).expect_err("unlike any");
        assert_eq!(err.to_string(), "f.csv: expected a column \"zzz\", got none");
        assert_eq!(find("f.csv", "origin", names.into_iter()).expect("there"), 3);
    }

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("Same", "same"), 0);
    }
}
