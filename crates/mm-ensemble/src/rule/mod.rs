//! How the members' predictions of a row become one: the part of an ensemble that is stored.
//!
//! | file | rule |
//! | --- | --- |
//! | `weights.rs` | weighted mean, with one weight a member, or one a member and output |
//! | `middle.rs` | median and trimmed mean |
//! | `vote.rs` | each member has one vote |
//! | `rank.rs` | mean of ranks |
//! | `meta.rs` | a model of the members' predictions |
//!
//! A rule sees one row at a time, so a batch and its rows alone give the same bits.

mod meta;
mod middle;
mod rank;
mod vote;
mod weights;

use mm_core::{BodyReader, BodyWriter, Error, Frame, Matrix, Output, Result, parallel::fill_rows};
use serde::{Deserialize, Serialize};

pub use self::{meta::MetaInputs, vote::VoteOutput};
pub(crate) use self::{
    meta::{Meta, lift, lifted_schema},
    middle::Middle,
    rank::Ranks,
    vote::Vote,
    weights::Weights,
};

/// How the members' predictions of a row become one.
#[derive(Debug, Clone)]
pub(crate) enum Rule {
    Mean(Weights),
    Middle(Middle),
    Vote(Vote),
    Rank(Ranks),
    Meta(Meta),
}

/// What is stored of a rule besides a meta-model.
#[derive(Debug, Serialize, Deserialize)]
enum Stored {
    Mean(Weights),
    Middle(Middle),
    Vote(Vote),
    Rank(Ranks),
    Meta { passthrough: bool, inputs: MetaInputs },
}

/// Rows that a thread combines at once.
const BLOCK: usize = 4096;

impl Rule {
    /// Equal weights for `n` members.
    pub(crate) fn mean(n: usize) -> Self {
        Self::Mean(Weights::equal(n))
    }

    /// Refuses a rule that does not fit `n` members of the given outputs.
    pub(crate) fn check(&self, n: usize, outputs: &[Output]) -> Result<()> {
        match self {
            Self::Mean(weights) => weights.check(n, outputs.len()),
            Self::Middle(middle) => middle.check(),
            Self::Vote(vote) => vote.check(n, outputs),
            Self::Rank(ranks) => ranks.check(n, outputs),
            Self::Meta(meta) => meta.check(n * outputs.len(), outputs),
        }
    }

    /// One weight a member, where the rule has them; a member's mean over the outputs where it has
    /// several.
    pub(crate) fn weights(&self) -> Option<Vec<f64>> {
        match self {
            Self::Mean(weights) => Some(weights.by_member()),
            Self::Vote(vote) => Some(vote.weights().to_vec()),
            Self::Rank(ranks) => Some(ranks.weights().to_vec()),
            Self::Middle(_) | Self::Meta(_) => None,
        }
    }

    /// Combines the rows that the members predicted as `parts`.
    pub(crate) fn apply(&self, parts: &[&Matrix], x: &Frame, out: &mut Matrix) -> Result<()> {
        let (n_rows, k) = (out.n_rows(), out.n_cols());
        for part in parts {
            if (part.n_rows(), part.n_cols()) != (n_rows, k) {
                let got = format!("{} × {}", part.n_rows(), part.n_cols());
                let expected = format_args!("{n_rows} × {k}");
                return Err(Error::data("members' predictions", expected, got));
            }
        }
        if let Self::Meta(meta) = self {
            return meta.apply(parts, x, out);
        }
        fill_rows(out, BLOCK, |rows, values| {
            let mut row = vec![0.0; parts.len() * k];
            for (i, out) in rows.zip(values.chunks_exact_mut(k)) {
                for (to, part) in row.chunks_exact_mut(k).zip(parts) {
                    to.copy_from_slice(part.row(i));
                }
                self.combine(&row, out);
            }
            Ok(())
        })
    }

    /// Combines one row; `parts` holds the members' outputs one after another.
    pub(crate) fn apply_row(&self, parts: &[f64], x: &[f32], out: &mut [f64]) -> Result<()> {
        if let Self::Meta(meta) = self {
            return meta.apply_row(parts, x, out);
        }
        self.combine(parts, out);
        Ok(())
    }

    fn combine(&self, parts: &[f64], out: &mut [f64]) {
        match self {
            Self::Mean(weights) => weights.combine(parts, out),
            Self::Middle(middle) => middle.combine(parts, out),
            Self::Vote(vote) => vote.combine(parts, out),
            Self::Rank(ranks) => ranks.combine(parts, out),
            Self::Meta(_) => {} // Has a path of its own.
        }
    }

    pub(crate) fn write(&self, body: &mut BodyWriter) -> Result<()> {
        let stored = match self.clone() {
            Self::Mean(weights) => Stored::Mean(weights),
            Self::Middle(middle) => Stored::Middle(middle),
            Self::Vote(vote) => Stored::Vote(vote),
            Self::Rank(ranks) => Stored::Rank(ranks),
            Self::Meta(Meta { passthrough, inputs, .. }) => Stored::Meta { passthrough, inputs },
        };
        body.json(&stored)?;
        if let Self::Meta(meta) = self { body.model(&*meta.model) } else { Ok(()) }
    }

    pub(crate) fn read(body: &mut BodyReader<'_>) -> Result<Self> {
        Ok(match body.json()? {
            Stored::Mean(weights) => Self::Mean(weights),
            Stored::Middle(middle) => Self::Middle(middle),
            Stored::Vote(vote) => Self::Vote(vote),
            Stored::Rank(ranks) => Self::Rank(ranks),
            Stored::Meta { passthrough, inputs } => {
                Self::Meta(Meta { model: body.model()?.into(), passthrough, inputs })
            }
        })
    }
}

/// Whether the outputs are the probabilities of three or more classes, which must add up to 1.
pub(crate) fn are_classes(outputs: &[Output]) -> bool {
    1 < outputs.len() && outputs.iter().all(|output| matches!(output, Output::Probability(_)))
}

/// Scales a row of probabilities to add up to 1; a row of zeros becomes equal shares.
fn normalize(row: &mut [f64]) {
    let total: f64 = row.iter().sum();
    if 0.0 < total {
        for p in row {
            *p /= total;
        }
    } else {
        let share = 1.0 / row.len() as f64;
        row.fill(share);
    }
}
