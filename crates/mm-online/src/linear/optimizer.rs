//! How a slope moves a weight.

use mm_core::ParamError;
use serde::{Deserialize, Serialize};

/// The rule by which slopes move weights; the defaults of the fields are those of River 0.26.
///
/// With slope *g* of one weight *w*:
///
/// | variant | step |
/// | --- | --- |
/// | `Sgd` | w −= r g |
/// | `AdaGrad` | G += g²; w −= r g / √(G + 1e-8) |
/// | `Adam` | m, v fading means of g, g² by 0.9, 0.999; w −= r √(1 − 0.999ᵗ) / (1 − 0.9ᵗ) · m / (√v + 1e-8) |
/// | `Ftrl` | McMahan et al. (2013), per coordinate, with L1 and L2 |
///
/// Sources: Duchi, Hazan & Singer (2011); Kingma & Ba (2015); McMahan et al. (2013), "Ad click
/// prediction: a view from the trenches".
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Optimizer {
    /// Plain gradient descent.
    Sgd {
        /// Learning rate r > 0.
        rate: f64,
    },
    /// Rates that shrink by what each weight has seen.
    AdaGrad {
        /// Learning rate r > 0.
        rate: f64,
    },
    /// Momentum and rates by fading moments.
    Adam {
        /// Learning rate r > 0.
        rate: f64,
    },
    /// Follow the regularised leader; L1 makes weights exactly 0.
    Ftrl {
        /// Learning rate α > 0; 0.05 in River.
        alpha: f64,
        /// Slows the first steps, β ≥ 0; 1 in River.
        beta: f64,
        /// L1 penalty ≥ 0; 0 in River.
        l1: f64,
        /// L2 penalty ≥ 0; 1 in River.
        l2: f64,
        /// Weights one row late, as in River 0.26; false: fresh ones, as published.
        stale: bool,
    },
}

impl Default for Optimizer {
    fn default() -> Self {
        Self::Sgd { rate: 0.01 }
    }
}

impl Optimizer {
    /// FTRL with River's constants and fresh weights.
    pub fn ftrl() -> Self {
        Self::Ftrl { alpha: 0.05, beta: 1.0, l1: 0.0, l2: 1.0, stale: false }
    }

    /// Checks the fields.
    pub fn check(self) -> Result<(), ParamError> {
        let rate = |name: &str, x: f64| {
            let ok = 0.0 < x && x <= 1e6;
            ParamError::ensure(ok, format!("optimizer.{name}"), x, "a number > 0, at most 1e6")
        };
        let penalty = |name: &str, x: f64| {
            let ok = 0.0 <= x && x <= 1e6;
            ParamError::ensure(ok, format!("optimizer.{name}"), x, "a number from 0 to 1e6")
        };
        match self {
            Self::Sgd { rate: r } | Self::AdaGrad { rate: r } | Self::Adam { rate: r } => {
                rate("rate", r)
            }
            Self::Ftrl { alpha, beta, l1, l2, .. } => {
                rate("alpha", alpha)?;
                penalty("beta", beta)?;
                penalty("l1", l1)?;
                penalty("l2", l2)
            }
        }
    }
}

/// Weights of one linear score with what their optimizer remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Weights {
    pub(crate) w: Vec<f64>,
    first: Vec<f64>,  // Adam's mean slope or FTRL's z; else empty.
    second: Vec<f64>, // The sum or mean of squared slopes; empty for SGD.
    steps: u64,
}

impl Weights {
    pub(crate) fn new(optimizer: Optimizer, n: usize) -> Self {
        let some = |is: bool| if is { vec![0.0; n] } else { Vec::new() };
        let first = matches!(optimizer, Optimizer::Adam { .. } | Optimizer::Ftrl { .. });
        let second = !matches!(optimizer, Optimizer::Sgd { .. });
        Self { w: vec![0.0; n], first: some(first), second: some(second), steps: 0 }
    }

    pub(crate) fn is_valid(&self, optimizer: Optimizer, n: usize) -> bool {
        let fresh = Self::new(optimizer, n);
        let lens = |w: &Self| (w.w.len(), w.first.len(), w.second.len());
        lens(self) == lens(&fresh)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&self.w[..]) + size_of_val(&self.first[..]) + size_of_val(&self.second[..])
    }

    /// Σ w z over the features that are present, in order.
    pub(crate) fn dot(&self, z: &[f64], complete: bool) -> f64 {
        let product = |(w, z): (&f64, &f64)| w * z;
        let terms = self.w.iter().zip(z);
        if complete {
            terms.map(product).sum()
        } else {
            terms.filter(|(_, z)| !z.is_nan()).map(product).sum()
        }
    }

    /// One step on the present features, of slope `slope · z + l2 · w` each. `decay` ages the
    /// squared slopes that AdaGrad and FTRL have summed.
    pub(crate) fn step(
        &mut self,
        optimizer: Optimizer,
        (z, complete): (&[f64], bool),
        slope: f64,
        l2: f64,
        decay: f64,
    ) {
        self.steps += 1;
        let w = &mut self.w[..];
        if let (Optimizer::Sgd { rate }, true) = (optimizer, complete) {
            if l2 == 0.0 {
                w.iter_mut().zip(z).for_each(|(w, z)| *w -= rate * (z * slope));
            } else {
                w.iter_mut().zip(z).for_each(|(w, z)| *w -= rate * (z * slope + l2 * *w));
            }
            return;
        }
        if decay != 1.0 && !matches!(optimizer, Optimizer::Adam { .. }) {
            self.second.iter_mut().for_each(|sum| *sum *= decay);
        }
        let present = || z.iter().copied().enumerate().filter(|(_, z)| complete || !z.is_nan());
        match optimizer {
            Optimizer::Sgd { rate } => {
                for (j, z) in present() {
                    w[j] -= rate * (z * slope + l2 * w[j]);
                }
            }
            Optimizer::AdaGrad { rate } => {
                for (j, z) in present() {
                    let g = z * slope + l2 * w[j];
                    self.second[j] += g * g;
                    w[j] -= rate / (self.second[j] + 1e-8).sqrt() * g;
                }
            }
            Optimizer::Adam { rate } => {
                let t = self.steps as f64;
                let rate = rate * (1.0 - 0.999_f64.powf(t)).sqrt() / (1.0 - 0.9_f64.powf(t));
                for (j, z) in present() {
                    let g = z * slope + l2 * w[j];
                    // `1 − β` is written as River computes it: it is not 0.1 to the last bit.
                    self.first[j] = 0.9 * self.first[j] + (1.0 - 0.9) * g;
                    self.second[j] = 0.999 * self.second[j] + (1.0 - 0.999) * (g * g);
                    w[j] -= rate * self.first[j] / (self.second[j].sqrt() + 1e-8);
                }
            }
            Optimizer::Ftrl { alpha, beta, l1, l2: shrink, stale } => {
                let fresh = |z: f64, n: f64| {
                    let excess = z - z.clamp(-l1, l1);
                    -excess / ((beta + n.sqrt()) / alpha + shrink)
                };
                for (j, z) in present() {
                    let g = z * slope + l2 * w[j];
                    if stale {
                        w[j] = fresh(self.first[j], self.second[j]);
                    }
                    let n = self.second[j];
                    let sigma = ((n + g * g).sqrt() - n.sqrt()) / alpha;
                    self.first[j] += g - sigma * w[j];
                    self.second[j] = n + g * g;
                    if !stale {
                        w[j] = fresh(self.first[j], self.second[j]);
                    }
                }
            }
        }
    }
}
