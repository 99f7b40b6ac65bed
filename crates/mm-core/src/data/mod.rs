//! Data as the workspace sees it: frames of features, datasets, predictions, and their readers.

#[cfg(feature = "arrow")]
pub mod arrow;
mod cell;
mod column;
mod csv;
mod dataset;
mod frame;
mod intake;
mod interner;
mod matrix;
mod ndarray;
mod number;
#[cfg(feature = "parquet")]
mod parquet;
mod roles;
mod schema;
mod source;
pub(crate) mod time;

pub(crate) use dataset::hex;
pub(crate) use schema::Quoted;
pub use {
    dataset::{ClassWeight, Dataset, Output, Task, Truth},
    frame::Frame,
    matrix::Matrix,
    roles::{ColumnReport, ReadReport, Role, Roles, TaskKind},
    schema::{Column, ColumnKind, Levels, Schema},
    source::Source,
    time::TimeUnit,
};
