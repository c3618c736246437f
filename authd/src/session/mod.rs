//! Sessions: when one is alive and what moves its clocks. No I/O, no clock of its own.
//!
//! Times are milliseconds of a clock that counts from boot, sleep included, so that neither a restart
//! of authd nor a step of the wall clock moves a deadline. The reading order is table, store, keys, clock,
//! shared, identity.

mod table;

mod clock;
mod keys;
mod store;

mod shared;

mod identity;

use std::sync::Arc;

pub use clock::{Boot, Clock, utc};
pub use identity::{Identity, Owner, USER};
pub use keys::{Fingerprint, Key, Moment, Proven, Revoked};
pub use store::StoreError;
pub use table::{AtLimit, Bounds, KeyLogin, Listed, News, Scope, Sessions, Terms, Used, Watch};

use crate::secret::TokenHash;

/// What a client speaks: what its session is opened by, and what it may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Dialect {
    /// Envelopes.
    #[default]
    Sysadm,
    /// The token API, whose sessions are handed to other programs.
    Token,
    /// Channels, whose sessions end with the credential that opened them.
    Channel,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sysadm, Self::Token, Self::Channel];

    /// Its word in the store, in lists and in audit records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sysadm => "sysadm",
            Self::Token => "token",
            Self::Channel => "channel",
        }
    }
}

/// The method of those whom an issuer of JWTs speaks for.
pub const BY_JWT: &str = "jwt";

/// Names a session without being a key to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 16]);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

/// Who logged in, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holder {
    /// Who.
    pub who: Identity,
    /// The method's name.
    pub method: String,
    /// The client dialect.
    pub dialect: Dialect,
    /// Where from, as the gateway reported it.
    pub source: String,
}

/// A session, alive or not: ask [`Session::standing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// What its token hashes to.
    pub token: TokenHash,
    /// The registered key that opened it, if one did.
    /// Boxed: most sessions have none.
    pub key: Option<Box<Key>>,
    /// Whose it is: one in memory for all sessions that are alike in that.
    pub holder: Arc<Holder>,
    /// The ACL entries that it was given at its beginning; None: those that its holder has. Who is no local user
    /// has no others.
    pub acl: Option<Arc<[String]>>,
    /// Its beginning, in seconds of UTC: shown, and compared with when its key was revoked.
    pub started_utc: u64,
    /// Its beginning.
    pub started: u64,
    /// The last successful request.
    pub last_used: u64,
    /// How long it lives without a request; 0: the idle clock is off.
    pub idle_ms: u64,
    /// When it ends in any case.
    pub ends: u64,
}

/// Whether a session is alive at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Alive, with what is left.
    Live {
        /// Of the idle clock, or of the whole life when that clock is off.
        idle_left: u64,
        /// Of the whole life.
        absolute_left: u64,
    },
    /// Without a request for too long.
    Idle,
    /// At the end of its whole life.
    Expired,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Idle too long.
    Idle,
    /// The end of its whole life.
    Expired,
    /// Ended by its holder.
    Cleared,
    /// Ended by somebody else.
    Revoked,
    /// The key that opened it was revoked.
    KeyRevoked,
    /// Its user is gone, is another by now, lost all access, or has full access by now, which its login was not
    /// for; its kind of identity is configured no more.
    UserGone,
    /// Its holder logged in once more and had as many sessions as may be.
    Replaced,
    /// Whoever logged in was gone before the answer.
    Untaken,
    /// Its login could not be recorded although it must be: nobody has heard of it.
    Unrecorded,
    /// The host was started anew.
    Reboot,
}

impl EndReason {
    /// Those that are recorded.
    pub const RECORDED: [Self; 9] = [
        Self::Idle,
        Self::Expired,
        Self::Cleared,
        Self::Revoked,
        Self::KeyRevoked,
        Self::UserGone,
        Self::Replaced,
        Self::Untaken,
        Self::Reboot,
    ];

    /// Its word in audit records; None: it is not recorded, as its login was not.
    pub fn code(self) -> Option<&'static str> {
        match self {
            Self::Idle => Some("idle"),
            Self::Expired => Some("expired"),
            Self::Cleared => Some("cleared"),
            Self::Revoked => Some("revoked"),
            Self::KeyRevoked => Some("key-revoked"),
            Self::UserGone => Some("user-gone"),
            Self::Replaced => Some("replaced"),
            Self::Untaken => Some("untaken"),
            Self::Unrecorded => None,
            Self::Reboot => Some("reboot"),
        }
    }
}

/// A session that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub session: SessionId,
    /// Why.
    pub reason: EndReason,
}

/// Reports of activity may be this late: an idle session is forgotten only so long after its deadline.
/// Until then it is refused but a report of a request in time still brings it back.
const REPORT_GRACE_MS: u64 = 2_000;

impl Session {
    /// Whether it is alive at `now`, to the millisecond.
    pub fn standing(&self, now: u64) -> Standing {
        let absolute_left = self.ends.saturating_sub(now);
        if absolute_left == 0 {
            return Standing::Expired;
        }
        if self.idle_ms == 0 {
            return Standing::Live { idle_left: absolute_left, absolute_left };
        }
        match self.idle_deadline().saturating_sub(now) {
            0 => Standing::Idle,
            idle_left => Standing::Live { idle_left, absolute_left },
        }
    }

    /// Counts a successful request of `ago` milliseconds before `now`; whether it moved the clock. Without
    /// an idle clock there is none to move.
    ///
    /// A request counts if the session was alive when it was made. One from before the last known
    /// request changes nothing, one from the future cannot be said.
    pub fn used(&mut self, ago: u64, now: u64) -> bool {
        let used = now.saturating_sub(ago);
        let in_time = self.idle_ms != 0 && used < self.ends && used < self.idle_deadline();
        if !in_time || used <= self.last_used {
            return false;
        }
        self.last_used = used;
        true
    }

    /// Why it is to be forgotten at `now`, if it is.
    pub fn due(&self, now: u64) -> Option<EndReason> {
        match self.standing(now) {
            Standing::Expired => Some(EndReason::Expired),
            Standing::Idle if now >= self.idle_deadline().saturating_add(REPORT_GRACE_MS) => {
                Some(EndReason::Idle)
            }
            Standing::Idle | Standing::Live { .. } => None,
        }
    }

    /// Before this instant it is not [`Session::due`], whatever becomes of it.
    pub fn not_due_before(&self) -> u64 {
        match self.idle_ms {
            0 => self.ends,
            _ => self.ends.min(self.idle_deadline().saturating_add(REPORT_GRACE_MS)),
        }
    }

    /// When it ends if nobody uses it any more.
    pub fn ends_unused(&self) -> u64 {
        if self.idle_ms == 0 { self.ends } else { self.ends.min(self.idle_deadline()) }
    }

    fn idle_deadline(&self) -> u64 {
        self.last_used.saturating_add(self.idle_ms)
    }
}

#[cfg(test)]
mod key_tests;
#[cfg(test)]
mod rules_tests;
#[cfg(test)]
mod tests;
