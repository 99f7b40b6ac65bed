//! The hyper-parameters and their domains.

use std::collections::BTreeMap;

use mm_core::{ClassWeight, EarlyStopping, ParamError, Params};
use serde::{Deserialize, Serialize};

use super::{Monotone, XgBoost};
use crate::domain::{not_negative, open_unit, positive, share, tweedie_power, unit, whole};

/// Hyper-parameters of [`XgBoost`]; plain data, checked by [`build`](Params::build).
///
/// Defaults are XGBoost's own; that of `rounds` is the one of its scikit-learn interface.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `rounds` | 100 | [1, 2³¹) | boosting rounds, each of one tree a class and parallel tree |
/// | `learning_rate` | 0.3 | [0, ∞) | η, the factor of each new tree |
/// | `objective` | `auto` | [`Objective`] | the loss; `auto` is `squarederror`, `logistic`, or `softprob`, by task |
/// | `boosting` | `gbtree` | [`Boosting`] | trees, trees with dropout, or a linear model |
/// | `tree` | | [`TreeParams`] | how a tree grows |
/// | `penalty` | | [`Penalty`] | penalties on leaf values and splits |
/// | `bins` | | [`Bins`] | how values are put into bins |
/// | `sampling` | | [`Sampling`] | which rows and columns a tree sees |
/// | `categorical` | | [`Categorical`] | splits on categorical columns |
/// | `constraints` | | [`Constraints`] | monotone columns, columns that may interact |
/// | `base_score` | none | finite | the prediction before the first tree; none: estimated from the target |
/// | `scale_pos_weight` | 1.0 | [0, ∞) | factor of the weight of the positive class; binary only |
/// | `class_weight` | `none` | [`ClassWeight`] | factors of the row weights by class |
/// | `early_stopping` | none | [`EarlyStopping`] | stop by the validation data of the context |
/// | `engine_metric` | none | a metric of XGBoost | evaluated in place of a [`Metric`](mm_core::Metric), and watched by `early_stopping` |
/// | `device` | `"cpu"` | `cpu`, `cuda`, `cuda:0`, … | where trees are grown; predictions are made on the CPU |
/// | `extra` | empty | see below | further parameters under XGBoost's own names |
///
/// # The extra parameters
///
/// `extra` takes XGBoost's own names, such as `refresh_leaf` or `max_cached_hist_node`. A name that
/// the engine does not know is an error, though XGBoost itself would only warn; so is one that a
/// field above covers, by whichever of its names: neither would win over the other unseen. What
/// the task, the data, and the context decide is refused likewise. `build` lets the engine read the
/// values.
///
/// # Early stopping
///
/// With `early_stopping` and validation data in the context, the fit stops once the watched metric
/// no longer improves, and the model keeps the best round. Watched is `early_stopping.metric`, or
/// the default metric of the task, or for a quantile its pinball loss; or, where `engine_metric` is
/// given, the engine's own (and then `early_stopping.metric` must be none).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct XgBoostParams {
    /// Boosting rounds.
    pub rounds: usize,
    /// η, the factor of each new tree.
    pub learning_rate: f64,
    /// The loss.
    pub objective: Objective,
    /// What is boosted: trees, trees with dropout, or a linear model.
    pub boosting: Boosting,
    /// How a tree grows.
    pub tree: TreeParams,
    /// Penalties on leaf values and splits.
    pub penalty: Penalty,
    /// How values are put into bins.
    pub bins: Bins,
    /// Which rows and columns a tree sees.
    pub sampling: Sampling,
    /// Splits on categorical columns.
    pub categorical: Categorical,
    /// Monotone columns, and columns that may interact.
    pub constraints: Constraints,
    /// The prediction before the first tree, in units of the target (a probability for
    /// `logistic`); estimated if `None`.
    pub base_score: Option<f64>,
    /// Factor of the weight of the positive class.
    pub scale_pos_weight: f64,
    /// Factors of the row weights by class.
    pub class_weight: ClassWeight,
    /// When to stop by the validation data.
    pub early_stopping: Option<EarlyStopping>,
    /// A metric of the engine, for example `"auc"` or `"error@0.7"`, in place of ours.
    pub engine_metric: Option<String>,
    /// Where trees are grown.
    pub device: String,
    /// Further parameters under XGBoost's own names.
    pub extra: BTreeMap<String, String>,
}

impl Default for XgBoostParams {
    fn default() -> Self {
        Self {
            rounds: 100,
            learning_rate: 0.3,
            objective: Objective::Auto,
            boosting: Boosting::GbTree,
            tree: TreeParams::default(),
            penalty: Penalty::default(),
            bins: Bins::default(),
            sampling: Sampling::default(),
            categorical: Categorical::default(),
            constraints: Constraints::default(),
            base_score: None,
            scale_pos_weight: 1.0,
            class_weight: ClassWeight::None,
            early_stopping: None,
            engine_metric: None,
            device: "cpu".to_owned(),
            extra: BTreeMap::new(),
        }
    }
}

/// The loss that boosting minimises. Each is for one task; the name is XGBoost's without its
/// prefix.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Objective {
    /// `squarederror`, `logistic`, or `softprob`, by the task.
    #[default]
    Auto,
    /// Regression: half the squared error. Predicts the mean.
    SquaredError,
    /// Regression: the absolute error. Predicts the median.
    AbsoluteError,
    /// Regression: a smooth mixture of both.
    PseudoHuberError {
        /// Where the loss turns from quadratic to linear, in units of the target; in (0, ∞).
        slope: f64,
    },
    /// Regression: half the squared error of log(1 + target), for targets above -1.
    SquaredLogError,
    /// Regression: Poisson deviance with a logarithmic link, for counts ≥ 0.
    Poisson,
    /// Regression: gamma deviance with a logarithmic link, for targets above 0.
    Gamma,
    /// Regression: Tweedie deviance with a logarithmic link, for targets ≥ 0.
    Tweedie {
        /// Variance is proportional to the mean raised to this; in [1, 2).
        power: f64,
    },
    /// Regression: the pinball loss. Predicts a quantile.
    Quantile {
        /// The quantile's level, in (0, 1).
        level: f64,
    },
    /// Binary classification: log loss.
    Logistic,
    /// Multiclass classification: log loss over a softmax.
    Softprob,
}

/// What is boosted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Boosting {
    /// Trees.
    #[default]
    GbTree,
    /// Trees, some of which are left out of each round: Rashmi & Gilad-Bachrach (2015), "DART:
    /// dropouts meet multiple additive regression trees". Later rounds rescale earlier trees, so
    /// that an earlier round cannot be kept: early stopping is refused.
    Dart(Dart),
    /// A linear model without trees, which XGBoost has deprecated. Numeric columns only, a missing
    /// cell counts as 0, and it cannot go back to an earlier round.
    GbLinear(Linear),
}

/// Dropout of trees.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `sample` | `uniform` | | trees are dropped alike, or in proportion to their weight |
/// | `normalize` | `tree` | | new trees weigh as much as each dropped tree, or as all together |
/// | `drop_rate` | 0.0 | [0, 1] | share of the trees dropped |
/// | `one_drop` | false | | drop at least one tree |
/// | `skip_drop` | 0.0 | [0, 1] | probability that a round drops none |
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Dart {
    /// How dropped trees are drawn.
    pub sample: DartSample,
    /// How new and dropped trees share their weight.
    pub normalize: DartNormalize,
    /// Share of the trees dropped.
    pub drop_rate: f64,
    /// Drop at least one tree.
    pub one_drop: bool,
    /// Probability that a round drops none.
    pub skip_drop: f64,
}

/// How dropped trees are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DartSample {
    /// Each alike.
    #[default]
    Uniform,
    /// In proportion to their weight.
    Weighted,
}

/// How new and dropped trees share their weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DartNormalize {
    /// A new tree weighs as much as each dropped one.
    #[default]
    Tree,
    /// The new trees weigh as much as the dropped ones together.
    Forest,
}

/// A boosted linear model. Of the other parameters, only `rounds`, `objective`, `base_score`, the
/// weights, and `engine_metric` apply, and `build` refuses changes to the rest.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `learning_rate` | 0.5 | [0, ∞) | η |
/// | `l1` | 0.0 | [0, ∞) | penalty on absolute weights |
/// | `l2` | 0.0 | [0, ∞) | penalty on squared weights |
/// | `updater` | `shotgun` | | parallel or ordered coordinate descent |
/// | `feature_selector` | `cyclic` | `shotgun`: `cyclic`, `shuffle` | order of the coordinates |
/// | `top_k` | 0 | [0, 2³¹) | coordinates that `greedy` and `thrifty` update; 0: all |
///
/// `shotgun` is run on one thread: on several, the threads race and no fit repeats another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Linear {
    /// η.
    pub learning_rate: f64,
    /// Penalty on absolute weights.
    pub l1: f64,
    /// Penalty on squared weights.
    pub l2: f64,
    /// Parallel or ordered coordinate descent.
    pub updater: LinearUpdater,
    /// Order of the coordinates.
    pub feature_selector: FeatureSelector,
    /// Coordinates that `greedy` and `thrifty` update; 0 is all.
    pub top_k: u32,
}

impl Default for Linear {
    fn default() -> Self {
        Self {
            learning_rate: 0.5,
            l1: 0.0,
            l2: 0.0,
            updater: LinearUpdater::Shotgun,
            feature_selector: FeatureSelector::Cyclic,
            top_k: 0,
        }
    }
}

/// How a linear model is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinearUpdater {
    /// Coordinate descent without order.
    #[default]
    Shotgun,
    /// Coordinate descent in order.
    CoordDescent,
}

/// Order in which coordinate descent visits the features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureSelector {
    /// One after another.
    #[default]
    Cyclic,
    /// One after another, in a new random order each round.
    Shuffle,
    /// At random, with replacement.
    Random,
    /// The feature with the largest gradient, O(*p*²) a round.
    Greedy,
    /// By the size of the update as it was at the start of the round.
    Thrifty,
}

/// How a tree grows.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `growth` | `depthwise`, depth 6 | [`Growth`] | which leaf is split next, and how far |
/// | `method` | `hist` | | binned, exact, or approximate search for splits |
/// | `min_hessian_in_leaf` | 1.0 | [0, ∞) | sum of Hessians in a leaf at least: XGBoost's `min_child_weight` |
/// | `parallel_trees` | 1 | [1, 2³¹) | trees a round: above 1, a boosted forest |
/// | `multi_strategy` | `one_output_per_tree` | | a tree a class, or one tree with a leaf value a class |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TreeParams {
    /// Which leaf is split next, and how far.
    pub growth: Growth,
    /// How splits are searched for.
    pub method: TreeMethod,
    /// Sum of Hessians in a leaf at least.
    pub min_hessian_in_leaf: f64,
    /// Trees a round.
    pub parallel_trees: u32,
    /// A tree a class, or one tree for all.
    pub multi_strategy: MultiStrategy,
}

impl Default for TreeParams {
    fn default() -> Self {
        Self {
            growth: Growth::default(),
            method: TreeMethod::Hist,
            min_hessian_in_leaf: 1.0,
            parallel_trees: 1,
            multi_strategy: MultiStrategy::OneOutputPerTree,
        }
    }
}

/// Which leaf is split next, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Growth {
    /// The leaf nearest to the root.
    Depthwise {
        /// The most splits on a path, in [1, 30].
        max_depth: u32,
    },
    /// The leaf whose split gains most. One of the limits must be above 0, which is none.
    Lossguide {
        /// The most leaves; 0 is no limit, else in [2, 2³⁰].
        max_leaves: u32,
        /// The most splits on a path; 0 is no limit, in [0, 2³¹), and in [1, 30] where the leaves
        /// have no limit.
        max_depth: u32,
    },
}

impl Default for Growth {
    fn default() -> Self {
        Self::Depthwise { max_depth: 6 }
    }
}

/// How splits are searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TreeMethod {
    /// Over bins that are cut once.
    #[default]
    Hist,
    /// Over every value; numeric columns only, and grown depthwise.
    Exact,
    /// Over bins that are cut anew each round, by the Hessians.
    Approx,
}

/// Whether classes share trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MultiStrategy {
    /// A tree a class.
    #[default]
    OneOutputPerTree,
    /// One tree with a leaf value a class; `hist` only.
    MultiOutputTree,
}

/// Penalties on leaf values and splits.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `l1` | 0.0 | [0, ∞) | on the size of leaf values: XGBoost's `alpha` |
/// | `l2` | 1.0 | [0, ∞) | on their square: XGBoost's `lambda` |
/// | `min_gain` | 0.0 | [0, ∞) | what a split must gain: XGBoost's `gamma` |
/// | `max_delta_step` | none | [0, ∞) | leaf values before the learning rate at most, 0 being no limit; none: 0, and 0.7 for `poisson` |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
}

impl Default for Penalty {
    fn default() -> Self {
        Self { l1: 0.0, l2: 1.0, min_gain: 0.0, max_delta_step: None }
    }
}

/// How values are put into bins before training.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `max` | 256 | [2, 2³¹) | bins a column at most, for `hist` and `approx` |
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Bins {
    /// Bins a column at most.
    pub max: u32,
}

impl Default for Bins {
    fn default() -> Self {
        Self { max: 256 }
    }
}

/// Which rows and columns a tree sees. The shares of columns multiply.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `rows` | 1.0 | (0, 1] | share of the rows a round |
/// | `method` | `uniform` | | rows alike, or in proportion to their gradients |
/// | `columns` | 1.0 | (0, 1] | share of the columns a tree |
/// | `columns_per_level` | 1.0 | (0, 1] | share of the columns a level |
/// | `columns_per_node` | 1.0 | (0, 1] | share of the columns a split |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Sampling {
    /// Share of the rows a round.
    pub rows: f64,
    /// How rows are drawn.
    pub method: SamplingMethod,
    /// Share of the columns a tree.
    pub columns: f64,
    /// Share of the columns a level.
    pub columns_per_level: f64,
    /// Share of the columns a split.
    pub columns_per_node: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            rows: 1.0,
            method: SamplingMethod::Uniform,
            columns: 1.0,
            columns_per_level: 1.0,
            columns_per_node: 1.0,
        }
    }
}

/// How rows are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplingMethod {
    /// Each alike.
    #[default]
    Uniform,
    /// In proportion to √(*g*² + λ*h*²), with *g* the gradient and *h* the Hessian; `hist` only.
    GradientBased,
}

/// Splits on categorical columns.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `max_onehot` | 4 | [1, 2³¹) | a column with fewer levels is split one level against the rest |
/// | `max_threshold` | 64 | [1, 2³¹) | the most levels on one side of a split |
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Categorical {
    /// A column with fewer levels is split one level against the rest.
    pub max_onehot: u32,
    /// The most levels on one side of a split.
    pub max_threshold: u32,
}

impl Default for Categorical {
    fn default() -> Self {
        Self { max_onehot: 4, max_threshold: 64 }
    }
}

/// Constraints on columns, by name. A name that the data do not have is an error of the fit.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `monotone` | empty | numeric columns | predictions rise or fall with the column |
/// | `interactions` | empty | groups of columns | columns meet on a path only within a group |
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Constraints {
    /// Which way predictions go with a column.
    pub monotone: BTreeMap<String, Monotone>,
    /// Groups of columns that may meet on a path; a column in no group meets none.
    pub interactions: Vec<Vec<String>>,
}

impl Params for XgBoostParams {
    type Learner = XgBoost;

    fn build(self) -> Result<XgBoost, ParamError> {
        self.check_numbers()?;
        self.check_relations()?;
        self.check_extra()?;
        self.probe()?;
        Ok(XgBoost { params: self })
    }
}

/// The limit of the engine's integers.
const MAX_INT: u32 = i32::MAX as u32;

impl XgBoostParams {
    fn check_numbers(&self) -> Result<(), ParamError> {
        let Self { tree, penalty, sampling, categorical, .. } = self;
        whole("rounds", self.rounds, 1, MAX_INT as usize)?;
        not_negative("learning_rate", self.learning_rate)?;
        not_negative("scale_pos_weight", self.scale_pos_weight)?;
        if let Some(score) = self.base_score {
            ParamError::ensure(score.is_finite(), "base_score", score, "a finite number")?;
        }
        match self.objective {
            Objective::PseudoHuberError { slope } => {
                positive("objective.pseudohubererror.slope", slope)?;
            }
            Objective::Tweedie { power } => tweedie_power("objective.tweedie.power", power)?,
            Objective::Quantile { level } => open_unit("objective.quantile.level", level)?,
            _ => {}
        }
        match &self.boosting {
            Boosting::GbTree => {}
            Boosting::Dart(dart) => {
                unit("boosting.dart.drop_rate", dart.drop_rate)?;
                unit("boosting.dart.skip_drop", dart.skip_drop)?;
            }
            Boosting::GbLinear(linear) => {
                not_negative("boosting.gblinear.learning_rate", linear.learning_rate)?;
                not_negative("boosting.gblinear.l1", linear.l1)?;
                not_negative("boosting.gblinear.l2", linear.l2)?;
                whole("boosting.gblinear.top_k", linear.top_k, 0, MAX_INT)?;
            }
        }
        match tree.growth {
            Growth::Depthwise { max_depth } => {
                whole("tree.growth.max_depth", max_depth, 1, 30)?;
            }
            Growth::Lossguide { max_leaves: 0, max_depth } => {
                let expected = "in [1, 30] where the leaves have no limit";
                let ok = (1..=30).contains(&max_depth);
                ParamError::ensure(ok, "tree.growth.max_depth", max_depth, expected)?;
            }
            Growth::Lossguide { max_leaves, max_depth } => {
                let ok = (2..=1 << 30).contains(&max_leaves);
                let expected = "0 or a whole number in [2, 1073741824]";
                ParamError::ensure(ok, "tree.growth.max_leaves", max_leaves, expected)?;
                whole("tree.growth.max_depth", max_depth, 0, MAX_INT)?;
            }
        }
        not_negative("tree.min_hessian_in_leaf", tree.min_hessian_in_leaf)?;
        whole("bins.max", self.bins.max, 2, MAX_INT)?;
        whole("tree.parallel_trees", tree.parallel_trees, 1, MAX_INT)?;
        not_negative("penalty.l1", penalty.l1)?;
        not_negative("penalty.l2", penalty.l2)?;
        not_negative("penalty.min_gain", penalty.min_gain)?;
        if let Some(step) = penalty.max_delta_step {
            not_negative("penalty.max_delta_step", step)?;
        }
        share("sampling.rows", sampling.rows)?;
        share("sampling.columns", sampling.columns)?;
        share("sampling.columns_per_level", sampling.columns_per_level)?;
        share("sampling.columns_per_node", sampling.columns_per_node)?;
        whole("categorical.max_onehot", categorical.max_onehot, 1, MAX_INT)?;
        whole("categorical.max_threshold", categorical.max_threshold, 1, MAX_INT)?;
        self.class_weight.check("class_weight")?;
        self.early_stopping.as_ref().map_or(Ok(()), |stopping| stopping.check("early_stopping"))
    }

    fn check_relations(&self) -> Result<(), ParamError> {
        let depthwise = matches!(self.tree.growth, Growth::Depthwise { .. });
        let exact = self.tree.method == TreeMethod::Exact;
        let expected = "`depthwise` with the tree method `exact`";
        ParamError::ensure(depthwise || !exact, "tree.growth", "`lossguide`", expected)?;
        let hist = self.tree.method == TreeMethod::Hist;
        let uniform = self.sampling.method == SamplingMethod::Uniform;
        let expected = "`uniform` with another tree method than `hist`";
        ParamError::ensure(uniform || hist, "sampling.method", "`gradient_based`", expected)?;
        let watched = self.early_stopping.as_ref().and_then(|stopping| stopping.metric);
        if let (Some(metric), Some(_)) = (watched, &self.engine_metric) {
            let expected = "none beside `engine_metric`";
            return Err(ParamError::new("early_stopping.metric", metric, expected));
        }
        let keeps = self.early_stopping.is_none() || !matches!(self.boosting, Boosting::Dart(_));
        ParamError::ensure(keeps, "early_stopping", "some", "none with DART")?;
        if matches!(self.boosting, Boosting::GbLinear(_)) {
            let default = Self::default();
            for (name, is_default) in [
                ("learning_rate", self.learning_rate == default.learning_rate),
                ("tree", self.tree == default.tree),
                ("penalty", self.penalty == default.penalty),
                ("bins", self.bins == default.bins),
                ("sampling", self.sampling == default.sampling),
                ("categorical", self.categorical == default.categorical),
                ("constraints", self.constraints == default.constraints),
                ("early_stopping", self.early_stopping.is_none()),
                ("device", self.device == default.device),
            ] {
                let expected = "its default with the booster `gblinear`, which has no use for it";
                ParamError::ensure(is_default, name, "changed", expected)?;
            }
        }
        Ok(())
    }
}
