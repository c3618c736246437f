//! How long answers about an account wait: the more of late were refused, the longer. No I/O, no clock.
//!
//! Never a refusal: anybody could lock its owner out. Names of nobody are slowed like all others, and a
//! right password waits like a wrong one, or hanging up early would make guesses cheap again.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// Accounts that are remembered.
pub(super) const ACCOUNTS_MAX: usize = 65_536;
/// After the first failure; twice as long after each further one.
const FIRST_MS: u64 = 125;
/// Where there are too many, this part of them is forgotten at once.
const FORGOTTEN_PART: usize = 64;

/// The accounts that somebody was refused about.
#[derive(Debug)]
pub(super) struct Accounts {
    longest: Duration,
    quiet_ms: u64,
    most: usize,
    hasher: RandomState,
    /// By a keyed hash of the name: names are long and strangers choose them. Two that fall together are
    /// slowed together.
    failed: HashMap<u64, Failed>,
}

#[derive(Debug, Clone, Copy)]
struct Failed {
    last: u64,
    count: u8,
}

impl Accounts {
    /// Nobody yet. `longest` is the longest wait; after `quiet_ms` without a failure there is none.
    pub(super) fn new(longest: Duration, quiet_ms: u64, most: usize) -> Self {
        Self { longest, quiet_ms, most, hasher: RandomState::new(), failed: HashMap::with_capacity(most) }
    }

    /// How long an answer about this name waits.
    pub(super) fn wait(&self, name: &str, now: u64) -> Duration {
        let failed = self.failed.get(&self.key(name)).filter(|failed| !self.is_over(failed, now));
        let Some(failed) = failed else { return Duration::ZERO };
        let doubled = 1_u64.checked_shl(u32::from(failed.count.saturating_sub(1))).unwrap_or(u64::MAX);
        Duration::from_millis(FIRST_MS.saturating_mul(doubled)).min(self.longest)
    }

    /// Somebody was refused about this name.
    pub(super) fn fail(&mut self, name: &str, now: u64) {
        if self.longest.is_zero() {
            return;
        }
        let key = self.key(name);
        if self.failed.len() >= self.most && !self.failed.contains_key(&key) {
            self.make_room(now);
        }
        let over = self.failed.get(&key).is_none_or(|failed| self.is_over(failed, now));
        let failed = self.failed.entry(key).or_insert(Failed { last: now, count: 0 });
        failed.count = if over { 1 } else { failed.count.saturating_add(1) };
        failed.last = now;
    }

    fn is_over(&self, failed: &Failed, now: u64) -> bool {
        now.saturating_sub(failed.last) >= self.quiet_ms
    }

    /// Names that a database takes for one are one here, as where conversations are counted.
    fn key(&self, name: &str) -> u64 {
        self.hasher.hash_one(name.to_lowercase())
    }

    /// Those with the fewest failures go, of these the oldest.
    fn make_room(&mut self, now: u64) {
        let quiet = self.quiet_ms;
        self.failed.retain(|_, failed| now.saturating_sub(failed.last) < quiet);
        let surplus = (self.failed.len() + (self.most / FORGOTTEN_PART).max(1)).saturating_sub(self.most);
        let mut ranks: Vec<_> = self.failed.values().map(|failed| (failed.count, failed.last)).collect();
        let Some(last) = surplus.checked_sub(1).filter(|last| *last < ranks.len()) else { return };
        let threshold = *ranks.select_nth_unstable(last).1;
        let mut left = surplus;
        self.failed.retain(|_, failed| {
            let goes = left > 0 && (failed.count, failed.last) <= threshold;
            left -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(4);

    #[test]
    fn the_wait_doubles_up_to_the_longest_and_ends_after_a_quiet_time() {
        let mut accounts = Accounts::new(LONGEST, 600_000, 10);
        let mut waits = Vec::new();
        for _ in 0..8 {
            accounts.fail("alice", 1_000);
            waits.push(accounts.wait("Alice", 1_000).as_millis());
        }
        assert_eq!(waits, [125, 250, 500, 1_000, 2_000, 4_000, 4_000, 4_000]);
        assert_eq!(accounts.wait("bob", 1_000), Duration::ZERO);
        assert_eq!(accounts.wait("alice", 600_999), LONGEST);
        assert_eq!(accounts.wait("alice", 601_000), Duration::ZERO);
        accounts.fail("alice", 601_000);
        assert_eq!(accounts.wait("alice", 601_000).as_millis(), 125);
        for _ in 0..1_000 {
            accounts.fail("alice", 601_000);
        }
        assert_eq!(accounts.wait("alice", 601_000), LONGEST);
    }

    #[test]
    fn a_full_table_forgets_those_with_the_fewest_failures() {
        let mut accounts = Accounts::new(LONGEST, 600_000, 100);
        for _ in 0..3 {
            accounts.fail("alice", 0);
        }
        for number in 0..10_000 {
            accounts.fail(&format!("nobody{number}"), 1);
            assert!(accounts.failed.len() <= 100, "{number}");
        }
        assert_eq!(accounts.wait("nobody9999", 1).as_millis(), 125, "the newest has its place");
        assert_eq!(accounts.wait("alice", 1).as_millis(), 500);
    }

    #[test]
    fn without_a_longest_wait_nothing_is_remembered() {
        let mut accounts = Accounts::new(Duration::ZERO, 600_000, 10);
        accounts.fail("alice", 0);
        assert!(accounts.failed.is_empty());
    }
}
