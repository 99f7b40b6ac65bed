//! Memory that is used again: what an operation needs for its time comes from a store of the thread,
//! and goes back when it is dropped. Fresh pages from the system cost as much as writing them twice.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

/// Buffers of one thread that are kept at most.
const KEPT: usize = 128;

thread_local! {
    static STORE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// A slice whose numbers are whatever was there before.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    values: Vec<f32>,
    len: usize,
}

impl Buffer {
    /// `len` numbers.
    pub(crate) fn new(len: usize) -> Self {
        let found = STORE.with_borrow_mut(|store| {
            let fits = store.iter().enumerate().filter(|(_, values)| len <= values.len());
            let best = fits.min_by_key(|(_, values)| values.len()).map(|(at, _)| at);
            best.map(|at| store.swap_remove(at))
        });
        Self { values: found.unwrap_or_else(|| vec![0.0; len]), len }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        // A thread that ends has no store any more; then the memory is freed here.
        let _ = STORE.try_with(|store| {
            let mut store = store.borrow_mut();
            if !values.is_empty() && store.len() < KEPT {
                store.push(values);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_and_the_smallest_that_fits_is_taken() {
        let [small, large, middle] = [4, 64, 16].map(Buffer::new);
        let places = [&small, &middle, &large].map(|buffer| buffer.as_ptr());
        drop((small, large, middle));
        let three = [4, 5, 5].map(Buffer::new);
        assert_eq!(three.each_ref().map(|buffer| buffer.as_ptr()), places);
        assert_eq!(three[1].len(), 5);
    }
}
