//! How hyper-parameters become XGBoost's own.

use std::collections::{BTreeMap, BTreeSet};

use mm_core::{Error, FitContext, Output, ParamError, Result, Schema, Task};
use serde::Serialize;
use serde_json::Value;

use super::{
    Boosting, Constraints, Growth, LinearUpdater, Objective, TreeMethod, XgBoostParams, ffi,
};
use crate::{constraint, domain, run};

impl XgBoostParams {
    /// Refuses an extra parameter that something else says.
    pub(super) fn check_extra(&self) -> Result<(), ParamError> {
        self.extra
            .iter()
            .try_for_each(|(key, value)| domain::not_covered(key, value, canonical(key), COVERED))
    }

    /// Has the engine check names and values on a booster without data.
    pub(super) fn probe(&self) -> Result<(), ParamError> {
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
    pub(super) fn settings(
        &self,
        objective: Objective,
        n_classes: usize,
    ) -> BTreeMap<String, String> {
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
        if let Boosting::GbLinear(linear) = &self.boosting {
            set("booster", &"gblinear");
            set("learning_rate", &linear.learning_rate);
            set("reg_lambda", &linear.l2);
            set("reg_alpha", &linear.l1);
            set("updater", &word(linear.updater));
            set("feature_selector", &word(linear.feature_selector));
            set("top_k", &linear.top_k);
        } else {
            self.tree_settings(&mut set);
        }
        for (name, value) in &self.extra {
            settings.insert(name.clone(), value.clone());
        }
        settings
    }

    fn tree_settings(&self, set: &mut impl FnMut(&str, &dyn ToString)) {
        let Self { tree, penalty, sampling, categorical, .. } = self;
        set("booster", &"gbtree"); // Dropout is a matter of its parameters; `dart` is an old name.
        if let Boosting::Dart(dart) = &self.boosting {
            set("sample_type", &word(dart.sample));
            set("normalize_type", &word(dart.normalize));
            set("rate_drop", &dart.drop_rate);
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
            set("max_bin", &self.bins.max);
        }
        set("num_parallel_tree", &tree.parallel_trees);
        set("multi_strategy", &word(tree.multi_strategy));
        set("reg_lambda", &penalty.l2);
        set("reg_alpha", &penalty.l1);
        set("min_split_loss", &penalty.min_gain);
        set("min_child_weight", &tree.min_hessian_in_leaf);
        if let Some(step) = penalty.max_delta_step {
            set("max_delta_step", &step);
        }
        set("subsample", &sampling.rows);
        set("sampling_method", &word(sampling.method));
        set("colsample_bytree", &sampling.columns);
        set("colsample_bylevel", &sampling.columns_per_level);
        set("colsample_bynode", &sampling.columns_per_node);
        set("max_cat_to_onehot", &categorical.max_onehot);
        set("max_cat_threshold", &categorical.max_threshold);
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
        let mut set = |name: &str, value: String| drop(settings.insert(name.to_owned(), value));
        self.constraints.put(schema, &mut set)?;
        set("nthread", self.threads(ctx).to_string());
        set("seed", run::seed(ctx).to_string());
        Ok(settings)
    }

    /// Threads for a fit that gives the same model for any number of them.
    pub(super) fn threads(&self, ctx: &FitContext<'_>) -> usize {
        match &self.boosting {
            Boosting::GbLinear(linear) if linear.updater == LinearUpdater::Shotgun => 1,
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
    fn put(&self, schema: &Schema, set: &mut impl FnMut(&str, String)) -> Result<()> {
        if let Some(signs) = constraint::signs(schema, &self.monotone)? {
            set("monotone_constraints", format!("({})", constraint::written(&signs).join(",")));
        }
        if let Some(lists) = constraint::lists(schema, &self.interactions)? {
            set("interaction_constraints", Value::from(lists).to_string());
        }
        Ok(())
    }
}

/// The parameters that `extra` may not name, each with what says it instead.
const COVERED: &[(&str, &str)] = &[
    ("base_score", "`base_score`"),
    ("booster", "`boosting`"),
    ("colsample_bylevel", "`sampling.columns_per_level`"),
    ("colsample_bynode", "`sampling.columns_per_node`"),
    ("colsample_bytree", "`sampling.columns`"),
    ("device", "`device`"),
    ("eval_metric", "`engine_metric`"),
    ("fail_on_invalid_gpu_id", "`device`"),
    ("feature_selector", "`boosting.gblinear`"),
    ("grow_policy", "`tree.growth`"),
    ("huber_slope", "`objective`"),
    ("interaction_constraints", "`constraints.interactions`"),
    ("learning_rate", "`learning_rate`"),
    ("max_bin", "`bins.max`"),
    ("max_cat_threshold", "`categorical.max_threshold`"),
    ("max_cat_to_onehot", "`categorical.max_onehot`"),
    ("max_delta_step", "`penalty.max_delta_step`"),
    ("max_depth", "`tree.growth`"),
    ("max_leaves", "`tree.growth`"),
    ("min_child_weight", "`tree.min_hessian_in_leaf`"),
    ("min_split_loss", "`penalty.min_gain`"),
    ("monotone_constraints", "`constraints.monotone`"),
    ("multi_strategy", "`tree.multi_strategy`"),
    ("normalize_type", "`boosting.dart`"),
    ("nthread", "the thread budget of the context"),
    ("num_class", "the task of the data"),
    ("num_feature", "the schema of the data"),
    ("num_parallel_tree", "`tree.parallel_trees`"),
    ("num_target", "the task of the data"),
    ("objective", "`objective`"),
    ("one_drop", "`boosting.dart`"),
    ("process_type", "a warm start"),
    ("quantile_alpha", "`objective`"),
    ("rate_drop", "`boosting.dart`"),
    ("reg_alpha", "`penalty.l1`"),
    ("reg_lambda", "`penalty.l2`"),
    ("sample_type", "`boosting.dart`"),
    ("sampling_method", "`sampling.method`"),
    ("scale_pos_weight", "`scale_pos_weight`"),
    ("seed", "the seed of the context"),
    ("skip_drop", "`boosting.dart`"),
    ("subsample", "`sampling.rows`"),
    ("top_k", "`boosting.gblinear`"),
    ("tree_method", "`tree.method`"),
    ("tweedie_variance_power", "`objective`"),
    ("updater", "`tree.method` or `boosting.gblinear`"),
    ("validate_parameters", "nothing"),
    ("verbosity", "the subscriber of `tracing`"),
];

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
