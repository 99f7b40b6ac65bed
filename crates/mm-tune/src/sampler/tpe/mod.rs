//! The tree-structured Parzen estimator.
//!
//! Trials are parted into the few good ones and the rest. Two densities are estimated over the
//! parameters, *l* of the good and *g* of the rest; candidates are drawn from *l*, and that with the
//! largest *l/g* is proposed, which for this model is the largest expected improvement (Bergstra,
//! Bardenet, Bengio, Kégl, *Algorithms for Hyper-Parameter Optimization*, NeurIPS 2011). Kernels,
//! bandwidths, weights and the order of trials follow Optuna 5.0; see Watanabe (2023),
//! *Tree-Structured Parzen Estimator: Understanding Its Algorithm Components*. With several objectives
//! the good are the first fronts, of the last one the subset that dominates most (Ozaki, Tanigaki,
//! Watanabe, Nomura, Onishi, *Multiobjective Tree-Structured Parzen Estimator*, JAIR 2022).

mod parzen;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mm_core::{ParamError, Result};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use self::{
    parzen::Weights,
    table::{Grouping, Running, Scratch, Table},
};
use super::{Ask, Proposal, Sampler, random::uniform, relative};
use crate::{distribution::Distribution, trial::TrialState};

/// How [`TpeSampler`] works.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `startup_trials` | 10 | any | so many trials are drawn at random before the model is used |
/// | `candidates` | 24 | ≥ 1 | candidates that are drawn from the density of the good |
/// | `multivariate` | `None` | | whether parameters are modelled together |
/// | `group` | off | not if `multivariate` is off | whether a conditional space falls into groups |
/// | `constant_liar` | on | | whether running trials count among the bad |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TpeParams {
    /// So many finished trials are drawn at random before the model is used.
    pub startup_trials: usize,
    /// How many candidates are drawn from the density of the good.
    pub candidates: usize,
    /// Whether parameters that every trial has are modelled together. If `None`, as in Optuna 5.0: in
    /// studies of one objective, and with `group`.
    pub multivariate: Option<bool>,
    /// Whether a conditional space is parted into the largest groups of parameters of which each trial
    /// has all or none, each modelled together; otherwise what not every trial has is modelled by
    /// itself.
    pub group: bool,
    /// Whether running trials count among the bad, so that workers keep apart.
    pub constant_liar: bool,
}

impl Default for TpeParams {
    fn default() -> Self {
        Self {
            startup_trials: 10,
            candidates: 24,
            multivariate: None,
            group: false,
            constant_liar: true,
        }
    }
}

impl TpeParams {
    /// Checks the fields.
    pub fn build(self) -> Result<TpeSampler, ParamError> {
        ParamError::ensure(1 <= self.candidates, "candidates", self.candidates, "at least 1")?;
        let sound = !(self.group && self.multivariate == Some(false));
        ParamError::ensure(sound, "group", "on", "off, where `multivariate` is off")?;
        Ok(TpeSampler { params: self, ..TpeSampler::default() })
    }
}

/// The tree-structured Parzen estimator, for one objective or several, with or without constraints.
///
/// O(n · d · candidates) a proposal for *n* trials of *d* parameters; what can be kept from one
/// proposal to the next is kept. One sampler serves one study.
///
/// In a storage that processes share, what was proposed jointly stands in the trial's system attributes
/// `tpe:relative_params:0`, …, where Optuna's workers look for it, too, while the trial is running.
#[derive(Debug, Default)]
pub struct TpeSampler {
    params: TpeParams,
    table: Mutex<Table>,
    open: Mutex<relative::Open>,
}

impl Sampler for TpeSampler {
    fn joint(&self, ask: &Ask<'_>) -> Result<Proposal> {
        let grouping = self.grouping(ask);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.read(ask.history, ask.directions, grouping);
        if table.rows.len() < self.params.startup_trials || table.blocks.is_empty() {
            return Ok(Proposal::default());
        }
        table.judge(ask.directions);
        let running = self.running(ask);
        let mut params: Vec<(Arc<str>, f64)> = Vec::new();
        let Table { blocks, scratch, rows, is_good, .. } = &mut *table;
        for (i, block) in blocks.iter_mut().enumerate() {
            block.estimate(is_good, rows, &running, weights(ask), scratch);
            // The name of no parameter.
            let purpose = format!("tpe\0{i}");
            let best = self.propose(ask, &purpose, scratch);
            params.extend(block.names.iter().cloned().zip(best));
        }
        let distributions = blocks.iter().flat_map(|block| &block.distributions);
        let mut notes = Vec::new();
        if self.params.constant_liar {
            self.open().note(ask.trial.id, &params, ask.history);
            if ask.history.is_shared() {
                notes = relative::notes("tpe", &params, distributions);
            }
        }
        Ok(Proposal { params, notes })
    }

    fn single(&self, ask: &Ask<'_>, name: &str, distribution: &Distribution) -> Result<f64> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.read(ask.history, ask.directions, self.grouping(ask));
        if table.rows.len() < self.params.startup_trials {
            return Ok(uniform(distribution, ask.rng(name).random()));
        }
        table.judge(ask.directions);
        let running = self.running(ask);
        let (block, rows, is_good, scratch) = table.alone(name, distribution);
        block.estimate(is_good, rows, &running, weights(ask), scratch);
        Ok(self.propose(ask, name, scratch)[0])
    }
}

impl TpeSampler {
    fn open(&self) -> MutexGuard<'_, relative::Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grouping(&self, ask: &Ask<'_>) -> Grouping {
        let TpeParams { multivariate, group, .. } = self.params;
        match multivariate.unwrap_or(group || ask.directions.len() == 1) {
            _ if group => Grouping::Groups,
            true => Grouping::Shared,
            false => Grouping::None,
        }
    }

    /// The trials of others that are running, if they count.
    fn running<'a>(&self, ask: &Ask<'a>) -> Vec<Running<'a>> {
        let running = ask.history.open().filter(|trial| {
            self.params.constant_liar
                && trial.state == TrialState::Running
                && trial.id != ask.trial.id
        });
        let open = self.open();
        running.map(|trial| Running { trial, proposed: open.proposed("tpe", trial) }).collect()
    }

    /// Of the candidates drawn from the good, that with the largest ratio of densities.
    fn propose(&self, ask: &Ask<'_>, purpose: &str, scratch: &mut Scratch) -> Vec<f64> {
        let Scratch { good, rest, .. } = scratch;
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

/// How the good weigh.
fn weights(ask: &Ask<'_>) -> Weights {
    if ask.directions.len() == 1 { Weights::ByAge } else { Weights::Equal }
}

#[cfg(test)]
mod tests {
    use mm_core::{Direction, FloatRange, IntRange, Suggest};

    use super::*;
    use crate::{
        History, Json, MemoryStorage, Outcome, Study,
        pareto::{hypervolume, losses},
        study::Trial,
    };

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
        let params = TpeParams { multivariate: Some(false), ..TpeParams::default() };
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

    /// `tests/fixtures/tpe.py`.
    #[test]
    fn good_and_rest_are_those_of_optuna() {
        let fixture = include_str!("../../../tests/fixtures/tpe.json");
        let fixture = Json::parse(fixture).expect("JSON");
        let list = |json: &Json| json.as_array().expect("a list").to_vec();
        let cases = list(fixture.get("splits").expect("splits"));
        assert_eq!(cases.len(), 18);
        for case in cases {
            let directions: Vec<Direction> = list(case.get("directions").expect("directions"))
                .iter()
                .map(|way| match way.as_str() {
                    Some("minimize") => Direction::Minimize,
                    _ => Direction::Maximize,
                })
                .collect();
            let storage = Arc::new(MemoryStorage::default());
            let study = Study::open(storage, "split", &directions).expect("new");
            for told in list(case.get("trials").expect("trials")) {
                let [values, reports, constraint] = &list(&told)[..] else { panic!("{told}") };
                let trial = study.ask().expect("memory");
                for (step, value) in (0..).zip(list(reports)) {
                    let value = value.as_f64().unwrap_or(f64::NAN);
                    trial.report(step, value).expect("memory");
                }
                let constraint = constraint.as_f64().expect("a number");
                trial.set_constraint("c", constraint).expect("memory");
                let outcome = match values {
                    Json::Null => Outcome::Pruned,
                    values => {
                        list(values).iter().filter_map(Json::as_f64).collect::<Vec<_>>().into()
                    }
                };
                study.tell(&trial, outcome).expect("memory");
            }
            let mut history = History::default();
            let record = study.storage().study("split").expect("memory").expect("made");
            history.sync(&**study.storage(), record.id).expect("memory");
            let mut table = Table::default();
            table.read(&history, &directions, Grouping::None);
            table.judge(&directions);
            let rows = table.rows.iter().zip(&table.is_good);
            let mut good: Vec<u64> =
                rows.filter(|(_, good)| **good).map(|(trial, _)| trial.number).collect();
            good.sort_unstable();
            let expected = list(case.get("good").expect("numbers"));
            let expected: Vec<u64> =
                expected.iter().filter_map(Json::as_i64).map(|number| number as u64).collect();
            assert_eq!(good, expected, "{directions:?}, {} trials", table.rows.len());
        }
    }

    /// A space of which one choice decides the rest.
    fn conditional(trial: &mut Trial) -> Result<Outcome> {
        let kind = trial.choose("kind", &["a", "b"])?;
        let loss = if kind == 0 {
            let x = trial.float("a.x", FloatRange::new(-5.0, 5.0))?;
            let y = trial.float("a.y", FloatRange::new(-5.0, 5.0))?;
            0.1 * ((x - 1.0).powi(2) + (x - y).powi(2))
        } else {
            2.0 + trial.float("b.x", FloatRange::new(-5.0, 5.0))?.powi(2)
        };
        Ok(loss.into())
    }

    #[test]
    fn a_conditional_space_falls_into_groups() {
        let params = TpeParams { group: true, ..TpeParams::default() };
        let sampler = params.build().expect("sound");
        let study = Study::in_memory(Direction::Minimize);
        study.optimize(30, conditional).expect("memory");
        let mut history = History::default();
        let record = study.storage().study(study.name()).expect("memory").expect("made");
        history.sync(&**study.storage(), record.id).expect("memory");
        let mut table = sampler.table.lock().expect("nobody panicked");
        table.read(&history, study.directions(), Grouping::Groups);
        let mut blocks: Vec<Vec<&str>> =
            table.blocks.iter().map(|b| b.names.iter().map(|name| &**name).collect()).collect();
        blocks.sort();
        assert_eq!(blocks, [vec!["a.x", "a.y"], vec!["b.x"], vec!["kind"]]);
    }

    #[test]
    fn groups_find_better_trials_than_chance_does() {
        let median = |sampler: &dyn Fn() -> Box<dyn Fn(Study) -> Study>| {
            let best = |seed| {
                let study = sampler()(Study::in_memory(Direction::Minimize)).with_seed(seed);
                study.optimize(60, conditional).expect("memory");
                study.best().expect("one objective").expect("complete").values[0]
            };
            let mut bests: Vec<f64> = (0..9).map(best).collect();
            bests.sort_by(f64::total_cmp);
            bests[4]
        };
        let random = median(&|| Box::new(|study| study.with_sampler(crate::RandomSampler)));
        let groups = median(&|| {
            let params = TpeParams { group: true, ..TpeParams::default() };
            Box::new(move |study| study.with_sampler(params.clone().build().expect("sound")))
        });
        assert!(groups < random, "{groups}, {random}");
    }

    /// What a running trial was proposed is seen before it has asked for it: by workers that share the
    /// sampler, and by those of other processes.
    #[test]
    fn workers_keep_apart_from_what_is_proposed() {
        let folder = std::env::temp_dir().join(format!("mm-tune-tpe-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let journal = crate::JournalStorage::open(folder.join("study.log")).expect("a journal");
        let storages: [Arc<dyn crate::Storage>; 2] =
            [Arc::new(MemoryStorage::default()), Arc::new(journal)];
        for storage in storages {
            let is_shared = storage.is_shared();
            let sampler = Arc::new(TpeSampler::default());
            let study = Study::open(storage, "apart", &[Direction::Minimize]).expect("new");
            let study = study.with_sampler(Shared(sampler.clone()));
            study.optimize(20, objective).expect("a storage");
            let _running = study.ask().expect("a storage");
            let other = if is_shared { Arc::new(TpeSampler::default()) } else { sampler };
            let trials = study.trials().expect("a storage");
            let running = other.open().proposed("tpe", trials.last().expect("it"));
            for param in &trials[0].params {
                let value = running.value(&param.name, &param.distribution).expect("proposed");
                assert!(param.distribution.contains(value), "{}: {value}", param.name);
            }
        }
        std::fs::remove_dir_all(folder).expect("there");
    }

    /// A sampler that a test looks into.
    #[derive(Debug)]
    struct Shared(Arc<TpeSampler>);

    impl Sampler for Shared {
        fn joint(&self, ask: &Ask<'_>) -> Result<Proposal> {
            self.0.joint(ask)
        }

        fn single(&self, ask: &Ask<'_>, name: &str, distribution: &Distribution) -> Result<f64> {
            self.0.single(ask, name, distribution)
        }
    }

    /// A point that went on to a higher rung is good or not as the higher rung has it, and counts once.
    #[test]
    fn trials_that_went_on_are_one_with_those_they_continue() {
        let study = Study::in_memory(Direction::Minimize);
        let end = |trial: &Trial, step: u64, value: f64| {
            trial.report(step, value).expect("memory");
            study.tell(trial, Outcome::Pruned).expect("memory");
        };
        for number in 0..10 {
            let mut trial = study.ask().expect("memory");
            trial.float("x", FloatRange::new(0.0, 1.0)).expect("memory");
            end(&trial, 100, f64::from(number));
        }
        // The sixth, and what comes of it, goes on twice; the third does, to no end.
        for (from, step) in [(5, Some(300)), (10, Some(900)), (2, None)] {
            let mut next = study.trials().expect("memory")[5].as_ref().clone();
            (next.state, next.intermediate) =
                (TrialState::Waiting, std::collections::BTreeMap::new());
            next.system_attrs.insert(crate::trial::FROM.to_owned(), Json::Int(from));
            study.add(&next).expect("memory");
            let trial = study.ask().expect("memory");
            match step {
                Some(step) => end(&trial, step, 50.0),
                None => drop(study.tell(&trial, Outcome::Pruned).expect("memory")),
            }
        }
        let mut history = History::default();
        let record = study.storage().study(study.name()).expect("memory").expect("made");
        history.sync(&**study.storage(), record.id).expect("memory");
        let mut table = Table::default();
        table.read(&history, study.directions(), Grouping::Shared);
        table.judge(study.directions());
        assert_eq!(table.rows.len(), 10);
        let good: Vec<u64> = table
            .rows
            .iter()
            .zip(&table.is_good)
            .filter_map(|(trial, good)| good.then_some(trial.number))
            .collect();
        assert_eq!(good, [5], "it came farthest");
        assert_eq!(table.rows[5].intermediate.keys().copied().collect::<Vec<_>>(), [900]);
    }

    /// Ten parameters of two objectives, one against the other along `x`.
    #[test]
    fn several_objectives_come_closer_to_the_front_than_chance_does() {
        let volume = |tpe: bool| -> f64 {
            let run = |seed| {
                let storage = Arc::new(MemoryStorage::default());
                let ways = [Direction::Minimize, Direction::Maximize];
                let study = Study::open(storage, "two", &ways).expect("new").with_seed(seed);
                let study = if tpe { study } else { study.with_sampler(crate::RandomSampler) };
                let objective = |trial: &mut Trial| {
                    let x = trial.float("x", FloatRange::new(0.0, 1.0))?;
                    let mut off = 0.0;
                    for i in 0..4 {
                        off += trial.float(&format!("y{i}"), FloatRange::new(0.0, 1.0))?;
                    }
                    Ok(vec![x + off, -(1.0 - x).powi(2) - off].into())
                };
                study.optimize(100, objective).expect("memory");
                let trials = study.trials().expect("memory");
                let points: Vec<_> = trials.iter().map(|t| losses(t, &ways)).collect();
                hypervolume(&points, &[5.0, 5.0])
            };
            (0..3).map(run).sum()
        };
        assert!(volume(false) < volume(true), "{}, {}", volume(false), volume(true));
    }
}
