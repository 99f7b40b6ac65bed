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
        intake::{Cell, Field, Given, Goal, Intake, Taken},
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
        if let Some(at) = bytes.iter().position(|&b| b == 0) {
            let place = self.place(&text[..at]);
            return Err(Error::data(place, "text without NUL characters", "one"));
        }
        Ok(text)
    }

    /// Where a text goes on after `head`: line, and column if its name is known.
    fn place(&self, head: &str) -> String {
        let mut records = Records { text: head, at: 0, line: 1, delimiter: self.delimiter };
        let (mut record, mut header) = (Record::default(), Vec::new());
        while records.at < head.len() {
            if records.next(&mut record).is_err() {
                break; // Within a quoted cell: the one being read.
            }
            if header.is_empty() {
                header = (0..record.cells.len()).map(|j| record.cell(head, j).to_owned()).collect();
            }
        }
        let (source, line) = (self.source, 1 + newlines(head.as_bytes()));
        let column = match record.cells.len() {
            _ if head.is_empty() || head.ends_with('\n') => 0,
            n => n.saturating_sub(1),
        };
        match header.get(column) {
            Some(name) if record.line != 1 || head.ends_with('\n') => {
                format!("{source}, line {line}, column {}", Quoted(name))
            }
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
enum Span {
    Plain(Range<usize>),
    Unescaped(Range<usize>),
}

impl Record {
    fn cell<'a>(&'a self, text: &'a str, j: usize) -> &'a str {
        match &self.cells[j] {
            Span::Plain(range) => &text[range.clone()],
            Span::Unescaped(range) => &self.unescaped[range.clone()],
        }
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
                    record.cells.push(Span::Plain(0..0)); // So that the cell is counted.
                })?
            } else {
                let start = self.at;
                let rest = &bytes[start..];
                let len = rest.iter().position(|&b| b == self.delimiter || b == b'\n');
                self.at = len.map_or(bytes.len(), |len| start + len);
                let ends_line = bytes.get(self.at) != Some(&self.delimiter);
                let crlf = ends_line && bytes[start..self.at].ends_with(b"\r");
                Span::Plain(start..self.at - usize::from(crlf))
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
            _ if start == begin => Ok(Span::Plain(start..end)),
            _ => {
                unescaped.push_str(&self.text[start..end]);
                Ok(Span::Unescaped(first..unescaped.len()))
            }
        }
    }
}
