//! An assertion is good for one call that writes. Which ones were used, until they are over. No I/O, no clock.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::bounds::{USED_BY_ONE, USED_MAX};

/// Why an assertion is not good for a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It was used, or may have been: it is from the second of the start or before, or from a time that is forgotten.
    Used,
    /// Too many are remembered; some are forgotten within a minute.
    Full,
}

/// Which assertion of whom, as authd says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) jti: &'a str,
    pub(crate) user: &'a str,
    pub(crate) issued: i64,
    pub(crate) expires: i64,
}

/// The assertions that were used for a write and would still be valid.
#[derive(Debug)]
pub(crate) struct Used {
    /// Whoever remembers nothing of the time before must not believe what was signed in it.
    started: i64,
    /// What is over by this time is forgotten. A clock that steps back brings nothing of it back.
    forgotten: i64,
    by_end: BTreeSet<(i64, String, String)>,
    names: HashSet<String>,
    of_user: HashMap<String, usize>,
}

impl Used {
    /// Nothing is used yet; it is this second of UTC, in which one before may have used something.
    pub(crate) fn since(started: i64) -> Used {
        Used {
            started,
            forgotten: i64::MIN,
            by_end: BTreeSet::new(),
            names: HashSet::new(),
            of_user: HashMap::new(),
        }
    }

    /// Uses an assertion up.
    pub(crate) fn take(&mut self, named: Named<'_>, now: i64) -> Result<(), Unusable> {
        self.forget(now);
        let Named { jti, user, issued, expires } = named;
        if issued <= self.started || expires <= self.forgotten || self.names.contains(jti) {
            return Err(Unusable::Used);
        }
        let of_user = self.of_user.get(user).copied().unwrap_or(0);
        if self.names.len() >= USED_MAX || of_user >= USED_BY_ONE {
            return Err(Unusable::Full);
        }
        self.names.insert(jti.to_owned());
        self.of_user.insert(user.to_owned(), of_user + 1);
        self.by_end.insert((expires, jti.to_owned(), user.to_owned()));
        Ok(())
    }

    fn forget(&mut self, now: i64) {
        while self.by_end.first().is_some_and(|(expires, _, _)| *expires <= now)
            && let Some((expires, jti, user)) = self.by_end.pop_first()
        {
            self.forgotten = self.forgotten.max(expires);
            self.names.remove(&jti);
            if let Some(count) = self.of_user.get_mut(&user) {
                *count -= 1;
                if *count == 0 {
                    self.of_user.remove(&user);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_000;

    fn take(used: &mut Used, jti: &str, user: &str, at: i64, now: i64) -> Result<(), Unusable> {
        used.take(Named { jti, user, issued: at, expires: at + 60 }, now)
    }

    #[test]
    fn one_assertion_is_good_once_until_it_is_over() {
        let mut used = Used::since(START - 1);
        assert_eq!(take(&mut used, "a", "u", START, START), Ok(()));
        for now in [START, START + 59, START - 30] {
            assert_eq!(take(&mut used, "a", "u", START, now), Err(Unusable::Used), "{now}");
        }
        assert_eq!(take(&mut used, "b", "u", START, START), Ok(()));
    }

    #[test]
    fn what_was_signed_before_the_start_may_have_been_used() {
        let mut used = Used::since(START);
        for issued in [START - 1, START] {
            assert_eq!(take(&mut used, "a", "u", issued, START), Err(Unusable::Used), "{issued}");
        }
        assert_eq!(take(&mut used, "a", "u", START + 1, START + 1), Ok(()));
    }

    #[test]
    fn a_clock_that_steps_back_brings_no_used_one_back() {
        let mut used = Used::since(START - 1);
        assert_eq!(take(&mut used, "a", "u", START, START), Ok(()));
        assert_eq!(take(&mut used, "b", "u", START + 100, START + 100), Ok(()));
        assert!(used.names.len() == 1, "the first is forgotten");
        assert_eq!(take(&mut used, "a", "u", START, START + 10), Err(Unusable::Used));
    }

    #[test]
    fn the_table_has_a_bound_refuses_beyond_it_and_is_empty_again_in_time() {
        let mut used = Used::since(START - 1);
        let users = ["u1", "u2", "u3", "u4", "u5"];
        let taken = |used: &mut Used, prefix: &str, at: i64| {
            (0..20_000)
                .filter(|n| take(used, &format!("{prefix}{n}"), users[n % users.len()], at, at).is_ok())
                .count()
        };
        assert_eq!(taken(&mut used, "a", START), USED_MAX);
        assert_eq!(take(&mut used, "z", "u9", START, START), Err(Unusable::Full));
        assert_eq!((used.names.len(), used.by_end.len(), used.of_user.len()), (USED_MAX, USED_MAX, 5));
        assert_eq!(taken(&mut used, "b", START + 60), USED_MAX);
        assert_eq!(used.names.len(), USED_MAX);
    }

    #[test]
    fn one_user_leaves_places_for_others() {
        let mut used = Used::since(START - 1);
        let of_one = (0..USED_MAX).filter(|n| take(&mut used, &n.to_string(), "u", START, START).is_ok());
        assert_eq!(of_one.count(), USED_BY_ONE);
        assert_eq!(take(&mut used, "other", "v", START, START), Ok(()));
    }
}
