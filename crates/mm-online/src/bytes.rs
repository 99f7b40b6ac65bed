//! Little-endian bytes: the records of a log and the parts of a snapshot.
//!
//! Lengths stand before what they count. Reading never panics and never allocates more than the
//! bytes hold; what is cut short or impossible is [`Error::Corrupt`](mm_core::Error::Corrupt).

use mm_core::{Error, Result};

/// Collects values as bytes.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn u8(&mut self, x: u8) {
        self.bytes.push(x);
    }

    pub(crate) fn u32(&mut self, x: u32) {
        self.bytes.extend(x.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, x: u64) {
        self.bytes.extend(x.to_le_bytes());
    }

    pub(crate) fn u128(&mut self, x: u128) {
        self.bytes.extend(x.to_le_bytes());
    }

    pub(crate) fn f64(&mut self, x: f64) {
        self.bytes.extend(x.to_le_bytes());
    }

    pub(crate) fn flag(&mut self, x: bool) {
        self.u8(x.into());
    }

    pub(crate) fn option_i64(&mut self, x: Option<i64>) {
        self.flag(x.is_some());
        if let Some(x) = x {
            self.bytes.extend(x.to_le_bytes());
        }
    }

    pub(crate) fn f32s(&mut self, values: &[f32]) {
        self.u32(values.len() as u32);
        self.bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    }

    pub(crate) fn f64s(&mut self, values: &[f64]) {
        self.u32(values.len() as u32);
        self.bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    }

    pub(crate) fn block(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.bytes.extend(bytes);
    }
}

/// Takes values off bytes that an [`Encoder`] collected.
#[derive(Debug, Clone)]
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Decoder<'a> {
    /// Reads `bytes`, which errors call `what`.
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let Some((head, rest)) = self.rest.split_at_checked(n) else {
            let expected = format_args!("{n} more bytes");
            return Err(Error::corrupt(self.what, expected, self.rest.len()));
        };
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[x]| x)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128> {
        self.array().map(u128::from_le_bytes)
    }

    pub(crate) fn f64(&mut self) -> Result<f64> {
        self.array().map(f64::from_le_bytes)
    }

    pub(crate) fn flag(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.damaged("0 or 1", other)),
        }
    }

    pub(crate) fn option_i64(&mut self) -> Result<Option<i64>> {
        if self.flag()? { self.array().map(i64::from_le_bytes).map(Some) } else { Ok(None) }
    }

    /// A count of things of at least `unit` bytes each.
    pub(crate) fn count(&mut self, unit: usize) -> Result<usize> {
        let n = self.u32()? as usize;
        if n.saturating_mul(unit) <= self.rest.len() {
            return Ok(n);
        }
        Err(self.damaged(format_args!("room for {n} things of {unit} bytes"), self.rest.len()))
    }

    /// Appends what [`Encoder::f32s`] wrote.
    pub(crate) fn f32s_into(&mut self, to: &mut Vec<f32>) -> Result<()> {
        let n = self.count(4)?;
        let (cells, _) = self.take(4 * n)?.as_chunks::<4>();
        to.extend(cells.iter().map(|&cell| f32::from_le_bytes(cell)));
        Ok(())
    }

    /// Appends what [`Encoder::f64s`] wrote.
    pub(crate) fn f64s_into(&mut self, to: &mut Vec<f64>) -> Result<()> {
        let n = self.count(8)?;
        let (cells, _) = self.take(8 * n)?.as_chunks::<8>();
        to.extend(cells.iter().map(|&cell| f64::from_le_bytes(cell)));
        Ok(())
    }

    pub(crate) fn f32s(&mut self) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        self.f32s_into(&mut values)?;
        Ok(values)
    }

    pub(crate) fn f64s(&mut self) -> Result<Vec<f64>> {
        let mut values = Vec::new();
        self.f64s_into(&mut values)?;
        Ok(values)
    }

    pub(crate) fn block(&mut self) -> Result<&'a [u8]> {
        let n = self.u64()?;
        self.take(usize::try_from(n).unwrap_or(usize::MAX))
    }

    /// An error unless everything was read.
    pub(crate) fn finish(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.damaged("its end", "more bytes")) }
    }

    pub(crate) fn damaged(
        &self,
        expected: impl std::fmt::Display,
        got: impl std::fmt::Display,
    ) -> Error {
        Error::corrupt(self.what, expected, got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_reads_back_and_every_cut_is_damage() {
        let mut to = Encoder::default();
        to.u8(7);
        to.u32(8);
        to.u64(u64::MAX);
        to.u128(u128::MAX - 1);
        to.f64(f64::NEG_INFINITY);
        to.option_i64(None);
        to.option_i64(Some(i64::MIN));
        to.f32s(&[1.5, -0.0]);
        to.f64s(&[f64::MIN_POSITIVE]);
        to.block(b"abc");
        let bytes = to.into_bytes();
        let read = |bytes: &[u8]| -> Result<()> {
            let mut from = Decoder::new(bytes, "test");
            assert_eq!(from.u8()?, 7);
            assert_eq!(from.u32()?, 8);
            assert_eq!(from.u64()?, u64::MAX);
            assert_eq!(from.u128()?, u128::MAX - 1);
            assert_eq!(from.f64()?, f64::NEG_INFINITY);
            assert_eq!(from.option_i64()?, None);
            assert_eq!(from.option_i64()?, Some(i64::MIN));
            assert_eq!(from.f32s()?, [1.5, -0.0]);
            assert_eq!(from.f64s()?, [f64::MIN_POSITIVE]);
            assert_eq!(from.block()?, b"abc");
            from.finish()
        };
        read(&bytes).expect("whole");
        for cut in 0..bytes.len() {
            assert!(matches!(read(&bytes[..cut]), Err(Error::Corrupt { .. })), "cut at {cut}");
        }
        assert!(read(&[&bytes[..], &[0]].concat()).is_err());
    }
}
