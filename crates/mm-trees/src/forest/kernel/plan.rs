//! From a forest to the plan by which rows are evaluated: what is computed of a row, and the trees
//! over it.
//!
//! Everything that the kernels index with is checked here, once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use mm_core::{Error, Result};

use super::{
    key::{LOWEST, Members, Question, Rule},
    lanes::{Abreast, Bytes, LANES, Numbers},
};
use crate::forest::{
    Forest, Sum,
    tree::{Child, LinearLeaf, Node, Outputs, Split, Test, Tree, Trunk},
};

/// Borders of one column: so many, and a rank is a byte.
const MAX_BORDERS: usize = 255;
/// Leaves of a tree whose leaf's number is a byte.
const MAX_NARROW: usize = 256;
/// Columns of a segment made by ranking: as many as a byte numbers.
const MAX_RANKS: usize = 256;
/// All columns of a segment, and how many of its trees are narrow: they bound what a single row
/// needs on the stack. A segment of one tree may have up to [`MAX_NARROW`] columns whatever kind.
pub(super) const MAX_COLUMNS: usize = 1024;
pub(super) const MAX_NARROW_TREES: usize = 1024;
/// Entries that follow the last table of leaves or of borders, so that a table can always be read
/// as one of so many.
pub(super) const PADDING: usize = 256;

/// The trees in segments, with what each segment computes of a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) segments: Vec<Segment>,
    /// The linear leaves of those trees that have any, by the leaf's number.
    pub(super) linear: Vec<Vec<Option<LinearLeaf>>>,
}

/// Consecutive trees over the same columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Segment {
    /// The keys that the columns and the deep trees look at.
    pub(super) keys: Vec<Key>,
    /// The first columns, in the order of their keys.
    pub(super) ranks: Vec<Rank>,
    /// The borders of all ranks, and padding.
    pub(super) borders: Vec<i32>,
    /// The borders once more, as a single row is ranked.
    pub(super) ladders: Vec<Rung>,
    /// The columns after those, as many as each has sets.
    pub(super) answers: Vec<Answers>,
    /// The columns after those: sets whose codes are too high and too few for [`Answers`].
    pub(super) members: Vec<Member>,
    /// The sets of those, and of the deep trees.
    pub(super) sets: Vec<Set>,
    /// In the order in which they are added up.
    pub(super) trees: Vec<Planned>,
    /// The same, if all of them are narrow, without linear leaves, and add to one output.
    pub(super) plain: Vec<Plain>,
    /// The nodes of the trees but the deep ones, tree after tree.
    pub(super) nodes: Vec<Cut>,
    /// The nodes of the deep trees.
    pub(super) steps: Vec<Step>,
    /// The narrow trees once more, many side by side.
    pub(super) groups: Vec<Group>,
    /// The planes of all groups.
    pub(super) slots: Slots,
    /// Whether there are deep trees.
    pub(super) is_deep: bool,
}

/// A key of a row: which input, and how it becomes a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) input: u32,
    pub(super) rule: Rule,
}

/// A column whose byte is the number of borders that are below a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rank {
    pub(super) key: u32,
    /// Where its borders start, at most 2^`steps` − 1. They are filled up with `i32::MAX` and stand
    /// in the order of a binary search: the first that it asks for at 1, the next two at 2 and 3,
    /// and those after the one at *k* at 2 *k* and 2 *k* + 1.
    pub(super) borders: u32,
    pub(super) steps: u32,
    /// Where they stand in ascending order, among the segment's [`ladders`](Segment::ladders).
    pub(super) ladder: u32,
}

/// Up to 255 borders in two steps: which rungs are below a key says which rung comes next.
///
/// The rungs after rung 0 have all of them in ascending order, rung 0 the last border of each but the
/// last; what is missing is `i32::MAX`.
pub(super) type Rung = [i32; 16];

/// A column whose byte is 1 if a code goes right in a set.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub(super) key: u32,
    pub(super) set: u32,
}

/// Columns whose bytes are 1 if a code goes right in their set: the answers of all sets that are
/// asked about one key, code by code, so that a row reads one stretch of memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answers {
    pub(super) key: u32,
    /// Its columns among all of the segment.
    pub(super) columns: Range<usize>,
    /// Bit *j* % 64 of word *j* / 64 is the answer of set *j*: to a missing value, to a code that
    /// is in no set, to code 0, to code 1, ….
    bits: Vec<u64>,
    n_words: usize,
}

impl Answers {
    /// Bytes of memory for each byte of the sets, beyond which codes are looked up set by set; what
    /// is small may take more.
    const GENEROSITY: usize = 4;
    const SMALL: usize = 1 << 16;

    /// Of the sets that are asked about one key; none if they would take too much memory.
    fn of(key: u32, columns: Range<usize>, sets: &[Members<'_>]) -> Option<Self> {
        let n_codes = sets.iter().map(Members::n_codes).max()?;
        let n_words = sets.len().div_ceil(LANES);
        let most = sets.iter().map(|set| size_of_val(set.words)).sum::<usize>() * Self::GENEROSITY;
        if most.max(Self::SMALL) / 8 < (n_codes + 2).saturating_mul(n_words) {
            return None;
        }
        let keys = [LOWEST, -1].into_iter().chain(0..i32::try_from(n_codes).ok()?);
        let mut bits = vec![0; (n_codes + 2) * n_words];
        for (words, key) in bits.chunks_exact_mut(n_words).zip(keys) {
            for (j, set) in sets.iter().enumerate() {
                words[j / LANES] |= u64::from(set.goes_right(key)) << (j % LANES);
            }
        }
        Some(Self { key, columns, bits, n_words })
    }

    /// The answers to a key, a word for every 64 columns.
    #[inline]
    pub(super) fn to(&self, key: i32) -> &[u64] {
        let place = if key == LOWEST { 0 } else { (key.cast_unsigned() as usize).wrapping_add(2) };
        let start = place.wrapping_mul(self.n_words);
        let words = self.bits.get(start..start.wrapping_add(self.n_words));
        words.unwrap_or(&self.bits[self.n_words..2 * self.n_words])
    }
}

/// An owned [`Members`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Set {
    words: Box<[u32]>,
    has_right: bool,
    nan_right: bool,
}

impl Set {
    pub(super) fn get(&self) -> Members<'_> {
        let Self { words, has_right, nan_right } = self;
        Members { words, has_right: *has_right, nan_right: *nan_right }
    }
}

/// An inner node: right if the byte of its column exceeds its rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Cut {
    pub(super) column: u16,
    pub(super) rank: u8,
    /// The first leaf below it, from left to right.
    pub(super) from: u8,
}

/// A node or a leaf of a deep tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// Right if the key exceeds it; for a set, the number of the set.
    pub(super) border: i32,
    /// The number of the key; [`Step::SET`] is added for a set.
    pub(super) key: u32,
    /// Where *left* leads; *right* is the next. A leaf leads to itself.
    pub(super) child: u32,
    /// The number of the leaf.
    pub(super) leaf: u32,
}

impl Step {
    pub(super) const SET: u32 = 1 << 31;
}

/// How a tree finds its leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// Narrow: node *j* parts leaf *j* from leaf *j* + 1, counted from left to right, and the nodes
    /// stand in this order. `lane` is its place among the segment's narrow trees, side by side.
    Ordered { nodes: Range<usize>, lane: usize },
    /// One node for each bit of the leaf's number, the lowest first; narrow up to 8.
    Symmetric { nodes: Range<usize>, lane: Option<usize> },
    /// From node to node; `depth` steps suffice.
    Deep { steps: Range<usize>, depth: usize },
}

impl Shape {
    /// Gives a narrow tree its place among others; its nodes.
    fn stand_at(&mut self, place: usize) -> Range<usize> {
        match self {
            Self::Ordered { nodes, lane } => {
                *lane = place;
                nodes.clone()
            }
            Self::Symmetric { nodes, lane } => {
                *lane = Some(place);
                nodes.clone()
            }
            Self::Deep { .. } => 0..0,
        }
    }
}

/// A tree and where its leaves are.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    pub(super) shape: Shape,
    pub(super) outputs: Outputs,
    /// Where its leaves start: a table for its output, or one for each.
    pub(super) leaves: usize,
    pub(super) n_leaves: usize,
    /// Its linear leaves, among the plan's.
    pub(super) linear: Option<usize>,
    pub(super) weight: f64,
}

/// What of a plain tree a single row needs: where its leaf is, and where that leaf's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) lane: u16,
    pub(super) output: u16,
    pub(super) leaves: u32,
}

impl Plain {
    fn of(tree: &Planned) -> Option<Self> {
        let (Shape::Ordered { lane, .. } | Shape::Symmetric { lane: Some(lane), .. }) = tree.shape
        else {
            return None;
        };
        let (Outputs::One(output), None) = (tree.outputs, tree.linear) else { return None };
        Some(Self {
            lane: lane.try_into().ok()?,
            output: output.try_into().ok()?,
            leaves: tree.leaves.try_into().ok()?,
        })
    }
}

/// Narrow trees of one shape and similar size, side by side.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    is_symmetric: bool,
    /// How many times [`LANES`] trees: 1, 2, 4, or 8.
    pub(super) width: usize,
    /// Its planes, `width` for each slot: the nodes at the same place of each tree.
    planes: Range<usize>,
}

/// The nodes of a segment's groups by slots, in planes of [`LANES`] trees. A lane without a node
/// there has one that nothing exceeds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Slots {
    /// In use if the segment has at most 256 columns, else `wide`.
    columns: Vec<Bytes>,
    wide: Vec<[u16; LANES]>,
    ranks: Vec<Bytes>,
    froms: Vec<Bytes>,
}

impl Plan {
    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        let linear = self.linear.iter().flatten().map(|leaf| {
            let terms = leaf.as_ref().map_or(0, |leaf| size_of_val(leaf.terms.as_slice()));
            size_of_val(leaf) + terms
        });
        self.segments.iter().map(Segment::memory).sum::<usize>() + linear.sum::<usize>()
    }
}

impl Slots {
    fn memory(&self) -> usize {
        size_of_val(self.columns.as_slice())
            + size_of_val(self.wide.as_slice())
            + size_of_val(self.ranks.as_slice())
            + size_of_val(self.froms.as_slice())
    }

    /// The trees of one group, `N` being its width.
    pub(super) fn of<const N: usize>(&self, group: &Group) -> Abreast<'_, N> {
        let planes = group.planes.clone();
        Abreast {
            is_symmetric: group.is_symmetric,
            columns: if self.wide.is_empty() {
                Numbers::Narrow(self.columns[planes.clone()].as_chunks().0)
            } else {
                Numbers::Wide(self.wide[planes.clone()].as_chunks().0)
            },
            ranks: self.ranks[planes.clone()].as_chunks().0,
            froms: self.froms[planes].as_chunks().0,
        }
    }
}

/// How many values a row has: the features, and after them the CTRs that splits ask for.
pub(super) fn n_inputs(forest: &Forest) -> usize {
    let splits = forest.trees.iter().flat_map(Tree::splits);
    let ctrs = splits.filter(|split| matches!(split.test, Test::Ctr { .. }));
    let n_ctrs = ctrs.map(|split| split.feature.saturating_add(1)).max().unwrap_or(0);
    forest.features.len().saturating_add(n_ctrs)
}

/// Plans `forest` and gives the values of its leaves, tree by
/// tree, in the order of the leaves' numbers, times the trees' weights, and [`PADDING`].
pub(super) fn plan(forest: &Forest) -> Result<(Plan, Vec<f64>)> {
    let n_features = forest.features.len();
    for (what, n) in [("features", n_features), ("outputs", forest.n_outputs)] {
        if n == 0 {
            return Err(Error::data(what, "at least 1", n));
        }
    }
    check_sum(forest)?;
    let n_inputs = n_inputs(forest);
    let mut planner = Planner { n_features, n_inputs, ..Planner::default() };
    for (t, tree) in forest.trees.iter().enumerate() {
        planner.add(tree, forest.n_outputs).map_err(|e| e.within(format!("tree {t}")))?;
    }
    planner.close();
    planner.leaves.resize(planner.leaves.len() + PADDING, 0.0);
    Ok((planner.plan, planner.leaves))
}

fn check_sum(forest: &Forest) -> Result<()> {
    let n = forest.n_outputs;
    let (what, got) = match &forest.sum {
        Sum::Double { .. } => return Ok(()),
        Sum::Single { base } => ("base margins", base.len()),
        Sum::Scaled { bias, .. } => ("biases", bias.len()),
    };
    if got == n { Ok(()) } else { Err(Error::data(what, format_args!("{n}"), got)) }
}

#[derive(Default)]
struct Planner<'a> {
    n_features: usize,
    n_inputs: usize,
    plan: Plan,
    leaves: Vec<f64>,
    open: Open<'a>,
}

/// The segment that trees are still added to.
#[derive(Default)]
struct Open<'a> {
    trees: Vec<Sketch<'a>>,
    /// The borders that the narrow trees ask for, by key.
    borders: BTreeMap<Key, BTreeSet<i32>>,
    /// The sets that they ask for.
    members: BTreeSet<(Key, Members<'a>)>,
    n_ranks: usize,
    n_narrow: usize,
}

/// A tree of the open segment.
struct Sketch<'a> {
    form: Form<'a>,
    planned: Planned,
}

/// The nodes of a tree before they are numbered by column.
enum Form<'a> {
    /// Questions with the first leaf below each.
    Ordered(Vec<(Asked<'a>, u8)>),
    Symmetric(Vec<Asked<'a>>),
    /// Nodes and leaves level by level.
    Deep(Vec<Deep<'a>>),
}

enum Deep<'a> {
    Node(Asked<'a>, u32),
    Leaf(u32),
}

/// A question to one input.
struct Asked<'a> {
    input: u32,
    question: Question<'a>,
}

impl Asked<'_> {
    fn key(&self) -> Key {
        let rule = match self.question {
            Question::Above { rule, .. } => rule,
            Question::Among(_) => Rule::Code,
        };
        Key { input: self.input, rule }
    }
}

impl<'a> Planner<'a> {
    fn add(&mut self, tree: &'a Tree, n_outputs: usize) -> Result<()> {
        let (width, linear) = match tree.outputs {
            Outputs::One(k) if k < n_outputs => (1, tree.linear.as_slice()),
            Outputs::One(k) => return Err(Error::data("output", below(n_outputs), k)),
            Outputs::All => (n_outputs, [].as_slice()),
        };
        if !tree.leaves.len().is_multiple_of(width) {
            let expected = format!("a multiple of the {width} outputs");
            return Err(Error::data("leaf values", expected, tree.leaves.len()));
        }
        let n_leaves = tree.leaves.len() / width;
        let mut order = Vec::new(); // The leaves by their new numbers.
        let form = match &tree.trunk {
            Trunk::Oblivious(symmetric) => {
                let levels = symmetric.levels.len();
                if u32::try_from(levels).ok().and_then(|l| 1_usize.checked_shl(l)) != Some(n_leaves)
                {
                    let expected = format!("2 to the power of the {levels} levels");
                    return Err(Error::data("leaves", expected, n_leaves));
                }
                order.extend(0..n_leaves);
                let ask = |split| self.ask(split);
                Form::Symmetric(symmetric.levels.iter().map(ask).collect::<Result<_>>()?)
            }
            Trunk::Nodes(nodes) => self.nodes(nodes, n_leaves, &mut order)?,
        };
        if order.is_empty() {
            return Err(Error::data("leaves", "at least 1", "none"));
        }
        let linear = (!linear.is_empty())
            .then(|| order.iter().map(|&leaf| linear.get(leaf).cloned()).collect::<Vec<_>>());
        for term in linear.iter().flatten().flatten().flat_map(|leaf| &leaf.terms) {
            self.check_input(term.0)?;
        }
        let planned = Planned {
            shape: Shape::Deep { steps: 0..0, depth: 0 }, // Known when the segment is closed.
            outputs: tree.outputs,
            leaves: self.leaves.len(),
            n_leaves: order.len(),
            linear: linear.map(|linear| {
                self.plan.linear.push(linear);
                self.plan.linear.len() - 1
            }),
            weight: tree.weight,
        };
        for k in 0..width {
            let value = |&leaf: &usize| tree.leaves[leaf * width + k] * tree.weight;
            self.leaves.extend(order.iter().map(value));
        }
        let sketch = Sketch { form, planned };
        if !self.open.admits(&sketch) {
            self.close();
        }
        self.open.add(sketch);
        Ok(())
    }

    fn check_input(&self, input: usize) -> Result<u32> {
        match u32::try_from(input) {
            Ok(j) if input < self.n_inputs => Ok(j),
            _ => Err(Error::data("feature of a split", below(self.n_inputs), input)),
        }
    }

    fn ask(&self, split: &'a Split) -> Result<Asked<'a>> {
        let input = self.check_input(match split.test {
            Test::Ctr { .. } => split.feature.saturating_add(self.n_features),
            _ => split.feature,
        })?;
        let question = Question::of(&split.test).ok_or_else(|| {
            Error::data("split", "a question to one value", format_args!("{:?}", split.test))
        })?;
        if let Question::Among(members) = &question
            && Members::MAX_WORDS <= members.words.len()
        {
            let expected = format!("fewer than {} words of 32", Members::MAX_WORDS);
            return Err(Error::data("set of categories", expected, members.words.len()));
        }
        Ok(Asked { input, question })
    }

    /// The nodes of a tree, and the leaves in the order of their new numbers.
    fn nodes(
        &self,
        nodes: &'a [Node],
        n_leaves: usize,
        order: &mut Vec<usize>,
    ) -> Result<Form<'a>> {
        let mut reached =
            Reached { nodes: vec![false; nodes.len()], leaves: vec![false; n_leaves] };
        let root = if nodes.is_empty() { Child::Leaf(0) } else { Child::Node(0) };
        let mut ordered = Vec::with_capacity(nodes.len());
        let mut stack = vec![Walk::Enter(root)];
        while let Some(walk) = stack.pop() {
            match walk {
                Walk::Enter(child) => {
                    reached.mark(child)?;
                    match child {
                        Child::Leaf(leaf) => order.push(leaf),
                        Child::Node(node) => {
                            stack.push(Walk::Enter(nodes[node].right));
                            stack.push(Walk::Pass(node, order.len()));
                            stack.push(Walk::Enter(nodes[node].left));
                        }
                    }
                }
                Walk::Pass(node, from) => ordered.push((node, from)),
            }
        }
        if order.len() <= MAX_NARROW {
            let narrow = |(node, from): (usize, usize)| {
                let from = u8::try_from(from).expect("at most 256 leaves");
                Ok((self.ask(&nodes[node].split)?, from))
            };
            return Ok(Form::Ordered(ordered.into_iter().map(narrow).collect::<Result<_>>()?));
        }
        order.clear();
        let mut level_order = vec![root];
        let mut steps = Vec::with_capacity(2 * ordered.len() + 1);
        while let Some(&child) = level_order.get(steps.len()) {
            steps.push(match child {
                Child::Leaf(leaf) => {
                    order.push(leaf);
                    Deep::Leaf(order.len() as u32 - 1)
                }
                Child::Node(node) => {
                    let first = u32::try_from(level_order.len())
                        .map_err(|_| Error::data("nodes", "fewer than 2^32", nodes.len()))?;
                    level_order.extend([nodes[node].left, nodes[node].right]);
                    Deep::Node(self.ask(&nodes[node].split)?, first)
                }
            });
        }
        Ok(Form::Deep(steps))
    }

    /// Numbers the columns of the open segment, and its trees by them.
    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        if !open.trees.is_empty() {
            self.plan.segments.push(open.close());
        }
    }
}

/// From left to right: a node is entered, its left side is done, it is passed, and its right side is
/// done.
enum Walk {
    Enter(Child),
    /// A node, and the first leaf below it.
    Pass(usize, usize),
}

/// What of a tree's nodes and leaves was reached from its root.
struct Reached {
    nodes: Vec<bool>,
    leaves: Vec<bool>,
}

impl Reached {
    /// Marks a child; a second parent, or a child that is not there, is refused. So no walk from
    /// the root can go on for ever.
    fn mark(&mut self, child: Child) -> Result<()> {
        let (what, all, at) = match child {
            Child::Node(node) => ("node", &mut self.nodes, node),
            Child::Leaf(leaf) => ("leaf", &mut self.leaves, leaf),
        };
        let n = all.len();
        match all.get_mut(at) {
            None => Err(Error::data(what, below(n), at)),
            Some(true) => Err(Error::data(format_args!("{what} {at}"), "one parent", "another")),
            Some(mark) => {
                *mark = true;
                Ok(())
            }
        }
    }
}

fn below(n: usize) -> String {
    format!("an index below {n}")
}

impl<'a> Form<'a> {
    /// The questions that are put to columns of bytes.
    fn asked(&self) -> impl Iterator<Item = &Asked<'a>> {
        let (ordered, symmetric) = match self {
            Self::Ordered(nodes) => (nodes.as_slice(), [].as_slice()),
            Self::Symmetric(levels) => ([].as_slice(), levels.as_slice()),
            Self::Deep(_) => ([].as_slice(), [].as_slice()),
        };
        ordered.iter().map(|(asked, _)| asked).chain(symmetric)
    }

    fn is_narrow(&self) -> bool {
        match self {
            Self::Ordered(_) => true,
            Self::Symmetric(levels) => levels.len() <= 8,
            Self::Deep(_) => false,
        }
    }
}

impl<'a> Open<'a> {
    /// Whether a tree fits into the segment; the first always does.
    fn admits(&self, sketch: &Sketch<'a>) -> bool {
        if self.trees.is_empty() {
            return true;
        }
        let mut fresh: HashMap<Key, BTreeSet<i32>> = HashMap::new();
        let mut fresh_members = BTreeSet::new();
        for asked in sketch.form.asked() {
            let key = asked.key();
            match asked.question {
                Question::Above { border, .. } => {
                    if self.borders.get(&key).is_none_or(|all| !all.contains(&border)) {
                        fresh.entry(key).or_default().insert(border);
                    }
                }
                Question::Among(members) => {
                    if !self.members.contains(&(key, members)) {
                        fresh_members.insert((key, members));
                    }
                }
            }
        }
        let more = fresh.iter().map(|(key, borders)| {
            let had = self.borders.get(key).map_or(0, BTreeSet::len);
            (had + borders.len()).div_ceil(MAX_BORDERS) - had.div_ceil(MAX_BORDERS)
        });
        let n_ranks = self.n_ranks + more.sum::<usize>();
        n_ranks <= MAX_RANKS
            && n_ranks + self.members.len() + fresh_members.len() <= MAX_COLUMNS
            && (self.n_narrow < MAX_NARROW_TREES || !sketch.form.is_narrow())
    }

    fn add(&mut self, sketch: Sketch<'a>) {
        for asked in sketch.form.asked() {
            let key = asked.key();
            match asked.question {
                Question::Above { border, .. } => {
                    self.borders.entry(key).or_default().insert(border);
                }
                Question::Among(members) => {
                    self.members.insert((key, members));
                }
            }
        }
        self.n_ranks = self.borders.values().map(|all| all.len().div_ceil(MAX_BORDERS)).sum();
        self.n_narrow += usize::from(sketch.form.is_narrow());
        self.trees.push(sketch);
    }

    fn close(self) -> Segment {
        let mut segment = Segment::default();
        let columns = self.columns(&mut segment);
        let mut numbers = KeyNumbers::of(&segment);
        for Sketch { form, mut planned } in self.trees {
            let first = segment.nodes.len();
            planned.shape = match form {
                Form::Ordered(nodes) => {
                    let cut = |(asked, from): &(Asked<'a>, u8)| columns.cut(asked, *from);
                    segment.nodes.extend(nodes.iter().map(cut));
                    Shape::Ordered { nodes: first..segment.nodes.len(), lane: 0 }
                }
                Form::Symmetric(levels) => {
                    segment.nodes.extend(levels.iter().map(|asked| columns.cut(asked, 0)));
                    let lane = (levels.len() <= 8).then_some(0);
                    Shape::Symmetric { nodes: first..segment.nodes.len(), lane }
                }
                Form::Deep(steps) => numbers.deep(&mut segment, steps),
            };
            segment.trees.push(planned);
        }
        segment.stand_abreast();
        segment.nodes.shrink_to_fit();
        segment.steps.shrink_to_fit();
        segment.plain =
            segment.trees.iter().map(Plain::of).collect::<Option<_>>().unwrap_or_default();
        segment
    }

    /// Adds the columns to `segment`.
    fn columns(&self, segment: &mut Segment) -> Columns<'a> {
        let mut columns = Columns::default();
        let keys = self.borders.keys().chain(self.members.iter().map(|(key, _)| key));
        segment.keys = keys.copied().collect::<BTreeSet<_>>().into_iter().collect();
        let number = |key: &Key| segment.keys.binary_search(key).expect("put in above") as u32;
        for (key, borders) in &self.borders {
            let borders: Vec<i32> = borders.iter().copied().collect();
            for part in borders.chunks(MAX_BORDERS) {
                let steps = (part.len() + 1).next_power_of_two().trailing_zeros();
                let start = segment.borders.len();
                let (key_number, borders) = (number(key), start as u32);
                for (rank, &border) in part.iter().enumerate() {
                    columns.above.insert((*key, border), (segment.ranks.len() as u16, rank as u8));
                }
                let ladder = segment.ladders.len() as u32;
                let rungs = part.chunks(16).map(|part| {
                    let mut rung = [i32::MAX; 16];
                    rung[..part.len()].copy_from_slice(part);
                    rung
                });
                segment.ladders.push([i32::MAX; 16]);
                segment.ladders.extend(rungs);
                // The last of each rung but the last rung.
                let lasts = part[..part.len() - 1].iter().skip(15).step_by(16);
                let first = &mut segment.ladders[ladder as usize];
                first.iter_mut().zip(lasts).for_each(|(to, last)| *to = *last);
                segment.ranks.push(Rank { key: key_number, borders, steps, ladder });
                segment.borders.resize(start + (1 << steps), i32::MAX);
                for step in 0..steps {
                    // Every second of every second … of them.
                    let (first, gap) = ((1 << (steps - 1 - step)) - 1, 1 << (steps - step));
                    let asked = part.iter().skip(first).step_by(gap);
                    let places = &mut segment.borders[start + (1 << step)..];
                    places.iter_mut().zip(asked).for_each(|(place, border)| *place = *border);
                }
            }
        }
        segment.borders.resize(segment.borders.len() + PADDING, i32::MAX);
        let mut n_columns = segment.ranks.len();
        let mut single = Vec::new();
        let all: Vec<(Key, Members<'_>)> = self.members.iter().copied().collect();
        for of_key in all.chunk_by(|a, b| a.0 == b.0) {
            let sets: Vec<Members<'_>> = of_key.iter().map(|(_, members)| *members).collect();
            let these = n_columns..n_columns + sets.len();
            match Answers::of(number(&of_key[0].0), these.clone(), &sets) {
                Some(answers) => {
                    segment.answers.push(answers);
                    n_columns = these.end;
                    let numbered = of_key.iter().copied().zip(these);
                    columns.among.extend(numbered.map(|(asked, column)| (asked, column as u16)));
                }
                None => single.extend(of_key),
            }
        }
        for &(key, members) in single {
            columns.among.insert((key, members), n_columns as u16);
            n_columns += 1;
            let Members { words, has_right, nan_right } = members;
            let set = segment.sets.len() as u32;
            segment.members.push(Member { key: number(&key), set });
            segment.sets.push(Set { words: words.into(), has_right, nan_right });
        }
        columns
    }
}

/// Which column answers a question.
#[derive(Default)]
struct Columns<'a> {
    above: HashMap<(Key, i32), (u16, u8)>,
    among: BTreeMap<(Key, Members<'a>), u16>,
}

impl<'a> Columns<'a> {
    fn cut(&self, asked: &Asked<'a>, from: u8) -> Cut {
        let key = asked.key();
        match asked.question {
            Question::Above { border, .. } => {
                let (column, rank) = self.above[&(key, border)];
                Cut { column, rank, from }
            }
            Question::Among(members) => Cut { column: self.among[&(key, members)], rank: 0, from },
        }
    }
}

/// Numbers the keys of deep trees.
struct KeyNumbers {
    keys: HashMap<Key, u32>,
}

impl KeyNumbers {
    fn of(segment: &Segment) -> Self {
        Self { keys: segment.keys.iter().copied().zip(0..).collect() }
    }

    fn deep(&mut self, segment: &mut Segment, steps: Vec<Deep<'_>>) -> Shape {
        segment.is_deep = true;
        let first = segment.steps.len();
        let mut depths = vec![0_usize; steps.len()];
        for (at, step) in steps.into_iter().enumerate() {
            segment.steps.push(match step {
                Deep::Leaf(leaf) => Step { border: i32::MAX, key: 0, child: at as u32, leaf },
                Deep::Node(asked, child) => {
                    depths[child as usize] = depths[at] + 1;
                    depths[child as usize + 1] = depths[at] + 1;
                    let key = asked.key();
                    let next = self.keys.len() as u32;
                    let key = *self.keys.entry(key).or_insert_with(|| {
                        segment.keys.push(key);
                        next
                    });
                    match asked.question {
                        Question::Above { border, .. } => Step { border, key, child, leaf: 0 },
                        Question::Among(Members { words, has_right, nan_right }) => {
                            let border = segment.sets.len() as i32;
                            let words = words.into();
                            segment.sets.push(Set { words, has_right, nan_right });
                            Step { border, key: key | Step::SET, child, leaf: 0 }
                        }
                    }
                }
            });
        }
        let depth = depths.into_iter().max().unwrap_or(0);
        Shape::Deep { steps: first..segment.steps.len(), depth }
    }
}

impl Segment {
    /// Puts narrow trees of like shape and size side by side.
    fn stand_abreast(&mut self) {
        let mut narrow: Vec<(bool, usize, usize)> = (self.trees.iter().enumerate())
            .filter_map(|(t, tree)| match &tree.shape {
                Shape::Ordered { nodes, .. } => Some((false, nodes.len(), t)),
                Shape::Symmetric { nodes, lane: Some(_) } => Some((true, nodes.len(), t)),
                _ => None,
            })
            .collect();
        narrow.sort_unstable();
        let is_wide = MAX_RANKS < self.n_columns();
        let mut first_lane = 0;
        for mut kind in narrow.chunk_by(|a, b| a.0 == b.0) {
            while let Some(&(is_symmetric, ..)) = kind.first() {
                // The largest power of two that is filled, but for the last lanes.
                let width = 1 << kind.len().div_ceil(LANES).ilog2().min(3);
                let (part, rest) = kind.split_at(kind.len().min(width * LANES));
                let n_slots = part.last().map_or(0, |&(_, n, _)| n);
                let first = self.slots.ranks.len();
                let planes = first..first + n_slots * width;
                if is_wide {
                    self.slots.wide.resize(planes.end, [0; LANES]);
                } else {
                    self.slots.columns.resize(planes.end, [0; LANES]);
                }
                self.slots.ranks.resize(planes.end, [u8::MAX; LANES]);
                self.slots.froms.resize(planes.end, [0; LANES]);
                for (i, &(.., t)) in part.iter().enumerate() {
                    let nodes = self.trees[t].shape.stand_at(first_lane + i);
                    let planes = planes.clone().skip(i / LANES).step_by(width);
                    for (plane, cut) in planes.zip(&self.nodes[nodes]) {
                        if is_wide {
                            self.slots.wide[plane][i % LANES] = cut.column;
                        } else {
                            self.slots.columns[plane][i % LANES] = cut.column as u8;
                        }
                        self.slots.ranks[plane][i % LANES] = cut.rank;
                        self.slots.froms[plane][i % LANES] = cut.from;
                    }
                }
                self.groups.push(Group { is_symmetric, width, planes });
                first_lane += width * LANES;
                kind = rest;
            }
        }
    }

    fn memory(&self) -> usize {
        let sets = self.sets.iter().map(|set| size_of_val(set) + size_of_val(&*set.words));
        let answers = self.answers.iter().map(|a| size_of_val(a) + size_of_val(a.bits.as_slice()));
        size_of::<Self>()
            + size_of_val(self.keys.as_slice())
            + size_of_val(self.ranks.as_slice())
            + size_of_val(self.borders.as_slice())
            + size_of_val(self.ladders.as_slice())
            + size_of_val(self.members.as_slice())
            + sets.sum::<usize>()
            + answers.sum::<usize>()
            + size_of_val(self.trees.as_slice())
            + size_of_val(self.plain.as_slice())
            + size_of_val(self.nodes.as_slice())
            + size_of_val(self.steps.as_slice())
            + size_of_val(self.groups.as_slice())
            + self.slots.memory()
    }

    /// How many columns of bytes a row has.
    pub(super) fn n_columns(&self) -> usize {
        self.first_member() + self.members.len()
    }

    /// The first column of a set that is looked up by itself.
    pub(super) fn first_member(&self) -> usize {
        self.answers.last().map_or(self.ranks.len(), |answers| answers.columns.end)
    }
}
