//! Sequence Transformer: attention over the trailing window of a row's entity.
//!
//! # Idea
//!
//! Row *i* is read together with the rows of the same entity before it, up to `window` in all.
//! Each step's columns become vectors, which are joined and mapped to a token of length *d*; with a
//! `patch` above 1, so many steps make one token (Nie et al. 2023, "A time series is worth 64
//! words"). Causal blocks of attention run over the tokens; the last one gives the scores, to which
//! a linear map of the last step's columns is added, so that a net with no use for the past is a
//! linear model of the present.
//!
//! The frame must have timestamps, unless `window` is 1; entities tell series apart. What a row sees
//! besides itself is strictly before it, in the fit as in a prediction. A model keeps the last rows of each entity of
//! its fit, so that a frame that begins where the fit's ended lacks no history. One row alone
//! ([`Model::predict_row`](mm_core::Model::predict_row)) has no timestamp and so no history.
//!
//! # Cost
//!
//! With *t* = `window` / `patch` tokens: O(*td*² + *t*²*d*) a row and block, three times that in
//! training.

use burn::tensor::Tensor;
use mm_core::{FloatRange, IntRange, ParamError, Params, Result, Search, SpaceSize, Suggest, Tag};
use serde::{Deserialize, Serialize};

use crate::{
    ft_transformer::{check_depth, check_dropout, check_width},
    model::{NetLearner, NetModel},
    net::{Architecture, Net},
    nn::{
        attention::{AttentionConfig, Mask},
        block::{Block, BlockConfig},
        feed_forward::Gate,
        linear::Linear,
        norm::LayerNorm,
        numeric::NumericEmbedding,
        pass::Pass,
        position::{Position, sinusoidal},
    },
    prepare::{Batch, Inputs, Scaling},
    tokens::Tokens,
    training::TrainingParams,
    weights::{Init, Role, Scope},
};

/// Hyper-parameters of a sequence Transformer; plain data, checked by [`build`](Params::build).
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `window` | 32 | 1 to 4096 | steps read for a row, itself included: a multiple of `patch` |
/// | `patch` | 1 | 1 to 256 | steps that make one token |
/// | `instance_norm` | false | | whether each window's numbers are brought to mean 0 and deviation 1; what they were goes to the scores |
/// | `blocks` | 2 | 1 to 64 | depth |
/// | `width` | 64 | 1 to 4096 | length *d* of a token: a multiple of `heads`, twice that if rotary |
/// | `heads` | 4 | 1 to 64 | heads of attention |
/// | `hidden` | 2.0 | (0, 16] | width of the feed-forward layer, in units of `width` |
/// | `gate` | `reglu` | | its gate |
/// | `position` | `learned` | | how the order of steps is known |
/// | `attention_dropout` | 0.1 | [0, 1) | of the shares of attention |
/// | `hidden_dropout` | 0.1 | [0, 1) | within the feed-forward layer |
/// | `residual_dropout` | 0.0 | [0, 1) | of what is added to the shortcut |
/// | `column_width` | 8 | 1 to 256 | length of a column's vector before they are joined |
/// | `numeric` | linear | | how numbers become vectors |
/// | `scaling` | `standard` | | how numbers are scaled before |
/// | `training` | | | see [`TrainingParams`] |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SequenceTransformerParams {
    /// Steps read for a row, itself included.
    pub window: usize,
    /// Steps that make one token.
    pub patch: usize,
    /// Whether each window's numbers are brought to mean 0 and deviation 1.
    pub instance_norm: bool,
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
    /// How the order of steps is known.
    pub position: Position,
    /// Dropout of the shares of attention.
    pub attention_dropout: f64,
    /// Dropout within the feed-forward layer.
    pub hidden_dropout: f64,
    /// Dropout of what is added to the shortcut.
    pub residual_dropout: f64,
    /// Length of a column's vector.
    pub column_width: usize,
    /// How numbers become vectors.
    pub numeric: NumericEmbedding,
    /// How numbers are scaled before.
    pub scaling: Scaling,
    /// How it is trained.
    pub training: TrainingParams,
}

impl Default for SequenceTransformerParams {
    fn default() -> Self {
        Self {
            window: 32,
            patch: 1,
            instance_norm: false,
            blocks: 2,
            width: 64,
            heads: 4,
            hidden: 2.0,
            gate: Gate::Reglu,
            position: Position::Learned,
            attention_dropout: 0.1,
            hidden_dropout: 0.1,
            residual_dropout: 0.0,
            column_width: 8,
            numeric: NumericEmbedding::Linear,
            scaling: Scaling::Standard,
            training: TrainingParams::default(),
        }
    }
}

impl Params for SequenceTransformerParams {
    type Learner = SequenceTransformer;

    fn build(self) -> Result<SequenceTransformer, ParamError> {
        let counts = [("patch", self.patch, 256), ("column_width", self.column_width, 256)];
        for (name, x, most) in counts {
            let ok = 1 <= x && x <= most;
            ParamError::ensure(ok, name, x, format!("a number from 1 to {most}"))?;
        }
        let x = self.window;
        let ok = 1 <= x && x <= 4096 && x.is_multiple_of(self.patch);
        let expected = format!("a multiple of `patch` {}, from 1 to 4096", self.patch);
        ParamError::ensure(ok, "window", x, expected)?;
        check_depth(self.blocks)?;
        check_width(self.width, self.heads)?;
        let even = (self.width / self.heads).is_multiple_of(2);
        let ok = self.position != Position::Rotary || even;
        ParamError::ensure(ok, "width", self.width, "a multiple of twice the heads if rotary")?;
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

/// A sequence Transformer to be fitted; made by [`SequenceTransformerParams`].
pub type SequenceTransformer = NetLearner<SequenceTransformerParams>;

/// A fitted sequence Transformer.
pub type SequenceTransformerModel = NetModel<SequenceTransformerParams>;

impl Search for SequenceTransformerParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let mut params = Self::default();
        let rate = FloatRange::log(1e-4, 3e-3);
        params.training.learning_rate = draw.float("training.learning_rate", rate)?;
        params.window = draw.int("window", IntRange::new(8, 128).step(8))? as usize;
        if size == SpaceSize::Small {
            return Ok(params);
        }
        params.blocks = draw.int("blocks", IntRange::new(1, 4))? as usize;
        params.width = draw.int("width", IntRange::new(32, 256).step(32))? as usize;
        params.hidden_dropout = draw.float("hidden_dropout", FloatRange::new(0.0, 0.5))?;
        params.attention_dropout = draw.float("attention_dropout", FloatRange::new(0.0, 0.5))?;
        if size == SpaceSize::Medium {
            return Ok(params);
        }
        params.patch = [1, 2, 4, 8][draw.choose("patch", &["1", "2", "4", "8"])?];
        params.instance_norm = draw.flag("instance_norm")?;
        params.training.weight_decay =
            draw.float("training.weight_decay", FloatRange::log(1e-6, 1e-2))?;
        Ok(params)
    }
}

/// The net of a sequence Transformer.
#[derive(Debug)]
pub struct SequenceNet {
    columns: Tokens,
    step: Linear,
    /// (1, tokens, *d*), if something is added.
    places: Option<Tensor<3>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
    present: Linear,
    patch: usize,
    instance_norm: bool,
}

impl Architecture for SequenceTransformerParams {
    type Net = SequenceNet;

    const NAME: &'static str = "sequence_transformer";
    const TAG: Tag = Tag::new("mm.sequence_transformer", 1);

    fn net(&self, scope: &Scope<'_>, inputs: &Inputs) -> Result<SequenceNet> {
        let tokens = self.window / self.patch;
        let config = self.block();
        let block = |i: usize| Block::new(&scope.part(format_args!("block{i}")), config, true);
        let shape = [1, tokens, self.width];
        let places = match self.position {
            Position::Learned => Some((Role::Free, Init::Normal(0.02))),
            Position::Sinusoidal => {
                Some((Role::Fixed, Init::Values(sinusoidal(tokens, self.width))))
            }
            _ => None,
        };
        let places = places.map(|(role, init)| scope.param("places", shape, role, init));
        let step = inputs.columns() * self.column_width;
        let head = self.width + if self.instance_norm { 2 * inputs.numbers } else { 0 };
        let columns = scope.part("columns");
        Ok(SequenceNet {
            columns: Tokens::new(&columns, self.numeric, inputs, self.column_width)?,
            step: Linear::new(&scope.part("step"), step * self.patch, self.width)?,
            places: places.transpose()?,
            blocks: (0..self.blocks).map(block).collect::<Result<_>>()?,
            norm: LayerNorm::new(&scope.part("norm"), self.width)?,
            head: Linear::new(&scope.part("head"), head, inputs.scores)?,
            present: Linear::new(&scope.part("present"), step, inputs.scores)?,
            patch: self.patch,
            instance_norm: self.instance_norm,
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

    fn window(&self) -> Option<usize> {
        Some(self.window)
    }

    fn numbers_a_row(&self, inputs: &Inputs) -> usize {
        let columns = 4 * self.window * inputs.columns() * self.column_width;
        columns + self.blocks * self.block().numbers_a_row()
    }
}

impl SequenceTransformerParams {
    fn block(&self) -> BlockConfig {
        let attention = AttentionConfig {
            width: self.width,
            heads: self.heads,
            dropout: self.attention_dropout,
            position: self.position,
            steps: self.window / self.patch,
        };
        let dropout = [self.hidden_dropout, self.residual_dropout];
        BlockConfig::new(attention, self.hidden, self.gate, dropout)
    }
}

impl SequenceNet {
    /// (*n* · *t*, columns joined).
    fn steps(&self, batch: &Batch) -> Tensor<2> {
        let vectors = Tensor::cat(self.columns.forward(batch), 1);
        let [rows, columns, width] = vectors.dims();
        vectors.reshape([rows, columns * width])
    }

    /// The scores' linear part: of the last step's columns, as they are.
    fn present(&self, steps: Tensor<2>, batch: &Batch) -> Tensor<3> {
        let length = steps.dims()[1];
        let steps = steps.reshape([batch.rows, batch.steps, length]);
        self.present.forward(steps.narrow(1, batch.steps - 1, 1))
    }
}

/// Each window's numbers with mean 0 and deviation 1 over what is there, and what mean and deviation
/// were: (*n*, 1, 2 · numeric columns).
fn normalised(batch: &Batch) -> (Batch, Tensor<3>) {
    let [rows, p] = batch.numbers.dims();
    let (n, t) = (batch.rows, batch.steps);
    let there = (batch.missing.clone().neg() + 1.0).reshape([n, t, p]);
    let x = batch.numbers.clone().reshape([n, t, p]);
    let count = there.clone().sum_dim(1).clamp_min(1.0);
    let mean = (x.clone() * there.clone()).sum_dim(1) / count.clone();
    let centred = (x - mean.clone()) * there;
    let deviation = (centred.clone().square().sum_dim(1) / count + 1e-5).sqrt();
    let numbers = (centred / deviation.clone()).reshape([rows, p]);
    let batch = Batch {
        numbers,
        missing: batch.missing.clone(),
        slots: batch.slots.clone(),
        lengths: batch.lengths.clone(),
        vectors: batch.vectors.clone(),
        device: batch.device.clone(),
        ..*batch
    };
    (batch, Tensor::cat(vec![mean, deviation.log()], 2))
}

impl Net for SequenceNet {
    fn tokens(&self) -> Option<&Tokens> {
        (!self.instance_norm).then_some(&self.columns)
    }

    /// The tokens, the linear part of the scores, and with instance normalisation what mean and
    /// deviation were.
    fn begin(&self, batch: &Batch) -> Vec<Tensor<3>> {
        let raw = self.steps(batch);
        let present = self.present(raw.clone(), batch);
        let (steps, level) = if self.instance_norm {
            let (batch, level) = normalised(batch);
            (self.steps(&batch), Some(level))
        } else {
            (raw, None)
        };
        let tokens = batch.steps / self.patch;
        let length = steps.dims()[1] * self.patch;
        let mut x = self.step.forward(steps.reshape([batch.rows, tokens, length]));
        if let Some(places) = &self.places {
            x = x + places.clone();
        }
        [x, present].into_iter().chain(level).collect()
    }

    fn n_stages(&self) -> usize {
        self.blocks.len()
    }

    fn stage(&self, i: usize, mut x: Vec<Tensor<3>>, batch: &Batch, pass: &Pass) -> Vec<Tensor<3>> {
        let tokens = batch.steps / self.patch;
        let lengths: Vec<usize> = batch.lengths.iter().map(|l| l.div_ceil(self.patch)).collect();
        let mask = Mask::new(&lengths, tokens, true);
        x[0] = self.blocks[i].forward(x[0].clone(), Some(&mask), pass);
        x
    }

    fn end(&self, x: Vec<Tensor<3>>) -> Tensor<3> {
        let mut x = x.into_iter();
        let (Some(tokens), Some(present)) = (x.next(), x.next()) else {
            unreachable!("`begin` gives tokens and the linear part");
        };
        let last = tokens.dims()[1] - 1;
        let last = self.norm.forward(tokens.narrow(1, last, 1));
        let last = std::iter::once(last).chain(x).collect();
        self.head.forward(Tensor::cat(last, 2)) + present
    }
}
