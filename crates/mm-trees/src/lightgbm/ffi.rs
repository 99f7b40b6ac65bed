//! Owned LightGBM handles behind a safe surface: slices in, `Vec`s and errors out.
//!
//! Every handle has one owner that frees it. No C type, raw pointer, or return code leaves this
//! file, and every length crosses into C by a checked conversion.
//!
//! # Threads
//!
//! LightGBM keeps its thread count in a variable of the process, sizes buffers by it in one call,
//! and indexes them by thread in a later one: two fits with different counts would corrupt each
//! other's memory. So the count is never given to LightGBM. `num_threads` stays 0, upon which it
//! asks OpenMP (`OMP_NUM_THREADS()` in `openmp_wrapper.cpp`), whose answer is private to the calling
//! thread. [`Threads::run`] sets that private value around each call, and no two fits meet.
//!
//! # Messages
//!
//! LightGBM prints unless the *calling thread* has registered a callback, and OpenMP's workers are
//! threads too. [`Threads::run`] registers [`log`] on all of them, so that messages become `tracing`
//! events. One thing cannot be silenced from outside: an error makes LightGBM write one line to
//! standard error (`Log::Fatal` in `log.h`) before it returns the error; what callers can get wrong
//! is therefore checked before the call.

#![expect(unsafe_code, reason = "the whole purpose of this file")]

use std::{
    cell::Cell,
    ffi::{CStr, CString, c_char, c_int, c_uint, c_void},
    num::NonZeroUsize,
    panic::catch_unwind,
    ptr,
};

use lightgbm3_sys as sys;
use mm_core::Matrix;

use super::LightGbmError;

type Result<T> = std::result::Result<T, LightGbmError>;

// OpenMP itself, which `lightgbm3-sys` links: two functions of its standard, and the entry that
// compilers call for `#pragma omp parallel` (GCC's libgomp since 4.9, and LLVM's libomp).
unsafe extern "C" {
    fn omp_get_max_threads() -> c_int;
    fn omp_set_num_threads(n: c_int);
    fn GOMP_parallel(body: extern "C" fn(*mut c_void), data: *mut c_void, n: c_uint, flags: c_uint);
}

/// How many threads the engine may use in a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Threads(c_int); // Invariant: from 1 to `MAX`.

impl Threads {
    pub(super) const ONE: Self = Self(1);

    /// OpenMP ends the process when the system refuses it a thread.
    const MAX: c_int = 512;

    pub(super) fn new(n: NonZeroUsize) -> Self {
        Self(c_int::try_from(n.get()).map_or(Self::MAX, |n| n.min(Self::MAX)))
    }

    /// Runs `call` with this many threads for OpenMP, and with messages going to `tracing`.
    fn run<R>(self, call: impl FnOnce() -> R) -> R {
        struct Restore(c_int);
        impl Drop for Restore {
            fn drop(&mut self) {
                // SAFETY: sets a value of this thread; any positive number is allowed.
                unsafe { omp_set_num_threads(self.0) };
            }
        }
        // SAFETY: reads a value of this thread.
        let _restore = Restore(unsafe { omp_get_max_threads() });
        // SAFETY: sets a value of this thread, to a positive number by the invariant.
        unsafe { omp_set_num_threads(self.0) };
        if self.0 == 1 {
            listen(ptr::null_mut());
        } else {
            // SAFETY: `listen` ignores its data, touches thread-local state only, and cannot unwind.
            unsafe { GOMP_parallel(listen, ptr::null_mut(), self.0.unsigned_abs(), 0) };
        }
        call()
    }
}

/// Registers [`log`] on the calling thread.
extern "C" fn listen(_: *mut c_void) {
    // SAFETY: stores a function pointer that is valid for ever in a variable of this thread.
    unsafe { sys::LGBM_RegisterLogCallback(Some(log)) };
}

#[derive(Clone, Copy)]
enum Level {
    Warning,
    Info,
    Debug,
}

thread_local! {
    static LEVEL: Cell<Level> = const { Cell::new(Level::Info) };
}

/// Hears each message in three parts: `[LightGBM] [Level] `, the text, and a line feed.
///
/// # Safety
///
/// `part` must be a NUL-terminated string that outlives the call.
unsafe extern "C" fn log(part: *const c_char) {
    // SAFETY: the caller guarantees it.
    let part = unsafe { CStr::from_ptr(part) }.to_string_lossy();
    // A subscriber may panic, and a panic must not reach C++.
    let _ = catch_unwind(|| match part.strip_prefix("[LightGBM] [") {
        Some(rest) => LEVEL.set(match rest.as_bytes().first() {
            Some(b'W') => Level::Warning,
            Some(b'D') => Level::Debug,
            _ => Level::Info,
        }),
        None if part.trim().is_empty() => {}
        None => match LEVEL.get() {
            Level::Warning => tracing::warn!(target: "mm_trees::lightgbm", "{}", part.trim_end()),
            Level::Info => tracing::debug!(target: "mm_trees::lightgbm", "{}", part.trim_end()),
            Level::Debug => tracing::trace!(target: "mm_trees::lightgbm", "{}", part.trim_end()),
        },
    });
}

fn check(code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: LightGBM returns a NUL-terminated string private to this thread.
    let message = unsafe { CStr::from_ptr(sys::LGBM_GetLastError()) };
    Err(LightGbmError::Native(message.to_string_lossy().trim().to_owned()))
}

/// `n` as C's `int`, or an error that names what is too large.
fn int(what: &'static str, n: usize) -> Result<c_int> {
    c_int::try_from(n).map_err(|_| LightGbmError::TooLarge { what, got: n })
}

fn c_string(what: &'static str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| LightGbmError::Nul(what))
}

/// Reads a string of unknown length: `fill` gets a buffer's length, where to put the needed
/// length, and the buffer.
fn read_string(mut fill: impl FnMut(i64, *mut i64, *mut c_char) -> c_int) -> Result<String> {
    let mut buffer = vec![0_u8; 1 << 16];
    loop {
        let mut needed: i64 = 0;
        let len = i64::try_from(buffer.len()).unwrap_or(i64::MAX);
        check(fill(len, &raw mut needed, buffer.as_mut_ptr().cast()))?;
        let needed = usize::try_from(needed).unwrap_or(0);
        if needed <= buffer.len() {
            buffer.truncate(needed.saturating_sub(1)); // Without the NUL.
            return Ok(String::from_utf8_lossy(&buffer).into_owned());
        }
        buffer = vec![0; needed];
    }
}

/// Every parameter that LightGBM knows with its aliases, as JSON: name → list of aliases.
pub(super) fn parameter_aliases() -> Result<String> {
    read_string(|len, needed, out| {
        // SAFETY: `out` has room for `len` bytes, and LightGBM writes only what fits.
        Threads::ONE.run(|| unsafe { sys::LGBM_DumpParamAliases(len, needed, out) })
    })
}

/// Lets the engine read parameters, and check each by itself.
pub(super) fn check_config(config: &str) -> Result<()> {
    let config = c_string("the parameters", config)?;
    let mut count = 0;
    // SAFETY: a NUL-terminated string, and room for one number. The call reads all parameters in
    // order to answer how many rows of one it would sample.
    check(
        Threads::ONE.run(|| unsafe {
            sys::LGBM_GetSampleCount(1, config.as_ptr(), (&raw mut count).cast())
        }),
    )
}

/// A table in the engine's binned form.
#[derive(Debug)]
pub(super) struct Table {
    handle: sys::DatasetHandle,
    n_rows: usize,
    threads: Threads,
}

impl Table {
    /// Bins the rows of `blocks` one after another, each block row-major and `n_cols` wide; with
    /// the bins of `reference`, if there is one. The blocks are not needed afterwards.
    pub(super) fn new(
        blocks: &[&[f32]],
        n_cols: usize,
        config: &str,
        reference: Option<&Self>,
        threads: Threads,
    ) -> Result<Self> {
        let mut data: Vec<*const c_void> = blocks.iter().map(|b| b.as_ptr().cast()).collect();
        let mut lengths = Vec::with_capacity(blocks.len());
        for block in blocks {
            assert!(block.len().is_multiple_of(n_cols), "a block has whole rows");
            lengths.push(int("rows", block.len() / n_cols)?);
        }
        let n_rows = blocks.iter().map(|block| block.len() / n_cols).sum();
        int("rows", n_rows)?; // LightGBM adds the lengths up in an `int`.
        let mut is_row_major = vec![1; blocks.len()];
        let n_blocks = int("blocks of rows", blocks.len())?;
        let n_cols = int("columns", n_cols)?;
        let config = c_string("the parameters", config)?;
        let reference = reference.map_or(ptr::null_mut(), |table| table.handle);
        let mut handle = ptr::null_mut();
        // SAFETY: `data[i]` points at `lengths[i] * n_cols` floats that outlive the call, the three
        // arrays have `n_blocks` elements, and `reference` is null or a live dataset.
        check(threads.run(|| unsafe {
            sys::LGBM_DatasetCreateFromMats(
                n_blocks,
                data.as_mut_ptr(),
                sys::C_API_DTYPE_FLOAT32.cast_signed(),
                lengths.as_mut_ptr(),
                n_cols,
                is_row_major.as_mut_ptr(),
                config.as_ptr(),
                reference,
                &raw mut handle,
            )
        }))?;
        Ok(Self { handle, n_rows, threads })
    }

    /// Names the columns; LightGBM writes the names into the model.
    pub(super) fn set_names(&mut self, names: &[String]) -> Result<()> {
        let names: Vec<CString> =
            names.iter().map(|name| c_string("a column name", name)).collect::<Result<_>>()?;
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let len = int("columns", pointers.len())?;
        // SAFETY: `pointers` holds `len` NUL-terminated strings, which LightGBM copies.
        check(self.threads.run(|| unsafe {
            sys::LGBM_DatasetSetFeatureNames(self.handle, pointers.as_mut_ptr(), len)
        }))
    }

    /// The target, one number a row.
    pub(super) fn set_labels(&mut self, labels: &[f32]) -> Result<()> {
        assert_eq!(labels.len(), self.n_rows, "`Dataset` guarantees it");
        self.set_field(c"label", labels.as_ptr().cast(), labels.len(), sys::C_API_DTYPE_FLOAT32)
    }

    /// The weights, one a row.
    pub(super) fn set_weights(&mut self, weights: &[f32]) -> Result<()> {
        assert_eq!(weights.len(), self.n_rows, "`Dataset` guarantees it");
        self.set_field(c"weight", weights.as_ptr().cast(), weights.len(), sys::C_API_DTYPE_FLOAT32)
    }

    /// The raw scores to start from: output by output, each one number a row.
    pub(super) fn set_initial_scores(&mut self, scores: &[f64]) -> Result<()> {
        assert!(scores.len().is_multiple_of(self.n_rows), "a score a row and output");
        self.set_field(
            c"init_score",
            scores.as_ptr().cast(),
            scores.len(),
            sys::C_API_DTYPE_FLOAT64,
        )
    }

    fn set_field(&mut self, name: &CStr, at: *const c_void, len: usize, kind: u32) -> Result<()> {
        let len = int("values of a field", len)?;
        // SAFETY: the callers pass a slice's pointer, length, and element type; LightGBM copies it.
        check(self.threads.run(|| unsafe {
            sys::LGBM_DatasetSetField(self.handle, name.as_ptr(), at, len, kind.cast_signed())
        }))
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: the handle came from LightGBM and is freed once. A failure here has no remedy.
        self.threads.run(|| unsafe { sys::LGBM_DatasetFree(self.handle) });
    }
}

/// A booster with the data that it trains on. Confined to one thread: neither `Send` nor `Sync`.
#[derive(Debug)]
pub(super) struct Trainer {
    booster: Handle, // Dropped before the tables, which it points into: fields drop in order.
    _validation: Option<Table>,
    train: Table,
    n_metrics: usize,
}

impl Trainer {
    /// An empty booster over `train`, which also follows `validation` if there is one.
    pub(super) fn new(train: Table, validation: Option<Table>, config: &str) -> Result<Self> {
        let config = c_string("the parameters", config)?;
        let mut raw = ptr::null_mut();
        // SAFETY: the dataset is alive, and the returned `Trainer` keeps it so.
        check(train.threads.run(|| unsafe {
            sys::LGBM_BoosterCreate(train.handle, config.as_ptr(), &raw mut raw)
        }))?;
        let booster = Handle(raw);
        let mut n_metrics = 0;
        if let Some(validation) = &validation {
            let add = || {
                // SAFETY: both handles are alive, and the returned `Trainer` keeps them so.
                unsafe { sys::LGBM_BoosterAddValidData(booster.0, validation.handle) }
            };
            check(train.threads.run(add))?;
            // SAFETY: writes one number.
            check(unsafe { sys::LGBM_BoosterGetEvalCounts(booster.0, &raw mut n_metrics) })?;
        }
        let n_metrics = usize::try_from(n_metrics).unwrap_or(0);
        Ok(Self { booster, _validation: validation, train, n_metrics })
    }

    /// Puts copies of `previous`'s trees first. Its raw scores must be the tables' initial ones.
    pub(super) fn continue_from(&mut self, previous: &Booster) -> Result<()> {
        // SAFETY: both handles are alive; LightGBM only reads the trees of the second.
        check(
            self.train
                .threads
                .run(|| unsafe { sys::LGBM_BoosterMerge(self.booster.0, previous.0.0) }),
        )
    }

    /// Grows one round of trees. `false`: nothing can be split any more, and none was added.
    pub(super) fn grow(&mut self) -> Result<bool> {
        let mut is_finished = 0;
        // SAFETY: the handle and the data behind it are alive; one number is written.
        check(self.train.threads.run(|| unsafe {
            sys::LGBM_BoosterUpdateOneIter(self.booster.0, &raw mut is_finished)
        }))?;
        Ok(is_finished == 0)
    }

    /// The engine's own metric on the validation data. One thread adds it up if `exact`, so that
    /// the sum does not depend on the number of threads.
    pub(super) fn evaluate(&self, exact: bool) -> Result<f64> {
        let threads = if exact { Threads::ONE } else { self.train.threads };
        let mut scores = vec![f64::NAN; self.n_metrics.max(1)];
        let mut written = 0;
        // SAFETY: validation data have as many metrics as `n_metrics` says, since both lists are
        // made from one config; without validation data there are none and the call fails.
        check(threads.run(|| unsafe {
            sys::LGBM_BoosterGetEval(self.booster.0, 1, &raw mut written, scores.as_mut_ptr())
        }))?;
        Ok(scores[0])
    }

    /// The predictions for the validation data after the last round, into `out`: a row a row, a
    /// column an output.
    pub(super) fn predict_validation(&self, out: &mut Matrix) -> Result<()> {
        let (n_rows, n_outputs) = (out.n_rows(), out.n_cols());
        let mut needed: i64 = 0;
        // SAFETY: writes one number.
        check(unsafe { sys::LGBM_BoosterGetNumPredict(self.booster.0, 1, &raw mut needed) })?;
        assert_eq!(usize::try_from(needed), Ok(n_rows * n_outputs), "one number a row and output");
        let mut columns = vec![0.0; n_rows * n_outputs];
        // SAFETY: `columns` has room for the number of values that LightGBM has just named.
        check(self.train.threads.run(|| unsafe {
            sys::LGBM_BoosterGetPredict(self.booster.0, 1, &raw mut needed, columns.as_mut_ptr())
        }))?;
        for i in 0..n_rows {
            for (k, value) in out.row_mut(i).iter_mut().enumerate() {
                *value = columns[k * n_rows + i];
            }
        }
        Ok(())
    }

    /// The model in LightGBM's text form, cut to its first `rounds` if given. The tables and
    /// everything else that training needed are freed.
    pub(super) fn finish(self, rounds: Option<usize>) -> Result<String> {
        self.booster.to_text(rounds, self.train.threads)
    }
}

/// A booster handle that is freed once.
#[derive(Debug)]
struct Handle(sys::BoosterHandle);

impl Handle {
    fn to_text(&self, rounds: Option<usize>, threads: Threads) -> Result<String> {
        let rounds = rounds.map_or(Ok(-1), |n| int("rounds", n))?;
        let kind = sys::C_API_FEATURE_IMPORTANCE_SPLIT.cast_signed();
        read_string(|len, needed, out| {
            // SAFETY: `out` has room for `len` bytes, and LightGBM writes only what fits.
            threads.run(|| unsafe {
                sys::LGBM_BoosterSaveModelToString(self.0, 0, rounds, kind, len, needed, out)
            })
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle came from LightGBM and is freed once. A failure here has no remedy.
        Threads::ONE.run(|| unsafe { sys::LGBM_BoosterFree(self.0) });
    }
}

/// A finished booster, free of the data that it was trained on.
#[derive(Debug)]
pub(super) struct Booster(Handle);

impl Booster {
    /// Loads a model whose text this crate has written; LightGBM trusts what it reads.
    pub(super) fn load(text: &str) -> Result<Self> {
        // Without the trees' sizes LightGBM reads them one after another, in which an error is an
        // error; with the sizes it reads them in an OpenMP loop, out of which an exception ends the
        // process.
        let lines = text.split_inclusive('\n').filter(|line| !line.starts_with("tree_sizes="));
        let text = c_string("the model text", &lines.collect::<String>())?;
        let (mut handle, mut n_rounds) = (ptr::null_mut(), 0);
        // SAFETY: a NUL-terminated string that outlives the call. Its trees come from a `Forest`
        // that was checked: every index they hold lies within its array.
        check(Threads::ONE.run(|| unsafe {
            sys::LGBM_BoosterLoadModelFromString(text.as_ptr(), &raw mut n_rounds, &raw mut handle)
        }))?;
        Ok(Self(Handle(handle)))
    }

    /// The model in LightGBM's text form.
    #[cfg(test)]
    pub(super) fn to_text(&self) -> Result<String> {
        self.0.to_text(None, Threads::ONE)
    }

    /// What LightGBM predicts for the rows of `x`, `out.n_cols()` numbers a row: raw scores if
    /// `is_raw`, for `n` rounds from `first` on, or all for −1.
    #[cfg(test)]
    pub(super) fn predict(
        &self,
        x: &mm_core::Frame,
        is_raw: bool,
        rounds: (c_int, c_int),
        out: &mut Matrix,
    ) -> Result<()> {
        let values = x.values();
        let kind = if is_raw { sys::C_API_PREDICT_RAW_SCORE } else { sys::C_API_PREDICT_NORMAL };
        let (n_rows, n_cols) = (int("rows", x.n_rows())?, int("columns", x.n_cols())?);
        let mut written: i64 = 0;
        // SAFETY: `values` holds `n_rows * n_cols` floats, and `out` a number a row and output.
        check(Threads::ONE.run(|| unsafe {
            sys::LGBM_BoosterPredictForMat(
                self.0.0,
                values.as_ptr().cast(),
                sys::C_API_DTYPE_FLOAT32.cast_signed(),
                n_rows,
                n_cols,
                1,
                kind.cast_signed(),
                rounds.0,
                rounds.1,
                c"num_threads=1".as_ptr(),
                &raw mut written,
                out.values_mut().as_mut_ptr(),
            )
        }))?;
        assert_eq!(usize::try_from(written), Ok(out.values().len()), "a number a row and output");
        Ok(())
    }
}
