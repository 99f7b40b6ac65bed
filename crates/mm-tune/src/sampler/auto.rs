//! A sampler that picks another one by what the study is like.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use mm_core::Result;

use super::{
    Ask, CmaSampler, GpSampler, Proposal, Sampler, TpeParams, TpeSampler,
    space::{Axis, Shared},
};
use crate::{
    distribution::Distribution,
    history::History,
    trial::{FrozenTrial, TrialState},
};

/// Picks a sampler for each trial by what the study is like so far.
///
/// | study | sampler |
/// | --- | --- |
/// | parameters that some trials have and others not, or ranges that change | [`TpeSampler`] by groups |
/// | fewer than 250 complete trials | [`GpSampler`], with categories, too |
/// | more; one objective, numbers only, no constraint broken | [`CmaSampler`], begun from the first 250 |
/// | any other | [`TpeSampler`] |
///
/// That is a function of the trials alone, so workers agree. A Gaussian process finds more in the same
/// number of trials than the others do; when they are many it costs more than it is worth. (The automatic
/// sampler of Optuna's hub gives up its process as soon as a parameter is a category.)
#[derive(Debug)]
pub struct AutoSampler {
    gp: GpSampler,
    tpe: TpeSampler,
    state: Mutex<State>,
}

/// So many complete trials are proposed with a Gaussian process.
const MODELLED: usize = 250;

#[derive(Debug, Default)]
struct State {
    shared: Shared,
    n_read: usize,
    /// All parameters that any trial has and that vary.
    names: BTreeSet<Arc<str>>,
    /// The first complete trials.
    first: Vec<Arc<FrozenTrial>>,
    is_constrained: bool,
    cma: Option<Arc<CmaSampler>>,
}

/// What was picked.
enum Pick {
    Gp,
    Tpe,
    Cma(Arc<CmaSampler>),
}

impl Default for AutoSampler {
    fn default() -> Self {
        let params = TpeParams { group: true, ..TpeParams::default() };
        let tpe = params.build().unwrap_or_else(|_| unreachable!("sound defaults"));
        Self { gp: GpSampler::default(), tpe, state: Mutex::default() }
    }
}

impl State {
    fn read(&mut self, history: &History) {
        for trial in history.finished_since(self.n_read) {
            if !matches!(trial.state, TrialState::Complete | TrialState::Pruned) {
                continue;
            }
            let varying = trial.params.iter().filter(|param| !param.distribution.is_single());
            for param in varying {
                if !self.names.contains(&param.name) {
                    self.names.insert(param.name.clone());
                }
            }
            self.is_constrained |= 0.0 < trial.violation();
            if trial.state == TrialState::Complete && self.first.len() < MODELLED {
                self.first.push(trial.clone());
            }
        }
        self.n_read = self.n_read.max(history.finished().len());
    }
}

impl AutoSampler {
    fn pick(&self, ask: &Ask<'_>) -> Pick {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.read(ask.history);
        let State { shared, names, first, is_constrained, cma, .. } = &mut *state;
        let axes = shared.read(ask.history);
        if axes.len() < names.len() {
            return Pick::Tpe;
        }
        if first.len() < MODELLED {
            return Pick::Gp;
        }
        let &[direction] = ask.directions else { return Pick::Tpe };
        if *is_constrained || axes.is_empty() || axes.iter().any(Axis::is_categorical) {
            return Pick::Tpe;
        }
        let begun = || Arc::new(CmaSampler::default().with_source(first, direction));
        Pick::Cma(cma.get_or_insert_with(begun).clone())
    }
}

impl Sampler for AutoSampler {
    fn joint(&self, ask: &Ask<'_>) -> Result<Proposal> {
        match self.pick(ask) {
            Pick::Gp => self.gp.joint(ask),
            Pick::Tpe => self.tpe.joint(ask),
            Pick::Cma(cma) => cma.joint(ask),
        }
    }

    fn single(&self, ask: &Ask<'_>, name: &str, distribution: &Distribution) -> Result<f64> {
        match self.pick(ask) {
            Pick::Gp => self.gp.single(ask, name, distribution),
            Pick::Tpe => self.tpe.single(ask, name, distribution),
            Pick::Cma(cma) => cma.single(ask, name, distribution),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mm_core::{Direction, FloatRange, Suggest};

    use super::*;
    use crate::{Outcome, Param, ParamSet, Study, attrs::Attrs, study::Trial};

    /// Which sampler is picked for the next trial.
    fn picked(study: &Study) -> &'static str {
        let mut history = History::default();
        let record = study.storage().study(study.name()).expect("memory").expect("made");
        history.sync(&**study.storage(), record.id).expect("memory");
        let trial = study.ask().expect("memory");
        let (directions, trial) = (study.directions(), trial.frozen().clone());
        let ask = Ask { study: "study", directions, history: &history, trial: &trial, seed: 0 };
        match AutoSampler::default().pick(&ask) {
            Pick::Gp => "gp",
            Pick::Tpe => "tpe",
            Pick::Cma(_) => "cma",
        }
    }

    /// A study with complete trials of these distributions, as if they had been run.
    fn study(n: usize, distributions: &[(&str, Distribution)]) -> Study {
        let study = Study::in_memory(Direction::Minimize).with_sampler(AutoSampler::default());
        let record = study.storage().study(study.name()).expect("memory").expect("made");
        for i in 0..n {
            let value = (i as f64 * 0.618_034).fract();
            let param = |(name, distribution): &(&str, Distribution)| Param {
                name: (*name).into(),
                value: super::super::random::uniform(distribution, value),
                distribution: Arc::new(distribution.clone()),
            };
            let trial = FrozenTrial {
                id: crate::TrialId(0),
                number: 0,
                state: TrialState::Complete,
                values: vec![value * value],
                params: distributions.iter().map(param).collect::<ParamSet>(),
                intermediate: BTreeMap::new(),
                user_attrs: Attrs::new(),
                system_attrs: Attrs::new(),
                started: None,
                completed: None,
            };
            study.storage().create_trial(record.id, Some(&trial)).expect("memory");
        }
        study
    }

    #[test]
    fn the_study_decides_who_proposes() {
        let number = Distribution::Float(FloatRange::new(0.0, 1.0));
        let category = Distribution::Categorical(vec!["a".into(), "b".into()]);
        let numbers = [("x", number.clone()), ("y", number.clone())];
        let mixed = [("x", number), ("kind", category)];
        assert_eq!(picked(&study(0, &numbers)), "gp");
        assert_eq!(picked(&study(30, &numbers)), "gp");
        assert_eq!(picked(&study(30, &mixed)), "gp");
        assert_eq!(picked(&study(250, &numbers)), "cma");
        assert_eq!(picked(&study(250, &mixed)), "tpe");
    }

    #[test]
    fn a_conditional_space_is_for_groups() {
        let study = Study::in_memory(Direction::Minimize).with_sampler(AutoSampler::default());
        let objective = |trial: &mut Trial| -> Result<Outcome> {
            let kind = trial.choose("kind", &["a", "b"])?;
            let name = ["left", "right"][kind];
            Ok(trial.float(name, FloatRange::new(0.0, 1.0))?.into())
        };
        study.optimize(20, objective).expect("memory");
        assert_eq!(picked(&study), "tpe");
    }
}
