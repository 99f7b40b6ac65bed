//! From grown trees to a model: splits by value, tables of counts over all training rows, and what
//! files say about a model.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use mm_core::{Result, Schema, Task};
use serde_json::json;

use super::{
    super::{
        file::{About, ModelFile, NanRule, NanTreatment},
        hash::Chain,
    },
    boost::{Booster, Grown},
    ctr::{CTR_BORDERS, CtrColumn, Projection, StatisticKind},
    loss::Loss,
    quantize::NanSide,
    structure::{self, Split, Structure},
};
use crate::forest::{
    self, Counts, Ctr, CtrKind, CtrTable, Ctrs, Feature, Forest, LeafStats, Link, Missing, Node,
    NodeStats, Oblivious, Outputs, Sum, Test, Tree, Trunk,
};

/// What a split on a statistic adds to the bin that it asks for: bins are whole parts.
const CEILING: f32 = 0.999_999;

/// The trees of a model in the making, and the statistics that they ask for.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    pub(super) trees: Vec<Tree>,
    /// The factor of each round on all trees before it.
    shrinkage: Vec<f64>,
    pub(super) ctrs: Ctrs,
    tables: HashMap<(Arc<Projection>, CtrKind), usize>,
    list: HashMap<(usize, usize, u32), usize>,
}

impl Assembly {
    /// Adds a tree, with the tables of statistics that are new.
    pub(super) fn add(&mut self, booster: &Booster, grown: &Grown) -> Result<()> {
        let n_outputs = grown.leaves.len() / grown.weights.len();
        let mut order: Vec<usize> = (0..grown.weights.len()).collect();
        let trunk = match &grown.structure {
            Structure::Symmetric(splits) => {
                let levels = splits.iter().map(|split| self.split(booster, split));
                Trunk::Oblivious(Oblivious { levels: levels.collect::<Result<_>>()? })
            }
            Structure::Nodes(nodes) => {
                let (nodes, walked) = structure::in_walk_order(nodes);
                order = walked;
                let node = |node: &structure::Node| {
                    let split = self.split(booster, &node.split)?;
                    let (left, right) = (node.left, node.right);
                    Ok(Node { split, left, right, stats: NodeStats::default() })
                };
                Trunk::Nodes(nodes.iter().map(node).collect::<Result<_>>()?)
            }
        };
        let stats = |&leaf: &usize| LeafStats { cover: grown.weights[leaf], count: 0.0 };
        let values = |&leaf: &usize| &grown.leaves[leaf * n_outputs..][..n_outputs];
        self.shrinkage.push(grown.shrinkage);
        self.trees.push(Tree {
            trunk,
            leaf_stats: order.iter().map(stats).collect(),
            leaves: order.iter().flat_map(values).copied().collect(),
            linear: Vec::new(),
            outputs: Outputs::All,
            weight: 1.0,
        });
        Ok(())
    }

    /// The factor of the last round on what was before it.
    pub(super) fn last_shrinkage(&self) -> f64 {
        self.shrinkage.last().copied().unwrap_or(1.0)
    }

    /// Ends with the first `n` trees, and the statistics that these ask for. Shrinks each tree, and
    /// `bias`, by the rounds after it.
    pub(super) fn truncate(&mut self, n: usize, bias: &mut f64) {
        self.trees.truncate(n);
        let mut factor = 1.0;
        for (tree, by) in self.trees.iter_mut().zip(&self.shrinkage).rev() {
            tree.leaves.iter_mut().for_each(|leaf| *leaf *= factor);
            factor *= by;
        }
        *bias *= factor;
        let mut kept = Ctrs::default();
        let (mut new_ctr, mut new_table) = (HashMap::new(), HashMap::new());
        for tree in &mut self.trees {
            let splits: Vec<&mut forest::Split> = match &mut tree.trunk {
                Trunk::Oblivious(trunk) => trunk.levels.iter_mut().collect(),
                Trunk::Nodes(nodes) => nodes.iter_mut().map(|node| &mut node.split).collect(),
            };
            for split in splits.into_iter().filter(|s| matches!(s.test, Test::Ctr { .. })) {
                split.feature = *new_ctr.entry(split.feature).or_insert_with(|| {
                    let mut ctr = self.ctrs.list[split.feature];
                    ctr.table = *new_table.entry(ctr.table).or_insert_with(|| {
                        kept.tables.push(Arc::clone(&self.ctrs.tables[ctr.table]));
                        kept.tables.len() - 1
                    });
                    kept.list.push(ctr);
                    kept.list.len() - 1
                });
            }
        }
        self.ctrs = kept;
    }

    fn split(&mut self, booster: &Booster, split: &Split) -> Result<forest::Split> {
        Ok(match split {
            Split::Border { column, border } => border_split(booster, *column, *border),
            Split::Level { column, code } => level_split(booster, *column, *code),
            Split::Ctr { projection, column, border } => {
                let ctr = booster.statistics(projection)[*column as usize];
                let feature = self.ctr(booster, projection, ctr)?;
                let border = *border as f32 + CEILING;
                forest::Split { feature, test: Test::Ctr { border } }
            }
        })
    }

    /// The place of a statistic in the list.
    fn ctr(
        &mut self,
        booster: &Booster,
        projection: &Arc<Projection>,
        column: CtrColumn,
    ) -> Result<usize> {
        let key = (Arc::clone(projection), column.kind.ctr());
        let table = if let Some(&table) = self.tables.get(&key) {
            table
        } else {
            self.ctrs.tables.push(Arc::new(count(booster, projection, column.kind)?));
            self.tables.insert(key, self.ctrs.tables.len() - 1);
            self.ctrs.tables.len() - 1
        };
        let key = (table, column.target_border, column.prior.to_bits());
        Ok(*self.list.entry(key).or_insert_with(|| {
            let (shift, norm) = column.shift_and_norm();
            self.ctrs.list.push(Ctr {
                table,
                target_border: column.target_border,
                prior: column.prior,
                prior_denominator: 1.0,
                shift,
                scale: f32::from(CTR_BORDERS) / norm,
            });
            self.ctrs.list.len() - 1
        }))
    }
}

fn border_split(booster: &Booster, column: u32, border: u32) -> forest::Split {
    let numeric = &booster.table().numeric[column as usize];
    let threshold = f64::from(numeric.borders.values[border as usize]);
    let missing = Missing::Nan { left: numeric.borders.nan != NanSide::Above };
    forest::Split { feature: numeric.column, test: Test::AtMost { threshold, missing } }
}

fn level_split(booster: &Booster, column: u32, code: u32) -> forest::Split {
    let categorical = &booster.table().categorical[column as usize];
    let hash = categorical.hashes[code as usize].expect("the unknown level is never asked for");
    forest::Split { feature: categorical.column, test: Test::Hash(hash) }
}

/// Counts the buckets of a projection over all rows. Rows of an unknown level are in none.
fn count(booster: &Booster, projection: &Projection, kind: StatisticKind) -> Result<CtrTable> {
    let (table, classes) = (booster.table(), booster.classes());
    let buckets = table.buckets(projection);
    let columns: Vec<_> =
        projection.columns.iter().map(|&column| &table.categorical[column as usize]).collect();
    let hash = |row: usize| {
        let mut chain = Chain::default();
        for categorical in &columns {
            chain = chain.level(categorical.hashes[categorical.codes[row] as usize]?);
        }
        for &(column, border) in &projection.borders {
            let bin = table.numeric[column as usize].bins[row];
            chain = chain.answer(border < u32::from(bin));
        }
        for &(column, code) in &projection.levels {
            chain = chain.answer(table.categorical[column as usize].codes[row] == code);
        }
        Some(chain.value())
    };
    // Buckets in the order of their first rows.
    let mut places: HashMap<u32, Option<usize>> = HashMap::new();
    let mut hashes = Vec::new();
    let (mut by_class, mut totals, mut means) = (Vec::new(), Vec::new(), Vec::new());
    for (row, &bucket) in buckets.of_row.iter().enumerate() {
        let place = *places.entry(bucket).or_insert_with(|| {
            hashes.push(hash(row)?);
            by_class.resize(hashes.len() * classes.n, 0_i32);
            totals.push(0_i32);
            means.push((0.0_f32, 0_i32));
            Some(hashes.len() - 1)
        });
        let Some(place) = place else { continue };
        let class = usize::from(classes.of_row[row]);
        by_class[place * classes.n + class] += 1;
        totals[place] += 1;
        means[place].0 += class as f32 / (classes.n - 1) as f32;
        means[place].1 += 1;
    }
    let counts = match kind {
        StatisticKind::Borders | StatisticKind::Buckets => {
            Counts::Classes { n_classes: classes.n, rows: by_class }
        }
        StatisticKind::BinarizedTargetMean => Counts::Means(means),
        StatisticKind::Counter => {
            let denominator = totals.iter().copied().max().unwrap_or(0);
            Counts::Totals { rows: totals, denominator }
        }
    };
    let borders = projection.borders.iter().map(|&(j, border)| border_split(booster, j, border));
    let levels = projection.levels.iter().map(|&(j, code)| level_split(booster, j, code));
    let projection = forest::Projection {
        levels: columns.iter().map(|categorical| categorical.column).collect(),
        questions: borders.chain(levels).collect(),
    };
    // CatBoost numbers the ways in which targets become classes, of which counters need none.
    let classifier = i32::from(kind != StatisticKind::Counter);
    CtrTable::new(projection, kind.ctr(), classifier, hashes, counts)
}

/// What files say of each column's missing values.
fn nans(booster: &Booster, n_columns: usize) -> Vec<NanRule> {
    let mut rules = vec![NanRule::default(); n_columns];
    for numeric in &booster.table().numeric {
        let treatment = match numeric.borders.nan {
            NanSide::AsIs => NanTreatment::AsIs,
            NanSide::Below => NanTreatment::Least,
            NanSide::Above => NanTreatment::Greatest,
        };
        rules[numeric.column] =
            NanRule { has_nans: numeric.borders.nan != NanSide::AsIs, treatment };
    }
    rules
}

/// CatBoost's description of a loss.
fn description(loss: Loss, is_logloss: bool) -> serde_json::Value {
    let (name, params) = match loss {
        Loss::CrossEntropy if is_logloss => ("Logloss", json!({})),
        Loss::CrossEntropy => ("CrossEntropy", json!({})),
        Loss::Rmse => ("RMSE", json!({})),
        Loss::Quantile { level: 0.5 } => ("MAE", json!({})),
        Loss::Quantile { level } => ("Quantile", json!({ "alpha": level.to_string() })),
        Loss::Huber { delta } => ("Huber", json!({ "delta": delta.to_string() })),
        Loss::Expectile { level } => ("Expectile", json!({ "alpha": level.to_string() })),
        Loss::Poisson => ("Poisson", json!({})),
        Loss::Tweedie { power } => ("Tweedie", json!({ "variance_power": power.to_string() })),
        Loss::MultiClass(_) => ("MultiClass", json!({})),
        Loss::OneVsAll(_) => ("MultiClassOneVsAll", json!({})),
    };
    json!({ "type": name, "params": params })
}

/// The texts that a file holds about its model.
pub(super) fn info(loss: Loss, is_logloss: bool, task: &Task) -> BTreeMap<String, String> {
    let params = json!({ "loss_function": description(loss, is_logloss) });
    let mut info = BTreeMap::from([("params".to_owned(), params.to_string())]);
    if let Some(names) = task.class_names() {
        let classes = json!({
            "class_label_type": "String",
            "class_names": names,
            "class_to_label": (0..names.len()).collect::<Vec<_>>(),
            "classes_count": 0,
        });
        info.insert("class_params".to_owned(), classes.to_string());
    }
    info
}

/// The model file of an assembly.
pub(super) fn file(
    assembly: Assembly,
    booster: &Booster,
    schema: &Schema,
    bias: Vec<f64>,
    info: BTreeMap<String, String>,
) -> ModelFile {
    let columns = schema.columns();
    let feature = |column: &mm_core::Column| Feature {
        name: column.name.clone(),
        is_categorical: column.levels().is_some(),
    };
    let forest = Forest {
        features: columns.iter().map(feature).collect(),
        n_outputs: bias.len(),
        trees: assembly.trees,
        trees_per_round: 1,
        sum: Sum::Scaled { scale: 1.0, bias },
        link: Link::Identity, // The model takes it from the loss.
        ctrs: assembly.ctrs,
    };
    let nans = nans(booster, columns.len());
    ModelFile { forest, about: About { nans, info, ..About::default() } }
}
