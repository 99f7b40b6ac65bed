//! Behaviour that users of the crate rely on.

mod interop;
mod storages;
