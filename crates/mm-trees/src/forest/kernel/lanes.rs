//! The inner loops, over a fixed number of rows or trees at a time, for any processor: plain loops
//! over arrays, which the compiler makes vector instructions of.

#![expect(
    clippy::inline_always,
    reason = "compiled once more for each set of instructions, inside the function that has them"
)]

use super::plan::{Cut, MAX_COLUMNS, PADDING};

/// Rows, or trees for a single row, that are side by side.
pub(super) const LANES: usize = 64;

/// A byte for each.
pub(super) type Bytes = [u8; LANES];

/// The number of borders below each key. `borders` are those of a [`Rank`](super::plan::Rank).
#[inline(always)]
pub(super) fn rank(keys: &[i32; LANES], borders: &[i32; PADDING], steps: u32, out: &mut Bytes) {
    for (key, out) in keys.iter().zip(out) {
        *out = rank_one(*key, borders, steps);
    }
}

/// The number of borders below a key.
#[inline(always)]
pub(super) fn rank_one(key: i32, borders: &[i32; PADDING], steps: u32) -> u8 {
    let mut at = 1;
    for _ in 0..steps {
        // Below 256 before the last of at most 8 steps.
        at = 2 * at + usize::from(borders[at % PADDING] < key);
    }
    // The highest bit falls away: it only counted the steps.
    (at ^ 1 << steps) as u8
}

/// The leaf of each row in a tree of ordered nodes, see [`Shape::Ordered`](super::plan::Shape).
///
/// A row's leaf moves from left to right. It is moved beyond node *j* if the row goes right there
/// and its leaf so far lies below that node; else the node is not on the row's path, or the row
/// goes left.
#[inline(always)]
pub(super) fn ordered<const N: usize>(nodes: &[Cut], columns: &[[Bytes; N]]) -> [Bytes; N] {
    let mut leaves = [[0; LANES]; N];
    let mut next = 0_u8;
    for node in nodes {
        next = next.wrapping_add(1);
        let values = columns[usize::from(node.column)].as_flattened();
        for (value, leaf) in values.iter().zip(leaves.as_flattened_mut()) {
            let is_moved = u8::from(*value > node.rank) & u8::from(*leaf >= node.from);
            *leaf = (*leaf).max(next & is_moved.wrapping_neg());
        }
    }
    leaves
}

/// The leaf of each row in a symmetric tree of up to 8 levels.
#[inline(always)]
pub(super) fn symmetric<const N: usize>(nodes: &[Cut], columns: &[[Bytes; N]]) -> [Bytes; N] {
    let mut leaves = [[0; LANES]; N];
    for (k, node) in nodes.iter().take(8).enumerate() {
        let values = columns[usize::from(node.column)].as_flattened();
        for (value, leaf) in values.iter().zip(leaves.as_flattened_mut()) {
            *leaf |= u8::from(*value > node.rank) << k;
        }
    }
    leaves
}

/// Narrow trees of one shape, side by side: slot by slot the nodes at the same place of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abreast<'a> {
    pub(super) is_symmetric: bool,
    pub(super) columns: Numbers<'a>,
    pub(super) ranks: &'a [Bytes],
    pub(super) froms: &'a [Bytes],
}

/// Columns by number, slot by slot.
#[derive(Debug, Clone, Copy)]
pub(super) enum Numbers<'a> {
    /// All below 256.
    Narrow(&'a [Bytes]),
    Wide(&'a [[u16; LANES]]),
}

/// The leaves of one row, given as the bytes of its columns, of which `_n_columns` are in use.
#[inline(always)]
pub(super) fn abreast(trees: Abreast<'_>, row: &[u8; MAX_COLUMNS], _n_columns: usize) -> Bytes {
    match trees.columns {
        Numbers::Narrow(columns) => {
            let values = |i: &u8| row[usize::from(*i)];
            abreast_by(trees, columns.iter().map(|columns| columns.each_ref().map(values)))
        }
        Numbers::Wide(columns) => {
            let values = |i: &u16| row[usize::from(*i) % MAX_COLUMNS];
            abreast_by(trees, columns.iter().map(|columns| columns.each_ref().map(values)))
        }
    }
}

/// As [`abreast`], from the bytes that each slot asks for.
#[inline(always)]
fn abreast_by(trees: Abreast<'_>, values: impl Iterator<Item = Bytes>) -> Bytes {
    let mut leaves = [0; LANES];
    if trees.is_symmetric {
        for (k, (values, ranks)) in values.zip(trees.ranks).take(8).enumerate() {
            for i in 0..LANES {
                leaves[i] |= u8::from(values[i] > ranks[i]) << k;
            }
        }
        return leaves;
    }
    let mut next = 0_u8;
    for (values, (ranks, froms)) in values.zip(trees.ranks.iter().zip(trees.froms)) {
        next = next.wrapping_add(1);
        for i in 0..LANES {
            let is_moved = u8::from(values[i] > ranks[i]) & u8::from(leaves[i] >= froms[i]);
            leaves[i] = leaves[i].max(next & is_moved.wrapping_neg());
        }
    }
    leaves
}

/// Adds to each row's sum the value of its leaf, one of the first `_n_leaves`.
#[inline(always)]
pub(super) fn add_double(
    sums: &mut [f64; LANES],
    table: &[f64; PADDING],
    _n_leaves: usize,
    leaves: &Bytes,
) {
    for (sum, leaf) in sums.iter_mut().zip(leaves) {
        *sum += table[usize::from(*leaf)];
    }
}

/// As [`add_double`].
#[inline(always)]
pub(super) fn add_single(
    sums: &mut [f32; LANES],
    table: &[f32; PADDING],
    _n_leaves: usize,
    leaves: &Bytes,
) {
    for (sum, leaf) in sums.iter_mut().zip(leaves) {
        *sum += table[usize::from(*leaf)];
    }
}
