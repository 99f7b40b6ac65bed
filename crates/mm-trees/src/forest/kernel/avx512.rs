//! The loops of [`lanes`](super::lanes) with the 64-byte vectors of AVX-512: a row, or a tree, for
//! each byte.

use std::arch::x86_64::{
    __m512i, _mm_cvtsi64_si128, _mm512_add_epi8, _mm512_add_epi32, _mm512_add_pd, _mm512_add_ps,
    _mm512_cmpeq_epi8_mask, _mm512_cmpge_epu8_mask, _mm512_cmpgt_epi32_mask,
    _mm512_cmpgt_epu8_mask, _mm512_cvtepi32_epi8, _mm512_cvtepu8_epi32, _mm512_cvtepu8_epi64,
    _mm512_mask_add_epi8, _mm512_mask_add_epi32, _mm512_mask_blend_epi8, _mm512_mask_blend_epi32,
    _mm512_mask_blend_pd, _mm512_mask_blend_ps, _mm512_mask_max_epu8, _mm512_maskz_mov_epi8,
    _mm512_movepi8_mask, _mm512_permutex2var_epi8, _mm512_permutex2var_epi32,
    _mm512_permutex2var_pd, _mm512_permutex2var_ps, _mm512_permutexvar_epi8,
    _mm512_permutexvar_epi32, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_epi64,
    _mm512_setzero_si512, _mm512_test_epi32_mask, _mm512_test_epi64_mask, _mm512_xor_si512,
};

use super::{
    lanes::{self, Abreast, Bytes, LANES, Numbers},
    plan::{Answers, Cut, MAX_COLUMNS, PADDING, Segment},
    simd::vector::{
        gather_doubles, gather_singles, load_bytes, load_doubles, load_ints, load_quarter,
        load_singles, load_words, store_bytes, store_doubles, store_quarter, store_singles,
    },
};

/// Sixteen rows at a time; the borders are looked up in registers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,popcnt")]
pub(super) fn rank(keys: &[i32; LANES], borders: &[i32; PADDING], steps: u32, out: &mut Bytes) {
    let (tables, _) = borders.as_chunks::<16>();
    let table = |i: usize| load_ints(&tables[i]);
    let one = _mm512_set1_epi32(1);
    let mut at = [one; LANES / 16];
    let (keys, _) = keys.as_chunks::<16>();
    for step in 0..steps {
        for (at, key) in at.iter_mut().zip(keys) {
            // The entry `at` of the borders of this step, 2^step to 2^(step + 1): a vector of 16
            // gives those up to 15, a pair of vectors 32 by the lowest five bits.
            let pair = |i: usize| _mm512_permutex2var_epi32(table(i), *at, table(i + 1));
            let two_pairs = |i: usize| {
                let odd = _mm512_test_epi32_mask(*at, _mm512_set1_epi32(32));
                _mm512_mask_blend_epi32(odd, pair(i), pair(i + 2))
            };
            let border = match step {
                0..4 => _mm512_permutexvar_epi32(*at, table(0)),
                4 => _mm512_permutexvar_epi32(*at, table(1)),
                5 => pair(2),
                6 => two_pairs(4),
                _ => {
                    let odd = _mm512_test_epi32_mask(*at, _mm512_set1_epi32(64));
                    _mm512_mask_blend_epi32(odd, two_pairs(8), two_pairs(12))
                }
            };
            let is_above = _mm512_cmpgt_epi32_mask(load_ints(key), border);
            let twice = _mm512_add_epi32(*at, *at);
            *at = _mm512_mask_add_epi32(twice, is_above, twice, one);
        }
    }
    let highest = _mm512_set1_epi32(1 << steps);
    for (at, out) in at.into_iter().zip(out.as_chunks_mut::<16>().0) {
        store_quarter(_mm512_cvtepi32_epi8(_mm512_xor_si512(at, highest)), out);
    }
}

/// A rung with one comparison.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,popcnt")]
pub(super) fn climb(segment: &Segment, row: &[f32], out: &mut [u8; MAX_COLUMNS]) {
    lanes::climb_by(segment, row, out, |rung, key| {
        let below = _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(key), load_ints(rung));
        below.count_ones().cast_signed()
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,popcnt")]
pub(super) fn answer<const N: usize>(
    answers: &Answers,
    keys: &[[i32; LANES]; N],
    out: &mut [[Bytes; N]],
) {
    lanes::answer_by(answers, keys, out, |bits, bytes| {
        store_bytes(_mm512_maskz_mov_epi8(bits, _mm512_set1_epi8(1)), bytes);
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,popcnt")]
pub(super) fn spread(words: &[u64], out: &mut [u8]) {
    lanes::spread_by(words, out, |bits, bytes| {
        store_bytes(_mm512_maskz_mov_epi8(bits, _mm512_set1_epi8(1)), bytes);
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,popcnt")]
pub(super) fn ordered<const N: usize>(nodes: &[Cut], columns: &[[Bytes; N]]) -> [Bytes; N] {
    let mut leaves = [_mm512_setzero_si512(); N];
    let (mut next, one) = (_mm512_setzero_si512(), _mm512_set1_epi8(1));
    for node in nodes {
        next = _mm512_add_epi8(next, one);
        let rank = _mm512_set1_epi8(node.rank.cast_signed());
        let from = _mm512_set1_epi8(node.from.cast_signed());
        for (value, leaf) in columns[usize::from(node.column)].iter().zip(&mut leaves) {
            *leaf = moved(*leaf, load_bytes(value), rank, from, next);
        }
    }
    stored(leaves)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,popcnt")]
pub(super) fn four_ordered(trees: [&[Cut]; 4], columns: &[[Bytes; 1]]) -> [Bytes; 4] {
    let mut leaves = [_mm512_setzero_si512(); 4];
    let (mut next, one) = (_mm512_setzero_si512(), _mm512_set1_epi8(1));
    for j in 0..trees.map(<[Cut]>::len).into_iter().max().unwrap_or(0) {
        next = _mm512_add_epi8(next, one);
        for (nodes, leaf) in trees.iter().zip(&mut leaves) {
            if let Some(node) = nodes.get(j) {
                let [value] = &columns[usize::from(node.column)];
                let rank = _mm512_set1_epi8(node.rank.cast_signed());
                let from = _mm512_set1_epi8(node.from.cast_signed());
                *leaf = moved(*leaf, load_bytes(value), rank, from, next);
            }
        }
    }
    stored(leaves)
}

/// Moves the leaves that are below a node, and whose row goes right there. Only the former waits for
/// the node before.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,popcnt")]
fn moved(leaf: __m512i, value: __m512i, rank: __m512i, from: __m512i, next: __m512i) -> __m512i {
    let target = _mm512_maskz_mov_epi8(_mm512_cmpgt_epu8_mask(value, rank), next);
    _mm512_mask_max_epu8(leaf, _mm512_cmpge_epu8_mask(leaf, from), leaf, target)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,popcnt")]
pub(super) fn symmetric<const N: usize>(nodes: &[Cut], columns: &[[Bytes; N]]) -> [Bytes; N] {
    let mut leaves = [_mm512_setzero_si512(); N];
    for (k, node) in nodes.iter().take(8).enumerate() {
        let rank = _mm512_set1_epi8(node.rank.cast_signed());
        let bit = _mm512_set1_epi8((1_u8 << k).cast_signed());
        for (value, leaf) in columns[usize::from(node.column)].iter().zip(&mut leaves) {
            let is_right = _mm512_cmpgt_epu8_mask(load_bytes(value), rank);
            *leaf = _mm512_mask_add_epi8(*leaf, is_right, *leaf, bit);
        }
    }
    stored(leaves)
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn stored<const N: usize>(leaves: [__m512i; N]) -> [Bytes; N] {
    let mut out = [[0; LANES]; N];
    for (leaf, out) in leaves.into_iter().zip(&mut out) {
        store_bytes(leaf, out);
    }
    out
}

/// The row's bytes are looked up in registers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,popcnt")]
pub(super) fn abreast<const N: usize>(
    trees: Abreast<'_, N>,
    row: &[u8; MAX_COLUMNS],
    n_columns: usize,
) -> [Bytes; N] {
    let (parts, _) = row.as_chunks::<LANES>();
    match trees.columns {
        Numbers::Narrow(columns) => {
            let (a, b) = (load_bytes(&parts[0]), load_bytes(&parts[1]));
            let four = [a, b, load_bytes(&parts[2]), load_bytes(&parts[3])];
            sweep(trees, |slot, i| {
                let at = load_bytes(&columns[slot][i]);
                if n_columns <= 64 {
                    _mm512_permutexvar_epi8(at, a)
                } else if n_columns <= 128 {
                    _mm512_permutex2var_epi8(a, at, b)
                } else {
                    look_up(at, four)
                }
            })
        }
        Numbers::Wide(columns) => {
            let n_pages = n_columns.div_ceil(256);
            // The lower bytes of two vectors of numbers, and the upper ones.
            let evens: Bytes = std::array::from_fn(|j| 2 * j as u8);
            let (evens, odds) = (load_bytes(&evens), load_bytes(&evens.map(|j| j + 1)));
            sweep(trees, |slot, i| {
                let (numbers, _) = columns[slot][i].as_chunks();
                let (a, b) = (load_words(&numbers[0]), load_words(&numbers[1]));
                let at = _mm512_permutex2var_epi8(a, evens, b);
                let page_of = _mm512_permutex2var_epi8(a, odds, b);
                let mut values = _mm512_setzero_si512();
                for (page, parts) in parts.as_chunks::<4>().0.iter().take(n_pages).enumerate() {
                    let is_here = _mm512_cmpeq_epi8_mask(page_of, _mm512_set1_epi8(page as i8));
                    let found = look_up(at, parts.each_ref().map(|part| load_bytes(part)));
                    values = _mm512_mask_blend_epi8(is_here, values, found);
                }
                values
            })
        }
    }
}

/// The bytes of 256 at places given by bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,popcnt")]
fn look_up(at: __m512i, [a, b, c, d]: [__m512i; 4]) -> __m512i {
    let low = _mm512_permutex2var_epi8(a, at, b);
    let high = _mm512_permutex2var_epi8(c, at, d);
    _mm512_mask_blend_epi8(_mm512_movepi8_mask(at), low, high)
}

/// The leaves of trees side by side, by the values of the columns of a slot.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,popcnt")]
fn sweep<const N: usize>(
    trees: Abreast<'_, N>,
    values: impl Fn(usize, usize) -> __m512i,
) -> [Bytes; N] {
    let mut leaves = [_mm512_setzero_si512(); N];
    let (mut next, one) = (_mm512_setzero_si512(), _mm512_set1_epi8(1));
    let mut bit = one;
    for (slot, (ranks, froms)) in trees.ranks.iter().zip(trees.froms).enumerate() {
        next = _mm512_add_epi8(next, one);
        for i in 0..N {
            let values = values(slot, i);
            let rank = load_bytes(&ranks[i]);
            leaves[i] = if trees.is_symmetric {
                let is_right = _mm512_cmpgt_epu8_mask(values, rank);
                _mm512_mask_add_epi8(leaves[i], is_right, leaves[i], bit)
            } else {
                moved(leaves[i], values, rank, load_bytes(&froms[i]), next)
            };
        }
        bit = _mm512_add_epi8(bit, bit);
    }
    stored(leaves)
}

/// Eight rows at a time; the leaves are looked up in registers if there are few.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,popcnt")]
pub(super) fn add_double(
    sums: &mut [f64; LANES],
    table: &[f64; PADDING],
    n_leaves: usize,
    leaves: &Bytes,
) {
    let (parts, _) = table.as_chunks::<8>();
    let part = |i: usize| load_doubles(&parts[i]);
    let rows = sums.as_chunks_mut::<8>().0.iter_mut().zip(leaves.as_chunks::<8>().0);
    if n_leaves <= 16 {
        let (a, b) = (part(0), part(1));
        for (sums, leaves) in rows {
            let value = _mm512_permutex2var_pd(a, eight(*leaves), b);
            store_doubles(_mm512_add_pd(load_doubles(sums), value), sums);
        }
    } else if n_leaves <= 32 {
        let (a, b, c, d) = (part(0), part(1), part(2), part(3));
        for (sums, leaves) in rows {
            let at = eight(*leaves);
            let odd = _mm512_test_epi64_mask(at, _mm512_set1_epi64(16));
            let low = _mm512_permutex2var_pd(a, at, b);
            let high = _mm512_permutex2var_pd(c, at, d);
            let value = _mm512_mask_blend_pd(odd, low, high);
            store_doubles(_mm512_add_pd(load_doubles(sums), value), sums);
        }
    } else {
        for (sums, leaves) in rows {
            let value = gather_doubles(table, *leaves);
            store_doubles(_mm512_add_pd(load_doubles(sums), value), sums);
        }
    }
}

/// Eight bytes as indices.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn eight(bytes: [u8; 8]) -> __m512i {
    _mm512_cvtepu8_epi64(_mm_cvtsi64_si128(i64::from_le_bytes(bytes)))
}

/// Sixteen rows at a time, as [`add_double`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,popcnt")]
pub(super) fn add_single(
    sums: &mut [f32; LANES],
    table: &[f32; PADDING],
    n_leaves: usize,
    leaves: &Bytes,
) {
    let (parts, _) = table.as_chunks::<16>();
    let part = |i: usize| load_singles(&parts[i]);
    let rows = sums.as_chunks_mut::<16>().0.iter_mut().zip(leaves.as_chunks::<16>().0);
    if n_leaves <= 32 {
        let (a, b) = (part(0), part(1));
        for (sums, leaves) in rows {
            let value = _mm512_permutex2var_ps(a, sixteen(leaves), b);
            store_singles(_mm512_add_ps(load_singles(sums), value), sums);
        }
    } else if n_leaves <= 64 {
        let (a, b, c, d) = (part(0), part(1), part(2), part(3));
        for (sums, leaves) in rows {
            let at = sixteen(leaves);
            let odd = _mm512_test_epi32_mask(at, _mm512_set1_epi32(32));
            let low = _mm512_permutex2var_ps(a, at, b);
            let high = _mm512_permutex2var_ps(c, at, d);
            let value = _mm512_mask_blend_ps(odd, low, high);
            store_singles(_mm512_add_ps(load_singles(sums), value), sums);
        }
    } else {
        for (sums, leaves) in rows {
            let value = gather_singles(table, leaves);
            store_singles(_mm512_add_ps(load_singles(sums), value), sums);
        }
    }
}

/// Sixteen bytes as indices.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn sixteen(bytes: &[u8; 16]) -> __m512i {
    _mm512_cvtepu8_epi32(load_quarter(bytes))
}
