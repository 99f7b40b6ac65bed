//! What is asked of a model that was read from any bytes: that it predicts, whatever the row, and can
//! be stored and read again as the same model.

pub mod catboost;
