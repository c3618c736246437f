//! Lines that peers cause: a few a second, or they could fill the disk.

use std::time::{Duration, Instant};

/// What is counted together.
const SPAN: Duration = Duration::from_secs(1);

/// So many lines of a kind within so long; one a second by default.
#[derive(Debug)]
pub struct Sparingly {
    lines: u32,
    within: Duration,
    /// Since when the lines are counted, and how many there were.
    span: Option<(Instant, u32)>,
    unsaid: u64,
}

impl Default for Sparingly {
    fn default() -> Sparingly {
        Sparingly::of(1)
    }
}

impl Sparingly {
    /// At most `lines` a second.
    pub fn of(lines: u32) -> Sparingly {
        Sparingly { lines, within: SPAN, span: None, unsaid: 0 }
    }

    /// One line within so long.
    pub fn once_in(within: Duration) -> Sparingly {
        Sparingly { within, ..Sparingly::of(1) }
    }

    /// How many were passed over since the last line, if a line may be written now.
    pub fn now(&mut self) -> Option<u64> {
        self.at(Instant::now())
    }

    fn at(&mut self, now: Instant) -> Option<u64> {
        let running = self.span.filter(|(since, _)| now.saturating_duration_since(*since) < self.within);
        let (since, said) = running.unwrap_or((now, 0));
        if said >= self.lines {
            self.unsaid += 1;
            return None;
        }
        self.span = Some((since, said + 1));
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_line_a_second_and_it_counts_the_others() {
        let (mut sparingly, start) = (Sparingly::default(), Instant::now());
        let said = [0, 1, 999, 1_000, 1_001, 5_000].map(|ms| sparingly.at(start + Duration::from_millis(ms)));
        assert_eq!(said, [Some(0), None, None, Some(2), None, Some(1)]);
    }

    #[test]
    fn there_may_be_several_a_second() {
        let (mut sparingly, start) = (Sparingly::of(2), Instant::now());
        let said =
            [0, 1, 2, 3, 999, 1_000, 1_001, 1_002].map(|ms| sparingly.at(start + Duration::from_millis(ms)));
        assert_eq!(said, [Some(0), Some(0), None, None, None, Some(3), Some(0), None]);
    }

    #[test]
    fn there_may_be_one_in_a_longer_while() {
        let (mut sparingly, start) = (Sparingly::once_in(Duration::from_secs(10)), Instant::now());
        assert_eq!(sparingly.at(start), Some(0));
        assert!((0..1_000).all(|_| sparingly.at(start + Duration::from_millis(9_999)).is_none()));
        assert_eq!(sparingly.at(start + Duration::from_secs(10)), Some(1_000));
    }
}
