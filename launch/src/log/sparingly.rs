//! Lines that peers cause: at most one a second, or they could fill the disk.

use std::time::{Duration, Instant};

/// Between two lines.
const PAUSE: Duration = Duration::from_secs(1);

/// At most one line a second of a kind.
#[derive(Debug, Default)]
pub struct Sparingly {
    said: Option<Instant>,
    unsaid: u64,
}

impl Sparingly {
    /// How many were passed over since the last line, if a line may be written now.
    pub fn now(&mut self) -> Option<u64> {
        self.at(Instant::now())
    }

    fn at(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now.saturating_duration_since(said) < PAUSE) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
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
}
