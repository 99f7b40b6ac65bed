//! A stretch of a time-ordered dataset: so many rows, such a fraction of them, or so much time.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::ParamError;

/// A stretch of a time-ordered dataset.
///
/// | in a file | is |
/// | --- | --- |
/// | an integer: `100` | that many rows |
/// | a decimal: `0.05` | that fraction of all rows, in [0, 1), rounded to the nearest whole row |
/// | a string: `"5d"`, `"1h30m"` | that much time; the data then need timestamps |
///
/// Time is written as whole numbers with the units `w` (7 d), `d` (24 h), `h`, `m` (minutes), `s`,
/// `ms`, `us`, `ns`, larger before smaller, without spaces. It is exact to the nanosecond and at
/// most about 292 years.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Span {
    /// A number of rows.
    Rows(usize),
    /// A fraction of all rows, in [0, 1).
    Fraction(f64),
    /// A length of time.
    Time(Duration),
}

/// A [`Span`] in a dataset of known size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Rows(usize),
    Nanos(i64),
}

/// Names and lengths in nanoseconds, longest first.
const UNITS: [(&str, u64); 8] = [
    ("w", 7 * 24 * 3600 * 1_000_000_000),
    ("d", 24 * 3600 * 1_000_000_000),
    ("h", 3600 * 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl Span {
    /// No stretch at all.
    pub const ZERO: Self = Self::Rows(0);

    /// Checks that a fraction lies in [0, 1) and that a time fits into 64 bits of nanoseconds.
    pub(super) fn check(self, name: &str) -> Result<(), ParamError> {
        let (ok, expected) = match self {
            Self::Rows(_) => (true, ""),
            Self::Fraction(f) => ((0.0..1.0).contains(&f), "a fraction ≥ 0 and < 1"),
            Self::Time(t) => (i64::try_from(t.as_nanos()).is_ok(), "at most 9223372036854775807ns"),
        };
        ParamError::ensure(ok, name, self, expected)
    }

    /// Checks the same, and that the span is not 0.
    pub(super) fn check_positive(self, name: &str) -> Result<(), ParamError> {
        let is_zero = match self {
            Self::Rows(n) => n == 0,
            Self::Fraction(f) => f == 0.0,
            Self::Time(t) => t.is_zero(),
        };
        ParamError::ensure(!is_zero, name, self, "more than 0")?;
        self.check(name)
    }

    pub(super) fn in_rows(self, n_rows: usize) -> Extent {
        match self {
            Self::Rows(n) => Extent::Rows(n),
            Self::Fraction(f) => Extent::Rows((f * n_rows as f64).round() as usize),
            Self::Time(t) => Extent::Nanos(i64::try_from(t.as_nanos()).unwrap_or(i64::MAX)),
        }
    }
}

/// The form that a file has, strings without their quotes.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = match self {
            Self::Rows(n) => return write!(f, "{n}"),
            Self::Fraction(x) => return write!(f, "{x:?}"),
            Self::Time(t) if t.is_zero() => return f.write_str("0s"),
            Self::Time(t) => t.as_nanos(),
        };
        for (unit, length) in UNITS {
            let length = u128::from(length);
            if length <= rest {
                write!(f, "{}{unit}", rest / length)?;
                rest %= length;
            }
        }
        Ok(())
    }
}

/// Reads what `Display` writes.
impl FromStr for Span {
    type Err = ParamError;

    fn from_str(text: &str) -> Result<Self, ParamError> {
        let ends_in_digit = text.ends_with(|c: char| c.is_ascii_digit());
        let span = if let Ok(rows) = text.parse() {
            Some(Self::Rows(rows))
        } else if ends_in_digit {
            text.parse().ok().map(Self::Fraction)
        } else {
            nanoseconds(text).map(|n| Self::Time(Duration::from_nanos(n)))
        };
        let expected = "rows (`100`), a fraction (`0.05`), or time (`5d`, `1h30m`)";
        span.ok_or_else(|| ParamError::new("span", format_args!("`{text}`"), expected))
    }
}

/// The length of a time such as `1h30m`; `None` if it is malformed or too long.
fn nanoseconds(text: &str) -> Option<u64> {
    let (mut rest, mut units, mut total) = (text, UNITS.iter(), 0_u64);
    while !rest.is_empty() {
        let (count, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        // The iterator goes on where it stopped, so units must get smaller.
        let (_, length) = units.find(|(name, _)| *name == unit)?;
        let part = count.parse::<u64>().ok()?.checked_mul(*length)?;
        total = total.checked_add(part).filter(|&sum| i64::try_from(sum).is_ok())?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Rows(n) => serializer.serialize_u64(*n as u64),
            Self::Fraction(f) => serializer.serialize_f64(*f),
            Self::Time(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of rows, a fraction of them, or a time such as \"5d\"")
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Span, E> {
                let unexpected = || E::invalid_value(de::Unexpected::Unsigned(n), &self);
                usize::try_from(n).map(Span::Rows).map_err(|_| unexpected())
            }

            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Span, E> {
                let unexpected = || E::invalid_value(de::Unexpected::Signed(n), &self);
                usize::try_from(n).map(Span::Rows).map_err(|_| unexpected())
            }

            fn visit_f64<E: de::Error>(self, fraction: f64) -> Result<Span, E> {
                Ok(Span::Fraction(fraction))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check_time(text: &str, nanos: u64) {
        assert_eq!(text.parse(), Ok(Span::Time(Duration::from_nanos(nanos))), "{text}");
    }

    #[test]
    fn times_are_sums_of_units() {
        check_time("0s", 0);
        check_time("5d", 432_000_000_000_000);
        check_time("1h30m", 5_400_000_000_000);
        check_time("90m", 5_400_000_000_000);
        check_time("2w", 1_209_600_000_000_000);
        check_time("1s2ms3us4ns", 1_002_003_004);
        check_time("9223372036854775807ns", i64::MAX as u64);
    }

    #[test]
    fn malformed_spans_are_refused() {
        let long = ["9223372036854775808ns", "300000w", "99999999999999999999d"];
        let odd = ["", "d", "-5d", "5 d", "1.5h", "30m1h", "1h1h", "5y", "nan", "inf", "µ", "5µ"];
        for text in long.into_iter().chain(odd) {
            let err = text.parse::<Span>().expect_err(text);
            assert_eq!(err.got, format!("`{text}`"));
        }
    }

    #[test]
    fn a_file_says_rows_by_integers_and_fractions_by_decimals() {
        let read = |text| serde_json::from_str::<Span>(text).map_err(|e| e.to_string());
        assert_eq!(read("7"), Ok(Span::Rows(7)));
        assert_eq!(read("0.5"), Ok(Span::Fraction(0.5)));
        assert_eq!(read("\"1d\""), Ok(Span::Time(Duration::from_hours(24))));
        assert!(read("-1").expect_err("negative").starts_with("invalid value: integer `-1`"));
        assert!(read("true").expect_err("boolean").contains("expected a number of rows"));
    }

    #[test]
    fn spans_out_of_their_domain_are_named() {
        for (span, text) in [
            (Span::Fraction(1.0), "parameter `gap` is 1.0; expected a fraction ≥ 0 and < 1"),
            (Span::Fraction(f64::NAN), "parameter `gap` is NaN; expected a fraction ≥ 0 and < 1"),
            (Span::Fraction(-0.1), "parameter `gap` is -0.1; expected a fraction ≥ 0 and < 1"),
        ] {
            assert_eq!(span.check("gap").expect_err("outside").to_string(), text);
        }
        assert!(Span::Time(Duration::MAX).check("gap").is_err());
        assert!(Span::ZERO.check("gap").is_ok());
        assert!(Span::ZERO.check_positive("gap").is_err());
        assert!(Span::Fraction(0.0).check_positive("gap").is_err());
        assert!(Span::Time(Duration::ZERO).check_positive("gap").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(nanos in 0..i64::MAX as u64, rows: usize, f in 0.0..1.0_f64) {
            for span in [Span::Time(Duration::from_nanos(nanos)), Span::Rows(rows), Span::Fraction(f)] {
                prop_assert_eq!(span.to_string().parse(), Ok(span));
                let json = serde_json::to_string(&span).expect("a scalar");
                prop_assert_eq!(serde_json::from_str::<Span>(&json).expect("reads back"), span);
            }
        }
    }
}
