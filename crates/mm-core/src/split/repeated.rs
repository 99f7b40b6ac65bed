//! A splitter several times over.

use serde::{Deserialize, Serialize};

use super::{Fold, Splitter};
use crate::{
    context::FitContext,
    data::Dataset,
    error::{ParamError, Result},
};

/// The folds of another splitter, `times` over, each time with a seed of its own: the average over
/// them varies less with the seed. Each row is then tested more than once.
///
/// A splitter that does not shuffle gives the same folds each time; [`SplitPlan::check`] refuses to
/// repeat one.
///
/// | field | domain | effect |
/// | --- | --- | --- |
/// | `of` | any splitter | what is repeated |
/// | `times` | 1 to 1000 | how often |
///
/// [`SplitPlan::check`]: super::SplitPlan::check
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Repeated<S = Box<dyn Splitter>> {
    /// What is repeated.
    pub of: S,
    /// How often.
    pub times: usize,
}

impl<S> Repeated<S> {
    /// `of`, `times` over.
    pub fn new(of: S, times: usize) -> Self {
        Self { of, times }
    }

    /// Checks `times`.
    pub fn check(&self) -> Result<(), ParamError> {
        let ok = (1..=1000).contains(&self.times);
        ParamError::ensure(ok, "times", self.times, "from 1 to 1000")
    }
}

impl<S: Splitter> Splitter for Repeated<S> {
    fn split(&self, data: &Dataset, seed: u64) -> Result<Vec<Fold>> {
        self.check()?;
        let root = FitContext::seeded(seed);
        let mut folds = Vec::new();
        for time in 0..self.times {
            folds.extend(self.of.split(data, root.fork(time as u64).seed)?);
        }
        Ok(folds)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{KFold, laws::plain},
        *,
    };

    #[test]
    fn each_time_is_shuffled_anew() {
        let data = plain(30);
        let folds = Repeated::new(KFold::new(3), 4).split(&data, 1).expect("enough rows");
        assert_eq!(folds.len(), 12);
        for i in 0..12 {
            for j in 0..i {
                assert_ne!(folds[i].test, folds[j].test, "folds {i} and {j}");
            }
        }
        let seed = FitContext::seeded(1).fork(2).seed;
        assert_eq!(folds[6..9], KFold::new(3).split(&data, seed).expect("enough rows"));
    }

    #[test]
    fn no_time_at_all_is_refused() {
        let none: Repeated = Repeated::new(Box::new(KFold::new(3)), 0);
        let err = none.split(&plain(9), 0).expect_err("0 < 1");
        assert_eq!(err.to_string(), "parameter `times` is 0; expected from 1 to 1000");
    }
}
