//! A [`Forest`] of LightGBM written as model text.
//!
//! A forest that was read is written as it was read, byte for byte, where LightGBM itself wrote it:
//! thresholds, leaves, and weights with 17 significant digits, everything else with 6, as C's `%g`
//! has them.

use std::{
    fmt::{Display, Write as _},
    ops::Range,
};

use super::read::{BELOW_ZERO, Rest, Text, TreeRest};
use crate::forest::{Child, Forest, LinearLeaf, Node, Test, Tree, Trunk, ZERO};

/// Digits that bring a number back as it was.
const EXACT: usize = 17;
/// Digits of statistics, which no prediction reads.
const SHORT: usize = 6;

/// The text that LightGBM opens.
pub(super) fn write(forest: &Forest, rest: &Rest) -> String {
    let pairs = forest.trees.iter().zip(&rest.trees);
    let trees: Vec<String> =
        pairs.enumerate().map(|(i, (tree, rest))| write_tree(i, tree, rest)).collect();
    let mut text = rest.head.clone();
    text.push_str(&line("tree_sizes", trees.iter().map(String::len)));
    text.push('\n');
    text.extend(trees);
    text.push_str("end of trees\n");
    text.push_str(&rest.tail);
    text
}

/// The rounds of `rounds` alone, their splits counted anew.
pub(super) fn slice(forest: &Forest, rest: &Rest, rounds: Range<usize>) -> Text {
    let trees = rounds.start * forest.trees_per_round..rounds.end * forest.trees_per_round;
    let forest = Forest { trees: forest.trees[trees.clone()].to_vec(), ..forest.clone() };
    let tail = with_importances(&rest.tail, &forest);
    let rest = Rest { trees: rest.trees[trees].to_vec(), tail, ..rest.clone() };
    Text { forest, rest }
}

/// `tail` with the splits of `forest` in the lines that count them.
fn with_importances(tail: &str, forest: &Forest) -> String {
    let start = "\nfeature_importances:\n";
    let Some((before, after)) = tail.split_once(start) else { return tail.to_owned() };
    let rest = if after.starts_with('\n') { Some(after) } else { None };
    let rest = rest.or_else(|| after.find("\n\n").map(|at| &after[at + 1..])).unwrap_or_default();
    format!("{before}{start}{}{rest}", importances(forest))
}

/// Lines `name=splits` in descending order, of the features that have splits that gained.
fn importances(forest: &Forest) -> String {
    let mut counts = vec![0_usize; forest.features.len()];
    for tree in &forest.trees {
        let Trunk::Nodes(nodes) = &tree.trunk else { continue };
        let gained = nodes.iter().filter(|node| 0.0 < node.stats.gain);
        gained.for_each(|node| counts[node.split.feature] += 1);
    }
    let mut order: Vec<usize> = (0..counts.len()).filter(|&j| 0 < counts[j]).collect();
    order.sort_by_key(|&j| std::cmp::Reverse(counts[j]));
    order.iter().fold(String::new(), |mut lines, &j| {
        let _ = writeln!(lines, "{}={}", forest.features[j].name, counts[j]);
        lines
    })
}

fn write_tree(i: usize, tree: &Tree, rest: &TreeRest) -> String {
    let Trunk::Nodes(nodes) = &tree.trunk else { unreachable!("LightGBM's trees have nodes") };
    let sets: Vec<&[u32]> = nodes.iter().filter_map(|node| Some(set_of(node)?.words())).collect();
    let (exact, short) = (|x: f64| general(x, EXACT), |x: f64| general(x, SHORT));
    let stats = |of: fn(&Node) -> f64| nodes.iter().map(of);

    let mut text = format!("Tree={i}\n");
    text.push_str(&line("num_leaves", [tree.leaves.len()]));
    text.push_str(&line("num_cat", [sets.len()]));
    text.push_str(&line("split_feature", nodes.iter().map(|node| node.split.feature)));
    text.push_str(&line("split_gain", stats(|node| node.stats.gain).map(short)));
    text.push_str(&line("threshold", thresholds(nodes).map(exact)));
    text.push_str(&line("decision_type", &rest.decisions));
    text.push_str(&line("left_child", nodes.iter().map(|node| number_of(node.left))));
    text.push_str(&line("right_child", nodes.iter().map(|node| number_of(node.right))));
    text.push_str(&line("leaf_value", tree.leaves.iter().copied().map(exact)));
    let leaves = &tree.leaf_stats;
    // A constant has no weight, and LightGBM writes none.
    let weighed = leaves.iter().filter(|leaf| 1 < leaves.len() || leaf.cover != 0.0);
    text.push_str(&line("leaf_weight", weighed.map(|leaf| exact(leaf.cover))));
    text.push_str(&line("leaf_count", leaves.iter().map(|leaf| leaf.count)));
    text.push_str(&line("internal_value", stats(|node| node.stats.value).map(short)));
    text.push_str(&line("internal_weight", stats(|node| node.stats.cover).map(short)));
    text.push_str(&line("internal_count", stats(|node| node.stats.count)));
    if !sets.is_empty() {
        let ends = sets.iter().scan(0, |end, words| {
            *end += words.len();
            Some(*end)
        });
        text.push_str(&line("cat_boundaries", [0].into_iter().chain(ends)));
        text.push_str(&line("cat_threshold", sets.iter().copied().flatten()));
    }
    if rest.says_linear {
        text.push_str(&line("is_linear", [u8::from(!tree.linear.is_empty())]));
    }
    if !tree.linear.is_empty() {
        write_linear(&mut text, &tree.linear);
    }
    text.push_str(&line("shrinkage", [short(rest.shrinkage)]));
    text.push_str("\n\n");
    text
}

/// Each leaf's list ends with a blank, and with one more than if it is empty.
fn write_linear(text: &mut String, leaves: &[LinearLeaf]) {
    let lists = |text: &mut String, key: &str, word: &dyn Fn(&(usize, f64)) -> String| {
        let _ = write!(text, "{key}=");
        for leaf in leaves {
            let words: Vec<String> = leaf.terms.iter().map(word).collect();
            let _ = write!(text, "{}{} ", words.join(" "), if words.is_empty() { "" } else { " " });
        }
        text.push('\n');
    };
    text.push_str(&line("leaf_const", leaves.iter().map(|leaf| general(leaf.constant, EXACT))));
    text.push_str(&line("num_features", leaves.iter().map(|leaf| leaf.terms.len())));
    lists(text, "leaf_features", &|&(feature, _)| feature.to_string());
    lists(text, "leaf_coeff", &|&(_, coefficient)| general(coefficient, EXACT));
}

/// Thresholds, or in their place the numbers of category sets.
fn thresholds(nodes: &[Node]) -> impl Iterator<Item = f64> {
    let mut n_sets = 0;
    nodes.iter().map(move |node| match &node.split.test {
        Test::AtMost { threshold, .. } if *threshold == BELOW_ZERO => -ZERO,
        Test::AtMost { threshold, .. } => *threshold,
        _ => {
            n_sets += 1;
            f64::from(n_sets - 1)
        }
    })
}

fn set_of(node: &Node) -> Option<&crate::forest::CategorySet> {
    match &node.split.test {
        Test::Among { set, .. } => Some(set),
        _ => None,
    }
}

/// A leaf is written as the complement of its number.
fn number_of(child: Child) -> i64 {
    match child {
        Child::Node(node) => node as i64,
        Child::Leaf(leaf) => !(leaf as i64),
    }
}

fn line<T: Display>(key: &str, values: impl IntoIterator<Item = T>) -> String {
    let mut line = format!("{key}=");
    for (i, value) in values.into_iter().enumerate() {
        let blank = if i == 0 { "" } else { " " };
        let _ = write!(line, "{blank}{value}"); // Writing to a string cannot fail.
    }
    line.push('\n');
    line
}

/// `x` with up to `digits` significant digits, as C's `%g` writes it.
pub(super) fn general(x: f64, digits: usize) -> String {
    if x == 0.0 || !x.is_finite() {
        let sign = if x.is_sign_negative() && !x.is_nan() { "-" } else { "" };
        let size = match x {
            0.0 => "0",
            _ if x.is_nan() => "nan",
            _ => "inf",
        };
        return format!("{sign}{size}");
    }
    let scientific = format!("{:.*e}", digits - 1, x);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if -4 <= exponent && exponent < digits as i32 {
        let decimals = (digits as i32 - 1 - exponent) as usize;
        return trimmed(&format!("{x:.decimals$}")).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs())
}

/// Without the zeros after the last decimal that is none.
fn trimmed(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_c_writes_them() {
        for (x, digits, expected) in [
            (0.1, 17, "0.10000000000000001"),
            (f64::from(1e-35_f32), 17, "1.0000000180025095e-35"),
            (123_456.0, 6, "123456"),
            (1_234_567.0, 6, "1.23457e+06"),
            (0.000_012_345, 6, "1.2345e-05"),
            (0.000_123_45, 6, "0.00012345"),
            (100.0, 6, "100"),
            (-2.5, 6, "-2.5"),
            (999_999.6, 6, "1e+06"),
            (0.0, 6, "0"),
            (-0.0, 17, "-0"),
            (f64::INFINITY, 17, "inf"),
            (f64::NEG_INFINITY, 6, "-inf"),
            (f64::NAN, 6, "nan"),
            (1e300, 17, "1.0000000000000001e+300"),
        ] {
            assert_eq!(general(x, digits), expected);
        }
    }
}
