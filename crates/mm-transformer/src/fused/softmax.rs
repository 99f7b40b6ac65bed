//! The softmax of scores in place, and its gradient.
//!
//! ```text
//! pᵢ = exp(sᵢ − max s) / Σ exp(sⱼ − max s)          dsᵢ = pᵢ (dpᵢ − Σ dpⱼ pⱼ)
//! ```

use crate::fused::simd::{exp, max, sum, sum_pairs};

/// Turns scores into shares; none stay none.
#[inline(always)]
pub(super) fn softmax(scores: &mut [f32]) {
    let most = max(scores);
    for s in scores.iter_mut() {
        *s = exp(*s - most);
    }
    let factor = 1.0 / sum(scores, |s| s);
    for s in scores.iter_mut() {
        *s *= factor;
    }
}

/// Turns slopes of `shares` into slopes of the scores.
#[inline(always)]
pub(super) fn softmax_gradient(shares: &[f32], slopes: &mut [f32]) {
    let level = sum_pairs(shares, slopes, |p, dp| p * dp);
    for (dp, &p) in slopes.iter_mut().zip(shares) {
        *dp = p * (*dp - level);
    }
}
