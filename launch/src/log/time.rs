//! A point in time as RFC 3339 in UTC, with milliseconds.

use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes `2026-11-23T10:11:12.123Z`. A clock before 1970 reads as 1970.
pub(crate) fn write(out: &mut impl Write, now: SystemTime) -> fmt::Result {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs(), since.subsec_millis());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day counted from 1970-01-01.
///
/// Counted in years that begin in March, so that the leap day is the last of its year and the
/// lengths of the months follow one formula.
fn date(days: u64) -> (u64, u64, u64) {
    // From 0000-03-01, in cycles of 400 years, which all have 146,097 days.
    let days = days + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let day = day - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (cycle * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn known_moments() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.123Z"),
            (951_782_399, "2000-02-28T23:59:59.123Z"),
            (951_782_400, "2000-02-29T00:00:00.123Z"),
            (951_868_800, "2000-03-01T00:00:00.123Z"),
            (1_709_210_096, "2024-02-29T12:34:56.123Z"),
            (1_795_428_672, "2026-11-23T10:11:12.123Z"),
            (4_102_444_799, "2099-12-31T23:59:59.123Z"),
            (4_107_542_400, "2100-03-01T00:00:00.123Z"),
        ] {
            let mut text = String::new();
            write(&mut text, UNIX_EPOCH + Duration::new(seconds, 123_456_789)).expect("a String takes all");
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut previous = date(0);
        for days in 1..200_000 {
            let (year, month, day) = date(days);
            let (y, m, d) = previous;
            let next_day = (year, month, day) == (y, m, d + 1) && d < 31;
            let next_month = (year, month, day) == (y, m + 1, 1) && d >= 28;
            let next_year = (year, month, day) == (y + 1, 1, 1) && (m, d) == (12, 31);
            assert!(next_day || next_month || next_year, "{previous:?} then {:?}", (year, month, day));
            previous = (year, month, day);
        }
    }
}
