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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::roles::{Role, TaskKind};

    const TEXT: &str = "\
when,id,age,city,flag,w,spam
2013-01-01T05:15:00Z,7,31.5,Rome,true,1,no
2013-01-01T06:00:00Z,7,,Oslo,false,2,yes
2013-01-02T00:00:00.5Z,9,44,,true,0.5,no
2012-12-31T23:00:00Z,8,-2,Rome,,1,yes
";

    fn csv(text: &str) -> Source {
        Source::csv_bytes("mail.csv", text)
    }

    fn all_roles() -> Roles {
        Roles::with_target("spam").with(|r| {
            r.weight = Some("w".into());
            r.group = Some("id".into());
            r.entity = Some("id".into());
            r.time = Some("when".into());
            r.label_time = Some("when".into());
        })
    }

    #[track_caller]
    fn refused(text: &str, roles: &Roles, message: &str) {
        let error = csv(text).dataset(roles).expect_err("refused");
        assert_eq!(error.chain(), message);
    }

    #[test]
    fn roles_say_what_each_column_is() {
        let (data, report) = csv(TEXT).dataset(&all_roles()).expect("reads");
        let names: Vec<_> =
            data.frame().schema().columns().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["numeric `age`", "categorical `city`", "categorical `flag`"]);
        assert_eq!(data.target(), [0.0, 1.0, 0.0, 1.0]);
        assert_eq!(data.weights(), Some(&[1.0, 2.0, 0.5, 1.0][..]));
        assert_eq!(data.groups(), Some(&[7, 7, 9, 8][..]));
        assert_eq!(data.frame().entities(), data.groups());
        assert_eq!(data.label_times(), data.frame().times());
        assert_eq!(data.frame().times().expect("times")[2], 1_357_084_800_500_000_000);
        assert_eq!(data.frame().row(0), [31.5, 1.0, 1.0]);
        assert!(data.frame().row(1)[0].is_nan() && data.frame().row(2)[1].is_nan());
        let missing: Vec<usize> = report.columns.iter().map(|c| c.missing).collect();
        assert_eq!(missing, [1, 1, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_report_prints_what_was_inferred_and_why() {
        let roles = Roles::with_target("late").with(|r| {
            r.ignore = vec!["x".into()];
            r.drop_missing_target = true;
        });
        let text = "id,dest,x,late\n16777217,IAH,1,0\n2,,2,1\n3,JFK,2,\n";
        let (data, report) = Source::csv_bytes("f.csv", text).dataset(&roles).expect("reads");
        assert_eq!(data.n_rows(), 2);
        let printed = "\
f.csv: 2 rows, 1 left out without a target
  column  role        kind                    missing  reason
  id      feature     numeric                       0  every cell that is not missing is a number
  dest    feature     categorical, 1 levels         1  \"IAH\" on line 2 is no number
  late    target      2 classes                     0  it holds 0 and 1 only
  x       ignored     -                             0  no role
  warning: `id`: 1 integers are not exact in `f32`; if they are names, list the column in `categorical`
";
        assert_eq!(report.to_string(), printed);
    }

    #[test]
    fn levels_do_not_depend_on_the_order_of_rows() {
        let (a, _) = csv("c,y\nb,1\na,2\nc,3\n").dataset(&Roles::with_target("y")).expect("reads");
        let (b, _) = csv("c,y\nc,3\nb,1\na,2\n").dataset(&Roles::with_target("y")).expect("reads");
        assert_eq!(a.frame().schema(), b.frame().schema());
        assert_eq!(a.take(&[2, 0, 1]).fingerprint(), b.fingerprint());
    }

    #[test]
    fn kinds_can_be_forced() {
        let text = "zip,n,y\n007,1,1\n01,2,2\n";
        let roles = Roles::with_target("y").with(|r| r.categorical = vec!["zip".into()]);
        let (data, report) = csv(text).dataset(&roles).expect("reads");
        let levels = data.frame().schema().columns()[0].levels().expect("forced").clone();
        assert_eq!(levels.names(), ["007", "01"]);
        assert_eq!(report.columns[0].why, "listed in `categorical`");
        let both = roles.with(|r| r.numeric = vec!["zip".into()]);
        let message = "mail.csv, `numeric`: expected each feature in one list, got \"zip\", which is also in `categorical`";
        refused(text, &both, message);
        let target = Roles::with_target("y").with(|r| r.numeric = vec!["y".into()]);
        refused(text, &target, "mail.csv, `numeric`: expected features, got \"y\", which is none");
    }

    #[test]
    fn features_can_be_listed_but_never_the_target() {
        let roles = |names: [&str; 2]| {
            all_roles().with(|r| r.features = Some(names.map(String::from).to_vec()))
        };
        let (data, _) = csv(TEXT).dataset(&roles(["id", "age"])).expect("reads");
        assert_eq!(data.frame().row(3), [8.0, -2.0]);
        for bad in ["spam", "when"] {
            let message = format!(
                "mail.csv, `features`: expected neither the target, nor the label time, nor ignored columns, got \"{bad}\" among them",
            );
            refused(TEXT, &roles(["age", bad]), &message);
        }
    }

    #[test]
    fn names_that_do_not_exist_are_refused_wherever_they_stand() {
        type Edit = fn(&mut Roles);
        let edits: [Edit; 11] = [
            |r| r.target = Some("citi".into()),
            |r| r.weight = Some("citi".into()),
            |r| r.group = Some("citi".into()),
            |r| r.entity = Some("citi".into()),
            |r| r.time = Some("citi".into()),
            |r| r.label_time = Some("citi".into()),
            |r| r.ignore = vec!["citi".into()],
            |r| r.features = Some(vec!["citi".into()]),
            |r| r.categorical = vec!["citi".into()],
            |r| r.numeric = vec!["citi".into()],
            |r| r.target = None,
        ];
        for (i, edit) in edits.into_iter().enumerate() {
            let message = match i {
                10 => "roles: expected a `target`, got none",
                _ => "mail.csv: expected a column \"citi\", got none; near it are `city`",
            };
            refused(TEXT, &all_roles().with(edit), message);
        }
        let nothing = Roles::with_target("y").with(|r| r.ignore = vec!["x".into()]);
        refused("x,y\n1,2\n", &nothing, "mail.csv: expected at least one feature, got none");
    }

    #[test]
    fn the_task_follows_the_target_unless_it_is_said() {
        let read = |targets: [&str; 4], roles: &Roles| {
            let rows = targets.map(|y| format!("1,{y}\n")).concat();
            csv(&format!("x,y\n{rows}"))
                .dataset(roles)
                .map(|(data, _)| (data.task().to_string(), data.target().to_vec()))
        };
        let auto = Roles::with_target("y");
        for (targets, task, codes) in [
            (["0", "1", "1", "0"], "binary (positive class `1`)", [0.0, 1.0, 1.0, 0.0]),
            (["1.0", "0.0", "1.0", "0.0"], "binary (positive class `1.0`)", [1.0, 0.0, 1.0, 0.0]),
            (["1", "2", "2", "1"], "regression", [1.0, 2.0, 2.0, 1.0]),
            (["1", "0", "0.0", "1"], "regression", [1.0, 0.0, 0.0, 1.0]),
            (["b", "a", "1", "b"], "multiclass (3 classes)", [2.0, 1.0, 0.0, 2.0]),
            (["1", "0", "2", "x"], "multiclass (4 classes)", [1.0, 0.0, 2.0, 3.0]),
        ] {
            let expected = (task.to_owned(), codes.to_vec());
            assert_eq!(read(targets, &auto).expect("reads"), expected, "{targets:?}");
        }
        let classes = auto.clone().with(|r| r.task = TaskKind::Classification);
        let (task, codes) = read(["10", "9", "9", "10"], &classes).expect("reads");
        assert_eq!(
            (&*task, &codes[..]),
            ("binary (positive class `9`)", &[0.0, 1.0, 1.0, 0.0][..])
        );
        let positive = classes.clone().with(|r| r.positive = Some("10".into()));
        let (task, codes) = read(["10", "9", "9", "10"], &positive).expect("reads");
        assert_eq!(
            (&*task, &codes[..]),
            ("binary (positive class `10`)", &[1.0, 0.0, 0.0, 1.0][..])
        );
        let error = read(["a", "b", "b", "a"], &positive).expect_err("no such class");
        let message = "mail.csv, column `y`: expected two classes, \"10\" one of them, got a, b";
        assert_eq!(error.to_string(), message);
        let values = auto.clone().with(|r| r.task = TaskKind::Regression);
        assert!(read(["0", "1", "1", "0"], &values).expect("reads").0 == "regression");
        assert!(read(["0", "1", "a", "0"], &values).is_err());
    }

    #[test]
    fn cells_of_other_roles_are_checked() {
        let edited = |from: &str, to: &str| TEXT.replace(from, to);
        let line = "mail.csv, line 3, column";
        for (from, to, message) in [
            (",2,yes", ",-2,yes", format!("{line} `w`: expected a finite number ≥ 0, got -2")),
            (",2,yes", ",,yes", format!("{line} `w`: expected a number, got a missing cell")),
            ("Z,7,,", "Z,,,", format!("{line} `id`: expected an id, got a missing cell")),
            (
                "2013-01-01T06:00:00Z",
                "",
                format!("{line} `when`: expected a moment, got a missing cell"),
            ),
            (
                "2013-01-01T06:00:00Z",
                "12",
                format!("{line} `when`: expected a `time_unit` for integer moments, got 12"),
            ),
        ] {
            refused(&edited(from, to), &all_roles(), &message);
        }
        let unit = all_roles().with(|r| r.time_unit = Some(crate::TimeUnit::Seconds));
        let (data, _) = csv(&edited("2013-01-01T06:00:00Z", "-12")).dataset(&unit).expect("reads");
        assert_eq!(data.frame().times().expect("times")[1], -12_000_000_000);
    }

    #[test]
    fn ids_of_text_are_numbered_in_sorted_order() {
        let roles = Roles::with_target("y").with(|r| r.group = Some("g".into()));
        for (ids, expected) in [
            (["7", "-3", "7"], [7, -3, 7]),
            (["7", "03", "7"], [1, 0, 1]),
            (["b", "a", "b"], [1, 0, 1]),
        ] {
            let [a, b, c] = ids;
            let text = format!("g,x,y\n{a},1,1\n{b},1,2\n{c},1,3\n");
            let (data, _) = csv(&text).dataset(&roles).expect("reads");
            assert_eq!(data.groups(), Some(&expected[..]), "{ids:?}");
        }
    }

    #[test]
    fn a_fitted_schema_finds_columns_by_name() {
        let (data, _) = csv(TEXT).dataset(&all_roles()).expect("reads");
        let schema = data.frame().schema();
        let other = "flag,extra,city,age\nfalse,zzz,Paris,1\n,,Rome,\n";
        let (frame, report) = csv(other).frame_like(schema, &Roles::default()).expect("reads");
        assert_eq!(frame.row(0), [1.0, Frame::UNKNOWN, 0.0]);
        assert!(frame.row(1)[0].is_nan() && frame.row(1)[2].is_nan());
        assert_eq!(report.columns[1].unknown, 1);
        assert_eq!(report.columns[3].role, Role::Ignored);
        assert!(frame.schema() == schema);

        let error =
            csv("flag,city\n,\n").frame_like(schema, &Roles::default()).expect_err("no age");
        assert_eq!(error.to_string(), "mail.csv: expected a column \"age\", got none");
        let error = csv("flag,city,age\n,,old\n").frame_like(schema, &Roles::default());
        let message = "mail.csv, line 2, column `age`: expected a number, got \"old\"";
        assert_eq!(error.expect_err("text").to_string(), message);
        let (none, _) =
            csv("flag,city,age\n").frame_like(schema, &Roles::default()).expect("no rows");
        assert_eq!(none.n_rows(), 0);
    }

    #[test]
    fn labelled_data_are_read_as_an_earlier_dataset_was() {
        let (data, _) = csv(TEXT).dataset(&all_roles()).expect("reads");
        let like = |text: &str| {
            csv(text).dataset_like(data.frame().schema(), data.task(), &all_roles()).map(|d| d.0)
        };
        assert_eq!(like(TEXT).expect("itself").fingerprint(), data.fingerprint());
        let one = TEXT.lines().take(2).collect::<Vec<_>>().join("\n");
        assert_eq!(like(&one).expect("one class will do").task(), data.task());
        let error = like(&TEXT.replace("yes", "perhaps")).expect_err("a new class");
        let message =
            "mail.csv, line 3, column `spam`: expected one of the classes no, yes, got \"perhaps\"";
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn a_frame_is_read_without_a_target() {
        let (data, _) = csv(TEXT).dataset(&all_roles()).expect("reads");
        let (frame, _) = csv(TEXT).frame(&all_roles()).expect("reads");
        assert_eq!(&frame, data.frame());
        let bare: String = TEXT.replace("spam", "other").replace(",w,", ",v,");
        let roles = all_roles().with(|r| r.ignore = vec!["other".into(), "v".into()]);
        let (frame, _) = csv(&bare).frame(&roles).expect("no target in the file");
        assert_eq!(&frame, data.frame());
    }

    #[test]
    fn files_are_opened_by_extension() {
        assert!(Source::open("a.CSV").is_ok() && Source::open("a.tsv").is_ok());
        for name in ["a", "a.xlsx"] {
            let error = Source::open(name).expect_err("unknown").to_string();
            assert!(error.contains("expected the extension csv, txt"), "{error}");
        }
    }
}
