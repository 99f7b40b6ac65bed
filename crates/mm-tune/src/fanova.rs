//! How much of the objective's variance each parameter explains.

use std::sync::Arc;

use mm_core::{ParamError, Result};
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{
    distribution::Distribution,
    importance::normalized,
    sampler::space::Axis,
    study::Study,
    trial::{FrozenTrial, Param, TrialState},
};

/// How much of the objective's variance over the space each parameter explains by itself, by
/// functional analysis of variance of a random forest.
///
/// # Idea
///
/// A forest of regression trees is fitted to the complete trials. A tree is constant on boxes that
/// part the space, so the mean over all other parameters, as a function of one, is known exactly, and
/// so is its variance: a parameter's importance is that variance over the whole, averaged over the
/// trees. Importances are divided by their sum, as Optuna does; what parameters explain only together
/// is left out.
///
/// Of parameters that every complete trial has from the same range. Deterministic. O(`trees` · *n* ·
/// *d* · log *n* · depth) time for *n* trials of *d* parameters.
///
/// Hutter, Hoos & Leyton-Brown (2014), "An efficient approach for assessing hyperparameter importance".
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `trees` | 64 | ≥ 1 | trees of the forest, each of a bootstrap sample |
/// | `depth` | 64 | ≥ 1 | splits on a path at most |
/// | `objective` | 0 | below the study's number of objectives | which value is explained |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fanova {
    /// Trees of the forest.
    pub trees: usize,
    /// Splits on a path at most.
    pub depth: usize,
    /// Which value is explained.
    pub objective: usize,
}

impl Default for Fanova {
    fn default() -> Self {
        Self { trees: 64, depth: 64, objective: 0 }
    }
}

/// The part of an axis that a box covers.
#[derive(Clone)]
enum Side {
    Interval(f64, f64),
    Categories(Vec<bool>),
}

impl Side {
    /// Its share of the axis.
    fn share(&self) -> f64 {
        match self {
            Self::Interval(low, high) => high - low,
            Self::Categories(has) => {
                has.iter().filter(|&&has| has).count() as f64 / has.len() as f64
            }
        }
    }
}

struct Leaf {
    sides: Vec<Side>,
    value: f64,
}

impl Fanova {
    /// Each parameter with its importance, the largest first. None of fewer than 2 complete trials.
    pub fn of(&self, study: &Study) -> Result<Vec<(String, f64)>> {
        let n = study.directions().len();
        ParamError::ensure(1 <= self.trees, "trees", self.trees, "at least 1")?;
        ParamError::ensure(1 <= self.depth, "depth", self.depth, "at least 1")?;
        ParamError::ensure(self.objective < n, "objective", self.objective, format!("below {n}"))?;
        let mut trials = study.trials()?;
        trials.retain(|trial| {
            trial.state == TrialState::Complete
                && trial.values.get(self.objective).is_some_and(|value| value.is_finite())
        });
        if trials.len() < 2 {
            return Ok(Vec::new());
        }
        let (axes, rows) = table(&trials);
        let values: Vec<f64> = trials.iter().map(|trial| trial.values[self.objective]).collect();
        let mut sums = vec![0.0; axes.len()];
        for tree in 0..self.trees {
            let mut rng = ChaCha8Rng::seed_from_u64(tree as u64);
            let sample = (0..rows.len()).map(|_| rng.random_range(0..rows.len())).collect();
            let whole = axes.iter().map(|axis| match categories(axis) {
                0 => Side::Interval(0.0, 1.0),
                n => Side::Categories(vec![true; n]),
            });
            let grower = Grower { axes: &axes, rows: &rows, values: &values };
            let mut leaves = Vec::new();
            grower.grow(sample, whole.collect(), self.depth, &mut leaves);
            for (sum, share) in sums.iter_mut().zip(shares(&axes, &leaves)) {
                *sum += share;
            }
        }
        let raw = axes.into_iter().zip(sums).map(|(axis, sum)| (axis.name.to_string(), sum));
        Ok(normalized(raw.collect()))
    }
}

/// The parameters that all trials have alike, and where each trial lies: a number in the unit interval,
/// where each admitted value has an equal share; a category at its index.
fn table(trials: &[Arc<FrozenTrial>]) -> (Vec<Axis>, Vec<Vec<f64>>) {
    let Some((first, others)) = trials.split_first() else { return (Vec::new(), Vec::new()) };
    let shared = first.params.iter().filter(|param| {
        let alike = |trial: &Arc<FrozenTrial>| {
            let found = trial.params.get(&param.name);
            found.is_some_and(|other| other.distribution == param.distribution)
        };
        !param.distribution.is_single() && others.iter().all(alike)
    });
    let axis =
        |param: &Param| Axis { name: param.name.clone(), distribution: param.distribution.clone() };
    let axes: Vec<Axis> = shared.map(axis).collect();
    let place = |axis: &Axis, x: f64| if categories(axis) == 0 { axis.unit(x) } else { x };
    let row = |trial: &Arc<FrozenTrial>| {
        let cell = |axis: &Axis| {
            trial.params.get(&axis.name).map_or(0.0, |param| place(axis, param.value))
        };
        axes.iter().map(cell).collect()
    };
    let rows = trials.iter().map(row).collect();
    (axes, rows)
}

/// Categories, or 0 for a number.
fn categories(axis: &Axis) -> usize {
    match &*axis.distribution {
        Distribution::Categorical(choices) => choices.len(),
        _ => 0,
    }
}

struct Grower<'a> {
    axes: &'a [Axis],
    rows: &'a [Vec<f64>],
    values: &'a [f64],
}

/// Where a node is split: numbers below `at` go left, or the category `at`.
struct Split {
    axis: usize,
    at: f64,
    gain: f64,
}

impl Grower<'_> {
    fn goes_left(&self, row: usize, split: &Split) -> bool {
        let x = self.rows[row][split.axis];
        if categories(&self.axes[split.axis]) == 0 { x < split.at } else { x == split.at }
    }

    fn grow(&self, rows: Vec<usize>, sides: Vec<Side>, depth: usize, leaves: &mut Vec<Leaf>) {
        let n = rows.len() as f64;
        let split = if depth == 0 { None } else { self.best_split(&rows) };
        let Some(split) = split else {
            let value = rows.iter().map(|&row| self.values[row]).sum::<f64>() / n;
            leaves.push(Leaf { sides, value });
            return;
        };
        let (left, right) = rows.into_iter().partition(|&row| self.goes_left(row, &split));
        let (mut below, mut above) = (sides.clone(), sides);
        match (&mut below[split.axis], &mut above[split.axis]) {
            (Side::Interval(_, high), Side::Interval(low, _)) => {
                (*high, *low) = (split.at, split.at);
            }
            (Side::Categories(one), Side::Categories(rest)) => {
                let chosen = split.at as usize;
                one.iter_mut().enumerate().for_each(|(i, has)| *has &= i == chosen);
                rest[chosen] = false;
            }
            _ => {}
        }
        self.grow(left, below, depth - 1, leaves);
        self.grow(right, above, depth - 1, leaves);
    }

    /// The split that lowers the sum of squares most; none if nothing does.
    fn best_split(&self, rows: &[usize]) -> Option<Split> {
        let total: f64 = rows.iter().map(|&row| self.values[row]).sum();
        let n = rows.len() as f64;
        let gain = |sum: f64, count: f64| {
            let (rest, others) = (total - sum, n - count);
            sum * sum / count + rest * rest / others - total * total / n
        };
        let mut best: Option<Split> = None;
        let mut consider = |axis: usize, at: f64, gain: f64| {
            if 1e-12 * total.abs().max(1.0) < gain && best.as_ref().is_none_or(|b| b.gain < gain) {
                best = Some(Split { axis, at, gain });
            }
        };
        let mut order = rows.to_vec();
        for (axis, n_categories) in self.axes.iter().map(categories).enumerate() {
            if n_categories == 0 {
                let x = |row: usize| self.rows[row][axis];
                order.sort_by(|&a, &b| x(a).total_cmp(&x(b)));
                let mut sum = 0.0;
                for (count, pair) in (1..).zip(order.windows(2)) {
                    sum += self.values[pair[0]];
                    let (a, b) = (x(pair[0]), x(pair[1]));
                    if a < b {
                        consider(axis, a + (b - a) / 2.0, gain(sum, f64::from(count)));
                    }
                }
                continue;
            }
            let mut groups = vec![(0.0, 0.0); n_categories];
            for &row in rows {
                let group = &mut groups[self.rows[row][axis] as usize];
                *group = (group.0 + self.values[row], group.1 + 1.0);
            }
            for (category, &(sum, count)) in groups.iter().enumerate() {
                if 0.0 < count && count < n {
                    consider(axis, category as f64, gain(sum, count));
                }
            }
        }
        best
    }
}

/// Of one tree, each axis's share of the variance.
fn shares(axes: &[Axis], leaves: &[Leaf]) -> Vec<f64> {
    let volumes: Vec<f64> =
        leaves.iter().map(|leaf| leaf.sides.iter().map(Side::share).product()).collect();
    let mean: f64 = leaves.iter().zip(&volumes).map(|(leaf, v)| leaf.value * v).sum();
    let squares = leaves.iter().zip(&volumes).map(|(leaf, v)| v * (leaf.value - mean).powi(2));
    let total: f64 = squares.sum();
    if total <= 0.0 {
        return vec![0.0; axes.len()];
    }
    let variance = |axis: usize| {
        // A leaf's part in the mean over the other axes.
        let part = |leaf: &Leaf, volume: f64| leaf.value * volume / leaf.sides[axis].share();
        let parts =
            leaves.iter().zip(&volumes).map(|(leaf, &v)| (&leaf.sides[axis], part(leaf, v)));
        let n_categories = categories(&axes[axis]);
        if 0 < n_categories {
            let mut means = vec![0.0; n_categories];
            for (side, part) in parts {
                let Side::Categories(has) = side else { continue };
                means
                    .iter_mut()
                    .zip(has)
                    .for_each(|(m, &has)| *m += part * f64::from(u8::from(has)));
            }
            return means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / means.len() as f64;
        }
        // Where leaves begin and end.
        let mut steps: Vec<(f64, f64)> = Vec::with_capacity(2 * leaves.len());
        for (side, part) in parts {
            let Side::Interval(low, high) = *side else { continue };
            steps.extend([(low, part), (high, -part)]);
        }
        steps.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut here, mut sum) = (0.0, 0.0);
        for pair in steps.windows(2) {
            here += pair[0].1;
            sum += (pair[1].0 - pair[0].0) * (here - mean).powi(2);
        }
        sum
    };
    (0..axes.len()).map(|axis| variance(axis) / total).collect()
}
