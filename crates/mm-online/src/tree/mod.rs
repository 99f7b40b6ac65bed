//! Trees and forests that grow as rows come.

pub(crate) mod grow;
pub(crate) mod hoeffding;
pub(crate) mod leaf;
