//! The portable loops once more, compiled with the 32-byte vectors of AVX2.

use super::{
    lanes::{self, Abreast, Bytes, LANES},
    plan::{Answers, Cut, MAX_COLUMNS, PADDING, Segment},
};

#[target_feature(enable = "avx2")]
pub(super) fn rank(keys: &[i32; LANES], borders: &[i32; PADDING], steps: u32, out: &mut Bytes) {
    lanes::rank(keys, borders, steps, out);
}

#[target_feature(enable = "avx2")]
pub(super) fn climb(segment: &Segment, row: &[f32], out: &mut [u8; MAX_COLUMNS]) {
    lanes::climb(segment, row, out);
}

#[target_feature(enable = "avx2")]
pub(super) fn answer<const N: usize>(
    answers: &Answers,
    keys: &[[i32; LANES]; N],
    out: &mut [[Bytes; N]],
) {
    lanes::answer(answers, keys, out);
}

#[target_feature(enable = "avx2")]
pub(super) fn spread(words: &[u64], out: &mut [u8]) {
    lanes::spread(words, out);
}

#[target_feature(enable = "avx2")]
pub(super) fn ordered<const N: usize>(nodes: &[Cut], columns: &[[Bytes; N]]) -> [Bytes; N] {
    lanes::ordered(nodes, columns)
}

#[target_feature(enable = "avx2")]
pub(super) fn four_ordered(trees: [&[Cut]; 4], columns: &[[Bytes; 1]]) -> [Bytes; 4] {
    lanes::four_ordered(trees, columns)
}

#[target_feature(enable = "avx2")]
pub(super) fn symmetric<const N: usize>(nodes: &[Cut], columns: &[[Bytes; N]]) -> [Bytes; N] {
    lanes::symmetric(nodes, columns)
}

#[target_feature(enable = "avx2")]
pub(super) fn abreast<const N: usize>(
    trees: Abreast<'_, N>,
    row: &[u8; MAX_COLUMNS],
    n_columns: usize,
) -> [Bytes; N] {
    lanes::abreast(trees, row, n_columns)
}

#[target_feature(enable = "avx2")]
pub(super) fn add_double(
    sums: &mut [f64; LANES],
    table: &[f64; PADDING],
    n_leaves: usize,
    leaves: &Bytes,
) {
    lanes::add_double(sums, table, n_leaves, leaves);
}

#[target_feature(enable = "avx2")]
pub(super) fn add_single(
    sums: &mut [f32; LANES],
    table: &[f32; PADDING],
    n_leaves: usize,
    leaves: &Bytes,
) {
    lanes::add_single(sums, table, n_leaves, leaves);
}
