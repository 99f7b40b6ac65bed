//! Who proposes parameters.
//!
//! | sampler | good for | time a proposal, for *n* trials of *d* parameters |
//! | --- | --- | --- |
//! | [`AutoSampler`] | when in doubt | that of what it picks |
//! | [`GpSampler`] | few and costly trials | O(n² · points); a fit of O(n³) now and then |
//! | [`TpeSampler`] | anything: conditional spaces, several objectives, thousands of trials | O(n · d) |
//! | [`CmaSampler`] | numbers that depend on one another, hundreds of trials and more | O(d²) |
//! | [`NsgaSampler`] | several objectives, thousands of trials | O(population · d) |
//! | [`QmcSampler`] | an even spread | O(1) a parameter |
//! | [`RandomSampler`] | a baseline | O(1) a parameter |
//! | [`GridSampler`] | every combination of a few values | O(1), at the end O(n) |

mod auto;
mod cma;
mod gp;
mod grid;
pub(crate) mod normal;
mod nsga;
mod qmc;
mod random;
mod relative;
pub(crate) mod space;
mod tpe;

use std::{fmt, sync::Arc};

use mm_core::{Direction, Result};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

pub use self::{
    auto::AutoSampler,
    cma::{CmaParams, CmaSampler},
    gp::{GpParams, GpSampler},
    grid::GridSampler,
    nsga::{Crossover, NsgaParams, NsgaSampler},
    qmc::QmcSampler,
    random::RandomSampler,
    tpe::{TpeParams, TpeSampler},
};
use crate::{distribution::Distribution, history::History, json::Json, trial::FrozenTrial};

/// A question to a sampler.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The study's name.
    pub study: &'a str,
    /// Which way each objective is better.
    pub directions: &'a [Direction],
    /// What is known so far.
    pub history: &'a History,
    /// The trial that asks, with the parameters it has so far.
    pub trial: &'a FrozenTrial,
    /// The study's seed.
    pub seed: u64,
}

impl Ask<'_> {
    /// Random numbers that depend on the seed, the trial's number, and `purpose` (the name of a
    /// parameter, say) alone, and so not on who else is asking.
    pub fn rng(&self, purpose: &str) -> ChaCha8Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&self.trial.number.to_le_bytes());
        key[16..24].copy_from_slice(&fnv(purpose).to_le_bytes());
        ChaCha8Rng::from_seed(key)
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): names differ, and that is all that is asked of it.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What a sampler proposes for a trial before the trial asks for any parameter.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Proposal {
    /// Parameters proposed together, in internal form, by name. One that the trial's distribution
    /// does not admit is drawn by itself.
    pub params: Vec<(Arc<str>, f64)>,
    /// System attributes of the trial, from which later proposals, also of other workers, know what
    /// this one was.
    pub notes: Vec<(String, Json)>,
}

/// Proposes parameters. What it computes from the history it may keep; what it answers is a
/// function of the question.
pub trait Sampler: fmt::Debug + Send + Sync {
    /// What is proposed before the trial asks for any parameter; nothing by default.
    fn joint(&self, ask: &Ask<'_>) -> Result<Proposal> {
        let _ = ask;
        Ok(Proposal::default())
    }

    /// A parameter that was not among the joint ones, in internal form.
    fn single(&self, ask: &Ask<'_>, name: &str, distribution: &Distribution) -> Result<f64>;

    /// Whether there is nothing left to propose, so that [`Study::optimize`](crate::Study::optimize)
    /// ends; never by default.
    fn is_exhausted(&self, history: &History) -> bool {
        let _ = history;
        false
    }
}
