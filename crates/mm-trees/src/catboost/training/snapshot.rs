//! The state of an unfinished fit, kept and resumed.
//!
//! Kept is what no repetition gives back at less cost: the trees so far, the scores of every fold, the
//! random stream, and which statistics and columns some tree has asked. Bins and statistics are made
//! anew. A resumed fit adds the trees that it finds, round by round, as if it had just grown them, so
//! that the observer and early stopping hear what they would have heard.
//!
//! Where snapshots last, a fit goes on from one of fewer rounds, too. The number of rounds settles some
//! of what is automatic (the learning rate, Newton steps, combinations), so the state is kept under what
//! the params come to on the data: where that differs, a fit starts anew.

use std::borrow::Cow;

use mm_core::{Dataset, FitContext, Result, Slot};
use serde::{Deserialize, Serialize};

use super::{
    super::CatBoostModel,
    CatBoostParams,
    boost::{Booster, Grown, State},
};

/// Raised whenever the layout of a snapshot, or what a fit comes to, changes.
const VERSION: &str = "2";

#[derive(Serialize, Deserialize)]
struct Snapshot<'a> {
    grown: Cow<'a, [Grown]>,
    state: State,
}

/// The trees of a fit that may be interrupted.
pub(super) struct Keeper {
    slot: Option<Slot>,
    /// Whether the state stays when the fit is done.
    lasts: bool,
    /// All trees so far; none without a slot.
    grown: Vec<Grown>,
    /// Trees found that were not asked for yet.
    n_found: usize,
}

impl Keeper {
    /// Brings `booster` to where an earlier fit with the same outcome was, if it has left its state.
    pub(super) fn new(
        params: &CatBoostParams,
        data: &Dataset,
        previous: Option<&CatBoostModel>,
        ctx: &FitContext<'_>,
        booster: &mut Booster,
    ) -> Result<Self> {
        let Some(snapshots) = ctx.snapshots else {
            return Ok(Self { slot: None, lasts: false, grown: Vec::new(), n_found: 0 });
        };
        let any_rounds = CatBoostParams { rounds: 0, ..params.clone() };
        let lasts = snapshots.is_lasting();
        let params = if lasts { &any_rounds } else { params };
        let settings = if lasts { format!("{:?}", booster.settings()) } else { String::new() };
        let parts = [
            b"catboost".to_vec(),
            VERSION.as_bytes().to_vec(),
            env!("CARGO_PKG_VERSION").as_bytes().to_vec(),
            serde_json::to_vec(params).expect("params have string keys only"),
            settings.into_bytes(),
            ctx.seed.to_le_bytes().to_vec(),
            data.fingerprint().into_bytes(),
            ctx.validation.map(|held_out| held_out.fingerprint().into_bytes()).unwrap_or_default(),
            previous.map(CatBoostModel::to_cbm).transpose()?.unwrap_or_default(),
        ];
        let slot = snapshots.slot(&parts);
        let snapshot = slot.load().and_then(|bytes| postcard::from_bytes(&bytes).ok());
        let resumed = snapshot.and_then(|Snapshot { grown, state }| {
            booster.resume(grown.len(), state).then(|| grown.into_owned())
        });
        let grown = resumed.unwrap_or_default();
        Ok(Self { slot: Some(slot), lasts, n_found: grown.len(), grown })
    }

    /// The tree of round `round`, from 1: found, or grown.
    pub(super) fn grow(&mut self, round: usize, booster: &mut Booster) -> Grown {
        if round <= self.n_found {
            return self.grown[round - 1].clone();
        }
        let grown = booster.grow();
        if let Some(slot) = &mut self.slot {
            self.grown.push(grown.clone());
            if slot.is_due() {
                keep(slot, &self.grown, booster);
            }
        }
        grown
    }

    /// Ends a fit of `rounds` rounds: nothing stays of one that is done, and the state of one that
    /// could go on, or may by a fit of more rounds.
    pub(super) fn finish(self, rounds: usize, is_done: bool, booster: &Booster) {
        match self.slot {
            Some(slot) if is_done && !self.lasts => slot.clear(),
            Some(mut slot) if self.n_found < rounds => keep(&mut slot, &self.grown, booster),
            _ => {}
        }
    }
}

/// What cannot be kept is no reason to give up the fit: it is logged.
fn keep(slot: &mut Slot, grown: &[Grown], booster: &Booster) {
    let snapshot = Snapshot { grown: Cow::Borrowed(grown), state: booster.state() };
    match postcard::to_stdvec(&snapshot) {
        Ok(bytes) => {
            if let Err(e) = slot.keep(&bytes) {
                tracing::warn!(error = %e.chain(), "snapshot cannot be written; the fit goes on");
            }
        }
        Err(e) => tracing::warn!(error = %e, "snapshot cannot be made; the fit goes on"),
    }
}
