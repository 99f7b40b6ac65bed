//! Vectors of numbers (Gorishniy, Rubachev and Babenko 2022, "On embeddings for numerical features
//! in tabular deep learning").
//!
//! | embedding | of *x* | then |
//! | --- | --- | --- |
//! | linear | *x* | a vector a column, times *x* |
//! | periodic | sin 2π*cx*, cos 2π*cx* with learnt *c* | a linear map a column, ReLU |
//! | piecewise linear | *x*, and how far it has come through each bin | a linear map a column |
//!
//! A bias a column is added. A missing cell has a learnt vector of its own.

use burn::tensor::{Tensor, activation::relu};
use mm_core::{ParamError, Result};
use serde::{Deserialize, Serialize};

use crate::{
    prepare::Inputs,
    weights::{Init, Role, Scope},
};

/// How a number becomes a vector.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum NumericEmbedding {
    /// A learnt vector a column, times the number.
    Linear,
    /// Sines and cosines of learnt frequencies, which start normal with standard deviation `sigma`.
    Periodic {
        /// Frequencies a column, 1 to 256.
        frequencies: usize,
        /// Standard deviation of the first frequencies, above 0 and at most 100.
        sigma: f64,
    },
    /// How far the number has come through each of at most `bins` bins, whose edges are quantiles
    /// of the fit.
    PiecewiseLinear {
        /// Bins a column at most, 2 to 256.
        bins: usize,
    },
}

impl NumericEmbedding {
    /// Bins a column at most, if it has some.
    pub(crate) fn bins(self) -> Option<usize> {
        match self {
            Self::PiecewiseLinear { bins } => Some(bins),
            _ => None,
        }
    }

    pub(crate) fn check(&self, name: &str) -> Result<(), ParamError> {
        match *self {
            Self::Linear => Ok(()),
            Self::Periodic { frequencies, sigma } => {
                let field = format!("{name}.frequencies");
                let ok = 1 <= frequencies && frequencies <= 256;
                ParamError::ensure(ok, field, frequencies, "a number from 1 to 256")?;
                let ok = 0.0 < sigma && sigma <= 100.0;
                ParamError::ensure(ok, format!("{name}.sigma"), sigma, "above 0 and at most 100")
            }
            Self::PiecewiseLinear { bins } => {
                let ok = 2 <= bins && bins <= 256;
                ParamError::ensure(ok, format!("{name}.bins"), bins, "a number from 2 to 256")
            }
        }
    }
}

/// The bins of a column: its edges, in rising order, and so one bin fewer.
pub(crate) type Edges = Vec<f32>;

/// Vectors of the numbers of a row.
#[derive(Debug)]
pub(crate) struct Numeric {
    kind: Kind,
    /// (columns, *d*).
    bias: Tensor<2>,
    missing: Tensor<2>,
}

#[derive(Debug)]
enum Kind {
    /// (columns, *d*).
    Linear(Tensor<2>),
    /// Frequencies (columns, *k*) and a map (columns, 2*k*, *d*).
    Periodic(Tensor<2>, Tensor<3>),
    /// Slopes (columns, *d*), bins, and a map of them (columns, bins, *d*).
    Piecewise(Tensor<2>, Box<Piecewise>, Tensor<3>),
}

impl Numeric {
    pub(crate) fn new(
        scope: &Scope<'_>,
        kind: NumericEmbedding,
        inputs: &Inputs,
        width: usize,
    ) -> Result<Self> {
        let columns = inputs.numbers;
        let bound = Init::Uniform(1.0 / (width as f64).sqrt());
        let slope = || scope.param("slope", [columns, width], Role::Free, bound.clone());
        let map = |inputs: usize, init: Init| {
            scope.param("map", [columns, inputs, width], Role::Free, init)
        };
        let kind = match kind {
            NumericEmbedding::Linear => Kind::Linear(slope()?),
            NumericEmbedding::Periodic { frequencies: k, sigma } => {
                let init = Init::Normal(sigma);
                let frequencies = scope.param("frequencies", [columns, k], Role::Free, init)?;
                Kind::Periodic(frequencies, map(2 * k, Init::Uniform((2.0 * k as f64).powf(-0.5)))?)
            }
            // The map starts at 0, so that training begins with the linear embedding.
            NumericEmbedding::PiecewiseLinear { .. } => {
                let piecewise = Piecewise::new(scope, inputs)?;
                Kind::Piecewise(slope()?, Box::new(piecewise), map(inputs.bins, Init::Zeros)?)
            }
        };
        Ok(Self {
            kind,
            bias: scope.param("bias", [columns, width], Role::Free, bound.clone())?,
            missing: scope.param("missing", [columns, width], Role::Free, bound)?,
        })
    }

    /// Numbers (*n*, columns), 0 where missing, and what is missing (*n*, columns), 1 or 0 →
    /// (*n*, columns, *d*).
    pub(crate) fn forward(&self, x: Tensor<2>, missing: Tensor<2>) -> Tensor<3> {
        let present = match &self.kind {
            Kind::Linear(slope) => sloped(x, slope),
            Kind::Periodic(frequencies, map) => {
                let turns = x.unsqueeze_dim::<3>(2) * frequencies.clone().unsqueeze();
                let angles = turns * std::f64::consts::TAU;
                let waves = Tensor::cat(vec![angles.clone().sin(), angles.cos()], 2);
                relu(by_column(waves, map.clone()))
            }
            Kind::Piecewise(slope, piecewise, map) => {
                sloped(x.clone(), slope) + by_column(piecewise.forward(x), map.clone())
            }
        } + self.bias.clone().unsqueeze();
        let gone = missing.unsqueeze_dim::<3>(2);
        present * (gone.clone().neg() + 1.0) + gone * self.missing.clone().unsqueeze()
    }
}

/// (*n*, columns), (columns, *d*) → (*n*, columns, *d*).
fn sloped(x: Tensor<2>, slope: &Tensor<2>) -> Tensor<3> {
    x.unsqueeze_dim::<3>(2) * slope.clone().unsqueeze()
}

/// A linear map of its own for each column: (*n*, columns, inputs), (columns, inputs, *d*) →
/// (*n*, columns, *d*).
fn by_column(x: Tensor<3>, map: Tensor<3>) -> Tensor<3> {
    x.swap_dims(0, 1).matmul(map).swap_dims(0, 1)
}

/// The piecewise-linear encoding: component *b* is 0 left of bin *b*, 1 right of it, and the part of
/// the bin that *x* has come through in between; the first bin is not limited below nor the last
/// above.
#[derive(Debug)]
pub(crate) struct Piecewise {
    /// (columns, bins), as the three below: left edges, 1 / widths, lower and upper limits.
    left: Tensor<2>,
    slope: Tensor<2>,
    lowest: Tensor<2>,
    highest: Tensor<2>,
}

/// One bin of a column.
struct Bin {
    left: f32,
    right: f32,
    first: bool,
    last: bool,
}

/// Stands for no limit: beyond it a scaled number does not come.
const UNLIMITED: f32 = 1e6;

impl Piecewise {
    /// Columns with fewer bins than others have bins that are always 0.
    pub(crate) fn new(scope: &Scope<'_>, inputs: &Inputs) -> Result<Self> {
        let Inputs { numbers, bins, edges, .. } = inputs;
        let table = |name: &str, of: &dyn Fn(Bin) -> f32| {
            let of = |e: &Edges, b: usize| {
                e.get(b + 1).map_or(0.0, |&right| {
                    of(Bin { left: e[b], right, first: b == 0, last: b + 2 == e.len() })
                })
            };
            let values = edges.iter().flat_map(|e| (0..*bins).map(|b| of(e, b))).collect();
            scope.param(name, [*numbers, *bins], Role::Fixed, Init::Values(values))
        };
        Ok(Self {
            left: table("left", &|bin| bin.left)?,
            slope: table("slope_of_bin", &|bin| 1.0 / (bin.right - bin.left))?,
            lowest: table("lowest", &|bin| if bin.first { -UNLIMITED } else { 0.0 })?,
            highest: table("highest", &|bin| if bin.last { UNLIMITED } else { 1.0 })?,
        })
    }

    /// (*n*, columns) → (*n*, columns, bins).
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<3> {
        let come = (x.unsqueeze_dim::<3>(2) - self.left.clone().unsqueeze())
            * self.slope.clone().unsqueeze();
        let shape = come.dims();
        let limit = |limit: &Tensor<2>| limit.clone().unsqueeze::<3>().expand(shape);
        come.max_pair(limit(&self.lowest)).min_pair(limit(&self.highest))
    }
}
