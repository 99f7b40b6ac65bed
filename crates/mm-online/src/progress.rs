//! Progressive validation: each row is scored by the prediction that was made before its label was
//! known, however late the label came.
//!
//! # What is kept
//!
//! | view | weighs | answers |
//! | --- | --- | --- |
//! | [`overall`](Progress::overall) | every row alike | how good the service has been |
//! | [`fading`](Progress::fading) | a row half as much as one `half_life` rows later | how good it is now, smoothly |
//! | [`rolling`](Progress::rolling) | the last `window` rows | how good it is now, exactly |
//!
//! Whatever a [`Metric`] can tell of the window, the exact area under the ROC curve among it, is
//! told by [`rolling_metric`](Progress::rolling_metric).
//!
//! Two baselines stand beside every score, and know no more than the model did when it predicted:
//! *no change* repeats the last label that had come, *majority* the commonest class (the mean, for
//! regression). With `p` the accuracy, `q` that of chance with the same margins, and `r` that of no
//! change,
//!
//! ```text
//! kappa = (p − q) / (1 − q)        kappa_temporal = (p − r) / (1 − r)
//! ```
//!
//! A stream whose labels come in long runs flatters every model; a `kappa_temporal` of 0 or less
//! says that repeating the last label is as good.
//!
//! Cost: O(*k*) a row for *k* classes; O(*window*) for a rolling view.
//!
//! # Sources
//!
//! Gama, Sebastião & Rodrigues (2013), "On evaluating stream learning algorithms"; Bifet et al.
//! (2015), "Efficient online evaluation of big data stream classifiers"; Žliobaitė et al. (2015),
//! "Evaluation methods and decision theory for classification of streaming data with temporal
//! dependence".

use std::collections::VecDeque;

use mm_core::{Error, Matrix, Metric, ParamError, Result, Task, Truth};
use serde::{Deserialize, Serialize};

use crate::bytes::{Decoder, Encoder};

/// How progressive validation looks back.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `window` | 1000 | ≥ 1 | rows of the rolling view |
/// | `half_life` | 1000 | > 0 | rows after which a row weighs half in the fading view |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ProgressParams {
    /// Rows of the rolling view.
    pub window: usize,
    /// Rows after which a row weighs half.
    pub half_life: f64,
}

impl Default for ProgressParams {
    fn default() -> Self {
        Self { window: 1000, half_life: 1000.0 }
    }
}

impl ProgressParams {
    /// Checks every field.
    pub fn check(&self) -> Result<(), ParamError> {
        ParamError::ensure(1 <= self.window, "progress.window", self.window, "≥ 1")?;
        let ok = 0.0 < self.half_life && self.half_life.is_finite();
        ParamError::ensure(ok, "progress.half_life", self.half_life, "a finite number > 0")
    }
}

/// How good a part of a stream was predicted. What the task does not have is `None`, as is
/// everything before the first row of positive weight.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Scores {
    /// The weight of the rows.
    pub weight: f64,
    /// Share of right decisions.
    pub accuracy: Option<f64>,
    /// Mean −ln of the true class's probability, clipped to [2⁻⁵², 1 − 2⁻⁵²].
    pub log_loss: Option<f64>,
    /// How far the accuracy lies above that of chance with the same margins.
    pub kappa: Option<f64>,
    /// How far the accuracy lies above that of the last label known.
    pub kappa_temporal: Option<f64>,
    /// How far the accuracy lies above that of the commonest class known.
    pub kappa_majority: Option<f64>,
    /// Root of the mean squared error.
    pub rmse: Option<f64>,
    /// Mean absolute error.
    pub mae: Option<f64>,
    /// Accuracy, or mean absolute error, of the last label known.
    pub no_change: Option<f64>,
    /// Accuracy of the commonest class known, or mean absolute error of the mean known.
    pub majority: Option<f64>,
}

/// What a row was predicted as, beside the truth.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judged<'a> {
    pub(crate) values: &'a [f64],
    pub(crate) y: f64,
    pub(crate) weight: f64,
    pub(crate) last_label: f64,  // NaN where no label had come.
    pub(crate) usual_label: f64, // NaN where no label had come.
}

/// Progressive validation of a stream.
#[derive(Debug, Clone)]
pub struct Progress {
    params: ProgressParams,
    n_classes: usize,
    fade: f64,
    overall: Tally,
    fading: Tally,
    window: VecDeque<f64>, // Rows of `stride` numbers: the prediction, then those of `Judged`.
    last_label: f64,
    label_weights: Vec<f64>, // By class; for regression weight and mean.
}

impl Progress {
    /// No rows yet.
    pub fn new(params: ProgressParams, task: &Task) -> Result<Self> {
        params.check()?;
        let n_classes = task.n_classes();
        Ok(Self {
            fade: (-std::f64::consts::LN_2 / params.half_life).exp(),
            params,
            n_classes,
            overall: Tally::new(n_classes),
            fading: Tally::new(n_classes),
            window: VecDeque::new(),
            last_label: f64::NAN,
            label_weights: vec![0.0; n_classes.max(2)],
        })
    }

    /// The labels that the two baselines would predict now: the last, and the commonest or the
    /// mean; NaN before the first.
    pub fn baselines(&self) -> (f64, f64) {
        let usual = match self.n_classes {
            0 if self.label_weights[0] == 0.0 => f64::NAN,
            0 => self.label_weights[1],
            _ if self.last_label.is_nan() => f64::NAN,
            _ => decision(&self.label_weights),
        };
        (self.last_label, usual)
    }

    /// Scores a row whose baselines are those of now: one whose label came at once.
    ///
    /// # Errors
    ///
    /// A prediction of another width than the task's, a label that the task does not have, or a
    /// weight that is negative or not finite.
    pub fn record(&mut self, values: &[f64], y: f64, weight: f64) -> Result<()> {
        let (last_label, usual_label) = self.baselines();
        let width = self.width();
        if values.len() != width {
            return Err(Error::data("length of a prediction", width, values.len()));
        }
        let has_label = match self.n_classes {
            0 => y.is_finite(),
            k => 0.0 <= y && y < k as f64 && y.fract() == 0.0,
        };
        if !has_label {
            return Err(Error::data("label", "one that the task has", y));
        }
        if !(0.0 <= weight && weight.is_finite()) {
            return Err(Error::data("weight", "a finite number ≥ 0", weight));
        }
        self.judge(Judged { values, y, weight, last_label, usual_label });
        Ok(())
    }

    /// Scores a row that passed the checks of [`record`](Self::record).
    pub(crate) fn judge(&mut self, row: Judged<'_>) {
        if row.weight == 0.0 {
            return;
        }
        let errors = Errors::of(&row, self.n_classes);
        self.overall.add(&row, &errors);
        self.fading.fade(self.fade);
        self.fading.add(&row, &errors);
        if self.window.len() == self.params.window * self.stride() {
            self.window.drain(..self.stride());
        }
        self.window.extend(row.values);
        self.window.extend([row.y, row.weight, row.last_label, row.usual_label]);
        self.last_label = row.y;
        if self.n_classes == 0 {
            let [weight, mean] = [self.label_weights[0] + row.weight, self.label_weights[1]];
            self.label_weights[0] = weight;
            self.label_weights[1] += (row.y - mean) * row.weight / weight;
        } else {
            self.label_weights[row.y as usize] += row.weight;
        }
    }

    /// Over all rows.
    pub fn overall(&self) -> Scores {
        self.overall.scores(self.n_classes)
    }

    /// Over all rows, the older the less.
    pub fn fading(&self) -> Scores {
        self.fading.scores(self.n_classes)
    }

    /// Over the last `window` rows, exactly.
    pub fn rolling(&self) -> Scores {
        let mut tally = Tally::new(self.n_classes);
        self.each(|row| tally.add(&row, &Errors::of(&row, self.n_classes)));
        tally.scores(self.n_classes)
    }

    /// A metric over the last `window` rows, exactly.
    ///
    /// # Errors
    ///
    /// Those of [`Metric::score`]: a metric of another task, no rows yet, one class for an area.
    pub fn rolling_metric(&self, metric: Metric, task: &Task) -> Result<f64> {
        let (mut predicted, mut target, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        self.each(|row| {
            predicted.extend(row.values);
            target.push(row.y);
            weights.push(row.weight);
        });
        let predicted = Matrix::new(predicted, self.width())?;
        metric.score(Truth::new(task, &target).weighted(&weights), &predicted)
    }

    /// How many rows the rolling view has.
    pub fn n_rolling(&self) -> usize {
        self.window.len() / self.stride()
    }

    fn width(&self) -> usize {
        match self.n_classes {
            0..=2 => 1,
            k => k,
        }
    }

    fn stride(&self) -> usize {
        self.width() + 4
    }

    fn each(&self, mut visit: impl FnMut(Judged<'_>)) {
        let width = self.width();
        let mut row = Vec::with_capacity(self.stride());
        for &x in &self.window {
            row.push(x);
            if row.len() == self.stride() {
                let (values, rest) = row.split_at(width);
                let (y, weight, last_label, usual_label) = (rest[0], rest[1], rest[2], rest[3]);
                visit(Judged { values, y, weight, last_label, usual_label });
                row.clear();
            }
        }
    }

    pub(crate) fn encode(&self, to: &mut Encoder) {
        self.overall.encode(to);
        self.fading.encode(to);
        let window: Vec<f64> = self.window.iter().copied().collect();
        to.f64s(&window);
        to.f64(self.last_label);
        to.f64s(&self.label_weights);
    }

    pub(crate) fn decode(
        from: &mut Decoder<'_>,
        params: ProgressParams,
        task: &Task,
    ) -> Result<Self> {
        let mut new = Self::new(params, task)?;
        new.overall.decode(from)?;
        new.fading.decode(from)?;
        new.window = from.f64s()?.into();
        new.last_label = from.f64()?;
        let label_weights = from.f64s()?;
        let fits = label_weights.len() == new.label_weights.len()
            && new.window.len().is_multiple_of(new.stride());
        if !fits {
            return Err(from.damaged("the progress of this task", "that of another"));
        }
        new.label_weights = label_weights;
        Ok(new)
    }
}

/// The class with the most weight, the first of equals.
fn decision(weights: &[f64]) -> f64 {
    let mut best = 0;
    for (k, &w) in weights.iter().enumerate() {
        if weights[best] < w {
            best = k;
        }
    }
    best as f64
}

/// The class that a prediction decides for.
pub(crate) fn decided(values: &[f64]) -> usize {
    match *values {
        [positive] => usize::from(0.5 < positive),
        ref all => decision(all) as usize,
    }
}

/// The probability that a prediction gives to class `y`.
pub(crate) fn probability(values: &[f64], y: f64) -> f64 {
    match *values {
        [positive] if y == 0.0 => 1.0 - positive,
        [positive] => positive,
        ref all => all[y as usize],
    }
}

/// −ln of the probability of class `y`, clipped as the metrics of the workspace do.
pub(crate) fn log_loss(values: &[f64], y: f64) -> f64 {
    -probability(values, y).clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln()
}

/// How wrong one row was: log loss and miss, or squared and absolute error.
struct Errors {
    model: [f64; 2],
    no_change: f64,
    majority: f64,
}

impl Errors {
    fn of(row: &Judged<'_>, n_classes: usize) -> Self {
        if n_classes == 0 {
            let error = row.y - row.values[0];
            return Self {
                model: [error * error, error.abs()],
                no_change: (row.y - row.last_label).abs(),
                majority: (row.y - row.usual_label).abs(),
            };
        }
        let miss = |label: f64| f64::from(label != row.y); // So is no label at all.
        Self {
            model: [log_loss(row.values, row.y), miss(decided(row.values) as f64)],
            no_change: miss(row.last_label),
            majority: miss(row.usual_label),
        }
    }
}

/// Weighted sums over rows.
#[derive(Debug, Clone, PartialEq)]
struct Tally {
    weight: f64,
    model: [f64; 2],
    baseline_weight: f64,
    no_change: f64,
    majority: f64,
    decided: Vec<f64>, // Weight by class.
    actual: Vec<f64>,
}

impl Tally {
    fn new(n_classes: usize) -> Self {
        let (decided, actual) = (vec![0.0; n_classes], vec![0.0; n_classes]);
        let model = [0.0; 2];
        let (weight, baseline_weight, no_change, majority) = (0.0, 0.0, 0.0, 0.0);
        Self { weight, model, baseline_weight, no_change, majority, decided, actual }
    }

    fn add(&mut self, row: &Judged<'_>, errors: &Errors) {
        let w = row.weight;
        self.weight += w;
        self.model[0] += w * errors.model[0];
        self.model[1] += w * errors.model[1];
        if !errors.no_change.is_nan() {
            self.baseline_weight += w;
            self.no_change += w * errors.no_change;
            self.majority += w * errors.majority;
        }
        if !self.actual.is_empty() {
            self.decided[decided(row.values)] += w;
            self.actual[row.y as usize] += w;
        }
    }

    fn sums(&mut self) -> impl Iterator<Item = &mut f64> {
        let [first, second] = &mut self.model;
        let fixed = [&mut self.weight, first, second, &mut self.baseline_weight];
        fixed
            .into_iter()
            .chain([&mut self.no_change, &mut self.majority])
            .chain(&mut self.decided)
            .chain(&mut self.actual)
    }

    fn fade(&mut self, factor: f64) {
        self.sums().for_each(|sum| *sum *= factor);
    }

    fn scores(&self, n_classes: usize) -> Scores {
        let weight = self.weight;
        if weight <= 0.0 {
            return Scores::default();
        }
        let mean = |sum: f64| Some(sum / weight);
        let by_baseline =
            |sum: f64| (0.0 < self.baseline_weight).then(|| sum / self.baseline_weight);
        if n_classes == 0 {
            return Scores {
                weight,
                rmse: mean(self.model[0]).map(f64::sqrt),
                mae: mean(self.model[1]),
                no_change: by_baseline(self.no_change),
                majority: by_baseline(self.majority),
                ..Scores::default()
            };
        }
        let right = |misses: f64| 1.0 - misses / weight;
        let accuracy = right(self.model[1]);
        let by_chance: f64 = self.decided.iter().zip(&self.actual).map(|(d, a)| d * a).sum();
        let above = |other: f64| (other < 1.0).then(|| (accuracy - other) / (1.0 - other));
        Scores {
            weight,
            accuracy: Some(accuracy),
            log_loss: mean(self.model[0]),
            kappa: above(by_chance / (weight * weight)),
            kappa_temporal: above(right(self.no_change)),
            kappa_majority: above(right(self.majority)),
            no_change: Some(right(self.no_change)),
            majority: Some(right(self.majority)),
            ..Scores::default()
        }
    }

    fn encode(&self, to: &mut Encoder) {
        let sums: Vec<f64> = self.clone().sums().map(|sum| *sum).collect();
        to.f64s(&sums);
    }

    fn decode(&mut self, from: &mut Decoder<'_>) -> Result<()> {
        let sums = from.f64s()?;
        if sums.len() != self.sums().count() {
            return Err(from.damaged("the sums of this task", sums.len()));
        }
        self.sums().zip(sums).for_each(|(to, sum)| *to = sum);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binary() -> Task {
        Task::classes(["no", "yes"]).expect("two")
    }

    fn progress(window: usize) -> Progress {
        let params = ProgressParams { window, half_life: 100.0 };
        Progress::new(params, &binary()).expect("valid")
    }

    #[test]
    fn baselines_know_only_labels_that_had_come() {
        let mut all = progress(10);
        assert!(all.baselines().0.is_nan() && all.baselines().1.is_nan());
        for y in [1.0, 1.0, 0.0] {
            all.record(&[0.9], y, 1.0).expect("valid");
        }
        assert_eq!(all.baselines(), (0.0, 1.0));
        let scores = all.overall();
        // No change said nothing, 1, 1; the truth was 1, 1, 0.
        let close = |a: Option<f64>, b: f64| (a.expect("rows") - b).abs() < 1e-15; // Rounding.
        assert!(close(scores.no_change, 1.0 / 3.0) && close(scores.accuracy, 2.0 / 3.0));
        // Chance: the model always says 1, and two of three are: 2/3.
        assert!(close(scores.kappa, 0.0));
        assert!(close(scores.kappa_temporal, (2.0 / 3.0 - 1.0 / 3.0) / (1.0 - 1.0 / 3.0)));
    }

    #[test]
    fn rows_of_no_weight_change_nothing() {
        let mut all = progress(10);
        all.record(&[0.9], 1.0, 0.0).expect("valid");
        assert_eq!(all.overall(), Scores::default());
        assert!(all.baselines().0.is_nan());
        assert_eq!(all.n_rolling(), 0);
    }

    #[test]
    fn regression_is_compared_with_the_last_value_and_the_mean() {
        let params = ProgressParams::default();
        let mut all = Progress::new(params, &Task::Regression).expect("valid");
        for (said, y) in [(0.0, 2.0), (3.0, 4.0), (0.0, 0.0)] {
            all.record(&[said], y, 1.0).expect("valid");
        }
        let scores = all.overall();
        assert_eq!(scores.mae, Some(1.0));
        assert_eq!(scores.rmse, Some((5.0_f64 / 3.0).sqrt()));
        assert_eq!(scores.no_change, Some(3.0)); // Of 2 and 4; the first row had none.
        assert_eq!(scores.majority, Some(2.5)); // Of 2 and 3.
    }

    #[test]
    fn bad_rows_are_refused() {
        let mut all = progress(10);
        assert!(all.record(&[0.5, 0.5], 1.0, 1.0).is_err());
        assert!(all.record(&[0.5], 2.0, 1.0).is_err());
        assert!(all.record(&[0.5], f64::NAN, 1.0).is_err());
        assert!(all.record(&[0.5], 1.0, -1.0).is_err());
        assert!(ProgressParams { window: 0, half_life: 1.0 }.check().is_err());
        assert!(ProgressParams { window: 1, half_life: f64::NAN }.check().is_err());
    }

    proptest! {
        /// Rolling scores are those of the metrics of the workspace on the last rows.
        #[test]
        fn rolling_scores_are_exact(
            rows in prop::collection::vec((0.0_f64..1.0, 0_u8..2, 0.1_f64..3.0), 5..60),
            window in 1_usize..20,
        ) {
            let mut all = progress(window);
            for &(p, y, w) in &rows {
                all.record(&[p], y.into(), w).expect("valid");
            }
            let last = &rows[rows.len().saturating_sub(window)..];
            let target: Vec<f64> = last.iter().map(|r| r.1.into()).collect();
            let weights: Vec<f64> = last.iter().map(|r| r.2).collect();
            let values = Matrix::new(last.iter().map(|r| r.0).collect(), 1).expect("column");
            let task = binary();
            let truth = Truth::new(&task, &target).weighted(&weights);
            let scores = all.rolling();
            let close = |a: Option<f64>, b: f64| (a.expect("rows") - b).abs() < 1e-12;
            prop_assert!(close(scores.accuracy, Metric::Accuracy.score(truth, &values).expect("ok")));
            prop_assert!(close(scores.log_loss, Metric::LogLoss.score(truth, &values).expect("ok")));
            let auc = Metric::ROC_AUC.score(truth, &values).ok();
            prop_assert_eq!(all.rolling_metric(Metric::ROC_AUC, &task).ok(), auc);
        }

        /// What is written reads back to the same scores, bit for bit.
        #[test]
        fn progress_survives_being_written(rows in prop::collection::vec((0.0_f64..1.0, 0_u8..2), 0..40)) {
            let mut all = progress(8);
            for &(p, y) in &rows {
                all.record(&[p], y.into(), 1.0).expect("valid");
            }
            let mut to = Encoder::default();
            all.encode(&mut to);
            let bytes = to.into_bytes();
            let mut from = Decoder::new(&bytes, "test");
            let read = Progress::decode(&mut from, all.params.clone(), &binary()).expect("whole");
            prop_assert_eq!(read.overall(), all.overall());
            prop_assert_eq!(read.fading(), all.fading());
            prop_assert_eq!(read.rolling(), all.rolling());
        }
    }
}
