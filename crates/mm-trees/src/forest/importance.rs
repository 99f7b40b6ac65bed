//! How much each feature mattered in the fit, by what training left at the splits.

use mm_core::{Error, ImportanceKind, Result};

use super::{Forest, Sum, tree::Trunk};

impl Forest {
    /// One number a feature, as its engine counts.
    ///
    /// | kind | LightGBM | XGBoost |
    /// | --- | --- | --- |
    /// | `Gain` | `gain` | `total_gain` |
    /// | `MeanGain` | | `gain` |
    /// | `Count` | `split` | `weight` |
    /// | `Cover` | rows | `total_cover` |
    /// | `MeanCover` | rows | `cover` |
    ///
    /// Splits that gained nothing do not count in LightGBM. Means are over the splits of the feature;
    /// a feature without one has 0. The trees' weights, and which class a tree is for, play no part.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] for a kind that the forest's engine does not know. CatBoost's files have
    /// neither gains nor covers: ask [`CatBoostModel`](crate::CatBoostModel).
    pub fn importance(&self, kind: ImportanceKind) -> Result<Vec<f64>> {
        let (mut sums, mut counts) =
            (vec![0.0; self.features.len()], vec![0.0; self.features.len()]);
        let refuse = |expected: &str| Err(Error::data("importance", expected, format!("{kind:?}")));
        if matches!(self.sum, Sum::Scaled { .. }) {
            return refuse("those of CatBoost's models");
        }
        // XGBoost adds up in `f32`.
        let is_single = matches!(self.sum, Sum::Single { .. });
        let round = |x: f64| if is_single { f64::from(x as f32) } else { x };
        let is_lightgbm = matches!(self.sum, Sum::Double { .. });
        for tree in &self.trees {
            let Trunk::Nodes(nodes) = &tree.trunk else { continue };
            for node in nodes.iter().filter(|node| !is_lightgbm || 0.0 < node.stats.gain) {
                let cover = if is_lightgbm { node.stats.count } else { node.stats.cover };
                counts[node.split.feature] += 1.0;
                let amount = match kind {
                    ImportanceKind::Gain | ImportanceKind::MeanGain => node.stats.gain,
                    ImportanceKind::Count => 1.0,
                    ImportanceKind::Cover | ImportanceKind::MeanCover => cover,
                    _ => return refuse("gain, count, cover, mean gain, or mean cover"),
                };
                let sum = &mut sums[node.split.feature];
                *sum = round(*sum + amount);
            }
        }
        if matches!(kind, ImportanceKind::MeanGain | ImportanceKind::MeanCover) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum = round(*sum / f64::max(count, 1.0));
            }
        }
        Ok(sums)
    }
}
