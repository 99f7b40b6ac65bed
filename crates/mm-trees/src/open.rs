//! One door for model files of every kind.

use mm_core::{BoxModel, Catalog, Error, Result};

use crate::{LightGbmModel, XgBoostModel};

/// Opens a model file of any engine, told by its bytes: LightGBM's text, XGBoost's JSON or UBJSON, and
/// what this crate has stored itself.
///
/// The signature is what the file says. A file whose categorical columns have no levels in it needs
/// one from the caller: [`LightGbmModel::from_text_as`], [`XgBoostModel::from_bytes_as`].
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
    if bytes.first() == Some(&b'{') {
        return Ok(Box::new(XgBoostModel::read(bytes)?));
    }
    let head = bytes[..bytes.len().min(16)].escape_ascii();
    let expected = "text of LightGBM, JSON or UBJSON of XGBoost, or a model of this crate";
    Err(Error::corrupt("model file", expected, format_args!("\"{head}\"")))
}
