//! A learner for tests: a stump that splits on the weighted mean of the first column, and can be
//! told to break any one promise.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use mm_core::{
    BodyReader, BodyWriter, BoxModel, Catalog, Combination, Combiner, Contributions, Dataset,
    Envelope, Error, Explains, FitContext, Frame, Learner, Matrix, Member, Metric, Model, Output,
    ParamError, Params, Persist, Result, Scale, Signature, Step, Tag, Task, from_config,
};
use serde::{Deserialize, Serialize};

/// What the stump does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    #[default]
    None,
    FitFails,
    FitPanics,
    PredictsNan,
    IgnoresWeights,
    IgnoresCancel,
    DependsOnThreads,
    DependsOnTheClock,
    DependsOnTheBatch,
    ForgetsItsThreshold,
    RowsDiffer,
    ProbabilitiesOverOne,
    ExplainsHalf,
    ExplainsByPlace,
    /// Fails on the 90 rows of the sample, and fits any part of them.
    RefitFails,
    /// Says that its one column is a quantile.
    PredictsQuantile,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StumpParams {
    pub(crate) rounds: usize,
    pub(crate) fault: Fault,
    /// A line is appended to this file at each fit.
    pub(crate) log: Option<PathBuf>,
}

impl Default for StumpParams {
    fn default() -> Self {
        Self { rounds: 1, fault: Fault::None, log: None }
    }
}

impl Params for StumpParams {
    type Learner = Stump;

    fn build(self) -> Result<Stump, ParamError> {
        ParamError::ensure(1 <= self.rounds, "rounds", self.rounds, "at least 1")?;
        Ok(Stump { params: self })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Stump {
    params: StumpParams,
}

pub(crate) fn stump(fault: Fault) -> Stump {
    StumpParams { fault, ..StumpParams::default() }.build().expect("valid")
}

pub(crate) fn catalog() -> Catalog {
    Catalog::default().with::<StumpModel>().with_kind::<StumpParams>("stump").with_combiner(
        "first",
        |_, params| {
            let first: First = from_config(params)?;
            Ok(Box::new(first))
        },
    )
}

/// A combiner that goes by its first member, and whose model cannot be sealed if told so.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct First {
    seal_fails: bool,
    /// If given, must be a member.
    only_with: Option<String>,
}

impl Combiner for First {
    fn check(&self, members: &[&str]) -> Result<()> {
        match &self.only_with {
            Some(name) if !members.contains(&name.as_str()) => {
                Err(Error::NotFound { what: "member", name: name.clone() })
            }
            _ => Ok(()),
        }
    }

    fn combine(
        &self,
        _: &[Member<'_>],
        _: &Dataset,
        _: Metric,
        _: &FitContext<'_>,
    ) -> Result<Box<dyn Combination>> {
        Ok(Box::new(self.clone()))
    }
}

impl Combination for First {
    fn apply(&self, parts: &[&Matrix], _: &Frame) -> Result<Matrix> {
        Ok(parts[0].clone())
    }

    fn into_model(self: Box<Self>, members: Vec<Arc<dyn Model>>) -> Result<BoxModel> {
        Ok(Box::new(FirstModel { first: Arc::clone(&members[0]), seal_fails: self.seal_fails }))
    }
}

#[derive(Debug)]
struct FirstModel {
    first: Arc<dyn Model>,
    seal_fails: bool,
}

impl Model for FirstModel {
    fn signature(&self) -> &Signature {
        self.first.signature()
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        self.first.infer(x, out)
    }

    fn to_envelope(&self) -> Result<Envelope> {
        if self.seal_fails {
            return Err(Error::data("seal", "wax", "none"));
        }
        self.first.to_envelope()
    }
}

/// Counts fits, for a model that depends on what ran before.
static FITS: AtomicU64 = AtomicU64::new(0);

impl Learner for Stump {
    type Model = StumpModel;

    fn name(&self) -> &'static str {
        "stump"
    }

    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<StumpModel> {
        let fault = self.params.fault;
        if let Some(path) = &self.params.log {
            use std::io::Write;
            let mut log = std::fs::OpenOptions::new().append(true).create(true).open(path);
            let log = log.as_mut().expect("a log that can be opened");
            // One write, so that a kill leaves the whole line or nothing.
            let line = format!("{} {}\n", ctx.seed, data.n_rows());
            log.write_all(line.as_bytes()).expect("a log that can be written");
        }
        match fault {
            Fault::FitFails => return Err(Error::data("stump", "another fault", "this one")),
            Fault::RefitFails if data.n_rows() == 90 => {
                return Err(Error::data("stump", "fewer rows", 90));
            }
            Fault::FitPanics => panic!("the stump fell"),
            _ => {}
        }
        for round in 1..=self.params.rounds {
            let step = ctx.step(&Step::new(round, self.params.rounds, &[]));
            match step {
                Err(Error::Cancelled) if fault == Fault::IgnoresCancel => {}
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => return Err(e),
            }
        }
        let weight = |i: usize| match (data.weights(), fault) {
            (_, Fault::IgnoresWeights) | (None, _) => 1.0,
            (Some(weights), _) => weights[i],
        };
        let first = |i: usize| f64::from(data.frame().row(i)[0]);
        let total: f64 = (0..data.n_rows()).map(weight).sum();
        let mut threshold = (0..data.n_rows()).map(|i| weight(i) * first(i)).sum::<f64>() / total;
        threshold += match fault {
            Fault::DependsOnThreads => ctx.threads.get() as f64,
            Fault::DependsOnTheClock => FITS.fetch_add(1, Ordering::Relaxed) as f64,
            _ => 0.0,
        };
        let mut signature = Signature::new(data.frame().schema().clone(), data.task().clone());
        if fault == Fault::PredictsQuantile {
            signature.outputs = vec![Output::Quantile(0.9)];
        }
        let k = signature.n_outputs();
        // Shrunk towards equal shares, so that an empty side predicts something.
        let mut sides = Matrix::new(vec![1.0 / k.max(2) as f64; 2 * k], k)?;
        let mut totals = [1.0, 1.0];
        for i in 0..data.n_rows() {
            let side = usize::from(threshold < first(i));
            totals[side] += weight(i);
            let (y, row) = (data.target()[i], sides.row_mut(side));
            match data.task() {
                Task::Multiclass(_) => row[y as usize] += weight(i),
                _ => row[0] += weight(i) * y,
            }
        }
        for (side, total) in totals.iter().enumerate() {
            sides.row_mut(side).iter_mut().for_each(|y| *y /= total);
        }
        Ok(StumpModel { signature, threshold, sides, fault })
    }
}

#[derive(Debug)]
pub(crate) struct StumpModel {
    signature: Signature,
    threshold: f64,
    sides: Matrix,
    fault: Fault,
}

impl Model for StumpModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        let n = x.n_rows();
        for (i, row) in x.rows().enumerate() {
            let side = usize::from(self.threshold < f64::from(row[0]));
            let y = out.row_mut(i);
            y.copy_from_slice(self.sides.row(side));
            match self.fault {
                Fault::PredictsNan => y[0] = f64::NAN,
                Fault::DependsOnTheBatch => y[0] += i as f64 * 1e-9,
                Fault::ProbabilitiesOverOne => y.iter_mut().for_each(|p| *p *= 3.0),
                Fault::RowsDiffer if n == 1 => y[0] += 1e-9,
                _ => {}
            }
        }
        Ok(())
    }

    // Reads a row without a frame, as engines do: what it is given must be checked before.
    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        out.copy_from_slice(self.sides.row(usize::from(self.threshold < f64::from(row[0]))));
        match self.fault {
            Fault::RowsDiffer => out[0] += 1e-9,
            Fault::ProbabilitiesOverOne => out.iter_mut().for_each(|p| *p *= 3.0),
            _ => {}
        }
        Ok(())
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }

    fn as_explains(&self) -> Option<&dyn Explains> {
        Some(self)
    }
}

/// What lies left of the threshold is the base, and column 0 says what the row has beyond it.
impl Explains for StumpModel {
    fn scale(&self) -> Scale {
        Scale::Prediction
    }

    fn explain(&self, x: &Frame, out: &mut Contributions) -> Result<()> {
        let mut predicted = Matrix::zeros(x.n_rows(), self.n_scores());
        self.infer(x, &mut predicted)?;
        for (i, y) in predicted.rows().enumerate() {
            let out = out.matrix_mut().row_mut(i).chunks_exact_mut(x.n_cols() + 1);
            for (out, (y, base)) in out.zip(y.iter().zip(self.sides.row(0))) {
                out[0] = y - base;
                out[x.n_cols()] = *base;
                match self.fault {
                    Fault::ExplainsHalf => out[0] /= 2.0,
                    Fault::ExplainsByPlace => {
                        out[0] += i as f64;
                        out[1] -= i as f64;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl Persist for StumpModel {
    const TAG: Tag = Tag::new("test.stump", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.json(&self.signature)?;
        body.json(&self.fault)?;
        body.numbers(&[self.threshold]);
        body.numbers(self.sides.values());
        Ok(())
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        let signature: Signature = body.json()?;
        let fault = body.json()?;
        let threshold = body.numbers()?;
        let sides = Matrix::new(body.numbers()?, signature.n_outputs())?;
        let [mut threshold] = threshold[..] else {
            return Err(Error::corrupt("stump", "one threshold", threshold.len()));
        };
        if fault == Fault::ForgetsItsThreshold {
            threshold = f64::MAX;
        }
        Ok(Self { signature, threshold, sides, fault })
    }
}
