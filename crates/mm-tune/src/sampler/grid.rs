//! Every combination of given values, once.

use std::collections::{BTreeMap, BTreeSet};

use mm_core::{Error, ParamError, Result};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{Ask, Proposal, Sampler};
use crate::{
    distribution::{Choice, Distribution},
    history::History,
    json::Json,
    trial::{FrozenTrial, TrialState},
};

/// Tries every combination of given values once, in an order that the study's seed shuffles; then
/// [`Study::optimize`](crate::Study::optimize) ends.
///
/// A trial notes which combination it has in the system attribute `grid_id`, beside the grid in
/// `search_space`, as Optuna does; its numbers are combinations in the order of names, the last one
/// fastest, so they are the same for every seed. (Optuna numbers them in shuffled order: workers of one
/// grid should be of one kind.) A combination counts as tried however its trial ended. Trials that are
/// asked for beyond the last combination repeat one.
///
/// O(1) a trial; O(trials) for those that begin after as many trials as there are combinations.
///
/// ```
/// use mm_core::{Direction, FloatRange, Suggest};
/// use mm_tune::{GridSampler, Study};
///
/// let grid = GridSampler::new([
///     ("rate", vec![0.1.into(), 0.3.into()]),
///     ("kind", vec!["a".into(), "b".into(), "c".into()]),
/// ])?;
/// let study = Study::in_memory(Direction::Minimize).with_sampler(grid);
/// study.optimize(100, |trial| {
///     let rate = trial.float("rate", FloatRange::new(0.0, 1.0))?;
///     let kind = trial.choose("kind", &["a", "b", "c"])?;
///     Ok((rate + kind as f64).into())
/// })?;
/// assert_eq!(study.trials()?.len(), 6);
/// # Ok::<(), mm_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct GridSampler {
    axes: BTreeMap<String, Vec<Choice>>,
    n_points: u32,
}

const ID: &str = "grid_id";
const SPACE: &str = "search_space";

impl GridSampler {
    /// The grid of all combinations of these values, by parameter. Values are external: what the
    /// objective sees.
    ///
    /// # Errors
    ///
    /// [`ParamError`] for a parameter without values and for more than 2³² − 1 combinations.
    pub fn new<K: Into<String>>(
        axes: impl IntoIterator<Item = (K, Vec<Choice>)>,
    ) -> Result<Self, ParamError> {
        let axes: BTreeMap<String, Vec<Choice>> =
            axes.into_iter().map(|(name, values)| (name.into(), values)).collect();
        let mut n_points = 1_u32;
        for (name, values) in &axes {
            ParamError::ensure(!values.is_empty(), name, "no values", "at least one")?;
            let product = u32::try_from(values.len()).ok().and_then(|n| n_points.checked_mul(n));
            n_points = product.ok_or_else(|| {
                ParamError::new(name, values.len(), "fewer than 2³² combinations")
            })?;
        }
        Ok(Self { axes, n_points })
    }

    /// How many combinations there are.
    pub fn n_points(&self) -> u32 {
        self.n_points
    }

    /// The value of a parameter in a combination.
    fn value(&self, id: u32, name: &str) -> Option<&Choice> {
        let mut left = id;
        for (axis, values) in self.axes.iter().rev() {
            let n = values.len() as u32;
            if axis == name {
                return values.get((left % n) as usize);
            }
            left /= n;
        }
        None
    }

    /// The combination that a trial of this grid has.
    fn id(&self, trial: &FrozenTrial) -> Option<u32> {
        let id = trial.system_attrs.get(ID)?.as_i64()?;
        let space = trial.system_attrs.get(SPACE)?.as_object()?;
        let is_same = space.len() == self.axes.len()
            && self.axes.iter().all(|(name, values)| {
                let other = space.get(name).and_then(Json::as_array);
                other.is_some_and(|other| {
                    let other = other.iter().map(|value| Choice::try_from(value).ok());
                    values.iter().cloned().map(Some).eq(other)
                })
            });
        u32::try_from(id).ok().filter(|&id| is_same && id < self.n_points)
    }

    /// The combinations that are tried, and those that are being tried or wait for it.
    fn taken(&self, history: &History) -> [BTreeSet<u32>; 2] {
        let finished = history.finished().iter().filter_map(|trial| self.id(trial));
        let open = history.open().filter_map(|trial| self.id(trial));
        [finished.collect(), open.collect()]
    }

    /// The combinations in the order of a seed.
    fn order(&self, seed: u64) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.n_points).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        order
    }
}

impl Sampler for GridSampler {
    fn joint(&self, ask: &Ask<'_>) -> Result<Proposal> {
        let attrs = &ask.trial.system_attrs;
        if attrs.contains_key(ID) || attrs.contains_key("fixed_params") {
            return Ok(Proposal::default());
        }
        let mut order = self.order(ask.seed);
        let place = usize::try_from(ask.trial.number).unwrap_or(usize::MAX);
        let id = if let Some(&id) = order.get(place) {
            id
        } else {
            // Earlier trials had other plans, or failed to say: what is not begun, then what is not
            // ended, then anything; from a place of its own, so that workers keep apart.
            let [finished, open] = self.taken(ask.history);
            let start = place % order.len();
            order.rotate_left(start);
            let unbegun = order.iter().find(|&id| !finished.contains(id) && !open.contains(id));
            let unended = || order.iter().find(|&id| !finished.contains(id));
            *unbegun.or_else(unended).unwrap_or(&order[0])
        };
        let list = |values: &Vec<Choice>| Json::Array(values.iter().map(Json::from).collect());
        let space = self.axes.iter().map(|(name, values)| (name.clone(), list(values))).collect();
        let notes = vec![
            (SPACE.to_owned(), Json::Object(space)),
            (ID.to_owned(), Json::Int(i64::from(id))),
        ];
        Ok(Proposal { params: Vec::new(), notes })
    }

    /// # Errors
    ///
    /// [`Error::Data`] for a parameter that the grid does not have, or one that an enqueued trial does
    /// not fix; [`Error::Param`] for a value that the distribution does not admit.
    fn single(&self, ask: &Ask<'_>, name: &str, distribution: &Distribution) -> Result<f64> {
        let id = self.id(ask.trial).ok_or_else(|| {
            let expected = "a combination of the grid, or all parameters fixed when it is enqueued";
            Error::data(format!("trial {}", ask.trial.number), expected, "neither")
        })?;
        let value = self.value(id, name).ok_or_else(|| {
            let names = self.axes.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Error::data("parameters of the grid", format!("`{name}` among them"), names)
        })?;
        Ok(distribution.internal(name, &Json::from(value))?)
    }

    fn is_exhausted(&self, history: &History) -> bool {
        let has_all = |ids: &BTreeSet<u32>| ids.len() == self.n_points as usize;
        if history.finished().len() + history.open().count() < self.n_points as usize {
            return false;
        }
        let open = |trial: &FrozenTrial| trial.state == TrialState::Running;
        let [mut taken, _] = self.taken(history);
        let running = history.open().filter(|trial| open(trial));
        taken.extend(running.filter_map(|trial| self.id(trial)));
        has_all(&taken)
    }
}

#[cfg(test)]
mod tests {
    use mm_core::{Direction, FloatRange, IntRange, Suggest};

    use super::*;
    use crate::{Outcome, Study, study::Trial};

    fn grid() -> GridSampler {
        let axes =
            [("x", vec![0.5.into(), 0.25.into()]), ("n", vec![1.into(), 2.into(), 3.into()])];
        GridSampler::new(axes).expect("sound")
    }

    fn objective(trial: &mut Trial) -> Result<Outcome> {
        let x = trial.float("x", FloatRange::new(0.0, 1.0))?;
        let n = trial.int("n", IntRange::new(1, 9))?;
        Ok((x * n as f64).into())
    }

    fn values(study: &Study) -> Vec<u64> {
        let trials = study.trials().expect("memory");
        let mut values: Vec<u64> = trials.iter().map(|t| (t.values[0] * 100.0) as u64).collect();
        values.sort_unstable();
        values
    }

    #[test]
    fn every_combination_is_tried_once_and_then_it_ends() {
        for jobs in [1, 3] {
            let study = Study::in_memory(Direction::Minimize).with_sampler(grid()).with_jobs(jobs);
            study.optimize(100, objective).expect("memory");
            assert_eq!(values(&study), [25, 50, 50, 75, 100, 150], "{jobs} jobs");
        }
    }

    #[test]
    fn trials_of_other_plans_do_not_cost_a_combination() {
        let study = Study::in_memory(Direction::Minimize).with_sampler(grid()).with_seed(1);
        study.enqueue([("x", 1.0.into()), ("n", Json::Int(9))]).expect("memory");
        study.optimize(100, objective).expect("memory");
        assert_eq!(values(&study), [25, 50, 50, 75, 100, 150, 900]);
    }

    #[test]
    fn a_study_goes_on_where_it_was() {
        let study = Study::in_memory(Direction::Minimize).with_sampler(grid());
        study.optimize(4, objective).expect("memory");
        let again = Study::open(study.storage().clone(), study.name(), study.directions());
        let again = again.expect("there").with_sampler(grid());
        again.optimize(100, objective).expect("memory");
        assert_eq!(values(&again), [25, 50, 50, 75, 100, 150]);
    }

    #[test]
    fn what_the_grid_does_not_have_is_refused() {
        let none = GridSampler::new([("x", Vec::new())]).expect_err("no values").to_string();
        assert!(none.contains("`x`"), "{none}");
        let study = Study::in_memory(Direction::Minimize).with_sampler(grid());
        let mut trial = study.ask().expect("memory");
        let unknown = trial.float("y", FloatRange::new(0.0, 1.0)).expect_err("unknown").to_string();
        assert!(unknown.contains("`y` among them") && unknown.contains("n, x"), "{unknown}");
        let outside = trial.float("x", FloatRange::new(2.0, 3.0)).expect_err("outside").to_string();
        assert!(outside.contains("`x`"), "{outside}");
    }
}
