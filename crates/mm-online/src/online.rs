//! The shell of every online model: an algorithm on rows of `f64` becomes a learner and a model.
//!
//! The author of an algorithm implements [`Incremental`] and its params, nothing else. The shell
//! checks and codes each row ([`InputParams`]), ages the past ([`HalfLife`]), counts, stores, and
//! fits from a [`Dataset`] by learning its rows in order.

use std::fmt;

use mm_core::{
    BodyReader, BodyWriter, Dataset, Envelope, Error, FitContext, Frame, Late, Learner, Matrix,
    Model, OnlineModel, Params, Persist, Result, Sample, Schema, Signature, Step, Tag, Task,
    parallel,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    half_life::{Clock, HalfLife},
    inputs::{CellCounts, Coding, InputParams, InputState, Inputs, Row, Slot},
};

/// What an algorithm learns from and what it predicts.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Shape {
    /// What the slots of a row hold.
    pub slots: Vec<Slot>,
    /// Number of classes; 0 for regression.
    pub n_classes: usize,
    /// Length of a prediction: 1 for regression and for two classes (the probability of class 1),
    /// else the number of classes.
    pub n_outputs: usize,
}

impl Shape {
    /// The shape of rows of `n` numbers with `n_classes` classes, 0 for regression.
    pub fn numeric(n: usize, n_classes: usize) -> Self {
        let n_outputs = if n_classes < 3 { 1 } else { n_classes };
        Self { slots: vec![Slot::Number; n], n_classes, n_outputs }
    }
}

/// One row to learn from.
#[derive(Debug, Clone, Copy)]
pub struct Example<'a> {
    /// The features.
    pub row: Row<'a>,
    /// A value of magnitude at most 1e100, or the index of a class.
    pub y: f64,
    /// How much the row counts: above 0, at most 1e12.
    pub weight: f64,
    /// The factor, in [0, 1], by which what was learnt before has aged since the last row.
    pub decay: f64,
    /// What was known when the row was predicted: no note, and no delay, where nobody noted it.
    pub late: Late<'a>,
}

impl<'a> Example<'a> {
    /// A row of weight 1, before which nothing has aged.
    pub fn new(x: &'a [f64], y: f64) -> Self {
        Self { row: Row::new(x), y, weight: 1.0, decay: 1.0, late: Late::default() }
    }

    /// The index of the class.
    pub fn class(&self) -> usize {
        self.y as usize
    }
}

/// An algorithm that learns a row at a time; what the author of an online model implements.
///
/// The state must stay finite whatever finite rows come, and be a function of params, shape, seed,
/// and the rows alone.
pub trait Incremental:
    fmt::Debug + Clone + Send + Sync + Serialize + DeserializeOwned + 'static
{
    /// Its hyper-parameters.
    type Params: Params<Learner = OnlineLearner<Self>> + Send + Sync + 'static;

    /// The kind in a catalog and the name in logs.
    const NAME: &'static str;
    /// The stored model's tag; its version covers params and state.
    const TAG: Tag;
    /// How categorical columns reach the algorithm.
    const CODING: Coding;
    /// Rows a block of a parallel prediction: enough for some tens of µs.
    const BLOCK: usize = 256;

    /// The policy for odd cells.
    fn inputs(params: &Self::Params) -> &InputParams;

    /// How fast the past is forgotten.
    fn half_life(params: &Self::Params) -> HalfLife;

    /// Whether the algorithm learns such targets. Everything, by default.
    fn supports(_: &Task) -> bool {
        true
    }

    /// A state that has seen nothing.
    fn start(params: &Self::Params, shape: &Shape, seed: u64) -> Result<Self>;

    /// Learns one row.
    fn learn(&mut self, params: &Self::Params, example: &Example<'_>);

    /// Fills `out`, of the shape's `n_outputs`, with a value or with probabilities.
    fn predict(&self, params: &Self::Params, row: Row<'_>, out: &mut [f64]);

    /// How many numbers [`note`](Self::note) writes.
    fn n_notes(&self) -> usize {
        0
    }

    /// Fills `note`, of [`n_notes`](Self::n_notes), with what learning this row later needs to know
    /// of this moment. Nothing, by default.
    fn note(&self, _: &Self::Params, _: Row<'_>, _note: &mut [f64]) {}

    /// Bytes on the heap that the state takes.
    fn heap_bytes(&self) -> usize;

    /// Whether a state read from outside is one that `shape` can have: every index in range, every
    /// length right. [`learn`](Self::learn) and [`predict`](Self::predict) rely on it.
    fn is_valid(&self, params: &Self::Params, shape: &Shape) -> bool;
}

/// Checked params of an online algorithm; fitting learns the rows of a dataset, once, in the order
/// of their timestamps, or of the rows where there are none.
#[derive(Debug, Clone)]
pub struct OnlineLearner<A: Incremental> {
    params: A::Params, // Invariant: passed `Params::build`.
}

impl<A: Incremental> OnlineLearner<A> {
    /// A learner of params that their `build` has checked; for the authors of algorithms.
    pub fn from_checked(params: A::Params) -> Self {
        Self { params }
    }

    /// The params.
    pub fn params(&self) -> &A::Params {
        &self.params
    }

    /// A model that has learnt nothing yet and predicts all the same: 0, or equal probabilities,
    /// unless the algorithm says otherwise.
    pub fn start(&self, schema: Schema, task: Task, seed: u64) -> Result<Online<A>> {
        Online::start(self.params.clone(), schema, task, seed)
    }
}

impl<A: Incremental> Learner for OnlineLearner<A> {
    type Model = Online<A>;

    fn name(&self) -> &'static str {
        A::NAME
    }

    fn admits_infinite(&self) -> bool {
        A::inputs(&self.params).admits_infinite()
    }

    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<Online<A>> {
        const ROWS_A_STEP: usize = 1024;
        let frame = data.frame();
        let mut model = self.start(frame.schema().clone(), data.task().clone(), ctx.seed)?;
        let mut order: Vec<usize> = (0..data.n_rows()).collect();
        if let Some(times) = frame.times() {
            order.sort_by_key(|&i| times[i]); // Stable: rows of one moment keep their order.
        }
        let steps = order.chunks(ROWS_A_STEP);
        let total = steps.len();
        for (step, rows) in steps.enumerate() {
            for &i in rows {
                let weight = data.weights().map_or(1.0, |w| w[i]);
                let time = frame.times().map(|t| t[i]);
                let sample = Sample { x: frame.row(i), y: data.target()[i], weight, time };
                model.learn_one(&sample).map_err(|e| e.within(format!("row {i}")))?;
            }
            if !ctx.step(&Step::new(step + 1, total, &[]))? {
                break;
            }
        }
        Ok(model)
    }
}

/// A model of any online algorithm: predicts, keeps learning, can be stored.
#[derive(Clone)]
pub struct Online<A: Incremental> {
    signature: Signature,
    params: A::Params,
    inputs: Inputs,
    clock: Clock,
    n_learnt: u64,
    state: A,
    scratch: Vec<f64>, // Invariant: one number a slot.
}

/// Most weight of a row: a million million rows at once, far from overflow.
const MAX_WEIGHT: f64 = 1e12;
/// Largest magnitude of a target value: its square is far from overflow.
const MAX_TARGET: f64 = 1e100;

/// What a stored model keeps besides its signature and params.
#[derive(Serialize, Deserialize)]
struct Stored<I, S> {
    inputs: I,
    clock: Clock,
    n_learnt: u64,
    state: S,
}

impl<A: Incremental> Online<A> {
    fn start(params: A::Params, schema: Schema, task: Task, seed: u64) -> Result<Self> {
        if !A::supports(&task) {
            let expected = format!("a task that `{}` can learn", A::NAME);
            return Err(Error::data("task of the data", expected, task));
        }
        let mut signature = Signature::new(schema, task);
        signature.admits_infinite = A::inputs(&params).admits_infinite();
        let (inputs, shape) = layout::<A>(&params, &signature)?;
        let state = A::start(&params, &shape, seed)?;
        let scratch = vec![0.0; shape.slots.len()];
        let clock = Clock::default();
        Ok(Self { signature, params, inputs, clock, n_learnt: 0, state, scratch })
    }

    /// The params it was made with.
    pub fn params(&self) -> &A::Params {
        &self.params
    }

    /// What the algorithm has learnt.
    pub fn state(&self) -> &A {
        &self.state
    }

    /// Missing, infinite, and unknown cells learnt from so far, one entry a column.
    pub fn cell_counts(&self) -> &[CellCounts] {
        self.inputs.counts()
    }

    fn check_label(&self, sample: &Sample<'_>) -> Result<()> {
        let Sample { y, weight, .. } = *sample;
        if !(0.0 <= weight && weight <= MAX_WEIGHT) {
            let expected = format!("a number from 0 to {MAX_WEIGHT:e}");
            return Err(Error::data("weight", expected, weight));
        }
        match self.signature.task.n_classes() {
            0 if y.abs() <= MAX_TARGET => Ok(()),
            0 => {
                let expected = format!("a number of magnitude at most {MAX_TARGET:e}");
                Err(Error::data("target", expected, y))
            }
            k if 0.0 <= y && y < k as f64 && y.fract() == 0.0 => Ok(()),
            k => Err(Error::data("target", format!("a class code from 0 to {}", k - 1), y)),
        }
    }

    fn infer_coded(&self, row: &[f32], slots: &mut [f64], out: &mut [f64]) -> Result<()> {
        let complete = self.inputs.code(row, slots)?;
        self.state.predict(&self.params, Row { x: slots, complete }, out);
        Ok(())
    }
}

/// How rows of the signature reach the algorithm.
fn layout<A: Incremental>(params: &A::Params, signature: &Signature) -> Result<(Inputs, Shape)> {
    let inputs = Inputs::new(A::inputs(params), &signature.schema, A::CODING)?;
    let shape = Shape {
        slots: inputs.slots().to_vec(),
        n_classes: signature.task.n_classes(),
        n_outputs: signature.n_outputs(),
    };
    Ok((inputs, shape))
}

impl<A: Incremental> fmt::Debug for Online<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, p) = (self.n_learnt, self.signature.schema.len());
        write!(f, "Online(`{}`, {n} rows of {p} columns learnt)", A::NAME)
    }
}

impl<A: Incremental> Model for Online<A> {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        let width = out.n_cols();
        parallel::fill_rows(out, A::BLOCK, |rows, values| {
            let mut slots = vec![0.0; self.inputs.slots().len()];
            for (i, out) in rows.zip(values.chunks_exact_mut(width)) {
                self.infer_coded(x.row(i), &mut slots, out)
                    .map_err(|e| e.within(format!("row {i}")))?;
            }
            Ok(())
        })
    }

    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        with_buffer(self.inputs.slots().len(), |slots| self.infer_coded(row, slots, out))
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }

    fn as_online(&self) -> Option<&dyn OnlineModel> {
        Some(self)
    }
}

impl<A: Incremental> OnlineModel for Online<A> {
    fn learn_one(&mut self, sample: &Sample<'_>) -> Result<()> {
        self.learn_late(sample, Late::default())
    }

    fn learn_late(&mut self, sample: &Sample<'_>, late: Late<'_>) -> Result<()> {
        self.check_label(sample)?;
        let n_notes = self.state.n_notes();
        let is_note = late.note.len() == n_notes && late.note.iter().all(|x| x.is_finite());
        if !(is_note || late.note.is_empty()) {
            let expected = format!("{n_notes} finite numbers that this model noted");
            return Err(Error::data("note", expected, format!("{:?}", late.note)));
        }
        let complete = self.inputs.code(sample.x, &mut self.scratch)?;
        let half_life = A::half_life(&self.params);
        let decay = self.clock.decay(half_life, sample.time)?;
        if sample.weight == 0.0 {
            return Ok(());
        }
        // From here on nothing fails: a row that is refused has changed nothing.
        self.clock.advance(half_life, sample.time, decay);
        self.inputs.learn(sample.x, sample.weight, decay);
        let row = Row { x: &self.scratch, complete };
        let example = Example { row, y: sample.y, weight: sample.weight, decay, late };
        self.state.learn(&self.params, &example);
        self.n_learnt += 1;
        Ok(())
    }

    fn infer_noting(&self, row: &[f32], out: &mut [f64], note: &mut Vec<f64>) -> Result<()> {
        with_buffer(self.inputs.slots().len(), |slots| {
            let complete = self.inputs.code(row, slots)?;
            let row = Row { x: slots, complete };
            self.state.predict(&self.params, row, out);
            let before = note.len();
            note.resize(before + self.state.n_notes(), 0.0);
            self.state.note(&self.params, row, &mut note[before..]);
            Ok(())
        })
    }

    fn n_learnt(&self) -> u64 {
        self.n_learnt
    }

    fn size_bytes(&self) -> usize {
        let own = size_of::<Self>() + size_of_val(&self.scratch[..]);
        own + self.inputs.size_bytes() + self.state.heap_bytes()
    }

    fn fork(&self) -> Box<dyn OnlineModel> {
        Box::new(self.clone())
    }
}

impl<A: Incremental> Persist for Online<A> {
    const TAG: Tag = A::TAG;

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.json(&self.signature)?;
        body.json(&self.params)?;
        let stored = Stored {
            inputs: self.inputs.state(),
            clock: self.clock,
            n_learnt: self.n_learnt,
            state: &self.state,
        };
        let bytes = postcard::to_stdvec(&stored)
            .map_err(|e| Error::data("model state", "one that can be written", e))?;
        body.bytes(&bytes);
        Ok(())
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        let signature: Signature = body.json()?;
        let params: A::Params = body.json()?;
        let bytes = body.bytes()?;
        let damaged = |e| Error::corrupt("state of an online model", "a valid one", e);
        let params = params.build().map_err(|e| damaged(e.to_string()))?.params;
        let (mut inputs, shape) = layout::<A>(&params, &signature)?;
        let (stored, rest): (Stored<InputState, A>, _) =
            postcard::take_from_bytes(bytes).map_err(|e| damaged(e.to_string()))?;
        let promised = signature.outputs == signature.task.outputs()
            && signature.admits_infinite == A::inputs(&params).admits_infinite()
            && A::supports(&signature.task);
        if !(promised && rest.is_empty() && stored.state.is_valid(&params, &shape)) {
            return Err(damaged("one that does not fit its signature".to_owned()));
        }
        inputs.restore(stored.inputs)?;
        let (clock, n_learnt, state) = (stored.clock, stored.n_learnt, stored.state);
        let scratch = vec![0.0; shape.slots.len()];
        Ok(Self { signature, params, inputs, clock, n_learnt, state, scratch })
    }
}

/// Lends zeros, from the stack where there are few.
pub(crate) fn with_buffer<T>(len: usize, work: impl FnOnce(&mut [f64]) -> T) -> T {
    const FEW: usize = 64;
    if len <= FEW { work(&mut [0.0; FEW][..len]) } else { work(&mut vec![0.0; len]) }
}

/// Turns votes ≥ 0, one a class, into the outputs of a classifier: shares of the sum, or equal
/// ones where there is no vote.
pub(crate) fn write_shares(votes: &[f64], out: &mut [f64]) {
    let total: f64 = votes.iter().sum();
    let is_some = 0.0 < total && total.is_finite();
    let share = |vote: f64| if is_some { vote / total } else { 1.0 / votes.len() as f64 };
    match out {
        [one] => *one = share(votes[1]),
        many => many.iter_mut().zip(votes).for_each(|(out, &vote)| *out = share(vote)),
    }
}
