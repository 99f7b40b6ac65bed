//! A genetic algorithm for several objectives.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use mm_core::{Direction, ParamError, Result};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Ask, Proposal, Sampler, random::uniform};
use crate::{
    distribution::Distribution,
    history::History,
    json::Json,
    pareto::{crowding, dominates, fronts, losses},
    trial::{FrozenTrial, Param, TrialState},
};

/// How [`NsgaSampler`] works.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `population` | 50 | ≥ 2 | trials of a generation |
/// | `mutation` | 1/*d* | \[0, 1\] | the probability that a parameter of a child is drawn anew |
/// | `crossover` | `Uniform` | | how two parents make a child |
/// | `crossover_probability` | 0.9 | \[0, 1\] | the probability that they do; else the child is one parent's copy |
#[derive(Debug, Clone, PartialEq)]
pub struct NsgaParams {
    /// Trials of a generation.
    pub population: usize,
    /// The probability that a parameter of a child is drawn anew; 1/*d* for *d* parameters if `None`.
    pub mutation: Option<f64>,
    /// How two parents make a child.
    pub crossover: Crossover,
    /// The probability that two parents make a child; otherwise it is a copy of one.
    pub crossover_probability: f64,
}

/// How two parents make a child.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Crossover {
    /// Each parameter is one parent's or the other's.
    Uniform {
        /// The probability that it is the second's; 0.5 by default.
        swap: f64,
    },
    /// Numbers lie about the parents' as those of a one-point crossover of long bit strings would
    /// (Deb, Agrawal 1995, *Simulated Binary Crossover for Continuous Search Space*); categories as with
    /// `Uniform`.
    SimulatedBinary {
        /// The larger, the nearer to a parent: η ≥ 0.
        eta: f64,
    },
}

impl Default for NsgaParams {
    fn default() -> Self {
        Self {
            population: 50,
            mutation: None,
            crossover: Crossover::Uniform { swap: 0.5 },
            crossover_probability: 0.9,
        }
    }
}

impl NsgaParams {
    /// Checks the fields.
    pub fn build(self) -> Result<NsgaSampler, ParamError> {
        ParamError::ensure(2 <= self.population, "population", self.population, "at least 2")?;
        let share = |name: &str, p: f64| {
            ParamError::ensure(0.0 <= p && p <= 1.0, name, p, "a probability, 0 to 1")
        };
        share("mutation", self.mutation.unwrap_or(0.0))?;
        share("crossover_probability", self.crossover_probability)?;
        match self.crossover {
            Crossover::Uniform { swap } => share("swap", swap)?,
            Crossover::SimulatedBinary { eta } => {
                let ok = 0.0 <= eta && eta.is_finite();
                ParamError::ensure(ok, "eta", eta, "a finite number ≥ 0")?;
            }
        }
        Ok(NsgaSampler { params: self, parents: Mutex::default() })
    }
}

/// NSGA-II, the non-dominated sorting genetic algorithm (Deb, Pratap, Agarwal, Meyarivan 2002, *A Fast and
/// Elitist Multiobjective Genetic Algorithm*, IEEE Transactions on Evolutionary Computation 6(2)), for
/// one objective or several.
///
/// The first generation is drawn at random. The parents of each later one are the best of the last
/// generation and its parents together: by fronts, within a front those in sparse places first. A trial
/// that keeps its constraints is better than one that does not, and of two that do not that which breaks
/// them less (constrained domination). A child has two parents, each the better of two; one in *d* of
/// its parameters is drawn anew. Parameters that only one parent has, or none, are that one's or drawn.
///
/// A trial notes its generation in the system attribute `NSGAIISampler:generation`, as in Optuna 5.0, from
/// which workers of either kind go on. Parents are computed by each worker from the trials (Optuna's
/// workers share them in an attribute of the study): O(population²) a generation.
#[derive(Debug, Default)]
pub struct NsgaSampler {
    params: NsgaParams,
    parents: Mutex<Parents>,
}

const GENERATION: &str = "NSGAIISampler:generation";

/// The generations that are whole, and the parents of the one after them.
#[derive(Debug, Default)]
struct Parents {
    n_read: usize,
    /// Complete trials of generations that are not whole yet.
    told: BTreeMap<i64, Vec<Arc<FrozenTrial>>>,
    generation: i64,
    trials: Vec<Arc<FrozenTrial>>,
}

impl Parents {
    /// Reads the trials that have finished since.
    fn read(&mut self, history: &History, directions: &[Direction], population: usize) {
        for trial in history.finished_since(self.n_read) {
            let generation = trial.system_attrs.get(GENERATION).and_then(Json::as_i64);
            let counts = trial.state == TrialState::Complete;
            if let Some(generation) = generation.filter(|g| counts && self.generation <= *g) {
                self.told.entry(generation).or_default().push(trial.clone());
            }
        }
        self.n_read = self.n_read.max(history.finished().len());
        while self.told.get(&self.generation).is_some_and(|told| population <= told.len()) {
            let mut all = self.told.remove(&self.generation).unwrap_or_default();
            all.append(&mut self.trials);
            all.sort_unstable_by_key(|trial| trial.number);
            self.trials = survivors(all, directions, population);
            self.generation += 1;
        }
    }
}

/// The best: whole fronts as long as they fit, and of the next those in sparse places.
fn survivors(
    all: Vec<Arc<FrozenTrial>>,
    directions: &[Direction],
    population: usize,
) -> Vec<Arc<FrozenTrial>> {
    let (sound, mut broken): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|trial| trial.violation() <= 0.0);
    let points: Vec<Vec<f64>> = sound.iter().map(|trial| losses(trial, directions)).collect();
    let mut best: Vec<Arc<FrozenTrial>> = Vec::with_capacity(population);
    for front in fronts(&points, population) {
        let left = population - best.len();
        let tied: Vec<Vec<f64>> = front.iter().map(|&i| points[i].clone()).collect();
        let distance = crowding(&tied);
        let mut order: Vec<usize> = (0..front.len()).collect();
        if left < front.len() {
            order.sort_by(|&a, &b| distance[b].total_cmp(&distance[a]));
        }
        best.extend(order.into_iter().take(left).map(|i| sound[front[i]].clone()));
    }
    broken.sort_by(|a, b| a.violation().total_cmp(&b.violation()));
    let left = population - best.len();
    best.extend(broken.into_iter().take(left));
    best
}

/// Constrained domination.
fn is_better(a: &FrozenTrial, b: &FrozenTrial, directions: &[Direction]) -> bool {
    let (broken_a, broken_b) = (a.violation(), b.violation());
    match (0.0 < broken_a, 0.0 < broken_b) {
        (false, false) => dominates(&losses(a, directions), &losses(b, directions)),
        (true, true) => broken_a < broken_b,
        (a_is_broken, _) => !a_is_broken,
    }
}

impl NsgaSampler {
    fn child(
        &self,
        parents: &[Arc<FrozenTrial>],
        directions: &[Direction],
        rng: &mut ChaCha8Rng,
    ) -> Vec<(Arc<str>, f64)> {
        // The better of two drawn from those that are left.
        let mut one = |others: &[&Arc<FrozenTrial>]| {
            let pair = [0, 1].map(|_| rng.random_range(0..others.len()));
            let [a, b] = pair.map(|i| others[i].clone());
            if is_better(&a, &b, directions) { a } else { b }
        };
        let all: Vec<&Arc<FrozenTrial>> = parents.iter().collect();
        let first = one(&all);
        let others: Vec<&Arc<FrozenTrial>> =
            all.into_iter().filter(|other| other.id != first.id).collect();
        let second = if others.is_empty() { first.clone() } else { one(&others) };
        let crosses = rng.random_bool(self.params.crossover_probability);
        let n = first.params.len().max(1);
        let mutation = self.params.mutation.unwrap_or(1.0 / n as f64);
        let mut child = Vec::with_capacity(n);
        for param in &first.params {
            let other = second.params.get(&param.name).filter(|_| crosses);
            let value = other.map_or(param.value, |other| self.cross(param, other, rng));
            // What is drawn anew is drawn when the trial asks for it, from the range that it names.
            if !rng.random_bool(mutation) {
                child.push((param.name.clone(), value));
            }
        }
        child
    }

    fn cross(&self, a: &Param, b: &Param, rng: &mut ChaCha8Rng) -> f64 {
        let (log, is_whole) = match (&*a.distribution, self.params.crossover) {
            (Distribution::Float(range), Crossover::SimulatedBinary { .. }) => (range.log, false),
            (Distribution::Int(range), Crossover::SimulatedBinary { .. }) => (range.log, true),
            (_, crossover) => {
                let swap = if let Crossover::Uniform { swap } = crossover { swap } else { 0.5 };
                return if rng.random_bool(swap) { b.value } else { a.value };
            }
        };
        let Crossover::SimulatedBinary { eta } = self.params.crossover else { return a.value };
        let u: f64 = rng.random();
        // How much farther apart the children are than the parents.
        let spread = if u <= 0.5 {
            (2.0 * u).powf(1.0 / (eta + 1.0))
        } else {
            (0.5 / (1.0 - u)).powf(1.0 / (eta + 1.0))
        };
        let scale = |x: f64| if log { x.ln() } else { x };
        let (x, y) = (scale(a.value), scale(b.value));
        let side = if rng.random_bool(0.5) { spread } else { -spread };
        let value = f64::midpoint(x, y) + 0.5 * side * (y - x);
        let value = if log { value.exp() } else { value };
        nearest(&a.distribution, value, is_whole)
    }
}

/// The admitted value nearest to `x`.
fn nearest(distribution: &Distribution, x: f64, is_whole: bool) -> f64 {
    match distribution {
        Distribution::Float(range) => {
            let step = |step: f64| range.low + ((x - range.low) / step).round() * step;
            range.step.map_or(x, step).clamp(range.low, range.high)
        }
        Distribution::Int(range) if is_whole => {
            let (low, high, step) = (range.low as f64, range.high as f64, range.step as f64);
            (low + ((x - low) / step).round() * step).clamp(low, high)
        }
        _ => x,
    }
}

impl Sampler for NsgaSampler {
    fn joint(&self, ask: &Ask<'_>) -> Result<Proposal> {
        let mut parents = self.parents.lock().unwrap_or_else(PoisonError::into_inner);
        parents.read(ask.history, ask.directions, self.params.population);
        let mut rng = ask.rng("nsga\0");
        let params = if parents.trials.is_empty() {
            Vec::new()
        } else {
            self.child(&parents.trials, ask.directions, &mut rng)
        };
        let notes = vec![(GENERATION.to_owned(), Json::Int(parents.generation))];
        Ok(Proposal { params, notes })
    }

    fn single(&self, ask: &Ask<'_>, name: &str, distribution: &Distribution) -> Result<f64> {
        Ok(uniform(distribution, ask.rng(name).random()))
    }
}

#[cfg(test)]
mod tests {
    use mm_core::{FloatRange, IntRange, Suggest};

    use super::*;
    use crate::{MemoryStorage, Outcome, Study, pareto::hypervolume, study::Trial};

    const WAYS: [Direction; 2] = [Direction::Minimize, Direction::Minimize];

    /// ZDT1 (Zitzler, Deb, Thiele 2000) in six variables: the front is y = 1 − √x.
    fn zdt1(trial: &mut Trial) -> Result<Outcome> {
        let x = trial.float("x0", FloatRange::new(0.0, 1.0))?;
        let mut g = 1.0;
        for i in 1..6 {
            g += 9.0 / 5.0 * trial.float(&format!("x{i}"), FloatRange::new(0.0, 1.0))?;
        }
        Ok(vec![x, g * (1.0 - (x / g).sqrt())].into())
    }

    fn volume(study: &Study) -> f64 {
        let trials = study.trials().expect("memory");
        let points = trials.iter().map(|t| losses(t, &WAYS)).filter(|p| p[1] <= 7.0);
        hypervolume(&points.collect::<Vec<_>>(), &[1.0, 7.0])
    }

    fn study() -> Study {
        Study::open(Arc::new(MemoryStorage::default()), "zdt1", &WAYS).expect("new")
    }

    #[test]
    fn generations_approach_the_front() {
        // All that can be had is 7 − 1/3.
        let all = 7.0 - 1.0 / 3.0;
        let missing = |study: Study| {
            study.optimize(1000, zdt1).expect("memory");
            all - volume(&study)
        };
        let random = missing(study().with_sampler(crate::RandomSampler));
        for crossover in [Crossover::Uniform { swap: 0.5 }, Crossover::SimulatedBinary { eta: 2.0 }]
        {
            let params = NsgaParams { crossover, ..NsgaParams::default() };
            let missing = missing(study().with_sampler(params.build().expect("sound")));
            assert!(missing < 0.5 * random, "{crossover:?}: {missing}, {random}");
        }
    }

    #[test]
    fn constraints_come_before_objectives() {
        let params = NsgaParams { population: 20, ..NsgaParams::default() };
        let study = Study::in_memory(Direction::Minimize)
            .with_sampler(params.build().expect("sound"))
            .with_seed(1);
        let objective = |trial: &mut Trial| {
            let n = trial.int("n", IntRange::new(0, 1000))?;
            let kind = trial.choose("kind", &["a", "b"])?;
            trial.set_constraint("low", 900.0 - n as f64)?;
            Ok((n as f64 + kind as f64).into())
        };
        study.optimize(300, objective).expect("memory");
        let trials = study.trials().expect("memory");
        let sound = |trials: &[Arc<FrozenTrial>]| {
            trials.iter().filter(|trial| trial.violation() <= 0.0).count()
        };
        // Of a random generation a tenth keeps it.
        assert!(
            sound(&trials[..20]) <= 6 && 12 <= sound(&trials[280..]),
            "{}",
            sound(&trials[280..])
        );
    }

    #[test]
    fn a_study_opened_again_goes_on_alike() {
        let sampler = || NsgaParams { population: 10, ..NsgaParams::default() }.build();
        let run = |n| {
            let study = study().with_sampler(sampler().expect("sound")).with_seed(3);
            study.optimize(n, zdt1).expect("memory");
            study
        };
        let (whole, first) = (run(60), run(33));
        let again = Study::open(first.storage().clone(), first.name(), &WAYS).expect("there");
        let again = again.with_sampler(sampler().expect("sound")).with_seed(3);
        again.optimize(27, zdt1).expect("memory");
        let values = |study: &Study| {
            let trials = study.trials().expect("memory");
            trials.iter().map(|t| t.values.clone()).collect::<Vec<_>>()
        };
        assert_eq!(values(&whole), values(&again));
    }

    /// `tests/fixtures/nsga.py`: the parents that Optuna 5.0 chooses from random trials.
    #[test]
    fn parents_are_those_of_optuna() {
        let fixture = Json::parse(include_str!("../../tests/fixtures/nsga.json")).expect("JSON");
        let list = |json: &Json, key: &str| -> Vec<Json> {
            json.get(key).and_then(Json::as_array).expect("a list").to_vec()
        };
        let cases = fixture.as_array().expect("cases");
        assert_eq!(cases.len(), 12);
        for case in cases {
            let directions: Vec<Direction> = list(case, "directions")
                .iter()
                .map(|way| match way.as_str() {
                    Some("minimize") => Direction::Minimize,
                    _ => Direction::Maximize,
                })
                .collect();
            let storage = Arc::new(MemoryStorage::default());
            let study = Study::open(storage, "parents", &directions).expect("new");
            for told in list(case, "trials") {
                let told: Vec<f64> =
                    told.as_array().expect("numbers").iter().filter_map(Json::as_f64).collect();
                let trial = study.ask().expect("memory");
                trial.set_constraint("c", told[0]).expect("memory");
                study.tell(&trial, told[1..].to_vec().into()).expect("memory");
            }
            let trials = study.trials().expect("memory");
            let parents = survivors(trials, &directions, 10);
            let mut got: Vec<i64> = parents.iter().map(|trial| trial.number as i64).collect();
            got.sort_unstable();
            let expected: Vec<i64> =
                list(case, "parents").iter().filter_map(Json::as_i64).collect();
            assert_eq!(got, expected, "{directions:?}");
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let fails = |edit: fn(&mut NsgaParams), name: &str| {
            let mut params = NsgaParams::default();
            edit(&mut params);
            let error = params.build().expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        };
        fails(|p| p.population = 1, "population");
        fails(|p| p.mutation = Some(1.5), "mutation");
        fails(|p| p.crossover_probability = f64::NAN, "crossover_probability");
        fails(|p| p.crossover = Crossover::Uniform { swap: -0.1 }, "swap");
        fails(|p| p.crossover = Crossover::SimulatedBinary { eta: -1.0 }, "eta");
    }
}
