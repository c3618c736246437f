//! How fast the events of one subsystem are taken: no faster than readers who keep up are sent them.

use std::time::Instant;

use crate::rate::Rate;

/// In a second, and at once after a rest: what a reader's inbox holds is twice this and more.
const EVENTS: u32 = 10_000;
const EVENTS_AT_ONCE: u32 = 256;
const BYTES: u32 = 1 << 20;
const BYTES_AT_ONCE: u32 = 512 << 10;

/// What was taken of late.
#[derive(Debug)]
pub(super) struct Speed {
    events: Rate,
    bytes: Rate,
}

impl Speed {
    pub(super) fn new(now: Instant) -> Self {
        Self { events: Rate::new(EVENTS, EVENTS_AT_ONCE, now), bytes: Rate::new(BYTES, BYTES_AT_ONCE, now) }
    }

    /// An event of so many bytes is taken. Until when to wait before it is passed on.
    pub(super) fn take(&mut self, bytes: usize, now: Instant) -> Instant {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.events.charge(1, now).max(self.bytes.charge(bytes, now))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// How long so many events of this size take.
    fn lasts(count: u32, bytes: usize) -> Duration {
        let start = Instant::now() + Duration::from_secs(3_600);
        let (mut speed, mut now) = (Speed::new(start), start);
        for _ in 0..count {
            now = speed.take(bytes, now);
        }
        now - start
    }

    #[test]
    fn a_burst_is_taken_at_once_and_then_there_is_a_speed() {
        assert_eq!(lasts(256, 10), Duration::ZERO);
        assert_eq!(lasts(10_256, 10).as_millis(), 1_000);
        assert_eq!(lasts(8, 64 << 10), Duration::ZERO);
        assert_eq!(lasts(24, 64 << 10).as_millis(), 1_000, "1 MiB after the burst");
        assert_eq!(lasts(1, 1 << 20).as_millis(), 500);
    }

    #[test]
    fn a_rest_earns_no_more_than_one_burst() {
        let start = Instant::now() + Duration::from_secs(3_600);
        let mut speed = Speed::new(start);
        let later = start + Duration::from_secs(3_600);
        assert_eq!(speed.take(512 << 10, later), later);
        assert!(speed.take(64 << 10, later) > later);
    }
}
