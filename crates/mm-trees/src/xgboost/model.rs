//! The fitted model: prediction, importance, and the engine's own formats.
//!
//! # Body of the envelope `mm.xgboost`, version 1
//!
//! | part | holds |
//! | --- | --- |
//! | JSON | the signature |
//! | bytes | the booster in XGBoost's UBJSON, as any XGBoost ≥ 3.1 opens it |

use std::{fmt, num::NonZeroUsize};

use mm_core::{
    BodyReader, BodyWriter, Column, Envelope, Error, Frame, Importance, ImportanceKind, Levels,
    Matrix, Model, Output, Persist, Result, Schema, Signature, Tag, Task,
};
use serde_json::Value;

use super::{Codes, XgBoostError, engine, ffi};

/// Rows predicted at a time. The engine keeps, for each thread and booster, the last result: 4 bytes
/// a row and output. It frees them when the booster is dropped, but only on the thread that drops
/// it; on others they stay until the thread ends or a new booster takes the old one's address. So
/// blocks are no longer than it takes to make the call itself cost nothing.
const BLOCK: usize = 1 << 12;

/// A fitted booster of XGBoost.
///
/// Predicts on the CPU, on one thread unless [`with_threads`](XgBoostModel::with_threads) says
/// otherwise; many threads may predict at once. Each thread that predicts keeps the engine's last
/// result, at most 2¹² rows of 4 bytes an output, until the model is dropped on that thread, or the
/// thread ends.
pub struct XgBoostModel {
    signature: Signature,
    fitted: ffi::Fitted,
    codes: Codes,
    n_trees: usize,
    n_rounds: usize,
    best_iteration: Option<usize>,
}

impl XgBoostModel {
    /// Reads a booster in one of XGBoost's own formats, JSON or UBJSON, such as Python's
    /// `save_model` writes, and derives its signature.
    ///
    /// Columns have the stored names (`f0`, `f1`, … where there are none) and types. The levels of
    /// categorical columns are those stored, which boosters have that were fitted to data frames
    /// by XGBoost ≥ 3.1; a booster without them needs
    /// [`from_bytes_as`](XgBoostModel::from_bytes_as). The objective says the task; classes are
    /// called `0`, `1`, ….
    ///
    /// The engine trusts the trees that it reads: open files from trusted sources only.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let fitted = ffi::Fitted::new(bytes, 1).map_err(engine)?;
        let signature = derive_signature(&fitted)?;
        Self::of(signature, fitted)
    }

    /// Reads a booster in one of XGBoost's own formats as a model of the given signature, which
    /// must fit its width, its categorical columns, and its number of outputs. A categorical
    /// cell's code is what the booster was fitted to.
    pub fn from_bytes_as(bytes: &[u8], signature: Signature) -> Result<Self> {
        Self::of(signature, ffi::Fitted::new(bytes, 1).map_err(engine)?)
    }

    fn of(signature: Signature, fitted: ffi::Fitted) -> Result<Self> {
        let config = read_config(&fitted)?;
        let learner = &config["learner"];
        let width = number(&learner["learner_model_param"]["num_feature"])?;
        if width != signature.schema.len() {
            return Err(Error::Columns { expected: width, got: signature.schema.len() });
        }
        let classes = number(&learner["learner_model_param"]["num_class"])?;
        let targets = number(&learner["learner_model_param"]["num_target"])?;
        let outputs = classes.max(targets).max(1);
        if outputs != signature.n_outputs() {
            return Err(Error::data("outputs of the booster", signature.n_outputs(), outputs));
        }
        let codes = Codes::of(&signature.schema);
        let (_, types) = fitted.booster().features().map_err(engine)?;
        for (index, (kind, column)) in types.iter().zip(signature.schema.columns()).enumerate() {
            if (kind == "c") != codes.categorical[index] {
                let expected = format!("of the booster's type `{kind}`");
                return Err(Error::Column { index, expected, got: column.to_string() });
            }
        }
        let n_rounds = fitted.booster().rounds().map_err(engine)?;
        let n_trees = if fitted.is_linear() {
            0
        } else {
            number(&learner["gradient_booster"]["gbtree_model_param"]["num_trees"])?
        };
        let best = fitted.booster().attribute(c"best_iteration").map_err(engine)?;
        let best_iteration = best.and_then(|text| text.parse::<usize>().ok()).map(|i| i + 1);
        Ok(Self { signature, fitted, codes, n_trees, n_rounds, best_iteration })
    }

    /// The booster in XGBoost's JSON, as Python's `load_model` opens it. Categorical columns are
    /// codes there: the dictionaries stand in the signature.
    pub fn to_json(&self) -> Result<String> {
        let bytes = self.fitted.booster().save(ffi::Format::Json).map_err(engine)?;
        String::from_utf8(bytes).map_err(|e| engine(XgBoostError::answer("UTF-8", &e)))
    }

    /// The booster in XGBoost's UBJSON: as [`to_json`](XgBoostModel::to_json), smaller.
    pub fn to_ubjson(&self) -> Result<Vec<u8>> {
        self.fitted.booster().save(ffi::Format::Ubjson).map_err(engine)
    }

    /// Number of trees; 0 for a linear model.
    pub fn n_trees(&self) -> usize {
        self.n_trees
    }

    /// Number of boosting rounds that the model holds.
    pub fn n_rounds(&self) -> usize {
        self.n_rounds
    }

    /// The best round, from 1, if the fit watched for it; the model ends with it.
    pub fn best_iteration(&self) -> Option<usize> {
        self.best_iteration
    }

    /// The same model, predicting with up to `threads` threads at a time. Worth while for batches
    /// of thousands of rows. Not stored.
    pub fn with_threads(mut self, threads: NonZeroUsize) -> Result<Self> {
        self.fitted.set_threads(threads.get()).map_err(engine)?;
        Ok(self)
    }
}

impl Model for XgBoostModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        let (n, width) = (x.n_rows(), self.signature.n_outputs());
        for from in (0..n).step_by(BLOCK) {
            let to = n.min(from + BLOCK);
            let values = self.codes.values(x, from, to);
            let out = &mut out.values_mut()[from * width..to * width];
            self.fitted.predict(&values, x.n_cols(), out).map_err(engine)?;
        }
        Ok(())
    }

    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        if self.codes.has_unknown(row) {
            let mut row = row.to_vec();
            self.codes.translate(&mut row);
            return self.fitted.predict(&row, row.len(), out).map_err(engine);
        }
        self.fitted.predict(row, row.len(), out).map_err(engine)
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }

    fn as_importance(&self) -> Option<&dyn Importance> {
        if self.fitted.is_linear() { None } else { Some(self) }
    }
}

impl Importance for XgBoostModel {
    /// Gain and cover are totals over the splits on the feature. For a linear model, an error.
    fn importance(&self, kind: ImportanceKind) -> Result<Vec<f64>> {
        if self.fitted.is_linear() {
            return Err(Error::data("importance", "a booster of trees", "`gblinear`"));
        }
        let name = match kind {
            ImportanceKind::Gain => "total_gain",
            ImportanceKind::Count => "weight",
            ImportanceKind::Cover => "total_cover",
            other => {
                return Err(Error::data(
                    "importance",
                    "gain, count, or cover",
                    format!("{other:?}"),
                ));
            }
        };
        let mut scores = vec![0.0; self.signature.schema.len()];
        for (at, score) in self.fitted.booster().scores(name, scores.len()).map_err(engine)? {
            let unknown = || engine(XgBoostError::answer("a feature of the model", &at));
            *scores.get_mut(at).ok_or_else(unknown)? = f64::from(score);
        }
        Ok(scores)
    }
}

impl Persist for XgBoostModel {
    const TAG: Tag = Tag::new("mm.xgboost", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.json(&self.signature)?;
        body.bytes(&self.to_ubjson()?);
        Ok(())
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        let signature = body.json()?;
        Self::from_bytes_as(body.bytes()?, signature)
    }
}

impl fmt::Debug for XgBoostModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.signature.schema.len();
        write!(f, "XgBoostModel({width} columns, {}, {} trees)", self.signature.task, self.n_trees)
    }
}

fn read_config(fitted: &ffi::Fitted) -> Result<Value> {
    let config = fitted.booster().config().map_err(engine)?;
    serde_json::from_str(&config).map_err(|e| engine(XgBoostError::answer("JSON", &e)))
}

/// A number that the engine writes as text.
fn number(value: &Value) -> Result<usize> {
    let number = value.as_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| engine(XgBoostError::answer("a number as text", value)))
}

fn derive_signature(fitted: &ffi::Fitted) -> Result<Signature> {
    let config = read_config(fitted)?;
    let schema = derive_schema(fitted, &config)?;
    let learner = &config["learner"];
    let name = learner["objective"]["name"].as_str().unwrap_or_default();
    let task = match name {
        "binary:logistic" => Task::classes(["0", "1"])?,
        "multi:softprob" => {
            let n_classes = number(&learner["learner_model_param"]["num_class"])?;
            Task::classes((0..n_classes).map(|class| class.to_string()))?
        }
        "reg:squarederror"
        | "reg:absoluteerror"
        | "reg:pseudohubererror"
        | "reg:squaredlogerror"
        | "count:poisson"
        | "reg:gamma"
        | "reg:tweedie"
        | "reg:quantileerror" => Task::Regression,
        other => {
            let expected = "an objective that predicts a value, a quantile, or probabilities";
            return Err(Error::data("objective of the booster", expected, format!("`{other}`")));
        }
    };
    let mut signature = Signature::new(schema, task);
    if name == "reg:quantileerror" {
        // One level in brackets, or several.
        let levels = &learner["objective"]["quantile_loss_param"]["quantile_alpha"];
        let text = levels.as_str().unwrap_or_default().trim_matches(['[', ']']);
        let levels: Result<Vec<f64>, _> = text.split(',').map(|x| x.trim().parse()).collect();
        let levels = levels.map_err(|_| engine(XgBoostError::answer("quantile levels", &text)))?;
        signature.outputs = levels.into_iter().map(Output::Quantile).collect();
    }
    Ok(signature)
}

fn derive_schema(fitted: &ffi::Fitted, config: &Value) -> Result<Schema> {
    let width = number(&config["learner"]["learner_model_param"]["num_feature"])?;
    let (names, types) = fitted.booster().features().map_err(engine)?;
    let mut stored = Value::Null;
    if types.iter().any(|kind| kind == "c") {
        let text = fitted.booster().save(ffi::Format::Json).map_err(engine)?;
        let mut model: Value = serde_json::from_slice(&text)
            .map_err(|e| engine(XgBoostError::answer("a model in JSON", &e)))?;
        stored = model["learner"]["gradient_booster"]["model"]["cats"]["enc"].take();
    }
    let column = |j: usize| {
        let name = names.get(j).cloned().unwrap_or_else(|| format!("f{j}"));
        if types.get(j).is_none_or(|kind| kind != "c") {
            return Ok(Column::numeric(name));
        }
        let levels = stored_levels(&stored[j]).filter(|levels| !levels.is_empty());
        let missing = || {
            let place = format!("levels of the categorical column `{name}`");
            Error::data(place, "stored levels, or a signature that has them", "none")
        };
        Ok(Column::categorical(name.clone(), Levels::new(levels.ok_or_else(missing)?)?))
    };
    Schema::new((0..width).map(column).collect::<Result<Vec<_>>>()?)
}

/// The levels that XGBoost ≥ 3.1 stores with a categorical column: texts end to end with their
/// offsets, or numbers.
fn stored_levels(column: &Value) -> Option<Vec<String>> {
    let values = column["values"].as_array()?;
    let Some(offsets) = column["offsets"].as_array() else {
        return Some(values.iter().map(ToString::to_string).collect());
    };
    let bytes: Option<Vec<u8>> = values.iter().map(|x| x.as_i64().map(|x| x as u8)).collect();
    let bytes = bytes?;
    let offsets: Option<Vec<usize>> =
        offsets.iter().map(|x| x.as_u64().and_then(|x| usize::try_from(x).ok())).collect();
    let text = |pair: &[usize]| {
        let bytes = bytes.get(pair[0]..pair[1])?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    };
    offsets?.windows(2).map(text).collect()
}
