//! TabM-mini: many small nets in one.
//!
//! # Idea
//!
//! The columns of a row become vectors (piecewise-linear ones for numbers), which are joined into
//! one long vector *x*. Member *i* of *k* sees *x* ⊙ *rᵢ* with a learnt *rᵢ*; all members share the
//! layers of a multi-layer perceptron, and each has a linear head of its own. In training each
//! member has its own loss; their predictions are averaged. So *k* nets that differ cost little more
//! memory than one, and regularise one another.
//!
//! # Cost
//!
//! O(*k*(*px* + *w*²)) a row with *p* columns, embeddings of width *x*, and layers of width *w*: 25
//! million multiplications with the defaults and 14 columns, most of them in large products.
//!
//! # Example
//!
//! ```
//! use mm_core::{Dataset, FitContext, Frame, Learner as _, Model as _, Params as _};
//! use mm_transformer::TabmParams;
//!
//! let x: Vec<f32> = (0..200).map(|i| i as f32 / 100.0 - 1.0).collect();
//! let y = x.iter().map(|x| f64::from(x * x)).collect();
//! let data = Dataset::regression(Frame::new(x, 1)?, y)?;
//! let learner = TabmParams::default()
//!     .with(|p| (p.members, p.width, p.training.batch_size) = (4, 32, 32))
//!     .build()?;
//! let model = learner.fit(&data, &FitContext::seeded(1))?;
//! let edge_and_middle = Frame::new(vec![-0.9, 0.0], 1)?;
//! let y = model.predict(&edge_and_middle)?;
//! assert!(0.5 < y.row(0)[0] && y.row(1)[0] < 0.3);
//! # Ok::<(), mm_core::Error>(())
//! ```
//!
//! # Sources
//!
//! Gorishniy, Kotelnikov and Babenko 2025, "TabM: advancing tabular deep learning with
//! parameter-efficient ensembling": the variant *mini*, with piecewise-linear embeddings.

use burn::tensor::Tensor;
use mm_core::{FloatRange, IntRange, ParamError, Params, Result, Search, SpaceSize, Suggest, Tag};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::{Map, Value};

use crate::{
    ft_transformer::{check_depth, check_dropout},
    model::{NetLearner, NetModel},
    net::{Architecture, Net},
    nn::{
        linear::Linear,
        members::{heads, views},
        numeric::NumericEmbedding,
        pass::Pass,
    },
    prepare::{Batch, Inputs, Scaling},
    tokens::Tokens,
    training::TrainingParams,
    weights::{Init, Role, Scope},
};

/// Hyper-parameters of TabM-mini; plain data, checked by [`build`](Params::build).
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `members` | 32 | 1 to 1024 | nets in one |
/// | `blocks` | 2 | 1 to 64 | depth |
/// | `width` | 512 | 1 to 8192 | of a layer |
/// | `dropout` | 0.1 | [0, 1) | after each layer |
/// | `embedding_width` | 16 | 1 to 256 | length of a column's vector |
/// | `numeric` | piecewise linear, 48 bins | | how numbers become vectors |
/// | `scaling` | `quantile` | | how numbers are scaled before |
/// | `training` | rate 0.002, decay 0.0003 | | see [`TrainingParams`] |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TabmParams {
    /// Nets in one.
    pub members: usize,
    /// Depth.
    pub blocks: usize,
    /// Width of a layer.
    pub width: usize,
    /// Dropout after each layer.
    pub dropout: f64,
    /// Length of a column's vector.
    pub embedding_width: usize,
    /// How numbers become vectors.
    pub numeric: NumericEmbedding,
    /// How numbers are scaled before.
    pub scaling: Scaling,
    /// How it is trained.
    #[serde(deserialize_with = "training")]
    pub training: TrainingParams,
}

/// TabM takes longer steps than other nets.
fn default_training() -> TrainingParams {
    TrainingParams { learning_rate: 2e-3, weight_decay: 3e-4, ..TrainingParams::default() }
}

/// Reads what is given, and takes the rest from [`default_training`].
fn training<'de, D: Deserializer<'de>>(given: D) -> Result<TrainingParams, D::Error> {
    let given = Map::<String, Value>::deserialize(given)?;
    let mut all = serde_json::to_value(default_training()).map_err(D::Error::custom)?;
    if let Value::Object(all) = &mut all {
        all.extend(given);
    }
    serde_json::from_value(all).map_err(D::Error::custom)
}

impl Default for TabmParams {
    fn default() -> Self {
        Self {
            members: 32,
            blocks: 2,
            width: 512,
            dropout: 0.1,
            embedding_width: 16,
            numeric: NumericEmbedding::PiecewiseLinear { bins: 48 },
            scaling: Scaling::Quantile,
            training: default_training(),
        }
    }
}

impl Params for TabmParams {
    type Learner = Tabm;

    fn build(self) -> Result<Tabm, ParamError> {
        let counts = [
            ("members", self.members, 1024),
            ("width", self.width, 8192),
            ("embedding_width", self.embedding_width, 256),
        ];
        for (name, x, most) in counts {
            let ok = 1 <= x && x <= most;
            ParamError::ensure(ok, name, x, format!("a number from 1 to {most}"))?;
        }
        check_depth(self.blocks)?;
        check_dropout("dropout", self.dropout)?;
        self.numeric.check("numeric")?;
        self.training.check("training")?;
        Ok(NetLearner::from_checked(self))
    }
}

/// TabM-mini to be fitted; made by [`TabmParams`].
pub type Tabm = NetLearner<TabmParams>;

/// A fitted TabM-mini.
pub type TabmModel = NetModel<TabmParams>;

impl Search for TabmParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let mut params = Self::default();
        let rate = FloatRange::log(1e-4, 5e-3);
        params.training.learning_rate = draw.float("training.learning_rate", rate)?;
        params.blocks = draw.int("blocks", IntRange::new(1, 4))? as usize;
        if size == SpaceSize::Small {
            return Ok(params);
        }
        params.width = draw.int("width", IntRange::new(64, 1024).step(64))? as usize;
        params.dropout = draw.float("dropout", FloatRange::new(0.0, 0.5))?;
        params.training.weight_decay =
            draw.float("training.weight_decay", FloatRange::log(1e-6, 1e-1))?;
        if size == SpaceSize::Medium {
            return Ok(params);
        }
        params.embedding_width =
            draw.int("embedding_width", IntRange::new(8, 32).step(4))? as usize;
        let bins = draw.int("numeric.piecewise_linear.bins", IntRange::new(4, 128))? as usize;
        params.numeric = NumericEmbedding::PiecewiseLinear { bins };
        Ok(params)
    }
}

/// The net of TabM-mini.
#[derive(Debug)]
pub struct TabmNet {
    tokens: Tokens,
    /// (members, length of the joined vectors).
    views: Tensor<2>,
    layers: Vec<Linear>,
    /// (members, width, scores).
    heads: Tensor<3>,
    /// (members, scores).
    bias: Tensor<2>,
    dropout: f64,
}

impl Architecture for TabmParams {
    type Net = TabmNet;

    const NAME: &'static str = "tabm";
    const TAG: Tag = Tag::new("mm.tabm", 1);

    fn net(&self, scope: &Scope<'_>, inputs: &Inputs) -> Result<TabmNet> {
        let length = inputs.columns() * self.embedding_width;
        let layer = |i: usize| {
            let from = if i == 0 { length } else { self.width };
            Linear::new(&scope.part(format_args!("layer{i}")), from, self.width)
        };
        let bound = Init::Uniform(1.0 / (self.width as f64).sqrt());
        let heads = [self.members, self.width, inputs.scores];
        let tokens = scope.part("tokens");
        Ok(TabmNet {
            tokens: Tokens::new(&tokens, self.numeric, inputs, self.embedding_width)?,
            views: scope.param("views", [self.members, length], Role::Free, Init::Normal(1.0))?,
            layers: (0..self.blocks).map(layer).collect::<Result<_>>()?,
            heads: scope.param("heads", heads, Role::Decayed, bound.clone())?,
            bias: scope.param("bias", [self.members, inputs.scores], Role::Free, bound)?,
            dropout: self.dropout,
        })
    }

    fn blocks(&self) -> usize {
        self.blocks
    }

    fn bins(&self) -> Option<usize> {
        self.numeric.bins()
    }

    fn scaling(&self) -> Scaling {
        self.scaling
    }

    fn training(&self) -> &TrainingParams {
        &self.training
    }

    fn numbers_a_row(&self, inputs: &Inputs) -> usize {
        let length = inputs.columns() * self.embedding_width;
        self.members * (2 * length + 4 * self.blocks * self.width)
    }
}

impl Net for TabmNet {
    fn tokens(&self) -> Option<&Tokens> {
        Some(&self.tokens)
    }

    /// The columns' vectors joined, as each member sees them.
    fn begin(&self, batch: &Batch) -> Vec<Tensor<3>> {
        let length = self.views.dims()[1];
        let joined = Tensor::cat(self.tokens.forward(batch), 1).reshape([batch.rows, length]);
        vec![views(joined, &self.views)]
    }

    fn n_stages(&self) -> usize {
        self.layers.len()
    }

    fn stage(&self, i: usize, x: Vec<Tensor<3>>, _: &Batch, pass: &Pass) -> Vec<Tensor<3>> {
        x.into_iter().map(|x| self.layers[i].relu(x, self.dropout, pass)).collect()
    }

    fn end(&self, mut x: Vec<Tensor<3>>) -> Tensor<3> {
        let scores = heads(x.remove(0), &self.heads);
        scores + self.bias.clone().unsqueeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn params_that_say_something_of_the_training_keep_the_other_defaults_of_tabm() {
        let read = |text: &str| serde_json::from_str::<TabmParams>(text);
        let expected = TabmParams::default().with(|p| p.training.epochs = 3);
        assert_eq!(read(r#"{"training": {"epochs": 3}}"#).expect("valid"), expected);
        let error = read(r#"{"training": {"epoch": 3}}"#).expect_err("no such field");
        assert!(error.to_string().contains("unknown field `epoch`"), "{error}");
    }
}
