//! What the training loop and the models know of a net.

use std::fmt;

use burn::tensor::Tensor;
use mm_core::{Params, Result, Tag};

use crate::{
    nn::pass::Pass,
    prepare::{Batch, Inputs, Scaling},
    tokens::Tokens,
    training::TrainingParams,
    weights::Scope,
};

/// A net over tensors: scores of the rows of a batch, in stages.
pub trait Net: fmt::Debug + Send + Sync {
    /// (*n*, *m*, *k*): *n* rows, *m* members, whose predictions are averaged, *k* scores. Each
    /// member has a loss of its own in training.
    fn forward(&self, batch: &Batch, pass: &Pass) -> Tensor<3> {
        let mut x = self.begin(batch);
        for i in 0..self.n_stages() {
            x = self.stage(i, x, batch, pass);
        }
        self.end(x)
    }

    /// What the first stage is given.
    fn begin(&self, batch: &Batch) -> Vec<Tensor<3>>;

    /// How many stages lie between beginning and end.
    fn n_stages(&self) -> usize;

    /// What stage `i` makes of `x`; everything that comes in from before is in `x`.
    fn stage(&self, i: usize, x: Vec<Tensor<3>>, batch: &Batch, pass: &Pass) -> Vec<Tensor<3>>;

    /// The scores from what the last stage made.
    fn end(&self, x: Vec<Tensor<3>>) -> Tensor<3>;

    /// The vectors of its columns, if nothing else of a row's cells comes in; else none.
    fn tokens(&self) -> Option<&Tokens>;

    /// How much the row's result takes of each column: (*n*, columns), rows adding up to at most 1;
    /// none if the net has no attention to columns.
    fn attention(&self, _: &Batch) -> Option<Tensor<2>> {
        None
    }
}

/// A kind of net, which is its hyper-parameters.
pub trait Architecture: Params + PartialEq + Send + Sync + 'static {
    /// The net.
    type Net: Net;

    /// The kind's name.
    const NAME: &'static str;
    /// The identity on disk of its models.
    const TAG: Tag;

    /// Makes the net; which parameters it asks for must depend on `self` and `inputs` alone.
    fn net(&self, scope: &Scope<'_>, inputs: &Inputs) -> Result<Self::Net>;

    /// Depth.
    fn blocks(&self) -> usize;

    /// Bins of piecewise-linear embeddings, if it has some.
    fn bins(&self) -> Option<usize>;

    /// How numbers are scaled.
    fn scaling(&self) -> Scaling;

    /// How it is trained.
    fn training(&self) -> &TrainingParams;

    /// Steps of history that it reads for each row, the row included; none if it reads rows alone.
    fn window(&self) -> Option<usize> {
        None
    }

    /// Roughly how many numbers one row leaves between the layers of a forward pass with its tape.
    fn numbers_a_row(&self, inputs: &Inputs) -> usize;
}
