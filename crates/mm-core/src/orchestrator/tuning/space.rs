//! The search spaces of a candidate's kinds, as far as its params leave them open.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Rungs;
use crate::{
    catalog::Catalog,
    error::{Error, Result},
    search::{FloatRange, IntRange, SpaceSize, Suggest},
};

/// A kind of model with the params that are fixed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Family {
    /// A kind of the catalog that has a search space.
    pub kind: String,
    /// What is fixed.
    #[serde(default = "crate::orchestrator::plan::empty")]
    pub params: Value,
}

impl Family {
    /// A kind, with params that are fixed: an object.
    pub fn new(kind: impl Into<String>, params: Value) -> Self {
        Self { kind: kind.into(), params }
    }

    /// The same with as many rounds as the highest rung.
    pub(super) fn on(self, catalog: &Catalog, rungs: Option<Rungs>) -> Self {
        rungs.and_then(|rungs| self.with_rounds(catalog, rungs.last)).unwrap_or(self)
    }

    /// The same with so many rounds of boosting: its own, or those of the one member that has any. None
    /// if there is nothing of the sort, or more than one.
    pub(super) fn with_rounds(&self, catalog: &Catalog, rounds: usize) -> Option<Self> {
        let places = self.rounds(catalog);
        let [place] = &places[..] else { return None };
        let mut params = self.params.clone();
        let field = place.split('.').fold(&mut params, |value, key| match key.parse::<usize>() {
            Ok(i) if value.is_array() => &mut value[i],
            _ => &mut value[key], // Made where there is none.
        });
        *field = rounds.into();
        Some(Self { params, ..self.clone() })
    }

    /// The paths, in the params, of learners' `rounds`.
    fn rounds(&self, catalog: &Catalog) -> Vec<String> {
        let is_learner = catalog.kinds().any(|kind| kind == self.kind);
        let has_rounds = catalog.defaults(&self.kind).is_some_and(|it| it.get("rounds").is_some());
        if is_learner && has_rounds && self.params.is_object() {
            return vec!["rounds".to_owned()];
        }
        let members = self.members(catalog).into_iter();
        let of_member = |(place, member): (String, Self)| {
            let places = member.rounds(catalog).into_iter();
            places.map(move |rounds| format!("{place}.params.{rounds}"))
        };
        members.flat_map(of_member).collect()
    }

    /// Draws a configuration from the kind's space. What is fixed is not asked for. The space of a
    /// composite is its own, if it has any, and those of its members, whose names begin with their place
    /// (`of.rounds`, `members.1.learning_rate`).
    pub fn draw(
        &self,
        catalog: &Catalog,
        space: SpaceSize,
        draw: &mut dyn Suggest,
    ) -> Result<Value> {
        let mut any = self.has_space(catalog) || catalog.members(&self.kind).is_empty();
        let mut params =
            if any { self.draw_own(catalog, space, draw)? } else { self.params.clone() };
        for (prefix, member) in self.members(catalog) {
            any = true;
            let drawn = member.draw(catalog, space, &mut Prefixed { prefix: &prefix, draw })?;
            if let Some(place) = params.pointer_mut(&pointer(&prefix)) {
                place["params"] = drawn;
            }
        }
        if !any {
            let problem = format!("expected members that have a space, got `{}`", self.kind);
            return Err(Error::config("tune", problem));
        }
        Ok(params)
    }

    /// Draws what is the kind's own, and not its members'.
    fn draw_own(
        &self,
        catalog: &Catalog,
        space: SpaceSize,
        draw: &mut dyn Suggest,
    ) -> Result<Value> {
        let empty = Value::Null;
        let defaults = catalog.defaults(&self.kind).unwrap_or(&empty);
        let mut pinned = Pinned { fixed: &self.params, defaults, draw };
        let mut params = catalog.search(&self.kind, space, &mut pinned)?;
        overlay(&mut params, &self.params, defaults);
        Ok(params)
    }

    /// The points of the space that a search tries first: the kind's defaults, then its
    /// [portfolio](crate::Search::portfolio), but for what is fixed. Each is the answers by name, as JSON,
    /// choices by their text; where the space does not hold a point exactly, one near it. Of a composite the
    /// members' first points together, then their second ones, and so on; a member that has no more has its
    /// defaults.
    pub fn points(&self, catalog: &Catalog, space: SpaceSize) -> Result<Vec<Vec<(String, Value)>>> {
        let mut parts = Vec::new();
        if self.has_space(catalog) {
            let defaults = catalog.defaults(&self.kind).cloned().unwrap_or_default();
            let wanted = std::iter::once(defaults).chain(catalog.portfolio(&self.kind, space));
            let own = wanted.map(|wanted| self.point(catalog, space, wanted));
            parts.push(own.collect::<Result<Vec<_>>>()?);
        }
        for (prefix, member) in self.members(catalog) {
            let mut points = member.points(catalog, space)?;
            for (name, _) in points.iter_mut().flatten() {
                *name = format!("{prefix}.{name}");
            }
            parts.push(points);
        }
        let n = parts.iter().map(Vec::len).max().unwrap_or(1);
        let nth = |i: usize| {
            let of_part = |points: &Vec<Vec<_>>| points.get(i).unwrap_or(&points[0]).clone();
            parts.iter().flat_map(of_part).collect()
        };
        Ok((0..n).map(nth).collect())
    }

    fn has_space(&self, catalog: &Catalog) -> bool {
        catalog.searchable().any(|kind| kind == self.kind)
    }

    /// The answers that lead to params, but for what is fixed.
    fn point(
        &self,
        catalog: &Catalog,
        space: SpaceSize,
        mut wanted: Value,
    ) -> Result<Vec<(String, Value)>> {
        let empty = Value::Null;
        overlay(&mut wanted, &self.params, catalog.defaults(&self.kind).unwrap_or(&empty));
        let mut nearest = None;
        for path in 0..WALKS {
            let mut usual = Usual { wanted: &wanted, path, answers: Vec::new() };
            let drawn = self.draw_own(catalog, space, &mut usual)?;
            if drawn == wanted {
                return Ok(usual.answers);
            }
            nearest.get_or_insert(usual.answers);
        }
        Ok(nearest.unwrap_or_default())
    }

    /// The members of a composite that have a space, each with its place.
    fn members(&self, catalog: &Catalog) -> Vec<(String, Self)> {
        let mut found = Vec::new();
        for field in catalog.members(&self.kind) {
            if let Some(value) = self.params.pointer(&pointer(field)) {
                collect(catalog, (*field).to_owned(), value, &mut found);
            }
        }
        found
    }
}

fn collect(catalog: &Catalog, place: String, value: &Value, found: &mut Vec<(String, Family)>) {
    if let Value::Array(values) = value {
        for (i, value) in values.iter().enumerate() {
            collect(catalog, format!("{place}.{i}"), value, found);
        }
    } else if let Some(kind) = value["kind"].as_str() {
        let params = value.get("params").cloned().unwrap_or_else(crate::orchestrator::plan::empty);
        let family = Family::new(kind, params);
        if family.has_space(catalog) || !catalog.members(kind).is_empty() {
            found.push((place, family));
        }
    }
}

/// A path of a field, with dots, as JSON's pointers spell it.
fn pointer(path: &str) -> String {
    format!("/{}", path.replace('.', "/"))
}

/// So many ways through a space are tried to find the one to given params.
const WALKS: usize = 4096;

/// Answers with the wanted value of the field that is asked for, where that is an answer; elsewhere by
/// the digits of `path`, so that all ways are walked.
struct Usual<'a> {
    wanted: &'a Value,
    path: usize,
    answers: Vec<(String, Value)>,
}

impl Usual<'_> {
    fn number(&self, name: &str) -> Option<f64> {
        name.split('.').try_fold(self.wanted, |value, key| value.get(key))?.as_f64()
    }

    fn digit(&mut self, base: usize) -> usize {
        let digit = self.path % base;
        self.path /= base;
        digit
    }

    fn say<T: Copy + Into<Value>>(&mut self, name: &str, answer: T) -> T {
        self.answers.push((name.to_owned(), answer.into()));
        answer
    }
}

impl Suggest for Usual<'_> {
    fn float(&mut self, name: &str, range: FloatRange) -> Result<f64> {
        let FloatRange { low, high, step, .. } = range;
        let found = self.number(name).filter(|x| low <= *x && *x <= high);
        let x = found.unwrap_or_else(|| [low, high][self.digit(2)]);
        let x = step.map_or(x, |step| (low + ((x - low) / step).round() * step).min(high));
        Ok(self.say(name, x))
    }

    fn int(&mut self, name: &str, range: IntRange) -> Result<i64> {
        let IntRange { low, high, step, .. } = range;
        let found = self.number(name).map(|x| x as i64).filter(|x| (low..=high).contains(x));
        let x = found.unwrap_or_else(|| [low, high][self.digit(2)]);
        Ok(self.say(name, low + (x - low) / step * step))
    }

    fn choose(&mut self, name: &str, choices: &[&str]) -> Result<usize> {
        let chosen = self.digit(choices.len().max(1));
        let text = choices.get(chosen).copied().unwrap_or_default();
        self.answers.push((name.to_owned(), text.into()));
        Ok(chosen)
    }
}

/// Whether `fixed` takes the place of a value whose default is `default`, instead of being merged
/// into it: all but tables of fields that the default has, too. Alternatives with data are tables
/// as well, but of one key that the default may lack.
fn replaces(fixed: &Value, default: &Value) -> bool {
    match (fixed, default) {
        (Value::Object(fixed), Value::Object(default)) => {
            fixed.keys().any(|key| !default.contains_key(key))
        }
        _ => true,
    }
}

fn overlay(params: &mut Value, fixed: &Value, default: &Value) {
    match (&mut *params, fixed) {
        (Value::Object(params), Value::Object(fields)) if !replaces(fixed, default) => {
            for (key, field) in fields {
                let place = params.entry(key.clone()).or_insert(Value::Null);
                overlay(place, field, &default[key]);
            }
        }
        _ => *params = fixed.clone(),
    }
}

/// Asks only for what is not fixed; to the rest it answers with the least value, which
/// [`overlay`] replaces.
struct Pinned<'a> {
    fixed: &'a Value,
    defaults: &'a Value,
    draw: &'a mut dyn Suggest,
}

impl Pinned<'_> {
    fn is_fixed(&self, path: &str) -> bool {
        let (mut fixed, mut default) = (self.fixed, self.defaults);
        for key in path.split('.') {
            if replaces(fixed, default) {
                return true;
            }
            match fixed.get(key) {
                Some(field) => (fixed, default) = (field, &default[key]),
                None => return false,
            }
        }
        true
    }
}

impl Suggest for Pinned<'_> {
    fn float(&mut self, name: &str, range: FloatRange) -> Result<f64> {
        if self.is_fixed(name) { Ok(range.low) } else { self.draw.float(name, range) }
    }

    fn int(&mut self, name: &str, range: IntRange) -> Result<i64> {
        if self.is_fixed(name) { Ok(range.low) } else { self.draw.int(name, range) }
    }

    fn choose(&mut self, name: &str, choices: &[&str]) -> Result<usize> {
        if self.is_fixed(name) { Ok(0) } else { self.draw.choose(name, choices) }
    }
}

/// Asks under the names of one family of several.
pub(super) struct Prefixed<'a> {
    pub(super) prefix: &'a str,
    pub(super) draw: &'a mut dyn Suggest,
}

impl Suggest for Prefixed<'_> {
    fn float(&mut self, name: &str, range: FloatRange) -> Result<f64> {
        self.draw.float(&format!("{}.{name}", self.prefix), range)
    }

    fn int(&mut self, name: &str, range: IntRange) -> Result<i64> {
        self.draw.int(&format!("{}.{name}", self.prefix), range)
    }

    fn choose(&mut self, name: &str, choices: &[&str]) -> Result<usize> {
        self.draw.choose(&format!("{}.{name}", self.prefix), choices)
    }
}
/// Answers with the middle of every range.
pub(super) struct Centre;

impl Suggest for Centre {
    fn float(&mut self, name: &str, range: FloatRange) -> Result<f64> {
        range.check(name)?;
        let FloatRange { low, high, step, log } = range;
        let middle = if log { (low * high).sqrt() } else { low + (high - low) / 2.0 };
        Ok(step.map_or(middle, |step| low + ((middle - low) / step).floor() * step))
    }

    fn int(&mut self, name: &str, range: IntRange) -> Result<i64> {
        range.check(name)?;
        Ok(range.low + (range.high - range.low) / 2 / range.step * range.step)
    }

    fn choose(&mut self, _: &str, _: &[&str]) -> Result<usize> {
        Ok(0)
    }
}
