//! What a level may ask: columns, in the groups and the order in which CatBoost draws their noise.

use std::sync::Arc;

use super::{
    super::{
        ctr::{self, Projection},
        score::{Columns, Histogram, Part, ScoreFunction, Scorer, Shape, Slot},
        structure::Split,
        table::Bundled,
    },
    Booster,
    statistics::Extended,
};

/// Binary columns that share a candidate.
const PACK: usize = 8;

/// A column of bins, alone or among others.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) bins: Arc<Vec<u8>>,
    pub(super) width: usize,
    pub(super) at: usize,
}

impl Column {
    pub(super) fn single(bins: &Arc<Vec<u8>>) -> Self {
        Self { bins: Arc::clone(bins), width: 1, at: 0 }
    }

    pub(super) fn bin(&self, row: u32) -> u8 {
        self.bins[row as usize * self.width + self.at]
    }
}

/// Candidates that draw their noise from one stream.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) groups: Vec<Group>,
    pub(super) candidates: Vec<Candidate>,
    pub(super) is_bundle: bool,
}

/// Columns of which the best split comes to the final choice.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Groups with a column of each.
    pub(super) parts: Vec<(usize, usize)>,
    /// Score without noise, part, and split.
    pub(super) best: Option<(f64, usize, usize)>,
}

impl Task {
    /// Of one or more columns, one candidate.
    fn of_pack(groups: Vec<Group>) -> Self {
        let parts = (0..groups.len()).map(|group| (group, 0)).collect();
        Self { groups, candidates: vec![Candidate { parts, best: None }], is_bundle: false }
    }

    /// Of columns that exclude each other, one candidate.
    fn of_bundle(groups: Vec<Group>) -> Self {
        Self { is_bundle: true, ..Self::of_pack(groups) }
    }

    /// Of several columns, a candidate each.
    fn of_columns(group: Group) -> Self {
        let candidate = |column| Candidate { parts: vec![(0, column)], best: None };
        let candidates = (0..group.width).map(candidate).collect();
        Self { candidates, groups: vec![group], is_bundle: false }
    }

    pub(super) fn projection(&self) -> Option<&Arc<Projection>> {
        match &self.groups[0].source {
            Source::Ctr(projection) => Some(projection),
            _ => None,
        }
    }

    /// The best split of a candidate that has one, and the column that it asks.
    pub(super) fn split(&self, candidate: usize) -> (Split, Column) {
        let Candidate { parts, best } = &self.candidates[candidate];
        let (_, part, at) = best.expect("it was chosen for its score");
        let (group, column) = parts[part];
        let (group, at) = (&self.groups[group], at as u32);
        let split = match &group.source {
            &Source::Numeric(column) => Split::Border { column, border: at },
            &Source::OneHot(column) => Split::Level { column, code: at },
            Source::Ctr(projection) => {
                Split::Ctr { projection: Arc::clone(projection), column: column as u32, border: at }
            }
        };
        (split, Column { bins: Arc::clone(&group.bins), width: group.width, at: column })
    }
}

/// Where columns come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Numeric(u32),
    OneHot(u32),
    Ctr(Arc<Projection>),
}

/// Columns whose histograms are built together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) source: Source,
    pub(super) bins: Arc<Vec<u8>>,
    pub(super) width: usize,
    pub(super) n_bins: usize,
    /// Sums over the leaves of the level before for each sample of rows, if they are kept.
    pub(super) histograms: Vec<Option<Histogram>>,
}

impl Group {
    fn new(source: Source, bins: &Arc<Vec<u8>>, width: usize, n_bins: usize) -> Self {
        Self { source, bins: Arc::clone(bins), width, n_bins, histograms: Vec::new() }
    }

    /// Whether it is of the statistics of a single column.
    pub(super) fn is_simple(&self) -> bool {
        matches!(&self.source, Source::Ctr(projection) if projection.is_simple())
    }

    pub(super) fn columns(&self) -> Columns<'_> {
        Columns { bins: &self.bins, width: self.width, n_bins: self.n_bins }
    }

    pub(super) fn shape(&self) -> Shape {
        match self.source {
            Source::OneHot(_) => Shape::Levels,
            _ => Shape::Thresholds,
        }
    }

    /// The columns, and the histogram of a sample's rows.
    pub(super) fn slot(&mut self, sample: usize) -> Slot<'_> {
        let columns = Columns { bins: &self.bins, width: self.width, n_bins: self.n_bins };
        (columns, &mut self.histograms[sample])
    }

    /// The scores of all splits by column.
    pub(super) fn scores(&self, parts: &[Part], function: ScoreFunction) -> Vec<Vec<f64>> {
        let scorer = Scorer::new(function, self.columns(), self.shape());
        scorer.score(parts, &self.histograms, self.columns())
    }
}

impl Booster {
    /// The candidates of a level, in CatBoost's order.
    pub(super) fn tasks(&mut self, taken: usize, splits: &[Split], leaf_of: &[u32]) -> Vec<Task> {
        let share = self.settings.columns;
        let table = &self.learning.table;
        let rng = &mut self.rng;
        let mut tasks = Vec::new();
        let mut binary = Vec::new();
        let is_bundled = |place| table.bundles.iter().flatten().any(|other| *other == place);
        for (column, numeric) in table.numeric.iter().enumerate() {
            let n_bins = numeric.borders.values.len() + 1;
            if n_bins == 1 || is_bundled(Bundled::Numeric(column)) {
                continue;
            }
            let group = Group::new(Source::Numeric(column as u32), &numeric.bins, 1, n_bins);
            if n_bins == 2 {
                binary.push(group);
            } else if rng.uniform() <= share {
                tasks.push(Task::of_pack(vec![group]));
            }
        }
        for (column, categorical) in table.categorical.iter().enumerate() {
            let n_values = categorical.n_values();
            let Some(bins) = categorical.bins.as_ref().filter(|_| 1 < n_values) else { continue };
            if is_bundled(Bundled::Categorical(column)) {
                continue;
            }
            let group = Group::new(Source::OneHot(column as u32), bins, 1, n_values);
            if n_values == 2 {
                binary.push(group);
            } else if rng.uniform() <= share {
                tasks.push(Task::of_pack(vec![group]));
            }
        }
        for bundle in &table.bundles {
            let group = |place: &Bundled| match *place {
                Bundled::Numeric(column) => {
                    let numeric = &table.numeric[column];
                    let n_bins = numeric.borders.values.len() + 1;
                    Some(Group::new(Source::Numeric(column as u32), &numeric.bins, 1, n_bins))
                }
                Bundled::Categorical(column) => {
                    let categorical = &table.categorical[column];
                    let bins = categorical.bins.as_ref()?;
                    let n_values = categorical.n_values();
                    Some(Group::new(Source::OneHot(column as u32), bins, 1, n_values))
                }
            };
            let groups = bundle.iter().filter_map(group);
            let groups: Vec<Group> = groups.filter(|_| rng.uniform() <= share).collect();
            if !groups.is_empty() {
                tasks.push(Task::of_bundle(groups));
            }
        }
        let mut binary = binary.into_iter().peekable();
        while binary.peek().is_some() {
            let pack: Vec<Group> =
                binary.by_ref().take(PACK).filter(|_| rng.uniform() <= share).collect();
            if !pack.is_empty() {
                tasks.push(Task::of_pack(pack));
            }
        }
        self.add_ctrs(taken, splits, leaf_of, &mut tasks);
        tasks
    }

    /// Adds the statistics of single columns, and of combinations with what the tree has.
    fn add_ctrs(&mut self, taken: usize, splits: &[Split], leaf_of: &[u32], tasks: &mut Vec<Task>) {
        let share = self.settings.columns;
        let max_one_hot = self.settings.max_one_hot;
        let columns: Vec<u32> = (0..)
            .zip(&self.learning.table.categorical)
            .filter(|(_, categorical)| {
                max_one_hot < categorical.n_values() && !categorical.is_ignored
            })
            .map(|(column, _)| column)
            .collect();
        if columns.is_empty() {
            return;
        }
        let mut projections: Vec<Extended> = Vec::new();
        for &column in &columns {
            if self.rng.uniform() <= share {
                let projection = Projection { columns: vec![column], ..Projection::default() };
                projections.push((Arc::new(projection), None));
            }
        }
        let mut bases = Vec::new();
        if !splits.is_empty() {
            let mut asked = Projection::default();
            let mut own = Vec::new();
            for split in splits {
                match split {
                    Split::Border { column, border } => asked.borders.push((*column, *border)),
                    Split::Level { column, code } => asked.levels.push((*column, *code)),
                    Split::Ctr { projection, .. } => own.push((**projection).clone()),
                }
            }
            own.insert(0, asked);
            bases = ctr::in_set_order(own);
            bases.retain(|base| !base.is_empty());
        }
        let mut added: Vec<Projection> = Vec::new();
        for (i, base) in bases.iter().enumerate() {
            for &column in &columns {
                if self.rng.uniform() > share {
                    continue;
                }
                let projection = base.with(column);
                if projection.is_redundant()
                    || projection.len() > self.settings.max_combination
                    || added.contains(&projection)
                {
                    continue;
                }
                added.push(projection.clone());
                projections.push((Arc::new(projection), Some((i, column))));
            }
        }
        self.compute(taken, &bases, splits, leaf_of, &projections);
        for (projection, _) in projections {
            let width = self.statistics(&projection).len();
            let bins = Arc::clone(&self.folds[taken].ctrs[&projection]);
            let n_bins = usize::from(ctr::CTR_BORDERS) + 1;
            let group = Group::new(Source::Ctr(projection), &bins, width, n_bins);
            tasks.push(Task::of_columns(group));
        }
    }
}
