//! What a connection has to do with channels: its subscriptions, what it publishes, and whose all that is.

use std::sync::{Arc, PoisonError};

use futures_util::{FutureExt, future::join_all};

use tokio::time::timeout;

use super::{Close, Connection, Echo, Frames, Opened, Told};
use crate::{
    backend::Failure,
    call::{Address, Answer, Call, ChannelAnswer, EndReason, Error, Payload, Reply, SessionId, Verb, Who},
    channels::{Decision, EngineError, NotSure, Seat},
    dialect::{self, channel, sysadm},
    hub::{Owner, Refused},
    session::{Again, Event, Ticket},
    transport::Shared,
};

/// Subscriptions of either kind, and whose they are.
pub(super) struct Sitting {
    pub(super) seat: Seat,
    /// Events are a session's.
    pub(super) events_of: Option<SessionId>,
    /// Channels are an identity's, or of nobody yet.
    who: Option<Arc<Who>>,
}

/// Each address, how many subscriptions there were then, or why there is none.
pub(super) type Joined = Vec<(Address, Result<usize, Error>)>;
/// Where messages may be missing, and why.
pub(super) type Missed = (Address, NotSure);

impl Connection {
    /// A request that came with the connection.
    pub(super) fn ask(&mut self, echo: Echo<'_>, call: Call) {
        self.ticket = self.ticket.wrapping_add(1);
        self.step(Event::Request { ticket: self.ticket, subject: None, call }, Some((self.ticket, echo)));
    }

    /// Where subscriptions are kept, as soon as there are any.
    pub(super) fn sit(&mut self) -> &mut Sitting {
        let who = self.session.identity().map(|identity| Arc::clone(&identity.who));
        let owner = owner(who.as_deref(), self.client.source);
        let shared = &self.shared;
        self.sitting.get_or_insert_with(|| {
            let seat = Seat::new(&shared.hub, shared.engine.clone(), owner, shared.limits.subscriptions);
            Box::new(Sitting { seat, events_of: None, who })
        })
    }

    /// Before anything is done for whoever the session says it is now: what was another's is over.
    pub(super) fn settle(&mut self) {
        self.appear();
        let Some(sitting) = &mut self.sitting else { return };
        if sitting.events_of.is_some() && sitting.events_of != self.session.listener() {
            sitting.seat.keep_only(|_| false);
            sitting.events_of = None;
        }
        let now = self.session.identity().map(|identity| &identity.who);
        if !same(sitting.who.as_ref(), now) {
            // What anyone may hear is heard by whoever logs in, too.
            let mut over = match sitting.who {
                Some(_) => sitting.seat.keep_channels(|_| false),
                None => {
                    let router = &self.shared.router;
                    sitting
                        .seat
                        .keep_channels(|at| router.decide(None, at, &Verb::Subscribe) == Decision::Allow)
                }
            };
            sitting.who = now.cloned();
            over.extend(sitting.seat.belongs_to(owner(now.map(|who| &**who), self.client.source)));
            if !self.session.is_over() {
                self.tell_unsubscribed(&over);
            }
        }
        self.sitting.take_if(|sitting| sitting.seat.is_idle());
    }

    /// Nothing more is said there.
    pub(super) fn lost(&mut self, at: &Address) {
        let Some(sitting) = &mut self.sitting else { return };
        if sitting.seat.is_in(at) {
            sitting.seat.leave(at);
            self.tell_unsubscribed(std::slice::from_ref(at));
        }
    }

    pub(super) fn tell_unsubscribed(&mut self, over: &[Address]) {
        let left = self.sitting.as_ref().map_or(0, |sitting| sitting.seat.channels().len());
        for (place, at) in over.iter().enumerate() {
            self.send(channel::encode_unsubscribed(at, left + over.len() - 1 - place));
        }
    }

    /// What was decided for one session is not done for another, nor for nobody: several requests can be decided before
    /// the first of them is carried out.
    pub(super) fn join(&mut self, ticket: Ticket, decided_for: Option<SessionId>, all: Vec<(Address, bool)>) {
        let still = self.session.holds() == decided_for && !self.session.is_over();
        let seat = &mut self.sit().seat;
        let mut joined = Vec::with_capacity(all.len());
        let mut waits = Vec::new();
        let mut missed = Vec::new();
        for (at, allowed) in all {
            let result = match allowed && still {
                false => Err(Error::Forbidden),
                true => match seat.enter(&at) {
                    Ok(entered) => {
                        let mut entered = Box::pin(entered);
                        match (&mut entered).now_or_never() {
                            Some(Ok(())) => {}
                            Some(Err(why)) => missed.push((at.clone(), why)),
                            None => waits.push(entered.map({
                                let at = at.clone();
                                |entered| entered.err().map(|why| (at, why))
                            })),
                        }
                        Ok(seat.channels().len())
                    }
                    Err(Refused::TooMany | Refused::Unknown) => Err(Error::TooMany),
                },
            };
            joined.push((at, result));
        }
        if waits.is_empty() {
            self.joined(ticket, joined, &missed);
            return;
        }
        self.calls.push(Box::pin(async move {
            missed.extend(join_all(waits).await.into_iter().flatten());
            Told::Joined(ticket, joined, missed)
        }));
    }

    /// The messages of all of these are sure to arrive, but for what was missed.
    pub(super) fn joined(&mut self, ticket: Ticket, mut joined: Joined, missed: &[Missed]) {
        self.miss(missed);
        for (at, result) in &mut joined {
            if result.is_ok() && !self.hears_at(at) {
                // Else it was ended in the meantime.
                let refused = missed.iter().any(|(refused, why)| refused == at && *why == NotSure::Refused);
                *result = Err(if refused { Error::Unavailable } else { Error::Forbidden });
            }
        }
        self.finished.push_back((ticket, Ok(Answer::Channel(ChannelAnswer::Joined(joined)))));
    }

    fn hears_at(&self, at: &Address) -> bool {
        self.sitting.as_ref().is_some_and(|sitting| sitting.seat.is_in(at))
    }

    /// What the engine refuses is subscribed to no more. An interruption is told after the reply, as every message is,
    /// if it goes on and concerns something that is subscribed to.
    fn miss(&mut self, missed: &[Missed]) {
        let Some(sitting) = &mut self.sitting else { return };
        for (at, why) in missed {
            if *why == NotSure::Refused {
                sitting.seat.leave(at);
            }
        }
        if missed.iter().any(|(at, _)| sitting.seat.is_in(at)) {
            sitting.seat.hear_of_interruption();
        }
    }

    pub(super) fn part(&mut self, ticket: Ticket, at: Address) {
        let left = match &mut self.sitting {
            Some(sitting) => {
                sitting.seat.leave(&at);
                sitting.seat.channels().len()
            }
            None => 0,
        };
        self.finished.push_back((ticket, Ok(Answer::Channel(ChannelAnswer::Left(at, left)))));
    }

    /// Whether whoever it is may say so much more now, over all connections.
    pub(super) fn may_say(&self, bytes: usize) -> bool {
        let who = self.session.identity().map(|identity| &*identity.who);
        let (owner, now) = (owner(who, self.client.source), tokio::time::Instant::now().into_std());
        let mut speakers = self.shared.speakers.lock().unwrap_or_else(PoisonError::into_inner);
        speakers.says(&owner, bytes, self.shared.limits.publishes, now)
    }

    pub(super) fn publish(&mut self, ticket: Ticket, at: &Address, payload: Payload) {
        if !self.may_say(payload.0.len()) {
            self.finished.push_back((ticket, Err(Error::TooMany)));
            return;
        }
        let mut published = Box::pin(self.shared.engine.publish(at, payload.0));
        let answer = |result: Result<(), EngineError>| {
            result.map(|()| Answer::Channel(ChannelAnswer::Published)).map_err(unpublished)
        };
        match (&mut published).now_or_never() {
            Some(result) => self.finished.push_back((ticket, answer(result))),
            None => self.calls.push(Box::pin(async move {
                let told = answer(published.await);
                Told::Answered(ticket, told.map_err(|error| Failure::new(error, "it was not published")))
            })),
        }
    }

    /// A reply, in the dialect of the request. Who logs in by channels hears by it that it works: by the subscription to
    /// its own.
    pub(super) fn reply(&mut self, echo: Echo<'_>, reply: &Reply) {
        let own = match (&echo, reply) {
            (Echo::Channel(_), Reply::Answer(Answer::Granted { .. })) => {
                let identity = self.session.identity();
                identity.and_then(|identity| identity.who.own(&self.place.facility))
            }
            _ => None,
        };
        let Some(own) = own else {
            return self.write(&echo, reply);
        };
        self.session.listens(&self.shared.router, tokio::time::Instant::now().into_std());
        let mut entered = Box::pin(self.sit().seat.enter_own(&own));
        match (&mut entered).now_or_never() {
            Some(result) => self.joined_own(&echo, own, result.err()),
            // Logins are begun one after the other, but Redis may keep what they are told for a while.
            None if self.echoes.len() >= 2 * self.shared.limits.in_flight => {
                self.close = Some(Close::Policy("too many logins"));
            }
            None => {
                // It is waited for like a request, by nobody but this connection.
                self.ticket = self.ticket.wrapping_add(1);
                let ticket = self.ticket;
                self.echoes.push((ticket, echo.into_owned()));
                self.calls.push(Box::pin(async move {
                    let missed = entered.await.err();
                    Told::JoinedOwn(ticket, own, missed)
                }));
            }
        }
    }

    /// Nothing more is said here. A session that nobody can take up is ended: no clock would do it for want of use.
    pub(super) async fn leave(mut self: Box<Self>) {
        let orphan = self.session.orphan().zip(self.holding.take());
        tracing::debug!(connection = %self.client.id, "connection closed");
        let backend = Arc::clone(&self.shared.backend);
        drop(self);
        // It goes on by itself, and is waited for so that a gateway that stops has begun it.
        if let Some((token, holding)) = orphan {
            backend.retire(token, holding).await;
        }
    }

    pub(super) fn joined_own(&mut self, echo: &Echo<'_>, own: Address, missed: Option<NotSure>) {
        if !self.hears_at(&own) {
            return;
        }
        self.miss(missed.map(|why| (own.clone(), why)).as_slice());
        let status = self.sitting.as_ref().map_or(0, |sitting| sitting.seat.channels().len());
        let status = if self.hears_at(&own) { Ok(status) } else { Err(Error::Unavailable) };
        let joined = ChannelAnswer::Joined(vec![(own, status)]);
        self.write(echo, &Reply::Answer(Answer::Channel(joined)));
    }

    fn write(&mut self, echo: &Echo<'_>, reply: &Reply) {
        dialect::encode(echo, reply, |message| self.send(message));
    }

    /// Ends subscriptions to what may be heard no more.
    pub(super) fn hear_again(&mut self, again: Again) {
        if again.channels {
            self.handled.doubts.changes += 1;
        }
        let (session, router) = (&self.session, &self.shared.router);
        let Some(sitting) = &mut self.sitting else { return };
        if again.events {
            sitting.seat.keep_only(|name| session.may_hear(router, name));
        }
        if !again.channels {
            return;
        }
        let decided = sitting.seat.channels().map(|at| (at.clone(), session.may_hear_at(router, at)));
        let (stay, go): (Vec<_>, Vec<_>) = decided
            .filter(|(_, decision)| *decision != Decision::Allow)
            .partition(|(_, decision)| matches!(decision, Decision::Ask(_)));
        let over = sitting.seat.keep_channels(|at| go.iter().all(|(gone, _)| gone != at));
        self.tell_unsubscribed(&over);
        self.ask_again(stay.into_iter().map(|(at, _)| at).collect());
    }

    /// What is said of the session itself is said in the dialect of the connection.
    pub(super) fn tell_ended(&mut self, reason: EndReason) {
        match self.place.channels {
            true => self.send(channel::encode_ended(reason)),
            false => self.send(sysadm::encode_ended(reason)),
        }
    }

    pub(super) fn tell_expiring(&mut self, left: std::time::Duration) {
        match self.place.channels {
            true => self.send(channel::encode_expiring(left)),
            false => self.send(sysadm::encode_expiring(left)),
        }
    }
}

/// For a path that names no facility of ours.
pub(super) async fn refuse(opened: Opened, shared: Arc<Shared>) {
    let mut frames = Frames::new(opened.stream, opened.leftover, shared.limits.before_login);
    let told = frames.write(channel::encode_facility_refused()).is_ok();
    if told && matches!(timeout(shared.timers.write, frames.flush()).await, Ok(Ok(()))) {
        frames.goodbye(Close::Away("facility name not allowed")).await;
    }
}

/// Whether it is the same identity, or nobody as before.
pub(super) fn same(then: Option<&Arc<Who>>, now: Option<&Arc<Who>>) -> bool {
    match (then, now) {
        (None, None) => true,
        (Some(then), Some(now)) => Arc::ptr_eq(then, now) || then.is_same(now),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

pub(super) fn unpublished(error: EngineError) -> Error {
    match error {
        EngineError::Unavailable => Error::Unavailable,
        EngineError::TooLarge => Error::TooLarge,
    }
}

fn owner(who: Option<&Who>, source: crate::gate::Source) -> Owner {
    match who {
        // No kind has a slash in it.
        Some(who) => Owner::Identity(format!("{}/{}", who.kind, who.auth_id).into()),
        None => Owner::Source(source),
    }
}
