//! From levels to numbers: what makes of CatBoost's forests such as any kernel evaluates.
//!
//! [`Forest::bind`] gives, for the dictionaries of a schema, a forest without hashes and CTRs, and an
//! [`Encoder`] that appends the CTRs' values to rows: whatever evaluates thresholds and sets of codes
//! evaluates CatBoost's models, too.
//!
//! # Cost
//!
//! The values of a CTR of one feature stand in a table by code: one access. A CTR of a combination is
//! a chain of multiplications and a search in a hash table. For many rows they are computed group by
//! group, so that a table is fetched once for all rows of a block, and rows do not wait for one
//! another. What one table gives is computed beforehand, up to [`MAX_VALUES`] in all.

use std::sync::Arc;

use mm_core::{Column, Schema};

use super::{
    CategorySet, Feature, Forest,
    ctr::{Ctr, CtrTable, Ctrs, Projection},
    tree::{Missing, Split, Test, Trunk},
};
use crate::catboost::hash::{self, Chain, Part};

/// The most values that are computed beforehand, 64 MiB; what is beyond is computed for each row.
const MAX_VALUES: usize = 1 << 24;

/// The hash of every level of a column, in code order.
///
/// A missing cell is the level with the empty name: that is how CatBoost reads one from a text file,
/// and how the trainer hashes it.
#[derive(Debug, Clone, PartialEq, Default)]
struct LevelHashes {
    is_numeric: bool,
    hashes: Vec<u32>,
    missing: u32,
}

impl LevelHashes {
    fn of_cell(&self, cell: f32) -> Option<u32> {
        match self.place_of(cell) {
            at if at < self.hashes.len() => Some(self.hashes[at]),
            at => (at == self.hashes.len()).then_some(self.missing),
        }
    }

    /// The code in a cell; after the last, one for missing cells and one for unknown levels.
    fn place_of(&self, cell: f32) -> usize {
        let n = self.hashes.len();
        match cell {
            _ if cell.is_nan() => n,
            _ if 0.0 <= cell && (cell as usize) < n => cell as usize,
            _ => n + 1,
        }
    }
}

/// Appends the values of CTRs to rows; made by [`Forest::bind`].
#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    width: usize,
    n_ctrs: usize,
    levels: Vec<LevelHashes>, // One a feature; empty for numeric ones.
    groups: Vec<Group>,       // In the order of their CTRs.
}

/// Consecutive CTRs of one projection.
#[derive(Debug, Clone)]
struct Group {
    first: usize, // The column of the first of them.
    n_ctrs: usize,
    how: How,
}

#[derive(Debug, Clone)]
enum How {
    /// By the code of one feature: values of shape (levels + 2, CTRs), the last two rows being those
    /// of missing cells and of unknown levels.
    Code { feature: usize, values: Vec<f32> },
    /// By the hash of several.
    Hash { projection: Projection, tables: Vec<Valued> },
}

/// CTRs of one table.
#[derive(Debug, Clone)]
struct Valued {
    table: Arc<CtrTable>,
    ctrs: Vec<Ctr>,
    values: Vec<f32>, // Of shape (CTRs, buckets + 1), the last being no bucket; or empty.
}

/// What a block of rows needs; kept from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    columns: Vec<f32>,      // Of shape (features, rows).
    parts: Vec<Part>,       // The levels of categorical features, of the same shape.
    has_unknown: Vec<bool>, // Whether a feature has an unknown level.
    chains: Vec<Chain>,
    buckets: Vec<u32>,
}

impl Encoder {
    /// The width of an encoded row: the features', and then one for each CTR.
    pub(crate) fn n_cols(&self) -> usize {
        self.width + self.n_ctrs
    }

    /// Whether rows stay as they are.
    pub(crate) fn is_identity(&self) -> bool {
        self.n_ctrs == 0
    }

    /// Fills `out`, of length [`n_cols`](Encoder::n_cols), with the features of `row` and the values
    /// of the CTRs. Allocates nothing.
    pub(crate) fn encode(&self, row: &[f32], out: &mut [f32]) {
        out[..self.width].copy_from_slice(row);
        for Group { first, n_ctrs, how } in &self.groups {
            let out = &mut out[*first..][..*n_ctrs];
            match how {
                How::Code { feature, values } => {
                    let at = self.levels[*feature].place_of(row[*feature]);
                    out.copy_from_slice(&values[at * n_ctrs..][..*n_ctrs]);
                }
                How::Hash { projection, tables } => {
                    let chain = self.chain(projection, row);
                    let mut out = out.iter_mut();
                    for valued in tables {
                        let bucket = chain.map_or(valued.n_buckets(), |chain| valued.bucket(chain));
                        let values = (0..valued.ctrs.len()).map(|i| valued.value(i, bucket));
                        out.by_ref().zip(values).for_each(|(out, value)| *out = value);
                    }
                }
            }
        }
    }

    /// As [`encode`](Encoder::encode), of as many `rows` as `out` has room for.
    pub(crate) fn encode_rows<'a>(
        &self,
        rows: impl Iterator<Item = &'a [f32]>,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (n_cols, n) = (self.n_cols(), out.len() / self.n_cols());
        scratch.columns.resize(self.width * n, 0.0);
        // `rows` last, so that none is taken for which there is no room.
        for ((i, out), row) in out.chunks_exact_mut(n_cols).enumerate().zip(rows) {
            out[..self.width].copy_from_slice(row);
            for (j, &cell) in row.iter().enumerate() {
                scratch.columns[j * n + i] = cell;
            }
        }
        self.look_up(scratch, n);
        for Group { first, n_ctrs, how } in &self.groups {
            match how {
                How::Code { feature, values } => {
                    let column = &scratch.columns[feature * n..][..n];
                    for (&cell, out) in column.iter().zip(out.chunks_exact_mut(n_cols)) {
                        let at = self.levels[*feature].place_of(cell);
                        out[*first..][..*n_ctrs].copy_from_slice(&values[at * n_ctrs..][..*n_ctrs]);
                    }
                }
                How::Hash { projection, tables } => {
                    self.chains(projection, scratch, n);
                    let mut first = *first;
                    for valued in tables {
                        scratch.buckets.clear();
                        let buckets =
                            scratch.chains.iter().map(|&chain| valued.bucket(chain) as u32);
                        scratch.buckets.extend(buckets);
                        self.forget_unknown(projection, scratch, n, valued.n_buckets() as u32);
                        for i in 0..valued.ctrs.len() {
                            let rows = scratch.buckets.iter().zip(out.chunks_exact_mut(n_cols));
                            for (&bucket, out) in rows {
                                out[first + i] = valued.value(i, bucket as usize);
                            }
                        }
                        first += valued.ctrs.len();
                    }
                }
            }
        }
    }

    /// The hash of a row's bucket; none if a level is unknown.
    fn chain(&self, projection: &Projection, row: &[f32]) -> Option<Chain> {
        let level = |chain: Chain, &feature: &usize| {
            self.levels[feature].of_cell(row[feature]).map(|hash| chain.level(hash))
        };
        let chain = projection.levels.iter().try_fold(Chain::default(), level)?;
        let answer = |chain: Chain, question: &Split| {
            chain.answer(self.goes_right(question, row[question.feature]))
        };
        Some(projection.questions.iter().fold(chain, answer))
    }

    /// The levels of a block of rows, once for all projections.
    fn look_up(&self, scratch: &mut Scratch, n: usize) {
        let Scratch { columns, parts, has_unknown, .. } = scratch;
        parts.resize(self.width * n, Part::default());
        has_unknown.clear();
        let features = columns.chunks_exact(n).zip(parts.chunks_exact_mut(n));
        for (levels, (cells, parts)) in self.levels.iter().zip(features) {
            let mut any = false;
            if !levels.is_numeric {
                for (part, &cell) in parts.iter_mut().zip(cells) {
                    let hash = levels.of_cell(cell);
                    any |= hash.is_none();
                    *part = Part::level(hash.unwrap_or_default());
                }
            }
            has_unknown.push(any);
        }
    }

    /// As [`chain`](Encoder::chain), of `n` rows, where unknown levels count as any.
    fn chains(&self, projection: &Projection, scratch: &mut Scratch, n: usize) {
        let Scratch { columns, parts, chains, .. } = scratch;
        chains.clear();
        chains.resize(n, Chain::default());
        for &feature in &projection.levels {
            for (chain, &part) in chains.iter_mut().zip(&parts[feature * n..]) {
                *chain = chain.with(part);
            }
        }
        for question in &projection.questions {
            let rows = chains.iter_mut().zip(&columns[question.feature * n..]);
            // What the usual questions are is decided once, and not for each row.
            match question.test {
                Test::AtMost { threshold, missing: Missing::Nan { left: true } } => {
                    rows.for_each(|(chain, &cell)| {
                        *chain = chain.answer(threshold < f64::from(cell));
                    });
                }
                _ => rows.for_each(|(chain, &cell)| {
                    *chain = chain.answer(self.goes_right(question, cell));
                }),
            }
        }
    }

    /// Takes the bucket from rows in which a level is unknown.
    fn forget_unknown(&self, projection: &Projection, scratch: &mut Scratch, n: usize, none: u32) {
        for &feature in projection.levels.iter().filter(|&&feature| scratch.has_unknown[feature]) {
            let unknown = self.levels[feature].hashes.len() + 1;
            for (bucket, &cell) in scratch.buckets.iter_mut().zip(&scratch.columns[feature * n..]) {
                if self.levels[feature].place_of(cell) == unknown {
                    *bucket = none;
                }
            }
        }
    }

    fn goes_right(&self, question: &Split, cell: f32) -> bool {
        match question.test {
            Test::Hash(hash) => self.levels[question.feature].of_cell(cell) == Some(hash),
            _ => !question.test.goes_left(cell).unwrap_or_default(),
        }
    }

    /// The hashes of a row's levels, one a feature: what the definitions take.
    #[cfg(test)]
    pub(crate) fn hashes(&self, row: &[f32]) -> Vec<Option<u32>> {
        self.levels.iter().zip(row).map(|(levels, &cell)| levels.of_cell(cell)).collect()
    }
}

impl Valued {
    fn n_buckets(&self) -> usize {
        self.table.hashes().len()
    }

    /// The bucket of a hash; as many as there are buckets, if it has none.
    fn bucket(&self, chain: Chain) -> usize {
        self.table.find(chain.value()).unwrap_or(self.n_buckets())
    }

    fn value(&self, ctr: usize, bucket: usize) -> f32 {
        let n_rows = self.n_buckets() + 1;
        if self.values.is_empty() {
            return self.table.value(&self.ctrs[ctr], self.table.bucket(bucket));
        }
        self.values[ctr * n_rows + bucket]
    }
}

impl Forest {
    /// Whether a split asks for what only names of levels tell: a hash, or a CTR.
    pub(crate) fn asks_levels(&self) -> bool {
        self.splits().any(|split| matches!(split.test, Test::Hash(_) | Test::Ctr { .. }))
    }

    /// The same forest over rows that [`Encoder`] has encoded, with the dictionaries of `schema`,
    /// which has a column for each feature: hashes become sets of codes, and CTRs become columns
    /// after the features.
    pub(crate) fn bind(&self, schema: &Schema) -> (Self, Encoder) {
        let levels: Vec<LevelHashes> = schema.columns().iter().map(hashes_of).collect();
        let encoder = self.encoder(levels);
        let ctr = |i| Feature { name: format!("ctr {i}"), is_categorical: false };
        let ctrs = (0..self.ctrs.list.len()).map(ctr);
        let mut bound = Self {
            features: self.features.iter().cloned().chain(ctrs).collect(),
            n_outputs: self.n_outputs,
            trees: self.trees.clone(),
            trees_per_round: self.trees_per_round,
            sum: self.sum.clone(),
            link: self.link,
            ctrs: Ctrs::default(),
        };
        for tree in &mut bound.trees {
            let splits: &mut dyn Iterator<Item = &mut Split> = match &mut tree.trunk {
                Trunk::Nodes(nodes) => &mut nodes.iter_mut().map(|node| &mut node.split),
                Trunk::Oblivious(tree) => &mut tree.levels.iter_mut(),
            };
            for split in splits {
                match split.test {
                    Test::Hash(hash) => split.test = encoder.levels[split.feature].test(hash),
                    Test::Ctr { border } => {
                        split.feature += encoder.width;
                        // A value that is not a number goes left.
                        let missing = Missing::Nan { left: true };
                        split.test = Test::AtMost { threshold: border.into(), missing };
                    }
                    _ => {}
                }
            }
        }
        (bound, encoder)
    }

    fn encoder(&self, levels: Vec<LevelHashes>) -> Encoder {
        let Ctrs { list, tables } = &self.ctrs;
        let projection = |ctr: &Ctr| tables[ctr.table].projection();
        let mut n_values = 0;
        let mut fits = |more: usize| {
            let fits = more <= MAX_VALUES - n_values;
            n_values += if fits { more } else { 0 };
            fits
        };
        let mut first = self.features.len();
        let mut group = |ctrs: &[Ctr]| {
            let projection = projection(&ctrs[0]);
            let at = first;
            first += ctrs.len();
            if let (&[feature], []) = (&*projection.levels, &*projection.questions)
                && fits((levels[feature].hashes.len() + 2).saturating_mul(ctrs.len()))
            {
                let values = self.values_by_code(feature, &levels[feature], ctrs);
                return Group { first: at, n_ctrs: ctrs.len(), how: How::Code { feature, values } };
            }
            let by_table = ctrs.chunk_by(|a, b| a.table == b.table);
            let valued = by_table.map(|ctrs| {
                let table = Arc::clone(&tables[ctrs[0].table]);
                let n_rows = table.hashes().len() + 1;
                let values = if fits(n_rows.saturating_mul(ctrs.len())) {
                    let buckets = || (0..n_rows).map(|bucket| table.bucket(bucket));
                    ctrs.iter().flat_map(|ctr| buckets().map(|b| table.value(ctr, b))).collect()
                } else {
                    Vec::new()
                };
                Valued { ctrs: ctrs.to_vec(), values, table }
            });
            let how = How::Hash { projection: projection.clone(), tables: valued.collect() };
            Group { first: at, n_ctrs: ctrs.len(), how }
        };
        let same = |a: &Ctr, b: &Ctr| a.table == b.table || projection(a) == projection(b);
        let groups = list.chunk_by(same).map(&mut group).collect();
        Encoder { width: self.features.len(), n_ctrs: list.len(), levels, groups }
    }

    fn values_by_code(&self, feature: usize, levels: &LevelHashes, ctrs: &[Ctr]) -> Vec<f32> {
        let mut hashes = vec![None; self.features.len()];
        let rows = levels.hashes.iter().map(|&hash| Some(hash)).chain([Some(levels.missing), None]);
        let mut values = Vec::with_capacity((levels.hashes.len() + 2) * ctrs.len());
        for hash in rows {
            hashes[feature] = hash;
            values.extend(ctrs.iter().map(|ctr| self.ctrs.value_of(ctr, &[], &hashes)));
        }
        values
    }
}

impl LevelHashes {
    /// The test by codes that answers as `Test::Hash(hash)` does.
    fn test(&self, hash: u32) -> Test {
        let codes = self.hashes.iter().enumerate().filter(|&(_, &own)| own == hash);
        let set: CategorySet = codes.map(|(code, _)| code as u32).collect();
        Test::Among { set, members_left: false, missing_left: self.missing != hash }
    }
}

fn hashes_of(column: &Column) -> LevelHashes {
    let names = column.levels().map_or(&[][..], |levels| levels.names());
    let hashes = names.iter().map(|name| hash::level(name)).collect();
    LevelHashes { is_numeric: column.levels().is_none(), hashes, missing: hash::level("") }
}
