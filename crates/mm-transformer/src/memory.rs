//! How much memory a fit takes, and how it keeps within a limit.

use mm_core::{Error, Result};

/// What the memory of a fit depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    /// Numbers that are learnt.
    pub(crate) weights: usize,
    /// Numbers that a row of a piece leaves between the layers.
    pub(crate) between: usize,
    /// Rows of a step.
    pub(crate) batch: usize,
    /// Bytes that the rows of the data take in the form in which a net reads them.
    pub(crate) data: usize,
}

/// How a batch is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Rows of a piece. What they are changes roundings, so it never depends on the threads.
    pub(crate) rows_at_once: usize,
    /// Pieces at once.
    pub(crate) workers: usize,
}

/// Bytes of a number.
const NUMBER: usize = 4;
/// Arrays of the weights' length that a fit holds: the weights, two moments, their running mean, the
/// best, a copy as tensors, and the gradient's sum.
const COPIES: usize = 7;
/// And that a piece adds: its gradient as tensors, as an array, and one that waits for its turn.
const COPIES_A_PIECE: usize = 3;
/// Bytes in which a thread arranges what matrix products read.
const SCRATCH: usize = 2 << 20;

impl Need {
    /// An estimate from above.
    pub(crate) fn bytes(&self, plan: Plan) -> usize {
        let workers = plan.workers.min(self.batch.div_ceil(plan.rows_at_once));
        let a_piece = COPIES_A_PIECE * self.weights + self.between * plan.rows_at_once;
        self.data + NUMBER * (COPIES * self.weights + workers * a_piece) + workers * SCRATCH
    }

    /// The plan that was wished for, or what is left of it within `limit` bytes: smaller pieces if
    /// even one alone is too large, then fewer at once.
    pub(crate) fn plan(&self, wish: Plan, limit: Option<usize>) -> Result<Plan> {
        let Some(limit) = limit else { return Ok(wish) };
        let mut plan = Plan { workers: 1, ..wish };
        while limit < self.bytes(plan) {
            if plan.rows_at_once == 1 {
                let expected = format!("at least {} bytes for this net and data", self.bytes(plan));
                return Err(Error::data("training.memory", expected, limit));
            }
            plan.rows_at_once /= 2;
        }
        let fits = |&workers: &usize| self.bytes(Plan { workers, ..plan }) <= limit;
        let workers = (1..=wish.workers).rev().find(fits).unwrap_or(1);
        Ok(Plan { workers, ..plan })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the limit: a plan keeps it or is an error that says what would do; its pieces do
        /// not depend on the threads, and with more room none is smaller and no thread is idle.
        #[test]
        fn a_limit_is_kept(
            weights in 1_usize..10_000, between in 1_usize..10_000, batch in 1_usize..300,
            rows_at_once in 1_usize..300, workers in 1_usize..9, limit in 1_usize..20_000_000,
        ) {
            let need = Need { weights, between, batch, data: 1000 };
            let wish = Plan { rows_at_once, workers };
            match need.plan(wish, Some(limit)) {
                Ok(plan) => {
                    prop_assert!(need.bytes(plan) <= limit);
                    let alone = need.plan(Plan { workers: 1, ..wish }, Some(limit)).expect("fits");
                    prop_assert_eq!(alone.rows_at_once, plan.rows_at_once);
                    let more = need.plan(wish, Some(limit + 1000)).expect("fits");
                    prop_assert!(plan.rows_at_once <= more.rows_at_once);
                    prop_assert!(plan.rows_at_once < more.rows_at_once || plan.workers <= more.workers);
                }
                Err(error) => {
                    let least = need.bytes(Plan { rows_at_once: 1, workers: 1 });
                    prop_assert!(limit < least);
                    prop_assert!(error.to_string().contains(&least.to_string()), "{}", error);
                }
            }
            prop_assert_eq!(need.plan(wish, None).expect("no limit"), wish);
        }
    }
}
