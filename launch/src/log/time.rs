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

/// A moment as milliseconds of UTC, from RFC 3339 with any offset. Years before 1970 are none.
pub fn parse(text: &str) -> Option<u64> {
    let digits = |from: usize, to: usize| -> Option<u64> {
        let part = text.get(from..to)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let is = |at: usize, of: &[u8]| text.as_bytes().get(at).is_some_and(|byte| of.contains(byte));
    let marks = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
    // A leap second is the one after.
    if !marks || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = (days_before(year, month)? + day).checked_sub(1)?;
    if date(days) != (year, month, day) {
        return None;
    }
    let (mut rest, mut millis) = (text.get(19..)?, 0);
    if let Some(fraction) = rest.strip_prefix('.') {
        let end = fraction.bytes().position(|byte| !byte.is_ascii_digit())?;
        let written = fraction.get(..end.min(3)).filter(|digits| !digits.is_empty())?;
        millis = format!("{written:0<3}").parse().ok()?;
        rest = fraction.get(end..)?;
    }
    let local = ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1_000 + millis;
    if matches!(rest, "Z" | "z") {
        return Some(local);
    }
    let at = text.len() - rest.len();
    let (hours, minutes) = (digits(at + 1, at + 3)?, digits(at + 4, at + 6)?);
    if rest.len() != 6 || !is(at + 3, b":") || hours > 23 || minutes > 59 {
        return None;
    }
    let offset = (hours * 60 + minutes) * 60_000;
    match rest.as_bytes().first() {
        Some(b'+') => local.checked_sub(offset),
        Some(b'-') => Some(local + offset),
        _ => None,
    }
}

/// Days from 1970-01-01 to the first of a month; None before that, or for what is no month.
fn days_before(year: u64, month: u64) -> Option<u64> {
    // As in `date`: years begin in March.
    let (year, month) = match month {
        1 | 2 => (year.checked_sub(1)?, month + 9),
        3..=12 => (year, month - 3),
        _ => return None,
    };
    (year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5).checked_sub(719_468)
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
    fn what_was_written_is_read_back_and_other_forms_mean_the_same() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T00:00:00.001Z", Some(1)),
            ("2026-11-23T10:11:12.123Z", Some(1_795_428_672_123)),
            ("2026-11-23t10:11:12.123456789z", Some(1_795_428_672_123)),
            ("2026-11-23 10:11:12.1+00:00", Some(1_795_428_672_100)),
            ("2026-11-23T11:41:12+01:30", Some(1_795_428_672_000)),
            ("2026-11-23T05:11:12-05:00", Some(1_795_428_672_000)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800_000)),
            ("2023-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-01-00T00:00:00Z", None),
            ("1969-12-31T23:59:59Z", None),
            ("1970-01-01T00:00:00+00:01", None),
            ("2026-11-23T24:00:00Z", None),
            ("2026-11-23T10:11:12", None),
            ("2026-11-23T10:11:12.Z", None),
            ("2026-11-23T10:11:12Zx", None),
            ("2026-11-23T10:11:12+0100", None),
            ("2026-11-23T10:11:12+1:000", None),
            ("+026-11-23T10:11:12Z", None),
            ("2026-11-23T10:11:1\u{e9}Z", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        for days in (0..200_000).step_by(7) {
            let millis = days * 86_400_000 + 43_200_001;
            let mut text = String::new();
            write(&mut text, UNIX_EPOCH + Duration::from_millis(millis)).expect("a String takes all");
            assert_eq!(parse(&text), Some(millis), "{text}");
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
