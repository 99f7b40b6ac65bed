//! How do I add a model of my own? Params, learner, model, and one call that holds it to what every
//! model owes its callers.
//!
//!     cargo run --example own_model
//!
//! The model: the class whose mean is nearest (Tibshirani et al. 2002, without the shrinkage),
//! with probabilities that fall off with the squared distance.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use mm::core::{
    BodyReader, BodyWriter, Catalog, Dataset, Envelope, Error, FitContext, Frame, Learner, Matrix,
    Model, ParamError, Params, Persist, Result, Signature, Tag, Task, conformance,
};
use serde::{Deserialize, Serialize};

/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `scale` | 1.0 | (0, ∞) | squared distance over which the odds change by a factor of e |
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CentroidParams {
    scale: f64,
}

impl Default for CentroidParams {
    fn default() -> Self {
        Self { scale: 1.0 }
    }
}

impl Params for CentroidParams {
    type Learner = Centroid;

    fn build(self) -> Result<Centroid, ParamError> {
        let ok = 0.0 < self.scale && self.scale.is_finite();
        ParamError::ensure(ok, "scale", self.scale, "a finite number above 0")?;
        Ok(Centroid { params: self })
    }
}

#[derive(Debug, Clone)]
struct Centroid {
    params: CentroidParams,
}

impl Learner for Centroid {
    type Model = CentroidModel;

    fn name(&self) -> &'static str {
        "centroid"
    }

    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<CentroidModel> {
        ctx.check_cancelled()?;
        if matches!(data.task(), Task::Regression) {
            return Err(Error::data("task", "classification", data.task()));
        }
        let (p, k) = (data.frame().n_cols(), data.task().n_classes());
        let (mut sums, mut totals) = (Matrix::zeros(k, p), vec![0.0; k]);
        for (i, row) in data.frame().rows().enumerate() {
            let (class, weight) = (data.target()[i] as usize, data.weights().map_or(1.0, |w| w[i]));
            totals[class] += weight;
            for (sum, &x) in sums.row_mut(class).iter_mut().zip(row) {
                *sum += weight * f64::from(x);
            }
        }
        for (class, total) in totals.iter().enumerate().filter(|(_, total)| 0.0 < **total) {
            sums.row_mut(class).iter_mut().for_each(|sum| *sum /= total);
        }
        let signature = Signature::new(data.frame().schema().clone(), data.task().clone());
        Ok(CentroidModel { signature, centres: sums, scale: self.params.scale })
    }
}

#[derive(Debug)]
struct CentroidModel {
    signature: Signature,
    centres: Matrix, // One row a class.
    scale: f64,
}

impl Model for CentroidModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        for (i, row) in x.rows().enumerate() {
            let distance = |centre: &[f64]| -> f64 {
                centre.iter().zip(row).map(|(c, &x)| (f64::from(x) - c).powi(2)).sum()
            };
            let distances: Vec<f64> = self.centres.rows().map(distance).collect();
            let nearest = distances.iter().copied().fold(f64::INFINITY, f64::min);
            let odds: Vec<f64> =
                distances.iter().map(|d| ((nearest - d) / self.scale).exp()).collect();
            let total: f64 = odds.iter().sum();
            let skip = odds.len() - out.n_cols(); // Binary: the positive class alone.
            for (p, odd) in out.row_mut(i).iter_mut().zip(&odds[skip..]) {
                *p = odd / total;
            }
        }
        Ok(())
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }
}

impl Persist for CentroidModel {
    const TAG: Tag = Tag::new("example.centroid", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.json(&self.signature)?;
        body.numbers(&[self.scale]);
        body.numbers(self.centres.values());
        Ok(())
    }

    fn read_body(body: &mut BodyReader<'_>, _version: u16) -> Result<Self> {
        let signature: Signature = body.json()?;
        let [scale] = body.numbers()?[..] else {
            return Err(Error::corrupt("centroid", "one scale", "another number"));
        };
        let centres = Matrix::new(body.numbers()?, signature.schema.len())?;
        if centres.n_rows() != signature.task.n_classes() {
            return Err(Error::corrupt("centroid", "one centre a class", centres.n_rows()));
        }
        Ok(Self { signature, centres, scale })
    }
}

fn main() -> Result<()> {
    let catalog =
        Catalog::default().with::<CentroidModel>().with_kind::<CentroidParams>("centroid");
    let learner = CentroidParams::default().with(|p| p.scale = 100.0).build()?;

    // What it can do; everything else is refused by `train` or by the data it is given.
    let mut can = conformance::Checks::default();
    (can.regression, can.missing, can.categorical) = (false, false, false);
    conformance::check_only(&learner, &catalog, can);
    println!("the model keeps every promise of the conformance suite");

    let data = conformance::sample(60, 3, can);
    let model = learner.fit(&data, &FitContext::seeded(1))?;
    let bytes = model.to_envelope()?.into_bytes();
    let opened = catalog.open(&bytes)?;
    println!(
        "{} bytes on disk; first row: {:.3?}",
        bytes.len(),
        opened.predict(data.frame())?.row(0)
    );
    Ok(())
}
