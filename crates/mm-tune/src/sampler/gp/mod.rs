//! Bayesian optimization with a Gaussian process.
//!
//! A process is fitted to the trials so far, and the point is tried next at which the expected
//! improvement on the best one is largest (Jones, Schonlau, Welch 1998, *Efficient Global Optimization of
//! Expensive Black-Box Functions*, Journal of Global Optimization 13). Of all samplers here it needs the
//! fewest trials and the most time for each.

mod acquisition;
mod linear;
mod minimize;
mod model;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use mm_core::{Direction, ParamError, Result};
use rand::RngExt;

use self::{
    acquisition::{Acquisition, Effort, place_of, value_of},
    model::{Data, Hyper, Process},
};
use super::{
    Ask, Proposal, QmcSampler, Sampler, TpeSampler, relative,
    space::{Axis, Shared},
};
use crate::{
    distribution::Distribution,
    history::History,
    json::Json,
    pareto::losses,
    trial::{FrozenTrial, TrialState},
};

/// How [`GpSampler`] works.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `startup_trials` | 10 | ≥ 1 | so many complete trials are spread evenly before the model is used |
/// | `max_trials` | 400 | ≥ 20 | the model sees at most so many: half the best, half the latest |
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GpParams {
    /// So many complete trials are spread evenly before the model is used.
    pub startup_trials: usize,
    /// The model sees at most so many trials: half of them the best, the rest the latest.
    pub max_trials: usize,
}

impl Default for GpParams {
    fn default() -> Self {
        Self { startup_trials: 10, max_trials: 400 }
    }
}

impl GpParams {
    /// Checks the fields.
    pub fn build(self) -> Result<GpSampler, ParamError> {
        ParamError::ensure(1 <= self.startup_trials, "startup_trials", 0, "at least 1")?;
        ParamError::ensure(20 <= self.max_trials, "max_trials", self.max_trials, "at least 20")?;
        Ok(GpSampler { params: self, ..GpSampler::default() })
    }
}

/// A Gaussian process over all parameters that every trial has, numbers and categories alike.
///
/// The kernel is Matérn's with ν = 5/2 and a length scale for each parameter; two categories are 1 apart.
/// Its hyper-parameters are fitted a posteriori as in Optuna 5.0, at every trial up to 40 and later each
/// time there are a twentieth more. Constraints are processes of their own, and the improvement counts as
/// far as it is probable that they are kept. Running trials are believed to come out as expected. With
/// several objectives each trial has a weighting of them of its own, by which they become one (Knowles 2006, `ParEGO`,
/// IEEE Transactions on Evolutionary Computation 10(1)).
///
/// Parameters that not every trial has are proposed by TPE, each by itself. The first trials are those of
/// [`QmcSampler`].
///
/// O(n³) a fit and O(n²) for each of the some two thousand points that a proposal looks at, for *n* trials:
/// some 10 ms of CPU time at 100 trials of 10 parameters, and 30 ms at 200.
#[derive(Debug, Default)]
pub struct GpSampler {
    params: GpParams,
    state: Mutex<State>,
    others: TpeSampler,
}

#[derive(Debug, Default)]
struct State {
    shared: Shared,
    open: relative::Open,
    /// Fitted hyper-parameters by purpose, and what they were fitted to: the space and how many trials.
    fitted: BTreeMap<String, (Vec<Axis>, usize, Hyper)>,
}

impl Sampler for GpSampler {
    fn joint(&self, ask: &Ask<'_>) -> Result<Proposal> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { shared, open, fitted } = &mut *state;
        let axes = shared.read(ask.history);
        let trials = complete(ask.history, axes);
        if trials.len() < self.params.startup_trials || axes.is_empty() {
            return Ok(Proposal::default());
        }
        let mut rng = ask.rng("gp\0");
        let losses = single_losses(&trials, ask.directions, || rng.random());
        let is_one = ask.directions.len() == 1;
        let places: Vec<Vec<f64>> = trials.iter().map(|trial| places(axes, trial)).collect();
        let is_category: Vec<bool> = axes.iter().map(Axis::is_categorical).collect();
        let kept = self.kept(&losses);

        let mut fit = |purpose: &str, values: &[f64], reuse: bool| -> (Process, f64, f64) {
            let n = if reuse {
                checkpoint(values.len(), self.params.startup_trials)
            } else {
                usize::MAX
            };
            let data = |rows: &[usize]| Data {
                x: rows.iter().map(|&i| places[i].clone()).collect(),
                y: rows.iter().map(|&i| values[i]).collect(),
                is_category: is_category.clone(),
            };
            let hyper = match fitted.get(purpose) {
                Some((of, at, hyper)) if reuse && *at == n && *of == axes => hyper.clone(),
                _ => {
                    // What was kept then: a function of the history, not of when it was asked.
                    let rows = self.kept(&losses[..n.min(losses.len())]);
                    let (data, ..) = standardized(data(&rows));
                    let hyper = Hyper::fit(&data);
                    fitted.insert(purpose.to_owned(), (axes.to_vec(), n, hyper.clone()));
                    hyper
                }
            };
            let (data, mean, deviation) = standardized(data(&kept));
            (Process::new(data, hyper), mean, deviation)
        };

        let running = running(ask, axes, open);
        let sound: Vec<usize> =
            (0..trials.len()).filter(|&i| trials[i].violation() <= 0.0).collect();
        let best = sound.iter().copied().min_by(|&a, &b| losses[a].total_cmp(&losses[b]));
        let loss = best.map(|best| {
            let (process, mean, deviation) = fit("", &losses, is_one);
            (process.believing(running.clone()), (losses[best] - mean) / deviation)
        });
        let mut constraints = Vec::new();
        for name in constraint_names(&trials) {
            let value = |trial: &&FrozenTrial| {
                let value = trial.system_attrs.get(&name).and_then(Json::as_f64);
                // One that did not say is taken to have kept it, barely.
                value.unwrap_or(0.0)
            };
            let values: Vec<f64> = trials.iter().map(value).collect();
            let (process, mean, deviation) = fit(&name, &values, true);
            constraints.push((process.believing(running.clone()), -mean / deviation));
        }

        let mut known: Vec<usize> =
            if sound.is_empty() { (0..trials.len()).collect() } else { sound };
        known.sort_by(|&a, &b| losses[a].total_cmp(&losses[b]));
        let known: Vec<Vec<f64>> = known.iter().take(3).map(|&i| places[i].clone()).collect();
        let effort = Effort { samples: 1024, neighbors: 256, starts: 5 };
        let x = Acquisition { loss, constraints }.maximize(axes, &known, &mut rng, effort);
        let value = |(axis, &place): (&Axis, &f64)| (axis.name.clone(), value_of(axis, place));
        let params: Vec<(Arc<str>, f64)> = axes.iter().zip(&x).map(value).collect();
        open.note(ask.trial.id, &params, ask.history);
        let distributions = axes.iter().map(|axis| &axis.distribution);
        let notes = if ask.history.is_shared() {
            relative::notes("gp", &params, distributions)
        } else {
            Vec::new()
        };
        Ok(Proposal { params, notes })
    }

    fn single(&self, ask: &Ask<'_>, name: &str, distribution: &Distribution) -> Result<f64> {
        let is_complete = |trial: &&Arc<FrozenTrial>| trial.state == TrialState::Complete;
        let n_complete = ask.history.finished().iter().filter(is_complete).count();
        if n_complete < self.params.startup_trials {
            return QmcSampler::default().single(ask, name, distribution);
        }
        self.others.single(ask, name, distribution)
    }
}

impl GpSampler {
    /// Which trials the model sees, in order.
    fn kept(&self, losses: &[f64]) -> Vec<usize> {
        let n = losses.len();
        if n <= self.params.max_trials {
            return (0..n).collect();
        }
        let latest = n - self.params.max_trials.div_ceil(2);
        let mut best: Vec<usize> = (0..latest).collect();
        best.sort_by(|&a, &b| losses[a].total_cmp(&losses[b]));
        best.truncate(self.params.max_trials / 2);
        best.sort_unstable();
        best.extend(latest..n);
        best
    }
}

/// The places of the trials of others that are running.
fn running(ask: &Ask<'_>, axes: &[Axis], open: &relative::Open) -> Vec<Vec<f64>> {
    let running = ask
        .history
        .open()
        .filter(|trial| trial.state == TrialState::Running && trial.id != ask.trial.id);
    let place = |trial: &Arc<FrozenTrial>| {
        let proposed = open.proposed("gp", trial);
        let place = |axis: &Axis| {
            let known = trial.params.get(&axis.name).map(|param| param.value);
            let value = known.or_else(|| proposed.value(&axis.name, &axis.distribution))?;
            Some(place_of(axis, value))
        };
        axes.iter().map(place).collect::<Option<Vec<f64>>>()
    };
    running.filter_map(place).collect()
}

/// The complete trials that have all parameters, in the order in which they became known.
fn complete<'a>(history: &'a History, axes: &[Axis]) -> Vec<&'a FrozenTrial> {
    let has_all = |trial: &&FrozenTrial| {
        trial.state == TrialState::Complete
            && axes.iter().all(|axis| trial.params.get(&axis.name).is_some())
    };
    history.finished().iter().map(|trial| &**trial).filter(has_all).collect()
}

fn places(axes: &[Axis], trial: &FrozenTrial) -> Vec<f64> {
    let value = |axis: &Axis| trial.params.get(&axis.name).map_or(0.0, |param| param.value);
    axes.iter().map(|axis| place_of(axis, value(axis))).collect()
}

/// One loss for each trial. Several objectives, each in units of its range, are weighed at random: the
/// worst weighted one counts, and a little their sum.
fn single_losses(
    trials: &[&FrozenTrial],
    directions: &[Direction],
    mut uniform: impl FnMut() -> f64,
) -> Vec<f64> {
    let all: Vec<Vec<f64>> = trials.iter().map(|trial| losses(trial, directions)).collect();
    let mut columns: Vec<Vec<f64>> = (0..directions.len())
        .map(|j| finite(all.iter().map(|losses| losses[j]).collect()))
        .collect();
    if columns.len() == 1 {
        return columns.swap_remove(0);
    }
    // Exponential draws, normalised: uniform over all weightings.
    let weights: Vec<f64> = columns.iter().map(|_| -(1.0 - uniform()).ln()).collect();
    let total: f64 = weights.iter().sum();
    let mut merged = vec![(f64::NEG_INFINITY, 0.0); trials.len()];
    for (column, weight) in columns.iter().zip(weights) {
        let low = column.iter().copied().fold(f64::INFINITY, f64::min);
        let high = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let width = if low < high { high - low } else { 1.0 };
        for ((worst, sum), value) in merged.iter_mut().zip(column) {
            let weighted = weight / total * (value - low) / width;
            *worst = weighted.max(*worst);
            *sum += weighted;
        }
    }
    merged.into_iter().map(|(worst, sum)| worst + 0.05 * sum).collect()
}

/// Infinities replaced by the least and the greatest finite value.
fn finite(mut values: Vec<f64>) -> Vec<f64> {
    let known = || values.iter().copied().filter(|x| x.is_finite());
    let (low, high) =
        (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 0.0) };
    for x in &mut values {
        *x = x.clamp(low, high);
    }
    values
}

/// Values with mean 0 and deviation 1, and what these were.
fn standardized(data: Data) -> (Data, f64, f64) {
    let y = finite(data.y);
    let n = y.len() as f64;
    let mean = y.iter().sum::<f64>() / n;
    let deviation = (y.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / n).sqrt();
    let deviation = if 0.0 < deviation && deviation.is_finite() { deviation } else { 1.0 };
    (Data { y: y.into_iter().map(|y| (y - mean) / deviation).collect(), ..data }, mean, deviation)
}

/// The number of trials, at most `n`, at which hyper-parameters are fitted.
fn checkpoint(n: usize, first: usize) -> usize {
    let mut at = first;
    while at + (at / 20).max(1) <= n {
        at += (at / 20).max(1);
    }
    at
}

/// The system attributes of constraints that any of the trials has.
fn constraint_names(trials: &[&FrozenTrial]) -> Vec<String> {
    let keys = trials.iter().flat_map(|trial| trial.system_attrs.keys());
    let mut names: Vec<String> =
        keys.filter(|key| key.starts_with("constraints:")).cloned().collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use mm_core::{FloatRange, IntRange, Suggest};

    use super::*;
    use crate::{MemoryStorage, Outcome, Study, pareto::hypervolume, study::Trial};

    fn branin(trial: &mut Trial) -> Result<f64> {
        use std::f64::consts::PI;
        let x = trial.float("x", FloatRange::new(-5.0, 10.0))?;
        let y = trial.float("y", FloatRange::new(0.0, 15.0))?;
        let a = y - 5.1 / (4.0 * PI * PI) * x * x + 5.0 / PI * x - 6.0;
        Ok(a * a + 10.0 * (1.0 - 1.0 / (8.0 * PI)) * x.cos() + 10.0)
    }

    fn study(seed: u64) -> Study {
        Study::in_memory(Direction::Minimize).with_sampler(GpSampler::default()).with_seed(seed)
    }

    fn best(study: &Study) -> f64 {
        study.best().expect("one objective").expect("complete").values[0]
    }

    /// The minimum is 0.397887; random search is at 0.7 or so after as many trials.
    #[test]
    fn a_smooth_function_needs_few_trials() {
        for seed in 0..3 {
            let study = study(seed);
            study.optimize(40, |trial| branin(trial).map(Outcome::from)).expect("memory");
            assert!(best(&study) < 0.40, "seed {seed}: {}", best(&study));
        }
    }

    #[test]
    fn categories_and_integers_belong_to_the_model() {
        let objective = |trial: &mut Trial| {
            let kind = trial.choose("kind", &["a", "b", "c"])?;
            let n = trial.int("n", IntRange::new(0, 40))? as f64;
            let rate = trial.float("rate", FloatRange::log(1e-4, 1.0))?;
            let shift = [0.0, 1.0, 2.0][kind];
            let loss = (rate.log10() + 2.0 + 0.5 * shift).powi(2) + (n - 30.0).powi(2) / 100.0;
            Ok((loss + 0.3 * shift).into())
        };
        let study = study(0);
        study.optimize(60, objective).expect("memory");
        assert!(best(&study) < 0.01, "{}", best(&study));
    }

    #[test]
    fn constraints_are_kept_where_the_best_breaks_them() {
        // The unconstrained minimum is at (0, 0), the constrained one at (0.5, 0.5).
        let study = study(1);
        let objective = |trial: &mut Trial| {
            let x = trial.float("x", FloatRange::new(-1.0, 1.0))?;
            let y = trial.float("y", FloatRange::new(-1.0, 1.0))?;
            trial.set_constraint("sum", 1.0 - x - y)?;
            Ok((x * x + y * y).into())
        };
        study.optimize(40, objective).expect("memory");
        let trials = study.trials().expect("memory");
        let sound = trials.iter().filter(|trial| trial.violation() <= 0.0);
        let best = sound.map(|trial| trial.values[0]).fold(f64::INFINITY, f64::min);
        assert!((0.5..0.52).contains(&best), "{best}");
    }

    #[test]
    fn several_objectives_spread_along_the_front() {
        let volume = |gp: bool| {
            let ways = [Direction::Minimize, Direction::Maximize];
            let storage = Arc::new(MemoryStorage::default());
            let study = Study::open(storage, "two", &ways).expect("new");
            let study = if gp {
                study.with_sampler(GpSampler::default())
            } else {
                study.with_sampler(crate::RandomSampler)
            };
            let objective = |trial: &mut Trial| {
                let x = trial.float("x", FloatRange::new(0.0, 1.0))?;
                let y = trial.float("y", FloatRange::new(-1.0, 1.0))?;
                Ok(vec![x + y * y, -(1.0 - x).powi(2) - y * y].into())
            };
            study.optimize(40, objective).expect("memory");
            let trials = study.trials().expect("memory");
            let points: Vec<_> = trials.iter().map(|t| losses(t, &ways)).collect();
            hypervolume(&points, &[2.0, 2.0])
        };
        assert!(volume(false) < volume(true), "{}, {}", volume(false), volume(true));
    }

    /// What a proposal is depends on the trials, not on whether the sampler saw them come.
    #[test]
    fn a_study_opened_again_goes_on_alike() {
        let objective = |trial: &mut Trial| branin(trial).map(Outcome::from);
        let whole = study(4);
        whole.optimize(30, objective).expect("memory");
        let first = study(4);
        first.optimize(21, objective).expect("memory");
        let again = Study::open(first.storage().clone(), first.name(), first.directions());
        let again = again.expect("there").with_sampler(GpSampler::default()).with_seed(4);
        again.optimize(9, objective).expect("memory");
        let values = |study: &Study| {
            let trials = study.trials().expect("memory");
            trials.iter().map(|t| t.values[0]).collect::<Vec<_>>()
        };
        assert_eq!(values(&whole), values(&again));
    }

    #[test]
    fn an_infinite_or_constant_loss_is_borne() {
        for value in [f64::INFINITY, 1.0] {
            let study = study(2);
            let objective = |trial: &mut Trial| {
                let x = trial.float("x", FloatRange::new(0.0, 1.0))?;
                Ok(if x < 0.5 { value } else { 1.0 }.into())
            };
            study.optimize(14, objective).expect("memory");
            assert_eq!(best(&study), 1.0);
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let none = GpParams { startup_trials: 0, ..GpParams::default() }.build();
        assert!(none.expect_err("0").to_string().contains("startup_trials"));
        let few = GpParams { max_trials: 5, ..GpParams::default() }.build();
        assert!(few.expect_err("5").to_string().contains("max_trials"));
    }

    #[test]
    fn of_many_trials_the_best_and_the_latest_are_kept() {
        let sampler = GpParams { max_trials: 20, ..GpParams::default() }.build().expect("sound");
        let losses: Vec<f64> = (0..30).map(f64::from).collect();
        assert_eq!(sampler.kept(&losses), (0..10).chain(20..30).collect::<Vec<_>>());
    }

    #[test]
    fn fits_are_rarer_the_more_trials_there_are() {
        assert!((10..=40).all(|n| checkpoint(n, 10) == n));
        let fits = |from: usize, to: usize| {
            let mut fits: Vec<usize> = (from..to).map(|n| checkpoint(n, 10)).collect();
            fits.dedup();
            fits.len()
        };
        assert_eq!((fits(40, 60), fits(400, 500)), (10, 6));
        assert!((41..500).all(|n| checkpoint(n, 10) <= n && n - checkpoint(n, 10) <= n / 20));
    }
}
