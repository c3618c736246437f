//! The sources that failed lately, as authd tells them. authd decides each login by itself; what is known here
//! only keeps connections out earlier.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::gate::{Past, Source};

/// Sources that are remembered: as many as authd does.
const SOURCES_MAX: usize = 65_536;

/// What authd told.
#[derive(Debug, Default)]
pub struct Penalties(Mutex<HashMap<Source, Known>>);

#[derive(Debug, Clone, Copy)]
struct Known {
    penalty: Instant,
    until: Instant,
}

impl Penalties {
    /// What is left of a source's penalty.
    pub fn left(&self, source: Source, now: Instant) -> Option<Duration> {
        let left = self.lock().get(&source)?.penalty.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Whether a source failed lately.
    pub fn past(&self, source: Source, now: Instant) -> Past {
        match self.lock().get(&source) {
            Some(known) if known.until > now => Past::Failed,
            Some(_) | None => Past::Clean,
        }
    }

    /// From now on it stands so: what is left of its penalty, and of what is known of it.
    pub(crate) fn tell(&self, source: Source, penalty: Duration, known: Duration, now: Instant) {
        let mut sources = self.lock();
        if sources.len() >= SOURCES_MAX && !sources.contains_key(&source) {
            sources.retain(|_, known| known.until > now);
            if sources.len() >= SOURCES_MAX {
                // authd has forgotten some of these by now, and refuses this one's logins all the same.
                return;
            }
        }
        sources.insert(source, Known { penalty: now + penalty, until: now + known.max(penalty) });
    }

    /// authd begins to tell from the beginning.
    pub(crate) fn forget(&self) {
        *self.lock() = HashMap::new();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Source, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const A: Source = Source::Uid(1);

    #[test]
    fn a_penalty_ends_by_itself_and_what_is_known_later() {
        let (penalties, now) = (Penalties::default(), Instant::now());
        assert_eq!((penalties.left(A, now), penalties.past(A, now)), (None, Past::Clean));
        penalties.tell(A, Duration::ZERO, 600 * SECOND, now);
        assert_eq!((penalties.left(A, now), penalties.past(A, now)), (None, Past::Failed));
        penalties.tell(A, 60 * SECOND, 3_600 * SECOND, now);
        assert_eq!(penalties.left(A, now + 59 * SECOND), Some(SECOND));
        assert_eq!(penalties.left(A, now + 60 * SECOND), None);
        assert_eq!(penalties.past(A, now + 3_599 * SECOND), Past::Failed);
        assert_eq!(penalties.past(A, now + 3_600 * SECOND), Past::Clean);
        penalties.forget();
        assert_eq!(penalties.left(A, now), None);
    }

    #[test]
    fn a_full_table_makes_room_by_time_alone() {
        let (penalties, now) = (Penalties::default(), Instant::now());
        let most = u32::try_from(SOURCES_MAX).expect("small");
        for uid in 0..=most {
            penalties.tell(Source::Uid(uid), SECOND, SECOND, now);
        }
        assert_eq!(penalties.lock().len(), SOURCES_MAX);
        assert_eq!(penalties.left(Source::Uid(most), now), None);
        penalties.tell(Source::Uid(most), SECOND, SECOND, now + SECOND);
        assert_eq!(penalties.left(Source::Uid(most), now + SECOND), Some(SECOND));
        assert_eq!(penalties.lock().len(), 1);
    }
}
