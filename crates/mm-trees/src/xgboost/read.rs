//! A stored booster read into a [`Forest`].
//!
//! A file may be damaged or hostile: every index is checked, every list has the length that its
//! tree promises, paths end, and no more is allocated than the file is long.
//!
//! # The schema, XGBoost 1.0 to 3.4
//!
//! | key, below `learner` | holds |
//! | --- | --- |
//! | `learner_model_param` | numbers of features, classes, and targets; `base_score`: a text with one number, or from 3.1 on a list with one for each output, where predictions are |
//! | `objective` | its name and parameters |
//! | `gradient_booster` | `gbtree` with its `model`; up to 3.3 `dart`, with a `gbtree` and `weight_drop`, which from 3.4 on stands in the model; or `gblinear` |
//! | `feature_names`, `feature_types` | from 1.4 on; may be empty |
//! | `attributes` | texts of the caller's, among them `best_iteration` |
//!
//! A model has `trees`, `tree_info` (the output of each), `iteration_indptr` (where each round
//! begins; from 2.0 on), and `cats` (the levels of categorical columns; from 3.1 on). A tree is a list
//! for each property of its nodes, leaves among them; node 0 is the root, and a node without a left
//! child is a leaf. Its value is its `split_conditions`; where `size_leaf_vector` exceeds 1, it is a
//! row of `leaf_weights`, which the right child names, or up to 3.0 of `base_weights`. Pruning leaves
//! nodes that no path leads to; they are passed over.
//!
//! # Meaning
//!
//! Everything is `f32`. Left is what is below the threshold, or not in the set of categories. A
//! prediction starts with the base score, through the inverse of the link, and adds the trees in
//! order. Sources: `learner.cc`, `gbtree_model.cc`, `tree_model.cc`, `multi_target_tree_model.cc`,
//! `cpu_predictor.cc` of 3.4.0.

use mm_core::{Error, Result};

use super::value::{Numbers, Object, Value, damaged};
use crate::forest::{
    CategorySet, Child, Ctrs, Feature, Forest, LeafStats, Link, Node, NodeStats, Outputs, Split,
    Sum, Test, Tree, Trunk,
};

/// Columns that a booster without names of its features may have.
const MAX_UNNAMED: usize = 1 << 20;
/// Classes or targets that a booster may have.
const MAX_OUTPUTS: usize = 1 << 16;
/// A code beyond this is none that `f32` holds exactly (`OutOfRangeCat` in `categorical.h`).
const MAX_CODE: i64 = 1 << 24;

/// Words of 32 codes that the sets of a booster may have in all: a set is as long as its highest code
/// says, whatever the file's length.
const MAX_WORDS: usize = 1 << 24;

/// A stored booster.
#[derive(Debug, Clone)]
pub(super) enum Booster {
    /// `gbtree` and `dart`.
    Trees(Forest),
    /// `gblinear`.
    Linear(Linear),
}

/// A linear booster: `f32` throughout, missing values left out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Linear {
    /// Of shape (columns, outputs), and a last row with the biases.
    pub(super) weights: Vec<f32>,
    /// What predictions start from.
    pub(super) base: f32,
    pub(super) n_outputs: usize,
    pub(super) link: Link,
}

/// What a booster's file says beside its forest; with it, the forest can be written again.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rest {
    /// The file without its trees.
    pub(super) shell: Value,
    /// One a tree.
    pub(super) trees: Vec<TreeRest>,
    /// Where each round begins, and the last one ends.
    pub(super) rounds: Vec<usize>,
}

/// What the file says of a tree beside the tree.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct TreeRest {
    /// What the leaves would be without the learning rate.
    pub(super) leaf_weights: Vec<f32>,
    /// The thresholds that splits by category have and do not use.
    pub(super) conditions: Vec<f32>,
    /// Of a tree whose leaves are vectors, the vectors of all nodes.
    pub(super) node_weights: Vec<f32>,
}

/// A booster and the rest of its file.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) booster: Booster,
    pub(super) rest: Rest,
    pub(super) features: Vec<Feature>,
}

impl File {
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut shell = Value::read(bytes)?;
        if let Value::Object(top) = &mut shell {
            // A pickled booster has its configuration beside the model.
            if top.contains_key("Config")
                && let Some(model) = top.remove("Model")
            {
                shell = model;
            }
        }
        let version = version(&shell)?;
        let learner = object_at(&shell, "learner")?;
        let params = object_at_in(learner, "learner_model_param")?;
        let n_features: usize = number(params, "num_feature")?;
        let n_outputs = n_outputs(params)?;
        let features = features(learner, n_features)?;
        let objective = object_at_in(learner, "objective")?;
        let (link, margin) = link(objective, version)?;
        let base = base(params, n_outputs, margin)?;

        let gradient_booster = object_at_in(learner, "gradient_booster")?;
        let name = get(gradient_booster, "name")?.str("name")?.to_owned();
        if name == "gblinear" {
            let model = object_at_in(gradient_booster, "model")?;
            let weights = get(model, "weights")?.f32s("weights")?;
            let expected = n_features.saturating_add(1).saturating_mul(n_outputs);
            expect_len("weights", weights.len(), expected)?;
            let n_rounds = match model.get("boosted_rounds") {
                Some(Value::Integer(n)) => usize::try_from(*n).unwrap_or(0),
                _ => 0,
            };
            let booster = Booster::Linear(Linear { weights, base: base[0], n_outputs, link });
            let rounds = vec![0, n_rounds];
            let mut rest = Rest { shell, trees: Vec::new(), rounds };
            rest.type_weights()?;
            return Ok(Self { booster, rest, features });
        }
        if name != "gbtree" && name != "dart" {
            return Err(damaged("a booster `gbtree`, `dart` or `gblinear`", format!("`{name}`")));
        }
        let model = object_at_in(model_holder(gradient_booster)?, "model")?;
        let weights = match gradient_booster.get("weight_drop").or(model.get("weight_drop")) {
            Some(weights) => weights.f32s("weight_drop")?,
            None => Vec::new(),
        };
        let stored = get(model, "trees")?.array("trees")?;
        let groups = get(model, "tree_info")?.i64s("tree_info")?;
        expect_len("tree_info", groups.len(), stored.len())?;
        if stored.len() < weights.len() {
            let expected = format!("at most {} values in `weight_drop`", stored.len());
            return Err(damaged(expected, weights.len()));
        }
        let (mut trees, mut trees_rest) = (Vec::new(), Vec::new());
        let mut n_words = 0;
        for (i, (tree, group)) in stored.iter().zip(groups).enumerate() {
            let mut read = || -> Result<_> {
                let group = usize::try_from(group).unwrap_or(usize::MAX);
                read_tree(tree.object("trees")?, n_features, n_outputs, group, &mut n_words)
            };
            let (mut tree, rest) = read().map_err(|e| e.within(format!("tree {i}")))?;
            tree.weight = weights.get(i).map_or(1.0, |&weight| weight.into());
            trees.push(tree);
            trees_rest.push(rest);
        }
        let rounds = rounds(model, &trees, n_outputs)?;
        let sizes = || rounds.windows(2).map(|pair| pair[1] - pair[0]);
        let even = sizes().next().filter(|first| sizes().all(|size| size == *first));
        let forest = Forest {
            ctrs: Ctrs::default(),
            features: features.clone(),
            n_outputs,
            trees,
            trees_per_round: even.unwrap_or(1),
            sum: Sum::Single { base },
            link,
        };
        forest
            .check()
            .map_err(|(i, flaw)| damaged(flaw.expected, flaw.got).within(format!("tree {i}")))?;
        let mut rest = Rest { shell, trees: trees_rest, rounds };
        rest.empty_shell()?;
        Ok(Self { booster: Booster::Trees(forest), rest, features })
    }
}

impl Rest {
    /// The model object below the booster.
    pub(super) fn model_mut(&mut self) -> Result<&mut Object> {
        let booster = self.booster_mut()?;
        let holder = if booster.contains_key("gbtree") {
            get_mut(booster, "gbtree")?.object_mut("gbtree")?
        } else {
            booster
        };
        get_mut(holder, "model")?.object_mut("model")
    }

    pub(super) fn booster_mut(&mut self) -> Result<&mut Object> {
        let learner =
            get_mut(self.shell.object_mut("booster")?, "learner")?.object_mut("learner")?;
        get_mut(learner, "gradient_booster")?.object_mut("gradient_booster")
    }

    /// The object `learner`.
    pub(super) fn learner(&self) -> Result<&Object> {
        object_at(&self.shell, "learner")
    }

    /// Drops the trees, and gives number lists that came from JSON the types that XGBoost's UBJSON
    /// has.
    fn empty_shell(&mut self) -> Result<()> {
        self.type_version()?;
        let model = self.model_mut()?;
        model.insert("trees".to_owned(), Value::Null);
        model.insert("tree_info".to_owned(), Value::Null);
        if let Some(Value::Object(cats)) = model.get_mut("cats") {
            type_cats(cats)?;
        }
        Ok(())
    }

    fn type_weights(&mut self) -> Result<()> {
        self.type_version()?;
        let weights = get_mut(self.model_mut()?, "weights")?;
        *weights = Value::Numbers(Numbers::F32(weights.f32s("weights")?));
        Ok(())
    }
}

impl Rest {
    /// A list of values, and not one of numbers.
    fn type_version(&mut self) -> Result<()> {
        let version = get_mut(self.shell.object_mut("booster")?, "version")?;
        let numbers = version.i64s("version")?;
        *version = Value::Array(numbers.into_iter().map(Value::Integer).collect());
        Ok(())
    }
}

/// Where `model` stands: in `dart` one further down.
fn model_holder(booster: &Object) -> Result<&Object> {
    match booster.get("gbtree") {
        Some(gbtree) => gbtree.object("gbtree"),
        None => Ok(booster),
    }
}

/// The types of the levels' lists: those of `cat_container.cc`, whose numbers name them.
fn type_cats(cats: &mut Object) -> Result<()> {
    let i32s = |value: &Value, place| -> Result<Value> {
        let values = value.i64s(place)?.into_iter().map(|x| x as i32);
        Ok(Value::Numbers(Numbers::I32(values.collect())))
    };
    for place in ["sorted_idx", "feature_segments"] {
        if let Some(value) = cats.get_mut(place) {
            *value = i32s(value, place)?;
        }
    }
    let Some(Value::Array(columns)) = cats.get_mut("enc") else { return Ok(()) };
    for column in columns {
        let column = column.object_mut("enc")?;
        if let Some(offsets) = column.get_mut("offsets") {
            *offsets = i32s(offsets, "offsets")?;
        }
        let kind = match column.get("type") {
            Some(Value::Integer(kind)) => *kind,
            _ => 9, // Text, in bytes.
        };
        let Some(values) = column.get_mut("values") else { continue };
        if let 7 | 8 = kind {
            *values = Value::Numbers(Numbers::F32(values.f32s("values")?));
            continue;
        }
        let numbers = values.i64s("values")?.into_iter();
        *values = Value::Numbers(match kind {
            9 => Numbers::I8(numbers.map(|x| x as i8).collect()),
            10 => Numbers::U8(numbers.map(|x| x as u8).collect()),
            11 | 12 => Numbers::I16(numbers.map(|x| x as i16).collect()),
            13 | 14 => Numbers::I32(numbers.map(|x| x as i32).collect()),
            _ => Numbers::I64(numbers.collect()),
        });
    }
    Ok(())
}

/// Major and minor.
fn version(shell: &Value) -> Result<(i64, i64)> {
    let version = get(shell.object("booster")?, "version")?.i64s("version")?;
    match version[..] {
        [major, minor, ..] if major <= 3 => Ok((major, minor)),
        [major, ..] if 3 < major => {
            let got = u32::try_from(major).unwrap_or(u32::MAX);
            Err(Error::TooNew { what: "XGBoost booster".to_owned(), got, newest: 3 })
        }
        _ => Err(damaged("a version", format!("{version:?}"))),
    }
}

fn n_outputs(params: &Object) -> Result<usize> {
    let classes: usize = number(params, "num_class")?;
    let targets = if params.contains_key("num_target") { number(params, "num_target")? } else { 1 };
    let outputs = classes.max(targets).max(1);
    if MAX_OUTPUTS < outputs {
        return Err(damaged(format!("at most {MAX_OUTPUTS} classes or targets"), outputs));
    }
    Ok(outputs)
}

/// The columns: those named, or `f0`, `f1`, ….
fn features(learner: &Object, n_features: usize) -> Result<Vec<Feature>> {
    let texts = |key: &str| -> Result<Vec<&str>> {
        let Some(list) = learner.get(key) else { return Ok(Vec::new()) };
        list.array(key)?.iter().map(|text| text.str(key)).collect()
    };
    let (names, types) = (texts("feature_names")?, texts("feature_types")?);
    for (key, list) in [("feature_names", &names), ("feature_types", &types)] {
        if !list.is_empty() {
            expect_len(key, list.len(), n_features)?;
        }
    }
    if names.is_empty() && types.is_empty() && MAX_UNNAMED < n_features {
        return Err(damaged(format!("at most {MAX_UNNAMED} features without names"), n_features));
    }
    let feature = |j: usize| Feature {
        name: names.get(j).map_or_else(|| format!("f{j}"), |&name| name.to_owned()),
        is_categorical: types.get(j) == Some(&"c"),
    };
    Ok((0..n_features).map(feature).collect())
}

/// From where predictions are to where trees add up.
#[derive(Debug, Clone, Copy)]
enum Margin {
    Same,
    Logit,
    Log,
    Gaps,
}

/// The link of an objective, and its inverse.
fn link(objective: &Object, version: (i64, i64)) -> Result<(Link, Margin)> {
    let name = get(objective, "name")?.str("name")?;
    Ok(match name {
        "reg:squarederror"
        | "reg:linear"
        | "reg:squaredlogerror"
        | "reg:pseudohubererror"
        | "reg:absoluteerror"
        | "binary:logitraw"
        | "rank:pairwise"
        | "rank:ndcg"
        | "rank:map" => (Link::Identity, Margin::Same),
        "reg:quantileerror" => {
            // Since 3.4 they are sorted, so that they do not cross.
            let is_sorted = (3, 4) <= version;
            (if is_sorted { Link::Ascending } else { Link::Identity }, Margin::Same)
        }
        "reg:expectileerror" => (Link::Rising, Margin::Gaps),
        "reg:logistic" | "binary:logistic" => (Link::Sigmoid { scale: 1.0 }, Margin::Logit),
        "binary:hinge" => (Link::Step, Margin::Same),
        "count:poisson" | "reg:gamma" | "reg:tweedie" | "survival:cox" | "survival:aft" => {
            (Link::Exp, Margin::Log)
        }
        // `softmax` predicts the class, from the same probabilities.
        "multi:softprob" | "multi:softmax" => (Link::Softmax, Margin::Same),
        other => return Err(damaged("an objective of XGBoost 3.4", format!("`{other}`"))),
    })
}

/// The least distance from an end of (0, 1), and between expectiles (`kRtEps`).
const EPSILON: f32 = 1e-6;

/// The base score as the trees' sums start with it, one for each output.
fn base(params: &Object, n_outputs: usize, margin: Margin) -> Result<Vec<f32>> {
    let text = get(params, "base_score")?.str("base_score")?;
    let bad = || damaged("numbers in `base_score`", format!("{text:?}"));
    let scores = text.trim().trim_matches(['[', ']', '(', ')']).split(',');
    let mut scores: Vec<f32> =
        scores.map(|x| x.trim().parse().map_err(|_| bad())).collect::<Result<_>>()?;
    if scores.len() == 1 {
        scores.resize(n_outputs, scores[0]); // Before 3.1, one was for all.
    }
    expect_len("base_score", scores.len(), n_outputs)?;
    if !scores.iter().all(|score| score.is_finite()) {
        return Err(bad());
    }
    match margin {
        Margin::Same => {}
        Margin::Logit => {
            for score in &mut scores {
                *score = -(1.0 / score.clamp(EPSILON, 1.0 - EPSILON) - 1.0).ln();
            }
        }
        Margin::Log => scores.iter_mut().for_each(|score| *score = score.ln()),
        Margin::Gaps => {
            for j in (1..scores.len()).rev() {
                let gap = (scores[j] - scores[j - 1] - EPSILON).max(EPSILON);
                scores[j] = gap + (-(-gap).exp_m1()).ln();
            }
        }
    }
    Ok(scores)
}

/// Where each round begins, and the last one ends.
fn rounds(model: &Object, trees: &[Tree], n_outputs: usize) -> Result<Vec<usize>> {
    if let Some(starts) = model.get("iteration_indptr") {
        let starts = starts.i64s("iteration_indptr")?.into_iter();
        let starts: Vec<usize> =
            starts.map(|start| usize::try_from(start).unwrap_or(usize::MAX)).collect();
        let ends = (starts.first(), starts.last());
        if !starts.is_sorted() || ends != (Some(&0), Some(&trees.len())) {
            return Err(damaged("rounds one after another in `iteration_indptr`", "others"));
        }
        return Ok(starts);
    }
    let params = object_at_in(model, "gbtree_model_param")?;
    let parallel: usize = number(params, "num_parallel_tree")?;
    let is_shared = trees.iter().any(|tree| tree.outputs == Outputs::All);
    let groups = if is_shared { 1 } else { n_outputs };
    let size = parallel.max(1).saturating_mul(groups); // 0 before 1.3.
    if !trees.len().is_multiple_of(size) {
        return Err(damaged(format!("rounds of {size} trees"), format!("{} trees", trees.len())));
    }
    Ok((0..=trees.len() / size).map(|round| round * size).collect())
}

/// A tree's lists, one value a node.
struct Nodes {
    left: Vec<i64>,
    right: Vec<i64>,
    features: Vec<i64>,
    conditions: Vec<f32>,
    default_left: Vec<i64>,
    gains: Vec<f32>,
    covers: Vec<f32>,
    weights: Vec<f32>,
    /// `None` of a node that splits by number.
    sets: Vec<Option<CategorySet>>,
}

impl Nodes {
    fn read(tree: &Object, n_nodes: usize, width: usize, n_words: &mut usize) -> Result<Self> {
        let i64s = |key: &str| -> Result<Vec<i64>> {
            let list = get(tree, key)?.i64s(key)?;
            expect_len(key, list.len(), n_nodes).map(|()| list)
        };
        let f32s = |key: &str, n: usize| -> Result<Vec<f32>> {
            let list = get(tree, key)?.f32s(key)?;
            expect_len(key, list.len(), n).map(|()| list)
        };
        // Trees of vectors lacked statistics up to 3.0.
        let optional = |key: &str| -> Result<Vec<f32>> {
            if tree.contains_key(key) { f32s(key, n_nodes) } else { Ok(vec![0.0; n_nodes]) }
        };
        let left = i64s("left_children")?;
        let n_weights = n_nodes.saturating_mul(width);
        Ok(Self {
            right: i64s("right_children")?,
            features: i64s("split_indices")?,
            conditions: f32s("split_conditions", n_nodes)?,
            default_left: i64s("default_left")?,
            gains: optional("loss_changes")?,
            covers: optional("sum_hessian")?,
            weights: f32s("base_weights", n_weights)?,
            sets: category_sets(tree, n_nodes, n_words)?,
            left,
        })
    }

    /// The children of `node`, if it is an inner one.
    fn children(&self, node: usize) -> Result<Option<[usize; 2]>> {
        if self.left[node] == -1 {
            return Ok(None);
        }
        let child = |child: i64| {
            let ok = usize::try_from(child).ok().filter(|child| *child < self.left.len());
            ok.ok_or_else(|| damaged(format!("a child of node {node}"), child))
        };
        Ok(Some([child(self.left[node])?, child(self.right[node])?]))
    }

    /// The inner nodes that a path leads to, each after its parent: in the order in which they were
    /// split where their numbers tell, or else level by level.
    fn inner(&self) -> Result<Vec<usize>> {
        let mut is_seen = vec![false; self.left.len()];
        is_seen[0] = true;
        let mut inner: Vec<usize> = self.children(0)?.map(|_| 0).into_iter().collect();
        let (mut at, mut is_in_order) = (0, true);
        while let Some(&node) = inner.get(at) {
            at += 1;
            for child in self.children(node)?.into_iter().flatten() {
                if std::mem::replace(&mut is_seen[child], true) {
                    return Err(damaged(format!("a child of node {node}"), child));
                }
                if self.left[child] != -1 {
                    is_in_order &= self.left[node] < self.left[child];
                    inner.push(child);
                }
            }
        }
        if is_in_order {
            inner.sort_unstable_by_key(|&node| self.left[node]);
        }
        Ok(inner)
    }

    fn split(&self, node: usize, n_features: usize) -> Result<Split> {
        let feature = usize::try_from(self.features[node]).ok().filter(|&j| j < n_features);
        let feature = feature
            .ok_or_else(|| damaged(format!("a feature below {n_features}"), self.features[node]))?;
        let missing_left = self.default_left[node] != 0;
        let test = match &self.sets[node] {
            Some(set) => Test::Among { set: set.clone(), members_left: false, missing_left },
            None => Test::Below { threshold: self.conditions[node], missing_left },
        };
        Ok(Split { feature, test })
    }
}

fn read_tree(
    tree: &Object,
    n_features: usize,
    n_outputs: usize,
    group: usize,
    n_words: &mut usize,
) -> Result<(Tree, TreeRest)> {
    let params = object_at_in(tree, "tree_param")?;
    let n_nodes: usize = number(params, "num_nodes")?;
    let width: usize = number(params, "size_leaf_vector")?; // 0 before 2.0.
    if n_nodes == 0 {
        return Err(damaged("at least 1 node", 0));
    }
    let (width, is_shared) = (width.max(1), 1 < width);
    if is_shared && width != n_outputs {
        return Err(damaged(format!("leaves of {n_outputs} values"), width));
    }
    let nodes = Nodes::read(tree, n_nodes, width, n_words)?;
    let inner = nodes.inner()?;
    let mut places = vec![usize::MAX; n_nodes];
    inner.iter().enumerate().for_each(|(at, &node)| places[node] = at);

    let (mut splits, mut ends) = (Vec::with_capacity(inner.len()), Vec::new());
    if inner.is_empty() {
        ends.push(0);
    }
    for &node in &inner {
        let [left, right] = nodes.children(node)?.unwrap_or_default().map(|child| {
            if places[child] != usize::MAX {
                return Child::Node(places[child]);
            }
            ends.push(child);
            Child::Leaf(ends.len() - 1)
        });
        let stats = NodeStats {
            gain: nodes.gains[node].into(),
            cover: nodes.covers[node].into(),
            count: 0.0,
            value: if is_shared { 0.0 } else { nodes.weights[node].into() },
        };
        splits.push(Node { split: nodes.split(node, n_features)?, left, right, stats });
    }
    let (leaves, outputs, rest) = if is_shared {
        (
            vectors(tree, &nodes, &ends, width)?,
            Outputs::All,
            nodes.vector_rest(&inner, &ends, width),
        )
    } else {
        let leaves = ends.iter().map(|&leaf| f64::from(nodes.conditions[leaf])).collect();
        let leaf_weights = ends.iter().map(|&leaf| nodes.weights[leaf]).collect();
        (leaves, Outputs::One(group), TreeRest { leaf_weights, ..TreeRest::default() })
    };
    let by_category = inner.iter().filter(|&&node| nodes.sets[node].is_some());
    let conditions = by_category.map(|&node| nodes.conditions[node]).collect();
    let stats = |&leaf: &usize| LeafStats { cover: nodes.covers[leaf].into(), count: 0.0 };
    let tree = Tree {
        trunk: Trunk::Nodes(splits),
        leaves,
        leaf_stats: ends.iter().map(stats).collect(),
        linear: Vec::new(),
        outputs,
        weight: 1.0,
    };
    Ok((tree, TreeRest { conditions, ..rest }))
}

impl Nodes {
    /// The vectors of the nodes, inner ones first, in the order of the forest.
    fn vector_rest(&self, inner: &[usize], ends: &[usize], width: usize) -> TreeRest {
        let row = |&node: &usize| &self.weights[node * width..][..width];
        let node_weights = inner.iter().chain(ends).flat_map(row).copied().collect();
        TreeRest { node_weights, ..TreeRest::default() }
    }
}

/// The leaves of a tree whose leaves are vectors.
fn vectors(tree: &Object, nodes: &Nodes, ends: &[usize], width: usize) -> Result<Vec<f64>> {
    let mut leaves = Vec::with_capacity(ends.len() * width);
    let stored = match tree.get("leaf_weights") {
        Some(stored) => Some(stored.f32s("leaf_weights")?),
        None => None,
    };
    for &leaf in ends {
        let row = match &stored {
            Some(stored) => {
                let row = usize::try_from(nodes.right[leaf]).ok();
                row.and_then(|row| stored.get(row.checked_mul(width)?..)?.get(..width)).ok_or_else(
                    || damaged(format!("the place of leaf {leaf}"), nodes.right[leaf]),
                )?
            }
            None => &nodes.weights[leaf * width..][..width],
        };
        leaves.extend(row.iter().map(|&value| f64::from(value)));
    }
    Ok(leaves)
}

/// The set of categories of each node, `None` of one that splits by number. `n_words` counts what
/// the sets of all trees take.
fn category_sets(
    tree: &Object,
    n_nodes: usize,
    n_words: &mut usize,
) -> Result<Vec<Option<CategorySet>>> {
    let mut sets = vec![None; n_nodes];
    let Some(kinds) = tree.get("split_type") else { return Ok(sets) }; // Before 1.3.
    let kinds = kinds.i64s("split_type")?;
    expect_len("split_type", kinds.len(), n_nodes)?;
    let list = |key: &str| get(tree, key)?.i64s(key);
    let nodes = list("categories_nodes")?;
    let (starts, sizes) = (list("categories_segments")?, list("categories_sizes")?);
    expect_len("categories_segments", starts.len(), nodes.len())?;
    expect_len("categories_sizes", sizes.len(), nodes.len())?;
    let codes = list("categories")?;
    let mut end = 0;
    for ((node, start), size) in nodes.into_iter().zip(starts).zip(sizes) {
        // One after another, so that no code counts twice.
        let range = usize::try_from(start).ok().zip(usize::try_from(size).ok());
        let range = range.filter(|&(start, size)| start == end && size <= codes.len() - start);
        let Some((start, size)) = range else {
            return Err(damaged("sets of categories one after another", format!("{start}")));
        };
        end = start + size;
        let codes = &codes[start..end];
        if let Some(bad) = codes.iter().find(|code| !(0..MAX_CODE).contains(*code)) {
            return Err(damaged(format!("a category from 0 to {}", MAX_CODE - 1), bad));
        }
        *n_words += codes.iter().max().map_or(0, |&code| code as usize / 32 + 1);
        if MAX_WORDS < *n_words {
            return Err(damaged(format!("sets of at most {MAX_WORDS} words in all"), *n_words));
        }
        let set: CategorySet = codes.iter().map(|&code| code as u32).collect();
        let place = usize::try_from(node).ok().and_then(|node| sets.get_mut(node));
        match place {
            Some(place @ None) => *place = Some(set),
            _ => return Err(damaged("one set for each categorical node", node)),
        }
    }
    for (node, (kind, set)) in kinds.iter().zip(&sets).enumerate() {
        if (*kind == 1) != set.is_some() {
            return Err(damaged(format!("categories of node {node}, if it has"), kind));
        }
    }
    Ok(sets)
}

pub(super) fn get<'a>(object: &'a Object, key: &str) -> Result<&'a Value> {
    object.get(key).ok_or_else(|| damaged(format!("a key `{key}`"), "none"))
}

fn get_mut<'a>(object: &'a mut Object, key: &str) -> Result<&'a mut Value> {
    object.get_mut(key).ok_or_else(|| damaged(format!("a key `{key}`"), "none"))
}

fn object_at<'a>(value: &'a Value, key: &str) -> Result<&'a Object> {
    object_at_in(value.object("booster")?, key)
}

pub(super) fn object_at_in<'a>(object: &'a Object, key: &str) -> Result<&'a Object> {
    get(object, key)?.object(key)
}

/// A number that the engine writes as text.
pub(super) fn number(object: &Object, key: &str) -> Result<usize> {
    let text = get(object, key)?.str(key)?;
    text.parse().map_err(|_| damaged(format!("a number in `{key}`"), format!("{text:?}")))
}

fn expect_len(key: &str, got: usize, expected: usize) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(damaged(format!("{expected} values in `{key}`"), got))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The model of a fixture.
    fn model(name: &str) -> Value {
        let json = include_str!("../../tests/foreign/xgboost-3.4.0.json");
        let fixture: serde_json::Value = serde_json::from_str(json).expect("JSON");
        let cases = fixture["cases"].as_array().expect("a list");
        let case = cases.iter().find(|case| case["name"] == name).expect("there");
        Value::read(case["model"].as_str().expect("a text").as_bytes()).expect("sound")
    }

    /// The value below `keys`; of a list, its first one.
    fn at<'a>(value: &'a mut Value, keys: &[&str]) -> &'a mut Value {
        keys.iter().fold(value, |value, key| match value {
            Value::Object(object) => object.get_mut(*key).expect("there"),
            Value::Array(list) => match &mut list[0] {
                Value::Object(object) => object.get_mut(*key).expect("there"),
                _ => panic!("{key}"),
            },
            _ => panic!("{key}"),
        })
    }

    #[track_caller]
    fn refused(name: &str, keys: &[&str], value: Value, says: &str) {
        let mut model = model(name);
        *at(&mut model, keys) = value;
        for bytes in [model.to_json().into_bytes(), model.to_ubjson()] {
            let err = File::read(&bytes).expect_err(says).chain();
            assert!(err.contains(says), "{keys:?}: {err}");
        }
    }

    fn ints(values: &[i32]) -> Value {
        Value::Numbers(Numbers::I32(values.to_vec()))
    }

    #[test]
    fn a_tree_that_would_mislead_is_refused() {
        let learner = "learner";
        let tree = [learner, "gradient_booster", "model", "trees"];
        let key = |key| [&tree[..], &[key]].concat();
        let refused = |place, values: &[i32], says| {
            refused("reg:squarederror", &key(place), ints(values), says);
        };
        // Nodes 0 to 6, of which 3 to 6 are leaves.
        refused("left_children", &[1, 0, 5, -1, -1, -1, -1], "a child of node 1");
        refused("left_children", &[1, 1, 5, -1, -1, -1, -1], "a child of node 1");
        refused("left_children", &[1, 3, 3, -1, -1, -1, -1], "a child of node 2");
        refused("left_children", &[1, 3, 99, -1, -1, -1, -1], "a child of node 2");
        refused("left_children", &[1, 3, -7, -1, -1, -1, -1], "a child of node 2");
        refused("left_children", &[1, 3], "expected 7 values in `left_children`, got 2");
        refused("split_indices", &[0, 4, 0, 0, 0, 0, 0], "expected a feature below 4, got 4");
        refused("split_indices", &[0, -1, 0, 0, 0, 0, 0], "expected a feature below 4, got -1");
        refused("split_type", &[1, 0, 0, 0, 0, 0, 0], "categories of node 0");
    }

    #[test]
    fn sets_of_categories_that_would_mislead_are_refused() {
        let tree = ["learner", "gradient_booster", "model", "trees"];
        let key = |key| [&tree[..], &[key]].concat();
        let name = "a data frame";
        refused(name, &key("categories"), ints(&[]), "sets of categories one after another");
        refused(name, &key("categories_nodes"), ints(&[99]), "expected");
        let mut model = model(name);
        let n = at(&mut model, &key("categories")).i64s("").expect("codes").len();
        assert!(0 < n, "the fixture splits by category");
        for bad in [-1, 1 << 24] {
            refused(name, &key("categories"), ints(&vec![bad; n]), "expected a category from 0");
        }
    }

    #[test]
    fn a_header_that_would_mislead_is_refused() {
        let params = ["learner", "learner_model_param"];
        let key = |key| [&params[..], &[key]].concat();
        let refused = |keys: &[&str], text: &str, says| {
            refused("reg:squarederror", keys, Value::text(text), says);
        };
        refused(&key("num_feature"), "-1", "a number in `num_feature`");
        refused(&key("num_feature"), "99999999999", "features without names");
        refused(&key("num_class"), "99999999999", "at most 65536 classes");
        refused(&key("base_score"), "[1E0,2E0]", "expected 1 values in `base_score`, got 2");
        refused(&key("base_score"), "NaN", "numbers in `base_score`");
        refused(&["learner", "objective", "name"], "reg:magic", "`reg:magic`");
        refused(&["learner", "gradient_booster", "name"], "gbmagic", "`gbmagic`");
    }

    #[test]
    fn a_booster_of_a_later_version_is_refused_by_its_version() {
        let mut model = model("reg:squarederror");
        *at(&mut model, &["version"]) = ints(&[4, 0, 0]);
        let err = File::read(&model.to_ubjson()).expect_err("newer");
        assert!(matches!(err, Error::TooNew { got: 4, newest: 3, .. }), "{err}");
    }
}
