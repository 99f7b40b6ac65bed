//! Why a net predicted what it did: integrated gradients.
//!
//! # Idea
//!
//! A net sees a row as vectors, one a column. On the straight line from the vectors *b* of a row that
//! says nothing to the vectors *e* of the row in question, the slopes of the score *F* say what each
//! column adds (Sundararajan, Taly and Yan 2017, "Axiomatic attribution for deep networks"):
//!
//! ```text
//! contribution of column j  =  (eⱼ − bⱼ) · ∫₀¹ ∂F/∂eⱼ (b + t (e − b)) dt
//! ```
//!
//! Contributions and *F*(*b*), the base, add up to *F*(*e*). In the row that says nothing numbers lie in
//! the middle of the fit (the median with [`Scaling::Quantile`](crate::Scaling::Quantile), the mean
//! with [`Scaling::Standard`](crate::Scaling::Standard)) and levels are unknown. A model of windows
//! sums a column's contributions over the steps; the steps that a window lacks it lacks in the base too,
//! so rows with a short history have a base of their own.
//!
//! *F* is the prediction of a regression, the log-odds of two classes, and the logarithm of each
//! class's probability where there are more; of a net of several members, of their mean prediction.
//!
//! # Precision
//!
//! The integral is a sum by the trapezoid rule over 17 points, then over twice as many steps, until the
//! contributions add up but for 1 % of the sum of their absolute values, or there are 1025 points. What
//! is still lacking is shared out in proportion to the absolute values; so contributions add up but for
//! roundings, and none is moved by more than 1 % of itself.
//!
//! # Cost
//!
//! A pass forward and one back for each point, score, and row: some 60 predictions a score at least.

use burn::tensor::{Device, Tensor, TensorData};
use mm_core::{Contributions, Explains, Frame, Result, Scale, contain, parallel};

use super::NetModel;
use crate::{
    device::cpu,
    loss::{Loss, TargetScale, sigmoid},
    net::{Architecture, Net},
    nn::pass::Pass,
    prepare::{NO_ROW, Prepared},
    weights::read,
    window::Windows,
};

/// Steps of the first sum, and of the last.
const FEWEST_STEPS: usize = 16;
const MOST_STEPS: usize = 1024;
/// How much of the sum of their absolute values the contributions may lack.
const LACKING: f64 = 0.01;

impl<A: Architecture> Explains for NetModel<A> {
    fn scale(&self) -> Scale {
        match self.loss {
            Loss::Classes { classes: 2, .. } => Scale::LogOdds { slope: 1.0 },
            Loss::Classes { .. } => Scale::Logits,
            Loss::Squared | Loss::Pinball { .. } => Scale::Prediction,
        }
    }

    fn explain(&self, x: &Frame, out: &mut Contributions) -> Result<()> {
        let windows = Windows::new(self.params.window(), x, &self.history)?;
        let prepared = self.preparation.apply(windows.frame(x, &self.history)?.as_ref());
        let slopes = Slopes::new(self)?;
        let (n_scores, n_columns) = (out.n_scores(), x.n_cols());
        parallel::fill_rows(out.matrix_mut(), 1, |rows, values| {
            contain(|| {
                for (row, out) in rows.zip(values.chunks_mut(n_scores * (n_columns + 1))) {
                    let places = &windows.places[row * windows.steps..][..windows.steps];
                    let line = slopes.line(&prepared, places)?;
                    for (output, out) in out.chunks_mut(n_columns + 1).enumerate() {
                        let parts = shared_out(&line.integrate(output)?);
                        out[..n_columns].copy_from_slice(&self.in_schema_order(&parts));
                        out[n_columns] = line.base[output];
                    }
                }
                Ok(())
            })
        })
    }
}

/// What each column adds to one score, numbers before categories, and what the sum lacks.
struct Integral {
    parts: Vec<f64>,
    lacking: f64,
}

impl Integral {
    fn total(&self) -> f64 {
        self.parts.iter().map(|part| part.abs()).sum()
    }
}

/// The parts with what they lack shared out among them.
fn shared_out(integral: &Integral) -> Vec<f64> {
    let (total, lacking) = (integral.total(), integral.lacking);
    let even = 1.0 / integral.parts.len() as f64;
    let share = |part: f64| if 0.0 < total { part.abs() / total } else { even };
    integral.parts.iter().map(|&part| part + lacking * share(part)).collect()
}

/// A model whose vectors have slopes.
struct Slopes<'a, A: Architecture> {
    model: &'a NetModel<A>,
    /// The model's net on a device that keeps tapes.
    net: A::Net,
    device: Device,
    /// The row that says nothing.
    silent: Prepared,
}

impl<'a, A: Architecture> Slopes<'a, A> {
    fn new(model: &'a NetModel<A>) -> Result<Self> {
        let device = cpu().autodiff();
        let tensors = model.weights.tensors(&device);
        let net = model.weights.bind(&tensors, |scope| model.params.net(scope, &model.inputs))?;
        Ok(Self { model, net, device, silent: model.inputs.silent() })
    }

    /// The line that ends with the row whose window is `places`.
    fn line<'s>(&'s self, prepared: &Prepared, places: &[u32]) -> Result<Line<'s, A>> {
        let silent = |&place: &u32| if place == NO_ROW { NO_ROW } else { 0 };
        let silent: Vec<u32> = places.iter().map(silent).collect();
        let kinds = self.vectors(&self.silent, &silent).into_iter();
        let kinds = kinds.zip(self.vectors(prepared, places)).map(|(start, end)| {
            let shape = end.dims();
            let length = shape.iter().product();
            let (start, end) = (start.reshape([1, length]), end.reshape([1, length]));
            Kind { way: end - start.clone(), start, shape }
        });
        Ok(Line {
            slopes: self,
            kinds: kinds.collect(),
            base: self.scores(&self.silent, &silent)?,
            top: self.scores(prepared, places)?,
            places: silent,
        })
    }

    /// The vectors of a window's columns, by kind: (*t*, columns, *d*).
    fn vectors(&self, prepared: &Prepared, places: &[u32]) -> Vec<Tensor<3>> {
        let steps = places.len();
        let batch = prepared.batch(&self.model.inputs, places, steps, None, &self.device);
        self.net.tokens().map_or_else(Vec::new, |tokens| tokens.forward(&batch))
    }

    /// The scores of a row, from the pass that predicts it.
    fn scores(&self, prepared: &Prepared, places: &[u32]) -> Result<Vec<f64>> {
        let NetModel { inputs, net, loss, scale, signature, .. } = self.model;
        let batch = prepared.batch(inputs, places, places.len(), None, &cpu());
        let scores = net.forward(&batch, &Pass::plain());
        let k = scores.dims()[2];
        let scores = read(scores)?;
        let mut slopes = vec![0.0; scores.len()];
        let score = |output| explained(loss, *scale, &scores, k, output, &mut slopes);
        Ok((0..signature.n_outputs()).map(score).collect())
    }
}

/// The vectors of all columns of a kind, from a row that says nothing to a row.
struct Kind {
    /// (1, components of all columns and steps), as the next.
    start: Tensor<2>,
    way: Tensor<2>,
    /// *t*, columns, *d*.
    shape: [usize; 3],
}

struct Line<'a, A: Architecture> {
    slopes: &'a Slopes<'a, A>,
    kinds: Vec<Kind>,
    /// The scores where it starts, and where it ends.
    base: Vec<f64>,
    top: Vec<f64>,
    /// A window with as many steps as the row's.
    places: Vec<u32>,
}

impl<A: Architecture> Line<'_, A> {
    /// What each column adds to a score.
    fn integrate(&self, output: usize) -> Result<Integral> {
        let rise = self.top[output] - self.base[output];
        let mut steps = FEWEST_STEPS;
        let ends_half = |i: usize| if i == 0 || i == FEWEST_STEPS { 0.5 } else { 1.0 };
        let points = (0..=steps).map(|i| (i as f32 / steps as f32, ends_half(i) / steps as f64));
        let mut parts = self.slopes_at(&points.collect::<Vec<_>>(), output)?;
        loop {
            let integral = Integral { lacking: rise - parts.iter().sum::<f64>(), parts };
            if integral.lacking.abs() <= LACKING * integral.total() || MOST_STEPS <= steps {
                return Ok(integral);
            }
            // The points between those of before, which count half as much now.
            steps *= 2;
            let between =
                (1..steps).step_by(2).map(|i| (i as f32 / steps as f32, 1.0 / steps as f64));
            let between = self.slopes_at(&between.collect::<Vec<_>>(), output)?;
            let both = integral.parts.iter().zip(between);
            parts = both.map(|(before, between)| before / 2.0 + between).collect();
        }
    }

    /// The weighted sum over `points` of the way times the slopes there, by column.
    fn slopes_at(&self, points: &[(f32, f64)], output: usize) -> Result<Vec<f64>> {
        let mut parts: Vec<f64> = Vec::new();
        for points in points.chunks(FEWEST_STEPS + 1) {
            let some = self.slopes_at_once(points, output)?;
            parts.resize(some.len(), 0.0);
            parts.iter_mut().zip(some).for_each(|(sum, part)| *sum += part);
        }
        Ok(parts)
    }

    fn slopes_at_once(&self, points: &[(f32, f64)], output: usize) -> Result<Vec<f64>> {
        let Slopes { model, net, device, silent } = self.slopes;
        let n = points.len();
        let column =
            |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [n, 1]), device);
        let at = column(points.iter().map(|&(at, _)| at).collect());
        let vectors = self.kinds.iter().map(|Kind { start, way, shape: [t, columns, d] }| {
            let vectors = start.clone() + way.clone() * at.clone();
            vectors.reshape([n * t, *columns, *d]).detach().require_grad()
        });
        let vectors: Vec<Tensor<3>> = vectors.collect();
        let steps = self.places.len();
        let mut batch = silent.batch(&model.inputs, &self.places.repeat(n), steps, None, device);
        batch.vectors = Some(vectors.clone());
        let scores = net.forward(&batch, &Pass::plain());
        let [_, members, k] = scores.dims();
        let values = read(scores.clone().inner())?;
        let mut slopes = vec![0.0; values.len()];
        let of_points = values.chunks(members * k).zip(slopes.chunks_mut(members * k));
        for (&(_, weight), (values, slopes)) in points.iter().zip(of_points) {
            explained(&model.loss, model.scale, values, k, output, slopes);
            for slope in slopes {
                *slope = (f64::from(*slope) * weight) as f32;
            }
        }
        let slopes = Tensor::from_data(TensorData::new(slopes, [n, members, k]), device);
        let mut grads = (scores * slopes).sum().backward();
        let mut parts = Vec::new();
        for (Kind { way, shape: [t, columns, d], .. }, vectors) in self.kinds.iter().zip(&vectors) {
            let Some(slopes) = vectors.grad_remove(&mut grads) else {
                parts.extend(std::iter::repeat_n(0.0, *columns));
                continue;
            };
            let sum = slopes.reshape([n, t * columns * d]).sum_dim(0) * way.clone().inner();
            let sum = sum.reshape([*t, *columns, *d]).sum_dim(2).sum_dim(0);
            parts.extend(read(sum)?.into_iter().map(f64::from));
        }
        Ok(parts)
    }
}

/// The score of one output from the scores of all members, *k* each, as [`Explains::scale`] says;
/// its slope in each of them goes to `slopes`.
fn explained(
    loss: &Loss,
    scale: TargetScale,
    scores: &[f32],
    k: usize,
    output: usize,
    slopes: &mut [f32],
) -> f64 {
    let each = k as f64 / scores.len() as f64;
    let slope = (scale.deviation * each) as f32;
    slopes.fill(0.0);
    let by_member = scores.chunks(k).zip(slopes.chunks_mut(k));
    match loss {
        Loss::Squared => {
            let terms = by_member.map(|(scores, slopes)| {
                slopes[0] = slope;
                each * scale.back(scores[0])
            });
            terms.sum()
        }
        Loss::Pinball { .. } => {
            let terms = by_member.map(|(scores, slopes)| {
                let mut order: Vec<usize> = (0..k).collect();
                order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
                slopes[order[output]] = slope;
                each * scale.back(scores[order[output]])
            });
            terms.sum()
        }
        Loss::Classes { classes: 2, .. } => {
            let mean = |sign: f64| -> f64 {
                let terms = scores.iter().map(|&score| each * sigmoid(sign * f64::from(score)));
                terms.sum::<f64>().max(f64::MIN_POSITIVE)
            };
            let (p, q) = (mean(1.0), mean(-1.0));
            for (score, slopes) in by_member {
                let score = f64::from(score[0]);
                slopes[0] = (each * (sigmoid(score) / p) * (sigmoid(-score) / q)) as f32;
            }
            p.ln() - q.ln()
        }
        Loss::Classes { .. } => {
            let shares: Vec<Vec<f64>> = scores.chunks(k).map(softmax).collect();
            let mean: f64 = shares.iter().map(|shares| each * shares[output]).sum();
            let mean = mean.max(f64::MIN_POSITIVE);
            for (shares, (_, slopes)) in shares.iter().zip(by_member) {
                for (class, (share, slope)) in shares.iter().zip(slopes).enumerate() {
                    let hit = f64::from(u8::from(class == output));
                    *slope = (each * (shares[output] / mean) * (hit - share)) as f32;
                }
            }
            mean.ln()
        }
    }
}

fn softmax(scores: &[f32]) -> Vec<f64> {
    let largest = f64::from(scores.iter().copied().fold(f32::MIN, f32::max));
    let powers: Vec<f64> = scores.iter().map(|&s| (f64::from(s) - largest).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.iter().map(|power| power / total).collect()
}

#[cfg(test)]
mod tests {
    use mm_core::{
        Column, Dataset, FitContext, Learner as _, Levels, Model as _, Params as _, Schema, Task,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::{FtTransformerParams, NumericEmbedding, TabmParams, TrainingParams};

    fn losses() -> Vec<(Loss, usize)> {
        let classes = |classes| Loss::Classes { classes, smoothing: 0.0, focus: 0.0 };
        let levels = vec![0.1, 0.5, 0.9];
        vec![(Loss::Squared, 1), (Loss::Pinball { levels }, 3), (classes(2), 1), (classes(3), 3)]
    }

    proptest! {
        /// By differences; the second derivatives are below 1 and the third below 1, in steps of 1/64.
        #[test]
        fn slopes_are_the_derivatives_of_the_score(
            scores in prop::collection::vec(-4.0_f32..4.0, 6), output in 0_usize..3, at in 0_usize..6,
        ) {
            for (loss, k) in losses() {
                let (output, step) = (output % k, 1.0_f32 / 64.0);
                let near = |i: &usize| i / k == at / k && (scores[*i] - scores[at]).abs() < 2.0 * step;
                if matches!(loss, Loss::Pinball { .. }) && (0..6).filter(near).count() != 1 {
                    continue; // Two quantiles change places within the step.
                }
                let value = |scores: &[f32]| {
                    explained(&loss, TargetScale::NONE, scores, k, output, &mut [0.0; 6])
                };
                let mut slopes = [0.0; 6];
                explained(&loss, TargetScale::NONE, &scores, k, output, &mut slopes);
                let (mut above, mut below) = (scores.clone(), scores.clone());
                above[at] += step;
                below[at] -= step;
                let expected = (value(&above) - value(&below)) / f64::from(2.0 * step);
                prop_assert!((f64::from(slopes[at]) - expected).abs() < 1e-3, "{loss:?}");
            }
        }
    }

    /// Two numbers and a level; the target is the product of the numbers, plus 1 at level `b`.
    fn data() -> Dataset {
        let levels = Levels::new(["a", "b", "c"]).expect("distinct");
        let columns =
            [Column::numeric("x"), Column::categorical("k", levels), Column::numeric("y")];
        let schema = Schema::new(columns).expect("distinct");
        let cell = |i: usize, j: usize| match j {
            1 => (i % 3) as f32,
            _ => (i * (37 + 11 * j) % 101) as f32 / 50.0 - 1.0,
        };
        let values: Vec<f32> = (0..150).flat_map(|i| (0..3).map(move |j| cell(i, j))).collect();
        let target = |row: &[f32]| f64::from(row[0] * row[2]) + f64::from(u8::from(row[1] == 1.0));
        let target = values.chunks(3).map(target).collect();
        let frame = Frame::with_schema(values, schema).expect("valid");
        Dataset::new(frame, Task::Regression, target).expect("valid")
    }

    fn training() -> TrainingParams {
        TrainingParams { epochs: 8, batch_size: 16, learning_rate: 5e-3, ..Default::default() }
    }

    fn ft() -> NetModel<FtTransformerParams> {
        let learner = FtTransformerParams::default().with(|p| {
            (p.width, p.heads, p.blocks, p.training) = (16, 2, 2, training());
            p.numeric = NumericEmbedding::PiecewiseLinear { bins: 8 };
        });
        learner.build().expect("valid").fit(&data(), &FitContext::seeded(1)).expect("fits")
    }

    fn tabm() -> NetModel<TabmParams> {
        let learner = TabmParams::default().with(|p| {
            (p.members, p.width, p.embedding_width, p.training) = (4, 32, 8, training());
        });
        learner.build().expect("valid").fit(&data(), &FitContext::seeded(1)).expect("fits")
    }

    /// The integral by another way: how the score moves when one column's vector moves a little, at
    /// 64 places of the line, without a tape.
    fn by_differences<A: Architecture>(model: &NetModel<A>, row: u32) -> (Vec<f64>, Integral) {
        let slopes = Slopes::new(model).expect("a net");
        let prepared = model.preparation.apply(data().frame());
        let line = slopes.line(&prepared, &[row]).expect("a line");
        let score = |at: f64, column: usize, more: f64| {
            let mut first = 0;
            let vectors = line.kinds.iter().map(|Kind { start, way, shape: [t, columns, d] }| {
                let here = |c: usize| if first + c == column { at + more } else { at };
                let at: Vec<f32> = (0..columns * d).map(|i| here(i / d) as f32).collect();
                first += columns;
                let at =
                    Tensor::<2>::from_data(TensorData::new(at, [1, columns * d]), &slopes.device);
                (start.clone() + way.clone() * at).reshape([*t, *columns, *d])
            });
            let vectors = vectors.collect();
            let mut batch = slopes.silent.batch(&model.inputs, &[0], 1, None, &slopes.device);
            batch.vectors = Some(vectors);
            let scores = slopes.net.forward(&batch, &Pass::plain());
            let scores = read(scores.inner()).expect("reads");
            let mut unused = vec![0.0; scores.len()];
            explained(&model.loss, model.scale, &scores, 1, 0, &mut unused)
        };
        let part = |column: usize| {
            let slope = |i: usize| {
                let at = (i as f64 + 0.5) / 64.0;
                (score(at, column, 0.01) - score(at, column, -0.01)) / 0.02 / 64.0
            };
            (0..64).map(slope).sum()
        };
        ((0..3).map(part).collect(), line.integrate(0).expect("sums"))
    }

    fn check<A: Architecture>(model: &NetModel<A>) {
        for row in [0, 7, 31] {
            let (expected, found) = by_differences(model, row);
            // Both sums are off by 1 % at most, and differences by roundings over 0.02.
            for (a, b) in found.parts.iter().zip(&expected) {
                let near = 0.02 * found.total() + 1e-3;
                assert!((a - b).abs() <= near, "{:?} against {expected:?}", found.parts);
            }
            assert!(found.lacking.abs() <= LACKING * found.total(), "enough points");
        }
    }

    #[test]
    fn contributions_are_the_integrals_that_differences_give() {
        check(&ft());
        check(&tabm());
    }

    #[test]
    fn contributions_and_base_add_up_to_the_prediction_and_what_matters_matters() {
        let (x, model) = (data(), ft());
        let parts = model.contributions(x.frame()).expect("explains");
        let y = model.predict(x.frame()).expect("predicts");
        for (score, y) in parts.scores().values().iter().zip(y.values()) {
            assert!((score - y).abs() < 1e-9, "{score} against {y}");
        }
        assert!((0..150).all(|i| parts.base(i, 0) == parts.base(0, 0)), "one base for all rows");
        // The base is the prediction of a row of medians and an unknown level.
        let middle = |j: usize| {
            let mut column: Vec<f32> = x.frame().column(j).collect();
            column.sort_unstable_by(f32::total_cmp);
            f32::midpoint(column[74], column[75])
        };
        let silent = vec![middle(0), Frame::UNKNOWN, middle(2)];
        let silent = Frame::with_schema(silent, x.frame().schema().clone()).expect("valid");
        let base = model.predict(&silent).expect("predicts").values()[0];
        assert!((base - parts.base(0, 0)).abs() < 1e-3, "the median lies between two quantiles");
        // Level `b` adds 1 in truth, against the others.
        let of_level = |level: f32| {
            let rows: Vec<usize> = (0..150).filter(|&i| x.frame().row(i)[1] == level).collect();
            rows.iter().map(|&i| parts.features(i, 0)[1]).sum::<f64>() / rows.len() as f64
        };
        assert!(0.5 < of_level(1.0) - of_level(0.0), "{} and {}", of_level(1.0), of_level(0.0));
    }

    #[test]
    fn a_column_that_says_nothing_adds_nothing() {
        let (x, model) = (data(), tabm());
        let silent = vec![f32::NAN, Frame::UNKNOWN, 0.7];
        let silent = Frame::with_schema(silent, x.frame().schema().clone()).expect("valid");
        let parts = model.contributions(&silent).expect("explains");
        assert_eq!(parts.features(0, 0)[1], 0.0, "an unknown level, to the bit");
        assert_ne!(parts.features(0, 0)[2], 0.0);
    }
}
