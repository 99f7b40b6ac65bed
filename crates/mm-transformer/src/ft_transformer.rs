//! FT-Transformer: attention among the columns of a row.
//!
//! # Idea
//!
//! Each column becomes a vector of length *d* (a *token*): a number by a
//! [`NumericEmbedding`], a level by a vector of its own. A class token that is the same for all rows
//! is put before them, and blocks of attention and gated feed-forward layers let the tokens of a row
//! ask one another. The class token's last vector, normalised and through a ReLU, gives the scores
//! by a linear map. Pre-norm throughout, but the first attention has no norm before it; the last
//! block works out the class token alone.
//!
//! # Cost
//!
//! With *t* columns: O(*td*² + *t*²*d*) a row and block, three times that in training. The weights
//! are some 12*d*² a block (0.9 million with the defaults). Memory in training is that of
//! `micro_batch` rows a thread, whatever the batch.
//!
//! # Limits
//!
//! On most tables boosted trees fit in a hundredth of the time and predict as well; what a net adds
//! is that it errs elsewhere, so that a blend of both is better than either. [`TabmParams`] is the
//! cheaper and often the better net.
//!
//! [`TabmParams`]: crate::TabmParams
//!
//! # Example
//!
//! ```
//! use mm_core::{Dataset, FitContext, Frame, Learner as _, Model as _, Params as _};
//! use mm_transformer::FtTransformerParams;
//!
//! let x: Vec<f32> = (0..200).map(|i| i as f32 / 100.0 - 1.0).collect();
//! let y = x.iter().map(|x| f64::from(x * x)).collect();
//! let data = Dataset::regression(Frame::new(x, 1)?, y)?;
//! let learner = FtTransformerParams::default()
//!     .with(|p| (p.width, p.heads, p.blocks) = (16, 2, 1))
//!     .with(|p| (p.training.learning_rate, p.training.batch_size) = (0.01, 32))
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
//! Gorishniy, Rubachev, Khrulkov and Babenko 2021, "Revisiting deep learning models for tabular
//! data": the architecture and the defaults of its parts.

use burn::tensor::{Tensor, activation::relu};
use mm_core::{FloatRange, IntRange, ParamError, Params, Result, Search, SpaceSize, Suggest, Tag};
use serde::{Deserialize, Serialize};

use crate::{
    model::{NetLearner, NetModel},
    net::{Architecture, Net},
    nn::{
        attention::AttentionConfig,
        block::{Block, BlockConfig},
        feed_forward::Gate,
        linear::Linear,
        norm::LayerNorm,
        numeric::NumericEmbedding,
        pass::Pass,
        position::Position,
    },
    prepare::{Batch, Inputs, Scaling},
    tokens::Tokens,
    training::TrainingParams,
    weights::{Init, Role, Scope},
};

/// Hyper-parameters of an FT-Transformer; plain data, checked by [`build`](Params::build).
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `blocks` | 3 | 1 to 64 | depth |
/// | `width` | 192 | 1 to 4096 | length *d* of a token: a multiple of `heads` |
/// | `heads` | 8 | 1 to 64 | heads of attention |
/// | `hidden` | 4/3 | (0, 16] | width of the feed-forward layer, in units of `width` |
/// | `gate` | `reglu` | | its gate |
/// | `attention_dropout` | 0.2 | [0, 1) | of the shares of attention |
/// | `hidden_dropout` | 0.1 | [0, 1) | within the feed-forward layer |
/// | `residual_dropout` | 0.0 | [0, 1) | of what is added to the shortcut |
/// | `pooling` | `class_token` | | what is read of the last block |
/// | `numeric` | linear | | how numbers become tokens |
/// | `scaling` | `quantile` | | how numbers are scaled before |
/// | `training` | | | see [`TrainingParams`] |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FtTransformerParams {
    /// Depth.
    pub blocks: usize,
    /// Length of a token.
    pub width: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Width of the feed-forward layer, in units of `width`.
    pub hidden: f64,
    /// Gate of the feed-forward layer.
    pub gate: Gate,
    /// Dropout of the shares of attention.
    pub attention_dropout: f64,
    /// Dropout within the feed-forward layer.
    pub hidden_dropout: f64,
    /// Dropout of what is added to the shortcut.
    pub residual_dropout: f64,
    /// What is read of the last block.
    pub pooling: Pooling,
    /// How numbers become tokens.
    pub numeric: NumericEmbedding,
    /// How numbers are scaled before.
    pub scaling: Scaling,
    /// How it is trained.
    pub training: TrainingParams,
}

/// What is read of the last block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pooling {
    /// The vector of a token of its own, which stands for no column.
    #[default]
    ClassToken,
    /// The mean of the columns' vectors.
    Mean,
}

impl Default for FtTransformerParams {
    fn default() -> Self {
        Self {
            blocks: 3,
            width: 192,
            heads: 8,
            hidden: 4.0 / 3.0,
            gate: Gate::Reglu,
            attention_dropout: 0.2,
            hidden_dropout: 0.1,
            residual_dropout: 0.0,
            pooling: Pooling::ClassToken,
            numeric: NumericEmbedding::Linear,
            scaling: Scaling::Quantile,
            training: TrainingParams::default(),
        }
    }
}

impl Params for FtTransformerParams {
    type Learner = FtTransformer;

    fn build(self) -> Result<FtTransformer, ParamError> {
        check_depth(self.blocks)?;
        check_width(self.width, self.heads)?;
        let x = self.hidden;
        ParamError::ensure(0.0 < x && x <= 16.0, "hidden", x, "above 0 and at most 16")?;
        check_dropout("attention_dropout", self.attention_dropout)?;
        check_dropout("hidden_dropout", self.hidden_dropout)?;
        check_dropout("residual_dropout", self.residual_dropout)?;
        self.numeric.check("numeric")?;
        self.training.check("training")?;
        Ok(NetLearner::from_checked(self))
    }
}

pub(crate) fn check_depth(blocks: usize) -> Result<(), ParamError> {
    ParamError::ensure(1 <= blocks && blocks <= 64, "blocks", blocks, "a number from 1 to 64")
}

pub(crate) fn check_width(width: usize, heads: usize) -> Result<(), ParamError> {
    ParamError::ensure(1 <= heads && heads <= 64, "heads", heads, "a number from 1 to 64")?;
    let ok = 1 <= width && width <= 4096 && width.is_multiple_of(heads);
    ParamError::ensure(ok, "width", width, format!("a multiple of {heads} heads, at most 4096"))
}

pub(crate) fn check_dropout(name: &str, x: f64) -> Result<(), ParamError> {
    ParamError::ensure(0.0 <= x && x < 1.0, name, x, "at least 0 and below 1")
}

/// An FT-Transformer to be fitted; made by [`FtTransformerParams`].
pub type FtTransformer = NetLearner<FtTransformerParams>;

/// A fitted FT-Transformer.
pub type FtTransformerModel = NetModel<FtTransformerParams>;

impl Search for FtTransformerParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let mut params = Self::default();
        let rate = FloatRange::log(1e-4, 3e-3);
        params.training.learning_rate = draw.float("training.learning_rate", rate)?;
        params.blocks = draw.int("blocks", IntRange::new(1, 4))? as usize;
        if size == SpaceSize::Small {
            return Ok(params);
        }
        params.width = draw.int("width", IntRange::new(64, 384).step(32))? as usize;
        params.attention_dropout = draw.float("attention_dropout", FloatRange::new(0.0, 0.5))?;
        params.hidden_dropout = draw.float("hidden_dropout", FloatRange::new(0.0, 0.5))?;
        params.training.weight_decay =
            draw.float("training.weight_decay", FloatRange::log(1e-6, 1e-2))?;
        if size == SpaceSize::Medium {
            return Ok(params);
        }
        params.residual_dropout = draw.float("residual_dropout", FloatRange::new(0.0, 0.2))?;
        params.hidden = draw.float("hidden", FloatRange::new(2.0 / 3.0, 8.0 / 3.0))?;
        params.numeric = match draw
            .choose("numeric", &["linear", "periodic", "piecewise_linear"])?
        {
            1 => {
                let sigma = draw.float("numeric.periodic.sigma", FloatRange::log(0.01, 10.0))?;
                NumericEmbedding::Periodic { frequencies: 24, sigma }
            }
            2 => NumericEmbedding::PiecewiseLinear {
                bins: draw.int("numeric.piecewise_linear.bins", IntRange::new(4, 64))? as usize,
            },
            _ => NumericEmbedding::Linear,
        };
        Ok(params)
    }
}

/// The net of an FT-Transformer.
#[derive(Debug)]
pub struct FtNet {
    tokens: Tokens,
    /// (1, 1, *d*), if there is a class token.
    class_token: Option<Tensor<3>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl Architecture for FtTransformerParams {
    type Net = FtNet;

    const NAME: &'static str = "ft_transformer";
    const TAG: Tag = Tag::new("mm.ft_transformer", 1);

    fn net(&self, scope: &Scope<'_>, inputs: &Inputs) -> Result<FtNet> {
        let config = self.block(inputs);
        let block = |i: usize| Block::new(&scope.part(format_args!("block{i}")), config, 0 < i);
        let bound = Init::Uniform(1.0 / (self.width as f64).sqrt());
        let class_token = match self.pooling {
            Pooling::Mean if 0 < inputs.columns() => None,
            _ => Some(scope.param("class_token", [1, 1, self.width], Role::Free, bound)?),
        };
        Ok(FtNet {
            tokens: Tokens::new(&scope.part("tokens"), self.numeric, inputs, self.width)?,
            class_token,
            blocks: (0..self.blocks).map(block).collect::<Result<_>>()?,
            norm: LayerNorm::new(&scope.part("norm"), self.width)?,
            head: Linear::new(&scope.part("head"), self.width, inputs.scores)?,
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
        self.blocks * self.block(inputs).numbers_a_row()
    }
}

impl FtTransformerParams {
    fn block(&self, inputs: &Inputs) -> BlockConfig {
        let attention = AttentionConfig {
            width: self.width,
            heads: self.heads,
            dropout: self.attention_dropout,
            position: Position::None,
            steps: inputs.columns() + 1,
        };
        let dropout = [self.hidden_dropout, self.residual_dropout];
        BlockConfig::new(attention, self.hidden, self.gate, dropout)
    }
}

impl FtNet {
    /// (*n*, *t*, *d*): the class token, if there is one, and the columns.
    fn embed(&self, batch: &Batch) -> Tensor<3> {
        let mut tokens = self.tokens.forward(batch);
        if let Some(token) = &self.class_token {
            let width = token.dims()[2];
            tokens.insert(0, token.clone().expand([batch.rows, 1, width]));
        }
        Tensor::cat(tokens, 1)
    }
}

impl Net for FtNet {
    fn tokens(&self) -> Option<&Tokens> {
        Some(&self.tokens)
    }

    fn begin(&self, batch: &Batch) -> Vec<Tensor<3>> {
        vec![self.embed(batch)]
    }

    fn n_stages(&self) -> usize {
        self.blocks.len()
    }

    /// A block; the last one works out what is read of it alone.
    fn stage(&self, i: usize, x: Vec<Tensor<3>>, _: &Batch, pass: &Pass) -> Vec<Tensor<3>> {
        let is_last = i + 1 == self.blocks.len();
        let block = |x: Tensor<3>| match self.class_token {
            Some(_) if is_last => self.blocks[i].forward_first(x, pass),
            None if is_last => self.blocks[i].forward(x, None, pass).mean_dim(1),
            _ => self.blocks[i].forward(x, None, pass),
        };
        x.into_iter().map(block).collect()
    }

    fn end(&self, mut x: Vec<Tensor<3>>) -> Tensor<3> {
        let pooled = x.remove(0);
        self.head.forward(relu(self.norm.forward(pooled)))
    }

    fn attention(&self, batch: &Batch) -> Option<Tensor<2>> {
        let mut x = self.embed(batch);
        let [n, t, _] = x.dims();
        let columns = t - usize::from(self.class_token.is_some());
        let mut sum = Tensor::<2>::zeros([n, columns], &batch.device);
        for block in &self.blocks {
            // What is asked by the class token, or by all in the mean.
            let shares = block.shares(x.clone(), None).mean_dim(1).reshape([n, t, t]);
            let asked = match self.class_token {
                Some(_) => shares.narrow(1, 0, 1),
                None => shares.mean_dim(1),
            };
            sum = sum + asked.reshape([n, t]).narrow(1, t - columns, columns);
            x = block.forward(x, None, &Pass::plain());
        }
        Some(sum / self.blocks.len() as f64)
    }
}
