//! One name: who publishes it, its last event, and whose inboxes it goes to.

use std::sync::{Arc, Mutex};

use super::{Event, Sent, inbox::Queue, lock};
use crate::call::EventName;

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: EventName,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    offered: bool,
    last: Option<Arc<Event>>,
    queues: Vec<Arc<Queue>>,
}

impl Topic {
    pub(super) fn new(name: EventName) -> Self {
        Self { name, state: Mutex::default() }
    }

    /// Somebody publishes it from now on. False: somebody does already.
    pub(super) fn offer(&self) -> bool {
        !std::mem::replace(&mut lock(&self.state).offered, true)
    }

    /// Nobody does any more; what was said last may be wrong by the time that somebody does again.
    pub(super) fn withdraw(&self) {
        let mut state = lock(&self.state);
        state.offered = false;
        state.last = None;
    }

    pub(super) fn is_offered(&self) -> bool {
        lock(&self.state).offered
    }

    pub(super) fn is_void(&self) -> bool {
        let state = lock(&self.state);
        !state.offered && state.queues.is_empty()
    }

    pub(super) fn publish(&self, event: Arc<Event>) {
        let weight = event.weight();
        let mut state = lock(&self.state);
        for queue in &state.queues {
            queue.push(Sent::Event(Arc::clone(&event)), weight);
        }
        state.last = Some(event);
    }

    /// The last event first, then every later one. False: nobody publishes it.
    pub(super) fn enter(&self, queue: &Arc<Queue>) -> bool {
        let mut state = lock(&self.state);
        if !state.offered {
            return false;
        }
        if let Some(last) = &state.last {
            queue.push(Sent::Event(Arc::clone(last)), last.weight());
        }
        state.queues.push(Arc::clone(queue));
        true
    }

    pub(super) fn leave(&self, queue: &Arc<Queue>) {
        let mut state = lock(&self.state);
        if let Some(place) = state.queues.iter().position(|entered| Arc::ptr_eq(entered, queue)) {
            state.queues.swap_remove(place);
        }
    }
}
