//! Learners for tests: one that learns by heart, and one that can be told to fail.

use std::collections::BTreeMap;

use mm_core::{
    BodyReader, BodyWriter, BoxLearner, Dataset, Envelope, Error, FitContext, Frame, Learner,
    Matrix, Model, Output, Params as _, Persist, Result, Signature, Tag, Task,
};

use crate::LinearParams;

/// A linear model of the given penalty.
pub(super) fn linear(penalty: f64) -> BoxLearner {
    Box::new(LinearParams::default().with(|p| p.penalty = penalty).build().expect("valid"))
}

/// What a faulty learner does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    FitPanics,
    FitFails,
    PredictPanics,
    PredictsNan,
    PredictsConstant,
    TurnsClasses,
    Late,
    RefitFails,
}

/// A learner with a fault; `RefitFails` fails on the given number of rows alone.
#[derive(Debug, Clone)]
pub(super) struct Faulty(pub(super) Fault, pub(super) usize);

#[derive(Debug)]
pub(super) struct FaultyModel {
    signature: Signature,
    fault: Fault,
}

impl Learner for Faulty {
    type Model = FaultyModel;

    fn name(&self) -> &'static str {
        "faulty"
    }

    fn train(&self, data: &Dataset, _: &FitContext<'_>) -> Result<FaultyModel> {
        let fault = self.0;
        match fault {
            Fault::FitPanics => panic!("no luck"),
            Fault::FitFails => return Err(Error::data("luck", "some", "none")),
            Fault::Late => return Err(Error::Deadline),
            Fault::RefitFails if data.n_rows() == self.1 => {
                return Err(Error::data("rows", "fewer", data.n_rows()));
            }
            _ => {}
        }
        let mut task = data.task().clone();
        if fault == Fault::TurnsClasses {
            let names = task.class_names().expect("classes").iter().rev().cloned();
            task = Task::classes(names.collect::<Vec<_>>()).expect("distinct");
        }
        Ok(FaultyModel { signature: Signature::new(data.frame().schema().clone(), task), fault })
    }
}

impl Model for FaultyModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, _: &Frame, out: &mut Matrix) -> Result<()> {
        assert_ne!(self.fault, Fault::PredictPanics, "no luck");
        let share = 1.0 / out.n_cols().max(2) as f64;
        out.values_mut().fill(if self.fault == Fault::PredictsNan { f64::NAN } else { share });
        Ok(())
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Err(Error::data("seal", "wax", "none"))
    }
}

/// Remembers each row's target by the bits of its features; knows nothing of others.
#[derive(Debug, Clone)]
pub(super) struct ByHeart;

#[derive(Debug)]
pub(super) struct ByHeartModel {
    signature: Signature,
    seen: BTreeMap<Vec<u32>, f64>,
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|x| x.to_bits()).collect()
}

impl Learner for ByHeart {
    type Model = ByHeartModel;

    fn name(&self) -> &'static str {
        "by heart"
    }

    fn train(&self, data: &Dataset, _: &FitContext<'_>) -> Result<ByHeartModel> {
        let signature = Signature::new(data.frame().schema().clone(), data.task().clone());
        let seen = data.frame().rows().map(bits).zip(data.target().iter().copied()).collect();
        Ok(ByHeartModel { signature, seen })
    }
}

impl Model for ByHeartModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        let k = out.n_cols();
        for (i, row) in x.rows().enumerate() {
            let known = self.seen.get(&bits(row));
            for (j, y) in out.row_mut(i).iter_mut().enumerate() {
                // An unknown row: a guess that differs from row to row.
                let guess = f64::from(row[0].to_bits() % 97) / 97.0;
                let class = if k == 1 { 1.0 } else { j as f64 };
                *y = known.map_or(guess, |&y| if y == class { 0.99 } else { 0.01 });
            }
        }
        Ok(())
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }
}

impl Persist for ByHeartModel {
    const TAG: Tag = Tag::new("test.by-heart", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.json(&self.signature)
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        Ok(Self { signature: body.json()?, seen: BTreeMap::new() })
    }
}

/// The outputs of a binary task.
pub(super) fn binary(n: usize, p: impl Fn(usize) -> f64) -> Matrix {
    Matrix::new((0..n).map(p).collect(), 1).expect("one column")
}

/// Values from a fixed sequence without pattern, in [0, 1).
pub(super) fn noise(i: usize, stream: usize) -> f64 {
    let mut x = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (stream as u64 + 1) << 40;
    for _ in 0..3 {
        x ^= x >> 31;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 27;
    }
    (x >> 11) as f64 / (1_u64 << 53) as f64
}

/// Whether an output is a probability.
pub(super) fn is_probability(output: &Output) -> bool {
    matches!(output, Output::Probability(_))
}
