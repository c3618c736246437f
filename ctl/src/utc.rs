//! Seconds of UTC as text (ISO 8601), and what people write for a moment.

use std::time::{SystemTime, UNIX_EPOCH};

/// By this host's clock.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// For example `2026-11-22T03:47:02Z`; the nearest moment that can be written so.
pub(crate) fn text(seconds: u64) -> String {
    // 9999-12-31T23:59:59.
    let seconds = seconds.min(253_402_300_799);
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut left) = (1970, days);
    while left >= length_of_year(year) {
        left -= length_of_year(year);
        year += 1;
    }
    let mut month = 1;
    for long in months(year) {
        if left < long {
            break;
        }
        left -= long;
        month += 1;
    }
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", left + 1)
}

/// A moment as RFC 3339 (`2026-11-22T03:47:02Z`, with any offset; a fraction is cut off), as seconds of UTC, or
/// before now: `-90s`, `-30m`, `-1h`, `-2d`.
pub(crate) fn moment(text: &str, now: u64) -> Option<u64> {
    if let Some(ago) = text.strip_prefix('-') {
        let (count, unit) = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)]
            .into_iter()
            .find_map(|(letter, seconds)| Some((ago.strip_suffix(letter)?, seconds)))?;
        return now.checked_sub(number(count)?.checked_mul(unit)?);
    }
    number(text).or_else(|| rfc3339(text))
}

fn rfc3339(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let (day, zone) = match time.strip_suffix(['Z', 'z']) {
        Some(day) => (day, 0),
        None => {
            let at = time.rfind(['+', '-'])?;
            let [hours, minutes] = numbers(time.get(at + 1..)?, ':', [2, 2])?;
            let east = i64::try_from(hours * 3_600 + minutes * 60).ok()?;
            let valid = hours < 24 && minutes < 60;
            (
                time.get(..at)?,
                valid.then_some(if time.as_bytes().get(at) == Some(&b'-') { -east } else { east })?,
            )
        }
    };
    let day = match day.split_once('.') {
        Some((day, fraction)) => {
            number(fraction.get(..fraction.len().min(9))?)?;
            fraction.bytes().all(|byte| byte.is_ascii_digit()).then_some(day)?
        }
        None => day,
    };
    let [year, month, date] = numbers(date, '-', [4, 2, 2])?;
    let [hours, minutes, seconds] = numbers(day, ':', [2, 2, 2])?;
    let lengths = months(year);
    let length = *lengths.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    // A leap second is the one after it.
    let valid = year >= 1970 && (1..=length).contains(&date) && hours < 24 && minutes < 60 && seconds <= 60;
    let days = (1970..valid.then_some(year)?).map(length_of_year).sum::<u64>()
        + lengths.iter().take(usize::try_from(month - 1).ok()?).sum::<u64>()
        + (date - 1);
    (days * 86_400 + hours * 3_600 + minutes * 60 + seconds).checked_add_signed(-zone)
}

/// Parts of so many digits each, between separators.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[u64; N]> {
    let parts: Vec<_> = text.split(separator).collect();
    let fits = parts.len() == N && parts.iter().zip(digits).all(|(part, digits)| part.len() == digits);
    let parts: Vec<u64> = parts.into_iter().map(number).collect::<Option<_>>()?;
    fits.then_some(parts)?.try_into().ok()
}

/// Digits and nothing else.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// Days of the months of a year.
fn months(year: u64) -> [u64; 12] {
    let february = if length_of_year(year) == 366 { 29 } else { 28 };
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

/// Days of a year.
fn length_of_year(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if leap { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_the_calendar_has_them() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_795_319_222, "2026-11-22T03:47:02Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(text(seconds), expected);
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for seconds in
            [0, 951_782_400, 951_868_800, 1_709_164_800, 1_735_689_599, 4_107_542_400, 253_402_300_799]
        {
            assert_eq!(moment(&text(seconds), 0), Some(seconds));
        }
    }

    #[test]
    fn a_moment_is_written_in_several_ways() {
        let now = 1_795_319_222;
        for (text, expected) in [
            ("2026-11-22T03:47:02Z", now),
            ("2026-11-22t03:47:02z", now),
            ("2026-11-22 03:47:02.123456789012Z", now),
            ("2026-11-22T05:17:02+01:30", now),
            ("2026-11-21T23:47:02-04:00", now),
            ("2016-12-31T23:59:60Z", 1_483_228_800),
            ("1795319222", now),
            ("0", 0),
            ("-90s", now - 90),
            ("-30m", now - 1_800),
            ("-1h", now - 3_600),
            ("-2d", now - 172_800),
            ("-0s", now),
        ] {
            assert_eq!(moment(text, now), Some(expected), "{text}");
        }
        for text in [
            "",
            "-",
            "-h",
            "-1",
            "1h",
            "-1w",
            "--1h",
            "-+1h",
            "+5",
            "now",
            "18446744073709551616",
            "-18446744073709551615d",
            "-99999d",
            "2026-11-22",
            "2026-11-22T03:47Z",
            "2026-11-22T03:47:02",
            "2026-13-22T03:47:02Z",
            "2026-00-22T03:47:02Z",
            "2026-02-29T03:47:02Z",
            "2026-11-00T03:47:02Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T03:60:00Z",
            "2026-11-22T03:47:61Z",
            "2026-11-22T03:47:02.Z",
            "2026-11-22T03:47:02.xZ",
            "2026-11-22T03:47:02+1:30",
            "2026-11-22T03:47:02+24:00",
            "2026-11-22T03:47:02+\u{e9}",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "12026-11-22T03:47:02Z",
            "2026-+1-22T03:47:02Z",
        ] {
            assert_eq!(moment(text, now), None, "{text}");
        }
    }
}
