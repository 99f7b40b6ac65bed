//! The crate as a whole: what every ensemble owes, what members may do wrong, what leaks.
//!
//! | file | holds |
//! | --- | --- |
//! | `probe.rs` | learners for tests |
//! | `conform.rs` | the conformance suite for each ensemble, built by hand and from plans |
//! | `members.rs` | bad members, members that change, files |
//! | `selection.rs` | laws of the combiners that learn, and the reference's numbers |
//! | `leaks.rs` | noise, folds in time, the guard |

mod conform;
mod leaks;
mod members;
mod probe;
mod selection;
