//! What is published: one connection, so that everything of this gateway arrives in the order in which it was said.
//!
//! Nothing is sent twice. What was sent on a connection that broke before Redis answered may have arrived or not, and
//! whoever published it is told that it failed.

use std::{collections::VecDeque, future::Future, sync::Arc, time::Instant};

use bytes::Bytes;
use doorward_launch::log::Sparingly;
use futures_util::FutureExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::{sleep, sleep_until},
};

use super::{
    Settings, Timing, jitter,
    link::{Broken, Link, sentence},
    pace::{Pace, QUIET},
    resp::{Frame, Part},
};

/// What may wait for Redis: messages, and all of them together.
const MESSAGES: usize = 4_096;
const BYTES: usize = 32 << 20;
/// What a message costs beside its bytes.
const OVERHEAD: usize = 256;

/// Why something was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unpublished {
    /// There is no connection to Redis, or it broke before the answer.
    #[error("Redis is down")]
    Down,
    /// As much waits for Redis as may wait.
    #[error("too much waits for Redis")]
    Full,
    /// Redis does not take it.
    #[error("Redis refuses the message")]
    Refused,
}

struct Message {
    key: String,
    payload: Bytes,
    told: oneshot::Sender<Result<(), Unpublished>>,
    _room: OwnedSemaphorePermit,
}

/// The entrance.
#[derive(Debug)]
pub(super) struct Entrance {
    queue: mpsc::Sender<Message>,
    room: Arc<Semaphore>,
    up: watch::Sender<bool>,
}

/// The exit.
pub(super) struct Exit(mpsc::Receiver<Message>);

pub(super) fn queue() -> (Entrance, Exit) {
    let (queue, exit) = mpsc::channel(MESSAGES);
    (Entrance { queue, room: Arc::new(Semaphore::new(BYTES)), up: watch::Sender::new(false) }, Exit(exit))
}

impl Entrance {
    /// Keeps the order of the calls; the future tells what became of it.
    pub(super) fn publish(
        &self,
        key: String,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), Unpublished>> + Send + 'static + use<> {
        let offered = self.offer(key, payload);
        async move { offered?.await.unwrap_or(Err(Unpublished::Down)) }
    }

    fn offer(
        &self,
        key: String,
        payload: Bytes,
    ) -> Result<oneshot::Receiver<Result<(), Unpublished>>, Unpublished> {
        if !*self.up.borrow() {
            return Err(Unpublished::Down);
        }
        let weight = u32::try_from(payload.len() + key.len() + OVERHEAD).map_err(|_| Unpublished::Full)?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(weight).map_err(|_| Unpublished::Full)?;
        let (told, answer) = oneshot::channel();
        let message = Message { key, payload, told, _room: room };
        self.queue.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unpublished::Full,
            mpsc::error::TrySendError::Closed(_) => Unpublished::Down,
        })?;
        Ok(answer)
    }

    /// Whether there is a connection, and changes of that.
    pub(super) fn up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }
}

/// Sends what comes; never ends.
pub(super) async fn keep(settings: &Settings, entrance: &Entrance, mut exit: Exit) {
    let (mut pace, mut lines, mut refusals) =
        (Pace::new(), Sparingly::once_in(QUIET), Sparingly::once_in(QUIET));
    loop {
        let broken = match failing(&mut exit, Link::connect(settings)).await {
            Ok(link) => {
                pace.up(Instant::now());
                entrance.up.send_replace(true);
                tracing::debug!("connected to Redis, to publish");
                let broken = serve(link, settings.timing, &mut exit, &mut refusals).await;
                entrance.up.send_replace(false);
                broken
            }
            Err(broken) => broken,
        };
        let now = Instant::now();
        if let Some(unsaid) = lines.now() {
            tracing::warn!(error = %broken, unsaid, "nothing can be published: Redis cannot be reached");
        }
        failing(&mut exit, sleep(pace.down(now, jitter()))).await;
    }
}

/// Does something while nothing can be published: what slips into the queue fails at once.
async fn failing<T>(exit: &mut Exit, doing: impl Future<Output = T>) -> T {
    let fail = async {
        while let Some(message) = exit.0.recv().await {
            // Whoever published it may be gone.
            let _ = message.told.send(Err(Unpublished::Down));
        }
        std::future::pending().await
    };
    tokio::select! {
        done = doing => done,
        never = fail => never,
    }
}

/// What Redis owes an answer to.
enum Owed {
    Publication(Message),
    Pong,
}

async fn serve(mut link: Link, timing: Timing, exit: &mut Exit, refusals: &mut Sparingly) -> Broken {
    let mut owed = VecDeque::new();
    // When Redis was last heard, or began to owe something.
    let mut heard = Instant::now();
    loop {
        loop {
            match link.frame() {
                Ok(Some(frame)) => {
                    heard = Instant::now();
                    if let Err(broken) = answered(&mut owed, frame, refusals) {
                        return broken;
                    }
                }
                Ok(None) => break,
                Err(garbage) => return garbage.into(),
            }
        }
        let wake = heard + if owed.is_empty() { timing.every } else { timing.within };
        let room = link.has_room() && owed.len() < MESSAGES;
        tokio::select! {
            progress = link.progress() => if let Err(broken) = progress { return broken },
            message = exit.0.recv(), if room => {
                if owed.is_empty() {
                    heard = Instant::now();
                }
                let mut next = message;
                while let Some(message) = next {
                    link.send(&[b"PUBLISH", message.key.as_bytes(), &message.payload]);
                    // Its bytes are kept, too: they count until the answer.
                    owed.push_back(Owed::Publication(message));
                    next = if link.has_room() && owed.len() < MESSAGES { exit.0.try_recv().ok() } else { None };
                }
            }
            () = sleep_until(wake.into()) => {
                if !owed.is_empty() {
                    // It may be this process that was given no time, and the answer is here.
                    match link.progress().now_or_never() {
                        Some(Ok(())) => continue,
                        Some(Err(broken)) => return broken,
                        None => return Broken::Silent,
                    }
                }
                link.send(&[b"PING"]);
                owed.push_back(Owed::Pong);
                heard = Instant::now();
            }
        }
    }
}

fn answered(owed: &mut VecDeque<Owed>, frame: Frame, refusals: &mut Sparingly) -> Result<(), Broken> {
    let (told, result) = match (owed.pop_front(), frame) {
        (Some(Owed::Publication(message)), Frame::One(Part::Integer(_))) => (message.told, Ok(())),
        (Some(Owed::Publication(message)), Frame::One(Part::Error(said))) => {
            if let Some(unsaid) = refusals.now() {
                tracing::warn!(error = sentence(&said), unsaid, "Redis refuses a message");
            }
            (message.told, Err(Unpublished::Refused))
        }
        (Some(Owed::Pong), Frame::One(Part::Status(_))) => return Ok(()),
        (Some(_) | None, Frame::One(Part::Error(said))) => return Err(Broken::Refused(sentence(&said))),
        (Some(_) | None, Frame::One(_) | Frame::Many(_)) => return Err(super::Unasked.into()),
    };
    // Whoever published it may be gone.
    let _ = told.send(result);
    Ok(())
}
