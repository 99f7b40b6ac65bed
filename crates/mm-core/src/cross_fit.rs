//! Out-of-fold fitting, written once for the orchestrator, ensembles, calibration, and tuners.
//!
//! Each fold's model is fitted to the fold's training rows and predicts its test rows. The
//! predictions together are *out of fold*: none was made by a model that saw its row. With
//! splitters that repeat rows the predictions of a row are averaged; with time-ordered splitters
//! some rows are never predicted, and those are left out rather than filled in.

use crate::{
    context::FitContext,
    data::{Dataset, Matrix},
    error::{Error, Result},
    learner::Learner,
    model::Model,
    parallel,
    schedule::{self, Demand},
    split::Fold,
};

/// Predictions of rows by models that did not see them.
#[derive(Debug, Clone, PartialEq)]
pub struct OutOfFold {
    rows: Vec<usize>,
    predictions: Matrix,
}

impl OutOfFold {
    /// Gathers the predictions of the folds' test rows: `parts[i]` has a row for each of
    /// `folds[i].test`. A row predicted several times gets the mean.
    pub fn gather(n_rows: usize, folds: &[Fold], parts: &[Matrix]) -> Result<Self> {
        if folds.len() != parts.len() {
            return Err(Error::data(
                "folds",
                format_args!("{} predictions", folds.len()),
                parts.len(),
            ));
        }
        let width = parts.first().map_or(1, Matrix::n_cols);
        let (mut sums, mut counts) = (Matrix::zeros(n_rows, width), vec![0_u32; n_rows]);
        for (fold, part) in folds.iter().zip(parts) {
            if (part.n_rows(), part.n_cols()) != (fold.test.len(), width) {
                let expected = format!("{} × {width}", fold.test.len());
                let got = format!("{} × {}", part.n_rows(), part.n_cols());
                return Err(Error::data("predictions of a fold", expected, got));
            }
            if let Some(row) = fold.test.iter().find(|&&row| n_rows <= row) {
                return Err(Error::data(
                    "test rows of a fold",
                    format!("rows below {n_rows}"),
                    row,
                ));
            }
            for (&row, predicted) in fold.test.iter().zip(part.rows()) {
                counts[row] += 1;
                sums.row_mut(row).iter_mut().zip(predicted).for_each(|(sum, y)| *sum += y);
            }
        }
        let rows: Vec<usize> = (0..n_rows).filter(|&row| 0 < counts[row]).collect();
        let mut predictions = sums.take(&rows);
        for (i, &row) in rows.iter().enumerate() {
            predictions.row_mut(i).iter_mut().for_each(|y| *y /= f64::from(counts[row]));
        }
        Ok(Self { rows, predictions })
    }

    /// The rows that were predicted, ascending.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// Their predictions: row *i* belongs to `rows()[i]`.
    pub fn predictions(&self) -> &Matrix {
        &self.predictions
    }

    /// The predictions and their rows.
    pub fn into_parts(self) -> (Vec<usize>, Matrix) {
        (self.rows, self.predictions)
    }
}

/// The outcome of [`cross_fit`].
#[derive(Debug)]
#[non_exhaustive]
pub struct CrossFit<M> {
    /// One model a fold.
    pub models: Vec<M>,
    /// What they predict of the rows they did not see.
    pub out_of_fold: OutOfFold,
}

/// Fits `learner` to each fold's training rows and predicts its test rows, several folds at once
/// within the threads of `ctx`. Fold *i* fits with `ctx.fork(i)`, so the outcome does not depend
/// on the number of threads.
///
/// An error says in which fold it arose.
pub fn cross_fit<L: Learner>(
    learner: &L,
    data: &Dataset,
    folds: &[Fold],
    ctx: &FitContext<'_>,
) -> Result<CrossFit<L::Model>> {
    let demands = vec![Demand::of(data); folds.len()];
    let fitted = schedule::run(ctx.threads, &demands, |i, threads| {
        let ctx = FitContext { threads, ..ctx.fork(i as u64) };
        let fit = || {
            let model = learner.fit(&data.take(&folds[i].train), &ctx)?;
            let test = data.frame().take(&folds[i].test);
            let predicted = parallel::with_threads(threads, || model.predict(&test))??;
            Ok((model, predicted))
        };
        schedule::contain(fit).map_err(|e: Error| e.within(format!("fold {i}")))
    });
    let fitted: Result<Vec<_>> = fitted.into_iter().collect();
    let (models, parts): (Vec<_>, Vec<_>) = fitted?.into_iter().unzip();
    let out_of_fold = OutOfFold::gather(data.n_rows(), folds, &parts)?;
    Ok(CrossFit { models, out_of_fold })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(train: &[usize], test: &[usize]) -> Fold {
        Fold { train: train.to_vec(), test: test.to_vec() }
    }

    #[test]
    fn rows_never_predicted_are_left_out_and_repeated_ones_averaged() {
        let folds = [fold(&[0], &[1, 3]), fold(&[0, 1], &[3, 4])];
        let parts = [vec![1.0, 2.0], vec![4.0, 5.0]].map(|v| Matrix::new(v, 1).expect("valid"));
        let all = OutOfFold::gather(6, &folds, &parts).expect("fits");
        assert_eq!(all.rows(), [1, 3, 4]);
        assert_eq!(all.predictions().values(), [1.0, 3.0, 5.0]);
    }

    #[test]
    fn predictions_that_do_not_fit_the_folds_are_refused() {
        let folds = [fold(&[0], &[1, 3])];
        let short = [Matrix::new(vec![1.0], 1).expect("valid")];
        let err = OutOfFold::gather(4, &folds, &short).expect_err("one row is missing");
        assert_eq!(err.to_string(), "predictions of a fold: expected 2 × 1, got 1 × 1");
        assert!(OutOfFold::gather(4, &folds, &[]).is_err());
        let err = OutOfFold::gather(3, &folds, &[Matrix::zeros(2, 1)]).expect_err("no row 3");
        assert_eq!(err.to_string(), "test rows of a fold: expected rows below 3, got 3");
    }
}
