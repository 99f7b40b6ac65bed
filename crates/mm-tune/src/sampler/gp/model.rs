//! Gaussian process regression over a mixed cube.

use super::{
    linear::{cholesky, dot, inverse, times},
    minimize::{Limits, minimize},
};

/// What the process assumes: how quickly the function varies along each coordinate, how much it varies,
/// and how noisy values are.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hyper {
    /// 1/ℓ² for the length scale ℓ of each coordinate.
    pub(super) weights: Vec<f64>,
    /// The variance of the function.
    pub(super) scale: f64,
    /// The variance of the noise.
    pub(super) noise: f64,
}

/// Values are taken for at least so noisy, in units of their variance: keeps the matrix invertible.
const LEAST_NOISE: f64 = 1e-6;

/// Points, one a row, and their values; which coordinates are categories.
#[derive(Debug, Clone)]
pub(super) struct Data {
    pub(super) x: Vec<Vec<f64>>,
    pub(super) y: Vec<f64>,
    pub(super) is_category: Vec<bool>,
}

/// A Gaussian process that has seen data.
///
/// The kernel is Matérn's with ν = 5/2, *s* (1 + *t* + *t*²/3) exp(−*t*) at *t* = √5 *r*, where *r*² is the
/// sum over the coordinates of squared distances over ℓ²; two categories are 1 apart (Rasmussen, Williams
/// 2006, *Gaussian Processes for Machine Learning*, section 4.2).
#[derive(Debug, Clone)]
pub(super) struct Process {
    data: Data,
    pub(super) hyper: Hyper,
    /// K⁻¹ and K⁻¹ y.
    inverse: Vec<f64>,
    alpha: Vec<f64>,
}

/// What a process says of a point, with slopes along the coordinates.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Posterior {
    pub(super) mean: f64,
    pub(super) variance: f64,
    /// Empty where they were not asked for; 0 along categories.
    pub(super) mean_slope: Vec<f64>,
    pub(super) variance_slope: Vec<f64>,
}

impl Data {
    fn squared(&self, j: usize, a: f64, b: f64) -> f64 {
        if self.is_category[j] { f64::from(u8::from(a != b)) } else { (a - b) * (a - b) }
    }

    fn radius(&self, a: &[f64], b: &[f64], weights: &[f64]) -> f64 {
        weights.iter().enumerate().map(|(j, w)| w * self.squared(j, a[j], b[j])).sum()
    }
}

/// Matérn's function of r², for ν = 5/2, and its slope.
fn matern(radius: f64) -> (f64, f64) {
    let t = (5.0 * radius).sqrt();
    let decay = (-t).exp();
    ((1.0 + t + t * t / 3.0) * decay, -5.0 / 6.0 * (1.0 + t) * decay)
}

impl Hyper {
    pub(super) fn start(n: usize) -> Self {
        Self { weights: vec![1.0; n], scale: 1.0, noise: 0.01 }
    }

    fn to_logs(&self) -> Vec<f64> {
        let noise = (self.noise - 0.99 * LEAST_NOISE).ln();
        self.weights.iter().map(|w| w.ln()).chain([self.scale.ln(), noise]).collect()
    }

    fn from_logs(logs: &[f64]) -> Self {
        let n = logs.len() - 2;
        Self {
            weights: logs[..n].iter().map(|w| w.exp()).collect(),
            scale: logs[n].exp(),
            noise: logs[n + 1].exp() + LEAST_NOISE,
        }
    }

    /// The most likely ones for the data, a posteriori: the likelihood of the values, times priors that
    /// keep few data from being over-interpreted. O(n³) a step.
    ///
    /// The priors are those of Optuna 5.0: exp(−(0.1/w + 0.1 w)) of each w = 1/ℓ², Gamma(2, 1) of the
    /// scale, Gamma(1.1, 30) of the noise.
    pub(super) fn fit(data: &Data) -> Self {
        let n = data.is_category.len();
        let mut logs = Self::start(n).to_logs();
        let low: Vec<f64> = (0..n).map(|_| -12.0).chain([-8.0, -20.0]).collect();
        let high: Vec<f64> = (0..n).map(|_| 12.0).chain([8.0, 2.0]).collect();
        let loss = |logs: &[f64], slope: &mut [f64]| unlikelihood(data, logs, slope);
        minimize(loss, &mut logs, (&low, &high), Limits { steps: 60, slope: 1e-2 });
        Self::from_logs(&logs)
    }
}

/// The negative logarithm of the posterior density, up to a constant, with slopes along the logarithms
/// of the hyper-parameters.
fn unlikelihood(data: &Data, logs: &[f64], slope: &mut [f64]) -> f64 {
    let hyper = Hyper::from_logs(logs);
    let (n, d) = (data.y.len(), data.is_category.len());
    let (mut kernel, mut steep) = (vec![0.0; n * n], vec![0.0; n * n]);
    for a in 0..n {
        for b in a..n {
            let radius = data.radius(&data.x[a], &data.x[b], &hyper.weights);
            let (value, change) = matern(radius);
            kernel[a * n + b] = hyper.scale * value;
            steep[a * n + b] = hyper.scale * change;
        }
        kernel[a * n + a] += hyper.noise;
    }
    let Some(factor) = cholesky(kernel.clone(), n) else { return f64::INFINITY };
    let log_det: f64 = 2.0 * (0..n).map(|i| factor[i * n + i].ln()).sum::<f64>();
    let mut inverse = inverse(&factor, n);
    let alpha = times(&inverse, &data.y);
    let fit = dot(&alpha, &data.y);

    // d/dθ = ½ Σ (K⁻¹ − α αᵀ) ∘ dK/dθ.
    for a in 0..n {
        for b in 0..n {
            inverse[a * n + b] -= alpha[a] * alpha[b];
        }
    }
    slope.fill(0.0);
    for a in 0..n {
        for b in a + 1..n {
            // Twice a half: the pair counts both ways.
            let share = inverse[a * n + b] * steep[a * n + b];
            for (j, slope) in slope[..d].iter_mut().enumerate() {
                *slope += share * data.squared(j, data.x[a][j], data.x[b][j]);
            }
            slope[d] += inverse[a * n + b] * kernel[a * n + b];
        }
        slope[d] += 0.5 * inverse[a * n + a] * (kernel[a * n + a] - hyper.noise);
        slope[d + 1] += 0.5 * inverse[a * n + a];
    }
    let mut value = 0.5 * (log_det + fit);
    for (slope, w) in slope.iter_mut().zip(&hyper.weights) {
        value += 0.1 / w + 0.1 * w;
        *slope = *slope * w - 0.1 / w + 0.1 * w;
    }
    value -= hyper.scale.ln() - hyper.scale;
    slope[d] += hyper.scale - 1.0;
    value -= 0.1 * hyper.noise.ln() - 30.0 * hyper.noise;
    slope[d + 1] = (slope[d + 1] - 0.1 / hyper.noise + 30.0) * (hyper.noise - LEAST_NOISE);
    value
}

impl Process {
    /// Looks at the data. O(n³).
    pub(super) fn new(data: Data, mut hyper: Hyper) -> Self {
        let n = data.y.len();
        loop {
            let mut kernel = vec![0.0; n * n];
            for a in 0..n {
                for b in a..n {
                    let radius = data.radius(&data.x[a], &data.x[b], &hyper.weights);
                    kernel[a * n + b] = hyper.scale * matern(radius).0;
                }
                kernel[a * n + a] += hyper.noise;
            }
            if let Some(factor) = cholesky(kernel, n) {
                let inverse = inverse(&factor, n);
                let alpha = times(&inverse, &data.y);
                return Self { data, hyper, inverse, alpha };
            }
            // Rounding: more noise makes any kernel matrix positive definite.
            hyper.noise *= 10.0;
        }
    }

    /// What is known of a point. O(n²).
    pub(super) fn posterior(&self, x: &[f64], with_slopes: bool) -> Posterior {
        let (d, Hyper { weights, scale, .. }) = (x.len(), &self.hyper);
        let terms: Vec<(f64, f64)> =
            self.data.x.iter().map(|other| matern(self.data.radius(x, other, weights))).collect();
        let k: Vec<f64> = terms.iter().map(|(value, _)| scale * value).collect();
        let solved = times(&self.inverse, &k);
        let mut posterior = Posterior {
            mean: dot(&k, &self.alpha),
            // Rounding may leave a little below 0.
            variance: (scale - dot(&k, &solved)).max(1e-12 * scale),
            mean_slope: Vec::new(),
            variance_slope: Vec::new(),
        };
        if with_slopes {
            posterior.mean_slope = vec![0.0; d];
            posterior.variance_slope = vec![0.0; d];
            for (i, other) in self.data.x.iter().enumerate() {
                let steep = 2.0 * scale * terms[i].1;
                for j in (0..d).filter(|&j| !self.data.is_category[j]) {
                    let change = steep * weights[j] * (x[j] - other[j]);
                    posterior.mean_slope[j] += self.alpha[i] * change;
                    posterior.variance_slope[j] -= 2.0 * solved[i] * change;
                }
            }
        }
        posterior
    }

    /// The same process after it has seen its own expectation at a point: what is being tried there is
    /// believed to come out so (Ginsbourger, Le Riche, Carraro 2010, *Kriging is well-suited to
    /// parallelize optimization*).
    pub(super) fn believing(self, points: Vec<Vec<f64>>) -> Self {
        if points.is_empty() {
            return self;
        }
        let means: Vec<f64> = points.iter().map(|x| self.posterior(x, false).mean).collect();
        let mut data = self.data;
        data.x.extend(points);
        data.y.extend(means);
        Self::new(data, self.hyper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Json;

    fn numbers(json: &Json) -> Vec<f64> {
        json.as_array().expect("a list").iter().filter_map(Json::as_f64).collect()
    }

    fn fixture() -> (Json, Data, Hyper) {
        let fixture = Json::parse(include_str!("../../../tests/fixtures/gp.json")).expect("JSON");
        let field = |key: &str| fixture.get(key).cloned().expect("the fixture is whole");
        let x = field("x").as_array().expect("rows").iter().map(numbers).collect();
        let data = Data { x, y: numbers(&field("y")), is_category: vec![false, false, true] };
        let hyper = Hyper { weights: numbers(&field("weights")), scale: 1.7, noise: 0.05 };
        (fixture, data, hyper)
    }

    /// `tests/fixtures/gp.py`: scikit-learn, with the category as one of several.
    #[test]
    fn predictions_are_those_of_scikit_learn() {
        let (fixture, data, hyper) = fixture();
        let process = Process::new(data, hyper);
        let points = fixture.get("points").and_then(Json::as_array).expect("points");
        assert_eq!(points.len(), 10);
        for point in points {
            let [x, expected] = point.as_array().expect("a pair") else { panic!("a pair") };
            let got = process.posterior(&numbers(x), false);
            let expected = numbers(expected);
            // 1e-9: the condition of the matrix is some 1e3.
            assert!((got.mean - expected[0]).abs() < 1e-9, "{got:?}, {expected:?}");
            assert!((got.variance - expected[1]).abs() < 1e-9, "{got:?}, {expected:?}");
        }
    }

    /// The same without the priors, whose part is computed here from their definition.
    #[test]
    fn the_likelihood_is_that_of_scikit_learn() {
        let (fixture, data, hyper) = fixture();
        let logs = hyper.to_logs();
        // Taken back from logarithms, the noise has lost a hundredth of the least noise.
        let hyper = Hyper::from_logs(&logs);
        let likelihood = fixture.get("log_likelihood").and_then(Json::as_f64).expect("a number");
        let n = data.y.len() as f64;
        let constant = 0.5 * n * (2.0 * std::f64::consts::PI).ln();
        let priors = hyper.weights.iter().map(|w| -0.1 / w - 0.1 * w).sum::<f64>()
            + hyper.scale.ln()
            - hyper.scale
            + 0.1 * hyper.noise.ln()
            - 30.0 * hyper.noise;
        let got = unlikelihood(&data, &logs, &mut vec![0.0; logs.len()]);
        // 1e-6: the noise differs by 1e-8, to which the likelihood is sensitive some 1e2-fold.
        assert!((got + likelihood + constant + priors).abs() < 1e-5, "{got}, {likelihood}");
    }

    #[test]
    fn slopes_are_those_of_differences() {
        let (_, data, hyper) = fixture();
        let logs = hyper.to_logs();
        let value = |logs: &[f64]| unlikelihood(&data, logs, &mut vec![0.0; logs.len()]);
        let mut slope = vec![0.0; logs.len()];
        unlikelihood(&data, &logs, &mut slope);
        let shifted = |x: &[f64], j: usize, by: f64| {
            let mut x = x.to_vec();
            x[j] += by;
            x
        };
        for (j, slope) in slope.into_iter().enumerate() {
            let (up, down) = (shifted(&logs, j, 1e-5), shifted(&logs, j, -1e-5));
            let difference = (value(&up) - value(&down)) / 2e-5;
            // Central differences: an error of the order of the square of the step.
            assert!((slope - difference).abs() < 1e-6 * (1.0 + difference.abs()), "{j}");
        }
        let process = Process::new(data.clone(), hyper);
        let x = [0.3, 0.6, 1.0];
        let at = process.posterior(&x, true);
        for j in 0..2 {
            let [up, down] = [1e-5, -1e-5].map(|by| process.posterior(&shifted(&x, j, by), false));
            let mean = (up.mean - down.mean) / 2e-5;
            let variance = (up.variance - down.variance) / 2e-5;
            assert!((at.mean_slope[j] - mean).abs() < 1e-7 * (1.0 + mean.abs()));
            assert!((at.variance_slope[j] - variance).abs() < 1e-7 * (1.0 + variance.abs()));
        }
    }

    /// Along the first coordinate values vary, along the second they do not.
    #[test]
    fn the_fit_finds_the_coordinate_that_matters() {
        let x: Vec<Vec<f64>> =
            (0..30).map(|i| vec![f64::from(i) / 29.0, f64::from(i * 7 % 30) / 29.0]).collect();
        let y = x.iter().map(|x| (9.0 * x[0]).sin()).collect();
        let hyper = Hyper::fit(&Data { x, y, is_category: vec![false; 2] });
        assert!(10.0 * hyper.weights[1] < hyper.weights[0], "{hyper:?}");
        assert!(hyper.noise < 0.01, "{hyper:?}");
    }
}
