//! How long between two tries, and between two lines of the log about them. No I/O, no clock, no randomness of its own.

use std::time::{Duration, Instant};

/// At most between the first two tries; then twice as much each time.
const PAUSE: Duration = Duration::from_millis(100);
/// At most ever: who publishes and hears nothing waits no longer after Redis has come back.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// What stood so long is well: with its next failure everything begins anew.
const STOOD: Duration = Duration::from_secs(10);
/// Between two lines of the log about the same.
pub(super) const QUIET: Duration = Duration::from_secs(10);

/// The tries to reach one Redis.
#[derive(Debug)]
pub(super) struct Pace {
    pause: Duration,
    since: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { pause: PAUSE, since: None }
    }

    /// A connection begins.
    pub(super) fn up(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// There is none, or none any more. How long to wait before the next try: from half of the pause to the whole, so
    /// that gateways which lost the same Redis do not all come back to it at once.
    pub(super) fn down(&mut self, now: Instant, random: u32) -> Duration {
        if self.since.take().is_some_and(|since| now.saturating_duration_since(since) >= STOOD) {
            self.pause = PAUSE;
        }
        let whole = self.pause;
        self.pause = (whole * 2).min(PAUSE_MAX);
        let half = whole / 2;
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_most_and_vary_by_half() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        let pauses: Vec<_> = (0..8).map(|_| pace.down(now, u32::MAX).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(pace.down(now, 0).as_millis(), 2_500);
        let middle = pace.down(now, u32::MAX / 2).as_millis();
        assert!((3_700..3_800).contains(&middle), "{middle}");
    }

    #[test]
    fn what_stood_begins_anew_and_what_stood_for_moments_does_not() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        for _ in 0..3 {
            pace.down(start, u32::MAX);
        }
        pace.up(start);
        let soon = start + STOOD - Duration::from_millis(1);
        assert_eq!(pace.down(soon, u32::MAX).as_millis(), 800);
        pace.up(soon);
        assert_eq!(pace.down(soon + STOOD, u32::MAX).as_millis(), 100);
    }
}
