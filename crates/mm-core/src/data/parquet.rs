//! Parquet files, a batch of rows at a time.
//!
//! Only the columns that have a role are decoded. A damaged file is
//! [`Error::Corrupt`](crate::Error::Corrupt): what the decoder reports, and what it panics on,
//! which a few kinds of damage still make it do; such a panic is caught here and reaches the
//! program's panic hook, but not its callers. Damage that leaves a well-formed file is not seen,
//! since page checksums are optional in the format; a fingerprint of the dataset is the remedy.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    panic::{self, AssertUnwindSafe},
};

use bytes::Bytes as Shared;
use parquet::{
    arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder},
    file::reader::ChunkReader,
};

use crate::{
    data::{
        arrow,
        intake::{Goal, Intake, Taken},
        source::Bytes,
    },
    error::{Error, Result},
};

/// Rows decoded at a time.
const BATCH: usize = 8192;

/// Reads a whole file.
pub(super) fn read(source: &str, bytes: Bytes, goal: Goal<'_>) -> Result<Taken> {
    let read = || match bytes {
        Bytes::File(path) => {
            let file = File::open(&path).map_err(Error::io("read", &path))?;
            read_chunks(source, file, goal)
        }
        Bytes::Memory(bytes) => read_chunks(source, Shared::from(bytes), goal),
    };
    // Nothing that `read` touches outlives a panic.
    panic::catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(corrupt(source, text.unwrap_or("a panic of the decoder")))
    })
}

fn read_chunks<C: ChunkReader + 'static>(source: &str, chunks: C, goal: Goal<'_>) -> Result<Taken> {
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(chunks).map_err(|e| corrupt(source, e))?;
    let fields = arrow::fields(builder.schema());
    let mut intake = Intake::new(source, "row", &fields, goal, &HashMap::new())?;
    let roots = intake.sources();
    let mut positions = vec![usize::MAX; fields.len()];
    for (position, &root) in roots.iter().enumerate() {
        positions[root] = position;
    }
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder
        .with_projection(mask)
        .with_batch_size(BATCH)
        .build()
        .map_err(|e| corrupt(source, e))?;
    let mut first = 0;
    for batch in reader {
        let batch = batch.map_err(|e| corrupt(source, e))?;
        arrow::push(&mut intake, &batch, &positions, first)?;
        first += batch.num_rows() as u64;
    }
    intake.finish()
}

fn corrupt(source: &str, got: impl fmt::Display) -> Error {
    Error::corrupt(source, "a readable Parquet file", got)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampMillisecondArray,
    };
    use parquet::{
        arrow::ArrowWriter,
        basic::{Compression, ZstdLevel},
        file::properties::WriterProperties,
    };

    use crate::{Dataset, Error, Roles, Source, TimeUnit};

    /// One table as text and as a batch.
    fn table() -> (String, RecordBatch) {
        let n = 50;
        let number = |i: i64| (i % 7 != 0).then_some(i as f64 * 0.1 - 2.0);
        let city = |i: i64| (i % 5 != 0).then(|| format!("town {}", i * 13 % 11));
        let mut text = "id,when,x,city,flag,unused,y\n".to_owned();
        for i in 0..n {
            let (x, city) = (number(i).map(|x| x.to_string()), city(i));
            let cells = [
                (i / 4).to_string(),
                (i * 1000).to_string(),
                x.unwrap_or_default(),
                city.unwrap_or_default(),
                (i % 3 == 0).to_string(),
                String::new(),
                (i % 2).to_string(),
            ];
            text.push_str(&cells.join(","));
            text.push('\n');
        }
        let column = |make: &dyn Fn(i64) -> i64| (0..n).map(make).collect::<Vec<i64>>();
        let columns: [(&str, ArrayRef); 7] = [
            ("id", Arc::new(Int64Array::from(column(&|i| i / 4)))),
            ("when", Arc::new(TimestampMillisecondArray::from(column(&|i| i * 1000)))),
            ("x", Arc::new((0..n).map(number).collect::<Float64Array>())),
            ("city", Arc::new((0..n).map(city).collect::<StringArray>())),
            ("flag", Arc::new((0..n).map(|i| Some(i % 3 == 0)).collect::<BooleanArray>())),
            ("unused", Arc::new(Int64Array::from(column(&|i| i)))),
            ("y", Arc::new(Int64Array::from(column(&|i| i % 2)))),
        ];
        (text, RecordBatch::try_from_iter(columns).expect("equal lengths"))
    }

    fn roles() -> Roles {
        Roles::with_target("y").with(|r| {
            r.group = Some("id".into());
            r.time = Some("when".into());
            r.time_unit = Some(TimeUnit::Milliseconds);
            r.ignore = vec!["unused".into()];
        })
    }

    fn written(batch: &RecordBatch, compression: Compression) -> Vec<u8> {
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_max_row_group_row_count(Some(20))
            .build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties))
            .expect("a schema that Parquet has");
        writer.write(batch).expect("writes");
        writer.close().expect("writes");
        bytes
    }

    fn read(bytes: &[u8]) -> crate::Result<Dataset> {
        Source::parquet_bytes("t.parquet", bytes).dataset(&roles()).map(|(data, _)| data)
    }

    #[test]
    fn a_table_is_the_same_dataset_through_every_format() {
        let (text, batch) = table();
        let csv = Source::csv_bytes("t.csv", text).dataset(&roles()).expect("reads").0;
        let arrow = Source::batch("t", batch.clone()).dataset(&roles()).expect("reads").0;
        assert_eq!(arrow.fingerprint(), csv.fingerprint());
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::ZSTD(ZstdLevel::default()),
        ] {
            let parquet = read(&written(&batch, compression)).expect("reads");
            assert_eq!(parquet.fingerprint(), csv.fingerprint(), "{compression}");
        }
    }

    #[test]
    fn a_file_on_disk_is_read_by_its_extension() {
        let (_, batch) = table();
        let path = std::env::temp_dir().join(format!("mm-core-{}.parquet", std::process::id()));
        let bytes = written(&batch, Compression::SNAPPY);
        std::fs::write(&path, &bytes).expect("a writable folder for temporary files");
        let (data, _) = Source::open(&path).expect("known").dataset(&roles()).expect("reads");
        std::fs::remove_file(&path).expect("just written");
        assert_eq!(data, read(&bytes).expect("reads"));
        let error = Source::parquet(&path).dataset(&roles()).expect_err("removed");
        assert!(matches!(error, Error::Io { .. }));
    }

    #[test]
    fn a_truncated_file_is_corrupt() {
        let (_, batch) = table();
        let bytes = written(&batch, Compression::SNAPPY);
        for cut in (0..bytes.len()).step_by(7) {
            let error = read(&bytes[..cut]).expect_err("truncated");
            assert!(matches!(error, Error::Corrupt { .. }), "cut at {cut}: {error}");
        }
    }

    #[test]
    fn a_damaged_file_is_read_or_refused_but_panics_nowhere() {
        let (_, batch) = table();
        let mut refused = 0;
        for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY] {
            let bytes = written(&batch, compression);
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << (at % 8);
                refused += usize::from(read(&damaged).is_err());
            }
        }
        assert!(0 < refused, "damage is seen at all");
    }
}
