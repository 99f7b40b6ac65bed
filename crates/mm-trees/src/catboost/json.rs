//! CatBoost's JSON format.
//!
//! The objects are those that `save_model(format="json")` writes: `features_info` with the features
//! and CTRs, `oblivious_trees` or `trees`, `ctr_data` with the counts by the name of their table,
//! `scale_and_bias`, and `model_info`. Only `split_index` says what a split asks; the fields beside it
//! are for readers. Numbers of single precision are written as the shortest decimal of the same
//! double, so that they come back to the bit. Source: `json_model_helpers.cpp` of CatBoost 1.2.10.
//!
//! Two things get lost in this format, in CatBoost as here: the number of the target's binarisation in
//! the name of a CTR table, and, when CatBoost itself reads the file, fractions of the sums of
//! `FloatTargetMeanValue`.

use std::{collections::BTreeMap, fmt};

use mm_core::{Error, Result};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};
use serde_json::Value;

use super::{
    file::{
        Categorical, CtrBase, CtrFeature, Features, FloatFeature, ModelFile, NanRule, NanTreatment,
        OneHot, Step, TreeReader,
    },
    flat::damaged,
};
use crate::forest::{Child, Counts, CtrKind, CtrTable, Projection, Split, Test, Tree, Trunk};

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ctr_data: Option<BTreeMap<String, CountsJson>>,
    #[serde(default, deserialize_with = "nullable")]
    features_info: FeaturesJson,
    #[serde(default, deserialize_with = "nullable")]
    model_info: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    oblivious_trees: Option<Vec<ObliviousJson>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trees: Option<Vec<NodeJson>>,
    #[serde(default)]
    scale_and_bias: Option<(f64, OneOrMany)>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct FeaturesJson {
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    float_features: Vec<FloatJson>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    categorical_features: Vec<CategoricalJson>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    ctrs: Vec<CtrJson>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    cat_features_hash: Vec<NamedLevel>,
    #[serde(default, skip_serializing)]
    text_features: Value,
    #[serde(default, skip_serializing)]
    embedding_features: Value,
    #[serde(default, skip_serializing)]
    estimated_features: Value,
}

#[derive(Debug, Serialize, Deserialize)]
struct FloatJson {
    feature_index: i32,
    flat_feature_index: i32,
    #[serde(default, deserialize_with = "nullable")]
    feature_id: String,
    #[serde(default)]
    has_nans: bool,
    #[serde(default)]
    nan_value_treatment: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    borders: Vec<Single>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CategoricalJson {
    feature_index: i32,
    flat_feature_index: i32,
    #[serde(default, deserialize_with = "nullable")]
    feature_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values: Option<Vec<i32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    string_values: Option<Vec<String>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CtrJson {
    identifier: String,
    #[serde(default, deserialize_with = "nullable")]
    elements: Vec<ElementJson>,
    ctr_type: String,
    prior_numerator: Single,
    prior_denomerator: Single, // Sic.
    shift: Single,
    scale: Single,
    target_border_idx: i32,
    #[serde(default, deserialize_with = "nullable")]
    borders: Vec<Single>,
}

/// One feature of a projection.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "combination_element")]
enum ElementJson {
    #[serde(rename = "cat_feature_value")]
    Level { cat_feature_index: i32 },
    #[serde(rename = "float_feature")]
    Float { border: Single, float_feature_index: i32 },
    #[serde(rename = "cat_feature_exact_value")]
    OneHot { cat_feature_index: i32, value: i32 },
}

/// The name of a table: what is written as text in `ctr_data` and in `identifier`.
#[derive(Debug, Serialize, Deserialize)]
struct NameJson {
    #[serde(default, deserialize_with = "nullable")]
    identifier: Vec<ElementJson>,
    r#type: String,
}

/// The hash of a level, and its name.
#[derive(Debug, Serialize, Deserialize)]
struct NamedLevel {
    hash: u32,
    value: String,
}

/// Counts: the hash of a bucket as text, its counts, the next hash, ….
#[derive(Debug, Serialize, Deserialize)]
struct CountsJson {
    #[serde(default)]
    counter_denominator: i32,
    #[serde(default, deserialize_with = "nullable")]
    hash_map: Vec<Cell>,
    hash_stride: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct ObliviousJson {
    leaf_values: Vec<f64>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    leaf_weights: Vec<f64>,
    #[serde(default, deserialize_with = "nullable")]
    splits: Vec<SplitJson>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct NodeJson {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<OneOrMany>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    split: Option<SplitJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<Box<NodeJson>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    right: Option<Box<NodeJson>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct SplitJson {
    split_index: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    split_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    border: Option<Single>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    float_feature_index: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cat_feature_index: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ctr_target_border_idx: Option<i32>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(f64),
    Many(Vec<f64>),
}

/// A number of single precision, by way of a double.
#[derive(Debug, Clone, Copy)]
struct Single(f32);

/// A cell of a list of hashes and counts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cell {
    Hash(u64),
    Number(f64),
}

impl Serialize for Single {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.into())
    }
}

impl<'de> Deserialize<'de> for Single {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(|x| Self(x as f32))
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Hash(hash) => serializer.collect_str(&hash),
            // CatBoost takes nothing else for a count.
            Self::Number(x) if x.fract() == 0.0 && x.abs() < 9e15 => {
                serializer.serialize_i64(x as i64)
            }
            Self::Number(x) => serializer.serialize_f64(x),
        }
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CellVisitor;

        impl Visitor<'_> for CellVisitor {
            type Value = Cell;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a hash as text, or a number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Cell, E> {
                text.parse().map(Cell::Hash).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, x: u64) -> Result<Cell, E> {
                Ok(Cell::Number(x as f64))
            }

            fn visit_i64<E: de::Error>(self, x: i64) -> Result<Cell, E> {
                Ok(Cell::Number(x as f64))
            }

            fn visit_f64<E: de::Error>(self, x: f64) -> Result<Cell, E> {
                Ok(Cell::Number(x))
            }
        }

        deserializer.deserialize_any(CellVisitor)
    }
}

impl OneOrMany {
    fn as_slice(&self) -> &[f64] {
        match self {
            Self::One(x) => std::slice::from_ref(x),
            Self::Many(all) => all,
        }
    }
}

/// CatBoost writes `null` for empty lists.
fn nullable<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a file.
pub(crate) fn read(bytes: &[u8]) -> Result<ModelFile> {
    let document: Document =
        serde_json::from_slice(bytes).map_err(|e| damaged("a model in JSON", e))?;
    let info = document.model_info.into_iter().map(|(key, value)| match value {
        Value::String(text) => (key, text),
        other => (key, other.to_string()),
    });
    let info = info.collect();

    let mut names = BTreeMap::new();
    let known = &document.features_info.cat_features_hash;
    names.extend(known.iter().map(|level| (level.hash, level.value.clone())));
    let named = document.ctr_data.unwrap_or_default().into_iter().map(|(name, counts)| {
        let name: NameJson = serde_json::from_str(&name)
            .map_err(|e| damaged("the name of a CTR table in JSON", e))?;
        Ok((base_of(&name.identifier, &name.r#type)?, counts))
    });
    let tables = named.collect::<Result<_>>()?;
    let has_dictionary = !names.is_empty();
    let mut resolved = document.features_info.read()?.resolve(tables, read_table)?;
    resolved.names.extend(names);
    resolved.has_dictionary = has_dictionary;

    let bias = document.scale_and_bias.as_ref().map_or(&[][..], |(_, bias)| bias.as_slice());
    let trees = document.oblivious_trees.as_deref().unwrap_or(&[]);
    let nodes = document.trees.as_deref().unwrap_or(&[]);
    if !trees.is_empty() && !nodes.is_empty() {
        return Err(damaged("`oblivious_trees` or `trees`", "both"));
    }
    let width = width_of(trees, nodes).unwrap_or(bias.len().max(1));
    let reader = TreeReader { questions: &resolved.questions, width };
    let symmetric = |tree: &ObliviousJson| {
        let splits = tree.splits.iter().map(|split| split.split_index);
        reader.oblivious(splits, tree.leaf_values.clone(), &tree.leaf_weights)
    };
    let other = |root: &NodeJson| read_nodes(root, &reader);
    let trees =
        trees.iter().map(symmetric).chain(nodes.iter().map(other)).collect::<Result<_>>()?;

    let scale = document.scale_and_bias.as_ref().map_or(1.0, |(scale, _)| *scale);
    let bias = if bias.is_empty() { vec![0.0; width] } else { bias.to_vec() };
    if bias.len() != width {
        return Err(damaged(format_args!("{width} biases"), bias.len()));
    }
    ModelFile::new(resolved, trees, scale, bias, info)
}

/// How many values the first leaf has.
fn width_of(trees: &[ObliviousJson], nodes: &[NodeJson]) -> Option<usize> {
    if let Some(tree) = trees.first() {
        let n_leaves = 1_usize.checked_shl(u32::try_from(tree.splits.len()).ok()?)?;
        return Some((tree.leaf_values.len() / n_leaves).max(1));
    }
    let mut node = nodes.first()?;
    while let (None, Some(left)) = (&node.value, &node.left) {
        node = left;
    }
    node.value.as_ref().map(|value| value.as_slice().len().max(1))
}

/// A node, whose leaves are nodes, too.
fn step_of(node: &NodeJson) -> Result<Step<&NodeJson, &NodeJson>> {
    let NodeJson { value, split, left, right, .. } = node;
    match (value, split, left, right) {
        (Some(_), ..) => Ok(Step::Leaf(node)),
        (None, Some(split), Some(left), Some(right)) => {
            Ok(Step::Ask(split.split_index, left, right))
        }
        _ => Err(damaged("a leaf, or a split with two sides", "neither")),
    }
}

fn read_nodes(root: &NodeJson, reader: &TreeReader<'_>) -> Result<Tree> {
    let leaf = |node: &NodeJson, out: &mut Vec<f64>| {
        out.extend(node.value.iter().flat_map(OneOrMany::as_slice));
        Ok(node.weight)
    };
    reader.nodes(root, step_of, leaf)
}

impl FeaturesJson {
    fn read(self) -> Result<Features> {
        let refused = [
            ("text", self.text_features),
            ("embedding", self.embedding_features),
            ("estimated", self.estimated_features),
        ];
        for (kind, list) in refused {
            if list.as_array().is_some_and(|list| !list.is_empty()) {
                let got = format!("{kind} features");
                return Err(damaged("numeric and categorical features alone", got));
            }
        }
        let mut features = Features::default();
        for float in self.float_features {
            let name = float.nan_value_treatment.as_deref().unwrap_or("AsIs");
            let treatment = NanTreatment::ALL.iter().find(|(_, own)| *own == name);
            let &(treatment, _) = treatment.ok_or_else(|| damaged("a treatment of NaN", name))?;
            features.floats.push(FloatFeature {
                index: float.feature_index,
                flat: float.flat_feature_index,
                name: float.feature_id,
                nan: NanRule { has_nans: float.has_nans, treatment },
                borders: singles(&float.borders),
            });
        }
        for categorical in self.categorical_features {
            let index = categorical.feature_index;
            if let Some(values) = categorical.values {
                let names = categorical.string_values.unwrap_or_default();
                features.one_hots.push(OneHot { index, values, names });
            }
            features.categoricals.push(Categorical {
                index,
                flat: categorical.flat_feature_index,
                name: categorical.feature_id,
                is_used: true,
            });
        }
        for ctr in self.ctrs {
            features.ctrs.push(CtrFeature {
                base: base_of(&ctr.elements, &ctr.ctr_type)?,
                target_border: ctr.target_border_idx,
                prior: ctr.prior_numerator.0,
                prior_denominator: ctr.prior_denomerator.0,
                shift: ctr.shift.0,
                scale: ctr.scale.0,
                borders: singles(&ctr.borders),
            });
        }
        Ok(features)
    }
}

fn singles(numbers: &[Single]) -> Vec<f32> {
    numbers.iter().map(|number| number.0).collect()
}

fn base_of(elements: &[ElementJson], kind: &str) -> Result<CtrBase> {
    let found = CtrKind::ALL.into_iter().find(|own| own.name() == kind);
    let kind = found.ok_or_else(|| damaged("a type of CTR", format_args!("`{kind}`")))?;
    let (categoricals, floats, one_hots) = (Vec::new(), Vec::new(), Vec::new());
    let mut base = CtrBase { categoricals, floats, one_hots, kind, classifier: 0 };
    for element in elements {
        match element {
            ElementJson::Level { cat_feature_index } => base.categoricals.push(*cat_feature_index),
            ElementJson::Float { float_feature_index, border } => {
                base.floats.push((*float_feature_index, border.0));
            }
            ElementJson::OneHot { cat_feature_index, value } => {
                base.one_hots.push((*cat_feature_index, *value));
            }
        }
    }
    Ok(base)
}

fn read_table(projection: Projection, base: &CtrBase, counts: CountsJson) -> Result<CtrTable> {
    let stride = counts.hash_stride;
    let unit = match base.kind {
        CtrKind::Borders | CtrKind::Buckets => stride.checked_sub(1).filter(|&n| 0 < n),
        CtrKind::BinarizedTargetMeanValue | CtrKind::FloatTargetMeanValue => Some(2),
        CtrKind::Counter | CtrKind::FeatureFreq => Some(1),
    };
    let cells = counts.hash_map;
    let unit = unit.filter(|&unit| cells.is_empty() || unit + 1 == stride);
    let unit = unit.filter(|_| cells.is_empty() || cells.len().is_multiple_of(stride));
    let unit =
        unit.ok_or_else(|| damaged("hashes with their counts", format_args!("stride {stride}")))?;
    let (mut hashes, mut numbers) = (Vec::new(), Vec::new());
    for bucket in cells.chunks_exact(unit + 1) {
        let Cell::Hash(hash) = bucket[0] else {
            return Err(damaged("a hash as text", format_args!("{:?}", bucket[0])));
        };
        // What CatBoost makes of a vacant slot of its hash table.
        if hash == u64::MAX {
            continue;
        }
        hashes.push(hash);
        for cell in &bucket[1..] {
            match cell {
                Cell::Number(x) => numbers.push(*x),
                Cell::Hash(_) => return Err(damaged("a count", "a text")),
            }
        }
    }
    let whole = |&x: &f64| {
        let fits = x.fract() == 0.0 && f64::from(i32::MIN) <= x && x <= f64::from(i32::MAX);
        if fits { Ok(x as i32) } else { Err(damaged("a count of 32 bits", x)) }
    };
    let counts = match base.kind {
        CtrKind::Borders | CtrKind::Buckets => {
            let rows = numbers.iter().map(whole).collect::<Result<_>>()?;
            Counts::Classes { n_classes: unit, rows }
        }
        CtrKind::BinarizedTargetMeanValue | CtrKind::FloatTargetMeanValue => {
            let pairs = numbers.chunks_exact(2).map(|pair| Ok((pair[0] as f32, whole(&pair[1])?)));
            Counts::Means(pairs.collect::<Result<_>>()?)
        }
        CtrKind::Counter | CtrKind::FeatureFreq => {
            let rows = numbers.iter().map(whole).collect::<Result<_>>()?;
            Counts::Totals { rows, denominator: counts.counter_denominator }
        }
    };
    CtrTable::new(projection, base.kind, base.classifier, hashes, counts)
}

/// Writes a file. Fails if the forest has what CatBoost does not, or a number that JSON does not.
pub(crate) fn write(file: &ModelFile) -> Result<String> {
    let (features, positions) = Features::of(file);
    let (scale, bias) = file.scale_and_bias()?;
    let all = file.forest.trees.iter().flat_map(|tree| &tree.leaves).chain(bias).chain([&scale]);
    if let Some(bad) = all.into_iter().find(|x| !x.is_finite()) {
        return Err(Error::data("leaf", "a finite number, as JSON has them", bad));
    }
    let writer = Writer { features: &features, position: &|split| positions.of(split) };
    let (mut oblivious_trees, mut trees) = (None, None);
    if file.is_oblivious()? {
        let written = file.forest.trees.iter().map(|tree| writer.oblivious(tree));
        oblivious_trees = Some(written.collect::<Result<_>>()?);
    } else {
        let width = file.forest.n_outputs;
        let written = file.forest.trees.iter().map(|tree| writer.nodes(tree, width));
        trees = Some(written.collect::<Result<_>>()?);
    }
    let mut ctr_data = BTreeMap::new();
    for table in &file.forest.ctrs.tables {
        let name = name_of(&positions.base(table))?;
        if ctr_data.insert(name, write_table(table)).is_some() {
            let expected = "no two that differ in the target's binarisation alone";
            return Err(Error::data("CTR tables", expected, "two"));
        }
    }
    let info = file.info.iter().map(|(key, text)| (key.clone(), info_value(key, text)));
    let document = Document {
        ctr_data: (!ctr_data.is_empty()).then_some(ctr_data),
        model_info: info.collect(),
        oblivious_trees,
        trees,
        scale_and_bias: Some((scale, OneOrMany::Many(bias.to_vec()))),
        features_info: write_features(&features, file)?,
    };
    serde_json::to_string(&document).map_err(|e| Error::data("model", "one with a JSON form", e))
}

/// Parameters are JSON inside JSON.
fn info_value(key: &str, text: &str) -> Value {
    let parsed = if key.ends_with("params") { serde_json::from_str(text).ok() } else { None };
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn name_of(base: &CtrBase) -> Result<String> {
    let name = NameJson { identifier: elements_of(base), r#type: base.kind.name().to_owned() };
    serde_json::to_string(&name).map_err(|e| Error::data("CTR", "one with a JSON form", e))
}

fn elements_of(base: &CtrBase) -> Vec<ElementJson> {
    let level = |&cat_feature_index: &i32| ElementJson::Level { cat_feature_index };
    let float = |&(float_feature_index, border): &(i32, f32)| ElementJson::Float {
        border: Single(border),
        float_feature_index,
    };
    let one_hot =
        |&(cat_feature_index, value): &(i32, i32)| ElementJson::OneHot { cat_feature_index, value };
    let levels = base.categoricals.iter().map(level);
    levels.chain(base.floats.iter().map(float)).chain(base.one_hots.iter().map(one_hot)).collect()
}

fn write_features(features: &Features, file: &ModelFile) -> Result<FeaturesJson> {
    let float = |float: &FloatFeature| {
        let name = NanTreatment::ALL.iter().find(|(own, _)| *own == float.nan.treatment);
        FloatJson {
            feature_index: float.index,
            flat_feature_index: float.flat,
            feature_id: float.name.clone(),
            has_nans: float.nan.has_nans,
            nan_value_treatment: name.map(|&(_, name)| name.to_owned()),
            borders: float.borders.iter().copied().map(Single).collect(),
        }
    };
    let categorical = |categorical: &Categorical| {
        let one_hot = features.one_hots.iter().find(|one_hot| one_hot.index == categorical.index);
        let names = one_hot.map(|one_hot| one_hot.names.clone());
        CategoricalJson {
            feature_index: categorical.index,
            flat_feature_index: categorical.flat,
            feature_id: categorical.name.clone(),
            values: one_hot.map(|one_hot| one_hot.values.clone()),
            string_values: names.filter(|names| !names.is_empty()),
        }
    };
    let ctr = |ctr: &CtrFeature| {
        Ok(CtrJson {
            identifier: name_of(&ctr.base)?,
            elements: elements_of(&ctr.base),
            ctr_type: ctr.base.kind.name().to_owned(),
            prior_numerator: Single(ctr.prior),
            prior_denomerator: Single(ctr.prior_denominator),
            shift: Single(ctr.shift),
            scale: Single(ctr.scale),
            target_border_idx: ctr.target_border,
            borders: ctr.borders.iter().copied().map(Single).collect(),
        })
    };
    let dictionary = file.has_dictionary.then_some(&file.names);
    let named = |(&hash, name): (&u32, &String)| NamedLevel { hash, value: name.clone() };
    Ok(FeaturesJson {
        float_features: features.floats.iter().map(float).collect(),
        categorical_features: features.categoricals.iter().map(categorical).collect(),
        ctrs: features.ctrs.iter().map(ctr).collect::<Result<_>>()?,
        cat_features_hash: dictionary.into_iter().flatten().map(named).collect(),
        ..FeaturesJson::default()
    })
}

fn write_table(table: &CtrTable) -> CountsJson {
    let (rows, denominator): (Vec<f64>, i32) = match table.counts() {
        Counts::Classes { rows, .. } => (rows.iter().copied().map(f64::from).collect(), 0),
        Counts::Totals { rows, denominator } => {
            (rows.iter().copied().map(f64::from).collect(), *denominator)
        }
        Counts::Means(rows) => {
            (rows.iter().flat_map(|&(sum, n)| [f64::from(sum), f64::from(n)]).collect(), 0)
        }
    };
    let unit = match table.counts() {
        Counts::Classes { n_classes, .. } => *n_classes,
        Counts::Totals { .. } => 1,
        Counts::Means(_) => 2,
    };
    let bucket = |(hash, counts): (&u64, &[f64])| {
        let counts = counts.iter().copied().map(Cell::Number).collect::<Vec<_>>();
        [Cell::Hash(*hash)].into_iter().chain(counts)
    };
    let hash_map = table.hashes().iter().zip(rows.chunks_exact(unit)).flat_map(bucket).collect();
    CountsJson { counter_denominator: denominator, hash_map, hash_stride: unit + 1 }
}

struct Writer<'a> {
    features: &'a Features,
    position: &'a dyn Fn(&Split) -> Result<usize>,
}

impl Writer<'_> {
    fn oblivious(&self, tree: &Tree) -> Result<ObliviousJson> {
        let splits = tree.splits().map(|split| self.split(split)).collect::<Result<_>>()?;
        let leaf_weights = tree.leaf_stats.iter().map(|stats| stats.cover).collect();
        Ok(ObliviousJson { leaf_values: tree.leaves.clone(), leaf_weights, splits })
    }

    fn nodes(&self, tree: &Tree, width: usize) -> Result<NodeJson> {
        let Trunk::Nodes(nodes) = &tree.trunk else { return Ok(NodeJson::default()) };
        let leaf = |leaf: usize| {
            let values = &tree.leaves[leaf * width..][..width];
            let value = match values {
                [one] => OneOrMany::One(*one),
                many => OneOrMany::Many(many.to_vec()),
            };
            let weight = tree.leaf_stats.get(leaf).map(|stats| stats.cover);
            NodeJson { value: Some(value), weight, ..NodeJson::default() }
        };
        // From the last node to the first: children come after their parents.
        let mut written: Vec<Option<NodeJson>> = nodes.iter().map(|_| None).collect();
        for (i, node) in nodes.iter().enumerate().rev() {
            let mut side = |child| {
                Box::new(match child {
                    Child::Leaf(at) => leaf(at),
                    Child::Node(at) => written[at].take().unwrap_or_default(),
                })
            };
            let (left, right) = (Some(side(node.left)), Some(side(node.right)));
            let split = Some(self.split(&node.split)?);
            written[i] = Some(NodeJson { split, left, right, ..NodeJson::default() });
        }
        Ok(written.into_iter().next().flatten().unwrap_or_else(|| leaf(0)))
    }

    fn split(&self, split: &Split) -> Result<SplitJson> {
        let position = (self.position)(split)?;
        let mut out = SplitJson { split_index: position as i64, ..SplitJson::default() };
        match split.test {
            Test::Hash(hash) => {
                out.split_type = Some("OneHotFeature".to_owned());
                out.cat_feature_index = Some(self.index(split.feature, true));
                out.value = Some(hash as i32);
            }
            Test::Ctr { border } => {
                out.split_type = Some("OnlineCtr".to_owned());
                out.border = Some(Single(border));
                let ctr = &self.features.ctrs[split.feature];
                out.ctr_target_border_idx = Some(ctr.target_border);
            }
            Test::AtMost { threshold, .. } => {
                out.split_type = Some("FloatFeature".to_owned());
                out.border = Some(Single(threshold as f32));
                out.float_feature_index = Some(self.index(split.feature, false));
            }
            Test::Below { .. } | Test::Among { .. } => {} // The position's search refuses them.
        }
        Ok(out)
    }

    /// The place of a column among the floats or the categoricals.
    fn index(&self, flat: usize, is_categorical: bool) -> i32 {
        let flat = flat as i32;
        let at = if is_categorical {
            self.features.categoricals.binary_search_by_key(&flat, |c| c.flat)
        } else {
            self.features.floats.binary_search_by_key(&flat, |f| f.flat)
        };
        at.map_or(-1, |at| at as i32)
    }
}
