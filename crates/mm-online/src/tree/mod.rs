//! Trees and forests that grow as rows come.

pub(crate) mod adaptive;
pub(crate) mod forest;
pub(crate) mod grow;
pub(crate) mod hoeffding;
pub(crate) mod leaf;
pub(crate) mod mondrian;
