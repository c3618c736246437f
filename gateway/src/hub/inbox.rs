//! What a connection is subscribed to, and the events that wait for it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

use super::{Event, Hub, lock, topic::Topic};
use crate::call::{EVENTS_MAX, EventName, EventNames};

/// Events that wait for one connection.
pub(super) const WAITING: usize = 1_024;
/// What they weigh, in bytes.
pub(super) const WEIGHT: usize = 4 << 20;

/// Why nothing of a request about events was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No event is called so.
    Unknown,
    /// The connection is subscribed to as many events as may be.
    TooMany,
}

/// One connection's subscriptions. They end when it is dropped.
#[derive(Debug)]
pub struct Inbox {
    hub: Hub,
    queue: Arc<Queue>,
    topics: BTreeMap<EventName, Arc<Topic>>,
}

/// The end at which events come in.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    weight: usize,
    /// More came than may wait: nothing is kept any more.
    overflowed: bool,
}

impl Queue {
    pub(super) fn push(&self, event: Arc<Event>) {
        {
            let mut waiting = lock(&self.waiting);
            if waiting.overflowed {
                return;
            }
            let weight = waiting.weight.saturating_add(event.weight());
            if waiting.events.len() >= WAITING || weight > WEIGHT {
                *waiting = Waiting { overflowed: true, ..Waiting::default() };
            } else {
                waiting.weight = weight;
                waiting.events.push_back(event);
            }
        }
        self.waker.wake();
    }

    fn stirred(&self) -> bool {
        let waiting = lock(&self.waiting);
        waiting.overflowed || !waiting.events.is_empty()
    }
}

/// The connection did not read its events in time; it must be told and closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflowed;

impl Inbox {
    pub(super) fn new(hub: Hub) -> Self {
        Self { hub, queue: Arc::default(), topics: BTreeMap::new() }
    }

    /// Subscribes to those of the events that are known; in the same form, which. Once more is once.
    ///
    /// # Errors
    /// When it was none.
    pub fn subscribe(&mut self, names: EventNames) -> Result<EventNames, Refused> {
        let mut full = false;
        let accepted = names.accepted(|name| {
            if self.topics.contains_key(name) {
                return true;
            }
            let Some(topic) = self.hub.topic(name).filter(|topic| topic.is_offered()) else { return false };
            if self.topics.len() >= EVENTS_MAX {
                full = true;
                return false;
            }
            let entered = topic.enter(&self.queue);
            if entered {
                self.topics.insert(name.clone(), topic);
            }
            entered
        });
        accepted.ok_or(if full { Refused::TooMany } else { Refused::Unknown })
    }

    /// Ends subscriptions; which events were meant, whether or not there was one.
    ///
    /// # Errors
    /// When no event is called so.
    pub fn unsubscribe(&mut self, names: EventNames) -> Result<EventNames, Refused> {
        let accepted = names.accepted(|name| match self.topics.remove(name) {
            Some(topic) => {
                self.leave(&topic);
                true
            }
            None => self.hub.topic(name).is_some_and(|topic| topic.is_offered()),
        });
        accepted.ok_or(Refused::Unknown)
    }

    /// Ends the subscriptions of which this is not true.
    pub fn keep_only(&mut self, keeps: impl Fn(&EventName) -> bool) {
        let over: Vec<_> = self.topics.keys().filter(|name| !keeps(name)).cloned().collect();
        for topic in over.iter().filter_map(|name| self.topics.remove(name)).collect::<Vec<_>>() {
            self.leave(&topic);
        }
    }

    /// What came before the end of a subscription is not sent after it.
    fn leave(&self, topic: &Topic) {
        topic.leave(&self.queue);
        {
            let mut waiting = lock(&self.queue.waiting);
            waiting.events.retain(|event| event.name != topic.name);
            waiting.weight = waiting.events.iter().map(|event| event.weight()).sum();
        }
        self.hub.tidy(topic);
    }

    /// Ready when something waits.
    pub fn poll_stirred(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.queue.stirred() {
            return Poll::Ready(());
        }
        self.queue.waker.register(context.waker());
        // It may have come between the look and the registration.
        if self.queue.stirred() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The next events, `most` at a time.
    ///
    /// # Errors
    /// When more came than may wait.
    pub fn take(&self, most: usize) -> Result<Vec<Arc<Event>>, Overflowed> {
        let mut waiting = lock(&self.queue.waiting);
        if waiting.overflowed {
            return Err(Overflowed);
        }
        let count = most.min(waiting.events.len());
        let taken: Vec<_> = waiting.events.drain(..count).collect();
        waiting.weight -= taken.iter().map(|event| event.weight()).sum::<usize>();
        Ok(taken)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        for topic in std::mem::take(&mut self.topics).into_values() {
            topic.leave(&self.queue);
            self.hub.tidy(&topic);
        }
    }
}
