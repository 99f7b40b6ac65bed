//! The tree-structured Parzen estimator.
//!
//! Trials are parted into the few good ones and the rest. Two densities are estimated over the
//! parameters, *l* of the good and *g* of the rest; candidates are drawn from *l*, and that with the
//! largest *l/g* is proposed, which for this model is the largest expected improvement (Bergstra,
//! Bardenet, Bengio, Kégl, *Algorithms for Hyper-Parameter Optimization*, NeurIPS 2011). Kernels,
//! bandwidths, weights and the order of trials follow Optuna 5.0; see Watanabe (2023),
//! *Tree-Structured Parzen Estimator: Understanding Its Algorithm Components*.

mod parzen;

use std::sync::{Arc, Mutex, PoisonError};

use mm_core::{Direction, Error, ParamError, Result};
use rand::RngExt;

use self::parzen::{Axis, Mixture, Observed};
use super::{Ask, Proposal, Sampler, random::uniform};
use crate::{
    distribution::Distribution,
    history::History,
    trial::{FrozenTrial, TrialState},
};

/// How [`TpeSampler`] works.
#[derive(Debug, Clone, PartialEq)]
pub struct TpeParams {
    /// So many finished trials are drawn at random before the model is used; 10 by default.
    pub startup_trials: usize,
    /// How many candidates are drawn from the density of the good; ≥ 1, 24 by default.
    pub candidates: usize,
    /// Whether parameters that every trial has are modelled together; on by default.
    pub multivariate: bool,
    /// Whether running trials count among the bad, so that workers keep apart; on by default.
    pub constant_liar: bool,
}

impl Default for TpeParams {
    fn default() -> Self {
        Self { startup_trials: 10, candidates: 24, multivariate: true, constant_liar: true }
    }
}

impl TpeParams {
    /// Checks the fields.
    pub fn build(self) -> Result<TpeSampler, ParamError> {
        ParamError::ensure(1 <= self.candidates, "candidates", self.candidates, "at least 1")?;
        Ok(TpeSampler { params: self, table: Mutex::default() })
    }
}

/// The tree-structured Parzen estimator, for studies of one objective.
///
/// O(n · d · candidates) a proposal for *n* trials of *d* parameters; what can be kept from one
/// proposal to the next is kept. One sampler serves one study.
#[derive(Debug, Default)]
pub struct TpeSampler {
    params: TpeParams,
    table: Mutex<Table>,
}

/// What is kept of the finished trials, one row for each that has something to say.
#[derive(Debug, Default)]
struct Table {
    /// How many finished trials of the history have been read.
    n_read: usize,
    rows: Vec<Arc<FrozenTrial>>,
    /// Rows by trial number.
    by_number: Vec<u32>,
    /// Rows from good to bad.
    by_rank: Vec<u32>,
    /// The parameters that every row has from the same distribution, by name.
    space: Vec<Shared>,
}

/// A parameter that all rows have.
#[derive(Debug)]
struct Shared {
    name: Arc<str>,
    distribution: Arc<Distribution>,
    axis: Axis,
    /// The place of each row, and the rows in order of it.
    observed: Observed,
}

impl Table {
    /// Reads the trials that have finished since.
    fn read(&mut self, history: &History, direction: Direction) {
        for trial in &history.finished()[self.n_read..] {
            if matches!(trial.state, TrialState::Complete | TrialState::Pruned) {
                self.add(trial.clone(), direction);
            }
        }
        self.n_read = history.finished().len();
    }

    fn add(&mut self, trial: Arc<FrozenTrial>, direction: Direction) {
        let row = self.rows.len() as u32;
        if row == 0 {
            let shared = |param: &crate::trial::Param| Shared {
                name: param.name.clone(),
                distribution: param.distribution.clone(),
                axis: Axis::of(&param.distribution),
                observed: Observed::default(),
            };
            let varies = |param: &&crate::trial::Param| !param.distribution.is_single();
            self.space = trial.params.iter().filter(varies).map(shared).collect();
        }
        self.space.retain_mut(|shared| {
            let Some(param) = trial.params.get(&shared.name) else { return false };
            if param.distribution != shared.distribution {
                return false;
            }
            let (place, Observed { places, by_place }) =
                (shared.axis.place(param.value), &mut shared.observed);
            let at = by_place.partition_point(|&other| places[other as usize] <= place);
            by_place.insert(at, row);
            places.push(place);
            true
        });
        let number = trial.number;
        let at = self.by_number.partition_point(|&r| self.rows[r as usize].number < number);
        self.by_number.insert(at, row);
        let at = self.by_rank.partition_point(|&other| {
            !rank(&trial, direction).precedes(&rank(&self.rows[other as usize], direction))
        });
        self.by_rank.insert(at, row);
        self.rows.push(trial);
    }

    /// Which rows are among the good: the best tenth, 25 at most.
    fn good(&self) -> Vec<bool> {
        let n_good = self.rows.len().div_ceil(10).min(25);
        let mut is_good = vec![false; self.rows.len()];
        for &row in &self.by_rank[..n_good] {
            is_good[row as usize] = true;
        }
        is_good
    }
}

/// How good a trial is: smaller is better, by the first key that differs.
#[derive(Debug, Clone, Copy)]
struct Rank([f64; 3]);

impl Rank {
    fn precedes(&self, other: &Self) -> bool {
        let keys = self.0.iter().zip(other.0);
        let mut orders = keys.map(|(a, b)| a.total_cmp(&b));
        orders.find(|order| order.is_ne()).is_some_and(std::cmp::Ordering::is_lt)
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

impl Sampler for TpeSampler {
    fn joint(&self, ask: &Ask<'_>) -> Result<Proposal> {
        let &[direction] = ask.directions else {
            return Err(Error::data("directions", "one, for TPE", ask.directions.len()));
        };
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.read(ask.history, direction);
        if !self.params.multivariate
            || table.rows.len() < self.params.startup_trials
            || table.space.is_empty()
        {
            return Ok(Proposal::default());
        }
        let is_good = table.good();
        let axes: Vec<Axis> = table.space.iter().map(|shared| shared.axis.clone()).collect();
        let running = self.running(ask);
        let running: Vec<Vec<f64>> = running
            .filter_map(|trial| {
                let place = |shared: &Shared| {
                    trial.params.get(&shared.name).map(|param| shared.axis.place(param.value))
                };
                table.space.iter().map(place).collect()
            })
            .collect();

        // Rows are renumbered by age within each part.
        let (mut part, mut counts) = (vec![0_u32; table.rows.len()], [0_u32; 2]);
        for &row in &table.by_number {
            let count = &mut counts[usize::from(is_good[row as usize])];
            part[row as usize] = *count;
            *count += 1;
        }
        let mut parts: [Vec<Observed>; 2] = Default::default();
        for (j, shared) in table.space.iter().enumerate() {
            let mut split: [Observed; 2] = Default::default();
            for (side, n) in split.iter_mut().zip(counts) {
                side.places = vec![0.0; n as usize];
                side.by_place = Vec::with_capacity(n as usize + running.len());
            }
            for &row in &shared.observed.by_place {
                let side = &mut split[usize::from(is_good[row as usize])];
                side.by_place.push(part[row as usize]);
                side.places[part[row as usize] as usize] = shared.observed.places[row as usize];
            }
            for places in &running {
                let rest = &mut split[0];
                let at = rest.by_place.partition_point(|&r| rest.places[r as usize] <= places[j]);
                rest.by_place.insert(at, rest.places.len() as u32);
                rest.places.push(places[j]);
            }
            for (part, side) in parts.iter_mut().zip(split) {
                part.push(side);
            }
        }
        let [rest, good] = parts;
        let best = self.propose(ask, "tpe", &axes, &good, &rest);
        let params = table.space.iter().map(|shared| shared.name.clone()).zip(best).collect();
        Ok(Proposal { params, notes: Vec::new() })
    }

    fn single(&self, ask: &Ask<'_>, name: &str, distribution: &Distribution) -> Result<f64> {
        let &[direction] = ask.directions else {
            return Err(Error::data("directions", "one, for TPE", ask.directions.len()));
        };
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.read(ask.history, direction);
        if table.rows.len() < self.params.startup_trials {
            return Ok(uniform(distribution, ask.rng(name).random()));
        }
        let axis = [Axis::of(distribution)];
        let is_good = table.good();
        let place = |trial: &FrozenTrial| {
            let param = trial.params.get(name)?;
            param.distribution.ensure_like(distribution, name).ok()?;
            Some(axis[0].place(param.value))
        };
        let places = |good: bool| {
            let rows = table.by_number.iter().filter(move |&&row| is_good[row as usize] == good);
            rows.filter_map(|&row| place(&table.rows[row as usize])).collect::<Vec<f64>>()
        };
        let good = Observed::new(places.clone()(true));
        let running = self.running(ask).filter_map(place);
        let rest = Observed::new(places(false).into_iter().chain(running).collect());
        Ok(self.propose(ask, name, &axis, &[good], &[rest])[0])
    }
}

impl TpeSampler {
    /// The trials of others that are running, if they count.
    fn running<'a>(&self, ask: &'a Ask<'_>) -> impl Iterator<Item = &'a FrozenTrial> {
        let counts = self.params.constant_liar;
        let me = ask.trial.id;
        let open = ask.history.open().map(|trial| &**trial);
        open.filter(move |t| counts && t.state == TrialState::Running && t.id != me)
    }

    /// Of the candidates drawn from the good, that with the largest ratio of densities.
    fn propose(
        &self,
        ask: &Ask<'_>,
        purpose: &str,
        axes: &[Axis],
        good: &[Observed],
        rest: &[Observed],
    ) -> Vec<f64> {
        let count = |observed: &[Observed]| observed.first().map_or(0, |o| o.places.len());
        let good = Mixture::new(axes, count(good), good);
        let rest = Mixture::new(axes, count(rest), rest);
        let mut rng = ask.rng(purpose);
        let mut points: Vec<Vec<f64>> =
            (0..self.params.candidates).map(|_| good.draw(|| rng.random())).collect();
        let scores = good.log_density(&points).into_iter().zip(rest.log_density(&points));
        let ratios = scores.map(|(good, rest)| good - rest).enumerate();
        // The first of equals.
        let best =
            ratios.fold(
                (0, f64::NEG_INFINITY),
                |best, (i, ratio)| {
                    if best.1 < ratio { (i, ratio) } else { best }
                },
            );
        points.swap_remove(best.0)
    }
}

#[cfg(test)]
mod tests {
    use mm_core::{FloatRange, IntRange, Suggest};

    use super::*;
    use crate::{Outcome, Study, study::Trial};

    fn objective(trial: &mut Trial) -> Result<Outcome> {
        let x = trial.float("x", FloatRange::new(-5.0, 5.0))?;
        let rate = trial.float("rate", FloatRange::log(1e-5, 1.0))?;
        let n = trial.int("n", IntRange::new(1, 64))?;
        let kind = trial.choose("kind", &["a", "b", "c"])?;
        let loss =
            (x - 2.0).powi(2) + (rate.log10() + 2.0).powi(2) + (n as f64 - 20.0).abs() / 10.0;
        Ok((loss + [1.0, 0.0, 2.0][kind]).into())
    }

    fn best(sampler: impl Sampler + 'static, seed: u64) -> f64 {
        let study = Study::in_memory(Direction::Minimize).with_sampler(sampler).with_seed(seed);
        study.optimize(80, objective).expect("memory");
        study.best().expect("one objective").expect("complete").values[0]
    }

    #[test]
    fn it_finds_better_trials_than_chance_does() {
        let mean = |best: &dyn Fn(u64) -> f64| (0..5).map(best).sum::<f64>() / 5.0;
        let random = mean(&|seed| best(crate::RandomSampler, seed));
        let joint = mean(&|seed| best(TpeSampler::default(), seed));
        let params = TpeParams { multivariate: false, ..TpeParams::default() };
        let alone = mean(&|seed| best(params.clone().build().expect("sound"), seed));
        assert!(joint < random && alone < random, "{joint}, {alone}, {random}");
    }

    #[test]
    fn a_maximum_is_the_minimum_of_the_negative() {
        let run = |direction, sign: f64| {
            let study = Study::in_memory(direction).with_sampler(TpeSampler::default());
            let signed = |trial: &mut Trial| match objective(trial)? {
                Outcome::Values(values) => Ok((sign * values[0]).into()),
                pruned @ Outcome::Pruned => Ok(pruned),
            };
            study.optimize(40, signed).expect("memory");
            sign * study.best().expect("one").expect("complete").values[0]
        };
        assert_eq!(run(Direction::Minimize, 1.0), run(Direction::Maximize, -1.0));
    }
}
