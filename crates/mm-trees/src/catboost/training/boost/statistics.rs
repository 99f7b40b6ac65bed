//! Statistics of categories: made when a level asks for them, kept while they may be asked again.

use std::sync::Arc;

use rayon::prelude::*;

use super::{
    super::{
        ctr::{self, Buckets, CtrColumn, Projection},
        structure::Split,
    },
    Booster,
};

/// Statistics of combinations that a fold keeps from tree to tree.
const KEPT: usize = 50;

/// Bytes of bins, and of rows, of which the memory is kept from tree to tree.
const ROOM_BYTES: usize = 32 << 20;

/// Bytes of buckets that are kept from tree to tree.
const KEPT_BYTES: usize = 64 << 20;

/// Memory of statistics that were dropped, for those of the next tree. Given back to the system it
/// would have to be cleared anew for each.
#[derive(Debug, Default)]
pub(super) struct Room {
    bins: Vec<Vec<u8>>,
    rows: Vec<Vec<u32>>,
}

impl Room {
    /// Keeps no more than the statistics of a tree may come to on not too many rows.
    fn shrink(&mut self) {
        let n = |bytes: usize| ROOM_BYTES / bytes.max(1);
        self.bins.truncate(n(self.bins.first().map_or(0, Vec::capacity)));
        self.rows.truncate(n(self.rows.first().map_or(0, |rows| 4 * rows.capacity())));
    }
}

/// A projection, with the base (by index) and the column that it extends it by, if any.
pub(super) type Extended = (Arc<Projection>, Option<(usize, u32)>);

impl Booster {
    /// The statistics of a projection.
    pub(in super::super) fn statistics(&self, projection: &Projection) -> &[CtrColumn] {
        if projection.is_simple() { &self.settings.simple } else { &self.settings.combined }
    }

    /// Sees to it that the fold has the statistics of the projections. Each is a single column, or
    /// one of `bases` with one more column.
    pub(super) fn compute(
        &mut self,
        taken: usize,
        bases: &[Projection],
        splits: &[Split],
        leaf_of: &[u32],
        projections: &[Extended],
    ) {
        let missing =
            |(projection, _): &&Extended| !self.folds[taken].ctrs.contains_key(projection);
        let missing: Vec<_> = projections.iter().filter(missing).collect();
        let room: Vec<(Vec<u8>, Vec<u32>)> = missing
            .iter()
            .map(|_| {
                let (bins, rows) = (self.room.bins.pop(), self.room.rows.pop());
                (bins.unwrap_or_default(), rows.unwrap_or_default())
            })
            .collect();
        let base_buckets: Vec<Option<Arc<Buckets>>> = bases
            .iter()
            .enumerate()
            .map(|(i, base)| {
                let is_needed = missing.iter().any(|(projection, way)| {
                    way.is_some_and(|(at, _)| at == i) && !self.buckets.contains_key(projection)
                });
                if !is_needed {
                    return None;
                }
                if base.columns.is_empty() {
                    return Some(Arc::new(answers(splits, leaf_of)));
                }
                Some(match self.buckets.get(base) {
                    Some(buckets) => Arc::clone(buckets),
                    None => Arc::new(self.learning.table.buckets(base)),
                })
            })
            .collect();
        let order = self.folds[taken].order.as_deref();
        let new: Vec<_> = missing
            .par_iter()
            .zip(room)
            .map(|((projection, way), (room, rows))| {
                let buckets = self.buckets.get(projection).cloned().unwrap_or_else(|| {
                    let base =
                        way.and_then(|(i, column)| Some((base_buckets[i].as_ref()?, column)));
                    Arc::new(match base {
                        None => self.learning.table.buckets(projection),
                        Some((base, column)) => {
                            base.with(&self.learning.table.categorical[column as usize], rows)
                        }
                    })
                });
                let columns = self.statistics(projection);
                let bins = ctr::bins(columns, &buckets, order, &self.learning.classes, room);
                (Arc::clone(projection), buckets, Arc::new(bins))
            })
            .collect();
        for (projection, buckets, bins) in new {
            self.folds[taken].ctrs.insert(Arc::clone(&projection), bins);
            self.buckets.insert(projection, buckets);
        }
    }

    /// Gives every fold the statistics that a tree's splits ask for.
    pub(super) fn complete(&mut self, splits: &[Split]) {
        let all = self.folds.iter().chain(&self.averaging).enumerate();
        let missing: Vec<(usize, Arc<Projection>)> = all
            .flat_map(|(i, fold)| {
                let mut own: Vec<(usize, Arc<Projection>)> = Vec::new();
                for split in splits {
                    if let Split::Ctr { projection, .. } = split
                        && !fold.ctrs.contains_key(projection)
                        && own.iter().all(|(_, other)| other != projection)
                    {
                        own.push((i, Arc::clone(projection)));
                    }
                }
                own
            })
            .collect();
        let room: Vec<Vec<u8>> =
            missing.iter().map(|_| self.room.bins.pop().unwrap_or_default()).collect();
        let of = |((i, projection), room): (&(usize, Arc<Projection>), Vec<u8>)| {
            let fold = self.folds.get(*i).or(self.averaging.as_ref());
            let order = fold.and_then(|fold| fold.order.as_deref());
            let columns = self.statistics(projection);
            ctr::bins(columns, &self.buckets[projection], order, &self.learning.classes, room)
        };
        let bins: Vec<Vec<u8>> = missing.par_iter().zip(room).map(of).collect();
        for ((i, projection), bins) in missing.into_iter().zip(bins) {
            if let Some(fold) = self.folds.get_mut(i).or(self.averaging.as_mut()) {
                fold.ctrs.insert(projection, Arc::new(bins));
            }
        }
    }

    /// Drops what only the last tree needed.
    pub(super) fn trim(&mut self) {
        let mut bins = Vec::new();
        for fold in self.folds.iter_mut().chain(&mut self.averaging) {
            bins.extend(fold.ctrs.extract_if(|projection, _| !projection.is_plain()));
            if KEPT < fold.ctrs.len() {
                fold.ctrs.retain(|projection, _| projection.columns.len() == 1);
            }
        }
        let buckets = self.buckets.extract_if(|projection, _| !projection.is_plain());
        let rows = buckets.filter_map(|(_, buckets)| Arc::into_inner(buckets));
        self.room.rows.extend(rows.map(|buckets| buckets.of_row));
        self.room.bins.extend(bins.into_iter().filter_map(|(_, bins)| Arc::into_inner(bins)));
        self.room.shrink();
        // What has statistics has buckets, too.
        if KEPT_BYTES < self.buckets.values().map(|buckets| buckets.bytes()).sum() {
            self.buckets.retain(|projection, _| projection.columns.len() == 1);
            for fold in self.folds.iter_mut().chain(&mut self.averaging) {
                fold.ctrs.retain(|projection, _| projection.columns.len() == 1);
            }
        }
    }
}

/// The buckets of the answers to the splits that ask columns themselves.
fn answers(splits: &[Split], leaf_of: &[u32]) -> Buckets {
    let levels: Vec<usize> =
        (0..splits.len()).filter(|&level| !matches!(splits[level], Split::Ctr { .. })).collect();
    let bits = |&leaf: &u32| {
        let bit = |(to, &from): (usize, &usize)| (leaf >> from & 1) << to;
        levels.iter().enumerate().map(bit).sum()
    };
    Buckets::by_answers(leaf_of.par_iter().map(bits).collect(), 1 << levels.len())
}
