//! Behaviour that users of the crate rely on.

mod interop;
mod pruners;
mod storages;
