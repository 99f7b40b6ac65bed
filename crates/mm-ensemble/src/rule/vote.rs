//! Each member votes for a class.

use mm_core::{Error, Output, Result};
use serde::{Deserialize, Serialize};

/// What a vote yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VoteOutput {
    /// Each class's share of the votes.
    #[default]
    Shares,
    /// 1 for the class that wins, 0 for the others. Members are asked in the order of their
    /// weights, and the rest is not asked once it cannot change the winner.
    Winner,
}

/// Votes that count as the members' weights say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Vote {
    weights: Vec<f64>, // None negative, adding up to 1, not increasing for `Winner`.
    output: VoteOutput,
}

impl Vote {
    pub(crate) fn new(weights: Vec<f64>, output: VoteOutput) -> Self {
        Self { weights, output }
    }

    pub(crate) fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Whether the rest need not be asked once a class has won.
    pub(crate) fn stops_early(&self) -> bool {
        self.output == VoteOutput::Winner
    }

    pub(super) fn check(&self, n: usize, outputs: &[Output]) -> Result<()> {
        if !outputs.iter().all(|output| matches!(output, Output::Probability(_))) {
            return Err(Error::data("outputs of a vote", "probabilities", format!("{outputs:?}")));
        }
        let ok = self.weights.len() == n
            && self.weights.iter().all(|w| 0.0 <= *w)
            && (self.weights.iter().sum::<f64>() - 1.0).abs() < 1e-9;
        if ok {
            return Ok(());
        }
        let got = format_args!("{:?}", self.weights);
        Err(Error::data("weights", format_args!("{n}, adding up to 1"), got))
    }

    /// The winner as far as the first members in `parts` decide it: the class whose lead the other
    /// members together cannot make up for.
    pub(crate) fn decided(&self, parts: &[f64], k: usize) -> Option<usize> {
        let asked = parts.len() / k;
        let left: f64 = self.weights[asked..].iter().sum();
        let n_classes = k.max(2);
        let votes = |class: usize| self.votes(parts, k, class);
        let first = best(n_classes, votes);
        let second = (0..n_classes).filter(|&c| c != first).map(votes).fold(0.0, f64::max);
        // A lead must outweigh the rounding of the sums, or all members are asked.
        (left + 1e-12 < votes(first) - second).then_some(first)
    }

    /// 1 for `winner` and 0 for the others.
    pub(crate) fn crown(winner: usize, out: &mut [f64]) {
        if let [positive] = out {
            *positive = winner as f64;
        } else {
            out.fill(0.0);
            out[winner] = 1.0;
        }
    }

    pub(super) fn combine(&self, parts: &[f64], out: &mut [f64]) {
        let k = out.len();
        match self.output {
            VoteOutput::Shares => {
                let binary = k == 1;
                for (class, share) in out.iter_mut().enumerate() {
                    *share = self.votes(parts, k, if binary { 1 } else { class });
                }
            }
            VoteOutput::Winner => {
                let winner = self.decided(parts, k).unwrap_or_else(|| self.tie(parts, k));
                Self::crown(winner, out);
            }
        }
    }

    fn votes(&self, parts: &[f64], k: usize, class: usize) -> f64 {
        let members = parts.chunks_exact(k).zip(&self.weights);
        members.filter(|(part, _)| choice(part) == class).map(|(_, weight)| weight).sum()
    }

    /// Of the classes with the most votes the one of the highest mean probability, and of those the
    /// first.
    fn tie(&self, parts: &[f64], k: usize) -> usize {
        let n_classes = k.max(2);
        let votes: Vec<f64> = (0..n_classes).map(|class| self.votes(parts, k, class)).collect();
        let most = votes.iter().copied().fold(0.0, f64::max);
        let probability = |class: usize| -> f64 {
            let members = parts.chunks_exact(k).zip(&self.weights);
            members.map(|(part, weight)| weight * of_class(part, class)).sum()
        };
        let tied = |class: usize| most - 1e-12 <= votes[class];
        best(n_classes, |class| if tied(class) { probability(class) } else { -1.0 })
    }
}

/// The class that a row of probabilities is for: the likeliest, and of equally likely ones the
/// first.
fn choice(part: &[f64]) -> usize {
    match *part {
        [positive] => usize::from(0.5 < positive),
        _ => best(part.len(), |class| part[class]),
    }
}

fn of_class(part: &[f64], class: usize) -> f64 {
    match *part {
        [positive] if class == 0 => 1.0 - positive,
        [positive] => positive,
        _ => part[class],
    }
}

/// The first of the classes with the highest score.
fn best(n_classes: usize, score: impl Fn(usize) -> f64) -> usize {
    (1..n_classes).fold(0, |best, class| if score(best) < score(class) { class } else { best })
}
