//! Seconds of UTC as text (ISO 8601), for people and for clients that parse it.

/// The same as token APIs write it: without a zone, with microseconds, of which there are none.
pub(crate) fn naive(seconds: u64) -> String {
    let mut text = text(i64::try_from(seconds).unwrap_or(i64::MAX));
    text.pop();
    text + ".000000"
}

/// For example `2026-11-22T03:47:02Z`. Years outside 0 to 9999 are shown as the nearest moment inside.
pub(crate) fn text(seconds: i64) -> String {
    // 0000-01-01T00:00:00 and 9999-12-31T23:59:59.
    let seconds = seconds.clamp(-62_167_219_200, 253_402_300_799);
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a count of days since 1970. The year is taken to begin in March, so that the
/// leap day is its last, and 400 years always have the same length.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_zone_it_has_microseconds() {
        assert_eq!(naive(1_795_319_222), "2026-11-22T03:47:02.000000");
    }

    #[test]
    fn moments_are_written_as_the_calendar_has_them() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_795_319_222, "2026-11-22T03:47:02Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
            (i64::MIN, "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(text(seconds), expected);
        }
    }
}
