//! The densities of TPE: mixtures of products of one-dimensional kernels.

use std::{f64::consts::PI, ops::Range};

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

    pub(super) fn is_categorical(&self) -> bool {
        matches!(self, Self::Categorical(_))
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
    /// Normal, truncated to the axis, by density.
    Smooth(Normals),
    /// Normal, truncated to the axis, by the mass of a value's cell. Equal kernels, of which a discrete
    /// axis has many, form a run: the run of each kernel.
    Cells { runs: Normals, run: Vec<u32>, masses: Masses },
    /// A step up for the choice that was seen; the prior has seen none.
    Choices { n: usize, seen: Vec<f64> },
}

/// Normal kernels, truncated to their axis.
#[derive(Debug, Default)]
struct Normals {
    mu: Vec<f64>,
    sigma: Vec<f64>,
    /// 1 / (σ√2) of smooth ones; of those with cells the share within the axis.
    scale: Vec<f64>,
}

impl Normals {
    fn clear(&mut self) {
        self.mu.clear();
        self.sigma.clear();
        self.scale.clear();
    }

    fn push(&mut self, mu: f64, sigma: f64, scale: f64) {
        self.mu.push(mu);
        self.sigma.push(sigma);
        self.scale.push(scale);
    }
}

/// Masses of runs in the cells that were asked for, by the left end of a cell: candidates often share one.
#[derive(Debug, Default)]
struct Masses {
    cells: Vec<f64>,
    /// One a run, cell after cell.
    of_runs: Vec<f64>,
}

/// A density over some axes: a weighted mixture of kernels, each the product of one kernel an axis.
///
/// It is filled anew for each proposal, in the memory that it has: for thousands of trials that is megabytes,
/// which would otherwise be asked of the system and given back each time.
#[derive(Debug, Default)]
pub(super) struct Mixture {
    axes: Vec<Axis>,
    weights: Vec<f64>,
    /// The weights times all factors that are the same at every point.
    scale: Vec<f64>,
    kernels: Vec<Kernels>,
}

/// The observations of one axis: the place of each, oldest first, and for numeric ones their order by place,
/// and the places in that order.
#[derive(Debug, Clone, Default)]
pub(super) struct Observed {
    pub(super) places: Vec<f64>,
    pub(super) by_place: Vec<u32>,
    pub(super) sorted: Vec<f64>,
    /// What is known of each kernel from earlier, its σ and its share within the axis, or zeros;
    /// afterwards that of this time.
    pub(super) known: Vec<(f64, f64)>,
}

impl Observed {
    /// Nothing yet, with room for `n`.
    pub(super) fn clear(&mut self, n: usize) {
        self.by_place.clear();
        self.sorted.clear();
        self.places.resize(n, 0.0);
        self.known.resize(n, (0.0, 0.0));
    }

    #[cfg(test)]
    fn new(places: Vec<f64>) -> Self {
        let mut by_place: Vec<u32> = (0..places.len() as u32).collect();
        by_place.sort_by(|&a, &b| places[a as usize].total_cmp(&places[b as usize]));
        let sorted = by_place.iter().map(|&i| places[i as usize]).collect();
        let known = vec![(0.0, 0.0); places.len()];
        Self { places, by_place, sorted, known }
    }
}

/// How much observations weigh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weights {
    /// Old ones less than new ones.
    ByAge,
    /// All alike.
    Equal,
}

impl Mixture {
    /// Begins a mixture over `axes` with one kernel for each of `n` observations and one prior; each axis has
    /// to be [shown](Self::see).
    pub(super) fn begin(&mut self, axes: &[Axis], n: usize, weights: Weights) {
        if self.axes != axes {
            self.axes = axes.to_vec();
            self.kernels = axes.iter().map(Kernels::of).collect();
        }
        self.weights.clear();
        match weights {
            Weights::ByAge => self.weights.extend(ages(n)),
            Weights::Equal => self.weights.resize(n, 1.0),
        }
        self.weights.push(1.0); // The prior's.
        let total: f64 = self.weights.iter().sum();
        for weight in &mut self.weights {
            *weight /= total;
        }
        self.scale.clone_from(&self.weights);
    }

    /// Shows axis `j` what was observed of it. O(n).
    pub(super) fn see(&mut self, j: usize, seen: &mut Observed) {
        self.kernels[j].see(&self.axes[j], seen, &mut self.scale);
    }

    /// One draw: a kernel by weight, then each axis within it. `uniform` yields numbers in [0, 1).
    /// In internal form.
    pub(super) fn draw(&self, mut uniform: impl FnMut() -> f64) -> Vec<f64> {
        let chosen = pick(uniform(), self.weights.len(), |i| self.weights[i]);
        let axes = self.axes.iter().zip(&self.kernels);
        let place = |(axis, kernels): (&Axis, &Kernels)| {
            let u = uniform();
            let place = match (axis, kernels) {
                (&Axis::Numeric { low, high, .. }, Kernels::Smooth(normals)) => {
                    truncated(normals.mu[chosen], normals.sigma[chosen], low, high, u)
                }
                (&Axis::Numeric { low, high, .. }, Kernels::Cells { runs, run, .. }) => {
                    let run = run[chosen] as usize;
                    truncated(runs.mu[run], runs.sigma[run], low, high, u)
                }
                (_, Kernels::Choices { n, seen }) => {
                    let (hit, miss) = shares(*n, seen.len(), 0.0 <= seen[chosen]);
                    let share =
                        |choice: usize| if seen[chosen] == choice as f64 { hit } else { miss };
                    pick(u, *n, share) as f64
                }
                _ => unreachable!("kernels are made for their axis"),
            };
            axis.value(place)
        };
        axes.map(place).collect()
    }

    /// The logarithm of the density at each of `points` (internal values, one an axis), up to a
    /// constant that is the same for all mixtures over these axes. O(points · kernels · axes).
    pub(super) fn log_density(&mut self, points: &[Vec<f64>]) -> Vec<f64> {
        let located: Vec<Vec<Located>> = points
            .iter()
            .map(|point| {
                let axes = self.axes.iter().zip(&mut self.kernels).zip(point);
                axes.map(|((axis, kernels), &x)| kernels.locate(axis, x)).collect()
            })
            .collect();
        let mut sums = vec![0.0; points.len()];
        let (mut exponents, mut factors) = ([0.0; BLOCK], [0.0; BLOCK]);
        let n = self.weights.len();
        for start in (0..n).step_by(BLOCK) {
            let block = start..n.min(start + BLOCK);
            let exponents = &mut exponents[..block.len()];
            let factors = &mut factors[..block.len()];
            for (sum, point) in sums.iter_mut().zip(&located) {
                // The product over the axes, kernel by kernel: exponents of normal densities add up,
                // all other factors multiply.
                exponents.fill(0.0);
                factors.copy_from_slice(&self.scale[block.clone()]);
                for (kernels, at) in self.kernels.iter().zip(point) {
                    kernels.multiply(*at, block.clone(), exponents, factors);
                }
                for (&exponent, &factor) in exponents.iter().zip(&*factors) {
                    // exp(-60) is nothing beside the prior.
                    if -60.0 < exponent {
                        *sum += if exponent == 0.0 { factor } else { exponent.exp() * factor };
                    }
                }
            }
        }
        sums.into_iter().map(f64::ln).collect()
    }
}

/// So many kernels are looked at together for all points: what they need stays in the first cache.
const BLOCK: usize = 256;

/// Where a point lies on an axis.
#[derive(Debug, Clone, Copy)]
enum Located {
    /// At this place.
    Place(f64),
    /// In the cell whose masses stand at this place.
    Cell(usize),
    /// This choice.
    Choice(f64),
}

impl Kernels {
    /// Multiplies what kernels of `block` give at a point into `factors`, or adds it to their exponents.
    fn multiply(
        &self,
        at: Located,
        block: Range<usize>,
        exponents: &mut [f64],
        factors: &mut [f64],
    ) {
        match (self, at) {
            (Self::Smooth(normals), Located::Place(x)) => {
                let kernels = normals.mu[block.clone()].iter().zip(&normals.scale[block]);
                for (exponent, (mu, narrow)) in exponents.iter_mut().zip(kernels) {
                    let z = (x - mu) * narrow;
                    *exponent -= z * z;
                }
            }
            (Self::Cells { runs, run, masses }, Located::Cell(cell)) => {
                let n = runs.mu.len();
                let masses = &masses.of_runs[cell * n..(cell + 1) * n];
                for (factor, &run) in factors.iter_mut().zip(&run[block]) {
                    *factor *= masses[run as usize];
                }
            }
            (Self::Choices { n, seen }, Located::Choice(x)) => {
                let (hit, miss) = shares(*n, seen.len(), true);
                let (_, prior) = shares(*n, seen.len(), false);
                for (factor, &seen) in factors.iter_mut().zip(&seen[block]) {
                    *factor *= if seen == x {
                        hit
                    } else if seen < 0.0 {
                        prior
                    } else {
                        miss
                    };
                }
            }
            _ => unreachable!("a point is located by its kernels"),
        }
    }
}

/// Where the masses in a cell stand, of each run.
fn of_cell(masses: &mut Masses, (left, right): (f64, f64), runs: &Normals) -> usize {
    let known = masses.cells.iter().position(|other| *other == left);
    known.unwrap_or_else(|| {
        let one = |((mu, sigma), inside): ((&f64, &f64), &f64)| {
            let z = |x: f64| (x - mu) / sigma;
            // Beyond 12 standard deviations it is nothing beside the prior.
            if 12.0 < z(left) || z(right) < -12.0 { 0.0 } else { mass(z(left), z(right)) / inside }
        };
        masses.of_runs.extend(runs.mu.iter().zip(&runs.sigma).zip(&runs.scale).map(one));
        masses.cells.push(left);
        masses.cells.len() - 1
    })
}

/// The first of `n` whose share, with those before, exceeds `u`; the last if rounding leaves none.
fn pick(u: f64, n: usize, share: impl Fn(usize) -> f64) -> usize {
    let mut left = u;
    let found = (0..n).position(|i| {
        left -= share(i);
        left < 0.0
    });
    found.unwrap_or(n - 1)
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

    /// The part of the axis that stands for a value.
    fn cell(&self, value: f64) -> (f64, f64) {
        match *self {
            Self::Numeric { low, high, is_log, grid: Some(grid) } => {
                let scale = |x: f64| if is_log { x.ln() } else { x };
                let half = grid.step / 2.0;
                (scale(value - half).max(low), scale(value + half).min(high))
            }
            _ => (self.place(value), self.place(value)),
        }
    }
}

impl Kernels {
    /// None so far.
    fn of(axis: &Axis) -> Self {
        match *axis {
            Axis::Categorical(n) => Self::Choices { n, seen: Vec::new() },
            Axis::Numeric { .. } if axis.is_coarse() => {
                let (runs, masses) = (Normals::default(), Masses::default());
                Self::Cells { runs, run: Vec::new(), masses }
            }
            Axis::Numeric { .. } => Self::Smooth(Normals::default()),
        }
    }

    /// The kernels of what was seen of `axis`; factors that are the same at every point go into `scale`.
    fn see(&mut self, axis: &Axis, seen: &mut Observed, scale: &mut [f64]) {
        let n = seen.places.len();
        let &Axis::Numeric { low, high, .. } = axis else {
            let Self::Choices { seen: choices, .. } = self else {
                unreachable!("kernels are made for their axis")
            };
            choices.clear();
            choices.extend(seen.places.iter().copied().chain([-1.0]));
            return;
        };
        let range = high - low;
        let narrowest = range / 100_f64.min(n as f64 + 2.0);
        let share = |mu: f64, sigma: f64| {
            mass((low - mu) / sigma, (high - mu) / sigma).max(f64::MIN_POSITIVE)
        };
        for (i, (&kernel, &x)) in seen.by_place.iter().zip(&seen.sorted).enumerate() {
            let (is_first, is_last) = (i == 0, i + 1 == n);
            let left = if is_first { x - low } else { x - seen.sorted[i - 1] };
            let right = if is_last { high - x } else { seen.sorted[i + 1] - x };
            // The bounds are no neighbours of the outermost where there are others.
            let gap = match (is_first, is_last) {
                (true, false) => right,
                (false, true) => left,
                _ => left.max(right),
            };
            let sigma = gap.clamp(narrowest, range);
            let known = &mut seen.known[kernel as usize];
            if known.0 != sigma {
                *known = (sigma, share(x, sigma));
            }
        }
        let middle = f64::midpoint(low, high);
        let prior = (middle, (range, share(middle, range)));
        match self {
            Self::Smooth(normals) => {
                normals.clear();
                let all = seen.places.iter().copied().zip(seen.known.iter().copied());
                for ((mu, (sigma, inside)), scale) in all.chain([prior]).zip(scale) {
                    let narrow = std::f64::consts::FRAC_1_SQRT_2 / sigma;
                    normals.push(mu, sigma, narrow);
                    // The density at the peak. Each axis is measured in its own range, so that the
                    // prior's density is about 1 and keeps sums away from 0.
                    *scale *= range / PI.sqrt() * narrow / inside;
                }
            }
            Self::Cells { runs, run, masses } => {
                runs.clear();
                masses.cells.clear();
                masses.of_runs.clear();
                run.clear();
                run.resize(n + 1, 0);
                let all = seen.by_place.iter().zip(&seen.sorted);
                let all = all.map(|(&k, &mu)| (k as usize, (mu, seen.known[k as usize])));
                for (kernel, (mu, (sigma, inside))) in all.chain([(n, prior)]) {
                    if (runs.mu.last(), runs.sigma.last()) != (Some(&mu), Some(&sigma)) {
                        runs.push(mu, sigma, inside);
                    }
                    run[kernel] = runs.mu.len() as u32 - 1;
                }
            }
            Self::Choices { .. } => unreachable!("kernels are made for their axis"),
        }
    }

    /// Where a point lies on the axis.
    fn locate(&mut self, axis: &Axis, x: f64) -> Located {
        match self {
            Self::Smooth(_) => Located::Place(axis.place(x)),
            Self::Cells { runs, masses, .. } => Located::Cell(of_cell(masses, axis.cell(x), runs)),
            Self::Choices { .. } => Located::Choice(x),
        }
    }
}

/// The probability that a categorical kernel gives the choice that it saw, and each other one: of
/// `kernels` kernels, each has 1/kernels on every choice and 1 more on its own; the prior, which has
/// seen none, has no such.
fn shares(n_choices: usize, kernels: usize, has_seen: bool) -> (f64, f64) {
    let base = 1.0 / kernels as f64;
    let total = base * n_choices as f64 + f64::from(u8::from(has_seen));
    ((base + 1.0) / total, base / total)
}

/// Weights by age, oldest first: all 1 up to 25; beyond, the last 25 are 1 and older ones fall
/// linearly to 1/n.
fn ages(n: usize) -> impl Iterator<Item = f64> {
    const RECENT: usize = 25;
    let old = n.saturating_sub(RECENT);
    let oldest = 1.0 / n as f64;
    let rise = move |i: usize| {
        if old == 1 { oldest } else { oldest + (1.0 - oldest) * i as f64 / (old - 1) as f64 }
    };
    (0..old).map(rise).chain(std::iter::repeat_n(1.0, n - old))
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

    fn filled(axes: &[Axis], n: usize, seen: &mut [Observed], weights: Weights) -> Mixture {
        let mut mixture = Mixture::default();
        mixture.begin(axes, n, weights);
        seen.iter_mut().enumerate().for_each(|(j, seen)| mixture.see(j, seen));
        mixture
    }

    proptest! {
        /// The definition, written out: a mixture of products, each factor normalised.
        #[test]
        fn the_density_is_the_mixture_of_products(
            seen in prop::collection::vec((-1.0_f64..2.0, 1_u32..=40, 0_u32..3), 0..40),
            x in -1.0_f64..2.0, k in 1_u32..=40, c in 0_u32..3,
        ) {
            let axes = axes();
            let mut observed = [
                Observed::new(seen.iter().map(|s| s.0).collect()),
                Observed::new(seen.iter().map(|s| f64::from(s.1).ln()).collect()),
                Observed::new(seen.iter().map(|s| f64::from(s.2)).collect()),
            ];
            let mut mixture = filled(&axes, seen.len(), &mut observed, Weights::ByAge);
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
            let mut alone = filled(&axes[..1], seen.len(), &mut observed[..1], Weights::ByAge);
            let expected = alone.log_density(&[vec![x]])[0].exp();
            prop_assert!((sum / expected - 1.0).abs() < 1e-9, "{sum} for {expected}");
            prop_assert!(got.is_finite());
        }

        #[test]
        fn draws_are_admitted(us in prop::collection::vec(0.0_f64..1.0, 4)) {
            let axes = axes();
            let mut observed = [
                Observed::new(vec![0.0, 1.9]),
                Observed::new(vec![0.0, 40_f64.ln()]),
                Observed::new(vec![0.0, 2.0]),
            ];
            let mut next = us.iter().copied();
            let mixture = filled(&axes, 2, &mut observed, Weights::ByAge);
            let drawn = mixture.draw(|| next.next().expect("enough"));
            prop_assert!(-1.0 <= drawn[0] && drawn[0] <= 2.0);
            prop_assert!(1.0 <= drawn[1] && drawn[1] <= 40.0 && drawn[1].fract() == 0.0);
            prop_assert!([0.0, 1.0, 2.0].contains(&drawn[2]));
        }
    }

    /// `tests/fixtures/tpe.py`.
    #[test]
    fn the_density_is_that_of_optuna() {
        let fixture = include_str!("../../../tests/fixtures/tpe.json");
        let fixture = crate::Json::parse(fixture).expect("JSON");
        let space = [
            Distribution::Categorical((0..4).map(crate::Choice::Int).collect()),
            Distribution::Float(FloatRange::new(-2.0, 3.0)),
            Distribution::Int(IntRange::new(1, 40).step(3)),
            Distribution::Float(FloatRange::log(1e-5, 1.0)),
            Distribution::Int(IntRange::log(1, 100)),
            Distribution::Float(FloatRange::new(0.25, 2.0).step(0.25)),
        ];
        let axes = space.each_ref().map(Axis::of);
        // Ours measures axes of densities in their ranges.
        let constant = 5.0_f64.ln() + 1e5_f64.ln().ln();
        let numbers = |json: &crate::Json| -> Vec<f64> {
            json.as_array().expect("a list").iter().filter_map(crate::Json::as_f64).collect()
        };
        let cases = fixture.get("densities").and_then(crate::Json::as_array).expect("densities");
        assert_eq!(cases.len(), 8);
        for case in cases {
            let rows = |key| {
                let rows = case.get(key).and_then(crate::Json::as_array).expect("rows");
                rows.iter().map(numbers).collect::<Vec<_>>()
            };
            let (seen, points) = (rows("seen"), rows("points"));
            let column = |(j, axis): (usize, &Axis)| {
                Observed::new(seen.iter().map(|row| axis.place(row[j])).collect())
            };
            let mut observed: Vec<Observed> = axes.iter().enumerate().map(column).collect();
            let weights = match case.get("weights").and_then(crate::Json::as_str) {
                Some("equal") => Weights::Equal,
                _ => Weights::ByAge,
            };
            let mut mixture = filled(&axes, seen.len(), &mut observed, weights);
            let expected = numbers(case.get("log_density").expect("densities"));
            for (got, expected) in mixture.log_density(&points).into_iter().zip(expected) {
                // 1e-9: masses of cells are differences of Φ, to some 1e-13 of the kernel's width.
                let n = seen.len();
                assert!((got - constant - expected).abs() < 1e-9, "n = {n}: {got}, {expected}");
            }
        }
    }

    #[test]
    fn old_trials_weigh_less() {
        assert!(ages(24).eq([1.0; 24]));
        let weights: Vec<f64> = ages(100).collect();
        assert_eq!((weights[0], weights[74], weights[99]), (0.01, 1.0, 1.0));
        assert!(weights.is_sorted());
    }
}
