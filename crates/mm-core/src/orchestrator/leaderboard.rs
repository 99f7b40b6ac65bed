//! How the candidates and ensembles of a run compare.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};

use crate::metric::{Direction, Metric};

/// The entries of a run, best first; what failed stands last, with its reason.
///
/// `Display` writes a table for people; the fields, or serde, give the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Leaderboard {
    /// What the entries are ranked by.
    pub metric: Metric,
    /// Further metrics, in the order of [`Entry::also`].
    pub also: Vec<Metric>,
    /// Number of folds.
    pub n_folds: usize,
    /// The entries, best first.
    pub entries: Vec<Entry>,
    /// The score of predicting, in each fold, the training rows' class frequencies or mean: what a
    /// model must beat to be of use. `None` where the metric has no value for a constant.
    pub prior: Option<Score>,
}

/// One candidate or ensemble.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Entry {
    /// The name from the plan.
    pub name: String,
    /// How it fared, and why it failed.
    pub status: Status,
    /// The score that ranks, if the entry got so far.
    pub score: Option<Score>,
    /// Scores by the further metrics.
    pub also: Vec<Score>,
    /// Seconds of all fits of cross-fitting; for an ensemble, those of its members.
    pub fit_seconds: f64,
    /// Microseconds to predict one row, in batches, over the folds; for an ensemble, of its
    /// members together.
    pub predict_micros: f64,
    /// Bytes of the model fitted to all rows, as stored.
    pub bytes: Option<usize>,
    /// Members, for an ensemble.
    pub members: Vec<String>,
}

/// How an entry fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// All went well.
    Done,
    /// Scored, but the deadline or the watcher ended at least one fit early.
    CutShort,
    /// Failed, and the text says why. What failed after cross-fitting keeps its scores.
    Failed(String),
}

/// A score over folds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Score {
    /// One score a fold.
    pub folds: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Their sample standard deviation; 0 for a single fold.
    pub spread: f64,
}

impl Score {
    /// The mean and spread of the folds' scores.
    pub fn of(folds: Vec<f64>) -> Self {
        let n = folds.len() as f64;
        let mean = folds.iter().sum::<f64>() / n;
        let squares: f64 = folds.iter().map(|x| (x - mean).powi(2)).sum();
        let spread = if folds.len() < 2 { 0.0 } else { (squares / (n - 1.0)).sqrt() };
        Self { folds, mean, spread }
    }
}

impl Entry {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            status: Status::Done,
            score: None,
            also: Vec::new(),
            fit_seconds: 0.0,
            predict_micros: 0.0,
            bytes: None,
            members: Vec::new(),
        }
    }

    /// Whether the entry failed, be it before or after it was scored.
    pub fn has_failed(&self) -> bool {
        matches!(self.status, Status::Failed(_))
    }
}

impl Leaderboard {
    /// The best entry that succeeded.
    pub fn best(&self) -> Option<&Entry> {
        self.entries.first().filter(|entry| !entry.has_failed())
    }

    /// The entry called `name`.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Best first, ties in plan order, failures last.
    pub(super) fn rank(&mut self) {
        let direction = self.metric.direction();
        let mean = |entry: &Entry| entry.score.as_ref().map_or(f64::NAN, |score| score.mean);
        self.entries.sort_by(|a, b| {
            a.has_failed().cmp(&b.has_failed()).then_with(|| match (mean(a), mean(b)) {
                (a, b) if direction.is_better(a, b) => Ordering::Less,
                (a, b) if direction.is_better(b, a) => Ordering::Greater,
                _ => Ordering::Equal,
            })
        });
    }
}

impl fmt::Display for Leaderboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = match self.metric.direction() {
            Direction::Minimize => "lower is better",
            Direction::Maximize => "higher is better",
        };
        let folds = if self.n_folds == 1 { "fold" } else { "folds" };
        writeln!(f, "ranked by {} ({arrow}), {} {folds}", self.metric, self.n_folds)?;
        let mut table = vec![vec![String::new(), "model".into(), self.metric.to_string()]];
        table[0].extend(self.also.iter().map(ToString::to_string));
        table[0].extend(["fit s", "predict µs/row", "size", "status"].map(String::from));
        let beats_prior = |score: &Score| {
            let direction = self.metric.direction();
            self.prior.as_ref().is_none_or(|prior| direction.is_better(score.mean, prior.mean))
        };
        for (place, entry) in (1..).zip(&self.entries) {
            let (false, Some(score)) = (entry.has_failed(), &entry.score) else { continue };
            let mut row = vec![place.to_string(), entry.name.clone(), score.to_string()];
            row.extend(entry.also.iter().map(ToString::to_string));
            row.push(format!("{:.2}", entry.fit_seconds));
            row.push(format!("{:.2}", entry.predict_micros));
            row.push(entry.bytes.map_or_else(|| "–".to_owned(), size));
            let status = match (&entry.status, beats_prior(score)) {
                (Status::CutShort, _) => "cut short",
                (_, false) => "no better than the prior",
                _ => "",
            };
            row.push(match (status, entry.members.len()) {
                ("", 0) => String::new(),
                ("", _) => format!("of {}", entry.members.join(", ")),
                (status, _) => status.to_owned(),
            });
            table.push(row);
        }
        if let Some(prior) = &self.prior {
            let mut row = vec![String::new(), "(prior)".to_owned(), prior.to_string()];
            row.resize(table[0].len() - 1, String::new());
            row.push("predicts the training mean".to_owned());
            table.push(row);
        }
        let width = |column: usize| {
            table.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..table[0].len()).map(width).collect();
        for row in &table {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let is_text = column == 1 || column + 1 == widths.len();
                let cell =
                    if is_text { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
                line.push_str(&cell);
                line.push_str("  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        for entry in &self.entries {
            if let Status::Failed(reason) = &entry.status {
                write!(f, "failed: {}: {reason}", entry.name)?;
                match &entry.score {
                    Some(score) => writeln!(f, " (scored {score})")?,
                    None => writeln!(f)?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Four decimals, or five significant digits of small numbers; far from 1, powers of ten.
        let (mean, spread) = (self.mean, self.spread);
        match mean.abs() {
            0.0 => write!(f, "{mean:.4} ± {spread:.4}"),
            size if size < 1e-3 || 1e7 <= size => write!(f, "{mean:.3e} ± {spread:.1e}"),
            size if size < 1.0 => write!(f, "{mean:.4} ± {spread:.4}"),
            size => {
                let decimals = (4.0 - size.log10().floor()).max(0.0) as usize; // NaN gives 0.
                write!(f, "{mean:.decimals$} ± {spread:.decimals$}")
            }
        }
    }
}

fn size(bytes: usize) -> String {
    match bytes as f64 {
        b if b < 1e3 => format!("{b} B"),
        b if b < 1e6 => format!("{:.1} kB", b / 1e3),
        b => format!("{:.1} MB", b / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_any_unit_can_be_read_and_compared() {
        for (folds, text) in [
            (vec![0.75, 0.77], "0.7600 ± 0.0141"),
            (vec![12.0, 14.0], "13.000 ± 1.414"),
            (vec![12345.0, 12347.0], "12346 ± 1"),
            (vec![1.5e-5, 2.5e-5], "2.000e-5 ± 7.1e-6"), // Returns of a minute, say.
            (vec![1e300, 1e300], "1.000e300 ± 0.0e0"),
            (vec![0.0, 0.0], "0.0000 ± 0.0000"),
        ] {
            assert_eq!(Score::of(folds).to_string(), text);
        }
    }

    #[test]
    fn failures_rank_last_whatever_their_score_and_ties_keep_their_order() {
        let entry = |name: &str, mean: Option<f64>, status: Status| Entry {
            score: mean.map(|mean| Score::of(vec![mean])),
            status,
            ..Entry::new(name)
        };
        let failed = || Status::Failed("why".to_owned());
        let mut board = Leaderboard {
            metric: Metric::Rmse,
            also: Vec::new(),
            n_folds: 1,
            entries: vec![
                entry("unscored", None, failed()),
                entry("nan", Some(f64::NAN), Status::Done),
                entry("failed", Some(0.5), failed()),
                entry("second", Some(2.0), Status::CutShort),
                entry("first", Some(1.0), Status::Done),
                entry("third", Some(2.0), Status::Done),
            ],
            prior: None,
        };
        board.rank();
        let names: Vec<&str> = board.entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["first", "second", "third", "nan", "failed", "unscored"]);
        assert!(
            board
                .to_string()
                .ends_with("failed: failed: why (scored 0.5000 ± 0.0000)\nfailed: unscored: why\n")
        );
    }
}
