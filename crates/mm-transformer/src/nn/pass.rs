//! What a forward pass carries besides data.

use std::cell::Cell;

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

use crate::{
    fused::{simd::looped, tape::is_native},
    random::Key,
    training::Precision,
};

/// One forward pass: with dropout when a net is trained, without when it is used.
///
/// What is dropped depends on the key, on how many layers asked before, and on the row's place in
/// the batch: not on how the batch is cut into pieces, nor on the thread.
#[derive(Debug)]
pub struct Pass {
    key: Option<Key>,
    first_row: usize,
    asked: Cell<u64>,
    pub(crate) precision: Precision,
}

impl Pass {
    /// A pass that drops nothing.
    pub(crate) fn plain() -> Self {
        Self { key: None, first_row: 0, asked: Cell::new(0), precision: Precision::F32 }
    }

    /// A pass of training over the rows of a batch from `first_row` on.
    pub(crate) fn training(key: Key, first_row: usize) -> Self {
        Self { key: Some(key), first_row, ..Self::plain() }
    }

    /// Whether what is done to `x` is done by the processor's own operations, which are of 32 bits.
    pub(crate) fn is_fused<const D: usize>(&self, x: &Tensor<D>) -> bool {
        self.precision == Precision::F32 && is_native(x)
    }

    /// The matrix product of the last two dimensions, its factors rounded to the pass's precision.
    pub(crate) fn product<const D: usize>(&self, a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
        match self.precision {
            Precision::F32 => a.matmul(b),
            Precision::Bf16 => {
                let half = |x: Tensor<D>| x.cast(FloatDType::BF16);
                half(a).matmul(half(b)).cast(FloatDType::F32)
            }
        }
    }

    /// What the next layer drops, at `rate`; none if nothing.
    pub(crate) fn drops(&self, rate: f64) -> Option<Dropout> {
        let key = self.key?;
        let layer = self.asked.get();
        self.asked.set(layer + 1);
        (0.0 < rate).then(|| Dropout { key: key.part(layer), first_row: self.first_row, rate })
    }

    /// How many layers asked so far.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.get()
    }

    /// Goes back to where so many layers had asked, so that the same is dropped once more.
    pub(crate) fn back_to(&self, asked: u64) {
        self.asked.set(asked);
    }

    /// Sets each number to 0 with probability `rate` and divides the others by 1 − `rate`, so that
    /// the expectation stays (Srivastava et al. 2014). The first dimension of `x` is rows.
    pub(crate) fn dropout<const D: usize>(&self, x: Tensor<D>, rate: f64) -> Tensor<D> {
        let Some(dropout) = self.drops(rate) else { return x };
        let (shape, device) = (x.dims(), x.device());
        let width = shape[1..].iter().product::<usize>().max(1);
        if !is_native(&x) && device.supports_dtype(DType::U64) {
            return x * dropout.factors_on(&device, shape[0], width).reshape(shape);
        }
        let mut factors = vec![0.0; shape[0] * width];
        for (row, factors) in factors.chunks_mut(width).enumerate() {
            dropout.factors(row, factors);
        }
        x * Tensor::from_data(TensorData::new(factors, shape), &device)
    }
}

/// What one layer drops of the rows of a piece.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    key: Key,
    first_row: usize,
    rate: f64,
}

impl Dropout {
    /// What numbers that stay are multiplied by: 1 / (1 − rate).
    pub(crate) fn kept_factor(&self) -> f32 {
        (1.0 / (1.0 - self.rate)) as f32
    }

    /// What draws are below that set a number to 0.
    fn limit(&self) -> u32 {
        (self.rate * f64::from(u32::MAX)) as u32
    }

    /// For each number of row `row` of the piece, 0 with the probability of the rate, else
    /// [`kept_factor`](Self::kept_factor). Each draw of 64 bits decides on two numbers.
    pub(crate) fn factors(&self, row: usize, out: &mut [f32]) {
        let (kept, limit) = (self.kept_factor(), self.limit());
        let first = (self.first_row + row) as u64 * out.len().div_ceil(2) as u64;
        looped(
            #[inline(always)]
            || {
                let factor = |bits: u32| if bits < limit { 0.0 } else { kept };
                let (pairs, last) = out.as_chunks_mut::<2>();
                let end = first + pairs.len() as u64;
                for (i, pair) in (first..).zip(pairs) {
                    let bits = self.key.bits(i);
                    *pair = [factor(bits as u32), factor((bits >> 32) as u32)];
                }
                if let [last] = last {
                    *last = factor(self.key.bits(end) as u32);
                }
            },
        );
    }

    /// [`factors`](Self::factors) of so many rows of `width` numbers, made on a device that has integers of 64
    /// bits: draws are many, and the way to a device is long.
    fn factors_on(&self, device: &Device, rows: usize, width: usize) -> Tensor<2> {
        let pairs = width.div_ceil(2);
        let count = |first: usize, n: usize| {
            Tensor::<1, Int>::arange(first as i64..(first + n) as i64, (device, DType::U64))
        };
        // Short ones, from which the device makes all: a range comes from the host.
        let rows_from = count(self.first_row, rows).mul_scalar(pairs as u64).reshape([rows, 1]);
        let bits = self.key.bits_of(rows_from + count(0, pairs).reshape([1, pairs]));
        let low = bits.clone().bitwise_and_scalar(u64::from(u32::MAX));
        let draws = Tensor::stack::<3>(vec![low, bits.bitwise_right_shift_scalar(32_u64)], 2);
        let draws = draws.reshape([rows, 2 * pairs]).narrow(1, 0, width);
        draws.greater_equal_elem(u64::from(self.limit())).float() * self.kept_factor()
    }
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
    fn a_device_drops_what_the_processor_drops() {
        for (width, first_row) in [(1, 0), (6, 0), (7, 3), (7, 123_456_789)] {
            let dropout = Dropout { key: Key::new(3), first_row, rate: 0.3 };
            let mut expected = vec![0.0; 50 * width];
            for (row, factors) in expected.chunks_mut(width).enumerate() {
                dropout.factors(row, factors);
            }
            let made = read(dropout.factors_on(&cpu(), 50, width)).expect("reads");
            assert_eq!(made, expected, "width {width} from row {first_row}");
        }
    }

    #[test]
    fn factors_of_products_and_of_their_slopes_are_rounded_as_the_pass_says() {
        // The mantissa of bf16 ends at 2⁻⁷, so 1 + 2⁻⁹ becomes 1, and 3 stays.
        let fine = 1.0 + 0.5_f32.powi(9);
        for (precision, expected) in [(Precision::F32, fine), (Precision::Bf16, 1.0)] {
            let pass = Pass { precision, ..Pass::plain() };
            let number = |x: f32| Tensor::<2>::from_floats([[x]], &cpu()).autodiff();
            let (a, b) = (number(3.0).require_grad(), number(fine).require_grad());
            let y = pass.product(a.clone(), b);
            assert_eq!(read(y.clone()).expect("reads"), [3.0 * expected], "{precision:?}");
            let mut slopes = y.backward();
            let slope = a.grad_remove(&mut slopes).expect("on the tape");
            assert_eq!(read(slope).expect("reads"), [expected], "{precision:?}");
        }
    }

    #[test]
    fn a_plain_pass_drops_nothing() {
        assert_eq!(dropped(&Pass::plain(), 2), [1.0; 14]);
    }
}
