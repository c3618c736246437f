//! So much in a second, and so much at once after a rest (GCRA, ITU-T I.371). No I/O, no clock of its own.

use std::time::{Duration, Instant};

/// What was taken of late of one kind of thing.
#[derive(Debug)]
pub(crate) struct Rate {
    a_second: u32,
    at_once: u32,
    /// When all that was taken would have come at the steady rate.
    paid: Instant,
}

impl Rate {
    /// At least one in a second.
    pub(crate) fn new(a_second: u32, at_once: u32, now: Instant) -> Self {
        Self { a_second: a_second.max(1), at_once, paid: now }
    }

    /// So much is taken in any case. Until when to wait before it is passed on.
    pub(crate) fn charge(&mut self, amount: u32, now: Instant) -> Instant {
        self.paid = self.paid.max(now) + self.time(amount);
        self.due(self.paid, now)
    }

    /// So much is taken, if it may be now.
    pub(crate) fn take(&mut self, amount: u32, now: Instant) -> bool {
        let may = self.has(amount, now);
        if may {
            self.charge(amount, now);
        }
        may
    }

    /// Whether so much may be taken now.
    pub(crate) fn has(&self, amount: u32, now: Instant) -> bool {
        self.due(self.paid.max(now) + self.time(amount), now) == now
    }

    /// When all may have been taken that would have come by `paid`.
    fn due(&self, paid: Instant, now: Instant) -> Instant {
        paid.checked_sub(self.time(self.at_once)).map_or(now, |due| due.max(now))
    }

    /// All that was taken is paid for.
    pub(crate) fn rests(&self, now: Instant) -> bool {
        self.paid <= now
    }

    /// How long so much takes.
    fn time(&self, amount: u32) -> Duration {
        Duration::from_secs(1) * amount / self.a_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_costs_nothing_and_small_pauses_add_up() {
        let start = Instant::now() + Duration::from_secs(3_600);
        let mut rate = Rate::new(100, 4, start);
        assert!(rate.take(4, start) && !rate.take(1, start) && !rate.take(1, start));
        let taken = (1..=30).filter(|pause| rate.take(1, start + Duration::from_millis(5) * *pause)).count();
        assert_eq!(taken, 15);
        assert!(!Rate::new(100, 4, start).take(5, start), "more than may be at once");
        assert!(!rate.rests(start));
        let later = start + Duration::from_secs(60);
        assert!(rate.rests(later));
        assert!(rate.take(4, later) && !rate.take(1, later), "a rest earns no more than one burst");
    }
}
