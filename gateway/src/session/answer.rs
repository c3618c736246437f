//! Requests of a session that lives: answered here, or by others meanwhile.

use std::time::Instant;

use super::{Action, Session, State, Ticket, UnderWay, Waiting};
use crate::{
    access,
    call::{Answer, Call, Error, Listen, Reply, SessionsRequest},
    router::Router,
};

impl Session {
    /// Answers a request of a session that is known to live, or has it answered.
    pub(super) fn answer(
        &mut self,
        request: Waiting,
        now: Instant,
        router: &Router,
        actions: &mut Vec<Action>,
    ) {
        if let Call::Channel(call) = request.call {
            self.channel(request.ticket, call, now, router, actions);
            return;
        }
        if matches!(request.call, Call::Listen(Listen::Subscribe, _)) {
            self.ears(router, now);
        }
        let State::Held(held) = &mut self.state else { return };
        let (ticket, session) = (request.ticket, held.identity.session);
        let mut stops = None;
        let others = match (request.subject, request.call) {
            _ if !held.acts => Err(Reply::Error(Error::Forbidden)),
            (None, Call::Malformed(error)) => Err(Reply::Error(error)),
            (None, Call::Subsystem(request)) => match router.asked(&held.identity, *request) {
                Ok(asked) => {
                    stops = Some(asked.subject());
                    Ok(Action::Subsystem(ticket, Box::new(asked)))
                }
                Err(error) => Err(Reply::Error(error)),
            },
            (None, _) => Err(Reply::Error(Error::NotFound)),
            (Some(subject), _) if !router.serves(subject.row) => Err(Reply::Error(Error::NotFound)),
            (Some(subject), _) if !held.rights.allow(&subject) => Err(Reply::Error(Error::Forbidden)),
            (Some(_), Call::Malformed(error)) => Err(Reply::Error(error)),
            (Some(_), Call::Settings(settings)) => Ok(Action::Settings(ticket, settings)),
            // The reply to this would race with the end that it brings about.
            (Some(_), Call::Sessions(SessionsRequest::End(Some(own)))) if own == session => {
                self.clear(ticket, Some(Answer::Ended(1)), now, actions);
                return;
            }
            (Some(_), Call::Sessions(sessions)) => Ok(Action::Sessions(ticket, sessions)),
            (Some(_), Call::Logs(logs)) => Ok(Action::Logs(ticket, logs)),
            (Some(_), Call::Listen(Listen::Subscribe, names)) => {
                let heard = names.only(|name| router.may_hear(&held.identity, name));
                Ok(Action::Listen(ticket, Listen::Subscribe, heard))
            }
            (Some(_), Call::Listen(Listen::Unsubscribe, names)) => {
                Ok(Action::Listen(ticket, Listen::Unsubscribe, names))
            }
            (Some(_), Call::Cancel(id)) => Ok(Action::Cancel(ticket, id)),
            (Some(_), Call::Query) => Err(Reply::Answer(Answer::Rows(held.rows(router)))),
            (Some(_), Call::Describe(name)) => {
                Err(match router.described(&held.identity, held.rights, name) {
                    Ok(described) => Reply::Answer(Answer::Described(Box::new(described))),
                    Err(error) => Reply::Error(error),
                })
            }
            (Some(_), call) => Err(router.answer(&call)),
        };
        match others {
            Ok(action) => {
                self.under_way.push(UnderWay { ticket, session: Some(session), stops });
                actions.push(action);
            }
            Err(reply) => {
                if matches!(reply, Reply::Answer(_)) {
                    held.used(now);
                    actions.push(Action::Used);
                }
                actions.push(Action::Reply(ticket, reply));
            }
        }
    }

    /// Somebody else has answered a request. What was done is told even if its session is over by now.
    pub(super) fn answered(
        &mut self,
        ticket: Ticket,
        result: Result<Answer, Error>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(place) = self.under_way.iter().position(|waiting| waiting.ticket == ticket) else { return };
        let session = self.under_way.swap_remove(place).session;
        self.clock.heard(now);
        let reply = match result {
            Ok(answer) => {
                if let State::Held(held) = &mut self.state
                    && Some(held.identity.session) == session
                {
                    held.used(now);
                    actions.push(Action::Used);
                }
                Reply::Answer(answer)
            }
            Err(error) => Reply::Error(error),
        };
        actions.push(Action::Reply(ticket, reply));
    }

    /// Ends those of these requests that can be stopped; the last reply says how many there were.
    pub(super) fn cancel(
        &mut self,
        ticket: Ticket,
        which: &[Ticket],
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let stopped = self.stop(Error::Cancelled, actions, |waiting| which.contains(&waiting.ticket));
        self.answered(ticket, Ok(Answer::Cancelled(stopped)), now, actions);
    }

    /// What was begun for a session that is held here no more goes on for nobody.
    pub(super) fn stop_what_nobody_holds(&mut self, actions: &mut Vec<Action>) {
        if !self.under_way.is_empty() {
            let held = self.holds();
            self.stop(Error::Unauthorized, actions, |waiting| waiting.session != held);
        }
    }

    /// What the session that is held here may do no more is not done to its end.
    pub(super) fn stop_what_is_forbidden(&mut self, actions: &mut Vec<Action>) {
        let State::Held(held) = &self.state else { return };
        let (session, identity) = (Some(held.identity.session), &held.identity);
        // What another session began is ended by its being another's.
        let lost =
            |waiting: &UnderWay, subject: &str| waiting.session == session && !access::may(identity, subject);
        stop(&mut self.under_way, Error::Forbidden, actions, lost);
    }

    fn stop(&mut self, error: Error, actions: &mut Vec<Action>, meant: impl Fn(&UnderWay) -> bool) -> usize {
        stop(&mut self.under_way, error, actions, |waiting, _| meant(waiting))
    }
}

fn stop(
    under_way: &mut Vec<UnderWay>,
    error: Error,
    actions: &mut Vec<Action>,
    meant: impl Fn(&UnderWay, &str) -> bool,
) -> usize {
    let before = under_way.len();
    under_way.retain(|waiting| {
        let stops = waiting.stops.as_deref().is_some_and(|subject| meant(waiting, subject));
        if stops {
            actions.push(Action::Stop(waiting.ticket));
            actions.push(Action::Reply(waiting.ticket, Reply::Error(error.clone())));
        }
        !stops
    });
    before - under_way.len()
}
