//! Threads of a prediction.
//!
//! A prediction takes no argument for threads. It runs on the rayon pool in which it is called, as
//! parallel iterators do: the process-wide pool (one thread per processor) unless the caller enters
//! another one, with [`with_threads`] or rayon's own `ThreadPool::install`. What comes out does not
//! depend on the pool.

use std::{num::NonZeroUsize, ops::Range};

use rayon::prelude::*;

use crate::{
    data::Matrix,
    error::{Error, Result},
};

/// Runs `work` in a pool of its own of so many threads, within which predictions stay.
///
/// Starting the pool costs some 20 µs a thread; it ends with the call. A service that wants one
/// budget for many calls keeps a `rayon::ThreadPool` and calls its `install`.
///
/// # Errors
///
/// [`Error::Engine`] if the system starts no more threads.
pub fn with_threads<T: Send>(threads: NonZeroUsize, work: impl FnOnce() -> T + Send) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build();
    let pool = pool.map_err(|e| Error::Engine { engine: "rayon", source: Box::new(e) })?;
    Ok(pool.install(work))
}

/// Fills the rows of `out` in blocks of `block` rows, at once on as many threads as the ambient
/// pool has: `work(rows, values)` fills the row-major values of those rows.
///
/// A single block runs on the caller's thread, so a small prediction never waits for a pool. Of
/// several errors, that of the first block is returned.
///
/// # Panics
///
/// If `block` is 0.
pub fn fill_rows(
    out: &mut Matrix,
    block: usize,
    work: impl Fn(Range<usize>, &mut [f64]) -> Result<()> + Sync,
) -> Result<()> {
    let (n_rows, n_cols) = (out.n_rows(), out.n_cols());
    if n_rows <= block || n_cols == 0 {
        return work(0..n_rows, out.values_mut());
    }
    let run = |(i, values): (usize, &mut [f64])| {
        let first = i * block;
        work(first..first + values.len() / n_cols, values)
    };
    let blocks = out.values_mut().par_chunks_mut(block * n_cols).enumerate();
    // Collected in order, so that which error is reported does not depend on which came first.
    blocks.map(run).collect::<Vec<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_filled_once_whatever_the_pool() {
        for threads in 1..4 {
            let threads = NonZeroUsize::new(threads).expect("≥ 1");
            let mut out = Matrix::zeros(103, 2);
            let filled = with_threads(threads, || {
                assert_eq!(rayon::current_num_threads(), threads.get());
                fill_rows(&mut out, 10, |rows, values| {
                    for (row, value) in rows.zip(values.chunks_mut(2)) {
                        value[0] += row as f64;
                        value[1] += 1.0;
                    }
                    Ok(())
                })
            });
            filled.expect("threads").expect("no error");
            for (i, row) in out.rows().enumerate() {
                assert_eq!(row, [i as f64, 1.0]);
            }
        }
    }

    #[test]
    fn of_several_errors_the_first_block_is_named() {
        let mut out = Matrix::zeros(64, 1);
        let failed = fill_rows(&mut out, 8, |rows, _| {
            if rows.start < 24 { Ok(()) } else { Err(Error::data("rows", "fewer", rows.start)) }
        });
        assert!(failed.expect_err("blocks 3 to 7").to_string().contains("24"));
    }
}
