//! Parameters that were proposed jointly and have not been asked for yet, as other workers see them.
//!
//! Workers of one sampler see them there. For those of other processes, they stand in system attributes `<sampler>:relative_params:<i>` of the trial: one JSON object of
//! external values, cut into pieces that fit a column of Optuna's tables. The keys are Optuna's.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    distribution::Distribution,
    history::History,
    json::Json,
    trial::{FrozenTrial, TrialId},
};

/// Parameters in internal form, by name.
type Params = Arc<[(Arc<str>, f64)]>;

/// What was proposed for a running trial.
#[derive(Debug, Clone)]
pub(super) enum Proposed {
    /// By this sampler, in internal form.
    Here(Params),
    /// By another worker's, in external form.
    Elsewhere(BTreeMap<String, Json>),
}

impl Proposed {
    /// The proposed value of a parameter, in internal form.
    pub(super) fn value(&self, name: &str, distribution: &Distribution) -> Option<f64> {
        match self {
            Self::Here(params) => {
                params.iter().find(|(known, _)| **known == *name).map(|&(_, value)| value)
            }
            Self::Elsewhere(params) => distribution.internal(name, params.get(name)?).ok(),
        }
    }
}

/// What a sampler has proposed for trials that are not finished.
#[derive(Debug, Default)]
pub(super) struct Open(BTreeMap<TrialId, Params>);

impl Open {
    /// Remembers a proposal, and forgets those of trials that have ended.
    pub(super) fn note(&mut self, trial: TrialId, params: &[(Arc<str>, f64)], history: &History) {
        let open: Vec<TrialId> = history.open().map(|trial| trial.id).collect();
        self.0.retain(|id, _| open.contains(id));
        self.0.insert(trial, params.into());
    }

    /// What was proposed for a trial, here or elsewhere.
    pub(super) fn proposed(&self, sampler: &str, trial: &FrozenTrial) -> Proposed {
        match self.0.get(&trial.id) {
            Some(params) => Proposed::Here(params.clone()),
            None => Proposed::Elsewhere(proposed(sampler, trial)),
        }
    }
}

/// Optuna's limit, in characters.
const PIECE: usize = 2045;

fn key(sampler: &str, piece: usize) -> String {
    format!("{sampler}:relative_params:{piece}")
}

/// The attributes that say what was proposed.
pub(super) fn notes<'a>(
    sampler: &str,
    params: &[(Arc<str>, f64)],
    distributions: impl Iterator<Item = &'a Arc<Distribution>>,
) -> Vec<(String, Json)> {
    let external = |((name, value), distribution): (&(Arc<str>, f64), &Arc<Distribution>)| {
        let value = match &**distribution {
            Distribution::Float(_) => Json::Float(*value),
            Distribution::Int(_) => Json::Int(*value as i64),
            Distribution::Categorical(choices) => {
                choices.get(*value as usize).map_or(Json::Null, Json::from)
            }
        };
        (name.to_string(), value)
    };
    let object: BTreeMap<String, Json> = params.iter().zip(distributions).map(external).collect();
    // ASCII, so that every byte is a character.
    let text = Json::Object(object).to_string();
    let pieces = text.as_bytes().chunks(PIECE).map(|piece| String::from_utf8_lossy(piece));
    pieces.enumerate().map(|(i, piece)| (key(sampler, i), Json::Text(piece.into_owned()))).collect()
}

/// What was proposed for a running trial, in external form by name; nothing if that is not known.
fn proposed(sampler: &str, trial: &FrozenTrial) -> BTreeMap<String, Json> {
    let pieces = (0..).map_while(|i| trial.system_attrs.get(&key(sampler, i))?.as_str());
    let text: String = pieces.collect();
    // What is written halfway is not known.
    match Json::parse(&text) {
        Ok(Json::Object(proposed)) => proposed,
        _ => BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use mm_core::{FloatRange, IntRange};

    use super::*;
    use crate::Study;

    #[test]
    fn what_is_noted_reads_back_however_long() {
        let names: Vec<Arc<str>> = (0..200).map(|i| format!("parameter {i:03}").into()).collect();
        let ranges = [
            Distribution::Float(FloatRange::new(0.0, 1.0)),
            Distribution::Int(IntRange::new(0, 9)),
            Distribution::Categorical(vec!["é".into(), crate::Choice::Null]),
        ];
        let ranges = ranges.map(Arc::new);
        let params: Vec<_> = names.iter().map(|name| (name.clone(), 1.0)).collect();
        let notes = notes("tpe", &params, ranges.iter().cycle().take(200));
        assert!(1 < notes.len());
        let study = Study::in_memory(mm_core::Direction::Minimize);
        let mut trial = study.ask().expect("memory").frozen().clone();
        trial.system_attrs.extend(notes);
        let proposed = proposed("tpe", &trial);
        assert_eq!(proposed.len(), 200);
        for (i, name) in names.iter().enumerate() {
            let expected = [Json::Float(1.0), Json::Int(1), Json::Null][i % 3].clone();
            assert_eq!(proposed[&**name], expected, "{name}");
        }
    }
}
