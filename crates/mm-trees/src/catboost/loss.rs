//! What a model predicts, by the loss that it was trained for.

use std::collections::BTreeMap;

use mm_core::{Error, Output, Result, Task};
use serde_json::Value;

use super::flat::damaged;
use crate::forest::Link;

/// What the scores of a model mean.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Meaning {
    pub(super) task: Task,
    pub(super) outputs: Vec<Output>,
    pub(super) link: Link,
}

/// What `n_outputs` raw scores mean, by what the file says about the training. A file that does not
/// name a loss predicts values.
///
/// As CatBoost's Python package predicts by default (`predict_proba` for classes, and for others the
/// prediction type that goes with the loss).
pub(super) fn meaning(info: &BTreeMap<String, String>, n_outputs: usize) -> Result<Meaning> {
    let params = json(info, "params");
    let loss = params.as_ref().map_or(&Value::Null, |params| &params["loss_function"]);
    let name = loss["type"].as_str().unwrap_or_default();
    // `alpha` is text; here and there a number.
    let alpha = match &loss["params"]["alpha"] {
        Value::String(text) => text.clone(),
        Value::Null => "0.5".to_owned(),
        other => other.to_string(),
    };
    let single = |task, outputs, link| {
        if n_outputs == 1 {
            return Ok(Meaning { task, outputs, link });
        }
        Err(damaged(format_args!("1 output for the loss `{name}`"), n_outputs))
    };
    let values = |link| {
        let outputs = vec![Output::Value; n_outputs];
        Ok(Meaning { task: Task::Regression, outputs, link })
    };
    match name {
        "Logloss" | "CrossEntropy" | "Focal" => {
            let task = Task::classes(class_names(info, 2)?)?;
            let outputs = task.outputs();
            single(task, outputs, Link::Sigmoid { scale: 1.0 })
        }
        "MultiClass" | "MultiClassOneVsAll" => {
            let names = class_names(info, n_outputs)?;
            let outputs = names.iter().cloned().map(Output::Probability).collect();
            let task = Task::classes(names)?;
            // CatBoost does not divide one-against-all probabilities by their sum.
            let link =
                if name == "MultiClass" { Link::Softmax } else { Link::Sigmoid { scale: 1.0 } };
            Ok(Meaning { task, outputs, link })
        }
        "Quantile" | "MultiQuantile" => {
            let levels: Result<Vec<f64>, _> = alpha.split(',').map(|x| x.trim().parse()).collect();
            let levels = levels.ok().filter(|levels| levels.len() == n_outputs);
            let levels = levels.ok_or_else(|| {
                damaged(format_args!("{n_outputs} quantile levels"), format_args!("`{alpha}`"))
            })?;
            let outputs = levels.into_iter().map(Output::Quantile).collect();
            Ok(Meaning { task: Task::Regression, outputs, link: Link::Identity })
        }
        "Poisson" | "Tweedie" => single(Task::Regression, vec![Output::Value], Link::Exp),
        "MultiLogloss" | "MultiCrossEntropy" | "RMSEWithUncertainty" => {
            let expected = "one that predicts values, quantiles, or exclusive classes";
            Err(Error::data("loss of the model", expected, format_args!("`{name}`")))
        }
        _ => values(Link::Identity),
    }
}

fn json(info: &BTreeMap<String, String>, key: &str) -> Option<Value> {
    info.get(key).and_then(|text| serde_json::from_str(text).ok())
}

/// The names of `n` classes; their numbers if the file has none.
fn class_names(info: &BTreeMap<String, String>, n: usize) -> Result<Vec<String>> {
    // Models before 0.23 have the labels of several classes elsewhere.
    let params = json(info, "class_params").or_else(|| json(info, "multiclass_params"));
    let names = params.as_ref().map_or(&Value::Null, |params| &params["class_names"]);
    let is_float = params.as_ref().is_some_and(|params| params["class_label_type"] == "Float");
    let name = |name: &Value| match name {
        Value::String(text) => text.clone(),
        // As text sources show floats: with a point.
        Value::Number(x) if is_float => format!("{:?}", x.as_f64().unwrap_or_default()),
        other => other.to_string(),
    };
    match names.as_array().map_or(&[][..], Vec::as_slice) {
        [] => Ok((0..n).map(|class| class.to_string()).collect()),
        names if names.len() == n => Ok(names.iter().map(name).collect()),
        names => Err(damaged(format_args!("{n} class names"), names.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(params: &str, classes: &str, n_outputs: usize) -> Result<Meaning> {
        let entries = [("params", params), ("class_params", classes)];
        let entries = entries.map(|(key, text)| (key.to_owned(), text.to_owned()));
        meaning(&entries.into(), n_outputs)
    }

    #[test]
    fn classes_are_named_by_the_file_or_by_their_numbers() {
        let loss = r#"{"loss_function": {"type": "Logloss", "params": {}}}"#;
        for (classes, positive) in [
            (r#"{"class_label_type": "Integer", "class_names": [0, 7]}"#, "7"),
            (r#"{"class_label_type": "Float", "class_names": [-2, 1.5]}"#, "1.5"),
            (r#"{"class_label_type": "Float", "class_names": [-2, 3]}"#, "3.0"),
            (r#"{"class_label_type": "String", "class_names": ["n", "y"]}"#, "y"),
            (r#"{"class_label_type": "Boolean", "class_names": [false, true]}"#, "true"),
            (r#"{"class_names": []}"#, "1"),
            ("", "1"),
        ] {
            let meaning = of(loss, classes, 1).expect("binary");
            assert_eq!(meaning.task.positive(), positive, "{classes}");
            assert_eq!(meaning.link, Link::Sigmoid { scale: 1.0 });
        }
        assert!(of(loss, r#"{"class_names": [0, 1, 2]}"#, 1).is_err(), "three of two");
        assert!(of(loss, "", 2).is_err(), "two outputs");
    }

    #[test]
    fn quantile_levels_are_those_of_the_loss() {
        let loss = |name: &str, alpha: &str| {
            format!(r#"{{"loss_function": {{"type": "{name}", "params": {{"alpha": {alpha}}}}}}}"#)
        };
        let meaning = of(&loss("MultiQuantile", r#""0.1, 0.5""#), "", 2).expect("two");
        assert_eq!(meaning.outputs, [Output::Quantile(0.1), Output::Quantile(0.5)]);
        let meaning = of(&loss("Quantile", "0.25"), "", 1).expect("one");
        assert_eq!(meaning.outputs, [Output::Quantile(0.25)]);
        assert!(of(&loss("MultiQuantile", r#""0.1,0.5""#), "", 3).is_err());
        assert!(of(&loss("Quantile", r#""x""#), "", 1).is_err());
    }

    #[test]
    fn a_model_that_says_nothing_predicts_values_and_some_losses_are_refused_by_name() {
        assert_eq!(of("", "", 2).expect("values").outputs, [Output::Value, Output::Value]);
        let error =
            of(r#"{"loss_function": {"type": "MultiLogloss"}}"#, "", 2).expect_err("labels");
        assert!(error.to_string().contains("`MultiLogloss`"), "{error}");
    }
}
