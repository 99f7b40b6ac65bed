//! Linear models that learn a row at a time.

pub(crate) mod bank;
pub(crate) mod link;
pub(crate) mod model;
pub(crate) mod optimizer;
pub(crate) mod passive;
pub(crate) mod scaler;
