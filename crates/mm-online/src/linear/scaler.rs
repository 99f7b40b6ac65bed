//! Features brought to a common scale, by what was seen so far.

use serde::{Deserialize, Serialize};

use crate::inputs::Row;

/// How features are scaled before a linear model, a k-NN, or a Mondrian tree sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scale {
    /// As they come.
    None,
    /// Less the mean, over the standard deviation.
    Standard,
    /// To [0, 1] by the smallest and the largest value.
    MinMax,
}

/// A running scaler of *p* features.
///
/// With total weight *n* of the rows in which the feature was present, now *x* with weight *w*, and
/// *n*, μ, v before it aged by the decay of the row:
///
/// ```text
/// n += w,    μ += w (x − μ) / n,    v += w ((x − μ_old)(x − μ) − v) / n
/// ```
///
/// which is the population variance (River 0.26 `StandardScaler`, bit for bit at weight 1 and no
/// decay, but for one rounding of the reciprocal deviation). Scaling a feature that has not varied
/// gives 0; a NaN stays NaN. Min–max scaling keeps extremes, which drift towards each new value by
/// the decay: their distance halves in each half-life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    scale: Scale,
    n: Vec<f64>,
    mean: Vec<f64>,   // The smallest value, for `MinMax`.
    var: Vec<f64>,    // The largest value, for `MinMax`.
    factor: Vec<f64>, // 1 / deviation or 1 / range; 0 where there is none.
}

impl Scaler {
    /// A scaler of `n_features` features that has seen nothing.
    pub fn new(scale: Scale, n_features: usize) -> Self {
        let zeros = || vec![0.0; n_features];
        Self { scale, n: zeros(), mean: zeros(), var: zeros(), factor: zeros() }
    }

    /// How it scales.
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// Means of the features: minima for [`Scale::MinMax`].
    pub fn means(&self) -> &[f64] {
        &self.mean
    }

    /// Population variances of the features: maxima for [`Scale::MinMax`].
    pub fn variances(&self) -> &[f64] {
        &self.var
    }

    /// Takes a row into the statistics.
    pub fn learn(&mut self, row: Row<'_>, weight: f64, decay: f64) {
        match self.scale {
            Scale::None => {}
            Scale::Standard if row.complete && weight == 1.0 && decay == 1.0 => {
                let (n, mean) = (&mut self.n[..], &mut self.mean[..]);
                let (var, factor) = (&mut self.var[..], &mut self.factor[..]);
                let stats = n.iter_mut().zip(mean).zip(var).zip(factor);
                for ((((n, mean), var), factor), &x) in stats.zip(row.x) {
                    *n += 1.0;
                    let old = *mean;
                    *mean += (x - old) / *n;
                    *var += ((x - old) * (x - *mean) - *var) / *n;
                    *factor = if 0.0 < *var { 1.0 / var.sqrt() } else { 0.0 };
                }
            }
            Scale::Standard => {
                for (n, x) in self.n.iter_mut().zip(row.x) {
                    *n *= decay;
                    *n += if x.is_nan() { 0.0 } else { weight };
                }
                for (j, x) in row.present() {
                    let (n, old) = (self.n[j], self.mean[j]);
                    self.mean[j] += weight * (x - old) / n;
                    let spread = (x - old) * (x - self.mean[j]);
                    self.var[j] += weight * (spread - self.var[j]) / n;
                    let var = self.var[j];
                    self.factor[j] = if 0.0 < var { 1.0 / var.sqrt() } else { 0.0 };
                }
            }
            Scale::MinMax => {
                for (j, x) in row.present() {
                    if self.n[j] == 0.0 {
                        (self.mean[j], self.var[j]) = (x, x);
                    }
                    self.n[j] = 1.0;
                    self.mean[j] =
                        if x < self.mean[j] { x } else { x + (self.mean[j] - x) * decay };
                    self.var[j] = if self.var[j] < x { x } else { x + (self.var[j] - x) * decay };
                    let range = self.var[j] - self.mean[j];
                    self.factor[j] = if 0.0 < range { 1.0 / range } else { 0.0 };
                }
            }
        }
    }

    /// Fills `z` with the scaled row: 0 for a feature without spread, NaN where the row has it.
    pub fn transform(&self, row: Row<'_>, z: &mut [f64]) {
        if self.scale == Scale::None {
            z.copy_from_slice(row.x);
            return;
        }
        let stats = self.mean.iter().zip(&self.factor);
        for ((z, (mean, factor)), x) in z.iter_mut().zip(stats).zip(row.x) {
            *z = (x - mean) * factor;
        }
    }

    /// The same with 0, the mean, where the row has NaN.
    pub fn transform_or_zero(&self, row: Row<'_>, z: &mut [f64]) {
        self.transform(row, z);
        if !row.complete {
            z.iter_mut().filter(|z| z.is_nan()).for_each(|z| *z = 0.0);
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        4 * size_of_val(&self.n[..])
    }

    pub(crate) fn is_valid(&self, scale: Scale, n_features: usize) -> bool {
        let lens = [&self.n, &self.mean, &self.var, &self.factor].map(Vec::len);
        self.scale == scale && lens == [n_features; 4]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn missing_cells_change_nothing_and_stay_missing() {
        let mut scaler = Scaler::new(Scale::Standard, 2);
        for x in [[1.0, 5.0], [3.0, f64::NAN], [5.0, 9.0]] {
            scaler.learn(Row::new(&x), 1.0, 1.0);
        }
        assert_eq!(scaler.means(), [3.0, 7.0]);
        let mut z = [0.0; 2];
        scaler.transform(Row::new(&[3.0, f64::NAN]), &mut z);
        assert!(z[0] == 0.0 && z[1].is_nan());
    }

    #[test]
    fn min_max_brings_extremes_to_0_and_1() {
        let mut scaler = Scaler::new(Scale::MinMax, 1);
        for x in [2.0, -2.0, 1.0] {
            scaler.learn(Row::new(&[x]), 1.0, 1.0);
        }
        let mut z = [0.0];
        for (x, expected) in [(-2.0, 0.0), (2.0, 1.0), (0.0, 0.5)] {
            scaler.transform(Row::new(&[x]), &mut z);
            assert_eq!(z[0], expected);
        }
    }

    proptest! {
        /// A weight counts as so many rows, and a half-life of one row forgets by halves: both as
        /// the weighted moments computed at once.
        #[test]
        fn moments_are_weighted_and_fading(
            rows in prop::collection::vec((-9.0_f64..9.0, 0.1_f64..4.0), 2..30),
            decay in 0.2_f64..=1.0,
        ) {
            let mut scaler = Scaler::new(Scale::Standard, 1);
            for &(x, w) in &rows {
                scaler.learn(Row::new(&[x]), w, decay);
            }
            let age = |i: usize| decay.powi((rows.len() - 1 - i) as i32);
            let weights: Vec<f64> = rows.iter().enumerate().map(|(i, r)| r.1 * age(i)).collect();
            let total: f64 = weights.iter().sum();
            let mean = rows.iter().zip(&weights).map(|(r, w)| r.0 * w).sum::<f64>() / total;
            let square = |r: &(f64, f64)| (r.0 - mean).powi(2);
            let var = rows.iter().zip(&weights).map(|(r, w)| square(r) * w).sum::<f64>() / total;
            // Thirty roundings of numbers below 100.
            prop_assert!((scaler.means()[0] - mean).abs() < 1e-11);
            prop_assert!((scaler.variances()[0] - var).abs() < 1e-10);
        }
    }
}
