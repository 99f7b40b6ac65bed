//! A tree laid out for explaining: its edges in the order of a walk, with what of the path matters.

use mm_core::{Error, Result};

use super::{
    super::{
        Forest, Sum,
        tree::{Child, Missing, Outputs, Split, Test, Tree, Trunk},
    },
    Mask,
    quadrature::n_points,
};

/// One tree as a list of edges.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// All edges, from parent to child, in the order of a walk that takes left before right.
    pub(super) edges: Vec<Edge>,
    /// The splits, as [`Edge::question`] names them.
    pub(super) questions: Vec<Question>,
    /// The players that the tree's splits belong to, by their number in the forest.
    pub(super) players: Vec<u32>,
    /// Leaf values of shape (leaves, width), times all factors of the sum.
    pub(super) leaves: Vec<f64>,
    /// Where the values go.
    pub(super) outputs: Outputs,
    /// How many edges the longest path has.
    pub(super) depth: usize,
    /// How many points integrate any path.
    pub(super) n_points: usize,
    /// The most players on a path.
    pub(super) longest: usize,
}

/// A branch of a split, with the node that it leads to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    /// The player of the split, by its place in [`Plan::players`].
    pub(super) player: u32,
    /// The split.
    pub(super) question: u32,
    /// Whether it is the left branch.
    pub(super) is_left: bool,
    /// How many edges lead here, itself included.
    pub(super) depth: u32,
    /// The last edge before of the same player, or [`NONE`].
    pub(super) before: u32,
    /// The leaf that it leads to, or [`NONE`].
    pub(super) leaf: u32,
    /// After a leaf, how many edges further up are done as well.
    pub(super) closes: u32,
    /// Of the parent's rows, the share that takes this branch.
    pub(super) share: f64,
    /// The product of the shares of all edges of this player so far.
    pub(super) joint: f64,
}

/// No edge, or no leaf.
pub(super) const NONE: u32 = u32::MAX;

/// A split, made to be answered for several rows at once.
#[derive(Debug, Clone)]
pub(super) enum Question {
    /// Left if `x <= at`, and NaN as told.
    AtMost { column: usize, at: f32, nan_left: bool },
    /// Anything else.
    Other(Split),
}

impl Question {
    fn new(split: &Split) -> Self {
        let column = split.feature;
        match split.test {
            Test::AtMost { threshold, missing: Missing::Nan { left } } => {
                Self::AtMost { column, at: round_down(threshold), nan_left: left }
            }
            Test::AtMost { threshold, missing: Missing::AsZero } => {
                Self::AtMost { column, at: round_down(threshold), nan_left: 0.0 <= threshold }
            }
            // Below −∞ there is nothing, and `next_down` gives −∞ itself.
            Test::Below { threshold, missing_left } if threshold != f32::NEG_INFINITY => {
                Self::AtMost { column, at: threshold.next_down(), nan_left: missing_left }
            }
            _ => Self::Other(split.clone()),
        }
    }

    /// All bits for the rows that go left. `columns` holds a cell of each row for each column.
    pub(super) fn ask<const L: usize>(&self, columns: &[[f32; L]]) -> Mask<L> {
        match self {
            Self::AtMost { column, at, nan_left } => {
                columns[*column].map(|x| mask((x <= *at) | (x.is_nan() & nan_left)))
            }
            Self::Other(split) => {
                columns[split.feature].map(|x| mask(split.test.goes_left(x).unwrap_or_default()))
            }
        }
    }
}

fn mask(bit: bool) -> u64 {
    u64::from(bit).wrapping_neg()
}

/// The largest `f32` that is not above `x`: `f64::from(y) <= x` is `y <= round_down(x)`.
fn round_down(x: f64) -> f32 {
    let near = x as f32;
    if x < f64::from(near) { near.next_down() } else { near }
}

/// Which statistic of training rows weighs the branches.
#[derive(Debug, Clone, Copy)]
pub(super) enum Weigh {
    /// Rows (LightGBM).
    Count,
    /// Sums of Hessians (XGBoost).
    Cover,
    /// Sums of the leaves' weights (CatBoost).
    Leaves,
    /// None is needed.
    Nothing,
}

impl Weigh {
    /// The statistic that the engine of `forest` uses for its own contributions.
    pub(super) fn of(forest: &Forest) -> Self {
        match forest.sum {
            Sum::Double { .. } => Self::Count,
            Sum::Single { .. } => Self::Cover,
            Sum::Scaled { .. } => Self::Leaves,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Count => "the number of training rows",
            Self::Cover => "the sum of the training rows' Hessians",
            Self::Leaves | Self::Nothing => "the weight of the training rows",
        }
    }
}

/// A part of a tree under construction: a node with the weight of its rows.
#[derive(Clone, Copy)]
enum At {
    Node(usize),
    /// The node of a symmetric tree at this depth, by the answers so far. The last level is asked
    /// first, as in CatBoost: so the answers are the high bits of the leaf.
    Level(usize, usize),
    Leaf(usize),
}

/// A tree with the weights of its nodes.
struct Weighed<'a> {
    tree: &'a Tree,
    weigh: Weigh,
    /// [`Weigh::Leaves`]: of each node, or of each depth and path.
    sums: Vec<Vec<f64>>,
}

impl<'a> Weighed<'a> {
    fn new(tree: &'a Tree, weigh: Weigh) -> Self {
        let of_leaf = |leaf: usize| tree.leaf_stats.get(leaf).map_or(0.0, |stats| stats.cover);
        let sums = match (&tree.trunk, weigh) {
            (Trunk::Nodes(nodes), Weigh::Leaves) => {
                let mut sums = vec![0.0; nodes.len()];
                for (i, node) in nodes.iter().enumerate().rev() {
                    let of_child = |child| match child {
                        Child::Node(node) => sums[node],
                        Child::Leaf(leaf) => of_leaf(leaf),
                    };
                    sums[i] = of_child(node.left) + of_child(node.right);
                }
                vec![sums]
            }
            (Trunk::Oblivious(oblivious), _) => {
                let n_levels = oblivious.levels.len();
                let mut sums = vec![(0..1 << n_levels).map(of_leaf).collect::<Vec<f64>>()];
                for _ in 0..n_levels {
                    let below = &sums[sums.len() - 1];
                    sums.push(below.chunks(2).map(|pair| pair.iter().sum()).collect());
                }
                sums.reverse();
                sums
            }
            _ => Vec::new(),
        };
        Self { tree, weigh, sums }
    }

    fn of(&self, at: At) -> f64 {
        let leaf_stats = |leaf: usize| self.tree.leaf_stats.get(leaf).copied().unwrap_or_default();
        match (at, self.weigh, &self.tree.trunk) {
            (_, Weigh::Nothing, _) => 1.0,
            (At::Level(depth, path), ..) => self.sums[depth][path],
            (At::Leaf(leaf), Weigh::Count, _) => leaf_stats(leaf).count,
            (At::Leaf(leaf), ..) => leaf_stats(leaf).cover,
            (At::Node(node), Weigh::Leaves, _) => self.sums[0][node],
            (At::Node(node), weigh, Trunk::Nodes(nodes)) => match weigh {
                Weigh::Count => nodes[node].stats.count,
                _ => nodes[node].stats.cover,
            },
            (At::Node(_), ..) => 0.0,
        }
    }

    fn root(&self) -> At {
        match &self.tree.trunk {
            Trunk::Nodes(nodes) if nodes.is_empty() => At::Leaf(0),
            Trunk::Nodes(_) => At::Node(0),
            Trunk::Oblivious(oblivious) if oblivious.levels.is_empty() => At::Leaf(0),
            Trunk::Oblivious(_) => At::Level(0, 0),
        }
    }

    /// The question at a node and where its branches lead.
    fn branches(&self, at: At) -> Option<(usize, [At; 2])> {
        match (at, &self.tree.trunk) {
            (At::Node(i), Trunk::Nodes(nodes)) => {
                let to = |child| match child {
                    Child::Node(node) => At::Node(node),
                    Child::Leaf(leaf) => At::Leaf(leaf),
                };
                Some((i, [to(nodes[i].left), to(nodes[i].right)]))
            }
            (At::Level(depth, path), Trunk::Oblivious(oblivious)) => {
                let (next, n_levels) = (depth + 1, oblivious.levels.len());
                let to =
                    |path| if next == n_levels { At::Leaf(path) } else { At::Level(next, path) };
                Some((n_levels - next, [to(2 * path), to(2 * path + 1)]))
            }
            _ => None,
        }
    }

    /// The shares of the two branches.
    fn shares(&self, parent: f64, children: [At; 2]) -> Result<[f64; 2]> {
        if matches!(self.weigh, Weigh::Nothing) {
            return Ok([0.5; 2]);
        }
        let weights = children.map(|child| self.of(child));
        let ok = |weight: f64| 0.0 <= weight && weight.is_finite();
        if !(ok(parent) && weights.into_iter().all(ok)) {
            let got = format!("{} and {} of {parent}", weights[0], weights[1]);
            let expected = format!("{} as finite numbers ≥ 0", self.weigh.name());
            return Err(Error::data("weights of branches", expected, got));
        }
        // Where no training row came, no share matters: what leads there has a share of 0.
        Ok(if parent == 0.0 { [0.5; 2] } else { weights.map(|weight| weight / parent) })
    }
}

/// What the walk has still to do while a plan is made.
struct Todo {
    at: At,
    question: usize,
    is_left: bool,
    depth: usize,
    share: f64,
    chance: f64,
}

impl Plan {
    /// Lays a tree out. `player_of` says to which player a column belongs; `factor` is what leaves
    /// are multiplied by. `base` receives, by output, the mean of the leaves over the training rows.
    pub(super) fn new(
        forest: &Forest,
        tree: &Tree,
        player_of: &[u32],
        weigh: Weigh,
        factor: f64,
        base: &mut [f64],
    ) -> Result<Self> {
        let width = if tree.outputs == Outputs::All { forest.n_outputs } else { 1 };
        let first = if let Outputs::One(k) = tree.outputs { k } else { 0 };
        let mut leaves: Vec<f64> = tree.leaves.iter().map(|value| value * factor).collect();
        for (leaf, linear) in tree.linear.iter().enumerate() {
            if !linear.terms.is_empty() {
                let expected = "leaves that are constants";
                return Err(Error::data("tree to explain", expected, "a linear model in a leaf"));
            }
            leaves[leaf] = linear.constant * factor;
        }
        let splits: Vec<&Split> = match &tree.trunk {
            Trunk::Nodes(nodes) => nodes.iter().map(|node| &node.split).collect(),
            Trunk::Oblivious(oblivious) => oblivious.levels.iter().collect(),
        };
        if let Some(split) =
            splits.iter().find(|s| matches!(s.test, Test::Hash(_) | Test::Ctr { .. }))
        {
            let got = format!("{:?}", split.test);
            return Err(Error::data("tree to explain", "splits by value or by code", got));
        }
        let mut players: Vec<u32> = splits.iter().map(|split| player_of[split.feature]).collect();
        players.sort_unstable();
        players.dedup();
        let local = |split: &Split| players.partition_point(|&p| p < player_of[split.feature]);
        let local: Vec<u32> = splits.iter().map(|split| local(split) as u32).collect();

        let weighed = Weighed::new(tree, weigh);
        let root = weighed.root();
        let of_root = weighed.of(root);
        if of_root == 0.0 && !splits.is_empty() {
            let expected = format!("{} at each node", weigh.name());
            let got = "a model without; it can be explained against a background";
            return Err(Error::data("tree to explain", expected, got));
        }

        let mut edges: Vec<Edge> = Vec::new();
        let mut last = vec![NONE; players.len()]; // The last edge of each player on the path.
        let mut open: Vec<u32> = Vec::new(); // The path, edge by edge.
        let (mut depth, mut n_players, mut longest) = (0, 0, 0);
        let mut todo = Vec::new();
        let add = |leaf: usize, chance: f64, base: &mut [f64]| {
            let values = &leaves[leaf * width..][..width];
            values.iter().zip(&mut base[first..]).for_each(|(value, sum)| *sum += chance * value);
        };
        let branch = |at: At, depth: usize, chance: f64, todo: &mut Vec<Todo>| -> Result<()> {
            let Some((question, children)) = weighed.branches(at) else { return Ok(()) };
            let shares = weighed.shares(weighed.of(at), children)?;
            // The left one lies on top.
            for (is_left, at, share) in
                [(false, children[1], shares[1]), (true, children[0], shares[0])]
            {
                todo.push(Todo { at, question, is_left, depth, share, chance: chance * share });
            }
            Ok(())
        };
        match root {
            At::Leaf(leaf) => add(leaf, 1.0, base),
            _ => branch(root, 1, 1.0, &mut todo)?,
        }
        while let Some(Todo { at, question, is_left, depth: here, share, chance }) = todo.pop() {
            while here <= open.len() {
                if let Some(closed) = open.pop() {
                    let Edge { player, before, .. } = edges[closed as usize];
                    last[player as usize] = before;
                    n_players -= usize::from(before == NONE);
                }
            }
            let player = local[question];
            let before = std::mem::replace(&mut last[player as usize], edges.len() as u32);
            n_players += usize::from(before == NONE);
            open.push(edges.len() as u32);
            (depth, longest) = (depth.max(here), longest.max(n_players));
            let leaf = if let At::Leaf(leaf) = at { leaf as u32 } else { NONE };
            let joint = edges.get(before as usize).map_or(1.0, |edge| edge.joint) * share;
            let question = question as u32;
            let edge = Edge {
                player,
                question,
                is_left,
                depth: here as u32,
                before,
                leaf,
                closes: 0,
                share,
                joint,
            };
            edges.push(edge);
            match at {
                At::Leaf(leaf) => {
                    add(leaf, chance, base);
                    let next = todo.last().map_or(1, |todo| todo.depth);
                    if let Some(edge) = edges.last_mut() {
                        edge.closes = (here - next) as u32;
                    }
                }
                _ => branch(at, here + 1, chance, &mut todo)?,
            }
        }
        let questions = splits.into_iter().map(Question::new).collect();
        let n_points = n_points(longest);
        let outputs = tree.outputs;
        Ok(Self { edges, questions, players, leaves, outputs, depth, n_points, longest })
    }

    /// How many outputs a leaf has values for, and the first of them.
    pub(super) fn targets(&self, n_outputs: usize) -> std::ops::Range<usize> {
        match self.outputs {
            Outputs::One(k) => k..k + 1,
            Outputs::All => 0..n_outputs,
        }
    }
}

/// For each leaf, in the order of the walk, the last edge of each player on its path.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    ends: Vec<usize>,
    edges: Vec<u32>,
}

impl Paths {
    /// How many leaves there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The paths, leaf by leaf.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u32]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.edges[start..end])
    }
}

impl Plan {
    /// The paths to all leaves.
    pub(super) fn paths(&self) -> Paths {
        let (mut ends, mut edges) = (Vec::new(), Vec::new());
        let mut open = vec![NONE; self.depth + 1];
        let mut seen = vec![NONE; self.players.len()]; // The leaf of the path that had the player.
        for (e, edge) in (0..).zip(&self.edges) {
            open[edge.depth as usize] = e;
            if edge.leaf == NONE {
                continue;
            }
            for &e in open[1..=edge.depth as usize].iter().rev() {
                let player = self.edges[e as usize].player as usize;
                if std::mem::replace(&mut seen[player], edge.leaf) != edge.leaf {
                    edges.push(e);
                }
            }
            ends.push(edges.len());
        }
        Paths { ends, edges }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_in_f64_part_the_f32_as_before() {
        let thresholds = [0.1, -0.1, 1e300, -1e300, 1e-320, f64::INFINITY, f64::NEG_INFINITY, 0.0];
        let cells =
            [0.1_f32, -0.1, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0];
        for threshold in thresholds {
            let split = |test| Split { feature: 0, test };
            let missing = Missing::Nan { left: true };
            let at_most = split(Test::AtMost { threshold, missing });
            let below = split(Test::Below { threshold: threshold as f32, missing_left: false });
            for split in [at_most, below] {
                let near = cells.iter().flat_map(|x| [x.next_down(), *x, x.next_up()]);
                for x in near.chain([f32::NAN, f32::from_bits(1)]) {
                    let expected = split.test.goes_left(x).expect("a value's test");
                    let got = Question::new(&split).ask(&[[x; 2]]);
                    assert_eq!(got, [mask(expected); 2], "{split:?} of {x:e}");
                }
            }
        }
    }
}
