//! What a fit yields: something that predicts and can be stored.

use std::{any::Any, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    data::{Frame, Matrix, Output, Schema, Task},
    envelope::Envelope,
    error::{Error, Result},
    explain::Explains,
    online::OnlineModel,
};

/// What a model takes and gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Signature {
    /// The features seen at fit time: names, types, dictionaries.
    pub schema: Schema,
    /// What is predicted.
    pub task: Task,
    /// What each column of a prediction means.
    pub outputs: Vec<Output>,
    /// Whether infinite feature values are admitted.
    pub admits_infinite: bool,
}

impl Signature {
    /// The signature of a model of `task` over `schema`, with the outputs of
    /// [`Task::outputs`] and infinite features refused.
    pub fn new(schema: Schema, task: Task) -> Self {
        let outputs = task.outputs();
        Self { schema, task, outputs, admits_infinite: false }
    }

    /// Number of columns of a prediction.
    pub fn n_outputs(&self) -> usize {
        self.outputs.len()
    }

    /// Checks `x` and translates its categorical codes to the dictionaries of the fit.
    ///
    /// Refused: another width, another name, order, or type of a column; infinite values, unless
    /// admitted. Levels that the fit did not see become unknown.
    pub fn admit<'a>(&self, x: &'a Frame) -> Result<std::borrow::Cow<'a, Frame>> {
        let x = x.conform(&self.schema)?;
        if !self.admits_infinite {
            x.ensure_finite()?;
        }
        Ok(x)
    }
}

/// A fitted model.
///
/// Implement [`infer`](Model::infer); call [`predict`](Model::predict).
pub trait Model: Any + fmt::Debug + Send + Sync {
    /// What the model takes and gives.
    fn signature(&self) -> &Signature;

    /// Fills `out`, of shape (*n*, *k*) with *n* rows of `x` and *k* outputs. `x` already matches
    /// the signature. Row *i* of `out` depends on row *i* of `x` alone, unless the model reads
    /// timestamps and entities.
    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()>;

    /// The durable form; write `Envelope::pack(self)`.
    fn to_envelope(&self) -> Result<Envelope>;

    /// Fills `out`, of length *k*, for one row whose codes are those of the signature's
    /// dictionaries. Implement it where one row can be predicted without a frame. `row` is checked
    /// by [`predict_row`](Model::predict_row).
    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        let x = Frame::with_schema(row.to_vec(), self.signature().schema.clone())?;
        let mut matrix = Matrix::zeros(1, out.len());
        self.infer(&x, &mut matrix)?;
        out.copy_from_slice(matrix.values());
        Ok(())
    }

    /// The model's feature importances, if it has them.
    fn as_importance(&self) -> Option<&dyn Importance> {
        None
    }

    /// The model's ability to keep learning, if it has it: write `Some(self)`. A catalog opens
    /// models of any kind, and this is how an opened one is found to be an
    /// [`OnlineModel`]; its [`fork`](OnlineModel::fork) can be owned.
    fn as_online(&self) -> Option<&dyn OnlineModel> {
        None
    }

    /// The model's ability to say what each feature contributed to a prediction, if it has it.
    fn as_explains(&self) -> Option<&dyn Explains> {
        None
    }

    /// How many trees the model has, if it is made of trees.
    fn n_trees(&self) -> Option<usize> {
        None
    }

    /// Checks `x` against the signature and predicts, one row an example.
    fn predict(&self, x: &Frame) -> Result<Matrix> {
        let x = self.signature().admit(x)?;
        let mut out = Matrix::zeros(x.n_rows(), self.signature().n_outputs());
        self.infer(&x, &mut out)?;
        Ok(out)
    }

    /// Predicts one row into `out`, of length *k*: the path of a service that answers one request
    /// at a time. Categorical cells are codes of the signature's dictionaries, as
    /// [`Schema::parse_row`] makes them.
    fn predict_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        let signature = self.signature();
        if row.len() != signature.schema.len() {
            return Err(Error::Columns { expected: signature.schema.len(), got: row.len() });
        }
        if out.len() != signature.n_outputs() {
            return Err(Error::data("length of the output", signature.n_outputs(), out.len()));
        }
        for (column, &x) in signature.schema.columns().iter().zip(row) {
            match column.levels() {
                Some(levels) if !levels.admits(x) => return Err(levels.refuse(column, x)),
                None if x.is_infinite() && !signature.admits_infinite => {
                    return Err(Error::data(column, "a finite number or NaN (missing)", x));
                }
                _ => {}
            }
        }
        self.infer_row(row, out)
    }
}

/// An owned model of any type; itself a [`Model`].
pub type BoxModel = Box<dyn Model>;

impl dyn Model {
    /// The model as an `M`, if it is one. Models opened by a catalog are not boxed twice.
    pub fn downcast_ref<M: Model>(&self) -> Option<&M> {
        let any: &dyn Any = self;
        match any.downcast_ref::<BoxModel>() {
            Some(inner) => (**inner).downcast_ref(),
            None => any.downcast_ref(),
        }
    }
}

// `**self` throughout: a plain `self` would call this very implementation.
impl Model for BoxModel {
    fn signature(&self) -> &Signature {
        (**self).signature()
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        (**self).infer(x, out)
    }

    fn to_envelope(&self) -> Result<Envelope> {
        (**self).to_envelope()
    }

    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        (**self).infer_row(row, out)
    }

    fn as_importance(&self) -> Option<&dyn Importance> {
        (**self).as_importance()
    }

    fn as_online(&self) -> Option<&dyn OnlineModel> {
        (**self).as_online()
    }

    fn as_explains(&self) -> Option<&dyn Explains> {
        (**self).as_explains()
    }

    fn n_trees(&self) -> Option<usize> {
        (**self).n_trees()
    }
}

/// The capability to say how much each feature mattered in the fit.
pub trait Importance: Send + Sync {
    /// One number a feature, in schema order; larger mattered more. Kinds that the model cannot
    /// tell are an error.
    fn importance(&self, kind: ImportanceKind) -> Result<Vec<f64>>;
}

/// How a tree model's feature importance is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ImportanceKind {
    /// The total gain of the splits on the feature.
    Gain,
    /// The mean gain of the splits on the feature.
    MeanGain,
    /// The number of splits on the feature.
    Count,
    /// The total cover of the splits on the feature: rows for LightGBM, sum of Hessians for
    /// XGBoost.
    Cover,
    /// The mean cover of the splits on the feature.
    MeanCover,
    /// How far predictions move when the feature changes, in percent of all features' (CatBoost's
    /// `PredictionValuesChange`).
    PredictionChange,
}
