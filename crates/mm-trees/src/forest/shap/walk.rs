//! The walk over a tree that gives every player its share, for `L` rows at once.

use std::ops::Range;

use super::{
    Lanes, Mask,
    plan::{Edge, NONE, Plan},
    quadrature::Rule,
};

/// What a walk needs to remember; kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch<const L: usize> {
    /// For each level and point, the product of the factors of the path so far.
    products: Vec<Lanes<L>>,
    /// For each level and point, the sum over the leaves below.
    sums: Vec<Lanes<L>>,
    /// For each edge, the rows that meet all conditions of its player so far.
    pub(super) alive: Vec<Mask<L>>,
    /// The answers to the tree's questions.
    left: Vec<Mask<L>>,
    /// The path, edge by edge.
    open: Vec<usize>,
    /// What does not depend on the row: see [`Scratch::prepare`].
    table: Vec<f64>,
    /// For each edge and point, one over the player's factor in rows that are alive.
    pub(super) inverses: Vec<f64>,
    n_points: usize,
}

/// Of each lane `a` where the mask is set, else `b`.
pub(super) fn pick(mask: u64, a: f64, b: f64) -> f64 {
    f64::from_bits((a.to_bits() & mask) | (b.to_bits() & !mask))
}

impl<const L: usize> Scratch<L> {
    /// Computes what the edges of `plan` have in common for all rows: for each edge four lists of
    /// one number a point, namely by what the product of factors is multiplied if the row goes this
    /// way, or if it leaves the path here, and what the sum of products is weighed with in the
    /// player's share, in either case.
    pub(super) fn prepare(&mut self, plan: &Plan, rule: &Rule) {
        let n = rule.points.len();
        self.n_points = n;
        self.table.clear();
        self.table.resize(plan.edges.len() * 4 * n, 0.0);
        self.inverses.clear();
        self.inverses.resize(plan.edges.len() * n, 0.0);
        for (e, (edge, table)) in
            plan.edges.iter().zip(self.table.chunks_exact_mut(4 * n)).enumerate()
        {
            let (hot, rest) = table.split_at_mut(n);
            let (cool, rest) = rest.split_at_mut(n);
            let (hot_share, cool_share) = rest.split_at_mut(n);
            let (done, inverses) = self.inverses.split_at_mut(e * n);
            let joint = edge.joint;
            for q in 0..n {
                let t = rule.points[q];
                let (unmet, now) = (joint * (1.0 - t), joint * (1.0 - t) + t);
                let inverse = 1.0 / now;
                inverses[q] = inverse;
                hot[q] = now;
                cool[q] = unmet;
                hot_share[q] = rule.weights[q] * ((1.0 - joint) * inverse);
                cool_share[q] = -rule.weights_over_rest[q];
            }
            if edge.before != NONE {
                // In place of the factor that the player had before.
                let before = edge.before as usize;
                let share = 1.0 - plan.edges[before].joint;
                let then = &done[before * n..][..n];
                for q in 0..n {
                    hot[q] *= then[q];
                    cool[q] *= then[q];
                    let gone = rule.weights[q] * (share * then[q]);
                    hot_share[q] -= gone;
                    cool_share[q] -= gone;
                }
            }
        }
        let n_levels = plan.depth + 1;
        self.products.resize(n_levels * n, [1.0; L]);
        self.products[..n].fill([1.0; L]);
        self.sums.resize(n_levels * n, [0.0; L]);
        self.alive.resize(plan.edges.len(), [0; L]);
        self.open.resize(n_levels, 0);
    }

    /// Asks the questions of `plan`.
    pub(super) fn ask(&mut self, plan: &Plan, columns: &[[f32; L]]) {
        self.left.clear();
        self.left.extend(plan.questions.iter().map(|question| question.ask(columns)));
    }

    /// Takes the answers that lead to the leaves from `first` on, one a row, in a symmetric tree.
    pub(super) fn answer(&mut self, n_levels: usize, first: usize) {
        let left = |level, l| u64::from((first + l) >> level & 1 == 0).wrapping_neg();
        self.left.clear();
        self.left.extend((0..n_levels).map(|level| std::array::from_fn(|l| left(level, l))));
    }

    /// The leaf of row `l` in a symmetric tree.
    pub(super) fn answers(&self, l: usize) -> usize {
        let bit = |(level, left): (usize, &Mask<L>)| usize::from(left[l] == 0) << level;
        self.left.iter().enumerate().map(bit).sum()
    }

    /// Finds for each edge the rows that meet all conditions of its player so far, and nothing else.
    pub(super) fn meet(&mut self, plan: &Plan) {
        self.alive.resize(plan.edges.len(), [0; L]);
        for (e, edge) in plan.edges.iter().enumerate() {
            let goes = self.goes(edge);
            self.alive[e] = match self.alive[..e].get(edge.before as usize) {
                None => goes,
                Some(before) => std::array::from_fn(|l| before[l] & goes[l]),
            };
        }
    }

    /// Adds to `shares`, one a player of the tree, what each contributes to the output whose leaf
    /// values are every `stride`-th of the plan's, from `first`.
    ///
    /// [`prepare`](Scratch::prepare) and [`ask`](Scratch::ask) come before.
    pub(super) fn walk(
        &mut self,
        plan: &Plan,
        first: usize,
        stride: usize,
        shares: &mut [Lanes<L>],
    ) {
        for (e, edge) in plan.edges.iter().enumerate() {
            self.descend(edge, e);
            let depth = edge.depth as usize;
            let here = self.level(depth);
            if edge.leaf == NONE {
                self.sums[here].fill([0.0; L]);
                continue;
            }
            let value = plan.leaves[edge.leaf as usize * stride + first];
            let products = &self.products[here.clone()];
            for (sum, product) in self.sums[here].iter_mut().zip(products) {
                *sum = product.map(|product| product * value);
            }
            for depth in (depth - edge.closes as usize..=depth).rev() {
                let done = self.open[depth];
                let edge = &plan.edges[done];
                self.ascend(edge, done, &mut shares[edge.player as usize]);
            }
        }
    }

    /// For each point, the product of the factors of the path down to `depth`.
    pub(super) fn products_at(&self, depth: usize) -> &[Lanes<L>] {
        &self.products[self.level(depth)]
    }

    /// The rows that take an edge's branch where its split is asked.
    fn goes(&self, edge: &Edge) -> Mask<L> {
        let left = self.left[edge.question as usize];
        if edge.is_left { left } else { left.map(|bits| !bits) }
    }

    fn level(&self, depth: usize) -> Range<usize> {
        depth * self.n_points..(depth + 1) * self.n_points
    }

    /// Extends the path by an edge: its product is that of the path before times the edge's factor.
    pub(super) fn descend(&mut self, edge: &Edge, e: usize) {
        let depth = edge.depth as usize;
        self.open[depth] = e;
        let goes = self.goes(edge);
        let (above, here) = self.products.split_at_mut(depth * self.n_points);
        let above = &above[(depth - 1) * self.n_points..];
        let table = &self.table[e * 4 * self.n_points..][..2 * self.n_points];
        let (hot, cool) = table.split_at(self.n_points);
        let steps = above.iter().zip(here).zip(hot.iter().zip(cool));
        if edge.before == NONE {
            self.alive[e] = goes;
            for ((from, to), (&hot, &cool)) in steps {
                for l in 0..L {
                    to[l] = from[l] * pick(goes[l], hot, cool);
                }
            }
        } else {
            // A row that had left the path before has lost its factor `t` once and for all.
            let before = self.alive[edge.before as usize];
            let both: Mask<L> = std::array::from_fn(|l| before[l] & goes[l]);
            self.alive[e] = both;
            for ((from, to), (&hot, &cool)) in steps {
                for l in 0..L {
                    to[l] = from[l] * pick(both[l], hot, pick(before[l], cool, edge.share));
                }
            }
        }
    }

    /// Adds an edge's part to its player's share, and the sum below it to that of its parent.
    fn ascend(&mut self, edge: &Edge, e: usize, share: &mut Lanes<L>) {
        let depth = edge.depth as usize;
        let (above, here) = self.sums.split_at_mut(depth * self.n_points);
        let above = &mut above[(depth - 1) * self.n_points..];
        let table = &self.table[(e * 4 + 2) * self.n_points..][..2 * self.n_points];
        let (hot, cool) = table.split_at(self.n_points);
        let steps = above.iter_mut().zip(&*here).zip(hot.iter().zip(cool));
        let (alive, mut sum) = (self.alive[e], *share);
        if edge.before == NONE {
            for ((above, here), (&hot, &cool)) in steps {
                for l in 0..L {
                    sum[l] += here[l] * pick(alive[l], hot, cool);
                    above[l] += here[l];
                }
            }
        } else {
            // Rows that had left the path before leave nothing more here.
            let before = self.alive[edge.before as usize];
            for ((above, here), (&hot, &cool)) in steps {
                for l in 0..L {
                    sum[l] += here[l] * pick(alive[l], hot, pick(before[l], cool, 0.0));
                    above[l] += here[l];
                }
            }
        }
        *share = sum;
    }
}
