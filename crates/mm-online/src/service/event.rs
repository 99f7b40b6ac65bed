//! What a service is told, what it answers, and how its log writes it down.

use mm_core::{Error, Output, Result, Sample, Signature};

use crate::bytes::{Decoder, Encoder};

/// The caller's name of a row: a counter, a hash, or the 128 bits of a UUID. A row that is sent
/// again under its name counts once.
pub type RowId = u128;

/// Something that happened in the world.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A row whose label is known at once. It is predicted first, and judged by that. Of a row that
    /// was remembered under this name only the label counts.
    Learn {
        /// Names the row.
        id: RowId,
        /// Features, label, weight, time.
        sample: Sample<'a>,
    },
    /// A row was predicted and its label is to come: the service keeps features and prediction.
    Remember {
        /// Names the row.
        id: RowId,
        /// The features that were predicted.
        x: &'a [f32],
        /// What a [`Reader`](super::Reader) said.
        prediction: &'a Prediction,
        /// When, ns since 1970-01-01 UTC, if known.
        time: Option<i64>,
    },
    /// The label of a row that was remembered.
    Label {
        /// The name under which it was remembered.
        id: RowId,
        /// The target: a value, or the index of a class.
        y: f64,
        /// How much the row counts, ≥ 0.
        weight: f64,
        /// When the label came, ns since 1970-01-01 UTC, if known.
        time: Option<i64>,
    },
}

/// What became of an event.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The row was learnt, or has weight 0.
    Learnt,
    /// The row waits for its label.
    Remembered,
    /// The row was learnt, or is waiting, already: nothing changed.
    Duplicate,
    /// No row of this name waits for a label: it never was remembered, or for too long.
    NotPending,
    /// The row cannot be used. Nothing changed, and it may be sent again once it is mended.
    Refused(Error),
}

impl Outcome {
    /// Whether the row is part of the state now, be it by this event or an earlier one.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Learnt | Self::Remembered | Self::Duplicate)
    }
}

/// What a model said of one row.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Said {
    pub(crate) model: u64, // Its number within the service.
    pub(crate) values: Vec<f64>,
    pub(crate) note: Vec<f64>,
}

impl Said {
    fn encode(&self, to: &mut Encoder) {
        to.u64(self.model);
        to.f64s(&self.values);
        to.f64s(&self.note);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        Ok(Self { model: from.u64()?, values: from.f64s()?, note: from.f64s()? })
    }
}

/// A prediction that can be remembered until its label comes: what the champion said, what the
/// models on trial said, and how wide the conformal set was.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    pub(crate) version: u64,
    pub(crate) champion: Said,
    pub(crate) shadows: Vec<Said>,
    pub(crate) threshold: Option<f64>,
}

impl Prediction {
    /// The state that predicted: how many events it had taken in.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The champion's prediction, one value an output of its signature.
    pub fn values(&self) -> &[f64] {
        &self.champion.values
    }

    /// The conformal interval of a regression, if the service keeps one: lower and upper bound.
    pub fn interval(&self) -> Option<(f64, f64)> {
        let (&value, threshold) = (self.values().first()?, self.threshold?);
        Some((value - threshold, value + threshold))
    }

    /// The conformal set of a classification, if the service keeps one: the indices of the classes
    /// that are not excluded.
    pub fn classes(&self) -> Option<Vec<usize>> {
        let threshold = self.threshold?;
        let of = |p: f64| 1.0 - p <= threshold;
        let classes = match *self.values() {
            [positive] => vec![of(1.0 - positive), of(positive)],
            ref all => all.iter().map(|&p| of(p)).collect(),
        };
        Some(classes.iter().enumerate().filter_map(|(k, &is_in)| is_in.then_some(k)).collect())
    }

    /// What model number `model` said, if it was asked.
    pub(crate) fn by(&self, model: u64) -> Option<&Said> {
        [&self.champion].into_iter().chain(&self.shadows).find(|said| said.model == model)
    }

    pub(crate) fn encode(&self, to: &mut Encoder) {
        to.u64(self.version);
        self.champion.encode(to);
        to.u32(self.shadows.len() as u32);
        for said in &self.shadows {
            said.encode(to);
        }
        to.flag(self.threshold.is_some());
        if let Some(threshold) = self.threshold {
            to.f64(threshold);
        }
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        let (version, champion) = (from.u64()?, Said::decode(from)?);
        let shadows = (0..from.count(16)?).map(|_| Said::decode(from)).collect::<Result<_>>()?;
        let threshold = if from.flag()? { Some(from.f64()?) } else { None };
        Ok(Self { version, champion, shadows, threshold })
    }
}

/// A record of the log: an event, or a change of the service itself.
#[derive(Debug)]
pub(crate) enum Record<'a> {
    Learn {
        id: RowId,
        y: f64,
        weight: f64,
        time: Option<i64>,
    }, // The features are apart.
    Remember {
        id: RowId,
        time: Option<i64>,
        prediction: Prediction,
    },
    Label {
        id: RowId,
        y: f64,
        weight: f64,
        time: Option<i64>,
    },
    /// A model goes on trial: its envelope.
    Challenge(&'a [u8]),
    /// The trial ends without a promotion; or retraining failed.
    Dismiss,
    /// Somebody saw a drift.
    Drift,
}

impl<'a> Record<'a> {
    /// Reads a record; its features go to `x`.
    pub(crate) fn decode(from: &mut Decoder<'a>, x: &mut Vec<f32>) -> Result<Self> {
        x.clear();
        match from.u8()? {
            1 => {
                let (id, time) = (from.u128()?, from.option_i64()?);
                let (y, weight) = (from.f64()?, from.f64()?);
                from.f32s_into(x)?;
                Ok(Self::Learn { id, y, weight, time })
            }
            2 => {
                let (id, time) = (from.u128()?, from.option_i64()?);
                from.f32s_into(x)?;
                Ok(Self::Remember { id, time, prediction: Prediction::decode(from)? })
            }
            3 => {
                let (id, time) = (from.u128()?, from.option_i64()?);
                Ok(Self::Label { id, time, y: from.f64()?, weight: from.f64()? })
            }
            4 => Ok(Self::Challenge(from.block()?)),
            5 => Ok(Self::Dismiss),
            6 => Ok(Self::Drift),
            other => Err(from.damaged("a kind of record from 1 to 6", other)),
        }
    }
}

/// Writes an event as a record.
pub(crate) fn encode(event: &Event<'_>, to: &mut Encoder) {
    match *event {
        Event::Learn { id, sample } => {
            to.u8(1);
            to.u128(id);
            to.option_i64(sample.time);
            to.f64(sample.y);
            to.f64(sample.weight);
            to.f32s(sample.x);
        }
        Event::Remember { id, x, prediction, time } => {
            to.u8(2);
            to.u128(id);
            to.option_i64(time);
            to.f32s(x);
            prediction.encode(to);
        }
        Event::Label { id, y, weight, time } => {
            to.u8(3);
            to.u128(id);
            to.option_i64(time);
            to.f64(y);
            to.f64(weight);
        }
    }
}

/// Writes a change of the service as a record.
pub(crate) fn encode_change(change: &Record<'_>, to: &mut Encoder) {
    match change {
        Record::Challenge(envelope) => {
            to.u8(4);
            to.block(envelope);
        }
        Record::Dismiss => to.u8(5),
        Record::Drift => to.u8(6),
        Record::Learn { .. } | Record::Remember { .. } | Record::Label { .. } => {
            unreachable!("events are written by `encode`")
        }
    }
}

/// Refuses an event that no state of a service with this signature could take in.
pub(crate) fn check(event: &Event<'_>, signature: &Signature) -> Result<()> {
    match *event {
        Event::Learn { sample, .. } => {
            check_row(sample.x, signature)?;
            check_label(sample.y, sample.weight, signature)
        }
        Event::Remember { x, prediction, .. } => {
            check_row(x, signature)?;
            let mut said = [&prediction.champion].into_iter().chain(&prediction.shadows);
            let n = signature.n_outputs();
            said.try_for_each(|said| match said.values.len() {
                len if len == n => check_finite(&said.values),
                len => Err(Error::data("length of the prediction", n, len)),
            })
        }
        Event::Label { y, weight, .. } => check_label(y, weight, signature),
    }
}

pub(super) fn check_row(x: &[f32], signature: &Signature) -> Result<()> {
    let columns = signature.schema.columns();
    if x.len() != columns.len() {
        return Err(Error::Columns { expected: columns.len(), got: x.len() });
    }
    for (column, &x) in columns.iter().zip(x) {
        let ok = match column.levels() {
            None => !x.is_infinite() || signature.admits_infinite,
            Some(levels) => {
                let is_code = 0.0 <= x && x < levels.len() as f32 && x.fract() == 0.0;
                is_code || x.is_nan() || x == mm_core::Frame::UNKNOWN
            }
        };
        if !ok {
            let expected = match column.levels() {
                None => "a finite number or NaN (missing)".to_owned(),
                Some(l) => format!("a code below {}, NaN (missing) or -1 (unknown)", l.len()),
            };
            return Err(Error::data(column, expected, x));
        }
    }
    Ok(())
}

/// Refuses a prediction that would spoil every score that it enters.
pub(crate) fn check_finite(values: &[f64]) -> Result<()> {
    match values.iter().find(|value| !value.is_finite()) {
        None => Ok(()),
        Some(bad) => Err(Error::data("prediction of the model", "finite numbers", bad)),
    }
}

fn check_label(y: f64, weight: f64, signature: &Signature) -> Result<()> {
    let n_classes = signature.task.n_classes();
    let ok = match n_classes {
        0 => y.is_finite(),
        k => 0.0 <= y && y < k as f64 && y.fract() == 0.0,
    };
    if !ok {
        let expected = match n_classes {
            0 => "a finite number".to_owned(),
            k => format!("a class code from 0 to {}", k - 1),
        };
        return Err(Error::data("label", expected, y));
    }
    if !(0.0 <= weight && weight.is_finite()) {
        return Err(Error::data("weight", "a finite number ≥ 0", weight));
    }
    Ok(())
}

/// Refuses a model that is no plain regressor or classifier: what a service can judge.
pub(crate) fn check_signature(signature: &Signature) -> Result<()> {
    let quantile = signature.outputs.iter().find(|o| matches!(o, Output::Quantile(_)));
    if signature.outputs == signature.task.outputs() && quantile.is_none() {
        return Ok(());
    }
    let expected = "one value, or the probabilities of the classes";
    Err(Error::data("outputs of the model", expected, format!("{:?}", signature.outputs)))
}
