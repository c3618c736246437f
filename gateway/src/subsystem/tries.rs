//! What is tried again and again: how long between two tries, and how often the log hears of it. What stands for
//! moments only costs no more than what does not stand at all.

use std::time::{Duration, Instant};

/// Between the first two tries; then twice as much each time.
const PAUSE: Duration = Duration::from_millis(50);
/// What stood so long is well: with its next failure everything begins anew.
pub(super) const STOOD: Duration = Duration::from_secs(10);
/// So many lines of the log within so long, if it did not stand in between.
const LINES: u32 = 4;
const SPAN: Duration = Duration::from_secs(60);

/// The tries of one thing.
#[derive(Debug)]
pub(super) struct Tries {
    pause: Duration,
    most: Duration,
    /// What was said last.
    said: Option<String>,
    /// Since when lines are counted, and how many there were.
    span: Option<(Instant, u32)>,
}

impl Tries {
    /// With no pause longer than this.
    pub(super) fn new(most: Duration) -> Self {
        Self { pause: PAUSE, most, said: None, span: None }
    }

    /// It stands for [`STOOD`].
    pub(super) fn stood(&mut self) {
        (self.pause, self.span) = (PAUSE, None);
    }

    /// Whether this is said now: not twice in a row, and not too often.
    pub(super) fn says(&mut self, what: &str, now: Instant) -> bool {
        if self.said.as_deref() == Some(what) {
            return false;
        }
        let running = self.span.filter(|(since, _)| now.saturating_duration_since(*since) < SPAN);
        let (since, lines) = running.unwrap_or((now, 0));
        if lines >= LINES {
            return false;
        }
        (self.span, self.said) = (Some((since, lines + 1)), Some(what.to_owned()));
        true
    }

    /// How long to wait before the next try.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(self.most);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_moments_only_is_tried_no_faster_and_told_of_no_more() {
        let (mut tries, start) = (Tries::new(Duration::from_secs(1)), Instant::now());
        let pauses: Vec<_> = (0..7).map(|_| tries.pause().as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1_000, 1_000]);
        // It is up and down once a second for an hour.
        let says = |tries: &mut Tries, second: u64| {
            let now = start + Duration::from_secs(second);
            u32::from(tries.says("up", now)) + u32::from(tries.says("down", now))
        };
        let lines: u32 = (0..3_600).map(|second| says(&mut tries, second)).sum();
        assert_eq!(lines, 240, "4 a minute");
        assert_eq!(tries.pause(), Duration::from_secs(1));
    }

    #[test]
    fn what_stood_begins_anew_and_the_last_word_comes_in_the_end() {
        let (mut tries, start) = (Tries::new(Duration::from_secs(1)), Instant::now());
        for (what, said) in
            [("a", true), ("a", false), ("up", true), ("a", true), ("b", true), ("c", false), ("b", false)]
        {
            assert_eq!(tries.says(what, start), said, "{what}");
        }
        assert!(!tries.says("c", start + SPAN - Duration::from_millis(1)));
        assert!(tries.says("c", start + SPAN));
        tries.pause();
        tries.stood();
        assert_eq!(tries.pause(), PAUSE);
        assert!(!tries.says("c", start + SPAN), "nothing is new");
        assert!(["d", "e", "f", "g"].iter().all(|what| tries.says(what, start + SPAN)));
    }
}
