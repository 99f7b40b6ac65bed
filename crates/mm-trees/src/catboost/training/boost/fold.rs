//! Orders of the rows, each with scores of its own.
//!
//! In plain boosting a row has one score in each fold: what the leaves of all trees, estimated from
//! all rows, add up to. That score knows the row's own target. In ordered boosting (Prokhorenkova et
//! al. 2018, "CatBoost: unbiased boosting with categorical features") it does not: of each of some
//! prefixes of the order, every one longer than that before by a factor, the *body* gives the leaves
//! their values, and these move the scores of the body and of its *tail*, the rows up to the end of the
//! next body.
//!
//! ```text
//! place  0 … 99 100 … 199 200 …… 399 400 ………… 799
//!        body   tail
//!        body ─────────── tail
//!        body ────────────────────── tail
//! ```
//!
//! A row is in the tail of one prefix, whose scores of it are thus made of the rows before it alone.
//! Each prefix keeps scores of its own for its body, too. Together these are about twice as many as
//! rows where bodies double.

use std::{collections::HashMap, sync::Arc};

use super::{
    super::{ctr::Projection, rng::Rng, table::in_order},
    Learning,
};

/// The rows in an order, with the scores that the trees gave them.
#[derive(Debug)]
pub(super) struct Fold {
    /// The row at each place; the data's own order if `None`.
    pub(super) order: Option<Vec<u32>>,
    /// For each output the rows' scores, row by row; none in a fold of prefixes.
    pub(super) scores: Vec<Vec<f64>>,
    /// What ordered boosting knows of the rows.
    pub(super) prefixes: Option<Prefixes>,
    /// The weights that rows had when a tree was last grown on the fold, which its exact leaves heed:
    /// by row, or by place in a fold of prefixes.
    pub(super) drawn: Option<Vec<f32>>,
    /// The bins of statistics, of shape (rows, statistics).
    pub(super) ctrs: HashMap<Arc<Projection>, Arc<Vec<u8>>>,
}

/// The prefixes of an order. All that has an entry a row is in that order.
#[derive(Debug)]
pub(super) struct Prefixes {
    pub(super) target: Vec<f32>,
    pub(super) weights: Option<Vec<f32>>,
    pub(super) list: Vec<Prefix>,
}

/// One prefix.
#[derive(Debug)]
pub(super) struct Prefix {
    /// How many rows the body has.
    pub(super) body: usize,
    /// The penalty on squared leaf values, times the mean weight of a row of the body.
    pub(super) l2: f64,
    /// For each output the scores of body and tail.
    pub(super) scores: Vec<Vec<f64>>,
}

impl Fold {
    /// Of all rows at once.
    pub(super) fn plain(order: Option<Vec<u32>>, scores: &[Vec<f64>]) -> Self {
        Self { order, scores: scores.to_vec(), prefixes: None, drawn: None, ctrs: HashMap::new() }
    }

    /// Of prefixes, each `growth` times as long as that before, under the penalty `l2`.
    pub(super) fn ordered(
        order: Option<Vec<u32>>,
        scores: &[Vec<f64>],
        learning: &Learning,
        growth: f64,
        l2: f64,
    ) -> Self {
        let along = order.as_deref();
        let target = in_order(&learning.target, along);
        let weights = learning.weights.as_ref().map(|weights| in_order(weights, along));
        let scores: Vec<Vec<f64>> = scores.iter().map(|scores| in_order(scores, along)).collect();
        let prefix = |(body, end): (usize, usize)| {
            let weight = match &weights {
                None => body as f64,
                Some(weights) => weights[..body].iter().map(|&w| f64::from(w)).sum(),
            };
            let scores = scores.iter().map(|scores| scores[..end].to_vec()).collect();
            Prefix { body, l2: l2 * (weight / body as f64), scores }
        };
        let list = prefix_lengths(target.len(), growth).into_iter().map(prefix).collect();
        let prefixes = Some(Prefixes { target, weights, list });
        Self { order, scores: Vec::new(), prefixes, drawn: None, ctrs: HashMap::new() }
    }

    /// All scores, prefix by prefix, and output by output.
    pub(super) fn all_scores(&self) -> impl Iterator<Item = &Vec<f64>> {
        let prefixes = self.prefixes.iter().flat_map(|prefixes| &prefixes.list);
        self.scores.iter().chain(prefixes.flat_map(|prefix| &prefix.scores))
    }

    /// The same, to be changed.
    pub(super) fn all_scores_mut(&mut self) -> impl Iterator<Item = &mut Vec<f64>> {
        let prefixes = self.prefixes.iter_mut().flat_map(|prefixes| &mut prefixes.list);
        self.scores.iter_mut().chain(prefixes.flat_map(|prefix| &mut prefix.scores))
    }
}

impl Prefix {
    /// Where the tail ends.
    pub(super) fn end(&self) -> usize {
        self.scores.first().map_or(0, Vec::len)
    }
}

/// The lengths of the prefixes of `n` rows, and where their tails end.
fn prefix_lengths(n: usize, growth: f64) -> Vec<(usize, usize)> {
    let first = if n <= 500 { 1 } else { (n / 50).min(100) };
    let end = |body: usize| n.min((body as f64 * growth).ceil() as usize);
    let mut lengths = vec![(first, end(first))];
    while let Some(&(_, last)) = lengths.last().filter(|(_, last)| *last < n) {
        lengths.push((last, end(last)));
    }
    lengths
}

/// An order of `n` rows in which blocks of some rows change places, the longer the more there are.
pub(super) fn blockwise(n: usize, rng: &mut Rng) -> Vec<u32> {
    let size = (n / 1000 + 1).min(256);
    let blocks = rng.shuffled(n.div_ceil(size));
    let rows = |block: u32| {
        let first = block as usize * size;
        first as u32..(first + size).min(n) as u32
    };
    blocks.into_iter().flat_map(rows).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prefixes_double_from_a_hundred_rows_or_one() {
        assert_eq!(prefix_lengths(1, 2.0), [(1, 1)]);
        assert_eq!(prefix_lengths(5, 2.0), [(1, 2), (2, 4), (4, 5)]);
        assert_eq!(prefix_lengths(600, 4.0), [(12, 48), (48, 192), (192, 600)]);
        assert_eq!(prefix_lengths(20_000, 2.0)[..2], [(100, 200), (200, 400)]);
    }

    proptest! {
        /// Every row behind the first body is in one tail.
        #[test]
        fn tails_follow_each_other(n in 1_usize..3000, growth in 1.1_f64..9.0) {
            let lengths = prefix_lengths(n, growth);
            prop_assert!(lengths.windows(2).all(|pair| pair[0].1 == pair[1].0));
            prop_assert!(lengths.iter().all(|&(body, end)| body < end || n == 1));
            prop_assert_eq!(lengths.last().map(|&(_, end)| end), Some(n));
        }
    }
}
