//! How CatBoost names levels and combinations of them: by hashes.
//!
//! A level is the low half of CityHash64, version 1.0.2, of its name in UTF-8; files hold it as a
//! signed number. A combination is a chain over its parts, with a multiplication of 64 bits that
//! wraps. Source: `hash.h` and `eval_processing.h` of CatBoost 1.2.10.

/// The multiplier of the chain.
const MAGIC: u64 = 0x4906_ba49_4954_cb65;

/// The hash of a level's name.
pub(crate) fn level(name: &str) -> u32 {
    ch_cityhash102::cityhash64(name.as_bytes()) as u32
}

/// A part of a combination, made ready to be added to its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Part(u64);

impl Part {
    /// A level; as the signed number that it is in files.
    pub(crate) fn level(hash: u32) -> Self {
        Self(MAGIC.wrapping_mul(i64::from(hash as i32) as u64))
    }

    /// The answer to a question.
    pub(crate) fn answer(yes: bool) -> Self {
        Self(if yes { MAGIC } else { 0 })
    }
}

/// The hash of a combination, a part at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Chain(u64);

impl Chain {
    /// Adds a level.
    #[must_use]
    pub(crate) fn level(self, hash: u32) -> Self {
        self.with(Part::level(hash))
    }

    /// Adds the answer to a question.
    #[must_use]
    pub(crate) fn answer(self, yes: bool) -> Self {
        self.with(Part::answer(yes))
    }

    /// Adds a part.
    #[must_use]
    pub(crate) fn with(self, part: Part) -> Self {
        Self(MAGIC.wrapping_mul(self.0.wrapping_add(part.0)))
    }

    /// The hash so far.
    pub(crate) fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of every length class of the function, with CityHash64 1.0.2 of them; made by
    /// `tests/fixtures/catboost.py`.
    #[test]
    fn levels_are_hashed_as_by_the_original_in_every_length_class() {
        let text = include_str!("../../tests/fixtures/catboost/hashes.json");
        let pairs: Vec<(String, u64)> = serde_json::from_str(text).expect("JSON");
        let lengths = pairs.iter().map(|(name, _)| name.len());
        assert!(lengths.clone().any(|n| n == 0) && lengths.max() > Some(192));
        for (name, hash) in pairs {
            assert_eq!(level(&name), hash as u32, "{} bytes: {name:?}", name.len());
        }
    }

    #[test]
    fn a_chain_depends_on_the_order_and_the_sign_of_its_parts() {
        let (a, b) = (level("a"), level("b"));
        let chain = Chain::default();
        assert_ne!(chain.level(a).level(b), chain.level(b).level(a));
        assert_ne!(chain.answer(true), chain.answer(false));
        // M · (0 + M · (−1)), all modulo 2⁶⁴.
        let expected = MAGIC.wrapping_mul(MAGIC).wrapping_neg();
        assert_eq!(chain.level(u32::MAX).value(), expected);
    }
}
