//! The engine of a gateway that is alone: what is published here is delivered here, at once.

use super::EngineError;
use crate::{
    call::Address,
    hub::{Hub, HubError},
};

/// Clones are the same.
#[derive(Debug, Clone)]
pub struct Memory {
    hub: Hub,
}

impl Memory {
    pub(super) fn new(hub: Hub) -> Self {
        Self { hub }
    }

    pub(super) fn publish(&self, to: &Address, payload: &[u8]) -> Result<(), EngineError> {
        self.hub.deliver(to, payload).map_err(|error| match error {
            HubError::TooLarge | HubError::Taken | HubError::TooMany => EngineError::TooLarge,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;

    use super::super::{Engine, EngineError};
    use crate::{
        call::{Address, ChannelName, Facility},
        channels::Seat,
        hub::{Hub, Owner, PAYLOAD_MAX, Sent},
    };

    #[test]
    fn what_is_published_is_delivered_at_once_and_in_order() {
        let hub = Hub::new();
        let engine = Engine::memory(hub.clone());
        let at = Address {
            channel: ChannelName::parse("a").expect("a name"),
            pk: None,
            facility: Facility::default(),
        };
        let mut seat = Seat::new(&hub, engine.clone(), Owner::Identity("user/1".into()), 8);
        let entered = seat.enter(&at).expect("room");
        assert_eq!(entered.now_or_never(), Some(Ok(())));
        for payload in ["1", "2"] {
            let published = engine.publish(&at, Bytes::from_static(payload.as_bytes()));
            assert_eq!(published.now_or_never(), Some(Ok(())));
        }
        let large = engine.publish(&at, vec![b' '; PAYLOAD_MAX + 1].into());
        assert_eq!(large.now_or_never(), Some(Err(EngineError::TooLarge)));
        let taken = seat.take(8).expect("no overflow");
        let heard = taken.into_iter().map(|sent| match sent {
            Sent::Delivery(delivery) => delivery.message.get().to_owned(),
            other => panic!("{other:?}"),
        });
        assert_eq!(heard.collect::<Vec<_>>(), ["1", "2"]);
        assert!(!hub.is_interrupted());
        assert!(hub.is_heard(&at));
        drop(seat);
        assert!(!hub.is_heard(&at));
    }
}
