//! The training loop, one for all nets.
//!
//! A step takes a batch in pieces of `micro_batch` rows. Each piece has a tape of its own and is
//! worked on by one thread alone; their gradients are added up in order. So memory depends on the
//! piece and the number of threads and not on the batch, threads never wait for one another within
//! a piece, and the sum is the same whatever their number. What is dropped is keyed by the row's place in
//! the batch, so the pieces' size changes a fit by roundings alone.
//!
//! An epoch's order is a function of seed and epoch. Nothing else is random, so a run that is
//! resumed after any batch goes on as if it had never been killed.
//!
//! Where there are several devices, the pieces go round them, and their gradients meet on the host, in
//! the order of the pieces: devices that compute alike give the fit of one of them.
//!
//! A limit on memory is kept by a plan that is made before the fit (`memory.rs`). Where a piece does
//! not fit into the device's memory all the same, pieces are halved and the batch is done again.

use std::ops::Range;

use burn::tensor::{Device as BurnDevice, Tensor, TensorData};
use mm_core::{
    Dataset, Direction, Error, FitContext, Matrix, Metric, Output, Patience, Result, Slot, Step,
};
use serde::{Deserialize, Serialize};

use crate::{
    device::{Device, cpu},
    loss::{Loss, TargetScale},
    memory::Plan,
    net::{Architecture, Net},
    nn::pass::Pass,
    optimizer::{Schedule, average, clip},
    prepare::{Batch, Hide, Inputs, Prepared},
    random::Key,
    snapshot::{Keeper, State},
    team::Team,
    weights::{Weights, read},
};

/// What came of a fit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FitReport {
    /// Epochs that were run to their end.
    pub epochs: usize,
    /// The epoch whose weights were taken, from 1; 0 if the fit ended within the first.
    pub best_epoch: usize,
    /// Mean loss of the training rows over each epoch, with dropout.
    pub losses: Vec<f64>,
    /// Score of the validation data after each epoch, if there were such data.
    pub scores: Vec<f64>,
    /// The epoch in which the loss stopped being a number, if it did.
    pub diverged_in: Option<usize>,
}

/// The data of one fit as nets read them.
pub(crate) struct Rows<'a> {
    pub(crate) prepared: &'a Prepared,
    /// For each row of the data its window: `steps` places of `prepared`.
    pub(crate) windows: Vec<u32>,
    pub(crate) steps: usize,
}

impl Rows<'_> {
    /// The windows of the given rows, one after another.
    fn of(&self, rows: &[u32]) -> Vec<u32> {
        let window = |&row: &u32| &self.windows[row as usize * self.steps..][..self.steps];
        rows.iter().flat_map(window).copied().collect()
    }

    fn len(&self) -> usize {
        self.windows.len() / self.steps
    }
}

/// A fit of a net.
pub(crate) struct Trainer<'a, A: Architecture> {
    pub(crate) params: &'a A,
    pub(crate) inputs: &'a Inputs,
    pub(crate) loss: &'a Loss,
    pub(crate) outputs: &'a [Output],
    pub(crate) scale: TargetScale,
    pub(crate) rows: Rows<'a>,
    /// A target and a weight above 0 a row.
    pub(crate) target: Vec<f64>,
    pub(crate) weights: Vec<f64>,
    pub(crate) validation: Option<(Rows<'a>, &'a Dataset)>,
    pub(crate) ctx: &'a FitContext<'a>,
    pub(crate) plan: Plan,
}

impl<A: Architecture> Trainer<'_, A> {
    /// Trains `weights`, and returns the best with a report. `slot` is where the fit keeps its state.
    pub(crate) fn run(&self, weights: Weights, slot: Option<Slot>) -> Result<(Weights, FitReport)> {
        let params = self.params.training();
        let open = |device: Device| device.open_for(params.precision);
        let devices = params.devices().map(open).collect::<Result<Vec<_>>>()?;
        let team = Team::new(self.plan.workers, devices.len())?;
        let at_once = self.plan.rows_at_once;
        let mut keeper = Keeper::new(slot);
        let mut state = keeper.resume(State::new(weights, 0.0 < params.average, at_once));
        let end = self.epochs(&mut state, &mut keeper, &team, &devices);
        if matches!(end, Ok(_) | Err(Error::Cancelled)) {
            keeper.finish(matches!(end, Ok(End::Done)), &state)?;
        }
        end?;
        let State { weights, best, mut report, .. } = state;
        let is_scored = best.is_some() && self.validation.is_some();
        match report.diverged_in {
            // Without a score, nobody could tell whether what was before is any good.
            Some(epoch) if !is_scored => {
                let expected = "a finite number; try a smaller `training.learning_rate`";
                return Err(Error::data(format_args!("loss in epoch {epoch}"), expected, "none"));
            }
            None if report.epochs == 0 => return Err(Error::Deadline),
            _ => {}
        }
        let weights = best.unwrap_or(weights);
        if report.best_epoch == 0 {
            report.best_epoch = report.epochs;
        }
        Ok((weights, report))
    }

    /// Rows of a step.
    fn batch(&self) -> usize {
        self.params.training().batch_size.min(self.rows.len())
    }

    fn epochs(
        &self,
        state: &mut State,
        keeper: &mut Keeper,
        team: &Team,
        devices: &[BurnDevice],
    ) -> Result<End> {
        let params = self.params.training();
        let n = self.rows.len();
        let batch = self.batch();
        let steps = n.div_ceil(batch);
        let total = (steps * params.epochs) as u64;
        let schedule = Schedule {
            peak: params.learning_rate,
            rising: (params.warm_up * total as f64).round() as u64,
            total,
            falls: params.cosine,
        };
        let mut patience = self.patience();
        for epoch in 1..=state.report.epochs {
            let exhausted = self.watch(epoch, &state.report, &mut patience);
            if let Some(end) = self.tell(epoch, exhausted, &state.report)? {
                return Ok(end);
            }
        }
        while state.report.epochs < params.epochs {
            let epoch = state.report.epochs;
            let key = Key::new(self.ctx.seed).named("epoch").part(epoch as u64);
            let order = key.named("order").permutation(n);
            for (i, rows) in order.chunks(batch).enumerate().skip(state.epoch.batches) {
                self.ctx.check_cancelled()?;
                if self.ctx.is_due() {
                    return Ok(End::Early);
                }
                let key = key.named("batch").part(i as u64);
                let (loss, mut gradient) = self.gradient(state, rows, key, team, devices)?;
                let norm = clip(&mut gradient, params.clip_norm);
                if !loss.is_finite() || !norm.is_finite() {
                    state.report.diverged_in = Some(epoch + 1);
                    return Ok(End::Done);
                }
                let rate = schedule.rate((epoch * steps + i) as u64);
                state.adam.step(&mut state.weights, &gradient, rate, params.weight_decay);
                if let Some(mean) = &mut state.mean {
                    average(mean, &state.weights.values, params.average, state.adam.steps);
                }
                state.epoch.loss += loss;
                state.epoch.batches += 1;
                keeper.look(state)?;
            }
            let current = state.current();
            if let Some((rows, data)) = &self.validation {
                let at_once = &mut state.epoch.rows_at_once;
                let predicted = self.predict(&current, rows, at_once, team, devices)?;
                if !predicted.values().iter().all(|y| y.is_finite()) {
                    state.report.diverged_in = Some(epoch + 1);
                    return Ok(End::Done);
                }
                state.report.scores.push(self.score(data, &predicted)?);
            }
            state.report.losses.push(state.epoch.loss / steps as f64);
            state.report.epochs += 1;
            (state.epoch.batches, state.epoch.loss) = (0, 0.0);
            let exhausted = self.watch(epoch + 1, &state.report, &mut patience);
            if patience.best().is_none_or(|(best, _)| best == epoch + 1) {
                state.report.best_epoch = epoch + 1;
                state.best = Some(current);
            }
            keeper.look(state)?;
            if let Some(end) = self.tell(epoch + 1, exhausted, &state.report)? {
                return Ok(end);
            }
        }
        Ok(End::Done)
    }

    /// Whether patience ends with the score of `epoch`, if it has one.
    fn watch(&self, epoch: usize, report: &FitReport, patience: &mut Patience) -> bool {
        let score = report.scores.get(epoch - 1);
        let exhausted = score.is_some_and(|&score| patience.is_exhausted_by(epoch, score));
        exhausted && self.params.training().early_stopping.is_some()
    }

    /// Tells the observer of `epoch`, and says how the fit ends with it, if it does.
    fn tell(&self, epoch: usize, exhausted: bool, report: &FitReport) -> Result<Option<End>> {
        let score = report.scores.get(epoch - 1);
        let metrics: Vec<_> = score.map(|&score| (self.watched(), score)).into_iter().collect();
        let step = Step::new(epoch, self.params.training().epochs, &metrics);
        let go_on = self.ctx.step(&step)?;
        Ok(if exhausted { Some(End::Done) } else { (!go_on).then_some(End::Early) })
    }

    /// How many epochs without a better score are too many; the best epoch is watched even where
    /// there is no end to patience.
    fn patience(&self) -> Patience {
        let stopping = self.params.training().early_stopping.clone();
        stopping.unwrap_or_default().patience(self.direction())
    }

    fn direction(&self) -> Direction {
        match (self.params.training().metric(), self.loss, &self.validation) {
            (Some(metric), ..) => metric.direction(),
            (None, Loss::Pinball { .. }, _) | (.., None) => Direction::Minimize,
            (None, _, Some((_, data))) => Metric::default_for(data.task()).direction(),
        }
    }

    /// The name of what is watched: the metric that was asked for, the mean pinball loss of
    /// quantiles, or the task's default.
    fn watched(&self) -> String {
        match (self.params.training().metric(), self.loss, &self.validation) {
            (None, Loss::Pinball { .. }, _) => "pinball".to_owned(),
            (None, _, Some((_, data))) => Metric::default_for(data.task()).to_string(),
            (metric, ..) => metric.map(|metric| metric.to_string()).unwrap_or_default(),
        }
    }

    /// The value of what is watched.
    fn score(&self, data: &Dataset, predicted: &Matrix) -> Result<f64> {
        let of = |metric: Metric| metric.score_outputs(data.truth(), predicted, self.outputs);
        match (self.params.training().metric(), self.loss) {
            (Some(metric), _) => of(metric),
            (None, Loss::Pinball { levels }) => {
                let scores = levels.iter().map(|&level| of(Metric::Pinball { level }));
                Ok(scores.sum::<Result<f64>>()? / levels.len() as f64)
            }
            (None, _) => of(Metric::default_for(data.task())),
        }
    }

    /// The weighted mean loss of a batch and its gradient.
    fn gradient(
        &self,
        state: &mut State,
        rows: &[u32],
        key: Key,
        team: &Team,
        devices: &[BurnDevice],
    ) -> Result<(f64, Vec<f32>)> {
        let State { weights, epoch, .. } = state;
        let tensors: Vec<_> = devices.iter().map(|device| weights.tensors(device)).collect();
        let total: f64 = rows.iter().map(|&row| self.weights[row as usize]).sum();
        while_it_fits(&mut epoch.rows_at_once, devices, |at_once| {
            let pieces: Vec<&[u32]> = rows.chunks(at_once).collect();
            let work = |device: usize, i: usize| {
                self.piece(weights, &tensors[device], pieces[i], i * at_once, total, key)
            };
            let start = (0.0, vec![0.0; weights.values.len()]);
            team.fold(pieces.len(), work, start, |sum, (loss, gradient)| {
                sum.0 += loss;
                sum.1.iter_mut().zip(&gradient).for_each(|(sum, g)| *sum += g);
            })
        })
    }

    /// What the rows of one piece add to loss and gradient.
    ///
    /// The net is run in segments: all of it at once, or one part after another. Before the last one
    /// there is no tape; then, from the last one back, each is run with a tape, and the slopes at its
    /// beginning are those that the one before needs at its end.
    fn piece(
        &self,
        weights: &Weights,
        tensors: &[Tensor<1>],
        rows: &[u32],
        first_row: usize,
        total: f64,
        key: Key,
    ) -> Result<(f64, Vec<f32>)> {
        let net = |tensors: &[Tensor<1>]| {
            weights.bind(tensors, |scope| self.params.net(scope, self.inputs))
        };
        // On the tape's device though nothing of it is on the tape: operations differ in their bits.
        let constants: Vec<_> = tensors.iter().cloned().map(Tensor::autodiff).collect();
        let device = constants.first().map_or_else(cpu, Tensor::device);
        let rate = self.params.training().hide;
        let hide = Some(Hide { key: key.named("hide"), rate, first_row });
        let (places, steps) = (self.rows.of(rows), self.rows.steps);
        let batch = self.rows.prepared.batch(self.inputs, &places, steps, hide, &device);
        let mut pass = Pass::training(key.named("dropout"), first_row);
        pass.precision = self.params.training().precision;

        let untaped = net(&constants)?;
        let segments = segments(&untaped, self.params.training().recompute);
        let mut starts = vec![(Vec::new(), pass.asked())];
        for segment in &segments[..segments.len() - 1] {
            let x = starts.last().map_or_else(Vec::new, |(x, _)| x.clone());
            let x = run(&untaped, segment.clone(), x, &batch, &pass);
            starts.push((x, pass.asked()));
        }
        let mut gradient = vec![0.0; weights.values.len()];
        let (mut loss, mut slopes) = (0.0, None);
        for (segment, (x, asked)) in segments.into_iter().zip(starts).rev() {
            let leaves = weights.leaves(tensors);
            let x: Vec<_> = x.into_iter().map(Tensor::require_grad).collect();
            pass.back_to(asked);
            let y = run(&net(&leaves)?, segment, x.clone(), &batch, &pass);
            let slopes_of_y = if let Some(slopes) = slopes.take() {
                slopes
            } else {
                let of_scores;
                (loss, of_scores) = self.slopes(&y[0], rows, total)?;
                vec![of_scores]
            };
            let sums = y.into_iter().zip(slopes_of_y).map(|(y, slopes)| (y * slopes).sum());
            let sum = sums.reduce(|a, b| a + b).expect("a part makes something");
            let mut grads = sum.backward();
            weights.add_gradient(&leaves, &mut grads, &mut gradient)?;
            let mut slope = |x: Tensor<3>| match x.grad_remove(&mut grads) {
                Some(slopes) => slopes.autodiff(),
                None => x.zeros_like(),
            };
            slopes = Some(x.into_iter().map(&mut slope).collect::<Vec<_>>());
        }
        Ok((loss, gradient))
    }

    /// The loss of rows with the given scores, and its slopes in them.
    fn slopes(&self, scores: &Tensor<3>, rows: &[u32], total: f64) -> Result<(f64, Tensor<3>)> {
        let [n, members, k] = scores.dims();
        let values = read(scores.clone().inner())?;
        let mut slopes = vec![0.0; values.len()];
        let mut loss = 0.0;
        let row_scores = values.chunks(members * k).zip(slopes.chunks_mut(members * k));
        for (&row, (scores, slopes)) in rows.iter().zip(row_scores) {
            let (y, weight) = (self.target[row as usize], self.weights[row as usize]);
            let factor = weight / (total * members as f64);
            for (scores, slopes) in scores.chunks(k).zip(slopes.chunks_mut(k)) {
                loss += factor * self.loss.slope(scores, y, factor, slopes);
            }
        }
        let slopes = TensorData::new(slopes, [n, members, k]);
        Ok((loss, Tensor::from_data(slopes, &scores.device())))
    }

    /// Predictions of `rows` by the given weights.
    fn predict(
        &self,
        weights: &Weights,
        rows: &Rows<'_>,
        at_once: &mut usize,
        team: &Team,
        devices: &[BurnDevice],
    ) -> Result<Matrix> {
        let net = |device: &BurnDevice| {
            let tensors = weights.tensors(device);
            weights.bind(&tensors, |scope| self.params.net(scope, self.inputs))
        };
        let nets = devices.iter().map(net).collect::<Result<Vec<_>>>()?;
        let all: Vec<u32> = (0..rows.len() as u32).collect();
        let n_outputs = self.outputs.len();
        let predicted = while_it_fits(at_once, devices, |at_once| {
            let pieces: Vec<&[u32]> = all.chunks(at_once).collect();
            let work = |device: usize, i: usize| {
                let (places, net) = (rows.of(pieces[i]), &nets[device]);
                let device = &devices[device];
                let batch = rows.prepared.batch(self.inputs, &places, rows.steps, None, device);
                predict(self.loss, self.scale, n_outputs, net.forward(&batch, &Pass::plain()))
            };
            team.fold(pieces.len(), work, Vec::new(), Vec::extend)
        });
        Matrix::new(predicted?, n_outputs)
    }
}

/// The parts of a net (its beginning, its stages, its end) that are run under one tape.
fn segments(net: &impl Net, each_alone: bool) -> Vec<Range<usize>> {
    let parts = net.n_stages() + 2;
    let length = if each_alone { 1 } else { parts };
    (0..parts).step_by(length).map(|first| first..first + length).collect()
}

/// Runs some parts of a net.
fn run(
    net: &impl Net,
    parts: Range<usize>,
    x: Vec<Tensor<3>>,
    batch: &Batch,
    pass: &Pass,
) -> Vec<Tensor<3>> {
    let last = net.n_stages() + 1;
    parts.fold(x, |x, part| match part {
        0 => net.begin(batch),
        _ if part == last => vec![net.end(x)],
        _ => net.stage(part - 1, x, batch, pass),
    })
}

/// How a fit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It could not go on.
    Done,
    /// It could: the deadline passed, or the observer stopped it.
    Early,
}

/// Runs `work` with `at_once` rows on a device at once. Where its memory does not do, they are
/// halved, for this time and all that follow.
fn while_it_fits<T>(
    at_once: &mut usize,
    devices: &[BurnDevice],
    work: impl Fn(usize) -> Result<T>,
) -> Result<T> {
    loop {
        match work(*at_once) {
            Err(error) if 1 < *at_once && is_out_of_memory(&error) => {
                *at_once /= 2;
                devices.iter().for_each(BurnDevice::memory_cleanup);
            }
            result => return result,
        }
    }
}

/// Predictions from scores (*n*, *m*, *k*): the mean over the members.
pub(crate) fn predict(
    loss: &Loss,
    scale: TargetScale,
    n_outputs: usize,
    scores: Tensor<3>,
) -> Result<Vec<f64>> {
    let [n, members, k] = scores.dims();
    let values = read(scores)?;
    let mut out = vec![0.0; n * n_outputs];
    let mut one = vec![0.0; n_outputs];
    for (scores, out) in values.chunks(members * k).zip(out.chunks_mut(n_outputs)) {
        for scores in scores.chunks(k) {
            loss.predict(scores, scale, &mut one);
            out.iter_mut().zip(&one).for_each(|(out, x)| *out += x / members as f64);
        }
    }
    Ok(out)
}

/// Whether an error says that the device has no memory left. Burn and its kernels say so in words
/// alone.
fn is_out_of_memory(error: &Error) -> bool {
    let text = error.chain().to_lowercase();
    ["out of memory", "outofmemory", "out_of_memory", "memory allocation", "allocat"]
        .iter()
        .any(|words| text.contains(words))
}
