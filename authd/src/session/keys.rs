//! Keys that open sessions, and what a revocation ends. No I/O, no clock of its own.
//!
//! A revocation is told with its time of day. It concerns what was opened with the key until then, not
//! what is opened after the key has been registered anew: revocations are told again at every new watch.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::Session;

/// Revocations that are remembered for logins under way.
const TOLD_MAX: usize = 4096;
/// Two clocks that are read one after the other may differ by this many seconds.
pub(super) const SLACK: u64 = 2;

/// A key's identity: SHA-256 of its SubjectPublicKeyInfo.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key that was proven at a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven {
    /// Which.
    pub fingerprint: Fingerprint,
    /// Whether who has full access may log in this way.
    pub full_access: bool,
}

/// The key that opened a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Which.
    pub fingerprint: Fingerprint,
    /// Whether the login that opened it was one for those with full access, too.
    pub full_access: bool,
    /// When certd was asked about it, in seconds of UTC: the session began later.
    pub proven_utc: u64,
}

/// A key that is its user's no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Which.
    pub fingerprint: Fingerprint,
    /// Whose it was.
    pub user: String,
    /// Since when, in seconds of UTC.
    pub utc: u64,
}

/// An instant by both clocks: one that is never set, and the time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since boot.
    pub at: u64,
    /// Seconds of UTC.
    pub utc: u64,
}

impl Moment {
    /// So much later, on the clock of sessions.
    pub fn after(self, passes: Duration) -> u64 {
        self.at.saturating_add(u64::try_from(passes.as_millis()).unwrap_or(u64::MAX))
    }

    /// What the time of day was at `at`, by the clock as it goes at this moment.
    pub(super) fn utc_at(self, at: u64) -> u64 {
        self.utc.saturating_sub(self.at.saturating_sub(at) / 1000)
    }

    /// The time of day of `utc`, said at this moment, as it was said then or would be said now: the
    /// earlier of the two. If the clock was set back since, what happens now is stamped earlier.
    fn earliest(self, utc: u64, now: Moment) -> u64 {
        let passed = now.at.saturating_sub(self.at) / 1000;
        let set_back = self.utc.saturating_add(passed).saturating_sub(now.utc);
        utc.saturating_sub(set_back).saturating_sub(SLACK)
    }
}

impl Session {
    /// From when on a revocation of its key concerns it; None: no key opened it.
    pub(super) fn revocable_from(&self, now: Moment) -> Option<u64> {
        let began = Moment { at: self.started, utc: self.started_utc };
        self.key.as_ref().map(|key| began.earliest(key.proven_utc, now))
    }

    /// Whether it ends because a key was revoked.
    pub(super) fn is_ended_by(&self, revoked: &Revoked, now: Moment) -> bool {
        self.key.as_ref().is_some_and(|key| key.fingerprint == revoked.fingerprint)
            && self.holder.who.is_user(&revoked.user)
            && self.revocable_from(now).is_some_and(|from| revoked.utc >= from)
    }
}

/// Logins by key that are under way, and what was revoked meanwhile.
#[derive(Debug, Default)]
pub(super) struct Openings {
    next: u64,
    /// When each began, and how many revocations had been told by then.
    open: BTreeMap<u64, (Moment, u64)>,
    told: VecDeque<Revoked>,
    /// Revocations that were told and are no longer remembered.
    forgotten: u64,
}

impl Openings {
    /// A login begins; its number.
    pub(super) fn begin(&mut self, now: Moment) -> u64 {
        self.next += 1;
        self.open.insert(self.next, (now, self.forgotten + self.told.len() as u64));
        self.next
    }

    /// When it began, in seconds of UTC.
    pub(super) fn began_utc(&self, number: u64) -> Option<u64> {
        self.open.get(&number).map(|(began, _)| began.utc)
    }

    /// It is over.
    pub(super) fn end(&mut self, number: u64) {
        self.open.remove(&number);
        if self.open.is_empty() {
            self.forgotten += self.told.len() as u64;
            self.told.clear();
        }
    }

    /// A key is revoked.
    pub(super) fn tell(&mut self, revoked: &Revoked) {
        if self.open.is_empty() {
            return;
        }
        if self.told.len() >= TOLD_MAX {
            self.told.pop_front();
            self.forgotten += 1;
        }
        self.told.push_back(revoked.clone());
    }

    /// Whether the key was revoked while the login was under way; what cannot be said any more is a yes.
    pub(super) fn is_revoked(&self, number: u64, user: &str, key: Fingerprint, now: Moment) -> bool {
        let Some((began, told_before)) = self.open.get(&number) else { return true };
        let Some(skip) = told_before.checked_sub(self.forgotten) else { return true };
        let from = began.earliest(began.utc, now);
        let mut since = self.told.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX));
        since.any(|revoked| revoked.fingerprint == key && revoked.user == user && revoked.utc >= from)
    }

    /// From when on revocations concern the oldest of them.
    pub(super) fn revocable_from(&self, now: Moment) -> Option<u64> {
        self.open.values().map(|(began, _)| began.earliest(began.utc, now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_800_000_000;
    const KEY: Fingerprint = Fingerprint([7; 32]);

    fn moment(seconds: u64) -> Moment {
        Moment { at: 1_000_000 + seconds * 1000, utc: NOON + seconds }
    }

    fn revoked(seconds: u64) -> Revoked {
        Revoked { fingerprint: KEY, user: "alice".into(), utc: NOON + seconds }
    }

    #[test]
    fn a_moment_is_the_earlier_of_what_the_clock_said_and_would_say() {
        let began = moment(100);
        for (what, now, earliest) in [
            ("the clock was left alone", moment(160), 100),
            ("it was set forward", Moment { utc: NOON + 4_000, ..moment(160) }, 100),
            ("it was set back by an hour and 40 s", Moment { utc: NOON - 3_480, ..moment(160) }, 100 - 3_640),
        ] {
            let expected = NOON.saturating_add_signed(earliest) - SLACK;
            assert_eq!(began.earliest(began.utc, now), expected, "{what}");
        }
    }

    #[test]
    fn what_is_revoked_during_a_login_concerns_that_login_and_none_that_begins_later() {
        let mut openings = Openings::default();
        let first = openings.begin(moment(100));
        openings.tell(&revoked(101));
        let second = openings.begin(moment(110));
        let is = |openings: &Openings, number| openings.is_revoked(number, "alice", KEY, moment(120));
        assert!(is(&openings, first) && !is(&openings, second));
        assert!(!openings.is_revoked(first, "bob", KEY, moment(120)));
        assert!(!openings.is_revoked(first, "alice", Fingerprint([8; 32]), moment(120)));
        openings.tell(&revoked(50));
        assert!(!is(&openings, second), "told again by a new watch, from before it began");
        openings.tell(&revoked(120));
        assert!(is(&openings, second));
        assert_eq!(openings.revocable_from(moment(120)), Some(NOON + 100 - SLACK));
        openings.end(first);
        assert!(is(&openings, first), "over");
        assert!(is(&openings, second));
        openings.end(second);
        assert_eq!((openings.told.len(), openings.open.len()), (0, 0));
        assert_eq!(openings.revocable_from(moment(120)), None);
        let third = openings.begin(moment(130));
        assert!(!is(&openings, third));
    }

    #[test]
    fn a_login_whose_revocations_are_forgotten_is_refused() {
        let mut openings = Openings::default();
        let first = openings.begin(moment(100));
        for _ in 0..TOLD_MAX {
            openings.tell(&Revoked { user: "bob".into(), ..revoked(101) });
        }
        let is = |openings: &Openings, number| openings.is_revoked(number, "alice", KEY, moment(120));
        assert!(!is(&openings, first));
        let second = openings.begin(moment(102));
        openings.tell(&Revoked { user: "bob".into(), ..revoked(102) });
        assert!(is(&openings, first) && !is(&openings, second));
        assert_eq!(openings.told.len(), TOLD_MAX);
    }
}
