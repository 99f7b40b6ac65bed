//! Layer normalisation of rows of width *d*, and its gradient.
//!
//! ```text
//! x̂ = (x − mean) / √(variance + ε)          y = x̂ ⊙ scale + shift
//! g = dy ⊙ scale                            dx = (g − mean(g) − x̂ mean(g ⊙ x̂)) / √(variance + ε)
//! dscale = Σ dy ⊙ x̂                         dshift = Σ dy
//! ```

use crate::{
    fused::simd::{looped, sum, sum_pairs},
    nn::norm::EPSILON,
};

/// Mean and 1 / √(variance + ε) of a row.
#[inline(always)]
fn moments(x: &[f32]) -> [f32; 2] {
    let n = x.len() as f32;
    let mean = sum(x, |x| x) / n;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / n;
    [mean, 1.0 / (variance + EPSILON as f32).sqrt()]
}

/// Normalises the rows of `x` into `y`.
pub(super) fn norm(x: &[f32], scale: &[f32], shift: &[f32], y: &mut [f32]) {
    let d = scale.len();
    looped(
        #[inline(always)]
        || {
            for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
                let [mean, factor] = moments(x);
                for (((y, &x), &scale), &shift) in y.iter_mut().zip(x).zip(scale).zip(shift) {
                    *y = (x - mean) * factor * scale + shift;
                }
            }
        },
    );
}

/// Adds to `dx` the slope of the rows `x`, and to those of scale and shift; `dy` is overwritten.
pub(super) fn norm_gradient(
    x: &[f32],
    scale: &[f32],
    dy: &mut [f32],
    dx: &mut [f32],
    dscale: &mut [f32],
    dshift: &mut [f32],
) {
    let d = scale.len();
    let (dscale, dshift) = (&mut dscale[..d], &mut dshift[..d]);
    looped(
        #[inline(always)]
        || {
            for ((x, g), dx) in
                x.chunks_exact(d).zip(dy.chunks_exact_mut(d)).zip(dx.chunks_exact_mut(d))
            {
                let [mean, factor] = moments(x);
                let unit = |x: f32| (x - mean) * factor;
                let slopes = dscale.iter_mut().zip(dshift.iter_mut());
                for (((g, &x), &scale), (dscale, dshift)) in
                    g.iter_mut().zip(x).zip(scale).zip(slopes)
                {
                    *dscale += *g * unit(x);
                    *dshift += *g;
                    *g *= scale;
                }
                let level = sum(g, |g| g) / d as f32;
                let slope = sum_pairs(g, x, |g, x| g * unit(x)) / d as f32;
                for ((dx, &g), &x) in dx.iter_mut().zip(&*g).zip(x) {
                    *dx += factor * (g - level - unit(x) * slope);
                }
            }
        },
    );
}
