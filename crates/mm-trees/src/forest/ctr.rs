//! Target statistics of levels (CatBoost's CTRs): numbers that a split may ask for in place of a
//! feature.
//!
//! # What a CTR is
//!
//! A [`Projection`] maps a row to a bucket: by the levels of one or more categorical features, and
//! the answers to questions about others. Training counted, for each bucket, the rows of each class
//! of the target (or their number, or the sum of their targets); a [`CtrTable`] holds that. A
//! [`Ctr`] makes a number of it, in `f32`:
//!
//! ```text
//! value = ((good + prior) / (total + prior's denominator) + shift) · scale
//! ```
//!
//! | kind | *good* | *total* |
//! | --- | --- | --- |
//! | `Borders` | rows of the classes above the target border | rows |
//! | `Buckets` | rows of the class at the target border | rows |
//! | `BinarizedTargetMeanValue`, `FloatTargetMeanValue` | sum of the targets | rows |
//! | `Counter`, `FeatureFreq` | rows | the table's denominator |
//!
//! A bucket that training did not see, and any with an unknown level, has counts of 0. Source:
//! `static_ctr_provider.cpp` and `online_ctr.h` of CatBoost 1.2.10; Prokhorenkova et al. (2018),
//! "CatBoost: unbiased boosting with categorical features".
//!
//! # From levels to numbers
//!
//! [`Forest::bind`] gives, for the dictionaries of a schema, a forest without hashes and CTRs, and an
//! [`Encoder`] that appends the CTRs' values to a row: what evaluates thresholds and sets of
//! codes evaluates CatBoost's models, too.

use std::{fmt, sync::Arc};

use mm_core::{Error, Result, Schema};

use super::{
    CategorySet, Forest,
    tree::{Missing, Split, Test, Trunk},
};
use crate::catboost::hash::{self, Chain};

/// The target statistics of a forest and the tables they are taken from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ctrs {
    /// What [`Test::Ctr`] names by index.
    pub list: Vec<Ctr>,
    /// What [`Ctr::table`] names by index.
    pub tables: Vec<Arc<CtrTable>>,
}

/// A number made of the counts of a row's bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ctr {
    /// The table of counts, by index.
    pub table: usize,
    /// For the kinds that count classes: the class, or the border between classes, that is *good*.
    pub target_border: usize,
    /// What is added to *good*.
    pub prior: f32,
    /// What is added to *total*.
    pub prior_denominator: f32,
    /// What is added to the ratio.
    pub shift: f32,
    /// What the sum is multiplied by.
    pub scale: f32,
}

/// How a row is mapped to a bucket.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Projection {
    /// The categorical features whose levels count, by index, in the order of the hash.
    pub levels: Vec<usize>,
    /// Questions whose answers count: first those by threshold ([`Test::AtMost`]), then those by
    /// level ([`Test::Hash`]).
    pub questions: Vec<Split>,
}

/// What a table counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CtrKind {
    /// Rows of each class; *good* are those above a border.
    Borders,
    /// Rows of each class; *good* are those of one class.
    Buckets,
    /// Rows, and the sum of their targets, which are bins in [0, 1].
    BinarizedTargetMeanValue,
    /// Rows, and the sum of their targets.
    FloatTargetMeanValue,
    /// Rows, over the largest number in any bucket.
    Counter,
    /// Rows, over their number.
    FeatureFreq,
}

/// Counts by bucket.
#[derive(Clone, PartialEq)]
pub struct CtrTable {
    projection: Projection,
    kind: CtrKind,
    classifier: i32,
    index: Buckets,
    counts: Counts, // Invariant: of the shape that `kind` has, one entry for each bucket.
}

/// The counts of all buckets, in the order of their hashes in [`CtrTable::hashes`].
#[derive(Clone, PartialEq)]
pub enum Counts {
    /// Rows by class: of shape (buckets, classes).
    Classes {
        /// How many classes there are, at least 1.
        n_classes: usize,
        /// The counts, bucket by bucket.
        rows: Vec<i32>,
    },
    /// Rows.
    Totals {
        /// The counts.
        rows: Vec<i32>,
        /// What they are divided by.
        denominator: i32,
    },
    /// Sums of targets, with numbers of rows.
    Means(Vec<(f32, i32)>),
}

impl CtrKind {
    /// All kinds, in the order of their numbers in files.
    pub(crate) const ALL: [Self; 6] = [
        Self::Borders,
        Self::Buckets,
        Self::BinarizedTargetMeanValue,
        Self::FloatTargetMeanValue,
        Self::Counter,
        Self::FeatureFreq,
    ];

    /// CatBoost's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Borders => "Borders",
            Self::Buckets => "Buckets",
            Self::BinarizedTargetMeanValue => "BinarizedTargetMeanValue",
            Self::FloatTargetMeanValue => "FloatTargetMeanValue",
            Self::Counter => "Counter",
            Self::FeatureFreq => "FeatureFreq",
        }
    }
}

impl CtrTable {
    /// The counts of the buckets with the given hashes, which must be distinct, none of all ones,
    /// and as many as the counts. `kind` and the kind of counts must fit. `classifier` is the number
    /// of the target's binarisation, which only names the table.
    pub fn new(
        projection: Projection,
        kind: CtrKind,
        classifier: i32,
        hashes: Vec<u64>,
        counts: Counts,
    ) -> Result<Self> {
        let fits = match (&counts, kind) {
            (Counts::Classes { n_classes, rows }, CtrKind::Borders | CtrKind::Buckets) => {
                hashes.len().checked_mul(*n_classes) == Some(rows.len()) && 1 <= *n_classes
            }
            (Counts::Totals { rows, .. }, CtrKind::Counter | CtrKind::FeatureFreq) => {
                hashes.len() == rows.len()
            }
            (
                Counts::Means(rows),
                CtrKind::BinarizedTargetMeanValue | CtrKind::FloatTargetMeanValue,
            ) => hashes.len() == rows.len(),
            _ => false,
        };
        if !fits {
            let expected = format!("those of kind `{}`, {} buckets", kind.name(), hashes.len());
            return Err(Error::data("counts of a CTR table", expected, format!("{counts:?}")));
        }
        Ok(Self { projection, kind, classifier, index: Buckets::new(hashes)?, counts })
    }

    /// How a row is mapped to a bucket.
    pub fn projection(&self) -> &Projection {
        &self.projection
    }

    /// What is counted.
    pub fn kind(&self) -> CtrKind {
        self.kind
    }

    /// The number of the target's binarisation.
    pub fn classifier(&self) -> i32 {
        self.classifier
    }

    /// The hashes of the buckets, in the order of the counts.
    pub fn hashes(&self) -> &[u64] {
        &self.index.hashes
    }

    /// The counts.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The value of `ctr` for a bucket, or for one that the table does not have.
    fn value(&self, ctr: &Ctr, bucket: Option<usize>) -> f32 {
        let (good, total) = match (&self.counts, bucket) {
            (Counts::Totals { rows, denominator }, bucket) => {
                (bucket.map_or(0.0, |b| rows[b] as f32), *denominator as f32)
            }
            (_, None) => (0.0, 0.0),
            (Counts::Means(rows), Some(b)) => (rows[b].0, rows[b].1 as f32),
            (Counts::Classes { n_classes, rows }, Some(b)) => {
                let rows = &rows[b * n_classes..][..*n_classes];
                // Whole numbers until the division, as in CatBoost.
                let sum = |rows: &[i32]| rows.iter().fold(0_i32, |sum, &n| sum.wrapping_add(n));
                let good = match self.kind {
                    CtrKind::Buckets => rows[ctr.target_border],
                    _ => sum(&rows[ctr.target_border + 1..]),
                };
                (good as f32, sum(rows) as f32)
            }
        };
        ((good + ctr.prior) / (total + ctr.prior_denominator) + ctr.shift) * ctr.scale
    }
}

impl fmt::Debug for CtrTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CtrTable({} of {:?}: {:?})", self.kind.name(), self.projection, self.counts)
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Classes { n_classes, rows } => {
                write!(f, "{} counts of {n_classes} classes", rows.len())
            }
            Self::Totals { rows, denominator } => {
                write!(f, "{} counts / {denominator}", rows.len())
            }
            Self::Means(rows) => write!(f, "{} sums and counts", rows.len()),
        }
    }
}

impl Ctrs {
    /// Checks that every CTR names a table, and a class or border that this one has.
    pub(crate) fn check(&self) -> Result<()> {
        for (i, ctr) in self.list.iter().enumerate() {
            let classes = self.tables.get(ctr.table).map(|table| match &table.counts {
                // `Borders` needs a class above the border.
                Counts::Classes { n_classes, .. } if table.kind == CtrKind::Borders => {
                    n_classes - 1
                }
                Counts::Classes { n_classes, .. } => *n_classes,
                _ => usize::MAX,
            });
            match classes {
                None => {
                    let expected = format!("one of {} tables", self.tables.len());
                    return Err(Error::data(format!("CTR {i}"), expected, ctr.table));
                }
                Some(n) if n <= ctr.target_border => {
                    let expected = format!("a target border below {n}");
                    return Err(Error::data(format!("CTR {i}"), expected, ctr.target_border));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The value of a CTR by definition; `hashes` are the levels' of each feature, `None` for an
    /// unknown level.
    pub(crate) fn value(&self, ctr: usize, row: &[f32], hashes: &[Option<u32>]) -> f32 {
        self.value_of(&self.list[ctr], row, hashes)
    }

    fn value_of(&self, ctr: &Ctr, row: &[f32], hashes: &[Option<u32>]) -> f32 {
        let table = &self.tables[ctr.table];
        let bucket = table.projection.hash(row, hashes).and_then(|hash| table.index.find(hash));
        table.value(ctr, bucket)
    }
}

impl Projection {
    /// The hash of a row's bucket; `None` if a level is unknown.
    fn hash(&self, row: &[f32], hashes: &[Option<u32>]) -> Option<u64> {
        let chain = self.levels.iter().try_fold(Chain::default(), |chain, &feature| {
            hashes[feature].map(|hash| chain.level(hash))
        });
        let answer =
            |chain: Chain, question: &Split| chain.answer(!goes_left(question, row, hashes));
        Some(self.questions.iter().fold(chain?, answer).value())
    }
}

/// The answer to a question that is not about a CTR.
fn goes_left(question: &Split, row: &[f32], hashes: &[Option<u32>]) -> bool {
    match question.test {
        Test::Hash(hash) => hashes[question.feature] != Some(hash),
        _ => question.test.goes_left(row[question.feature]).unwrap_or_default(),
    }
}

impl Split {
    /// Whether a row goes left, whatever is asked; `hashes` are those of its levels, `None` for
    /// unknown ones.
    pub(crate) fn goes_left(&self, row: &[f32], hashes: &[Option<u32>], ctrs: &Ctrs) -> bool {
        match self.test {
            Test::Ctr { border } => {
                let value = ctrs.value(self.feature, row, hashes);
                value <= border || value.is_nan()
            }
            _ => goes_left(self, row, hashes),
        }
    }
}

/// Which bucket has a hash: open addressing with linear probing in a table of the least power of
/// two that is at least twice their number, which is CatBoost's own layout.
#[derive(Debug, Clone)]
struct Buckets {
    hashes: Vec<u64>,
    slots: Vec<u32>, // Invariant: a power of two; has vacant ones; derived from `hashes`.
}

/// What a vacant slot holds.
const VACANT: u32 = u32::MAX;

/// The most slots that a search may pass. Hashes that spread stay far below; those of a hostile file
/// must not make searches slow.
const MAX_PROBES: usize = 4096;

impl Buckets {
    fn new(hashes: Vec<u64>) -> Result<Self> {
        let refuse = |got: String| {
            Error::data("hashes of a CTR table", "distinct ones that spread, below 2⁶⁴ − 1", got)
        };
        let Some(n_slots) = (2 * hashes.len()).max(2).checked_next_power_of_two() else {
            return Err(refuse(format!("{} hashes", hashes.len())));
        };
        if n_slots as u64 > u64::from(VACANT) {
            return Err(refuse(format!("{} hashes", hashes.len())));
        }
        let mut slots = vec![VACANT; n_slots];
        for (i, &hash) in hashes.iter().enumerate() {
            if hash == u64::MAX {
                return Err(refuse("2⁶⁴ − 1".to_owned()));
            }
            let mut at = hash as usize & (n_slots - 1);
            let mut probes = 0;
            while slots[at] != VACANT {
                if hashes[slots[at] as usize] == hash {
                    return Err(refuse(format!("{hash} twice")));
                }
                probes += 1;
                if MAX_PROBES < probes {
                    return Err(refuse(format!("{MAX_PROBES} in a row")));
                }
                at = (at + 1) & (n_slots - 1);
            }
            slots[at] = i as u32;
        }
        Ok(Self { hashes, slots })
    }

    fn find(&self, hash: u64) -> Option<usize> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != VACANT {
            let bucket = self.slots[at] as usize;
            if self.hashes[bucket] == hash {
                return Some(bucket);
            }
            at = (at + 1) & mask;
        }
        None
    }
}

impl PartialEq for Buckets {
    fn eq(&self, other: &Self) -> bool {
        self.hashes == other.hashes
    }
}

impl CtrTable {
    /// The slots in the order of CatBoost's layout: a hash with the index of its bucket, or `None`.
    pub(crate) fn slots(&self) -> impl ExactSizeIterator<Item = Option<(u64, u32)>> {
        let entry =
            |&slot: &u32| (slot != VACANT).then(|| (self.index.hashes[slot as usize], slot));
        self.index.slots.iter().map(entry)
    }
}

/// The hash of every level of a column, in code order.
///
/// A missing cell is the level with the empty name: that is how CatBoost reads one from a text file,
/// and how the trainer hashes it.
#[derive(Debug, Clone, PartialEq, Default)]
struct LevelHashes {
    hashes: Vec<u32>,
    missing: u32,
}

impl LevelHashes {
    fn of_cell(&self, cell: f32) -> Option<u32> {
        if cell.is_nan() { Some(self.missing) } else { self.hashes.get(code_of(cell)?).copied() }
    }
}

/// The code in a cell that is neither missing nor unknown.
fn code_of(cell: f32) -> Option<usize> {
    (0.0 <= cell).then_some(cell as usize)
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
enum Group {
    /// By the code of one feature: values of shape (levels + 2, `n_ctrs`), the last two rows being
    /// those of missing cells and of unknown levels.
    ByCode { feature: usize, n_ctrs: usize, values: Vec<f32> },
    /// By the hash of several.
    ByHash { projection: Projection, tables: Vec<(Arc<CtrTable>, Vec<Ctr>)> },
}

/// The most values that are computed beforehand, 64 MiB; what is beyond is computed for each row.
const MAX_VALUES: usize = 1 << 24;

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
    /// of the CTRs.
    pub(crate) fn encode(&self, row: &[f32], out: &mut [f32]) {
        let (features, ctrs) = out.split_at_mut(self.width);
        features.copy_from_slice(row);
        let mut ctrs = ctrs.iter_mut();
        for group in &self.groups {
            match group {
                Group::ByCode { feature, n_ctrs, values } => {
                    let cell = row[*feature];
                    let n_levels = self.levels[*feature].hashes.len();
                    let at = if cell.is_nan() { Some(n_levels) } else { code_of(cell) };
                    let at = at.unwrap_or(n_levels + 1).min(n_levels + 1);
                    let values = &values[at * n_ctrs..][..*n_ctrs];
                    values.iter().zip(&mut ctrs).for_each(|(&value, out)| *out = value);
                }
                Group::ByHash { projection, tables } => {
                    let hash = self.hash(projection, row);
                    for (table, own) in tables {
                        let bucket = hash.and_then(|hash| table.index.find(hash));
                        let values = own.iter().map(|ctr| table.value(ctr, bucket));
                        values.zip(&mut ctrs).for_each(|(value, out)| *out = value);
                    }
                }
            }
        }
    }

    fn hash(&self, projection: &Projection, row: &[f32]) -> Option<u64> {
        let mut chain = Chain::default();
        for &feature in &projection.levels {
            chain = chain.level(self.levels[feature].of_cell(row[feature])?);
        }
        for question in &projection.questions {
            let cell = row[question.feature];
            let left = match question.test {
                Test::Hash(hash) => self.levels[question.feature].of_cell(cell) != Some(hash),
                _ => question.test.goes_left(cell).unwrap_or_default(),
            };
            chain = chain.answer(!left);
        }
        Some(chain.value())
    }

    /// The hashes of a row's levels, one a feature: what the definitions take.
    #[cfg(test)]
    pub(crate) fn hashes(&self, row: &[f32]) -> Vec<Option<u32>> {
        self.levels.iter().zip(row).map(|(levels, &cell)| levels.of_cell(cell)).collect()
    }
}

impl Forest {
    /// The same forest over rows that [`Encoder`] has encoded, with the dictionaries of `schema`,
    /// which has a column for each feature: hashes become sets of codes, and CTRs become columns
    /// after the features.
    pub(crate) fn bind(&self, schema: &Schema) -> (Self, Encoder) {
        let levels: Vec<LevelHashes> = schema.columns().iter().map(hashes_of).collect();
        let encoder = self.encoder(levels);
        let ctr = |i| super::Feature { name: format!("ctr {i}"), is_categorical: false };
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
        let projection = |ctr: &Ctr| &tables[ctr.table].projection;
        let mut n_values = 0;
        let mut group = |ctrs: &[Ctr]| {
            let projection = projection(&ctrs[0]);
            if let (&[feature], []) = (&*projection.levels, &*projection.questions) {
                let more = (levels[feature].hashes.len() + 2).saturating_mul(ctrs.len());
                if more <= MAX_VALUES - n_values {
                    n_values += more;
                    let values = self.values_by_code(feature, &levels[feature], ctrs);
                    return Group::ByCode { feature, n_ctrs: ctrs.len(), values };
                }
            }
            let by_table = ctrs.chunk_by(|a, b| a.table == b.table);
            let of_table = |ctrs: &[Ctr]| (Arc::clone(&tables[ctrs[0].table]), ctrs.to_vec());
            Group::ByHash {
                projection: projection.clone(),
                tables: by_table.map(of_table).collect(),
            }
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

fn hashes_of(column: &mm_core::Column) -> LevelHashes {
    let names = column.levels().map_or(&[][..], |levels| levels.names());
    let hashes = names.iter().map(|name| hash::level(name)).collect();
    LevelHashes { hashes, missing: hash::level("") }
}
