//! What carries messages: within this gateway, or to others as well.

mod memory;
mod redis;

use std::future::Future;

use bytes::Bytes;
use futures_util::future::{Either, ready};

pub use self::{
    memory::Memory,
    redis::{Redis, Running},
};
pub use crate::redis::NotSure;
use crate::{call::Address, hub::Hub, redis::Settings};

/// Clones are the same engine. Nothing here waits but the futures.
#[derive(Debug, Clone)]
pub enum Engine {
    /// One gateway, and nobody else.
    Memory(Memory),
    /// Several gateways, and whoever else is at that Redis.
    Redis(Redis),
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

impl Engine {
    /// Within this gateway.
    pub fn memory(hub: Hub) -> Self {
        Self::Memory(Memory::new(hub))
    }

    /// By a Redis, under this prefix. It tells the hub itself of interruptions, in turn with the messages. Does nothing
    /// until the second is kept.
    pub fn redis(prefix: &str, settings: Settings, hub: Hub) -> (Self, Running) {
        let (redis, running) = Redis::new(prefix, settings, hub);
        (Self::Redis(redis), running)
    }

    /// Passes a message on: JSON. Calls keep their order; the future tells when the engine has it.
    pub fn publish(
        &self,
        to: &Address,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), EngineError>> + Send + 'static + use<> {
        match self {
            Self::Memory(memory) => Either::Left(ready(memory.publish(to, &payload))),
            Self::Redis(redis) => Either::Right(redis.publish(to, payload)),
        }
    }

    /// Somebody here listens at an address: called for every subscription, after the hub knows of it. Resolves when
    /// messages are sure to arrive.
    pub fn enter(&self, at: &Address) -> impl Future<Output = Result<(), NotSure>> + Send + 'static + use<> {
        match self {
            Self::Memory(_) => Either::Left(ready(Ok(()))),
            Self::Redis(redis) => Either::Right(redis.enter(at)),
        }
    }

    /// The last who listened at an address here has left, as it seemed: whether somebody has come since then
    /// [`Hub::is_heard`] tells, and must be asked so that no [`Engine::enter`] comes between the question and what
    /// follows from it.
    pub fn leave(&self, at: &Address) {
        match self {
            Self::Memory(_) => {}
            Self::Redis(redis) => redis.leave(at),
        }
    }
}
