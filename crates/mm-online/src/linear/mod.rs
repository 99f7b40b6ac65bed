//! Linear models that learn a row at a time.

pub(crate) mod link;
pub(crate) mod model;
pub(crate) mod optimizer;
pub(crate) mod scaler;
