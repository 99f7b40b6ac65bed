//! Which instructions the inner loops use, found out once when a kernel is compiled.

use super::{
    lanes::{self, LANES},
    plan::{Cut, PADDING},
};

/// A set of instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// Whatever the compiler was told to assume.
    Portable,
}

impl Level {
    /// The best that this processor has.
    pub(super) fn best() -> Self {
        Self::Portable
    }

    /// All that this processor has.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        vec![Self::Portable]
    }

    pub(super) fn rank<const R: usize>(
        self,
        keys: &[i32; R],
        borders: &[i32; PADDING],
        steps: u32,
        out: &mut [u8; R],
    ) {
        lanes::rank(keys, borders, steps, out);
    }

    pub(super) fn ordered<const R: usize>(
        self,
        nodes: &[Cut],
        columns: &[[u8; R]],
        leaf: &mut [u8; R],
    ) {
        lanes::ordered(nodes, columns, leaf);
    }

    pub(super) fn symmetric<const R: usize>(
        self,
        nodes: &[Cut],
        columns: &[[u8; R]],
        leaf: &mut [u8; R],
    ) {
        lanes::symmetric(nodes, columns, leaf);
    }

    pub(super) fn abreast(
        self,
        is_symmetric: bool,
        columns: &[[u16; LANES]],
        ranks: &[[u8; LANES]],
        froms: &[[u8; LANES]],
        row: &[u8],
    ) -> [u8; LANES] {
        lanes::abreast(is_symmetric, columns, ranks, froms, row)
    }
}
