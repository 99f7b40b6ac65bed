//! Moments from text: nanoseconds since the Unix epoch, UTC.
//!
//! Days are counted by the algorithm of Hinnant (2021), "`chrono`-compatible low-level date
//! algorithms": the year begins in March, so that the leap day is its last, and 400 years are one
//! era of 146 097 days. Exact over the whole range of the result, from
//! 1677-09-21T00:12:43.145224192Z to 2262-04-11T23:47:16.854775807Z.

use serde::{Deserialize, Serialize};

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// What an integer timestamp counts, from the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TimeUnit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Microseconds.
    #[serde(rename = "us")]
    Microseconds,
    /// Nanoseconds.
    #[serde(rename = "ns")]
    Nanoseconds,
}

impl TimeUnit {
    /// `count` of these in nanoseconds, or `None` beyond the range of `i64`.
    pub(super) fn nanos(self, count: i64) -> Option<i64> {
        count.checked_mul(match self {
            Self::Seconds => NANOS,
            Self::Milliseconds => 1_000_000,
            Self::Microseconds => 1_000,
            Self::Nanoseconds => 1,
        })
    }
}

/// Reads RFC 3339 and its usual relaxations: `2013-01-31`, then optionally `T` or a blank and
/// `05:15`, `05:15:00` or `05:15:00.25`, then optionally `Z` or an offset as `+01:00`. Without an
/// offset it is UTC. Leap seconds and more than nine decimals are no moment here.
pub fn parse(text: &str) -> Option<i64> {
    let mut rest = text.trim_ascii().as_bytes();
    let year = number(&mut rest, 4)?;
    eat(&mut rest, b"-")?;
    let month = number(&mut rest, 2)?;
    eat(&mut rest, b"-")?;
    let day = number(&mut rest, 2)?;
    if !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let mut seconds = i128::from(days_from_civil(year, month, day) * DAY);
    let mut nanos = 0;
    if !rest.is_empty() {
        eat(&mut rest, b"Tt ")?;
        seconds += i128::from(clock(&mut rest)?);
        if eat(&mut rest, b":").is_some() {
            seconds += i128::from(Some(number(&mut rest, 2)?).filter(|s| *s < 60)?);
            if eat(&mut rest, b".").is_some() {
                let n = rest.iter().take_while(|b| b.is_ascii_digit()).count();
                let scale = 10_i64.pow(u32::try_from(9_usize.checked_sub(n)?).ok()?);
                nanos = number(&mut rest, n)? * scale;
            }
        }
        if let Some(sign @ (b'+' | b'-')) = eat(&mut rest, b"Zz+-") {
            let offset = i128::from(clock(&mut rest)?);
            seconds -= if sign == b'+' { offset } else { -offset };
        }
    }
    if !rest.is_empty() {
        return None;
    }
    i64::try_from(seconds * i128::from(NANOS) + i128::from(nanos)).ok()
}

/// Writes RFC 3339 in UTC, with as many groups of three decimals as are needed.
pub fn format(nanos: i64) -> String {
    let (seconds, nanos) = (nanos.div_euclid(NANOS), nanos.rem_euclid(NANOS));
    let (days, clock) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil_from_days(days);
    let (h, m, s) = (clock / 3600, clock / 60 % 60, clock % 60);
    let decimals = match nanos {
        0 => String::new(),
        n if n % 1_000_000 == 0 => format!(".{:03}", n / 1_000_000),
        n if n % 1_000 == 0 => format!(".{:06}", n / 1_000),
        n => format!(".{n:09}"),
    };
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}{decimals}Z")
}

/// `HH:MM` in seconds.
fn clock(rest: &mut &[u8]) -> Option<i64> {
    let hours = number(rest, 2)?;
    eat(rest, b":")?;
    let minutes = number(rest, 2)?;
    (hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)
}

/// Takes one byte off, if it is one of `any`.
fn eat(rest: &mut &[u8], any: &[u8]) -> Option<u8> {
    let (&first, tail) = rest.split_first()?;
    any.contains(&first).then(|| {
        *rest = tail;
        first
    })
}

/// Takes exactly `n` digits off, at least one.
fn number(rest: &mut &[u8], n: usize) -> Option<i64> {
    let (digits, tail) = rest.split_at_checked(n)?;
    if n == 0 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    *rest = tail;
    Some(digits.iter().fold(0, |x, b| x * 10 + i64::from(b - b'0')))
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1; // From 1 March.
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, doe) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let day_of_year = doe - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_are_read_alike() {
        for (text, expected) in [
            ("1970-01-01", 0),
            ("1970-01-02T00:00:00Z", DAY * NANOS),
            ("2000-03-01", 951_868_800 * NANOS),
            ("2001-09-09 01:46", 999_999_960 * NANOS),
            ("2001-09-09T01:46:40", 1_000_000_000 * NANOS),
            ("2001-09-09t03:46:40.25+02:00", 1_000_000_000 * NANOS + 250_000_000),
            ("2001-09-08 20:16:40-05:30", 1_000_000_000 * NANOS),
            ("1969-12-31T23:59:59.999999999z", -1),
            ("1677-09-21T00:12:43.145224192Z", i64::MIN),
            ("2262-04-11T23:47:16.854775807Z", i64::MAX),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "2013",
            "2013-1-1",
            "2013-13-01",
            "2013-00-10",
            "2013-02-29",
            "1900-02-29",
            "2013-01-01T",
            "2013-01-01T24:00",
            "2013-01-01T05:60",
            "2013-01-01T05:15:60",
            "2013-01-01T05:15:00.",
            "2013-01-01T05:15:00.1234567890",
            "2013-01-01T05:15+1",
            "2013-01-01T05:15+24:00",
            "2013-01-01Z",
            "2013-01-01T05:15:00Z ago",
            "01/02/2013",
            "1677-09-21T00:12:43.145224191Z",
            "2262-04-11T23:47:16.854775808Z",
            "9999-12-31",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert!(parse("2000-02-29").is_some(), "a leap year");
    }

    #[test]
    fn units_scale_or_overflow() {
        assert_eq!(TimeUnit::Seconds.nanos(-2), Some(-2 * NANOS));
        assert_eq!(TimeUnit::Milliseconds.nanos(3), Some(3_000_000));
        assert_eq!(TimeUnit::Microseconds.nanos(3), Some(3_000));
        assert_eq!(TimeUnit::Nanoseconds.nanos(i64::MIN), Some(i64::MIN));
        assert_eq!(TimeUnit::Seconds.nanos(i64::MAX / NANOS + 1), None);
    }

    proptest! {
        /// Every moment that can be held is written and read back exactly.
        #[test]
        fn moments_round_trip(
            nanos in any::<i64>(),
            scale in prop::sample::select(vec![1, 1000, 1_000_000, NANOS, DAY * NANOS]),
        ) {
            let moment = nanos / scale * scale;
            prop_assert_eq!(parse(&format(moment)), Some(moment));
        }

        /// The calendar steps by one day, and its dates exist.
        #[test]
        fn days_follow_one_another(days in -200_000_i64..200_000) {
            let (year, month, day) = civil_from_days(days);
            prop_assert_eq!(days_from_civil(year, month, day), days);
            prop_assert!((1..=days_in(year, month)).contains(&day));
            let (next_year, next_month, next_day) = civil_from_days(days + 1);
            let next = if day < days_in(year, month) {
                (year, month, day + 1)
            } else if month < 12 {
                (year, month + 1, 1)
            } else {
                (year + 1, 1, 1)
            };
            prop_assert_eq!((next_year, next_month, next_day), next);
        }
    }
}
