//! The game against a background: what a split asks of an unknown feature, a background row answers.
//!
//! For one leaf of value *v*, one row *x* and one background row *b*, let *A* be the features on the
//! path whose conditions only *x* meets, *B* those whose conditions only *b* meets. If for some
//! feature neither does, the leaf cannot be reached. Else it is reached once all of *A* and none of
//! *B* is known, so that with *a* = |*A*| and *b* = |*B*|
//!
//! ```text
//! φᵢ = +v (a − 1)! b! / (a + b)!   for i in A
//! φᵢ = −v a! (b − 1)! / (a + b)!   for i in B
//! ```
//!
//! (Lundberg et al. 2020). All that matters of a background row is which features' conditions it
//! meets, so that rows with the same *pattern* count together; a leaf has few patterns, however many
//! rows there are. And all that matters of *x* is the set *U* of features whose conditions it does
//! not meet: *B* is *U*, and the patterns that count are those that have all of it.

use mm_core::{Error, Frame, Result};

use super::{
    super::{Forest, tree::Tree},
    Inputs, Lanes, WIDE,
    plan::{NONE, Paths, Plan, Weigh},
    walk::Scratch,
};

/// What background rows meet on the path to each leaf of a tree.
#[derive(Debug, Clone)]
pub(super) struct Patterns {
    paths: Paths,
    /// For each leaf of the walk, where its patterns end.
    ends: Vec<usize>,
    /// Which of the features on the path have their conditions met, with the share of rows.
    met: Vec<(u64, f64)>,
}

/// The most features on a path: as many as a pattern has bits.
const MAX_PATH: usize = 64;

/// Background rows, in groups of [`WIDE`].
#[derive(Debug)]
pub(super) struct Background {
    columns: Vec<[f32; WIDE]>,
    n_rows: usize,
}

impl Background {
    /// The rows of a frame that was admitted.
    pub(super) fn new(inputs: &Inputs, x: &Frame) -> Result<Self> {
        if x.n_rows() == 0 {
            return Err(Error::data("background", "at least 1 row", "none"));
        }
        Ok(Self { columns: inputs.columns(x, 0..x.n_rows()), n_rows: x.n_rows() })
    }
}

/// `x! (y − 1)! / (x + y)!` at `x` and `y`, for `y` of at least 1.
#[derive(Debug, Clone)]
pub(super) struct Orders(Vec<[f64; MAX_PATH + 1]>);

impl Orders {
    pub(super) fn new() -> Self {
        let first = std::array::from_fn(|y| if y == 0 { 0.0 } else { 1.0 / y as f64 });
        let mut rows = vec![first];
        for x in 1..=MAX_PATH {
            let above: [f64; MAX_PATH + 1] = rows[x - 1];
            rows.push(std::array::from_fn(|y| above[y] * x as f64 / (x + y) as f64));
        }
        Self(rows)
    }

    fn of(&self, x: usize, y: usize) -> f64 {
        self.0[x][y]
    }
}

impl Patterns {
    /// The patterns of `background` in a tree, and its mean scores added to `base`.
    pub(super) fn new(
        plan: &Plan,
        n_outputs: usize,
        background: &Background,
        base: &mut [f64],
    ) -> Result<Self> {
        if MAX_PATH < plan.longest {
            let expected = format!("at most {MAX_PATH} features on a path");
            return Err(Error::data("tree to explain", expected, plan.longest));
        }
        let paths = plan.paths();
        let mut of_leaves: Vec<Vec<u64>> = vec![Vec::new(); paths.len()];
        let mut scratch = Scratch::<WIDE>::default();
        let n_columns = (background.columns.len() / background.n_rows.div_ceil(WIDE)).max(1);
        for (group, columns) in background.columns.chunks_exact(n_columns).enumerate() {
            scratch.ask(plan, columns);
            scratch.meet(plan);
            for l in 0..WIDE.min(background.n_rows - group * WIDE) {
                for (path, rows) in paths.iter().zip(&mut of_leaves) {
                    rows.push(!unmet(path, &scratch, l) & all(path.len()));
                }
            }
        }
        let (mut ends, mut patterns): (_, Vec<(u64, f64)>) = (Vec::new(), Vec::new());
        let share = 1.0 / background.n_rows as f64;
        let leaves = plan.edges.iter().map(|edge| edge.leaf).filter(|&leaf| leaf != NONE);
        let targets = plan.targets(n_outputs);
        if plan.edges.is_empty() {
            base[targets.clone()]
                .iter_mut()
                .zip(&plan.leaves)
                .for_each(|(base, leaf)| *base += leaf);
        }
        for ((mut rows, path), leaf) in of_leaves.into_iter().zip(paths.iter()).zip(leaves) {
            rows.sort_unstable();
            for same in rows.chunk_by(|a, b| a == b) {
                let share = share * same.len() as f64;
                patterns.push((same[0], share));
                if same[0] == all(path.len()) {
                    let values = &plan.leaves[leaf as usize * targets.len()..][..targets.len()];
                    let base = base[targets.clone()].iter_mut();
                    base.zip(values).for_each(|(base, value)| *base += share * value);
                }
            }
            ends.push(patterns.len());
        }
        Ok(Self { paths, ends, met: patterns })
    }

    /// As [`Scratch::walk`], in the game against the background, for all outputs of the tree at once:
    /// `shares` has shape (width, players).
    pub(super) fn walk<const L: usize>(
        &self,
        plan: &Plan,
        orders: &Orders,
        scratch: &mut Scratch<L>,
        width: usize,
        shares: &mut [Lanes<L>],
    ) {
        scratch.meet(plan);
        let n_players = plan.players.len();
        let leaves = plan.edges.iter().map(|edge| edge.leaf).filter(|&leaf| leaf != NONE);
        let mut start = 0;
        let mut gains = [0.0; MAX_PATH];
        for ((path, leaf), &end) in self.paths.iter().zip(leaves).zip(&self.ends) {
            let patterns = &self.met[start..end];
            start = end;
            let values = &plan.leaves[leaf as usize * width..][..width];
            let lacking: [u64; L] = std::array::from_fn(|l| unmet(path, scratch, l));
            for (l, &lacking_here) in lacking.iter().enumerate() {
                // Rows side by side often are alike.
                if l == 0 || lacking[l - 1] != lacking_here {
                    self::gains(path.len(), lacking_here, patterns, orders, &mut gains);
                }
                for (&e, gain) in path.iter().zip(&gains) {
                    let player = plan.edges[e as usize].player as usize;
                    for (k, value) in values.iter().enumerate() {
                        shares[k * n_players + player][l] += gain * value;
                    }
                }
            }
        }
    }
}

/// What each of the `n` features on a path gains at a leaf of value 1, for a row that does not meet
/// the conditions of those in `lacking`.
fn gains(
    n: usize,
    lacking: u64,
    patterns: &[(u64, f64)],
    orders: &Orders,
    gains: &mut [f64; MAX_PATH],
) {
    gains[..n].fill(0.0);
    let n_lacking = lacking.count_ones() as usize;
    let mut loss = 0.0;
    for &(met, share) in patterns.iter().filter(|(met, _)| met & lacking == lacking) {
        let only_row = !met & all(n);
        let n_only_row = only_row.count_ones() as usize;
        loss -= share * orders.of(n_only_row, n_lacking);
        let gain = share * orders.of(n_lacking, n_only_row);
        let mut rest = only_row;
        while rest != 0 {
            gains[rest.trailing_zeros() as usize] += gain;
            rest &= rest - 1;
        }
    }
    let mut rest = lacking;
    while rest != 0 {
        gains[rest.trailing_zeros() as usize] = loss;
        rest &= rest - 1;
    }
}

/// The lowest `n` bits.
fn all(n: usize) -> u64 {
    if n == 0 { 0 } else { u64::MAX >> (MAX_PATH - n) }
}

/// Which features on a path have conditions that row `l` does not meet.
fn unmet<const L: usize>(path: &[u32], scratch: &Scratch<L>, l: usize) -> u64 {
    let bit = |(i, &e): (usize, &u32)| (!scratch.alive[e as usize][l] & 1) << i;
    path.iter().enumerate().map(bit).fold(0, |bits, bit| bits | bit)
}

/// A tree laid out for the game against a background.
pub(super) fn plan(forest: &Forest, tree: &Tree, player_of: &[u32], factor: f64) -> Result<Plan> {
    let mut unused = vec![0.0; forest.n_outputs];
    Plan::new(forest, tree, player_of, Weigh::Nothing, factor, &mut unused)
}
