//! What waits for a connection.

use std::sync::Arc;

use super::{Delivery, Event};
use crate::call::Address;

/// What each message costs beside its text, so that many small ones weigh something.
const EACH: usize = 64;

/// One of the things that a connection takes from its inbox.
#[derive(Debug, Clone)]
pub enum Sent {
    /// An event.
    Event(Arc<Event>),
    /// What was said on a channel.
    Delivery(Arc<Delivery>),
    /// Something about channels.
    Notice(Notice),
    /// Nothing more will be said there.
    Lost(Arc<Address>),
}

/// What is told to everybody who is subscribed to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Messages may be missed from now on.
    Interrupted,
    /// That is over.
    Resumed,
    /// Who may hear what has changed.
    LookAgain,
}

impl Sent {
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Event(event) => event.weight(),
            Self::Delivery(delivery) => delivery.weight(),
            Self::Notice(_) | Self::Lost(_) => weigh(0),
        }
    }
}

pub(super) fn weigh(text: usize) -> usize {
    text + EACH
}
