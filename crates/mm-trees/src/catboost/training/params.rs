//! The hyper-parameters and their domains.

use std::collections::BTreeMap;

use mm_core::{ClassWeight, EarlyStopping, ParamError, Params};
use serde::{Deserialize, Serialize};

use super::{
    CatBoost,
    ctr::{Statistic, StatisticKind},
    quantize::{BorderRule, MissingRule},
    score::ScoreFunction,
};
use crate::{
    constraint::Monotone,
    domain::{not_negative, open_unit, positive, share, unit, whole},
};

/// Hyper-parameters of [`CatBoost`]; plain data, checked by [`build`](Params::build).
///
/// Defaults are those of CatBoost 1.2.10 on a CPU, and what they come to depends on the data there
/// and here alike.
///
/// | field | default | domain | effect | CatBoost |
/// | --- | ---: | --- | --- | --- |
/// | `rounds` | 1000 | ≥ 1 | boosting rounds, each of one tree | `iterations` |
/// | `learning_rate` | none | (0, ∞) | factor on each new tree; none: by rows and rounds, see below | `learning_rate` |
/// | `objective` | `auto` | see [`Objective`] | what is minimised | `loss_function` |
/// | `boosting` | `plain` | see [`Boosting`] | what the derivatives of a row are made of | `boosting_type`, `fold_len_multiplier` |
/// | `tree` | | see [`TreeParams`] | the shape of a tree | |
/// | `leaves` | | see [`Leaves`] | how leaf values are estimated | |
/// | `sampling` | | see [`Sampling`] | rows and columns that a tree sees; noise | |
/// | `penalty` | | see [`Penalty`] | penalties on leaf values, model size, and columns | |
/// | `constraints` | | see [`Constraints`] | monotone columns, and columns left out | |
/// | `bins` | | see [`Bins`] | how values are put into bins | |
/// | `categorical` | | see [`Categorical`] | one-hot splits and target statistics | |
/// | `start_from_mean` | none | | start from the best constant; none: for squared and absolute error and quantiles | `boost_from_average` |
/// | `class_weight` | `none` | see [`ClassWeight`] | factor on the row weights, by class | `class_weights`, `auto_class_weights` |
/// | `early_stopping` | none | see [`EarlyStopping`] | needs validation data | `early_stopping_rounds` |
///
/// # Automatic learning rate
///
/// With logistic loss, softmax, or squared error, and neither `learning_rate`, `penalty.l2`,
/// `leaves.method` nor `leaves.steps` given, the rate falls with the number of rounds and rises with
/// the number of rows, by constants that CatBoost's authors fitted. Otherwise it is 0.03.
///
/// # Early stopping
///
/// With `early_stopping` and validation data in the context, the fit stops once the watched metric
/// no longer improves, and the model keeps the best round. Watched is `early_stopping.metric`, or
/// the default metric of the task, or for a quantile its pinball loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CatBoostParams {
    /// Boosting rounds.
    pub rounds: usize,
    /// Factor on each new tree.
    pub learning_rate: Option<f64>,
    /// What is minimised.
    pub objective: Objective,
    /// What the derivatives of a row are made of.
    pub boosting: Boosting,
    /// The shape of a tree.
    pub tree: TreeParams,
    /// How leaf values are estimated.
    pub leaves: Leaves,
    /// Rows and columns that a tree sees, and noise.
    pub sampling: Sampling,
    /// Penalties on leaf values, model size, and columns.
    pub penalty: Penalty,
    /// Monotone columns, and columns left out.
    pub constraints: Constraints,
    /// How values are put into bins.
    pub bins: Bins,
    /// One-hot splits and target statistics.
    pub categorical: Categorical,
    /// Whether the first scores are the best constant.
    pub start_from_mean: Option<bool>,
    /// Factor on the row weights, by class.
    pub class_weight: ClassWeight,
    /// When to stop, by a score on the validation data.
    pub early_stopping: Option<EarlyStopping>,
}

impl Default for CatBoostParams {
    fn default() -> Self {
        Self {
            rounds: 1000,
            learning_rate: None,
            objective: Objective::Auto,
            boosting: Boosting::Plain,
            tree: TreeParams::default(),
            leaves: Leaves::default(),
            sampling: Sampling::default(),
            penalty: Penalty::default(),
            constraints: Constraints::default(),
            bins: Bins::default(),
            categorical: Categorical::default(),
            start_from_mean: None,
            class_weight: ClassWeight::None,
            early_stopping: None,
        }
    }
}

/// What is minimised.
///
/// | value | task | predicts | CatBoost |
/// | --- | --- | --- | --- |
/// | `auto` (default) | any | `rmse`, `logloss`, `multi_class` | |
/// | `logloss` | two classes | the positive class's probability | `Logloss` |
/// | `cross_entropy` | two classes; regression with 0 ≤ *y* ≤ 1 | a probability | `CrossEntropy` |
/// | `multi_class` | three or more classes | one probability a class, softmax | `MultiClass` |
/// | `one_vs_all` | three or more classes | one probability a class, one against all, divided by their sum | `MultiClassOneVsAll` |
/// | `rmse` | regression | the mean | `RMSE` |
/// | `mae` | regression | the median | `MAE` |
/// | `quantile` | regression | the quantile of a level | `Quantile` |
/// | `huber` | regression | the mean, robustly | `Huber` |
/// | `expectile` | regression | the expectile of a level | `Expectile` |
/// | `poisson`, `tweedie` | regression, *y* ≥ 0 | the mean, through a log link | `Poisson`, `Tweedie` |
///
/// As in CatBoost, `cross_entropy` differs from `logloss` on classes by its fixed default learning
/// rate alone.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Objective {
    /// The one that fits the task.
    #[default]
    Auto,
    /// Logistic loss.
    Logloss,
    /// Cross-entropy of a probability.
    CrossEntropy,
    /// Softmax.
    MultiClass,
    /// One binary problem a class.
    OneVsAll,
    /// Squared error.
    Rmse,
    /// Absolute error.
    Mae,
    /// The pinball loss.
    Quantile {
        /// The quantile's level; (0, 1).
        level: f64,
    },
    /// Huber's loss.
    Huber {
        /// Where squared error turns into absolute error, in units of the target; (0, ∞).
        delta: f64,
    },
    /// Asymmetric squared error.
    Expectile {
        /// The expectile's level; (0, 1).
        level: f64,
    },
    /// Poisson likelihood.
    Poisson,
    /// Tweedie likelihood.
    Tweedie {
        /// The power of the mean to which the variance is proportional; (1, 2).
        power: f64,
    },
}

/// What the derivatives that a tree is grown on are made of.
///
/// In a plain model, the score of a row comes from leaves that its own target has moved, so that
/// derivatives on the training data are smaller than on new data. Ordered boosting scores each row by
/// trees whose leaves were estimated from the rows before it, in one of some random orders
/// (`categorical.orders`, less one for the leaves of the model). It is meant for small data, and costs
/// several times the time of plain boosting.
///
/// Prokhorenkova, Gusev, Vorobev, Dorogush & Gulin (2018), "CatBoost: unbiased boosting with
/// categorical features", NeurIPS.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Boosting {
    /// All rows score each other (`Plain`). CatBoost's default on a CPU, whatever the data.
    #[default]
    Plain,
    /// Earlier rows score later ones (`Ordered`). For symmetric trees.
    Ordered {
        /// How many times as long as the prefix of the order before it each is, which has scores of
        /// its own; 1.1 to 1000. CatBoost: 2. Nearer to 1, scores are made of more of the rows before,
        /// and take more memory.
        growth: f64,
    },
}

impl Boosting {
    /// Ordered boosting with CatBoost's default.
    pub fn ordered() -> Self {
        Self::Ordered { growth: 2.0 }
    }
}

/// The shape of a tree.
///
/// | field | default | domain | effect | CatBoost |
/// | --- | ---: | --- | --- | --- |
/// | `growth` | `symmetric` | see [`Growth`] | which leaves are split | `grow_policy`, `max_leaves`, `min_data_in_leaf` |
/// | `depth` | 6 | 1 to 16 | levels at most | `depth` |
/// | `score` | `cosine` | see [`ScoreFunction`] | what a split is judged by | `score_function` |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TreeParams {
    /// Which leaves are split.
    pub growth: Growth,
    /// Levels at most.
    pub depth: usize,
    /// What a split is judged by.
    pub score: ScoreFunction,
}

impl Default for TreeParams {
    fn default() -> Self {
        Self { growth: Growth::Symmetric, depth: 6, score: ScoreFunction::Cosine }
    }
}

/// Which leaves of a tree are split. Where each leaf is split by a question of its own, statistics of
/// categories are those of single columns, not of combinations, and leaves are split only for a gain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Growth {
    /// All leaves of a level, by the same question (`SymmetricTree`).
    #[default]
    Symmetric,
    /// Each leaf of a level by a question of its own (`Depthwise`).
    Depthwise {
        /// Sampled rows of a leaf that may be split, at least; ≥ 1. CatBoost: 1.
        min_rows: usize,
    },
    /// The leaf that gains most, one after another (`Lossguide`).
    Leafwise {
        /// Leaves at most; 2 to 65 536. CatBoost: 31.
        leaves: usize,
        /// As for `depthwise`.
        min_rows: usize,
    },
}

/// How the values of a tree's leaves are estimated.
///
/// | field | default | domain | effect | CatBoost |
/// | --- | ---: | --- | --- | --- |
/// | `method` | `auto` | see [`LeafMethod`] | what a step is | `leaf_estimation_method` |
/// | `steps` | none | ≥ 1 | steps in each leaf at most; none: 10 for logistic and Poisson loss, 5 for expectiles, else 1, and always 1 with fewer than 200 rounds and 20 columns | `leaf_estimation_iterations` |
/// | `backtracking` | true | | a step that does not lower the loss is halved, at the cost of a further one | `leaf_estimation_backtracking` |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Leaves {
    /// What a step is.
    pub method: LeafMethod,
    /// Steps in each leaf at most.
    pub steps: Option<usize>,
    /// Whether a step that does not lower the loss is halved.
    pub backtracking: bool,
}

impl Default for Leaves {
    fn default() -> Self {
        Self { method: LeafMethod::Auto, steps: None, backtracking: true }
    }
}

/// What a step of leaf estimation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LeafMethod {
    /// `exact` for absolute error and quantiles, `newton` for the rest.
    #[default]
    Auto,
    /// By first and second derivatives.
    Newton,
    /// By first derivatives.
    Gradient,
    /// The quantile of the residuals: `mae` and `quantile` only.
    Exact,
}

/// Which rows and columns a tree sees.
///
/// | field | default | domain | effect | CatBoost |
/// | --- | ---: | --- | --- | --- |
/// | `rows` | `auto` | see [`RowSampling`] | rows of a round | `bootstrap_type`, `subsample`, … |
/// | `columns` | 1.0 | (0, 1] | share of the columns that each level of a tree sees | `rsm` |
/// | `noise` | 1.0 | [0, ∞) | noise on the scores of splits, in units of the derivatives' deviation; it fades as the model grows | `random_strength` |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Sampling {
    /// Rows of a round.
    pub rows: RowSampling,
    /// Share of the columns that each level sees.
    pub columns: f64,
    /// Noise on the scores of splits.
    pub noise: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { rows: RowSampling::Auto, columns: 1.0, noise: 1.0 }
    }
}

/// The rows of a round. They count in the search for splits; leaf values heed all rows.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RowSampling {
    /// `bayesian` with temperature 1 for three or more classes; otherwise `mvs` with a fraction of
    /// 0.8, or 1 for fewer than 100 rows.
    #[default]
    Auto,
    /// All rows.
    All,
    /// Minimal variance sampling: rows of large derivative are kept, others drawn and weighted up.
    Mvs {
        /// The share of rows that is expected; (0, 1].
        fraction: f64,
    },
    /// Each row has a random weight (−ln *u*)ᵗ.
    Bayesian {
        /// The exponent *t*; [0, ∞). 0 is all rows.
        temperature: f64,
    },
    /// Each row is drawn with a probability.
    Bernoulli {
        /// That probability; (0, 1].
        fraction: f64,
    },
}

/// Penalties. Those on columns are by name; a name that the data lack is an error of the fit. A
/// statistic of several columns has the factors and penalties of all of them.
///
/// | field | default | domain | effect | CatBoost |
/// | --- | ---: | --- | --- | --- |
/// | `l2` | none | [0, ∞) | on the square of leaf values; none: 3 | `l2_leaf_reg` |
/// | `model_size` | 0.5 | [0, ∞) | on target statistics of many values that no tree uses yet | `model_size_reg` |
/// | `shrinkage` | none | [0, 1) | what earlier trees lose before each round; none: 0, or with monotone columns 0.01, `decreasing` 0.2 | `model_shrink_rate` |
/// | `shrinkage_mode` | `constant` | see [`ShrinkageMode`] | how that is meant | `model_shrink_mode` |
/// | `weights` | 1 each | [0, ∞) | factor on what a split by the column gains | `feature_weights` |
/// | `first_use` | 0 each | [0, ∞) | off the score of a split by a column that no tree uses yet | `first_feature_use_penalties` |
/// | `per_row` | 0 each | [0, ∞) | the same for each row of the split: with symmetric trees, all rows drawn while the column is unused; else the rows that no split by the column has seen | `per_object_feature_penalties` |
/// | `scale` | 1.0 | [0, ∞) | factor on `first_use` and `per_row` | `penalties_coefficient` |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Penalty {
    /// On the square of leaf values.
    pub l2: Option<f64>,
    /// On target statistics that no tree uses yet.
    pub model_size: f64,
    /// What earlier trees lose before each round.
    pub shrinkage: Option<f64>,
    /// How that is meant.
    pub shrinkage_mode: ShrinkageMode,
    /// Factor on what a split by the column gains.
    pub weights: BTreeMap<String, f64>,
    /// Off the score of a split by a column that no tree uses yet.
    pub first_use: BTreeMap<String, f64>,
    /// The same for each row that the column is new to.
    pub per_row: BTreeMap<String, f64>,
    /// Factor on the penalties on columns.
    pub scale: f64,
}

impl Default for Penalty {
    fn default() -> Self {
        Self {
            l2: None,
            model_size: 0.5,
            shrinkage: None,
            shrinkage_mode: ShrinkageMode::Constant,
            weights: BTreeMap::new(),
            first_use: BTreeMap::new(),
            per_row: BTreeMap::new(),
            scale: 1.0,
        }
    }
}

/// What [`Penalty::shrinkage`] means: earlier trees lose a share before each round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ShrinkageMode {
    /// That share times the learning rate.
    #[default]
    Constant,
    /// That share divided by the number of trees so far.
    Decreasing,
}

/// Constraints on columns, by name. A name that the data lack is an error of the fit.
///
/// | field | default | domain | effect | CatBoost |
/// | --- | ---: | --- | --- | --- |
/// | `monotone` | none | numeric columns; symmetric trees with one output and Newton or gradient leaves | which way the prediction moves as the column grows | `monotone_constraints` |
/// | `ignored` | none | any columns | the fit takes no notice of them | `ignored_features` |
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Constraints {
    /// Which way the prediction moves as a column grows.
    pub monotone: BTreeMap<String, Monotone>,
    /// Columns that the fit takes no notice of.
    pub ignored: Vec<String>,
}

/// How values are put into bins before training.
///
/// | field | default | domain | effect | CatBoost |
/// | --- | ---: | --- | --- | --- |
/// | `max_borders` | 254 | 1 to 255 | borders between the bins of a column at most | `border_count` |
/// | `rule` | `greedy_log_sum` | see [`BorderRule`] | where borders lie | `feature_border_type` |
/// | `missing` | `min` | see [`MissingRule`] | where missing values go | `nan_mode` |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Bins {
    /// Borders of a column at most.
    pub max_borders: usize,
    /// Where borders lie.
    pub rule: BorderRule,
    /// Where missing values go.
    pub missing: MissingRule,
}

impl Default for Bins {
    fn default() -> Self {
        Self { max_borders: 254, rule: BorderRule::GreedyLogSum, missing: MissingRule::Min }
    }
}

/// Categorical columns. One of few values is split one value from the others; one of more becomes
/// numbers: the share of targets above a border among the earlier rows with its value, in random
/// orders of the rows, and how often the value occurs (Prokhorenkova et al. 2018).
///
/// | field | default | domain | effect | CatBoost |
/// | --- | ---: | --- | --- | --- |
/// | `max_one_hot` | 2 | 0 to 255 | values of a column that is split one value from the others | `one_hot_max_size` |
/// | `max_combination` | none | 1 to 16 | columns combined to one at most, where the splits before count as one; none: 4, or 1 for fewer than 200 rounds | `max_ctr_complexity` |
/// | `simple` | borders, counter | see [`Statistic`] | numbers made of one column | `simple_ctr` |
/// | `combined` | borders, counter | see [`Statistic`] | numbers made of combinations | `combinations_ctr` |
/// | `orders` | 4 | ≥ 1 | random orders of the rows, of ordered boosting too | `permutation_count` |
/// | `in_time` | false | | rows are in the order of time: one order, as they are, of ordered boosting too | `has_time` |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Categorical {
    /// Values of a column that is split one value from the others.
    pub max_one_hot: usize,
    /// Columns combined to one at most.
    pub max_combination: Option<usize>,
    /// Numbers made of one column.
    pub simple: Vec<Statistic>,
    /// Numbers made of combinations.
    pub combined: Vec<Statistic>,
    /// Random orders of the rows.
    pub orders: usize,
    /// Whether rows are in the order of time.
    pub in_time: bool,
}

impl Default for Categorical {
    fn default() -> Self {
        let both = [StatisticKind::Borders, StatisticKind::Counter].map(Statistic::of).to_vec();
        Self {
            max_one_hot: 2,
            max_combination: None,
            simple: both.clone(),
            combined: both,
            orders: 4,
            in_time: false,
        }
    }
}

impl Params for CatBoostParams {
    type Learner = CatBoost;

    fn build(self) -> Result<CatBoost, ParamError> {
        let p = &self;
        whole("rounds", p.rounds, 1, i32::MAX as usize)?;
        positive("learning_rate", p.learning_rate.unwrap_or(1.0))?;
        match p.objective {
            Objective::Quantile { level } => open_unit("objective.quantile.level", level)?,
            Objective::Expectile { level } => open_unit("objective.expectile.level", level)?,
            Objective::Huber { delta } => positive("objective.huber.delta", delta)?,
            Objective::Tweedie { power } => {
                let ok = 1.0 < power && power < 2.0;
                ParamError::ensure(ok, "objective.tweedie.power", power, "a number in (1, 2)")?;
            }
            _ => {}
        }
        whole("tree.depth", p.tree.depth, 1, 16)?;
        match p.tree.growth {
            Growth::Symmetric => {}
            Growth::Depthwise { min_rows } => {
                whole("tree.growth.depthwise.min_rows", min_rows, 1, i32::MAX as usize)?;
            }
            Growth::Leafwise { leaves, min_rows } => {
                whole("tree.growth.leafwise.leaves", leaves, 2, 1 << 16)?;
                whole("tree.growth.leafwise.min_rows", min_rows, 1, i32::MAX as usize)?;
            }
        }
        if let Boosting::Ordered { growth } = p.boosting {
            let ok = (1.1..=1000.0).contains(&growth);
            let expected = "a number in [1.1, 1000]";
            ParamError::ensure(ok, "boosting.ordered.growth", growth, expected)?;
            let ok = p.tree.growth == Growth::Symmetric;
            ParamError::ensure(ok, "boosting", "ordered", "`plain`, but for symmetric trees")?;
        }
        whole("leaves.steps", p.leaves.steps.unwrap_or(1), 1, i32::MAX as usize)?;
        let is_quantile = matches!(p.objective, Objective::Mae | Objective::Quantile { .. });
        let ok = match p.leaves.method {
            LeafMethod::Exact => is_quantile,
            LeafMethod::Newton => !is_quantile,
            LeafMethod::Auto | LeafMethod::Gradient => true,
        };
        let got = format!("{:?}", p.leaves.method).to_lowercase();
        let expected = "`exact` or `gradient` for `mae` and `quantile`, another for the rest";
        ParamError::ensure(ok, "leaves.method", got, expected)?;
        match p.sampling.rows {
            RowSampling::Auto | RowSampling::All => {}
            RowSampling::Mvs { fraction } => share("sampling.rows.mvs.fraction", fraction)?,
            RowSampling::Bayesian { temperature } => {
                not_negative("sampling.rows.bayesian.temperature", temperature)?;
            }
            RowSampling::Bernoulli { fraction } => {
                share("sampling.rows.bernoulli.fraction", fraction)?;
            }
        }
        unit("sampling.columns", p.sampling.columns)?;
        share("sampling.columns", p.sampling.columns)?;
        not_negative("sampling.noise", p.sampling.noise)?;
        p.penalty.check()?;
        let is_symmetric = p.tree.growth == Growth::Symmetric;
        let ok = is_symmetric || p.constraints.monotone.is_empty();
        let n_monotone = p.constraints.monotone.len();
        ParamError::ensure(
            ok,
            "constraints.monotone",
            n_monotone,
            "none, but for symmetric trees",
        )?;
        let ok = p.leaves.method != LeafMethod::Exact || n_monotone == 0;
        ParamError::ensure(ok, "constraints.monotone", n_monotone, "none with `exact` leaves")?;
        whole("bins.max_borders", p.bins.max_borders, 1, 255)?;
        p.categorical.check()?;
        p.class_weight.check("class_weight")?;
        if let Some(stopping) = &p.early_stopping {
            stopping.check("early_stopping")?;
        }
        Ok(CatBoost { params: self })
    }
}

impl Penalty {
    fn check(&self) -> Result<(), ParamError> {
        not_negative("penalty.l2", self.l2.unwrap_or(0.0))?;
        not_negative("penalty.model_size", self.model_size)?;
        let shrinkage = self.shrinkage.unwrap_or(0.0);
        let ok = 0.0 <= shrinkage && shrinkage < 1.0;
        ParamError::ensure(ok, "penalty.shrinkage", shrinkage, "a number in [0, 1)")?;
        let lists = [
            ("weights", &self.weights),
            ("first_use", &self.first_use),
            ("per_row", &self.per_row),
        ];
        for (list, values) in lists {
            for (column, &value) in values {
                not_negative(&format!("penalty.{list}.{column}"), value)?;
            }
        }
        not_negative("penalty.scale", self.scale)
    }
}

impl Categorical {
    fn check(&self) -> Result<(), ParamError> {
        whole("categorical.max_one_hot", self.max_one_hot, 0, 255)?;
        let combination = self.max_combination.unwrap_or(1);
        whole("categorical.max_combination", combination, 1, 16)?;
        whole("categorical.orders", self.orders, 1, 1000)?;
        let lists = [("simple", &self.simple), ("combined", &self.combined)];
        for (list, statistics) in lists {
            let place = format!("categorical.{list}");
            let n: usize = statistics.iter().map(|statistic| statistic.priors.len()).sum();
            let ok = (1..=100).contains(&n) && statistics.iter().all(|s| !s.priors.is_empty());
            ParamError::ensure(ok, &*place, n, "1 to 100 priors, each statistic with some")?;
            for &prior in statistics.iter().flat_map(|statistic| &statistic.priors) {
                let ok = (-100.0..=100.0).contains(&prior);
                ParamError::ensure(
                    ok,
                    format!("{place}.priors"),
                    prior,
                    "a number in [-100, 100]",
                )?;
            }
        }
        Ok(())
    }
}
