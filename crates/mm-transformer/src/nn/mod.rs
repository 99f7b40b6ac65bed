//! The layers, from the inside out. Each is a struct of tensors, made from a
//! [`Scope`](crate::weights::Scope), with one `forward`; each is held to numbers that an independent
//! program computed from the same weights (`oracle.rs`).
//!
//! | file | holds |
//! | --- | --- |
//! | `pass.rs` | what a forward pass carries besides data: dropout, by counted randomness |
//! | `linear.rs` | the linear map |
//! | `norm.rs` | layer normalisation |
//! | `attention.rs` | multi-head attention, its masks, relative bias |
//! | `position.rs` | where in a sequence a vector stands |
//! | `feed_forward.rs` | gated feed-forward layers |
//! | `block.rs` | the pre-norm block |
//! | `members.rs` | views and heads of the members of TabM |
//! | `numeric.rs` | vectors of numbers: linear, periodic, piecewise linear |
//! | `category.rs` | vectors of levels |
//!
//! Shapes are written (*n*, *t*, *d*): rows, tokens of a row, width.

pub(crate) mod attention;
pub(crate) mod block;
pub(crate) mod category;
pub(crate) mod feed_forward;
pub(crate) mod linear;
pub(crate) mod members;
pub(crate) mod norm;
pub(crate) mod numeric;
#[cfg(test)]
pub(crate) mod oracle;
pub(crate) mod pass;
pub(crate) mod position;
