//! Hyper-parameters of XGBoost, and how they become the engine's settings.

use std::collections::{BTreeMap, BTreeSet};

use mm_core::{
    ClassWeight, Column, EarlyStopping, Error, FitContext, Output, ParamError, Params, Result,
    Schema, Task,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{XgBoost, ffi};

/// Hyper-parameters of [`XgBoost`]; plain data, checked by [`build`](Params::build).
///
/// Defaults are XGBoost's own; that of `rounds` is the one of its scikit-learn interface.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `rounds` | 100 | [1, 2³¹) | boosting rounds, each of one tree a class and parallel tree |
/// | `learning_rate` | 0.3 | [0, ∞) | η, the factor of each new tree |
/// | `objective` | `auto` | [`Objective`] | the loss; `auto` is `squarederror`, `logistic`, or `softprob`, by task |
/// | `booster` | `gbtree` | [`Booster`] | trees, trees with dropout, or a linear model |
/// | `tree` | | [`TreeParams`] | how a tree grows |
/// | `regularization` | | [`Regularization`] | what keeps trees small |
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
/// `extra` reaches what has no typed field, such as `refresh_leaf` or `max_cached_hist_node`. An
/// entry wins over the typed field of the same meaning, whichever alias it is written with (`eta`
/// for `learning_rate`). The engine checks names and values in `build`; where XGBoost itself would
/// only warn of a name that it does not know, `build` refuses it. Also refused are the names that
/// the task, the data, and the context decide: `objective`, `num_class`, `seed`, `nthread`, …
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
    /// Trees, trees with dropout, or a linear model.
    pub booster: Booster,
    /// How a tree grows.
    pub tree: TreeParams,
    /// What keeps trees small.
    pub regularization: Regularization,
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
            booster: Booster::GbTree,
            tree: TreeParams::default(),
            regularization: Regularization::default(),
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
pub enum Booster {
    /// Trees.
    #[default]
    GbTree,
    /// Trees, some of which are left out of each round: Rashmi & Gilad-Bachrach (2015), "DART:
    /// dropouts meet multiple additive regression trees". Later rounds rescale earlier trees, so
    /// early stopping keeps the first rounds of the last model, not the model of that round.
    Dart(DartParams),
    /// A linear model without trees, which XGBoost has deprecated. Numeric columns only, a missing
    /// cell counts as 0, and it cannot go back to an earlier round.
    GbLinear(LinearParams),
}

/// Dropout of trees.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `sample_type` | `uniform` | | trees are dropped alike, or in proportion to their weight |
/// | `normalize_type` | `tree` | | new trees weigh as much as each dropped tree, or as all together |
/// | `rate_drop` | 0.0 | [0, 1] | share of the trees dropped |
/// | `one_drop` | false | | drop at least one tree |
/// | `skip_drop` | 0.0 | [0, 1] | probability that a round drops none |
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DartParams {
    /// How dropped trees are drawn.
    pub sample_type: DartSample,
    /// How new and dropped trees share their weight.
    pub normalize_type: DartNormalize,
    /// Share of the trees dropped.
    pub rate_drop: f64,
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
/// | `lambda` | 0.0 | [0, ∞) | penalty on squared weights |
/// | `alpha` | 0.0 | [0, ∞) | penalty on absolute weights |
/// | `updater` | `shotgun` | | parallel or ordered coordinate descent |
/// | `feature_selector` | `cyclic` | `shotgun`: `cyclic`, `shuffle` | order of the coordinates |
/// | `top_k` | 0 | [0, 2³¹) | coordinates that `greedy` and `thrifty` update; 0: all |
///
/// `shotgun` is run on one thread: on several, the threads race and no fit repeats another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LinearParams {
    /// η.
    pub learning_rate: f64,
    /// Penalty on squared weights.
    pub lambda: f64,
    /// Penalty on absolute weights.
    pub alpha: f64,
    /// Parallel or ordered coordinate descent.
    pub updater: LinearUpdater,
    /// Order of the coordinates.
    pub feature_selector: FeatureSelector,
    /// Coordinates that `greedy` and `thrifty` update; 0 is all.
    pub top_k: u32,
}

impl Default for LinearParams {
    fn default() -> Self {
        Self {
            learning_rate: 0.5,
            lambda: 0.0,
            alpha: 0.0,
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
/// | `max_bin` | 256 | [2, 2³¹) | bins a column of `hist` and `approx` |
/// | `num_parallel_tree` | 1 | [1, 2³¹) | trees a round: above 1, a boosted forest |
/// | `multi_strategy` | `one_output_per_tree` | | a tree a class, or one tree with a leaf value a class |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TreeParams {
    /// Which leaf is split next, and how far.
    pub growth: Growth,
    /// How splits are searched for.
    pub method: TreeMethod,
    /// Bins a column.
    pub max_bin: u32,
    /// Trees a round.
    pub num_parallel_tree: u32,
    /// A tree a class, or one tree for all.
    pub multi_strategy: MultiStrategy,
}

impl Default for TreeParams {
    fn default() -> Self {
        Self {
            growth: Growth::default(),
            method: TreeMethod::Hist,
            max_bin: 256,
            num_parallel_tree: 1,
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

/// What keeps trees small.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `lambda` | 1.0 | [0, ∞) | penalty on squared leaf values |
/// | `alpha` | 0.0 | [0, ∞) | penalty on absolute leaf values |
/// | `gamma` | 0.0 | [0, ∞) | loss that a split must save |
/// | `min_child_weight` | 1.0 | [0, ∞) | sum of Hessians that a child must have |
/// | `max_delta_step` | none | [0, ∞) | limit of a leaf's value, 0 being none; none: 0, and 0.7 for `poisson` |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Regularization {
    /// Penalty on squared leaf values.
    pub lambda: f64,
    /// Penalty on absolute leaf values.
    pub alpha: f64,
    /// Loss that a split must save.
    pub gamma: f64,
    /// Sum of Hessians that a child must have.
    pub min_child_weight: f64,
    /// Limit of a leaf's value before η; 0 is none.
    pub max_delta_step: Option<f64>,
}

impl Default for Regularization {
    fn default() -> Self {
        Self { lambda: 1.0, alpha: 0.0, gamma: 0.0, min_child_weight: 1.0, max_delta_step: None }
    }
}

/// Which rows and columns a tree sees. The shares of columns multiply.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `subsample` | 1.0 | (0, 1] | share of the rows a round |
/// | `method` | `uniform` | | rows alike, or in proportion to their gradients |
/// | `colsample_bytree` | 1.0 | (0, 1] | share of the columns a tree |
/// | `colsample_bylevel` | 1.0 | (0, 1] | share of the columns a level |
/// | `colsample_bynode` | 1.0 | (0, 1] | share of the columns a split |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Sampling {
    /// Share of the rows a round.
    pub subsample: f64,
    /// How rows are drawn.
    pub method: SamplingMethod,
    /// Share of the columns a tree.
    pub colsample_bytree: f64,
    /// Share of the columns a level.
    pub colsample_bylevel: f64,
    /// Share of the columns a split.
    pub colsample_bynode: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            subsample: 1.0,
            method: SamplingMethod::Uniform,
            colsample_bytree: 1.0,
            colsample_bylevel: 1.0,
            colsample_bynode: 1.0,
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
/// | `max_cat_to_onehot` | 4 | [1, 2³¹) | a column with fewer levels is split one level against the rest |
/// | `max_cat_threshold` | 64 | [1, 2³¹) | the most levels on one side of a split |
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Categorical {
    /// A column with fewer levels is split one level against the rest.
    pub max_cat_to_onehot: u32,
    /// The most levels on one side of a split.
    pub max_cat_threshold: u32,
}

impl Default for Categorical {
    fn default() -> Self {
        Self { max_cat_to_onehot: 4, max_cat_threshold: 64 }
    }
}

/// Constraints on columns, by name. A name that the data do not have is an error of the fit.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `monotone` | empty | numeric columns | predictions rise or fall with the column |
/// | `interaction` | empty | groups of columns | columns meet on a path only within a group |
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Constraints {
    /// Which way predictions go with a column.
    pub monotone: BTreeMap<String, Monotone>,
    /// Groups of columns that may meet on a path; a column in no group meets none.
    pub interaction: Vec<Vec<String>>,
}

/// Which way predictions go with a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Monotone {
    /// They never fall as the column rises.
    Increasing,
    /// They never rise as the column rises.
    Decreasing,
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
        let Self { tree, regularization, sampling, categorical, .. } = self;
        whole("rounds", self.rounds, 1, MAX_INT as usize)?;
        not_negative("learning_rate", self.learning_rate)?;
        not_negative("scale_pos_weight", self.scale_pos_weight)?;
        if let Some(score) = self.base_score {
            ParamError::ensure(score.is_finite(), "base_score", score, "a finite number")?;
        }
        match self.objective {
            Objective::PseudoHuberError { slope } => {
                let ok = 0.0 < slope && slope.is_finite();
                ParamError::ensure(ok, "objective.slope", slope, "a finite number above 0")?;
            }
            Objective::Tweedie { power } => {
                let ok = (1.0..2.0).contains(&power);
                ParamError::ensure(ok, "objective.power", power, "a number in [1, 2)")?;
            }
            Objective::Quantile { level } => {
                let ok = 0.0 < level && level < 1.0;
                ParamError::ensure(ok, "objective.level", level, "a number in (0, 1)")?;
            }
            _ => {}
        }
        match &self.booster {
            Booster::GbTree => {}
            Booster::Dart(dart) => {
                for (name, share) in [("rate_drop", dart.rate_drop), ("skip_drop", dart.skip_drop)]
                {
                    let ok = (0.0..=1.0).contains(&share);
                    let name = format!("booster.{name}");
                    ParamError::ensure(ok, name, share, "a number in [0, 1]")?;
                }
            }
            Booster::GbLinear(linear) => {
                not_negative("booster.learning_rate", linear.learning_rate)?;
                not_negative("booster.lambda", linear.lambda)?;
                not_negative("booster.alpha", linear.alpha)?;
                whole("booster.top_k", linear.top_k, 0, MAX_INT)?;
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
        whole("tree.max_bin", tree.max_bin, 2, MAX_INT)?;
        whole("tree.num_parallel_tree", tree.num_parallel_tree, 1, MAX_INT)?;
        not_negative("regularization.lambda", regularization.lambda)?;
        not_negative("regularization.alpha", regularization.alpha)?;
        not_negative("regularization.gamma", regularization.gamma)?;
        not_negative("regularization.min_child_weight", regularization.min_child_weight)?;
        if let Some(step) = regularization.max_delta_step {
            not_negative("regularization.max_delta_step", step)?;
        }
        share("sampling.subsample", sampling.subsample)?;
        share("sampling.colsample_bytree", sampling.colsample_bytree)?;
        share("sampling.colsample_bylevel", sampling.colsample_bylevel)?;
        share("sampling.colsample_bynode", sampling.colsample_bynode)?;
        whole("categorical.max_cat_to_onehot", categorical.max_cat_to_onehot, 1, MAX_INT)?;
        whole("categorical.max_cat_threshold", categorical.max_cat_threshold, 1, MAX_INT)?;
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
        if let (Some(metric), Some(name)) = (watched, &self.engine_metric) {
            let expected = format!("none beside `early_stopping.metric`, which is {metric:?}");
            return Err(ParamError::new("engine_metric", format!("`{name}`"), expected));
        }
        if matches!(self.booster, Booster::GbLinear(_)) {
            let default = Self::default();
            for (name, is_default) in [
                ("learning_rate", self.learning_rate == default.learning_rate),
                ("tree", self.tree == default.tree),
                ("regularization", self.regularization == default.regularization),
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

    fn check_extra(&self) -> Result<(), ParamError> {
        const DECIDED: [&str; 16] = [
            "booster",
            "device",
            "eval_metric",
            "fail_on_invalid_gpu_id",
            "interaction_constraints",
            "monotone_constraints",
            "nthread",
            "num_class",
            "num_feature",
            "num_target",
            "objective",
            "process_type",
            "quantile_alpha",
            "seed",
            "validate_parameters",
            "verbosity",
        ];
        let mut seen = BTreeSet::new();
        for (name, value) in &self.extra {
            let plain = canonical(name);
            let expected = "left to the typed fields, the task, the data, and the context";
            let free = !DECIDED.contains(&plain);
            ParamError::ensure(free, format!("extra.{name}"), format!("`{value}`"), expected)?;
            let expected = format!("given once, and `{plain}` has two names here");
            ParamError::ensure(seen.insert(plain), format!("extra.{name}"), value, expected)?;
        }
        Ok(())
    }

    /// Has the engine check names and values on a booster without data.
    fn probe(&self) -> Result<(), ParamError> {
        let mut known = BTreeSet::new();
        for objective in self.objective.candidates() {
            let config = self.probe_one(objective).map_err(|error| {
                let got = format!("refused by the engine ({error})");
                ParamError::new("extra", got, "values that XGBoost accepts")
            })?;
            let device = &config["learner"]["generic_param"]["device"];
            if self.device != "cpu" && device == "cpu" {
                let expected = "a device that this machine and this build of XGBoost have";
                return Err(ParamError::new("device", format!("`{}`", self.device), expected));
            }
            collect_names(&config, &mut known);
        }
        for (name, value) in &self.extra {
            let expected = "the name of a parameter that XGBoost 3.4 has a use for";
            let is_known = known.contains(name);
            ParamError::ensure(is_known, format!("extra.{name}"), format!("`{value}`"), expected)?;
        }
        Ok(())
    }

    fn probe_one(&self, objective: Objective) -> Result<Value, ffi::XgBoostError> {
        let mut booster = ffi::Booster::new(&[])?;
        for (name, value) in self.settings(objective, 3) {
            booster.set(&name, &value)?;
        }
        if let Some(metric) = &self.engine_metric {
            booster.set("eval_metric", metric)?;
        }
        booster.set("num_feature", "1")?;
        let config = booster.config()?;
        serde_json::from_str(&config).map_err(|e| ffi::XgBoostError::answer("JSON", &e))
    }

    /// The engine's settings for a resolved objective, less those that depend on data and context.
    fn settings(&self, objective: Objective, n_classes: usize) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        let mut set = |name: &str, value: &dyn ToString| {
            settings.insert(name.to_owned(), value.to_string());
        };
        match objective {
            Objective::Auto | Objective::SquaredError => set("objective", &"reg:squarederror"),
            Objective::AbsoluteError => set("objective", &"reg:absoluteerror"),
            Objective::PseudoHuberError { slope } => {
                set("objective", &"reg:pseudohubererror");
                set("huber_slope", &slope);
            }
            Objective::SquaredLogError => set("objective", &"reg:squaredlogerror"),
            Objective::Poisson => set("objective", &"count:poisson"),
            Objective::Gamma => set("objective", &"reg:gamma"),
            Objective::Tweedie { power } => {
                set("objective", &"reg:tweedie");
                set("tweedie_variance_power", &power);
            }
            Objective::Quantile { level } => {
                set("objective", &"reg:quantileerror");
                set("quantile_alpha", &level);
            }
            Objective::Logistic => {
                set("objective", &"binary:logistic");
                set("scale_pos_weight", &self.scale_pos_weight);
            }
            Objective::Softprob => {
                set("objective", &"multi:softprob");
                set("num_class", &n_classes);
            }
        }
        if let Some(score) = self.base_score {
            set("base_score", &score);
        }
        if let Booster::GbLinear(linear) = &self.booster {
            set("booster", &"gblinear");
            set("learning_rate", &linear.learning_rate);
            set("reg_lambda", &linear.lambda);
            set("reg_alpha", &linear.alpha);
            set("updater", &word(linear.updater));
            set("feature_selector", &word(linear.feature_selector));
            set("top_k", &linear.top_k);
        } else {
            self.tree_settings(&mut set);
        }
        for (name, value) in &self.extra {
            settings.insert(canonical(name).to_owned(), value.clone());
        }
        settings
    }

    fn tree_settings(&self, set: &mut impl FnMut(&str, &dyn ToString)) {
        let Self { tree, regularization, sampling, categorical, .. } = self;
        set("booster", &"gbtree"); // Dropout is a matter of its parameters; `dart` is an old name.
        if let Booster::Dart(dart) = &self.booster {
            set("sample_type", &word(dart.sample_type));
            set("normalize_type", &word(dart.normalize_type));
            set("rate_drop", &dart.rate_drop);
            set("one_drop", &u8::from(dart.one_drop));
            set("skip_drop", &dart.skip_drop);
        }
        set("device", &self.device);
        set("learning_rate", &self.learning_rate);
        let (policy, max_leaves, max_depth) = match tree.growth {
            Growth::Depthwise { max_depth } => ("depthwise", 0, max_depth),
            Growth::Lossguide { max_leaves, max_depth } => ("lossguide", max_leaves, max_depth),
        };
        set("grow_policy", &policy);
        set("max_leaves", &max_leaves);
        set("max_depth", &max_depth);
        set("tree_method", &word(tree.method));
        if tree.method != TreeMethod::Exact {
            set("max_bin", &tree.max_bin);
        }
        set("num_parallel_tree", &tree.num_parallel_tree);
        set("multi_strategy", &word(tree.multi_strategy));
        set("reg_lambda", &regularization.lambda);
        set("reg_alpha", &regularization.alpha);
        set("min_split_loss", &regularization.gamma);
        set("min_child_weight", &regularization.min_child_weight);
        if let Some(step) = regularization.max_delta_step {
            set("max_delta_step", &step);
        }
        set("subsample", &sampling.subsample);
        set("sampling_method", &word(sampling.method));
        set("colsample_bytree", &sampling.colsample_bytree);
        set("colsample_bylevel", &sampling.colsample_bylevel);
        set("colsample_bynode", &sampling.colsample_bynode);
        set("max_cat_to_onehot", &categorical.max_cat_to_onehot);
        set("max_cat_threshold", &categorical.max_cat_threshold);
    }

    /// All of the engine's settings for one fit.
    pub(super) fn to_settings(
        &self,
        objective: Objective,
        task: &Task,
        schema: &Schema,
        ctx: &FitContext<'_>,
    ) -> Result<BTreeMap<String, String>> {
        if self.scale_pos_weight != 1.0 && objective != Objective::Logistic {
            return Err(Error::data("scale_pos_weight", "binary classification", task));
        }
        let mut settings = self.settings(objective, task.n_classes());
        let mut set = |name: &str, value: String| settings.insert(name.to_owned(), value);
        if let Some(directions) = self.constraints.directions(schema)? {
            set("monotone_constraints", directions);
        }
        if let Some(groups) = self.constraints.groups(schema)? {
            set("interaction_constraints", groups);
        }
        set("nthread", self.threads(ctx).to_string());
        // The engine's stream takes 32 bits. Small seeds stay what they are.
        set("seed", ((ctx.seed ^ (ctx.seed >> 32)) as u32).to_string());
        Ok(settings)
    }

    /// Threads for a fit that gives the same model for any number of them.
    pub(super) fn threads(&self, ctx: &FitContext<'_>) -> usize {
        match &self.booster {
            Booster::GbLinear(linear) if linear.updater == LinearUpdater::Shotgun => 1,
            _ => ctx.threads.get(),
        }
    }
}

impl Objective {
    /// The objective for `task`, or an error if it is for another.
    pub(super) fn resolve(self, task: &Task) -> Result<Self> {
        let (auto, fits) = match task {
            Task::Binary(_) => (Self::Logistic, self == Self::Logistic),
            Task::Multiclass(_) => (Self::Softprob, self == Self::Softprob),
            _ => (Self::SquaredError, !matches!(self, Self::Logistic | Self::Softprob)),
        };
        match self {
            Self::Auto => Ok(auto),
            _ if fits => Ok(self),
            _ => {
                let expected = match self {
                    Self::Logistic => "binary classification",
                    Self::Softprob => "multiclass classification",
                    _ => "regression",
                };
                let expected = format!("{expected}, for the objective `{self:?}`");
                Err(Error::data("task of the data", expected, task))
            }
        }
    }

    /// What a prediction means; the task's own outputs, unless the objective says otherwise.
    pub(super) fn outputs(self, task: &Task) -> Vec<Output> {
        match self {
            Self::Quantile { level } => vec![Output::Quantile(level)],
            _ => task.outputs(),
        }
    }

    /// What it may turn out to be.
    fn candidates(self) -> Vec<Self> {
        match self {
            Self::Auto => vec![Self::SquaredError, Self::Logistic, Self::Softprob],
            known => vec![known],
        }
    }
}

impl Constraints {
    /// One of -1, 0, 1 a column, as the engine reads them.
    fn directions(&self, schema: &Schema) -> Result<Option<String>> {
        if self.monotone.is_empty() {
            return Ok(None);
        }
        let mut directions = vec!["0"; schema.len()];
        for (name, direction) in &self.monotone {
            let at = position(schema, name, "constraints.monotone")?;
            let column = &schema.columns()[at];
            if column.levels().is_some() {
                return Err(Error::data("constraints.monotone", "numeric columns", column));
            }
            directions[at] = match direction {
                Monotone::Increasing => "1",
                Monotone::Decreasing => "-1",
            };
        }
        Ok(Some(format!("({})", directions.join(","))))
    }

    /// Groups of positions, as JSON.
    fn groups(&self, schema: &Schema) -> Result<Option<String>> {
        if self.interaction.is_empty() {
            return Ok(None);
        }
        let place = "constraints.interaction";
        let group = |names: &Vec<String>| {
            names.iter().map(|name| position(schema, name, place)).collect::<Result<Vec<_>>>()
        };
        let groups = self.interaction.iter().map(group).collect::<Result<Vec<_>>>()?;
        Ok(Some(Value::from(groups).to_string()))
    }
}

fn position(schema: &Schema, name: &str, place: &str) -> Result<usize> {
    schema.position(name).ok_or_else(|| {
        let names: Vec<&str> = schema.columns().iter().map(|c: &Column| &*c.name).collect();
        let expected = format!("columns of the data ({})", names.join(", "));
        Error::data(place, expected, format!("`{name}`"))
    })
}

/// The engine's first name of a parameter with several.
fn canonical(name: &str) -> &str {
    match name {
        "alpha" => "reg_alpha",
        "eta" => "learning_rate",
        "gamma" => "min_split_loss",
        "lambda" => "reg_lambda",
        "n_jobs" => "nthread",
        "random_state" => "seed",
        "updater_seq" => "updater",
        other => other,
    }
}

/// The names of all parameters in the engine's configuration: the keys of the objects whose own
/// names end in `_param`.
fn collect_names(config: &Value, names: &mut BTreeSet<String>) {
    match config {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::Object(params) if name.ends_with("_param") => {
                        names.extend(params.keys().cloned());
                    }
                    other => collect_names(other, names),
                }
            }
        }
        Value::Array(parts) => parts.iter().for_each(|part| collect_names(part, names)),
        _ => {}
    }
}

/// The serialised name of an enum's unit variant, which is the engine's.
fn word(variant: impl Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(Value::String(word)) => word,
        other => unreachable!("a unit variant is a string, not {other:?}"),
    }
}

fn not_negative(name: &str, value: f64) -> Result<(), ParamError> {
    ParamError::ensure(0.0 <= value && value.is_finite(), name, value, "a finite number ≥ 0")
}

fn share(name: &str, value: f64) -> Result<(), ParamError> {
    ParamError::ensure(0.0 < value && value <= 1.0, name, value, "a number in (0, 1]")
}

fn whole<T: Copy + PartialOrd + std::fmt::Display>(
    name: &str,
    value: T,
    low: T,
    high: T,
) -> Result<(), ParamError> {
    let expected = format!("a whole number in [{low}, {high}]");
    ParamError::ensure(low <= value && value <= high, name, value, expected)
}
