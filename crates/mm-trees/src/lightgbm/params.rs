//! The hyper-parameters and their domains.

use std::collections::BTreeMap;

use mm_core::{ClassWeight, Direction, EarlyStopping, ParamError, Params};
use serde::{Deserialize, Serialize};

use super::{LightGbm, Monotone};
use crate::domain::{not_negative, open_unit, positive, share, tweedie_power, unit, whole};

/// Hyper-parameters of [`LightGbm`]; plain data, checked by [`build`](Params::build).
///
/// Defaults are LightGBM's own, except `deterministic` and `histogram`.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `rounds` | 100 | ≥ 1 | boosting rounds; each grows one tree an output |
/// | `learning_rate` | 0.1 | (0, ∞) | factor on each new tree; a forest ignores it |
/// | `objective` | `auto` | see [`Objective`] | what is minimised |
/// | `boosting` | `gbdt` | see [`Boosting`] | how trees add up |
/// | `tree` | | see [`TreeParams`] | the shape of a tree |
/// | `sampling` | | see [`Sampling`] | rows and columns that a tree sees |
/// | `penalty` | | see [`Penalty`] | penalties on leaf values and splits |
/// | `bins` | | see [`Bins`] | how values are put into bins |
/// | `categorical` | | see [`Categorical`] | splits on categorical columns |
/// | `constraints` | none | see [`Constraints`] | monotone columns, columns that may interact |
/// | `class_weight` | none | see [`ClassWeight`] | factor on the row weights, by class |
/// | `scale_pos_weight` | 1.0 | (0, ∞) | factor on the positive class; binary and one-vs-all only |
/// | `early_stopping` | none | see [`EarlyStopping`]; not with DART | needs validation data |
/// | `engine_metric` | none | see [`EngineMetric`] | the engine's own metric in place of a [`Metric`](mm_core::Metric) |
/// | `device` | `cpu` | see [`Device`] | where histograms are built |
/// | `deterministic` | true | | the same model whatever the thread count; LightGBM: false |
/// | `histogram` | `columns` | see [`Histogram`] | memory layout; LightGBM: `auto` |
/// | `extra` | empty | any other parameter of LightGBM 4.7 | passed to the engine as it is |
///
/// # Early stopping
///
/// With `early_stopping` and validation data in the context, the fit stops once the watched metric
/// no longer improves, and the model keeps the best round. Watched is `early_stopping.metric`, or
/// the default metric of the task, or for a quantile its pinball loss; or, where `engine_metric` is given, the engine's own (and then
/// `early_stopping.metric` must be none). DART rescales earlier trees in later rounds, so its best
/// round cannot be kept: the combination is refused.
///
/// # Extra parameters
///
/// `extra` takes the names and aliases of LightGBM's documentation. A name that the engine does not
/// know is an error, though LightGBM itself would only warn; so is one that a field above covers:
/// neither would win over the other unseen. The seed, the thread count, files, and whatever else
/// belongs to the run are refused likewise. `build` lets the engine read the values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LightGbmParams {
    /// Boosting rounds.
    pub rounds: usize,
    /// Factor on each new tree.
    pub learning_rate: f64,
    /// What is minimised.
    pub objective: Objective,
    /// How trees add up.
    pub boosting: Boosting,
    /// The shape of a tree.
    pub tree: TreeParams,
    /// Rows and columns that a tree sees.
    pub sampling: Sampling,
    /// Penalties on leaf values and splits.
    pub penalty: Penalty,
    /// How values are put into bins.
    pub bins: Bins,
    /// Splits on categorical columns.
    pub categorical: Categorical,
    /// Monotone columns, and columns that may interact.
    pub constraints: Constraints,
    /// Factor on the row weights, by class.
    pub class_weight: ClassWeight,
    /// Factor on the gradients of the positive class.
    pub scale_pos_weight: f64,
    /// When to stop, by a score on the validation data.
    pub early_stopping: Option<EarlyStopping>,
    /// The engine's own metric on the validation data.
    pub engine_metric: Option<EngineMetric>,
    /// Where histograms are built.
    pub device: Device,
    /// Whether the model must not depend on the thread count.
    pub deterministic: bool,
    /// Memory layout of the histograms.
    pub histogram: Histogram,
    /// Further parameters of LightGBM by name.
    pub extra: BTreeMap<String, String>,
}

impl Default for LightGbmParams {
    fn default() -> Self {
        Self {
            rounds: 100,
            learning_rate: 0.1,
            objective: Objective::Auto,
            boosting: Boosting::Gbdt,
            tree: TreeParams::default(),
            sampling: Sampling::default(),
            penalty: Penalty::default(),
            bins: Bins::default(),
            categorical: Categorical::default(),
            constraints: Constraints::default(),
            class_weight: ClassWeight::None,
            scale_pos_weight: 1.0,
            early_stopping: None,
            engine_metric: None,
            device: Device::Cpu,
            deterministic: true,
            histogram: Histogram::Columns,
            extra: BTreeMap::new(),
        }
    }
}

/// What LightGBM minimises.
///
/// | value | task | predicts |
/// | --- | --- | --- |
/// | `auto` (default) | any | `l2` for regression, `binary`, `multiclass` |
/// | `l2`, `huber`, `fair` | regression | the mean, `huber` and `fair` robustly |
/// | `l1`, `mape` | regression | the median, for `mape` with weights 1/max(1, \|y\|) |
/// | `quantile` | regression | the quantile of the given level |
/// | `poisson`, `gamma`, `tweedie` | regression, *y* ≥ 0 | the mean, through a log link |
/// | `binary`, `cross_entropy` | two classes | the positive class's probability |
/// | `multiclass` | three or more | one probability a class, softmax |
/// | `multiclass_ova` | three or more | one probability a class, one against all; LightGBM leaves them as they are, here they are divided by their sum |
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Objective {
    /// The one that fits the task.
    #[default]
    Auto,
    /// Squared error.
    L2,
    /// Absolute error.
    L1,
    /// Huber's loss.
    Huber {
        /// Where squared error turns into absolute error, in units of the target; (0, ∞).
        /// LightGBM's default is 0.9.
        alpha: f64,
    },
    /// The fair loss.
    Fair {
        /// Its scale, in units of the target; (0, ∞). LightGBM's default is 1.
        c: f64,
    },
    /// Poisson likelihood.
    Poisson,
    /// The pinball loss.
    Quantile {
        /// The quantile's level; (0, 1).
        level: f64,
    },
    /// Absolute error relative to the target.
    Mape,
    /// Gamma likelihood.
    Gamma,
    /// Tweedie likelihood.
    Tweedie {
        /// The power of the mean to which the variance is proportional; [1, 2). LightGBM's default
        /// is 1.5.
        power: f64,
    },
    /// Logistic loss.
    Binary,
    /// Cross-entropy of a probability; on classes the same as `binary`, but without its weighting.
    CrossEntropy,
    /// Softmax.
    Multiclass,
    /// One binary problem a class.
    MulticlassOva,
}

/// How trees add up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Boosting {
    /// Gradient boosting: each tree corrects the sum of those before.
    #[default]
    Gbdt,
    /// Boosting that drops some of the earlier trees in each round.
    Dart(Dart),
    /// A forest: the mean of trees that do not know each other. It needs
    /// [`RowSampling::Bagging`] with a fraction below 1, [`RowSampling::Goss`], or a column fraction
    /// below 1, and it cannot be continued from.
    RandomForest,
}

/// Dropout of trees (Vinayak & Gilad-Bachrach 2015, "DART: dropouts meet multiple additive
/// regression trees").
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `drop_rate` | 0.1 | [0, 1] | share of the trees dropped in a round |
/// | `max_drop` | 50 | ≥ 1, or none for no limit | trees dropped at most |
/// | `skip_drop` | 0.5 | [0, 1] | probability that a round drops nothing |
/// | `uniform` | false | | drop trees with equal probability, not by weight |
/// | `xgboost_mode` | false | | weigh trees as XGBoost does |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Dart {
    /// Share of the trees dropped in a round.
    pub drop_rate: f64,
    /// Trees dropped at most.
    pub max_drop: Option<usize>,
    /// Probability that a round drops nothing.
    pub skip_drop: f64,
    /// Whether all trees are dropped with equal probability.
    pub uniform: bool,
    /// Whether trees are weighed as XGBoost does.
    pub xgboost_mode: bool,
}

impl Default for Dart {
    fn default() -> Self {
        Self {
            drop_rate: 0.1,
            max_drop: Some(50),
            skip_drop: 0.5,
            uniform: false,
            xgboost_mode: false,
        }
    }
}

/// The shape of a tree.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `leaves` | 31 | 2 to 131 072 | leaves at most |
/// | `max_depth` | none | ≥ 1 | splits between root and leaf at most |
/// | `min_data_in_leaf` | 20 | ≥ 0 | rows in a leaf at least, by LightGBM's estimate |
/// | `min_hessian_in_leaf` | 0.001 | [0, ∞) | sum of Hessians in a leaf at least |
/// | `extra_trees` | false | | one random threshold a column and node |
/// | `linear` | false | not with `l1` | leaves hold linear models (Shi, Li & Li 2019) |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TreeParams {
    /// Leaves at most.
    pub leaves: usize,
    /// Splits between root and leaf at most; no limit if `None`.
    pub max_depth: Option<usize>,
    /// Rows in a leaf at least.
    pub min_data_in_leaf: usize,
    /// Sum of Hessians in a leaf at least.
    pub min_hessian_in_leaf: f64,
    /// Whether thresholds are drawn at random.
    pub extra_trees: bool,
    /// Whether leaves hold linear models.
    pub linear: bool,
}

impl Default for TreeParams {
    fn default() -> Self {
        Self {
            leaves: 31,
            max_depth: None,
            min_data_in_leaf: 20,
            min_hessian_in_leaf: 1e-3,
            extra_trees: false,
            linear: false,
        }
    }
}

/// Which rows and columns a tree sees.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `rows` | `all` | see [`RowSampling`] | rows of a round |
/// | `columns` | 1.0 | (0, 1] | share of the columns drawn for a tree |
/// | `columns_per_node` | 1.0 | (0, 1] | share of those drawn for a node |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Sampling {
    /// Rows of a round.
    pub rows: RowSampling,
    /// Share of the columns drawn for a tree.
    pub columns: f64,
    /// Share of a tree's columns drawn for a node.
    pub columns_per_node: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { rows: RowSampling::All, columns: 1.0, columns_per_node: 1.0 }
    }
}

/// The rows of a round.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RowSampling {
    /// All rows.
    #[default]
    All,
    /// A random share, drawn without replacement.
    Bagging(Bagging),
    /// The rows of large gradient, and some of the others with more weight.
    Goss(Goss),
}

/// A random share of the rows.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `fraction` | 1.0 | (0, 1] | share of the rows |
/// | `every` | 1 | ≥ 1 | rounds until a new draw; LightGBM's `bagging_freq`, whose default 0 is `all` here |
/// | `positive` | 1.0 | (0, 1] | share of the positive rows; `binary` only |
/// | `negative` | 1.0 | (0, 1] | share of the negative rows; `binary` only |
///
/// With `positive` or `negative` below 1 LightGBM ignores `fraction`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Bagging {
    /// Share of the rows.
    pub fraction: f64,
    /// Rounds until a new draw.
    pub every: usize,
    /// Share of the positive rows.
    pub positive: f64,
    /// Share of the negative rows.
    pub negative: f64,
}

impl Default for Bagging {
    fn default() -> Self {
        Self { fraction: 1.0, every: 1, positive: 1.0, negative: 1.0 }
    }
}

impl Bagging {
    /// A new draw of `fraction` of the rows in each round.
    pub fn of(fraction: f64) -> Self {
        Self { fraction, ..Self::default() }
    }
}

/// Gradient-based one-side sampling (Ke et al. 2017, "LightGBM: a highly efficient gradient
/// boosting decision tree").
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `top_rate` | 0.2 | (0, 1) | share of the rows kept for their large gradient |
/// | `other_rate` | 0.1 | (0, 1), at most 1 − `top_rate` | share drawn from the others |
///
/// LightGBM draws within blocks of rows, one block a thread: with `deterministic` a single thread
/// trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Goss {
    /// Share of the rows kept for their large gradient.
    pub top_rate: f64,
    /// Share drawn from the others.
    pub other_rate: f64,
}

impl Default for Goss {
    fn default() -> Self {
        Self { top_rate: 0.2, other_rate: 0.1 }
    }
}

/// Penalties on leaf values and splits.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `l1` | 0.0 | [0, ∞) | on the size of leaf values |
/// | `l2` | 0.0 | [0, ∞) | on their square |
/// | `min_gain` | 0.0 | [0, ∞) | what a split must gain |
/// | `max_delta_step` | none | (0, ∞) | leaf values before the learning rate at most |
/// | `path_smooth` | 0.0 | [0, ∞); needs `min_data_in_leaf` ≥ 2 | pulls leaves towards their parents |
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Penalty {
    /// On the size of leaf values.
    pub l1: f64,
    /// On the square of leaf values.
    pub l2: f64,
    /// What a split must gain.
    pub min_gain: f64,
    /// Leaf values, before the learning rate, at most.
    pub max_delta_step: Option<f64>,
    /// Pull of leaves towards their parents.
    pub path_smooth: f64,
}

/// How values are put into bins before training.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `max` | 255 | ≥ 2 | bins a column at most |
/// | `min_data` | 3 | ≥ 1 | rows in a bin at least |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Bins {
    /// Bins a column at most.
    pub max: usize,
    /// Rows in a bin at least.
    pub min_data: usize,
}

impl Default for Bins {
    fn default() -> Self {
        Self { max: 255, min_data: 3 }
    }
}

/// Splits on categorical columns.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `smooth` | 10.0 | [0, ∞) | pull of rare levels towards the mean when levels are sorted |
/// | `l2` | 10.0 | [0, ∞) | further penalty on the square of leaf values |
/// | `max_threshold` | 32 | ≥ 1 | levels on the smaller side of a split at most |
/// | `max_onehot` | 4 | ≥ 1 | columns of so few levels split one level from the others |
/// | `min_data_per_group` | 100 | ≥ 1 | rows of a group of levels at least |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Categorical {
    /// Pull of rare levels towards the mean.
    pub smooth: f64,
    /// Further penalty on the square of leaf values.
    pub l2: f64,
    /// Levels on the smaller side of a split at most.
    pub max_threshold: usize,
    /// Columns of at most so many levels split one level from the others.
    pub max_onehot: usize,
    /// Rows of a group of levels at least.
    pub min_data_per_group: usize,
}

impl Default for Categorical {
    fn default() -> Self {
        Self { smooth: 10.0, l2: 10.0, max_threshold: 32, max_onehot: 4, min_data_per_group: 100 }
    }
}

/// Constraints, by column name. A name that the data lack is an error of the fit.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `monotone` | none | numeric columns; not with `l1`, `quantile`, `mape` | direction of the prediction |
/// | `method` | `basic` | see [`MonotoneMethod`] | how monotony is kept |
/// | `penalty` | 0.0 | [0, ∞) | forbids monotone splits on the first so many levels of a tree |
/// | `interactions` | none | lists of columns | columns on one path must share a list |
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Constraints {
    /// Direction in which the prediction moves with a column.
    pub monotone: BTreeMap<String, Monotone>,
    /// How monotony is kept.
    pub method: MonotoneMethod,
    /// Forbids monotone splits on the first so many levels of a tree.
    pub penalty: f64,
    /// Lists of columns that may stand on one path.
    pub interactions: Vec<Vec<String>>,
}

/// How monotony is kept (Auguste, Malory & Smirnov 2020, "A better method to enforce monotonic
/// constraints in regression and classification trees"): each constrains less, and costs more,
/// than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonotoneMethod {
    /// The mean of both children bounds either.
    #[default]
    Basic,
    /// Leaves bound each other.
    Intermediate,
    /// Leaves bound each other, and each only where they meet.
    Advanced,
}

/// Where histograms are built. A device that the engine was not compiled for is an error of the
/// fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// A GPU, through `OpenCL`. Not deterministic.
    Gpu,
    /// A GPU, through CUDA. Not deterministic.
    Cuda,
}

/// The memory layout of histogram building.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Histogram {
    /// Column by column. The sums do not depend on the number of threads.
    #[default]
    Columns,
    /// Row by row, faster for few columns and many rows. Twice the memory, and the sums depend on
    /// the number of threads: with `deterministic` a single thread trains.
    Rows,
    /// Whichever is faster in a trial before training; so it is refused with `deterministic`.
    Auto,
}

/// A metric of the engine.
///
/// It must fit the objective: `multi_*` and `auc_mu` need three or more classes, and those need
/// them. Larger is better for `auc`, `auc_mu`, `average_precision` and `r2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are LightGBM's, whose documentation defines them")]
#[non_exhaustive]
pub enum EngineMetric {
    L1,
    L2,
    Rmse,
    Quantile,
    Mape,
    Huber,
    Fair,
    Poisson,
    Gamma,
    GammaDeviance,
    Tweedie,
    R2,
    Auc,
    AveragePrecision,
    BinaryLogloss,
    BinaryError,
    CrossEntropy,
    KullbackLeibler,
    AucMu,
    MultiLogloss,
    MultiError,
}

impl EngineMetric {
    /// LightGBM's name, which is also the one in plans.
    pub fn name(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::Rmse => "rmse",
            Self::Quantile => "quantile",
            Self::Mape => "mape",
            Self::Huber => "huber",
            Self::Fair => "fair",
            Self::Poisson => "poisson",
            Self::Gamma => "gamma",
            Self::GammaDeviance => "gamma_deviance",
            Self::Tweedie => "tweedie",
            Self::R2 => "r2",
            Self::Auc => "auc",
            Self::AveragePrecision => "average_precision",
            Self::BinaryLogloss => "binary_logloss",
            Self::BinaryError => "binary_error",
            Self::CrossEntropy => "cross_entropy",
            Self::KullbackLeibler => "kullback_leibler",
            Self::AucMu => "auc_mu",
            Self::MultiLogloss => "multi_logloss",
            Self::MultiError => "multi_error",
        }
    }

    /// Which way is better.
    pub fn direction(self) -> Direction {
        match self {
            Self::Auc | Self::AucMu | Self::AveragePrecision | Self::R2 => Direction::Maximize,
            _ => Direction::Minimize,
        }
    }

    pub(super) fn is_multiclass(self) -> bool {
        matches!(self, Self::AucMu | Self::MultiLogloss | Self::MultiError)
    }
}

impl Params for LightGbmParams {
    type Learner = LightGbm;

    fn build(self) -> Result<LightGbm, ParamError> {
        let p = &self;
        at_least("rounds", p.rounds, 1)?;
        positive("learning_rate", p.learning_rate)?;
        match p.objective {
            Objective::Huber { alpha } => positive("objective.huber.alpha", alpha)?,
            Objective::Fair { c } => positive("objective.fair.c", c)?,
            Objective::Quantile { level } => open_unit("objective.quantile.level", level)?,
            Objective::Tweedie { power } => {
                tweedie_power("objective.tweedie.power", power)?;
            }
            _ => {}
        }
        if let Boosting::Dart(dart) = &p.boosting {
            unit("boosting.dart.drop_rate", dart.drop_rate)?;
            unit("boosting.dart.skip_drop", dart.skip_drop)?;
            at_least("boosting.dart.max_drop", dart.max_drop.unwrap_or(1), 1)?;
        }
        let ok = (2..=131_072).contains(&p.tree.leaves);
        ParamError::ensure(ok, "tree.leaves", p.tree.leaves, "2 to 131072")?;
        at_least("tree.max_depth", p.tree.max_depth.unwrap_or(1), 1)?;
        at_least("tree.min_data_in_leaf", p.tree.min_data_in_leaf, 0)?;
        not_negative("tree.min_hessian_in_leaf", p.tree.min_hessian_in_leaf)?;
        let ok = !(p.tree.linear && p.objective == Objective::L1);
        ParamError::ensure(ok, "tree.linear", true, "false with the objective `l1`")?;
        p.sampling.check()?;
        not_negative("penalty.l1", p.penalty.l1)?;
        not_negative("penalty.l2", p.penalty.l2)?;
        not_negative("penalty.min_gain", p.penalty.min_gain)?;
        not_negative("penalty.path_smooth", p.penalty.path_smooth)?;
        positive("penalty.max_delta_step", p.penalty.max_delta_step.unwrap_or(1.0))?;
        let ok = p.penalty.path_smooth == 0.0 || 2 <= p.tree.min_data_in_leaf;
        let got = p.tree.min_data_in_leaf;
        ParamError::ensure(ok, "tree.min_data_in_leaf", got, "at least 2 with `path_smooth`")?;
        at_least("bins.max", p.bins.max, 2)?;
        at_least("bins.min_data", p.bins.min_data, 1)?;
        not_negative("categorical.smooth", p.categorical.smooth)?;
        not_negative("categorical.l2", p.categorical.l2)?;
        at_least("categorical.max_threshold", p.categorical.max_threshold, 1)?;
        at_least("categorical.max_onehot", p.categorical.max_onehot, 1)?;
        at_least("categorical.min_data_per_group", p.categorical.min_data_per_group, 1)?;
        not_negative("constraints.penalty", p.constraints.penalty)?;
        let renews =
            matches!(p.objective, Objective::L1 | Objective::Mape | Objective::Quantile { .. });
        let ok = !renews || p.constraints.monotone.is_empty();
        let expected = "none with an objective that is a median or a quantile";
        ParamError::ensure(ok, "constraints.monotone", p.constraints.monotone.len(), expected)?;
        p.class_weight.check("class_weight")?;
        positive("scale_pos_weight", p.scale_pos_weight)?;
        if let Some(stopping) = &p.early_stopping {
            stopping.check("early_stopping")?;
            let dart = matches!(p.boosting, Boosting::Dart(_));
            ParamError::ensure(!dart, "early_stopping", "some", "none with DART")?;
            let both = stopping.metric.is_some() && p.engine_metric.is_some();
            let expected = "none beside `engine_metric`";
            ParamError::ensure(!both, "early_stopping.metric", "some", expected)?;
        }
        let ok = !(p.deterministic && p.histogram == Histogram::Auto);
        ParamError::ensure(ok, "histogram", "auto", "columns or rows with `deterministic`")?;
        p.check_forest()?;
        p.check_extra()?;
        Ok(LightGbm { params: self })
    }
}

impl Sampling {
    fn check(&self) -> Result<(), ParamError> {
        match &self.rows {
            RowSampling::All => {}
            RowSampling::Bagging(bagging) => {
                share("sampling.rows.bagging.fraction", bagging.fraction)?;
                share("sampling.rows.bagging.positive", bagging.positive)?;
                share("sampling.rows.bagging.negative", bagging.negative)?;
                at_least("sampling.rows.bagging.every", bagging.every, 1)?;
            }
            RowSampling::Goss(goss) => {
                open_unit("sampling.rows.goss.top_rate", goss.top_rate)?;
                open_unit("sampling.rows.goss.other_rate", goss.other_rate)?;
                let ok = goss.top_rate + goss.other_rate <= 1.0;
                let expected = "at most 1 together with `top_rate`";
                ParamError::ensure(ok, "sampling.rows.goss.other_rate", goss.other_rate, expected)?;
            }
        }
        share("sampling.columns", self.columns)?;
        share("sampling.columns_per_node", self.columns_per_node)
    }
}

impl LightGbmParams {
    /// The trees of a forest differ by what they see; without that LightGBM refuses.
    fn check_forest(&self) -> Result<(), ParamError> {
        let differ = match &self.sampling.rows {
            RowSampling::Goss(_) => true,
            RowSampling::Bagging(bagging) => bagging.fraction < 1.0,
            RowSampling::All => false,
        };
        let ok = self.boosting != Boosting::RandomForest || differ || self.sampling.columns < 1.0;
        let expected = "a fraction below 1 of rows or columns with a random forest";
        ParamError::ensure(ok, "sampling", "everything", expected)
    }
}

/// At least `least`, and within what C's `int` holds.
fn at_least(name: &str, got: usize, least: usize) -> Result<(), ParamError> {
    whole(name, got, least, i32::MAX as usize)
}
