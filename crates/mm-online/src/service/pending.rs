//! Rows that wait for their labels, and rows that had theirs.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use mm_core::Result;

use super::event::{Prediction, RowId};
use crate::bytes::{Decoder, Encoder};

/// A row that was predicted and waits for its label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Waiting {
    pub(crate) id: RowId,
    pub(crate) row: u64, // How many rows had come, this one included.
    pub(crate) time: Option<i64>,
    pub(crate) last_label: f64, // What the baselines would have said; NaN for nothing.
    pub(crate) usual_label: f64,
    pub(crate) x: Box<[f32]>,
    pub(crate) prediction: Prediction,
}

/// Waiting rows in the order in which they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending {
    by_order: BTreeMap<u64, Waiting>, // By `Waiting::row`.
    order_of: HashMap<RowId, u64>,
}

impl Pending {
    pub(crate) fn len(&self) -> usize {
        self.by_order.len()
    }

    pub(crate) fn contains(&self, id: RowId) -> bool {
        self.order_of.contains_key(&id)
    }

    pub(crate) fn take(&mut self, id: RowId) -> Option<Waiting> {
        let order = self.order_of.remove(&id)?;
        self.by_order.remove(&order)
    }

    /// Lets a row wait: a new one, or one that was taken, in its old place.
    pub(crate) fn push(&mut self, waiting: Waiting) {
        let at = waiting.row;
        self.order_of.insert(waiting.id, at);
        self.by_order.insert(at, waiting);
    }

    /// Forgets the oldest rows while there are more than `limit`, and those remembered before
    /// `since`; how many. A row without a time goes by the limit alone.
    pub(crate) fn expire(&mut self, limit: usize, since: Option<i64>) -> u64 {
        let mut n = 0;
        while let Some(oldest) = self.by_order.first_entry() {
            let is_old = since.zip(oldest.get().time).is_some_and(|(since, time)| time < since);
            if !is_old && self.order_of.len() <= limit {
                break;
            }
            self.order_of.remove(&oldest.remove().id);
            n += 1;
        }
        n
    }

    pub(crate) fn encode(&self, to: &mut Encoder) {
        to.u32(self.len() as u32);
        for waiting in self.by_order.values() {
            to.u128(waiting.id);
            to.u64(waiting.row);
            to.option_i64(waiting.time);
            to.f64(waiting.last_label);
            to.f64(waiting.usual_label);
            to.f32s(&waiting.x);
            waiting.prediction.encode(to);
        }
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        let mut pending = Self::default();
        for _ in 0..from.count(40)? {
            pending.push(Waiting {
                id: from.u128()?,
                row: from.u64()?,
                time: from.option_i64()?,
                last_label: from.f64()?,
                usual_label: from.f64()?,
                x: from.f32s()?.into(),
                prediction: Prediction::decode(from)?,
            });
        }
        Ok(pending)
    }
}

/// The names of the last rows that were learnt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    set: HashSet<RowId>,
    order: VecDeque<RowId>,
}

impl Known {
    pub(crate) fn contains(&self, id: RowId) -> bool {
        self.set.contains(&id)
    }

    /// Adds a name, and forgets the oldest while there are more than `limit`.
    pub(crate) fn push(&mut self, id: RowId, limit: usize) {
        self.set.insert(id);
        self.order.push_back(id);
        while limit < self.order.len() {
            if let Some(oldest) = self.order.pop_front() {
                self.set.remove(&oldest);
            }
        }
    }

    pub(crate) fn encode(&self, to: &mut Encoder) {
        to.u32(self.order.len() as u32);
        self.order.iter().for_each(|&id| to.u128(id));
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        let mut known = Self::default();
        for _ in 0..from.count(16)? {
            known.push(from.u128()?, usize::MAX);
        }
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(id: u64, time: Option<i64>) -> Waiting {
        let prediction = Prediction {
            version: 0,
            champion: super::super::event::Said::default(),
            shadows: Vec::new(),
            threshold: None,
        };
        let (last_label, usual_label) = (0.0, 0.0);
        Waiting { id: id.into(), row: id, time, last_label, usual_label, x: [].into(), prediction }
    }

    #[test]
    fn the_oldest_rows_go_first_by_time_and_by_number() {
        let mut pending = Pending::default();
        (0..10).for_each(|i| pending.push(waiting(i, Some(i as i64))));
        assert_eq!(pending.expire(100, Some(3)), 3);
        assert_eq!(pending.expire(5, Some(3)), 2);
        assert!(!pending.contains(4) && pending.contains(5));
        assert_eq!(pending.take(7).map(|w| w.id), Some(7));
        assert!(pending.take(7).is_none());
        assert_eq!(pending.expire(3, None), 1);
        assert_eq!(pending.len(), 3);
    }

    #[test]
    fn only_the_last_names_are_known() {
        let mut known = Known::default();
        (0..5).for_each(|id| known.push(id, 3));
        let found: Vec<RowId> = (0..5).filter(|&id| known.contains(id)).collect();
        assert_eq!(found, [2, 3, 4]);
    }
}
