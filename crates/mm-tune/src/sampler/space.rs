//! The unit cube of the parameters that all trials have: what samplers with a geometry work in.

use std::sync::Arc;

use mm_core::{FloatRange, IntRange};

use super::random::uniform;
use crate::{
    distribution::Distribution,
    history::History,
    trial::{ParamSet, TrialState},
};

/// A parameter as one axis from 0 to 1, on which the distribution is uniform: on a log scale the
/// logarithm is, and each value of a discrete parameter has a cell around it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    pub(crate) name: Arc<str>,
    pub(crate) distribution: Arc<Distribution>,
}

impl Axis {
    /// The admitted value, in internal form, whose cell holds `u`; bounds take what lies beyond.
    pub(super) fn value(&self, u: f64) -> f64 {
        uniform(&self.distribution, u.clamp(0.0, 1.0))
    }

    /// The place of an internal value: the middle of its cell, except that cells of a log scale are
    /// wider on the left.
    pub(crate) fn unit(&self, value: f64) -> f64 {
        let (low, high) = self.ends();
        let u = match &*self.distribution {
            Distribution::Categorical(_) => (value + 0.5 - low) / (high - low),
            _ => (self.scale(value) - low) / (high - low),
        };
        // A range of one value has no width.
        if u.is_finite() { u.clamp(0.0, 1.0) } else { 0.5 }
    }

    /// How many values there are, if they can be counted.
    pub(super) fn n_values(&self) -> Option<u64> {
        match &*self.distribution {
            Distribution::Float(FloatRange { low, high, step, .. }) => {
                step.map(|step| ((high - low) / step).round() as u64 + 1)
            }
            Distribution::Int(IntRange { low, high, step, .. }) => {
                Some(high.abs_diff(*low) / *step as u64 + 1)
            }
            Distribution::Categorical(choices) => Some(choices.len() as u64),
        }
    }

    /// The `i`-th value from below, in internal form.
    pub(super) fn nth(&self, i: u64) -> f64 {
        match &*self.distribution {
            Distribution::Float(FloatRange { low, high, step, .. }) => {
                (low + i as f64 * step.unwrap_or(0.0)).min(*high)
            }
            Distribution::Int(IntRange { low, step, .. }) => {
                low.saturating_add_unsigned(i * *step as u64) as f64
            }
            Distribution::Categorical(_) => i as f64,
        }
    }

    pub(super) fn is_categorical(&self) -> bool {
        matches!(&*self.distribution, Distribution::Categorical(_))
    }

    /// The inner borders of the cell that holds `u`: none on a side where the cell is the last one.
    /// `None` for a continuous parameter.
    pub(super) fn cell(&self, u: f64) -> Option<[Option<f64>; 2]> {
        let half = match &*self.distribution {
            Distribution::Float(FloatRange { step, .. }) => step.as_ref()? / 2.0,
            Distribution::Int(IntRange { step, .. }) => *step as f64 / 2.0,
            Distribution::Categorical(_) => return None,
        };
        let (low, high) = self.ends();
        let value = self.value(u);
        let border = |x: f64| Some((self.scale(x) - low) / (high - low)).filter(|b| is_inner(*b));
        Some([border(value - half), border(value + half)])
    }

    fn scale(&self, x: f64) -> f64 {
        match &*self.distribution {
            Distribution::Float(FloatRange { log: true, .. })
            | Distribution::Int(IntRange { log: true, .. }) => x.ln(),
            _ => x,
        }
    }

    /// Where 0 and 1 are, on the scale: half a step beyond a discrete range.
    fn ends(&self) -> (f64, f64) {
        let (low, high, half) = match &*self.distribution {
            Distribution::Float(FloatRange { low, high, step, .. }) => {
                (*low, *high, step.unwrap_or(0.0) / 2.0)
            }
            Distribution::Int(IntRange { low, high, step, .. }) => {
                (*low as f64, *high as f64, *step as f64 / 2.0)
            }
            Distribution::Categorical(choices) => return (0.0, choices.len() as f64),
        };
        (self.scale(low - half), self.scale(high + half))
    }
}

/// Whether a border lies within the unit interval, beyond rounding.
fn is_inner(border: f64) -> bool {
    1e-12 < border && border < 1.0 - 1e-12
}

/// The parameters that every complete or pruned trial has from equal distributions, by name; those
/// with only one value are left out.
#[derive(Debug, Default)]
pub(super) struct Shared {
    n_read: usize,
    axes: Option<Vec<Axis>>,
}

impl Shared {
    /// Reads the trials that have finished since. O(new trials · parameters).
    pub(super) fn read(&mut self, history: &History) -> &[Axis] {
        for trial in history.finished_since(self.n_read) {
            if !matches!(trial.state, TrialState::Complete | TrialState::Pruned) {
                continue;
            }
            if let Some(axes) = &mut self.axes {
                axes.retain(|axis| {
                    let param = trial.params.get(&axis.name);
                    param.is_some_and(|param| param.distribution == axis.distribution)
                });
            } else {
                let varying = trial.params.iter().filter(|param| !param.distribution.is_single());
                let axis = |param: &crate::trial::Param| Axis {
                    name: param.name.clone(),
                    distribution: param.distribution.clone(),
                };
                self.axes = Some(varying.map(axis).collect());
            }
        }
        self.n_read = self.n_read.max(history.finished().len());
        self.axes.as_deref().unwrap_or_default()
    }
}

/// The place of a trial, if it has all parameters.
pub(super) fn place(axes: &[Axis], params: &ParamSet) -> Option<Vec<f64>> {
    axes.iter().map(|axis| Some(axis.unit(params.get(&axis.name)?.value))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn axes() -> Vec<Axis> {
        let distributions = [
            Distribution::Float(FloatRange::new(-2.0, 5.0)),
            Distribution::Float(FloatRange::log(1e-5, 10.0)),
            Distribution::Float(FloatRange::new(0.25, 2.0).step(0.25)),
            Distribution::Int(IntRange::new(-3, 40)),
            Distribution::Int(IntRange::new(1, 21).step(5)),
            Distribution::Int(IntRange::log(2, 1024)),
            Distribution::Categorical((0..5).map(crate::Choice::Int).collect()),
        ];
        let axis = |distribution| Axis { name: "x".into(), distribution: Arc::new(distribution) };
        distributions.map(axis).to_vec()
    }

    proptest! {
        /// A value's place stands for that value, and its cell holds it and ends where another begins.
        #[test]
        fn places_and_values_go_together(u in 0.0_f64..1.0) {
            for axis in axes() {
                let value = axis.value(u);
                let place = axis.unit(value);
                // 1e-9: a logarithm and its inverse.
                prop_assert!((axis.value(place) - value).abs() <= 1e-9 * value.abs(), "{axis:?}");
                let Some([below, above]) = axis.cell(u) else {
                    prop_assert!(axis.is_categorical() || (place - u).abs() < 1e-9);
                    continue;
                };
                let (left, right) = (below.unwrap_or(0.0), above.unwrap_or(1.0));
                prop_assert!(left - 1e-9 <= u && u <= right + 1e-9, "{axis:?}: {left}, {u}, {right}");
                for (border, step) in [(below, -1e-9), (above, 1e-9)] {
                    let Some(border) = border else { continue };
                    prop_assert_ne!(axis.value(border + step), value, "{:?}", axis);
                }
            }
        }

        #[test]
        fn values_are_counted_from_below(share in 0.0_f64..1.0) {
            for axis in axes() {
                let Some(n) = axis.n_values() else { continue };
                let i = (share * n as f64) as u64;
                prop_assert_eq!(axis.value(axis.unit(axis.nth(i))), axis.nth(i));
            }
        }
    }
}
