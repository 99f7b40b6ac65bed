//! The conformance suite passes what keeps its promises, and names the promise that is broken.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mm_core::conformance;

use crate::probe::{Fault, catalog, stump};

#[test]
fn a_learner_that_keeps_its_promises_passes() {
    conformance::check(&stump(Fault::None), &catalog());
}

#[test]
fn each_broken_promise_is_named() {
    for (fault, promise) in [
        (Fault::FitFails, "must fit"),
        (Fault::PredictsNan, "predictions are finite"),
        (Fault::IgnoresWeights, "weights are not ignored"),
        (Fault::IgnoresCancel, "a fit that its observer gives up on ends as cancelled"),
        (Fault::DependsOnThreads, "2 threads give the model that one gives"),
        (Fault::DependsOnTheClock, "the same seed gives the same model"),
        (Fault::DependsOnTheBatch, "row i depends on row i alone"),
        (Fault::ForgetsItsThreshold, "bit-identical after reloading"),
        (Fault::RowsDiffer, "row 0 alone gives"),
        (Fault::ProbabilitiesOverOne, "probabilities lie in [0, 1]"),
        (Fault::ExplainsHalf, "contributions add up to"),
        (Fault::ExplainsByPlace, "an explanation depends on its row alone"),
    ] {
        let check = || conformance::check(&stump(fault), &catalog());
        let panic = catch_unwind(AssertUnwindSafe(check)).expect_err("a broken promise");
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let said = said.expect("a message");
        assert!(said.contains(promise), "{fault:?} should say `{promise}`, said `{said}`");
    }
}
