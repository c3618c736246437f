//! What one connection is subscribed to, with the engine that has to know of it.

use std::ops::{Deref, DerefMut};

use super::{Engine, NotSure};
use crate::{
    call::Address,
    hub::{Hub, Inbox, Owner, Refused},
};

/// Subscriptions to events and channels, and the messages that wait. They end when it is dropped.
#[derive(Debug)]
pub struct Seat {
    inbox: Inbox,
    engine: Engine,
}

impl Seat {
    /// Without subscriptions. `channels` is the most of them to channels; whose they are counts for the bounds of
    /// all connections together.
    pub fn new(hub: &Hub, engine: Engine, owner: Owner, channels: usize) -> Self {
        Self { inbox: hub.inbox_of(owner, channels), engine }
    }

    /// Subscribes; the future resolves when messages are sure to arrive.
    ///
    /// # Errors
    /// At a bound.
    pub fn enter(
        &mut self,
        at: &Address,
    ) -> Result<impl Future<Output = Result<(), NotSure>> + Send + 'static + use<>, Refused> {
        self.inbox.enter(at)?;
        Ok(self.engine.enter(at))
    }

    /// The same for the channel of whoever has logged in, whatever the bounds.
    pub fn enter_own(
        &mut self,
        at: &Address,
    ) -> impl Future<Output = Result<(), NotSure>> + Send + 'static + use<> {
        self.inbox.enter_own(at);
        self.engine.enter(at)
    }

    /// Whose subscriptions these are from now on. Those that do not fit beside others of that owner end; which.
    pub fn belongs_to(&mut self, owner: Owner) -> Vec<Address> {
        let over = self.inbox.belongs_to(owner);
        for (at, last) in &over {
            if *last {
                self.engine.leave(at);
            }
        }
        over.into_iter().map(|(at, _)| at).collect()
    }

    /// Ends a subscription, if there is one.
    pub fn leave(&mut self, at: &Address) {
        if self.inbox.leave(at) {
            self.engine.leave(at);
        }
    }

    /// Ends the subscriptions to channels of which this is not true; which.
    pub fn keep_channels(&mut self, keeps: impl Fn(&Address) -> bool) -> Vec<Address> {
        let over: Vec<_> = self.inbox.channels().filter(|at| !keeps(at)).cloned().collect();
        for at in &over {
            self.leave(at);
        }
        over
    }
}

impl Deref for Seat {
    type Target = Inbox;

    fn deref(&self) -> &Inbox {
        &self.inbox
    }
}

impl DerefMut for Seat {
    fn deref_mut(&mut self) -> &mut Inbox {
        &mut self.inbox
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.keep_channels(|_| false);
    }
}
