//! How a connection begins and how it ends: both are boxed, because a task is as large as the largest thing that it ever
//! waits for, and a connection waits for the next message most of its life.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use super::{
    Connection, Echo, Opened, Shared, Way, channels, frames::Frames, handled::Handled, running::Running,
};
use crate::{
    call::Call,
    dialect::Place,
    session::{self, Session},
    transport::rare::Rare,
};

/// What is done last.
pub(super) type Later = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Connection {
    /// Or what is said to a client for which there is none.
    pub(super) fn open(mut opened: Box<Opened>, shared: Arc<Shared>) -> Result<Box<Self>, Later> {
        let (place, credentials) = match std::mem::replace(&mut opened.way, Way::Refused) {
            Way::Envelopes => (Place { facility: shared.channels.facility.clone(), channels: false }, None),
            Way::Channels(facility, credentials) => (Place { facility, channels: true }, credentials),
            Way::Refused => return Err(Box::pin(channels::refuse(*opened, shared))),
        };
        let mut connection = Box::new(Self::new(*opened, shared, place));
        if let Some(credentials) = credentials {
            connection.ask(Echo::auth(), Call::ChannelAuth(*credentials));
        }
        Ok(connection)
    }

    /// Begins what is left to do when nothing more is said.
    pub(super) fn over(mut self: Box<Self>) -> Later {
        self.asking = None;
        self.calls.clear();
        self.running.clear();
        if self.session.may_be_logging_in() {
            drop(self.shared.backend.abandon(self.client.id));
        }
        Box::pin(self.leave())
    }

    fn new(opened: Opened, shared: Arc<Shared>, place: Place) -> Self {
        let Opened { stream, leftover, shown, client, permit, local, way: _ } = opened;
        let settings = session::Settings {
            timers: shared.timers.session,
            in_flight: shared.limits.in_flight,
            local,
            certificate: shown.certificate.is_some(),
            warns: place.channels,
            publishes: shared.limits.publishes,
        };
        let session = Session::new(settings, client.since);
        tracing::debug!(connection = %client.id, source = %client.source, "WebSocket opened");
        Self {
            frames: Frames::new(stream, leftover, shared.limits.before_login),
            sleep: Rare::new(sleep_until(Instant::from_std(session.deadline()))),
            stop: Rare::new(shared.stop.clone().cancelled_owned()),
            permit: Some(permit),
            session,
            holding: None,
            replaced: None,
            shown,
            asking: None,
            calls: FuturesUnordered::new(),
            running: Running::default(),
            sitting: None,
            handled: Handled::default(),
            finished: VecDeque::new(),
            place,
            echoes: Vec::new(),
            ticket: 0,
            actions: Vec::new(),
            stopping: None,
            close: None,
            client,
            shared,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::serve, *};

    fn size<T>(_: impl FnOnce(Box<Opened>, Arc<Shared>) -> T) -> usize {
        size_of::<T>()
    }

    #[test]
    fn what_each_idle_connection_has_of_its_own_is_small() {
        let (task, known) = (size(serve), size_of::<Connection>());
        assert!(task <= 1 << 10, "its task: {task} bytes");
        assert!(known <= 2 << 10, "what it knows: {known} bytes");
    }
}
