//! The search of a symmetric tree: level by level, the split of all leaves that scores best.

use std::{collections::HashMap, sync::Arc};

use rayon::prelude::*;

use super::{
    super::{
        monotone,
        rng::Rng,
        score::{self, Histogram, Part, Sample},
        structure::Split,
    },
    Booster,
    candidates::{Column, Group, Source, Task},
    fold::Fold,
};

/// Bytes of a group's histograms above which they are not kept from level to level.
const HISTOGRAM_BYTES: usize = 4 << 20;

/// Rows of a bin from which on the histograms of a prefix are kept.
const ROWS_OF_BIN: usize = 32;

impl Booster {
    /// Searches the splits of a tree on a fold; these, and the leaf of each row there.
    pub(super) fn search(
        &mut self,
        taken: usize,
        mut parts: Vec<Part>,
        noise: f64,
    ) -> (Vec<Split>, Vec<u32>) {
        let mut leaf_of = vec![0_u32; self.learning.table.n_rows];
        let mut splits: Vec<Split> = Vec::new();
        let mut before = 0.0;
        let mut histograms: HashMap<Source, Vec<Option<Histogram>>> = HashMap::new();
        // Which penalties on columns count; of prefixes the last one has them all.
        let drawn: Vec<u32> = match parts.last() {
            Some(last) if !self.settings.rules.are_plain() => {
                last.samples().flat_map(Sample::rows).copied().collect()
            }
            _ => Vec::new(),
        };
        while splits.len() < self.settings.depth {
            let mut tasks = self.tasks(taken, &splits, &leaf_of);
            for group in tasks.iter_mut().flat_map(|task| &mut task.groups) {
                group.histograms = histograms.remove(&group.source).unwrap_or_default();
            }
            histograms.clear(); // Of columns that this level leaves out.
            self.update(&parts, &mut tasks, self.settings.depth, |_| true);
            let seed = self.rng.next();
            let signs = self.signs(&splits);
            tasks.par_iter_mut().enumerate().for_each(|(i, task)| {
                self.score(&parts, task, noise, Rng::of_task(seed, i), &signs);
            });

            let best = self.best(&tasks, before, noise, &drawn);
            let chosen = best.map(|(task, candidate, score)| {
                let (split, column) = tasks[task].split(candidate);
                (split, column, score)
            });
            // Statistics of single columns are added up anew at each level, as in CatBoost: the last bits of
            // what remains of a parent are others.
            let groups = tasks.into_iter().flat_map(|task| task.groups);
            let kept = groups.filter(|group| !group.is_simple());
            histograms.extend(kept.map(|group| (group.source, group.histograms)));
            let Some((split, column, score)) = chosen else { break };
            before = score;
            self.note(&split, &[]);

            let level = splits.len();
            let goes_right = split.test();
            let is_last = level + 1 == self.settings.depth;
            rayon::join(
                || add_level(&mut leaf_of, level, goes_right, &column),
                || {
                    let parts = parts.par_iter_mut().filter(|_| !is_last);
                    parts.for_each(|part| part.split(|row| goes_right(column.bin(row))));
                },
            );
            splits.push(split);
            // Rows that were drawn are rows, so what parts them parts all.
            let mut samples = parts.iter().flat_map(Part::samples);
            if (is_last || samples.all(|sample| sample.redundant().is_some()))
                && let Some(level) = redundant(&leaf_of, splits.len())
            {
                splits.remove(level);
                let low = (1 << level) - 1;
                for leaf in &mut leaf_of {
                    *leaf = *leaf & low | *leaf >> (level + 1) << level;
                }
                break;
            }
        }
        (splits, leaf_of)
    }

    /// Brings the histograms of all groups up to date, but those too large to keep. The tree will have
    /// `depth` levels at most. Those of groups that are not missing are left as they are.
    pub(super) fn update(
        &self,
        parts: &[Part],
        tasks: &mut [Task],
        depth: usize,
        is_missing: impl Fn(&Source) -> bool,
    ) {
        if self.settings.rules.are_monotone() {
            return; // Which are scored without them.
        }
        let samples: Vec<&Sample> = parts.iter().flat_map(Part::samples).collect();
        let n_leaves: usize = samples.iter().map(|sample| sample.n_leaves()).sum();
        let groups = tasks.iter_mut().flat_map(|task| &mut task.groups);
        let mut kept = Vec::new();
        for group in groups.filter(|group| is_missing(&group.source)) {
            let numbers = group.columns().size(samples[0].stride()) * n_leaves;
            if HISTOGRAM_BYTES < numbers * size_of::<f64>() {
                group.histograms.clear();
            } else {
                group.histograms.resize(samples.len(), None);
                kept.push(group);
            }
        }
        for (i, &sample) in samples.iter().enumerate() {
            // Few rows of a prefix are added up anew for less than their sums cost.
            let n_rows = sample.rows().len();
            let is_worth = |n_bins: usize| samples.len() == 1 || ROWS_OF_BIN * n_bins <= n_rows;
            let slots = kept.iter_mut().filter(|group| is_worth(group.n_bins));
            score::update(sample, depth, slots.map(|group| group.slot(i)).collect());
        }
    }

    /// The candidate whose score, with noise and penalties, is highest: its task, its place there,
    /// and that score.
    pub(super) fn best(
        &mut self,
        tasks: &[Task],
        before: f64,
        noise: f64,
        rows: &[u32],
    ) -> Option<(usize, usize, f64)> {
        let (rules, table) = (&self.settings.rules, &self.learning.table);
        let n_used = |projection| self.buckets.get(projection).map_or(1, |b| b.n_used());
        let most = tasks.iter().filter_map(Task::projection).map(n_used).max().unwrap_or(1).max(1);
        let mut best = None;
        let mut top = f64::NEG_INFINITY;
        for (i, task) in tasks.iter().enumerate() {
            for (j, candidate) in task.candidates.iter().enumerate() {
                let Some((score, ..)) = candidate.best else { continue };
                let split = (!rules.are_plain()).then(|| task.split(j).0);
                let cost = split.as_ref().map(|split| rules.cost(split, table, &self.usage, rows));
                let mut score = score - cost.unwrap_or(0.0) + noise * self.rng.normal();
                if let Some(projection) = task.projection() {
                    let kind = self.statistics(projection)[j].kind;
                    if !self.used.iter().any(|(k, p)| *k == kind && p == projection) {
                        let share = self.buckets.get(projection).map_or(1, |b| b.n_used()) as f64
                            / most as f64;
                        score *= (1.0 + share).powf(-self.settings.model_size);
                    }
                }
                let weight = split.as_ref().map_or(1.0, |split| rules.weight(split, table));
                let gain = (score - before) * weight;
                if top < gain {
                    top = gain;
                    best = Some((i, j, score));
                }
            }
        }
        best
    }

    /// Finds the best split of each candidate, with noise on every score.
    pub(super) fn score(
        &self,
        parts: &[Part],
        task: &mut Task,
        noise: f64,
        mut rng: Rng,
        signs: &[i8],
    ) {
        let function = self.settings.score;
        let of_group = |group: &Group| {
            if !self.settings.rules.are_monotone() {
                return group.scores(parts, function);
            }
            let sign = match group.source {
                Source::Numeric(column) => {
                    let split = Split::Border { column, border: 0 };
                    self.settings.rules.sign(&split, &self.learning.table)
                }
                _ => 0,
            };
            monotone::scores(parts, group.columns(), group.shape(), function, signs, sign)
        };
        let scores: Vec<Vec<Vec<f64>>> = task.groups.iter().map(of_group).collect();
        for candidate in &mut task.candidates {
            let mut best = (f64::MIN, None);
            for (i, &(group, column)) in candidate.parts.iter().enumerate() {
                let scores = &scores[group][column];
                let (mut span, mut unknown) = (0..scores.len(), None);
                if let Source::OneHot(column) = task.groups[group].source {
                    let hashes = &self.learning.table.categorical[column as usize].hashes;
                    // The unknown level is no level to ask for.
                    unknown = hashes.iter().position(Option::is_none);
                    if scores.len() == 2 {
                        span = if unknown == Some(1) { 0..1 } else { 1..2 };
                        if task.is_bundle {
                            rng.normal(); // For the other value, which CatBoost leaves at 0.
                        }
                    }
                }
                for at in span.filter(|&at| Some(at) != unknown) {
                    let point = rng.point();
                    if scores[at] + noise * point.bound() <= best.0 {
                        continue; // What it could be at most is not enough.
                    }
                    let noisy = scores[at] + noise * point.normal();
                    if best.0 < noisy {
                        best = (noisy, Some((scores[at], i, at)));
                    }
                }
            }
            candidate.best = best.1;
        }
    }

    /// The leaf of each row in a fold, which has the statistics asked for.
    pub(super) fn leaves_in(&self, fold: &Fold, splits: &[Split]) -> Vec<u32> {
        let mut leaf_of = vec![0; self.learning.table.n_rows];
        for (level, split) in splits.iter().enumerate() {
            add_level(&mut leaf_of, level, split.test(), &self.column_of(fold, split));
        }
        leaf_of
    }

    /// The column that a split asks in a fold.
    pub(super) fn column_of(&self, fold: &Fold, split: &Split) -> Column {
        match split {
            Split::Border { column, .. } => {
                Column::single(&self.learning.table.numeric[*column as usize].bins)
            }
            Split::Level { column, .. } => {
                let bins = self.learning.table.categorical[*column as usize].bins.as_ref();
                Column::single(bins.expect("one-hot splits are of columns with bins"))
            }
            Split::Ctr { projection, column, .. } => Column {
                bins: Arc::clone(&fold.ctrs[projection]),
                width: self.statistics(projection).len(),
                at: *column as usize,
            },
        }
    }
}

/// Adds a level's bit to the rows' leaves.
fn add_level(
    leaf_of: &mut [u32],
    level: usize,
    goes_right: impl Fn(u8) -> bool + Send + Sync,
    column: &Column,
) {
    const BLOCK: usize = 16_384;
    let Column { bins, width, at } = column;
    let blocks = leaf_of.par_chunks_mut(BLOCK).zip(bins.par_chunks(BLOCK * width));
    let set = |leaf: &mut u32, bin: u8| *leaf |= u32::from(goes_right(bin)) << level;
    blocks.for_each(|(leaf_of, bins)| {
        if *width == 1 {
            leaf_of.iter_mut().zip(bins).for_each(|(leaf, &bin)| set(leaf, bin));
        } else {
            let rows = leaf_of.iter_mut().zip(bins.chunks_exact(*width));
            rows.for_each(|(leaf, bins)| set(leaf, bins[*at]));
        }
    });
}

/// The first level whose split parts no two leaves that both have rows.
fn redundant(leaf_of: &[u32], depth: usize) -> Option<usize> {
    let mut has_rows = vec![false; 1 << depth];
    for &leaf in leaf_of {
        has_rows[leaf as usize] = true;
    }
    score::redundant(&has_rows)
}
