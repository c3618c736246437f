//! What a subsystem publishes, into the hub: the names that it may, at the speed that it may.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use doorward_launch::log::Sparingly;
use doorward_proto::subsystem::v1::{EventsRequest, subsystem_client::SubsystemClient};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{Streaming, transport::Channel};

use super::{
    Description, Subsystem,
    calling::json,
    speed::Speed,
    tries::{STOOD, Tries},
};
use crate::{
    backend::Failure,
    call::EventName,
    hub::{ARGS_MAX, Hub, Publisher},
};

/// The largest message that is read: a larger one ends the stream.
const MESSAGE_MAX: usize = 2 * ARGS_MAX;
/// The most between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What is remembered of the streams of one subsystem, whatever connection they were on: a new one earns nothing.
#[derive(Debug)]
pub(super) struct Streams {
    tries: Tries,
    speed: Speed,
    complaints: Sparingly,
}

impl Streams {
    /// There was none yet.
    pub(super) fn new() -> Self {
        let speed = Speed::new(Instant::now().into_std());
        Self { tries: Tries::new(PAUSE_MAX), speed, complaints: Sparingly::default() }
    }
}

/// Publishes what comes. The events are known as long as this runs.
pub(super) async fn run(
    subsystem: &Arc<Subsystem>,
    channel: Channel,
    description: &Description,
    hub: &Hub,
    streams: &mut Streams,
) -> Infallible {
    let mut publishers = Vec::new();
    for name in description.events() {
        match hub.register(name.clone()) {
            Ok(publisher) => publishers.push((name.clone(), publisher)),
            Err(error) => {
                tracing::error!(subsystem = ?subsystem.name, event = ?name, %error, "an event is not published")
            }
        }
    }
    if publishers.is_empty() {
        return pending().await;
    }
    let mut client = SubsystemClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
    loop {
        let failure = match client.events(EventsRequest {}).await {
            Ok(stream) => {
                let began = Instant::now();
                let failure = follow(subsystem, stream.into_inner(), &publishers, streams).await;
                if began.elapsed() >= STOOD {
                    streams.tries.stood();
                }
                failure
            }
            Err(status) => status.into(),
        };
        if streams.tries.says(&failure.detail, Instant::now().into_std()) {
            tracing::warn!(subsystem = ?subsystem.name, error = failure.detail, "a subsystem tells no events");
        }
        sleep(streams.tries.pause()).await;
    }
}

async fn follow(
    subsystem: &Arc<Subsystem>,
    mut stream: Streaming<doorward_proto::subsystem::v1::Event>,
    publishers: &[(EventName, Publisher)],
    Streams { speed, complaints, .. }: &mut Streams,
) -> Failure {
    loop {
        let event = match stream.message().await {
            Ok(Some(event)) => event,
            Ok(None) => return Failure::contract("the events ended"),
            Err(status) => return status.into(),
        };
        // What is not read meanwhile holds the subsystem up, not the readers.
        let now = Instant::now().into_std();
        let due = speed.take(event.name.len() + event.args.len(), now);
        if due > now {
            sleep_until(due.into()).await;
        }
        let publisher = publishers.iter().find(|(name, _)| name.as_str() == event.name);
        let published = match publisher {
            None => Err("an event that it may not publish, or has not described".to_owned()),
            Some((_, publisher)) => json(event.args, ARGS_MAX)
                .map_err(|failure| failure.detail)
                .and_then(|args| publisher.publish(args).map_err(|error| error.to_string())),
        };
        if let Err(error) = published
            && let Some(unsaid) = complaints.now()
        {
            tracing::warn!(subsystem = ?subsystem.name, error, unsaid, "an event is not published");
        }
    }
}
