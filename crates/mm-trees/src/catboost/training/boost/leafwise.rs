//! Trees whose leaves are split one by one, each by a question of its own: level by level
//! (CatBoost: Depthwise) or where most is gained (Lossguide).
//!
//! A leaf's best split is the one by the same scores as in a symmetric tree, over the rows of the leaf
//! alone; it is made if that score is above the leaf's own. As there, the sums of the larger of two
//! children are what remains of the parent's, unless leaves are so many that keeping theirs would take
//! too much memory.

use std::{collections::HashMap, mem, slice};

use rayon::prelude::*;

use super::{
    super::{
        params::Growth,
        rng::Rng,
        score::{Histogram, Part},
        structure::{Node, Split, Structure},
    },
    Booster,
    candidates::{Column, Group, Source, Task},
    fold::Fold,
};
use crate::forest::Child;

/// What a split must gain.
const LEAST_GAIN: f64 = 1e-9;

/// Numbers in the histograms that leaves keep, at most.
const KEPT: usize = 1 << 24;

type Histograms = HashMap<Source, Histogram>;

/// A tree in the making.
struct Growing {
    nodes: Vec<Node>,
    leaves: Vec<Leaf>,
    /// The leaf of each row.
    leaf_of: Vec<u32>,
}

struct Leaf {
    /// Those of its rows that were drawn.
    drawn: Part,
    /// All its rows, whether they were drawn or not.
    rows: Vec<u32>,
    depth: usize,
    /// The node that it hangs from, and whether on the right.
    parent: Option<(usize, bool)>,
    /// Its histograms, and, of a left child, its parent's.
    histograms: Histograms,
    above: Histograms,
}

/// A leaf's best split.
struct Found {
    split: Split,
    column: Column,
    gain: f64,
}

impl Growing {
    fn new(drawn: Part, n_rows: usize) -> Self {
        let rows = (0..n_rows as u32).collect();
        let (histograms, above) = (HashMap::new(), HashMap::new());
        let root = Leaf { drawn, rows, depth: 0, parent: None, histograms, above };
        Self { nodes: Vec::new(), leaves: vec![root], leaf_of: vec![0; n_rows] }
    }

    /// Rows drawn in a leaf.
    fn n_drawn(&self, leaf: usize) -> usize {
        self.leaves[leaf].drawn.body.rows().len()
    }

    /// Splits a leaf, which becomes the left child; the index of the right one.
    fn split(&mut self, leaf: usize, found: Found) -> usize {
        let Found { split, column, .. } = found;
        let goes_right = |row: u32| split.goes_right(column.bin(row));
        let (node, other) = (self.nodes.len(), self.leaves.len());
        let own = &mut self.leaves[leaf];
        let drawn = Part::whole(own.drawn.body.cut(goes_right), own.drawn.l2);
        let rows: Vec<u32> = own.rows.extract_if(.., |row| goes_right(*row)).collect();
        own.depth += 1;
        let depth = own.depth;
        let parent = own.parent.replace((node, false));
        own.above = mem::take(&mut own.histograms);
        for &row in &rows {
            self.leaf_of[row as usize] = other as u32;
        }
        let (histograms, above) = (HashMap::new(), HashMap::new());
        let parent_of_new = Some((node, true));
        self.leaves.push(Leaf { drawn, rows, depth, parent: parent_of_new, histograms, above });
        if let Some((parent, is_right)) = parent {
            let parent = &mut self.nodes[parent];
            *(if is_right { &mut parent.right } else { &mut parent.left }) = Child::Node(node);
        }
        self.nodes.push(Node { split, left: Child::Leaf(leaf), right: Child::Leaf(other) });
        other
    }

    /// What remains of a parent's histograms without those of a child.
    fn rest(&mut self, left: usize, child: usize) -> Histograms {
        let above = mem::take(&mut self.leaves[left].above);
        let own = &self.leaves[child].histograms;
        let rest = |(source, all): (Source, Histogram)| {
            let rest = all.minus(own.get(&source)?);
            Some((source, rest))
        };
        above.into_iter().filter_map(rest).collect()
    }

    /// Keeps the histograms of a leaf that may be split.
    fn keep(&mut self, leaf: usize, histograms: Histograms) {
        // Of each leaf there may be its own, and its parent's.
        let n: usize = histograms.values().map(Histogram::len).sum();
        if 2 * n * self.leaves.len() <= KEPT {
            self.leaves[leaf].histograms = histograms;
        }
    }
}

impl Booster {
    /// Searches the splits of a tree on a fold; these, and the leaf of each row there.
    pub(super) fn search_leafwise(
        &mut self,
        taken: usize,
        drawn: Part,
        noise: f64,
    ) -> (Structure, Vec<u32>) {
        let mut tree = Growing::new(drawn, self.learning.table.n_rows);
        match self.settings.growth {
            Growth::Leafwise { leaves, min_rows } => {
                self.by_gain(&mut tree, taken, noise, leaves, min_rows);
            }
            Growth::Depthwise { min_rows } => self.by_level(&mut tree, taken, noise, min_rows),
            Growth::Symmetric => {}
        }
        (Structure::Nodes(tree.nodes), tree.leaf_of)
    }

    fn by_level(&mut self, tree: &mut Growing, taken: usize, noise: f64, min_rows: usize) {
        let mut level = vec![0];
        for _ in 0..self.settings.depth {
            // Drawn for every level, even where no leaf is left.
            let mut tasks = self.tasks(taken, &[], &[]);
            let mut next = Vec::new();
            let mut known = None;
            for (i, &leaf) in level.iter().enumerate() {
                let n = tree.n_drawn(leaf);
                if n < min_rows {
                    continue;
                }
                let sibling = level.get(i + 1).copied().filter(|&other| {
                    i % 2 == 0 && self.goes_by_siblings() && min_rows <= tree.n_drawn(other)
                });
                let found = match (known.take(), sibling) {
                    (Some(found), _) => found,
                    (_, None) => self.assess(tree, leaf, None, &mut tasks, noise),
                    (_, Some(other)) => {
                        let [found, of_other] =
                            self.assess_siblings(tree, [leaf, other], &mut tasks, noise);
                        known = Some(of_other);
                        found
                    }
                };
                if let Some(found) = found {
                    self.note(&found.split, &tree.leaves[leaf].rows);
                    next.extend([leaf, tree.split(leaf, found)]);
                }
            }
            level = next;
        }
    }

    fn by_gain(
        &mut self,
        tree: &mut Growing,
        taken: usize,
        noise: f64,
        n_leaves: usize,
        min_rows: usize,
    ) {
        let mut queue: Vec<(usize, Found)> = Vec::new();
        let mut fresh = vec![0];
        loop {
            let max_depth = self.settings.depth;
            fresh.retain(|&leaf| {
                tree.leaves[leaf].depth < max_depth && min_rows <= tree.n_drawn(leaf)
            });
            if !fresh.is_empty() {
                let mut tasks = self.tasks(taken, &[], &[]);
                let found = match fresh[..] {
                    [left, right] if self.goes_by_siblings() => {
                        self.assess_siblings(tree, [left, right], &mut tasks, noise).into()
                    }
                    _ => {
                        let of = |&leaf| self.assess(tree, leaf, None, &mut tasks, noise);
                        fresh.iter().map(of).collect::<Vec<_>>()
                    }
                };
                let found = fresh.iter().zip(found);
                queue.extend(found.filter_map(|(&leaf, found)| Some((leaf, found?))));
            }
            let gain = |at: &usize| queue[*at].1.gain;
            let best = (0..queue.len()).max_by(|a, b| gain(a).total_cmp(&gain(b)));
            let Some(best) = best.filter(|_| tree.leaves.len() < n_leaves) else { return };
            let (leaf, found) = queue.swap_remove(best);
            self.note(&found.split, &tree.leaves[leaf].rows);
            fresh = vec![leaf, tree.split(leaf, found)];
        }
    }

    /// Whether the order in which CatBoost assesses siblings is by size.
    fn goes_by_siblings(&self) -> bool {
        self.settings.loss.n_outputs() == 1 && self.settings.columns == 1.0
    }

    /// The best splits of a left and a right child, of which the smaller one comes first.
    fn assess_siblings(
        &mut self,
        tree: &mut Growing,
        [left, right]: [usize; 2],
        tasks: &mut [Task],
        noise: f64,
    ) -> [Option<Found>; 2] {
        if tree.n_drawn(left) <= tree.n_drawn(right) {
            let of_left = self.assess(tree, left, None, tasks, noise);
            let rest = tree.rest(left, left);
            return [of_left, self.assess(tree, right, Some(rest), tasks, noise)];
        }
        let of_right = self.assess(tree, right, None, tasks, noise);
        let rest = tree.rest(left, right);
        [self.assess(tree, left, Some(rest), tasks, noise), of_right]
    }

    /// The best split of a leaf, if it gains; `known` are those of its histograms that need no rows.
    fn assess(
        &mut self,
        tree: &mut Growing,
        leaf: usize,
        known: Option<Histograms>,
        tasks: &mut [Task],
        noise: f64,
    ) -> Option<Found> {
        let drawn = &tree.leaves[leaf].drawn;
        let (sample, parts) = (&drawn.body, slice::from_ref(drawn));
        let seed = self.rng.next();
        let mut known = known.unwrap_or_default();
        self.update(parts, tasks, 1, |source| !known.contains_key(source));
        for group in tasks.iter_mut().flat_map(|task| &mut task.groups) {
            if let Some(histogram) = known.remove(&group.source) {
                group.histograms = vec![Some(histogram)];
            }
        }
        tasks.par_iter_mut().enumerate().for_each(|(i, task)| {
            self.score(parts, task, noise, Rng::of_task(seed, i), &[]);
        });
        let before = sample.score(self.settings.l2, self.settings.score);
        let best = self.best(tasks, before, noise, sample.rows());
        let found = best.and_then(|(task, candidate, score)| {
            let (split, column) = tasks[task].split(candidate);
            let gain = score - before;
            (LEAST_GAIN <= gain).then_some(Found { split, column, gain })
        });
        let groups = tasks.iter_mut().flat_map(|task| &mut task.groups);
        let own = |group: &mut Group| {
            let histogram = group.histograms.drain(..).flatten().next()?;
            Some((group.source.clone(), histogram))
        };
        let histograms: Histograms = groups.filter_map(own).collect();
        if found.is_some() && self.goes_by_siblings() {
            tree.keep(leaf, histograms);
        }
        found
    }

    /// The leaf of each row in a fold, which has the statistics asked for.
    pub(super) fn leaves_by_nodes(&self, fold: &Fold, nodes: &[Node]) -> Vec<u32> {
        let columns: Vec<Column> =
            nodes.iter().map(|node| self.column_of(fold, &node.split)).collect();
        let leaf = |row: u32| {
            let mut at = if nodes.is_empty() { Child::Leaf(0) } else { Child::Node(0) };
            loop {
                match at {
                    Child::Leaf(leaf) => return leaf as u32,
                    Child::Node(i) => {
                        let (node, bin) = (&nodes[i], columns[i].bin(row));
                        at = if node.split.goes_right(bin) { node.right } else { node.left };
                    }
                }
            }
        };
        let rows = 0..self.learning.table.n_rows as u32;
        rows.into_par_iter().with_min_len(16_384).map(leaf).collect()
    }
}
