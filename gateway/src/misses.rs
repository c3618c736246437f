//! How often a source asked about tokens that open nothing.
//!
//! Nobody guesses 122 random bits: this bounds what a source can make us look for, and shows in the log. The
//! sources are often services that pass on what they were shown, so it is no penalty and stops no login.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::gate::Source;

/// Misses are counted for so long.
const WINDOW: Duration = Duration::from_secs(600);
/// The most sources of one window; those beyond are not counted.
const SOURCES_MAX: usize = 65_536;

/// The counts of one window.
#[derive(Debug)]
pub struct Misses {
    most: u32,
    window: Mutex<(Option<Instant>, HashMap<Source, u32>)>,
}

impl Misses {
    /// So many of one source within ten minutes are told for what they are.
    pub fn new(most: u32) -> Self {
        Self { most, window: Mutex::default() }
    }

    /// One more. If there were too many, how long until they are forgotten.
    pub fn count(&self, source: Source, now: Instant) -> Option<Duration> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, counts) = &mut *window;
        let since = match *began {
            Some(since) if now.saturating_duration_since(since) < WINDOW => since,
            Some(_) | None => {
                drop(mem::take(counts));
                *began = Some(now);
                now
            }
        };
        if counts.len() >= SOURCES_MAX && !counts.contains_key(&source) {
            return None;
        }
        let count = counts.entry(source).or_default();
        *count = count.saturating_add(1);
        if *count == self.most.saturating_add(1) {
            tracing::warn!(%source, misses = self.most, "too many unknown tokens from there");
        }
        (*count > self.most).then(|| WINDOW.saturating_sub(now.saturating_duration_since(since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_its_own_count_until_the_window_is_over() {
        let (misses, start) = (Misses::new(2), Instant::now());
        let (one, other) = (Source::Uid(1), Source::Uid(2));
        assert_eq!([0, 1].map(|s| misses.count(one, start + Duration::from_secs(s))), [None, None]);
        let late = start + Duration::from_secs(100);
        assert_eq!(misses.count(one, late), Some(Duration::from_secs(500)));
        assert_eq!(misses.count(other, late), None);
        assert_eq!(misses.count(one, start + WINDOW), None);
    }

    #[test]
    fn the_table_is_bounded() {
        let (misses, start) = (Misses::new(0), Instant::now());
        for uid in 0..70_000 {
            let told = misses.count(Source::Uid(uid), start);
            assert_eq!(told.is_some(), (uid as usize) < SOURCES_MAX, "{uid}");
        }
        assert!(misses.count(Source::Uid(1), start).is_some(), "those that are counted still are");
    }
}
