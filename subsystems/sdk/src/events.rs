//! Events: what happens, told to the gateway while it listens.
//!
//! One stream at a time, the newest: a gateway that was started anew comes while the old connection may not be
//! known to be gone. What happens while nobody listens is not kept, but for the last one of each name, which a
//! new stream begins with. Publishing never waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use doorward_launch::log::Sparingly;
use doorward_proto::subsystem::v1 as wire;
use futures_util::{Stream, stream::unfold};
use serde::Serialize;
use tokio::sync::Notify;

use crate::bounds::{EVENT_MAX, EVENTS_QUEUE, EVENTS_QUEUE_BYTES};

/// Why an event was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unpublished {
    /// The subsystem does not describe it.
    #[error("the subsystem has no such event")]
    Unknown,
    /// It is longer than 64 KiB, or no JSON.
    #[error("the event is longer than 64 KiB, or no JSON")]
    TooLong,
    /// The gateway listens, and takes events more slowly than they come: this one is lost.
    #[error("the gateway takes events more slowly than they come")]
    Full,
}

/// Publishes; clones publish to the same stream.
#[derive(Debug, Clone, Default)]
pub struct Publisher(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    more: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The last one of each name that there is, in the order in which the names stand in the description.
    last: Vec<(String, Option<Told>)>,
    places: HashMap<String, usize>,
    queue: VecDeque<wire::Event>,
    bytes: usize,
    /// The number of the stream that is served; those before it end.
    stream: u64,
    listening: bool,
    /// Counts events, so that the last ones begin a stream in their order.
    number: u64,
    lost: u64,
    told: Sparingly,
}

#[derive(Debug, Clone)]
struct Told {
    number: u64,
    args: Vec<u8>,
}

impl Publisher {
    /// Tells the gateway, if it listens; else it is the last of its name until the next one.
    ///
    /// # Errors
    /// [`Unpublished`] says why it is not told.
    pub fn publish(&self, name: &str, args: &impl Serialize) -> Result<(), Unpublished> {
        let args = serde_json::to_vec(args).map_err(|_| Unpublished::TooLong)?;
        if args.len() > EVENT_MAX {
            return Err(Unpublished::TooLong);
        }
        let mut state = self.0.state();
        let place = state.places.get(name).copied().ok_or(Unpublished::Unknown)?;
        state.number += 1;
        let number = state.number;
        if let Some((_, last)) = state.last.get_mut(place) {
            *last = Some(Told { number, args: args.clone() });
        }
        if !state.listening {
            return Ok(());
        }
        let bytes = name.len() + args.len();
        if state.queue.len() >= EVENTS_QUEUE || state.bytes + bytes > EVENTS_QUEUE_BYTES {
            state.lost += 1;
            let lost = state.lost;
            if let Some(unsaid) = state.told.now() {
                tracing::warn!(event = name, lost, unsaid, "events are lost: the gateway is too slow");
            }
            return Err(Unpublished::Full);
        }
        state.bytes += bytes;
        state.queue.push_back(wire::Event { name: name.to_owned(), args });
        drop(state);
        self.0.more.notify_one();
        Ok(())
    }

    /// There is an event of this name.
    pub(crate) fn declare(&self, name: &str) {
        let mut state = self.0.state();
        if !state.places.contains_key(name) {
            let place = state.last.len();
            state.places.insert(name.to_owned(), place);
            state.last.push((name.to_owned(), None));
        }
    }

    /// What a stream gets from now on; the one before it ends.
    pub(crate) fn listen(&self) -> impl Stream<Item = wire::Event> + Send + use<> {
        let mut state = self.0.state();
        state.stream += 1;
        let number = state.stream;
        state.listening = true;
        let mut last: Vec<_> =
            state.last.iter().filter_map(|(name, told)| Some((name.clone(), told.clone()?))).collect();
        last.sort_by_key(|(_, told)| told.number);
        state.queue = last.into_iter().map(|(name, told)| wire::Event { name, args: told.args }).collect();
        state.bytes = state.queue.iter().map(|event| event.name.len() + event.args.len()).sum();
        drop(state);
        self.0.more.notify_waiters();
        let listener = Listener { shared: Arc::clone(&self.0), number };
        unfold(listener, |listener| async move {
            let event = listener.next().await?;
            Some((event, listener))
        })
    }
}

struct Listener {
    shared: Arc<Shared>,
    number: u64,
}

impl Listener {
    async fn next(&self) -> Option<wire::Event> {
        loop {
            let more = self.shared.more.notified();
            tokio::pin!(more);
            // Before the look, so that what comes after it wakes.
            more.as_mut().enable();
            {
                let mut state = self.shared.state();
                if state.stream != self.number {
                    // What woke this one may have been for the stream that took its place.
                    self.shared.more.notify_one();
                    return None;
                }
                if let Some(event) = state.queue.pop_front() {
                    state.bytes -= event.name.len() + event.args.len();
                    return Some(event);
                }
            }
            more.await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if state.stream == self.number {
            state.listening = false;
            state.queue = VecDeque::new();
            state.bytes = 0;
        }
    }
}

impl Shared {
    /// No code that holds the lock leaves the state half changed, so a panic elsewhere does not matter.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;

    fn publisher() -> Publisher {
        let publisher = Publisher::default();
        publisher.declare("a");
        publisher.declare("b");
        publisher
    }

    fn told(event: &wire::Event) -> String {
        format!("{}{}", event.name, String::from_utf8_lossy(&event.args))
    }

    #[tokio::test]
    async fn nobody_listens_the_last_of_each_name_waits_in_its_order() {
        let publisher = publisher();
        for (name, number) in [("a", 1), ("a", 2), ("b", 3), ("a", 4)] {
            publisher.publish(name, &number).expect("taken");
        }
        let mut stream = pin!(publisher.listen());
        publisher.publish("b", &5).expect("taken");
        let got: Vec<_> = stream.by_ref().take(3).map(|event| told(&event)).collect().await;
        assert_eq!(got, ["b3", "a4", "b5"]);
        assert!(stream.next().now_or_never().is_none(), "and waits");
    }

    #[tokio::test]
    async fn a_new_stream_ends_the_old_one() {
        let publisher = publisher();
        let mut old = pin!(publisher.listen());
        let mut new = pin!(publisher.listen());
        assert!(old.next().await.is_none());
        publisher.publish("a", &1).expect("taken");
        assert_eq!(new.next().await.map(|event| told(&event)).as_deref(), Some("a1"));
    }

    #[tokio::test]
    async fn what_is_not_taken_is_bounded_and_told_to_whoever_publishes() {
        let publisher = publisher();
        assert_eq!(publisher.publish("c", &1), Err(Unpublished::Unknown));
        assert_eq!(publisher.publish("a", &"x".repeat(EVENT_MAX)), Err(Unpublished::TooLong));
        let stream = Box::pin(publisher.listen());
        let taken = (0..10_000).filter(|n| publisher.publish("a", n).is_ok()).count();
        assert_eq!(taken, EVENTS_QUEUE);
        assert_eq!(publisher.publish("a", &1), Err(Unpublished::Full));
        drop(stream);
        let _stream = publisher.listen();
        let large = "x".repeat(EVENT_MAX - 2);
        let taken = (0..10_000).take_while(|_| publisher.publish("b", &large).is_ok()).count();
        assert!((100..130).contains(&taken), "{taken}: the bytes are bounded, too");
    }

    #[tokio::test]
    async fn a_stream_that_is_gone_leaves_nothing_but_the_last_ones() {
        let publisher = publisher();
        let stream = publisher.listen();
        for number in 0..100 {
            publisher.publish("a", &number).expect("taken");
        }
        drop(stream);
        publisher.publish("a", &100).expect("nobody listens");
        let mut stream = pin!(publisher.listen());
        assert_eq!(stream.next().await.map(|event| told(&event)).as_deref(), Some("a100"));
        assert!(stream.next().now_or_never().is_none());
    }
}
