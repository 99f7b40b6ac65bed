//! A linear map, then a ReLU and dropout if asked for.
//!
//! ```text
//! y = drop(relu(xW + b))          dz = dy ⊙ 1(0 < y) / (1 − rate)
//! dW = xᵀ dz     db = Σ dz        dx = dz Wᵀ
//! ```
//!
//! Where something was dropped or not above 0, *y* is 0, so *y* says what dropout did.

use std::sync::{Arc, OnceLock};

use crate::{
    fused::{
        buffer::Buffer,
        product::{Left, Panels, Start, product},
        simd::{add_rows, looped},
        tape::Operation,
    },
    nn::pass::Dropout,
};

/// What follows the linear map.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    Nothing,
    Relu(Option<Dropout>),
}

/// The layer as an operation on *x*, *W*, and *b*.
#[derive(Debug)]
pub(crate) struct DenseOperation {
    /// Rows of a batch, and vectors of a row.
    pub(crate) rows: usize,
    pub(crate) vectors: usize,
    /// Shape of *W*.
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) ending: Ending,
    /// *W* as products take it; made at the first call.
    pub(crate) map: Arc<OnceLock<Panels>>,
}

/// Vectors of a chunk.
const CHUNK: usize = 256;

impl DenseOperation {
    fn rows_a_chunk(&self) -> usize {
        (CHUNK / self.vectors.max(1)).max(1)
    }
}

impl Operation<3> for DenseOperation {
    type Kept = ();

    fn forward(&self, [x, weight, bias]: [&[f32]; 3], _: bool) -> (Vec<f32>, ()) {
        let Self { from, to, vectors, .. } = *self;
        let map = self.map.get_or_init(|| Panels::new(weight, to, from, to));
        let mut out = vec![0.0; self.rows * vectors * to];
        let step = self.rows_a_chunk();
        let mut factors = Buffer::new(vectors * to);
        for (chunk, y) in out.chunks_mut(step * vectors * to).enumerate() {
            let x = &x[chunk * step * vectors * from..];
            product(Left::rows(x, from, y.len() / to), map, Start::Bias(bias), y, to);
            match self.ending {
                Ending::Nothing => {}
                Ending::Relu(None) => looped(
                    #[inline(always)]
                    || y.iter_mut().for_each(|y| *y = relu(*y)),
                ),
                Ending::Relu(Some(dropout)) => {
                    for (row, y) in (chunk * step..).zip(y.chunks_exact_mut(vectors * to)) {
                        dropout.factors(row, &mut factors);
                        looped(
                            #[inline(always)]
                            || {
                                y.iter_mut().zip(&*factors).for_each(|(y, f)| *y = relu(*y) * f);
                            },
                        );
                    }
                }
            }
        }
        (out, ())
    }

    fn gradient(
        &self,
        [x, weight, bias]: [&[f32]; 3],
        (): &(),
        output: &[f32],
        slopes: &[f32],
    ) -> [Vec<f32>; 3] {
        let Self { from, to, vectors, .. } = *self;
        let turned = Panels::transposed(weight, to, to, from);
        let [mut dx, mut dweight, mut dbias] = [x, weight, bias].map(|all| vec![0.0; all.len()]);
        let size = self.rows_a_chunk() * vectors;
        let (mut right, mut room) = (Panels::default(), Buffer::new(size * to));
        let inputs = x.chunks(size * from).zip(dx.chunks_mut(size * from));
        let outputs = output.chunks(size * to).zip(slopes.chunks(size * to));
        for ((x, dx), (y, dy)) in inputs.zip(outputs) {
            let dz = match self.ending {
                Ending::Nothing => dy,
                Ending::Relu(dropout) => {
                    let factor = dropout.map_or(1.0, |dropout| dropout.kept_factor());
                    let room = &mut room[..dy.len()];
                    looped(
                        #[inline(always)]
                        || {
                            for ((dz, &dy), &y) in room.iter_mut().zip(dy).zip(y) {
                                *dz = if 0.0 < y { dy * factor } else { 0.0 };
                            }
                        },
                    );
                    &*room
                }
            };
            let n = dz.len() / to;
            product(Left::rows(dz, to, n), &turned, Start::Nothing, dx, from);
            right.set(dz, to, n, to);
            product(Left::columns(x, from, from), &right, Start::Sum, &mut dweight, to);
            add_rows(&mut dbias, dz);
        }
        [dx, dweight, dbias]
    }
}

/// max(0, *x*), and NaN for NaN.
#[inline(always)]
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}
