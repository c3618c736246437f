//! What carries messages: within this gateway, or to others as well.

mod memory;

use std::future::{Ready, ready};

use bytes::Bytes;
use tokio::sync::watch;

pub use self::memory::Memory;
use crate::{call::Address, hub::Hub};

/// Clones are the same engine. Nothing here waits but the futures.
#[derive(Debug, Clone)]
pub enum Engine {
    /// One gateway, and nobody else.
    Memory(Memory),
}

/// Why a message went nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// What carries messages cannot be reached, or does not keep up.
    #[error("messages cannot be passed on now")]
    Unavailable,
    /// Over [`crate::hub::PAYLOAD_MAX`].
    #[error("the message is too large")]
    TooLarge,
}

/// Messages may be missed from now on: the connection is told, and told of the end of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("delivery is interrupted")]
pub struct Interrupted;

impl Engine {
    /// Within this gateway.
    pub fn memory(hub: Hub) -> Self {
        Self::Memory(Memory::new(hub))
    }

    /// Passes a message on: JSON. Calls keep their order; the future tells when the engine has it.
    pub fn publish(
        &self,
        to: &Address,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), EngineError>> + Send + 'static + use<> {
        match self {
            Self::Memory(memory) => ready(memory.publish(to, &payload)),
        }
    }

    /// Somebody here listens at an address: called for every subscription, after the hub knows of it. Resolves when
    /// messages are sure to arrive.
    pub fn enter(
        &self,
        _at: &Address,
    ) -> impl Future<Output = Result<(), Interrupted>> + Send + 'static + use<> {
        match self {
            Self::Memory(_) => now(Ok(())),
        }
    }

    /// The last who listened at an address here has left, as it seemed: whether somebody has come since then
    /// [`Hub::is_heard`] tells, and must be asked so that no [`Engine::enter`] comes between the question and what
    /// follows from it.
    pub fn leave(&self, _at: &Address) {
        match self {
            Self::Memory(_) => {}
        }
    }

    /// Whether messages may be missed now.
    pub fn interruptions(&self) -> watch::Receiver<bool> {
        match self {
            Self::Memory(memory) => memory.interruptions(),
        }
    }
}

fn now<T>(result: T) -> Ready<T> {
    ready(result)
}
