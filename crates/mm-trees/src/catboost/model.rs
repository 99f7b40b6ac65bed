//! The fitted model: prediction, importance, and CatBoost's own formats.
//!
//! # Body of the envelope `mm.catboost`, version 1
//!
//! | part | holds |
//! | --- | --- |
//! | JSON | the signature |
//! | bytes | the model as CatBoost's `.cbm`, as any CatBoost ≥ 1.0 opens it |

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use mm_core::{
    BodyReader, BodyWriter, Column, Contributions, Dataset, Direction, Envelope, Error, Explains,
    Frame, Importance, ImportanceKind, Levels, Matrix, Metric, Model, Persist, Result, Scale,
    Schema, Signature, Tag,
};

use super::{
    cbm,
    file::{self, About, ModelFile},
    hash, importance, json, loss,
};
use crate::forest::{Explainer, Feature, Forest, Served, Test};

/// A fitted model of CatBoost, in plain Rust.
///
/// Levels are known to it by the hashes of their names, as in CatBoost; [`Signature`] has the names. A
/// missing level is the level with the empty name.
#[derive(Clone)]
pub struct CatBoostModel {
    served: Served,
    about: About,
}

impl CatBoostModel {
    /// Reads a model in one of CatBoost's own formats, `.cbm` or JSON, such as Python's `save_model`
    /// writes, and derives its signature.
    ///
    /// Columns have the stored names (`f0`, `f1`, … where there are none). A file knows the levels of
    /// a categorical column by hash. Their names, without which a frame cannot be predicted, are
    /// those of `schema`, if it is given, which must have the columns of the file; else those that
    /// the file stores, which JSON does that was saved with `pool=`. The loss says the task.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for a file that is damaged or holds what is not supported here (text,
    /// embedding, and estimated features); [`Error::Column`] and [`Error::Columns`] for a schema of
    /// other columns; [`Error::Data`] for a loss with several targets, and where the names of levels
    /// are needed and not known.
    pub fn read(bytes: &[u8], schema: Option<Schema>) -> Result<Self> {
        let file = file::read(bytes)?;
        let schema = match schema {
            Some(schema) => schema,
            None => derive_schema(&file)?,
        };
        let meaning = loss::meaning(&file.about.info, file.forest.n_outputs)?;
        let mut signature = Signature::new(schema, meaning.task);
        signature.outputs = meaning.outputs;
        signature.admits_infinite = true;
        Self::new(signature, file)
    }

    /// What is in `file`, under `signature`, which must have its columns and its number of outputs.
    pub(crate) fn new(signature: Signature, file: ModelFile) -> Result<Self> {
        let ModelFile { mut forest, about } = file;
        check_columns(&signature.schema, &forest)?;
        forest.link = loss::meaning(&about.info, forest.n_outputs)?.link;
        Ok(Self { served: Served::new(signature, forest)?, about })
    }

    /// The same model for frames of another schema with the same columns, such as one whose
    /// dictionaries have more levels.
    pub fn with_schema(&self, schema: Schema) -> Result<Self> {
        check_columns(&schema, self.forest())?;
        let mut signature = self.served.signature().clone();
        signature.schema = schema;
        let served = Served::new(signature, self.forest().clone())?;
        Ok(Self { served, about: self.about.clone() })
    }

    /// The model as CatBoost's `.cbm`. Names of levels get lost, but for those of one-hot features.
    pub fn to_cbm(&self) -> Result<Vec<u8>> {
        cbm::write(self.forest(), &self.named())
    }

    /// The model in CatBoost's JSON, with the names of all levels.
    pub fn to_json(&self) -> Result<String> {
        json::write(self.forest(), &self.named())
    }

    /// What the file says about itself and its training: `params` and `class_params` as JSON,
    /// `model_guid`, `train_finish_time`, and more.
    pub fn info(&self) -> &BTreeMap<String, String> {
        &self.about.info
    }

    /// The trees.
    pub fn forest(&self) -> &Forest {
        self.served.forest()
    }

    /// What the file says besides its trees.
    pub(super) fn about(&self) -> &About {
        &self.about
    }

    /// Number of trees.
    pub fn n_trees(&self) -> usize {
        self.forest().n_trees()
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

    /// By how much `metric` on `data` gets worse when each feature's contributions are taken out of
    /// the raw scores, in units of the metric; below 0 for a feature without which the model would be
    /// better. What features contribute together, through a CTR of several, is divided among them.
    ///
    /// With the metric of the loss, this is CatBoost's `LossFunctionChange`. O(*nkp*) numbers in
    /// memory for *n* rows, *k* outputs, and *p* features and combinations of features.
    ///
    /// # Errors
    ///
    /// As for [`explainer`](Self::explainer); data of another task or other columns; a metric that
    /// does not support the task, or is not defined on the data.
    pub fn loss_change(&self, data: &Dataset, metric: Metric) -> Result<Vec<f64>> {
        let signature = self.served.signature();
        if *data.task() != signature.task {
            return Err(Error::data("task of the data", &signature.task, data.task()));
        }
        let x = signature.admit(data.frame())?;
        let raw = self.predict_raw(&x)?;
        let (explainer, players) = self.explainer()?.by_player();
        let parts = explainer.contributions(&x)?;
        let score = |mut raw: Matrix| {
            for row in raw.values_mut().chunks_exact_mut(signature.n_outputs()) {
                self.forest().link_row(row);
            }
            metric.score_outputs(data.truth(), &raw, &signature.outputs)
        };
        let whole = score(raw.clone())?;
        let mut changes = vec![0.0; x.n_cols()];
        for (player, features) in players.iter().enumerate() {
            let mut without = raw.clone();
            for i in 0..x.n_rows() {
                for (k, score) in without.row_mut(i).iter_mut().enumerate() {
                    *score -= parts.features(i, k)[player];
                }
            }
            let change = match metric.direction() {
                Direction::Minimize => score(without)? - whole,
                Direction::Maximize => whole - score(without)?,
            };
            for &feature in features {
                changes[feature] += change / features.len() as f64;
            }
        }
        Ok(changes)
    }

    /// The raw scores of the rows of `x`, of shape (*n*, *k*) with *k* outputs: CatBoost's
    /// `RawFormulaVal`.
    pub fn predict_raw(&self, x: &Frame) -> Result<Matrix> {
        let signature = self.served.signature();
        let x = signature.admit(x)?;
        let mut out = Matrix::zeros(x.n_rows(), signature.n_outputs());
        self.served.raw(&x, &mut out)?;
        Ok(out)
    }

    /// What is said besides the trees, with the names of the signature's levels.
    fn named(&self) -> About {
        let mut about = self.about.clone();
        let columns = self.served.signature().schema.columns();
        let names = columns.iter().filter_map(Column::levels).flat_map(Levels::names);
        about.names.extend(names.map(|name| (hash::level(name), name.clone())));
        about.has_dictionary = !about.names.is_empty();
        about
    }
}

/// Column for column, a schema must be what the file says. Columns without a name in the file may
/// have any.
fn check_columns(schema: &Schema, forest: &Forest) -> Result<()> {
    let (columns, features) = (schema.columns(), &forest.features);
    if columns.len() != features.len() {
        return Err(Error::Columns { expected: features.len(), got: columns.len() });
    }
    for (index, (column, feature)) in columns.iter().zip(features).enumerate() {
        let is_named = feature.name != format!("f{index}");
        let other_name = is_named && feature.name != column.name;
        if other_name || column.levels().is_some() != feature.is_categorical {
            let kind = if feature.is_categorical { "categorical" } else { "numeric" };
            let expected = format!("{kind} `{}`", feature.name);
            return Err(Error::Column { index, expected, got: column.to_string() });
        }
    }
    Ok(())
}

fn derive_schema(file: &ModelFile) -> Result<Schema> {
    let ModelFile { forest, about } = file;
    let in_ctrs: BTreeSet<usize> =
        forest.ctrs.tables.iter().flat_map(|table| table.projection().levels.clone()).collect();
    let questions = forest.ctrs.tables.iter().flat_map(|table| &table.projection().questions);
    let splits = forest.splits().chain(questions);
    let unnamed: BTreeSet<usize> = splits
        .filter(|split| matches!(split.test, Test::Hash(hash) if !about.names.contains_key(&hash)))
        .map(|split| split.feature)
        .collect();
    let levels = Levels::new(about.names.values().cloned().collect::<BTreeSet<_>>())?;
    let column = |(j, feature): (usize, &Feature)| {
        let name = feature.name.clone();
        if !feature.is_categorical {
            return Ok(Column::numeric(name));
        }
        // Levels that no split names all answer alike, and need no names where only splits ask.
        if unnamed.contains(&j) || (in_ctrs.contains(&j) && !about.has_dictionary) {
            let place = format!("levels of the categorical column `{name}`");
            return Err(Error::data(place, "stored names, or a schema that has them", "hashes"));
        }
        Ok(Column::categorical(name, levels.clone()))
    };
    Schema::new(forest.features.iter().enumerate().map(column).collect::<Result<Vec<_>>>()?)
}

impl Model for CatBoostModel {
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
        Some(CatBoostModel::n_trees(self))
    }

    fn as_importance(&self) -> Option<&dyn Importance> {
        Some(self)
    }

    fn as_explains(&self) -> Option<&dyn Explains> {
        Some(self)
    }
}

/// Shapley values by the weights of the leaves: CatBoost's `ShapValues`.
impl Explains for CatBoostModel {
    fn scale(&self) -> Scale {
        self.forest().scale()
    }

    fn explain(&self, x: &Frame, out: &mut Contributions) -> Result<()> {
        self.explainer()?.explain(x, out)
    }
}

impl Importance for CatBoostModel {
    /// [`PredictionChange`](ImportanceKind::PredictionChange) is CatBoost's own default,
    /// `PredictionValuesChange`; `Count` counts a CTR's splits for each feature that it is made of.
    /// CatBoost's files have neither gains nor covers of splits.
    fn importance(&self, kind: ImportanceKind) -> Result<Vec<f64>> {
        match kind {
            ImportanceKind::PredictionChange => importance::prediction_change(self.forest()),
            ImportanceKind::Count => Ok(importance::count(self.forest())),
            other => {
                let expected = "the change of predictions, or count";
                Err(Error::data("importance", expected, format!("{other:?}")))
            }
        }
    }
}

impl Persist for CatBoostModel {
    const TAG: Tag = Tag::new("mm.catboost", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.json(self.served.signature())?;
        body.bytes(&cbm::write(self.forest(), &self.about)?);
        Ok(())
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        let signature = body.json()?;
        Self::new(signature, cbm::read(body.bytes()?)?)
    }
}

impl fmt::Debug for CatBoostModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signature = self.served.signature();
        let (width, task) = (signature.schema.len(), &signature.task);
        write!(f, "CatBoostModel({width} columns, {task}, {} trees)", self.n_trees())
    }
}
