//! Parts of a forest, forests joined, and what they weigh.

use std::{mem::size_of, ops::Range};

use mm_core::{Error, Result};

use super::{
    Forest, Sum,
    tree::{Child, LinearLeaf, Node, Split, Test, Tree, Trunk},
};

impl Forest {
    /// The forest of the boosting rounds `rounds` alone, counted from 0, with the same start: of
    /// `0..best` the prediction at the best iteration. A random forest's average is that over the
    /// rounds that are kept.
    ///
    /// # Errors
    ///
    /// If the range is not within the forest's rounds.
    pub fn slice(&self, rounds: Range<usize>) -> Result<Self> {
        if rounds.end < rounds.start || self.n_rounds() < rounds.end {
            let expected = format!("a range within 0..{}", self.n_rounds());
            return Err(Error::data("rounds", expected, format_args!("{rounds:?}")));
        }
        let per_round = self.trees_per_round.max(1);
        let trees = self.trees[rounds.start * per_round..rounds.end * per_round].to_vec();
        Ok(Self { trees, ..self.empty() })
    }

    /// The trees of this forest and then those of `other`, once started from the start of both:
    /// raw scores are the sum of the two forests' less the start (or the mean over all rounds, of
    /// random forests).
    ///
    /// # Errors
    ///
    /// If the two differ in features, outputs, trees a round, link, target statistics, or in how
    /// and from what start leaves add up: their raw scores do not mean the same.
    pub fn concat(&self, other: &Self) -> Result<Self> {
        let differ = |what: &str| {
            let expected = "as in the first forest";
            Err(Error::data(format_args!("{what} of the second forest"), expected, "others"))
        };
        let (a, b) = (self.empty(), other.empty());
        if a.features != b.features {
            return differ("features");
        }
        if (a.n_outputs, a.trees_per_round, a.link) != (b.n_outputs, b.trees_per_round, b.link) {
            return differ("outputs, trees a round, or link");
        }
        if a.sum != b.sum {
            return differ("start or scale");
        }
        if a != b {
            return differ("target statistics");
        }
        Ok(Self { trees: [self.trees.as_slice(), &other.trees].concat(), ..a })
    }

    /// The same without trees.
    fn empty(&self) -> Self {
        Self {
            features: self.features.clone(),
            n_outputs: self.n_outputs,
            trees: Vec::new(),
            trees_per_round: self.trees_per_round,
            sum: self.sum.clone(),
            link: self.link,
            ctrs: self.ctrs.clone(),
        }
    }

    /// How many leaves all trees have.
    pub fn n_leaves(&self) -> usize {
        self.trees.iter().map(Tree::n_leaves).sum()
    }

    /// Bytes of memory that the trees take in this form; target statistics are not counted.
    pub fn memory(&self) -> usize {
        self.trees.iter().map(Tree::memory).sum::<usize>() + size_of::<Self>()
    }
}

impl Tree {
    /// How many leaves it has.
    pub fn n_leaves(&self) -> usize {
        match &self.trunk {
            Trunk::Nodes(nodes) => {
                let leaves = nodes.iter().flat_map(|node| [node.left, node.right]);
                leaves.filter(|child| matches!(child, Child::Leaf(_))).count().max(1)
            }
            Trunk::Oblivious(symmetric) => 1 << symmetric.levels.len(),
        }
    }

    fn memory(&self) -> usize {
        let trunk = match &self.trunk {
            Trunk::Nodes(nodes) => nodes.len() * size_of::<Node>(),
            Trunk::Oblivious(symmetric) => symmetric.levels.len() * size_of::<Split>(),
        };
        let sets = self.splits().map(|split| match &split.test {
            Test::Among { set, .. } => size_of_val(set.words()),
            _ => 0,
        });
        let terms = self.linear.iter().map(|leaf| size_of_val(leaf.terms.as_slice()));
        size_of::<Self>()
            + trunk
            + sets.sum::<usize>()
            + size_of_val(self.leaves.as_slice())
            + size_of_val(self.leaf_stats.as_slice())
            + self.linear.len() * size_of::<LinearLeaf>()
            + terms.sum::<usize>()
    }
}

impl Sum {
    /// What every output starts from, or is moved by, before any tree.
    #[cfg(test)]
    fn start(&self, output: usize) -> f64 {
        match self {
            Self::Double { .. } => 0.0,
            Self::Single { base } => f64::from(base[output]),
            Self::Scaled { bias, .. } => bias[output],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forest::{Feature, Link, Missing, NodeStats, Outputs};

    /// Two stumps a round, one for each output, whose leaves are whole numbers.
    fn forest(rounds: usize, sum: Sum) -> Forest {
        let stump = |t: usize| {
            let missing = Missing::AsZero;
            let test = Test::AtMost { threshold: t as f64, missing };
            let (left, right) = (Child::Leaf(0), Child::Leaf(1));
            let split = Split { feature: 0, test };
            Tree {
                trunk: Trunk::Nodes(vec![Node { split, left, right, stats: NodeStats::default() }]),
                leaves: vec![t as f64, -1.0],
                leaf_stats: vec![],
                linear: vec![],
                outputs: Outputs::One(t % 2),
                weight: 1.0,
            }
        };
        Forest {
            features: vec![Feature { name: "x".to_owned(), is_categorical: false }],
            n_outputs: 2,
            trees: (0..2 * rounds).map(stump).collect(),
            trees_per_round: 2,
            sum,
            link: Link::Identity,
            ctrs: crate::forest::Ctrs::default(),
        }
    }

    fn raw(forest: &Forest, x: f32) -> [f64; 2] {
        let mut out = [0.0; 2];
        forest.compile().expect("a forest").raw_row(&[x], &mut out);
        out
    }

    #[test]
    fn the_parts_of_a_forest_add_up_to_it() {
        for sum in [
            Sum::Double { is_average: false },
            Sum::Single { base: vec![0.5, 2.0] },
            Sum::Scaled { scale: 2.0, bias: vec![1.0, 3.0] },
        ] {
            let all = forest(7, sum.clone());
            for cut in 0..=7 {
                let (head, tail) = (all.slice(0..cut), all.slice(cut..7));
                let (head, tail) = (head.expect("within"), tail.expect("within"));
                assert_eq!(head.concat(&tail).expect("alike"), all);
                assert_eq!((head.n_rounds(), tail.n_trees()), (cut, 2 * (7 - cut)));
                for x in [-1.0, 3.0, 5.5, f32::NAN, 99.0] {
                    let (head, tail, whole) = (raw(&head, x), raw(&tail, x), raw(&all, x));
                    for k in 0..2 {
                        // Whole and half numbers: exact.
                        assert_eq!(head[k] + tail[k] - sum.start(k), whole[k]);
                    }
                }
            }
        }
    }

    #[test]
    fn a_part_of_a_random_forest_averages_its_own_rounds() {
        let all = forest(4, Sum::Double { is_average: true });
        let last = all.slice(2..4).expect("within");
        assert_eq!(raw(&last, 0.0), [5.0, 6.0]);
        assert_eq!(raw(&all, 0.0), [3.0, 4.0]);
    }

    #[test]
    fn rounds_that_are_not_there_and_unlike_forests_are_refused() {
        let all = forest(3, Sum::Single { base: vec![0.0; 2] });
        let err = all.slice(1..4).expect_err("3 rounds").to_string();
        assert_eq!(err, "rounds: expected a range within 0..3, got 1..4");
        #[expect(clippy::reversed_empty_ranges, reason = "what is refused")]
        let reversed = all.slice(2..1);
        assert!(reversed.is_err());
        let others = [
            Forest { features: vec![], ..all.clone() },
            Forest { trees_per_round: 1, ..all.clone() },
            Forest { link: Link::Exp, ..all.clone() },
            Forest { sum: Sum::Single { base: vec![0.0, 1.0] }, ..all.clone() },
        ];
        for other in others {
            let err = all.concat(&other).expect_err("unlike").to_string();
            assert!(
                err.ends_with("of the second forest: expected as in the first forest, got others")
            );
        }
    }

    #[test]
    fn memory_grows_with_the_trees_and_leaves_are_counted() {
        let sum = Sum::Double { is_average: false };
        let (few, many) = (forest(2, sum.clone()), forest(200, sum));
        assert_eq!((few.n_leaves(), many.n_leaves()), (8, 800));
        let (few_compiled, many_compiled) = (few.compile(), many.compile());
        let (few_compiled, many_compiled) =
            (few_compiled.expect("two"), many_compiled.expect("many"));
        assert!(50 * few.memory() < many.memory() && many.memory() < 100 * few.memory());
        assert!(few_compiled.memory() < many_compiled.memory());
    }
}
