//! The learner and the model of a net: one shell for all kinds.

mod explain;

use std::fmt;

use mm_core::{
    BodyReader, BodyWriter, BoxModel, Dataset, Envelope, Error, Explains, FitContext, Frame,
    Learner, Matrix, Model, Output, Persist, Result, Signature, Slot, Snapshots, Tag, Task,
    WarmStart, check_data, contain, parallel,
};

use crate::{
    device::cpu,
    loss::{Loss, Objective, TargetScale},
    memory::{Need, Plan},
    net::{Architecture, Net as _},
    nn::pass::Pass,
    prepare::{Inputs, Preparation, Prepared},
    random::Key,
    snapshot,
    train::{FitReport, Rows, Trainer, predict},
    weights::{Scope, Storage, Weights, initialise},
    window::{History, Windows},
};

/// A net to be fitted: checked hyper-parameters, and how the fitted weights are stored.
///
/// With [`snapshots`](FitContext::snapshots) in the context a fit keeps its state from time to time,
/// and one that was killed goes on from there to the model of a fit that was never killed, bit for
/// bit. A snapshot of another net, other data, or another seed is not taken for this fit's own; one
/// that cannot be written, since the disk is full, ends the fit with an error, and what was kept
/// before stays to go on from.
#[derive(Clone, PartialEq)]
pub struct NetLearner<A> {
    params: A,
    storage: Storage,
}

impl<A: fmt::Debug> fmt::Debug for NetLearner<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.params.fmt(f)
    }
}

impl<A: Architecture> NetLearner<A> {
    /// From params that were checked.
    pub(crate) fn from_checked(params: A) -> Self {
        Self { params, storage: Storage::F32 }
    }

    /// The hyper-parameters.
    pub fn params(&self) -> &A {
        &self.params
    }

    /// Rounds the fitted weights to `storage`, in which the model is stored. The model predicts
    /// with the rounded weights from the start, so that storing it changes nothing.
    #[must_use]
    pub fn with_storage(mut self, storage: Storage) -> Self {
        self.storage = storage;
        self
    }

    /// About how many bytes a fit to `data` with `threads` threads takes beyond the data themselves,
    /// before anything is allocated: an estimate from above, at most three times what it comes to.
    ///
    /// It counts the weights with their moments, copies, and gradients, the prepared rows, and for
    /// each thread what lies between the layers for `micro_batch` rows; so it does not grow with the
    /// batch. Held-out data and [snapshots](FitContext::snapshots), while they are written, come on
    /// top. An error if the net cannot be made, or not within
    /// [`memory`](crate::TrainingParams::memory).
    pub fn memory(&self, data: &Dataset, threads: usize) -> Result<usize> {
        let preparation = Preparation::fit(data.frame(), self.params.scaling());
        let mut inputs = preparation.inputs(self.loss(data.task()).n_scores(), None);
        inputs.bins = self.params.bins().unwrap_or(0);
        inputs.edges = vec![Vec::new(); inputs.numbers];
        let net = |scope: &Scope<'_>| self.params.net(scope, &inputs);
        let weights = contain(|| initialise(Key::new(0), &cpu(), net))?.values.len();
        let need = self.need(weights, &inputs, data.n_rows());
        Ok(need.bytes(self.plan(need, threads)?))
    }

    fn need(&self, weights: usize, inputs: &Inputs, n_rows: usize) -> Need {
        // For each row its columns and its window in 4 bytes each, target, weight, and places in
        // orders of rows.
        let a_row = 4 * (inputs.columns() + self.params.window().unwrap_or(1)) + 40;
        let training = self.params.training();
        let all = self.params.numbers_a_row(inputs);
        // Of one block everything, of the others what lies between them, which is far less.
        let between = if training.recompute { all / self.params.blocks() + all / 4 } else { all };
        Need { weights, between, batch: training.batch_size.min(n_rows), data: n_rows * a_row }
    }

    fn plan(&self, need: Need, threads: usize) -> Result<Plan> {
        let training = self.params.training();
        let rows_at_once = training.rows_at_once(need.batch);
        need.plan(Plan { rows_at_once, workers: threads.max(1) }, training.memory)
    }

    fn loss(&self, task: &Task) -> Loss {
        let training = self.params.training();
        Loss::new(task, &training.objective, training.label_smoothing, training.focus)
    }

    /// Fits, from the weights and the preparation of `previous` if there is one.
    pub(crate) fn fit_net(
        &self,
        previous: Option<&NetModel<A>>,
        data: &Dataset,
        ctx: &FitContext<'_>,
    ) -> Result<NetModel<A>> {
        let params = &self.params;
        let training = params.training();
        let weights = training.class_weight.apply(data)?;
        let kept: Vec<usize> = match &weights {
            Some(weights) => (0..data.n_rows()).filter(|&i| 0.0 < weights[i]).collect(),
            None => (0..data.n_rows()).collect(),
        };
        let weights: Vec<f64> = match &weights {
            Some(weights) => kept.iter().map(|&i| weights[i]).collect(),
            None => vec![1.0; kept.len()],
        };
        let data = if kept.len() == data.n_rows() { data.clone() } else { data.take(&kept) };
        let mut signature = Signature::new(data.frame().schema().clone(), data.task().clone());
        if let (Task::Regression, Objective::Quantiles { levels }) =
            (data.task(), &training.objective)
        {
            signature.outputs = levels.iter().map(|&level| Output::Quantile(level)).collect();
        }
        if let Some(previous) = previous
            && previous.signature != signature
        {
            let expected = "a model of the same columns, task, and outputs";
            return Err(Error::data("the model to continue from", expected, "another"));
        }
        let loss = self.loss(data.task());
        let preparation = previous.map_or_else(
            || Preparation::fit(data.frame(), params.scaling()),
            |previous| previous.preparation.clone(),
        );
        let prepared = preparation.apply(data.frame());
        let inputs = if let Some(previous) = previous {
            previous.inputs.clone()
        } else {
            preparation.inputs(loss.n_scores(), params.bins().map(|bins| (bins, &prepared)))
        };
        let scale = match (previous, data.task()) {
            (Some(previous), _) => previous.scale,
            (None, Task::Regression) => TargetScale::fit(data.target(), &weights),
            (None, _) => TargetScale::NONE,
        };
        let key = Key::new(ctx.seed).named("weights");
        let mut start = initialise(key, &cpu(), |scope| params.net(scope, &inputs))?;
        if let Some(previous) = previous {
            start.adopt(&previous.weights);
        }

        let need = self.need(start.values.len(), &inputs, data.n_rows());
        let plan = self.plan(need, ctx.threads.get())?;

        let windows = Windows::new(params.window(), data.frame(), &History::default())?;
        let history = windows.history(data.frame());
        let rows = Rows { prepared: &prepared, windows: windows.places, steps: windows.steps };
        let held_out = match ctx.validation {
            Some(held_out) => {
                let windows = Windows::new(params.window(), held_out.frame(), &history)?;
                let prepared =
                    preparation.apply(windows.frame(held_out.frame(), &history)?.as_ref());
                Some((prepared, windows, held_out))
            }
            None => None,
        };
        let validation = held_out.as_ref().map(|(prepared, windows, held_out)| {
            let (windows, steps) = (windows.places.clone(), windows.steps);
            (Rows { prepared, windows, steps }, *held_out)
        });
        let slot = ctx.snapshots.map(|all| self.slot(all, &start, &data, ctx)).transpose()?;
        let trainer = Trainer {
            params,
            inputs: &inputs,
            loss: &loss,
            outputs: &signature.outputs,
            scale,
            rows,
            target: match data.task() {
                Task::Regression => data.target().iter().map(|&y| scale.to_score(y)).collect(),
                _ => data.target().to_vec(),
            },
            weights,
            validation,
            ctx,
            plan,
        };
        // Burn panics where it is out of luck; whoever fits gets an error.
        let (weights, report) = contain(|| trainer.run(start, slot))?;
        let weights = weights.rounded(self.storage);
        let parts = Parts { params: params.clone(), signature, inputs, scale, report };
        NetModel::new(parts, preparation, history, weights, self.storage)
    }

    /// Where the fit that begins with the weights `start` keeps its state.
    fn slot(
        &self,
        snapshots: &Snapshots,
        start: &Weights,
        data: &Dataset,
        ctx: &FitContext<'_>,
    ) -> Result<Slot> {
        let params = serde_json::to_vec(&self.params)
            .map_err(|e| Error::data("params", "a form in JSON", e))?;
        Ok(snapshots.slot(&[
            A::NAME.as_bytes(),
            snapshot::VERSION.as_bytes(),
            env!("CARGO_PKG_VERSION").as_bytes(),
            &params,
            &ctx.seed.to_le_bytes(),
            data.fingerprint().as_bytes(),
            ctx.validation.map(Dataset::fingerprint).unwrap_or_default().as_bytes(),
            &start.values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(),
        ]))
    }
}

impl<A: Architecture> Learner for NetLearner<A> {
    type Model = NetModel<A>;

    fn name(&self) -> &'static str {
        A::NAME
    }

    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<NetModel<A>> {
        self.fit_net(None, data, ctx)
    }

    fn as_warm_start(&self) -> Option<&dyn WarmStart> {
        Some(self)
    }
}

impl<A: Architecture> WarmStart for NetLearner<A> {
    /// Goes on from the weights of `previous`, and with its scaling and levels: levels that it did
    /// not see stay unknown. Parameters whose shape differs under the new params start afresh.
    fn fit_from(
        &self,
        previous: &dyn Model,
        data: &Dataset,
        ctx: &FitContext<'_>,
    ) -> Result<BoxModel> {
        check_data(data, self.admits_infinite())?;
        let Some(previous) = previous.downcast_ref::<NetModel<A>>() else {
            let place = "the model to continue from";
            return Err(Error::data(place, A::NAME, "a model of another kind"));
        };
        Ok(Box::new(self.fit_net(Some(previous), data, ctx)?))
    }
}

/// What a model is besides its arrays.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Parts<A> {
    params: A,
    signature: Signature,
    inputs: Inputs,
    scale: TargetScale,
    report: FitReport,
}

/// A fitted net.
///
/// Predictions are made on the processor, each row by a pass of its own, so that a row's prediction
/// is the same to the bit alone and among others; rows run in parallel on the ambient pool.
///
/// It [explains](Explains) them by integrated gradients (Sundararajan, Taly and Yan 2017): on the straight line
/// between the vectors of a row that says nothing and those of the row, the slopes of the score say
/// what each column adds. In the row that says nothing numbers lie in the middle of the fit and
/// levels are unknown; its score is the base. Contributions and base add up to the prediction of a
/// regression, the log-odds of two classes, or the logarithm of each class's probability. Each is right
/// to about 1 % of the sum of their absolute values, for some 60 predictions a row and score. A
/// sequence model sums a column's contributions over its window; with `instance_norm` it explains nothing.
pub struct NetModel<A: Architecture> {
    params: A,
    signature: Signature,
    inputs: Inputs,
    scale: TargetScale,
    report: FitReport,
    preparation: Preparation,
    history: History,
    pub(crate) weights: Weights,
    storage: Storage,
    loss: Loss,
    net: A::Net,
}

impl<A: Architecture> fmt::Debug for NetModel<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, epochs) = (A::NAME, self.report.best_epoch);
        write!(f, "{name}({:?} after {epochs} epochs, {})", self.weights, self.signature.task)
    }
}

/// Rows that one thread predicts, one after another.
const ROWS_A_TASK: usize = 8;

impl<A: Architecture> NetModel<A> {
    fn new(
        parts: Parts<A>,
        preparation: Preparation,
        history: History,
        weights: Weights,
        storage: Storage,
    ) -> Result<Self> {
        let Parts { params, signature, inputs, scale, report } = parts;
        let tensors = weights.tensors(&cpu());
        let net = weights.bind(&tensors, |scope| params.net(scope, &inputs))?;
        let training = params.training();
        let loss = Loss::new(&signature.task, &training.objective, 0.0, 0.0);
        Ok(Self {
            params,
            signature,
            inputs,
            scale,
            report,
            preparation,
            history,
            weights,
            storage,
            loss,
            net,
        })
    }

    /// The hyper-parameters of the fit.
    pub fn params(&self) -> &A {
        &self.params
    }

    /// What came of the fit: epochs, losses, scores.
    pub fn report(&self) -> &FitReport {
        &self.report
    }

    /// The weights as a safetensors file, for other tools.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        self.weights.to_bytes(self.storage)
    }

    /// How many numbers were learnt.
    pub fn n_weights(&self) -> usize {
        self.weights.values.len()
    }

    /// The model with all weights times `factor`.
    #[cfg(test)]
    pub(crate) fn scaled(mut self, factor: f32) -> Self {
        self.weights.values.iter_mut().for_each(|w| *w *= factor);
        self
    }

    /// How much each row's result takes of each column: (*n*, columns), in the order of the
    /// schema, the mean over heads and blocks; what is missing to 1 goes to the class token. None
    /// if the net has no attention to columns.
    pub fn attention(&self, x: &Frame) -> Result<Option<Matrix>> {
        let x = self.signature.admit(x)?;
        let windows = Windows::new(self.params.window(), &x, &self.history)?;
        let prepared = self.preparation.apply(windows.frame(&x, &self.history)?.as_ref());
        let mut out = Vec::new();
        for places in windows.places.chunks(windows.steps) {
            let batch = prepared.batch(&self.inputs, places, windows.steps, None, &cpu());
            let Some(shares) = contain(|| Ok(self.net.attention(&batch)))? else {
                return Ok(None);
            };
            let shares: Vec<f64> =
                crate::weights::read(shares)?.into_iter().map(f64::from).collect();
            out.extend(self.in_schema_order(&shares));
        }
        Matrix::new(out, self.signature.schema.len().max(1)).map(Some)
    }

    /// Numbers stand before categories within a net.
    fn in_schema_order(&self, shares: &[f64]) -> Vec<f64> {
        let (mut number, mut category) = (0, self.inputs.numbers);
        let place = |column: &mm_core::Column| {
            let next = if column.levels().is_some() { &mut category } else { &mut number };
            *next += 1;
            shares[*next - 1]
        };
        self.signature.schema.columns().iter().map(place).collect()
    }

    /// Fills `out` for the row whose window is `places`.
    fn predict_window(&self, prepared: &Prepared, places: &[u32], out: &mut [f64]) -> Result<()> {
        let batch = prepared.batch(&self.inputs, places, places.len(), None, &cpu());
        let scores = self.net.forward(&batch, &Pass::plain());
        out.copy_from_slice(&predict(&self.loss, self.scale, out.len(), scores)?);
        Ok(())
    }
}

impl<A: Architecture> Model for NetModel<A> {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        let windows = Windows::new(self.params.window(), x, &self.history)?;
        let prepared = self.preparation.apply(windows.frame(x, &self.history)?.as_ref());
        let k = out.n_cols();
        parallel::fill_rows(out, ROWS_A_TASK, |rows, values| {
            contain(|| {
                for (row, out) in rows.zip(values.chunks_mut(k)) {
                    let places = &windows.places[row * windows.steps..][..windows.steps];
                    self.predict_window(&prepared, places, out)?;
                }
                Ok(())
            })
        })
    }

    /// One row alone, without a history.
    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        let mut prepared = Prepared::default();
        self.preparation.apply_row(row, &mut prepared);
        let places = Windows::alone(self.params.window());
        contain(|| self.predict_window(&prepared, &places, out))
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }

    fn as_explains(&self) -> Option<&dyn Explains> {
        self.net.tokens().is_some().then_some(self)
    }
}

impl<A: Architecture> Persist for NetModel<A> {
    const TAG: Tag = A::TAG;

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.json(&Parts {
            params: self.params.clone(),
            signature: self.signature.clone(),
            inputs: self.inputs.clone(),
            scale: self.scale,
            report: self.report.clone(),
        })?;
        body.json(&self.preparation)?;
        body.json(&self.storage)?;
        self.history.write(body)?;
        body.bytes(&self.to_safetensors()?);
        Ok(())
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        let damaged = |expected: &str| Error::corrupt(A::NAME, expected, "others");
        let parts: Parts<A> = body.json()?;
        let preparation: Preparation = body.json()?;
        let storage = body.json()?;
        let history = History::read(body, parts.signature.schema.len())?;
        let weights = Weights::from_bytes(body.bytes()?)?;
        let checked = parts.params.clone().build();
        checked.map_err(|e| Error::corrupt(A::NAME, "sound params", e))?;
        if !preparation.is_sound(&parts.signature.schema) || !parts.scale.is_sound() {
            return Err(damaged("scales that fit the columns"));
        }
        let training = parts.params.training();
        let loss = Loss::new(&parts.signature.task, &training.objective, 0.0, 0.0);
        let expected = preparation.inputs(loss.n_scores(), None);
        let Inputs { numbers, slots, scores, .. } = &parts.inputs;
        let same = (*numbers, slots, *scores)
            == (expected.numbers, &expected.slots, expected.scores)
            && parts.inputs.bins <= 256;
        if !same || parts.signature.n_outputs() != loss.n_scores() {
            return Err(damaged("inputs and outputs that fit the columns"));
        }
        // A hostile file may ask for layers that do not go together, where Burn panics.
        contain(|| Self::new(parts, preparation, history, weights, storage))
    }
}
