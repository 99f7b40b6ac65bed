//! The fitted model: predictions, files, importances.

use mm_core::{
    BodyReader, BodyWriter, Column, Envelope, Error, Frame, Importance, ImportanceKind, Levels,
    Matrix, Model, Output, Persist, Result, Schema, Signature, Tag, Task,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    engine, ffi, normalize, normalize_row,
    text::{ModelText, damaged},
};

/// A model that LightGBM has fitted, here or elsewhere.
///
/// It may be used from any number of threads at once. Its file holds the signature and LightGBM's
/// own text, so that the engine's model can be taken out ([`to_text`](Self::to_text)) and opened by
/// LightGBM in any language.
#[derive(Debug)]
pub struct LightGbmModel {
    head: Head,
    booster: ffi::Booster,
    facts: Facts,
}

/// What the body holds beside LightGBM's text.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    signature: Signature,
    best_iteration: Option<usize>,
}

/// What the text says and the model needs to know.
#[derive(Debug)]
struct Facts {
    n_trees: usize,
    objective: Option<String>,
    is_average: bool,
}

impl LightGbmModel {
    pub(super) fn new(
        signature: Signature,
        best_iteration: Option<usize>,
        text: &ModelText<'_>,
    ) -> Result<Self> {
        let (schema, task) = (&signature.schema, &signature.task);
        if schema.len() != text.n_features() {
            return Err(Error::Columns { expected: text.n_features(), got: schema.len() });
        }
        let is_binary = matches!(text.objective(), Some("binary" | "cross_entropy"));
        let fits = match task {
            Task::Regression => !is_binary && text.n_outputs() == 1,
            Task::Binary(_) => is_binary,
            _ => text.n_outputs() == task.n_classes(),
        };
        if !fits || signature.n_outputs() != text.n_outputs() {
            let objective = text.objective().unwrap_or("a function of the caller's");
            let got = format!("`{objective}` with {} outputs", text.n_outputs());
            return Err(Error::data("model text", format!("a model of {task}"), got));
        }
        let facts = Facts {
            n_trees: text.n_trees(),
            objective: text.objective().map(str::to_owned),
            is_average: text.is_average(),
        };
        let booster = ffi::Booster::load(text).map_err(engine)?;
        Ok(Self { head: Head { signature, best_iteration }, booster, facts })
    }

    /// Reads a model in LightGBM's own text form, as `Booster.save_model` writes it in Python.
    ///
    /// The signature is what the text says. Columns have its names; a column is categorical where
    /// LightGBM saw categories, and its levels are those of the Python data frame if the text ends
    /// with them, and `"0"`, `"1"`, … for plain codes. The task follows from the objective, with
    /// classes `"0"`, `"1"`, ….
    ///
    /// The text is checked, so that a damaged one is an error. A model without trees is refused.
    pub fn from_text(text: &str) -> Result<Self> {
        let text = ModelText::parse(text)?;
        let schema = schema_of(&text)?;
        let task = match text.objective() {
            Some("binary" | "cross_entropy") => Task::classes(["0", "1"])?,
            _ if text.n_outputs() == 1 => Task::Regression,
            _ => Task::classes((0..text.n_outputs()).map(|k| k.to_string()))?,
        };
        let mut signature = Signature::new(schema, task);
        if text.objective() == Some("quantile")
            && let Some(level) = text.parameter("alpha").and_then(|level| level.parse().ok())
        {
            signature.outputs = vec![Output::Quantile(level)];
        }
        Self::new(signature, None, &text)
    }

    /// Reads a model in LightGBM's own text form as a model of the given signature, which must fit
    /// its width, its objective, and its number of outputs. A categorical cell's code is what the
    /// model was fitted to.
    pub fn from_text_as(text: &str, signature: Signature) -> Result<Self> {
        Self::new(signature, None, &ModelText::parse(text)?)
    }

    /// The model in LightGBM's own text form, with the levels of the categorical columns at its end
    /// as the Python package writes and reads them.
    ///
    /// Column names are LightGBM's: the punctuation of JSON and blanks are replaced by `_`.
    pub fn to_text(&self) -> Result<String> {
        let mut text = self.booster.to_text().map_err(engine)?;
        let columns = self.head.signature.schema.columns();
        let levels: Vec<&[String]> =
            columns.iter().filter_map(|column| Some(column.levels()?.names())).collect();
        if !levels.is_empty() {
            let levels = serde_json::to_string(&levels)
                .map_err(|e| Error::data("levels", "strings with a JSON form", e))?;
            text.push_str("\npandas_categorical:");
            text.push_str(&levels);
            text.push('\n');
        }
        Ok(text)
    }

    /// Number of trees: rounds times outputs.
    pub fn n_trees(&self) -> usize {
        self.facts.n_trees
    }

    /// Number of boosting rounds that the model holds.
    pub fn n_rounds(&self) -> usize {
        self.facts.n_trees / self.head.signature.n_outputs()
    }

    /// The best round, from 1, if the fit watched for it; the model ends with it.
    pub fn best_iteration(&self) -> Option<usize> {
        self.head.best_iteration
    }

    pub(super) fn booster(&self) -> &ffi::Booster {
        &self.booster
    }

    pub(super) fn objective(&self) -> Option<&str> {
        self.facts.objective.as_deref()
    }

    /// Whether trees are averaged, as in a forest.
    pub(super) fn is_average(&self) -> bool {
        self.facts.is_average
    }

    /// One-against-all probabilities are not yet normalised.
    fn needs_normalizing(&self) -> bool {
        self.objective() == Some("multiclassova")
    }
}

/// The schema that a text describes.
fn schema_of(text: &ModelText<'_>) -> Result<Schema> {
    let codes: Vec<Option<usize>> = text.infos().iter().map(|info| highest_code(info)).collect();
    let mut pandas = match text.pandas_categorical() {
        None => Vec::new(),
        Some(json) => serde_json::from_str::<Option<Vec<Vec<Value>>>>(json)
            .map_err(|e| damaged("lists of levels in `pandas_categorical`", e))?
            .unwrap_or_default(),
    }
    .into_iter();
    let n_categorical = codes.iter().flatten().count();
    if pandas.len() != 0 && pandas.len() != n_categorical {
        let got = format!("{} lists of levels for {n_categorical} such columns", pandas.len());
        return Err(Error::data(
            "model text",
            "levels of each categorical column, or a schema",
            got,
        ));
    }
    let columns = text.names().iter().zip(codes).map(|(&name, highest)| {
        let Some(highest) = highest else { return Ok(Column::numeric(name)) };
        let levels = match pandas.next() {
            None => Levels::new((0..=highest).map(|code| code.to_string()))?,
            Some(levels) => Levels::new(levels.into_iter().map(|level| match level {
                Value::String(level) => level,
                other => other.to_string(),
            }))?,
        };
        Ok(Column::categorical(name, levels))
    });
    Schema::new(columns.collect::<Result<Vec<_>>>()?)
}

/// The highest code in a list of categories such as `0:2:5`; `None` for a numeric column, whose
/// range is written `[0:5]`, and for one that was never used.
fn highest_code(info: &str) -> Option<usize> {
    if info.starts_with('[') || info == "none" {
        return None;
    }
    let codes = info.split(':').filter_map(|code| code.parse().ok());
    Some(codes.max().unwrap_or(0).min(Levels::MAX))
}

impl Model for LightGbmModel {
    fn signature(&self) -> &Signature {
        &self.head.signature
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        self.booster.predict(x.rows(), out.values_mut()).map_err(engine)?;
        if self.needs_normalizing() {
            normalize(out);
        }
        Ok(())
    }

    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        self.booster.predict([row].into_iter(), out).map_err(engine)?;
        if self.needs_normalizing() {
            normalize_row(out);
        }
        Ok(())
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }

    fn as_importance(&self) -> Option<&dyn Importance> {
        Some(self)
    }
}

impl Persist for LightGbmModel {
    const TAG: Tag = Tag::new("mm.lightgbm", 1);

    /// Two blocks: the signature and the best round as JSON, then LightGBM's text.
    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.json(&self.head)?;
        body.bytes(self.booster.to_text().map_err(engine)?.as_bytes());
        Ok(())
    }

    fn read_body(body: &mut BodyReader<'_>, _version: u16) -> Result<Self> {
        let Head { signature, best_iteration } = body.json()?;
        let text = std::str::from_utf8(body.bytes()?).map_err(|e| damaged("UTF-8", e))?;
        Self::new(signature, best_iteration, &ModelText::parse(text)?)
    }
}

/// LightGBM's importances: splits that gained nothing do not count. Cover is the number of training
/// rows that came through the splits.
impl Importance for LightGbmModel {
    fn importance(&self, kind: ImportanceKind) -> Result<Vec<f64>> {
        let text = self.booster.to_text().map_err(engine)?;
        let text = ModelText::parse(&text)?;
        let mut sums = vec![0.0; text.n_features()];
        for split in text.splits() {
            sums[split.feature] += match kind {
                ImportanceKind::Gain => split.gain,
                ImportanceKind::Count => 1.0,
                ImportanceKind::Cover => split.count,
                other => {
                    let expected = "gain, count, or cover";
                    return Err(Error::data("importance", expected, format!("{other:?}")));
                }
            };
        }
        Ok(sums)
    }
}
