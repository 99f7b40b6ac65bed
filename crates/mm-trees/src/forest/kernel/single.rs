//! One row, without allocating: trees stand side by side where rows do in a batch.

use super::{
    Kernel, Value, lanes,
    lanes::LANES,
    plan::{MAX_COLUMNS, MAX_NARROW_TREES, Planned, Segment, Shape},
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
    let mut columns = [0_u8; MAX_COLUMNS];
    let mut lanes = [[0_u8; LANES]; MAX_LANES / LANES];
    for segment in &kernel.plan.segments {
        columns_of(segment, row, &mut columns);
        for (group, leaves) in segment.groups.iter().zip(&mut lanes) {
            let trees = segment.slots.of(group);
            *leaves = kernel.level.abreast(trees, &columns, segment.n_columns());
        }
        let lanes = lanes.as_flattened();
        for tree in &segment.trees {
            let leaf = match &tree.shape {
                Shape::Ordered { lane, .. } | Shape::Symmetric { lane: Some(lane), .. } => {
                    usize::from(lanes[*lane])
                }
                Shape::Symmetric { nodes, lane: None } => {
                    let nodes = segment.nodes[nodes.clone()].iter().enumerate();
                    let bit = |(k, node): (usize, &super::plan::Cut)| {
                        usize::from(columns[usize::from(node.column)] > node.rank) << k
                    };
                    nodes.map(bit).sum()
                }
                Shape::Deep { steps, .. } => deep(segment, &segment.steps[steps.clone()], row),
            };
            add_leaf(kernel, leaves, tree, leaf, row, &mut add);
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

fn columns_of(segment: &Segment, row: &[f32], columns: &mut [u8]) {
    let key = |k: u32| {
        let key = &segment.keys[k as usize];
        key.rule.key(row[key.input as usize])
    };
    let (ranked, members) = columns.split_at_mut(segment.ranks.len());
    for (rank, out) in segment.ranks.iter().zip(ranked) {
        *out = lanes::rank_one(key(rank.key), segment.borders_of(rank), rank.steps);
    }
    for (member, out) in segment.members.iter().zip(members) {
        *out = u8::from(segment.sets[member.set as usize].get().goes_right(key(member.key)));
    }
}

fn deep(segment: &Segment, steps: &[super::plan::Step], row: &[f32]) -> usize {
    let key = |k: usize| {
        let key: &super::plan::Key = &segment.keys[k];
        key.rule.key(row[key.input as usize])
    };
    let mut at = 0;
    loop {
        let step = &steps[at as usize];
        if step.child == at {
            return step.leaf as usize;
        }
        at = segment.next(step, key);
    }
}
