//! A bank of learning rates, mixed by how well each predicts: linear models without tuning.
//!
//! # Idea
//!
//! No single learning rate suits all streams, nor one stream at all times: on Elec2 the best is 0.3,
//! on SEA 0.003. So one linear model for each of several rates, and a passive–aggressive one, learn
//! side by side from the same scaled features, and their predictions are mixed by *fixed-share*: with
//! weights w, adding up to 1, and pₘ the probability that member *m* gave to the class that came,
//!
//! ```text
//! p = Σ wₘ pₘ;     wₘ ← wₘ pₘ^η / Σ wᵢ pᵢ^η;     w ← (1 − α) w + α / M
//! ```
//!
//! The share α lets the mixture follow when another member becomes best. In regression pₘ is the
//! density at the target of a normal around the member's prediction, with the variance of the
//! mixture's own recent errors; members learn by implicit steps on the standardised target, so that
//! no rate diverges.
//!
//! # Labels that come late
//!
//! A member that follows the last labels shines while they are fresh and is worthless when they are
//! not. A label learnt through [`learn_late`](mm_core::OnlineModel::learn_late) is therefore judged
//! by what the members said when the row was predicted, and with the exponent η = 1 / (1 + D),
//! where D is the delay in rows: D labels that come after one another judge one state of the members,
//! and are no D independent witnesses.
//!
//! With *p* features and *M* members a row takes O(*p* *M*), times the classes beyond two.
//!
//! Sources: Herbster & Warmuth (1998), "Tracking the best expert"; Kivinen & Warmuth (1997) for
//! implicit steps.

use mm_core::{ParamError, Params, Result, Tag};
use serde::{Deserialize, Serialize};

use crate::{
    half_life::HalfLife,
    inputs::{Coding, InputParams, Row},
    linear::{
        link::{CLIP, sigmoid, softmax},
        passive::{rival, step_size},
        scaler::{Scale, Scaler},
    },
    online::{Example, Incremental, Online, OnlineLearner, Shape, with_buffer},
};

/// Hyper-parameters of a bank; the defaults need no tuning.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `rates` | 0.003, 0.01, …, 3 | 1–64 numbers in (0, 1e3] | learning rates of the members |
/// | `passive_aggressive` | true | | whether a passive–aggressive member is among them |
/// | `share` | 0.002 | [0, 1) | α, what all members get of the weight at each row |
/// | `scale` | `standard` | | how features are scaled first |
/// | `half_life` | never | | of the scaler's statistics |
/// | `inputs` | | | cells that are missing or infinite |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the table says it")]
pub struct BankParams {
    pub rates: Vec<f64>,
    pub passive_aggressive: bool,
    pub share: f64,
    pub scale: Scale,
    pub half_life: HalfLife,
    pub inputs: InputParams,
}

impl Default for BankParams {
    fn default() -> Self {
        Self {
            rates: vec![0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0],
            passive_aggressive: true,
            share: 0.002,
            scale: Scale::Standard,
            half_life: HalfLife::Never,
            inputs: InputParams::default(),
        }
    }
}

impl Params for BankParams {
    type Learner = OnlineLearner<Bank>;

    fn build(self) -> Result<Self::Learner, ParamError> {
        let n = self.rates.len();
        ParamError::ensure(1 <= n && n <= 64, "rates", n, "1 to 64 of them")?;
        for (i, &rate) in self.rates.iter().enumerate() {
            let ok = 0.0 < rate && rate <= 1e3;
            ParamError::ensure(ok, format!("rates.{i}"), rate, "a number > 0, at most 1000")?;
        }
        let ok = 0.0 <= self.share && self.share < 1.0;
        ParamError::ensure(ok, "share", self.share, "a number from 0, below 1")?;
        self.half_life.check("half_life")?;
        self.inputs.check()?;
        Ok(OnlineLearner::from_checked(self))
    }
}

/// A bank of linear models that keeps learning.
pub type BankModel = Online<Bank>;

/// The state of a bank: members stand in the order of the rates, the passive–aggressive one last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bank {
    scaler: Scaler,
    weights: Vec<f64>, // A block a feature: one number a member and score.
    intercepts: Vec<f64>,
    mixture: Vec<f64>,
    n_members: usize,
    n_classes: usize,
    target: Scaler,
    error: f64, // Fading mean of the mixture's squared error, in units of the target's variance.
    #[serde(skip)]
    scratch: Scratch,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Scratch {
    z: Vec<f64>,
    scores: Vec<f64>,
    told: Vec<f64>,
}

/// Bounds on a member's probability, so that one mistake does not silence it for ever.
const SURE: f64 = 1e-6;
/// Weight of the latest squared error in the fading mean.
const RECENT: f64 = 0.01;
/// Error of a standardised target that costs the passive–aggressive member nothing.
const EPSILON: f64 = 0.1;

impl Bank {
    /// Weights of the members in the mixture, adding up to 1: in the order of the rates, the
    /// passive–aggressive member last.
    pub fn mixture(&self) -> &[f64] {
        &self.mixture
    }

    /// Numbers that one member predicts: one, or one a class beyond two.
    fn width(&self) -> usize {
        if self.n_classes < 3 { 1 } else { self.n_classes }
    }

    /// Fills `scores`, of one number a member and score; `z` has no NaN.
    fn score(&self, z: &[f64], scores: &mut [f64]) {
        scores.copy_from_slice(&self.intercepts);
        for (&z, weights) in z.iter().zip(self.weights.chunks_exact(scores.len())) {
            scores.iter_mut().zip(weights).for_each(|(score, w)| *score += w * z);
        }
    }

    /// Turns scores into what the members tell: probabilities, or values in the target's units.
    fn tell(&self, scores: &mut [f64]) {
        match self.n_classes {
            0 => {
                let (mean, deviation) = self.target_scale();
                scores.iter_mut().for_each(|score| *score = mean + deviation * *score);
            }
            1 | 2 => scores.iter_mut().for_each(|score| *score = sigmoid(*score)),
            n => scores.chunks_exact_mut(n).for_each(softmax),
        }
    }

    fn target_scale(&self) -> (f64, f64) {
        let variance = self.target.variances()[0];
        (self.target.means()[0], if 0.0 < variance { variance.sqrt() } else { 1.0 })
    }

    /// Mixes what the members tell.
    fn mix(&self, told: &[f64], out: &mut [f64]) {
        out.fill(0.0);
        for (weight, told) in self.mixture.iter().zip(told.chunks_exact(out.len())) {
            out.iter_mut().zip(told).for_each(|(out, p)| *out += weight * p);
        }
    }

    /// Moves the mixture towards the members that told well.
    fn judge(&mut self, told: &[f64], example: &Example<'_>, share: f64) {
        let (width, y) = (self.width(), example.y);
        let exponent = example.weight / (1.0 + example.late.delay as f64);
        let (_, deviation) = self.target_scale();
        let log_likelihood = |told: &[f64]| match self.n_classes {
            0 => {
                let gap = (told[0] - y) / deviation;
                -0.5 * (gap * gap / self.error).min(40.0)
            }
            _ => {
                let p = match told {
                    [p] if y == 1.0 => *p,
                    [p] => 1.0 - p,
                    many => many[y as usize],
                };
                p.clamp(SURE, 1.0 - SURE).ln()
            }
        };
        let mut total = 0.0;
        for (weight, told) in self.mixture.iter_mut().zip(told.chunks_exact(width)) {
            *weight *= (exponent * log_likelihood(told)).exp().max(f64::MIN_POSITIVE);
            total += *weight;
        }
        let n = self.n_members as f64;
        let is_usable = 0.0 < total;
        for weight in &mut self.mixture {
            let kept = if is_usable { *weight / total } else { 1.0 / n };
            *weight = (1.0 - share) * kept + share / n;
        }
    }

    /// The fading error of the mixture, of regression.
    fn note_error(&mut self, told: &[f64], y: f64) {
        let mut mixed = [0.0];
        self.mix(told, &mut mixed);
        let (_, deviation) = self.target_scale();
        let gap = ((mixed[0] - y) / deviation).clamp(-1e3, 1e3);
        self.error += RECENT * (gap * gap - self.error);
        self.error = self.error.max(1e-6);
    }

    /// Moves each member's scores, which become the sizes of their steps.
    fn steps(&self, params: &BankParams, example: &Example<'_>, norm: f64, scores: &mut [f64]) {
        let (weight, y) = (example.weight, example.y);
        let width = self.width();
        let (by_rate, passive) = scores.split_at_mut(params.rates.len() * width);
        let (mean, deviation) = self.target_scale();
        let t = (y - mean) / deviation;
        for (scores, rate) in by_rate.chunks_exact_mut(width).zip(&params.rates) {
            let rate = (rate * weight).min(CLIP);
            match scores {
                [score] if self.n_classes == 0 => {
                    *score = rate * (t - *score) / (1.0 + rate * (1.0 + norm));
                }
                [score] => *score = rate * (y - sigmoid(*score)),
                many => {
                    softmax(many);
                    for (k, score) in many.iter_mut().enumerate() {
                        *score = rate * (f64::from(k == y as usize) - *score);
                    }
                }
            }
        }
        match passive {
            [] => {}
            [score] => {
                let (sign, loss) = if self.n_classes == 0 {
                    ((t - *score).signum(), (t - *score).abs() - EPSILON)
                } else {
                    let sign = if y == 1.0 { 1.0 } else { -1.0 };
                    (sign, 1.0 - sign * *score)
                };
                *score = sign * step_size(loss.max(0.0), norm, weight.min(1.0));
            }
            many => {
                let (class, other) = (y as usize, rival(many, y as usize));
                let loss = (1.0 - many[class] + many[other]).max(0.0);
                let tau = step_size(loss, 2.0 * norm, weight.min(1.0));
                many.fill(0.0);
                (many[class], many[other]) = (tau, -tau);
            }
        }
    }
}

impl Incremental for Bank {
    type Params = BankParams;

    const NAME: &'static str = "online_bank";
    const TAG: Tag = Tag::new("mm.online_bank", 1);
    const CODING: Coding = Coding::OneHot;

    fn inputs(params: &BankParams) -> &InputParams {
        &params.inputs
    }

    fn half_life(params: &BankParams) -> HalfLife {
        params.half_life
    }

    fn start(params: &BankParams, shape: &Shape, _: u64) -> Result<Self> {
        let n_members = params.rates.len() + usize::from(params.passive_aggressive);
        let (n, n_scores) = (shape.slots.len(), n_members * shape.n_outputs);
        Ok(Self {
            scaler: Scaler::new(params.scale, n),
            weights: vec![0.0; n * n_scores],
            intercepts: vec![0.0; n_scores],
            mixture: vec![1.0 / n_members as f64; n_members],
            n_members,
            n_classes: shape.n_classes,
            target: Scaler::new(Scale::Standard, 1),
            error: 1.0,
            scratch: Scratch::default(),
        })
    }

    fn learn(&mut self, params: &BankParams, example: &Example<'_>) {
        let Example { row, y, weight, decay, late } = *example;
        let Scratch { mut z, mut scores, mut told } = std::mem::take(&mut self.scratch);
        z.resize(row.x.len(), 0.0);
        scores.resize(self.intercepts.len(), 0.0);
        told.clear();
        if late.note.is_empty() {
            self.scaler.transform_or_zero(row, &mut z);
            self.score(&z, &mut scores);
            self.tell(&mut scores);
            told.extend(&scores);
        } else {
            told.extend(late.note);
        }
        self.judge(&told, example, params.share);
        if self.n_classes == 0 {
            self.note_error(&told, y);
            self.target.learn(Row { x: &[y], complete: true }, weight, decay);
        }
        self.scaler.learn(row, weight, decay);
        self.scaler.transform_or_zero(row, &mut z);
        self.score(&z, &mut scores);
        let norm: f64 = z.iter().map(|z| z * z).sum();
        self.steps(params, example, norm, &mut scores);
        for (&z, weights) in z.iter().zip(self.weights.chunks_exact_mut(scores.len())) {
            weights.iter_mut().zip(&scores).for_each(|(w, step)| *w += step * z);
        }
        // The passive–aggressive member has no intercept: its steps are measured without one.
        let n_by_rate = params.rates.len() * self.width();
        let by_rate = self.intercepts.iter_mut().zip(&scores).take(n_by_rate);
        by_rate.for_each(|(intercept, step)| *intercept += step);
        self.scratch = Scratch { z, scores, told };
    }

    fn predict(&self, _: &BankParams, row: Row<'_>, out: &mut [f64]) {
        with_buffer(self.intercepts.len(), |scores| {
            with_buffer(row.x.len(), |z| {
                self.scaler.transform_or_zero(row, z);
                self.score(z, scores);
            });
            self.tell(scores);
            self.mix(scores, out);
        });
        if 0 < self.n_classes {
            out.iter_mut().for_each(|p| *p = p.min(1.0)); // Weights add up to 1 but for rounding.
        }
    }

    fn n_notes(&self) -> usize {
        self.intercepts.len()
    }

    fn note(&self, _: &BankParams, row: Row<'_>, note: &mut [f64]) {
        with_buffer(row.x.len(), |z| {
            self.scaler.transform_or_zero(row, z);
            self.score(z, note);
        });
        self.tell(note);
    }

    fn heap_bytes(&self) -> usize {
        let scratch = self.scratch.z.len() + self.scratch.scores.len() + self.scratch.told.len();
        let lists = self.weights.len() + self.intercepts.len() + self.mixture.len();
        self.scaler.heap_bytes() + self.target.heap_bytes() + (lists + scratch) * 8
    }

    fn is_valid(&self, params: &BankParams, shape: &Shape) -> bool {
        let n_members = params.rates.len() + usize::from(params.passive_aggressive);
        let n = shape.slots.len();
        self.n_classes == shape.n_classes
            && self.n_members == n_members
            && self.mixture.len() == n_members
            && self.intercepts.len() == n_members * shape.n_outputs
            && self.weights.len() == n * self.intercepts.len()
            && self.scaler.is_valid(params.scale, n)
            && self.target.is_valid(Scale::Standard, 1)
    }
}

#[cfg(test)]
mod tests {
    use mm_core::{Catalog, Late, conformance};

    use super::*;
    use crate::{
        LinearParams, Optimizer,
        river::{progressive, rows},
    };

    #[test]
    fn conforms() {
        let catalog = crate::register(Catalog::default());
        let learner = BankParams::default().build().expect("valid");
        conformance::check_online(&learner, &catalog, conformance::Checks::default());
        let alone = BankParams::default().with(|p| {
            p.rates = vec![0.1];
            p.passive_aggressive = false;
        });
        let learner = alone.build().expect("valid");
        conformance::check_online(&learner, &catalog, conformance::Checks::default());
    }

    #[test]
    fn the_mixture_is_about_as_good_as_the_best_rate_in_hindsight() {
        let params = BankParams::default();
        let bank = params.clone().build().expect("valid");
        for data in ["phishing", "bananas"] {
            let rows = rows(data);
            let (_, mixed) = progressive(&bank, &rows, 2, 0);
            let single = params.rates.iter().map(|&rate| {
                let params = LinearParams::default().with(|p| {
                    p.optimizer = Optimizer::Sgd { rate };
                    p.intercept_rate = rate;
                });
                progressive(&params.build().expect("valid"), &rows, 2, 0).1
            });
            let best = single.fold(f64::INFINITY, f64::min);
            // The goal of the project: within 1.5 % of the best in hindsight.
            assert!(mixed < 1.015 * best, "{data}: {mixed}, best single {best}");
        }
    }

    #[test]
    fn a_note_of_then_is_judged_and_one_of_now_is_no_news() {
        let learner = BankParams::default().build().expect("valid");
        let shape = Shape::numeric(2, 2);
        let mut state = Bank::start(learner.params(), &shape, 0).expect("starts");
        let rows = rows("bananas");
        for (x, y) in &rows[..500] {
            state.learn(learner.params(), &Example::new(x, *y));
        }
        let (x, y) = &rows[500];
        let mut note = vec![0.0; state.n_notes()];
        state.note(learner.params(), Row::new(x), &mut note);
        let (mut plain, mut noted) = (state.clone(), state.clone());
        plain.learn(learner.params(), &Example::new(x, *y));
        let late = Late { note: &note, delay: 0 };
        noted.learn(learner.params(), &Example { late, ..Example::new(x, *y) });
        assert_eq!(noted, plain);
        let late = Late { note: &note, delay: 48 };
        let mut delayed = state.clone();
        delayed.learn(learner.params(), &Example { late, ..Example::new(x, *y) });
        let moved = |other: &Bank| -> f64 {
            other.mixture.iter().zip(&state.mixture).map(|(a, b)| (a - b).abs()).sum()
        };
        assert!(moved(&delayed) < moved(&plain), "a late label judges with less force");
        assert_eq!(delayed.weights, plain.weights, "members learn all the same");
    }

    #[test]
    fn regression_follows_a_target_of_any_scale() {
        let learner = BankParams::default().build().expect("valid");
        let mut state = Bank::start(learner.params(), &Shape::numeric(2, 0), 0).expect("starts");
        let mut draws = crate::random::Draws::new(1, 0);
        let (mut worst, mut p) = (0.0_f64, [0.0]);
        for i in 0..3000 {
            let x = [draws.uniform() * 100.0, draws.uniform()];
            let y = 1e6 + 3e4 * x[0] - 1e6 * x[1];
            state.predict(learner.params(), Row::new(&x), &mut p);
            if 2500 < i {
                worst = worst.max((p[0] - y).abs());
            }
            state.learn(learner.params(), &Example::new(&x, y));
        }
        // The target spreads over 4e6; without noise the fast members end close to it.
        assert!(worst < 4e4, "{worst}");
    }
}
