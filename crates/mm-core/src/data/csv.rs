//! Delimited text, after RFC 4180.
//!
//! # What is read
//!
//! UTF-8, with or without a byte order mark. The first line names the columns. Lines end in LF or
//! CRLF; empty lines are skipped. A cell that begins with a quote ends at the next single one, may
//! hold delimiters and line ends, and doubles the quotes inside; a quote further on in a cell is a
//! character like others. An empty cell is missing, quoted or not.
//!
//! # What is refused
//!
//! By line, and by column where there is one: lines with more or fewer cells than the first, text
//! that is not UTF-8, NUL characters, text after a closing quote, a quote that is never closed.
//!
//! # Cost
//!
//! The text is held in memory once and read once; again where a column of numbers turns out, late,
//! to hold text. Beside the text, a cell of a feature takes 4 bytes; a row 8 or 12 more for each
//! other role. Threads share the work where no quote occurs in the file, since there every line end
//! ends a row; the result does not depend on their number.

use std::{collections::HashMap, num::NonZeroUsize, ops::Range, thread};

use crate::{
    data::{
        cell::{Cell, Field, Given},
        intake::{Goal, Intake, Taken},
        schema::Quoted,
    },
    error::{Error, Result},
};

/// Parts of a text smaller than this are not worth a thread.
const PART: usize = 1 << 20;

/// Reads a table of text cells that are separated by `delimiter`.
pub(super) fn read(
    source: &str,
    bytes: &[u8],
    delimiter: u8,
    threads: NonZeroUsize,
    goal: Goal<'_>,
) -> Result<Taken> {
    let format = Format { source, delimiter };
    let text = format.check(bytes)?;
    let mut records = Records { text, at: 0, line: 1, delimiter };
    let mut header = Record::default();
    if !format.next(&mut records, &mut header)? {
        return Err(Error::data(source, "a header line", "an empty file"));
    }
    let names = || (0..header.cells.len()).map(|j| header.cell(text, j).to_owned());
    let fields: Vec<Field> = names().map(|name| Field { name, given: Given::Untyped }).collect();
    let parts = parts(&records, threads);
    let mut late = HashMap::new();
    loop {
        let empty = Intake::new(source, "line", &fields, goal, &late)?;
        let intake = format.take_all(&parts, &empty, fields.len())?;
        let turned = intake.late();
        if turned.is_empty() {
            return intake.finish();
        }
        late.extend(turned);
    }
}

/// The rest of a text in about equal parts that begin at a line; one part if it holds a quote.
fn parts<'a>(records: &Records<'a>, threads: NonZeroUsize) -> Vec<Records<'a>> {
    let Records { text, at, mut line, delimiter } = *records;
    let bytes = text.as_bytes();
    let mut n = threads.get().min((bytes.len() - at) / PART).max(1);
    if 1 < n && bytes[at..].contains(&b'"') {
        n = 1;
    }
    let (mut parts, mut start) = (Vec::with_capacity(n), at);
    for k in 1..=n {
        let aim = at + (bytes.len() - at) / n * k;
        let end = match bytes[aim..].iter().position(|&b| b == b'\n') {
            Some(more) if k < n => aim + more + 1,
            _ => bytes.len(),
        };
        let end = end.max(start);
        parts.push(Records { text: &text[..end], at: start, line, delimiter });
        if k < n {
            line += newlines(&bytes[start..end]);
        }
        start = end;
    }
    parts
}

fn newlines(bytes: &[u8]) -> u64 {
    // In blocks, whose counts fit a byte, so that the compiler counts many at a time.
    let count = |block: &[u8]| block.iter().map(|&b| u8::from(b == b'\n')).sum::<u8>();
    bytes.chunks(255).map(|block| u64::from(count(block))).sum()
}

/// What is said of the whole file.
#[derive(Clone, Copy)]
struct Format<'a> {
    source: &'a str,
    delimiter: u8,
}

impl Format<'_> {
    /// Checks what can be checked at once, and strips the byte order mark.
    fn check<'t>(&self, bytes: &'t [u8]) -> Result<&'t str> {
        if let [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] = bytes {
            return Err(Error::data(self.source, "UTF-8 text", "UTF-16"));
        }
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let text = str::from_utf8(bytes).map_err(|bad| {
            let at = bad.valid_up_to();
            let good = str::from_utf8(&bytes[..at]).expect("valid up to there");
            let got = format!("the byte 0x{:02X}", bytes[at]);
            Error::data(self.place(good), "UTF-8 text", got)
        })?;
        if bytes.contains(&0) {
            let place = self.place(text.split('\0').next().unwrap_or(text));
            return Err(Error::data(place, "text without NUL characters", "one"));
        }
        Ok(text)
    }

    /// Where a text goes on after `head`: line, and column if its name is known.
    fn place(&self, head: &str) -> String {
        let mut records = Records { text: head, at: 0, line: 1, delimiter: self.delimiter };
        let (mut record, mut header) = (Record::default(), Vec::new());
        let (mut begun, mut within_quotes) = (0, false);
        loop {
            match records.next(&mut record) {
                Ok(false) => break,
                Ok(true) => begun += 1,
                Err(_) => {
                    (begun, within_quotes) = (begun + 1, true);
                    break;
                }
            }
            if begun == 1 {
                header = (0..record.cells.len()).map(|j| record.cell(head, j).to_owned()).collect();
            }
        }
        let (source, line) = (self.source, 1 + newlines(head.as_bytes()));
        let is_new = !within_quotes && (head.is_empty() || head.ends_with('\n'));
        let column = if is_new { 0 } else { record.cells.len() - 1 };
        let in_header = begun == usize::from(!is_new);
        match header.get(column) {
            Some(name) if !in_header => format!("{source}, line {line}, column `{name}`"),
            _ => format!("{source}, line {line}, column {}", column + 1),
        }
    }

    /// The next record, with errors that name the line.
    fn next(&self, records: &mut Records<'_>, record: &mut Record) -> Result<bool> {
        records.next(record).map_err(|Broken { line, expected, got }| {
            Error::data(format_args!("{}, line {line}", self.source), expected, got)
        })
    }

    /// All rows of all parts, in order.
    fn take_all(&self, parts: &[Records<'_>], empty: &Intake, width: usize) -> Result<Intake> {
        let [first, rest @ ..] = parts else { unreachable!("a text has at least one part") };
        thread::scope(|scope| {
            let workers: Vec<_> = rest
                .iter()
                .map(|&part| scope.spawn(move || self.take(part, empty.clone(), width)))
                .collect();
            let mut all = self.take(*first, empty.clone(), width);
            for worker in workers {
                let next = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                all = all.and_then(|mut all| {
                    all.append(next?)?;
                    Ok(all)
                });
            }
            all
        })
    }

    fn take(&self, mut records: Records<'_>, mut intake: Intake, width: usize) -> Result<Intake> {
        let text = records.text;
        intake.reserve(1 + newlines(&text.as_bytes()[records.at..]) as usize);
        let mut record = Record::default();
        while self.next(&mut records, &mut record)? {
            if record.cells.len() != width {
                let place = format!("{}, line {}", self.source, record.line);
                let expected = format!("{width} cells, as in the header");
                return Err(Error::data(place, expected, record.cells.len()));
            }
            intake.push(record.line, |j| Cell::Text(record.cell(text, j)))?;
        }
        Ok(intake)
    }
}

/// Where the cell that begins at `at` ends: at the next delimiter or line feed, or with the text.
///
/// Looks at eight bytes at a time, since most cells are shorter: a byte of `x` is zero where the
/// text has the character sought, and subtracting 1 from it borrows into its highest bit (Mycroft
/// 1987). The lowest bit found is exact.
fn cell_end(bytes: &[u8], mut at: usize, delimiter: u8) -> usize {
    let zeros = |x: u64| x.wrapping_sub(0x0101_0101_0101_0101) & !x & 0x8080_8080_8080_8080;
    let (delimiters, feeds) = (u64::from_le_bytes([delimiter; 8]), u64::from_le_bytes([b'\n'; 8]));
    while let Some(word) = bytes[at..].first_chunk() {
        let word = u64::from_le_bytes(*word);
        let hits = zeros(word ^ delimiters) | zeros(word ^ feeds);
        if hits != 0 {
            return at + hits.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes[at..].iter().position(|&b| b == delimiter || b == b'\n');
    rest.map_or(bytes.len(), |len| at + len)
}

/// A text that breaks the rules, and where.
struct Broken {
    line: u64,
    expected: &'static str,
    got: String,
}

/// Splits a text into records.
#[derive(Debug, Clone, Copy)]
struct Records<'a> {
    text: &'a str,
    at: usize,
    line: u64,
    delimiter: u8, // ASCII.
}

/// The cells of one record, as ranges; reused from record to record.
#[derive(Debug, Default)]
struct Record {
    cells: Vec<Span>,
    unescaped: String, // What cells with doubled quotes say.
    line: u64,
}

#[derive(Debug)]
struct Span {
    range: Range<usize>,
    is_unescaped: bool, // A range of `Record::unescaped`, not of the text.
}

impl Span {
    fn plain(range: Range<usize>) -> Self {
        Self { range, is_unescaped: false }
    }
}

impl Record {
    fn cell<'a>(&'a self, text: &'a str, j: usize) -> &'a str {
        let Span { range, is_unescaped } = &self.cells[j];
        &(if *is_unescaped { &self.unescaped } else { text })[range.clone()]
    }
}

impl Records<'_> {
    /// Reads the next record; false at the end.
    fn next(&mut self, record: &mut Record) -> Result<bool, Broken> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes[self.at..] {
                [] => return Ok(false),
                [b'\n', ..] => self.at += 1,
                [b'\r', b'\n', ..] => self.at += 2,
                _ => break,
            }
            self.line += 1;
        }
        record.cells.clear();
        record.unescaped.clear();
        record.line = self.line;
        loop {
            let span = if bytes.get(self.at) == Some(&b'"') {
                self.quoted(&mut record.unescaped).inspect_err(|_| {
                    record.cells.push(Span::plain(0..0)); // So that the cell is counted.
                })?
            } else {
                let start = self.at;
                self.at = cell_end(bytes, start, self.delimiter);
                let ends_line = bytes.get(self.at) != Some(&self.delimiter);
                let crlf = ends_line && bytes[start..self.at].ends_with(b"\r");
                Span::plain(start..self.at - usize::from(crlf))
            };
            record.cells.push(span);
            match bytes.get(self.at) {
                None => return Ok(true),
                Some(b'\n') => {
                    self.at += 1;
                    self.line += 1;
                    return Ok(true);
                }
                Some(_) => self.at += 1, // The delimiter.
            }
        }
    }

    /// Reads a cell that begins with a quote, up to the delimiter or line end after it.
    fn quoted(&mut self, unescaped: &mut String) -> Result<Span, Broken> {
        let bytes = self.text.as_bytes();
        let (opened, first) = (self.line, unescaped.len());
        let mut start = self.at + 1;
        let end = loop {
            let Some(len) = bytes[start..].iter().position(|&b| b == b'"') else {
                let (expected, got) = ("a closing quote", "the end of the file".to_owned());
                return Err(Broken { line: opened, expected, got });
            };
            self.line += newlines(&bytes[start..start + len]);
            let end = start + len;
            if bytes.get(end + 1) != Some(&b'"') {
                break end;
            }
            unescaped.push_str(&self.text[start..=end]);
            start = end + 2;
        };
        let begin = std::mem::replace(&mut self.at, end + 1) + 1;
        if let [b'\r', b'\n', ..] | [b'\r'] = bytes[self.at..] {
            self.at += 1;
        }
        match bytes.get(self.at) {
            Some(&b) if b != b'\n' && b != self.delimiter => {
                let rest = &self.text[self.at..];
                let got = Quoted(rest.lines().next().unwrap_or(rest)).to_string();
                let expected = "a delimiter or a line end after a closing quote";
                Err(Broken { line: self.line, expected, got })
            }
            _ if start == begin => Ok(Span::plain(start..end)),
            _ => {
                unescaped.push_str(&self.text[start..end]);
                Ok(Span { range: first..unescaped.len(), is_unescaped: true })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use proptest::prelude::*;

    use crate::{Dataset, Error, Frame, ReadReport, Roles, Source};

    fn read(text: impl Into<Vec<u8>>, roles: &Roles) -> crate::Result<(Dataset, ReadReport)> {
        Source::csv_bytes("t.csv", text).dataset(roles)
    }

    fn target_y() -> Roles {
        Roles::with_target("y")
    }

    #[track_caller]
    fn refused(text: impl Into<Vec<u8>>, message: &str) {
        let error = read(text, &target_y()).expect_err("refused");
        assert_eq!(error.chain(), message);
    }

    fn cells(frame: &Frame) -> Vec<Vec<f32>> {
        frame.rows().map(<[f32]>::to_vec).collect()
    }

    #[test]
    fn broken_files_are_refused_by_line_and_column() {
        refused("", "t.csv: expected a header line, got an empty file");
        refused("\n\r\n\n", "t.csv: expected a header line, got an empty file");
        refused("x,y\n", "t.csv: expected at least one row of data, got none");
        refused("x,y\n1,2\n3\n", "t.csv, line 3: expected 2 cells, as in the header, got 1");
        refused("x,y\n\n1,2,3\n", "t.csv, line 3: expected 2 cells, as in the header, got 3");
        refused(
            "x,y,x\n1,2,3\n",
            "t.csv, column names: expected distinct names, got \"x\" at 1 and 3",
        );
        refused(
            "x,y\n1,\"2\n3,4\n",
            "t.csv, line 2: expected a closing quote, got the end of the file",
        );
        refused(
            "x,y\n1,\"2\"3\n",
            "t.csv, line 2: expected a delimiter or a line end after a closing quote, got \"3\"",
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_by_line_and_column() {
        let utf8 =
            |place: &str, byte| format!("t.csv, {place}: expected UTF-8 text, got the byte {byte}");
        refused(b"x,y\n1,2\nab\xE9,3\n", &utf8("line 3, column `x`", "0xE9"));
        refused(b"x,y\n1,2\n1,\xFF\n", &utf8("line 3, column `y`", "0xFF"));
        refused(b"x,y\n\xFF,2\n", &utf8("line 2, column `x`", "0xFF"));
        refused(b"x,y\n\"a\nb\",\"c\n\xFF\",2\n", &utf8("line 4, column `y`", "0xFF"));
        refused(b"x,\xFF\n1,2\n", &utf8("line 1, column 2", "0xFF"));
        refused(b"\xFF\n1,2\n", &utf8("line 1, column 1", "0xFF"));
        refused(b"\xFF\xFEx\0,\0y\0", "t.csv: expected UTF-8 text, got UTF-16");
        let nul = "t.csv, line 2, column `y`: expected text without NUL characters, got one";
        refused("x,y\n1,\0\n", nul);
    }

    #[test]
    fn bad_cells_are_refused_by_line_and_column() {
        let numeric = target_y().with(|r| r.numeric = vec!["x".into()]);
        let error = read("x,y\n1,2\n\nabc,3\n", &numeric).expect_err("text");
        assert_eq!(error.to_string(), "t.csv, line 4, column `x`: expected a number, got \"abc\"");
        let finite = "expected a finite number, got";
        refused("x,y\n1,2\n-inf,3\n", &format!("t.csv, line 3, column `x`: {finite} \"-inf\""));
        refused("x,y\n1,2\n1e999,3\n", &format!("t.csv, line 3, column `x`: {finite} \"1e999\""));
        refused("x,y\n1,2\n3,inf\n", &format!("t.csv, line 3, column `y`: {finite} \"inf\""));
        let range = "expected a number within the range of `f32`, got 1e39";
        refused("x,y\n1e39,2\n", &format!("t.csv, line 2, column `x`: {range}"));
        refused(
            "x,y\n1,2\n3,\n",
            "t.csv, line 3, column `y`: expected a target, got a missing cell",
        );
        refused(
            "x,y\n1,a\n3,a\n",
            "in t.csv, column `y`: expected at least 2 classes with rows of positive weight, got only `a`",
        );
    }

    #[test]
    fn line_ends_marks_and_quotes_do_not_change_what_is_read() {
        let plain = read("x,y\n1.5,2\n-3,4\n", &target_y()).expect("reads").0;
        for text in [
            "\u{FEFF}x,y\n1.5,2\n-3,4\n",
            "x,y\r\n1.5,2\r\n-3,4\r\n",
            "x,y\n1.5,2\n-3,4",
            "x,y\r\n1.5,2\r\n-3,4",
            "\n\"x\",\"y\"\n\n\"1.5\",\"2\"\r\n\r\n-3,\"4\"",
        ] {
            assert_eq!(read(text, &target_y()).expect("reads").0, plain, "{text:?}");
        }
        let tabs = Source::csv_bytes("t.tsv", "x\ty\n1.5\t2\n-3\t4\n").with_delimiter('\t');
        assert_eq!(tabs.dataset(&target_y()).expect("reads").0, plain);
    }

    #[test]
    fn a_delimiter_that_cannot_be_one_is_refused() {
        for delimiter in ['"', '\n', '\r', 'é'] {
            let source = Source::csv_bytes("t.csv", "x,y\n1,2\n").with_delimiter(delimiter);
            let error = source.dataset(&target_y()).expect_err("refused").to_string();
            assert!(error.starts_with("t.csv, delimiter: expected an ASCII"), "{error}");
        }
    }

    #[test]
    fn quoted_cells_hold_delimiters_line_ends_and_quotes() {
        let text =
            "c,y\n\"a,b\",1\n\"two\nlines\",2\n\"say \"\"hi\"\"\",3\n5\" disc,4\n\"\",5\nx,\"6\n";
        let error = read(text, &target_y()).expect_err("the last quote is open");
        let place = "t.csv, line 8: expected a closing quote, got the end of the file";
        assert_eq!(error.to_string(), place, "lines within quotes are counted");
        let (data, _) = read(text.replace("x,\"6", "x,6"), &target_y()).expect("reads");
        let column = &data.frame().schema().columns()[0];
        let levels = ["5\" disc", "a,b", "say \"hi\"", "two\nlines", "x"];
        assert_eq!(column.levels().expect("text").names(), levels);
        assert!(data.frame().row(4)[0].is_nan(), "an empty quoted cell is missing");
    }

    #[test]
    fn a_huge_cell_is_read_and_shortened_in_messages() {
        let huge = "z".repeat(5_000_000);
        let text = format!("x,y\n{huge},1\nb,2\n");
        let (data, _) = read(text.clone(), &target_y()).expect("reads");
        assert_eq!(cells(data.frame()), [[1.0], [0.0]]);
        let numeric = target_y().with(|r| r.numeric = vec!["x".into()]);
        let error = read(text, &numeric).expect_err("no number").to_string();
        assert!(error.len() < 200, "{} bytes", error.len());
    }

    #[test]
    fn a_column_that_turns_to_text_late_is_read_as_text_throughout() {
        let (data, report) = read("x,y\n10,1\n,2\n9,3\nN1,4\n10,5\n", &target_y()).expect("reads");
        let column = &data.frame().schema().columns()[0];
        assert_eq!(column.levels().expect("text").names(), ["10", "9", "N1"]);
        let codes: Vec<f32> = data.frame().column(0).collect();
        assert_eq!([codes[0], codes[2], codes[3], codes[4]], [0.0, 1.0, 2.0, 0.0]);
        assert!(codes[1].is_nan());
        assert_eq!(report.columns[0].why, "\"N1\" on line 5 is no number");
        let warnings: Vec<_> = report.warnings().collect();
        let text = "2 of 3 levels are numbers; if \"N1\" means missing, list it in `missing`";
        assert_eq!(warnings, [("x", text)]);
        let missing = target_y().with(|r| r.missing = vec!["N1".into()]);
        let (data, report) = read("x,y\n10,1\nN1,2\n", &missing).expect("reads");
        assert!(data.frame().schema().columns()[0].levels().is_none());
        assert_eq!((report.columns[0].missing, report.warnings().count()), (1, 0));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = Source::csv("no/such/file.csv").dataset(&target_y()).expect_err("absent");
        assert!(matches!(&error, Error::Io { path, .. } if path.ends_with("file.csv")));
    }

    /// Text big enough for several parts, with a column that turns to text in the last of them,
    /// a target that is 0 or 1, and levels that first occur in different parts.
    fn big() -> String {
        let row = |i: usize| {
            let late = if i == 199_990 { "x".to_owned() } else { (i % 50).to_string() };
            let id = if i == 0 { "a1".to_owned() } else { (i % 9).to_string() };
            format!("{}.25,{late},L{},{id},{}\n", i * 7 % 1000, i / 100 % 500, i % 2)
        };
        let rows: String = (0..200_000).map(row).collect();
        format!("a,late,c,id,y\n{rows}")
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let (text, roles) = (big(), target_y().with(|r| r.group = Some("id".into())));
        let with = |threads| {
            let threads = NonZeroUsize::new(threads).expect("positive");
            Source::csv_bytes("t.csv", text.clone()).with_threads(threads).dataset(&roles)
        };
        let (data, report) = with(1).expect("reads");
        assert_eq!(data.task().n_classes(), 2);
        assert_eq!(report.columns[1].why, "\"x\" on line 199992 is no number");
        for threads in [2, 3] {
            let (other, other_report) = with(threads).expect("reads");
            assert_eq!(other.fingerprint(), data.fingerprint(), "{threads} threads");
            assert_eq!(other_report, report, "{threads} threads");
        }
    }

    #[test]
    fn the_first_error_is_reported_whatever_the_number_of_threads() {
        let mut text = big();
        text.push_str("1,2\n");
        for threads in [1, 2, 3] {
            let threads = NonZeroUsize::new(threads).expect("positive");
            let source = Source::csv_bytes("t.csv", text.clone()).with_threads(threads);
            let error = source.dataset(&target_y()).expect_err("ragged").to_string();
            let place = "t.csv, line 200002: expected 5 cells, as in the header, got 2";
            assert_eq!(error, place);
        }
    }

    proptest! {
        /// Whatever is written as RFC 4180 says is read as it was.
        #[test]
        fn records_are_split_as_the_csv_crate_splits_them(
            rows in prop::collection::vec(prop::collection::vec("[a,\"\n é0]{0,6}", 2), 1..12),
            crlf in any::<bool>(),
        ) {
            let end = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
            let mut writer = csv::WriterBuilder::new().terminator(end).from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).expect("writes");
            }
            let bytes = writer.into_inner().expect("writes");
            let text = str::from_utf8(&bytes).expect("UTF-8");
            let mut records = super::Records { text, at: 0, line: 1, delimiter: b',' };
            let mut record = super::Record::default();
            let mut got = Vec::new();
            while records.next(&mut record).map_err(|b| TestCaseError::fail(b.expected))? {
                let cells = (0..record.cells.len()).map(|j| record.cell(text, j).to_owned());
                got.push(cells.collect::<Vec<_>>());
            }
            prop_assert_eq!(got, rows);
        }

        /// No text makes the reader panic.
        #[test]
        fn any_bytes_are_a_table_or_an_error(
            bytes in prop::collection::vec(prop::sample::select(b"xy,\"\n\r1. \xC3\xA9\xFF\0-".to_vec()), 0..40),
            header in any::<bool>(),
        ) {
            let bytes = if header { [b"x,y\n", &bytes[..]].concat() } else { bytes };
            let _ = read(bytes, &target_y());
        }
    }
}
