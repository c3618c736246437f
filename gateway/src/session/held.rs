//! A session that a connection holds, and how long what is known of it may be used.

use std::time::{Duration, Instant};

use super::{Known, Watch};
use crate::{
    access::{self, Rights},
    call::{Identity, Purpose},
    namespace::{self, Row},
    router::{Router, Rows, State},
};

/// So long before the end of its whole life a session is told.
const WARNING: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Held {
    pub(super) identity: Identity,
    pub(super) rights: Rights,
    watch: Watch,
    fresh_until: Instant,
    idle_until: Option<Instant>,
    /// The end of its whole life.
    ends: Instant,
    warned: bool,
    /// What it may use, and what that was worked out from.
    rows: Option<(State, Rows)>,
    /// What it is looked at for.
    pub(super) purpose: Purpose,
    pub(super) acts: bool,
    /// Whether it may be subscribed to events.
    pub(super) may_listen: bool,
}

impl Held {
    /// authd said this, at the latest, `now`; the watch stood thus when it was asked.
    pub(super) fn new(identity: Identity, purpose: Purpose, watch: Watch, now: Instant) -> Self {
        let ends = now + identity.absolute_left;
        let rights = Rights::of(&identity.acl);
        let acts = purpose != Purpose::Channel || !identity.is_token || access::takes_up(&identity);
        let subscribe = namespace::find("events", "subscribe").and_then(Row::plain);
        Self {
            may_listen: acts && subscribe.is_some_and(|subject| rights.allow(&subject)),
            rights,
            watch,
            fresh_until: identity.relied_upon_until(now),
            idle_until: identity.idle_until(now, None),
            ends,
            // Whoever takes up a session in its last minute hears only of its end.
            warned: identity.absolute_left <= WARNING,
            rows: None,
            purpose,
            acts,
            identity,
        }
    }

    /// What was told a while ago, with what is known of it since.
    pub(super) fn known(Known { identity, watch, asked, used }: Known) -> Self {
        let mut held = Self::new(identity, Purpose::Act, watch, asked);
        if let Some(used) = used {
            held.used(used);
        }
        held
    }

    /// The same session, as authd says now that it is; whether it may hear others than before.
    pub(super) fn renew(&mut self, identity: Identity, watch: Watch, now: Instant) -> bool {
        let others = self.identity.acl != identity.acl;
        let warned = self.warned;
        let rows = self.rows.take().filter(|_| !others);
        *self = Self { warned, rows, ..Self::new(identity, self.purpose, watch, now) };
        others
    }

    /// What it may use now. Worked out when something has changed, not for each request.
    pub(super) fn rows(&mut self, router: &Router) -> Rows {
        let state = router.state();
        match &self.rows {
            Some((then, rows)) if *then == state => Rows::clone(rows),
            Some(_) | None => {
                let rows = router.rows(&self.identity, self.rights);
                self.rows = Some((state, Rows::clone(&rows)));
                rows
            }
        }
    }

    pub(super) fn fresh(&self, watch: Watch, now: Instant) -> bool {
        self.watch == watch && now < self.fresh_until && !self.is_idle(now)
    }

    /// When [`Held::fresh`] is true no more, whatever the stream of ended sessions tells.
    pub(super) fn stale(&self) -> Instant {
        self.idle_until.map_or(self.fresh_until, |idle| idle.min(self.fresh_until))
    }

    pub(super) fn used(&mut self, now: Instant) {
        self.idle_until = self.identity.idle_until(now, Some(now));
    }

    /// Whether it was not used for too long, as far as is known here.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.idle_until.is_some_and(|until| until <= now)
    }

    /// When it is to be told that its end is near, if it was not.
    pub(super) fn warning(&self) -> Option<Instant> {
        (!self.warned).then(|| self.ends.checked_sub(WARNING)).flatten()
    }

    /// What is left, if this is the moment to tell it.
    pub(super) fn warn(&mut self, now: Instant) -> Option<Duration> {
        self.warning().filter(|then| *then <= now)?;
        self.warned = true;
        Some(self.ends.saturating_duration_since(now))
    }
}
