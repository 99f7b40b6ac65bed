//! LightGBM's model text, read into a [`Forest`].
//!
//! A file may be damaged or hostile: every index is checked, every list has the length that its
//! tree promises, and no more is allocated than the text has words.
//!
//! # The format, versions 3 and 4
//!
//! A header of `key=value` lines; trees of `key=value` lines, each from `Tree=<i>` to a blank line,
//! whose sizes in bytes stand in the header's `tree_sizes`; `end of trees`; importances; parameters
//! in lines `[key: value]`; and, from the Python package, a line `pandas_categorical:` with the
//! levels of each categorical column as JSON. Version 3 (LightGBM 2.3 to 3.3) lacks linear trees
//! until 3.2, and otherwise differs in nothing that is read here. Source: `gbdt_model_text.cpp` and
//! `tree.cpp` of 4.7.0 and 3.3.5.
//!
//! # Meaning
//!
//! A tree's nodes are numbered from the root, a leaf is written as the complement of its number.
//! Bit 0 of a node's `decision_type` says that it splits by a set of categories, whose number stands
//! in place of the threshold, bit 1 that missing values go left, and bits 2 and 3 what is missing:
//! nothing (NaN counts as 0), zero, or NaN.
//!
//! Before any tree sees a row, LightGBM's predictors drop the values within [`ZERO`] of zero, which
//! then are 0 (`RowPairFunctionFromDenseMatric` in `c_api.cpp`). Thresholds that this could tell
//! apart are moved to where comparing the value itself decides alike.

use std::{collections::BTreeMap, fmt, str::FromStr};

use mm_core::{Error, Result};

use crate::forest::{
    CategorySet, Child, Ctrs, Feature, Forest, LeafStats, LinearLeaf, Link, Missing, Node,
    NodeStats, Outputs, Split, Sum, Test, Tree, Trunk, ZERO,
};

/// The objectives that LightGBM 4.7 can read back.
const OBJECTIVES: [&str; 16] = [
    "regression",
    "regression_l1",
    "huber",
    "fair",
    "poisson",
    "quantile",
    "mape",
    "gamma",
    "tweedie",
    "binary",
    "cross_entropy",
    "cross_entropy_lambda",
    "multiclass",
    "multiclassova",
    "lambdarank",
    "rank_xendcg",
];

/// A model text: its forest, and what the forest does not keep.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) forest: Forest,
    pub(super) rest: Rest,
}

/// What a text says beside the forest; with it, the forest can be written as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rest {
    /// The header's lines, but for `tree_sizes`.
    pub(super) head: String,
    /// One a tree.
    pub(super) trees: Vec<TreeRest>,
    /// Everything after `end of trees`.
    pub(super) tail: String,
    /// The line `objective`; `None` if the model was trained with a function of the caller's.
    pub(super) objective: Option<String>,
    /// What the engine saw in each column: `[min:max]`, categories as `0:1:5`, or `none`.
    pub(super) infos: Vec<String>,
}

/// What the text says of a tree beside the tree.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct TreeRest {
    /// Each node's `decision_type`: it may say where missing values go though there are none.
    pub(super) decisions: Vec<i8>,
    /// The factor that training multiplied the leaves with.
    pub(super) shrinkage: f64,
    /// Whether the text says that leaves are linear or not, as LightGBM ≥ 3.2 does.
    pub(super) says_linear: bool,
}

impl Rest {
    /// The objective's name.
    pub(super) fn objective(&self) -> Option<&str> {
        Some(self.objective.as_deref()?.split(' ').next().unwrap_or_default())
    }

    /// The value of a parameter that the model was trained with.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.tail.lines().find_map(|line| {
            line.strip_prefix('[')?.strip_suffix(']')?.strip_prefix(name)?.strip_prefix(": ")
        })
    }

    /// The levels of the categorical columns of the data frame that Python trained on, as JSON.
    pub(super) fn pandas_categorical(&self) -> Option<&str> {
        self.tail.lines().find_map(|line| line.strip_prefix("pandas_categorical:"))
    }
}

impl Text {
    /// Reads and checks `text`.
    pub(super) fn read(text: &str) -> Result<Self> {
        if text.contains('\r') {
            return Err(damaged("lines that end in a line feed alone", "a carriage return"));
        }
        let start = match text.find("\nTree=") {
            Some(at) => at + 1,
            None => return Err(damaged("at least one tree", "none")),
        };
        let (head_text, rest) = text.split_at(start);
        let head = Fields::read(head_text.lines().filter(|line| !line.is_empty()))?;
        check_version(head.get("version"))?;
        let n_outputs: usize = head.number("num_class")?;
        let per_round: usize = head.number("num_tree_per_iteration")?;
        let last_feature: usize = head.number("max_feature_idx")?;
        let (names, infos) = (head.words("feature_names")?, head.words("feature_infos")?);
        for (key, list) in [("feature_names", &names), ("feature_infos", &infos)] {
            expect_len(key, list.len(), last_feature.saturating_add(1))?;
        }
        head.check_list::<i8>("monotone_constraints", names.len())?;
        let objective = head.get("objective");
        let link = objective.map_or(Ok(Link::Identity), |line| link(line, n_outputs))?;
        if n_outputs == 0 || per_round != n_outputs {
            return Err(damaged("as many trees a round as outputs, at least 1", per_round));
        }

        let (blocks, tail) = match head.get("tree_sizes") {
            Some(_) => {
                let sizes: Vec<usize> = head.list("tree_sizes")?;
                expect_rounds(sizes.len(), per_round)?;
                by_size(rest, sizes)?
            }
            None => by_name(rest)?,
        };
        expect_rounds(blocks.len(), per_round)?;
        let (mut trees, mut trees_rest) = (Vec::new(), Vec::new());
        for (i, block) in blocks.into_iter().enumerate() {
            let (tree, rest) = read_tree(block, names.len(), i % n_outputs)
                .map_err(|e| e.within(format!("tree {i}")))?;
            trees.push(tree);
            trees_rest.push(rest);
        }
        let lines = head_text.split_inclusive('\n');
        let kept = lines.filter(|line| !line.starts_with("tree_sizes=") && *line != "\n");
        let rest = Rest {
            head: kept.collect(),
            trees: trees_rest,
            tail: tail.to_owned(),
            objective: objective.map(str::to_owned),
            infos: infos.iter().map(|&info| info.to_owned()).collect(),
        };
        let features = names.iter().zip(&infos).map(|(&name, info)| Feature {
            name: name.to_owned(),
            is_categorical: highest_code(info).is_some(),
        });
        let forest = Forest {
            ctrs: Ctrs::default(),
            features: features.collect(),
            n_outputs,
            trees,
            trees_per_round: per_round,
            sum: Sum::Double { is_average: head.get("average_output").is_some() },
            link,
        };
        forest
            .check()
            .map_err(|(i, flaw)| damaged(flaw.expected, flaw.got).within(format!("tree {i}")))?;
        Ok(Self { forest, rest })
    }
}

/// The highest code in a list of categories such as `0:2:5`; `None` for a numeric column, whose
/// range is written `[0:5]`, and for one that was never used.
pub(super) fn highest_code(info: &str) -> Option<usize> {
    if info.starts_with('[') || info == "none" {
        return None;
    }
    let codes = info.split(':').filter_map(|code| code.parse().ok());
    Some(codes.max().unwrap_or(0))
}

fn check_version(version: Option<&str>) -> Result<()> {
    match version {
        None | Some("v2" | "v3" | "v4") => Ok(()),
        Some(other) => Err(damaged("version v3 or v4", format_args!("{other:?}"))),
    }
}

fn expect_rounds(n_trees: usize, per_round: usize) -> Result<()> {
    if n_trees == 0 || !n_trees.is_multiple_of(per_round) {
        return Err(damaged(format_args!("a positive multiple of {per_round} trees"), n_trees));
    }
    Ok(())
}

/// The trees' texts, cut by their sizes, and what follows them.
fn by_size(mut rest: &str, sizes: Vec<usize>) -> Result<(Vec<&str>, &str)> {
    let mut blocks = Vec::with_capacity(sizes.len());
    for (i, size) in sizes.into_iter().enumerate() {
        let Some((block, after)) = rest.split_at_checked(size) else {
            return Err(damaged(format_args!("{size} bytes of tree {i}"), rest.len()));
        };
        blocks.push(block);
        rest = after;
    }
    match rest.strip_prefix("end of trees\n") {
        Some(tail) => Ok((blocks, tail)),
        None => Err(damaged("`end of trees` after the last tree", "something else")),
    }
}

/// The trees' texts, each from its first line to the next one's, and what follows them.
fn by_name(rest: &str) -> Result<(Vec<&str>, &str)> {
    let Some((trees, tail)) = rest.split_once("end of trees\n") else {
        return Err(damaged("`end of trees` after the last tree", "the end"));
    };
    let starts = trees.match_indices("Tree=").map(|(at, _)| at);
    let starts: Vec<usize> =
        starts.filter(|&at| at == 0 || trees.as_bytes()[at - 1] == b'\n').collect();
    let ends = starts.iter().skip(1).copied().chain([trees.len()]);
    Ok((starts.iter().zip(ends).map(|(&start, end)| &trees[start..end]).collect(), tail))
}

/// The link of an objective line such as `multiclass num_class:3`.
fn link(line: &str, n_outputs: usize) -> Result<Link> {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    if !OBJECTIVES.contains(&name) {
        return Err(damaged("an objective of LightGBM 4.7", format_args!("{name:?}")));
    }
    let words: Vec<&str> = words.collect();
    let values =
        |key: &str| words.iter().filter_map(|word| word.strip_prefix(key)).collect::<Vec<_>>();
    let classes = values("num_class:");
    let fits = if name.starts_with("multiclass") {
        classes == [n_outputs.to_string()]
    } else {
        classes.is_empty() && n_outputs == 1
    };
    if !fits {
        return Err(damaged(format_args!("an objective of {n_outputs} outputs"), line));
    }
    let scale = || match values("sigmoid:")[..] {
        [scale] => match number("objective", scale)? {
            scale if 0.0 < scale => Ok(scale),
            scale => Err(damaged("a sigmoid above 0", scale)),
        },
        _ => Err(damaged("one `sigmoid` in the objective", line)),
    };
    Ok(match name {
        "binary" => Link::Sigmoid { scale: scale()? },
        "cross_entropy" => Link::Sigmoid { scale: 1.0 },
        "cross_entropy_lambda" => Link::LogOnePlusExp,
        "multiclass" => Link::Softmax,
        "multiclassova" => Link::OneVsAll { scale: scale()? },
        "poisson" | "gamma" | "tweedie" => Link::Exp,
        // Those that descend from squared error and do not convert otherwise.
        _ if words.contains(&"sqrt") => Link::SignedSquare,
        _ => Link::Identity,
    })
}

/// Reads one tree, whose leaves go to `output`.
fn read_tree(block: &str, n_features: usize, output: usize) -> Result<(Tree, TreeRest)> {
    let body = block
        .strip_prefix("Tree=")
        .and_then(|rest| Some(rest.split_once('\n')?.1))
        .and_then(|body| body.split_once("\n\n"))
        .and_then(|(body, rest)| rest.bytes().all(|b| b == b'\n').then_some(body))
        .ok_or_else(|| damaged("lines from `Tree=` to a blank one", "others"))?;
    if 22 < body.lines().count() || !body.lines().all(|line| line.contains('=')) {
        return Err(damaged("at most 22 lines `key=value`", body.lines().count()));
    }
    let fields = Fields::read(body.lines())?;
    let n_leaves: usize = fields.number("num_leaves")?;
    if n_leaves == 0 {
        return Err(damaged("at least 1 leaf", 0));
    }
    let leaves: Vec<f64> = fields.exactly("leaf_value", n_leaves)?;
    let is_linear = fields.get("is_linear").is_some_and(|flag| flag != "0");
    let linear = if is_linear { fields.linear(n_leaves, n_features)? } else { Vec::new() };
    let shrinkage = fields.get("shrinkage").map_or(Ok(1.0), |word| number("shrinkage", word))?;
    let (nodes, decisions) =
        if n_leaves == 1 { Default::default() } else { read_nodes(&fields, n_leaves, n_features)? };
    let tree = Tree {
        trunk: Trunk::Nodes(nodes),
        leaves,
        leaf_stats: fields.leaf_stats(n_leaves)?,
        linear,
        outputs: Outputs::One(output),
        weight: 1.0,
    };
    Ok((tree, TreeRest { decisions, shrinkage, says_linear: fields.get("is_linear").is_some() }))
}

fn read_nodes(
    fields: &Fields<'_>,
    n_leaves: usize,
    n_features: usize,
) -> Result<(Vec<Node>, Vec<i8>)> {
    let n_splits = n_leaves - 1;
    let features: Vec<usize> = fields.exactly("split_feature", n_splits)?;
    if let Some(bad) = features.iter().find(|&&feature| n_features <= feature) {
        return Err(damaged(format_args!("a feature below {n_features}"), bad));
    }
    let left = fields.children("left_child", n_leaves)?;
    let right = fields.children("right_child", n_leaves)?;
    let thresholds: Vec<f64> = fields.exactly("threshold", n_splits)?;
    let decisions: Vec<i8> = fields.optional("decision_type", n_splits)?;
    let mut sets = fields.category_sets()?;
    let gains: Vec<f64> = fields.optional("split_gain", n_splits)?;
    let values: Vec<f64> = fields.optional("internal_value", n_splits)?;
    let covers: Vec<f64> = fields.optional("internal_weight", n_splits)?;
    let counts: Vec<f64> = fields.optional("internal_count", n_splits)?;
    let node = |i: usize| {
        let test = test(thresholds[i], decisions[i], &mut sets)?;
        let (gain, cover, count, value) = (gains[i], covers[i], counts[i], values[i]);
        Ok(Node {
            split: Split { feature: features[i], test },
            left: left[i],
            right: right[i],
            stats: NodeStats { gain, cover, count, value },
        })
    };
    Ok(((0..n_splits).map(node).collect::<Result<_>>()?, decisions))
}

/// The test of one node, which takes its set of categories out of `sets`: two nodes share none.
fn test(threshold: f64, decision: i8, sets: &mut [Option<CategorySet>]) -> Result<Test> {
    let left = decision & 2 != 0;
    if decision & 1 != 0 {
        let n_sets = sets.len();
        let at = threshold as usize; // Rounds towards 0, as LightGBM does.
        let set = sets.get_mut(at).filter(|_| 0.0 <= threshold).and_then(Option::take);
        let set = set.ok_or_else(|| {
            damaged(format_args!("a category set below {n_sets} of its own"), threshold)
        })?;
        return Ok(Test::Among { set, members_left: true, missing_left: false });
    }
    let missing = match (decision >> 2) & 3 {
        1 => Missing::Zero { left },
        2 => Missing::Nan { left },
        _ => Missing::AsZero,
    };
    Ok(Test::AtMost { threshold: apart_from_zero(threshold), missing })
}

/// The threshold for values as they are that decides as `threshold` does once values within `ZERO`
/// of 0 have become 0.
fn apart_from_zero(threshold: f64) -> f64 {
    if 0.0 <= threshold && threshold < ZERO {
        ZERO
    } else if -ZERO <= threshold && threshold < 0.0 {
        BELOW_ZERO
    } else {
        threshold
    }
}

/// The threshold that all values left of −`ZERO` stay below, and −`ZERO` itself does not.
pub(super) const BELOW_ZERO: f64 = (-ZERO).next_down();

/// The lines `key=value` of a header or a tree.
struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn read(lines: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut fields = BTreeMap::new();
        for line in lines {
            // The first line, `tree`, and the flag `average_output` stand alone.
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            if fields.insert(key, value).is_some() {
                return Err(damaged(format_args!("one `{key}`"), "two"));
            }
        }
        Ok(Self(fields))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).copied()
    }

    fn require(&self, key: &str) -> Result<&'a str> {
        self.get(key).ok_or_else(|| damaged(format_args!("a line `{key}`"), "none"))
    }

    fn words(&self, key: &str) -> Result<Vec<&'a str>> {
        Ok(self.require(key)?.split(' ').filter(|word| !word.is_empty()).collect())
    }

    fn number<T: FromStr>(&self, key: &str) -> Result<T> {
        number(key, self.require(key)?)
    }

    fn list<T: FromStr>(&self, key: &str) -> Result<Vec<T>> {
        self.words(key)?.into_iter().map(|word| number(key, word)).collect()
    }

    fn exactly<T: FromStr>(&self, key: &str, len: usize) -> Result<Vec<T>> {
        let list = self.list(key)?;
        expect_len(key, list.len(), len)?;
        Ok(list)
    }

    /// A list that may be left out, upon which it is all default.
    fn optional<T: FromStr + Default + Clone>(&self, key: &str, len: usize) -> Result<Vec<T>> {
        match self.get(key) {
            None => Ok(vec![T::default(); len]),
            Some(_) => self.exactly(key, len),
        }
    }

    fn check_list<T: FromStr>(&self, key: &str, len: usize) -> Result<()> {
        match self.get(key) {
            None => Ok(()),
            Some(_) => self.exactly::<T>(key, len).map(drop),
        }
    }

    /// Children of the inner nodes. Nodes are numbered from the root, so that a path can only go up
    /// and must end; a leaf is the complement of its number.
    fn children(&self, key: &str, n_leaves: usize) -> Result<Vec<Child>> {
        let n_splits = n_leaves - 1;
        let child = |(node, child): (usize, i32)| match usize::try_from(child) {
            Ok(child) if node < child && child < n_splits => Ok(Child::Node(child)),
            Err(_) if usize::try_from(!child).is_ok_and(|leaf| leaf < n_leaves) => {
                Ok(Child::Leaf(!child as usize))
            }
            _ => Err(damaged(format_args!("a child of node {node}"), child)),
        };
        self.exactly(key, n_splits)?.into_iter().enumerate().map(child).collect()
    }

    /// The sets of categories that splits name by number.
    fn category_sets(&self) -> Result<Vec<Option<CategorySet>>> {
        let n_sets: usize = self.number("num_cat")?;
        if n_sets == 0 {
            return Ok(Vec::new());
        }
        let bounds: Vec<u32> = self.exactly("cat_boundaries", n_sets.saturating_add(1))?;
        let words: Vec<u32> = self.list("cat_threshold")?;
        let ends = (bounds.first(), bounds.last().map(|&bound| bound as usize));
        if !bounds.is_sorted() || ends != (Some(&0), Some(words.len())) {
            return Err(damaged("category sets one after another", format_args!("{bounds:?}")));
        }
        let set = |pair: &[u32]| words[pair[0] as usize..pair[1] as usize].to_vec();
        Ok(bounds.windows(2).map(|pair| Some(CategorySet::from_words(set(pair)))).collect())
    }

    /// Weights and counts of the leaves, which a tree of one leaf may lack.
    fn leaf_stats(&self, n_leaves: usize) -> Result<Vec<LeafStats>> {
        let list = |key: &str| -> Result<Option<Vec<f64>>> {
            match self.get(key) {
                None | Some("") if n_leaves == 1 => Ok(None),
                None => Ok(None),
                Some(_) => self.exactly(key, n_leaves).map(Some),
            }
        };
        let (covers, counts) = (list("leaf_weight")?, list("leaf_count")?);
        if covers.is_none() && counts.is_none() {
            return Ok(Vec::new());
        }
        let at = |list: &Option<Vec<f64>>, i: usize| list.as_ref().map_or(0.0, |list| list[i]);
        let stats = |i| LeafStats { cover: at(&covers, i), count: at(&counts, i) };
        Ok((0..n_leaves).map(stats).collect())
    }

    fn linear(&self, n_leaves: usize, n_features: usize) -> Result<Vec<LinearLeaf>> {
        let constants: Vec<f64> = self.optional("leaf_const", n_leaves)?;
        let counts: Vec<usize> = self.exactly("num_features", n_leaves)?;
        let total = counts.iter().try_fold(0_usize, |sum, &n| sum.checked_add(n));
        let total = total.ok_or_else(|| damaged("possible numbers of features", "larger ones"))?;
        let features: Vec<usize> = self.exactly("leaf_features", total)?;
        if let Some(bad) = features.iter().find(|&&feature| n_features <= feature) {
            return Err(damaged(format_args!("a feature below {n_features}"), bad));
        }
        let coefficients: Vec<f64> = self.exactly("leaf_coeff", total)?;
        let mut terms = features.into_iter().zip(coefficients);
        let leaf = |(constant, n): (f64, usize)| LinearLeaf {
            constant,
            terms: terms.by_ref().take(n).collect(),
        };
        Ok(constants.into_iter().zip(counts).map(leaf).collect())
    }
}

/// A number as LightGBM writes it; Rust reads more forms than LightGBM does, and the other way
/// round.
fn number<T: FromStr>(key: &str, word: &str) -> Result<T> {
    let size = word.strip_prefix('-').unwrap_or(word);
    let is_plain = size.starts_with(|c: char| c.is_ascii_digit()) || size == "inf" || size == "nan";
    let number = if is_plain { word.parse().ok() } else { None };
    number.ok_or_else(|| damaged(format_args!("numbers in `{key}`"), format_args!("{word:?}")))
}

fn expect_len(key: &str, got: usize, expected: usize) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(damaged(format_args!("{expected} values in `{key}`"), got))
}

pub(super) fn damaged(expected: impl fmt::Display, got: impl fmt::Display) -> Error {
    Error::corrupt("LightGBM model text", expected, got)
}
