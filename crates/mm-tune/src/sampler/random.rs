//! Parameters drawn independently of everything.

use mm_core::{FloatRange, IntRange, Result};
use rand::RngExt;

use super::{Ask, Sampler};
use crate::distribution::Distribution;

/// Draws each parameter uniformly: over the range, over its logarithm, or over the choices.
///
/// The baseline of every comparison, and what model-based samplers begin with (Bergstra & Bengio,
/// *Random Search for Hyper-Parameter Optimization*, JMLR 2012). O(1) a parameter.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomSampler;

impl Sampler for RandomSampler {
    fn single(&self, ask: &Ask<'_>, name: &str, distribution: &Distribution) -> Result<f64> {
        Ok(uniform(distribution, ask.rng(name).random()))
    }
}

/// The value of `distribution` at `u` in [0, 1), where equal lengths are equally likely: a stepped
/// range reaches half a step beyond its ends, so that its ends are as likely as the rest.
pub(crate) fn uniform(distribution: &Distribution, u: f64) -> f64 {
    match distribution {
        Distribution::Float(FloatRange { low, high, step: None, log: false }) => {
            (low + u * (high - low)).clamp(*low, *high)
        }
        Distribution::Float(FloatRange { low, high, step: None, log: true }) => {
            let (a, b) = (low.ln(), high.ln());
            (a + u * (b - a)).exp().clamp(*low, *high)
        }
        Distribution::Float(FloatRange { low, high, step: Some(step), .. }) => {
            let steps = ((high - low) / step).round();
            (low + (u * (steps + 1.0)).floor().min(steps) * step).clamp(*low, *high)
        }
        Distribution::Int(IntRange { low, high, step, log: false }) => {
            let steps = (high.abs_diff(*low) / *step as u64) as f64;
            *low as f64 + (u * (steps + 1.0)).floor().min(steps) * *step as f64
        }
        Distribution::Int(IntRange { low, high, log: true, .. }) => {
            let (low, high) = (*low as f64, *high as f64);
            let (a, b) = ((low - 0.5).ln(), (high + 0.5).ln());
            (a + u * (b - a)).exp().round().clamp(low, high)
        }
        Distribution::Categorical(choices) => {
            (u * choices.len() as f64).floor().min(choices.len() as f64 - 1.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the range and the draw, the value is admitted and lies on a step.
        #[test]
        fn draws_are_admitted(
            low in -1e6_f64..1e6, width in 0.0_f64..1e6, step in 1e-3_f64..1e3, u in 0.0_f64..1.0,
            ints in (-1000_i64..1000, 0_i64..1000, 1_i64..50), n in 1_usize..20,
        ) {
            let ranges = [
                Distribution::Float(FloatRange::new(low, low + width)),
                Distribution::Float(FloatRange::new(low, low + width).step(step)),
                Distribution::Float(FloatRange::log(step, step + width)),
                Distribution::Int(IntRange::new(ints.0, ints.0 + ints.1).step(ints.2)),
                Distribution::Int(IntRange::log(ints.2, ints.2 + ints.1)),
                Distribution::Categorical((0..n as i64).map(crate::Choice::Int).collect()),
            ];
            for range in ranges {
                let range = range.checked("x").expect("sound");
                let value = uniform(&range, u);
                prop_assert!(range.contains(value), "{range}: {value}");
                if let Distribution::Int(IntRange { low, step, .. }) = range {
                    prop_assert_eq!((value as i64 - low) % step, 0);
                }
            }
        }
    }
}
