//! How hyper-parameters become LightGBM's own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::OnceLock,
};

use mm_core::{Error, Output, ParamError, Result, Schema, Task};

use super::{
    Boosting, Constraints, Device, EngineMetric, Histogram, LightGbmParams, MonotoneMethod,
    Objective, RowSampling, ffi, learner::engine,
};
use crate::{constraint, domain};

impl LightGbmParams {
    /// The objective that fits `task`, by LightGBM's name, or an error if the chosen one does not.
    pub(super) fn objective_for(&self, task: &Task) -> Result<&'static str> {
        let (name, fits) = match (self.objective, task) {
            (Objective::Auto, Task::Regression) => ("regression", true),
            (Objective::Auto, Task::Binary(_)) => ("binary", true),
            (Objective::Auto, _) => ("multiclass", true),
            (Objective::Binary, _) => ("binary", matches!(task, Task::Binary(_))),
            (Objective::CrossEntropy, _) => ("cross_entropy", matches!(task, Task::Binary(_))),
            (Objective::Multiclass, _) => ("multiclass", matches!(task, Task::Multiclass(_))),
            (Objective::MulticlassOva, _) => ("multiclassova", matches!(task, Task::Multiclass(_))),
            (regression, _) => {
                let name = match regression {
                    Objective::L1 => "regression_l1",
                    Objective::Huber { .. } => "huber",
                    Objective::Fair { .. } => "fair",
                    Objective::Poisson => "poisson",
                    Objective::Quantile { .. } => "quantile",
                    Objective::Mape => "mape",
                    Objective::Gamma => "gamma",
                    Objective::Tweedie { .. } => "tweedie",
                    _ => "regression",
                };
                (name, matches!(task, Task::Regression))
            }
        };
        let wrong = || Error::data("task of the data", format!("one for `{name}`"), task);
        let metric_fits = self
            .engine_metric
            .is_none_or(|m| m.is_multiclass() == matches!(task, Task::Multiclass(_)));
        let weighs = matches!(name, "binary" | "multiclassova");
        let balances = match &self.sampling.rows {
            RowSampling::Bagging(bagging) => bagging.positive < 1.0 || bagging.negative < 1.0,
            _ => false,
        };
        match (fits, self.engine_metric) {
            (false, _) => Err(wrong()),
            // LightGBM would ignore both without a word.
            (true, _) if self.scale_pos_weight != 1.0 && !weighs => Err(Error::data(
                "`scale_pos_weight`",
                "a binary or one-against-all objective",
                name,
            )),
            (true, _) if balances && name != "binary" => {
                Err(Error::data("bagging by class", "the objective `binary`", name))
            }
            (true, Some(metric)) if !metric_fits => {
                let expected = format!("one for the metric `{}`", metric.name());
                Err(Error::data("task of the data", expected, task))
            }
            _ => Ok(name),
        }
    }

    /// What the outputs of a model for `task` mean.
    pub(super) fn outputs(&self, task: &Task) -> Vec<Output> {
        match self.objective {
            Objective::Quantile { level } => vec![Output::Quantile(level)],
            _ => task.outputs(),
        }
    }

    /// Whether the algorithm's result depends on the number of threads even where LightGBM is
    /// told to be deterministic.
    pub(super) fn depends_on_threads(&self) -> bool {
        self.histogram == Histogram::Rows
            || self.tree.linear
            || matches!(self.sampling.rows, RowSampling::Goss(_))
            || self.extra.contains_key("use_quantized_grad")
    }

    /// All parameters in LightGBM's own form. Whatever has a field is written, default or not, so
    /// that the model text says what it was trained with.
    pub(super) fn to_config(&self, schema: &Schema, task: &Task, seed: u32) -> Result<String> {
        let mut config = Config::default();
        config.put("objective", self.objective_for(task)?);
        if let Task::Multiclass(_) = task {
            config.put("num_class", task.n_classes());
        }
        config.put("metric", self.engine_metric.map_or("none", EngineMetric::name));
        config.put("seed", seed);
        config.put("num_iterations", self.rounds);
        config.put("learning_rate", self.learning_rate);
        match self.objective {
            Objective::Huber { alpha } | Objective::Quantile { level: alpha } => {
                config.put("alpha", alpha);
            }
            Objective::Fair { c } => config.put("fair_c", c),
            Objective::Tweedie { power } => {
                config.put("tweedie_variance_power", power);
            }
            _ => {}
        }
        match &self.boosting {
            Boosting::Gbdt => config.put("boosting", "gbdt"),
            Boosting::RandomForest => config.put("boosting", "rf"),
            Boosting::Dart(dart) => {
                config.put("boosting", "dart");
                config.put("drop_rate", dart.drop_rate);
                config.put("max_drop", limit(dart.max_drop));
                config.put("skip_drop", dart.skip_drop);
                config.put("uniform_drop", dart.uniform);
                config.put("xgboost_dart_mode", dart.xgboost_mode);
            }
        }
        config.put("num_leaves", self.tree.leaves);
        config.put("max_depth", limit(self.tree.max_depth));
        config.put("min_data_in_leaf", self.tree.min_data_in_leaf);
        config.put("min_sum_hessian_in_leaf", self.tree.min_hessian_in_leaf);
        config.put("extra_trees", self.tree.extra_trees);
        config.put("linear_tree", self.tree.linear);
        match &self.sampling.rows {
            RowSampling::All => {}
            RowSampling::Bagging(bagging) => {
                config.put("bagging_fraction", bagging.fraction);
                config.put("bagging_freq", bagging.every);
                config.put("pos_bagging_fraction", bagging.positive);
                config.put("neg_bagging_fraction", bagging.negative);
            }
            RowSampling::Goss(goss) => {
                config.put("data_sample_strategy", "goss");
                config.put("top_rate", goss.top_rate);
                config.put("other_rate", goss.other_rate);
            }
        }
        config.put("feature_fraction", self.sampling.columns);
        config.put("feature_fraction_bynode", self.sampling.columns_per_node);
        config.put("lambda_l1", self.penalty.l1);
        config.put("lambda_l2", self.penalty.l2);
        config.put("min_gain_to_split", self.penalty.min_gain);
        config.put("max_delta_step", self.penalty.max_delta_step.unwrap_or(0.0));
        config.put("path_smooth", self.penalty.path_smooth);
        config.put("max_bin", self.bins.max);
        config.put("min_data_in_bin", self.bins.min_data);
        config.put("cat_smooth", self.categorical.smooth);
        config.put("cat_l2", self.categorical.l2);
        config.put("max_cat_threshold", self.categorical.max_threshold);
        config.put("max_cat_to_onehot", self.categorical.max_onehot);
        config.put("min_data_per_group", self.categorical.min_data_per_group);
        config.put("scale_pos_weight", self.scale_pos_weight);
        self.constraints.put(schema, &mut config)?;
        let codes: Vec<String> = (0..schema.len())
            .filter(|&j| schema.columns()[j].levels().is_some())
            .map(|j| j.to_string())
            .collect();
        if !codes.is_empty() {
            config.put("categorical_feature", codes.join(","));
        }
        let device = match self.device {
            Device::Cpu => "cpu",
            Device::Gpu => "gpu",
            Device::Cuda => "cuda",
        };
        config.put("device_type", device);
        config.put("deterministic", self.deterministic);
        config.put("force_col_wise", self.histogram == Histogram::Columns);
        config.put("force_row_wise", self.histogram == Histogram::Rows);
        for (key, value) in &self.extra {
            config.put(key, value);
        }
        Ok(config.0)
    }

    /// Refuses an extra parameter that the engine does not know, that something else says, or whose
    /// value the engine cannot read.
    pub(super) fn check_extra(&self) -> Result<(), ParamError> {
        for (key, value) in &self.extra {
            let name = format!("extra.{key}");
            let known = canonical(key).map_err(|e| ParamError::new(&name, value, e.chain()))?;
            let Some(known) = known else {
                return Err(ParamError::new(name, value, "a parameter of LightGBM 4.7"));
            };
            domain::not_covered(key, value, known, COVERED)?;
            // LightGBM splits its parameters at blanks, and each at `=`; it drops quotes.
            let ok = !value.is_empty()
                && !value.contains(|c: char| c.is_whitespace() || "=\"'\0".contains(c));
            let expected = "a value without blanks, quotes, and equals signs";
            ParamError::ensure(ok, &name, format_args!("{value:?}"), expected)?;
            let read = ffi::check_config(&format!("{key}={value}"));
            read.map_err(|e| ParamError::new(name, value, format!("what LightGBM accepts: {e}")))?;
        }
        Ok(())
    }
}

impl Constraints {
    fn put(&self, schema: &Schema, config: &mut Config) -> Result<()> {
        if let Some(signs) = constraint::signs(schema, &self.monotone)? {
            config.put("monotone_constraints", constraint::written(&signs).join(","));
            let method = match self.method {
                MonotoneMethod::Basic => "basic",
                MonotoneMethod::Intermediate => "intermediate",
                MonotoneMethod::Advanced => "advanced",
            };
            config.put("monotone_constraints_method", method);
            config.put("monotone_penalty", self.penalty);
        }
        if let Some(lists) = constraint::lists(schema, &self.interactions)? {
            let list = |list: &Vec<usize>| format!("{list:?}").replace(' ', "");
            config.put(
                "interaction_constraints",
                lists.iter().map(list).collect::<Vec<_>>().join(","),
            );
        }
        Ok(())
    }
}

/// Parameters in LightGBM's own form: `key=value`, separated by blanks.
#[derive(Default)]
struct Config(String);

impl Config {
    fn put(&mut self, key: &str, value: impl std::fmt::Display) {
        let blank = if self.0.is_empty() { "" } else { " " };
        let _ = write!(self.0, "{blank}{key}={value}"); // Writing to a string cannot fail.
    }
}

/// LightGBM's way to say that there is no limit.
fn limit(at_most: Option<usize>) -> String {
    at_most.map_or_else(|| "-1".to_owned(), |n| n.to_string())
}

/// The parameters that `extra` may not name, each with what says it instead.
const COVERED: &[(&str, &str)] = &[
    ("bagging_fraction", "`sampling.rows`"),
    ("bagging_freq", "`sampling.rows`"),
    ("boosting", "`boosting`"),
    ("cat_l2", "`categorical.l2`"),
    ("cat_smooth", "`categorical.smooth`"),
    ("categorical_feature", "the schema of the data"),
    ("config", "the other fields"),
    ("convert_model", "nothing"),
    ("convert_model_language", "nothing"),
    ("data", "the data"),
    ("data_sample_strategy", "`sampling.rows`"),
    ("deterministic", "`deterministic`"),
    ("device_type", "`device`"),
    ("drop_rate", "`boosting.dart`"),
    ("early_stopping_min_delta", "`early_stopping`"),
    ("early_stopping_round", "`early_stopping`"),
    ("extra_trees", "`tree.extra_trees`"),
    ("feature_fraction", "`sampling.columns`"),
    ("feature_fraction_bynode", "`sampling.columns_per_node`"),
    ("first_metric_only", "`early_stopping`"),
    ("force_col_wise", "`histogram`"),
    ("force_row_wise", "`histogram`"),
    ("group_column", "nothing"),
    ("header", "nothing"),
    ("ignore_column", "the schema of the data"),
    ("input_model", "a warm start"),
    ("interaction_constraints", "`constraints.interactions`"),
    ("is_provide_training_metric", "nothing"),
    ("label_column", "the data"),
    ("lambda_l1", "`penalty.l1`"),
    ("lambda_l2", "`penalty.l2`"),
    ("learning_rate", "`learning_rate`"),
    ("linear_tree", "`tree.linear`"),
    ("machine_list_filename", "nothing"),
    ("machines", "nothing"),
    ("max_bin", "`bins.max`"),
    ("max_cat_threshold", "`categorical.max_threshold`"),
    ("max_cat_to_onehot", "`categorical.max_onehot`"),
    ("max_delta_step", "`penalty.max_delta_step`"),
    ("max_depth", "`tree.max_depth`"),
    ("max_drop", "`boosting.dart`"),
    ("metric", "`engine_metric`"),
    ("metric_freq", "nothing"),
    ("min_data_in_bin", "`bins.min_data`"),
    ("min_data_in_leaf", "`tree.min_data_in_leaf`"),
    ("min_data_per_group", "`categorical.min_data_per_group`"),
    ("min_gain_to_split", "`penalty.min_gain`"),
    ("min_sum_hessian_in_leaf", "`tree.min_hessian_in_leaf`"),
    ("monotone_constraints", "`constraints.monotone`"),
    ("monotone_constraints_method", "`constraints.method`"),
    ("monotone_penalty", "`constraints.penalty`"),
    ("neg_bagging_fraction", "`sampling.rows`"),
    ("num_class", "the task of the data"),
    ("num_iterations", "`rounds`"),
    ("num_leaves", "`tree.leaves`"),
    ("num_machines", "nothing"),
    ("num_threads", "the thread budget of the context"),
    ("objective", "`objective`"),
    ("other_rate", "`sampling.rows`"),
    ("output_model", "nothing"),
    ("output_result", "nothing"),
    ("path_smooth", "`penalty.path_smooth`"),
    ("pos_bagging_fraction", "`sampling.rows`"),
    ("save_binary", "nothing"),
    ("scale_pos_weight", "`scale_pos_weight`"),
    ("seed", "the seed of the context"),
    ("skip_drop", "`boosting.dart`"),
    ("snapshot_freq", "nothing"),
    ("task", "nothing"),
    ("top_rate", "`sampling.rows`"),
    ("tree_learner", "nothing"),
    ("tweedie_variance_power", "`objective`"),
    ("uniform_drop", "`boosting.dart`"),
    ("valid", "the validation data of the context"),
    ("verbosity", "the subscriber of `tracing`"),
    ("weight_column", "the weights of the data"),
    ("xgboost_dart_mode", "`boosting.dart`"),
    ("alpha", "`objective`"),
    ("fair_c", "`objective`"),
];

/// The name that `key` is, or is an alias of, if the engine knows it.
fn canonical(key: &str) -> Result<Option<&'static str>> {
    static ALIASES: OnceLock<BTreeMap<String, BTreeSet<String>>> = OnceLock::new();
    let aliases = if let Some(aliases) = ALIASES.get() {
        aliases
    } else {
        let text = ffi::parameter_aliases().map_err(engine)?;
        let read = serde_json::from_str(&text)
            .map_err(|e| Error::corrupt("LightGBM's list of parameters", "valid JSON", e))?;
        ALIASES.get_or_init(|| read)
    };
    let found = aliases.iter().find(|(name, also)| *name == key || also.contains(key));
    Ok(found.map(|(name, _)| name.as_str()))
}
