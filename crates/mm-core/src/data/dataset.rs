//! A frame with a target, row weights, and what splitters need.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    data::{frame::Frame, matrix::Matrix, schema::Levels},
    error::{Error, ParamError, Result},
};

/// What is to be predicted. Classification is made by [`Task::classes`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Option<Levels>", into = "Option<Levels>")]
#[non_exhaustive]
pub enum Task {
    /// A real number.
    Regression,
    /// One of two classes; the target is 0.0 or 1.0, and class 1 is the *positive* one.
    Binary(Levels),
    /// One of three or more classes; the target is the class's code.
    Multiclass(Levels),
}

// Written as the list of classes, or null for regression, so that a file cannot hold a binary task
// of three classes.
impl TryFrom<Option<Levels>> for Task {
    type Error = Error;

    fn try_from(classes: Option<Levels>) -> Result<Self> {
        classes.map_or(Ok(Self::Regression), |levels| match levels.len() {
            0 | 1 => Err(Error::data("classes", "at least 2", levels.len())),
            2 => Ok(Self::Binary(levels)),
            _ => Ok(Self::Multiclass(levels)),
        })
    }
}

impl From<Task> for Option<Levels> {
    fn from(task: Task) -> Self {
        match task {
            Task::Regression => None,
            Task::Binary(levels) | Task::Multiclass(levels) => Some(levels),
        }
    }
}

impl Task {
    /// Classification into the given classes, in code order: binary if there are two.
    pub fn classes<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Result<Self> {
        Self::try_from(Some(Levels::new(names)?))
    }

    /// The name of class 1 of two; empty for other tasks.
    pub fn positive(&self) -> &str {
        match self {
            Self::Binary(names) => names.name(1).unwrap_or_default(),
            _ => "",
        }
    }

    /// The classes' names, or `None` for regression.
    pub fn class_names(&self) -> Option<&[String]> {
        match self {
            Self::Regression => None,
            Self::Binary(names) | Self::Multiclass(names) => Some(names.names()),
        }
    }

    /// Number of classes; 0 for regression.
    pub fn n_classes(&self) -> usize {
        self.class_names().map_or(0, <[String]>::len)
    }

    /// The outputs of a model that predicts the mean or the class probabilities: one value for
    /// regression, the positive class's probability for binary, one probability a class else.
    pub fn outputs(&self) -> Vec<Output> {
        match self {
            Self::Regression => vec![Output::Value],
            Self::Binary(_) => vec![Output::Probability(self.positive().to_owned())],
            Self::Multiclass(names) => {
                names.names().iter().cloned().map(Output::Probability).collect()
            }
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Regression => f.write_str("regression"),
            Self::Binary(_) => write!(f, "binary (positive class `{}`)", self.positive()),
            Self::Multiclass(names) => write!(f, "multiclass ({} classes)", names.len()),
        }
    }
}

/// What one column of a prediction means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Output {
    /// The expected value of the target, in its units.
    Value,
    /// The probability of the named class, in [0, 1].
    Probability(String),
    /// The quantile of the given level in (0, 1), in units of the target.
    Quantile(f64),
    /// The variance of the target, in its squared units.
    Variance,
}

/// A frame with a target; optionally row weights, groups, and label times.
///
/// Weights are non-negative and finite; a row of weight *w* counts as *w* rows in fits and in
/// metrics (realised risk/reward, for example). Groups are ids of rows that a grouped splitter
/// keeps together. A label time is the moment at which a row's target became known, in nanoseconds
/// since the Unix epoch: purged splitters keep rows whose labels overlap a test fold out of
/// training.
///
/// Immutable; clones share everything, and views by row ([`take`](Dataset::take)) share the
/// features.
#[derive(Clone, PartialEq)]
pub struct Dataset {
    frame: Frame,
    task: Task,
    target: Arc<[f64]>,
    weights: Option<Arc<[f64]>>,
    groups: Option<Arc<[i64]>>,
    label_times: Option<Arc<[i64]>>,
}

/// The truth that predictions are scored against; see [`Dataset::truth`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Truth<'a> {
    /// What the target means.
    pub task: &'a Task,
    /// One value a row; a class code for classification.
    pub target: &'a [f64],
    /// One weight a row, or `None` where each row counts 1.
    pub weights: Option<&'a [f64]>,
}

impl<'a> Truth<'a> {
    /// Unweighted truth for `task`.
    pub fn new(task: &'a Task, target: &'a [f64]) -> Self {
        Self { task, target, weights: None }
    }

    /// The same with row weights.
    #[must_use]
    pub fn weighted(self, weights: &'a [f64]) -> Self {
        Self { weights: Some(weights), ..self }
    }
}

impl Dataset {
    /// Data for `task`. The target has one finite value a row; for classification a class code.
    pub fn new(frame: Frame, task: Task, target: Vec<f64>) -> Result<Self> {
        check_length("target", frame.n_rows(), target.len())?;
        let task = Task::try_from(Option::from(task))?; // One made by hand may hold any classes.
        let n_classes = task.n_classes();
        let bad = |y: f64| match n_classes {
            0 => !y.is_finite(),
            k => !(0.0 <= y && y < k as f64 && y.fract() == 0.0),
        };
        if let Some(i) = target.iter().position(|&y| bad(y)) {
            let expected = match n_classes {
                0 => "a finite number".to_owned(),
                k => format!("a class code from 0 to {}", k - 1),
            };
            return Err(Error::data(format_args!("target, row {i}"), expected, target[i]));
        }
        let target = target.into();
        Ok(Self { frame, task, target, weights: None, groups: None, label_times: None })
    }

    /// Data for regression.
    pub fn regression(frame: Frame, target: Vec<f64>) -> Result<Self> {
        Self::new(frame, Task::Regression, target)
    }

    /// Data for classification by name. Classes are coded in sorted order, so that the codes do
    /// not depend on the order of rows; of two classes the later one is positive.
    pub fn classification<S: AsRef<str>>(frame: Frame, labels: &[S]) -> Result<Self> {
        let mut names: Vec<&str> = labels.iter().map(AsRef::as_ref).collect();
        names.sort_unstable();
        names.dedup();
        let classes = Levels::new(names.iter().copied())?;
        let code = |label: &S| classes.code(label.as_ref()).map_or(f64::NAN, f64::from);
        let target = labels.iter().map(code).collect();
        Self::new(frame, Task::classes(names)?, target)
    }

    /// Attaches row weights: finite, none negative, not all 0.
    pub fn with_weights(mut self, weights: Vec<f64>) -> Result<Self> {
        check_length("weights", self.n_rows(), weights.len())?;
        if let Some(i) = weights.iter().position(|w| !(0.0 <= *w && w.is_finite())) {
            return Err(Error::data(
                format_args!("weight, row {i}"),
                "a finite number ≥ 0",
                weights[i],
            ));
        }
        if !weights.is_empty() && weights.iter().all(|w| *w == 0.0) {
            return Err(Error::data("weights", "at least one above 0", "all 0"));
        }
        self.weights = Some(weights.into());
        Ok(self)
    }

    /// Attaches a group id to each row.
    pub fn with_groups(mut self, groups: Vec<i64>) -> Result<Self> {
        check_length("groups", self.n_rows(), groups.len())?;
        self.groups = Some(groups.into());
        Ok(self)
    }

    /// Attaches the moment at which each row's target became known; none may lie before the row's
    /// own timestamp, and the frame must have timestamps.
    pub fn with_label_times(mut self, known: Vec<i64>) -> Result<Self> {
        check_length("label times", self.n_rows(), known.len())?;
        let Some(times) = self.frame.times() else {
            return Err(Error::data("label times", "a frame with timestamps", "none"));
        };
        if let Some(i) = (0..known.len()).find(|&i| known[i] < times[i]) {
            let expected = format!("not before the row's timestamp {}", times[i]);
            return Err(Error::data(format_args!("label time, row {i}"), expected, known[i]));
        }
        self.label_times = Some(known.into());
        Ok(self)
    }

    /// The features.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// What is to be predicted.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// One value a row; a class code for classification.
    pub fn target(&self) -> &[f64] {
        &self.target
    }

    /// One weight a row, or `None` where each row counts 1.
    pub fn weights(&self) -> Option<&[f64]> {
        self.weights.as_deref()
    }

    /// One group id a row, if there are groups.
    pub fn groups(&self) -> Option<&[i64]> {
        self.groups.as_deref()
    }

    /// When each row's target became known, if that was said.
    pub fn label_times(&self) -> Option<&[i64]> {
        self.label_times.as_deref()
    }

    /// Number of rows, *n*.
    pub fn n_rows(&self) -> usize {
        self.frame.n_rows()
    }

    /// Task, target, and weights, to score predictions against.
    pub fn truth(&self) -> Truth<'_> {
        Truth { task: &self.task, target: &self.target, weights: self.weights() }
    }

    /// The given rows, in the given order, with everything that belongs to them; a view, which
    /// shares the features.
    ///
    /// # Panics
    ///
    /// If a row is not below *n*.
    #[must_use]
    pub fn take(&self, rows: &[usize]) -> Self {
        fn pick<T: Copy>(column: Option<&[T]>, rows: &[usize]) -> Option<Arc<[T]>> {
            column.map(|all| rows.iter().map(|&row| all[row]).collect())
        }
        Self {
            frame: self.frame.take(rows),
            task: self.task.clone(),
            target: rows.iter().map(|&row| self.target[row]).collect(),
            weights: pick(self.weights(), rows),
            groups: pick(self.groups(), rows),
            label_times: pick(self.label_times(), rows),
        }
    }

    /// The same rows with other features, as stacking makes them. Timestamps and entities are the
    /// rows' own: where `frame` has none, they stay.
    pub fn with_frame(&self, frame: Frame) -> Result<Self> {
        check_length("frame", self.n_rows(), frame.n_rows())?;
        Ok(Self { frame: frame.or_stamps_of(&self.frame), ..self.clone() })
    }

    /// The sum of the weights; the number of rows where there are none.
    pub fn total_weight(&self) -> f64 {
        self.weights().map_or(self.n_rows() as f64, |w| w.iter().sum())
    }

    /// SHA-256, in hexadecimal, of everything the dataset says: schema, task, values, target,
    /// weights, groups, times. Equal data have equal fingerprints on every machine. O(*np*).
    #[expect(clippy::missing_panics_doc, reason = "what is expected cannot fail")]
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let head = serde_json::to_vec(&(self.frame.schema(), &self.task, self.n_rows()));
        hash.update(head.expect("a schema and a task have string keys only"));
        let mut bytes = Vec::new();
        for row in self.frame.rows() {
            bytes.clear();
            // One NaN is like another: what is missing has no payload.
            let bits = |x: &f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
            bytes.extend(row.iter().flat_map(|x| bits(x).to_le_bytes()));
            hash.update(&bytes);
        }
        let mut part = |name: &str, values: Option<&mut dyn Iterator<Item = [u8; 8]>>| {
            hash.update([u8::from(values.is_some())]);
            hash.update(name);
            for value in values.into_iter().flatten() {
                hash.update(value);
            }
        };
        part("target", Some(&mut self.target.iter().map(|y| y.to_le_bytes())));
        macro_rules! optional {
            ($name:literal, $column:expr) => {
                match $column {
                    None => part($name, None),
                    Some(column) => part($name, Some(&mut column.iter().map(|x| x.to_le_bytes()))),
                }
            };
        }
        optional!("weights", self.weights());
        optional!("groups", self.groups());
        optional!("label_times", self.label_times());
        optional!("times", self.frame.times());
        optional!("entities", self.frame.entities());
        hex(&hash.finalize())
    }

    /// Refuses data of another task than `task`.
    pub(crate) fn ensure_task(&self, task: &Task) -> Result<()> {
        if self.task == *task {
            return Ok(());
        }
        Err(Error::data("task of the data", task, &self.task))
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, p) = (self.n_rows(), self.frame.n_cols());
        write!(f, "Dataset({n} rows × {p} columns, {}", self.task)?;
        for (name, there) in [
            ("weights", self.weights.is_some()),
            ("groups", self.groups.is_some()),
            ("times", self.frame.times().is_some()),
        ] {
            if there {
                write!(f, ", {name}")?;
            }
        }
        f.write_str(")")
    }
}

/// How much the rows of each class count, on top of their own weights.
///
/// | value | weight of class *c* |
/// | --- | --- |
/// | `none` (default) | 1 |
/// | `balanced` | *W* / (*k W_c*), with *W* the total weight, *k* the number of classes that occur, *W_c* the weight of class *c*: scikit-learn's `"balanced"` where rows have no weights |
/// | `explicit` | as given by class name; classes not named count 1 |
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClassWeight {
    /// Each class counts as its rows do.
    #[default]
    None,
    /// Each class that occurs carries the same total weight.
    Balanced,
    /// A factor by class name.
    Explicit(BTreeMap<String, f64>),
}

impl ClassWeight {
    /// Checks the factors: finite and not negative.
    pub fn check(&self, name: &str) -> Result<(), ParamError> {
        if let Self::Explicit(factors) = self {
            for (class, factor) in factors {
                let ok = 0.0 <= *factor && factor.is_finite();
                ParamError::ensure(ok, format!("{name}.{class}"), factor, "a finite number ≥ 0")?;
            }
        }
        Ok(())
    }

    /// The row weights with the classes' factors applied, or `None` where every row counts 1.
    ///
    /// A name that is no class of the task, and any class weight for regression, is an error.
    pub fn apply<'a>(&self, data: &'a Dataset) -> Result<Option<Cow<'a, [f64]>>> {
        let names = match (self, data.task.class_names()) {
            (Self::None, _) => return Ok(data.weights().map(Cow::Borrowed)),
            (_, None) => return Err(Error::data("class weights", "classification", &data.task)),
            (_, Some(names)) => names,
        };
        let weight = |i: usize| data.weights().map_or(1.0, |w| w[i]);
        let factors = match self {
            Self::Balanced => {
                let mut totals = vec![0.0; names.len()];
                for (i, &y) in data.target.iter().enumerate() {
                    totals[y as usize] += weight(i);
                }
                let present = totals.iter().filter(|&&w| 0.0 < w).count() as f64;
                let all: f64 = totals.iter().sum();
                totals.iter().map(|&w| if 0.0 < w { all / (present * w) } else { 0.0 }).collect()
            }
            Self::Explicit(given) => {
                if let Some(unknown) = given.keys().find(|key| !names.contains(key)) {
                    let expected = format!("one of {}", names.join(", "));
                    return Err(Error::data("class weights", expected, format!("`{unknown}`")));
                }
                names.iter().map(|name| given.get(name).copied().unwrap_or(1.0)).collect()
            }
            Self::None => vec![1.0; names.len()],
        };
        let weights: Vec<f64> =
            data.target.iter().enumerate().map(|(i, &y)| weight(i) * factors[y as usize]).collect();
        Ok(Some(Cow::Owned(weights)))
    }
}

/// Scores are columns of predictions: turns a matrix of *k* outputs into a numeric frame, so that
/// a meta-learner can be fitted to it.
impl TryFrom<&Matrix> for Frame {
    type Error = Error;

    fn try_from(matrix: &Matrix) -> Result<Self> {
        Self::new(matrix.values().iter().map(|&x| x as f32).collect(), matrix.n_cols())
    }
}

fn check_length(what: &str, expected: usize, got: usize) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::data(format_args!("length of the {what}"), expected, got))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(n: usize) -> Frame {
        Frame::new((0..n).map(|i| i as f32).collect(), 1).expect("valid")
    }

    #[test]
    fn targets_out_of_range_are_named() {
        let err = Dataset::regression(frame(2), vec![0.0, f64::INFINITY]).expect_err("infinite");
        assert_eq!(err.to_string(), "target, row 1: expected a finite number, got inf");
        let task = Task::classes(["a", "b", "c"]).expect("three");
        let err = Dataset::new(frame(2), task, vec![2.0, 3.0]).expect_err("out of range");
        assert_eq!(err.to_string(), "target, row 1: expected a class code from 0 to 2, got 3");
        assert!(Dataset::regression(frame(2), vec![0.0]).is_err());
    }

    #[test]
    fn classes_are_coded_in_sorted_order() {
        let data = Dataset::classification(frame(4), &["yes", "no", "no", "yes"]).expect("valid");
        assert_eq!(data.target(), [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(data.task().to_string(), "binary (positive class `yes`)");
        assert!(Dataset::classification(frame(2), &["a", "a"]).is_err());
    }

    #[test]
    fn weights_must_be_usable() {
        let data = Dataset::regression(frame(2), vec![0.0, 1.0]).expect("valid");
        for (bad, message) in [
            (vec![1.0, -1.0], "weight, row 1: expected a finite number ≥ 0, got -1"),
            (vec![f64::NAN, 1.0], "weight, row 0: expected a finite number ≥ 0, got NaN"),
            (vec![0.0, 0.0], "weights: expected at least one above 0, got all 0"),
            (vec![1.0], "length of the weights: expected 2, got 1"),
        ] {
            let err = data.clone().with_weights(bad).expect_err("unusable");
            assert_eq!(err.to_string(), message);
        }
        assert!(data.with_weights(vec![0.0, 2.0]).is_ok());
    }

    #[test]
    fn balanced_classes_carry_equal_weight() {
        let labels = ["a", "a", "a", "b", "c", "c"];
        let data = Dataset::classification(frame(6), &labels).expect("valid");
        let weights = ClassWeight::Balanced.apply(&data).expect("classes").expect("some");
        // n / (k n_c): 6 / (3 · 3), 6 / (3 · 1), 6 / (3 · 2).
        let third = 6.0 / 9.0;
        assert_eq!(weights[..], [third, third, third, 2.0, 1.0, 1.0]);
    }

    #[test]
    fn explicit_class_weights_multiply_row_weights() {
        let data = Dataset::classification(frame(3), &["a", "b", "b"]).expect("valid");
        let data = data.with_weights(vec![1.0, 2.0, 3.0]).expect("valid");
        let given = |class: &str| ClassWeight::Explicit([(class.to_owned(), 10.0)].into());
        let weights = given("b").apply(&data).expect("a class").expect("some");
        assert_eq!(weights[..], [1.0, 20.0, 30.0]);
        let err = given("z").apply(&data).expect_err("no class");
        assert_eq!(err.to_string(), "class weights: expected one of a, b, got `z`");
        let values = Dataset::regression(frame(1), vec![0.0]).expect("valid");
        assert!(ClassWeight::Balanced.apply(&values).is_err());
        assert!(given("b").check("class_weight").is_ok());
        let negative = ClassWeight::Explicit([("b".to_owned(), -1.0)].into());
        let err = negative.check("class_weight").expect_err("negative");
        assert_eq!(err.name, "class_weight.b");
    }

    #[test]
    fn other_features_leave_the_rows_their_times() {
        let timed = frame(2).with_times(vec![5, 6]).and_then(|f| f.with_entities(vec![1, 2]));
        let data = Dataset::regression(timed.expect("length"), vec![0.0, 1.0]).expect("valid");
        let data = data.with_label_times(vec![7, 8]).expect("later");
        // Without them a purged split would take label times for positions, and leak.
        let stacked = data.with_frame(frame(2)).expect("length");
        assert_eq!(stacked.frame().times(), Some(&[5, 6][..]));
        assert_eq!(stacked.frame().entities(), Some(&[1, 2][..]));
        let other = frame(2).with_times(vec![1, 2]).expect("length");
        assert_eq!(data.with_frame(other).expect("length").frame().times(), Some(&[1, 2][..]));
    }

    #[test]
    fn a_fingerprint_changes_with_any_part() {
        let data = Dataset::regression(frame(3), vec![0.0, 1.0, 2.0]).expect("valid");
        let print = data.fingerprint();
        assert_eq!(print.len(), 64);
        assert_eq!(print, data.take(&[0, 1, 2]).fingerprint());
        assert_ne!(print, data.take(&[0, 2, 1]).fingerprint());
        assert_ne!(print, data.clone().with_weights(vec![1.0; 3]).expect("valid").fingerprint());
        assert_ne!(print, data.with_groups(vec![1; 3]).expect("valid").fingerprint());
    }
}
