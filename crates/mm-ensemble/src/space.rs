//! Where to look for better params of combiners.
//!
//! What a combiner learns from the members' predictions is not searched, such as weights and who is left
//! out; how it learns is. `average`, `vote`, and `rank` have nothing of the sort.

use mm_core::{FloatRange, IntRange, Result, Search, SpaceSize, Suggest};
use serde::Serialize;

use crate::{
    average::MedianParams,
    greedy::GreedyParams,
    limits::Limits,
    optimal::{NnlsParams, WeightsParams},
    rule::MetaInputs,
    stack::StackParams,
};

/// A combiner's params as a plan has them: with `limits` beside them, which are not searched.
#[derive(Default, Serialize)]
pub(crate) struct Searched<C> {
    #[serde(flatten)]
    params: C,
    limits: Option<Limits>,
}

impl<C: Search> Search for Searched<C> {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        Ok(Self { params: C::search(size, draw)?, limits: None })
    }
}

/// Weights below which a member is dropped; its default is one in a hundred or none.
fn prune(draw: &mut dyn Suggest) -> Result<f64> {
    draw.float_or_zero("prune", 1e-4, 0.3)
}

/// All sizes: how much is left out at each end.
impl Search for MedianParams {
    fn search(_: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        Ok(Self { trim: draw.float("trim", FloatRange::new(0.0, 0.5))? })
    }
}

/// Small: rounds. Medium: the start with the best, and pruning, too. Large: bags, too.
impl Search for GreedyParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let whole = |n: i64| n.unsigned_abs() as usize;
        let mut p =
            Self { rounds: whole(draw.int("rounds", IntRange::log(5, 200))?), ..Self::default() };
        if SpaceSize::Medium <= size {
            p.warm_start = whole(draw.int("warm_start", IntRange::new(0, 5))?);
            p.prune = prune(draw)?;
        }
        if SpaceSize::Large <= size {
            p.bags = whole(draw.int("bags", IntRange::log(1, 20))?);
            if 1 < p.bags {
                p.bag_fraction = draw.float("bag_fraction", FloatRange::new(0.2, 1.0))?;
            }
        }
        Ok(p)
    }
}

/// Small: pruning. Medium: weights of each class, too.
impl Search for WeightsParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let mut p = Self { prune: prune(draw)?, ..Self::default() };
        if SpaceSize::Medium <= size {
            p.per_class = draw.flag("per_class")?;
        }
        Ok(p)
    }
}

/// All sizes: pruning.
impl Search for NnlsParams {
    fn search(_: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        Ok(Self { prune: prune(draw)? })
    }
}

/// Small: the form of probabilities. Medium: whether the meta-learner sees the raw features, too. The
/// meta-learner has its own space, where it is named.
impl Search for StackParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let inputs = match draw.choose("inputs", &["logits", "raw"])? {
            0 => MetaInputs::Logits,
            _ => MetaInputs::Raw,
        };
        let passthrough = SpaceSize::Medium <= size && draw.flag("passthrough")?;
        Ok(Self { passthrough, inputs, ..Self::default() })
    }
}
