//! The evaluator that says what is right: one row, one tree, one node after another.
//!
//! It is slow, follows the definitions in [`tree`](super::tree) word by word, and is what the kernel,
//! the readers, and the explanations are tested against.

use super::{
    Ctrs, Forest, Sum, ctr,
    tree::{Child, Outputs, Split, Test, Tree, Trunk},
};

impl Forest {
    /// The raw scores of one row, by definition: O(trees · depth).
    ///
    /// `row` holds one value for each feature (NaN = missing; codes of levels, −1 = unknown). Tests
    /// by hash and by CTR need [`raw_by_hashes`](Forest::raw_by_hashes).
    pub(crate) fn raw_by_definition(&self, row: &[f32], out: &mut [f64]) {
        self.raw_by_hashes(row, &[], out);
    }

    /// As [`raw_by_definition`](Forest::raw_by_definition), with the hash of each feature's level;
    /// `None` if it is unknown.
    pub(crate) fn raw_by_hashes(&self, row: &[f32], hashes: &[Option<u32>], out: &mut [f64]) {
        match &self.sum {
            Sum::Double { is_average } => {
                out.fill(0.0);
                self.add_up(row, hashes, |k, leaf| out[k] += leaf);
                if *is_average {
                    for sum in out {
                        *sum /= self.n_rounds() as f64;
                    }
                }
            }
            Sum::Single { base } => {
                let mut sums = base.clone();
                self.add_up(row, hashes, |k, leaf| sums[k] += leaf as f32);
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = f64::from(sum);
                }
            }
            Sum::Scaled { scale, bias } => {
                out.fill(0.0);
                self.add_up(row, hashes, |k, leaf| out[k] += leaf);
                for (out, bias) in out.iter_mut().zip(bias) {
                    *out = scale * *out + bias;
                }
            }
        }
    }

    /// Replaces the raw scores of a row by its predictions.
    pub(crate) fn link_row(&self, row: &mut [f64]) {
        self.link.apply(matches!(self.sum, Sum::Single { .. }), row);
    }

    fn add_up(&self, row: &[f32], hashes: &[Option<u32>], mut add: impl FnMut(usize, f64)) {
        for tree in &self.trees {
            let leaf = tree.leaf_where(|split| split.goes_left(row, hashes, &self.ctrs));
            match tree.outputs {
                Outputs::One(k) => add(k, tree.value_at(leaf, row)),
                Outputs::All => {
                    let values = &tree.leaves[leaf * self.n_outputs..][..self.n_outputs];
                    values.iter().enumerate().for_each(|(k, value)| add(k, value * tree.weight));
                }
            }
        }
    }
}

impl Tree {
    /// The leaf in which a row ends that goes left where `goes_left` says so.
    pub(crate) fn leaf_where(&self, goes_left: impl Fn(&Split) -> bool) -> usize {
        match &self.trunk {
            Trunk::Nodes(nodes) => {
                let mut at = if nodes.is_empty() { Child::Leaf(0) } else { Child::Node(0) };
                loop {
                    match at {
                        Child::Leaf(leaf) => return leaf,
                        Child::Node(node) => {
                            let node = &nodes[node];
                            at = if goes_left(&node.split) { node.left } else { node.right };
                        }
                    }
                }
            }
            Trunk::Oblivious(tree) => {
                let bit = |(k, split)| usize::from(!goes_left(split)) << k;
                tree.levels.iter().enumerate().map(bit).sum()
            }
        }
    }

    fn value_at(&self, leaf: usize, row: &[f32]) -> f64 {
        let linear = self.linear.get(leaf).and_then(|linear| linear.value(row));
        let value = linear.unwrap_or(self.leaves[leaf]);
        value * self.weight
    }
}

impl Split {
    /// Whether a row goes left, whatever is asked; `hashes` are those of its levels, `None` for
    /// unknown ones.
    pub(crate) fn goes_left(&self, row: &[f32], hashes: &[Option<u32>], ctrs: &Ctrs) -> bool {
        match self.test {
            Test::Ctr { border } => {
                let value = ctrs.value_of(&ctrs.list[self.feature], row, hashes);
                value <= border || value.is_nan()
            }
            _ => ctr::goes_left(self, row, hashes),
        }
    }
}
