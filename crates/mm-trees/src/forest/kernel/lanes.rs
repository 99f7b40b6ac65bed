//! The inner loops, over a fixed number of rows or trees at a time, for any processor: plain loops
//! over arrays, which the compiler makes vector instructions of.

#![expect(
    clippy::inline_always,
    reason = "compiled once more for each set of instructions, inside the function that has them"
)]

use super::plan::{Answers, Cut, MAX_COLUMNS, PADDING, Rung, Segment};

/// Rows, or trees for a single row, that are side by side.
pub(super) const LANES: usize = 64;

/// A byte for each.
pub(super) type Bytes = [u8; LANES];

/// The number of borders below each key. `borders` are those of a [`Rank`](super::plan::Rank).
#[inline(always)]
pub(super) fn rank(keys: &[i32; LANES], borders: &[i32; PADDING], steps: u32, out: &mut Bytes) {
    for (key, out) in keys.iter().zip(out) {
        let mut at = 1;
        for _ in 0..steps {
            // Below 256 before the last of at most 8 steps.
            at = 2 * at + usize::from(borders[at % PADDING] < *key);
        }
        // The highest bit falls away: it only counted the steps.
        *out = (at ^ 1 << steps) as u8;
    }
}

/// The bytes of a row's first columns, by [`ladders`](Segment::ladders).
#[inline(always)]
pub(super) fn climb(segment: &Segment, row: &[f32], out: &mut [u8; MAX_COLUMNS]) {
    let below = |rung: &Rung, key: i32| rung.iter().map(|border| i32::from(*border < key)).sum();
    climb_by(segment, row, out, below);
}

/// As [`climb`], with the number of a rung's borders that are below a key.
#[inline(always)]
pub(super) fn climb_by(
    segment: &Segment,
    row: &[f32],
    out: &mut [u8; MAX_COLUMNS],
    below: impl Fn(&Rung, i32) -> i32,
) {
    for (rank, out) in segment.ranks.iter().zip(out) {
        let key = segment.key_of(row, rank.key);
        let ladder = &segment.ladders[rank.ladder as usize..];
        let rung = below(&ladder[0], key);
        *out = (16 * rung + below(&ladder[1 + rung as usize], key)) as u8;
    }
}

/// The bytes of the columns of [`Answers`], `out`, to the keys of rows.
#[inline(always)]
pub(super) fn answer<const N: usize>(
    answers: &Answers,
    keys: &[[i32; LANES]; N],
    out: &mut [[Bytes; N]],
) {
    answer_by(answers, keys, out, |bits, bytes| *bytes = bytes_of(bits));
}

/// As [`answer`], with what makes 64 bits 64 bytes.
#[inline(always)]
pub(super) fn answer_by<const N: usize>(
    answers: &Answers,
    keys: &[[i32; LANES]; N],
    out: &mut [[Bytes; N]],
    spread: impl Fn(u64, &mut Bytes),
) {
    for (i, keys) in keys.iter().enumerate() {
        let rows: [&[u64]; LANES] = std::array::from_fn(|row| answers.to(keys[row]));
        for (word, out) in out.chunks_mut(LANES).enumerate() {
            let by_column = turned(|row| rows[row][word]);
            for (bits, out) in by_column.into_iter().zip(out) {
                spread(bits, &mut out[i]);
            }
        }
    }
}

/// The bytes of a row's columns from the [`Answers`] to its key.
#[inline(always)]
pub(super) fn spread(words: &[u64], out: &mut [u8]) {
    spread_by(words, out, |bits, bytes| *bytes = bytes_of(bits));
}

/// As [`spread`], with what makes 64 bits 64 bytes.
#[inline(always)]
pub(super) fn spread_by(words: &[u64], out: &mut [u8], spread: impl Fn(u64, &mut Bytes)) {
    let (whole, rest) = out.as_chunks_mut::<LANES>();
    for (bits, out) in words.iter().zip(&mut *whole) {
        spread(*bits, out);
    }
    if let Some(bits) = words.get(whole.len()) {
        for (j, out) in rest.iter_mut().enumerate() {
            *out = (bits >> j) as u8 & 1;
        }
    }
}

#[inline(always)]
fn bytes_of(bits: u64) -> Bytes {
    std::array::from_fn(|j| (bits >> j) as u8 & 1)
}

/// 64 words of 64 bits with rows and columns exchanged: bit *i* of word *j* is bit *j* of
/// `word(i)`.
///
/// Squares of bits change places with those across the diagonal, side 32 to side 1. The words are
/// eight by eight, so that the eight at one place do the same and become one vector.
#[inline(always)]
fn turned(word: impl Fn(usize) -> u64) -> [u64; LANES] {
    let exchange = |words: &mut [[u64; 8]; 8], gap: usize, side: u32, mask: u64| {
        for pair in words.chunks_exact_mut(2 * gap) {
            let (upper, lower) = pair.split_at_mut(gap);
            for (a, b) in upper.as_flattened_mut().iter_mut().zip(lower.as_flattened_mut()) {
                let differs = (*a >> side ^ *b) & mask;
                *a ^= differs << side;
                *b ^= differs;
            }
        }
    };
    // Within each eight: `low[i]` has word *i* of each.
    let mut low: [[u64; 8]; 8] =
        std::array::from_fn(|i| std::array::from_fn(|eight| word(8 * eight + i)));
    exchange(&mut low, 4, 4, 0x0f0f_0f0f_0f0f_0f0f);
    exchange(&mut low, 2, 2, 0x3333_3333_3333_3333);
    exchange(&mut low, 1, 1, 0x5555_5555_5555_5555);
    let mut high: [[u64; 8]; 8] =
        std::array::from_fn(|eight| std::array::from_fn(|i| low[i][eight]));
    exchange(&mut high, 4, 32, 0x0000_0000_ffff_ffff);
    exchange(&mut high, 2, 16, 0x0000_ffff_0000_ffff);
    exchange(&mut high, 1, 8, 0x00ff_00ff_00ff_00ff);
    let mut words = [0; LANES];
    words.as_chunks_mut().0.copy_from_slice(&high);
    words
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

/// As [`ordered`], for four trees and few rows: no tree waits for another.
#[inline(always)]
pub(super) fn four_ordered(trees: [&[Cut]; 4], columns: &[[Bytes; 1]]) -> [Bytes; 4] {
    trees.map(|nodes| ordered(nodes, columns)[0])
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

/// `N` times [`LANES`] narrow trees of one shape, side by side: slot by slot the nodes at the same
/// place of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abreast<'a, const N: usize> {
    pub(super) is_symmetric: bool,
    pub(super) columns: Numbers<'a, N>,
    pub(super) ranks: &'a [[Bytes; N]],
    pub(super) froms: &'a [[Bytes; N]],
}

/// Columns by number, slot by slot.
#[derive(Debug, Clone, Copy)]
pub(super) enum Numbers<'a, const N: usize> {
    /// All below 256.
    Narrow(&'a [[Bytes; N]]),
    Wide(&'a [[[u16; LANES]; N]]),
}

/// The leaves of one row, given as the bytes of its columns, of which `_n_columns` are in use.
#[inline(always)]
pub(super) fn abreast<const N: usize>(
    trees: Abreast<'_, N>,
    row: &[u8; MAX_COLUMNS],
    _n_columns: usize,
) -> [Bytes; N] {
    match trees.columns {
        Numbers::Narrow(columns) => {
            abreast_by(trees, |slot, i, j| row[usize::from(columns[slot][i][j])])
        }
        Numbers::Wide(columns) => {
            abreast_by(trees, |slot, i, j| row[usize::from(columns[slot][i][j]) % MAX_COLUMNS])
        }
    }
}

/// As [`abreast`], from the byte of the column of a slot in a lane.
#[inline(always)]
fn abreast_by<const N: usize>(
    trees: Abreast<'_, N>,
    byte: impl Fn(usize, usize, usize) -> u8,
) -> [Bytes; N] {
    let mut leaves = [[0; LANES]; N];
    let (mut next, mut bit) = (0_u8, 1_u8);
    for (slot, (ranks, froms)) in trees.ranks.iter().zip(trees.froms).enumerate() {
        next = next.wrapping_add(1);
        for i in 0..N {
            let values: Bytes = std::array::from_fn(|j| byte(slot, i, j));
            let leaves = &mut leaves[i];
            for j in 0..LANES {
                let is_right = u8::from(values[j] > ranks[i][j]);
                if trees.is_symmetric {
                    leaves[j] |= bit & is_right.wrapping_neg();
                } else {
                    let is_moved = is_right & u8::from(leaves[j] >= froms[i][j]);
                    leaves[j] = leaves[j].max(next & is_moved.wrapping_neg());
                }
            }
        }
        bit = bit.wrapping_shl(1);
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
