//! Columns along which the prediction may move one way only.
//!
//! The leaves of a symmetric tree that agree in the answers to all other splits are put in order by
//! the answers to the monotone ones, the first split of the tree counting most. Along each such
//! *chain* values may not fall. Values that do are replaced by the nearest ones that do not, in
//! weighted squares (isotonic regression by pooling adjacent violators; Ayer, Brunk, Ewing, Reid &
//! Silverman 1955, "An empirical distribution function for sampling with incomplete information").
//! That is done both to the values that a split is scored by and to each step of leaf estimation, as in
//! CatBoost 1.2.10. An order of all leaves of a chain asks more than each split does by itself.

use super::score::{Columns, Part, Sample, ScoreFunction, Shape};

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
/// columns the sign `own`.
pub(super) fn scores(
    parts: &[Part],
    columns: Columns<'_>,
    shape: Shape,
    function: ScoreFunction,
    tree: &[i8],
    own: i8,
) -> Vec<Vec<f64>> {
    let signs: Vec<i8> = tree.iter().copied().chain([own]).collect();
    let chains = chains(&signs);
    let of_column = |column: usize| {
        let mut totals = vec![(0.0, 1e-100); shape.n_splits(columns.n_bins)];
        for part in parts {
            let body = Sums::new(&part.body, columns, column);
            let tail = part.tail.as_ref().map(|tail| Sums::new(tail, columns, column));
            let mut values = vec![0.0; 2 * part.body.n_leaves()];
            let mut weights = values.clone();
            for (at, (above, below)) in totals.iter_mut().enumerate() {
                let made = body.sides(at, shape);
                for ((value, weight), &[d, w]) in values.iter_mut().zip(&mut weights).zip(&made) {
                    *value = if 0.0 < w { d / (w + part.l2) } else { 0.0 };
                    *weight = w + part.l2;
                }
                for chain in &chains {
                    straighten(&mut values, &weights, chain);
                }
                let judges = tail.as_ref().map_or(made, |tail| tail.sides(at, shape));
                for (value, [d, w]) in values.iter().zip(judges) {
                    *above += value * d;
                    *below += value * value * w;
                }
            }
        }
        let score = |(above, below): (f64, f64)| match function {
            ScoreFunction::L2 => above,
            ScoreFunction::Cosine => above / below.sqrt(),
        };
        totals.into_iter().map(score).collect()
    };
    (0..columns.width).map(of_column).collect()
}

/// Sums of derivatives and weights of one column by leaf and bin.
struct Sums {
    sums: Vec<[f64; 2]>,
    n_bins: usize,
}

impl Sums {
    fn new(sample: &Sample, columns: Columns<'_>, column: usize) -> Self {
        let Columns { bins, width, n_bins } = columns;
        let mut sums = vec![[0.0; 2]; sample.n_leaves() * n_bins];
        for (leaf, sums) in sums.chunks_exact_mut(n_bins).enumerate() {
            let (rows, stats) = sample.leaf(leaf);
            for (&row, stat) in rows.iter().zip(stats.chunks_exact(2)) {
                let sum = &mut sums[usize::from(bins[row as usize * width + column])];
                *sum = [sum[0] + stat[0], sum[1] + stat[1]];
            }
        }
        Self { sums, n_bins }
    }

    /// The sums of the left sides of all leaves at a split, then those of the right ones.
    fn sides(&self, at: usize, shape: Shape) -> Vec<[f64; 2]> {
        let goes_right = |bin: usize| match shape {
            Shape::Thresholds => at < bin,
            Shape::Levels => at == bin,
        };
        let n_leaves = self.sums.len() / self.n_bins;
        let mut sides = vec![[0.0; 2]; 2 * n_leaves];
        for (leaf, sums) in self.sums.chunks_exact(self.n_bins).enumerate() {
            for (bin, sum) in sums.iter().enumerate() {
                let side = &mut sides[if goes_right(bin) { leaf + n_leaves } else { leaf }];
                *side = [side[0] + sum[0], side[1] + sum[1]];
            }
        }
        sides
    }
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
