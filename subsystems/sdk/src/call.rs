//! What a handler knows of its call, and how it tells how far it is.

use std::sync::Arc;

use doorward_assertion::Caller;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use crate::bounds::PROGRESS_MAX;
use crate::failure::{Failure, Kind};
use crate::seats::Seat;

/// One call: who calls, what, and until when. Clones are the same call.
#[derive(Debug, Clone)]
pub struct Call(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    caller: Caller,
    action: String,
    request_id: String,
    deadline: Instant,
    ended: Ended,
    /// Work that goes on after its call ended still has its place.
    _seat: Seat,
}

/// Tells that nobody waits for the answer any more: it was cancelled, the client left, the deadline passed.
pub type Ended = CancellationToken;

impl Call {
    pub(crate) fn new(
        caller: Caller,
        action: String,
        request_id: String,
        deadline: Instant,
        seat: Seat,
    ) -> Call {
        let ended = Ended::new();
        Call(Arc::new(Inner { caller, action, request_id, deadline, ended, _seat: seat }))
    }

    /// Who calls, by authd's word. Their right to the action was checked; to a thing that the args name it
    /// was not: ask [`Caller::may`] with `sysadm.NAMESPACE.NAME.ACTION.THING` or whatever fits.
    pub fn caller(&self) -> &Caller {
        &self.0.caller
    }

    /// What is called, as it is described.
    pub fn action(&self) -> &str {
        &self.0.action
    }

    /// The gateway's name of the request, for logs.
    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// When nobody waits any more.
    pub fn deadline(&self) -> Instant {
        self.0.deadline
    }

    /// How long somebody still waits.
    pub fn remaining(&self) -> Duration {
        self.0.deadline.saturating_duration_since(Instant::now())
    }

    /// Cancelled when nobody waits any more. A handler need not look: its future is dropped then. Work that
    /// it gave away, such as a thread, must.
    pub fn ended(&self) -> &Ended {
        &self.0.ended
    }

    /// Does what would hold up others, such as reading files, on a thread of its own. The work looks at
    /// [`Ended`] now and then: a thread cannot be broken off from outside.
    ///
    /// # Errors
    /// The work's own, or a fault if it panicked.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Ended) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let call = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&call.0.ended)).await;
        done.unwrap_or_else(|_| Err(Failure::fault("blocking work broke off: a defect")))
    }
}

/// Tells the client how far the work is.
#[derive(Debug, Clone)]
pub struct Progress {
    parts: mpsc::Sender<Vec<u8>>,
    ended: Ended,
    runtime: Handle,
}

impl Progress {
    /// Of a call; on a runtime.
    pub(crate) fn of(call: &Call, parts: mpsc::Sender<Vec<u8>>) -> Progress {
        Progress { parts, ended: call.ended().clone(), runtime: Handle::current() }
    }

    /// Tells it; waits while the gateway has not taken earlier ones, and not after the call has [`Ended`].
    ///
    /// # Errors
    /// When it is longer than 64 KiB, or nobody listens any more.
    pub async fn send(&self, args: &impl Serialize) -> Result<(), Failure> {
        let sent = self.ended.run_until_cancelled(self.parts.send(part(args)?)).await;
        sent.and_then(Result::ok).ok_or_else(nobody)
    }

    /// The same, from blocking work: a thread, not a task.
    ///
    /// # Errors
    /// As [`Progress::send`].
    pub fn send_blocking(&self, args: &impl Serialize) -> Result<(), Failure> {
        self.runtime.block_on(self.send(args))
    }
}

fn part(args: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let part = serde_json::to_vec(args).map_err(Failure::fault)?;
    if part.len() > PROGRESS_MAX { Err(Failure::fault("progress is longer than 64 KiB")) } else { Ok(part) }
}

fn nobody() -> Failure {
    Failure::new(Kind::Unavailable, "nobody listens to the progress")
}
