//! Who listens at the addresses of channels, and what is said there.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    Hub, HubError, Refused, Sent,
    inbox::{Queue, WEIGHT},
    lock,
    sent::{Notice, weigh},
};
use crate::{call::Address, depth::deeper_than, gate::Source, plain::is_plain};

/// The largest message, in bytes of JSON.
pub const PAYLOAD_MAX: usize = 1 << 20;
/// What is nested more deeply is passed on as a string: not every client reads it.
const DEPTH: usize = 126;
/// Subscriptions of all connections together, and the most of one owner: a sixteenth.
const ALL: usize = 1 << 18;
const OF_ONE: usize = ALL / 16;

/// Whose subscriptions are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Of those who are not logged in: where they are from.
    Source(Source),
    /// Kind and id.
    Identity(Arc<str>),
}

/// What waits for all connections together, in bytes of memory: beyond that who reads slowly may have only so much
/// waiting, and is closed with more.
pub(super) const MEMORY: usize = 256 << 20;
const WEIGHT_UNDER_PRESSURE: usize = 64 << 10;

/// What was said on a channel.
#[derive(Debug)]
pub struct Delivery {
    /// Where.
    pub at: Address,
    /// JSON.
    pub message: Box<RawValue>,
    text: OnceLock<Bytes>,
    _held: Held,
}

/// Memory that is counted until it is free again.
#[derive(Debug)]
struct Held {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Held {
    fn new(bytes: usize, all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, all: Arc::clone(all) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Delivery {
    /// The delivery as a message, made by the first who asks.
    pub fn text(&self, encode: impl FnOnce(&Self) -> Vec<u8>) -> Bytes {
        self.text.get_or_init(|| encode(self).into()).clone()
    }

    pub(super) fn weight(&self) -> usize {
        let pk = self.at.pk.as_ref().map_or(0, |pk| pk.as_str().len());
        weigh(self.message.get().len() + self.at.channel.as_str().len() + pk)
    }
}

/// Those who listen at one address. It lives while there are any.
#[derive(Debug, Default)]
pub(super) struct Audience(Mutex<Vec<Arc<Queue>>>);

#[derive(Debug, Default)]
pub(super) struct Audiences {
    by_address: HashMap<Address, Arc<Audience>>,
    owners: HashMap<Owner, usize>,
    all: usize,
    /// Messages may be missed now.
    interrupted: bool,
}

impl Audiences {
    fn count(&mut self, owner: &Owner, more: usize, fewer: usize) {
        self.all = (self.all + more).saturating_sub(fewer);
        let count = self.owners.entry(owner.clone()).or_default();
        *count = (*count + more).saturating_sub(fewer);
        if *count == 0 {
            self.owners.remove(owner);
        }
    }

    fn has_room(&self, owner: &Owner) -> bool {
        self.all < ALL && self.owners.get(owner).is_none_or(|count| *count < OF_ONE)
    }
}

impl Hub {
    /// Brings a message to everybody who listens there. What is no JSON becomes a string.
    ///
    /// # Errors
    /// When it is too large; then nobody gets it.
    pub fn deliver(&self, at: &Address, payload: &[u8]) -> Result<(), HubError> {
        if payload.len() > PAYLOAD_MAX {
            return Err(HubError::TooLarge);
        }
        let Some(audience) = lock(&self.0.audiences).by_address.get(at).cloned() else { return Ok(()) };
        let message = json(payload).ok_or(HubError::TooLarge)?;
        // The message, and its text when it is made.
        let held = Held::new(2 * weigh(message.get().len()), &self.0.waiting);
        let most = if self.0.waiting.load(Ordering::Relaxed) > self.0.memory {
            WEIGHT_UNDER_PRESSURE
        } else {
            WEIGHT
        };
        let delivery = Arc::new(Delivery { at: at.clone(), message, text: OnceLock::new(), _held: held });
        let weight = delivery.weight();
        for queue in lock(&audience.0).iter() {
            queue.push_within(Sent::Delivery(Arc::clone(&delivery)), weight, most);
        }
        Ok(())
    }

    /// Whether somebody listens there.
    pub fn is_heard(&self, at: &Address) -> bool {
        lock(&self.0.audiences).by_address.contains_key(at)
    }

    /// Tells everybody who listens anywhere, once.
    pub fn tell(&self, notice: Notice) {
        // Under one lock with who enters, so that everybody hears of what is true when they have.
        let mut audiences = lock(&self.0.audiences);
        match notice {
            Notice::Interrupted => audiences.interrupted = true,
            Notice::Resumed => audiences.interrupted = false,
            Notice::LookAgain => {}
        }
        let mut told = HashSet::new();
        for audience in audiences.by_address.values() {
            for queue in lock(&audience.0).iter() {
                if told.insert(Arc::as_ptr(queue)) {
                    queue.push(Sent::Notice(notice), weigh(0));
                }
            }
        }
    }

    /// Whether messages may be missed now.
    pub fn is_interrupted(&self) -> bool {
        lock(&self.0.audiences).interrupted
    }

    /// Tells one who has entered while messages may be missed, if they still may.
    pub(super) fn tell_of_interruption(&self, queue: &Queue) {
        if lock(&self.0.audiences).interrupted {
            queue.push(Sent::Notice(Notice::Interrupted), weigh(0));
        }
    }

    /// Tells everybody who listens there that nothing more will come.
    pub fn lost(&self, at: &Address) {
        let Some(audience) = lock(&self.0.audiences).by_address.get(at).cloned() else { return };
        let at = Arc::new(at.clone());
        for queue in lock(&audience.0).iter() {
            queue.push(Sent::Lost(Arc::clone(&at)), weigh(0));
        }
    }

    /// `bounded`: not beyond what all, or one owner, may have.
    pub(super) fn enter(
        &self,
        at: &Address,
        owner: &Owner,
        queue: &Arc<Queue>,
        bounded: bool,
    ) -> Result<(), Refused> {
        let mut audiences = lock(&self.0.audiences);
        if bounded && !audiences.has_room(owner) {
            return Err(Refused::TooMany);
        }
        audiences.count(owner, 1, 0);
        let audience = audiences.by_address.entry(at.clone()).or_default();
        lock(&audience.0).push(Arc::clone(queue));
        Ok(())
    }

    /// Whether it was the last who listened there.
    pub(super) fn leave(&self, at: &Address, owner: &Owner, queue: &Arc<Queue>) -> bool {
        let mut audiences = lock(&self.0.audiences);
        audiences.count(owner, 0, 1);
        let Entry::Occupied(entry) = audiences.by_address.entry(at.clone()) else { return false };
        let void = {
            let mut queues = lock(&entry.get().0);
            if let Some(place) = queues.iter().position(|entered| Arc::ptr_eq(entered, queue)) {
                queues.swap_remove(place);
            }
            queues.is_empty()
        };
        if void {
            entry.remove();
        }
        void
    }

    /// So many subscriptions, or as many of them as fit, are somebody else's from now on; how many.
    pub(super) fn moved(&self, from: &Owner, to: &Owner, count: usize) -> usize {
        let mut audiences = lock(&self.0.audiences);
        let has = audiences.owners.get(to).copied().unwrap_or(0);
        let count = count.min(OF_ONE.saturating_sub(has));
        audiences.count(from, 0, count);
        audiences.count(to, count, 0);
        count
    }

    #[cfg(test)]
    pub(super) fn counted(&self) -> (usize, usize, usize) {
        let audiences = lock(&self.0.audiences);
        (audiences.all, audiences.owners.len(), audiences.by_address.len())
    }
}

/// The payload as it is, if it is JSON that everybody reads, else as a string; None if that is too large.
fn json(payload: &[u8]) -> Option<Box<RawValue>> {
    let text = String::from_utf8_lossy(payload);
    if !deeper_than(&text, DEPTH)
        && is_plain(&text)
        && let Ok(message) = serde_json::from_str::<&RawValue>(&text)
    {
        return Some(message.to_owned());
    }
    let string = serde_json::to_string(&*text).ok().filter(|text| text.len() <= PAYLOAD_MAX)?;
    RawValue::from_string(string).ok()
}
