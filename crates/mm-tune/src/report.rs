//! A study as one HTML file.

use std::{fmt::Write as _, sync::Arc};

use mm_core::{Direction, FloatRange, IntRange, Result};

use crate::{
    distribution::Distribution,
    importance::PedAnova,
    study::Study,
    trial::{FrozenTrial, Param, TrialState},
};

/// Width and height of a chart, in pixels, and the room around it.
const SIZE: (f64, f64) = (720.0, 300.0);
const ROOM: f64 = 48.0;

/// So many trials are drawn as lines through all parameters; of more, the best.
const LINES: usize = 500;

impl Study {
    /// The study as one HTML file, which needs nothing else: how the best value came down, which
    /// parameters mattered, each parameter against the objective, all of them together, the Pareto
    /// front of several objectives, and the best trials in a table. O(trials · parameters) in size.
    pub fn to_html(&self) -> Result<String> {
        let trials = self.trials()?;
        let complete: Vec<&FrozenTrial> = trials
            .iter()
            .map(|trial| &**trial)
            .filter(|t| t.state == TrialState::Complete && t.values.iter().all(|v| v.is_finite()))
            .collect();
        let mut html = String::from(HEAD);
        let _ = write!(html, "<title>{0}</title></head><body><h1>{0}</h1>", escape(self.name()));
        let count = |state| trials.iter().filter(|trial| trial.state == state).count();
        let _ = write!(
            html,
            "<p>{} trials: {} complete, {} given up early, {} failed, {} running, {} waiting.</p>",
            trials.len(),
            count(TrialState::Complete),
            count(TrialState::Pruned),
            count(TrialState::Fail),
            count(TrialState::Running),
            count(TrialState::Waiting),
        );
        if complete.is_empty() {
            html.push_str("<p>Nothing to show before a trial is complete.</p></body></html>");
            return Ok(html);
        }
        for (objective, &direction) in self.directions().iter().enumerate() {
            let title = match self.directions().len() {
                1 => "History".to_owned(),
                _ => format!("History of objective {objective}"),
            };
            section(&mut html, &title, &history(&complete, objective, direction));
        }
        let best = self.best_trials()?;
        if let [_, _, ..] = self.directions() {
            section(
                &mut html,
                "Pareto front of the first two objectives",
                &front(&complete, &best),
            );
        }
        let importance = PedAnova::default().of(self)?;
        section(&mut html, "Importance (PED-ANOVA)", &bars(&importance));
        let names: Vec<&str> = importance.iter().map(|(name, _)| name.as_str()).collect();
        let direction = self.directions().first().copied().unwrap_or(Direction::Minimize);
        section(&mut html, "All parameters", &lines(&complete, &names, direction));
        html.push_str("<h2>Each parameter</h2>");
        for name in &names {
            html.push_str(&slice(&complete, name));
        }
        table(&mut html, &complete, &best, &names, direction);
        html.push_str("</body></html>");
        Ok(html)
    }
}

const HEAD: &str = "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><style>\
body{font:14px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}\
svg{background:#fafafa;border:1px solid #ddd;margin:4px;max-width:100%}\
svg text{font-size:11px;fill:#555}.dot{fill:#36c;fill-opacity:.45}.best{fill:#d33}\
.line{fill:none;stroke:#36c;stroke-opacity:.25}.step{fill:none;stroke:#d33;stroke-width:2}\
.axis{stroke:#999}.bar{fill:#36c}table{border-collapse:collapse}\
td,th{border:1px solid #ddd;padding:2px 8px;text-align:right}\
@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}svg{background:#1a1a1a;\
border-color:#333}svg text{fill:#aaa}td,th{border-color:#333}}</style>";

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn section(html: &mut String, title: &str, chart: &str) {
    let _ = write!(html, "<h2>{}</h2>{chart}", escape(title));
}

/// Short, as a person would write it.
fn number(x: f64) -> String {
    if x == 0.0 || (1e-3..1e5).contains(&x.abs()) {
        let text = format!("{x:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{x:.2e}")
    }
}

/// From the least to the greatest value, to pixels.
#[derive(Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
        Self { low, high, from, to }
    }

    fn at(&self, x: f64) -> f64 {
        // Halved first, so that the widest range has a width.
        let width = self.high / 2.0 - self.low / 2.0;
        let part = if 0.0 < width { (x / 2.0 - self.low / 2.0) / width } else { 0.5 };
        self.from + part * (self.to - self.from)
    }
}

fn across(values: impl Iterator<Item = f64>) -> Scale {
    Scale::of(values, ROOM, SIZE.0 - ROOM)
}

fn upwards(values: impl Iterator<Item = f64>) -> Scale {
    Scale::of(values, SIZE.1 - ROOM, ROOM / 2.0)
}

fn svg(content: &str) -> String {
    let (w, h) = SIZE;
    format!("<svg viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\">{content}</svg>")
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = escape(text);
    let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

fn dot(svg: &mut String, at: (f64, f64), class: &str, label: &str) {
    let (x, y) = at;
    let _ = write!(
        svg,
        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" class=\"{class}\"><title>{}</title></circle>",
        escape(label)
    );
}

/// The ends of both axes.
fn ends(svg: &mut String, x: (&str, &str, &str), y: Scale) {
    let (w, h) = SIZE;
    let low = h - ROOM + 16.0;
    text(svg, ROOM, low, "middle", x.0);
    text(svg, w - ROOM, low, "middle", x.2);
    text(svg, w / 2.0, low + 16.0, "middle", x.1);
    text(svg, ROOM - 6.0, y.from, "end", &number(y.low));
    text(svg, ROOM - 6.0, y.to + 8.0, "end", &number(y.high));
}

fn label(trial: &FrozenTrial) -> String {
    let values: Vec<String> = trial.values.iter().map(|&value| number(value)).collect();
    let params = trial.params.iter().map(|param| format!("{} = {}", param.name, shown(param)));
    let params: Vec<String> = params.collect();
    format!("trial {}: {}\n{}", trial.number, values.join(", "), params.join("\n"))
}

/// A parameter's value as its user knows it.
fn shown(param: &Param) -> String {
    match &*param.distribution {
        Distribution::Float(_) => number(param.value),
        Distribution::Int(_) => (param.value as i64).to_string(),
        Distribution::Categorical(choices) => {
            choices.get(param.value as usize).map_or_else(String::new, ToString::to_string)
        }
    }
}

fn history(trials: &[&FrozenTrial], objective: usize, direction: Direction) -> String {
    let value = |trial: &&FrozenTrial| trial.values[objective];
    let x = across(trials.iter().map(|trial| trial.number as f64));
    let y = upwards(trials.iter().map(value));
    let (mut content, mut path) = (String::new(), String::new());
    let mut best = f64::NAN;
    for trial in trials {
        let here = value(trial);
        let at = (x.at(trial.number as f64), y.at(here));
        dot(&mut content, at, "dot", &label(trial));
        let before = best;
        if best.is_nan() || direction.is_better(here, best) {
            best = here;
        }
        if before.is_nan() {
            let _ = write!(path, "M{:.1} {:.1}", at.0, at.1);
        } else {
            let _ = write!(path, "L{:.1} {:.1}L{0:.1} {:.1}", at.0, y.at(before), y.at(best));
        }
    }
    let _ = write!(content, "<path d=\"{path}\" class=\"step\"/>");
    ends(&mut content, (&number(x.low), "trial", &number(x.high)), y);
    svg(&content)
}

fn front(trials: &[&FrozenTrial], best: &[Arc<FrozenTrial>]) -> String {
    let x = across(trials.iter().map(|trial| trial.values[0]));
    let y = upwards(trials.iter().map(|trial| trial.values[1]));
    let mut content = String::new();
    for trial in trials {
        let is_best = best.iter().any(|other| other.id == trial.id);
        let at = (x.at(trial.values[0]), y.at(trial.values[1]));
        dot(&mut content, at, if is_best { "best" } else { "dot" }, &label(trial));
    }
    ends(&mut content, (&number(x.low), "objective 0", &number(x.high)), y);
    svg(&content)
}

fn bars(importance: &[(String, f64)]) -> String {
    let mut html = String::from("<table>");
    for (name, share) in importance {
        let width = (share * 400.0).round();
        let _ = write!(
            html,
            "<tr><td>{}</td><td style=\"text-align:left\"><svg width=\"410\" height=\"14\">\
             <rect class=\"bar\" width=\"{width}\" height=\"14\"/></svg> {:.3}</td></tr>",
            escape(name),
            share
        );
    }
    html + "</table>"
}

/// A value's place on its own scale, from 0 to 1.
fn unit(param: &Param) -> f64 {
    let place = |low: f64, high: f64, log: bool| {
        let scale = Scale {
            low: if log { low.ln() } else { low },
            high: if log { high.ln() } else { high },
            from: 0.0,
            to: 1.0,
        };
        scale.at(if log { param.value.ln() } else { param.value })
    };
    match *param.distribution {
        Distribution::Float(FloatRange { low, high, log, .. }) => place(low, high, log),
        Distribution::Int(IntRange { low, high, log, .. }) => place(low as f64, high as f64, log),
        Distribution::Categorical(ref choices) => place(0.0, choices.len() as f64 - 1.0, false),
    }
}

/// Each trial as a line through its parameters and its first value.
fn lines(trials: &[&FrozenTrial], names: &[&str], direction: Direction) -> String {
    let mut chosen = trials.to_vec();
    chosen.sort_by(|a, b| match direction {
        Direction::Minimize => a.values[0].total_cmp(&b.values[0]),
        Direction::Maximize => b.values[0].total_cmp(&a.values[0]),
    });
    chosen.truncate(LINES);
    let y = upwards([0.0, 1.0].into_iter());
    let value = Scale::of(chosen.iter().map(|trial| trial.values[0]), y.from, y.to);
    let x = |i: usize| ROOM + (SIZE.0 - 2.0 * ROOM) * i as f64 / names.len() as f64;
    let mut content = String::new();
    for trial in &chosen {
        let mut path = String::new();
        for (i, name) in names.iter().enumerate() {
            let Some(param) = trial.params.get(name) else { continue };
            let to = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{to}{:.1} {:.1}", x(i), y.at(unit(param)));
        }
        let to = if path.is_empty() { 'M' } else { 'L' };
        let _ = write!(path, "{to}{:.1} {:.1}", x(names.len()), value.at(trial.values[0]));
        let title = escape(&label(trial));
        let _ = write!(content, "<path d=\"{path}\" class=\"line\"><title>{title}</title></path>");
    }
    for (i, name) in names.iter().copied().chain(["value"]).enumerate() {
        let (x, low) = (x(i), SIZE.1 - ROOM + 16.0 + 14.0 * (i % 2) as f64);
        let _ = write!(
            content,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{}\" class=\"axis\"/>",
            y.from, y.to
        );
        text(&mut content, x, low, "middle", name);
    }
    svg(&content)
}

/// One parameter against the first value.
fn slice(trials: &[&FrozenTrial], name: &str) -> String {
    let having: Vec<(&FrozenTrial, &Param)> =
        trials.iter().filter_map(|trial| Some((*trial, trial.params.get(name)?))).collect();
    let x = across([0.0, 1.0].into_iter());
    let y = upwards(having.iter().map(|(trial, _)| trial.values[0]));
    let mut content = String::new();
    for (trial, param) in &having {
        dot(&mut content, (x.at(unit(param)), y.at(trial.values[0])), "dot", &label(trial));
    }
    let (low, high) = match having.last().map(|(_, param)| &*param.distribution) {
        Some(Distribution::Float(range)) => (number(range.low), number(range.high)),
        Some(Distribution::Int(range)) => (range.low.to_string(), range.high.to_string()),
        Some(Distribution::Categorical(choices)) => {
            let shown =
                |choice: Option<&crate::Choice>| choice.map_or(String::new(), ToString::to_string);
            (shown(choices.first()), shown(choices.last()))
        }
        None => (String::new(), String::new()),
    };
    ends(&mut content, (&low, name, &high), y);
    svg(&content)
}

/// The front of several objectives, or the ten best trials.
fn table(
    html: &mut String,
    trials: &[&FrozenTrial],
    best: &[Arc<FrozenTrial>],
    names: &[&str],
    direction: Direction,
) {
    let mut rows: Vec<&FrozenTrial> = trials.to_vec();
    if rows.first().is_some_and(|trial| 1 < trial.values.len()) {
        rows = best.iter().map(|trial| &**trial).collect();
    } else {
        rows.sort_by(|a, b| match direction {
            Direction::Minimize => a.values[0].total_cmp(&b.values[0]),
            Direction::Maximize => b.values[0].total_cmp(&a.values[0]),
        });
        rows.truncate(10);
    }
    html.push_str("<h2>Best trials</h2><table><tr><th>trial</th><th>value</th>");
    for name in names {
        let _ = write!(html, "<th>{}</th>", escape(name));
    }
    html.push_str("</tr>");
    for trial in rows {
        let values: Vec<String> = trial.values.iter().map(|&value| number(value)).collect();
        let _ = write!(html, "<tr><td>{}</td><td>{}</td>", trial.number, values.join(", "));
        for name in names {
            let value = trial.params.get(name).map_or_else(String::new, shown);
            let _ = write!(html, "<td>{}</td>", escape(&value));
        }
        html.push_str("</tr>");
    }
    html.push_str("</table>");
}

#[cfg(test)]
mod tests {
    use mm_core::Suggest as _;

    use super::*;
    use crate::{MemoryStorage, Outcome};

    #[test]
    fn a_report_shows_every_trial_and_parameter_and_needs_nothing_else() {
        let both = [Direction::Minimize, Direction::Maximize];
        for directions in [&both[..1], &both] {
            let storage = Arc::new(MemoryStorage::default());
            let study = Study::open(storage, "a <study> & more", directions).expect("memory");
            assert!(study.to_html().expect("memory").contains("Nothing to show"));
            let objective = |trial: &mut crate::Trial| {
                let rate = trial.float("rate", FloatRange::log(1e-4, 1.0))?;
                let kind = trial.choose("kind", &["<a>", "b"])?;
                if kind == 1 {
                    trial.int("only b", IntRange::new(1, 5))?;
                }
                let values = [rate, kind as f64, f64::INFINITY];
                Ok(Outcome::Values(values[..directions.len()].to_vec()))
            };
            study.optimize(20, objective).expect("memory");
            let html = study.to_html().expect("memory");
            assert!(html.contains("a &lt;study&gt; &amp; more") && !html.contains("<study>"));
            for part in ["History", "Importance", "All parameters", "only b", "&lt;a&gt;", "Best"] {
                assert!(html.contains(part), "{part}");
            }
            assert_eq!(html.contains("Pareto"), directions.len() == 2);
            assert!((0..20).all(|i| html.contains(&format!("trial {i}:"))));
            for outside in ["http", "src=", "href", "@import", "NaN", "inf"] {
                assert!(!html.contains(outside), "{outside}");
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        for (x, expected) in [(0.0, "0"), (0.25, "0.25"), (1e-7, "1.00e-7"), (-12.0, "-12")] {
            assert_eq!(number(x), expected);
        }
    }
}
