//! What no request waits for: events, reports of progress, and calls that take long. They go on by the same rule as
//! requests are answered: the session is known to live, with the rights that it had when it was looked at last.

use std::time::{Duration, Instant};

use super::{Action, Busy, Session, State, UnderWay, Waits, Watch};
use crate::router::Router;

/// Between two questions to authd that nobody's request asks for, at least.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

impl Session {
    /// Whether the session is known to live with the rights it had when it was looked at last.
    pub fn relied_upon(&self, now: Instant, watch: Watch) -> bool {
        match &self.state {
            State::Held(held) => watch.is_some() && held.fresh(watch, now),
            State::Anonymous | State::Closed => false,
        }
    }

    /// When authd is to be asked whether what goes on for a long time still may.
    pub(super) fn looks_at_calls(&self) -> Option<Instant> {
        let State::Held(held) = &self.state else { return None };
        let may_ask = any_stops(&self.under_way) && !self.waits_for_authd() && self.not_before.is_none();
        may_ask.then(|| held.stale())
    }

    /// Whether events and reports of progress that wait can be sent now, or authd be asked whether they may.
    pub fn takes_events(&self, now: Instant, watch: Watch) -> bool {
        match &self.state {
            State::Held(held) if watch.is_some() => {
                let may_ask = !self.waits_for_authd() && self.not_before.is_none_or(|then| now >= then);
                held.fresh(watch, now) || may_ask
            }
            // What anyone may hear.
            State::Anonymous => self.ears.is_some(),
            State::Held(_) | State::Closed => false,
        }
    }

    /// Time has passed.
    pub(super) fn look_at_calls(&mut self, now: Instant, watch: Watch, actions: &mut Vec<Action>) {
        if self.looks_at_calls().is_some_and(|then| then <= now) {
            // While the stream of ended sessions is down, what authd says is relied upon by nobody.
            self.not_before = Some(now + AGAIN);
            self.look(watch, actions);
        }
    }

    /// Events and progress are sent to a session that is known to live: by the same rule as requests are
    /// answered.
    pub(super) fn published(
        &mut self,
        now: Instant,
        watch: Watch,
        router: &Router,
        actions: &mut Vec<Action>,
    ) {
        let takes = self.takes_events(now, watch);
        let to_anyone = matches!(self.state, State::Anonymous) && takes;
        if self.relied_upon(now, watch) || to_anyone {
            self.send(router, actions);
        } else if takes {
            self.look(watch, actions);
        }
    }

    /// Asks authd for the session, for what no request waits for.
    fn look(&mut self, watch: Watch, actions: &mut Vec<Action>) {
        if let State::Held(held) = &self.state
            && watch.is_some()
        {
            actions.push(Action::Check(held.identity.token.clone(), held.purpose));
            self.busy = Busy::Check(Waits::Others);
        }
    }

    /// Has what waits for a session that lives sent.
    pub(super) fn send(&mut self, router: &Router, actions: &mut Vec<Action>) {
        let may_listen = matches!(&self.state, State::Held(held) if held.may_listen);
        if may_listen || self.ears.is_some() {
            self.hears(router, actions);
            actions.push(Action::Deliver);
        }
        if any_stops(&self.under_way) {
            actions.push(Action::Report);
        }
    }
}

/// Whether what can take long is under way.
fn any_stops(under_way: &[UnderWay]) -> bool {
    under_way.iter().any(|waiting| waiting.stops.is_some())
}
