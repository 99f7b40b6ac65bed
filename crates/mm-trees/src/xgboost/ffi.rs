//! Owned XGBoost handles behind a safe surface: slices in, `Vec`s and errors out.
//!
//! Every handle has one owner that frees it. No C type, raw pointer, or return code leaves this
//! file, and every length crosses into C by a checked conversion. The C API catches every C++
//! exception and turns it into a return code; the two callbacks below unwind into nothing.
//!
//! XGBoost logs through a callback that is set a thread at a time, and prints to the standard error
//! where none is set. So each call first makes sure that its thread has ours, which hands the text
//! to `tracing`.

#![expect(unsafe_code, reason = "the whole purpose of this file")]

use std::{
    cell::Cell,
    ffi::{CStr, CString, c_char, c_int},
    fmt::Display,
    mem,
    num::TryFromIntError,
    panic::catch_unwind,
    ptr, slice,
};

use serde_json::json;
use xgboost_lib_sys as sys;

type Result<T, E = XgBoostError> = std::result::Result<T, E>;

/// Why XGBoost refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XgBoostError {
    /// The engine's own message, without the stack trace and the source line that it adds.
    #[error("{0}")]
    Native(String),
    /// A name or value with a NUL byte, which has no form in C.
    #[error("expected text without a NUL byte, got {0:?}")]
    Nul(String),
    /// A count beyond what the engine's integers hold.
    #[error("a count is too large for the engine")]
    TooLarge(#[from] TryFromIntError),
    /// The engine answered in another form than its version promises.
    #[error("expected {expected} from the engine, got {got}")]
    Answer {
        /// What the pinned version of the engine answers.
        expected: String,
        /// What it answered.
        got: String,
    },
}

impl XgBoostError {
    pub(super) fn answer(expected: &str, got: &dyn Display) -> Self {
        Self::Answer { expected: expected.to_owned(), got: got.to_string() }
    }

    /// The engine's message, whose form is `[time] file:line: text`, then a stack trace.
    fn native(message: &str) -> Self {
        let text = message.split("\nStack trace:").next().unwrap_or_default();
        let text = match text.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((_, rest)) => rest,
            None => text,
        };
        let text = match text.split_once(": ") {
            Some((place, rest)) if is_source_line(place) => rest,
            _ => text,
        };
        Self::Native(text.trim().to_owned())
    }
}

/// Whether `place` is `path:number`.
fn is_source_line(place: &str) -> bool {
    let number = place.rsplit_once(':').map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Feature values and what belongs to them, lent to XGBoost while it copies them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lent<'a> {
    /// Row-major, of length *np*; NaN is missing, and no category is negative.
    pub(super) values: &'a [f32],
    /// One flag a column.
    pub(super) categorical: &'a [bool],
    /// One label a row.
    pub(super) labels: &'a [f64],
    /// One weight a row.
    pub(super) weights: Option<&'a [f64]>,
}

/// Data in XGBoost's own form.
#[derive(Debug)]
pub(super) struct Table {
    raw: sys::DMatrixHandle,
}

impl Table {
    /// Values as they are, 8 bytes each.
    pub(super) fn plain(lent: Lent<'_>, threads: usize) -> Result<Self> {
        let table = Self::of_values(lent.values, lent.categorical.len(), threads)?;
        table.describe(&Description::new(lent)?)?;
        Ok(table)
    }

    /// Values cut into at most `max_bin` bins a column, 1 or 2 bytes each: all that the `hist`
    /// method reads. The cuts are those of `reference`, where there is one.
    pub(super) fn binned(
        lent: Lent<'_>,
        reference: Option<&Self>,
        max_bin: u32,
        threads: usize,
    ) -> Result<Self> {
        let mut proxy = ptr::null_mut();
        // SAFETY: `proxy` outlives the call, which writes a handle into it.
        call(|| unsafe { sys::XGProxyDMatrixCreate(&raw mut proxy) })?;
        let proxy = Self { raw: proxy };
        let reference = reference.map_or(ptr::null_mut(), |table| table.raw);
        let config = format!(r#"{{"missing":NaN,"nthread":{threads},"max_bin":{max_bin}}}"#);
        let config = text(&config)?;
        let values = array(lent.values, &[lent.labels.len(), lent.categorical.len()])?;
        let description = Description::new(lent)?;
        let mut batch = Batch { proxy, values, description, is_served: false, error: None };
        let iterator: *mut Batch = &raw mut batch;
        let mut raw = ptr::null_mut();
        // SAFETY: `iterator` points to a batch that outlives the call and that nobody else touches
        // during it; `rewind` and `next` expect just that. `reference` is null or a live handle.
        let built = call(|| unsafe {
            sys::XGQuantileDMatrixCreateFromCallback(
                iterator.cast(),
                (*iterator).proxy.raw,
                reference,
                Some(rewind),
                Some(next),
                config.as_ptr(),
                &raw mut raw,
            )
        });
        match batch.error.take() {
            Some(error) => {
                if built.is_ok() {
                    drop(Self { raw });
                }
                Err(error)
            }
            None => built.map(|()| Self { raw }),
        }
    }

    pub(super) fn of_values(values: &[f32], n_cols: usize, threads: usize) -> Result<Self> {
        let data = array(values, &[values.len() / n_cols, n_cols])?;
        let config = text(&format!(r#"{{"missing":NaN,"nthread":{threads}}}"#))?;
        let mut raw = ptr::null_mut();
        // SAFETY: `data` describes `values`, which the call copies.
        call(|| unsafe {
            sys::XGDMatrixCreateFromDense(data.as_ptr(), config.as_ptr(), &raw mut raw)
        })?;
        Ok(Self { raw })
    }

    fn describe(&self, description: &Description) -> Result<()> {
        for (field, values) in &description.arrays {
            // SAFETY: `values` describes a slice that `Lent` borrows; the call copies it.
            call(|| unsafe {
                sys::XGDMatrixSetInfoFromInterface(self.raw, field.as_ptr(), values.as_ptr())
            })?;
        }
        let mut types: Vec<*const c_char> =
            description.types.iter().map(|kind| kind.as_ptr()).collect();
        let n_types = u64::try_from(types.len())?;
        // SAFETY: `types` holds `n_types` pointers to NUL-terminated text; the call copies them.
        call(|| unsafe {
            let field = c"feature_type".as_ptr();
            sys::XGDMatrixSetStrFeatureInfo(self.raw, field, types.as_mut_ptr(), n_types)
        })
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: `raw` came from XGBoost and is freed once. A failure here has no remedy.
        let _ = unsafe { sys::XGDMatrixFree(self.raw) };
    }
}

/// Column types, labels, and weights, in the engine's form.
struct Description {
    types: Vec<&'static CStr>,
    arrays: Vec<(&'static CStr, CString)>,
}

impl Description {
    fn new(lent: Lent<'_>) -> Result<Self> {
        let mut arrays = vec![(c"label", array(lent.labels, &[lent.labels.len()])?)];
        if let Some(weights) = lent.weights {
            arrays.push((c"weight", array(weights, &[weights.len()])?));
        }
        let types = lent.categorical.iter().map(|&is| type_name(is)).collect();
        Ok(Self { types, arrays })
    }
}

fn type_name(categorical: bool) -> &'static CStr {
    if categorical { c"c" } else { c"float" }
}

/// The one batch of an iteration over data that lie in one piece.
struct Batch {
    proxy: Table,
    values: CString,
    description: Description,
    is_served: bool,
    error: Option<XgBoostError>,
}

impl Batch {
    fn serve(&self) -> Result<()> {
        // SAFETY: `values` describes a slice that `Lent` borrows for longer than the iteration.
        call(|| unsafe { sys::XGProxyDMatrixSetDataDense(self.proxy.raw, self.values.as_ptr()) })?;
        self.proxy.describe(&self.description)
    }
}

unsafe extern "C" fn rewind(batch: sys::DataIterHandle) {
    // SAFETY: XGBoost hands back the pointer that `Table::binned` gave it.
    unsafe { (*batch.cast::<Batch>()).is_served = false };
}

unsafe extern "C" fn next(batch: sys::DataIterHandle) -> c_int {
    // SAFETY: XGBoost hands back the pointer that `Table::binned` gave it, to nobody else.
    let batch = unsafe { &mut *batch.cast::<Batch>() };
    if mem::replace(&mut batch.is_served, true) {
        return 0;
    }
    match batch.serve() {
        Ok(()) => 1,
        Err(error) => {
            batch.error = Some(error);
            0
        }
    }
}

/// The format of a stored booster.
#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    #[cfg(test)]
    Json,
    Ubjson,
}

/// A booster that is set up, trained, or read. Confined to one thread: neither `Send` nor `Sync`.
#[derive(Debug)]
pub(super) struct Booster {
    raw: sys::BoosterHandle,
}

impl Booster {
    /// A booster without trees that will see `tables`.
    pub(super) fn new(tables: &[&Table]) -> Result<Self> {
        let handles: Vec<sys::DMatrixHandle> = tables.iter().map(|table| table.raw).collect();
        let n_tables = u64::try_from(handles.len())?;
        let mut raw = ptr::null_mut();
        // SAFETY: `handles` holds `n_tables` live handles, whose data the engine shares.
        call(|| unsafe { sys::XGBoosterCreate(handles.as_ptr(), n_tables, &raw mut raw) })?;
        Ok(Self { raw })
    }

    /// Sets a parameter; it is checked when the booster is next used.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let (name, value) = (text(name)?, text(value)?);
        // SAFETY: both are NUL-terminated; the call copies them.
        call(|| unsafe { sys::XGBoosterSetParam(self.raw, name.as_ptr(), value.as_ptr()) })
    }

    /// Replaces the trees by those of a booster that this crate has written; XGBoost trusts what
    /// it reads.
    pub(super) fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let length = u64::try_from(bytes.len())?;
        // SAFETY: `bytes` holds `length` bytes, which the call only reads. They come from a
        // `Forest` that was checked: every length and index in them lies within its bounds.
        call(|| unsafe {
            sys::XGBoosterLoadModelFromBuffer(self.raw, bytes.as_ptr().cast(), length)
        })
    }

    /// The booster in the engine's own format.
    pub(super) fn save(&self, format: Format) -> Result<Vec<u8>> {
        let config = match format {
            #[cfg(test)]
            Format::Json => c"{\"format\":\"json\"}",
            Format::Ubjson => c"{\"format\":\"ubj\"}",
        };
        let (mut length, mut start) = (0, ptr::null());
        // SAFETY: the call writes the place and length of a buffer of this thread.
        call(|| unsafe {
            sys::XGBoosterSaveModelToBuffer(
                self.raw,
                config.as_ptr(),
                &raw mut length,
                &raw mut start,
            )
        })?;
        // SAFETY: the buffer holds `length` bytes until this thread's next call.
        Ok(unsafe { copied(start.cast::<u8>(), length) }?.to_vec())
    }

    /// The whole configuration as JSON; what was set before is checked here.
    pub(super) fn config(&self) -> Result<String> {
        let (mut length, mut start) = (0, ptr::null());
        // SAFETY: the call writes the place and length of a buffer of this thread.
        call(|| unsafe {
            sys::XGBoosterSaveJsonConfig(self.raw, &raw mut length, &raw mut start)
        })?;
        // SAFETY: the buffer holds `length` bytes until this thread's next call.
        let bytes = unsafe { copied(start.cast::<u8>(), length) }?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// The booster as it was after its first `rounds` rounds.
    pub(super) fn first(&self, rounds: usize) -> Result<Self> {
        let rounds = c_int::try_from(rounds)?;
        let mut raw = ptr::null_mut();
        // SAFETY: the call writes a handle of its own into `raw`.
        let code = hushed(|| unsafe { sys::XGBoosterSlice(self.raw, 0, rounds, 1, &raw mut raw) });
        if code == -2 {
            return Err(XgBoostError::answer(&format!("at least {rounds} rounds"), &"fewer"));
        }
        check(code)?;
        Ok(Self { raw })
    }

    /// Stores a text under a key in the booster.
    pub(super) fn set_attribute(&mut self, key: &CStr, value: &str) -> Result<()> {
        let value = text(value)?;
        // SAFETY: both are NUL-terminated; the call copies them.
        call(|| unsafe { sys::XGBoosterSetAttr(self.raw, key.as_ptr(), value.as_ptr()) })
    }

    /// Names the features and says which are categorical.
    pub(super) fn set_features(&mut self, names: &[&str], categorical: &[bool]) -> Result<()> {
        let names = names.iter().map(|name| text(name)).collect::<Result<Vec<_>>>()?;
        let names = names.iter().map(|name| name.as_ptr()).collect();
        let types = categorical.iter().map(|&is| type_name(is).as_ptr()).collect();
        for (field, mut texts) in [(c"feature_name", names), (c"feature_type", types)] {
            let texts: &mut Vec<*const c_char> = &mut texts;
            let n_texts = u64::try_from(texts.len())?;
            // SAFETY: `texts` holds `n_texts` pointers to NUL-terminated text; the call copies it.
            call(|| unsafe {
                let texts = texts.as_mut_ptr();
                sys::XGBoosterSetStrFeatureInfo(self.raw, field.as_ptr(), texts, n_texts)
            })?;
        }
        Ok(())
    }

    /// Predictions for a table, one row after another, into `out`. Trees that were predicted
    /// before for the same table are not visited again.
    pub(super) fn predict_table(&self, table: &Table, out: &mut [f64]) -> Result<()> {
        let config = c"{\"type\":0,\"training\":false,\"iteration_begin\":0,\"iteration_end\":0,\
                       \"strict_shape\":true}";
        let answer = Answer::of(|shape, n_axes, values| {
            // SAFETY: both handles are alive, and the out pointers are those of an `Answer`.
            call(|| unsafe {
                let config = config.as_ptr();
                sys::XGBoosterPredictFromDMatrix(self.raw, table.raw, config, shape, n_axes, values)
            })
        })?;
        answer.copy_to(out)
    }

    /// Predictions for row-major values of width `n_cols`, raw scores if `is_raw`, for the rounds
    /// from `rounds.0` to `rounds.1`, or all if both are 0, into `out`.
    #[cfg(test)]
    pub(super) fn predict_values(
        &self,
        values: &[f32],
        n_cols: usize,
        is_raw: bool,
        rounds: (usize, usize),
        out: &mut [f64],
    ) -> Result<()> {
        let config = json!({
            "type": u8::from(is_raw), "missing": f32::NAN, "iteration_begin": rounds.0,
            "iteration_end": rounds.1, "strict_shape": true,
        });
        let config = text(&config.to_string().replace("null", "NaN"))?;
        let data = array(values, &[values.len() / n_cols, n_cols])?;
        let answer = Answer::of(|shape, n_axes, result| {
            let (data, config) = (data.as_ptr(), config.as_ptr());
            let proxy = ptr::null_mut(); // The engine makes one for this call.
            // SAFETY: `data` describes `values`, and the out pointers are those of an `Answer`.
            call(|| unsafe {
                sys::XGBoosterPredictFromDense(self.raw, data, config, proxy, shape, n_axes, result)
            })
        })?;
        answer.copy_to(out)
    }
}

impl Drop for Booster {
    fn drop(&mut self) {
        // SAFETY: `raw` came from XGBoost and is freed once. A failure here has no remedy.
        let _ = unsafe { sys::XGBoosterFree(self.raw) };
    }
}

/// A booster with the data it trains on. Confined to one thread: neither `Send` nor `Sync`.
#[derive(Debug)]
pub(super) struct Trainer {
    pub(super) booster: Booster,
    train: Table,
    held_out: Option<Table>,
}

impl Trainer {
    pub(super) fn new(train: Table, held_out: Option<Table>) -> Result<Self> {
        let tables: Vec<&Table> = [&train].into_iter().chain(&held_out).collect();
        let booster = Booster::new(&tables)?;
        Ok(Self { booster, train, held_out })
    }

    /// Boosts one round, numbered from 0.
    pub(super) fn grow(&mut self, round: usize) -> Result<()> {
        let round = c_int::try_from(round)?;
        // SAFETY: both handles are alive.
        call(|| unsafe { sys::XGBoosterUpdateOneIter(self.booster.raw, round, self.train.raw) })
    }

    /// Predictions for the held-out rows, into `out`.
    pub(super) fn predict_held_out(&mut self, out: &mut [f64]) -> Result<()> {
        match &self.held_out {
            Some(table) => self.booster.predict_table(table, out),
            None => Err(XgBoostError::answer("held-out data", &"none")),
        }
    }

    /// The engine's own metric on the held-out rows, with its name.
    pub(super) fn evaluate(&mut self, round: usize) -> Result<(String, f64)> {
        let Some(table) = &self.held_out else {
            return Err(XgBoostError::answer("held-out data", &"none"));
        };
        let round = c_int::try_from(round)?;
        let (mut tables, mut names) = ([table.raw], [c"held_out".as_ptr()]);
        let mut line = ptr::null();
        // SAFETY: there is one live table and one name, and the call writes a pointer to text.
        call(|| unsafe {
            let (tables, names) = (tables.as_mut_ptr(), names.as_mut_ptr());
            sys::XGBoosterEvalOneIter(self.booster.raw, round, tables, names, 1, &raw mut line)
        })?;
        // SAFETY: `line` is NUL-terminated and lives until this thread's next call.
        let line = unsafe { CStr::from_ptr(line) }.to_string_lossy();
        // One line: `[round]`, a tab, `held_out-name:value`.
        let parts = line.split_once("\theld_out-").and_then(|(_, rest)| rest.rsplit_once(':'));
        let parsed = parts.and_then(|(name, value)| Some((name, value.trim().parse().ok()?)));
        let (name, value) =
            parsed.ok_or_else(|| XgBoostError::answer("a metric's name and value", &line))?;
        Ok((name.to_owned(), value))
    }
}

/// Predictions in a buffer of this thread, which lives until the thread's next call.
struct Answer {
    shape: *const u64,
    n_axes: u64,
    values: *const f32,
}

impl Answer {
    fn of(
        call: impl FnOnce(*mut *const u64, *mut u64, *mut *const f32) -> Result<()>,
    ) -> Result<Self> {
        let mut answer = Self { shape: ptr::null(), n_axes: 0, values: ptr::null() };
        call(&raw mut answer.shape, &raw mut answer.n_axes, &raw mut answer.values)?;
        Ok(answer)
    }

    fn copy_to(&self, out: &mut [f64]) -> Result<()> {
        // SAFETY: the engine wrote `n_axes` lengths at `shape`.
        let shape = unsafe { copied(self.shape, self.n_axes) }?;
        let total = shape.iter().product::<u64>();
        if total != u64::try_from(out.len())? {
            let expected = format!("{} predictions", out.len());
            return Err(XgBoostError::answer(&expected, &format_args!("{shape:?}")));
        }
        // SAFETY: `shape` says that there are `total` values.
        let values = unsafe { copied(self.values, total) }?;
        for (out, &value) in out.iter_mut().zip(values) {
            *out = f64::from(value);
        }
        Ok(())
    }
}

/// The numbers at `start`, which may be null where there are none.
///
/// # Safety
///
/// `start` must be null, or point to `length` numbers that outlive the borrow.
unsafe fn copied<'a, T: Copy>(start: *const T, length: u64) -> Result<&'a [T]> {
    if start.is_null() || length == 0 {
        return Ok(&[]);
    }
    // SAFETY: the caller promises it.
    Ok(unsafe { slice::from_raw_parts(start, usize::try_from(length)?) })
}

/// A number type of the array interface.
trait Number {
    const TYPE: &'static str;
}

impl Number for f32 {
    const TYPE: &'static str = if cfg!(target_endian = "big") { ">f4" } else { "<f4" };
}

impl Number for f64 {
    const TYPE: &'static str = if cfg!(target_endian = "big") { ">f8" } else { "<f8" };
}

/// The array interface of `values`: their place in memory, shape, and type, as JSON.
fn array<T: Number>(values: &[T], shape: &[usize]) -> Result<CString> {
    assert_eq!(
        values.len(),
        shape.iter().product::<usize>(),
        "a frame is as long as its shape says"
    );
    let place = values.as_ptr().addr();
    let interface =
        json!({ "data": [place, true], "shape": shape, "typestr": T::TYPE, "version": 3 });
    text(&interface.to_string())
}

fn text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| XgBoostError::Nul(text.to_owned()))
}

fn call(function: impl FnOnce() -> c_int) -> Result<()> {
    check(hushed(function))
}

fn check(code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: XGBoost returns a NUL-terminated string of this thread.
    let message = unsafe { CStr::from_ptr(sys::XGBGetLastError()) };
    Err(XgBoostError::native(&message.to_string_lossy()))
}

thread_local! {
    static IS_HUSHED: Cell<bool> = const { Cell::new(false) };
}

/// Calls `function` on a thread on which XGBoost logs to `tracing`.
fn hushed<T>(function: impl FnOnce() -> T) -> T {
    if !IS_HUSHED.replace(true) {
        // SAFETY: `log` is a function, so it lives for ever. The call cannot fail.
        let _ = unsafe { sys::XGBRegisterLogCallback(Some(log)) };
    }
    function()
}

unsafe extern "C" fn log(message: *const c_char) {
    // SAFETY: XGBoost gives NUL-terminated text that outlives the call.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    // A subscriber that panics must not unwind into C++.
    let _ = catch_unwind(|| {
        let message = message.trim();
        if message.contains("WARNING: ") {
            tracing::warn!(target: "mm_trees::xgboost", "{message}");
        } else {
            tracing::debug!(target: "mm_trees::xgboost", "{message}");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lose_their_time_place_and_stack_trace() {
        let raw = "[10:20:30] /a/b c/param.h:42: Check failed: x: y\nStack trace:\n  [bt] (0) z\n";
        assert_eq!(XgBoostError::native(raw).to_string(), "Check failed: x: y");
        assert_eq!(XgBoostError::native("plain: text").to_string(), "plain: text");
    }

    #[test]
    fn text_with_a_nul_byte_is_refused() {
        let mut booster = Booster::new(&[]).expect("nothing to refuse");
        let err = booster.set("eta", "0.\0").expect_err("NUL");
        assert_eq!(err, XgBoostError::Nul("0.\0".to_owned()));
    }
}
