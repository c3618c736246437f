//! What back ends said, as the session hears it.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{
    Connection,
    again::Answers,
    channels::{Joined, Missed},
    handled::{Permitted, Said},
};
use crate::{
    backend::{self, Failure, Holding, Moment},
    call::{Address, Answer, Challenge, ChannelName, Error, Identity, SessionId},
    channels::NotSure,
    session::{self, Event, Ticket},
    subsystem::{Progress, Step},
    transport::asking,
};

/// What a back end said.
pub(super) enum Told {
    LoggedIn(Result<backend::Outcome, Failure>, Moment),
    Checked(Result<Identity, Failure>, Moment),
    Cleared(Result<(), Failure>),
    Retired,
    Challenged(Result<Challenge, Failure>),
    /// What was asked for last was not done: there is a penalty.
    Penalised(Duration),
    Answered(Ticket, Result<Answer, Failure>),
    /// These requests had the id that is to be cancelled.
    Found(Ticket, Vec<Ticket>),
    Stepped(Ticket, Step),
    /// A report of progress that was kept back until the session was looked at again.
    Reported(Ticket, Box<RawValue>, Box<Progress>),
    /// Messages are sure to arrive, but for what was missed.
    Joined(Ticket, Joined, Vec<Missed>),
    /// What handlers have said to this session about these addresses, after so many changes of what may be heard.
    Admitted(Ticket, SessionId, u64, Vec<(Address, Said)>),
    /// What a handler has said to a message.
    Permitted(Ticket, Box<Permitted>),
    /// The same of what was allowed before, on one channel.
    Again(SessionId, u64, ChannelName, Answers),
    /// The same of the channel of whoever has logged in.
    JoinedOwn(Ticket, Address, Option<NotSure>),
}

impl Connection {
    pub(super) fn told(&mut self, told: Told) {
        let event = match told {
            Told::LoggedIn(Ok(backend::Outcome::Granted(identity, holding)), asked) => {
                let watch = asked.watch.filter(|_| holding.complete());
                // Kept until the step is over: a session that is taken up again is held all the time.
                self.replaced = self.holding.replace(holding);
                self.step(Event::LoggedIn(Ok(session::Outcome::Granted(identity)), watch), None);
                self.replaced = None;
                return;
            }
            Told::LoggedIn(Ok(backend::Outcome::Prompts(prompts)), asked) => {
                Event::LoggedIn(Ok(session::Outcome::Prompts(prompts)), asked.watch)
            }
            Told::LoggedIn(Ok(backend::Outcome::NoSuchKind), asked) => {
                Event::LoggedIn(Ok(session::Outcome::NoSuchKind), asked.watch)
            }
            Told::LoggedIn(Ok(backend::Outcome::Denied), asked) => {
                Event::LoggedIn(Ok(session::Outcome::Denied), asked.watch)
            }
            Told::LoggedIn(Ok(backend::Outcome::Penalised(left)), _) | Told::Penalised(left) => {
                Event::Penalised(asking::whole_seconds(left))
            }
            Told::LoggedIn(Err(failure), asked) => {
                Event::LoggedIn(Err(asking::of_login(self.shown(failure))), asked.watch)
            }
            Told::Checked(result, asked) => {
                // The answer itself may have said that another connection holds the session now.
                if let Some(reason) = self.holding.as_ref().and_then(Holding::ended) {
                    self.step(Event::Ended(reason), None);
                }
                Event::Checked(result.map_err(|failure| self.shown(failure)), asked.watch)
            }
            Told::Challenged(result) => Event::Challenged(result.map_err(|failure| self.shown(failure))),
            Told::Answered(ticket, result) => {
                Event::Answered(ticket, result.map_err(|failure| self.shown(failure)))
            }
            Told::Stepped(ticket, Step::Progress(args, rest)) => {
                let now = Instant::now().into_std();
                return match self.session.relied_upon(now, self.shared.backend.watch()) {
                    true => self.progress(ticket, &args, rest),
                    false => self.running.keep_back(ticket, args, rest),
                };
            }
            Told::Reported(ticket, args, rest) => return self.progress(ticket, &args, rest),
            Told::Stepped(ticket, Step::Done(result)) => {
                self.running.over(ticket);
                let answer = result.map(Answer::Result).map_err(|failure| self.shown(failure));
                Event::Answered(ticket, answer)
            }
            Told::Joined(ticket, joined, missed) => {
                self.joined(ticket, joined, &missed);
                Event::Heard
            }
            Told::JoinedOwn(ticket, own, missed) => {
                if let Some(echo) = self.echo(ticket) {
                    self.joined_own(&echo, own, missed);
                }
                return;
            }
            Told::Admitted(ticket, session, changes, all) => {
                self.admitted(ticket, session, changes, all);
                Event::Heard
            }
            Told::Permitted(ticket, permitted) => {
                self.permitted(ticket, *permitted);
                Event::Heard
            }
            Told::Again(session, changes, channel, answers) => {
                return self.heard_again(session, changes, channel, answers);
            }
            Told::Found(ticket, which) => Event::Cancel(ticket, which),
            Told::Retired => Event::Retired,
            Told::Cleared(result) => Event::Cleared(result.map_err(|failure| self.shown(failure))),
        };
        self.step(event, None);
    }

    fn shown(&self, failure: Failure) -> Error {
        self.client.told_of(failure, self.ticket)
    }
}
