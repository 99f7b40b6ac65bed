//! Many rows: block by block, column by column, tree by tree.

use super::{
    Kernel, Value,
    lanes::{Bytes, LANES},
    plan::{Planned, Segment, Shape, Step},
};
use crate::forest::tree::Outputs;

/// What the rows of a block need, allocated once for all blocks of a call.
#[derive(Debug)]
pub(super) struct Scratch<A> {
    keys: Vec<i32>,
    columns: Vec<u8>,
    sums: Vec<A>,
}

impl<A: Value> Scratch<A> {
    pub(super) fn new(kernel: &Kernel, n_rows: usize) -> Self {
        let segments = &kernel.plan.segments;
        let n_keys = segments.iter().map(|s| if s.is_deep { s.keys.len() } else { 1 });
        let n_columns = segments.iter().map(Segment::n_columns);
        Self {
            keys: vec![0; n_keys.max().unwrap_or(0) * n_rows],
            columns: vec![0; n_columns.max().unwrap_or(0) * n_rows],
            sums: vec![A::default(); kernel.n_outputs * n_rows],
        }
    }
}

/// Fills `out` with the sums of up to `N` times [`LANES`] rows.
pub(super) fn block<A: Value, const N: usize>(
    kernel: &Kernel,
    leaves: &[A],
    start: &[A],
    rows: &[f32],
    out: &mut [f64],
    scratch: &mut Scratch<A>,
) {
    let keys = scratch.keys.as_chunks_mut::<LANES>().0.as_chunks_mut::<N>().0;
    let columns = scratch.columns.as_chunks_mut::<LANES>().0.as_chunks_mut::<N>().0;
    let sums = scratch.sums.as_chunks_mut::<LANES>().0.as_chunks_mut::<N>().0;
    let sums = &mut sums[..kernel.n_outputs];
    for (k, sums) in sums.iter_mut().enumerate() {
        sums.as_flattened_mut().fill(start.get(k).copied().unwrap_or_default());
    }
    let trees = Trees { kernel, leaves, rows };
    for segment in &kernel.plan.segments {
        columns_of(kernel, segment, rows, keys, columns);
        let mut left = segment.trees.as_slice();
        while let [tree, rest @ ..] = left {
            left = trees.add_four(segment, left, columns, sums).unwrap_or_else(|| {
                trees.add(segment, tree, keys, columns, sums);
                rest
            });
        }
    }
    for (i, out) in out.chunks_exact_mut(kernel.n_outputs).enumerate() {
        for (out, sums) in out.iter_mut().zip(&*sums) {
            *out = sums.as_flattened()[i].into();
        }
    }
}

/// Fills the columns of a segment, and its keys if it has deep trees.
fn columns_of<const N: usize>(
    kernel: &Kernel,
    segment: &Segment,
    rows: &[f32],
    keys: &mut [[[i32; LANES]; N]],
    columns: &mut [[Bytes; N]],
) {
    let (ranked, members) = columns.split_at_mut(segment.first_member());
    let (ranked, mut answered) = ranked.split_at_mut(segment.ranks.len());
    let mut ranks = segment.ranks.iter().zip(ranked).peekable();
    let mut answers = segment.answers.iter().peekable();
    let mut members = segment.members.iter().zip(members).peekable();
    for (k, key) in segment.keys.iter().enumerate() {
        let keys = &mut keys[if segment.is_deep { k } else { 0 }];
        let cells = rows.iter().skip(key.input as usize).step_by(kernel.n_inputs);
        for (key_of, x) in keys.as_flattened_mut().iter_mut().zip(cells) {
            *key_of = key.rule.key(*x);
        }
        while let Some((rank, out)) = ranks.next_if(|(rank, _)| rank.key as usize == k) {
            let borders = segment.borders_of(rank);
            for (keys, out) in keys.iter().zip(out) {
                kernel.level.rank(keys, borders, rank.steps, out);
            }
        }
        if let Some(answers) = answers.next_if(|answers| answers.key as usize == k) {
            let (out, rest) = answered.split_at_mut(answers.columns.len());
            kernel.level.answer(answers, keys, out);
            answered = rest;
        }
        while let Some((member, out)) = members.next_if(|(member, _)| member.key as usize == k) {
            let set = segment.sets[member.set as usize].get();
            for (out, key) in out.as_flattened_mut().iter_mut().zip(keys.as_flattened()) {
                *out = u8::from(set.goes_right(*key));
            }
        }
    }
}

struct Trees<'a, A> {
    kernel: &'a Kernel,
    leaves: &'a [A],
    rows: &'a [f32],
}

impl<A: Value> Trees<'_, A> {
    /// Adds the leaves of the first four trees, if the rows are few and all four are ordered; gives
    /// the rest.
    fn add_four<'a, const N: usize>(
        &self,
        segment: &Segment,
        trees: &'a [Planned],
        columns: &[[Bytes; N]],
        sums: &mut [[[A; LANES]; N]],
    ) -> Option<&'a [Planned]> {
        if N != 1 {
            return None;
        }
        let (four, rest) = trees.split_first_chunk::<4>()?;
        let nodes = four.each_ref().map(|tree| match &tree.shape {
            Shape::Ordered { nodes, .. } => Some(&segment.nodes[nodes.clone()]),
            _ => None,
        });
        let [Some(a), Some(b), Some(c), Some(d)] = nodes else { return None };
        let columns = columns.as_flattened().as_chunks().0;
        let sums = sums.as_flattened_mut().as_chunks_mut().0;
        for (tree, leaves) in four.iter().zip(self.kernel.level.four_ordered([a, b, c, d], columns))
        {
            self.add_narrow::<1>(tree, &[leaves], sums);
        }
        Some(rest)
    }

    /// Adds the leaves of one tree.
    fn add<const N: usize>(
        &self,
        segment: &Segment,
        tree: &Planned,
        keys: &[[[i32; LANES]; N]],
        columns: &[[Bytes; N]],
        sums: &mut [[[A; LANES]; N]],
    ) {
        let level = self.kernel.level;
        match &tree.shape {
            Shape::Ordered { nodes, .. } => {
                let leaves = level.ordered(&segment.nodes[nodes.clone()], columns);
                self.add_narrow(tree, &leaves, sums);
            }
            Shape::Symmetric { nodes, lane: Some(_) } => {
                let leaves = level.symmetric(&segment.nodes[nodes.clone()], columns);
                self.add_narrow(tree, &leaves, sums);
            }
            Shape::Symmetric { nodes, lane: None } => {
                let mut wide = [[0_u32; LANES]; N];
                for (i, part) in segment.nodes[nodes.clone()].chunks(8).enumerate() {
                    let bytes = level.symmetric(part, columns);
                    let rows = wide.as_flattened_mut().iter_mut();
                    for (wide, byte) in rows.zip(bytes.as_flattened()) {
                        *wide |= u32::from(*byte) << (8 * i);
                    }
                }
                self.add_wide(tree, &wide, sums);
            }
            Shape::Deep { steps, depth } => {
                let wide = deep(segment, &segment.steps[steps.clone()], *depth, keys);
                self.add_wide(tree, &wide, sums);
            }
        }
    }

    fn add_narrow<const N: usize>(
        &self,
        tree: &Planned,
        leaves: &[Bytes; N],
        sums: &mut [[[A; LANES]; N]],
    ) {
        if tree.linear.is_some() {
            return self.add_wide(tree, &leaves.map(|leaves| leaves.map(u32::from)), sums);
        }
        let add = |k: usize, sums: &mut [[A; LANES]; N]| {
            let table = &self.leaves[tree.leaves + k * tree.n_leaves..];
            let table = table.first_chunk().expect("padded by the plan");
            for (sums, leaves) in sums.iter_mut().zip(leaves) {
                A::add(self.kernel.level, sums, table, tree.n_leaves, leaves);
            }
        };
        match tree.outputs {
            Outputs::One(k) => add(0, &mut sums[k]),
            Outputs::All => sums.iter_mut().enumerate().for_each(|(k, sums)| add(k, sums)),
        }
    }

    fn add_wide<const N: usize>(
        &self,
        tree: &Planned,
        leaf: &[[u32; LANES]; N],
        sums: &mut [[[A; LANES]; N]],
    ) {
        let table = |k: usize| &self.leaves[tree.leaves + k * tree.n_leaves..][..tree.n_leaves];
        match tree.outputs {
            Outputs::One(k) if tree.linear.is_some() => {
                let rows = self.rows.chunks_exact(self.kernel.n_inputs);
                let sums = sums[k].as_flattened_mut().iter_mut();
                for ((sum, leaf), row) in sums.zip(leaf.as_flattened()).zip(rows) {
                    *sum += match self.kernel.plan.linear_value(tree, *leaf as usize, row) {
                        Some(value) => A::of(value),
                        None => table(0)[*leaf as usize],
                    };
                }
            }
            Outputs::One(k) => add_from(table(0), leaf, &mut sums[k]),
            Outputs::All => {
                for (k, sums) in sums.iter_mut().enumerate() {
                    add_from(table(k), leaf, sums);
                }
            }
        }
    }
}

fn add_from<A: Value, const N: usize>(
    table: &[A],
    leaf: &[[u32; LANES]; N],
    sums: &mut [[A; LANES]; N],
) {
    for (sum, leaf) in sums.as_flattened_mut().iter_mut().zip(leaf.as_flattened()) {
        *sum += table[*leaf as usize];
    }
}

/// Rows that are on their way through a deep tree at once: their memory accesses overlap.
const ABREAST: usize = 16;

/// The leaf of each row in a deep tree.
fn deep<const N: usize>(
    segment: &Segment,
    steps: &[Step],
    depth: usize,
    keys: &[[[i32; LANES]; N]],
) -> [[u32; LANES]; N] {
    let mut leaves = [[0; LANES]; N];
    let parts = leaves.as_flattened_mut();
    for (part, leaf) in parts.as_chunks_mut::<ABREAST>().0.iter_mut().enumerate() {
        let first = part * ABREAST;
        let mut at = [0_u32; ABREAST];
        for level in 0..depth {
            let mut moved = 0;
            for (i, at) in at.iter_mut().enumerate() {
                let step = &steps[*at as usize];
                let next = segment.next(step, |key| keys[key as usize].as_flattened()[first + i]);
                moved |= *at ^ next;
                *at = next;
            }
            // Few rows go as deep as the deepest leaf.
            if level % 4 == 3 && moved == 0 {
                break;
            }
        }
        for (leaf, at) in leaf.iter_mut().zip(at) {
            *leaf = steps[at as usize].leaf;
        }
    }
    leaves
}
