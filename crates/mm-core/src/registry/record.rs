//! Small records as JSON files that carry their own checksum.
//!
//! # Layout, format 1
//!
//! One JSON object, so that any tool reads it. Its first bytes are fixed:
//!
//! | offset | bytes | holds |
//! | ---: | ---: | --- |
//! | 0 | 11 | `{"sha256":"` |
//! | 11 | 64 | SHA-256, in lower-case hexadecimal, of all bytes from offset 77 to the end |
//! | 75 | 2 | `",` |
//! | 77 | … | `"format":`, the number of the format, `,"body":`, the record, `}`, a line feed |

use std::path::Path;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{
    data::hex,
    error::{Error, Result},
};

/// The newest format that this build reads, and the one that it writes.
pub(super) const FORMAT: u32 = 1;

const OPEN: &[u8] = b"{\"sha256\":\"";
const CLOSE: &[u8] = b"\",";
const DIGEST: usize = 64;

#[derive(Serialize, Deserialize)]
struct Sealed<T> {
    format: u32,
    body: T,
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// The bytes of the file that holds `body`. They are read back before they are returned, so that
/// nothing is stored that could not be opened again, such as JSON nested too deeply.
pub(super) fn seal<T: Serialize + DeserializeOwned>(body: &T) -> Result<Vec<u8>> {
    let bytes = write(body)?;
    let lossless = unseal::<T>(Path::new(""), &bytes).and_then(|read| write(&read));
    match lossless {
        Ok(again) if again == bytes => Ok(bytes),
        Ok(_) => Err(Error::data("record", "JSON that reads back the same", "another reading")),
        Err(e) => Err(Error::data("record", "JSON that can be read back", e)),
    }
}

fn write<T: Serialize>(body: &T) -> Result<Vec<u8>> {
    let text = serde_json::to_string_pretty(&Sealed { format: FORMAT, body })
        .map_err(|e| Error::data("record", "a value with a JSON form", e))?;
    let rest = format!("{}\n", text.trim_start_matches('{'));
    let digest = hex(&Sha256::digest(&rest));
    Ok([OPEN, digest.as_bytes(), CLOSE, rest.as_bytes()].concat())
}

/// Reads the bytes of the file at `path`.
pub(super) fn unseal<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    let damaged = |expected: &str, got: &str| Error::corrupt(path.display(), expected, got);
    let parts = bytes.strip_prefix(OPEN).and_then(|rest| rest.split_at_checked(DIGEST));
    let Some((digest, Some(rest))) = parts.map(|(d, rest)| (d, rest.strip_prefix(CLOSE))) else {
        return Err(damaged("a record that starts with its checksum", "another file"));
    };
    if hex(&Sha256::digest(rest)).as_bytes() != digest {
        return Err(damaged("the checksum it was written with", "another"));
    }
    let text = [b"{", rest].concat();
    match serde_json::from_slice::<Sealed<T>>(&text) {
        Ok(Sealed { format: FORMAT, body }) => Ok(body),
        read => match (serde_json::from_slice::<Head>(&text), read) {
            (Ok(Head { format }), _) if FORMAT < format => {
                let what = path.display().to_string();
                Err(Error::TooNew { what, got: format, newest: FORMAT })
            }
            (_, Err(e)) => Err(damaged("a record of this kind", &e.to_string())),
            (_, Ok(_)) => Err(damaged("a format from 1", "0")),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn open(bytes: &[u8]) -> Result<Value> {
        unseal(Path::new("r.json"), bytes)
    }

    #[test]
    fn a_record_is_one_json_object_that_reads_back() {
        let body = json!({"a": [1, 0.1, null], "b": "π\n"});
        let bytes = seal(&body).expect("small");
        assert_eq!(open(&bytes).expect("intact"), body);
        let plain: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(plain["body"], body);
        assert_eq!(plain["format"], 1);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_damage() {
        let bytes = seal(&json!({"metric": 0.5})).expect("small");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert!(matches!(open(&bad), Err(Error::Corrupt { .. })), "byte {at}, bit {bit}");
            }
            assert!(matches!(open(&bytes[..at]), Err(Error::Corrupt { .. })), "cut at {at}");
        }
        let mut longer = bytes;
        longer.push(b' ');
        let err = open(&longer).expect_err("one byte more").to_string();
        assert_eq!(
            err,
            "r.json is damaged: expected the checksum it was written with, got another"
        );
    }

    #[test]
    fn a_newer_format_is_refused_by_number_whatever_it_holds() {
        let rest = "\"format\":9,\"elsewhere\":true}\n";
        let digest = hex(&Sha256::digest(rest));
        let bytes = [OPEN, digest.as_bytes(), CLOSE, rest.as_bytes()].concat();
        let err = open(&bytes).expect_err("newer").to_string();
        assert_eq!(err, "`r.json` has version 9; this build reads up to 1");
    }

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        let deep = (0..200).fold(Value::Null, |inner, _| json!([inner]));
        let err = seal(&deep).expect_err("nested too deeply");
        assert!(matches!(err, Error::Data { .. }), "{err}");
    }
}
