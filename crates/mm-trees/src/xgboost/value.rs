//! Stored boosters as values: JSON, or UBJSON (Draft 12) as XGBoost writes it, read and written.
//!
//! XGBoost's JSON knows `NaN` and `Infinity`, and its UBJSON arrays of one number type; lengths are
//! of type `L`. Long lists of numbers are kept as such, and not as values one by one.
//!
//! Bytes may be hostile: nesting ends, a length is believed only as far as there are bytes, a key
//! stands once in an object, and memory grows with the input.
//!
//! Sources: `json.cc` and `json_io.h` of 3.4.0; <https://ubjson.org>.

use std::{collections::BTreeMap, fmt};

use mm_core::{Error, Result};

const MAX_DEPTH: usize = 64; // Boosters nest some 8 deep.

/// A value of JSON or UBJSON.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Number(f32),
    Text(String),
    Array(Vec<Value>),
    Object(Object),
    Numbers(Numbers),
}

/// Keys in the order of their bytes, in which XGBoost writes them.
pub(super) type Object = BTreeMap<String, Value>;

/// An array of one number type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Numbers {
    I8(Vec<i8>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Value {
    /// Reads a booster in either form, told apart as the engine does.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let Some((b'{', rest)) = bytes.split_first() else {
            let expected = "an object in JSON or UBJSON (a model in the old binary format must \
                            first be saved anew by the XGBoost that wrote it)";
            return Err(damaged(expected, "something else"));
        };
        match rest.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'"') => {
                let text = std::str::from_utf8(bytes).map_err(|e| damaged("UTF-8", e))?;
                let mut reader = Json { text, at: 0 };
                let value = reader.value(0)?;
                match reader.peek() {
                    None => Ok(value),
                    Some(_) => Err(damaged("the end of the booster", reader.found())),
                }
            }
            Some(b'L') => {
                let mut reader = Ubjson { rest: bytes };
                let value = reader.value(0)?;
                match reader.rest.len() {
                    0 => Ok(value),
                    n => Err(damaged("the end of the booster", format_args!("{n} more bytes"))),
                }
            }
            _ => Err(damaged("a key", "something else")),
        }
    }

    /// The value in JSON, as XGBoost writes it.
    pub(super) fn to_json(&self) -> String {
        let mut text = String::new();
        self.write_json(&mut text);
        text
    }

    /// The value in UBJSON, as XGBoost writes it.
    pub(super) fn to_ubjson(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_ubjson(&mut bytes);
        bytes
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn integers(values: impl IntoIterator<Item = usize>) -> Self {
        Self::Array(values.into_iter().map(|value| Self::Integer(value as i64)).collect())
    }
}

/// What a booster's reader asks of a value; `place` is the key, for the error.
impl Value {
    pub(super) fn object(&self, place: &str) -> Result<&Object> {
        match self {
            Self::Object(object) => Ok(object),
            other => Err(other.unlike(place, "an object")),
        }
    }

    pub(super) fn object_mut(&mut self, place: &str) -> Result<&mut Object> {
        match self {
            Self::Object(object) => Ok(object),
            other => Err(other.unlike(place, "an object")),
        }
    }

    pub(super) fn str(&self, place: &str) -> Result<&str> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(other.unlike(place, "a text")),
        }
    }

    /// The elements of an array that is not one of numbers, unless it is empty.
    pub(super) fn array(&self, place: &str) -> Result<&[Value]> {
        match self {
            Self::Array(values) => Ok(values),
            Self::Numbers(numbers) if numbers.len() == 0 => Ok(&[]),
            other => Err(other.unlike(place, "an array")),
        }
    }

    /// An array of integers, in whichever form.
    pub(super) fn i64s(&self, place: &str) -> Result<Vec<i64>> {
        match self {
            Self::Numbers(Numbers::I8(x)) => Ok(x.iter().map(|&x| x.into()).collect()),
            Self::Numbers(Numbers::U8(x)) => Ok(x.iter().map(|&x| x.into()).collect()),
            Self::Numbers(Numbers::I16(x)) => Ok(x.iter().map(|&x| x.into()).collect()),
            Self::Numbers(Numbers::I32(x)) => Ok(x.iter().map(|&x| x.into()).collect()),
            Self::Numbers(Numbers::I64(x)) => Ok(x.clone()),
            Self::Array(values) => values
                .iter()
                .map(|value| match value {
                    Self::Integer(x) => Ok(*x),
                    Self::Bool(x) => Ok((*x).into()), // Flags, before XGBoost 1.6.
                    other => Err(other.unlike(place, "integers")),
                })
                .collect(),
            other => Err(other.unlike(place, "an array of integers")),
        }
    }

    /// An array of numbers, in whichever form.
    pub(super) fn f32s(&self, place: &str) -> Result<Vec<f32>> {
        match self {
            Self::Numbers(Numbers::F32(x)) => Ok(x.clone()),
            Self::Numbers(Numbers::F64(x)) => Ok(x.iter().map(|&x| x as f32).collect()),
            Self::Array(values) => values
                .iter()
                .map(|value| match value {
                    Self::Number(x) => Ok(*x),
                    Self::Integer(x) => Ok(*x as f32),
                    other => Err(other.unlike(place, "numbers")),
                })
                .collect(),
            other => Ok(other.i64s(place)?.into_iter().map(|x| x as f32).collect()),
        }
    }

    fn unlike(&self, place: &str, expected: &str) -> Error {
        let got = match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::Text(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
            Self::Array(_) => "an array".to_owned(),
            Self::Object(_) => "an object".to_owned(),
            Self::Numbers(_) => "an array of numbers".to_owned(),
        };
        damaged(format_args!("{expected} in `{place}`"), got)
    }
}

impl Numbers {
    fn len(&self) -> usize {
        match self {
            Self::I8(x) => x.len(),
            Self::U8(x) => x.len(),
            Self::I16(x) => x.len(),
            Self::I32(x) => x.len(),
            Self::I64(x) => x.len(),
            Self::F32(x) => x.len(),
            Self::F64(x) => x.len(),
        }
    }
}

pub(super) fn damaged(expected: impl fmt::Display, got: impl fmt::Display) -> Error {
    Error::corrupt("XGBoost booster", expected, got)
}

fn too_deep() -> Error {
    damaged(format_args!("values nested at most {MAX_DEPTH} deep"), "deeper nesting")
}

fn twice(key: &str) -> Error {
    damaged(format_args!("one `{key}`"), "two")
}

/// A reader of JSON.
struct Json<'a> {
    text: &'a str,
    at: usize,
}

impl Json<'_> {
    fn value(&mut self, depth: usize) -> Result<Value> {
        if MAX_DEPTH < depth {
            return Err(too_deep());
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::Text),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => self.number(),
        }
    }

    /// The next byte that is no blank.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn found(&self) -> String {
        let rest: String = self.text[self.at..].chars().take(20).collect();
        if rest.is_empty() { "the end".to_owned() } else { format!("{rest:?}") }
    }

    fn expect(&mut self, expected: u8) -> Result<()> {
        if self.peek() != Some(expected) {
            return Err(damaged(quoted(expected), self.found()));
        }
        self.at += 1;
        Ok(())
    }

    fn skips(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value> {
        if !self.text[self.at..].starts_with(word) {
            return Err(damaged("a value", self.found()));
        }
        self.at += word.len();
        Ok(value)
    }

    fn object(&mut self, depth: usize) -> Result<Value> {
        self.expect(b'{')?;
        let mut object = Object::new();
        if self.skips(b'}') {
            return Ok(Value::Object(object));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(damaged("a key", self.found()));
            }
            let key = self.string()?;
            self.expect(b':')?;
            let value = self.value(depth + 1)?;
            if object.contains_key(&key) {
                return Err(twice(&key));
            }
            object.insert(key, value);
            if self.skips(b'}') {
                return Ok(Value::Object(object));
            }
            self.expect(b',')?;
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value> {
        self.expect(b'[')?;
        let mut list = List::default();
        if self.skips(b']') {
            return Ok(Value::Array(Vec::new()));
        }
        loop {
            list.push(self.value(depth + 1)?);
            if self.skips(b']') {
                return Ok(list.into_value());
            }
            self.expect(b',')?;
        }
    }

    /// A text in quotes. XGBoost writes an escape of the form `\u0000` for what has no other, and
    /// reads it as it stands; here it is what JSON says.
    fn string(&mut self) -> Result<String> {
        self.at += 1; // The quote.
        let mut text = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(end) = rest.find(['"', '\\']) else {
                return Err(damaged("a closing quote", "the end"));
            };
            text.push_str(&rest[..end]);
            self.at += end + 1;
            if rest.as_bytes()[end] == b'"' {
                return Ok(text);
            }
            text.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char> {
        let Some(byte) = self.text[self.at..].chars().next() else {
            return Err(damaged("an escape", "the end"));
        };
        self.at += byte.len_utf8();
        Ok(match byte {
            '"' | '\\' | '/' => byte,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let high = self.unit()?;
                let is_pair =
                    (0xd800..0xdc00).contains(&high) && self.text[self.at..].starts_with("\\u");
                let code = if is_pair {
                    self.at += 2;
                    let low = self.unit()?;
                    0x1_0000 + ((high - 0xd800) << 10) + (low.wrapping_sub(0xdc00) & 0x3ff)
                } else {
                    high
                };
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            other => return Err(damaged("an escape of JSON", format_args!("`\\{other}`"))),
        })
    }

    fn unit(&mut self) -> Result<u32> {
        let digits = self.text.get(self.at..self.at + 4);
        let digits = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        self.at += 4;
        unit.ok_or_else(|| damaged("4 hexadecimal digits", "something else"))
    }

    fn number(&mut self) -> Result<Value> {
        let rest = &self.text[self.at..];
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let word = &rest[..rest.bytes().take_while(|byte| is_part(byte)).count()];
        let digits = word.strip_prefix('-').unwrap_or(word);
        let is_number = digits.starts_with(|c: char| c.is_ascii_digit());
        let value = match word {
            "NaN" => Some(Value::Number(f32::NAN)),
            "Infinity" => Some(Value::Number(f32::INFINITY)),
            "-Infinity" => Some(Value::Number(f32::NEG_INFINITY)),
            _ if is_number && word.contains(['.', 'e', 'E']) => {
                word.parse().ok().map(Value::Number)
            }
            _ if is_number => word.parse().ok().map(Value::Integer),
            _ => None,
        };
        let value = value.ok_or_else(|| damaged("a value", self.found()))?;
        self.at += word.len();
        Ok(value)
    }
}

/// An array being read, which is one of numbers until something else comes.
#[derive(Default)]
enum List {
    #[default]
    Empty,
    Integers(Vec<i64>),
    Numbers(Vec<f32>),
    Values(Vec<Value>),
}

impl List {
    fn push(&mut self, value: Value) {
        match (&mut *self, value) {
            (Self::Empty, Value::Integer(x)) => *self = Self::Integers(vec![x]),
            (Self::Empty, Value::Number(x)) => *self = Self::Numbers(vec![x]),
            (Self::Integers(list), Value::Integer(x)) => list.push(x),
            (Self::Integers(list), Value::Number(x)) => {
                let all = list.iter().map(|&x| x as f32).chain([x]);
                *self = Self::Numbers(all.collect());
            }
            (Self::Numbers(list), Value::Number(x)) => list.push(x),
            (Self::Numbers(list), Value::Integer(x)) => list.push(x as f32),
            (Self::Values(list), value) => list.push(value),
            (_, value) => {
                let mut list = match std::mem::take(self) {
                    Self::Integers(list) => list.into_iter().map(Value::Integer).collect(),
                    Self::Numbers(list) => list.into_iter().map(Value::Number).collect(),
                    _ => Vec::new(),
                };
                list.push(value);
                *self = Self::Values(list);
            }
        }
    }

    fn into_value(self) -> Value {
        match self {
            Self::Empty => Value::Array(Vec::new()),
            Self::Integers(list) => Value::Numbers(Numbers::I64(list)),
            Self::Numbers(list) => Value::Numbers(Numbers::F32(list)),
            Self::Values(list) => Value::Array(list),
        }
    }
}

/// A reader of UBJSON.
struct Ubjson<'a> {
    rest: &'a [u8],
}

impl Ubjson<'_> {
    fn value(&mut self, depth: usize) -> Result<Value> {
        if MAX_DEPTH < depth {
            return Err(too_deep());
        }
        Ok(match self.byte()? {
            b'{' => {
                let mut object = Object::new();
                while !self.skips(b'}') {
                    let key = self.text()?;
                    let value = self.value(depth + 1)?;
                    if object.contains_key(&key) {
                        return Err(twice(&key));
                    }
                    object.insert(key, value);
                }
                Value::Object(object)
            }
            b'[' => self.array(depth)?,
            b'S' => Value::Text(self.text()?),
            b'Z' => Value::Null,
            b'T' => Value::Bool(true),
            b'F' => Value::Bool(false),
            b'd' => Value::Number(f32::from_be_bytes(self.chunk()?)),
            b'D' => Value::Number(f64::from_be_bytes(self.chunk()?) as f32),
            b'i' | b'C' => Value::Integer(i8::from_be_bytes(self.chunk()?).into()),
            b'U' => Value::Integer(u8::from_be_bytes(self.chunk()?).into()),
            b'I' => Value::Integer(i16::from_be_bytes(self.chunk()?).into()),
            b'l' => Value::Integer(i32::from_be_bytes(self.chunk()?).into()),
            b'L' => Value::Integer(i64::from_be_bytes(self.chunk()?)),
            other => return Err(damaged("a type of UBJSON", quoted(other))),
        })
    }

    fn array(&mut self, depth: usize) -> Result<Value> {
        if self.skips(b'$') {
            let kind = self.byte()?;
            self.expect(b'#')?;
            return Ok(Value::Numbers(match kind {
                b'i' => Numbers::I8(self.numbers(i8::from_be_bytes)?),
                b'U' => Numbers::U8(self.numbers(u8::from_be_bytes)?),
                b'I' => Numbers::I16(self.numbers(i16::from_be_bytes)?),
                b'l' => Numbers::I32(self.numbers(i32::from_be_bytes)?),
                b'L' => Numbers::I64(self.numbers(i64::from_be_bytes)?),
                b'd' => Numbers::F32(self.numbers(f32::from_be_bytes)?),
                b'D' => Numbers::F64(self.numbers(f64::from_be_bytes)?),
                other => return Err(damaged("a number type of UBJSON", quoted(other))),
            }));
        }
        let mut values = Vec::new();
        if self.skips(b'#') {
            let length = self.length()?;
            if self.rest.len() < length {
                return Err(damaged(format_args!("{length} values"), "too few bytes"));
            }
            for _ in 0..length {
                values.push(self.value(depth + 1)?);
            }
        } else {
            while !self.skips(b']') {
                values.push(self.value(depth + 1)?);
            }
        }
        Ok(Value::Array(values))
    }

    fn numbers<T, const N: usize>(&mut self, read: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
        let length = self.length()?;
        let bytes = self.take(length.checked_mul(N).unwrap_or(usize::MAX))?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|&chunk| read(chunk)).collect())
    }

    fn text(&mut self) -> Result<String> {
        let length = self.length()?;
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn length(&mut self) -> Result<usize> {
        self.expect(b'L')?;
        let length = i64::from_be_bytes(self.chunk()?);
        usize::try_from(length).map_err(|_| damaged("a length", length))
    }

    fn expect(&mut self, expected: u8) -> Result<()> {
        match self.byte()? {
            byte if byte == expected => Ok(()),
            byte => Err(damaged(quoted(expected), quoted(byte))),
        }
    }

    fn skips(&mut self, byte: u8) -> bool {
        let is_there = self.rest.first() == Some(&byte);
        self.rest = &self.rest[usize::from(is_there)..];
        is_there
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.chunk::<1>()?[0])
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.rest.split_first_chunk() {
            Some((chunk, rest)) => {
                self.rest = rest;
                Ok(*chunk)
            }
            None => Err(damaged(format_args!("{N} more bytes"), self.rest.len())),
        }
    }

    fn take(&mut self, length: usize) -> Result<&[u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(damaged(format_args!("{length} more bytes"), self.rest.len()));
        };
        self.rest = rest;
        Ok(taken)
    }
}

fn quoted(byte: u8) -> String {
    format!("`{}`", byte.escape_ascii())
}

impl Value {
    fn write_json(&self, text: &mut String) {
        match self {
            Self::Null => text.push_str("null"),
            Self::Bool(value) => text.push_str(&value.to_string()),
            Self::Integer(value) => text.push_str(&value.to_string()),
            Self::Number(value) => text.push_str(&decimal(*value)),
            Self::Text(value) => write_string(value, text),
            Self::Array(values) => {
                write_list(text, '[', ']', values, |value, text| value.write_json(text));
            }
            Self::Object(object) => write_list(text, '{', '}', object, |(key, value), text| {
                write_string(key, text);
                text.push(':');
                value.write_json(text);
            }),
            Self::Numbers(numbers) => write_numbers(numbers, text),
        }
    }

    fn write_ubjson(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Null => bytes.push(b'Z'),
            Self::Bool(value) => bytes.push(if *value { b'T' } else { b'F' }),
            Self::Integer(value) => write_integer(*value, bytes),
            Self::Number(value) => {
                bytes.push(b'd');
                bytes.extend(value.to_be_bytes());
            }
            Self::Text(text) => {
                bytes.push(b'S');
                write_text(text, bytes);
            }
            Self::Array(values) => {
                bytes.extend(b"[#");
                write_length(values.len(), bytes);
                values.iter().for_each(|value| value.write_ubjson(bytes));
            }
            Self::Object(object) => {
                bytes.push(b'{');
                for (key, value) in object {
                    write_text(key, bytes);
                    value.write_ubjson(bytes);
                }
                bytes.push(b'}');
            }
            Self::Numbers(numbers) => {
                bytes.extend(b"[$");
                match numbers {
                    Numbers::I8(x) => write_array(b'i', x, i8::to_be_bytes, bytes),
                    Numbers::U8(x) => write_array(b'U', x, u8::to_be_bytes, bytes),
                    Numbers::I16(x) => write_array(b'I', x, i16::to_be_bytes, bytes),
                    Numbers::I32(x) => write_array(b'l', x, i32::to_be_bytes, bytes),
                    Numbers::I64(x) => write_array(b'L', x, i64::to_be_bytes, bytes),
                    Numbers::F32(x) => write_array(b'd', x, f32::to_be_bytes, bytes),
                    Numbers::F64(x) => write_array(b'D', x, f64::to_be_bytes, bytes),
                }
            }
        }
    }
}

fn write_numbers(numbers: &Numbers, text: &mut String) {
    fn all<T: Copy>(values: &[T], text: &mut String, show: impl Fn(T) -> String) {
        write_list(text, '[', ']', values, |&value, text| text.push_str(&show(value)));
    }
    match numbers {
        Numbers::I8(x) => all(x, text, |x| x.to_string()),
        Numbers::U8(x) => all(x, text, |x| x.to_string()),
        Numbers::I16(x) => all(x, text, |x| x.to_string()),
        Numbers::I32(x) => all(x, text, |x| x.to_string()),
        Numbers::I64(x) => all(x, text, |x| x.to_string()),
        Numbers::F32(x) => all(x, text, decimal),
        Numbers::F64(x) => all(x, text, |x| decimal(x as f32)),
    }
}

fn write_list<T>(
    text: &mut String,
    open: char,
    close: char,
    items: impl IntoIterator<Item = T>,
    write: impl Fn(T, &mut String),
) {
    text.push(open);
    for (i, item) in items.into_iter().enumerate() {
        if i != 0 {
            text.push(',');
        }
        write(item, text);
    }
    text.push(close);
}

/// A number with the fewest digits that bring it back, such as `1.25E-1`.
pub(super) fn decimal(x: f32) -> String {
    match x {
        _ if x.is_nan() => "NaN".to_owned(),
        f32::INFINITY => "Infinity".to_owned(),
        f32::NEG_INFINITY => "-Infinity".to_owned(),
        _ => format!("{x:E}"),
    }
}

fn write_string(string: &str, text: &mut String) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c if c < ' ' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
}

/// In the smallest type that holds it; XGBoost spares each type's own ends.
fn write_integer(value: i64, bytes: &mut Vec<u8>) {
    let within = |low: i64, high: i64| low < value && value < high;
    if within(i8::MIN.into(), i8::MAX.into()) {
        bytes.push(b'i');
        bytes.extend((value as i8).to_be_bytes());
    } else if within(i16::MIN.into(), i16::MAX.into()) {
        bytes.push(b'I');
        bytes.extend((value as i16).to_be_bytes());
    } else if within(i32::MIN.into(), i32::MAX.into()) {
        bytes.push(b'l');
        bytes.extend((value as i32).to_be_bytes());
    } else {
        bytes.push(b'L');
        bytes.extend(value.to_be_bytes());
    }
}

fn write_length(length: usize, bytes: &mut Vec<u8>) {
    bytes.push(b'L');
    bytes.extend((length as i64).to_be_bytes());
}

fn write_text(text: &str, bytes: &mut Vec<u8>) {
    write_length(text.len(), bytes);
    bytes.extend(text.as_bytes());
}

fn write_array<T: Copy, const N: usize>(
    kind: u8,
    values: &[T],
    to_bytes: impl Fn(T) -> [u8; N],
    bytes: &mut Vec<u8>,
) {
    bytes.extend([kind, b'#']);
    write_length(values.len(), bytes);
    bytes.extend(values.iter().flat_map(|&value| to_bytes(value)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_told_apart_and_cut_ones_refused() {
        let ubjson = b"{L\0\0\0\0\0\0\0\x01a[$l#L\0\0\0\0\0\0\0\x02\0\0\0\x01\0\0\0\x02}";
        let json =
            br#"{ "a": ["}", "\"{["], "b":[1,-2.5E0,NaN], "c" : {"\u00e9\ud83d\ude00":null} }"#;
        for bytes in [&ubjson[..], json] {
            assert!(Value::read(bytes).is_ok());
            for cut in 0..bytes.len() {
                assert!(Value::read(&bytes[..cut]).is_err(), "cut to {cut} bytes");
            }
            assert!(Value::read(&[bytes, b"Z"].concat()).is_err());
        }
        let read = Value::read(json).expect("sound");
        let expected = r#"{"a":["}","\"{["],"b":[1E0,-2.5E0,NaN],"c":{"é😀":null}}"#;
        assert_eq!(read.to_json(), expected);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for length in [3_i64, 1 << 61, i64::MAX, -1] {
            for head in [&b"{L\0\0\0\0\0\0\0\x01a[$l#L"[..], b"{L\0\0\0\0\0\0\0\x01a[#L", b"{L"] {
                let bytes = [head, &length.to_be_bytes(), b"aZ}"].concat();
                assert!(Value::read(&bytes).is_err(), "{length}");
            }
        }
    }

    #[test]
    fn endless_nesting_and_keys_given_twice_are_refused() {
        let json = format!(r#"{{"a":{}"#, "[".repeat(100_000));
        let ubjson = [&b"{L\0\0\0\0\0\0\0\x01a"[..], &[b'['].repeat(100_000)].concat();
        for bytes in [json.as_bytes(), &ubjson] {
            let err = Value::read(bytes).expect_err("too deep").to_string();
            assert!(err.contains("nested at most 64 deep"), "{err}");
        }
        let twice = [&br#"{"a":1,"a":2}"#[..], b"{L\0\0\0\0\0\0\0\x01aZL\0\0\0\0\0\0\0\x01aZ}"];
        for bytes in twice {
            let err = Value::read(bytes).expect_err("twice").to_string();
            assert!(err.contains("expected one `a`, got two"), "{err}");
        }
    }

    #[test]
    fn what_is_no_booster_is_refused_by_what_it_is() {
        let err = Value::read(b"binf\0\0").expect_err("the old format").to_string();
        assert!(err.contains("old binary format"), "{err}");
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Integer),
            any::<f32>().prop_filter("equal to itself", |x| !x.is_nan()).prop_map(Value::Number),
            any::<String>().prop_map(Value::Text),
            prop::collection::vec(any::<i32>(), 1..9).prop_map(|x| Value::Numbers(Numbers::I32(x))),
        ];
        leaf.prop_recursive(3, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::btree_map(any::<String>(), inner, 0..5).prop_map(Value::Object),
            ]
        })
    }

    proptest! {
        /// What is written in UBJSON is read as it was. In JSON a list of numbers becomes one of one
        /// type; from then on its text stays the same.
        #[test]
        fn values_survive_both_forms(inner in any_value()) {
            let value = Value::Object([("key".to_owned(), inner)].into());
            prop_assert_eq!(&Value::read(&value.to_ubjson()).expect("UBJSON"), &value);
            let json = Value::read(value.to_json().as_bytes()).expect("JSON").to_json();
            prop_assert_eq!(Value::read(json.as_bytes()).expect("JSON").to_json(), json);
        }

        /// Bytes are refused, or read; nothing else happens.
        #[test]
        fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..60), json: bool) {
            let head = if json { &b"{\""[..] } else { b"{L" };
            let _ = Value::read(&[head, &bytes[..]].concat());
        }
    }
}
