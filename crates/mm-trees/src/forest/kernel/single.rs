//! One row, without allocating: trees stand side by side where rows do in a batch.

use super::{
    Kernel, Value,
    lanes::{Bytes, LANES},
    plan::{Cut, Group, MAX_COLUMNS, MAX_NARROW_TREES, Planned, Segment, Shape},
    simd::Level,
};
use crate::forest::tree::Outputs;

/// Lanes of a segment's groups: each kind of shape may leave one group unfilled.
const MAX_LANES: usize = MAX_NARROW_TREES + 2 * LANES;

/// Fills `out` with the sums of one row.
pub(super) fn sums<A: Value>(
    kernel: &Kernel,
    leaves: &[A],
    start: &[A],
    row: &[f32],
    out: &mut [f64],
) {
    let start = |k| start.get(k).copied().unwrap_or_default();
    if let [out] = out {
        let mut sum = start(0);
        add_up(kernel, leaves, row, |_, leaf| sum += leaf);
        *out = sum.into();
        return;
    }
    for (k, out) in out.iter_mut().enumerate() {
        *out = start(k).into();
    }
    add_up(kernel, leaves, row, |k, leaf| {
        let mut sum = A::of(out[k]); // Exact: it was one.
        sum += leaf;
        out[k] = sum.into();
    });
}

/// Adds the trees' leaves of one row: `add(k, leaf)` in the order of the trees.
fn add_up<A: Value>(kernel: &Kernel, leaves: &[A], row: &[f32], mut add: impl FnMut(usize, A)) {
    let mut columns = [0; MAX_COLUMNS];
    let mut lanes = [[0; LANES]; MAX_LANES / LANES];
    for segment in &kernel.plan.segments {
        kernel.level.climb(segment, row, &mut columns);
        for answers in &segment.answers {
            let key = segment.key_of(row, answers.key);
            kernel.level.spread(answers.to(key), &mut columns[answers.columns.clone()]);
        }
        for (member, out) in segment.members.iter().zip(&mut columns[segment.first_member()..]) {
            let set = segment.sets[member.set as usize].get();
            *out = u8::from(set.goes_right(segment.key_of(row, member.key)));
        }
        let mut free = lanes.as_mut_slice();
        for group in &segment.groups {
            let (these, rest) = free.split_at_mut(group.width);
            let sweep = match group.width {
                8 => sweep::<8>,
                4 => sweep::<4>,
                2 => sweep::<2>,
                _ => sweep::<1>,
            };
            sweep(kernel.level, segment, group, &columns, these);
            free = rest;
        }
        let lanes = lanes.as_flattened();
        for tree in &segment.plain {
            let leaf = tree.leaves as usize + usize::from(lanes[usize::from(tree.lane)]);
            add(usize::from(tree.output), leaves[leaf]);
        }
        if segment.plain.is_empty() {
            for tree in &segment.trees {
                let leaf = leaf_of(segment, tree, lanes, &columns, row);
                add_leaf(kernel, leaves, tree, leaf, row, &mut add);
            }
        }
    }
}

/// The leaves of the trees of one group.
fn sweep<const N: usize>(
    level: Level,
    segment: &Segment,
    group: &Group,
    columns: &[u8; MAX_COLUMNS],
    out: &mut [Bytes],
) {
    let trees = segment.slots.of(group);
    out.copy_from_slice(&level.abreast::<N>(trees, columns, segment.n_columns()));
}

/// The leaf of any tree, `lanes` being those of the narrow ones.
fn leaf_of(
    segment: &Segment,
    tree: &Planned,
    lanes: &[u8],
    columns: &[u8; MAX_COLUMNS],
    row: &[f32],
) -> usize {
    match &tree.shape {
        Shape::Ordered { lane, .. } | Shape::Symmetric { lane: Some(lane), .. } => {
            usize::from(lanes[*lane])
        }
        Shape::Symmetric { nodes, lane: None } => {
            let bit = |(k, node): (usize, &Cut)| {
                usize::from(columns[usize::from(node.column)] > node.rank) << k
            };
            segment.nodes[nodes.clone()].iter().enumerate().map(bit).sum()
        }
        Shape::Deep { steps, .. } => {
            let steps = &segment.steps[steps.clone()];
            let mut at = 0;
            loop {
                let step = &steps[at as usize];
                if step.child == at {
                    return step.leaf as usize;
                }
                at = segment.next(step, |key| segment.key_of(row, key));
            }
        }
    }
}

fn add_leaf<A: Value>(
    kernel: &Kernel,
    leaves: &[A],
    tree: &Planned,
    leaf: usize,
    row: &[f32],
    add: &mut impl FnMut(usize, A),
) {
    match tree.outputs {
        Outputs::One(k) => {
            let linear = kernel.plan.linear_value(tree, leaf, row);
            add(k, linear.map_or_else(|| leaves[tree.leaves + leaf], A::of));
        }
        Outputs::All => {
            for k in 0..kernel.n_outputs {
                add(k, leaves[tree.leaves + k * tree.n_leaves + leaf]);
            }
        }
    }
}
