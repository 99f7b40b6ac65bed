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

use std::{fmt, sync::Arc};

use mm_core::{Error, Result};

use super::tree::{Split, Test};
use crate::catboost::hash::Chain;

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

    /// A bucket by its place; none after the last.
    pub(super) fn bucket(&self, at: usize) -> Option<usize> {
        (at < self.hashes().len()).then_some(at)
    }

    /// The bucket of a hash.
    pub(super) fn find(&self, hash: u64) -> Option<usize> {
        self.index.find(hash)
    }

    /// The counts.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The value of `ctr` for a bucket, or for one that the table does not have.
    pub(super) fn value(&self, ctr: &Ctr, bucket: Option<usize>) -> f32 {
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

    /// The features that share in a CTR's contributions, in ascending order: as in CatBoost those
    /// whose levels count, and not those that its questions are about.
    pub(crate) fn features(&self, ctr: usize) -> Vec<usize> {
        let mut features = self.tables[self.list[ctr].table].projection.levels.clone();
        features.sort_unstable();
        features.dedup();
        features
    }

    /// The value of a CTR by definition; `hashes` are the levels' of each feature, `None` for an
    /// unknown level.
    pub(super) fn value_of(&self, ctr: &Ctr, row: &[f32], hashes: &[Option<u32>]) -> f32 {
        let table = &self.tables[ctr.table];
        let bucket = table.projection.hash(row, hashes).and_then(|hash| table.find(hash));
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
pub(super) fn goes_left(question: &Split, row: &[f32], hashes: &[Option<u32>]) -> bool {
    match question.test {
        Test::Hash(hash) => hashes[question.feature] != Some(hash),
        _ => question.test.goes_left(row[question.feature]).unwrap_or_default(),
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
