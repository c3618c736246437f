//! What handlers of channels are asked, and told of, for a connection.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::sync::oneshot;

use super::{
    Connection, Told,
    channels::{same, unpublished},
};
use crate::{
    backend::Failure,
    call::{Address, Answer, ChannelAnswer, ChannelName, Custom, Error, Payload, SessionId, Who},
    channels::{Asker, Decision, HandlerPlace, Handlers},
    hub::PAYLOAD_MAX,
    session::{Question, Ticket},
    transport::Shared,
};

/// Questions of one request that are asked at once.
const AT_ONCE: usize = 4;

/// What goes on with handlers.
#[derive(Default)]
pub(super) struct Handled {
    /// Whom one was told of.
    present: Option<Present>,
    /// The last message that waits for permission.
    publishing: Option<oneshot::Receiver<()>>,
}

/// An identity that a handler was told of.
struct Present {
    who: Arc<Who>,
    /// When this is dropped, the handler is told that it is gone.
    _gone: oneshot::Sender<()>,
}

impl Connection {
    /// Who asks, if it is somebody.
    fn asker(&self) -> Option<(Asker, SessionId)> {
        let (holding, session) = (self.holding.as_ref()?, self.session.identity()?.session);
        Some((Asker { backend: Arc::clone(&self.shared.backend), pass: holding.pass() }, session))
    }

    pub(super) fn ask_handlers(&mut self, ticket: Ticket, question: Question) {
        // The table leaves to handlers only what those ask who are logged in.
        let Some((asker, session)) = self.asker() else {
            self.finished.push_back((ticket, Err(Error::Forbidden)));
            return;
        };
        let says = match &question {
            Question::Join(_) => None,
            Question::Publish(_, _, payload) => Some(payload.0.len()),
            Question::Custom(_, custom) => Some(custom.message.0.len()),
        };
        if says.is_some_and(|bytes| !self.may_say(bytes)) {
            self.finished.push_back((ticket, Err(Error::TooMany)));
            return;
        }
        let handlers = self.shared.handlers.clone();
        match question {
            Question::Join(all) => self.calls.push(Box::pin(async move {
                Told::Admitted(ticket, session, admitted(&handlers, &asker, all).await)
            })),
            Question::Publish(_, _, payload) if payload.0.len() > PAYLOAD_MAX => {
                self.finished.push_back((ticket, Err(Error::TooLarge)));
            }
            Question::Publish(place, at, payload) => {
                // Handlers may answer in any order; messages keep theirs.
                let (after, next) = oneshot::channel::<()>();
                let before = self.handled.publishing.replace(next);
                let engine = self.shared.engine.clone();
                self.calls.push(Box::pin(async move {
                    let allowed = handlers.may_publish(&place, &asker, &at, &payload).await;
                    if let Some(before) = before {
                        // It says nothing: that it is over is what counts.
                        let _ = before.await;
                    }
                    let published = allowed.map(|()| engine.publish(&at, payload.0));
                    drop(after);
                    let answer = match published {
                        Ok(published) => published.await.map_err(unpublished),
                        Err(error) => Err(error),
                    };
                    told(ticket, answer.map(|()| ChannelAnswer::Published))
                }));
            }
            Question::Custom(place, custom) => {
                let (shared, request) = (Arc::clone(&self.shared), format!("{}/{ticket}", self.client.id));
                self.calls.push(Box::pin(async move {
                    told(ticket, handled(&shared, &place, &asker, *custom, &request).await)
                }));
            }
        }
    }

    /// Handlers have said what it may hear. What they said was said to a session.
    pub(super) fn admitted(&mut self, ticket: Ticket, session: SessionId, all: Vec<(Address, bool)>) {
        self.join(ticket, Some(session), all);
    }

    /// The rights have changed: those that a handler allowed are asked about again, and last until it says no.
    pub(super) fn ask_again(&mut self, all: Vec<(Address, Decision)>) {
        let Some((asker, session)) = self.asker().filter(|_| !all.is_empty()) else { return };
        let handlers = self.shared.handlers.clone();
        self.calls.push(Box::pin(async move {
            let all = admitted(&handlers, &asker, all).await;
            let refused = all.into_iter().filter(|(_, allowed)| !allowed).map(|(at, _)| at);
            Told::Unheard(session, refused.collect())
        }));
    }

    pub(super) fn unheard(&mut self, session: SessionId, refused: Vec<Address>) {
        if self.session.identity().map(|identity| identity.session) == Some(session)
            && let Some(sitting) = &mut self.sitting
        {
            let over = sitting.seat.keep_channels(|at| !refused.contains(at));
            self.tell_unsubscribed(&over);
        }
    }

    /// Whoever it holds is told to the handler that is named after the kind, and that it is over, whichever way it ends.
    pub(super) fn appear(&mut self) {
        let now = self.session.identity().map(|identity| &identity.who);
        if same(self.handled.present.as_ref().map(|present| &present.who), now) {
            return;
        }
        let Some(who) = now.cloned() else {
            self.handled.present = None;
            return;
        };
        let (gone, is_gone) = oneshot::channel::<()>();
        let handler = self.shared.router.handler_of(&who.kind);
        let at = who.own(&self.place.facility);
        if let (Some(place), Some(at), Some((asker, _))) = (handler, at, self.asker()) {
            let handlers = self.shared.handlers.clone();
            self.shared.tasks.spawn(async move {
                if let Some(presence) = handlers.online(&place, &asker, &at).await {
                    // It is never sent.
                    let _ = is_gone.await;
                    handlers.offline(&place, presence).await;
                }
            });
        }
        self.handled.present = Some(Present { who, _gone: gone });
    }
}

async fn admitted(handlers: &Handlers, asker: &Asker, all: Vec<(Address, Decision)>) -> Vec<(Address, bool)> {
    let each = all.into_iter().map(async |(at, decision)| match decision {
        Decision::Allow => vec![(at, true)],
        Decision::Deny | Decision::Unsupported => vec![(at, false)],
        Decision::Ask(place) => match handlers.may_subscribe(&place, asker, &at).await {
            Ok(allowed) => allowed.into_iter().map(|at| (at, true)).collect(),
            Err(_) => vec![(at, false)],
        },
    });
    stream::iter(each).buffered(AT_ONCE).concat().await
}

async fn handled(
    shared: &Shared,
    place: &Arc<HandlerPlace>,
    asker: &Asker,
    custom: Custom,
    request: &str,
) -> Result<ChannelAnswer, Error> {
    let own = |channel: &ChannelName| shared.router.handler_of(channel.as_str());
    let handled = shared.handlers.on_message(place, asker, &custom, request, own).await?;
    shared.handlers.may_say(place, &handled.publications, shared.limits.publishes)?;
    // All are on their way before one is waited for.
    let publish = |(at, payload): (Address, Payload)| shared.engine.publish(&at, payload.0);
    let published: Vec<_> = handled.publications.into_iter().map(publish).collect();
    for published in published {
        published.await.map_err(unpublished)?;
    }
    Ok(ChannelAnswer::Handled(custom.at, handled.reply))
}

fn told(ticket: Ticket, answer: Result<ChannelAnswer, Error>) -> Told {
    let answer = answer.map(Answer::Channel);
    Told::Answered(ticket, answer.map_err(|error| Failure::new(error, "a handler's channel")))
}
