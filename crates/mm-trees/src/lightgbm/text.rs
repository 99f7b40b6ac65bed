//! LightGBM's model text, read far enough to trust it.
//!
//! LightGBM believes what a model file says: a feature index beyond the last column, a child that
//! points back at its parent, or a list that is too short make it read foreign memory or run for
//! ever. [`ModelText::parse`] checks everything that a prediction follows, so that a damaged or
//! hostile file is an error. The splits it collects on the way serve the importances.
//!
//! # The format, version 4
//!
//! A header of `key=value` lines; trees of `key=value` lines, each from `Tree=<i>` to a blank line,
//! whose sizes in bytes stand in the header's `tree_sizes`; `end of trees`; importances; parameters
//! in lines `[key: value]`; and, from the Python package, a line `pandas_categorical:` with the
//! levels of each categorical column as JSON. Source: `gbdt_model_text.cpp` and `tree.cpp` of 4.7.0.

use std::{collections::BTreeMap, fmt, str::FromStr};

use mm_core::{Error, Result};

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

/// A sound model text.
#[derive(Debug)]
pub(super) struct ModelText<'a> {
    text: &'a str,
    after_trees: &'a str,
    objective: Option<&'a str>,
    is_average: bool,
    n_outputs: usize,
    names: Vec<&'a str>,
    infos: Vec<&'a str>,
    trees: Vec<Tree>,
}

/// The splits of one tree.
#[derive(Debug)]
struct Tree {
    splits: Vec<Split>,
}

/// One split.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split {
    /// The column that it looks at.
    pub(super) feature: usize,
    /// What it gained, in units of the objective.
    pub(super) gain: f64,
    /// How many training rows came through it.
    pub(super) count: f64,
}

impl<'a> ModelText<'a> {
    /// Reads and checks `text`.
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        if text.contains('\r') {
            return Err(damaged("lines that end in a line feed alone", "a carriage return"));
        }
        let start = match text.find("\nTree=") {
            Some(at) => at + 1,
            None => return Err(damaged("at least one tree", "none")),
        };
        let (head, rest) = text.split_at(start);
        let head = Fields::read(head.lines().filter(|line| !line.is_empty()))?;
        let n_outputs: usize = head.number("num_class")?;
        let per_round: usize = head.number("num_tree_per_iteration")?;
        let last_feature: usize = head.number("max_feature_idx")?;
        let (names, infos) = (head.words("feature_names")?, head.words("feature_infos")?);
        for (key, list) in [("feature_names", &names), ("feature_infos", &infos)] {
            expect_len(key, list.len(), last_feature.saturating_add(1))?;
        }
        head.check_list::<i8>("monotone_constraints", names.len())?;
        let objective = head.get("objective").map(|line| objective(line, n_outputs)).transpose()?;
        if n_outputs == 0 || per_round != n_outputs {
            return Err(damaged("as many trees a round as outputs, at least 1", per_round));
        }

        let sizes: Vec<usize> = head.list("tree_sizes")?;
        if sizes.is_empty() || !sizes.len().is_multiple_of(per_round) {
            let expected = format!("a positive multiple of {per_round} trees");
            return Err(damaged(expected, sizes.len()));
        }
        let is_average = head.get("average_output").is_some();
        let (mut rest, mut trees) = (rest, Vec::with_capacity(sizes.len()));
        for (i, size) in sizes.into_iter().enumerate() {
            let Some((block, after)) = rest.split_at_checked(size) else {
                return Err(damaged(format_args!("{size} bytes of tree {i}"), rest.len()));
            };
            trees.push(Tree::read(block, names.len()).map_err(|e| e.within(format!("tree {i}")))?);
            rest = after;
        }
        if !rest.starts_with("end of trees\n") {
            return Err(damaged("`end of trees` after the last tree", "something else"));
        }
        Ok(Self { text, after_trees: rest, objective, is_average, n_outputs, names, infos, trees })
    }

    /// The text without `tree_sizes`. LightGBM then reads the trees one after another, in which an
    /// error is an error; with the sizes it reads them in an OpenMP loop, out of which an exception
    /// ends the process.
    pub(super) fn to_loadable(&self) -> String {
        let lines = self.text.split_inclusive('\n');
        lines.filter(|line| !line.starts_with("tree_sizes=")).collect()
    }

    /// The objective's name; `None` if the model was trained with a function of the caller's.
    pub(super) fn objective(&self) -> Option<&'a str> {
        self.objective
    }

    /// Whether the output is the mean of the trees, as in a forest, and not their sum.
    pub(super) fn is_average(&self) -> bool {
        self.is_average
    }

    pub(super) fn n_outputs(&self) -> usize {
        self.n_outputs
    }

    pub(super) fn n_features(&self) -> usize {
        self.names.len()
    }

    pub(super) fn n_trees(&self) -> usize {
        self.trees.len()
    }

    /// The columns' names as the engine has them.
    pub(super) fn names(&self) -> &[&'a str] {
        &self.names
    }

    /// What the engine saw in each column: `[min:max]`, categories as `0:1:5`, or `none`.
    pub(super) fn infos(&self) -> &[&'a str] {
        &self.infos
    }

    /// All splits that gained, tree by tree; those that did not count for nothing in LightGBM's
    /// own importances either.
    pub(super) fn splits(&self) -> impl Iterator<Item = &Split> {
        self.trees.iter().flat_map(|tree| &tree.splits).filter(|split| 0.0 < split.gain)
    }

    /// The value of a parameter that the model was trained with.
    pub(super) fn parameter(&self, name: &str) -> Option<&'a str> {
        self.after_trees.lines().find_map(|line| {
            line.strip_prefix('[')?.strip_suffix(']')?.strip_prefix(name)?.strip_prefix(": ")
        })
    }

    /// The levels of the categorical columns of the data frame that Python trained on, as JSON.
    pub(super) fn pandas_categorical(&self) -> Option<&'a str> {
        self.after_trees.lines().find_map(|line| line.strip_prefix("pandas_categorical:"))
    }
}

/// The name in an objective line such as `multiclass num_class:3`.
fn objective(line: &str, n_outputs: usize) -> Result<&str> {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    if !OBJECTIVES.contains(&name) {
        return Err(damaged("an objective of LightGBM 4.7", format_args!("{name:?}")));
    }
    // The link writes as many numbers as the objective says, whatever the header says.
    let classes: Vec<&str> = words.filter_map(|word| word.strip_prefix("num_class:")).collect();
    let fits = if name.starts_with("multiclass") {
        classes == [n_outputs.to_string()]
    } else {
        classes.is_empty() && n_outputs == 1
    };
    if !fits {
        return Err(damaged(format_args!("an objective of {n_outputs} outputs"), line));
    }
    Ok(name)
}

impl Tree {
    /// Reads one tree and checks every index in it.
    fn read(block: &str, n_features: usize) -> Result<Self> {
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
        let n_categorical: usize = fields.number("num_cat")?;
        let is_linear = fields.get("is_linear").is_some_and(|flag| flag != "0");
        if n_leaves == 0 {
            return Err(damaged("at least 1 leaf", 0));
        }
        expect_len("leaf_value", fields.list::<f64>("leaf_value")?.len(), n_leaves)?;
        if is_linear {
            fields.check_linear(n_leaves, n_features)?;
        }
        if fields.get("shrinkage").is_some() {
            fields.number::<f64>("shrinkage")?;
        }
        if n_leaves == 1 && !is_linear {
            return Ok(Self { splits: Vec::new() });
        }
        let n_splits = n_leaves - 1;
        let features: Vec<usize> = fields.exactly("split_feature", n_splits)?;
        if let Some(bad) = features.iter().find(|&&feature| n_features <= feature) {
            return Err(damaged(format_args!("a feature below {n_features}"), bad));
        }
        for key in ["left_child", "right_child"] {
            let children: Vec<i32> = fields.exactly(key, n_splits)?;
            for (node, &child) in children.iter().enumerate() {
                // A leaf is written as the complement of its number. Nodes are numbered from the
                // root, so that a path can only go up and must end.
                let ok = match usize::try_from(child) {
                    Ok(child) => node < child && child < n_splits,
                    Err(_) => usize::try_from(!child).is_ok_and(|leaf| leaf < n_leaves),
                };
                if !ok {
                    return Err(damaged(format_args!("a child of node {node}"), child));
                }
            }
        }
        fields.check_categories(n_splits, n_categorical)?;
        for key in ["internal_value", "internal_weight"] {
            fields.check_list::<f64>(key, n_splits)?;
        }
        fields.check_list::<f64>("leaf_weight", n_leaves)?;
        fields.check_list::<i32>("leaf_count", n_leaves)?;
        let gains: Vec<f64> = fields.optional("split_gain", n_splits)?;
        let counts: Vec<f64> = fields.optional("internal_count", n_splits)?;
        let splits = features.iter().zip(gains).zip(counts);
        let splits =
            splits.map(|((&feature, gain), count)| Split { feature, gain, count }).collect();
        Ok(Self { splits })
    }
}

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

    /// Thresholds are numbers or, where bit 0 of the decision type is set, positions in the list
    /// of category sets.
    fn check_categories(&self, n_splits: usize, n_categorical: usize) -> Result<()> {
        let thresholds: Vec<f64> = self.exactly("threshold", n_splits)?;
        let decisions: Vec<i8> = self.optional("decision_type", n_splits)?;
        if n_categorical == 0 {
            return Ok(());
        }
        let bounds: Vec<u32> = self.exactly("cat_boundaries", n_categorical.saturating_add(1))?;
        let sets: Vec<u32> = self.list("cat_threshold")?;
        let last = bounds.last().map_or(0, |&bound| bound as usize);
        if !bounds.is_sorted() || last != sets.len() {
            return Err(damaged("category sets one after another", format_args!("{bounds:?}")));
        }
        for (threshold, decision) in thresholds.into_iter().zip(decisions) {
            let ok = 0.0 <= threshold && threshold < n_categorical as f64;
            if decision & 1 == 1 && !ok {
                let expected = format!("a category set below {n_categorical}");
                return Err(damaged(expected, threshold));
            }
        }
        Ok(())
    }

    fn check_linear(&self, n_leaves: usize, n_features: usize) -> Result<()> {
        self.check_list::<f64>("leaf_const", n_leaves)?;
        let counts: Vec<usize> = self.exactly("num_features", n_leaves)?;
        let total = counts.iter().try_fold(0_usize, |sum, &n| sum.checked_add(n));
        let total = total.ok_or_else(|| damaged("possible numbers of features", "larger ones"))?;
        let features: Vec<usize> = self.exactly("leaf_features", total)?;
        if let Some(bad) = features.iter().find(|&&feature| n_features <= feature) {
            return Err(damaged(format_args!("a feature below {n_features}"), bad));
        }
        self.exactly::<f64>("leaf_coeff", total).map(drop)
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
