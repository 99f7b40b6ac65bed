//! The pre-norm block, backward; names as in `block.rs`.
//!
//! ```text
//! dw = drop(dy)                     dD = hiddenᵀ dw           dhidden = dw Dᵀ
//! dnU, dnG: see `gate.rs`           dU = nᵀ dnU               dn = dnU Uᵀ + dnG Gᵀ
//! dm = dy + norm′(dn)               da = drop(dm)             dO = mixedᵀ da
//! dq, dk, dv: see `attention.rs`    dQ = zᵀ dq                dz = dq Qᵀ + dk Kᵀ + dv Vᵀ
//! dx = dm + norm′(dz)
//! ```
//!
//! Gradients of weights are added up chunk by chunk, in order.

use crate::fused::{
    attention::{Asked, Heads, Scratch, rotate},
    block::{BlockOperation, Kept, Maps, input},
    buffer::Buffer,
    gate::{gated, gated_gradient},
    norm::{norm, norm_gradient},
    product::{Left, Panels, Start, product},
    simd::{add, add_rows, multiply},
};

/// What one chunk needs for its time.
struct Room {
    right: Panels,
    normed: Buffer,
    /// Two arrays of the width of the feed-forward layer.
    hidden: [Buffer; 2],
    /// Slopes of *m*, and a copy that is dropped from.
    middle: [Buffer; 2],
    /// Slopes of normalised vectors.
    dnormed: Buffer,
    /// Slopes of queries, keys, values.
    asked: [Buffer; 3],
    factors: Buffer,
    attention: Scratch,
}

impl BlockOperation {
    pub(super) fn block_gradient(
        &self,
        inputs: &[&[f32]; input::COUNT],
        kept: &Kept,
        slopes: &[f32],
    ) -> [Vec<f32>; input::COUNT] {
        let Heads { width: d, asking: q, tokens: t, .. } = self.heads;
        let (rows, h) = (self.rows_a_chunk(), self.hidden);
        let turned = Maps::transposed(inputs, d, h);
        let mut room = Room {
            right: Panels::default(),
            normed: Buffer::new(rows * t * d),
            hidden: [(); 2].map(|()| Buffer::new(rows * q * h)),
            middle: [(); 2].map(|()| Buffer::new(rows * q * d)),
            dnormed: Buffer::new(rows * t * d),
            asked: [q, t, t].map(|vectors| Buffer::new(rows * vectors * d)),
            factors: Buffer::new(rows * self.factors_a_row()),
            attention: Scratch::new(&self.heads),
        };
        let mut out = inputs.map(|input| vec![0.0; input.len()]);
        for ((first, n), dy) in self.chunks().zip(slopes.chunks(rows * q * d)) {
            let kept = self.part(kept, first, n);
            self.hidden_gradient(inputs, &turned, (first, n), &kept, dy, &mut room, &mut out);
            self.attention_gradient(inputs, &turned, (first, n), &kept, &mut room, &mut out);
        }
        out
    }

    /// From the slopes of *y* to those of *m*, which are left in the room.
    #[expect(clippy::too_many_arguments, reason = "one half of one function")]
    fn hidden_gradient(
        &self,
        inputs: &[&[f32]],
        turned: &Maps,
        rows: (usize, usize),
        kept: &Kept<&[f32]>,
        dy: &[f32],
        room: &mut Room,
        out: &mut [Vec<f32>],
    ) {
        let Heads { width: d, asking: q, .. } = self.heads;
        let (h, vectors) = (self.hidden, rows.1 * q);
        let [.., middle, up, gate] = *kept;
        let [dmiddle, dropped] = room.middle.each_mut().map(|all| &mut all[..vectors * d]);
        let [hidden, dhidden] = room.hidden.each_mut().map(|all| &mut all[..vectors * h]);

        dropped.copy_from_slice(dy);
        if let Some(f) = Self::factors(self.dropout.out, rows, q * d, &mut room.factors) {
            multiply(dropped, f);
        }
        let f = Self::factors(self.dropout.hidden, rows, q * h, &mut room.factors);
        gated(self.gate, up, gate, f, hidden);
        map_gradient(Left::columns(hidden, h, h), dropped, d, input::DOWN, &mut room.right, out);
        product(Left::rows(dropped, d, vectors), &turned.down, Start::Nothing, dhidden, h);

        // The gated values are needed no more: their place takes the slopes of the gates.
        let dgate = hidden;
        gated_gradient(self.gate, up, gate, f, dhidden, dgate);
        let normed = &mut room.normed[..vectors * d];
        norm(middle, inputs[input::HIDDEN_NORM], inputs[input::HIDDEN_NORM + 1], normed);
        let left = Left::columns(normed, d, d);
        map_gradient(left, dhidden, h, input::UP, &mut room.right, out);
        map_gradient(left, dgate, h, input::GATE, &mut room.right, out);
        let dnormed = &mut room.dnormed[..vectors * d];
        product(Left::rows(dhidden, h, vectors), &turned.up, Start::Nothing, dnormed, d);
        product(Left::rows(dgate, h, vectors), &turned.gate, Start::Sum, dnormed, d);

        dmiddle.copy_from_slice(dy);
        let scale = inputs[input::HIDDEN_NORM];
        let [dscale, dshift] = two(out, input::HIDDEN_NORM);
        norm_gradient(middle, scale, dnormed, dmiddle, dscale, dshift);
    }

    /// From the slopes of *m* to those of *x*.
    fn attention_gradient(
        &self,
        inputs: &[&[f32]],
        turned: &Maps,
        (first, n): (usize, usize),
        kept: &Kept<&[f32]>,
        room: &mut Room,
        out: &mut [Vec<f32>],
    ) {
        let Heads { width: d, asking: q, tokens: t, .. } = self.heads;
        let [queries, keys, values, shares, mixed, ..] = *kept;
        let [dmiddle, dropped] = room.middle.each_mut().map(|all| &mut all[..n * q * d]);
        dropped.copy_from_slice(dmiddle);
        let factors = &mut room.factors;
        if let Some(f) = Self::factors(self.dropout.attended, (first, n), q * d, factors) {
            multiply(dropped, f);
        }
        map_gradient(Left::columns(mixed, d, d), dropped, d, input::OUT, &mut room.right, out);
        let dmixed = &mut room.dnormed[..n * q * d];
        product(Left::rows(dropped, d, n * q), &turned.out, Start::Nothing, dmixed, d);

        let setting = self.setting(inputs);
        let pairs = self.heads.shares();
        let [dqueries, dkeys, dvalues] = &mut room.asked;
        for i in 0..n {
            let asked = Asked {
                row: first + i,
                queries: &queries[i * q * d..],
                keys: &keys[i * t * d..],
                values: &values[i * t * d..],
                factors: Self::factors(self.dropout.shares, (first + i, 1), pairs, factors),
            };
            let slopes =
                [&mut dqueries[i * q * d..], &mut dkeys[i * t * d..], &mut dvalues[i * t * d..]];
            let shares = &shares[i * pairs..][..pairs];
            let (dmixed, dbias) = (&dmixed[i * q * d..], &mut out[input::RELATIVE]);
            setting.gradient(asked, shares, dmixed, slopes, dbias, &mut room.attention);
        }
        let (dqueries, dkeys) = (&mut dqueries[..n * q * d], &mut dkeys[..n * t * d]);
        let dvalues = &dvalues[..n * t * d];
        if let Some(turns) = &self.turns {
            rotate(dqueries, &self.heads, q, turns, true);
            rotate(dkeys, &self.heads, t, turns, true);
        }

        let x = &inputs[input::X][first * t * d..][..n * t * d];
        let z = self.normed(inputs, x, &mut room.normed);
        let stride = self.asking_stride();
        map_gradient(Left::columns(z, stride, d), dqueries, d, input::QUERY, &mut room.right, out);
        map_gradient(Left::columns(z, d, d), dkeys, d, input::KEY, &mut room.right, out);
        map_gradient(Left::columns(z, d, d), dvalues, d, input::VALUE, &mut room.right, out);
        let dz = &mut room.dnormed[..n * t * d];
        product(Left::rows(dkeys, d, n * t), &turned.key, Start::Nothing, dz, d);
        product(Left::rows(dvalues, d, n * t), &turned.value, Start::Sum, dz, d);
        product(Left::rows(dqueries, d, n * q), &turned.query, Start::Sum, dz, stride);

        let mut all = std::mem::take(&mut out[input::X]);
        let dx = &mut all[first * t * d..][..n * t * d];
        for (dx, dmiddle) in dx.chunks_exact_mut(t * d).zip(dmiddle.chunks_exact(q * d)) {
            dx[..q * d].copy_from_slice(dmiddle);
        }
        if self.normed {
            let [dscale, dshift] = two(out, input::NORM);
            norm_gradient(x, inputs[input::NORM], dz, dx, dscale, dshift);
        } else {
            add(dx, dz);
        }
        out[input::X] = all;
    }
}

/// Adds to the slopes of the matrix at `at`, which is of width `n`, and of the bias behind it.
fn map_gradient(
    turned: Left<'_>,
    slopes: &[f32],
    n: usize,
    at: usize,
    right: &mut Panels,
    out: &mut [Vec<f32>],
) {
    right.set(slopes, n, slopes.len() / n, n);
    let [weight, bias] = two(out, at);
    product(turned, right, Start::Sum, weight, n);
    add_rows(bias, slopes);
}

/// Two neighbours.
fn two(out: &mut [Vec<f32>], at: usize) -> [&mut [f32]; 2] {
    let (before, after) = out.split_at_mut(at + 1);
    [&mut before[at], &mut after[0]]
}
