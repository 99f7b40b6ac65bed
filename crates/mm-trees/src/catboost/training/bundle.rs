//! Which columns share a candidate because they are never away from their first bin together.
//!
//! CatBoost bundles such columns to save histograms. Here histograms stay apart, but the candidates
//! are CatBoost's, since noise is drawn, and the best split chosen, candidate by candidate. Columns are
//! taken in their own order, and again by how many rows lie outside the first bin; of both results,
//! the one that saves more counts.

use super::rng::Rng;

/// What a bundle may hold: bins besides the first ones, and rows of a word of a mask.
const MAX_BINS: usize = 1 << 10;
const MAX_CANDIDATES: usize = 100;

/// A column that may be bundled.
#[derive(Debug)]
pub(super) struct Member {
    /// Bins besides the first.
    pub(super) n_bins: usize,
    /// Rows outside the first bin.
    pub(super) n_rows: usize,
    /// These rows, a bit each; empty where they are too many for any other column.
    pub(super) rows: Vec<u64>,
}

/// How many binary columns a pack takes.
const PACK: usize = 8;

/// A mask of the rows whose bin is not 0.
pub(super) fn mask(bins: impl Iterator<Item = bool>) -> Vec<u64> {
    let mut mask = Vec::new();
    for (row, is_set) in bins.enumerate() {
        if row % 64 == 0 {
            mask.push(0);
        }
        if let Some(word) = mask.last_mut() {
            *word |= u64::from(is_set) << (row % 64);
        }
    }
    mask
}

/// The bundles of two columns or more; `None` stands for a column that takes no part.
pub(super) fn bundles(columns: &[Option<Member>], n_rows: usize) -> Vec<Vec<usize>> {
    let order: Vec<usize> = (0..columns.len()).filter(|&j| columns[j].is_some()).collect();
    let mut by_rows = order.clone();
    by_rows.sort_by_key(|&j| std::cmp::Reverse(columns[j].as_ref().map_or(0, |m| m.n_rows)));
    let saved = |bundles: &[Vec<usize>]| bundles.iter().map(|b| b.len() - 1).sum::<usize>();
    let (first, second) = (in_order(columns, n_rows, &order), in_order(columns, n_rows, &by_rows));
    if saved(&first) < saved(&second) { second } else { first }
}

/// A bundle in the making.
#[derive(Debug, Default)]
struct Bundle {
    parts: Vec<usize>,
    n_bins: usize,
    n_rows: usize,
    rows: Vec<u64>,
}

impl Bundle {
    fn has_room_for(&self, member: &Member, n_rows: usize) -> bool {
        self.n_bins + member.n_bins < MAX_BINS && self.n_rows + member.n_rows <= n_rows
    }

    fn meets(&self, member: &Member) -> bool {
        let known = !self.rows.is_empty() && !member.rows.is_empty();
        !known || self.rows.iter().zip(&member.rows).any(|(a, b)| a & b != 0)
    }

    fn add(&mut self, column: usize, member: &Member) {
        self.parts.push(column);
        self.n_bins += member.n_bins;
        self.n_rows += member.n_rows;
        if self.rows.is_empty() {
            self.rows.clone_from(&member.rows);
        } else {
            self.rows.iter_mut().zip(&member.rows).for_each(|(a, b)| *a |= b);
        }
    }
}

fn in_order(columns: &[Option<Member>], n_rows: usize, order: &[usize]) -> Vec<Vec<usize>> {
    let mut bundle_of: Vec<Option<usize>> = vec![None; columns.len()];
    let mut bundles: Vec<Bundle> = Vec::new();
    let mut rng = Rng::new(0);
    'columns: for &column in order {
        let Some(member) = &columns[column] else { continue };
        if MAX_BINS <= member.n_bins {
            continue;
        }
        let fits = |bundle: &Bundle| bundle.has_room_for(member, n_rows) && !bundle.meets(member);
        // Neighbours first, such as the columns that one category was made into.
        let mut checked = Vec::new();
        let before = column.checked_sub(1);
        for neighbour in [before, Some(column + 1)].into_iter().flatten() {
            let Some(at) = bundle_of.get(neighbour).copied().flatten() else { continue };
            if checked.contains(&at) {
                continue 'columns; // As in CatBoost.
            }
            if fits(&bundles[at]) {
                bundles[at].add(column, member);
                bundle_of[column] = Some(at);
                continue 'columns;
            }
            checked.push(at);
        }
        let is_open =
            |at: &usize| !checked.contains(at) && bundles[*at].has_room_for(member, n_rows);
        let mut open: Vec<usize> = (0..bundles.len()).filter(is_open).collect();
        let most = MAX_CANDIDATES - checked.len();
        if most < open.len() {
            for i in 0..most {
                let other = i + rng.below((open.len() - i) as u64) as usize;
                open.swap(i, other);
            }
            open.truncate(most);
        }
        let at = open.into_iter().find(|&at| fits(&bundles[at])).unwrap_or_else(|| {
            bundles.push(Bundle::default());
            bundles.len() - 1
        });
        bundles[at].add(column, member);
        bundle_of[column] = Some(at);
    }

    // Few binary columns go better into a pack.
    let is_small =
        |bundle: &Bundle| bundle.n_bins == bundle.parts.len() && 2 * bundle.parts.len() < PACK;
    let small = bundles.iter().filter(|bundle| is_small(bundle));
    let (n_small, n_binary) = small.fold((0, 0), |(n, parts), b| (n + 1, parts + b.parts.len()));
    let keeps_small = 2 * n_small <= n_binary.div_ceil(PACK);
    bundles
        .into_iter()
        .filter(|bundle| 1 < bundle.parts.len() && (keeps_small || !is_small(bundle)))
        .map(|bundle| bundle.parts)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as the columns have them")]
    fn member(n_bins: usize, rows: &[usize], n: usize) -> Option<Member> {
        let rows: Vec<bool> = (0..n).map(|row| rows.contains(&row)).collect();
        let n_rows = rows.iter().filter(|&&is_set| is_set).count();
        Some(Member { n_bins, n_rows, rows: mask(rows.into_iter()) })
    }

    #[test]
    fn columns_that_exclude_each_other_are_bundled() {
        let columns =
            [member(3, &[0, 1], 9), member(2, &[2], 9), member(2, &[1], 9), member(4, &[5], 9)];
        assert_eq!(bundles(&columns, 9), [vec![0, 1], vec![2, 3]]);
        assert!(bundles(&columns[..1], 9).is_empty(), "one column is no bundle");
    }

    #[test]
    fn few_binary_columns_are_left_to_packs() {
        let columns = [member(1, &[0], 9), member(1, &[1], 9), member(1, &[2], 9)];
        assert!(bundles(&columns, 9).is_empty());
        let columns: Vec<_> = (0..4).map(|row| member(1, &[row], 9)).collect();
        assert_eq!(bundles(&columns, 9), [vec![0, 1, 2, 3]]);
    }
}
