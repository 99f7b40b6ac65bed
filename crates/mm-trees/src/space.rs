//! Where to look for better parameters of boosted trees.
//!
//! Ranges are those that the engines' documentation and practice agree on: rates and leaf sizes on
//! the scale of logarithms, shares in steps of a twentieth, penalties that may be off. Rounds are
//! searched, too; a plan that stops early fixes them high instead.

#![expect(
    clippy::field_reassign_with_default,
    reason = "what is drawn, and in which order, is told line by line"
)]

use mm_core::{FloatRange, IntRange, Result, Search, SpaceSize, Suggest};

use crate::catboost::{self, CatBoostParams};

/// Rounds of the points of portfolios, which were chosen for 100 to 1000.
///
/// What points they are was found by `crates/bench-compare/python/portfolio.py` on seven data sets: credit-g,
/// bike-sharing, polish-bankruptcy, elec2, digits, and nycflights with two targets.
#[cfg(any(feature = "lightgbm", feature = "xgboost"))]
const PORTFOLIO_ROUNDS: usize = 300;

/// A share of rows or columns, in twentieths.
fn share(draw: &mut dyn Suggest, name: &str) -> Result<f64> {
    // Steps of a twentieth end a rounding error away.
    Ok((20.0 * draw.float(name, FloatRange::new(0.4, 1.0).step(0.05))?).round() / 20.0)
}

/// A share of LightGBM's rows, drawn anew every so often; all of them is no drawing.
#[cfg(feature = "lightgbm")]
fn rows_of(share: f64) -> crate::lightgbm::RowSampling {
    use crate::lightgbm::{Bagging, RowSampling};

    match share {
        1.0 => RowSampling::All,
        fraction => RowSampling::Bagging(Bagging::of(fraction)),
    }
}

fn whole(draw: &mut dyn Suggest, name: &str, range: IntRange) -> Result<usize> {
    // The ranges of this file are positive.
    Ok(draw.int(name, range)?.unsigned_abs() as usize)
}

/// Small: rounds, learning rate, leaves and their rows. Medium: shares of rows and columns, and
/// penalties, too. Large: depth, random thresholds, bins, smoothing, and categorical splits, too.
#[cfg(feature = "lightgbm")]
impl Search for crate::LightGbmParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let mut p = Self::default();
        p.rounds = whole(draw, "rounds", IntRange::log(50, 1000))?;
        p.learning_rate = draw.float("learning_rate", FloatRange::log(0.01, 0.3))?;
        p.tree.leaves = whole(draw, "tree.leaves", IntRange::log(4, 256))?;
        p.tree.min_data_in_leaf = whole(draw, "tree.min_data_in_leaf", IntRange::log(2, 200))?;
        if SpaceSize::Medium <= size {
            p.sampling.rows = rows_of(share(draw, "sampling.rows.bagging.fraction")?);
            p.sampling.columns = share(draw, "sampling.columns")?;
            p.penalty.l1 = draw.float_or_zero("penalty.l1", 1e-4, 100.0)?;
            p.penalty.l2 = draw.float_or_zero("penalty.l2", 1e-4, 100.0)?;
        }
        if SpaceSize::Large <= size {
            // The greatest depth stands for no limit.
            let depth = whole(draw, "tree.max_depth", IntRange::new(3, 16))?;
            p.tree.max_depth = (depth < 16).then_some(depth);
            p.tree.extra_trees = draw.flag("tree.extra_trees")?;
            p.sampling.columns_per_node = share(draw, "sampling.columns_per_node")?;
            p.penalty.min_gain = draw.float_or_zero("penalty.min_gain", 1e-5, 10.0)?;
            p.penalty.path_smooth = draw.float_or_zero("penalty.path_smooth", 1e-3, 100.0)?;
            p.bins.max = whole(draw, "bins.max", IntRange::log(31, 511))?;
            let categorical = &mut p.categorical;
            categorical.smooth = draw.float("categorical.smooth", FloatRange::log(1.0, 100.0))?;
            categorical.l2 = draw.float("categorical.l2", FloatRange::log(0.1, 100.0))?;
            let levels = IntRange::log(4, 256);
            categorical.max_threshold = whole(draw, "categorical.max_threshold", levels)?;
        }
        Ok(p)
    }

    fn portfolio(size: SpaceSize) -> Vec<Self> {
        use mm_core::Params as _;

        // Learning rate, leaves, rows of a leaf, rows, columns, L1, L2.
        let points = [
            (0.11, 200, 5, 0.95, 0.9, 0.0017, 30.0),
            (0.047, 34, 3, 0.5, 0.4, 0.0, 1.7),
            (0.17, 150, 140, 0.9, 0.55, 0.0088, 0.0053),
            (0.13, 20, 54, 1.0, 0.85, 0.33, 0.044),
            (0.04, 14, 3, 0.65, 0.8, 0.0022, 0.15),
            (0.022, 64, 2, 0.9, 0.85, 0.19, 0.0),
        ];
        let point = |(rate, leaves, min_data, rows, columns, l1, l2)| {
            Self::default().with(|p| {
                (p.rounds, p.learning_rate) = (PORTFOLIO_ROUNDS, rate);
                (p.tree.leaves, p.tree.min_data_in_leaf) = (leaves, min_data);
                if SpaceSize::Medium <= size {
                    p.sampling.rows = rows_of(rows);
                    p.sampling.columns = columns;
                    (p.penalty.l1, p.penalty.l2) = (l1, l2);
                }
            })
        };
        points.map(point).into()
    }
}

/// Small: rounds, learning rate, depth, weight of a leaf. Medium: shares of rows and columns, and
/// penalties, too. Large: growth by loss, bins, shares of columns a level and a split, and
/// categorical splits, too.
#[cfg(feature = "xgboost")]
impl Search for crate::XgBoostParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        use crate::xgboost::Growth;

        let mut p = Self::default();
        p.rounds = whole(draw, "rounds", IntRange::log(50, 1000))?;
        p.learning_rate = draw.float("learning_rate", FloatRange::log(0.01, 0.5))?;
        let by_loss = SpaceSize::Large <= size
            && draw.choose("tree.growth", &["depthwise", "lossguide"])? == 1;
        p.tree.growth = if by_loss {
            let leaves = whole(draw, "tree.growth.lossguide.max_leaves", IntRange::log(4, 256))?;
            Growth::Lossguide { max_leaves: leaves as u32, max_depth: 0 }
        } else {
            let depth = whole(draw, "tree.growth.depthwise.max_depth", IntRange::new(3, 10))?;
            Growth::Depthwise { max_depth: depth as u32 }
        };
        p.tree.min_hessian_in_leaf =
            draw.float("tree.min_hessian_in_leaf", FloatRange::log(0.01, 100.0))?;
        if SpaceSize::Medium <= size {
            p.sampling.rows = share(draw, "sampling.rows")?;
            p.sampling.columns = share(draw, "sampling.columns")?;
            p.penalty.l1 = draw.float_or_zero("penalty.l1", 1e-4, 100.0)?;
            p.penalty.l2 = draw.float_or_zero("penalty.l2", 1e-4, 100.0)?;
            p.penalty.min_gain = draw.float_or_zero("penalty.min_gain", 1e-5, 10.0)?;
        }
        if SpaceSize::Large <= size {
            p.sampling.columns_per_level = share(draw, "sampling.columns_per_level")?;
            p.sampling.columns_per_node = share(draw, "sampling.columns_per_node")?;
            p.bins.max = whole(draw, "bins.max", IntRange::log(32, 512))? as u32;
            let categorical = &mut p.categorical;
            let levels = IntRange::log(1, 64);
            categorical.max_onehot = whole(draw, "categorical.max_onehot", levels)? as u32;
            let levels = IntRange::log(4, 256);
            categorical.max_threshold = whole(draw, "categorical.max_threshold", levels)? as u32;
        }
        Ok(p)
    }

    fn portfolio(size: SpaceSize) -> Vec<Self> {
        use mm_core::Params as _;

        use crate::xgboost::Growth;

        // Learning rate, depth, Hessian of a leaf, rows, columns, L1, L2, gain.
        let points = [
            (0.037, 7, 0.67, 0.9, 0.55, 0.0, 0.069, 0.0069),
            (0.15, 7, 0.18, 0.85, 0.75, 11.0, 2.4, 0.0022),
            (0.023, 7, 3.9, 0.95, 1.0, 0.016, 0.39, 0.021),
            (0.38, 5, 0.29, 0.45, 0.75, 0.034, 0.022, 0.00013),
            (0.12, 4, 0.043, 0.95, 0.4, 0.0, 0.24, 0.34),
            (0.31, 5, 0.028, 0.55, 0.45, 8.4, 0.0, 0.00031),
        ];
        let point = |(rate, max_depth, hessian, rows, columns, l1, l2, min_gain)| {
            Self::default().with(|p| {
                p.rounds = PORTFOLIO_ROUNDS;
                p.learning_rate = rate;
                p.tree.growth = Growth::Depthwise { max_depth };
                p.tree.min_hessian_in_leaf = hessian;
                if SpaceSize::Medium <= size {
                    (p.sampling.rows, p.sampling.columns) = (rows, columns);
                    (p.penalty.l1, p.penalty.l2, p.penalty.min_gain) = (l1, l2, min_gain);
                }
            })
        };
        points.map(point).into()
    }
}

/// Small: rounds, depth, and the automatic learning rate or one of its own with a penalty. Medium:
/// how rows are drawn, shares of columns, noise, too. Large: the score of splits, ordered boosting,
/// borders, the penalty on model size, one-hot levels, too.
impl Search for CatBoostParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        use catboost::{Boosting, RowSampling, ScoreFunction};

        let mut p = Self::default();
        p.rounds = whole(draw, "rounds", IntRange::log(100, 2000))?;
        p.tree.depth = whole(draw, "tree.depth", IntRange::new(3, 10))?;
        // The automatic rate is for the default penalty.
        if draw.choose("rate", &["auto", "given"])? == 1 {
            p.learning_rate = Some(draw.float("learning_rate", FloatRange::log(0.01, 0.3))?);
            p.penalty.l2 = Some(draw.float("penalty.l2", FloatRange::log(0.1, 100.0))?);
        }
        if SpaceSize::Medium <= size {
            p.sampling.rows = match draw
                .choose("sampling.rows", &["auto", "bayesian", "bernoulli"])?
            {
                0 => RowSampling::Auto,
                1 => {
                    let range = FloatRange::new(0.0, 2.0);
                    let temperature = draw.float("sampling.rows.bayesian.temperature", range)?;
                    RowSampling::Bayesian { temperature }
                }
                _ => {
                    let fraction = share(draw, "sampling.rows.bernoulli.fraction")?;
                    RowSampling::Bernoulli { fraction }
                }
            };
            p.sampling.columns = share(draw, "sampling.columns")?;
            p.sampling.noise = draw.float("sampling.noise", FloatRange::log(0.01, 10.0))?;
        }
        if SpaceSize::Large <= size {
            p.tree.score = match draw.choose("tree.score", &["cosine", "l2"])? {
                0 => ScoreFunction::Cosine,
                _ => ScoreFunction::L2,
            };
            p.boosting = match draw.choose("boosting", &["plain", "ordered"])? {
                0 => Boosting::Plain,
                _ => Boosting::ordered(),
            };
            p.bins.max_borders = whole(draw, "bins.max_borders", IntRange::log(32, 255))?;
            p.penalty.model_size = draw.float_or_zero("penalty.model_size", 1e-3, 10.0)?;
            let categorical = &mut p.categorical;
            categorical.max_one_hot = whole(draw, "categorical.max_one_hot", IntRange::log(2, 64))?;
        }
        Ok(p)
    }
}
