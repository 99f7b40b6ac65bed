//! The fitted model: prediction, importance, and the engine's own formats.
//!
//! # Body of the envelope `mm.xgboost`, version 1
//!
//! | part | holds |
//! | --- | --- |
//! | JSON | the signature |
//! | bytes | the booster in XGBoost's UBJSON, as any XGBoost ≥ 3.1 opens it |

use std::{fmt, ops::Range};

use mm_core::{
    BodyReader, BodyWriter, Column, Contributions, Envelope, Error, Explains, Frame, Importance,
    ImportanceKind, Levels, Matrix, Model, Output, Persist, Result, Scale, Schema, Signature, Tag,
    Task, parallel,
};

use super::{
    read::{self, Booster, File, Linear, Rest},
    value::{Numbers, Value, damaged},
    write,
};
use crate::forest::{Explainer, Forest, Served, Test};

/// Rows that one thread predicts at a time where cells must be translated.
const BLOCK: usize = 256;

/// A model that XGBoost has fitted, here or elsewhere.
///
/// It predicts without XGBoost, and to the bit what XGBoost predicts. It may be used from any
/// number of threads at once; a batch runs on the rayon pool in which it is predicted.
#[derive(Clone)]
pub struct XgBoostModel {
    predictor: Predictor,
    rest: Rest,
    best_iteration: Option<usize>,
}

/// What predicts.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one a model, and nearly always the large one")]
enum Predictor {
    Trees {
        served: Served,
        /// The columns in which splits know the unknown level, and its code there: the one after
        /// the last level.
        unknown: Vec<(usize, f32)>,
    },
    Linear {
        signature: Signature,
        linear: Linear,
    },
}

impl XgBoostModel {
    /// Reads a booster in one of XGBoost's own formats, JSON or UBJSON, such as Python's
    /// `save_model` writes since version 1.0, and derives its signature.
    ///
    /// Columns have the stored names (`f0`, `f1`, … where there are none) and types. The levels of
    /// categorical columns are those stored, which boosters have that were fitted to data frames
    /// by XGBoost ≥ 3.1 (before 3.4 it cuts names that are not ASCII short); a booster without them
    /// needs [`from_bytes_as`](XgBoostModel::from_bytes_as). The objective says the task; classes are
    /// called `0`, `1`, …. `multi:softmax` predicts probabilities, like `multi:softprob`.
    ///
    /// All trees take part, as in Python's `Booster.predict`; scikit-learn's classes end with the
    /// best round, for which see [`slice`](XgBoostModel::slice). A damaged file is an error, and so
    /// is one in the old binary format.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let file = File::read(bytes)?;
        let signature = derive_signature(&file)?;
        Self::of(signature, file)
    }

    /// The same as [`read`](XgBoostModel::read).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::read(bytes)
    }

    /// Reads a booster in one of XGBoost's own formats as a model of the given signature, which
    /// must fit its width, its categorical columns, and its number of outputs. A categorical
    /// cell's code is what the booster was fitted to.
    pub fn from_bytes_as(bytes: &[u8], signature: Signature) -> Result<Self> {
        Self::of(signature, File::read(bytes)?)
    }

    fn of(signature: Signature, file: File) -> Result<Self> {
        let File { booster, rest, features } = file;
        let columns = signature.schema.columns();
        if columns.len() != features.len() {
            return Err(Error::Columns { expected: features.len(), got: columns.len() });
        }
        let n_outputs = match &booster {
            Booster::Trees(forest) => forest.n_outputs(),
            Booster::Linear(linear) => linear.n_outputs,
        };
        if n_outputs != signature.n_outputs() {
            return Err(Error::data("outputs of the booster", signature.n_outputs(), n_outputs));
        }
        let is_typed = rest
            .learner()?
            .get("feature_types")
            .is_some_and(|types| types.array("feature_types").is_ok_and(|types| !types.is_empty()));
        for (index, (column, feature)) in columns.iter().zip(&features).enumerate() {
            if is_typed && column.levels().is_some() != feature.is_categorical {
                let kind = if feature.is_categorical { "categorical" } else { "numeric" };
                let expected = format!("{kind}, as the booster says");
                return Err(Error::Column { index, expected, got: column.to_string() });
            }
        }
        let attributes = read::object_at_in(rest.learner()?, "attributes")?;
        let best =
            attributes.get("best_iteration").and_then(|text| text.str("").ok()?.parse().ok());
        let best_iteration = best.and_then(|i: usize| i.checked_add(1));
        let predictor = match booster {
            Booster::Linear(linear) => Predictor::Linear { signature, linear },
            Booster::Trees(forest) => {
                let served = Served::new(signature, forest)?;
                Predictor::Trees { unknown: unknown(&served), served }
            }
        };
        Ok(Self { predictor, rest, best_iteration })
    }

    /// The booster in XGBoost's JSON, as Python's `load_model` opens it. Categorical columns are
    /// codes there: the dictionaries stand in the signature.
    pub fn to_json(&self) -> Result<String> {
        Ok(self.to_value()?.to_json())
    }

    /// The booster in XGBoost's UBJSON: as [`to_json`](XgBoostModel::to_json), smaller.
    pub fn to_ubjson(&self) -> Result<Vec<u8>> {
        Ok(self.to_value()?.to_ubjson())
    }

    fn to_value(&self) -> Result<Value> {
        match self.forest() {
            Some(forest) => write::write(forest, &self.rest),
            None => Ok(self.rest.shell.clone()),
        }
    }

    /// The model of the rounds `rounds` alone, counted from 0: what the Python package predicts
    /// with `iteration_range`. At least one round, and none that is not there; of trees only.
    pub fn slice(&self, rounds: Range<usize>) -> Result<Self> {
        let Predictor::Trees { served, unknown } = &self.predictor else {
            return Err(Error::data("rounds", "those of a booster of trees", "`gblinear`"));
        };
        if rounds.is_empty() || self.n_rounds() < rounds.end {
            let expected = format!("some of the rounds 0..{}", self.n_rounds());
            return Err(Error::data("rounds", expected, format!("{rounds:?}")));
        }
        let best_iteration =
            self.best_iteration.filter(|&best| rounds.start == 0 && best <= rounds.end);
        let (forest, rest) = write::slice(served.forest(), &self.rest, rounds);
        let served = Served::new(served.signature().clone(), forest)?;
        let predictor = Predictor::Trees { served, unknown: unknown.clone() };
        Ok(Self { predictor, rest, best_iteration })
    }

    /// The trees, without anything of XGBoost; `None` for a linear model.
    pub fn forest(&self) -> Option<&Forest> {
        match &self.predictor {
            Predictor::Trees { served, .. } => Some(served.forest()),
            Predictor::Linear { .. } => None,
        }
    }

    /// The model, ready to explain its raw scores by the training rows that took each branch; made
    /// once. [`Explains`] uses it; it tells the interactions of features, too.
    ///
    /// # Errors
    ///
    /// As for [`Forest::explainer`], and for a linear model.
    pub fn explainer(&self) -> Result<&Explainer> {
        let (served, unknown) = self.trees_to_explain()?;
        served.explainer(unknown)
    }

    /// The model, ready to explain its raw scores against background rows.
    ///
    /// # Errors
    ///
    /// As for [`Forest::explainer_against`], for columns that the signature does not have, and for a
    /// linear model.
    pub fn explainer_against(&self, background: &Frame) -> Result<Explainer> {
        let (served, unknown) = self.trees_to_explain()?;
        served.explainer_against(background, unknown)
    }

    fn trees_to_explain(&self) -> Result<(&Served, &[(usize, f32)])> {
        match &self.predictor {
            Predictor::Trees { served, unknown } => Ok((served, unknown)),
            Predictor::Linear { .. } => {
                Err(Error::data("explainer", "a booster of trees", "`gblinear`"))
            }
        }
    }

    /// Number of trees; 0 for a linear model.
    pub fn n_trees(&self) -> usize {
        self.forest().map_or(0, Forest::n_trees)
    }

    /// Number of boosting rounds that the model holds.
    pub fn n_rounds(&self) -> usize {
        match self.predictor {
            Predictor::Trees { .. } => self.rest.rounds.len() - 1,
            Predictor::Linear { .. } => self.rest.rounds[1],
        }
    }

    /// The best round, from 1, if the fit watched for it. Models that were fitted here end with it.
    pub fn best_iteration(&self) -> Option<usize> {
        self.best_iteration
    }
}

/// The categorical columns in which some split's set has the code after the last level: training
/// gave it to unknown levels.
fn unknown(served: &Served) -> Vec<(usize, f32)> {
    let columns = served.signature().schema.columns();
    let mut knows = vec![false; columns.len()];
    for split in served.forest().trees().iter().flat_map(crate::forest::Tree::splits) {
        let n_levels = columns[split.feature].levels().map(Levels::len);
        if let (Test::Among { set, .. }, Some(n_levels)) = (&split.test, n_levels) {
            knows[split.feature] |= set.contains(n_levels as u32);
        }
    }
    let columns = columns.iter().enumerate().filter(|&(j, _)| knows[j]);
    columns.filter_map(|(j, column)| Some((j, column.levels()?.len() as f32))).collect()
}

fn has_unknown(unknown: &[(usize, f32)], row: &[f32]) -> bool {
    unknown.iter().any(|&(at, _)| row[at] == Frame::UNKNOWN)
}

fn translate(unknown: &[(usize, f32)], row: &mut [f32]) {
    for &(at, code) in unknown {
        if row[at] == Frame::UNKNOWN {
            row[at] = code;
        }
    }
}

impl Linear {
    /// One row, in the engine's order: the bias and the base score, then column by column.
    fn predict(&self, row: &[f32], out: &mut [f64]) {
        let k = self.n_outputs;
        let biases = &self.weights[row.len() * k..];
        for (j, (out, bias)) in out.iter_mut().zip(biases).enumerate() {
            let mut sum = bias + self.base;
            for (&x, weights) in row.iter().zip(self.weights.chunks_exact(k)) {
                if !x.is_nan() {
                    sum += x * weights[j];
                }
            }
            *out = sum.into();
        }
        self.link.apply(true, out);
    }
}

impl Linear {
    /// What each column of one row contributes, and then the bias, output by output.
    fn explain(&self, row: &[f32], out: &mut [f64]) {
        let biases = &self.weights[row.len() * self.n_outputs..];
        for (k, out) in out.chunks_exact_mut(row.len() + 1).enumerate() {
            for (j, (out, &x)) in out.iter_mut().zip(row).enumerate() {
                let weight = self.weights[j * self.n_outputs + k];
                *out = if x.is_nan() { 0.0 } else { f64::from(x) * f64::from(weight) };
            }
            out[row.len()] = f64::from(biases[k]) + f64::from(self.base);
        }
    }
}

impl Model for XgBoostModel {
    fn signature(&self) -> &Signature {
        match &self.predictor {
            Predictor::Trees { served, .. } => served.signature(),
            Predictor::Linear { signature, .. } => signature,
        }
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        let width = out.n_cols();
        match &self.predictor {
            Predictor::Trees { served, unknown }
                if unknown.is_empty() || !x.rows().any(|row| has_unknown(unknown, row)) =>
            {
                served.infer(x, out)
            }
            _ => parallel::fill_rows(out, BLOCK, |rows, out| {
                let mut pairs = rows.zip(out.chunks_exact_mut(width));
                pairs.try_for_each(|(i, out)| self.infer_row(x.row(i), out))
            }),
        }
    }

    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        match &self.predictor {
            Predictor::Trees { served, unknown } if has_unknown(unknown, row) => {
                let mut row = row.to_vec();
                translate(unknown, &mut row);
                served.infer_row(&row, out)
            }
            Predictor::Trees { served, .. } => served.infer_row(row, out),
            Predictor::Linear { linear, .. } => {
                linear.predict(row, out);
                Ok(())
            }
        }
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }

    fn n_trees(&self) -> Option<usize> {
        Some(XgBoostModel::n_trees(self))
    }

    fn as_importance(&self) -> Option<&dyn Importance> {
        self.forest().map(|_| self as &dyn Importance)
    }

    fn as_explains(&self) -> Option<&dyn Explains> {
        Some(self)
    }
}

/// Shapley values by the sums of Hessians of each branch: XGBoost's `pred_contribs`. For a linear
/// model, each feature's value times its weight; a missing value contributes nothing.
impl Explains for XgBoostModel {
    fn scale(&self) -> Scale {
        match &self.predictor {
            Predictor::Trees { served, .. } => served.forest().scale(),
            Predictor::Linear { linear, .. } => linear.link.to_scale(),
        }
    }

    fn explain(&self, x: &Frame, out: &mut Contributions) -> Result<()> {
        match &self.predictor {
            Predictor::Trees { served, unknown } => served.explainer(unknown)?.explain(x, out),
            Predictor::Linear { linear, .. } => {
                for (i, row) in x.rows().enumerate() {
                    linear.explain(row, out.matrix_mut().row_mut(i));
                }
                Ok(())
            }
        }
    }
}

impl Importance for XgBoostModel {
    /// See [`Forest::importance`]. For a linear model, an error.
    fn importance(&self, kind: ImportanceKind) -> Result<Vec<f64>> {
        let Some(forest) = self.forest() else {
            return Err(Error::data("importance", "a booster of trees", "`gblinear`"));
        };
        forest.importance(kind)
    }
}

impl Persist for XgBoostModel {
    const TAG: Tag = Tag::new("mm.xgboost", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.json(self.signature())?;
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
        let (width, task) = (self.signature().schema.len(), &self.signature().task);
        write!(f, "XgBoostModel({width} columns, {task}, {} trees)", self.n_trees())
    }
}

fn derive_signature(file: &File) -> Result<Signature> {
    let schema = derive_schema(file)?;
    let learner = file.rest.learner()?;
    let objective = read::object_at_in(learner, "objective")?;
    let name = read::get(objective, "name")?.str("name")?;
    let n_outputs = match &file.booster {
        Booster::Trees(forest) => forest.n_outputs(),
        Booster::Linear(linear) => linear.n_outputs,
    };
    let task = match name {
        "binary:logistic" | "binary:hinge" if n_outputs == 1 => Task::classes(["0", "1"])?,
        "multi:softprob" | "multi:softmax" if 1 < n_outputs => {
            Task::classes((0..n_outputs).map(|class| class.to_string()))?
        }
        _ => Task::Regression,
    };
    let mut signature = Signature::new(schema, task);
    if name == "reg:quantileerror" {
        let params = read::object_at_in(objective, "quantile_loss_param")?;
        let text = read::get(params, "quantile_alpha")?.str("quantile_alpha")?;
        // One level in brackets, or several.
        let levels = text.trim_matches(['[', ']', '(', ')']).split(',').map(|x| x.trim().parse());
        let levels: Result<Vec<f64>, _> = levels.collect();
        let levels = levels.map_err(|_| damaged("levels in `quantile_alpha`", text))?;
        signature.outputs = levels.into_iter().map(Output::Quantile).collect();
    } else if signature.task == Task::Regression {
        signature.outputs = vec![Output::Value; n_outputs];
    }
    Ok(signature)
}

fn derive_schema(file: &File) -> Result<Schema> {
    let levels = stored_levels(file)?;
    let columns = file.features.iter().enumerate().map(|(j, feature)| {
        let name = &feature.name;
        if !feature.is_categorical {
            return Ok(Column::numeric(name));
        }
        let Some(levels) = levels.get(j).filter(|levels| !levels.is_empty()) else {
            let place = format!("levels of the categorical column `{name}`");
            return Err(Error::data(place, "stored levels, or a signature that has them", "none"));
        };
        Ok(Column::categorical(name, Levels::new(levels.iter().cloned())?))
    });
    Schema::new(columns.collect::<Result<Vec<_>>>()?)
}

/// The levels that XGBoost ≥ 3.1 stores with each column: texts end to end with their offsets, or
/// numbers.
fn stored_levels(file: &File) -> Result<Vec<Vec<String>>> {
    let booster = read::object_at_in(file.rest.learner()?, "gradient_booster")?;
    let holder = match booster.get("gbtree") {
        Some(gbtree) => gbtree.object("gbtree")?,
        None => booster,
    };
    let Some(cats) = read::object_at_in(holder, "model")?.get("cats") else {
        return Ok(Vec::new());
    };
    let columns = read::get(cats.object("cats")?, "enc")?.array("enc")?;
    columns
        .iter()
        .map(|column| {
            let column = column.object("enc")?;
            let values = read::get(column, "values")?;
            let Some(offsets) = column.get("offsets") else {
                let kind = column.get("type");
                return numbers(values, matches!(kind, Some(Value::Integer(10 | 12 | 14 | 16))));
            };
            let bytes: Vec<u8> = values.i64s("values")?.into_iter().map(|x| x as u8).collect();
            let offsets = offsets.i64s("offsets")?;
            let text = |pair: &[i64]| {
                let (start, end) = (usize::try_from(pair[0]).ok()?, usize::try_from(pair[1]).ok()?);
                Some(String::from_utf8_lossy(bytes.get(start..end)?).into_owned())
            };
            let texts: Option<Vec<String>> = offsets.windows(2).map(text).collect();
            texts.ok_or_else(|| damaged("offsets within the levels' texts", "others"))
        })
        .collect()
}

/// Levels that are numbers; those without a sign are stored as if they had one.
fn numbers(values: &Value, is_unsigned: bool) -> Result<Vec<String>> {
    Ok(match values {
        Value::Numbers(Numbers::F32(x)) => x.iter().map(ToString::to_string).collect(),
        Value::Numbers(Numbers::I16(x)) if is_unsigned => {
            x.iter().map(|x| x.cast_unsigned().to_string()).collect()
        }
        Value::Numbers(Numbers::I32(x)) if is_unsigned => {
            x.iter().map(|x| x.cast_unsigned().to_string()).collect()
        }
        other => other.i64s("values")?.iter().map(ToString::to_string).collect(),
    })
}
