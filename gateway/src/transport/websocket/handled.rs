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
    call::{Address, Answer, ChannelAnswer, ChannelName, Custom, Error, Payload, SessionId, Who},
    channels::{Asker, Decision, HandlerPlace, Handlers, No},
    hub::PAYLOAD_MAX,
    session::{Question, Ticket},
    transport::Shared,
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
