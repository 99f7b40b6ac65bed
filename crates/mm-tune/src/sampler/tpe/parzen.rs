//! The densities of TPE: mixtures of products of one-dimensional kernels.

use std::collections::HashMap;

use mm_core::{FloatRange, IntRange};

use crate::{
    distribution::Distribution,
    sampler::normal::{mass, truncated},
};

/// One parameter in the coordinates in which its kernels are normal: logarithms on a log scale, the
/// range widened by half a step where values are discrete.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Axis {
    /// Floats and integers.
    Numeric { low: f64, high: f64, is_log: bool, grid: Option<Grid> },
    /// So many choices.
    Categorical(usize),
}

/// The admitted values of a discrete parameter, in its own scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Grid {
    first: f64,
    last: f64,
    step: f64,
}

impl Axis {
    pub(super) fn of(distribution: &Distribution) -> Self {
        let (low, high, step, is_log) = match distribution {
            Distribution::Categorical(choices) => return Self::Categorical(choices.len()),
            Distribution::Float(FloatRange { low, high, step, log }) => (*low, *high, *step, *log),
            Distribution::Int(IntRange { low, high, step, log }) => {
                (*low as f64, *high as f64, Some(*step as f64), *log)
            }
        };
        let grid = step.map(|step| Grid { first: low, last: high, step });
        let half = step.unwrap_or(0.0) / 2.0;
        let scale = |x: f64| if is_log { x.ln() } else { x };
        Self::Numeric { low: scale(low - half), high: scale(high + half), is_log, grid }
    }

    /// Where an internal value lies.
    pub(super) fn place(&self, value: f64) -> f64 {
        match self {
            Self::Numeric { is_log: true, .. } => value.ln(),
            _ => value,
        }
    }

    /// The admitted internal value nearest to a place.
    fn value(&self, place: f64) -> f64 {
        match *self {
            Self::Categorical(_) => place,
            Self::Numeric { low, high, is_log, grid } => {
                let scale = |x: f64| if is_log { x.exp() } else { x };
                match grid {
                    None => scale(place).clamp(scale(low), scale(high)),
                    Some(Grid { first, last, step }) => {
                        let steps = ((scale(place) - first) / step).round();
                        (first + steps * step).clamp(first, last)
                    }
                }
            }
        }
    }
}

/// The kernels of one axis, those of the observations first and the prior last.
#[derive(Debug)]
enum Kernels {
    /// Normal, truncated to the axis.
    Normal(Vec<Normal>, Runs),
    /// A step up for the choice that was seen; `None` is the prior.
    Choice(Vec<Option<u32>>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Normal {
    mu: f64,
    sigma: f64,
    /// Its share within the axis.
    inside: f64,
    /// What its density at the peak is, in units of 1/range.
    peak: f64,
}

/// Equal kernels in runs, of which a discrete axis has few: the run of each kernel, and each run.
#[derive(Debug, Default)]
struct Runs {
    of: Vec<u32>,
    kernels: Vec<Normal>,
}

/// A density over some axes: a weighted mixture of kernels, each the product of one kernel an axis.
#[derive(Debug)]
pub(super) struct Mixture<'a> {
    axes: &'a [Axis],
    weights: Vec<f64>,
    kernels: Vec<Kernels>,
}

/// The observations of one axis: the place of each, oldest first, and their order by place.
#[derive(Debug, Clone, Default)]
pub(super) struct Observed {
    pub(super) places: Vec<f64>,
    pub(super) by_place: Vec<u32>,
}

impl Observed {
    pub(super) fn new(places: Vec<f64>) -> Self {
        let mut by_place: Vec<u32> = (0..places.len() as u32).collect();
        by_place.sort_by(|&a, &b| places[a as usize].total_cmp(&places[b as usize]));
        Self { places, by_place }
    }
}

impl<'a> Mixture<'a> {
    /// A mixture with one kernel for each of `n` observations and one prior. O(n) an axis.
    pub(super) fn new(axes: &'a [Axis], n: usize, observed: &[Observed]) -> Self {
        let mut weights = ages(n);
        weights.push(1.0); // The prior's.
        let total: f64 = weights.iter().sum();
        for weight in &mut weights {
            *weight /= total;
        }
        let kernels = axes.iter().zip(observed).map(|(axis, seen)| Kernels::of(axis, seen));
        Self { axes, weights, kernels: kernels.collect() }
    }

    /// One draw: a kernel by weight, then each axis within it. `uniform` yields numbers in [0, 1).
    /// In internal form.
    pub(super) fn draw(&self, mut uniform: impl FnMut() -> f64) -> Vec<f64> {
        let mut left = uniform();
        let last = self.weights.len() - 1;
        let chosen = self.weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        let chosen = chosen.unwrap_or(last);
        let axes = self.axes.iter().zip(&self.kernels);
        let place = |(axis, kernels): (&Axis, &Kernels)| {
            let u = uniform();
            let place = match (axis, kernels) {
                (Axis::Numeric { low, high, .. }, Kernels::Normal(kernels, _)) => {
                    let Normal { mu, sigma, .. } = kernels[chosen];
                    truncated(mu, sigma, *low, *high, u)
                }
                (Axis::Categorical(n), Kernels::Choice(seen)) => {
                    let (hit, miss) = shares(*n, seen.len(), seen[chosen]);
                    let mut left = u;
                    let found = (0..*n).position(|choice| {
                        left -= if seen[chosen] == Some(choice as u32) { hit } else { miss };
                        left < 0.0
                    });
                    found.unwrap_or(*n - 1) as f64
                }
                _ => unreachable!("kernels are made for their axis"),
            };
            axis.value(place)
        };
        axes.map(place).collect()
    }

    /// The logarithm of the density at each of `points` (internal values, one an axis), up to a
    /// constant that is the same for all mixtures over these axes. O(points · kernels · axes).
    pub(super) fn log_density(&self, points: &[Vec<f64>]) -> Vec<f64> {
        let n = self.weights.len();
        // The product over the axes, kernel by kernel: exponents of normal densities add up, all
        // other factors multiply. Each axis is measured in its own range, so that the prior's
        // density is about 1 and keeps the sum away from 0.
        let (mut exponent, mut factor) = (vec![0.0; n], vec![0.0; n]);
        let mut memo = Memo::default();
        let density = |point: &Vec<f64>| {
            exponent.fill(0.0);
            factor.copy_from_slice(&self.weights);
            for (j, (axis, kernels)) in self.axes.iter().zip(&self.kernels).enumerate() {
                match (axis, kernels) {
                    (Axis::Numeric { .. }, Kernels::Normal(kernels, runs)) => {
                        if let Some(cell) = axis.cell(point[j]) {
                            memo.multiply(j, cell, runs, &mut factor);
                            continue;
                        }
                        let x = axis.place(point[j]);
                        let sums = exponent.iter_mut().zip(&mut factor);
                        for (normal, (exponent, factor)) in kernels.iter().zip(sums) {
                            let z = (x - normal.mu) / normal.sigma;
                            *exponent -= 0.5 * z * z;
                            *factor *= normal.peak;
                        }
                    }
                    (Axis::Categorical(n), Kernels::Choice(seen)) => {
                        let (hit, miss) = shares(*n, seen.len(), Some(0));
                        let (_, prior) = shares(*n, seen.len(), None);
                        for (seen, factor) in seen.iter().zip(&mut factor) {
                            *factor *= match seen {
                                Some(choice) if f64::from(*choice) == point[j] => hit,
                                Some(_) => miss,
                                None => prior,
                            };
                        }
                    }
                    _ => unreachable!("kernels are made for their axis"),
                }
            }
            let kernels = exponent.iter().zip(&factor);
            // exp(-60) is nothing beside the prior.
            let sum: f64 = kernels
                .filter(|&(&e, &f)| -60.0 < e && 0.0 < f)
                .map(|(e, f)| if *e == 0.0 { *f } else { e.exp() * f })
                .sum();
            sum.ln()
        };
        points.iter().map(density).collect()
    }
}

impl Axis {
    /// Whether the axis is discrete, and so coarse that the mass of a value's cell is not its density
    /// times its width: that a cell is more than a tenth of the narrowest kernel.
    fn is_coarse(&self) -> bool {
        match *self {
            Self::Numeric { low, high, is_log, grid: Some(Grid { first, step, .. }) } => {
                let right = first + step / 2.0;
                (high - low) / 1000.0 < (if is_log { right.ln() } else { right }) - low
            }
            _ => false,
        }
    }

    /// The part of a coarse axis that stands for a value.
    fn cell(&self, value: f64) -> Option<(f64, f64)> {
        let &Self::Numeric { low, high, is_log, grid: Some(grid) } = self else { return None };
        let scale = |x: f64| if is_log { x.ln() } else { x };
        let half = grid.step / 2.0;
        let cell = || (scale(value - half).max(low), scale(value + half).min(high));
        self.is_coarse().then(cell)
    }
}

/// Masses of cells under runs of kernels: candidates often share a cell.
#[derive(Debug, Default)]
struct Memo(HashMap<(usize, u64), Vec<f64>>);

impl Memo {
    /// Multiplies each kernel's factor by its mass in a cell of an axis.
    fn multiply(&mut self, axis: usize, cell: (f64, f64), runs: &Runs, factor: &mut [f64]) {
        let (left, right) = cell;
        let masses = self.0.entry((axis, left.to_bits())).or_insert_with(|| {
            let one = |kernel: &Normal| {
                let (a, b) =
                    ((left - kernel.mu) / kernel.sigma, (right - kernel.mu) / kernel.sigma);
                // Beyond 12 standard deviations it is nothing beside the prior.
                if 12.0 < a || b < -12.0 { 0.0 } else { mass(a, b) / kernel.inside }
            };
            runs.kernels.iter().map(one).collect()
        });
        for (factor, &run) in factor.iter_mut().zip(&runs.of) {
            *factor *= masses[run as usize];
        }
    }
}

impl Kernels {
    fn of(axis: &Axis, seen: &Observed) -> Self {
        let &Axis::Numeric { low, high, .. } = axis else {
            let choices = seen.places.iter().map(|&place| Some(place as u32));
            return Self::Choice(choices.chain([None]).collect());
        };
        let n = seen.places.len();
        let range = high - low;
        let (narrowest, mut sigmas) = (range / 100_f64.min(n as f64 + 2.0), vec![0.0; n]);
        let at = |i: usize| seen.places[seen.by_place[i] as usize];
        for i in 0..n {
            let (is_first, is_last) = (i == 0, i + 1 == n);
            let x = at(i);
            let left = if is_first { x - low } else { x - at(i - 1) };
            let right = if is_last { high - x } else { at(i + 1) - x };
            // The bounds are no neighbours of the outermost where there are others.
            let gap = match (is_first, is_last) {
                (true, false) => right,
                (false, true) => left,
                _ => left.max(right),
            };
            sigmas[seen.by_place[i] as usize] = gap.clamp(narrowest, range);
        }
        let normal = |(&mu, sigma): (&f64, f64)| {
            let inside = mass((low - mu) / sigma, (high - mu) / sigma).max(f64::MIN_POSITIVE);
            let peak = range / (sigma * inside * (2.0 * std::f64::consts::PI).sqrt());
            Normal { mu, sigma, inside, peak }
        };
        let middle = f64::midpoint(low, high);
        let prior = normal((&middle, range));
        let kernels: Vec<Normal> =
            seen.places.iter().zip(sigmas).map(normal).chain([prior]).collect();
        let mut runs = Runs { of: vec![0; n + 1], kernels: Vec::new() };
        if axis.is_coarse() {
            for kernel in seen.by_place.iter().copied().chain([n as u32]) {
                let normal = kernels[kernel as usize];
                if runs.kernels.last() != Some(&normal) {
                    runs.kernels.push(normal);
                }
                runs.of[kernel as usize] = runs.kernels.len() as u32 - 1;
            }
        }
        Self::Normal(kernels, runs)
    }
}

/// The probability that a categorical kernel gives the choice that it saw, and each other one: of
/// `kernels` kernels, each has 1/kernels on every choice and 1 more on its own; the prior has none.
fn shares(n_choices: usize, kernels: usize, seen: Option<u32>) -> (f64, f64) {
    let base = 1.0 / kernels as f64;
    let total = base * n_choices as f64 + f64::from(u8::from(seen.is_some()));
    ((base + 1.0) / total, base / total)
}

/// Weights by age, oldest first: all 1 up to 25; beyond, the last 25 are 1 and older ones fall
/// linearly to 1/n.
fn ages(n: usize) -> Vec<f64> {
    const RECENT: usize = 25;
    if n < RECENT {
        return vec![1.0; n];
    }
    let old = n - RECENT;
    let oldest = 1.0 / n as f64;
    let rise = |i: usize| {
        if old == 1 { oldest } else { oldest + (1.0 - oldest) * i as f64 / (old - 1) as f64 }
    };
    (0..old).map(rise).chain(std::iter::repeat_n(1.0, RECENT)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn axes() -> Vec<Axis> {
        vec![
            Axis::of(&Distribution::Float(FloatRange::new(-1.0, 2.0))),
            Axis::of(&Distribution::Int(IntRange::log(1, 40))),
            Axis::of(&Distribution::Categorical((0..3).map(crate::Choice::Int).collect())),
        ]
    }

    proptest! {
        /// The definition, written out: a mixture of products, each factor normalised.
        #[test]
        fn the_density_is_the_mixture_of_products(
            seen in prop::collection::vec((-1.0_f64..2.0, 1_u32..=40, 0_u32..3), 0..40),
            x in -1.0_f64..2.0, k in 1_u32..=40, c in 0_u32..3,
        ) {
            let axes = axes();
            let observed = [
                Observed::new(seen.iter().map(|s| s.0).collect()),
                Observed::new(seen.iter().map(|s| f64::from(s.1).ln()).collect()),
                Observed::new(seen.iter().map(|s| f64::from(s.2)).collect()),
            ];
            let mixture = Mixture::new(&axes, seen.len(), &observed);
            let total: f64 = mixture.weights.iter().sum();
            prop_assert!((total - 1.0).abs() < 1e-12);
            let point = vec![x, f64::from(k), f64::from(c)];
            let got = mixture.log_density(std::slice::from_ref(&point))[0];
            // Sum over all cells and choices, for the axes whose factors are probabilities.
            let mut sum = 0.0;
            for k in 1..=40 {
                for c in 0..3 {
                    sum += mixture.log_density(&[vec![x, f64::from(k), f64::from(c)]])[0].exp();
                }
            }
            // What is left is the density of the first axis alone (its kernels' weights are the same).
            let alone = Mixture::new(&axes[..1], seen.len(), &observed[..1]);
            let expected = alone.log_density(&[vec![x]])[0].exp();
            prop_assert!((sum / expected - 1.0).abs() < 1e-9, "{sum} for {expected}");
            prop_assert!(got.is_finite());
        }

        #[test]
        fn draws_are_admitted(us in prop::collection::vec(0.0_f64..1.0, 4)) {
            let axes = axes();
            let observed = [
                Observed::new(vec![0.0, 1.9]),
                Observed::new(vec![0.0, 40_f64.ln()]),
                Observed::new(vec![0.0, 2.0]),
            ];
            let mut next = us.iter().copied();
            let drawn = Mixture::new(&axes, 2, &observed).draw(|| next.next().expect("enough"));
            prop_assert!(-1.0 <= drawn[0] && drawn[0] <= 2.0);
            prop_assert!(1.0 <= drawn[1] && drawn[1] <= 40.0 && drawn[1].fract() == 0.0);
            prop_assert!([0.0, 1.0, 2.0].contains(&drawn[2]));
        }
    }

    #[test]
    fn old_trials_weigh_less() {
        assert_eq!(ages(24), vec![1.0; 24]);
        let weights = ages(100);
        assert_eq!((weights[0], weights[74], weights[99]), (0.01, 1.0, 1.0));
        assert!(weights.is_sorted());
    }
}
