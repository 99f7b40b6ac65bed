//! The covariance matrix adaptation evolution strategy.
//!
//! Generations of trials are drawn from one normal distribution over the unit cube of the numeric
//! parameters; the better half of each moves it, stretches it along the way that was good, and sets its
//! size. It needs no scale, no gradient and no model of the objective, and shines where parameters
//! depend on one another (Hansen, Ostermeier 2001, *Completely Derandomized Self-Adaptation in Evolution
//! Strategies*, Evolutionary Computation 9(2)).

mod eigen;
mod strategy;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use mm_core::{Direction, Error, ParamError, Result};
use rand::RngExt;

use self::strategy::Strategy;
use super::{
    Ask, Proposal, Sampler, TpeSampler,
    normal::quantile,
    space::{Axis, Shared, place},
};
use crate::{
    distribution::Distribution,
    history::History,
    json::Json,
    pareto::losses,
    trial::{FrozenTrial, TrialState},
};

/// How [`CmaSampler`] works.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `startup_trials` | 1 | ≥ 1 | so many trials end before the strategy begins |
/// | `population` | 4 + ⌊3 ln *d*⌋ | ≥ 2 | trials of a generation, for *d* parameters |
/// | `sigma` | 1/6 | (0, ∞) | the first step size, in units of each parameter's range |
#[derive(Debug, Clone, PartialEq)]
pub struct CmaParams {
    /// So many trials end before the strategy begins.
    pub startup_trials: usize,
    /// Trials of a generation.
    pub population: Option<usize>,
    /// The first step size, in units of each parameter's range.
    pub sigma: f64,
}

impl Default for CmaParams {
    fn default() -> Self {
        Self { startup_trials: 1, population: None, sigma: 1.0 / 6.0 }
    }
}

impl CmaParams {
    /// Checks the fields.
    pub fn build(self) -> Result<CmaSampler, ParamError> {
        ParamError::ensure(1 <= self.startup_trials, "startup_trials", 0, "at least 1")?;
        let population = self.population.unwrap_or(2);
        ParamError::ensure(2 <= population, "population", population, "at least 2")?;
        let ok = 0.0 < self.sigma && self.sigma.is_finite();
        ParamError::ensure(ok, "sigma", self.sigma, "a finite number above 0")?;
        Ok(CmaSampler { params: self, ..CmaSampler::default() })
    }
}

/// The covariance matrix adaptation evolution strategy, for studies of one objective.
///
/// It proposes the numeric parameters that every trial has. Integers and steps are coordinates of the
/// same distribution, kept from freezing at one value by a margin (Hamano et al. 2022). Categories, and
/// parameters that not every trial has, are proposed by TPE, each by itself. (Optuna 5.0 draws them at
/// random and leaves the margin off.) Trials that break constraints rank last, by how much.
///
/// A trial notes its generation and its draw in the system attribute `mm:cma`, from which any worker
/// rebuilds the strategy: O(d³) a generation. Of trials that several workers run at once, a generation
/// takes the first by number. Optuna's own state is a pickled Python object and is not read.
#[derive(Debug, Default)]
pub struct CmaSampler {
    params: CmaParams,
    /// Where the strategy begins, by parameters: complete trials of another study, with their losses.
    source: Vec<(Arc<FrozenTrial>, f64)>,
    state: Mutex<State>,
    /// Proposes what is not numeric.
    others: TpeSampler,
}

const NOTE: &str = "mm:cma";

#[derive(Debug, Default)]
struct State {
    shared: Shared,
    n_read: usize,
    axes: Vec<Axis>,
    run: Option<Run>,
}

/// A strategy over certain axes and the trials that it has not learnt from yet.
#[derive(Debug)]
struct Run {
    /// Tells notes of this space from those of another.
    key: i64,
    strategy: Strategy,
    generation: i64,
    told: BTreeMap<i64, Vec<Told>>,
}

#[derive(Debug)]
struct Told {
    number: u64,
    draw: Vec<f64>,
    /// How much constraints are broken, then the loss.
    rank: (f64, f64),
}

impl CmaSampler {
    /// Begins where trials of another study were good: N(m, Σ) of their best tenth, a little widened
    /// (Nomura, Watanabe, Akimoto, Ozaki, Onishi 2021, *Warm Starting CMA-ES for Hyperparameter
    /// Optimization*, AAAI). Of `trials`, the complete ones count that have all parameters of this study's
    /// space; ranges may differ.
    #[must_use]
    pub fn with_source(self, trials: &[Arc<FrozenTrial>], direction: Direction) -> Self {
        let complete =
            trials.iter().filter(|t| t.state == TrialState::Complete && t.values.len() == 1);
        let source = complete.map(|t| (t.clone(), losses(t, &[direction])[0])).collect();
        Self { source, ..self }
    }

    fn start(&self, axes: &[Axis]) -> Strategy {
        let n = axes.len();
        let population = 4 + (3.0 * (n as f64).ln()).floor() as usize;
        let population = self.params.population.unwrap_or(population);
        let identity = |scale: f64| {
            (0..n * n).map(move |i| if i / n == i % n { scale } else { 0.0 }).collect::<Vec<f64>>()
        };
        let mut source: Vec<(Vec<f64>, f64)> = self
            .source
            .iter()
            .filter_map(|(trial, loss)| Some((place(axes, &trial.params)?, *loss)))
            .collect();
        source.sort_by(|a, b| a.1.total_cmp(&b.1));
        source.truncate(source.len().div_ceil(10));
        if source.is_empty() {
            return Strategy::new(vec![0.5; n], self.params.sigma, identity(1.0), population);
        }
        // Both the share of the best and the widening are the paper's 0.1.
        let count = source.len() as f64;
        let mean: Vec<f64> =
            (0..n).map(|j| source.iter().map(|(x, _)| x[j]).sum::<f64>() / count).collect();
        let mut cov = identity(0.1 * 0.1);
        for (x, _) in &source {
            for (k, c) in cov.iter_mut().enumerate() {
                *c += (x[k / n] - mean[k / n]) * (x[k % n] - mean[k % n]) / count;
            }
        }
        let (values, _) = eigen::eigen(cov.clone(), n);
        let log_det: f64 = values.iter().map(|v| v.ln()).sum();
        let sigma = (log_det / (2.0 * n as f64)).exp();
        for c in &mut cov {
            *c /= sigma * sigma;
        }
        Strategy::new(mean, sigma, cov, population)
    }

    /// Brings the state up to the history.
    fn read(&self, state: &mut State, history: &History, direction: Direction) {
        let numeric = |axis: &&Axis| !axis.is_categorical();
        let axes: Vec<Axis> = state.shared.read(history).iter().filter(numeric).cloned().collect();
        if axes != state.axes || state.run.is_none() && !axes.is_empty() {
            // From the beginning, in the space of now.
            state.n_read = 0;
            state.run = (!axes.is_empty()).then(|| Run {
                key: key(&axes),
                strategy: self.start(&axes),
                generation: 0,
                told: BTreeMap::new(),
            });
            state.axes = axes;
        }
        if let Some(run) = &mut state.run {
            for trial in &history.finished()[state.n_read..] {
                run.note(trial, &state.axes, direction);
            }
            run.learn(&state.axes);
        }
        state.n_read = history.finished().len();
    }
}

impl Run {
    fn note(&mut self, trial: &FrozenTrial, axes: &[Axis], direction: Direction) {
        if trial.state != TrialState::Complete {
            return;
        }
        let Some(Json::Array(note)) = trial.system_attrs.get(NOTE) else { return };
        let [key, generation, draw @ ..] = &note[..] else { return };
        let draw: Vec<f64> = draw.iter().filter_map(Json::as_f64).collect();
        let Some(generation) = generation.as_i64().filter(|_| key.as_i64() == Some(self.key))
        else {
            return;
        };
        let is_sound = draw.len() == axes.len() && draw.iter().all(|x| x.is_finite());
        if is_sound && self.generation <= generation {
            let rank = (trial.violation(), losses(trial, &[direction])[0]);
            let told = Told { number: trial.number, draw, rank };
            self.told.entry(generation).or_default().push(told);
        }
    }

    /// Learns from the generations that are whole.
    fn learn(&mut self, axes: &[Axis]) {
        let population = self.strategy.population();
        while self.told.get(&self.generation).is_some_and(|told| population <= told.len()) {
            let mut told = self.told.remove(&self.generation).unwrap_or_default();
            told.sort_unstable_by_key(|told| told.number);
            told.truncate(population);
            told.sort_by(|a, b| a.rank.0.total_cmp(&b.rank.0).then(a.rank.1.total_cmp(&b.rank.1)));
            let ranked: Vec<Vec<f64>> = told.into_iter().map(|told| told.draw).collect();
            self.strategy.tell(&ranked, |i, u| axes[i].cell(u));
            self.generation += 1;
        }
    }
}

/// A number by which spaces differ.
fn key(axes: &[Axis]) -> i64 {
    let one = |axis: &Axis| super::fnv(&format!("{}:{}", axis.name, axis.distribution));
    let all = axes.iter().map(one).fold(0_u64, |sum, one| sum.rotate_left(7) ^ one);
    i64::from(all as u32)
}

impl Sampler for CmaSampler {
    fn joint(&self, ask: &Ask<'_>) -> Result<Proposal> {
        let &[direction] = ask.directions else {
            return Err(Error::data("directions", "one, for CMA-ES", ask.directions.len()));
        };
        let complete = ask.history.finished().iter().filter(|t| t.state == TrialState::Complete);
        if complete.take(self.params.startup_trials).count() < self.params.startup_trials {
            return Ok(Proposal::default());
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.read(&mut state, ask.history, direction);
        let State { axes, run: Some(run), .. } = &*state else { return Ok(Proposal::default()) };
        let mut rng = ask.rng("cma\0");
        let mut draw = || {
            let z: Vec<f64> = axes.iter().map(|_| quantile(rng.random_range(1e-12..1.0))).collect();
            run.strategy.draw(&z)
        };
        let is_continuous = |axis: &Axis| axis.n_values().is_none();
        let is_inside = |x: &[f64]| {
            let inside = |(axis, x): (&Axis, &f64)| !is_continuous(axis) || (0.0..=1.0).contains(x);
            axes.iter().zip(x).all(inside)
        };
        let mut x = draw();
        for _ in 0..10 * axes.len() {
            if is_inside(&x) {
                break;
            }
            x = draw();
        }
        for (axis, x) in axes.iter().zip(&mut x) {
            if is_continuous(axis) {
                *x = x.clamp(0.0, 1.0);
            }
        }
        let value = |(i, axis): (usize, &Axis)| {
            let u = if is_continuous(axis) { x[i] } else { run.strategy.widened(i, x[i]) };
            (axis.name.clone(), axis.value(u))
        };
        let params = axes.iter().enumerate().map(value).collect();
        let note = [Json::Int(run.key), Json::Int(run.generation)].into_iter();
        let note = note.chain(x.iter().map(|&x| Json::Float(x))).collect();
        Ok(Proposal { params, notes: vec![(NOTE.to_owned(), Json::Array(note))] })
    }

    fn single(&self, ask: &Ask<'_>, name: &str, distribution: &Distribution) -> Result<f64> {
        self.others.single(ask, name, distribution)
    }
}

#[cfg(test)]
mod tests {
    use mm_core::{FloatRange, IntRange, Suggest};

    use super::*;
    use crate::{Outcome, Study, TpeParams, study::Trial};

    /// A narrow valley across the axes (Rosenbrock 1960).
    fn valley(trial: &mut Trial) -> Result<Outcome> {
        let x = trial.float("x", FloatRange::new(-2.0, 2.0))?;
        let y = trial.float("y", FloatRange::new(-1.0, 3.0))?;
        Ok((100.0 * (y - x * x).powi(2) + (1.0 - x).powi(2)).into())
    }

    fn best(study: &Study) -> f64 {
        study.best().expect("one objective").expect("complete").values[0]
    }

    fn run(sampler: impl Sampler + 'static, seed: u64, n: usize) -> Study {
        let study = Study::in_memory(Direction::Minimize).with_sampler(sampler).with_seed(seed);
        study.optimize(n, valley).expect("memory");
        study
    }

    #[test]
    fn a_narrow_valley_is_followed_to_its_end() {
        for seed in 0..5 {
            let best = best(&run(CmaSampler::default(), seed, 600));
            assert!(best < 1e-3, "seed {seed}: {best}");
        }
    }

    #[test]
    fn integers_and_steps_do_not_freeze() {
        let objective = |trial: &mut Trial| {
            let x = trial.float("x", FloatRange::new(0.0, 1.0))?;
            let n = trial.int("n", IntRange::new(0, 100))? as f64;
            let b = trial.int("b", IntRange::new(0, 1))? as f64;
            let kind = trial.choose("kind", &["a", "b"])?;
            let loss = (x - 0.3).powi(2) + (n - 83.0).powi(2) / 100.0 + b + kind as f64;
            Ok(loss.into())
        };
        for seed in 0..5 {
            let study = Study::in_memory(Direction::Minimize).with_seed(seed);
            let study = study.with_sampler(CmaSampler::default());
            study.optimize(250, objective).expect("memory");
            let best = study.best().expect("one").expect("complete");
            let value = |name| best.params.get(name).expect("asked for").value;
            assert_eq!((value("n"), value("b"), value("kind")), (83.0, 0.0, 0.0), "seed {seed}");
        }
    }

    #[test]
    fn a_study_opened_again_goes_on_with_the_same_strategy() {
        let whole = run(CmaSampler::default(), 4, 60);
        let first = run(CmaSampler::default(), 4, 31);
        let again = Study::open(first.storage().clone(), first.name(), first.directions());
        let again = again.expect("there").with_sampler(CmaSampler::default()).with_seed(4);
        again.optimize(29, valley).expect("memory");
        let values = |study: &Study| {
            let trials = study.trials().expect("memory");
            trials.iter().map(|t| t.values[0]).collect::<Vec<_>>()
        };
        assert_eq!(values(&whole), values(&again));
    }

    #[test]
    fn an_earlier_study_is_a_better_start_than_none() {
        let source = run(TpeParams::default().build().expect("sound"), 0, 200);
        let source = source.trials().expect("memory");
        let total = |warm: bool| -> f64 {
            let best = |seed| {
                let cma = CmaSampler::default();
                let cma = if warm { cma.with_source(&source, Direction::Minimize) } else { cma };
                best(&run(cma, seed, 40)).ln()
            };
            (0..10).map(best).sum()
        };
        assert!(total(true) < total(false), "{}, {}", total(true), total(false));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let fails = |edit: fn(&mut CmaParams), name: &str| {
            let mut params = CmaParams::default();
            edit(&mut params);
            let error = params.build().expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        };
        fails(|p| p.sigma = f64::NAN, "sigma");
        fails(|p| p.sigma = 0.0, "sigma");
        fails(|p| p.population = Some(1), "population");
        fails(|p| p.startup_trials = 0, "startup_trials");
    }
}
