//! When a plug-in that does not answer is asked again: after a pause, and then once. No I/O, no clock.

use std::time::Duration;

/// So many failures in a row are enough.
const FAILURES: u32 = 5;
/// The first pause; each further one is twice as long, up to the longest.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(60);

/// Whether a plug-in is asked.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// In a row.
    failures: u32,
    /// The pause that began last; zero while it works.
    pause: Duration,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is asked.
    #[default]
    Asked,
    /// It is not asked until then, on the clock of the caller's.
    Resting { until: Duration },
    /// One question is under way, and shows whether it answers again.
    Tried,
}

impl Breaker {
    /// Whether it may be asked at `now`; if so, what comes of it must be told.
    ///
    /// # Errors
    /// How long it is not.
    pub(super) fn admit(&mut self, now: Duration) -> Result<(), Duration> {
        match self.state {
            State::Asked => Ok(()),
            State::Resting { until } if now < until => Err(until - now),
            State::Resting { .. } => {
                self.state = State::Tried;
                Ok(())
            }
            State::Tried => Err(self.pause),
        }
    }

    /// It answered, whatever it said.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// It did not answer. The pause that begins by that.
    pub(super) fn failed(&mut self, now: Duration) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        match self.state {
            State::Asked if self.failures < FAILURES => return None,
            // Questions of before the pause, which end during it.
            State::Resting { .. } => return None,
            State::Asked | State::Tried => {}
        }
        self.pause = (self.pause * 2).clamp(FIRST, LONGEST);
        self.state = State::Resting { until: now + self.pause };
        Some(self.pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn five_failures_in_a_row_bring_a_pause_that_doubles_and_one_answer_ends_it() {
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            assert_eq!((breaker.admit(at(0)), breaker.failed(at(0))), (Ok(()), None));
        }
        breaker.answered();
        for _ in 0..4 {
            assert_eq!(breaker.failed(at(0)), None, "not in a row");
        }
        assert_eq!(breaker.failed(at(100)), Some(at(10)));
        assert_eq!(breaker.admit(at(101)), Err(at(9)));
        assert_eq!(breaker.failed(at(102)), None, "one from before the pause");
        let mut now = at(110);
        for pause in [20, 40, 60, 60] {
            assert_eq!(breaker.admit(now), Ok(()), "one is tried");
            assert!(breaker.admit(now).is_err(), "and no second");
            assert_eq!(breaker.failed(now), Some(at(pause)));
            now += at(pause);
        }
        assert_eq!(breaker.admit(now), Ok(()));
        breaker.answered();
        assert_eq!((breaker.admit(now), breaker.admit(now)), (Ok(()), Ok(())));
    }
}
