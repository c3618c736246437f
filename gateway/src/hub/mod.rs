//! Events and what is said on channels, from whoever publishes it to the connections that are subscribed.
//!
//! An event is published once and its text made once; every subscriber gets the same bytes. Publishing never
//! waits: each connection has an inbox with a bound, and one that is full is closed to everything, which
//! its connection finds out when it looks. The events of subsystems are registered ([`Hub::register`]) by
//! `subsystem/events.rs`, which holds each [`Publisher`] as long as its subsystem is up.

mod audience;
mod inbox;
mod sent;
mod topic;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::AtomicUsize},
};

use bytes::Bytes;
use serde_json::value::RawValue;

use self::{
    audience::{Audiences, MEMORY},
    topic::Topic,
};
pub use self::{
    audience::{Delivery, Owner, PAYLOAD_MAX},
    inbox::{Inbox, Overflowed, Refused},
    sent::{Notice, Sent},
};
use crate::{call::EventName, gate::Source};

/// Names of events that can be known at once.
const TOPICS: usize = 1_024;
/// The largest args of an event, in bytes of JSON.
pub const ARGS_MAX: usize = 64 << 10;
/// Told to every session about itself, and published by nobody.
const AUTH: &str = "auth";

/// Where events go through. Clones are the same hub.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    topics: Mutex<BTreeMap<EventName, Arc<Topic>>>,
    audiences: Mutex<Audiences>,
    /// Memory of what was said on channels and waits somewhere, and how much of it is none too much.
    waiting: Arc<AtomicUsize>,
    memory: usize,
}

/// Why a name cannot be registered, or an event not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// Somebody else publishes it.
    #[error("the event has a publisher already")]
    Taken,
    /// As many names as may be.
    #[error("too many events are known")]
    TooMany,
    /// Over [`ARGS_MAX`] or [`PAYLOAD_MAX`].
    #[error("it is too large")]
    TooLarge,
}

/// One event.
#[derive(Debug)]
pub struct Event {
    /// Its name.
    pub name: EventName,
    /// JSON.
    pub args: Box<RawValue>,
    text: OnceLock<Bytes>,
}

impl Event {
    /// The event as a message, made by the first who asks.
    pub fn text(&self, encode: impl FnOnce(&Self) -> Vec<u8>) -> Bytes {
        self.text.get_or_init(|| encode(self).into()).clone()
    }

    fn weight(&self) -> usize {
        sent::weigh(self.args.get().len() + self.name.as_str().len())
    }
}

/// The right to publish an event. When it is dropped the event is unknown again; who is subscribed stays
/// so, for the next publisher.
#[derive(Debug)]
pub struct Publisher {
    hub: Hub,
    topic: Arc<Topic>,
}

impl Publisher {
    /// Sends an event to everybody who is subscribed, and keeps it for those who come later.
    ///
    /// # Errors
    /// When it is too large; then nobody gets it.
    pub fn publish(&self, args: Box<RawValue>) -> Result<(), HubError> {
        if args.get().len() > ARGS_MAX {
            return Err(HubError::TooLarge);
        }
        let event = Event { name: self.topic.name.clone(), args, text: OnceLock::new() };
        self.topic.publish(Arc::new(event));
        Ok(())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.topic.withdraw();
        self.hub.tidy(&self.topic);
    }
}

impl Hub {
    /// Knows `auth` and nothing else.
    pub fn new() -> Self {
        Self::with_memory(MEMORY)
    }

    fn with_memory(memory: usize) -> Self {
        let hub = Self(Arc::new(Inner {
            topics: Mutex::default(),
            audiences: Mutex::default(),
            waiting: Arc::default(),
            memory,
        }));
        if let Some(auth) = EventName::parse(AUTH) {
            let topic = Topic::new(auth.clone());
            topic.offer();
            hub.topics().insert(auth, Arc::new(topic));
        }
        hub
    }

    /// Makes an event known.
    ///
    /// # Errors
    /// When it has a publisher, and at the bound.
    pub fn register(&self, name: EventName) -> Result<Publisher, HubError> {
        let mut topics = self.topics();
        let full = topics.len() >= TOPICS;
        let topic = match topics.get(&name) {
            Some(topic) => Arc::clone(topic),
            None if full => return Err(HubError::TooMany),
            None => {
                let topic = Arc::new(Topic::new(name.clone()));
                topics.insert(name, Arc::clone(&topic));
                topic
            }
        };
        if !topic.offer() {
            return Err(HubError::Taken);
        }
        Ok(Publisher { hub: self.clone(), topic })
    }

    /// An inbox without subscriptions, for events alone.
    pub fn inbox(&self) -> Inbox {
        self.inbox_of(Owner::Source(Source::Uid(u32::MAX)), 0)
    }

    /// An inbox without subscriptions, for events and so many channels.
    pub fn inbox_of(&self, owner: Owner, channels: usize) -> Inbox {
        Inbox::new(self.clone(), owner, channels)
    }

    fn topic(&self, name: &EventName) -> Option<Arc<Topic>> {
        self.topics().get(name).cloned()
    }

    /// Forgets a topic that has neither publisher nor subscriber.
    fn tidy(&self, topic: &Topic) {
        let mut topics = self.topics();
        if topics.get(&topic.name).is_some_and(|known| std::ptr::eq(&**known, topic) && known.is_void()) {
            topics.remove(&topic.name);
        }
    }

    fn topics(&self) -> MutexGuard<'_, BTreeMap<EventName, Arc<Topic>>> {
        lock(&self.0.topics)
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

/// Nothing that holds these locks can panic half-way through a change. A topic's or an audience's lock is taken under
/// the hub's, an inbox's under a topic's or an audience's, and never the other way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
