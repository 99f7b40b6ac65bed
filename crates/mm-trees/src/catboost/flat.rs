//! FlatBuffers, as far as CatBoost's binary format needs them.
//!
//! The format is small: tables whose fields are found through a table of offsets (the *vtable*),
//! vectors, and texts, all little-endian, with references that point forward. Reading through the
//! crate `flatbuffers` would take `unsafe` and generated code; here every access is checked when it is
//! made, and the total of what is read is bounded by the size of the buffer, so that a hostile file,
//! in which many references share one target, costs no more than an honest one of its size. Source:
//! the "FlatBuffers internals" of its documentation, version 25.

use std::cell::Cell;

use mm_core::{Error, Result};

/// A buffer that is read.
#[derive(Debug)]
pub(super) struct Buffer<'a> {
    bytes: &'a [u8],
    budget: Cell<usize>,
}

/// A table of a buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'b, 'a> {
    buffer: &'b Buffer<'a>,
    at: usize,
    offsets: &'a [u8], // Of the fields, 2 bytes each.
}

/// What is referred to by another part of a buffer that is written.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// A table of fields, by their numbers.
    Table(Vec<Field<'a>>),
    /// A text.
    Text(&'a str),
    /// So many elements of a size that is also their alignment, in bytes.
    Vector { size: usize, bytes: Vec<u8> },
    /// A vector of references.
    List(Vec<Node<'a>>),
}

/// A field of a table that is written.
#[derive(Debug)]
pub(super) enum Field<'a> {
    /// Left out: readers take its default.
    Absent,
    Byte(u8),
    Int(i32),
    Single(f32),
    Double(f64),
    Node(Node<'a>),
}

pub(super) fn damaged(expected: impl std::fmt::Display, got: impl std::fmt::Display) -> Error {
    Error::corrupt("CatBoost model", expected, got)
}

impl<'a> Buffer<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        // Each byte of an honest buffer is read once; but for vtables, which tables share.
        Self { bytes, budget: Cell::new(2 * bytes.len() + 64) }
    }

    /// The table that the buffer is about.
    pub(super) fn root(&self) -> Result<Table<'_, 'a>> {
        self.table(0)
    }

    fn slice(&self, at: usize, len: usize) -> Result<&'a [u8]> {
        let end = at.checked_add(len).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(damaged(
                format_args!("{len} bytes at {at}"),
                format_args!("a part of {} bytes", self.bytes.len()),
            ));
        };
        let left = self.budget.get().checked_sub(len);
        let left = left.ok_or_else(|| damaged("parts that do not overlap", "overlapping ones"))?;
        self.budget.set(left);
        Ok(&self.bytes[at..end])
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(at, N)?);
        Ok(array)
    }

    fn u32(&self, at: usize) -> Result<usize> {
        Ok(u32::from_le_bytes(self.array(at)?) as usize)
    }

    /// What the reference at `at` points to.
    fn target(&self, at: usize) -> Result<usize> {
        let target = at.checked_add(self.u32(at)?);
        target.ok_or_else(|| damaged("a reference into the buffer", "one beyond"))
    }

    /// The table that the reference at `at` points to.
    fn table(&self, at: usize) -> Result<Table<'_, 'a>> {
        let at = self.target(at)?;
        let back = i32::from_le_bytes(self.array(at)?);
        let vtable = i64::try_from(at).ok().map(|at| at - i64::from(back));
        let vtable = vtable.and_then(|vtable| usize::try_from(vtable).ok());
        let vtable = vtable.ok_or_else(|| damaged("a vtable in the buffer", "one before it"))?;
        let size = usize::from(u16::from_le_bytes(self.array(vtable)?));
        let n_bytes = size.checked_sub(4).filter(|n| n % 2 == 0);
        let n_bytes = n_bytes.ok_or_else(|| damaged("a vtable of ≥ 4 bytes", size))?;
        // Not counted: tables share vtables.
        let offsets = self.bytes.get(vtable + 4..vtable + 4 + n_bytes);
        let offsets = offsets.ok_or_else(|| damaged("a vtable in the buffer", "one beyond"))?;
        Ok(Table { buffer: self, at, offsets })
    }

    /// The elements of `size` bytes of the vector that the reference at `at` points to.
    fn vector(&self, at: usize, size: usize) -> Result<(usize, &'a [u8])> {
        let at = self.target(at)?;
        let len = self.u32(at)?;
        let n_bytes = len.checked_mul(size).ok_or_else(|| damaged("a vector", "a longer one"))?;
        Ok((at + 4, self.slice(at + 4, n_bytes)?))
    }

    fn text(&self, at: usize) -> Result<&'a str> {
        let (_, bytes) = self.vector(at, 1)?;
        std::str::from_utf8(bytes).map_err(|_| damaged("a text in UTF-8", "other bytes"))
    }
}

impl<'b, 'a> Table<'b, 'a> {
    /// Where the field lies, if the table has it.
    fn place(&self, field: usize) -> Option<usize> {
        let offset = self.offsets.get(2 * field..2 * field + 2)?;
        let offset = usize::from(u16::from_le_bytes([offset[0], offset[1]]));
        (offset != 0).then_some(self.at + offset)
    }

    fn scalar<const N: usize>(&self, field: usize) -> Result<Option<[u8; N]>> {
        self.place(field).map(|at| self.buffer.array(at)).transpose()
    }

    pub(super) fn u8(&self, field: usize, default: u8) -> Result<u8> {
        Ok(self.scalar::<1>(field)?.map_or(default, |[byte]| byte))
    }

    pub(super) fn i32(&self, field: usize, default: i32) -> Result<i32> {
        Ok(self.scalar(field)?.map_or(default, i32::from_le_bytes))
    }

    pub(super) fn f32(&self, field: usize, default: f32) -> Result<f32> {
        Ok(self.scalar(field)?.map_or(default, f32::from_le_bytes))
    }

    pub(super) fn f64(&self, field: usize, default: f64) -> Result<f64> {
        Ok(self.scalar(field)?.map_or(default, f64::from_le_bytes))
    }

    /// A text; empty if the table has none.
    pub(super) fn text(&self, field: usize) -> Result<&'a str> {
        self.place(field).map_or(Ok(""), |at| self.buffer.text(at))
    }

    /// The bytes of a vector of elements of `N` bytes; none if the table has none.
    pub(super) fn vector<const N: usize>(&self, field: usize) -> Result<&'a [[u8; N]]> {
        let Some(at) = self.place(field) else { return Ok(&[]) };
        let (_, bytes) = self.buffer.vector(at, N)?;
        Ok(bytes.as_chunks().0)
    }

    pub(super) fn i32s(&self, field: usize) -> Result<Vec<i32>> {
        Ok(self.vector(field)?.iter().map(|&bytes| i32::from_le_bytes(bytes)).collect())
    }

    pub(super) fn f32s(&self, field: usize) -> Result<Vec<f32>> {
        Ok(self.vector(field)?.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
    }

    pub(super) fn f64s(&self, field: usize) -> Result<Vec<f64>> {
        Ok(self.vector(field)?.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect())
    }

    pub(super) fn table(&self, field: usize) -> Result<Option<Table<'b, 'a>>> {
        self.place(field).map(|at| self.buffer.table(at)).transpose()
    }

    pub(super) fn tables(&self, field: usize) -> Result<Vec<Table<'b, 'a>>> {
        let Some(at) = self.place(field) else { return Ok(Vec::new()) };
        let (first, bytes) = self.buffer.vector(at, 4)?;
        (0..bytes.len() / 4).map(|i| self.buffer.table(first + 4 * i)).collect()
    }

    pub(super) fn texts(&self, field: usize) -> Result<Vec<&'a str>> {
        let Some(at) = self.place(field) else { return Ok(Vec::new()) };
        let (first, bytes) = self.buffer.vector(at, 4)?;
        (0..bytes.len() / 4).map(|i| self.buffer.text(first + 4 * i)).collect()
    }
}

impl Node<'_> {
    pub(super) fn i32s(values: impl IntoIterator<Item = i32>) -> Self {
        let bytes = values.into_iter().flat_map(i32::to_le_bytes).collect();
        Self::Vector { size: 4, bytes }
    }

    pub(super) fn f32s(values: impl IntoIterator<Item = f32>) -> Self {
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Self::Vector { size: 4, bytes }
    }

    pub(super) fn f64s(values: impl IntoIterator<Item = f64>) -> Self {
        let bytes = values.into_iter().flat_map(f64::to_le_bytes).collect();
        Self::Vector { size: 8, bytes }
    }

    /// The buffer whose root is this table.
    pub(super) fn write(self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; 4];
        let at = self.put(&mut bytes);
        refer(&mut bytes, 0, at);
        // References are 32 bits wide, and FlatBuffers promises only half of them.
        if i32::try_from(bytes.len()).is_err() {
            return Err(Error::data("size of the model", "below 2 GiB", bytes.len()));
        }
        Ok(bytes)
    }

    /// Appends the node and all that it refers to; returns where it starts.
    fn put(self, out: &mut Vec<u8>) -> usize {
        match self {
            Self::Table(fields) => put_table(fields, out),
            Self::Text(text) => {
                align(out, 4, 0);
                let at = out.len();
                out.extend((text.len() as u32).to_le_bytes());
                out.extend(text.as_bytes());
                out.push(0);
                at
            }
            Self::Vector { size, bytes } => {
                align(out, size.max(4), 4);
                let at = out.len();
                out.extend(((bytes.len() / size) as u32).to_le_bytes());
                out.extend(bytes);
                at
            }
            Self::List(nodes) => {
                align(out, 4, 0);
                let at = out.len();
                out.extend((nodes.len() as u32).to_le_bytes());
                out.resize(at + 4 + 4 * nodes.len(), 0);
                for (i, node) in nodes.into_iter().enumerate() {
                    let target = node.put(out);
                    refer(out, at + 4 + 4 * i, target);
                }
                at
            }
        }
    }
}

/// The vtable, then the table, then what it refers to.
fn put_table(fields: Vec<Field<'_>>, out: &mut Vec<u8>) -> usize {
    let vtable_size = 4 + 2 * fields.len();
    align(out, 8, vtable_size);
    let (vtable, at) = (out.len(), out.len() + vtable_size);
    out.resize(at, 0);
    out.extend((vtable_size as i32).to_le_bytes());
    let mut nodes = Vec::new();
    for (i, field) in fields.into_iter().enumerate() {
        let size = match &field {
            Field::Absent => continue,
            Field::Byte(_) => 1,
            Field::Int(_) | Field::Single(_) | Field::Node(_) => 4,
            Field::Double(_) => 8,
        };
        align(out, size, 0);
        let place = out.len();
        let offset = (place - at) as u16;
        out[vtable + 4 + 2 * i..][..2].copy_from_slice(&offset.to_le_bytes());
        match field {
            Field::Absent => {}
            Field::Byte(byte) => out.push(byte),
            Field::Int(x) => out.extend(x.to_le_bytes()),
            Field::Single(x) => out.extend(x.to_le_bytes()),
            Field::Double(x) => out.extend(x.to_le_bytes()),
            Field::Node(node) => {
                out.extend([0; 4]);
                nodes.push((place, node));
            }
        }
    }
    let size = (out.len() - at) as u16;
    out[vtable..][..2].copy_from_slice(&(vtable_size as u16).to_le_bytes());
    out[vtable + 2..][..2].copy_from_slice(&size.to_le_bytes());
    for (place, node) in nodes {
        let target = node.put(out);
        refer(out, place, target);
    }
    at
}

/// Pads so that what follows after `skip` more bytes lies at a multiple of `alignment`.
fn align(out: &mut Vec<u8>, alignment: usize, skip: usize) {
    let end = (out.len() + skip).next_multiple_of(alignment) - skip;
    out.resize(end, 0);
}

fn refer(out: &mut [u8], place: usize, target: usize) {
    out[place..][..4].copy_from_slice(&((target - place) as u32).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let inner = |text| Node::Table(vec![Field::Absent, Field::Node(Node::Text(text))]);
        let fields = vec![
            Field::Byte(7),
            Field::Double(2.5),
            Field::Node(Node::f64s([1.0, -0.0])),
            Field::Int(-3),
            Field::Absent,
            Field::Node(Node::List(vec![inner("a"), inner("bcdef")])),
            Field::Node(Node::List(vec![Node::Text(""), Node::Text("ü")])),
            Field::Single(0.5),
            Field::Node(inner("x")),
        ];
        Node::Table(fields).write().expect("small")
    }

    fn read(bytes: &[u8]) -> Result<String> {
        let buffer = Buffer::new(bytes);
        let root = buffer.root()?;
        let inner = root.tables(5)?;
        let inner: Vec<_> = inner.iter().map(|table| table.text(1)).collect::<Result<_>>()?;
        let last = root.table(8)?.map_or(Ok(""), |table| table.text(1))?;
        let scalars = (root.u8(0, 0)?, root.f64(1, 0.0)?, root.i32(3, 0)?, root.f32(7, 0.0)?);
        let absent = (root.i32(4, 9)?, root.f64s(20)?, root.text(21)?);
        let lists = (root.f64s(2)?, root.texts(6)?);
        Ok(format!("{scalars:?} {absent:?} {lists:?} {inner:?} {last}"))
    }

    #[test]
    fn what_is_written_is_read() {
        let expected = r#"(7, 2.5, -3, 0.5) (9, [], "") ([1.0, -0.0], ["", "ü"]) ["a", "bcdef"] x"#;
        assert_eq!(read(&sample()).expect("intact"), expected);
    }

    #[test]
    fn every_truncation_and_every_changed_byte_is_an_error_or_another_reading() {
        let bytes = sample();
        for cut in 0..bytes.len() {
            let _ = read(&bytes[..cut]); // Must not panic; padding at the end may be cut off.
        }
        assert!(read(&bytes[..bytes.len() / 2]).is_err());
        for i in 0..bytes.len() {
            for change in [1, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[i] ^= change;
                let _ = read(&bytes);
            }
        }
    }

    #[test]
    fn references_that_share_a_target_cannot_multiply_what_is_read() {
        let texts = (0..1000).map(|_| Node::Text("")).collect();
        let mut bytes = Node::Table(vec![Field::Node(Node::List(texts))]).write().expect("small");
        // All references to one text that is as long as the rest of the buffer.
        let text = bytes.len() - (999 * 8 + 5);
        let first = text - 1000 * 4;
        bytes[text..text + 4].copy_from_slice(&7000_u32.to_le_bytes());
        for i in 0..1000 {
            refer(&mut bytes, first + 4 * i, text);
        }
        let buffer = Buffer::new(&bytes);
        let error = buffer.root().and_then(|root| root.texts(0)).expect_err("overlapping");
        assert!(error.to_string().contains("overlapping"), "{error}");
    }

    #[test]
    fn elements_lie_at_multiples_of_their_size() {
        let bytes = sample();
        let double = bytes.windows(8).position(|w| w == 1.0_f64.to_le_bytes()).expect("there");
        assert_eq!(double % 8, 0);
        let scalar = bytes.windows(8).position(|w| w == 2.5_f64.to_le_bytes()).expect("there");
        assert_eq!(scalar % 8, 0);
    }
}
