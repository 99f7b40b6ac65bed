//! Categorical columns as numbers: target statistics of the rows before.
//!
//! A [`Projection`] parts the rows into buckets, by one or more categorical columns and the answers to
//! the splits so far. In a fold's order of the rows, each row gets numbers from those before it in its
//! bucket, of which *t* there are, *g* with a target above a border:
//!
//! ```text
//! borders: ((g + prior) / (t + 1) + shift) · 15 / norm        shift = −min(0, prior)
//! counter: (rows of the bucket + prior) / (rows of the largest bucket + 1), likewise
//! ```
//!
//! of which the whole part is the bin, in `f32` throughout. That a row's own target does not count is
//! what keeps the statistic honest (Prokhorenkova et al. 2018, "CatBoost: unbiased boosting with
//! categorical features").

use serde::{Deserialize, Serialize};

use super::table::{Categorical, Table};
use crate::forest::{CtrKind, kernel::widely};

/// Borders between the bins of a statistic.
pub(super) const CTR_BORDERS: u8 = 15;

/// One or more numbers made of the target, or the frequency, of a categorical column's values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Statistic {
    /// What is counted.
    pub kind: StatisticKind,
    /// One number for each prior, which stands for a row seen before the first; each in [−100, 100].
    pub priors: Vec<f64>,
}

impl Default for Statistic {
    fn default() -> Self {
        Self { kind: StatisticKind::Borders, priors: vec![0.0, 0.5, 1.0] }
    }
}

impl Statistic {
    /// Of a kind, with CatBoost's priors: 0 for a counter, else 0, ½ and 1.
    pub fn of(kind: StatisticKind) -> Self {
        match kind {
            StatisticKind::Counter => Self { kind, priors: vec![0.0] },
            _ => Self { kind, ..Self::default() },
        }
    }
}

/// What a statistic counts. Target *classes* are the classes of the task; of a regression's target
/// there are two, parted where their numbers are most equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StatisticKind {
    /// The share of earlier rows of a class above a border, for each border between classes.
    #[default]
    Borders,
    /// The share of earlier rows of a class, for each class.
    Buckets,
    /// The mean number of the class among earlier rows, divided by the largest number.
    BinarizedTargetMean,
    /// How many rows have the value, relative to the most frequent one.
    Counter,
}

impl StatisticKind {
    /// The kind in model files.
    pub(super) fn ctr(self) -> CtrKind {
        match self {
            Self::Borders => CtrKind::Borders,
            Self::Buckets => CtrKind::Buckets,
            Self::BinarizedTargetMean => CtrKind::BinarizedTargetMeanValue,
            Self::Counter => CtrKind::Counter,
        }
    }
}

/// How rows are parted into buckets. The parts name the table's columns; splits are in the order in
/// which the tree asked them, as in CatBoost.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub(super) struct Projection {
    /// Categorical columns, rising.
    pub(super) columns: Vec<u32>,
    /// Numeric columns with a border.
    pub(super) borders: Vec<(u32, u32)>,
    /// Categorical columns with a code.
    pub(super) levels: Vec<(u32, u32)>,
}

impl Projection {
    /// With one more categorical column.
    pub(super) fn with(&self, column: u32) -> Self {
        let mut more = self.clone();
        more.columns.push(column);
        more.columns.sort_unstable();
        more
    }

    /// Whether a column is named twice.
    pub(super) fn is_redundant(&self) -> bool {
        self.columns.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// Columns combined; all splits together count as one.
    pub(super) fn len(&self) -> usize {
        self.columns.len() + usize::from(!self.is_plain())
    }

    /// Whether it is of one column alone.
    pub(super) fn is_simple(&self) -> bool {
        self.is_plain() && self.columns.len() == 1
    }

    /// Whether it is about nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no splits take part.
    pub(super) fn is_plain(&self) -> bool {
        self.borders.is_empty() && self.levels.is_empty()
    }

    /// CatBoost's hash, by which its sets are ordered.
    fn hash(&self) -> u64 {
        let list = |items: &mut dyn Iterator<Item = u32>| {
            let hash = items
                .fold(1_988_712_u32, |hash, item| hash.wrapping_mul(984_121).wrapping_add(item));
            i64::from(hash as i32) as u64
        };
        let pair = |&(a, b): &(u32, u32)| (scramble(u64::from(b)) ^ u64::from(a)) as u32;
        let columns = list(&mut self.columns.iter().copied());
        let borders = list(&mut self.borders.iter().map(pair));
        let splits = if self.levels.is_empty() {
            borders
        } else {
            scramble(list(&mut self.levels.iter().map(pair))) ^ borders
        };
        scramble(splits) ^ columns
    }
}

/// A bijection of 64-bit numbers that sends neighbours far apart (Wang 2007, "Integer hash function").
fn scramble(key: u64) -> u64 {
    let key = key.wrapping_add(!(key << 32));
    let key = key ^ key >> 22;
    let key = key.wrapping_add(!(key << 13));
    let key = key ^ key >> 8;
    let key = key.wrapping_add(key << 3);
    let key = key ^ key >> 15;
    let key = key.wrapping_add(!(key << 27));
    key ^ key >> 31
}

/// `projections` without repetition, in the order in which CatBoost's hash set yields them: bucket by
/// bucket, and within one the newest first; when the set is full it grows to the next of some primes.
pub(super) fn in_set_order(projections: Vec<Projection>) -> Vec<Projection> {
    const SIZES: [usize; 5] = [7, 17, 29, 53, 97];
    let mut buckets: Vec<Vec<Projection>> = vec![Vec::new(); SIZES[0]];
    let mut len = 0;
    for projection in projections {
        if buckets.iter().flatten().any(|other| *other == projection) {
            continue;
        }
        if buckets.len() < len + 1 {
            let size = SIZES.into_iter().find(|&size| len < size).unwrap_or(len + 1);
            let mut grown = vec![Vec::new(); size];
            // Each bucket gives up its elements from the front.
            for projection in buckets.into_iter().flatten() {
                let at = (projection.hash() % size as u64) as usize;
                grown[at].insert(0, projection);
            }
            buckets = grown;
        }
        let at = (projection.hash() % buckets.len() as u64) as usize;
        buckets[at].insert(0, projection);
        len += 1;
    }
    buckets.into_iter().flatten().collect()
}

/// The bucket of each row.
#[derive(Debug)]
pub(super) struct Buckets {
    pub(super) of_row: Vec<u32>,
    /// Rows by bucket; some may be empty.
    totals: Vec<u32>,
    n_used: usize,
    largest: u32,
}

impl Buckets {
    fn new(of_row: Vec<u32>, n_slots: usize) -> Self {
        let mut totals = vec![0; n_slots];
        for &bucket in &of_row {
            totals[bucket as usize] += 1;
        }
        let n_used = totals.iter().filter(|&&n| 0 < n).count();
        let largest = totals.iter().copied().max().unwrap_or(0);
        Self { of_row, totals, n_used, largest }
    }

    /// By one column.
    pub(super) fn by_column(categorical: &Categorical) -> Self {
        Self::new(categorical.codes.clone(), categorical.n_values())
    }

    /// By the answers to splits, given as bits of a number below `n_slots`.
    pub(super) fn by_answers(answers: Vec<u32>, n_slots: usize) -> Self {
        Self::new(answers, n_slots)
    }

    /// By one more column; in `room`, whatever it holds.
    pub(super) fn with(&self, categorical: &Categorical, room: Vec<u32>) -> Self {
        let n = self.of_row.len();
        let rows = self.of_row.iter().zip(&categorical.codes);
        let mut of_row = room;
        of_row.clear();
        let domain = self.totals.len() as u64 * categorical.n_values() as u64;
        if domain <= 2 * n as u64 {
            let n_values = categorical.n_values() as u32;
            of_row.extend(rows.map(|(bucket, code)| bucket * n_values + code));
            return Self::new(of_row, domain as usize);
        }
        // Open addressing with linear probing; a key and its number share a cache line.
        let capacity = (2 * n).next_power_of_two();
        let shift = 64 - capacity.trailing_zeros();
        let mut slots = vec![(u64::MAX, 0_u32); capacity];
        let mut n_slots = 0;
        of_row.extend(rows.map(|(&bucket, &code)| {
            let key = u64::from(bucket) << 32 | u64::from(code);
            let mut at = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) as usize;
            loop {
                let slot = &mut slots[at];
                if slot.0 == key {
                    return slot.1;
                }
                if slot.0 == u64::MAX {
                    *slot = (key, n_slots);
                    n_slots += 1;
                    return n_slots - 1;
                }
                at = (at + 1) & (capacity - 1);
            }
        }));
        Self::new(of_row, n_slots as usize)
    }

    /// How many buckets have rows.
    pub(super) fn n_used(&self) -> usize {
        self.n_used
    }

    /// Size in bytes.
    pub(super) fn bytes(&self) -> usize {
        4 * (self.of_row.len() + self.totals.len())
    }
}

impl Table {
    /// The buckets of a projection, from scratch.
    pub(super) fn buckets(&self, projection: &Projection) -> Buckets {
        let n_splits = projection.borders.len() + projection.levels.len();
        let mut answers = vec![0_u32; self.n_rows];
        let mut bit = 0;
        for &(column, border) in &projection.borders {
            let bins = &self.numeric[column as usize].bins;
            for (answer, &bin) in answers.iter_mut().zip(&**bins) {
                *answer |= u32::from(border < u32::from(bin)) << bit;
            }
            bit += 1;
        }
        for &(column, code) in &projection.levels {
            let codes = &self.categorical[column as usize].codes;
            for (answer, &own) in answers.iter_mut().zip(codes) {
                *answer |= u32::from(own == code) << bit;
            }
            bit += 1;
        }
        let categorical = |&column: &u32| &self.categorical[column as usize];
        let mut columns = projection.columns.iter().map(categorical);
        let start = if n_splits == 0 { columns.next().map(Buckets::by_column) } else { None };
        let start = start.unwrap_or_else(|| Buckets::by_answers(answers, 1 << n_splits));
        columns.fold(start, |buckets, column| buckets.with(column, Vec::new()))
    }
}

/// One number that a projection yields.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct CtrColumn {
    pub(super) kind: StatisticKind,
    /// The class, or the border between classes, that is *good*.
    pub(super) target_border: usize,
    pub(super) prior: f32,
}

impl CtrColumn {
    /// What is added to the ratio, and what the sum is divided by, so that it lies in [0, 1].
    pub(super) fn shift_and_norm(&self) -> (f32, f32) {
        let low = self.prior.min(0.0);
        (-low, self.prior.max(1.0) - low)
    }
}

/// The numbers of a projection, in CatBoost's order.
pub(super) fn columns_of(statistics: &[Statistic], n_classes: usize) -> Vec<CtrColumn> {
    let mut columns = Vec::new();
    for Statistic { kind, priors } in statistics {
        let n_borders = match kind {
            StatisticKind::Borders => n_classes - 1,
            StatisticKind::Buckets => n_classes,
            StatisticKind::BinarizedTargetMean | StatisticKind::Counter => 1,
        };
        for target_border in 0..n_borders {
            let column =
                |&prior: &f64| CtrColumn { kind: *kind, target_border, prior: prior as f32 };
            columns.extend(priors.iter().map(column));
        }
    }
    columns
}

/// The classes of the target that statistics count.
#[derive(Debug)]
pub(super) struct Classes {
    pub(super) of_row: Vec<u8>,
    pub(super) n: usize,
}

/// Rows whose counts are gathered before bins are made of them.
const BLOCK: usize = 512;

/// The bins of all rows, of shape (rows, columns), the rows in the order of the data; in `room`,
/// whatever it holds.
pub(super) fn bins(
    columns: &[CtrColumn],
    buckets: &Buckets,
    order: Option<&[u32]>,
    classes: &Classes,
    room: Vec<u8>,
) -> Vec<u8> {
    let (n, width) = (buckets.of_row.len(), columns.len());
    let mut out = room;
    out.resize(n * width, 0);
    let counters: Vec<Vec<u8>> = columns.iter().map(|c| c.counter_bins(buckets)).collect();
    let mut seen = Seen::new(columns, buckets, classes);
    let mut bins = vec![[0_u8; BLOCK]; width];
    let mut good;
    let mut rows = [0_u32; BLOCK];
    for start in (0..n).step_by(BLOCK) {
        let len = BLOCK.min(n - start);
        let rows = &mut rows[..len];
        match order {
            Some(order) => rows.copy_from_slice(&order[start..start + len]),
            None => rows.iter_mut().zip(start as u32..).for_each(|(row, i)| *row = i),
        }
        seen.look(rows, buckets, classes);
        for ((column, counter), bins) in columns.iter().zip(&counters).zip(&mut bins) {
            let good = match column.kind {
                StatisticKind::Counter => {
                    for (bin, &row) in bins.iter_mut().zip(&*rows) {
                        *bin = counter[buckets.of_row[row as usize] as usize];
                    }
                    continue;
                }
                StatisticKind::Buckets => &seen.of_class[column.target_border],
                StatisticKind::BinarizedTargetMean => &seen.mean,
                StatisticKind::Borders => match &seen.of_class[column.target_border + 1..] {
                    [above] => above,
                    [first, others @ ..] => {
                        good = *first;
                        for above in others {
                            good.iter_mut().zip(above).for_each(|(good, n)| *good += n);
                        }
                        &good
                    }
                    [] => unreachable!("a border has a class above it"),
                },
            };
            widely(|| column.fill(good, &seen.total, bins));
        }
        if let [a, b, c, d] = &bins[..] {
            let mut packs = [0_u32; BLOCK];
            let four = a.iter().zip(b).zip(c.iter().zip(d));
            for (pack, ((&a, &b), (&c, &d))) in packs.iter_mut().zip(four) {
                *pack = u32::from(a) | u32::from(b) << 8 | u32::from(c) << 16 | u32::from(d) << 24;
            }
            let (out, _) = out.as_chunks_mut::<4>();
            for (&row, pack) in rows.iter().zip(packs) {
                out[row as usize] = pack.to_le_bytes();
            }
        } else {
            for (i, &row) in rows.iter().enumerate() {
                let out = &mut out[row as usize * width..][..width];
                out.iter_mut().zip(&bins).for_each(|(out, bins)| *out = bins[i]);
            }
        }
    }
    out
}

/// The whole part of a small number that is not negative, by operations that vectorise: a cast is
/// defined for all numbers, which costs a branch each.
#[inline]
fn whole(x: f32) -> u8 {
    const FRACTIONLESS: f32 = 8_388_608.0; // From here on `f32` has whole numbers alone.
    let sum = x + FRACTIONLESS;
    let nearest = sum - FRACTIONLESS;
    (sum.to_bits() - u32::from(x < nearest)) as u8
}

/// What the rows of a block saw of the rows before them in their buckets.
struct Seen {
    /// Rows so far by bucket and class.
    counts: Vec<u32>,
    n_classes: usize,
    /// Sums of classes by bucket, each class a part of the last one, if a statistic wants them.
    sums: Vec<f32>,
    total: [f32; BLOCK],
    mean: [f32; BLOCK],
    of_class: Vec<[f32; BLOCK]>,
}

impl Seen {
    fn new(columns: &[CtrColumn], buckets: &Buckets, classes: &Classes) -> Self {
        let has_means = columns.iter().any(|c| c.kind == StatisticKind::BinarizedTargetMean);
        Self {
            counts: vec![0; buckets.totals.len() * classes.n],
            n_classes: classes.n,
            sums: vec![0.0; if has_means { buckets.totals.len() } else { 0 }],
            total: [0.0; BLOCK],
            mean: [0.0; BLOCK],
            of_class: vec![[0.0; BLOCK]; classes.n],
        }
    }

    /// Looks at a block of rows, and counts them.
    fn look(&mut self, rows: &[u32], buckets: &Buckets, classes: &Classes) {
        let place = |&row: &u32| {
            let row = row as usize;
            (buckets.of_row[row] as usize, usize::from(classes.of_row[row]))
        };
        if let [of_no, of_yes] = &mut self.of_class[..] {
            let (counts, _) = self.counts.as_chunks_mut::<2>();
            for (i, row) in rows.iter().enumerate() {
                let (bucket, class) = place(row);
                let counts = &mut counts[bucket];
                (of_no[i], of_yes[i]) = (counts[0] as f32, counts[1] as f32);
                self.total[i] = (counts[0] + counts[1]) as f32;
                counts[class & 1] += 1;
            }
        } else {
            for (i, row) in rows.iter().enumerate() {
                let (bucket, class) = place(row);
                let counts = &mut self.counts[bucket * self.n_classes..][..self.n_classes];
                for (seen, &count) in self.of_class.iter_mut().zip(&*counts) {
                    seen[i] = count as f32;
                }
                self.total[i] = counts.iter().sum::<u32>() as f32;
                counts[class] += 1;
            }
        }
        if !self.sums.is_empty() {
            for (i, row) in rows.iter().enumerate() {
                let (bucket, class) = place(row);
                self.mean[i] = self.sums[bucket];
                self.sums[bucket] += class as f32 / (self.n_classes - 1) as f32;
            }
        }
    }
}

impl CtrColumn {
    #[inline]
    fn fill(&self, good: &[f32; BLOCK], total: &[f32; BLOCK], bins: &mut [u8; BLOCK]) {
        for ((bin, good), total) in bins.iter_mut().zip(good).zip(total) {
            *bin = self.bin(*good, *total);
        }
    }

    #[inline]
    fn bin(&self, good: f32, total: f32) -> u8 {
        let (shift, norm) = self.shift_and_norm();
        let ratio = (good + self.prior) / (total + 1.0) + shift;
        // Most norms are 1, by which nothing need be divided.
        let share = if norm == 1.0 { ratio } else { ratio / norm };
        whole(share * f32::from(CTR_BORDERS))
    }

    /// The bins of a counter by bucket; of other kinds there are none.
    fn counter_bins(&self, buckets: &Buckets) -> Vec<u8> {
        if self.kind != StatisticKind::Counter {
            return Vec::new();
        }
        let largest = buckets.largest as f32;
        let totals = &buckets.totals;
        widely(|| totals.iter().map(|&n| self.bin(n as f32, largest)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn categorical(codes: &[u32]) -> Categorical {
        let n = codes.iter().max().map_or(0, |n| n + 1);
        Categorical {
            column: 0,
            codes: codes.to_vec(),
            hashes: (0..n).map(Some).collect(),
            bins: None,
            is_ignored: false,
        }
    }

    #[test]
    fn whole_parts_are_those_of_a_cast() {
        let thousandths = (0..=15_000).map(|i| i as f32 / 1000.0);
        let edges =
            (0..16).flat_map(|i| [(i as f32).next_down().max(0.0), i as f32, (i as f32).next_up()]);
        for x in thousandths.chain(edges) {
            assert_eq!(whole(x), x as u8, "{x}");
        }
    }

    #[test]
    fn a_row_knows_the_targets_of_earlier_rows_alone() {
        let buckets = Buckets::by_column(&categorical(&[0, 0, 1, 0]));
        let classes = Classes { of_row: vec![1, 0, 1, 1], n: 2 };
        let columns = columns_of(&[Statistic::of(StatisticKind::Borders)], 2);
        let bins = bins(&columns, &buckets, None, &classes, Vec::new());
        // (g + prior) / (t + 1) · 15 for priors 0, ½, 1 with (g, t) of 0/0, 1/1, 0/0, 1/2.
        assert_eq!(bins, [0, 7, 15, 7, 11, 15, 0, 7, 15, 5, 7, 10]);
    }

    #[test]
    fn a_counter_is_relative_to_the_largest_bucket() {
        let buckets = Buckets::by_column(&categorical(&[0, 0, 1, 0]));
        let classes = Classes { of_row: vec![0; 4], n: 2 };
        let columns = columns_of(&[Statistic::of(StatisticKind::Counter)], 2);
        assert_eq!(bins(&columns, &buckets, None, &classes, Vec::new()), [11, 11, 3, 11]); // 3/4, 1/4 of 15.
    }

    #[test]
    fn the_order_of_the_fold_says_which_rows_are_earlier() {
        let buckets = Buckets::by_column(&categorical(&[0, 0]));
        let classes = Classes { of_row: vec![1, 1], n: 2 };
        let columns = [CtrColumn { kind: StatisticKind::Borders, target_border: 0, prior: 0.0 }];
        assert_eq!(bins(&columns, &buckets, Some(&[1, 0]), &classes, vec![9; 5]), [7, 0]);
    }

    #[test]
    fn combined_buckets_part_rows_as_pairs_do() {
        let n = 4000_u32;
        let codes = |by: u32, k: u32| -> Vec<u32> { (0..n).map(|i| i * by / 7 % k).collect() };
        for (a, b) in [(codes(3, 5), codes(11, 6)), (codes(3, 900), codes(11, 700))] {
            let both = Buckets::by_column(&categorical(&a)).with(&categorical(&b), vec![7]);
            let pairs: std::collections::BTreeSet<_> = a.iter().zip(&b).collect();
            assert_eq!(both.n_used(), pairs.len());
            let mut known = std::collections::BTreeMap::new();
            for ((a, b), bucket) in a.iter().zip(&b).zip(&both.of_row) {
                assert_eq!(known.entry((a, b)).or_insert(bucket), &bucket);
            }
        }
    }
}
