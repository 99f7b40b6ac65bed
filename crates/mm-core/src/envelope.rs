//! The durable form of a model: a tag, a version, a checksum, and a body that only its crate reads.
//!
//! # Layout, version 1
//!
//! All numbers are little-endian.
//!
//! | offset | bytes | holds |
//! | ---: | ---: | --- |
//! | 0 | 8 | the magic `mm-model` in ASCII |
//! | 8 | 2 | the version of this layout, 1 |
//! | 10 | 2 | version of the body |
//! | 12 | 2 | *t*, the length of the tag |
//! | 14 | 8 | *b*, the length of the body |
//! | 22 | *t* | the tag, UTF-8 |
//! | 22 + *t* | *b* | the body |
//! | 22 + *t* + *b* | 32 | SHA-256 of all bytes before |
//!
//! A composite writes its parts' envelopes into its body ([`BodyWriter::model`]) and opens them
//! through the same catalog ([`BodyReader::model`]), so nesting needs no code of its own. Nesting
//! deeper than 16 is refused, so that a hostile file cannot exhaust the stack.

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{
    catalog::Catalog,
    error::{Error, Result},
    model::{BoxModel, Model},
};

const MAGIC: &[u8; 8] = b"mm-model";
const LAYOUT: u16 = 1;
const HEAD: usize = 22;
const CHECKSUM: usize = 32;
const MAX_DEPTH: usize = 16;

/// What a body is: a name that outlives renames of the Rust type, and the body's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tag {
    /// Dotted, lower-case, never reused, for example `"mm.lightgbm"`.
    pub name: &'static str,
    /// Raised whenever the body's layout changes.
    pub version: u16,
}

impl Tag {
    /// A tag.
    pub const fn new(name: &'static str, version: u16) -> Self {
        Self { name, version }
    }
}

/// A model that can be written down and read back.
pub trait Persist: Model + Sized {
    /// The model's identity on disk.
    const TAG: Tag;

    /// Writes the body.
    fn write_body(&self, body: &mut BodyWriter) -> Result<()>;

    /// Reads a body of this or any earlier `version`.
    fn read_body(body: &mut BodyReader<'_>, version: u16) -> Result<Self>;
}

/// A model in its durable form, ready to be written.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    tag: String,
    version: u16,
    bytes: Vec<u8>,
}

impl Envelope {
    /// Writes `model` down.
    pub fn pack<M: Persist>(model: &M) -> Result<Self> {
        let Tag { name, version } = M::TAG;
        let mut bytes = Vec::with_capacity(1024);
        bytes.extend(MAGIC);
        bytes.extend(LAYOUT.to_le_bytes());
        bytes.extend(version.to_le_bytes());
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend(name.as_bytes());
        let mut writer = BodyWriter { bytes };
        model.write_body(&mut writer)?;
        let mut bytes = writer.bytes;
        let body_len = (bytes.len() - HEAD - name.len()) as u64;
        bytes[14..22].copy_from_slice(&body_len.to_le_bytes());
        let checksum = Sha256::digest(&bytes);
        bytes.extend(checksum);
        Ok(Self { tag: name.to_owned(), version, bytes })
    }

    /// The model's tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The version of the body.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// The bytes to store; [`Catalog::open`] reads them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes to store; [`Catalog::open`] reads them.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Envelope(`{}` version {}, {} bytes)", self.tag, self.version, self.bytes.len())
    }
}

/// An envelope's parts, checked.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    pub(crate) tag: &'a str,
    pub(crate) version: u16,
    pub(crate) body: &'a [u8],
}

impl<'a> Opened<'a> {
    /// Reads one envelope that fills `bytes` exactly.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self> {
        let damaged = |expected: String, got: String| Error::corrupt("model file", expected, got);
        if bytes.len() < HEAD + CHECKSUM {
            let expected = format!("at least {} bytes", HEAD + CHECKSUM);
            return Err(damaged(expected, format!("{} bytes", bytes.len())));
        }
        if &bytes[..8] != MAGIC {
            return Err(damaged(
                "a file that starts with `mm-model`".into(),
                format!("{:?}", bytes[..8].escape_ascii().to_string()),
            ));
        }
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let layout = short(8);
        if LAYOUT < layout {
            let what = "model file layout".to_owned();
            return Err(Error::TooNew { what, got: layout.into(), newest: LAYOUT.into() });
        }
        let (version, tag_len) = (short(10), usize::from(short(12)));
        let mut long = [0; 8];
        long.copy_from_slice(&bytes[14..22]);
        let body_len = usize::try_from(u64::from_le_bytes(long)).ok();
        let total = body_len.and_then(|b| b.checked_add(HEAD + CHECKSUM + tag_len));
        if total != Some(bytes.len()) {
            let expected =
                total.map_or_else(|| "a possible length".into(), |n| format!("{n} bytes"));
            return Err(damaged(expected, format!("{} bytes", bytes.len())));
        }
        let (content, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
        if Sha256::digest(content)[..] != *checksum {
            return Err(damaged("the checksum it was written with".into(), "another".into()));
        }
        let (tag, body) = content[HEAD..].split_at(tag_len);
        let tag = std::str::from_utf8(tag)
            .map_err(|_| damaged("a tag in UTF-8".into(), "other bytes".into()))?;
        Ok(Self { tag, version, body })
    }
}

/// Writes the body of a model's envelope.
#[derive(Debug)]
pub struct BodyWriter {
    bytes: Vec<u8>,
}

impl BodyWriter {
    /// A block of bytes, with its length before it.
    pub fn bytes(&mut self, block: &[u8]) {
        self.bytes.extend((block.len() as u64).to_le_bytes());
        self.bytes.extend(block);
    }

    /// A value as JSON. Floats are written so that they read back to the same bits; NaN and
    /// infinities have no JSON form and come back as an error, so keep them in
    /// [`numbers`](BodyWriter::numbers).
    pub fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let text = serde_json::to_vec(value)
            .map_err(|e| Error::data("model body", "a value with a JSON form", e))?;
        self.bytes(&text);
        Ok(())
    }

    /// A list of numbers, bit for bit.
    pub fn numbers(&mut self, values: &[f64]) {
        self.bytes.extend((values.len() as u64).to_le_bytes());
        self.bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    }

    /// A part of a composite.
    pub fn model(&mut self, part: &dyn Model) -> Result<()> {
        self.bytes(part.to_envelope()?.as_bytes());
        Ok(())
    }
}

/// Reads the body of a model's envelope. Every method fails with [`Error::Corrupt`] where the body
/// ends too early or says something impossible; none panics or allocates more than the body holds.
#[derive(Debug)]
pub struct BodyReader<'a> {
    rest: &'a [u8],
    catalog: &'a Catalog,
    depth: usize,
}

impl<'a> BodyReader<'a> {
    pub(crate) fn new(body: &'a [u8], catalog: &'a Catalog, depth: usize) -> Result<Self> {
        if MAX_DEPTH < depth {
            let expected = format!("models nested at most {MAX_DEPTH} deep");
            return Err(Error::corrupt("model file", expected, "deeper nesting"));
        }
        Ok(Self { rest: body, catalog, depth })
    }

    /// The block that [`BodyWriter::bytes`] wrote.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = self.length(1)?;
        let (block, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(block)
    }

    /// The value that [`BodyWriter::json`] wrote.
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let text = self.bytes()?;
        serde_json::from_slice(text).map_err(|e| Error::corrupt("model body", "valid JSON", e))
    }

    /// The numbers that [`BodyWriter::numbers`] wrote.
    pub fn numbers(&mut self) -> Result<Vec<f64>> {
        let len = self.length(8)?;
        let (block, rest) = self.rest.split_at(len * 8);
        self.rest = rest;
        let (numbers, _) = block.as_chunks::<8>();
        Ok(numbers.iter().map(|&eight| f64::from_le_bytes(eight)).collect())
    }

    /// The part that [`BodyWriter::model`] wrote, opened through the catalog.
    pub fn model(&mut self) -> Result<BoxModel> {
        let bytes = self.bytes()?;
        self.catalog.open_nested(bytes, self.depth + 1)
    }

    /// An error unless everything was read.
    pub(crate) fn finish(&self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            n => Err(Error::corrupt("model body", "its end", format_args!("{n} more bytes"))),
        }
    }

    /// Reads a length in units of `unit` bytes and checks that as much is there.
    fn length(&mut self, unit: usize) -> Result<usize> {
        let damaged = |expected: u64, got: usize| {
            Error::corrupt(
                "model body",
                format_args!("{expected} more units of {unit} bytes"),
                format_args!("{got} bytes"),
            )
        };
        let Some((head, rest)) = self.rest.split_first_chunk::<8>() else {
            return Err(damaged(8, self.rest.len()));
        };
        let len = u64::from_le_bytes(*head);
        let fits = usize::try_from(len)
            .ok()
            .filter(|n| n.checked_mul(unit).is_some_and(|b| b <= rest.len()));
        self.rest = rest;
        fits.ok_or_else(|| damaged(len, rest.len()))
    }
}
