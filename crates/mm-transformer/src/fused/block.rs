//! The pre-norm block, forward.
//!
//! ```text
//! z = norm(x)                                   q, k, v = zQ, zK, zV
//! m = x + drop(attention(q, k, v) O)
//! y = m + drop((nU ⊙ gate(nG), dropped) D)      n = norm(m)
//! ```
//!
//! each map with its bias. Rows go through in chunks of some 256 vectors. For the gradient the
//! arrays *q*, *k*, *v*, the shares, what they mix, *m*, *nU*, and *nG* are kept; norms, gates, and
//! factors of dropout are made anew.

use std::sync::{Arc, OnceLock};

use crate::{
    fused::{
        attention::{Asked, Heads, Scratch, Setting, rotate},
        buffer::Buffer,
        gate::gated,
        norm::norm,
        product::{Left, Panels, Start, product},
        simd::{add, multiply},
        tape::Operation,
    },
    nn::{attention::Mask, feed_forward::Gate, pass::Dropout},
};

/// Where the arrays of a block stand among the operation's inputs: matrices, each with its bias
/// behind it; norms, each scale with its shift behind it; and the bias of distances.
pub(crate) mod input {
    pub(crate) const X: usize = 0;
    pub(crate) const NORM: usize = 1;
    pub(crate) const QUERY: usize = 3;
    pub(crate) const KEY: usize = 5;
    pub(crate) const VALUE: usize = 7;
    pub(crate) const OUT: usize = 9;
    pub(crate) const HIDDEN_NORM: usize = 11;
    pub(crate) const UP: usize = 13;
    pub(crate) const GATE: usize = 15;
    pub(crate) const DOWN: usize = 17;
    pub(crate) const RELATIVE: usize = 19;
    /// How many there are.
    pub(crate) const COUNT: usize = 20;
}

/// Vectors of a chunk: with the default width some 200 kB an array.
const CHUNK: usize = 256;

/// A block as an operation on arrays.
#[derive(Debug)]
pub(crate) struct BlockOperation {
    pub(crate) rows: usize,
    pub(crate) heads: Heads,
    pub(crate) hidden: usize,
    pub(crate) gate: Gate,
    /// Whether there is a norm before attention; without, [`input::NORM`] is not read.
    pub(crate) normed: bool,
    /// Whether distances have a bias; without, [`input::RELATIVE`] is not read.
    pub(crate) relative: bool,
    pub(crate) mask: Option<Mask>,
    /// The angles of rotary positions.
    pub(crate) turns: Option<Arc<[[f32; 2]]>>,
    pub(crate) dropout: Drops,
    /// The matrices as products take them; made at the first call.
    pub(crate) maps: Arc<OnceLock<Maps>>,
}

/// What is dropped in a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drops {
    pub(crate) shares: Option<Dropout>,
    pub(crate) attended: Option<Dropout>,
    pub(crate) hidden: Option<Dropout>,
    pub(crate) out: Option<Dropout>,
}

/// The matrices of a block, laid out for products.
#[derive(Debug)]
pub(crate) struct Maps {
    pub(super) query: Panels,
    pub(super) key: Panels,
    pub(super) value: Panels,
    pub(super) out: Panels,
    pub(super) up: Panels,
    pub(super) gate: Panels,
    pub(super) down: Panels,
}

impl Maps {
    fn new(inputs: &[&[f32]], d: usize, h: usize) -> Self {
        Self::each(d, h, |at, from, to| Panels::new(inputs[at], to, from, to))
    }

    pub(super) fn transposed(inputs: &[&[f32]], d: usize, h: usize) -> Self {
        Self::each(d, h, |at, from, to| Panels::transposed(inputs[at], to, to, from))
    }

    /// Lays out each by its place among the inputs and its shape, (from, to).
    fn each(d: usize, h: usize, map: impl Fn(usize, usize, usize) -> Panels) -> Self {
        Self {
            query: map(input::QUERY, d, d),
            key: map(input::KEY, d, d),
            value: map(input::VALUE, d, d),
            out: map(input::OUT, d, d),
            up: map(input::UP, d, h),
            gate: map(input::GATE, d, h),
            down: map(input::DOWN, h, d),
        }
    }
}

/// What is kept for the gradient: queries, keys, values, shares, what they mix, *m*, *nU*, *nG*.
pub(crate) type Kept<T = Buffer> = [T; 8];

impl BlockOperation {
    /// Numbers of each kept array for one row.
    fn kept_a_row(&self) -> Kept<usize> {
        let Heads { width: d, asking: q, tokens: t, .. } = self.heads;
        let h = self.hidden;
        [q * d, t * d, t * d, self.heads.shares(), q * d, q * d, q * h, q * h]
    }

    /// Of kept arrays the part of `n` rows from `first` on.
    pub(super) fn part<'a>(&self, kept: &'a Kept, first: usize, n: usize) -> Kept<&'a [f32]> {
        let mut sizes = self.kept_a_row().into_iter();
        kept.each_ref().map(|all| {
            let size = sizes.next().unwrap_or(0);
            &all[first * size..][..n * size]
        })
    }

    fn part_mut<'a>(&self, kept: &'a mut Kept, first: usize, n: usize) -> Kept<&'a mut [f32]> {
        let mut sizes = self.kept_a_row().into_iter();
        kept.each_mut().map(|all| {
            let size = sizes.next().unwrap_or(0);
            &mut all[first * size..][..n * size]
        })
    }

    /// First row and number of rows of each chunk.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (rows, step) = (self.rows, self.rows_a_chunk());
        (0..rows).step_by(step).map(move |first| (first, (rows - first).min(step)))
    }

    pub(super) fn rows_a_chunk(&self) -> usize {
        (CHUNK / self.heads.tokens.max(1)).clamp(1, self.rows.max(1))
    }

    pub(super) fn setting<'a>(&'a self, inputs: &[&'a [f32]]) -> Setting<'a> {
        let relative = self.relative.then(|| inputs[input::RELATIVE]);
        Setting { heads: self.heads, mask: self.mask.as_ref(), relative }
    }

    /// How many numbers lie between the vectors that ask: all do, or the first of each row.
    pub(super) fn asking_stride(&self) -> usize {
        let Heads { width: d, asking: q, tokens: t, .. } = self.heads;
        if q == t { d } else { t * d }
    }

    /// What attention reads: *x* normalised, or *x*.
    pub(super) fn normed<'a>(
        &self,
        inputs: &[&[f32]],
        x: &'a [f32],
        room: &'a mut [f32],
    ) -> &'a [f32] {
        if !self.normed {
            return x;
        }
        let room = &mut room[..x.len()];
        norm(x, inputs[input::NORM], inputs[input::NORM + 1], room);
        room
    }

    /// The factors of `n` rows from `first` on, of `size` numbers each.
    pub(super) fn factors(
        dropout: Option<Dropout>,
        (first, n): (usize, usize),
        size: usize,
        room: &mut [f32],
    ) -> Option<&[f32]> {
        let dropout = dropout?;
        let room = &mut room[..n * size];
        for (row, room) in (first..).zip(room.chunks_exact_mut(size)) {
            dropout.factors(row, room);
        }
        Some(room)
    }

    /// The largest number of factors that one kind of dropout needs for one row.
    pub(super) fn factors_a_row(&self) -> usize {
        let Heads { width: d, asking: q, .. } = self.heads;
        self.heads.shares().max(q * self.hidden.max(d))
    }

    fn forward_chunk(
        &self,
        inputs: &[&[f32]],
        (first, n): (usize, usize),
        kept: Kept<&mut [f32]>,
        room: &mut Room,
        y: &mut [f32],
    ) {
        let Heads { width: d, asking: q, tokens: t, .. } = self.heads;
        let maps = self.maps.get_or_init(|| Maps::new(inputs, d, self.hidden));
        let bias = |at: usize| Start::Bias(inputs[at + 1]);
        let [queries, keys, values, shares, mixed, middle, up, gate] = kept;
        let x = &inputs[input::X][first * t * d..][..n * t * d];

        let z = self.normed(inputs, x, &mut room.normed);
        let asking = Left::rows(z, self.asking_stride(), n * q);
        product(asking, &maps.query, bias(input::QUERY), queries, d);
        product(Left::rows(z, d, n * t), &maps.key, bias(input::KEY), keys, d);
        product(Left::rows(z, d, n * t), &maps.value, bias(input::VALUE), values, d);
        if let Some(turns) = &self.turns {
            rotate(queries, &self.heads, q, turns, false);
            rotate(keys, &self.heads, t, turns, false);
        }
        let setting = self.setting(inputs);
        let pairs = self.heads.shares();
        for i in 0..n {
            let asked = Asked {
                row: first + i,
                queries: &queries[i * q * d..],
                keys: &keys[i * t * d..],
                values: &values[i * t * d..],
                factors: Self::factors(
                    self.dropout.shares,
                    (first + i, 1),
                    pairs,
                    &mut room.factors,
                ),
            };
            let shares = &mut shares[i * pairs..][..pairs];
            setting.attend(asked, shares, &mut mixed[i * q * d..], &mut room.attention);
        }

        product(Left::rows(mixed, d, n * q), &maps.out, bias(input::OUT), middle, d);
        let rows = (first, n);
        if let Some(f) = Self::factors(self.dropout.attended, rows, q * d, &mut room.factors) {
            multiply(middle, f);
        }
        for (middle, x) in middle.chunks_exact_mut(q * d).zip(x.chunks_exact(t * d)) {
            add(middle, &x[..q * d]);
        }

        let normed = &mut room.normed[..n * q * d];
        norm(middle, inputs[input::HIDDEN_NORM], inputs[input::HIDDEN_NORM + 1], normed);
        let h = self.hidden;
        product(Left::rows(normed, d, n * q), &maps.up, bias(input::UP), up, h);
        product(Left::rows(normed, d, n * q), &maps.gate, bias(input::GATE), gate, h);
        let f = Self::factors(self.dropout.hidden, rows, q * h, &mut room.factors);
        let hidden = &mut room.hidden[..n * q * h];
        gated(self.gate, up, gate, f, hidden);
        product(Left::rows(hidden, h, n * q), &maps.down, bias(input::DOWN), y, d);
        if let Some(f) = Self::factors(self.dropout.out, rows, q * d, &mut room.factors) {
            multiply(y, f);
        }
        add(y, middle);
    }
}

/// What one chunk needs for its time.
struct Room {
    normed: Buffer,
    hidden: Buffer,
    factors: Buffer,
    attention: Scratch,
}

impl Operation<{ input::COUNT }> for BlockOperation {
    type Kept = Kept;

    fn forward(&self, inputs: [&[f32]; input::COUNT], keeps: bool) -> (Vec<f32>, Kept) {
        let Heads { width: d, asking: q, tokens: t, .. } = self.heads;
        let rows = self.rows_a_chunk();
        let drops =
            [self.dropout.shares, self.dropout.attended, self.dropout.hidden, self.dropout.out];
        let any = usize::from(drops.iter().any(Option::is_some));
        let mut room = Room {
            normed: Buffer::new(rows * t * d),
            hidden: Buffer::new(rows * q * self.hidden),
            factors: Buffer::new(any * rows * self.factors_a_row()),
            attention: Scratch::new(&self.heads),
        };
        let rows = if keeps { self.rows } else { rows };
        let mut kept = self.kept_a_row().map(|size| Buffer::new(rows * size));
        let mut out = vec![0.0; self.rows * q * d];
        for ((first, n), y) in self.chunks().zip(out.chunks_mut(self.rows_a_chunk() * q * d)) {
            let part = self.part_mut(&mut kept, if keeps { first } else { 0 }, n);
            self.forward_chunk(&inputs, (first, n), part, &mut room, y);
        }
        (out, kept)
    }

    fn gradient(
        &self,
        inputs: [&[f32]; input::COUNT],
        kept: &Kept,
        _: &[f32],
        slopes: &[f32],
    ) -> [Vec<f32>; input::COUNT] {
        self.block_gradient(&inputs, kept, slopes)
    }
}
