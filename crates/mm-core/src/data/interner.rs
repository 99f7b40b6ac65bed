//! Distinct texts, numbered as they come.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
};

use crate::data::{cell::Bad, number::word, schema::Levels};

/// Distinct texts, numbered as they come: the levels of a column while it is read.
///
/// A text of up to 15 bytes, which most levels are, is looked up as two words, so that the table
/// holds it in place and one comparison tells.
#[derive(Debug, Clone, Default)]
pub(super) struct Interner {
    names: Vec<Box<str>>,
    short: HashMap<(u64, u64), u32, Seeded>,
    long: HashMap<Box<str>, u32, Seeded>,
}

/// A text of up to 15 bytes, with its length in the highest byte.
fn short_key(text: &[u8]) -> Option<(u64, u64)> {
    let length = (text.len() as u64) << 56;
    match text.split_first_chunk::<8>() {
        None => Some((word(text), length)),
        Some((head, tail)) if tail.len() < 8 => {
            Some((u64::from_le_bytes(*head), word(tail) | length))
        }
        Some(_) => None,
    }
}

impl Interner {
    /// The given texts, which are distinct, under their positions.
    pub(super) fn of(names: &[String]) -> Self {
        let mut interner = Self::default();
        for name in names {
            interner.insert(name);
        }
        interner
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn get(&self, text: &str) -> Option<u32> {
        match short_key(text.as_bytes()) {
            Some(key) => self.short.get(&key),
            None => self.long.get(text),
        }
        .copied()
    }

    pub(super) fn intern(&mut self, text: &str) -> Result<u32, Bad> {
        match self.get(text) {
            Some(code) => Ok(code),
            None if self.len() == Levels::MAX => {
                Err(Bad::new(format!("at most {} levels", Levels::MAX), "more"))
            }
            None => Ok(self.insert(text)),
        }
    }

    fn insert(&mut self, text: &str) -> u32 {
        let code = self.names.len() as u32;
        self.names.push(text.into());
        match short_key(text.as_bytes()) {
            Some(key) => self.short.insert(key, code),
            None => self.long.insert(text.into(), code),
        };
        code
    }

    /// The names in the order of their codes.
    pub(super) fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// The names in sorted order, and the place there of each code.
    pub(super) fn sorted(&self) -> (Vec<&str>, Vec<u32>) {
        let mut pairs: Vec<(&str, u32)> = self.names.iter().map(|name| &**name).zip(0..).collect();
        pairs.sort_unstable();
        let mut places = vec![0; pairs.len()];
        for (&(_, code), place) in pairs.iter().zip(0..) {
            places[code as usize] = place;
        }
        (pairs.into_iter().map(|(name, _)| name).collect(), places)
    }

    /// Takes in the names of `next`, and says what its codes are here.
    pub(super) fn append(&mut self, next: &Self) -> Result<Vec<u32>, Bad> {
        next.names.iter().map(|name| self.intern(name)).collect()
    }
}

/// Makes hashers with a random seed, so that no file can be written to collide. Nothing that is
/// returned depends on it.
#[derive(Debug, Clone)]
struct Seeded(u64);

impl Default for Seeded {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Seeded {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

/// Hashes eight bytes at a time by multiplying and folding the two halves of the product (Wang
/// 2019, "wyhash"). The standard hasher took a third of the time of reading a file.
#[derive(Debug)]
struct Folded(u64);

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        self.write_u64(word(rest));
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9E37_79B9_7F4A_7C15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Texts have one code exactly if they are equal, whatever their lengths.
        #[test]
        fn codes_are_equal_where_texts_are(texts in prop::collection::vec("[ab\u{0}é]{0,18}", 0..60)) {
            let mut interner = Interner::default();
            let mut seen: Vec<&str> = Vec::new();
            for text in &texts {
                let code = interner.intern(text).expect("few");
                let expected = seen.iter().position(|other| other == text).unwrap_or_else(|| {
                    seen.push(text);
                    seen.len() - 1
                });
                prop_assert_eq!(code as usize, expected);
                prop_assert_eq!(interner.get(text), Some(code));
            }
            let (sorted, places) = interner.sorted();
            prop_assert!(sorted.is_sorted());
            for (name, &place) in seen.iter().zip(&places) {
                prop_assert_eq!(sorted[place as usize], *name);
            }
        }
    }
}
