//! Online calibration of a binary classifier after Platt.
//!
//! # Idea
//!
//! What a model calls 0.9 may come true seven times in ten. Two numbers put it right: with
//! *z* = ln(*p* / (1 − *p*)) of the model's probability, clipped to [10⁻⁶, 1 − 10⁻⁶],
//!
//! ```text
//! p' = 1 / (1 + exp(−(a z + b)))
//! ```
//!
//! *a* and *b* start as 1 and 0 and follow the gradient of the log loss of *p'*, a step a label,
//! each with its own `AdaGrad` rate. The order of predictions stays while *a* > 0, and so do the
//! accuracy-free measures such as the area under the ROC curve.
//!
//! A label that comes late calibrates what the model said then.
//!
//! # Sources
//!
//! Platt (1999), "Probabilistic outputs for support vector machines"; Duchi, Hazan & Singer (2011)
//! for `AdaGrad`.

use mm_core::{
    BodyReader, BodyWriter, Envelope, Error, Frame, Late, Matrix, Model, OnlineModel, ParamError,
    Persist, Result, Sample, Signature, Tag, Task,
};
use serde::{Deserialize, Serialize};

use crate::service::open_online;

const FLOOR: f64 = 1e-6;

/// How fast a calibration follows.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `rate` | 0.02 | > 0 | step of both numbers, before `AdaGrad` divides it |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CalibrationParams {
    /// Step of both numbers.
    pub rate: f64,
}

impl Default for CalibrationParams {
    fn default() -> Self {
        Self { rate: 0.02 }
    }
}

/// A binary classifier whose probabilities are calibrated as labels come.
#[derive(Debug)]
pub struct Calibrated {
    inner: Box<dyn OnlineModel>,
    params: CalibrationParams,
    line: [f64; 2], // Slope and intercept.
    sums: [f64; 2], // Of squared gradients.
}

impl Calibrated {
    /// Calibrates `inner`.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] unless the task is binary; [`Error::Param`] for a bad rate.
    pub fn new(inner: Box<dyn OnlineModel>, params: CalibrationParams) -> Result<Self> {
        let ok = 0.0 < params.rate && params.rate.is_finite();
        ParamError::ensure(ok, "rate", params.rate, "a finite number > 0")?;
        let signature = inner.signature();
        if !matches!(signature.task, Task::Binary(_)) || signature.n_outputs() != 1 {
            let got = format!("{} with {} outputs", signature.task, signature.n_outputs());
            return Err(Error::data("model to calibrate", "a binary classifier", got));
        }
        Ok(Self { inner, params, line: [1.0, 0.0], sums: [0.01; 2] })
    }

    /// The model before calibration.
    pub fn inner(&self) -> &dyn OnlineModel {
        &*self.inner
    }

    /// Slope *a* and intercept *b*.
    pub fn line(&self) -> (f64, f64) {
        (self.line[0], self.line[1])
    }

    fn apply(&self, p: f64) -> f64 {
        sigmoid(self.line[0] * logit(p) + self.line[1])
    }

    /// One step towards label `y` of a row of which the model had said `p`.
    fn step(&mut self, p: f64, y: f64, weight: f64) {
        let gradient = weight * (self.apply(p) - y);
        if !gradient.is_finite() {
            return; // A prediction that is none says nothing about the calibration.
        }
        let gradients = [gradient * logit(p), gradient];
        for ((line, sum), g) in self.line.iter_mut().zip(&mut self.sums).zip(gradients) {
            *sum += g * g;
            *line -= self.params.rate * g / sum.sqrt();
        }
    }
}

fn logit(p: f64) -> f64 {
    let p = p.clamp(FLOOR, 1.0 - FLOOR);
    (p / (1.0 - p)).ln()
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z.clamp(-30.0, 30.0)).exp())
}

impl Clone for Calibrated {
    fn clone(&self) -> Self {
        Self { inner: self.inner.fork(), params: self.params.clone(), ..*self }
    }
}

impl Model for Calibrated {
    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        self.inner.infer(x, out)?;
        for p in out.values_mut() {
            *p = self.apply(*p);
        }
        Ok(())
    }

    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        self.inner.infer_row(row, out)?;
        for p in out {
            *p = self.apply(*p);
        }
        Ok(())
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }

    fn as_online(&self) -> Option<&dyn OnlineModel> {
        Some(self)
    }
}

impl OnlineModel for Calibrated {
    fn learn_one(&mut self, sample: &Sample<'_>) -> Result<()> {
        let mut p = [0.0];
        self.inner.infer_row(sample.x, &mut p)?;
        self.inner.learn_one(sample)?;
        self.step(p[0], sample.y, sample.weight);
        Ok(())
    }

    fn infer_noting(&self, row: &[f32], out: &mut [f64], note: &mut Vec<f64>) -> Result<()> {
        let first = note.len();
        note.push(0.0);
        self.inner.infer_noting(row, out, note)?;
        note[first] = out[0];
        out[0] = self.apply(out[0]);
        Ok(())
    }

    fn learn_late(&mut self, sample: &Sample<'_>, late: Late<'_>) -> Result<()> {
        let Some((&p, note)) = late.note.split_first() else {
            return Err(Error::data("note of a prediction", "one of a calibrated model", "none"));
        };
        self.inner.learn_late(sample, Late { note, ..late })?;
        self.step(p, sample.y, sample.weight);
        Ok(())
    }

    fn n_learnt(&self) -> u64 {
        self.inner.n_learnt()
    }

    fn size_bytes(&self) -> usize {
        size_of::<Self>() + self.inner.size_bytes()
    }

    fn fork(&self) -> Box<dyn OnlineModel> {
        Box::new(self.clone())
    }
}

impl Persist for Calibrated {
    const TAG: Tag = Tag::new("mm.online_calibrated", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.json(&self.params)?;
        body.numbers(&[self.line, self.sums].concat());
        body.model(&*self.inner)
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        let params = body.json()?;
        let numbers = body.numbers()?;
        let inner = open_online(&*body.model()?)?;
        let damaged = |got: String| Error::corrupt("calibrated model", "a valid one", got);
        let &[a, b, c, d] = &numbers[..] else { return Err(damaged(format!("{numbers:?}"))) };
        let new = Self::new(inner, params).map_err(|e| damaged(e.chain()))?;
        Ok(Self { line: [a, b], sums: [c, d], ..new })
    }
}
