//! From cells to frames and datasets: where every reader's rows end.
//!
//! A reader gives the names and types of its columns ([`Field`]) and then one row after another
//! ([`Intake::push`]). Features go straight into the row-major buffer of the frame, 4 bytes a cell,
//! levels under provisional codes that [`Intake::finish`] replaces by sorted ones.

use std::{borrow::Cow, collections::HashMap};

use crate::{
    data::{
        dataset::{Dataset, Task},
        frame::Frame,
        number::{self, Parsed},
        roles::{ColumnReport, ReadReport, Role, Roles, TaskKind, find},
        schema::{Column, ColumnKind, Levels, Quoted, Schema},
        time,
    },
    error::{Error, Result},
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

/// What is to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Goal<'a> {
    pub(super) roles: &'a Roles,
    /// The features of an earlier fit, instead of those that the roles say.
    pub(super) schema: Option<&'a Schema>,
    pub(super) target: Aim<'a>,
}

/// What the target is to become.
#[derive(Debug, Clone, Copy)]
pub(super) enum Aim<'a> {
    /// A frame is wanted: target, weights, groups, and label times are not read.
    Nothing,
    /// The task is to be found out.
    Fresh,
    /// The task is known.
    Like(&'a Task),
}

/// What was made.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) frame: Frame,
    pub(super) target: Option<(Task, Vec<f64>)>,
    pub(super) weights: Option<Vec<f64>>,
    pub(super) groups: Option<Vec<i64>>,
    pub(super) label_times: Option<Vec<i64>>,
    pub(super) report: ReadReport,
}

impl Taken {
    /// The dataset; a target must have been aimed at.
    pub(super) fn into_dataset(self) -> Result<(Dataset, ReadReport)> {
        let (task, target) = self.target.expect("the caller aimed at one");
        let mut data = Dataset::new(self.frame, task, target)?;
        if let Some(weights) = self.weights {
            data = data.with_weights(weights)?;
        }
        if let Some(groups) = self.groups {
            data = data.with_groups(groups)?;
        }
        if let Some(known) = self.label_times {
            data = data.with_label_times(known)?;
        }
        Ok((data, self.report))
    }
}

/// Takes in rows; see the module.
#[derive(Debug, Clone)]
pub(super) struct Intake {
    origin: Origin,
    rules: Rules,
    values: Vec<f32>, // Row-major.
    n_rows: usize,
    dropped: usize,
    features: Vec<Feature>,
    target: Option<Target>,
    weights: Option<Weights>,
    groups: Option<Ids>,
    entities: Option<Ids>,
    times: Option<Times>,
    label_times: Option<Times>,
    positive: Option<String>,
    drop_missing_target: bool,
    ignored: Vec<String>,
}

/// Why a cell cannot be used.
#[derive(Debug, Clone)]
struct Bad {
    expected: Cow<'static, str>,
    got: String,
}

impl Bad {
    fn new(expected: impl Into<Cow<'static, str>>, got: impl ToString) -> Self {
        Self { expected: expected.into(), got: got.to_string() }
    }
}

/// Names places: "flights.csv, line 17, column `distance`".
#[derive(Debug, Clone)]
struct Origin {
    source: String,
    unit: &'static str,
}

impl Origin {
    fn error(&self, at: u64, column: &str, bad: Bad) -> Error {
        let place = format!("{}, {} {at}, column `{column}`", self.source, self.unit);
        Error::data(place, bad.expected, bad.got)
    }

    fn column(&self, column: &str) -> String {
        format!("{}, column `{column}`", self.source)
    }
}

#[derive(Debug, Clone)]
struct Rules {
    missing: Vec<String>,
    time_unit: Option<time::TimeUnit>,
}

impl Rules {
    fn clean<'a>(&self, cell: Cell<'a>) -> Cell<'a> {
        match cell {
            Cell::Text(text) if text.is_empty() || self.missing.iter().any(|m| m == text) => {
                Cell::Missing
            }
            Cell::Number(x) if x.is_nan() => Cell::Missing,
            other => other,
        }
    }
}

impl Intake {
    /// Matches roles and columns. `unit` is what rows are called in messages; `late` holds the
    /// columns, by position, that an earlier pass found to be text, with the reason.
    pub(super) fn new(
        source: &str,
        unit: &'static str,
        fields: &[Field],
        goal: Goal<'_>,
        late: &HashMap<usize, String>,
    ) -> Result<Self> {
        let roles = goal.roles;
        let origin = Origin { source: source.to_owned(), unit };
        let mut names: Vec<(&str, usize)> =
            fields.iter().map(|f| f.name.as_str()).zip(0..).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let got = format!("{} at {} and {}", Quoted(pair[0].0), pair[0].1 + 1, pair[1].1 + 1);
            return Err(Error::data(format_args!("{source}, column names"), "distinct names", got));
        }
        let at = |name: &str| find(source, name, fields.iter().map(|f| f.name.as_str()));
        let optional = |name: &Option<String>| name.as_deref().map(at).transpose();
        let supervised = !matches!(goal.target, Aim::Nothing);
        let with_target =
            |name: &Option<String>| if supervised { optional(name) } else { Ok(None) };

        let target = with_target(&roles.target)?;
        if supervised && target.is_none() {
            return Err(Error::data("roles", "a `target`", "none"));
        }
        let (weight, group) = (with_target(&roles.weight)?, with_target(&roles.group)?);
        let label_time = with_target(&roles.label_time)?;
        let (time, entity) = (optional(&roles.time)?, optional(&roles.entity)?);

        let features = match goal.schema {
            Some(schema) => fitted_features(schema, &origin, fields, &at)?,
            None => fresh_features(roles, &origin, fields, &at, late)?,
        };
        let text_ids = |from: usize| !matches!(fields[from].given, Given::Numeric(_));
        let ids = |from: Option<usize>| from.map(|from| Ids::new(fields, from, text_ids(from)));
        let times = |from: Option<usize>| {
            from.map(|from| Times { named: Named::new(fields, from), values: Vec::new() })
        };
        let named: Vec<usize> = [target, weight, group, label_time, time, entity]
            .into_iter()
            .flatten()
            .chain(features.iter().map(|f| f.named.from))
            .collect();
        for &from in &named {
            if let Given::Unreadable(kind) = &fields[from].given {
                let place = origin.column(&fields[from].name);
                return Err(Error::data(place, "numbers, booleans, text, or moments", kind));
            }
        }
        let unnamed = |from: &usize| !named.contains(from);
        let ignored =
            (0..fields.len()).filter(unnamed).map(|from| fields[from].name.clone()).collect();
        let target = match target {
            None => None,
            Some(from) => Some(Target::new(fields, from, goal, late)),
        };
        Ok(Self {
            origin,
            rules: Rules { missing: roles.missing.clone(), time_unit: roles.time_unit },
            values: Vec::new(),
            n_rows: 0,
            dropped: 0,
            features,
            target,
            weights: weight
                .map(|from| Weights { named: Named::new(fields, from), values: Vec::new() }),
            groups: ids(group),
            entities: ids(entity),
            times: times(time),
            label_times: times(label_time),
            positive: roles.positive.clone(),
            drop_missing_target: roles.drop_missing_target,
            ignored,
        })
    }

    /// Makes room for `n_rows` more rows.
    pub(super) fn reserve(&mut self, n_rows: usize) {
        self.values.reserve_exact(n_rows.saturating_mul(self.features.len()));
    }

    /// Takes in one row, whose place is `at`; `cell` gives the cell of a column by position.
    pub(super) fn push<'a>(&mut self, at: u64, cell: impl Fn(usize) -> Cell<'a>) -> Result<()> {
        let (rules, origin) = (&self.rules, &self.origin);
        let fail = |named: &Named, bad| origin.error(at, &named.name, bad);
        if let Some(target) = &mut self.target {
            match rules.clean(cell(target.named.from)) {
                Cell::Missing if self.drop_missing_target => {
                    self.dropped += 1;
                    return Ok(());
                }
                known => target.push(known, at).map_err(|bad| fail(&target.named, bad))?,
            }
        }
        for feature in &mut self.features {
            let value = feature
                .read(rules.clean(cell(feature.named.from)), at)
                .map_err(|bad| fail(&feature.named, bad))?;
            self.values.push(value);
        }
        if let Some(weights) = &mut self.weights {
            let weight = rules.clean(cell(weights.named.from));
            weights.push(weight).map_err(|bad| fail(&weights.named, bad))?;
        }
        for ids in [&mut self.groups, &mut self.entities].into_iter().flatten() {
            ids.push(rules.clean(cell(ids.named.from))).map_err(|bad| fail(&ids.named, bad))?;
        }
        for times in [&mut self.times, &mut self.label_times].into_iter().flatten() {
            let moment = rules.clean(cell(times.named.from));
            times.push(moment, rules).map_err(|bad| fail(&times.named, bad))?;
        }
        self.n_rows += 1;
        Ok(())
    }

    /// Takes in the rows of `next`, which was begun as this one was and read on from where it
    /// ends.
    pub(super) fn append(&mut self, next: Self) -> Result<()> {
        let (first, width) = (self.values.len(), self.features.len());
        self.values.extend(next.values);
        for (j, (feature, next)) in self.features.iter_mut().zip(next.features).enumerate() {
            let origin = &self.origin;
            let name = feature.named.name.clone();
            let codes = feature
                .append(next)
                .map_err(|bad| Error::data(origin.column(&name), bad.expected, bad.got))?;
            if let Some(codes) = codes {
                recode(&mut self.values[first..], width, j, &codes);
            }
        }
        if let (Some(target), Some(next)) = (&mut self.target, next.target) {
            let place = self.origin.column(&target.named.name);
            target.append(next).map_err(|bad| Error::data(place, bad.expected, bad.got))?;
        }
        if let (Some(weights), Some(next)) = (&mut self.weights, next.weights) {
            weights.values.extend(next.values);
        }
        for (ids, next) in [(&mut self.groups, next.groups), (&mut self.entities, next.entities)] {
            if let (Some(ids), Some(next)) = (ids, next) {
                let place = self.origin.column(&ids.named.name);
                ids.append(next).map_err(|bad| Error::data(place, bad.expected, bad.got))?;
            }
        }
        for (times, next) in
            [(&mut self.times, next.times), (&mut self.label_times, next.label_times)]
        {
            if let (Some(times), Some(next)) = (times, next) {
                times.values.extend(next.values);
            }
        }
        self.n_rows += next.n_rows;
        self.dropped += next.dropped;
        Ok(())
    }

    /// The columns, by position, that turned out to be text after numbers had been read, with the
    /// reason; where there are any, the source must be read again, with these given to
    /// [`new`](Self::new).
    pub(super) fn late(&self) -> HashMap<usize, String> {
        let line = self.origin.unit;
        let why = |(at, text): &(u64, String)| format!("{text} on {line} {at} is no number");
        let features = self.features.iter().filter_map(|f| match &f.mode {
            Mode::Infer(Inferred { late: Some(first), .. }) => Some((f.named.from, why(first))),
            _ => None,
        });
        let target = self.target.iter().filter_map(|t| match &t.mode {
            Answer::Auto { late: Some(first), .. } => Some((t.named.from, why(first))),
            _ => None,
        });
        features.chain(target).collect()
    }

    /// Sorts dictionaries, settles what was inferred, and checks the whole.
    pub(super) fn finish(mut self) -> Result<Taken> {
        let mut reports = Vec::new();
        let mut columns = Vec::with_capacity(self.features.len());
        let width = self.features.len();
        for (j, feature) in self.features.into_iter().enumerate() {
            let (column, codes, report) = feature.settle(&self.origin, self.n_rows)?;
            if let Some(codes) = codes {
                recode(&mut self.values, width, j, &codes);
            }
            columns.push(column);
            reports.push(report);
        }
        let mut report = |named: &Named, role, kind: String, why: &str| {
            let (name, why) = (named.name.clone(), why.to_owned());
            let (missing, unknown, warnings) = (0, 0, Vec::new());
            reports.push(ColumnReport { name, role, kind, why, missing, unknown, warnings });
        };
        let mut target = None;
        if let Some(t) = self.target {
            if self.n_rows == 0 {
                let got = if self.dropped == 0 { "none" } else { "rows without a target only" };
                return Err(Error::data(&self.origin.source, "at least one row of data", got));
            }
            let named = t.named.clone();
            let (task, values, why) = t.settle(&self.origin, self.positive.as_deref())?;
            let kind = match task.class_names() {
                None => "numeric".to_owned(),
                Some(names) => format!("{} classes", names.len()),
            };
            report(&named, Role::Target, kind, &why);
            target = Some((task, values));
        }
        if let Some(weights) = &self.weights {
            report(&weights.named, Role::Weight, "numeric".into(), "by role");
        }
        let span = |values: &[i64]| match (values.iter().min(), values.iter().max()) {
            (Some(&a), Some(&b)) => format!("from {} to {}", time::format(a), time::format(b)),
            _ => "by role".to_owned(),
        };
        for (times, role) in [(&self.times, Role::Time), (&self.label_times, Role::LabelTime)] {
            if let Some(times) = times {
                report(&times.named, role, "moments".into(), &span(&times.values));
            }
        }
        let mut settle = |ids: Option<Ids>, role| {
            ids.map(|ids| {
                let named = ids.named.clone();
                let (values, why) = ids.settle();
                report(&named, role, "ids".into(), why);
                values
            })
        };
        let groups = settle(self.groups, Role::Group);
        let entities = settle(self.entities, Role::Entity);
        for name in self.ignored {
            report(&Named { name, from: 0 }, Role::Ignored, "-".into(), "no role");
        }
        let mut frame = Frame::with_schema(self.values, Schema::new(columns)?)?;
        if let Some(times) = self.times {
            frame = frame.with_times(times.values)?;
        }
        if let Some(entities) = entities {
            frame = frame.with_entities(entities)?;
        }
        let report = ReadReport {
            source: self.origin.source,
            n_rows: self.n_rows,
            dropped: self.dropped,
            columns: reports,
        };
        Ok(Taken {
            frame,
            target,
            weights: self.weights.map(|w| w.values),
            groups,
            label_times: self.label_times.map(|t| t.values),
            report,
        })
    }
}

/// Replaces the provisional codes of column `j` by `codes[code]`.
fn recode(values: &mut [f32], width: usize, j: usize, codes: &[f32]) {
    for row in values.chunks_exact_mut(width) {
        if 0.0 <= row[j] {
            row[j] = codes[row[j] as usize];
        }
    }
}

/// A column's name and its position in the source.
#[derive(Debug, Clone)]
struct Named {
    name: String,
    from: usize,
}

impl Named {
    fn new(fields: &[Field], from: usize) -> Self {
        Self { name: fields[from].name.clone(), from }
    }
}

/// The features of an earlier fit, found by name.
fn fitted_features(
    schema: &Schema,
    origin: &Origin,
    fields: &[Field],
    at: &impl Fn(&str) -> Result<usize>,
) -> Result<Vec<Feature>> {
    let feature = |column: &Column| {
        let from = at(&column.name)?;
        refuse_moments(&fields[from], origin)?;
        let mode = match &column.kind {
            ColumnKind::Numeric => Mode::Number,
            ColumnKind::Categorical(levels) => {
                Mode::Fitted(levels.clone(), Interner::of(levels.names()))
            }
        };
        Ok(Feature::new(Named::new(fields, from), mode, "as fitted".into()))
    };
    schema.columns().iter().map(feature).collect()
}

/// The features that the roles say, with kinds from the source or to be inferred.
fn fresh_features(
    roles: &Roles,
    origin: &Origin,
    fields: &[Field],
    at: &impl Fn(&str) -> Result<usize>,
    late: &HashMap<usize, String>,
) -> Result<Vec<Feature>> {
    let source = &origin.source;
    let (target, label_time) = (roles.target.as_deref(), roles.label_time.as_deref());
    for name in &roles.ignore {
        at(name)?;
    }
    let chosen: Vec<usize> = match &roles.features {
        Some(names) => {
            for name in names {
                if [target, label_time].contains(&Some(name)) || roles.ignore.contains(name) {
                    let got = format!("{} among them", Quoted(name));
                    let expected = "neither the target, nor the label time, nor ignored columns";
                    return Err(Error::data(format_args!("{source}, `features`"), expected, got));
                }
            }
            names.iter().map(|name| at(name)).collect::<Result<_>>()?
        }
        None => {
            let with_role = [
                &roles.target,
                &roles.weight,
                &roles.group,
                &roles.time,
                &roles.label_time,
                &roles.entity,
            ];
            let is_feature = |name: &String| {
                !roles.ignore.contains(name) && !with_role.iter().any(|r| r.as_ref() == Some(name))
            };
            (0..fields.len()).filter(|&from| is_feature(&fields[from].name)).collect()
        }
    };
    if chosen.is_empty() {
        return Err(Error::data(source, "at least one feature", "none"));
    }
    for (list, names) in [("categorical", &roles.categorical), ("numeric", &roles.numeric)] {
        for name in names {
            let place = format!("{source}, `{list}`");
            if !chosen.contains(&at(name)?) {
                return Err(Error::data(
                    place,
                    "features",
                    format_args!("{}, which is none", Quoted(name)),
                ));
            }
            if list == "numeric" && roles.categorical.contains(name) {
                let got = format!("{}, which is also in `categorical`", Quoted(name));
                return Err(Error::data(place, "each feature in one list", got));
            }
        }
    }
    let feature = |from: usize| {
        let field = &fields[from];
        let (mode, why) = if roles.categorical.contains(&field.name) {
            (Mode::Levels(Interner::default()), "listed in `categorical`".to_owned())
        } else {
            refuse_moments(field, origin)?;
            if roles.numeric.contains(&field.name) {
                (Mode::Number, "listed in `numeric`".to_owned())
            } else {
                match (&field.given, late.get(&from)) {
                    (Given::Untyped, None) => (Mode::Infer(Inferred::default()), String::new()),
                    (Given::Untyped, Some(why)) => (Mode::Levels(Interner::default()), why.clone()),
                    (Given::Numeric(kind), _) => (Mode::Number, format!("{kind} in the source")),
                    (Given::Levels(kind) | Given::Moment(kind) | Given::Unreadable(kind), _) => {
                        (Mode::Levels(Interner::default()), format!("{kind} in the source"))
                    }
                }
            }
        };
        Ok(Feature::new(Named::new(fields, from), mode, why))
    };
    chosen.into_iter().map(feature).collect()
}

fn refuse_moments(field: &Field, origin: &Origin) -> Result<()> {
    let Given::Moment(kind) = &field.given else { return Ok(()) };
    let expected = "numbers, booleans, or text in a feature (give it a role, or ignore it)";
    Err(Error::data(origin.column(&field.name), expected, kind))
}

/// Distinct texts, numbered as they come.
#[derive(Debug, Clone, Default)]
struct Interner {
    codes: HashMap<Box<str>, u32>,
}

impl Interner {
    fn of(names: &[String]) -> Self {
        Self { codes: names.iter().map(|name| name.as_str().into()).zip(0..).collect() }
    }

    fn intern(&mut self, text: &str) -> Result<u32, Bad> {
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
    fn names(&self) -> Vec<&str> {
        let mut names = vec![""; self.codes.len()];
        for (name, &code) in &self.codes {
            names[code as usize] = name;
        }
        names
    }

    /// The names in sorted order, and the place there of each code.
    fn sorted(&self) -> (Vec<&str>, Vec<u32>) {
        let mut pairs: Vec<(&str, u32)> = self.codes.iter().map(|(n, &c)| (&**n, c)).collect();
        pairs.sort_unstable();
        let mut places = vec![0; pairs.len()];
        for (place, &(_, code)) in pairs.iter().enumerate() {
            places[code as usize] = place as u32;
        }
        (pairs.into_iter().map(|(name, _)| name).collect(), places)
    }

    /// Takes in the names of `next`, and says what its codes are here.
    fn append(&mut self, next: &Self) -> Result<Vec<u32>, Bad> {
        next.names().into_iter().map(|name| self.intern(name)).collect()
    }
}

fn number_of(cell: Cell<'_>) -> Result<f64, Bad> {
    match cell {
        Cell::Missing => Err(Bad::new("a number", "a missing cell")),
        Cell::Bool(b) => Ok(f64::from(b)),
        Cell::Integer(i) => Ok(i as f64),
        Cell::Number(x) if x.is_finite() => Ok(x),
        Cell::Number(x) => Err(Bad::new("a finite number", x)),
        Cell::Moment(nanos) => Err(Bad::new("a number", time::format(nanos))),
        Cell::Text(text) => match number::parse(text) {
            Parsed::Finite(x) => Ok(x),
            Parsed::Infinite => Err(Bad::new("a finite number", Quoted(text))),
            Parsed::NotANumber => Err(Bad::new("a number", Quoted(text))),
        },
    }
}

fn text_of(cell: Cell<'_>) -> Cow<'_, str> {
    match cell {
        Cell::Missing => "".into(),
        Cell::Bool(b) => if b { "true" } else { "false" }.into(),
        Cell::Integer(i) => i.to_string().into(),
        Cell::Number(x) => format!("{x:?}").into(),
        Cell::Text(text) => text.into(),
        Cell::Moment(nanos) => time::format(nanos).into(),
    }
}

/// A feature being read.
#[derive(Debug, Clone)]
struct Feature {
    named: Named,
    mode: Mode,
    why: String,
    missing: usize,
    unknown: usize,
    inexact: usize,
}

#[derive(Debug, Clone)]
enum Mode {
    Number,
    Infer(Inferred),
    Levels(Interner),
    Fitted(Levels, Interner),
}

/// A column of text that has held numbers only, so far.
#[derive(Debug, Clone, Default)]
struct Inferred {
    numbers: usize,
    infinite: Option<(u64, Bad)>,
    late: Option<(u64, String)>, // The first text after numbers.
}

impl Feature {
    fn new(named: Named, mode: Mode, why: String) -> Self {
        Self { named, mode, why, missing: 0, unknown: 0, inexact: 0 }
    }

    fn read(&mut self, cell: Cell<'_>, at: u64) -> Result<f32, Bad> {
        if let Cell::Missing = cell {
            self.missing += 1;
            return Ok(f32::NAN);
        }
        match &mut self.mode {
            Mode::Number => {
                let x = number_of(cell)?;
                self.narrow(x)
            }
            Mode::Infer(seen) => {
                match number_of(cell) {
                    Ok(x) => {
                        seen.numbers += 1;
                        return self.narrow(x);
                    }
                    Err(bad) if bad.expected == "a finite number" => {
                        seen.infinite.get_or_insert((at, bad));
                    }
                    Err(bad) if seen.numbers == 0 && seen.infinite.is_none() => {
                        let mut levels = Interner::default();
                        let code = levels.intern(&text_of(cell))?;
                        self.why = format!("{} is no number", bad.got);
                        self.mode = Mode::Levels(levels);
                        return Ok(code as f32);
                    }
                    Err(bad) => {
                        seen.late.get_or_insert((at, bad.got));
                    }
                }
                Ok(f32::NAN)
            }
            Mode::Levels(levels) => levels.intern(&text_of(cell)).map(|code| code as f32),
            Mode::Fitted(_, levels) => Ok(match levels.codes.get(&*text_of(cell)) {
                Some(&code) => code as f32,
                None => {
                    self.unknown += 1;
                    Frame::UNKNOWN
                }
            }),
        }
    }

    /// To `f32`, counting the integers that this changes.
    fn narrow(&mut self, x: f64) -> Result<f32, Bad> {
        let y = x as f32;
        if y.is_infinite() {
            return Err(Bad::new("a number within the range of `f32`", x));
        }
        if f64::from(y) != x && x.fract() == 0.0 {
            self.inexact += 1;
        }
        Ok(y)
    }

    /// Takes in what `next` saw; gives the meaning of its codes where they are others here.
    fn append(&mut self, next: Self) -> Result<Option<Vec<f32>>, Bad> {
        self.missing += next.missing;
        self.unknown += next.unknown;
        self.inexact += next.inexact;
        match (&mut self.mode, next.mode) {
            (Mode::Infer(seen), Mode::Infer(next)) => {
                seen.numbers += next.numbers;
                seen.infinite = seen.infinite.take().or(next.infinite);
                seen.late = seen.late.take().or(next.late);
            }
            (Mode::Levels(levels), Mode::Levels(next)) => {
                return levels.append(&next).map(|codes| Some(as_f32(&codes)));
            }
            // One part began with text, the other with numbers, or had nothing but missing cells.
            (Mode::Infer(seen), Mode::Levels(levels)) => {
                if seen.numbers == 0 && seen.infinite.is_none() {
                    self.why = next.why;
                    self.mode = Mode::Levels(levels);
                } else {
                    seen.late.get_or_insert((0, next.why));
                }
            }
            (Mode::Levels(_), Mode::Infer(seen)) => {
                if 0 < seen.numbers || seen.infinite.is_some() || seen.late.is_some() {
                    let late = Some((0, self.why.clone()));
                    self.mode = Mode::Infer(Inferred { late, ..seen });
                }
            }
            _ => {} // Numbers, and fitted levels, mean the same everywhere.
        }
        Ok(None)
    }

    /// The column, the final meaning of its provisional codes, and what to report.
    fn settle(
        self,
        origin: &Origin,
        n_rows: usize,
    ) -> Result<(Column, Option<Vec<f32>>, ColumnReport)> {
        let Self { named: Named { name, .. }, mode, mut why, missing, unknown, inexact } = self;
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
                why = if seen.numbers == 0 { "no cell says otherwise" } else { all }.to_owned();
                (Column::numeric(&name), None)
            }
            Mode::Fitted(levels, _) => (Column::categorical(&name, levels), None),
            Mode::Levels(interner) => {
                let (names, places) = interner.sorted();
                if why.ends_with("is no number") {
                    let is_number = |text: &&str| number::parse(text) != Parsed::NotANumber;
                    let numbers = names.iter().filter(|text| is_number(text)).count();
                    if names.len() < 2 * numbers {
                        let odd = names.iter().find(|text| !is_number(text));
                        warnings.push(format!(
                            "{numbers} of {} levels are numbers; if {} means missing, list it in `missing`",
                            names.len(),
                            Quoted(odd.copied().unwrap_or_default()),
                        ));
                    }
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

fn as_f32(codes: &[u32]) -> Vec<f32> {
    codes.iter().map(|&code| code as f32).collect()
}

/// A target being read.
#[derive(Debug, Clone)]
struct Target {
    named: Named,
    mode: Answer,
    why: String,
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
        late: Option<(u64, String)>, // The first text after numbers.
    },
}

impl Target {
    fn new(fields: &[Field], from: usize, goal: Goal<'_>, late: &HashMap<usize, String>) -> Self {
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
                    (Answer::Auto { values: Vec::new(), texts, late: None }, String::new())
                }
            },
        };
        Self { named: Named::new(fields, from), mode, why }
    }

    fn push(&mut self, cell: Cell<'_>, at: u64) -> Result<(), Bad> {
        if let Cell::Missing = cell {
            return Err(Bad::new("a target", "a missing cell"));
        }
        match &mut self.mode {
            Answer::Values(values) => values.push(number_of(cell)?),
            Answer::Classes(names, codes) => codes.push(names.intern(&text_of(cell))?),
            Answer::Fitted(task, names, codes) => {
                let text = text_of(cell);
                let Some(&code) = names.codes.get(&*text) else {
                    let known = task.class_names().unwrap_or_default().join(", ");
                    return Err(Bad::new(format!("one of the classes {known}"), Quoted(&text)));
                };
                codes.push(f64::from(code));
            }
            Answer::Auto { values, texts, late } => {
                let number = match number_of(cell) {
                    Ok(x) => x,
                    Err(bad) if bad.expected == "a finite number" => return Err(bad),
                    Err(bad) => match texts.take() {
                        Some((mut names, mut codes)) => {
                            codes.push(names.intern(&text_of(cell))?);
                            self.why = format!("{} is no number", bad.got);
                            self.mode = Answer::Classes(names, codes);
                            return Ok(());
                        }
                        None => {
                            late.get_or_insert((at, bad.got));
                            f64::NAN
                        }
                    },
                };
                values.push(number);
                if let Some((names, codes)) = texts {
                    codes.push(names.intern(&text_of(cell))?);
                    if 2 < names.codes.len() {
                        *texts = None;
                    }
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, next: Self) -> Result<(), Bad> {
        fn join(
            names: &mut Interner,
            codes: &mut Vec<u32>,
            next: &(Interner, Vec<u32>),
        ) -> Result<(), Bad> {
            let here = names.append(&next.0)?;
            codes.extend(next.1.iter().map(|&code| here[code as usize]));
            Ok(())
        }
        match (&mut self.mode, next.mode) {
            (Answer::Values(values), Answer::Values(next))
            | (Answer::Fitted(_, _, values), Answer::Fitted(_, _, next)) => values.extend(next),
            (Answer::Classes(names, codes), Answer::Classes(next, more)) => {
                join(names, codes, &(next, more))?;
            }
            (
                Answer::Auto { values, texts, late },
                Answer::Auto { values: more, texts: next_texts, late: next_late },
            ) => {
                values.extend(more);
                *late = late.take().or(next_late);
                *texts = match (texts.take(), next_texts) {
                    (Some((mut names, mut codes)), Some(next)) => {
                        join(&mut names, &mut codes, &next)?;
                        (names.codes.len() <= 2).then_some((names, codes))
                    }
                    _ => None,
                };
            }
            // One part has text, the other numbers: the source is read again as text.
            (Answer::Auto { late, .. }, Answer::Classes(..)) => {
                late.get_or_insert((0, next.why));
            }
            (mode @ Answer::Classes(..), Answer::Auto { .. }) => {
                let late = Some((0, self.why.clone()));
                *mode = Answer::Auto { values: Vec::new(), texts: None, late };
            }
            _ => unreachable!("both were begun alike"),
        }
        Ok(())
    }

    /// The task, the target, and the reason.
    fn settle(self, origin: &Origin, positive: Option<&str>) -> Result<(Task, Vec<f64>, String)> {
        let Self { named: Named { name, .. }, mode, mut why } = self;
        let place = || origin.column(&name);
        let (names, codes) = match mode {
            Answer::Fitted(task, _, codes) => return Ok((task, codes, why)),
            Answer::Classes(names, codes) => (names, codes),
            Answer::Auto { values, texts: Some((names, codes)), .. }
                if is_zero_one(&values, &names) =>
            {
                why = "it holds 0 and 1 only".to_owned();
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
                places.iter_mut().for_each(|place| *place = 1 - *place);
            }
        }
        let target = codes.iter().map(|&code| f64::from(places[code as usize])).collect();
        Ok((Task::classes(classes)?, target, why))
    }
}

fn is_zero_one(values: &[f64], names: &Interner) -> bool {
    names.codes.len() == 2
        && values.iter().all(|&y| y == 0.0 || y == 1.0)
        && values.contains(&0.0)
        && values.contains(&1.0)
}

/// Row weights being read.
#[derive(Debug, Clone)]
struct Weights {
    named: Named,
    values: Vec<f64>,
}

impl Weights {
    fn push(&mut self, cell: Cell<'_>) -> Result<(), Bad> {
        let weight = number_of(cell)?;
        if !(0.0 <= weight) {
            return Err(Bad::new("a finite number ≥ 0", weight));
        }
        self.values.push(weight);
        Ok(())
    }
}

/// Moments being read.
#[derive(Debug, Clone)]
struct Times {
    named: Named,
    values: Vec<i64>,
}

impl Times {
    fn push(&mut self, cell: Cell<'_>, rules: &Rules) -> Result<(), Bad> {
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
struct Ids {
    named: Named,
    kind: IdKind,
}

#[derive(Debug, Clone)]
enum IdKind {
    Integers(Vec<i64>),
    Texts(Interner, Vec<u32>),
}

impl Ids {
    fn new(fields: &[Field], from: usize, texts: bool) -> Self {
        let kind = if texts {
            IdKind::Texts(Interner::default(), Vec::new())
        } else {
            IdKind::Integers(Vec::new())
        };
        Self { named: Named::new(fields, from), kind }
    }

    fn push(&mut self, cell: Cell<'_>) -> Result<(), Bad> {
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

    fn append(&mut self, next: Self) -> Result<(), Bad> {
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
    fn settle(self) -> (Vec<i64>, &'static str) {
        let (names, codes) = match self.kind {
            IdKind::Integers(ids) => return (ids, "integers"),
            IdKind::Texts(names, codes) => (names, codes),
        };
        let canonical = |name: &&str| name.parse().ok().filter(|id: &i64| id.to_string() == **name);
        let integers: Option<Vec<i64>> = names.names().iter().map(canonical).collect();
        let (ids, why) = match integers {
            Some(ids) => (ids, "integers"),
            None => {
                let places = names.sorted().1;
                (places.into_iter().map(i64::from).collect(), "texts, numbered in sorted order")
            }
        };
        (codes.iter().map(|&code| ids[code as usize]).collect(), why)
    }
}
