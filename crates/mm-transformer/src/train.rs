//! The training loop, one for all nets.
//!
//! A step takes a batch in pieces of `micro_batch` rows. Each piece has a tape of its own and is
//! worked on by one thread alone; their gradients are added up in order. So memory depends on the
//! piece and the number of threads and not on the batch, threads never wait for one another within
//! a piece, and the sum is the same whatever their number. What is dropped is keyed by the row's place in
//! the batch, so the pieces' size changes a fit by roundings alone.
//!
//! An epoch's order is a function of seed and epoch. Nothing else is random, so a run that is
//! resumed at an epoch's end goes on as if it had never been killed.
//!
//! Where a piece does not fit into the device's memory, pieces are halved and the batch is done
//! again.

use std::{
    num::NonZeroUsize,
    panic::resume_unwind,
    sync::atomic::{AtomicUsize, Ordering},
};

use burn::tensor::{Device as BurnDevice, Tensor, TensorData};
use mm_core::{
    Dataset, Direction, Error, FitContext, Matrix, Metric, Output, Patience, Result, Step, contain,
};
use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::{Checkpoint, State},
    loss::{Loss, TargetScale},
    net::{Architecture, Net as _},
    nn::pass::Pass,
    optimizer::{Schedule, average, clip},
    prepare::{Hide, Inputs, Prepared},
    random::Key,
    weights::{Role, Weights, engine, read},
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
    pub(crate) checkpoint: Option<&'a Checkpoint>,
}

impl<A: Architecture> Trainer<'_, A> {
    /// Trains `weights`, and returns the best with a report.
    pub(crate) fn run(&self, weights: Weights) -> Result<(Weights, FitReport)> {
        let device = self.params.training().device.open()?;
        let team = Team::new(self.ctx.threads)?;
        let start = State::new(weights, self.averages());
        let mut state = match self.checkpoint {
            Some(checkpoint) => checkpoint.resume(start)?,
            None => start,
        };
        self.epochs(&mut state, &team, &device)?;
        let State { weights, best, mut report, .. } = state;
        let weights = best.unwrap_or(weights);
        if report.best_epoch == 0 {
            report.best_epoch = report.epochs;
        }
        Ok((weights, report))
    }

    fn averages(&self) -> bool {
        0.0 < self.params.training().average
    }

    fn epochs(&self, state: &mut State, team: &Team, device: &BurnDevice) -> Result<()> {
        let params = self.params.training();
        let n = self.rows.len();
        let batch = params.batch_size.min(n);
        let steps = n.div_ceil(batch) as u64;
        let total = steps * params.epochs as u64;
        let schedule = Schedule {
            peak: params.learning_rate,
            rising: (params.warm_up * total as f64).round() as u64,
            total,
            falls: params.cosine,
        };
        let mut at_once = params.rows_at_once(batch);
        let mut patience = self.patience();
        for (i, &score) in state.report.scores.iter().enumerate() {
            patience.is_exhausted_by(i + 1, score);
        }
        while state.report.epochs < params.epochs {
            let epoch = state.report.epochs;
            let key = Key::new(self.ctx.seed).named("epoch").part(epoch as u64);
            let order = key.named("order").permutation(n);
            let mut loss = 0.0;
            for (i, rows) in (0_u64..).zip(order.chunks(batch)) {
                self.ctx.check_cancelled()?;
                if self.ctx.is_due() {
                    return if epoch == 0 { Err(Error::Deadline) } else { Ok(()) };
                }
                let key = key.named("batch").part(i);
                let (batch_loss, mut gradient) =
                    self.gradient(state, rows, key, &mut at_once, team, device)?;
                let norm = clip(&mut gradient, params.clip_norm);
                if !batch_loss.is_finite() || !norm.is_finite() {
                    return self.diverge(state, epoch + 1);
                }
                loss += batch_loss / steps as f64;
                let rate = schedule.rate(epoch as u64 * steps + i);
                state.adam.step(&mut state.weights, &gradient, rate, params.weight_decay);
                if let Some(mean) = &mut state.mean {
                    average(mean, &state.weights.values, params.average, state.adam.steps);
                }
            }
            state.report.epochs += 1;
            state.report.losses.push(loss);
            let go_on = self.finish_epoch(state, &mut patience, team, device)?;
            if let Some(checkpoint) = self.checkpoint {
                checkpoint.save(state)?;
            }
            if !go_on {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The loss is no number any more: the best weights so far are taken, if any were scored on
    /// validation data; without, nobody could tell that they are any good.
    fn diverge(&self, state: &mut State, epoch: usize) -> Result<()> {
        state.report.diverged_in = Some(epoch);
        if state.best.is_some() && self.validation.is_some() {
            return Ok(());
        }
        let expected = "a finite number; try a smaller `training.learning_rate`";
        Err(Error::data(format_args!("loss in epoch {epoch}"), expected, "none"))
    }

    /// Scores the epoch, keeps its weights if they are the best, and says whether to go on.
    fn finish_epoch(
        &self,
        state: &mut State,
        patience: &mut Patience,
        team: &Team,
        device: &BurnDevice,
    ) -> Result<bool> {
        let params = self.params.training();
        let epoch = state.report.epochs;
        let mut metrics = Vec::new();
        let mut exhausted = false;
        let current = state.current();
        if let Some((rows, data)) = &self.validation {
            let predicted = self.predict(&current, rows, team, device)?;
            let (name, score) = self.score(data, &predicted)?;
            state.report.scores.push(score);
            exhausted = patience.is_exhausted_by(epoch, score) && params.early_stopping.is_some();
            metrics.push((name, score));
        }
        let best = patience.best().map_or(epoch, |(at, _)| at);
        if best == epoch {
            state.report.best_epoch = epoch;
            state.best = Some(current);
        }
        let go_on = self.ctx.step(&Step::new(epoch, params.epochs, &metrics))?;
        Ok(go_on && !exhausted)
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

    /// Name and value of what is watched: the metric that was asked for, the mean pinball loss of
    /// quantiles, or the task's default.
    fn score(&self, data: &Dataset, predicted: &Matrix) -> Result<(String, f64)> {
        let truth = data.truth();
        let of = |metric: Metric| metric.score_outputs(truth, predicted, self.outputs);
        match (self.params.training().metric(), self.loss) {
            (Some(metric), _) => Ok((metric.to_string(), of(metric)?)),
            (None, Loss::Pinball { levels }) => {
                let scores = levels.iter().map(|&level| of(Metric::Pinball { level }));
                let total: f64 = scores.sum::<Result<f64>>()?;
                Ok(("pinball".to_owned(), total / levels.len() as f64))
            }
            (None, _) => {
                let metric = Metric::default_for(data.task());
                Ok((metric.to_string(), of(metric)?))
            }
        }
    }

    /// The weighted mean loss of a batch and its gradient. If the device's memory does not do for
    /// `at_once` rows, it is halved until it does.
    fn gradient(
        &self,
        state: &State,
        rows: &[u32],
        key: Key,
        at_once: &mut usize,
        team: &Team,
        device: &BurnDevice,
    ) -> Result<(f64, Vec<f32>)> {
        let tensors = state.weights.tensors(device);
        let total: f64 = rows.iter().map(|&row| self.weights[row as usize]).sum();
        loop {
            let pieces: Vec<&[u32]> = rows.chunks(*at_once).collect();
            let first = *at_once;
            let work = |i: usize| self.piece(state, &tensors, pieces[i], i * first, total, key);
            match team.all(pieces.len(), work) {
                Ok(parts) => {
                    let mut sum = (0.0, vec![0.0; state.weights.values.len()]);
                    for (loss, gradient) in parts {
                        sum.0 += loss;
                        sum.1.iter_mut().zip(&gradient).for_each(|(sum, g)| *sum += g);
                    }
                    return Ok(sum);
                }
                Err(error) if 1 < *at_once && is_out_of_memory(&error) => *at_once /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    /// What the rows of one piece add to loss and gradient.
    fn piece(
        &self,
        state: &State,
        tensors: &[Tensor<1>],
        rows: &[u32],
        first_row: usize,
        total: f64,
        key: Key,
    ) -> Result<(f64, Vec<f32>)> {
        let specs = state.weights.specs().iter();
        let leaves: Vec<Tensor<1>> = specs
            .zip(tensors)
            .map(|(spec, tensor)| {
                let leaf = tensor.clone().autodiff();
                if spec.role == Role::Fixed { leaf } else { leaf.require_grad() }
            })
            .collect();
        let net = state.weights.bind(&leaves, |scope| self.params.net(scope, self.inputs))?;
        let rate = self.params.training().hide;
        let hide = Hide { key: key.named("hide"), rate, first_row };
        let device = leaves[0].device();
        let places = self.rows.of(rows);
        let steps = self.rows.steps;
        let batch = self.rows.prepared.batch(self.inputs, &places, steps, Some(hide), &device);
        let scores = net.forward(&batch, &Pass::training(key.named("dropout"), first_row));
        let [_, members, k] = scores.dims();
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
        let slopes = Tensor::from_data(TensorData::new(slopes, [rows.len(), members, k]), &device);
        let mut grads = (scores * slopes).sum().backward();
        Ok((loss, state.weights.gradient(&leaves, &mut grads)?))
    }

    /// Predictions of `rows` by the given weights.
    fn predict(
        &self,
        weights: &Weights,
        rows: &Rows<'_>,
        team: &Team,
        device: &BurnDevice,
    ) -> Result<Matrix> {
        let tensors = weights.tensors(device);
        let net = weights.bind(&tensors, |scope| self.params.net(scope, self.inputs))?;
        let at_once = self.params.training().rows_at_once(rows.len());
        let all: Vec<u32> = (0..rows.len() as u32).collect();
        let pieces: Vec<&[u32]> = all.chunks(at_once).collect();
        let parts = team.all(pieces.len(), |i| {
            let places = rows.of(pieces[i]);
            let batch = rows.prepared.batch(self.inputs, &places, rows.steps, None, device);
            let scores = net.forward(&batch, &Pass::plain());
            predict(self.loss, self.scale, self.outputs.len(), scores)
        });
        Matrix::new(parts?.concat(), self.outputs.len())
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

/// Threads that work on pieces side by side, each alone: what runs inside a piece stays on its
/// thread, since it finds itself in a pool of one.
pub(crate) struct Team {
    pools: Vec<rayon::ThreadPool>,
}

impl Team {
    pub(crate) fn new(threads: NonZeroUsize) -> Result<Self> {
        let pool = |_| rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(engine);
        Ok(Self { pools: (0..threads.get()).map(pool).collect::<Result<_>>()? })
    }

    /// `work` of every number below `n`, in order; of several errors the first. A panic is an
    /// error: Burn panics where shapes, devices, or memory fail it.
    pub(crate) fn all<T: Send>(
        &self,
        n: usize,
        work: impl Fn(usize) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let next = AtomicUsize::new(0);
        let worker = || {
            let mut done = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if n <= i {
                    return done;
                }
                done.push((i, contain(|| work(i))));
            }
        };
        let mut done: Vec<(usize, Result<T>)> = std::thread::scope(|scope| {
            let pools = self.pools.iter().take(n);
            let workers: Vec<_> = pools.map(|pool| scope.spawn(|| pool.install(worker))).collect();
            let joined = workers.into_iter().map(std::thread::ScopedJoinHandle::join);
            joined.flat_map(|done| done.unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        done.sort_unstable_by_key(|&(i, _)| i);
        done.into_iter().map(|(_, result)| result).collect()
    }
}
