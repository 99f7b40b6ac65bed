//! One model of several, batch and online: mixed by weights that are fixed, or learnt row by row.
//!
//! # Idea
//!
//! Members have names and predict side by side; the blend is Σ *wᵢ pᵢ*. With
//! [`BlendRule::Fixed`] the weights stay, as in the classic 0.8 batch + 0.2 online. With
//! [`BlendRule::FixedShare`] each label moves weight to the members that gave it the most
//! probability, and every member keeps a share to come back from:
//!
//! ```text
//! wᵢ ← wᵢ · pᵢ(y)^η        normalise        wᵢ ← (1 − s) wᵢ + s / m
//! ```
//!
//! On any stream the log loss is at most that of the best *sequence* of members, plus a cost for
//! each switch. How often members should switch is not known beforehand either: the rule runs for
//! several shares *s* at once, and mixes the mixtures by Bayes's rule in their turn. Here *pᵢ(y)* is the probability of the class, at least 10⁻⁶; for regression the
//! normal density around member *i*'s value, whose variance is the blend's own fading squared error.
//!
//! # Late labels
//!
//! With a label that comes *D* rows late the plain mixture (*η* = 1) is overconfident: *D* rows were
//! predicted before any of them could speak, and those rows are alike. Its exponent is therefore
//! *η* / (1 + *D*). And members are judged by what they said when the row was predicted
//! ([`OnlineModel::infer_noting`]): by the time of the label they know better. A
//! [`Service`](crate::Service) does both.
//!
//! # Limits
//!
//! A member that refuses a row does not learn it; the row is refused only if all members do.
//!
//! # Example
//!
//! ```
//! use mm_core::{BoxModel, OnlineModel};
//! use mm_online::{Blend, BlendParams, Frozen};
//!
//! # fn blend(batch: BoxModel, online: Box<dyn OnlineModel>) -> mm_core::Result<()> {
//! let batch: Box<dyn OnlineModel> = Box::new(Frozen::new(batch));
//! let blend = Blend::new([("batch", batch), ("online", online)], BlendParams::default())?;
//! for (name, weight) in blend.weights() {
//!     println!("{name} has {weight}");
//! }
//! # Ok(()) }
//! ```
//!
//! # Sources
//!
//! Herbster & Warmuth (1998), "Tracking the best expert"; Monteleoni & Jaakkola (2003), "Online
//! learning of non-stationary sequences", for the mixture over shares; Vovk (1998), "A game of prediction with
//! expert advice".

mod calibrated;

use std::collections::BTreeMap;

use mm_core::{
    BodyReader, BodyWriter, Envelope, Error, Frame, Late, Matrix, Model, OnlineModel, ParamError,
    Persist, Result, Sample, Signature, Tag,
};
use serde::{Deserialize, Serialize};

pub use self::calibrated::{Calibrated, CalibrationParams};
use crate::{progress::probability, service::open_online};

const FLOOR: f64 = 1e-6; // The least probability that a member is taken to give.
const SHARE_OF_SHARES: f64 = 0.001; // How often the best share is taken to change.

/// How a blend weighs its members.
///
/// | field | default | domain | effect |
/// | --- | --- | --- | --- |
/// | `rule` | `fixed_share` | | whether weights are learnt |
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct BlendParams {
    /// Whether weights are learnt.
    pub rule: BlendRule,
}

impl BlendParams {
    /// Weights by name that stay as they are.
    pub fn fixed<S: Into<String>>(weights: impl IntoIterator<Item = (S, f64)>) -> Self {
        let weights = weights.into_iter().map(|(name, weight)| (name.into(), weight)).collect();
        Self { rule: BlendRule::Fixed { weights } }
    }

    /// The weights before the first row, one a member, adding up to 1.
    fn start(&self, names: &[String]) -> Result<Vec<f64>> {
        match &self.rule {
            BlendRule::FixedShare { shares, rate, half_life } => {
                let ok = !shares.is_empty() && shares.iter().all(|s| 0.0 <= *s && *s < 1.0);
                let got = format!("{shares:?}");
                ParamError::ensure(ok, "rule.shares", got, "numbers in [0, 1), at least one")?;
                let ok = 0.0 < *rate && rate.is_finite();
                ParamError::ensure(ok, "rule.rate", rate, "a finite number > 0")?;
                let ok = 0.0 < *half_life && half_life.is_finite();
                ParamError::ensure(ok, "rule.half_life", half_life, "a finite number > 0")?;
                Ok(vec![1.0 / names.len() as f64; names.len()])
            }
            BlendRule::Fixed { weights } => {
                for (name, weight) in weights {
                    let ok = 0.0 <= *weight && weight.is_finite();
                    let name = format!("rule.weights.{name}");
                    ParamError::ensure(ok, name, weight, "a finite number ≥ 0")?;
                }
                let known = weights.keys().all(|name| names.contains(name));
                let total: f64 = weights.values().sum();
                if !known || weights.len() != names.len() || total <= 0.0 {
                    let got = weights.keys().cloned().collect::<Vec<_>>().join(", ");
                    let expected = format!("one of each of {}, not all 0", names.join(", "));
                    return Err(Error::data("weights of the blend", expected, got));
                }
                Ok(names.iter().map(|name| weights[name] / total).collect())
            }
        }
    }
}

/// Where the weights of a blend come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum BlendRule {
    /// They are given by name, and stay.
    Fixed {
        /// One a member, finite and ≥ 0; scaled to add up to 1.
        weights: BTreeMap<String, f64>,
    },
    /// They are learnt.
    FixedShare {
        /// The parts of all weight that are spread evenly after each row, in [0, 1): about how often
        /// the best member changes. Which of them serves is learnt.
        shares: Vec<f64>,
        /// The exponent *η* of a label that comes at once, > 0; 1 is Bayes's rule.
        rate: f64,
        /// Rows after which a squared error counts half in the variance, for regression; > 0.
        half_life: f64,
    },
}

impl Default for BlendRule {
    fn default() -> Self {
        Self::FixedShare { shares: vec![0.0005, 0.005, 0.05], rate: 1.0, half_life: 1000.0 }
    }
}

/// Named members whose predictions are mixed.
#[derive(Debug)]
pub struct Blend {
    signature: Signature,
    params: BlendParams,
    names: Vec<String>, // Invariant: one a member, distinct, at least one.
    members: Vec<Box<dyn OnlineModel>>, // Invariant: all of one signature.
    weights: Vec<f64>,  // Invariant: one a member, none negative, adding up to 1.
    tracks: Vec<f64>,   // Weights of the members under each share, one share after another.
    votes: Vec<f64>,    // Weights of the shares, adding up to 1.
    error: [f64; 2],    // Fading sums, for regression: weight, squared error of the blend.
    n_learnt: u64,
    room: Vec<f64>,
}

impl Blend {
    /// Mixes the members, which must be distinct in name and alike in signature.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] for no members, a name that comes twice, or models of different signatures;
    /// [`Error::Param`] for bad parameters.
    pub fn new<S: Into<String>>(
        members: impl IntoIterator<Item = (S, Box<dyn OnlineModel>)>,
        params: BlendParams,
    ) -> Result<Self> {
        let (names, members): (Vec<String>, Vec<_>) =
            members.into_iter().map(|(name, member)| (name.into(), member)).unzip();
        let Some(first) = members.first() else {
            return Err(Error::data("members", "at least 1", "none"));
        };
        if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            return Err(Error::data("members", "distinct names", format!("`{}` twice", twice.1)));
        }
        let mut signature = first.signature().clone();
        for member in &members {
            let other = member.signature();
            let same = other.schema == signature.schema
                && other.task == signature.task
                && other.outputs == signature.outputs;
            if !same {
                return Err(Error::data("members", "one signature", "models of different ones"));
            }
            signature.admits_infinite &= other.admits_infinite;
        }
        let weights = params.start(&names)?;
        let n_shares = match &params.rule {
            BlendRule::Fixed { .. } => 0,
            BlendRule::FixedShare { shares, .. } => shares.len(),
        };
        let (tracks, votes) = (weights.repeat(n_shares), vec![1.0 / n_shares as f64; n_shares]);
        let (error, n_learnt, room) = ([0.0; 2], 0, Vec::new());
        Ok(Self {
            signature,
            params,
            names,
            members,
            weights,
            tracks,
            votes,
            error,
            n_learnt,
            room,
        })
    }

    /// The members' names and weights, which add up to 1.
    pub fn weights(&self) -> impl ExactSizeIterator<Item = (&str, f64)> {
        self.names.iter().map(String::as_str).zip(self.weights.iter().copied())
    }

    /// The member called `name`.
    pub fn member(&self, name: &str) -> Option<&dyn OnlineModel> {
        let at = self.names.iter().position(|other| other == name)?;
        Some(&*self.members[at])
    }

    /// A copy with `model` in the place, and with the weight, of the member called `name`: a
    /// challenger with a batch model that was fitted anew.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for an unknown name; [`Error::Data`] for a model of another signature.
    pub fn with_member(&self, name: &str, model: Box<dyn OnlineModel>) -> Result<Self> {
        let Some(at) = self.names.iter().position(|other| other == name) else {
            return Err(Error::NotFound { what: "member", name: name.to_owned() });
        };
        let mut members: Vec<_> = self.members.iter().map(|member| member.fork()).collect();
        members[at] = model;
        let new = Self::new(self.names.iter().cloned().zip(members), self.params.clone())?;
        let (tracks, votes) = (self.tracks.clone(), self.votes.clone());
        Ok(Self { weights: self.weights.clone(), tracks, votes, error: self.error, ..new })
    }

    fn n_outputs(&self) -> usize {
        self.signature.n_outputs()
    }

    /// What each member says, one after another, and what they note; `out` is their mixture.
    fn note(&self, row: &[f32], out: &mut [f64], note: &mut Vec<f64>) -> Result<()> {
        let (k, m) = (self.n_outputs(), self.members.len());
        let first = note.len();
        note.resize(first + k * m, 0.0);
        let mut part = vec![0.0; k];
        out.fill(0.0);
        for (i, member) in self.members.iter().enumerate() {
            let length = note.len();
            note.push(0.0);
            member.infer_noting(row, &mut part, note)?;
            note[length] = (note.len() - length - 1) as f64;
            note[first + i * k..first + (i + 1) * k].copy_from_slice(&part);
            add(out, self.weights[i], &part);
        }
        Ok(())
    }

    fn learn(&mut self, sample: &Sample<'_>, note: &[f64], delay: u64) -> Result<()> {
        let (k, m) = (self.n_outputs(), self.members.len());
        let strange =
            || Error::data("note of a prediction", "one that this blend wrote", note.len());
        let (parts, mut rest) = note.split_at_checked(k * m).ok_or_else(strange)?;
        let mut notes = Vec::with_capacity(m);
        for _ in 0..m {
            let (&length, tail) = rest.split_first().ok_or_else(strange)?;
            let is_count = 0.0 <= length && length <= tail.len() as f64 && length.fract() == 0.0;
            let split = is_count.then(|| tail.split_at(length as usize));
            let (head, tail) = split.ok_or_else(strange)?;
            notes.push(head);
            rest = tail;
        }
        if !rest.is_empty() {
            return Err(strange());
        }
        let mut refusals = Vec::new();
        for (member, note) in self.members.iter_mut().zip(notes) {
            refusals.extend(member.learn_late(sample, Late { note, delay }).err());
        }
        if refusals.len() == m
            && let Some(first) = refusals.into_iter().next()
        {
            return Err(first);
        }
        if 0.0 < sample.weight {
            self.n_learnt += 1;
            self.weigh(sample, parts, delay);
        }
        Ok(())
    }

    /// Moves weight to the members that said what came true.
    fn weigh(&mut self, sample: &Sample<'_>, parts: &[f64], delay: u64) {
        let BlendRule::FixedShare { shares, rate, half_life } = &self.params.rule else { return };
        let (k, m) = (self.signature.n_outputs(), self.members.len());
        let is_regression = self.signature.task.n_classes() == 0;
        let [seen, squares] = self.error;
        // Without errors so far, nobody is better than anybody.
        let precision = if 0.0 < squares { seen / squares } else { 0.0 };
        let log = |part: &[f64]| {
            let log = if is_regression {
                -0.5 * precision * (sample.y - part[0]).powi(2)
            } else {
                probability(part, sample.y).clamp(FLOOR, 1.0 - FLOOR).ln()
            };
            // A prediction that is none is the worst one, and must not poison the others' weights.
            if log.is_finite() { log } else { FLOOR.ln() }
        };
        let logs: Vec<f64> = parts.chunks_exact(k).map(log).collect();
        if is_regression {
            let said = parts.iter().zip(&self.weights).map(|(part, weight)| part * weight);
            let square = (sample.y - said.sum::<f64>()).powi(2);
            if square.is_finite() {
                let (w, fade) = (sample.weight, (-std::f64::consts::LN_2 / half_life).exp());
                self.error = [fade * seen + w, fade * squares + w * square];
            }
        }
        let eta = rate * sample.weight / (1.0 + delay as f64);
        let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let likelihoods: Vec<f64> = logs.iter().map(|log| (eta * (log - top)).exp()).collect();
        let tracks = self.tracks.chunks_exact_mut(m).zip(shares);
        for ((track, share), vote) in tracks.zip(&mut self.votes) {
            *vote *= bayes(track, &likelihoods, *share);
        }
        let even = vec![1.0; self.votes.len()];
        bayes(&mut self.votes, &even, SHARE_OF_SHARES);
        self.weights.fill(0.0);
        for (track, &vote) in self.tracks.chunks_exact(m).zip(&self.votes) {
            add(&mut self.weights, vote, track);
        }
    }
}

/// Multiplies weights by likelihoods, normalizes them, and spreads a share of them evenly; what they
/// added up to before they were normalized.
fn bayes(weights: &mut [f64], likelihoods: &[f64], share: f64) -> f64 {
    let n = weights.len() as f64;
    for (weight, likelihood) in weights.iter_mut().zip(likelihoods) {
        *weight = (*weight * likelihood).max(f64::MIN_POSITIVE);
    }
    let total: f64 = weights.iter().sum();
    for weight in weights {
        *weight = (1.0 - share) * (*weight / total) + share / n;
    }
    total
}

impl Clone for Blend {
    fn clone(&self) -> Self {
        Self {
            signature: self.signature.clone(),
            params: self.params.clone(),
            names: self.names.clone(),
            members: self.members.iter().map(|member| member.fork()).collect(),
            weights: self.weights.clone(),
            tracks: self.tracks.clone(),
            votes: self.votes.clone(),
            room: Vec::new(),
            ..*self
        }
    }
}

impl Model for Blend {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        let mut part = Matrix::zeros(out.n_rows(), out.n_cols());
        out.values_mut().fill(0.0);
        for (member, &weight) in self.members.iter().zip(&self.weights) {
            member.infer(x, &mut part)?;
            add(out.values_mut(), weight, part.values());
        }
        Ok(())
    }

    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        let (mut few, mut many) = ([0.0; 8], Vec::new());
        let part = if let Some(part) = few.get_mut(..out.len()) {
            part
        } else {
            many.resize(out.len(), 0.0);
            &mut many[..]
        };
        out.fill(0.0);
        for (member, &weight) in self.members.iter().zip(&self.weights) {
            member.infer_row(row, part)?;
            add(out, weight, part);
        }
        Ok(())
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }

    fn as_online(&self) -> Option<&dyn OnlineModel> {
        Some(self)
    }
}

impl OnlineModel for Blend {
    fn learn_one(&mut self, sample: &Sample<'_>) -> Result<()> {
        let mut note = std::mem::take(&mut self.room);
        note.clear();
        let mut out = vec![0.0; self.n_outputs()];
        let learnt = match self.note(sample.x, &mut out, &mut note) {
            Ok(()) => self.learn(sample, &note, 0),
            Err(e) => Err(e),
        };
        self.room = note;
        learnt
    }

    fn infer_noting(&self, row: &[f32], out: &mut [f64], note: &mut Vec<f64>) -> Result<()> {
        self.note(row, out, note)
    }

    fn learn_late(&mut self, sample: &Sample<'_>, late: Late<'_>) -> Result<()> {
        self.learn(sample, late.note, late.delay)
    }

    fn n_learnt(&self) -> u64 {
        self.n_learnt
    }

    fn size_bytes(&self) -> usize {
        let members: usize = self.members.iter().map(|member| member.size_bytes()).sum();
        size_of::<Self>() + members
    }

    fn fork(&self) -> Box<dyn OnlineModel> {
        Box::new(self.clone())
    }
}

impl Persist for Blend {
    const TAG: Tag = Tag::new("mm.blend", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.json(&(&self.params, &self.names, self.n_learnt))?;
        body.numbers(&self.weights);
        body.numbers(&self.tracks);
        body.numbers(&self.votes);
        body.numbers(&self.error);
        self.members.iter().try_for_each(|member| body.model(&**member))
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        let (params, names, n_learnt): (BlendParams, Vec<String>, u64) = body.json()?;
        let damaged = |got: String| Error::corrupt("blend", "a valid one", got);
        let (weights, tracks, votes) = (body.numbers()?, body.numbers()?, body.numbers()?);
        let error = body.numbers()?;
        let error = error.try_into().map_err(|_| damaged("other sums".to_owned()))?;
        let member = |name| Ok((name, open_online(&*body.model()?)?));
        let members: Vec<_> = names.into_iter().map(member).collect::<Result<_>>()?;
        let new = Self::new(members, params).map_err(|e| damaged(e.chain()))?;
        let m = new.weights.len();
        let is_whole = |weights: &[f64]| {
            weights.iter().all(|w| 0.0 <= *w) && (weights.iter().sum::<f64>() - 1.0).abs() < 1e-9
        };
        let lengths = [weights.len(), tracks.len(), votes.len()];
        let fits = lengths == [m, new.tracks.len(), new.votes.len()]
            && is_whole(&weights)
            && tracks.chunks_exact(m).all(is_whole)
            && (votes.is_empty() || is_whole(&votes));
        if !fits {
            return Err(damaged(format!("weights {weights:?}, {tracks:?}, {votes:?}")));
        }
        Ok(Self { weights, tracks, votes, error, n_learnt, ..new })
    }
}

fn add(out: &mut [f64], weight: f64, part: &[f64]) {
    out.iter_mut().zip(part).for_each(|(sum, y)| *sum += weight * y);
}

#[cfg(test)]
mod tests;
