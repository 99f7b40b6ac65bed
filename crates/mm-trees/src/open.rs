//! One door for model files of every kind.

use mm_core::{BoxModel, Catalog, Error, Result};

use crate::{CatBoostModel, LightGbmModel, XgBoostModel};

/// Opens a model file of any engine, told by its bytes: LightGBM's text, XGBoost's JSON or UBJSON,
/// CatBoost's `.cbm` or JSON, and what this crate has stored itself.
///
/// The signature is what the file says. A file whose categorical columns have no levels in it needs
/// one from the caller: [`LightGbmModel::from_text_as`], [`XgBoostModel::from_bytes_as`],
/// [`CatBoostModel::read`].
///
/// # Errors
///
/// [`Error::Corrupt`] if the bytes are damaged or no such file.
pub fn open(bytes: &[u8]) -> Result<BoxModel> {
    if bytes.starts_with(b"mm-model") {
        return crate::register(Catalog::default()).open(bytes);
    }
    if bytes.starts_with(b"tree\n") || bytes.starts_with(b"tree\r\n") {
        return Ok(Box::new(LightGbmModel::read(bytes)?));
    }
    // XGBoost's objects begin with `learner` or `Config`, CatBoost's have this key, sooner or later.
    let is_catboost = || bytes.windows(16).any(|window| window == b"\"features_info\":");
    if bytes.starts_with(b"CBM1") || (bytes.first() == Some(&b'{') && is_catboost()) {
        return Ok(Box::new(CatBoostModel::read(bytes, None)?));
    }
    if bytes.first() == Some(&b'{') {
        return Ok(Box::new(XgBoostModel::read(bytes)?));
    }
    let head = bytes[..bytes.len().min(16)].escape_ascii();
    let expected = "a file of LightGBM, XGBoost, or CatBoost, or a model of this crate";
    Err(Error::corrupt("model file", expected, format_args!("\"{head}\"")))
}
