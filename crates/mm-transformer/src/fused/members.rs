//! What members of TabM do not share: their views of a row, and their heads.
//!
//! ```text
//! views    y[n, m] = x[n] ⊙ r[m]           dx[n] = Σₘ dy[n, m] ⊙ r[m]     dr[m] = Σₙ dy[n, m] ⊙ x[n]
//! heads    y[n, m] = x[n, m] W[m]          dx[n, m] = dy[n, m] W[m]ᵀ     dW[m] = Σₙ x[n, m]ᵀ dy[n, m]
//! ```

use crate::fused::{
    product::{Left, Panels, Start, product},
    simd::looped,
    tape::Operation,
};

/// The views, of *x* (*n*, *d*) and *r* (*m*, *d*).
#[derive(Debug)]
pub(crate) struct ViewsOperation {
    pub(crate) width: usize,
}

impl Operation<2> for ViewsOperation {
    type Kept = ();

    fn forward(&self, [x, views]: [&[f32]; 2], _: bool) -> (Vec<f32>, ()) {
        let d = self.width;
        let mut out = vec![0.0; x.len() * views.len() / d];
        looped(
            #[inline(always)]
            || {
                for (x, y) in x.chunks_exact(d).zip(out.chunks_exact_mut(views.len())) {
                    for (view, y) in views.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
                        y.iter_mut().zip(x).zip(view).for_each(|((y, x), view)| *y = x * view);
                    }
                }
            },
        );
        (out, ())
    }

    fn gradient(
        &self,
        [x, views]: [&[f32]; 2],
        (): &(),
        _: &[f32],
        slopes: &[f32],
    ) -> [Vec<f32>; 2] {
        let d = self.width;
        let [mut dx, mut dviews] = [x, views].map(|all| vec![0.0; all.len()]);
        looped(
            #[inline(always)]
            || {
                let rows = x.chunks_exact(d).zip(dx.chunks_exact_mut(d));
                for ((x, dx), dy) in rows.zip(slopes.chunks_exact(views.len())) {
                    let views = views.chunks_exact(d).zip(dviews.chunks_exact_mut(d));
                    for ((view, dview), dy) in views.zip(dy.chunks_exact(d)) {
                        let slopes = dx.iter_mut().zip(dview);
                        for ((slopes, dy), (x, view)) in slopes.zip(dy).zip(x.iter().zip(view)) {
                            *slopes.0 += dy * view;
                            *slopes.1 += dy * x;
                        }
                    }
                }
            },
        );
        [dx, dviews]
    }
}

/// The heads, of *x* (*n*, *m*, *d*) and *W* (*m*, *d*, *k*).
#[derive(Debug)]
pub(crate) struct HeadsOperation {
    pub(crate) members: usize,
    pub(crate) width: usize,
    pub(crate) scores: usize,
}

impl Operation<2> for HeadsOperation {
    type Kept = ();

    fn forward(&self, [x, heads]: [&[f32]; 2], _: bool) -> (Vec<f32>, ()) {
        let Self { members, width: d, scores: k } = *self;
        let n = x.len() / (members * d);
        let mut out = vec![0.0; n * members * k];
        let mut right = Panels::default();
        for (member, head) in heads.chunks_exact(d * k).enumerate() {
            right.set(head, k, d, k);
            let x = Left::rows(&x[member * d..], members * d, n);
            product(x, &right, Start::Nothing, &mut out[member * k..], members * k);
        }
        (out, ())
    }

    fn gradient(
        &self,
        [x, heads]: [&[f32]; 2],
        (): &(),
        _: &[f32],
        slopes: &[f32],
    ) -> [Vec<f32>; 2] {
        let Self { members, width: d, scores: k } = *self;
        let n = x.len() / (members * d);
        let [mut dx, mut dheads] = [x, heads].map(|all| vec![0.0; all.len()]);
        let mut right = Panels::default();
        let both = heads.chunks_exact(d * k).zip(dheads.chunks_exact_mut(d * k));
        for (member, (head, dhead)) in both.enumerate() {
            let slopes = &slopes[member * k..];
            right.set_transposed(head, k, k, d);
            let left = Left::rows(slopes, members * k, n);
            product(left, &right, Start::Nothing, &mut dx[member * d..], members * d);
            right.set(slopes, members * k, n, k);
            let turned = Left::columns(&x[member * d..], members * d, d);
            product(turned, &right, Start::Nothing, dhead, k);
        }
        [dx, dheads]
    }
}
