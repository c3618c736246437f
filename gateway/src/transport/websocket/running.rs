//! Calls of subsystems that are under way: each can report progress, and can be dropped by itself.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_util::{StreamExt, future::ready, stream::FuturesUnordered};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::{Asking, Connection, Told};
use crate::{
    backend::Holding,
    dialect::{Echo, sysadm},
    session::Ticket,
    subsystem::{Asked, Progress, Step},
};

/// What a call brings next; nothing if it was stopped.
struct Next {
    ticket: Ticket,
    asking: Option<Asking>,
    /// Nothing else wakes what was stopped, and it would never go.
    waker: Option<Waker>,
}

/// All of a connection; the session has the bound.
#[derive(Default)]
pub(super) struct Running {
    /// One for each call at most.
    next: FuturesUnordered<Next>,
    under_way: Vec<Ticket>,
    /// Some reports were kept back. Each is the only one of its call, which is not asked for more.
    released: Option<CancellationToken>,
}

impl Running {
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    fn begin(&mut self, ticket: Ticket, step: impl Future<Output = Step> + Send + 'static) {
        self.under_way.push(ticket);
        self.go_on(ticket, async move { Told::Stepped(ticket, step.await) });
    }

    /// Goes on with a call, unless it was stopped.
    fn go_on(&mut self, ticket: Ticket, next: impl Future<Output = Told> + Send + 'static) {
        if self.under_way.contains(&ticket) {
            self.next.push(Next { ticket, asking: Some(Box::pin(next)), waker: None });
        }
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
        self.released.is_some() && !self.is_empty()
    }

    /// What was kept back comes now.
    pub(super) fn release(&mut self) {
        if let Some(released) = self.released.take() {
            released.cancel();
        }
    }

    /// Drops a call, at once: what was written about it may take the client a while to read, and nothing is polled
    /// meanwhile. One that has not begun yet does not begin.
    pub(super) fn stop(&mut self, ticket: Ticket) {
        self.over(ticket);
        if let Some(next) = self.next.iter_mut().find(|next| next.ticket == ticket) {
            next.asking = None;
            if let Some(waker) = next.waker.take() {
                waker.wake();
            }
        }
    }

    /// A call is over.
    pub(super) fn over(&mut self, ticket: Ticket) {
        self.under_way.retain(|running| *running != ticket);
    }

    /// Drops all of them.
    pub(super) fn clear(&mut self) {
        self.next.clear();
        self.under_way.clear();
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

impl Future for Next {
    type Output = Option<Told>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(asking) = &mut self.asking else { return Poll::Ready(None) };
        let told = asking.as_mut().poll(context);
        if told.is_pending() {
            self.waker = Some(context.waker().clone());
        }
        told.map(Some)
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

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;

    #[test]
    fn what_is_stopped_is_dropped_at_once_and_does_not_begin_any_more() {
        let (mut running, mut context) = (Running::default(), Context::from_waker(Waker::noop()));
        for begun in [false, true] {
            let began = Arc::new(AtomicBool::new(false));
            let begins = Arc::clone(&began);
            running.begin(7, async move {
                begins.store(true, Ordering::SeqCst);
                pending().await
            });
            if begun {
                assert!(running.poll_next(&mut context).is_pending());
            }
            running.stop(7);
            let dropped = Arc::strong_count(&began) == 1;
            assert!(running.poll_next(&mut context).is_pending());
            assert_eq!((began.load(Ordering::SeqCst), dropped), (begun, true));
            assert!(running.is_empty() && running.next.is_empty(), "nothing is kept of it");
        }
    }
}
