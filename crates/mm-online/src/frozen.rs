//! A fitted batch model in a place where models keep learning: it does not.

use std::sync::Arc;

use mm_core::{
    BodyReader, BodyWriter, Envelope, Frame, Matrix, Model, OnlineModel, Persist, Result, Sample,
    Signature, Tag,
};

/// A batch model as an [`OnlineModel`] that takes in rows and stays as it is: a member of a
/// [`Blend`](crate::Blend), or the champion of a [`Service`](crate::Service) that is retrained.
#[derive(Debug, Clone)]
pub struct Frozen {
    model: Arc<dyn Model>,
    n_learnt: u64,
}

impl Frozen {
    /// `model`, as it is.
    pub fn new(model: impl Into<Arc<dyn Model>>) -> Self {
        Self { model: model.into(), n_learnt: 0 }
    }

    /// The model.
    pub fn model(&self) -> &Arc<dyn Model> {
        &self.model
    }
}

impl Model for Frozen {
    fn signature(&self) -> &Signature {
        self.model.signature()
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        self.model.infer(x, out)
    }

    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        self.model.infer_row(row, out)
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }

    fn as_online(&self) -> Option<&dyn OnlineModel> {
        Some(self)
    }
}

impl OnlineModel for Frozen {
    /// Counts the row.
    fn learn_one(&mut self, sample: &Sample<'_>) -> Result<()> {
        self.n_learnt += u64::from(0.0 < sample.weight);
        Ok(())
    }

    fn n_learnt(&self) -> u64 {
        self.n_learnt
    }

    /// Without the batch model, which says nothing of its size.
    fn size_bytes(&self) -> usize {
        size_of::<Self>()
    }

    fn fork(&self) -> Box<dyn OnlineModel> {
        Box::new(self.clone())
    }
}

impl Persist for Frozen {
    const TAG: Tag = Tag::new("mm.frozen", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.json(&self.n_learnt)?;
        body.model(&*self.model)
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        let n_learnt = body.json()?;
        Ok(Self { n_learnt, model: Arc::from(body.model()?) })
    }
}
