//! Which instructions the inner loops use, found out once when a kernel is compiled; and all that is
//! unsafe in the kernel.
//!
//! Two things are: to call a function that is compiled for instructions that not every processor
//! has, and to read and write vectors. A [`Level`] is evidence of the first, a reference to an array
//! of the right length of the second. Neither depends on what a model file says.
//!
//! Under Miri the reads and writes of vectors pass; the loops of AVX-512 as a whole cannot run there,
//! which has no `vpermi2ps` and its like (they only move values between registers). Under
//! `AddressSanitizer` all loops pass.

#![expect(unsafe_code, reason = "vector instructions; the only such file of the kernel")]

#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use super::{
    lanes::{self, Abreast, Bytes, LANES},
    plan::{Answers, Cut, MAX_COLUMNS, PADDING, Segment},
};

/// A set of instructions that this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level(Isa); // Invariant: made by `all`, which asks the processor.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Isa {
    /// Whatever the compiler was told to assume.
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// F, BW, DQ, VL, and VBMI, with POPCNT: since Ice Lake and Zen 4.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The best of this processor.
    pub(super) fn best() -> Self {
        Self::all().next_back().expect("one is portable")
    }

    /// All of this processor, the best last.
    pub(super) fn all() -> impl DoubleEndedIterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let others = [
            is_x86_feature_detected!("avx2").then_some(Self(Isa::Avx2)),
            (is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vbmi")
                && is_x86_feature_detected!("popcnt"))
            .then_some(Self(Isa::Avx512)),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let others = [];
        std::iter::once(Self(Isa::Portable)).chain(others.into_iter().flatten())
    }
}

impl Level {
    /// Rows below which each is faster by itself than in a block of [`LANES`].
    pub(super) fn few(self) -> usize {
        match self.0 {
            Isa::Portable => 16,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => 16,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => 24,
        }
    }
}

/// Calls `work`, compiled for vectors of 32 bytes where the processor has them: loops over slices in it, and
/// in what the compiler puts in place there, do more at once. The numbers are the same to the bit, for
/// the compiler keeps the order of operations.
pub(crate) fn widely<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn with_avx2<T>(work: impl FnOnce() -> T) -> T {
            work()
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, as it was just asked.
            return unsafe { with_avx2(work) };
        }
    }
    work()
}

/// Calls the level's own version of a function of [`lanes`].
macro_rules! at_level {
    ($level:expr, $name:ident($($arg:expr),*)) => {
        match $level.0 {
            Isa::Portable => lanes::$name($($arg),*),
            // SAFETY: the processor has AVX2, by the invariant of `Level`.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::$name($($arg),*) },
            // SAFETY: the processor has all that `avx512` uses, by the invariant of `Level`.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::$name($($arg),*) },
        }
    };
}

/// The functions of [`lanes`], which says what they do.
impl Level {
    #[inline]
    pub(super) fn rank(
        self,
        keys: &[i32; LANES],
        borders: &[i32; PADDING],
        steps: u32,
        out: &mut Bytes,
    ) {
        at_level!(self, rank(keys, borders, steps, out));
    }

    #[inline]
    pub(super) fn climb(self, segment: &Segment, row: &[f32], out: &mut [u8; MAX_COLUMNS]) {
        at_level!(self, climb(segment, row, out));
    }

    #[inline]
    pub(super) fn answer<const N: usize>(
        self,
        answers: &Answers,
        keys: &[[i32; LANES]; N],
        out: &mut [[Bytes; N]],
    ) {
        at_level!(self, answer(answers, keys, out));
    }

    #[inline]
    pub(super) fn spread(self, words: &[u64], out: &mut [u8]) {
        at_level!(self, spread(words, out));
    }

    #[inline]
    pub(super) fn ordered<const N: usize>(
        self,
        nodes: &[Cut],
        columns: &[[Bytes; N]],
    ) -> [Bytes; N] {
        at_level!(self, ordered(nodes, columns))
    }

    #[inline]
    pub(super) fn four_ordered(self, trees: [&[Cut]; 4], columns: &[[Bytes; 1]]) -> [Bytes; 4] {
        at_level!(self, four_ordered(trees, columns))
    }

    #[inline]
    pub(super) fn symmetric<const N: usize>(
        self,
        nodes: &[Cut],
        columns: &[[Bytes; N]],
    ) -> [Bytes; N] {
        at_level!(self, symmetric(nodes, columns))
    }

    #[inline]
    pub(super) fn abreast<const N: usize>(
        self,
        trees: Abreast<'_, N>,
        row: &[u8; MAX_COLUMNS],
        n_columns: usize,
    ) -> [Bytes; N] {
        at_level!(self, abreast(trees, row, n_columns))
    }

    #[inline]
    pub(super) fn add_double(
        self,
        sums: &mut [f64; LANES],
        table: &[f64; PADDING],
        n_leaves: usize,
        leaves: &Bytes,
    ) {
        at_level!(self, add_double(sums, table, n_leaves, leaves));
    }

    #[inline]
    pub(super) fn add_single(
        self,
        sums: &mut [f32; LANES],
        table: &[f32; PADDING],
        n_leaves: usize,
        leaves: &Bytes,
    ) {
        at_level!(self, add_single(sums, table, n_leaves, leaves));
    }
}

/// Vectors from and to arrays of their length.
#[cfg(target_arch = "x86_64")]
pub(super) mod vector {
    use std::arch::x86_64::{
        __m128i, __m512, __m512d, __m512i, _mm_cvtsi64_si128, _mm_loadu_si128, _mm_storeu_si128,
        _mm256_cvtepu8_epi32, _mm512_cvtepu8_epi32, _mm512_i32gather_pd, _mm512_i32gather_ps,
        _mm512_loadu_pd, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_storeu_pd, _mm512_storeu_ps,
        _mm512_storeu_si512,
    };

    /// Defines functions that read or write one vector without any demand on its alignment.
    macro_rules! moves {
        ($(load $load:ident: $from:ty => $vector:ty = $intrinsic:ident;)*
         $(; store $store:ident: $value:ty => $to:ty = $inverse:ident;)*) => {
            $(
                #[inline]
                #[target_feature(enable = "avx512f,avx512vl")]
                pub(in super::super) fn $load(from: &$from) -> $vector {
                    // SAFETY: `from` is as long as the vector and may be read.
                    unsafe { $intrinsic(std::ptr::from_ref(from).cast()) }
                }
            )*
            $(
                #[inline]
                #[target_feature(enable = "avx512f,avx512vl")]
                pub(in super::super) fn $store(value: $value, to: &mut $to) {
                    // SAFETY: `to` is as long as the vector and may be written.
                    unsafe { $inverse(std::ptr::from_mut(to).cast(), value) }
                }
            )*
        };
    }

    moves! {
        load load_bytes: [u8; 64] => __m512i = _mm512_loadu_si512;
        load load_quarter: [u8; 16] => __m128i = _mm_loadu_si128;
        load load_words: [u16; 32] => __m512i = _mm512_loadu_si512;
        load load_ints: [i32; 16] => __m512i = _mm512_loadu_si512;
        load load_doubles: [f64; 8] => __m512d = _mm512_loadu_pd;
        load load_singles: [f32; 16] => __m512 = _mm512_loadu_ps;
        ;store store_bytes: __m512i => [u8; 64] = _mm512_storeu_si512;
        ;store store_quarter: __m128i => [u8; 16] = _mm_storeu_si128;
        ;store store_doubles: __m512d => [f64; 8] = _mm512_storeu_pd;
        ;store store_singles: __m512 => [f32; 16] = _mm512_storeu_ps;
    }

    /// The entries of `table` at 8 places.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    pub(in super::super) fn gather_doubles(table: &[f64; 256], at: [u8; 8]) -> __m512d {
        let at = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(at)));
        // SAFETY: the indices were bytes, and the table has an entry for each byte.
        unsafe { _mm512_i32gather_pd::<8>(at, table.as_ptr()) }
    }

    /// The entries of `table` at 16 places.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    pub(in super::super) fn gather_singles(table: &[f32; 256], at: &[u8; 16]) -> __m512 {
        let at = _mm512_cvtepu8_epi32(load_quarter(at));
        // SAFETY: as in `gather_doubles`.
        unsafe { _mm512_i32gather_ps::<4>(at, table.as_ptr()) }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::vector;

    #[target_feature(enable = "avx512f,avx512vl")]
    fn there_and_back() {
        let bytes: [u8; 64] = std::array::from_fn(|i| i as u8);
        let (mut to, mut quarter) = ([0; 64], [0; 16]);
        vector::store_bytes(vector::load_bytes(&bytes), &mut to);
        vector::store_quarter(vector::load_quarter(&[7; 16]), &mut quarter);
        assert_eq!((to, quarter), (bytes, [7; 16]));
        let doubles: [f64; 8] = std::array::from_fn(|i| i as f64);
        let singles: [f32; 16] = std::array::from_fn(|i| i as f32);
        let (mut to_doubles, mut to_singles) = ([0.0; 8], [0.0; 16]);
        vector::store_doubles(vector::load_doubles(&doubles), &mut to_doubles);
        vector::store_singles(vector::load_singles(&singles), &mut to_singles);
        assert_eq!((to_doubles, to_singles), (doubles, singles));
    }

    #[test]
    fn a_vector_is_stored_as_it_was_loaded() {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the processor has both.
            unsafe { there_and_back() };
        }
    }
}
