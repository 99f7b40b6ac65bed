//! A forest made ready to predict fast, and exactly.
//!
//! # Idea
//!
//! Few questions of a forest differ: thresholds of a feature recur from tree to tree, and an engine
//! that bins its data has at most a few hundred of them. So each value of a row is looked up once
//! among the thresholds of its feature, and becomes a byte: how many thresholds it exceeds. From
//! then on *every* split, be it numeric, by category, or with its rule for missing values, is "right
//! if this byte exceeds that one".
//!
//! A tree of up to 256 leaves is not walked, but swept: all its nodes are compared, for 64 rows with
//! one instruction where the processor has it, and none of them depends on where the others lead.
//! The nodes are visited from left to right, and a row's leaf moves right with them:
//!
//! ```text
//!        ⟨1⟩              leaf ← 0
//!       ╱   ╲             node 0 (leaves 0..1): right, leaf ≥ 0?   leaf ← 1
//!     ⟨0⟩    ⟨2⟩          node 1 (leaves 0..3): right, leaf ≥ 0?   leaf ← 2
//!    ╱  ╲    ╱  ╲         node 2 (leaves 2..3): right, leaf ≥ 2?   leaf ← 3
//!   0    1  2    3
//! ```
//!
//! For a single row 64 *trees* stand side by side in place of the rows. A symmetric tree's leaf is
//! put together from the answers of its levels, a bit each. Deeper trees are walked, 16 rows at once
//! so that their memory accesses overlap.
//!
//! # Exactness
//!
//! Bytes decide as the values would have (see [`key`]), and leaves are added tree after tree in the
//! forest's precision, whatever the processor and the number of threads: what comes out equals
//! [`raw_by_definition`](super::Forest::raw_by_definition) to the bit.
//!
//! # Cost
//!
//! O(nodes / 64) instructions a row with AVX-512, O(nodes / 32) with AVX2; trees of more than 256
//! leaves O(depth). Some 20 bytes of memory a leaf. All sets that are asked about one category are
//! answered at once: for each code a bit for each set, and for 64 rows a square of bits is turned,
//! which costs about as much as two numeric splits a set. Only sets of few and very high codes, for
//! which those bits would take much more memory than the sets, are looked up one by one.
//!
//! # Sources
//!
//! Evaluating every node in place of following a path: Lucchese et al. (2015), "`QuickScorer`: a fast
//! algorithm to rank documents with additive ensembles of regression trees"; with vectors of rows:
//! Lucchese et al. (2016), "Exploiting CPU SIMD extensions to speed-up document scoring with tree
//! ensembles". Ranks in place of values: Ye et al. (2018), "`RapidScorer`". The byte that moves right,
//! in place of a bit for each leaf, is our own.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod batch;
mod key;
mod lanes;
mod plan;
mod simd;
mod single;
#[cfg(test)]
mod tests;

pub(crate) use self::simd::widely;
use mm_core::{Frame, Matrix, Result, parallel};

use self::{
    lanes::{Bytes, LANES},
    plan::{PADDING, Plan, Planned, Rank, Segment, Step},
    simd::Level,
};
use super::{Forest, Sum};

/// A forest compiled for prediction.
///
/// Rows are slices of one value for each feature: NaN = missing; codes of levels, −1 = unknown. If
/// the forest asks for CTRs (CatBoost's target statistics), their values follow those of the
/// features, by the index that [`Test::Ctr`](super::Test::Ctr) gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    n_inputs: usize,
    n_outputs: usize,
    plan: Plan,
    leaves: Leaves,
    finish: Finish,
    level: Level,
}

/// The values of all leaves in the precision in which they add up.
#[derive(Debug, Clone, PartialEq)]
enum Leaves {
    Double(Vec<f64>),
    /// With the value from which each output starts; the others start from 0.
    Single(Vec<f32>, Vec<f32>),
}

/// What is done to a sum.
#[derive(Debug, Clone, PartialEq)]
enum Finish {
    Keep,
    Divide(f64),
    Scale(f64, Vec<f64>),
}

impl Forest {
    /// Prepares for predicting: O(nodes · log nodes).
    ///
    /// # Errors
    ///
    /// If a tree is not one: an index leads nowhere, a node has two parents, or a table has not the
    /// length that it should have. If a split asks for the hash of a level
    /// ([`Test::Hash`](super::Test::Hash)), which is for whoever knows the levels to translate.
    pub fn compile(&self) -> Result<Kernel> {
        Kernel::new(self)
    }
}

impl Kernel {
    /// Rows of a small block and of a large one.
    const SMALL: usize = LANES;
    const LARGE: usize = 8 * LANES;

    fn new(forest: &Forest) -> Result<Self> {
        let (plan, leaves) = plan::plan(forest)?;
        let leaves = match &forest.sum {
            Sum::Single { base } => {
                Leaves::Single(leaves.into_iter().map(|v| v as f32).collect(), base.clone())
            }
            Sum::Double { .. } | Sum::Scaled { .. } => Leaves::Double(leaves),
        };
        let finish = match &forest.sum {
            Sum::Double { is_average: true } => Finish::Divide(forest.n_rounds() as f64),
            Sum::Double { is_average: false } | Sum::Single { .. } => Finish::Keep,
            Sum::Scaled { scale, bias } => Finish::Scale(*scale, bias.clone()),
        };
        let (n_inputs, n_outputs) = (plan::n_inputs(forest), forest.n_outputs);
        Ok(Self { n_inputs, n_outputs, plan, leaves, finish, level: Level::best() })
    }

    /// How many values a row has: the features, and the CTRs up to the last that a split asks for.
    pub fn n_inputs(&self) -> usize {
        self.n_inputs
    }

    /// How many raw scores a row has.
    pub fn n_outputs(&self) -> usize {
        self.n_outputs
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        let leaves = match &self.leaves {
            Leaves::Double(leaves) => size_of_val(leaves.as_slice()),
            Leaves::Single(leaves, start) => {
                size_of_val(leaves.as_slice()) + size_of_val(start.as_slice())
            }
        };
        size_of::<Self>() + leaves + self.plan.memory()
    }

    /// Fills `out` with the raw scores of one row. Allocates nothing.
    ///
    /// # Panics
    ///
    /// If `row` does not hold [`n_inputs`](Self::n_inputs) values, or `out` as many as
    /// [`n_outputs`](Self::n_outputs).
    pub fn raw_row(&self, row: &[f32], out: &mut [f64]) {
        assert_eq!(row.len(), self.n_inputs, "values of a row");
        assert_eq!(out.len(), self.n_outputs, "raw scores of a row");
        match &self.leaves {
            Leaves::Double(leaves) => single::sums(self, leaves, &[], row, out),
            Leaves::Single(leaves, start) => single::sums(self, leaves, start, row, out),
        }
        self.finish(out);
    }

    /// Fills `out` with the raw scores of several rows, both row-major, on this thread.
    ///
    /// # Panics
    ///
    /// If the lengths are not those of as many rows and of their raw scores.
    pub fn raw_rows(&self, rows: &[f32], out: &mut [f64]) {
        let n_rows = out.len() / self.n_outputs.max(1);
        assert_eq!(rows.len(), n_rows * self.n_inputs, "values of {n_rows} rows");
        assert_eq!(out.len(), n_rows * self.n_outputs, "raw scores of {n_rows} rows");
        match &self.leaves {
            Leaves::Double(leaves) => self.sums(leaves, &[], rows, out),
            Leaves::Single(leaves, start) => self.sums(leaves, start, rows, out),
        }
        self.finish(out);
    }

    /// Fills `out`, of shape (*n*, [`n_outputs`](Self::n_outputs)), with the raw scores of a
    /// frame's rows, in parallel on the ambient pool.
    ///
    /// # Panics
    ///
    /// If the shapes do not fit.
    pub fn raw_frame(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        parallel::fill_rows(out, self.rows_at_once(), |rows, mut out| {
            for run in x.slice(rows.start, rows.len()).runs() {
                let n_rows = run.len() / self.n_inputs;
                let (these, rest) = out.split_at_mut(n_rows * self.n_outputs);
                self.raw_rows(run, these);
                out = rest;
            }
            Ok(())
        })
    }

    /// Rows that are worth a thread's waking up for: some 4 million nodes.
    pub(crate) fn rows_at_once(&self) -> usize {
        let nodes = |s: &Segment| s.nodes.len() + s.steps.len() / 32 + 64 * s.n_columns();
        let n_nodes: usize = self.plan.segments.iter().map(nodes).sum();
        ((1 << 22) / n_nodes.max(1)).clamp(Self::LARGE, 1 << 14).next_multiple_of(Self::LARGE)
    }

    /// The sums of rows, in blocks that stay in the processor's caches.
    fn sums<A: Value>(&self, leaves: &[A], start: &[A], rows: &[f32], out: &mut [f64]) {
        let n_rows = out.len() / self.n_outputs;
        let block = if n_rows <= Self::SMALL { Self::SMALL } else { Self::LARGE };
        let few = self.level.few();
        let mut scratch = (few <= n_rows).then(|| batch::Scratch::new(self, block));
        let (mut rows, mut out) = (rows, out);
        while !out.is_empty() {
            let left = out.len() / self.n_outputs;
            let n = match left {
                _ if left < few => 1,
                _ if left <= Self::SMALL => left,
                _ if left <= 2 * Self::SMALL => Self::SMALL,
                _ => left.min(Self::LARGE),
            };
            let (these, rows_left) = rows.split_at(n * self.n_inputs);
            let (sums, out_left) = out.split_at_mut(n * self.n_outputs);
            match &mut scratch {
                Some(scratch) if Self::SMALL < n => {
                    batch::block::<A, 8>(self, leaves, start, these, sums, scratch);
                }
                Some(scratch) if few <= n => {
                    batch::block::<A, 1>(self, leaves, start, these, sums, scratch);
                }
                _ => single::sums(self, leaves, start, these, sums),
            }
            (rows, out) = (rows_left, out_left);
        }
    }

    fn finish(&self, out: &mut [f64]) {
        match &self.finish {
            Finish::Keep => {}
            Finish::Divide(by) => out.iter_mut().for_each(|sum| *sum /= by),
            Finish::Scale(scale, bias) => {
                for row in out.chunks_exact_mut(self.n_outputs) {
                    for (sum, bias) in row.iter_mut().zip(bias) {
                        *sum = scale * *sum + bias;
                    }
                }
            }
        }
    }
}

impl Segment {
    /// The borders of a column, and what follows them.
    fn borders_of(&self, rank: &Rank) -> &[i32; PADDING] {
        self.borders[rank.borders as usize..].first_chunk().expect("padded by the plan")
    }

    /// A key of a row by its number.
    #[inline]
    fn key_of(&self, row: &[f32], key: u32) -> i32 {
        let key = &self.keys[key as usize];
        key.rule.key(row[key.input as usize])
    }

    /// Where a step of a deep tree leads, `key` being the keys of the row by number.
    #[inline]
    fn next(&self, step: &Step, key: impl Fn(u32) -> i32) -> u32 {
        let value = key(step.key & !Step::SET);
        let is_right = if step.key & Step::SET == 0 {
            value > step.border
        } else {
            self.sets[step.border as usize].get().goes_right(value)
        };
        step.child + u32::from(is_right)
    }
}

impl Plan {
    /// What the linear leaf of a tree gives for a row; none if it has none, or a value is missing.
    fn linear_value(&self, tree: &Planned, leaf: usize, row: &[f32]) -> Option<f64> {
        let linear = self.linear[tree.linear?][leaf].as_ref()?;
        Some(linear.value(row)? * tree.weight)
    }
}

/// What leaves are added up in.
trait Value: Copy + Default + Into<f64> + std::ops::AddAssign {
    fn of(value: f64) -> Self;

    /// [`lanes::add_double`] or [`lanes::add_single`].
    fn add(
        level: Level,
        sums: &mut [Self; LANES],
        table: &[Self; PADDING],
        n_leaves: usize,
        leaves: &Bytes,
    );
}

impl Value for f64 {
    fn of(value: f64) -> Self {
        value
    }

    fn add(
        level: Level,
        sums: &mut [Self; LANES],
        table: &[Self; PADDING],
        n_leaves: usize,
        leaves: &Bytes,
    ) {
        level.add_double(sums, table, n_leaves, leaves);
    }
}

impl Value for f32 {
    fn of(value: f64) -> Self {
        value as Self
    }

    fn add(
        level: Level,
        sums: &mut [Self; LANES],
        table: &[Self; PADDING],
        n_leaves: usize,
        leaves: &Bytes,
    ) {
        level.add_single(sums, table, n_leaves, leaves);
    }
}
