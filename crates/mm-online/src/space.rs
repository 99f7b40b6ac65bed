//! Where to look for better parameters of models that learn from a stream.
//!
//! Small spaces hold what makes the most difference, medium ones how fast the past is forgotten,
//! large ones the rest. Budgets of bytes and policies for cells are not searched: they are what an
//! embedder can afford and what a column means.

#![expect(
    clippy::field_reassign_with_default,
    reason = "what is drawn, and in which order, is told line by line"
)]

use mm_core::{FloatRange, IntRange, Params as _, Result, Search, SpaceSize, Suggest};

use crate::{
    AdaptiveForestParams, AdaptiveTreeParams, BankParams, FeatureCount, GrowthParams, HalfLife,
    HashedParams, HoeffdingTreeParams, LeafPrediction, LinearParams, MondrianForestParams,
    NaiveBayesParams, NeighborsParams, Optimizer, PassiveAggressiveParams, RandomPatchesParams,
    Scale,
};

fn scale(draw: &mut dyn Suggest) -> Result<Scale> {
    Ok(match draw.choose("scale", &["standard", "min_max", "none"])? {
        0 => Scale::Standard,
        1 => Scale::MinMax,
        _ => Scale::None,
    })
}

/// Never, or so many rows: the greatest number stands for never.
fn half_life(draw: &mut dyn Suggest) -> Result<HalfLife> {
    const NEVER: f64 = 1e6;
    let rows = draw.float("half_life", FloatRange::log(100.0, NEVER))?;
    Ok(if rows < 0.5 * NEVER { HalfLife::Rows(rows) } else { HalfLife::Never })
}

fn count(draw: &mut dyn Suggest, name: &str, range: IntRange) -> Result<u32> {
    Ok(draw.int(name, range)? as u32) // The ranges of this file are positive and small.
}

fn growth(size: SpaceSize, draw: &mut dyn Suggest, growth: &mut GrowthParams) -> Result<()> {
    growth.grace = draw.float("growth.grace", FloatRange::log(10.0, 1000.0))?;
    growth.delta = draw.float("growth.delta", FloatRange::log(1e-9, 0.1))?;
    if SpaceSize::Medium <= size {
        growth.tau = draw.float("growth.tau", FloatRange::log(0.005, 0.5))?;
        let leaves = ["majority_class", "naive_bayes", "adaptive"];
        growth.leaf = match draw.choose("growth.leaf", &leaves)? {
            0 => LeafPrediction::MajorityClass,
            1 => LeafPrediction::NaiveBayes,
            _ => LeafPrediction::Adaptive,
        };
    }
    if SpaceSize::Large <= size {
        growth.points = count(draw, "growth.points", IntRange::log(4, 64))?;
        growth.max_depth = count(draw, "growth.max_depth", IntRange::log(4, 100))?;
    }
    Ok(())
}

/// Small: the optimizer and its rate. Medium: the scaling and the half-life, too. Large: the
/// penalty and the intercept's rate, too.
impl Search for LinearParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let mut p = Self::default();
        // Each has a rate of its own, since the same rate is another thing to each.
        let kinds = ["sgd", "ada_grad", "adam", "ftrl"];
        let kind = draw.choose("optimizer", &kinds)?;
        let mut rate =
            |name: &str| draw.float(&format!("optimizer.{name}"), FloatRange::log(1e-4, 3.0));
        p.optimizer = match kind {
            0 => Optimizer::Sgd { rate: rate("sgd.rate")? },
            1 => Optimizer::AdaGrad { rate: rate("ada_grad.rate")? },
            2 => Optimizer::Adam { rate: rate("adam.rate")? },
            _ => {
                let alpha = rate("ftrl.alpha")?;
                Optimizer::Ftrl { alpha, beta: 1.0, l1: 0.0, l2: 1.0, stale: false }
            }
        };
        if SpaceSize::Medium <= size {
            p.scale = scale(draw)?;
            p.half_life = half_life(draw)?;
        }
        if SpaceSize::Large <= size {
            p.l2 = draw.float_or_zero("l2", 1e-8, 0.1)?;
            p.intercept_rate = draw.float("intercept_rate", FloatRange::log(1e-4, 1.0))?;
        }
        Ok(p)
    }
}

/// Small: how readily the mixture changes its mind. Medium: the scaling and the half-life, too.
/// Large: whether the passive-aggressive member takes part, too. The rates are what the bank is for,
/// and are not searched.
impl Search for BankParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let mut p = Self::default();
        p.share = draw.float("share", FloatRange::log(1e-5, 0.1))?;
        if SpaceSize::Medium <= size {
            p.scale = scale(draw)?;
            p.half_life = half_life(draw)?;
        }
        if SpaceSize::Large <= size {
            p.passive_aggressive = draw.flag("passive_aggressive")?;
        }
        Ok(p)
    }
}

/// Small: how far a mistake moves the weights. Medium: the scaling, the tube of regression, and the
/// half-life, too. Large: the intercept, too.
impl Search for PassiveAggressiveParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let mut p = Self::default();
        p.aggressiveness = draw.float("aggressiveness", FloatRange::log(1e-4, 100.0))?;
        if SpaceSize::Medium <= size {
            p.scale = scale(draw)?;
            p.epsilon = draw.float("epsilon", FloatRange::log(1e-3, 10.0))?;
            p.half_life = half_life(draw)?;
        }
        if SpaceSize::Large <= size {
            p.intercept = draw.flag("intercept")?;
        }
        Ok(p)
    }
}

/// Small: FTRL's rate. Medium: its penalties, too. Large: the size of the table and the intercept's
/// rate, too.
impl Search for HashedParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let mut p = Self::default();
        let alpha = draw.float("optimizer.ftrl.alpha", FloatRange::log(1e-3, 10.0))?;
        let (mut l1, mut l2) = (0.0, 0.0);
        if SpaceSize::Medium <= size {
            l1 = draw.float_or_zero("optimizer.ftrl.l1", 1e-4, 100.0)?;
            l2 = draw.float_or_zero("optimizer.ftrl.l2", 1e-4, 100.0)?;
        }
        p.optimizer = Optimizer::Ftrl { alpha, beta: 1.0, l1, l2, stale: false };
        if SpaceSize::Large <= size {
            p.bits = count(draw, "bits", IntRange::new(12, 24))?;
            p.intercept_rate = draw.float("intercept_rate", FloatRange::log(1e-3, 1.0))?;
        }
        Ok(p)
    }
}

/// Small: when a leaf splits. Medium: ties, what a leaf predicts, and the half-life, too. Large: the
/// thresholds that a split tries and the depth, too.
impl Search for HoeffdingTreeParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let mut p = Self::default();
        growth(size, draw, &mut p.growth)?;
        if SpaceSize::Medium <= size {
            p.half_life = half_life(draw)?;
        }
        Ok(p)
    }
}

/// Small: when a leaf splits. Medium: ties, what a leaf predicts, and when a branch counts as worse,
/// too. Large: the rest, too.
impl Search for AdaptiveTreeParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let mut p = Self::default();
        growth(size, draw, &mut p.growth)?;
        if SpaceSize::Medium <= size {
            p.delta = draw.float("delta", FloatRange::log(1e-5, 0.1))?;
            p.min_window = count(draw, "min_window", IntRange::log(30, 3000))?;
        }
        if SpaceSize::Large <= size {
            p.significance = draw.float("significance", FloatRange::log(1e-3, 0.5))?;
        }
        Ok(p)
    }
}

/// Small: trees, the weight of a row, when a leaf splits. Medium: the features of a leaf and the
/// detectors of change, too. Large: the rest of growth, too.
impl Search for AdaptiveForestParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let mut p = Self::default();
        p.n_trees = count(draw, "n_trees", IntRange::log(5, 50))?;
        p.lambda = draw.float("lambda", FloatRange::log(1.0, 20.0))?;
        growth(size, draw, &mut p.growth)?;
        if SpaceSize::Medium <= size {
            p.features = match draw.choose("features", &["sqrt", "share", "all"])? {
                0 => FeatureCount::Sqrt,
                1 => FeatureCount::Share(draw.float("features.share", FloatRange::new(0.1, 1.0))?),
                _ => FeatureCount::All,
            };
            p.warning = draw.float("warning", FloatRange::log(1e-5, 0.1))?;
            p.drift = draw.float("drift", FloatRange::log(1e-6, 0.01))?;
        }
        Ok(p)
    }
}

/// Small: trees, the weight of a row, when a leaf splits. Medium: the features of a tree and the
/// detectors of change, too. Large: the rest of growth, too.
impl Search for RandomPatchesParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let mut p = Self::default();
        p.n_trees = count(draw, "n_trees", IntRange::log(5, 50))?;
        p.lambda = draw.float("lambda", FloatRange::log(1.0, 20.0))?;
        growth(size, draw, &mut p.growth)?;
        if SpaceSize::Medium <= size {
            p.features =
                FeatureCount::Share(draw.float("features.share", FloatRange::new(0.1, 1.0))?);
            p.warning = draw.float("warning", FloatRange::log(1e-6, 0.1))?;
            p.drift = draw.float("drift", FloatRange::log(1e-7, 0.01))?;
        }
        Ok(p)
    }
}

/// Small: trees and the weight of experts. Medium: the prior of a leaf, too. Large: whether pure
/// leaves split, too.
impl Search for MondrianForestParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let mut p = Self::default();
        p.n_trees = count(draw, "n_trees", IntRange::log(5, 100))?;
        p.step = draw.float("step", FloatRange::log(0.01, 10.0))?;
        if SpaceSize::Medium <= size {
            p.dirichlet = draw.float("dirichlet", FloatRange::log(0.01, 2.0))?;
        }
        if SpaceSize::Large <= size {
            p.split_pure = draw.flag("split_pure")?;
        }
        Ok(p)
    }
}

/// Every size: the half-life; there is nothing else.
impl Search for NaiveBayesParams {
    fn search(_: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let half_life = half_life(draw)?;
        Ok(Self::default().with(|p| p.half_life = half_life))
    }
}

/// Small: neighbours and the window. Medium: how they are weighed and scaled, too. Large: the
/// half-life, too.
impl Search for NeighborsParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let mut p = Self::default();
        p.neighbors = count(draw, "neighbors", IntRange::log(1, 50))?;
        p.window = count(draw, "window", IntRange::log(100, 20_000))?;
        if SpaceSize::Medium <= size {
            p.by_distance = draw.flag("by_distance")?;
            p.scale = scale(draw)?;
        }
        if SpaceSize::Large <= size {
            p.half_life = half_life(draw)?;
        }
        Ok(p)
    }
}
