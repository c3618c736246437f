//! Subscriptions of a connection, and sending what they bring.

use std::future::ready;

use super::{BATCH, Close, Connection, Told};
use crate::{
    backend::Failure,
    call::{Answer, Error, EventNames, Listen},
    dialect::sysadm,
    hub::{Refused, Sent},
    session::Ticket,
};

impl Connection {
    /// Done at once; the reply goes before the first event.
    pub(super) fn listen(&mut self, ticket: Ticket, listen: Listen, names: EventNames) {
        let answer = self.change(listen, names).map_err(|refused| match refused {
            Refused::Unknown => failure(Error::BadRequest("no such event".into()), "no such event"),
            Refused::TooMany => failure(Error::TooMany, "too many subscriptions"),
        });
        let answer = answer.map(|names| Answer::Listening(listen, names));
        self.calls.push(Box::pin(ready(Told::Answered(ticket, answer))));
    }

    fn change(&mut self, listen: Listen, names: EventNames) -> Result<EventNames, Refused> {
        let owner = self.session.listener().ok_or(Refused::Unknown)?;
        let (_, inbox) = match &mut self.inbox {
            Some(inbox) => inbox,
            none => none.insert((owner, self.shared.hub.inbox())),
        };
        match listen {
            Listen::Subscribe => inbox.subscribe(names),
            Listen::Unsubscribe => inbox.unsubscribe(names),
        }
    }

    /// Ends subscriptions to what the session may hear no more.
    pub(super) fn hear_again(&mut self) {
        let (session, router) = (&self.session, &self.shared.router);
        if let Some((_, inbox)) = &mut self.inbox {
            inbox.keep_only(|name| session.may_hear(router, name));
        }
    }

    /// Sends some of what waits. Who does not read is closed: what was lost could not be told.
    pub(super) fn deliver(&mut self) {
        let Some((_, inbox)) = &self.inbox else { return };
        match inbox.take(BATCH) {
            Ok(messages) => {
                for message in messages {
                    if let Sent::Event(event) = message {
                        self.send(event.text(sysadm::encode_event));
                    }
                }
            }
            Err(_overflowed) => {
                self.inbox = None;
                self.close = Some(Close::Policy("events were not read"));
            }
        }
    }
}

fn failure(error: Error, detail: &str) -> Failure {
    Failure::new(error, detail)
}
