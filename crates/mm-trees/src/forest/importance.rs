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

#[cfg(test)]
mod tests {
    use super::super::{
        Child, Ctrs, Feature, LeafStats, Link, Missing, Node, NodeStats, Outputs, Split, Test, Tree,
    };
    use super::*;

    /// Three splits: on feature 0 twice, the second of no gain, and on feature 2.
    fn forest(sum: Sum) -> Forest {
        let node = |feature, left, right, gain, weight| Node {
            split: Split {
                feature,
                test: Test::AtMost { threshold: 0.0, missing: Missing::AsZero },
            },
            left,
            right,
            stats: NodeStats { gain, cover: weight, count: 4.0 * weight, value: 0.0 },
        };
        let nodes = vec![
            node(0, Child::Node(1), Child::Node(2), 8.0, 5.0),
            node(0, Child::Leaf(0), Child::Leaf(1), 0.0, 3.0),
            node(2, Child::Leaf(2), Child::Leaf(3), 1.5, 2.0),
        ];
        let tree = Tree {
            trunk: Trunk::Nodes(nodes),
            leaves: vec![0.0; 4],
            leaf_stats: vec![LeafStats::default(); 4],
            linear: Vec::new(),
            outputs: Outputs::One(0),
            weight: 0.5,
        };
        let feature = |j| Feature { name: format!("f{j}"), is_categorical: false };
        Forest {
            features: (0..3).map(feature).collect(),
            n_outputs: 1,
            trees: vec![tree],
            trees_per_round: 1,
            sum,
            link: Link::Identity,
            ctrs: Ctrs::default(),
        }
    }

    #[test]
    fn each_kind_is_counted_as_its_engine_does() {
        let lightgbm = forest(Sum::Double { is_average: false });
        let xgboost = forest(Sum::Single { base: vec![0.0] });
        for (kind, in_lightgbm, in_xgboost) in [
            (ImportanceKind::Gain, [8.0, 0.0, 1.5], [8.0, 0.0, 1.5]),
            (ImportanceKind::MeanGain, [8.0, 0.0, 1.5], [4.0, 0.0, 1.5]),
            (ImportanceKind::Count, [1.0, 0.0, 1.0], [2.0, 0.0, 1.0]),
            (ImportanceKind::Cover, [20.0, 0.0, 8.0], [8.0, 0.0, 2.0]),
            (ImportanceKind::MeanCover, [20.0, 0.0, 8.0], [4.0, 0.0, 2.0]),
        ] {
            assert_eq!(lightgbm.importance(kind).expect("known"), in_lightgbm, "{kind:?}");
            assert_eq!(xgboost.importance(kind).expect("known"), in_xgboost, "{kind:?}");
        }
        let catboost = forest(Sum::Scaled { scale: 1.0, bias: vec![0.0] });
        assert!(catboost.importance(ImportanceKind::Gain).is_err());
        assert!(xgboost.importance(ImportanceKind::PredictionChange).is_err());
    }
}
