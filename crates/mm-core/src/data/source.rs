//! Where tables come from: one type for every format, with the same verbs.

use std::{
    fmt, fs,
    io::Read,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use crate::{
    data::{
        csv,
        dataset::{Dataset, Task},
        frame::Frame,
        intake::{Aim, Goal, Taken},
        roles::{ReadReport, Roles},
        schema::Schema,
    },
    error::{Error, Result},
};

/// A table to be read, once, into a [`Dataset`] or a [`Frame`].
///
/// [`open`](Source::open) goes by the file's extension; the other constructors name the format.
/// The verbs are the same for all:
///
/// | verb | features | target |
/// | --- | --- | --- |
/// | [`dataset`](Source::dataset) | as the roles say, kinds inferred | task inferred |
/// | [`dataset_like`](Source::dataset_like) | those of a fitted schema | of the given task |
/// | [`frame`](Source::frame) | as the roles say, kinds inferred | not read |
/// | [`frame_like`](Source::frame_like) | those of a fitted schema | not read |
///
/// With a fitted schema, columns are found by name, in any order; further columns are ignored, a
/// lacking one is an error, and a level that the schema lacks is
/// [`Frame::UNKNOWN`](crate::Frame::UNKNOWN). [`Roles`] says how kinds are inferred.
///
/// The same table gives the same dataset, to the fingerprint, whichever format it comes in,
/// provided that the formats agree on the kinds: text that looks like numbers is numeric in CSV
/// and categorical in a typed format.
///
/// Errors name the file, the line (CSV, from 1) or row (else, from 0), and the column:
/// ``flights.csv, line 17, column `distance`: expected a number, got "abc"``.
pub struct Source {
    name: String,
    input: Input,
    delimiter: char,
    threads: NonZeroUsize,
}

enum Input {
    Csv(Bytes),
    #[cfg(feature = "arrow")]
    Batches(Box<dyn arrow_array::RecordBatchReader + Send>),
    #[cfg(feature = "parquet")]
    Parquet(Bytes),
}

/// A file's content, or where it lies.
pub(super) enum Bytes {
    File(PathBuf),
    Memory(Vec<u8>),
}

impl Bytes {
    fn read(self) -> Result<Vec<u8>> {
        match self {
            Self::File(path) => fs::read(&path).map_err(Error::io("read", &path)),
            Self::Memory(bytes) => Ok(bytes),
        }
    }
}

impl Source {
    /// A file, by its extension: `csv`, `txt`, `tsv` (separated by tabs), and `parquet` or `pq`
    /// with the feature `parquet`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        match extension.as_deref() {
            Some("csv" | "txt") => Ok(Self::csv(path)),
            Some("tsv") => Ok(Self::csv(path).with_delimiter('\t')),
            #[cfg(feature = "parquet")]
            Some("parquet" | "pq") => Ok(Self::parquet(path)),
            other => {
                let known = if cfg!(feature = "parquet") {
                    "csv, txt, tsv, parquet, or pq"
                } else {
                    "csv, txt, or tsv"
                };
                let got = other.map_or("none".to_owned(), |e| format!("`{e}`"));
                Err(Error::data(path.display(), format_args!("the extension {known}"), got))
            }
        }
    }

    /// A file of delimited text, with a header line.
    pub fn csv(path: impl AsRef<Path>) -> Self {
        Self::file(path.as_ref(), Input::Csv)
    }

    /// Delimited text in memory; `name` stands in messages.
    pub fn csv_bytes(name: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        Self::new(name.into(), Input::Csv(Bytes::Memory(text.into())))
    }

    /// Delimited text from a reader, which is read to its end; `name` stands in messages.
    pub fn csv_reader(name: impl Into<String>, mut reader: impl Read) -> Result<Self> {
        let (name, mut text) = (name.into(), Vec::new());
        reader.read_to_end(&mut text).map_err(Error::io("read", &name))?;
        Ok(Self::csv_bytes(name, text))
    }

    /// Record batches of one schema; `name` stands in messages.
    #[cfg(feature = "arrow")]
    pub fn batches(
        name: impl Into<String>,
        reader: impl arrow_array::RecordBatchReader + Send + 'static,
    ) -> Self {
        Self::new(name.into(), Input::Batches(Box::new(reader)))
    }

    /// One record batch; `name` stands in messages.
    #[cfg(feature = "arrow")]
    pub fn batch(name: impl Into<String>, batch: arrow_array::RecordBatch) -> Self {
        let schema = batch.schema();
        let reader = arrow_array::RecordBatchIterator::new([Ok(batch)], schema);
        Self::batches(name, reader)
    }

    /// A stream of the Arrow C stream interface, by which another version of the arrow crates, or
    /// another language, hands over its batches; `name` stands in messages.
    ///
    /// A stream that breaks the interface's promises cannot be detected: whoever made the struct
    /// vouches for it.
    #[cfg(feature = "arrow")]
    pub fn arrow_stream(
        name: impl Into<String>,
        stream: arrow_array::ffi_stream::FFI_ArrowArrayStream,
    ) -> Result<Self> {
        let name = name.into();
        let reader = arrow_array::ffi_stream::RecordBatchStreamReader::try_new(stream)
            .map_err(|e| Error::data(&name, "an Arrow C stream", e))?;
        Ok(Self::batches(name, reader))
    }

    /// A Parquet file, of which one batch of rows is held in memory at a time.
    #[cfg(feature = "parquet")]
    pub fn parquet(path: impl AsRef<Path>) -> Self {
        Self::file(path.as_ref(), Input::Parquet)
    }

    /// A Parquet file in memory; `name` stands in messages.
    #[cfg(feature = "parquet")]
    pub fn parquet_bytes(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(name.into(), Input::Parquet(Bytes::Memory(bytes.into())))
    }

    /// What separates cells of text, an ASCII character: a comma unless set.
    #[must_use]
    pub fn with_delimiter(self, delimiter: char) -> Self {
        Self { delimiter, ..self }
    }

    /// How many threads may read text: 1 unless set. The result does not depend on it.
    #[must_use]
    pub fn with_threads(self, threads: NonZeroUsize) -> Self {
        Self { threads, ..self }
    }

    /// Reads features and target, inferring kinds and task.
    pub fn dataset(self, roles: &Roles) -> Result<(Dataset, ReadReport)> {
        let taken = self.take(Goal { roles, schema: None, target: Aim::Fresh })?;
        taken.into_dataset()
    }

    /// Reads features and target as an earlier dataset had them: validation data, or labelled
    /// data to score a model with. A class that `task` lacks is an error.
    pub fn dataset_like(
        self,
        schema: &Schema,
        task: &Task,
        roles: &Roles,
    ) -> Result<(Dataset, ReadReport)> {
        let taken = self.take(Goal { roles, schema: Some(schema), target: Aim::Like(task) })?;
        taken.into_dataset()
    }

    /// Reads features, inferring kinds. Columns with the roles of target, weight, group, and label
    /// time are left out where they exist.
    pub fn frame(self, roles: &Roles) -> Result<(Frame, ReadReport)> {
        let taken = self.take(Goal { roles, schema: None, target: Aim::Nothing })?;
        Ok((taken.frame, taken.report))
    }

    /// Reads the features of a fitted schema, as a model's signature has it, for prediction. Of
    /// the roles, `time`, `entity`, `time_unit`, and `missing` count.
    pub fn frame_like(self, schema: &Schema, roles: &Roles) -> Result<(Frame, ReadReport)> {
        let taken = self.take(Goal { roles, schema: Some(schema), target: Aim::Nothing })?;
        Ok((taken.frame, taken.report))
    }

    fn new(name: String, input: Input) -> Self {
        Self { name, input, delimiter: ',', threads: NonZeroUsize::MIN }
    }

    fn file(path: &Path, format: fn(Bytes) -> Input) -> Self {
        Self::new(path.display().to_string(), format(Bytes::File(path.to_path_buf())))
    }

    fn take(self, goal: Goal<'_>) -> Result<Taken> {
        let Self { name, input, delimiter, threads } = self;
        match input {
            Input::Csv(bytes) => {
                let usable = delimiter.is_ascii() && !['"', '\n', '\r', '\0'].contains(&delimiter);
                if !usable {
                    let expected = "an ASCII character other than quote, line end, and NUL";
                    let place = format_args!("{name}, delimiter");
                    return Err(Error::data(place, expected, format_args!("{delimiter:?}")));
                }
                csv::read(&name, &bytes.read()?, delimiter as u8, threads, goal)
            }
            #[cfg(feature = "arrow")]
            Input::Batches(reader) => super::arrow::read(&name, reader, goal),
            #[cfg(feature = "parquet")]
            Input::Parquet(bytes) => super::parquet::read(&name, bytes, goal),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}
