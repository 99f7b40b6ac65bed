//! Feature values as integers, so that every test becomes one comparison.
//!
//! # Idea
//!
//! `f32` values in ascending order have ascending keys: their bits, read as an integer, with the
//! order of the negative ones turned round. A threshold becomes the key of the largest `f32` that
//! goes left, hence `x <= threshold` in `f64` and `x < threshold` in `f32` are both
//! `key(x) <= key(border)`, exactly. The keys `i32::MIN` and `i32::MAX` belong to no number: they
//! stand for a missing value that goes left, or right, of every border. So the rule for missing
//! values is part of how a key is made, and a feature has one key for each rule that its splits use.

use super::super::tree::{CategorySet, Missing, Test, ZERO};

/// Below the key of every number, and of every category's code.
pub(super) const LOWEST: i32 = i32::MIN;
/// Above the key of every number, and of every category's code.
const HIGHEST: i32 = i32::MAX;

/// How a value becomes a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Rule {
    /// NaN is below everything: it goes left.
    NanLeft,
    /// NaN is above everything: it goes right.
    NanRight,
    /// NaN is 0.
    NanZero,
    /// NaN and what is nearly 0 is below everything.
    ZeroLeft,
    /// NaN and what is nearly 0 is above everything.
    ZeroRight,
    /// The code of a category: −1 if negative, `i32::MIN` if NaN.
    Code,
}

impl Rule {
    /// The key of `x`.
    #[inline]
    pub(super) fn key(self, x: f32) -> i32 {
        let zeroed = x.is_nan() || f64::from(x).abs() <= ZERO;
        match self {
            Self::NanLeft | Self::Code if x.is_nan() => LOWEST,
            Self::NanRight if x.is_nan() => HIGHEST,
            Self::NanZero if x.is_nan() => 0,
            Self::ZeroLeft if zeroed => LOWEST,
            Self::ZeroRight if zeroed => HIGHEST,
            Self::Code if 0.0 <= x => x as i32, // Saturates; `Members::new` admits no such code.
            Self::Code => -1,
            _ => order(x),
        }
    }
}

/// The key of a number.
#[inline]
fn order(x: f32) -> i32 {
    let bits = (x + 0.0).to_bits().cast_signed(); // −0.0 + 0.0 is 0.0: the two zeros are equal.
    bits ^ ((bits >> 31) & i32::MAX)
}

/// What a split asks of a key.
#[derive(Debug)]
pub(super) enum Question<'a> {
    /// Right if the key exceeds the border.
    Above { rule: Rule, border: i32 },
    /// By membership of the code.
    Among(Members<'a>),
}

/// By membership of a code: right or left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Members<'a> {
    /// As [`CategorySet::words`].
    pub(super) words: &'a [u32],
    /// Whether members go right.
    pub(super) has_right: bool,
    /// Whether a missing value goes right.
    pub(super) nan_right: bool,
}

impl Members<'_> {
    /// Fewer words than this, or the largest key would be a member.
    pub(super) const MAX_WORDS: usize = 1 << 26;

    /// One more than the highest code that may be a member.
    pub(super) fn n_codes(&self) -> usize {
        32 * self.words.len()
    }

    /// Whether a code's key goes right.
    #[inline]
    pub(super) fn goes_right(&self, key: i32) -> bool {
        if key == LOWEST {
            return self.nan_right;
        }
        let word = self.words.get((key >> 5) as usize).copied().unwrap_or(0);
        let is_member = 0 <= key && word >> (key & 31) & 1 == 1;
        is_member == self.has_right
    }
}

impl<'a> Question<'a> {
    /// The same question of the keys; none for the tests that look at more than one value.
    pub(super) fn of(test: &'a Test) -> Option<Self> {
        Some(match test {
            Test::AtMost { threshold, missing } => {
                let rule = match missing {
                    Missing::Nan { left: true } => Rule::NanLeft,
                    Missing::Nan { left: false } => Rule::NanRight,
                    Missing::AsZero => Rule::NanZero,
                    Missing::Zero { left: true } => Rule::ZeroLeft,
                    Missing::Zero { left: false } => Rule::ZeroRight,
                };
                Self::Above { rule, border: border_at_most(*threshold) }
            }
            Test::Below { threshold, missing_left } => {
                let rule = if *missing_left { Rule::NanLeft } else { Rule::NanRight };
                // No number is below NaN; below another number are the keys up to the one before.
                let border = if threshold.is_nan() { LOWEST } else { order(*threshold) - 1 };
                Self::Above { rule, border }
            }
            Test::Among { set, members_left, missing_left } => Self::Among(Members {
                words: CategorySet::words(set),
                has_right: !members_left,
                nan_right: !missing_left,
            }),
            // A value of a CTR is a number.
            Test::Ctr { border } => {
                let border = border_at_most(f64::from(*border));
                Self::Above { rule: Rule::NanLeft, border }
            }
            Test::Hash(_) => return None,
        })
    }
}

/// The key of the largest `f32` that is at most `threshold`; none is at most NaN.
fn border_at_most(threshold: f64) -> i32 {
    if threshold.is_nan() {
        return LOWEST;
    }
    let near = threshold as f32;
    order(if f64::from(near) <= threshold { near } else { near.next_down() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits() -> impl Strategy<Value = f32> {
        let odd = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, 1e-45, 1e-35];
        prop_oneof![any::<u32>().prop_map(f32::from_bits), prop::sample::select(odd.to_vec())]
    }

    fn near(x: f32) -> impl Strategy<Value = f64> {
        let x = f64::from(x);
        prop::sample::select(vec![x, x.next_down(), x.next_up(), f64::NAN, 1e300, -1e-60])
    }

    proptest! {
        /// A question to a key has the answer of the test, to the bit.
        #[test]
        fn a_key_answers_as_the_value_does(
            (x, threshold) in (bits(), bits()).prop_flat_map(|(x, t)| (Just(x), prop_oneof![near(x), near(t)])),
            left in any::<bool>(),
        ) {
            let missings = [Missing::Nan { left }, Missing::AsZero, Missing::Zero { left }];
            let mut tests = missings.map(|missing| Test::AtMost { threshold, missing }).to_vec();
            tests.push(Test::Below { threshold: threshold as f32, missing_left: left });
            for test in tests {
                let Some(Question::Above { rule, border }) = Question::of(&test) else {
                    panic!("a numeric test")
                };
                prop_assert_eq!(Some(rule.key(x) <= border), test.goes_left(x), "{:?} of {}", test, x);
            }
        }

        /// Members are found, and strangers not, whatever the value.
        #[test]
        fn a_code_answers_as_the_value_does(
            x in prop_oneof![bits(), (-2_i32..70).prop_map(|x| x as f32), Just(0.5)],
            codes in prop::collection::vec(0_u32..64, 0..9),
            (members_left, missing_left) in any::<(bool, bool)>(),
        ) {
            let set = codes.into_iter().collect();
            let test = Test::Among { set, members_left, missing_left };
            let Some(Question::Among(members)) = Question::of(&test) else { panic!("a set") };
            prop_assert_eq!(Some(!members.goes_right(Rule::Code.key(x))), test.goes_left(x));
        }
    }
}
