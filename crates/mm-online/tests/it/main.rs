//! Online models in service, from outside.

mod kills;
