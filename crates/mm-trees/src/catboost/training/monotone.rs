//! Columns along which the prediction may move one way only.
//!
//! The leaves of a symmetric tree that agree in the answers to all other splits are put in order by
//! the answers to the monotone ones, the first split of the tree counting most. Along each such
//! *chain* values may not fall. Values that do are replaced by the nearest ones that do not, in
//! weighted squares (isotonic regression by pooling adjacent violators; Ayer, Brunk, Ewing, Reid &
//! Silverman 1955, "An empirical distribution function for sampling with incomplete information").
//! That is done both to the values that a split is scored by and to each step of leaf estimation, as in
//! CatBoost 1.2.10. An order of all leaves of a chain asks more than each split does by itself.

use super::score::{Columns, Sample, ScoreFunction, Shape};

/// The chains of the leaves of a symmetric tree whose levels have these signs: 1, 0, or −1.
pub(super) fn chains(signs: &[i8]) -> Vec<Vec<u32>> {
    let levels = |is_monotone: bool| -> Vec<usize> {
        (0..signs.len()).filter(|&level| (signs[level] != 0) == is_monotone).collect()
    };
    let (free, bound) = (levels(false), levels(true));
    let bits = |number: u32, levels: &mut dyn Iterator<Item = &usize>| -> u32 {
        levels.enumerate().map(|(from, &to)| (number >> from & 1) << to).sum()
    };
    let falling: u32 =
        bound.iter().filter(|&&level| signs[level] < 0).map(|level| 1 << level).sum();
    let chain = |subtree: u32| {
        let first = bits(subtree, &mut free.iter());
        let leaf = |rank: u32| first | bits(rank, &mut bound.iter().rev()) ^ falling;
        (0..1 << bound.len()).map(leaf).collect()
    };
    (0..1 << free.len()).map(chain).collect()
}

/// Makes `values` rise along a chain.
pub(super) fn straighten(values: &mut [f64], weights: &[f64], chain: &[u32]) {
    // Pools of neighbours: length, weight, weighted sum.
    let mut pools: Vec<(usize, f64, f64)> = Vec::with_capacity(chain.len());
    for &leaf in chain {
        // A weight of 0 has no mean.
        let weight = weights[leaf as usize].max(f64::MIN_POSITIVE);
        let mut pool = (1, weight, weight * values[leaf as usize]);
        while let Some(&(len, weight, sum)) = pools.last()
            && sum / weight >= pool.2 / pool.1
        {
            pool = (len + pool.0, weight + pool.1, sum + pool.2);
            pools.pop();
        }
        pools.push(pool);
    }
    let mut leaves = chain.iter();
    for (len, weight, sum) in pools {
        for &leaf in leaves.by_ref().take(len) {
            values[leaf as usize] = sum / weight;
        }
    }
}

/// The scores of all splits of each column, where the tree's levels have the signs `tree` and the
/// columns the sign `own`; with the penalty λ.
pub(super) fn scores(
    sample: &Sample,
    columns: Columns<'_>,
    shape: Shape,
    (l2, function): (f64, ScoreFunction),
    tree: &[i8],
    own: i8,
) -> Vec<Vec<f64>> {
    let signs: Vec<i8> = tree.iter().copied().chain([own]).collect();
    let chains = chains(&signs);
    let n_leaves = sample.n_leaves();
    let Columns { bins, width, n_bins } = columns;
    let of_column = |column: usize| {
        // Sums of derivatives and weights by leaf and bin.
        let mut sums = vec![[0.0; 2]; n_leaves * n_bins];
        for leaf in 0..n_leaves {
            let (rows, stats) = sample.leaf(leaf);
            for (&row, stat) in rows.iter().zip(stats.chunks_exact(2)) {
                let bin = usize::from(bins[row as usize * width + column]);
                let sum = &mut sums[leaf * n_bins + bin];
                *sum = [sum[0] + stat[0], sum[1] + stat[1]];
            }
        }
        let mut sides = vec![[0.0; 2]; 2 * n_leaves];
        let mut values = vec![0.0; 2 * n_leaves];
        let mut weights = vec![0.0; 2 * n_leaves];
        let score = |at: usize| {
            for (leaf, sums) in sums.chunks_exact(n_bins).enumerate() {
                let goes_right = |bin: usize| match shape {
                    Shape::Thresholds => at < bin,
                    Shape::Levels => at == bin,
                };
                let mut both = [[0.0; 2]; 2];
                for (bin, sum) in sums.iter().enumerate() {
                    let side = &mut both[usize::from(goes_right(bin))];
                    *side = [side[0] + sum[0], side[1] + sum[1]];
                }
                (sides[leaf], sides[leaf + n_leaves]) = (both[0], both[1]);
            }
            for ((value, weight), &[d, w]) in values.iter_mut().zip(&mut weights).zip(&sides) {
                *value = if 0.0 < w { d / (w + l2) } else { 0.0 };
                *weight = w + l2;
            }
            for chain in &chains {
                straighten(&mut values, &weights, chain);
            }
            let (mut above, mut below) = (0.0, 1e-100);
            for (value, [d, w]) in values.iter().zip(&sides) {
                above += value * d;
                below += value * value * w;
            }
            match function {
                ScoreFunction::L2 => above,
                ScoreFunction::Cosine => above / f64::sqrt(below),
            }
        };
        (0..shape.n_splits(n_bins)).map(score).collect()
    };
    (0..width).map(of_column).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn chains_rise_with_rising_columns_and_fall_with_falling_ones() {
        assert_eq!(chains(&[0]), [[0], [1]]);
        assert_eq!(chains(&[1]), [[0, 1]]);
        assert_eq!(chains(&[-1, 0]), [[1, 0], [3, 2]]);
        assert_eq!(chains(&[1, 0, -1]), [[4, 0, 5, 1], [6, 2, 7, 3]]); // The first level counts most.
    }

    #[test]
    fn values_that_fall_are_pooled() {
        let mut values = [3.0, 1.0, 4.0, 2.0];
        straighten(&mut values, &[1.0, 3.0, 1.0, 1.0], &[0, 1, 3, 2]);
        assert_eq!(values, [1.5, 1.5, 4.0, 2.0]); // (3 + 3 · 1) / 4
    }

    proptest! {
        /// What comes out rises, has the same weighted mean, and is what goes in if that rises.
        #[test]
        fn straightening_is_a_projection(
            points in prop::collection::vec((-9_i8..9, 1_u8..5), 1..20),
        ) {
            let before: Vec<f64> = points.iter().map(|point| f64::from(point.0)).collect();
            let weights: Vec<f64> = points.iter().map(|point| f64::from(point.1)).collect();
            let chain: Vec<u32> = (0..points.len() as u32).collect();
            let mut values = before.clone();
            straighten(&mut values, &weights, &chain);
            prop_assert!(values.is_sorted());
            let mean = |values: &[f64]| values.iter().zip(&weights).map(|(v, w)| v * w).sum::<f64>();
            prop_assert!((mean(&values) - mean(&before)).abs() < 1e-9); // Rounding of whole numbers.
            let again = values.clone();
            straighten(&mut values, &weights, &chain);
            let same = values.iter().zip(again).all(|(a, b)| (a - b).abs() < 1e-12);
            prop_assert!(same);
        }
    }
}
