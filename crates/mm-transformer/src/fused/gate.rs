//! Gates between the maps of a feed-forward layer, and their gradients.
//!
//! ```text
//! y = v ⊙ open(g) ⊙ f          dv = dy ⊙ open(g) ⊙ f          dg = dy ⊙ v ⊙ open′(g) ⊙ f
//! ```
//!
//! with factors *f* of dropout. For GEGLU *open*(*g*) = *g* Φ(*g*), and Φ comes from formula 7.1.26 of
//! Abramowitz and Stegun (1964), whose error is below 10⁻⁷.

use crate::{
    fused::simd::{exp, looped, multiply},
    nn::feed_forward::Gate,
};

/// Φ(*x*) and exp(−*x*²/2).
#[inline(always)]
fn normal(x: f32) -> [f32; 2] {
    let bell = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2 * x.abs());
    let mut tail = 1.061_405_4;
    for c in [-1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6] {
        tail = tail * t + c;
    }
    let tail = 0.5 * tail * t * bell;
    [if x < 0.0 { tail } else { 1.0 - tail }, bell]
}

/// *open*(*g*) and its slope.
#[inline(always)]
fn open<const GEGLU: bool>(g: f32) -> [f32; 2] {
    if GEGLU {
        const DENSITY: f32 = 0.398_942_3;
        let [phi, bell] = normal(g);
        [g * phi, phi + g * bell * DENSITY]
    } else if 0.0 < g {
        [g, 1.0]
    } else {
        [0.0, 0.0]
    }
}

/// Writes the gated values into `y`.
pub(super) fn gated(gate: Gate, v: &[f32], g: &[f32], f: Option<&[f32]>, y: &mut [f32]) {
    match gate {
        Gate::Reglu => gated_by::<false>(v, g, y),
        Gate::Geglu => gated_by::<true>(v, g, y),
    }
    if let Some(f) = f {
        multiply(y, f);
    }
}

fn gated_by<const GEGLU: bool>(v: &[f32], g: &[f32], y: &mut [f32]) {
    looped(
        #[inline(always)]
        || {
            for ((y, &v), &g) in y.iter_mut().zip(v).zip(g) {
                *y = v * open::<GEGLU>(g)[0];
            }
        },
    );
}

/// Turns slopes of the gated values in `dv` into slopes of `v`, and writes those of `g` into `dg`.
pub(super) fn gated_gradient(
    gate: Gate,
    v: &[f32],
    g: &[f32],
    f: Option<&[f32]>,
    dv: &mut [f32],
    dg: &mut [f32],
) {
    if let Some(f) = f {
        multiply(dv, f);
    }
    match gate {
        Gate::Reglu => gradient_by::<false>(v, g, dv, dg),
        Gate::Geglu => gradient_by::<true>(v, g, dv, dg),
    }
}

fn gradient_by<const GEGLU: bool>(v: &[f32], g: &[f32], dv: &mut [f32], dg: &mut [f32]) {
    looped(
        #[inline(always)]
        || {
            for (((dv, dg), &v), &g) in dv.iter_mut().zip(dg.iter_mut()).zip(v).zip(g) {
                let [open, slope] = open::<GEGLU>(g);
                *dg = *dv * v * slope;
                *dv *= open;
            }
        },
    );
}
