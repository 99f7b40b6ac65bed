//! The capability to keep learning from a stream.

use crate::{data::Dataset, error::Result, model::Model};

/// One labelled row of a stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    /// The features, in the order of the model's schema: NaN = missing, categories as codes.
    pub x: &'a [f32],
    /// The target as a [`Dataset`] holds it: a value, or the index of a class.
    pub y: f64,
    /// How much the row counts, ≥ 0; 1 by default. A row of weight 0 changes nothing.
    pub weight: f64,
    /// When the row happened, ns since 1970-01-01 UTC, if known. Half-lives by time need it.
    pub time: Option<i64>,
}

impl<'a> Sample<'a> {
    /// A row of weight 1 without a time.
    pub fn new(x: &'a [f32], y: f64) -> Self {
        Self { x, y, weight: 1.0, time: None }
    }
}

/// What was known of a row when it was predicted, for a label that comes later.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Late<'a> {
    /// What [`OnlineModel::infer_noting`] noted of the row.
    pub note: &'a [f64],
    /// How many rows were predicted between this one and its label; 0 where the label was next.
    pub delay: u64,
}

/// A model that keeps learning.
///
/// Predicting never learns. Learning a batch equals learning its rows one after another, to the
/// bit. A row that is refused leaves the model as it was, and learning is a function of the state
/// and the row alone: the same rows in the same order give the same model, so a log of rows is as
/// good as the model that they made.
pub trait OnlineModel: Model {
    /// Learns one row.
    ///
    /// # Errors
    ///
    /// [`Error::Columns`](crate::Error::Columns) for a row of another width;
    /// [`Error::Data`](crate::Error::Data) for a label, weight, or value
    /// that the model does not admit.
    fn learn_one(&mut self, sample: &Sample<'_>) -> Result<()>;

    /// How many rows of positive weight the model has learnt.
    fn n_learnt(&self) -> u64;

    /// How many bytes the model's state takes in memory.
    fn size_bytes(&self) -> usize;

    /// Predicts one row as [`infer_row`](Model::infer_row) does, and appends to `note` what
    /// [`learn_late`](Self::learn_late) needs to know of this moment: nothing by default. A
    /// mixture notes what each member said, since by the time of the label they know more.
    fn infer_noting(&self, row: &[f32], out: &mut [f64], note: &mut Vec<f64>) -> Result<()> {
        let _ = note;
        self.infer_row(row, out)
    }

    /// Learns a row whose label came some time after it was predicted. By default as
    /// [`learn_one`](Self::learn_one) does; whatever judges predictions judges those of then.
    ///
    /// # Errors
    ///
    /// Those of [`learn_one`](Self::learn_one); [`Error::Data`](crate::Error::Data) for a note that
    /// this model did not write.
    fn learn_late(&mut self, sample: &Sample<'_>, late: Late<'_>) -> Result<()> {
        let _ = late;
        self.learn_one(sample)
    }

    /// A copy, which shares nothing that either will change: what a service publishes to readers.
    fn fork(&self) -> Box<dyn OnlineModel>;

    /// Learns the rows of `data` in order and says how many; [`learn_one`](Self::learn_one) of each.
    ///
    /// # Errors
    ///
    /// The first row that is refused, by number; the rows before it are learnt.
    fn learn_batch(&mut self, data: &Dataset) -> Result<u64> {
        let signature = self.signature();
        data.ensure_task(&signature.task)?;
        let frame = data.frame().conform(&signature.schema)?.into_owned();
        let (weights, times) = (data.weights(), frame.times());
        for (i, (x, &y)) in frame.rows().zip(data.target()).enumerate() {
            let weight = weights.map_or(1.0, |w| w[i]);
            let sample = Sample { x, y, weight, time: times.map(|t| t[i]) };
            self.learn_one(&sample).map_err(|e| e.within(format!("row {i}")))?;
        }
        Ok(frame.n_rows() as u64)
    }
}
