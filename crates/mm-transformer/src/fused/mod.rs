//! The block and the dense layer on the processor, each as one operation of the tape.
//!
//! Made of single operations, as [`nn`](crate::nn) has them, a block writes some thirty arrays to memory
//! and reads them back. Here it goes through the rows in chunks that stay in the processor's cache,
//! keeps for the gradient what is dear to compute and makes the rest anew, and reuses its memory.
//! Its gradient is written by hand, and held to the one of the single operations by tests.
//!
//! | file | holds |
//! | --- | --- |
//! | `simd.rs` | the choice of vector instructions, sums over slices, the exponential |
//! | `product.rs` | matrix products |
//! | `norm.rs`, `softmax.rs`, `gate.rs` | what stands between products, and its gradients |
//! | `attention.rs` | attention of one row, and its gradient |
//! | `block.rs`, `block_gradient.rs` | the pre-norm block |
//! | `dense.rs` | a linear map, then a ReLU and dropout if asked for |
//! | `members.rs` | what members of TabM have each for themselves: views, heads |
//! | `buffer.rs` | memory that is used again |
//! | `tape.rs` | how Burn's tape takes these operations |
//!
//! An output depends on its own row and on the weights alone, to the bit: products add up in the
//! order of the inner index, however many rows there are. One call runs on one thread.

#![expect(
    clippy::inline_always,
    reason = "loops are compiled anew for each level of instructions that they are inlined into"
)]

#[cfg(test)]
mod agreement;
pub(crate) mod attention;
pub(crate) mod block;
mod block_gradient;
pub(crate) mod buffer;
pub(crate) mod dense;
mod gate;
pub(crate) mod members;
mod norm;
pub(crate) mod product;
pub(crate) mod simd;
mod softmax;
pub(crate) mod tape;
