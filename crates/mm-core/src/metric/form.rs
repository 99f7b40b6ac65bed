//! Metrics as text: names with parameters, in files and on the command line.

use std::{fmt, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{
    data::Quoted,
    error::ParamError,
    metric::{Average, Metric, default},
};

impl Metric {
    /// Name and value of the parameter, if the metric has one.
    fn parameter(&self) -> Option<(&'static str, String)> {
        match self {
            Self::RocAuc { average }
            | Self::PrAuc { average }
            | Self::Precision { average }
            | Self::Recall { average }
            | Self::F1 { average } => Some(("average", average.to_string())),
            Self::CalibrationError { bins } => Some(("bins", bins.to_string())),
            Self::TopKAccuracy { k } => Some(("k", k.to_string())),
            Self::Pinball { level } => Some(("level", level.to_string())),
            _ => None,
        }
    }

    /// The metric with its parameter as the text says, or `None` if it has no such parameter.
    fn with_parameter(mut self, key: &str, value: &str) -> Option<Self> {
        match (&mut self, key) {
            (
                Self::RocAuc { average }
                | Self::PrAuc { average }
                | Self::Precision { average }
                | Self::Recall { average }
                | Self::F1 { average },
                "average",
            ) => *average = *Average::ALL.iter().find(|average| average.name() == value)?,
            (Self::CalibrationError { bins: count }, "bins")
            | (Self::TopKAccuracy { k: count }, "k") => *count = value.parse().ok()?,
            (Self::Pinball { level }, "level") => *level = value.parse().ok()?,
            _ => return None,
        }
        Some(self)
    }
}

/// The name, and in parentheses the parameter where it is not the default; `FromStr` reads it.
impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parameter() {
            Some((key, value)) if !Self::ALL.contains(self) => {
                f.pad(&format!("{}({key}={value})", self.name()))
            }
            _ => f.pad(self.name()),
        }
    }
}

/// From `name` or `name(parameter=value)`. Unknown names and values outside the domain are refused.
impl FromStr for Metric {
    type Err = ParamError;

    fn from_str(text: &str) -> Result<Self, ParamError> {
        let parts = text.trim().strip_suffix(')').and_then(|text| text.split_once('('));
        let (name, parameter) = match parts {
            Some((name, parameter)) => (name, Some(parameter)),
            None => (text.trim(), None),
        };
        let Some(metric) = Self::ALL.iter().find(|metric| metric.name() == name) else {
            let names: Vec<_> = Self::ALL.iter().map(Self::name).collect();
            let expected = format!("one of {}", names.join(", "));
            return Err(ParamError::new("metric", Quoted(text), expected));
        };
        let Some(parameter) = parameter else {
            return Ok(*metric);
        };
        let pair = parameter.split_once('=');
        let given = pair.and_then(|(key, value)| metric.with_parameter(key.trim(), value.trim()));
        let Some(metric) = given else {
            let expected = match metric.parameter() {
                None => format!("{name}, which has no parameter"),
                Some(("average", _)) => {
                    format!("{name}(average=A) with A one of auto, macro, micro, weighted")
                }
                Some((key, _)) => format!("{name}({key}=N) with a number N"),
            };
            return Err(ParamError::new("metric", Quoted(text), expected));
        };
        metric.check("metric")?;
        Ok(metric)
    }
}

/// What serde derives for [`Metric`], whose own implementation takes a bare name as well.
#[derive(Deserialize)]
#[serde(remote = "Metric", rename_all = "snake_case", deny_unknown_fields)]
enum Form {
    LogLoss,
    Brier,
    CalibrationError {
        #[serde(default = "default::bins")]
        bins: usize,
    },
    RocAuc {
        #[serde(default)]
        average: Average,
    },
    PrAuc {
        #[serde(default)]
        average: Average,
    },
    Accuracy,
    BalancedAccuracy,
    TopKAccuracy {
        #[serde(default = "default::k")]
        k: usize,
    },
    Precision {
        #[serde(default)]
        average: Average,
    },
    Recall {
        #[serde(default)]
        average: Average,
    },
    F1 {
        #[serde(default)]
        average: Average,
    },
    Mcc,
    Rmse,
    Mae,
    MedianAbsoluteError,
    Mape,
    Rmsle,
    R2,
    Pinball {
        #[serde(default = "default::level")]
        level: f64,
    },
}

/// From the text that `FromStr` takes, or from a table of one name with a table of its parameter.
/// Values outside the domain are refused.
impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrTable;

        impl<'de> Visitor<'de> for TextOrTable {
            type Value = Metric;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "the name of a metric, or a table such as { pinball = { level = 0.9 } }",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Metric, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metric, A::Error> {
                let metric = Form::deserialize(MapAccessDeserializer::new(&mut map))?;
                if map.next_key::<IgnoredAny>()?.is_some() {
                    return Err(de::Error::custom("expected one metric, got several"));
                }
                metric.check("metric").map_err(de::Error::custom)?;
                Ok(metric)
            }
        }

        deserializer.deserialize_any(TextOrTable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Plan {
        metric: Option<Metric>,
    }

    #[track_caller]
    fn reads(toml: &str, expected: &str) {
        let plan: Plan = toml::from_str(toml).expect("reads");
        assert_eq!(plan.metric, Some(expected.parse().expect("a metric")), "{toml}");
    }

    #[test]
    fn a_bare_name_takes_the_default() {
        for metric in Metric::ALL {
            reads(&format!("metric = '{}'", metric.name()), metric.name());
            assert_eq!(metric.to_string(), metric.name());
            let json = serde_json::to_string(metric).expect("writes");
            assert!(json.contains(&format!("\"{}\"", metric.name())), "{json}");
            if metric.parameter().is_some() {
                reads(&format!("metric = {{ {} = {{}} }}", metric.name()), metric.name());
            }
        }
        assert_eq!(toml::from_str::<Plan>("").expect("nothing"), Plan { metric: None });
    }

    #[test]
    fn a_table_or_parentheses_hold_the_parameter() {
        reads("metric = { pinball = { level = 0.9 } }", "pinball(level=0.9)");
        reads("metric = { f1 = { average = 'macro' } }", "f1(average=macro)");
        reads("metric = 'top_k_accuracy( k = 5 )'", "top_k_accuracy(k=5)");
        reads("[metric.calibration_error]\nbins = 10", "calibration_error(bins=10)");
        assert_eq!(format!("{:>9}|{:<6}|", Metric::Mae, Metric::R2), "      mae|r2    |");
    }

    #[test]
    fn what_is_no_metric_is_refused_with_what_would_be_one() {
        for (text, message) in [
            (
                "f1(k=3)",
                "\"f1(k=3)\"; expected f1(average=A) with A one of auto, macro, micro, weighted",
            ),
            ("f1(average=mean)", "expected f1(average=A) with A one of"),
            ("pinball(level=much)", "expected pinball(level=N) with a number N"),
            ("pinball(level=2)", "`metric.level` is 2; expected a number between 0 and 1"),
            ("rmse(level=2)", "expected rmse, which has no parameter"),
            ("F1", "\"F1\"; expected one of log_loss, brier, calibration_error, roc_auc,"),
            ("pinball(level=0.5", "expected one of log_loss"),
            ("f1()", "expected f1(average=A)"),
            ("", "\"\"; expected one of"),
        ] {
            let error = text.parse::<Metric>().expect_err("no metric").to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn files_refuse_misspelt_keys_second_metrics_and_values_outside_the_domain() {
        for (toml, message) in [
            ("metric = { f1 = { avg = 'macro' } }", "unknown field `avg`, expected `average`"),
            ("metric = { f2 = {} }", "unknown variant `f2`, expected one of `log_loss`"),
            ("metric = { f1 = {}, mcc = {} }", "expected one metric, got several"),
            ("metric = { pinball = { level = 1 } }", "`metric.level` is 1; expected"),
            ("metric = 'f2'", "parameter `metric` is \"f2\"; expected one of"),
            ("metric = 3", "expected the name of a metric, or a table"),
        ] {
            let error = toml::from_str::<Plan>(toml).expect_err("no metric").to_string();
            assert!(error.contains(message), "{toml}: {error}");
        }
    }
}
