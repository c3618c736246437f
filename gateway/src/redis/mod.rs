//! A client of Redis (or Valkey) for publishing and subscribing, and nothing else.
//!
//! Written here because what there is to be had keeps messages in queues without a bound, and reads lengths without
//! one: whoever can publish could have the gateway's memory. Knows keys and bytes; what they mean is said by
//! `channels/engine/`. Two connections, since one that subscribes can do nothing else: [`publisher`] and [`subscriber`].

mod subscriber;

mod publisher;

mod table;

mod link;

mod resp;

mod pace;

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::watch;

pub use self::{
    link::{Address, Login, Trust},
    publisher::Unpublished,
    resp::Garbage,
    table::{NotSure, Unasked},
};
use self::{
    publisher::{Entrance, Exit},
    subscriber::Wishes,
};

/// For the fuzzer: how many frames there are in these pieces, one after the other, or what is not of the protocol.
///
/// # Errors
/// [`Garbage`], as of a connection that is closed for it.
#[doc(hidden)]
pub fn frames(pieces: &[&[u8]]) -> Result<usize, Garbage> {
    let (mut decoder, mut buffer, mut count) = (resp::Decoder::new(64), bytes::BytesMut::new(), 0);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while decoder.next(&mut buffer)?.is_some() {
            count += 1;
        }
    }
    Ok(count)
}

/// How to reach it, and what is taken from it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it is.
    pub address: Address,
    /// Who the gateway is there.
    pub login: Login,
    /// A longer payload is dropped.
    pub payload_max: usize,
    /// How a Redis that hangs is found out.
    pub timing: Timing,
}

/// How long it may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// After so much silence it is asked whether it is there.
    pub every: Duration,
    /// So soon it has to answer.
    pub within: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { every: Duration::from_secs(5), within: Duration::from_secs(5) }
    }
}

/// Who gets what is subscribed to. Nothing here may wait.
pub trait Listener<A>: Send + Sync {
    /// A message of a topic.
    fn message(&self, at: &A, payload: Bytes);
    /// A topic that somebody had is refused on a new connection: nothing more comes.
    fn lost(&self, at: &A);
    /// Messages may be missed from now on, or none any more: told in turn, between the messages that it is about.
    fn interrupted(&self, interrupted: bool);
}

/// For those who publish and subscribe. `A` is what a topic is to them. Clones are the same.
#[derive(Debug)]
pub struct Handle<A>(Arc<Shared<A>>);

#[derive(Debug)]
struct Shared<A> {
    entrance: Entrance,
    wishes: Wishes<A>,
}

impl<A> Clone for Handle<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// What [`Handle::keep`] is to send.
pub struct Queue(Exit);

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}

impl<A: Send + Sync + 'static> Handle<A> {
    /// Does nothing until it is kept.
    pub fn new() -> (Self, Queue) {
        let (entrance, exit) = publisher::queue();
        (Self(Arc::new(Shared { entrance, wishes: Wishes::new() })), Queue(exit))
    }

    /// Keeps the connections and hands over what comes, without waiting for anybody; never ends.
    pub async fn keep(self, queue: Queue, settings: Settings, listener: impl Listener<A>) {
        let Shared { entrance, wishes } = &*self.0;
        tokio::join!(
            publisher::keep(&settings, entrance, queue.0),
            subscriber::keep(&settings, wishes, &listener),
        );
    }

    /// Publishes. Keeps the order of the calls; the future tells what became of it.
    pub fn publish(
        &self,
        key: String,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), Unpublished>> + Send + 'static + use<A> {
        self.0.entrance.publish(key, payload)
    }

    /// Somebody wants a topic. The future tells when messages are sure to arrive; that they are not now is told at
    /// once, and they will as soon as the interruption is over.
    pub fn enter(
        &self,
        key: &str,
        at: A,
    ) -> impl Future<Output = Result<(), NotSure>> + Send + 'static + use<A> {
        self.0.wishes.enter(key, at)
    }

    /// Nobody wants a topic any more, if that is so: asked where no [`Handle::enter`] comes in between.
    pub fn leave(&self, key: &str, is_wanted: impl FnOnce() -> bool) {
        self.0.wishes.leave(key, is_wanted);
    }

    /// Whether messages may be missed now.
    pub fn interrupted(&self) -> watch::Receiver<bool> {
        self.0.wishes.interrupted()
    }

    /// Whether anything can be published.
    pub fn publishes(&self) -> watch::Receiver<bool> {
        self.0.entrance.up()
    }
}

/// A system without randomness has no jitter, and nothing rests on it.
fn jitter() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}
