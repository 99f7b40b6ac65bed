//! Arrow record batches: in, as tables to read; out, as predictions.
//!
//! The arrow crates that this build speaks are re-exported, so that callers need not guess the
//! version. A program that uses another hands its batches over by the C stream interface:
//! [`Source::arrow_stream`](crate::Source::arrow_stream).
//!
//! | Arrow type | read as |
//! | --- | --- |
//! | integers, floats, decimals | numbers, rounded to `f64` |
//! | `Utf8`, `LargeUtf8`, `Utf8View`, `Boolean` | levels |
//! | `Dictionary` | as its values |
//! | `Timestamp`, `Date32`, `Date64` | moments, UTC where there is no time zone |
//! | `Null` | numbers, all missing |
//! | others | refused, unless ignored |
//!
//! Nulls, NaN, and empty text are missing.

pub use arrow_array as array;
pub use arrow_schema as schema;

use std::{collections::HashMap, sync::Arc};

use arrow_array::{
    Array, ArrayRef, Float64Array, RecordBatch, RecordBatchReader, cast::AsArray, types,
};
use arrow_schema::{ArrowError, DataType, TimeUnit as ArrowUnit};

use crate::{
    data::{
        cell::{Cell, Field, Given},
        dataset::Output,
        intake::{Goal, Intake, Taken},
        matrix::Matrix,
        number::{self, Parsed},
        time::TimeUnit,
    },
    error::{Error, Result},
    model::Signature,
};

impl Signature {
    /// Predictions as a record batch: one `Float64` column an output, named `prediction`,
    /// `probability_` and the class, or `quantile_` and the level.
    ///
    /// `predictions`, of shape (*n*, *k*), must have the signature's *k* columns.
    pub fn to_record_batch(&self, predictions: &Matrix) -> Result<RecordBatch> {
        if predictions.n_cols() != self.n_outputs() {
            let (expected, got) = (self.n_outputs(), predictions.n_cols());
            return Err(Error::data("columns of the predictions", expected, got));
        }
        let column = |(j, output): (usize, &Output)| {
            let name = match output {
                Output::Value => "prediction".to_owned(),
                Output::Probability(class) => format!("probability_{class}"),
                Output::Quantile(level) => format!("quantile_{level}"),
                Output::Variance => "variance".to_owned(),
            };
            let values: ArrayRef = Arc::new(Float64Array::from_iter_values(predictions.column(j)));
            (name, values)
        };
        RecordBatch::try_from_iter(self.outputs.iter().enumerate().map(column)).map_err(engine)
    }
}

/// Reads all batches.
pub(super) fn read(
    source: &str,
    reader: Box<dyn RecordBatchReader + Send>,
    goal: Goal<'_>,
) -> Result<Taken> {
    let fields = fields(&reader.schema());
    let mut intake = Intake::new(source, "row", &fields, goal, &HashMap::new())?;
    let positions: Vec<usize> = (0..fields.len()).collect();
    let mut first = 0;
    for batch in reader {
        let batch = batch.map_err(engine)?;
        if batch.num_columns() != fields.len() {
            let place = format!("{source}, batch from row {first}");
            let expected = format!("{} columns, as in the schema", fields.len());
            return Err(Error::data(place, expected, batch.num_columns()));
        }
        push(&mut intake, &batch, &positions, first)?;
        first += batch.num_rows() as u64;
    }
    intake.finish()
}

fn engine(error: ArrowError) -> Error {
    Error::Engine { engine: "arrow", source: Box::new(error) }
}

/// The columns as an intake wants to know them.
pub(super) fn fields(schema: &arrow_schema::Schema) -> Vec<Field> {
    let field = |field: &Arc<arrow_schema::Field>| Field {
        name: field.name().clone(),
        given: given(field.data_type()),
    };
    schema.fields().iter().map(field).collect()
}

fn given(kind: &DataType) -> Given {
    let name = kind.to_string();
    match kind {
        DataType::Dictionary(_, values) => match given(values) {
            Given::Numeric(_) => Given::Numeric(name),
            Given::Levels(_) => Given::Levels(name),
            Given::Moment(_) => Given::Moment(name),
            Given::Untyped | Given::Unreadable(_) => Given::Unreadable(name),
        },
        DataType::Null | DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            Given::Numeric(name)
        }
        kind if kind.is_integer() || kind.is_decimal() => Given::Numeric(name),
        DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            Given::Levels(name)
        }
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Given::Moment(name),
        _ => Given::Unreadable(name),
    }
}

/// Takes in the rows of `batch`, the first of which is row `first` of the source. Column `from` of
/// the source is column `positions[from]` of the batch.
pub(super) fn push(
    intake: &mut Intake,
    batch: &RecordBatch,
    positions: &[usize],
    first: u64,
) -> Result<()> {
    let columns: Vec<Reader<'_>> = batch.columns().iter().map(|array| reader(array)).collect();
    for row in 0..batch.num_rows() {
        intake.push(first + row as u64, |from| columns[positions[from]](row))?;
    }
    Ok(())
}

/// Gives the cell of a row.
type Reader<'a> = Box<dyn Fn(usize) -> Cell<'a> + 'a>;

fn reader(array: &dyn Array) -> Reader<'_> {
    /// Reads the array as `$type`, and each value that is not null by `$cell`.
    macro_rules! cells {
        ($array:expr, $cell:expr) => {{
            let array = $array;
            if array.null_count() == 0 {
                Box::new(move |row| $cell(array.value(row)))
            } else {
                Box::new(move |row| match array.is_null(row) {
                    true => Cell::Missing,
                    false => $cell(array.value(row)),
                })
            }
        }};
    }
    macro_rules! integers {
        ($type:ident) => {
            cells!(array.as_primitive::<types::$type>(), |x| Cell::Integer(i64::from(x)))
        };
    }
    macro_rules! moments {
        ($type:ident, $unit:expr, $factor:literal) => {
            cells!(array.as_primitive::<types::$type>(), |x| moment(i64::from(x), $unit, $factor))
        };
    }
    macro_rules! decimals {
        ($type:ident) => {{
            let array = array.as_primitive::<types::$type>();
            Box::new(move |row| match array.is_null(row) {
                true => Cell::Missing,
                false => decimal(&array.value_as_string(row)),
            })
        }};
    }
    let (s, ms) = (TimeUnit::Seconds, TimeUnit::Milliseconds);
    let (us, ns) = (TimeUnit::Microseconds, TimeUnit::Nanoseconds);
    match array.data_type() {
        DataType::Boolean => cells!(array.as_boolean(), Cell::Bool),
        DataType::Int8 => integers!(Int8Type),
        DataType::Int16 => integers!(Int16Type),
        DataType::Int32 => integers!(Int32Type),
        DataType::Int64 => integers!(Int64Type),
        DataType::UInt8 => integers!(UInt8Type),
        DataType::UInt16 => integers!(UInt16Type),
        DataType::UInt32 => integers!(UInt32Type),
        DataType::UInt64 => cells!(array.as_primitive::<types::UInt64Type>(), |x| {
            i64::try_from(x).map_or(Cell::Number(x as f64), Cell::Integer)
        }),
        DataType::Float16 => {
            cells!(array.as_primitive::<types::Float16Type>(), |x| Cell::Number(f64::from(x)))
        }
        DataType::Float32 => {
            cells!(array.as_primitive::<types::Float32Type>(), |x| Cell::Number(f64::from(x)))
        }
        DataType::Float64 => cells!(array.as_primitive::<types::Float64Type>(), Cell::Number),
        DataType::Decimal32(..) => decimals!(Decimal32Type),
        DataType::Decimal64(..) => decimals!(Decimal64Type),
        DataType::Decimal128(..) => decimals!(Decimal128Type),
        DataType::Decimal256(..) => decimals!(Decimal256Type),
        DataType::Utf8 => cells!(array.as_string::<i32>(), Cell::Text),
        DataType::LargeUtf8 => cells!(array.as_string::<i64>(), Cell::Text),
        DataType::Utf8View => cells!(array.as_string_view(), Cell::Text),
        DataType::Date32 => moments!(Date32Type, s, 86_400),
        DataType::Date64 => moments!(Date64Type, ms, 1),
        DataType::Timestamp(ArrowUnit::Second, _) => moments!(TimestampSecondType, s, 1),
        DataType::Timestamp(ArrowUnit::Millisecond, _) => {
            moments!(TimestampMillisecondType, ms, 1)
        }
        DataType::Timestamp(ArrowUnit::Microsecond, _) => {
            moments!(TimestampMicrosecondType, us, 1)
        }
        DataType::Timestamp(ArrowUnit::Nanosecond, _) => moments!(TimestampNanosecondType, ns, 1),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            if dictionary.values().is_empty() {
                return Box::new(|_| Cell::Missing);
            }
            let (keys, values) = (dictionary.normalized_keys(), reader(dictionary.values()));
            Box::new(move |row| if array.is_null(row) { Cell::Missing } else { values(keys[row]) })
        }
        // `Null`; every other type was refused, or is not read.
        _ => Box::new(|_| Cell::Missing),
    }
}

/// `count` times `factor` of `unit`; a number where nanoseconds do not hold it, which a column of
/// moments refuses with the number.
fn moment<'a>(count: i64, unit: TimeUnit, factor: i64) -> Cell<'a> {
    let nanos = count.checked_mul(factor).and_then(|count| unit.nanos(count));
    nanos.map_or(Cell::Number(count as f64), Cell::Moment)
}

fn decimal<'a>(text: &str) -> Cell<'a> {
    match number::parse(text) {
        Parsed::Finite(x) => Cell::Number(x),
        Parsed::Infinite | Parsed::NotANumber => Cell::Number(f64::INFINITY), // Refused as such.
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{
        BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal128Array, DictionaryArray,
        Float32Array, Int8Array, Int64Array, LargeStringArray, NullArray, RecordBatchIterator,
        StringArray, StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray,
        TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
        ffi_stream::FFI_ArrowArrayStream,
    };

    use super::*;
    use crate::{Frame, Roles, Schema, Source, Task};

    fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> RecordBatch {
        RecordBatch::try_from_iter(columns).expect("equal lengths")
    }

    fn frame<const N: usize>(columns: [(&str, ArrayRef); N]) -> Result<Frame> {
        Source::batch("b", batch(columns)).frame(&Roles::default()).map(|(frame, _)| frame)
    }

    #[test]
    fn numbers_of_every_type_are_read() {
        let decimal = Decimal128Array::from(vec![Some(-1250), None, Some(7)]);
        let decimal = decimal.with_precision_and_scale(10, 2).expect("fits");
        let keys = Int8Array::from(vec![Some(1), None, Some(0)]);
        let dictionary = DictionaryArray::new(keys, Arc::new(Int64Array::from(vec![30, 40])));
        let frame = frame([
            ("i8", Arc::new(Int8Array::from(vec![Some(-1), None, Some(3)]))),
            ("u64", Arc::new(UInt64Array::from(vec![1, 1 << 63, 3]))),
            ("f32", Arc::new(Float32Array::from(vec![0.5, f32::NAN, -2.0]))),
            ("decimal", Arc::new(decimal)),
            ("dictionary", Arc::new(dictionary)),
            ("null", Arc::new(NullArray::new(3))),
        ]);
        let frame = frame.expect("reads");
        let rows: Vec<String> = frame.rows().map(|row| format!("{row:?}")).collect();
        assert_eq!(
            rows,
            [
                "[-1.0, 1.0, 0.5, -12.5, 40.0, NaN]",
                "[NaN, 9.223372e18, NaN, NaN, NaN, NaN]",
                "[3.0, 3.0, -2.0, 0.07, 30.0, NaN]",
            ]
        );
    }

    #[test]
    fn levels_of_every_type_are_read() {
        let cells = [Some("b"), None, Some(""), Some("a")];
        let keys = Int8Array::from(vec![Some(2), Some(0), None, Some(1)]);
        let values = StringArray::from(vec![None, Some("a"), Some("b"), Some("unused")]);
        let booleans = BooleanArray::from(vec![Some(true), None, None, Some(false)]);
        let empty = DictionaryArray::new(
            Int8Array::from(vec![None, None, None, None]),
            Arc::new(StringArray::from(Vec::<&str>::new())),
        );
        let frame = frame([
            ("utf8", Arc::new(StringArray::from(cells.to_vec()))),
            ("large", Arc::new(LargeStringArray::from(cells.to_vec()))),
            ("view", Arc::new(StringViewArray::from(cells.to_vec()))),
            ("dictionary", Arc::new(DictionaryArray::new(keys, Arc::new(values)))),
            ("boolean", Arc::new(booleans)),
            ("empty", Arc::new(empty)),
        ]);
        let frame = frame.expect("reads");
        let names =
            |j: usize| frame.schema().columns()[j].levels().expect("categorical").names().to_vec();
        for j in 0..4 {
            assert_eq!(names(j), ["a", "b"], "column {j}");
        }
        assert_eq!((names(4), names(5)), (vec!["false".into(), "true".into()], vec![]));
        let rows: Vec<String> = frame.rows().map(|row| format!("{:?}", &row[..5])).collect();
        let missing = "[NaN, NaN, NaN, NaN, NaN]";
        assert_eq!(
            rows,
            ["[1.0, 1.0, 1.0, 1.0, 1.0]", missing, missing, "[0.0, 0.0, 0.0, 0.0, 0.0]"]
        );
    }

    #[test]
    fn moments_of_every_unit_are_nanoseconds() {
        let day = 86_400_000_000_000_i64;
        let columns: [ArrayRef; 6] = [
            Arc::new(Date32Array::from(vec![-1])),
            Arc::new(Date64Array::from(vec![-86_400_000])),
            Arc::new(TimestampSecondArray::from(vec![-86_400]).with_timezone("+02:00")),
            Arc::new(TimestampMillisecondArray::from(vec![-86_400_000])),
            Arc::new(TimestampMicrosecondArray::from(vec![-86_400_000_000])),
            Arc::new(TimestampNanosecondArray::from(vec![-day])),
        ];
        let roles = Roles::default().with(|r| r.time = Some("t".into()));
        let x: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        for column in columns {
            let batch = batch([("t", column), ("x", x.clone())]);
            let (frame, _) = Source::batch("b", batch).frame(&roles).expect("reads");
            assert_eq!(frame.times(), Some(&[-day][..]));
        }
        let far: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]));
        let error = Source::batch("b", batch([("t", far), ("x", x)])).frame(&roles);
        let error = error.expect_err("beyond nanoseconds").to_string();
        assert!(error.starts_with("b, row 0, column `t`: expected a moment"), "{error}");
    }

    #[test]
    fn types_that_cannot_be_read_are_named_unless_ignored() {
        let x: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let binary: ArrayRef = Arc::new(BinaryArray::from(vec![&b"\0"[..]]));
        let columns = || [("x", x.clone()), ("blob", binary.clone())];
        let error = frame(columns()).expect_err("binary").to_string();
        let message = "b, column `blob`: expected numbers, booleans, text, or moments, got Binary";
        assert_eq!(error, message);
        let roles = Roles::default().with(|r| r.ignore = vec!["blob".into()]);
        assert!(Source::batch("b", batch(columns())).frame(&roles).is_ok());
        let date: ArrayRef = Arc::new(Date32Array::from(vec![1]));
        let error = frame([("x", x), ("d", date)]).expect_err("a moment is no feature").to_string();
        assert!(error.starts_with("b, column `d`: expected numbers, booleans, or text"), "{error}");
    }

    #[test]
    fn infinities_and_missing_targets_are_named_by_row() {
        let x: ArrayRef = Arc::new(Float32Array::from(vec![1.0, f32::NEG_INFINITY]));
        let error = frame([("x", x)]).expect_err("infinite").to_string();
        assert_eq!(error, "b, row 1, column `x`: expected a finite number, got -inf");
        let x: ArrayRef = Arc::new(Float32Array::from(vec![1.0, 2.0, 3.0]));
        let y: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("b")]));
        let batch = || batch([("x", x.clone()), ("y", y.clone())]);
        let roles = Roles::with_target("y");
        let error = Source::batch("b", batch()).dataset(&roles).expect_err("missing").to_string();
        assert_eq!(error, "b, row 1, column `y`: expected a target, got a missing cell");
        let roles = roles.with(|r| r.drop_missing_target = true);
        let (data, report) = Source::batch("b", batch()).dataset(&roles).expect("dropped");
        assert_eq!((data.n_rows(), report.dropped), (2, 1));
        assert_eq!(data.frame().values()[..], [1.0, 3.0]);
    }

    #[test]
    fn the_c_stream_gives_what_the_batches_give() {
        let part = |from: i64, name: &str| {
            let x: ArrayRef = Arc::new(Int64Array::from(vec![from, from + 1]));
            let c: ArrayRef = Arc::new(StringArray::from(vec![name, "m"]));
            batch([("x", x), ("c", c)])
        };
        let parts = || {
            let parts = [part(0, "z"), part(2, "a")];
            let schema = parts[0].schema();
            RecordBatchIterator::new(parts.map(Ok), schema)
        };
        let stream = FFI_ArrowArrayStream::new(Box::new(parts()));
        let streamed = Source::arrow_stream("s", stream).expect("a schema");
        let (streamed, _) = streamed.frame(&Roles::default()).expect("reads");
        let (direct, _) = Source::batches("b", parts()).frame(&Roles::default()).expect("reads");
        assert_eq!(streamed, direct);
        let codes: Vec<f32> = direct.column(1).collect();
        assert_eq!(codes, [2.0, 1.0, 0.0, 1.0], "a dictionary spans the batches");
        assert!(Source::arrow_stream("s", FFI_ArrowArrayStream::empty()).is_err());
    }

    #[test]
    fn predictions_leave_under_the_names_of_the_outputs() {
        let task = Task::classes(["a", "b", "c"]).expect("three");
        let signature = Signature::new(Schema::numeric(1), task);
        let scores = Matrix::new(vec![0.5, 0.25, 0.25, 0.0, 1.0, 0.0], 3).expect("valid");
        let batch = signature.to_record_batch(&scores).expect("three columns");
        assert_eq!(batch.schema().field(1).name(), "probability_b");
        let values = batch.column(1).as_primitive::<types::Float64Type>();
        assert_eq!(values.values()[..], [0.25, 1.0]);
        let error = signature.to_record_batch(&Matrix::zeros(2, 1)).expect_err("one column");
        assert_eq!(error.to_string(), "columns of the predictions: expected 3, got 1");
    }
}
