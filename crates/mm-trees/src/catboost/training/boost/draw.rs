//! The rows that a tree is searched on: their derivatives, how much each counts, and how much noise
//! there is on the scores of splits.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    super::{
        bootstrap::{self, Bootstrap},
        leaves::Method,
        loss::Loss,
        score::{Part, Sample},
    },
    Booster,
    fold::{Prefix, Prefixes},
};

/// Rows that are worked on at a stretch.
const BLOCK: usize = 4096;

impl Booster {
    /// Draws the rows of a tree that will be grown on a fold; these, and the standard deviation of
    /// the noise on scores.
    pub(super) fn draw(&mut self, taken: usize) -> (Vec<Part>, f64) {
        let (parts, noise, drawn) = if self.folds[taken].prefixes.is_some() {
            self.draw_ordered(taken)
        } else {
            self.draw_plain(taken)
        };
        if self.settings.estimation.method == Method::Exact && self.averaging.is_some() {
            self.remember(taken, drawn);
        }
        (parts, noise)
    }

    fn draw_plain(&mut self, taken: usize) -> (Vec<Part>, f64, Vec<f32>) {
        let fold = &self.folds[taken];
        let own = self.learning.weights.as_deref();
        let derivatives = derivatives(self.settings.loss, &fold.scores, &self.learning.target, own);
        let (how, last) = (self.settings.bootstrap, self.last_leaves.as_deref());
        let drawn = match &fold.order {
            None => bootstrap::draw(how, &derivatives, last, &mut self.rng),
            Some(order) => {
                let placed: Vec<Vec<f64>> = derivatives
                    .iter()
                    .map(|g| order.iter().map(|&row| g[row as usize]).collect())
                    .collect();
                let drawn = bootstrap::draw(how, &placed, last, &mut self.rng);
                let mut weights = vec![0.0; drawn.len()];
                order.iter().zip(drawn).for_each(|(&row, w)| weights[row as usize] = w);
                weights
            }
        };
        let noise = self.noise(&derivatives, 0);
        let sample = self.sample(&derivatives, &drawn, taken);
        (vec![Part::whole(sample, self.settings.l2)], noise, drawn)
    }

    /// Each row is judged by the scores of the prefix in whose tail it is.
    fn draw_ordered(&mut self, taken: usize) -> (Vec<Part>, f64, Vec<f32>) {
        let fold = &self.folds[taken];
        let loss = self.settings.loss;
        let Some(Prefixes { target, weights, list }) = &fold.prefixes else {
            return (Vec::new(), 0.0, Vec::new());
        };
        let weights = weights.as_deref();
        let of_prefix: Vec<Vec<Vec<f64>>> = list
            .par_iter()
            .map(|prefix| derivatives(loss, &prefix.scores, &target[..prefix.end()], weights))
            .collect();
        let mut judged = vec![Vec::with_capacity(target.len()); loss.n_outputs()];
        for (prefix, own) in list.iter().zip(&of_prefix) {
            for (judged, own) in judged.iter_mut().zip(own) {
                // No tail has the first body.
                let from = if judged.is_empty() { 0 } else { prefix.body };
                judged.extend_from_slice(&own[from..]);
            }
        }
        let (how, last) = (self.settings.bootstrap, self.last_leaves.as_deref());
        let drawn = bootstrap::draw(how, &judged, last, &mut self.rng);
        let noise = self.noise(&judged, list[0].body);
        drop(judged);
        let along = Along { order: fold.order.as_deref(), weights, drawn: &drawn };
        let part = |(prefix, own): (&Prefix, Vec<Vec<f64>>)| {
            let body = along.sample(&own, 0..prefix.body, false);
            let tail = along.sample(&own, prefix.body..prefix.end(), true);
            Part { body, tail: Some(tail), l2: prefix.l2 }
        };
        let parts = list.par_iter().zip(of_prefix).map(part).collect();
        (parts, noise, drawn)
    }

    /// Keeps what exact leaves heed.
    fn remember(&mut self, taken: usize, mut drawn: Vec<f32>) {
        if matches!(self.settings.bootstrap, Bootstrap::Bernoulli { .. }) {
            drawn.fill(1.0); // Rows that CatBoost leaves out by other means.
        }
        let fold = &mut self.folds[taken];
        let own = match &fold.prefixes {
            None => &self.learning.weights,
            Some(prefixes) => &prefixes.weights,
        };
        if let Some(own) = own {
            drawn.iter_mut().zip(own).for_each(|(drawn, w)| *drawn *= w);
        }
        fold.drawn = Some(drawn);
    }

    /// The standard deviation of the noise on scores, which shrinks as the model grows; by the
    /// derivatives from the `first` place on.
    fn noise(&self, derivatives: &[Vec<f64>], first: usize) -> f64 {
        let n_rows = self.learning.table.n_rows;
        let squares = |g: &Vec<f64>| {
            let of_block = |g: &[f64]| g.iter().map(|g| g * g).sum::<f64>();
            g[first..].par_chunks(BLOCK).map(of_block).collect::<Vec<_>>().into_iter().sum::<f64>()
        };
        let squares: f64 = derivatives.iter().map(squares).sum();
        let length = self.n_grown as f64 * self.settings.learning_rate;
        let left = ((n_rows as f64).ln() - length).exp();
        let deviation = (squares / (n_rows - first).max(1) as f64).sqrt();
        self.settings.random_strength * deviation * left / (1.0 + left)
    }

    /// The rows drawn for the tree, in the fold's order, with what histograms sum.
    fn sample(&self, derivatives: &[Vec<f64>], drawn: &[f32], taken: usize) -> Sample {
        let own = self.learning.weights.as_deref();
        let order = self.folds[taken].order.as_deref();
        let row_at = |place: usize| order.map_or(place, |order| order[place] as usize);
        let is_drawn = |place: &usize| 0.0 < drawn[row_at(*place)];
        let places = |block: usize| block * BLOCK..drawn.len().min((block + 1) * BLOCK);
        let n_blocks = drawn.len().div_ceil(BLOCK);
        let count = |block| places(block).filter(is_drawn).count();
        let counts: Vec<usize> = (0..n_blocks).into_par_iter().map(count).collect();

        let (n, stride) = (counts.iter().sum(), derivatives.len() + 1);
        let (mut rows, mut stats) = (vec![0; n], vec![0.0; n * stride]);
        let mut blocks = Vec::with_capacity(n_blocks);
        let (mut rows_left, mut stats_left) = (&mut rows[..], &mut stats[..]);
        for (block, n) in counts.into_iter().enumerate() {
            let (rows, stats);
            (rows, rows_left) = rows_left.split_at_mut(n);
            (stats, stats_left) = stats_left.split_at_mut(n * stride);
            blocks.push((block, rows, stats));
        }
        blocks.into_par_iter().for_each(|(block, rows, stats)| {
            let drawn_rows = places(block).filter(is_drawn).map(row_at);
            let out = rows.iter_mut().zip(stats.chunks_exact_mut(stride));
            for (row, (out, stats)) in drawn_rows.zip(out) {
                *out = row as u32;
                let (stats, weight) = stats.split_at_mut(derivatives.len());
                // Derivatives hold the row's own weight already.
                for (stat, g) in stats.iter_mut().zip(derivatives) {
                    *stat = g[row] * f64::from(drawn[row]);
                }
                weight[0] = f64::from(own.map_or(drawn[row], |w| drawn[row] * w[row]));
            }
        });
        Sample::new(derivatives.len(), rows, stats)
    }
}

/// The rows along an order: by place their own weights, and the factors drawn.
#[derive(Clone, Copy)]
struct Along<'a> {
    order: Option<&'a [u32]>,
    weights: Option<&'a [f32]>,
    drawn: &'a [f32],
}

impl Along<'_> {
    /// The rows drawn at some places, whose derivatives are given by output and place. The factors
    /// count in the tail of a prefix only.
    fn sample(self, derivatives: &[Vec<f64>], places: Range<usize>, is_tail: bool) -> Sample {
        let n = self.drawn[places.clone()].iter().filter(|&&factor| 0.0 < factor).count();
        let mut rows = Vec::with_capacity(n);
        let mut stats = Vec::with_capacity(n * (derivatives.len() + 1));
        for place in places.filter(|&place| 0.0 < self.drawn[place]) {
            rows.push(self.order.map_or(place as u32, |order| order[place]));
            let factor = if is_tail { self.drawn[place] } else { 1.0 };
            stats.extend(derivatives.iter().map(|g| g[place] * f64::from(factor)));
            stats.push(f64::from(self.weights.map_or(factor, |w| factor * w[place])));
        }
        Sample::new(derivatives.len(), rows, stats)
    }
}

/// First derivatives of the loss by output and row, times the row's weight.
fn derivatives(
    loss: Loss,
    scores: &[Vec<f64>],
    target: &[f32],
    weights: Option<&[f32]>,
) -> Vec<Vec<f64>> {
    let (n, k) = (target.len(), loss.n_outputs());
    let mut all = vec![vec![0.0; n]; k];
    if k == 1 {
        let blocks = all[0].par_chunks_mut(BLOCK).enumerate();
        blocks.for_each_init(
            || vec![0.0; BLOCK],
            |second, (block, g)| {
                let rows = block * BLOCK..block * BLOCK + g.len();
                let second = &mut second[..rows.len()];
                loss.derivatives(&scores[0][rows.clone()], &target[rows.clone()], g, second);
                if let Some(w) = weights {
                    g.iter_mut().zip(&w[rows]).for_each(|(g, &w)| *g *= f64::from(w));
                }
            },
        );
        return all;
    }
    let mut blocks: Vec<Vec<&mut [f64]>> = (0..n.div_ceil(BLOCK)).map(|_| Vec::new()).collect();
    for output in &mut all {
        blocks.iter_mut().zip(output.chunks_mut(BLOCK)).for_each(|(block, g)| block.push(g));
    }
    blocks.into_par_iter().enumerate().for_each(|(block, mut out)| {
        let (mut own, mut g) = (vec![0.0; k], vec![0.0; k]);
        for i in 0..out[0].len() {
            let row = block * BLOCK + i;
            own.iter_mut().zip(scores).for_each(|(score, all)| *score = all[row]);
            loss.multi(&own, target[row] as usize, &mut g, None);
            let w = weights.map_or(1.0, |w| f64::from(w[row]));
            out.iter_mut().zip(&g).for_each(|(out, g)| out[i] = g * w);
        }
    });
    all
}
