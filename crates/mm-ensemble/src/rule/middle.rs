//! The median and the trimmed mean.

use mm_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The mean of the middle values, output by output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Middle {
    /// The part of the members left out at each end, in [0, ½]; ½ is the median.
    pub(crate) trim: f64,
    /// Whether the outputs are classes, whose row is scaled to add up to 1.
    pub(crate) classes: bool,
}

impl Middle {
    pub(super) fn check(&self) -> Result<()> {
        if 0.0 <= self.trim && self.trim <= 0.5 {
            return Ok(());
        }
        Err(Error::data("trim", "a number from 0 to 0.5", self.trim))
    }

    pub(super) fn combine(&self, parts: &[f64], out: &mut [f64]) {
        let k = out.len();
        let m = parts.len() / k;
        // Of the median at most two values are left, of the trimmed mean at least one.
        let cut = ((self.trim * m as f64).floor() as usize).min((m - 1) / 2);
        let mut small = [0.0; 32];
        let mut large = Vec::new();
        let values = if m <= small.len() {
            &mut small[..m]
        } else {
            large.resize(m, 0.0);
            &mut large[..]
        };
        for (j, y) in out.iter_mut().enumerate() {
            for (value, part) in values.iter_mut().zip(parts.chunks_exact(k)) {
                *value = part[j];
            }
            values.sort_unstable_by(f64::total_cmp);
            let middle = &values[cut..m - cut];
            *y = middle.iter().sum::<f64>() / middle.len() as f64;
        }
        if self.classes {
            super::normalize(out);
        }
    }
}
