//! A small online model for tests: logistic or linear, by plain gradient steps.

use mm_core::{
    BodyReader, BodyWriter, Envelope, Error, Frame, Matrix, Model, OnlineModel, Persist, Result,
    Sample, Schema, Signature, Tag, Task,
};

/// Weights, intercept last. Refuses rows whose first feature is missing.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    pub(crate) signature: Signature,
    pub(crate) weights: Vec<f64>,
    pub(crate) rate: f64,
    pub(crate) n_learnt: u64,
}

impl Probe {
    pub(crate) fn binary(n_cols: usize) -> Self {
        Self::new(n_cols, Task::classes(["no", "yes"]).expect("two classes"))
    }

    pub(crate) fn new(n_cols: usize, task: Task) -> Self {
        let signature = Signature::new(Schema::numeric(n_cols), task);
        Self { signature, weights: vec![0.0; n_cols + 1], rate: 0.1, n_learnt: 0 }
    }

    pub(crate) fn boxed(self) -> Box<dyn OnlineModel> {
        Box::new(self)
    }

    fn value(&self, row: &[f32]) -> f64 {
        let (last, rest) = self.weights.split_last().expect("an intercept");
        let sum: f64 = rest.iter().zip(row).map(|(w, &x)| w * f64::from(x)).sum();
        match self.signature.task {
            Task::Regression => last + sum,
            _ => 1.0 / (1.0 + (-(last + sum).clamp(-30.0, 30.0)).exp()),
        }
    }
}

impl Model for Probe {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        x.rows().zip(out.values_mut()).for_each(|(row, out)| *out = self.value(row));
        Ok(())
    }

    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        out[0] = self.value(row);
        Ok(())
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }

    fn as_online(&self) -> Option<&dyn OnlineModel> {
        Some(self)
    }
}

impl OnlineModel for Probe {
    fn learn_one(&mut self, sample: &Sample<'_>) -> Result<()> {
        if sample.x.first().is_some_and(|x| x.is_nan()) {
            return Err(Error::data("first feature", "a number", "a missing value"));
        }
        let step = self.rate * sample.weight * (sample.y - self.value(sample.x));
        for (w, &x) in self.weights.iter_mut().zip(sample.x.iter().chain(&[1.0])) {
            *w += step * f64::from(x);
        }
        self.n_learnt += u64::from(0.0 < sample.weight);
        Ok(())
    }

    fn n_learnt(&self) -> u64 {
        self.n_learnt
    }

    fn size_bytes(&self) -> usize {
        size_of::<Self>() + 8 * self.weights.len()
    }

    fn fork(&self) -> Box<dyn OnlineModel> {
        Box::new(self.clone())
    }
}

impl Persist for Probe {
    const TAG: Tag = Tag::new("test.probe", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.json(&self.signature)?;
        body.json(&self.n_learnt)?;
        body.numbers(&[self.rate]);
        body.numbers(&self.weights);
        Ok(())
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        let (signature, n_learnt) = (body.json()?, body.json()?);
        Ok(Self { signature, n_learnt, rate: body.numbers()?[0], weights: body.numbers()? })
    }
}
