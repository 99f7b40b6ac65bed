//! What CatBoost's model files hold, in either format, and how it becomes a forest and back.
//!
//! Both formats list the questions that a model may ask: the borders of each float feature, then the
//! values of each one-hot feature, then the borders of each CTR. A tree names a question by its
//! position in that list. [`Features`] is the list as files have it; a [`ModelFile`] is what comes out,
//! with a [`Forest`] whose splits hold their questions themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mm_core::{Error, Result};

use super::{cbm, flat::damaged, json};
use crate::forest::{
    Child, Ctr, CtrKind, CtrTable, Ctrs, Feature, Forest, LeafStats, Link, Missing, Node,
    NodeStats, Oblivious, Outputs, Projection, Split, Sum, Test, Tree, Trunk,
};

/// The deepest tree that is read; CatBoost grows none deeper than 16.
const MAX_DEPTH: usize = 64;

/// The most columns that the features of a file may lie apart in the table they come from.
const MAX_GAP: usize = 1 << 16;

/// What a model file of CatBoost holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelFile {
    /// The trees and CTRs. Its features are the columns of the table that the model was trained on.
    pub(crate) forest: Forest,
    /// What is said of missing values, one entry a feature; of no meaning for categorical ones.
    pub(crate) nans: Vec<NanRule>,
    /// Names of levels by their hashes, as far as they are known.
    pub(crate) names: BTreeMap<u32, String>,
    /// Whether these are the names of all levels that training saw.
    pub(crate) has_dictionary: bool,
    /// What the file says about itself and its training (`model_info`), text by key.
    pub(crate) info: BTreeMap<String, String>,
}

/// Reads a file of either format.
pub(crate) fn read(bytes: &[u8]) -> Result<ModelFile> {
    if bytes.starts_with(cbm::MAGIC) { cbm::read(bytes) } else { json::read(bytes) }
}

/// How a float feature's missing values were treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct NanRule {
    /// Whether training saw any.
    pub(crate) has_nans: bool,
    /// What they are taken for.
    pub(crate) treatment: NanTreatment,
}

/// What missing values are taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum NanTreatment {
    /// Nothing: they pass no border.
    #[default]
    AsIs,
    /// Less than any border (`nan_mode=Min`).
    Least,
    /// More than any border (`nan_mode=Max`).
    Greatest,
}

impl NanTreatment {
    /// In the order of their numbers in files.
    pub(super) const ALL: [(Self, &'static str); 3] =
        [(Self::AsIs, "AsIs"), (Self::Least, "AsFalse"), (Self::Greatest, "AsTrue")];
}

impl NanRule {
    /// Where the evaluator sends missing values.
    pub(crate) fn missing(self) -> Missing {
        // A feature that had none in training is not asked for its treatment.
        Missing::Nan { left: !(self.has_nans && self.treatment == NanTreatment::Greatest) }
    }
}

/// The features of a model as its file lists them. Indices count floats and categoricals apart;
/// *flat* ones count columns.
#[derive(Debug, Default)]
pub(super) struct Features {
    pub(super) floats: Vec<FloatFeature>,
    pub(super) categoricals: Vec<Categorical>,
    pub(super) one_hots: Vec<OneHot>,
    pub(super) ctrs: Vec<CtrFeature>,
}

#[derive(Debug)]
pub(super) struct FloatFeature {
    pub(super) index: i32,
    pub(super) flat: i32,
    pub(super) name: String,
    pub(super) nan: NanRule,
    pub(super) borders: Vec<f32>,
}

#[derive(Debug)]
pub(super) struct Categorical {
    pub(super) index: i32,
    pub(super) flat: i32,
    pub(super) name: String,
    pub(super) is_used: bool,
}

#[derive(Debug)]
pub(super) struct OneHot {
    /// The categorical feature's index.
    pub(super) index: i32,
    pub(super) values: Vec<i32>,
    /// Their names; none, or one each.
    pub(super) names: Vec<String>,
}

#[derive(Debug)]
pub(super) struct CtrFeature {
    pub(super) base: CtrBase,
    pub(super) target_border: i32,
    pub(super) prior: f32,
    pub(super) prior_denominator: f32,
    pub(super) shift: f32,
    pub(super) scale: f32,
    pub(super) borders: Vec<f32>,
}

/// What names a table of counts.
#[derive(Debug, Clone)]
pub(super) struct CtrBase {
    pub(super) categoricals: Vec<i32>,
    /// Float features with a border.
    pub(super) floats: Vec<(i32, f32)>,
    /// Categorical features with a level.
    pub(super) one_hots: Vec<(i32, i32)>,
    pub(super) kind: CtrKind,
    pub(super) classifier: i32,
}

/// A comparable form of it.
pub(super) type CtrKey = (Vec<i32>, Vec<(i32, u32)>, Vec<(i32, i32)>, CtrKind, i32);

impl CtrBase {
    pub(super) fn key(&self) -> CtrKey {
        let floats = self.floats.iter().map(|&(index, border)| (index, border.to_bits())).collect();
        let Self { categoricals, one_hots, kind, classifier, .. } = self;
        (categoricals.clone(), floats, one_hots.clone(), *kind, *classifier)
    }
}

/// What a file lists, by position: questions for its trees, and what they are about.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) features: Vec<Feature>,
    pub(super) nans: Vec<NanRule>,
    pub(super) names: BTreeMap<u32, String>,
    pub(super) has_dictionary: bool,
    pub(super) questions: Vec<Split>,
    pub(super) ctrs: Ctrs,
}

impl Features {
    /// Checks the lists. `tables` has the counts, by name; `read_table` makes one, for the
    /// projection that it is given.
    pub(super) fn resolve<T>(
        self,
        tables: Vec<(CtrBase, T)>,
        read_table: impl Fn(Projection, &CtrBase, T) -> Result<CtrTable>,
    ) -> Result<Resolved> {
        let columns = Columns::of(&self)?;
        let mut questions = Vec::new();
        let mut names = BTreeMap::new();
        for float in &self.floats {
            if !float.borders.is_sorted() {
                let got = format!("`{}` with others", float.name);
                return Err(damaged("borders in ascending order", got));
            }
            for &border in &float.borders {
                questions.push(columns.question(float.index, border)?);
            }
        }
        for one_hot in &self.one_hots {
            for &value in &one_hot.values {
                questions.push(columns.level(one_hot.index, value)?);
            }
            let hashes = one_hot.values.iter().map(|&value| value as u32);
            names.extend(hashes.zip(one_hot.names.iter().cloned()));
        }
        let mut resolved = Vec::with_capacity(tables.len());
        let mut by_key = BTreeMap::new();
        let mut tables = tables;
        tables.sort_by_cached_key(|(base, _)| base.key()); // The formats' orders differ.
        for (base, table) in tables {
            let projection = columns.projection(&base)?;
            let table = read_table(projection, &base, table);
            resolved.push(Arc::new(table.map_err(|e| damaged("a sound CTR table", e))?));
            if by_key.insert(base.key(), resolved.len() - 1).is_some() {
                return Err(damaged("distinct CTR tables", format_args!("{base:?} twice")));
            }
        }
        let mut list = Vec::with_capacity(self.ctrs.len());
        for (i, ctr) in self.ctrs.iter().enumerate() {
            let table = by_key.get(&ctr.base.key()).copied();
            let table = table.ok_or_else(|| damaged("a table for each CTR", "none for one"))?;
            let target_border = usize::try_from(ctr.target_border)
                .map_err(|_| damaged("a target border ≥ 0", ctr.target_border))?;
            let &CtrFeature { prior, prior_denominator, shift, scale, .. } = ctr;
            list.push(Ctr { table, target_border, prior, prior_denominator, shift, scale });
            let split = |&border: &f32| Split { feature: i, test: Test::Ctr { border } };
            questions.extend(ctr.borders.iter().map(split));
        }
        let ctrs = Ctrs { list, tables: resolved };
        ctrs.check().map_err(|e| damaged("CTRs that fit their tables", e))?;
        let Columns { features, nans, .. } = columns;
        Ok(Resolved { features, nans, names, has_dictionary: false, questions, ctrs })
    }

    /// The lists of a model, with the position of each question in them.
    pub(super) fn of(file: &ModelFile) -> (Self, Positions) {
        let forest = &file.forest;
        let mut borders = BTreeMap::<usize, BTreeSet<Ordered>>::new();
        let mut levels = BTreeMap::<usize, BTreeSet<i32>>::new();
        let mut values = vec![BTreeSet::<Ordered>::new(); forest.ctrs.list.len()];
        let projections = forest.ctrs.tables.iter().flat_map(|table| &table.projection().questions);
        for split in forest.trees.iter().flat_map(Tree::splits).chain(projections) {
            match split.test {
                Test::AtMost { threshold, .. } => {
                    let set = borders.entry(split.feature).or_default();
                    set.insert(Ordered(threshold as f32));
                }
                Test::Hash(hash) => {
                    levels.entry(split.feature).or_default().insert(hash as i32);
                }
                Test::Ctr { border } => {
                    values[split.feature].insert(Ordered(border));
                }
                Test::Below { .. } | Test::Among { .. } => {} // `Positions::of` refuses them.
            }
        }
        let in_ctrs: BTreeSet<usize> =
            forest.ctrs.tables.iter().flat_map(|table| table.projection().levels.clone()).collect();

        let (mut features, mut positions) = (Self::default(), Positions::default());
        let mut next = 0;
        for (flat, feature) in forest.features.iter().enumerate() {
            // Unnamed columns stay so.
            let name = if feature.name == format!("f{flat}") { "" } else { &*feature.name };
            let (name, flat_index) = (name.to_owned(), flat as i32);
            if feature.is_categorical {
                let index = features.categoricals.len() as i32;
                positions.index.push(index);
                let is_used = in_ctrs.contains(&flat) || levels.contains_key(&flat);
                let categorical = Categorical { index, flat: flat_index, name, is_used };
                features.categoricals.push(categorical);
            } else {
                let index = features.floats.len() as i32;
                positions.index.push(index);
                let own = borders.remove(&flat).unwrap_or_default();
                for border in &own {
                    positions.floats.insert((flat, *border), next);
                    next += 1;
                }
                let borders = own.into_iter().map(|border| border.0).collect();
                let nan = file.nans.get(flat).copied().unwrap_or_default();
                features.floats.push(FloatFeature { index, flat: flat_index, name, nan, borders });
            }
        }
        for (flat, own) in levels {
            for &value in &own {
                positions.levels.insert((flat, value), next);
                next += 1;
            }
            let names: Vec<String> =
                own.iter().map_while(|&value| file.names.get(&(value as u32)).cloned()).collect();
            let names = if names.len() == own.len() { names } else { Vec::new() };
            let index = positions.index.get(flat).copied().unwrap_or(-1);
            features.one_hots.push(OneHot { index, values: own.into_iter().collect(), names });
        }
        for (i, (ctr, own)) in forest.ctrs.list.iter().zip(values).enumerate() {
            for border in &own {
                positions.ctrs.insert((i, *border), next);
                next += 1;
            }
            let table = &forest.ctrs.tables[ctr.table];
            features.ctrs.push(CtrFeature {
                base: positions.base(table),
                target_border: ctr.target_border as i32,
                prior: ctr.prior,
                prior_denominator: ctr.prior_denominator,
                shift: ctr.shift,
                scale: ctr.scale,
                borders: own.into_iter().map(|border| border.0).collect(),
            });
        }
        (features, positions)
    }
}

/// Where the questions of a model stand in its lists.
#[derive(Debug, Default)]
pub(super) struct Positions {
    /// Of each column, among the floats or among the categoricals.
    index: Vec<i32>,
    floats: BTreeMap<(usize, Ordered), usize>,
    levels: BTreeMap<(usize, i32), usize>,
    ctrs: BTreeMap<(usize, Ordered), usize>,
}

impl Positions {
    /// The position of a question, or why CatBoost has none of its kind.
    pub(super) fn of(&self, split: &Split) -> Result<usize> {
        let refuse = |expected: &str| Error::data("split", expected, format!("{:?}", split.test));
        let found = match split.test {
            Test::AtMost { threshold, .. } if f64::from(threshold as f32) != threshold => {
                return Err(refuse("a threshold in `f32`, as CatBoost has them"));
            }
            Test::AtMost { threshold, .. } => {
                self.floats.get(&(split.feature, Ordered(threshold as f32)))
            }
            Test::Hash(hash) => self.levels.get(&(split.feature, hash as i32)),
            Test::Ctr { border } => self.ctrs.get(&(split.feature, Ordered(border))),
            Test::Below { .. } | Test::Among { .. } => None,
        };
        found.copied().ok_or_else(|| refuse("a test that CatBoost has"))
    }

    /// The name of a table.
    pub(super) fn base(&self, table: &CtrTable) -> CtrBase {
        let index = |feature: usize| self.index.get(feature).copied().unwrap_or(-1);
        let Projection { levels, questions } = table.projection();
        let (mut floats, mut one_hots) = (Vec::new(), Vec::new());
        for split in questions {
            match split.test {
                Test::AtMost { threshold, .. } => {
                    floats.push((index(split.feature), threshold as f32));
                }
                Test::Hash(hash) => one_hots.push((index(split.feature), hash as i32)),
                _ => {}
            }
        }
        let categoricals = levels.iter().map(|&feature| index(feature)).collect();
        let (kind, classifier) = (table.kind(), table.classifier());
        CtrBase { categoricals, floats, one_hots, kind, classifier }
    }
}

/// A number in the total order of its bits, in which −0 comes before 0.
#[derive(Debug, Clone, Copy)]
struct Ordered(f32);

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The columns of the table that a model was trained on.
#[derive(Debug)]
struct Columns {
    features: Vec<Feature>,
    nans: Vec<NanRule>,
    floats: BTreeMap<i32, usize>,
    categoricals: BTreeMap<i32, usize>,
}

impl Columns {
    fn of(listed: &Features) -> Result<Self> {
        let floats = listed.floats.iter().map(|f| (f.flat, &f.name, false));
        let categoricals = listed.categoricals.iter().map(|c| (c.flat, &c.name, true));
        let n_listed = floats.len() + categoricals.len();
        let all = || floats.clone().chain(categoricals.clone());
        let last = all().map(|(flat, ..)| flat).max().unwrap_or(-1);
        let width = usize::try_from(last + 1).unwrap_or(0);
        if last == i32::MAX || n_listed + MAX_GAP < width {
            return Err(damaged(format_args!("the columns of {n_listed} features"), last));
        }
        // Columns that are not listed are not asked.
        let unnamed = |flat| Feature { name: format!("f{flat}"), is_categorical: false };
        let mut features: Vec<Feature> = (0..width).map(unnamed).collect();
        let mut seen = BTreeSet::new();
        for (flat, name, is_categorical) in all() {
            let feature = usize::try_from(flat).ok().and_then(|flat| features.get_mut(flat));
            let feature = feature.filter(|_| seen.insert(flat));
            let feature = feature.ok_or_else(|| damaged("a column for each feature", flat))?;
            feature.is_categorical = is_categorical;
            if !name.is_empty() {
                feature.name.clone_from(name);
            }
        }
        let mut nans = vec![NanRule::default(); width];
        for float in &listed.floats {
            nans[float.flat as usize] = float.nan; // Checked above.
        }
        let index = |(index, flat): (i32, i32)| (index, flat as usize);
        let floats: BTreeMap<_, _> =
            listed.floats.iter().map(|f| index((f.index, f.flat))).collect();
        let categoricals: BTreeMap<_, _> =
            listed.categoricals.iter().map(|c| index((c.index, c.flat))).collect();
        if floats.len() + categoricals.len() != n_listed {
            return Err(damaged("distinct indices of features", "one twice"));
        }
        Ok(Self { features, nans, floats, categoricals })
    }

    fn float(&self, index: i32) -> Result<usize> {
        let found = self.floats.get(&index).copied();
        found.ok_or_else(|| damaged("the index of a float feature", index))
    }

    fn categorical(&self, index: i32) -> Result<usize> {
        let found = self.categoricals.get(&index).copied();
        found.ok_or_else(|| damaged("the index of a categorical feature", index))
    }

    /// Whether a float feature exceeds a border.
    fn question(&self, index: i32, border: f32) -> Result<Split> {
        if border.is_nan() {
            return Err(damaged("a border", "NaN"));
        }
        let feature = self.float(index)?;
        let missing = self.nans[feature].missing();
        Ok(Split { feature, test: Test::AtMost { threshold: border.into(), missing } })
    }

    /// Whether a categorical feature has a level.
    fn level(&self, index: i32, value: i32) -> Result<Split> {
        Ok(Split { feature: self.categorical(index)?, test: Test::Hash(value as u32) })
    }

    fn projection(&self, base: &CtrBase) -> Result<Projection> {
        let levels = base.categoricals.iter().map(|&index| self.categorical(index));
        let floats = base.floats.iter().map(|&(index, border)| self.question(index, border));
        let one_hots = base.one_hots.iter().map(|&(index, value)| self.level(index, value));
        let questions = floats.chain(one_hots).collect::<Result<_>>()?;
        Ok(Projection { levels: levels.collect::<Result<_>>()?, questions })
    }
}

/// Reads trees that name questions by position.
#[derive(Debug)]
pub(super) struct TreeReader<'a> {
    pub(super) questions: &'a [Split],
    /// How many values a leaf has.
    pub(super) width: usize,
}

/// A node of a tree as it is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<N, L> {
    /// The position of a question, with what is on the left and on the right.
    Ask(i64, N, N),
    /// A leaf.
    Leaf(L),
}

impl TreeReader<'_> {
    fn question(&self, position: i64) -> Result<Split> {
        let found = usize::try_from(position).ok().and_then(|at| self.questions.get(at));
        let expected = format_args!("one of {} questions", self.questions.len());
        found.cloned().ok_or_else(|| damaged(expected, position))
    }

    /// A symmetric tree. `weights` is empty if the file has none.
    pub(super) fn oblivious(
        &self,
        splits: impl ExactSizeIterator<Item = i64>,
        values: Vec<f64>,
        weights: &[f64],
    ) -> Result<Tree> {
        let n_leaves = u32::try_from(splits.len()).ok().and_then(|n| 1_usize.checked_shl(n));
        let n_leaves = n_leaves.filter(|n| n.checked_mul(self.width) == Some(values.len()));
        let n_leaves = n_leaves.ok_or_else(|| {
            let expected = format!("2^{} leaves of {} values", splits.len(), self.width);
            damaged(expected, format_args!("{} values", values.len()))
        })?;
        if !weights.is_empty() && weights.len() != n_leaves {
            return Err(damaged(format_args!("{n_leaves} leaf weights"), weights.len()));
        }
        let levels = splits.map(|at| self.question(at)).collect::<Result<_>>()?;
        Ok(self.tree(Trunk::Oblivious(Oblivious { levels }), values, weights.iter().copied()))
    }

    /// Any other tree, from its root: `step` says what a node is, `leaf` gives the values and the
    /// weight of one. Nodes and leaves come out in the order of a walk that goes left first. Each
    /// node may be met once.
    pub(super) fn nodes<N: Copy, L>(
        &self,
        root: N,
        mut step: impl FnMut(N) -> Result<Step<N, L>>,
        mut leaf: impl FnMut(L, &mut Vec<f64>) -> Result<Option<f64>>,
    ) -> Result<Tree> {
        let (mut nodes, mut values, mut weights) = (Vec::<Node>::new(), Vec::new(), Vec::new());
        let mut n_leaves = 0;
        // What is still to be read, with the place that it goes to.
        let mut open = vec![(root, None::<(usize, bool)>, 0)];
        while let Some((at, place, depth)) = open.pop() {
            if MAX_DEPTH < depth {
                return Err(damaged(
                    format_args!("trees of at most {MAX_DEPTH} levels"),
                    "a deeper",
                ));
            }
            let child = match step(at)? {
                Step::Ask(question, left, right) => {
                    let (split, stats) = (self.question(question)?, NodeStats::default());
                    let unknown = Child::Leaf(0);
                    nodes.push(Node { split, left: unknown, right: unknown, stats });
                    let node = nodes.len() - 1;
                    open.push((right, Some((node, false)), depth + 1));
                    open.push((left, Some((node, true)), depth + 1));
                    Child::Node(node)
                }
                Step::Leaf(at) => {
                    weights.extend(leaf(at, &mut values)?);
                    n_leaves += 1;
                    if values.len() != n_leaves * self.width {
                        let expected = format_args!("{} values a leaf", self.width);
                        return Err(damaged(expected, "another number"));
                    }
                    Child::Leaf(n_leaves - 1)
                }
            };
            match place {
                Some((parent, true)) => nodes[parent].left = child,
                Some((parent, false)) => nodes[parent].right = child,
                None => {}
            }
        }
        if !weights.is_empty() && weights.len() != n_leaves {
            return Err(damaged("a weight for each leaf or for none", weights.len()));
        }
        Ok(self.tree(Trunk::Nodes(nodes), values, weights.into_iter()))
    }

    fn tree(&self, trunk: Trunk, leaves: Vec<f64>, weights: impl Iterator<Item = f64>) -> Tree {
        let leaf_stats = weights.map(|cover| LeafStats { cover, count: 0.0 }).collect();
        let outputs = if self.width == 1 { Outputs::One(0) } else { Outputs::All };
        Tree { trunk, leaves, leaf_stats, linear: Vec::new(), outputs, weight: 1.0 }
    }
}

impl ModelFile {
    /// Puts together what a reader found.
    pub(super) fn new(
        resolved: Resolved,
        trees: Vec<Tree>,
        scale: f64,
        bias: Vec<f64>,
        info: BTreeMap<String, String>,
    ) -> Result<Self> {
        if !scale.is_finite() || !bias.iter().all(|b| b.is_finite()) {
            return Err(damaged("a finite scale and bias", format_args!("{scale}, {bias:?}")));
        }
        let Resolved { features, nans, names, has_dictionary, ctrs, .. } = resolved;
        let forest = Forest {
            features,
            n_outputs: bias.len(),
            trees,
            trees_per_round: 1,
            sum: Sum::Scaled { scale, bias },
            link: Link::Identity,
            ctrs,
        };
        Ok(Self { forest, nans, names, has_dictionary, info })
    }

    /// The scale and the bias, if the forest has one; CatBoost has no other sums.
    pub(super) fn scale_and_bias(&self) -> Result<(f64, &[f64])> {
        match &self.forest.sum {
            Sum::Scaled { scale, bias } => Ok((*scale, bias)),
            other => {
                Err(Error::data("sum of the leaves", "scaled, in `f64`", format!("{other:?}")))
            }
        }
    }

    /// Whether all trees are symmetric, or none is; CatBoost's formats have no other models.
    pub(super) fn is_oblivious(&self) -> Result<bool> {
        let oblivious = |tree: &Tree| matches!(tree.trunk, Trunk::Oblivious(_));
        let n = self.forest.trees.iter().filter(|tree| oblivious(tree)).count();
        if n != 0 && n != self.forest.trees.len() {
            return Err(Error::data("trees", "all symmetric, or none", format!("{n} symmetric")));
        }
        for tree in &self.forest.trees {
            let is_whole = self.forest.n_outputs == 1 || tree.outputs == Outputs::All;
            if !tree.linear.is_empty() || tree.weight != 1.0 || !is_whole {
                let expected = "constant leaves of weight 1 for all outputs";
                return Err(Error::data("trees", expected, "others"));
            }
        }
        Ok(n == self.forest.trees.len())
    }
}
