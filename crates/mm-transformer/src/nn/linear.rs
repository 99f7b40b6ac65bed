//! The linear map *x* ↦ *xW* + *b*.

use burn::tensor::Tensor;
use mm_core::Result;

use crate::weights::{Init, Role, Scope};

/// *x* ↦ *xW* + *b*, with *W* of shape (inputs, outputs).
///
/// Both start uniform in ±1/√inputs, as PyTorch's `Linear` does.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor<2>,
    bias: Tensor<1>,
}

impl Linear {
    pub(crate) fn new(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let bound = Init::Uniform(1.0 / (inputs as f64).sqrt());
        Ok(Self {
            weight: scope.param("weight", [inputs, outputs], Role::Decayed, bound.clone())?,
            bias: scope.param("bias", [outputs], Role::Free, bound)?,
        })
    }

    /// (*n*, inputs) → (*n*, outputs).
    pub(crate) fn rows(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.clone()) + self.bias.clone().unsqueeze()
    }

    /// (*n*, *t*, inputs) → (*n*, *t*, outputs).
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [n, t, inputs] = x.dims();
        let y = self.rows(x.reshape([n * t, inputs]));
        let outputs = y.dims()[1];
        y.reshape([n, t, outputs])
    }
}
