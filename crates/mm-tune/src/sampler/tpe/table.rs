//! What TPE keeps of the finished trials, so that a proposal does not begin from nothing.

use std::{collections::BTreeMap, sync::Arc};

use mm_core::Direction;

use super::parzen::{Axis, Mixture, Observed, Weights};
use crate::{
    distribution::Distribution,
    history::History,
    pareto::{fronts, losses, spread_subset},
    sampler::relative::Proposed,
    trial::{FrozenTrial, ParamSet, TrialState},
};

/// One row for each finished trial that has something to say: the complete and the pruned ones. Trials
/// that go on with the models of others, on higher rungs, are one row with these: where the same point
/// stood among the good and the rest, the one would undo the other.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// How many finished trials of the history have been read.
    n_read: usize,
    pub(super) rows: Vec<Arc<FrozenTrial>>,
    /// The rows of trials that went on, by number.
    gone_on: BTreeMap<u64, u32>,
    /// Rows from good to bad, for studies of one objective.
    by_rank: Vec<u32>,
    /// Which rows are among the good, once it was asked.
    pub(super) is_good: Vec<bool>,
    /// Parameters that are modelled together.
    pub(super) blocks: Vec<Block>,
    /// Parameters that are modelled alone, made when they are asked for.
    alone: BTreeMap<Arc<str>, Block>,
    pub(super) scratch: Scratch,
}

/// How parameters fall into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grouping {
    /// None do.
    None,
    /// One block: those that every trial has from equal distributions.
    Shared,
    /// The largest blocks of which each trial has all or none.
    Groups,
}

/// Some parameters and the rows that have them all.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) names: Vec<Arc<str>>,
    pub(super) distributions: Vec<Arc<Distribution>>,
    pub(super) axes: Vec<Axis>,
    columns: Vec<Observed>,
    /// Which row of the table each row of the block is.
    rows: Vec<u32>,
    /// Rows of the block by the number of their trial.
    by_number: Vec<u32>,
}

/// A running trial of another worker.
#[derive(Debug)]
pub(super) struct Running<'a> {
    pub(super) trial: &'a FrozenTrial,
    pub(super) proposed: Proposed,
}

/// What a proposal needs besides the table: the densities, and room to fill them.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) good: Mixture,
    pub(super) rest: Mixture,
    /// The observations of one column on either side, the rest first.
    sides: [Observed; 2],
    /// For each row of the block, its side (good?) and place there by age.
    places: Vec<(bool, u32)>,
}

impl Block {
    fn of(params: impl IntoIterator<Item = (Arc<str>, Arc<Distribution>)>) -> Self {
        let mut block = Self::default();
        for (name, distribution) in params {
            block.axes.push(Axis::of(&distribution));
            block.columns.push(Observed::default());
            block.names.push(name);
            block.distributions.push(distribution);
        }
        block
    }

    /// The places of a trial, if it has all parameters, of kinds that fit. Those that it has not asked
    /// for yet are as `proposed`.
    fn places(&self, params: &ParamSet, proposed: Option<&Proposed>) -> Option<Vec<f64>> {
        let axes = self.names.iter().zip(&self.distributions).zip(&self.axes);
        let place = |((name, distribution), axis): ((&Arc<str>, &Arc<Distribution>), &Axis)| {
            let Some(param) = params.get(name) else {
                return Some(axis.place(proposed?.value(name, distribution)?));
            };
            let fits = Arc::ptr_eq(&param.distribution, distribution)
                || param.distribution.ensure_like(distribution, name).is_ok();
            fits.then(|| axis.place(param.value))
        };
        axes.map(place).collect()
    }

    /// Adds a row of the table if it has all parameters.
    fn add(&mut self, row: u32, rows: &[Arc<FrozenTrial>]) {
        let trial = &rows[row as usize];
        let Some(places) = self.places(&trial.params, None) else { return };
        let new = self.rows.len() as u32;
        for ((column, axis), place) in self.columns.iter_mut().zip(&self.axes).zip(places) {
            column.places.push(place);
            if !axis.is_categorical() {
                let at = column.sorted.partition_point(|&other| other <= place);
                column.by_place.insert(at, new);
                column.sorted.insert(at, place);
                column.known.push((0.0, 0.0));
            }
        }
        let number = |r: u32| rows[self.rows[r as usize] as usize].number;
        let at = self.by_number.partition_point(|&r| number(r) < trial.number);
        self.by_number.insert(at, new);
        self.rows.push(row);
    }

    /// Parts the observations into good and rest, and estimates the density of either; `others` are running
    /// trials, which are of the rest. O(rows · parameters).
    pub(super) fn estimate(
        &mut self,
        is_good: &[bool],
        rows: &[Arc<FrozenTrial>],
        others: &[Running<'_>],
        weights: Weights,
        scratch: &mut Scratch,
    ) {
        let places = |Running { trial, proposed }: &Running<'_>| {
            Some((trial.number, self.places(&trial.params, Some(proposed))?))
        };
        let mut others: Vec<(u64, Vec<f64>)> = others.iter().filter_map(places).collect();
        others.sort_unstable_by_key(|&(number, _)| number);
        // Rows and running trials are renumbered by age within each side.
        let Scratch { good, rest, sides, places } = scratch;
        places.clear();
        places.resize(self.rows.len(), (false, 0));
        let mut n = [0; 2];
        let mut others_at = Vec::with_capacity(others.len());
        for &r in &self.by_number {
            let row = self.rows[r as usize] as usize;
            while others.get(others_at.len()).is_some_and(|o| o.0 < rows[row].number) {
                others_at.push(n[0] as u32);
                n[0] += 1;
            }
            let n = &mut n[usize::from(is_good[row])];
            places[r as usize] = (is_good[row], *n as u32);
            *n += 1;
        }
        while others_at.len() < others.len() {
            others_at.push(n[0] as u32);
            n[0] += 1;
        }
        good.begin(&self.axes, n[1], weights);
        rest.begin(&self.axes, n[0], Weights::ByAge);
        for (j, column) in self.columns.iter_mut().enumerate() {
            for (side, n) in sides.iter_mut().zip(n) {
                side.clear(n);
            }
            // In the order of the rows, and then in that of the places: the fewer columns are walked out
            // of order, the less it matters that they outgrow the caches.
            for (&place, &(is_good, at)) in column.places.iter().zip(&*places) {
                sides[usize::from(is_good)].places[at as usize] = place;
            }
            for (&known, &(is_good, at)) in column.known.iter().zip(&*places) {
                sides[usize::from(is_good)].known[at as usize] = known;
            }
            for (&r, &place) in column.by_place.iter().zip(&column.sorted) {
                let (is_good, at) = places[r as usize];
                let side = &mut sides[usize::from(is_good)];
                side.by_place.push(at);
                side.sorted.push(place);
            }
            let [of_rest, of_good] = sides;
            for ((_, others), &at) in others.iter().zip(&others_at) {
                of_rest.places[at as usize] = others[j];
                let place = of_rest.sorted.partition_point(|&other| other <= others[j]);
                of_rest.by_place.insert(place, at);
                of_rest.sorted.insert(place, others[j]);
            }
            rest.see(j, of_rest);
            good.see(j, of_good);
            // What was computed of the kernels holds for the next proposal, too.
            for (known, &(is_good, at)) in column.known.iter_mut().zip(&*places) {
                *known = sides[usize::from(is_good)].known[at as usize];
            }
        }
    }

    /// Keeps only the parameters that the trial has from equal distributions.
    fn shrink(&mut self, params: &ParamSet) -> bool {
        let keeps: Vec<bool> = self
            .names
            .iter()
            .zip(&self.distributions)
            .map(|(name, d)| params.get(name).is_some_and(|param| param.distribution == *d))
            .collect();
        if keeps.iter().all(|&keep| keep) {
            return false;
        }
        let pairs = self.names.drain(..).zip(self.distributions.drain(..)).zip(keeps);
        *self = Self::of(pairs.filter(|(_, keep)| *keep).map(|(pair, _)| pair).collect::<Vec<_>>());
        true
    }
}

impl Table {
    /// Reads the trials that have finished since.
    pub(super) fn read(&mut self, history: &History, directions: &[Direction], by: Grouping) {
        for trial in history.finished_since(self.n_read) {
            if matches!(trial.state, TrialState::Complete | TrialState::Pruned) {
                self.add(trial.clone(), directions, by);
            }
        }
        self.n_read = self.n_read.max(history.finished().len());
    }

    fn add(&mut self, trial: Arc<FrozenTrial>, directions: &[Direction], by: Grouping) {
        if let Some(row) = trial.continues().and_then(|from| self.row_of(from)) {
            self.go_on(row, &trial, directions);
            return;
        }
        let row = self.rows.len() as u32;
        self.rows.push(trial);
        self.insert_by_rank(row, directions);
        let trial = &self.rows[row as usize];
        let varying = || {
            let varying = trial.params.iter().filter(|param| !param.distribution.is_single());
            varying.map(|param| (param.name.clone(), param.distribution.clone()))
        };
        match by {
            Grouping::None => {}
            Grouping::Shared if row == 0 => self.blocks = vec![Block::of(varying())],
            Grouping::Shared => {
                for block in &mut self.blocks {
                    if block.shrink(&trial.params) {
                        (0..row).for_each(|row| block.add(row, &self.rows));
                    }
                }
            }
            Grouping::Groups => {
                let mut fresh: Vec<_> = varying().collect();
                let mut blocks = Vec::new();
                for block in self.blocks.drain(..) {
                    let has = |name: &Arc<str>| fresh.iter().any(|(other, _)| other == name);
                    let n_shared = block.names.iter().filter(|name| has(name)).count();
                    if n_shared == 0 || n_shared == block.names.len() {
                        fresh.retain(|(name, _)| !block.names.contains(name));
                        blocks.push(block);
                        continue;
                    }
                    let pairs = block.names.into_iter().zip(block.distributions);
                    let (shared, apart): (Vec<_>, Vec<_>) = pairs.partition(|pair| has(&pair.0));
                    fresh.retain(|(name, _)| !shared.iter().any(|(other, _)| other == name));
                    for part in [shared, apart] {
                        let mut part = Block::of(part);
                        (0..row).for_each(|row| part.add(row, &self.rows));
                        blocks.push(part);
                    }
                }
                if !fresh.is_empty() {
                    blocks.push(Block::of(fresh));
                }
                self.blocks = blocks;
            }
        }
        self.blocks.retain(|block| !block.names.is_empty());
        for block in self.blocks.iter_mut().chain(self.alone.values_mut()) {
            block.add(row, &self.rows);
        }
    }

    fn row_of(&self, number: u64) -> Option<u32> {
        let rows = || self.rows.iter().position(|trial| trial.number == number);
        self.gone_on.get(&number).copied().or_else(|| rows().map(|row| row as u32))
    }

    /// Lets a row be what the trial of a higher rung came to, if it came to something.
    fn go_on(&mut self, row: u32, higher: &FrozenTrial, directions: &[Direction]) {
        self.gone_on.insert(higher.number, row);
        if higher.intermediate.is_empty() && higher.state == TrialState::Pruned {
            return;
        }
        let lower = &self.rows[row as usize];
        let mut merged = higher.clone();
        (merged.id, merged.number, merged.params) = (lower.id, lower.number, lower.params.clone());
        self.rows[row as usize] = Arc::new(merged);
        self.by_rank.retain(|&other| other != row);
        self.insert_by_rank(row, directions);
    }

    fn insert_by_rank(&mut self, row: u32, directions: &[Direction]) {
        self.is_good.clear();
        let &[direction] = directions else { return };
        let rank_of = rank(&self.rows[row as usize], direction);
        let at = self.by_rank.partition_point(|&other| {
            !rank_of.precedes(&rank(&self.rows[other as usize], direction))
        });
        self.by_rank.insert(at, row);
    }

    /// The block of one parameter, and the rows.
    pub(super) fn alone(
        &mut self,
        name: &str,
        distribution: &Distribution,
    ) -> (&mut Block, &[Arc<FrozenTrial>], &[bool], &mut Scratch) {
        let fits =
            self.alone.get(name).is_some_and(|block| *block.distributions[0] == *distribution);
        if !fits {
            let mut block = Block::of([(name.into(), Arc::new(distribution.clone()))]);
            (0..self.rows.len() as u32).for_each(|row| block.add(row, &self.rows));
            self.alone.insert(name.into(), block);
        }
        let block = self.alone.get_mut(name).unwrap_or_else(|| unreachable!("just made"));
        (block, &self.rows, &self.is_good, &mut self.scratch)
    }

    /// Finds which rows are among the good, if it is not known.
    pub(super) fn judge(&mut self, directions: &[Direction]) {
        if self.is_good.len() == self.rows.len() {
            return;
        }
        let n = self.rows.len();
        let good: Vec<u32> = if directions.len() == 1 {
            self.by_rank[..n.div_ceil(10).min(25)].to_vec()
        } else {
            best_of_several(&self.rows, directions, n.div_ceil(10))
        };
        self.is_good = vec![false; n];
        for row in good {
            self.is_good[row as usize] = true;
        }
    }
}

/// The `n_good` best rows for several objectives: of the complete ones that keep their constraints,
/// whole fronts as long as they fit, and of the next those that together dominate most; then pruned
/// ones, then those that break constraints.
fn best_of_several(rows: &[Arc<FrozenTrial>], directions: &[Direction], n_good: usize) -> Vec<u32> {
    let mut sound = Vec::new();
    let mut others: Vec<(Rank, u64, u32)> = Vec::new();
    for (row, trial) in (0..).zip(rows) {
        if trial.state == TrialState::Complete && trial.violation() <= 0.0 {
            sound.push(row);
        } else {
            // Reports of a pruned trial are compared as they are, as in Optuna.
            others.push((rank(trial, Direction::Minimize), trial.number, row));
        }
    }
    let points: Vec<Vec<f64>> =
        sound.iter().map(|&row| losses(&rows[row as usize], directions)).collect();
    let mut good: Vec<u32> = Vec::new();
    for front in fronts(&points, n_good) {
        let left = n_good - good.len();
        if front.len() <= left {
            good.extend(front.into_iter().map(|i| sound[i]));
        } else {
            let tied: Vec<Vec<f64>> = front.iter().map(|&i| points[i].clone()).collect();
            good.extend(spread_subset(&tied, left).into_iter().map(|i| sound[front[i]]));
        }
    }
    others.sort_by(|a, b| a.0.order(&b.0).then(a.1.cmp(&b.1)));
    let left = n_good - good.len();
    good.extend(others.into_iter().take(left).map(|(_, _, row)| row));
    good
}

/// How good a trial is: smaller is better, by the first key that differs.
#[derive(Debug, Clone, Copy)]
struct Rank([f64; 3]);

impl Rank {
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        let orders = self.0.iter().zip(other.0).map(|(a, b)| a.total_cmp(&b));
        orders.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
    }

    fn precedes(&self, other: &Self) -> bool {
        self.order(other).is_lt()
    }
}

/// Complete trials by value; then pruned ones, those that came further first, by the last report;
/// then trials that break constraints, by how much.
fn rank(trial: &FrozenTrial, direction: Direction) -> Rank {
    let signed = |value: f64| match direction {
        _ if value.is_nan() => f64::INFINITY,
        Direction::Minimize => value,
        Direction::Maximize => -value,
    };
    let violation = trial.violation();
    if 0.0 < violation {
        return Rank([2.0, violation, 0.0]);
    }
    match (trial.state, trial.intermediate.last_key_value()) {
        (TrialState::Complete, _) => Rank([0.0, signed(trial.values[0]), 0.0]),
        (_, Some((&step, &value))) => Rank([1.0, -(step as f64), signed(value)]),
        (_, None) => Rank([1.0, 1.0, 0.0]),
    }
}
