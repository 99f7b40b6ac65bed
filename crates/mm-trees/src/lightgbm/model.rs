//! The fitted model: predictions, files, importances.

use std::ops::Range;

use mm_core::{
    BodyReader, BodyWriter, Column, Contributions, Envelope, Error, Explains, Frame, Importance,
    ImportanceKind, Levels, Matrix, Model, Output, Persist, Result, Scale, Schema, Signature, Tag,
    Task,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    read::{Rest, Text, damaged, highest_code},
    write,
};
use crate::forest::{Explainer, Forest, Served};

/// A model that LightGBM has fitted, here or elsewhere.
///
/// It predicts without LightGBM, and to the bit what LightGBM predicts. It may be used from any
/// number of threads at once; a batch runs on the rayon pool in which it is predicted. Its file
/// holds the signature and LightGBM's own text, so that the engine's model can be taken out
/// ([`to_text`](Self::to_text)) and opened by LightGBM in any language.
#[derive(Debug, Clone)]
pub struct LightGbmModel {
    served: Served,
    rest: Rest,
    best_iteration: Option<usize>,
}

/// What the body holds beside LightGBM's text.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    signature: Signature,
    best_iteration: Option<usize>,
}

/// Levels that a schema derived from a text may have in all.
const MAX_LEVELS: usize = 1 << 20;

impl LightGbmModel {
    pub(super) fn new(
        signature: Signature,
        best_iteration: Option<usize>,
        text: Text,
    ) -> Result<Self> {
        let Text { forest, rest } = text;
        let (task, n_outputs) = (&signature.task, forest.n_outputs());
        let is_binary = matches!(rest.objective(), Some("binary" | "cross_entropy"));
        let fits = match task {
            Task::Regression => !is_binary && n_outputs == 1,
            Task::Binary(_) => is_binary,
            _ => n_outputs == task.n_classes(),
        };
        let columns_fit = signature.schema.len() == forest.features().len();
        if columns_fit && (!fits || signature.n_outputs() != n_outputs) {
            let objective = rest.objective().unwrap_or("a function of the caller's");
            let got = format!("`{objective}` with {n_outputs} outputs");
            return Err(Error::data("model text", format!("a model of {task}"), got));
        }
        Ok(Self { served: Served::new(signature, forest)?, rest, best_iteration })
    }

    /// Reads a model in LightGBM's own form, from the bytes of a file that `Booster.save_model`
    /// wrote; see [`from_text`](Self::from_text).
    pub fn read(bytes: &[u8]) -> Result<Self> {
        Self::from_text(std::str::from_utf8(bytes).map_err(|e| damaged("UTF-8", e))?)
    }

    /// Reads a model in LightGBM's own text form, as `Booster.save_model` writes it in Python:
    /// version 4, of LightGBM 4.x, or 3, of LightGBM 3.x.
    ///
    /// The signature is what the text says. Columns have its names; a column is categorical where
    /// LightGBM saw categories, and its levels are those of the Python data frame if the text ends
    /// with them, and `"0"`, `"1"`, … for plain codes. The task follows from the objective, with
    /// classes `"0"`, `"1"`, ….
    ///
    /// The text is checked, so that a damaged one is an error. A model without trees is refused.
    pub fn from_text(text: &str) -> Result<Self> {
        let text = Text::read(text)?;
        let schema = schema_of(&text)?;
        let n_outputs = text.forest.n_outputs();
        let task = match text.rest.objective() {
            Some("binary" | "cross_entropy") => Task::classes(["0", "1"])?,
            _ if n_outputs == 1 => Task::Regression,
            _ => Task::classes((0..n_outputs).map(|k| k.to_string()))?,
        };
        let mut signature = Signature::new(schema, task);
        if text.rest.objective() == Some("quantile")
            && let Some(level) = text.rest.parameter("alpha").and_then(|level| level.parse().ok())
        {
            signature.outputs = vec![Output::Quantile(level)];
        }
        Self::new(signature, None, text)
    }

    /// Reads a model in LightGBM's own text form as a model of the given signature, which must fit
    /// its width, its objective, and its number of outputs. A categorical cell's code is what the
    /// model was fitted to.
    pub fn from_text_as(text: &str, signature: Signature) -> Result<Self> {
        Self::new(signature, None, Text::read(text)?)
    }

    /// The model in LightGBM's own text form, with the levels of the categorical columns at its end
    /// as the Python package writes and reads them.
    ///
    /// Column names are LightGBM's: the punctuation of JSON and blanks are replaced by `_`.
    pub fn to_text(&self) -> Result<String> {
        let mut text = self.engine_text();
        let columns = self.served.signature().schema.columns();
        let levels: Vec<&[String]> =
            columns.iter().filter_map(|column| Some(column.levels()?.names())).collect();
        if !levels.is_empty() && self.rest.pandas_categorical().is_none() {
            let levels = serde_json::to_string(&levels)
                .map_err(|e| Error::data("levels", "strings with a JSON form", e))?;
            text.push_str("\npandas_categorical:");
            text.push_str(&levels);
            text.push('\n');
        }
        Ok(text)
    }

    /// The model of the rounds `rounds` alone, counted from 0: what the Python package predicts
    /// with `start_iteration` and `num_iteration`. At least one round, and none that is not there.
    pub fn slice(&self, rounds: Range<usize>) -> Result<Self> {
        if rounds.is_empty() || self.n_rounds() < rounds.end {
            let expected = format!("some of the rounds 0..{}", self.n_rounds());
            return Err(Error::data("rounds", expected, format!("{rounds:?}")));
        }
        let best = self.best_iteration.filter(|&best| rounds.start == 0 && best <= rounds.end);
        let text = write::slice(self.forest(), &self.rest, rounds);
        Self::new(self.served.signature().clone(), best, text)
    }

    /// The trees, without anything of LightGBM.
    pub fn forest(&self) -> &Forest {
        self.served.forest()
    }

    /// The model, ready to explain its raw scores by the training rows that took each branch; made
    /// once. [`Explains`] uses it; it tells the interactions of features, too.
    ///
    /// # Errors
    ///
    /// As for [`Forest::explainer`].
    pub fn explainer(&self) -> Result<&Explainer> {
        self.served.explainer(&[])
    }

    /// The model, ready to explain its raw scores against background rows.
    ///
    /// # Errors
    ///
    /// As for [`Forest::explainer_against`], and columns that the signature does not have.
    pub fn explainer_against(&self, background: &Frame) -> Result<Explainer> {
        self.served.explainer_against(background, &[])
    }

    /// Number of trees: rounds times outputs.
    pub fn n_trees(&self) -> usize {
        self.forest().n_trees()
    }

    /// Number of boosting rounds that the model holds.
    pub fn n_rounds(&self) -> usize {
        self.forest().n_rounds()
    }

    /// The best round, from 1, if the fit watched for it; the model ends with it.
    pub fn best_iteration(&self) -> Option<usize> {
        self.best_iteration
    }

    /// The text as the engine has it.
    fn engine_text(&self) -> String {
        write::write(self.forest(), &self.rest)
    }
}

/// What continuing a fit needs.
#[cfg(feature = "lightgbm")]
impl LightGbmModel {
    /// A booster of the engine with the model's trees.
    pub(super) fn to_booster(&self) -> Result<super::ffi::Booster> {
        super::ffi::Booster::load(&self.engine_text()).map_err(super::learner::engine)
    }

    /// Raw scores, before the link: output by output, each one number a row.
    pub(super) fn raw_columns(&self, x: &Frame) -> Result<Vec<f64>> {
        let n_outputs = self.forest().n_outputs();
        let mut rows = Matrix::zeros(x.n_rows(), n_outputs);
        for (i, row) in x.rows().enumerate() {
            self.served.raw_row(row, rows.row_mut(i))?;
        }
        let rows = &rows;
        Ok((0..n_outputs).flat_map(|k| rows.rows().map(move |row| row[k])).collect())
    }

    pub(super) fn objective(&self) -> Option<&str> {
        self.rest.objective()
    }

    /// Whether trees are averaged, as in a forest.
    pub(super) fn is_average(&self) -> bool {
        matches!(self.forest().sum, crate::forest::Sum::Double { is_average: true })
    }
}

/// The schema that a text describes.
fn schema_of(text: &Text) -> Result<Schema> {
    let mut codes: Vec<Option<usize>> =
        text.rest.infos.iter().map(|info| highest_code(info)).collect();
    // A categorical column that was never used has no categories there, but is listed here.
    let listed = text.rest.parameter("categorical_feature").unwrap_or_default();
    for column in listed.split(',').filter_map(|column| column.parse::<usize>().ok()) {
        if let (Some(code @ None), Some("none")) =
            (codes.get_mut(column), text.rest.infos.get(column).map(String::as_str))
        {
            *code = Some(0);
        }
    }
    let pandas = match text.rest.pandas_categorical() {
        None => Vec::new(),
        Some(json) => serde_json::from_str::<Option<Vec<Vec<Value>>>>(json)
            .map_err(|e| damaged("lists of levels in `pandas_categorical`", e))?
            .unwrap_or_default(),
    };
    let n_categorical = codes.iter().flatten().count();
    if !pandas.is_empty() && pandas.len() != n_categorical {
        let got = format!("{} lists of levels for {n_categorical} such columns", pandas.len());
        return Err(Error::data(
            "model text",
            "levels of each categorical column, or a schema",
            got,
        ));
    }
    let total = codes.iter().flatten().fold(0_usize, |sum, code| sum.saturating_add(*code));
    if pandas.is_empty() && MAX_LEVELS < total {
        let expected = format!("at most {MAX_LEVELS} category codes, or a schema");
        return Err(Error::data("model text", expected, total));
    }
    let mut pandas = pandas.into_iter();
    let features = text.forest.features();
    let columns = features.iter().zip(codes).map(|(feature, highest)| {
        let Some(highest) = highest else { return Ok(Column::numeric(&feature.name)) };
        let levels = match pandas.next() {
            None => Levels::new((0..=highest).map(|code| code.to_string()))?,
            Some(levels) => Levels::new(levels.into_iter().map(|level| match level {
                Value::String(level) => level,
                other => other.to_string(),
            }))?,
        };
        Ok(Column::categorical(&feature.name, levels))
    });
    Schema::new(columns.collect::<Result<Vec<_>>>()?)
}

impl Model for LightGbmModel {
    fn signature(&self) -> &Signature {
        self.served.signature()
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        self.served.infer(x, out)
    }

    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        self.served.infer_row(row, out)
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }

    fn n_trees(&self) -> Option<usize> {
        Some(LightGbmModel::n_trees(self))
    }

    fn as_importance(&self) -> Option<&dyn Importance> {
        Some(self)
    }

    fn as_explains(&self) -> Option<&dyn Explains> {
        if self.forest().is_constant_in_leaves() { Some(self) } else { None }
    }
}

/// Shapley values by the training rows that took each branch: LightGBM's `pred_contrib`. A model
/// with linear leaves has none, as in LightGBM.
impl Explains for LightGbmModel {
    fn scale(&self) -> Scale {
        self.forest().scale()
    }

    fn explain(&self, x: &Frame, out: &mut Contributions) -> Result<()> {
        self.served.explainer(&[])?.explain(x, out)
    }
}

impl Persist for LightGbmModel {
    const TAG: Tag = Tag::new("mm.lightgbm", 1);

    /// Two blocks: the signature and the best round as JSON, then LightGBM's text.
    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        let signature = self.served.signature().clone();
        body.json(&Head { signature, best_iteration: self.best_iteration })?;
        body.bytes(self.engine_text().as_bytes());
        Ok(())
    }

    fn read_body(body: &mut BodyReader<'_>, _version: u16) -> Result<Self> {
        let Head { signature, best_iteration } = body.json()?;
        let text = std::str::from_utf8(body.bytes()?).map_err(|e| damaged("UTF-8", e))?;
        Self::new(signature, best_iteration, Text::read(text)?)
    }
}

/// LightGBM's importances: see [`Forest::importance`].
impl Importance for LightGbmModel {
    fn importance(&self, kind: ImportanceKind) -> Result<Vec<f64>> {
        self.forest().importance(kind)
    }
}
