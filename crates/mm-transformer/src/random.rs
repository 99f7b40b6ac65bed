//! Randomness that is looked up, not drawn.
//!
//! A [`Key`] names a stream, and a stream is a function of an index: element *i* is the same
//! whoever asks for it, when, and in which order. So initial weights, the order of rows, and dropout
//! depend on the seed and on their place alone, whatever else the process does, and a resumed run
//! needs no state to be stored. (Burn's own generator on the CPU is one for the whole process.)

use burn::tensor::{Int, Tensor};
use mm_core::split_mix;

/// A stream of random numbers, each found by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64);

impl Key {
    /// The root of all streams of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(split_mix(seed))
    }

    /// A stream of its own for part `index`.
    pub(crate) fn part(self, index: u64) -> Self {
        Self(split_mix(self.0 ^ split_mix(index)))
    }

    /// A stream of its own for the part called `name` (FNV-1a of its bytes).
    pub(crate) fn named(self, name: &str) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        self.part(hash)
    }

    /// 64 random bits.
    #[inline]
    pub(crate) fn bits(self, index: u64) -> u64 {
        split_mix(self.0.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// [`bits`](Self::bits) of each index, which is of 64 bits without a sign, on the device of the
    /// indices: [`split_mix`] as operations of Burn.
    pub(crate) fn bits_of<const D: usize>(self, indices: Tensor<D, Int>) -> Tensor<D, Int> {
        fn folded<const D: usize>(x: Tensor<D, Int>, by: u64) -> Tensor<D, Int> {
            x.clone().bitwise_xor(x.bitwise_right_shift_scalar(by))
        }
        let start = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = indices.mul_scalar(0x9e37_79b9_7f4a_7c15_u64).add_scalar(start);
        let x = folded(x, 30).mul_scalar(0xbf58_476d_1ce4_e5b9_u64);
        folded(folded(x, 27).mul_scalar(0x94d0_49bb_1331_11eb_u64), 31)
    }

    /// A number in [0, 1), a multiple of 2⁻⁵³.
    #[inline]
    pub(crate) fn uniform(self, index: u64) -> f64 {
        (self.bits(index) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number of the standard normal distribution (Box and Muller 1958).
    pub(crate) fn normal(self, index: u64) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(2 * index)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(2 * index + 1)).cos()
    }

    /// The numbers below `n` in random order (Fisher and Yates).
    pub(crate) fn permutation(self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            // The bias of the product is below n / 2⁶⁴.
            let j = (u128::from(self.bits(i as u64)) * (i as u128 + 1)) >> 64;
            order.swap(i, j as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_distributions() {
        let key = Key::new(7).named("moments");
        let n = 100_000;
        let mean = |f: &dyn Fn(u64) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
        // Five standard errors of each mean.
        let root = (n as f64).sqrt();
        assert!((mean(&|i| key.uniform(i)) - 0.5).abs() < 5.0 * 0.289 / root);
        assert!(mean(&|i| key.normal(i)).abs() < 5.0 / root);
        assert!((mean(&|i| key.normal(i).powi(2)) - 1.0).abs() < 5.0 * 2_f64.sqrt() / root);
        let lag = mean(&|i| key.normal(i) * key.normal(i + 1));
        assert!(lag.abs() < 5.0 / root, "neighbours are not correlated");
    }

    #[test]
    fn streams_of_other_names_and_parts_differ() {
        let key = Key::new(1);
        assert_ne!(key.named("a"), key.named("b"));
        assert_ne!(key.part(0), key.part(1));
        assert_ne!(key.part(0), key);
        assert_ne!(Key::new(0), Key::new(1));
    }

    #[test]
    fn a_permutation_holds_every_number_once_and_moves_most() {
        let mut order = Key::new(3).permutation(1000);
        let fixed = (0..).zip(&order).filter(|(i, at)| i == *at).count();
        assert!(fixed < 10, "{fixed} of 1000 stayed; 1 is expected");
        order.sort_unstable();
        assert!(order.into_iter().eq(0..1000));
        assert!(Key::new(3).permutation(0).is_empty());
    }
}
