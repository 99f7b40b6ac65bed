//! Parameters drawn together, and looked at, before any of them is written down.

use std::sync::Arc;

use mm_core::{FloatRange, IntRange, Result, Suggest};

use crate::{
    distribution::{Choice, Distribution},
    sampler::Proposal,
    storage::Write,
    study::Trial,
    trial::{FrozenTrial, Param, ParamSet, TrialState},
};

/// So often a trial that is like another is drawn anew.
const TRIES: u64 = 20;

/// A trial's parameters as they would be.
struct Draft<'a> {
    trial: &'a Trial,
    frozen: FrozenTrial,
    joint: Vec<(Arc<str>, f64)>,
    seed: u64,
    new: Vec<Param>,
}

impl Draft<'_> {
    fn suggest(&mut self, name: &str, distribution: Distribution) -> Result<f64> {
        let drawn = self.trial.propose(&self.frozen, &self.joint, self.seed, name, distribution)?;
        let (param, is_new) = drawn;
        let value = param.value;
        if is_new {
            self.frozen.params.insert(param.clone());
            self.new.push(param);
        }
        Ok(value)
    }
}

impl Suggest for Draft<'_> {
    fn float(&mut self, name: &str, range: FloatRange) -> Result<f64> {
        self.suggest(name, Distribution::Float(range))
    }

    fn int(&mut self, name: &str, range: IntRange) -> Result<i64> {
        Ok(self.suggest(name, Distribution::Int(range))? as i64)
    }

    fn choose(&mut self, name: &str, choices: &[&str]) -> Result<usize> {
        let choices = choices.iter().map(|&text| Choice::from(text)).collect();
        Ok(self.suggest(name, Distribution::Categorical(choices))? as usize)
    }
}

impl Trial {
    /// Draws all parameters of a search space, and writes them down in one step.
    ///
    /// In a study [without duplicates](crate::Study::without_duplicates) a point that another trial
    /// has already, be it complete, pruned, or running, is drawn anew, up to 20 times; then, as when
    /// a space has nothing else left, it stands. What was enqueued is never drawn anew.
    ///
    /// ```
    /// use mm_core::{Direction, IntRange};
    /// use mm_tune::{RandomSampler, Study};
    ///
    /// let study = Study::in_memory(Direction::Minimize).with_sampler(RandomSampler);
    /// let study = study.without_duplicates();
    /// study.optimize(10, |trial| {
    ///     let n = trial.draw(|space| space.int("n", IntRange::new(1, 10)))?;
    ///     Ok(((n - 3) as f64).abs().into())
    /// })?;
    /// assert_eq!(study.best()?.map(|trial| trial.values[0]), Some(0.0)); // All ten were tried.
    /// # Ok::<(), mm_core::Error>(())
    /// ```
    pub fn draw<T>(&self, space: impl Fn(&mut dyn Suggest) -> Result<T>) -> Result<T> {
        let own = self.frozen().clone();
        let fixed = self.has_fixed() || !own.params.is_empty();
        for attempt in 0.. {
            let seed = self.study().seed_of(attempt);
            let Proposal { params: joint, notes } = match attempt {
                0 => Proposal { params: self.joint().to_vec(), notes: Vec::new() },
                _ => self.propose_joint(&own, seed)?,
            };
            let new = Vec::new();
            let mut draft = Draft { trial: self, frozen: own.clone(), joint, seed, new };
            let drawn = space(&mut draft)?;
            let Draft { frozen, new, .. } = draft;
            let again = attempt < TRIES && !fixed && self.study().is_without_duplicates();
            if again && self.twin_of(&frozen.params).is_some() {
                continue;
            }
            let writes = new.iter().cloned().map(Write::from);
            // What the sampler noted of an earlier attempt no longer holds.
            let noted = notes.iter().map(|(key, x)| Write::SystemAttr(key.clone(), x.clone()));
            let writes: Vec<Write> = writes.chain(noted).collect();
            if !writes.is_empty() {
                self.study().storage().write(own.id, &writes)?;
            }
            let mut own = self.frozen();
            for param in new {
                own.params.insert(param);
            }
            own.system_attrs.extend(notes);
            self.study().note(own.clone());
            return Ok(drawn);
        }
        unreachable!("the last attempt returns")
    }

    /// Another trial with the same parameters, if there is one: a complete one sooner than one that
    /// was pruned or is running. Failed ones do not count.
    pub fn twin(&self) -> Option<Arc<FrozenTrial>> {
        let own = self.frozen().params.clone();
        self.twin_of(&own)
    }

    fn twin_of(&self, params: &ParamSet) -> Option<Arc<FrozenTrial>> {
        let id = self.frozen().id;
        let same = |other: &ParamSet| {
            let pairs = || params.iter().zip(other);
            params.len() == other.len()
                && pairs().all(|(a, b)| a.name == b.name && a.value == b.value)
        };
        self.study().with_history(|history| {
            let all = history.finished().iter().chain(history.open());
            let mut twins = all.filter(|other| {
                other.id != id && other.state != TrialState::Fail && same(&other.params)
            });
            let first = twins.next()?;
            let complete = std::iter::once(first)
                .chain(twins)
                .find(|other| other.state == TrialState::Complete);
            Some(complete.unwrap_or(first).clone())
        })
    }
}
