//! A leaf of a Hoeffding tree: counts of classes, and of each feature what a split could gain.

use serde::{Deserialize, Serialize};

use crate::{
    inputs::{Row, Slot},
    online::with_buffer,
};

/// A normal distribution of one feature among the rows of one class, with its range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Normal {
    n: f64,
    mean: f64,
    squares: f64, // Sum of squared deviations.
    low: f64,
    high: f64,
    // The logarithm of the density at x is `bend (x − mean)² + peak`; both are 0 where there is no
    // density yet, so that the feature says nothing.
    bend: f64,
    peak: f64,
}

/// A variance up to this is rounding: squares of differences of `f32` are larger.
const FLAT: f64 = 1e-120;

impl Normal {
    const EMPTY: Self = Self {
        n: 0.0,
        mean: 0.0,
        squares: 0.0,
        low: f64::INFINITY,
        high: f64::NEG_INFINITY,
        bend: 0.0,
        peak: 0.0,
    };

    fn learn(&mut self, x: f64, weight: f64) {
        let old = self.mean;
        self.n += weight;
        self.mean += weight / self.n * (x - old);
        self.squares += weight * (x - old) * (x - self.mean);
        self.low = self.low.min(x);
        self.high = self.high.max(x);
        let variance = self.variance();
        if FLAT < variance {
            self.bend = -0.5 / variance;
            self.peak = -0.5 * (std::f64::consts::TAU.ln() + variance.ln());
        } else {
            (self.bend, self.peak) = (0.0, 0.0);
        }
    }

    /// The sample variance; 0 for rows of weight 1 or less.
    fn variance(&self) -> f64 {
        if 1.0 < self.n { self.squares / (self.n - 1.0) } else { 0.0 }
    }

    /// The weight of rows with values of at most `at`, taken as normal between the extremes.
    fn below(&self, at: f64) -> f64 {
        if at < self.low {
            return 0.0;
        }
        if self.high <= at {
            return self.n;
        }
        let deviation = self.variance().sqrt();
        if deviation == 0.0 {
            return 0.0;
        }
        let z = (at - self.mean) / deviation / std::f64::consts::SQRT_2;
        0.5 * (1.0 + libm::erf(z)) * self.n
    }
}

/// How a leaf predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LeafPrediction {
    /// Shares of the classes.
    MajorityClass,
    /// Naive Bayes with normal features.
    NaiveBayes,
    /// Whichever of the two has been right more often in this leaf.
    #[default]
    Adaptive,
}

/// What a leaf keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Leaf {
    pub(crate) depth: u32,
    age: f64, // The tree's age when the leaf learnt last, as the logarithm of its decay.
    counts: Vec<f64>, // Weight of each class.
    order: Vec<u32>, // Classes in the order in which they came, which breaks ties.
    observed: Option<Observed>,
    majority_hits: f64,
    bayes_hits: f64,
    weight_at_attempt: f64,
}

/// What a leaf knows of its features. Blocks stand in the order in which classes were first
/// observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Observed {
    features: Vec<u32>, // The slots that are observed, ascending.
    classes: Vec<u32>,
    normals: Vec<Normal>, // A block of one a feature for each class.
    levels: Vec<f64>,     // A block of the weights of all levels for each class.
    n_levels: usize,      // Length of a block of `levels`.
}

/// A split that a leaf proposes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Proposal {
    pub(crate) merit: f64,
    pub(crate) feature: u32,
    pub(crate) is_level: bool,
    pub(crate) at: f64,
    /// Weights by class on either side, in the order of the observed classes.
    sides: [Vec<(u32, f64)>; 2],
}

/// The outcome of looking for a split.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Attempt {
    /// Too little to tell: wait.
    Wait,
    /// Too pure to be split: what was observed is forgotten.
    Forget,
    /// Split so.
    Split(Proposal),
}

/// When a leaf is split.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) delta: f64,
    pub(crate) tau: f64,
    pub(crate) points: u32,
}

/// Least share of the rows on the smaller side of a split.
const MIN_SHARE: f64 = 0.01;
/// Share of one class beyond which a leaf is not split.
const PURE_SHARE: f64 = 0.99;

impl Leaf {
    /// A leaf that observes `features`, starting from the given class weights.
    pub(crate) fn new(
        n_classes: usize,
        slots: &[Slot],
        features: Vec<u32>,
        start: &[(u32, f64)],
        (depth, age): (u32, f64),
    ) -> Self {
        let mut counts = vec![0.0; n_classes];
        let mut order = Vec::new();
        for &(class, weight) in start {
            counts[class as usize] = weight;
            order.push(class);
        }
        let n_levels = level_offsets(&features, slots).last().map_or(0, |last| last.1);
        let (classes, normals, levels) = (Vec::new(), Vec::new(), Vec::new());
        let observed = Some(Observed { features, classes, normals, levels, n_levels });
        let mut leaf = Self {
            depth,
            age,
            counts,
            order,
            observed,
            majority_hits: 0.0,
            bayes_hits: 0.0,
            weight_at_attempt: 0.0,
        };
        leaf.weight_at_attempt = leaf.weight();
        leaf
    }

    /// Total weight, added up in the order in which classes came.
    pub(crate) fn weight(&self) -> f64 {
        self.order.iter().map(|&class| self.counts[class as usize]).sum()
    }

    /// Weight of each class.
    pub(crate) fn counts(&self) -> &[f64] {
        &self.counts
    }

    pub(crate) fn is_active(&self) -> bool {
        self.observed.is_some()
    }

    /// What could still be won here: weight that the majority gets wrong.
    pub(crate) fn promise(&self) -> f64 {
        self.weight() - self.counts.iter().copied().fold(0.0, f64::max)
    }

    /// Stops observing for good; the leaf goes on counting classes.
    pub(crate) fn deactivate(&mut self) {
        self.observed = None;
    }

    /// Ages all weights to the tree's `age`.
    pub(crate) fn catch_up(&mut self, age: f64) {
        if age == self.age {
            return;
        }
        let factor = (age - self.age).exp();
        self.age = age;
        let lists =
            [&mut self.counts[..], self.observed.as_mut().map_or(&mut [], |o| &mut o.levels)];
        for weight in lists.into_iter().flatten() {
            *weight *= factor;
        }
        self.weight_at_attempt *= factor;
        self.majority_hits *= factor;
        self.bayes_hits *= factor;
        for normal in self.observed.iter_mut().flat_map(|observed| &mut observed.normals) {
            normal.n *= factor;
            normal.squares *= factor;
        }
    }

    /// Fills `votes`, one a class, and says whether there is any.
    pub(crate) fn predict(
        &self,
        how: LeafPrediction,
        slots: &[Slot],
        row: Row<'_>,
        votes: &mut [f64],
    ) {
        let use_bayes = match how {
            LeafPrediction::MajorityClass => false,
            LeafPrediction::NaiveBayes => true,
            LeafPrediction::Adaptive => self.majority_hits <= self.bayes_hits,
        };
        if use_bayes && self.bayes(slots, row, votes) {
            return;
        }
        votes.copy_from_slice(&self.counts);
    }

    /// Fills `votes` with the probabilities of naive Bayes; false where nothing is known.
    fn bayes(&self, slots: &[Slot], row: Row<'_>, votes: &mut [f64]) -> bool {
        let total = self.weight();
        votes.fill(0.0);
        let Some(observed) = self.observed.as_ref().filter(|_| 0.0 < total) else {
            return false;
        };
        let present = |class: &&u32| 0.0 < self.counts[**class as usize];
        for &class in self.order.iter().filter(present) {
            let class = class as usize;
            votes[class] = (self.counts[class] / total).ln();
        }
        observed.add_log_densities(slots, row, votes);
        let scores = self.order.iter().filter(present).map(|&class| votes[class as usize]);
        let most = scores.fold(f64::NEG_INFINITY, f64::max);
        if !most.is_finite() {
            return false; // So far out that no class has a density.
        }
        let mut sum = 0.0;
        for &class in self.order.iter().filter(present) {
            let vote = &mut votes[class as usize];
            *vote = (*vote - most).exp();
            sum += *vote;
        }
        for vote in &mut *votes {
            *vote /= sum;
        }
        // Classes without weight got log densities and no prior.
        for (vote, &weight) in votes.iter_mut().zip(&self.counts) {
            if weight <= 0.0 {
                *vote = 0.0;
            }
        }
        true
    }

    /// The first class, in the order in which they came, of most votes.
    fn best(&self, votes: &[f64]) -> Option<u32> {
        let better = |a: u32, b: u32| if votes[a as usize] < votes[b as usize] { b } else { a };
        self.order.iter().copied().reduce(better)
    }

    /// Learns one row, and says whether it took more memory.
    pub(crate) fn learn(
        &mut self,
        how: LeafPrediction,
        slots: &[Slot],
        row: Row<'_>,
        class: usize,
        weight: f64,
    ) -> bool {
        if how == LeafPrediction::Adaptive && self.observed.is_some() {
            if self.best(&self.counts).is_none_or(|best| best as usize == class) {
                self.majority_hits += weight;
            }
            let is_right = with_buffer(self.counts.len(), |votes| {
                self.bayes(slots, row, votes)
                    && self.best(votes).is_some_and(|best| best as usize == class)
            });
            if is_right {
                self.bayes_hits += weight;
            }
        }
        if !self.order.contains(&(class as u32)) {
            self.order.push(class as u32);
        }
        self.counts[class] += weight;
        let Some(observed) = &mut self.observed else {
            return false;
        };
        let before = observed.classes.len();
        observed.learn(slots, row, class as u32, weight);
        before < observed.classes.len()
    }

    /// Whether `grace` rows came since the last attempt to split; if so, this is the next one.
    pub(crate) fn is_due(&mut self, grace: f64) -> bool {
        let weight = self.weight();
        let is_due = self.observed.is_some() && grace <= weight - self.weight_at_attempt;
        if is_due {
            self.weight_at_attempt = weight;
        }
        is_due
    }

    /// Looks for a split by Hoeffding's bound on the difference between the best two.
    pub(crate) fn attempt(&mut self, slots: &[Slot], rule: Rule) -> Attempt {
        let held = self.counts.iter().filter(|&&weight| 0.0 < weight).count();
        let total = self.weight();
        let Some(observed) = self.observed.as_ref().filter(|_| 2 <= held) else {
            return Attempt::Wait;
        };
        let most = self.counts.iter().copied().fold(0.0, f64::max);
        let mut best = None;
        let mut second = f64::NEG_INFINITY;
        if most / total <= PURE_SHARE {
            let before = entropy(self.order.iter().map(|&class| self.counts[class as usize]));
            // The later of equals wins; a feature without a split counts as one of no merit.
            for proposal in observed.proposals(slots, before, rule.points).flatten() {
                let merit = best.as_ref().map_or(f64::NEG_INFINITY, |b: &Proposal| b.merit);
                if merit <= proposal.merit {
                    (best, second) = (Some(proposal), merit);
                } else {
                    second = second.max(proposal.merit);
                }
            }
            let range = (self.order.len().max(2) as f64).log2();
            let bound = (range * range * (1.0 / rule.delta).ln() / (2.0 * total)).sqrt();
            let lead = best.as_ref().map_or(0.0, |best| best.merit - second);
            if !(bound < lead || bound < rule.tau) {
                return Attempt::Wait;
            }
        }
        best.map_or(Attempt::Forget, Attempt::Split)
    }

    /// Starts observing anew.
    pub(crate) fn forget(&mut self) {
        if let Some(observed) = &mut self.observed {
            observed.classes.clear();
            observed.normals.clear();
            observed.levels.clear();
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let observed = self.observed.as_ref().map_or(0, |o| {
            o.features.capacity() * 4
                + o.classes.capacity() * 4
                + o.normals.capacity() * size_of::<Normal>()
                + o.levels.capacity() * 8
        });
        self.counts.capacity() * 8 + self.order.capacity() * 4 + observed
    }

    pub(crate) fn is_valid(&self, n_classes: usize, slots: &[Slot]) -> bool {
        let are_classes = |classes: &[u32]| {
            let mut seen = vec![false; n_classes];
            classes.iter().all(|&class| {
                seen.get_mut(class as usize).is_some_and(|seen| !std::mem::replace(seen, true))
            })
        };
        let is_known = self.observed.as_ref().is_none_or(|o| {
            let n = o.classes.len();
            are_classes(&o.classes)
                && o.features.iter().all(|&j| (j as usize) < slots.len())
                && level_offsets(&o.features, slots).last().map_or(0, |last| last.1) == o.n_levels
                && o.normals.len() == n * o.features.len()
                && o.levels.len() == n * o.n_levels
        });
        self.counts.len() == n_classes && are_classes(&self.order) && is_known
    }
}

/// The places of each observed feature's levels in a block: empty for numbers.
fn level_offsets(features: &[u32], slots: &[Slot]) -> impl Iterator<Item = (usize, usize)> {
    let mut end = 0;
    features.iter().map(move |&j| {
        let start = end;
        if let Some(Slot::Level(k)) = slots.get(j as usize) {
            end += *k as usize;
        }
        (start, end)
    })
}

/// Code of a level that the feature has, if `x` is one.
fn level(x: f64, n: usize) -> Option<usize> {
    (0.0 <= x && x < n as f64).then_some(x as usize)
}

impl Observed {
    fn block(&mut self, class: u32) -> usize {
        if let Some(block) = self.classes.iter().position(|&c| c == class) {
            return block;
        }
        self.classes.push(class);
        // Exactly one block more: a leaf seldom sees another class, and bytes are counted.
        self.normals.reserve_exact(self.features.len());
        self.normals.extend(std::iter::repeat_n(Normal::EMPTY, self.features.len()));
        self.levels.reserve_exact(self.n_levels);
        self.levels.extend(std::iter::repeat_n(0.0, self.n_levels));
        self.classes.len() - 1
    }

    fn learn(&mut self, slots: &[Slot], row: Row<'_>, class: u32, weight: f64) {
        let block = self.block(class);
        let n = self.features.len();
        let normals = &mut self.normals[block * n..(block + 1) * n];
        if self.n_levels == 0 && row.complete && n == row.x.len() {
            normals.iter_mut().zip(row.x).for_each(|(normal, &x)| normal.learn(x, weight));
            return;
        }
        let levels = &mut self.levels[block * self.n_levels..(block + 1) * self.n_levels];
        let offsets = level_offsets(&self.features, slots);
        for ((normal, &j), (start, end)) in normals.iter_mut().zip(&self.features).zip(offsets) {
            let x = row.x[j as usize];
            match slots[j as usize] {
                Slot::Number if !x.is_nan() => normal.learn(x, weight),
                Slot::Number => {}
                Slot::Level(_) => {
                    if let Some(code) = level(x, end - start) {
                        levels[start + code] += weight;
                    }
                }
            }
        }
    }

    /// Adds to each class's vote the log densities of the features.
    fn add_log_densities(&self, slots: &[Slot], row: Row<'_>, votes: &mut [f64]) {
        let n = self.features.len();
        if n == 0 {
            return;
        }
        let is_plain = self.n_levels == 0 && row.complete;
        for (block, (&class, normals)) in
            self.classes.iter().zip(self.normals.chunks_exact(n)).enumerate()
        {
            let density = |normal: &Normal, x: f64| {
                let gap = x - normal.mean;
                normal.bend * (gap * gap) + normal.peak
            };
            let vote = &mut votes[class as usize];
            if is_plain && n == row.x.len() {
                *vote +=
                    normals.iter().zip(row.x).map(|(normal, &x)| density(normal, x)).sum::<f64>();
                continue;
            }
            let levels = &self.levels[block * self.n_levels..(block + 1) * self.n_levels];
            let offsets = level_offsets(&self.features, slots);
            for ((normal, &j), (start, end)) in normals.iter().zip(&self.features).zip(offsets) {
                let x = row.x[j as usize];
                match slots[j as usize] {
                    Slot::Number if !x.is_nan() => *vote += density(normal, x),
                    Slot::Number => {}
                    Slot::Level(_) => {
                        let levels = &levels[start..end];
                        if let Some(code) = level(x, levels.len()) {
                            let total = levels.iter().sum::<f64>() + levels.len() as f64;
                            *vote += ((levels[code] + 1.0) / total).ln();
                        }
                    }
                }
            }
        }
    }

    /// The best split of each feature, `None` where it has none.
    fn proposals(
        &self,
        slots: &[Slot],
        before: f64,
        points: u32,
    ) -> impl Iterator<Item = Option<Proposal>> {
        let offsets: Vec<_> = level_offsets(&self.features, slots).collect();
        (0..self.features.len()).map(move |f| {
            let (start, end) = offsets[f];
            if start < end {
                self.split_level(f, start..end, before)
            } else {
                self.split_number(f, before, points)
            }
        })
    }

    fn split_number(&self, f: usize, before: f64, points: u32) -> Option<Proposal> {
        let n = self.features.len();
        let normals = || self.normals.iter().skip(f).step_by(n).filter(|normal| 0.0 < normal.n);
        let low = normals().map(|normal| normal.low).fold(f64::INFINITY, f64::min);
        let high = normals().map(|normal| normal.high).fold(f64::NEG_INFINITY, f64::max);
        let step = (high - low) / (f64::from(points) + 1.0);
        let mut best: Option<(f64, f64)> = None;
        for i in 1..=points {
            let at = low + step * f64::from(i);
            if !(low < at && at < high) {
                continue;
            }
            let left = || normals().map(|normal| normal.below(at));
            let right = || normals().map(|normal| normal.n - normal.below(at));
            let merit = gain(before, left, right);
            if merit.is_some_and(|merit| best.is_none_or(|best| best.0 < merit)) {
                best = merit.map(|merit| (merit, at));
            }
        }
        let (merit, at) = best?;
        let mut sides = [Vec::new(), Vec::new()];
        for (&class, normal) in self.classes.iter().zip(self.normals.iter().skip(f).step_by(n)) {
            if 0.0 < normal.n {
                let left = normal.below(at);
                // A class is on a side only if some of its range is.
                if normal.low <= at {
                    sides[0].push((class, left));
                }
                if at < normal.high {
                    sides[1].push((class, normal.n - left));
                }
            }
        }
        Some(Proposal { merit, feature: self.features[f], is_level: false, at, sides })
    }

    /// One level against the rest.
    fn split_level(
        &self,
        f: usize,
        place: std::ops::Range<usize>,
        before: f64,
    ) -> Option<Proposal> {
        let blocks = || self.levels.chunks_exact(self.n_levels).map(|block| &block[place.clone()]);
        let mut best: Option<(f64, usize)> = None;
        for code in 0..place.len() {
            let left = || blocks().map(|levels| levels[code]);
            let right = || blocks().map(|levels| levels.iter().sum::<f64>() - levels[code]);
            let merit = gain(before, left, right);
            if merit.is_some_and(|merit| best.is_none_or(|best| best.0 < merit)) {
                best = merit.map(|merit| (merit, code));
            }
        }
        let (merit, code) = best?;
        let mut sides = [Vec::new(), Vec::new()];
        for (&class, levels) in self.classes.iter().zip(blocks()) {
            let (left, all) = (levels[code], levels.iter().sum::<f64>());
            if 0.0 < left {
                sides[0].push((class, left));
            }
            if left < all {
                sides[1].push((class, all - left));
            }
        }
        Some(Proposal { merit, feature: self.features[f], is_level: true, at: code as f64, sides })
    }
}

impl Proposal {
    /// Class weights of the child on `side`.
    pub(crate) fn side(&self, side: usize) -> &[(u32, f64)] {
        &self.sides[side]
    }
}

/// The entropy in bits of classes of the given weights.
fn entropy(weights: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut total) = (0.0, 0.0);
    for weight in weights.filter(|&weight| 0.0 < weight) {
        sum -= weight * weight.log2();
        total += weight;
    }
    if 0.0 < total { (sum + total * total.log2()) / total } else { 0.0 }
}

/// The information gained by a split in two, if neither side is too small.
fn gain<L, R>(before: f64, left: impl Fn() -> L, right: impl Fn() -> R) -> Option<f64>
where
    L: Iterator<Item = f64>,
    R: Iterator<Item = f64>,
{
    let (n0, n1) = (left().sum::<f64>(), right().sum::<f64>());
    let total = n0 + n1;
    let is_fair = 0.0 < total && MIN_SHARE < n0 / total && MIN_SHARE < n1 / total;
    is_fair.then(|| before - (n0 * entropy(left()) + n1 * entropy(right())) / total)
}
