//! How much one source may write into the log: a line for each of its first refusals in a second, then
//! how many there were beside.
//!
//! Refusals that need no waiting cost their source nothing, and thousands a second would fill the disk.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::conversation::SourceKey;

/// Lines of one source in each [`SPAN`].
const LINES: u32 = 20;
/// What is counted together.
const SPAN: Duration = Duration::from_secs(1);
/// Sources that are counted by themselves; those beyond share one count.
const SOURCES: usize = 1024;

/// Lines of late, by source; None: all sources that found no room.
#[derive(Debug, Default)]
pub(super) struct Lines(Mutex<HashMap<Option<SourceKey>, Span>>);

#[derive(Debug)]
struct Span {
    since: Instant,
    said: u32,
    unsaid: u64,
}

/// What to do about a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Say {
    /// Write it.
    Line,
    /// Write how many of these were not written, at that time; not the line.
    SumUp(Option<SourceKey>, Instant),
    /// Nothing: it is counted.
    Nothing,
}

impl Lines {
    /// Counts a line.
    pub(super) fn count(&self, source: SourceKey, now: Instant) -> Say {
        let mut spans = self.spans();
        let mut key = Some(source);
        if spans.len() >= SOURCES && !spans.contains_key(&key) {
            spans.retain(|_, span| span.unsaid > 0 || now.duration_since(span.since) < SPAN);
            if spans.len() >= SOURCES {
                key = None;
            }
        }
        let span = spans.entry(key.clone()).or_insert(Span { since: now, said: 0, unsaid: 0 });
        if now.duration_since(span.since) >= SPAN {
            // What is unsaid stays for whoever sums it up.
            *span = Span { since: now, said: 0, unsaid: span.unsaid };
        }
        if span.said < LINES {
            span.said += 1;
            return Say::Line;
        }
        span.unsaid += 1;
        if span.unsaid == 1 { Say::SumUp(key, span.since + SPAN) } else { Say::Nothing }
    }

    /// How many lines were not written; from here on they count from zero.
    pub(super) fn unsaid(&self, key: &Option<SourceKey>) -> u64 {
        self.spans().get_mut(key).map_or(0, |span| std::mem::take(&mut span.unsaid))
    }

    fn spans(&self) -> MutexGuard<'_, HashMap<Option<SourceKey>, Span>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: SourceKey = SourceKey::Uid(1);

    #[test]
    fn twenty_lines_a_second_and_then_one_sum() {
        let (lines, now) = (Lines::default(), Instant::now());
        for _ in 0..LINES {
            assert_eq!(lines.count(ONE, now), Say::Line);
        }
        assert_eq!(lines.count(ONE, now), Say::SumUp(Some(ONE), now + SPAN));
        assert_eq!(lines.count(ONE, now + SPAN / 2), Say::Nothing);
        assert_eq!(lines.count(SourceKey::Uid(2), now), Say::Line, "another source");
        assert_eq!(lines.count(ONE, now + SPAN), Say::Line, "the next second");
        assert_eq!(lines.unsaid(&Some(ONE)), 2);
        assert_eq!(lines.unsaid(&Some(ONE)), 0);
    }

    #[test]
    fn sources_beyond_the_table_share_and_old_ones_make_room() {
        let (lines, now) = (Lines::default(), Instant::now());
        let from =
            |number: usize, now| lines.count(SourceKey::Uid(u32::try_from(number).expect("small")), now);
        for number in 0..SOURCES {
            assert_eq!(from(number, now), Say::Line);
        }
        for number in 0..20 {
            assert_eq!(from(SOURCES + number, now), Say::Line);
        }
        assert_eq!(from(SOURCES + 20, now), Say::SumUp(None, now + SPAN));
        assert_eq!(from(0, now), Say::Line, "one that has its own");
        assert_eq!(from(SOURCES + 21, now + SPAN), Say::Line);
        assert!(lines.spans().len() <= 3, "{}", lines.spans().len());
    }
}
