//! What a forward pass carries besides data.

use std::cell::Cell;

use burn::tensor::{Tensor, TensorData};

use crate::random::Key;

/// One forward pass: with dropout when a net is trained, without when it is used.
///
/// What is dropped depends on the key, on how many layers asked before, and on the row's place in
/// the batch: not on how the batch is cut into pieces, nor on the thread.
#[derive(Debug)]
pub struct Pass {
    key: Option<Key>,
    first_row: usize,
    asked: Cell<u64>,
}

impl Pass {
    /// A pass that drops nothing.
    pub(crate) fn plain() -> Self {
        Self { key: None, first_row: 0, asked: Cell::new(0) }
    }

    /// A pass of training over the rows of a batch from `first_row` on.
    pub(crate) fn training(key: Key, first_row: usize) -> Self {
        Self { key: Some(key), first_row, asked: Cell::new(0) }
    }

    /// Sets each number to 0 with probability `rate` and divides the others by 1 − `rate`, so that
    /// the expectation stays (Srivastava et al. 2014). The first dimension of `x` is rows.
    pub(crate) fn dropout<const D: usize>(&self, x: Tensor<D>, rate: f64) -> Tensor<D> {
        let Some(key) = self.key else { return x };
        let layer = self.asked.get();
        self.asked.set(layer + 1);
        if rate == 0.0 {
            return x;
        }
        let shape = x.dims();
        let key = key.part(layer);
        let factors = factors(key, self.first_row, shape[0], shape.iter().product(), rate);
        let device = x.device();
        x * Tensor::from_data(TensorData::new(factors, shape), &device)
    }
}

/// 0 with probability `rate`, else 1 / (1 − `rate`), for `len` numbers in `rows` rows. Each draw of
/// 64 bits decides on two numbers.
fn factors(key: Key, first_row: usize, rows: usize, len: usize, rate: f64) -> Vec<f32> {
    let keep = (1.0 / (1.0 - rate)) as f32;
    let limit = (rate * f64::from(u32::MAX)) as u32;
    let factor = |bits: u32| if bits < limit { 0.0 } else { keep };
    let mut out = vec![0.0; len];
    let width = len.checked_div(rows).unwrap_or(0).max(1);
    let stride = width.div_ceil(2) as u64;
    for (row, values) in (first_row as u64..).zip(out.chunks_mut(width)) {
        for (i, pair) in (row * stride..).zip(values.chunks_mut(2)) {
            let bits = key.bits(i);
            pair[0] = factor(bits as u32);
            if let Some(second) = pair.get_mut(1) {
                *second = factor((bits >> 32) as u32);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{device::cpu, weights::read};

    fn dropped(pass: &Pass, rows: usize) -> Vec<f32> {
        read(pass.dropout(Tensor::<2>::ones([rows, 7], &cpu()), 0.25)).expect("reads")
    }

    #[test]
    fn what_is_dropped_does_not_depend_on_how_the_batch_is_cut() {
        let key = Key::new(9);
        let whole = dropped(&Pass::training(key, 0), 6);
        let mut parts = dropped(&Pass::training(key, 0), 2);
        parts.extend(dropped(&Pass::training(key, 2), 4));
        assert_eq!(parts, whole);
    }

    #[test]
    fn the_rate_is_kept_the_mean_too_and_layers_differ() {
        let pass = Pass::training(Key::new(1), 0);
        let (first, second) = (dropped(&pass, 10_000), dropped(&pass, 10_000));
        let share = first.iter().filter(|x| **x == 0.0).count() as f64 / 70_000.0;
        // Five standard errors of a share of 0.25.
        assert!((share - 0.25).abs() < 5.0 * (0.25_f64 * 0.75 / 70_000.0).sqrt(), "{share}");
        assert!(first.iter().all(|x| [0.0, 1.0 / 0.75].contains(x)));
        assert_ne!(first, second);
    }

    #[test]
    fn a_plain_pass_drops_nothing() {
        assert_eq!(dropped(&Pass::plain(), 2), [1.0; 14]);
    }
}
