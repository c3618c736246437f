//! Requests about channels: of somebody whose session is known to live, or of nobody in particular.

use std::time::Instant;

use super::{Action, Again, Question, Session, State, Ticket, UnderWay};
use crate::{
    call::{Address, ChannelCall, Error, Identity, Reply, Verb},
    channels::{Decision, Speech},
    rate::Rate,
    router::{Hearing, Router},
};

/// What a connection needs that has to do with events or channels.
#[derive(Debug)]
pub(super) struct Ears {
    /// When it was looked at last what it may hear.
    heard: Hearing,
    speech: Speech,
    addresses: Rate,
}

/// Addresses that may be subscribed to or left, at once and in a second: each is a command to what carries messages.
const ADDRESSES: u32 = 512;
const ADDRESSES_A_SECOND: u32 = 100;

impl Ears {
    fn new(router: &Router, publishes: u32, now: Instant) -> Self {
        Self {
            heard: router.hearing(),
            speech: Speech::new(publishes, now),
            addresses: Rate::new(ADDRESSES_A_SECOND, ADDRESSES, now),
        }
    }
}

impl Session {
    /// It subscribes to what it may hear now, or publishes.
    pub(super) fn ears(&mut self, router: &Router, now: Instant) -> &mut Ears {
        let publishes = self.settings.publishes;
        self.ears.get_or_insert_with(|| Box::new(Ears::new(router, publishes, now)))
    }

    /// It is subscribed to something that it did not ask for.
    pub fn listens(&mut self, router: &Router, now: Instant) {
        self.ears(router, now);
    }

    /// Before anything is sent: whose it is may have changed.
    pub(super) fn hears(&mut self, router: &Router, actions: &mut Vec<Action>) {
        let Some(ears) = &mut self.ears else { return };
        let now = router.hearing();
        let then = std::mem::replace(&mut ears.heard, now);
        let again = Again { events: then.events != now.events, channels: then.channels != now.channels };
        if again.events || again.channels {
            actions.push(Action::HearAgain(again));
        }
    }

    /// Who it is now, as far as is known.
    pub fn identity(&self) -> Option<&Identity> {
        match &self.state {
            State::Held(held) => Some(&held.identity),
            State::Anonymous | State::Closed => None,
        }
    }

    /// Whether it may hear what is said there.
    pub fn may_hear_at(&self, router: &Router, at: &Address) -> Decision {
        match self.state {
            State::Closed => Decision::Deny,
            State::Anonymous | State::Held(_) => router.decide(self.identity(), at, &Verb::Subscribe),
        }
    }

    pub(super) fn channel(
        &mut self,
        ticket: Ticket,
        call: ChannelCall,
        now: Instant,
        router: &Router,
        actions: &mut Vec<Action>,
    ) {
        let may = |session: &Self, at: &Address, verb: &Verb| router.decide(session.identity(), at, verb);
        let ask = |question| Ok(Action::Ask(ticket, Box::new(question)));
        let addresses = match &call {
            ChannelCall::Subscribe(_) | ChannelCall::Unsubscribe(_) => 1,
            ChannelCall::Resubscribe(all) => u32::try_from(all.len()).unwrap_or(u32::MAX),
            ChannelCall::Publish(..) | ChannelCall::Custom(_) => 0,
        };
        if addresses > 0 && !self.ears(router, now).addresses.take(addresses, now) {
            actions.push(Action::Reply(ticket, Reply::Error(Error::TooMany)));
            return;
        }
        let action = match call {
            ChannelCall::Subscribe(at) => match may(self, &at, &Verb::Subscribe) {
                Decision::Allow => Ok(Action::Join(ticket, self.holds(), vec![(at, true)])),
                Decision::Deny | Decision::Unsupported => Err(Error::Forbidden),
                asks @ Decision::Ask(_) => ask(Question::Join(vec![(at, asks)])),
            },
            ChannelCall::Resubscribe(all) => {
                let each = all.into_iter().map(|at| {
                    let decision = may(self, &at, &Verb::Subscribe);
                    (at, decision)
                });
                let each: Vec<_> = each.collect();
                match each.iter().any(|(_, decision)| matches!(decision, Decision::Ask(_))) {
                    true => ask(Question::Join(each)),
                    false => {
                        let each = each.into_iter().map(|(at, decision)| (at, decision == Decision::Allow));
                        Ok(Action::Join(ticket, self.holds(), each.collect()))
                    }
                }
            }
            ChannelCall::Unsubscribe(at) => Ok(Action::Part(ticket, at)),
            ChannelCall::Publish(at, payload) => {
                match self.ears(router, now).speech.says(payload.0.len(), now) {
                    false => Err(Error::TooMany),
                    true => match may(self, &at, &Verb::Publish) {
                        Decision::Allow => Ok(Action::Publish(ticket, at, payload)),
                        Decision::Deny | Decision::Unsupported => Err(Error::Forbidden),
                        Decision::Ask(handler) => ask(Question::Publish(handler, at, payload)),
                    },
                }
            }
            ChannelCall::Custom(custom) => {
                match self.ears(router, now).speech.says(custom.message.0.len(), now) {
                    false => Err(Error::TooMany),
                    true => match may(self, &custom.at, &Verb::Action(custom.action.clone())) {
                        // Only a handler takes any.
                        Decision::Allow | Decision::Unsupported => Err(Error::NotFound),
                        Decision::Deny => Err(Error::Forbidden),
                        Decision::Ask(handler) => ask(Question::Custom(handler, custom)),
                    },
                }
            }
        };
        match action {
            Ok(action) => {
                self.under_way.push(UnderWay { ticket, session: self.holds(), stops: None });
                actions.push(action);
            }
            Err(error) => actions.push(Action::Reply(ticket, Reply::Error(error))),
        }
    }
}
