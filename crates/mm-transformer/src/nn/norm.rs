//! Layer normalisation (Ba, Kiros and Hinton 2016).

use burn::tensor::Tensor;
use mm_core::Result;

use crate::weights::{Init, Role, Scope};

/// What is added to the variance, as in PyTorch.
pub(crate) const EPSILON: f64 = 1e-5;

/// Shifts and scales each vector to mean 0 and variance 1, then by what is learnt.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    pub(crate) scale: Tensor<1>,
    pub(crate) shift: Tensor<1>,
}

impl LayerNorm {
    pub(crate) fn new(scope: &Scope<'_>, width: usize) -> Result<Self> {
        Ok(Self {
            scale: scope.param("scale", [width], Role::Free, Init::Ones)?,
            shift: scope.param("shift", [width], Role::Free, Init::Zeros)?,
        })
    }

    /// (*n*, *t*, *d*) → the same.
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let centred = x.clone() - x.mean_dim(2);
        let variance = centred.clone().square().mean_dim(2);
        let unit = centred / (variance + EPSILON).sqrt();
        unit * self.scale.clone().unsqueeze() + self.shift.clone().unsqueeze()
    }
}
