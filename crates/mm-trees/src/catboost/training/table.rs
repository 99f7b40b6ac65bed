//! The training data as the trainer reads them: columns of bins and of dense category codes.

use std::{collections::HashMap, sync::Arc};

use mm_core::{Column, Error, Frame, Result};
use rayon::prelude::*;

use super::{
    super::hash,
    bundle::{self, Member},
    quantize::{BorderRule, Borders, MissingRule},
    rng::Rng,
};

/// Columns in the trainer's order of rows.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) n_rows: usize,
    pub(super) numeric: Vec<Numeric>,
    pub(super) categorical: Vec<Categorical>,
    /// Columns that share a candidate.
    pub(super) bundles: Vec<Vec<Bundled>>,
}

/// A column of a bundle, by its place among its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bundled {
    Numeric(usize),
    Categorical(usize),
}

/// A numeric column.
#[derive(Debug)]
pub(super) struct Numeric {
    /// Its place in the frame.
    pub(super) column: usize,
    pub(super) borders: Borders,
    /// A bin for each row; empty if there is no border.
    pub(super) bins: Arc<Vec<u8>>,
}

/// A categorical column.
#[derive(Debug)]
pub(super) struct Categorical {
    /// Its place in the frame.
    pub(super) column: usize,
    /// Codes by row, numbered as values first occur.
    pub(super) codes: Vec<u32>,
    /// The hash of the level behind each code; `None` for the unknown one.
    pub(super) hashes: Vec<Option<u32>>,
    /// The codes as bins, where there are few enough for one-hot splits.
    pub(super) bins: Option<Arc<Vec<u8>>>,
    /// Whether no split may ask it.
    pub(super) is_ignored: bool,
}

impl Categorical {
    /// How many values occur.
    pub(super) fn n_values(&self) -> usize {
        self.hashes.len()
    }
}

/// The hash of a cell's level: that of the empty name for a missing cell, `None` for an unknown
/// level.
pub(super) fn hash_of(levels: &[u32], cell: f32) -> Option<u32> {
    if cell.is_nan() {
        return Some(hash::level(""));
    }
    (0.0 <= cell).then(|| levels.get(cell as usize).copied()).flatten()
}

/// The hashes of a column's levels, in the order of their codes.
pub(super) fn level_hashes(column: &Column) -> Vec<u32> {
    let names = column.levels().map_or(&[][..], |levels| levels.names());
    names.iter().map(|name| hash::level(name)).collect()
}

/// How columns become bins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Binning {
    pub(super) max: usize,
    pub(super) rule: BorderRule,
    pub(super) missing: MissingRule,
    /// Columns of at most so many values are split one value from the others.
    pub(super) one_hot_max: usize,
}

/// Rows from which borders are chosen at most; of more, a random part.
const BORDER_ROWS: usize = 200_000;

impl Table {
    /// From the rows of `frame` in the given order, all of them in their own if `None`.
    ///
    /// `rng` draws the part of the rows that borders are chosen from.
    pub(super) fn new(
        frame: &Frame,
        order: Option<&[u32]>,
        how: Binning,
        ignored: &[bool],
        rng: &mut Rng,
    ) -> Result<Self> {
        let n_rows = frame.n_rows();
        let source = |row: usize| order.map_or(row, |order| order[row] as usize);
        let part = border_rows(n_rows, rng);
        let n_cols = frame.n_cols();
        let rows: Vec<&[f32]> = frame.rows().collect();
        let cell = |row: usize, column: usize| rows[source(row)][column];

        let columns = frame.schema().columns();
        let (mut numeric, mut categorical) = (Vec::new(), Vec::new());
        let read = |column: usize| -> Result<(Option<Numeric>, Option<Categorical>)> {
            if columns[column].levels().is_some() {
                let cells = (0..n_rows).map(|row| cell(row, column));
                let levels = level_hashes(&columns[column]);
                let categorical = Categorical::new(column, cells, &levels, how.one_hot_max);
                return Ok((None, Some(categorical)));
            }
            let values: Vec<f32> = (0..n_rows).map(|row| cell(row, column)).collect();
            if how.missing == MissingRule::Forbidden
                && let Some(row) = values.iter().position(|x| x.is_nan())
            {
                let place = format!("row {}, column `{}`", source(row), columns[column].name);
                return Err(Error::data(place, "a number, since `missing` is `forbidden`", "NaN"));
            }
            let seen = match &part {
                None => values.clone(),
                Some(part) => part.iter().map(|&row| values[row as usize]).collect(),
            };
            let mut borders = Borders::of(seen, how.max, how.rule, how.missing);
            if ignored[column] {
                borders.values.clear();
            }
            let bins = if borders.values.is_empty() {
                Vec::new()
            } else {
                values.iter().map(|&x| borders.bin(x)).collect()
            };
            Ok((Some(Numeric { column, borders, bins: Arc::new(bins) }), None))
        };
        let read: Result<Vec<_>> = (0..n_cols).into_par_iter().map(read).collect();
        for (number, category) in read? {
            numeric.extend(number);
            categorical.extend(category);
        }
        for category in &mut categorical {
            if ignored[category.column] {
                (category.is_ignored, category.bins) = (true, None);
            }
        }
        let bundles = bundles(&numeric, &categorical, n_rows, n_cols);
        Ok(Self { n_rows, numeric, categorical, bundles })
    }
}

/// The bundles of all columns that have more than one bin.
fn bundles(
    numeric: &[Numeric],
    categorical: &[Categorical],
    n_rows: usize,
    n_cols: usize,
) -> Vec<Vec<Bundled>> {
    let mut places = vec![None; n_cols];
    for (i, column) in numeric.iter().enumerate().filter(|(_, c)| !c.bins.is_empty()) {
        places[column.column] = Some(Bundled::Numeric(i));
    }
    let differs = |column: &Categorical| !column.is_ignored && 1 < column.n_values();
    for (i, column) in categorical.iter().enumerate().filter(|(_, c)| differs(c)) {
        places[column.column] = Some(Bundled::Categorical(i));
    }
    let counts: Vec<Option<usize>> = places
        .par_iter()
        .map(|place| {
            Some(match (*place)? {
                Bundled::Numeric(i) => numeric[i].bins.iter().filter(|&&bin| bin != 0).count(),
                Bundled::Categorical(i) => {
                    categorical[i].codes.iter().filter(|&&code| code != 0).count()
                }
            })
        })
        .collect();
    let least = counts.iter().flatten().copied().min().unwrap_or(0);
    let member = |(place, count): (&Option<Bundled>, &Option<usize>)| {
        let (place, n_set) = ((*place)?, (*count)?);
        let is_rare = n_set + least <= n_rows;
        let (n_bins, rows) = match place {
            Bundled::Numeric(i) => {
                let bins = if is_rare { &numeric[i].bins[..] } else { &[] };
                let rows = bundle::mask(bins.iter().map(|&bin| bin != 0));
                (numeric[i].borders.values.len(), rows)
            }
            Bundled::Categorical(i) => {
                let codes = if is_rare { &categorical[i].codes[..] } else { &[] };
                let rows = bundle::mask(codes.iter().map(|&code| code != 0));
                (categorical[i].n_values() - 1, rows)
            }
        };
        Some(Member { n_bins, n_rows: n_set, rows })
    };
    let members: Vec<Option<Member>> = places.par_iter().zip(&counts).map(member).collect();
    let bundles = bundle::bundles(&members, n_rows);
    bundles.into_iter().map(|parts| parts.into_iter().filter_map(|j| places[j]).collect()).collect()
}

/// The rows to choose borders from; `None` for all.
fn border_rows(n_rows: usize, rng: &mut Rng) -> Option<Vec<u32>> {
    (BORDER_ROWS < n_rows).then(|| rng.sampled(n_rows, BORDER_ROWS))
}

impl Categorical {
    fn new(
        column: usize,
        cells: impl Iterator<Item = f32>,
        levels: &[u32],
        one_hot_max: usize,
    ) -> Self {
        let mut codes = Vec::with_capacity(cells.size_hint().0);
        let mut hashes = Vec::new();
        let mut known: HashMap<Option<u32>, u32> = HashMap::new();
        // Most cells take the short way, by the frame's own code.
        let mut by_level = vec![u32::MAX; levels.len()];
        for cell in cells {
            let level = (0.0 <= cell).then_some(cell as usize).filter(|&at| at < levels.len());
            if let Some(&code) = level.map(|at| &by_level[at])
                && code != u32::MAX
            {
                codes.push(code);
                continue;
            }
            let hash = hash_of(levels, cell);
            let code = *known.entry(hash).or_insert_with(|| {
                hashes.push(hash);
                (hashes.len() - 1) as u32
            });
            if let Some(at) = level {
                by_level[at] = code;
            }
            codes.push(code);
        }
        // The most frequent value is the first; of several, that of the least hash.
        let mut counts = vec![0_usize; hashes.len()];
        for &code in &codes {
            counts[code as usize] += 1;
        }
        let key = |&code: &usize| (counts[code], std::cmp::Reverse(hashes[code]));
        if let Some(first) = (0..hashes.len()).max_by_key(key).filter(|&first| first != 0) {
            hashes.swap(0, first);
            for code in &mut codes {
                if *code == 0 {
                    *code = first as u32;
                } else if *code == first as u32 {
                    *code = 0;
                }
            }
        }
        let bins = (hashes.len() <= one_hot_max)
            .then(|| Arc::new(codes.iter().map(|&code| code as u8).collect()));
        Self { column, codes, hashes, bins, is_ignored: false }
    }
}

/// Numbers as `f32`, none of which may become infinite by that.
pub(super) fn narrowed(what: &str, values: &[f64]) -> Result<Vec<f32>> {
    let narrow: Vec<f32> = values.iter().map(|&x| x as f32).collect();
    match narrow.iter().position(|x| !x.is_finite()) {
        None => Ok(narrow),
        Some(i) => {
            let place = format!("{what}, row {i}");
            Err(Error::data(place, "a number within the range of `f32`", values[i]))
        }
    }
}

/// `values` in the given order.
pub(super) fn in_order<T: Copy>(values: &[T], order: Option<&[u32]>) -> Vec<T> {
    match order {
        None => values.to_vec(),
        Some(order) => order.iter().map(|&row| values[row as usize]).collect(),
    }
}
