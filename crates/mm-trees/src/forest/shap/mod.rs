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
//! own: LightGBM the number of rows, XGBoost the sum of Hessians, CatBoost the weight of rows (and a
//! symmetric tree's last level is its root, which matters where a feature is asked twice). The
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
//! O(leaves · depth²). Eight rows walk side by side, or two where there are few.
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

mod background;
mod pairs;
mod plan;
mod quadrature;
#[cfg(test)]
mod tests;
mod walk;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, OnceLock},
};

use mm_core::{Contributions, Error, Frame, Result, Scale, Schema, parallel};

pub use self::pairs::Interactions;
use self::{
    background::{Background, Orders, Patterns},
    plan::{Plan, Weigh},
    quadrature::Rule,
    walk::Scratch,
};
use super::{
    Ctrs, Encoder, Forest, Link, Sum,
    tree::{Tree, Trunk},
};

/// Rows that walk side by side.
const WIDE: usize = 8;

/// The same where there are few rows.
const NARROW: usize = 2;

/// One number a row.
type Lanes<const L: usize> = [f64; L];

/// All bits of each row, or none.
type Mask<const L: usize> = [u64; L];

/// Symmetric trees of at most so many levels are tabulated.
const WALK_TABLE_LEVELS: usize = 8;

/// The same for the game against a background, which takes longer to compute.
const BACKGROUND_TABLE_LEVELS: usize = 6;

/// Numbers in all tables together, 128 MiB; trees beyond are walked.
const TABLE_BUDGET: usize = 1 << 24;

/// Bytes that a walk may keep.
const WALK_BUDGET: usize = 1 << 28;

/// A forest made ready to explain its raw scores; made by [`Forest::explainer`] and
/// [`Forest::explainer_against`], or by a model's own methods of these names.
///
/// Contributions add up to the raw score within rounding of `f64` (XGBoost adds up its leaves in
/// `f32`, so that its own score differs by that rounding). A split by a CTR belongs to the features
/// by whose levels the CTR counts, which share its contribution equally, as CatBoost has it.
#[derive(Debug, Clone)]
pub struct Explainer {
    inputs: Inputs,
    players: Players,
    /// Features that contributions are told of.
    n_features: usize,
    n_outputs: usize,
    base: Vec<f64>,
    trees: Vec<Prepared>,
    rules: Vec<Rule>, // By number of points; those that no tree needs are empty.
    orders: Orders,
}

/// How rows of a frame become rows of the forest.
#[derive(Debug, Clone)]
pub(crate) struct Inputs {
    n_features: usize,
    /// The schema to which frames conform; without one, columns are taken by place.
    schema: Option<Schema>,
    /// Columns in which an unknown level has a code of its own in the forest, with that code.
    unknown: Vec<(usize, f32)>,
    /// What appends the values of CTRs, with the features that share in each.
    encoder: Option<(Arc<Encoder>, Vec<Vec<usize>>)>,
}

impl Inputs {
    /// Columns by place.
    fn plain(n_features: usize) -> Self {
        Self { n_features, schema: None, unknown: Vec::new(), encoder: None }
    }

    /// Frames that conform to `schema`.
    pub(crate) fn of(schema: &Schema) -> Self {
        Self { schema: Some(schema.clone()), ..Self::plain(schema.len()) }
    }

    /// The same where unknown levels have codes in some columns.
    pub(crate) fn with_unknown(self, unknown: &[(usize, f32)]) -> Self {
        Self { unknown: unknown.to_vec(), ..self }
    }

    /// The same for a forest that was [bound](Forest::bind) to the schema.
    pub(crate) fn encoded(self, encoder: &Arc<Encoder>, ctrs: &Ctrs) -> Self {
        let features = (0..ctrs.list.len()).map(|ctr| ctrs.features(ctr)).collect();
        Self { encoder: Some((Arc::clone(encoder), features)), ..self }
    }

    fn n_columns(&self) -> usize {
        self.n_features + self.encoder.as_ref().map_or(0, |(_, ctrs)| ctrs.len())
    }

    /// Translates levels by name, or checks the width.
    fn admit<'a>(&self, x: &'a Frame) -> Result<Cow<'a, Frame>> {
        match &self.schema {
            Some(schema) => x.conform(schema),
            None if x.n_cols() == self.n_features => Ok(Cow::Borrowed(x)),
            None => Err(Error::Columns { expected: self.n_features, got: x.n_cols() }),
        }
    }

    /// The cells of some rows of `x`, which was admitted, in groups of `L` rows, column by column;
    /// the last row fills up.
    fn columns<const L: usize>(&self, x: &Frame, rows: Range<usize>) -> Vec<[f32; L]> {
        let n_columns = self.n_columns();
        let mut columns = vec![[0.0; L]; rows.len().div_ceil(L) * n_columns];
        let mut encoded = vec![0.0; n_columns];
        for (i, row) in rows.map(|i| x.row(i)).enumerate() {
            let cells = match &self.encoder {
                None => row,
                Some((encoder, _)) => {
                    encoder.encode(row, &mut encoded);
                    &encoded
                }
            };
            let group = &mut columns[i / L * n_columns..][..n_columns];
            for (lanes, &cell) in group.iter_mut().zip(cells) {
                lanes[i % L..].fill(cell);
            }
            for &(j, code) in self.unknown.iter().filter(|&&(j, _)| row[j] == Frame::UNKNOWN) {
                group[j][i % L..].fill(code);
            }
        }
        columns
    }
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
    fn of(inputs: &Inputs) -> Self {
        let mut features: Vec<_> = (0..inputs.n_features).map(|j| vec![j]).collect();
        let mut numbers: BTreeMap<_, _> =
            (0_u32..).zip(&features).map(|(i, f)| (f.clone(), i)).collect();
        let mut of_column: Vec<u32> = (0..inputs.n_features as u32).collect();
        for own in inputs.encoder.iter().flat_map(|(_, ctrs)| ctrs) {
            let number = *numbers.entry(own.clone()).or_insert_with(|| {
                features.push(own.clone());
                features.len() as u32 - 1
            });
            of_column.push(number);
        }
        Self { of_column, features }
    }
}

/// A tree, ready.
#[derive(Debug, Clone)]
enum Prepared {
    /// By the training rows that took each branch.
    Walk(Plan),
    /// Against a background.
    Background(Plan, Patterns),
    /// Shares of shape (leaves, width, players), by the answers to the plan's questions.
    Table(Plan, Vec<f64>),
}

impl Prepared {
    fn plan(&self) -> &Plan {
        match self {
            Self::Walk(plan) | Self::Background(plan, _) | Self::Table(plan, _) => plan,
        }
    }
}

/// An explainer that is made when it is first asked for; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lazy(Arc<OnceLock<Explainer>>);

impl Lazy {
    pub(crate) fn get(&self, make: impl FnOnce() -> Result<Explainer>) -> Result<&Explainer> {
        match self.0.get() {
            Some(explainer) => Ok(explainer),
            None => make().map(|explainer| self.0.get_or_init(|| explainer)),
        }
    }
}

impl Forest {
    /// Makes the forest ready to explain its raw scores by the training rows that took each branch.
    /// Columns of frames are taken by place.
    ///
    /// O(nodes), and for symmetric trees O(4^levels).
    ///
    /// # Errors
    ///
    /// [`Error::Data`] with the number of the tree that has a linear model in a leaf, asks for hashes
    /// or CTRs (ask the model, which knows them), lacks the statistic, or is beyond the limits.
    pub fn explainer(&self) -> Result<Explainer> {
        Explainer::new(self, Inputs::plain(self.features.len()), None)
    }

    /// Makes the forest ready to explain its raw scores against background rows, some tens to
    /// hundreds of typical ones, all of the same weight; columns are taken by place. The base is
    /// their mean score.
    ///
    /// O(nodes · background rows). Explaining costs O(leaves · patterns) a row and tree, where a leaf
    /// has at most as many patterns as there are background rows, and mostly far fewer.
    ///
    /// # Errors
    ///
    /// [`Error::Columns`] if the background has another width than the forest; [`Error::Data`] if it
    /// has no rows, or with the number of the tree that has a linear model in a leaf, asks for hashes
    /// or CTRs, or has more than 64 features on a path.
    pub fn explainer_against(&self, background: &Frame) -> Result<Explainer> {
        Explainer::new(self, Inputs::plain(self.features.len()), Some(background))
    }

    /// Whether all leaves are constants, so that the forest can be explained.
    pub(crate) fn is_constant_in_leaves(&self) -> bool {
        self.trees.iter().flat_map(|tree| &tree.linear).all(|leaf| leaf.terms.is_empty())
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
        self.link.to_scale()
    }
}

impl Link {
    pub(crate) fn to_scale(self) -> Scale {
        match self {
            Self::Identity => Scale::Prediction,
            Self::Sigmoid { scale } => Scale::LogOdds { slope: scale },
            Self::Softmax => Scale::Logits,
            Self::OneVsAll { scale } => Scale::ClassLogOdds { slope: scale },
            Self::Exp => Scale::Log,
            _ => Scale::Other,
        }
    }
}

impl Explainer {
    pub(crate) fn new(forest: &Forest, inputs: Inputs, background: Option<&Frame>) -> Result<Self> {
        let background = match background {
            None => None,
            Some(x) => Some(Background::new(&inputs, &*inputs.admit(x)?)?),
        };
        let mut explainer = Self {
            players: Players::of(&inputs),
            n_features: inputs.n_features,
            inputs,
            n_outputs: forest.n_outputs,
            base: forest.start(),
            trees: Vec::with_capacity(forest.trees.len()),
            rules: Vec::new(),
            orders: Orders::new(),
        };
        let mut budget = TABLE_BUDGET;
        for (i, tree) in forest.trees.iter().enumerate() {
            let tree = explainer.prepare(forest, tree, background.as_ref(), &mut budget);
            explainer.trees.push(tree.map_err(|e| e.within(format!("tree {i}")))?);
        }
        Ok(explainer)
    }

    fn prepare(
        &mut self,
        forest: &Forest,
        tree: &Tree,
        background: Option<&Background>,
        budget: &mut usize,
    ) -> Result<Prepared> {
        let (n_outputs, player_of) = (self.n_outputs, &self.players.of_column);
        let factor = forest.factor() * tree.weight;
        let (prepared, most_levels) = if let Some(background) = background {
            let plan = background::plan(forest, tree, player_of, factor)?;
            let patterns = Patterns::new(&plan, n_outputs, background, &mut self.base)?;
            (Prepared::Background(plan, patterns), BACKGROUND_TABLE_LEVELS)
        } else {
            let weigh = Weigh::of(forest);
            let plan = Plan::new(forest, tree, player_of, weigh, factor, &mut self.base)?;
            check_budget(&plan)?;
            if self.rules.len() <= plan.n_points {
                self.rules.resize_with(plan.n_points + 1, Rule::default);
            }
            let rule = &mut self.rules[plan.n_points];
            if rule.points.is_empty() {
                *rule = Rule::new(plan.n_points);
            }
            (Prepared::Walk(plan), WALK_TABLE_LEVELS)
        };
        let plan = prepared.plan();
        let n_values = plan.leaves.len() * plan.players.len();
        let is_small = plan.questions.len() <= most_levels && n_values <= *budget;
        if !(matches!(tree.trunk, Trunk::Oblivious(_)) && is_small) {
            return Ok(prepared);
        }
        *budget -= n_values;
        let table = self.tabulate(&prepared);
        Ok(match prepared {
            Prepared::Walk(plan) | Prepared::Background(plan, _) | Prepared::Table(plan, _) => {
                Prepared::Table(plan, table)
            }
        })
    }

    /// The shares of all players for each combination of answers, of shape (leaves, width, players).
    fn tabulate(&self, tree: &Prepared) -> Vec<f64> {
        let plan = tree.plan();
        let n_leaves = 1 << plan.questions.len();
        let size = plan.targets(self.n_outputs).len() * plan.players.len();
        let mut values = vec![0.0; n_leaves * size];
        let (mut scratch, mut shares) = (Scratch::<WIDE>::default(), Vec::new());
        self.ready(tree, &mut scratch);
        for leaves in chunked(0..n_leaves, WIDE) {
            scratch.answer(plan.questions.len(), leaves.start);
            self.walk(tree, &mut scratch, &mut shares);
            for (l, leaf) in leaves.enumerate() {
                let values = values[leaf * size..][..size].iter_mut();
                values.zip(&shares).for_each(|(value, share)| *value = share[l]);
            }
        }
        values
    }

    /// What a tree needs once for all rows.
    fn ready<const L: usize>(&self, tree: &Prepared, scratch: &mut Scratch<L>) {
        if let Prepared::Walk(plan) = tree {
            scratch.prepare(plan, &self.rules[plan.n_points]);
        }
    }

    /// The shares of a tree's players, of shape (width, players), for rows whose answers are known.
    fn walk<const L: usize>(
        &self,
        tree: &Prepared,
        scratch: &mut Scratch<L>,
        shares: &mut Vec<Lanes<L>>,
    ) {
        let plan = tree.plan();
        let (width, n_players) = (plan.targets(self.n_outputs).len(), plan.players.len());
        shares.clear();
        shares.resize(width * n_players, [0.0; L]);
        match tree {
            Prepared::Walk(plan) => {
                for (k, shares) in shares.chunks_exact_mut(n_players.max(1)).enumerate() {
                    scratch.walk(plan, k, width, shares);
                }
            }
            Prepared::Background(plan, patterns) => {
                patterns.walk(plan, &self.orders, scratch, width, shares);
            }
            Prepared::Table(_, values) => {
                let size = shares.len();
                for l in 0..L {
                    let values = &values[scratch.answers(l) * size..][..size];
                    shares.iter_mut().zip(values).for_each(|(share, value)| share[l] = *value);
                }
            }
        }
    }

    /// The score of each output before any feature is known, of length *k*.
    pub fn base(&self) -> &[f64] {
        &self.base
    }

    /// The contributions to the raw scores of the rows of `x`, of shape (*n*, *k*, *p* + 1); rows in
    /// parallel on the ambient pool.
    ///
    /// # Errors
    ///
    /// Columns that the forest does not have: those of the model's schema, if it was made by a
    /// model, else another number of them.
    pub fn contributions(&self, x: &Frame) -> Result<Contributions> {
        let x = self.inputs.admit(x)?;
        let mut out = Contributions::zeros(x.n_rows(), self.n_outputs, self.n_features);
        self.explain(&x, &mut out)?;
        Ok(out)
    }

    /// One that tells of features together that share in a CTR, apart from what each contributes
    /// alone; and which features each of its columns stands for.
    pub(crate) fn by_player(&self) -> (Self, Vec<Vec<usize>>) {
        let mut own = self.clone();
        let n = self.players.features.len();
        let apart = (0..n).map(|player| vec![player]).collect();
        let features = std::mem::replace(&mut own.players.features, apart);
        own.n_features = n;
        (own, features)
    }

    /// As [`contributions`](Explainer::contributions) of a frame that was admitted, into `out`, which
    /// has their shape.
    pub(crate) fn explain(&self, x: &Frame, out: &mut Contributions) -> Result<()> {
        let width = self.n_outputs * (self.n_features + 1);
        // Many rows share what a tree needs once; but all threads should have some, and the shares
        // of a block should stay in a cache.
        let bytes =
            (self.n_outputs * self.players.features.len() * size_of::<Lanes<WIDE>>()).max(1);
        let most = ((1 << 21) / bytes).clamp(1, 16);
        let fair = x.n_rows().div_ceil(4 * rayon::current_num_threads()).div_ceil(WIDE);
        let block = fair.clamp(1, most) * WIDE;
        parallel::fill_rows(out.matrix_mut(), block, |rows, out| {
            for (rows, out) in chunked(rows, block).zip(out.chunks_mut(block * width)) {
                if rows.len() <= NARROW {
                    self.explain_block::<NARROW>(x, rows, out);
                } else {
                    self.explain_block::<WIDE>(x, rows, out);
                }
            }
            Ok(())
        })
    }

    fn explain_block<const L: usize>(&self, x: &Frame, rows: Range<usize>, out: &mut [f64]) {
        let (n_players, n_columns) = (self.players.features.len(), self.inputs.n_columns());
        let size = self.n_outputs * n_players;
        let mut totals = vec![[0.0; L]; rows.len().div_ceil(L) * size];
        let columns = self.inputs.columns::<L>(x, rows);
        let (mut scratch, mut shares) = (Scratch::default(), Vec::new());
        for tree in &self.trees {
            let plan = tree.plan();
            self.ready(tree, &mut scratch);
            let groups = columns.chunks_exact(n_columns.max(1)).zip(totals.chunks_exact_mut(size));
            for (columns, totals) in groups {
                scratch.ask(plan, columns);
                self.walk(tree, &mut scratch, &mut shares);
                let mut shares = shares.iter();
                for k in plan.targets(self.n_outputs) {
                    for (&player, share) in plan.players.iter().zip(&mut shares) {
                        let total = &mut totals[k * n_players + player as usize];
                        total.iter_mut().zip(share).for_each(|(total, x)| *total += x);
                    }
                }
            }
        }
        let n_features = self.n_features;
        for (i, out) in out.chunks_exact_mut(self.n_outputs * (n_features + 1)).enumerate() {
            let totals = &totals[i / L * size..][..size];
            let outputs = out.chunks_exact_mut(n_features + 1).zip(&self.base);
            for ((out, base), totals) in outputs.zip(totals.chunks_exact(n_players.max(1))) {
                out.fill(0.0);
                for (features, total) in self.players.features.iter().zip(totals) {
                    let part = total[i % L] / features.len() as f64;
                    for &j in features {
                        out[j] += part;
                    }
                }
                out[n_features] = *base;
            }
        }
    }
}

/// The parts of a range, each of `size` but the last.
fn chunked(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(size).map(move |start| start..(start + size).min(end))
}

/// Refuses a tree whose walk would need too much memory.
fn check_budget(plan: &Plan) -> Result<()> {
    let bytes = [plan.depth + 1, plan.n_points, 2 * size_of::<Lanes<WIDE>>()];
    let bytes = bytes.into_iter().fold(1_usize, usize::saturating_mul);
    let table = plan.edges.len().saturating_mul(5 * size_of::<f64>() * plan.n_points);
    if bytes.saturating_add(table) <= WALK_BUDGET {
        return Ok(());
    }
    let got = format!("one of {} levels and {} features on a path", plan.depth, plan.longest);
    Err(Error::data("tree to explain", "one that can be walked within 256 MiB", got))
}
