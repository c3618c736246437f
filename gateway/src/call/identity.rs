//! Who a session is, and what it may do.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Address, ChannelName, Facility, Pk, SessionId, Token};

/// The kind of local users.
pub const USER: &str = "user";

/// Who a session is, and what it may do, as authd said at one moment.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The session's name.
    pub session: SessionId,
    /// The session's token.
    pub token: Token,
    /// Whose it is.
    pub who: Arc<Who>,
    /// It may act on the host at all: a token of a user who is in no access group may not, whatever its entries say.
    pub has_access: bool,
    /// It was opened by the token API.
    pub is_token: bool,
    /// It was opened by the dialect of channels: nobody was told its token.
    pub is_channel: bool,
    /// Where one connection may hold it at a time, the number of the one that took it up last; else 0.
    pub turn: u64,
    /// ACL entries of the holder.
    pub acl: Vec<String>,
    /// Its beginning, and when it ends if nobody uses it, in seconds of UTC.
    pub issued: u64,
    /// See above.
    pub expires: u64,
    /// The idle clock: its whole length and what was left of it; `None` has no idle clock.
    pub idle: Option<Idle>,
    /// What was left of the session's whole life.
    pub absolute_left: Duration,
    /// How long this may be relied upon.
    pub rights: Duration,
}

impl Identity {
    /// Until when what authd said at `asked` may be relied upon.
    pub fn relied_upon_until(&self, asked: Instant) -> Instant {
        asked + self.rights.min(self.absolute_left)
    }

    /// When it has not been used for too long, if that can be: `used` is its last use since authd was asked.
    pub fn idle_until(&self, asked: Instant, used: Option<Instant>) -> Option<Instant> {
        self.idle.map(|idle| used.map_or(asked + idle.left, |used| used + idle.after))
    }
}

/// A person or a thing, whichever its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// What sort of identity it is: [`USER`] for a local user, else as authd's configuration names it.
    pub kind: Box<str>,
    /// The user's name, or what others are called.
    pub user: Box<str>,
    /// In the words of authd's back end: of a local user, the uid in decimal.
    pub auth_id: Box<str>,
}

impl Who {
    #[cfg(test)]
    pub(crate) fn alice() -> Arc<Self> {
        Arc::new(Self { kind: USER.into(), user: "alice".into(), auth_id: "1000".into() })
    }

    /// Which of its kind's channel is its own.
    pub fn own_pk(&self) -> &str {
        if *self.kind == *USER { &self.user } else { &self.auth_id }
    }

    /// Whether messages there are for this identity alone.
    pub fn is_own(&self, at: &Address) -> bool {
        at.channel.as_str() == &*self.kind && at.pk.as_ref().is_some_and(|pk| pk.as_str() == self.own_pk())
    }

    /// Where that is; None for a name that is no pk.
    pub fn own(&self, facility: &Facility) -> Option<Address> {
        let (channel, pk) = (ChannelName::parse(&self.kind)?, Pk::parse(self.own_pk())?);
        Some(Address { channel, pk: Some(pk), facility: facility.clone() })
    }

    /// Whether both are the same person or thing.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.kind, &self.auth_id) == (&other.kind, &other.auth_id)
    }
}

/// A session's idle clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idle {
    /// Without a successful request for this long, the session ends.
    pub after: Duration,
    /// What was left when authd said so.
    pub left: Duration,
}
