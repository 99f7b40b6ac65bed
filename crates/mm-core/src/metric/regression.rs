//! Losses of one predicted number a row.

use crate::{
    error::{Error, Result},
    metric::{
        sample::{Row, Sample},
        sum::Sum,
    },
};

fn error(row: Row<'_>) -> f64 {
    row.truth - row.predicted[0]
}

pub(super) fn rmse(sample: &Sample<'_>) -> f64 {
    sample.mean(|row| error(row).powi(2)).sqrt()
}

pub(super) fn mae(sample: &Sample<'_>) -> f64 {
    sample.mean(|row| error(row).abs())
}

/// 1 − (residual sum of squares) / (total sum of squares), in two passes: the mean first.
pub(super) fn r2(sample: &Sample<'_>) -> Result<f64> {
    let mut targets = sample.rows().map(|row| row.truth);
    let first = targets.next();
    if targets.all(|y| Some(y) == first) {
        let got = format!("{} in every row of positive weight", first.unwrap_or_default());
        return Err(Error::data(
            "target",
            "values that differ, since R² divides by their spread",
            got,
        ));
    }
    let mean = sample.mean(|row| row.truth);
    let residual = sample.mean(|row| error(row).powi(2));
    Ok(1.0 - residual / sample.mean(|row| (row.truth - mean).powi(2)))
}

pub(super) fn mape(sample: &Sample<'_>) -> Result<f64> {
    if let Some(row) = sample.rows().find(|row| row.truth == 0.0) {
        let place = format_args!("target, row {}", row.index);
        let expected = "a number other than 0, since the error is divided by it";
        return Err(Error::data(place, expected, row.truth));
    }
    Ok(sample.mean(|row| error(row).abs() / row.truth.abs()))
}

/// The weighted median: the smallest absolute error at or below which lies half of the weight,
/// averaged with the next larger one where it is exactly half. O(*n* log *n*).
pub(super) fn median_absolute_error(sample: &Sample<'_>) -> f64 {
    let mut errors: Vec<_> = sample.rows().map(|row| (error(row).abs(), row.weight)).collect();
    errors.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let half = sample.total() / 2.0;
    let mut below = Sum::default();
    for (i, &(error, weight)) in errors.iter().enumerate() {
        below.add(weight);
        if half == below.value() && i + 1 < errors.len() {
            return error.midpoint(errors[i + 1].0);
        }
        if half <= below.value() {
            return error;
        }
    }
    errors.last().map_or(0.0, |&(error, _)| error)
}

pub(super) fn pinball(sample: &Sample<'_>, level: f64) -> f64 {
    sample.mean(|row| {
        let error = error(row);
        if 0.0 <= error { level * error } else { (level - 1.0) * error }
    })
}

pub(super) fn rmsle(sample: &Sample<'_>) -> Result<f64> {
    for row in sample.rows() {
        for (what, value) in [("target", row.truth), ("prediction", row.predicted[0])] {
            if value <= -1.0 {
                let place = format_args!("{what}, row {}", row.index);
                let expected = "a number above -1, since the logarithm of 1 + it is taken";
                return Err(Error::data(place, expected, value));
            }
        }
    }
    Ok(sample.mean(|row| (row.truth.ln_1p() - row.predicted[0].ln_1p()).powi(2)).sqrt())
}
