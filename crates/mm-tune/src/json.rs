//! JSON as Python writes it: with `NaN`, `Infinity` and `-Infinity`, which the standard lacks and
//! `serde_json` refuses, but Optuna's storages hold.

use std::{collections::BTreeMap, fmt};

use mm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::distribution::Choice;

/// A JSON value that may hold numbers which are not finite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without a fraction or exponent that fits.
    Int(i64),
    /// Any other number, `NaN`, `Infinity`, `-Infinity`.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    Array(Vec<Json>),
    /// Values by name.
    Object(BTreeMap<String, Json>),
}

/// So deep may lists and objects nest.
const MAX_DEPTH: usize = 64;

impl Json {
    /// Reads one value, which must be all of `text` but for white space.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] with the byte at which the text stops to be JSON. O(text) in time and
    /// memory; values nest at most 64 deep.
    pub fn parse(text: &str) -> Result<Self> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.skip_space();
        if reader.at == text.len() { Ok(value) } else { Err(reader.bad("the end")) }
    }

    /// Refuses what [`parse`](Self::parse) would not read, since it nests too deep.
    pub(crate) fn ensure_shallow(&self) -> Result<()> {
        if self.nests_within(MAX_DEPTH) {
            return Ok(());
        }
        Err(Error::data("a JSON value", format!("at most {MAX_DEPTH} levels, all told"), "more"))
    }

    fn nests_within(&self, depth: usize) -> bool {
        let inside = |value: &Self| depth.checked_sub(1).is_some_and(|d| value.nests_within(d));
        match self {
            Self::Array(values) => values.iter().all(inside),
            Self::Object(values) => values.values().all(inside),
            _ => true,
        }
    }

    /// The number, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::Int(i) => Some(i as f64),
            Self::Float(x) => Some(x),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Int(i) => Some(i),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The list, if it is one.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// The values by name, if it is an object.
    pub fn as_object(&self) -> Option<&BTreeMap<String, Self>> {
        match self {
            Self::Object(values) => Some(values),
            _ => None,
        }
    }

    /// The value of that name, if it is an object that has one.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_object()?.get(key)
    }
}

impl From<&Choice> for Json {
    fn from(choice: &Choice) -> Self {
        match choice {
            Choice::Null => Self::Null,
            Choice::Bool(b) => Self::Bool(*b),
            Choice::Int(i) => Self::Int(*i),
            Choice::Float(x) => Self::Float(*x),
            Choice::Text(text) => Self::Text(text.clone()),
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<f64> for Json {
    fn from(x: f64) -> Self {
        Self::Float(x)
    }
}

/// As Python's `json.dumps` with compact separators: ASCII, floats so that they read back equal.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(b) => b.fmt(f),
            Self::Int(i) => i.fmt(f),
            Self::Float(x) if x.is_nan() => f.write_str("NaN"),
            Self::Float(x) if *x == f64::INFINITY => f.write_str("Infinity"),
            Self::Float(x) if *x == f64::NEG_INFINITY => f.write_str("-Infinity"),
            Self::Float(x) => write!(f, "{x:?}"),
            Self::Text(text) => write_text(f, text),
            Self::Array(values) => {
                f.write_str("[")?;
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if i == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Self::Object(values) => {
                f.write_str("{")?;
                for (i, (key, value)) in values.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { "," })?;
                    write_text(f, key)?;
                    write!(f, ":{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    let is_plain = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
    let mut rest = text;
    while let Some(at) = rest.find(|c| !is_plain(c)) {
        f.write_str(&rest[..at])?;
        let mut special = rest[at..].chars();
        match special.next() {
            Some(c @ ('"' | '\\')) => write!(f, "\\{c}")?,
            Some('\n') => f.write_str("\\n")?,
            other => {
                for unit in other.unwrap_or_default().encode_utf16(&mut [0; 2]) {
                    write!(f, "\\u{unit:04x}")?;
                }
            }
        }
        rest = special.as_str();
    }
    f.write_str(rest)?;
    f.write_str("\"")
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Json> {
        self.skip_space();
        if MAX_DEPTH < depth {
            return Err(self.bad(&format!("at most {MAX_DEPTH} levels")));
        }
        match self.rest().bytes().next() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Json::Text(self.string()?)),
            _ => {
                let words = [
                    ("null", Json::Null),
                    ("true", Json::Bool(true)),
                    ("false", Json::Bool(false)),
                    ("NaN", Json::Float(f64::NAN)),
                    ("Infinity", Json::Float(f64::INFINITY)),
                    ("-Infinity", Json::Float(f64::NEG_INFINITY)),
                ];
                for (word, value) in words {
                    if self.skips(word) {
                        return Ok(value);
                    }
                }
                self.number()
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json> {
        self.at += 1;
        let mut values = BTreeMap::new();
        self.skip_space();
        while !self.skips("}") {
            if !values.is_empty() && !self.skips(",") {
                return Err(self.bad("`,` or `}`"));
            }
            self.skip_space();
            let key = self.string()?;
            self.skip_space();
            if !self.skips(":") {
                return Err(self.bad("`:`"));
            }
            values.insert(key, self.value(depth + 1)?);
            self.skip_space();
        }
        Ok(Json::Object(values))
    }

    fn array(&mut self, depth: usize) -> Result<Json> {
        self.at += 1;
        let mut values = Vec::new();
        self.skip_space();
        while !self.skips("]") {
            if !values.is_empty() && !self.skips(",") {
                return Err(self.bad("`,` or `]`"));
            }
            values.push(self.value(depth + 1)?);
            self.skip_space();
        }
        Ok(Json::Array(values))
    }

    fn string(&mut self) -> Result<String> {
        if !self.skips("\"") {
            return Err(self.bad("a text in quotes"));
        }
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let Some(plain) = rest.find(['"', '\\']) else {
                return Err(self.bad("a closing quote"));
            };
            text.push_str(&rest[..plain]);
            self.at += plain;
            if self.skips("\"") {
                return Ok(text);
            }
            self.at += 1;
            let escaped = self.rest().chars().next();
            let plain = match escaped {
                Some(c @ ('"' | '\\' | '/')) => c,
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('u') => {
                    self.at += 1;
                    text.push(self.unicode()?);
                    continue;
                }
                _ => return Err(self.bad("an escaped character")),
            };
            self.at += 1;
            text.push(plain);
        }
    }

    /// The character of `\uXXXX`, or of a pair of such; a half of a pair is replaced.
    fn unicode(&mut self) -> Result<char> {
        let first = self.unit()?;
        if !(0xd800..0xdc00).contains(&first) {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let before = self.at;
        if self.skips("\\u")
            && let second @ 0xdc00..0xe000 = self.unit()?
        {
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        self.at = before;
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn unit(&mut self) -> Result<u32> {
        let digits = self.rest().get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.bad("four hexadecimal digits"))?;
        self.at += 4;
        Ok(unit)
    }

    fn number(&mut self) -> Result<Json> {
        let rest = self.rest();
        let is_part = |b: &u8| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E');
        let number = &rest[..rest.bytes().take_while(is_part).count()];
        let value = match number.parse() {
            Ok(int) => Some(Json::Int(int)),
            Err(_) => number.parse().ok().map(Json::Float),
        };
        let value = value.ok_or_else(|| self.bad("a value"))?;
        self.at += number.len();
        Ok(value)
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        let space = self.rest().bytes().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'));
        self.at += space.count();
    }

    fn skips(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn bad(&self, expected: &str) -> Error {
        let got: String = self.rest().chars().take(20).collect();
        let got = if got.is_empty() { "its end".to_owned() } else { format!("`{got}`") };
        Error::corrupt("JSON", format!("{expected} at byte {}", self.at), got)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            any::<i64>().prop_map(Json::Int),
            prop::num::f64::ANY
                .prop_filter("equal to itself", |x| !x.is_nan())
                .prop_map(Json::Float),
            any::<String>().prop_map(Json::Text),
        ];
        leaf.prop_recursive(4, 20, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
                prop::collection::btree_map(any::<String>(), inner, 0..5).prop_map(Json::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(json in any_json()) {
            let text = json.to_string();
            prop_assert!(text.is_ascii());
            prop_assert_eq!(Json::parse(&text).expect("own text"), json);
        }

        #[test]
        fn any_text_is_a_value_or_an_error(text in ".{0,60}") {
            drop(Json::parse(&text));
            drop(Json::parse(&format!("{{\"a\": [{text}")));
        }
    }

    #[test]
    fn what_python_writes_is_read() {
        let text = r#" {"a": NaN, "b": [-Infinity, 1e-05, 3, "\u00e9\ud83d\ude00\n"], "c": null} "#;
        let json = Json::parse(text).expect("Python's JSON");
        assert!(json.get("a").and_then(Json::as_f64).is_some_and(f64::is_nan));
        let Some([Json::Float(low), Json::Float(small), Json::Int(3), Json::Text(word)]) =
            json.get("b").and_then(Json::as_array)
        else {
            panic!("{json}")
        };
        assert_eq!((*low, *small, word.as_str()), (f64::NEG_INFINITY, 1e-5, "é😀\n"));
    }

    #[test]
    fn nesting_has_an_end() {
        assert!(Json::parse(&"[".repeat(100_000)).is_err());
    }
}
