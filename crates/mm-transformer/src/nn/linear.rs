//! The linear map *x* ↦ *xW* + *b*.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Tensor, activation::relu};
use mm_core::Result;

use crate::{
    fused::{
        dense::{DenseOperation, Ending},
        product::Panels,
        tape::{apply, input},
    },
    nn::pass::Pass,
    weights::{Init, Role, Scope},
};

/// *x* ↦ *xW* + *b*, with *W* of shape (inputs, outputs).
///
/// Both start uniform in ±1/√inputs, as PyTorch's `Linear` does.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Tensor<2>,
    pub(crate) bias: Tensor<1>,
    map: Arc<OnceLock<Panels>>,
}

impl Linear {
    pub(crate) fn new(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let bound = Init::Uniform(1.0 / (inputs as f64).sqrt());
        Ok(Self {
            weight: scope.param("weight", [inputs, outputs], Role::Decayed, bound.clone())?,
            bias: scope.param("bias", [outputs], Role::Free, bound)?,
            map: Arc::default(),
        })
    }

    /// (*n*, *t*, inputs) → (*n*, *t*, outputs).
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.fused(&x, Ending::Nothing).unwrap_or_else(|| self.composed(x, &Pass::plain()))
    }

    /// The map, then a ReLU, then dropout at `rate`.
    pub(crate) fn relu(&self, x: Tensor<3>, rate: f64, pass: &Pass) -> Tensor<3> {
        if pass.is_fused(&x)
            && let Some(y) = self.fused(&x, Ending::Relu(pass.drops(rate)))
        {
            return y;
        }
        pass.dropout(relu(self.composed(x, pass)), rate)
    }

    /// As one operation, on the processor.
    pub(crate) fn fused(&self, x: &Tensor<3>, ending: Ending) -> Option<Tensor<3>> {
        let [rows, vectors, from] = x.dims();
        let to = self.bias.dims()[0];
        let map = Arc::clone(&self.map);
        let operation = DenseOperation { rows, vectors, from, to, ending, map };
        let inputs = [input(x), input(&self.weight), input(&self.bias)].map(Some);
        apply(operation, &inputs, [rows, vectors, to])
    }

    /// As operations of Burn, on any device.
    pub(crate) fn composed(&self, x: Tensor<3>, pass: &Pass) -> Tensor<3> {
        let [n, t, inputs] = x.dims();
        let y = pass.product(x.reshape([n * t, inputs]), self.weight.clone());
        let outputs = y.dims()[1];
        (y + self.bias.clone().unsqueeze()).reshape([n, t, outputs])
    }
}
