//! Permutation importance: how much worse a fitted model gets when a feature is shuffled.
//!
//! # Idea
//!
//! Score the model on data, put one column's cells into random order, and score it again. What the
//! model loses is what it owed to the column. Unlike counts of splits it needs no knowledge of the
//! model, is in units of the metric, and can be taken on held-out data, where a feature that was
//! only learnt by heart is worth nothing.
//!
//! Columns that tell the same are each dispensable while the other is there: shuffle them together,
//! as a [group](Permutation::with_group).
//!
//! Cost: 1 + repeats · features predictions, side by side on the ambient pool (see
//! [`parallel`](crate::parallel)). Each in work holds a copy of the frame's values.
//!
//! # Sources
//!
//! Breiman (2001), "Random forests"; Fisher, Rudin & Dominici (2019), "All models are wrong, but
//! many are useful" (model reliance).

use std::fmt;

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    context::split_mix,
    data::{Dataset, Frame, Matrix},
    error::{Error, ParamError, Result},
    metric::{Direction, Metric},
    model::Model,
};

/// How permutation importance is measured.
///
/// | setting | default | domain | effect |
/// | --- | --- | --- | --- |
/// | metric | that of [`Metric::default_for`] the task | one that supports the task | what is lost is counted in its units |
/// | repeats | 5 | ≥ 1 | shuffles of each feature |
/// | seed | 0 | any | of the shuffles |
/// | groups | none | names of columns, each in one group at most | columns that are shuffled together; all others alone |
#[derive(Debug, Clone, PartialEq)]
pub struct Permutation {
    metric: Option<Metric>,
    repeats: usize,
    seed: u64,
    groups: Vec<(String, Vec<String>)>,
}

impl Default for Permutation {
    fn default() -> Self {
        Self { metric: None, repeats: 5, seed: 0, groups: Vec::new() }
    }
}

impl Permutation {
    /// The same judged by `metric`.
    #[must_use]
    pub fn with_metric(self, metric: Metric) -> Self {
        Self { metric: Some(metric), ..self }
    }

    /// The same with so many shuffles of each feature.
    #[must_use]
    pub fn with_repeats(self, repeats: usize) -> Self {
        Self { repeats, ..self }
    }

    /// The same with another seed.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The same with one more group of columns, which are shuffled together, row by row.
    #[must_use]
    pub fn with_group<S: Into<String>>(
        mut self,
        name: impl Into<String>,
        columns: impl IntoIterator<Item = S>,
    ) -> Self {
        self.groups.push((name.into(), columns.into_iter().map(Into::into).collect()));
        self
    }

    /// Measures every feature of `model` on `data`, whose weights count in the metric.
    ///
    /// The result depends on the model, the data, and the settings alone, not on the pool.
    ///
    /// # Errors
    ///
    /// No repeats; a group that is empty, names a column that is not there, or one that another
    /// group has; data that the model or the metric refuses; fewer than 2 rows.
    ///
    /// ```
    /// # use mm_core::{Dataset, Metric, Model, Permutation, Result};
    /// fn show(model: &dyn Model, held_out: &Dataset) -> Result<()> {
    ///     let report = Permutation::default().with_repeats(10).of(model, held_out)?;
    ///     print!("{report}"); // A line a feature, those that matter most first.
    ///     Ok(())
    /// }
    /// ```
    pub fn of(&self, model: &dyn Model, data: &Dataset) -> Result<PermutationReport> {
        ParamError::ensure(1 <= self.repeats, "repeats", self.repeats, "at least 1")?;
        if data.n_rows() < 2 {
            return Err(Error::data("rows to shuffle", "at least 2", data.n_rows()));
        }
        let metric = self.metric.unwrap_or_else(|| Metric::default_for(data.task()));
        let x = model.signature().admit(data.frame())?;
        let parts = self.parts(&x)?;
        let score = |x: &Frame| {
            let mut predicted = Matrix::zeros(x.n_rows(), model.signature().n_outputs());
            model.infer(x, &mut predicted)?;
            metric.score(data.truth(), &predicted)
        };
        let intact = score(&x)?;
        let job = |job: usize| {
            let (name, columns) = &parts[job / self.repeats];
            let place = |e: Error| e.within(format!("permutation of `{name}`"));
            let shuffled = shuffle(&x, columns, split_mix(self.seed ^ split_mix(job as u64)));
            shuffled.and_then(|x| score(&x)).map_err(place)
        };
        let jobs = (0..parts.len() * self.repeats).into_par_iter().map(job);
        // Collected in order, so that which error is reported does not depend on the pool.
        let scores = jobs.collect::<Vec<_>>().into_iter().collect::<Result<Vec<f64>>>()?;
        let features = parts.iter().zip(scores.chunks(self.repeats));
        let features = features.map(|((name, columns), scores)| PermutedFeature {
            name: name.clone(),
            columns: columns.clone(),
            losses: (scores.iter())
                .map(|score| match metric.direction() {
                    Direction::Minimize => score - intact,
                    Direction::Maximize => intact - score,
                })
                .collect(),
        });
        Ok(PermutationReport { metric, score: intact, features: features.collect() })
    }

    /// What is shuffled together: groups stand where their first column does.
    fn parts(&self, x: &Frame) -> Result<Vec<(String, Vec<usize>)>> {
        let columns = x.schema().columns();
        let mut group_of = vec![None; columns.len()];
        for (g, (name, members)) in self.groups.iter().enumerate() {
            let place = format!("group `{name}`");
            if members.is_empty() {
                return Err(Error::data(place, "at least 1 column", "none"));
            }
            for member in members {
                let Some(j) = x.schema().position(member) else {
                    return Err(
                        Error::NotFound { what: "column", name: member.clone() }.within(place)
                    );
                };
                if group_of[j].replace(g).is_some() {
                    let got = format!("`{member}` twice");
                    return Err(Error::data(place, "columns that no group has yet", got));
                }
            }
        }
        let mut parts = Vec::new();
        let mut is_done = vec![false; self.groups.len()];
        for (j, group) in group_of.iter().enumerate() {
            match *group {
                None => parts.push((columns[j].name.clone(), vec![j])),
                Some(g) if !std::mem::replace(&mut is_done[g], true) => {
                    let members = (0..columns.len()).filter(|&j| group_of[j] == Some(g));
                    parts.push((self.groups[g].0.clone(), members.collect()));
                }
                Some(_) => {}
            }
        }
        Ok(parts)
    }
}

/// `x` with the cells of `columns` moved to other rows, those of one row together.
fn shuffle(x: &Frame, columns: &[usize], seed: u64) -> Result<Frame> {
    let mut order: Vec<usize> = (0..x.n_rows()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut values = x.values().into_owned();
    for (cells, &from) in values.chunks_exact_mut(x.n_cols()).zip(&order) {
        let from = x.row(from);
        for &j in columns {
            cells[j] = from[j];
        }
    }
    Ok(Frame::with_schema(values, x.schema().clone())?.or_stamps_of(x))
}

/// What [`Permutation::of`] found.
///
/// Its text is a table, a line a feature, those that matter most first.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PermutationReport {
    /// The metric.
    pub metric: Metric,
    /// The score on the data as they are.
    pub score: f64,
    /// One entry a feature or group, in the order of the schema.
    pub features: Vec<PermutedFeature>,
}

/// What the model lost when one feature, or a group of them, was shuffled.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PermutedFeature {
    /// The name of the column or the group.
    pub name: String,
    /// The columns, by index.
    pub columns: Vec<usize>,
    /// For each shuffle how much worse the score was, in units of the metric: above 0 is worse,
    /// whichever way the metric runs.
    pub losses: Vec<f64>,
}

impl PermutedFeature {
    /// The mean loss: the importance.
    pub fn mean(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.losses.len() as f64
    }

    /// The standard deviation of the losses over the shuffles, with *n* − 1 below; 0 for one
    /// shuffle.
    pub fn std(&self) -> f64 {
        let mean = self.mean();
        let squares: f64 = self.losses.iter().map(|loss| (loss - mean).powi(2)).sum();
        (squares / (self.losses.len().max(2) - 1) as f64).sqrt()
    }
}

impl PermutationReport {
    /// The entries, those that matter most first, of equal ones the first in the schema.
    pub fn ranked(&self) -> Vec<&PermutedFeature> {
        let mut ranked: Vec<_> = self.features.iter().collect();
        ranked.sort_by(|a, b| b.mean().total_cmp(&a.mean()));
        ranked
    }
}

impl fmt::Display for PermutationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {:.6}; loss when shuffled:", self.metric, self.score)?;
        let width = self.features.iter().map(|f| f.name.chars().count()).max().unwrap_or(0);
        for feature in self.ranked() {
            let (mean, std) = (feature.mean(), feature.std());
            writeln!(f, "  {:<width$}  {mean:>10.6} ± {std:.6}", feature.name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::{data::Task, envelope::Envelope, model::Signature, parallel};

    /// `2 a − b`, blind to `c`.
    #[derive(Debug)]
    struct Plane(Signature);

    impl Model for Plane {
        fn signature(&self) -> &Signature {
            &self.0
        }

        fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
            for (row, y) in x.rows().zip(out.values_mut()) {
                *y = f64::from(2.0 * row[0] - row[1]);
            }
            Ok(())
        }

        fn to_envelope(&self) -> Result<Envelope> {
            Err(Error::UnknownTag("plane".to_owned()))
        }
    }

    fn sample() -> (Plane, Dataset) {
        let mut random = 1_u64;
        let mut uniform = || {
            random = split_mix(random);
            (random >> 40) as f32 / (1 << 24) as f32
        };
        let values: Vec<f32> = (0..3 * 2000).map(|_| uniform()).collect();
        let x = Frame::new(values, 3).expect("valid");
        let y = x.rows().map(|row| f64::from(2.0 * row[0] - row[1])).collect();
        let model = Plane(Signature::new(x.schema().clone(), Task::Regression));
        (model, Dataset::regression(x, y).expect("valid"))
    }

    #[test]
    fn the_loss_is_what_theory_says() {
        let (model, data) = sample();
        let report = Permutation::default().with_repeats(8).of(&model, &data).expect("measures");
        assert_eq!(report.score, 0.0);
        // Shuffling weight w of a uniform feature leaves errors w (u − u'), of variance w² / 6.
        // The mean of 16,000 squares deviates by some 1 % (one standard deviation).
        for (feature, weight) in report.features.iter().zip([2.0_f64, 1.0]) {
            let (got, expected) = (feature.mean(), weight / 6.0_f64.sqrt());
            assert!((got / expected - 1.0).abs() < 0.04, "{got}, expected {expected}");
            assert!(0.0 < feature.std() && feature.std() < 0.05 * got);
        }
        assert_eq!(report.features[2].losses, [0.0; 8], "the model does not read `c`");
        let names: Vec<_> = report.ranked().iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["f0", "f1", "f2"]);
    }

    #[test]
    fn a_loss_is_above_0_for_metrics_of_either_direction() {
        let (model, data) = sample();
        for metric in [Metric::R2, Metric::Mae] {
            let measured = Permutation::default().with_metric(metric).of(&model, &data);
            let report = measured.expect("measures");
            assert!(0.0 < report.features[0].mean(), "{metric}");
        }
    }

    #[test]
    fn columns_of_a_group_move_together() {
        let (model, data) = sample();
        // `b` made twice `a`: the model is 0 everywhere, and stays so while both move together.
        let mut values = data.frame().values().into_owned();
        values.chunks_mut(3).for_each(|row| row[1] = 2.0 * row[0]);
        let data = data.with_frame(Frame::new(values, 3).expect("valid")).expect("length");
        let grouped = Permutation::default().with_group("both", ["f1", "f0"]);
        let report = grouped.of(&model, &data).expect("measures");
        assert_eq!(report.features.len(), 2);
        assert_eq!(
            (&*report.features[0].name, &*report.features[0].columns),
            ("both", &[0, 1][..])
        );
        assert_eq!(report.features[0].losses, [0.0; 5]);
        let alone = Permutation::default().of(&model, &data).expect("measures");
        assert!(alone.features[0].losses.iter().all(|loss| *loss != 0.0));
    }

    #[test]
    fn rows_of_weight_0_do_not_count() {
        let (model, data) = sample();
        let mut target = data.target().to_vec();
        target[1000..].fill(1e6);
        let data = Dataset::regression(data.frame().clone(), target).expect("valid");
        let weights = (0..2000).map(|i| f64::from(i < 1000)).collect();
        let report = Permutation::default().of(&model, &data.with_weights(weights).expect("valid"));
        assert_eq!(report.expect("measures").score, 0.0);
    }

    #[test]
    fn the_pool_changes_nothing_and_the_seed_does() {
        let (model, data) = sample();
        let one = Permutation::default().of(&model, &data).expect("measures");
        for threads in [1, 3] {
            let threads = NonZeroUsize::new(threads).expect("≥ 1");
            let again =
                parallel::with_threads(threads, || Permutation::default().of(&model, &data));
            assert_eq!(again.expect("threads").expect("measures"), one);
        }
        let other = Permutation::default().with_seed(1).of(&model, &data).expect("measures");
        assert_ne!(other, one);
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let (model, data) = sample();
        let refused =
            |permutation: Permutation| permutation.of(&model, &data).expect_err("refused").chain();
        let base = Permutation::default;
        assert!(refused(base().with_repeats(0)).contains("`repeats`"));
        assert!(refused(base().with_metric(Metric::Accuracy)).contains("accuracy"));
        assert!(refused(base().with_group("g", ["nobody"])).contains("no column `nobody`"));
        assert!(refused(base().with_group("g", [""; 0])).contains("group `g`"));
        let twice = base().with_group("g", ["f0"]).with_group("h", ["f0"]);
        assert!(refused(twice).contains("`f0` twice"));
        let single = base().of(&model, &data.take(&[0])).expect_err("one row");
        assert!(single.to_string().contains("at least 2"));
    }

    #[test]
    fn the_report_is_a_table() {
        let feature = |name: &str, losses: &[f64]| PermutedFeature {
            name: name.to_owned(),
            columns: vec![0],
            losses: losses.to_vec(),
        };
        let features = vec![feature("b", &[0.0]), feature("long name", &[0.5, 0.25])];
        let report = PermutationReport { metric: Metric::Rmse, score: 1.5, features };
        let expected = "rmse 1.500000; loss when shuffled:\n  \
                        long name    0.375000 ± 0.176777\n  \
                        b            0.000000 ± 0.000000\n";
        assert_eq!(report.to_string(), expected);
    }
}
