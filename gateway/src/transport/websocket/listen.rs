//! Subscriptions to events, and sending what any subscription brings.

use std::future::ready;

use super::{BATCH, Close, Connection, Told};
use crate::{
    backend::Failure,
    call::{Answer, Error, EventNames, Listen},
    dialect::{channel, sysadm},
    hub::{Overflowed, Refused, Sent},
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
        let sitting = self.sit();
        match listen {
            Listen::Subscribe => {
                sitting.events_of = Some(owner);
                sitting.seat.subscribe(names)
            }
            Listen::Unsubscribe => sitting.seat.unsubscribe(names),
        }
    }

    /// Sends some of what waits. Who does not read is closed: what was lost could not be told.
    pub(super) fn deliver(&mut self) {
        let Some(sitting) = &self.sitting else { return };
        match sitting.seat.take(BATCH) {
            Ok(messages) => {
                for message in messages {
                    match message {
                        Sent::Event(event) => self.send(event.text(sysadm::encode_event)),
                        Sent::Delivery(delivery) => self.send(delivery.text(channel::encode_delivery)),
                        Sent::Lost(at) => self.lost(&at),
                        Sent::Notice(notice) => {
                            if let Some(message) = channel::encode_notice(notice) {
                                self.send(message);
                            }
                        }
                    }
                }
            }
            Err(overflowed) => {
                self.sitting = None;
                self.close = Some(match overflowed {
                    Overflowed::Events => Close::Policy("events were not read"),
                    Overflowed::Channels => Close::Unread,
                });
            }
        }
    }
}

fn failure(error: Error, detail: &str) -> Failure {
    Failure::new(error, detail)
}
