//! Maps from a model's probabilities to calibrated ones, and how they are fitted.
//!
//! | method | map, with *s* = ln(*p* / (1 − *p*)) | classes |
//! | --- | --- | --- |
//! | temperature | *s* / *T*; of many classes ln *p* / *T*, then softmax | any number at once |
//! | Platt | *a s* + *b*, fitted to labels drawn in by Laplace's rule | one against the rest |
//! | beta | *a* ln *p* − *b* ln(1 − *p*) + *c*, *a*, *b* ≥ 0 | one against the rest |
//! | isotonic | any non-decreasing step function, linear between steps | one against the rest |
//!
//! Maps of one class against the rest are fitted for each class, and a row's results scaled to add
//! up to 1. All fits respect row weights.
//!
//! # Sources
//!
//! Platt (1999), "Probabilistic outputs for support vector machines". Zadrozny & Elkan (2002),
//! "Transforming classifier scores into accurate multiclass probability estimates". Guo et al.
//! (2017), "On calibration of modern neural networks". Kull, Silva Filho & Flach (2017), "Beta
//! calibration".

use mm_core::{Dataset, Error, Matrix, Result};
use serde::{Deserialize, Serialize};

use crate::{
    linear::{sigmoid, softmax},
    quadratic::Factor,
};

/// Probabilities are kept so far from 0 and 1 before a logarithm.
const EDGE: f64 = 1e-12;

/// A fitted map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Map {
    /// The probabilities as they are.
    Identity,
    /// The factor 1 / *T*.
    Temperature(f64),
    /// `logit = a ln p − b ln(1 − p) + c`, a row a class; of two classes the positive one's.
    Curve(Vec<[f64; 3]>),
    /// One a class; of two classes the positive one's.
    Steps(Vec<Steps>),
}

/// A non-decreasing function through points, linear between them and constant beyond.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Steps {
    x: Vec<f64>, // Increasing, not empty.
    y: Vec<f64>,
}

impl Map {
    pub(crate) fn check(&self, k: usize) -> Result<()> {
        let ok = match self {
            Self::Identity => true,
            Self::Temperature(factor) => 0.0 < *factor && factor.is_finite(),
            Self::Curve(rows) => rows.len() == k,
            Self::Steps(rows) => {
                let sound = |s: &Steps| {
                    !s.x.is_empty()
                        && s.x.len() == s.y.len()
                        && s.x.windows(2).all(|pair| pair[0] < pair[1])
                        && s.y.iter().all(|y| 0.0 <= *y && *y <= 1.0)
                };
                rows.len() == k && rows.iter().all(sound)
            }
        };
        if ok {
            Ok(())
        } else {
            Err(Error::corrupt("calibration", "a map of its classes", "another"))
        }
    }

    /// Calibrates a row in place.
    pub(crate) fn apply(&self, row: &mut [f64]) {
        match self {
            Self::Identity => return,
            Self::Temperature(factor) => {
                if let [p] = row {
                    *p = sigmoid(logit(*p) * factor);
                } else {
                    for p in row.iter_mut() {
                        *p = p.max(EDGE).ln() * factor;
                    }
                    softmax(row);
                }
                return;
            }
            Self::Curve(rows) => {
                for (p, [a, b, c]) in row.iter_mut().zip(rows) {
                    let q = p.clamp(EDGE, 1.0 - EDGE);
                    *p = sigmoid(a * q.ln() - b * (1.0 - q).ln() + c);
                }
            }
            Self::Steps(rows) => row.iter_mut().zip(rows).for_each(|(p, steps)| *p = steps.at(*p)),
        }
        if 1 < row.len() {
            let total: f64 = row.iter().sum();
            let share = 1.0 / row.len() as f64;
            for p in row {
                *p = if 0.0 < total { *p / total } else { share };
            }
        }
    }

    pub(crate) fn temperature(p: &Matrix, data: &Dataset) -> Self {
        let loss = |factor: f64| -> f64 {
            let mut row = vec![0.0; p.n_cols()];
            let map = Self::Temperature(factor);
            let rows = p.rows().zip(data.target()).enumerate();
            rows.map(|(i, (values, &y))| {
                row.copy_from_slice(values);
                map.apply(&mut row);
                let own = crate::objective::true_class(&row, y);
                -weight(data, i) * own.max(f64::MIN_POSITIVE).ln()
            })
            .sum()
        };
        Self::Temperature(golden(|log| loss(log.exp()), -4.0, 4.0).exp())
    }

    pub(crate) fn platt(p: &Matrix, data: &Dataset) -> Self {
        // With equal slopes a = b the curve is a · logit(p) + c.
        Self::by_class(p, data, |x, is, w| {
            let (yes, no) =
                is.iter().zip(w).fold(
                    (0.0, 0.0),
                    |(yes, no), (&is, w)| {
                        if is { (yes + w, no) } else { (yes, no + w) }
                    },
                );
            let (high, low) = ((yes + 1.0) / (yes + 2.0), 1.0 / (no + 2.0));
            let rows = x.iter().map(|&x| [logit(x), 0.0, 1.0]);
            let target = is.iter().map(|&is| if is { high } else { low });
            let [a, _, c] = newton(
                &rows.collect::<Vec<_>>(),
                &target.collect::<Vec<_>>(),
                w,
                [true, false, true],
            );
            [a, a, c]
        })
    }

    pub(crate) fn beta(p: &Matrix, data: &Dataset) -> Self {
        Self::by_class(p, data, |x, is, w| {
            let rows: Vec<[f64; 3]> = x
                .iter()
                .map(|x| x.clamp(EDGE, 1.0 - EDGE))
                .map(|x| [x.ln(), -(1.0 - x).ln(), 1.0])
                .collect();
            let target: Vec<f64> = is.iter().map(|&is| f64::from(u8::from(is))).collect();
            let all = newton(&rows, &target, w, [true, true, true]);
            match all {
                [a, _, _] if a < 0.0 => newton(&rows, &target, w, [false, true, true]),
                [_, b, _] if b < 0.0 => newton(&rows, &target, w, [true, false, true]),
                _ => all,
            }
            .map(|v| if v.is_finite() { v } else { 0.0 })
        })
    }

    pub(crate) fn isotonic(p: &Matrix, data: &Dataset) -> Self {
        let w = weights(data);
        let steps = |j: usize| {
            let x: Vec<f64> = p.column(j).collect();
            Steps::fit(&x, &of_class(data, p.n_cols(), j), &w)
        };
        Self::Steps((0..p.n_cols()).map(steps).collect())
    }

    fn by_class(
        p: &Matrix,
        data: &Dataset,
        fit: impl Fn(&[f64], &[bool], &[f64]) -> [f64; 3],
    ) -> Self {
        let w = weights(data);
        let class = |j: usize| {
            let x: Vec<f64> = p.column(j).collect();
            fit(&x, &of_class(data, p.n_cols(), j), &w)
        };
        Self::Curve((0..p.n_cols()).map(class).collect())
    }
}

impl Steps {
    /// Isotonic regression by pooling adjacent violators; the ends are kept one half of a row away
    /// from 0 and 1, or a log loss could become infinite.
    fn fit(x: &[f64], is: &[bool], w: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..x.len()).filter(|&i| 0.0 < w[i]).collect();
        order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
        // Blocks: first and last x, weight, weight of the class.
        let mut blocks: Vec<[f64; 4]> = Vec::new();
        for tied in order.chunk_by(|&a, &b| x[a] == x[b]) {
            let total: f64 = tied.iter().map(|&i| w[i]).sum();
            let own: f64 = tied.iter().filter(|&&i| is[i]).map(|&i| w[i]).sum();
            let at = x[tied[0]];
            blocks.push([at, at, total, own]);
            while let [.., before, last] = &blocks[..]
                && last[3] * before[2] <= before[3] * last[2]
            {
                let merged = [before[0], last[1], before[2] + last[2], before[3] + last[3]];
                blocks.truncate(blocks.len() - 2);
                blocks.push(merged);
            }
        }
        let total: f64 = blocks.iter().map(|block| block[2]).sum();
        let edge = 0.5 / (total + 1.0);
        let (mut xs, mut ys) = (Vec::new(), Vec::new());
        for [first, last, weight, own] in blocks {
            let y = (own / weight).clamp(edge, 1.0 - edge);
            xs.push(first);
            ys.push(y);
            if first < last {
                xs.push(last);
                ys.push(y);
            }
        }
        Self { x: xs, y: ys }
    }

    fn at(&self, p: f64) -> f64 {
        let above = self.x.partition_point(|x| *x < p);
        if above == self.x.len() {
            return self.y[above - 1];
        }
        if above == 0 || self.x[above] == p {
            return self.y[above];
        }
        let part = (p - self.x[above - 1]) / (self.x[above] - self.x[above - 1]);
        self.y[above - 1] + part * (self.y[above] - self.y[above - 1])
    }
}

fn weight(data: &Dataset, i: usize) -> f64 {
    data.weights().map_or(1.0, |w| w[i])
}

fn weights(data: &Dataset) -> Vec<f64> {
    (0..data.n_rows()).map(|i| weight(data, i)).collect()
}

/// Whether each row is of the class that column `j` of `k` is about.
fn of_class(data: &Dataset, k: usize, j: usize) -> Vec<bool> {
    let class = if k == 1 { 1.0 } else { j as f64 };
    data.target().iter().map(|&y| y == class).collect()
}

fn logit(p: f64) -> f64 {
    let p = p.clamp(EDGE, 1.0 - EDGE);
    (p / (1.0 - p)).ln()
}

/// Logistic regression of targets in [0, 1] on three features, of which those not `free` have the
/// coefficient 0, by Newton's method with halved steps. A hint of a penalty keeps separable rows
/// finite.
fn newton(rows: &[[f64; 3]], target: &[f64], w: &[f64], free: [bool; 3]) -> [f64; 3] {
    const PENALTY: f64 = 1e-6;
    let score =
        |beta: &[f64; 3], row: &[f64; 3]| -> f64 { beta.iter().zip(row).map(|(b, x)| b * x).sum() };
    let loss = |beta: &[f64; 3]| -> f64 {
        let rows = rows.iter().zip(target).zip(w);
        let fit: f64 = rows
            .map(|((row, t), w)| {
                let s = score(beta, row);
                // ln(1 + exp(s)) − t s, without overflow.
                w * (s.max(0.0) + (-s.abs()).exp().ln_1p() - t * s)
            })
            .sum();
        fit + PENALTY / 2.0 * beta.iter().map(|b| b * b).sum::<f64>()
    };
    let mut beta = [0.0; 3];
    let mut lowest = loss(&beta);
    for _ in 0..100 {
        let (mut slope, mut curvature) = (vec![0.0; 3], Matrix::zeros(3, 3));
        for ((row, t), w) in rows.iter().zip(target).zip(w) {
            let p = sigmoid(score(&beta, row));
            for i in 0..3 {
                slope[i] += w * (p - t) * row[i];
                for j in 0..3 {
                    curvature.row_mut(i)[j] += w * p * (1.0 - p) * row[i] * row[j];
                }
            }
        }
        for i in 0..3 {
            slope[i] += PENALTY * beta[i];
            curvature.row_mut(i)[i] += PENALTY;
            if !free[i] {
                slope[i] = 0.0;
                for j in 0..3 {
                    curvature.row_mut(i)[j] = 0.0;
                    curvature.row_mut(j)[i] = 0.0;
                }
                curvature.row_mut(i)[i] = 1.0;
            }
        }
        let Some(factor) = Factor::of(&curvature) else { break };
        let step = factor.solve(slope);
        let mut scale = 1.0;
        let next = loop {
            let mut next = beta;
            next.iter_mut().zip(&step).for_each(|(b, s)| *b -= scale * s);
            if loss(&next) <= lowest || scale < 1e-6 {
                break next;
            }
            scale /= 2.0;
        };
        let now = loss(&next);
        if lowest <= now {
            break;
        }
        let done = lowest - now <= 1e-14 * lowest.abs();
        (beta, lowest) = (next, now);
        if done {
            break;
        }
    }
    beta
}

/// The minimum of a unimodal function between two points (Kiefer 1953).
fn golden(f: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    let ratio = (5_f64.sqrt() - 1.0) / 2.0;
    let (mut a, mut b) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut fa, mut fb) = (f(a), f(b));
    for _ in 0..60 {
        if fa <= fb {
            (high, b, fb) = (b, a, fa);
            a = high - ratio * (high - low);
            fa = f(a);
        } else {
            (low, a, fa) = (a, b, fb);
            b = low + ratio * (high - low);
            fb = f(b);
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use mm_core::{Frame, Metric};

    use super::*;

    /// Rows whose true log-odds are `bend` of those that are predicted.
    fn bent(n: usize, bend: impl Fn(f64) -> f64) -> (Matrix, Dataset) {
        let (mut p, mut labels) = (Vec::new(), Vec::new());
        for i in 0..n {
            let s = ((i * 37) % n) as f64 / n as f64 * 6.0 - 3.0;
            p.push(sigmoid(s));
            let uniform = ((i * 7919 + 13) % 1009) as f64 / 1009.0;
            labels.push(if uniform < sigmoid(bend(s)) { "yes" } else { "no" });
        }
        let frame = Frame::new(vec![0.0; n], 1).expect("valid");
        (Matrix::new(p, 1).expect("valid"), Dataset::classification(frame, &labels).expect("two"))
    }

    fn loss(map: &Map, p: &Matrix, data: &Dataset) -> f64 {
        let mut out = p.clone();
        (0..p.n_rows()).for_each(|i| map.apply(out.row_mut(i)));
        Metric::LogLoss.score(data.truth(), &out).expect("probabilities")
    }

    #[test]
    fn each_map_finds_what_it_can_express() {
        let (p, data) = bent(4000, |s| 0.4 * s);
        let Map::Temperature(factor) = Map::temperature(&p, &data) else { panic!("a temperature") };
        // The standard error of a slope on 4000 rows of standard deviation 1.7 is about 0.02.
        assert!((factor - 0.4).abs() < 0.08, "{factor}");
        let (p, data) = bent(4000, |s| 1.5 * s - 1.0);
        let Map::Curve(rows) = Map::platt(&p, &data) else { panic!("a curve") };
        assert!((rows[0][0] - 1.5).abs() < 0.2 && (rows[0][2] + 1.0).abs() < 0.2, "{rows:?}");
        assert_eq!(rows[0][0], rows[0][1]);
    }

    #[test]
    fn no_map_makes_the_rows_that_it_was_fitted_to_worse() {
        let (p, data) = bent(500, |s| 2.0 * s + (3.0 * s).sin());
        let before = loss(&Map::Identity, &p, &data);
        for map in [
            Map::temperature(&p, &data),
            Map::platt(&p, &data),
            Map::beta(&p, &data),
            Map::isotonic(&p, &data),
        ] {
            let after = loss(&map, &p, &data);
            assert!(after < before, "{map:?}: {after}, before {before}");
            map.check(1).expect("sound");
        }
    }

    #[test]
    fn isotonic_regression_pools_what_is_out_of_order() {
        let x = [0.1, 0.2, 0.3, 0.4, 0.4];
        let is = [false, true, false, true, true];
        let steps = Steps::fit(&x, &is, &[1.0; 5]);
        // Rows 1 and 2 are pooled at one half; the ends are half a row of six from 0 and 1.
        let edge = 0.5 / 6.0;
        assert_eq!(steps.x, [0.1, 0.2, 0.3, 0.4]);
        assert_eq!(steps.y, [edge, 0.5, 0.5, 1.0 - edge]);
        assert_eq!(steps.at(0.0), edge);
        assert!((steps.at(0.35) - (0.5 + 1.0 - edge) / 2.0).abs() < 1e-15);
        assert_eq!(steps.at(0.9), 1.0 - edge);
    }

    #[test]
    fn a_row_of_weight_2_counts_as_two_rows() {
        let (p, data) = bent(300, |s| 0.5 * s);
        let twice: Vec<usize> = (0..300).flat_map(|i| vec![i; 1 + i % 2]).collect();
        let weights = (0..300).map(|i| 1.0 + f64::from(i % 2)).collect();
        let weighted = data.clone().with_weights(weights).expect("valid");
        for fit in
            [Map::temperature as fn(&Matrix, &Dataset) -> Map, Map::platt, Map::beta, Map::isotonic]
        {
            let map = fit(&p, &weighted);
            let repeated = fit(&p.take(&twice), &data.take(&twice));
            for at in [0.05, 0.3, 0.6, 0.95] {
                let (mut a, mut b) = ([at], [at]);
                map.apply(&mut a);
                repeated.apply(&mut b);
                // Sums in another order; the searches end within 1e-10 of the minimum.
                assert!((a[0] - b[0]).abs() < 1e-7, "{map:?} {repeated:?}");
            }
        }
    }
}
