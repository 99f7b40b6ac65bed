//! Which trials are best when there are several objectives, and what later studies gain from earlier
//! ones.

use std::sync::Arc;

use mm_core::{Error, Result};

use crate::{
    distribution::Distribution,
    json::Json,
    pareto::{fronts, losses},
    study::Study,
    trial::{FrozenTrial, Param, TrialState},
};

impl Study {
    /// The complete trials that keep their constraints and that no other such trial dominates, by
    /// number: the Pareto front. Trials of equal values stay together. O(*n*²) for *n* trials.
    ///
    /// ```
    /// use mm_core::{Direction::{Maximize, Minimize}, IntRange, Suggest};
    /// use mm_tune::{MemoryStorage, Study};
    ///
    /// let storage = std::sync::Arc::new(MemoryStorage::default());
    /// let study = Study::open(storage, "cost and gain", &[Minimize, Maximize])?;
    /// study.optimize(20, |trial| {
    ///     let n = trial.int("n", IntRange::new(1, 100))? as f64;
    ///     Ok(vec![n, (n / 2.0).floor()].into())
    /// })?;
    /// assert!(!study.best_trials()?.is_empty());
    /// # Ok::<(), mm_core::Error>(())
    /// ```
    pub fn best_trials(&self) -> Result<Vec<Arc<FrozenTrial>>> {
        let mut trials = self.trials()?;
        trials.retain(|trial| {
            trial.state == TrialState::Complete
                && trial.values.len() == self.directions().len()
                && trial.violation() == 0.0
        });
        let front = fronts(&self.losses(&trials), 1).into_iter().next().unwrap_or_default();
        Ok(front.into_iter().map(|i| trials[i].clone()).collect())
    }

    fn losses(&self, trials: &[Arc<FrozenTrial>]) -> Vec<Vec<f64>> {
        trials.iter().map(|trial| losses(trial, self.directions())).collect()
    }

    /// Enqueues the parameters of the best `n` trials of an earlier study, which may have been of
    /// other data: they are evaluated anew here, before anything is sampled. Trials of the same
    /// parameters count once. Of several objectives, front after front. How many were enqueued.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if the studies differ in their directions.
    pub fn warm_start(&self, earlier: &Self, n: usize) -> Result<usize> {
        if earlier.directions() != self.directions() {
            let place = format!("directions of study `{}`", earlier.name());
            let (expected, got) = (self.directions(), earlier.directions());
            return Err(Error::data(place, format!("{expected:?}"), format!("{got:?}")));
        }
        let mut left = earlier.trials()?;
        left.retain(|t| t.state == TrialState::Complete && !t.params.is_empty());
        let mut enqueued: Vec<Vec<(String, u64)>> = Vec::new();
        // Those that keep their constraints come first, front after front.
        left.sort_by(|a, b| a.violation().total_cmp(&b.violation()));
        for able in left.chunk_by(|a, b| a.violation() == b.violation()) {
            for i in fronts(&self.losses(able), able.len()).into_iter().flatten() {
                let key = |param: &Param| (param.name.to_string(), param.value.to_bits());
                let point: Vec<_> = able[i].params.iter().map(key).collect();
                if enqueued.len() < n && !enqueued.contains(&point) {
                    self.enqueue(able[i].params.iter().map(external))?;
                    enqueued.push(point);
                }
            }
        }
        Ok(enqueued.len())
    }
}

/// A parameter as its user sees it.
fn external(param: &Param) -> (String, Json) {
    let value = match &*param.distribution {
        Distribution::Float(_) => Json::Float(param.value),
        Distribution::Int(_) => Json::Int(param.value as i64),
        Distribution::Categorical(choices) => {
            choices.get(param.value as usize).map_or(Json::Null, Json::from)
        }
    };
    (param.name.to_string(), value)
}

#[cfg(test)]
mod tests {
    use mm_core::{Direction, FloatRange, Suggest as _};
    use proptest::prelude::*;

    use super::*;
    use crate::{MemoryStorage, Outcome, Trial, pareto::dominates};

    const BOTH: [Direction; 2] = [Direction::Minimize, Direction::Maximize];

    fn study(values: &[(i8, i8)]) -> Study {
        let study = Study::open(Arc::new(MemoryStorage::default()), "s", &BOTH).expect("memory");
        let objective = |trial: &mut Trial| {
            let (a, b) = values[trial.number() as usize];
            trial.float("x", FloatRange::new(0.0, 1.0))?;
            Ok(Outcome::Values(vec![f64::from(a), f64::from(b)]))
        };
        study.optimize(values.len(), objective).expect("memory");
        study
    }

    proptest! {
        /// Nothing on the front dominates another of it, and something on it dominates or equals
        /// whatever is not.
        #[test]
        fn the_front_is_what_nothing_dominates(
            values in prop::collection::vec((-4_i8..4, -4_i8..4), 1..30),
        ) {
            let study = study(&values);
            let front = study.best_trials().expect("memory");
            prop_assert!(!front.is_empty());
            for trial in study.trials().expect("memory") {
                let own = losses(&trial, &BOTH);
                let beaten = front.iter().any(|f| dominates(&losses(f, &BOTH), &own));
                prop_assert_eq!(beaten, !front.iter().any(|f| f.id == trial.id));
            }
        }
    }

    #[test]
    fn a_trial_that_breaks_a_constraint_is_not_on_the_front() {
        let study = study(&[(1, 1)]);
        let trial = study.ask().expect("memory");
        trial.set_constraint("size", 1.0).expect("a number");
        study.tell(&trial, vec![0.0, 2.0].into()).expect("memory");
        let front = study.best_trials().expect("memory");
        assert_eq!(front.iter().map(|trial| trial.number).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn a_warm_start_tries_the_best_of_the_earlier_study_first() {
        let earlier = study(&[(3, 3), (1, 2), (2, 1), (0, 4), (0, 4)]);
        let later = study(&[]);
        assert_eq!(later.warm_start(&earlier, 3).expect("memory"), 3);
        let x = |study: &Study, i: usize| {
            study.trials().expect("memory")[i].params.get("x").expect("drawn").value
        };
        for from in [3, 4, 0] {
            let mut trial = later.ask().expect("memory");
            let got = trial.float("x", FloatRange::new(0.0, 1.0)).expect("fixed");
            assert_eq!(got, x(&earlier, from));
        }
        let other = Study::in_memory(Direction::Minimize);
        assert!(other.warm_start(&earlier, 1).is_err());
    }
}
