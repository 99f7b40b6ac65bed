//! Attention of one row, and its gradient.
//!
//! For each head, with *Q* of shape (*q*, *h*), *K* and *V* of shape (*t*, *h*), and factors *F* of dropout:
//!
//! ```text
//! P = softmax(QKᵀ/√h + bias), where visible        O = (P ⊙ F) V
//!
//! dV = (P ⊙ F)ᵀ dO        dP = F ⊙ (dO Vᵀ)        dS: see `softmax.rs`
//! dQ = dS K/√h            dK = dSᵀ Q/√h           dbias = dS
//! ```
//!
//! The heads of a vector stand side by side, so all matrices are read in place.

use std::ops::Range;

use crate::{
    fused::{
        buffer::Buffer,
        product::{Left, Panels, Start, product},
        simd::{looped, multiply},
        softmax::{softmax, softmax_gradient},
    },
    nn::attention::Mask,
};

/// Sizes of an attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heads {
    pub(crate) width: usize,
    pub(crate) count: usize,
    /// Vectors that ask, the first of a row, and vectors that are asked.
    pub(crate) asking: usize,
    pub(crate) tokens: usize,
}

impl Heads {
    fn head_width(&self) -> usize {
        self.width / self.count
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_width() as f32).sqrt()
    }

    /// Shares of one head of one row.
    fn pairs(&self) -> usize {
        self.asking * self.tokens
    }

    /// Shares of one row.
    pub(super) fn shares(&self) -> usize {
        self.count * self.pairs()
    }

    /// The keys that `query` of row `row` sees.
    fn visible(&self, mask: Option<&Mask>, row: usize, query: usize) -> Range<usize> {
        mask.map_or(0..self.tokens, |mask| mask.visible(row, query))
    }

    /// The biases of `query` of a head, key by key, in the table (heads, 2*t* − 1) of distances,
    /// which begins with −(*t* − 1); so they stand in reverse.
    fn biases(&self, head: usize, query: usize) -> Range<usize> {
        let first = head * (2 * self.tokens - 1) + query;
        first..first + self.tokens
    }
}

/// What one row's attention needs for its time.
#[derive(Debug)]
pub(super) struct Scratch {
    right: Panels,
    dropped: Buffer,
    slopes: Buffer,
}

impl Scratch {
    pub(super) fn new(heads: &Heads) -> Self {
        let [dropped, slopes] = [(); 2].map(|()| Buffer::new(heads.pairs()));
        Self { right: Panels::default(), dropped, slopes }
    }

    /// Shares after dropout, if there is any.
    fn dropped<'a>(&'a mut self, shares: &'a [f32], factors: Option<&[f32]>) -> &'a [f32] {
        let Some(factors) = factors else { return shares };
        self.dropped.copy_from_slice(shares);
        multiply(&mut self.dropped, factors);
        &self.dropped
    }
}

/// What is the same for all rows of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) heads: Heads,
    pub(super) mask: Option<&'a Mask>,
    pub(super) relative: Option<&'a [f32]>,
}

/// The arrays of one row: queries (*q*, *d*), keys and values (*t*, *d*), factors of its shares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) row: usize,
    pub(super) queries: &'a [f32],
    pub(super) keys: &'a [f32],
    pub(super) values: &'a [f32],
    pub(super) factors: Option<&'a [f32]>,
}

impl Setting<'_> {
    /// Fills `shares` (heads, *q*, *t*) and `mixed` (*q*, *d*).
    pub(super) fn attend(
        &self,
        asked: Asked<'_>,
        shares: &mut [f32],
        mixed: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let Asked { row, queries, keys, values, factors } = asked;
        let Heads { width: d, asking: q, tokens: t, .. } = self.heads;
        let (h, pairs) = (self.heads.head_width(), self.heads.pairs());
        for (head, shares) in shares.chunks_exact_mut(pairs).enumerate() {
            let from = head * h;
            scratch.right.set_transposed(&keys[from..], d, h, t);
            let asks = Left::rows(&queries[from..], d, q);
            product(asks, &scratch.right, Start::Nothing, shares, t);
            self.finish_shares(row, head, shares);
            scratch.right.set(&values[from..], d, t, h);
            let factors = factors.map(|f| &f[head * pairs..][..pairs]);
            let right = std::mem::take(&mut scratch.right);
            let dropped = Left::rows(scratch.dropped(shares, factors), t, q);
            product(dropped, &right, Start::Nothing, &mut mixed[from..], d);
            scratch.right = right;
        }
    }

    /// Turns products of queries and keys into shares.
    fn finish_shares(&self, row: usize, head: usize, shares: &mut [f32]) {
        let heads = &self.heads;
        let scale = heads.scale();
        looped(
            #[inline(always)]
            || {
                for (query, shares) in shares.chunks_exact_mut(heads.tokens).enumerate() {
                    for s in shares.iter_mut() {
                        *s *= scale;
                    }
                    if let Some(table) = self.relative {
                        let biases = &table[heads.biases(head, query)];
                        shares.iter_mut().zip(biases.iter().rev()).for_each(|(s, b)| *s += b);
                    }
                    let seen = heads.visible(self.mask, row, query);
                    shares[..seen.start].fill(0.0);
                    shares[seen.end..].fill(0.0);
                    softmax(&mut shares[seen]);
                }
            },
        );
    }

    /// Fills the slopes of queries, keys, and values from those of `mixed`, and adds to those of
    /// the bias.
    pub(super) fn gradient(
        &self,
        asked: Asked<'_>,
        shares: &[f32],
        dmixed: &[f32],
        [dqueries, dkeys, dvalues]: [&mut [f32]; 3],
        drelative: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let Asked { queries, keys, values, factors, .. } = asked;
        let Heads { width: d, asking: q, tokens: t, .. } = self.heads;
        let (h, pairs) = (self.heads.head_width(), self.heads.pairs());
        for (head, shares) in shares.chunks_exact(pairs).enumerate() {
            let from = head * h;
            let factors = factors.map(|f| &f[head * pairs..][..pairs]);
            let mut right = std::mem::take(&mut scratch.right);
            right.set(&dmixed[from..], d, q, h);
            let dropped = Left::columns(scratch.dropped(shares, factors), t, t);
            product(dropped, &right, Start::Nothing, &mut dvalues[from..], d);

            right.set_transposed(&values[from..], d, h, t);
            let slopes = &mut *scratch.slopes;
            product(Left::rows(&dmixed[from..], d, q), &right, Start::Nothing, slopes, t);
            if let Some(factors) = factors {
                multiply(slopes, factors);
            }
            self.finish_slopes(head, shares, slopes, drelative);

            right.set(&keys[from..], d, t, h);
            product(Left::rows(slopes, t, q), &right, Start::Nothing, &mut dqueries[from..], d);
            right.set(&queries[from..], d, q, h);
            product(Left::columns(slopes, t, t), &right, Start::Nothing, &mut dkeys[from..], d);
            scratch.right = right;
        }
    }

    /// Turns slopes of shares into slopes of products of queries and keys.
    fn finish_slopes(
        &self,
        head: usize,
        shares: &[f32],
        slopes: &mut [f32],
        drelative: &mut [f32],
    ) {
        let heads = &self.heads;
        let (t, scale) = (heads.tokens, heads.scale());
        looped(
            #[inline(always)]
            || {
                let rows = shares.chunks_exact(t).zip(slopes.chunks_exact_mut(t));
                for (query, (shares, slopes)) in rows.enumerate() {
                    softmax_gradient(shares, slopes);
                    if self.relative.is_some() {
                        let biases = &mut drelative[heads.biases(head, query)];
                        biases.iter_mut().rev().zip(&*slopes).for_each(|(b, s)| *b += s);
                    }
                    for s in slopes.iter_mut() {
                        *s *= scale;
                    }
                }
            },
        );
    }
}

/// Turns the pairs of components of each head by the angles of `turns` (steps, half a head's width:
/// cosine and sine), or back.
pub(super) fn rotate(x: &mut [f32], heads: &Heads, steps: usize, turns: &[[f32; 2]], back: bool) {
    let half = heads.head_width() / 2;
    let sign = if back { -1.0 } else { 1.0 };
    looped(
        #[inline(always)]
        || {
            for (token, vector) in x.chunks_exact_mut(heads.width).enumerate() {
                let turns = &turns[token % steps * half..][..half];
                for head in vector.chunks_exact_mut(2 * half) {
                    for (pair, &[cosine, sine]) in head.as_chunks_mut::<2>().0.iter_mut().zip(turns)
                    {
                        let ([a, b], sine) = (*pair, sign * sine);
                        *pair = [a * cosine - b * sine, b * cosine + a * sine];
                    }
                }
            }
        },
    );
}
