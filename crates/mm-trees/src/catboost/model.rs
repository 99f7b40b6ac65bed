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
    sync::Arc,
};

use mm_core::{
    BodyReader, BodyWriter, Column, Envelope, Error, Frame, Importance, ImportanceKind, Levels,
    Matrix, Model, Persist, Result, Schema, Signature, Tag, parallel,
};

use super::{cbm, file, file::ModelFile, hash, importance, json, loss};
use crate::forest::{Encoder, Forest, Test, Tree};

/// Rows that one thread predicts at a time.
const BLOCK: usize = 256;

/// Rows of up to so many values are encoded without allocating.
const STACK: usize = 256;

/// A fitted model of CatBoost, in plain Rust.
///
/// Levels are known to it by the hashes of their names, as in CatBoost; [`Signature`] has the names. A
/// missing level is the level with the empty name.
#[derive(Clone)]
pub struct CatBoostModel {
    signature: Signature,
    file: Arc<ModelFile>,
    bound: Arc<Forest>, // Without hashes and CTRs: what predicts, on rows that `encoder` encodes.
    pub(super) encoder: Arc<Encoder>,
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
        let meaning = loss::meaning(&file.info, file.forest.n_outputs)?;
        let mut signature = Signature::new(schema, meaning.task);
        signature.outputs = meaning.outputs;
        signature.admits_infinite = true;
        Self::new(signature, file)
    }

    /// What is in `file`, under `signature`, which must have its columns and its number of outputs.
    pub(crate) fn new(signature: Signature, mut file: ModelFile) -> Result<Self> {
        check_columns(&signature.schema, &file.forest)?;
        let n_outputs = file.forest.n_outputs;
        if signature.n_outputs() != n_outputs {
            return Err(Error::data("outputs of the model", signature.n_outputs(), n_outputs));
        }
        file.forest.link = loss::meaning(&file.info, n_outputs)?.link;
        let (bound, encoder) = file.forest.bind(&signature.schema);
        let (file, bound, encoder) = (Arc::new(file), Arc::new(bound), Arc::new(encoder));
        Ok(Self { signature, file, bound, encoder })
    }

    /// The same model for frames of another schema with the same columns, such as one whose
    /// dictionaries have more levels.
    pub fn with_schema(&self, schema: Schema) -> Result<Self> {
        check_columns(&schema, &self.file.forest)?;
        let (bound, encoder) = self.file.forest.bind(&schema);
        let mut signature = self.signature.clone();
        signature.schema = schema;
        let (bound, encoder) = (Arc::new(bound), Arc::new(encoder));
        Ok(Self { signature, file: Arc::clone(&self.file), bound, encoder })
    }

    /// The model as CatBoost's `.cbm`. Names of levels get lost, but for those of one-hot features.
    pub fn to_cbm(&self) -> Result<Vec<u8>> {
        cbm::write(&self.named())
    }

    /// The model in CatBoost's JSON, with the names of all levels.
    pub fn to_json(&self) -> Result<String> {
        json::write(&self.named())
    }

    /// What the file says about itself and its training: `params` and `class_params` as JSON,
    /// `model_guid`, `train_finish_time`, and more.
    pub fn info(&self) -> &BTreeMap<String, String> {
        &self.file.info
    }

    /// The trees.
    pub fn forest(&self) -> &Forest {
        &self.file.forest
    }

    pub(super) fn file(&self) -> &ModelFile {
        &self.file
    }

    /// Number of trees.
    pub fn n_trees(&self) -> usize {
        self.file.forest.n_trees()
    }

    /// The raw scores of the rows of `x`, of shape (*n*, *k*) with *k* outputs: CatBoost's
    /// `RawFormulaVal`.
    pub fn predict_raw(&self, x: &Frame) -> Result<Matrix> {
        let x = self.signature.admit(x)?;
        let mut out = Matrix::zeros(x.n_rows(), self.signature.n_outputs());
        self.fill(&x, &mut out, |_| {})?;
        Ok(out)
    }

    fn fill(&self, x: &Frame, out: &mut Matrix, link: impl Fn(&mut [f64]) + Sync) -> Result<()> {
        let width = out.n_cols();
        parallel::fill_rows(out, BLOCK, |rows, out| {
            for (i, out) in rows.zip(out.chunks_exact_mut(width)) {
                self.raw_row(x.row(i), out);
                link(out);
            }
            Ok(())
        })
    }

    pub(super) fn raw_row(&self, row: &[f32], out: &mut [f64]) {
        let n = self.encoder.n_cols();
        if self.encoder.is_identity() {
            self.bound.raw_by_definition(row, out);
        } else if n <= STACK {
            let mut encoded = [0.0; STACK];
            self.encoder.encode(row, &mut encoded[..n]);
            self.bound.raw_by_definition(&encoded[..n], out);
        } else {
            let mut encoded = vec![0.0; n];
            self.encoder.encode(row, &mut encoded);
            self.bound.raw_by_definition(&encoded, out);
        }
    }

    /// The file with the names of the signature's levels.
    fn named(&self) -> ModelFile {
        let mut file = (*self.file).clone();
        let levels = self.signature.schema.columns().iter().filter_map(Column::levels);
        let names = levels.flat_map(Levels::names);
        file.names.extend(names.map(|name| (hash::level(name), name.clone())));
        file.has_dictionary = !file.names.is_empty();
        file
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
    let forest = &file.forest;
    let in_ctrs: BTreeSet<usize> =
        forest.ctrs.tables.iter().flat_map(|table| table.projection().levels.clone()).collect();
    let questions = forest.ctrs.tables.iter().flat_map(|table| &table.projection().questions);
    let splits = forest.trees.iter().flat_map(Tree::splits).chain(questions);
    let unnamed: BTreeSet<usize> = splits
        .filter(|split| matches!(split.test, Test::Hash(hash) if !file.names.contains_key(&hash)))
        .map(|split| split.feature)
        .collect();
    let levels = Levels::new(file.names.values().cloned().collect::<BTreeSet<_>>())?;
    let column = |(j, feature): (usize, &crate::forest::Feature)| {
        let name = feature.name.clone();
        if !feature.is_categorical {
            return Ok(Column::numeric(name));
        }
        // Levels that no split names all answer alike, and need no names where only splits ask.
        if unnamed.contains(&j) || (in_ctrs.contains(&j) && !file.has_dictionary) {
            let place = format!("levels of the categorical column `{name}`");
            return Err(Error::data(place, "stored names, or a schema that has them", "hashes"));
        }
        Ok(Column::categorical(name, levels.clone()))
    };
    Schema::new(forest.features.iter().enumerate().map(column).collect::<Result<Vec<_>>>()?)
}

impl Model for CatBoostModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        self.fill(x, out, |row| self.bound.link_row(row))
    }

    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        self.raw_row(row, out);
        self.bound.link_row(out);
        Ok(())
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }

    fn as_importance(&self) -> Option<&dyn Importance> {
        Some(self)
    }
}

impl Importance for CatBoostModel {
    /// [`PredictionChange`](ImportanceKind::PredictionChange) is CatBoost's own default,
    /// `PredictionValuesChange`; `Count` counts a CTR's splits for each feature that it is made of.
    /// CatBoost's files have neither gains nor covers of splits.
    fn importance(&self, kind: ImportanceKind) -> Result<Vec<f64>> {
        match kind {
            ImportanceKind::PredictionChange => importance::prediction_change(&self.file.forest),
            ImportanceKind::Count => Ok(importance::count(&self.file.forest)),
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
        body.json(&self.signature)?;
        body.bytes(&cbm::write(&self.file)?);
        Ok(())
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        let signature = body.json()?;
        Self::new(signature, cbm::read(body.bytes()?)?)
    }
}

impl fmt::Debug for CatBoostModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (width, task) = (self.signature.schema.len(), &self.signature.task);
        write!(f, "CatBoostModel({width} columns, {task}, {} trees)", self.n_trees())
    }
}
