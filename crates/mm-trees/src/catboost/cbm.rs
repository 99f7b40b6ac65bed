//! CatBoost's binary format, `.cbm`.
//!
//! # Layout
//!
//! | bytes | holds |
//! | --- | --- |
//! | 4 | the magic `CBM1` |
//! | 4 | *c*, the size of the core |
//! | *c* | the core, a FlatBuffer: features, trees, leaves, and texts about the model |
//! | | if the core names the part `static_provider_v1`: |
//! | 4 | the number of CTR tables |
//! | 4 + *t* each | the size of a table, and the table, a FlatBuffer |
//!
//! A table of counts holds its buckets in the layout of its hash table: 12 bytes a slot, the hash and
//! the position of the counts; all ones where a slot is vacant. Source: `model.fbs`,
//! `ctr_data.fbs`, `features.fbs`, and `model.cpp` of CatBoost 1.2.10.
//!
//! Refused: models with text, embedding, or estimated features, and parts other than the above.

use std::collections::BTreeMap;

use mm_core::{Error, Result};

use super::{
    file::{
        Categorical, CtrBase, CtrFeature, Features, FloatFeature, ModelFile, NanRule, NanTreatment,
        OneHot, Step, TreeReader,
    },
    flat::{Buffer, Field, Node, Table, damaged},
};
use crate::forest::{Child, Counts, CtrKind, CtrTable, Projection, Tree, Trunk};

/// What a file begins with.
pub(crate) const MAGIC: &[u8; 4] = b"CBM1";
const FORMAT: &str = "FlabuffersModel_v1"; // Sic.
const CTR_PART: &str = "static_provider_v1";

/// Where fields stand in their tables.
mod field {
    pub(super) mod core {
        pub(in super::super) const FORMAT: usize = 0;
        pub(in super::super) const TREES: usize = 1;
        pub(in super::super) const INFO: usize = 2;
        pub(in super::super) const PARTS: usize = 3;
    }
    pub(super) mod trees {
        pub(in super::super) const DIMENSION: usize = 0;
        pub(in super::super) const SPLITS: usize = 1;
        pub(in super::super) const SIZES: usize = 2;
        // 3: where the splits of each tree start, which follows from the sizes.
        pub(in super::super) const CATEGORICALS: usize = 4;
        pub(in super::super) const FLOATS: usize = 5;
        pub(in super::super) const ONE_HOTS: usize = 6;
        pub(in super::super) const CTRS: usize = 7;
        pub(in super::super) const VALUES: usize = 8;
        pub(in super::super) const WEIGHTS: usize = 9;
        pub(in super::super) const STEPS: usize = 10;
        pub(in super::super) const LEAF_OF_NODE: usize = 11;
        pub(in super::super) const TEXTS: usize = 12;
        pub(in super::super) const ESTIMATED: usize = 13;
        pub(in super::super) const SCALE: usize = 14;
        pub(in super::super) const BIAS: usize = 15;
        pub(in super::super) const BIASES: usize = 16;
        pub(in super::super) const EMBEDDINGS: usize = 18;
    }
}

/// Reads a file.
pub(crate) fn read(bytes: &[u8]) -> Result<ModelFile> {
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        let head = bytes[..bytes.len().min(4)].escape_ascii();
        return Err(damaged("a file that starts with `CBM1`", format_args!("`{head}`")));
    };
    let (core, mut rest) = take_sized(rest)?;
    let core = Buffer::new(core);
    let core = core.root()?;
    let format = core.text(field::core::FORMAT)?;
    if format != FORMAT {
        return Err(damaged(format_args!("the format `{FORMAT}`"), format_args!("`{format}`")));
    }
    let mut tables = Vec::new();
    for part in core.texts(field::core::PARTS)? {
        if part != CTR_PART {
            let got = format!("the part `{part}` (text or embedding features)");
            return Err(damaged("numeric and categorical features alone", got));
        }
        let (n_tables, after) = take_u32(rest)?;
        rest = after;
        for _ in 0..n_tables {
            let (table, after) = take_sized(rest)?;
            tables.push(table);
            rest = after;
        }
    }
    if !rest.is_empty() {
        return Err(damaged("the end of the file", format_args!("{} more bytes", rest.len())));
    }
    let trees = core.table(field::core::TREES)?.ok_or_else(|| damaged("trees", "none"))?;
    let info = core.tables(field::core::INFO)?;
    let entry = |entry: &Table<'_, '_>| Ok((entry.text(0)?.to_owned(), entry.text(1)?.to_owned()));
    let info = info.iter().map(entry).collect::<Result<BTreeMap<_, _>>>()?;
    read_model(&trees, &tables, info)
}

fn read_model(
    core: &Table<'_, '_>,
    tables: &[&[u8]],
    info: BTreeMap<String, String>,
) -> Result<ModelFile> {
    use field::trees as at;
    for (place, kind) in
        [(at::TEXTS, "text"), (at::EMBEDDINGS, "embedding"), (at::ESTIMATED, "estimated")]
    {
        let n = core.tables(place)?.len();
        if n != 0 {
            let got = format!("{n} {kind} features");
            return Err(damaged("numeric and categorical features alone", got));
        }
    }
    let buffers: Vec<Buffer<'_>> = tables.iter().map(|&table| Buffer::new(table)).collect();
    let named = |buffer| {
        let table = Buffer::root(buffer)?;
        let base = table.table(0)?.ok_or_else(|| damaged("a CTR table's name", "none"))?;
        Ok((read_base(&base)?, table))
    };
    let tables = buffers.iter().map(named).collect::<Result<_>>()?;
    let resolved = read_features(core)?.resolve(tables, read_table)?;

    let width = usize::try_from(core.i32(at::DIMENSION, 0)?).unwrap_or(0);
    let bias = core.f64s(at::BIASES)?;
    let bias = match bias.len() {
        0 if width <= 1 << 16 => vec![core.f64(at::BIAS, 0.0)?; width],
        _ => bias,
    };
    if width == 0 || bias.len() != width {
        return Err(damaged(format_args!("≥ 1 outputs, and {width} biases"), bias.len()));
    }
    let reader = TreeReader { questions: &resolved.questions, width };
    let trees = if core.vector::<4>(at::STEPS)?.is_empty() {
        read_oblivious(core, &reader)?
    } else {
        read_nodes(core, &reader)?
    };
    ModelFile::new(resolved, trees, core.f64(at::SCALE, 1.0)?, bias, info)
}

fn read_features(core: &Table<'_, '_>) -> Result<Features> {
    let mut features = Features::default();
    for float in core.tables(field::trees::FLOATS)? {
        let number = usize::from(float.u8(5, 0)?);
        let treatment = NanTreatment::ALL.get(number);
        let &(treatment, _) = treatment.ok_or_else(|| damaged("a treatment of NaN", number))?;
        features.floats.push(FloatFeature {
            nan: NanRule { has_nans: float.u8(0, 0)? != 0, treatment },
            index: float.i32(1, -1)?,
            flat: float.i32(2, -1)?,
            borders: float.f32s(3)?,
            name: float.text(4)?.to_owned(),
        });
    }
    for categorical in core.tables(field::trees::CATEGORICALS)? {
        features.categoricals.push(Categorical {
            index: categorical.i32(0, -1)?,
            flat: categorical.i32(1, -1)?,
            name: categorical.text(2)?.to_owned(),
            is_used: categorical.u8(3, 1)? != 0,
        });
    }
    for one_hot in core.tables(field::trees::ONE_HOTS)? {
        let names = one_hot.texts(2)?.into_iter().map(str::to_owned).collect();
        features.one_hots.push(OneHot {
            index: one_hot.i32(0, -1)?,
            values: one_hot.i32s(1)?,
            names,
        });
    }
    for ctr in core.tables(field::trees::CTRS)? {
        let own = ctr.table(0)?.ok_or_else(|| damaged("a CTR", "none"))?;
        let base = own.table(0)?.ok_or_else(|| damaged("a CTR's name", "none"))?;
        features.ctrs.push(CtrFeature {
            base: read_base(&base)?,
            target_border: own.i32(1, 0)?,
            prior: own.f32(2, 0.0)?,
            prior_denominator: own.f32(3, 1.0)?,
            shift: own.f32(4, 0.0)?,
            scale: own.f32(5, 1.0)?,
            borders: ctr.f32s(1)?,
        });
    }
    Ok(features)
}

fn read_base(base: &Table<'_, '_>) -> Result<CtrBase> {
    let projection = base.table(0)?.ok_or_else(|| damaged("a CTR's features", "none"))?;
    let pairs = |field| projection.vector::<8>(field);
    let index = |pair: &[u8; 8]| i32::from_le_bytes([pair[0], pair[1], pair[2], pair[3]]);
    let second = |pair: &[u8; 8]| i32::from_le_bytes([pair[4], pair[5], pair[6], pair[7]]);
    let number = usize::from(base.u8(1, 0)?);
    let kind = CtrKind::ALL.get(number).copied();
    Ok(CtrBase {
        categoricals: projection.i32s(0)?,
        floats: pairs(1)?
            .iter()
            .map(|pair| (index(pair), f32::from_bits(second(pair) as u32)))
            .collect(),
        one_hots: pairs(2)?.iter().map(|pair| (index(pair), second(pair))).collect(),
        kind: kind.ok_or_else(|| damaged("a type of CTR", number))?,
        classifier: base.i32(2, 0)?,
    })
}

/// The counts of a table; their order is that of their positions.
fn read_table(projection: Projection, base: &CtrBase, table: Table<'_, '_>) -> Result<CtrTable> {
    let numbers: &[[u8; 4]] = table.vector::<1>(2)?.as_flattened().as_chunks().0;
    let n_classes = usize::try_from(table.i32(4, 0)?).unwrap_or(0);
    let unit = match base.kind {
        CtrKind::Borders | CtrKind::Buckets => n_classes.max(1),
        CtrKind::BinarizedTargetMeanValue | CtrKind::FloatTargetMeanValue => 2,
        CtrKind::Counter | CtrKind::FeatureFreq => 1,
    };
    let n_rows = numbers.len() / unit;
    // Some rows may have no hash; they are left out.
    let mut hash_of: Vec<Option<u64>> = vec![None; n_rows];
    let slots: &[[u8; 12]] = table.vector::<1>(1)?.as_flattened().as_chunks().0;
    for slot in slots {
        let (hash, at) = slot.split_at(8);
        let hash = hash.iter().rev().fold(0, |hash, &byte| hash << 8 | u64::from(byte));
        if hash == u64::MAX {
            continue;
        }
        let at = at.iter().rev().fold(0, |at, &byte| at << 8 | usize::from(byte));
        match hash_of.get_mut(at) {
            Some(place @ None) => *place = Some(hash),
            _ => return Err(damaged(format_args!("distinct positions below {n_rows}"), at)),
        }
    }
    let hashes = hash_of.iter().flatten().copied().collect();
    let rows = numbers.chunks_exact(unit).zip(&hash_of).filter(|(_, hash)| hash.is_some());
    let rows = rows.map(|(row, _)| row);
    let whole = |bytes: &[u8; 4]| i32::from_le_bytes(*bytes);
    let counts = match base.kind {
        CtrKind::Borders | CtrKind::Buckets => {
            Counts::Classes { n_classes, rows: rows.flatten().map(whole).collect() }
        }
        CtrKind::BinarizedTargetMeanValue | CtrKind::FloatTargetMeanValue => {
            Counts::Means(rows.map(|row| (f32::from_le_bytes(row[0]), whole(&row[1]))).collect())
        }
        CtrKind::Counter | CtrKind::FeatureFreq => {
            let denominator = table.i32(3, 0)?;
            Counts::Totals { rows: rows.flatten().map(whole).collect(), denominator }
        }
    };
    CtrTable::new(projection, base.kind, base.classifier, hashes, counts)
}

/// The parts of a list that trees share, in order.
struct Shares<'a, T> {
    what: &'static str,
    rest: &'a [T],
}

impl<'a, T> Shares<'a, T> {
    fn take(&mut self, n: usize) -> Result<&'a [T]> {
        let Some((share, rest)) = self.rest.split_at_checked(n) else {
            return Err(damaged(format_args!("{n} more {}", self.what), self.rest.len()));
        };
        self.rest = rest;
        Ok(share)
    }

    fn finish(self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            n => Err(damaged(format_args!("no more {}", self.what), format_args!("{n} of them"))),
        }
    }
}

fn read_oblivious(core: &Table<'_, '_>, reader: &TreeReader<'_>) -> Result<Vec<Tree>> {
    use field::trees as at;
    let (splits, values, weights) =
        (core.i32s(at::SPLITS)?, core.f64s(at::VALUES)?, core.f64s(at::WEIGHTS)?);
    let mut splits = Shares { what: "splits", rest: &splits };
    let mut values = Shares { what: "leaf values", rest: &values };
    let has_weights = !weights.is_empty();
    let mut weights = Shares { what: "leaf weights", rest: &weights };
    let mut trees = Vec::new();
    for size in core.i32s(at::SIZES)? {
        let depth = u32::try_from(size).unwrap_or(u32::MAX);
        let n_leaves = 1_usize.checked_shl(depth);
        let n_values = n_leaves.and_then(|n| n.checked_mul(reader.width));
        let (Some(n_leaves), Some(n_values)) = (n_leaves, n_values) else {
            return Err(damaged("a possible depth of a tree", size));
        };
        let own = splits.take(depth as usize)?.iter().map(|&at| i64::from(at));
        let values = values.take(n_values)?.to_vec();
        let weights = if has_weights { weights.take(n_leaves)? } else { &[] };
        trees.push(reader.oblivious(own, values, weights)?);
    }
    splits.finish()?;
    values.finish()?;
    weights.finish()?;
    Ok(trees)
}

/// A node says how far its children lie behind it; 0 stands for a leaf, whose values the node names
/// itself.
fn read_nodes(core: &Table<'_, '_>, reader: &TreeReader<'_>) -> Result<Vec<Tree>> {
    use field::trees as at;
    let (questions, values, weights) =
        (core.i32s(at::SPLITS)?, core.f64s(at::VALUES)?, core.f64s(at::WEIGHTS)?);
    let steps: Vec<[usize; 2]> = (core.vector::<4>(at::STEPS)?.iter())
        .map(|&[a, b, c, d]| [[a, b], [c, d]].map(|pair| usize::from(u16::from_le_bytes(pair))))
        .collect();
    let leaves = core.vector::<4>(at::LEAF_OF_NODE)?;
    if questions.len() != steps.len() || leaves.len() != steps.len() {
        let got = format!("{} splits, {} leaves", questions.len(), leaves.len());
        return Err(damaged(format_args!("{} of each for as many nodes", steps.len()), got));
    }
    let mut is_met = vec![[false; 2]; steps.len()];
    let (mut first, mut trees) = (0, Vec::new());
    for size in core.i32s(at::SIZES)? {
        let end = usize::try_from(size).ok().and_then(|size| usize::checked_add(first, size));
        let end = end.filter(|&end| first < end && end <= steps.len());
        let end = end.ok_or_else(|| damaged("a possible size of a tree", size))?;
        // A node, and whether its own leaf is meant.
        let step = |(node, is_leaf): (usize, bool)| {
            if end <= node {
                return Err(damaged(format_args!("a node below {end}"), node));
            }
            let [left, right] = steps[node];
            let is_leaf = is_leaf || (left, right) == (0, 0);
            if std::mem::replace(&mut is_met[node][usize::from(is_leaf)], true) {
                return Err(damaged("a tree", format_args!("two ways to node {node}")));
            }
            if is_leaf {
                return Ok(Step::Leaf(node));
            }
            let child = |step: usize| (node + step, step == 0);
            Ok(Step::Ask(questions[node].into(), child(left), child(right)))
        };
        let leaf = |node: usize, out: &mut Vec<f64>| {
            let at = u32::from_le_bytes(leaves[node]) as usize;
            let own = values.get(at..).and_then(|rest| rest.get(..reader.width));
            let own = own.filter(|_| at.is_multiple_of(reader.width));
            out.extend(own.ok_or_else(|| damaged("the place of a leaf", at))?);
            let weight = weights.get(at / reader.width).copied();
            if weight.is_none() && !weights.is_empty() {
                return Err(damaged("a weight for each leaf", weights.len()));
            }
            Ok(weight)
        };
        trees.push(reader.nodes((first, false), step, leaf)?);
        first = end;
    }
    if first != steps.len() {
        return Err(damaged(format_args!("{first} nodes"), steps.len()));
    }
    Ok(trees)
}

fn take_u32(bytes: &[u8]) -> Result<(usize, &[u8])> {
    let (head, rest) = bytes
        .split_first_chunk()
        .ok_or_else(|| damaged("4 more bytes", format_args!("{} bytes", bytes.len())))?;
    Ok((u32::from_le_bytes(*head) as usize, rest))
}

fn take_sized(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let (size, rest) = take_u32(bytes)?;
    let got = format_args!("{} bytes", rest.len()).to_string();
    rest.split_at_checked(size).ok_or_else(|| damaged(format_args!("{size} more bytes"), got))
}

/// Writes a file. Fails if the forest has what CatBoost does not.
pub(crate) fn write(file: &ModelFile) -> Result<Vec<u8>> {
    let (features, positions) = Features::of(file);
    let trees = write_trees(file, &features, |split| positions.of(split))?;
    let entry = |(key, value)| {
        Node::Table(vec![Field::Node(Node::Text(key)), Field::Node(Node::Text(value))])
    };
    let info: Vec<Node<'_>> =
        file.info.iter().map(|(key, value)| entry((key.as_str(), value.as_str()))).collect();
    let tables = &file.forest.ctrs.tables;
    let parts = if tables.is_empty() { vec![] } else { vec![Node::Text(CTR_PART)] };
    let core = Node::Table(vec![
        Field::Node(Node::Text(FORMAT)),
        Field::Node(Node::Table(trees)),
        Field::Node(Node::List(info)),
        Field::Node(Node::List(parts)),
    ]);
    let mut out = MAGIC.to_vec();
    put_sized(&core.write()?, &mut out);
    if !tables.is_empty() {
        out.extend((tables.len() as u32).to_le_bytes());
        let mut named: Vec<_> = tables.iter().map(|table| (positions.base(table), table)).collect();
        named.sort_by_cached_key(|(base, _)| base.key());
        for (base, table) in named {
            put_sized(&write_table(&base, table).write()?, &mut out);
        }
    }
    Ok(out)
}

fn put_sized(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

fn write_trees<'a>(
    file: &ModelFile,
    features: &'a Features,
    position: impl Fn(&crate::forest::Split) -> Result<usize>,
) -> Result<Vec<Field<'a>>> {
    let (scale, bias) = file.scale_and_bias()?;
    file.is_oblivious()?;
    let width = file.forest.n_outputs;
    let (mut splits, mut sizes, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
    let (mut steps, mut leaf_of_node) = (Vec::<u8>::new(), Vec::<i32>::new());
    let (mut values, mut weights) = (Vec::new(), Vec::new());
    let has_weights = file.forest.trees.iter().all(|tree| !tree.leaf_stats.is_empty());
    for tree in &file.forest.trees {
        let (first, first_value) = (splits.len(), values.len());
        match &tree.trunk {
            Trunk::Oblivious(own) => {
                for split in &own.levels {
                    splits.push(position(split)? as i32);
                }
            }
            Trunk::Nodes(nodes) => {
                let mut put = |split, left: usize, right: usize, leaf: i32| {
                    splits.push(split);
                    let pair = [left, right].map(|step| u16::try_from(step).ok());
                    let [Some(left), Some(right)] = pair else {
                        return Err(Error::data("tree", "below 2¹⁶ nodes", left.max(right)));
                    };
                    steps.extend([left.to_le_bytes(), right.to_le_bytes()].as_flattened());
                    leaf_of_node.push(leaf);
                    Ok(())
                };
                // Inner nodes keep their places; leaves follow.
                let n = nodes.len();
                for (i, node) in nodes.iter().enumerate() {
                    let step = |child| match child {
                        Child::Node(node) => node - i,
                        Child::Leaf(leaf) => n + leaf - i,
                    };
                    put(position(&node.split)? as i32, step(node.left), step(node.right), -1)?;
                }
                for leaf in 0..tree.leaves.len() / width {
                    put(0, 0, 0, (first_value + leaf * width) as i32)?;
                }
            }
        }
        offsets.push(first as i32);
        sizes.push((splits.len() - first) as i32);
        values.extend(&tree.leaves);
        if has_weights {
            weights.extend(tree.leaf_stats.iter().map(|stats| stats.cover));
        }
    }
    let bins = features.bins();
    let bins = splits.iter().flat_map(|&at| bins.get(at as usize).copied().unwrap_or_default());
    let bins = bins.collect();
    Ok(vec![
        Field::Int(width as i32),
        Field::Node(Node::i32s(splits)),
        Field::Node(Node::i32s(sizes)),
        Field::Node(Node::i32s(offsets)),
        Field::Node(Node::List(features.categoricals.iter().map(write_categorical).collect())),
        Field::Node(Node::List(features.floats.iter().map(write_float).collect())),
        Field::Node(Node::List(features.one_hots.iter().map(write_one_hot).collect())),
        Field::Node(Node::List(features.ctrs.iter().map(write_ctr).collect())),
        Field::Node(Node::f64s(values)),
        Field::Node(Node::f64s(weights)),
        Field::Node(Node::Vector { size: 4, bytes: steps }),
        Field::Node(Node::i32s(leaf_of_node)),
        Field::Node(Node::List(Vec::new())),
        Field::Node(Node::List(Vec::new())),
        Field::Double(scale),
        Field::Absent,
        Field::Node(Node::f64s(bias.iter().copied())),
        Field::Node(Node::Vector { size: 4, bytes: bins }),
        Field::Node(Node::List(Vec::new())),
    ])
}

impl Features {
    /// What CatBoost's evaluator compares for each question, by position: the number of the byte
    /// that it has quantised a feature to (16 bits), a mask, and a limit.
    fn bins(&self) -> Vec<[u8; 4]> {
        /// How many questions share a byte.
        const SHARE: usize = 254;
        let mut bins = Vec::new();
        let mut first = 0_usize;
        let mut put = |n: usize, is_one_hot: bool| {
            for i in 0..n {
                let [low, high] = ((first + i / SHARE) as u16).to_le_bytes();
                let limit = (i % SHARE + 1) as u8;
                bins.push(if is_one_hot {
                    [low, high, !limit, 0xff]
                } else {
                    [low, high, 0, limit]
                });
            }
            first += n.div_ceil(SHARE);
        };
        self.floats.iter().for_each(|float| put(float.borders.len(), false));
        self.one_hots.iter().for_each(|one_hot| put(one_hot.values.len(), true));
        self.ctrs.iter().for_each(|ctr| put(ctr.borders.len(), false));
        bins
    }
}

fn write_float(float: &FloatFeature) -> Node<'_> {
    let treatment = float.nan.treatment;
    let number = NanTreatment::ALL.iter().position(|&(own, _)| own == treatment);
    Node::Table(vec![
        Field::Byte(u8::from(float.nan.has_nans)),
        Field::Int(float.index),
        Field::Int(float.flat),
        Field::Node(Node::f32s(float.borders.iter().copied())),
        Field::Node(Node::Text(&float.name)),
        Field::Byte(number.unwrap_or_default() as u8),
    ])
}

fn write_categorical(categorical: &Categorical) -> Node<'_> {
    Node::Table(vec![
        Field::Int(categorical.index),
        Field::Int(categorical.flat),
        Field::Node(Node::Text(&categorical.name)),
        Field::Byte(u8::from(categorical.is_used)),
    ])
}

fn write_one_hot(one_hot: &OneHot) -> Node<'_> {
    Node::Table(vec![
        Field::Int(one_hot.index),
        Field::Node(Node::i32s(one_hot.values.iter().copied())),
        Field::Node(Node::List(one_hot.names.iter().map(|name| Node::Text(name)).collect())),
    ])
}

fn write_ctr(ctr: &CtrFeature) -> Node<'_> {
    let own = Node::Table(vec![
        Field::Node(write_base(&ctr.base)),
        Field::Int(ctr.target_border),
        Field::Single(ctr.prior),
        Field::Single(ctr.prior_denominator),
        Field::Single(ctr.shift),
        Field::Single(ctr.scale),
    ]);
    Node::Table(vec![Field::Node(own), Field::Node(Node::f32s(ctr.borders.iter().copied()))])
}

fn write_base<'a>(base: &CtrBase) -> Node<'a> {
    let pair = |index: i32, second: [u8; 4]| [index.to_le_bytes(), second].into_iter().flatten();
    let floats = base.floats.iter().flat_map(|&(index, border)| pair(index, border.to_le_bytes()));
    let levels = base.one_hots.iter().flat_map(|&(index, value)| pair(index, value.to_le_bytes()));
    let number = CtrKind::ALL.iter().position(|&kind| kind == base.kind).unwrap_or_default();
    let projection = Node::Table(vec![
        Field::Node(Node::i32s(base.categoricals.iter().copied())),
        Field::Node(Node::Vector { size: 8, bytes: floats.collect() }),
        Field::Node(Node::Vector { size: 8, bytes: levels.collect() }),
    ]);
    Node::Table(vec![
        Field::Node(projection),
        Field::Byte(number as u8),
        Field::Int(base.classifier),
    ])
}

fn write_table<'a>(base: &CtrBase, table: &CtrTable) -> Node<'a> {
    let slot = |slot: Option<(u64, u32)>| {
        // CatBoost leaves the position of a vacant slot at 0.
        let (hash, at) = slot.unwrap_or((u64::MAX, 0));
        hash.to_le_bytes().into_iter().chain(at.to_le_bytes())
    };
    let (counts, denominator, n_classes): (Vec<u8>, i32, usize) = match table.counts() {
        Counts::Classes { n_classes, rows } => {
            (rows.iter().flat_map(|n| n.to_le_bytes()).collect(), 0, *n_classes)
        }
        Counts::Totals { rows, denominator } => {
            (rows.iter().flat_map(|n| n.to_le_bytes()).collect(), *denominator, 0)
        }
        Counts::Means(rows) => {
            let row = |&(sum, n): &(f32, i32)| [sum.to_le_bytes(), n.to_le_bytes()];
            (rows.iter().flat_map(row).flatten().collect(), 0, 0)
        }
    };
    let slots = table.slots().flat_map(slot).collect();
    Node::Table(vec![
        Field::Node(write_base(base)),
        Field::Node(Node::Vector { size: 1, bytes: slots }),
        Field::Node(Node::Vector { size: 1, bytes: counts }),
        Field::Int(denominator),
        Field::Int(n_classes as i32),
    ])
}
