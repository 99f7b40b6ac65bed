//! Behaviour that users of the crate rely on.

mod bad_input;
mod importance;
mod interop;
#[cfg(feature = "postgres")]
mod postgres;
mod pruners;
mod storages;
mod workers;
