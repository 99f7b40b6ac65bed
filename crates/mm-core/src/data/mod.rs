//! Data as the workspace sees it: frames of features, datasets, predictions, and their readers.

mod dataset;
mod frame;
mod matrix;
mod schema;

pub(crate) use dataset::hex;
pub(crate) use schema::Quoted;
pub use {
    dataset::{ClassWeight, Dataset, Output, Task, Truth},
    frame::Frame,
    matrix::Matrix,
    schema::{Column, ColumnKind, Levels, Schema},
};
