//! Tests across the modules of `mm-core`, in one binary.

mod conformance;
mod orchestrator;
mod persistence;
mod probe;
mod registry;
