//! Calls of subsystems that are under way: each can report progress, and can be dropped by itself.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{StreamExt, future::ready, stream::FuturesUnordered};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::{Connection, Told};
use crate::{
    backend::Holding,
    dialect::{Echo, sysadm},
    session::Ticket,
    subsystem::{Asked, Progress, Step},
};

/// What a call brings next; nothing if it was stopped.
type Next = Pin<Box<dyn Future<Output = Option<Told>> + Send>>;

/// All of a connection; the session has the bound.
#[derive(Default)]
pub(super) struct Running {
    next: FuturesUnordered<Next>,
    stops: Vec<(Ticket, CancellationToken)>,
    /// Some reports were kept back. Each is the only one of its call, which is not asked for more.
    released: Option<CancellationToken>,
}

impl Running {
    pub(super) fn is_empty(&self) -> bool {
        self.stops.is_empty()
    }

    fn begin(&mut self, ticket: Ticket, step: impl Future<Output = Step> + Send + 'static) {
        let stop = CancellationToken::new();
        self.stops.push((ticket, stop.clone()));
        self.wait(stop, async move { Told::Stepped(ticket, step.await) });
    }

    /// Goes on with a call, unless it was stopped.
    fn go_on(&mut self, ticket: Ticket, next: impl Future<Output = Told> + Send + 'static) {
        if let Some((_, stop)) = self.stops.iter().find(|(running, _)| *running == ticket) {
            let stop = stop.clone();
            self.wait(stop, next);
        }
    }

    fn wait(&mut self, stop: CancellationToken, next: impl Future<Output = Told> + Send + 'static) {
        self.next.push(Box::pin(stop.run_until_cancelled_owned(next)));
    }

    /// Keeps a report of progress until [`Running::release`].
    pub(super) fn keep_back(&mut self, ticket: Ticket, report: Box<RawValue>, rest: Box<Progress>) {
        let released = self.released.get_or_insert_default().clone().cancelled_owned();
        self.go_on(ticket, async move {
            match rest.wait(report, released).await {
                Step::Progress(report, rest) => Told::Reported(ticket, report, rest),
                done @ Step::Done(_) => Told::Stepped(ticket, done),
            }
        });
    }

    /// Whether something may have been kept back since the last release.
    pub(super) fn keeps_back(&self) -> bool {
        // A call that was stopped meanwhile waits for nothing, and nobody releases what is not under way.
        self.released.is_some() && !self.stops.is_empty()
    }

    /// What was kept back comes now.
    pub(super) fn release(&mut self) {
        if let Some(released) = self.released.take() {
            released.cancel();
        }
    }

    /// Drops a call; what it brings from now on is not heard.
    pub(super) fn stop(&mut self, ticket: Ticket) {
        if let Some(stop) = self.over(ticket) {
            stop.cancel();
        }
    }

    /// A call is over.
    pub(super) fn over(&mut self, ticket: Ticket) -> Option<CancellationToken> {
        let place = self.stops.iter().position(|(running, _)| *running == ticket)?;
        Some(self.stops.swap_remove(place).1)
    }

    /// Drops all of them.
    pub(super) fn clear(&mut self) {
        self.next.clear();
        self.stops.clear();
        self.released = None;
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Told> {
        while !self.next.is_empty() {
            match self.next.poll_next_unpin(context) {
                Poll::Ready(Some(Some(told))) => return Poll::Ready(told),
                Poll::Ready(Some(None)) => {}
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }
}

impl Connection {
    pub(super) fn run_for(&mut self, ticket: Ticket, asked: Asked) {
        let (backend, pass) = (Arc::clone(&self.shared.backend), self.holding.as_ref().map(Holding::pass));
        let request = format!("{}/{ticket}", self.client.id);
        self.running.begin(ticket, asked.begin(backend, pass, request));
    }

    /// Reports progress of a request that has no reply yet, and waits for more.
    pub(super) fn progress(&mut self, ticket: Ticket, args: &RawValue, rest: Box<Progress>) {
        let Some((_, echo)) = self.echoes.iter().find(|(waiting, _)| *waiting == ticket) else { return };
        // Nothing else begins calls of subsystems.
        let Echo::Envelope(echo) = echo else { return };
        let message = sysadm::encode_progress(echo, args);
        self.send(message);
        self.running.go_on(ticket, async move { Told::Stepped(ticket, rest.next().await) });
    }

    /// Finds the requests with an id. Those that cannot be cancelled are left out by the session.
    pub(super) fn find(&mut self, ticket: Ticket, id: &str) {
        let which =
            self.echoes.iter().filter(|(_, echo)| echo.has_id(id)).map(|(ticket, _)| *ticket).collect();
        self.calls.push(Box::pin(ready(Told::Found(ticket, which))));
    }
}
