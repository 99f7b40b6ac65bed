//! The leaves of a grown tree: estimated in every fold, for the model in the last one, and for the
//! scores that the next trees are grown on in the others.

use std::sync::Arc;

use rayon::prelude::*;

use super::{
    super::{
        fast_exp::{exp, exp_by_parts},
        fast_log::fast_ln,
        leaves::{self, Estimate, Estimation, Method, Rows},
        loss::{self, Loss},
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
            let last = &self.folds[taken]; // The only fold.
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
        let last: &Fold = averaging.as_ref().expect("else it has returned");
        let (last, ()) = rayon::join(
            || last.estimate(settings, learning, tree, true, &last_leaves),
            || {
                folds.par_iter_mut().zip(leaves_of).for_each(|(fold, leaf_of)| {
                    fold.follow(settings, learning, tree, &leaf_of);
                });
            },
        );
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
            let leaves = self.estimate(settings, learning, tree, false, leaf_of);
            advance(&mut self.scores, &Moves::of_fold(settings, &leaves), leaf_of);
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
            advance(&mut self.scores, &Moves::of_fold(settings, &estimate), leaf_at);
            return;
        }
        let (estimate, tail) =
            leaves::estimate_along(loss, how, rows, leaf_at, body, tree.n_leaves);
        let of_body = &leaf_at[..body];
        advance(&mut self.scores, &Moves::of_fold(settings, &estimate), of_body);
        for (scores, moves) in self.scores.iter_mut().zip(tail) {
            let moves = scores[body..].iter_mut().zip(moves);
            moves.for_each(|(score, by)| *score += by * settings.learning_rate);
        }
    }
}

/// What leaves do to the scores of their rows.
pub(super) struct Moves {
    /// Of shape (leaves, outputs); factors where the loss keeps exponentials, else summands.
    values: Vec<f64>,
    are_factors: bool,
}

impl Moves {
    /// By the model's leaves, after the learning rate.
    pub(super) fn of_model(loss: Loss, leaves: &[f64]) -> Self {
        let are_factors = loss.keeps_exp();
        let values = leaves.iter().map(|&v| if are_factors { exp(v) } else { v }).collect();
        Self { values, are_factors }
    }

    /// By the leaves as a fold that trees are grown on estimates them.
    fn of_fold(settings: &Settings, leaves: &Estimate) -> Self {
        let rate = settings.learning_rate;
        let are_factors = settings.loss.keeps_exp();
        let values = if are_factors {
            // CatBoost goes back to the value by the coarse logarithm, for these folds only.
            let factor = |&by: &f64| exp_by_parts(f64::from(fast_ln(by as f32)) * rate);
            leaves.factors.iter().map(factor).collect()
        } else {
            leaves.values.iter().map(|v| v * rate).collect()
        };
        Self { values, are_factors }
    }
}

/// Moves the scores.
pub(super) fn advance(scores: &mut [Vec<f64>], moves: &Moves, leaf_of: &[u32]) {
    let k = scores.len();
    for (output, scores) in scores.iter_mut().enumerate() {
        let by: Vec<f64> = moves.values.iter().skip(output).step_by(k).copied().collect();
        loss::advance(scores, leaf_of, &by, moves.are_factors);
    }
}
