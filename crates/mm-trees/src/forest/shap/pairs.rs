//! Interactions: how much two features contributed together.

use std::ops::Range;

use mm_core::{Error, Frame, Matrix, Result, parallel};

use super::{
    Explainer, Lanes, Prepared, WIDE, chunked,
    plan::{NONE, Paths, Plan},
    quadrature::Rule,
    walk::{Scratch, pick},
};

/// Interactions of shape (*n*, *k*, *p* + 1, *p* + 1): for each row and raw score a symmetric
/// matrix over the features and the base.
///
/// Off the diagonal stands half of what two features contributed together beyond what each did
/// alone (the Shapley interaction index of Grabisch & Roubens 1999, split evenly); on the diagonal
/// what remains of the feature's contribution. So the row of a feature adds up to its contribution,
/// and the whole matrix to the score. The base stands in the last place of the diagonal.
#[derive(Debug, Clone, PartialEq)]
pub struct Interactions {
    matrix: Matrix, // Of shape (n, k (p + 1)²).
    n_scores: usize,
    n_features: usize,
}

impl Interactions {
    /// Number of rows, *n*.
    pub fn n_rows(&self) -> usize {
        self.matrix.n_rows()
    }

    /// Number of scores a row, *k*.
    pub fn n_scores(&self) -> usize {
        self.n_scores
    }

    /// Number of features, *p*.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// The matrix of score `k` of row `i`, row-major, of length (*p* + 1)².
    ///
    /// # Panics
    ///
    /// If `i` is not below *n*, or `k` not below the number of scores.
    pub fn of(&self, i: usize, k: usize) -> &[f64] {
        assert!(k < self.n_scores, "score {k} of {}", self.n_scores);
        let size = (self.n_features + 1).pow(2);
        &self.matrix.row(i)[k * size..][..size]
    }

    /// What features `a` and `b` have in common in score `k` of row `i`: half of it if they differ.
    ///
    /// # Panics
    ///
    /// As [`of`](Interactions::of), and if `a` or `b` is above *p*.
    pub fn between(&self, i: usize, k: usize, a: usize, b: usize) -> f64 {
        let width = self.n_features + 1;
        assert!(a < width && b < width, "features {a} and {b} of {}", self.n_features);
        self.of(i, k)[a * width + b]
    }

    /// All numbers: row by row, score by score, matrix by matrix.
    pub fn values(&self) -> &[f64] {
        self.matrix.values()
    }
}

impl Explainer {
    /// The interactions of features in the raw scores of the rows of `x`; rows in parallel on the
    /// ambient pool. Equal to XGBoost's `pred_interactions`.
    ///
    /// O(leaves · features on the path² · points) a row and tree, and 8 (*p* + 1)² bytes a row and
    /// score.
    ///
    /// # Errors
    ///
    /// Columns as in [`contributions`](Explainer::contributions); [`Error::Data`] if the explainer was
    /// made [against a background](super::Forest::explainer_against).
    pub fn interactions(&self, x: &Frame) -> Result<Interactions> {
        if self.trees.iter().any(|tree| matches!(tree, Prepared::Background(..)))
            || self.rules.is_empty()
        {
            let expected = "an explainer by the branches' training rows";
            return Err(Error::data("interactions", expected, "one against a background"));
        }
        let x = &*self.inputs.admit(x)?;
        let (n_rows, n_scores, n_features) = (x.n_rows(), self.n_outputs, self.inputs.n_features);
        let size = n_scores * (n_features + 1).pow(2);
        let mut out = Interactions { matrix: Matrix::zeros(n_rows, size), n_scores, n_features };
        let paths: Vec<Paths> = self.trees.iter().map(|tree| tree.plan().paths()).collect();
        let fair = n_rows.div_ceil(4 * rayon::current_num_threads() * WIDE);
        let block = fair.clamp(1, ((1 << 18) / (size * WIDE).max(1)).clamp(1, 16)) * WIDE;
        parallel::fill_rows(&mut out.matrix, block, |rows, out| {
            for (rows, out) in chunked(rows, block).zip(out.chunks_mut(block * size)) {
                self.interact(x, rows, &paths, out);
            }
            Ok(())
        })?;
        Ok(out)
    }

    fn interact(&self, x: &Frame, rows: Range<usize>, paths: &[Paths], out: &mut [f64]) {
        let n_columns = self.inputs.n_columns();
        let columns = self.inputs.columns::<WIDE>(x, rows);
        let width = self.inputs.n_features + 1;
        let size = self.n_outputs * width * width;
        let mut walk = Walk::default();
        for (tree, paths) in self.trees.iter().zip(paths) {
            let plan = tree.plan();
            walk.prepare(plan, &self.rules[plan.n_points]);
            let groups = columns.chunks_exact(n_columns.max(1)).zip(out.chunks_mut(WIDE * size));
            for (columns, out) in groups {
                walk.scratch.ask(plan, columns);
                let targets = plan.targets(self.n_outputs);
                let stride = targets.len();
                for (first, k) in targets.enumerate() {
                    walk.run(plan, paths, first, stride);
                    for (l, out) in out.chunks_exact_mut(size).enumerate() {
                        let out = &mut out[k * width * width..][..width * width];
                        self.scatter(plan, &walk, l, out);
                    }
                }
            }
        }
        for out in out.chunks_exact_mut(size) {
            for (out, base) in out.chunks_exact_mut(width * width).zip(&self.base) {
                out[width * width - 1] = *base;
            }
        }
    }

    /// Adds what the walk found for row `l` to its matrix. Features that are one player share.
    fn scatter(&self, plan: &Plan, walk: &Walk, l: usize, out: &mut [f64]) {
        let (width, n) = (self.inputs.n_features + 1, plan.players.len());
        let features = |a: usize| &self.players.features[plan.players[a] as usize];
        for a in 0..n {
            let mut alone = walk.singles[a][l];
            for b in (0..n).filter(|&b| b != a) {
                let half = walk.pairs[a.min(b) * n + a.max(b)][l] / 2.0;
                if half == 0.0 {
                    continue;
                }
                alone -= half;
                let part = half / (features(a).len() * features(b).len()) as f64;
                for &f in features(a) {
                    for &g in features(b) {
                        out[f * width + g] += part;
                    }
                }
            }
            let part = alone / features(a).len() as f64;
            for &f in features(a) {
                out[f * width + f] += part;
            }
        }
    }
}

/// A walk that looks at the pairs of players on the path to each leaf.
#[derive(Debug, Default)]
struct Walk {
    scratch: Scratch<WIDE>,
    /// For each edge and point, by what the product of factors is multiplied to put the player's
    /// gain in place of its factor, if the row is alive.
    gains: Vec<f64>,
    /// The same if it is not.
    losses: Vec<f64>,
    weights: Vec<f64>,
    /// For each place on the path and point, one of the two, row by row.
    ratios: Vec<Lanes<WIDE>>,
    /// The contributions of the tree's players.
    singles: Vec<Lanes<WIDE>>,
    /// Their interactions, of shape (players, players), above the diagonal.
    pairs: Vec<Lanes<WIDE>>,
}

impl Walk {
    fn prepare(&mut self, plan: &Plan, rule: &Rule) {
        self.scratch.prepare(plan, rule);
        self.gains.clear();
        let inverses = self.scratch.inverses.chunks_exact(rule.points.len());
        for (edge, inverses) in plan.edges.iter().zip(inverses) {
            self.gains.extend(inverses.iter().map(|inverse| (1.0 - edge.joint) * inverse));
        }
        self.losses.clear();
        self.losses.extend(rule.points.iter().map(|t| -1.0 / (1.0 - t)));
        self.weights.clone_from(&rule.weights);
        self.ratios.resize(plan.longest * rule.points.len(), [0.0; WIDE]);
    }

    fn run(&mut self, plan: &Plan, paths: &Paths, first: usize, stride: usize) {
        let (n, n_points) = (plan.players.len(), self.weights.len());
        self.singles.clear();
        self.singles.resize(n, [0.0; WIDE]);
        self.pairs.clear();
        self.pairs.resize(n * n, [0.0; WIDE]);
        let mut leaves = paths.iter();
        for (e, edge) in plan.edges.iter().enumerate() {
            self.scratch.descend(edge, e);
            let (true, Some(path)) = (edge.leaf != NONE, leaves_next(edge.leaf, &mut leaves))
            else {
                continue;
            };
            let value = plan.leaves[edge.leaf as usize * stride + first];
            let products = self.scratch.products_at(edge.depth as usize);
            for (&e, ratios) in path.iter().zip(self.ratios.chunks_exact_mut(n_points)) {
                let alive = self.scratch.alive[e as usize];
                let gains = &self.gains[e as usize * n_points..][..n_points];
                for ((ratio, &gain), &loss) in ratios.iter_mut().zip(gains).zip(&self.losses) {
                    *ratio = alive.map(|alive| pick(alive, gain, loss));
                }
            }
            for (q, (product, weight)) in products.iter().zip(&self.weights).enumerate() {
                let product = product.map(|product| product * value * weight);
                for (i, &a) in path.iter().enumerate() {
                    let a = plan.edges[a as usize].player as usize;
                    let ratio = &self.ratios[i * n_points + q];
                    let gain: Lanes<WIDE> = std::array::from_fn(|l| product[l] * ratio[l]);
                    add(&mut self.singles[a], |l| gain[l]);
                    for (j, &b) in path.iter().enumerate().skip(i + 1) {
                        let b = plan.edges[b as usize].player as usize;
                        let ratio = &self.ratios[j * n_points + q];
                        add(&mut self.pairs[a.min(b) * n + a.max(b)], |l| gain[l] * ratio[l]);
                    }
                }
            }
        }
    }
}

/// The path to the next leaf, at a leaf.
fn leaves_next<'a>(leaf: u32, leaves: &mut impl Iterator<Item = &'a [u32]>) -> Option<&'a [u32]> {
    if leaf == NONE { None } else { leaves.next() }
}

fn add(sum: &mut Lanes<WIDE>, x: impl Fn(usize) -> f64) {
    for (l, sum) in sum.iter_mut().enumerate() {
        *sum += x(l);
    }
}
