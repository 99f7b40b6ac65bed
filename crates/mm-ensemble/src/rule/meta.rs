//! A model of the members' predictions.

use std::sync::Arc;

use mm_core::{Column, Error, Frame, Matrix, Model, Output, Result, Schema};
use serde::{Deserialize, Serialize};

/// In which form probabilities reach a meta-model. Values of a regression are taken as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MetaInputs {
    /// Log-odds of the positive class, or logarithms of the classes' probabilities, with
    /// probabilities kept 10⁻⁶ away from 0 and 1: what a linear model can add up.
    #[default]
    Logits,
    /// As the members give them.
    Raw,
}

/// A model whose features are the members' predictions and, if asked, the raw features.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    pub(crate) model: Arc<dyn Model>,
    pub(crate) passthrough: bool,
    pub(crate) inputs: MetaInputs,
}

/// How near to 0 and 1 a probability may come before its log-odds are taken.
const EDGE: f64 = 1e-6;

impl MetaInputs {
    fn turn(self, y: f64, k: usize) -> f32 {
        let p = y.clamp(EDGE, 1.0 - EDGE);
        let turned = match self {
            Self::Raw => y,
            Self::Logits if k == 1 => (p / (1.0 - p)).ln(),
            Self::Logits => p.ln(),
        };
        turned as f32
    }

    /// Values that are no probabilities stay as they are.
    pub(crate) fn suited_to(self, outputs: &[Output]) -> Self {
        let probabilities = outputs.iter().all(|o| matches!(o, Output::Probability(_)));
        if probabilities { self } else { Self::Raw }
    }
}

impl Meta {
    pub(super) fn check(&self, n_parts: usize, outputs: &[Output]) -> Result<()> {
        let signature = self.model.signature();
        if signature.outputs != outputs {
            let expected = format_args!("the members' outputs {outputs:?}");
            return Err(Error::data("meta-model", expected, format!("{:?}", signature.outputs)));
        }
        let width = signature.schema.len();
        let ok = if self.passthrough { n_parts <= width } else { n_parts == width };
        if ok { Ok(()) } else { Err(Error::Columns { expected: width, got: n_parts }) }
    }

    pub(super) fn apply(&self, parts: &[&Matrix], x: &Frame, out: &mut Matrix) -> Result<()> {
        let schema = self.model.signature().schema.clone();
        let lifted = lift(parts, x, self.passthrough, self.inputs, schema)?;
        self.model.infer(&lifted, out)
    }

    pub(super) fn apply_row(&self, parts: &[f64], x: &[f32], out: &mut [f64]) -> Result<()> {
        let k = out.len();
        let mut row: Vec<f32> = parts.iter().map(|&y| self.inputs.turn(y, k)).collect();
        if self.passthrough {
            row.extend(x);
        }
        self.model.infer_row(&row, out)
    }
}

/// The columns of a meta-model: one a member and output, then, with `passthrough`, those of the raw
/// features. A name that a raw feature has, too, gets primes until it differs.
pub(crate) fn lifted_schema(
    members: &[&str],
    outputs: &[Output],
    raw: &Schema,
    passthrough: bool,
) -> Result<Schema> {
    let mut columns = Vec::new();
    for member in members {
        for output in outputs {
            let mut name = match output {
                _ if outputs.len() == 1 => format!("p({member})"),
                Output::Probability(class) => format!("p({member}, {class})"),
                other => format!("p({member}, {other:?})"),
            };
            while passthrough && raw.position(&name).is_some() {
                name.push('\'');
            }
            columns.push(Column::numeric(name));
        }
    }
    if passthrough {
        columns.extend(raw.columns().iter().cloned());
    }
    Schema::new(columns)
}

/// The members' predictions, and the raw features where they pass through, as a frame of `schema`.
pub(crate) fn lift(
    parts: &[&Matrix],
    x: &Frame,
    passthrough: bool,
    inputs: MetaInputs,
    schema: Schema,
) -> Result<Frame> {
    let mut values = Vec::with_capacity(x.n_rows() * schema.len());
    for (i, raw) in x.rows().enumerate() {
        for part in parts {
            let row = part.row(i);
            values.extend(row.iter().map(|&y| inputs.turn(y, row.len())));
        }
        if passthrough {
            values.extend(raw);
        }
    }
    let mut frame = Frame::with_schema(values, schema)?;
    if let Some(times) = x.times() {
        frame = frame.with_times(times.to_vec())?;
    }
    if let Some(entities) = x.entities() {
        frame = frame.with_entities(entities.to_vec())?;
    }
    Ok(frame)
}
