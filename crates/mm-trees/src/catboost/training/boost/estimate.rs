//! The leaves of a grown tree: estimated in every fold, for the model in the last one, and for the
//! scores that the next trees are grown on in the others.

use std::sync::Arc;

use rayon::prelude::*;

use super::{
    super::{
        fast_log::fast_ln,
        leaves::{self, Estimate, Estimation, Method, Rows},
        loss::Loss,
        structure::{Split, Structure},
        table::in_order,
    },
    Booster, Learning, Settings,
    fold::{Fold, Prefix},
};

/// What leaves are estimated for.
#[derive(Clone, Copy)]
struct Grown<'a> {
    n_leaves: usize,
    /// See [`Rows::chains`].
    chains: &'a [Vec<u32>],
}

impl Booster {
    /// Estimates a tree's leaves in every fold, and moves the scores of the folds that trees are grown on.
    /// Returns the estimate that is for the model, and the leaf of each row in its fold.
    pub(super) fn estimate_all(
        &mut self,
        taken: usize,
        structure: &Structure,
        leaf_of: Vec<u32>,
    ) -> (Estimate, Arc<Vec<u32>>) {
        let chains = self.chains(structure);
        let tree = Grown { n_leaves: structure.n_leaves(), chains: &chains };
        let leaf_of = Arc::new(leaf_of);
        if self.averaging.is_none() {
            let last = &self.folds[taken];
            return (last.estimate(&self.settings, &self.learning, tree, true, &leaf_of), leaf_of);
        }
        let splits = structure.splits();
        self.complete(&splits);
        // Where no split asks a statistic, a row has the same leaf in every fold.
        let is_shared = !splits.iter().any(|split| matches!(split, Split::Ctr { .. }));
        let all: Vec<&Fold> = self.folds.iter().chain(&self.averaging).collect();
        let of_fold = |(i, &fold): (usize, &&Fold)| {
            if is_shared || i == taken {
                Arc::clone(&leaf_of)
            } else {
                Arc::new(self.leaves_of(fold, structure))
            }
        };
        let mut leaves_of: Vec<Arc<Vec<u32>>> = all.par_iter().enumerate().map(of_fold).collect();
        let last_leaves = leaves_of.pop().unwrap_or(leaf_of);

        let Self { settings, learning, folds, averaging, .. } = self;
        let last: &Fold = averaging.as_ref().unwrap_or(&folds[taken]);
        let last = last.estimate(settings, learning, tree, true, &last_leaves);
        folds.par_iter_mut().zip(leaves_of).for_each(|(fold, leaf_of)| {
            fold.follow(settings, learning, tree, &leaf_of);
        });
        (last, last_leaves)
    }

    fn leaves_of(&self, fold: &Fold, structure: &Structure) -> Vec<u32> {
        match structure {
            Structure::Symmetric(splits) => self.leaves_in(fold, splits),
            Structure::Nodes(nodes) => self.leaves_by_nodes(fold, nodes),
        }
    }
}

impl Fold {
    /// Estimates the leaves from all rows; for the model if `is_final`.
    fn estimate(
        &self,
        settings: &Settings,
        learning: &Learning,
        tree: Grown<'_>,
        is_final: bool,
        leaf_of: &[u32],
    ) -> Estimate {
        // CatBoost's exact leaves of the model heed no weights.
        let weights = match settings.estimation.method {
            Method::Exact => self.drawn.as_deref().filter(|_| !is_final),
            _ => learning.weights.as_deref(),
        };
        let rows = Rows {
            target: &learning.target,
            weights,
            scores: &self.scores,
            order: self.order.as_deref(),
            is_final,
            chains: tree.chains,
        };
        leaves::estimate(settings.loss, settings.estimation, rows, leaf_of, tree.n_leaves)
    }

    /// Moves the scores by the leaves as the fold estimates them.
    fn follow(
        &mut self,
        settings: &Settings,
        learning: &Learning,
        tree: Grown<'_>,
        leaf_of: &[u32],
    ) {
        let Some(prefixes) = &mut self.prefixes else {
            let values = self.estimate(settings, learning, tree, false, leaf_of).values;
            advance(settings.loss, &mut self.scores, &moves(settings, values), leaf_of);
            return;
        };
        let leaf_at = in_order(leaf_of, self.order.as_deref());
        let weights = match settings.estimation.method {
            Method::Exact => self.drawn.as_deref(),
            _ => prefixes.weights.as_deref(),
        };
        let target = &prefixes.target;
        prefixes.list.par_iter_mut().for_each(|prefix| {
            prefix.follow(settings, tree, target, weights, &leaf_at[..prefix.end()]);
        });
    }
}

impl Prefix {
    /// Moves the scores by the leaves as the body has them.
    fn follow(
        &mut self,
        settings: &Settings,
        tree: Grown<'_>,
        target: &[f32],
        weights: Option<&[f32]>,
        leaf_at: &[u32],
    ) {
        let (loss, body) = (settings.loss, self.body);
        // With chains, CatBoost takes the mean weight of all rows.
        let l2 = if tree.chains.is_empty() { self.l2 } else { settings.l2 };
        let how = Estimation { l2, ..settings.estimation };
        let chains = tree.chains;
        let scores = &self.scores;
        let rows = Rows { target, weights, scores, order: None, is_final: false, chains };
        if loss.n_outputs() == 1 {
            let estimate = leaves::estimate(loss, how, rows, &leaf_at[..body], tree.n_leaves);
            advance(loss, &mut self.scores, &moves(settings, estimate.values), leaf_at);
            return;
        }
        let (estimate, tail) =
            leaves::estimate_along(loss, how, rows, leaf_at, body, tree.n_leaves);
        let of_body = &leaf_at[..body];
        advance(loss, &mut self.scores, &moves(settings, estimate.values), of_body);
        for (scores, moves) in self.scores.iter_mut().zip(tail) {
            let moves = scores[body..].iter_mut().zip(moves);
            moves.for_each(|(score, by)| *score += by * settings.learning_rate);
        }
    }
}

/// What the values of a fold's leaves move its scores by.
fn moves(settings: &Settings, values: Vec<f64>) -> Vec<f64> {
    let rate = settings.learning_rate;
    if settings.loss.keeps_exp() {
        // CatBoost goes back to the value by the coarse logarithm, for these folds only.
        let value = |v: f64| f64::from(fast_ln(v.exp() as f32));
        return values.into_iter().map(|v| value(v) * rate).collect();
    }
    values.into_iter().map(|v| v * rate).collect()
}

/// Adds the leaves' values to the scores.
pub(super) fn advance(loss: Loss, scores: &mut [Vec<f64>], values: &[f64], leaf_of: &[u32]) {
    const BLOCK: usize = 16_384;
    let k = scores.len();
    for (output, scores) in scores.iter_mut().enumerate() {
        let moves: Vec<f64> = values
            .iter()
            .skip(output)
            .step_by(k)
            .map(|v| if loss.keeps_exp() { v.exp() } else { *v })
            .collect();
        scores.par_chunks_mut(BLOCK).zip(leaf_of.par_chunks(BLOCK)).for_each(
            |(scores, leaf_of)| {
                let rows = scores.iter_mut().zip(leaf_of);
                if loss.keeps_exp() {
                    rows.for_each(|(score, &leaf)| *score *= moves[leaf as usize]);
                } else {
                    rows.for_each(|(score, &leaf)| *score += moves[leaf as usize]);
                }
            },
        );
    }
}
