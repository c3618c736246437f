//! What handlers of channels are asked, and told of, for a connection.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use futures_util::{StreamExt, stream};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Connection, Told,
    again::Doubts,
    channels::{same, unpublished},
};
use crate::{
    backend::Failure,
    call::{Address, Answer, ChannelAnswer, ChannelName, Custom, Error, Payload, SessionId, Verb, Who},
    channels::{Asker, Decision, Handled as Done, HandlerPlace, Handlers, No},
    hub::PAYLOAD_MAX,
    session::{Question, Ticket},
};

/// Questions of one request that are asked at once.
pub(super) const AT_ONCE: usize = 4;

/// What goes on with handlers.
#[derive(Default)]
pub(super) struct Handled {
    /// Whom one was told of.
    present: Option<Present>,
    /// The last message that waits for permission.
    publishing: Option<oneshot::Receiver<()>>,
    /// What has to be allowed anew.
    pub(super) doubts: Doubts,
}

/// What a handler has answered to a message, and to whose.
pub(super) struct Permitted {
    session: SessionId,
    place: Arc<HandlerPlace>,
    at: Address,
    verb: Verb,
    done: Result<Done, Error>,
    /// When this is dropped, the next message of the connection may be said.
    after: Option<oneshot::Sender<()>>,
}

/// What is said of an address that somebody wants to hear.
pub(super) enum Said {
    /// What the table says, in the end.
    Table,
    /// It may be heard, by this handler.
    Allowed(Arc<HandlerPlace>),
    /// It may not.
    No,
}

/// An identity that a handler was told of.
struct Present {
    who: Arc<Who>,
    session: Option<SessionId>,
    /// Nothing is tried any more.
    told: Arc<AtomicBool>,
    /// When this is dropped, the handler is told that it is gone.
    _gone: oneshot::Sender<()>,
}

impl Connection {
    /// Who asks, if it is somebody.
    pub(super) fn asker(&self) -> Option<(Asker, SessionId)> {
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
            Question::Join(all) => {
                let changes = self.handled.doubts.changes;
                self.calls.push(Box::pin(async move {
                    Told::Admitted(ticket, session, changes, admitted(&handlers, &asker, all).await)
                }));
            }
            Question::Publish(_, _, payload) if payload.0.len() > PAYLOAD_MAX => {
                self.finished.push_back((ticket, Err(Error::TooLarge)));
            }
            Question::Publish(place, at, payload) => {
                // Handlers may answer in any order; messages keep theirs.
                let (after, next) = oneshot::channel::<()>();
                let before = self.handled.publishing.replace(next);
                self.calls.push(Box::pin(async move {
                    let verb = Verb::Publish;
                    let done = handlers.may_publish(&place, &asker, &at, &payload).await;
                    if let Some(before) = before {
                        // It says nothing: that it is over is what counts.
                        let _ = before.await;
                    }
                    let done = done.map(|()| Done { reply: None, publications: vec![(at.clone(), payload)] });
                    Told::Permitted(
                        ticket,
                        Box::new(Permitted { session, place, at, verb, done, after: Some(after) }),
                    )
                }));
            }
            Question::Custom(place, custom) => {
                let (router, request) = (self.shared.router.clone(), format!("{}/{ticket}", self.client.id));
                self.calls.push(Box::pin(async move {
                    let own = move |channel: &ChannelName| router.handler_of(channel.as_str());
                    let done = handlers.on_message(&place, &asker, &custom, request, own).await;
                    let Custom { at, action, .. } = *custom;
                    let verb = Verb::Action(action);
                    Told::Permitted(
                        ticket,
                        Box::new(Permitted { session, place, at, verb, done, after: None }),
                    )
                }));
            }
        }
    }

    /// A handler has said what is to be said. It was asked for a session: what that one may no more, because it is held here
    /// no more or the table has changed, is not said.
    pub(super) fn permitted(&mut self, ticket: Ticket, permitted: Permitted) {
        let Permitted { session, place, at, verb, done, after } = permitted;
        let leaves = match self.shared.router.decide(self.session.identity(), &at, &verb) {
            Decision::Allow => true,
            Decision::Ask(now) => now == place,
            Decision::Deny | Decision::Unsupported => false,
        };
        let may = self.session.holds() == Some(session) && leaves;
        let done = done.and_then(|done| if may { Ok(done) } else { Err(Error::Forbidden) });
        let done = done.and_then(|done| match verb {
            Verb::Subscribe | Verb::Publish => Ok(done),
            Verb::Action(_) => {
                let publishes = self.shared.limits.publishes;
                self.shared.handlers.may_say(&place, &done.publications, publishes).map(|()| done)
            }
        });
        let Done { reply, publications } = match done {
            Ok(done) => done,
            Err(error) => return self.finished.push_back((ticket, Err(error))),
        };
        // All are on their way before one is waited for, and before the next message of this connection.
        let publish = |(at, payload): (Address, Payload)| self.shared.engine.publish(&at, payload.0);
        let published: Vec<_> = publications.into_iter().map(publish).collect();
        drop(after);
        self.calls.push(Box::pin(async move {
            for published in published {
                if let Err(error) = published.await {
                    return Told::Answered(
                        ticket,
                        Err(Failure::new(unpublished(error), "it was not published")),
                    );
                }
            }
            let answer = match verb {
                Verb::Subscribe | Verb::Publish => ChannelAnswer::Published,
                Verb::Action(_) => ChannelAnswer::Handled(at, reply),
            };
            Told::Answered(ticket, Ok(Answer::Channel(answer)))
        }));
    }

    /// Handlers have said what it may hear. What they said was said to a session, and counts as far as the table leaves it
    /// to them now. Rights that have changed meanwhile were not asked about.
    pub(super) fn admitted(
        &mut self,
        ticket: Ticket,
        session: SessionId,
        changes: u64,
        all: Vec<(Address, Said)>,
    ) {
        let mut by_handlers = Vec::new();
        let mut decided = Vec::with_capacity(all.len());
        for (at, said) in all {
            let allowed = match (said, self.session.may_hear_at(&self.shared.router, &at)) {
                (Said::No, _) | (_, Decision::Deny | Decision::Unsupported) => false,
                (Said::Table | Said::Allowed(_), Decision::Allow) => true,
                (Said::Table, Decision::Ask(_)) => false,
                (Said::Allowed(by), Decision::Ask(now)) => {
                    by_handlers.push(at.clone());
                    by == now
                }
            };
            decided.push((at, allowed));
        }
        self.join(ticket, Some(session), decided);
        if changes != self.handled.doubts.changes {
            self.ask_again(by_handlers);
        } else if self.session.holds() == Some(session) {
            by_handlers.iter().for_each(|at| self.handled.doubts.allowed(at));
        }
    }

    /// Whoever it holds is told to the handler that is named after the kind, and that it is over, whichever way it ends.
    pub(super) fn appear(&mut self) {
        let now = self.session.identity().map(|identity| &identity.who);
        let session = self.session.holds();
        if let Some(present) = &self.handled.present
            && same(Some(&present.who), now)
            // Only with the session that is held can it be told still.
            && (present.session == session || present.told.load(Ordering::Acquire))
        {
            return;
        }
        self.handled.present = None;
        let Some(who) = now.cloned() else { return };
        let (gone, mut is_gone) = oneshot::channel::<()>();
        let told = Arc::new(AtomicBool::new(false));
        let handler = self.shared.router.handler_of(&who.kind);
        let at = who.own(&self.place.facility);
        if let (Some(place), Some(at), Some((asker, _))) = (handler, at, self.asker()) {
            let (handlers, told) = (self.shared.handlers.clone(), Arc::clone(&told));
            self.shared.tasks.spawn(async move {
                let presence = handlers.online(&place, &asker, &at, &mut is_gone).await;
                told.store(true, Ordering::Release);
                if let Some(presence) = presence {
                    // It is never sent.
                    let _ = is_gone.await;
                    handlers.offline(presence).await;
                }
            });
        }
        self.handled.present = Some(Present { who, session, told, _gone: gone });
    }
}

/// Each handler has its deadline for all of it: after one answer that is late it is asked nothing more.
async fn admitted(handlers: &Handlers, asker: &Asker, all: Vec<(Address, Decision)>) -> Vec<(Address, Said)> {
    let began = Instant::now();
    let late = Mutex::new(Vec::<Arc<HandlerPlace>>::new());
    let late = || late.lock().unwrap_or_else(PoisonError::into_inner);
    let each = all.into_iter().map(async |(at, decision)| match decision {
        Decision::Allow => vec![(at, Said::Table)],
        Decision::Deny | Decision::Unsupported => vec![(at, Said::No)],
        Decision::Ask(place) if late().iter().any(|late| late.is_same_service(&place)) => {
            vec![(at, Said::No)]
        }
        Decision::Ask(place) => {
            match handlers.may_subscribe(&place, asker, &at, began + place.deadline).await {
                Ok(allowed) => {
                    allowed.into_iter().map(|at| (at, Said::Allowed(Arc::clone(&place)))).collect()
                }
                Err(no) => {
                    if no == No::Late {
                        late().push(place);
                    }
                    vec![(at, Said::No)]
                }
            }
        }
    });
    stream::iter(each).buffered(AT_ONCE).concat().await
}
