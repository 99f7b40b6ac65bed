//! What stored boosters look like from outside: JSON, or UBJSON as XGBoost writes it.
//!
//! The engine's UBJSON reader copies as many bytes as a length says, also beyond the end of the
//! input, and both readers recurse as deep as the input nests. So the frame is checked before they
//! see it: that every length fits, and that nesting ends. What the frame holds is left to them.

use super::ffi::XgBoostError;

type Result<T> = std::result::Result<T, XgBoostError>;

const MAX_DEPTH: usize = 64; // Boosters nest some 8 deep.

/// Refuses bytes that are not framed as a booster in JSON or UBJSON.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let Some((b'{', rest)) = bytes.split_first() else {
        return Err(damaged("an object in JSON or UBJSON", "something else"));
    };
    // As the engine tells them apart.
    match rest.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'"') => check_json(bytes),
        Some(b'L') => {
            let mut walk = Walk { rest: bytes };
            walk.value(0)?;
            match walk.rest.len() {
                0 => Ok(()),
                n => Err(damaged("the end of the booster", format!("{n} more bytes"))),
            }
        }
        _ => Err(damaged("a key", "something else")),
    }
}

/// The engine's JSON reader knows where its input ends; only the nesting is left to check.
fn check_json(bytes: &[u8]) -> Result<()> {
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if MAX_DEPTH < depth {
            return Err(too_deep());
        }
    }
    Ok(())
}

/// A walk through UBJSON (Draft 12), of which the engine reads a part: lengths are of type `L`.
struct Walk<'a> {
    rest: &'a [u8],
}

impl Walk<'_> {
    fn value(&mut self, depth: usize) -> Result<()> {
        if MAX_DEPTH < depth {
            return Err(too_deep());
        }
        match self.byte()? {
            b'{' => {
                while !self.skips(b'}') {
                    self.text()?;
                    self.value(depth + 1)?;
                }
                Ok(())
            }
            b'[' => self.array(depth),
            b'S' => self.text(),
            b'Z' | b'T' | b'F' => Ok(()),
            b'C' => self.skip(1),
            number => {
                let size = number_size(number)?;
                self.skip(size)
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<()> {
        if self.skips(b'$') {
            let size = number_size(self.byte()?)?;
            self.expect(b'#')?;
            let bytes = self.length()?.checked_mul(size);
            return self.skip(bytes.unwrap_or(usize::MAX));
        }
        if self.skips(b'#') {
            let length = self.length()?;
            if self.rest.len() < length {
                return Err(damaged(format!("{length} values"), "too few bytes"));
            }
            return (0..length).try_for_each(|_| self.value(depth + 1));
        }
        while !self.skips(b']') {
            self.value(depth + 1)?;
        }
        Ok(())
    }

    fn text(&mut self) -> Result<()> {
        let length = self.length()?;
        self.skip(length)
    }

    fn length(&mut self) -> Result<usize> {
        self.expect(b'L')?;
        let Some((number, rest)) = self.rest.split_first_chunk::<8>() else {
            return Err(damaged("a length", "the end"));
        };
        self.rest = rest;
        Ok(usize::try_from(i64::from_be_bytes(*number))?)
    }

    fn expect(&mut self, expected: u8) -> Result<()> {
        match self.byte()? {
            byte if byte == expected => Ok(()),
            byte => Err(damaged(quoted(expected), quoted(byte))),
        }
    }

    fn skips(&mut self, byte: u8) -> bool {
        let is_there = self.rest.first() == Some(&byte);
        if is_there {
            self.rest = &self.rest[1..];
        }
        is_there
    }

    fn byte(&mut self) -> Result<u8> {
        let (byte, rest) = self.rest.split_first().ok_or_else(|| damaged("a value", "the end"))?;
        self.rest = rest;
        Ok(*byte)
    }

    fn skip(&mut self, length: usize) -> Result<()> {
        let short = || damaged(format!("{length} more bytes"), format!("{}", self.rest.len()));
        self.rest = self.rest.get(length..).ok_or_else(short)?;
        Ok(())
    }
}

fn number_size(kind: u8) -> Result<usize> {
    match kind {
        b'i' | b'U' => Ok(1),
        b'I' => Ok(2),
        b'l' | b'd' => Ok(4),
        b'L' | b'D' => Ok(8),
        other => Err(damaged("a type of UBJSON", quoted(other))),
    }
}

fn quoted(byte: u8) -> String {
    format!("`{}`", byte.escape_ascii())
}

fn too_deep() -> XgBoostError {
    damaged(format!("values nested at most {MAX_DEPTH} deep"), "deeper nesting")
}

fn damaged(expected: impl Into<String>, got: impl Into<String>) -> XgBoostError {
    XgBoostError::Damaged { expected: expected.into(), got: got.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart_and_cut_ones_refused() {
        let ubjson = b"{L\0\0\0\0\0\0\0\x01a[$l#L\0\0\0\0\0\0\0\x02\0\0\0\x01\0\0\0\x02}";
        assert_eq!(check(ubjson), Ok(()));
        assert_eq!(check(br#"{ "a": ["}", "\"{["] }"#), Ok(()));
        for cut in 0..ubjson.len() {
            assert!(check(&ubjson[..cut]).is_err(), "cut to {cut} bytes");
        }
        let longer = [&ubjson[..], b"Z"].concat();
        assert!(check(&longer).is_err());
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for length in [3_i64, 1 << 61, i64::MAX, -1] {
            for head in [&b"{L\0\0\0\0\0\0\0\x01a[$l#L"[..], b"{L\0\0\0\0\0\0\0\x01a[#L", b"{L"] {
                let bytes = [head, &length.to_be_bytes(), b"aZ}"].concat();
                assert!(check(&bytes).is_err(), "{length}");
            }
        }
    }

    #[test]
    fn endless_nesting_is_refused() {
        let json = format!(r#"{{"a":{}"#, "[".repeat(100_000));
        assert_eq!(check(json.as_bytes()), Err(too_deep()));
        let ubjson = [&b"{L\0\0\0\0\0\0\0\x01a"[..], &[b'['].repeat(100_000)].concat();
        assert_eq!(check(&ubjson), Err(too_deep()));
    }
}
