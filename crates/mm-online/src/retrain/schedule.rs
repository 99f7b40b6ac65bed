//! Set times by the calendar, in UTC.

use mm_core::{ParamError, Result};
use serde::{Deserialize, Serialize};

const HOUR: i64 = 3_600_000_000_000; // ns
const DAY: i64 = 24 * HOUR;

/// Times that come again and again, in UTC.
///
/// In files: `{ daily = { hour = 3 } }`, `{ weekly = { weekday = 0, hour = 3 } }`,
/// `{ monthly = { day = 1, hour = 3 } }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Schedule {
    /// Each day at an hour from 0 to 23.
    Daily {
        /// From 0 to 23.
        hour: u8,
    },
    /// Each week.
    Weekly {
        /// From 0, Monday, to 6, Sunday.
        weekday: u8,
        /// From 0 to 23.
        hour: u8,
    },
    /// Each month.
    Monthly {
        /// From 1 to 31; where a month is shorter, its last day.
        day: u8,
        /// From 0 to 23.
        hour: u8,
    },
}

impl Schedule {
    /// Checks every field.
    pub fn check(&self) -> Result<(), ParamError> {
        let (Self::Daily { hour } | Self::Weekly { hour, .. } | Self::Monthly { hour, .. }) = *self;
        ParamError::ensure(hour < 24, "schedule.hour", hour, "0 to 23")?;
        match *self {
            Self::Daily { .. } => Ok(()),
            Self::Weekly { weekday, .. } => {
                ParamError::ensure(weekday < 7, "schedule.weekday", weekday, "0 (Monday) to 6")
            }
            Self::Monthly { day, .. } => {
                ParamError::ensure(1 <= day && day <= 31, "schedule.day", day, "1 to 31")
            }
        }
    }

    /// The first time after `time`, both in ns since 1970-01-01; `None` beyond the year 2262.
    pub fn next_after(&self, time: i64) -> Option<i64> {
        let today = time.div_euclid(DAY);
        let at = |day: i64, hour: u8| {
            day.checked_mul(DAY)?.checked_add(i64::from(hour) * HOUR).filter(|&at| time < at)
        };
        match *self {
            Self::Daily { hour } => (today..=today + 1).find_map(|day| at(day, hour)),
            Self::Weekly { weekday, hour } => {
                // 1970-01-01 was a Thursday: 3, counted from Monday.
                let ahead = (i64::from(weekday) - (today + 3)).rem_euclid(7);
                [today + ahead, today + ahead + 7].into_iter().find_map(|day| at(day, hour))
            }
            Self::Monthly { day, hour } => {
                let (year, month) = month_of(today);
                let in_month = |ahead: i64| {
                    let months = year * 12 + (month - 1) + ahead;
                    let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
                    let first = day_of(year, month);
                    let length = day_of(year + month / 12, month % 12 + 1) - first;
                    at(first + i64::from(day).min(length) - 1, hour)
                };
                (0..=1).find_map(in_month)
            }
        }
    }
}

/// The number, from 1970-01-01, of the first day of a month: years start in March, so that the leap
/// day is the last of one (Hinnant 2013, "chrono-compatible low-level date algorithms").
fn day_of(year: i64, month: i64) -> i64 {
    let (year, from_march) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * from_march + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The year and the month, from 1, of a day counted from 1970-01-01.
fn month_of(day: i64) -> (i64, i64) {
    let shifted = day + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + i64::from(month <= 2), month)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn months_are_those_of_the_calendar() {
        assert_eq!((day_of(1970, 1), month_of(0)), (0, (1970, 1)));
        assert_eq!(day_of(2000, 3) - day_of(2000, 2), 29);
        assert_eq!(day_of(1900, 3) - day_of(1900, 2), 28);
        assert_eq!(day_of(2026, 11), 20_758); // date -u -d 2026-11-01 +%s is 1793491200.
        assert_eq!(month_of(-1), (1969, 12));
    }

    #[test]
    fn a_short_month_has_its_last_day() {
        let monthly = Schedule::Monthly { day: 31, hour: 6 };
        let in_february = day_of(2027, 2) * DAY;
        let last = (day_of(2027, 2) + 27) * DAY + 6 * HOUR;
        assert_eq!(monthly.next_after(in_february), Some(last));
        assert_eq!(monthly.next_after(last), Some((day_of(2027, 3) + 30) * DAY + 6 * HOUR));
    }

    #[test]
    fn a_week_starts_on_monday() {
        // 2026-11-22 is a Sunday.
        let sunday = (day_of(2026, 11) + 21) * DAY;
        let weekly = |weekday| Schedule::Weekly { weekday, hour: 0 }.next_after(sunday);
        assert_eq!(weekly(0), Some(sunday + DAY));
        assert_eq!(weekly(6), Some(sunday + 7 * DAY));
    }

    proptest! {
        /// The next time lies ahead, not further than a period, and nothing lies between.
        #[test]
        fn times_follow_one_another(time in -4_000_000_000_000_000_000_i64..8_000_000_000_000_000_000) {
            for schedule in [
                Schedule::Daily { hour: 5 },
                Schedule::Weekly { weekday: 3, hour: 0 },
                Schedule::Monthly { day: 31, hour: 23 },
            ] {
                let next = schedule.next_after(time).expect("before 2262");
                prop_assert!(time < next && next - time <= 31 * DAY);
                prop_assert_eq!(schedule.next_after(next - 1), Some(next));
                prop_assert_eq!(schedule.next_after(time + (next - time) / 2), Some(next));
            }
        }
    }
}
