//! Requests about channels: of somebody whose session is known to live, or of nobody in particular.

use std::time::Instant;

use super::{Action, Question, Session, State, Ticket, UnderWay};
use crate::{
    call::{Address, ChannelCall, Error, Identity, Reply, Verb},
    channels::Decision,
    router::{self, Router},
};

/// What a connection needs that has to do with events or channels.
#[derive(Debug)]
pub(super) struct Ears {
    /// When it was looked at last what it may hear.
    pub(super) heard: router::State,
    rate: Rate,
}

/// How many messages it may publish now.
#[derive(Debug)]
struct Rate {
    left: u32,
    at: Instant,
}

impl Rate {
    /// One of `most` in a second.
    fn take(&mut self, most: u32, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at);
        let more = passed.as_millis().saturating_mul(most.into()) / 1_000;
        if more > 0 {
            self.left = self.left.saturating_add(u32::try_from(more).unwrap_or(most)).min(most);
            self.at = now;
        }
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }
}

impl Session {
    /// It subscribes to what it may hear now, or publishes.
    pub(super) fn ears(&mut self, router: &Router, now: Instant) -> &mut Ears {
        let left = self.settings.publishes;
        self.ears
            .get_or_insert_with(|| Box::new(Ears { heard: router.state(), rate: Rate { left, at: now } }))
    }

    /// It is subscribed to something that it did not ask for.
    pub fn listens(&mut self, router: &Router, now: Instant) {
        self.ears(router, now);
    }

    /// Before anything is sent: whose it is may have changed.
    pub(super) fn hears(&mut self, router: &Router, actions: &mut Vec<Action>) {
        if let Some(ears) = &mut self.ears
            && ears.heard != router.state()
        {
            ears.heard = router.state();
            actions.push(Action::HearAgain);
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
        let most = self.settings.publishes;
        let may = |session: &Self, at: &Address, verb: &Verb| router.decide(session.identity(), at, verb);
        let ask = |question| Ok(Action::Ask(ticket, Box::new(question)));
        let action = match call {
            ChannelCall::Subscribe(at) => {
                self.ears(router, now);
                match may(self, &at, &Verb::Subscribe) {
                    Decision::Allow => Ok(Action::Join(ticket, self.holds(), vec![(at, true)])),
                    Decision::Deny | Decision::Unsupported => Err(Error::Forbidden),
                    asks @ Decision::Ask(_) => ask(Question::Join(vec![(at, asks)])),
                }
            }
            ChannelCall::Resubscribe(all) => {
                self.ears(router, now);
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
            ChannelCall::Publish(at, payload) => match self.ears(router, now).rate.take(most, now) {
                false => Err(Error::TooMany),
                true => match may(self, &at, &Verb::Publish) {
                    Decision::Allow => Ok(Action::Publish(ticket, at, payload)),
                    Decision::Deny | Decision::Unsupported => Err(Error::Forbidden),
                    Decision::Ask(handler) => ask(Question::Publish(handler, at, payload)),
                },
            },
            ChannelCall::Custom(custom) => match self.ears(router, now).rate.take(most, now) {
                false => Err(Error::TooMany),
                true => match may(self, &custom.at, &Verb::Action(custom.action.clone())) {
                    // Only a handler takes any.
                    Decision::Allow | Decision::Unsupported => Err(Error::NotFound),
                    Decision::Deny => Err(Error::Forbidden),
                    Decision::Ask(handler) => ask(Question::Custom(handler, custom)),
                },
            },
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
