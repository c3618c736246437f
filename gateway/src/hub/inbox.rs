//! What a connection is subscribed to, and what waits for it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

use super::{Hub, Owner, Sent, lock, topic::Topic};
use crate::call::{Address, EVENTS_MAX, EventName, EventNames};

/// Messages that wait for one connection.
pub(super) const WAITING: usize = 1_024;
/// What they weigh, in bytes.
pub(super) const WEIGHT: usize = 4 << 20;

/// What is taken at once at most, if it is more than one message.
const PORTION: usize = 256 << 10;

/// Why nothing of a request about events or channels was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No event is called so.
    Unknown,
    /// There are as many subscriptions as may be.
    TooMany,
}

/// One connection's subscriptions. They end when it is dropped.
#[derive(Debug)]
pub struct Inbox {
    hub: Hub,
    queue: Arc<Queue>,
    topics: BTreeMap<EventName, Arc<Topic>>,
    channels: BTreeSet<Address>,
    owner: Owner,
    /// The most channels.
    most: usize,
}

/// The end at which messages come in.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Something is to be taken, for those who only look.
    stirred: AtomicBool,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Sent>,
    weight: usize,
    /// More came than may wait: nothing is kept any more.
    overflowed: Option<Overflowed>,
}

impl Queue {
    /// Adds a message of this weight.
    pub(super) fn push(&self, message: Sent, weight: usize) {
        self.push_within(message, weight, WEIGHT);
    }

    /// The same, where no more than so much may wait beside it.
    pub(super) fn push_within(&self, message: Sent, weight: usize, most: usize) {
        {
            let mut waiting = lock(&self.waiting);
            if waiting.overflowed.is_some() {
                return;
            }
            let full = waiting.messages.len() >= WAITING || waiting.weight > most;
            let weight = waiting.weight.saturating_add(weight);
            if full || weight > WEIGHT {
                let overflowed = match message {
                    Sent::Event(_) => Overflowed::Events,
                    Sent::Delivery(_) | Sent::Notice(_) | Sent::Lost(_) => Overflowed::Channels,
                };
                *waiting = Waiting { overflowed: Some(overflowed), ..Waiting::default() };
            } else {
                waiting.weight = weight;
                waiting.messages.push_back(message);
            }
            self.stirred.store(true, Ordering::Release);
        }
        self.waker.wake();
    }

    fn stirred(&self) -> bool {
        self.stirred.load(Ordering::Acquire)
    }

    /// After something was taken out, and still under its lock.
    fn look(&self, waiting: &Waiting) {
        let stirred = waiting.overflowed.is_some() || !waiting.messages.is_empty();
        self.stirred.store(stirred, Ordering::Release);
    }
}

/// The connection did not read in time; it must be told and closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflowed {
    /// An event was one too many.
    Events,
    /// A message of a channel was.
    Channels,
}

impl Inbox {
    pub(super) fn new(hub: Hub, owner: Owner, most: usize) -> Self {
        let (topics, channels) = (BTreeMap::new(), BTreeSet::new());
        Self { hub, queue: Arc::default(), topics, channels, owner, most }
    }

    /// Subscribes to what is said at an address; once more is once.
    ///
    /// # Errors
    /// At a bound.
    pub fn enter(&mut self, at: &Address) -> Result<(), Refused> {
        if self.channels.contains(at) {
            return Ok(());
        }
        if self.channels.len() >= self.most {
            return Err(Refused::TooMany);
        }
        self.hub.enter(at, &self.owner, &self.queue, true)?;
        self.channels.insert(at.clone());
        Ok(())
    }

    /// The same whatever the bounds: for the one channel that everybody has who is logged in.
    pub fn enter_own(&mut self, at: &Address) {
        if !self.channels.contains(at) && self.hub.enter(at, &self.owner, &self.queue, false).is_ok() {
            self.channels.insert(at.clone());
        }
    }

    /// Ends a subscription; whether now nobody listens there. What came before is not sent after it.
    pub fn leave(&mut self, at: &Address) -> bool {
        if !self.channels.remove(at) {
            return false;
        }
        let last = self.hub.leave(at, &self.owner, &self.queue);
        self.forget(|message| matches!(message, Sent::Delivery(delivery) if delivery.at == *at));
        last
    }

    /// Whether it is subscribed to what is said there.
    pub fn is_in(&self, at: &Address) -> bool {
        self.channels.contains(at)
    }

    /// Is told that messages may be missed, if they still may: whoever has just entered was not when it began.
    pub fn hear_of_interruption(&self) {
        self.hub.tell_of_interruption(&self.queue);
    }

    /// Where it is subscribed to.
    pub fn channels(&self) -> impl ExactSizeIterator<Item = &Address> {
        self.channels.iter()
    }

    /// Whose subscriptions these are from now on. Those to channels that do not fit beside others of that owner end:
    /// which, and of each whether now nobody listens there.
    pub fn belongs_to(&mut self, owner: Owner) -> Vec<(Address, bool)> {
        if owner == self.owner {
            return Vec::new();
        }
        let moved = self.hub.moved(&self.owner, &owner, self.channels.len());
        let over: Vec<_> = self.channels.iter().skip(moved).cloned().collect();
        let over = over.into_iter().map(|at| (at.clone(), self.leave(&at))).collect();
        self.owner = owner;
        over
    }

    /// Nothing is subscribed to.
    pub fn is_idle(&self) -> bool {
        self.topics.is_empty() && self.channels.is_empty()
    }

    fn forget(&self, meant: impl Fn(&Sent) -> bool) {
        let mut waiting = lock(&self.queue.waiting);
        waiting.messages.retain(|message| !meant(message));
        waiting.weight = waiting.messages.iter().map(Sent::weight).sum();
        self.queue.look(&waiting);
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
                self.leave_topic(&topic);
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
            self.leave_topic(&topic);
        }
    }

    /// What came before the end of a subscription is not sent after it.
    fn leave_topic(&self, topic: &Topic) {
        topic.leave(&self.queue);
        self.forget(|message| matches!(message, Sent::Event(event) if event.name == topic.name));
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

    /// The next messages: `most` at a time, and not more than the client can be sent at once.
    ///
    /// # Errors
    /// When more came than may wait.
    pub fn take(&self, most: usize) -> Result<Vec<Sent>, Overflowed> {
        let mut waiting = lock(&self.queue.waiting);
        if let Some(overflowed) = waiting.overflowed {
            return Err(overflowed);
        }
        let (mut count, mut weight) = (0, 0);
        for message in waiting.messages.iter().take(most) {
            let more = weight + message.weight();
            if count > 0 && more > PORTION {
                break;
            }
            (count, weight) = (count + 1, more);
        }
        waiting.weight = waiting.weight.saturating_sub(weight);
        let taken = waiting.messages.drain(..count).collect();
        self.queue.look(&waiting);
        Ok(taken)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        for at in std::mem::take(&mut self.channels) {
            self.hub.leave(&at, &self.owner, &self.queue);
        }
        for topic in std::mem::take(&mut self.topics).into_values() {
            topic.leave(&self.queue);
            self.hub.tidy(&topic);
        }
    }
}
