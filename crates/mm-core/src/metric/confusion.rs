//! Which class was taken for which.

use std::{fmt, iter};

use serde::Serialize;

use crate::{
    data::{Matrix, Truth},
    error::{Error, Result},
    metric::{
        sample::Sample,
        sum::{self, Sum},
    },
};

/// What a class weighs among truths, among decisions, and among both at once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ClassWeights {
    /// Rows of the class that were decided to be of it.
    pub(super) hits: f64,
    /// Rows of the class.
    pub(super) truth: f64,
    /// Rows decided to be of the class.
    pub(super) decided: f64,
}

impl ClassWeights {
    pub(super) fn precision(&self) -> f64 {
        ratio(self.hits, self.decided)
    }

    pub(super) fn recall(&self) -> f64 {
        ratio(self.hits, self.truth)
    }

    pub(super) fn f1(&self) -> f64 {
        ratio(2.0 * self.hits, self.truth + self.decided)
    }
}

impl iter::Sum for ClassWeights {
    fn sum<I: Iterator<Item = Self>>(classes: I) -> Self {
        classes.fold(Self::default(), |all, class| Self {
            hits: all.hits + class.hits,
            truth: all.truth + class.truth,
            decided: all.decided + class.decided,
        })
    }
}

/// 0 where nothing is divided by nothing: scikit-learn's rule.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

/// The weights of each class, in code order. O(*nk*) time, O(*k*) memory.
pub(super) fn tally(sample: &Sample<'_>) -> Vec<ClassWeights> {
    let mut sums = vec![[Sum::default(); 3]; sample.class_names().len()];
    for row in sample.rows() {
        let (truth, decided) = (row.class(), row.decision());
        if truth == decided {
            sums[truth][0].add(row.weight);
        }
        sums[truth][1].add(row.weight);
        sums[decided][2].add(row.weight);
    }
    let class = |[hits, truth, decided]: [Sum; 3]| ClassWeights {
        hits: hits.value(),
        truth: truth.value(),
        decided: decided.value(),
    };
    sums.into_iter().map(class).collect()
}

/// The mean recall of the classes that occur.
pub(super) fn balanced_accuracy(classes: &[ClassWeights]) -> f64 {
    let occur = classes.iter().filter(|class| 0.0 < class.truth);
    let n = occur.clone().count() as f64;
    sum::total(occur.map(ClassWeights::recall)) / n
}

/// Matthews's correlation for *k* classes (Gorodkin 2004); 0 where one side has a single class.
pub(super) fn matthews(classes: &[ClassWeights]) -> f64 {
    // W² − Σ wᵢ² as 2 Σ wᵢ (w₀ + … + wᵢ₋₁): without a difference, and so exactly 0 for one class.
    let spread = |weight: fn(&ClassWeights) -> f64| {
        let mut before = 0.0;
        let mut pairs = Sum::default();
        for w in classes.iter().map(weight) {
            pairs.add(w * before);
            before += w;
        }
        2.0 * pairs.value()
    };
    let (of_truth, of_decided) = (spread(|class| class.truth), spread(|class| class.decided));
    if of_truth == 0.0 || of_decided == 0.0 {
        return 0.0;
    }
    let all: ClassWeights = classes.iter().copied().sum();
    let products = classes.iter().map(|class| -class.truth * class.decided);
    let covariance = sum::total(products.chain([all.hits * all.truth]));
    // Not over √(of_truth · of_decided), so that a perfect decision scores 1 without rounding.
    (covariance / of_truth * (of_truth / of_decided).sqrt()).clamp(-1.0, 1.0)
}

/// Which class was taken for which: the weight of the rows of each class that the predicted
/// probabilities decide for each class.
///
/// The decision is the likeliest class, and of equally likely ones the first; for binary tasks the
/// positive one where its probability is above ½. `Display` writes an aligned table, one row a
/// true class and one column a decision, with precision, recall, and F1 on the right:
///
/// ```
/// use mm_core::{ConfusionMatrix, Matrix, Task, Truth};
///
/// let task = Task::classes(["ham", "spam"])?;
/// let predicted = Matrix::new(vec![0.1, 0.7, 0.8, 0.9], 1)?;
/// let confusion = ConfusionMatrix::new(Truth::new(&task, &[0.0, 0.0, 1.0, 1.0]), &predicted)?;
/// assert_eq!(
///     confusion.to_string(),
///     "\
/// true \\ decided  ham  spam  precision  recall     f1
/// ham               1     1      1.000   0.500  0.667
/// spam              0     2      0.667   1.000  0.800
/// "
/// );
/// # Ok::<(), mm_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConfusionMatrix {
    classes: Vec<String>,
    weights: Vec<f64>, // Invariant: `classes.len()` squared, row-major; a row a true class.
}

/// How well one class was recognised.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ClassScores {
    /// The class's name.
    pub class: String,
    /// Of the rows decided to be of the class, the share that is; 0 if there are none.
    pub precision: f64,
    /// Of the rows of the class, the share decided to be; 0 if there are none.
    pub recall: f64,
    /// The harmonic mean of precision and recall; 0 if both are.
    pub f1: f64,
    /// Weight of the rows of the class.
    pub support: f64,
}

impl ConfusionMatrix {
    /// The most classes that a matrix has: 2048, for 32 MiB of cells.
    pub const MAX_CLASSES: usize = 2048;

    /// Counts decisions against truths. O(*nk* + *k*²).
    ///
    /// Refused: regression, more than [`MAX_CLASSES`](Self::MAX_CLASSES), and what
    /// [`Metric::score`](crate::Metric::score) refuses.
    pub fn new(truth: Truth<'_>, predicted: &Matrix) -> Result<Self> {
        let Some(classes) = truth.task.class_names() else {
            return Err(Error::data("confusion matrix", "a classification task", truth.task));
        };
        if Self::MAX_CLASSES < classes.len() {
            let expected = format!("at most {} for a confusion matrix", Self::MAX_CLASSES);
            return Err(Error::data("classes", expected, classes.len()));
        }
        let sample = Sample::new(truth, predicted)?;
        sample.ensure_probabilities()?;
        let k = classes.len();
        let mut weights = vec![Sum::default(); k * k];
        for row in sample.rows() {
            weights[row.class() * k + row.decision()].add(row.weight);
        }
        let weights = weights.into_iter().map(Sum::value).collect();
        Ok(Self { classes: classes.to_vec(), weights })
    }

    /// The classes' names, in code order.
    pub fn class_names(&self) -> &[String] {
        &self.classes
    }

    /// The weight of the rows of class `truth` that were decided to be of class `decided`, or
    /// `None` if either is no class.
    pub fn weight(&self, truth: usize, decided: usize) -> Option<f64> {
        self.rows().nth(truth)?.get(decided).copied()
    }

    /// One slice a true class, in code order, with one weight a decision.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.weights.chunks_exact(self.classes.len())
    }

    /// Precision, recall, F1, and support of each class, in code order. O(*k*²).
    pub fn per_class(&self) -> Vec<ClassScores> {
        let k = self.classes.len();
        let score = |(c, name): (usize, &String)| {
            let class = ClassWeights {
                hits: self.weights[c * k + c],
                truth: sum::total(self.weights[c * k..(c + 1) * k].iter().copied()),
                decided: sum::total(self.rows().map(|row| row[c])),
            };
            ClassScores {
                class: name.clone(),
                precision: class.precision(),
                recall: class.recall(),
                f1: class.f1(),
                support: class.truth,
            }
        };
        self.classes.iter().enumerate().map(score).collect()
    }
}

impl fmt::Display for ConfusionMatrix {
    /// Names are cut to 24 characters. Weights have three decimals unless all are whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = if self.weights.iter().all(|w| w.fract() == 0.0) { 0 } else { 3 };
        let names: Vec<String> = self.classes.iter().map(|name| shortened(name)).collect();
        let mut header = vec!["true \\ decided".to_owned()];
        header.extend(names.iter().cloned());
        header.extend(["precision", "recall", "f1"].map(str::to_owned));
        let mut table = vec![header];
        for ((name, row), class) in names.into_iter().zip(self.rows()).zip(self.per_class()) {
            let mut line = vec![name];
            line.extend(row.iter().map(|w| format!("{w:.decimals$}")));
            line.extend([class.precision, class.recall, class.f1].map(|x| format!("{x:.3}")));
            table.push(line);
        }
        let width = |j: usize| table.iter().map(|line| line[j].chars().count()).max();
        let widths: Vec<usize> = (0..table[0].len()).filter_map(width).collect();
        for line in &table {
            write!(f, "{:<1$}", line[0], widths[0])?;
            for (cell, width) in line.iter().zip(&widths).skip(1) {
                write!(f, "  {cell:>width$}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// A name as one cell of a table: control characters escaped, and no longer than 24 characters.
fn shortened(name: &str) -> String {
    let shown: String = name
        .chars()
        .flat_map(|c| -> Box<dyn Iterator<Item = char>> {
            if c.is_control() { Box::new(c.escape_default()) } else { Box::new(iter::once(c)) }
        })
        .collect();
    match shown.char_indices().nth(24) {
        None => shown,
        Some(_) => shown.chars().take(23).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Task;

    #[test]
    fn weights_and_scores_stand_by_class() {
        let task = Task::classes(["a", "b", "never"]).expect("three");
        let p = Matrix::new(vec![0.8, 0.2, 0.0, 0.6, 0.4, 0.0, 0.1, 0.9, 0.0], 3).expect("3 × 3");
        let truth = Truth::new(&task, &[0.0, 1.0, 1.0]).weighted(&[1.0, 0.5, 1.5]);
        let confusion = ConfusionMatrix::new(truth, &p).expect("classes");
        assert_eq!(confusion.weight(1, 0), Some(0.5));
        assert_eq!(confusion.weight(0, 3), None);
        assert_eq!(confusion.weight(3, 0), None);
        let scores = confusion.per_class();
        assert_eq!((scores[0].precision, scores[0].recall), (1.0 / 1.5, 1.0));
        assert_eq!((scores[1].recall, scores[1].support), (0.75, 2.0));
        assert_eq!((scores[2].precision, scores[2].recall, scores[2].f1), (0.0, 0.0, 0.0));
        assert_eq!(confusion.class_names(), ["a", "b", "never"]);
    }

    #[test]
    fn the_table_is_aligned_whatever_the_names() {
        let long = "a name that is much too long for a table";
        let task = Task::classes(["größer", long, "line\nbreak"]).expect("three");
        let p = Matrix::new(vec![1.0, 0.0, 0.0, 0.0, 0.0, 1.0], 3).expect("2 × 3");
        let truth = Truth::new(&task, &[0.0, 1.0]).weighted(&[1000.5, 1.0]);
        let table = ConfusionMatrix::new(truth, &p).expect("classes").to_string();
        let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 4);
        assert!(widths.iter().all(|&width| width == widths[0]), "{table}");
        assert!(table.contains("a name that is much too…  "), "{table}");
        assert!(table.contains("line\\nbreak") && table.contains("1000.500"), "{table}");
    }

    #[test]
    fn regression_and_too_many_classes_are_refused() {
        let truth = Truth::new(&Task::Regression, &[0.0]);
        let error = ConfusionMatrix::new(truth, &Matrix::zeros(1, 1)).expect_err("no classes");
        assert_eq!(
            error.to_string(),
            "confusion matrix: expected a classification task, got regression"
        );
        let k = ConfusionMatrix::MAX_CLASSES + 1;
        let task = Task::classes((0..k).map(|c| c.to_string())).expect("distinct");
        let truth = Truth::new(&task, &[0.0]);
        let error = ConfusionMatrix::new(truth, &Matrix::zeros(1, k)).expect_err("too many");
        let message = "classes: expected at most 2048 for a confusion matrix, got 2049";
        assert_eq!(error.to_string(), message);
    }
}
