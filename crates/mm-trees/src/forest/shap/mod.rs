//! Shapley values of trees: what each feature contributed to a row's raw score.
//!
//! # Idea
//!
//! A *game* says what the score would be if only the features of a set *S* were known. The Shapley
//! value of a feature is what it adds on average, over all orders in which features become known;
//! the values of all features and the score of the empty set, the *base*, add up to the score. Two
//! games are offered:
//!
//! | | where a split asks for an unknown feature | needs |
//! | --- | --- | --- |
//! | [`Forest::explainer`] | both branches count, by the training rows that took them | statistics in the model file |
//! | [`Forest::explainer_against`] | each of some background rows answers in its place | the rows |
//!
//! The first ("path-dependent") is what the engines compute themselves, each with a statistic of its
//! own: LightGBM the number of rows, XGBoost the sum of Hessians, CatBoost the weight of rows. The
//! second ("interventional") breaks the tie of correlated features, and the base is the mean score
//! of the background.
//!
//! # How the first is computed
//!
//! Take one leaf of value *v*. Of each feature *j* on its path let *oⱼ* be 1 if the row meets all
//! its conditions there, else 0, and *zⱼ* the share of the training rows that does. The game of the
//! leaf is the product of *oⱼ* over known and *zⱼ* over unknown features, times *v*, and the Shapley
//! value an integral over the chance *t* with which the others are known (Owen 1972):
//!
//! ```text
//! φᵢ = v (oᵢ − zᵢ) ∫₀¹ Π_{j≠i} (zⱼ + (oⱼ − zⱼ) t) dt
//! ```
//!
//! The integrand is a polynomial, so that Gauss–Legendre quadrature with half as many points as
//! there are features on the path gives the integral exactly; all factors lie in [0, 1], so that
//! nothing cancels out. One walk over the tree carries the products down, one number a point, and
//! the sums over leaves up; at each edge the player's factor is divided out. So a row costs
//! O(edges · points) a tree, linear in trees and rows, where the recursion of Lundberg et al. costs
//! O(leaves · depth²). Eight rows walk side by side.
//!
//! Symmetric trees of up to 8 levels have at most 256 answers: their shares are computed once, for
//! every leaf, and looked up.
//!
//! # Limits
//!
//! Trees with linear models in their leaves have no such game and are refused. The walk keeps some
//! 128 bytes a level and point; trees for which that is over 256 MiB are refused.
//!
//! # Sources
//!
//! Lundberg, Erion, Chen et al. (2020), "From local explanations to global understanding with
//! explainable AI for trees" (both games, and the recursion); Owen (1972), "Multilinear extensions
//! of games" (the integral); Yu, Bifet, Read & Xu (2022), "Linear tree Shap" (products carried down
//! and sums up as polynomials, O(leaves · depth)).

mod plan;
mod quadrature;
#[cfg(test)]
mod tests;
mod walk;

use mm_core::{Contributions, Error, Frame, Result, Scale, parallel};

use self::{
    plan::{Plan, Weigh},
    quadrature::Rule,
    walk::Scratch,
};
use super::{Forest, Link, Sum, tree::Trunk};

/// Rows that walk side by side.
const LANES: usize = 8;

/// One number a row.
type Lanes = [f64; LANES];

/// All bits of each row, or none.
type Mask = [u64; LANES];

/// Symmetric trees of at most so many levels are tabulated.
const TABLE_LEVELS: usize = 8;

/// Numbers in all tables together, 128 MiB; trees beyond are walked.
const TABLE_BUDGET: usize = 1 << 24;

/// Bytes that a walk may keep.
const WALK_BUDGET: usize = 1 << 28;

/// A forest made ready to explain its raw scores by the training rows that took each branch; made by
/// [`Forest::explainer`].
///
/// Contributions add up to the raw score within rounding of `f64` (XGBoost adds up its leaves in
/// `f32`, from which they differ by its rounding). A split by a CTR belongs to all features that the
/// CTR is made of, which share its contribution equally, as CatBoost has it.
#[derive(Debug, Clone)]
pub struct Explainer {
    n_features: usize,
    n_outputs: usize,
    players: Players,
    base: Vec<f64>,
    trees: Vec<Prepared>,
    rules: Vec<Rule>, // By number of points; those that no tree needs are empty.
}

/// Who shares in the splits of a column.
#[derive(Debug, Clone)]
struct Players {
    /// The player of each column.
    of_column: Vec<u32>,
    /// The features of each player, at least one.
    features: Vec<Vec<usize>>,
}

impl Players {
    /// Each of the columns belongs to the feature of its number.
    fn plain(n_features: usize) -> Self {
        let of_column = (0..n_features as u32).collect();
        Self { of_column, features: (0..n_features).map(|j| vec![j]).collect() }
    }
}

/// A tree, ready.
#[derive(Debug, Clone)]
enum Prepared {
    Walk(Plan),
    /// Shares of shape (leaves, width, players), by the answers to the plan's questions.
    Table(Plan, Vec<f64>),
}

impl Prepared {
    fn plan(&self) -> &Plan {
        match self {
            Self::Walk(plan) | Self::Table(plan, _) => plan,
        }
    }
}

impl Forest {
    /// Makes the forest ready to explain its raw scores by the training rows that took each branch.
    ///
    /// O(nodes), and for symmetric trees O(4^levels).
    ///
    /// # Errors
    ///
    /// [`Error::Data`] with the number of the tree that has a linear model in a leaf, lacks the
    /// statistic, or is beyond the limits.
    pub fn explainer(&self) -> Result<Explainer> {
        Explainer::new(self, Players::plain(self.features.len()))
    }

    /// What each tree's leaves are multiplied by in a raw score, beside the tree's own weight.
    fn factor(&self) -> f64 {
        match self.sum {
            Sum::Double { is_average: true } => 1.0 / self.n_rounds().max(1) as f64,
            Sum::Double { is_average: false } | Sum::Single { .. } => 1.0,
            Sum::Scaled { scale, .. } => scale,
        }
    }

    /// The raw scores without any tree.
    fn start(&self) -> Vec<f64> {
        match &self.sum {
            Sum::Double { .. } => vec![0.0; self.n_outputs],
            Sum::Single { base } => base.iter().copied().map(f64::from).collect(),
            Sum::Scaled { bias, .. } => bias.clone(),
        }
    }

    /// How raw scores, and so contributions, become predictions.
    pub fn scale(&self) -> Scale {
        match self.link {
            Link::Identity => Scale::Prediction,
            Link::Sigmoid { scale } => Scale::LogOdds { slope: scale },
            Link::Softmax => Scale::Logits,
            Link::OneVsAll { scale } => Scale::ClassLogOdds { slope: scale },
            Link::Exp => Scale::Log,
            _ => Scale::Other,
        }
    }
}

impl Explainer {
    fn new(forest: &Forest, players: Players) -> Result<Self> {
        let mut base = forest.start();
        let (weigh, factor) = (Weigh::of(forest), forest.factor());
        let mut rules: Vec<Rule> = Vec::new();
        let mut budget = TABLE_BUDGET;
        let mut trees = Vec::with_capacity(forest.trees.len());
        for (i, tree) in forest.trees.iter().enumerate() {
            let factor = factor * tree.weight;
            let plan = Plan::new(forest, tree, &players.of_column, weigh, factor, &mut base);
            let plan = plan.and_then(check_budget).map_err(|e| e.within(format!("tree {i}")))?;
            if rules.len() <= plan.n_points {
                rules.resize_with(plan.n_points + 1, Rule::default);
            }
            if rules[plan.n_points].points.is_empty() {
                rules[plan.n_points] = Rule::new(plan.n_points);
            }
            let n_values = plan.leaves.len() * plan.players.len();
            let is_small = plan.questions.len() <= TABLE_LEVELS && n_values <= budget;
            trees.push(if matches!(tree.trunk, Trunk::Oblivious(_)) && is_small {
                budget -= n_values;
                let values = tabulate(&plan, &rules[plan.n_points], forest.n_outputs);
                Prepared::Table(plan, values)
            } else {
                Prepared::Walk(plan)
            });
        }
        let (n_features, n_outputs) = (forest.features.len(), forest.n_outputs);
        Ok(Self { n_features, n_outputs, players, base, trees, rules })
    }

    /// The score of each output before any feature is known, of length *k*.
    pub fn base(&self) -> &[f64] {
        &self.base
    }

    /// The contributions to the raw scores of the rows of `x`, of shape (*n*, *k*, *p* + 1); rows in
    /// parallel on the ambient pool. Columns are taken by place.
    ///
    /// # Errors
    ///
    /// [`Error::Columns`] if `x` has another width than the forest.
    pub fn contributions(&self, x: &Frame) -> Result<Contributions> {
        let mut out = Contributions::zeros(x.n_rows(), self.n_outputs, self.n_features);
        self.explain(x, &mut out)?;
        Ok(out)
    }

    /// As [`contributions`](Explainer::contributions), into `out`, which has their shape.
    pub(crate) fn explain(&self, x: &Frame, out: &mut Contributions) -> Result<()> {
        if x.n_cols() != self.n_features {
            return Err(Error::Columns { expected: self.n_features, got: x.n_cols() });
        }
        self.explain_with(&|i, cells| cells.copy_from_slice(x.row(i)), out)
    }

    /// `load` fills a slice with the cells of row `i`, one a column of the forest.
    fn explain_with(
        &self,
        load: &(impl Fn(usize, &mut [f32]) + Sync),
        out: &mut Contributions,
    ) -> Result<()> {
        let width = self.n_outputs * (self.n_features + 1);
        let n_rows = out.n_rows();
        // Many rows share the preparation of a tree; but all threads should have some, and the
        // shares of a block should stay in a cache.
        let bytes = (self.n_outputs * self.players.features.len() * size_of::<Lanes>()).max(1);
        let fair = n_rows.div_ceil(4 * rayon::current_num_threads());
        let block = fair.div_ceil(LANES).clamp(1, ((1 << 21) / bytes).clamp(1, 16)) * LANES;
        parallel::fill_rows(out.matrix_mut(), block, |rows, out| {
            for (rows, out) in chunked(rows, block).zip(out.chunks_mut(block * width)) {
                self.explain_block(rows, load, out);
            }
            Ok(())
        })
    }

    fn explain_block(
        &self,
        rows: std::ops::Range<usize>,
        load: &impl Fn(usize, &mut [f32]),
        out: &mut [f64],
    ) {
        let n_players = self.players.features.len();
        let columns = transpose(rows.clone(), self.players.of_column.len(), load);
        let n_columns = self.players.of_column.len();
        let n_groups = rows.len().div_ceil(LANES);
        let size = self.n_outputs * n_players;
        let mut totals = vec![[0.0; LANES]; n_groups * size];
        let (mut scratch, mut shares) = (Scratch::default(), Vec::new());
        for tree in &self.trees {
            let plan = tree.plan();
            if let Prepared::Walk(plan) = tree {
                scratch.prepare(plan, &self.rules[plan.n_points]);
            }
            for group in 0..n_groups {
                scratch.ask(plan, &columns[group * n_columns..][..n_columns]);
                let totals = &mut totals[group * size..][..size];
                let targets = plan.targets(self.n_outputs);
                let stride = targets.len();
                match tree {
                    Prepared::Walk(plan) => {
                        for (first, k) in targets.enumerate() {
                            shares.clear();
                            shares.resize(plan.players.len(), [0.0; LANES]);
                            scratch.walk(plan, first, stride, &mut shares);
                            for (&player, share) in plan.players.iter().zip(&shares) {
                                let total = &mut totals[k * n_players + player as usize];
                                total.iter_mut().zip(share).for_each(|(total, x)| *total += x);
                            }
                        }
                    }
                    Prepared::Table(plan, values) => {
                        let width = stride * plan.players.len();
                        for l in 0..LANES {
                            let mut values = values[scratch.answers(l) * width..][..width].iter();
                            for k in targets.clone() {
                                for (&player, value) in plan.players.iter().zip(&mut values) {
                                    totals[k * n_players + player as usize][l] += value;
                                }
                            }
                        }
                    }
                }
            }
        }
        for (i, out) in out.chunks_exact_mut(self.n_outputs * (self.n_features + 1)).enumerate() {
            let totals = &totals[i / LANES * size..][..size];
            let outputs = out.chunks_exact_mut(self.n_features + 1).zip(&self.base);
            for ((out, base), totals) in outputs.zip(totals.chunks_exact(n_players.max(1))) {
                out.fill(0.0);
                for (features, total) in self.players.features.iter().zip(totals) {
                    let part = total[i % LANES] / features.len() as f64;
                    features.iter().for_each(|&j| out[j] += part);
                }
                out[self.n_features] = *base;
            }
        }
    }
}

/// The parts of a range, each of `size` but the last.
fn chunked(
    range: std::ops::Range<usize>,
    size: usize,
) -> impl Iterator<Item = std::ops::Range<usize>> {
    let end = range.end;
    range.step_by(size).map(move |start| start..(start + size).min(end))
}

/// The cells of some rows, in groups of [`LANES`] rows, column by column; the last row fills up.
fn transpose(
    rows: std::ops::Range<usize>,
    n_columns: usize,
    load: &impl Fn(usize, &mut [f32]),
) -> Vec<[f32; LANES]> {
    let mut columns = vec![[0.0; LANES]; rows.len().div_ceil(LANES) * n_columns];
    let mut cells = vec![0.0; n_columns];
    for (i, row) in rows.enumerate() {
        load(row, &mut cells);
        let group = &mut columns[i / LANES * n_columns..][..n_columns];
        for (lanes, &cell) in group.iter_mut().zip(&cells) {
            lanes[i % LANES..].fill(cell);
        }
    }
    columns
}

/// The shares of all players for each combination of answers, of shape (leaves, width, players).
fn tabulate(plan: &Plan, rule: &Rule, n_outputs: usize) -> Vec<f64> {
    let (n_leaves, n_players) = (1 << plan.questions.len(), plan.players.len());
    let stride = plan.targets(n_outputs).len();
    let mut values = vec![0.0; n_leaves * stride * n_players];
    let (mut scratch, mut shares) = (Scratch::default(), Vec::new());
    scratch.prepare(plan, rule);
    for group in chunked(0..n_leaves, LANES) {
        scratch.answer(plan.questions.len(), group.start);
        for first in 0..stride {
            shares.clear();
            shares.resize(n_players, [0.0; LANES]);
            scratch.walk(plan, first, stride, &mut shares);
            for (l, leaf) in group.clone().enumerate() {
                let values = &mut values[(leaf * stride + first) * n_players..][..n_players];
                values.iter_mut().zip(&shares).for_each(|(value, share)| *value = share[l]);
            }
        }
    }
    values
}

/// Refuses a tree whose walk would need too much memory.
fn check_budget(plan: Plan) -> Result<Plan> {
    let bytes = [plan.depth + 1, plan.n_points, 2 * size_of::<Lanes>()];
    let bytes = bytes.into_iter().fold(1_usize, usize::saturating_mul);
    let table = plan.edges.len().saturating_mul(4 * size_of::<f64>() * plan.n_points);
    if bytes.saturating_add(table) <= WALK_BUDGET {
        return Ok(plan);
    }
    let got = format!("one of {} levels and {} features on a path", plan.depth, plan.longest);
    Err(Error::data("tree to explain", "one that can be walked within 256 MiB", got))
}
