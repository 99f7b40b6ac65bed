//! The inner loops, over a fixed number of rows or trees at a time, for any processor: plain loops
//! over arrays, which the compiler makes vector instructions of.

use super::plan::{Cut, PADDING};

/// Trees side by side for a single row.
pub(super) const LANES: usize = 64;

/// Number of borders below each key. `borders` are 2^`steps` − 1 in ascending order, and padding.
#[inline(always)]
pub(super) fn rank<const R: usize>(
    keys: &[i32; R],
    borders: &[i32; PADDING],
    steps: u32,
    out: &mut [u8; R],
) {
    for (key, out) in keys.iter().zip(out) {
        *out = rank_one(*key, borders, steps);
    }
}

/// Number of borders below a key.
#[inline(always)]
pub(super) fn rank_one(key: i32, borders: &[i32; PADDING], steps: u32) -> u8 {
    let (mut below, mut half) = (0_usize, (1 << steps) >> 1);
    while half != 0 {
        // At most 255 in all: the steps are at most 8.
        below += if borders[(below + half - 1) % PADDING] < key { half } else { 0 };
        half /= 2;
    }
    below as u8
}

/// The leaf of each row in a tree of ordered nodes, see [`Shape::Ordered`](super::plan::Shape).
///
/// A row's leaf moves from left to right. It is moved beyond node *j* if the row goes right there
/// and its leaf so far lies below that node; else the node is not on the row's path, or the row
/// goes left.
#[inline(always)]
pub(super) fn ordered<const R: usize>(nodes: &[Cut], columns: &[[u8; R]], leaf: &mut [u8; R]) {
    leaf.fill(0);
    let mut next = 0_u8;
    for node in nodes {
        next = next.wrapping_add(1);
        for (value, leaf) in columns[usize::from(node.column)].iter().zip(&mut *leaf) {
            let is_right = *value > node.rank && *leaf >= node.from;
            *leaf = if is_right { next } else { *leaf };
        }
    }
}

/// The leaf of each row in a symmetric tree, or 8 bits of it.
#[inline(always)]
pub(super) fn symmetric<const R: usize>(nodes: &[Cut], columns: &[[u8; R]], leaf: &mut [u8; R]) {
    leaf.fill(0);
    for (k, node) in nodes.iter().enumerate() {
        for (value, leaf) in columns[usize::from(node.column)].iter().zip(&mut *leaf) {
            *leaf |= u8::from(*value > node.rank) << k;
        }
    }
}

/// The leaves of one row in as many trees as there are lanes.
#[inline(always)]
pub(super) fn abreast(
    is_symmetric: bool,
    columns: &[[u16; LANES]],
    ranks: &[[u8; LANES]],
    froms: &[[u8; LANES]],
    row: &[u8],
) -> [u8; LANES] {
    let mut leaf = [0_u8; LANES];
    for (slot, ((columns, ranks), froms)) in columns.iter().zip(ranks).zip(froms).enumerate() {
        let values: [u8; LANES] = std::array::from_fn(|i| row[usize::from(columns[i])]);
        let next = (slot as u8).wrapping_add(1);
        for i in 0..LANES {
            let is_right = values[i] > ranks[i];
            leaf[i] = if is_symmetric {
                leaf[i] | u8::from(is_right) << slot
            } else if is_right && leaf[i] >= froms[i] {
                next
            } else {
                leaf[i]
            };
        }
    }
    leaf
}

/// Adds to each row's sum the value of its leaf.
#[inline(always)]
pub(super) fn add<A: Copy + std::ops::AddAssign, const R: usize>(
    sums: &mut [A; R],
    table: &[A; PADDING],
    leaf: &[u8; R],
) {
    for (sum, leaf) in sums.iter_mut().zip(leaf) {
        *sum += table[usize::from(*leaf)];
    }
}
