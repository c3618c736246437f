//! The engine of several gateways with one Redis (or Valkey): keys as ws4redis has them, so that publishers and
//! subscribers of its kind and ours hear one another.

use std::{future::Future, sync::Arc};

use bytes::Bytes;

use super::{EngineError, NotSure};
use crate::{
    call::Address,
    hub::{Hub, Notice, PAYLOAD_MAX},
    redis::{Handle, Listener, Queue, Settings, Unpublished},
};

/// Clones are the same.
#[derive(Debug, Clone)]
pub struct Redis {
    handle: Handle<Address>,
    prefix: Arc<str>,
    hub: Hub,
}

/// What is to be kept running for a [`Redis`].
#[derive(Debug)]
pub struct Running {
    handle: Handle<Address>,
    queue: Queue,
    settings: Settings,
    hub: Hub,
}

impl Running {
    /// Never ends.
    pub async fn keep(self) {
        self.handle.keep(self.queue, self.settings, ToHub(self.hub)).await;
    }
}

struct ToHub(Hub);

impl Listener<Address> for ToHub {
    fn message(&self, at: &Address, payload: Bytes) {
        // Whoever publishes beside the gateways can say anything; what is too large as a string is dropped.
        if let Err(error) = self.0.deliver(at, &payload) {
            tracing::debug!(channel = at.channel.as_str(), %error, "a message of Redis's was dropped");
        }
    }

    fn lost(&self, at: &Address) {
        self.0.lost(at);
    }

    fn interrupted(&self, interrupted: bool) {
        self.0.tell(if interrupted { Notice::Interrupted } else { Notice::Resumed });
    }
}

impl Redis {
    /// Of the keys that begin with this prefix.
    pub(super) fn new(prefix: &str, mut settings: Settings, hub: Hub) -> (Self, Running) {
        settings.payload_max = PAYLOAD_MAX;
        // Until it is reached.
        hub.tell(Notice::Interrupted);
        let (handle, queue) = Handle::new();
        let running = Running { handle: handle.clone(), queue, settings, hub: hub.clone() };
        (Self { handle, prefix: prefix.into(), hub }, running)
    }

    pub(super) fn publish(
        &self,
        to: &Address,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), EngineError>> + Send + 'static + use<> {
        let fits = payload.len() <= PAYLOAD_MAX;
        let published = fits.then(|| self.handle.publish(key(&self.prefix, to), payload));
        async move {
            match published {
                None => Err(EngineError::TooLarge),
                Some(published) => published.await.map_err(|error| match error {
                    Unpublished::Down | Unpublished::Full | Unpublished::Refused => EngineError::Unavailable,
                }),
            }
        }
    }

    pub(super) fn enter(
        &self,
        at: &Address,
    ) -> impl Future<Output = Result<(), NotSure>> + Send + 'static + use<> {
        self.handle.enter(&key(&self.prefix, at), at.clone())
    }

    pub(super) fn leave(&self, at: &Address) {
        self.handle.leave(&key(&self.prefix, at), || self.hub.is_heard(at));
    }
}

/// `{prefix}:{channel}:{pk}:{facility}`, or without the pk. No part can hold a `:`, so that none reaches into another.
fn key(prefix: &str, at: &Address) -> String {
    let (channel, facility) = (at.channel.as_str(), at.facility.as_str());
    match &at.pk {
        Some(pk) => format!("{prefix}:{channel}:{}:{facility}", pk.as_str()),
        None => format!("{prefix}:{channel}:{facility}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{ChannelName, Facility, Pk};

    #[test]
    fn keys_are_those_of_ws4redis() {
        let at = |channel: &str, pk: Option<&str>, facility: &str| Address {
            channel: ChannelName::parse(channel).expect("a name"),
            pk: pk.map(|pk| Pk::parse(pk).expect("a pk")),
            facility: Facility::parse(facility).expect("a name"),
        };
        for (address, expected) in [
            (at("user", Some("alice"), "events"), "ws:user:alice:events"),
            (at("group", Some("3"), "terminals"), "ws:group:3:terminals"),
            (at("group", None, "events"), "ws:group:events"),
            (at("user", Some("a b\"*?[x]"), "events"), "ws:user:a b\"*?[x]:events"),
        ] {
            assert_eq!(key("ws", &address), expected);
        }
    }
}
