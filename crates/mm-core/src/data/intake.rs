//! From cells to frames and datasets: where every reader's rows end.
//!
//! A reader gives the names and types of its columns ([`Field`]) and then one row after another
//! ([`Intake::push`]). Features go straight into the row-major buffer of the frame, 4 bytes a cell,
//! levels under provisional codes that [`Intake::finish`] replaces by sorted ones.

use std::collections::HashMap;

use crate::{
    data::{
        cell::{Cell, Field, Given, Named, Origin, Rules},
        column::{Feature, Ids, Inferred, Mode, Target, Times, Weights},
        dataset::{Dataset, Task},
        frame::Frame,
        interner::Interner,
        roles::{ColumnReport, ReadReport, Role, Roles, find},
        schema::{Column, ColumnKind, Quoted, Schema},
        time,
    },
    error::{Error, Result},
};

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
        let target = target.map(|from| Target::new(fields, from, goal, late));
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

    /// The columns that are read, by position in the source, ascending.
    #[cfg(feature = "parquet")]
    pub(super) fn sources(&self) -> Vec<usize> {
        let features = self.features.iter().map(|feature| &feature.named);
        let ids = [&self.groups, &self.entities].into_iter().flatten().map(|ids| &ids.named);
        let times = [&self.times, &self.label_times].into_iter().flatten().map(|t| &t.named);
        let target = self.target.iter().map(|target| &target.named);
        let weights = self.weights.iter().map(|weights| &weights.named);
        let all = features.chain(ids).chain(times).chain(target).chain(weights);
        let mut from: Vec<usize> = all.map(|named| named.from).collect();
        from.sort_unstable();
        from.dedup();
        from
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
            let cell = cell(feature.named.from);
            let plain = if rules.missing.is_empty() { feature.read_plain(cell) } else { None };
            let value = if let Some(value) = plain {
                value
            } else {
                let value = feature.read(rules.clean(cell), at);
                value.map_err(|bad| fail(&feature.named, bad))?
            };
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
        let features = self.features.iter().filter_map(Feature::late);
        let target = self.target.iter().filter_map(Target::late);
        let reason = |(from, odd): (usize, &Option<_>)| {
            (from, self.origin.reason(odd.clone()).unwrap_or_default())
        };
        features.chain(target).map(reason).collect()
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
        Ok(Feature::new(Named::new(fields, from), mode, "as fitted".into(), false))
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
    let chosen: Vec<usize> = if let Some(names) = &roles.features {
        for name in names {
            if [target, label_time].contains(&Some(name)) || roles.ignore.contains(name) {
                let got = format!("{} among them", Quoted(name));
                let expected = "neither the target, nor the label time, nor ignored columns";
                return Err(Error::data(format_args!("{source}, `features`"), expected, got));
            }
        }
        names.iter().map(|name| at(name)).collect::<Result<_>>()?
    } else {
        let (weight, group) = (roles.weight.as_deref(), roles.group.as_deref());
        let (time, entity) = (roles.time.as_deref(), roles.entity.as_deref());
        let with_role = [target, weight, group, time, label_time, entity];
        let is_feature = |field: &Field| {
            !roles.ignore.contains(&field.name) && !with_role.contains(&Some(&field.name))
        };
        (0..fields.len()).filter(|&from| is_feature(&fields[from])).collect()
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
        let inferred = matches!(field.given, Given::Untyped)
            && !roles.categorical.contains(&field.name)
            && !roles.numeric.contains(&field.name);
        Ok(Feature::new(Named::new(fields, from), mode, why, inferred))
    };
    chosen.into_iter().map(feature).collect()
}

fn refuse_moments(field: &Field, origin: &Origin) -> Result<()> {
    let Given::Moment(kind) = &field.given else { return Ok(()) };
    let expected = "numbers, booleans, or text in a feature (give it a role, or ignore it)";
    Err(Error::data(origin.column(&field.name), expected, kind))
}
